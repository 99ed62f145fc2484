-- disputes: objecting to a spend, and what is decided about it
-- in a database of its own: what others do is none of its business
\set shared :DBNAME
CREATE DATABASE regress_disputes TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_disputes
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 815001;
ALTER SEQUENCE credits.grants_id_seq RESTART 815001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 815001;
ALTER SEQUENCE credits.events_id_seq RESTART 815001;
ALTER SEQUENCE credits.disputes_id_seq RESTART 815001;
SET credits.test_clock = '2245-01-01 00:00:00+00';

-- who may what
SELECT p.proname, array_agg(r.rolname ORDER BY r.rolname) AS roles
FROM pg_proc AS p JOIN pg_roles AS r ON has_function_privilege(r.oid, p.oid, 'EXECUTE')
WHERE p.proname ~ '^credits_.*dispute' AND r.rolname ~ '^credits_'
GROUP BY p.proname ORDER BY p.proname;

-- what happened, by its events
CREATE VIEW pg_temp.steps AS
SELECT kind, transaction_id, detail FROM credits.events WHERE kind LIKE 'dispute%' AND id >= 815001 ORDER BY id;
GRANT SELECT ON pg_temp.steps TO PUBLIC;

SELECT balance FROM credits_open_account('dis:1', 100);
SELECT transaction_id AS opening, balance FROM credits_open_account('dis:2', 50) \gset
SET ROLE regress_credits_app;
SET credits.actor = 'ada';
SELECT transaction_id AS s1 FROM credits_deduct('dis:1', 40) \gset
SELECT transaction_id AS s2 FROM credits_deduct('dis:1', 30) \gset
SELECT transaction_id AS s3 FROM credits_deduct('dis:1', 10) \gset

-- all that can still be refunded, or some of it; a retry gets the same one
SELECT balance FROM credits_refund(:s1, 5);
SELECT * FROM credits_open_dispute('dis:1', :s1, 'duplicate', 'I pressed it once.', idempotency_key => 'd1');
SELECT dispute_id, requested, replayed FROM credits_open_dispute('dis:1', :s1, 'other', idempotency_key => 'd1');
SELECT * FROM credits_open_dispute('dis:1', :s2, 'not_received', requested => 20);
SELECT * FROM credits_open_dispute('dis:1', :s3, 'unauthorized');

-- another request with the key, one already open, more than there is, not a spend, not one's own
SELECT credits_open_dispute('dis:1', :s2, 'duplicate', idempotency_key => 'd1');
SELECT credits_open_dispute('dis:1', :s1, 'duplicate', requested => 35, idempotency_key => 'd1');
SELECT credits_open_dispute('dis:1', :s1, 'duplicate');
SELECT transaction_id AS s4 FROM credits_deduct('dis:1', 5) \gset
SELECT credits_open_dispute('dis:1', :s4, 'duplicate', requested => 6);
SELECT balance FROM credits_refund(:s4);
SELECT credits_open_dispute('dis:1', :s4, 'duplicate');
SELECT credits_open_dispute('dis:2', :opening, 'duplicate');
SELECT credits_open_dispute('dis:2', :s1, 'duplicate');
SELECT credits_open_dispute('dis:none', :s1, 'duplicate');
\set VERBOSITY sqlstate
SELECT credits_open_dispute('dis:1', :s1, 'boredom');
SELECT credits_open_dispute('dis:1', :s1, NULL);
SELECT credits_open_dispute('dis:1', :s1, 'other', '');
SELECT credits_open_dispute('dis:1', :s1, 'other', repeat('x', 4001));
SELECT credits_open_dispute('dis:1', :s1, 'other', requested => 0);
SELECT credits_open_dispute('dis:1', :s1, 'other', requested => -1);
SELECT credits_open_dispute('dis:1', :s1, 'other', idempotency_key => '');
SELECT credits_open_dispute('dis:1', 999999999, 'other');
SELECT credits_resolve_dispute(815001, 1);
SELECT credits_assign_dispute(815001);
SELECT * FROM credits_dispute_queue();
SELECT * FROM credits_dispute_statistics();
SELECT * FROM credits.disputes;
\set VERBOSITY default

-- its own list
SELECT dispute_id, transaction_id, reason, description, requested, status, refunded, note FROM credits_disputes('dis:1');
SELECT dispute_id FROM credits_disputes('dis:1', 1, before_id => 815003);
SELECT dispute_id FROM credits_disputes('dis:2');

-- withdrawn by the account only, once
SELECT credits_withdraw_dispute('dis:2', 815003);
SELECT credits_withdraw_dispute('dis:1', 999);
RESET ROLE;
SET credits.test_clock = '2245-01-02 00:00:00+00';
SET ROLE regress_credits_app;
SELECT * FROM credits_withdraw_dispute('dis:1', 815003);
SELECT dispute_id, status, replayed FROM credits_withdraw_dispute('dis:1', 815003);
-- and disputed again
SELECT dispute_id, status FROM credits_open_dispute('dis:1', :s3, 'unauthorized', 'Really.');

