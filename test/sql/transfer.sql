-- transfer: moving credits to another account, and back
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
-- whatever other tests left due
SET credits.test_clock = '2036-01-01 00:00:00+00';
CALL credits_settle() \gset
ALTER SEQUENCE credits.accounts_id_seq RESTART 760001;
ALTER SEQUENCE credits.grants_id_seq RESTART 760001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 760001;
ALTER SEQUENCE credits.events_id_seq RESTART 760001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('move:1', 100);
SELECT kind, balance FROM credits_open_account('move:2');
SET ROLE regress_credits_app;

-- both rows, with nothing but an amount, and with everything
SELECT * FROM credits_transfer('move:1', 'move:2', 30);
SELECT * FROM credits_transfer(from_account => 'move:1', to_account => 'move:2', amount => 20,
	idempotency_key => 't1', reason => 'birthday', metadata => '{"a": 1}');
SELECT credits_balance('move:1'), credits_balance('move:2');
SELECT transaction_id, created_at, kind, amount, balance, reason, metadata, target_id, idempotency_key
FROM credits_history('move:1');
SELECT transaction_id, created_at, kind, amount, balance, reason, metadata, target_id, idempotency_key
FROM credits_history('move:2');
SELECT * FROM credits_summary('move:1');
SELECT * FROM credits_summary('move:2');
SELECT credits_transfer('move:2', 'move:1', 1) IS NULL;
-- replays, and the same key for anything else
SELECT * FROM credits_transfer('move:1', 'move:2', 20, 't1', 'birthday', '{"a": 1}');
SELECT * FROM credits_transfer('move:1', 'move:2', 20, 't1');
SELECT credits_transfer('move:1', 'move:2', 21, 't1');
\echo :SQLSTATE
SELECT credits_deduct('move:1', 20, 't1');
\echo :SQLSTATE
-- the key is the giver's
SELECT kind, amount, replayed FROM credits_deduct('move:2', 1, 't1');
SELECT credits_transfer('move:2', 'move:1', 20, 't1');
\echo :SQLSTATE
-- what failed keeps no key
SELECT credits_transfer('move:1', 'move:2', 1000, 'failed');
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:none', 1, 'failed');
\echo :SQLSTATE
SELECT amount, replayed FROM credits_transfer('move:1', 'move:2', 1, 'failed');

-- bad arguments, and what must not be
SELECT credits_transfer(NULL, 'move:2', 1);
\echo :SQLSTATE
SELECT credits_transfer('move:1', NULL, 1);
\echo :SQLSTATE
SELECT credits_transfer('', 'move:2', 1);
\echo :SQLSTATE
SELECT credits_transfer('move:1', ' move:2', 1);
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:2', NULL);
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:2', 0);
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:2', -5);
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:2', 9223372036854775807);
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:1', 1);
\echo :SQLSTATE
SELECT credits_transfer('move:none', 'move:1', 1);
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:none', 1);
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:2', 1, '');
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:2', 1, repeat('x', 256));
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:2', 1, reason => '');
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:2', 1, reason => repeat('x', 1001));
\echo :SQLSTATE
SELECT credits_transfer('move:1', 'move:2', 1, metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
RESET ROLE;
SELECT kind FROM credits_open_account('move:minutes', 100, unit => 'minute');
SET ROLE regress_credits_app;
SELECT credits_transfer('move:1', 'move:minutes', 1);
\echo :SQLSTATE
SELECT credits_transfer('move:minutes', 'move:1', 1);
\echo :SQLSTATE
SELECT credits_balance('move:1'), credits_balance('move:2');
-- who may
SET ROLE regress_credits_auditor;
SELECT credits_transfer('move:1', 'move:2', 1);
\echo :SQLSTATE
SET ROLE regress_credits_app;
SELECT credits_reverse_transfer(760003, 'mistake');
\echo :SQLSTATE
RESET ROLE;

-- credits keep what they are: source, priority, expiry, their share of the price
SELECT kind FROM credits_open_account('move:3');
SELECT kind FROM credits_open_account('move:4', 5);
SELECT balance FROM credits_allocate('move:3', 10, source => 'promotional', expires_at => '2030-02-01');
SELECT balance FROM credits_allocate('move:3', 30, source => 'subscription', expires_at => '2030-03-01', priority => 5, price => 10, currency => 'EUR');
SELECT balance FROM credits_allocate('move:3', 100, source => 'purchase', price => 9.90, currency => 'USD');
SELECT balance FROM credits_allocate('move:3', 50, source => 'gift', effective_at => '2030-01-15');
SELECT max(id) - 3 AS promo, max(id) - 2 AS plan, max(id) - 1 AS bought, max(id) AS pending FROM credits.grants \gset
SELECT transaction_id AS id, balance FROM credits_transfer('move:3', 'move:4', 60) \gset
-- what is still to come is not moved
SELECT credits_transfer('move:3', 'move:4', 81);
\echo :SQLSTATE
SELECT source, priority, effective_at, expires_at, amount, remaining, price, currency, status, transaction_id - :id AS transaction
FROM credits.grants WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'move:4') ORDER BY id;
SELECT source, remaining, price, status FROM credits.grants
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'move:3') ORDER BY id;
SELECT transaction_id - :id AS transaction, ordinal, grant_id - :pending AS grant, amount FROM credits.draws
WHERE transaction_id >= :id ORDER BY transaction_id, ordinal;
SELECT jsonb_object_agg(key::bigint - :pending, value) FROM credits.transactions, jsonb_each(terms) WHERE id = :id + 1;
-- the whole of a grant takes its whole price; thirds are rounded
SELECT balance FROM credits_allocate('move:3', 3, source => 'promotional', price => 1, currency => 'EUR');
SELECT balance FROM credits_transfer('move:3', 'move:4', 1);
SELECT balance FROM credits_transfer('move:3', 'move:4', 2);
SELECT amount, price FROM credits.grants WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'move:4') ORDER BY id DESC LIMIT 2;
-- nobody makes them last by sending them round
SELECT balance FROM credits_transfer('move:4', 'move:3', 60);
SELECT source, priority, expires_at, amount, price FROM credits.grants
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'move:3') AND status = 'open' ORDER BY id;
SET credits.test_clock = '2030-03-01 00:00:00+00';
SELECT balance, expired FROM credits_summary('move:3');
SELECT balance, expired FROM credits_summary('move:4');
-- settled on both sides first
SELECT balance FROM credits_transfer('move:3', 'move:4', 1);
SELECT kind, created_at, amount, balance FROM credits_history('move:3', 5) ORDER BY transaction_id;
SELECT v.* FROM (VALUES ('move:1'), ('move:2'), ('move:3'), ('move:4')) AS a (name), LATERAL credits_verify(a.name) AS v;

