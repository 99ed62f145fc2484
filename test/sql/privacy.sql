-- privacy: exporting and erasing persons, and how long things are kept
-- in a database of its own: what others do is none of its business
\set shared :DBNAME
CREATE DATABASE regress_privacy TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_privacy
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set SHOW_CONTEXT never
ALTER SEQUENCE credits.accounts_id_seq RESTART 47001;
ALTER SEQUENCE credits.grants_id_seq RESTART 47001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 47001;
ALTER SEQUENCE credits.events_id_seq RESTART 47001;
ALTER SEQUENCE credits.purchases_id_seq RESTART 47001;
ALTER SEQUENCE credits.subscriptions_id_seq RESTART 47001;
ALTER SEQUENCE credits.contacts_id_seq RESTART 47001;
ALTER SEQUENCE credits.codes_id_seq RESTART 47001;
SET credits.test_clock = '2020-01-01 00:00:00+00';

CREATE TEMP VIEW erasure AS
SELECT e.account_id, e.transaction_id, e.begun_at, e.ended_at, e.done, e.name, length(e.salt) AS salt, e.xid IS NOT NULL AS xid,
	e.last_pass, e.place, e.step, e."position"
FROM credits.erasures AS e WHERE e.account_id >= 47001 ORDER BY e.account_id;
CREATE TEMP VIEW texts AS
SELECT a.name, t.id, t.kind, t.idempotency_key AS key, t.reference, t.reason, t.metadata, t.actor, length(t.salt) AS salt
FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE t.account_id >= 47001 ORDER BY t.id;

-- arguments
CALL credits_erase_person(NULL, 'asked');
\echo :SQLSTATE
CALL credits_erase_person('', 'asked');
\echo :SQLSTATE
CALL credits_erase_person('pv:nobody', NULL);
\echo :SQLSTATE
CALL credits_erase_person('pv:nobody', '');
\echo :SQLSTATE
CALL credits_erase_person('pv:nobody', repeat('x', 1001));
\echo :SQLSTATE
CALL credits_erase_person('pv:nobody', 'asked', NULL);
\echo :SQLSTATE
CALL credits_erase_person('pv:nobody', 'asked', 0);
\echo :SQLSTATE
CALL credits_erase_person('pv:nobody', 'asked');
\echo :SQLSTATE
SELECT * FROM credits_export_person(NULL);
\echo :SQLSTATE
SELECT * FROM credits_export_person('pv:nobody');
\echo :SQLSTATE
SELECT credits_export_person_json('pv:nobody');
\echo :SQLSTATE
BEGIN READ ONLY;
CALL credits_erase_person('pv:nobody', 'asked');
\echo :SQLSTATE
ROLLBACK;

-- somebody, by a batch for each row
SELECT credits_open_account('pv:ann', 100, metadata => '{"of": "ann"}') IS NOT NULL AS ann,
	credits_open_account('pv:bob', 100, metadata => '{"of": "bob"}') IS NOT NULL AS bob,
	credits_open_account('pv:ann9', 100) IS NOT NULL AS ann9;
SET credits.actor = 'ann';
SELECT credits_deduct('pv:ann', 1, 'key ' || n, 'chat', 'reference', '{"text": "of ann"}') IS NOT NULL AS spent FROM generate_series(1, 3) AS n;
SELECT credits_transfer('pv:ann', 'pv:bob', 5, 'key', 'from ann') IS NOT NULL AS given;
SET credits.actor = 'bob';
SELECT credits_transfer('pv:bob', 'pv:ann', 5, 'key', 'from bob') IS NOT NULL AS got;
RESET credits.actor;
SELECT ok FROM credits_try_deduct('pv:ann', 1000, reference => 'too much');
SELECT credits_set_contact('pv:ann', 'email', 'ann@example.com', true), credits_set_preference('pv:ann', 'low_balance', 'sms', true),
	credits_set_quiet_hours('pv:ann', '22:00', '07:00', 'Europe/Vienna');
