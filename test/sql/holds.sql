-- holds: reserving, capturing, releasing, extending; time, refunds, damage
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
-- whatever other tests left due
SET credits.test_clock = '2036-01-01 00:00:00+00';
CALL credits_settle() \gset
ALTER SEQUENCE credits.accounts_id_seq RESTART 710001;
ALTER SEQUENCE credits.grants_id_seq RESTART 710001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 710001;
ALTER SEQUENCE credits.events_id_seq RESTART 710001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('hold:1', 100);
SET ROLE regress_credits_app;

-- hold, capture all of it
SELECT * FROM credits_hold('hold:1', 30);
SELECT credits_balance('hold:1');
SELECT balance, held, spent FROM credits_summary('hold:1');
SELECT * FROM credits_capture(710002);
SELECT balance, held, spent FROM credits_summary('hold:1');
-- with everything
RESET ROLE;
SET credits.test_clock = '2030-01-01 00:01:00+00';
SET ROLE regress_credits_app;
SELECT * FROM credits_hold(account => 'hold:1', amount => 20, expires_in => '1 hour',
	idempotency_key => 'h1', operation => 'render', reference => 'job:1', metadata => '{"a": 1}');
SELECT * FROM credits_extend_hold(hold_id => 710004, expires_in => '2 hours',
	idempotency_key => 'e1', account => 'hold:1');
SELECT * FROM credits_capture(hold_id => 710004, amount => 5, final => false,
	idempotency_key => 'c1', allow_more => false, reference => 'part:1', metadata => '{"b": 1}',
	account => 'hold:1');
SELECT * FROM credits_release(hold_id => 710004, idempotency_key => 'r1', reason => 'failed',
	metadata => '{"c": 1}', account => 'hold:1');
SELECT credits_hold('hold:1', 1) IS NULL;
SELECT transaction_id, created_at, kind, amount, held, balance, operation, reference,
	   reason, metadata, target_id, idempotency_key
FROM credits_history('hold:1');
RESET ROLE;
SELECT * FROM credits.holds WHERE account = 'hold:1' ORDER BY hold_id;
SELECT transaction_id, grant_id, amount FROM credits.draws
WHERE account_id = 710001 ORDER BY transaction_id, ordinal;
SELECT id, terms FROM credits.transactions WHERE account_id = 710001 AND id > 710001 ORDER BY id;
SELECT balance, held, granted, spent, transaction_count FROM credits.accounts WHERE id = 710001;
SELECT * FROM credits_verify('hold:1');
SET ROLE regress_credits_app;

-- replays: the first receipt, whatever happened since; nothing is written
SELECT * FROM credits_hold('hold:1', 20, 'h1', 'render', 'job:1', expires_in => '1 hour');
SELECT * FROM credits_hold('hold:1', 20, 'h1', 'render', 'job:1', '{"other": true}', '60 minutes');
SELECT * FROM credits_extend_hold(710004, '2 hours', 'e1');
SELECT * FROM credits_capture(710004, 5, 'c1', final => false, reference => 'part:1');
SELECT * FROM credits_release(710004, 'r1');
-- the same key for anything else
SELECT credits_hold('hold:1', 21, 'h1', 'render', 'job:1', expires_in => '1 hour');
\echo :SQLSTATE
SELECT credits_hold('hold:1', 20, 'h1', 'render', 'job:1', expires_in => '2 hours');
\echo :SQLSTATE
SELECT credits_hold('hold:1', 20, 'h1', reference => 'job:1', expires_in => '1 hour');
\echo :SQLSTATE
SELECT credits_hold('hold:1', 20, 'h1', 'render', expires_in => '1 hour');
\echo :SQLSTATE
SELECT credits_deduct('hold:1', 20, 'h1', 'render', 'job:1');
\echo :SQLSTATE
SELECT credits_extend_hold(710004, '3 hours', 'e1');
\echo :SQLSTATE
SELECT credits_capture(710004, 6, 'c1', final => false, reference => 'part:1');
\echo :SQLSTATE
SELECT credits_capture(710004, NULL, 'c1', final => false, reference => 'part:1');
\echo :SQLSTATE
SELECT credits_capture(710004, 5, 'c1', final => true, reference => 'part:1');
\echo :SQLSTATE
SELECT credits_capture(710004, 5, 'c1', final => false, allow_more => true, reference => 'part:1');
\echo :SQLSTATE
SELECT credits_capture(710004, 5, 'c1', final => false);
\echo :SQLSTATE
SELECT credits_capture(710002, 5, 'c1', final => false, reference => 'part:1');
\echo :SQLSTATE
SELECT credits_release(710004, 'c1');
\echo :SQLSTATE
SELECT credits_release(710002, 'r1');
\echo :SQLSTATE
SELECT credits_capture(710004, idempotency_key => 'r1');
\echo :SQLSTATE
-- what failed keeps no key
SELECT credits_capture(710002, idempotency_key => 'late');
\echo :SQLSTATE
SELECT replayed FROM credits_hold('hold:1', 1, idempotency_key => 'late');

-- a hold that is over
SELECT credits_capture(710002);
\echo :SQLSTATE
SELECT credits_capture(710004, 1);
\echo :SQLSTATE
SELECT credits_release(710002);
\echo :SQLSTATE
SELECT credits_extend_hold(710002);
\echo :SQLSTATE
-- no hold
SELECT credits_capture(710001);
\echo :SQLSTATE
SELECT credits_capture(710003);
\echo :SQLSTATE
SELECT credits_release(710006);
\echo :SQLSTATE
SELECT credits_extend_hold(710005);
\echo :SQLSTATE
SELECT credits_capture(459999);
\echo :SQLSTATE
SELECT credits_release(0);
\echo :SQLSTATE
SELECT credits_extend_hold(-1);
\echo :SQLSTATE
SELECT credits_capture(9223372036854775807);
\echo :SQLSTATE
SELECT credits_capture(NULL);
\echo :SQLSTATE
SELECT credits_release(NULL);
\echo :SQLSTATE
SELECT credits_extend_hold(NULL);
\echo :SQLSTATE
-- a hold of another account
RESET ROLE;
SELECT kind, balance FROM credits_open_account('hold:2', 100);
SET ROLE regress_credits_app;
SELECT transaction_id AS id FROM credits_hold('hold:1', 10) \gset
SELECT credits_capture(:id, account => 'hold:2');
\echo :SQLSTATE
SELECT credits_release(:id, account => 'hold:2');
\echo :SQLSTATE
SELECT credits_extend_hold(:id, '1 hour', account => 'hold:2');
\echo :SQLSTATE
SELECT credits_capture(:id, account => 'hold:none');
\echo :SQLSTATE
SELECT credits_capture(:id, account => '');
\echo :SQLSTATE
SELECT amount, balance, held FROM credits_release(:id, account => 'hold:1');

