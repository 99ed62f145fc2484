-- balance: what an account has, had and will have

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
	'the id of an account; PT404 if there is none of that name';
REVOKE ALL ON FUNCTION credits.account_id FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.account_id TO credits_admin, credits_auditor;

CREATE FUNCTION credits.now()
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'credits_now' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.now IS
	'the clock that credits go by: the time of day, or the setting credits.test_clock';

CREATE FUNCTION credits.required(value timestamptz, argument text)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'credits_required' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.required IS 'the value of an argument; 22004 if it is NULL';
REVOKE ALL ON FUNCTION credits.required FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.required TO credits_admin, credits_auditor;

-- Grants whose turn came, or whose time ran out, without anyone touching the
-- account since are counted here as settling will count them.
CREATE FUNCTION @extschema@.credits_balance_at(account text, at timestamptz)
RETURNS bigint
LANGUAGE sql STABLE PARALLEL SAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH a AS MATERIALIZED (
		SELECT credits.account_id(account) AS id,
			   credits.required(at, 'at') AS at
	)
	SELECT COALESCE((
			SELECT t.balance_after
			FROM credits.transactions AS t
			WHERE t.account_id = (SELECT a.id FROM a)
			  AND t.created_at <= (SELECT a.at FROM a)
			ORDER BY t.created_at DESC, t.id DESC
			LIMIT 1), 0)
		 + COALESCE((
			SELECT sum(CASE g.status
						WHEN 'pending' THEN
							CASE WHEN g.expires_at <= (SELECT a.at FROM a) THEN 0
								 ELSE g.remaining END
						ELSE -g.remaining END)::bigint
			FROM credits.grants AS g
			WHERE g.account_id = (SELECT a.id FROM a)
			  AND g.status IN ('open', 'pending')
			  AND CASE g.status
				  WHEN 'pending' THEN g.effective_at
				  ELSE g.expires_at END <= (SELECT a.at FROM a)), 0)
$$;
COMMENT ON FUNCTION @extschema@.credits_balance_at IS
	'credits an account could spend at an instant; at a future one, if nothing but the clock touches it';
REVOKE ALL ON FUNCTION @extschema@.credits_balance_at FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_balance_at TO credits_app, credits_auditor;

CREATE FUNCTION @extschema@.credits_summary(
	account text,
	OUT balance bigint,
	OUT held bigint,
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
	), g AS (
		-- due: the clock has passed it, but nobody has settled it yet
		SELECT h.remaining, h.expires_at,
			   h.status = 'pending' AND h.effective_at <= a.now AS activating,
			   h.expires_at <= a.now AS expiring,
			   h.status = 'open' AS open
		FROM credits.grants AS h, a
		WHERE h.account_id = a.id AND h.status IN ('open', 'pending')
	), due AS (
		SELECT COALESCE(sum(g.remaining) FILTER (WHERE g.activating), 0)::bigint
				   AS activated,
			   COALESCE(sum(g.remaining) FILTER (WHERE g.expiring
				   AND (g.open OR g.activating)), 0)::bigint AS expired
		FROM g
	), next AS (
		SELECT g.expires_at, sum(g.remaining)::bigint AS amount
		FROM g
		WHERE (g.open OR g.activating) AND NOT g.expiring
		GROUP BY g.expires_at
		ORDER BY g.expires_at
		LIMIT 1
	)
	SELECT a.balance + due.activated - due.expired,
		   a.held,
		   next.amount,
		   next.expires_at,
		   a.granted,
		   a.spent,
		   a.refunded,
		   a.expired + due.expired,
		   a.status,
		   a.unit
	FROM a CROSS JOIN due LEFT JOIN next ON true
$$;
COMMENT ON FUNCTION @extschema@.credits_summary IS
	'one account at a glance: balance, held, what expires next and when, and its lifetime totals';
REVOKE ALL ON FUNCTION @extschema@.credits_summary FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_summary TO credits_app, credits_auditor;
