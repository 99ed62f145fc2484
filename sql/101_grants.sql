-- grants: the credits that accounts have been given

CREATE SEQUENCE credits.grants_id_seq;

-- A spend changes only remaining, which is in no index.  status changes only once
-- or twice in the life of a grant, so the index in burn order may depend on it:
-- used-up grants are not in that index, and cost nothing.
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
	lost bigint,
	group_id bigint,
	all_claimed boolean,
	lost_claimed boolean,
	group_owed bigint,
	CONSTRAINT grants_not_negative
		CHECK (remaining >= 0 AND remaining <= amount AND lost >= 0)
) WITH (fillfactor = 60);

ALTER SEQUENCE credits.grants_id_seq OWNED BY credits.grants.id;
ALTER TABLE credits.grants ADD CONSTRAINT grants_pkey PRIMARY KEY (id);
CREATE INDEX grants_account_id_idx ON credits.grants (account_id, id);
CREATE INDEX grants_burn_order_idx ON credits.grants
	(account_id, priority, expires_at, effective_at, id)
	WHERE status IN ('open', 'pending');
-- what becomes effective, in order: few grants are ever in it
CREATE INDEX grants_effective_at_idx ON credits.grants
	(account_id, effective_at, priority, expires_at, id)
	WHERE status = 'pending';
CREATE INDEX grants_group_id_idx ON credits.grants (group_id, id)
	WHERE group_id IS NOT NULL;
-- what a change within a period of a subscription looks for among its grants, of
-- which there may be many
CREATE INDEX grants_group_unclaimed_idx ON credits.grants (group_id, expires_at, id)
	WHERE group_id IS NOT NULL AND all_claimed IS NULL;
CREATE INDEX grants_group_left_idx ON credits.grants (group_id, expires_at, id)
	WHERE group_id IS NOT NULL AND status IN ('open', 'pending');
CREATE INDEX grants_group_lost_idx ON credits.grants (group_id, expires_at, id)
	WHERE group_id IS NOT NULL AND lost > 0 AND lost_claimed IS NULL;

COMMENT ON TABLE credits.grants IS
	'one row per grant; they burn by priority (lower first), then earliest expiry (never-expiring last), then earliest effective, then id';
COMMENT ON COLUMN credits.grants.transaction_id IS 'the transaction that gave it';
COMMENT ON COLUMN credits.grants.expires_at IS
	'credits cannot be spent from this instant on; NULL means never';
COMMENT ON COLUMN credits.grants.granted_until IS
	'the original expiry, if a refund''s grace has moved expires_at';
COMMENT ON COLUMN credits.grants.status IS
	'pending (not yet effective), open, used (up), expired or voided';
COMMENT ON COLUMN credits.grants.lost IS
	'how much of it expired, was voided or was taken by a change of plan in all, so that nobody had any use of it; NULL if nothing was';
COMMENT ON COLUMN credits.grants.group_id IS
	'of the grants of a period of a subscription, the one that it began with; NULL for others';
COMMENT ON COLUMN credits.grants.all_claimed IS
	'true if all of a grant with a group is claimed, see credits.debts; otherwise NULL';
COMMENT ON COLUMN credits.grants.lost_claimed IS
	'true if a grant with a group has lost something and all of that is claimed; otherwise NULL';
COMMENT ON COLUMN credits.grants.group_owed IS
	'of a grant with which a group began: what all of them owe, or other grants have paid for them; NULL if nothing';
COMMENT ON COLUMN credits.grants.price IS 'total paid for it, in currency (ISO 4217)';

SELECT pg_catalog.pg_extension_config_dump('credits.grants', '');
SELECT pg_catalog.pg_extension_config_dump('credits.grants_id_seq', '');
GRANT SELECT ON credits.grants, credits.grants_id_seq
	TO credits_admin, credits_auditor;
