-- holds: credits that are reserved until they are captured or released

-- The id is that of the transaction that made the hold.  A row is updated by
-- captures, releases and extensions.  A partial capture is a heap-only update,
-- since it changes no column that is in an index.
CREATE TABLE credits.hold_states (
	id bigint NOT NULL,
	account_id bigint NOT NULL,
	created_at timestamptz NOT NULL,
	reserved bigint NOT NULL,
	expires_at timestamptz NOT NULL,
	status text NOT NULL,
	captured bigint NOT NULL,
	released bigint NOT NULL,
	CONSTRAINT hold_states_not_negative CHECK (captured >= 0 AND released >= 0
		AND captured <= reserved AND released <= reserved - captured)
) WITH (fillfactor = 80);

ALTER TABLE credits.hold_states ADD CONSTRAINT hold_states_pkey PRIMARY KEY (id);
CREATE INDEX hold_states_expires_at_idx
	ON credits.hold_states (account_id, expires_at, id)
	WHERE status = 'open';

COMMENT ON TABLE credits.hold_states IS
	'the state of each hold when its account was last settled; credits.holds shows the current state';
COMMENT ON COLUMN credits.hold_states.id IS 'the transaction that reserved the credits';
COMMENT ON COLUMN credits.hold_states.expires_at IS
	'nothing can be captured from this instant on; infinity means never';
COMMENT ON COLUMN credits.hold_states.status IS 'open, captured, released or expired';

SELECT pg_catalog.pg_extension_config_dump('credits.hold_states', '');
GRANT SELECT ON credits.hold_states TO credits_admin, credits_auditor;

CREATE TRIGGER hold_states_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.hold_states
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.hold_states ENABLE ALWAYS TRIGGER hold_states_refuse_change;

-- A hold is shown as expired as soon as it is, even if its account has not been
-- settled since.
CREATE VIEW credits.holds AS
SELECT h.id AS hold_id,
	   a.name AS account,
	   m.name AS member,
	   CASE WHEN due.over THEN 'expired' ELSE h.status END AS status,
	   h.reserved,
	   h.captured,
	   CASE WHEN due.over THEN h.reserved OPERATOR(pg_catalog.-) h.captured
			ELSE h.released END AS released,
	   CASE WHEN due.over THEN 0::bigint
			ELSE h.reserved OPERATOR(pg_catalog.-) h.captured
				OPERATOR(pg_catalog.-) h.released END AS remaining,
	   h.expires_at,
	   h.created_at,
	   t.operation,
	   t.reference
FROM credits.hold_states AS h
JOIN credits.transactions AS t ON t.id OPERATOR(pg_catalog.=) h.id
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) h.account_id
LEFT JOIN credits.accounts AS m ON m.id OPERATOR(pg_catalog.=) t.member_id
CROSS JOIN LATERAL (
	SELECT h.status OPERATOR(pg_catalog.=) 'open'
	   AND h.expires_at OPERATOR(pg_catalog.<=) credits.now() AS over
) AS due;
COMMENT ON VIEW credits.holds IS
	'one row per hold: its status now, and what is reserved, captured, released and left of it';
