-- shadows: tables, functions, operators and types named like ours or like
-- PostgreSQL's, made by an application role in a schema first in its
-- search_path and in pg_temp, change nothing and are never run
BEGIN;
SELECT no_plan();
SET LOCAL credits.test_clock = '2030-01-01 00:00:00+00';
CREATE ROLE regress_pgtap_app IN ROLE credits_app;
CREATE ROLE regress_pgtap_admin IN ROLE credits_admin, credits_auditor;
CREATE SCHEMA evil;
GRANT ALL ON SCHEMA evil TO regress_pgtap_app, regress_pgtap_admin;
SELECT format('GRANT TEMPORARY ON DATABASE %I TO regress_pgtap_app, regress_pgtap_admin', current_database()) \gexec

SELECT credits_open_account('shadow:1', 100) IS NOT NULL AS x \gset
SELECT credits_allocate('shadow:1', 50, expires_at => '2030-02-01') IS NOT NULL AS x \gset
SELECT credits_allocate('shadow:1', 7, effective_at => '2030-01-15') IS NOT NULL AS x \gset
SELECT transaction_id AS spend FROM credits_deduct('shadow:1', 30, 'first', 'op', 'ref', '{"a": 1}') \gset
SELECT credits_open_account('shadow:pool', 100) IS NOT NULL AS x \gset
SELECT credits_open_account('shadow:top', 100) IS NOT NULL AS x \gset
SELECT credits_add_member('shadow:top', 'shadow:pool', 50) IS NOT NULL AS x \gset
SELECT credits_add_member('shadow:pool', 'shadow:1', 50, 'week', 'Europe/Berlin') IS NOT NULL AS x \gset
SELECT transaction_id AS hold FROM credits_hold('shadow:1', 20, expires_in => '2 years', pool => 'shadow:pool', mode => 'own_first') \gset
SELECT credits_hold('shadow:1', 2, expires_in => '1 day') IS NOT NULL AS x \gset
SELECT transaction_id AS transfer FROM credits_transfer('shadow:1', 'shadow:pool', 5) \gset

