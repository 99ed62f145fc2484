-- deduct: spending
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 70001;
ALTER SEQUENCE credits.grants_id_seq RESTART 70001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 70001;
ALTER SEQUENCE credits.events_id_seq RESTART 70001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('spend:1', 100);
SELECT kind, balance FROM credits_open_account('spend:2', 100);
SET ROLE regress_credits_app;

-- with nothing but an amount, and with everything
SELECT * FROM credits_deduct('spend:1', 10);
SELECT * FROM credits_deduct(account => 'spend:1', amount => 5, idempotency_key => 'k1',
	operation => 'chat', reference => 'request:1', metadata => '{"tokens": 512}');
SELECT (credits_deduct('spend:1', 1)).balance;
SELECT credits_deduct('spend:1', 1) IS NULL;
SELECT credits_balance('spend:1');
SELECT transaction_id, created_at, kind, amount, held, balance, operation, reference,
	   reason, metadata, target_id, idempotency_key
FROM credits_history('spend:1');
RESET ROLE;
SELECT balance, granted, spent, refunded, transaction_count,
	   last_transaction_id FROM credits.accounts WHERE id = 70001;
SELECT remaining, status FROM credits.grants WHERE account_id = 70001;
SET ROLE regress_credits_app;

-- bad amounts
SELECT credits_deduct('spend:1', 0);
\echo :SQLSTATE
SELECT credits_deduct('spend:1', -1);
\echo :SQLSTATE
SELECT credits_deduct('spend:1', NULL);
\echo :SQLSTATE
SELECT credits_deduct('spend:1', -9223372036854775808);

-- too much
SELECT credits_deduct('spend:1', 84);
\echo :SQLSTATE
SELECT credits_deduct('spend:1', 9223372036854775807);
\echo :SQLSTATE
SELECT credits_balance('spend:1');

-- all of it, and then nothing
SELECT kind, amount, balance FROM credits_deduct('spend:1', 83);
SELECT credits_deduct('spend:1', 1);
\echo :SQLSTATE

