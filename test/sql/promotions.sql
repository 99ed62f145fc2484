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
SELECT credits_set_promotion('MORE', 'bonus', 250, expires_in => '60 days', per_account => NULL);
SELECT credits_set_promotion('HALF', 'percent', 50);
SELECT id, name, kind, value, currency, expires_in, plans, per_account, max_uses, active_from, active_until, created_at,
	   role = session_user AS by_me
FROM credits.promotions WHERE id >= 162001 ORDER BY id;
SELECT name, kind, value, currency, expires_in, plans, per_account, max_uses, uses, left_over, active_until
FROM credits.current_promotions WHERE id >= 162001 ORDER BY id;

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
SELECT credits_set_promotion('SPRING', 'percent', 20, per_account => NULL, max_uses => 1) AS again \gset
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
SELECT status FROM credits_subscription_unpaid(:sub);
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
SELECT purchase_id AS first, price FROM credits_purchase_start('promo:1', 'promo:pack', promotion => 'TEN', idempotency_key => 'k1') \gset
\echo :price
SELECT purchase_id = :first AS same, price FROM credits_purchase_start('promo:1', 'promo:pack', promotion => 'TEN', idempotency_key => 'k1');
SELECT credits_purchase_start('promo:1', 'promo:pack', promotion => 'TEN');
\echo :SQLSTATE
SELECT price FROM credits_purchase_start('promo:2', 'promo:pack', promotion => 'TEN');
RESET ROLE;
SELECT credits_purchase_fail(:first);
SELECT credits_purchase_fail(:first);
SELECT uses FROM credits.promotion_totals WHERE promotion = 'TEN';
SELECT account_id, promotion, promotion_id, created_at, released_at FROM credits.promotion_uses
WHERE promotion = 'TEN' ORDER BY purchase_id;
SELECT purchase_id AS second FROM credits_purchase_start('promo:1', 'promo:pack', promotion => 'TEN') \gset
-- who has paid the lower price gets it, above the limit too
SELECT outcome FROM credits_purchase_complete(:first, 'pay-1', 39.99);
SELECT outcome FROM credits_purchase_complete(:first, 'pay-1', 39.99);
SELECT count(*) AS uses, (SELECT uses FROM credits.promotion_totals WHERE promotion = 'TEN') AS total
FROM credits.promotion_uses WHERE promotion = 'TEN' AND released_at IS NULL;
SELECT outcome FROM credits_purchase_complete(:second, 'pay-2', 39.99);
-- money that goes back gives no use back
SELECT * FROM credits_purchase_refund(:first) \g /dev/null
SELECT uses FROM credits.promotion_totals WHERE promotion = 'TEN';
-- what was bought, at its real price
SELECT amount, source, price, currency, expires_at FROM credits.grants WHERE account_id = :one ORDER BY id;
SELECT quote ->> 'promotion' AS promotion, quote ->> 'promotion_discount' AS discount, quote ->> 'total' AS total, price
FROM credits.purchases WHERE id = :second;
-- retired or not, it was sold so
SELECT purchase_id AS third FROM credits_purchase_start('promo:2', 'promo:pack', promotion => 'MORE') \gset
SELECT credits_retire_promotion('MORE') AS retired \gset
SELECT outcome FROM credits_purchase_complete(:third, 'pay-3', 49.99);
SELECT amount, source, price, expires_at FROM credits.grants WHERE account_id = :two ORDER BY id;

-- versions and retirement
SET ROLE regress_credits_admin;
SELECT credits_set_promotion('SPRING', 'percent', 20, active_from => '2030-03-01', active_until => '2030-04-01');
SET credits.test_clock = '2030-01-31 23:59:59.999999+00';
SELECT promotion_discount FROM credits_price('promo:1', 'promo:pack', promotion => 'SPRING');
SET credits.test_clock = '2030-02-01 00:00:00+00';
SELECT credits_price('promo:1', 'promo:pack', promotion => 'SPRING');
\echo :SQLSTATE
SELECT name FROM credits.current_promotions WHERE id >= 162001 ORDER BY id;
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
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 162001 AND 163999;

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
\c :shared
DROP DATABASE regress_promotions;
