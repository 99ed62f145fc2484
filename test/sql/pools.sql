-- pools: spending another account's credits, under caps
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 730001;
ALTER SEQUENCE credits.grants_id_seq RESTART 730001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 730001;
ALTER SEQUENCE credits.events_id_seq RESTART 730001;

-- What has been used of each cap, by the log alone: what was spent or held in
-- the window by each way that leads over the member, less what went back of it.
CREATE FUNCTION pools_used(OUT pool text, OUT account text, OUT used bigint, OUT logged bigint)
RETURNS SETOF record LANGUAGE sql AS $$
	WITH RECURSIVE spend AS (
		SELECT t.id, t.created_at, -t.amount AS amount, chain.ids
		FROM credits.transactions AS t
		CROSS JOIN LATERAL (
			SELECT t.member_id || COALESCE(array_agg(v::bigint ORDER BY n), '{}') || t.account_id AS ids
			FROM jsonb_array_elements_text(t.terms->'via') WITH ORDINALITY AS via (v, n)) AS chain
		WHERE t.member_id IS NOT NULL AND t.kind IN ('deduction', 'hold')
	), back AS (
		SELECT t.id, t.amount, t.target_id FROM credits.transactions AS t
		WHERE t.member_id IS NOT NULL AND t.kind IN ('refund', 'release')
		UNION ALL
		SELECT b.id, b.amount, t.target_id
		FROM back AS b JOIN credits.transactions AS t ON t.id = b.target_id AND t.kind = 'capture'
	), net AS (
		SELECT s.id, s.created_at, s.ids,
			   s.amount - COALESCE((SELECT sum(b.amount) FROM back AS b WHERE b.target_id = s.id), 0) AS amount
		FROM spend AS s
	)
	SELECT p.name, a.name, m.used, COALESCE((
			SELECT sum(n.amount) FROM net AS n
			WHERE n.id > m.since_id AND n.created_at >= m.window_start AND EXISTS (
				SELECT FROM generate_subscripts(n.ids, 1) AS i
				WHERE n.ids[i] = m.account_id AND n.ids[i + 1] = m.pool_id)), 0)::bigint
	FROM credits.members AS m
	JOIN credits.accounts AS p ON p.id = m.pool_id
	JOIN credits.accounts AS a ON a.id = m.account_id
	ORDER BY p.name, a.name
$$;
-- the database has the other tests' rows, too
CREATE TEMP VIEW pools_log AS SELECT * FROM credits.transactions WHERE id BETWEEN 730001 AND 739999;
CREATE TEMP VIEW pools_holds AS SELECT * FROM credits.holds WHERE hold_id BETWEEN 730001 AND 739999;
GRANT SELECT ON pools_log, pools_holds TO regress_credits_admin;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-15 12:00:00+00';
SELECT name, balance FROM (VALUES
	('po.p:team', 1000), ('po.p:ann', 100), ('po.p:bob', 0), ('po.p:carl', 0), ('po.p:org', 2000), ('po.p:group', 3000)) AS v (name, credits)
CROSS JOIN LATERAL credits_open_account(name, credits);

-- members
SELECT * FROM credits_add_member('po.p:team', 'po.p:ann', 50, 'day', 'Europe/Berlin');
SELECT kind, account, amount FROM credits_add_member(pool => 'po.p:team', account => 'po.p:bob');
SELECT * FROM credits.pool_members WHERE pool = 'po.p:team' ORDER BY account;
SELECT id, account_id, kind, amount, member_id, terms FROM pools_log
WHERE kind = 'membership' ORDER BY id;

-- what is no membership
SELECT credits_add_member('po.p:team', 'po.p:ann', 70);
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', 'po.p:team');
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', 'nobody');
\echo :SQLSTATE
SELECT credits_add_member('nobody', 'po.p:carl');
\echo :SQLSTATE
SELECT credits_add_member(NULL, 'po.p:carl');
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', NULL);
\echo :SQLSTATE
SELECT credits_add_member('', 'po.p:carl');
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', repeat('x', 256));
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', 'po.p:carl', -1);
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', 'po.p:carl', 10, 'year');
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', 'po.p:carl', 10, 'Day');
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', 'po.p:carl', 10, NULL);
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', 'po.p:carl', 10, 'day', 'Europe/Atlantis');
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', 'po.p:carl', 10, 'day', '');
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', 'po.p:carl', 10, 'day', repeat('x', 1000));
\echo :SQLSTATE
SELECT credits_add_member('po.p:team', 'po.p:carl', 10, 'day', NULL);
\echo :SQLSTATE
SELECT credits_change_member('po.p:team', 'po.p:carl', 10);
\echo :SQLSTATE
SELECT credits_change_member('po.p:team', 'po.p:ann', -1);
\echo :SQLSTATE
SELECT credits_change_member('po.p:team', 'nobody', 1);
\echo :SQLSTATE
SELECT credits_remove_member('po.p:team', 'po.p:carl');
\echo :SQLSTATE
SELECT credits_remove_member('po.p:team', NULL);
\echo :SQLSTATE
SELECT kind FROM credits_open_account('po.p:minutes', 5, 'minute');
SELECT credits_add_member('po.p:team', 'po.p:minutes');
\echo :SQLSTATE
SELECT count(*) FROM credits.pool_members WHERE pool = 'po.p:team';

-- spending: the pool pays, the log names the member
SET ROLE regress_credits_app;
SELECT * FROM credits_deduct('po.p:ann', 20, 'k1', 'chat', 'request:1', '{"a": 1}', 'po.p:team');
SELECT * FROM credits_deduct('po.p:ann', 5, pool => 'po.p:team', mode => 'pool_only');
SELECT * FROM credits_deduct('po.p:bob', 1, pool => 'po.p:team');
SELECT credits_balance('po.p:ann'), credits_balance('po.p:team');
RESET ROLE;
SELECT id, account_id, kind, amount, member_id, target_id, idempotency_key, operation, reference, metadata, terms
FROM pools_log WHERE kind = 'deduction' ORDER BY id;
SET ROLE regress_credits_admin;
SELECT account, cap, window_start, used, remaining FROM credits.pool_members WHERE pool = 'po.p:team' ORDER BY account;

-- up to the cap, and not above it
SELECT credits_deduct('po.p:ann', 26, pool => 'po.p:team');
\echo :SQLSTATE
SELECT amount, balance FROM credits_deduct('po.p:ann', 25, 'k2', pool => 'po.p:team');
SELECT credits_deduct('po.p:ann', 1, pool => 'po.p:team');
\echo :SQLSTATE
SELECT credits_hold('po.p:ann', 1, pool => 'po.p:team');
\echo :SQLSTATE
SELECT ok, code, message FROM credits_try_deduct('po.p:ann', 1, pool => 'po.p:team');
SELECT kind, account_id, transaction_id, detail FROM credits.events WHERE id BETWEEN 730001 AND 739999 ORDER BY id;
-- without one as much as the pool has
SELECT credits_deduct('po.p:bob', 1000, pool => 'po.p:team');
\echo :SQLSTATE
SELECT account, used, remaining FROM credits.pool_members WHERE pool = 'po.p:team' ORDER BY account;
-- not a member, no such pool, the pool itself, no pool at all
SELECT credits_deduct('po.p:carl', 1, pool => 'po.p:team');
\echo :SQLSTATE
SELECT credits_deduct('po.p:ann', 1, pool => 'nobody');
\echo :SQLSTATE
SELECT credits_deduct('nobody', 1, pool => 'po.p:team');
\echo :SQLSTATE
SELECT credits_deduct('po.p:team', 1, pool => 'po.p:team');
\echo :SQLSTATE
SELECT credits_deduct('po.p:ann', 1, pool => '');
\echo :SQLSTATE
SELECT credits_deduct('po.p:ann', 1, mode => 'own_first');
\echo :SQLSTATE
SELECT credits_deduct('po.p:ann', 1, pool => 'po.p:team', mode => 'own first');
\echo :SQLSTATE
SELECT credits_deduct('po.p:ann', 1, pool => 'po.p:team', mode => '');
\echo :SQLSTATE
SELECT credits_hold('po.p:ann', 1, mode => 'pool_first');
\echo :SQLSTATE
SELECT credits_deduct('po.p:bob', 0, pool => 'po.p:team');
\echo :SQLSTATE
SELECT credits_deduct('po.p:bob', 9223372036854775807, pool => 'po.p:team');
\echo :SQLSTATE

