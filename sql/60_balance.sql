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
	expiring_at timestamptz
);
COMMENT ON TYPE credits.settlement IS 'what settling an account would make of it';

CREATE FUNCTION credits.settled(account_id bigint, at timestamptz DEFAULT NULL)
RETURNS credits.settlement
AS 'MODULE_PATHNAME', 'credits_settled' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.settled IS
	'an account as settling it at an instant would make it, and what then expires next; nothing is written';
REVOKE ALL ON FUNCTION credits.settled FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.settled TO credits_admin, credits_auditor;

-- After the newest row of the log only the clock changes anything: what came
-- due without anyone touching the account is counted as settling will count it.
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
				FROM credits.transactions AS t
				WHERE t.account_id = a.id AND t.created_at <= a.at
				ORDER BY t.created_at DESC, t.id DESC
				LIMIT 1), 0)
		   END
	FROM a JOIN credits.accounts AS r ON r.id = a.id
$$;
COMMENT ON FUNCTION @extschema@.credits_balance_at IS
	'credits an account could spend at an instant; at a future one, if nothing but the clock touches it';
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
		   a.granted,
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
