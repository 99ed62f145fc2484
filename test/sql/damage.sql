-- damage: what calls do on an account that someone has damaged past the triggers
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 65001;
ALTER SEQUENCE credits.grants_id_seq RESTART 65001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 65001;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('damage:1', 10);
SELECT transaction_id AS spend FROM credits_deduct('damage:1', 4) \gset

-- without the trigger that writes the log, nothing moves
BEGIN;
ALTER TABLE credits.accounts DISABLE TRIGGER accounts_write_log;
SELECT credits_deduct('damage:1', 1);
\echo :SQLSTATE
ROLLBACK;

-- grants that are not there, or do not hold what the balance says
BEGIN;
ALTER TABLE credits.grants DISABLE TRIGGER ALL;
DELETE FROM credits.grants WHERE account_id = 65001;
SAVEPOINT s;
SELECT credits_deduct('damage:1', 1);
\echo :SQLSTATE
ROLLBACK TO s;
SELECT credits_refund(:spend);
\echo :SQLSTATE
ROLLBACK TO s;
SELECT credits_balance('damage:1');
ROLLBACK;
BEGIN;
ALTER TABLE credits.grants DISABLE TRIGGER ALL;
UPDATE credits.grants SET remaining = 2 WHERE account_id = 65001;
SELECT credits_deduct('damage:1', 5);
\echo :SQLSTATE
ROLLBACK;

-- a log that is not there
BEGIN;
ALTER TABLE credits.transactions DISABLE TRIGGER ALL;
DELETE FROM credits.transactions WHERE account_id = 65001;
SAVEPOINT s;
SELECT credits_open_account('damage:1');
\echo :SQLSTATE
ROLLBACK TO s;
SELECT credits_refund(:spend);
\echo :SQLSTATE
ROLLBACK;

-- draws that are none
BEGIN;
ALTER TABLE credits.transactions DISABLE TRIGGER ALL;
UPDATE credits.transactions SET draws = '{1,2,3}' WHERE id = :spend;
SELECT account, transaction_id, problem FROM credits_verify('damage:1');
SELECT credits_refund(:spend);
\echo :SQLSTATE
ROLLBACK;

-- a sequence that is behind, as after logical replication
BEGIN;
SELECT setval('credits.transactions_id_seq', 1);
SELECT credits_deduct('damage:1', 1);
\echo :SQLSTATE
ROLLBACK;
SELECT setval('credits.transactions_id_seq', 65100);

-- an index that is gone
BEGIN;
DROP INDEX credits.grants_burn_order_idx;
SELECT credits_deduct('damage:1', 1);
\echo :SQLSTATE
ROLLBACK;

SELECT balance FROM credits_deduct('damage:1', 1);
SELECT * FROM credits_verify();
