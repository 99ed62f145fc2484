-- invariants: after a mixed workload, every guarantee recomputed from the
-- tables with plain SQL, and against what the calls answered
BEGIN;
SET LOCAL search_path = public, pg_catalog;
SET LOCAL TimeZone = 'UTC';
SELECT plan(47);

-- what the calls answered, in order
CREATE TEMP TABLE answer (
	n int GENERATED ALWAYS AS IDENTITY,
	at timestamptz,
	call text,
	receipt credits.receipt,
	state text NOT NULL);

-- Spends years of accounts in seconds.  Always the same: the
-- generator is PostgreSQL's with a fixed seed.
CREATE PROCEDURE pg_temp.live(calls int, accounts int) LANGUAGE plpgsql AS $$
DECLARE
	at timestamptz := '2030-01-01 00:00:00+00';
	account text;
	call text;
	key text;
	r credits.receipt;
	choice double precision;
	target bigint;
	again text;
	pool text;
	settled bigint;
	failed bigint;
BEGIN
	PERFORM setseed(0.42);
	PERFORM set_config('credits.test_clock', at::text, true);
	FOR i IN 1..accounts LOOP
		SELECT * INTO r FROM credits_open_account('life:' || i, (random() * 100)::int);
		INSERT INTO answer (at, call, receipt, state) VALUES (at, 'open', r, '00000');
	END LOOP;
	-- two pools, one in the other, and limits
	FOREACH call IN ARRAY ARRAY[
		'credits_add_member(''life:1'', ''life:2'')', 'credits_add_member(''life:1'', ''life:9'', 30, ''day'')',
		'credits_add_member(''life:2'', ''life:3'', 400, ''lifetime'')', 'credits_add_member(''life:2'', ''life:4'', 60, ''month'')',
		'credits_add_member(''life:2'', ''life:5'', 20, ''week'', ''Asia/Tokyo'')', 'credits_add_member(''life:2'', ''life:6'')',
		'credits_set_limits(''life:7'', max_balance => 500, excess => ''clip'', max_spend => 35, max_spend_per_day => 50)',
		'credits_set_limits(''life:2'', max_balance => 2000, min_spend => 2, max_spend_per_month => 600)'] LOOP
		call := 'SELECT * FROM ' || call;
		EXECUTE call INTO r;
		INSERT INTO answer (at, call, receipt, state) VALUES (at, call, r, '00000');
	END LOOP;
	FOR i IN 1..calls LOOP
		-- often several calls at one instant, sometimes a leap
		IF random() < 0.6 THEN
			at := at + random() * interval '1 day';
			IF random() < 0.05 THEN
				at := at + interval '20 days';
			END IF;
			PERFORM set_config('credits.test_clock', at::text, true);
		END IF;
		account := 'life:' || 1 + floor(random() * accounts);
		key := CASE WHEN random() < 0.3 THEN quote_literal('key ' || floor(random() * 200)) ELSE 'NULL' END;
		choice := random();
		target := NULL;
		-- who may pay for others
		pool := '';
		IF random() < 0.4 AND (choice < 0.24 OR choice >= 0.67) THEN
			account := 'life:' || 2 + floor(random() * 6);
			pool := format(', pool => %L, mode => %L', 'life:' || 1 + floor(random() * 2),
				(ARRAY['own_first', 'pool_first', 'pool_only'])[1 + floor(random() * 3)]);
		END IF;
		IF choice < 0.20 THEN
			call := format('SELECT * FROM credits_deduct(%L, %s, %s, %L%s)', account, (1 + random() * 40)::int, key,
				CASE WHEN random() < 0.5 THEN 'chat' ELSE 'image' END, pool);
		ELSIF choice < 0.24 THEN
			call := format('SELECT (t.receipt).* FROM credits_try_deduct(%L, %s, %s%s) AS t', account,
				(1 + random() * 400)::int, key, pool);
		ELSIF choice < 0.40 THEN
			call := format('SELECT * FROM credits_allocate(%L, %s, source => %L, expires_at => %L, effective_at => %L, priority => %s, idempotency_key => %s)', account,
				(1 + random() * 60)::int,
				(ARRAY['manual', 'gift', 'purchase', 'subscription', 'trial'])[1 + floor(random() * 5)],
				CASE WHEN random() < 0.6 THEN at + random() * interval '60 days' + interval '1 second' END,
				CASE WHEN random() < 0.3 THEN at + (random() - 0.3) * interval '30 days' END,
				CASE WHEN random() < 0.2 THEN (random() * 3)::int::text ELSE 'NULL' END, key);
		ELSIF choice < 0.53 THEN
			SELECT t.id INTO target FROM credits.transactions AS t
			WHERE t.kind IN ('deduction', 'capture') ORDER BY random() LIMIT 1;
			call := format('SELECT * FROM credits_refund(%s, %s, %s, expired => %L)', coalesce(target, 0),
				CASE WHEN random() < 0.5 THEN 'NULL' ELSE (1 + random() * 20)::int::text END, key,
				(ARRAY['grace', 'expire', NULL])[1 + floor(random() * 3)]);
		ELSIF choice < 0.58 THEN
			call := format('SELECT * FROM credits_adjust(%L, %s, ''reason'', %s)', account, (random() * 60 - 30)::int, key);
		ELSIF choice < 0.61 THEN
			SELECT g.id INTO target FROM credits.grants AS g WHERE g.remaining > 0 ORDER BY random() LIMIT 1;
			call := format('SELECT * FROM credits_void_grant(%s, ''reason'')', coalesce(target, 0));
		ELSIF choice < 0.63 THEN
			call := format('SELECT * FROM credits_pause_account(%L, ''reason'')', account);
		ELSIF choice < 0.66 THEN
			call := format('SELECT * FROM credits_resume_account(%L, ''reason'')', account);
		ELSIF choice < 0.662 AND i > calls / 2 THEN
			call := format('SELECT * FROM credits_close_account(%L, ''reason'')', account);
		ELSIF choice < 0.67 THEN
			call := format('SELECT * FROM credits_set_alerts(%L, %L)', account, (random() * 30)::int);
		ELSIF choice < 0.79 THEN
			call := format('SELECT * FROM credits_hold(%L, %s, expires_in => %L, idempotency_key => %s%s)', account, (1 + random() * 40)::int,
				(ARRAY['1 hour', '1 day', '3 days', '1 month'])[1 + floor(random() * 4)], key, pool);
		ELSIF choice < 0.93 THEN
			SELECT h.id INTO target FROM credits.hold_states AS h
			WHERE h.status = 'open' OR random() < 0.1 ORDER BY random() LIMIT 1;
			call := CASE
				WHEN choice < 0.87 THEN
					format('SELECT * FROM credits_capture(%s, %s, final => %L, idempotency_key => %s, allow_more => %L)', coalesce(target, 0),
						CASE WHEN random() < 0.4 THEN 'NULL' ELSE (1 + random() * 30)::int::text END,
						random() < 0.6, key, random() < 0.4)
				WHEN choice < 0.91 THEN
					format('SELECT * FROM credits_release(%s, %s)', coalesce(target, 0), key)
				ELSE
					format('SELECT * FROM credits_extend_hold(%s, %L, %s)', coalesce(target, 0),
						(ARRAY['2 hours', '5 days', '2 months'])[1 + floor(random() * 3)], key)
				END;
		ELSIF choice < 0.97 THEN
			call := format('SELECT * FROM credits_transfer(%L, %L, %s, %s)', account,
				'life:' || 1 + floor(random() * accounts), (1 + random() * 40)::int, key);
		ELSIF choice < 0.99 THEN
			SELECT t.id INTO target FROM credits.transactions AS t
			WHERE t.kind = 'transfer' AND t.amount < 0 ORDER BY random() LIMIT 1;
			call := format('SELECT * FROM credits_reverse_transfer(%s, ''reason'', %s, %s)', coalesce(target, 0),
				CASE WHEN random() < 0.5 THEN 'NULL' ELSE (1 + random() * 20)::int::text END, key);
		ELSE
			CALL credits_settle(7, settled, failed);
			CONTINUE;
		END IF;
		-- clients repeat themselves
		IF random() < 0.1 THEN
			SELECT a.call INTO again FROM answer AS a
			WHERE a.call LIKE '%''key %' AND a.state = '00000' ORDER BY random() LIMIT 1;
			call := coalesce(again, call);
		END IF;
		BEGIN
			EXECUTE call INTO r;
			INSERT INTO answer (at, call, receipt, state) VALUES (at, call, r, '00000');
			-- some of what was done is taken back
			IF random() < 0.05 THEN
				RAISE EXCEPTION USING ERRCODE = 'ZZ000';
			END IF;
		EXCEPTION WHEN OTHERS THEN
			INSERT INTO answer (at, call, receipt, state) VALUES (at, call, NULL, SQLSTATE);
		END;
	END LOOP;
	-- something is always still to come
	SELECT name INTO account FROM credits.accounts
	WHERE name LIKE 'life:%' AND status = 'active' AND NOT limited ORDER BY id LIMIT 1;
	FOREACH call IN ARRAY ARRAY['credits_allocate(%L, 5)', 'credits_hold(%L, 5, expires_in => ''1 day'')',
		'credits_allocate(%L, 5, effective_at => credits.now() + interval ''1 day'')'] LOOP
		EXECUTE format('SELECT * FROM ' || call, account) INTO r;
		INSERT INTO answer (at, call, receipt, state) VALUES (at, call, r, '00000');
	END LOOP;
