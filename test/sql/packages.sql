-- packages: offering, buying and retiring them; what comes with them
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 158001;
ALTER SEQUENCE credits.grants_id_seq RESTART 158001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 158001;
ALTER SEQUENCE credits.events_id_seq RESTART 158001;
ALTER SEQUENCE credits.packages_id_seq RESTART 158001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('pack:1');
SELECT kind FROM credits_open_account('pack:2', unit => 'image');

-- with everything, and with nothing but what must be
SELECT credits_set_package(name => 'large', credits => 1000, price => 49.90, currency => 'EUR', expires_in => '1 year',
	extras => '[{"credits": 100, "expires_in": "30 days"},
				{"credits": 50, "source": "manual", "priority": 5},
				{"credits": 3, "unit": "image", "expires_in": "2 hours 30 minutes 0.5 seconds"}]',
	unit => 'credit', priority => 60,
	active_from => '2030-01-01 00:00+00', active_until => '2031-01-01 00:00+00', metadata => '{"colour": "blue"}');
SELECT credits_set_package('small', 100, 5, 'EUR');
SELECT * FROM credits.packages WHERE id = 158001 \gx
SELECT id, name, credits, price, currency, unit, expires_in, priority, extras, active_from, active_until, metadata,
	   created_at, role = session_user AS by_me
FROM credits.packages WHERE id = 158002 \gx

-- what is for sale, to whoever asks
SET ROLE regress_credits_app;
SELECT name, credits, price, currency, unit, expires_in, active_until, metadata FROM credits.current_packages
WHERE package_id >= 158001 ORDER BY name;
SELECT * FROM credits_price('pack:1', 'small') \gx
SELECT credits, bonus, total, amount_minor, price_per_credit, jsonb_pretty(grants) AS grants
FROM credits_price(account => 'pack:1', package => 'large') \gx
-- the computation says the same, and where it is from
SELECT p.computation ->> 'package_id' AS package_id, p.computation ->> 'package' AS package, p.computation ->> 'at' AS at,
	   p.grants = p.computation -> 'grants' AND p.total = (p.computation ->> 'total')::numeric
		AND p.amount_minor = (p.computation ->> 'amount_minor')::bigint
		AND p.credits = (p.computation ->> 'credits')::bigint AND p.bonus = (p.computation ->> 'bonus')::bigint
		AND p.currency = p.computation ->> 'currency' AND p.subtotal = (p.computation ->> 'subtotal')::numeric AS agree
FROM credits_price('pack:1', 'large') AS p;
-- spans of time are written the same whatever the style of intervals
SET intervalstyle = 'iso_8601';
SELECT grants -> 0 ->> 'expires_in' AS main, grants -> 3 ->> 'expires_in' AS extra FROM credits_price('pack:1', 'large');
SET intervalstyle = 'sql_standard';
SELECT grants -> 0 ->> 'expires_in' AS main, grants -> 3 ->> 'expires_in' AS extra FROM credits_price('pack:1', 'large');
RESET intervalstyle;
-- for whom: accounts of its unit, or any
SELECT credits_price('pack:2', 'large');
\echo :SQLSTATE
SELECT credits, jsonb_path_query_array(grants, '$[*].unit') AS units FROM credits_price('pack:2', 'small');
SELECT credits_price('pack:1', 'small', currency => 'USD');
\echo :SQLSTATE
SELECT total FROM credits_price('pack:1', 'small', currency => 'EUR');
-- nothing is written, and nothing needs to be
BEGIN READ ONLY;
SELECT total FROM credits_price('pack:1', 'large');
COMMIT;
RESET ROLE;
SELECT is_called FROM credits.events_id_seq;
SELECT transaction_count FROM credits.accounts WHERE name = 'pack:1';

-- what is of another unit goes to the buyer's account of that unit, which may not be there yet
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('pack:1:image', unit => 'image');
SELECT bonus FROM credits_price('pack:1', 'large');
SELECT kind FROM credits_close_account('pack:1:image', 'test');
SELECT credits_price('pack:1', 'large');
\echo :SQLSTATE
SELECT kind FROM credits_open_account('pack:3');
SELECT kind FROM credits_open_account('pack:3:image', unit => 'pixel');
SELECT credits_price('pack:3', 'large');
\echo :SQLSTATE
SELECT credits_open_account(repeat('x', 250)) IS NOT NULL AS opened;
SELECT credits_price(repeat('x', 250), 'large');
\echo :SQLSTATE
-- a unit of its own is not another
SELECT credits_set_package('images', 10, 2, 'EUR', extras => '[{"credits": 1, "unit": "image"}, {"credits": 2, "unit": "credit"}]') AS images \gset
SELECT bonus, jsonb_path_query_array(grants, '$[*].unit') AS units FROM credits_price('pack:2', 'images');

