-- preferences: of which events people are told, by which channels, and when
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 45001;
ALTER SEQUENCE credits.grants_id_seq RESTART 45001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 45001;
\set SHOW_CONTEXT never
SET credits.test_clock = '2030-01-15 12:00:00+00';
SELECT count(credits_open_account('pr:' || n, 10)) FROM generate_series(1, 6) AS n;
SELECT kind FROM credits_close_account('pr:6', 'test');

-- the kinds of events: nobody has to be told of what he is not told of by default
SELECT kind, told, required, critical FROM credits.event_kinds WHERE required AND NOT told OR critical AND NOT required;
SELECT kind FROM credits.event_kinds WHERE critical;
SELECT count(*) = count(DISTINCT kind) AS once, bool_and(kind ~ '^[a-z_]{1,63}$') AS named FROM credits.event_kinds;

-- as the settings have it
CREATE TEMP VIEW told AS
SELECT n, k.kind, string_agg(c.channel, ' ' ORDER BY c.o) FILTER (WHERE credits.is_told(45000 + n, k.kind, c.channel)) AS told
FROM generate_series(1, 5) AS n
CROSS JOIN (VALUES ('deduction_refused'), ('low_balance'), ('purchase_completed'), ('subscription_ending')) AS k (kind)
CROSS JOIN unnest(ARRAY['email', 'sms', 'push', 'webhook', 'inbox']) WITH ORDINALITY AS c (channel, o)
GROUP BY n, k.kind ORDER BY n, k.kind;
SELECT kind, told FROM told WHERE n = 1;
SET credits.default_channels = '';
SELECT kind, told FROM told WHERE n = 1;
SET credits.default_channels = ' email , low_balance:sms ,low_balance : email = off, deduction_refused:webhook,subscription_ending:push=off, subscription_ending:push=on';
SELECT kind, told FROM told WHERE n = 1;
-- what cannot be a list
\set VERBOSITY sqlstate
SET credits.default_channels = 'mail';
SET credits.default_channels = 'email sms';
SET credits.default_channels = ',email';
SET credits.default_channels = 'email,';
SET credits.default_channels = 'a:b:email';
SET credits.default_channels = ':email';
SET credits.default_channels = 'email=maybe';
SET credits.default_channels = 'email=';
SET credits.default_channels = 'low_balance:';
SET credits.default_channels = 'LOW:email';
SELECT set_config('credits.default_channels', repeat('email,', 256) || 'email', false);
SELECT set_config('credits.default_channels', repeat('x', 64) || ':email', false);
SELECT set_config('credits.default_channels', repeat('x', 10000000), false);
SELECT length(set_config('credits.default_channels', repeat('email,', 255) || 'email', false));
\set VERBOSITY default
RESET credits.default_channels;

-- the most specific one counts, and a kind is more specific than a channel
SET ROLE regress_credits_app;
SELECT credits_set_preference('pr:1', enabled => false), credits_set_preference('pr:1', NULL, 'sms', true),
	credits_set_preference('pr:1', 'low_balance', NULL, true), credits_set_preference('pr:1', 'low_balance', 'webhook', false);
-- it is set once
SELECT credits_set_preference('pr:1', enabled => false), credits_set_preference('pr:1', NULL, 'sms', true),
	credits_set_preference('pr:1', 'low_balance', NULL, true), credits_set_preference('pr:1', 'low_balance', 'webhook', false);
SELECT credits_set_preference('pr:2', NULL, 'email', false), credits_set_preference('pr:2', 'subscription_ending', enabled => false);
-- everything, but not what is for others
SELECT credits_set_preference('pr:3', enabled => true);
-- which has to be named
SELECT credits_set_preference('pr:4', 'deduction_refused', 'inbox', true);
-- a receipt can be had by more channels, but not by fewer
SELECT credits_set_preference('pr:5', 'purchase_completed', 'sms', true), credits_set_preference('pr:5', NULL, 'email', false);
SELECT credits_set_preference('pr:5', 'purchase_completed', 'email', false);
SELECT credits_set_preference('pr:5', 'redemption_throttled', NULL, false);
RESET ROLE;
SELECT * FROM told;
SET credits.default_channels = '';
SELECT * FROM told WHERE n IN (3, 5);
RESET credits.default_channels;
SET ROLE regress_credits_app;
SELECT kind, channel, told, required, preference FROM credits_preferences('pr:4') WHERE kind IN ('deduction_refused', 'low_balance', 'purchase_completed');
SELECT kind, channel, told, required, preference FROM credits_preferences('pr:1') WHERE kind IN ('low_balance', 'purchase_completed', 'plan_changed');
-- back to what is more general
SELECT credits_set_preference('pr:1', 'low_balance', 'webhook', clear => '{enabled}'), credits_set_preference('pr:1', 'low_balance', 'webhook', clear => '{enabled}'),
	credits_set_preference('pr:1', 'low_balance', clear => '{enabled}');
