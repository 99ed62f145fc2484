-- corrections: one correction of many accounts, previewed, and applied by a token

CREATE SEQUENCE credits.corrections_id_seq;

CREATE TABLE credits.corrections (
	id bigint NOT NULL,
	delta bigint NOT NULL,
	accounts integer NOT NULL,
	accepted integer NOT NULL,
	previewed_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	applied_at timestamptz,
	ended_at timestamptz,
	balance_before numeric NOT NULL,
	balance_after numeric NOT NULL,
	token text COLLATE "C" NOT NULL,
	status text COLLATE "C" NOT NULL,
	refused_id bigint,
	refusal text COLLATE "C",
	role text COLLATE "C" NOT NULL,
	applied_role text COLLATE "C",
	reason text,
	actor text COLLATE "C",
	applied_actor text COLLATE "C",
	CONSTRAINT corrections_accounts CHECK (accepted >= 0 AND accepted <= accounts),
	CONSTRAINT corrections_applied
		CHECK ((applied_at IS NULL) = (status = 'previewed') AND (applied_role IS NULL) = (applied_at IS NULL)),
	CONSTRAINT corrections_delta CHECK (delta <> 0),
	CONSTRAINT corrections_ended CHECK ((ended_at IS NOT NULL) = (status IN ('applied', 'refused'))),
	CONSTRAINT corrections_refusal
		CHECK ((refusal IS NOT NULL) = (status IN ('reverting', 'refused'))
			   AND (refusal IS NULL) = (refused_id IS NULL)),
	CONSTRAINT corrections_status
		CHECK (status IN ('previewed', 'applying', 'reverting', 'applied', 'refused'))
) WITH (fillfactor = 50);

ALTER SEQUENCE credits.corrections_id_seq OWNED BY credits.corrections.id;
ALTER TABLE credits.corrections ADD CONSTRAINT corrections_pkey PRIMARY KEY (id);
CREATE UNIQUE INDEX corrections_token_idx ON credits.corrections (token);
-- for the job that continues what is not finished, and deletes what was never applied
CREATE INDEX corrections_unfinished_idx ON credits.corrections (id) WHERE ended_at IS NULL;

COMMENT ON TABLE credits.corrections IS
	'one row per correction of many accounts: a preview, and what became of it; changed only by the credits_* functions';
COMMENT ON COLUMN credits.corrections.delta IS 'what each account is given, or loses if it is negative';
COMMENT ON COLUMN credits.corrections.accounts IS 'how many were named';
COMMENT ON COLUMN credits.corrections.accepted IS 'how many of them can be corrected';
COMMENT ON COLUMN credits.corrections.expires_at IS
	'until when the preview can be applied; after that credits_housekeep deletes it';
COMMENT ON COLUMN credits.corrections.applied_at IS
	'when it began to be applied; NULL if it was only previewed';
COMMENT ON COLUMN credits.corrections.ended_at IS
	'when all accounts had it, or none any more; NULL before';
COMMENT ON COLUMN credits.corrections.balance_before IS
	'sum of the balances of the accounts that can be corrected, when it was previewed';
COMMENT ON COLUMN credits.corrections.balance_after IS 'what it would become';
COMMENT ON COLUMN credits.corrections.token IS 'what credits_apply_correction is called with';
COMMENT ON COLUMN credits.corrections.status IS
	'previewed; applying; applied; reverting, if an account could not be corrected when its turn came; then refused';
COMMENT ON COLUMN credits.corrections.refused_id IS
	'the account that could not be corrected when its turn came; NULL if there was none';
COMMENT ON COLUMN credits.corrections.refusal IS 'SQLSTATE of why it could not';
COMMENT ON COLUMN credits.corrections.role IS 'session_user that previewed it';
COMMENT ON COLUMN credits.corrections.applied_role IS 'session_user that applied it';
COMMENT ON COLUMN credits.corrections.reason IS
	'the reason of every adjustment; NULL if it was erased, see credits_erase_person';
COMMENT ON COLUMN credits.corrections.actor IS 'the setting credits.actor of who previewed it';
COMMENT ON COLUMN credits.corrections.applied_actor IS 'the setting credits.actor of who applied it';

-- Numbers are in order of the ids of accounts, so that accounts are locked in that order.
-- Fillfactor: each row is updated when its account is corrected.
CREATE TABLE credits.correction_items (
	correction_id bigint NOT NULL,
	account_id bigint,
	balance bigint,
	balance_after bigint,
	transaction_id bigint,
	reverted_id bigint,
	number integer NOT NULL,
	code text COLLATE "C",
	name text COLLATE "C",
	CONSTRAINT correction_items_account CHECK ((account_id IS NULL) = (name IS NOT NULL)),
	CONSTRAINT correction_items_balance
		CHECK ((balance IS NULL) = (account_id IS NULL) AND (balance_after IS NULL) = (code IS NOT NULL)),
	CONSTRAINT correction_items_transaction
		CHECK ((code IS NULL OR transaction_id IS NULL) AND (reverted_id IS NULL OR transaction_id IS NOT NULL))
) WITH (fillfactor = 50);

