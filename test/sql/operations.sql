-- operations: prices, quotes and charges
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 127001;
ALTER SEQUENCE credits.grants_id_seq RESTART 127001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 127001;
ALTER SEQUENCE credits.events_id_seq RESTART 127001;
ALTER SEQUENCE credits.operations_id_seq RESTART 127001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('op:1', 100);
SELECT balance FROM credits_allocate('op:1', 20, source => 'promotional', expires_at => '2030-02-01 00:00+00');
SELECT kind, balance FROM credits_open_account('op:2', 1000);

-- prices: with everything, and with nothing but a name
SELECT credits_set_operation(name => 'chat', base_cost => 2, unit_cost => 0.0125, unit_name => 'token',
	included_units => 1000, rounding => 'ceil', minimum => 3,
	active_from => '2030-01-01 00:00+00', active_until => '2031-01-01 00:00+00');
SELECT credits_set_operation('ping');
SELECT credits_set_operation('image', 5);
SELECT id, name, base_cost, unit_cost, unit_name, included_units, rounding, minimum,
	   active_from, active_until, created_at, role = session_user AS by_me
FROM credits.operations WHERE id >= 127001 ORDER BY id;

-- a quote: nothing changes
SET ROLE regress_credits_app;
SELECT * FROM credits_quote('op:1', 'chat', 1000);
SELECT * FROM credits_quote('op:1', 'chat', 3000);
SELECT * FROM credits_quote(account => 'op:1', operation => 'image');
SELECT * FROM credits_quote('op:1', 'ping', 1e6);
SELECT * FROM credits_quote('op:1', 'chat', 10440);
SELECT * FROM credits_quote('op:1', 'chat', 10441);
SELECT count(*) FROM credits_history('op:1');
BEGIN READ ONLY;
SELECT cost, remaining FROM credits_quote('op:1', 'image');
COMMIT;
BEGIN READ ONLY;
SELECT credits_charge('op:1', 'image');
\echo :SQLSTATE
ROLLBACK;
RESET ROLE;
SELECT balance, transaction_count FROM credits.accounts WHERE name = 'op:1';
SELECT is_called FROM credits.events_id_seq;
SET ROLE regress_credits_app;

-- a charge does what the quote said
SELECT * FROM credits_charge('op:1', 'chat', 3000);
SELECT * FROM credits_charge(account => 'op:1', operation => 'image', quantity => 1, idempotency_key => 'k1',
	reference => 'request:1', metadata => '{"size": "large"}');
SELECT kind, amount, balance FROM credits_charge('op:1', 'image');
SELECT transaction_id, kind, amount, balance, operation, reference, metadata, idempotency_key
FROM credits_history('op:1', 3);
RESET ROLE;
SELECT id, terms, draws FROM credits.transactions WHERE account_id = 127001 AND terms ? 'price_id' ORDER BY id;
SELECT * FROM credits.charges WHERE account = 'op:1' ORDER BY transaction_id;

-- rounding, included units and minimum; round is half away from zero
SET ROLE regress_credits_admin;
SELECT credits_set_operation('ceil', 0, 0.1) AS ceil, credits_set_operation('floor', 0, 0.1, rounding => 'floor') AS floor,
	   credits_set_operation('round', 0, 0.1, rounding => 'round') AS round \gset
SELECT q AS quantity, (credits_quote('op:2', 'ceil', q)).cost AS ceil,
	   (credits_quote('op:2', 'floor', q)).cost AS floor, (credits_quote('op:2', 'round', q)).cost AS round
FROM unnest(ARRAY[0, 0.0001, 1, 4.9999, 5, 10, 14.999, 15, 25, 30.0, 30.001]) AS q;
SELECT credits_set_operation('bundle', 10, 2, 'page', 2.5, minimum => 12);
SELECT q AS quantity, (credits_quote('op:2', 'bundle', q)).cost
FROM unnest(ARRAY[0, 1, 2.5, 3, 3.5, 3.51, 4]) AS q;
-- exact, where floats are not
SELECT credits_set_operation('exact', 0.1, 0.1, included_units => 1, rounding => 'ceil');
SELECT q AS quantity, (credits_quote('op:2', 'exact', q)).cost
FROM unnest(ARRAY[1, 10, 30, 30.000000000000000000000000000001]) AS q;
SELECT credits_set_operation('tiny', 0, 0.000000000000000000000000000001);
SELECT (credits_quote('op:2', 'tiny', 1000000000000000000000000000000)).cost,
	   (credits_quote('op:2', 'tiny', 1000000000000000000000000000001)).cost AS one_more;
