-- batch: many spends, or many grants, in one call
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 520001;
ALTER SEQUENCE credits.grants_id_seq RESTART 520001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 520001;
ALTER SEQUENCE credits.events_id_seq RESTART 520001;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SET ROLE regress_credits_admin;
SELECT account, balance FROM unnest(ARRAY['batch:1', 'batch:2', 'batch:3']) AS name,
	LATERAL credits_open_account(name, 100);

-- what became of an item, and what to look at after
\set outcome 'item, ok, code, (receipt).transaction_id AS id, (receipt).account, (receipt).kind, (receipt).amount, (receipt).balance, (receipt).replayed'
\set refusal 'item, code, message, detail, hint'
-- what a transaction has written: the counters may have some of those before
\set count 'pg_stat_get_xact_tuples_updated(''credits.accounts''::regclass) AS accounts, pg_stat_get_xact_tuples_updated(''credits.grants''::regclass) AS grants, pg_stat_get_xact_tuples_inserted(''credits.log_default''::regclass) AS transactions'
\set written 'pg_stat_get_xact_tuples_updated(''credits.accounts''::regclass) - :accounts AS accounts, pg_stat_get_xact_tuples_updated(''credits.grants''::regclass) - :grants AS grants, pg_stat_get_xact_tuples_inserted(''credits.log_default''::regclass) - :transactions AS transactions'

-- receipts come in the order of the items, accounts are changed in that of their ids
SET ROLE regress_credits_app;
SELECT * FROM credits_deduct_many(ARRAY[('batch:3', 30, 'k3', 'chat', 'r3', '{"n": 3}'),
	('batch:1', 10, 'k1', NULL, NULL, NULL)]::credits.deduction[]);
SELECT :outcome FROM credits_deduct_many(items => ARRAY[('batch:2', 1, NULL, NULL, NULL, NULL),
	('batch:3', 2, NULL, NULL, NULL, NULL), ('batch:1', 3, NULL, NULL, NULL, NULL),
	('batch:2', 4, NULL, NULL, NULL, NULL), ('batch:1', 5, NULL, NULL, NULL, NULL)]::credits.deduction[],
	atomic => false);
SELECT transaction_id, kind, amount, balance, operation, reference, metadata, idempotency_key
FROM credits_history('batch:3');
SET ROLE regress_credits_admin;
SELECT * FROM credits_allocate_many(ARRAY[
	('batch:2', 50, 'k1', 'r1', 'sorry', '{"n": 1}', 'promotional', '2030-02-01', NULL, NULL, 5, NULL, NULL),
	('batch:1', 60, 'k2', 'invoice', NULL, NULL, 'purchase', NULL, NULL, '2030-01-15', NULL, 9.90, 'EUR'),
	('batch:2', 70, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[]);
SELECT id, account_id, transaction_id, source, amount, remaining, priority, effective_at, expires_at, price,
	   currency, status FROM credits.grants WHERE id > 520003;
SELECT transaction_id, kind, amount, balance, reference, reason, metadata, idempotency_key
FROM credits_history('batch:2', kinds => ARRAY['allocation']);

-- one account many times: burnt over its grants as in so many calls, but the
-- account and each grant are written once
SELECT balance FROM credits_open_account('batch:4');
SELECT count(*) FROM credits_allocate_many(ARRAY[
	('batch:4', 50, NULL, NULL, NULL, NULL, 'manual', NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:4', 5, NULL, NULL, NULL, NULL, 'promotional', '2030-06-01', NULL, NULL, NULL, NULL, NULL),
	('batch:4', 5, NULL, NULL, NULL, NULL, 'promotional', '2030-05-01', NULL, NULL, NULL, NULL, NULL),
	('batch:4', 20, NULL, NULL, NULL, NULL, 'subscription', NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[]);
BEGIN;
SELECT :count \gset
SELECT transaction_count AS before FROM credits.accounts WHERE name = 'batch:4' \gset
SELECT :outcome FROM credits_deduct_many(ARRAY(
	SELECT ('batch:4', 4, 'm' || i, NULL, NULL, NULL)::credits.deduction FROM generate_series(1, 9) AS i));
SELECT transaction_count - :before AS rows, balance, spent FROM credits.accounts WHERE name = 'batch:4';
SELECT :written;
COMMIT;
SELECT t.id, t.amount, t.balance_after, string_agg(format('%s %s', g.source, d.amount), ', ' ORDER BY g.priority, g.expires_at)
FROM credits.transactions AS t JOIN credits.draws AS d ON d.transaction_id = t.id
JOIN credits.grants AS g ON g.id = d.grant_id
WHERE t.idempotency_key LIKE 'm%' GROUP BY t.id, t.amount, t.balance_after ORDER BY t.id;
SELECT source, amount, remaining, status FROM credits.grants
WHERE account_id = 520004 ORDER BY priority, expires_at, id;
SELECT * FROM credits_verify('batch:4');
-- and 100 of two accounts
BEGIN;
SELECT :count \gset
SELECT count(*), count(*) FILTER (WHERE ok), sum((receipt).amount), min((receipt).balance)
FROM credits_deduct_many(ARRAY(SELECT ('batch:' || 1 + i % 2, 1, NULL, NULL, NULL, NULL)::credits.deduction
	FROM generate_series(1, 100) AS i));
SELECT :written;
ROLLBACK;

-- keys used before
SET ROLE regress_credits_app;
SELECT transaction_id AS spend FROM credits_deduct('batch:3', 1, 'single', 'chat') \gset
SET ROLE regress_credits_admin;
SELECT transaction_id FROM credits_allocate('batch:3', 1, idempotency_key => 'gift');
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:3', 1, 'single', 'chat', NULL, NULL),
	('batch:3', 1, 'single', 'export', NULL, NULL), ('batch:3', 2, 'single', 'chat', NULL, NULL),
	('batch:3', 1, 'gift', NULL, NULL, NULL), ('batch:3', 30, 'k3', 'chat', 'r3', '{"n": 4}'),
	('batch:1', 1, 'single', 'chat', NULL, NULL)]::credits.deduction[]);
SELECT :refusal FROM credits_deduct_many(ARRAY[('batch:3', 2, 'single', 'chat', NULL, NULL)]::credits.deduction[]);
SELECT :outcome FROM credits_allocate_many(ARRAY[
	('batch:3', 1, 'gift', NULL, NULL, NULL, 'manual', NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:3', 1, 'gift', NULL, 'another reason', '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:3', 1, 'gift', NULL, NULL, NULL, 'trial', NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:3', 1, 'single', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:1', 60, 'k2', 'invoice', NULL, NULL, 'purchase', NULL, NULL, '2030-01-15', NULL, 9.900, 'EUR'),
	('batch:1', 60, 'k2', 'invoice', NULL, NULL, 'purchase', NULL, NULL, '2030-01-15', NULL, 9.91, 'EUR')]::credits.allocation[]);
-- replays only: nothing is written
BEGIN;
SELECT :count \gset
SELECT count(*) FILTER (WHERE (receipt).replayed), count(*) FROM credits_deduct_many(ARRAY(
	SELECT ('batch:4', 4, 'm' || i, NULL, NULL, NULL)::credits.deduction FROM generate_series(1, 9) AS i));
SELECT :written;
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:4', 4, 'm1', NULL, NULL, NULL)]::credits.deduction[]);
SELECT pg_current_xact_id_if_assigned();
COMMIT;
-- a single call replays what a batch did
SELECT transaction_id, amount, balance, replayed FROM credits_deduct('batch:3', 30, 'k3', 'chat', 'r3');
SELECT transaction_id, amount, balance, replayed
FROM credits_allocate('batch:2', 50, source => 'promotional', expires_at => '2030-02-01', priority => 5, idempotency_key => 'k1', reference => 'r1');

-- keys used twice and thrice in one batch
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:3', 2, 'b1', 'x', NULL, NULL),
	('batch:3', 2, 'b1', 'x', NULL, '{"other": "metadata"}'), ('batch:3', 3, 'b1', 'x', NULL, NULL),
	('batch:3', 2, 'b1', 'x', NULL, NULL), ('batch:2', 2, 'b1', 'x', NULL, NULL)]::credits.deduction[]);
SELECT :refusal FROM credits_deduct_many(ARRAY[('batch:3', 2, 'b1', 'x', NULL, NULL),
	('batch:3', 3, 'b2', 'x', NULL, NULL), ('batch:3', 2, 'b1', 'x', NULL, NULL),
	('batch:3', 4, 'b2', 'x', NULL, NULL), ('batch:3', 3, 'b1', 'x', NULL, NULL)]::credits.deduction[]) WHERE NOT ok;
-- what was refused keeps no key: the next one may use it, and is replayed then
SELECT balance FROM credits_deduct('batch:3', 40);
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:3', 9999, 'b3', NULL, NULL, NULL),
	('batch:3', 9998, 'b3', NULL, NULL, NULL), ('batch:3', 1, 'b3', NULL, NULL, NULL),
	('batch:3', 1, 'b3', NULL, NULL, NULL), ('batch:3', 9999, 'b3', NULL, NULL, NULL),
	('batch:3', 1, 'b3', NULL, NULL, NULL)]::credits.deduction[]);