-- versions: in force is the one with the latest active_from that has come
SELECT credits_set_package('small', 100, 6, 'EUR', active_from => '2030-02-01 00:00+00', active_until => '2030-03-01 00:00+00');
SELECT credits_set_package('small', 110, 5.50, 'EUR');
SELECT credits, total FROM credits_price('pack:1', 'small');
SET credits.test_clock = '2030-01-31 23:59:59.999999+00';
SELECT credits, total FROM credits_price('pack:1', 'small');
SET credits.test_clock = '2030-02-01 00:00:00+00';
SELECT credits, total FROM credits_price('pack:1', 'small');
SELECT name, price FROM credits.current_packages WHERE name = 'small';
SET credits.test_clock = '2030-03-01 00:00:00+00';
SELECT credits_price('pack:1', 'small');
\echo :SQLSTATE
SELECT name, price FROM credits.current_packages WHERE name = 'small';
SELECT credits_set_package('small', 120, 7, 'EUR', active_from => '2030-03-01 00:00:00+00');
SELECT credits, total FROM credits_price('pack:1', 'small');
SELECT credits_set_package('later', 1, 1, 'EUR', active_from => '2030-04-01 00:00:00+00');
SELECT credits_price('pack:1', 'later');
\echo :SQLSTATE
-- retired, now and later
SELECT credits_retire_package('small', '2030-05-01');
SELECT total FROM credits_price('pack:1', 'small');
SELECT credits_retire_package('small');
SELECT credits_price('pack:1', 'small');
\echo :SQLSTATE
SELECT credits_retire_package('small');
\echo :SQLSTATE
SELECT credits_retire_package('none');
\echo :SQLSTATE
SELECT credits_set_package('small', 130, 8, 'EUR');
SELECT total FROM credits_price('pack:1', 'small');
SELECT id, credits, price, active_from, active_until FROM credits.packages WHERE name = 'small' ORDER BY active_from, id;

-- bad offers
SELECT credits_set_package(NULL, 1, 1, 'EUR');
\echo :SQLSTATE
SELECT credits_set_package(' x', 1, 1, 'EUR');
\echo :SQLSTATE
SELECT credits_set_package('x', NULL, 1, 'EUR');
\echo :SQLSTATE
SELECT credits_set_package('x', 0, 1, 'EUR');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, NULL, 'EUR');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, -1, 'EUR');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 'NaN', 'EUR');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 'Infinity', 'EUR');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, repeat('9', 1000)::numeric, 'EUR');
SELECT credits_set_package('x', 1, 1e100000, 'EUR');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 92233720368547758.08, 'EUR');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1.005, 'EUR');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, NULL);
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'eur');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EURO');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, '');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'XAU');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EUR', '0 days');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EUR', unit => '');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EUR', priority => -1);
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EUR', active_from => '2029-12-31');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EUR', active_from => 'infinity');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EUR', active_until => '2030-03-01');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EUR', metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
-- bad extras
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '{"credits": 1}');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '1');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[1]');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[[]]');
\echo :SQLSTATE
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1}, {}]');
\echo :SQLSTATE
\set VERBOSITY terse
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 0}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1.5}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1e30}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": "1"}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "source": "stolen"}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "source": 1}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "priority": 1000000}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "unit": ""}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "unit": 2}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "expires_in": 30}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "expires_in": "-1 day"}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "expires_in": "1 day ago"}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "expires_in": "soon"}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "expires_in": "0 days"}]');
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "expires_in": "9999 years"}]');
\set VERBOSITY default
SELECT credits_set_package('x', 1, 1, 'EUR', extras => '[{"credits": 1, "expires": "30 days"}]');
\echo :SQLSTATE
-- what is repeated of it ends between two characters
DO $$
DECLARE
	detail text;
BEGIN
	PERFORM credits_set_package('x', 1, 1, 'EUR', extras => jsonb_build_array(jsonb_build_object('x' || repeat(chr(228), 40), 1)));
EXCEPTION WHEN SQLSTATE '22023' THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	RAISE NOTICE '%', convert_from(convert_to(detail, 'UTF8'), 'UTF8') = detail;
END
$$;
SELECT credits_set_package('x', 1, 1, 'EUR', extras => (SELECT jsonb_agg('{"credits": 1}'::jsonb) FROM generate_series(1, 101)));
\echo :SQLSTATE
SELECT count(*) FROM credits.packages WHERE name = 'x';
-- too much to count, only when it is bought
SELECT credits_set_package('much', 9223372036854775807, 1, 'EUR', extras => '[{"credits": 1}]') AS much \gset
SELECT credits_price('pack:1', 'much');
\echo :SQLSTATE

