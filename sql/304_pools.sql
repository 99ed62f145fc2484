-- pools: accounts whose credits their members can spend, up to a cap

-- used and window_start change with each spend and must not be in an index
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
COMMENT ON COLUMN credits.members.timezone IS 'time zone in which days, weeks and months begin';
COMMENT ON COLUMN credits.members.window_start IS 'beginning of the window that used refers to';
COMMENT ON COLUMN credits.members.used IS
	'spent or held since then, less what was given back';
COMMENT ON COLUMN credits.members.since_id IS
	'the pool''s transaction at which counting began: what was spent before is not in used';

SELECT pg_catalog.pg_extension_config_dump('credits.members', '');
GRANT SELECT ON credits.members TO credits_admin, credits_auditor;

CREATE TRIGGER members_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.members
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change();
ALTER TABLE credits.members ENABLE ALWAYS TRIGGER members_refuse_change;

-- What was used in a past window does not count, even if the member has not spent
-- anything since.  Nor does a hold that has timed out, even if its account has not
-- been settled since.
CREATE VIEW credits.pool_members AS
SELECT p.name AS pool,
	   a.name AS account,
	   m.cap,
	   m.per,
	   m.timezone,
	   w.start AS window_start,
	   u.used,
	   CASE WHEN m.cap IS NOT NULL
			THEN GREATEST(m.cap OPERATOR(pg_catalog.-) u.used, 0::bigint) END AS remaining,
	   m.created_at
FROM credits.members AS m
JOIN credits.accounts AS p ON p.id OPERATOR(pg_catalog.=) m.pool_id
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) m.account_id
CROSS JOIN LATERAL (
	SELECT CASE WHEN m.per OPERATOR(pg_catalog.=) 'lifetime' THEN '-infinity'::timestamptz
				ELSE pg_catalog.date_trunc(m.per, credits.now(), m.timezone) END AS start
) AS t
-- if clocks are set back at midnight, the window begins at the first midnight
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
) AS w
-- the way that a spend has gone: from the account that spent, through the pools
-- in between, to the one that paid
CROSS JOIN LATERAL (
	WITH RECURSIVE payer (id) AS (
		SELECT m.pool_id
		UNION
		SELECT o.pool_id
		FROM payer AS b
		JOIN credits.members AS o ON o.account_id OPERATOR(pg_catalog.=) b.id
	)
	SELECT GREATEST(w.used OPERATOR(pg_catalog.-) COALESCE(pg_catalog.sum(
				h.reserved OPERATOR(pg_catalog.-) h.captured
				OPERATOR(pg_catalog.-) h.released), 0::numeric), 0::numeric)::bigint AS used
	FROM payer AS b
	JOIN credits.hold_states AS h ON h.account_id OPERATOR(pg_catalog.=) b.id
		AND h.status OPERATOR(pg_catalog.=) 'open'
		AND h.expires_at OPERATOR(pg_catalog.<=) credits.now()
		AND h.created_at OPERATOR(pg_catalog.>=) w.start
		AND h.id OPERATOR(pg_catalog.>) m.since_id
	JOIN credits.transactions AS t ON t.id OPERATOR(pg_catalog.=) h.id
	CROSS JOIN LATERAL (
		SELECT t.member_id OPERATOR(pg_catalog.||) ARRAY(
				SELECT v.id::bigint
				FROM pg_catalog.jsonb_array_elements_text(
						t.terms OPERATOR(pg_catalog.->) 'via') WITH ORDINALITY AS v (id, n)
				ORDER BY v.n
			) OPERATOR(pg_catalog.||) t.account_id AS ids
	) AS way
	WHERE way.ids[pg_catalog.array_position(way.ids, m.account_id)
				  OPERATOR(pg_catalog.+) 1] OPERATOR(pg_catalog.=) m.pool_id
) AS u;
COMMENT ON VIEW credits.pool_members IS
	'each member of each pool: its cap, and what it has used and has left in the current window';
