-- versions: terms that hold from an instant on, of packages, unit prices and promotions
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET ROLE regress_credits_admin;
SET credits.test_clock = '2233-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('ver:1', unit => 'ver');

-- the same story for each: begins, is replaced twice at one instant, ends, begins again, is retired
SELECT n, credits_set_package('ver', 100, n, 'EUR', unit => 'ver', active_from => f, active_until => u) IS NOT NULL
	AND credits_set_unit_price('EUR', n, 'ver', f, u) IS NOT NULL
	AND credits_set_promotion('ver', 'fixed', n, 'EUR', clear => '{per_account}', active_from => f, active_until => u) IS NOT NULL AS set
FROM (VALUES (1, '2233-01-02'::timestamptz, NULL::timestamptz), (2, '2233-01-03', NULL), (3, '2233-01-03', '2233-01-04'), (4, '2233-01-05', NULL)) AS v (n, f, u) ORDER BY n;
SET credits.test_clock = '2233-01-01 12:00:00+00';
SELECT credits_price('ver:1', 'ver');
SELECT credits_price('ver:1', amount => 100, currency => 'EUR');
SELECT credits_set_package('ver.plain', 100, 50, 'EUR') IS NOT NULL AS set;
SELECT credits_price('ver:1', 'ver.plain', promotion => 'ver');
SET credits.test_clock = '2233-01-02 00:00:00+00';
SELECT (credits_price('ver:1', 'ver')).total AS package, (credits_price('ver:1', amount => 1)).total AS price,
	(credits_price('ver:1', 'ver.plain', promotion => 'ver')).promotion_discount AS promotion;
SET credits.test_clock = '2233-01-03 00:00:00+00';
SELECT (credits_price('ver:1', 'ver')).total AS package, (credits_price('ver:1', amount => 1)).total AS price,
	(credits_price('ver:1', 'ver.plain', promotion => 'ver')).promotion_discount AS promotion;
SET credits.test_clock = '2233-01-04 00:00:00+00';
SELECT credits_price('ver:1', 'ver');
SELECT credits_price('ver:1', amount => 100, currency => 'EUR');
SELECT credits_price('ver:1', 'ver.plain', promotion => 'ver');
-- what has ended is not retired again
SELECT p.price, credits_retire_package('ver') = p.id AS package, credits_retire_unit_price('EUR', 'ver') = u.id AS unit_price,
	credits_retire_promotion('ver') = r.id AS promotion
FROM credits.packages AS p, credits.unit_prices AS u, credits.promotions AS r
WHERE p.name = 'ver' AND u.unit = 'ver' AND r.name = 'ver' AND p.active_until = '2233-01-04' AND u.active_until = p.active_until AND r.active_until = p.active_until;
-- what there is not cannot be retired
SELECT credits_retire_package('ver.none');
SELECT credits_retire_unit_price('EUR', 'ver.none');
SELECT credits_retire_promotion('ver.none');
-- what will have begun can
SELECT credits_retire_package('ver', '2233-01-06') IS NOT NULL AS package,
	credits_retire_unit_price('EUR', 'ver', '2233-01-06') IS NOT NULL AS price,
	credits_retire_promotion('ver', '2233-01-06') IS NOT NULL AS promotion;
SET credits.test_clock = '2233-01-05 23:59:59.999999+00';
SELECT (credits_price('ver:1', 'ver')).total AS package, (credits_price('ver:1', amount => 1)).total AS price,
	(credits_price('ver:1', 'ver.plain', promotion => 'ver')).promotion_discount AS promotion;
SET credits.test_clock = '2233-01-06 00:00:00+00';
\set VERBOSITY terse
SELECT credits_price('ver:1', 'ver');
SELECT credits_price('ver:1', amount => 100);
SELECT credits_price('ver:1', 'ver.plain', promotion => 'ver');
\set VERBOSITY default
-- every version is kept, and the end is one of them
SELECT p.price AS package, u.price, r.value AS promotion, p.active_from, p.active_until,
	u.active_from = p.active_from AND r.active_from = p.active_from AND u.active_until IS NOT DISTINCT FROM p.active_until
		AND r.active_until IS NOT DISTINCT FROM p.active_until AS agree,
	p.role = session_user AND u.role = session_user AND r.role = session_user AS by_me
FROM (SELECT row_number() OVER (ORDER BY id) AS n, * FROM credits.packages WHERE name = 'ver') AS p
JOIN (SELECT row_number() OVER (ORDER BY id) AS n, * FROM credits.unit_prices WHERE unit = 'ver') AS u USING (n)
JOIN (SELECT row_number() OVER (ORDER BY id) AS n, * FROM credits.promotions WHERE name = 'ver') AS r USING (n) ORDER BY n;