-- a retry, also when the cap is used up
SELECT * FROM credits_deduct('po.p:ann', 20, 'k1', 'chat', 'request:1', '{"a": 2}', 'po.p:team');
SELECT replayed FROM credits_deduct('po.p:ann', 25, 'k2', pool => 'po.p:team', mode => 'pool_only');
-- a key is the member'po.s: another member may have the same one
SELECT account, amount, replayed FROM credits_deduct('po.p:bob', 20, 'k1', 'chat', 'request:1', NULL, 'po.p:team');
SELECT account, amount, replayed FROM credits_deduct('po.p:team', 20, 'k1', 'chat', 'request:1');
-- and the member may not use it with another pool, none, or in another mode
SELECT credits_deduct('po.p:ann', 20, 'k1', 'chat', 'request:1');
\echo :SQLSTATE
SELECT credits_deduct('po.p:ann', 20, 'k1', 'chat', 'request:1', pool => 'po.p:org');
\echo :SQLSTATE
SELECT credits_deduct('po.p:ann', 20, 'k1', 'chat', 'request:1', pool => 'po.p:team', mode => 'own_first');
\echo :SQLSTATE
SELECT credits_hold('po.p:ann', 20, idempotency_key => 'k1', operation => 'chat', reference => 'request:1', pool => 'po.p:team');
\echo :SQLSTATE

-- the day after, which begins at midnight in Berlin
SET credits.test_clock = '2030-01-15 22:59:59.999999+00';
SELECT account, window_start, used, remaining FROM credits.pool_members WHERE account = 'po.p:ann';
SELECT credits_deduct('po.p:ann', 1, pool => 'po.p:team');
SET credits.test_clock = '2030-01-15 23:00:00+00';
SELECT account, window_start, used, remaining FROM credits.pool_members WHERE account = 'po.p:ann';
SELECT amount FROM credits_deduct('po.p:ann', 50, pool => 'po.p:team');
SELECT credits_deduct('po.p:ann', 1, pool => 'po.p:team');
\echo :SQLSTATE
SELECT account, window_start, used, remaining FROM credits.pool_members WHERE account = 'po.p:ann';

-- caps of 0, of each window, and none
SELECT kind FROM credits_change_member('po.p:team', 'po.p:ann', 0, clear => '{per,timezone}');
SELECT credits_deduct('po.p:ann', 1, pool => 'po.p:team');
\echo :SQLSTATE
SELECT account, amount FROM credits_deduct('po.p:ann', 1, pool => 'po.p:team', mode => 'pool_first');
SELECT kind FROM credits_change_member('po.p:team', 'po.p:ann', clear => '{cap}');
SELECT account, amount FROM credits_deduct('po.p:ann', 500, 'big', pool => 'po.p:team');
SELECT account, cap, per, timezone, window_start, used, remaining FROM credits.pool_members WHERE account = 'po.p:ann';
SELECT kind FROM credits_change_member('po.p:team', 'po.p:ann', 9223372036854775807, 'lifetime');
SELECT account, cap, per, window_start, used, remaining FROM credits.pool_members WHERE account = 'po.p:ann';
SELECT * FROM pools_used() WHERE pool = 'po.p:team';
SELECT * FROM credits_verify('po.p:team');

-- windows in their time zones, over changes of the clocks
SET credits.test_clock = '2024-03-01 00:00:00+00';
CREATE TEMP TABLE zones (account text, per text, timezone text);
INSERT INTO zones VALUES
	('po.z:1', 'day', 'Europe/Berlin'), ('po.z:2', 'day', 'America/New_York'), ('po.z:3', 'day', 'Asia/Kathmandu'),
	('po.z:4', 'day', 'Atlantic/Azores'), ('po.z:5', 'day', 'Africa/Cairo'), ('po.z:6', 'week', 'Australia/Lord_Howe'),
	('po.z:7', 'month', 'Pacific/Kiritimati'), ('po.z:8', 'week', 'UTC'), ('po.z:9', 'lifetime', 'UTC');
SELECT kind, balance FROM credits_open_account('po.z:pool', 100000);
SELECT account, (credits_open_account(account)).kind, (credits_add_member('po.z:pool', account, 10, per, timezone)).kind AS added
FROM zones ORDER BY account;
-- who may spend 7 of the 10 at each of these instants
CREATE TEMP TABLE instants (at timestamptz, note text);
INSERT INTO instants VALUES
	('2024-03-30 22:59:59.999999+00', 'before midnight in Berlin'),
	('2024-03-30 23:00:00+00', 'midnight: a day of 23 hours'),
	('2024-03-31 21:59:59.999999+00', 'before its end'),
	('2024-03-31 22:00:00+00', 'its end'),
	('2024-10-27 00:59:59.999999+00', 'the first 0:59:59 on the Azores'),
	('2024-10-27 01:00:00+00', 'the second 0:00 there'),
	('2024-10-28 00:59:59.999999+00', 'before the end of that day of 25 hours'),
	('2024-10-28 01:00:00+00', 'its end'),
	('2024-12-31 09:59:59.999999+00', 'before the new year on Kiritimati'),
	('2024-12-31 10:00:00+00', 'the new year there'),
	('2025-04-24 21:59:59.999999+00', 'before a midnight in Cairo that there is not'),
	('2025-04-24 22:00:00+00', 'where it would be'),
	('2025-04-24 12:00:00+00', 'clocks that are put back: still that instant');
CREATE FUNCTION pg_temp.spend_all(clock timestamptz) RETURNS text LANGUAGE sql AS $$
	SELECT set_config('credits.test_clock', clock::text, false);
	SELECT string_agg(format('%s %s', substr(z.account, 6), CASE WHEN (a.a).ok THEN 'ok' ELSE (a.a).code END), ', ' ORDER BY z.account)
	FROM zones AS z
	CROSS JOIN LATERAL (SELECT credits_try_deduct(z.account, 7, pool => 'po.z:pool') AS a) AS a
$$;
SELECT at, note, pg_temp.spend_all(at) FROM instants;
SELECT account, per, timezone, window_start, used, remaining FROM credits.pool_members WHERE pool = 'po.z:pool' ORDER BY account;
SELECT * FROM pools_used() WHERE pool = 'po.z:pool';
SELECT * FROM credits_verify('po.z:pool');
-- the view alone, at any instant: as a spend would find it
SET credits.test_clock = '2024-10-26 00:00:00+00';
SELECT kind FROM credits_open_account('po.y:pool', 10);
SELECT account, (credits_open_account(account)).kind, (credits_add_member('po.y:pool', account, 10, per, timezone)).kind AS added
FROM (SELECT replace(account, '.z', '.y') AS account, per, timezone FROM zones) AS z ORDER BY account;
CREATE FUNCTION pg_temp.starts(clock timestamptz) RETURNS text LANGUAGE sql AS $$
	SELECT set_config('credits.test_clock', clock::text, false);
	SELECT string_agg(to_char(window_start, 'MM-DD HH24:MI'), ', ' ORDER BY account) FROM credits.pool_members
	WHERE account IN ('po.y:1', 'po.y:4', 'po.y:6')
