-- promotions: what is cheaper for a while, or comes with more
-- in a database of its own: what others left is none of its business
\set shared :DBNAME
CREATE DATABASE regress_promotions TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_promotions
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 162001;
ALTER SEQUENCE credits.grants_id_seq RESTART 162001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 162001;
ALTER SEQUENCE credits.events_id_seq RESTART 162001;
ALTER SEQUENCE credits.packages_id_seq RESTART 162001;
ALTER SEQUENCE credits.unit_prices_id_seq RESTART 162001;
ALTER SEQUENCE credits.promotions_id_seq RESTART 162001;
ALTER SEQUENCE credits.purchases_id_seq RESTART 162001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('promo:1', unit => 'note');
SELECT kind FROM credits_open_account('promo:2', unit => 'note');
SELECT credits_set_package('promo:pack', 1000, 49.99, 'EUR', extras => '[{"credits": 10}]') AS pack,
	   credits_set_package('promo:dollar', 1000, 50, 'USD') AS dollar,
	   credits_set_unit_price('EUR', 0.05, 'note') AS price,
	   credits_set_volume_discount('{1000}', '{10}', unit => 'note') IS NOT NULL AS tiers \gset

-- of each kind, with everything and with nothing but what must be
SELECT credits_set_promotion(name => 'SPRING', kind => 'percent', value => 15, per_account => 2, max_uses => 3,
	active_from => '2030-01-01 00:00+00', active_until => '2030-02-01 00:00+00');
SELECT credits_set_promotion('TEN', 'fixed', 10, 'EUR');
SELECT credits_set_promotion('MORE', 'bonus', 250, expires_in => '60 days', clear => '{per_account}');
SELECT credits_set_promotion('HALF', 'percent', 50);
SELECT id, name, kind, value, currency, expires_in, plans, per_account, max_uses, active_from, active_until, created_at,
	   role = session_user AS by_me
FROM credits.promotions WHERE id >= 162001 ORDER BY id;
SELECT name, kind, value, currency, expires_in, plans, per_account, max_uses, uses, left_over, active_until
FROM credits.current_promotions WHERE promotion_id >= 162001 ORDER BY promotion_id;

-- what they do to a package and to an amount, after the volume discount
SET ROLE regress_credits_app;
SELECT m.name, p.credits, p.bonus, p.subtotal, p.volume_discount, p.promotion_discount, p.total, p.price_per_credit
FROM unnest(ARRAY[NULL, 'SPRING', 'TEN', 'MORE', 'HALF']) WITH ORDINALITY AS m (name, n),
	 LATERAL credits_price('promo:1', 'promo:pack', promotion => m.name) AS p ORDER BY m.n;
SELECT m.name, p.credits, p.bonus, p.subtotal, p.volume_discount, p.promotion_discount, p.total, p.price_per_credit
FROM unnest(ARRAY[NULL, 'SPRING', 'TEN', 'MORE', 'HALF']) WITH ORDINALITY AS m (name, n),
	 LATERAL credits_price('promo:1', amount => 1001, promotion => m.name) AS p ORDER BY m.n;
-- never below nothing
SELECT promotion_discount, total, amount_minor FROM credits_price('promo:1', amount => 150, promotion => 'TEN');
-- bonus credits are a grant of their own, for nothing
SELECT jsonb_pretty(grants) FROM credits_price('promo:1', 'promo:pack', promotion => 'MORE');
SELECT computation -> 'promotion' AS promotion, computation -> 'promotion_id' AS id,
	   computation -> 'promotion_kind' AS kind, computation -> 'promotion_value' AS value
FROM credits_price('promo:1', 'promo:pack', promotion => 'SPRING');
-- money is of a currency
SELECT credits_price('promo:1', 'promo:dollar', promotion => 'TEN');
\echo :SQLSTATE
SELECT total FROM credits_price('promo:1', 'promo:dollar', promotion => 'SPRING');
SELECT credits_price('promo:1', 'promo:pack', promotion => 'NONE');
\echo :SQLSTATE
SELECT credits_price('promo:1', 'promo:pack', promotion => 'spring');
\echo :SQLSTATE
SELECT credits_price('promo:1', 'promo:pack', promotion => '');
\echo :SQLSTATE

