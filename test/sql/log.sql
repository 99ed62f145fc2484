-- log: every change has its row, and no row or balance is changed past the functions
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 110001;
ALTER SEQUENCE credits.grants_id_seq RESTART 110001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 110001;
ALTER SEQUENCE credits.events_id_seq RESTART 110001;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SET ROLE regress_credits_admin;
SET credits.actor = 'admin:1';
SELECT kind, balance FROM credits_open_account('log:1', 100, metadata => '{"a": 1}');
RESET credits.actor;
SELECT kind, balance FROM credits_open_account('log:2');
SELECT balance FROM credits_allocate('log:1', 10, source => 'gift', expires_at => '2030-02-01', reason => 'welcome');
SELECT balance FROM credits_deduct('log:1', 15, 'key', 'chat', 'request:1', '{"b": 2}');
SELECT balance FROM credits_refund(110004, 2, reason => 'sorry');
SELECT balance FROM credits_deduct('log:1', 92);
SELECT id, account_id, created_at, amount, held, balance_after, held_after, target_id,
	   request IS NOT NULL AS request, kind, role = session_user AS role, idempotency_key,
	   operation, reference, draws, reason, metadata, actor, octet_length(salt) AS salt,
	   octet_length(hash) AS hash
FROM credits.transactions WHERE account_id IN (110001, 110002) ORDER BY id;
SELECT * FROM credits.draws WHERE account_id = 110001 ORDER BY transaction_id, ordinal;
-- equal texts, different salts
SELECT count(DISTINCT salt) = count(salt) AS salts_differ FROM credits.transactions;
RESET ROLE;

-- not even a superuser changes the log
UPDATE credits.log SET amount = 1000 WHERE id = 110003;
\echo :SQLSTATE
UPDATE credits.log SET amount = amount;
\echo :SQLSTATE
UPDATE credits.log SET reason = NULL WHERE false;
\echo :SQLSTATE
DELETE FROM credits.log WHERE id = 110003;
\echo :SQLSTATE
-- that it cascades is no news
SET client_min_messages = warning;
TRUNCATE credits.log CASCADE;
\echo :SQLSTATE
TRUNCATE credits.accounts, credits.grants, credits.log, credits.events CASCADE;
\echo :SQLSTATE
INSERT INTO credits.log_default SELECT * FROM credits.log WHERE id = 110003
ON CONFLICT (id) DO UPDATE SET amount = 1000;
\echo :SQLSTATE
MERGE INTO credits.log AS t USING (SELECT 110003 AS id) AS s ON t.id = s.id
WHEN MATCHED THEN DELETE;
\echo :SQLSTATE
WITH gone AS (DELETE FROM credits.log WHERE id = 110003 RETURNING *)
SELECT count(*) FROM gone;
\echo :SQLSTATE
-- nor as replication would
SET session_replication_role = replica;
UPDATE credits.log SET amount = 1000 WHERE id = 110003;
\echo :SQLSTATE
DELETE FROM credits.log WHERE id = 110003;
\echo :SQLSTATE
TRUNCATE credits.log CASCADE;
\echo :SQLSTATE
UPDATE credits.accounts SET balance = 1000 WHERE name = 'log:1';
\echo :SQLSTATE
DELETE FROM credits.accounts WHERE name = 'log:1';
\echo :SQLSTATE
UPDATE credits.grants SET remaining = 0 WHERE account_id = 110001;
\echo :SQLSTATE
-- the functions work as ever
SELECT balance FROM credits_deduct('log:1', 1);
RESET session_replication_role;

-- nor a balance, or anything else of an account that the log answers for
UPDATE credits.accounts SET balance = 1000 WHERE name = 'log:1';
\echo :SQLSTATE
UPDATE credits.accounts SET balance = balance + 0, held = 1 WHERE name = 'log:1';
UPDATE credits.accounts SET granted = 0 WHERE name = 'log:1';
UPDATE credits.accounts SET spent = 0 WHERE name = 'log:1';
UPDATE credits.accounts SET refunded = 0 WHERE name = 'log:1';
UPDATE credits.accounts SET expired = 1 WHERE name = 'log:1';
UPDATE credits.accounts SET id = 1 WHERE name = 'log:1';
UPDATE credits.accounts SET name = 'log:one' WHERE name = 'log:1';
UPDATE credits.accounts SET status = 'closed' WHERE name = 'log:1';
UPDATE credits.accounts SET created_at = now() WHERE name = 'log:1';
UPDATE credits.accounts SET due_at = 'infinity' WHERE name = 'log:1';
UPDATE credits.accounts SET transaction_count = 0 WHERE name = 'log:1';
UPDATE credits.accounts SET last_transaction_id = 1 WHERE name = 'log:1';
UPDATE credits.accounts SET last_at = now() WHERE name = 'log:1';
UPDATE credits.accounts SET head = '' WHERE name = 'log:1';
\echo :SQLSTATE
DELETE FROM credits.accounts WHERE name = 'log:1';
\echo :SQLSTATE
DELETE FROM credits.accounts WHERE false;
TRUNCATE credits.accounts CASCADE;
INSERT INTO credits.accounts SELECT * FROM credits.accounts WHERE name = 'log:1'
ON CONFLICT (name) DO UPDATE SET balance = 1000;
\echo :SQLSTATE
UPDATE credits.grants SET remaining = amount WHERE account_id = 110001;
\echo :SQLSTATE
UPDATE credits.grants SET expires_at = NULL WHERE false;
DELETE FROM credits.grants WHERE account_id = 110001;
TRUNCATE credits.grants CASCADE;
\echo :SQLSTATE
RESET client_min_messages;
-- what is the application's own may be changed
UPDATE credits.accounts SET metadata = '{"a": 2}', unit = 'token' WHERE name = 'log:1';
UPDATE credits.accounts SET balance = balance WHERE name = 'log:1';
SELECT name, status, unit, metadata, balance, held, transaction_count
FROM credits.accounts WHERE name = 'log:1';
SELECT balance FROM credits_deduct('log:1', 1);
SELECT count(*) FROM credits.transactions WHERE account_id = 110001;

-- below zero is refused by the tables too
\set VERBOSITY sqlstate
INSERT INTO credits.accounts
SELECT 110999, 'log:negative', unit, status, metadata, limited, debt, created_at, alert_levels, alert_base, topup_below, due_at, base, granted, refunded,
	   expired, held, -1, spent, transaction_count, last_transaction_id, last_at, head
FROM credits.accounts WHERE name = 'log:2';
\set VERBOSITY default

-- an administrator who is no superuser: not by any table
SET ROLE regress_credits_admin;
\set VERBOSITY sqlstate
INSERT INTO credits.log SELECT * FROM credits.log WHERE id = 110003;
UPDATE credits.log SET amount = 1000 WHERE id = 110003;
UPDATE credits.accounts SET metadata = NULL WHERE name = 'log:1';
DELETE FROM credits.events;
SELECT nextval('credits.transactions_id_seq');
SELECT setval('credits.transactions_id_seq', 1);
ALTER TABLE credits.log_default DISABLE TRIGGER ALL;
SET session_replication_role = replica;
BEGIN;
LOCK credits.accounts IN ACCESS EXCLUSIVE MODE;
ROLLBACK;
SELECT credits.write_log();
\set VERBOSITY default
SELECT * FROM credits_verify();
