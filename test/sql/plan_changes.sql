-- changes: moving a subscription to another plan
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 157001;
ALTER SEQUENCE credits.grants_id_seq RESTART 157001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 157001;
ALTER SEQUENCE credits.events_id_seq RESTART 157001;
ALTER SEQUENCE credits.plans_id_seq RESTART 157001;
ALTER SEQUENCE credits.subscriptions_id_seq RESTART 157001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-04-01 00:00:00+00';
SELECT credits_set_plan('ch basic', 100, price => 10, currency => 'EUR') AS basic,
	credits_set_plan('ch pro', 300, price => 25, currency => 'EUR', priority => 20) AS pro,
	credits_set_plan('ch year', 1200, 'year', price => 100, currency => 'EUR') AS year,
	credits_set_plan('ch day', 5, 'day') AS day,
	credits_set_plan('ch images', 10, unit => 'image') AS images \gset
SELECT balance FROM credits_open_account('ch:1');
SELECT subscription_id AS sub FROM credits_subscribe('ch:1', 'ch basic') \gset
\x on

-- an upgrade is made at once; a preview says the same and writes nothing
SET credits.test_clock = '2030-04-11 00:00:00+00';
SELECT * FROM credits_preview_plan_change(:sub, 'ch pro');
SELECT count(*) FROM credits.plan_changes WHERE subscription_id = :sub;
SELECT * FROM credits_change_plan(:sub, 'ch pro', idempotency_key => 'ch 1');
SELECT * FROM credits_change_plan(:sub, 'ch pro', idempotency_key => 'ch 1');
SELECT * FROM credits_change_plan(:sub, 'ch pro', at => 'now', idempotency_key => 'ch 1');
SELECT source, amount, priority, price, currency, effective_at, expires_at
FROM credits.grants WHERE account_id = credits.account_id('ch:1') ORDER BY id;

-- a downgrade waits, and can be withdrawn
SELECT * FROM credits_change_plan(:sub, 'ch basic', idempotency_key => 'ch 2');
SELECT plan, next_plan FROM credits.subscription_list WHERE subscription_id = :sub;
SELECT at, scheduled, entitlement FROM credits_change_plan(:sub, 'ch pro');
SELECT plan, next_plan FROM credits.subscription_list WHERE subscription_id = :sub;
SELECT * FROM credits_change_plan(:sub, 'ch pro');

-- at once it takes back what remains, rounded down, the last given first
SET credits.test_clock = '2030-04-11 00:00:01+00';
SELECT entitlement, given, taken, balance FROM credits_change_plan(:sub, 'ch basic', at => 'now', idempotency_key => 'ch 3');
SELECT entitlement, given, taken, balance, replayed FROM credits_change_plan(:sub, 'ch basic', at => 'now', idempotency_key => 'ch 3');
SELECT entitlement, given, taken, balance FROM credits_change_plan(:sub, 'ch pro', at => 'now');
SELECT entitlement, given, taken, balance FROM credits_change_plan(:sub, 'ch basic', at => 'now', proration => 'none');
SELECT entitlement, given, taken, balance FROM credits_change_plan(:sub, 'ch pro', at => 'now', proration => 'full');
SELECT balance FROM credits_deduct('ch:1', 240);
SELECT balance, held FROM credits_hold('ch:1', 40);
SELECT entitlement, given, taken, balance FROM credits_change_plan(:sub, 'ch basic', at => 'now', proration => 'full');
-- what it could not take counts as given
SELECT entitlement, given, taken, balance FROM credits_change_plan(:sub, 'ch pro', at => 'now', proration => 'full');

