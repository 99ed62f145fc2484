-- purchases: credits that are paid for, and money that goes back

CREATE SEQUENCE credits.purchases_id_seq;

-- The lock of the account guards its purchases.  What is only recorded, such
-- as a paid period's grants, has no computation.
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
	paid numeric,
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
		CHECK (credits > 0 AND price >= 0 AND price < 'Infinity'
			AND (paid IS NULL OR paid >= 0 AND paid < 'Infinity')),
	CONSTRAINT purchases_completed
		CHECK ((status = 'completed') = (transaction_id IS NOT NULL)
			AND (status = 'completed') = (paid IS NOT NULL)
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
	'one row per purchase, pending ones included; and per paid period of a subscription';
COMMENT ON COLUMN credits.purchases.reference IS
	'what a payment provider is to hand back: purchase_ID, or the payment reference of what is only recorded';
COMMENT ON COLUMN credits.purchases.package IS 'NULL if an amount of credits is bought';
COMMENT ON COLUMN credits.purchases.credits IS 'credits that are paid for, without what is free on top';
COMMENT ON COLUMN credits.purchases.quote IS
	'how the price was computed, and the grants that are given';
COMMENT ON COLUMN credits.purchases.status IS
	'pending, completed, failed or expired; one that failed or expired is completed all the same if it is paid later';
COMMENT ON COLUMN credits.purchases.paid IS 'what was paid, in currency; at least the price';
COMMENT ON COLUMN credits.purchases.grant_ids IS 'the grants that it gave, that of what is paid for first';
COMMENT ON COLUMN credits.purchases.transaction_id IS 'the transaction that gave that grant';
COMMENT ON COLUMN credits.purchases.problem IS
	'why the last payment that did not complete it did not, as the event of that kind says';
COMMENT ON COLUMN credits.purchases.reason IS 'why it failed, as the caller said';
COMMENT ON COLUMN credits.purchases.request IS 'fingerprint of the request, to tell a retry from a reused key';
COMMENT ON COLUMN credits.purchases.expires_at IS 'when it expires unless it is paid';
COMMENT ON COLUMN credits.purchases.role IS 'session_user who started it';

SELECT pg_catalog.pg_extension_config_dump('credits.purchases', '');
SELECT pg_catalog.pg_extension_config_dump('credits.purchases_id_seq', '');
GRANT SELECT ON credits.purchases, credits.purchases_id_seq
	TO credits_admin, credits_auditor;

CREATE TRIGGER purchases_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.purchases
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.purchases ENABLE ALWAYS TRIGGER purchases_refuse_change;

-- Money that went back, by what the provider calls it; together these decide
-- how much of the purchase's grants is claimed back.
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
	CONSTRAINT reversals_kind CHECK (kind IN ('refund', 'dispute')),
	CONSTRAINT reversals_status
		CHECK (status IN ('made', 'withdrawn', 'open', 'won', 'lost')),
	CONSTRAINT reversals_not_negative
		CHECK (money >= 0 AND money < 'Infinity' AND credits >= 0)
);

ALTER TABLE credits.reversals ADD CONSTRAINT reversals_pkey PRIMARY KEY (purchase_id, reference);

COMMENT ON TABLE credits.reversals IS
	'refunds and disputes of purchases: how much of the money went back under each reference';
COMMENT ON COLUMN credits.reversals.kind IS 'refund or dispute';
COMMENT ON COLUMN credits.reversals.status IS
	'of a refund made or withdrawn, of a dispute open, won or lost';
COMMENT ON COLUMN credits.reversals.money IS
	'how much has gone back, in the purchase''s currency, unless it was withdrawn or won';
COMMENT ON COLUMN credits.reversals.credits IS
	'of a refund that was said in credits, how many of those paid for; then money is 0';
COMMENT ON COLUMN credits.reversals.role IS 'session_user who made it known';

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
	expires_at timestamptz,
	metadata jsonb,
	replayed boolean
);
COMMENT ON TYPE credits.checkout IS
	'what credits_purchase_start returns: what a payment provider''s checkout needs';

CREATE FUNCTION @extschema@.credits_purchase_start(
	account text,
	package text DEFAULT NULL,
	amount bigint DEFAULT NULL,
	promotion text DEFAULT NULL,
	idempotency_key text DEFAULT NULL,
	currency text DEFAULT NULL,
	metadata jsonb DEFAULT NULL)
RETURNS credits.checkout
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_purchase_start IS
	'start to buy a package or an amount of credits, at the price of now; nothing is given before it is paid';
