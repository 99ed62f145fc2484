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
ALTER TABLE credits.log_default DISABLE TRIGGER ALL;
DELETE FROM credits.log_default WHERE account_id = 65001;
SAVEPOINT s;
SELECT credits_open_account('damage:1');
\echo :SQLSTATE
ROLLBACK TO s;
SELECT credits_refund(:spend);
\echo :SQLSTATE
ROLLBACK;

-- draws that are none
BEGIN;
ALTER TABLE credits.log_default DISABLE TRIGGER ALL;
UPDATE credits.log_default SET draws = '\x020406' WHERE id = :spend;
SELECT account, transaction_id, problem FROM credits_verify('damage:1');
SELECT credits_refund(:spend);
\echo :SQLSTATE
ROLLBACK;

-- parts that are none, or more than there can be
SELECT count(*) FROM generate_series(2, 3) AS n, LATERAL credits_open_account('damage:' || n, 10);
SELECT kind FROM credits_add_member('damage:2', 'damage:3');
SELECT transaction_id AS pooled FROM credits_deduct('damage:3', 4, pool => 'damage:2') \gset
SELECT transaction_id AS split FROM credits_deduct('damage:3', 12, pool => 'damage:2', mode => 'own_first') \gset
BEGIN;
ALTER TABLE credits.log_default DISABLE TRIGGER ALL;
UPDATE credits.log_default SET terms = jsonb_build_object('parts', jsonb_build_array(:spend)) WHERE id = :pooled;
SAVEPOINT s;
SELECT credits_refund(:pooled);
\echo :SQLSTATE
ROLLBACK TO s;
UPDATE credits.log_default SET terms = jsonb_build_object('parts', jsonb_build_array(:pooled, :pooled)) WHERE id = :split;
SAVEPOINT s;
SELECT credits_refund(:split);
\echo :SQLSTATE
ROLLBACK TO s;
UPDATE credits.log_default SET terms = jsonb_build_object('parts', jsonb_build_array(:spend)) WHERE id = :split;
SELECT credits_refund(:split);
\echo :SQLSTATE
ROLLBACK;
SELECT amount FROM credits_refund(:split);

-- words that nothing can be made of
BEGIN;
ALTER TABLE credits.members DISABLE TRIGGER ALL;
UPDATE credits.members SET per = 'decade' WHERE pool_id = (SELECT id FROM credits.accounts WHERE name = 'damage:2');
SELECT credits_deduct('damage:3', 1, pool => 'damage:2');
\echo :SQLSTATE
ROLLBACK;
BEGIN;
SELECT credits_set_operation('damage', 1) > 0 AS set;
ALTER TABLE credits.operations DISABLE TRIGGER ALL;
ALTER TABLE credits.operations DROP CONSTRAINT operations_rounding;
UPDATE credits.operations SET rounding = 'down' WHERE name = 'damage';
\set VERBOSITY sqlstate
SELECT credits_charge('damage:1', 'damage');
\set VERBOSITY default
ROLLBACK;
BEGIN;
SELECT credits_set_plan('damage', 1) > 0 AS set;
ALTER TABLE credits.plans DISABLE TRIGGER ALL;
ALTER TABLE credits.plans DROP CONSTRAINT plans_period;
UPDATE credits.plans SET period = 'decade' WHERE name = 'damage';
\set VERBOSITY sqlstate
SELECT credits_subscribe('damage:1', 'damage');
\set VERBOSITY default
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

-- one of that name that is another: a spend would read it wrong
BEGIN;
DROP INDEX credits.grants_burn_order_idx;
CREATE INDEX grants_burn_order_idx ON credits.grants (source);
SELECT credits_deduct('damage:1', 1);
\echo :SQLSTATE
ROLLBACK;
BEGIN;
DROP INDEX credits.grants_burn_order_idx;
CREATE INDEX grants_burn_order_idx ON credits.grants
	(account_id, priority, expires_at, effective_at, id) WHERE status = 'open';
SELECT credits_deduct('damage:1', 1);
ROLLBACK;
BEGIN;
DROP INDEX credits.grants_burn_order_idx;
CREATE INDEX grants_burn_order_idx ON credits.grants
	(account_id, priority, expires_at DESC, effective_at, id)
	WHERE status IN ('open', 'pending');
SELECT credits_deduct('damage:1', 1);
ROLLBACK;
BEGIN;
DROP INDEX credits.log_default_idempotency_key_idx;
CREATE INDEX log_default_idempotency_key_idx ON credits.log_default
	((COALESCE(member_id, account_id)), (credits.key_digest(idempotency_key)))
	WHERE idempotency_key IS NOT NULL;
SELECT credits_deduct('damage:1', 1, 'k');
ROLLBACK;
BEGIN;
ALTER TABLE credits.accounts DROP CONSTRAINT accounts_name_key;
CREATE UNIQUE INDEX accounts_name_key ON credits.accounts (name COLLATE "POSIX");
SELECT credits_deduct('damage:1', 1);
ROLLBACK;

-- one that CREATE INDEX CONCURRENTLY or REINDEX left behind
BEGIN;
UPDATE pg_index SET indisvalid = false
	WHERE indexrelid = 'credits.log_default_idempotency_key_idx'::regclass;
SELECT credits_deduct('damage:1', 1, 'k');
\echo :SQLSTATE
ROLLBACK;

