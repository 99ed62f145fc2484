-- replication: what logical replication leaves undone

CREATE FUNCTION @extschema@.credits_sync_sequences()
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT setval('credits.accounts_id_seq',
				  (SELECT max(a.id) FROM credits.accounts AS a)),
		   setval('credits.grants_id_seq',
				  (SELECT max(g.id) FROM credits.grants AS g)),
		   setval('credits.transactions_id_seq',
				  (SELECT max(t.id) FROM credits.transactions AS t)),
		   setval('credits.events_id_seq',
				  (SELECT max(e.id) FROM credits.events AS e));
	SELECT
$$;
COMMENT ON FUNCTION @extschema@.credits_sync_sequences IS
	'set the id sequences behind the newest rows, after logical replication has copied rows but not sequences';
REVOKE ALL ON FUNCTION @extschema@.credits_sync_sequences FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_sync_sequences TO credits_admin;
