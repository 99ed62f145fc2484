-- corrections: one correction of many accounts, previewed, and applied by a token
-- in a database of its own: what others do is none of its business
\set shared :DBNAME
CREATE DATABASE regress_corrections TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_corrections
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set SHOW_CONTEXT never
ALTER SEQUENCE credits.accounts_id_seq RESTART 801001;
ALTER SEQUENCE credits.grants_id_seq RESTART 801001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 801001;
ALTER SEQUENCE credits.corrections_id_seq RESTART 801;
SET credits.test_clock = '2246-01-01 00:00:00+00';

-- who may what
SELECT p.proname, array_agg(r.rolname ORDER BY r.rolname) AS roles
FROM pg_proc AS p JOIN pg_roles AS r ON has_function_privilege(r.oid, p.oid, 'EXECUTE')
WHERE p.proname ~ '^credits_.*correction' AND r.rolname ~ '^credits_'
GROUP BY p.proname ORDER BY p.proname;

CREATE VIEW posted AS
SELECT a.name, t.id, t.kind, t.amount, t.balance_after, t.target_id, t.reason, t.actor
FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE t.kind IN ('adjustment', 'expiration', 'clawback', 'debt_payment', 'close') ORDER BY t.id;
CREATE VIEW corrections AS
SELECT c.id, c.delta, c.accounts AS n, c.accepted, c.balance_before AS before, c.balance_after AS after, c.status,
	(SELECT a.name FROM credits.accounts AS a WHERE a.id = c.refused_id) AS refused, c.refusal, c.role = session_user AS role,
	c.applied_role = session_user AS applied_role, c.reason, c.actor, c.applied_actor, c.expires_at, c.applied_at, c.ended_at
FROM credits.corrections AS c ORDER BY c.id;
GRANT SELECT ON posted, corrections TO PUBLIC;

SELECT count(credits_open_account('cor:' || n, 100)) FROM generate_series(1, 6) AS n;
SELECT kind FROM credits_pause_account('cor:2', 'paused');
SELECT kind FROM credits_close_account('cor:3', 'closed');
SELECT balance FROM credits_deduct('cor:4', 95);
SELECT balance FROM credits_allocate('cor:5', 50, expires_at => '2246-01-02 00:00:00+00');
SET ROLE regress_credits_admin;

-- arguments
\set VERBOSITY sqlstate
SELECT credits_preview_correction(NULL, 1, 'reason');
SELECT credits_preview_correction('{}', 1, 'reason');
SELECT credits_preview_correction('{{cor:1},{cor:2}}', 1, 'reason');
SELECT credits_preview_correction('{cor:1,NULL}', 1, 'reason');
SELECT credits_preview_correction('{cor:1,""}', 1, 'reason');
SELECT credits_preview_correction('{cor:1,cor:2,cor:1}', 1, 'reason');
SELECT credits_preview_correction(ARRAY(SELECT 'cor:' || n FROM generate_series(1, 100001) AS n), 1, 'reason');
SELECT credits_preview_correction('{cor:1}', NULL, 'reason');
SELECT credits_preview_correction('{cor:1}', 0, 'reason');
SELECT credits_preview_correction('{cor:1}', -9223372036854775808, 'reason');
SELECT credits_preview_correction('{cor:1}', 1, NULL);
SELECT credits_preview_correction('{cor:1}', 1, '');
SELECT credits_preview_correction('{cor:1}', 1, repeat('x', 1001));
BEGIN READ ONLY;
SELECT credits_preview_correction('{cor:1}', 1, 'reason');
ROLLBACK;
BEGIN READ ONLY;
CALL credits_apply_correction('token');
ROLLBACK;
CALL credits_apply_correction(NULL);
CALL credits_apply_correction('');
CALL credits_apply_correction('token');
SELECT credits_correction_items(1, max_rows => 0);
\set VERBOSITY default
SELECT credits_preview_correction('{cor:1,cor:2,cor:1}', 1, 'reason');
SELECT count(*) FROM credits.corrections;

-- a preview changes nothing; accounts as they are once they are settled
SET credits.actor = 'ada';
SET credits.test_clock = '2246-01-02 00:00:00+00';
SELECT * FROM credits_preview_correction('{cor:6,nobody,cor:5,cor:4,cor:3,cor:2,cor:1,anybody}', -20, 'outage') \gset
\echo :correction_id :named :accepted :refused :credits :balance_before :balance_after :expires_at
SELECT length(:'token') AS token;
SELECT * FROM credits_correction_items(:correction_id);
SELECT number, account FROM credits_correction_items(:correction_id, refused_only => true, after_number => 3, max_rows => 2);
SELECT count(*) FROM posted WHERE kind = 'adjustment';
TABLE corrections;