-- free text
SELECT credits_deduct('spend:2', 1, '');
\echo :SQLSTATE
SELECT credits_deduct('spend:2', 1, repeat('x', 256));
\echo :SQLSTATE
SELECT credits_deduct('spend:2', 1, operation => '');
\echo :SQLSTATE
SELECT credits_deduct('spend:2', 1, operation => repeat('x', 256));
SELECT credits_deduct('spend:2', 1, reference => '');
\echo :SQLSTATE
SELECT credits_deduct('spend:2', 1, reference => repeat('x', 256));
SELECT credits_deduct('spend:2', 1, metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
SELECT credits_balance('spend:2');
SELECT balance FROM credits_deduct('spend:2', 1, repeat('k', 255), repeat('o', 255),
	repeat('r', 255), to_jsonb(repeat('x', 16000)));
SELECT balance, replayed FROM credits_deduct('spend:2', 1, repeat('k', 255),
	repeat('o', 255), repeat('r', 255));

-- a retry: the first receipt, whatever happened since
SET credits.actor = 'first';
SELECT * FROM credits_deduct('spend:2', 9, 'retry', 'chat', 'request:2', '{"a": 1}');
SELECT balance FROM credits_deduct('spend:2', 20);
SET credits.actor = 'second';
SELECT * FROM credits_deduct('spend:2', 9, 'retry', 'chat', 'request:2', '{"a": 1}');
SELECT balance, replayed FROM credits_deduct('spend:2', 9, 'retry', 'chat', 'request:2', '{"a": 2}');
SELECT balance, replayed FROM credits_deduct('spend:2', 9, 'retry', 'chat', 'request:2');
SELECT ok, code, message, (receipt).balance, (receipt).replayed
FROM credits_try_deduct('spend:2', 9, 'retry', 'chat', 'request:2');
RESET credits.actor;
SELECT credits_balance('spend:2');
-- the same key for anything else
SELECT credits_deduct('spend:2', 8, 'retry', 'chat', 'request:2', '{"a": 1}');
\echo :SQLSTATE
SELECT credits_deduct('spend:2', 9, 'retry', 'image', 'request:2', '{"a": 1}');
\echo :SQLSTATE
SELECT credits_deduct('spend:2', 9, 'retry', 'chat', 'request:3', '{"a": 1}');
\echo :SQLSTATE
SELECT credits_deduct('spend:2', 9, 'retry', NULL, 'request:2', '{"a": 1}');
\echo :SQLSTATE
SELECT credits_deduct('spend:2', 9, 'retry', 'chat', NULL, '{"a": 1}');
\echo :SQLSTATE
SELECT credits_deduct('spend:2', 9, 'retry');
\echo :SQLSTATE
-- fields do not run into each other
SELECT balance FROM credits_deduct('spend:2', 1, 'join', 'ab', 'c');
SELECT credits_deduct('spend:2', 1, 'join', 'a', 'bc');
\echo :SQLSTATE
SELECT credits_deduct('spend:2', 1, 'join', 'abc');
\echo :SQLSTATE
-- more than is there, with a key that is known: the key speaks first
SELECT credits_deduct('spend:2', 900, 'retry', 'chat', 'request:2');
\echo :SQLSTATE
-- bad arguments before all
SELECT credits_deduct('spend:2', 0, 'retry', 'chat', 'request:2');
\echo :SQLSTATE
-- what failed keeps no key
SELECT credits_deduct('spend:2', 1000, 'failed');
SELECT credits_deduct('spend:none', 1, 'failed');
SELECT balance, replayed FROM credits_deduct('spend:2', 1, 'failed');
SELECT balance, replayed FROM credits_deduct('spend:2', 1, 'failed');
-- keys belong to the account; on an empty one a retry is still answered
RESET ROLE;
SELECT balance FROM credits_allocate('spend:1', 2);
SET ROLE regress_credits_app;
SELECT amount, balance, replayed FROM credits_deduct('spend:1', 2, 'retry');
SELECT amount, balance, replayed FROM credits_deduct('spend:1', 2, 'retry');
SELECT amount, balance, replayed FROM credits_deduct('spend:1', 5, 'k1', 'chat', 'request:1');

-- try: what a refusal would be as an error is a row, and an event
SELECT * FROM credits_try_deduct('spend:2', 1);
SELECT ok, code, message, (receipt).amount, (receipt).balance
FROM credits_try_deduct('spend:2', 1, 'try', 'chat', 'request:9', '{"b": 1}');
SELECT * FROM credits_try_deduct('spend:2', 1000, 'try-2', 'chat', 'request:10', '{"c": 1}');
SELECT * FROM credits_try_deduct('spend:none', 1);
SELECT * FROM credits_try_deduct('spend:2', 2, 'try');
SELECT * FROM credits_try_deduct('spend:2', 9223372036854775807);
-- bad arguments are errors all the same
SELECT credits_try_deduct('spend:2', 0);
\echo :SQLSTATE
SELECT credits_try_deduct('spend:2', NULL);
\echo :SQLSTATE
SELECT credits_try_deduct(NULL, 1);
\echo :SQLSTATE
SELECT credits_try_deduct('', 1);
\echo :SQLSTATE
SELECT credits_try_deduct('spend:2', 1, '');
\echo :SQLSTATE
SELECT credits_try_deduct('spend:2', 1, metadata => to_jsonb(repeat('x', 17000)));
-- the refused key is free
SELECT ok, (receipt).replayed FROM credits_try_deduct('spend:2', 1, 'try-2', 'chat', 'request:10');
RESET ROLE;
SELECT id, account_id, transaction_id, created_at, kind, detail
FROM credits.events WHERE kind = 'deduction_refused' AND id >= 70001 ORDER BY id;
SET ROLE regress_credits_app;
-- a refusal settles nothing, though it counts with it
RESET ROLE;
SELECT balance FROM credits_allocate('spend:1', 2, expires_at => '2030-02-01');
SET credits.test_clock = '2030-03-01 00:00:00+00';
SET ROLE regress_credits_app;
SELECT ok, code, message FROM credits_try_deduct('spend:1', 1);
SELECT kind, amount, balance, created_at FROM credits_history('spend:1', 1);

-- one statement, many spends
SELECT sum(r.amount), min(r.balance), max(r.balance), count(DISTINCT r.transaction_id)
FROM generate_series(1, 10) AS i, LATERAL credits_deduct('spend:2', 1, 'series ' || i) AS r;
-- the same key all along: one effect, equal answers
SELECT count(*), count(DISTINCT (r).transaction_id), min((r).balance), max((r).balance),
	   count(*) FILTER (WHERE (r).replayed) AS replayed
FROM (SELECT credits_deduct('spend:2', 1, 'series') AS r FROM generate_series(1, 10)) AS s;
SELECT credits_balance('spend:2');

RESET ROLE;
SELECT * FROM credits_verify();

-- what there is, up to an amount
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-04-01 00:00:00+00';
SELECT balance FROM credits_open_account('spend:upto', 30);
SET ROLE regress_credits_app;
SELECT kind, amount, balance, replayed FROM credits_deduct_up_to('spend:upto', 10, 'u1', 'chat', 'request:1', '{"a": 1}');
SELECT kind, amount, balance, replayed FROM credits_deduct_up_to('spend:upto', 50, 'u2');
SELECT kind, amount, balance, replayed FROM credits_deduct_up_to('spend:upto', 50, 'u3');
RESET ROLE;
SELECT balance FROM credits_allocate('spend:upto', 100);
SET ROLE regress_credits_app;
-- a retry repeats what was taken, be it nothing
SELECT kind, amount, balance, replayed FROM credits_deduct_up_to('spend:upto', 50, 'u2');
SELECT kind, amount, balance, replayed FROM credits_deduct_up_to('spend:upto', 50, 'u3');
SELECT credits_deduct_up_to('spend:upto', 51, 'u3');
\echo :SQLSTATE
SELECT credits_deduct('spend:upto', 50, 'u3');
\echo :SQLSTATE
SELECT credits_deduct_up_to('spend:upto', 0);
\echo :SQLSTATE
SELECT credits_deduct_up_to('spend:none', 1);
\echo :SQLSTATE
RESET ROLE;
SELECT kind FROM credits_pause_account('spend:upto', 'fraud');
SELECT credits_deduct_up_to('spend:upto', 1);
\echo :SQLSTATE
SELECT kind FROM credits_resume_account('spend:upto', 'no fraud');
SELECT kind, amount, balance, operation, reference, metadata, idempotency_key FROM credits_history('spend:upto');
SELECT * FROM credits_verify('spend:upto');

-- what a session keeps from call to call does not grow with their number
SELECT balance FROM credits_open_account('spend:kept', 1000);
SELECT balance FROM credits_deduct('spend:kept', 1, 'kept 1');
SELECT balance, replayed FROM credits_deduct('spend:kept', 1, 'kept 1');
SELECT sum(total_bytes) AS kept FROM pg_backend_memory_contexts WHERE name = 'credits store' \gset
SELECT count(credits_deduct('spend:kept', 1, 'kept ' || i)) FROM generate_series(1, 200) AS i;
SELECT sum(total_bytes) <= :kept AS same FROM pg_backend_memory_contexts WHERE name = 'credits store';

-- two keys of the same digest: the second cannot be told apart in the index
SELECT credits.key_digest('7mohtcOFVz') = credits.key_digest('c1E51sSEyx') AS collide;
SELECT balance FROM credits_deduct('spend:kept', 1, '7mohtcOFVz');
SELECT balance FROM credits_deduct('spend:kept', 1, 'c1E51sSEyx');
\echo :SQLSTATE
SELECT balance, replayed FROM credits_deduct('spend:kept', 1, '7mohtcOFVz');
SELECT balance FROM credits_deduct('spend:2', 1, 'c1E51sSEyx');
