-- chargebacks: credits are taken at once, and given back exactly if won
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 5001;
ALTER SEQUENCE credits.grants_id_seq RESTART 5001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 5001;
ALTER SEQUENCE credits.events_id_seq RESTART 5001;
ALTER SEQUENCE credits.purchases_id_seq RESTART 5001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2233-01-01 00:00:00+00';
SELECT credits_set_package('di.small', 100, 9.99, 'USD') IS NOT NULL AS set;
SELECT balance FROM credits_open_account('di:1');
SELECT purchase_id AS p FROM credits_start_purchase('di:1', 'di.small') \gset
SELECT purchase_id AS pending FROM credits_start_purchase('di:1', 'di.small') \gset
SELECT outcome FROM credits_complete_purchase(:p, 'di_pay_1', 9.99);
SELECT balance FROM credits_deduct('di:1', 60);
SELECT status, money, credits, balance, debt, replayed FROM credits_open_chargeback(:p, 'dp_1', reason => 'fraudulent');
SELECT status, money, credits, balance, debt, replayed FROM credits_open_chargeback(:p, 'dp_1');
SELECT * FROM credits_summary('di:1');
SELECT status, money, credits, balance, debt, replayed FROM credits_close_chargeback(:p, 'dp_1', 'won');
SELECT status, money, credits, balance, debt, replayed FROM credits_close_chargeback(:p, 'dp_1', 'won');
SELECT status, credits, balance, debt FROM credits_open_chargeback(:p, 'dp_2', 5);
SELECT status, credits, balance, debt, replayed FROM credits_close_chargeback(:p, 'dp_2', 'lost');
SELECT status, credits, balance, debt, replayed FROM credits_close_chargeback(:p, 'dp_2', 'lost');
\set VERBOSITY sqlstate
SELECT credits_open_chargeback(:p, NULL);
SELECT credits_open_chargeback(:p, 'dp_2', 6);
SELECT credits_open_chargeback(:p, 'dp_3', 10);
SELECT credits_open_chargeback(:pending, 'dp');
SELECT credits_close_chargeback(:p, 'dp_none', 'lost');
SELECT credits_close_chargeback(:p, 'dp_2', 'drawn');
SELECT credits_close_chargeback(:p, 'dp_2', NULL);
\set VERBOSITY default

-- one that became known before the payment did has nothing to take yet
RESET ROLE;
INSERT INTO credits.reversals VALUES (:pending, 'dp_early', 'chargeback', 'open', 9.99, 0, NULL, now(), now(), 'test');
BEGIN;
SELECT status, money, credits, balance, debt, replayed FROM credits_close_chargeback(:pending, 'dp_early', 'won');
ROLLBACK;
SELECT outcome, (receipt).amount, (receipt).balance FROM credits_complete_purchase(:pending, 'di_pay_2', 9.99);
SELECT balance, debt FROM credits_summary('di:1');
SELECT status, money, credits, balance, debt, replayed FROM credits_close_chargeback(:pending, 'dp_early', 'won');
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 5001 AND 5499;