-- a grant in grace, and one that is held in part
SELECT kind FROM credits_open_account('move:5');
SELECT balance FROM credits_allocate('move:5', 10, source => 'trial', expires_at => '2030-04-01');
SELECT transaction_id AS spend FROM credits_deduct('move:5', 8) \gset
SET credits.test_clock = '2030-04-02 00:00:00+00';
SELECT balance FROM credits_refund(:spend);
SELECT transaction_id AS hold, balance FROM credits_hold('move:5', 3) \gset
SELECT credits_transfer('move:5', 'move:2', 6);
\echo :SQLSTATE
SELECT balance, held FROM credits_transfer('move:5', 'move:2', 5);
SELECT source, expires_at, granted_until FROM credits.grants ORDER BY id DESC LIMIT 1;
SELECT balance, held FROM credits_capture(:hold);

-- status: a paused account gives nothing and may receive, a closed one neither
SELECT kind, balance FROM credits_open_account('move:6', 10);
SELECT kind FROM credits_pause_account('move:6', 'dispute');
SELECT credits_transfer('move:6', 'move:1', 1);
\echo :SQLSTATE
SELECT balance FROM credits_transfer('move:1', 'move:6', 1);
SELECT kind FROM credits_close_account('move:6', 'gone');
SELECT credits_transfer('move:1', 'move:6', 1);
\echo :SQLSTATE
SELECT credits_transfer('move:6', 'move:1', 1);
\echo :SQLSTATE
-- the receiver's highest balance
SELECT kind, balance FROM credits_open_account('move:7', 10);
SELECT kind FROM credits_set_limits('move:7', max_balance => 15);
SELECT credits_transfer('move:1', 'move:7', 6);
\echo :SQLSTATE
SELECT balance FROM credits_transfer('move:1', 'move:7', 5);
SELECT balance FROM credits_summary('move:7');
-- a threshold is crossed by giving
SELECT kind FROM credits_set_alerts('move:7', '12');
SELECT balance FROM credits_transfer('move:7', 'move:1', 5);
SELECT kind, detail->>'balance' AS balance FROM credits.events
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'move:7') ORDER BY id;
SELECT kind, balance FROM credits_set_limits('move:7');