-- neither do those whose key belongs to a request in the log: replayed all the same
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:3', 2, 'b3', NULL, NULL, NULL),
	('batch:3', 1, 'b3', NULL, NULL, NULL), ('batch:3', 3, 'b3', NULL, NULL, NULL),
	('batch:3', 1, 'b3', NULL, NULL, NULL)]::credits.deduction[]);
-- in the next batch too
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:3', 1, 'b3', NULL, NULL, NULL),
	('batch:3', 2, 'b1', 'x', NULL, NULL)]::credits.deduction[]);
SELECT :outcome FROM credits_allocate_many(ARRAY[
	('batch:3', 5, 'b4', NULL, NULL, NULL, NULL, '2029-01-01', NULL, NULL, NULL, NULL, NULL),
	('batch:3', 5, 'b4', NULL, NULL, NULL, NULL, '2031-01-01', NULL, NULL, NULL, NULL, NULL),
	('batch:3', 5, 'b4', NULL, NULL, NULL, NULL, '2031-01-01', NULL, NULL, NULL, NULL, NULL),
	('batch:3', 5, 'b4', NULL, NULL, NULL, NULL, '2029-01-01', NULL, NULL, NULL, NULL, NULL)]::credits.allocation[]);

-- refused items leave the others alone
SELECT balance FROM credits_open_account('batch:paused', 50);
SELECT balance FROM credits_open_account('batch:closed', 0);
SELECT kind FROM credits_pause_account('batch:paused', 'fraud');
SELECT kind FROM credits_close_account('batch:closed', 'left');
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:1', 1, NULL, NULL, NULL, NULL),
	(NULL, 1, NULL, NULL, NULL, NULL), ('', 1, NULL, NULL, NULL, NULL), (' batch:1', 1, NULL, NULL, NULL, NULL),
	(E'batch\t1', 1, NULL, NULL, NULL, NULL), (repeat('x', 256), 1, NULL, NULL, NULL, NULL),
	('batch:none', 1, NULL, NULL, NULL, NULL), ('batch:none', 2, NULL, NULL, NULL, NULL),
	('batch:1', NULL, NULL, NULL, NULL, NULL), ('batch:1', 0, NULL, NULL, NULL, NULL),
	('batch:1', -5, NULL, NULL, NULL, NULL), ('batch:1', 9223372036854775807, NULL, NULL, NULL, NULL),
	('batch:1', 1, '', NULL, NULL, NULL), ('batch:1', 1, repeat('x', 256), NULL, NULL, NULL),
	('batch:1', 1, NULL, '', NULL, NULL), ('batch:1', 1, NULL, repeat('x', 256), NULL, NULL),
	('batch:1', 1, NULL, NULL, '', NULL), ('batch:1', 1, NULL, NULL, repeat('x', 256), NULL),
	('batch:1', 1, NULL, NULL, NULL, to_jsonb(repeat('x', 17000))),
	('batch:paused', 1, NULL, NULL, NULL, NULL), ('batch:closed', 1, NULL, NULL, NULL, NULL),
	NULL, ('batch:1', 1, NULL, NULL, NULL, 'null')]::credits.deduction[]);