SELECT credits_unsubscribe_token('pv:ann', 'grant_expiring') AS token \gset
SELECT credits_create_gift('pv:ann', 2, message => 'love, ann') IS NOT NULL AS gift;
SET ROLE regress_credits_app;
SELECT * FROM credits_export_person('pv:ann');
\echo :SQLSTATE
CALL credits_erase_person('pv:ann', 'asked');
\echo :SQLSTATE
SET ROLE regress_credits_auditor;
SELECT * FROM credits_export_person('pv:ann');
\echo :SQLSTATE
CALL credits_erase_person('pv:ann', 'asked');
\echo :SQLSTATE
SELECT count(*) > 100 AS some FROM credits.personal_data();
SET ROLE regress_credits_admin;
SELECT place, count(*) FROM credits_export_person('pv:ann') GROUP BY place ORDER BY place COLLATE "C";
SELECT key, jsonb_array_length(value) FROM jsonb_each(credits_export_person_json('pv:ann')) ORDER BY key COLLATE "C";
SELECT item -> 'address' AS address FROM credits_export_person('pv:ann') WHERE place = 'contacts';
CALL credits_erase_person('pv:ann', 'asked', 1);
RESET ROLE;
TABLE erasure;
TABLE texts;
SELECT name, status, balance, held, metadata FROM credits.accounts WHERE id >= 47001 ORDER BY id;
SELECT place, count(*) FROM credits_export_person('erased:47001') GROUP BY place ORDER BY place COLLATE "C";
SELECT kind, account_id, transaction_id, detail FROM credits.events WHERE account_id >= 47001 ORDER BY id;
SELECT count(*) FROM credits.contacts WHERE account_id = 47001;
SELECT message, metadata FROM credits.codes WHERE account_id = 47001;
SELECT * FROM credits_verify('erased:47001');
SELECT * FROM credits_verify('pv:bob');

-- her keys, her name and the links in her mail answer no longer, those of others do
SELECT credits_deduct('pv:ann', 1, 'key 1', 'chat', 'reference');
\echo :SQLSTATE
SELECT credits_unsubscribe(:'token');
\echo :SQLSTATE
SELECT credits_set_contact('erased:47001', 'email', 'new@example.com');
\echo :SQLSTATE
-- the name is free, for another account
SELECT account, replayed FROM credits_open_account('pv:ann', 7);
SELECT balance, replayed FROM credits_deduct('pv:ann', 1, 'key 1', 'chat', 'reference');

-- again, and by the alias
CALL credits_erase_person('erased:47001', 'again');
TABLE erasure;

-- in a transaction block it ends later: until then, the name is kept
SELECT credits_set_contact('pv:bob', 'inbox');
BEGIN;
CALL credits_erase_person('pv:bob', 'asked');
SELECT account_id, ended_at, done, name, salt, xid, last_pass, place FROM erasure WHERE name IS NOT NULL;
COMMIT;
SELECT status FROM credits.accounts WHERE name = 'pv:bob';
CALL credits_housekeep() \gset
TABLE erasure;
BEGIN;
CALL credits_erase_person('pv:ann9', 'asked');
COMMIT;
-- by the name that it had, as long as nobody else has it
CALL credits_erase_person('pv:ann9', 'asked');

-- an account that is closed; an alias that somebody has
SELECT credits_open_account('pv:carl', 5) IS NOT NULL AS carl, credits_close_account('pv:carl', 'left us') IS NOT NULL AS closed;
SELECT id FROM credits.accounts WHERE name = 'pv:carl' \gset
SELECT credits_open_account('erased:' || :id) IS NOT NULL AS opened;
CALL credits_erase_person('pv:carl', 'asked');
SELECT kind, reason FROM credits.transactions WHERE account_id = :id ORDER BY id;
SELECT * FROM credits_verify('erased:' || :id || ':2');

-- nobody else changes these
UPDATE credits.erasures SET ended_at = NULL;
\echo :SQLSTATE
DELETE FROM credits.erasures;
\echo :SQLSTATE

-- a snapshot that is older sees the account as it was
SELECT credits_open_account('pv:dora', 5) IS NOT NULL AS dora;
BEGIN ISOLATION LEVEL SERIALIZABLE;
CALL credits_erase_person('pv:dora', 'asked');
COMMIT;
CALL credits_housekeep() \gset
SELECT ended_at FROM credits.erasures AS e JOIN credits.accounts AS a ON a.id = e.account_id WHERE a.name = 'pv:dora';
SELECT count(*) FROM credits.erasures WHERE ended_at IS NULL;

-- names in messages are found by their quotation marks
SELECT credits_open_account('pv:"quo\ted"', 5) IS NOT NULL AS quoted, credits_open_account('pv:member', 5) IS NOT NULL AS member,
	credits_open_account('pv:"quo\ted"2', 5) IS NOT NULL AS another;