GRANT SELECT ON credits.pool_members TO credits_admin, credits_auditor;

-- What is given back is subtracted at the time when it was spent or reserved; for
-- a capture, that is when its hold was made.
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
	'what each account has used of each pool, from the log; by the windows of its current membership, or months in UTC';
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
	SELECT m.cap, m.used, m.remaining, m.per, m.timezone, NULLIF(m.window_start, '-infinity'),
		   CASE WHEN m.pool IS NOT NULL THEN (credits.settled(p.id)).balance END
	FROM (SELECT credits.account_id($1) AS id, credits.account_id($2) AS member_id OFFSET 0) AS p
	LEFT JOIN credits.pool_members AS m
		ON m.pool = $1 AND m.account = $2 AND p.member_id IS NOT NULL
$$;
COMMENT ON FUNCTION @extschema@.credits_pool_summary IS
	'what a member has used and has left of its cap in a pool, and the pool''s balance; NULLs if it is not a member';
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
	cap bigint DEFAULT NULL,
	per text DEFAULT NULL,
	timezone text DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_change_member IS
	'change a member''s cap; what is left out stays, and what it has used in the current window stays counted';
REVOKE ALL ON FUNCTION @extschema@.credits_change_member FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_change_member TO credits_admin;

CREATE FUNCTION @extschema@.credits_remove_member(pool text, account text)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_remove_member IS
	'end an account''s membership in a pool; what it holds stays held';
REVOKE ALL ON FUNCTION @extschema@.credits_remove_member FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_remove_member TO credits_admin;

CREATE FUNCTION @extschema@.credits_pools(
	account text)
RETURNS TABLE (
	pool text,
	unit text,
	status text,
	balance bigint,
	cap bigint,
	per text,
	timezone text,
	window_start timestamptz,
	used bigint,
	remaining bigint,
	member_since timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 5
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT m.pool, p.unit, p.status, (credits.settled(p.id)).balance,
		   m.cap, m.per, m.timezone, NULLIF(m.window_start, '-infinity'), m.used, m.remaining,
		   m.created_at
	FROM credits.pool_members AS m
	JOIN credits.accounts AS p ON p.name = m.pool
	-- an unknown account is refused
	WHERE credits.account_id($1) IS NOT NULL AND m.account = $1
	ORDER BY m.pool
$$;
COMMENT ON FUNCTION @extschema@.credits_pools IS
	'the pools that an account is a direct member of: what each has, and what the member has used and has left of its cap';
REVOKE ALL ON FUNCTION @extschema@.credits_pools FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_pools TO credits_app, credits_auditor;

CREATE FUNCTION @extschema@.credits_pool_members(
	pool text,
	max_rows integer DEFAULT 50,
	after_account text DEFAULT NULL)
RETURNS TABLE (
	account text,
	cap bigint,
	per text,
	timezone text,
	window_start timestamptz,
	used bigint,
	remaining bigint,
	member_since timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH page AS MATERIALIZED (
		SELECT m.pool_id, m.account_id
		FROM credits.members AS m
		WHERE m.pool_id = (SELECT credits.account_id($1))
		  AND m.account_id > (SELECT CASE WHEN $3 IS NULL THEN 0 ELSE credits.account_id($3) END)
		ORDER BY m.account_id
		LIMIT credits.max_rows($2)
	)
	SELECT m.account, m.cap, m.per, m.timezone, NULLIF(m.window_start, '-infinity'),
		   m.used, m.remaining, m.created_at
	FROM page AS p
	JOIN credits.accounts AS a ON a.id = p.account_id
	JOIN credits.pool_members AS m ON m.pool = $1 AND m.account = a.name
	ORDER BY p.account_id
$$;
COMMENT ON FUNCTION @extschema@.credits_pool_members IS
	'the members of a pool, and what each has used and has left of its cap, in the order in which their accounts were opened; page on with after_account';
REVOKE ALL ON FUNCTION @extschema@.credits_pool_members FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_pool_members TO credits_app, credits_auditor;