SELECT :refusal FROM credits_deduct_many(ARRAY[(NULL, 1, NULL, NULL, NULL, NULL), (' batch:1', 1, NULL, NULL, NULL, NULL),
	('batch:none', 1, NULL, NULL, NULL, NULL), ('batch:1', NULL, NULL, NULL, NULL, NULL),
	('batch:1', -5, NULL, NULL, NULL, NULL), ('batch:1', 1000, NULL, NULL, NULL, NULL),
	('batch:1', 1, repeat('x', 256), NULL, NULL, NULL), ('batch:1', 1, NULL, NULL, NULL, to_jsonb(repeat('x', 17000))),
	('batch:paused', 1, NULL, NULL, NULL, NULL), ('batch:closed', 1, NULL, NULL, NULL, NULL),
	NULL]::credits.deduction[]);
-- a paused account can be given credits
SELECT :outcome FROM credits_allocate_many(ARRAY[
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:paused', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:closed', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:none', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:1', 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, 'lottery', NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, '', NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, '2030-01-01', NULL, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, '-infinity', NULL, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, '2030-02-01', NULL, '2030-02-01', NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'infinity', NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, -1, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 32768, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'EUR'),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'NaN', 'EUR'),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, -1, 'EUR'),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, 'euro'),
	('batch:1', 1, repeat('x', 256), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, repeat('x', 1001), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, repeat('x', 256), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, to_jsonb(repeat('x', 17000)), NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:1', 9223372036854775807, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	NULL, ('batch:1', 1, NULL, NULL, NULL, NULL, NULL, 'infinity', NULL, NULL, NULL, 0, 'EUR')]::credits.allocation[]);
SELECT item, code, message FROM credits_allocate_many(ARRAY[
	('batch:1', 1, NULL, NULL, NULL, NULL, 'lottery', NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, '2030-01-01', NULL, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 1, NULL),
	('batch:1', 9223372036854775807, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[]);
-- what would exceed what can be counted
SELECT balance FROM credits_open_account('batch:rich');
SELECT :outcome FROM credits_allocate_many(ARRAY[
	('batch:rich', 9223372036854775000, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:rich', 808, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:rich', 807, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[]);
SELECT transaction_id AS spend FROM credits_deduct('batch:rich', 9223372036854775000) \gset
SELECT balance FROM credits_refund(:spend);
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:rich', 800, NULL, NULL, NULL, NULL),
	('batch:rich', 8, NULL, NULL, NULL, NULL), ('batch:rich', 7, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL)]::credits.deduction[]);
SELECT :refusal FROM credits_deduct_many(ARRAY[('batch:rich', 1, NULL, NULL, NULL, NULL)]::credits.deduction[]);
SELECT * FROM credits_verify('batch:rich');
-- refusals of a batch are no events
SELECT count(*) FROM credits.events WHERE account_id BETWEEN 520001 AND 529999 AND kind LIKE '%refused%';

-- all or none: the first refused item is told, whichever account comes first
SELECT string_agg(balance::text, ' ' ORDER BY id) AS balances, sum(transaction_count) AS rows
FROM credits.accounts WHERE name LIKE 'batch:%' \gset
SELECT credits_deduct_many(ARRAY[('batch:2', 1, NULL, NULL, NULL, NULL), ('batch:2', 9999, NULL, NULL, NULL, NULL),
	('batch:1', 9999, NULL, NULL, NULL, NULL), ('batch:none', 1, NULL, NULL, NULL, NULL),
	('batch:1', 0, NULL, NULL, NULL, NULL)]::credits.deduction[], atomic => true);
\echo :SQLSTATE
SELECT credits_deduct_many(ARRAY[('batch:2', 1, NULL, NULL, NULL, NULL), ('batch:none', 1, NULL, NULL, NULL, NULL),
	('batch:2', 9999, NULL, NULL, NULL, NULL)]::credits.deduction[], true);
\echo :SQLSTATE
SELECT credits_deduct_many(ARRAY[('batch:2', 1, NULL, NULL, NULL, NULL), NULL,
	('batch:none', 1, NULL, NULL, NULL, NULL)]::credits.deduction[], true);
\echo :SQLSTATE
SELECT credits_deduct_many(ARRAY[('batch:1', 1, NULL, NULL, NULL, NULL), ('batch:paused', 1, NULL, NULL, NULL, NULL),
	('batch:1', 9999, NULL, NULL, NULL, NULL)]::credits.deduction[], true);
\echo :SQLSTATE
SELECT credits_deduct_many(ARRAY[('batch:1', 1, 'a1', NULL, NULL, NULL),
	('batch:1', 2, 'a1', NULL, NULL, NULL)]::credits.deduction[], true);
\echo :SQLSTATE
SELECT credits_allocate_many(ARRAY[
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL, NULL, '2029-01-01', NULL, NULL, NULL, NULL, NULL)]::credits.allocation[], true);
\echo :SQLSTATE
SELECT string_agg(balance::text, ' ' ORDER BY id) = :'balances' AS same, sum(transaction_count) = :rows AS no_rows
FROM credits.accounts WHERE name LIKE 'batch:%';
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:2', 1, NULL, NULL, NULL, NULL),
	('batch:1', 1, 'a1', NULL, NULL, NULL), ('batch:1', 1, 'a1', NULL, NULL, NULL)]::credits.deduction[], atomic => true);

-- the array
SELECT credits_deduct_many(NULL::credits.deduction[]);
\echo :SQLSTATE
SELECT credits_deduct_many('{}'::credits.deduction[]);
\echo :SQLSTATE
SELECT credits_deduct_many(ARRAY[('batch:1', 1, NULL, NULL, NULL, NULL)]::credits.deduction[], NULL);
\echo :SQLSTATE
SELECT credits_deduct_many(array_fill(('batch:1', 1, NULL, NULL, NULL, NULL)::credits.deduction, ARRAY[100001]));
\echo :SQLSTATE
SELECT credits_allocate_many(NULL::credits.allocation[]);
\echo :SQLSTATE
SELECT credits_allocate_many('{}'::credits.allocation[], dry_run => true);
\echo :SQLSTATE
SELECT credits_allocate_many(ARRAY[NULL]::credits.allocation[], NULL);
\echo :SQLSTATE
SELECT credits_allocate_many(ARRAY[NULL]::credits.allocation[], dry_run => NULL);
\echo :SQLSTATE
SELECT credits_allocate_many(array_fill(NULL::credits.allocation, ARRAY[100001]));
\echo :SQLSTATE
SELECT count(*), count(DISTINCT code), min(item), max(item) FROM credits_allocate_many(array_fill(NULL::credits.allocation, ARRAY[100000]));
-- its elements in their order, whatever its shape
SELECT :outcome FROM credits_deduct_many('[7:8]={"(batch:1,1,,,,)","(batch:2,2,,,,)"}'::credits.deduction[]);
SELECT :outcome FROM credits_deduct_many(ARRAY[ARRAY[('batch:1', 1, NULL, NULL, NULL, NULL), ('batch:2', 2, NULL, NULL, NULL, NULL)],
	ARRAY[('batch:2', 3, NULL, NULL, NULL, NULL), ('batch:1', 4, NULL, NULL, NULL, NULL)]]::credits.deduction[]);
