-- paid parts: the credits of periods follow what was paid for them, in any order
\set shared :DBNAME
CREATE DATABASE regress_paid_parts TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_paid_parts
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET credits.test_clock = '2070-03-01 00:00:00+00';
SET ROLE regress_credits_admin;
SELECT credits_set_plan('basic', 1000, price => 10, currency => 'USD');
SELECT credits_set_plan('pro', 3000, price => 30, currency => 'USD');
SELECT credits_set_plan('rolls', 1000, rollover => 'maximum', rollover_maximum => 400);
SELECT credits_set_plan('free', 0);
SELECT credits_set_plan('tried', 100, trial => '14 days', trial_credits => 5);
-- a line of an invoice: month and day from which to which it counts, credits, and how many are reversed
CREATE FUNCTION pg_temp.line(starts_at text, ends_at text, credits bigint, reversed bigint DEFAULT 0,
	plan text DEFAULT 'basic', price numeric DEFAULT NULL, trial boolean DEFAULT NULL)
RETURNS jsonb LANGUAGE sql
BEGIN ATOMIC
	SELECT jsonb_strip_nulls(jsonb_build_object('starts_at', '2070-' || starts_at || ' 00:00+00', 'ends_at', '2070-' || ends_at || ' 00:00+00',
		'credits', credits, 'reversed', reversed, 'plan', plan, 'price', price,
		'currency', CASE WHEN price IS NOT NULL THEN 'USD' END, 'trial', trial));
END;
CREATE FUNCTION pg_temp.buyer(account text, plan text DEFAULT 'basic') RETURNS bigint
LANGUAGE sql AS $$
	SELECT credits_open_account(account);
	SELECT subscription_id FROM credits_subscribe(account, plan, collection => 'payment', trial => false);
$$;
CREATE VIEW pg_temp.gave AS
SELECT a.name, to_char(p.starts_at, 'MM-DD') AS "from", to_char(p.ends_at, 'MM-DD') AS until, n.name AS plan, p.status,
	p.paid, p.granted, p.taken, p.carried, p.given, p.unused, p.rolled
FROM credits.periods AS p JOIN credits.accounts AS a ON a.id = p.account_id JOIN credits.plans AS n ON n.id = p.plan_id
ORDER BY a.name, p.ends_at;

-- an invoice gives a period, once
SELECT pg_temp.buyer('once') AS once \gset
SELECT status, period_start, period_end, balance, replayed FROM credits_set_invoice(:once, 'in_1', jsonb_build_array(pg_temp.line('03-01', '04-01', 1000, price => 10)));
SELECT status, period_start, period_end, balance, replayed FROM credits_set_invoice(:once, 'in_1', jsonb_build_array(pg_temp.line('03-01', '04-01', 1000, price => 10)));
SELECT source, amount, price, currency, effective_at, expires_at FROM credits_grants('once');
-- an upgrade credits the rest of the old plan; what it gives has its price
SELECT balance, replayed FROM credits_set_invoice(:once, 'in_2', jsonb_build_array(
	pg_temp.line('03-11', '04-01', -700, price => -7), pg_temp.line('03-11', '04-01', 2100, plan => 'pro', price => 21)),
	settled_at => '2070-03-11 00:00+00');
SET credits.test_clock = '2070-03-11 00:00:00+00';
SELECT credits_balance('once');
SELECT amount, price, effective_at, expires_at FROM credits_grants('once');
-- the period knows when it begins, whichever invoice came first
SELECT plan, period_start, period_end, given, remaining FROM credits_subscriptions('once');

-- less is due: taken as far as it was not used, and the rest in the next period
SELECT balance FROM credits_deduct('once', 2000);
SELECT balance FROM credits_set_invoice(:once, 'in_3', jsonb_build_array(pg_temp.line('03-20', '04-01', -1100)));
SELECT * FROM pg_temp.gave WHERE name = 'once';
SELECT balance, debt FROM credits.accounts WHERE name = 'once';
SET credits.test_clock = '2070-04-01 00:00:00+00';
SELECT balance FROM credits_set_invoice(:once, 'in_4', jsonb_build_array(pg_temp.line('04-01', '05-01', 1000)));
SELECT * FROM pg_temp.gave WHERE name = 'once';
-- it was credited wrongly: all is as if it had never been
SELECT balance FROM credits_set_invoice(:once, 'in_3', '[]');
SELECT * FROM pg_temp.gave WHERE name = 'once';
-- only what was paid back is owed
SELECT balance FROM credits_set_invoice(:once, 'in_1', jsonb_build_array(pg_temp.line('03-01', '04-01', 1000, 1000, price => 10)));
SELECT balance, debt, granted FROM credits.accounts WHERE name = 'once';
SELECT count(*) AS problems FROM credits_verify();

