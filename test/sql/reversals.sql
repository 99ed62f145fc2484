-- reversals: refunds and chargebacks of one purchase add up
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 9001;
ALTER SEQUENCE credits.grants_id_seq RESTART 9001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 9001;
ALTER SEQUENCE credits.events_id_seq RESTART 9001;
ALTER SEQUENCE credits.purchases_id_seq RESTART 9001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2233-01-01 00:00:00+00';
SELECT credits_set_package('rv.small', 100, 9.99, 'USD') IS NOT NULL AS set;
SELECT balance FROM credits_open_account('rv:1');
SELECT purchase_id AS p FROM credits_start_purchase('rv:1', 'rv.small') \gset
SELECT outcome FROM credits_complete_purchase(:p, 'rv_pay_1', 9.99);
SELECT balance FROM credits_deduct('rv:1', 60);
SELECT status, credits, balance, debt FROM credits_open_chargeback(:p, 'dp_1');
SELECT status, credits, balance, debt FROM credits_close_chargeback(:p, 'dp_1', 'won');
SELECT status, credits, balance, debt FROM credits_open_chargeback(:p, 'dp_2', 5);
SELECT status, credits, balance, debt FROM credits_refund_purchase(:p);
SELECT status, credits, balance, debt FROM credits_close_chargeback(:p, 'dp_2', 'lost');
SELECT status, credits, balance, debt FROM credits_close_chargeback(:p, 'dp_2', 'won');
SELECT reference, kind, status, money FROM credits.reversals WHERE purchase_id = :p ORDER BY reference;
SELECT status, money, money_back, chargeback_open, claimed, owed FROM credits.purchase_list WHERE purchase_id = :p;
SELECT kind, detail - 'purchase_id' - 'reference' AS detail FROM credits.events WHERE (detail ->> 'purchase_id')::bigint = :p ORDER BY id;
-- a reference is of one refund or one chargeback
\set VERBOSITY sqlstate
SELECT credits_refund_purchase(:p, 1, reference => 'dp_1');
SELECT credits_open_chargeback(:p, (SELECT reference FROM credits.reversals WHERE purchase_id = :p AND kind = 'refund'));
SELECT credits_close_chargeback(:p, (SELECT reference FROM credits.reversals WHERE purchase_id = :p AND kind = 'refund'), 'won');
\set VERBOSITY default

-- a closed account keeps what it has; the money is known to be gone
SELECT balance FROM credits_open_account('rv:2');
SELECT purchase_id AS p FROM credits_start_purchase('rv:2', 'rv.small') \gset
SELECT outcome FROM credits_complete_purchase(:p, 'rv_pay_2', 9.99);
SELECT kind FROM credits_close_account('rv:2', 'test');
SELECT status, credits, balance, debt FROM credits_open_chargeback(:p, 'dp_x');
SELECT kind, detail ->> 'reversal_reference' AS reversal FROM credits.events WHERE kind = 'reversal_undeliverable' AND id BETWEEN 9001 AND 9999;

-- nobody changes the tables by hand, and all is proved
RESET ROLE;
UPDATE credits.debts SET owed = 0;
DELETE FROM credits.reversals;
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 9001 AND 9999;
