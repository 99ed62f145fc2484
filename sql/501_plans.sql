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
	rollover_total bigint,
	rollover_again boolean NOT NULL,
	priority integer,
	trial interval,
	trial_credits bigint NOT NULL,
	catch_up text NOT NULL,
	grace interval,
	features jsonb,
	retired boolean NOT NULL,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT plans_not_negative
		CHECK (credits >= 0 AND every >= 1 AND price >= 0
			AND rollover_maximum >= 0 AND rollover_share >= 0
			AND rollover_share <= 1 AND rollover_minimum >= 0
			AND rollover_periods >= 1 AND rollover_total >= 0
			AND trial_credits >= 0),
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
COMMENT ON COLUMN credits.plans.every IS 'number of these units in a period';
COMMENT ON COLUMN credits.plans.price IS 'price of a period, NULL if none is known';
COMMENT ON COLUMN credits.plans.rollover IS
	'how many of the credits that are left of a period roll over: none, up to a maximum, or up to a share of the period''s credits';
COMMENT ON COLUMN credits.plans.rollover_maximum IS
	'most credits that are rolled over from a period; NULL for all that are left';
COMMENT ON COLUMN credits.plans.rollover_share IS
	'the maximum as a share, 0 to 1, of the period''s credits';
COMMENT ON COLUMN credits.plans.rollover_minimum IS
	'fewest credits that are rolled over, even if fewer are left';
COMMENT ON COLUMN credits.plans.rollover_periods IS
	'for how many periods rolled-over credits live; NULL for forever';
COMMENT ON COLUMN credits.plans.rollover_total IS
	'most rolled-over credits that there can be at a time, from all periods together; NULL for any number';
COMMENT ON COLUMN credits.plans.rollover_again IS
	'whether rolled-over credits that are left when they expire are rolled over again';
COMMENT ON COLUMN credits.plans.priority IS
	'priority of its grants; NULL for that of their source';
COMMENT ON COLUMN credits.plans.trial IS 'how long a trial lasts, NULL if there is none';
COMMENT ON COLUMN credits.plans.trial_credits IS 'credits that a trial gives';
COMMENT ON COLUMN credits.plans.catch_up IS
	'which periods a late renewal gives: all that were missed, or only the latest';
COMMENT ON COLUMN credits.plans.grace IS
	'for how long what a period has left lives on while the next one is not paid; NULL for not at all';
COMMENT ON COLUMN credits.plans.features IS 'anything that the application wants to know about the plan';
COMMENT ON COLUMN credits.plans.retired IS 'accounts can no longer subscribe to it';
COMMENT ON COLUMN credits.plans.role IS 'session_user that set it';

SELECT pg_catalog.pg_extension_config_dump('credits.plans', '');
SELECT pg_catalog.pg_extension_config_dump('credits.plans_id_seq', '');
GRANT SELECT ON credits.plans, credits.plans_id_seq
	TO credits_admin, credits_auditor;

CREATE TRIGGER plans_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.plans
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.plans ENABLE ALWAYS TRIGGER plans_refuse_change;

CREATE VIEW credits.sold_plans AS
SELECT p.id AS plan_id, p.name, p.version, p.unit, p.credits, p.period, p.every, p.price,
	   p.currency, p.rollover, p.rollover_maximum, p.rollover_share,
	   p.rollover_minimum, p.rollover_periods, p.rollover_total,
	   p.rollover_again, p.priority, p.trial,
	   p.trial_credits, p.catch_up, p.grace, p.features,
	   -- ordered, so that the index is used if there are many offers of others
	   (SELECT o.id FROM credits.offers AS o
		WHERE o.kind OPERATOR(pg_catalog.=) 'plan'
		  AND o.name OPERATOR(pg_catalog.=) p.name
		ORDER BY COALESCE(o.account_id, 0) LIMIT 1) IS NOT NULL
	   AND NOT EXISTS (
		SELECT FROM credits.offers AS o
		WHERE o.kind OPERATOR(pg_catalog.=) 'plan'
		  AND o.name OPERATOR(pg_catalog.=) p.name
		  AND o.withdrawn_at IS NULL
		  AND COALESCE(o.account_id, 0) OPERATOR(pg_catalog.=) 0
		  AND COALESCE(o.metadata::text COLLATE "C", '') OPERATOR(pg_catalog.=) '') AS private
