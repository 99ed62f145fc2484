-- period refunds: money that is paid back for periods of subscriptions

CREATE TABLE credits.period_refunds (
	subscription_id bigint NOT NULL,
	reference text COLLATE "C" NOT NULL,
	starts_at timestamptz NOT NULL,
	money numeric,
	currency text,
	reason text,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT period_refunds_money
		CHECK (money > 0 AND money < 'Infinity' AND (money IS NULL) = (currency IS NULL))
);

ALTER TABLE credits.period_refunds ADD CONSTRAINT period_refunds_pkey
	PRIMARY KEY (subscription_id, reference);
CREATE INDEX period_refunds_starts_at_idx ON credits.period_refunds (subscription_id, starts_at);

COMMENT ON TABLE credits.period_refunds IS
	'how much money was paid back under each reference for periods of subscriptions that the clock renews; changed only by the credits_* functions';
COMMENT ON COLUMN credits.period_refunds.starts_at IS 'beginning of the period';
COMMENT ON COLUMN credits.period_refunds.money IS
	'how much was paid back; NULL for everything, of a period whose price is not known';
COMMENT ON COLUMN credits.period_refunds.role IS 'session_user that recorded it';

SELECT pg_catalog.pg_extension_config_dump('credits.period_refunds', '');
GRANT SELECT ON credits.period_refunds TO credits_admin, credits_auditor;

CREATE TRIGGER period_refunds_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.period_refunds
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.period_refunds ENABLE ALWAYS TRIGGER period_refunds_refuse_change;

CREATE TYPE credits.period_refund AS (
	subscription_id bigint,
	account text,
	period_start timestamptz,
	period_end timestamptz,
	reference text,
	money numeric,
	currency text,
	credits bigint,
	balance bigint,
	debt bigint,
	replayed boolean
);
COMMENT ON TYPE credits.period_refund IS
	'what credits_refund_period returns: what this call took back of the period, and what the account has and owes';

CREATE FUNCTION @extschema@.credits_refund_period(
	subscription_id bigint,
	money numeric DEFAULT NULL,
	period_start timestamptz DEFAULT NULL,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL)
RETURNS credits.period_refund
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_refund_period IS
	'take back the credits of a period of a subscription whose money is paid back, all of it by default; what is already spent becomes debt';
REVOKE ALL ON FUNCTION @extschema@.credits_refund_period FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_refund_period TO credits_admin;
