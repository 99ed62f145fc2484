-- accounts: their table and its triggers

CREATE SEQUENCE credits.accounts_id_seq;

-- The columns that a spend changes are the last ones, because WAL for an update
-- does not include unchanged data at the beginning of a row.  No index may
-- contain one of them, so that a spend is a heap-only update; the low fillfactor
-- serves the same purpose.
CREATE TABLE credits.accounts (
	id bigint NOT NULL,
	name text COLLATE "C" NOT NULL,
	unit text NOT NULL,
	status text NOT NULL,
	metadata jsonb,
	limited boolean NOT NULL,
	debt bigint NOT NULL,
	created_at timestamptz NOT NULL,
	alert_levels text,
	alert_base bigint,
	topup_below bigint,
	due_at timestamptz NOT NULL,
	base bigint NOT NULL,
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
	renews_at timestamptz,
	CONSTRAINT accounts_not_negative CHECK (balance >= 0 AND held >= 0 AND debt >= 0)
) WITH (fillfactor = 60);

ALTER SEQUENCE credits.accounts_id_seq OWNED BY credits.accounts.id;
ALTER TABLE credits.accounts ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);
ALTER TABLE credits.accounts ADD CONSTRAINT accounts_name_key UNIQUE (name);
CREATE INDEX accounts_due_at_idx ON credits.accounts (due_at, id)
	WHERE due_at < 'infinity';
-- few accounts are in these, and no spend changes that
CREATE INDEX accounts_debt_idx ON credits.accounts (id) WHERE debt > 0;
CREATE INDEX accounts_status_idx ON credits.accounts (status COLLATE "C", id)
	WHERE status <> 'active';

COMMENT ON TABLE credits.accounts IS
	'one row per account; changed only by the credits_* functions';
COMMENT ON COLUMN credits.accounts.name IS
	'the application''s name for the account, such as user:42';
COMMENT ON COLUMN credits.accounts.unit IS 'what one credit is called';
COMMENT ON COLUMN credits.accounts.status IS 'active, paused or closed';
COMMENT ON COLUMN credits.accounts.limited IS 'has limits of its own, in credits.limits';
COMMENT ON COLUMN credits.accounts.debt IS
	'credits that must be taken back but are already spent; paid first by credits that are bought';
COMMENT ON COLUMN credits.accounts.alert_levels IS
	'its own levels at which it alerts; NULL means the setting credits.alert_levels';
COMMENT ON COLUMN credits.accounts.alert_base IS
	'what levels in percent refer to; NULL means base';
COMMENT ON COLUMN credits.accounts.topup_below IS
	'when the balance falls below this, it is topped up; NULL if it never is';
COMMENT ON COLUMN credits.accounts.base IS
	'the highest balance since its last period or purchase';
COMMENT ON COLUMN credits.accounts.due_at IS
	'until this instant, the passing of time changes nothing about its grants and holds';
COMMENT ON COLUMN credits.accounts.granted IS
	'credits ever given by grants, including those that are not effective yet';
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
COMMENT ON COLUMN credits.accounts.renews_at IS
	'until this instant, nothing is due for its subscriptions; NULL if nothing ever is';

SELECT pg_catalog.pg_extension_config_dump('credits.accounts', '');
SELECT pg_catalog.pg_extension_config_dump('credits.accounts_id_seq', '');
GRANT SELECT ON credits.accounts, credits.accounts_id_seq
	TO credits_admin, credits_auditor;