END
$$;
CALL pg_temp.live(5000, 12);
CREATE TEMP VIEW account AS SELECT * FROM credits.accounts WHERE name LIKE 'life:%';
CREATE TEMP TABLE log AS SELECT t.* FROM credits.transactions AS t JOIN account AS a ON a.id = t.account_id;
CREATE TEMP TABLE parcel AS SELECT g.* FROM credits.grants AS g JOIN account AS a ON a.id = g.account_id;
-- what each row moved out of grants or into them: a capture shows once more
-- what its hold had drawn
CREATE TEMP TABLE draw AS
SELECT t.id AS transaction_id, t.account_id, t.kind, i AS ordinal, t.draws[i][1] AS grant_id, t.draws[i][2] AS amount
FROM log AS t, generate_subscripts(t.draws, 1) AS i;
CREATE TEMP TABLE captured AS SELECT * FROM draw WHERE kind = 'capture';
DELETE FROM draw WHERE kind = 'capture';
-- spends and holds that were split over an account and a pool, and captures of them
CREATE TEMP TABLE split AS
SELECT t.id FROM log AS t
WHERE t.kind IN ('deduction', 'hold') AND (t.terms ? 'parts' OR t.target_id IS NOT NULL);
INSERT INTO split SELECT t.id FROM log AS t JOIN split AS s ON s.id = t.target_id WHERE t.kind = 'capture';
CREATE TEMP TABLE held AS
SELECT h.*, t.member_id FROM credits.hold_states AS h JOIN log AS t ON t.id = h.id;
CREATE INDEX ON log (id);
CREATE INDEX ON log (account_id, created_at);
CREATE INDEX ON log (target_id);
CREATE INDEX ON parcel (id);
CREATE INDEX ON draw (grant_id, transaction_id);
CREATE INDEX ON draw (transaction_id);
ANALYZE log, parcel, draw, answer;

