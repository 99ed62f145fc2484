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
CREATE INDEX subscriptions_plan_id_idx ON credits.subscriptions (plan_id, account_id)
	WHERE status <> 'canceled';
CREATE INDEX subscriptions_due_at_idx ON credits.subscriptions (due_at, id)
	WHERE due_at < 'infinity';
CREATE INDEX subscriptions_account_due_at_idx
	ON credits.subscriptions (account_id, due_at, id)
	WHERE due_at < 'infinity';

COMMENT ON TABLE credits.subscriptions IS
	'one row per subscription; changed only by the credits_* functions';
COMMENT ON COLUMN credits.subscriptions.plan_id IS 'the version of a plan that is in force';
COMMENT ON COLUMN credits.subscriptions.external_id IS
	'its id in another system, such as a payment provider';
COMMENT ON COLUMN credits.subscriptions.status IS
	'trialing, active, past_due, unpaid, paused or canceled';
COMMENT ON COLUMN credits.subscriptions.collection IS
	'clock: its periods are given when they begin; payment: when they are paid';
COMMENT ON COLUMN credits.subscriptions.anchor IS
	'the instant from which the beginning of every period is counted';
COMMENT ON COLUMN credits.subscriptions.first_number IS
	'number of the period that begins at the anchor';
COMMENT ON COLUMN credits.subscriptions.period_number IS
	'number of the newest period, counted from 0';
COMMENT ON COLUMN credits.subscriptions.next_plan_id IS
	'the version of a plan that will be in force from the next period on';
COMMENT ON COLUMN credits.subscriptions.cancel_at IS 'when it ends, or ended; NULL if it has no end';
COMMENT ON COLUMN credits.subscriptions.cancel_credits IS
	'what happens to its credits then: keep or expire';
COMMENT ON COLUMN credits.subscriptions.due_at IS
	'until this instant, the passing of time changes nothing about it';
COMMENT ON COLUMN credits.subscriptions.ended_at IS 'when it ended';

SELECT pg_catalog.pg_extension_config_dump('credits.subscriptions', '');
SELECT pg_catalog.pg_extension_config_dump('credits.subscriptions_id_seq', '');
GRANT SELECT ON credits.subscriptions, credits.subscriptions_id_seq
	TO credits_admin, credits_auditor;

-- The lock of the account makes the grant of a period happen once, whoever gives
-- it.  Of those whose credits follow what was paid, the end is the identity.
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
	again bigint,
	rolled bigint,
	rolled_grant_ids bigint[] NOT NULL,
	grace_grant_id bigint,
	grace_spent bigint,
	transaction_id bigint,
	grant_id bigint,
	withdrawn bigint,
	price numeric,
	currency text,
	claimed bigint,
	paid bigint,
	granted bigint,
	taken bigint,
	carried bigint,
	credited bigint,
	reversed bigint,
	late bigint,
	changed_at timestamptz,
	earned numeric,
	earning bigint,
	earning_since timestamptz,
	CONSTRAINT periods_status CHECK (status IN ('granted', 'skipped', 'trial')),
	CONSTRAINT periods_not_negative CHECK (credits >= 0 AND given >= 0
		AND unused >= 0 AND again >= 0 AND rolled >= 0
		AND grace_spent >= 0 AND ends_at > starts_at
		AND paid >= 0 AND granted >= 0 AND taken >= 0 AND carried >= 0
		AND credited >= 0 AND reversed >= 0 AND claimed >= 0
		AND withdrawn >= 0 AND late >= 0)
);

ALTER TABLE credits.periods ADD CONSTRAINT periods_pkey
	PRIMARY KEY (subscription_id, starts_at, ends_at);
CREATE UNIQUE INDEX periods_paid_key ON credits.periods (subscription_id, ends_at)
	WHERE granted IS NOT NULL;

COMMENT ON TABLE credits.periods IS
	'what each period of each subscription gave, once; changed only by the credits_* functions';
COMMENT ON COLUMN credits.periods.plan_id IS
	'the version of a plan that was in force when it began';