-- from a table, through a prepared statement, in a SELECT list, beside others
PREPARE many(credits.deduction[]) AS SELECT :outcome FROM credits_deduct_many($1);
EXECUTE many(ARRAY[('batch:1', 1, 'p1', NULL, NULL, NULL)]::credits.deduction[]);
EXECUTE many(ARRAY[('batch:1', 1, 'p1', NULL, NULL, NULL), ('batch:2', 1, NULL, NULL, NULL, NULL)]::credits.deduction[]);
DEALLOCATE many;
CREATE TEMP TABLE usage (id bigint PRIMARY KEY, account text, tokens bigint);
INSERT INTO usage VALUES (11, 'batch:2', 3), (12, 'batch:9', 4), (13, 'batch:1', 5);
WITH batch AS (
	SELECT array_agg((account, tokens, 'usage:' || id, NULL, NULL, NULL)::credits.deduction ORDER BY id) AS items,
		   array_agg(id ORDER BY id) AS ids FROM usage
), outcome AS MATERIALIZED (
	SELECT batch.ids[o.item] AS id, o.* FROM batch CROSS JOIN LATERAL credits_deduct_many(batch.items) AS o
)
SELECT id, u.account, ok, code, (receipt).balance FROM outcome JOIN usage AS u USING (id) ORDER BY id;
SELECT (o).item, (o).ok, ((o).receipt).replayed FROM (SELECT credits_deduct_many(ARRAY(
	SELECT (account, tokens, 'usage:' || id, NULL, NULL, NULL)::credits.deduction FROM usage ORDER BY id)) AS o OFFSET 0) AS s;
SELECT item, ok, code, ordinality FROM credits_deduct_many(ARRAY(
	SELECT (account, tokens, 'usage:' || id, NULL, NULL, NULL)::credits.deduction FROM usage ORDER BY id)) WITH ORDINALITY LIMIT 1;
-- in a cursor; in PL/pgSQL
BEGIN;
DECLARE c CURSOR FOR SELECT item, (receipt).amount FROM credits_deduct_many(ARRAY[('batch:1', 1, NULL, NULL, NULL, NULL),
	('batch:1', 2, NULL, NULL, NULL, NULL)]::credits.deduction[]);
FETCH 1 FROM c;
FETCH 5 FROM c;
ROLLBACK;
DO $$
DECLARE
	items credits.deduction[];
	r record;
BEGIN
	FOR i IN 1..3 LOOP
		items := items || ('batch:1', i, NULL, NULL, NULL, NULL)::credits.deduction;
	END LOOP;
	FOR r IN SELECT * FROM credits_deduct_many(items) LOOP
		RAISE NOTICE '% % %', r.item, (r.receipt).amount, (r.receipt).balance;
	END LOOP;
	BEGIN
		PERFORM credits_deduct_many(items || ('batch:none', 1, NULL, NULL, NULL, NULL)::credits.deduction, atomic => true);
	EXCEPTION WHEN SQLSTATE 'PT404' THEN
		RAISE NOTICE 'refused, balance %', public.credits_balance('batch:1');
	END;
END
$$;

-- accounts that are due are settled in the batch, once
SELECT balance FROM credits_open_account('batch:due');
SELECT count(*) FROM credits_allocate_many(ARRAY[
	('batch:due', 10, NULL, NULL, NULL, NULL, 'trial', '2030-02-01', NULL, NULL, NULL, NULL, NULL),
	('batch:due', 20, NULL, NULL, NULL, NULL, 'trial', '2030-04-01', NULL, '2030-02-15', NULL, NULL, NULL),
	('batch:due', 40, NULL, NULL, NULL, NULL, 'manual', NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[]);
SELECT transaction_id AS hold FROM credits_hold('batch:due', 15, expires_in => '40 days') \gset
SET credits.test_clock = '2030-03-01 00:00:00+00';
-- refusals and replays alone do not write what the clock did
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:due', 61, NULL, NULL, NULL, NULL),
	('batch:due', 62, NULL, NULL, NULL, NULL)]::credits.deduction[]);
SELECT balance, held, transaction_count FROM credits.accounts WHERE name = 'batch:due';
SELECT :outcome, (receipt).held FROM credits_deduct_many(ARRAY[('batch:due', 25, NULL, NULL, NULL, NULL),
	('batch:due', 30, NULL, NULL, NULL, NULL), ('batch:due', 6, NULL, NULL, NULL, NULL)]::credits.deduction[]);
SELECT kind, amount, held, balance, created_at, target_id = :hold AS of_hold FROM credits_history('batch:due') ORDER BY transaction_id;
SELECT source, amount, remaining, status FROM credits.grants WHERE account_id = 520008 ORDER BY id;
SELECT * FROM credits_verify('batch:due');

-- limits, the windows' too
SELECT balance FROM credits_open_account('batch:limited', 100);
SELECT kind FROM credits_set_limits('batch:limited', max_balance => 120, excess => 'clip', min_spend => 2, max_spend => 30, max_spend_per_day => 50);
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:limited', 1, NULL, NULL, NULL, NULL),
	('batch:limited', 31, NULL, NULL, NULL, NULL), ('batch:limited', 30, NULL, NULL, NULL, NULL),
	('batch:limited', 21, NULL, NULL, NULL, NULL), ('batch:limited', 18, NULL, NULL, NULL, NULL),
	('batch:limited', 3, NULL, NULL, NULL, NULL), ('batch:limited', 2, NULL, NULL, NULL, NULL)]::credits.deduction[]);
