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
COMMENT ON COLUMN credits.stripe_secrets.role IS 'session_user that added it';

-- a sequence, because what is refused rolls back and this must not
CREATE SEQUENCE credits.stripe_refused_seq;
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_refused_seq', '');
GRANT SELECT ON credits.stripe_refused_seq TO credits_admin, credits_auditor;

CREATE VIEW credits.stripe_refusals AS
SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END AS refused,
	   (SELECT pg_catalog.count(*) FROM credits.stripe_secrets AS k WHERE k.secret IS NOT NULL) AS secrets
FROM credits.stripe_refused_seq AS s;
COMMENT ON VIEW credits.stripe_refusals IS
	'how many webhooks were refused for their signature, counted even if the transaction is rolled back, and how many secrets there are to check the next one with';
COMMENT ON COLUMN credits.stripe_refusals.secrets IS
	'if 0, every webhook is refused, for instance after a restore: a dump does not contain them';
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
	'the subjects of Stripe''s events: each payment and each subscription, by Stripe''s id';
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
	payload jsonb,
	body bytea,
	CONSTRAINT stripe_events_result CHECK (result IN ('applied', 'ignored', 'duplicate', 'waiting'))
);
ALTER TABLE credits.stripe_events ADD CONSTRAINT stripe_events_pkey PRIMARY KEY (id);
-- to compress it takes longer than to apply it
ALTER TABLE credits.stripe_events ALTER payload SET STORAGE EXTERNAL;
CREATE INDEX stripe_events_subject_idx ON credits.stripe_events (subject, created);
-- for erasing payloads that are old: see credits.payload_retention
CREATE INDEX stripe_events_payload_idx ON credits.stripe_events (received_at, id)
	WHERE payload IS NOT NULL OR body IS NOT NULL;

COMMENT ON TABLE credits.stripe_events IS
	'every event that Stripe has sent with a valid signature, once';
COMMENT ON COLUMN credits.stripe_events.object_id IS 'id of the object of the event';
COMMENT ON COLUMN credits.stripe_events.subject IS 'payment or subscription that it counts for; NULL if the type is not handled';
COMMENT ON COLUMN credits.stripe_events.created IS 'when it happened at Stripe';
COMMENT ON COLUMN credits.stripe_events.result IS 'applied, ignored, duplicate or waiting';
COMMENT ON COLUMN credits.stripe_events.payload IS 'NULL if it is not JSON, or was erased';
COMMENT ON COLUMN credits.stripe_events.body IS 'the payload as it was sent, in UTF-8, if jsonb cannot hold it as it is';
COMMENT ON COLUMN credits.stripe_events.facts IS 'the facts in the payload that count, the same in all versions of Stripe''s API';

-- an event says so that may come before or after those of the payment
CREATE TABLE credits.stripe_links (
	payment text COLLATE "C" NOT NULL,
	invoice text COLLATE "C" NOT NULL
);
ALTER TABLE credits.stripe_links ADD CONSTRAINT stripe_links_pkey PRIMARY KEY (payment, invoice);
CREATE INDEX stripe_links_invoice_idx ON credits.stripe_links (invoice);
COMMENT ON TABLE credits.stripe_links IS
	'which invoice of Stripe a payment was for';
COMMENT ON COLUMN credits.stripe_links.payment IS 'id of a payment intent or, without one, of a charge';

