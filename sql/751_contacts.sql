-- contacts: where people are told of events

CREATE SEQUENCE credits.contacts_id_seq;

-- Addresses are nowhere else: not in the log, in events or notifications.
CREATE TABLE credits.contacts (
	id bigint NOT NULL,
	account_id bigint NOT NULL,
	channel text COLLATE "C" NOT NULL,
	address text COLLATE "C",
	verified boolean NOT NULL,
	locale text COLLATE "C",
	created_at timestamptz NOT NULL,
	changed_at timestamptz NOT NULL,
	disabled_at timestamptz,
	role text NOT NULL,
	CONSTRAINT contacts_channel
		CHECK (channel IN ('email', 'sms', 'push', 'webhook', 'inbox')),
	CONSTRAINT contacts_inbox CHECK ((address IS NULL) = (channel = 'inbox'))
);

ALTER SEQUENCE credits.contacts_id_seq OWNED BY credits.contacts.id;
ALTER TABLE credits.contacts ADD CONSTRAINT contacts_pkey PRIMARY KEY (id);
-- one address, but several devices and endpoints
CREATE UNIQUE INDEX contacts_address_idx ON credits.contacts
	(account_id, channel,
	 (CASE WHEN channel IN ('push', 'webhook') THEN address ELSE '' END));

COMMENT ON TABLE credits.contacts IS
	'addresses at which people are told of events of their account';
COMMENT ON COLUMN credits.contacts.channel IS 'email, sms, push, webhook or inbox';
COMMENT ON COLUMN credits.contacts.address IS 'NULL for the inbox, which is in the application';
COMMENT ON COLUMN credits.contacts.verified IS
	'has it been shown that the address belongs to who has the account?';
COMMENT ON COLUMN credits.contacts.locale IS
	'language of the messages, such as de-AT; NULL means the setting credits.default_locale';
COMMENT ON COLUMN credits.contacts.disabled_at IS
	'when the receiving side said that it is gone; NULL if it has not, or the contact was set again since';
COMMENT ON COLUMN credits.contacts.role IS 'session_user that changed it last';

SELECT pg_catalog.pg_extension_config_dump('credits.contacts', '');
SELECT pg_catalog.pg_extension_config_dump('credits.contacts_id_seq', '');
GRANT SELECT ON credits.contacts, credits.contacts_id_seq
	TO credits_admin, credits_auditor;

CREATE FUNCTION credits.is_reachable(channel text, verified boolean)
RETURNS boolean
AS 'MODULE_PATHNAME', 'credits_is_reachable' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION credits.is_reachable IS
	'do messages go to such a contact? It is verified, or its channel is in credits.unverified_channels';
REVOKE ALL ON FUNCTION credits.is_reachable FROM PUBLIC;
GRANT EXECUTE ON FUNCTION credits.is_reachable TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_contact(
	account text,
	channel text,
	address text DEFAULT NULL,
	verified boolean DEFAULT NULL,
	locale text DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_contact IS
	'set where an account is told of events, by one channel; what is left out stays; returns the id of the contact';
REVOKE ALL ON FUNCTION @extschema@.credits_set_contact FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_contact TO credits_app;

CREATE FUNCTION @extschema@.credits_remove_contact(
	account text,
	channel text,
	address text DEFAULT NULL)
RETURNS integer
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_remove_contact IS
	'remove a contact of an account, or all of a channel, for good; returns how many there were';
REVOKE ALL ON FUNCTION @extschema@.credits_remove_contact FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_remove_contact TO credits_app;
