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
SELECT credits_set_plan('plans:keep', 10, rollover => 'maximum', clear => '{rollover_periods}', trial => '1 month');
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
SELECT credits_set_plan('plans:keep', 10, rollover => 'maximum', clear => '{rollover_periods}', trial => '30 days');
SELECT credits_set_plan('plans:keep', 10, rollover => 'maximum', clear => '{rollover_periods}', trial => '1 month');
SELECT id, version, trial FROM credits.plans WHERE name = 'plans:keep' ORDER BY version;
SELECT name, version FROM credits.current_plans WHERE plan_id BETWEEN 410001 AND 419999 ORDER BY name;

-- retired ones are not sold, but come back with a new version
SELECT credits_retire_plan('plans:keep');
SELECT name, version FROM credits.current_plans WHERE plan_id BETWEEN 410001 AND 419999 ORDER BY name;
SELECT credits_set_plan('plans:keep', 10, rollover => 'maximum', clear => '{rollover_periods}', trial => '1 month');
SELECT name, version FROM credits.current_plans WHERE plan_id BETWEEN 410001 AND 419999 ORDER BY name;
SELECT credits_retire_plan('plans:keep') AS retired \gset
SELECT credits_retire_plan('plans:keep') = :retired AS again;

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
	('SELECT credits_retire_plan(''plans:none'')'),
	('SELECT credits_retire_plan(NULL)'),
	('SELECT credits_set_plan(NULL, 1)'),
	('SELECT credits_set_plan('''', 1)'),
	('SELECT credits_set_plan(''x '', 1)'),
	('SELECT credits_set_plan(repeat(''x'', 10000000), 1)'),
	('SELECT credits_set_plan(''x'', NULL)'),
	('SELECT credits_set_plan(''x'', -1)'),
	('SELECT credits_set_plan(''x'', 1, period => ''fortnight'')'),
	('SELECT credits_set_plan(''x'', 1, period => repeat(''x'', 10000000))'),
	('SELECT credits_set_plan(''x'', 1, every => 0)'),
	('SELECT credits_set_plan(''x'', 1, every => 1001)'),
	('SELECT credits_set_plan(''x'', 1, price => 1)'),
	('SELECT credits_set_plan(''x'', 1, price => -1, currency => ''EUR'')'),
	('SELECT credits_set_plan(''x'', 1, price => ''NaN'', currency => ''EUR'')'),
	('SELECT credits_set_plan(''x'', 1, price => 1, currency => ''euro'')'),
	('SELECT credits_set_plan(''x'', 1, rollover => ''some'')'),
	('SELECT credits_set_plan(''x'', 1, rollover_maximum => 1)'),
	('SELECT credits_set_plan(''x'', 1, rollover_share => 1)'),
	('SELECT credits_set_plan(''x'', 1, rollover_minimum => 1)'),
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

-- a version starts from the newest one
CREATE FUNCTION pg_temp.terms(n bigint) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', version || ':', credits, period, every, coalesce(price::text, '-'), coalesce(currency, '-'), rollover,
		coalesce(rollover_maximum::text, '-'), coalesce(rollover_share::text, '-'), rollover_minimum, coalesce(rollover_periods::text, '-'),
		coalesce(rollover_total::text, '-'), rollover_again,
		coalesce(priority::text, '-'), coalesce(trial::text, '-'), trial_credits, catch_up, coalesce(unit, '-'), coalesce(features::text, '-'))
	FROM credits.plans WHERE id = n
$$;
SELECT pg_temp.terms(credits_set_plan('plans:set', 100, 'week', 2, 9.99, 'EUR', 'maximum', 50, rollover_minimum => 5, rollover_periods => 3,
	priority => 35, trial => '14 days', trial_credits => 20, catch_up => 'latest', unit => 'image', features => '{"seats": 3}'));
SELECT pg_temp.terms(credits_set_plan('plans:set', price => 12));
SELECT pg_temp.terms(credits_set_plan('plans:set', 200));
SELECT credits_set_plan('plans:set') = credits_set_plan('plans:set', 200, price => 12.00, rollover => 'maximum') AS same;
-- what has no effect any more goes; what is given without any is refused
SELECT pg_temp.terms(credits_set_plan('plans:set', rollover => 'share', rollover_share => 0.5));
SELECT pg_temp.terms(credits_set_plan('plans:set', rollover => 'maximum'));
SELECT pg_temp.terms(credits_set_plan('plans:set', rollover => 'none'));
SELECT pg_temp.terms(credits_set_plan('plans:set', clear => '{price,trial,catch_up,period,every}'));
SELECT pg_temp.terms(credits_set_plan('plans:set', trial => '7 days', rollover => 'maximum', clear => '{rollover_periods,unit,features,priority}'));
SELECT pg_temp.terms(credits_set_plan('plans:set', trial_credits => 9, credits => 300));
SELECT pg_temp.terms(credits_set_plan('plans:set', clear => '{trial_credits}'));
SELECT (pg_temp.refused(command)).* FROM (VALUES
	('SELECT credits_set_plan(''plans:set'', rollover => ''share'')'),
	('SELECT credits_set_plan(''plans:set'', rollover_share => 0.5)'),
	('SELECT credits_set_plan(''plans:set'', rollover => ''none'', rollover_maximum => 5)'),
	('SELECT credits_set_plan(''plans:set'', rollover => ''none'', rollover_total => 5)'),
	('SELECT credits_set_plan(''plans:set'', rollover => ''none'', rollover_again => true)'),
	('SELECT credits_set_plan(''plans:set'', rollover => ''maximum'', rollover_periods => 2, rollover_again => true)'),
	('SELECT credits_set_plan(''plans:set'', rollover => ''maximum'', rollover_again => true, clear => ''{rollover_periods}'')'),
	('SELECT credits_set_plan(''plans:set'', rollover => ''maximum'', rollover_total => -1)'),
	('SELECT credits_set_plan(''plans:set'', trial_credits => 5, clear => ''{trial}'')'),
	('SELECT credits_set_plan(''plans:set'', currency => ''EUR'')'),
	('SELECT credits_set_plan(''plans:set'', price => 1)'),
	('SELECT credits_set_plan(''plans:set'', clear => ''{credits}'')'),
	('SELECT credits_set_plan(''plans:set'', clear => ''{name}'')'),
	('SELECT credits_set_plan(''plans:set'', clear => ''{nothing}'')'),
	('SELECT credits_set_plan(''plans:set'', clear => ''{NULL}'')'),
	('SELECT credits_set_plan(''plans:set'', clear => ARRAY[repeat(''x'', 10000000)])'),
	('SELECT credits_set_plan(''plans:set'', trial => ''1 day'', clear => ''{trial}'')'),
	('SELECT credits_set_plan(''plans:unset'')')
) AS v (command);
SELECT pg_temp.terms(credits_set_plan('plans:set', rollover => 'maximum', rollover_periods => 1, rollover_total => 7, rollover_again => true));
SELECT pg_temp.terms(credits_set_plan('plans:set', rollover_periods => 2));
SELECT pg_temp.terms(credits_set_plan('plans:set', rollover => 'none'));
-- back with what it had
SELECT credits_retire_plan('plans:set') = credits_retire_plan('plans:set') AS again;
SELECT pg_temp.terms(credits_set_plan('plans:set'));

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
