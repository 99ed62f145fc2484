-- own: what an application shows a person of their own, right at any instant
-- in a database of its own: nothing in it is ever settled by others
\set shared :DBNAME
CREATE DATABASE regress_own TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_own
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET credits.referral_credits = 20;
SET credits.referrer_credits = 30;
SET credits.referral_account_age = '10 years';
SET credits.test_clock = '2030-01-01 00:00:00+00';
SET ROLE regress_credits_admin;
SELECT count(credits_open_account(a)) FROM unnest('{ann,bob,cid,dan,team,org}'::text[]) AS a;

-- every source and every end
SELECT balance FROM credits_allocate('ann', 100, source => 'promotional', expires_at => '2030-02-01', reason => 'welcome');
SELECT balance FROM credits_allocate('ann', 40, source => 'purchase', price => 4, currency => 'EUR', reference => 'order:1');
SELECT balance FROM credits_allocate('ann', 30, source => 'gift', effective_at => '2030-01-20', expires_at => '2030-01-25');
SELECT balance FROM credits_allocate('ann', 7, source => 'manual', effective_at => '2030-03-01');
SELECT credits_set_plan('own:pro', 100, price => 10, currency => 'EUR', rollover => 'maximum', clear => '{rollover_periods}',
	features => '{"seats": 3}') AS plan;
SELECT credits_set_plan('own:trial', 50, trial => '7 days', trial_credits => 5) AS plan;
SELECT subscription_id FROM credits_subscribe('ann', 'own:pro', metadata => '{"from": "site"}');
SELECT subscription_id FROM credits_subscribe('ann', 'own:trial');
SELECT subscription_id FROM credits_subscribe('ann', 'own:pro', starts_at => '2030-06-01');
SELECT cancel_at FROM credits_cancel_subscription(2);

SET ROLE regress_credits_app;
SELECT transaction_id, balance FROM credits_hold('ann', 60, expires_in => '10 days', operation => 'render', reference => 'r:1', metadata => '{"page": 1}');
SELECT transaction_id, balance FROM credits_hold('ann', 80, expires_in => '50 days');
SELECT (receipt).balance FROM credits_create_gift('ann', 10, message => 'for you');
SET ROLE regress_credits_admin;
SELECT balance FROM credits_allocate('bob', 500);
SET ROLE regress_credits_app;
SELECT code AS for_ann FROM credits_create_gift('bob', 5, message => 'thanks', metadata => '{"note": "secret"}') \gset
SELECT amount FROM credits_redeem('ann', :'for_ann');
SELECT credits_referral_code('ann') AS ann_code, credits_referral_code('bob') AS bob_code \gset
SELECT amount FROM credits_redeem('ann', :'bob_code');
SELECT amount FROM credits_redeem('cid', :'ann_code');
SELECT amount FROM credits_redeem('dan', :'ann_code');

-- pools: ann and bob in team, which is in org
SET ROLE regress_credits_admin;
SELECT balance FROM credits_allocate('team', 1000);
SELECT balance FROM credits_allocate('org', 5000);
SELECT kind FROM credits_add_member('team', 'ann', 300);
SELECT kind FROM credits_add_member('team', 'bob');
SELECT kind FROM credits_add_member('org', 'team', 2000, 'lifetime');
SET ROLE regress_credits_app;
SELECT transaction_id, account, amount FROM credits_hold('ann', 50, expires_in => '5 days', pool => 'team', mode => 'pool_only');
SELECT transaction_id, account, amount FROM credits_hold('ann', 70, expires_in => '20 days', pool => 'org', mode => 'pool_only');
SELECT transaction_id, account, amount FROM credits_hold('bob', 11, expires_in => '20 days', pool => 'team', mode => 'pool_only');
SELECT account, amount FROM credits_deduct('ann', 25, pool => 'team', mode => 'pool_only');

-- purchases
SET ROLE regress_credits_admin;
SELECT credits_set_package('own:small', 100, 9.99, 'USD') IS NOT NULL AS set;