SELECT :refusal FROM credits_deduct_many(ARRAY[('batch:limited', 2, NULL, NULL, NULL, NULL)]::credits.deduction[]);
SELECT day_used, day_start FROM credits.limits WHERE account_id = 520009;
-- what is clipped shows in the receipt
SELECT :outcome FROM credits_allocate_many(ARRAY[
	('batch:limited', 60, 'c1', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:limited', 30, 'c2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:limited', 10, 'c3', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
	('batch:limited', 30, 'c2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[]);
SELECT * FROM credits_verify('batch:limited');

-- a dry run tells the same, and writes nothing
\set state 'jsonb_build_array((SELECT jsonb_object_agg(sequencename, last_value) FROM pg_sequences WHERE schemaname = ''credits''), (SELECT md5(string_agg(a::text, '' '' ORDER BY id)) FROM credits.accounts AS a), (SELECT md5(string_agg(g::text, '' '' ORDER BY id)) FROM credits.grants AS g), (SELECT count(*) FROM credits.transactions), (SELECT count(*) FROM credits.events), (SELECT md5(string_agg(l::text, '' '' ORDER BY account_id)) FROM credits.limits AS l), (SELECT md5(string_agg(h::text, '' '' ORDER BY id)) FROM credits.hold_states AS h))'
CREATE TEMP TABLE upload (line serial, item credits.allocation);
INSERT INTO upload (item) SELECT ROW(account, amount, key, NULL, NULL, NULL, source, expires_at, NULL, NULL, NULL, NULL, NULL)::credits.allocation
FROM (VALUES ('batch:1', 10, 'trial', '2030-07-01'::timestamptz, 'u1'), ('batch:none', 10, NULL, NULL, 'u2'),
	('batch:1', 20, NULL, NULL, 'u3'), ('batch:1', 10, 'trial', '2030-07-01', 'u1'), ('batch:1', 11, NULL, NULL, 'u1'),
	('batch:3', 1, 'manual', NULL, 'gift'), ('batch:3', 2, 'manual', NULL, 'gift'), ('batch:closed', 1, NULL, NULL, 'u4'),
	('batch:2', 7, NULL, '2029-12-31', 'u5'), ('batch:2', 7, NULL, NULL, 'u5'), ('batch:due', 8, NULL, NULL, 'u6'),
	('batch:limited', 25, NULL, NULL, 'u7'), (NULL, 1, NULL, NULL, 'u8'), ('batch:1', 0, NULL, NULL, NULL),
	('batch:rich', 9223372036854775807, NULL, NULL, NULL)) AS line (account, amount, source, expires_at, key);
-- the trial grant of batch:due runs out, and a hold times out
SELECT balance, held FROM credits_hold('batch:due', 5, expires_in => '1 day');
SET credits.test_clock = '2030-05-01 00:00:00+00';
RESET ROLE;
SELECT :state AS before \gset
BEGIN;
SET LOCAL ROLE regress_credits_admin;
SELECT :outcome FROM credits_allocate_many(ARRAY(SELECT item FROM upload ORDER BY line), dry_run => true);
RESET ROLE;
SELECT pg_current_xact_id_if_assigned();
SELECT :state = :'before' AS same;
COMMIT;
SET ROLE regress_credits_admin;
CREATE TEMP TABLE dry AS SELECT * FROM credits_allocate_many(ARRAY(SELECT item FROM upload ORDER BY line), dry_run => true);
CREATE TEMP TABLE wet AS SELECT * FROM credits_allocate_many(ARRAY(SELECT item FROM upload ORDER BY line));
SELECT :outcome FROM wet;
SELECT count(*) AS different FROM dry JOIN wet USING (item)
WHERE (dry.ok, dry.code, dry.message, dry.detail, dry.hint, (dry.receipt).account, (dry.receipt).kind, (dry.receipt).amount,
	   (dry.receipt).balance, (dry.receipt).held, (dry.receipt).replayed, (dry.receipt).created_at)
	IS DISTINCT FROM (wet.ok, wet.code, wet.message, wet.detail, wet.hint, (wet.receipt).account, (wet.receipt).kind, (wet.receipt).amount,
	   (wet.receipt).balance, (wet.receipt).held, (wet.receipt).replayed, (wet.receipt).created_at);
-- once more: a dry run shows what would be replayed, and may be all or none
SELECT item, ok, (receipt).transaction_id IS NOT NULL AS has_id, (receipt).replayed
FROM credits_allocate_many(ARRAY(SELECT item FROM upload ORDER BY line), dry_run => true) WHERE ok;
SELECT credits_allocate_many(ARRAY(SELECT item FROM upload ORDER BY line), true, true);
\echo :SQLSTATE
SELECT count(*) FROM credits_allocate_many(ARRAY(SELECT item FROM upload WHERE line IN (1, 3) ORDER BY line), true, true);
-- not where nothing can be written: who tries it there would fail in earnest
BEGIN READ ONLY;
SELECT credits_allocate_many(ARRAY(SELECT item FROM upload), dry_run => true);
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT credits_deduct_many(ARRAY[NULL]::credits.deduction[], true);
\echo :SQLSTATE
ROLLBACK;

-- alerts: once per account, at what is left in the end
SELECT balance FROM unnest(ARRAY['batch:low', 'batch:empty', 'batch:high']) AS name, LATERAL credits_open_account(name, 30);
SELECT count(*) FROM credits_deduct_many(ARRAY(SELECT (name, 4, NULL, NULL, NULL, NULL)::credits.deduction
	FROM unnest(ARRAY['batch:low', 'batch:empty', 'batch:high']) AS name, generate_series(1, 5) AS i
	WHERE name <> 'batch:high')) WHERE ok;
SELECT count(*) FROM credits_deduct_many(ARRAY[('batch:low', 1, NULL, NULL, NULL, NULL), ('batch:empty', 9, NULL, NULL, NULL, NULL),
	('batch:low', 1, NULL, NULL, NULL, NULL), ('batch:empty', 1, NULL, NULL, NULL, NULL), ('batch:high', 20, NULL, NULL, NULL, NULL),
	('batch:empty', 1, NULL, NULL, NULL, NULL)]::credits.deduction[]) WHERE ok;
RESET ROLE;
SELECT account_id, transaction_id, kind, detail->>'balance' AS balance, detail->>'depleted' AS depleted
FROM credits.events WHERE account_id > 520009 ORDER BY id;
SELECT n.name, a.balance, a.last_transaction_id FROM unnest(ARRAY['batch:low', 'batch:empty', 'batch:high']) AS n (name) JOIN credits.accounts AS a USING (name);

-- savepoints
SET ROLE regress_credits_app;
BEGIN;
SELECT count(*) FROM credits_deduct_many(ARRAY[('batch:1', 1, 's1', NULL, NULL, NULL), ('batch:2', 1, 's1', NULL, NULL, NULL)]::credits.deduction[]);
SAVEPOINT a;
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:1', 1, 's1', NULL, NULL, NULL), ('batch:2', 1, 's2', NULL, NULL, NULL)]::credits.deduction[]);
ROLLBACK TO a;
SELECT credits_deduct_many(ARRAY[('batch:1', 1, 's2', NULL, NULL, NULL), ('batch:none', 1, NULL, NULL, NULL, NULL)]::credits.deduction[], true);
ROLLBACK TO a;
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:1', 1, 's2', NULL, NULL, NULL), ('batch:2', 1, 's2', NULL, NULL, NULL)]::credits.deduction[]);
COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:1', 1, 's2', NULL, NULL, NULL), ('batch:2', 1, NULL, NULL, NULL, NULL),
	('batch:2', 1, NULL, NULL, NULL, NULL), ('batch:2', 9999, NULL, NULL, NULL, NULL)]::credits.deduction[]);
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:2', 1, NULL, NULL, NULL, NULL)]::credits.deduction[]);
COMMIT;
RESET ROLE;

-- triggers on the log fire for each row, once all rows of the account are there
CREATE FUNCTION regress_shop.batch_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE '% % of account %', credits.kind_name(NEW.kind_code), NEW.amount, NEW.account_id;
	RETURN NULL;
END
$$;
CREATE TRIGGER tell AFTER INSERT ON credits.log FOR EACH ROW EXECUTE FUNCTION regress_shop.batch_tell();
SELECT count(*) FROM credits_deduct_many(ARRAY[('batch:2', 1, NULL, NULL, NULL, NULL), ('batch:1', 2, NULL, NULL, NULL, NULL),
	('batch:2', 3, NULL, NULL, NULL, NULL), ('batch:2', 9999, NULL, NULL, NULL, NULL)]::credits.deduction[]);
-- what may be refused writes nothing
SELECT count(*) FROM credits_deduct_many(ARRAY[('batch:1', 1, NULL, NULL, NULL, NULL), ('batch:1', 9999, NULL, NULL, NULL, NULL),
	('batch:2', 1, NULL, NULL, NULL, NULL)]::credits.deduction[], atomic => true);
DROP TRIGGER tell ON credits.log;
-- they may call the functions: for an account that the batch comes to, or has
-- been at, and for the same one
\set SHOW_CONTEXT never
CREATE FUNCTION regress_shop.batch_cashback() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT * FROM public.credits_allocate_many(ARRAY[
		('batch:1', 1, 'cashback ' || currval('credits.transactions_id_seq'), NULL, NULL, NULL, 'promotional', NULL, NULL, NULL, NULL, NULL, NULL),
		('batch:3', 1, 'cashback ' || currval('credits.transactions_id_seq'), NULL, NULL, NULL, 'promotional', NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[])
	LOOP
		RAISE NOTICE 'cashback of account %: % %', NEW.account_id, (r.receipt).account, (r.receipt).balance;
	END LOOP;
	RETURN NULL;
END
$$;
CREATE TRIGGER cashback AFTER INSERT ON credits.log
	FOR EACH ROW WHEN (credits.kind_name(NEW.kind_code) = 'deduction') EXECUTE FUNCTION regress_shop.batch_cashback();
SELECT name, balance FROM credits.accounts WHERE id BETWEEN 520001 AND 520003 ORDER BY id;
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:3', 3, NULL, NULL, NULL, NULL), ('batch:2', 4, NULL, NULL, NULL, NULL),
	('batch:1', 5, NULL, NULL, NULL, NULL), ('batch:1', 6, NULL, NULL, NULL, NULL)]::credits.deduction[]);
SELECT name, balance FROM credits.accounts WHERE id BETWEEN 520001 AND 520003 ORDER BY id;
DROP TRIGGER cashback ON credits.log;
-- not before the rows of the account are in the log
CREATE TRIGGER a_cashback AFTER UPDATE ON credits.accounts
	FOR EACH ROW EXECUTE FUNCTION regress_shop.batch_cashback();
SELECT credits_deduct_many(ARRAY[('batch:1', 1, NULL, NULL, NULL, NULL), ('batch:1', 1, NULL, NULL, NULL, NULL)]::credits.deduction[]);
\echo :SQLSTATE
DROP TRIGGER a_cashback ON credits.accounts;
-- an error of theirs undoes the batch
CREATE FUNCTION regress_shop.batch_object() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'I object' USING ERRCODE = 'XX001';
END
$$;
CREATE TRIGGER object AFTER INSERT ON credits.log
	FOR EACH ROW WHEN (NEW.operation = 'objectionable') EXECUTE FUNCTION regress_shop.batch_object();
SELECT credits_deduct_many(ARRAY[('batch:1', 1, NULL, NULL, NULL, NULL), ('batch:2', 1, NULL, NULL, NULL, NULL),
	('batch:2', 1, NULL, 'objectionable', NULL, NULL)]::credits.deduction[]);
\echo :SQLSTATE
DROP TRIGGER object ON credits.log;
SELECT count(*) FROM credits_deduct_many(ARRAY[('batch:1', 1, NULL, 'objectionable', NULL, NULL)]::credits.deduction[]);
SELECT name, balance FROM credits.accounts WHERE id BETWEEN 520001 AND 520003 ORDER BY id;
DROP FUNCTION regress_shop.batch_tell, regress_shop.batch_cashback, regress_shop.batch_object;

-- the key of a spend from a pool is the member's
SET ROLE regress_credits_admin;
SELECT balance FROM credits_open_account('batch:pool', 1000);
SELECT kind FROM credits_add_member('batch:pool', 'batch:1', 500);
SELECT transaction_id, account, balance FROM credits_deduct('batch:1', 7, 'pooled', pool => 'batch:pool');
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:1', 7, 'pooled', NULL, NULL, NULL), ('batch:1', 2, 'own', NULL, NULL, NULL),
	('batch:pool', 7, 'pooled', NULL, NULL, NULL)]::credits.deduction[]);
