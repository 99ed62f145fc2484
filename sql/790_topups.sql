-- topups: buying credits when the balance falls below a threshold

-- The account's row lock guards its rule and its requests.
CREATE TABLE credits.topups (
	account_id bigint NOT NULL,
	below bigint NOT NULL,
	target bigint,
	package text COLLATE "C",
	currency text COLLATE "C",
	max_requests bigint NOT NULL,
	max_money numeric,
	period interval NOT NULL,
	resumed_id bigint NOT NULL,
	due_at timestamptz,
	state text COLLATE "C" NOT NULL,
	message text,
	set_at timestamptz NOT NULL,
	role text COLLATE "C" NOT NULL,
	CONSTRAINT topups_amounts
		CHECK (below > 0 AND (target IS NULL OR target > below) AND max_requests > 0
			AND (max_money IS NULL OR max_money > 0 AND max_money < 'Infinity')),
	CONSTRAINT topups_choice CHECK ((target IS NULL) <> (package IS NULL)),
	CONSTRAINT topups_state
		CHECK (state IN ('ready', 'requested', 'waiting', 'limited', 'suspended', 'refused'))
);
ALTER TABLE credits.topups ADD CONSTRAINT topups_pkey PRIMARY KEY (account_id);
-- few rows are in it
CREATE INDEX topups_due_at_idx ON credits.topups (due_at, account_id) WHERE due_at IS NOT NULL;

COMMENT ON TABLE credits.topups IS
	'one row per account that is topped up: when, by what, and how often; changed only by the credits_* functions';
COMMENT ON COLUMN credits.topups.below IS 'when the balance is below this, credits are bought; also in credits.accounts.topup_below';
COMMENT ON COLUMN credits.topups.target IS 'the balance to which it is topped up; NULL if a package is bought';
COMMENT ON COLUMN credits.topups.package IS 'the package that is bought; NULL if there is a target';
COMMENT ON COLUMN credits.topups.currency IS 'currency of the price; NULL if only one is possible';
COMMENT ON COLUMN credits.topups.max_requests IS 'how many purchases are started within a period, without those that were not paid';
COMMENT ON COLUMN credits.topups.max_money IS 'how much they may cost together; NULL for any amount';
COMMENT ON COLUMN credits.topups.resumed_id IS 'requests up to this one are forgotten if they were not paid';
COMMENT ON COLUMN credits.topups.due_at IS 'when it is looked at again; NULL if an event will say so';
COMMENT ON COLUMN credits.topups.state IS
	'when it was last looked at: ready, requested, waiting (after a declined payment), limited, suspended (after several) or refused';
COMMENT ON COLUMN credits.topups.message IS 'why it is not topped up; NULL if nothing stands against it';
COMMENT ON COLUMN credits.topups.role IS 'session_user that set it';

CREATE SEQUENCE credits.topup_requests_id_seq;

CREATE TABLE credits.topup_requests (
	id bigint NOT NULL,
	account_id bigint NOT NULL,
	purchase_id bigint NOT NULL,
	balance bigint NOT NULL,
	requested_at timestamptz NOT NULL,
	ended_at timestamptz
);
ALTER SEQUENCE credits.topup_requests_id_seq OWNED BY credits.topup_requests.id;
ALTER TABLE credits.topup_requests ADD CONSTRAINT topup_requests_pkey PRIMARY KEY (id);
-- one at a time
CREATE UNIQUE INDEX topup_requests_open_idx ON credits.topup_requests (account_id)
	WHERE ended_at IS NULL;
CREATE INDEX topup_requests_account_id_idx ON credits.topup_requests (account_id, requested_at, id);
CREATE UNIQUE INDEX topup_requests_purchase_id_idx ON credits.topup_requests (purchase_id);

COMMENT ON TABLE credits.topup_requests IS
	'one row per purchase that was started to top up an account; what became of it is in credits.purchases';
COMMENT ON COLUMN credits.topup_requests.balance IS 'the balance when it was started';
COMMENT ON COLUMN credits.topup_requests.ended_at IS
	'when it was seen that the purchase was completed, or has failed or expired; NULL if it is open';

SELECT pg_catalog.pg_extension_config_dump('credits.topups', '');
SELECT pg_catalog.pg_extension_config_dump('credits.topup_requests', '');
SELECT pg_catalog.pg_extension_config_dump('credits.topup_requests_id_seq', '');
GRANT SELECT ON credits.topups, credits.topup_requests, credits.topup_requests_id_seq
	TO credits_admin, credits_auditor;