-- Everything there is, as JSON that can be compared.
RESET ROLE;
CREATE FUNCTION public.shown(account text) RETURNS TABLE (what text, rows jsonb) STABLE LANGUAGE sql AS $$
	SELECT 'balance', to_jsonb(credits_balance($1))
	UNION ALL SELECT 'grants', (SELECT jsonb_agg(g) FROM credits_grants($1) AS g)
	UNION ALL SELECT 'sources', (SELECT jsonb_agg(s) FROM credits_balance_by_source($1) AS s)
	UNION ALL SELECT 'holds', (SELECT jsonb_agg(h) FROM credits_holds($1) AS h)
	UNION ALL SELECT 'subscriptions', (SELECT jsonb_agg(s) FROM credits_subscriptions($1) AS s)
	UNION ALL SELECT 'gifts', (SELECT jsonb_agg(g) FROM credits_gifts($1) AS g)
	UNION ALL SELECT 'referrals', (SELECT jsonb_agg(r) FROM credits_referrals($1) AS r)
	UNION ALL SELECT 'pools', (SELECT jsonb_agg(p) FROM credits_pools($1) AS p)
	UNION ALL SELECT 'members', (SELECT jsonb_agg(m) FROM credits_pool_members($1) AS m)
	UNION ALL SELECT 'purchases', (SELECT jsonb_agg(p) FROM credits_purchases($1) AS p)
$$;
GRANT EXECUTE ON FUNCTION public.shown TO PUBLIC;

-- as an application sees it
SET ROLE regress_credits_app;
SELECT * FROM credits_grants('ann');
SELECT * FROM credits_balance_by_source('ann');
SELECT * FROM credits_holds('ann');
SELECT * FROM credits_holds('team');
\x on
SELECT * FROM credits_subscriptions('ann');
SELECT gift_id, direction, code <> '' AS has_code, status, credits, message, giver, redeemed_by, expires_at, created_at, redeemed_at, transaction_id, metadata
FROM credits_gifts('ann');
\x off
SELECT direction, status, giver, redeemed_by, metadata FROM credits_gifts('bob');
SELECT * FROM credits_referrals('ann');
SELECT * FROM credits_referrals('dan');
SELECT * FROM credits_pools('ann');
SELECT * FROM credits_pools('team');
SELECT * FROM credits_pool_members('team');
SELECT * FROM credits_pool_members('org');
SELECT purchase_id FROM credits_start_purchase('ann', 'own:small', metadata => '{"cart": 3}');
SELECT purchase_id FROM credits_start_purchase('ann', 'own:small');
SET ROLE regress_credits_admin;
SELECT outcome FROM credits_complete_purchase(2, 'pay:2', 9.99);
SELECT credits FROM credits_refund_purchase(2, credits => 30);
SET ROLE regress_credits_app;
SELECT purchase_id, status, package, credits, price, currency, money, claimed, owed, metadata FROM credits_purchases('ann');

-- at any instant it is what it is once the accounts have been settled, and adds up
RESET ROLE;
SET client_min_messages = warning;
CREATE TEMP TABLE was (account text, what text, rows jsonb);
-- what a renewal is going to give has no ids yet
CREATE FUNCTION pg_temp.without_ids(rows jsonb, wanted jsonb) RETURNS jsonb
LANGUAGE sql
RETURN (SELECT jsonb_agg(CASE WHEN w.e ->> 'grant_id' IS NULL THEN r.e - '{grant_id,transaction_id,created_at}'::text[] ELSE r.e END ORDER BY r.o)
	FROM jsonb_array_elements(rows) WITH ORDINALITY AS r (e, o) LEFT JOIN jsonb_array_elements(wanted) WITH ORDINALITY AS w (e, o) ON w.o = r.o);
DO $$
DECLARE
	names CONSTANT text[] := '{ann,bob,cid,team,org}';
	instant text;
	wrong text;