SELECT (credits_quote('op:2', 'ceil', repeat('9', 19)::numeric)).cost,
	   (credits_quote('op:2', 'ceil', ('1.' || repeat('0', 998) || '1')::numeric)).cost AS thousand_digits;

-- out of range
SELECT (credits_quote('op:2', 'ceil', 92233720368547758070)).*;
SELECT credits_quote('op:2', 'ceil', 92233720368547758070.1);
\echo :SQLSTATE
SELECT credits_charge('op:2', 'ceil', 92233720368547758080);
\echo :SQLSTATE
SELECT credits_try_charge('op:2', 'ceil', repeat('9', 1000)::numeric);
\echo :SQLSTATE
SELECT credits_charge('op:2', 'ceil', 92233720368547758070);
\echo :SQLSTATE

-- bad prices
SELECT credits_set_operation(NULL);
\echo :SQLSTATE
SELECT credits_set_operation('');
\echo :SQLSTATE
SELECT credits_set_operation(' chat');
\echo :SQLSTATE
SELECT credits_set_operation(E'chat\n');
\echo :SQLSTATE
SELECT credits_set_operation(repeat('x', 256));
\echo :SQLSTATE
SELECT credits_set_operation('bad', -0.01);
\echo :SQLSTATE
SELECT credits_set_operation('bad', 'NaN');
\echo :SQLSTATE
SELECT credits_set_operation('bad', 'Infinity');
\echo :SQLSTATE
SELECT credits_set_operation('bad', '-Infinity');
\echo :SQLSTATE
SELECT credits_set_operation('bad', ('0.' || repeat('1', 1000))::numeric);
\echo :SQLSTATE
SELECT credits_set_operation('bad', 1e1000);
\echo :SQLSTATE
SELECT credits_set_operation('bad', unit_cost => -1);
\echo :SQLSTATE
SELECT credits_set_operation('bad', unit_cost => 'NaN');
\echo :SQLSTATE
SELECT credits_set_operation('bad', unit_name => '');
\echo :SQLSTATE
SELECT credits_set_operation('bad', unit_name => repeat('x', 64));
\echo :SQLSTATE
SELECT credits_set_operation('bad', included_units => -1);
\echo :SQLSTATE
SELECT credits_set_operation('bad', rounding => 'up');
\echo :SQLSTATE
SELECT credits_set_operation('bad', minimum => -1);
\echo :SQLSTATE
SELECT credits_set_operation('bad', active_from => '2029-12-31 23:59:59.999999+00');
\echo :SQLSTATE
SELECT credits_set_operation('bad', active_from => 'infinity');
\echo :SQLSTATE
SELECT credits_set_operation('bad', active_from => '-infinity');
\echo :SQLSTATE
SELECT credits_set_operation('bad', active_until => '2030-01-01 00:00+00');
\echo :SQLSTATE
SELECT credits_set_operation('bad', active_from => '2030-02-01', active_until => '2030-01-15');
\echo :SQLSTATE
SELECT credits_set_operation('bad', active_until => '-infinity');
\echo :SQLSTATE
SELECT count(*) FROM credits.operations WHERE name = 'bad';
SELECT credits_retire_operation(NULL);
\echo :SQLSTATE
SELECT credits_retire_operation('bad');
\echo :SQLSTATE
SELECT credits_retire_operation('chat', '2029-12-31 00:00+00');
\echo :SQLSTATE
SELECT credits_retire_operation('chat', 'infinity');
\echo :SQLSTATE

