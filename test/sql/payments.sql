-- payments: purchases that are paid are delivered, once
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 4001;
ALTER SEQUENCE credits.grants_id_seq RESTART 4001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 4001;
ALTER SEQUENCE credits.events_id_seq RESTART 4001;
ALTER SEQUENCE credits.purchases_id_seq RESTART 4001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2233-01-01 00:00:00+00';
SELECT credits_set_package('pay.small', 100, 9.99, 'USD') IS NOT NULL AS set;
SELECT credits_set_package('pay.bundle', 1000, 49, 'USD', expires_in => '1 year',
	extras => '[{"credits": 100, "expires_in": "30 days", "source": "promotional"},
		{"credits": 7, "unit": "image"}]') IS NOT NULL AS set;
SELECT credits_set_unit_price('USD', 0.10) IS NOT NULL AS set;
SELECT credits_set_unit_price('JPY', 15) IS NOT NULL AS set;
SELECT balance FROM credits_open_account('pay:1');
SELECT balance FROM credits_open_account('pay:2', 5);
SELECT purchase_id, price FROM credits_start_purchase('pay:1', 'pay.small');
SELECT purchase_id, price FROM credits_start_purchase('pay:1', amount => 55, currency => 'USD');
SELECT purchase_id, price FROM credits_start_purchase('pay:1', 'pay.bundle');
SET ROLE regress_credits_app;
\set VERBOSITY sqlstate
SELECT credits_complete_purchase(4001, 'pay_1', 9.99);
\set VERBOSITY default

-- completing: once, at the real price
SET ROLE regress_credits_admin;
SELECT * FROM credits_complete_purchase(4001, 'pay_1', 9.99, 'USD');
SELECT * FROM credits_complete_purchase(4001, 'pay_1', 9.99, 'USD');
SELECT outcome, (receipt).kind, (receipt).amount, (receipt).balance FROM credits_complete_purchase(4003, 'pay_3', 49);
SELECT outcome, (receipt).balance, (receipt).replayed FROM credits_complete_purchase(4003, 'pay_3', 49);
SELECT a.name, g.amount, g.source, g.price, g.currency, g.expires_at, g.priority
FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id
WHERE a.name LIKE 'pay:1%' ORDER BY g.id;
SELECT p.id, p.price, p.money, p.grant_ids, p.transaction_id, (SELECT sum(g.price) FROM credits.grants AS g WHERE g.id = ANY (p.grant_ids)) AS of_grants
FROM credits.purchases AS p WHERE p.status = 'completed' AND p.id BETWEEN 4001 AND 4999 ORDER BY p.id;
SELECT unit, balance FROM credits_summary('pay:1:image');
SELECT kind, amount, reference, target_id IS NOT NULL AS with_another FROM credits.transactions
WHERE reference LIKE 'purchase_400%' ORDER BY id;

-- what does not fit is an event, once, and never an error
SELECT outcome, receipt FROM credits_complete_purchase(4002, 'pay_2', 5.49);
SELECT outcome, receipt FROM credits_complete_purchase(4002, 'pay_2', 5.49);
SELECT outcome, receipt FROM credits_complete_purchase(4002, 'pay_2', 5.50, 'EUR');
SELECT outcome, receipt FROM credits_complete_purchase(4999, 'pay_9', 5.50, 'EUR');
SELECT outcome, (receipt).balance FROM credits_complete_purchase(4001, 'pay_1b', 9.99);
SELECT outcome, receipt FROM credits_complete_purchase(4002, 'pay_1', 5.50);
SELECT outcome, (receipt).amount, (receipt).balance FROM credits_complete_purchase(4002, 'pay_2c', 6);
SELECT g.amount, g.price FROM credits.grants AS g JOIN credits.purchases AS p ON g.id = ANY (p.grant_ids) WHERE p.id = 4002;
SELECT kind, account_id, transaction_id IS NOT NULL AS of_transaction, detail FROM credits.events
WHERE id BETWEEN 4001 AND 4999 ORDER BY id;
\set VERBOSITY sqlstate
SELECT credits_complete_purchase(NULL, 'pay_n', 1);
SELECT credits_complete_purchase(4002, NULL, 1);
SELECT credits_complete_purchase(4002, 'pay_n', NULL);
SELECT credits_complete_purchase(4002, 'pay_n', -1);
\set VERBOSITY default

-- an account that is paused is served, one that is closed is not
SELECT purchase_id FROM credits_start_purchase('pay:2', 'pay.small');
SELECT purchase_id FROM credits_start_purchase('pay:2', 'pay.small');
SELECT kind FROM credits_pause_account('pay:2', 'test');
SELECT outcome, (receipt).balance FROM credits_complete_purchase(4004, 'pay_4', 9.99);
SELECT kind FROM credits_close_account('pay:2', 'test');
SELECT outcome, receipt FROM credits_complete_purchase(4005, 'pay_5', 9.99);
SELECT outcome, receipt FROM credits_complete_purchase(4005, 'pay_5', 9.99);
SELECT kind, detail ->> 'payment_reference' AS payment FROM credits.events WHERE kind = 'purchase_undeliverable' AND id BETWEEN 4001 AND 4999;
SELECT credits_start_purchase('pay:2', 'pay.small');
SELECT outcome, (receipt).balance FROM credits_complete_purchase(4004, 'pay_4', 9.99);

-- a highest balance is no reason to keep what was paid for
SELECT balance FROM credits_open_account('pay:3');
SELECT kind FROM credits_set_limits('pay:3', max_balance => 10);
SELECT purchase_id AS p, price FROM credits_start_purchase('pay:3', 'pay.small') \gset
SELECT outcome, (receipt).balance FROM credits_complete_purchase(:p, 'pay_6', :price);

-- a purchase is written when the log is complete: a trigger on it may spend what was bought
RESET ROLE;
SELECT balance FROM credits_open_account('pay:4');
CREATE FUNCTION regress_spend() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE 'logged %, spent %', (SELECT t.kind FROM credits.transactions AS t WHERE t.id = NEW.transaction_id),
		(SELECT -d.amount FROM public.credits_deduct('pay:4', 1) AS d);
	RETURN NULL;
END $$;
BEGIN;
CREATE TRIGGER spend AFTER UPDATE ON credits.purchases FOR EACH ROW EXECUTE FUNCTION regress_spend();
SELECT purchase_id AS p, price FROM credits_start_purchase('pay:4', 'pay.bundle') \gset
SELECT outcome, (receipt).balance FROM credits_complete_purchase(:p, 'pay_7', :price);
SELECT balance FROM credits_summary('pay:4');
SELECT t.kind, t.amount FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name = 'pay:4' ORDER BY t.id;
SELECT * FROM credits_verify('pay:4');
ROLLBACK;
DROP FUNCTION regress_spend();
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 4001 AND 4999;
