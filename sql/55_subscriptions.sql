-- subscriptions: who has which plan, and what each period has given

CREATE SEQUENCE credits.subscriptions_id_seq;

-- A subscription is guarded by the lock of its account.
CREATE TABLE credits.subscriptions (
	id bigint NOT NULL,
	account_id bigint NOT NULL,
	plan_id bigint NOT NULL,
	external_id text COLLATE "C",
	status text NOT NULL,
	collection text NOT NULL,
	timezone text NOT NULL,
	anchor timestamptz NOT NULL,
	first_number bigint NOT NULL,
	period_number bigint NOT NULL,
	period_start timestamptz NOT NULL,
	period_end timestamptz NOT NULL,
	next_plan_id bigint,
	next_proration text,
	cancel_at timestamptz,
	cancel_credits text,
	due_at timestamptz NOT NULL,
	created_at timestamptz NOT NULL,
	started_at timestamptz NOT NULL,
	ended_at timestamptz,
	metadata jsonb,
	CONSTRAINT subscriptions_status CHECK (status IN ('trialing', 'active',
		'past_due', 'unpaid', 'paused', 'canceled')),
	CONSTRAINT subscriptions_collection CHECK (collection IN ('clock', 'payment'))
) WITH (fillfactor = 80);

ALTER SEQUENCE credits.subscriptions_id_seq OWNED BY credits.subscriptions.id;
ALTER TABLE credits.subscriptions ADD CONSTRAINT subscriptions_pkey PRIMARY KEY (id);
CREATE UNIQUE INDEX subscriptions_external_id_key ON credits.subscriptions (external_id)
	WHERE external_id IS NOT NULL;
CREATE INDEX subscriptions_account_id_idx ON credits.subscriptions (account_id, id);
CREATE INDEX subscriptions_due_at_idx ON credits.subscriptions (due_at, id)
	WHERE due_at < 'infinity';

COMMENT ON TABLE credits.subscriptions IS
	'one row per subscription; changed only by the credits_* functions';
COMMENT ON COLUMN credits.subscriptions.plan_id IS 'the version of a plan that is in force';
COMMENT ON COLUMN credits.subscriptions.external_id IS
	'what another system calls it, such as a payment provider';
COMMENT ON COLUMN credits.subscriptions.status IS
	'trialing, active, past_due, unpaid, paused or canceled';
COMMENT ON COLUMN credits.subscriptions.collection IS
	'clock: its periods are given when they begin; payment: when they are paid';
COMMENT ON COLUMN credits.subscriptions.anchor IS
	'from which the beginning of every period is counted';
COMMENT ON COLUMN credits.subscriptions.first_number IS
	'number of the period that begins at the anchor';
COMMENT ON COLUMN credits.subscriptions.period_number IS
	'number of the newest period, counted from 0';
COMMENT ON COLUMN credits.subscriptions.next_plan_id IS
	'the version of a plan that is in force from the next period on';
COMMENT ON COLUMN credits.subscriptions.cancel_at IS 'when it ends, or ended; NULL if that is open';
COMMENT ON COLUMN credits.subscriptions.cancel_credits IS
	'what then becomes of its credits: keep or expire';
COMMENT ON COLUMN credits.subscriptions.due_at IS
	'before this instant the clock changes nothing on it';
COMMENT ON COLUMN credits.subscriptions.ended_at IS 'when it was canceled for good';

SELECT pg_catalog.pg_extension_config_dump('credits.subscriptions', '');
SELECT pg_catalog.pg_extension_config_dump('credits.subscriptions_id_seq', '');
GRANT SELECT ON credits.subscriptions, credits.subscriptions_id_seq
	TO credits_admin, credits_auditor;

-- The key makes the grant of a period happen once, whoever gives it.
CREATE TABLE credits.periods (
	subscription_id bigint NOT NULL,
	starts_at timestamptz NOT NULL,
	ends_at timestamptz NOT NULL,
	number bigint NOT NULL,
	account_id bigint NOT NULL,
	plan_id bigint NOT NULL,
	status text NOT NULL,
	credits bigint NOT NULL,
	given bigint NOT NULL,
	unused bigint,
	rolled bigint,
	rolled_grant_id bigint,
	transaction_id bigint,
	grant_ids bigint[] NOT NULL,
	CONSTRAINT periods_status CHECK (status IN ('granted', 'skipped', 'trial')),
	CONSTRAINT periods_not_negative CHECK (credits >= 0 AND given >= 0
		AND unused >= 0 AND rolled >= 0 AND ends_at > starts_at)
);

ALTER TABLE credits.periods ADD CONSTRAINT periods_pkey PRIMARY KEY (subscription_id, starts_at);

COMMENT ON TABLE credits.periods IS
	'what each period of each subscription gave, once; changed only by the credits_* functions';
COMMENT ON COLUMN credits.periods.plan_id IS
	'the version of a plan that was in force when it began';
COMMENT ON COLUMN credits.periods.status IS
	'granted; trial; or skipped, by a late renewal that gave the latest period alone';
COMMENT ON COLUMN credits.periods.credits IS 'credits that it gave when it began';
COMMENT ON COLUMN credits.periods.given IS
	'credits that it gave in all, less those that changes of plan took back';
COMMENT ON COLUMN credits.periods.unused IS
	'what was left of it when it ended, once that has been asked for';
COMMENT ON COLUMN credits.periods.rolled IS
	'what was rolled over from it; NULL if that has not been decided, or the plan rolls nothing over';
COMMENT ON COLUMN credits.periods.rolled_grant_id IS 'the grant that has what was rolled over';
COMMENT ON COLUMN credits.periods.transaction_id IS 'of the log, that gave its credits';
COMMENT ON COLUMN credits.periods.grant_ids IS
	'its grants: that which it began with, and those that changes of plan added';