-- a mapping never changes: what is sold at a price keeps that which it began with
CREATE SEQUENCE credits.stripe_price_versions_id_seq;
CREATE TABLE credits.stripe_price_versions (
	id bigint NOT NULL DEFAULT pg_catalog.nextval('credits.stripe_price_versions_id_seq'),
	price text COLLATE "C" NOT NULL,
	plan text COLLATE "C",
	package text COLLATE "C",
	upgrade text,
	give text,
	created_at timestamptz NOT NULL,
	role text NOT NULL,
	CONSTRAINT stripe_price_versions_one
		CHECK ((plan IS NOT NULL)::integer + (package IS NOT NULL)::integer
			= CASE WHEN give IS NULL OR give = 'nothing' THEN 0 ELSE 1 END),
	CONSTRAINT stripe_price_versions_upgrade CHECK (upgrade IN ('in_advance', 'when_paid')),
	CONSTRAINT stripe_price_versions_give CHECK (give IN ('paid', 'finalized', 'nothing'))
);
ALTER SEQUENCE credits.stripe_price_versions_id_seq OWNED BY credits.stripe_price_versions.id;
ALTER TABLE credits.stripe_price_versions ADD CONSTRAINT stripe_price_versions_pkey PRIMARY KEY (id);
CREATE INDEX stripe_price_versions_price_idx ON credits.stripe_price_versions (price, id);
COMMENT ON TABLE credits.stripe_price_versions IS
	'what prices and products of Stripe were mapped to, the newest of each in force; rows are only added';
COMMENT ON COLUMN credits.stripe_price_versions.price IS 'id of a price or of a product; the price counts first';
COMMENT ON COLUMN credits.stripe_price_versions.upgrade IS
	'in_advance: prorations give credits before they are on an invoice; when_paid: only then';
COMMENT ON COLUMN credits.stripe_price_versions.give IS
	'when invoices give credits: paid, finalized, or nothing for a price that is not for credits; NULL if the mapping was removed';
COMMENT ON COLUMN credits.stripe_price_versions.role IS 'session_user that set it';

CREATE VIEW credits.stripe_prices AS
SELECT v.price AS id, v.plan, v.package, v.upgrade, v.give, v.created_at, v.role
FROM credits.stripe_price_versions AS v
WHERE v.give IS NOT NULL AND NOT EXISTS (
	SELECT FROM credits.stripe_price_versions AS n
	WHERE n.price OPERATOR(pg_catalog.=) v.price AND n.id OPERATOR(pg_catalog.>) v.id);
COMMENT ON VIEW credits.stripe_prices IS
	'which plan or package a price or product of Stripe is mapped to now';
COMMENT ON COLUMN credits.stripe_prices.id IS 'id of a price or of a product; the price counts first';
COMMENT ON COLUMN credits.stripe_prices.role IS 'session_user that set it';

CREATE TABLE credits.stripe_customers (
	id text COLLATE "C" NOT NULL,
	account_id bigint NOT NULL,
	learned boolean NOT NULL,
	created_at timestamptz NOT NULL
);
ALTER TABLE credits.stripe_customers ADD CONSTRAINT stripe_customers_pkey PRIMARY KEY (id);
COMMENT ON TABLE credits.stripe_customers IS
	'which account a customer of Stripe has, unless the subscription names its account';
COMMENT ON COLUMN credits.stripe_customers.learned IS 'seen in a checkout session, not set by credits_stripe_set_customer';

-- What the events of a subscription, its invoices and payments say, folded into
-- rows as they arrive: the lock of the subject guards them.
CREATE TABLE credits.stripe_subscriptions (
	subscription text COLLATE "C" NOT NULL,
	subscription_id bigint,
	account text COLLATE "C",
	account_near integer NOT NULL,
	account_at timestamptz NOT NULL,
	customer text COLLATE "C",
	deleted boolean NOT NULL,
	paid boolean NOT NULL,
	as_of timestamptz,
	as_rank integer NOT NULL,
	as_event text COLLATE "C",
	facts jsonb,
	plan_id bigint,
	anchors bigint[],
	trials bigint[],
	awaited_invoice text COLLATE "C",
	awaited_since timestamptz
);
ALTER TABLE credits.stripe_subscriptions ADD CONSTRAINT stripe_subscriptions_pkey PRIMARY KEY (subscription);
CREATE INDEX stripe_subscriptions_awaited_idx ON credits.stripe_subscriptions (awaited_since)
	WHERE awaited_since IS NOT NULL;
