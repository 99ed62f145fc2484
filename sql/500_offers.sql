-- offers: plans and packages that are not for everybody

CREATE SEQUENCE credits.offers_id_seq;

-- A plan or package that no row names is for everybody.  Once a row names it, it
-- is private and stays so, even if all of its offers are withdrawn: otherwise
-- withdrawing the last one would sell to everybody what was made for one.
CREATE TABLE credits.offers (
	id bigint NOT NULL,
	kind text COLLATE "C" NOT NULL,
	name text COLLATE "C" NOT NULL,
	account_id bigint,
	metadata jsonb,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	withdrawn_at timestamptz,
	withdrawn_by text,
	CONSTRAINT offers_kind CHECK (kind IN ('plan', 'package')),
	CONSTRAINT offers_reach
		CHECK (account_id IS NULL OR metadata IS NULL),
	CONSTRAINT offers_metadata CHECK (jsonb_typeof(metadata) = 'object'),
	CONSTRAINT offers_withdrawn
		CHECK ((withdrawn_at IS NULL) = (withdrawn_by IS NULL))
);

ALTER SEQUENCE credits.offers_id_seq OWNED BY credits.offers.id;
ALTER TABLE credits.offers ADD CONSTRAINT offers_pkey PRIMARY KEY (id);
-- Of offers of the same to the same, one stands.  No account and no offer has the id
-- 0.  The order of jsonb is that of the database's collation, which can change.
CREATE UNIQUE INDEX offers_reach_idx ON credits.offers
	(kind, name, COALESCE(account_id, 0),
	 COALESCE(metadata::text COLLATE "C", ''),
	 (CASE WHEN withdrawn_at IS NULL THEN 0 ELSE id END));

COMMENT ON TABLE credits.offers IS
	'to whom plans and packages are offered that are not for everybody; what no row names is for everybody';
COMMENT ON COLUMN credits.offers.kind IS 'plan or package';
COMMENT ON COLUMN credits.offers.name IS 'the plan or package, in all of its versions';
COMMENT ON COLUMN credits.offers.account_id IS 'offered to this account; NULL if to several';
COMMENT ON COLUMN credits.offers.metadata IS
	'offered to the accounts whose metadata contains this; NULL together with account_id: to everybody';
COMMENT ON COLUMN credits.offers.role IS 'session_user that made it';
COMMENT ON COLUMN credits.offers.withdrawn_at IS 'NULL while it stands';
COMMENT ON COLUMN credits.offers.withdrawn_by IS 'session_user that withdrew it';

SELECT pg_catalog.pg_extension_config_dump('credits.offers', '');
SELECT pg_catalog.pg_extension_config_dump('credits.offers_id_seq', '');
GRANT SELECT ON credits.offers, credits.offers_id_seq
	TO credits_admin, credits_auditor;

CREATE TRIGGER offers_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.offers
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.offers ENABLE ALWAYS TRIGGER offers_refuse_change;

CREATE VIEW credits.offer_list AS
SELECT o.id AS offer_id,
	   o.kind,
	   o.name,
	   a.name AS account,
	   o.metadata,
	   o.account_id IS NULL AND o.metadata IS NULL AS everybody,
	   o.created_at,
	   o.role,
	   o.withdrawn_at,
	   o.withdrawn_by
FROM credits.offers AS o
LEFT JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) o.account_id;
COMMENT ON VIEW credits.offer_list IS
	'offers of plans and packages, and to whom; those that were withdrawn, too';
GRANT SELECT ON credits.offer_list TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_offer_plan(
	plan text,
	account text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	everybody boolean DEFAULT false)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_offer_plan IS
	'offer a plan to an account, to those whose metadata contains something, or to everybody: from then on, to nobody else; returns its id, or that of the same one if it stands';
REVOKE ALL ON FUNCTION @extschema@.credits_offer_plan FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_offer_plan TO credits_admin;

CREATE FUNCTION @extschema@.credits_offer_package(
	package text,
	account text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	everybody boolean DEFAULT false)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_offer_package IS
	'offer a package to an account, to those whose metadata contains something, or to everybody: from then on, to nobody else; returns its id, or that of the same one if it stands';
REVOKE ALL ON FUNCTION @extschema@.credits_offer_package FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_offer_package TO credits_admin;

CREATE FUNCTION @extschema@.credits_withdraw_offer(offer_id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_withdraw_offer IS
	'withdraw an offer: what was agreed stays, but nothing more can be; false if it has been withdrawn before';
REVOKE ALL ON FUNCTION @extschema@.credits_withdraw_offer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_withdraw_offer TO credits_admin;
