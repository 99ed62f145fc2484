-- log: the immutable record of all transactions, written and protected by triggers

-- who made changes, by an id that takes four bytes in each row of the log; a name
-- can have several, see roles.c
CREATE SEQUENCE credits.roles_id_seq AS integer;
CREATE TABLE credits.roles (
	id integer NOT NULL,
	name text COLLATE "C" NOT NULL
);
ALTER SEQUENCE credits.roles_id_seq OWNED BY credits.roles.id;
ALTER TABLE credits.roles ADD CONSTRAINT roles_pkey PRIMARY KEY (id);
CREATE INDEX roles_name_idx ON credits.roles (name);

COMMENT ON TABLE credits.roles IS
	'names of session users that made changes, to which the log refers by id';

SELECT pg_catalog.pg_extension_config_dump('credits.roles', '');
SELECT pg_catalog.pg_extension_config_dump('credits.roles_id_seq', '');
GRANT SELECT ON credits.roles, credits.roles_id_seq TO credits_admin, credits_auditor;

-- How the log is stored.  Everybody who may read it may call these.
CREATE FUNCTION credits.kind_name(kind_code "char") RETURNS text
AS 'MODULE_PATHNAME', 'credits_kind_name' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credits.kind_name IS
	'name of the kind of transactions that has a code in credits.log';

CREATE FUNCTION credits.role_name(id integer) RETURNS text
AS 'MODULE_PATHNAME', 'credits_role_name' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credits.role_name IS
	'name of the role that has an id in credits.log, from credits.roles';

CREATE FUNCTION credits.draws_of(draws bytea) RETURNS bigint[]
AS 'MODULE_PATHNAME', 'credits_draws_of' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credits.draws_of IS
	'draws as an array, of the bytes that they are packed into in credits.log';

CREATE FUNCTION credits.key_digest(idempotency_key text) RETURNS bigint
AS 'MODULE_PATHNAME', 'credits_key_digest' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION credits.key_digest IS
	'digest of an idempotency key, by which the log is indexed';

CREATE SEQUENCE credits.transactions_id_seq;

-- Columns of eight bytes come first, then those of four and of one, so that none are
-- lost to alignment.
CREATE TABLE credits.log (
	id bigint NOT NULL,
	account_id bigint NOT NULL,
	created_at timestamptz NOT NULL,
	amount bigint NOT NULL,
	balance_after bigint NOT NULL,
	held bigint,
	held_after bigint,
	target_id bigint,
	member_id bigint,
	role_id integer NOT NULL,
	request integer,
	kind_code "char" NOT NULL,
	idempotency_key text COLLATE "C",
	draws bytea,
	operation text,
	reference text COLLATE "C",
	terms jsonb,
	reason text,
	metadata jsonb,
	actor text,
	salt bytea,
	hash bytea NOT NULL,
	CONSTRAINT log_not_negative
		CHECK (balance_after >= 0 AND held_after >= 0)
) PARTITION BY RANGE (id);

ALTER SEQUENCE credits.transactions_id_seq OWNED BY credits.log.id;
-- if it is published as one table, an update is found by the id
ALTER TABLE credits.log REPLICA IDENTITY FULL;

-- It takes every row until credits_partition_log makes others.  Indexes belong to
-- partitions only: those of the log would be made a second time in a restored one.
CREATE TABLE credits.log_default PARTITION OF credits.log DEFAULT;
ALTER TABLE credits.log_default ADD CONSTRAINT log_default_pkey PRIMARY KEY (id);
CREATE INDEX log_default_account_id_idx ON credits.log_default
	(account_id, created_at, id);
-- A key belongs to the account that spends, even if a pool pays.  Its digest takes
-- less than the key, and keys seldom are in any order that would make pages full.
CREATE UNIQUE INDEX log_default_idempotency_key_idx ON credits.log_default
	((COALESCE(member_id, account_id)), (credits.key_digest(idempotency_key)))
	WHERE idempotency_key IS NOT NULL;
CREATE INDEX log_default_target_id_idx ON credits.log_default
	(target_id) WHERE target_id IS NOT NULL;
CREATE INDEX log_default_reference_idx ON credits.log_default
	(reference) WHERE reference IS NOT NULL;

COMMENT ON TABLE credits.log IS
	'the log as it is stored, chained by hash and immutable; read it in view credits.transactions';
COMMENT ON TABLE credits.log_default IS
	'the partition of credits.log for all rows that no other takes';
SELECT pg_catalog.pg_extension_config_dump('credits.log_default', '');
SELECT pg_catalog.pg_extension_config_dump('credits.transactions_id_seq', '');

-- what people and applications read, however the log is stored
CREATE VIEW credits.transactions AS
SELECT l.id, l.account_id, l.created_at, l.amount,
	   COALESCE(l.held, 0) AS held,
	   l.balance_after,
	   COALESCE(l.held_after, 0) AS held_after,
	   l.target_id, l.member_id,
	   l.request::bigint AS request,
	   credits.kind_name(l.kind_code) AS kind,
	   credits.role_name(l.role_id) AS role,
	   l.idempotency_key, l.operation, l.reference,
	   credits.draws_of(l.draws) AS draws,
	   l.terms, l.reason, l.metadata, l.actor, l.salt, l.hash
