-- accounts: who holds credits

CREATE SEQUENCE credits.accounts_id_seq;

-- Columns that a spend changes stand last and together: WAL then carries
-- little more than them.  No index may name one of them, so that a spend
-- stays a heap-only update; hence also the low fillfactor.  No foreign key
-- points here from the log: it would queue a trigger on each spend.
-- credits_verify looks for orphans instead.
CREATE TABLE credits.accounts (
	id bigint NOT NULL,
	name text COLLATE "C" NOT NULL,
	unit text NOT NULL,
	status text NOT NULL,
	metadata jsonb,
	limited boolean NOT NULL,
	debt bigint NOT NULL,
	created_at timestamptz NOT NULL,
	low_balance bigint,
	due_at timestamptz NOT NULL,
	granted bigint NOT NULL,
	refunded bigint NOT NULL,
	expired bigint NOT NULL,
	held bigint NOT NULL,
	balance bigint NOT NULL,
	spent bigint NOT NULL,
	transaction_count bigint NOT NULL,
	last_transaction_id bigint NOT NULL,
	last_at timestamptz NOT NULL,
	head bytea NOT NULL,
	CONSTRAINT accounts_not_negative CHECK (balance >= 0 AND held >= 0 AND debt >= 0)
) WITH (fillfactor = 60);

ALTER SEQUENCE credits.accounts_id_seq OWNED BY credits.accounts.id;
ALTER TABLE credits.accounts ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);
ALTER TABLE credits.accounts ADD CONSTRAINT accounts_name_key UNIQUE (name);
CREATE INDEX accounts_due_at_idx ON credits.accounts (due_at, id)
	WHERE due_at < 'infinity';

COMMENT ON TABLE credits.accounts IS
	'one row per account; changed only by the credits_* functions';
COMMENT ON COLUMN credits.accounts.name IS
	'the application''s name for the account, such as user:42';
COMMENT ON COLUMN credits.accounts.unit IS 'what one credit is called';
COMMENT ON COLUMN credits.accounts.status IS 'active, paused or closed';
COMMENT ON COLUMN credits.accounts.limited IS 'has limits of its own, in credits.limits';
COMMENT ON COLUMN credits.accounts.debt IS
	'credits to be taken back that were spent already; paid first by what is bought';
COMMENT ON COLUMN credits.accounts.low_balance IS
	'alert below this balance; NULL means the setting credits.low_balance';
COMMENT ON COLUMN credits.accounts.due_at IS
	'before this instant the clock changes nothing on the account';
COMMENT ON COLUMN credits.accounts.granted IS
	'credits ever given by grants, those not yet effective included';
COMMENT ON COLUMN credits.accounts.refunded IS 'credits ever given back by refunds';
COMMENT ON COLUMN credits.accounts.expired IS 'credits ever lost to expiry';
COMMENT ON COLUMN credits.accounts.held IS 'credits reserved by open holds';
COMMENT ON COLUMN credits.accounts.balance IS
	'credits that could be spent when the account was last settled';
COMMENT ON COLUMN credits.accounts.spent IS
	'credits ever spent, before refunds';
COMMENT ON COLUMN credits.accounts.transaction_count IS 'rows of the account in the log';
COMMENT ON COLUMN credits.accounts.last_transaction_id IS 'newest row of the account in the log';
COMMENT ON COLUMN credits.accounts.last_at IS 'created_at of that row';
COMMENT ON COLUMN credits.accounts.head IS 'hash of that row: the head of the chain';

SELECT pg_catalog.pg_extension_config_dump('credits.accounts', '');
SELECT pg_catalog.pg_extension_config_dump('credits.accounts_id_seq', '');
GRANT SELECT ON credits.accounts, credits.accounts_id_seq
	TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_open_account(
	account text,
	initial_credits bigint DEFAULT NULL,
	unit text DEFAULT 'credit',
	metadata jsonb DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_open_account IS
	'open an account, once; opening it again returns the first receipt and changes nothing';
REVOKE ALL ON FUNCTION @extschema@.credits_open_account FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_open_account TO credits_admin;

CREATE FUNCTION @extschema@.credits_pause_account(account text, reason text)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_pause_account IS
	'stop an account from spending; it can still receive, be refunded and be read';
REVOKE ALL ON FUNCTION @extschema@.credits_pause_account FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_pause_account TO credits_admin;

CREATE FUNCTION @extschema@.credits_resume_account(account text, reason text)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_resume_account IS
	'let a paused account spend again';
REVOKE ALL ON FUNCTION @extschema@.credits_resume_account FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_resume_account TO credits_admin;

CREATE FUNCTION @extschema@.credits_close_account(account text, reason text)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_close_account IS
	'close an account for good: it can be read, and the clock still expires its credits, but nothing else moves';
REVOKE ALL ON FUNCTION @extschema@.credits_close_account FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_close_account TO credits_admin;

CREATE FUNCTION @extschema@.credits_set_low_balance(account text, low_balance bigint)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_low_balance IS
	'set the balance below which an account alerts; NULL returns to the setting credits.low_balance';
REVOKE ALL ON FUNCTION @extschema@.credits_set_low_balance FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_low_balance TO credits_admin;