$$;
SELECT at, pg_temp.starts(at) FROM generate_series('2024-10-26 22:30+00', '2024-10-27 01:30+00', interval '30 minutes') AS at
UNION ALL SELECT at, pg_temp.starts(at) FROM (VALUES (timestamptz '2024-10-27 12:59:59+00'), ('2024-10-27 13:00+00'),
	('2024-10-28 00:59:59+00'), ('2024-10-28 01:00+00')) AS v (at);

-- changing: what is used stays counted, as far as it is of the new window
SET credits.test_clock = '2032-01-15 12:00:00+00';
SELECT kind, balance FROM credits_open_account('po.c:pool', 1000);
SELECT kind FROM credits_open_account('po.c:1');
SELECT kind FROM credits_add_member('po.c:pool', 'po.c:1', 100, 'day');
SELECT transaction_id AS early FROM credits_deduct('po.c:1', 40, pool => 'po.c:pool') \gset
SELECT kind FROM credits_change_member('po.c:pool', 'po.c:1', 30, 'day');
SELECT cap, per, window_start, used, remaining FROM credits.pool_members WHERE account = 'po.c:1';
SELECT credits_deduct('po.c:1', 1, pool => 'po.c:pool');
\echo :SQLSTATE
-- a longer window has it, from the day on that was counted
SELECT kind FROM credits_change_member('po.c:pool', 'po.c:1', 100, 'month', 'Europe/Berlin');
SELECT cap, per, timezone, window_start, used, remaining FROM credits.pool_members WHERE account = 'po.c:1';
SELECT kind FROM credits_change_member('po.c:pool', 'po.c:1', 100, 'lifetime', clear => '{timezone}');
SELECT cap, per, timezone, window_start, used, remaining FROM credits.pool_members WHERE account = 'po.c:1';
SELECT * FROM pools_used() WHERE pool = 'po.c:pool';
-- a shorter one begins now: what was spent before does not count, nor does its refund
SET credits.test_clock = '2032-01-16 12:00:00+00';
SELECT amount FROM credits_deduct('po.c:1', 10, pool => 'po.c:pool');
SELECT kind FROM credits_change_member('po.c:pool', 'po.c:1', 100, 'day');
SELECT cap, per, timezone, window_start, used, remaining FROM credits.pool_members WHERE account = 'po.c:1';
SELECT transaction_id AS late FROM credits_deduct('po.c:1', 60, pool => 'po.c:pool') \gset
SELECT amount FROM credits_refund(:early);
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.c:1';
SELECT amount FROM credits_refund(:late, 15);
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.c:1';
-- the same for who is removed and comes back
SELECT kind FROM credits_remove_member('po.c:pool', 'po.c:1');
SELECT credits_deduct('po.c:1', 1, pool => 'po.c:pool');
\echo :SQLSTATE
SELECT kind FROM credits_remove_member('po.c:pool', 'po.c:1');
\echo :SQLSTATE
SELECT amount FROM credits_refund(:late, 5);
SELECT kind FROM credits_add_member('po.c:pool', 'po.c:1', 100, 'day');
SELECT amount FROM credits_deduct('po.c:1', 7, pool => 'po.c:pool');
SELECT amount FROM credits_refund(:late);
SELECT cap, per, timezone, window_start, used, remaining FROM credits.pool_members WHERE account = 'po.c:1';
SELECT * FROM pools_used() WHERE pool = 'po.c:pool';
SELECT t.kind, t.amount, t.terms FROM pools_log AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name = 'po.c:pool' AND t.id > :early AND t.kind = 'membership' ORDER BY t.id;
SELECT * FROM credits_verify('po.c:pool');

-- a refund gives back to the cap in the window of the spend only
SET credits.test_clock = '2032-02-01 12:00:00+00';
SELECT kind, balance FROM credits_open_account('po.r:pool', 1000);
SELECT kind FROM credits_open_account('po.r:1', 10);
SELECT kind FROM credits_add_member('po.r:pool', 'po.r:1', 100, 'day');
SELECT transaction_id AS t1 FROM credits_deduct('po.r:1', 90, 'r1', pool => 'po.r:pool') \gset
SELECT * FROM credits_refund(:t1, 30, 'back1', 'slow');
SELECT used FROM credits.pool_members WHERE account = 'po.r:1';
SELECT * FROM credits_refund(:t1, 30, 'back1', 'slow');
SELECT used FROM credits.pool_members WHERE account = 'po.r:1';
SELECT kind, account FROM credits_refund(:t1, 1, account => 'po.r:1');
SELECT kind, account FROM credits_refund(:t1, 1, account => 'po.r:pool');
SELECT credits_refund(:t1, 1, account => 'po.p:ann');
\echo :SQLSTATE
-- the key is the member's here too
SELECT credits_deduct('po.r:1', 1, 'back1');
\echo :SQLSTATE
SELECT account, replayed FROM credits_deduct('po.r:pool', 1, 'back1');
SET credits.test_clock = '2032-02-02 00:00:00+00';
SELECT transaction_id AS t2 FROM credits_deduct('po.r:1', 50, pool => 'po.r:pool') \gset
SELECT account, amount FROM credits_refund(:t1);
SELECT used FROM credits.pool_members WHERE account = 'po.r:1';
SELECT account, amount FROM credits_refund(:t2);
SELECT used FROM credits.pool_members WHERE account = 'po.r:1';
SELECT credits_refund(:t2);
\echo :SQLSTATE
SELECT * FROM pools_used() WHERE pool = 'po.r:pool';
SELECT t.id - :t1 AS n, t.kind, amount, balance_after, t.member_id = a.id AS of_member, t.target_id - :t1 AS target, idempotency_key, reason
FROM pools_log AS t, credits.accounts AS a WHERE a.name = 'po.r:1' AND t.id >= :t1 ORDER BY t.id;
SELECT * FROM credits_verify('po.r:pool');

-- who pays first, and spends that both pay
SELECT kind, balance FROM credits_open_account('po.s:pool', 100);
SELECT kind FROM credits_open_account('po.s:1', 30);
SELECT kind FROM credits_add_member('po.s:pool', 'po.s:1', 60);
-- one alone
SELECT account, amount, balance FROM credits_deduct('po.s:1', 5, 's1', pool => 'po.s:pool', mode => 'own_first');
SELECT account, amount, balance FROM credits_deduct('po.s:1', 5, 's2', pool => 'po.s:pool', mode => 'pool_first');
-- both: 25 of its own, and 10 of the pool
SELECT * FROM credits_deduct('po.s:1', 35, 's3', 'chat', 'request:3', '{"n": 3}', 'po.s:pool', 'own_first');
SELECT * FROM credits_deduct('po.s:1', 35, 's3', 'chat', 'request:3', '{"n": 3}', 'po.s:pool', 'own_first');
SELECT credits_deduct('po.s:1', 34, 's3', 'chat', 'request:3', '{"n": 3}', 'po.s:pool', 'own_first');
\echo :SQLSTATE
SELECT a.name, t.id - first.id AS n, t.kind, t.amount, t.balance_after, t.member_id - a.id AS member, t.target_id - first.id AS target,
	   t.idempotency_key, t.operation, t.reference, t.metadata, t.terms - 'parts' AS terms,
	   (t.terms->'parts'->>0)::bigint - first.id AS part