-- what was used of what is not due any more counts in as many periods as it takes
SELECT pg_temp.buyer('spender') AS spender \gset
SELECT balance FROM credits_set_invoice(:spender, 'in_1', jsonb_build_array(pg_temp.line('04-01', '05-01', 3000, plan => 'pro')));
SELECT balance FROM credits_deduct('spender', 2900);
SELECT balance FROM credits_set_invoice(:spender, 'in_2', jsonb_build_array(pg_temp.line('04-01', '05-01', -3000), pg_temp.line('04-01', '05-02', 1000)));
SELECT balance FROM credits_set_invoice(:spender, 'in_4', jsonb_build_array(pg_temp.line('04-01', '06-02', 1500)));
-- what is paid back of the period between is not taken for that, too
SELECT balance FROM credits_set_invoice(:spender, 'in_3', jsonb_build_array(pg_temp.line('04-01', '06-01', 1000, 400)));
SELECT * FROM pg_temp.gave WHERE name = 'spender';
SELECT balance, debt FROM credits.accounts WHERE name = 'spender';
SELECT count(*) AS problems FROM credits_verify('spender');

-- every order of five invoices leads to the same end, in time and late
RESET ROLE;
CREATE TABLE pg_temp.facts AS
SELECT * FROM (VALUES
	(1, 'in_1', jsonb_build_array(pg_temp.line('04-01', '05-01', 1000))),
	(2, 'in_2', jsonb_build_array(pg_temp.line('04-11', '05-01', -667), pg_temp.line('04-11', '05-01', 2000, plan => 'pro'))),
	(3, 'in_1', jsonb_build_array(pg_temp.line('04-01', '05-01', 1000, 500))),
	(4, 'in_3', jsonb_build_array(pg_temp.line('04-21', '05-01', -667))),
	(5, 'in_4', jsonb_build_array(pg_temp.line('05-01', '06-01', 1000)))) AS f (id, invoice, lines);
SET credits.test_clock = '2070-04-25 00:00:00+00';
CREATE FUNCTION pg_temp.play(orders text) RETURNS TABLE (outcomes bigint, plays bigint, outcome text)
LANGUAGE plpgsql AS $$
DECLARE
	one record;
	step integer;
	subscription bigint;
BEGIN
	FOR one IN WITH RECURSIVE o (ids) AS (
			SELECT ARRAY[id] FROM pg_temp.facts
			UNION ALL
			SELECT o.ids || f.id FROM o JOIN pg_temp.facts AS f ON f.id <> ALL (o.ids)
		)
		-- what reverses an invoice tells all that the invoice told
		SELECT ids, orders || array_to_string(ids, '') AS account FROM o
		WHERE cardinality(ids) = 5 AND array_position(ids, 1) < array_position(ids, 3)
	LOOP
		subscription := pg_temp.buyer(one.account);
		FOREACH step IN ARRAY one.ids LOOP
			PERFORM credits_set_invoice(subscription, f.invoice, f.lines) FROM pg_temp.facts AS f WHERE f.id = step;
		END LOOP;
	END LOOP;
	RETURN QUERY SELECT count(DISTINCT e.state), count(*), min(e.state) FROM (
		SELECT a.name, concat_ws(' ', a.balance, a.debt, a.granted, string_agg(concat_ws(' ', 'period', p.starts_at::date, p.status, p.number,
			p.paid, p.granted, p.taken, p.carried, p.given), ' ' ORDER BY p.ends_at)) AS state
		FROM credits.accounts AS a JOIN credits.periods AS p ON p.account_id = a.id
		WHERE a.name LIKE orders || '%' GROUP BY a.id) AS e;
END
$$;
SELECT * FROM pg_temp.play('in time:');
SET credits.test_clock = '2070-05-11 00:00:00+00';
SELECT * FROM pg_temp.play('late:');
SELECT count(*) AS problems FROM credits_verify();
SET ROLE regress_credits_admin;