-- bad quotes and charges
SET ROLE regress_credits_app;
SELECT credits_quote(NULL, 'chat');
\echo :SQLSTATE
SELECT credits_quote('op:none', 'chat');
\echo :SQLSTATE
SELECT credits_quote('op:1', NULL);
\echo :SQLSTATE
SELECT credits_quote('op:1', 'nothing');
\echo :SQLSTATE
SELECT credits_quote('op:1', '');
\echo :SQLSTATE
SELECT credits_quote('op:1', 'chat', NULL);
\echo :SQLSTATE
SELECT credits_quote('op:1', 'chat', -1);
\echo :SQLSTATE
SELECT credits_quote('op:1', 'chat', 'NaN');
\echo :SQLSTATE
SELECT credits_quote('op:1', 'chat', 'Infinity');
\echo :SQLSTATE
SELECT credits_quote('op:1', 'chat', ('1' || repeat('0', 1000))::numeric);
\echo :SQLSTATE
SELECT credits_charge(NULL, 'chat');
\echo :SQLSTATE
SELECT credits_charge('', 'chat');
\echo :SQLSTATE
SELECT credits_charge('op:none', 'chat');
\echo :SQLSTATE
SELECT credits_charge('op:1', NULL);
\echo :SQLSTATE
SELECT credits_charge('op:1', 'nothing');
\echo :SQLSTATE
SELECT credits_charge('op:1', 'Chat');
\echo :SQLSTATE
SELECT credits_charge('op:1', 'chat', NULL);
\echo :SQLSTATE
SELECT credits_charge('op:1', 'chat', -0.5);
\echo :SQLSTATE
SELECT credits_charge('op:1', 'chat', 'NaN');
\echo :SQLSTATE
SELECT credits_charge('op:1', 'chat', '-Infinity');
\echo :SQLSTATE
SELECT credits_charge('op:1', 'chat', 1e100000);
\echo :SQLSTATE
SELECT credits_charge('op:1', 'chat', 1, '');
\echo :SQLSTATE
SELECT credits_charge('op:1', 'chat', 1, reference => '');
\echo :SQLSTATE
SELECT credits_charge('op:1', 'chat', 1, metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
SELECT credits_charge('op:1', 'chat', 1, mode => 'pool_only');
\echo :SQLSTATE
SELECT credits_charge('op:1', 'chat', 100000);
\echo :SQLSTATE
-- prices are for administrators
SELECT credits_set_operation('mine');
\echo :SQLSTATE
SELECT credits_retire_operation('chat');
\echo :SQLSTATE
SELECT count(*) FROM credits.operations;
\echo :SQLSTATE
SELECT count(*) FROM credits.charges;
\echo :SQLSTATE

-- a retry: what was charged, not what it cost
SELECT * FROM credits_charge('op:2', 'chat', 2000, 'retry', 'request:2', '{"a": 1}');
RESET ROLE;
SELECT credits_set_operation('chat', 7, 0.02, clear => '{included_units,rounding,minimum}');
SET ROLE regress_credits_app;
SELECT * FROM credits_charge('op:2', 'chat', 2000, 'retry', 'request:2', '{"a": 2}');
SELECT amount, replayed FROM credits_charge('op:2', 'chat', 2000.000, 'retry', 'request:2');
SELECT ok, (receipt).amount, (receipt).replayed FROM credits_try_charge('op:2', 'chat', 2e3, 'retry', 'request:2');
SELECT cost, price_id FROM credits_quote('op:2', 'chat', 2000);
SELECT credits_charge('op:2', 'chat', 2001, 'retry', 'request:2');
\echo :SQLSTATE
SELECT credits_charge('op:2', 'image', 2000, 'retry', 'request:2');
\echo :SQLSTATE
SELECT credits_charge('op:2', 'chat', 2000, 'retry', 'request:3');
\echo :SQLSTATE
SELECT credits_charge('op:2', 'chat', 2000, 'retry', 'request:2', pool => 'op:1');
\echo :SQLSTATE
-- a deduction of the same operation and amount is another request
SELECT credits_deduct('op:2', 15, 'retry', 'chat', 'request:2');
\echo :SQLSTATE
SELECT balance FROM credits_deduct('op:2', 5, 'deducted', 'image');
SELECT credits_charge('op:2', 'image', 1, 'deducted');
\echo :SQLSTATE
-- what failed keeps no key
SELECT credits_charge('op:2', 'nothing', 1, 'failed');
SELECT credits_charge('op:2', 'image', 1, 'failed');

-- try: a refusal is a row and an event
SELECT * FROM credits_try_charge('op:2', 'image', 1, 'try', 'request:4', '{"b": 1}');
SELECT * FROM credits_try_charge('op:2', 'chat', 100000.50, 'try-2', 'request:5');
SELECT * FROM credits_try_charge('op:2', 'nothing', 3);
SELECT * FROM credits_try_charge('op:none', 'chat', 3);
SELECT * FROM credits_try_charge('op:2', 'image', 2, 'try');
SELECT credits_try_charge('op:2', 'image', -1);
\echo :SQLSTATE
SELECT credits_try_charge('op:2', NULL);
\echo :SQLSTATE
RESET ROLE;
SELECT id, account_id, kind, detail FROM credits.events WHERE id BETWEEN 127001 AND 129999 AND kind = 'deduction_refused' ORDER BY id;

-- versions: the one in force, at the posting's clock
SET ROLE regress_credits_admin;
SELECT credits_set_operation('scan', 10, active_from => '2030-02-01', active_until => '2030-03-01');
SELECT credits_quote('op:2', 'scan');
\echo :SQLSTATE
SELECT credits_charge('op:2', 'scan');
\echo :SQLSTATE
SELECT credits_set_operation('scan', 20, active_from => '2030-04-01');
SELECT credits_set_operation('scan', 21, active_from => '2030-04-01');
SET credits.test_clock = '2030-01-31 23:59:59.999999+00';
SELECT credits_charge('op:2', 'scan');
SET credits.test_clock = '2030-02-01 00:00:00+00';
SELECT cost, price_id FROM credits_quote('op:2', 'scan');
SELECT amount, created_at FROM credits_charge('op:2', 'scan');
-- earlier than what is planned: in between
SELECT credits_set_operation('scan', 15, active_from => '2030-02-15');
SET credits.test_clock = '2030-02-15 00:00:00+00';
SELECT cost, price_id FROM credits_quote('op:2', 'scan');
SELECT credits_set_operation('scan', 16, active_until => '2030-03-01 00:00+00') AS ends \gset
SELECT amount FROM credits_charge('op:2', 'scan');
SET credits.test_clock = '2030-03-01 00:00:00+00';
SELECT credits_charge('op:2', 'scan');
\echo :SQLSTATE
SELECT code, message FROM credits_try_charge('op:2', 'scan');
SET credits.test_clock = '2030-04-01 00:00:00+00';
SELECT amount FROM credits_charge('op:2', 'scan');
-- retired, now and later
SELECT credits_retire_operation('scan', '2030-05-01');
SELECT amount FROM credits_charge('op:2', 'scan');
SELECT credits_retire_operation('scan');
SELECT credits_charge('op:2', 'scan');
\echo :SQLSTATE
SELECT credits_quote('op:2', 'scan');
\echo :SQLSTATE
SELECT credits_retire_operation('scan');
\echo :SQLSTATE
SELECT amount, replayed FROM credits_charge('op:2', 'chat', 2000, 'retry', 'request:2');
-- and back
SELECT credits_set_operation('scan', 1, active_until => 'infinity');
SELECT amount FROM credits_charge('op:2', 'scan');
SELECT id, base_cost, active_from, active_until, created_at FROM credits.operations
WHERE name = 'scan' ORDER BY active_from, id;
-- not where nothing can be written
BEGIN READ ONLY;
SELECT credits_set_operation('image', 6);
\echo :SQLSTATE
ROLLBACK;
BEGIN READ ONLY;
SELECT credits_retire_operation('image');
\echo :SQLSTATE
ROLLBACK;
-- seen at once, in the same statement too; gone with its transaction
BEGIN;
SELECT credits_set_operation('image', 6) IS NOT NULL AS set, (credits_charge('op:2', 'image')).amount;
ROLLBACK;
SELECT (credits_charge('op:2', 'image')).amount;

-- prices cannot be changed, by nobody
RESET ROLE;
UPDATE credits.operations SET base_cost = 0;
\echo :SQLSTATE
DELETE FROM credits.operations;
\echo :SQLSTATE
TRUNCATE credits.operations;
\echo :SQLSTATE
SET session_replication_role = replica;
UPDATE credits.operations SET base_cost = 0;
\echo :SQLSTATE
RESET session_replication_role;
-- nor be made into nonsense past the function
\set VERBOSITY terse
INSERT INTO credits.operations
SELECT 1, 'x', 'NaN', 0, NULL, 0, 'ceil', 0, now(), NULL, now(), 'x';
INSERT INTO credits.operations
SELECT 1, 'x', 0, 0, NULL, 0, 'up', 0, now(), NULL, now(), 'x';
\set VERBOSITY default

-- free use is logged, and there is nothing to refund
SET ROLE regress_credits_app;
SELECT transaction_id AS free, kind, amount, balance FROM credits_charge('op:1', 'ping', 12, 'free') \gset
\echo :kind :amount :balance
SELECT kind, amount, replayed FROM credits_charge('op:1', 'ping', 12, 'free');
SELECT kind, amount, balance, operation FROM credits_history('op:1', 1);
SELECT credits_refund(:free);
\echo :SQLSTATE
SELECT credits_refund(:free, 1);
\echo :SQLSTATE
-- an empty account too
RESET ROLE;
SELECT kind FROM credits_open_account('op:3');
SELECT * FROM credits_quote('op:3', 'ping');
SELECT amount, balance FROM credits_charge('op:3', 'ping');
SELECT cost, sufficient, balance, remaining, draws, code FROM credits_quote('op:3', 'image');
-- a charge is refunded like any spend
SELECT transaction_id AS paid FROM credits_charge('op:2', 'bundle', 4) \gset
SELECT amount FROM credits_refund(:paid, 3);
SELECT amount FROM credits_refund(:paid);
SELECT quantity, cost FROM credits.charges WHERE transaction_id = :paid;

-- limits are for what is spent
SELECT kind FROM credits_set_limits('op:3', min_spend => 2, max_spend => 10, max_spend_per_day => 12);
SELECT balance FROM credits_allocate('op:3', 100);
SELECT cost, sufficient, remaining, code FROM credits_quote('op:3', 'ping');
SELECT amount FROM credits_charge('op:3', 'ping');
SELECT cost, sufficient, remaining, code FROM credits_quote('op:3', 'ceil', 10);
SELECT credits_charge('op:3', 'ceil', 10);
\echo :SQLSTATE
SELECT cost, sufficient, remaining, code FROM credits_quote('op:3', 'ceil', 110);
SELECT credits_charge('op:3', 'ceil', 110);
\echo :SQLSTATE
SELECT amount FROM credits_charge('op:3', 'ceil', 70);
SELECT cost, code FROM credits_quote('op:3', 'ceil', 60);
SELECT code, message FROM credits_try_charge('op:3', 'ceil', 60);
SELECT cost, code FROM credits_quote('op:3', 'ceil', 50);
SELECT amount FROM credits_charge('op:3', 'ceil', 50);
SELECT day_used FROM credits.limits JOIN credits.accounts ON id = account_id WHERE name = 'op:3';
-- a hold that has timed out gives back to them, whether or not it has been settled
SET credits.test_clock = '2030-04-02 00:00:00+00';
SELECT kind, balance FROM credits_hold('op:3', 8, expires_in => '1 hour');
SELECT cost, balance, code FROM credits_quote('op:3', 'ceil', 100);
SET credits.test_clock = '2030-04-02 01:00:00+00';
SELECT cost, balance, code FROM credits_quote('op:3', 'ceil', 100);
SELECT amount, balance FROM credits_charge('op:3', 'ceil', 100);

-- quotes are right of an account that nobody has settled
RESET ROLE;
SELECT kind FROM credits_open_account('op:4');
SELECT balance FROM credits_allocate('op:4', 10, source => 'promotional', expires_at => '2030-05-01');
SELECT balance FROM credits_allocate('op:4', 20, source => 'subscription', effective_at => '2030-05-01', expires_at => '2030-06-01');
SELECT balance FROM credits_allocate('op:4', 30, source => 'purchase');
SELECT balance, draws FROM credits_quote('op:4', 'ceil', 250);
SELECT balance FROM credits_hold('op:4', 4, expires_in => '30 days');
SELECT balance, draws FROM credits_quote('op:4', 'ceil', 250);
SET credits.test_clock = '2030-05-01 00:00:00+00';
SELECT cost, balance, remaining, draws FROM credits_quote('op:4', 'ceil', 250);
SET credits.test_clock = '2030-05-03 00:00:00+00';
SELECT cost, balance, remaining, draws FROM credits_quote('op:4', 'ceil', 510);
SELECT sufficient, balance, remaining, draws, code FROM credits_quote('op:4', 'ceil', 600);
SELECT transaction_count FROM credits.accounts WHERE name = 'op:4';
SELECT amount, balance FROM credits_charge('op:4', 'ceil', 250);
SELECT kind, amount, held, balance, created_at FROM credits_history('op:4', 4);
SELECT draws FROM credits.transactions WHERE kind = 'deduction' AND account_id = 127004;
-- of one that may not spend, it says so
SELECT kind FROM credits_pause_account('op:4', 'test');
SELECT cost, sufficient, remaining, code FROM credits_quote('op:4', 'ceil', 10);
SELECT cost, sufficient, remaining, code FROM credits_quote('op:4', 'ping');
SELECT credits_charge('op:4', 'ping');
\echo :SQLSTATE
SELECT kind FROM credits_close_account('op:4', 'test');
SELECT cost, sufficient, remaining, code FROM credits_quote('op:4', 'ceil', 10);
SELECT ok, code FROM credits_try_charge('op:4', 'ceil', 10);

-- pools pay for charges too
SELECT kind FROM credits_open_account('op:pool', 100);
SELECT kind FROM credits_open_account('op:member', 7);
SELECT kind FROM credits_add_member('op:pool', 'op:member', 50, 'month');
SET ROLE regress_credits_app;
SELECT account, amount, balance FROM credits_charge('op:member', 'ceil', 95, 'pool-1', pool => 'op:pool');
SELECT account, amount, balance, replayed FROM credits_charge('op:member', 'ceil', 95, 'pool-1', pool => 'op:pool');
SELECT credits_charge('op:member', 'ceil', 95, 'pool-1', pool => 'op:pool', mode => 'own_first');
\echo :SQLSTATE
SELECT account, amount, balance FROM credits_charge('op:member', 'ceil', 95, 'pool-2', pool => 'op:pool', mode => 'own_first');
SELECT account, amount, balance FROM credits_charge('op:member', 'ceil', 95, 'pool-2', pool => 'op:pool', mode => 'own_first');
SELECT account, amount, balance FROM credits_charge('op:member', 'ping', pool => 'op:pool');
SELECT account, amount, balance FROM credits_charge('op:member', 'ping', pool => 'op:pool', mode => 'own_first');
SELECT account, amount, balance FROM credits_charge('op:member', 'ping', pool => 'op:pool', mode => 'pool_first');
SELECT credits_charge('op:member', 'ceil', 1000, pool => 'op:pool');
\echo :SQLSTATE
SELECT credits_charge('op:member', 'nothing', pool => 'op:pool');
\echo :SQLSTATE
SELECT credits_charge('op:3', 'ping', pool => 'op:pool');
\echo :SQLSTATE
SELECT ok, code, message FROM credits_try_charge('op:member', 'ceil', 1000, 'pool-3', pool => 'op:pool');
RESET ROLE;
SELECT account, used, remaining FROM credits.pool_members WHERE pool = 'op:pool';
SELECT * FROM credits.charges WHERE 'op:member' IN (account, member) ORDER BY transaction_id;
SELECT id, account_id, member_id, target_id IS NOT NULL AS part, amount, terms - 'parts' AS terms
FROM credits.transactions WHERE operation = 'ceil' AND account_id > 127004 ORDER BY id;
SELECT amount FROM credits_refund((SELECT transaction_id FROM credits.charges
	WHERE account = 'op:member'));
SELECT account, used FROM credits.pool_members WHERE pool = 'op:pool';
SELECT detail FROM credits.events WHERE kind = 'deduction_refused' AND id BETWEEN 127001 AND 129999 ORDER BY id DESC LIMIT 1;

-- every charge of the log can be computed again from its price
SELECT count(*) AS charges, count(*) FILTER (WHERE c.cost = greatest(p.minimum,
	CASE p.rounding WHEN 'ceil' THEN ceil(x.exact) WHEN 'floor' THEN floor(x.exact) ELSE round(x.exact) END)) AS explained
FROM credits.charges AS c
JOIN credits.operations AS p ON p.id = c.price_id AND p.name = c.operation,
LATERAL (SELECT p.base_cost + p.unit_cost * greatest(c.quantity - p.included_units, 0) AS exact) AS x
WHERE c.transaction_id BETWEEN 127001 AND 129999;
SELECT count(*) AS charges FROM credits.charges WHERE transaction_id BETWEEN 127001 AND 129999;
SELECT count(*) AS not_in_force FROM credits.charges AS c JOIN credits.operations AS p ON p.id = c.price_id
WHERE c.created_at < p.active_from OR c.created_at >= p.active_until;

SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 127001 AND 129999;

-- another price starts from the one in force
SET ROLE regress_credits_admin;
SET credits.test_clock = '2040-01-01 00:00:00+00';
CREATE FUNCTION pg_temp.price(n bigint) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', base_cost, unit_cost, coalesce(unit_name, '-'), included_units, rounding, minimum, active_from, coalesce(active_until::text, '-'))
	FROM credits.operations WHERE id = n
$$;
SELECT pg_temp.price(credits_set_operation('keep', 1, 0.5, 'page', 10, 'floor', 2, active_until => '2041-01-01 00:00+00'));
SELECT pg_temp.price(credits_set_operation('keep', unit_cost => 0.25));
SELECT pg_temp.price(credits_set_operation('keep', clear => '{unit_name,rounding,included_units}'));
-- nothing new is no new price
SELECT credits_set_operation('keep') = credits_set_operation('keep', 1.0, minimum => 2) AS same,
	   (SELECT count(*) FROM credits.operations WHERE name = 'keep') AS prices;
-- one that begins later starts from what is in force then, and is not changed by what is set before
SELECT pg_temp.price(credits_set_operation('keep', minimum => 7, active_from => '2040-06-01 00:00+00'));
SELECT pg_temp.price(credits_set_operation('keep', base_cost => 3));
SELECT pg_temp.price(credits_set_operation('keep', unit_name => 'sheet', active_from => '2040-07-01 00:00+00'));
-- retired, again, and back without an end
SELECT credits_retire_operation('keep', '2040-08-01 00:00+00') AS retired \gset
SELECT credits_retire_operation('keep', '2040-08-01 00:00+00') = :retired AS again, credits_retire_operation('keep', '2040-09-01 00:00+00') = :retired AS later;
SET credits.test_clock = '2040-08-01 00:00:00+00';
SELECT pg_temp.price(credits_set_operation('keep'));
SELECT pg_temp.price(credits_set_operation('keep', active_until => '2040-09-01 00:00+00'));
SELECT pg_temp.price(credits_set_operation('keep', clear => '{active_until}'));
SELECT credits_set_operation('keep', minimum => 1, clear => '{minimum}');
\echo :SQLSTATE
SELECT credits_set_operation('keep', clear => '{active_from}');
\echo :SQLSTATE
SELECT credits_set_operation('keep', clear => '{cost}');
\echo :SQLSTATE

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