-- another length ends the period
SELECT balance FROM credits_open_account('ch:2');
SET credits.test_clock = '2030-05-01 00:00:00+00';
SELECT subscription_id AS sub2 FROM credits_subscribe('ch:2', 'ch basic') \gset
SET credits.test_clock = '2030-05-16 12:00:00+00';
SELECT balance FROM credits_deduct('ch:2', 10);
SELECT scheduled, period_end FROM credits_preview_plan_change(:sub2, 'ch year');
SELECT * FROM credits_change_plan(:sub2, 'ch year', at => 'now');
SELECT number, starts_at, ends_at, credits, given, unused, rolled
FROM credits.periods WHERE subscription_id = :sub2 ORDER BY starts_at;
SELECT anchor, first_number, period_number, period_start, period_end, due_at
FROM credits.subscriptions WHERE id = :sub2;
-- what is spent beyond what was earned counts as given in the new one
SET credits.test_clock = '2030-05-17 12:00:00+00';
SELECT balance FROM credits_deduct('ch:2', 1200);
SELECT entitlement, given, taken, balance, period_end FROM credits_change_plan(:sub2, 'ch day', at => 'now');
SELECT entitlement, given, taken, balance, period_end FROM credits_change_plan(:sub2, 'ch year', at => 'now');
SELECT entitlement, given, taken, balance, period_end FROM credits_change_plan(:sub2, 'ch day', at => 'now', proration => 'none');
SELECT plan, period_end FROM credits.subscription_list WHERE subscription_id = :sub2;
SELECT anchor, period_number - first_number AS ahead FROM credits.subscriptions WHERE id = :sub2;

-- a first period that begins within one of the calendar gives its part, of either plan
SELECT balance FROM credits_open_account('ch:4');
SET credits.test_clock = '2030-05-22 00:00:00+00';
SELECT subscription_id AS sub4 FROM credits_subscribe('ch:4', 'ch basic', anchor => '2030-06-01 00:00:00+00') \gset
SELECT credits, given, starts_at, ends_at FROM credits.periods WHERE subscription_id = :sub4;
SET credits.test_clock = '2030-05-27 00:00:00+00';
SELECT entitlement, given, taken, balance FROM credits_change_plan(:sub4, 'ch pro');

-- in a trial the plan changes and the trial goes on
SELECT credits_set_plan('ch trial', 50, trial => '14 days', trial_credits => 7) AS trial;
SELECT balance FROM credits_open_account('ch:5');
SELECT subscription_id AS sub5, status FROM credits_subscribe('ch:5', 'ch trial') \gset
SELECT * FROM credits_change_plan(:sub5, 'ch basic', at => 'now');
SELECT status, plan, period_end FROM credits.subscription_list WHERE subscription_id = :sub5;
SET credits.test_clock = '2030-06-11 00:00:00+00';
SELECT scheduled FROM credits_change_plan(:sub5, 'ch pro', at => 'period_end');
SELECT number, starts_at, ends_at, status, given FROM credits.periods WHERE subscription_id = :sub5 ORDER BY starts_at;

-- its credits follow if the new plan has a trial, too: half of 10 and half of 40
SELECT credits_set_plan('ch trial 10', 50, trial => '10 days', trial_credits => 10, price => 1, currency => 'EUR') AS trial10,
	credits_set_plan('ch trial 40', 90, 'year', trial => '20 days', trial_credits => 40, price => 2, currency => 'EUR') AS trial40 \gset
SELECT o.kind FROM generate_series(50, 54) AS n, credits_open_account('ch:' || n) AS o;
SELECT subscription_id AS sub50 FROM credits_subscribe('ch:50', 'ch trial 10') \gset
SET credits.test_clock = '2030-06-16 00:00:00+00';
SELECT at, scheduled, period_end, entitlement, given, taken, balance FROM credits_preview_plan_change(:sub50, 'ch trial 40', at => 'now');
SELECT at, scheduled, period_end, entitlement, given, taken, balance FROM credits_change_plan(:sub50, 'ch trial 40', at => 'now');
SELECT source, amount, price, expires_at FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id
WHERE a.name = 'ch:50' ORDER BY g.id;
-- back and forth gains nothing; what is spent is not taken back, and counts
SELECT given, taken, balance FROM credits_change_plan(:sub50, 'ch trial 10', at => 'now');
SELECT given, taken, balance FROM credits_change_plan(:sub50, 'ch trial 40', at => 'now');
SELECT balance FROM credits_deduct('ch:50', 22);
SELECT given, taken, balance FROM credits_change_plan(:sub50, 'ch trial 10', at => 'now', proration => 'full');
SELECT given, taken, balance FROM credits_change_plan(:sub50, 'ch trial 40', at => 'now', proration => 'full');
-- the period after the trial is one of the new plan
SET credits.test_clock = '2030-06-21 00:00:00+00';
CALL credits_renew() \gset
SELECT number, starts_at, ends_at, status, credits, given FROM credits.periods WHERE subscription_id = :sub50 ORDER BY starts_at;
-- a trial that the account has had by another subscription gives nothing
SELECT subscription_id AS sub51 FROM credits_subscribe('ch:51', 'ch trial 40') \gset
SELECT status FROM credits_cancel_subscription(:sub51, 'now');
SELECT subscription_id AS sub51 FROM credits_subscribe('ch:51', 'ch trial 10') \gset
SELECT entitlement, given, balance FROM credits_change_plan(:sub51, 'ch trial 40', at => 'now');
-- nor does one that it came to by a change
SELECT status FROM credits_cancel_subscription(:sub50, 'now');
SELECT status FROM credits_subscribe('ch:50', 'ch trial 40');
-- before it has begun, a subscription begins as the new plan says, or by the anchor it was given
SELECT s.subscription_id FROM generate_series(52, 54) AS n,
	credits_subscribe('ch:' || n, 'ch trial 10', starts_at => '2030-06-25 00:00+00', anchor => CASE n WHEN 54 THEN timestamptz '2030-08-01 00:00+00' END) AS s;