-- back again: all that the receiver still has
SET credits.test_clock = '2030-05-01 00:00:00+00';
SELECT kind, balance FROM credits_open_account('move:8');
SELECT kind, balance FROM credits_open_account('move:9', 1);
SELECT balance FROM credits_allocate('move:8', 10, source => 'promotional', expires_at => '2030-06-01');
SELECT balance FROM credits_allocate('move:8', 20, source => 'purchase');
SELECT transaction_id AS id FROM credits_transfer('move:8', 'move:9', 25) \gset
SELECT * FROM credits_reverse_transfer(:id, 'mistake');
SELECT remaining, status, source FROM credits.grants WHERE account_id IN
	(SELECT id FROM credits.accounts WHERE name IN ('move:8', 'move:9')) ORDER BY account_id, id;
SELECT a.name, t.kind, t.amount, t.balance_after, t.target_id - :id AS target, t.reason
FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id WHERE t.id > :id ORDER BY t.id;
-- twice
SELECT credits_reverse_transfer(:id, 'mistake');
\echo :SQLSTATE
SELECT credits_reverse_transfer(:id, 'mistake', 1);
\echo :SQLSTATE
-- bad arguments
SELECT credits_reverse_transfer(NULL, 'mistake');
\echo :SQLSTATE
SELECT credits_reverse_transfer(:id, NULL);
\echo :SQLSTATE
SELECT credits_reverse_transfer(:id, '');
\echo :SQLSTATE
SELECT credits_reverse_transfer(:id, repeat('x', 1001));
\echo :SQLSTATE
SELECT credits_reverse_transfer(:id, 'mistake', 0);
\echo :SQLSTATE
SELECT credits_reverse_transfer(:id, 'mistake', -1);
\echo :SQLSTATE
SELECT credits_reverse_transfer(:id, 'mistake', idempotency_key => '');
\echo :SQLSTATE
SELECT credits_reverse_transfer(:id, 'mistake', metadata => to_jsonb(repeat('x', 17000)));
\echo :SQLSTATE
SELECT credits_reverse_transfer(469999, 'mistake');
\echo :SQLSTATE
SELECT credits_reverse_transfer(0, 'mistake');
\echo :SQLSTATE
-- no transfer: the receiver's row, a deduction, the reversal itself
SELECT credits_reverse_transfer(:id + 1, 'mistake');
\echo :SQLSTATE
SELECT credits_reverse_transfer(:id + 2, 'mistake');
\echo :SQLSTATE
SELECT credits_reverse_transfer(:spend, 'mistake');
\echo :SQLSTATE

-- in parts, with keys; the last draws go back first
SELECT transaction_id AS id FROM credits_transfer('move:8', 'move:9', 25, 'gift') \gset
SELECT * FROM credits_reverse_transfer(:id, 'mistake', 4, 'r1', '{"a": 1}');
SELECT credits_reverse_transfer(:id, 'mistake', 22);
\echo :SQLSTATE
SELECT amount, balance, replayed FROM credits_reverse_transfer(:id, 'other words', 4, 'r1');
SELECT credits_reverse_transfer(:id, 'mistake', 5, 'r1');
\echo :SQLSTATE
SELECT credits_reverse_transfer(:id, 'mistake', NULL, 'r1');
\echo :SQLSTATE
-- spent, held, sent on meanwhile: only the rest is there
SELECT balance FROM credits_deduct('move:9', 3);
SELECT transaction_id AS hold, balance, held FROM credits_hold('move:9', 2, expires_in => '1 year') \gset
SELECT transaction_id AS onward, balance FROM credits_transfer('move:9', 'move:1', 1) \gset
SELECT credits_reverse_transfer(:id, 'mistake', 16);
\echo :SQLSTATE
SELECT amount, balance FROM credits_reverse_transfer(:id, 'mistake', 12, 'r2');
SELECT grant_id - (SELECT min(id) FROM credits.grants WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'move:8')) AS grant,
	   amount
FROM credits.draws WHERE kind = 'reversal' AND account_id = (SELECT id FROM credits.accounts WHERE name = 'move:8') ORDER BY transaction_id, ordinal;
-- what is released, or comes back, is there again
SELECT balance, held FROM credits_release(:hold);
SELECT amount, balance FROM credits_reverse_transfer(:onward, 'sent on by mistake');
SELECT amount, balance FROM credits_reverse_transfer(:id, 'mistake', 6, 'r3');
SELECT credits_reverse_transfer(:id, 'mistake');
\echo :SQLSTATE
SELECT balance FROM credits_summary('move:9');
-- amounts of the reversals, and the giver's grants, are as if only 3 had ever been sent
SELECT remaining, status FROM credits.grants
WHERE account_id = (SELECT id FROM credits.accounts WHERE name = 'move:8') ORDER BY id;

