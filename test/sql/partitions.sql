--
-- the log in partitions
--
\set VERBOSITY default
SELECT current_database() AS shared \gset
SET client_min_messages = warning;
CREATE DATABASE regress_partitions;
\c regress_partitions
SET client_min_messages = warning;
CREATE EXTENSION credits;
SELECT extversion AS version FROM pg_extension WHERE extname = 'credits' \gset
SET credits.test_clock = '2030-01-01 00:00:00+00';
SET timezone = 'UTC';
SELECT credits_open_account('p:1', 1000), credits_open_account('p:2', 1000) \gset

-- a log that nobody has partitioned has one partition, which takes every row
SELECT name, bounds FROM credits.partitions;
CALL credits_partition_log();
\echo :SQLSTATE
CALL credits_housekeep();
SELECT name, bounds FROM credits.partitions;

-- one that has grown is converted as it is
SELECT amount FROM credits_deduct('p:1', 1, 'old');
SELECT pg_relation_filenode('credits.log_default') AS node \gset
SET credits.partition_rows = 10;
CALL credits_partition_log();
SELECT name, bounds FROM credits.partitions ORDER BY length(bounds), bounds;
SELECT pg_relation_filenode('credits.log_0') = :node AS in_place;
SELECT count(*) FROM credits.log_0;
-- and only once
CALL credits_partition_log();

-- by an administrator, too, and nobody else
SET ROLE credits_admin;
CALL credits_partition_log();
SELECT count(*) FROM credits.partitions;
SET ROLE credits_app;
CALL credits_partition_log();
RESET ROLE;

-- rows go to the partition of their id, keys are found in all of them
SELECT setval('credits.transactions_id_seq', 18) \gset
SELECT d.transaction_id, d.amount, d.balance FROM generate_series(19, 21) AS i, credits_deduct('p:1', 2, 'k' || i) AS d;
SELECT tableoid::regclass, count(*) FROM credits.log GROUP BY 1 ORDER BY 1;
SELECT i, d.replayed, d.transaction_id FROM (VALUES ('k19'), ('k21')) AS v (i), credits_deduct('p:1', 2, i) AS d;
SELECT replayed FROM credits_deduct('p:1', 1, 'old');
SELECT credits_deduct('p:1', 3, 'k19');
\echo :SQLSTATE

-- the job makes as many ahead as are wanted
SET credits.partitions_ahead = 3;
CALL credits_housekeep();
SELECT name, bounds FROM credits.partitions ORDER BY length(bounds), bounds;
CALL credits_housekeep();

-- without one for it, a spend goes to the default partition
SELECT setval('credits.transactions_id_seq', 74) \gset
SELECT transaction_id FROM credits_deduct('p:2', 1, 'beyond');
SELECT replayed, transaction_id FROM credits_deduct('p:2', 1, 'beyond');
SELECT id, tableoid::regclass FROM credits.log WHERE id = 75;
-- which the job then closes
CALL credits_housekeep();
SELECT name, bounds FROM credits.partitions ORDER BY length(bounds), bounds;
SELECT id, tableoid::regclass FROM credits.log WHERE id = 75;
SELECT replayed, transaction_id FROM credits_deduct('p:2', 1, 'beyond');
SELECT setval('credits.transactions_id_seq', 99) \gset
CALL credits_housekeep();

-- everything else works across partitions
SELECT transaction_id AS spend FROM credits_deduct('p:2', 10) \gset
SELECT transaction_id AS held FROM credits_hold('p:2', 20) \gset
SELECT setval('credits.transactions_id_seq', 109) \gset
SELECT amount FROM credits_refund(:spend, 4);
SELECT kind, amount FROM credits_capture(:held, 15);
SELECT setval('credits.transactions_id_seq', 119) \gset
SELECT amount FROM credits_refund(:spend);
SELECT credits_refund(:spend);
SELECT transaction_id, kind, amount, balance FROM credits_history('p:2');
SELECT transaction_id, kind FROM credits_history('p:2', 2, before_id => :spend);
SELECT credits_balance_at('p:2', credits.now());
SELECT kind, replayed FROM credits_open_account('p:1');
SELECT setval('credits.transactions_id_seq', 129) \gset
SELECT ok, (receipt).amount FROM credits_deduct_many('[{"account": "p:1", "amount": 5, "idempotency_key": "b1"}, {"account": "p:2", "amount": 5, "idempotency_key": "old"}]'::jsonb, false);
SELECT amount FROM credits_transfer('p:1', 'p:2', 7, idempotency_key => 't1');
SELECT credits_erase_text(transaction_id) FROM credits_history('p:1') WHERE idempotency_key = 'k19';
SELECT * FROM credits_verify();