-- limits: of what purchases have had
RESET ROLE;
SELECT id AS one FROM credits.accounts WHERE name = 'promo:1' \gset
SELECT id AS two FROM credits.accounts WHERE name = 'promo:2' \gset
BEGIN;
ALTER TABLE credits.promotion_totals DISABLE TRIGGER promotion_totals_refuse_change;
ALTER TABLE credits.promotion_uses DISABLE TRIGGER promotion_uses_refuse_change;
INSERT INTO credits.promotion_uses VALUES (-1, :one, 'SPRING', 162001, now(), NULL), (-2, :one, 'SPRING', 162001, now(), NULL);
UPDATE credits.promotion_totals SET uses = 2 WHERE promotion = 'SPRING';
SAVEPOINT used;
SELECT credits_price('promo:1', 'promo:pack', promotion => 'SPRING');
\echo :SQLSTATE
ROLLBACK TO used;
SELECT promotion_discount FROM credits_price('promo:2', 'promo:pack', promotion => 'SPRING');
-- what is released counts no more
UPDATE credits.promotion_uses SET released_at = now() WHERE purchase_id = -2;
UPDATE credits.promotion_totals SET uses = 1 WHERE promotion = 'SPRING';
SELECT promotion_discount FROM credits_price('promo:1', 'promo:pack', promotion => 'SPRING');
-- other terms under the same name go on counting
SELECT credits_set_promotion('SPRING', 'percent', 20, clear => '{per_account}', max_uses => 1) AS again \gset
SELECT name, value, max_uses, uses, left_over FROM credits.current_promotions WHERE name = 'SPRING';
SAVEPOINT used;
SELECT credits_price('promo:2', 'promo:pack', promotion => 'SPRING');
\echo :SQLSTATE
ROLLBACK TO used;
SELECT credits_set_promotion('SPRING', 'percent', 20, per_account => 1, max_uses => 2) AS again \gset
SELECT promotion_discount FROM credits_price('promo:2', 'promo:pack', promotion => 'SPRING');
SELECT credits_price('promo:1', 'promo:pack', promotion => 'SPRING');
\echo :SQLSTATE
ROLLBACK;

-- for subscribers: trialing or active, to one of its plans, whatever the version
SET ROLE regress_credits_admin;
SELECT credits_set_promotion('THANKS', 'percent', 30, plans => ARRAY['promo:pro', 'promo:team']);
SELECT credits_price('promo:1', 'promo:pack', promotion => 'THANKS');
\echo :SQLSTATE
RESET ROLE;
BEGIN;
SELECT credits_set_plan('promo:pro', 100, trial => '7 days') IS NOT NULL AS pro, credits_set_plan('promo:free', 1) IS NOT NULL AS free \gset
SELECT subscription_id AS sub, status FROM credits_subscribe('promo:1', 'promo:pro') \gset
\echo :status
SELECT credits_set_plan('promo:pro', 200) IS NOT NULL AS newer \gset
SELECT promotion_discount FROM credits_price('promo:1', 'promo:pack', promotion => 'THANKS');
SAVEPOINT status;
SELECT status FROM credits_mark_unpaid(:sub);
SELECT credits_price('promo:1', 'promo:pack', promotion => 'THANKS');
\echo :SQLSTATE
ROLLBACK TO status;
SELECT plan FROM credits_change_plan(:sub, 'promo:free', at => 'now');
SELECT credits_price('promo:1', 'promo:pack', promotion => 'THANKS');
\echo :SQLSTATE
ROLLBACK TO status;
SELECT credits_price('promo:2', 'promo:pack', promotion => 'THANKS');
\echo :SQLSTATE
ROLLBACK;