-- the workload was one
SELECT cmp_ok((SELECT count(*) FROM log), '>', 1500::bigint, 'there is something to check');
SELECT set_eq($$ SELECT DISTINCT kind FROM log $$,
	ARRAY['opening', 'allocation', 'activation', 'deduction', 'refund', 'expiration', 'adjustment', 'void',
		  'pause', 'resume', 'close', 'alerts', 'hold', 'capture', 'release', 'extension', 'transfer', 'reversal',
		  'limits', 'membership'], 'of every kind');
SELECT set_eq($$ SELECT DISTINCT status FROM parcel $$, ARRAY['pending', 'open', 'used', 'expired', 'voided'],
	'with grants in every state');
SELECT set_eq($$ SELECT DISTINCT status FROM held $$, ARRAY['open', 'captured', 'released', 'expired'],
	'and holds');
SELECT cmp_ok((SELECT count(*) FROM split), '>', 20::bigint, 'some of them split');
SELECT is_empty($$ SELECT state, min(call) FROM answer
	WHERE state NOT IN ('00000', 'ZZ000', 'PT402', 'PT403', 'PT404', 'PT409', 'PT410', 'PT423', '22023') GROUP BY state $$,
	'each refusal has a reason we know');
SELECT cmp_ok((SELECT count(DISTINCT state) FROM answer), '>=', 8::bigint, 'and there were many');
SELECT is_empty($$ SELECT * FROM credits_verify() $$, 'credits_verify finds nothing');