SELECT max(id) - 2 AS sub52, max(id) - 1 AS sub53, max(id) AS sub54 FROM credits.subscriptions \gset
SELECT period_start, period_end, entitlement FROM credits_change_plan(:sub52, 'ch basic', at => 'now');
SELECT period_start, period_end, entitlement FROM credits_change_plan(:sub53, 'ch trial 40', at => 'now');
SELECT period_start, period_end, entitlement FROM credits_change_plan(:sub54, 'ch basic', at => 'now');
SET credits.test_clock = '2030-07-01 00:00:00+00';
CALL credits_renew() \gset
SELECT s.id - :sub52 AS n, s.status, p.number, p.starts_at, p.ends_at, p.status, p.credits
FROM credits.subscriptions AS s JOIN credits.periods AS p ON p.subscription_id = s.id WHERE s.id BETWEEN :sub52 AND :sub54 ORDER BY s.id;
SELECT count(credits_cancel_subscription(s.id, 'now')) FROM credits.subscriptions AS s JOIN credits.accounts AS a ON a.id = s.account_id
WHERE a.name ~ '^ch:5[0-4]$';

-- while nothing is paid, the plan changes and no credits move
SELECT status FROM credits_mark_unpaid(:sub5);
SET credits.test_clock = '2030-07-12 00:00:00+00';
SELECT entitlement, given, taken, balance FROM credits_change_plan(:sub5, 'ch pro');
SELECT status, plan, balance FROM credits_mark_paid(:sub5);

-- periods that are given when they are paid: those of another length come with their own payment
SELECT balance FROM credits_open_account('ch:6');
SELECT subscription_id AS sub6 FROM credits_subscribe('ch:6', 'ch basic', collection => 'payment') \gset
SELECT balance FROM credits_mark_paid(:sub6);
SET credits.test_clock = '2030-07-27 12:00:00+00';
SELECT entitlement, given, taken, balance, period_end FROM credits_change_plan(:sub6, 'ch year', at => 'now');
SELECT plan, period_start, period_end, balance FROM credits_mark_paid(:sub6);
-- paid first or changed first: the period has given the same
SELECT balance FROM credits_open_account('ch:7');
SELECT balance FROM credits_open_account('ch:8');
SELECT subscription_id AS sub7 FROM credits_subscribe('ch:7', 'ch basic', starts_at => '2030-07-12 00:00:00+00', collection => 'payment') \gset
SELECT subscription_id AS sub8 FROM credits_subscribe('ch:8', 'ch basic', starts_at => '2030-07-12 00:00:00+00', collection => 'payment') \gset
SELECT balance FROM credits_mark_paid(:sub7);
SELECT balance FROM credits_change_plan(:sub7, 'ch pro');
SELECT balance FROM credits_change_plan(:sub8, 'ch pro');
SELECT balance FROM credits_mark_paid(:sub8, '2030-07-12 00:00:00+00');
SELECT p.plan_id = :basic AS basic, p.given FROM credits.periods AS p WHERE subscription_id IN (:sub7, :sub8);

