-- audit: who changed what is set, from what to what, and who moved credits by hand
-- in a database of its own: what others do is none of its business
\set shared :DBNAME
CREATE DATABASE regress_audit TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_audit
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 835001;
ALTER SEQUENCE credits.grants_id_seq RESTART 835001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 835001;
ALTER SEQUENCE credits.audit_log_id_seq RESTART 835001;
SET credits.test_clock = '2246-01-01 00:00:00+00';

-- who may what
SELECT p.proname, array_agg(r.rolname ORDER BY r.rolname) AS roles
FROM pg_proc AS p JOIN pg_roles AS r ON has_function_privilege(r.oid, p.oid, 'EXECUTE')
WHERE p.proname = 'credits_audit' AND r.rolname ~ '^credits_'
GROUP BY p.proname;

-- whoever is session_user, of the rows that are new
CREATE VIEW pg_temp.audited AS
SELECT id, topic, name, account, old_values AS old, new_values AS new, transaction_id AS t, amount, reason, actor
FROM credits_audit(max_rows => 1000) WHERE role = session_user;
CREATE TEMP TABLE seen (id bigint);
INSERT INTO seen VALUES (0);
CREATE FUNCTION pg_temp.news() RETURNS TABLE (topic text, name text, account text, old jsonb, new jsonb)
LANGUAGE sql AS $$
	WITH n AS MATERIALIZED (SELECT * FROM credits.audit_log AS l WHERE l.id > (SELECT max(seen.id) FROM seen)),
		 u AS (INSERT INTO seen SELECT max(n.id) FROM n HAVING count(*) > 0)
	SELECT n.topic, n.name, a.name, n.old_values, n.new_values
	FROM n LEFT JOIN credits.accounts AS a ON a.id = n.account_id ORDER BY n.id
$$;
SET credits.actor = 'mia';

-- versions: the old values are those of the version that is replaced
SELECT credits_set_operation('render', 5, unit_cost => 0.5) AS v1 \gset
SELECT credits_set_operation('render', 9, active_from => '2250-01-01') AS v2 \gset
SELECT credits_set_operation('render', 6) AS v3 \gset
SELECT credits_retire_operation('render') AS v4 \gset
SELECT topic, name, account, old - 'id' AS old, new - 'id' AS new FROM pg_temp.news();
-- what changes nothing
SELECT credits_set_operation('scan', 1) = credits_set_operation('scan', 1) AS same;
SELECT topic, name, new ->> 'base_cost' AS cost FROM pg_temp.news();

SELECT credits_set_plan('pro', 300, 'month', price => 9.90, currency => 'EUR') AS plan \gset
SELECT credits_set_plan('pro', 400) AS plan \gset
SELECT credits_retire_plan('pro') AS plan \gset
SELECT credits_set_package('small', 100, 1.00, 'EUR') AS package \gset
SELECT credits_set_package('small', price => 1.50) AS package \gset
SELECT credits_set_unit_price('EUR', 0.01) AS price \gset
SELECT credits_set_unit_price('EUR', 0.02) AS price \gset
SELECT credits_set_volume_discount('{100,1000}', '{5,10}') AS discount \gset
SELECT credits_set_volume_discount('{100,1000}', '{5,15}') AS discount \gset
SELECT credits_set_promotion('spring', 'percent', 10) AS promotion \gset
SELECT credits_set_promotion('spring', value => 20) AS promotion \gset
SELECT credits_set_template('low_balance', subject => 'Low', body => 'Oh.') AS template \gset
SELECT credits_set_template('low_balance', subject => 'Very low') AS template \gset
SELECT topic, name, old - 'id' AS old, new - '{id,version,created_at}'::text[] AS new FROM pg_temp.news();

-- what is changed where it stands
SELECT credits_set_activity_rule('storm', 'spend', 10, minimum => 100);
SELECT credits_set_activity_rule('storm', threshold => 20);
SELECT credits_remove_activity_rule('storm');
-- the same whatever the session's settings
SET timezone = 'Asia/Tokyo';
SET intervalstyle = 'sql_standard';
SELECT credits_set_activity_rule('storm', 'refunds', 10, span => '1 day 2 hours', minimum => 1);
SELECT credits_set_operation('trip', 1, active_until => '2246-01-02 00:00:00+00') > 0 AS set;
RESET intervalstyle;
SET timezone = 'UTC';
CALL credits_pause_service('a bad deployment', operations => '{render}');
CALL credits_pause_service('still bad');
SELECT credits_resume_service();
SELECT credits_add_consumer('crm');
SELECT credits_remove_consumer('crm');
SELECT topic, name, old, new FROM pg_temp.news();

-- no secret is copied
SELECT credits_stripe_add_secret('shop', 'whsec_0123456789abcdef0123456789abcdef');
SELECT credits_stripe_set_price('price_1', plan => 'pro');
SELECT credits_set_plan('pro', 500) AS plan \gset
SELECT credits_stripe_set_price('price_1', plan => 'pro');
SELECT credits_stripe_remove_secret('shop');
SELECT credits_create_promo_code('SPRING30', 30, max_uses => 100, metadata => '{"by": "marketing"}');
SELECT count(*) FROM credits_create_promo_codes(20, 5, prefix => 'X');
SELECT credits_deactivate_promo_code('SPRING30'), credits_deactivate_promo_code('spring30');
SELECT topic, name, old, new - 'last_id' AS new FROM pg_temp.news();
SELECT count(*) FROM credits.audit_log AS l WHERE l::text ~* 'whsec|spring30|X-';

