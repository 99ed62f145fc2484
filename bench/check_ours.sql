-- After the rounds: one line per thing wrong with what we did, none if all of
-- it was done.  :made is the number of transactions of :kind that were
-- acknowledged, or NULL where a round may end in the middle of one.

SELECT format('%s of kind %s in the log, %s acknowledged', count(*), :'kind', :made)
FROM credits.transactions
WHERE kind = :'kind'
HAVING count(*) <> :made;

SELECT format('%s holds are open', count(*))
FROM credits.holds
WHERE status = 'open'
HAVING count(*) > 0;

SELECT format('%s events, such as: %s', count(*), min(kind || ' ' || detail::text))
FROM credits.events
HAVING count(*) > 0;

SELECT 'balances, log and grants do not add up'
WHERE (SELECT sum(balance) FROM credits.accounts) IS DISTINCT FROM
	  (SELECT sum(amount) FROM credits.transactions)
   OR (SELECT sum(balance) FROM credits.accounts) IS DISTINCT FROM
	  (SELECT sum(remaining) FROM credits.grants);

-- the busiest accounts, and a hundred of the others
WITH busiest AS (
	SELECT name
	FROM credits.accounts
	ORDER BY transaction_count DESC
	LIMIT 3
), sample AS (
	SELECT name FROM busiest
	UNION
	SELECT format('user:%s', 1 + i * :accounts / 100)
	FROM generate_series(0, 99) AS i
)
SELECT format('%s: %s at %s: %s', v.account, v.problem, v.transaction_id, v.detail)
FROM sample CROSS JOIN LATERAL credits_verify(sample.name) AS v;