RESET ROLE;
SELECT * FROM told WHERE n = 1;
-- the account may be closed: people can still have less mail
SELECT credits_set_preference('pr:6', 'low_balance', 'email', false), credits_set_quiet_hours('pr:6', '22:00', '07:00', 'UTC');

-- quiet hours
SET ROLE regress_credits_app;
SELECT credits_set_quiet_hours('pr:1', '22:00', '07:30', 'Europe/Berlin'), credits_set_quiet_hours('pr:1', '22:00', '07:30', 'Europe/Berlin'),
	credits_set_quiet_hours('pr:2', '12:00', '13:00', 'UTC'), credits_set_quiet_hours('pr:3', '01:00', '24:00', 'America/New_York');
SELECT * FROM credits_quiet_hours('pr:1') UNION ALL SELECT * FROM credits_quiet_hours('pr:2') UNION ALL SELECT * FROM credits_quiet_hours('pr:3');
SELECT * FROM credits_quiet_hours('pr:4');
RESET ROLE;
SELECT at, credits.not_before(45001, 'low_balance', at) FROM unnest(ARRAY['2030-01-15 20:59:59.999999', '2030-01-15 21:00', '2030-01-15 23:59',
	'2030-01-16 00:00', '2030-01-16 06:29:59.999999', '2030-01-16 06:30', '2030-07-15 20:00', '2030-07-16 05:30', 'infinity', '-infinity',
	'4714-11-24 00:00:00+00 BC', '294276-12-31 23:59:59.999999+00', '1890-01-01 02:00']::timestamptz[]) AS at;
-- critical kinds pass
SELECT credits.not_before(45001, 'redemption_throttled', '2030-01-15 23:00'), credits.not_before(45004, 'low_balance', '2030-01-15 23:00');
-- a clock that is put forward over the end or the beginning, and one that is put back
SELECT credits_set_quiet_hours('pr:4', '22:00', '02:30', 'America/New_York'), credits_set_quiet_hours('pr:5', '22:00', '01:30', 'America/New_York');
SELECT at, credits.not_before(45004, 'low_balance', at) AS at_half_past_two, credits.not_before(45005, 'low_balance', at) AS at_half_past_one
FROM unnest(ARRAY['2030-03-10 06:00', '2030-03-10 06:59:59.999999', '2030-03-10 07:00', '2030-11-03 05:00', '2030-11-03 05:29:59', '2030-11-03 05:30', '2030-11-03 05:59:59',
	'2030-11-03 06:00', '2030-11-03 06:29:59', '2030-11-03 06:30', '2030-11-03 07:00']::timestamptz[]) AS at;
