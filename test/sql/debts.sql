-- debts: credits to be taken back that are spent already
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 3001;
ALTER SEQUENCE credits.grants_id_seq RESTART 3001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 3001;
ALTER SEQUENCE credits.purchases_id_seq RESTART 3001;
ALTER SEQUENCE credits.events_id_seq RESTART 3001;
SET credits.test_clock = '2233-02-01 00:00:00+00';
SET ROLE regress_credits_admin;
SELECT credits_set_package('de.100', 100, 10, 'USD') IS NOT NULL AS set;
SELECT credits_set_package('de.short', 100, 10, 'USD', expires_in => '10 days') IS NOT NULL AS set;
SELECT credits_set_package('de.two', 100, 10, 'USD', extras => '[{"credits": 20}]') IS NOT NULL AS set;
RESET ROLE;
-- buys a package: returns the purchase
CREATE FUNCTION pg_temp.buy(account text, package text) RETURNS bigint LANGUAGE sql AS $$
	SELECT p.purchase_id FROM credits_start_purchase($1, $2) AS s,
		LATERAL credits_complete_purchase(s.purchase_id, 'de_pay_' || s.purchase_id, s.price) AS p
$$;
-- what an account's grants owe
CREATE VIEW pg_temp.owed AS
SELECT a.name, d.grant_id, g.status, g.remaining, d.claimed, d.gone, d.owed, d.paid, d.payers
FROM credits.debts AS d JOIN credits.grants AS g ON g.id = d.grant_id JOIN credits.accounts AS a ON a.id = d.account_id;

-- what is spent is owed; the balance is never negative, and other credits can be spent
SELECT balance FROM credits_open_account('de:1', 30);
SELECT pg_temp.buy('de:1', 'de.100') AS p \gset
SELECT balance FROM credits_deduct('de:1', 90);
SELECT credits, balance, debt FROM credits_refund_purchase(:p);
SELECT balance, held, debt FROM credits_summary('de:1');
SELECT balance, debt FROM credits.accounts WHERE name = 'de:1';
SELECT credits_deduct('de:1', 1);
SELECT balance FROM credits_allocate('de:1', 10, source => 'promotional');
SELECT balance FROM credits_deduct('de:1', 4);
SELECT balance, debt FROM credits_summary('de:1');

-- what is bought pays it, whoever gives it; the receipt shows the balance after, also when replayed
SELECT kind, amount, balance, replayed FROM credits_allocate('de:1', 15, source => 'purchase', idempotency_key => 'a1', price => 1, currency => 'USD');
SELECT kind, amount, balance, replayed FROM credits_allocate('de:1', 15, source => 'purchase', idempotency_key => 'a1', price => 1, currency => 'USD');
SELECT pg_temp.buy('de:1', 'de.100') AS q \gset
SELECT balance, debt FROM credits_summary('de:1');
SELECT kind, amount, balance_after, draws, target_id, terms FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name = 'de:1' AND kind IN ('clawback', 'debt_payment') ORDER BY t.id;
SELECT * FROM pg_temp.owed WHERE name = 'de:1' ORDER BY grant_id;

-- by setting, everything that comes in does
SELECT pg_temp.buy('de:1', 'de.100') AS p3 \gset
SELECT balance FROM credits_deduct('de:1', credits_balance('de:1'));
SELECT credits, balance, debt FROM credits_refund_purchase(:p3, 5);
SELECT balance FROM credits_allocate('de:1', 10, source => 'promotional');
SET credits.debt_payment = 'any';
SELECT balance FROM credits_allocate('de:1', 10, source => 'promotional');
SELECT balance FROM credits_adjust('de:1', 5, 'sorry');
SELECT item, (receipt).balance FROM credits_allocate_many('{"(de:1,5,,,,,manual,,,,,,)","(de:1,50,,,,,manual,,,,,,)"}'::credits.allocation[]);
SELECT balance, debt FROM credits_summary('de:1');
RESET credits.debt_payment;