-- what was paid after its period lives as long as that was, from its payment on
SELECT pg_temp.buyer('late') AS late \gset
SELECT balance FROM credits_set_invoice(:late, 'in_1', jsonb_build_array(pg_temp.line('04-01', '05-01', 1000)), '2070-05-10 00:00+00');
SELECT amount, effective_at, expires_at FROM credits_grants('late');
-- the news of a payment in time may be late: it is over, and can be rolled over
SELECT pg_temp.buyer('news', 'rolls') AS news \gset
SELECT balance FROM credits_set_invoice(:news, 'in_1', jsonb_build_array(pg_temp.line('04-01', '05-01', 1000, plan => 'rolls')), '2070-04-01 00:00+00');
SELECT balance FROM credits_set_invoice(:news, 'in_2', jsonb_build_array(pg_temp.line('05-01', '06-01', 1000, plan => 'rolls')));
SELECT * FROM pg_temp.gave WHERE name = 'news';
-- money back for a period takes what it rolled over, too
SELECT balance FROM credits_set_invoice(:news, 'in_1', jsonb_build_array(pg_temp.line('04-01', '05-01', 1000, 500, plan => 'rolls')), '2070-04-01 00:00+00');
SELECT balance FROM credits_set_invoice(:news, 'in_1', jsonb_build_array(pg_temp.line('04-01', '05-01', 1000, 900, plan => 'rolls')), '2070-04-01 00:00+00');
SELECT balance FROM credits_set_invoice(:news, 'in_1', jsonb_build_array(pg_temp.line('04-01', '05-01', 1000, 1000, plan => 'rolls')), '2070-04-01 00:00+00');
SELECT balance FROM credits_set_invoice(:news, 'in_1', jsonb_build_array(pg_temp.line('04-01', '05-01', 1000, plan => 'rolls')), '2070-04-01 00:00+00');
SELECT pg_temp.buyer('back', 'rolls') AS back \gset
SELECT balance FROM credits_set_invoice(:back, 'in_1', jsonb_build_array(pg_temp.line('04-01', '05-01', 1000, 900, plan => 'rolls')), '2070-04-01 00:00+00');
SELECT balance FROM credits_set_invoice(:back, 'in_2', jsonb_build_array(pg_temp.line('05-01', '06-01', 1000, plan => 'rolls')));
-- a subscription that ends keeps its credits: what is paid already is rolled over when it was to be, whatever became known first
SELECT pg_temp.buyer('leaves', 'rolls') AS leaves, pg_temp.buyer('left', 'rolls') AS "left" \gset
SELECT balance FROM credits_set_invoice(:leaves, 'in_1', jsonb_build_array(pg_temp.line('04-21', '05-21', 1000, plan => 'rolls')));
SELECT balance FROM credits_set_invoice(:leaves, 'in_2', jsonb_build_array(pg_temp.line('05-21', '06-21', 1000, plan => 'rolls')));
SELECT balance FROM credits_set_invoice(:left, 'in_1', jsonb_build_array(pg_temp.line('04-21', '05-21', 1000, plan => 'rolls')));
SELECT status, balance FROM credits_cancel_subscription(:leaves, 'now', credits => 'keep');
SELECT status, balance FROM credits_cancel_subscription(:left, 'now', credits => 'keep');
SELECT balance FROM credits_set_invoice(:left, 'in_2', jsonb_build_array(pg_temp.line('05-21', '06-21', 1000, plan => 'rolls')));
SELECT due_at FROM credits.subscriptions WHERE id IN (:leaves, :left);
SET credits.test_clock = '2070-05-21 00:00:00+00';
SELECT credits_balance('leaves'), credits_balance('left');
SELECT balance FROM credits_deduct('leaves', 1);
SELECT balance FROM credits_deduct('left', 1);
SELECT * FROM pg_temp.gave WHERE name IN ('leaves', 'left');
SELECT status, due_at FROM credits.subscriptions WHERE id IN (:leaves, :left);
SET credits.test_clock = '2070-05-11 00:00:00+00';