-- a hold of a member's that times out in a batch gives back to its cap
SELECT balance, held FROM credits_hold('batch:1', 90, expires_in => '1 day', pool => 'batch:pool');
SELECT used FROM credits.members WHERE account_id = 520001;
SET credits.test_clock = '2030-05-03 00:00:00+00';
SELECT :outcome, (receipt).held FROM credits_deduct_many(ARRAY[('batch:pool', 3, NULL, NULL, NULL, NULL),
	('batch:1', 1, NULL, NULL, NULL, NULL)]::credits.deduction[]);
SELECT used FROM credits.members WHERE account_id = 520001;
RESET ROLE;

-- who may
SET ROLE regress_credits_app;
SELECT credits_allocate_many(ARRAY[NULL]::credits.allocation[]);
\echo :SQLSTATE
SET ROLE regress_credits_auditor;
SELECT credits_deduct_many(ARRAY[NULL]::credits.deduction[]);
\echo :SQLSTATE
SET ROLE regress_credits_nobody;
SELECT credits_deduct_many(ARRAY[NULL]::credits.deduction[]);
\echo :SQLSTATE
RESET ROLE;

-- types that someone has altered
BEGIN;
ALTER TYPE credits.deduction ADD ATTRIBUTE pool text;
SELECT credits_deduct_many(ARRAY[NULL]::credits.deduction[]);
ROLLBACK;
BEGIN;
ALTER TYPE credits.deduction ALTER ATTRIBUTE account TYPE integer;
SELECT credits_deduct_many(ARRAY[(1, 1, NULL, NULL, NULL, NULL)]::credits.deduction[]);
\echo :SQLSTATE
ROLLBACK;
BEGIN;
ALTER TYPE credits.allocation DROP ATTRIBUTE metadata;
SELECT credits_allocate_many(ARRAY[NULL]::credits.allocation[]);
ROLLBACK;
-- those of results, too
BEGIN;
ALTER TYPE credits.outcome ADD ATTRIBUTE more text;
SELECT * FROM credits_deduct_many('[{"account": "batch:1", "amount": 1}]'::jsonb);
\echo :SQLSTATE
ROLLBACK;
BEGIN;
ALTER TYPE credits.outcome DROP ATTRIBUTE receipt;
SELECT * FROM credits_deduct_many('[{"account": "batch:1", "amount": 1}]'::jsonb);
ROLLBACK;
BEGIN;
ALTER TYPE credits.receipt ADD ATTRIBUTE more text;
SELECT * FROM credits_deduct_many('[{"account": "batch:1", "amount": 1}]'::jsonb);
ROLLBACK;
BEGIN;
ALTER TYPE credits.receipt ADD ATTRIBUTE more text;
SELECT * FROM credits_deduct('batch:1', 1);
ROLLBACK;
BEGIN;
ALTER TYPE credits.attempt DROP ATTRIBUTE hint;
SELECT * FROM credits_try_deduct('batch:1', 1);
ROLLBACK;

