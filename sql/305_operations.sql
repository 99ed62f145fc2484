-- operations: prices of operations, by name and quantity

CREATE SEQUENCE credits.operations_id_seq;

-- A price is never changed.  A new price is a new row, so that each charge in the
-- log can be recalculated from the price that it refers to.
CREATE TABLE credits.operations (
	id bigint NOT NULL,
	name text COLLATE "C" NOT NULL,
	base_cost numeric NOT NULL,
	unit_cost numeric NOT NULL,
	unit_name text,
	included_units numeric NOT NULL,
	rounding text NOT NULL,
	minimum bigint NOT NULL,
	active_from timestamptz NOT NULL,
	active_until timestamptz,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	-- NaN counts as above Infinity
	CONSTRAINT operations_not_negative
		CHECK (base_cost >= 0 AND base_cost < 'Infinity'
			AND unit_cost >= 0 AND unit_cost < 'Infinity'
			AND included_units >= 0 AND included_units < 'Infinity'
			AND minimum >= 0),
	CONSTRAINT operations_rounding CHECK (rounding IN ('ceil', 'floor', 'round'))
);

ALTER SEQUENCE credits.operations_id_seq OWNED BY credits.operations.id;
ALTER TABLE credits.operations ADD CONSTRAINT operations_pkey PRIMARY KEY (id);
CREATE INDEX operations_name_idx ON credits.operations (name, active_from, id);

COMMENT ON TABLE credits.operations IS
	'prices of operations, all versions; the one in force has the latest active_from that has come; of several, the last one made';
COMMENT ON COLUMN credits.operations.base_cost IS 'cost independent of the quantity';
COMMENT ON COLUMN credits.operations.unit_cost IS 'cost of each unit that is not included';
COMMENT ON COLUMN credits.operations.unit_name IS 'what a unit is, such as token';
COMMENT ON COLUMN credits.operations.included_units IS 'units that the base cost pays for';
COMMENT ON COLUMN credits.operations.rounding IS
	'how the cost becomes whole credits: ceil, floor, or round, half away from zero';
COMMENT ON COLUMN credits.operations.minimum IS 'minimum cost, after rounding';
COMMENT ON COLUMN credits.operations.active_until IS
	'from this instant on it is not in force; not later than active_from if it ends the operation';
COMMENT ON COLUMN credits.operations.role IS 'session_user that set it';

SELECT pg_catalog.pg_extension_config_dump('credits.operations', '');
SELECT pg_catalog.pg_extension_config_dump('credits.operations_id_seq', '');
GRANT SELECT ON credits.operations, credits.operations_id_seq
	TO credits_admin, credits_auditor;

CREATE TRIGGER operations_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.operations
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.operations ENABLE ALWAYS TRIGGER operations_refuse_change;

-- if a charge was split over member and pool, count only its first transaction,
-- whose terms contain the total
CREATE VIEW credits.charges AS
SELECT t.id AS transaction_id,
	   a.name AS account,
	   m.name AS member,
	   t.operation,
	   (t.terms OPERATOR(pg_catalog.->>) 'quantity')::numeric AS quantity,
	   (t.terms OPERATOR(pg_catalog.->>) 'price_id')::bigint AS price_id,
	   OPERATOR(pg_catalog.-) COALESCE((t.terms OPERATOR(pg_catalog.->>) 'total')::bigint, t.amount) AS cost,
	   t.created_at
FROM credits.transactions AS t
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) t.account_id
LEFT JOIN credits.accounts AS m ON m.id OPERATOR(pg_catalog.=) t.member_id
WHERE t.kind OPERATOR(pg_catalog.=) 'deduction'
  AND t.target_id IS NULL
  AND t.terms OPERATOR(pg_catalog.?) 'price_id';
COMMENT ON VIEW credits.charges IS
	'each charge: how much of which operation, by which price, and what it cost';
GRANT SELECT ON credits.charges TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_operation(
	name text,
	base_cost numeric DEFAULT NULL,
	unit_cost numeric DEFAULT NULL,
	unit_name text DEFAULT NULL,
	included_units numeric DEFAULT NULL,
	rounding text DEFAULT NULL,
	minimum bigint DEFAULT NULL,
	active_from timestamptz DEFAULT NULL,
	active_until timestamptz DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_operation IS
	'set the price of an operation, from now or a later instant on; what is left out stays; returns the id of the price';
REVOKE ALL ON FUNCTION @extschema@.credits_set_operation FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_operation TO credits_admin;

CREATE FUNCTION @extschema@.credits_retire_operation(
	name text,
	at timestamptz DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_retire_operation IS
	'end an operation, now or at a later instant: it can no longer be charged; returns the id of the price that records this';
REVOKE ALL ON FUNCTION @extschema@.credits_retire_operation FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_retire_operation TO credits_admin;

CREATE TYPE credits.quote AS (
	cost bigint,
	sufficient boolean,
	balance bigint,
	remaining bigint,
	price_id bigint,
	draws jsonb,
	code text
);
COMMENT ON TYPE credits.quote IS
	'what credits_quote returns: the cost, whether the balance covers it, what would remain and burn, and the SQLSTATE of a refusal';

CREATE FUNCTION @extschema@.credits_quote(
	account text,
	operation text,
	quantity numeric DEFAULT 1)
RETURNS credits.quote
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION @extschema@.credits_quote IS
	'what credits_charge would cost an account now, and from which grants it would come; nothing is changed';
REVOKE ALL ON FUNCTION @extschema@.credits_quote FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_quote TO credits_app, credits_auditor;

CREATE FUNCTION @extschema@.credits_charge(
	account text,
	operation text,
	quantity numeric DEFAULT 1,
	idempotency_key text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	pool text DEFAULT NULL,
	mode text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_charge IS
	'spend what a quantity of an operation costs, from the grants in burn order; PT402 if there are not enough credits';
REVOKE ALL ON FUNCTION @extschema@.credits_charge FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_charge TO credits_app;

CREATE FUNCTION @extschema@.credits_try_charge(
	account text,
	operation text,
	quantity numeric DEFAULT 1,
	idempotency_key text DEFAULT NULL,
	reference text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	pool text DEFAULT NULL,
	mode text DEFAULT NULL)
RETURNS credits.attempt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_try_charge IS
	'charge like credits_charge, but return a refusal as a row and record it as an event';
REVOKE ALL ON FUNCTION @extschema@.credits_try_charge FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_try_charge TO credits_app;