-- the log, its terms, and what is told
SELECT kind, amount, target_id, draws, terms FROM credits.transactions
WHERE account_id = credits.account_id('ch:1') AND kind IN ('plan_change', 'allocation') ORDER BY id LIMIT 4;
SELECT kind, detail FROM credits.events WHERE account_id = credits.account_id('ch:1') AND kind = 'plan_changed'
ORDER BY id LIMIT 2;
\x off

-- a new version of the plan that it has
SELECT credits_set_plan('ch pro', 310, price => 25, currency => 'EUR', priority => 20) AS pro;
SELECT version, scheduled, entitlement FROM credits_preview_plan_change(:sub, 'ch pro');

-- limits may forbid it
SELECT balance FROM credits_open_account('ch:3');
SELECT subscription_id AS sub3 FROM credits_subscribe('ch:3', 'ch basic') \gset
SELECT kind FROM credits_set_limits('ch:3', max_balance => 150);
SELECT * FROM credits_change_plan(:sub3, 'ch pro');
SELECT plan FROM credits.subscription_list WHERE subscription_id = :sub3;
SELECT kind FROM credits_set_limits('ch:3', max_balance => 150, excess => 'clip');
SELECT given, taken, balance FROM credits_preview_plan_change(:sub3, 'ch pro');
SELECT given, taken, balance FROM credits_change_plan(:sub3, 'ch pro');

-- what is refused
SELECT credits_change_plan(NULL, 'ch pro');
SELECT credits_change_plan(:sub, NULL);
SELECT credits_change_plan(:sub, 'ch basic', proration => NULL);
SELECT credits_change_plan(:sub, 'ch basic', at => 'tomorrow');
SELECT credits_change_plan(:sub, 'ch basic', proration => 'half');
SELECT credits_change_plan(9, 'ch basic');
SELECT credits_change_plan(:sub, 'ch nothing');
SELECT credits_change_plan(:sub, 'ch images');
SELECT credits_preview_plan_change(9, 'ch basic');
SELECT credits_preview_plan_change(:sub, 'ch basic', account => 'ch:2');
SELECT credits_preview_plan_change(:sub, 'ch basic', account => 'ch:nobody');
SELECT at FROM credits_preview_plan_change(:sub, 'ch basic', account => 'ch:1');
SELECT credits_preview_plan_change(:sub, 'ch images');
SELECT status FROM credits_cancel_subscription(:sub3);
SELECT credits_change_plan(:sub3, 'ch basic', at => 'period_end');
SELECT scheduled FROM credits_change_plan(:sub3, 'ch basic', at => 'now');
SELECT status FROM credits_cancel_subscription(:sub3, 'now');
SELECT credits_change_plan(:sub3, 'ch pro');
SELECT kind FROM credits_close_account('ch:2', 'gone');
SELECT credits_change_plan(:sub2, 'ch pro');
SET ROLE regress_credits_app;
SELECT given FROM credits_preview_plan_change(:sub, 'ch year');
SELECT credits_change_plan(:sub, 'ch year');
RESET ROLE;
BEGIN READ ONLY;
SELECT given FROM credits_preview_plan_change(:sub, 'ch year');
SELECT credits_change_plan(:sub, 'ch year');
ROLLBACK;
-- nor may it be part of a parallel plan
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'on', false) AS setting;
SELECT given FROM credits_preview_plan_change(:sub, 'ch year');
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'off', false) AS setting;

-- a preview gives grants that are not there yet, and tells them apart from the
-- others, however many: it says what the change then does
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-04-01 00:00:00+00';
SELECT balance FROM credits_open_account('ch:many', 0);
SELECT subscription_id AS sub4 FROM credits_subscribe('ch:many', 'ch pro') \gset
SELECT count(credits_allocate('ch:many', 1, expires_at => '2031-01-01 00:00+00'))
FROM generate_series(1, 40);
-- two periods late: both are given first
SET credits.test_clock = '2030-06-16 00:00:00+00';
SELECT entitlement, given, taken, balance FROM credits_preview_plan_change(:sub4, 'ch basic', 'now');
SELECT entitlement, given, taken, balance FROM credits_change_plan(:sub4, 'ch basic', at => 'now');
-- a plan that is retired by then is not changed to, however late the job; one that is retired after that is
SET credits.test_clock = '2031-07-01 00:00:00+00';
SELECT credits_set_plan('ch old', 70, price => 1, currency => 'EUR') AS old,
	credits_set_plan('ch older', 80, price => 1, currency => 'EUR') AS older \gset