-- a purchase uses a promotion from its start, once; if it comes to nothing, that is given back
SET ROLE regress_credits_app;
SELECT purchase_id AS first, price FROM credits_start_purchase('promo:1', 'promo:pack', promotion => 'TEN', idempotency_key => 'k1') \gset
\echo :price
SELECT purchase_id = :first AS same, price FROM credits_start_purchase('promo:1', 'promo:pack', promotion => 'TEN', idempotency_key => 'k1');
SELECT credits_start_purchase('promo:1', 'promo:pack', promotion => 'TEN');
\echo :SQLSTATE
SELECT price FROM credits_start_purchase('promo:2', 'promo:pack', promotion => 'TEN');
RESET ROLE;
SELECT credits_fail_purchase(:first);
SELECT credits_fail_purchase(:first);
SELECT uses FROM credits.promotion_totals WHERE promotion = 'TEN';
SELECT account_id, promotion, promotion_id, created_at, released_at FROM credits.promotion_uses
WHERE promotion = 'TEN' ORDER BY purchase_id;
SELECT purchase_id AS second FROM credits_start_purchase('promo:1', 'promo:pack', promotion => 'TEN') \gset
-- who has paid the lower price gets it, above the limit too
SELECT outcome FROM credits_complete_purchase(:first, 'pay-1', 39.99);
SELECT outcome FROM credits_complete_purchase(:first, 'pay-1', 39.99);
SELECT count(*) AS uses, (SELECT uses FROM credits.promotion_totals WHERE promotion = 'TEN') AS total
FROM credits.promotion_uses WHERE promotion = 'TEN' AND released_at IS NULL;
SELECT outcome FROM credits_complete_purchase(:second, 'pay-2', 39.99);
-- money that goes back gives no use back
SELECT * FROM credits_refund_purchase(:first) \g /dev/null
SELECT uses FROM credits.promotion_totals WHERE promotion = 'TEN';
-- what was bought, at its real price
SELECT amount, source, price, currency, expires_at FROM credits.grants WHERE account_id = :one ORDER BY id;
SELECT quote ->> 'promotion' AS promotion, quote ->> 'promotion_discount' AS discount, quote ->> 'total' AS total, price
FROM credits.purchases WHERE id = :second;
-- retired or not, it was sold so
SELECT purchase_id AS third FROM credits_start_purchase('promo:2', 'promo:pack', promotion => 'MORE') \gset
SELECT credits_retire_promotion('MORE') AS retired \gset
SELECT outcome FROM credits_complete_purchase(:third, 'pay-3', 49.99);
SELECT amount, source, price, expires_at FROM credits.grants WHERE account_id = :two ORDER BY id;

-- versions and retirement
SET ROLE regress_credits_admin;
SELECT credits_set_promotion('SPRING', 'percent', 20, active_from => '2030-03-01', active_until => '2030-04-01');
SET credits.test_clock = '2030-01-31 23:59:59.999999+00';
SELECT promotion_discount FROM credits_price('promo:1', 'promo:pack', promotion => 'SPRING');
SET credits.test_clock = '2030-02-01 00:00:00+00';
SELECT credits_price('promo:1', 'promo:pack', promotion => 'SPRING');
\echo :SQLSTATE
SELECT name FROM credits.current_promotions WHERE promotion_id >= 162001 ORDER BY promotion_id;
SET credits.test_clock = '2030-03-01 00:00:00+00';
SELECT promotion_discount FROM credits_price('promo:1', 'promo:pack', promotion => 'SPRING');
SELECT credits_retire_promotion('SPRING', '2030-03-15');
SELECT promotion_discount FROM credits_price('promo:1', 'promo:pack', promotion => 'SPRING');
SET credits.test_clock = '2030-03-15 00:00:00+00';
SELECT credits_price('promo:1', 'promo:pack', promotion => 'SPRING');
\echo :SQLSTATE
SELECT credits_retire_promotion('SPRING');
\echo :SQLSTATE
SELECT credits_retire_promotion('NONE');
\echo :SQLSTATE
SELECT credits_retire_promotion(NULL);
\echo :SQLSTATE
SELECT credits_set_promotion('SOON', 'percent', 20, active_from => '2030-04-01');
SELECT credits_price('promo:1', 'promo:pack', promotion => 'SOON');
\echo :SQLSTATE

-- bad terms
SELECT credits_set_promotion(NULL, 'percent', 1);
\echo :SQLSTATE
SELECT credits_set_promotion('X', NULL, 1);
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'gratis', 1);
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', NULL);
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 0);
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 100.1);
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', -1);
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 'NaN');
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'bonus', 1.5);
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'bonus', 9223372036854775808);
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'fixed', 1);
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'fixed', 0.005, 'EUR');
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'fixed', 1, 'XAU');
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 1, 'EUR');
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 1, expires_in => '1 day');
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'bonus', 1, expires_in => '-1 day');
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 1, per_account => 0);
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 1, max_uses => -1);
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 1, plans => '{}');
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 1, plans => '{a,NULL}');
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 1, plans => '{""}');
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 1, plans => '{{a},{b}}');
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 1, active_from => '2030-01-01');
\echo :SQLSTATE
SELECT credits_set_promotion('X', 'percent', 1, active_until => '2030-01-01');
\echo :SQLSTATE
SELECT count(*) FROM credits.promotions WHERE name = 'X';
SELECT count(*) FROM credits.promotion_totals WHERE promotion = 'X';
-- a bonus that cannot be counted
SELECT credits_set_promotion('HUGE', 'bonus', 9223372036854775807) IS NOT NULL AS huge;
SELECT credits_price('promo:1', 'promo:pack', promotion => 'HUGE');
\echo :SQLSTATE