-- trials, and plans without credits
SELECT pg_temp.buyer('trial') AS trial \gset
SELECT balance FROM credits_set_invoice(:trial, 'in_1', jsonb_build_array(pg_temp.line('05-11', '05-25', 50, trial => true)));
SELECT source, amount, expires_at FROM credits_grants('trial');
SELECT pg_temp.buyer('free', 'free') AS free \gset
SELECT period_start, period_end, balance, replayed FROM credits_set_invoice(:free, 'in_1', jsonb_build_array(pg_temp.line('05-11', '06-11', 0, plan => 'free')));
SELECT period_start, period_end, balance, replayed FROM credits_mark_paid(:free);
SELECT * FROM pg_temp.gave WHERE name IN ('trial', 'free');

-- two periods that begin together, and a trial of our own that ends with one of them
SELECT subscription_id AS both FROM credits_subscribe('trial', 'tried', collection => 'payment') \gset
SELECT balance FROM credits_set_invoice(:both, 'in_1', jsonb_build_array(pg_temp.line('05-11', '05-25', 7, plan => 'tried'), pg_temp.line('05-11', '06-11', 100, plan => 'tried')));
SELECT balance FROM credits_set_invoice(:both, 'in_2', jsonb_build_array(pg_temp.line('05-25', '06-25', 100, plan => 'tried')));
SELECT period_start, period_end, given, remaining, rolled_over FROM credits_subscriptions('trial') WHERE subscription_id = :both;
-- the credits of a trial, and of a period that credits_mark_paid gave, follow the plan
SELECT credits_set_plan('tried more', 3000, trial => '14 days', trial_credits => 19);
SELECT count(credits_open_account('follows')) AS opened;
SELECT subscription_id AS follows, balance FROM credits_subscribe('follows', 'tried', collection => 'payment') \gset
SELECT given, taken, balance FROM credits_change_plan(:follows, 'tried more', at => 'now');
SET credits.test_clock = '2070-05-18 00:00:00+00';
SELECT given, taken, balance FROM credits_change_plan(:follows, 'tried', at => 'now');
SELECT reference, credits, price, trial FROM credits.paid_parts WHERE subscription_id = :follows ORDER BY reference;
SET credits.test_clock = '2070-05-25 00:00:00+00';
SELECT balance FROM credits_mark_paid(:follows);
SET credits.test_clock = '2070-06-09 12:00:00+00';
SELECT given, taken, balance FROM credits_change_plan(:follows, 'tried more', at => 'now');
SELECT balance FROM credits_deduct('follows', 1000);
SELECT given, taken, balance FROM credits_change_plan(:follows, 'tried', at => 'now');
SELECT * FROM pg_temp.gave WHERE name = 'follows';
SET credits.test_clock = '2070-06-25 00:00:00+00';
SELECT balance FROM credits_mark_paid(:follows);
SELECT * FROM pg_temp.gave WHERE name = 'follows';
SET credits.test_clock = '2070-05-11 00:00:00+00';
-- a trial that begins with the very call: it is there for a change of plan, and for what is paid for the same time
SELECT count(credits_open_account('tries:' || n)) AS opened FROM generate_series(1, 4) AS n;
CREATE TABLE pg_temp.tries AS
SELECT n, s.subscription_id AS id
FROM generate_series(1, 4) AS n, credits_subscribe('tries:' || n, 'tried', collection => 'payment', starts_at => '2070-05-20 00:00+00') AS s;
SET credits.test_clock = '2070-05-22 00:00:00+00';
SELECT credits_allocate('tries:' || n, 1000) IS NOT NULL AS touched FROM generate_series(1, 3, 2) AS n;
SELECT n, c.given, c.taken, c.balance FROM pg_temp.tries, credits_change_plan(id, 'tried more', at => 'now') AS c WHERE n < 3 ORDER BY n;
SELECT n, c.balance FROM pg_temp.tries, credits_set_invoice(id, 'in_1', jsonb_build_array(pg_temp.line('05-21', '06-03', 77, plan => 'tried'))) AS c WHERE n > 2 ORDER BY n;
SELECT n, p.reference, p.starts_at, p.credits, p.trial FROM pg_temp.tries JOIN credits.paid_parts AS p ON p.subscription_id = id ORDER BY n, p.reference;
SELECT name, "from", until, plan, status, paid, granted, given FROM pg_temp.gave WHERE name LIKE 'tries:%';
SET credits.test_clock = '2070-05-11 00:00:00+00';
-- what limits forbid is given as soon as they allow it; an event tells
SELECT pg_temp.buyer('full') AS full \gset
SELECT kind FROM credits_set_limits('full', max_balance => 600, excess => 'refuse');
SELECT balance, replayed FROM credits_set_invoice(:full, 'in_1', jsonb_build_array(pg_temp.line('05-11', '06-11', 1000)));
SELECT detail - 'subscription_id' AS refused FROM credits.events WHERE account_id = credits.account_id('full') AND kind = 'renewal_failed';
SELECT * FROM pg_temp.gave WHERE name = 'full';
SELECT kind FROM credits_set_limits('full', max_balance => 1600, excess => 'refuse');
SELECT balance, replayed FROM credits_set_invoice(:full, 'in_1', jsonb_build_array(pg_temp.line('05-11', '06-11', 1000)));
-- what comes pays the oldest debt first, be it in a call that makes another one, or that increases one
SELECT pg_temp.buyer('owes') AS owes \gset
SELECT balance FROM credits_set_invoice(:owes, 'in_1', jsonb_build_array(pg_temp.line('05-01', '06-01', 100)));
SELECT balance FROM credits_set_invoice(:owes, 'in_2', jsonb_build_array(pg_temp.line('05-01', '06-02', 100)));
SELECT balance FROM credits_set_invoice(:owes, 'in_3', jsonb_build_array(pg_temp.line('05-01', '06-03', 100)));
SELECT balance FROM credits_deduct('owes', 300);
SELECT balance FROM credits_set_invoice(:owes, 'in_3', jsonb_build_array(pg_temp.line('05-01', '06-03', 100, 100)));
SELECT balance FROM credits_set_invoice(:owes, 'in_1', jsonb_build_array(pg_temp.line('05-01', '06-01', 100, 100)));
CREATE VIEW pg_temp.owed AS
SELECT to_char(g.expires_at, 'MM-DD') AS until, d.claimed, d.owed, d.paid
FROM credits.debts AS d JOIN credits.grants AS g ON g.id = d.grant_id WHERE d.account_id = credits.account_id('owes') ORDER BY d.grant_id;
RESET ROLE;
SET credits.debt_payment = 'any';
SELECT balance FROM credits_set_invoice(:owes, 'in_2', jsonb_build_array(pg_temp.line('05-01', '06-02', 100, 40), pg_temp.line('05-01', '06-04', 120)));
SELECT * FROM pg_temp.owed;
SELECT balance FROM credits_set_invoice(:owes, 'in_2', jsonb_build_array(pg_temp.line('05-01', '06-02', 100, 100), pg_temp.line('05-01', '06-04', 120), pg_temp.line('05-01', '06-05', 100)));
SELECT * FROM pg_temp.owed;
SELECT balance, debt FROM credits_summary('owes');
RESET credits.debt_payment;
SET ROLE regress_credits_admin;
-- nothing is posted to a closed account
SELECT pg_temp.buyer('closed') AS closed \gset
SELECT balance FROM credits_set_invoice(:closed, 'in_1', jsonb_build_array(pg_temp.line('05-11', '06-11', 1000)));
SELECT kind FROM credits_close_account('closed', 'gone');
SELECT balance, replayed FROM credits_set_invoice(:closed, 'in_1', jsonb_build_array(pg_temp.line('05-11', '06-11', 1000, 1000)));
SELECT balance, replayed FROM credits_set_invoice(:closed, 'in_2', jsonb_build_array(pg_temp.line('06-11', '07-11', 1000)));
SELECT count(*) AS problems FROM credits_verify();

