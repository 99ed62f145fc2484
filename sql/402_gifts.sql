-- gifts: credits for the account that redeems a code, or for many accounts at once

CREATE TYPE credits.gift AS (
	code text,
	expires_at timestamptz,
	receipt credits.receipt
);
COMMENT ON TYPE credits.gift IS
	'what credits_create_gift returns: the code, until when it can be redeemed (NULL means forever), and the giver''s receipt';

-- A gift is shown as expired as soon as it is, even if its giver's account has not
-- been settled since.
CREATE VIEW credits.gifts AS
SELECT c.id AS gift_id,
	   c.code,
	   a.name AS account,
	   CASE WHEN h.status OPERATOR(pg_catalog.=) 'captured' THEN 'redeemed'
			WHEN h.status OPERATOR(pg_catalog.=) 'released' THEN 'cancelled'
			WHEN h.status OPERATOR(pg_catalog.=) 'open'
				AND h.expires_at OPERATOR(pg_catalog.<=) credits.now() THEN 'expired'
			ELSE h.status END AS status,
	   c.credits,
	   c.active_until AS expires_at,
	   c.message,
	   c.metadata,
	   c.transaction_id,
	   c.created_at,
	   b.name AS redeemed_by,
	   r.created_at AS redeemed_at
FROM credits.codes AS c
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) c.account_id
JOIN credits.hold_states AS h ON h.id OPERATOR(pg_catalog.=) c.transaction_id
LEFT JOIN credits.redemptions AS r ON r.code_id OPERATOR(pg_catalog.=) c.id
LEFT JOIN credits.accounts AS b ON b.id OPERATOR(pg_catalog.=) r.account_id
WHERE c.kind OPERATOR(pg_catalog.=) 'gift';
COMMENT ON VIEW credits.gifts IS
	'one row per gift that has a code: whose it is, its status now, and who has redeemed it';
GRANT SELECT ON credits.gifts TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_create_gift(
	from_account text,
	amount bigint,
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	message text DEFAULT NULL,
	expires_in interval DEFAULT NULL)
RETURNS credits.gift
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_create_gift IS
	'take credits from an account, and return a code with which anyone else can redeem them once';
REVOKE ALL ON FUNCTION @extschema@.credits_create_gift FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_create_gift TO credits_app;

CREATE FUNCTION @extschema@.credits_cancel_gift(
	code text,
	idempotency_key text DEFAULT NULL,
	reason text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	account text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_cancel_gift IS
	'return a gift that nobody has redeemed to its giver';
REVOKE ALL ON FUNCTION @extschema@.credits_cancel_gift FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_cancel_gift TO credits_app;

CREATE FUNCTION @extschema@.credits_gift_many(
	from_account text,
	to_accounts text[],
	amount bigint,
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	message text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_gift_many IS
	'give an amount of an account''s credits to each of many others, all or none; returns the giver''s receipt, with the total';
REVOKE ALL ON FUNCTION @extschema@.credits_gift_many FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_gift_many TO credits_app;

CREATE FUNCTION @extschema@.credits_gifts(
	account text,
	max_rows integer DEFAULT 50,
	before_id bigint DEFAULT NULL)
RETURNS TABLE (
	gift_id bigint,
	direction text,
	code text,
	status text,
	credits bigint,
	message text,
	giver text,
	redeemed_by text,
	expires_at timestamptz,
	created_at timestamptz,
	redeemed_at timestamptz,
	transaction_id bigint,
	metadata jsonb)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH a AS MATERIALIZED (
		SELECT credits.account_id($1) AS id, credits.max_rows($2) AS max_rows
	),
	page AS MATERIALIZED (
		(SELECT c.id, true AS sent, c.transaction_id
		 FROM credits.codes AS c
		 WHERE c.account_id = (SELECT a.id FROM a) AND c.kind = 'gift'
		   AND c.id < COALESCE($3, 9223372036854775807)
		 ORDER BY c.id DESC
		 LIMIT (SELECT a.max_rows FROM a))
		UNION ALL
		(SELECT r.code_id, false, r.transaction_id
		 FROM credits.redemptions AS r
		 WHERE r.account_id = (SELECT a.id FROM a) AND r.kind = 'gift'
		   AND r.code_id < COALESCE($3, 9223372036854775807)
		 ORDER BY r.code_id DESC
		 LIMIT (SELECT a.max_rows FROM a))
		ORDER BY 1 DESC
		LIMIT (SELECT a.max_rows FROM a)
	)
	SELECT g.gift_id, CASE WHEN p.sent THEN 'sent' ELSE 'received' END,
		   g.code, g.status, g.credits, g.message, g.account, g.redeemed_by,
		   NULLIF(g.expires_at, 'infinity'), g.created_at, g.redeemed_at, p.transaction_id,
		   CASE WHEN p.sent THEN g.metadata END
	FROM page AS p JOIN credits.gifts AS g ON g.gift_id = p.id
	ORDER BY g.gift_id DESC
$$;
COMMENT ON FUNCTION @extschema@.credits_gifts IS
	'gifts with a code that an account has sent or received, newest first; page on with before_id';
REVOKE ALL ON FUNCTION @extschema@.credits_gifts FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_gifts TO credits_app, credits_auditor;
