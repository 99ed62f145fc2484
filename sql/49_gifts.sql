-- gifts: credits for whoever has the code, or for many accounts at once

CREATE TYPE credits.gift AS (
	code text,
	expires_at timestamptz,
	receipt credits.receipt
);
COMMENT ON TYPE credits.gift IS
	'what credits_create_gift returns: the code, until when it can be redeemed (NULL: without end), and the giver''s receipt';

-- A gift whose time has run out has gone back, whether or not its giver's
-- account has been settled since.
CREATE VIEW credits.gifts AS
SELECT c.id,
	   c.code,
	   a.name AS account,
	   CASE WHEN h.status OPERATOR(pg_catalog.=) 'captured' THEN 'redeemed'
			WHEN h.status OPERATOR(pg_catalog.=) 'released' THEN 'cancelled'
			WHEN h.status OPERATOR(pg_catalog.=) 'open'
				AND h.expires_at OPERATOR(pg_catalog.<=) credits.now() THEN 'expired'
			ELSE h.status END AS status,
	   c.credits,
	   c.expires_at,
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
	expires_at timestamptz DEFAULT NULL,
	message text DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.gift
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_create_gift IS
	'take credits from an account now, and return a code with which anyone else can redeem them once';
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
	'give a gift that nobody has redeemed back to its giver';
REVOKE ALL ON FUNCTION @extschema@.credits_cancel_gift FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_cancel_gift TO credits_app;

CREATE FUNCTION @extschema@.credits_gift_many(
	from_account text,
	to_accounts text[],
	amount bigint,
	idempotency_key text DEFAULT NULL,
	message text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_gift_many IS
	'give an amount of an account''s credits to each of many others, all or none; the receipt is of the giver, with the total';
REVOKE ALL ON FUNCTION @extschema@.credits_gift_many FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_gift_many TO credits_app;