-- guarantee 1: non-negative
SELECT is_empty($$ SELECT * FROM account WHERE balance < 0 OR held < 0 OR granted < 0 OR spent < 0 OR refunded < 0 OR expired < 0 $$,
	'no account is below zero');
SELECT is_empty($$ SELECT * FROM log WHERE balance_after < 0 OR held_after < 0 $$, 'none ever was');
SELECT is_empty($$ SELECT * FROM parcel WHERE remaining < 0 OR remaining > amount OR amount < 1 $$,
	'no grant holds less than nothing or more than it was given');

-- guarantee 2: conservation
SELECT is_empty($$
	SELECT a.name FROM account AS a JOIN log AS t ON t.account_id = a.id
	GROUP BY a.name, a.balance, a.held HAVING sum(t.amount) <> a.balance OR sum(t.held) <> a.held
$$, 'balance and held are the sums of the log');
SELECT is_empty($$
	SELECT a.name FROM account AS a LEFT JOIN parcel AS g ON g.account_id = a.id AND g.status = 'open'
	GROUP BY a.name, a.balance HAVING coalesce(sum(g.remaining), 0) <> a.balance
$$, 'balance is what remains of the effective grants');
SELECT is_empty($$
	SELECT id FROM (
		SELECT id, balance_after, held_after,
			   sum(amount) OVER w AS balance, sum(held) OVER w AS held
		FROM log WINDOW w AS (PARTITION BY account_id ORDER BY id)) AS t
	WHERE balance <> balance_after OR held <> held_after
$$, 'each row carries the balance after it');
SELECT is_empty($$
	SELECT t.id FROM log AS t LEFT JOIN draw AS d ON d.transaction_id = t.id
	GROUP BY t.id, t.amount, t.kind
	HAVING t.kind <> 'capture' AND coalesce(sum(d.amount), 0) <> CASE
		WHEN t.kind = 'activation' THEN 0
		-- of a grant still to come
		WHEN t.kind IN ('allocation', 'void') AND t.amount = 0 THEN min(d.amount)
		ELSE t.amount END
$$, 'the draws of each row add up to its amount');
SELECT is_empty($$
	SELECT t.id FROM log AS t LEFT JOIN captured AS d ON d.transaction_id = t.id WHERE t.kind = 'capture'
	GROUP BY t.id, t.held, t.amount HAVING coalesce(sum(d.amount), 0) <> t.held OR t.amount <> 0
$$, 'those of a capture to what it took from its hold');
SELECT is_empty($$
	SELECT g.id FROM parcel AS g LEFT JOIN draw AS d ON d.grant_id = g.id
	GROUP BY g.id, g.remaining, g.status
	HAVING coalesce(sum(d.amount), 0) <> g.remaining
$$, 'the draws of each grant add up to what remains');
SELECT is_empty($$
	SELECT grant_id FROM (
		SELECT grant_id, sum(amount) OVER (PARTITION BY grant_id ORDER BY transaction_id, ordinal) AS remaining FROM draw) AS d
	JOIN parcel AS g ON g.id = d.grant_id
	WHERE d.remaining < 0 OR d.remaining > g.amount
$$, 'and were never out of its bounds on the way');
SELECT is_empty($$ SELECT d.grant_id FROM draw AS d JOIN credits.grants AS g ON g.id = d.grant_id
	WHERE g.account_id <> d.account_id $$, 'nobody draws on another account''s grant');
SELECT is_empty($$ SELECT transaction_id, ordinal FROM credits.draws EXCEPT
	SELECT t.id, i FROM credits.transactions AS t, generate_subscripts(t.draws, 1) AS i $$, 'the view shows the same draws');
SELECT is_empty($$
	SELECT g.id FROM parcel AS g WHERE
		(g.status = 'open' AND g.remaining = 0) OR (g.status IN ('used', 'expired', 'voided') AND g.remaining > 0)
		OR (g.status = 'pending' AND g.remaining <> g.amount)
$$, 'each grant''s state is what remains of it');