-- bad arguments
SELECT credits_hold(NULL, 1);
\echo :SQLSTATE
SELECT credits_hold('', 1);
\echo :SQLSTATE
SELECT credits_hold('hold:none', 1);
\echo :SQLSTATE
SELECT credits_hold('hold:1', NULL);
\echo :SQLSTATE
SELECT credits_hold('hold:1', 0);
\echo :SQLSTATE
SELECT credits_hold('hold:1', -1);
\echo :SQLSTATE
SELECT credits_hold('hold:1', 1, expires_in => NULL);
\echo :SQLSTATE
SELECT credits_hold('hold:1', 1, expires_in => '0');
\echo :SQLSTATE
SELECT credits_hold('hold:1', 1, expires_in => '-1 second');
\echo :SQLSTATE
SELECT credits_hold('hold:1', 1, expires_in => '1 month -1 day');
\echo :SQLSTATE
SELECT credits_hold('hold:1', 1, expires_in => '1001 years');
\echo :SQLSTATE
SELECT credits_hold('hold:1', 1, idempotency_key => '');
\echo :SQLSTATE
SELECT credits_hold('hold:1', 1, idempotency_key => repeat('x', 256));
\echo :SQLSTATE
SELECT credits_hold('hold:1', 1, operation => repeat('x', 256));
\echo :SQLSTATE
SELECT credits_hold('hold:1', 1, reference => '');
\echo :SQLSTATE
SELECT credits_hold('hold:1', 1, metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
SELECT credits_hold('hold:1', 1000);
\echo :SQLSTATE
SELECT credits_hold('hold:1', 9223372036854775807);
\echo :SQLSTATE
SELECT transaction_id AS id FROM credits_hold('hold:1', 10, expires_in => '1 hour') \gset
SELECT credits_capture(:id, -9223372036854775808);
\echo :SQLSTATE
SELECT credits_capture(:id, final => NULL);
\echo :SQLSTATE
SELECT credits_capture(:id, allow_more => NULL);
\echo :SQLSTATE
SELECT credits_capture(:id, idempotency_key => '');
\echo :SQLSTATE
SELECT credits_capture(:id, reference => repeat('x', 256));
\echo :SQLSTATE
SELECT credits_capture(:id, metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
SELECT credits_release(:id, repeat('x', 256));
\echo :SQLSTATE
SELECT credits_release(:id, reason => repeat('x', 1001));
\echo :SQLSTATE
SELECT credits_release(:id, reason => '');
\echo :SQLSTATE
SELECT credits_release(:id, metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
SELECT credits_extend_hold(:id, NULL);
\echo :SQLSTATE
SELECT credits_extend_hold(:id, '-1 hour');
\echo :SQLSTATE
-- extend: only to later
SELECT credits_extend_hold(:id, '1 hour');
\echo :SQLSTATE
SELECT credits_extend_hold(:id, '59 minutes');
\echo :SQLSTATE
SELECT kind, amount, balance, held FROM credits_extend_hold(:id, '01:00:00.000001');
SELECT kind, amount, balance, held FROM credits_extend_hold(:id, '1000 years');
RESET ROLE;
SELECT status, remaining, expires_at FROM credits.holds WHERE hold_id = :id;
SET ROLE regress_credits_app;
-- more than is held
SELECT credits_capture(:id, 11);
\echo :SQLSTATE
SELECT credits_capture(:id, 9223372036854775807);
\echo :SQLSTATE
SELECT credits_capture(:id, 9223372036854775807, allow_more => true);
\echo :SQLSTATE
SELECT amount, balance, held FROM credits_release(:id);
SELECT credits_balance('hold:1');
RESET ROLE;
SELECT * FROM credits_verify('hold:1');

-- several captures, in the order of the draws, over several grants
SELECT kind, balance FROM credits_allocate('hold:2', 10, source => 'promotional', expires_at => '2030-06-01');
SELECT kind, balance FROM credits_allocate('hold:2', 20, source => 'subscription', expires_at => '2030-06-01');
SELECT max(id) - 1 AS promo, max(id) AS plan FROM credits.grants WHERE account_id = 710002 \gset
SET ROLE regress_credits_app;
SELECT transaction_id AS id, balance, held FROM credits_hold('hold:2', 50) \gset
SELECT kind, amount, balance, held FROM credits_capture(:id, 5, final => false);
SELECT kind, amount, balance, held FROM credits_capture(:id, 7, final => false);
SELECT kind, amount, balance, held FROM credits_capture(:id, 1, final => false);
SELECT credits_capture(:id, 38, final => false);
\echo :SQLSTATE
-- the rest goes back in the same call, and the receipt shows the end of it, also when it is replayed
SELECT kind, amount, balance, held, replayed FROM credits_capture(:id, 20, idempotency_key => 'last');
SELECT kind, amount, balance, held, replayed FROM credits_capture(:id, 20, idempotency_key => 'last');
RESET ROLE;
SELECT transaction_id - :id AS transaction, kind, grant_id - 710000 AS grant, amount
FROM credits.draws WHERE account_id = 710002 AND transaction_id >= :id ORDER BY transaction_id, ordinal;
SELECT id - :id AS transaction, kind, amount, held, balance_after, held_after, target_id - :id AS target
FROM credits.transactions WHERE account_id = 710002 AND id >= :id ORDER BY id;
SELECT status, reserved, captured, released, remaining FROM credits.holds WHERE hold_id = :id;
SELECT id - 710000 AS id, remaining, status FROM credits.grants WHERE account_id = 710002 ORDER BY id;
-- captured bit by bit to the end: the hold is over without a final capture
SET ROLE regress_credits_app;
SELECT transaction_id AS id FROM credits_hold('hold:2', 2) \gset
SELECT held FROM credits_capture(:id, 1, final => false);
SELECT held FROM credits_capture(:id, final => false);
SELECT credits_capture(:id, final => false);
\echo :SQLSTATE
RESET ROLE;
SELECT status, reserved, captured, released, remaining FROM credits.holds WHERE hold_id = :id;
SELECT * FROM credits_verify('hold:2');

-- more than was held: from the balance, or nothing at all
SELECT kind, balance FROM credits_open_account('hold:3');
SELECT kind, balance FROM credits_allocate('hold:3', 10, source => 'promotional');
SELECT kind, balance FROM credits_allocate('hold:3', 10, source => 'purchase');
SET ROLE regress_credits_app;
SELECT transaction_id AS id FROM credits_hold('hold:3', 8) \gset
SELECT credits_capture(:id, 21, allow_more => true);
\echo :SQLSTATE
SELECT balance, held FROM credits_summary('hold:3');
-- grant 1 is drawn on twice: by the hold and by what is added to it
SELECT kind, amount, balance, held, replayed
FROM credits_capture(:id, 13, idempotency_key => 'more', allow_more => true);
SELECT kind, amount, balance, held, replayed
FROM credits_capture(:id, 13, idempotency_key => 'more', allow_more => true);
RESET ROLE;
SELECT id - :id AS transaction, kind, amount, held, balance_after, held_after, target_id - :id AS target, draws
FROM credits.transactions WHERE account_id = 710003 AND id >= :id ORDER BY id;
SELECT status, reserved, captured, released, remaining FROM credits.holds WHERE hold_id = :id;
SELECT spent FROM credits.accounts WHERE id = 710003;
SET ROLE regress_credits_app;
-- what was added is no hold of its own
SELECT credits_release(:id + 1);
\echo :SQLSTATE
-- a refund of all of it: partial, repeated, last drawn first, never more
SELECT credits_refund(:id, 1);
\echo :SQLSTATE
SELECT amount, balance FROM credits_refund(:id + 2, 2);
SELECT amount, balance FROM credits_refund(:id + 2, 4);
SELECT credits_refund(:id + 2, 8);
\echo :SQLSTATE
SELECT amount, balance FROM credits_refund(:id + 2);
SELECT credits_refund(:id + 2);
\echo :SQLSTATE
RESET ROLE;
SELECT transaction_id - :id AS transaction, grant_id, amount FROM credits.draws
WHERE account_id = 710003 AND kind = 'refund' ORDER BY transaction_id, ordinal;
SELECT id, remaining, status FROM credits.grants WHERE account_id = 710003 ORDER BY id;
SELECT spent, refunded FROM credits.accounts WHERE id = 710003;
-- allow_more where the hold is enough anyway, and with a rest that goes back
SET ROLE regress_credits_app;
SELECT transaction_id AS id FROM credits_hold('hold:3', 8) \gset
SELECT balance, held FROM credits_capture(:id, 3, final => false, allow_more => true);
SELECT balance, held FROM credits_capture(:id, 4, allow_more => true);
-- not final, and more than is left: the hold is over all the same
SELECT transaction_id AS id FROM credits_hold('hold:3', 2) \gset
SELECT balance, held FROM credits_capture(:id, 1, final => false);
SELECT balance, held FROM credits_capture(:id, 3, final => false, allow_more => true);
RESET ROLE;
SELECT status, reserved, captured, released, remaining FROM credits.holds WHERE hold_id = :id;
SELECT * FROM credits_verify('hold:3');

-- time: judged when the call comes, whether or not anybody has settled
SET credits.test_clock = '2030-02-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('hold:4', 100);
SELECT transaction_id AS id FROM credits_hold('hold:4', 60, expires_in => '1 day') \gset
SELECT balance FROM credits_deduct('hold:4', 10);
SELECT t, credits_balance_at('hold:4', t)
FROM (VALUES ('2030-01-31'::timestamptz), ('2030-02-01'), ('2030-02-01 23:59:59.999999'),
			 ('2030-02-02'), ('infinity')) AS v (t);
SET credits.test_clock = '2030-02-01 23:59:59.999999+00';
SELECT credits_balance('hold:4');
SELECT balance, held FROM credits_summary('hold:4');
SELECT status, released, remaining FROM credits.holds WHERE hold_id = :id;
SELECT held FROM credits_capture(:id, 20, final => false);
SET credits.test_clock = '2030-02-02 00:00:00+00';
SELECT credits_balance('hold:4');
SELECT balance, held, spent FROM credits_summary('hold:4');
SELECT status, captured, released, remaining FROM credits.holds WHERE hold_id = :id;
SELECT status, captured, released FROM credits.hold_states WHERE id = :id;
SELECT t, credits_balance_at('hold:4', t)
FROM (VALUES ('2030-02-01'::timestamptz), ('2030-02-01 23:59:59.999999'),
			 ('2030-02-02'), ('infinity')) AS v (t);
SET ROLE regress_credits_app;
SELECT credits_capture(:id);
\echo :SQLSTATE
SELECT credits_capture(:id, 1, allow_more => true);
\echo :SQLSTATE
SELECT credits_release(:id);
\echo :SQLSTATE
SELECT credits_extend_hold(:id, '2 days');
\echo :SQLSTATE
-- refusing settles nothing
RESET ROLE;
SELECT status FROM credits.hold_states WHERE id = :id;
SELECT * FROM credits_verify('hold:4');
-- what it gave back can be spent
SELECT amount, balance, held FROM credits_deduct('hold:4', 70);
SELECT kind, created_at, amount, held, balance, target_id - :id AS target FROM credits_history('hold:4') ORDER BY transaction_id;
SELECT status, captured, released, remaining FROM credits.holds WHERE hold_id = :id;
SELECT credits_capture(:id);
\echo :SQLSTATE
SELECT due_at FROM credits.accounts WHERE name = 'hold:4';
SELECT * FROM credits_verify('hold:4');

-- credits_settle alone brings it into the log, at the instant at which it happened
SELECT kind, balance FROM credits_open_account('hold:5', 100);
SELECT transaction_id AS id FROM credits_hold('hold:5', 10, expires_in => '1 hour') \gset
SELECT transaction_id AS later FROM credits_hold('hold:5', 20, expires_in => '2 hours') \gset
SELECT due_at FROM credits.accounts WHERE name = 'hold:5';
SELECT kind FROM credits_extend_hold(:id, '3 hours');
SELECT due_at FROM credits.accounts WHERE name = 'hold:5';
SET credits.test_clock = '2030-02-02 01:00:00+00';
CALL credits_settle() \gset
SELECT due_at FROM credits.accounts WHERE name = 'hold:5';
SET credits.test_clock = '2030-02-02 02:30:00+00';
CALL credits_settle() \gset
SELECT due_at FROM credits.accounts WHERE name = 'hold:5';
SELECT held FROM credits_capture(:id, 4, final => false);
SET credits.test_clock = '2030-03-01 00:00:00+00';
CALL credits_settle() \gset
SELECT due_at FROM credits.accounts WHERE name = 'hold:5';
SELECT kind, created_at, amount, held, balance FROM credits_history('hold:5') ORDER BY transaction_id;
SELECT id - :id AS id, status, captured, released FROM credits.hold_states WHERE account_id = 710005 ORDER BY id;
SELECT * FROM credits_verify('hold:5');

-- holds and grants whose time runs out in every order, settled at each instant,
-- at the end, or never: the same log, and the same answers
SELECT count(*) FROM generate_series(1, 3) AS i, LATERAL credits_open_account('order:' || i);
CREATE TEMP TABLE instants (t) AS
SELECT '2030-03-01'::timestamptz + i * interval '6 hours' FROM generate_series(0, 20) AS i;
CREATE TEMP VIEW orders AS SELECT name, id FROM credits.accounts WHERE name LIKE 'order:%';
SELECT o.name, min(r.balance) FROM orders AS o,
	-- burnt in this order; all but the last two are under the holds
	LATERAL (VALUES (10, '2030-03-02'), (20, '2030-03-03'), (30, '2030-03-04'), (40, '2030-03-05'), (50, NULL)) AS v (n, until),
	LATERAL credits_allocate(o.name, v.n, expires_at => v.until::timestamptz) AS r
GROUP BY o.name ORDER BY o.name;
SELECT o.name, r.balance FROM orders AS o,
	LATERAL credits_allocate(o.name, 7, source => 'gift', expires_at => '2030-03-03 06:00', effective_at => '2030-03-01 12:00') AS r ORDER BY o.name;
-- one that ends with a grant, one before, one after some; one far away
SELECT o.name, r.transaction_id - 710000 AS hold, r.balance, r.held FROM orders AS o,
	LATERAL (VALUES (15, '1 day'), (35, '2 days 12 hours'), (5, '3 days'), (45, '36 hours'), (10, '5 years')) AS v (n, span),
	LATERAL credits_hold(o.name, v.n, expires_in => v.span::interval) AS r ORDER BY r.transaction_id;
CREATE TEMP TABLE foreseen AS SELECT o.name, t, credits_balance_at(o.name, t) AS balance FROM orders AS o, instants;
CREATE TEMP TABLE answers (name text, t timestamptz, balance bigint, at bigint, held bigint, expiring bigint,
	expiring_at timestamptz, left_in_holds bigint);
DO $$
DECLARE
	i timestamptz;
BEGIN
	FOR i IN SELECT t FROM instants ORDER BY t LOOP
		PERFORM set_config('credits.test_clock', i::text, false);
		PERFORM credits_set_alerts('order:1', '');
		INSERT INTO answers SELECT o.name, i, credits_balance(o.name), credits_balance_at(o.name, i),
			s.held, s.expiring_amount, s.expiring_at,
			(SELECT sum(remaining) FROM credits.holds AS h WHERE h.account = o.name)
		FROM orders AS o, LATERAL credits_summary(o.name) AS s;
		IF i = '2030-03-04 00:00' THEN
			PERFORM credits_set_alerts('order:2', '');
		END IF;
	END LOOP;
END
$$;
SELECT t, balance, held, expiring, expiring_at FROM answers WHERE name = 'order:1' ORDER BY t;
-- three accounts, one answer at each instant
SELECT t, count(DISTINCT (balance, held, expiring, expiring_at)), bool_and(at = balance AND held = left_in_holds)
FROM answers GROUP BY t HAVING count(DISTINCT (balance, held, expiring, expiring_at)) <> 1 OR NOT bool_and(at = balance AND held = left_in_holds);
SELECT f.name, f.t, f.balance, a.balance FROM foreseen AS f JOIN answers AS a USING (name, t) WHERE f.balance <> a.balance;
SELECT f.name, f.t, f.balance, credits_balance_at(f.name, f.t) FROM foreseen AS f WHERE f.balance <> credits_balance_at(f.name, f.t);
CALL credits_settle() \gset
SELECT f.name, f.t, f.balance, credits_balance_at(f.name, f.t) FROM foreseen AS f WHERE f.balance <> credits_balance_at(f.name, f.t);
SELECT o.name, md5(string_agg(format('%s %s %s %s %s', t.created_at, t.kind, t.amount, t.held,
	(SELECT string_agg(format('%s %s', g.amount, d.amount), ',' ORDER BY d.ordinal) FROM credits.draws AS d JOIN credits.grants AS g ON g.id = d.grant_id
	 WHERE d.transaction_id = t.id)), E'\n' ORDER BY t.id))
	= first_value(md5(string_agg(format('%s %s %s %s %s', t.created_at, t.kind, t.amount, t.held,
	(SELECT string_agg(format('%s %s', g.amount, d.amount), ',' ORDER BY d.ordinal) FROM credits.draws AS d JOIN credits.grants AS g ON g.id = d.grant_id
	 WHERE d.transaction_id = t.id)), E'\n' ORDER BY t.id))) OVER (ORDER BY o.name DESC) AS same
FROM orders AS o JOIN credits.transactions AS t ON t.account_id = o.id AND t.kind <> 'alerts' GROUP BY o.name;
SELECT t.created_at, t.kind, t.amount, t.held, t.balance_after, t.held_after, t.target_id - min(t.id) OVER () AS target,
	(SELECT string_agg(format('%s: %s', g.amount, d.amount), ', ' ORDER BY d.ordinal) FROM credits.draws AS d JOIN credits.grants AS g ON g.id = d.grant_id
	 WHERE d.transaction_id = t.id) AS draws
FROM credits.transactions AS t JOIN orders AS o ON o.id = t.account_id WHERE o.name = 'order:3' ORDER BY t.id;
SELECT h.reserved, h.status, h.captured, h.released, h.expires_at FROM credits.holds AS h WHERE account = 'order:3' ORDER BY hold_id;
SELECT o.name, v.* FROM orders AS o, LATERAL credits_verify(o.name) AS v;

-- what a release gives back burns in its turn again
SET credits.test_clock = '2030-04-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('hold:6', 100);
SELECT balance FROM credits_allocate('hold:6', 10, source => 'promotional', expires_at => '2030-05-01');
SELECT transaction_id AS id FROM credits_hold('hold:6', 25, expires_in => '1 day') \gset
SET credits.test_clock = '2030-04-02 00:00:00+00';
SELECT transaction_id AS spend, balance FROM credits_deduct('hold:6', 12) \gset
SELECT g.source, d.amount FROM credits.draws AS d JOIN credits.grants AS g ON g.id = d.grant_id
WHERE d.transaction_id = :spend ORDER BY ordinal;
-- a grant that expires under a hold: what is captured is spent, what is not is lost at once
SELECT balance FROM credits_allocate('hold:6', 10, source => 'promotional', expires_at => '2030-05-01');
SELECT max(id) AS promo FROM credits.grants WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'hold:6') \gset
SELECT transaction_id AS id, balance FROM credits_hold('hold:6', 8, expires_in => '2 years') \gset
SELECT transaction_id AS other, balance FROM credits_hold('hold:6', 1, expires_in => '2 years') \gset
SET credits.test_clock = '2030-05-01 00:00:00+00';
SELECT balance, held, expired FROM credits_summary('hold:6');
SELECT transaction_id AS capture, balance, held FROM credits_capture(:id, 5, final => false) \gset
SELECT kind, amount, balance, held FROM credits_release(:other);
SELECT kind, amount, balance, held FROM credits_capture(:id, 1, idempotency_key => 'last');
SELECT kind, amount, balance, held, replayed FROM credits_capture(:id, 1, idempotency_key => 'last');
SELECT kind, created_at, amount, held, balance, transaction_id - :id AS transaction, target_id - :id AS target
FROM credits_history('hold:6', 9) ORDER BY transaction_id;
SELECT remaining, status, expires_at FROM credits.grants WHERE id = :promo;
-- a release, too: the receipt shows the balance after all of it, also when it is replayed
SELECT transaction_id AS id, balance FROM credits_hold('hold:6', 3) \gset
SELECT balance FROM credits_allocate('hold:6', 4, source => 'promotional', expires_at => '2030-05-02');
SELECT transaction_id AS id, balance, held FROM credits_hold('hold:6', 6, expires_in => '2 days') \gset
SET credits.test_clock = '2030-05-02 12:00:00+00';
SELECT kind, amount, balance, held FROM credits_release(:id, 'back');
SELECT kind, amount, balance, held, replayed FROM credits_release(:id, 'back');
SELECT kind, amount, held, balance, transaction_id - :id AS transaction, target_id - :id AS target
FROM credits_history('hold:6', 4) ORDER BY transaction_id;
-- refunds of a capture whose grant has expired: grace, or lost at once
SELECT amount, balance FROM credits_refund(:capture, 2);
SELECT remaining, status, expires_at, granted_until FROM credits.grants WHERE id = :promo;
SELECT amount, balance FROM credits_refund(:capture, 1, 'gone', expired => 'expire');
SELECT remaining, status FROM credits.grants WHERE id = :promo;
-- a hold of what lives on in grace; given back after it
SELECT transaction_id AS id, balance, held FROM credits_hold('hold:6', 2, expires_in => '1 month') \gset
SELECT grant_id = :promo AS from_grace, amount FROM credits.draws WHERE transaction_id = :id;
SET credits.test_clock = '2030-05-20 00:00:00+00';
SELECT amount, balance, held FROM credits_release(:id);
SELECT amount, balance FROM credits_refund(:capture, expired => 'expire', idempotency_key => 'gone 2');
SELECT amount, balance, replayed FROM credits_refund(:capture, expired => 'expire', idempotency_key => 'gone 2');
SELECT credits_refund(:capture);
\echo :SQLSTATE
SELECT balance, held, spent, refunded, expired FROM credits_summary('hold:6');
SELECT * FROM credits_verify('hold:6');

-- a grant voided under a hold: what is captured is spent, the rest is voided at once
SELECT kind, balance FROM credits_open_account('hold:7');
SELECT balance FROM credits_allocate('hold:7', 10, source => 'promotional');
SELECT max(id) AS grant FROM credits.grants \gset
SELECT transaction_id AS id FROM credits_hold('hold:7', 6) \gset
SELECT transaction_id AS timed, balance, held FROM credits_hold('hold:7', 1, expires_in => '1 hour') \gset
SELECT amount, balance, held FROM credits_void_grant(:grant, 'mistake');
SELECT credits_balance('hold:7');
SELECT transaction_id AS capture, balance, held FROM credits_capture(:id, 4, final => false) \gset
SELECT kind, amount, balance, held FROM credits_release(:id, 'voided');
SELECT kind, amount, balance, held, replayed FROM credits_release(:id, 'voided');
SET credits.test_clock = '2030-05-21 00:00:00+00';
SELECT balance, held FROM credits_summary('hold:7');
SELECT balance FROM credits_allocate('hold:7', 5);
SELECT amount, balance FROM credits_refund(:capture);
SELECT kind, created_at, amount, held, balance, transaction_id - :id AS transaction, target_id - :id AS target
FROM credits_history('hold:7') ORDER BY transaction_id;
SELECT remaining, status FROM credits.grants WHERE id = :grant;
-- of one that is held whole nothing remains to be voided
SELECT max(id) AS grant FROM credits.grants \gset
SELECT transaction_id AS id FROM credits_hold('hold:7', 5) \gset
SELECT credits_void_grant(:grant, 'mistake');
\echo :SQLSTATE
SELECT amount, balance FROM credits_release(:id);
SELECT amount, balance FROM credits_void_grant(:grant, 'mistake');
SELECT * FROM credits_verify('hold:7');

-- a paused account: what is reserved can be captured and released, nothing new
SELECT kind, balance FROM credits_open_account('hold:8', 100);
SELECT transaction_id AS one FROM credits_hold('hold:8', 10) \gset
SELECT transaction_id AS two FROM credits_hold('hold:8', 10) \gset
SELECT transaction_id AS three FROM credits_hold('hold:8', 10) \gset
SELECT kind, balance FROM credits_pause_account('hold:8', 'dispute');
SELECT credits_hold('hold:8', 1);
\echo :SQLSTATE
SELECT credits_capture(:one, 11, allow_more => true);
\echo :SQLSTATE
SELECT kind, balance, held FROM credits_capture(:one, 6);
SELECT kind, balance, held FROM credits_release(:two);
SELECT kind, balance, held FROM credits_extend_hold(:three, '1 day');
SELECT kind, balance FROM credits_resume_account('hold:8', 'settled');
-- a closed one: nothing but the clock
SELECT kind, balance FROM credits_close_account('hold:8', 'gone');
SELECT credits_hold('hold:8', 1);
\echo :SQLSTATE
SELECT credits_capture(:three);
\echo :SQLSTATE
SELECT credits_release(:three);
\echo :SQLSTATE
SELECT credits_extend_hold(:three, '2 days');
\echo :SQLSTATE
SELECT credits_capture(:one);
\echo :SQLSTATE
SELECT balance, held, status FROM credits_summary('hold:8');
SET credits.test_clock = '2030-05-22 00:00:00+00';
SELECT balance, held, status FROM credits_summary('hold:8');
CALL credits_settle() \gset
SELECT kind, created_at, amount, held, balance FROM credits_history('hold:8', 2) ORDER BY transaction_id;
SELECT status FROM credits.hold_states WHERE id = :three;
SELECT * FROM credits_verify('hold:8');

-- a threshold is crossed by a hold, and back by its end
SELECT kind, balance FROM credits_open_account('hold:9', 20);
SELECT kind FROM credits_set_alerts('hold:9', '15');
SELECT transaction_id AS id, balance FROM credits_hold('hold:9', 10, expires_in => '1 hour') \gset
SELECT balance FROM credits_hold('hold:9', 1, expires_in => '1 day');
SET credits.test_clock = '2030-05-22 02:00:00+00';
SELECT balance FROM credits_hold('hold:9', 5, expires_in => '1 day');
SELECT kind, transaction_id - :id AS transaction, detail->>'balance' AS balance
FROM credits.events WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'hold:9') ORDER BY id;

-- undone with the transaction, or to a savepoint
SELECT kind, balance FROM credits_open_account('hold:10', 100);
BEGIN;
SELECT transaction_id AS id FROM credits_hold('hold:10', 10) \gset
SAVEPOINT s;
SELECT held FROM credits_capture(:id, 4, final => false);
SELECT held FROM credits_hold('hold:10', 50);
ROLLBACK TO s;
SELECT balance, held FROM credits_summary('hold:10');
SELECT kind, balance, held FROM credits_extend_hold(:id, '1 day');
SAVEPOINT s;
SELECT kind, balance, held FROM credits_release(:id);
ROLLBACK TO s;
SELECT kind, balance, held FROM credits_capture(:id, 3);
COMMIT;
BEGIN;
SELECT transaction_id AS gone FROM credits_hold('hold:10', 10) \gset
ROLLBACK;
SELECT credits_capture(:gone);
\echo :SQLSTATE
SELECT status, captured, released FROM credits.holds WHERE account = 'hold:10';
SELECT balance, held FROM credits_summary('hold:10');
-- by a cursor, one at a time; a subtransaction that fails takes its own back
BEGIN;
DECLARE c CURSOR FOR SELECT (credits_hold('hold:10', i::bigint, idempotency_key => 'c' || i)).held FROM generate_series(1, 9) AS i;
FETCH 2 FROM c;
SELECT balance, held FROM credits_summary('hold:10');
FETCH 1 FROM c;
CLOSE c;
DO $$
BEGIN
	PERFORM credits_hold('hold:10', 20);
	PERFORM credits_hold('hold:10', 1000);
EXCEPTION WHEN SQLSTATE 'PT402' THEN
	RAISE NOTICE '%', SQLERRM;
END
$$;
COMMIT;
SELECT balance, held FROM credits_summary('hold:10');
-- many in one statement
SELECT count(*), min((r).held) FROM (SELECT credits_capture(hold_id, account => 'hold:10') AS r
	FROM credits.holds WHERE account = 'hold:10' AND status = 'open' ORDER BY hold_id) AS s;
SELECT balance, held, spent FROM credits_summary('hold:10');
-- one key all along: one effect
SELECT count(DISTINCT (r).transaction_id), count(*) FILTER (WHERE (r).replayed) AS replayed, max((r).held)
FROM (SELECT credits_hold('hold:10', 5, idempotency_key => 'one') AS r FROM generate_series(1, 5)) AS s;
SELECT * FROM credits_verify('hold:10');

-- the largest numbers
SELECT kind, balance FROM credits_open_account('hold:11');
SELECT balance FROM credits_allocate('hold:11', 9223372036854775807);
SELECT transaction_id AS id, balance, held FROM credits_hold('hold:11', 9223372036854775807) \gset
SELECT held FROM credits_capture(:id, 9223372036854775806, final => false);
SELECT balance, held FROM credits_capture(:id, idempotency_key => 'all');
SELECT spent, balance FROM credits_summary('hold:11');
SELECT * FROM credits_verify('hold:11');

-- a hold that a member and a pool share: part by part, the member's first
SELECT kind, balance FROM credits_open_account('hold:team', 100);
SELECT kind, balance FROM credits_open_account('hold:member', 10);
SELECT kind FROM credits_add_member('hold:team', 'hold:member', 60);
SELECT transaction_id AS id, account, amount, balance, held FROM credits_hold('hold:member', 30, 'split', expires_in => '1 hour',
	pool => 'hold:team', mode => 'own_first') \gset
SELECT account, member, status, reserved, remaining FROM credits.holds WHERE hold_id >= :id ORDER BY hold_id;
SELECT account, amount, balance, held FROM credits_capture(:id, 10, final => false);
SELECT account, amount, balance, held FROM credits_capture(:id, 5, final => false, idempotency_key => 'pool part');
SELECT account, member, status, captured, remaining FROM credits.holds WHERE hold_id >= :id ORDER BY hold_id;
-- more than is left: from the part that is open, under its cap
SELECT credits_capture(:id, 200, allow_more => true);
\echo :SQLSTATE
SELECT credits_capture(:id, 56, allow_more => true);
\echo :SQLSTATE
SELECT account, amount, balance, held, replayed FROM credits_capture(:id, 5, final => false, idempotency_key => 'pool part');
SELECT account, amount, balance, held FROM credits_capture(:id, 25, allow_more => true);
SELECT account, member, status, reserved, captured, remaining FROM credits.holds WHERE hold_id >= :id ORDER BY hold_id;
SELECT credits_capture(:id);
\echo :SQLSTATE
-- one part is captured, the other one times out
SELECT balance FROM credits_allocate('hold:member', 10);
SELECT transaction_id AS id FROM credits_hold('hold:member', 30, expires_in => '1 hour', pool => 'hold:team', mode => 'own_first') \gset
SELECT account, held FROM credits_capture(:id, 10, final => false);
SET credits.test_clock = '2030-05-22 04:00:00+00';
SELECT credits_capture(:id);
\echo :SQLSTATE
SELECT balance, held FROM credits_summary('hold:team');
SELECT transaction_id AS id FROM credits_hold('hold:member', 10, expires_in => '1 hour', pool => 'hold:team') \gset
-- a final capture ends both parts, also the one that it leaves alone
SELECT balance FROM credits_allocate('hold:member', 10);
SELECT transaction_id AS id FROM credits_hold('hold:member', 20, expires_in => '1 hour', pool => 'hold:team', mode => 'own_first') \gset
SELECT account, amount, balance, held FROM credits_capture(:id, 4);
SELECT account, status, reserved, captured, released FROM credits.holds WHERE hold_id >= :id ORDER BY hold_id;
-- the pool's part is no hold that a caller can name
SELECT credits_release(:id + 1);
\echo :SQLSTATE
-- a hold that timed out gives back to its member's cap, whatever the call is that settles it
SELECT transaction_id AS id FROM credits_hold('hold:member', 7, expires_in => '1 hour', pool => 'hold:team') \gset
SELECT cap, used FROM credits.pool_members WHERE pool = 'hold:team';
SET credits.test_clock = '2030-05-22 05:00:00+00';
SELECT balance, held FROM credits_change_member('hold:team', 'hold:member', 70);
SELECT cap, used FROM credits.pool_members WHERE pool = 'hold:team';
SELECT transaction_id AS id FROM credits_hold('hold:member', 7, expires_in => '1 hour', pool => 'hold:team') \gset
SET credits.test_clock = '2030-05-22 06:00:00+00';
SELECT balance, held FROM credits_remove_member('hold:team', 'hold:member');
SELECT kind FROM credits_add_member('hold:team', 'hold:member', 60);
-- paused, the member cannot take more; what is reserved it can
SELECT transaction_id AS id FROM credits_hold('hold:member', 10, pool => 'hold:team') \gset
SELECT kind FROM credits_pause_account('hold:member', 'dispute');
SELECT credits_capture(:id, 11, allow_more => true);
\echo :SQLSTATE
SELECT account, balance, held FROM credits_capture(:id, 10, account => 'hold:member');
SELECT v.* FROM (VALUES ('hold:member'), ('hold:team')) AS a (name), LATERAL credits_verify(a.name) AS v;

-- who may: the application by the functions alone, auditors read, nobody writes
SET ROLE regress_credits_app;
SELECT count(*) FROM credits.holds;
\echo :SQLSTATE
SELECT count(*) FROM credits.hold_states;
\echo :SQLSTATE
SET ROLE regress_credits_auditor;
SELECT count(*) > 0 FROM credits.holds;
SELECT credits_hold('hold:1', 1);
\echo :SQLSTATE
SELECT credits_capture(1);
\echo :SQLSTATE
SELECT credits_release(1);
\echo :SQLSTATE
SELECT credits_extend_hold(1);
\echo :SQLSTATE
SET ROLE regress_credits_admin;
SELECT count(*) > 0 FROM credits.hold_states;
UPDATE credits.hold_states SET captured = 0;
\echo :SQLSTATE
INSERT INTO credits.hold_states SELECT * FROM credits.hold_states;
\echo :SQLSTATE
RESET ROLE;
UPDATE credits.hold_states SET captured = 0;
\echo :SQLSTATE
UPDATE credits.hold_states SET status = 'open' WHERE false;
\echo :SQLSTATE
DELETE FROM credits.hold_states;
\echo :SQLSTATE
TRUNCATE credits.hold_states;
\echo :SQLSTATE
BEGIN;
SET LOCAL session_replication_role = replica;
UPDATE credits.hold_states SET captured = 0;
\echo :SQLSTATE
ROLLBACK;

-- what only a superuser can do, with the triggers switched off: it is found
SET credits.test_clock = '2030-06-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('hold:12', 100);
SELECT transaction_id AS open, created_at FROM credits_hold('hold:12', 10, expires_in => '1 day') \gset
SELECT kind FROM credits_capture(:open, 3, final => false);
SELECT transaction_id AS captured FROM credits_hold('hold:12', 10, expires_in => '1 day') \gset
SELECT kind FROM credits_capture(:captured, 3);
SELECT transaction_id AS released FROM credits_hold('hold:12', 10, expires_in => '1 day') \gset
SELECT kind FROM credits_release(:released);
SELECT transaction_id AS expired FROM credits_hold('hold:12', 10, expires_in => '1 hour') \gset
SELECT transaction_id AS enlarged FROM credits_hold('hold:12', 10, expires_in => '1 day') \gset
SET credits.test_clock = '2030-06-01 01:00:00+00';
SELECT kind FROM credits_capture(:enlarged, 12, allow_more => true);
SELECT kind FROM credits_extend_hold(:open, '2 days');
SELECT id - :open AS id, status, reserved, captured, released FROM credits.hold_states WHERE id >= :open ORDER BY id;
SELECT * FROM credits_verify('hold:12');
\set forge 'ALTER TABLE credits.hold_states DISABLE TRIGGER ALL; UPDATE credits.hold_states SET'
\set found 'SELECT transaction_id - ' :open ' AS transaction, problem, detail FROM credits_verify(''hold:12'')'
BEGIN; :forge reserved = reserved + 1 WHERE id = :open; :found; ROLLBACK;
BEGIN; :forge captured = captured + 1 WHERE id = :open; :found; ROLLBACK;
BEGIN; :forge released = released + 1 WHERE id = :open; :found; ROLLBACK;
BEGIN; :forge expires_at = 'infinity' WHERE id = :open; :found; ROLLBACK;
BEGIN; :forge expires_at = '2030-06-01 00:30:00' WHERE id = :open; :found; ROLLBACK;
BEGIN; :forge created_at = created_at - interval '1 day' WHERE id = :open; :found; ROLLBACK;
BEGIN; :forge status = 'captured' WHERE id = :open; :found; ROLLBACK;
BEGIN; :forge status = 'lost' WHERE id = :open; :found;
SAVEPOINT s;
SELECT credits_capture(:open);
\echo :SQLSTATE
ROLLBACK TO s;
ROLLBACK;
BEGIN; :forge account_id = 710001 WHERE id = :open; :found;
SAVEPOINT s;
SELECT credits_capture(:open);
\echo :SQLSTATE
ROLLBACK TO s;
ROLLBACK;
BEGIN; :forge status = 'open' WHERE id = :captured; :found; ROLLBACK;
BEGIN; :forge status = 'released' WHERE id = :captured; :found; ROLLBACK;
BEGIN; :forge captured = 4, released = 6 WHERE id = :captured; :found; ROLLBACK;
BEGIN; :forge status = 'captured' WHERE id = :released; :found; ROLLBACK;
BEGIN; :forge status = 'expired' WHERE id = :released; :found; ROLLBACK;
BEGIN; :forge status = 'released' WHERE id = :expired; :found; ROLLBACK;
BEGIN; :forge expires_at = expires_at + interval '1 second' WHERE id = :expired; :found; ROLLBACK;
BEGIN; :forge reserved = 10, captured = 10 WHERE id = :enlarged; :found; ROLLBACK;
\set forge 'ALTER TABLE credits.hold_states DISABLE TRIGGER ALL;'
BEGIN; :forge
DELETE FROM credits.hold_states WHERE id = :open;
:found;
SAVEPOINT s;
SELECT credits_capture(:open);
\echo :SQLSTATE
ROLLBACK TO s;
-- the account goes on, and the clock does not find it either
SET LOCAL credits.test_clock = '2030-07-01 00:00:00+00';
SELECT balance, held FROM credits_deduct('hold:12', 1);
ROLLBACK;
BEGIN; :forge
DELETE FROM credits.hold_states WHERE id = :captured;
:found;
ROLLBACK;
-- rows for what made no hold, or only added to one
BEGIN;
INSERT INTO credits.hold_states
SELECT v.id, h.account_id, h.created_at, 50, h.expires_at, 'open', 0, 0
FROM credits.hold_states AS h,
	(SELECT id FROM credits.transactions WHERE target_id = :enlarged AND kind = 'hold'
	 UNION ALL SELECT :captured + 1 UNION ALL SELECT 459999) AS v
WHERE h.id = :open;
SELECT account, problem, detail FROM credits_verify() WHERE detail LIKE 'hold%' ORDER BY detail;
ROLLBACK;
-- the log
\set forge 'ALTER TABLE credits.log_default DISABLE TRIGGER ALL;'
BEGIN; :forge
UPDATE credits.log_default SET terms = '{"expires_at": "2031-01-01T00:00:00+00:00"}' WHERE id = :open;
:found;
ROLLBACK;
BEGIN; :forge
UPDATE credits.log_default SET target_id = :captured WHERE target_id = :open AND kind_code = 'C';
:found;
ROLLBACK;
-- no trace is left of all this; time that has run out is no problem
SET credits.test_clock = '2035-06-01 00:00:00+00';
SELECT * FROM credits_verify('hold:12');
SELECT balance, held FROM credits_summary('hold:12');
CALL credits_settle() \gset
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v
WHERE a.name LIKE 'hold:%' OR a.name LIKE 'order:%';
SELECT count(*) FROM credits.accounts AS a
WHERE (a.name LIKE 'hold:%' OR a.name LIKE 'order:%')
  AND held <> COALESCE((SELECT sum(remaining) FROM credits.holds AS h WHERE h.account = a.name), 0);

-- try: what a refusal would be as an error is a row, and an event
SET credits.test_clock = '2030-06-01 00:00:00+00';
SET ROLE regress_credits_admin;
SELECT balance FROM credits_open_account('hold:try', 10);
SET ROLE regress_credits_app;
SELECT ok, code, message, (receipt).kind, (receipt).amount, (receipt).held FROM credits_try_hold('hold:try', 8, 't1', 'render', expires_in => '1 hour');
SELECT ok, code, (receipt).replayed FROM credits_try_hold('hold:try', 8, 't1', 'render', expires_in => '1 hour');
SELECT * FROM credits_try_hold('hold:try', 8, 't2', 'render', 'job:9', expires_in => '1 hour');
SELECT * FROM credits_try_hold('hold:try', 7, 't1', 'render', expires_in => '1 hour');
SELECT * FROM credits_try_hold('hold:nobody', 1);
SELECT credits_try_hold('hold:try', 0);
\echo :SQLSTATE
SELECT credits_try_hold('hold:try', 1, expires_in => '-1 hour');
\echo :SQLSTATE
RESET ROLE;
SELECT kind, detail FROM credits.events WHERE kind = 'hold_refused' AND id BETWEEN 710001 AND 719999 ORDER BY id;
-- what is captured is spent on what it was held for
SELECT kind, held FROM credits_capture((SELECT max(hold_id) FROM credits.holds WHERE account = 'hold:try'));
SELECT kind, operation, held FROM credits_history('hold:try', 1);

-- a refund's grace saves what it gives back, not what was held before: the rest
-- expires when it is released, whether the grant is open or used up by then
SET credits.test_clock = '2030-07-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('hold:grace');
SELECT balance FROM credits_allocate('hold:grace', 100, source => 'promotional', expires_at => '2030-07-02');
SELECT transaction_id AS one, balance, held FROM credits_hold('hold:grace', 60, expires_in => '3 days') \gset
SELECT transaction_id AS two, balance, held FROM credits_hold('hold:grace', 40, expires_in => '3 days') \gset
SET credits.test_clock = '2030-07-03 00:00:00+00';
SELECT transaction_id AS capture, balance, held FROM credits_capture(:one, 5, final => false) \gset
SELECT amount, balance FROM credits_refund(:capture, 2);
SELECT amount, balance, held FROM credits_release(:one);
SELECT remaining, status FROM credits.grants
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'hold:grace');
-- what is held of the grace comes back to it
SELECT transaction_id AS three, balance, held FROM credits_hold('hold:grace', 2, expires_in => '3 days') \gset
SELECT amount, balance, held FROM credits_release(:two);
SELECT remaining, status FROM credits.grants
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'hold:grace');
SELECT amount, balance, held FROM credits_release(:three);
SELECT remaining, status FROM credits.grants
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'hold:grace');
-- and a refund that asks for no grace finds none
SELECT amount, balance FROM credits_refund(:capture, 1, expired => 'expire');
SELECT balance, held, spent, refunded, expired FROM credits_summary('hold:grace');
SELECT * FROM credits_verify('hold:grace');