-- settings of one account; reason and actor are those of the log
SELECT balance FROM credits_open_account('aud:1', 100);
SELECT balance FROM credits_open_account('aud:pool', 100);
SELECT kind FROM credits_set_limits('aud:1', max_spend => 50, reason => 'asked for it');
SELECT kind FROM credits_set_limits('aud:1', max_spend => 60, max_spend_per_day => 90);
SELECT kind FROM credits_set_limits('aud:1', clear => '{max_spend}');
SELECT kind FROM credits_set_limits('aud:1', max_spend_per_day => 90);
SELECT kind FROM credits_set_alerts('aud:1', '20%, 5');
SELECT kind FROM credits_pause_account('aud:1', 'stolen card');
SELECT kind FROM credits_resume_account('aud:1', 'found again');
SELECT kind FROM credits_add_member('aud:pool', 'aud:1', 30);
SELECT kind FROM credits_change_member('aud:pool', 'aud:1', cap => 40);
SELECT kind FROM credits_remove_member('aud:pool', 'aud:1');
SELECT credits_set_plan('own', 1, 'month') AS plan, credits_offer_plan('own', 'aud:1') AS offer \gset
SELECT credits_withdraw_offer(:offer);
SELECT topic, name, account, old - '{id,withdrawn_at}'::text[] AS old, new - '{id,withdrawn_at}'::text[] AS new FROM pg_temp.news()
WHERE topic <> 'plan';
SELECT topic, reason, actor FROM pg_temp.audited WHERE account = 'aud:1';

-- credits that are moved by hand, but not those that are bought, renewed or spent
SELECT transaction_id AS spend FROM credits_deduct('aud:1', 40) \gset
SELECT transaction_id AS other FROM credits_deduct('aud:1', 10) \gset
SELECT kind FROM credits_allocate('aud:1', 25, reason => 'sorry');
SELECT transaction_id AS adjustment FROM credits_adjust('aud:1', -5, 'miscounted', idempotency_key => 'k') \gset
SELECT replayed FROM credits_adjust('aud:1', -5, 'miscounted', idempotency_key => 'k');
SELECT kind FROM credits_void_grant((SELECT max(id) FROM credits.grants), 'a mistake');
SELECT kind FROM credits_refund(:spend, 15, reason => 'half of it');
SELECT count(*) FROM credits_allocate_many('[{"account": "aud:1", "amount": 1}, {"account": "aud:pool", "amount": 2}]'::jsonb);
SELECT count(*) FROM credits_allocate_many('[{"account": "aud:1", "amount": 1}]'::jsonb, dry_run => true);
SELECT credits_adjust('aud:1', -5000, 'too much');
SET ROLE regress_credits_app;
SELECT kind FROM credits_refund(:other);
RESET ROLE;
SELECT topic, account, amount, reason, actor, t - 835000 AS t FROM pg_temp.audited WHERE amount IS NOT NULL;
SELECT count(*) FROM pg_temp.news();
-- who is no administrator gives back without notice
SET SESSION AUTHORIZATION regress_credits_app;
SELECT kind FROM credits_deduct('aud:1', 3);
SELECT kind FROM credits_refund((SELECT max(transaction_id) FROM credits_history('aud:1')));
RESET SESSION AUTHORIZATION;
SET credits.test_clock = '2246-01-01 00:00:00+00';
SET credits.actor = 'mia';
SELECT count(*) FROM pg_temp.news();

-- a transaction that is rolled back leaves nothing
BEGIN;
SELECT credits_set_operation('render', 7) > 0 AS set;
ROLLBACK;
SELECT count(*) FROM pg_temp.news();

-- conditions
SET credits.test_clock = '2246-02-01 00:00:00+00';
SET credits.actor = 'tom';
SELECT credits_set_operation('scan', 2) > :v4 AS set;
SELECT kind FROM credits_adjust('aud:pool', 7, 'found');
SELECT topic, name, account FROM credits_audit(since => '2246-02-01');
SELECT count(*) FROM credits_audit(until => '2246-02-01', topic => 'operation');
SELECT topic, name, actor FROM credits_audit(actor => 'tom');
SELECT topic, name FROM credits_audit(topic => 'operation', name => 'scan');
SELECT topic, amount FROM credits_audit(account => 'aud:pool');
SELECT topic, amount FROM credits_audit(account => 'aud:pool', topic => 'adjustment', changes => 'credits', actor => 'tom', role => session_user);
SELECT count(*) FROM credits_audit(role => 'nobody');
SELECT count(*) FILTER (WHERE amount IS NULL) AS configuration, count(*) FILTER (WHERE amount IS NOT NULL) AS credits
FROM credits_audit(changes => 'configuration', max_rows => 1000);
SELECT count(*) FILTER (WHERE amount IS NULL) AS configuration, count(*) FILTER (WHERE amount IS NOT NULL) AS credits
FROM credits_audit(changes => 'credits', max_rows => 1000);
SELECT count(*) FROM credits_audit(changes => 'credits', topic => 'plan');

