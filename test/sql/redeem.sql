-- redeem: one function for all codes, and what slows those who guess them
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 320001;
ALTER SEQUENCE credits.grants_id_seq RESTART 320001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 320001;
ALTER SEQUENCE credits.events_id_seq RESTART 320001;
ALTER SEQUENCE credits.codes_id_seq RESTART 320001;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('redeem:1', 100);
SELECT kind FROM credits_open_account('redeem:2');
SELECT kind FROM credits_open_account('redeem:3');
SELECT credits_create_promo_code('redeem', 10);
SET ROLE regress_credits_app;
SELECT code AS gift FROM credits_create_gift('redeem:1', 30) \gset

-- bad arguments, of both forms
SELECT credits_redeem(NULL, 'redeem');
\echo :SQLSTATE
SELECT credits_redeem('', 'redeem');
\echo :SQLSTATE
SELECT credits_redeem('redeem:1', NULL);
\echo :SQLSTATE
SELECT credits_redeem('redeem:1', '');
\echo :SQLSTATE
SELECT credits_redeem('redeem:1', E' \n\r\t\f\x0b ');
\echo :SQLSTATE
SELECT credits_redeem('redeem:1', repeat('x', 65));
\echo :SQLSTATE
SELECT credits_redeem('redeem:1', 'redeem', '');
\echo :SQLSTATE
SELECT credits_redeem('redeem:1', 'redeem', repeat('x', 256));
\echo :SQLSTATE
SELECT credits_redeem('redeem:1', 'redeem', metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
SELECT credits_try_redeem(NULL, 'redeem');
\echo :SQLSTATE
SELECT credits_try_redeem('redeem:1', NULL);
\echo :SQLSTATE
SELECT credits_try_redeem('redeem:1', ' ');
\echo :SQLSTATE
SELECT credits_try_redeem('redeem:1', repeat('x', 65));
\echo :SQLSTATE
SELECT credits_try_redeem('redeem:1', 'redeem', '');
\echo :SQLSTATE
-- what cannot be a code is none
SELECT credits_redeem('redeem:1', 'größe');
\echo :SQLSTATE
SELECT credits_redeem('redeem:1', repeat('z', 64));
\echo :SQLSTATE
SELECT credits_redeem('redeem:1', E'\'; DROP TABLE credits.codes; --');
\echo :SQLSTATE
SELECT credits_redeem('redeem:1', 're deem');
\echo :SQLSTATE
SELECT kind, amount, balance FROM credits_redeem('redeem:1', '                                                                      redeem                                    ');

-- try: a refusal is a row, and an event that does not have the code
SELECT ok, code, message, (receipt).* FROM credits_try_redeem('redeem:2', 'Redeem', 'k1', '{"a": 1}');
SELECT ok, code, message, (receipt).amount, (receipt).replayed FROM credits_try_redeem('redeem:2', 'redeem', 'k1');
SELECT * FROM credits_try_redeem('redeem:2', 'redeem');
SELECT * FROM credits_try_redeem('redeem:2', 'guess');
SELECT * FROM credits_try_redeem('redeem:1', :'gift');
SELECT * FROM credits_try_redeem('redeem:nobody', 'guess');
SELECT * FROM credits_try_redeem('redeem:nobody', :'gift');
SELECT * FROM credits_try_redeem('redeem:2', 'guess', 'k1');
SELECT ok, (receipt).kind, (receipt).amount, (receipt).balance FROM credits_try_redeem('redeem:2', :'gift', 'k2');
SELECT * FROM credits_try_redeem('redeem:3', :'gift');
-- a refused key is free
SELECT ok FROM credits_try_redeem('redeem:3', 'guess', 'k1');
SELECT ok, (receipt).replayed FROM credits_try_redeem('redeem:3', 'redeem', 'k1');
RESET ROLE;
SELECT account_id, transaction_id, created_at, kind, detail FROM credits.events WHERE id BETWEEN 320001 AND 329999 ORDER BY id;

-- failures add up in a window; at the limit an event says so, once
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-02 00:00:00+00';
SELECT kind FROM credits_open_account('redeem:guesser');
SELECT count(*), count(*) FILTER (WHERE (a).ok) AS ok, string_agg(DISTINCT (a).code, ' ') AS codes
FROM (SELECT credits_try_redeem('redeem:guesser', 'guess ' || i) AS a FROM generate_series(1, 9) AS i) AS s;
SELECT kind, count(*) AS events, sum((detail->>'count')::int) AS refusals FROM credits.events WHERE account_id = 320004 GROUP BY kind;
-- an error keeps nothing, so it does not count
SELECT credits_redeem('redeem:guesser', 'guess 10');
\echo :SQLSTATE
SELECT * FROM credits_try_redeem('redeem:guesser', 'guess 10');
SELECT account_id, created_at, kind, detail FROM credits.events WHERE account_id = 320004 ORDER BY id DESC LIMIT 2;
-- from here on, neither form looks at the code, be it good
SELECT * FROM credits_try_redeem('redeem:guesser', 'guess 11');
SELECT * FROM credits_try_redeem('redeem:guesser', 'redeem');
SELECT credits_redeem('redeem:guesser', 'redeem');
\echo :SQLSTATE
SELECT credits_redeem('redeem:guesser', 'guess 12');
\echo :SQLSTATE
SELECT * FROM credits_try_redeem('redeem:guesser', :'gift');
SELECT kind, count(*) AS events, sum((detail->>'count')::int) AS refusals FROM credits.events WHERE account_id = 320004 GROUP BY kind ORDER BY kind;
-- others can redeem, and the account does everything else
SELECT ok, code FROM credits_try_redeem('redeem:3', 'guess');
SELECT balance FROM credits_allocate('redeem:guesser', 1);
-- the window moves on: the failures leave it together here
SET credits.test_clock = '2030-01-02 00:59:59.999999+00';
SELECT ok, code FROM credits_try_redeem('redeem:guesser', 'redeem');
SET credits.test_clock = '2030-01-02 01:00:00+00';
SELECT ok, code, (receipt).amount FROM credits_try_redeem('redeem:guesser', 'redeem', 'good');
-- all in one statement: no more tries than one after the other
SELECT (a).code, count(*) FROM (SELECT credits_try_redeem('redeem:guesser', 'guess ' || i) AS a FROM generate_series(1, 50) AS i) AS s
GROUP BY (a).code ORDER BY 1;
SELECT kind, count(*) AS events, sum((detail->>'count')::int) AS refusals FROM credits.events WHERE account_id = 320004 GROUP BY kind ORDER BY kind;
-- a key that is known is answered all the same
SELECT ok, (receipt).amount, (receipt).replayed FROM credits_try_redeem('redeem:guesser', 'redeem', 'good');
SELECT amount, replayed FROM credits_redeem('redeem:guesser', 'redeem', 'good');
-- the window begins with the first failure, and all leave it together
SELECT kind FROM credits_open_account('redeem:slow');
SET credits.test_clock = '2030-01-02 02:00:00+00';
SELECT count(credits_try_redeem('redeem:slow', 'guess')) FROM generate_series(1, 5);
SET credits.test_clock = '2030-01-02 02:30:00+00';
SELECT count(credits_try_redeem('redeem:slow', 'guess')) FROM generate_series(1, 5);
SELECT ok, code FROM credits_try_redeem('redeem:slow', 'guess');
SET credits.test_clock = '2030-01-02 03:00:00+00';
SELECT (a).code, count(*) FROM (SELECT credits_try_redeem('redeem:slow', 'guess') AS a FROM generate_series(1, 10)) AS s GROUP BY (a).code ORDER BY 1;
SELECT kind, count(*) AS events, sum((detail->>'count')::int) AS refusals FROM credits.events WHERE account_id = 320005 GROUP BY kind ORDER BY kind;
SET credits.test_clock = '2030-01-02 03:30:00+00';
SELECT (a).code, count(*) FROM (SELECT credits_try_redeem('redeem:slow', 'guess') AS a FROM generate_series(1, 10)) AS s GROUP BY (a).code ORDER BY 1;
SELECT kind, count(*) AS events, sum((detail->>'count')::int) AS refusals FROM credits.events WHERE account_id = 320005 GROUP BY kind ORDER BY kind;
-- a failure that is rolled back has not been
SELECT kind FROM credits_open_account('redeem:undo');
BEGIN;
SELECT count(credits_try_redeem('redeem:undo', 'guess')) FROM generate_series(1, 20);
ROLLBACK;
SELECT ok FROM credits_try_redeem('redeem:undo', 'redeem');

-- the settings
RESET ROLE;
SET credits.redeem_failures = 2;
SELECT ok, code FROM credits_try_redeem('redeem:undo', 'guess');
SELECT ok, code FROM credits_try_redeem('redeem:undo', 'guess');
SELECT ok, code FROM credits_try_redeem('redeem:undo', 'guess');
SET credits.refusal_window = '0';
SELECT ok, code FROM credits_try_redeem('redeem:undo', 'guess');
SET credits.refusal_window = '1 day';
SELECT ok, code FROM credits_try_redeem('redeem:undo', 'guess');
SET credits.redeem_failures = 0;
SELECT ok, code FROM credits_try_redeem('redeem:undo', 'guess');
SELECT kind, count(*) AS events, sum((detail->>'count')::int) AS refusals FROM credits.events WHERE account_id = 320006 GROUP BY kind ORDER BY kind;
RESET credits.redeem_failures;
RESET credits.refusal_window;
SET credits.redeem_failures = -1;
\echo :SQLSTATE
SET credits.refusal_window = 'a while';
\echo :SQLSTATE
SET ROLE regress_credits_admin;
SET credits.redeem_failures = 1000;
\echo :SQLSTATE
SET credits.refusal_window = '1 second';
\echo :SQLSTATE
RESET ROLE;

SELECT a.name, v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 320001 AND 320010;

-- whoever makes codes redeemable again is found out
SET credits.referral_credits = 5;
SELECT count(credits_open_account('redeem:f' || n, 50)) FROM generate_series(1, 2) AS n;
SELECT credits_create_promo_code('redeem-forged', 10, max_uses => 3, per_account => 2) AS code \gset
SELECT code AS gift FROM credits_create_gift('redeem:f1', 30) \gset
SELECT code AS open FROM credits_create_gift('redeem:f1', 7) \gset
SELECT credits_referral_code('redeem:f1') AS referral \gset
SELECT kind, amount FROM credits_redeem('redeem:f2', :'code');
SELECT kind, amount FROM credits_redeem('redeem:f2', :'gift');
SELECT kind, amount FROM credits_redeem('redeem:f2', :'referral');
SELECT max(r.transaction_id) AS id FROM credits.redemptions AS r JOIN credits.accounts AS a ON a.id = r.account_id WHERE a.name = 'redeem:f2' \gset
CREATE TEMP VIEW found AS
SELECT account, problem, regexp_replace(detail, '[0-9]{4,}', 'N') AS detail FROM credits_verify()
WHERE account ~ '^redeem:f' OR account IS NULL ORDER BY 1, 2, 3;
SELECT * FROM found;
\set forge 'BEGIN; ALTER TABLE credits.codes DISABLE TRIGGER ALL; ALTER TABLE credits.redemptions DISABLE TRIGGER ALL;'
\set found 'SELECT * FROM found; ROLLBACK;'
:forge UPDATE credits.codes SET uses = 0 WHERE code = :'code'; :found
:forge UPDATE credits.codes SET kind = 'coupon' WHERE code = :'code'; :found
:forge UPDATE credits.codes SET account_id = 320001 WHERE code = :'open'; :found
:forge UPDATE credits.codes SET transaction_id = 1 WHERE code = :'open'; :found
:forge DELETE FROM credits.codes WHERE code IN (:'open', :'referral'); :found
:forge DELETE FROM credits.redemptions WHERE transaction_id = :id; :found
:forge UPDATE credits.redemptions SET kind = 'gift' WHERE transaction_id = :id; :found
:forge UPDATE credits.redemptions SET account_id = 320001 WHERE transaction_id = :id; :found
:forge INSERT INTO credits.redemptions SELECT 1, code_id, account_id, created_at, 'promotional' FROM credits.redemptions WHERE transaction_id = :id; :found
DROP VIEW found;
RESET credits.referral_credits;

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