FROM pools_log AS t
JOIN credits.accounts AS a ON a.id = t.account_id
CROSS JOIN (SELECT id FROM pools_log WHERE idempotency_key = 's3') AS first
WHERE t.id >= first.id ORDER BY t.id;
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.s:1';
-- own credits and what is left of the cap: 0 and 45
SELECT credits_deduct('po.s:1', 46, pool => 'po.s:pool', mode => 'own_first');
\echo :SQLSTATE
SELECT credits_deduct('po.s:1', 46, pool => 'po.s:pool', mode => 'pool_first');
\echo :SQLSTATE
SELECT credits_deduct('po.s:1', 46, pool => 'po.s:pool');
\echo :SQLSTATE
SELECT amount FROM credits_allocate('po.s:1', 20);
SELECT account, amount, balance FROM credits_deduct('po.s:1', 50, 's4', pool => 'po.s:pool', mode => 'pool_first');
SELECT account, amount, balance, replayed FROM credits_deduct('po.s:1', 50, 's4', pool => 'po.s:pool', mode => 'pool_first');
SELECT credits_balance('po.s:1') AS own, credits_balance('po.s:pool') AS pool;
SELECT credits_deduct('po.s:1', 16, pool => 'po.s:pool', mode => 'own_first');
\echo :SQLSTATE
SELECT ok, code, message FROM credits_try_deduct('po.s:1', 16, pool => 'po.s:pool', mode => 'pool_first');
-- a pool that has less than the cap leaves
SELECT kind FROM credits_change_member('po.s:pool', 'po.s:1', 1000);
SELECT credits_deduct('po.s:1', 56, pool => 'po.s:pool', mode => 'own_first');
\echo :SQLSTATE
SELECT credits_deduct('po.s:1', 56, pool => 'po.s:pool', mode => 'pool_first');
\echo :SQLSTATE
-- refunds: what the pool paid goes back first
SELECT transaction_id AS t3, account FROM credits_deduct('po.s:1', 35, 's3', 'chat', 'request:3', NULL, 'po.s:pool', 'own_first') \gset
SELECT account, amount, balance FROM credits_refund(:t3, 4);
SELECT * FROM credits_refund(:t3, 10, 'back3', 'sorry');
SELECT * FROM credits_refund(:t3, 10, 'back3', 'sorry');
SELECT a.name, t.id - back.id AS n, t.kind, t.amount, t.balance_after, t.target_id - :t3 AS target, t.idempotency_key, t.reason, t.terms
FROM pools_log AS t
JOIN credits.accounts AS a ON a.id = t.account_id
CROSS JOIN (SELECT id FROM pools_log WHERE idempotency_key = 'back3') AS back
WHERE t.id >= back.id ORDER BY t.id;
SELECT used FROM credits.pool_members WHERE account = 'po.s:1';
SELECT credits_refund(:t3, 22);
\echo :SQLSTATE
SELECT account, amount, balance FROM credits_refund(:t3);
SELECT credits_refund(:t3);
\echo :SQLSTATE
-- the whole at once
SELECT transaction_id AS t4 FROM credits_deduct('po.s:1', 50, 's4', pool => 'po.s:pool', mode => 'pool_first') \gset
SELECT account, amount, balance FROM credits_refund(:t4, idempotency_key => 'back4');
SELECT account, amount, balance, replayed FROM credits_refund(:t4, idempotency_key => 'back4');
SELECT used FROM credits.pool_members WHERE account = 'po.s:1';
SELECT credits_balance('po.s:1') AS own, credits_balance('po.s:pool') AS pool;
-- by the id of the pool's part alone
SELECT account, amount FROM credits_deduct('po.s:1', 60, 's5', pool => 'po.s:pool', mode => 'own_first');
SELECT id AS part FROM pools_log
WHERE target_id = (SELECT id FROM pools_log WHERE idempotency_key = 's5') \gset
SELECT account, amount FROM credits_refund(:part);
SELECT r.account, r.amount FROM pools_log AS t, credits_refund(t.id) AS r WHERE t.idempotency_key = 's5';
SELECT * FROM pools_used() WHERE pool = 'po.s:pool';
SELECT * FROM credits_verify('po.s:pool');
SELECT * FROM credits_verify('po.s:1');

-- holds
SET credits.test_clock = '2032-03-01 12:00:00+00';
SELECT kind, balance FROM credits_open_account('po.h:pool', 500);
SELECT kind FROM credits_open_account('po.h:1', 20);
SELECT kind FROM credits_add_member('po.h:pool', 'po.h:1', 100, 'day');
SELECT * FROM credits_hold('po.h:1', 60, 'h1', 'chat', 'request:1', '{"n": 1}', '1 hour', 'po.h:pool');
SELECT * FROM credits_hold('po.h:1', 60, 'h1', 'chat', 'request:1', '{"n": 1}', '1 hour', 'po.h:pool');
SELECT id AS h1 FROM pools_log WHERE idempotency_key = 'h1' AND kind = 'hold' \gset
SELECT account, member, status, reserved, remaining FROM pools_holds WHERE hold_id = :h1;
SELECT credits_hold('po.h:1', 41, pool => 'po.h:pool');
\echo :SQLSTATE
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
-- partial, then final, with the key of the member
SELECT * FROM credits_capture(:h1, 10, 'h2', final => false);
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT * FROM credits_capture(:h1, 20, 'h3', final => true, reference => 'request:1');
SELECT * FROM credits_capture(:h1, 20, 'h3', final => true, reference => 'request:1');
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT credits_deduct('po.h:1', 20, 'h3');
\echo :SQLSTATE
SELECT credits_capture(:h1);
\echo :SQLSTATE
-- more than is held counts for the cap, too
SELECT transaction_id AS h2 FROM credits_hold('po.h:1', 50, pool => 'po.h:pool') \gset
SELECT credits_capture(:h2, 71, allow_more => true);
\echo :SQLSTATE
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT kind, amount, balance, held FROM credits_capture(:h2, 70, allow_more => true);
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT kind, amount, balance FROM credits_refund(:h2);
\echo :SQLSTATE
SELECT r.kind, r.amount, r.balance FROM pools_log AS t, credits_refund(t.id, 65) AS r
WHERE t.target_id = :h2 AND t.kind = 'capture';
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
-- release, extend, time out
SELECT transaction_id AS h3 FROM credits_hold('po.h:1', 50, expires_in => '1 hour', pool => 'po.h:pool') \gset
SELECT kind, account, amount, held FROM credits_extend_hold(:h3, '3 hours', 'e1');
SELECT kind, account, amount, held, replayed FROM credits_extend_hold(:h3, '3 hours', 'e1');
SELECT kind, account, amount, balance, held FROM credits_release(:h3, 'l1', 'cancelled', account => 'po.h:1');
SELECT kind, account, amount, balance, held, replayed FROM credits_release(:h3, 'l1', 'cancelled', account => 'po.h:1');
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT transaction_id AS h4 FROM credits_hold('po.h:1', 65, expires_in => '1 hour', pool => 'po.h:pool') \gset
SELECT credits_deduct('po.h:1', 1, pool => 'po.h:pool');
SET credits.test_clock = '2032-03-01 13:00:00+00';
-- the cap has it back, before anybody settles the pool
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT status, released FROM pools_holds WHERE hold_id = :h4;
SELECT credits_capture(:h4);
\echo :SQLSTATE
SELECT amount FROM credits_deduct('po.h:1', 1, pool => 'po.h:pool');
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
-- one that times out the day after gives the cap of that day nothing
SELECT transaction_id AS h5 FROM credits_hold('po.h:1', 50, expires_in => '1 day', pool => 'po.h:pool') \gset
SET credits.test_clock = '2032-03-02 12:00:00+00';
SELECT amount FROM credits_deduct('po.h:1', 30, pool => 'po.h:pool');
SET credits.test_clock = '2032-03-02 13:00:00+00';
SELECT amount FROM credits_allocate('po.h:pool', 1);
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
-- what a capture adds to a hold of the day before counts today, and is not given back
SELECT transaction_id AS h6 FROM credits_hold('po.h:1', 10, expires_in => '1 day', pool => 'po.h:pool') \gset
SET credits.test_clock = '2032-03-03 12:00:00+00';
SELECT amount FROM credits_capture(:h6, 25, allow_more => true);
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT r.amount FROM pools_log AS t, credits_refund(t.id) AS r WHERE t.target_id = :h6 AND t.kind = 'capture';
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT * FROM pools_used() WHERE pool = 'po.h:pool';
SELECT id - :h1 AS n, kind, amount, held, balance_after, held_after, member_id - account_id AS member, target_id - :h1 AS target, terms
FROM pools_log WHERE id >= :h1 AND account_id = (SELECT id FROM credits.accounts WHERE name = 'po.h:pool') ORDER BY id;
SELECT * FROM credits_verify('po.h:pool');

