-- purchases: credits that are paid for, and money that goes back
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 6001;
ALTER SEQUENCE credits.grants_id_seq RESTART 6001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 6001;
ALTER SEQUENCE credits.events_id_seq RESTART 6001;
ALTER SEQUENCE credits.purchases_id_seq RESTART 6001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2233-01-01 00:00:00+00';
SELECT credits_set_package('pu.small', 100, 9.99, 'USD') IS NOT NULL AS set;
SELECT credits_set_package('pu.bundle', 1000, 49, 'USD', expires_in => '1 year',
	extras => '[{"credits": 100, "expires_in": "30 days", "source": "promotional"},
		{"credits": 7, "unit": "image"}]') IS NOT NULL AS set;
SELECT credits_set_unit_price('USD', 0.10) IS NOT NULL AS set;
SELECT credits_set_unit_price('JPY', 15) IS NOT NULL AS set;
SELECT credits_set_promotion('pu.half', 'percent', 50, max_uses => 1) IS NOT NULL AS set;
SELECT credits_set_promotion('pu.free', 'percent', 100) IS NOT NULL AS set;
SELECT balance FROM credits_open_account('pu:1');
SELECT balance FROM credits_open_account('pu:2', 5);

-- starting: what a checkout needs; nothing is given
SET ROLE regress_credits_app;
SELECT * FROM credits_purchase_start('pu:1', 'pu.small', idempotency_key => 'k1', metadata => '{"cart": 3}');
SELECT purchase_id, replayed FROM credits_purchase_start('pu:1', 'pu.small', idempotency_key => 'k1');
SELECT credits_purchase_start('pu:1', amount => 50, idempotency_key => 'k1');
SELECT purchase_id, credits, price, currency, amount_minor, metadata FROM credits_purchase_start('pu:1', amount => 55, currency => 'USD');
SELECT purchase_id, credits, price, currency, amount_minor FROM credits_purchase_start('pu:1', amount => 55, currency => 'JPY');
SELECT purchase_id, credits, price FROM credits_purchase_start('pu:1', 'pu.bundle');
SELECT purchase_id, price FROM credits_purchase_start('pu:2', 'pu.small', promotion => 'pu.half');
SELECT credits_balance('pu:1');
\set VERBOSITY sqlstate
SELECT credits_purchase_start('pu:1', 'pu.small', promotion => 'pu.half');
SELECT credits_purchase_start('pu:1');
SELECT credits_purchase_start('pu:1', 'pu.small', 5);
SELECT credits_purchase_start('pu:1', 'pu.none');
SELECT credits_purchase_start('pu:none', 'pu.small');
SELECT credits_purchase_start(NULL, 'pu.small');
SELECT credits_purchase_start('pu:1', amount => 0);
SELECT credits_purchase_complete(6001, 'pay_1', 9.99);
\set VERBOSITY default

-- completing: once, at the real price
SET ROLE regress_credits_admin;
SELECT * FROM credits_purchase_complete(6001, 'pay_1', 9.99, 'USD');
SELECT * FROM credits_purchase_complete(6001, 'pay_1', 9.99, 'USD');
SELECT outcome, (receipt).kind, (receipt).amount, (receipt).balance FROM credits_purchase_complete(6004, 'pay_4', 49);
SELECT outcome, (receipt).balance, (receipt).replayed FROM credits_purchase_complete(6004, 'pay_4', 49);
SELECT a.name, g.amount, g.source, g.price, g.currency, g.expires_at, g.priority
FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id
WHERE g.id > 6000 AND g.id < 6999 AND a.name LIKE 'pu:1%' ORDER BY g.id;
SELECT p.id, p.price, p.paid, (SELECT sum(g.price) FROM credits.grants AS g WHERE g.id = ANY (p.grant_ids)) AS of_grants
FROM credits.purchases AS p WHERE p.status = 'completed' AND p.id BETWEEN 6001 AND 6999 ORDER BY p.id;
SELECT unit, balance FROM credits_summary('pu:1:image');
SELECT kind, amount, reference, target_id IS NOT NULL AS with_another FROM credits.transactions
WHERE reference LIKE 'purchase_600%' ORDER BY id;

