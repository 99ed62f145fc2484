-- balance: what an account has, had and will have
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
-- whatever other tests left due
SET credits.test_clock = '2040-01-01 00:00:00+00';
CALL credits_settle() \gset
ALTER SEQUENCE credits.accounts_id_seq RESTART 50001;
ALTER SEQUENCE credits.grants_id_seq RESTART 50001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 50001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('read:1', 10, 'token');
SELECT balance FROM credits_allocate('read:1', 100, source => 'gift', expires_at => '2030-02-01');
SELECT balance FROM credits_allocate('read:1', 50, source => 'gift', expires_at => '2030-02-01');
SELECT balance FROM credits_allocate('read:1', 7, source => 'subscription', expires_at => '2030-03-01', effective_at => '2030-01-15');
SELECT balance FROM credits_allocate('read:1', 1000, source => 'purchase', effective_at => '2031-01-01');
SET credits.test_clock = '2030-01-02 00:00:00+00';
SELECT transaction_id AS spend FROM credits_deduct('read:1', 30) \gset
SET credits.test_clock = '2030-01-03 00:00:00+00';
SELECT balance FROM credits_refund(:spend, 10);

SET ROLE regress_credits_app;
SELECT credits_balance('read:1');
SELECT * FROM credits_summary('read:1');
-- between what was done and what is due: past, present, projected
CREATE TEMP TABLE instants (t timestamptz);
INSERT INTO instants VALUES ('-infinity'), ('2029-12-31 23:59:59.999999+00'),
	('2030-01-01 00:00:00+00'), ('2030-01-01 12:00:00+00'), ('2030-01-02 00:00:00+00'),
	('2030-01-03 00:00:00+00'), ('2030-01-14 23:59:59.999999+00'), ('2030-01-15 00:00:00+00'),
	('2030-01-31 23:59:59.999999+00'), ('2030-02-01 00:00:00+00'), ('2030-03-01 00:00:00+00'),
	('2031-01-01 00:00:00+00'), ('infinity');
SELECT t, credits_balance_at('read:1', t) FROM instants ORDER BY t;

-- the clock runs, nobody touches the account: the answers stay the same, and
-- the balance is always the balance at the instant
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-02-15 00:00:00+00';
SET ROLE regress_credits_app;
SELECT credits_balance('read:1');
SELECT * FROM credits_summary('read:1');
SELECT t, credits_balance_at('read:1', t) FROM instants ORDER BY t;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2031-06-01 00:00:00+00';
SET ROLE regress_credits_app;
SELECT credits_balance('read:1');
SELECT * FROM credits_summary('read:1');
SELECT t, credits_balance_at('read:1', t) FROM instants ORDER BY t;
-- settled, the same once more
SET ROLE regress_credits_admin;
CALL credits_settle() \gset
SET ROLE regress_credits_app;
SELECT credits_balance('read:1');
SELECT * FROM credits_summary('read:1');
SELECT t, credits_balance_at('read:1', t) FROM instants ORDER BY t;

-- a refund in grace moves the end of a grant: the past stays as it was
SET ROLE regress_credits_admin;
SET credits.test_clock = '2032-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('read:2');
SELECT balance FROM credits_allocate('read:2', 10, source => 'gift', expires_at => '2032-02-01');
SELECT transaction_id AS spend FROM credits_deduct('read:2', 8) \gset
SET credits.test_clock = '2032-03-01 00:00:00+00';
SELECT balance FROM credits_refund(:spend, 5);
SELECT t, credits_balance_at('read:2', t) FROM unnest(ARRAY['2032-01-01 00:00:00+00',
	'2032-01-31 00:00:00+00', '2032-02-01 00:00:00+00', '2032-02-29 00:00:00+00',
	'2032-03-01 00:00:00+00', '2032-03-08 00:00:00+00', '2033-01-01 00:00:00+00']::timestamptz[]) AS t;
SET credits.test_clock = '2032-04-01 00:00:00+00';
SELECT t, credits_balance_at('read:2', t) FROM unnest(ARRAY['2032-01-01 00:00:00+00',
	'2032-01-31 00:00:00+00', '2032-02-01 00:00:00+00', '2032-02-29 00:00:00+00',
	'2032-03-01 00:00:00+00', '2032-03-08 00:00:00+00', '2033-01-01 00:00:00+00']::timestamptz[]) AS t;