-- money back for a period takes what was rolled over from it and again, and what lives on in its grace; if it does not go back after all, that returns
SELECT credits_set_plan('rolls again', 100, rollover => 'maximum', rollover_maximum => 1000, rollover_again => true) IS NOT NULL AS set,
	credits_set_plan('waits', 100, grace => '10 days') IS NOT NULL AS set;
SELECT pg_temp.buyer('again', 'rolls again') AS again, pg_temp.buyer('grace', 'waits') AS grace \gset
SELECT balance FROM credits_set_invoice(:again, 'in_1', jsonb_build_array(pg_temp.line('03-01', '04-01', 100, plan => 'rolls again')), '2070-03-01 00:00+00');
SELECT balance FROM credits_set_invoice(:again, 'in_2', jsonb_build_array(pg_temp.line('04-01', '05-01', 100, plan => 'rolls again')), '2070-04-01 00:00+00');
SELECT balance FROM credits_set_invoice(:again, 'in_3', jsonb_build_array(pg_temp.line('05-01', '06-01', 100, plan => 'rolls again')), '2070-05-01 00:00+00');
SELECT balance FROM credits_deduct('again', 10);
SELECT balance FROM credits_set_invoice(:again, 'in_1', jsonb_build_array(pg_temp.line('03-01', '04-01', 100, 40, plan => 'rolls again')), '2070-03-01 00:00+00');
SELECT balance FROM credits_set_invoice(:again, 'in_2', jsonb_build_array(pg_temp.line('04-01', '05-01', 100, 100, plan => 'rolls again')), '2070-04-01 00:00+00');
SELECT balance FROM credits_set_invoice(:again, 'in_1', jsonb_build_array(pg_temp.line('03-01', '04-01', 100, 100, plan => 'rolls again')), '2070-03-01 00:00+00');
SELECT balance, debt FROM credits_summary('again');
SELECT balance FROM credits_set_invoice(:again, 'in_2', jsonb_build_array(pg_temp.line('04-01', '05-01', 100, plan => 'rolls again')), '2070-04-01 00:00+00');
SELECT balance FROM credits_set_invoice(:again, 'in_1', jsonb_build_array(pg_temp.line('03-01', '04-01', 100, plan => 'rolls again')), '2070-03-01 00:00+00');
SELECT balance, debt FROM credits_summary('again');
SELECT balance FROM credits_set_invoice(:grace, 'in_1', jsonb_build_array(pg_temp.line('05-01', '05-21', 100, plan => 'waits')));
SELECT balance FROM credits_deduct('grace', 10);
SET credits.test_clock = '2070-05-22 00:00:00+00';
SELECT balance FROM credits_deduct('grace', 20);
SELECT balance FROM credits_set_invoice(:grace, 'in_1', jsonb_build_array(pg_temp.line('05-01', '05-21', 100, 50, plan => 'waits')));
SELECT balance FROM credits_set_invoice(:grace, 'in_1', jsonb_build_array(pg_temp.line('05-01', '05-21', 100, 100, plan => 'waits')));
SELECT balance, debt FROM credits_summary('grace');
SELECT balance FROM credits_set_invoice(:grace, 'in_1', jsonb_build_array(pg_temp.line('05-01', '05-21', 100, plan => 'waits')));
SELECT balance, debt FROM credits_summary('grace');
SELECT balance FROM credits_set_invoice(:grace, 'in_1', jsonb_build_array(pg_temp.line('05-01', '05-21', 100, 50, plan => 'waits')));
-- what was spent in the grace is taken from the next period
SELECT balance FROM credits_set_invoice(:grace, 'in_2', jsonb_build_array(pg_temp.line('05-21', '06-21', 100, plan => 'waits')), '2070-05-21 00:00+00');
SELECT balance, debt FROM credits_summary('grace');
SELECT * FROM pg_temp.gave WHERE name IN ('again', 'grace');
SET credits.test_clock = '2070-05-11 00:00:00+00';
SELECT count(*) AS problems FROM credits_verify();