-- pages: together they are everything, in the same order, whatever way they go
CREATE FUNCTION pg_temp.pages(arguments text, rows integer) RETURNS SETOF bigint LANGUAGE plpgsql AS $$
DECLARE last bigint; page bigint[];
BEGIN
	LOOP
		EXECUTE format('SELECT array_agg(id) FROM credits_audit(%s after_id => $1, max_rows => $2)', arguments)
			INTO page USING last, rows;
		EXIT WHEN page IS NULL;
		RETURN QUERY SELECT unnest(page);
		last := page[cardinality(page)];
	END LOOP;
END $$;
SELECT c.arguments, array(SELECT pg_temp.pages(c.arguments, r.n)) = c.ids AS same, cardinality(c.ids) > 3 AS several
FROM (VALUES
	('', array(SELECT id FROM credits.audit_log ORDER BY at DESC, id DESC)),
	($$account => 'aud:1', $$, array(SELECT l.id FROM credits.audit_log AS l JOIN credits.accounts AS a ON a.id = l.account_id
		WHERE a.name = 'aud:1' ORDER BY l.at DESC, l.id DESC)),
	($$topic => 'operation', $$, array(SELECT id FROM credits.audit_log WHERE topic = 'operation' ORDER BY at DESC, id DESC)),
	($$changes => 'configuration', $$, array(SELECT id FROM credits.audit_log WHERE amount IS NULL ORDER BY at DESC, id DESC)),
	($$since => '2246-01-01', until => '2246-01-31', $$, array(SELECT id FROM credits.audit_log WHERE at < '2246-01-31' ORDER BY at DESC, id DESC))
) AS c (arguments, ids), (VALUES (1), (3), (1000)) AS r (n)
ORDER BY 1, r.n;

-- bad arguments
SELECT credits_audit(topic => 'weather');
SELECT credits_audit(changes => 'both');
SELECT credits_audit(after_id => 1);
SELECT credits_audit(account => 'aud:none');
\set VERBOSITY sqlstate
SELECT credits_audit(max_rows => 0);
SELECT credits_audit(max_rows => 1001);
SELECT credits_audit(max_rows => NULL);
SELECT credits_audit(role => '');
SELECT credits_audit(name => repeat('x', 1001));
\set VERBOSITY default

-- nobody changes it, nor adds to it by hand
UPDATE credits.audit_log SET actor = 'somebody else';
\set VERBOSITY sqlstate
DELETE FROM credits.audit_log;
TRUNCATE credits.audit_log;
SET ROLE regress_credits_admin;
INSERT INTO credits.audit_log (id, at, topic, role) VALUES (1, now(), 'plan', 'x');
UPDATE credits.audit_log SET actor = 'somebody else';
DELETE FROM credits.audit_log;
RESET ROLE;
\set VERBOSITY default

-- what the owner changes directly is noted, too, whatever the role of replication
SELECT count(*) FROM pg_temp.news();
INSERT INTO credits.activity_rules (name, kind, threshold, span, minimum, pauses, enabled, set_at, role)
	VALUES ('restored', 'refunds', 3, '1 hour', 1, false, true, now(), 'somebody');
SELECT * FROM pg_temp.news();
UPDATE credits.activity_rules SET threshold = 4;
SET session_replication_role = replica;
DELETE FROM credits.activity_rules;
RESET session_replication_role;
TRUNCATE credits.schedules, credits.service_pause;
SELECT * FROM pg_temp.news();

-- a trigger function for these tables only
CREATE TABLE mine (id bigint);
CREATE TRIGGER mine AFTER INSERT ON mine FOR EACH ROW EXECUTE FUNCTION credits.note_change();
INSERT INTO mine VALUES (1);
SELECT credits.note_change();

-- an administrator who has an account, too, and is erased
SELECT balance FROM credits_open_account('user:mia', 5);
SET credits.actor = 'user:mia';
SELECT credits_set_operation('scan', 3) > 0 AS set;
SELECT kind FROM credits_set_limits('user:mia', max_spend => 5);
RESET credits.actor;
SELECT topic, actor FROM credits_audit(actor => 'user:mia');
SELECT e ->> 'topic' AS topic, e ->> 'new_values' AS new_values
FROM jsonb_array_elements((SELECT jsonb_agg(x.data) FROM credits_export_person('user:mia') AS x (place, data) WHERE x.place = 'audit_log')) AS e;
CALL credits_erase_person('user:mia', 'asked for it');
CALL credits_housekeep();
SELECT count(*) FROM credits.audit_log AS l WHERE l::text LIKE '%user:mia%';
SELECT count(*) FROM credits_audit(actor => 'user:mia');
SELECT topic, actor, new_values FROM credits_audit(topic => 'limits', max_rows => 1);

SELECT * FROM credits_verify();
\c :shared
DROP DATABASE regress_audit;
