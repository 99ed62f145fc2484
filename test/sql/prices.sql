-- prices: what a credit costs, what many cost less, and what it comes to
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 160001;
ALTER SEQUENCE credits.grants_id_seq RESTART 160001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 160001;
ALTER SEQUENCE credits.events_id_seq RESTART 160001;
ALTER SEQUENCE credits.unit_prices_id_seq RESTART 160001;
ALTER SEQUENCE credits.volume_discounts_id_seq RESTART 160001;
ALTER SEQUENCE credits.packages_id_seq RESTART 160001;
ALTER SEQUENCE credits.promotions_id_seq RESTART 160001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('price:1', unit => 'token');
SELECT kind FROM credits_open_account('price:2', unit => 'page');

-- no price, one, and several
SELECT credits_price('price:1', amount => 100);
\echo :SQLSTATE
SELECT credits_price('price:1', amount => 100, currency => 'USD');
\echo :SQLSTATE
SELECT credits_set_unit_price('USD', 0.0125, 'token');
SET ROLE regress_credits_app;
SELECT * FROM credits_price('price:1', amount => 100) \gx
SET ROLE regress_credits_admin;
SELECT credits_set_unit_price(currency => 'EUR', price => 0.01, unit => 'token',
	active_from => '2030-01-01 00:00+00', active_until => '2031-01-01 00:00+00');
SELECT credits_price('price:1', amount => 100);
\echo :SQLSTATE
SELECT total, currency FROM credits_price('price:1', amount => 100, currency => 'EUR');
SELECT credits_price('price:2', amount => 100);
\echo :SQLSTATE
SELECT unit, currency, price, active_until, unit_price_id FROM credits.current_unit_prices WHERE unit_price_id >= 160001 ORDER BY unit, currency;

-- the total is rounded to the minor unit, half up, and nothing else is
SELECT credits_set_unit_price('JPY', 0.25, 'token') AS jpy, credits_set_unit_price('KWD', 0.00025, 'token') AS kwd,
	   credits_set_unit_price('CLF', 0.000025, 'token') AS clf, credits_set_unit_price('ISK', 0.25, 'token') AS isk \gset
SELECT c.currency, q.amount, p.subtotal, p.total, p.amount_minor, p.computation -> 'rounding' AS rounding, p.price_per_credit
FROM unnest(ARRAY['USD', 'JPY', 'KWD', 'CLF', 'ISK']) WITH ORDINALITY AS c (currency, n),
	 unnest(ARRAY[1, 2, 10, 18, 40, 100, 122]) WITH ORDINALITY AS q (amount, m),
	 LATERAL credits_price('price:1', amount => q.amount, currency => c.currency) AS p
ORDER BY c.n, q.m;
-- so small that it costs nothing
SELECT total, amount_minor, price_per_credit FROM credits_price('price:1', amount => 1, currency => 'JPY');
-- exact, where floats are not
SELECT credits_set_unit_price('GBP', 0.000000000000000000000000000001, 'token') AS tiny \gset
SELECT subtotal, total FROM credits_price('price:1', amount => 9223372036854775807, currency => 'GBP');
SELECT credits_set_unit_price('GBP', 0.015, 'token') AS gbp \gset
SELECT subtotal, total, amount_minor FROM credits_price('price:1', amount => 6148914691236517203, currency => 'GBP');
SELECT subtotal, total FROM credits_price('price:1', amount => 6148914691236517205, currency => 'GBP');
\echo :SQLSTATE
SELECT credits_set_unit_price('GBP', 0, 'token') AS free \gset
SELECT subtotal, total, amount_minor, price_per_credit FROM credits_price('price:1', amount => 7, currency => 'GBP');

-- volume discounts: the tier that the whole amount reaches, of the whole amount
SELECT credits_set_volume_discount(ARRAY[1000, 5000, 10000], ARRAY[5, 7.5, 100], unit => 'token');
SELECT q.amount, p.subtotal, p.volume_discount, p.total, p.computation -> 'volume_percent' AS percent,
	   p.computation -> 'volume_discount_id' AS id
FROM unnest(ARRAY[1, 999, 1000, 4999, 5000, 9999, 10000, 20000]) WITH ORDINALITY AS q (amount, n),
	 LATERAL credits_price('price:1', amount => q.amount, currency => 'USD') AS p ORDER BY q.n;
-- a currency may have its own, or none at all, or none of its own
SELECT credits_set_volume_discount('{2000}', '{20}', 'EUR', 'token');
SELECT credits_set_volume_discount('{}', '{}', 'JPY', 'token');
SELECT * FROM credits.current_volume_discounts WHERE volume_discount_id >= 160001 ORDER BY unit, currency, from_credits;
SELECT c.currency, p.volume_discount
FROM unnest(ARRAY['USD', 'EUR', 'JPY']) WITH ORDINALITY AS c (currency, n),
	 LATERAL credits_price('price:1', amount => 5000, currency => c.currency) AS p ORDER BY c.n;
