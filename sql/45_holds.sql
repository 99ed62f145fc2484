-- holds: credits reserved, until they are captured or released

-- The id is that of the transaction that made it.  A row is changed by what
-- ends the hold and by partial captures; the partial index names only what
-- changes once in its life.
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
	'what became of each hold, when its account was last settled; credits.holds shows what holds now';
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

-- A hold whose time has run out is over, whether or not its account has been
-- settled since.
CREATE VIEW credits.holds AS
SELECT h.id,
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
	expires_in interval DEFAULT '15 minutes',
	idempotency_key text DEFAULT NULL,
	operation text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	pool text DEFAULT NULL,
	mode text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_hold IS
	'reserve credits of an account, from its grants in burn order, until they are captured or released or time runs out; the hold''s id is the transaction_id';
REVOKE ALL ON FUNCTION @extschema@.credits_hold FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_hold TO credits_app;

CREATE FUNCTION @extschema@.credits_try_hold(
	account text,
	amount bigint,
	expires_in interval DEFAULT '15 minutes',
	idempotency_key text DEFAULT NULL,
	operation text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	pool text DEFAULT NULL,
	mode text DEFAULT NULL)
RETURNS credits.attempt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_try_hold IS
	'reserve credits like credits_hold, but return a refusal as a row and record it as an event';
REVOKE ALL ON FUNCTION @extschema@.credits_try_hold FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_try_hold TO credits_app;

CREATE FUNCTION @extschema@.credits_capture(
	hold_id bigint,
	amount bigint DEFAULT NULL,
	final boolean DEFAULT true,
	idempotency_key text DEFAULT NULL,
	allow_more boolean DEFAULT false,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	account text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_capture IS
	'spend what a hold reserves, all that is left unless an amount is given; a final capture gives back the rest';
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
	'give back what is left of a hold, which ends it';
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
	'let a hold last longer: as long as given from now';
REVOKE ALL ON FUNCTION @extschema@.credits_extend_hold FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_extend_hold TO credits_app;