-- not for everybody, nor to be changed
SET ROLE regress_credits_app;
SELECT credits_set_promotion('MINE', 'percent', 100);
\echo :SQLSTATE
SELECT credits_retire_promotion('HALF');
\echo :SQLSTATE
SELECT count(*) FROM credits.current_promotions;
\echo :SQLSTATE
SET ROLE regress_credits_admin;
BEGIN READ ONLY;
SELECT credits_set_promotion('MINE', 'percent', 100);
\echo :SQLSTATE
ROLLBACK;
RESET ROLE;
UPDATE credits.promotions SET value = 100;
\echo :SQLSTATE
DELETE FROM credits.promotion_uses;
\echo :SQLSTATE
TRUNCATE credits.promotion_totals;
\echo :SQLSTATE
\set VERBOSITY terse
INSERT INTO credits.promotions SELECT 1, 'x', 'percent', 101, NULL, NULL, NULL, 1, 1, now(), NULL, now(), 'x';
INSERT INTO credits.promotions SELECT 1, 'x', 'gratis', 1, NULL, NULL, NULL, 1, 1, now(), NULL, now(), 'x';
INSERT INTO credits.promotions SELECT 1, 'x', 'fixed', 1, NULL, NULL, NULL, 1, 1, now(), NULL, now(), 'x';
INSERT INTO credits.promotions SELECT 1, 'x', 'bonus', 'NaN', NULL, NULL, NULL, 1, 1, now(), NULL, now(), 'x';
INSERT INTO credits.promotions SELECT 1, 'x', 'percent', 1, NULL, NULL, NULL, 0, 1, now(), NULL, now(), 'x';
\set VERBOSITY default
-- whatever starts, ends and is paid in whatever order: of two buyers, one gets what
-- there is once; the other gets what the money buys without it
RESET ROLE;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2035-01-01 00:00:00+00';
SELECT credits_set_package('promo:once', 1000, 10, 'EUR', extras => '[{"credits": 100, "source": "promotional"}, {"credits": 1, "unit": "image"}]') IS NOT NULL AS pack,
	   credits_open_account('promo:3', unit => 'note') IS NOT NULL AS account \gset
CREATE FUNCTION pg_temp.begin(account text, promotion text) RETURNS bigint LANGUAGE sql AS $$
	SELECT purchase_id FROM public.credits_start_purchase(account, 'promo:once', promotion => promotion)
$$;
CREATE FUNCTION pg_temp.pay(id bigint, money numeric) RETURNS text LANGUAGE sql AS $$
	SELECT outcome FROM public.credits_complete_purchase(id, 'once-' || id, money)
$$;
CREATE FUNCTION pg_temp.told(variadic ids bigint[]) RETURNS TABLE (promotion text, credits bigint, price numeric, money numeric, gave text, events text, released boolean) LANGUAGE sql AS $$
	SELECT p.promotion, p.credits, p.price, p.money,
		(SELECT string_agg(concat_ws(' ', g.amount, g.source, g.price), ', ' ORDER BY g.id) FROM credits.grants AS g WHERE g.id = ANY (p.grant_ids)),
		(SELECT string_agg(concat_ws(' ', e.kind, e.detail ->> 'promotion', e.detail ->> 'price', e.detail ->> 'credits', e.detail ->> 'offered'), ', ' ORDER BY e.id)
		 FROM credits.events AS e WHERE e.detail ->> 'purchase_id' = p.id::text),
		(SELECT u.released_at IS NOT NULL FROM credits.promotion_uses AS u WHERE u.purchase_id = p.id)
	FROM credits.purchases AS p WHERE p.id = ANY (ids) ORDER BY p.id