-- the calls, each as a text that depends on nothing but what it should
CREATE TABLE evil.calls (n int GENERATED ALWAYS AS IDENTITY, clock timestamptz, role name, statement text);
GRANT SELECT ON evil.calls TO PUBLIC;
INSERT INTO evil.calls (clock, role, statement) VALUES
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.format('%s %s', d.amount, d.balance) FROM public.credits_deduct('shadow:1', 1) AS d$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.format('%s %s', d.balance, d.replayed) FROM public.credits_deduct('shadow:1', 30, 'first', 'op', 'ref') AS d$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.format('%s %s', d.ok, d.code) FROM public.credits_try_deduct('shadow:1', 1000000, 'try') AS d$$),
	(NULL, 'regress_pgtap_app', format('SELECT pg_catalog.format(''%%s %%s'', d.amount, d.balance) FROM public.credits_refund(%s, 5) AS d', :spend)),
	(NULL, 'regress_pgtap_app', $$SELECT public.credits_balance('shadow:1')::pg_catalog.text$$),
	(NULL, 'regress_pgtap_app', $$SELECT public.credits_balance_at('shadow:1', '2030-01-20')::pg_catalog.text$$),
	(NULL, 'regress_pgtap_app', $$SELECT public.credits_balance_at('shadow:1', '2030-03-01')::pg_catalog.text$$),
	(NULL, 'regress_pgtap_app', $$SELECT s::pg_catalog.text FROM public.credits_summary('shadow:1') AS s$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.string_agg(pg_catalog.format('%s %s %s', h.kind, h.amount, h.balance), ',') FROM public.credits_history('shadow:1', 3) AS h$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM public.credits_grants('shadow:1') AS o$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM public.credits_balance_by_source('shadow:1') AS o$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM public.credits_holds('shadow:1') AS o$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM public.credits_pools('shadow:1') AS o$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM public.credits_pool_members('shadow:1') AS o$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM public.credits_gifts('shadow:1') AS o$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM public.credits_referrals('shadow:1') AS o$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM public.credits_subscriptions('shadow:1') AS o$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM public.credits_purchases('shadow:1') AS o$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM public.credits_history('shadow:1', kinds => '{opening,deduction}', since => '2030-01-01', until => '2031-01-01') AS h$$),
	(NULL, 'regress_pgtap_admin', $$SELECT (d).balance::pg_catalog.text FROM public.credits_open_account('shadow:2', 10, 'token', '{}') AS d$$),
	('2030-02-02', 'regress_pgtap_admin', $$SELECT (d).balance::pg_catalog.text FROM public.credits_allocate('shadow:1', 10, 'alloc', 'ref', 'reason', '{}', 'purchase', '2031-01-01', priority => 3, price => 9.99, currency => 'EUR') AS d$$),
	(NULL, 'regress_pgtap_admin', $$SELECT (d).balance::pg_catalog.text FROM public.credits_adjust('shadow:1', -3, 'reason') AS d$$),
	(NULL, 'regress_pgtap_admin', $$SELECT (d).balance::pg_catalog.text FROM public.credits_adjust('shadow:1', 3, 'reason') AS d$$),
	(NULL, 'regress_pgtap_admin', $$SELECT (d).kind FROM public.credits_pause_account('shadow:1', 'reason') AS d$$),
	(NULL, 'regress_pgtap_admin', $$SELECT (d).kind FROM public.credits_resume_account('shadow:1', 'reason') AS d$$),
	(NULL, 'regress_pgtap_admin', $$SELECT (d).kind FROM public.credits_set_alerts('shadow:1', '5') AS d$$),
	(NULL, 'regress_pgtap_admin', $$SELECT public.credits_open_accounts('evil.members', 'id', 'member:', 3)::pg_catalog.text$$),
	(NULL, 'regress_pgtap_admin', $$INSERT INTO evil.users VALUES (7) RETURNING 'inserted'$$),
	(NULL, 'regress_pgtap_app', format('SELECT pg_catalog.format(''%%s %%s'', d.amount, d.held) FROM public.credits_extend_hold(%s, ''3 years'') AS d', :hold)),
	(NULL, 'regress_pgtap_app', format('SELECT pg_catalog.format(''%%s %%s'', d.amount, d.held) FROM public.credits_capture(%s, 25, allow_more => true) AS d', :hold)),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.format('%s %s', d.amount, d.held) FROM public.credits_hold('shadow:1', 3, 'hold', 'op', 'ref', '{}', '1 hour', 'shadow:top', 'pool_only') AS d$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.format('%s %s', d.amount, d.balance) FROM public.credits_deduct('shadow:1', 4, pool => 'shadow:top', mode => 'pool_first') AS d$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.format('%s %s', d.amount, d.balance) FROM public.credits_transfer('shadow:1', 'shadow:pool', 2) AS d$$),
	(NULL, 'regress_pgtap_admin', $$SELECT pg_catalog.format('%s %s', h.status, h.remaining) FROM credits.holds AS h WHERE h.account OPERATOR(pg_catalog.=) 'shadow:1' AND h.reserved OPERATOR(pg_catalog.=) 2$$),
	(NULL, 'regress_pgtap_admin', format('SELECT pg_catalog.format(''%%s %%s'', d.amount, d.balance) FROM public.credits_reverse_transfer(%s, ''reason'') AS d', :transfer)),
	(NULL, 'regress_pgtap_admin', $$SELECT pg_catalog.format('%s %s', u.window_start, u.used) FROM credits.pool_usage AS u WHERE u.account OPERATOR(pg_catalog.=) 'shadow:1'$$),
	(NULL, 'regress_pgtap_admin', $$SELECT pg_catalog.format('%s %s %s', m.window_start, m.used, m.remaining) FROM credits.pool_members AS m WHERE m.account OPERATOR(pg_catalog.=) 'shadow:1'$$),
	(NULL, 'regress_pgtap_admin', $$SELECT (d).kind FROM public.credits_change_member('shadow:pool', 'shadow:1', 60, 'day', 'Asia/Tokyo') AS d$$),
	(NULL, 'regress_pgtap_admin', $$SELECT (d).kind FROM public.credits_remove_member('shadow:pool', 'shadow:1') AS d$$),
	(NULL, 'regress_pgtap_admin', $$SELECT (d).kind FROM public.credits_add_member('shadow:pool', 'shadow:1') AS d$$),
	(NULL, 'regress_pgtap_admin', $$SELECT (d).kind FROM public.credits_set_limits('shadow:1', 1000, 'clip', 1, 100, 200, 300, 'Asia/Tokyo') AS d$$),
	(NULL, 'regress_pgtap_app', $$SELECT pg_catalog.format('%s %s', d.amount, d.balance) FROM public.credits_deduct('shadow:1', 1) AS d$$),
	(NULL, 'regress_pgtap_admin', $$SELECT s::pg_catalog.text FROM credits.settled(credits.account_id('shadow:1'), '2030-06-01') AS s$$),
	(NULL, 'regress_pgtap_admin', $$SELECT public.credits_balance('shadow:2')::pg_catalog.text$$),
	(NULL, 'regress_pgtap_admin', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM public.credits_verify() AS v$$),
	(NULL, 'regress_pgtap_admin', $$SELECT pg_catalog.length(public.credits_digest())::pg_catalog.text$$),
	(NULL, 'regress_pgtap_admin', $$SELECT pg_catalog.count(*)::pg_catalog.text FROM credits.draws AS d WHERE d.kind OPERATOR(pg_catalog.=) 'adjustment'$$),
	(NULL, 'regress_pgtap_admin', $$SELECT pg_catalog.max(c.amount)::pg_catalog.text FROM credits.chain AS c WHERE c.kind OPERATOR(pg_catalog.=) 'deduction'$$),
	(NULL, 'regress_pgtap_admin', $$SELECT 'synced' FROM public.credits_sync_sequences()$$),
	(NULL, 'regress_pgtap_admin', $$CALL public.credits_settle(10, NULL, NULL)$$),
	(NULL, 'regress_pgtap_admin', $$CALL public.credits_warn(10, NULL, NULL)$$),
	(NULL, 'regress_pgtap_admin', $$CALL public.credits_housekeep(10, NULL, NULL)$$),
	(NULL, 'regress_pgtap_admin', $$CALL public.credits_watch(10, NULL, NULL)$$),
	(NULL, 'regress_pgtap_admin', $$SELECT pg_catalog.format('%s %s %s', j.job, j.done, j.behind) FROM credits.jobs AS j WHERE j.job OPERATOR(pg_catalog.=) 'credits_warn'$$),
	(NULL, 'regress_pgtap_admin', $$SELECT (d).kind FROM public.credits_close_account('shadow:1', 'reason') AS d$$);