-- nothing is left due for the tests that follow
SET credits.test_clock = '2031-02-01 00:00:00+00';
SELECT :outcome FROM credits_deduct_many(ARRAY[('batch:1', 1, NULL, NULL, NULL, NULL),
	('batch:3', 1, NULL, NULL, NULL, NULL), ('batch:4', 1, NULL, NULL, NULL, NULL)]::credits.deduction[]);
SELECT name, due_at FROM credits.accounts WHERE name LIKE 'batch:%' AND due_at < 'infinity' ORDER BY id;
SELECT * FROM credits_verify();

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null

-- holds, captures and transfers; from JSON, too
SET credits.test_clock = '2032-01-01 00:00:00+00';
SELECT count(credits_open_account('many:' || i, 100)) FROM generate_series(1, 5) AS i;
SELECT kind FROM credits_add_member('many:5', 'many:4', 1000);
SELECT item, ok, code, message, detail, (receipt).transaction_id AS id, (receipt).account, (receipt).amount, (receipt).balance, (receipt).replayed
FROM credits_transfer_many(ARRAY[
	('many:1', 'many:2', 60, 'k', 'salary', '{"a": 1}'), ('many:2', 'many:3', 150, NULL, NULL, NULL), ('many:1', 'many:3', 41, NULL, NULL, NULL),
	('many:1', 'many:1', 1, NULL, NULL, NULL), ('many:1', 'many:none', 1, NULL, NULL, NULL), ('many:1', 'many:2', 60, 'k', 'again', NULL),
	('many:1', 'many:3', 60, 'k', NULL, NULL), ('many:3', 'many:1', 5, NULL, NULL, NULL), NULL,
	('many:1', NULL, 5, NULL, NULL, NULL), ('many:1', 'many:2', 0, NULL, NULL, NULL)]::credits.transfer_item[]);
SELECT (receipt).transaction_id, (receipt).amount, (receipt).replayed FROM credits_transfer_many('[{"from_account": "many:1", "to_account": "many:2", "amount": 60, "idempotency_key": "k"}]'::jsonb);
SELECT replayed FROM credits_transfer('many:1', 'many:2', 60, 'k');
-- all or nothing
SELECT credits_transfer_many('[{"from_account": "many:3", "to_account": "many:1", "amount": 1}, {"from_account": "many:1", "to_account": "many:2", "amount": 1000}]'::jsonb, atomic => true);
\echo :SQLSTATE
SELECT count(*) FROM credits_transfer_many('[{"from_account": "many:3", "to_account": "many:1", "amount": 1}, {"from_account": "many:1", "to_account": "many:2", "amount": 1}]'::jsonb, atomic => true);
SELECT item, ok, code, (receipt).transaction_id AS id, (receipt).balance, (receipt).held FROM credits_hold_many(ARRAY[
	('many:4', 10, 'h1', 'render', 'job:1', '{"a": 1}', '1 hour'), ('many:4', 20, 'h2', NULL, NULL, NULL, NULL), ('many:5', 101, NULL, NULL, NULL, NULL, NULL),
	('many:4', 10, 'h1', 'render', 'job:1', NULL, '60 minutes'), ('many:4', 1, NULL, NULL, NULL, NULL, '-1 hour')]::credits.hold_item[]);
