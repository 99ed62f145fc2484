-- balance: the balance of an account, now, in the past and in the future

CREATE FUNCTION @extschema@.credits_balance(account text)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.credits_balance IS
	'credits an account can spend now, whether or not any job has run';
REVOKE ALL ON FUNCTION @extschema@.credits_balance FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_balance TO credits_app, credits_auditor;

CREATE FUNCTION credits.account_id(account text)
RETURNS bigint
AS 'MODULE_PATHNAME', 'credits_account_id' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.account_id IS
	'the id of an account; PT404 if there is none with that name';
REVOKE ALL ON FUNCTION credits.account_id FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.account_id TO credits_admin, credits_auditor;

CREATE FUNCTION credits.required(value timestamptz, argument text)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'credits_required' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.required IS 'the value of an argument; 22004 if it is NULL';
REVOKE ALL ON FUNCTION credits.required FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.required TO credits_admin, credits_auditor;

CREATE TYPE credits.settlement AS (
	balance bigint,
	held bigint,
	debt bigint,
	expired bigint,
	expiring_amount bigint,
	expiring_at timestamptz,
	granted bigint
);
COMMENT ON TYPE credits.settlement IS
	'the state of an account after settling it and renewing its subscriptions';

CREATE FUNCTION credits.settled(account_id bigint, at timestamptz DEFAULT NULL)
RETURNS credits.settlement
AS 'MODULE_PATHNAME', 'credits_settled' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.settled IS
	'an account as if it were settled and renewed at an instant, and what expires next; nothing is written';
REVOKE ALL ON FUNCTION credits.settled FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.settled TO credits_admin, credits_auditor;

CREATE FUNCTION credits.archived_balance(account_id bigint, at timestamptz)
RETURNS bigint
AS 'MODULE_PATHNAME', 'credits_archived_balance' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.archived_balance IS
	'the balance of an account at an instant before the first of its rows that is still in the log; PT410 if only archived rows know it';
REVOKE ALL ON FUNCTION credits.archived_balance FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.archived_balance TO credits_admin, credits_auditor;

-- After the newest row of the log, a balance can change only by settling and renewing:
-- what has become due since is included as these will include it.
CREATE FUNCTION credits.log_rows(account_id bigint, at timestamptz, before_id bigint,
	after_id bigint, since timestamptz, until timestamptz, kinds text[], max_rows integer)
RETURNS SETOF credits.log
AS 'MODULE_PATHNAME', 'credits_log_rows' LANGUAGE C STABLE PARALLEL SAFE ROWS 50;
COMMENT ON FUNCTION credits.log_rows IS
	'rows of the log of an account, newest first, with (created_at, id) below (at, before_id): reads one partition after the other';
REVOKE ALL ON FUNCTION credits.log_rows FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.log_rows TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_balance_at(account text, at timestamptz)
RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH a AS MATERIALIZED (
		SELECT credits.account_id(account) AS id,
			   credits.required(at, 'at') AS at
	)
	SELECT CASE WHEN a.at >= r.last_at
		   THEN (credits.settled(a.id, a.at)).balance
		   ELSE COALESCE((
				SELECT t.balance_after
				FROM credits.log_rows(a.id, a.at, NULL,
									  (SELECT s.transaction_id
									   FROM credits.book_starts AS s
									   WHERE s.account_id = a.id),
									  NULL, NULL, NULL, 1) AS t), credits.archived_balance(a.id, a.at))
		   END
	FROM a JOIN credits.accounts AS r ON r.id = a.id
$$;
COMMENT ON FUNCTION @extschema@.credits_balance_at IS
	'credits an account could spend at an instant; for a future one, if nothing but time changes it';
REVOKE ALL ON FUNCTION @extschema@.credits_balance_at FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_balance_at TO credits_app, credits_auditor;

CREATE FUNCTION @extschema@.credits_summary(
	account text,
	OUT balance bigint,
	OUT held bigint,
	OUT debt bigint,
	OUT expiring_amount bigint,
	OUT expiring_at timestamptz,
	OUT granted bigint,
	OUT spent bigint,
	OUT refunded bigint,
	OUT expired bigint,
	OUT status text,
	OUT unit text)
