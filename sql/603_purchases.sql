-- purchases: credits that are paid for, and money that is paid back

CREATE SEQUENCE credits.purchases_id_seq;

-- The account's row lock guards its purchases.  A payment that is only recorded,
-- such as that of a subscription's invoice, has no computation and no grants.
CREATE TABLE credits.purchases (
	id bigint NOT NULL,
	account_id bigint NOT NULL,
	reference text COLLATE "C" NOT NULL,
	package text COLLATE "C",
	credits bigint NOT NULL,
	promotion text COLLATE "C",
	promotion_id bigint,
	price numeric NOT NULL,
	currency text NOT NULL,
	quote jsonb,
	status text NOT NULL,
	payment_reference text COLLATE "C",
	money numeric,
	grant_ids bigint[],
	transaction_id bigint,
	problem text,
	reason text,
	idempotency_key text COLLATE "C",
	request bigint,
	metadata jsonb,
	created_at timestamptz NOT NULL,
	expires_at timestamptz NOT NULL,
	completed_at timestamptz,
	role text NOT NULL,
	CONSTRAINT purchases_not_negative
		CHECK (credits >= 0 AND (credits > 0 OR quote IS NULL) AND price >= 0 AND price < 'Infinity'
			AND (money IS NULL OR money >= 0 AND money < 'Infinity')),
	CONSTRAINT purchases_completed
		CHECK ((status = 'completed' AND credits > 0) = (transaction_id IS NOT NULL)
			AND (status = 'completed') = (money IS NOT NULL)
			AND (status = 'completed') = (grant_ids IS NOT NULL)),
	CONSTRAINT purchases_status
		CHECK (status IN ('pending', 'completed', 'failed', 'expired'))
);