-- what does not fit is an event, once, and never an error
SELECT outcome, receipt FROM credits_purchase_complete(6002, 'pay_2', 5.49);
SELECT outcome, receipt FROM credits_purchase_complete(6002, 'pay_2', 5.49);
SELECT outcome, receipt FROM credits_purchase_complete(6002, 'pay_2', 5.50, 'EUR');
SELECT outcome, receipt FROM credits_purchase_complete(7999, 'pay_9', 5.50, 'EUR');
SELECT outcome, (receipt).balance FROM credits_purchase_complete(6001, 'pay_1b', 9.99);
SELECT outcome, receipt FROM credits_purchase_complete(6002, 'pay_1', 5.50);
SELECT outcome, (receipt).amount, (receipt).balance FROM credits_purchase_complete(6002, 'pay_2c', 6);
SELECT g.amount, g.price FROM credits.grants AS g JOIN credits.purchases AS p ON g.id = ANY (p.grant_ids) WHERE p.id = 6002;
SELECT kind, account_id, transaction_id IS NOT NULL AS of_transaction, detail FROM credits.events
WHERE id BETWEEN 6001 AND 6999 ORDER BY id;

-- failing and expiring; what is paid then all the same is delivered
SELECT credits_purchase_fail(6003, 'card declined'), credits_purchase_fail(6003);
SELECT credits_purchase_expire(6003), credits_purchase_fail(6001);
SELECT outcome, (receipt).amount, (receipt).balance FROM credits_purchase_complete(6003, 'pay_3', 825, 'JPY');
SELECT credits_purchase_expire(6005), credits_purchase_expire(6005);
SELECT price FROM credits_purchase_start('pu:1', 'pu.small', promotion => 'pu.half');
SELECT outcome, (receipt).balance FROM credits_purchase_complete(6005, 'pay_5', 5.00);
SELECT credits_purchase_fail(7999);
SELECT credits_purchase_expire(NULL);
SELECT id, account, package, credits, price, currency, promotion, status, paid, reversed, disputed, claimed, owed, payment_reference
FROM credits.purchase_list WHERE id BETWEEN 6001 AND 6999 ORDER BY id;
SET credits.test_clock = '2233-01-02 00:00:00+00';
SELECT id, status FROM credits.purchase_list WHERE id = 6006;

-- an account that is paused is served, one that is closed is not
SELECT purchase_id FROM credits_purchase_start('pu:2', 'pu.small');
SELECT purchase_id FROM credits_purchase_start('pu:2', 'pu.small');
SELECT kind FROM credits_pause_account('pu:2', 'test');
SELECT outcome, (receipt).balance FROM credits_purchase_complete(6007, 'pay_7', 9.99);
SELECT kind FROM credits_close_account('pu:2', 'test');
SELECT outcome, receipt FROM credits_purchase_complete(6008, 'pay_8', 9.99);
SELECT outcome, receipt FROM credits_purchase_complete(6008, 'pay_8', 9.99);
SELECT kind, detail ->> 'payment_reference' AS payment FROM credits.events WHERE kind = 'purchase_undeliverable' AND id > 6000;
SELECT credits_purchase_start('pu:2', 'pu.small');
SELECT outcome, (receipt).balance FROM credits_purchase_complete(6007, 'pay_7', 9.99);

-- a highest balance is no reason to keep what was paid for
SELECT balance FROM credits_open_account('pu:3');
SELECT kind FROM credits_set_limits('pu:3', max_balance => 10);
SELECT outcome, (receipt).balance FROM credits_purchase_start('pu:3', 'pu.small') AS s,
	LATERAL credits_purchase_complete(s.purchase_id, 'pay_l', s.price);

-- refunds: each grant gives back its share of the money, rounded down
SELECT balance FROM credits_open_account('pu:4');
SELECT purchase_id AS p FROM credits_purchase_start('pu:4', 'pu.bundle') \gset
SELECT outcome FROM credits_purchase_complete(:p, 'pay_r', 49);
SELECT status, money, credits, balance, debt, replayed FROM credits_purchase_refund(:p, 10, reference => 're_1', reason => 'wrong size');
SELECT status, money, credits, balance, debt, replayed FROM credits_purchase_refund(:p, 10, reference => 're_1');
SELECT g.amount, g.remaining, d.claimed, d.gone, d.owed, d.paid FROM credits.grants AS g JOIN credits.debts AS d ON d.grant_id = g.id
JOIN credits.purchases AS p ON g.id = ANY (p.grant_ids) WHERE p.id = :p ORDER BY g.id;
SELECT status, money, credits, balance, debt FROM credits_purchase_refund(:p, credits => 300);
SELECT reference, money, credits, balance, debt FROM credits_purchase_refund(:p);
SELECT t.kind, t.amount, t.reference, t.reason, t.terms FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name = 'pu:4' AND t.kind = 'clawback' ORDER BY t.id;
SELECT balance FROM credits_summary('pu:4:image');
\set VERBOSITY sqlstate
SELECT credits_purchase_refund(:p);
SELECT credits_purchase_refund(:p, 1);
SELECT credits_purchase_refund(:p, credits => 1);
SELECT credits_purchase_refund(:p, 11, reference => 're_1');
SELECT credits_purchase_refund(:p, 1, 1);
SELECT credits_purchase_refund(:p, 0);
SELECT credits_purchase_refund(:p, -1);
SELECT credits_purchase_refund(6006);
SELECT credits_purchase_refund(7999);
SELECT credits_purchase_dispute(:p, NULL);
SELECT credits_purchase_dispute(6006, 'dp');
SELECT credits_purchase_dispute_won(:p, 're_1');
SELECT credits_purchase_dispute_lost(:p, 'dp_none');
\set VERBOSITY default