-- reviewed by somebody, then by somebody else
RESET ROLE;
SET ROLE regress_credits_admin;
SET credits.actor = 'grace';
SET credits.test_clock = '2245-01-03 00:00:00+00';
SELECT * FROM credits_assign_dispute(815001);
SELECT dispute_id, status, assignee, replayed FROM credits_assign_dispute(815001);
SELECT dispute_id, status, assignee, replayed FROM credits_assign_dispute(815001, 'linus');
SELECT dispute_id, status, assignee, replayed FROM credits_assign_dispute(815004, 'linus');
SELECT credits_assign_dispute(815003);
\set VERBOSITY sqlstate
SELECT credits_assign_dispute(815001, '');
SELECT credits_assign_dispute(815001, repeat('x', 256));
SELECT credits_assign_dispute(NULL);
SELECT credits_assign_dispute(999);
\set VERBOSITY default

-- the queue
SELECT dispute_id, account, status, assignee, requested, opened_at, age, overdue FROM credits_dispute_queue();
SELECT dispute_id FROM credits_dispute_queue(max_rows => 1, after_id => 815001);
SELECT dispute_id FROM credits_dispute_queue('{open}');
SELECT dispute_id FROM credits_dispute_queue(reason => 'unauthorized');
SELECT dispute_id FROM credits_dispute_queue(NULL, 'unauthorized', account => 'dis:1');
SELECT dispute_id FROM credits_dispute_queue(assignee => 'linus');
SELECT dispute_id FROM credits_dispute_queue(assignee => 'linus', older_than => '2 days');
SELECT dispute_id FROM credits_dispute_queue(assignee => 'linus', account => 'dis:1', reason => 'duplicate');
SELECT dispute_id FROM credits_dispute_queue(account => 'dis:2');
SELECT dispute_id FROM credits_dispute_queue('{none}');
\set VERBOSITY sqlstate
SELECT dispute_id FROM credits_dispute_queue(account => 'dis:none');
SELECT dispute_id FROM credits_dispute_queue(after_id => 1);
SELECT dispute_id FROM credits_dispute_queue(max_rows => 0);
SELECT dispute_id FROM credits_dispute_queue(max_rows => 1001);
\set VERBOSITY default

-- decided: wholly, in part, not at all
SELECT credits_resolve_dispute(815001, 36);
\set VERBOSITY sqlstate
SELECT credits_resolve_dispute(815001, -1);
SELECT credits_resolve_dispute(815001, NULL);
SELECT credits_resolve_dispute(815001, 1, '');
SELECT credits_resolve_dispute(999, 1);
\set VERBOSITY default
SELECT * FROM credits_resolve_dispute(815001, 35, 'We are sorry.');
SELECT * FROM credits_resolve_dispute(815002, 12);
SELECT * FROM credits_resolve_dispute(815004, 0, 'It was you.');
SELECT credits_balance('dis:1');
SELECT id, kind, amount, target_id, reason, actor FROM credits.transactions WHERE target_id IN (:s1, :s2, :s3) ORDER BY id;
-- again: the same, or refused
SELECT dispute_id, status, refunded, refund_id, replayed FROM credits_resolve_dispute(815001, 35, 'Sorry again.');
SELECT dispute_id, status, refunded, refund_id, replayed FROM credits_resolve_dispute(815004, 0);
SELECT credits_resolve_dispute(815001, 34);
SELECT credits_resolve_dispute(815001, 0);
SELECT credits_resolve_dispute(815003, 0);
SELECT credits_withdraw_dispute('dis:1', 815001);
SELECT credits_balance('dis:1');
SELECT dispute_id, status, refunded, note, ended_at FROM credits_disputes('dis:1');
TABLE pg_temp.steps;
SELECT dispute_id, account, status, assignee, decided_by, age FROM credits_dispute_queue(NULL);

-- refunded by somebody else meanwhile: what is left can be granted
SELECT transaction_id AS s5 FROM credits_deduct('dis:2', 30) \gset
SELECT dispute_id AS d5 FROM credits_open_dispute('dis:2', :s5, 'wrong_amount') \gset
SELECT balance FROM credits_refund(:s5, 20);
SELECT credits_resolve_dispute(:d5, 30);
SELECT status, refunded FROM credits_resolve_dispute(:d5, 10);
SELECT transaction_id AS s6 FROM credits_deduct('dis:2', 10) \gset
SELECT dispute_id AS d6 FROM credits_open_dispute('dis:2', :s6, 'other') \gset
SELECT balance FROM credits_refund(:s6);
SELECT credits_resolve_dispute(:d6, 1);
SELECT status, refunded FROM credits_resolve_dispute(:d6, 0, 'You have it back already.');