-- applied, by somebody else; balances may have changed
SELECT balance FROM credits_deduct('cor:1', 80);
SELECT balance FROM credits_allocate('cor:4', 1);
SET credits.actor = 'grace';
CALL credits_apply_correction(:'token');
TABLE posted;
SELECT number, account, balance_after, code, transaction_id, reverted_id FROM credits_correction_items(:correction_id);
SELECT credits_balance('cor:1') AS "1", credits_balance('cor:2') AS "2", credits_balance('cor:3') AS "3",
	credits_balance('cor:4') AS "4", credits_balance('cor:5') AS "5", credits_balance('cor:6') AS "6";
SELECT id, status, role, applied_role, actor, applied_actor, applied_at, ended_at FROM corrections;
-- once
SET credits.actor = '';
CALL credits_apply_correction(:'token');
BEGIN;
CALL credits_apply_correction(:'token');
COMMIT;
SELECT count(*) FROM posted WHERE kind = 'adjustment';

-- moved: refused now, or possible now; and back
SELECT token AS t1 FROM credits_preview_correction('{cor:1,cor:2,cor:4,somebody}', -10, 'again') \gset
SELECT balance FROM credits_deduct('cor:6', 75);
SELECT token AS t2 FROM credits_preview_correction('{cor:6,cor:5}', -5, 'last') \gset
SELECT balance FROM credits_deduct('cor:6', 1);
CALL credits_apply_correction(:'t2');
\echo :SQLSTATE
BEGIN;
CALL credits_apply_correction(:'t2');
\echo :SQLSTATE
ROLLBACK;
SELECT balance FROM credits_allocate('cor:1', 10);
CALL credits_apply_correction(:'t1');
\echo :SQLSTATE
SELECT status, refusal, applied_at FROM corrections WHERE status <> 'applied';
SELECT balance FROM credits_allocate('cor:6', 1);
CALL credits_apply_correction(:'t2');
SELECT token FROM credits_preview_correction('{cor:1,somebody}', 1, 'opened') \gset
SELECT balance FROM credits_open_account('somebody', 1);
CALL credits_apply_correction(:'token');
\echo :SQLSTATE

-- too late: nothing can be done with it but to delete it
SET credits.test_clock = '2246-01-03 00:00:00+00';
CALL credits_apply_correction(:'token');
\echo :SQLSTATE
CALL credits_housekeep(1);
SELECT id, status FROM corrections;
SELECT correction_id, count(*) FROM credits.correction_items GROUP BY correction_id ORDER BY correction_id;
CALL credits_apply_correction(:'token');
\echo :SQLSTATE

-- inside a transaction block all at once, with the transaction
SELECT token FROM credits_preview_correction('{cor:1,cor:2}', 15, 'together') \gset
BEGIN;
CALL credits_apply_correction(:'token');
SELECT name, amount, reason FROM posted ORDER BY id DESC LIMIT 2;
ROLLBACK;
SELECT status FROM corrections ORDER BY id DESC LIMIT 1;
BEGIN;
CALL credits_apply_correction(:'token');
COMMIT;
SELECT status, applied_at = ended_at AS at_once FROM corrections ORDER BY id DESC LIMIT 1;
-- there is nobody to be corrected
SELECT token FROM credits_preview_correction('{cor:3,nobody}', 1, 'none') \gset
CALL credits_apply_correction(:'token');
SELECT token FROM credits_preview_correction('{cor:3,nobody}', 1, 'none') \gset
BEGIN;
CALL credits_apply_correction(:'token');
COMMIT;
-- too many for one transaction
RESET ROLE;
SELECT count(credits_open_account('many:' || n)) FROM generate_series(1, 10001) AS n;
SET ROLE regress_credits_admin;
SELECT token FROM credits_preview_correction(ARRAY(SELECT 'many:' || n FROM generate_series(1, 10001) AS n), 1, 'many') \gset
BEGIN;
CALL credits_apply_correction(:'token');
\echo :SQLSTATE
ROLLBACK;
SET default_transaction_isolation = 'repeatable read';
CALL credits_apply_correction(:'token');
RESET default_transaction_isolation;
SELECT sum(credits_balance('many:' || n)) FROM generate_series(1, 10001) AS n;
SELECT count(*), count(DISTINCT account_id), sum(amount) FROM credits.transactions WHERE kind = 'adjustment' AND reason = 'many';

