-- history: the log of one account, newest first
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 100001;
ALTER SEQUENCE credits.grants_id_seq RESTART 100001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 100001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('page:1', 1000);
SELECT kind FROM credits_open_account('page:2', 1000);
SET credits.test_clock = '2030-01-02 00:00:00+00';
-- interleaved, several at one instant
SELECT count(*) FROM generate_series(1, 60) AS i,
	LATERAL credits_deduct('page:' || 1 + i % 2, i, 'key ' || i, 'chat', 'request:' || i) AS r;
SET credits.test_clock = '2030-01-03 00:00:00+00';
SELECT balance FROM credits_adjust('page:1', 3, 'goodwill', metadata => '{"a": [1, 2]}');
SELECT kind FROM credits_pause_account('page:1', 'pause');
SET ROLE regress_credits_app;
SELECT transaction_id, created_at, kind, amount, held, balance, operation, reference, reason, metadata,
	   target_id, idempotency_key, role = session_user AS by_session_user, actor
FROM credits_history('page:1', 3);
-- pages of ten: all rows, each once, in order
SELECT count(*), min(transaction_id), max(transaction_id) FROM credits_history('page:1', 10);
SELECT transaction_id, kind, amount, balance FROM credits_history('page:1', 10, 100046);
SELECT count(*) FROM credits_history('page:1');
SELECT count(*) FROM credits_history('page:1', 1000);
SELECT transaction_id, kind FROM credits_history('page:1', 50, 100001);
-- stable while rows are added
SELECT transaction_id FROM credits_history('page:1', 3, 100046);
RESET ROLE;
SELECT kind FROM credits_resume_account('page:1', 'resume');
SET ROLE regress_credits_app;
SELECT balance FROM credits_deduct('page:1', 1);
SELECT transaction_id FROM credits_history('page:1', 3, 100046);

-- by kind
SELECT transaction_id, kind, amount FROM credits_history('page:1', kinds => '{adjustment,pause,opening}');
SELECT count(*) FROM credits_history('page:1', kinds => '{}');
SELECT count(*) FROM credits_history('page:1', kinds => '{nonsense}');
SELECT count(*) FROM credits_history('page:1', kinds => '{NULL,pause}');
-- by time: since is included, until is not
SELECT count(*) FROM credits_history('page:1', since => '2030-01-02 00:00:00+00');
SELECT count(*) FROM credits_history('page:1', until => '2030-01-02 00:00:00+00');
SELECT count(*), min(created_at), max(created_at)
FROM credits_history('page:1', 1000, since => '2030-01-02 00:00:00+00', until => '2030-01-03 00:00:00+00');
SELECT count(*) FROM credits_history('page:1', since => '2030-01-02 00:00:00+00', until => '2030-01-02 00:00:00+00');
SELECT count(*) FROM credits_history('page:1', 1000, since => '-infinity', until => 'infinity');
SELECT count(*) FROM credits_history('page:1', since => '2040-01-01');
SELECT transaction_id, kind FROM credits_history('page:1', 2, 100046, '{deduction}',
	'2030-01-02 00:00:00+00', '2030-01-03 00:00:00+00');

-- bad arguments
SELECT credits_history('page:1', 0);
\echo :SQLSTATE
SELECT credits_history('page:1', 1001);
\echo :SQLSTATE
SELECT credits_history('page:1', -1);
SELECT credits_history('page:1', NULL);
\echo :SQLSTATE
SELECT credits_history(NULL);
\echo :SQLSTATE
SELECT credits_history('page:1', 10, 100002);
\echo :SQLSTATE
SELECT credits_history('page:1', 10, 0);
SELECT credits_history('page:1', 10, 999999999);
SELECT * FROM credits_history('page:1', 2147483647);

-- the plan: one range of one index, also where the account is only known at run time
RESET ROLE;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET plan_cache_mode = force_generic_plan;
PREPARE page (bigint, timestamptz, bigint, timestamptz, timestamptz, text[], int) AS
SELECT t.id, t.created_at FROM credits.transactions AS t
WHERE t.account_id = $1 AND (t.created_at, t.id) < ($2, $3)
  AND t.created_at >= $4 AND t.created_at < $5
  AND ($6 IS NULL OR t.kind = ANY ($6))
ORDER BY t.created_at DESC, t.id DESC LIMIT $7;
EXPLAIN (COSTS OFF)
EXECUTE page (100001, 'infinity', 9223372036854775807, '-infinity', 'infinity', NULL, 50);