-- a grant that has expired: the refund's rules hold
SELECT balance FROM credits_open_account('dis:3');
SELECT balance FROM credits_allocate('dis:3', 20, expires_at => '2245-01-10 00:00:00+00');
SELECT transaction_id AS s7 FROM credits_deduct('dis:3', 20) \gset
SELECT dispute_id AS d7 FROM credits_open_dispute('dis:3', :s7, 'other') \gset
SET credits.test_clock = '2245-02-01 00:00:00+00';
SELECT status, refunded FROM credits_resolve_dispute(:d7, 20);
SELECT amount, remaining, expires_at FROM credits.grants WHERE account_id = credits.account_id('dis:3');

-- a paused account can dispute and is refunded; a closed one can be answered only
SELECT transaction_id AS s8 FROM credits_deduct('dis:3', 5) \gset
SELECT transaction_id AS s9 FROM credits_deduct('dis:3', 4) \gset
SELECT kind FROM credits_pause_account('dis:3', 'fraud');
SELECT dispute_id AS d8 FROM credits_open_dispute('dis:3', :s8, 'other') \gset
SELECT dispute_id AS d9 FROM credits_open_dispute('dis:3', :s9, 'other') \gset
SELECT status, refunded FROM credits_resolve_dispute(:d8, 2);
SELECT kind FROM credits_close_account('dis:3', 'left');
SELECT credits_open_dispute('dis:3', :s8, 'other');
SELECT credits_resolve_dispute(:d9, 4);
SELECT status FROM credits_assign_dispute(:d9);
SELECT status FROM credits_resolve_dispute(:d9, 0);

-- too late to be refunded
SELECT transaction_id AS s10 FROM credits_deduct('dis:1', 4) \gset
SELECT dispute_id AS d10 FROM credits_open_dispute('dis:1', :s10, 'other') \gset
RESET ROLE;
SET credits.refund_window = '1 day';
SET credits.test_clock = '2245-02-03 00:00:00+00';
SET ROLE regress_credits_admin;
SELECT credits_resolve_dispute(:d10, 4);
SELECT credits_open_dispute('dis:1', :s10, 'other');
SELECT status FROM credits_resolve_dispute(:d10, 0);
RESET ROLE;
RESET credits.refund_window;
SET ROLE regress_credits_admin;

-- a pool: its own spends, and by its members those they made; the pool's part of a split
-- spend is given back first
SELECT balance FROM credits_open_account('dis:pool', 100);
SELECT balance FROM credits_open_account('dis:m', 10);
SELECT balance FROM credits_open_account('dis:n', 10);
SELECT kind FROM credits_add_member('dis:pool', 'dis:m');
SELECT kind FROM credits_add_member('dis:pool', 'dis:n');
SELECT transaction_id AS s11 FROM credits_deduct('dis:m', 25, pool => 'dis:pool') \gset
SELECT transaction_id AS s12 FROM credits_deduct('dis:m', 30, pool => 'dis:pool', mode => 'own_first') \gset
SELECT credits_open_dispute('dis:n', :s11, 'other');
SELECT dispute_id AS d11, account, requested FROM credits_open_dispute('dis:m', :s11, 'other', idempotency_key => 'd1') \gset
SELECT credits_open_dispute('dis:pool', :s11, 'other');
SELECT credits_withdraw_dispute('dis:pool', :d11);
SELECT status FROM credits_withdraw_dispute('dis:m', :d11);
SELECT account, requested, dispute_id AS d12 FROM credits_open_dispute('dis:pool', :s11, 'other') \gset
SELECT account, status, refunded FROM credits_resolve_dispute(:d12, 25);
SELECT account, requested, dispute_id AS d13 FROM credits_open_dispute('dis:m', :s12, 'other') \gset
SELECT account, requested, status, refunded FROM credits_resolve_dispute(:d13, 25);
SELECT credits_balance('dis:pool'), credits_balance('dis:m');

-- overdue, announced once
SELECT transaction_id AS s14 FROM credits_deduct('dis:1', 6) \gset
SELECT dispute_id AS d14 FROM credits_open_dispute('dis:1', :s14, 'other') \gset
CALL credits_warn();
RESET ROLE;
SET credits.dispute_deadline = '3 days';
SET ROLE regress_credits_admin;
CALL credits_warn();
RESET ROLE;
SET credits.test_clock = '2245-02-06 00:00:01+00';
SET ROLE regress_credits_admin;
SELECT behind FROM credits.jobs WHERE job = 'credits_warn';
CALL credits_warn();
CALL credits_warn();
SELECT behind FROM credits.jobs WHERE job = 'credits_warn';
SELECT dispute_id = :d14 AS this, overdue FROM credits_dispute_queue();
SELECT detail - 'dispute_id' - 'transaction_id' AS detail, (detail ->> 'dispute_id')::bigint = :d14 AS this
FROM pg_temp.steps WHERE kind = 'dispute_overdue';
SELECT status FROM credits_resolve_dispute(:d14, 6);
CALL credits_warn();
RESET ROLE;
RESET credits.dispute_deadline;
SET ROLE regress_credits_auditor;