-- other grants have paid what a grant owed, and then what was spent of it comes back: it is claimed, and they get back what they paid
SELECT pg_temp.buyer('repaid') AS repaid \gset
SELECT balance FROM credits_set_invoice(:repaid, 'in_1', jsonb_build_array(pg_temp.line('05-01', '06-01', 1000)));
SELECT balance FROM credits_set_invoice(:repaid, 'in_2', jsonb_build_array(pg_temp.line('05-01', '06-01', 500)));
SELECT transaction_id AS spend, balance FROM credits_deduct('repaid', 1500) \gset
SELECT balance FROM credits_set_invoice(:repaid, 'in_2', jsonb_build_array(pg_temp.line('05-01', '06-01', 500, 500)));
SELECT balance FROM credits_allocate('repaid', 500, source => 'purchase');
SELECT balance, debt FROM credits_summary('repaid');
SELECT balance FROM credits_refund(:spend, 500);
SELECT balance FROM credits_set_invoice(:repaid, 'in_1', jsonb_build_array(pg_temp.line('05-01', '06-01', 1000, 100)));
SELECT balance, debt FROM credits_summary('repaid');
SELECT claimed FROM credits.periods WHERE subscription_id = :repaid;
SELECT g.source, g.amount, g.remaining, g.all_claimed, d.claimed, d.owed, d.paid FROM credits.grants AS g LEFT JOIN credits.debts AS d ON d.grant_id = g.id
WHERE g.account_id = credits.account_id('repaid') ORDER BY g.id;
SELECT problem, detail FROM credits_verify('repaid');

