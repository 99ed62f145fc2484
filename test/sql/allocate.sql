-- allocate: giving grants
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 40001;
ALTER SEQUENCE credits.grants_id_seq RESTART 40001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 40001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('alloc:1');

-- with nothing but an amount, and with everything
SELECT * FROM credits_allocate('alloc:1', 10);
SELECT * FROM credits_allocate(account => 'alloc:1', amount => 100,
	source => 'purchase', expires_at => '2031-01-01 00:00:00+00',
	effective_at => '2029-12-01 00:00:00+00', priority => 5, price => 49.90,
	idempotency_key => 'order-1', reason => 'spring offer', reference => 'order:1',
	metadata => '{"shop": "fr"}', currency => 'EUR');
SELECT id, transaction_id, effective_at, expires_at, granted_until, amount, priority,
	   source, price, currency, status, remaining
FROM credits.grants WHERE account_id = 40001 ORDER BY id;
SELECT id, created_at, kind, amount, held, balance_after, held_after, target_id,
	   request IS NULL AS no_request, idempotency_key, operation, reference, draws,
	   reason, metadata
FROM credits.transactions WHERE account_id = 40001 ORDER BY id;
SELECT balance, granted, spent, refunded, expired, due_at
FROM credits.accounts WHERE id = 40001;

-- sources bring their priority
SELECT kind FROM credits_open_account('alloc:sources');
SELECT s.source, r.amount, r.balance
FROM unnest(ARRAY['promotional', 'referral', 'gift', 'trial', 'subscription',
				  'manual', 'signup', 'adjustment', 'purchase']) AS s (source),
	 credits_allocate('alloc:sources', 1, source => s.source) AS r;
SELECT source, priority FROM credits.grants WHERE account_id = 40002 ORDER BY id;
SELECT credits_allocate('alloc:1', 1, source => 'loot');
\echo :SQLSTATE
SELECT credits_allocate('alloc:1', 1, source => 'Manual');
SELECT credits_allocate('alloc:1', 1, source => '');
SELECT credits_allocate('alloc:1', 1, source => NULL);
\echo :SQLSTATE
SELECT balance FROM credits_allocate('alloc:1', 1, priority => 0);
SELECT balance FROM credits_allocate('alloc:1', 1, priority => 32767);
SELECT credits_allocate('alloc:1', 1, priority => -1);
\echo :SQLSTATE
SELECT credits_allocate('alloc:1', 1, priority => 32768);

-- amounts
SELECT credits_allocate('alloc:1', 0);
\echo :SQLSTATE
SELECT credits_allocate('alloc:1', -5);
\echo :SQLSTATE
SELECT credits_allocate('alloc:1', NULL);
\echo :SQLSTATE
SELECT credits_allocate('alloc:1', -9223372036854775808);
-- up to the last one that a bigint holds
SELECT credits_balance('alloc:1');
SELECT credits_allocate('alloc:1', 9223372036854775807);
\echo :SQLSTATE
SELECT credits_allocate('alloc:1', 9223372036854775807 - 111);
SELECT kind, amount, balance FROM credits_allocate('alloc:1', 9223372036854775807 - 112);
SELECT credits_allocate('alloc:1', 1);
\echo :SQLSTATE
-- the lifetime total is full, though the balance no longer is
SELECT kind, amount, balance FROM credits_deduct('alloc:1', 9223372036854775807);
SELECT credits_allocate('alloc:1', 1);
\echo :SQLSTATE
SELECT * FROM credits_summary('alloc:1');
-- credits that are still to come count when they come
SELECT kind FROM credits_open_account('alloc:later');
SELECT kind, amount, balance
FROM credits_allocate('alloc:later', 9223372036854775807, effective_at => '2030-02-01 00:00:00+00');
SELECT credits_allocate('alloc:later', 1);
\echo :SQLSTATE
SELECT credits_allocate('alloc:later', 1, effective_at => '2030-03-01 00:00:00+00');
\echo :SQLSTATE
SET credits.test_clock = '2030-02-01 00:00:00+00';
SELECT credits_balance('alloc:later');
SELECT kind, amount, balance FROM credits_deduct('alloc:later', 7);
SET credits.test_clock = '2030-01-01 00:00:00+00';

-- expiry
SELECT kind FROM credits_open_account('alloc:2');
SELECT credits_allocate('alloc:2', 1, expires_at => '2030-01-01 00:00:00+00');
\echo :SQLSTATE
SELECT credits_allocate('alloc:2', 1, expires_at => '2029-12-31 23:59:59.999999+00');
SELECT credits_allocate('alloc:2', 1, expires_at => '-infinity');
SELECT balance FROM credits_allocate('alloc:2', 1, expires_at => '2030-01-01 00:00:00.000001+00');
SELECT balance FROM credits_allocate('alloc:2', 1, expires_at => 'infinity');
SELECT credits_allocate('alloc:2', 1, expires_at => '2030-03-01 00:00:00+00',
	effective_at => '2030-03-01 00:00:00+00');
