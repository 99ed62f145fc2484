-- find_accounts: search among all accounts
\set shared :DBNAME
CREATE DATABASE regress_find_accounts TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_find_accounts
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET credits.test_clock = '2061-01-01 00:00:00+00';
SELECT count(credits_open_account(format('%s:%s', CASE WHEN n % 2 = 0 THEN 'user' ELSE 'team' END, n), n * 10)) FROM generate_series(1, 12) AS n;
SELECT kind FROM credits_open_account('gem:1', 7, unit => 'gems');
SELECT kind FROM credits_pause_account('user:4', 'reason');
SELECT kind FROM credits_close_account('team:1', 'reason');
SELECT credits_set_plan('basic', 100, 'month');
SELECT credits_set_plan('pro', 300, 'month');
SELECT plan FROM credits_subscribe('user:2', 'basic');
SELECT credits_set_plan('basic', 120, 'month');
SELECT plan FROM credits_subscribe('team:3', 'basic');
SELECT plan FROM credits_subscribe('team:3', 'pro');
SELECT plan FROM credits_subscribe('user:6', 'pro', external_id => 'sub_6');
SELECT status FROM credits_cancel_subscription((credits_subscribe('user:8', 'basic')).subscription_id, 'now');
SELECT kind FROM credits_allocate('team:9', 5, reference => 'order-1');
SELECT kind FROM credits_allocate('user:10', 5, reference => 'order-1', expires_at => '2061-02-01 00:00:00+00');
SET credits.test_clock = '2061-01-03 00:00:00+00';
SELECT balance FROM credits_deduct('team:11', 100);
GRANT CONNECT ON DATABASE regress_find_accounts TO regress_credits_admin;
SET ROLE regress_credits_admin;

-- everybody, in the order of opening; by name if a prefix is given
SELECT account, unit, status, balance, held, debt, plans, last_at FROM credits_find_accounts();
SELECT account FROM credits_find_accounts('user:');
SELECT account FROM credits_find_accounts('user:1');
SELECT account FROM credits_find_accounts('user:10');
SELECT account FROM credits_find_accounts('v');
SELECT account FROM credits_find_accounts('us%');
-- by pages
SELECT account FROM credits_find_accounts(max_rows => 3);
SELECT account FROM credits_find_accounts(after_account => 'team:3', max_rows => 3);
SELECT account FROM credits_find_accounts('user:', max_rows => 3);
SELECT account FROM credits_find_accounts('user:', after_account => 'user:2', max_rows => 3);
SELECT account FROM credits_find_accounts('user:', after_account => 'team:1', max_rows => 1);
SELECT account FROM credits_find_accounts('team:', after_account => 'user:2', max_rows => 1);
-- by each condition
SELECT account FROM credits_find_accounts(status => 'active', max_rows => 2);
SELECT account FROM credits_find_accounts(status => 'paused');
SELECT account FROM credits_find_accounts(status => 'closed');
SELECT account FROM credits_find_accounts(unit => 'gems');
SELECT account FROM credits_find_accounts(min_balance => 100);
SELECT account FROM credits_find_accounts(max_balance => 10);
SELECT account FROM credits_find_accounts(min_balance => 60, max_balance => 80);
SELECT account FROM credits_find_accounts(plan => 'basic');
SELECT account, plans FROM credits_find_accounts(plan => 'pro');
SELECT account FROM credits_find_accounts(plan => 'basic', after_account => 'user:2');
SELECT account FROM credits_find_accounts(used_since => '2061-01-02');
SELECT account FROM credits_find_accounts('team:', unused_since => '2061-01-02');
SELECT account FROM credits_find_accounts(reference => 'order-1');
SELECT account FROM credits_find_accounts(reference => 'sub_6');
SELECT account FROM credits_find_accounts(reference => 'order-2');
-- by several
SELECT account FROM credits_find_accounts('user:', plan => 'pro');
SELECT account FROM credits_find_accounts('team:', reference => 'order-1');
SELECT account FROM credits_find_accounts(status => 'paused', plan => 'basic');
-- debt
RESET ROLE;
SELECT credits_set_package('pack', 50, 500, 'EUR');
SELECT credits_complete_purchase((credits_start_purchase('team:5', 'pack')).purchase_id, 'pay_5', 500) IS NOT NULL AS completed;
SELECT balance FROM credits_deduct('team:5', 90);
SELECT credits_refund_purchase((SELECT id FROM credits.purchases)) IS NOT NULL AS refunded;
SET ROLE regress_credits_admin;
SELECT account, balance, debt FROM credits_find_accounts(in_debt => true);
SELECT account FROM credits_find_accounts(in_debt => true, after_account => 'team:5');
SELECT account FROM credits_find_accounts('team:', in_debt => false);
SELECT account FROM credits_find_accounts(reference => 'pay_5');
-- what is due counts, though no job has run
SELECT account, balance FROM credits_find_accounts('user:10');
SET credits.test_clock = '2061-02-01 00:00:00+00';
SELECT account, balance FROM credits_find_accounts('user:10');
SELECT account FROM credits_find_accounts('user:', min_balance => 105);
SELECT account, balance, credits_balance(account) FROM credits_find_accounts() WHERE balance <> credits_balance(account);
-- who has renewed, too
SELECT account, balance FROM credits_find_accounts(plan => 'pro');

-- bad input
SELECT credits_find_accounts('');
SELECT credits_find_accounts(repeat('x', 256));
SELECT credits_find_accounts(status => 'open');
SELECT credits_find_accounts(unit => '');
SELECT credits_find_accounts(min_balance => -1);
SELECT credits_find_accounts(max_balance => -1);
SELECT credits_find_accounts(plan => 'none');
SELECT credits_find_accounts(reference => '');
SELECT credits_find_accounts(after_account => 'nobody');
SELECT credits_find_accounts(max_rows => 0);
SELECT credits_find_accounts(max_rows => NULL);
SELECT count(*) FROM credits_find_accounts(used_since => 'infinity');
SELECT count(*) FROM credits_find_accounts(unused_since => '-infinity');
SELECT count(*) FROM credits_find_accounts(min_balance => 9223372036854775807);

-- a page ends after 2000 accounts, and says where to go on
RESET ROLE;
SELECT count(credits_open_account('many:' || lpad(n::text, 4, '0'), CASE WHEN n > 3990 THEN 5000 ELSE 1 END)) FROM generate_series(1, 3995) AS n;
SET ROLE regress_credits_admin;
SELECT account, balance FROM credits_find_accounts('many:', min_balance => 5000);
SELECT account, balance FROM credits_find_accounts('many:', min_balance => 5000, after_account => 'many:2000');
SELECT account, balance FROM credits_find_accounts('many:', min_balance => 5000, after_account => 'many:3995');
SELECT account, balance FROM credits_find_accounts(min_balance => 5000);
SELECT account, balance FROM credits_find_accounts(min_balance => 5000, after_account => 'many:1987');
SELECT account, balance FROM credits_find_accounts(min_balance => 5000, after_account => 'many:3987');

RESET ROLE;
\c :shared
DROP DATABASE regress_find_accounts;
