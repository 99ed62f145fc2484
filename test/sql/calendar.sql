-- the calendar: when periods begin, and which one an instant is in
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';

-- ends of months: each start comes from the anchor
SELECT n, credits.period_start('2026-01-31 00:00+00', 'UTC', 'month', 1, n) AS monthly,
	credits.period_start('2026-01-31 00:00+00', 'UTC', 'month', 3, n) AS quarterly,
	credits.period_start('2024-02-29 12:00+00', 'UTC', 'year', 1, n) AS yearly,
	credits.period_start('2026-01-31 00:00+00', 'UTC', 'week', 2, n) AS fortnightly
FROM generate_series(-2, 4) AS n;

-- clocks are put forward: the day has 23 hours; what they jump over is an hour later, once
SELECT n, credits.period_start('2026-03-28 00:00+01', 'Europe/Berlin', 'day', 1, n) AS midnight,
	credits.period_start('2026-03-28 02:30+01', 'Europe/Berlin', 'day', 1, n)
		AT TIME ZONE 'Europe/Berlin' AS on_the_wall
FROM generate_series(0, 3) AS n;
-- and back: the second of two, but for the anchor itself
SELECT n, credits.period_start('2026-10-24 02:30+02', 'Europe/Berlin', 'day', 1, n) AS through,
	credits.period_start('2026-10-25 02:30+02', 'Europe/Berlin', 'day', 1, n) AS first_of_two,
	credits.period_start('2026-10-25 02:30+01', 'Europe/Berlin', 'day', 1, n) AS second_of_two
FROM generate_series(-1, 2) AS n;

-- a session's settings are no matter: CET is a zone here, not an abbreviation; not every system has it
SET timezone = 'America/New_York';
SET timezone_abbreviations = 'India';
SELECT (CASE WHEN EXISTS (SELECT FROM pg_timezone_names WHERE name = 'CET')
	THEN credits.period_start('2026-01-01 00:00+01', 'CET', 'month', 6, 1)
	ELSE '2026-06-30 22:00+00' END) AT TIME ZONE 'UTC' AS summer;
SET timezone = 'UTC';
RESET timezone_abbreviations;

-- the day that Samoa left out
SELECT n, credits.period_start('2011-12-28 12:00+00', 'Pacific/Apia', 'day', 1, n) AS starts_at,
	credits.period_number('2011-12-28 12:00+00', 'Pacific/Apia', 'day', 1,
		credits.period_start('2011-12-28 12:00+00', 'Pacific/Apia', 'day', 1, n)) AS number
FROM generate_series(0, 4) AS n;

-- which period
SELECT at, credits.period_number('2026-01-31 10:00+00', 'UTC', 'month', 1, at) AS monthly,
	credits.period_number('2026-01-31 10:00+00', 'UTC', 'year', 1, at) AS yearly,
	credits.period_number('2026-01-31 10:00+00', 'UTC', 'week', 1, at) AS weekly
FROM unnest('{2025-12-31 09:59:59.999999+00, 2025-12-31 10:00+00, 2026-01-31 09:59+00, 2026-01-31 10:00+00,
	2026-02-28 09:59+00, 2026-02-28 10:00+00, 2027-01-31 10:00+00}'::timestamptz[]) AS at;

-- what they refuse
SELECT credits.period_start(NULL, 'UTC', 'month', 1, 1);
SELECT credits.period_start('2026-01-01', NULL, 'month', 1, 1);
SELECT credits.period_start('2026-01-01', 'UTC', NULL, 1, 1);
SELECT credits.period_start('2026-01-01', 'UTC', 'month', NULL, 1);
SELECT credits.period_start('2026-01-01', 'UTC', 'month', 1, NULL);
SELECT credits.period_start('infinity', 'UTC', 'month', 1, 1);
SELECT credits.period_start('2026-01-01', 'Mars/Olympus', 'month', 1, 1);
SELECT credits.period_start('2026-01-01', 'UTC', 'fortnight', 1, 1);
SELECT credits.period_start('2026-01-01', 'UTC', 'month', 0, 1);
SELECT credits.period_start('2026-01-01', 'UTC', 'month', 1001, 1);
SELECT credits.period_start('2026-01-01', 'UTC', 'year', 1000, 1000000);
SELECT credits.period_start('2026-01-01', 'UTC', 'day', 1000, 9223372036854775807);
SELECT credits.period_start('2026-01-01', 'UTC', 'month', 1, -100000);
SELECT credits.period_number('2026-01-01', 'UTC', 'month', 1, NULL);
SELECT credits.period_number('2026-01-01', 'UTC', 'month', 1, '-infinity');