REVOKE ALL ON FUNCTION @extschema@.credits_purchase_start FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_purchase_start TO credits_app;

CREATE TYPE credits.payment AS (
	outcome text,
	purchase_id bigint,
	receipt credits.receipt
);
COMMENT ON TYPE credits.payment IS
	'what came of a payment, and the receipt of the credits if they are delivered';

CREATE FUNCTION @extschema@.credits_purchase_complete(
	purchase bigint,
	payment_reference text,
	paid numeric,
	currency text DEFAULT NULL)
RETURNS credits.payment
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_purchase_complete IS
	'deliver a purchase that was paid, once; a payment that does not fit is an event, not an error';
REVOKE ALL ON FUNCTION @extschema@.credits_purchase_complete FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_purchase_complete TO credits_admin;

CREATE FUNCTION @extschema@.credits_purchase_fail(purchase bigint, reason text DEFAULT NULL)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_purchase_fail IS
	'note that a pending purchase was not paid; false if it is not pending';
REVOKE ALL ON FUNCTION @extschema@.credits_purchase_fail FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_purchase_fail TO credits_admin;

CREATE FUNCTION @extschema@.credits_purchase_expire(purchase bigint)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_purchase_expire IS
	'note that the checkout of a pending purchase is over; false if it is not pending';
REVOKE ALL ON FUNCTION @extschema@.credits_purchase_expire FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_purchase_expire TO credits_admin;

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
	'what refunds and disputes of purchases return: what this call took back, less than nothing if it gave back, and what the account has and owes';

CREATE FUNCTION @extschema@.credits_purchase_refund(
	purchase bigint,
	money numeric DEFAULT NULL,
	credits bigint DEFAULT NULL,
	reference text DEFAULT NULL,
	reason text DEFAULT NULL)
RETURNS credits.clawback
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_purchase_refund IS
	'take back the credits of a purchase of which money is paid back, all of it by default; what is spent becomes debt';
REVOKE ALL ON FUNCTION @extschema@.credits_purchase_refund FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_purchase_refund TO credits_admin;

CREATE FUNCTION @extschema@.credits_purchase_dispute(
	purchase bigint,
	reference text,
	money numeric DEFAULT NULL,
	reason text DEFAULT NULL)
RETURNS credits.clawback
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_purchase_dispute IS
	'take back the credits of a purchase whose payment the buyer''s bank disputes; what is spent becomes debt';
REVOKE ALL ON FUNCTION @extschema@.credits_purchase_dispute FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_purchase_dispute TO credits_admin;

CREATE FUNCTION @extschema@.credits_purchase_dispute_won(purchase bigint, reference text)
RETURNS credits.clawback
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_purchase_dispute_won IS
	'give back exactly what a dispute took';
REVOKE ALL ON FUNCTION @extschema@.credits_purchase_dispute_won FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_purchase_dispute_won TO credits_admin;

CREATE FUNCTION @extschema@.credits_purchase_dispute_lost(purchase bigint, reference text)
RETURNS credits.clawback
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_purchase_dispute_lost IS
	'note that a dispute is over and the money gone: what it took stays taken';
REVOKE ALL ON FUNCTION @extschema@.credits_purchase_dispute_lost FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_purchase_dispute_lost TO credits_admin;

CREATE VIEW credits.purchase_list AS
SELECT p.id,
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
	   p.paid,
	   r.money AS reversed,
	   r.disputed,
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
				FILTER (WHERE v.status OPERATOR(pg_catalog.=) ANY (ARRAY['made', 'open', 'lost'])), 0) AS money,
		   COALESCE(pg_catalog.bool_or(v.status OPERATOR(pg_catalog.=) 'open'), false) AS disputed
	FROM credits.reversals AS v
	WHERE v.purchase_id OPERATOR(pg_catalog.=) p.id) AS r
CROSS JOIN LATERAL (
	SELECT COALESCE(pg_catalog.sum(d.claimed), 0)::bigint AS claimed,
		   COALESCE(pg_catalog.sum(d.owed), 0)::bigint AS owed
	FROM credits.debts AS d
	WHERE d.grant_id OPERATOR(pg_catalog.=) ANY (p.grant_ids)) AS c;
COMMENT ON VIEW credits.purchase_list IS
	'purchases, how much of the money went back, and how many credits are claimed back and still owed for it';
GRANT SELECT ON credits.purchase_list TO credits_admin, credits_auditor;
