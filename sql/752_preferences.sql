-- preferences: of which events people are told, by which channels, and when

CREATE TABLE credits.preferences (
	account_id bigint NOT NULL,
	kind text COLLATE "C" NOT NULL,
	channel text COLLATE "C" NOT NULL,
	enabled boolean NOT NULL,
	changed_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT preferences_channel
		CHECK (channel IN ('*', 'email', 'sms', 'push', 'webhook', 'inbox'))
);
ALTER TABLE credits.preferences ADD CONSTRAINT preferences_pkey
	PRIMARY KEY (account_id, kind, channel);

COMMENT ON TABLE credits.preferences IS
	'whether people want to be told of kinds of events, by channels; the most specific row counts';
COMMENT ON COLUMN credits.preferences.kind IS '* means all kinds';
COMMENT ON COLUMN credits.preferences.channel IS '* means all channels';
COMMENT ON COLUMN credits.preferences.role IS 'session_user that changed it last';

CREATE TABLE credits.quiet_hours (
	account_id bigint NOT NULL,
	quiet_from time NOT NULL,
	quiet_until time NOT NULL,
	timezone text NOT NULL,
	changed_at timestamptz NOT NULL,
	role text NOT NULL
);
ALTER TABLE credits.quiet_hours ADD CONSTRAINT quiet_hours_pkey PRIMARY KEY (account_id);

COMMENT ON TABLE credits.quiet_hours IS
	'hours of the day in which people are told of critical events only';
COMMENT ON COLUMN credits.quiet_hours.quiet_until IS
	'may be earlier than quiet_from: then they last over midnight';
COMMENT ON COLUMN credits.quiet_hours.role IS 'session_user that changed them last';

-- Links in messages must be valid after a restore, so the secrets are dumped.  The
-- first one is made when it is needed, and not here, so that a database that is
-- restored has those of the dump and no other.
CREATE TABLE credits.unsubscribe_secrets (
	id bigint NOT NULL,
	secret bytea NOT NULL,
	created_at timestamptz NOT NULL
);
ALTER TABLE credits.unsubscribe_secrets ADD CONSTRAINT unsubscribe_secrets_pkey PRIMARY KEY (id);
REVOKE ALL ON credits.unsubscribe_secrets FROM PUBLIC, credits_admin, credits_app, credits_auditor;

COMMENT ON TABLE credits.unsubscribe_secrets IS
	'secrets that unsubscribe tokens are signed with, the newest for new ones; only the owner reads them';

SELECT pg_catalog.pg_extension_config_dump('credits.preferences', '');
SELECT pg_catalog.pg_extension_config_dump('credits.quiet_hours', '');
SELECT pg_catalog.pg_extension_config_dump('credits.unsubscribe_secrets', '');
GRANT SELECT ON credits.preferences, credits.quiet_hours
	TO credits_admin, credits_auditor;

CREATE FUNCTION credits.is_told(account_id bigint, kind text, channel text)
RETURNS boolean
AS 'MODULE_PATHNAME', 'credits_is_told' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION credits.is_told IS
	'is an account told of a kind of events by a channel, if it has a contact there?';
REVOKE ALL ON FUNCTION credits.is_told FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.is_told TO credits_admin, credits_auditor;

CREATE FUNCTION credits.not_before(account_id bigint, kind text, at timestamptz)
RETURNS timestamptz
AS 'MODULE_PATHNAME', 'credits_not_before' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION credits.not_before IS
	'the first instant from the given one on at which an account may be told of a kind of events: the end of its quiet hours, or the instant itself';
REVOKE ALL ON FUNCTION credits.not_before FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.not_before TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_preference(
	account text,
	kind text DEFAULT NULL,
	channel text DEFAULT NULL,
	enabled boolean DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_preference IS
	'set whether an account is told of a kind of events, or of all, by a channel, or by all; returns whether that was a change';
REVOKE ALL ON FUNCTION @extschema@.credits_set_preference FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_preference TO credits_app;

CREATE FUNCTION @extschema@.credits_preferences(account text)
RETURNS TABLE (
	kind text,
	channel text,
	told boolean,
	required boolean,
	preference boolean)
LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 200
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT k.kind, c.channel, t.told, k.required,
		   (SELECT p.enabled FROM credits.preferences AS p
			WHERE p.account_id = a.id
			  AND (p.kind = k.kind OR p.kind = '*' AND k.told)
			  AND p.channel IN (c.channel, '*')
			ORDER BY p.kind = '*', p.channel = '*' LIMIT 1)
	FROM (SELECT credits.account_id($1)) AS a (id)
	CROSS JOIN credits.event_kinds AS k
	CROSS JOIN unnest(ARRAY['email', 'sms', 'push', 'webhook', 'inbox'])
		WITH ORDINALITY AS c (channel, n)
	CROSS JOIN LATERAL credits.is_told(a.id, k.kind, c.channel) AS t (told)
	WHERE k.told OR t.told
	ORDER BY k.kind COLLATE "C", c.n
$$;
COMMENT ON FUNCTION @extschema@.credits_preferences IS
	'of which kinds of events an account is told, by which channels, and what it has set itself';
REVOKE ALL ON FUNCTION @extschema@.credits_preferences FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_preferences TO credits_app, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_quiet_hours(
	account text,
	quiet_from time DEFAULT NULL,
	quiet_until time DEFAULT NULL,
	timezone text DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_quiet_hours IS
	'set hours of the day in which an account is told of critical events only, or none; returns whether that was a change';
REVOKE ALL ON FUNCTION @extschema@.credits_set_quiet_hours FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_quiet_hours TO credits_app;

CREATE FUNCTION @extschema@.credits_quiet_hours(account text)
RETURNS TABLE (
	quiet_from time,
	quiet_until time,
	timezone text,
	ends_at timestamptz)
LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 1
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH a AS MATERIALIZED (
		SELECT credits.account_id($1) AS id, credits.now() AS now
	)
	SELECT q.quiet_from, q.quiet_until, q.timezone,
		   NULLIF(credits.not_before(a.id, 'low_balance', a.now), a.now)
	FROM a JOIN credits.quiet_hours AS q ON q.account_id = a.id
$$;
COMMENT ON FUNCTION @extschema@.credits_quiet_hours IS
	'the quiet hours of an account, and when they end if it is in them; no row if it has none';
REVOKE ALL ON FUNCTION @extschema@.credits_quiet_hours FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_quiet_hours TO credits_app, credits_auditor;

CREATE FUNCTION @extschema@.credits_unsubscribe_token(account text, kind text)
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_unsubscribe_token IS
	'a signed token with which whoever has it can end mail about a kind of events; NULL for a kind that cannot be switched off';
REVOKE ALL ON FUNCTION @extschema@.credits_unsubscribe_token FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_unsubscribe_token TO credits_app;

CREATE FUNCTION @extschema@.credits_unsubscribe(token text)
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_unsubscribe IS
	'end mail about the kind of events that a token is for, and return the kind; PT404 if the token is not valid';
REVOKE ALL ON FUNCTION @extschema@.credits_unsubscribe FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_unsubscribe TO credits_app;

CREATE FUNCTION @extschema@.credits_rotate_unsubscribe_secret(revoke boolean DEFAULT false)
RETURNS integer
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_rotate_unsubscribe_secret IS
	'make a new secret for unsubscribe tokens; earlier tokens stay valid unless they are revoked; returns how many secrets there are';
REVOKE ALL ON FUNCTION @extschema@.credits_rotate_unsubscribe_secret FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_rotate_unsubscribe_secret TO credits_admin;
