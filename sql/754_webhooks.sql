-- webhooks: secrets that they are signed with

-- Endpoints know their secrets, which must be valid after a restore, so they are
-- dumped.  No constraint but the key, since its violation would quote the row.
CREATE TABLE credits.webhook_secrets (
	id bigint NOT NULL,
	contact_id bigint NOT NULL,
	secret bytea NOT NULL,
	created_at timestamptz NOT NULL,
	expires_at timestamptz
);
ALTER TABLE credits.webhook_secrets ADD CONSTRAINT webhook_secrets_pkey
	PRIMARY KEY (contact_id, id);
REVOKE ALL ON credits.webhook_secrets FROM PUBLIC, credits_admin, credits_app, credits_auditor;

COMMENT ON TABLE credits.webhook_secrets IS
	'secrets that webhooks are signed with, up to two of an endpoint; only the owner reads them';
COMMENT ON COLUMN credits.webhook_secrets.expires_at IS
	'until when it signs beside the one that has replaced it; NULL for the newest';

SELECT pg_catalog.pg_extension_config_dump('credits.webhook_secrets', '');

CREATE FUNCTION @extschema@.credits_rotate_webhook_secret(
	account text,
	address text,
	keep interval DEFAULT '1 day')
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_rotate_webhook_secret IS
	'make a new secret for a webhook, and return it, once; the one before it signs, too, for as long as it is kept';
REVOKE ALL ON FUNCTION @extschema@.credits_rotate_webhook_secret FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_rotate_webhook_secret TO credits_app;

CREATE FUNCTION @extschema@.credits_revoke_webhook_secret(account text, address text)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_revoke_webhook_secret IS
	'end the secret of a webhook that was replaced, before its time; false if there is none';
REVOKE ALL ON FUNCTION @extschema@.credits_revoke_webhook_secret FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_revoke_webhook_secret TO credits_app;

CREATE FUNCTION @extschema@.credits_contacts(account text)
RETURNS TABLE (
	contact_id bigint,
	channel text,
	address text,
	verified boolean,
	reachable boolean,
	locale text,
	created_at timestamptz,
	changed_at timestamptz,
	disabled_at timestamptz,
	secrets integer)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 5
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT c.id, c.channel, c.address, c.verified,
		   credits.is_reachable(c.channel, c.verified) AND c.disabled_at IS NULL
		   AND s.secrets IS DISTINCT FROM 0,
		   c.locale, c.created_at, c.changed_at, c.disabled_at, s.secrets
	FROM credits.contacts AS c
	CROSS JOIN LATERAL (
		SELECT CASE WHEN c.channel = 'webhook' THEN count(*)::integer END AS secrets
		FROM credits.webhook_secrets AS w
		WHERE w.contact_id = c.id
		AND (w.expires_at IS NULL OR w.expires_at > credits.now())) AS s
	WHERE c.account_id = credits.account_id($1)
	ORDER BY c.channel, c.id
$$;
COMMENT ON FUNCTION @extschema@.credits_contacts IS
	'where an account is told of events, and whether messages go there';
REVOKE ALL ON FUNCTION @extschema@.credits_contacts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_contacts TO credits_app, credits_auditor;