SELECT credits_add_member(p, 'pv:member') IS NOT NULL AS added FROM unnest('{"pv:\"quo\\ted\"", "pv:\"quo\\ted\"2"}'::text[]) AS p;
SELECT ok FROM credits_try_deduct('pv:member', 1000, pool => 'pv:"quo\ted"');
CALL credits_erase_person('pv:"quo\ted"', 'asked');
SELECT replace(detail ->> 'pool', x.id::text, 'N') AS pool, replace(detail ->> 'message', x.id::text, 'N') AS message
FROM credits.events AS e CROSS JOIN (SELECT account_id AS id FROM credits.erasures ORDER BY account_id DESC LIMIT 1) AS x (id)
WHERE e.kind = 'deduction_refused' AND e.account_id = credits.account_id('pv:member');

-- deliveries that have ended are kept for a time
CREATE FUNCTION pg_temp.read_on() RETURNS boolean LANGUAGE sql AS $$
	-- 200 events a call, if others have left any
	SELECT count(*) >= 0 FROM generate_series(1, 20) AS n, public.credits_take_deliveries('inbox', 1000 - n)
$$;
SELECT pg_temp.read_on() AS read;
SELECT credits_open_account('pv:eve', 100) IS NOT NULL AS eve, credits_set_contact('pv:eve', 'inbox') IS NOT NULL AS contact;
SELECT credits_deduct('pv:eve', 95) IS NOT NULL AS spent;
SELECT kind AS taken, credits_delivery_sent(delivery_id, lease_id) AS sent
FROM (SELECT * FROM credits_take_deliveries('inbox', 1000) OFFSET 0) AS d WHERE account = 'pv:eve';
SELECT status, ended_at FROM credits.deliveries WHERE account_id = credits.account_id('pv:eve');
SET credits.test_clock = '2020-01-20 00:00:00+00';
CALL credits_housekeep() \gset
SELECT count(*) FROM credits.deliveries WHERE account_id = credits.account_id('pv:eve');
SET credits.delivery_retention = '30 days';
CALL credits_housekeep() \gset
SELECT count(*) FROM credits.deliveries WHERE account_id = credits.account_id('pv:eve');
SET credits.delivery_retention = '10 days';
-- what would be read again after a restore is kept, until more has been read
CALL credits_housekeep() \gset
SELECT count(*) FROM credits.deliveries WHERE account_id = credits.account_id('pv:eve');
SELECT ok FROM credits_try_deduct('pv:eve', 1000);
SELECT pg_temp.read_on() AS read;
SELECT ok FROM credits_try_hold('pv:eve', 1000);
SELECT pg_temp.read_on() AS read;
CALL credits_housekeep(1) \gset
SELECT count(*) FROM credits.deliveries WHERE account_id = credits.account_id('pv:eve');
SET credits.delivery_retention = '-1 day';
\echo :SQLSTATE
RESET credits.delivery_retention;

-- payloads of Stripe's events, too, unless they wait for something
INSERT INTO credits.stripe_subjects VALUES ('pi_47001', NULL), ('pi_47002', 'a purchase');
INSERT INTO credits.stripe_events (id, type, subject, created, received_at, livemode, result, facts, payload)
SELECT 'evt_4700' || n, 'charge.refunded', s, at, at, false, r, '{"refunded": 1}', '{"email": "eve@example.com"}'
FROM (VALUES (1, 'pi_47001', '2020-01-01 00:00+00'::timestamptz, 'applied'), (2, 'pi_47002', '2020-01-01', 'waiting'),
	(3, 'pi_47002', '2020-01-01', 'applied'), (4, NULL, '2020-01-01', 'ignored'), (5, NULL, '2020-01-15', 'ignored')) AS v (n, s, at, r);
SELECT id, payload FROM credits.stripe_events WHERE id LIKE 'evt_4700_' ORDER BY id;
SET credits.payload_retention = '10 days';
CALL credits_housekeep(1) \gset
SELECT id, payload, facts FROM credits.stripe_events WHERE id LIKE 'evt_4700_' ORDER BY id;
RESET credits.payload_retention;
DELETE FROM credits.stripe_events WHERE id LIKE 'evt_4700_';
DELETE FROM credits.stripe_subjects WHERE subject LIKE 'pi_4700_';
SELECT * FROM credits_verify() WHERE account LIKE 'pv:%' OR account LIKE 'erased:%';
RESET credits.test_clock;

RESET ROLE;
\c :shared
DROP DATABASE regress_privacy;