-- what cannot be
SELECT pg_temp.buyer('bad') AS bad \gset
SELECT subscription_id AS clock FROM credits_subscribe('bad', 'basic') \gset
\set VERBOSITY sqlstate
SELECT credits_set_invoice(:clock, 'in_1', '[]');
SELECT credits_set_invoice(999999, 'in_1', '[]');
SELECT credits_set_invoice(:bad, '(paid)', '[]');
SELECT credits_set_invoice(:bad, NULL, '[]');
SELECT credits_set_invoice(:bad, 'in_1', NULL);
SELECT credits_set_invoice(:bad, 'in_1', '{}');
SELECT credits_set_invoice(:bad, 'in_1', '[{}]');
SELECT credits_set_invoice(:bad, 'in_1', '[1]');
SELECT credits_set_invoice(:bad, 'in_1', jsonb_build_array(pg_temp.line('05-11', '05-11', 1000)));
SELECT credits_set_invoice(:bad, 'in_1', jsonb_build_array(pg_temp.line('05-11', '06-11', 1000, 1001)));
SELECT credits_set_invoice(:bad, 'in_1', jsonb_build_array(pg_temp.line('05-11', '06-11', 1000, -1)));
SELECT credits_set_invoice(:bad, 'in_1', jsonb_build_array(pg_temp.line('05-11', '06-11', -1000, 1)));
SELECT credits_set_invoice(:bad, 'in_1', jsonb_build_array(pg_temp.line('05-11', '06-11', 1000, plan => 'none')));
SELECT credits_set_invoice(:bad, 'in_1', '[{"starts_at": "infinity", "ends_at": "infinity", "credits": 1}]');
SELECT credits_set_invoice(:bad, 'in_1', '[{"starts_at": "2070-05-01", "ends_at": "2370-05-01", "credits": 1}]');
SELECT credits_set_invoice(:bad, 'in_1', '[{"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 1, "price": 1}]');
-- a price that no other grant can have
SELECT credits_set_invoice(:bad, 'in_1', '[{"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 1, "price": "NaN", "currency": "USD"}]');
SELECT credits_set_invoice(:bad, 'in_1', '[{"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 1, "price": "Infinity", "currency": "USD"}]');
SELECT credits_set_invoice(:bad, 'in_1', '[{"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 1, "price": "-Infinity", "currency": "USD"}]');
SELECT credits_set_invoice(:bad, 'in_1', '[{"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 1, "price": 1e1000, "currency": "USD"}]');
SELECT credits_set_invoice(:bad, 'in_1', '[{"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 1, "price": 1, "currency": "usd"}]');
SELECT credits_set_invoice(:bad, 'in_1', '[{"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 1, "price": 1, "currency": "USD"}, {"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 1, "price": 1, "currency": "EUR"}]');
SELECT credits_set_invoice(:bad, 'in_1', '[{"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 9223372036854775807}, {"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 1}]');
\set VERBOSITY default
SELECT count(*) AS nothing FROM credits.paid_parts WHERE subscription_id = :bad;
-- the most that there is
SELECT balance FROM credits_set_invoice(:bad, 'in_1', '[{"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 9223372036854775807}]');
SELECT balance FROM credits_set_invoice(:bad, 'in_2', '[{"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": 9223372036854775807}]');
SELECT balance FROM credits_set_invoice(:bad, 'in_3', '[{"starts_at": "2070-05-01", "ends_at": "2070-06-01", "credits": -9223372036854775808}]');
SELECT account, problem, detail FROM credits_verify();
RESET ROLE;
\c :shared
DROP DATABASE regress_paid_parts;
