-- verify: every kind of problem is found, and told apart
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 190001;
ALTER SEQUENCE credits.grants_id_seq RESTART 190001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 190001;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('check:1', 100);
SELECT kind FROM credits_open_account('check:2', 100);
SELECT balance FROM credits_allocate('check:1', 50, source => 'gift', expires_at => '2030-02-01', reason => 'welcome');
SELECT balance FROM credits_deduct('check:1', 60, 'k1', 'chat', 'r1');
SELECT balance FROM credits_refund(190004, 5);
SELECT * FROM credits_verify('check:1');
SELECT * FROM credits_verify();
SELECT * FROM credits_verify(NULL);

SET ROLE regress_credits_auditor;
SELECT * FROM credits_verify('check:1');
SELECT length(credits_digest());
SELECT credits_verify('check:none');
\echo :SQLSTATE
SELECT credits_verify('');
\echo :SQLSTATE
RESET ROLE;
-- the digest changes with every transaction of any account, and with nothing else
SELECT credits_digest() AS before \gset
SELECT credits_digest() = :'before' AS same;
BEGIN;
SELECT balance FROM credits_deduct('check:2', 1);
SELECT credits_digest() = :'before' AS same;
ROLLBACK;
SELECT credits_digest() = :'before' AS same;
SELECT balance, replayed FROM credits_deduct('check:1', 60, 'k1', 'chat', 'r1');
UPDATE credits.accounts SET metadata = '{"seen": true}' WHERE name = 'check:1';
SELECT credits_digest() = :'before' AS same;

-- what only a superuser can do, with the triggers switched off, each time in
-- a transaction that is taken back
CREATE FUNCTION pg_temp.pack(numbers bigint[]) RETURNS bytea LANGUAGE plpgsql AS $$
DECLARE
	packed bytea := '';
	n bigint;
BEGIN
	FOREACH n IN ARRAY numbers LOOP
		n := CASE WHEN n < 0 THEN -2 * n - 1 ELSE 2 * n END;
		WHILE n > 127 LOOP
			packed := packed || set_byte('\x00', 0, (n % 128)::integer + 128);
			n := n / 128;
		END LOOP;
		packed := packed || set_byte('\x00', 0, n::integer);
	END LOOP;
	RETURN packed;
END
$$;
\set disable 'ALTER TABLE credits.accounts DISABLE TRIGGER ALL; ALTER TABLE credits.grants DISABLE TRIGGER ALL; ALTER TABLE credits.log_default DISABLE TRIGGER ALL;'
-- the log: each column that the chain covers
BEGIN; :disable
UPDATE credits.log_default SET amount = -6 WHERE id = 190004;
SELECT * FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET balance_after = 91 WHERE id = 190004;
SELECT * FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET held = 1 WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET held_after = 1 WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET kind_code = 'j' WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET created_at = created_at + interval '1 microsecond' WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET created_at = created_at - interval '1 microsecond' WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET target_id = 190001 WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET request = request + 1 WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
INSERT INTO credits.roles VALUES (-1, 'someone');
UPDATE credits.log_default SET role_id = -1 WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET idempotency_key = 'k2' WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET operation = 'image' WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET operation = NULL, reference = 'chat' WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET draws = NULL WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET draws = pg_temp.pack('{{190003,-50},{190001,-9}}') WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET reason = 'you are welcome' WHERE id = 190003;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET metadata = '{"a": 1}' WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET actor = 'someone' WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET salt = sha256('x') WHERE id = 190003;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET hash = sha256('x') WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
-- rows removed, added, given to another account
BEGIN; :disable
DELETE FROM credits.log_default WHERE id = 190004;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
DELETE FROM credits.log_default WHERE id = 190005;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
DELETE FROM credits.log_default WHERE id = 190001;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET account_id = 190002 WHERE id = 190005;
SELECT account, problem FROM credits_verify() ORDER BY account, transaction_id, problem;
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET account_id = 190999 WHERE id = 190005;
SELECT account, transaction_id, problem, detail FROM credits_verify() ORDER BY account, transaction_id, problem;
ROLLBACK;
BEGIN;
INSERT INTO credits.log_default (id, account_id, created_at, amount, held, balance_after,
	held_after, kind_code, role_id, hash)
VALUES (190099, 190001, '2030-01-01 00:00:00+00', 1000, 0, 1095, 0, 'a', 1, sha256('x'));
SELECT account, transaction_id, problem, detail FROM credits_verify('check:1');
ROLLBACK;
-- the account
BEGIN; :disable
UPDATE credits.accounts SET balance = balance + 1 WHERE name = 'check:1';
SELECT account, problem, detail FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.accounts SET held = held + 1 WHERE name = 'check:1';
SELECT account, problem, detail FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.accounts SET granted = granted + 1 WHERE name = 'check:1';
SELECT account, problem, detail FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.accounts SET spent = spent - 1 WHERE name = 'check:1';
SELECT account, problem, detail FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.accounts SET refunded = 0 WHERE name = 'check:1';
SELECT account, problem, detail FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.accounts SET expired = 1 WHERE name = 'check:1';
SELECT account, problem, detail FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.accounts SET transaction_count = transaction_count + 1 WHERE name = 'check:1';
SELECT account, problem, detail FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.accounts SET head = sha256('x') WHERE name = 'check:1';
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.accounts SET last_transaction_id = 190003 WHERE name = 'check:1';
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
DELETE FROM credits.accounts WHERE name = 'check:1';
SELECT account, transaction_id, problem, detail FROM credits_verify() ORDER BY account, transaction_id, problem;
ROLLBACK;
BEGIN;
INSERT INTO credits.accounts
SELECT 190999, 'check:forged', unit, status, metadata, limited, debt, created_at, alert_levels, alert_base, topup_below, due_at, base, granted,
	   refunded, expired, held, balance, spent, transaction_count, last_transaction_id, last_at, head
