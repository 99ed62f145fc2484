-- grants: the order in which they burn, and what the clock does to them
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 90001;
ALTER SEQUENCE credits.grants_id_seq RESTART 90001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 90001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';

-- given in disorder; references number them in burn order
SELECT kind FROM credits_open_account('burn:1');
SELECT reference, amount, balance FROM (VALUES
	(1, 'g07', 'purchase', NULL, NULL, NULL),
	(2, 'g05', 'manual', NULL, NULL, NULL),
	(3, 'g04', 'manual', '2031-01-01', NULL, NULL),
	(4, 'g01', 'promotional', '2030-06-01', NULL, NULL),
	(5, 'g03', 'subscription', '2030-02-01', NULL, NULL),
	(6, 'g02', 'gift', NULL, NULL, NULL),
	(7, 'g06', 'signup', NULL, NULL, NULL),
	(8, 'g08', 'promotional', NULL, NULL, 32767),
	(9, 'g00', 'purchase', NULL, NULL, 0))
	AS v (n, reference, source, expires_at, effective_at, priority),
	LATERAL credits_allocate('burn:1', 10, source => v.source,
		expires_at => v.expires_at::timestamptz, effective_at => v.effective_at::timestamptz, priority => v.priority,
		reference => v.reference) AS r;
SELECT kind, amount, balance FROM credits_deduct('burn:1', 1);
SELECT kind, amount, balance FROM credits_deduct('burn:1', 9);
SELECT kind, amount, balance FROM credits_deduct('burn:1', 10);
SELECT kind, amount, balance FROM credits_deduct('burn:1', 65);
SELECT kind, amount, balance FROM credits_deduct('burn:1', 5);
SELECT d.transaction_id, d.ordinal, t.reference AS grant, d.amount
FROM credits.draws AS d
JOIN credits.grants AS g ON g.id = d.grant_id
JOIN credits.transactions AS t ON t.id = g.transaction_id
WHERE d.account_id = 90001 AND d.kind = 'deduction'
ORDER BY d.transaction_id, d.ordinal;
SELECT status, count(*), sum(remaining) FROM credits.grants
WHERE account_id = 90001 GROUP BY status;

-- ties: same priority, then same expiry, then same effective time, then id
SELECT kind FROM credits_open_account('burn:2');
SELECT reference, r.balance FROM (VALUES
	(1, 'b4', '2030-03-01', '2029-12-31 00:00:00'),
	(2, 'b2', '2030-02-01', '2029-12-31 00:00:00'),
	(3, 'b3', '2030-02-01', '2029-12-31 00:00:00'),
	(4, 'b1', '2030-02-01', '2029-12-30 23:59:59.999999'),
	(5, 'b6', NULL, '2029-12-31 00:00:00'),
	(6, 'b5', NULL, '2029-12-30 00:00:00'),
	(7, 'b7', NULL, '2029-12-31 00:00:00'))
	AS v (n, reference, expires_at, effective_at),
	LATERAL credits_allocate('burn:2', 1, source => 'manual', expires_at => v.expires_at::timestamptz,
		effective_at => v.effective_at::timestamptz, reference => v.reference) AS r;
SELECT count(*) FROM generate_series(1, 7) AS i, LATERAL credits_deduct('burn:2', 1, 'spend ' || i);
SELECT d.transaction_id, t.reference AS grant, d.amount
FROM credits.draws AS d
JOIN credits.grants AS g ON g.id = d.grant_id
JOIN credits.transactions AS t ON t.id = g.transaction_id
WHERE d.account_id = 90002 AND d.kind = 'deduction'
ORDER BY d.transaction_id, d.ordinal;

