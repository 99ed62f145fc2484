-- replication: what logical replication does not do by itself

CREATE FUNCTION credits.advance_sequence(sequence regclass, id bigint)
RETURNS void
AS 'MODULE_PATHNAME', 'credits_advance_sequence' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION credits.advance_sequence IS
	'advance a sequence to an id, unless it is there or ahead of it';
REVOKE ALL ON FUNCTION credits.advance_sequence FROM PUBLIC;

CREATE FUNCTION @extschema@.credits_sync_sequences()
RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT credits.advance_sequence('credits.accounts_id_seq', coalesce(max(id), 0)) FROM credits.accounts;
	-- ids of what was archived are not drawn again
	SELECT credits.advance_sequence('credits.grants_id_seq', coalesce(max(id), 0)) FROM credits.grants;
	SELECT credits.advance_sequence('credits.grants_id_seq', coalesce(max(id), 0)) FROM credits.archived_grants;
	SELECT credits.advance_sequence('credits.roles_id_seq', coalesce(max(id), 0)) FROM credits.roles;
	SELECT credits.advance_sequence('credits.transactions_id_seq', coalesce(max(id), 0)) FROM credits.transactions;
	SELECT credits.advance_sequence('credits.transactions_id_seq', coalesce(max(until_id), 0)) FROM credits.archives;
	SELECT credits.advance_sequence('credits.audit_log_id_seq', coalesce(max(id), 0)) FROM credits.audit_log;
	SELECT credits.advance_sequence('credits.events_id_seq', coalesce(max(id), 0)) FROM credits.events;
	SELECT credits.advance_sequence('credits.deliveries_id_seq', coalesce(max(id), 0)) FROM credits.deliveries;
	SELECT credits.advance_sequence('credits.operations_id_seq', coalesce(max(id), 0)) FROM credits.operations;
	SELECT credits.advance_sequence('credits.codes_id_seq', coalesce(max(id), 0)) FROM credits.codes;
	SELECT credits.advance_sequence('credits.job_runs_id_seq', coalesce(max(id), 0)) FROM credits.job_runs;
	SELECT credits.advance_sequence('credits.offers_id_seq', coalesce(max(id), 0)) FROM credits.offers;
	SELECT credits.advance_sequence('credits.plans_id_seq', coalesce(max(id), 0)) FROM credits.plans;
	SELECT credits.advance_sequence('credits.subscriptions_id_seq', coalesce(max(id), 0)) FROM credits.subscriptions;
	SELECT credits.advance_sequence('credits.packages_id_seq', coalesce(max(id), 0)) FROM credits.packages;
	SELECT credits.advance_sequence('credits.unit_prices_id_seq', coalesce(max(id), 0)) FROM credits.unit_prices;
	SELECT credits.advance_sequence('credits.volume_discounts_id_seq', coalesce(max(id), 0)) FROM credits.volume_discounts;
	SELECT credits.advance_sequence('credits.promotions_id_seq', coalesce(max(id), 0)) FROM credits.promotions;
	SELECT credits.advance_sequence('credits.contacts_id_seq', coalesce(max(id), 0)) FROM credits.contacts;
	SELECT credits.advance_sequence('credits.templates_id_seq', coalesce(max(id), 0)) FROM credits.templates;
	SELECT credits.advance_sequence('credits.purchases_id_seq', coalesce(max(id), 0)) FROM credits.purchases;
	SELECT credits.advance_sequence('credits.corrections_id_seq', coalesce(max(id), 0)) FROM credits.corrections;
	SELECT credits.advance_sequence('credits.disputes_id_seq', coalesce(max(id), 0)) FROM credits.disputes;
	SELECT
$$;
COMMENT ON FUNCTION @extschema@.credits_sync_sequences IS
	'advance the id sequences to the newest rows, never back, after logical replication has copied rows but not sequences';
REVOKE ALL ON FUNCTION @extschema@.credits_sync_sequences FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_sync_sequences TO credits_admin;
