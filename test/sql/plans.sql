-- plans: publishing, versions, retiring
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.plans_id_seq RESTART 410001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';

-- with nothing but a name and credits, and with everything
SELECT credits_set_plan('plans:free', 0);
SELECT credits_set_plan(name => 'plans:pro', credits => 1000, period => 'week', every => 2,
	price => 19.99, currency => 'EUR', rollover => 'share', rollover_share => 0.25,
	rollover_minimum => 10, rollover_periods => 3, priority => 35, trial => '14 days',
	trial_credits => 50, catch_up => 'latest', unit => 'image', features => '{"seats": 3}');
SELECT credits_set_plan('plans:keep', 10, rollover => 'maximum', rollover_periods => NULL, trial => '1 month');
\x
SELECT *, role = session_user AS by_me FROM (SELECT id, name, version, unit, credits, period, every, price,
	currency, rollover, rollover_maximum, rollover_share, rollover_minimum, rollover_periods, priority,
	trial, trial_credits, catch_up, features, retired, created_at, role FROM credits.plans) AS p
WHERE id BETWEEN 410001 AND 419999 ORDER BY id;
\x

-- the same terms are no new version, however they are written
SELECT credits_set_plan(name => 'plans:pro', credits => 1000, period => 'week', every => 2,
	price => 19.990, currency => 'EUR', rollover => 'share', rollover_share => 0.250,
	rollover_minimum => 10, rollover_periods => 3, priority => 35, trial => '14 days',
	trial_credits => 50, catch_up => 'latest', unit => 'image', features => '{ "seats":3 }');
-- but 1 month is no 30 days
SELECT credits_set_plan('plans:keep', 10, rollover => 'maximum', rollover_periods => NULL, trial => '30 days');
SELECT credits_set_plan('plans:keep', 10, rollover => 'maximum', rollover_periods => NULL, trial => '1 month');
SELECT id, version, trial FROM credits.plans WHERE name = 'plans:keep' ORDER BY version;
SELECT name, version FROM credits.current_plans WHERE id BETWEEN 410001 AND 419999 ORDER BY name;

-- retired ones are not sold, but come back with a new version
SELECT credits_retire_plan('plans:keep');
SELECT name, version FROM credits.current_plans WHERE id BETWEEN 410001 AND 419999 ORDER BY name;
SELECT credits_set_plan('plans:keep', 10, rollover => 'maximum', rollover_periods => NULL, trial => '1 month');
SELECT name, version FROM credits.current_plans WHERE id BETWEEN 410001 AND 419999 ORDER BY name;
SELECT credits_retire_plan('plans:keep');

-- errors
CREATE FUNCTION pg_temp.refused(command text, OUT code text, OUT message text, OUT detail text, OUT hint text)
LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	code := '00000';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
END
$$;
SELECT (pg_temp.refused(command)).* FROM (VALUES
	('SELECT credits_retire_plan(''plans:keep'')'),
	('SELECT credits_retire_plan(''plans:none'')'),
	('SELECT credits_retire_plan(NULL)'),
	('SELECT credits_set_plan(NULL, 1)'),
	('SELECT credits_set_plan('''', 1)'),
	('SELECT credits_set_plan(''x '', 1)'),
	('SELECT credits_set_plan(repeat(''x'', 10000000), 1)'),
	('SELECT credits_set_plan(''x'', NULL)'),
	('SELECT credits_set_plan(''x'', -1)'),
	('SELECT credits_set_plan(''x'', 1, period => NULL)'),
	('SELECT credits_set_plan(''x'', 1, period => ''fortnight'')'),
	('SELECT credits_set_plan(''x'', 1, period => repeat(''x'', 10000000))'),
	('SELECT credits_set_plan(''x'', 1, every => NULL)'),
	('SELECT credits_set_plan(''x'', 1, every => 0)'),
	('SELECT credits_set_plan(''x'', 1, every => 1001)'),
	('SELECT credits_set_plan(''x'', 1, price => 1)'),
	('SELECT credits_set_plan(''x'', 1, price => -1, currency => ''EUR'')'),
	('SELECT credits_set_plan(''x'', 1, price => ''NaN'', currency => ''EUR'')'),
	('SELECT credits_set_plan(''x'', 1, price => 1, currency => ''euro'')'),
	('SELECT credits_set_plan(''x'', 1, rollover => NULL)'),
	('SELECT credits_set_plan(''x'', 1, rollover => ''some'')'),
	('SELECT credits_set_plan(''x'', 1, rollover_maximum => 1)'),
	('SELECT credits_set_plan(''x'', 1, rollover_share => 1)'),
	('SELECT credits_set_plan(''x'', 1, rollover_minimum => 1)'),
	('SELECT credits_set_plan(''x'', 1, rollover_minimum => NULL)'),
	('SELECT credits_set_plan(''x'', 1, rollover => ''maximum'', rollover_maximum => -1)'),
	('SELECT credits_set_plan(''x'', 1, rollover => ''share'')'),
	('SELECT credits_set_plan(''x'', 1, rollover => ''share'', rollover_share => 1.01)'),
	('SELECT credits_set_plan(''x'', 1, rollover => ''share'', rollover_share => -0.01)'),
	('SELECT credits_set_plan(''x'', 1, rollover => ''share'', rollover_share => ''NaN'')'),
	('SELECT credits_set_plan(''x'', 1, rollover_periods => 0)'),
	('SELECT credits_set_plan(''x'', 1, rollover_periods => 10001)'),
	('SELECT credits_set_plan(''x'', 1, priority => -1)'),
	('SELECT credits_set_plan(''x'', 1, priority => 32768)'),
	('SELECT credits_set_plan(''x'', 1, trial => ''0'')'),
	('SELECT credits_set_plan(''x'', 1, trial => ''-1 day'')'),
	('SELECT credits_set_plan(''x'', 1, trial => ''1001 years'')'),
	('SELECT credits_set_plan(''x'', 1, trial_credits => 1)'),
	('SELECT credits_set_plan(''x'', 1, trial => ''1 day'', trial_credits => -1)'),
	('SELECT credits_set_plan(''x'', 1, catch_up => ''some'')'),
	('SELECT credits_set_plan(''x'', 1, unit => '''')'),
	('SELECT credits_set_plan(''x'', 1, features => jsonb_build_object(''a'', repeat(''x'', 20000)))')
) AS v (command);
BEGIN READ ONLY;
SELECT credits_set_plan('x', 1);
\echo :SQLSTATE
ROLLBACK;

-- published is published, even for who owns the table
RESET ROLE;
UPDATE credits.plans SET credits = 1;
DELETE FROM credits.plans;
TRUNCATE credits.plans;
SET ROLE regress_credits_app;
SELECT count(*) > 0 AS may_read FROM credits.current_plans;
SELECT credits_set_plan('x', 1);
SELECT credits_retire_plan('plans:free');
SELECT FROM credits.plans;
