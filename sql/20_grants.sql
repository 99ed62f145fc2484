-- grants: the parcels of credits that accounts hold

CREATE SEQUENCE credits.grants_id_seq;

-- A spend changes remaining alone, which no index names.  status changes
-- once or twice in a grant's life, so the index in burn order may follow it:
-- a used-up grant then costs nothing.
CREATE TABLE credits.grants (
	id bigint NOT NULL,
	account_id bigint NOT NULL,
	transaction_id bigint NOT NULL,
	effective_at timestamptz NOT NULL,
	expires_at timestamptz,
	granted_until timestamptz,
	amount bigint NOT NULL,
	priority integer NOT NULL,
	source text NOT NULL,
	price numeric,
	currency text,
	status text NOT NULL,
	remaining bigint NOT NULL,
	CONSTRAINT grants_not_negative CHECK (remaining >= 0 AND remaining <= amount)
) WITH (fillfactor = 60);

ALTER SEQUENCE credits.grants_id_seq OWNED BY credits.grants.id;
ALTER TABLE credits.grants ADD CONSTRAINT grants_pkey PRIMARY KEY (id);
CREATE INDEX grants_account_id_idx ON credits.grants (account_id, id);
CREATE INDEX grants_burn_order_idx ON credits.grants
	(account_id, priority, expires_at, effective_at, id)
	WHERE status IN ('open', 'pending');

COMMENT ON TABLE credits.grants IS
	'one row per grant; burnt by priority (lower first), then earliest expiry (never last), then earliest effective, then id';
COMMENT ON COLUMN credits.grants.transaction_id IS 'the transaction that gave it';
COMMENT ON COLUMN credits.grants.expires_at IS
	'credits cannot be spent from this instant on; NULL means never';
COMMENT ON COLUMN credits.grants.granted_until IS
	'the expiry it was given with, where a refund''s grace has moved expires_at';
COMMENT ON COLUMN credits.grants.status IS
	'pending (not yet effective), open, used (up), expired or voided';
COMMENT ON COLUMN credits.grants.price IS 'total paid for it, in currency (ISO 4217)';

SELECT pg_catalog.pg_extension_config_dump('credits.grants', '');
SELECT pg_catalog.pg_extension_config_dump('credits.grants_id_seq', '');
GRANT SELECT ON credits.grants, credits.grants_id_seq
	TO credits_admin, credits_auditor;