-- a grant burns until the instant it expires, and from the instant it is effective
SELECT kind, balance FROM credits_open_account('clock:1');
SELECT balance FROM credits_allocate('clock:1', 10, expires_at => '2030-02-01 00:00:00+00');
SELECT balance FROM credits_allocate('clock:1', 7, effective_at => '2030-03-01 00:00:00+00');
SET credits.test_clock = '2030-01-31 23:59:59.999999+00';
SELECT credits_balance('clock:1');
SELECT kind, amount, balance FROM credits_deduct('clock:1', 1);
SET credits.test_clock = '2030-02-01 00:00:00+00';
SELECT credits_balance('clock:1');
SELECT credits_deduct('clock:1', 1);
\echo :SQLSTATE
-- the refusal undid its settling too; the clock will say the same again
SELECT balance, due_at FROM credits.accounts WHERE name = 'clock:1';
SELECT credits_deduct('clock:1', 1);
SET credits.test_clock = '2030-02-28 23:59:59.999999+00';
SELECT credits_balance('clock:1');
SELECT code FROM credits_try_deduct('clock:1', 1);
SELECT balance, due_at FROM credits.accounts WHERE name = 'clock:1';
SET credits.test_clock = '2030-03-01 00:00:00+00';
SELECT credits_balance('clock:1');
SELECT kind, amount, balance FROM credits_deduct('clock:1', 1);
SELECT transaction_id, created_at, kind, amount, balance, target_id
FROM credits_history('clock:1');
SELECT id, amount, remaining, status, expires_at FROM credits.grants
WHERE account_id = 90003 ORDER BY id;

-- activations and expiries that fell due meanwhile, in the order of the clock
SELECT kind FROM credits_open_account('clock:2');
SELECT count(*) FROM (VALUES
	('2030-04-01', '2030-08-01', 1), ('2030-05-01', '2030-06-01', 2),
	('2030-06-01', '2030-07-01', 4), ('2030-06-01', NULL, 8),
	('2030-09-01', '2030-10-01', 16), ('2031-09-01', '2031-10-01', 32))
	AS v (effective_at, expires_at, amount),
	LATERAL credits_allocate('clock:2', v.amount, source => 'gift', expires_at => v.expires_at::timestamptz,
		effective_at => v.effective_at::timestamptz);
SET credits.test_clock = '2030-12-01 00:00:00+00';
SELECT credits_balance('clock:2');
SELECT kind, amount, balance FROM credits_deduct('clock:2', 3);
SELECT created_at, kind, amount, balance_after, target_id, draws
FROM credits.transactions WHERE account_id = 90004 AND kind <> 'allocation' ORDER BY id;
SELECT id, amount, remaining, status FROM credits.grants WHERE account_id = 90004 ORDER BY id;
SELECT balance, granted, spent, expired, due_at FROM credits.accounts WHERE id = 90004;

-- a grant that became effective and expired before anyone looked
SELECT kind FROM credits_open_account('clock:3');
SELECT balance FROM credits_allocate('clock:3', 5, source => 'gift', expires_at => '2031-02-01', effective_at => '2031-01-01');
SET credits.test_clock = '2031-03-01 00:00:00+00';
SELECT credits_balance('clock:3');
SELECT granted, expired FROM credits_summary('clock:3');
SELECT kind, amount, balance FROM credits_allocate('clock:3', 1);
SELECT created_at, kind, amount, balance FROM credits_history('clock:3');
SELECT granted, expired FROM credits_summary('clock:3');

-- used-up grants do not expire
SELECT kind FROM credits_open_account('clock:4');
SELECT balance FROM credits_allocate('clock:4', 5, expires_at => '2031-04-01');
SELECT balance FROM credits_deduct('clock:4', 5);
SELECT due_at, balance FROM credits.accounts WHERE name = 'clock:4';
SET credits.test_clock = '2031-05-01 00:00:00+00';
SELECT balance FROM credits_allocate('clock:4', 1);
SELECT kind, amount FROM credits_history('clock:4');
SELECT status, remaining FROM credits.grants
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'clock:4') ORDER BY id;

-- long ago and far away
SET credits.test_clock = '1970-01-01 00:00:00+00';
SELECT kind, created_at FROM credits_open_account('clock:5', 3);
SELECT balance FROM credits_allocate('clock:5', 5, expires_at => '1970-02-01');
SET credits.test_clock = '9999-12-31 23:59:59+00';
SELECT credits_balance('clock:5');
SELECT kind, balance, created_at FROM credits_deduct('clock:5', 1);
SELECT created_at, kind, amount, balance FROM credits_history('clock:5');

-- many small grants in one spend
SET credits.test_clock = '2031-05-01 00:00:00+00';
SELECT kind FROM credits_open_account('burn:many');
SELECT count(credits_allocate('burn:many', 2, source => 'gift')) FROM generate_series(1, 1000);
SELECT kind, amount, balance FROM credits_deduct('burn:many', 1999);
SELECT count(*), min(amount), max(amount), sum(amount), max(ordinal)
FROM credits.draws AS d
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'burn:many')
  AND kind = 'deduction';

SELECT * FROM credits_verify();