-- zero is a number: capturing 0 releases, unless the hold is to stay
SET ROLE regress_credits_admin;
SELECT balance FROM credits_open_account('hold:zero', 100);
SET ROLE regress_credits_app;
SELECT transaction_id AS id FROM credits_hold('hold:zero', 30) \gset
SELECT kind, amount, balance, held FROM credits_capture(:id, 0, 'zero:1', final => false);
SELECT kind, amount, balance, held, replayed FROM credits_capture(:id, 0, 'zero:1', final => false);
SELECT credits_capture(:id, 0, 'zero:1');
SELECT kind, amount, balance, held FROM credits_capture(:id, 10, final => false);
SELECT kind, amount, balance, held FROM credits_capture(:id, 0, 'zero:2');
SELECT kind, amount, balance, held, replayed FROM credits_capture(:id, 0, 'zero:2');
SELECT credits_capture(:id, 0);
\echo :SQLSTATE
SELECT credits_capture(:id, -1);
-- of a hold that a pool pays with the member, too
SET ROLE regress_credits_admin;
SELECT balance FROM credits_open_account('hold:zero pool', 100);
SELECT kind FROM credits_add_member('hold:zero pool', 'hold:zero', 50);
SET ROLE regress_credits_app;
SELECT transaction_id AS id, account, amount, balance FROM credits_hold('hold:zero', 100, pool => 'hold:zero pool', mode => 'own_first') \gset
SELECT account, kind, amount, balance, held FROM credits_capture(:id, 0, 'zero:3', final => false);
SELECT account, kind, amount, balance, held FROM credits_capture(:id, 0, 'zero:4', reference => 'request');
SELECT account, kind, amount, balance, held, replayed FROM credits_capture(:id, 0, 'zero:4', reference => 'request');
SET ROLE regress_credits_admin;
SELECT a.name, t.kind, t.amount, t.held, t.reference, t.idempotency_key FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name LIKE 'hold:zero%' ORDER BY t.id;
SELECT status, reserved, captured, released FROM credits.holds WHERE account LIKE 'hold:zero%' ORDER BY hold_id;
SELECT pool, account, used FROM credits.pool_usage WHERE pool = 'hold:zero pool';
SELECT * FROM credits_verify();