SELECT credits_set_volume_discount(NULL, NULL, 'EUR', 'token', '2030-02-01');
SELECT credits_set_volume_discount('{1}', '{50}', unit => 'token', active_from => '2030-03-01');
SET credits.test_clock = '2030-01-31 23:59:59.999999+00';
SELECT volume_discount FROM credits_price('price:1', amount => 5000, currency => 'EUR');
SET credits.test_clock = '2030-02-01 00:00:00+00';
SELECT volume_discount FROM credits_price('price:1', amount => 5000, currency => 'EUR');
SET credits.test_clock = '2030-03-01 00:00:00+00';
SELECT volume_discount FROM credits_price('price:1', amount => 5000, currency => 'EUR');
SELECT volume_discount FROM credits_price('price:1', amount => 5000, currency => 'JPY');
-- a package has its price, whatever its size
SELECT credits_set_package('price:package', 5000, 30, 'USD', unit => 'token') AS package \gset
SELECT subtotal, volume_discount, total FROM credits_price('price:1', 'price:package');

-- versions of unit prices
SELECT credits_set_unit_price('USD', 0.02, 'token', '2030-04-01', '2030-05-01');
SELECT credits_set_unit_price('USD', 0.03, 'token');
SELECT subtotal, computation -> 'unit_price_id' AS id FROM credits_price('price:1', amount => 100, currency => 'USD');
SET credits.test_clock = '2030-04-01 00:00:00+00';
SELECT subtotal, computation -> 'unit_price_id' AS id FROM credits_price('price:1', amount => 100, currency => 'USD');
SET credits.test_clock = '2030-05-01 00:00:00+00';
SELECT credits_price('price:1', amount => 100, currency => 'USD');
\echo :SQLSTATE
SELECT currency FROM credits.current_unit_prices WHERE unit = 'token' ORDER BY 1;
SELECT credits_set_unit_price('CAD', 1, 'token', '2030-06-01');
SELECT credits_price('price:1', amount => 100, currency => 'CAD');
\echo :SQLSTATE
SELECT credits_retire_unit_price('JPY', 'token', '2030-06-01');
SELECT subtotal FROM credits_price('price:1', amount => 100, currency => 'JPY');
SELECT credits_retire_unit_price('JPY', 'token');
SELECT credits_price('price:1', amount => 100, currency => 'JPY');
\echo :SQLSTATE
SELECT credits_retire_unit_price('JPY', 'token');
\echo :SQLSTATE
SELECT credits_retire_unit_price('EUR');
\echo :SQLSTATE

-- bad prices
SELECT credits_set_unit_price(NULL, 1);
\echo :SQLSTATE
SELECT credits_set_unit_price('€', 1);
\echo :SQLSTATE
SELECT credits_set_unit_price('E1R', 1);
\echo :SQLSTATE
SELECT credits_set_unit_price('XXX', 1);
\echo :SQLSTATE
SELECT credits_set_unit_price('EUR', NULL);
\echo :SQLSTATE
SELECT credits_set_unit_price('EUR', -0.01);
\echo :SQLSTATE
SELECT credits_set_unit_price('EUR', 'NaN');
\echo :SQLSTATE
SELECT credits_set_unit_price('EUR', 1, NULL);
\echo :SQLSTATE
SELECT credits_set_unit_price('EUR', 1, active_from => '2030-04-30');
\echo :SQLSTATE
SELECT credits_set_unit_price('EUR', 1, active_until => '2030-04-30');
\echo :SQLSTATE
SELECT credits_retire_unit_price(NULL);
\echo :SQLSTATE
-- bad discounts
SELECT credits_set_volume_discount(NULL, NULL);
\echo :SQLSTATE
SELECT credits_set_volume_discount('{1}', NULL);
\echo :SQLSTATE
SELECT credits_set_volume_discount('{1,2}', '{1}');
\echo :SQLSTATE
SELECT credits_set_volume_discount('{{1,2}}', '{{1,2}}');
\echo :SQLSTATE
SELECT credits_set_volume_discount('{1,NULL}', '{1,2}');
\echo :SQLSTATE
SELECT credits_set_volume_discount('{0}', '{1}');
\echo :SQLSTATE
SELECT credits_set_volume_discount('{5,5}', '{1,2}');
\echo :SQLSTATE
SELECT credits_set_volume_discount('{5}', '{-1}');
\echo :SQLSTATE
SELECT credits_set_volume_discount('{5}', '{NaN}');
\echo :SQLSTATE
SELECT credits_set_volume_discount('{5}', '{100.01}');
\echo :SQLSTATE
SELECT credits_set_volume_discount((SELECT array_agg(n) FROM generate_series(1, 101) AS n), array_fill(1::numeric, '{101}'));
\echo :SQLSTATE
SELECT credits_set_volume_discount('{5}', '{1}', 'euro');
\echo :SQLSTATE
SELECT credits_set_volume_discount('{5}', '{1}', unit => NULL);
\echo :SQLSTATE
SELECT count(*) FROM credits.volume_discounts WHERE id > 160005;
-- bad questions
SELECT credits_price('price:1', amount => 0);
\echo :SQLSTATE
SELECT credits_price('price:1', amount => -5);
\echo :SQLSTATE
SELECT credits_price('price:1', amount => 5, currency => 'usd');
\echo :SQLSTATE