SELECT o.kind FROM generate_series(60, 63) AS n, credits_open_account('ch:' || n) AS o;
SELECT s.subscription_id AS sub60 FROM credits_subscribe('ch:60', 'ch basic') AS s \gset
SELECT s.subscription_id AS sub61 FROM credits_subscribe('ch:61', 'ch basic') AS s \gset
SELECT s.subscription_id AS sub62 FROM credits_subscribe('ch:62', 'ch basic', collection => 'payment') AS s \gset
SELECT s.subscription_id AS sub63 FROM credits_subscribe('ch:63', 'ch basic') AS s \gset
SELECT period_start FROM credits_mark_paid(:sub62);
SELECT scheduled FROM credits_change_plan(:sub60, 'ch old', at => 'period_end');
SELECT scheduled FROM credits_change_plan(:sub61, 'ch older', at => 'period_end');
SELECT scheduled FROM credits_change_plan(:sub62, 'ch old', at => 'period_end');
SELECT scheduled FROM credits_change_plan(:sub63, 'ch old', at => 'period_end');
SELECT status FROM credits_pause_subscription(:sub63);
SET credits.test_clock = '2031-07-20 00:00:00+00';
SELECT credits_retire_plan('ch old') > 0 AS retired;
SET credits.test_clock = '2031-08-03 00:00:00+00';
SELECT credits_retire_plan('ch older') > 0 AS retired;
SELECT account, next_plan FROM credits.subscription_list WHERE subscription_id BETWEEN :sub60 AND :sub63 ORDER BY 1;
CALL credits_renew() \gset
SELECT balance FROM credits_mark_paid(:sub62);
SELECT balance FROM credits_resume_subscription(:sub63);
SELECT account, plan, next_plan, credits_balance(account) FROM credits.subscription_list WHERE subscription_id BETWEEN :sub60 AND :sub63 ORDER BY 1;
SELECT detail - 'subscription_id' AS detail FROM credits.events WHERE kind = 'plan_change_withdrawn' ORDER BY id;
SELECT count(credits_cancel_subscription(id, 'now')) FROM credits.subscriptions WHERE id BETWEEN :sub60 AND :sub63;
-- one before the period begins that was paid ahead: it gives what a whole period of the new plan does
SET credits.test_clock = '2031-09-01 00:00:00+00';
SELECT credits_set_plan('ch ahead', 100, price => 1, currency => 'EUR') AS ahead,
	credits_set_plan('ch more', 300, price => 3, currency => 'EUR') AS more \gset
SELECT kind FROM credits_open_account('ch:70');
SELECT s.subscription_id AS sub70 FROM credits_subscribe('ch:70', 'ch ahead', collection => 'payment') AS s \gset
SELECT period_start, balance FROM credits_mark_paid(:sub70);
SELECT period_start, balance FROM credits_mark_paid(:sub70, '2031-12-01 00:00:00+00');
SELECT entitlement, given, taken, period_start FROM credits_change_plan(:sub70, 'ch more', at => 'now');
-- and within it, another change starts from that
SET credits.test_clock = '2031-12-16 12:00:00+00';
SELECT credits_set_plan('ch most', 500, price => 5, currency => 'EUR') IS NOT NULL AS most;
SELECT entitlement, given, taken, period_start FROM credits_change_plan(:sub70, 'ch most', at => 'now');
SET credits.test_clock = '2031-12-24 06:00:00+00';
SELECT entitlement, given, taken, period_start FROM credits_change_plan(:sub70, 'ch more', at => 'now');
SELECT * FROM credits_verify('ch:70');
SELECT count(credits_cancel_subscription(:sub70, 'now'));
RESET ROLE;

SELECT * FROM credits_verify() WHERE account LIKE 'ch:%';
