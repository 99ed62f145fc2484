-- settings: credits.* and who may set them
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 150001;
ALTER SEQUENCE credits.grants_id_seq RESTART 150001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 150001;
LOAD 'credits';

SELECT name, context, vartype, unit, min_val, max_val, boot_val, short_desc
FROM pg_settings WHERE name LIKE 'credits.%' ORDER BY name;

-- the prefix is reserved: a typing error is told
\set VERBOSITY sqlstate
SET credits.refund_grase = '1 day';
\set VERBOSITY default

-- values that make no sense
SET credits.initial_balance = -1;
\echo :SQLSTATE
SET credits.initial_balance = 'many';
SET credits.alert_levels = '-1';
SET credits.excess = 'perhaps';
\echo :SQLSTATE
SET credits.max_balance = -1;
\echo :SQLSTATE
SET credits.max_balance = 2147483648;
\echo :SQLSTATE
SET credits.max_spend = -1;
SET credits.max_spend_per_day = -1;
SET credits.max_spend_per_month = -1;
SET credits.min_spend = -1;
SET credits.refund_grace = 'a while';
\echo :SQLSTATE
SET credits.refund_grace = '-1 day';
SET credits.refund_grace = '';
SET credits.refund_grace = '1001 years';
SET credits.expiry_warning = '7 days, a while';
\echo :SQLSTATE
SET credits.expiry_warning = '7 days,';
SET credits.expiry_warning = '0';
SET credits.expiry_warning = '1d,2d,3d,4d,5d,6d,7d,8d,9d,10d,11d,12d,13d,14d,15d,16d,17d';
SET credits.expiry_warning = '1d,2d,3d,4d,5d,6d,7d,8d,9d,10d,11d,12d,13d,14d,15d,16d';
SET credits.expiry_warning = ' ';
SET credits.renewal_warning = '-1 day';
SET credits.renewal_warning = '';
SET credits.event_retention = 'for ever';
RESET credits.expiry_warning;
RESET credits.renewal_warning;
SET credits.test_clock = 'yesteryear';
\echo :SQLSTATE
SET credits.test_clock = 'infinity';
SET credits.test_clock = '-infinity';
SET credits.test_clock = '1969-12-31 23:59:59.999999+00';
SET credits.test_clock = '10000-01-01 00:00:00+00';
SET credits.test_clock = 'now';
SELECT set_config('credits.actor', repeat('x', 256), false);
\echo :SQLSTATE
SELECT length(set_config('credits.actor', repeat('x', 255), false));
RESET credits.actor;

-- test_clock: the clock of the credits, and of nothing else
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT credits.now();
SELECT now() < '2030-01-01' OR now() > '2030-01-02' AS other_clock_runs_on;
SET timezone = 'America/New_York';
SELECT credits.now();
SET credits.test_clock = '2030-01-01 00:00:00';
SELECT credits.now() AT TIME ZONE 'UTC';
SET timezone = 'UTC';
SELECT credits.now();
SET credits.test_clock = '2030-01-01 00:00:00.123456+00';
SELECT credits.now();
SET credits.test_clock = '';
SELECT credits.now() - now() BETWEEN '-1 hour' AND '1 hour' AS real_clock;
RESET credits.test_clock;
SELECT credits.now() - now() BETWEEN '-1 hour' AND '1 hour' AS real_clock;
-- it goes the way of every setting
BEGIN;
SET LOCAL credits.test_clock = '2030-01-01 00:00:00+00';
SELECT credits.now();
SAVEPOINT s;
SET LOCAL credits.test_clock = '2031-01-01 00:00:00+00';
SELECT credits.now();
ROLLBACK TO s;
SELECT credits.now();
COMMIT;
SELECT credits.now() - now() BETWEEN '-1 hour' AND '1 hour' AS real_clock;
-- turned back, it does not turn back an account
SET credits.test_clock = '2030-01-02 00:00:00+00';
SELECT kind, created_at FROM credits_open_account('clock', 10);
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind, created_at FROM credits_deduct('clock', 1);
SET credits.test_clock = '2030-01-03 00:00:00+00';
SELECT kind, created_at FROM credits_deduct('clock', 1);

-- initial_balance: what an account is opened with unless it is said
SET credits.initial_balance = 12;
SELECT account, amount, balance FROM credits_open_account('initial:1');
SELECT account, amount, balance FROM credits_open_account('initial:2', 3);
SELECT account, amount, balance FROM credits_open_account('initial:3', 0);
RESET credits.initial_balance;
SELECT account, amount, balance FROM credits_open_account('initial:4');
SELECT account, amount, balance, replayed FROM credits_open_account('initial:1');

-- limits: of who has none of its own (see limits.sql)
SET credits.max_balance = 20;
SELECT credits_allocate('initial:1', 9);
\echo :SQLSTATE
SET credits.excess = clip;
SELECT amount, balance FROM credits_allocate('initial:1', 9);
RESET credits.excess;
RESET credits.max_balance;
SET credits.min_spend = 2;
SET credits.max_spend = 4;
SELECT credits_deduct('initial:1', 1);
\echo :SQLSTATE
SELECT credits_deduct('initial:1', 5);
\echo :SQLSTATE
RESET credits.min_spend;
RESET credits.max_spend;
SET credits.max_spend_per_day = 4;
SELECT amount FROM credits_deduct('initial:1', 4);
SELECT credits_deduct('initial:1', 1);
\echo :SQLSTATE
RESET credits.max_spend_per_day;
SET credits.max_spend_per_month = 4;
SELECT credits_deduct('initial:1', 1);
\echo :SQLSTATE
RESET credits.max_spend_per_month;

-- actor: who the application says is acting, in every row
SET ROLE regress_credits_app;
SET credits.actor = 'user:7 "Ann"';
SELECT balance FROM credits_deduct('initial:1', 1);
SET credits.actor = '';
SELECT balance FROM credits_deduct('initial:1', 1);
RESET credits.actor;
SELECT balance FROM credits_deduct('initial:1', 1);
SELECT kind, actor IS NULL AS no_actor, actor, role = session_user AS by_session_user
FROM credits_history('initial:1');

-- those of the superuser are not for an application
\set VERBOSITY sqlstate
SET credits.initial_balance = 1000000;
SET credits.alert_levels = '';
SET credits.excess = clip;
SET credits.max_balance = 0;
SET credits.max_spend = 0;
SET credits.max_spend_per_day = 0;
SET credits.max_spend_per_month = 0;
SET credits.min_spend = 0;
SET credits.refund_grace = '100 years';
SET credits.test_clock = '2020-01-01';
SELECT set_config('credits.test_clock', '2020-01-01', true);
ALTER ROLE regress_credits_app SET credits.test_clock = '2020-01-01';
RESET credits.test_clock;
\set VERBOSITY default
SHOW credits.initial_balance;

-- neither by being quicker than the library
\c -
SET ROLE regress_credits_app;
SET client_min_messages = error;
SET credits.initial_balance = 1000000;
SET credits.test_clock = '2020-01-01';
SELECT credits_balance('initial:1');
RESET client_min_messages;
SHOW credits.initial_balance;
SHOW credits.test_clock;
RESET ROLE;
SELECT credits.now() > '2025-01-01' AS real_clock;
SELECT * FROM credits_verify();