-- not for everybody
SET ROLE regress_credits_app;
SELECT credits_set_unit_price('EUR', 0);
\echo :SQLSTATE
SELECT credits_retire_unit_price('EUR');
\echo :SQLSTATE
SELECT credits_set_volume_discount('{1}', '{100}');
\echo :SQLSTATE
SELECT count(*) FROM credits.unit_prices;
\echo :SQLSTATE
SET ROLE regress_credits_admin;
BEGIN READ ONLY;
SELECT credits_set_unit_price('EUR', 0);
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT credits_set_volume_discount('{1}', '{100}');
\echo :SQLSTATE
ROLLBACK;
-- nor to be changed
RESET ROLE;
UPDATE credits.unit_prices SET price = 0;
\echo :SQLSTATE
DELETE FROM credits.volume_discounts;
\echo :SQLSTATE
\set VERBOSITY terse
INSERT INTO credits.unit_prices SELECT 1, 'x', 'EUR', 'NaN', now(), NULL, now(), 'x';
INSERT INTO credits.volume_discounts SELECT 1, 'x', 'EUR', '{1}', '{101}', now(), now(), 'x';
INSERT INTO credits.volume_discounts SELECT 1, 'x', 'EUR', '{1}', NULL, now(), now(), 'x';
INSERT INTO credits.volume_discounts SELECT 1, 'x', 'EUR', '{1}', '{1,2}', now(), now(), 'x';
\set VERBOSITY default

-- every computation can be computed again from what it names
SET credits.test_clock = '2030-04-15 00:00:00+00';
SELECT credits_set_promotion('price:off', 'percent', 12.5, clear => '{per_account}') AS off \gset
CREATE TEMP TABLE kept AS
SELECT p.computation AS c
FROM unnest(ARRAY['EUR', 'USD', 'KWD', 'CLF']) AS currency, generate_series(1, 20001, 1234) AS amount,
	 unnest(ARRAY[NULL, 'price:off']) AS promotion,
	 LATERAL credits_price('price:1', amount => amount, promotion => promotion, currency => currency) AS p;
SELECT count(*) AS computations, count(*) FILTER (WHERE
		(c ->> 'subtotal')::numeric = u.price * (c ->> 'amount')::bigint
		AND (c ->> 'volume_discount')::numeric = (c ->> 'subtotal')::numeric * coalesce(t.percent, 0) / 100
		AND (c ->> 'promotion_discount')::numeric = ((c ->> 'subtotal')::numeric - (c ->> 'volume_discount')::numeric) * coalesce(m.value, 0) / 100
		AND (c ->> 'total')::numeric = (c ->> 'subtotal')::numeric - (c ->> 'volume_discount')::numeric
			- (c ->> 'promotion_discount')::numeric + (c ->> 'rounding')::numeric
		AND abs((c ->> 'rounding')::numeric) * (c ->> 'amount_minor')::bigint <= (c ->> 'total')::numeric / 2) AS explained
FROM kept
JOIN credits.unit_prices AS u ON u.id = (c ->> 'unit_price_id')::bigint AND u.currency = c ->> 'currency'
LEFT JOIN credits.promotions AS m ON m.id = (c ->> 'promotion_id')::bigint
LEFT JOIN LATERAL (
	SELECT x.percent FROM credits.volume_discounts AS v, unnest(v.from_credits, v.percents) AS x (f, percent)
	WHERE v.id = (c ->> 'volume_discount_id')::bigint AND x.f <= (c ->> 'amount')::bigint ORDER BY x.f DESC LIMIT 1
) AS t ON true;
-- another price starts from the one in force
SET credits.test_clock = '2040-01-01 00:00:00+00';
SELECT credits_set_unit_price('EUR', 0.5, 'keep', active_until => '2041-01-01 00:00+00') IS NOT NULL AS set;
SELECT credits_set_unit_price('EUR', 0.6, 'keep') IS NOT NULL AS set;
SELECT credits_set_unit_price('EUR', unit => 'keep') = credits_set_unit_price('EUR', 0.60, 'keep') AS same;
SELECT credits_set_unit_price('EUR', unit => 'keep', clear => '{active_until}') IS NOT NULL AS set;
SELECT price, active_until FROM credits.unit_prices WHERE unit = 'keep' ORDER BY id;
SELECT credits_set_unit_price('USD', unit => 'keep');
\echo :SQLSTATE
SELECT credits_set_unit_price('EUR', clear => '{price}');
\echo :SQLSTATE
SELECT credits_retire_unit_price('EUR', 'keep') = credits_retire_unit_price('EUR', 'keep') AS again;
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 160001 AND 161999;
