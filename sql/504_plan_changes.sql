-- changes: moving a subscription to another plan

CREATE TYPE credits.plan_change AS (
	subscription_id bigint,
	plan text,
	version integer,
	at timestamptz,
	scheduled boolean,
	period_start timestamptz,
	period_end timestamptz,
	entitlement numeric,
	given bigint,
	taken bigint,
	balance bigint,
	transaction_id bigint,
	replayed boolean
);
COMMENT ON TYPE credits.plan_change IS
	'what a change of plan does: when it takes effect, in which period, and the credits that it gives or takes back';

CREATE FUNCTION @extschema@.credits_change_plan(
	subscription_id bigint,
	plan text,
	idempotency_key text DEFAULT NULL,
	at text DEFAULT NULL,
	proration text DEFAULT 'prorate')
RETURNS credits.plan_change
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_change_plan IS
	'move a subscription to the newest version of a plan, now or at the end of its period';

CREATE FUNCTION @extschema@.credits_preview_plan_change(
	subscription_id bigint,
	plan text,
	at text DEFAULT NULL,
	proration text DEFAULT 'prorate',
	account text DEFAULT NULL)
RETURNS credits.plan_change
AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_preview_plan_change IS
	'what credits_change_plan would do now; changes nothing';

REVOKE ALL ON FUNCTION @extschema@.credits_change_plan, @extschema@.credits_preview_plan_change FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_change_plan TO credits_admin;
GRANT EXECUTE ON FUNCTION @extschema@.credits_preview_plan_change
	TO credits_app, credits_admin, credits_auditor;
