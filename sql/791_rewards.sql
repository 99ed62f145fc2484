-- rewards: credits for what an account has done, or for coming back

CREATE SEQUENCE credits.reward_programs_id_seq;

CREATE TABLE credits.reward_programs (
	id bigint NOT NULL,
	name text COLLATE "C" NOT NULL,
	kind text NOT NULL,
	amounts bigint[] NOT NULL,
	expires_in interval,
	grace_days integer,
	timezone text NOT NULL,
	per_account bigint,
	budget bigint,
	metadata jsonb,
	active_from timestamptz NOT NULL,
	active_until timestamptz,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT reward_programs_kind CHECK (kind IN ('award', 'daily')),
	CONSTRAINT reward_programs_amounts
		CHECK (cardinality(amounts) > 0 AND 0 < ALL (amounts) AND array_position(amounts, NULL) IS NULL),
	CONSTRAINT reward_programs_grace_days CHECK (grace_days >= 0 AND (kind = 'daily') = (grace_days IS NOT NULL)),
	CONSTRAINT reward_programs_limits CHECK (per_account > 0 AND budget > 0)
);

ALTER SEQUENCE credits.reward_programs_id_seq OWNED BY credits.reward_programs.id;
ALTER TABLE credits.reward_programs ADD CONSTRAINT reward_programs_pkey PRIMARY KEY (id);
CREATE INDEX reward_programs_name_idx ON credits.reward_programs (name, active_from, id);

COMMENT ON TABLE credits.reward_programs IS
	'terms of reward programs, all versions; those in force have the latest active_from that has come; of several, the last ones made';
COMMENT ON COLUMN credits.reward_programs.kind IS
	'award: once for each award that the application names; daily: once a day';
COMMENT ON COLUMN credits.reward_programs.amounts IS
	'credits of the first, second, ... award, or day in sequence; the last one for all that follow';
COMMENT ON COLUMN credits.reward_programs.expires_in IS
	'how long the credits live, NULL if they do not expire';
COMMENT ON COLUMN credits.reward_programs.grace_days IS
	'how many days in sequence may be missed without beginning again; NULL for awards';
COMMENT ON COLUMN credits.reward_programs.timezone IS
	'in which a day begins for accounts that have no time zone of their own';
COMMENT ON COLUMN credits.reward_programs.per_account IS
	'how many rewards an account may have; NULL for any number';
COMMENT ON COLUMN credits.reward_programs.budget IS
	'how many credits may be given in all; NULL for any number';
COMMENT ON COLUMN credits.reward_programs.metadata IS
	'only for accounts whose metadata contains this; NULL for all accounts';
COMMENT ON COLUMN credits.reward_programs.active_until IS
	'from this instant on nothing is given; not later than active_from if it ends the program';
COMMENT ON COLUMN credits.reward_programs.role IS 'session_user that set it';

-- One row per program that has a budget.  It is locked to give some of that, so programs
-- without one have none: an account waits for no other there.
CREATE TABLE credits.reward_totals (
	program text COLLATE "C" NOT NULL,
	given bigint NOT NULL,
	CONSTRAINT reward_totals_pkey PRIMARY KEY (program),
	CONSTRAINT reward_totals_not_negative CHECK (given >= 0)
) WITH (fillfactor = 50);

COMMENT ON TABLE credits.reward_totals IS
	'how many credits programs that have a budget have given';

CREATE TABLE credits.rewards (
	transaction_id bigint NOT NULL,
	account_id bigint NOT NULL,
	program_id bigint NOT NULL,
	amount bigint NOT NULL,
	number bigint NOT NULL,
	created_at timestamptz NOT NULL,
	program text COLLATE "C" NOT NULL,
	award text COLLATE "C" NOT NULL,
	CONSTRAINT rewards_pkey PRIMARY KEY (transaction_id),
	CONSTRAINT rewards_positive CHECK (amount > 0 AND number > 0)
);
-- once per account
CREATE UNIQUE INDEX rewards_award_idx ON credits.rewards (account_id, program, award);
CREATE INDEX rewards_account_id_idx ON credits.rewards (account_id, transaction_id);

COMMENT ON TABLE credits.rewards IS
	'which account was rewarded for what, by which transaction';
COMMENT ON COLUMN credits.rewards.program_id IS 'the terms that were in force';
COMMENT ON COLUMN credits.rewards.number IS
	'of the program''s amounts, which one was given; of a daily program, the days in sequence';
COMMENT ON COLUMN credits.rewards.award IS
	'what the application calls it; of a daily program, the day';