-- each partition refuses changes, also one that was detached
SET session_replication_role = replica;
UPDATE credits.log SET amount = 0;
UPDATE credits.log_0 SET amount = 0;
DELETE FROM credits.log_20;
TRUNCATE credits.log_20;
TRUNCATE credits.log_default;
BEGIN;
ALTER TABLE credits.log DETACH PARTITION credits.log_20;
SAVEPOINT s;
UPDATE credits.log_20 SET amount = 0;
ROLLBACK TO s;
DELETE FROM credits.log_20;
ROLLBACK TO s;
TRUNCATE credits.log_20;
ROLLBACK;
RESET session_replication_role;
-- those who may read the log may read them
SELECT has_table_privilege('credits_auditor', 'credits.log_20', 'SELECT') AS reads,
	has_table_privilege('credits_auditor', 'credits.log_20', 'INSERT') AS writes,
	has_table_privilege('credits_app', 'credits.log_20', 'SELECT') AS app;

-- a partition that lacks something is reported
BEGIN;
ALTER TABLE credits.log_20 DISABLE TRIGGER log_refuse_row_change;
DROP TRIGGER log_refuse_change ON credits.log_0;
ALTER TABLE credits.log DISABLE TRIGGER log_refuse_change;
ALTER TABLE credits.log_default ENABLE REPLICA TRIGGER log_refuse_change;
SELECT indexrelid::regclass AS index FROM pg_index WHERE indrelid = 'credits.log_30'::regclass AND indpred IS NOT NULL AND NOT indisunique AND pg_get_indexdef(indexrelid) LIKE '%(target_id)%' \gset
DROP INDEX :index;
SELECT problem, detail FROM credits_verify();
ROLLBACK;
BEGIN;
DROP INDEX credits.log_0_reference_idx;
SELECT problem, detail FROM credits_verify();
ROLLBACK;
-- without a default partition nobody can spend, and the job needs it by its name
BEGIN;
ALTER TABLE credits.log DETACH PARTITION credits.log_default;
SELECT amount FROM credits_deduct('p:1', 1);
\echo :SQLSTATE
ROLLBACK;
BEGIN;
ALTER TABLE credits.log_default RENAME TO log_other;
CALL credits_housekeep();
CALL credits_partition_log();
\echo :SQLSTATE
ROLLBACK;

-- by id, one partition is read
PREPARE by_id AS SELECT kind FROM credits.transactions WHERE id = $1;
SET plan_cache_mode = force_generic_plan;
EXPLAIN (COSTS OFF) EXECUTE by_id(101);
RESET plan_cache_mode;
-- and no other is locked by a spend
CALL credits_housekeep();
BEGIN;
SELECT amount FROM credits_deduct('p:1', 1);
SELECT relation::regclass FROM pg_locks WHERE relation::regclass::text ~ '^credits.log(_[0-9a-z]+)?$' AND locktype = 'relation' AND relation IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'p')) ORDER BY 1;
ROLLBACK;

-- keys are promised for credits.key_retention: partitions that were full before that
-- are no longer searched
SET credits.test_clock = '2030-01-03 00:00:00+00';
SELECT setval('credits.transactions_id_seq', 139) \gset
CALL credits_housekeep();
SELECT amount FROM credits_deduct('p:1', 1, 'first of 140');
SET credits.key_retention = '1 day';
SELECT replayed FROM credits_deduct('p:1', 1, 'first of 140');
SELECT replayed FROM credits_deduct('p:1', 5, 'b1');
SET credits.test_clock = '2030-01-04 00:30:00+00';
SELECT replayed FROM credits_deduct('p:1', 1, 'first of 140');
SELECT replayed FROM credits_deduct('p:1', 5, 'k20');
SET credits.test_clock = '2030-01-04 01:30:00+00';
-- in the partition of the new row itself
SELECT replayed FROM credits_deduct('p:1', 1, 'first of 140');
SELECT replayed FROM credits_deduct('p:1', 5, 'k20');
SELECT replayed FROM credits_deduct('p:1', 5, 'k20');
SELECT replayed FROM credits_deduct('p:1', 5, 'b1');
RESET credits.key_retention;
SELECT count(*) FROM credits.transactions WHERE idempotency_key = 'k20';
SELECT * FROM credits_verify();

