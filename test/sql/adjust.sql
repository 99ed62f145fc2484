-- adjust: an administrator's correction
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 20001;
ALTER SEQUENCE credits.grants_id_seq RESTART 20001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 20001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('fix:1');

-- up: a grant; down: burnt in order
SELECT * FROM credits_adjust('fix:1', 20, 'outage of 1 January');
SELECT * FROM credits_adjust(account => 'fix:1', delta => 5, reason => 'goodwill',
	idempotency_key => 'a1', metadata => '{"ticket": 1}');
SELECT balance FROM credits_allocate('fix:1', 10, source => 'gift');
SELECT * FROM credits_adjust('fix:1', -12, 'counted twice');
SELECT id, source, priority, amount, remaining, status, expires_at
FROM credits.grants WHERE account_id = 20001 ORDER BY id;
SELECT id, kind, amount, balance_after, draws, reason, metadata, idempotency_key, target_id
FROM credits.transactions WHERE account_id = 20001 ORDER BY id;
SELECT balance, granted, spent, refunded, expired FROM credits_summary('fix:1');

-- not below zero
SELECT credits_adjust('fix:1', -24, 'too much');
\echo :SQLSTATE
SELECT credits_adjust('fix:1', -9223372036854775808, 'far too much');
\echo :SQLSTATE
SELECT balance FROM credits_adjust('fix:1', -23, 'all of it');
SELECT credits_adjust('fix:1', -1, 'one more');
\echo :SQLSTATE
-- not above the most
SELECT balance FROM credits_adjust('fix:1', 1, 'one');
SELECT credits_adjust('fix:1', 9223372036854775807, 'overflow');
\echo :SQLSTATE

-- bad arguments
SELECT credits_adjust('fix:1', 0, 'nothing');
\echo :SQLSTATE
SELECT credits_adjust('fix:1', NULL, 'nothing');
\echo :SQLSTATE
SELECT credits_adjust('fix:1', 1, NULL);
\echo :SQLSTATE
SELECT credits_adjust('fix:1', 1, '');
\echo :SQLSTATE
SELECT credits_adjust('fix:1', 1, repeat('x', 1001));
SELECT credits_adjust('fix:1', 1, 'reason', '');
\echo :SQLSTATE
SELECT credits_adjust('fix:1', 1, 'reason', repeat('x', 256));
SELECT credits_adjust('fix:1', 1, 'reason', metadata => to_jsonb(repeat('x', 17000)));
SELECT credits_adjust(NULL, 1, 'reason');
\echo :SQLSTATE

-- retries
SELECT amount, balance, replayed FROM credits_adjust('fix:1', 5, 'goodwill', 'a1', '{"ticket": 1}');
SELECT amount, balance, replayed FROM credits_adjust('fix:1', 5, 'other words', 'a1');
SELECT credits_adjust('fix:1', 6, 'goodwill', 'a1');
\echo :SQLSTATE
SELECT credits_adjust('fix:1', -5, 'goodwill', 'a1');
\echo :SQLSTATE
SELECT credits_allocate('fix:1', 5, source => 'adjustment', idempotency_key => 'a1');
\echo :SQLSTATE
SELECT balance, replayed FROM credits_adjust('fix:1', -1, 'down', 'a2');
SELECT balance, replayed FROM credits_adjust('fix:1', -1, 'down', 'a2');
SELECT credits_adjust('fix:1', 1, 'down', 'a2');
\echo :SQLSTATE

-- expired credits are not there to be taken
SELECT balance FROM credits_allocate('fix:1', 7, expires_at => '2030-02-01');
SET credits.test_clock = '2030-02-01 00:00:00+00';
SELECT credits_adjust('fix:1', -1, 'gone');
\echo :SQLSTATE

-- an application may not
SET ROLE regress_credits_app;
\set VERBOSITY sqlstate
SELECT credits_adjust('fix:1', 1, 'please');
\set VERBOSITY default
SET ROLE regress_credits_admin;
SELECT * FROM credits_verify();
