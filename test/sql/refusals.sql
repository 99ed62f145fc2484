-- refusals: the events that count them
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 68001;
ALTER SEQUENCE credits.grants_id_seq RESTART 68001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 68001;
ALTER SEQUENCE credits.events_id_seq RESTART 68001;
CREATE VIEW refusals AS
SELECT id, account_id, to_char(created_at, 'HH24:MI') AS first, kind, detail
FROM credits.events WHERE id BETWEEN 68001 AND 68999;
GRANT SELECT ON refusals TO regress_credits_app;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('rf:1', 10);
SELECT kind, balance FROM credits_open_account('rf:2', 10);
SET ROLE regress_credits_app;

-- the first one writes the event, the others count in it
SELECT ok, code FROM credits_try_deduct('rf:1', 11, operation => 'chat', reference => 'r:1');
SELECT id, account_id, first, detail FROM refusals;
RESET ROLE;
SET credits.test_clock = '2030-01-01 00:30:00+00';
SET ROLE regress_credits_app;
SELECT ok, code FROM credits_try_deduct('rf:1', 12, reference => 'r:2');
SELECT id, account_id, first, detail FROM refusals;
-- in one statement, and whatever the reason
SELECT (a).code, count(*) FROM (SELECT credits_try_deduct('rf:1', 100 + i, NULL, 'chat') AS a FROM generate_series(1, 100) AS i) AS s GROUP BY 1;
SELECT ok, code FROM credits_try_charge('rf:1', 'nothing', 1);
SELECT id, detail FROM refusals;
-- each kind and each account has its own
SELECT ok, code FROM credits_try_hold('rf:1', 11);
SELECT ok, code FROM credits_try_deduct('rf:2', 11);
SELECT id, account_id, kind, detail->>'count' AS count FROM refusals ORDER BY id;
-- what succeeds changes nothing
SELECT ok FROM credits_try_deduct('rf:1', 1);
-- a refusal that is rolled back has not been
BEGIN;
SELECT ok, code FROM credits_try_deduct('rf:1', 11);
SAVEPOINT s;
SELECT ok, code FROM credits_try_deduct('rf:1', 11);
SELECT detail->>'count' AS count FROM refusals WHERE id = 68001;
ROLLBACK TO s;
SELECT detail->>'count' AS count FROM refusals WHERE id = 68001;
ROLLBACK;
SELECT detail->>'count' AS count FROM refusals WHERE id = 68001;
-- the window ends an hour after the first
RESET ROLE;
SET credits.test_clock = '2030-01-01 00:59:59.999999+00';
SET ROLE regress_credits_app;
SELECT ok, code FROM credits_try_deduct('rf:1', 11);
RESET ROLE;
SET credits.test_clock = '2030-01-01 01:00:00+00';
SET ROLE regress_credits_app;
SELECT ok, code FROM credits_try_deduct('rf:1', 11);
SELECT id, account_id, first, kind, detail->>'count' AS count FROM refusals ORDER BY id;

-- no account, nothing to count for
SELECT ok, code FROM credits_try_deduct('rf:none', 1);
SELECT ok, code FROM credits_try_deduct('rf:none', 1);
SELECT account_id, kind, detail FROM refusals WHERE account_id IS NULL ORDER BY id;

-- without a window, each is one
RESET ROLE;
SET credits.refusal_window = '0';
SELECT ok, code FROM credits_try_deduct('rf:2', 11);
SELECT ok, code FROM credits_try_deduct('rf:2', 11);
RESET credits.refusal_window;
SELECT first, kind, detail->>'count' AS count FROM refusals WHERE account_id = 68002 ORDER BY id;

-- whatever somebody has made of an event, calls go on
UPDATE credits.events SET detail = '[]' WHERE id = (SELECT max(id) FROM refusals);
SELECT ok, code FROM credits_try_deduct('rf:2', 11);
UPDATE credits.events SET detail = '{"count": 9223372036854775807}' WHERE id = (SELECT max(id) FROM refusals);
SELECT ok, code FROM credits_try_deduct('rf:2', 11);
UPDATE credits.events SET detail = '{"count": 1e100}' WHERE id = (SELECT max(id) FROM refusals);
SELECT ok, code FROM credits_try_deduct('rf:2', 11);
SELECT first, kind, detail->>'count' AS count FROM refusals WHERE account_id = 68002 ORDER BY id;

SELECT a.name, v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 68001 AND 68999;
DROP VIEW refusals;