CREATE TABLE evil.members (id int, name text);
INSERT INTO evil.members VALUES (1, 'a'), (2, 'b');
CREATE TABLE evil.users (id int);
CREATE TRIGGER open_account AFTER INSERT ON evil.users
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id', 'shadow user:', '2');
GRANT ALL ON evil.members, evil.users TO regress_pgtap_admin;

-- Makes every call as its role with a search_path, takes all of it back, and
-- returns what each answered.  The clock moves in between, so that there is
-- something to settle.
CREATE FUNCTION evil.answers(path text) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
	c record;
	answer text;
	answers text[] := '{}';
BEGIN
	FOR c IN SELECT * FROM evil.calls ORDER BY n LOOP
		IF c.clock IS NOT NULL THEN
			PERFORM pg_catalog.set_config('credits.test_clock', c.clock::pg_catalog.text, true);
		END IF;
		PERFORM pg_catalog.set_config('role', c.role::pg_catalog.text, true),
			pg_catalog.set_config('search_path', path, true);
		BEGIN
			answer := NULL;
			EXECUTE c.statement INTO answer;
		EXCEPTION WHEN OTHERS THEN
			answer := SQLSTATE OPERATOR(pg_catalog.||) ' ' OPERATOR(pg_catalog.||) SQLERRM;
		END;
		RESET search_path;
		RESET role;
		answers := answers OPERATOR(pg_catalog.||) coalesce(answer, '(null)');
	END LOOP;
	RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION WHEN SQLSTATE 'ZZ000' THEN
	RETURN answers;
END
$$;
CREATE TABLE evil.baseline AS SELECT evil.answers('pg_catalog, public') AS answers;
SELECT isnt(answers[i], NULL, format('call %s answers: %s', i, answers[i]))
FROM evil.baseline, generate_subscripts(answers, 1) AS i;
SELECT ok(answers[i] !~ '^[0-9A-Z]{5} ' AND answers[i] <> '(null)', format('call %s works: %s', i, answers[i]))
FROM evil.baseline, generate_subscripts(answers, 1) AS i;

