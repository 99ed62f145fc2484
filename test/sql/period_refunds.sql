-- refunds of periods of subscriptions that the clock renews
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 156001;
ALTER SEQUENCE credits.grants_id_seq RESTART 156001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 156001;
ALTER SEQUENCE credits.events_id_seq RESTART 156001;
ALTER SEQUENCE credits.plans_id_seq RESTART 156001;
ALTER SEQUENCE credits.subscriptions_id_seq RESTART 156001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2237-04-01 00:00:00+00';
SELECT credits_set_plan('pr basic', 100, price => 10, currency => 'EUR') IS NOT NULL AS basic,
	credits_set_plan('pr pro', 300, price => 30, currency => 'EUR') IS NOT NULL AS pro,
	credits_set_plan('pr rolls more', 300, price => 30, currency => 'EUR', rollover => 'maximum', rollover_maximum => 300) IS NOT NULL AS more,
	credits_set_plan('pro in thirds', 300, price => 20, currency => 'EUR') IS NOT NULL AS thirds,
	credits_set_plan('pr week', 25, 'week', price => 3, currency => 'EUR') IS NOT NULL AS week,
	credits_set_plan('pr open', 50) IS NOT NULL AS open,
	credits_set_plan('pr trial', 80, price => 8, currency => 'EUR', trial => '7 days', trial_credits => 9) IS NOT NULL AS trial,
	credits_set_plan('pr rolls', 100, price => 10, currency => 'EUR', rollover => 'maximum', rollover_maximum => 80) IS NOT NULL AS rolls,
	credits_set_plan('pr grace', 100, price => 10, currency => 'EUR', grace => '10 days') IS NOT NULL AS grace;

-- what is claimed of each grant of a subscription
CREATE VIEW pg_temp.claims AS
SELECT p.subscription_id, p.number, g.amount, g.remaining, d.claimed, d.gone, d.owed, d.paid
FROM credits.periods AS p JOIN credits.grants AS g ON g.group_id = p.grant_id OR g.id = ANY (p.rolled_grant_ids || p.grace_grant_id)
LEFT JOIN credits.debts AS d ON d.grant_id = g.id ORDER BY p.number, g.id;

-- its share of the money, rounded down; what was spent is owed
SELECT balance FROM credits_open_account('prf:1');
SELECT subscription_id AS sub FROM credits_subscribe('prf:1', 'pr basic') \gset
SELECT balance FROM credits_deduct('prf:1', 60);
SELECT account, period_start, period_end, reference, money, currency, credits, balance, debt, replayed
FROM credits_refund_period(:sub, 2.55, reference => 're_1', reason => 'outage');
SELECT reference, money, credits, balance, debt, replayed FROM credits_refund_period(:sub, 2.55, reference => 're_1');
SELECT reference, money, credits, balance, debt, replayed FROM credits_refund_period(:sub, reference => 're_1');
SELECT reference, money, credits, balance, debt, replayed FROM credits_refund_period(:sub, 0.01, '2237-04-01');
SELECT reference, money, credits, balance, debt, replayed FROM credits_refund_period(:sub);
TABLE pg_temp.claims;
SELECT t.kind, t.amount, t.reference, t.reason, t.terms FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name = 'prf:1' AND t.kind = 'clawback' ORDER BY t.id;
SELECT kind, detail - 'subscription_id' AS detail FROM credits.events WHERE kind = 'period_refunded' AND detail ->> 'account' = 'prf:1' ORDER BY id;
SELECT reference, starts_at, money, currency, reason, created_at, role = session_user AS by_me
FROM credits.period_refunds WHERE subscription_id = :sub ORDER BY reference;
\set VERBOSITY sqlstate
SELECT credits_refund_period(:sub);
SELECT credits_refund_period(:sub, 1, reference => 're_1');
SELECT credits_refund_period(:sub, 2.55, '2237-05-01', 're_1');
SELECT credits_refund_period(:sub, 1, '2237-04-02');
SELECT credits_refund_period(:sub, 0);
SELECT credits_refund_period(:sub, -1);
SELECT credits_refund_period(999999);
\set VERBOSITY default

