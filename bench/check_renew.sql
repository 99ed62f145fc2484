-- After the renewals: one line per thing wrong with them, none if all is right.

SELECT format('%s of %s subscriptions have their second period', count(*), :due)
FROM credits.periods
WHERE starts_at = '2030-02-01 00:00+00' AND credits = 100
HAVING count(*) <> :due;

SELECT format('%s grants of the first period have not expired, such as %s', count(*), min(id))
FROM credits.grants
WHERE source = 'subscription' AND expires_at = '2030-02-01 00:00+00' AND status = 'open'
HAVING count(*) > 0;

SELECT 'balances, log and grants do not add up'
WHERE (SELECT sum(balance) FROM credits.accounts) IS DISTINCT FROM
	  (SELECT sum(amount) FROM credits.transactions)
   OR (SELECT sum(balance) FROM credits.accounts) IS DISTINCT FROM
	  (SELECT sum(remaining) FROM credits.grants WHERE status = 'open');

SELECT format('%s: %s at %s: %s', v.account, v.problem, v.transaction_id, v.detail)
FROM generate_series(0, 99) AS i
CROSS JOIN LATERAL credits_verify(format('user:%s', 1 + i * :due / 100)) AS v;
