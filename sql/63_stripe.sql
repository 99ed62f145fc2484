-- stripe: webhooks verified, kept and applied, see doc/stripe.md

-- Secrets stay in this database: they are not dumped, and only the owner reads
-- them.  No constraint but the key, since its violation would quote the row.
CREATE TABLE credits.stripe_secrets (
	name text COLLATE "C" NOT NULL,
	secret text,
	created_at timestamptz NOT NULL,
	role text NOT NULL
);
ALTER TABLE credits.stripe_secrets ADD CONSTRAINT stripe_secrets_pkey PRIMARY KEY (name);
REVOKE ALL ON credits.stripe_secrets FROM PUBLIC, credits_admin, credits_app, credits_auditor;

COMMENT ON TABLE credits.stripe_secrets IS
	'signing secrets of webhook endpoints; only the owner reads them, and they are not dumped';
COMMENT ON COLUMN credits.stripe_secrets.role IS 'session_user who added it';

-- a sequence, because what is refused rolls back and this must not
CREATE SEQUENCE credits.stripe_refused_seq;
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_refused_seq', '');
GRANT SELECT ON credits.stripe_refused_seq TO credits_admin, credits_auditor;

CREATE VIEW credits.stripe_refusals AS
SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END AS refused
FROM credits.stripe_refused_seq AS s;
COMMENT ON VIEW credits.stripe_refusals IS
	'how many webhooks were refused for their signature, counted even if the transaction is rolled back';
GRANT SELECT ON credits.stripe_refusals TO credits_admin, credits_auditor;

-- all events about one payment or subscription, whose row is locked while they
-- are applied
CREATE TABLE credits.stripe_subjects (
	subject text COLLATE "C" NOT NULL,
	waiting text
);
ALTER TABLE credits.stripe_subjects ADD CONSTRAINT stripe_subjects_pkey PRIMARY KEY (subject);
CREATE INDEX stripe_subjects_waiting_idx ON credits.stripe_subjects (subject)
	WHERE waiting IS NOT NULL;

COMMENT ON TABLE credits.stripe_subjects IS
	'what events of Stripe are about: each payment and each subscription, by Stripe''s id';
COMMENT ON COLUMN credits.stripe_subjects.waiting IS 'what is missing to apply it: see credits_stripe_reprocess';

CREATE TABLE credits.stripe_events (
	id text COLLATE "C" NOT NULL,
	type text COLLATE "C" NOT NULL,
	object_id text COLLATE "C",
	subject text COLLATE "C",
	created timestamptz NOT NULL,
	received_at timestamptz NOT NULL,
	api_version text,
	livemode boolean NOT NULL,
	result text NOT NULL,
	detail jsonb,
	facts jsonb,
	payload jsonb NOT NULL,
	CONSTRAINT stripe_events_result CHECK (result IN ('applied', 'ignored', 'duplicate', 'waiting'))
);
ALTER TABLE credits.stripe_events ADD CONSTRAINT stripe_events_pkey PRIMARY KEY (id);
-- to compress it takes longer than to apply it
ALTER TABLE credits.stripe_events ALTER payload SET STORAGE EXTERNAL;
CREATE INDEX stripe_events_subject_idx ON credits.stripe_events (subject, created);

COMMENT ON TABLE credits.stripe_events IS
	'every event that Stripe has sent with a valid signature, once';
COMMENT ON COLUMN credits.stripe_events.object_id IS 'id of the object that the event is about';
COMMENT ON COLUMN credits.stripe_events.subject IS 'payment or subscription that it counts for; NULL if the type is not handled';
COMMENT ON COLUMN credits.stripe_events.created IS 'when it happened at Stripe';
COMMENT ON COLUMN credits.stripe_events.result IS 'applied, ignored, duplicate or waiting';
COMMENT ON COLUMN credits.stripe_events.facts IS 'what of the payload counts, the same in all versions of Stripe''s API';

-- an event says so that may come before or after those of the payment
CREATE TABLE credits.stripe_links (
	payment text COLLATE "C" NOT NULL,
	invoice text COLLATE "C" NOT NULL
);
ALTER TABLE credits.stripe_links ADD CONSTRAINT stripe_links_pkey PRIMARY KEY (payment, invoice);
CREATE INDEX stripe_links_invoice_idx ON credits.stripe_links (invoice);
COMMENT ON TABLE credits.stripe_links IS
	'which invoice of Stripe''s a payment was for';
