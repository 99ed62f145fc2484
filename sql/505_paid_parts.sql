-- paid parts: what was paid for the periods of subscriptions

CREATE TABLE credits.paid_parts (
	subscription_id bigint NOT NULL,
	ends_at timestamptz NOT NULL,
	reference text COLLATE "C" NOT NULL,
	starts_at timestamptz NOT NULL,
	settled_at timestamptz NOT NULL,
	plan_id bigint NOT NULL,
	credits bigint NOT NULL,
	reversed bigint NOT NULL,
	price numeric,
	currency text,
	trial boolean NOT NULL,
	finalized_at timestamptz,
	funds boolean NOT NULL,
	CONSTRAINT paid_parts_range CHECK (ends_at > starts_at
		AND CASE WHEN credits < 0 THEN reversed BETWEEN credits AND 0
			ELSE reversed BETWEEN 0 AND credits END)
);

ALTER TABLE credits.paid_parts ADD CONSTRAINT paid_parts_pkey
	PRIMARY KEY (subscription_id, ends_at, reference);
-- with which part a period begins: of several that begin then, the one that gives most
CREATE INDEX paid_parts_starts_at_idx ON credits.paid_parts
	(subscription_id, ends_at, starts_at, (- credits), plan_id)
	WHERE credits >= 0 AND reference <> '(plan change)';
-- which invoices are later than one, and which of these are paid for with the period
CREATE INDEX paid_parts_finalized_at_idx ON credits.paid_parts (subscription_id, ends_at, finalized_at);
CREATE INDEX paid_parts_funds_idx ON credits.paid_parts (subscription_id, ends_at, finalized_at)
	WHERE funds;
CREATE INDEX paid_parts_reference_idx ON credits.paid_parts (subscription_id, reference);

COMMENT ON TABLE credits.paid_parts IS
	'what each invoice makes of the credits of each period of a subscription, from which the credits of that period follow; changed only by the credits_* functions';
COMMENT ON COLUMN credits.paid_parts.ends_at IS 'end of the period';
COMMENT ON COLUMN credits.paid_parts.reference IS
	'the payment provider''s reference of the invoice; (pending) for what waits for one; (paid) for credits_mark_paid, (plan change) for what changes that, (trial) for the trial of the plan';
COMMENT ON COLUMN credits.paid_parts.starts_at IS 'from when on it counts, within the period';
COMMENT ON COLUMN credits.paid_parts.settled_at IS
	'when it was paid; credits that were paid after their period live from then on for as long as it was';
COMMENT ON COLUMN credits.paid_parts.plan_id IS 'the version of a plan that most of it is for';
COMMENT ON COLUMN credits.paid_parts.credits IS
	'credits that it gives; negative if it credits what was paid before';
COMMENT ON COLUMN credits.paid_parts.reversed IS
	'those of them, with the same sign, whose money was paid back';
COMMENT ON COLUMN credits.paid_parts.price IS 'what was paid for it; NULL if nothing is known';
COMMENT ON COLUMN credits.paid_parts.trial IS 'is it of a trial?';
COMMENT ON COLUMN credits.paid_parts.finalized_at IS
	'of an invoice of Stripe, when it was finalized: later ones can be paid for with earlier ones';
COMMENT ON COLUMN credits.paid_parts.funds IS
	'has the period paid for lines of the invoice, whose total is 0 or less?';

SELECT pg_catalog.pg_extension_config_dump('credits.paid_parts', '');
GRANT SELECT ON credits.paid_parts TO credits_admin, credits_auditor;

CREATE TRIGGER paid_parts_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.paid_parts
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.paid_parts ENABLE ALWAYS TRIGGER paid_parts_refuse_change;

CREATE FUNCTION @extschema@.credits_set_invoice(
	subscription_id bigint,
	reference text,
	lines jsonb,
	settled_at timestamptz DEFAULT NULL)
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_invoice IS
	'set what a paid invoice says about the periods of a subscription: it replaces what was known of this invoice, and the credits follow';
REVOKE ALL ON FUNCTION @extschema@.credits_set_invoice FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_invoice TO credits_admin;
