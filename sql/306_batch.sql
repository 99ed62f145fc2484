-- batch: many spends, holds, captures, transfers or grants in one call

CREATE TYPE credits.deduction AS (
	account text,
	amount bigint,
	idempotency_key text,
	operation text,
	reference text,
	metadata jsonb
);
COMMENT ON TYPE credits.deduction IS 'an item of credits_deduct_many, like the arguments of credits_deduct';

CREATE TYPE credits.hold_item AS (
	account text,
	amount bigint,
	idempotency_key text,
	operation text,
	reference text,
	metadata jsonb,
	expires_in interval
);
COMMENT ON TYPE credits.hold_item IS 'an item of credits_hold_many, like the arguments of credits_hold';

CREATE TYPE credits.capture_item AS (
	hold_id bigint,
	amount bigint,
	idempotency_key text,
	reference text,
	metadata jsonb,
	final boolean,
	allow_more boolean,
	account text
);
COMMENT ON TYPE credits.capture_item IS 'an item of credits_capture_many, like the arguments of credits_capture';

CREATE TYPE credits.transfer_item AS (
	from_account text,
	to_account text,
	amount bigint,
	idempotency_key text,
	reason text,
	metadata jsonb
);
COMMENT ON TYPE credits.transfer_item IS 'an item of credits_transfer_many, like the arguments of credits_transfer';

CREATE TYPE credits.allocation AS (
	account text,
	amount bigint,
	idempotency_key text,
	reference text,
	reason text,
	metadata jsonb,
	source text,
	expires_at timestamptz,
	expires_in interval,
	effective_at timestamptz,
	priority integer,
	price numeric,
	currency text
);
COMMENT ON TYPE credits.allocation IS 'an item of credits_allocate_many, like the arguments of credits_allocate';

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
	'the outcome of one item of a batch: its receipt, or the SQLSTATE, message, detail and hint of the refusal';

CREATE FUNCTION @extschema@.credits_deduct_many(
	items credits.deduction[],
	atomic boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_deduct_many(credits.deduction[], boolean) IS
	'spend credits of many accounts in one call, 1 to 100000 items; refused items are reported, or refuse them all if atomic';
REVOKE ALL ON FUNCTION @extschema@.credits_deduct_many(credits.deduction[], boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_deduct_many(credits.deduction[], boolean) TO credits_app;

CREATE FUNCTION @extschema@.credits_deduct_many(
	items jsonb,
	atomic boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME', 'credits_deduct_many_json' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_deduct_many(jsonb, boolean) IS
	'like credits_deduct_many of credits.deduction[], with the items as JSON: an array of objects, whose members are named like the columns';
REVOKE ALL ON FUNCTION @extschema@.credits_deduct_many(jsonb, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_deduct_many(jsonb, boolean) TO credits_app;

CREATE FUNCTION @extschema@.credits_hold_many(
	items credits.hold_item[],
	atomic boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_hold_many(credits.hold_item[], boolean) IS
	'reserve credits of many accounts in one call, 1 to 100000 items; refused items are reported, or refuse them all if atomic';
REVOKE ALL ON FUNCTION @extschema@.credits_hold_many(credits.hold_item[], boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_hold_many(credits.hold_item[], boolean) TO credits_app;

CREATE FUNCTION @extschema@.credits_hold_many(
	items jsonb,
	atomic boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME', 'credits_hold_many_json' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_hold_many(jsonb, boolean) IS
	'like credits_hold_many of credits.hold_item[], with the items as JSON: an array of objects, whose members are named like the columns';
REVOKE ALL ON FUNCTION @extschema@.credits_hold_many(jsonb, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_hold_many(jsonb, boolean) TO credits_app;

CREATE FUNCTION @extschema@.credits_capture_many(
	items credits.capture_item[],
	atomic boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_capture_many(credits.capture_item[], boolean) IS
	'spend credits that many holds reserve in one call, 1 to 10000 items; refused items are reported, or refuse them all if atomic';
REVOKE ALL ON FUNCTION @extschema@.credits_capture_many(credits.capture_item[], boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_capture_many(credits.capture_item[], boolean) TO credits_app;

CREATE FUNCTION @extschema@.credits_capture_many(
	items jsonb,
	atomic boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME', 'credits_capture_many_json' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_capture_many(jsonb, boolean) IS
	'like credits_capture_many of credits.capture_item[], with the items as JSON: an array of objects, whose members are named like the columns';
REVOKE ALL ON FUNCTION @extschema@.credits_capture_many(jsonb, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_capture_many(jsonb, boolean) TO credits_app;

CREATE FUNCTION @extschema@.credits_transfer_many(
	items credits.transfer_item[],
	atomic boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_transfer_many(credits.transfer_item[], boolean) IS
	'make many transfers in one call, 1 to 10000 items; refused items are reported, or refuse them all if atomic';
REVOKE ALL ON FUNCTION @extschema@.credits_transfer_many(credits.transfer_item[], boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_transfer_many(credits.transfer_item[], boolean) TO credits_app;

CREATE FUNCTION @extschema@.credits_transfer_many(
	items jsonb,
	atomic boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME', 'credits_transfer_many_json' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_transfer_many(jsonb, boolean) IS
	'like credits_transfer_many of credits.transfer_item[], with the items as JSON: an array of objects, whose members are named like the columns';
REVOKE ALL ON FUNCTION @extschema@.credits_transfer_many(jsonb, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_transfer_many(jsonb, boolean) TO credits_app;

CREATE FUNCTION @extschema@.credits_allocate_many(
	items credits.allocation[],
	atomic boolean DEFAULT false,
	dry_run boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_allocate_many(credits.allocation[], boolean, boolean) IS
	'give many grants in one call, 1 to 100000 items; refused items are reported, or refuse them all if atomic; a dry run shows the outcome and changes nothing';
REVOKE ALL ON FUNCTION @extschema@.credits_allocate_many(credits.allocation[], boolean, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_allocate_many(credits.allocation[], boolean, boolean) TO credits_admin;

CREATE FUNCTION @extschema@.credits_allocate_many(
	items jsonb,
	atomic boolean DEFAULT false,
	dry_run boolean DEFAULT false)
RETURNS SETOF credits.outcome
AS 'MODULE_PATHNAME', 'credits_allocate_many_json' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1000;
COMMENT ON FUNCTION @extschema@.credits_allocate_many(jsonb, boolean, boolean) IS
	'like credits_allocate_many of credits.allocation[], with the items as JSON: an array of objects, whose members are named like the columns';
REVOKE ALL ON FUNCTION @extschema@.credits_allocate_many(jsonb, boolean, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_allocate_many(jsonb, boolean, boolean) TO credits_admin;