SELECT pg_catalog.pg_extension_config_dump('credits.reward_programs', '');
SELECT pg_catalog.pg_extension_config_dump('credits.reward_programs_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('credits.reward_totals', '');
SELECT pg_catalog.pg_extension_config_dump('credits.rewards', '');
GRANT SELECT ON credits.reward_programs, credits.reward_programs_id_seq,
		credits.reward_totals, credits.rewards
	TO credits_admin, credits_auditor;

CREATE TRIGGER reward_programs_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.reward_programs
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.reward_programs ENABLE ALWAYS TRIGGER reward_programs_refuse_change;
CREATE TRIGGER reward_totals_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.reward_totals
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.reward_totals ENABLE ALWAYS TRIGGER reward_totals_refuse_change;
CREATE TRIGGER rewards_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.rewards
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.rewards ENABLE ALWAYS TRIGGER rewards_refuse_change;

CREATE VIEW credits.current_reward_programs AS
SELECT p.name,
	   p.kind,
	   p.amounts,
	   p.expires_in,
	   p.grace_days,
	   p.timezone,
	   p.per_account,
	   p.budget,
	   p.budget OPERATOR(pg_catalog.-) t.given AS left_over,
	   p.metadata,
	   p.active_until,
	   p.id AS program_id
FROM (
	SELECT DISTINCT ON (v.name) v.*
	FROM credits.reward_programs AS v
	WHERE v.active_from OPERATOR(pg_catalog.<=) credits.now()
	ORDER BY v.name, v.active_from DESC, v.id DESC
) AS p
LEFT JOIN credits.reward_totals AS t ON t.program OPERATOR(pg_catalog.=) p.name
WHERE p.active_until IS NULL
   OR p.active_until OPERATOR(pg_catalog.>) credits.now();
COMMENT ON VIEW credits.current_reward_programs IS
	'each reward program that is in force now, and what is left of its budget';
GRANT SELECT ON credits.current_reward_programs TO credits_app, credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_reward_program(
	name text,
	amounts bigint[] DEFAULT NULL,
	kind text DEFAULT NULL,
	expires_in interval DEFAULT NULL,
	grace_days integer DEFAULT NULL,
	timezone text DEFAULT NULL,
	per_account bigint DEFAULT NULL,
	budget bigint DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	active_from timestamptz DEFAULT NULL,
	active_until timestamptz DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_reward_program IS
	'set the terms of a reward program, from now or a later instant on; what is left out stays; returns their id';
REVOKE ALL ON FUNCTION @extschema@.credits_set_reward_program FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_reward_program TO credits_admin;

CREATE FUNCTION @extschema@.credits_retire_reward_program(
	name text,
	at timestamptz DEFAULT NULL)
RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_retire_reward_program IS
	'end a reward program, now or at a later instant; returns the id of the terms that record this';
REVOKE ALL ON FUNCTION @extschema@.credits_retire_reward_program FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_retire_reward_program TO credits_admin;

CREATE FUNCTION @extschema@.credits_reward(
	account text,
	program text,
	award text DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_reward IS
	'give an account the credits of a reward program: once for each award, or once a day';
REVOKE ALL ON FUNCTION @extschema@.credits_reward FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_reward TO credits_app;

CREATE FUNCTION @extschema@.credits_try_reward(
	account text,
	program text,
	award text DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.attempt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_try_reward IS
	'reward an account like credits_reward, but return a refusal as a row; it writes nothing then';
REVOKE ALL ON FUNCTION @extschema@.credits_try_reward FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_try_reward TO credits_app;

CREATE FUNCTION @extschema@.credits_rewards(
	account text,
	program text DEFAULT NULL,
	max_rows integer DEFAULT 50,
	before_id bigint DEFAULT NULL)
RETURNS TABLE (
	transaction_id bigint,
	program text,
	award text,
	number bigint,
	amount bigint,
	created_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT r.transaction_id, r.program, r.award, r.number, r.amount, r.created_at
	FROM credits.rewards AS r
	WHERE r.account_id = (SELECT credits.account_id($1))
	  AND ($2 IS NULL OR r.program = $2)
	  AND r.transaction_id < COALESCE($4, 9223372036854775807)
	ORDER BY r.transaction_id DESC
	LIMIT credits.max_rows($3)
$$;
COMMENT ON FUNCTION @extschema@.credits_rewards IS
	'rewards of an account, newest first; page on with before_id';
REVOKE ALL ON FUNCTION @extschema@.credits_rewards FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_rewards TO credits_app, credits_auditor;