ALTER SEQUENCE credits.purchases_id_seq OWNED BY credits.purchases.id;
ALTER TABLE credits.purchases ADD CONSTRAINT purchases_pkey PRIMARY KEY (id);
ALTER TABLE credits.purchases ADD CONSTRAINT purchases_reference_key UNIQUE (reference);
CREATE INDEX purchases_account_id_idx ON credits.purchases (account_id, id);
CREATE UNIQUE INDEX purchases_idempotency_key_idx ON credits.purchases
	(account_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
-- one payment pays for one purchase
CREATE UNIQUE INDEX purchases_payment_reference_idx ON credits.purchases
	(payment_reference) WHERE payment_reference IS NOT NULL;
CREATE INDEX purchases_expires_at_idx ON credits.purchases (expires_at, id)
	WHERE status = 'pending';

COMMENT ON TABLE credits.purchases IS
	'one row per purchase, including pending ones, and per paid invoice of a subscription';
COMMENT ON COLUMN credits.purchases.reference IS
	'what a payment provider hands back: purchase_ID, or the payment reference of a payment that is only recorded';
COMMENT ON COLUMN credits.purchases.package IS 'NULL if an amount of credits is bought';
COMMENT ON COLUMN credits.purchases.credits IS 'credits that are paid for, without those that are free; 0 for an invoice, whose credits follow from its lines';
COMMENT ON COLUMN credits.purchases.quote IS
	'how the price was computed, and the grants that are given';
COMMENT ON COLUMN credits.purchases.status IS
	'pending, completed, failed or expired; a purchase that failed or expired is still completed if it is paid later';
COMMENT ON COLUMN credits.purchases.money IS 'what was paid, in currency; at least the price';
COMMENT ON COLUMN credits.purchases.grant_ids IS 'the grants that it gave, beginning with the one that was paid for';
COMMENT ON COLUMN credits.purchases.transaction_id IS 'the transaction that gave that grant';
COMMENT ON COLUMN credits.purchases.problem IS
	'why the last payment that did not complete it did not: the kind of the event';
COMMENT ON COLUMN credits.purchases.reason IS 'the caller''s reason for its failure';
COMMENT ON COLUMN credits.purchases.request IS 'fingerprint of the request, to distinguish a retry from a reused key';
COMMENT ON COLUMN credits.purchases.expires_at IS 'when it expires unless it is paid';
COMMENT ON COLUMN credits.purchases.role IS 'session_user that started it';

SELECT pg_catalog.pg_extension_config_dump('credits.purchases', '');
SELECT pg_catalog.pg_extension_config_dump('credits.purchases_id_seq', '');
GRANT SELECT ON credits.purchases, credits.purchases_id_seq
	TO credits_admin, credits_auditor;

CREATE TRIGGER purchases_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.purchases
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.purchases ENABLE ALWAYS TRIGGER purchases_refuse_change;

-- Money that was paid back, by the payment provider's reference.  All rows of a
-- purchase together determine how much of its grants is claimed back.
CREATE TABLE credits.reversals (
	purchase_id bigint NOT NULL,
	reference text COLLATE "C" NOT NULL,
	kind text NOT NULL,
	status text NOT NULL,
	money numeric NOT NULL,
	credits bigint NOT NULL,
	reason text,
	created_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT reversals_kind CHECK (kind IN ('refund', 'chargeback')),
	CONSTRAINT reversals_status
		CHECK (status IN ('made', 'withdrawn', 'open', 'won', 'lost')),
	CONSTRAINT reversals_not_negative
		CHECK (money >= 0 AND money < 'Infinity' AND credits >= 0)
);

ALTER TABLE credits.reversals ADD CONSTRAINT reversals_pkey PRIMARY KEY (purchase_id, reference);

COMMENT ON TABLE credits.reversals IS
	'refunds and chargebacks of purchases: how much of the money was paid back under each reference';
COMMENT ON COLUMN credits.reversals.kind IS 'refund or chargeback';
COMMENT ON COLUMN credits.reversals.status IS
	'made or withdrawn for a refund; open, won or lost for a chargeback';
COMMENT ON COLUMN credits.reversals.money IS
	'how much was paid back, in the purchase''s currency, unless it was withdrawn or won';
COMMENT ON COLUMN credits.reversals.credits IS
	'for a refund that was specified in credits, how many of those paid for; then money is 0';
COMMENT ON COLUMN credits.reversals.role IS 'session_user that recorded it';

SELECT pg_catalog.pg_extension_config_dump('credits.reversals', '');
GRANT SELECT ON credits.reversals TO credits_admin, credits_auditor;

CREATE TRIGGER reversals_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.reversals
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.reversals ENABLE ALWAYS TRIGGER reversals_refuse_change;

CREATE TYPE credits.checkout AS (
	purchase_id bigint,
	account text,
	status text,
	reference text,
	credits bigint,
	price numeric,
	currency text,
	amount_minor bigint,
	stripe_amount bigint,
	expires_at timestamptz,
	metadata jsonb,
	replayed boolean
);
COMMENT ON TYPE credits.checkout IS
	'what credits_start_purchase returns: what a payment provider''s checkout needs';
COMMENT ON COLUMN credits.checkout.amount_minor IS 'the price in minor units of ISO 4217';
COMMENT ON COLUMN credits.checkout.stripe_amount IS
	'the price as Stripe''s API takes it, which for ISK, MGA and UGX is another number; NULL if it takes no such amount';

CREATE FUNCTION @extschema@.credits_start_purchase(
	account text,
	package text DEFAULT NULL,
	amount bigint DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	metadata jsonb DEFAULT NULL,
	promotion text DEFAULT NULL,
	currency text DEFAULT NULL)
RETURNS credits.checkout
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_start_purchase IS
	'start the purchase of a package or an amount of credits, at the current price; nothing is given before it is paid';
REVOKE ALL ON FUNCTION @extschema@.credits_start_purchase FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_start_purchase TO credits_app;

CREATE TYPE credits.payment AS (
	outcome text,
	purchase_id bigint,
	receipt credits.receipt
);
COMMENT ON TYPE credits.payment IS
	'the outcome of a payment, and the receipt of the credits if they are delivered';

CREATE FUNCTION @extschema@.credits_complete_purchase(
	purchase_id bigint,
	payment_reference text,
	money numeric,
	currency text DEFAULT NULL)
RETURNS credits.payment
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_complete_purchase IS
	'deliver a purchase that was paid, once; a payment that does not fit is an event, not an error';
REVOKE ALL ON FUNCTION @extschema@.credits_complete_purchase FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_complete_purchase TO credits_admin;

CREATE FUNCTION @extschema@.credits_fail_purchase(purchase_id bigint, reason text DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_fail_purchase IS
	'record that a pending purchase was not paid; false if it is not pending';
REVOKE ALL ON FUNCTION @extschema@.credits_fail_purchase FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_fail_purchase TO credits_admin;

CREATE FUNCTION @extschema@.credits_expire_purchase(purchase_id bigint)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_expire_purchase IS
	'record that the checkout of a pending purchase has ended; false if it is not pending';
REVOKE ALL ON FUNCTION @extschema@.credits_expire_purchase FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_expire_purchase TO credits_admin;

CREATE TYPE credits.clawback AS (
	purchase_id bigint,
	account text,
	reference text,
	status text,
	money numeric,
	credits bigint,
	balance bigint,
	debt bigint,
	replayed boolean
);
COMMENT ON TYPE credits.clawback IS
	'what refunds and chargebacks of purchases return: what this call took back, negative if it gave back, and what the account has and owes';

CREATE FUNCTION @extschema@.credits_refund_purchase(
	purchase_id bigint,
	money numeric DEFAULT NULL,
	credits bigint DEFAULT NULL,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL)
RETURNS credits.clawback
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_refund_purchase IS
	'take back the credits of a purchase whose money is paid back, all of it by default; what is already spent becomes debt';
REVOKE ALL ON FUNCTION @extschema@.credits_refund_purchase FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_refund_purchase TO credits_admin;

CREATE VIEW credits.purchase_list AS
SELECT p.id AS purchase_id,
	   a.name AS account,
	   p.reference,
	   p.package,
	   p.credits,
	   p.price,
	   p.currency,
	   p.promotion,
	   CASE WHEN p.status OPERATOR(pg_catalog.=) 'pending'
			 AND p.expires_at OPERATOR(pg_catalog.<=) credits.now() THEN 'expired'
		ELSE p.status END AS status,
	   p.money,
	   r.money_back,
	   r.chargeback_open,
	   c.claimed,
	   c.owed,
	   p.payment_reference,
	   p.created_at,
	   p.completed_at,
	   p.expires_at
FROM credits.purchases AS p
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) p.account_id
CROSS JOIN LATERAL (
	SELECT COALESCE(pg_catalog.sum(v.money)
				FILTER (WHERE v.status OPERATOR(pg_catalog.=) ANY (ARRAY['made', 'open', 'lost'])), 0) AS money_back,
		   COALESCE(pg_catalog.bool_or(v.status OPERATOR(pg_catalog.=) 'open'), false) AS chargeback_open
	FROM credits.reversals AS v
	WHERE v.purchase_id OPERATOR(pg_catalog.=) p.id) AS r
CROSS JOIN LATERAL (
	SELECT COALESCE(pg_catalog.sum(d.claimed), 0)::bigint AS claimed,
		   COALESCE(pg_catalog.sum(d.owed), 0)::bigint AS owed
	FROM credits.debts AS d
	WHERE d.grant_id OPERATOR(pg_catalog.=) ANY (p.grant_ids)) AS c;
COMMENT ON VIEW credits.purchase_list IS
	'purchases, how much of the money was paid back, and how many credits are claimed back and still owed for it';
GRANT SELECT ON credits.purchase_list TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_purchases(
	account text,
	max_rows integer DEFAULT 50,
	before_id bigint DEFAULT NULL)
RETURNS TABLE (
	purchase_id bigint,
	reference text,
	package text,
	credits bigint,
	price numeric,
	currency text,
	promotion text,
	status text,
	money numeric,
	money_back numeric,
	chargeback_open boolean,
	claimed bigint,
	owed bigint,
	payment_reference text,
	created_at timestamptz,
	completed_at timestamptz,
	expires_at timestamptz,
	metadata jsonb)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 50
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	WITH page AS MATERIALIZED (
		SELECT p.id, p.metadata
		FROM credits.purchases AS p
		WHERE p.account_id = (SELECT credits.account_id($1))
		  AND p.id < COALESCE($3, 9223372036854775807)
		ORDER BY p.id DESC
		LIMIT credits.max_rows($2)
	)
	SELECT l.purchase_id, l.reference, l.package, l.credits, l.price, l.currency, l.promotion, l.status,
		   l.money, l.money_back, l.chargeback_open, l.claimed, l.owed, l.payment_reference,
		   l.created_at, l.completed_at, l.expires_at, p.metadata
	FROM page AS p JOIN credits.purchase_list AS l ON l.purchase_id = p.id
	ORDER BY l.purchase_id DESC
$$;
COMMENT ON FUNCTION @extschema@.credits_purchases IS
	'purchases of an account, newest first, with what was paid back and what is still owed for it; page on with before_id';
REVOKE ALL ON FUNCTION @extschema@.credits_purchases FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_purchases TO credits_app, credits_auditor;