ALTER TABLE credits.correction_items
	ADD CONSTRAINT correction_items_pkey PRIMARY KEY (correction_id, number);
CREATE INDEX correction_items_account_id_idx ON credits.correction_items (account_id);
CREATE INDEX correction_items_name_idx ON credits.correction_items (name) WHERE name IS NOT NULL;

COMMENT ON TABLE credits.correction_items IS
	'one row per account of a correction: what was previewed, and what was posted';
COMMENT ON COLUMN credits.correction_items.account_id IS 'NULL if there was no such account';
COMMENT ON COLUMN credits.correction_items.balance IS 'when it was previewed';
COMMENT ON COLUMN credits.correction_items.balance_after IS 'what it would become; NULL if the account is refused';
COMMENT ON COLUMN credits.correction_items.transaction_id IS 'the adjustment; NULL if it was not posted';
COMMENT ON COLUMN credits.correction_items.reverted_id IS
	'the transaction that has undone it, because another account was refused; NULL if none has';
COMMENT ON COLUMN credits.correction_items.code IS
	'SQLSTATE of why the account is refused; NULL if it is corrected';
COMMENT ON COLUMN credits.correction_items.name IS 'what was named, if there was no such account';

SELECT pg_catalog.pg_extension_config_dump('credits.corrections', '');
SELECT pg_catalog.pg_extension_config_dump('credits.corrections_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('credits.correction_items', '');
GRANT SELECT ON credits.corrections, credits.corrections_id_seq, credits.correction_items
	TO credits_admin, credits_auditor;

CREATE TRIGGER corrections_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.corrections
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly', 'deleted');
ALTER TABLE credits.corrections ENABLE ALWAYS TRIGGER corrections_refuse_change;
CREATE TRIGGER correction_items_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.correction_items
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly', 'deleted');
ALTER TABLE credits.correction_items ENABLE ALWAYS TRIGGER correction_items_refuse_change;

CREATE FUNCTION @extschema@.credits_preview_correction(
	accounts text[],
	delta bigint,
	reason text,
	OUT correction_id bigint,
	OUT token text,
	OUT named integer,
	OUT accepted integer,
	OUT refused integer,
	OUT credits numeric,
	OUT balance_before numeric,
	OUT balance_after numeric,
	OUT expires_at timestamptz)
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_preview_correction IS
	'compute one correction of up to 100,000 accounts, and change none of them: sums, and a token with which credits_apply_correction applies it';
REVOKE ALL ON FUNCTION @extschema@.credits_preview_correction FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_preview_correction TO credits_admin;

CREATE FUNCTION @extschema@.credits_correction_items(
	correction_id bigint,
	refused_only boolean DEFAULT false,
	after_number integer DEFAULT NULL,
	max_rows integer DEFAULT 50)
RETURNS TABLE (
	number integer,
	account text,
	balance bigint,
	balance_after bigint,
	code text,
	message text,
	transaction_id bigint,
	reverted_id bigint)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT i.number, n.account, i.balance, i.balance_after, i.code,
		   CASE i.code
			   WHEN 'PT402' THEN format('account "%s" has insufficient credits', n.account)
			   WHEN 'PT404' THEN format('account "%s" does not exist', n.account)
			   WHEN 'PT423' THEN format('account "%s" is closed', n.account)
			   WHEN '22003' THEN 'credits out of range'
		   END,
		   i.transaction_id, i.reverted_id
	FROM credits.correction_items AS i
	CROSS JOIN LATERAL (
		SELECT COALESCE(i.name, (SELECT a.name FROM credits.accounts AS a WHERE a.id = i.account_id))
	) AS n (account)
	WHERE i.correction_id = $1 AND i.number > COALESCE($3, 0)
	  AND (NOT COALESCE($2, false) OR i.code IS NOT NULL)
	ORDER BY i.number
	LIMIT credits.max_rows($4)
$$;
COMMENT ON FUNCTION @extschema@.credits_correction_items IS
	'the accounts of a correction: balances as previewed, why one is refused, and what was posted; page on with after_number';
REVOKE ALL ON FUNCTION @extschema@.credits_correction_items FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_correction_items TO credits_admin, credits_auditor;

CREATE PROCEDURE @extschema@.credits_apply_correction(
	token text,
	INOUT correction_id bigint DEFAULT NULL,
	INOUT corrected integer DEFAULT NULL,
	INOUT credits numeric DEFAULT NULL,
	INOUT replayed boolean DEFAULT NULL)
AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE @extschema@.credits_apply_correction IS
	'apply a correction as it was previewed, a commit per batch: all accounts have it in the end, or none; the same token again continues it, or returns what became of it';
REVOKE ALL ON PROCEDURE @extschema@.credits_apply_correction FROM PUBLIC;
GRANT EXECUTE ON PROCEDURE @extschema@.credits_apply_correction TO credits_admin;