-- in credits, exactly; and what cost nothing
SELECT purchase_id AS p FROM credits_purchase_start('pu:4', 'pu.small') \gset
SELECT outcome FROM credits_purchase_complete(:p, 'pay_c', 9.99);
SELECT money, credits, balance FROM credits_purchase_refund(:p, credits => 33);
SELECT money, credits, balance FROM credits_purchase_refund(:p, credits => 33);
SELECT money, credits, balance FROM credits_purchase_refund(:p);
SELECT purchase_id AS p, price, amount_minor FROM credits_purchase_start('pu:4', 'pu.small', promotion => 'pu.free') \gset
SELECT :price AS price, :amount_minor AS minor, outcome FROM credits_purchase_complete(:p, 'pay_f', 0);
SELECT money, credits, balance FROM credits_purchase_refund(:p, credits => 1);
SELECT money, credits, balance FROM credits_purchase_refund(:p);

-- disputes: taken at once, given back exactly if won
SELECT balance FROM credits_open_account('pu:5');
SELECT purchase_id AS p FROM credits_purchase_start('pu:5', 'pu.small') \gset
SELECT outcome FROM credits_purchase_complete(:p, 'pay_d', 9.99);
SELECT balance FROM credits_deduct('pu:5', 60);
SELECT status, money, credits, balance, debt, replayed FROM credits_purchase_dispute(:p, 'dp_1', reason => 'fraudulent');
SELECT status, money, credits, balance, debt, replayed FROM credits_purchase_dispute(:p, 'dp_1');
SELECT * FROM credits_summary('pu:5');
SELECT status, money, credits, balance, debt, replayed FROM credits_purchase_dispute_won(:p, 'dp_1');
SELECT status, money, credits, balance, debt, replayed FROM credits_purchase_dispute_won(:p, 'dp_1');
SELECT status, credits, balance, debt FROM credits_purchase_dispute(:p, 'dp_2', 5);
SELECT status, credits, balance, debt FROM credits_purchase_refund(:p);
SELECT status, credits, balance, debt FROM credits_purchase_dispute_lost(:p, 'dp_2');
SELECT status, credits, balance, debt FROM credits_purchase_dispute_won(:p, 'dp_2');
SELECT reference, kind, status, money FROM credits.reversals WHERE purchase_id = :p ORDER BY reference;
SELECT status, paid, reversed, disputed, claimed, owed FROM credits.purchase_list WHERE id = :p;
SELECT kind, detail - 'purchase_id' - 'reference' AS detail FROM credits.events WHERE (detail ->> 'purchase_id')::bigint = :p ORDER BY id;

-- a closed account keeps what it has; the money is known to be gone
SELECT status, credits, balance, debt FROM credits_purchase_dispute(6007, 'dp_x');
SELECT kind, detail ->> 'reversal' AS reversal FROM credits.events WHERE kind = 'reversal_undeliverable' AND id > 6000;

-- what nobody has paid is put away with the rest
RESET ROLE;
SET credits.test_clock = '2233-01-03 00:00:00+00';
SET credits.event_retention = '0';
SELECT purchase_id AS late FROM credits_purchase_start('pu:3', 'pu.small') \gset
SELECT id, status FROM credits.purchases WHERE id IN (6006, :late) ORDER BY id;
SET credits.test_clock = '2233-01-03 23:59:59+00';
CALL credits_housekeep(10) \gset
SELECT id, status FROM credits.purchases WHERE id IN (6006, :late) ORDER BY id;
SET credits.test_clock = '2233-01-04 00:00:00+00';
CALL credits_housekeep(10) \gset
SELECT id, status FROM credits.purchases WHERE id IN (6006, :late) ORDER BY id;
SELECT outcome FROM credits_purchase_complete(:late, 'pay_late', 9.99);
RESET credits.event_retention;

-- nobody changes the tables by hand, and all is proved
UPDATE credits.debts SET owed = 0;
UPDATE credits.purchases SET status = 'pending';
DELETE FROM credits.reversals;
SELECT * FROM credits_verify();