FROM credits.log AS l;
COMMENT ON COLUMN credits.log.held IS 'NULL if 0, as mostly';
COMMENT ON COLUMN credits.log.held_after IS 'NULL if 0, as mostly';
COMMENT ON COLUMN credits.log.role_id IS 'of credits.roles';
COMMENT ON COLUMN credits.log.kind_code IS 'code of the kind: see credits.kind_name';
COMMENT ON COLUMN credits.log.draws IS
	'numbers of seven bits a byte: see doc/log.md, and credits.draws_of';
COMMENT ON VIEW credits.transactions IS
	'the log: one immutable row per change of an account, chained by hash';
COMMENT ON COLUMN credits.transactions.created_at IS
	'when the change took effect; never runs backwards within an account';
COMMENT ON COLUMN credits.transactions.amount IS 'change of the balance';
COMMENT ON COLUMN credits.transactions.held IS 'change of the held credits';
COMMENT ON COLUMN credits.transactions.target_id IS
	'the transaction that this one refers to, such as the deduction that a refund gives back';
COMMENT ON COLUMN credits.transactions.member_id IS
	'the account that spent it, if the account of the row is a pool';
COMMENT ON COLUMN credits.transactions.request IS
	'fingerprint of the request, to distinguish a retry from a reused key';
COMMENT ON COLUMN credits.transactions.role IS 'session_user that made the change';
COMMENT ON COLUMN credits.transactions.draws IS
	'{{grant id, amount}, ...}: what was taken from (negative) or given to each grant, in order';
COMMENT ON COLUMN credits.transactions.terms IS
	'the terms on which the row is based: by grant id, the terms of a grant that it makes, or the new expiry of one that it prolongs; for a hold, when it times out';
COMMENT ON COLUMN credits.transactions.actor IS
	'the application''s own actor, from the setting credits.actor';
COMMENT ON COLUMN credits.transactions.salt IS
	'random bytes hashed together with reason, metadata and actor';
COMMENT ON COLUMN credits.transactions.hash IS
	'sha256 of the previous row''s hash and this row''s canonical form: see doc/log.md';

GRANT SELECT ON credits.log, credits.log_default, credits.transactions, credits.transactions_id_seq
	TO credits_admin, credits_auditor;

CREATE FUNCTION credits.write_log() RETURNS trigger
AS 'MODULE_PATHNAME', 'credits_write_log' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION credits.write_log IS
	'trigger: writes the log rows of a change to an account, raises its alerts, and refuses changes that bypass the functions';
REVOKE ALL ON FUNCTION credits.write_log FROM PUBLIC;

CREATE FUNCTION credits.refuse_change() RETURNS trigger
AS 'MODULE_PATHNAME', 'credits_refuse_change' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION credits.refuse_change IS
	'trigger: refuses changes that are not allowed on its table';
REVOKE ALL ON FUNCTION credits.refuse_change FROM PUBLIC;

CREATE TRIGGER accounts_write_log
	AFTER UPDATE ON credits.accounts
	FOR EACH ROW EXECUTE FUNCTION credits.write_log();
-- Neither the functions of credits nor the apply worker of logical replication
-- fire statement triggers, so these see only direct commands.
CREATE TRIGGER accounts_refuse_removal
	BEFORE DELETE OR TRUNCATE ON credits.accounts
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER grants_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.grants
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER roles_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.roles
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER roles_refuse_row_change
	BEFORE UPDATE OR DELETE ON credits.roles
	FOR EACH ROW EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER log_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.log
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER log_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.log_default
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
CREATE TRIGGER log_refuse_row_change
	BEFORE UPDATE OR DELETE ON credits.log_default
	FOR EACH ROW EXECUTE FUNCTION credits.refuse_change();

ALTER TABLE credits.accounts ENABLE ALWAYS TRIGGER accounts_write_log;
ALTER TABLE credits.accounts ENABLE ALWAYS TRIGGER accounts_refuse_removal;
ALTER TABLE credits.grants ENABLE ALWAYS TRIGGER grants_refuse_change;
ALTER TABLE credits.roles ENABLE ALWAYS TRIGGER roles_refuse_change;
ALTER TABLE credits.roles ENABLE ALWAYS TRIGGER roles_refuse_row_change;
ALTER TABLE credits.log ENABLE ALWAYS TRIGGER log_refuse_change;
ALTER TABLE credits.log_default ENABLE ALWAYS TRIGGER log_refuse_change;
ALTER TABLE credits.log_default ENABLE ALWAYS TRIGGER log_refuse_row_change;

CREATE VIEW credits.draws AS
SELECT t.id AS transaction_id,
	   t.account_id,
	   t.kind,
	   d.ordinal,
	   t.draws[d.ordinal][1] AS grant_id,
	   t.draws[d.ordinal][2] AS amount,
	   t.created_at
FROM credits.transactions AS t
CROSS JOIN LATERAL
	pg_catalog.generate_subscripts(t.draws, 1) AS d (ordinal);
COMMENT ON VIEW credits.draws IS
	'what each transaction took from (negative) or gave to each grant, in order';

GRANT SELECT ON credits.draws TO credits_admin, credits_auditor;