-- a trigger of the application fires in every partition
CREATE FUNCTION public.tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING '%', TG_TABLE_NAME; RETURN NULL; END $$;
CREATE TRIGGER tell AFTER INSERT ON credits.log FOR EACH ROW EXECUTE FUNCTION public.tell();
SELECT amount FROM credits_deduct('p:1', 1);
SELECT setval('credits.transactions_id_seq', 149) \gset
CALL credits_housekeep();
SELECT amount FROM credits_deduct('p:1', 1);
DROP FUNCTION public.tell() CASCADE;

-- what is made in a transaction that is rolled back was never there
BEGIN;
SET LOCAL credits.partition_rows = 1000;
SET LOCAL credits.partitions_ahead = 5;
CALL credits_partition_log();
SELECT amount FROM credits_deduct('p:1', 1);
ROLLBACK;
SELECT amount FROM credits_deduct('p:1', 1, 'after');
SELECT replayed FROM credits_deduct('p:1', 1, 'after');
SELECT * FROM credits_verify();

-- somebody drops a partition that was made ahead.  Rows go to the default one, and are
-- found there in order
SELECT setval('credits.transactions_id_seq', 159) \gset
DROP TABLE credits.log_160;
SELECT transaction_id, balance FROM credits_deduct('p:1', 1, 'in the gap');
SELECT id, tableoid::regclass FROM credits.log WHERE id = 160;
SELECT setval('credits.transactions_id_seq', 169) \gset
SELECT transaction_id, balance FROM credits_deduct('p:1', 1, 'after the gap');
SELECT replayed, transaction_id FROM credits_deduct('p:1', 1, 'in the gap');
SET credits.key_retention = '1 day';
SELECT replayed, transaction_id FROM credits_deduct('p:1', 1, 'in the gap');
RESET credits.key_retention;
SELECT credits_balance_at('p:1', credits.now()) = credits_balance('p:1') AS newest;
SELECT transaction_id FROM credits_history('p:1', 3);
SELECT amount FROM credits_refund(160);
SELECT * FROM credits_verify();
-- the job closes the gap
CALL credits_housekeep();
SELECT id, tableoid::regclass FROM credits.log WHERE id = 160;
SELECT replayed, transaction_id FROM credits_deduct('p:1', 1, 'in the gap');
-- one that has no rows yet, too, with another name if that is taken
ALTER TABLE credits.log DETACH PARTITION credits.log_190;
CALL credits_housekeep();
SELECT name, bounds FROM credits.partitions WHERE name LIKE 'log_190%';
-- rows both in a gap and above all partitions
DROP TABLE credits.log_190, credits.log_190_2;
SELECT setval('credits.transactions_id_seq', 194) \gset
SELECT transaction_id FROM credits_deduct('p:2', 1, 'in another gap');
SELECT setval('credits.transactions_id_seq', 254) \gset
SELECT transaction_id FROM credits_deduct('p:2', 1, 'above');
SELECT id, tableoid::regclass FROM credits.log WHERE id IN (195, 255) ORDER BY id;
SELECT replayed, transaction_id FROM credits_deduct('p:2', 1, 'in another gap');
SELECT * FROM credits_verify();
CALL credits_housekeep();
SELECT id, tableoid::regclass FROM credits.log WHERE id IN (195, 255) ORDER BY id;
SELECT count(*) FROM credits.log_default;
SELECT name, bounds FROM credits.partitions ORDER BY length(bounds), bounds;
SELECT replayed, transaction_id FROM credits_deduct('p:2', 1, 'in another gap');
SELECT replayed, transaction_id FROM credits_deduct('p:2', 1, 'above');
SELECT * FROM credits_verify();
-- the rows of the default partition are dumped, of the others it is a matter of course
SELECT 'credits.log_default'::regclass = ANY (extconfig) AS dumped, extversion = :'version' AS same_version FROM pg_extension WHERE extname = 'credits';

-- a snapshot from before the log is locked would not see all of it
SELECT setval('credits.transactions_id_seq', 354) \gset
SELECT transaction_id FROM credits_deduct('p:2', 1, 'above all');
SET default_transaction_isolation = 'repeatable read';
CALL credits_partition_log();
\echo :SQLSTATE
SET default_transaction_isolation = 'serializable';
CALL credits_archive('2100-01-01 00:00:00+00');
\echo :SQLSTATE
RESET default_transaction_isolation;
SELECT id, tableoid::regclass FROM credits.log WHERE id = 355;

SET credits.test_clock = '';
DROP EXTENSION credits;
SELECT relname FROM pg_class WHERE relname ~ '^log_';
\c :shared
DROP DATABASE regress_partitions;
