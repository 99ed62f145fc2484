-- one door: an application role with EXECUTE alone changes nothing in any other way,
-- an administrator neither, and a superuser only by switching the triggers off
BEGIN;
SET LOCAL search_path = public, pg_catalog;
SET LOCAL credits.test_clock = '2030-01-01 00:00:00+00';
SELECT no_plan();

CREATE ROLE regress_pgtap_app IN ROLE credits_app;
CREATE ROLE regress_pgtap_admin IN ROLE credits_admin;
CREATE ROLE regress_pgtap_auditor IN ROLE credits_auditor;
CREATE ROLE regress_pgtap_nobody;
SELECT credits_open_account('door:1', 100) IS NOT NULL AS x \gset
SELECT credits_open_account('door:2', 100) IS NOT NULL AS x \gset
SELECT credits_deduct('door:1', 95) IS NOT NULL AS x \gset
SELECT credits_hold('door:2', 5) IS NOT NULL AS x \gset
SELECT credits_add_member('door:2', 'door:1', 5) IS NOT NULL AS x \gset
SELECT credits_set_limits('door:2', 1000) IS NOT NULL AS x \gset

CREATE FUNCTION pg_temp.state_as(role name, statement text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	IF role IS NOT NULL THEN
		-- not SET ROLE, which a superuser's session could undo
		PERFORM set_config('session_authorization', role::text, true);
	END IF;
	EXECUTE statement;
	RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION
	WHEN SQLSTATE 'ZZ000' THEN RETURN '00000';
	WHEN OTHERS THEN RETURN SQLSTATE;
END
$$;
-- all tables and sequences there are, with their first two columns
CREATE TEMP TABLE stored AS
SELECT c.relname::text AS name, c.relkind,
	   (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute AS a
		WHERE a.attrelid = c.oid AND a.attnum IN (1, 2)) AS columns
FROM pg_class AS c
WHERE c.relnamespace = 'credits'::regnamespace AND c.relkind IN ('r', 'S');
CREATE FUNCTION pg_temp.facts() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r record;
	part text;
	parts text := '';
BEGIN
	FOR r IN SELECT * FROM stored ORDER BY name LOOP
		EXECUTE format('SELECT string_agg(t::text, '','' ORDER BY t::text) FROM (SELECT %s FROM credits.%I) AS t',
			CASE r.relkind WHEN 'S' THEN 'last_value' ELSE '*' END, r.name) INTO part;
		parts := concat(parts, r.name, part);
	END LOOP;
	RETURN md5(concat(parts,
		(SELECT string_agg(c.relacl::text, ',' ORDER BY c.oid) FROM pg_class AS c
		 WHERE c.relnamespace = 'credits'::regnamespace),
		(SELECT string_agg(p.proacl::text, ',' ORDER BY p.oid) FROM pg_proc AS p WHERE p.proname LIKE 'credits\_%')));
END
$$;
SELECT pg_temp.facts() AS before \gset

CREATE TEMP TABLE attack (statement text);
-- each way to write each table
INSERT INTO attack
SELECT format(f, t.name, t.columns[1], t.columns[2]) FROM stored AS t,
	unnest(ARRAY[
		'INSERT INTO credits.%1$s SELECT * FROM credits.%1$s',
		'INSERT INTO credits.%1$s DEFAULT VALUES',
		'INSERT INTO credits.%1$s SELECT * FROM credits.%1$s ON CONFLICT DO NOTHING',
		'UPDATE credits.%1$s SET %2$I = %2$I',
		'UPDATE credits.%1$s SET %2$I = %2$I WHERE false',
		'DELETE FROM credits.%1$s',
		'DELETE FROM credits.%1$s WHERE false',
		'TRUNCATE credits.%1$s',
		'TRUNCATE credits.%1$s CASCADE',
		'MERGE INTO credits.%1$s AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE',
		'WITH d AS (DELETE FROM credits.%1$s RETURNING 1) SELECT * FROM d',
		'SELECT * FROM credits.%1$s FOR UPDATE',
		'SELECT * FROM credits.%1$s FOR KEY SHARE',
		'LOCK credits.%1$s IN ROW EXCLUSIVE MODE',
		'LOCK credits.%1$s IN ACCESS EXCLUSIVE MODE',
		'ALTER TABLE credits.%1$s DISABLE TRIGGER ALL',
		'ALTER TABLE credits.%1$s DISABLE TRIGGER USER',
		'ALTER TABLE credits.%1$s ADD COLUMN x int',
		'ALTER TABLE credits.%1$s OWNER TO regress_pgtap_app',
		'ALTER TABLE credits.%1$s RENAME TO x',
		'ALTER TABLE credits.%1$s SET SCHEMA public',
		'ALTER TABLE credits.%1$s ENABLE ROW LEVEL SECURITY',
		'ALTER TABLE credits.%1$s SET (fillfactor = 10)',
		'DROP TABLE credits.%1$s',
		'DROP TABLE credits.%1$s CASCADE',
		'CREATE INDEX ON credits.%1$s (%2$I)',
		'REINDEX TABLE credits.%1$s',
		'CLUSTER credits.%1$s USING %1$s_pkey',
		'CREATE TRIGGER t AFTER INSERT ON credits.%1$s FOR EACH ROW EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()',
		'CREATE RULE r AS ON INSERT TO credits.%1$s DO INSTEAD NOTHING',
		'CREATE POLICY p ON credits.%1$s',
		'COMMENT ON TABLE credits.%1$s IS ''x''',
		'CREATE TEMP TABLE child () INHERITS (credits.%1$s)',
		'CREATE TEMP TABLE refs (id bigint REFERENCES credits.%1$s)',
		'CREATE PUBLICATION p FOR TABLE credits.%1$s',
		'CREATE STATISTICS s ON %2$I, %3$I FROM credits.%1$s'
	]) AS f
WHERE t.relkind = 'r';
-- the sequences
INSERT INTO attack
SELECT format(f, s.name) FROM stored AS s,
	unnest(ARRAY[
		'SELECT nextval(''credits.%s'')',
		'SELECT setval(''credits.%s'', 1)',
		'ALTER SEQUENCE credits.%s RESTART',
		'DROP SEQUENCE credits.%s'
	]) AS f
WHERE s.relkind = 'S';
-- the views, the functions, the schema, the extension, the roles
INSERT INTO attack
SELECT unnest(ARRAY[
	'DELETE FROM credits.draws',
	'UPDATE credits.chain SET amount = 1',
	'INSERT INTO credits.chain (id) VALUES (1)',
	'DELETE FROM credits.holds',
	'UPDATE credits.holds SET captured = 0',
	'DELETE FROM credits.pool_members',
	'UPDATE credits.pool_members SET cap = NULL',
	'CREATE OR REPLACE VIEW credits.draws AS SELECT 1',
	'SELECT credits.write_log()',
	'SELECT credits.refuse_change()',
	'CREATE TEMP TABLE t (id bigint); CREATE TRIGGER t AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION credits.write_log()',
	'ALTER FUNCTION public.credits_deduct OWNER TO regress_pgtap_app',
	'ALTER FUNCTION public.credits_deduct SECURITY DEFINER',
	'ALTER FUNCTION public.credits_balance_at RESET search_path',
	'DROP FUNCTION public.credits_deduct',
	'CREATE OR REPLACE FUNCTION public.credits_balance(account text) RETURNS bigint LANGUAGE sql AS ''SELECT 1''',
	'CREATE FUNCTION credits.mine() RETURNS int LANGUAGE sql AS ''SELECT 1''',
	'CREATE TABLE credits.mine (id int)',
	'ALTER SCHEMA credits OWNER TO regress_pgtap_app',
	'ALTER SCHEMA credits RENAME TO x',
	'DROP SCHEMA credits CASCADE',
	'DROP EXTENSION credits',
	'ALTER EXTENSION credits DROP TABLE credits.log',
	'ALTER EXTENSION credits UPDATE',
	'ALTER EXTENSION credits SET SCHEMA pg_temp',
	'CREATE FUNCTION pg_temp.f(text, bigint) RETURNS text LANGUAGE c AS ''$libdir/credits'', ''credits_allocate''',
	'LOAD ''credits''',
	'GRANT credits_admin TO regress_pgtap_app',
	'SET ROLE postgres',
	'SET ROLE pg_read_server_files',
	'ALTER ROLE credits_app LOGIN',
	'DROP ROLE credits_app',
	'COPY credits.log FROM PROGRAM ''true''',
	'COPY credits.log FROM ''/dev/null''',
	'SELECT pg_catalog.lo_import(''/dev/null'')',
	'SELECT pg_catalog.pg_read_file(''PG_VERSION'')',
	'CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION credits.refuse_change()'
]);
-- settings of the superuser
INSERT INTO attack
SELECT format(f, s) FROM (
		SELECT name FROM pg_settings WHERE name LIKE 'credits.%' AND context = 'superuser'
		UNION ALL VALUES ('session_replication_role')) AS settings (s),
	unnest(ARRAY['SELECT set_config(''%s'', current_setting(''%1$s''), true)',
				 'SELECT set_config(''%s'', current_setting(''%1$s''), false)']) AS f;
INSERT INTO attack VALUES
	('SET LOCAL credits.initial_balance = 1000000'),
	('SET credits.test_clock = ''2020-01-01'''),
	('RESET credits.test_clock'),
	('SET session_replication_role = replica'),
	('SET credits.refund_grace = ''100 years'''),
	('ALTER ROLE regress_pgtap_app SET credits.test_clock = ''2020-01-01'''),
	('ALTER SYSTEM SET credits.initial_balance = 1000000'),
	('SET allow_system_table_mods = on'),
	('CREATE FUNCTION pg_temp.g() RETURNS int LANGUAGE sql SET credits.initial_balance = 9 AS ''SELECT 1''; SELECT pg_temp.g()');

SELECT isnt(pg_temp.state_as(r.role, a.statement), '00000', r.role || ': ' || a.statement)
FROM attack AS a, (VALUES ('regress_pgtap_app'), ('regress_pgtap_admin'), ('regress_pgtap_auditor')) AS r (role)
-- an unprivileged role may read what it may read
WHERE NOT (a.statement LIKE 'LOAD%');
-- granting what one may not hand on is no error, and grants nothing
DO $$
DECLARE
	person text;
	thing text;
BEGIN
	SET LOCAL client_min_messages = error;
	FOREACH person IN ARRAY ARRAY['regress_pgtap_app', 'regress_pgtap_admin', 'regress_pgtap_auditor'] LOOP
		FOREACH thing IN ARRAY ARRAY['credits.accounts', 'credits.log', 'credits.transactions', 'credits.draws',
									 'FUNCTION credits_allocate', 'FUNCTION credits_deduct'] LOOP
			PERFORM set_config('session_authorization', person, true);
			BEGIN
				EXECUTE format('GRANT ALL ON %s TO regress_pgtap_nobody', thing);
			EXCEPTION WHEN insufficient_privilege THEN
				NULL;
			END;
			SET LOCAL SESSION AUTHORIZATION DEFAULT;
		END LOOP;
	END LOOP;
END
$$;
SET LOCAL client_min_messages = notice;
SELECT is(pg_temp.facts(), :'before', 'and nothing has changed');

-- a superuser: the log and the balances are refused, with the triggers on
CREATE TEMP TABLE refused (statement text UNIQUE);
INSERT INTO refused
SELECT format('UPDATE credits.accounts SET %1$I = %1$I %2$s', c.column_name, c.change)
FROM (VALUES ('id', '+ 1000000'), ('name', '|| ''x'''), ('status', '|| ''x'''), ('limited', 'IS FALSE'), ('created_at', '+ interval ''1 second'''),
	('due_at', '- interval ''1 second'''), ('granted', '+ 1'), ('refunded', '+ 1'), ('expired', '+ 1'),
	('held', '+ 1'), ('balance', '+ 1'), ('spent', '+ 1'), ('transaction_count', '+ 1'),
	('last_transaction_id', '+ 1'), ('last_at', '+ interval ''1 second'''), ('head', '|| ''\x00'''))
	AS c (column_name, change)
WHERE c.column_name <> 'due_at'
UNION ALL VALUES
	('UPDATE credits.accounts SET due_at = ''2029-01-01'''),
	('UPDATE credits.accounts SET balance = balance - 1 WHERE name = ''door:1'''),
	('UPDATE credits.accounts SET balance = 1000, granted = 1000 WHERE name = ''door:1'''),
	('UPDATE credits.accounts SET metadata = ''{}'', balance = balance + 1 WHERE name = ''door:1'''),
	('INSERT INTO credits.accounts SELECT * FROM credits.accounts ON CONFLICT (id) DO UPDATE SET balance = EXCLUDED.balance + 1'),
	('MERGE INTO credits.accounts AS a USING (SELECT 1) AS s ON true WHEN MATCHED THEN UPDATE SET balance = 7'),
	('UPDATE credits.hold_states SET released = reserved'),
	('UPDATE credits.hold_states SET expires_at = ''infinity'''),
	('DELETE FROM credits.accounts'), ('DELETE FROM credits.accounts WHERE false'),
	('TRUNCATE credits.accounts CASCADE'),
	('UPDATE credits.grants SET remaining = amount'), ('UPDATE credits.grants SET status = ''open'' WHERE false'),
	('UPDATE credits.grants SET price = 1'), ('DELETE FROM credits.grants'), ('TRUNCATE credits.grants CASCADE'),
	('UPDATE credits.log_default SET amount = 1'), ('UPDATE credits.log_default SET reason = NULL WHERE false'),
	('DELETE FROM credits.log_default'), ('TRUNCATE credits.log CASCADE'),
	('TRUNCATE credits.accounts, credits.grants, credits.log, credits.events CASCADE');
-- each table that is guarded, also one that is new; without CASCADE, foreign keys are
-- in the way before a trigger is
INSERT INTO refused
SELECT format(f, t.name, t.columns[1]) FROM stored AS t,
	unnest(ARRAY[
		'UPDATE credits.%1$s SET %2$I = %2$I WHERE false',
		'DELETE FROM credits.%s',
		'DELETE FROM credits.%s WHERE false',
		'TRUNCATE credits.%s CASCADE'
	]) AS f
WHERE EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = format('credits.%I', t.name)::regclass
			  AND g.tgfoid = 'credits.refuse_change'::regproc)
  -- of accounts some columns are free
  AND NOT (t.name = 'accounts' AND f LIKE 'UPDATE%')