COMMENT ON COLUMN credits.periods.status IS
	'granted; trial; or skipped by a late renewal that gave only the latest period, or because what was paid for it was withdrawn';
COMMENT ON COLUMN credits.periods.credits IS 'credits that it gave when it began';
COMMENT ON COLUMN credits.periods.given IS
	'credits that it gave in all, less those that changes of plan took back';
COMMENT ON COLUMN credits.periods.unused IS
	'credits that were left when it ended; NULL if that has not been needed yet';
COMMENT ON COLUMN credits.periods.again IS
	'credits that had been rolled over into it and were left when it ended; NULL if that has not been needed';
COMMENT ON COLUMN credits.periods.rolled IS
	'credits that were rolled over from it; NULL if that is not decided yet, or the plan rolls nothing over';
COMMENT ON COLUMN credits.periods.rolled_grant_ids IS
	'the grants of the credits that were rolled over: one, and others if a period before it was paid later';
COMMENT ON COLUMN credits.periods.grace_grant_id IS
	'the grant in which what it had left lives on until the next period is paid; NULL if none';
COMMENT ON COLUMN credits.periods.grace_spent IS
	'credits of that grant that were spent, and have been counted against what was rolled over and the next period; NULL if none';
COMMENT ON COLUMN credits.periods.transaction_id IS 'the transaction in the log that gave its credits';
COMMENT ON COLUMN credits.periods.grant_id IS
	'the grant that it began with; those that changes of plan or further invoices added have it as their group_id, too';
COMMENT ON COLUMN credits.periods.withdrawn IS
	'credits of its grants that changes of plan took back; NULL if nothing was';
COMMENT ON COLUMN credits.periods.price IS
	'what its grants were sold for, the sum of their prices; NULL if none has one';
COMMENT ON COLUMN credits.periods.currency IS
	'of the price; NULL if one of its grants has none, or another one';
COMMENT ON COLUMN credits.periods.claimed IS
	'credits claimed from its grants: those whose money was paid back and, with these, those that changes of plan took back, or those taken; NULL if none are';
COMMENT ON COLUMN credits.periods.paid IS
	'credits that were paid for it, the sum over the positive rows of credits.paid_parts; NULL if its credits do not follow these';
COMMENT ON COLUMN credits.periods.granted IS
	'credits that were ever given for it; less than paid if limits of the account forbade some';
COMMENT ON COLUMN credits.periods.taken IS
	'credits of it that were taken back because less was due; those whose money was paid back are not among them';
COMMENT ON COLUMN credits.periods.carried IS
	'credits that were to be taken back but were spent: they are taken from the next period';
COMMENT ON COLUMN credits.periods.credited IS
	'credits of which less is due: what the negative rows of credits.paid_parts take, as far as it is not reversed';
COMMENT ON COLUMN credits.periods.reversed IS
	'credits whose money was paid back, the sum over the positive rows of credits.paid_parts';
COMMENT ON COLUMN credits.periods.late IS
	'credits of those of its grants that expire at another instant than its end, because they were paid after it';
COMMENT ON COLUMN credits.periods.changed_at IS
	'the last of the changes of plan within it that are counted in earned; NULL if none is';
COMMENT ON COLUMN credits.periods.earned IS
	'credits times seconds that it had earned by earning_since, without what was carried to it';
COMMENT ON COLUMN credits.periods.earning IS
	'credits of a whole period that it earns from then on';
COMMENT ON COLUMN credits.periods.earning_since IS
	'the last of these changes that was not without proration, or its beginning';

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
	'which plan a subscription has had since when; the first row is the one it began with';
COMMENT ON COLUMN credits.plan_changes.reference IS
	'distinguishes changes of the same instant, and a change from its repetition';
COMMENT ON COLUMN credits.plan_changes.proration IS
	'how the change counts in the period in which it took effect';
COMMENT ON COLUMN credits.plan_changes.carried IS
	'credits that count as given in the period that begins with it: those that the ended period gave beyond what it had earned, and that could not be taken back';

