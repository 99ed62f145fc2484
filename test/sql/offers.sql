-- offers: plans and packages that are not for everybody
-- in a database of its own, since its clock is ahead of that of other tests
\set shared :DBNAME
CREATE DATABASE regress_offers TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_offers
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set SHOW_CONTEXT never
SET ROLE regress_credits_admin;
SET credits.test_clock = '2040-01-01 00:00:00+00';
SELECT credits_set_plan('of basic', 10, price => 1, currency => 'EUR') IS NOT NULL AS set,
	credits_set_plan('of acme', 1000, price => 50, currency => 'EUR') IS NOT NULL AS set,
	credits_set_package('of small', 10, 1, 'EUR') IS NOT NULL AS set,
	credits_set_package('of huge', 100000, 500, 'EUR') IS NOT NULL AS set;
SELECT count(credits_open_account(name, metadata => metadata::jsonb)) FROM (VALUES
	('of:1', '{"company": "acme", "seats": [1, 2]}'), ('of:2', '{"company": "acme"}'), ('of:3', '{"company": "other"}'),
	('of:4', NULL), ('of:5', 'null'), ('of:6', '{"group": {"company": "acme"}}'), ('of:7', '["company", "acme"]')) AS v (name, metadata);

-- how a call ends; the name of the plan or package is left out
CREATE FUNCTION pg_temp.ends(command text, hidden text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	state text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE command;
	RAISE EXCEPTION USING ERRCODE = 'ZZ000';
EXCEPTION
	WHEN SQLSTATE 'ZZ000' THEN RETURN 'works';
	WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
		RETURN replace(concat_ws(' / ', state, message, NULLIF(detail, ''), NULLIF(hint, '')), hidden, '...');
END
$$;
-- the accounts that can have a plan and a package; what they are shown must agree with what they get
CREATE FUNCTION pg_temp.reach(plan text, package text, OUT subscribe text, OUT plans text, OUT price text, OUT buy text, OUT packages text) LANGUAGE sql AS $$
	SELECT string_agg(a.n, '' ORDER BY a.n) FILTER (WHERE pg_temp.ends(format('SELECT public.credits_subscribe(%L, %L)', a.name, plan)) = 'works'),
		string_agg(a.n, '' ORDER BY a.n) FILTER (WHERE plan IN (SELECT p.name FROM public.credits_plans(a.name) AS p)),
		string_agg(a.n, '' ORDER BY a.n) FILTER (WHERE pg_temp.ends(format('SELECT public.credits_price(%L, %L)', a.name, package)) = 'works'),
		string_agg(a.n, '' ORDER BY a.n) FILTER (WHERE pg_temp.ends(format('SELECT public.credits_start_purchase(%L, %L)', a.name, package)) = 'works'),
		string_agg(a.n, '' ORDER BY a.n) FILTER (WHERE package IN (SELECT p.name FROM public.credits_packages(a.name) AS p))
	FROM (SELECT 'of:' || n, n::text FROM generate_series(1, 7) AS n) AS a (name, n)
$$;

-- nothing says to whom: to everybody
SELECT * FROM pg_temp.reach('of acme', 'of huge');
SELECT name FROM credits.current_plans UNION ALL
SELECT name FROM credits.current_packages ORDER BY name;

-- to one account, or to those that have something in common
SELECT credits_offer_plan('of acme', 'of:3'), credits_offer_package('of huge', 'of:4');
SELECT * FROM pg_temp.reach('of acme', 'of huge');
SELECT credits_offer_plan('of acme', metadata => '{"company": "acme"}'), credits_offer_package('of huge', metadata => '{"seats": [2]}');
SELECT * FROM pg_temp.reach('of acme', 'of huge');
-- an offer that stands is the same one
SELECT credits_offer_plan('of acme', 'of:3'), credits_offer_plan('of acme', metadata => '{"company":"acme"}'),
	credits_offer_package('of huge', 'of:4'), credits_offer_package('of huge', metadata => '{"seats": [2]}');
-- what is not offered is not shown
SELECT name FROM credits.current_plans UNION ALL
SELECT name FROM credits.current_packages ORDER BY name;
SELECT name, private FROM credits.sold_plans UNION ALL
SELECT name, private FROM credits.sold_packages ORDER BY name;
-- and a stranger learns nothing: it is as if there were none, retired or not
SELECT pg_temp.ends('SELECT credits_subscribe(''of:7'', ''of acme'')', 'of acme');
SELECT pg_temp.ends('SELECT credits_price(''of:7'', ''of huge'')', 'of huge');
SELECT pg_temp.ends('SELECT credits_start_purchase(''of:7'', ''of huge'', currency => ''USD'')', 'of huge');
CREATE FUNCTION pg_temp.tells(account text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT c FROM unnest(ARRAY['SELECT credits_subscribe(%1$L, ''of %2$s'')', 'SELECT credits_subscribe(%1$L, ''of %2$s'', external_id => ''of new'')',
		'SELECT credits_price(%1$L, ''of %2$s'', currency => ''USD'')', 'SELECT credits_start_purchase(%1$L, ''of %2$s'', idempotency_key => ''k'')']) AS c
	WHERE pg_temp.ends(format(c, account, CASE WHEN c LIKE '%subscribe%' THEN 'acme' ELSE 'huge' END), CASE WHEN c LIKE '%subscribe%' THEN 'acme' ELSE 'huge' END)
		<> pg_temp.ends(format(c, account, 'none'), 'none')
$$;
SELECT pg_temp.tells('of:7'), pg_temp.tells('of:x'), pg_temp.tells('');
SELECT kind FROM credits_close_account('of:7', 'test');
SELECT pg_temp.tells('of:7');
BEGIN;
SELECT credits_retire_plan('of acme') IS NOT NULL AS retired, credits_retire_package('of huge') IS NOT NULL AS retired;
SELECT pg_temp.tells('of:6');
SELECT pg_temp.ends('SELECT credits_subscribe(''of:3'', ''of acme'')');
SELECT name FROM credits_plans('of:3') UNION ALL SELECT name FROM credits_packages('of:4');
ROLLBACK;

-- changes of plan, now and later
SELECT subscription_id AS sub1 FROM credits_subscribe('of:1', 'of acme') \gset
SELECT subscription_id AS sub4 FROM credits_subscribe('of:4', 'of basic') \gset
SELECT pg_temp.ends(format(c, :sub4, 'of acme'), 'of acme') AS private, pg_temp.ends(format(c, :sub4, 'of none'), 'of none') AS none
FROM unnest(ARRAY['SELECT credits_change_plan(%s, %L)', 'SELECT credits_change_plan(%s, %L, at => ''period_end'')',
	'SELECT credits_preview_plan_change(%s, %L)']) AS c;
SELECT subscription_id AS sub2 FROM credits_subscribe('of:2', 'of basic', idempotency_key => 'begin') \gset
SELECT plan, given, replayed FROM credits_change_plan(:sub2, 'of acme', 'key', at => 'now');
SELECT plan, given FROM credits_preview_plan_change(:sub2, 'of basic', at => 'now');
SELECT plan, given FROM credits_change_plan(:sub2, 'of basic', at => 'now');
SELECT plan, scheduled FROM credits_change_plan(:sub2, 'of acme', at => 'period_end');
SELECT subscription_id AS sub3 FROM credits_subscribe('of:3', 'of acme', idempotency_key => 'begin', external_id => 'of sub') \gset
SELECT purchase_id AS bought4 FROM credits_start_purchase('of:4', 'of huge', idempotency_key => 'buy') \gset

-- withdrawn: what was agreed stays, but nothing more can be
SET credits.test_clock = '2040-01-10 00:00:00+00';
SELECT credits_withdraw_offer(1), credits_withdraw_offer(2), credits_withdraw_offer(3), credits_withdraw_offer(4);
SELECT credits_withdraw_offer(1), credits_withdraw_offer(4);
SELECT offer_id, kind, name, account, metadata, everybody, created_at, role = session_user AS by_me, withdrawn_at, withdrawn_by = session_user AS by_me
FROM credits.offer_list ORDER BY offer_id;
-- not to everybody all at once
SELECT * FROM pg_temp.reach('of acme', 'of huge');
SELECT name FROM credits.current_plans UNION ALL
SELECT name FROM credits.current_packages ORDER BY name;
SELECT pg_temp.ends(c, 'of acme')
FROM unnest(ARRAY['SELECT credits_subscribe(''of:3'', ''of acme'')', 'SELECT credits_price(''of:4'', ''of huge'')', 'SELECT credits_start_purchase(''of:4'', ''of huge'')']) AS c;
-- calls that are repeated return what they did
SELECT plan, replayed FROM credits_subscribe('of:3', 'of acme', idempotency_key => 'begin', external_id => 'of sub');
SELECT plan, replayed FROM credits_subscribe('of:3', 'of acme', external_id => 'of sub');
SELECT plan, replayed FROM credits_change_plan(:sub2, 'of acme', 'key', at => 'now');
SELECT purchase_id = :bought4 AS same, replayed FROM credits_start_purchase('of:4', 'of huge', idempotency_key => 'buy');
-- what is paid is delivered
SELECT outcome, (receipt).amount FROM credits_complete_purchase(:bought4, 'of_pay', 500);
-- the subscriptions renew, and the change that was agreed comes
SET credits.test_clock = '2040-02-02 00:00:00+00';
CALL credits_renew() \gset
SELECT l.account, s.plan, s.period_start, s.given FROM credits.subscription_list AS l, LATERAL credits_subscriptions(l.account) AS s
WHERE s.subscription_id = l.subscription_id ORDER BY l.account;
-- who has the plan can keep it, but gets no newer version
SELECT plan, scheduled FROM credits_change_plan(:sub3, 'of basic', at => 'period_end');
SELECT plan, scheduled FROM credits_change_plan(:sub3, 'of acme');
SELECT next_plan FROM credits.subscription_list WHERE subscription_id = :sub3;
SELECT credits_set_plan('of acme', 2000) IS NOT NULL AS set;
SELECT pg_temp.ends(format('SELECT credits_change_plan(%s, ''of acme'')', :sub3));
SELECT credits_offer_plan('of acme', 'of:3') AS offered;
SELECT plan, version FROM credits_change_plan(:sub3, 'of acme', at => 'now');

-- the metadata decide as they are now
SELECT credits_offer_plan('of acme', metadata => '{"company": "acme"}') AS offered;
SELECT subscribe, plans FROM pg_temp.reach('of acme', 'of huge');
RESET ROLE;
UPDATE credits.accounts SET metadata = '{"company": "acme"}' WHERE name = 'of:4';
UPDATE credits.accounts SET metadata = '{"company": "none"}' WHERE name = 'of:2';
SET ROLE regress_credits_admin;
SELECT subscribe, plans FROM pg_temp.reach('of acme', 'of huge');

-- to everybody again, and no more; without any other offer, to nobody
SELECT credits_offer_plan('of acme', everybody => true) AS plan, credits_offer_package('of huge', everybody => true) AS package \gset
SELECT :plan = credits_offer_plan('of acme', everybody => true) AS same;
SELECT * FROM pg_temp.reach('of acme', 'of huge');
SELECT name FROM credits.current_plans UNION ALL
SELECT name FROM credits.current_packages ORDER BY name;
SELECT credits_withdraw_offer(:plan), credits_withdraw_offer(:package);
SELECT * FROM pg_temp.reach('of acme', 'of huge');
-- an offer that is made again is another one
SELECT :plan < credits_offer_plan('of acme', everybody => true) AS later;

-- what is for another unit is not shown, and what has ended not either, though it can be offered
SELECT credits_set_plan('of image', 1, unit => 'image') IS NOT NULL AS set, credits_set_package('of image', 1, 1, 'EUR', unit => 'image') IS NOT NULL AS set,
	credits_set_package('of later', 1, 1, 'EUR', active_from => '2041-01-01') IS NOT NULL AS set, credits_retire_plan('of image') IS NOT NULL AS retired;
SELECT count(o) FROM (VALUES (credits_offer_plan('of image', 'of:1')), (credits_offer_package('of image', 'of:1')), (credits_offer_package('of later', 'of:1'))) AS v (o);
SELECT name FROM credits_plans('of:1') UNION ALL SELECT name FROM credits_packages('of:1') ORDER BY name;
SELECT pg_temp.ends('SELECT credits_price(''of:1'', ''of later'')'), pg_temp.ends('SELECT credits_price(''of:2'', ''of later'')', 'of later');

-- Stripe is not asked to whom: what was paid is given
RESET ROLE;
BEGIN;
SELECT credits_stripe_add_secret('offers', 'whsec_offers_0123456789');
SELECT credits_withdraw_offer(max(offer_id)) FROM credits.offer_list WHERE name = 'of acme' AND everybody;
CREATE FUNCTION pg_temp.pad(key bytea, mask int) RETURNS bytea LANGUAGE sql AS $$
	SELECT string_agg(set_byte('\x00', 0, CASE WHEN i < length(key) THEN get_byte(key, i) ELSE 0 END # mask), '' ORDER BY i)
	FROM generate_series(0, 63) AS i
$$;
CREATE FUNCTION pg_temp.send(id text, type text, object jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT r.result || COALESCE(': ' || (r.detail->>'missing'), '')
	FROM (SELECT jsonb_build_object('id', id, 'type', type, 'created', 2211840000, 'data', jsonb_build_object('object', object))::text) AS e (event),
		encode(sha256(pg_temp.pad('whsec_offers_0123456789', 92) || sha256(pg_temp.pad('whsec_offers_0123456789', 54) || ('2211840000.' || event)::bytea)), 'hex') AS h (hmac),
		public.credits_stripe_webhook(event, 't=2211840000,v1=' || hmac) AS r
$$;
SET credits.test_clock = '2040-02-03 00:00:00+00';
SELECT credits_stripe_set_price('price_of_acme', 'of acme');
SELECT pg_temp.send('evt_of_1', 'customer.subscription.created', '{"id": "sub_of", "status": "active", "customer": "cus_of", "created": 2211840000,
	"start_date": 2211840000, "billing_cycle_anchor": 2211840000, "metadata": {"account": "of:6"}, "items": {"data": [{"id": "si_of", "price": {"id": "price_of_acme"}}]}}');
SELECT pg_temp.send('evt_of_2', 'invoice.paid', '{"id": "in_of", "customer": "cus_of", "currency": "eur", "total": 5000, "amount_paid": 5000,
	"parent": {"subscription_details": {"subscription": "sub_of"}}, "lines": {"has_more": false, "data": [{"id": "il_of", "amount": 5000,
		"period": {"start": 2211840000, "end": 2214345600}, "pricing": {"unit_amount_decimal": "5000", "price_details": {"price": "price_of_acme"}}}]}}');
SELECT plan, credits_balance(account) FROM credits.subscription_list WHERE external_id = 'sub_of';
SELECT pg_temp.ends('SELECT credits_subscribe(''of:6'', ''of acme'')', 'of acme');
ROLLBACK;

-- arguments
SET ROLE regress_credits_admin;
SELECT pg_temp.ends(command) FROM unnest(ARRAY[
	'SELECT credits_offer_plan(NULL, ''of:1'')', 'SELECT credits_offer_plan(''of none'', ''of:1'')', 'SELECT credits_offer_package(''of none'', ''of:1'')',
	'SELECT credits_offer_package('' '', ''of:1'')',
	'SELECT credits_offer_plan(''of basic'')', 'SELECT credits_offer_plan(''of basic'', ''of:1'', ''{"a": 1}'')',
	'SELECT credits_offer_package(''of small'', ''of:1'', everybody => true)', 'SELECT credits_offer_plan(''of basic'', everybody => NULL)',
	'SELECT credits_offer_plan(''of basic'', ''of:none'')',
	'SELECT credits_offer_plan(''of basic'', metadata => ''{}'')', 'SELECT credits_offer_plan(''of basic'', metadata => ''null'')',
	'SELECT credits_offer_plan(''of basic'', metadata => ''[1]'')',
	'SELECT credits_offer_plan(''of basic'', metadata => jsonb_build_object(''a'', repeat(''x'', 1016)))',
	'SELECT credits_withdraw_offer(NULL)', 'SELECT credits_withdraw_offer(0)', 'SELECT credits_withdraw_offer(999)',
	'SELECT credits_plans(NULL)', 'SELECT credits_plans(''of:none'')', 'SELECT credits_packages(NULL)', 'SELECT credits_packages(''of:none'')']) AS command;
SELECT name FROM credits.offer_list WHERE name IN ('of basic', 'of small');
BEGIN READ ONLY;
SELECT credits_offer_plan('of basic', 'of:1');
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT credits_withdraw_offer(1);
\echo :SQLSTATE
ROLLBACK;
-- roles
SET ROLE regress_credits_app;
SELECT name FROM credits_plans('of:1');
SELECT pg_temp.ends(command) FROM unnest(ARRAY['SELECT credits_offer_plan(''of basic'', ''of:1'')', 'SELECT credits_withdraw_offer(1)',
	'SELECT FROM credits.offers', 'SELECT FROM credits.sold_plans']) AS command;
RESET ROLE;
\set VERBOSITY terse
UPDATE credits.offers SET withdrawn_at = NULL;
DELETE FROM credits.offers;
\set VERBOSITY default
SELECT * FROM credits_verify();

\c :shared
DROP DATABASE regress_offers;
