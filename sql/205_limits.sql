-- limits: how much an account may have and spend

CREATE TABLE credits.limits (
	account_id bigint NOT NULL,
	max_balance bigint,
	excess text,
	min_spend bigint,
	max_spend bigint,
	max_spend_per_day bigint,
	max_spend_per_month bigint,
	timezone text NOT NULL,
	day_start timestamptz NOT NULL,
	day_used bigint NOT NULL,
	month_start timestamptz NOT NULL,
	month_used bigint NOT NULL,
	CONSTRAINT limits_not_negative CHECK (day_used >= 0 AND month_used >= 0)
) WITH (fillfactor = 80);

ALTER TABLE credits.limits ADD CONSTRAINT limits_pkey PRIMARY KEY (account_id);

COMMENT ON TABLE credits.limits IS
	'limits of accounts, NULL where the setting applies, and what was spent in the current windows';
COMMENT ON COLUMN credits.limits.max_balance IS 'highest balance that the account may be given';
COMMENT ON COLUMN credits.limits.excess IS
	'what happens to an allocation that exceeds it: refuse it, or clip it to what there is room for';
COMMENT ON COLUMN credits.limits.min_spend IS 'smallest single spend';
COMMENT ON COLUMN credits.limits.max_spend IS 'largest single spend';
COMMENT ON COLUMN credits.limits.max_spend_per_day IS 'most that may be spent in one day';
COMMENT ON COLUMN credits.limits.max_spend_per_month IS 'most that may be spent in one month';
COMMENT ON COLUMN credits.limits.timezone IS 'time zone in which days and months begin';
COMMENT ON COLUMN credits.limits.day_start IS 'beginning of the day that day_used refers to';
COMMENT ON COLUMN credits.limits.day_used IS 'spent since then, less what was given back';
COMMENT ON COLUMN credits.limits.month_start IS 'beginning of the month that month_used refers to';
COMMENT ON COLUMN credits.limits.month_used IS 'spent since then, less what was given back';

SELECT pg_catalog.pg_extension_config_dump('credits.limits', '');
GRANT SELECT ON credits.limits TO credits_admin, credits_auditor;

CREATE TRIGGER limits_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.limits
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.limits ENABLE ALWAYS TRIGGER limits_refuse_change;

CREATE FUNCTION @extschema@.credits_set_limits(
	account text,
	max_balance bigint DEFAULT NULL,
	excess text DEFAULT NULL,
	min_spend bigint DEFAULT NULL,
	max_spend bigint DEFAULT NULL,
	max_spend_per_day bigint DEFAULT NULL,
	max_spend_per_month bigint DEFAULT NULL,
	timezone text DEFAULT NULL,
	reason text DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_limits IS
	'set limits of an account; what is left out stays, and for what clear names the setting applies again';
REVOKE ALL ON FUNCTION @extschema@.credits_set_limits FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_limits TO credits_admin;