-- changes of plan within a refunded period, whichever came first
SELECT balance FROM credits_open_account('prf:2');
SELECT balance FROM credits_open_account('prf:3');
SELECT subscription_id AS first FROM credits_subscribe('prf:2', 'pr pro') \gset
SELECT subscription_id AS last FROM credits_subscribe('prf:3', 'pr pro') \gset
SELECT balance FROM credits_deduct('prf:2', 40);
SELECT balance FROM credits_deduct('prf:3', 40);
SELECT credits, balance, debt FROM credits_refund_period(:first, 12, reference => 're_2');
SET credits.test_clock = '2237-04-16 00:00:00+00';
SELECT given, taken, balance FROM credits_preview_plan_change(:first, 'pr basic', at => 'now');
SELECT given, taken, balance, replayed FROM credits_change_plan(:first, 'pr basic', 'pr 1', at => 'now');
SELECT given, taken, balance, replayed FROM credits_change_plan(:first, 'pr basic', 'pr 1', at => 'now');
SELECT given, taken, balance FROM credits_change_plan(:last, 'pr basic', at => 'now');
SELECT credits, balance, debt FROM credits_refund_period(:last, 12, reference => 're_2');
TABLE pg_temp.claims;
SET credits.test_clock = '2237-04-21 00:00:00+00';
SELECT given, taken, balance, replayed FROM credits_change_plan(:first, 'pr pro', 'pr 2');
SELECT given, taken, balance, replayed FROM credits_change_plan(:first, 'pr pro', 'pr 2');
SELECT given, taken, balance FROM credits_change_plan(:last, 'pr pro');
\set VERBOSITY sqlstate
SELECT credits_refund_period(:last, 24.71);
\set VERBOSITY default
TABLE pg_temp.claims;
-- one that ends the period; the new one is not refunded
SET credits.test_clock = '2237-04-24 00:00:00+00';
SELECT given, taken, balance FROM credits_change_plan(:first, 'pr week', at => 'now');
SELECT money, credits, balance, debt FROM credits_refund_period(:last);
SELECT given, taken, balance FROM credits_change_plan(:last, 'pr week', at => 'now');
SELECT money, credits, balance, debt FROM credits_refund_period(:first, period_start => '2237-04-01');
TABLE pg_temp.claims;
SELECT money, currency, credits, balance, debt FROM credits_refund_period(:first, 1);
SELECT subscription_id = :first AS first, plan, given, remaining FROM credits_subscriptions('prf:2');
-- and the end of the subscription
SELECT status, balance FROM credits_cancel_subscription(:first, 'now', 'expire');
SELECT credits, balance, debt FROM credits_refund_period(:first);

-- what others paid of the debt returns to them once the period has what is claimed
SELECT balance FROM credits_open_account('prf:4');
SELECT subscription_id AS sub FROM credits_subscribe('prf:4', 'pr basic') \gset
SELECT balance FROM credits_deduct('prf:4', 100);
SELECT credits, balance, debt FROM credits_refund_period(:sub, 5);
SELECT balance FROM credits_allocate('prf:4', 30, source => 'purchase');
SELECT balance, debt FROM credits_summary('prf:4');
SELECT given, taken, balance FROM credits_change_plan(:sub, 'pr pro');
SELECT balance, debt FROM credits_summary('prf:4');

-- a price that is not known, and a trial
SELECT balance FROM credits_open_account('prf:5');
SELECT subscription_id AS sub FROM credits_subscribe('prf:5', 'pr open') \gset
SELECT subscription_id AS trial FROM credits_subscribe('prf:5', 'pr trial') \gset
\set VERBOSITY sqlstate
SELECT credits_refund_period(:sub, 1);
SELECT credits_refund_period(:trial, 1);
\set VERBOSITY default
SELECT reference = 'refund_' || :sub || '_0_1' AS made_up, money, currency, credits, balance FROM credits_refund_period(:sub);
SELECT money, currency, credits, balance, replayed FROM credits_refund_period(:sub, reference => 'refund_' || :sub || '_0_1');
SELECT money, credits, balance FROM credits_refund_period(:trial, reference => 'all');
\set VERBOSITY sqlstate
SELECT credits_refund_period(:sub);
SELECT credits_refund_period(:sub, 1, reference => 'refund_' || :sub || '_0_1');
\set VERBOSITY default
-- all of it, whatever comes
SELECT given, balance FROM credits_change_plan(:sub, 'pr basic', at => 'now');
SELECT balance, debt FROM credits_summary('prf:5');

-- after its end: what expired is gone, what was rolled over is taken, or owed
SET credits.test_clock = '2237-06-01 00:00:00+00';
SELECT balance FROM credits_open_account('prf:6');
SELECT subscription_id AS sub FROM credits_subscribe('prf:6', 'pr basic') \gset
SELECT subscription_id AS rolls FROM credits_subscribe('prf:6', 'pr rolls') \gset
SELECT balance FROM credits_deduct('prf:6', 30);
SET credits.test_clock = '2237-07-01 00:00:00+00';
SELECT balance FROM credits_summary('prf:6');
SELECT credits, balance, debt FROM credits_refund_period(:sub, 8, '2237-06-01');
SELECT credits, balance, debt FROM credits_refund_period(:sub, NULL, '2237-06-01');
SELECT credits, balance, debt FROM credits_refund_period(:rolls, 4, '2237-06-01');
SELECT balance FROM credits_deduct('prf:6', 100);
SELECT credits, balance, debt FROM credits_refund_period(:rolls, NULL, '2237-06-01');
SELECT * FROM pg_temp.claims WHERE subscription_id IN (:sub, :rolls);
-- what was rolled over again, too, as if the money had gone back in time
SELECT credits_set_plan('pr again', 100, price => 10, currency => 'EUR', rollover => 'maximum', rollover_maximum => 1000, rollover_again => true) IS NOT NULL AS again;
SET credits.test_clock = '2237-03-01 00:00:00+00';
SELECT count(credits_open_account('prf:again ' || n)) AS opened FROM generate_series(1, 2) AS n;
SELECT min(s.subscription_id) AS again FROM generate_series(1, 2) AS n, credits_subscribe('prf:again ' || n, 'pr again') AS s \gset
SET credits.test_clock = '2237-03-20 00:00:00+00';
SELECT credits, balance, debt FROM credits_refund_period(:again, 4);
SET credits.test_clock = '2237-04-20 00:00:00+00';
SELECT n, d.balance FROM generate_series(1, 2) AS n, credits_deduct('prf:again ' || n, 130) AS d;
SET credits.test_clock = '2237-05-20 00:00:00+00';
SELECT n, d.balance FROM generate_series(1, 2) AS n, credits_deduct('prf:again ' || n, 10) AS d;
SELECT credits, balance, debt FROM credits_refund_period(:again + 1, 4, '2237-03-01');
SELECT r.credits, r.balance, r.debt FROM generate_series(0, 1) AS n, credits_refund_period(:again + n, NULL, '2237-03-01') AS r;
SET credits.test_clock = '2237-07-01 00:00:00+00';
-- the newest one is that of now, even if nobody has renewed it
SET credits.test_clock = '2237-08-02 00:00:00+00';
SELECT period_start, credits FROM credits_refund_period(:sub, 1);