-- lifetime totals
SELECT is_empty($$
	SELECT a.name FROM account AS a JOIN log AS t ON t.account_id = a.id
	GROUP BY a.name, a.spent, a.refunded, a.expired
	HAVING a.spent <> coalesce(-sum(t.amount) FILTER (WHERE t.kind = 'deduction'), 0)
			- coalesce(sum(t.held) FILTER (WHERE t.kind = 'capture'), 0)
		OR a.refunded <> coalesce(sum(t.amount) FILTER (WHERE t.kind = 'refund'), 0)
		OR a.expired <> coalesce(-sum(t.amount) FILTER (WHERE t.kind = 'expiration'), 0)
$$, 'spent, refunded and expired are the sums of their kinds');
SELECT is_empty($$
	SELECT a.name FROM account AS a LEFT JOIN parcel AS g ON g.account_id = a.id
	GROUP BY a.name, a.granted HAVING a.granted <> coalesce(sum(g.amount), 0)
$$, 'granted is the sum of the grants');
SELECT is_empty($$
	SELECT a.name FROM account AS a JOIN log AS t ON t.account_id = a.id
	GROUP BY a.name, a.transaction_count, a.last_transaction_id, a.last_at
	HAVING a.transaction_count <> count(*) OR a.last_transaction_id <> max(t.id) OR a.last_at <> max(t.created_at)
$$, 'each account knows its newest row and how many there are');

-- time
SELECT is_empty($$
	SELECT id FROM (SELECT id, created_at, lag(created_at) OVER (PARTITION BY account_id ORDER BY id) AS before FROM log) AS t
	WHERE created_at < before
$$, 'created_at never runs backwards');
SELECT is_empty($$
	SELECT t.id FROM log AS t JOIN draw AS d ON d.transaction_id = t.id JOIN parcel AS g ON g.id = d.grant_id
	WHERE t.kind = 'expiration' AND t.target_id IS NULL
	  AND t.created_at NOT IN (coalesce(g.expires_at, 'infinity'), coalesce(g.granted_until, 'infinity'))
	  -- a grace may have moved it more than once
	  AND g.granted_until IS NULL
$$, 'what expires, expires at its instant');
SELECT is_empty($$
	SELECT t.id FROM log AS t JOIN draw AS d ON d.transaction_id = t.id JOIN parcel AS g ON g.id = d.grant_id
	WHERE t.kind = 'activation' AND t.created_at <> g.effective_at
$$, 'what becomes effective, becomes so at its instant');
SELECT is_empty($$
	SELECT t.id FROM log AS t JOIN draw AS d ON d.transaction_id = t.id JOIN parcel AS g ON g.id = d.grant_id
	WHERE (t.kind IN ('deduction', 'hold') OR (t.kind = 'transfer' AND t.amount < 0)) AND (t.created_at < g.effective_at OR t.created_at >= g.expires_at)
$$, 'nothing was spent before its time or after it');
SELECT is_empty($$
	SELECT a.name FROM account AS a JOIN parcel AS g ON g.account_id = a.id
	WHERE (g.status = 'open' AND g.expires_at < a.due_at) OR (g.status = 'pending' AND g.effective_at < a.due_at)
	UNION ALL
	SELECT a.name FROM account AS a JOIN held AS h ON h.account_id = a.id
	WHERE h.status = 'open' AND h.expires_at < a.due_at
	UNION ALL
	SELECT a.name FROM account AS a JOIN credits.subscriptions AS s ON s.account_id = a.id
	WHERE s.due_at < COALESCE(a.renews_at, 'infinity')
$$, 'no account is due later than its grants, its holds and its subscriptions');

