-- referrals: credits for accounts that refer others, and for those referred

CREATE VIEW credits.referrals AS
SELECT r.transaction_id,
	   a.name AS referrer,
	   b.name AS referee,
	   g.amount AS referrer_credits,
	   e.amount AS referee_credits,
	   r.created_at
FROM credits.redemptions AS r
JOIN credits.codes AS c ON c.id OPERATOR(pg_catalog.=) r.code_id
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) c.account_id
JOIN credits.accounts AS b ON b.id OPERATOR(pg_catalog.=) r.account_id
JOIN credits.transactions AS e ON e.id OPERATOR(pg_catalog.=) r.transaction_id
JOIN credits.transactions AS g ON g.target_id OPERATOR(pg_catalog.=) e.id
	AND g.account_id OPERATOR(pg_catalog.=) c.account_id
	AND g.kind OPERATOR(pg_catalog.=) 'referral'
WHERE r.kind OPERATOR(pg_catalog.=) 'referral';
COMMENT ON VIEW credits.referrals IS
	'one row per referral code redeemed: who referred whom, and what each got';
GRANT SELECT ON credits.referrals TO credits_admin, credits_auditor;

CREATE VIEW credits.referral_counts AS
SELECT a.name AS account,
	   c.code,
	   pg_catalog.count(r.transaction_id) AS referrals,
	   COALESCE(pg_catalog.sum(g.amount), 0::numeric)::bigint AS credits,
	   pg_catalog.max(r.created_at) AS last_at
FROM credits.codes AS c
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) c.account_id
LEFT JOIN credits.redemptions AS r ON r.code_id OPERATOR(pg_catalog.=) c.id
LEFT JOIN credits.transactions AS g ON g.target_id OPERATOR(pg_catalog.=) r.transaction_id
	AND g.account_id OPERATOR(pg_catalog.=) c.account_id
	AND g.kind OPERATOR(pg_catalog.=) 'referral'
WHERE c.kind OPERATOR(pg_catalog.=) 'referral'
GROUP BY c.id, a.id;
COMMENT ON VIEW credits.referral_counts IS
	'one row per account that has a referral code: how many accounts it has referred, and what it got for them';
GRANT SELECT ON credits.referral_counts TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_referral_code(account text)
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_referral_code IS
	'the referral code of an account, created when it is first requested, and always the same';
REVOKE ALL ON FUNCTION @extschema@.credits_referral_code FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_referral_code TO credits_app;

CREATE FUNCTION @extschema@.credits_referrals(
	account text,
	max_rows integer DEFAULT 50,
	before_id bigint DEFAULT NULL)
RETURNS TABLE (
	transaction_id bigint,
	referrer text,
	referee text,
	referrer_credits bigint,
	referee_credits bigint,
	created_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH a AS MATERIALIZED (
		SELECT credits.account_id($1) AS id, credits.max_rows($2) AS max_rows
	),
	page AS MATERIALIZED (
		(SELECT r.transaction_id
		 FROM credits.redemptions AS r
		 WHERE r.code_id = (
				SELECT c.id FROM credits.codes AS c
				WHERE c.account_id = (SELECT a.id FROM a) AND c.kind = 'referral')
		   AND r.kind = 'referral'
		   AND r.transaction_id < COALESCE($3, 9223372036854775807)
		 ORDER BY r.transaction_id DESC
		 LIMIT (SELECT a.max_rows FROM a))
		UNION ALL
		SELECT r.transaction_id
		FROM credits.redemptions AS r
		WHERE r.account_id = (SELECT a.id FROM a) AND r.kind = 'referral'
		  AND r.transaction_id < COALESCE($3, 9223372036854775807)
		ORDER BY 1 DESC
		LIMIT (SELECT a.max_rows FROM a)
	)
	SELECT f.transaction_id, f.referrer, f.referee, f.referrer_credits, f.referee_credits,
		   f.created_at
	FROM page AS p JOIN credits.referrals AS f ON f.transaction_id = p.transaction_id
	ORDER BY f.transaction_id DESC
$$;
COMMENT ON FUNCTION @extschema@.credits_referrals IS
	'the accounts that an account has referred, and the one that has referred it, newest first; page on with before_id';
REVOKE ALL ON FUNCTION @extschema@.credits_referrals FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_referrals TO credits_app, credits_auditor;