COMMENT ON COLUMN credits.stripe_links.payment IS 'id of a payment intent or, without one, of a charge';

CREATE TABLE credits.stripe_prices (
	id text COLLATE "C" NOT NULL,
	plan text COLLATE "C",
	package text COLLATE "C",
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT stripe_prices_one CHECK ((plan IS NULL) <> (package IS NULL))
);
ALTER TABLE credits.stripe_prices ADD CONSTRAINT stripe_prices_pkey PRIMARY KEY (id);
COMMENT ON TABLE credits.stripe_prices IS
	'which plan or package a price or product of Stripe''s stands for';
COMMENT ON COLUMN credits.stripe_prices.id IS 'id of a price or of a product; the price counts first';
COMMENT ON COLUMN credits.stripe_prices.role IS 'session_user who set it';

CREATE TABLE credits.stripe_customers (
	id text COLLATE "C" NOT NULL,
	account_id bigint NOT NULL,
	learned boolean NOT NULL,
	created_at timestamptz NOT NULL
);
ALTER TABLE credits.stripe_customers ADD CONSTRAINT stripe_customers_pkey PRIMARY KEY (id);
COMMENT ON TABLE credits.stripe_customers IS
	'which account a customer of Stripe''s has, where nothing nearer says so';
COMMENT ON COLUMN credits.stripe_customers.learned IS 'seen in a checkout session, not set by credits_stripe_set_customer';

SELECT pg_catalog.pg_extension_config_dump('credits.stripe_subjects', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_events', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_links', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_prices', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_customers', '');
GRANT SELECT ON credits.stripe_subjects, credits.stripe_events, credits.stripe_links,
	credits.stripe_prices, credits.stripe_customers TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_stripe_add_secret(name text, secret text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_add_secret IS
	'let webhooks be signed with a secret, beside others that there are';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_add_secret FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_add_secret TO credits_admin;

CREATE FUNCTION @extschema@.credits_stripe_remove_secret(name text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_remove_secret IS
	'no longer accept webhooks that are signed with a secret';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_remove_secret FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_remove_secret TO credits_admin;

CREATE FUNCTION @extschema@.credits_stripe_set_price(
	id text,
	plan text DEFAULT NULL,
	package text DEFAULT NULL)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_set_price IS
	'say which plan or package a price or product of Stripe''s stands for; without either, none';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_set_price FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_set_price TO credits_admin;

CREATE FUNCTION @extschema@.credits_stripe_set_customer(customer text, account text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_set_customer IS
	'say which account a customer of Stripe''s has';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_set_customer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_set_customer TO credits_admin;

CREATE TYPE credits.stripe_result AS (
	event_id text,
	type text,
	result text,
	detail jsonb
);
COMMENT ON TYPE credits.stripe_result IS
	'what credits_stripe_webhook returns: the event, whether it was applied, ignored, a duplicate or is waiting, and what that did';

CREATE FUNCTION @extschema@.credits_stripe_webhook(payload text, signature text)
RETURNS credits.stripe_result
AS 'MODULE_PATHNAME', 'credits_stripe_webhook' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_webhook(text, text) IS
	'verify an event that Stripe sent, keep it and apply it, once; 28000 if the signature is not valid';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_webhook(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_webhook(text, text) TO credits_app;

CREATE FUNCTION @extschema@.credits_stripe_webhook(payload bytea, signature text)
RETURNS credits.stripe_result
AS 'MODULE_PATHNAME', 'credits_stripe_webhook_bytes' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_webhook(bytea, text) IS
	'the same for the bytes of the request as they came';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_webhook(bytea, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_webhook(bytea, text) TO credits_app;

CREATE FUNCTION @extschema@.credits_stripe_reprocess()
RETURNS SETOF credits.stripe_result
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_reprocess IS
	'apply what was waiting for a price, an account or a payment that is known by now; returns the events that waited';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_reprocess FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_reprocess TO credits_admin;