-- burn order: within a spend by priority; and no grant that should have gone first was left
SELECT is_empty($$
	SELECT transaction_id FROM (
		SELECT d.transaction_id, g.priority, lag(g.priority) OVER (PARTITION BY d.transaction_id ORDER BY d.ordinal) AS before
		FROM draw AS d JOIN parcel AS g ON g.id = d.grant_id
		WHERE d.kind IN ('deduction', 'hold') OR (d.kind IN ('adjustment', 'transfer') AND d.amount < 0)) AS s
	WHERE priority < before
$$, 'spends draw on lower priorities first');
SELECT is_empty($$
	SELECT s.id, g.id FROM log AS s
	JOIN LATERAL (SELECT max(p.priority) AS priority FROM draw AS d JOIN parcel AS p ON p.id = d.grant_id
				  WHERE d.transaction_id = s.id) AS worst ON true
	JOIN parcel AS g ON g.account_id = s.account_id AND g.priority < worst.priority
		AND g.effective_at <= s.created_at
	JOIN LATERAL (SELECT coalesce(sum(d.amount), 0) AS remaining FROM draw AS d
				  WHERE d.grant_id = g.id AND d.transaction_id <= s.id) AS after ON true
	WHERE (s.kind IN ('deduction', 'hold') OR (s.kind = 'transfer' AND s.amount < 0)) AND after.remaining > 0
$$, 'and leave nothing of those behind');

-- refunds, and transfers sent back
CREATE TEMP TABLE taken AS
SELECT d.* FROM draw AS d WHERE d.kind IN ('deduction', 'transfer') UNION ALL SELECT * FROM captured;
SELECT is_empty($$
	SELECT s.id FROM log AS s JOIN log AS r ON r.target_id = s.id AND r.kind = 'refund'
	GROUP BY s.id, s.amount, s.held, s.kind
	HAVING sum(r.amount) > -s.amount - s.held OR s.kind NOT IN ('deduction', 'capture')
$$, 'no spend was refunded above what it was');
SELECT is_empty($$
	SELECT s.id FROM log AS s JOIN log AS r ON r.target_id = s.id AND r.kind = 'reversal'
	GROUP BY s.id, s.amount, s.kind HAVING abs(sum(r.amount)) > abs(s.amount) OR s.kind <> 'transfer'
$$, 'nor was more of a transfer sent back');
SELECT is_empty($$
	SELECT s.transaction_id, s.grant_id FROM taken AS s
	JOIN log AS r ON r.target_id = s.transaction_id AND r.kind IN ('refund', 'reversal')
	JOIN draw AS d ON d.transaction_id = r.id AND d.grant_id = s.grant_id
	GROUP BY s.transaction_id, s.grant_id, s.amount HAVING abs(sum(d.amount)) > abs(s.amount)
$$, 'nor any grant given back more than was drawn from it');
SELECT is_empty($$
	SELECT r.id FROM log AS r JOIN draw AS d ON d.transaction_id = r.id
	WHERE r.kind IN ('refund', 'reversal') AND NOT EXISTS (
		SELECT FROM taken AS s WHERE s.transaction_id = r.target_id AND s.grant_id = d.grant_id)
$$, 'nor one that had not been drawn from');
SELECT is_empty($$
	SELECT t.id FROM log AS t JOIN log AS o ON o.id = t.target_id
	WHERE t.kind = 'transfer' AND (o.kind <> 'transfer' OR o.amount <> -t.amount OR o.created_at <> t.created_at)
$$, 'what one gives in a transfer, the other gets');

-- holds
SELECT is_empty($$
	SELECT h.id FROM held AS h JOIN log AS t ON t.id = h.id OR t.target_id = h.id
		OR t.target_id IN (SELECT c.id FROM log AS c WHERE c.target_id = h.id AND c.kind = 'capture' AND t.kind = 'release')
	GROUP BY h.id, h.reserved, h.captured, h.released, h.status
	HAVING h.reserved <> sum(t.held) FILTER (WHERE t.kind = 'hold' AND t.account_id = h.account_id AND t.held > 0
			AND (t.id = h.id OR t.id NOT IN (SELECT id FROM held)))
		OR h.captured <> coalesce(-sum(t.held) FILTER (WHERE t.kind = 'capture'), 0)
		OR h.released <> coalesce(-sum(t.held) FILTER (WHERE t.kind = 'release'), 0)
		OR (h.status = 'open') <> (h.captured + h.released < h.reserved)
$$, 'what became of each hold is the sum of its rows');
SELECT is_empty($$
	SELECT a.name FROM account AS a LEFT JOIN held AS h ON h.account_id = a.id
	GROUP BY a.name, a.held HAVING a.held <> coalesce(sum(h.reserved - h.captured - h.released), 0)
$$, 'held is what is left of the holds');