SELECT pg_catalog.pg_extension_config_dump('credits.plan_changes', '');
GRANT SELECT ON credits.plan_changes TO credits_admin, credits_auditor;

-- the functions fire no statement trigger: what these meet comes past them
CREATE TRIGGER subscriptions_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.subscriptions
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
CREATE TRIGGER periods_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.periods
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER plan_changes_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.plan_changes
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.subscriptions ENABLE ALWAYS TRIGGER subscriptions_refuse_change;
ALTER TABLE credits.periods ENABLE ALWAYS TRIGGER periods_refuse_change;
ALTER TABLE credits.plan_changes ENABLE ALWAYS TRIGGER plan_changes_refuse_change;

-- A subscription whose end has come has ended, and a trial that is over is none,
-- whether or not credits_renew has run since.
CREATE VIEW credits.subscription_list AS
SELECT s.id AS subscription_id,
	   a.name AS account,
	   p.name AS plan,
	   p.version,
	   CASE WHEN c.over THEN 'canceled'
			WHEN s.status OPERATOR(pg_catalog.=) 'trialing'
				AND s.period_number OPERATOR(pg_catalog.>=) 0
				AND s.period_end OPERATOR(pg_catalog.<=) credits.now()
			THEN CASE s.collection WHEN 'payment' THEN 'unpaid' ELSE 'active' END
			ELSE s.status END AS status,
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
	   CASE WHEN c.over THEN s.cancel_at ELSE s.ended_at END AS ended_at
FROM credits.subscriptions AS s
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) s.account_id
JOIN credits.plans AS p ON p.id OPERATOR(pg_catalog.=) s.plan_id
LEFT JOIN credits.plans AS n ON n.id OPERATOR(pg_catalog.=) s.next_plan_id
CROSS JOIN LATERAL (
	SELECT s.status OPERATOR(pg_catalog.<>) 'canceled'
	   AND COALESCE(s.cancel_at OPERATOR(pg_catalog.<=) credits.now(), false) AS over
) AS c;
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
	'what the functions of subscriptions return: the state of the subscription, and the transaction that changed it';

CREATE FUNCTION @extschema@.credits_subscribe(
	account text,
	plan text,
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	starts_at timestamptz DEFAULT NULL,
	timezone text DEFAULT 'UTC',
	anchor timestamptz DEFAULT NULL,
	trial boolean DEFAULT true,
	collection text DEFAULT 'clock',
	external_id text DEFAULT NULL)
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_subscribe IS
	'subscribe an account to the newest version of a plan, once for each key and external id';
REVOKE ALL ON FUNCTION @extschema@.credits_subscribe FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_subscribe TO credits_admin;

CREATE FUNCTION @extschema@.credits_cancel_subscription(
	subscription_id bigint,
	at text DEFAULT 'period_end',
	credits text DEFAULT 'keep')
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_cancel_subscription IS
	'end a subscription at the end of its period, or now; its credits stay until they expire, or expire with it';
REVOKE ALL ON FUNCTION @extschema@.credits_cancel_subscription FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_cancel_subscription TO credits_admin;

CREATE FUNCTION @extschema@.credits_pause_subscription(subscription_id bigint)
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_pause_subscription IS
	'pause a subscription: it is not renewed until it is resumed; credits that it has given stay until they expire';
REVOKE ALL ON FUNCTION @extschema@.credits_pause_subscription FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_pause_subscription TO credits_admin;

CREATE FUNCTION @extschema@.credits_resume_subscription(subscription_id bigint)
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_resume_subscription IS
	'resume a paused subscription, from the current period on, or continue one that was to end';
REVOKE ALL ON FUNCTION @extschema@.credits_resume_subscription FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_resume_subscription TO credits_admin;

CREATE FUNCTION @extschema@.credits_mark_unpaid(
	subscription_id bigint,
	status text DEFAULT 'past_due')
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_mark_unpaid IS
	'record that a subscription is past_due or unpaid: it is not renewed until it is paid';
