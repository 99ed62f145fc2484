-- referrals: credits for an account that brings another

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
	'one row per referral code redeemed: who brought whom, and what each got';
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
	'one row per account that has a referral code: how many it has brought, and what it got for them';
GRANT SELECT ON credits.referral_counts TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_referral_code(account text)
RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_referral_code IS
	'the referral code of an account, made when it is first asked for, and always the same';
REVOKE ALL ON FUNCTION @extschema@.credits_referral_code FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_referral_code TO credits_app;