COMMENT ON TABLE credits.stripe_subscriptions IS 'subscriptions of Stripe, as their events say';
COMMENT ON COLUMN credits.stripe_subscriptions.subscription IS 'Stripe''s id';
COMMENT ON COLUMN credits.stripe_subscriptions.subscription_id IS 'the subscription here, NULL until it has begun';
COMMENT ON COLUMN credits.stripe_subscriptions.account IS 'name of the account, as far as the events say it';
COMMENT ON COLUMN credits.stripe_subscriptions.account_near IS 'how near to the subscription that was said: what is nearer counts more';
COMMENT ON COLUMN credits.stripe_subscriptions.paid IS 'has any of its invoices been paid?';
COMMENT ON COLUMN credits.stripe_subscriptions.as_of IS 'when the newest event about the subscription itself happened; the facts are of that event';
COMMENT ON COLUMN credits.stripe_subscriptions.plan_id IS 'the plan that the newest event shows';
COMMENT ON COLUMN credits.stripe_subscriptions.anchors IS 'each anchor of the billing cycle that was seen, and when last, in microseconds since 2000';
COMMENT ON COLUMN credits.stripe_subscriptions.trials IS 'begin and end of each trial that was seen, in microseconds since 2000';
COMMENT ON COLUMN credits.stripe_subscriptions.awaited_invoice IS
	'the invoice that its paid checkout session names, empty if it names none, as long as no event has said that it was paid';
COMMENT ON COLUMN credits.stripe_subscriptions.awaited_since IS 'when the session was paid, as long as the invoice is awaited';

CREATE TABLE credits.stripe_invoices (
	invoice text COLLATE "C" NOT NULL,
	subscription text COLLATE "C" NOT NULL,
	status text NOT NULL,
	total bigint NOT NULL,
	amount_paid bigint NOT NULL,
	currency text,
	finalized_at timestamptz,
	paid_at timestamptz,
	complete boolean NOT NULL,
	completed boolean NOT NULL,
	as_of timestamptz NOT NULL,
	as_rank integer NOT NULL,
	as_event text COLLATE "C" NOT NULL,
	CONSTRAINT stripe_invoices_status CHECK (status IN ('draft', 'open', 'uncollectible', 'void', 'paid'))
);
ALTER TABLE credits.stripe_invoices ADD CONSTRAINT stripe_invoices_pkey PRIMARY KEY (invoice);
CREATE INDEX stripe_invoices_incomplete_idx ON credits.stripe_invoices (invoice) WHERE NOT complete;
COMMENT ON TABLE credits.stripe_invoices IS 'invoices of subscriptions of Stripe';
COMMENT ON COLUMN credits.stripe_invoices.status IS 'the last of draft, open, uncollectible, void and paid that any event said';
COMMENT ON COLUMN credits.stripe_invoices.total IS 'with discounts and taxes, in minor units';
COMMENT ON COLUMN credits.stripe_invoices.paid_at IS 'when it was paid, whenever that became known';
COMMENT ON COLUMN credits.stripe_invoices.complete IS 'are all of its lines known? If not, it gives nothing';
COMMENT ON COLUMN credits.stripe_invoices.completed IS 'have its lines come by credits_stripe_invoice_lines?';

CREATE TABLE credits.stripe_other_invoices (
	invoice text COLLATE "C" NOT NULL,
	paid boolean NOT NULL,
	facts jsonb NOT NULL,
	as_of timestamptz NOT NULL,
	as_rank integer NOT NULL,
	as_event text COLLATE "C" NOT NULL
);
ALTER TABLE credits.stripe_other_invoices ADD CONSTRAINT stripe_other_invoices_pkey PRIMARY KEY (invoice);
COMMENT ON TABLE credits.stripe_other_invoices IS 'invoices of Stripe that bill no subscription';
COMMENT ON COLUMN credits.stripe_other_invoices.paid IS 'did any event say that it was paid?';
COMMENT ON COLUMN credits.stripe_other_invoices.as_of IS 'when the newest event about it happened; the facts are of that event';

