-- accounts: opening, pausing, resuming, closing
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 10001;
ALTER SEQUENCE credits.grants_id_seq RESTART 10001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 10001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';

-- opened with nothing, with something, with everything
SELECT * FROM credits_open_account('user:1');
SELECT * FROM credits_open_account('user:2', 25);
SELECT * FROM credits_open_account(account => 'user:3', initial_credits => 0,
	unit => 'token', metadata => '{"plan": "pro"}');
SELECT name, unit, status, metadata, alert_levels, alert_base, base, balance, held, granted, spent,
	   refunded, expired, due_at, transaction_count
FROM credits.accounts WHERE name LIKE 'user:_' ORDER BY id;
SELECT account_id, source, priority, amount, remaining, status, effective_at, expires_at
FROM credits.grants WHERE account_id BETWEEN 10001 AND 10003;

-- opened again: the first receipt, and nothing written
SET credits.test_clock = '2030-01-02 00:00:00+00';
SELECT * FROM credits_open_account('user:2', 25);
SELECT * FROM credits_open_account('user:2', 9999, 'token', '{"other": true}');
SELECT * FROM credits_open_account('user:1', 7);
SELECT name, unit, metadata, balance, transaction_count
FROM credits.accounts WHERE name IN ('user:1', 'user:2') ORDER BY id;
-- also where it has changed since
SELECT kind, amount, balance FROM credits_deduct('user:2', 5);
SELECT * FROM credits_open_account('user:2', 25);

-- initial credits
SELECT kind, amount, balance
FROM credits_open_account('user:most', 9223372036854775807);
SELECT credits_open_account('user:x', -1);
\echo :SQLSTATE
SELECT credits_open_account('user:x', -9223372036854775808);
SELECT credits_balance('user:x');
\echo :SQLSTATE

-- names
SELECT credits_open_account(NULL);
\echo :SQLSTATE
SELECT credits_open_account('');
\echo :SQLSTATE
SELECT credits_open_account(' user:1');
\echo :SQLSTATE
SELECT credits_open_account('user:1 ');
SELECT credits_open_account(E'user:1\n');
\echo :SQLSTATE
SELECT credits_open_account(E'user\t1');
SELECT credits_open_account(E'user:\x7f');
SELECT credits_open_account(E'user:\u0085');
SELECT credits_open_account(E'user:\u009f');
SELECT credits_open_account(repeat('x', 256));
\echo :SQLSTATE
SELECT credits_open_account(repeat(E'\u00e9', 128));
SELECT length(account), kind FROM credits_open_account(repeat('x', 255));
SELECT octet_length(account), kind FROM credits_open_account('u' || repeat(E'\u00e9', 127));
-- inner spaces, no-break spaces, quotes, case, other scripts: names are bytes
SELECT account, kind FROM credits_open_account('Ann  O''Hara "x" \ %s');
SELECT account, kind FROM credits_open_account(E'\u00a0');
SELECT account, kind FROM credits_open_account('USER:1');
SELECT account, kind FROM credits_open_account(E'\u00fcser:1');
SELECT account, kind FROM credits_open_account(E'u\u0308ser:1');

-- units
SELECT credits_open_account('user:x', unit => '');
\echo :SQLSTATE
SELECT credits_open_account('user:x', unit => repeat('x', 64));
\echo :SQLSTATE
SELECT account, kind FROM credits_open_account('user:unit', unit => repeat('x', 63));