-- in the grace after its end
SET credits.test_clock = '2237-09-01 00:00:00+00';
SELECT balance FROM credits_open_account('prf:7');
SELECT subscription_id AS sub FROM credits_subscribe('prf:7', 'pr grace') \gset
SELECT balance FROM credits_deduct('prf:7', 30);
SELECT status FROM credits_mark_unpaid(:sub);
SET credits.test_clock = '2237-10-02 00:00:00+00';
SELECT balance FROM credits_deduct('prf:7', 10);
SELECT credits, balance, debt FROM credits_refund_period(:sub, 5);
SELECT credits, balance, debt FROM credits_refund_period(:sub);
SELECT status, balance FROM credits_mark_paid(:sub);
SELECT balance, debt FROM credits_summary('prf:7');

-- money has as many decimals as its currency; what was paid in fractions of a cent is paid back rounded up
SELECT balance FROM credits_open_account('prf:9');
SELECT subscription_id AS sub FROM credits_subscribe('prf:9', 'pr basic') \gset
SET credits.test_clock = '2237-10-13 05:00:00+00';
SELECT given FROM credits_change_plan(:sub, 'pro in thirds', at => 'now');
SELECT sum(price) AS paid FROM credits.grants AS g WHERE g.account_id = (SELECT id FROM credits.accounts WHERE name = 'prf:9');
SELECT credits_refund_period(:sub, 0.001);
\set VERBOSITY sqlstate
SELECT credits_refund_period(:sub, 18.55);
SELECT credits_refund_period(:sub, 1e30);
\set VERBOSITY default
SELECT money, credits, balance FROM credits_refund_period(:sub, 10);
SELECT money, credits, balance FROM credits_refund_period(:sub);

-- where credits follow what was paid, invoices tell it
SELECT balance FROM credits_open_account('prf:8');
SELECT subscription_id AS sub FROM credits_subscribe('prf:8', 'pr basic', collection => 'payment') \gset
SELECT credits_refund_period(:sub);
SELECT subscription_id AS later FROM credits_subscribe('prf:8', 'pr basic', starts_at => '2237-11-01') \gset
\set VERBOSITY sqlstate
SELECT credits_refund_period(:later);
SELECT subscription_id AS sub FROM credits_subscribe('prf:8', 'pr basic') \gset
SELECT count(*) FROM credits_close_account('prf:8', 'gone');
SELECT credits_refund_period(:sub);
\set VERBOSITY default
-- what was voided counts first, whether the money goes back before the end of the period or after it
SELECT balance FROM generate_series(10, 11) AS n, credits_open_account('prf:' || n);
SELECT min(r.subscription_id) AS sub FROM generate_series(10, 11) AS n, credits_subscribe('prf:' || n, 'pr rolls') AS r \gset
SELECT r.given FROM generate_series(0, 1) AS n, credits_change_plan(:sub + n, 'pr rolls more', at => 'now', proration => 'full') AS r;
SELECT v.amount FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id, credits_void_grant(g.id, 'abuse') AS v
WHERE a.name IN ('prf:10', 'prf:11') AND g.amount = 200 ORDER BY g.id;
SELECT credits, balance, debt FROM credits_refund_period(:sub, 15);
SET credits.test_clock = '2237-11-14 00:00:00+00';
SELECT n, balance, debt FROM generate_series(10, 11) AS n, credits_summary('prf:' || n);
SELECT credits, balance, debt FROM credits_refund_period(:sub + 1, 15, '2237-10-13 05:00');
RESET ROLE;
UPDATE credits.period_refunds SET money = money + 1;
DELETE FROM credits.period_refunds;
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 156001 AND 156999;
