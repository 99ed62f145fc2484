-- refund: giving spent credits back to the grants they came from
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
-- whatever other tests left due
SET credits.test_clock = '2040-01-01 00:00:00+00';
CALL credits_settle() \gset
ALTER SEQUENCE credits.accounts_id_seq RESTART 120001;
ALTER SEQUENCE credits.grants_id_seq RESTART 120001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 120001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';

-- in one piece
SELECT kind FROM credits_open_account('back:1', 100);
SELECT transaction_id AS spend FROM credits_deduct('back:1', 30, 's1', 'chat', 'request:1') \gset
SET ROLE regress_credits_app;
SELECT * FROM credits_refund(:spend);
SELECT transaction_id, kind, amount, balance, target_id, operation, reference, reason
FROM credits_history('back:1', 1);
SELECT balance, granted, spent, refunded FROM credits_summary('back:1');
SELECT credits_refund(:spend);
\echo :SQLSTATE
SELECT credits_refund(:spend, 1);
\echo :SQLSTATE

-- in parts, never above what was spent
SELECT transaction_id AS spend FROM credits_deduct('back:1', 30) \gset
SELECT kind, amount, balance FROM credits_refund(:spend, 10, reason => 'half an answer',
	metadata => '{"ticket": 7}');
SELECT kind, amount, balance FROM credits_refund(:spend, 1);
SELECT credits_refund(:spend, 20);
\echo :SQLSTATE
SELECT credits_refund(:spend, 9223372036854775807);
\echo :SQLSTATE
SELECT kind, amount, balance FROM credits_refund(:spend);
SELECT credits_refund(:spend);
\echo :SQLSTATE
SELECT balance, granted, spent, refunded FROM credits_summary('back:1');

-- bad amounts
SELECT transaction_id AS spend FROM credits_deduct('back:1', 30) \gset
SELECT credits_refund(:spend, 0);
\echo :SQLSTATE
SELECT credits_refund(:spend, -1);
\echo :SQLSTATE
SELECT credits_refund(:spend, -9223372036854775808);

-- a refund gives back spends, and only those
SELECT transaction_id AS refund FROM credits_refund(:spend, 5) \gset
SELECT credits_refund(:refund);
\echo :SQLSTATE
RESET ROLE;
SELECT transaction_id AS opening FROM credits_open_account('back:1') \gset
SELECT transaction_id AS allocation FROM credits_allocate('back:1', 5) \gset
SELECT transaction_id AS adjustment FROM credits_adjust('back:1', -5, 'correction') \gset
SET ROLE regress_credits_app;
SELECT credits_refund(:opening);
\echo :SQLSTATE
SELECT credits_refund(:allocation);
\echo :SQLSTATE
SELECT credits_refund(:adjustment);
\echo :SQLSTATE
SELECT credits_refund(NULL);
\echo :SQLSTATE
SELECT credits_refund(0);
\echo :SQLSTATE
SELECT credits_refund(-1);
SELECT credits_refund(999999999);
SELECT credits_refund(9223372036854775807);
-- named account: it must be that one's
RESET ROLE;
SELECT kind FROM credits_open_account('back:2', 10);
SET ROLE regress_credits_app;
SELECT kind, amount, balance FROM credits_refund(:spend, 1, account => 'back:1');
SELECT credits_refund(:spend, 1, account => 'back:2');
\echo :SQLSTATE
SELECT credits_refund(:spend, 1, account => 'back:none');
\echo :SQLSTATE
SELECT credits_refund(:spend, 1, account => '');
\echo :SQLSTATE
-- free text
SELECT credits_refund(:spend, 1, '');
\echo :SQLSTATE
SELECT credits_refund(:spend, 1, repeat('x', 256));
SELECT credits_refund(:spend, 1, reason => '');
\echo :SQLSTATE
SELECT credits_refund(:spend, 1, reason => repeat('x', 1001));
SELECT credits_refund(:spend, 1, metadata => to_jsonb(repeat('x', 17000)));
SELECT credits_refund(:spend, 1, expired => 'forgive');
\echo :SQLSTATE
SELECT credits_refund(:spend, 1, expired => '');
\echo :SQLSTATE
SELECT credits_refund(:spend, 1, expired => 'Grace');

-- retries
SELECT * FROM credits_refund(:spend, 2, 'r1', 'because', '{"a": 1}');
SELECT * FROM credits_refund(:spend, 2, 'r1', 'because', '{"a": 1}');
SELECT amount, balance, replayed FROM credits_refund(:spend, 2, 'r1');
SELECT credits_refund(:spend, 3, 'r1');
\echo :SQLSTATE
SELECT credits_refund(:spend, NULL, 'r1');
\echo :SQLSTATE
SELECT transaction_id AS other FROM credits_deduct('back:1', 2) \gset
SELECT credits_refund(:other, 2, 'r1');
\echo :SQLSTATE
SELECT credits_deduct('back:1', 2, 'r1');
\echo :SQLSTATE
SELECT credits_refund(:spend, 2, 'r1', expired => 'expire');
\echo :SQLSTATE
SELECT credits_refund(:spend, 2, 'r1', expired => 'grace');
\echo :SQLSTATE
-- "all that is left" twice with one key is the same request, and what was left the first time
SELECT amount, balance, replayed FROM credits_refund(:spend, NULL, 'r2');
SELECT amount, balance, replayed FROM credits_refund(:spend, NULL, 'r2');
SELECT credits_refund(:spend, NULL, 'r3');
\echo :SQLSTATE