-- split holds
SELECT * FROM credits_hold('po.h:1', 50, 'h7', expires_in => '1 hour', pool => 'po.h:pool', mode => 'own_first');
SELECT id AS h7 FROM pools_log WHERE idempotency_key = 'h7' \gset
SELECT account, member, status, reserved, captured, released, remaining FROM pools_holds WHERE hold_id >= :h7 ORDER BY hold_id;
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT credits_capture(hold_id) FROM pools_holds WHERE hold_id > :h7;
\echo :SQLSTATE
SELECT credits_capture(:h7, 51);
\echo :SQLSTATE
SELECT account, kind, amount, balance, held FROM credits_capture(:h7, 15, 'c7', final => false);
SELECT account, kind, amount, balance, held FROM credits_capture(:h7, 15, 'c8', final => false);
SELECT account, kind, amount, balance, held, replayed FROM credits_capture(:h7, 15, 'c8', final => false);
SELECT account, member, status, reserved, captured, released, remaining FROM pools_holds WHERE hold_id >= :h7 ORDER BY hold_id;
SELECT account, kind, amount, balance, held FROM credits_extend_hold(:h7, '2 hours');
SELECT DISTINCT expires_at FROM pools_holds WHERE hold_id >= :h7 ORDER BY 1;
SELECT account, kind, amount, balance, held FROM credits_capture(:h7, 4, idempotency_key => 'c9');
SELECT account, kind, amount, balance, held, replayed FROM credits_capture(:h7, 4, idempotency_key => 'c9');
SELECT account, member, status, reserved, captured, released, remaining FROM pools_holds WHERE hold_id >= :h7 ORDER BY hold_id;
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT credits_balance('po.h:1') AS own, credits_balance('po.h:pool') AS pool;
-- the refund of a capture that both paid: the pool's part first
SELECT r.account, r.amount FROM pools_log AS t, credits_refund(t.id, 12) AS r WHERE t.idempotency_key = 'c8';
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
-- all of one, released, and timed out
SELECT transaction_id AS h8 FROM credits_hold('po.h:1', 30, pool => 'po.h:pool', mode => 'pool_first') \gset
SELECT account, kind, amount, balance, held FROM credits_release(:h8);
SELECT amount FROM credits_allocate('po.h:1', 18);
SELECT transaction_id AS h9 FROM credits_hold('po.h:1', 30, pool => 'po.h:pool', mode => 'own_first') \gset
SELECT account, kind, amount, balance, held FROM credits_release(:h9, 'l9');
SELECT account, kind, amount, balance, held, replayed FROM credits_release(:h9, 'l9');
SELECT credits_release(:h9);
\echo :SQLSTATE
SELECT transaction_id AS h10 FROM credits_hold('po.h:1', 30, pool => 'po.h:pool', mode => 'own_first') \gset
SELECT account, kind, amount, balance, held FROM credits_capture(:h10);
SELECT transaction_id AS h11 FROM credits_hold('po.h:1', 30, pool => 'po.h:pool', mode => 'own_first') \gset
SELECT amount FROM credits_allocate('po.h:1', 100);
-- what goes beyond a split hold is the member's own
SELECT account, kind, amount, balance, held FROM credits_capture(:h11, 40, allow_more => true);
-- or the pool's, up to the cap, once the account's part is captured
SELECT credits_balance('po.h:1') AS own, (SELECT used FROM credits.pool_members WHERE account = 'po.h:1') AS used;
SELECT transaction_id AS h13 FROM credits_hold('po.h:1', credits_balance('po.h:1') + 5, pool => 'po.h:pool', mode => 'own_first') \gset
SELECT account, kind, held FROM credits_capture(:h13, (SELECT reserved FROM pools_holds WHERE hold_id = :h13), final => false);
SELECT credits_capture(:h13, 1000, allow_more => true);
\echo :SQLSTATE
SELECT credits_capture(:h13, 32, allow_more => true);
\echo :SQLSTATE
SELECT account, kind, balance, held FROM credits_capture(:h13, 9, allow_more => true);
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT r.account, r.amount FROM pools_log AS t, credits_refund(t.id) AS r WHERE t.idempotency_key IS NULL AND t.target_id = :h13 + 1 AND t.kind = 'capture';
SELECT amount FROM credits_allocate('po.h:1', 100);
SELECT transaction_id AS h12 FROM credits_hold('po.h:1', 100, expires_in => '1 hour', pool => 'po.h:pool', mode => 'own_first') \gset
SET credits.test_clock = '2032-03-03 15:00:00+00';
SELECT credits_capture(:h12);
\echo :SQLSTATE
SELECT credits_balance('po.h:1') AS own, credits_balance('po.h:pool') AS pool;
SELECT account, amount, balance, held FROM credits_allocate('po.h:1', 1);
SELECT account, amount, balance, held FROM credits_allocate('po.h:pool', 1);
SELECT a.name, h.status, h.reserved, h.captured, h.released FROM credits.hold_states AS h JOIN credits.accounts AS a ON a.id = h.account_id
WHERE h.id BETWEEN :h7 AND 739999 ORDER BY h.id;
SELECT * FROM pools_used() WHERE pool = 'po.h:pool';
SELECT * FROM credits_verify('po.h:pool');
SELECT * FROM credits_verify('po.h:1');

-- a member that goes while it holds
SET credits.test_clock = '2032-03-04 12:00:00+00';
SELECT transaction_id AS h13 FROM credits_hold('po.h:1', 30, expires_in => '1 hour', pool => 'po.h:pool') \gset
SELECT transaction_id AS h14 FROM credits_hold('po.h:1', 30, expires_in => '1 hour', pool => 'po.h:pool') \gset
SELECT transaction_id AS h15 FROM credits_hold('po.h:1', 30, expires_in => '1 hour', pool => 'po.h:pool') \gset
SELECT kind FROM credits_remove_member('po.h:pool', 'po.h:1');
SELECT credits_capture(:h13, 31, allow_more => true);
\echo :SQLSTATE
SELECT kind, amount, balance, held FROM credits_capture(:h13, 20);
SELECT kind FROM credits_extend_hold(:h14, '2 hours');
SELECT kind, amount, balance, held FROM credits_release(:h14);
SELECT kind FROM credits_add_member('po.h:pool', 'po.h:1', 100, 'day');
SELECT amount FROM credits_deduct('po.h:1', 5, pool => 'po.h:pool');
-- the third times out, and was held before
SET credits.test_clock = '2032-03-04 14:00:00+00';
SELECT amount FROM credits_deduct('po.h:1', 5, pool => 'po.h:pool');
SELECT used FROM credits.pool_members WHERE account = 'po.h:1';
-- changes that find a hold timed out: the row is written once
SELECT transaction_id AS h16 FROM credits_hold('po.h:1', 30, expires_in => '1 hour', pool => 'po.h:pool') \gset
SET credits.test_clock = '2032-03-04 16:00:00+00';
SELECT kind, held FROM credits_change_member('po.h:pool', 'po.h:1', 90, 'day');
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.h:1';
SELECT transaction_id AS h17 FROM credits_hold('po.h:1', 30, expires_in => '1 hour', pool => 'po.h:pool') \gset
SET credits.test_clock = '2032-03-04 18:00:00+00';
SELECT kind, held FROM credits_remove_member('po.h:pool', 'po.h:1');
SELECT count(*) FROM credits.members WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'po.h:1');
SELECT * FROM credits_verify('po.h:pool');