-- out of range; a debt that the credits pay
SELECT balance FROM credits_open_account('cor:max', 9223372036854775800);
SELECT correction_id FROM credits_preview_correction('{cor:1,cor:max}', 10, 'range') \gset
SELECT number, account, balance_after, code, message FROM credits_correction_items(:correction_id);
SELECT credits_set_package('pack', 10, 1, 'EUR') IS NOT NULL AS package;
SELECT purchase_id FROM credits_start_purchase('cor:6', 'pack') \gset
SELECT count(*) FROM credits_complete_purchase(:purchase_id, 'pay', 1);
SELECT balance FROM credits_deduct('cor:6', 10);
SELECT count(*) FROM credits_refund_purchase(:purchase_id);
SELECT balance, debt FROM credits.accounts WHERE name = 'cor:6';
RESET ROLE;
SET credits.debt_payment = 'any';
SET ROLE regress_credits_admin;
SELECT token, balance_before, balance_after FROM credits_preview_correction('{cor:6}', 20, 'debt') \gset
\echo :balance_before :balance_after
CALL credits_apply_correction(:'token');
SELECT balance, debt FROM credits.accounts WHERE name = 'cor:6';
RESET ROLE;
RESET credits.debt_payment;
RESET ROLE;

-- what spends, or closes, an account while others are being corrected: as if by another session
CREATE TABLE meanwhile (account text, call text);
GRANT ALL ON meanwhile TO PUBLIC;
CREATE FUNCTION do_meanwhile() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE c text;
BEGIN
	IF NEW.kind_code = 'j' THEN
		DELETE FROM meanwhile WHERE credits.account_id(account) = NEW.account_id RETURNING call INTO c;
		IF FOUND THEN EXECUTE c; END IF;
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER meanwhile AFTER INSERT ON credits.log FOR EACH ROW EXECUTE FUNCTION do_meanwhile();

-- spent when its turn comes: what was taken goes back to the grants it came from, and
-- expires if they have
SELECT count(credits_open_account('rev:' || n, 10)) FROM generate_series(1, 5) AS n;
SELECT balance FROM credits_allocate('rev:1', 5, priority => 1);
SELECT balance FROM credits_allocate('rev:2', 5, priority => 1, expires_at => '2246-02-01 00:00:00+00');
SELECT kind FROM credits_pause_account('rev:3', 'paused');
SELECT token, correction_id FROM credits_preview_correction('{rev:1,rev:2,rev:3,rev:4,rev:5}', -8, 'revert') \gset
INSERT INTO meanwhile VALUES ('rev:1', $$SELECT credits_deduct('rev:4', 3)$$),
	('rev:3', $$SELECT credits_close_account('rev:2', 'left'), set_config('credits.test_clock', '2246-03-01 00:00:00+00', false)$$);
CALL credits_apply_correction(:'token');
\echo :SQLSTATE
SELECT name, kind, amount, balance_after, target_id IS NOT NULL AS undoes, reason FROM posted WHERE name LIKE 'rev:%';
SELECT account, code, transaction_id IS NOT NULL AS posted, reverted_id IS NOT NULL AS reverted FROM credits_correction_items(:correction_id);
SELECT a.name, g.amount, g.remaining, g.status FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id
WHERE a.name LIKE 'rev:%' ORDER BY g.account_id, g.id;
SELECT status, refused, refusal, ended_at FROM corrections WHERE id = :correction_id;
CALL credits_apply_correction(:'token');
\echo :SQLSTATE

-- what was given and spent already is owed
SELECT count(credits_open_account('giv:' || n, 10)) FROM generate_series(1, 3) AS n;
SELECT token, correction_id FROM credits_preview_correction('{giv:1,giv:2,giv:3}', 8, 'give') \gset
INSERT INTO meanwhile VALUES ('giv:1', $$SELECT credits_deduct('giv:1', 15)$$), ('giv:2', $$SELECT credits_allocate('giv:3', 9223372036854775795)$$);
CALL credits_apply_correction(:'token');
\echo :SQLSTATE
SELECT name, kind, amount, balance_after, reason FROM posted WHERE name LIKE 'giv:%';
SELECT a.name, a.balance, a.debt FROM credits.accounts AS a WHERE a.name LIKE 'giv:%' ORDER BY a.id;
SELECT status, refused, refusal FROM corrections WHERE id = :correction_id;

-- closed when its turn comes: it was accepted, and is corrected
SELECT count(credits_open_account('clo:' || n, 10)) FROM generate_series(1, 3) AS n;
SELECT token FROM credits_preview_correction('{clo:1,clo:2,clo:3}', -4, 'close') \gset
INSERT INTO meanwhile VALUES ('clo:1', $$SELECT credits_close_account('clo:2', 'left')$$);
CALL credits_apply_correction(:'token');
SELECT name, kind, amount, balance_after, reason FROM posted WHERE name LIKE 'clo:%';
-- but not in one transaction, where nothing else can happen
SELECT token FROM credits_preview_correction('{clo:1,clo:3}', -4, 'close') \gset
INSERT INTO meanwhile VALUES ('clo:1', $$SELECT credits_close_account('clo:3', 'left')$$);
BEGIN;
CALL credits_apply_correction(:'token');
\echo :SQLSTATE
ROLLBACK;