-- drawn from several grants: last drawn first
RESET ROLE;
SELECT kind FROM credits_open_account('back:3');
SELECT count(*) FROM (VALUES ('gift', 10), ('subscription', 20), ('manual', 30), ('purchase', 40))
	AS v (source, amount), LATERAL credits_allocate('back:3', v.amount, source => v.source);
SELECT transaction_id AS spend FROM credits_deduct('back:3', 75) \gset
SELECT source, remaining, status FROM credits.grants WHERE account_id = 120003 ORDER BY id;
SELECT balance FROM credits_refund(:spend, 10);
SELECT source, remaining, status FROM credits.grants WHERE account_id = 120003 ORDER BY id;
SELECT balance FROM credits_refund(:spend, 30);
SELECT source, remaining, status FROM credits.grants WHERE account_id = 120003 ORDER BY id;
-- the grants given back to are spent and given back to again, each spend for itself
SELECT transaction_id AS spend2 FROM credits_deduct('back:3', 50) \gset
SELECT balance FROM credits_refund(:spend);
SELECT balance FROM credits_refund(:spend2);
SELECT source, amount, remaining, status FROM credits.grants WHERE account_id = 120003 ORDER BY id;
SELECT transaction_id, kind, ordinal, grant_id, amount FROM credits.draws
WHERE account_id = 120003 ORDER BY transaction_id, ordinal;

-- expired meanwhile, not yet noticed or noticed: grace, by default a week
RESET ROLE;
SHOW credits.refund_grace;
SELECT kind FROM credits_open_account('back:4');
SELECT balance FROM credits_allocate('back:4', 10, source => 'gift', expires_at => '2030-02-01 00:00:00+00');
SELECT transaction_id AS spend FROM credits_deduct('back:4', 6) \gset
SET credits.test_clock = '2030-03-01 12:00:00+00';
SET ROLE regress_credits_app;
SELECT * FROM credits_refund(:spend, 4);
SELECT credits_balance('back:4');
SELECT balance, expiring_amount, expiring_at, expired, refunded FROM credits_summary('back:4');
RESET ROLE;
SELECT id, expires_at, granted_until, amount, remaining, status FROM credits.grants
WHERE account_id = 120004;
SELECT balance, due_at FROM credits.accounts WHERE id = 120004;
-- back again within the grace: the later end counts
SET credits.test_clock = '2030-03-03 12:00:00+00';
SET ROLE regress_credits_app;
SELECT kind, amount, balance FROM credits_refund(:spend, 1, expired => 'grace');
RESET ROLE;
SELECT expires_at, granted_until, remaining, status FROM credits.grants WHERE account_id = 120004;
SET ROLE regress_credits_app;
SELECT kind, amount, balance FROM credits_deduct('back:4', 2);
-- and what is left at the end expires
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-04-01 00:00:00+00';
SELECT credits_balance('back:4');
CALL credits_settle() \gset
SELECT transaction_id, created_at, kind, amount, balance, target_id FROM credits_history('back:4');
SELECT expires_at, granted_until, remaining, status FROM credits.grants WHERE account_id = 120004;
SELECT * FROM credits_verify('back:4');

-- expired meanwhile: expire
SELECT kind FROM credits_open_account('back:5');
SELECT balance FROM credits_allocate('back:5', 10, source => 'gift', expires_at => '2030-05-01 00:00:00+00');
SELECT balance FROM credits_allocate('back:5', 10);
SELECT transaction_id AS spend FROM credits_deduct('back:5', 13) \gset
SET credits.test_clock = '2030-06-01 00:00:00+00';
SET ROLE regress_credits_app;
-- the part that comes back first is of the grant that lives
SELECT kind, amount, balance FROM credits_refund(:spend, 2, expired => 'expire');
-- one credit of this one too, the rest of the other
SELECT * FROM credits_refund(:spend, 5, expired => 'expire');
SELECT credits_balance('back:5');
SELECT * FROM credits_refund(:spend, 1, 'expire-key', expired => 'expire');
SELECT kind, amount, balance, replayed FROM credits_refund(:spend, 1, 'expire-key', expired => 'expire');
SELECT credits_refund(:spend, 1, 'expire-key');
\echo :SQLSTATE
SELECT transaction_id, created_at, kind, amount, balance, target_id FROM credits_history('back:5');
SELECT balance, granted, spent, refunded, expired FROM credits_summary('back:5');
-- the rest with grace: of a grant that was given back to and expired before
SELECT kind, amount, balance FROM credits_refund(:spend, expired => 'grace');
SELECT credits_refund(:spend);
\echo :SQLSTATE
RESET ROLE;
SELECT transaction_id, kind, ordinal, grant_id, amount FROM credits.draws
WHERE account_id = 120005 ORDER BY transaction_id, ordinal;
SELECT id, expires_at, granted_until, amount, remaining, status FROM credits.grants
WHERE account_id = 120005 ORDER BY id;
SELECT * FROM credits_verify('back:5');