-- figures, as a sum over the rows
SELECT reason, decided_by, disputes, resolved, resolved_in_part AS part, rejected, withdrawn, requested, refunded, share,
	median_time, p90_time, overdue FROM credits_dispute_statistics('2245-01-01', '2245-03-01');
SELECT disputes FROM credits_dispute_statistics('2300-01-01');
SELECT s.disputes = count(*) AND s.requested = sum(d.requested) AND s.refunded = sum(d.refunded) AS sums
FROM credits_dispute_statistics('2245-01-01') AS s, credits.disputes AS d
WHERE s.reason IS NULL AND s.decided_by IS NULL AND d.ended_at >= '2245-01-01' GROUP BY s.disputes, s.requested, s.refunded;
\set VERBOSITY sqlstate
SELECT credits_resolve_dispute(815001, 1);
SELECT credits_open_dispute('dis:1', :s1, 'other');
SELECT credits_erase_dispute(815001);
\set VERBOSITY default

-- what people wrote is in the rows, and nowhere else; it can be erased, and then the key is free
RESET ROLE;
SELECT count(*) FROM credits.events WHERE detail::text ~ 'pressed|sorry|grace|linus';
SELECT count(*) FROM credits.log WHERE reason ~ 'pressed|sorry';
SET ROLE regress_credits_admin;
SELECT credits_erase_dispute(815001);
SELECT credits_erase_dispute(815001);
SELECT description, note, idempotency_key, request, actor, requested, refunded, decided_by FROM credits.disputes WHERE id = 815001;
SELECT credits_erase_dispute(999);
SELECT dispute_id > 815001 AS another, replayed FROM credits_open_dispute('dis:1', :s2, 'duplicate', idempotency_key => 'd1');

-- with the person who has the account, too
SELECT item ->> 'status' AS status, item ? 'assignee' AS assignee, item ? 'actor' AS actor
FROM credits_export_person('dis:m') WHERE place = 'disputes' ORDER BY item ->> 'id';
SELECT credits.account_id('dis:m') AS m \gset
CALL credits_erase_person('dis:m', 'asked');
SELECT status, requested, refunded, num_nonnulls(description, note, idempotency_key, request, actor) AS texts
FROM credits.disputes WHERE account_id = :m ORDER BY id;

-- nobody changes them directly
RESET ROLE;
\set VERBOSITY sqlstate
UPDATE credits.disputes SET refunded = 0;
DELETE FROM credits.disputes;
TRUNCATE credits.disputes;
\set VERBOSITY default
SELECT * FROM credits_verify() WHERE account LIKE 'dis:%';

-- and if somebody does nevertheless, it is found
BEGIN;
ALTER TABLE credits.disputes DISABLE TRIGGER ALL;
ALTER TABLE credits.disputes DROP CONSTRAINT disputes_amounts;
UPDATE credits.disputes SET refunded = refunded - 1, status = 'resolved_in_part' WHERE id = 815001;
UPDATE credits.disputes SET refunded = requested WHERE id = 815002;
UPDATE credits.disputes SET transaction_id = :s5 WHERE id = 815003;
UPDATE credits.disputes SET refund_id = :s1 WHERE id = :d5;
UPDATE credits.disputes SET transaction_id = :opening, account_id = credits.account_id('dis:2') WHERE id = :d6;
UPDATE credits.disputes SET account_id = 1000000000 WHERE id = :d7;
UPDATE credits.disputes SET refund_id = 1000000000 WHERE id = :d8;
-- as if the index were damaged
SET LOCAL allow_system_table_mods = on;
UPDATE pg_index SET indisunique = false WHERE indexrelid = 'credits.disputes_transaction_id_idx'::regclass;
INSERT INTO credits.disputes (id, account_id, transaction_id, requested, refunded, opened_at, status, reason, role)
SELECT 1, account_id, transaction_id, 1, 0, opened_at, 'open', 'other', 'x' FROM credits.disputes WHERE ended_at IS NULL AND id >= 815001;
UPDATE pg_index SET indisunique = true WHERE indexrelid = 'credits.disputes_transaction_id_idx'::regclass;
SELECT account, transaction_id, problem, detail FROM credits_verify() WHERE problem = 'dispute' ORDER BY detail;
ROLLBACK;

RESET ROLE;
\c :shared
DROP DATABASE regress_disputes;