-- what is given back to the grant that owes pays its debt, what goes elsewhere does not
SELECT balance FROM credits_open_account('de:2', 50);
SELECT pg_temp.buy('de:2', 'de.100') AS p \gset
SELECT transaction_id AS hold FROM credits_hold('de:2', 70) \gset
SELECT transaction_id AS spend FROM credits_deduct('de:2', 60) \gset
SELECT credits, balance, debt FROM credits_open_chargeback(:p, 'dp');
SELECT kind, amount, balance, replayed FROM credits_refund(:spend, 10, idempotency_key => 'r1');
SELECT kind, amount, balance, replayed FROM credits_refund(:spend, 10, idempotency_key => 'r1');
SELECT balance, held, debt FROM credits_summary('de:2');
SELECT kind, amount, balance, held, replayed FROM credits_capture(:hold, 30, idempotency_key => 'c1');
SELECT kind, amount, balance, held, replayed FROM credits_capture(:hold, 30, idempotency_key => 'c1');
SELECT balance, held, debt FROM credits_summary('de:2');
SELECT * FROM pg_temp.owed WHERE name = 'de:2' ORDER BY grant_id;

-- won: what was paid goes back to the grants that paid
SELECT pg_temp.buy('de:2', 'de.short') AS q \gset
SELECT balance, debt FROM credits_summary('de:2');
SELECT * FROM pg_temp.owed WHERE name = 'de:2' ORDER BY grant_id;
SELECT credits, balance, debt FROM credits_close_chargeback(:p, 'dp', 'won');
SELECT * FROM pg_temp.owed WHERE name = 'de:2' ORDER BY grant_id;
SELECT g.amount, g.remaining, g.status FROM credits.grants AS g JOIN credits.purchases AS p ON g.id = ANY (p.grant_ids) WHERE p.id IN (:p, :q) ORDER BY g.id;
SELECT kind, amount, balance FROM credits_refund(:spend);
SELECT kind, amount, draws, terms FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name = 'de:2' AND kind = 'reinstatement' ORDER BY t.id;

-- what expired is gone, and nobody owes it
SELECT balance FROM credits_open_account('de:3');
SELECT pg_temp.buy('de:3', 'de.short') AS p \gset
SELECT transaction_id AS spend FROM credits_deduct('de:3', 30) \gset
SET credits.test_clock = '2233-02-15 00:00:00+00';
SELECT credits, balance, debt FROM credits_open_chargeback(:p, 'dp', 6);
SELECT credits, balance, debt FROM credits_refund_purchase(:p);
SELECT * FROM pg_temp.owed WHERE name = 'de:3' ORDER BY grant_id;
SELECT kind, amount, balance FROM credits_refund(:spend, 20);
SELECT balance, debt FROM credits_summary('de:3');
SELECT credits, balance, debt FROM credits_close_chargeback(:p, 'dp', 'won');
SELECT * FROM pg_temp.owed WHERE name = 'de:3' ORDER BY grant_id;
SELECT balance, debt, expiring_amount, expiring_at FROM credits_summary('de:3');

-- taken and given back after the grant's time is over: for the grace of refunds
SELECT balance FROM credits_open_account('de:4');
SELECT pg_temp.buy('de:4', 'de.short') AS p \gset
SELECT credits, balance, debt FROM credits_open_chargeback(:p, 'dp');
SET credits.test_clock = '2233-04-01 00:00:00+00';
SELECT credits, balance, debt FROM credits_close_chargeback(:p, 'dp', 'won');
SELECT balance, expiring_amount, expiring_at FROM credits_summary('de:4');
SELECT credits, balance, debt FROM credits_open_chargeback(:p, 'dp2');
SET credits.refund_grace = '0';
SELECT credits, balance, debt FROM credits_close_chargeback(:p, 'dp2', 'won');
SELECT balance, expired FROM credits_summary('de:4');
RESET credits.refund_grace;

-- what was voided is gone too; what was moved away is owed
SELECT balance FROM credits_open_account('de:5');
SELECT balance FROM credits_open_account('de:6');
SELECT pg_temp.buy('de:5', 'de.two') AS p \gset
SELECT balance FROM credits_transfer('de:5', 'de:6', 50);
SELECT kind, amount FROM credits_void_grant((SELECT grant_ids[1] FROM credits.purchases WHERE id = :p), 'test');
SELECT credits, balance, debt FROM credits_refund_purchase(:p, 8);
SELECT credits, balance, debt FROM credits_refund_purchase(:p);
SELECT * FROM pg_temp.owed WHERE name = 'de:5' ORDER BY grant_id;
SELECT transaction_id AS moved FROM credits_history('de:5', kinds => ARRAY['transfer']) \gset
SELECT kind, amount, balance FROM credits_reverse_transfer(:moved, 'test');
SELECT balance, debt FROM credits_summary('de:5');