-- paused and closed
SELECT kind, balance FROM credits_open_account('po.q:pool', 500);
SELECT kind FROM credits_open_account('po.q:1', 20);
SELECT kind FROM credits_open_account('po.q:2', 20);
SELECT kind FROM credits_add_member('po.q:pool', 'po.q:1', 100);
SELECT transaction_id AS q1 FROM credits_hold('po.q:1', 10, pool => 'po.q:pool') \gset
SELECT transaction_id AS q2 FROM credits_hold('po.q:1', 10, pool => 'po.q:pool') \gset
SELECT transaction_id AS q3 FROM credits_deduct('po.q:1', 10, pool => 'po.q:pool') \gset
SELECT kind FROM credits_pause_account('po.q:1', 'fraud');
SELECT credits_deduct('po.q:1', 1, pool => 'po.q:pool');
\echo :SQLSTATE
SELECT credits_hold('po.q:1', 1, pool => 'po.q:pool', mode => 'pool_first');
\echo :SQLSTATE
SELECT credits_capture(:q1, 11, allow_more => true);
\echo :SQLSTATE
SELECT kind, amount FROM credits_capture(:q1);
SELECT kind, amount FROM credits_refund(:q3, 1);
SELECT kind FROM credits_change_member('po.q:pool', 'po.q:1', 90);
SELECT kind FROM credits_resume_account('po.q:1', 'checked');
SELECT kind FROM credits_pause_account('po.q:pool', 'budget');
SELECT credits_deduct('po.q:1', 1, pool => 'po.q:pool');
\echo :SQLSTATE
-- as long as the pool is paused nobody spends from it, not even in part
SELECT credits_deduct('po.q:1', 1, pool => 'po.q:pool', mode => 'own_first');
\echo :SQLSTATE
SELECT credits_capture(:q2, 11, allow_more => true);
\echo :SQLSTATE
SELECT kind, amount FROM credits_release(:q2);
SELECT kind FROM credits_add_member('po.q:pool', 'po.q:2');
SELECT kind FROM credits_remove_member('po.q:pool', 'po.q:2');
SELECT kind FROM credits_resume_account('po.q:pool', 'new year');
SELECT kind FROM credits_add_member('po.q:pool', 'po.q:2');
SELECT kind FROM credits_close_account('po.q:2', 'left');
SELECT credits_deduct('po.q:2', 1, pool => 'po.q:pool');
\echo :SQLSTATE
SELECT credits_add_member('po.q:2', 'po.q:1');
\echo :SQLSTATE
SELECT kind FROM credits_change_member('po.q:pool', 'po.q:2', 1);
SELECT kind FROM credits_remove_member('po.q:pool', 'po.q:2');
SELECT credits_add_member('po.q:pool', 'po.q:2');
\echo :SQLSTATE
SELECT kind FROM credits_adjust('po.q:pool', -credits_balance('po.q:pool'), 'end');
SELECT kind FROM credits_close_account('po.q:pool', 'end');
SELECT credits_deduct('po.q:1', 1, pool => 'po.q:pool', mode => 'own_first');
\echo :SQLSTATE
SELECT credits_change_member('po.q:pool', 'po.q:1', 1);
\echo :SQLSTATE
SELECT credits_remove_member('po.q:pool', 'po.q:1');
\echo :SQLSTATE
SELECT credits_refund(:q3);
\echo :SQLSTATE
SELECT * FROM credits_verify('po.q:pool');

-- pools in pools: group, organisation, team, member
SET credits.test_clock = '2032-05-01 12:00:00+00';
SELECT name, balance FROM (VALUES ('po.n:ann'), ('po.n:bob'), ('po.n:eve'), ('po.n:team1'), ('po.n:team2'), ('po.n:org'), ('po.n:group')) AS v (name)
CROSS JOIN LATERAL credits_open_account(name, CASE WHEN name = 'po.n:ann' THEN 10 ELSE 1000 END);
SELECT kind FROM credits_add_member('po.n:group', 'po.n:org', 200, 'month');
SELECT kind FROM credits_add_member('po.n:org', 'po.n:team1', 100, 'week');
SELECT kind FROM credits_add_member('po.n:org', 'po.n:team2', 150, 'week');
SELECT kind FROM credits_add_member('po.n:team1', 'po.n:ann', 50, 'day');
SELECT kind FROM credits_add_member('po.n:team1', 'po.n:bob');
SELECT kind FROM credits_add_member('po.n:team2', 'po.n:eve', 1000, 'lifetime');
-- no pool is in itself
SELECT credits_add_member('po.n:team1', 'po.n:org');
\echo :SQLSTATE
SELECT credits_add_member('po.n:team1', 'po.n:group');
\echo :SQLSTATE
SELECT credits_add_member('po.n:ann', 'po.n:group');
\echo :SQLSTATE
-- each level's cap, and the log has the way
SELECT account, amount, balance FROM credits_deduct('po.n:ann', 40, 'n1', pool => 'po.n:group');
SELECT account, amount, balance FROM credits_deduct('po.n:ann', 5, 'n2', pool => 'po.n:org');
SELECT account, amount, balance FROM credits_deduct('po.n:ann', 1, 'n3', pool => 'po.n:team1');
SELECT pool, account, cap, used, remaining FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
SELECT a.name AS payer, m.name AS member, t.amount, t.idempotency_key AS key,
	   (SELECT string_agg(v.name, ' ' ORDER BY n) FROM jsonb_array_elements(t.terms->'via') WITH ORDINALITY AS e (id, n)
		JOIN credits.accounts AS v ON v.id = e.id::bigint) AS via
