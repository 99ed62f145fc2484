-- pools: accounts whose credits members spend under caps

-- used and window_start change with each spend: no index names them
CREATE TABLE credits.members (
	pool_id bigint NOT NULL,
	account_id bigint NOT NULL,
	cap bigint,
	per text NOT NULL,
	timezone text NOT NULL,
	created_at timestamptz NOT NULL,
	window_start timestamptz NOT NULL,
	used bigint NOT NULL,
	since_id bigint NOT NULL,
	CONSTRAINT members_not_negative CHECK (used >= 0)
) WITH (fillfactor = 60);

ALTER TABLE credits.members ADD CONSTRAINT members_pkey PRIMARY KEY (pool_id, account_id);
CREATE INDEX members_account_id_idx ON credits.members (account_id, pool_id);

COMMENT ON TABLE credits.members IS
	'who may spend from a pool; credits.pool_members shows what each has left';
COMMENT ON COLUMN credits.members.cap IS
	'most that the member may spend in one window; NULL means no cap';
COMMENT ON COLUMN credits.members.per IS 'the window: day, week, month or lifetime';
COMMENT ON COLUMN credits.members.timezone IS 'where days, weeks and months begin';
COMMENT ON COLUMN credits.members.window_start IS 'when the window began that used is of';
COMMENT ON COLUMN credits.members.used IS
	'spent or held since then, less what was given back';
COMMENT ON COLUMN credits.members.since_id IS
	'the pool''s transaction that began to count: what was spent before it is not in used';

SELECT pg_catalog.pg_extension_config_dump('credits.members', '');
GRANT SELECT ON credits.members TO credits_admin, credits_auditor;

CREATE TRIGGER members_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.members
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.members ENABLE ALWAYS TRIGGER members_refuse_change;

-- A window that has passed counts for nothing, whether or not the member has
-- spent since.
CREATE VIEW credits.pool_members AS
SELECT p.name AS pool,
	   a.name AS account,
	   m.cap,
	   m.per,
	   m.timezone,
	   w.start AS window_start,
	   w.used,
	   CASE WHEN m.cap IS NOT NULL
			THEN GREATEST(m.cap OPERATOR(pg_catalog.-) w.used, 0::bigint) END AS remaining,
	   m.created_at
FROM credits.members AS m
JOIN credits.accounts AS p ON p.id OPERATOR(pg_catalog.=) m.pool_id
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) m.account_id
CROSS JOIN LATERAL (
	SELECT CASE WHEN m.per OPERATOR(pg_catalog.=) 'lifetime' THEN '-infinity'::timestamptz
				ELSE pg_catalog.date_trunc(m.per, credits.now(), m.timezone) END AS start
) AS t
-- where clocks are put back over midnight, at the first of the two
CROSS JOIN LATERAL (
	SELECT CASE WHEN pg_catalog.timezone(m.timezone, t.start OPERATOR(pg_catalog.-) '1 hour'::interval)
					OPERATOR(pg_catalog.=) pg_catalog.timezone(m.timezone, t.start)
				 AND pg_catalog.isfinite(t.start)
				THEN t.start OPERATOR(pg_catalog.-) '1 hour'::interval
				ELSE t.start END AS start
) AS c
CROSS JOIN LATERAL (
	SELECT GREATEST(m.window_start, c.start) AS start,
		   CASE WHEN c.start OPERATOR(pg_catalog.>) m.window_start THEN 0::bigint
				ELSE m.used END AS used
) AS w;
COMMENT ON VIEW credits.pool_members IS
	'each member of each pool: its cap, and what it has used and has left in the present window';
GRANT SELECT ON credits.pool_members TO credits_admin, credits_auditor;

-- What is given back counts for when it was spent or reserved: of a capture
-- that is when its hold was made.
CREATE VIEW credits.pool_usage AS
SELECT p.name AS pool,
	   a.name AS account,
	   w.start AS window_start,
	   pg_catalog.sum(u.used)::bigint AS used,
	   pg_catalog.count(*) AS transactions