-- what there is, up to an amount; of nothing there is no hold
SELECT balance FROM credits_open_account('hold:upto', 30);
SET ROLE regress_credits_app;
SELECT transaction_id AS id, kind, amount, balance, held FROM credits_hold_up_to('hold:upto', 50, 'u1', 'render', 'job:1', expires_in => '1 hour') \gset
SELECT kind, amount, balance, held FROM credits_history('hold:upto', 1);
SELECT transaction_id AS none, amount FROM credits_hold_up_to('hold:upto', 50, 'u2') \gset
SELECT kind, amount, balance, held, replayed FROM credits_hold_up_to('hold:upto', 50, 'u2');
SELECT credits_hold('hold:upto', 50, 'u2');
\echo :SQLSTATE
SELECT credits_capture(:none);
\echo :SQLSTATE
SELECT credits_release(:none);
SELECT credits_extend_hold(:none);
SELECT kind, amount, balance, held FROM credits_capture(:id, 20);
SELECT kind, amount, balance, held, replayed FROM credits_hold_up_to('hold:upto', 50, 'u1', 'render', 'job:1', expires_in => '1 hour');
SET ROLE regress_credits_admin;
SELECT status, reserved, captured, released FROM credits.holds WHERE account = 'hold:upto';
SELECT * FROM credits_verify();

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