CREATE TABLE credits.stripe_lines (
	key text COLLATE "C" NOT NULL,
	subscription text COLLATE "C" NOT NULL,
	invoice text COLLATE "C" NOT NULL,
	line text COLLATE "C",
	starts_at timestamptz,
	ends_at timestamptz,
	amount bigint NOT NULL,
	discount bigint NOT NULL,
	currency text,
	quantity bigint NOT NULL,
	priced boolean NOT NULL,
	price text COLLATE "C",
	plan text COLLATE "C",
	product text COLLATE "C",
	item text COLLATE "C" NOT NULL,
	negative boolean NOT NULL,
	proration boolean NOT NULL,
	metered boolean NOT NULL,
	billed boolean NOT NULL,
	deleted boolean NOT NULL,
	as_of timestamptz NOT NULL,
	as_rank integer NOT NULL,
	as_event text COLLATE "C",
	problem text,
	uncertain boolean NOT NULL
);
ALTER TABLE credits.stripe_lines ADD CONSTRAINT stripe_lines_pkey PRIMARY KEY (key);
CREATE INDEX stripe_lines_invoice_idx ON credits.stripe_lines (subscription, invoice);
CREATE INDEX stripe_lines_ends_at_idx ON credits.stripe_lines (subscription, ends_at);
-- the lines that tell how long a whole period is
CREATE INDEX stripe_lines_whole_idx ON credits.stripe_lines (subscription, ends_at) WHERE NOT proration;
CREATE INDEX stripe_lines_uncertain_idx ON credits.stripe_lines (subscription, invoice) WHERE uncertain;
CREATE INDEX stripe_lines_problem_idx ON credits.stripe_lines (subscription) WHERE problem IS NOT NULL;
COMMENT ON TABLE credits.stripe_lines IS
	'lines of invoices of Stripe, and prorations that wait for their invoice';
COMMENT ON COLUMN credits.stripe_lines.key IS 'id of the invoice item or, without one, of the invoice and the line';
COMMENT ON COLUMN credits.stripe_lines.invoice IS 'empty as long as it waits for an invoice';
COMMENT ON COLUMN credits.stripe_lines.line IS 'id of the line, as credit notes name it';
COMMENT ON COLUMN credits.stripe_lines.amount IS 'in minor units, without discount and tax; negative if it credits';
COMMENT ON COLUMN credits.stripe_lines.priced IS 'is it known that its unit has a price above 0?';
COMMENT ON COLUMN credits.stripe_lines.plan IS 'id of one of Stripe''s old plans';
COMMENT ON COLUMN credits.stripe_lines.item IS 'id of the item of the subscription, empty if not known';
COMMENT ON COLUMN credits.stripe_lines.negative IS 'does it credit what was billed before?';
COMMENT ON COLUMN credits.stripe_lines.billed IS 'was it seen on an invoice?';
COMMENT ON COLUMN credits.stripe_lines.as_of IS 'when the newest event of its invoice item happened';
COMMENT ON COLUMN credits.stripe_lines.problem IS
	'why it gives nothing: unmapped, length (its period is longer than one of its plan) or period (it has none)';
COMMENT ON COLUMN credits.stripe_lines.uncertain IS
	'may a further trial, anchor or line change the credits that it stands for?';

CREATE TABLE credits.stripe_credit_notes (
	credit_note text COLLATE "C" NOT NULL,
	invoice text COLLATE "C" NOT NULL,
	voided boolean NOT NULL,
	custom bigint NOT NULL,
	lines jsonb,
	refunds jsonb,
	as_of timestamptz NOT NULL,
	as_rank integer NOT NULL,
	as_event text COLLATE "C" NOT NULL
);
ALTER TABLE credits.stripe_credit_notes ADD CONSTRAINT stripe_credit_notes_pkey PRIMARY KEY (credit_note);
CREATE INDEX stripe_credit_notes_invoice_idx ON credits.stripe_credit_notes (invoice);
COMMENT ON TABLE credits.stripe_credit_notes IS 'credit notes of invoices of Stripe';
COMMENT ON COLUMN credits.stripe_credit_notes.custom IS 'minor units that it credits of no line';
COMMENT ON COLUMN credits.stripe_credit_notes.lines IS 'minor units that it credits of each line';
COMMENT ON COLUMN credits.stripe_credit_notes.refunds IS 'minor units of each refund that belongs to it';

