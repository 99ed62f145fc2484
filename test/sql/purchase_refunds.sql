-- refunds of purchases: credits are taken back for money that is paid back
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 5501;
ALTER SEQUENCE credits.grants_id_seq RESTART 5501;
ALTER SEQUENCE credits.transactions_id_seq RESTART 5501;
ALTER SEQUENCE credits.events_id_seq RESTART 5501;
ALTER SEQUENCE credits.purchases_id_seq RESTART 5501;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2233-01-01 00:00:00+00';
SELECT credits_set_package('re.small', 100, 9.99, 'USD') IS NOT NULL AS set;
SELECT credits_set_package('re.bundle', 1000, 49, 'USD', expires_in => '1 year',
	extras => '[{"credits": 100, "expires_in": "30 days", "source": "promotional"},
		{"credits": 7, "unit": "image"}]') IS NOT NULL AS set;
SELECT credits_set_promotion('re.free', 'percent', 100) IS NOT NULL AS set;
SELECT balance FROM credits_open_account('re:1');

-- each grant gives back its share of the money, rounded down
SELECT purchase_id AS p FROM credits_start_purchase('re:1', 're.bundle') \gset
SELECT outcome FROM credits_complete_purchase(:p, 're_pay_1', 49);
SELECT status, money, credits, balance, debt, replayed FROM credits_refund_purchase(:p, 10, reference => 're_1', reason => 'wrong size');
SELECT status, money, credits, balance, debt, replayed FROM credits_refund_purchase(:p, 10, reference => 're_1');
SELECT g.amount, g.remaining, d.claimed, d.gone, d.owed, d.paid FROM credits.grants AS g JOIN credits.debts AS d ON d.grant_id = g.id
JOIN credits.purchases AS p ON g.id = ANY (p.grant_ids) WHERE p.id = :p ORDER BY g.id;
SELECT status, money, credits, balance, debt FROM credits_refund_purchase(:p, credits => 300);
SELECT reference, money, credits, balance, debt FROM credits_refund_purchase(:p);
SELECT t.kind, t.amount, t.reference, t.reason, t.terms FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE a.name = 're:1' AND t.kind = 'clawback' ORDER BY t.id;
SELECT balance FROM credits_summary('re:1:image');
SELECT purchase_id AS pending FROM credits_start_purchase('re:1', 're.small') \gset
\set VERBOSITY sqlstate
SELECT credits_refund_purchase(:p);
SELECT credits_refund_purchase(:p, 1);
SELECT credits_refund_purchase(:p, credits => 1);
SELECT credits_refund_purchase(:p, 11, reference => 're_1');
SELECT credits_refund_purchase(:p, 1, 1);
SELECT credits_refund_purchase(:p, 0);
SELECT credits_refund_purchase(:p, -1);
SELECT credits_refund_purchase(:pending);
SELECT credits_refund_purchase(7999);
\set VERBOSITY default

-- in credits, exactly; and what cost nothing
SELECT outcome FROM credits_complete_purchase(:pending, 're_pay_2', 9.99);
SELECT money, credits, balance FROM credits_refund_purchase(:pending, credits => 33);
SELECT money, credits, balance FROM credits_refund_purchase(:pending, credits => 33);
SELECT money, credits, balance FROM credits_refund_purchase(:pending);
SELECT reference, kind, status, money, credits, role = session_user AS by_me FROM credits.reversals WHERE purchase_id = :pending ORDER BY reference;
SELECT purchase_id AS p, price, amount_minor FROM credits_start_purchase('re:1', 're.small', promotion => 're.free') \gset
SELECT :price AS price, :amount_minor AS minor, outcome FROM credits_complete_purchase(:p, 're_pay_3', 0);
SELECT money, credits, balance FROM credits_refund_purchase(:p, credits => 1);
SELECT money, credits, balance FROM credits_refund_purchase(:p);
RESET ROLE;
SELECT v.* FROM credits.accounts AS a, LATERAL credits_verify(a.name) AS v WHERE a.id BETWEEN 5501 AND 5999;
