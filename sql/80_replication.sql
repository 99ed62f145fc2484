-- replication: what logical replication leaves undone

CREATE FUNCTION @extschema@.credits_sync_sequences()
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT setval('credits.accounts_id_seq', greatest(a.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.accounts) AS a,
		 credits.accounts_id_seq AS s
	WHERE a.last IS NOT NULL;
	SELECT setval('credits.grants_id_seq', greatest(g.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.grants) AS g,
		 credits.grants_id_seq AS s
	WHERE g.last IS NOT NULL;
	SELECT setval('credits.transactions_id_seq', greatest(t.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.transactions) AS t,
		 credits.transactions_id_seq AS s
	WHERE t.last IS NOT NULL;
	SELECT setval('credits.events_id_seq', greatest(e.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.events) AS e,
		 credits.events_id_seq AS s
	WHERE e.last IS NOT NULL;
	SELECT setval('credits.operations_id_seq', greatest(o.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.operations) AS o,
		 credits.operations_id_seq AS s
	WHERE o.last IS NOT NULL;
	SELECT setval('credits.codes_id_seq', greatest(c.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.codes) AS c,
		 credits.codes_id_seq AS s
	WHERE c.last IS NOT NULL;
	SELECT setval('credits.job_runs_id_seq', greatest(j.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.job_runs) AS j,
		 credits.job_runs_id_seq AS s
	WHERE j.last IS NOT NULL;
	SELECT setval('credits.plans_id_seq', greatest(p.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.plans) AS p,
		 credits.plans_id_seq AS s
	WHERE p.last IS NOT NULL;
	SELECT setval('credits.subscriptions_id_seq', greatest(n.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.subscriptions) AS n,
		 credits.subscriptions_id_seq AS s
	WHERE n.last IS NOT NULL;
	SELECT setval('credits.packages_id_seq', greatest(k.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.packages) AS k,
		 credits.packages_id_seq AS s
	WHERE k.last IS NOT NULL;
	SELECT setval('credits.unit_prices_id_seq', greatest(u.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.unit_prices) AS u,
		 credits.unit_prices_id_seq AS s
	WHERE u.last IS NOT NULL;
	SELECT setval('credits.volume_discounts_id_seq', greatest(v.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.volume_discounts) AS v,
		 credits.volume_discounts_id_seq AS s
	WHERE v.last IS NOT NULL;
	SELECT setval('credits.promotions_id_seq', greatest(m.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.promotions) AS m,
		 credits.promotions_id_seq AS s
	WHERE m.last IS NOT NULL;
	SELECT setval('credits.purchases_id_seq', greatest(b.last, s.last_value))
	FROM (SELECT max(id) AS last FROM credits.purchases) AS b,
		 credits.purchases_id_seq AS s
	WHERE b.last IS NOT NULL;
	SELECT
$$;
COMMENT ON FUNCTION @extschema@.credits_sync_sequences IS
	'set the id sequences to the newest rows, never back, after logical replication has copied rows but not sequences';
REVOKE ALL ON FUNCTION @extschema@.credits_sync_sequences FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_sync_sequences TO credits_admin;
