-- replication: sequences after rows were copied without them
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 130001;
ALTER SEQUENCE credits.grants_id_seq RESTART 130001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 130001;
ALTER SEQUENCE credits.events_id_seq RESTART 130001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT account, kind FROM credits_open_account('copy:1', 100);
SELECT balance FROM credits_deduct('copy:1', 99);
SELECT balance FROM credits_deduct('copy:1', 1);
-- as a subscriber finds them
RESET ROLE;
SELECT setval('credits.accounts_id_seq', 1, false), setval('credits.grants_id_seq', 1, false),
	   setval('credits.transactions_id_seq', 1, false), setval('credits.events_id_seq', 1, false);
SET ROLE regress_credits_admin;
SELECT credits_sync_sequences();
SELECT nextval = max AS next FROM (
	SELECT (SELECT last_value FROM credits.accounts_id_seq) AS nextval, max(id) FROM credits.accounts UNION ALL
	SELECT (SELECT last_value FROM credits.grants_id_seq), max(id) FROM credits.grants UNION ALL
	SELECT (SELECT last_value FROM credits.transactions_id_seq), max(id) FROM credits.transactions UNION ALL
	SELECT (SELECT last_value FROM credits.events_id_seq), max(id) FROM credits.events) AS s;
SELECT kind, balance FROM credits_open_account('copy:2', 100);
SELECT balance FROM credits_allocate('copy:1', 5);
SELECT kind, balance FROM credits_deduct('copy:1', 1);
-- again: no id is lost
SELECT last_value AS before FROM credits.transactions_id_seq \gset
SELECT credits_sync_sequences();
SELECT last_value - :before AS lost FROM credits.transactions_id_seq;
-- it never sets a sequence back
RESET ROLE;
SELECT setval('credits.transactions_id_seq', 139000) AS ahead;
SET ROLE regress_credits_admin;
SELECT credits_sync_sequences();
SELECT last_value >= 139000 AS not_set_back FROM credits.transactions_id_seq;
-- nor are ids drawn again of what was archived
RESET ROLE;
BEGIN;
INSERT INTO credits.archives (until_id, from_id, before, begun_at, done_account_id) VALUES (139005, 0, '2030-01-01 00:00:00+00', '2030-01-01 00:00:00+00', 0);
SELECT credits_sync_sequences();
SELECT last_value >= 139005 AS beyond FROM credits.transactions_id_seq;
ROLLBACK;
SET ROLE regress_credits_app;
\set VERBOSITY sqlstate
SELECT credits_sync_sequences();
\set VERBOSITY default
RESET ROLE;
SELECT * FROM credits_verify();