-- made again by the statement of the hint, or beside another, it serves
BEGIN;
DROP INDEX credits.grants_burn_order_idx;
CREATE INDEX grants_burn_order_idx ON credits.grants (account_id, priority, expires_at, effective_at, id) WHERE (status = ANY (ARRAY['open'::text, 'pending'::text]));
CREATE INDEX damage_idx ON credits.grants (source);
SELECT balance FROM credits_deduct('damage:1', 1);
ROLLBACK;
BEGIN;
DROP INDEX credits.log_default_idempotency_key_idx;
CREATE UNIQUE INDEX log_default_idempotency_key_idx ON credits.log_default ((COALESCE(member_id, account_id)), (credits.key_digest(idempotency_key))) WHERE (idempotency_key IS NOT NULL);
SET LOCAL search_path = credits, pg_catalog, public;
SELECT balance, replayed FROM credits_deduct('damage:1', 1, 'k');
SELECT balance, replayed FROM credits_deduct('damage:1', 1, 'k');
ROLLBACK;

-- a column that was renamed
BEGIN;
ALTER TABLE credits.grants RENAME remaining TO rest;
SELECT credits_deduct('damage:1', 1);
\echo :SQLSTATE
ROLLBACK;

-- columns that were added and dropped again stay in the table, and do no harm
BEGIN;
ALTER TABLE credits.accounts ADD COLUMN damage_note text DEFAULT 'note';
ALTER TABLE credits.accounts DROP COLUMN damage_note;
ALTER TABLE credits.grants ADD COLUMN damage_note integer;
ALTER TABLE credits.grants DROP COLUMN damage_note;
ALTER TABLE credits.log ADD COLUMN damage_note integer DEFAULT 1;
ALTER TABLE credits.log DROP COLUMN damage_note;
SELECT balance, replayed FROM credits_deduct('damage:1', 1, 'k');
SELECT balance, replayed FROM credits_deduct('damage:1', 1, 'k');
SELECT balance FROM credits_allocate('damage:1', 5);
SELECT kind FROM credits_open_account('damage:9', 3);
SELECT balance FROM credits_balance('damage:9') AS balance;
UPDATE credits.accounts SET metadata = '{"a": 1}' WHERE name = 'damage:1';
SELECT * FROM credits_verify();
ROLLBACK;

-- one that is there to stay, be it allowed to be empty or not
BEGIN;
ALTER TABLE credits.grants ADD COLUMN "Damage" integer;
SELECT credits_deduct('damage:1', 1);
\echo :SQLSTATE
ROLLBACK;
BEGIN;
ALTER TABLE credits.members ADD COLUMN damage_note text NOT NULL DEFAULT '';
SELECT credits_deduct('damage:3', 1, pool => 'damage:2');
ROLLBACK;
-- one of ours that is gone, or of another type
BEGIN;
ALTER TABLE credits.grants DROP COLUMN currency CASCADE;
SELECT credits_deduct('damage:1', 1);
\echo :SQLSTATE
ROLLBACK;
BEGIN;
ALTER TABLE credits.events DROP COLUMN detail CASCADE;
ALTER TABLE credits.events ADD COLUMN detail jsonb;
SELECT ok FROM credits_try_deduct('damage:1', 1000);
ROLLBACK;
BEGIN;
ALTER TABLE credits.grants ALTER COLUMN currency TYPE varchar(3);
SELECT credits_deduct('damage:1', 1);
\echo :SQLSTATE
-- as the hint says
ROLLBACK;
BEGIN;
ALTER TABLE credits.grants ALTER COLUMN currency TYPE varchar(3);
ALTER TABLE credits.grants ALTER COLUMN currency TYPE text;
SELECT balance FROM credits_deduct('damage:1', 1);
ROLLBACK;

-- columns that come and go in all tables: whatever is called next goes on
BEGIN;
DO $$
DECLARE
	name text;
BEGIN
	FOR name IN SELECT c.oid::regclass FROM pg_class AS c
		WHERE c.relnamespace = 'credits'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
	LOOP
		EXECUTE format('ALTER TABLE %s ADD COLUMN damage_a text DEFAULT 0, ADD COLUMN damage_b integer', name);
		EXECUTE format('ALTER TABLE %s DROP COLUMN damage_a, DROP COLUMN damage_b', name);
	END LOOP;
END
$$;
SELECT transaction_id AS held FROM credits_hold('damage:1', 2) \gset
SELECT kind FROM credits_capture(:held, 1);
SELECT amount FROM credits_deduct('damage:3', 1, pool => 'damage:2');
SELECT kind FROM credits_change_member('damage:2', 'damage:3', 9);
SELECT kind FROM credits_set_limits('damage:3', max_spend => 9);
SELECT credits_create_promo_code('DAMAGE', 5);
SELECT amount FROM credits_redeem('damage:3', 'damage');
SELECT credits_set_operation('damage', 1) IS NOT NULL AS set;
SELECT amount FROM credits_charge('damage:1', 'damage');
SELECT credits_set_plan('damage', 7, trial => '3 days') IS NOT NULL AS set;
SELECT status FROM credits_subscribe('damage:3', 'damage');
SELECT credits_set_package('damage', 10, 1, 'USD') IS NOT NULL AS set;
SELECT credits_set_promotion('damage', 'percent', 50) IS NOT NULL AS set;
SELECT purchase_id AS bought FROM credits_start_purchase('damage:3', 'damage', promotion => 'damage') \gset
SELECT outcome FROM credits_complete_purchase(:bought, 'damage', 0.5);
SELECT credits FROM credits_refund_purchase(:bought, 0.2);
SELECT amount FROM credits_transfer('damage:1', 'damage:3', 1);
SELECT ok FROM credits_try_deduct('damage:1', 1000);
SELECT count(*) FROM credits_history('damage:3');
SELECT * FROM credits_verify();
ROLLBACK;

SELECT balance FROM credits_deduct('damage:1', 1);
SELECT * FROM credits_verify();