\echo :SQLSTATE
SELECT credits_allocate('alloc:2', 1, expires_at => '2030-03-01 00:00:00+00',
	effective_at => '2030-04-01 00:00:00+00');
SELECT balance, kind FROM credits_allocate('alloc:2', 1, expires_at => '2030-03-01 00:00:00+00',
	effective_at => '2030-02-28 00:00:00+00');
SELECT credits_allocate('alloc:2', 1, effective_at => 'infinity');
\echo :SQLSTATE
SELECT credits_allocate('alloc:2', 1, effective_at => '-infinity');
SELECT balance FROM credits_allocate('alloc:2', 1, effective_at => '1970-01-01 00:00:00+00');
SELECT balance FROM credits_allocate('alloc:2', 1, effective_at => '2030-01-01 00:00:00+00');
SELECT id - 40000 AS id, effective_at, expires_at, status, remaining
FROM credits.grants AS g
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'alloc:2') ORDER BY id;

-- still to come: no credits yet, and no draw of any
SELECT kind FROM credits_open_account('alloc:3');
SELECT * FROM credits_allocate('alloc:3', 50, effective_at => '2030-06-01 00:00:00+00');
SELECT kind, amount, balance_after, draws FROM credits.transactions
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'alloc:3') ORDER BY id;
SELECT balance, granted, due_at FROM credits.accounts WHERE name = 'alloc:3';
SELECT credits_deduct('alloc:3', 1);
\echo :SQLSTATE
SET credits.test_clock = '2030-06-01 00:00:00+00';
SELECT credits_balance('alloc:3');
SELECT kind, amount, balance FROM credits_deduct('alloc:3', 1);
SELECT kind, amount, balance_after, created_at, draws, target_id FROM credits.transactions
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'alloc:3') ORDER BY id;
SELECT balance, granted, due_at FROM credits.accounts WHERE name = 'alloc:3';
SET credits.test_clock = '2030-06-02 00:00:00+00';

-- price and currency: both or neither
SELECT kind FROM credits_open_account('alloc:4');
SELECT balance FROM credits_allocate('alloc:4', 3, price => 0, currency => 'USD');
SELECT balance FROM credits_allocate('alloc:4', 3,
	price => 12345678901234567890.123456789, currency => 'XAU');
SELECT price, currency FROM credits.grants
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'alloc:4') ORDER BY id;
SELECT credits_allocate('alloc:4', 3, price => 1);
\echo :SQLSTATE
SELECT credits_allocate('alloc:4', 3, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:4', 3, price => -0.01, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:4', 3, price => 'NaN', currency => 'EUR');
SELECT credits_allocate('alloc:4', 3, price => 'infinity', currency => 'EUR');
-- few bytes, but many digits
SELECT credits_allocate('alloc:4', 3, price => 1e100000, currency => 'EUR');
SELECT credits_allocate('alloc:4', 3, price => 1e-500, currency => 'EUR');
SELECT credits_allocate('alloc:4', 3, price => 1, currency => 'eur');
\echo :SQLSTATE
SELECT credits_allocate('alloc:4', 3, price => 1, currency => 'EURO');
SELECT credits_allocate('alloc:4', 3, price => 1, currency => '');
SELECT credits_allocate('alloc:4', 3, price => 1, currency => E'E\u00dcR');

-- free text
SELECT credits_allocate('alloc:4', 3, idempotency_key => '');
\echo :SQLSTATE
SELECT credits_allocate('alloc:4', 3, idempotency_key => repeat('x', 256));
\echo :SQLSTATE
SELECT credits_allocate('alloc:4', 3, reference => '');
SELECT credits_allocate('alloc:4', 3, reference => repeat('x', 256));
SELECT credits_allocate('alloc:4', 3, reason => '');
SELECT credits_allocate('alloc:4', 3, reason => repeat('x', 1001));
SELECT credits_allocate('alloc:4', 3, metadata => to_jsonb(repeat('x', 17000)));
SELECT balance FROM credits_allocate('alloc:4', 3, idempotency_key => repeat('k', 255),
	reference => repeat('r', 255), reason => repeat('w', 1000),
	metadata => to_jsonb(repeat('x', 16000)));
SELECT balance, replayed FROM credits_allocate('alloc:4', 3,
	idempotency_key => repeat('k', 255), reference => repeat('r', 255));

-- a retry: the first receipt; the same key for anything else: refused
SELECT kind FROM credits_open_account('alloc:5');
SELECT * FROM credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 5, currency => 'EUR');
SET credits.test_clock = '2030-06-03 00:00:00+00';
SELECT kind, amount, balance FROM credits_deduct('alloc:5', 3);
SELECT * FROM credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 5, currency => 'EUR');
-- reason and metadata may differ, and how a number is written
SELECT amount, balance, replayed FROM credits_allocate('alloc:5', 10, 'key',
	'reference', source => 'gift', expires_at => '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 5.00,
	currency => 'EUR');
