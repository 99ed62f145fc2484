-- deliveries: what people are to be told, and whether it was sent

CREATE SEQUENCE credits.deliveries_id_seq;

CREATE TABLE credits.deliveries (
	id bigint NOT NULL,
	event_id bigint NOT NULL,
	account_id bigint NOT NULL,
	contact_id bigint NOT NULL,
	template_id bigint,
	event_at timestamptz NOT NULL,
	waiting_since timestamptz NOT NULL,
	due_at timestamptz NOT NULL,
	ended_at timestamptz,
	lease bigint,
	attempts integer NOT NULL,
	channel text COLLATE "C" NOT NULL,
	status text COLLATE "C" NOT NULL,
	kind text COLLATE "C" NOT NULL,
	message_id text COLLATE "C" NOT NULL,
	level text COLLATE "C",
	error text,
	CONSTRAINT deliveries_attempts CHECK (attempts >= 0),
	CONSTRAINT deliveries_channel
		CHECK (channel IN ('email', 'sms', 'push', 'webhook', 'inbox')),
	CONSTRAINT deliveries_ended CHECK ((ended_at IS NULL) = (status = 'waiting')),
	CONSTRAINT deliveries_lease CHECK (lease IS NULL OR status IN ('waiting', 'sent')),
	CONSTRAINT deliveries_status
		CHECK (status IN ('waiting', 'sent', 'dead', 'canceled', 'expired'))
) WITH (fillfactor = 70);

ALTER SEQUENCE credits.deliveries_id_seq OWNED BY credits.deliveries.id;
ALTER TABLE credits.deliveries ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);
-- once, whoever reads an event how often
CREATE UNIQUE INDEX deliveries_event_id_idx ON credits.deliveries (event_id, contact_id);
-- what has ended is not in it
CREATE INDEX deliveries_due_at_idx ON credits.deliveries (channel, due_at, id)
	WHERE status = 'waiting';
-- for credits.alert_cooldown
CREATE INDEX deliveries_level_idx ON credits.deliveries (account_id, kind, level, event_at)
	WHERE level IS NOT NULL;

COMMENT ON TABLE credits.deliveries IS
	'one row for each event and each contact that is to be told of it';
COMMENT ON COLUMN credits.deliveries.template_id IS
	'version of the template that every attempt is made with; 0 is the default of the kind, NULL that it was not taken yet, or needs none';
COMMENT ON COLUMN credits.deliveries.event_at IS 'when the event was written';
COMMENT ON COLUMN credits.deliveries.waiting_since IS
	'when the event was written, or when it was replayed: see credits.delivery_max_age';
COMMENT ON COLUMN credits.deliveries.due_at IS
	'when it may be taken; while it is leased, when the lease ends';
COMMENT ON COLUMN credits.deliveries.ended_at IS 'NULL as long as it is waiting';
COMMENT ON COLUMN credits.deliveries.lease IS 'of the worker that has taken it last; NULL if none holds it';
COMMENT ON COLUMN credits.deliveries.attempts IS 'how often it was taken';
COMMENT ON COLUMN credits.deliveries.status IS
	'waiting, sent, dead (given up), canceled (nobody wants it any more) or expired (it has waited too long)';
COMMENT ON COLUMN credits.deliveries.message_id IS 'the same for every attempt, also after a restore';
COMMENT ON COLUMN credits.deliveries.level IS
	'level of an alert, which is told once per credits.alert_cooldown; NULL for other events';
COMMENT ON COLUMN credits.deliveries.error IS
	'why it failed last, was put off because its contact was not verified or a webhook has no secret, or was canceled or given up';

SELECT pg_catalog.pg_extension_config_dump('credits.deliveries', '');
SELECT pg_catalog.pg_extension_config_dump('credits.deliveries_id_seq', '');
GRANT SELECT ON credits.deliveries, credits.deliveries_id_seq
	TO credits_admin, credits_auditor;

CREATE VIEW credits.delivery_list AS
SELECT d.id AS delivery_id,
	   d.message_id,
	   a.name AS account,
	   d.channel,
	   d.kind,
	   d.event_id,
	   d.event_at,
	   d.status,
	   d.attempts,
	   d.template_id,
	   d.lease IS NOT NULL AND d.status OPERATOR(pg_catalog.=) 'waiting' AS leased,
	   CASE WHEN d.status OPERATOR(pg_catalog.=) 'waiting' THEN d.due_at END AS due_at,
	   d.ended_at,
	   d.error
FROM credits.deliveries AS d
LEFT JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) d.account_id;
COMMENT ON VIEW credits.delivery_list IS
	'messages to people: which are waiting, and what became of the others';
COMMENT ON COLUMN credits.delivery_list.due_at IS
	'when it may be taken, or its lease ends; NULL if it has ended';
GRANT SELECT ON credits.delivery_list TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_take_deliveries(
	channel text,
	max_rows integer DEFAULT 10,
	lease interval DEFAULT '1 minute')
RETURNS TABLE (
	delivery_id bigint,
	lease_id bigint,
	message_id text,
	attempt integer,
	account text,
	address text,
	locale text,
	event_id bigint,
	kind text,
	created_at timestamptz,
	detail jsonb,
	template_id bigint,
	subject text,
	body text,
	html text,
	unsubscribe_token text,
	headers jsonb)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_take_deliveries IS
	'take messages of a channel that are due, rendered, so that nobody else takes them until the lease ends; makes them from the newest events first';
REVOKE ALL ON FUNCTION @extschema@.credits_take_deliveries FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_take_deliveries TO credits_admin;

CREATE FUNCTION @extschema@.credits_delivery_sent(delivery_id bigint, lease_id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_delivery_sent IS
	'record that a message was sent; false if somebody else has taken it since, or ended it';
REVOKE ALL ON FUNCTION @extschema@.credits_delivery_sent FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_delivery_sent TO credits_admin;

CREATE FUNCTION @extschema@.credits_delivery_failed(
	delivery_id bigint,
	lease_id bigint,
	error text,
	permanent boolean DEFAULT false,
	status integer DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_delivery_failed IS
	'record that a message could not be sent: it is due again later, or is given up after credits.delivery_attempts or if that is permanent; with the status 410 of a webhook or push message, its contact is disabled; false if somebody else has taken it since, or ended it';
REVOKE ALL ON FUNCTION @extschema@.credits_delivery_failed FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_delivery_failed TO credits_admin;

CREATE FUNCTION @extschema@.credits_replay_delivery(delivery_id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_replay_delivery IS
	'have a message sent that has ended, whether given up, canceled, expired or sent, with the same message id; false if it is waiting';
REVOKE ALL ON FUNCTION @extschema@.credits_replay_delivery FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_replay_delivery TO credits_admin;
