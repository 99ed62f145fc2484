-- void: taking back what remains of a grant
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 200001;
ALTER SEQUENCE credits.grants_id_seq RESTART 200001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 200001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('void:1', 10);

-- untouched, partly spent, still to come
SELECT balance FROM credits_allocate('void:1', 20, source => 'gift');
SELECT balance FROM credits_allocate('void:1', 30, source => 'gift');
SELECT balance FROM credits_allocate('void:1', 40, effective_at => '2030-06-01');
SELECT transaction_id AS spend FROM credits_deduct('void:1', 25) \gset
SELECT id, source, amount, remaining, status FROM credits.grants WHERE account_id = 200001 ORDER BY id;
SELECT * FROM credits_void_grant(200003, 'stolen card');
SELECT * FROM credits_void_grant(200004, 'plan cancelled');
SELECT * FROM credits_void_grant(grant_id => 200001, reason => 'signed up twice',
	idempotency_key => 'v1');
SELECT id, source, amount, remaining, status FROM credits.grants WHERE account_id = 200001 ORDER BY id;
SELECT id, kind, amount, balance_after, target_id, draws, reason, idempotency_key
FROM credits.transactions WHERE account_id = 200001 ORDER BY id;
SELECT balance, granted, spent, refunded, expired FROM credits_summary('void:1');
SELECT due_at FROM credits.accounts WHERE id = 200001;

-- nothing remains: used up, voided before, expired
SELECT credits_void_grant(200002, 'used up');
\echo :SQLSTATE
SELECT credits_void_grant(200003, 'again');
\echo :SQLSTATE
SELECT credits_void_grant(200004, 'again');
SELECT balance FROM credits_allocate('void:1', 5, expires_at => '2030-02-01');
SET credits.test_clock = '2030-02-01 00:00:00+00';
SELECT credits_void_grant(200005, 'expired, though nobody noticed yet');
\echo :SQLSTATE
SELECT credits_balance('void:1');

-- became effective meanwhile
SELECT balance FROM credits_allocate('void:1', 6, effective_at => '2030-03-01');
SET credits.test_clock = '2030-03-01 00:00:00+00';
SELECT kind, amount, balance FROM credits_void_grant(200006, 'too late to be pending');

-- bad arguments
SELECT credits_void_grant(NULL, 'reason');
\echo :SQLSTATE
SELECT credits_void_grant(0, 'reason');
\echo :SQLSTATE
SELECT credits_void_grant(-1, 'reason');
SELECT credits_void_grant(9223372036854775807, 'reason');
SELECT credits_void_grant(200002, NULL);
\echo :SQLSTATE
SELECT credits_void_grant(200002, '');
\echo :SQLSTATE
SELECT credits_void_grant(200002, repeat('x', 1001));
SELECT credits_void_grant(200002, 'reason', '');
\echo :SQLSTATE

-- retries
SELECT amount, balance, replayed FROM credits_void_grant(200001, 'signed up twice', 'v1');
SELECT amount, balance, replayed FROM credits_void_grant(200001, 'other words', 'v1');
SELECT balance FROM credits_allocate('void:1', 6);
SELECT credits_void_grant(200007, 'signed up twice', 'v1');
\echo :SQLSTATE
SELECT credits_deduct('void:1', 1, 'v1');
\echo :SQLSTATE
-- the same key on another account's grant is another key
SELECT kind FROM credits_open_account('void:2', 10);
SELECT amount, balance, replayed FROM credits_void_grant(200008, 'mistake', 'v1');

SET ROLE regress_credits_app;
\set VERBOSITY sqlstate
SELECT credits_void_grant(200007, 'please');
\set VERBOSITY default
SET ROLE regress_credits_admin;
SELECT * FROM credits_verify();