-- bad questions
SET ROLE regress_credits_app;
SELECT credits_price(NULL, 'small');
\echo :SQLSTATE
SELECT credits_price('pack:none', 'small');
\echo :SQLSTATE
SELECT credits_price('pack:1');
\echo :SQLSTATE
SELECT credits_price('pack:1', 'small', 100);
\echo :SQLSTATE
SELECT credits_price('pack:1', 'Small');
\echo :SQLSTATE
SELECT credits_price('pack:1', '');
\echo :SQLSTATE
-- a closed account buys nothing, a paused one may
RESET ROLE;
SELECT kind FROM credits_pause_account('pack:3', 'test');
SELECT total FROM credits_price('pack:3', 'small');
SELECT kind FROM credits_close_account('pack:3', 'test');
SELECT credits_price('pack:3', 'small');
\echo :SQLSTATE

-- offers are for administrators
SET ROLE regress_credits_app;
SELECT credits_set_package('mine', 1000, 0, 'EUR');
\echo :SQLSTATE
SELECT credits_retire_package('small');
\echo :SQLSTATE
SELECT count(*) FROM credits.packages;
\echo :SQLSTATE
SET ROLE regress_credits_admin;
BEGIN READ ONLY;
SELECT credits_set_package('small', 1, 1, 'EUR');
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT credits_retire_package('small');
\echo :SQLSTATE
ROLLBACK;
-- seen at once, in the same statement too; gone with its transaction
BEGIN;
SELECT credits_set_package('small', 1, 1, 'EUR') IS NOT NULL AS set, (credits_price('pack:1', 'small')).total;
ROLLBACK;
SELECT total FROM credits_price('pack:1', 'small');

-- they cannot be changed, by nobody
RESET ROLE;
UPDATE credits.packages SET price = 0;
\echo :SQLSTATE
DELETE FROM credits.packages;
\echo :SQLSTATE
TRUNCATE credits.packages;
\echo :SQLSTATE
SET session_replication_role = replica;
UPDATE credits.packages SET price = 0;
\echo :SQLSTATE
RESET session_replication_role;
\set VERBOSITY terse
INSERT INTO credits.packages
SELECT 1, 'x', 1, 'NaN', 'EUR', NULL, NULL, 0, '[]', now(), NULL, NULL, now(), 'x';
INSERT INTO credits.packages
SELECT 1, 'x', 0, 1, 'EUR', NULL, NULL, 0, '[]', now(), NULL, NULL, now(), 'x';
INSERT INTO credits.packages
SELECT 1, 'x', 1, 1, 'eur', NULL, NULL, 0, '[]', now(), NULL, NULL, now(), 'x';
\set VERBOSITY default
-- another offer starts from the one in force
RESET ROLE;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2040-01-01 00:00:00+00';
CREATE FUNCTION pg_temp.offer(n bigint) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', credits, price, currency, coalesce(expires_in::text, '-'), extras, coalesce(unit, '-'), priority, coalesce(metadata::text, '-'),
		active_from, coalesce(active_until::text, '-'))
	FROM credits.packages WHERE id = n
$$;
SELECT pg_temp.offer(credits_set_package('keep', 100, 5, 'EUR', '1 year', '[{"credits": 10, "expires_in": "30 days"}]', 'credit', 60,
	active_until => '2041-01-01 00:00+00', metadata => '{"a": 1}'));
SELECT pg_temp.offer(credits_set_package('keep', price => 6));
SELECT pg_temp.offer(credits_set_package('keep', extras => '[{"credits": 20}]', clear => '{expires_in,unit,metadata}'));
SELECT pg_temp.offer(credits_set_package('keep', clear => '{extras,priority,active_until}'));
-- nothing new is no new offer
SELECT credits_set_package('keep') = credits_set_package('keep', 100, 6.00, 'EUR') AS same, (SELECT count(*) FROM credits.packages WHERE name = 'keep') AS offers;
-- what a currency cannot have is refused, whichever was kept
SELECT credits_set_package('keep', price => 6.5) IS NOT NULL AS set;
SELECT credits_set_package('keep', currency => 'JPY');
\echo :SQLSTATE
SELECT credits_set_package('keep', clear => '{price}');
\echo :SQLSTATE
SELECT credits_set_package('keep', unit => 'x', clear => '{unit}');
\echo :SQLSTATE
SELECT credits_set_package('keep', clear => '{credit}');
\echo :SQLSTATE
SELECT credits_set_package('keep.not', price => 6);
\echo :SQLSTATE
-- retired, again, and back
SELECT credits_retire_package('keep') = credits_retire_package('keep') AS again;
SELECT pg_temp.offer(credits_set_package('keep'));
-- one that is to begin, set to begin now
SELECT pg_temp.offer(credits_set_package('keep.soon', 1, 1, 'EUR', active_from => '2040-02-01 00:00+00'));
SELECT pg_temp.offer(credits_set_package('keep.soon', price => 2));
RESET ROLE;
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 158001 AND 159999;