FROM (
	SELECT t.account_id, t.member_id,
		   OPERATOR(pg_catalog.-) t.amount AS used,
		   COALESCE(h.created_at, s.created_at, t.created_at) AS at
	FROM credits.transactions AS t
	LEFT JOIN credits.transactions AS s
		ON s.id OPERATOR(pg_catalog.=) t.target_id AND t.amount OPERATOR(pg_catalog.>) 0
	LEFT JOIN credits.transactions AS h
		ON h.id OPERATOR(pg_catalog.=) s.target_id AND s.kind OPERATOR(pg_catalog.=) 'capture'
	WHERE t.member_id IS NOT NULL AND t.amount OPERATOR(pg_catalog.<>) 0
) AS u
JOIN credits.accounts AS p ON p.id OPERATOR(pg_catalog.=) u.account_id
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) u.member_id
LEFT JOIN credits.members AS m
	ON m.pool_id OPERATOR(pg_catalog.=) u.account_id
	AND m.account_id OPERATOR(pg_catalog.=) u.member_id
CROSS JOIN LATERAL (
	SELECT CASE WHEN m.per OPERATOR(pg_catalog.=) 'lifetime' THEN '-infinity'::timestamptz
				ELSE pg_catalog.date_trunc(COALESCE(m.per, 'month'), u.at,
										   COALESCE(m.timezone, 'UTC')) END AS start
) AS w
GROUP BY p.name, a.name, w.start;
COMMENT ON VIEW credits.pool_usage IS
	'what each account has used of each pool, by the windows that its membership has now, months in UTC if it has none; from the log';
GRANT SELECT ON credits.pool_usage TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_pool_summary(
	pool text,
	account text,
	OUT cap bigint,
	OUT used bigint,
	OUT remaining bigint,
	OUT per text,
	OUT timezone text,
	OUT window_start timestamptz,
	OUT balance bigint)
LANGUAGE sql STABLE PARALLEL SAFE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	-- both names are looked up, so that an unknown one is refused
	SELECT m.cap, m.used, m.remaining, m.per, m.timezone, m.window_start,
		   CASE WHEN m.pool IS NOT NULL THEN (credits.settled(p.id)).balance END
	FROM (SELECT credits.account_id($1) AS id, credits.account_id($2) AS member_id OFFSET 0) AS p
	LEFT JOIN credits.pool_members AS m
		ON m.pool = $1 AND m.account = $2 AND p.member_id IS NOT NULL
$$;
COMMENT ON FUNCTION @extschema@.credits_pool_summary IS
	'what a member has used and has left of its cap in a pool, and the pool''s balance; nulls if it is no member';
REVOKE ALL ON FUNCTION @extschema@.credits_pool_summary FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_pool_summary TO credits_app, credits_auditor;

CREATE FUNCTION @extschema@.credits_add_member(
	pool text,
	account text,
	cap bigint DEFAULT NULL,
	per text DEFAULT 'month',
	timezone text DEFAULT 'UTC')
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_add_member IS
	'let an account, or another pool, spend from a pool up to a cap per window';
REVOKE ALL ON FUNCTION @extschema@.credits_add_member FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_add_member TO credits_admin;

CREATE FUNCTION @extschema@.credits_change_member(
	pool text,
	account text,
	cap bigint,
	per text DEFAULT 'month',
	timezone text DEFAULT 'UTC')
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_change_member IS
	'change a member''s cap; what it has used in the present window stays counted';
REVOKE ALL ON FUNCTION @extschema@.credits_change_member FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_change_member TO credits_admin;

CREATE FUNCTION @extschema@.credits_remove_member(pool text, account text)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_remove_member IS
	'let an account no longer spend from a pool; what it holds stays held';
REVOKE ALL ON FUNCTION @extschema@.credits_remove_member FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_remove_member TO credits_admin;