CREATE TRIGGER topups_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.topups
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly', 'deleted');
ALTER TABLE credits.topups ENABLE ALWAYS TRIGGER topups_refuse_change;
CREATE TRIGGER topup_requests_refuse_change
	BEFORE UPDATE OR DELETE OR TRUNCATE ON credits.topup_requests
	FOR EACH STATEMENT EXECUTE FUNCTION credits.refuse_change('directly');
ALTER TABLE credits.topup_requests ENABLE ALWAYS TRIGGER topup_requests_refuse_change;

CREATE VIEW credits.topup_list AS
SELECT r.id AS topup_id,
	   a.name AS account,
	   r.purchase_id,
	   p.reference,
	   r.balance,
	   p.credits,
	   p.price,
	   p.currency,
	   CASE WHEN p.status OPERATOR(pg_catalog.=) 'pending'
				 AND p.expires_at OPERATOR(pg_catalog.<=) credits.now()
			THEN 'expired' ELSE p.status END AS status,
	   p.reason,
	   r.requested_at,
	   p.expires_at,
	   p.completed_at
FROM credits.topup_requests AS r
JOIN credits.purchases AS p ON p.id OPERATOR(pg_catalog.=) r.purchase_id
JOIN credits.accounts AS a ON a.id OPERATOR(pg_catalog.=) r.account_id;
COMMENT ON VIEW credits.topup_list IS
	'purchases that were started to top up accounts: which are to be charged, and what became of the others';
GRANT SELECT ON credits.topup_list TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_set_topup(
	account text,
	below bigint DEFAULT NULL,
	target bigint DEFAULT NULL,
	package text DEFAULT NULL,
	currency text DEFAULT NULL,
	max_requests bigint DEFAULT NULL,
	max_money numeric DEFAULT NULL,
	period interval DEFAULT NULL,
	reason text DEFAULT NULL,
	clear text[] DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_set_topup IS
	'have credits bought when the balance of an account falls below a number: up to a target, or a package; what is left out stays';
REVOKE ALL ON FUNCTION @extschema@.credits_set_topup FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_set_topup TO credits_app;

CREATE FUNCTION @extschema@.credits_remove_topup(account text, reason text DEFAULT NULL)
RETURNS credits.receipt
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_remove_topup IS
	'have no more credits bought for an account; a purchase that was started can still be paid';
REVOKE ALL ON FUNCTION @extschema@.credits_remove_topup FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_remove_topup TO credits_app;

CREATE FUNCTION @extschema@.credits_resume_topup(account text)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_resume_topup IS
	'forget declined payments of an account, whose payment method has changed, and look at it at once; false if it has no top-up';
REVOKE ALL ON FUNCTION @extschema@.credits_resume_topup FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_resume_topup TO credits_app;

CREATE FUNCTION @extschema@.credits_request_topups(max_rows integer DEFAULT 10)
RETURNS SETOF credits.checkout
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION @extschema@.credits_request_topups IS
	'start purchases for accounts that are to be topped up, and return them to be charged; call it again and again';
REVOKE ALL ON FUNCTION @extschema@.credits_request_topups FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_request_topups TO credits_admin;

CREATE FUNCTION @extschema@.credits_topup(account text)
RETURNS TABLE (
	below bigint,
	target bigint,
	package text,
	currency text,
	max_requests bigint,
	max_money numeric,
	period interval,
	state text,
	message text,
	due_at timestamptz,
	purchase_id bigint,
	set_at timestamptz)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT t.below, t.target, t.package, t.currency, t.max_requests, t.max_money, t.period,
		   t.state, t.message, t.due_at, r.purchase_id, t.set_at
	FROM credits.topups AS t
	LEFT JOIN credits.topup_requests AS r ON r.account_id = t.account_id AND r.ended_at IS NULL
	WHERE t.account_id = (SELECT credits.account_id($1))
$$;
COMMENT ON FUNCTION @extschema@.credits_topup IS
	'how an account is topped up, and whether anything stands against it; no row if it is not';
REVOKE ALL ON FUNCTION @extschema@.credits_topup FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_topup TO credits_app, credits_auditor;