LANGUAGE sql STABLE PARALLEL SAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH a AS (
		SELECT r.*, credits.now() AS now
		FROM credits.accounts AS r
		WHERE r.id = credits.account_id($1)
	)
	SELECT s.balance,
		   s.held,
		   s.debt,
		   s.expiring_amount,
		   s.expiring_at,
		   s.granted,
		   a.spent,
		   a.refunded,
		   s.expired,
		   a.status,
		   a.unit
	-- the clock may have passed what nobody has settled yet
	FROM a CROSS JOIN LATERAL credits.settled(a.id, a.now) AS s
$$;
COMMENT ON FUNCTION @extschema@.credits_summary IS
	'one account at a glance: balance, held, debt, what expires next and when, and its lifetime totals';
REVOKE ALL ON FUNCTION @extschema@.credits_summary FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_summary TO credits_app, credits_auditor;

CREATE FUNCTION credits.settled_grants(
	account_id bigint,
	max_rows integer DEFAULT NULL,
	after_id bigint DEFAULT NULL,
	OUT grant_id bigint,
	OUT source text,
	OUT status text,
	OUT amount bigint,
	OUT remaining bigint,
	OUT priority integer,
	OUT effective_at timestamptz,
	OUT expires_at timestamptz,
	OUT price numeric,
	OUT currency text,
	OUT transaction_id bigint,
	OUT rolled_over boolean)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'credits_settled_grants' LANGUAGE C STABLE PARALLEL SAFE ROWS 20;
COMMENT ON FUNCTION credits.settled_grants IS
	'the open and pending grants of an account as if it were settled and renewed now, in burn order; nothing is written, and those that would be have no id';
REVOKE ALL ON FUNCTION credits.settled_grants FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.settled_grants TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_grants(
	account text,
	max_rows integer DEFAULT 50,
	after_id bigint DEFAULT NULL)
RETURNS TABLE (
	grant_id bigint,
	source text,
	status text,
	amount bigint,
	remaining bigint,
	effective_at timestamptz,
	expires_at timestamptz,
	priority integer,
	rolled_over boolean,
	price numeric,
	currency text,
	transaction_id bigint,
	created_at timestamptz,
	reference text,
	reason text)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT g.grant_id, g.source, g.status, g.amount, g.remaining,
		   g.effective_at, g.expires_at, g.priority,
		   COALESCE((t.terms ->> 'rolled')::boolean, g.rolled_over),
		   g.price, g.currency, g.transaction_id, t.created_at, t.reference, t.reason
	FROM credits.settled_grants(credits.account_id($1), credits.max_rows($2), $3)
			WITH ORDINALITY AS g
	-- what a renewal would give has no transaction yet
	LEFT JOIN credits.transactions AS t ON t.id = g.transaction_id
	ORDER BY g.ordinality
$$;
COMMENT ON FUNCTION @extschema@.credits_grants IS
	'grants of an account that can be spent or will be, and what remains of each, in the order in which they burn; page on with after_id';
REVOKE ALL ON FUNCTION @extschema@.credits_grants FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_grants TO credits_app, credits_auditor;

CREATE FUNCTION @extschema@.credits_balance_by_source(account text)
RETURNS TABLE (
	source text,
	balance bigint,
	pending bigint,
	grants bigint,
	expiring_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 5
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT g.source,
		   COALESCE(sum(g.remaining) FILTER (WHERE g.status = 'open'), 0)::bigint,
		   COALESCE(sum(g.remaining) FILTER (WHERE g.status = 'pending'), 0)::bigint,
		   count(*),
		   min(g.expires_at) FILTER (WHERE g.status = 'open')
	FROM credits.settled_grants(credits.account_id($1)) WITH ORDINALITY AS g
	GROUP BY g.source
	ORDER BY min(g.ordinality)
$$;
COMMENT ON FUNCTION @extschema@.credits_balance_by_source IS
	'where the balance of an account comes from: its credits by source, and when the first of each expire';
REVOKE ALL ON FUNCTION @extschema@.credits_balance_by_source FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_balance_by_source TO credits_app, credits_auditor;