$$;
-- the first is paid while the second has the only use
SELECT credits_set_promotion('LAST', 'percent', 50, max_uses => 1) IS NOT NULL AS set;
SELECT pg_temp.begin('promo:1', 'LAST') AS a \gset
SELECT credits_expire_purchase(:a), pg_temp.begin('promo:2', 'LAST') AS b \gset
SELECT pg_temp.pay(:a, 5) AS a, pg_temp.pay(:b, 5) AS b;
SELECT pg_temp.pay(:a, 5) AS a;
SELECT * FROM pg_temp.told(:a, :b);
-- what is refunded of it is a share of what it gave
SELECT money, credits FROM credits_refund_purchase(:a, 2.50);
-- the first is paid while the use is free again
SELECT credits_set_promotion('LAST2', 'percent', 50, max_uses => 1) IS NOT NULL AS set;
SELECT pg_temp.begin('promo:1', 'LAST2') AS a \gset
SELECT credits_expire_purchase(:a), pg_temp.begin('promo:2', 'LAST2') AS b \gset
SELECT credits_fail_purchase(:b), pg_temp.pay(:a, 5) AS a, pg_temp.pay(:b, 7) AS b;
SELECT * FROM pg_temp.told(:a, :b);
-- twice by one account; the second buyer pays so much that nothing is missing
SELECT credits_set_promotion('MINE', 'fixed', 9.99, 'EUR') IS NOT NULL AS set;
SELECT pg_temp.begin('promo:1', 'MINE') AS a \gset
SELECT credits_expire_purchase(:a), pg_temp.begin('promo:1', 'MINE') AS b \gset
SELECT pg_temp.pay(:b, 0.01) AS b, pg_temp.pay(:a, 10) AS a;
SELECT * FROM pg_temp.told(:a, :b);
-- free credits that came with it; nobody paid less
SELECT credits_set_promotion('BONUS', 'bonus', 77, max_uses => 1) IS NOT NULL AS set;
SELECT pg_temp.begin('promo:1', 'BONUS') AS a \gset
SELECT credits_expire_purchase(:a), pg_temp.begin('promo:2', 'BONUS') AS b \gset
SELECT pg_temp.pay(:b, 10) AS b, pg_temp.pay(:a, 10) AS a;
SELECT * FROM pg_temp.told(:a, :b);
-- what was free, or almost, buys nothing without it
SELECT credits_set_promotion('FREE', 'percent', 100, max_uses => 1) IS NOT NULL AS set;
SELECT pg_temp.begin('promo:1', 'FREE') AS a \gset
SELECT credits_expire_purchase(:a), pg_temp.begin('promo:2', 'FREE') AS b \gset
SELECT pg_temp.pay(:a, 0) AS a, pg_temp.pay(:b, 0) AS b, pg_temp.pay(:a, 0.001) AS again;
SELECT * FROM pg_temp.told(:a, :b);
SELECT name, max_uses, uses, left_over FROM credits.current_promotions WHERE max_uses = 1 ORDER BY name;

-- other terms start from those in force
RESET ROLE;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2040-01-01 00:00:00+00';
CREATE FUNCTION pg_temp.terms(n bigint) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', kind, value, coalesce(currency, '-'), coalesce(expires_in::text, '-'), coalesce(per_account::text, '-'), coalesce(max_uses::text, '-'),
		coalesce(plans::text, '-'), active_from, coalesce(active_until::text, '-'))
	FROM credits.promotions WHERE id = n
$$;
SELECT pg_temp.terms(credits_set_promotion('KEEP', 'fixed', 5, 'EUR', max_uses => 100, plans => '{a,b}', active_until => '2041-01-01 00:00+00'));
SELECT pg_temp.terms(credits_set_promotion('KEEP', value => 6));
SELECT pg_temp.terms(credits_set_promotion('KEEP', clear => '{per_account,plans,active_until}'));
SELECT pg_temp.terms(credits_set_promotion('KEEP', per_account => 2));
SELECT credits_set_promotion('KEEP') = credits_set_promotion('KEEP', 'fixed', 6.0, max_uses => 100) AS same;
-- another kind has a value of its own, and nothing that is of the old one
SELECT credits_set_promotion('KEEP', 'percent');
\echo :SQLSTATE
SELECT pg_temp.terms(credits_set_promotion('KEEP', 'bonus', 50, expires_in => '1 month'));
SELECT pg_temp.terms(credits_set_promotion('KEEP', 'percent', 10));
SELECT credits_set_promotion('KEEP', expires_in => '1 month');
\echo :SQLSTATE
SELECT credits_set_promotion('KEEP', 'fixed', 10);
\echo :SQLSTATE
SELECT credits_set_promotion('KEEP', clear => '{kind}');
\echo :SQLSTATE
SELECT credits_set_promotion('KEEP', clear => '{uses}');
\echo :SQLSTATE
SELECT credits_set_promotion('KEPT', value => 1);
\echo :SQLSTATE
SELECT credits_retire_promotion('KEEP') = credits_retire_promotion('KEEP') AS again;
SELECT pg_temp.terms(credits_set_promotion('KEEP'));
RESET ROLE;
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 162001 AND 163999;

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
\c :shared
DROP DATABASE regress_promotions;