-- metadata
SELECT credits_open_account('user:x', metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
SELECT account, kind FROM credits_open_account('user:meta', metadata => 'null');
SELECT metadata FROM credits.accounts WHERE name = 'user:meta';

-- paused: receives, is refunded, adjusted and read, but does not spend
SET credits.test_clock = '2030-01-03 00:00:00+00';
SELECT transaction_id AS spend FROM credits_deduct('user:2', 5, 'before-pause') \gset
SELECT transaction_id AS allocation FROM credits_allocate('user:2', 3) \gset
SELECT id AS grant FROM credits.grants WHERE transaction_id = :allocation \gset
SELECT * FROM credits_pause_account('user:2', 'chargeback');
SELECT status FROM credits.accounts WHERE name = 'user:2';
SELECT credits_deduct('user:2', 1);
\echo :SQLSTATE
SELECT ok, code, message, receipt FROM credits_try_deduct('user:2', 1);
SELECT kind, amount, balance FROM credits_allocate('user:2', 10);
SELECT kind, amount, balance FROM credits_refund(:spend, 2);
SELECT kind, amount, balance FROM credits_adjust('user:2', -1, 'correction');
SELECT kind, amount, balance FROM credits_adjust('user:2', 4, 'correction');
SELECT kind, amount, balance FROM credits_void_grant(:grant, 'mistake');
SELECT kind, amount, balance FROM credits_set_alerts('user:2', '3');
SELECT credits_balance('user:2');
SELECT balance, status FROM credits_summary('user:2');
-- a retry of what was done before still gets its answer
SELECT kind, amount, balance, replayed FROM credits_deduct('user:2', 5, 'before-pause');
SELECT credits_pause_account('user:2', 'again');
\echo :SQLSTATE
SELECT * FROM credits_resume_account('user:2', 'chargeback withdrawn');
SELECT kind, amount, balance FROM credits_deduct('user:2', 1);
SELECT credits_resume_account('user:2', 'again');
\echo :SQLSTATE
SELECT credits_resume_account('user:1', 'never paused');

-- reasons
SELECT credits_pause_account('user:1', NULL);
\echo :SQLSTATE
SELECT credits_pause_account('user:1', '');
\echo :SQLSTATE
SELECT credits_pause_account('user:1', repeat('x', 1001));
\echo :SQLSTATE
SELECT kind FROM credits_pause_account('user:1', repeat('x', 1000));
SELECT credits_resume_account('user:1', NULL);
SELECT credits_resume_account('user:1', '');
SELECT credits_close_account('user:1', NULL);
SELECT credits_close_account('user:1', '');
SELECT status FROM credits.accounts WHERE name = 'user:1';

-- closed, from paused or active: read and settled, and nothing else, for good
SELECT transaction_id AS keyed FROM credits_allocate('user:2', 4, idempotency_key => 'k-allocate') \gset
SELECT id AS keyed_grant FROM credits.grants WHERE transaction_id = :keyed \gset
SELECT kind, balance FROM credits_refund(:spend, 1, 'k-refund');
SELECT kind, balance FROM credits_adjust('user:2', -1, 'correction', 'k-adjust');
SELECT kind, balance FROM credits_void_grant(:keyed_grant, 'mistake', 'k-void');
SELECT kind, amount, balance
FROM credits_allocate('user:2', 6, expires_at => '2030-02-01 00:00:00+00');
SELECT * FROM credits_close_account('user:2', 'left us');
SELECT kind, balance FROM credits_close_account('user:1', 'paused before');
SELECT credits_deduct('user:2', 1);
\echo :SQLSTATE
SELECT credits_try_deduct('user:2', 1);
SELECT credits_allocate('user:2', 1);
\echo :SQLSTATE
SELECT credits_refund(:spend, 1);
\echo :SQLSTATE
SELECT credits_adjust('user:2', 1, 'correction');
SELECT credits_adjust('user:2', -1, 'correction');
SELECT credits_void_grant((SELECT max(id) FROM credits.grants WHERE account_id = 10002), 'void');
\echo :SQLSTATE
SELECT credits_set_alerts('user:2', '1');
\echo :SQLSTATE
SELECT credits_pause_account('user:2', 'again');
SELECT credits_resume_account('user:2', 'come back');
SELECT credits_close_account('user:2', 'again');
\echo :SQLSTATE
SELECT status, balance FROM credits.accounts WHERE name = 'user:2';
SELECT credits_balance('user:2');
SELECT status, balance, expiring_amount, expiring_at FROM credits_summary('user:2');
SELECT kind, amount, balance, reason FROM credits_history('user:2', 2);
-- retries are still answered, and opening does not open it again
SELECT kind, amount, balance, replayed FROM credits_deduct('user:2', 5, 'before-pause');
SELECT kind, amount, balance, replayed FROM credits_allocate('user:2', 4, idempotency_key => 'k-allocate');
SELECT kind, amount, balance, replayed FROM credits_refund(:spend, 1, 'k-refund');
SELECT kind, amount, balance, replayed FROM credits_adjust('user:2', -1, 'correction', 'k-adjust');
SELECT kind, amount, balance, replayed FROM credits_void_grant(:keyed_grant, 'mistake', 'k-void');
SELECT ok, (receipt).replayed FROM credits_try_deduct('user:2', 5, 'before-pause');
SELECT kind, amount, balance, replayed FROM credits_open_account('user:2');
SELECT status FROM credits.accounts WHERE name = 'user:2';
-- and a key that was used for something else is told as such
SELECT credits_deduct('user:2', 6, 'before-pause');
\echo :SQLSTATE
-- the clock still takes what expires
SET credits.test_clock = '2030-02-02 00:00:00+00';
SELECT credits_balance('user:2');
CALL credits_settle() \gset
SELECT kind, amount, balance, created_at FROM credits_history('user:2', 1);

-- thresholds
SELECT * FROM credits_set_alerts('user:3', '100');
SELECT alert_levels FROM credits.accounts WHERE name = 'user:3';
SELECT kind, amount, balance FROM credits_set_alerts('user:3', '');
SELECT kind, amount, balance FROM credits_set_alerts('user:3', '9223372036854775807');
SELECT kind, amount, balance FROM credits_set_alerts('user:3', clear => '{levels}');
SELECT alert_levels IS NULL FROM credits.accounts WHERE name = 'user:3';
SELECT credits_set_alerts('user:3', '-1');
\echo :SQLSTATE

-- nobody opens an account by accident
SELECT credits_pause_account('user:none', 'reason');
\echo :SQLSTATE
SELECT credits_resume_account('user:none', 'reason');
SELECT credits_close_account('user:none', 'reason');
SELECT credits_set_alerts('user:none', '1');
SELECT credits_allocate('user:none', 1);
SELECT credits_deduct('user:none', 1);
SELECT credits_adjust('user:none', 1, 'reason');
SELECT credits_balance('user:none');
SELECT credits_summary('user:none');
SELECT credits_history('user:none');
SELECT credits_balance_at('user:none', now());
SELECT credits_verify('user:none');
SELECT credits_deduct(NULL, 1);
\echo :SQLSTATE
SELECT credits_deduct('', 1);
SELECT credits_balance(NULL);
\echo :SQLSTATE
SELECT credits_balance('');
\echo :SQLSTATE
SELECT count(*) FROM credits.accounts WHERE name IN ('user:none', 'user:x', '');

-- the log says it all
SELECT account_id, kind, amount, balance_after, left(reason, 20) AS reason, operation, draws, metadata
FROM credits.transactions WHERE account_id BETWEEN 10001 AND 10003 ORDER BY id;
SELECT * FROM credits_verify();

-- opening again, as it is or otherwise
SET credits.test_clock = '2030-06-01 00:00:00+00';
SELECT * FROM credits_open_account('user:again', 5, 'token');
SELECT replayed FROM credits_open_account('user:again');
SELECT replayed FROM credits_open_account('user:again', 5);
SELECT replayed FROM credits_open_account('user:again', unit => 'token', metadata => '{"a": 1}');
SELECT credits_open_account('user:again', 0);
\echo :SQLSTATE
SELECT credits_open_account('user:again', unit => 'credit');
\echo :SQLSTATE
SELECT unit FROM credits.accounts WHERE name = 'user:again';
-- pausing, resuming and closing again finds it done, and writes nothing
SELECT transaction_id IS NULL AS nothing, account, kind, amount, balance, held, replayed FROM credits_resume_account('user:again', 'never paused');
SELECT kind, replayed FROM credits_pause_account('user:again', 'once');
SELECT transaction_id IS NULL AS nothing, kind, balance, replayed FROM credits_pause_account('user:again', 'twice');
SELECT kind, replayed FROM credits_close_account('user:again', 'once');
SELECT transaction_id IS NULL AS nothing, kind, balance, replayed FROM credits_close_account('user:again', 'twice');
SELECT credits_pause_account('user:again', 'closed');
\echo :SQLSTATE
SELECT kind, reason FROM credits_history('user:again');
SELECT * FROM credits_verify('user:again');