FROM credits.plans AS p
WHERE NOT p.retired
  AND NOT EXISTS (
	SELECT FROM credits.plans AS n
	WHERE n.name OPERATOR(pg_catalog.=) p.name
	  AND n.version OPERATOR(pg_catalog.>) p.version);
COMMENT ON VIEW credits.sold_plans IS
	'plans that are sold now, also those that are offered to some accounts only';
GRANT SELECT ON credits.sold_plans TO credits_admin, credits_auditor;

CREATE VIEW credits.current_plans AS
SELECT p.plan_id, p.name, p.version, p.unit, p.credits, p.period, p.every, p.price,
	   p.currency, p.rollover, p.rollover_maximum, p.rollover_share,
	   p.rollover_minimum, p.rollover_periods, p.rollover_total,
	   p.rollover_again, p.priority, p.trial,
	   p.trial_credits, p.catch_up, p.grace, p.features
FROM credits.sold_plans AS p
WHERE NOT p.private;
COMMENT ON VIEW credits.current_plans IS 'plans that any account can subscribe to now';
GRANT SELECT ON credits.current_plans TO credits_app, credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_plans(account text)
RETURNS SETOF credits.current_plans
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT p.plan_id, p.name, p.version, p.unit, p.credits, p.period, p.every, p.price,
		   p.currency, p.rollover, p.rollover_maximum, p.rollover_share,
		   p.rollover_minimum, p.rollover_periods, p.rollover_total,
		   p.rollover_again, p.priority, p.trial,
		   p.trial_credits, p.catch_up, p.grace, p.features
	FROM credits.accounts AS a, credits.sold_plans AS p
	WHERE a.id = credits.account_id($1)
	  AND (p.unit IS NULL OR p.unit = a.unit)
	  AND (NOT p.private OR EXISTS (
		SELECT FROM credits.offers AS o
		WHERE o.kind = 'plan' AND o.name = p.name AND o.withdrawn_at IS NULL
		  AND COALESCE(o.account_id, 0) = a.id)
	   OR EXISTS (
		SELECT FROM credits.offers AS o
		WHERE o.kind = 'plan' AND o.name = p.name AND o.withdrawn_at IS NULL
		  AND COALESCE(o.account_id, 0) = 0 AND a.metadata @> o.metadata))
	ORDER BY p.name
$$;
COMMENT ON FUNCTION @extschema@.credits_plans IS
	'plans that are offered to an account now: those for everybody, and those for itself';
REVOKE ALL ON FUNCTION @extschema@.credits_plans FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_plans TO credits_app, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_plan(
	name text,
	credits bigint DEFAULT NULL,
	period text DEFAULT NULL,
	every integer DEFAULT NULL,
	price numeric DEFAULT NULL,
	currency text DEFAULT NULL,
	rollover text DEFAULT NULL,
	rollover_maximum bigint DEFAULT NULL,
	rollover_share numeric DEFAULT NULL,
	rollover_minimum bigint DEFAULT NULL,
	rollover_periods integer DEFAULT NULL,
	rollover_total bigint DEFAULT NULL,
	rollover_again boolean DEFAULT NULL,
	priority integer DEFAULT NULL,
	trial interval DEFAULT NULL,
	trial_credits bigint DEFAULT NULL,
	catch_up text DEFAULT NULL,
	grace interval DEFAULT NULL,
	unit text DEFAULT NULL,
	features jsonb DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_plan IS
	'publish a plan, or a new version of it, in which what is left out stays; returns the id of the version, or that of the newest one if nothing changes';
REVOKE ALL ON FUNCTION @extschema@.credits_set_plan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_plan TO credits_admin;

CREATE FUNCTION @extschema@.credits_retire_plan(name text)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_retire_plan IS
	'retire a plan: accounts can no longer subscribe to it, but subscribers keep it; returns the id of the version that records this';
REVOKE ALL ON FUNCTION @extschema@.credits_retire_plan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_retire_plan TO credits_admin;