FROM pools_log AS t JOIN credits.accounts AS a ON a.id = t.account_id JOIN credits.accounts AS m ON m.id = t.member_id
WHERE t.idempotency_key IN ('n1', 'n2', 'n3') AND m.name = 'po.n:ann' ORDER BY t.id;
SELECT credits_deduct('po.n:ann', 5, pool => 'po.n:group');
\echo :SQLSTATE
SELECT credits_deduct('po.n:bob', 56, pool => 'po.n:group');
\echo :SQLSTATE
SELECT account, amount FROM credits_deduct('po.n:bob', 55, 'n4', pool => 'po.n:group');
SELECT credits_deduct('po.n:bob', 1, pool => 'po.n:org');
\echo :SQLSTATE
SELECT account, amount FROM credits_deduct('po.n:bob', 1, pool => 'po.n:team1');
SELECT credits_deduct('po.n:eve', 106, pool => 'po.n:group');
\echo :SQLSTATE
SELECT account, amount FROM credits_deduct('po.n:eve', 105, 'n5', pool => 'po.n:group');
SELECT credits_deduct('po.n:eve', 1, pool => 'po.n:group');
\echo :SQLSTATE
-- a pool spends from the pool that it is in
SELECT account, amount FROM credits_deduct('po.n:team2', 5, pool => 'po.n:org');
SELECT credits_deduct('po.n:org', 1, pool => 'po.n:group');
\echo :SQLSTATE
-- not downwards, nor sideways
SELECT credits_deduct('po.n:group', 1, pool => 'po.n:team1');
\echo :SQLSTATE
SELECT credits_deduct('po.n:ann', 1, pool => 'po.n:team2');
\echo :SQLSTATE
SELECT credits_deduct('po.n:ann', 1, pool => 'po.n:bob');
\echo :SQLSTATE
SELECT pool, account, cap, used, remaining FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
SELECT * FROM pools_used() WHERE pool LIKE 'po.n:%';
-- refunds give back at each level, where the window is still that of the spend: day, week, month
SET credits.test_clock = '2032-05-02 00:00:00+00';
SELECT r.account, r.amount FROM pools_log AS t, credits_refund(t.id, 10) AS r WHERE t.idempotency_key = 'n1';
SELECT pool, account, cap, used, remaining FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
SET credits.test_clock = '2032-05-03 00:00:00+00';
SELECT r.account, r.amount FROM pools_log AS t, credits_refund(t.id, 10) AS r WHERE t.idempotency_key = 'n1';
SELECT pool, account, cap, used, remaining FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
SET credits.test_clock = '2032-06-01 00:00:00+00';
SELECT r.account, r.amount FROM pools_log AS t, credits_refund(t.id) AS r WHERE t.idempotency_key = 'n1';
SELECT pool, account, cap, used, remaining FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
SELECT * FROM pools_used() WHERE pool LIKE 'po.n:%';
-- holds at each level, timed out: three of them, all settled in one call by two accounts
SELECT transaction_id AS n1 FROM credits_hold('po.n:ann', 10, expires_in => '1 hour', pool => 'po.n:team1') \gset
SELECT kind, account, amount FROM credits_hold('po.n:ann', 11, expires_in => '1 hour', pool => 'po.n:org');
SELECT kind, account, amount FROM credits_hold('po.n:bob', 12, expires_in => '1 hour', pool => 'po.n:org');
SELECT kind, account, amount FROM credits_hold('po.n:ann', 20, expires_in => '1 hour', pool => 'po.n:group', mode => 'own_first');
SELECT pool, account, used FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
SET credits.test_clock = '2032-06-01 02:00:00+00';
SELECT kind, account, amount, balance, held FROM credits_deduct('po.n:team1', 1, pool => 'po.n:org');
SELECT pool, account, used FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
SELECT kind, account, amount, balance, held FROM credits_deduct('po.n:ann', 11, 'n6', pool => 'po.n:group', mode => 'own_first');
SELECT pool, account, used FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
-- more than was held, along the way of today
SELECT transaction_id AS n2 FROM credits_hold('po.n:ann', 10, expires_in => '1 hour', pool => 'po.n:group') \gset
SELECT credits_capture(:n2, 60, allow_more => true);
\echo :SQLSTATE
SELECT kind, amount FROM credits_capture(:n2, 15, allow_more => true);
SELECT pool, account, used FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
SELECT kind, amount, held, terms ? 'via' AS via FROM pools_log WHERE id >= :n2 ORDER BY id;
SELECT * FROM pools_used() WHERE pool LIKE 'po.n:%';
-- a level that is gone: no way up, and what was held through it still settles
SELECT transaction_id AS n3 FROM credits_hold('po.n:bob', 10, expires_in => '1 hour', pool => 'po.n:group') \gset
SELECT kind FROM credits_remove_member('po.n:org', 'po.n:team1');
SELECT credits_deduct('po.n:bob', 1, pool => 'po.n:group');
\echo :SQLSTATE
SELECT kind, amount FROM credits_release(:n3);
SELECT pool, account, used FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
-- a hold goes on by the way that it was made, also where there is another one now
SELECT kind FROM credits_add_member('po.n:org', 'po.n:team1', 100);
SELECT transaction_id AS n4 FROM credits_hold('po.n:bob', 10, expires_in => '1 hour', pool => 'po.n:org') \gset
SELECT kind FROM credits_remove_member('po.n:team1', 'po.n:bob');
SELECT kind FROM credits_add_member('po.n:team2', 'po.n:bob');
SELECT amount FROM credits_deduct('po.n:bob', 1, pool => 'po.n:org');
SELECT credits_capture(:n4, 15, allow_more => true);
\echo :SQLSTATE
SELECT kind FROM credits_add_member('po.n:team1', 'po.n:bob');
SELECT kind FROM credits_capture(:n4, 15, allow_more => true);
SELECT pool, account, used FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
SELECT r.amount FROM pools_log AS t, credits_refund(t.id) AS r WHERE t.target_id = :n4 AND t.kind = 'capture';
SELECT pool, account, used FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
SELECT kind FROM credits_remove_member('po.n:team2', 'po.n:bob');
SELECT kind FROM credits_remove_member('po.n:org', 'po.n:team1');
-- two ways: the shorter one counts, also if it has the narrower cap
SELECT kind FROM credits_add_member('po.n:org', 'po.n:team1');
SELECT kind FROM credits_add_member('po.n:org', 'po.n:ann', 3);
SELECT credits_deduct('po.n:ann', 4, pool => 'po.n:org');
\echo :SQLSTATE
SELECT amount FROM credits_deduct('po.n:ann', 3, pool => 'po.n:org');
SELECT pool, account, used FROM credits.pool_members WHERE pool LIKE 'po.n:%' ORDER BY pool, account;
SELECT * FROM pools_used() WHERE pool LIKE 'po.n:%';
SELECT account, problem FROM credits_verify() WHERE account LIKE 'po.n:%';

-- as many levels as there are
SELECT count(credits_open_account('po.l:' || n, 10)) FROM generate_series(1, 30) AS n;
SELECT count(credits_add_member('po.l:' || n + 1, 'po.l:' || n, n)) FROM generate_series(1, 29) AS n;
SELECT account, amount FROM credits_deduct('po.l:1', 1, pool => 'po.l:30');
SELECT credits_deduct('po.l:1', 1, pool => 'po.l:30');
\echo :SQLSTATE
SELECT credits_add_member('po.l:1', 'po.l:30');
\echo :SQLSTATE
SELECT sum(used) FROM credits.pool_members WHERE pool LIKE 'po.l:%';

-- undone with the transaction, or to a savepoint
BEGIN;
SELECT kind FROM credits_add_member('po.n:team2', 'po.n:bob', 20);
SELECT amount FROM credits_deduct('po.n:bob', 5, 'u1', pool => 'po.n:team2');
SAVEPOINT s;
SELECT amount FROM credits_deduct('po.n:bob', 15, 'u2', pool => 'po.n:team2');
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.n:bob' AND pool = 'po.n:team2';
ROLLBACK TO s;
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.n:bob' AND pool = 'po.n:team2';
SELECT amount, replayed FROM credits_deduct('po.n:bob', 14, 'u2', pool => 'po.n:team2');
SELECT kind FROM credits_remove_member('po.n:team2', 'po.n:bob');
SELECT kind FROM credits_add_member('po.n:team2', 'po.n:bob', 1);
SELECT used, remaining FROM credits.pool_members WHERE account = 'po.n:bob' AND pool = 'po.n:team2';
ROLLBACK;
SELECT count(*) FROM credits.pool_members WHERE account = 'po.n:bob' AND pool = 'po.n:team2';
SELECT credits_deduct('po.n:bob', 5, 'u1', pool => 'po.n:team2');
\echo :SQLSTATE

-- who may do what
SET ROLE regress_credits_app;
\set VERBOSITY sqlstate
SELECT credits_add_member('po.n:team2', 'po.n:bob');
SELECT credits_change_member('po.n:team2', 'po.n:eve', 1);
SELECT credits_remove_member('po.n:team2', 'po.n:eve');
SELECT * FROM credits.pool_members;
SELECT * FROM credits.members;
RESET ROLE;
\set VERBOSITY default
UPDATE credits.members SET cap = NULL;
\echo :SQLSTATE
DELETE FROM credits.members;
\echo :SQLSTATE
TRUNCATE credits.members;
\echo :SQLSTATE
BEGIN READ ONLY;
SELECT credits_add_member('po.n:team2', 'po.n:bob');
\echo :SQLSTATE
ROLLBACK;
SELECT * FROM pools_used() WHERE used <> logged;
DROP FUNCTION pools_used();

