-- After the rounds: one line per thing wrong with what a peer in schema :peer
-- did, none if all of it was done.

SELECT format('%s deductions in the log, %s acknowledged', count(*), :made)
FROM :peer.transactions
WHERE amount < 0
HAVING count(*) <> :made;

SELECT 'balances and log do not add up'
WHERE (SELECT sum(balance) FROM :peer.accounts) IS DISTINCT FROM
	  (SELECT sum(amount) FROM :peer.transactions);

SELECT to_regclass(:'peer' || '.grants') IS NOT NULL AS has_grants,
	   :'peer' = 'plpgsql' AS has_chain
\gset
\if :has_grants
SELECT 'balances and grants do not add up'
WHERE (SELECT sum(balance) FROM :peer.accounts) IS DISTINCT FROM
	  (SELECT sum(remaining) FROM :peer.grants);
\endif

\if :has_chain
WITH sample AS (
	SELECT t.*, lag(t.hash) OVER (PARTITION BY t.account_id ORDER BY t.id) AS previous
	FROM :peer.transactions AS t
	WHERE t.account_id IN (SELECT 1 + i * :accounts / 100
						   FROM generate_series(0, 99) AS i)
)
SELECT format('transaction %s has the wrong hash', id)
FROM sample
WHERE kind = 'deduction'
  AND hash IS DISTINCT FROM sha256(previous || '\x01'::bytea
	|| int8send(id) || int8send(account_id)
	|| int4send(octet_length(kind)) || kind::bytea
	|| int8send(amount) || int8send(held)
	|| int8send(balance_after) || int8send(held_after)
	|| timestamptz_send(created_at)
	|| '\x000001'::bytea || int8send(request)	-- no target, no member
	|| int4send(octet_length(role)) || role::bytea
	|| int4send(octet_length(idempotency_key)) || idempotency_key::bytea
	|| '\xffffffffffffffff'::bytea	-- no operation, no reference
	|| int4send(1) || int8send(draws[1][1]) || int8send(draws[1][2])
	|| '\x00'::bytea);	-- no free text
\endif
