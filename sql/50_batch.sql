-- batch: many spends, or many grants, in one call

CREATE TYPE credits.deduction AS (
	account text,
	amount bigint,
	idempotency_key text,
	operation text,
	reference text,
	metadata jsonb
);
COMMENT ON TYPE credits.deduction IS 'an item of credits_deduct_many, as the arguments of credits_deduct';

CREATE TYPE credits.allocation AS (
	account text,
	amount bigint,
	source text,
	expires_at timestamptz,
	effective_at timestamptz,
	priority integer,
	price numeric,
	currency text,
	idempotency_key text,
	reason text,
	reference text,
	metadata jsonb
);
COMMENT ON TYPE credits.allocation IS 'an item of credits_allocate_many, as the arguments of credits_allocate';

CREATE TYPE credits.outcome AS (
	item integer,
	ok boolean,
	code text,
	message text,
	detail text,
	hint text,
	receipt credits.receipt
);
COMMENT ON TYPE credits.outcome IS
	'what became of one item of a batch: its receipt, or the SQLSTATE, message, detail and hint of the refusal';

CREATE FUNCTION @extschema@.credits_deduct_many(
	items credits.deduction[],
	atomic boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_deduct_many IS
	'spend credits of many accounts in one call, 1 to 100000 items; refused items are returned as such, or refuse all if atomic';
REVOKE ALL ON FUNCTION @extschema@.credits_deduct_many FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_deduct_many TO credits_app;

CREATE FUNCTION @extschema@.credits_allocate_many(
	items credits.allocation[],
	atomic boolean DEFAULT false,
	dry_run boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_allocate_many IS
	'give many grants in one call, 1 to 100000 items; refused items are returned as such, or refuse all if atomic; a dry run tells what would become of them and changes nothing';
REVOKE ALL ON FUNCTION @extschema@.credits_allocate_many FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_allocate_many TO credits_admin;