CREATE TABLE credits.stripe_items (
	subscription text COLLATE "C" NOT NULL,
	item text COLLATE "C" NOT NULL,
	price text COLLATE "C" NOT NULL,
	version_id bigint NOT NULL,
	plan_id bigint
);
ALTER TABLE credits.stripe_items ADD CONSTRAINT stripe_items_pkey PRIMARY KEY (subscription, item, price);
COMMENT ON TABLE credits.stripe_items IS
	'the mapping and the version of the plan that each item of a subscription keeps at each price';
COMMENT ON COLUMN credits.stripe_items.version_id IS 'of credits.stripe_price_versions';

CREATE TABLE credits.stripe_payments (
	payment text COLLATE "C" NOT NULL,
	currency text,
	refunded bigint NOT NULL,
	disputed bigint NOT NULL,
	detail jsonb NOT NULL
);
ALTER TABLE credits.stripe_payments ADD CONSTRAINT stripe_payments_pkey PRIMARY KEY (payment);
COMMENT ON TABLE credits.stripe_payments IS 'payments of Stripe of which money went back';
COMMENT ON COLUMN credits.stripe_payments.refunded IS 'minor units that were refunded, without what has failed';
COMMENT ON COLUMN credits.stripe_payments.disputed IS 'minor units of disputes that are open or lost';
COMMENT ON COLUMN credits.stripe_payments.detail IS 'the same by charge, refund and dispute';

CREATE TABLE credits.stripe_dismissals (
	subject text COLLATE "C" NOT NULL,
	what text NOT NULL,
	reason text NOT NULL,
	created_at timestamptz NOT NULL,
	role text NOT NULL
);
ALTER TABLE credits.stripe_dismissals ADD CONSTRAINT stripe_dismissals_pkey PRIMARY KEY (subject, what);
COMMENT ON TABLE credits.stripe_dismissals IS 'what was taken off credits.stripe_attention, and why';
COMMENT ON COLUMN credits.stripe_dismissals.what IS 'the reason for which it was there';
COMMENT ON COLUMN credits.stripe_dismissals.reason IS 'why it needs no attention';
COMMENT ON COLUMN credits.stripe_dismissals.role IS 'session_user that dismissed it';

