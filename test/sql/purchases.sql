-- purchases: starting them, and ending those that are not paid
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
SELECT balance FROM credits_open_account('pu:1');
SELECT balance FROM credits_open_account('pu:2', 5);

SELECT xmin AS version FROM credits.accounts WHERE name = 'pu:1' \gset

-- starting: what a checkout needs; nothing is given
SET ROLE regress_credits_app;
SELECT * FROM credits_start_purchase('pu:1', 'pu.small', idempotency_key => 'k1', metadata => '{"cart": 3}');
SELECT purchase_id, replayed FROM credits_start_purchase('pu:1', 'pu.small', idempotency_key => 'k1');
SELECT credits_start_purchase('pu:1', amount => 50, idempotency_key => 'k1');
SELECT purchase_id, credits, price, currency, amount_minor, metadata FROM credits_start_purchase('pu:1', amount => 55, currency => 'USD');
SELECT purchase_id, credits, price, currency, amount_minor FROM credits_start_purchase('pu:1', amount => 55, currency => 'JPY');
SELECT purchase_id, credits, price FROM credits_start_purchase('pu:1', 'pu.bundle');
SELECT purchase_id, price FROM credits_start_purchase('pu:2', 'pu.small', promotion => 'pu.half');
SELECT credits_balance('pu:1');
\set VERBOSITY sqlstate
SELECT credits_start_purchase('pu:1', 'pu.small', promotion => 'pu.half');
SELECT credits_start_purchase('pu:1');
SELECT credits_start_purchase('pu:1', 'pu.small', 5);
SELECT credits_start_purchase('pu:1', 'pu.none');
SELECT credits_start_purchase('pu:none', 'pu.small');
SELECT credits_start_purchase(NULL, 'pu.small');
SELECT credits_start_purchase('pu:1', amount => 0);
\set VERBOSITY default
-- one that was refused leaves its key free, and the account as it was
SELECT purchase_id, replayed FROM credits_start_purchase('pu:1', amount => 1, currency => 'USD', idempotency_key => 'k2');
RESET ROLE;
SELECT transaction_count, xmin = :'version' AS unchanged FROM credits.accounts WHERE name = 'pu:1';
SELECT p.id, a.name, p.package, p.credits, p.price, p.status, p.idempotency_key, p.metadata, p.created_at, p.expires_at,
	p.role = session_user AS by_me
FROM credits.purchases AS p JOIN credits.accounts AS a ON a.id = p.account_id WHERE p.id BETWEEN 6001 AND 6999 ORDER BY p.id;

-- failing and expiring; what is paid then all the same is delivered
SET ROLE regress_credits_admin;
SELECT credits_fail_purchase(6003, 'card declined'), credits_fail_purchase(6003);
SELECT credits_expire_purchase(6003);
SELECT outcome, (receipt).amount, (receipt).balance FROM credits_complete_purchase(6003, 'pu_3', 825, 'JPY');
SELECT credits_fail_purchase(6003), credits_expire_purchase(6003);
SELECT credits_expire_purchase(6005), credits_expire_purchase(6005);
SELECT purchase_id, price FROM credits_start_purchase('pu:1', 'pu.small', promotion => 'pu.half');
SELECT outcome, (receipt).balance FROM credits_complete_purchase(6005, 'pu_5', 5.00);
SELECT credits_fail_purchase(7999);
SELECT credits_expire_purchase(NULL);
SELECT kind, account_id, transaction_id IS NOT NULL AS of_transaction, detail FROM credits.events
WHERE id BETWEEN 6001 AND 6999 ORDER BY id;
SELECT purchase_id, account, package, credits, price, currency, promotion, status, money, money_back, chargeback_open, claimed, owed, payment_reference
FROM credits.purchase_list WHERE purchase_id BETWEEN 6001 AND 6999 ORDER BY purchase_id;

-- a checkout that is over is expired, whether that is recorded yet or not
SET credits.test_clock = '2233-01-02 00:00:00+00';
SELECT purchase_id, status FROM credits.purchase_list WHERE purchase_id = 6001;
RESET ROLE;
SET credits.test_clock = '2233-01-03 00:00:00+00';
SET credits.event_retention = '0';
SELECT purchase_id AS late FROM credits_start_purchase('pu:2', 'pu.small') \gset
SELECT id, status FROM credits.purchases WHERE id IN (6001, :late) ORDER BY id;
SET credits.test_clock = '2233-01-03 23:59:59+00';
CALL credits_housekeep(10) \gset
SELECT id, status FROM credits.purchases WHERE id IN (6001, :late) ORDER BY id;
SET credits.test_clock = '2233-01-04 00:00:00+00';
CALL credits_housekeep(10) \gset
SELECT id, status FROM credits.purchases WHERE id IN (6001, :late) ORDER BY id;
SELECT outcome FROM credits_complete_purchase(:late, 'pu_late', 9.99);
RESET credits.event_retention;

-- the table cannot be changed by hand; a row that was damaged is an error
UPDATE credits.purchases SET status = 'pending';
TRUNCATE credits.purchases;
BEGIN;
ALTER TABLE credits.purchases DISABLE TRIGGER purchases_refuse_change;
ALTER TABLE credits.purchases DROP CONSTRAINT purchases_status;
UPDATE credits.purchases SET status = 'lost' WHERE id = 6001;
SELECT status FROM credits_start_purchase('pu:1', 'pu.small', idempotency_key => 'k1');
ROLLBACK;
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 6001 AND 6999;