-- what someone changes past the triggers shows
CREATE FUNCTION pg_temp.problems(name text DEFAULT NULL) RETURNS TABLE (account text, problem text, detail text) LANGUAGE sql AS
	$$SELECT account, problem, detail FROM credits_verify(name) WHERE account LIKE 'po.%' ORDER BY account, detail$$;
\set disable 'ALTER TABLE credits.members DISABLE TRIGGER ALL;'
\set ann 'account_id = (SELECT id FROM credits.accounts WHERE name = ''po.n:ann'') AND pool_id = (SELECT id FROM credits.accounts WHERE name = ''po.n:team1'')'
BEGIN; :disable
UPDATE credits.members SET cap = 1000 WHERE :ann;
SELECT * FROM pg_temp.problems();
SELECT * FROM pg_temp.problems('po.n:team1');
SELECT * FROM pg_temp.problems('po.n:ann');
ROLLBACK;
BEGIN; :disable
UPDATE credits.members SET cap = NULL, per = 'lifetime' WHERE :ann;
SELECT * FROM pg_temp.problems('po.n:team1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.members SET timezone = 'Asia/Tokyo' WHERE :ann;
SELECT * FROM pg_temp.problems('po.n:team1');
ROLLBACK;
-- what is used of a cap takes the log of all pools
BEGIN; :disable
UPDATE credits.members SET used = used - 1 WHERE :ann;
SELECT * FROM pg_temp.problems();
SELECT * FROM pg_temp.problems('po.n:team1');
ROLLBACK;
BEGIN; :disable
UPDATE credits.members SET since_id = since_id + 1000000 WHERE :ann;
SELECT * FROM pg_temp.problems();
ROLLBACK;
BEGIN; :disable
DELETE FROM credits.members WHERE :ann;
SELECT * FROM pg_temp.problems('po.n:team1');
ROLLBACK;
BEGIN; :disable
INSERT INTO credits.members
SELECT pool_id, account_id + 1000, NULL, per, timezone, created_at, window_start, used, since_id FROM credits.members WHERE :ann;
SELECT * FROM pg_temp.problems('po.n:team1');
ROLLBACK;
SELECT * FROM credits_verify() WHERE account ~ '^po[.]';

-- usage by window, from the log: by the windows that the member has now
SELECT pool, account, window_start, used, transactions FROM credits.pool_usage
WHERE account = 'po.p:ann' ORDER BY pool, window_start;

-- what an application may see of a member
SET ROLE regress_credits_app;
SELECT cap, used, remaining, per, balance FROM credits_pool_summary('po.p:team', 'po.p:ann');
SELECT * FROM credits_pool_summary('po.p:ann', 'po.p:team');
SELECT * FROM credits_pool_summary('po.p:nobody', 'po.p:ann');
SELECT credits_pool_summary('pool:nobody', 'pool:nobody');
\echo :SQLSTATE
SELECT credits_pool_summary(NULL, 'x');
\echo :SQLSTATE
RESET ROLE;

-- what there is, up to an amount, and what caps and limits leave of it
SET credits.test_clock = '2034-01-01 00:00:00+00';
SELECT balance FROM credits_open_account('po.u:1', 10);
SELECT balance FROM credits_open_account('po.u:pool', 100);
SELECT kind FROM credits_add_member('po.u:pool', 'po.u:1', 40);
SET ROLE regress_credits_app;
SELECT account, amount, balance FROM credits_deduct_up_to('po.u:1', 15, 'k1', pool => 'po.u:pool', mode => 'own_first');
SELECT account, amount, balance, replayed FROM credits_deduct_up_to('po.u:1', 15, 'k1', pool => 'po.u:pool', mode => 'own_first');
SELECT account, amount, balance FROM credits_deduct_up_to('po.u:1', 50, pool => 'po.u:pool', mode => 'own_first');
SELECT account, amount, balance FROM credits_deduct_up_to('po.u:1', 50, 'k2', pool => 'po.u:pool');
SELECT account, amount, balance, replayed FROM credits_deduct_up_to('po.u:1', 50, 'k2', pool => 'po.u:pool');
SELECT transaction_id AS none, account, amount, balance, held FROM credits_hold_up_to('po.u:1', 50, pool => 'po.u:pool', mode => 'pool_first') \gset
RESET ROLE;
SELECT kind FROM credits_change_member('po.u:pool', 'po.u:1', 70);
SELECT balance FROM credits_allocate('po.u:1', 12);
SET ROLE regress_credits_app;
SELECT account, amount, balance, held FROM credits_hold_up_to('po.u:1', 100, 'k3', pool => 'po.u:pool', mode => 'pool_first');
RESET ROLE;
SELECT pool, account, cap, used FROM credits.pool_members WHERE pool = 'po.u:pool';
-- limits of either account
SELECT kind FROM credits_change_member('po.u:pool', 'po.u:1', clear => '{cap}');
SELECT balance FROM credits_allocate('po.u:1', 100);
SELECT kind FROM credits_set_limits('po.u:1', max_spend => 50, max_spend_per_day => 30);
SELECT kind FROM credits_set_limits('po.u:pool', max_spend => 45);
SELECT account, amount, balance FROM credits_deduct_up_to('po.u:1', 100);
SELECT account, amount, balance FROM credits_deduct_up_to('po.u:1', 100);
SELECT account, amount, balance FROM credits_deduct_up_to('po.u:1', 100, pool => 'po.u:pool', mode => 'own_first');
SET credits.test_clock = '2034-01-02 00:00:00+00';
SELECT balance FROM credits_allocate('po.u:pool', 100);
SELECT account, amount, balance FROM credits_deduct_up_to('po.u:1', 100, pool => 'po.u:pool', mode => 'own_first');
SELECT account, amount, balance FROM credits_deduct_up_to('po.u:1', 100, pool => 'po.u:pool', mode => 'pool_first');
SELECT a.name, t.kind, t.amount, t.balance_after FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name ~ '^po[.]u:' AND t.kind IN ('deduction', 'hold') ORDER BY t.id;
SELECT * FROM credits_verify() WHERE account ~ '^po[.]';

-- changing one thing leaves the others
SET ROLE regress_credits_admin;
SELECT kind FROM credits_open_account('po.k:pool', 1000);
SELECT kind FROM credits_open_account('po.k:1');
SELECT kind FROM credits_add_member('po.k:pool', 'po.k:1', 100, 'day', 'Asia/Tokyo');
SELECT kind FROM credits_change_member('po.k:pool', 'po.k:1', 50);
SELECT cap, per, timezone FROM credits.pool_members WHERE account = 'po.k:1';
SELECT kind FROM credits_change_member('po.k:pool', 'po.k:1', per => 'week');
SELECT cap, per, timezone FROM credits.pool_members WHERE account = 'po.k:1';
SELECT kind FROM credits_change_member('po.k:pool', 'po.k:1', timezone => 'Europe/Berlin', clear => '{cap}');
SELECT cap, per, timezone FROM credits.pool_members WHERE account = 'po.k:1';
SELECT kind FROM credits_change_member('po.k:pool', 'po.k:1', clear => '{per,timezone}');
SELECT cap, per, timezone FROM credits.pool_members WHERE account = 'po.k:1';
SELECT credits_change_member('po.k:pool', 'po.k:1', 5, clear => '{cap}');
\echo :SQLSTATE
SELECT credits_change_member('po.k:pool', 'po.k:1', clear => '{pool}');
\echo :SQLSTATE
SELECT credits_change_member('po.k:pool', 'po.k:1', clear => '{caps}');
\echo :SQLSTATE
SELECT * FROM credits_verify('po.k:pool');

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
