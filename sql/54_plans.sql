-- plans: what subscriptions give, versioned

CREATE SEQUENCE credits.plans_id_seq;

-- A version is never changed: other terms are another row, so that who has
-- subscribed keeps what was sold.
CREATE TABLE credits.plans (
	id bigint NOT NULL,
	name text COLLATE "C" NOT NULL,
	version integer NOT NULL,
	unit text,
	credits bigint NOT NULL,
	period text NOT NULL,
	every integer NOT NULL,
	price numeric,
	currency text,
	rollover text NOT NULL,
	rollover_maximum bigint,
	rollover_share numeric,
	rollover_minimum bigint NOT NULL,
	rollover_periods integer,
	priority integer,
	trial interval,
	trial_credits bigint NOT NULL,
	catch_up text NOT NULL,
	features jsonb,
	retired boolean NOT NULL,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT plans_not_negative
		CHECK (credits >= 0 AND every >= 1 AND price >= 0
			AND rollover_maximum >= 0 AND rollover_share >= 0
			AND rollover_share <= 1 AND rollover_minimum >= 0
			AND rollover_periods >= 1 AND trial_credits >= 0),
	CONSTRAINT plans_period CHECK (period IN ('day', 'week', 'month', 'year')),
	CONSTRAINT plans_rollover CHECK (rollover IN ('none', 'maximum', 'share')),
	CONSTRAINT plans_catch_up CHECK (catch_up IN ('all', 'latest'))
);

ALTER SEQUENCE credits.plans_id_seq OWNED BY credits.plans.id;
ALTER TABLE credits.plans ADD CONSTRAINT plans_pkey PRIMARY KEY (id);
CREATE UNIQUE INDEX plans_name_idx ON credits.plans (name, version);

COMMENT ON TABLE credits.plans IS
	'plans, all versions; the one with the highest version is sold, unless it is retired';
COMMENT ON COLUMN credits.plans.version IS 'from 1, for each name';
COMMENT ON COLUMN credits.plans.unit IS
	'the unit that an account must have; NULL for any';
COMMENT ON COLUMN credits.plans.credits IS 'credits that each period gives';
COMMENT ON COLUMN credits.plans.period IS 'day, week, month or year';
COMMENT ON COLUMN credits.plans.every IS 'how many of them a period has';
COMMENT ON COLUMN credits.plans.price IS 'price of a period, NULL if none is known';
COMMENT ON COLUMN credits.plans.rollover IS
	'what may be kept of the credits that a period leaves: none, up to a maximum, or up to a share of the period''s credits';
COMMENT ON COLUMN credits.plans.rollover_maximum IS
	'most that is rolled over; NULL for all that is left';
COMMENT ON COLUMN credits.plans.rollover_share IS
	'the maximum as a share, 0 to 1, of the period''s credits';
COMMENT ON COLUMN credits.plans.rollover_minimum IS
	'least that is rolled over, though less is left';
COMMENT ON COLUMN credits.plans.rollover_periods IS
	'for how many periods rolled credits live; NULL for ever';
COMMENT ON COLUMN credits.plans.priority IS
	'of its grants; NULL for that of their source';
COMMENT ON COLUMN credits.plans.trial IS 'how long a trial lasts, NULL if there is none';
COMMENT ON COLUMN credits.plans.trial_credits IS 'credits that a trial gives';
COMMENT ON COLUMN credits.plans.catch_up IS
	'which periods a late renewal gives: all that were missed, or the latest alone';
COMMENT ON COLUMN credits.plans.features IS 'whatever the application wants to know of a plan';
COMMENT ON COLUMN credits.plans.retired IS 'it can no longer be subscribed to';
COMMENT ON COLUMN credits.plans.role IS 'session_user who set it';

SELECT pg_catalog.pg_extension_config_dump('credits.plans', '');
SELECT pg_catalog.pg_extension_config_dump('credits.plans_id_seq', '');
GRANT SELECT ON credits.plans, credits.plans_id_seq
	TO credits_admin, credits_auditor;

CREATE TRIGGER plans_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.plans
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.plans ENABLE ALWAYS TRIGGER plans_refuse_change;

CREATE VIEW credits.current_plans AS
SELECT p.id, p.name, p.version, p.unit, p.credits, p.period, p.every, p.price,
	   p.currency, p.rollover, p.rollover_maximum, p.rollover_share,
	   p.rollover_minimum, p.rollover_periods, p.priority, p.trial,
	   p.trial_credits, p.catch_up, p.features
FROM credits.plans AS p
WHERE NOT p.retired
  AND NOT EXISTS (
	SELECT FROM credits.plans AS n
	WHERE n.name OPERATOR(pg_catalog.=) p.name
	  AND n.version OPERATOR(pg_catalog.>) p.version);
COMMENT ON VIEW credits.current_plans IS 'plans that can be subscribed to, as they are sold now';
GRANT SELECT ON credits.current_plans TO credits_app, credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_plan(
	name text,
	credits bigint,
	period text DEFAULT 'month',
	every integer DEFAULT 1,
	price numeric DEFAULT NULL,
	currency text DEFAULT NULL,
	rollover text DEFAULT 'none',
	rollover_maximum bigint DEFAULT NULL,
	rollover_share numeric DEFAULT NULL,
	rollover_minimum bigint DEFAULT 0,
	rollover_periods integer DEFAULT 1,
	priority integer DEFAULT NULL,
	trial interval DEFAULT NULL,
	trial_credits bigint DEFAULT NULL,
	catch_up text DEFAULT 'all',
	unit text DEFAULT NULL,
	features jsonb DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_plan IS
	'publish a plan, or a new version of it; returns the id of the version, the newest one''s if nothing would change';
REVOKE ALL ON FUNCTION @extschema@.credits_set_plan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_plan TO credits_admin;

CREATE FUNCTION @extschema@.credits_retire_plan(name text)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_retire_plan IS
	'let a plan no longer be subscribed to; who has it keeps it; returns the id of the version that says so';
REVOKE ALL ON FUNCTION @extschema@.credits_retire_plan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_retire_plan TO credits_admin;
