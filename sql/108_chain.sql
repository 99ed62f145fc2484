-- chain: a view of the log from which its hashes can be recalculated

CREATE VIEW credits.chain AS
SELECT t.account_id,
	   t.id,
	   (pg_catalog.extract('epoch', t.created_at)
		OPERATOR(pg_catalog.*) 1000000::numeric)::bigint AS created_at,
	   t.kind, t.amount, t.held, t.balance_after, t.held_after,
	   t.target_id, t.member_id, t.request, t.role, t.idempotency_key, t.operation,
	   t.reference, t.draws, t.terms::text AS terms,
	   t.reason, t.metadata::text AS metadata, t.actor,
	   pg_catalog.encode(t.salt, 'hex') AS salt,
	   pg_catalog.encode(t.hash, 'hex') AS hash
FROM credits.transactions AS t
-- without the copies of archived rows
WHERE t.id OPERATOR(pg_catalog.>) COALESCE((
	SELECT pg_catalog.max(a.until_id) FROM credits.archives AS a
	WHERE a.ended_at IS NOT NULL), 0::bigint);
COMMENT ON VIEW credits.chain IS
	'the log in the form that its canonical bytes are made from; export it ordered by account_id, id';

GRANT SELECT ON credits.chain TO credits_admin, credits_auditor;