-- meanwhile expired on both sides: nothing is left
SELECT transaction_id AS id FROM credits_transfer('move:8', 'move:9', 5) \gset
SET credits.test_clock = '2030-06-01 00:00:00+00';
SELECT credits_reverse_transfer(:id, 'too late');
\echo :SQLSTATE
-- expired at the giver's alone: by a grace that only the receiver's grant has
SELECT kind FROM credits_open_account('move:10');
SELECT kind FROM credits_open_account('move:11');
SELECT balance FROM credits_allocate('move:10', 10, source => 'promotional', expires_at => '2030-07-01');
SELECT max(id) AS given FROM credits.grants \gset
SELECT transaction_id AS id FROM credits_transfer('move:10', 'move:11', 6) \gset
SELECT transaction_id AS spend FROM credits_deduct('move:11', 6) \gset
SET credits.test_clock = '2030-07-02 00:00:00+00';
SELECT balance FROM credits_refund(:spend);
SELECT * FROM credits_reverse_transfer(:id, 'mistake', 4, 'r1');
SELECT * FROM credits_reverse_transfer(:id, 'mistake', 4, 'r1');
SELECT kind, amount, balance, transaction_id - :id AS transaction, target_id - :id AS target
FROM credits_history('move:10') ORDER BY transaction_id;
SELECT remaining, status FROM credits.grants WHERE id = :given;
SELECT balance FROM credits_summary('move:11');
-- the giver's grant voided meanwhile
SELECT balance FROM credits_allocate('move:10', 10, source => 'promotional');
SELECT max(id) AS given FROM credits.grants \gset
SELECT transaction_id AS id FROM credits_transfer('move:10', 'move:11', 6) \gset
SELECT balance FROM credits_void_grant(:given, 'fraud');
SELECT kind, amount, balance FROM credits_reverse_transfer(:id, 'fraud', 4, 'r2');
SELECT kind, amount, balance, replayed FROM credits_reverse_transfer(:id, 'fraud', 4, 'r2');
SELECT kind, amount, balance FROM credits_history('move:10', 2) ORDER BY transaction_id;
-- the receiver's grant voided meanwhile
SELECT balance FROM credits_void_grant((SELECT max(id) FROM credits.grants), 'fraud');
SELECT credits_reverse_transfer(:id, 'fraud');
\echo :SQLSTATE
-- status: paused on either side is no matter, closed is
SELECT balance FROM credits_allocate('move:10', 10);
SELECT transaction_id AS id FROM credits_transfer('move:10', 'move:11', 6) \gset
SELECT kind FROM credits_pause_account('move:10', 'dispute');
SELECT kind FROM credits_pause_account('move:11', 'dispute');
SELECT amount, balance FROM credits_reverse_transfer(:id, 'mistake', 1);
SELECT kind FROM credits_close_account('move:10', 'gone');
SELECT credits_reverse_transfer(:id, 'mistake', 1);
\echo :SQLSTATE
SELECT kind, balance FROM credits_open_account('move:12', 10);
SELECT kind, balance FROM credits_open_account('move:13', 10);
SELECT transaction_id AS id FROM credits_transfer('move:12', 'move:13', 6) \gset
SELECT kind FROM credits_close_account('move:13', 'gone');
SELECT credits_reverse_transfer(:id, 'mistake');
\echo :SQLSTATE

-- all or nothing: with the transaction, to a savepoint, in the middle of a statement
BEGIN;
SELECT balance FROM credits_transfer('move:1', 'move:2', 1);
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT transaction_id AS gone, balance FROM credits_transfer('move:1', 'move:2', 2) \gset
ROLLBACK TO s;
SELECT balance FROM credits_transfer('move:1', 'move:2', 3);
COMMIT;
SELECT credits_reverse_transfer(:gone, 'gone');
\echo :SQLSTATE
SELECT sum((r).amount), min((r).balance) FROM (SELECT credits_transfer(
	CASE i % 2 WHEN 0 THEN 'move:1' ELSE 'move:2' END, CASE i % 2 WHEN 0 THEN 'move:2' ELSE 'move:1' END, i::bigint) AS r
	FROM generate_series(1, 9) AS i) AS s;
SELECT credits_transfer('move:1', 'move:2', i::bigint) FROM generate_series(15, 30, 5) AS i;
\echo :SQLSTATE
SELECT credits_balance('move:1'), credits_balance('move:2');

