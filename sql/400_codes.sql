-- codes: codes of all kinds, and their redemptions

CREATE SEQUENCE credits.codes_id_seq;

-- uses is updated only if max_uses is set, while the row is locked, and active
-- only once.  Neither is in an index.  Codes without max_uses are never locked.
CREATE TABLE credits.codes (
	id bigint NOT NULL,
	account_id bigint,
	transaction_id bigint,
	created_at timestamptz NOT NULL,
	credits bigint,
	active_from timestamptz NOT NULL,
	active_until timestamptz NOT NULL,
	per_account integer NOT NULL,
	kind text NOT NULL,
	code text COLLATE "C" NOT NULL,
	expires_in interval,
	new_accounts_within interval,
	message text,
	metadata jsonb,
	max_uses bigint,
	uses bigint NOT NULL,
	active boolean NOT NULL,
	CONSTRAINT codes_not_too_often CHECK (uses >= 0 AND uses <= max_uses)
) WITH (fillfactor = 80);

ALTER SEQUENCE credits.codes_id_seq OWNED BY credits.codes.id;
ALTER TABLE credits.codes ADD CONSTRAINT codes_pkey PRIMARY KEY (id);
ALTER TABLE credits.codes ADD CONSTRAINT codes_code_key UNIQUE (code);
CREATE UNIQUE INDEX codes_transaction_id_idx ON credits.codes (transaction_id)
	WHERE transaction_id IS NOT NULL;
-- one referral code for each account
CREATE UNIQUE INDEX codes_referrer_idx ON credits.codes (account_id)
	WHERE kind = 'referral';
CREATE INDEX codes_giver_idx ON credits.codes (account_id, id)
	WHERE kind = 'gift';

COMMENT ON TABLE credits.codes IS
	'one row per code; credits.promo_codes, credits.gifts and credits.referral_counts show them by kind';
COMMENT ON COLUMN credits.codes.account_id IS
	'the giver of a gift, or the owner of a referral code';
COMMENT ON COLUMN credits.codes.transaction_id IS
	'the transaction that took a gift from its giver';
COMMENT ON COLUMN credits.codes.credits IS 'the credits that redeeming it gives; for a gift, those in it';
COMMENT ON COLUMN credits.codes.active_from IS
	'cannot be redeemed before this instant; -infinity means immediately';
COMMENT ON COLUMN credits.codes.active_until IS
	'cannot be redeemed from this instant on; infinity means never';
COMMENT ON COLUMN credits.codes.per_account IS 'how often one account may redeem it';
COMMENT ON COLUMN credits.codes.kind IS 'promotional, gift or referral';
COMMENT ON COLUMN credits.codes.code IS 'in capital letters, without spaces around it';
COMMENT ON COLUMN credits.codes.expires_in IS
	'how long its credits can be spent; NULL means forever';
COMMENT ON COLUMN credits.codes.new_accounts_within IS
	'only accounts younger than this may redeem it; NULL means all';
COMMENT ON COLUMN credits.codes.max_uses IS
	'how often it may be redeemed in all; NULL means no limit';
COMMENT ON COLUMN credits.codes.uses IS
	'how often it has been redeemed, counted only if max_uses is set';

SELECT pg_catalog.pg_extension_config_dump('credits.codes', '');
SELECT pg_catalog.pg_extension_config_dump('credits.codes_id_seq', '');
GRANT SELECT ON credits.codes, credits.codes_id_seq TO credits_admin, credits_auditor;

CREATE TABLE credits.redemptions (
	transaction_id bigint NOT NULL,
	code_id bigint NOT NULL,
	account_id bigint NOT NULL,
	created_at timestamptz NOT NULL,
	kind text NOT NULL
);

ALTER TABLE credits.redemptions ADD CONSTRAINT redemptions_pkey PRIMARY KEY (transaction_id);
CREATE INDEX redemptions_code_id_idx ON credits.redemptions (code_id, account_id);
-- an account can redeem only one referral code
CREATE UNIQUE INDEX redemptions_referee_idx ON credits.redemptions (account_id)
	WHERE kind = 'referral';
CREATE INDEX redemptions_referral_idx ON credits.redemptions (code_id, transaction_id)
	WHERE kind = 'referral';
CREATE INDEX redemptions_gift_idx ON credits.redemptions (account_id, code_id)
	WHERE kind = 'gift';

COMMENT ON TABLE credits.redemptions IS 'one row per code that an account has redeemed';
COMMENT ON COLUMN credits.redemptions.transaction_id IS
	'the transaction that gave the redeemer its credits';
COMMENT ON COLUMN credits.redemptions.account_id IS 'the redeemer';
COMMENT ON COLUMN credits.redemptions.kind IS 'that of the code';

SELECT pg_catalog.pg_extension_config_dump('credits.redemptions', '');
GRANT SELECT ON credits.redemptions TO credits_admin, credits_auditor;

CREATE TRIGGER codes_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.codes
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
CREATE TRIGGER redemptions_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.redemptions
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.codes ENABLE ALWAYS TRIGGER codes_refuse_change;
ALTER TABLE credits.redemptions ENABLE ALWAYS TRIGGER redemptions_refuse_change;