SELECT pg_catalog.pg_extension_config_dump('credits.stripe_subjects', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_events', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_links', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_price_versions', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_price_versions_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_customers', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_subscriptions', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_invoices', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_other_invoices', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_lines', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_credit_notes', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_items', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_payments', '');
SELECT pg_catalog.pg_extension_config_dump('credits.stripe_dismissals', '');
GRANT SELECT ON credits.stripe_subjects, credits.stripe_events, credits.stripe_links,
	credits.stripe_price_versions, credits.stripe_price_versions_id_seq, credits.stripe_prices,
	credits.stripe_customers, credits.stripe_subscriptions, credits.stripe_invoices,
	credits.stripe_other_invoices,
	credits.stripe_lines, credits.stripe_credit_notes, credits.stripe_items,
	credits.stripe_payments, credits.stripe_dismissals TO credits_admin, credits_auditor;

-- Each paid amount that has given nothing, and what else waits for somebody.
CREATE VIEW credits.stripe_attention AS
SELECT w.subject, w.reason, w.invoice, w.amount, w.currency, w.resolve
FROM (
	SELECT s.subject, s.waiting AS reason, NULL::text AS invoice,
		   NULL::bigint AS amount, NULL::text AS currency,
		   CASE WHEN s.waiting OPERATOR(pg_catalog.~) '^a plan for price '
				THEN 'credits_stripe_set_price, then credits_stripe_reprocess()'
				WHEN s.waiting OPERATOR(pg_catalog.~) '^an account for '
				THEN 'credits_stripe_set_customer, then credits_stripe_reprocess()'
				WHEN s.waiting OPERATOR(pg_catalog.~) '^(account|plan) '
				THEN 'open the account or set the plan, then credits_stripe_reprocess()'
				WHEN s.waiting OPERATOR(pg_catalog.~) '^an event of subscription '
				THEN 'have Stripe send the subscription''s events again'
				WHEN s.waiting OPERATOR(pg_catalog.~) '^an event that can be read: '
				THEN 'look at it in credits.stripe_events, credits_allocate what it is for, then credits_stripe_dismiss'
				WHEN s.waiting OPERATOR(pg_catalog.~) '^[0-9A-Z]{5}: '
				THEN 'remove the cause, then credits_stripe_reprocess()'
				ELSE 'pay it back, or credits_stripe_dismiss' END AS resolve
	FROM credits.stripe_subjects AS s
	WHERE s.waiting IS NOT NULL
	UNION ALL
	SELECT i.invoice, 'lines of the invoice are missing', i.invoice, i.amount_paid, i.currency,
		   'credits_stripe_invoice_lines'
	FROM credits.stripe_invoices AS i
	WHERE NOT i.complete AND i.status OPERATOR(pg_catalog.=) 'paid'
	UNION ALL
	-- unless a purchase has it, or a payment of it, as its payment; or it waits
	-- already under that payment, was paid back, has only lines that give nothing, or
	-- is foreign and these are to be ignored
	SELECT o.invoice, 'a subscription or a purchase that the invoice is for', o.invoice, o.total, o.currency,
		   'credits_start_purchase and credits_complete_purchase with the invoice''s id, or credits_stripe_dismiss'
	FROM (SELECT i.invoice, i.facts, (i.facts OPERATOR(pg_catalog.->>) 'currency') AS currency,
				 (i.facts OPERATOR(pg_catalog.->>) 'total')::bigint AS total
		  FROM credits.stripe_other_invoices AS i WHERE i.paid) AS o
	WHERE o.total OPERATOR(pg_catalog.>) 0
	  AND (COALESCE(pg_catalog.current_setting('credits.stripe_foreign', true), 'list') OPERATOR(pg_catalog.<>) 'ignore'
		OR o.facts OPERATOR(pg_catalog.?|) ARRAY['account', 'purchase_id']
		OR EXISTS (SELECT FROM credits.stripe_customers AS c
				   WHERE c.id OPERATOR(pg_catalog.=) (o.facts OPERATOR(pg_catalog.->>) 'customer')))
	  AND NOT EXISTS (SELECT FROM credits.purchases AS p WHERE p.payment_reference OPERATOR(pg_catalog.=) o.invoice)
	  AND NOT EXISTS (SELECT FROM credits.stripe_invoices AS i WHERE i.invoice OPERATOR(pg_catalog.=) o.invoice)
	  AND NOT EXISTS (
		SELECT FROM credits.stripe_links AS l
		WHERE l.invoice OPERATOR(pg_catalog.=) o.invoice
		  AND (EXISTS (SELECT FROM credits.purchases AS p
					   WHERE p.payment_reference OPERATOR(pg_catalog.=) l.payment)
			   OR EXISTS (SELECT FROM credits.stripe_subjects AS s
						  WHERE s.subject OPERATOR(pg_catalog.=) l.payment AND s.waiting IS NOT NULL)))
	  AND o.total OPERATOR(pg_catalog.>) COALESCE((
		SELECT pg_catalog.sum(y.refunded) OPERATOR(pg_catalog.+) pg_catalog.sum(y.disputed)
		FROM credits.stripe_links AS l
		JOIN credits.stripe_payments AS y ON y.payment OPERATOR(pg_catalog.=) l.payment
		WHERE l.invoice OPERATOR(pg_catalog.=) o.invoice
		  AND y.currency OPERATOR(pg_catalog.=) o.currency), 0::numeric)
	  AND (o.facts OPERATOR(pg_catalog.?) 'more' OR NOT (o.facts OPERATOR(pg_catalog.?) 'lines') OR EXISTS (
		SELECT FROM pg_catalog.jsonb_array_elements(o.facts OPERATOR(pg_catalog.->) 'lines') AS e (line)
		WHERE (e.line OPERATOR(pg_catalog.->>) 'amount')::bigint OPERATOR(pg_catalog.<>) 0
		  AND COALESCE((SELECT v.give FROM credits.stripe_prices AS v
						WHERE v.id OPERATOR(pg_catalog.=) COALESCE(e.line OPERATOR(pg_catalog.->>) 'price', e.line OPERATOR(pg_catalog.->>) 'plan')),
					   (SELECT v.give FROM credits.stripe_prices AS v
						WHERE v.id OPERATOR(pg_catalog.=) (e.line OPERATOR(pg_catalog.->>) 'product')), 'paid')
			OPERATOR(pg_catalog.<>) 'nothing'))
	UNION ALL
	SELECT l.key,
		   CASE l.problem WHEN 'unmapped' THEN 'no plan for price ' ELSE 'a period that does not fit the plan of price ' END
				OPERATOR(pg_catalog.||) COALESCE(l.price, l.plan, l.product, '(none)'),
		   l.invoice, l.amount, l.currency,
		   CASE l.problem WHEN 'unmapped' THEN 'credits_stripe_set_price, then credits_stripe_reprocess()'
				ELSE 'credits_allocate what is due, then credits_stripe_dismiss' END
	FROM credits.stripe_lines AS l
	JOIN credits.stripe_invoices AS i ON i.invoice OPERATOR(pg_catalog.=) l.invoice
	WHERE l.problem IS NOT NULL AND l.amount OPERATOR(pg_catalog.>) 0
	  AND i.status OPERATOR(pg_catalog.=) 'paid'
	UNION ALL
	-- the events of one purchase arrive within a moment: one that is missing after an
	-- hour does not come by itself
	SELECT b.subscription, 'an event of the invoice that a checkout session was paid for', NULLIF(b.awaited_invoice, ''),
		   e.amount, e.currency,
		   'have the endpoint receive invoice.paid, and Stripe send that of the invoice again; or credits_stripe_dismiss'
	FROM credits.stripe_subscriptions AS b
	CROSS JOIN LATERAL (
		SELECT (e.facts OPERATOR(pg_catalog.->>) 'amount')::bigint AS amount,
			   (e.facts OPERATOR(pg_catalog.->>) 'currency') AS currency,
			   (e.facts OPERATOR(pg_catalog.?) 'account') AS ours
		FROM credits.stripe_events AS e
		WHERE e.subject OPERATOR(pg_catalog.=) b.subscription
		  AND e.type OPERATOR(pg_catalog.~) '^checkout[.]session[.]'
		  AND (e.facts OPERATOR(pg_catalog.->>) 'outcome') OPERATOR(pg_catalog.=) 'paid'
		ORDER BY e.created, e.id LIMIT 1) AS e
	WHERE b.awaited_since OPERATOR(pg_catalog.<=) (credits.now() OPERATOR(pg_catalog.-) '1 hour'::interval)
	  AND (COALESCE(pg_catalog.current_setting('credits.stripe_foreign', true), 'list') OPERATOR(pg_catalog.<>) 'ignore'
		OR e.ours OR b.subscription_id IS NOT NULL
		OR EXISTS (SELECT FROM credits.accounts AS a WHERE a.name OPERATOR(pg_catalog.=) b.account)
		OR EXISTS (SELECT FROM credits.stripe_customers AS c
				   WHERE c.id OPERATOR(pg_catalog.=) b.customer))
	  -- of a session that does not name its subscription
	  AND NOT EXISTS (SELECT FROM credits.stripe_invoices AS i
					  WHERE i.invoice OPERATOR(pg_catalog.=) b.awaited_invoice
						AND i.status OPERATOR(pg_catalog.=) 'paid')
	UNION ALL
	SELECT b.subscription, 'credits that could not be given', NULL, NULL, NULL,
		   'read the event renewal_failed, remove the cause, then credits_stripe_reprocess()'
	FROM credits.stripe_subscriptions AS b
	WHERE EXISTS (
		SELECT FROM credits.periods AS p
		WHERE p.subscription_id OPERATOR(pg_catalog.=) b.subscription_id
		  AND p.granted OPERATOR(pg_catalog.<) (
			SELECT pg_catalog.sum(r.credits) FROM credits.paid_parts AS r
			WHERE r.subscription_id OPERATOR(pg_catalog.=) p.subscription_id
			  AND r.ends_at OPERATOR(pg_catalog.=) p.ends_at
			  AND r.credits OPERATOR(pg_catalog.>) 0
			  -- nothing is given in advance for a period that is over
			  AND (r.reference OPERATOR(pg_catalog.<>) '(pending)' OR r.ends_at OPERATOR(pg_catalog.>) credits.now())))
) AS w
WHERE NOT EXISTS (
	SELECT FROM credits.stripe_dismissals AS d
	WHERE d.subject OPERATOR(pg_catalog.=) w.subject AND d.what OPERATOR(pg_catalog.=) w.reason);
COMMENT ON VIEW credits.stripe_attention IS
	'what was paid at Stripe and has given no credits, why, and which call resolves that';
COMMENT ON COLUMN credits.stripe_attention.subject IS
	'Stripe''s id of the payment, subscription, invoice or line, for credits_stripe_dismiss';
COMMENT ON COLUMN credits.stripe_attention.amount IS 'in minor units, NULL if not known';
GRANT SELECT ON credits.stripe_attention TO credits_admin, credits_auditor;

CREATE FUNCTION @extschema@.credits_stripe_add_secret(name text, secret text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_add_secret IS
	'add a secret with which webhooks may be signed';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_add_secret FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_add_secret TO credits_admin;

CREATE FUNCTION @extschema@.credits_stripe_remove_secret(name text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_remove_secret IS
	'remove a secret: webhooks that are signed with it are no longer accepted';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_remove_secret FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_remove_secret TO credits_admin;

CREATE FUNCTION @extschema@.credits_stripe_set_price(
	id text,
	plan text DEFAULT NULL,
	package text DEFAULT NULL,
	upgrade text DEFAULT 'in_advance',
	give text DEFAULT 'paid')
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_set_price IS
	'map a price or product of Stripe to a plan or package, or say that it gives nothing; without either, remove the mapping';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_set_price FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_set_price TO credits_admin;

CREATE FUNCTION @extschema@.credits_stripe_set_customer(customer text, account text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_set_customer IS
	'map a customer of Stripe to an account';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_set_customer FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_set_customer TO credits_admin;

CREATE TYPE credits.stripe_result AS (
	event_id text,
	type text,
	result text,
	detail jsonb
);
COMMENT ON TYPE credits.stripe_result IS
	'what credits_stripe_webhook returns: the event, whether it was applied, ignored, a duplicate or is waiting, and its effect';

CREATE FUNCTION @extschema@.credits_stripe_webhook(payload text, signature text)
RETURNS credits.stripe_result
AS 'MODULE_PATHNAME', 'credits_stripe_webhook' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_webhook(text, text) IS
	'verify an event that Stripe sent, store it and apply it, once; 28000 if the signature is not valid';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_webhook(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_webhook(text, text) TO credits_app;

CREATE FUNCTION @extschema@.credits_stripe_webhook(payload bytea, signature text)
RETURNS credits.stripe_result
AS 'MODULE_PATHNAME', 'credits_stripe_webhook_bytes' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_webhook(bytea, text) IS
	'the same for the bytes of the request as they arrived';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_webhook(bytea, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_webhook(bytea, text) TO credits_app;

CREATE FUNCTION @extschema@.credits_stripe_reprocess()
RETURNS SETOF credits.stripe_result
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_reprocess IS
	'apply events that were waiting for a price, an account or a payment; returns the events that were waiting';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_reprocess FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_reprocess TO credits_admin;

CREATE FUNCTION @extschema@.credits_stripe_invoice_lines(invoice text, lines jsonb)
RETURNS credits.stripe_result
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_invoice_lines IS
	'complete an invoice whose event did not have all of its lines: all of them, as Stripe lists them';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_invoice_lines FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_invoice_lines TO credits_admin;

CREATE FUNCTION @extschema@.credits_stripe_dismiss(subject text, reason text)
RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION @extschema@.credits_stripe_dismiss IS
	'take something off credits.stripe_attention that needs no credits';
REVOKE ALL ON FUNCTION @extschema@.credits_stripe_dismiss FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.credits_stripe_dismiss TO credits_admin;