-- the traps
CREATE FUNCTION evil.trap() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'a trap has been run' USING ERRCODE = 'ZZ666';
END
$$;
GRANT EXECUTE ON FUNCTION evil.trap TO PUBLIC;
SET LOCAL ROLE regress_pgtap_app;
-- functions of ours and of PostgreSQL's, for all types that we use
DO $$
DECLARE
	f text;
BEGIN
	FOREACH f IN ARRAY ARRAY[
		'account_id(account text) RETURNS bigint', 'advance_sequence(sequence regclass, id bigint) RETURNS void', 'settled(account_id bigint, at timestamptz) RETURNS record', 'settled_grants(account_id bigint) RETURNS SETOF record', 'now() RETURNS timestamptz', 'required(value timestamptz, argument text) RETURNS timestamptz',
		'history_position(account text, transaction_id bigint) RETURNS timestamptz', 'max_rows(max_rows integer) RETURNS integer',
		'credits_balance(account text) RETURNS bigint', 'credits_deduct(account text, amount bigint) RETURNS record',
		'sha256(bytea) RETURNS bytea', 'encode(bytea, text) RETURNS text', 'nextval(regclass) RETURNS bigint',
		'setval(regclass, bigint) RETURNS bigint', 'date_part(text, timestamptz) RETURNS double precision',
		'extract(text, timestamptz) RETURNS numeric', 'date_trunc(text, timestamptz) RETURNS timestamptz',
		'generate_subscripts(bigint[], integer) RETURNS SETOF integer', 'jsonb_build_object(VARIADIC "any") RETURNS jsonb',
		'pg_notify(text, text) RETURNS void', 'bigint_sum(bigint) RETURNS bigint', 'int8(numeric) RETURNS bigint',
		'text(jsonb) RETURNS text', 'quote_ident(text) RETURNS text', 'format(text, VARIADIC "any") RETURNS text',
		'concat(VARIADIC "any") RETURNS text', 'greatest(bigint, bigint) RETURNS bigint', 'max(bigint) RETURNS bigint'
	] LOOP
		BEGIN
			EXECUTE format('CREATE FUNCTION evil.%s LANGUAGE plpgsql AS ''BEGIN PERFORM evil.trap(); END''', f);
		EXCEPTION WHEN syntax_error OR invalid_function_definition OR feature_not_supported OR wrong_object_type THEN
			NULL;
		END;
	END LOOP;
END
$$;
-- operators on the types that we compare, add and concatenate
DO $$
DECLARE
	t text;
	o text;
	n int := 0;
BEGIN
	FOREACH t IN ARRAY ARRAY['bigint', 'integer', 'text', 'timestamptz', 'numeric', 'jsonb', 'bytea', 'double precision', 'name'] LOOP
		FOREACH o IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>='] LOOP
			n := n + 1;
			EXECUTE format('CREATE FUNCTION evil.compare_%s(%s, %2$s) RETURNS boolean LANGUAGE plpgsql AS ''BEGIN PERFORM evil.trap(); END''', n, t);
			EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %2$s, FUNCTION = evil.compare_%s)', o, t, n);
		END LOOP;
		FOREACH o IN ARRAY ARRAY['+', '-', '*', '%', '||'] LOOP
			n := n + 1;
			EXECUTE format('CREATE FUNCTION evil.compute_%s(%s, %2$s) RETURNS %2$s LANGUAGE plpgsql AS ''BEGIN PERFORM evil.trap(); END''', n, t);
			EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %2$s, FUNCTION = evil.compute_%s)', o, t, n);
		END LOOP;
	END LOOP;
	CREATE FUNCTION evil.negate(bigint) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN PERFORM evil.trap(); END';
	CREATE OPERATOR evil.- (RIGHTARG = bigint, FUNCTION = evil.negate);