BEGIN
	FOREACH instant IN ARRAY ARRAY['2030-01-06 00:00:00', '2030-01-08 00:00:00', '2030-01-11 00:00:00', '2030-01-20 00:00:00',
		'2030-01-22 12:00:00', '2030-01-25 00:00:00', '2030-01-31 23:59:59.999999', '2030-02-01 00:00:00', '2030-02-21 00:00:00',
		'2030-03-01 00:00:00', '2030-05-31 00:00:00', '2030-06-02 00:00:00'] LOOP
		PERFORM set_config('credits.test_clock', instant || '+00', false);
		DELETE FROM was;
		INSERT INTO was SELECT a, s.* FROM unnest(names) AS a, shown(a) AS s;
		SELECT string_agg(a, ', ') INTO wrong FROM unnest(names) AS a
		WHERE credits_balance(a) <> COALESCE((SELECT sum(remaining) FROM credits_grants(a) WHERE status = 'open'), 0)
		   OR credits_balance(a) <> COALESCE((SELECT sum(balance) FROM credits_balance_by_source(a)), 0)
		   OR (SELECT held FROM credits_summary(a)) <>
				COALESCE((SELECT sum(remaining) FROM credits_holds(a) WHERE pool IS NULL OR pool = a), 0);
		IF wrong IS NOT NULL THEN
			RAISE EXCEPTION 'at %, grants, sources or holds do not add up for %', instant, wrong;
		END IF;
		-- whatever changes an account settles and renews it; the list of subscriptions shows what was renewed
		DELETE FROM was AS w USING credits.accounts AS a
		WHERE a.name = w.account AND a.renews_at <= credits.now() AND w.what = 'subscriptions';
		PERFORM credits_set_alerts(a, '1') FROM unnest(names) AS a;
		SELECT string_agg(format('%s of %s: %s, not %s', w.what, w.account, w.rows, s.rows), E'\n') INTO wrong
		FROM was AS w, LATERAL shown(w.account) AS s
		WHERE s.what = w.what AND CASE WHEN w.what = 'grants'
			THEN pg_temp.without_ids(s.rows, w.rows) IS DISTINCT FROM pg_temp.without_ids(w.rows, w.rows)
			ELSE s.rows IS DISTINCT FROM w.rows END;
		IF wrong IS NOT NULL THEN
			RAISE EXCEPTION 'at %, settling changes what is shown: %', instant, wrong;
		END IF;
	END LOOP;
END
$$;
SET ROLE regress_credits_app;
SELECT * FROM credits_grants('ann');
SELECT hold_id, pool, remaining FROM credits_holds('ann');

-- what has ended by the clock has ended, what rolled over is shown apart
SELECT subscription_id, plan, status, period_start, period_end, renews_at, given, remaining, rolled_over, rolled_over_remaining, cancel_at, ended_at
FROM credits_subscriptions('ann');
SET ROLE regress_credits_admin;
CALL credits_renew() \g /dev/null
SET ROLE regress_credits_app;
SELECT subscription_id, plan, status, period_start, period_end, renews_at, given, remaining, rolled_over, rolled_over_remaining, cancel_at, ended_at
FROM credits_subscriptions('ann');
SELECT grant_id, source, status, remaining, rolled_over, expires_at FROM credits_grants('ann') WHERE source = 'subscription';

-- pages
WITH RECURSIVE page AS (
	SELECT 1 AS n, (SELECT array_agg(grant_id) FROM credits_grants('ann', 3)) AS ids
	UNION ALL
	SELECT n + 1, (SELECT array_agg(grant_id) FROM credits_grants('ann', 3, ids[array_upper(ids, 1)])) FROM page WHERE ids IS NOT NULL
)
SELECT array_agg(id ORDER BY n, o) = (SELECT array_agg(grant_id) FROM credits_grants('ann')) AS all_once
FROM page, unnest(ids) WITH ORDINALITY AS i (id, o);
-- from any grant on, whether it is still there or not, where all are alike in a part of the order
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('eve');
SELECT count(credits_allocate('eve', 2, priority => p, effective_at => f, expires_at => e))
FROM generate_series(1, 2), unnest('{10,20}'::integer[]) AS p, unnest('{2030-06-01,2030-08-01}'::timestamptz[]) AS f,
	unnest('{2030-09-01,2030-10-01,NULL}'::timestamptz[]) AS e;
SELECT balance FROM credits_hold('eve', 9, expires_in => '40 days');
RESET ROLE;
DO $$
DECLARE
	instant text;
	wrong text;
	pages integer := 0;