REVOKE ALL ON FUNCTION @extschema@.credits_mark_unpaid FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_mark_unpaid TO credits_admin;

CREATE FUNCTION @extschema@.credits_mark_paid(
	subscription_id bigint,
	period_start timestamptz DEFAULT NULL)
RETURNS credits.subscription_state
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_mark_paid IS
	'record that a subscription is paid: renew it again or, if its periods are given when they are paid, give that period';
REVOKE ALL ON FUNCTION @extschema@.credits_mark_paid FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_mark_paid TO credits_admin;

CREATE FUNCTION @extschema@.credits_subscriptions(
	account text,
	max_rows integer DEFAULT 50,
	before_id bigint DEFAULT NULL)
RETURNS TABLE (
	subscription_id bigint,
	plan text,
	version integer,
	status text,
	credits bigint,
	period text,
	every integer,
	price numeric,
	currency text,
	period_start timestamptz,
	period_end timestamptz,
	renews_at timestamptz,
	given bigint,
	remaining bigint,
	rolled_over bigint,
	rolled_over_remaining bigint,
	next_plan text,
	cancel_at timestamptz,
	cancel_credits text,
	collection text,
	timezone text,
	external_id text,
	features jsonb,
	metadata jsonb,
	started_at timestamptz,
	ended_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH a AS MATERIALIZED (
		SELECT credits.account_id($1) AS id, credits.max_rows($2) AS max_rows
	),
	page AS MATERIALIZED (
		SELECT s.*
		FROM credits.subscriptions AS s
		WHERE s.account_id = (SELECT a.id FROM a)
		  AND s.id < COALESCE($3, 9223372036854775807)
		ORDER BY s.id DESC
		LIMIT (SELECT a.max_rows FROM a)
	),
	g AS MATERIALIZED (
		SELECT g.grant_id, g.remaining, c.group_id
		FROM credits.settled_grants((SELECT a.id FROM a)) AS g
		-- what a renewal would give has no row yet
		LEFT JOIN credits.grants AS c ON c.id = g.grant_id
		WHERE g.source IN ('subscription', 'trial')
	)
	SELECT s.id, l.plan, l.version, l.status, p.credits, p.period, p.every, p.price, p.currency,
		   r.starts_at, r.ends_at,
		   CASE WHEN l.status IN ('trialing', 'active')
				 AND (s.cancel_at IS NULL OR s.cancel_at > s.period_end) THEN s.period_end END,
		   r.given,
		   COALESCE((SELECT sum(g.remaining) FROM g
					 WHERE g.grant_id = r.grace_grant_id
						OR g.group_id = r.grant_id), 0)::bigint,
		   COALESCE((SELECT sum(q.rolled) FROM credits.periods AS q
					 WHERE q.subscription_id = s.id AND q.ends_at = r.starts_at), 0)::bigint,
		   COALESCE((SELECT sum(g.remaining)
					 FROM credits.periods AS q JOIN g ON g.grant_id = ANY (q.rolled_grant_ids)
					 WHERE q.subscription_id = s.id), 0)::bigint,
		   l.next_plan, l.cancel_at, l.cancel_credits, l.collection, l.timezone, l.external_id,
		   p.features, s.metadata, l.started_at, l.ended_at
	FROM page AS s
	JOIN credits.subscription_list AS l ON l.subscription_id = s.id
	JOIN credits.plans AS p ON p.id = s.plan_id
	LEFT JOIN LATERAL (
		SELECT r.*
		FROM credits.periods AS r
		WHERE r.subscription_id = s.id AND r.starts_at = s.period_start AND s.period_number >= 0
		ORDER BY r.ends_at DESC
		LIMIT 1
	) AS r ON true
	ORDER BY s.id DESC
$$;
COMMENT ON FUNCTION @extschema@.credits_subscriptions IS
	'subscriptions of an account: the plan, until when, when it is renewed, and what is left of its period and of what was rolled over, newest first; page on with before_id';
REVOKE ALL ON FUNCTION @extschema@.credits_subscriptions FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_subscriptions TO credits_app, credits_auditor;