-- an empty account
SELECT kind FROM credits_open_account('read:3');
SELECT credits_balance('read:3');
SELECT * FROM credits_summary('read:3');
SELECT credits_balance_at('read:3', '2040-01-01');

-- what is held is not in the balance; a hold that nobody has settled since it
-- timed out counts for nothing, and what it gives back expires with its grant
SET credits.test_clock = '2033-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('read:4', 5);
SELECT balance FROM credits_allocate('read:4', 10, source => 'gift', expires_at => '2033-02-01');
SELECT balance, held FROM credits_hold('read:4', 10, expires_in => '1 hour');
SELECT credits_balance('read:4'), s.balance, s.held, s.expiring_amount, s.expiring_at
FROM credits_summary('read:4') AS s;
SELECT t, credits_balance_at('read:4', t) FROM unnest(ARRAY['2032-12-31 00:00:00+00',
	'2033-01-01 00:59:59.999999+00', '2033-01-01 01:00:00+00', '2033-01-31 00:00:00+00',
	'2033-02-01 00:00:00+00', 'infinity']::timestamptz[]) AS t;
SET credits.test_clock = '2033-01-01 01:00:00+00';
SELECT credits_balance('read:4'), s.balance, s.held, s.expiring_amount, s.expiring_at
FROM credits_summary('read:4') AS s;
SET credits.test_clock = '2033-02-01 00:00:00+00';
SELECT credits_balance('read:4'), s.balance, s.held, s.expiring_amount, s.expiring_at, s.expired
FROM credits_summary('read:4') AS s;
SELECT status, held FROM credits.accounts WHERE name = 'read:4';
-- no job has run; when one does, nothing changes for who reads
CALL credits_settle() \gset
SELECT credits_balance('read:4'), s.balance, s.held, s.expiring_amount, s.expiring_at, s.expired
FROM credits_summary('read:4') AS s;
SELECT account_id, (s).*
FROM unnest(ARRAY[50001, 50004]) AS account_id, LATERAL (SELECT credits.settled(account_id) AS s) AS x;
SELECT credits.settled(NULL);
\echo :SQLSTATE
SELECT credits.settled(-1);
\echo :SQLSTATE

-- bad arguments
SELECT credits_balance_at('read:1', NULL);
\echo :SQLSTATE
SELECT credits_balance_at(NULL, '2030-01-01');
\echo :SQLSTATE
SELECT credits_summary(NULL);
\echo :SQLSTATE
SELECT credits_summary('');
\echo :SQLSTATE
SELECT credits_balance_at('', '2030-01-01');

-- every answer at once, seen by a parallel worker too
SELECT set_config(CASE WHEN current_setting('server_version_num')::int >= 160000
	THEN 'debug_parallel_query' ELSE 'force_parallel_mode' END, 'on', false);
SELECT name, credits_balance(name) AS balance, credits_balance_at(name, credits.now()) AS balance_at,
	   (SELECT s.balance FROM credits_summary(name) AS s) AS summary
FROM credits.accounts WHERE name LIKE 'read:%' ORDER BY name;
-- all accounts of all tests: three ways, one answer
SELECT count(*) FROM credits.accounts
WHERE credits_balance(name) <> credits_balance_at(name, 'infinity')
  AND due_at = 'infinity';
SELECT count(*) FROM credits.accounts
WHERE credits_balance(name) IS DISTINCT FROM (SELECT s.balance FROM credits_summary(name) AS s)
   OR credits_balance(name) IS DISTINCT FROM credits_balance_at(name, greatest(credits.now(), last_at));
-- reading is allowed where writing is not
BEGIN READ ONLY;
SELECT credits_balance('read:1'), (credits_summary('read:1')).balance, credits_balance_at('read:1', '2030-01-01');
SELECT count(*) FROM credits_history('read:1');
SELECT credits_deduct('read:1', 1);
\echo :SQLSTATE
ROLLBACK;