-- each of these is another request
SELECT credits_allocate('alloc:5', 11, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 5, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'trial', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 5, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:01+00', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 5, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 5, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:01+00', priority => 20, price => 5, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', priority => 20, price => 5, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 21, price => 5, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', price => 5, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 6, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 5, currency => 'USD');
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 20);
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', reason => 'reason',
	metadata => '{"a": 1}', source => 'gift', expires_at => '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 5, currency => 'EUR');
\echo :SQLSTATE
SELECT credits_allocate('alloc:5', 10, 'key', 'other',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 5, currency => 'EUR');
\echo :SQLSTATE
-- another kind of request
SELECT credits_deduct('alloc:5', 10, 'key');
\echo :SQLSTATE
SELECT credits_adjust('alloc:5', 10, 'reason', 'key');
\echo :SQLSTATE
-- a retry that comes after its own expiry is a retry all the same
SET credits.test_clock = '2032-01-01 00:00:00+00';
SELECT kind, amount, balance, replayed, created_at
FROM credits_allocate('alloc:5', 10, 'key', 'reference',
	'reason', '{"a": 1}', 'gift', '2031-01-01 00:00:00+00', effective_at => '2030-01-01 00:00:00+00', priority => 20, price => 5, currency => 'EUR');
SELECT credits_balance('alloc:5');
-- keys belong to the account, and what failed keeps no key
SELECT kind, balance FROM credits_open_account('alloc:6');
SELECT balance, replayed FROM credits_allocate('alloc:6', 1, idempotency_key => 'key');
SELECT credits_allocate('alloc:6', 0, idempotency_key => 'key-2');
SELECT balance, replayed FROM credits_allocate('alloc:6', 1, idempotency_key => 'key-2');
SELECT balance, replayed FROM credits_allocate('alloc:6', 1, idempotency_key => 'KEY');
SELECT balance, replayed FROM credits_allocate('alloc:6', 1, idempotency_key => ' key');
SELECT count(*) FROM credits.transactions
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'alloc:5')
  AND idempotency_key = 'key';

-- what was left out was left out the first time too, whatever the time is now
SET credits.test_clock = '2033-01-01 00:00:00+00';
SELECT balance, replayed, created_at FROM credits_allocate('alloc:6', 1, idempotency_key => 'key');
SELECT balance, replayed FROM credits_allocate('alloc:6', 1, expires_at => 'infinity', idempotency_key => 'key');
SELECT balance, replayed FROM credits_allocate('alloc:6', 1, priority => 50, idempotency_key => 'key');

SELECT * FROM credits_verify();

-- expires_in, from now or from effective_at; a retry repeats it unchanged
SET credits.test_clock = '2032-01-01 00:00:00+00';
SELECT balance >= 0 AS open FROM credits_open_account('alloc:span');
SELECT amount, replayed FROM credits_allocate('alloc:span', 10, 'span:1', expires_in => '30 days');
SET credits.test_clock = '2032-01-01 01:00:00+00';
SELECT amount, replayed FROM credits_allocate('alloc:span', 10, 'span:1', expires_in => '30 days');
SELECT amount, replayed FROM credits_allocate('alloc:span', 20, effective_at => '2032-02-01 00:00+00', expires_in => '1 month');
SELECT g.amount, g.effective_at, g.expires_at FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id
WHERE a.name = 'alloc:span' ORDER BY g.id;
SELECT credits_allocate('alloc:span', 10, 'span:1', expires_in => '31 days');
SELECT credits_allocate('alloc:span', 10, 'span:1');
SELECT credits_allocate('alloc:span', 1, expires_in => '1 day', expires_at => '2032-03-01');
SELECT credits_allocate('alloc:span', 1, expires_in => '-1 day');
SELECT credits_allocate('alloc:span', 1, expires_in => '1 day', effective_at => '2031-12-31 01:00+00');
SELECT credits_allocate('alloc:span', 1, expires_in => '1000 years', effective_at => '294000-01-01');
SELECT item, ok, code, message, detail, hint FROM credits_allocate_many(ARRAY[
	('alloc:span', 1, NULL, NULL, NULL, NULL, NULL, NULL, '1 day', NULL, NULL, NULL, NULL),
	('alloc:span', 1, NULL, NULL, NULL, NULL, NULL, '2033-01-01', '1 day', NULL, NULL, NULL, NULL),
	('alloc:span', 1, NULL, NULL, NULL, NULL, NULL, NULL, '0', NULL, NULL, NULL, NULL)]::credits.allocation[]);
SELECT * FROM credits_verify('alloc:span');
RESET credits.test_clock;