-- a grant that becomes effective pays then, whether or not anything settles the account
SELECT balance FROM credits_open_account('de:7');
SELECT pg_temp.buy('de:7', 'de.100') AS p \gset
SELECT balance FROM credits_deduct('de:7', 100);
SELECT credits, balance, debt FROM credits_refund_purchase(:p);
SELECT balance FROM credits_allocate('de:7', 130, source => 'purchase', effective_at => '2233-05-01', expires_at => '2233-06-01');
SELECT balance, debt FROM credits_summary('de:7');
SET credits.test_clock = '2233-05-02 00:00:00+00';
SELECT credits_balance('de:7'), credits_balance_at('de:7', '2233-04-30'), credits_balance_at('de:7', '2233-07-01');
SELECT balance, debt, expiring_amount FROM credits_summary('de:7');
SELECT balance FROM credits_deduct('de:7', 31);
SELECT balance FROM credits_deduct('de:7', 30);
SELECT kind, t.created_at, amount, balance_after FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name = 'de:7' AND kind IN ('activation', 'debt_payment') ORDER BY t.id;

-- a grant that has paid another's debt, and then owes itself
SELECT balance FROM credits_open_account('de:8');
SELECT pg_temp.buy('de:8', 'de.100') AS p \gset
SELECT balance FROM credits_deduct('de:8', 100);
SELECT credits, balance, debt FROM credits_open_chargeback(:p, 'dp');
SELECT pg_temp.buy('de:8', 'de.100') AS q \gset
SELECT credits, balance, debt FROM credits_open_chargeback(:q, 'dq');
SELECT * FROM pg_temp.owed WHERE name = 'de:8' ORDER BY grant_id;
SELECT credits, balance, debt FROM credits_close_chargeback(:p, 'dp', 'won');
SELECT * FROM pg_temp.owed WHERE name = 'de:8' ORDER BY grant_id;
SELECT credits, balance, debt FROM credits_close_chargeback(:q, 'dq', 'won');

-- what comes back and is lost at once is not owed any longer, as if it had come before
SELECT balance FROM credits_open_account('de:9');
SELECT pg_temp.buy('de:9', 'de.short') AS p \gset
SELECT transaction_id AS spend FROM credits_deduct('de:9', 60) \gset
SELECT transaction_id AS hold FROM credits_hold('de:9', 40, expires_in => '30 days') \gset
SET credits.test_clock = '2233-05-20 00:00:00+00';
SELECT credits, balance, debt FROM credits_refund_purchase(:p);
SELECT kind, amount, balance FROM credits_release(:hold);
SELECT kind, amount, balance FROM credits_refund(:spend, 50, expired => 'expire');
SELECT balance, debt FROM credits_summary('de:9');
SELECT kind, amount, target_id, terms FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name = 'de:9' AND kind IN ('clawback', 'reinstatement') ORDER BY t.id;
SELECT * FROM pg_temp.owed WHERE name = 'de:9' ORDER BY grant_id;

-- all is proved, and what is not so shows
SELECT * FROM credits_verify();
BEGIN;
ALTER TABLE credits.debts DISABLE TRIGGER ALL;
UPDATE credits.debts SET owed = owed + 1, claimed = claimed + 1 WHERE grant_id = (SELECT min(grant_id) FROM pg_temp.owed WHERE name = 'de:3');
DELETE FROM credits.debts WHERE grant_id = (SELECT min(grant_id) FROM pg_temp.owed WHERE name = 'de:4');
UPDATE credits.debts SET payers = '{{1,10},{2,60}}' WHERE grant_id = (SELECT min(grant_id) FROM pg_temp.owed WHERE name = 'de:1');
INSERT INTO credits.debts SELECT id, account_id, 0, 0, 0, 0 FROM credits.grants WHERE account_id = credits.account_id('de:6') ORDER BY id LIMIT 1;
SELECT account, problem, detail FROM credits_verify() ORDER BY account COLLATE "C", detail COLLATE "C";
ROLLBACK;
BEGIN;
ALTER TABLE credits.accounts DISABLE TRIGGER ALL;
UPDATE credits.accounts SET debt = debt + 7 WHERE name = 'de:1';
SELECT account, problem, detail FROM credits_verify('de:1');
ROLLBACK;