BEGIN
	FOREACH instant IN ARRAY ARRAY['2030-06-03', '2030-07-20', '2030-08-15', '2030-09-15', '2030-10-15'] LOOP
		PERFORM set_config('credits.test_clock', instant || ' 00:00:00+00', false);
		WITH placed AS MATERIALIZED (
			SELECT g.id, row_number() OVER (ORDER BY g.priority, g.expires_at NULLS LAST, g.effective_at, g.id) AS place,
				EXISTS (SELECT FROM credits_grants('eve') AS s WHERE s.grant_id = g.id) AS shown
			FROM credits.grants AS g
			WHERE g.account_id = credits.account_id('eve')
		), page AS (
			SELECT p.id, n,
				ARRAY(SELECT grant_id FROM credits_grants('eve', n, p.id)) AS got,
				ARRAY(SELECT q.id FROM placed AS q WHERE q.shown AND q.place > p.place ORDER BY q.place LIMIT n) AS expected
			FROM placed AS p, unnest('{1,2,5,50}'::integer[]) AS n
		)
		SELECT pages + count(*),
			string_agg(format('%s after %s: %s, not %s', n, id, got, expected), E'\n') FILTER (WHERE got <> expected)
		INTO pages, wrong FROM page;
		IF wrong IS NOT NULL THEN
			RAISE EXCEPTION 'pages at %: %', instant, wrong;
		END IF;
		IF instant = '2030-06-03' AND (SELECT count(*) FROM credits_grants('eve')) <> 20
			OR instant = '2030-07-20' AND (SELECT count(*) FROM credits_grants('eve')) <> 24
			OR instant = '2030-09-15' AND (SELECT count(*) FROM credits_grants('eve')) <> 16 THEN
			RAISE EXCEPTION 'other grants than expected at %', instant;
		END IF;
	END LOOP;
	RAISE INFO '% pages', pages;
END
$$;
SET credits.test_clock = '2030-06-02 00:00:00+00';
SET ROLE regress_credits_app;
SELECT subscription_id FROM credits_subscriptions('ann', 1, 3);
SELECT gift_id FROM credits_gifts('ann', 1);
SELECT gift_id FROM credits_gifts('ann', 1, (SELECT gift_id FROM credits_gifts('ann', 1)));
SELECT referee FROM credits_referrals('ann', 2);
SELECT referee FROM credits_referrals('ann', 2, (SELECT min(transaction_id) FROM credits_referrals('ann', 2)));
SELECT purchase_id FROM credits_purchases('ann', 1);
SELECT purchase_id FROM credits_purchases('ann', 1, 2);
SELECT account FROM credits_pool_members('team', 1);
SELECT account FROM credits_pool_members('team', 5, 'ann');

-- who has nothing sees nothing; nobody is nobody
SELECT what, rows FROM shown('cid') WHERE rows IS NOT NULL AND what IN ('holds', 'subscriptions', 'gifts', 'pools', 'members', 'purchases');
\set VERBOSITY terse
SELECT * FROM credits_grants('nobody');
SELECT * FROM credits_balance_by_source('nobody');
SELECT * FROM credits_holds('nobody');
SELECT * FROM credits_subscriptions('nobody');
SELECT * FROM credits_gifts('nobody');
SELECT * FROM credits_referrals('nobody');
SELECT * FROM credits_pools('nobody');
SELECT * FROM credits_pool_members('nobody');
SELECT * FROM credits_pool_members('team', after_account => 'nobody');
SELECT * FROM credits_purchases('nobody');
SELECT * FROM credits_grants('ann', after_id => (SELECT max(grant_id) FROM credits_grants('bob')));
-- NULL and what is no number of rows
SELECT * FROM credits_grants(NULL);
SELECT * FROM credits_balance_by_source(NULL);
SELECT * FROM credits_holds(NULL);
SELECT * FROM credits_subscriptions(NULL);
SELECT * FROM credits_gifts(NULL);
SELECT * FROM credits_referrals(NULL);
SELECT * FROM credits_pools(NULL);
SELECT * FROM credits_pool_members(NULL);
SELECT * FROM credits_purchases(NULL);
SELECT * FROM credits_grants('ann', NULL);
SELECT * FROM credits_holds('ann', NULL);
SELECT * FROM credits_grants('ann', 0);
SELECT * FROM credits_holds('ann', 1001);
SELECT * FROM credits_subscriptions('ann', 0);
SELECT * FROM credits_gifts('ann', 0);
SELECT * FROM credits_referrals('ann', 0);
SELECT * FROM credits_pool_members('team', 0);
SELECT * FROM credits_purchases('ann', 0);
\set VERBOSITY default

-- an application has these and nothing else
SELECT * FROM credits.settled_grants(1);
RESET ROLE;
SELECT * FROM credits_verify();
\c :shared
DROP DATABASE regress_own;