-- the largest numbers
SELECT kind FROM credits_open_account('move:14');
SELECT kind, balance FROM credits_open_account('move:15', 1);
SELECT balance FROM credits_allocate('move:14', 9223372036854775807, price => 1, currency => 'EUR');
SELECT credits_transfer('move:14', 'move:15', 9223372036854775807);
\echo :SQLSTATE
SELECT balance FROM credits_transfer('move:14', 'move:15', 9223372036854775806);
SELECT balance FROM credits_summary('move:15');
SELECT amount, price FROM credits.grants ORDER BY id DESC LIMIT 1;
SELECT credits_transfer('move:15', 'move:14', 1);
\echo :SQLSTATE

-- who has forged a transfer is found out
\set forge 'ALTER TABLE credits.log_default DISABLE TRIGGER ALL; ALTER TABLE credits.grants DISABLE TRIGGER ALL;'
SELECT kind FROM credits_open_account('move:16', 10);
SELECT kind FROM credits_open_account('move:17');
SELECT transaction_id AS id FROM credits_transfer('move:16', 'move:17', 6) \gset
SELECT kind FROM credits_reverse_transfer(:id, 'mistake', 2);
BEGIN; :forge
UPDATE credits.grants SET expires_at = NULL, priority = 1 WHERE transaction_id = :id + 1;
SELECT account, transaction_id - :id AS transaction, problem, detail LIKE '%given with' AS given FROM credits_verify('move:17');
ROLLBACK;
BEGIN; :forge
UPDATE credits.grants SET price = 5, currency = 'EUR' WHERE transaction_id = :id + 1;
SELECT account, transaction_id - :id AS transaction, problem FROM credits_verify('move:17');
ROLLBACK;
BEGIN; :forge
UPDATE credits.log_default SET amount = 7 WHERE id = :id + 2;
SELECT account, transaction_id - :id AS transaction, problem, detail FROM credits_verify('move:16');
ROLLBACK;
BEGIN; :forge
UPDATE credits.log_default SET target_id = NULL WHERE id = :id + 3;
SELECT account, transaction_id - :id AS transaction, problem, detail FROM credits_verify('move:17');
ROLLBACK;
BEGIN; :forge
DELETE FROM credits.log_default WHERE id = :id + 1;
SELECT credits_reverse_transfer(:id, 'mistake');
\echo :SQLSTATE
ROLLBACK;

SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.name LIKE 'move:%';
SET credits.test_clock = '2036-01-01 00:00:00+00';
CALL credits_settle() \gset
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.name LIKE 'move:%';

-- what there is, up to an amount, and as far as the receiver has room
SET ROLE regress_credits_admin;
SET credits.test_clock = '2036-02-01 00:00:00+00';
SELECT balance FROM credits_open_account('move:upto', 30);
SELECT balance FROM credits_open_account('move:limited', 0);
SELECT kind FROM credits_set_limits('move:limited', max_balance => 20);
SET ROLE regress_credits_app;
SELECT kind, amount, balance, replayed FROM credits_transfer_up_to('move:upto', 'move:limited', 25, 'u1', 'gift', '{"a": 1}');
SELECT kind, amount, balance, replayed FROM credits_transfer_up_to('move:upto', 'move:limited', 25, 'u1');
SELECT transaction_id AS none, kind, amount, balance FROM credits_transfer_up_to('move:upto', 'move:limited', 1, 'u2') \gset
SELECT kind, amount, balance, replayed FROM credits_transfer_up_to('move:upto', 'move:limited', 1, 'u2');
SELECT credits_transfer('move:upto', 'move:limited', 1, 'u2');
\echo :SQLSTATE
SELECT kind, amount, balance FROM credits_transfer_up_to('move:limited', 'move:upto', 100);
SELECT kind, amount, balance FROM credits_transfer_up_to('move:limited', 'move:upto', 100);
SET ROLE regress_credits_admin;
SELECT credits_reverse_transfer(:none, 'of nothing');
\echo :SQLSTATE
-- nor is the receiver's row the transfer
SELECT credits_reverse_transfer(:none + 1, 'of nothing');
\echo :SQLSTATE
-- a spend that would be too little is none
SELECT kind FROM credits_set_limits('move:upto', min_spend => 31);
SELECT kind, amount, balance FROM credits_transfer_up_to('move:upto', 'move:limited', 31);
SELECT credits_transfer_up_to('move:upto', 'move:limited', 5);
\echo :SQLSTATE
SELECT a.name, t.kind, t.amount, t.balance_after, t.draws IS NULL AS no_draws, t.terms IS NULL AS no_terms, t.reason
FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name IN ('move:upto', 'move:limited') ORDER BY t.id;
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.name LIKE 'move:%';

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