END
$$;
-- tables, views, types and sequences of the names that we use, both places
CREATE TABLE evil.accounts (id bigint, name text, balance bigint);
CREATE TABLE evil.grants (LIKE evil.accounts);
CREATE TABLE evil.log (LIKE evil.accounts);
CREATE TABLE evil.transactions (LIKE evil.accounts);
CREATE TABLE evil.events (LIKE evil.accounts);
CREATE TABLE evil.hold_states (LIKE evil.accounts);
CREATE TABLE evil.holds (LIKE evil.accounts);
CREATE TABLE evil.limits (LIKE evil.accounts);
CREATE TABLE evil.pool_members (LIKE evil.accounts);
CREATE TABLE evil.pool_usage (LIKE evil.accounts);
CREATE SEQUENCE evil.transactions_id_seq;
CREATE TYPE evil.receipt AS (nothing int);
CREATE TYPE evil.attempt AS (nothing int);
CREATE TYPE evil.problem AS (nothing int);
CREATE TYPE evil.settlement AS (nothing int);
CREATE DOMAIN evil.int8 AS pg_catalog.text;
CREATE DOMAIN evil.timestamptz AS pg_catalog.text;
CREATE TEMP TABLE accounts (id bigint, name text, balance bigint);
CREATE TEMP TABLE grants (LIKE accounts);
CREATE TEMP TABLE log (LIKE accounts);
CREATE TEMP TABLE transactions (LIKE accounts);
CREATE TEMP TABLE events (LIKE accounts);
CREATE TEMP TABLE hold_states (LIKE accounts);
CREATE TEMP TABLE limits (LIKE accounts);
CREATE TEMP TABLE members (LIKE accounts);
CREATE TEMP TABLE a (id bigint, at bigint);
CREATE TEMP TABLE g (id bigint);
CREATE TEMP TABLE due (id bigint);
CREATE TEMP TABLE next (id bigint);
CREATE TEMP TABLE pg_class (LIKE accounts);
CREATE TEMP TABLE pg_roles (LIKE accounts);
CREATE TEMP SEQUENCE transactions_id_seq;
CREATE DOMAIN pg_temp.int8 AS pg_catalog.text;
CREATE DOMAIN pg_temp.text AS pg_catalog.int4;
CREATE TYPE pg_temp.receipt AS (nothing int);
CREATE TEMP VIEW draws AS SELECT 1 AS nothing;
CREATE FUNCTION pg_temp.now() RETURNS pg_catalog.timestamptz LANGUAGE plpgsql AS 'BEGIN PERFORM evil.trap(); END';
CREATE FUNCTION pg_temp.account_id(pg_catalog.text) RETURNS pg_catalog.int8 LANGUAGE plpgsql AS 'BEGIN PERFORM evil.trap(); END';
RESET ROLE;
-- they are real traps
CREATE FUNCTION evil.sprung(statement pg_catalog.text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.set_config('search_path', 'evil, pg_catalog', true);
	EXECUTE statement;
	PERFORM pg_catalog.set_config('search_path', 'public', true);
	RETURN false;
EXCEPTION WHEN SQLSTATE 'ZZ666' THEN
	RETURN true;
END
$$;
SELECT ok(evil.sprung('SELECT 1::bigint + 1::bigint'), 'the trap + works');
SELECT ok(evil.sprung('SELECT ''a''::pg_catalog.text = ''a''::pg_catalog.text'), 'the trap = works');
SELECT ok(evil.sprung('SELECT now()'), 'the trap now() works');
SELECT ok(evil.sprung('SELECT sha256(''x''::bytea)'), 'the trap sha256() works');

-- with traps everywhere: the same answers
CREATE TABLE evil.results AS
SELECT p.path, evil.answers(p.path) AS answers
FROM (VALUES ('evil, pg_catalog, public'), ('pg_temp, evil, pg_catalog, public'),
			 ('pg_temp, pg_catalog, public, evil')) AS p (path);
-- pgTAP itself would fall into them
SET LOCAL search_path = pg_catalog, public, pg_temp;
SELECT is(r.answers, b.answers, 'the same answers with search_path = ' || r.path)
FROM evil.results AS r, evil.baseline AS b;
-- each by itself, to see which differs
SELECT is(r.answers[i], b.answers[i], format('call %s with search_path = %s', i, r.path))
FROM evil.results AS r, evil.baseline AS b, generate_subscripts(b.answers, 1) AS i
WHERE r.path = 'pg_temp, evil, pg_catalog, public' AND i > 6;
SELECT is((SELECT count(*)::int FROM evil.accounts) + (SELECT count(*)::int FROM pg_temp.accounts), 0,
	'nothing has been written to the false tables');

SELECT * FROM finish();
ROLLBACK;