-- whatever the hours, the zone and the instant: it is quiet until then, and not after that
CREATE TEMP TABLE zone AS SELECT name FROM pg_timezone_names WHERE name IN ('America/New_York', 'Australia/Lord_Howe', 'Asia/Kathmandu', 'Pacific/Apia', 'Africa/Casablanca', 'Europe/Dublin');
SELECT count(*) > 0 AS zones FROM zone;
CREATE FUNCTION pg_temp.quiet(at timestamptz, f time, u time, zone text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
	SELECT CASE WHEN f < u THEN t >= f AND t < u ELSE t >= f OR t < u END FROM (SELECT (at AT TIME ZONE zone)::time) AS v (t)
$$;
DO $$
DECLARE
	q record;
	wrong bigint;
BEGIN
	FOR q IN SELECT z.name, f, u FROM zone AS z, unnest(ARRAY['00:00', '01:15', '02:00', '22:30', '23:59:59.999999']::time[]) AS f,
			unnest(ARRAY['00:00', '01:30', '02:00', '03:00', '08:00', '22:00']::time[]) AS u WHERE f <> u
	LOOP
		PERFORM public.credits_set_quiet_hours('pr:2', q.f, q.u, q.name);
		-- every ten minutes around each change of clocks, and on a day that a country left out
		SELECT count(*) INTO wrong
		FROM unnest(ARRAY['2030-03-09', '2030-03-30', '2030-04-06', '2030-10-05', '2030-10-26', '2030-11-02', '2011-12-29']::timestamptz[]) AS d,
			generate_series(d, d + interval '30 hours', interval '20 minutes') AS at,
			LATERAL credits.not_before(45002, 'low_balance', at) AS till
		WHERE till < at OR till > at + interval '50 hours' OR pg_temp.quiet(till, q.f, q.u, q.name)
		   OR (till > at AND NOT pg_temp.quiet(at, q.f, q.u, q.name))
		   OR (till > at AND NOT pg_temp.quiet(till - interval '1 microsecond', q.f, q.u, q.name))
		   OR (till > at AND NOT pg_temp.quiet(at + (till - at) / 2, q.f, q.u, q.name));
		IF wrong > 0 THEN
			RAISE NOTICE '% of % from % until %', wrong, q.name, q.f, q.u;
		END IF;
	END LOOP;
END
$$;
SELECT credits_set_quiet_hours('pr:2'), credits_set_quiet_hours('pr:2');
SELECT credits.not_before(45002, 'low_balance', '2030-01-15 12:30');
-- a zone that this system does not have
UPDATE credits.quiet_hours SET timezone = 'Mars/Olympus' WHERE account_id = 45001;
SELECT credits.not_before(45001, 'low_balance', '2030-01-15 23:00');

-- unsubscribing with one click
SET ROLE regress_credits_app;
SELECT credits_unsubscribe_token('pr:3', 'low_balance') AS token, credits_unsubscribe_token('pr:3', 'plan_changed') AS other,
	credits_unsubscribe_token('pr:6', 'low_balance') AS closed \gset
SELECT length(:'token'), :'token' ~ '^[A-Za-z0-9_-]+$' AS url_safe, :'token' = credits_unsubscribe_token('pr:3', 'low_balance') AS same, :'token' <> :'other' AS differs;
-- no link to switch off what cannot be switched off
SELECT credits_unsubscribe_token('pr:3', 'purchase_completed');
SELECT credits_unsubscribe(:'token'), credits_unsubscribe(:'token'), credits_unsubscribe(:'closed');
RESET ROLE;
-- mail about this kind, and nothing else
SELECT * FROM told WHERE n = 3;
SELECT kind, channel, enabled FROM credits.preferences WHERE account_id = 45003 ORDER BY kind;
-- another secret: the first one remains
SELECT credits_rotate_unsubscribe_secret() - (SELECT count(*) FROM credits.unsubscribe_secrets) AS more;
SELECT :'token' = credits_unsubscribe_token('pr:3', 'low_balance') AS same, credits_unsubscribe(:'token'), credits_unsubscribe(credits_unsubscribe_token('pr:3', 'low_balance'));
-- unless it is known to others
BEGIN;
SELECT credits_rotate_unsubscribe_secret(true);
\set VERBOSITY sqlstate
SAVEPOINT s;
SELECT credits_unsubscribe(:'token');
ROLLBACK TO s;
SELECT credits_unsubscribe(credits_unsubscribe_token('pr:3', 'low_balance'));
-- none at all
DELETE FROM credits.unsubscribe_secrets;
SAVEPOINT s;
SELECT credits_unsubscribe(:'token');
ROLLBACK TO s;
SELECT credits_unsubscribe(credits_unsubscribe_token('pr:3', 'low_balance')), (SELECT count(*) FROM credits.unsubscribe_secrets) AS before;
SELECT count(*) FROM credits.unsubscribe_secrets;
DELETE FROM credits.unsubscribe_secrets;
SET TRANSACTION READ ONLY;
SELECT credits_unsubscribe_token('pr:3', 'low_balance');
ROLLBACK;
-- of another database
CREATE TEMP TABLE other_secret AS SELECT * FROM credits.unsubscribe_secrets;
UPDATE credits.unsubscribe_secrets SET secret = sha256(secret);
SELECT credits_unsubscribe(:'token');
UPDATE credits.unsubscribe_secrets AS s SET secret = o.secret FROM other_secret AS o WHERE o.id = s.id;
SELECT credits_unsubscribe(:'token');

-- no token that differs in any way is one
SET ROLE regress_credits_app;
CREATE FUNCTION pg_temp.state(token text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	RETURN public.credits_unsubscribe(token);
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END
$$;
SELECT pg_temp.state(token) AS state, count(*) > 700 AS many FROM (
	SELECT overlay(:'token' placing c from i for 1) FROM generate_series(1, length(:'token')) AS i, unnest(ARRAY['A', '-', 'z', '=', ' ', '+', E'\u00e4']) AS c
	WHERE substr(:'token', i, 1) <> c
	UNION ALL SELECT left(:'token', i) FROM generate_series(0, length(:'token') - 1) AS i
	UNION ALL SELECT :'token' || c FROM unnest(ARRAY['A', '=', '==', ' ', E'\n', :'token']) AS c
	UNION ALL SELECT repeat('A', i) FROM generate_series(0, 200) AS i
	UNION ALL SELECT repeat('A', 10000000)) AS v (token) GROUP BY state;

-- bad input
SELECT credits_unsubscribe(NULL);
SELECT credits_unsubscribe_token('pr:none', 'low_balance');
SELECT credits_unsubscribe_token('pr:1', 'nonsense');
SELECT credits_unsubscribe_token('pr:1', NULL);
SELECT credits_unsubscribe_token(NULL, 'low_balance');
SELECT credits_set_preference('pr:1', 'low_balance', 'email');
SELECT credits_set_preference('pr:1', 'nonsense', 'email', true);
SELECT credits_set_preference('pr:1', '', 'email', true);
SELECT credits_set_preference('pr:1', repeat('x', 10000000), 'email', true);
SELECT credits_set_preference('pr:1', 'low_balance', 'fax', true);
SELECT credits_set_preference('pr:none', 'low_balance', 'email', true);
SELECT credits_set_preference(NULL, 'low_balance', 'email', true);
SELECT credits_set_preference('pr:1', 'low_balance', 'email', true, '{enabled}');
SELECT credits_set_preference('pr:1', 'low_balance', 'email', clear => '{kind}');
SELECT credits_set_quiet_hours('pr:1', '22:00');
SELECT credits_set_quiet_hours('pr:1', NULL, '22:00', 'UTC');
SELECT credits_set_quiet_hours('pr:1', '22:00', '23:00');
SELECT credits_set_quiet_hours('pr:1', timezone => 'UTC');
SELECT credits_set_quiet_hours('pr:1', '22:00', '22:00', 'UTC');
SELECT credits_set_quiet_hours('pr:1', '00:00', '24:00', 'UTC');
SELECT credits_set_quiet_hours('pr:1', '22:00', '23:00', 'Mars/Olympus');
SELECT credits_set_quiet_hours('pr:1', '22:00', '23:00', repeat('x', 10000000));
SELECT credits_set_quiet_hours('pr:none', '22:00', '23:00', 'UTC');
SELECT credits_preferences('pr:none');
SELECT credits_quiet_hours('pr:none');
SELECT credits_quiet_hours(NULL);
BEGIN READ ONLY;
SAVEPOINT s;
SELECT credits_set_preference('pr:1', 'low_balance', 'email', true);
ROLLBACK TO s;
SELECT credits_set_quiet_hours('pr:1', '22:00', '23:00', 'UTC');
ROLLBACK TO s;
SELECT credits_unsubscribe(:'token');
ROLLBACK;
-- secrets are read by their owner only
SELECT count(*) FROM credits.unsubscribe_secrets;
SELECT credits_rotate_unsubscribe_secret();
RESET ROLE;
SET ROLE regress_credits_admin;
SELECT count(*) FROM credits.unsubscribe_secrets;
SELECT credits_rotate_unsubscribe_secret(NULL);
RESET ROLE;
SELECT credits.is_told(45001, 'nonsense', 'email');
SELECT credits.is_told(45001, 'low_balance', 'fax');
SELECT credits.is_told(NULL, 'low_balance', 'email');
SELECT credits.not_before(45001, 'low_balance', NULL);