ON CONFLICT DO NOTHING;
SELECT is(pg_temp.state_as(NULL, r.statement), '42501', 'superuser: ' || r.statement) FROM refused AS r;
SELECT is(pg_temp.state_as(NULL, 'SET LOCAL session_replication_role = replica; ' || r.statement), '42501',
	'superuser as a replica: ' || r.statement) FROM refused AS r;
SELECT is(pg_temp.facts(), :'before', 'and nothing has changed');
-- the hint leads to the right place
CREATE FUNCTION pg_temp.hint_of(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE statement;
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN hint;
END
$$;
SELECT matches(pg_temp.hint_of('UPDATE credits.accounts SET balance = 1000'), 'credits_adjust',
	'who updates a balance is led to credits_adjust');
SELECT matches(pg_temp.hint_of('DELETE FROM credits.hold_states'), 'credits_release',
	'who deletes a hold is led to credits_release');
-- what is the application's own
SELECT is(pg_temp.state_as(NULL, 'UPDATE credits.accounts SET metadata = ''{}'', unit = ''x'''),
	'00000', 'superuser: metadata and unit are free');
-- what was inserted past the functions is found
INSERT INTO credits.log_default (id, account_id, created_at, amount, held, balance_after, held_after, kind_code, role_id, hash)
SELECT 0, id, created_at, 1000, 0, 1000, 0, 'a', 1, sha256('x') FROM credits.accounts WHERE name = 'door:1';
SELECT isnt_empty($$ SELECT * FROM credits_verify('door:1') $$, 'a forged row is found');

SELECT * FROM finish();
ROLLBACK;