-- the setting decides where the call does not
SET credits.refund_grace = '0';
SELECT kind FROM credits_open_account('back:6');
SELECT balance FROM credits_allocate('back:6', 10, source => 'gift', expires_at => '2030-07-01 00:00:00+00');
SELECT transaction_id AS spend FROM credits_deduct('back:6', 10) \gset
SET credits.test_clock = '2030-08-01 00:00:00+00';
SELECT kind, amount, balance FROM credits_refund(:spend, 3);
SELECT kind, amount, balance FROM credits_refund(:spend, 1, expired => 'grace');
SET credits.refund_grace = '1 month';
SELECT kind, amount, balance FROM credits_refund(:spend, 2);
SELECT expires_at, granted_until, remaining, status FROM credits.grants WHERE account_id = 120006;
SELECT kind, amount, balance FROM credits_refund(:spend, 2, expired => 'expire');
SELECT expires_at, granted_until, remaining, status FROM credits.grants WHERE account_id = 120006;
SELECT kind, amount, balance FROM credits_history('back:6');
RESET credits.refund_grace;

-- spent in grace and refunded within, and after it
SELECT kind FROM credits_open_account('back:7');
SELECT balance FROM credits_allocate('back:7', 10, source => 'gift', expires_at => '2030-09-01 00:00:00+00');
SELECT transaction_id AS spend FROM credits_deduct('back:7', 10) \gset
SET credits.test_clock = '2030-09-02 00:00:00+00';
SELECT balance FROM credits_refund(:spend);
SELECT transaction_id AS spend2 FROM credits_deduct('back:7', 10) \gset
SELECT status, remaining, expires_at FROM credits.grants WHERE account_id = 120007;
SELECT balance FROM credits_refund(:spend2, 5);
SELECT status, remaining, expires_at, granted_until FROM credits.grants WHERE account_id = 120007;
SET credits.test_clock = '2030-09-20 00:00:00+00';
SELECT balance FROM credits_refund(:spend2, 5);
SELECT status, remaining, expires_at, granted_until FROM credits.grants WHERE account_id = 120007;
SELECT created_at, kind, amount, balance FROM credits_history('back:7');

-- voided meanwhile: given back and voided again
SELECT kind FROM credits_open_account('back:8');
SELECT transaction_id AS allocation FROM credits_allocate('back:8', 10, source => 'gift') \gset
SELECT balance FROM credits_allocate('back:8', 10);
SELECT transaction_id AS spend FROM credits_deduct('back:8', 14) \gset
-- nothing remains of the first: nothing to void
SELECT id AS grant FROM credits.grants WHERE transaction_id = :allocation \gset
SELECT credits_void_grant(:grant, 'fraud');
\echo :SQLSTATE
SELECT balance FROM credits_refund(:spend, 5);
SELECT kind, amount, balance FROM credits_void_grant(:grant, 'fraud');
SELECT * FROM credits_refund(:spend);
SELECT transaction_id, kind, amount, balance, target_id, reason FROM credits_history('back:8');
SELECT id, amount, remaining, status FROM credits.grants WHERE account_id = 120008 ORDER BY id;
SELECT transaction_id, kind, ordinal, grant_id, amount FROM credits.draws
WHERE account_id = 120008 ORDER BY transaction_id, ordinal;
SELECT * FROM credits_summary('back:8');

-- one spend out of a grant that lives, one expired, one voided, one used up
SELECT kind FROM credits_open_account('back:9');
SELECT balance FROM credits_allocate('back:9', 10, source => 'gift', expires_at => '2030-10-01', priority => 1);
SELECT transaction_id AS allocation FROM credits_allocate('back:9', 10, priority => 2) \gset
SELECT balance FROM credits_allocate('back:9', 10, priority => 3);
SELECT balance FROM credits_allocate('back:9', 10, priority => 4);
SELECT transaction_id AS spend FROM credits_deduct('back:9', 35) \gset
SET credits.test_clock = '2030-11-01 00:00:00+00';
SELECT balance FROM credits_refund(:spend, 16);
SELECT id AS grant FROM credits.grants WHERE transaction_id = :allocation \gset
SELECT amount, balance FROM credits_void_grant(:grant, 'fraud');
SELECT * FROM credits_refund(:spend, expired => 'expire');
SELECT transaction_id, kind, amount, balance, target_id FROM credits_history('back:9', 6);
SELECT priority, amount, remaining, status FROM credits.grants WHERE account_id = 120009 ORDER BY id;
SELECT transaction_id, kind, ordinal, grant_id, amount FROM credits.draws
WHERE account_id = 120009 AND kind <> 'allocation' ORDER BY transaction_id, ordinal;

-- what is refunded can be alerted about, paused and closed accounts: see alerts, accounts
SELECT * FROM credits_verify();