FROM credits.accounts WHERE name = 'check:1';
SELECT DISTINCT account, problem FROM credits_verify('check:forged') ORDER BY problem;
ROLLBACK;
-- the grants
BEGIN; :disable
UPDATE credits.grants SET remaining = remaining - 1 WHERE id = 190001;
SELECT account, problem, detail FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.grants SET amount = amount + 1 WHERE id = 190001;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.grants SET status = 'voided' WHERE id = 190001;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.grants SET account_id = 190002 WHERE id = 190001;
SELECT account, problem FROM credits_verify() ORDER BY account, problem;
ROLLBACK;
BEGIN; :disable
UPDATE credits.grants SET account_id = 190999 WHERE id = 190001;
SELECT account, problem, detail FROM credits_verify() ORDER BY account, problem;
ROLLBACK;
BEGIN; :disable
DELETE FROM credits.grants WHERE id = 190001;
SELECT account, problem, detail FROM credits_verify() ORDER BY account, problem;
ROLLBACK;
BEGIN;
INSERT INTO credits.grants
SELECT 190999, account_id, transaction_id, effective_at, expires_at, granted_until, amount, priority,
	   source, price, currency, status, remaining
FROM credits.grants WHERE id = 190001;
SELECT account, problem, detail FROM credits_verify('check:1');
ROLLBACK;

-- promises that are still to come
SELECT kind FROM credits_open_account('check:3');
SELECT balance FROM credits_allocate('check:3', 40, source => 'gift', expires_at => '2031-01-01', effective_at => '2030-06-01');
BEGIN; :disable
UPDATE credits.grants SET amount = 400, remaining = 400 WHERE account_id = 190003;
SELECT account, problem, detail FROM credits_verify('check:3');
ROLLBACK;
BEGIN; :disable
UPDATE credits.grants SET status = 'open' WHERE account_id = 190003;
SELECT account, problem, detail FROM credits_verify('check:3');
ROLLBACK;
-- an account that forgets what the clock will do to it
BEGIN; :disable
UPDATE credits.accounts SET due_at = 'infinity' WHERE name = 'check:3';
SELECT account, problem, detail FROM credits_verify('check:3');
ROLLBACK;
BEGIN; :disable
UPDATE credits.accounts SET due_at = '2030-06-01 00:00:00.000001+00' WHERE name = 'check:3';
SELECT account, problem, detail FROM credits_verify('check:3');
ROLLBACK;

-- the terms that grants were given on
BEGIN; :disable
UPDATE credits.grants SET expires_at = NULL WHERE account_id = 190003;
SELECT account, problem, detail FROM credits_verify('check:3');
UPDATE credits.grants SET expires_at = '2031-01-01', priority = 0 WHERE account_id = 190003;
SELECT account, problem, detail FROM credits_verify('check:3');
UPDATE credits.grants SET priority = 10, source = 'purchase', price = 1, currency = 'EUR' WHERE account_id = 190003;
SELECT account, problem, detail FROM credits_verify('check:3');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET terms = NULL WHERE id = 190003;
SELECT account, problem FROM credits_verify('check:1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.log_default SET draws = substr(draws, 1, length(draws) - 1) WHERE id = 190004;
SELECT account, transaction_id, problem FROM credits_verify('check:1');
ROLLBACK;
-- states that the log does not tell, or that there are not
BEGIN; :disable
UPDATE credits.accounts SET status = 'paused' WHERE name = 'check:1';
SELECT account, problem, detail FROM credits_verify('check:1');
UPDATE credits.accounts SET status = 'lost' WHERE name = 'check:1';
SELECT account, problem, detail FROM credits_verify('check:1');
SAVEPOINT s;
SELECT credits_deduct('check:1', 1);
\echo :SQLSTATE
ROLLBACK TO s;
ROLLBACK;
BEGIN; :disable
UPDATE credits.grants SET status = 'voided' WHERE id = 190003;
SELECT account, problem, detail FROM credits_verify('check:1');
UPDATE credits.grants SET status = 'lost' WHERE id = 190003;
SELECT account, problem, detail FROM credits_verify('check:1');
ROLLBACK;

-- no trace is left of all this
SELECT * FROM credits_verify();
SELECT balance FROM credits_deduct('check:1', 1);
SELECT * FROM credits_verify('check:1');
-- expired and unsettled is no problem
SET credits.test_clock = '2035-01-01 00:00:00+00';
SELECT * FROM credits_verify('check:1');