GRANT SELECT ON credits.holds TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_hold(
	account text,
	amount bigint,
	idempotency_key text DEFAULT NULL,
	operation text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	expires_in interval DEFAULT '15 minutes',
	pool text DEFAULT NULL,
	mode text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_hold IS
	'reserve credits of an account, from its grants in burn order, until they are captured or released, or the hold times out; the hold''s id is the transaction_id';
REVOKE ALL ON FUNCTION @extschema@.credits_hold FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_hold TO credits_app;

CREATE FUNCTION @extschema@.credits_try_hold(
	account text,
	amount bigint,
	idempotency_key text DEFAULT NULL,
	operation text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	expires_in interval DEFAULT '15 minutes',
	pool text DEFAULT NULL,
	mode text DEFAULT NULL)
RETURNS credits.attempt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_try_hold IS
	'reserve credits like credits_hold, but return a refusal as a row and record it as an event';
REVOKE ALL ON FUNCTION @extschema@.credits_try_hold FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_try_hold TO credits_app;

CREATE FUNCTION @extschema@.credits_hold_up_to(
	account text,
	amount bigint,
	idempotency_key text DEFAULT NULL,
	operation text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	expires_in interval DEFAULT '15 minutes',
	pool text DEFAULT NULL,
	mode text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_hold_up_to IS
	'reserve what there is, up to an amount; the receipt says how much';
REVOKE ALL ON FUNCTION @extschema@.credits_hold_up_to FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_hold_up_to TO credits_app;

CREATE FUNCTION @extschema@.credits_capture(
	hold_id bigint,
	amount bigint DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	final boolean DEFAULT true,
	allow_more boolean DEFAULT false,
	account text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_capture IS
	'spend credits that a hold reserves, all that are left unless an amount is given; a final capture gives back the rest';
REVOKE ALL ON FUNCTION @extschema@.credits_capture FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_capture TO credits_app;

CREATE FUNCTION @extschema@.credits_release(
	hold_id bigint,
	idempotency_key text DEFAULT NULL,
	reason text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	account text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_release IS
	'give back what is left of a hold, and end it';
REVOKE ALL ON FUNCTION @extschema@.credits_release FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_release TO credits_app;

CREATE FUNCTION @extschema@.credits_extend_hold(
	hold_id bigint,
	expires_in interval DEFAULT '15 minutes',
	idempotency_key text DEFAULT NULL,
	account text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_extend_hold IS
	'prolong a hold: it lasts for the given time from now';
REVOKE ALL ON FUNCTION @extschema@.credits_extend_hold FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_extend_hold TO credits_app;

-- A member's holds are on the account of the pool, or of a pool above it.  Those
-- of an account that is no longer a member are shown by the pool alone.
CREATE FUNCTION @extschema@.credits_holds(
	account text,
	max_rows integer DEFAULT 50,
	before_id bigint DEFAULT NULL)
RETURNS TABLE (
	hold_id bigint,
	kind text,
	pool text,
	member text,
	reserved bigint,
	captured bigint,
	remaining bigint,
	expires_at timestamptz,
	created_at timestamptz,
	operation text,
	reference text,
	metadata jsonb)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH RECURSIVE a AS MATERIALIZED (
		SELECT credits.account_id($1) AS id, credits.max_rows($2) AS max_rows
	),
	payer (id) AS (
		SELECT a.id FROM a
		UNION
		SELECT m.pool_id
		FROM payer AS p JOIN credits.members AS m ON m.account_id = p.id
	),
	page AS MATERIALIZED (
		SELECT h.id, h.account_id, t.kind, t.metadata
		FROM payer AS p
		JOIN credits.hold_states AS h ON h.account_id = p.id
			AND h.status = 'open' AND h.expires_at > credits.now()
		JOIN credits.transactions AS t ON t.id = h.id
		WHERE (SELECT a.id FROM a) IN (h.account_id, t.member_id)
		  AND h.id < COALESCE($3, 9223372036854775807)
		ORDER BY h.id DESC
		LIMIT (SELECT a.max_rows FROM a)
	)
	SELECT h.hold_id, p.kind, CASE WHEN h.member IS NOT NULL THEN h.account END, h.member,
		   h.reserved, h.captured, h.remaining, NULLIF(h.expires_at, 'infinity'), h.created_at,
		   h.operation, h.reference, p.metadata
	FROM page AS p JOIN credits.holds AS h ON h.hold_id = p.id
	ORDER BY h.hold_id DESC
$$;
COMMENT ON FUNCTION @extschema@.credits_holds IS
	'open holds on the credits of an account, gifts included, and those that it has on credits of pools, newest first; page on with before_id';
REVOKE ALL ON FUNCTION @extschema@.credits_holds FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_holds TO credits_app, credits_auditor;