SELECT hold_id, reserved, expires_at, operation, reference FROM credits.holds WHERE account LIKE 'many:%' ORDER BY hold_id;
SELECT (receipt).replayed FROM credits_hold_many('[{"account": "many:4", "amount": 10, "idempotency_key": "h1", "operation": "render", "reference": "job:1", "expires_in": "1 hour"}]'::jsonb);
SELECT transaction_id AS h1, replayed FROM credits_hold('many:4', 10, 'h1', 'render', 'job:1', expires_in => '1 hour') \gset
SELECT transaction_id AS h3 FROM credits_hold('many:4', 100, 'h3', pool => 'many:5', mode => 'own_first') \gset
SELECT transaction_id AS h4 FROM credits_hold('many:4', 30, 'h4', pool => 'many:5') \gset
SELECT transaction_id AS opening FROM credits_open_account('many:1') \gset
SELECT item, ok, code, message, (receipt).account, (receipt).kind, (receipt).balance, (receipt).held, (receipt).replayed FROM credits_capture_many(ARRAY[
	(:h1, 5, 'c1', 'r', NULL, NULL, NULL, NULL), (:h3, 80, 'c3', NULL, NULL, false, NULL, 'many:4'), (:h4, 40, 'c4', NULL, NULL, NULL, true, NULL),
	(:h1, 1, NULL, NULL, NULL, NULL, NULL, NULL), (:h3, 0, 'c5', NULL, NULL, NULL, NULL, 'many:4'), (:opening, 0, NULL, NULL, NULL, NULL, NULL, NULL),
	(0, 0, NULL, NULL, NULL, NULL, NULL, NULL), (:h4, 40, 'c4', NULL, NULL, NULL, true, NULL), (NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL),
	(:h4, -1, NULL, NULL, NULL, NULL, NULL, NULL), (:h4, 1, NULL, NULL, NULL, NULL, NULL, 'many:1')]::credits.capture_item[]);
SELECT item, (receipt).kind, (receipt).held, (receipt).replayed FROM credits_capture_many(jsonb_build_array(jsonb_build_object('hold_id', :h4, 'amount', 40, 'idempotency_key', 'c4', 'allow_more', true)));
SELECT replayed FROM credits_capture(:h4, 40, 'c4', allow_more => true);
SELECT status, reserved, captured, released FROM credits.holds WHERE account LIKE 'many:%' ORDER BY hold_id;
-- what is not as it must be in JSON
SELECT item, code, message, detail, hint FROM credits_deduct_many('[5, null, [], {}, {"account": "many:1", "amount": 1.5}, {"account": "many:1", "amount": [1]},
	{"account": "many:1", "amount": 1, "key": "x"}, {"account": "many:1", "amount": "1", "operation": null, "metadata": {"b": [1, {"c": 2}]}}, {"account": 5, "amount": 1}]'::jsonb);
SELECT credits_deduct_many('{}'::jsonb);
\echo :SQLSTATE
SELECT credits_deduct_many('5'::jsonb);
SELECT credits_deduct_many('[]'::jsonb);
SELECT credits_deduct_many(NULL::jsonb);
\echo :SQLSTATE
-- a number that is none, or out of range, refuses only its item
SELECT item, ok, code, message, detail FROM credits_deduct_many('[{"account": "many:1", "amount": 9223372036854775808}, {"account": "many:1", "amount": ""},
	{"account": "many:1", "amount": "1 "}, {"account": "many:1", "amount": "--1"}, {"account": "many:1", "amount": " 1"}, {"account": "many:1", "amount": 1e30},
	{"account": "many:1", "amount": 1e0}]'::jsonb);
SELECT credits_allocate_many('[{"account": "many:1", "amount": 1}, {"account": "many:1", "amount": 1, "expires_at": "2030-02-30"}]'::jsonb);
\echo :SQLSTATE
SELECT item, ok, message, (receipt).balance FROM credits_allocate_many('[{"account": "many:1", "amount": 1, "price": "9.90", "currency": "EUR", "priority": 3, "expires_in": "1 day", "source": "gift"},
	{"account": "many:1", "amount": 1, "priority": 3.5}, {"account": "many:1", "amount": 1, "priority": 4294967297}]'::jsonb, dry_run => true);
-- what is repeated of a value ends between two characters
SELECT item, code, octet_length(detail), convert_from(convert_to(detail, 'UTF8'), 'UTF8') = detail AS valid
FROM credits_deduct_many(jsonb_build_array(jsonb_build_object('x' || repeat(chr(228), 40), 1),
	jsonb_build_object('amount', 'x' || repeat(chr(228), 40))));
-- what would exceed a lifetime total refuses only its item
SELECT balance FROM credits_open_account('many:6', 9223372036854775800);
SELECT item, ok, code, message, detail FROM credits_transfer_many('[{"from_account": "many:3", "to_account": "many:6", "amount": 7}, {"from_account": "many:3", "to_account": "many:6", "amount": 1},
	{"from_account": "many:3", "to_account": "many:2", "amount": 2}]'::jsonb);
SELECT credits_transfer('many:3', 'many:6', 1);
\echo :SQLSTATE
SELECT transaction_id AS spent FROM credits_deduct('many:6', 9223372036854775807) \gset
SELECT balance FROM credits_refund(:spent);
SELECT transaction_id AS h6 FROM credits_hold('many:6', 5) \gset
SELECT transaction_id AS h2 FROM credits_hold('many:2', 5) \gset
SELECT item, ok, code, message, detail, (receipt).held FROM credits_capture_many(jsonb_build_array(jsonb_build_object('hold_id', :h6),
	jsonb_build_object('hold_id', :h2)));
SELECT credits_capture(:h6);
\echo :SQLSTATE
SELECT amount FROM credits_release(:h6);
SELECT credits_transfer_many(array_fill(NULL::credits.transfer_item, ARRAY[10001]));
SELECT credits_capture_many(array_fill(NULL::credits.capture_item, ARRAY[10001]));
SELECT * FROM credits_verify();
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