-- an error of somebody's trigger refuses the account, and everything
TRUNCATE meanwhile;
SELECT count(credits_open_account('err:' || n, 10)) FROM generate_series(1, 150) AS n;
SELECT token, correction_id FROM credits_preview_correction(ARRAY(SELECT 'err:' || n FROM generate_series(1, 150) AS n), -1, 'error') \gset
\set err :correction_id
INSERT INTO meanwhile VALUES ('err:120', 'SELECT 1 / 0');
CALL credits_apply_correction(:'token');
\echo :SQLSTATE
SELECT status, refused, refusal FROM corrections WHERE id = :correction_id;
SELECT count(transaction_id), count(reverted_id) FROM credits.correction_items WHERE correction_id = :correction_id;
SELECT count(*) FROM credits.accounts WHERE name LIKE 'err:%' AND balance <> 10;

-- an error that is not the account's leaves it to be continued: by a job, here
TRUNCATE meanwhile;
SELECT token, correction_id FROM credits_preview_correction(ARRAY(SELECT 'err:' || n FROM generate_series(1, 150) AS n), -1, 'stop') \gset
INSERT INTO meanwhile VALUES ('err:120', $$SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(1)$$);
CALL credits_apply_correction(:'token');
\echo :SQLSTATE
SELECT status, ended_at FROM corrections WHERE id = :correction_id;
SELECT count(transaction_id) FROM credits.correction_items WHERE correction_id = :correction_id;
SELECT * FROM credits_verify();
BEGIN;
CALL credits_apply_correction(:'token');
\echo :SQLSTATE
ROLLBACK;
TRUNCATE meanwhile;
SET ROLE regress_credits_admin;
CALL credits_housekeep();
SELECT status FROM corrections WHERE id = :correction_id;
CALL credits_apply_correction(:'token');
SELECT count(*), sum(balance) FROM credits.accounts WHERE name LIKE 'err:%';

-- with a person: the reason of a correction of that account alone, and names of nobody
SELECT token FROM credits_preview_correction('{err:1}', 2, 'Ann has complained') \gset
CALL credits_apply_correction(:'token');
SELECT place, item ->> 'reason' AS reason, item ? 'token' AS token, item ->> 'transaction_id' IS NOT NULL AS transaction
FROM credits_export_person('err:1') WHERE place IN ('corrections', 'correction_items') ORDER BY place, item ->> 'number', item ->> 'correction_id';
SELECT count(*) FROM credits_preview_correction('{err:1,late}', 2, 'both');
SELECT kind FROM credits_open_account('late', 1);
SELECT credits.account_id('err:1') AS ann, credits.account_id('late') AS late \gset
CALL credits_erase_person('err:1', 'asked');
CALL credits_erase_person('late', 'asked');
SELECT c.reason, c.accounts, i.name ~ '^erased:' AS erased FROM credits.corrections AS c JOIN credits.correction_items AS i ON i.correction_id = c.id
WHERE i.account_id = :ann OR i.name IS NOT NULL AND c.accounts = 2 AND c.accepted = 1 ORDER BY c.id, i.number;

-- nobody changes them directly
RESET ROLE;
\set VERBOSITY sqlstate
UPDATE credits.corrections SET delta = 1;
DELETE FROM credits.correction_items;
TRUNCATE credits.corrections, credits.correction_items;
SET ROLE regress_credits_auditor;
SELECT credits_preview_correction('{cor:1}', 1, 'reason');
CALL credits_apply_correction('token');
SELECT count(*) FROM credits_correction_items(801);
SET ROLE regress_credits_app;
SELECT credits_correction_items(801);
SELECT count(*) FROM credits.corrections;
RESET ROLE;
\set VERBOSITY default
SELECT * FROM credits_verify();

-- and if somebody does nevertheless, it is found
BEGIN;
ALTER TABLE credits.corrections DISABLE TRIGGER ALL;
ALTER TABLE credits.correction_items DISABLE TRIGGER ALL;
UPDATE credits.correction_items SET transaction_id = NULL WHERE correction_id = 801 AND number = 1;
UPDATE credits.correction_items SET reverted_id = transaction_id WHERE correction_id = 801 AND number = 2;
UPDATE credits.correction_items SET transaction_id = transaction_id - 1 WHERE correction_id = 801 AND number = 5;
UPDATE credits.correction_items SET transaction_id = NULL, reverted_id = NULL WHERE correction_id = :err AND number = 1;
UPDATE credits.correction_items SET reverted_id = NULL WHERE correction_id = :err AND number = 2;
UPDATE credits.corrections SET accepted = accepted - 1 WHERE id = 801;
INSERT INTO credits.correction_items (correction_id, number, name, code) VALUES (1, 1, 'nobody', 'PT404');
SELECT account, transaction_id, problem, detail FROM credits_verify() ORDER BY detail;
ROLLBACK;

\c :shared
DROP DATABASE regress_corrections;