SELECT pg_catalog.pg_extension_config_dump('credits.periods', '');
GRANT SELECT ON credits.periods TO credits_admin, credits_auditor;

CREATE TABLE credits.plan_changes (
	subscription_id bigint NOT NULL,
	at timestamptz NOT NULL,
	reference text COLLATE "C" NOT NULL,
	plan_id bigint NOT NULL,
	proration text NOT NULL,
	carried numeric,
	CONSTRAINT plan_changes_proration CHECK (proration IN ('prorate', 'full', 'none'))
);

ALTER TABLE credits.plan_changes ADD CONSTRAINT plan_changes_pkey
	PRIMARY KEY (subscription_id, at, reference);

COMMENT ON TABLE credits.plan_changes IS
	'which plan a subscription has had from when on; the first row is the one it began with';
COMMENT ON COLUMN credits.plan_changes.reference IS
	'tells changes of the same instant apart, and a change from its repetition';
COMMENT ON COLUMN credits.plan_changes.proration IS
	'how the change counts in the period that it came in';
COMMENT ON COLUMN credits.plan_changes.carried IS
	'credits that count as given in the period that begins with it: those that the period it ended gave beyond what it earned, and that could not be taken back';

SELECT pg_catalog.pg_extension_config_dump('credits.plan_changes', '');
GRANT SELECT ON credits.plan_changes TO credits_admin, credits_auditor;

-- the functions fire no statement trigger: what these meet comes past them
CREATE TRIGGER subscriptions_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.subscriptions
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER periods_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.periods
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER plan_changes_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.plan_changes
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.subscriptions ENABLE ALWAYS TRIGGER subscriptions_refuse_change;
ALTER TABLE credits.periods ENABLE ALWAYS TRIGGER periods_refuse_change;
ALTER TABLE credits.plan_changes ENABLE ALWAYS TRIGGER plan_changes_refuse_change;

CREATE VIEW credits.subscription_list AS
SELECT s.id AS subscription_id,
	   a.name AS account,
	   p.name AS plan,
	   p.version,
	   s.status,
	   s.collection,
	   s.external_id,
	   s.period_start,
	   s.period_end,
	   n.name AS next_plan,
	   s.cancel_at,
	   s.cancel_credits,
	   s.timezone,
	   s.anchor,
	   s.started_at,
	   s.ended_at
FROM credits.subscriptions AS s
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) s.account_id
JOIN credits.plans AS p ON p.id OPERATOR(pg_catalog.=) s.plan_id
LEFT JOIN credits.plans AS n ON n.id OPERATOR(pg_catalog.=) s.next_plan_id;
COMMENT ON VIEW credits.subscription_list IS 'subscriptions, with the names of accounts and plans';
GRANT SELECT ON credits.subscription_list TO credits_admin, credits_auditor;

CREATE TYPE credits.subscription_state AS (
	subscription_id bigint,
	account text,
	plan text,
	version integer,
	status text,
	period_start timestamptz,
	period_end timestamptz,
	cancel_at timestamptz,
	transaction_id bigint,
	balance bigint,
	replayed boolean
);
COMMENT ON TYPE credits.subscription_state IS
	'what the functions of subscriptions return: how it is now, and the transaction that made it so';

CREATE FUNCTION @extschema@.credits_subscribe(
	account text,
	plan text,
	starts_at timestamptz DEFAULT NULL,
	timezone text DEFAULT 'UTC',
	anchor timestamptz DEFAULT NULL,
	external_id text DEFAULT NULL,
	trial boolean DEFAULT true,
	collection text DEFAULT 'clock',
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_subscribe IS
	'subscribe an account to the newest version of a plan, once for each key and external id';
REVOKE ALL ON FUNCTION @extschema@.credits_subscribe FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_subscribe TO credits_admin;

CREATE FUNCTION @extschema@.credits_cancel_subscription(
	subscription bigint,
	at text DEFAULT 'period_end',
	credits text DEFAULT 'keep')
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_cancel_subscription IS
	'end a subscription when its period does, or now; its credits stay until they expire, or expire with it';
REVOKE ALL ON FUNCTION @extschema@.credits_cancel_subscription FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_cancel_subscription TO credits_admin;

CREATE FUNCTION @extschema@.credits_pause_subscription(subscription bigint)
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_pause_subscription IS
	'renew a subscription no more until it is resumed; what is given stays until it expires';
REVOKE ALL ON FUNCTION @extschema@.credits_pause_subscription FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_pause_subscription TO credits_admin;

CREATE FUNCTION @extschema@.credits_resume_subscription(subscription bigint)
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_resume_subscription IS
	'renew a paused subscription again, from the period that holds now; or let one go on that was to end';
REVOKE ALL ON FUNCTION @extschema@.credits_resume_subscription FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_resume_subscription TO credits_admin;

CREATE FUNCTION @extschema@.credits_subscription_unpaid(
	subscription bigint,
	status text DEFAULT 'past_due')
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_subscription_unpaid IS
	'note that a subscription is past_due or unpaid: it is renewed no more until it is paid';
REVOKE ALL ON FUNCTION @extschema@.credits_subscription_unpaid FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_subscription_unpaid TO credits_admin;

CREATE FUNCTION @extschema@.credits_subscription_paid(
	subscription bigint,
	period_start timestamptz DEFAULT NULL)
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_subscription_paid IS
	'note that a subscription is paid: renew it again or, if its periods are given when they are paid, give that period';
REVOKE ALL ON FUNCTION @extschema@.credits_subscription_paid FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_subscription_paid TO credits_admin;