-- pools: what a member has spent or holds, less what came back
SELECT is_empty($$
	SELECT m.pool, m.account FROM credits.pool_members AS m WHERE m.cap < m.used
$$, 'no cap is exceeded');
SELECT is_empty($$
	SELECT m.pool_id, m.account_id, m.used FROM credits.members AS m
	-- from the pool itself, or through it from the one above
	LEFT JOIN log AS t ON t.member_id = m.account_id
	WHERE m.per = 'lifetime'
	GROUP BY m.pool_id, m.account_id, m.used HAVING m.used <> coalesce(-sum(t.amount), 0)
$$, 'and one for a lifetime counts all');

-- idempotency
SELECT is_empty($$ SELECT coalesce(member_id, account_id), idempotency_key FROM log WHERE idempotency_key IS NOT NULL
	GROUP BY 1, 2 HAVING count(*) > 1 $$, 'a key has one effect');
SELECT cmp_ok((SELECT count(*) FROM answer WHERE (receipt).replayed), '>', 10::bigint, 'keys were replayed');
SELECT is_empty($$
	SELECT a.n FROM answer AS a JOIN answer AS first
		ON (first.receipt).transaction_id = (a.receipt).transaction_id AND first.n < a.n AND NOT (first.receipt).replayed
	WHERE (a.receipt).replayed AND
		((a.receipt).account, (a.receipt).kind, (a.receipt).amount, (a.receipt).balance, (a.receipt).held, (a.receipt).created_at)
		IS DISTINCT FROM ((first.receipt).account, (first.receipt).kind, (first.receipt).amount,
						  (first.receipt).balance, (first.receipt).held, (first.receipt).created_at)
$$, 'a replay answers what the first call answered');

-- what was answered is what is there
SELECT is_empty($$
	SELECT a.n, a.call FROM answer AS a
	LEFT JOIN log AS t ON t.id = (a.receipt).transaction_id
	WHERE a.state = '00000' AND a.receipt IS NOT NULL AND (a.receipt).transaction_id IS NOT NULL
	  AND (t.kind, t.amount, t.created_at) IS DISTINCT FROM ((a.receipt).kind, (a.receipt).amount, (a.receipt).created_at)
	  -- one that was split says what was moved in all
	  AND (t.terms ->> 'total')::bigint IS DISTINCT FROM (a.receipt).amount
$$, 'each receipt is a row of the log');
SELECT is_empty($$
	SELECT t.id FROM log AS t
	WHERE t.kind NOT IN ('activation', 'expiration') AND NOT (t.kind = 'void' AND t.target_id IS NOT NULL)
	  -- a hold that timed out, or the rest of one that was captured
	  AND NOT (t.kind = 'release' AND t.target_id NOT IN (SELECT h.id FROM held AS h WHERE h.status = 'released'))
	  -- the other row of two
	  AND NOT (t.kind IN ('transfer', 'reversal') AND t.idempotency_key IS NULL)
	  AND t.id NOT IN (SELECT s.id FROM split AS s)
	  AND coalesce(t.target_id, 0) NOT IN (SELECT s.id FROM split AS s)
	  AND NOT EXISTS (SELECT FROM answer AS a WHERE (a.receipt).transaction_id = t.id)
$$, 'each row of the log was answered, or is the clock''s');

-- reading
SELECT is_empty($$
	SELECT a.name FROM account AS a
	WHERE credits_balance(a.name) <> (SELECT s.balance FROM credits_summary(a.name) AS s)
	   OR credits_balance(a.name) <> credits_balance_at(a.name, greatest(credits.now(), a.last_at))
$$, 'three ways to read a balance, one answer');
SELECT is_empty($$
	SELECT a.name, i.at FROM account AS a,
		(SELECT '2030-01-01'::timestamptz + n * interval '101 hours' AS at FROM generate_series(0, 250) AS n) AS i
	WHERE i.at <= a.last_at AND credits_balance_at(a.name, i.at) <> coalesce(
		(SELECT sum(t.amount) FROM log AS t WHERE t.account_id = a.id AND t.created_at <= i.at), 0)
$$, 'the balance at any past instant is the sum of the log until then');

SELECT * FROM finish();
ROLLBACK;
