-- stripe: webhooks verified, kept and applied
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set SHOW_CONTEXT never
ALTER SEQUENCE credits.accounts_id_seq RESTART 630001;
ALTER SEQUENCE credits.grants_id_seq RESTART 630001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 630001;
ALTER SEQUENCE credits.events_id_seq RESTART 630001;
ALTER SEQUENCE credits.purchases_id_seq RESTART 630001;
ALTER SEQUENCE credits.subscriptions_id_seq RESTART 630001;
SET credits.test_clock = '2026-01-01 00:00:00+00';

-- HMAC-SHA256 by its definition in RFC 2104, and the header that Stripe makes of it
CREATE FUNCTION pg_temp.pad(key bytea, mask int) RETURNS bytea LANGUAGE sql AS $$
	SELECT string_agg(set_byte('\x00', 0, CASE WHEN i < length(key) THEN get_byte(key, i) ELSE 0 END # mask), '' ORDER BY i)
	FROM generate_series(0, 63) AS i
$$;
CREATE FUNCTION pg_temp.hmac(message text, secret text) RETURNS text LANGUAGE sql AS $$
	SELECT encode(sha256(pg_temp.pad(k, 92) || sha256(pg_temp.pad(k, 54) || convert_to(message, 'UTF8'))), 'hex')
	FROM (SELECT CASE WHEN length(secret) > 64 THEN sha256(secret::bytea) ELSE secret::bytea END AS k) AS s
$$;
-- test case 2 of RFC 4231
SELECT pg_temp.hmac('what do ya want for nothing?', 'Jefe');
CREATE FUNCTION pg_temp.header(payload text, secret text DEFAULT 'whsec_first_0123456789', at bigint DEFAULT 1767225600)
RETURNS text LANGUAGE sql AS $$
	SELECT format('t=%s,v1=%s', at, pg_temp.hmac(at || '.' || payload, secret))
$$;
CREATE FUNCTION pg_temp.event(id text, type text, object jsonb, created bigint DEFAULT 1767225600)
RETURNS text LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'object', 'event', 'type', type, 'created', created, 'livemode', true,
		'api_version', '2025-10-29.clover', 'data', jsonb_build_object('object', object))::text
$$;
CREATE FUNCTION pg_temp.send(id text, type text, object jsonb, created bigint DEFAULT 1767225600)
RETURNS credits.stripe_result LANGUAGE sql AS $$
	SELECT public.credits_stripe_webhook(e, pg_temp.header(e)) FROM pg_temp.event(id, type, object, created) AS e
$$;

-- secrets: nobody but the owner reads them
SET ROLE regress_credits_admin;
SELECT credits_stripe_add_secret('first', 'whsec_first_0123456789');
SELECT credits_stripe_add_secret('first', 'whsec_other_0123456789');
\echo :SQLSTATE
SELECT credits_stripe_add_secret('short', 'whsec_1');
\echo :SQLSTATE
SELECT credits_stripe_add_secret('long', repeat('x', 256));
SELECT credits_stripe_add_secret('line', E'whsec_first_0123456789\n');
\echo :SQLSTATE
SELECT credits_stripe_add_secret('none', NULL);
\echo :SQLSTATE
SELECT credits_stripe_add_secret(NULL, 'whsec_first_0123456789');
\echo :SQLSTATE
SELECT credits_stripe_remove_secret('nothing');
\echo :SQLSTATE
SELECT * FROM credits.stripe_secrets;
\echo :SQLSTATE
SET ROLE regress_credits_auditor;
SELECT * FROM credits.stripe_secrets;
\echo :SQLSTATE
SET ROLE regress_credits_app;
SELECT credits_stripe_add_secret('mine', 'whsec_mine_0123456789');
\echo :SQLSTATE
RESET ROLE;
SELECT name, created_at, role = session_user AS ours FROM credits.stripe_secrets;

-- a vector that was computed elsewhere: python3 -c "import hmac; print(hmac.new(
-- b'whsec_first_0123456789', b'1767225600.{\"a\": 1}', 'sha256').hexdigest())"
SELECT pg_temp.header('{"a": 1}') = 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447' AS same;
SET ROLE regress_credits_app;
-- signed by ours, but no event
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
\echo :SQLSTATE
SELECT credits_stripe_webhook('{"a": 1}'::bytea, 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
-- not signed, or otherwise, or something else
SELECT credits_stripe_webhook('{"a": 1}', NULL);
\echo :SQLSTATE
SELECT credits_stripe_webhook('{"a": 1}', '');
SELECT credits_stripe_webhook('{"a": 1}', 'nonsense');
SELECT credits_stripe_webhook('{"a": 1}', 'v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SELECT credits_stripe_webhook('{"a": 1}', 't=,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SELECT credits_stripe_webhook('{"a": 1}', 't=-1,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225600,t=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SELECT credits_stripe_webhook('{"a": 1}', repeat('v0=1,', 1000));
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225600');
\echo :SQLSTATE
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225600,v0=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225601,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SELECT credits_stripe_webhook('{"a": 2}', 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SELECT credits_stripe_webhook('{"a":1}', 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SELECT credits_stripe_webhook('{"a": 1}', pg_temp.header('{"a": 1}', 'whsec_second_0123456789'));
-- the payload is not looked at before
SELECT credits_stripe_webhook('no JSON', 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SELECT credits_stripe_webhook(NULL, 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
\echo :SQLSTATE
-- other schemes, other signatures, spaces and capitals
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225600, v0=0, v2=x=y, v1=00, v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SELECT credits_stripe_webhook('{"a": 1}', upper('t=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447'));
-- as old, and as far ahead, as it may be
RESET ROLE;
SET credits.test_clock = '2026-01-01 00:05:00+00';
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SET credits.test_clock = '2026-01-01 00:05:01+00';
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
\echo :SQLSTATE
SET credits.test_clock = '2025-12-31 23:55:00+00';
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SET credits.test_clock = '2025-12-31 23:54:59+00';
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
SET credits.stripe_tolerance = '1h';
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225600,v1=1aeb59d4268cab4d2e32dc4fb7c6ea74dace8e30698c62bf0fd8b861585ac447');
RESET credits.stripe_tolerance;
SET credits.test_clock = '2026-01-01 00:00:00+00';

-- what was refused is counted, though nothing else of it is left
BEGIN;
SELECT refused AS before FROM credits.stripe_refusals \gset
SAVEPOINT s;
SELECT credits_stripe_webhook('{"a": 1}', 't=1767225600');
ROLLBACK;
SET ROLE regress_credits_auditor;
SELECT refused - :before AS one FROM credits.stripe_refusals;
RESET ROLE;
SELECT count(*) FROM credits.stripe_events;

-- one secret replaces another: for a while both count
SELECT credits_stripe_add_secret('second', 'whsec_second_' || repeat('0123456789', 6));
SELECT r.* FROM pg_temp.event('evt_630001', 'plan.created', '{"id": "p"}') AS e, credits_stripe_webhook(e, pg_temp.header(e)) AS r;
SELECT r.* FROM pg_temp.event('evt_630002', 'plan.created', '{"id": "p"}') AS e, credits_stripe_webhook(e, pg_temp.header(e, 'whsec_second_' || repeat('0123456789', 6))) AS r;
SELECT credits_stripe_remove_secret('first');
SELECT r.* FROM pg_temp.event('evt_630003', 'plan.created', '{"id": "p"}') AS e, credits_stripe_webhook(e, pg_temp.header(e)) AS r;
\echo :SQLSTATE
SELECT credits_stripe_remove_secret('second');
SELECT r.* FROM pg_temp.event('evt_630003', 'plan.created', '{"id": "p"}') AS e, credits_stripe_webhook(e, pg_temp.header(e)) AS r;
SELECT credits_stripe_add_secret('first', 'whsec_first_0123456789');

-- what a type is not known for is kept, once
SELECT * FROM pg_temp.send('evt_630001', 'plan.created', '{"id": "p"}');
SELECT * FROM pg_temp.send('evt_630003', 'charge.succeeded', '{"id": "ch_1"}');
SELECT * FROM pg_temp.send('evt_630004', 'invoice.paid', '{"id": "in_1"}');
SELECT id, type, object_id, subject, created, received_at, api_version, livemode, result, detail, facts, payload
FROM credits.stripe_events ORDER BY id;

-- signed by Stripe, but nothing that it sends: kept, and somebody is told
SELECT credits_stripe_webhook(e, pg_temp.header(e)) FROM (VALUES ('[]')) AS v (e);
\echo :SQLSTATE
SELECT credits_stripe_webhook(e, pg_temp.header(e)) FROM (VALUES ('{"id": "evt_1", "type": "x"')) AS v (e);
\echo :SQLSTATE
SELECT credits_stripe_webhook(e, pg_temp.header(e)) FROM (VALUES ('{"id": "evt_1", "type": "x"}')) AS v (e);
SELECT credits_stripe_webhook(e, pg_temp.header(e)) FROM (VALUES ('{"id": "evt_1", "type": "x", "created": 1}')) AS v (e);
SELECT credits_stripe_webhook(e, pg_temp.header(e)) FROM (VALUES ('{"id": "evt_1", "type": "x", "created": -1, "data": {"object": {}}}')) AS v (e);
SELECT credits_stripe_webhook(e, pg_temp.header(e))
FROM pg_temp.event('evt_1', 'refund.created', '{}') AS e;
SELECT credits_stripe_webhook(e, pg_temp.header(e))
FROM pg_temp.event(repeat('e', 256), 'x', '{}') AS e;
SELECT credits_stripe_webhook('\xff'::bytea, format('t=1767225600,v1=%s',
	encode(sha256(pg_temp.pad('whsec_first_0123456789', 92) || sha256(pg_temp.pad('whsec_first_0123456789', 54) || '1767225600.'::bytea || '\xff'::bytea)), 'hex')));
\echo :SQLSTATE
-- the bytes are what counts, the text is in the encoding of the client
SELECT r.result FROM pg_temp.event('evt_630005', 'customer.created', '{"id": "cus_1", "name": "Zoë"}') AS e, credits_stripe_webhook(convert_to(e, 'UTF8'), pg_temp.header(e)) AS r;
SET client_encoding = 'LATIN1';
SELECT r.result FROM pg_temp.event('evt_630006', 'customer.created', U&'{"id": "cus_1", "name": "Zo\00EB"}') AS e, credits_stripe_webhook(e, pg_temp.header(e)) AS r;
RESET client_encoding;

BEGIN READ ONLY;
SELECT credits_stripe_webhook('{}', 't=1');
\echo :SQLSTATE
ROLLBACK;

-- a purchase: completed once, refunded in parts, charged back
RESET ROLE;
SELECT credits_open_account('stripe:buyer');
SELECT credits_set_package('stripe:big', 1000, 10.00, 'USD') IS NOT NULL AS set;
CREATE TEMP TABLE bought AS
SELECT c.n, p.purchase_id AS id, p.reference FROM generate_series(1, 6) AS c (n),
	credits_start_purchase('stripe:buyer', 'stripe:big', idempotency_key => 'b' || c.n) AS p;
SELECT * FROM bought;
CREATE FUNCTION pg_temp.session(n int, status text, amount int DEFAULT 1000, currency text DEFAULT 'usd') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', 'cs_' || n, 'mode', 'payment', 'payment_intent', 'pi_' || n, 'client_reference_id', reference,
		'payment_status', status, 'amount_total', amount, 'currency', currency, 'customer', 'cus_' || n)
	FROM bought AS b WHERE b.n = session.n
$$;
GRANT SELECT ON bought TO regress_credits_app;
SET ROLE regress_credits_app;
SELECT * FROM pg_temp.send('evt_630101', 'checkout.session.completed', pg_temp.session(1, 'paid'));
SELECT * FROM pg_temp.send('evt_630101', 'checkout.session.completed', pg_temp.session(1, 'paid'));
-- the same under another id
SELECT * FROM pg_temp.send('evt_630102', 'checkout.session.completed', pg_temp.session(1, 'paid'));
-- the id with another content
SELECT * FROM pg_temp.send('evt_630101', 'checkout.session.completed', pg_temp.session(2, 'paid'));
\echo :SQLSTATE
SELECT balance, debt FROM credits_summary('stripe:buyer');
SELECT * FROM pg_temp.send('evt_630103', 'charge.refunded',
	'{"id": "ch_1", "payment_intent": "pi_1", "amount": 1000, "amount_refunded": 250, "currency": "usd"}', 1767225700);
SELECT balance, debt FROM credits_summary('stripe:buyer');
SELECT * FROM pg_temp.send('evt_630104', 'refund.created',
	'{"id": "re_1", "payment_intent": "pi_1", "charge": "ch_1", "amount": 250, "currency": "usd", "status": "pending"}', 1767225700);
SELECT * FROM pg_temp.send('evt_630105', 'refund.failed',
	'{"id": "re_1", "payment_intent": "pi_1", "charge": "ch_1", "amount": 250, "currency": "usd", "status": "failed"}', 1767225800);
SELECT balance, debt FROM credits_summary('stripe:buyer');
SELECT * FROM pg_temp.send('evt_630106', 'charge.dispute.created',
	'{"id": "dp_1", "payment_intent": "pi_1", "charge": "ch_1", "amount": 1000, "currency": "usd", "status": "warning_needs_response"}', 1767225900);
SELECT * FROM pg_temp.send('evt_630107', 'charge.dispute.updated',
	'{"id": "dp_1", "payment_intent": "pi_1", "charge": "ch_1", "amount": 1000, "currency": "usd", "status": "needs_response"}', 1767225901);
SELECT balance, debt FROM credits_summary('stripe:buyer');
SELECT * FROM pg_temp.send('evt_630108', 'charge.dispute.closed',
	'{"id": "dp_1", "payment_intent": "pi_1", "charge": "ch_1", "amount": 1000, "currency": "usd", "status": "won"}', 1767225902);
SELECT balance, debt FROM credits_summary('stripe:buyer');

-- paid later, failed, expired, paid too little, in another currency
SELECT * FROM pg_temp.send('evt_630201', 'checkout.session.completed', pg_temp.session(2, 'unpaid'));
SELECT * FROM pg_temp.send('evt_630202', 'checkout.session.async_payment_succeeded', pg_temp.session(2, 'paid'));
SELECT * FROM pg_temp.send('evt_630203', 'checkout.session.completed', pg_temp.session(3, 'unpaid'));
SELECT * FROM pg_temp.send('evt_630204', 'checkout.session.async_payment_failed', pg_temp.session(3, 'unpaid'));
SELECT * FROM pg_temp.send('evt_630205', 'checkout.session.expired', pg_temp.session(4, 'unpaid') || '{"payment_intent": null}');
SELECT * FROM pg_temp.send('evt_630206', 'checkout.session.completed', pg_temp.session(5, 'paid', 999));
SELECT * FROM pg_temp.send('evt_630207', 'checkout.session.completed', pg_temp.session(6, 'paid', 1000, 'eur'));
SELECT * FROM pg_temp.send('evt_630208', 'payment_intent.payment_failed', jsonb_build_object('id', 'pi_9', 'metadata',
	jsonb_build_object('purchase_id', (SELECT id::text FROM bought WHERE n = 5))));
SELECT * FROM pg_temp.send('evt_630209', 'payment_intent.payment_failed', '{"id": "pi_10"}');
-- what bought nothing takes nothing when it goes back, and does not stand in the way
SELECT * FROM pg_temp.send('evt_630220', 'charge.refunded', '{"id": "ch_5", "payment_intent": "pi_5", "amount_refunded": 999, "currency": "usd"}');
SELECT * FROM pg_temp.send('evt_630221', 'checkout.session.completed', pg_temp.session(5, 'paid') || '{"id": "cs_5b", "payment_intent": "pi_5b"}');
SELECT * FROM pg_temp.send('evt_630222', 'refund.created', '{"id": "re_5", "charge": "ch_5", "payment_intent": "pi_5", "amount": 999, "currency": "usd", "status": "succeeded"}');
-- money that nobody knows what it was for
SELECT * FROM pg_temp.send('evt_630210', 'checkout.session.completed', pg_temp.session(1, 'paid') || '{"id": "cs_x", "payment_intent": "pi_x"}');
SELECT * FROM pg_temp.send('evt_630211', 'checkout.session.completed', '{"id": "cs_y", "payment_intent": "pi_y", "payment_status": "paid", "amount_total": 5, "currency": "usd"}');
SELECT * FROM pg_temp.send('evt_630212', 'checkout.session.completed', '{"id": "cs_z", "payment_intent": "pi_z", "payment_status": "paid", "amount_total": 5, "currency": "usd", "client_reference_id": "purchase_0"}');
SELECT * FROM pg_temp.send('evt_630213', 'refund.created', '{"id": "re_x", "payment_intent": "pi_u", "amount": 5, "currency": "usd", "status": "succeeded"}');
RESET ROLE;
SELECT n, status, payment_reference, money FROM bought AS b JOIN credits.purchases AS p USING (id) ORDER BY n;
SELECT balance, debt FROM credits_summary('stripe:buyer');
SELECT kind, account_id, created_at, detail - 'purchase_id' AS detail FROM credits.events
WHERE id BETWEEN 630001 AND 639999 AND kind IN ('payment_unknown', 'purchase_underpaid', 'payment_failed', 'stripe_unmapped', 'stripe_refused') ORDER BY id;
SELECT * FROM credits.stripe_subjects WHERE waiting IS NOT NULL ORDER BY subject;
-- nothing of that is known any better
SELECT event_id, result FROM credits_stripe_reprocess() ORDER BY event_id;
SELECT account, problem FROM credits_verify('stripe:buyer');
SELECT id, learned FROM credits.stripe_customers ORDER BY id;

-- what stands for what
SET ROLE regress_credits_admin;
SELECT credits_stripe_set_price('price_1', plan => 'stripe:plan');
SELECT credits_stripe_set_price('prod_1', package => 'stripe:big');
SELECT credits_stripe_set_price('price_1', 'stripe:plan', 'stripe:big');
\echo :SQLSTATE
SELECT credits_stripe_set_price(NULL, 'stripe:plan');
\echo :SQLSTATE
SELECT credits_stripe_set_price('', 'stripe:plan');
\echo :SQLSTATE
SELECT id, plan, package, created_at, role = session_user AS ours FROM credits.stripe_prices ORDER BY id;
SELECT credits_stripe_set_price('prod_1');
SELECT id FROM credits.stripe_prices ORDER BY id;
SELECT credits_stripe_set_customer('cus_1', 'nobody');
\echo :SQLSTATE
SELECT credits_stripe_set_customer(NULL, 'stripe:buyer');
\echo :SQLSTATE
SELECT credits_stripe_set_customer('cus_1', 'stripe:buyer');
SELECT id, learned FROM credits.stripe_customers ORDER BY id;
RESET ROLE;

-- a subscription: nothing is known of its price, nor whose it is; then it is
SELECT credits_open_account('stripe:subscriber');
SELECT credits_set_plan('stripe:plan', 100, price => 10, currency => 'USD') IS NOT NULL AS set;
SELECT credits_set_plan('stripe:more', 300, price => 30, currency => 'USD') IS NOT NULL AS set;
CREATE FUNCTION pg_temp.subscription(id text, status text, price text, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'status', status, 'customer', 'cus_' || id, 'created', 1767225600, 'start_date', 1767225600,
		'billing_cycle_anchor', 1767225600, 'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object(
			'price', jsonb_build_object('id', price, 'product', 'prod_' || price),
			'current_period_start', 1767225600, 'current_period_end', 1769904000)))) || more
$$;
CREATE FUNCTION pg_temp.invoice(id text, subscription text, price text, amount int, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'customer', 'cus_' || subscription, 'amount_paid', amount, 'currency', 'usd',
		'parent', jsonb_build_object('type', 'subscription_details', 'subscription_details', jsonb_build_object('subscription', subscription)),
		'lines', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('amount', amount,
			'parent', jsonb_build_object('type', 'subscription_item_details'),
			'period', jsonb_build_object('start', 1767225600, 'end', 1769904000),
			'pricing', jsonb_build_object('price_details', jsonb_build_object('price', price, 'product', 'prod_' || price)))))) || more
$$;
SET ROLE regress_credits_app;
SELECT * FROM pg_temp.send('evt_630301', 'customer.subscription.created', pg_temp.subscription('sub_1', 'incomplete', 'price_a'));
SELECT * FROM pg_temp.send('evt_630302', 'invoice.paid', pg_temp.invoice('in_1', 'sub_1', 'price_a', 1000));
SELECT * FROM pg_temp.send('evt_630303', 'customer.subscription.updated', pg_temp.subscription('sub_1', 'active', 'price_a'));
RESET ROLE;
SELECT credits_stripe_set_price('prod_price_a', 'stripe:plan');
SELECT event_id, result, detail FROM credits_stripe_reprocess() WHERE event_id LIKE 'evt_6303%' ORDER BY event_id;
SET ROLE regress_credits_app;
-- the session says whose it is, and gives nothing itself
SELECT event_id, result, detail - 'transaction_id' AS detail FROM pg_temp.send('evt_630304', 'checkout.session.completed',
	'{"id": "cs_s1", "mode": "subscription", "subscription": "sub_1", "customer": "cus_sub_1", "payment_status": "paid", "client_reference_id": "stripe:subscriber"}');
SELECT balance, debt FROM credits_summary('stripe:subscriber');
SELECT * FROM pg_temp.send('evt_630305', 'invoice.paid', pg_temp.invoice('in_1', 'sub_1', 'price_a', 1000));
RESET ROLE;
SELECT id, result FROM credits.stripe_events WHERE subject = 'sub_1' ORDER BY id;
SELECT plan, status, collection, external_id, period_start, period_end FROM credits.subscription_list WHERE account = 'stripe:subscriber';
-- a refund before anything says what its payment was for
SELECT * FROM pg_temp.send('evt_630306', 'charge.refunded',
	'{"id": "ch_s1", "payment_intent": "pi_s1", "amount": 1000, "amount_refunded": 500, "currency": "usd"}');
SELECT event_id, result, detail - 'transaction_id' AS detail FROM pg_temp.send('evt_630307', 'invoice_payment.paid',
	'{"id": "inpay_1", "invoice": "in_1", "payment": {"type": "payment_intent", "payment_intent": "pi_s1"}}');
SELECT balance, debt FROM credits_summary('stripe:subscriber');
SELECT payment, invoice FROM credits.stripe_links WHERE payment = 'pi_s1';
-- payment fails, the plan changes, which gives nothing that is not billed, then it ends
SELECT * FROM pg_temp.send('evt_630308', 'invoice.payment_failed', pg_temp.invoice('in_2', 'sub_1', 'price_a', 0));
SELECT * FROM pg_temp.send('evt_630309', 'customer.subscription.updated', pg_temp.subscription('sub_1', 'past_due', 'price_a'), 1767225601);
SELECT * FROM pg_temp.send('evt_630310', 'customer.subscription.updated', pg_temp.subscription('sub_1', 'active', 'price_b'), 1767225602);
SELECT credits_stripe_set_price('price_b', 'stripe:more');
SELECT event_id, result, detail FROM credits_stripe_reprocess() WHERE event_id LIKE 'evt_6303%' ORDER BY event_id;
SELECT balance, debt FROM credits_summary('stripe:subscriber');
SELECT * FROM pg_temp.send('evt_630311', 'customer.subscription.deleted', pg_temp.subscription('sub_1', 'canceled', 'price_b'), 1767225603);
-- what comes late changes nothing any more
SELECT * FROM pg_temp.send('evt_630312', 'customer.subscription.updated', pg_temp.subscription('sub_1', 'active', 'price_b'), 1767225602);
SELECT plan, status FROM credits.subscription_list WHERE account = 'stripe:subscriber';
-- a trial, of an account that the metadata names, which its invoice of nothing gives
SELECT credits_set_plan('stripe:trial', 100, price => 10, currency => 'USD', trial => '14 days', trial_credits => 20) IS NOT NULL AS set;
SELECT credits_stripe_set_price('price_t', 'stripe:trial');
SELECT credits_open_account('stripe:tries');
SELECT event_id, result, detail FROM pg_temp.send('evt_630321', 'customer.subscription.created', pg_temp.subscription('sub_2', 'trialing', 'price_t',
	'{"metadata": {"account": "stripe:tries"}, "trial_start": 1767225600, "trial_end": 1768435200, "billing_cycle_anchor": 1768435200}'));
SELECT event_id, result, detail - 'transaction_id' AS detail FROM pg_temp.send('evt_630322', 'invoice.paid', jsonb_set(pg_temp.invoice('in_3', 'sub_2', 'price_t', 0),
	'{lines,data,0,period,end}', '1768435200'));
SELECT balance FROM credits_summary('stripe:tries');
SELECT status, period_start, period_end FROM credits.subscription_list WHERE account = 'stripe:tries';
-- an account that is not there
SELECT event_id, result, detail FROM pg_temp.send('evt_630331', 'customer.subscription.created', pg_temp.subscription('sub_3', 'active', 'price_t',
	'{"metadata": {"account": "stripe:nobody"}}'));
-- or is closed
SELECT credits_close_account('stripe:tries', 'gone') IS NOT NULL AS closed;
SELECT event_id, result, detail FROM pg_temp.send('evt_630332', 'customer.subscription.created', pg_temp.subscription('sub_4', 'active', 'price_t',
	'{"metadata": {"account": "stripe:tries"}}'));
-- never paid for
SELECT event_id, result, detail FROM pg_temp.send('evt_630333', 'customer.subscription.deleted', pg_temp.subscription('sub_5', 'incomplete_expired', 'price_a',
	'{"metadata": {"account": "stripe:subscriber"}}'));
SELECT kind, detail FROM credits.events WHERE id BETWEEN 630001 AND 639999
	AND kind IN ('stripe_unmapped', 'stripe_refused', 'payment_failed') AND detail->>'event_id' LIKE 'evt_6303%' ORDER BY id;
SELECT account, problem FROM credits_verify() WHERE account LIKE 'stripe:%';
-- bytes that go on behind a zero, however many they are
CREATE FUNCTION pg_temp.hmac(message bytea, secret text) RETURNS text LANGUAGE sql AS $$
	SELECT encode(sha256(pg_temp.pad(k, 92) || sha256(pg_temp.pad(k, 54) || message)), 'hex')
	FROM (SELECT secret::bytea AS k) AS s
$$;
SELECT credits_stripe_webhook(p, format('t=1767225600,v1=%s', pg_temp.hmac('1767225600.'::bytea || p, 'whsec_first_0123456789')))
FROM (SELECT '{"id": "evt_1"}\000'::bytea) AS s (p);
\echo :SQLSTATE
SELECT credits_stripe_webhook(p, format('t=1767225600,v1=%s', pg_temp.hmac('1767225600.'::bytea || p, 'whsec_first_0123456789')))
FROM (SELECT '{"id": "evt_1"}\000'::bytea || convert_to(repeat(' ', 32000000), 'UTF8')) AS s (p);
\echo :SQLSTATE
-- what cannot be read is kept as it came, and announced once
SELECT left(id, 16) AS id, left(type, 16) AS type, object_id, subject = id AS own, result, detail, facts, payload IS NOT NULL AS payload, length(body) AS length FROM credits.stripe_events
WHERE detail ->> 'missing' LIKE 'an event that can be read%' ORDER BY received_at, id COLLATE "C", length(body);
SELECT left(detail ->> 'subject', 16) AS subject, detail ->> 'missing' AS missing, left(detail ->> 'type', 16) AS type FROM credits.events
WHERE kind = 'stripe_refused' AND detail ->> 'missing' LIKE 'an event that can be read%' ORDER BY detail ->> 'subject' COLLATE "C";
-- characters that jsonb cannot hold do not stand in the way of a payment
SET credits.test_clock = '2026-01-01 00:00:00+00';
RESET ROLE;
SELECT credits_open_account('stripe:more') IS NOT NULL AS opened;
CREATE FUNCTION pg_temp.begin(OUT id text) LANGUAGE sql AS $$
	SELECT purchase_id::text FROM public.credits_start_purchase('stripe:more', 'stripe:big')
$$;
CREATE FUNCTION pg_temp.paid(n int, id text, amount int DEFAULT 1000) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', 'cs_m' || n, 'mode', 'payment', 'payment_intent', 'pi_m' || n, 'payment_status', 'paid',
		'amount_total', amount, 'currency', 'usd', 'metadata', jsonb_build_object('purchase_id', id), 'note', '~')
$$;
SELECT id AS one FROM pg_temp.begin() \gset
SELECT r.result, r.detail ->> 'outcome' AS outcome FROM pg_temp.event('evt_630401', 'checkout.session.completed', pg_temp.paid(1, :'one')) AS e,
	replace(e, '~', 'a\u0000b \\u0000 \\\u0000') AS p, credits_stripe_webhook(p, pg_temp.header(p)) AS r;
SELECT payload #>> '{data,object,note}' AS note, convert_from(body, 'UTF8') LIKE '%a\\u0000b%' AS body FROM credits.stripe_events WHERE id = 'evt_630401';
-- others are kept, however deep, and do not stand in the way of anything either
SELECT id AS two FROM pg_temp.begin() \gset
CREATE FUNCTION pg_temp.raw(p text) RETURNS TABLE (event text, type text, result text, missing text) LANGUAGE sql AS $$
	SELECT left(event_id, 16), r.type, result, detail ->> 'missing' FROM public.credits_stripe_webhook(p, pg_temp.header(p)) AS r
$$;
SELECT * FROM pg_temp.raw(repeat('[', 100000) || repeat(']', 100000));
SELECT * FROM pg_temp.raw(repeat('[', 100000) || repeat(']', 100000));
SELECT * FROM pg_temp.raw('{"id": "evt_630402", "type": "x", "note": "\ud800"}');
-- amounts below zero
SELECT * FROM pg_temp.send('evt_630403', 'checkout.session.completed', pg_temp.paid(2, :'two', -1000));
SELECT * FROM pg_temp.send('evt_630404', 'charge.refunded', '{"id": "ch_m1", "payment_intent": "pi_m1", "amount_refunded": -1, "currency": "usd"}');
SELECT * FROM pg_temp.send('evt_630405', 'refund.created', '{"id": "re_m1", "payment_intent": "pi_m1", "amount": -1, "currency": "usd", "status": "succeeded"}');
SELECT * FROM pg_temp.send('evt_630406', 'charge.dispute.created', '{"id": "dp_m1", "payment_intent": "pi_m1", "amount": -1, "currency": "usd", "status": "needs_response"}');
SELECT count(*) FROM credits.events WHERE kind = 'stripe_refused' AND detail ->> 'event_id' LIKE 'evt_63040%';
SELECT result, detail ->> 'outcome' AS outcome FROM pg_temp.send('evt_630407', 'checkout.session.completed', pg_temp.paid(2, :'two'));
SELECT event_id, result FROM credits_stripe_reprocess() WHERE event_id LIKE 'evt_63040%';
-- a payment that is reported by itself; beside its session it is a replay, in either order
SELECT id AS three FROM pg_temp.begin() \gset
SELECT id AS four FROM pg_temp.begin() \gset
CREATE FUNCTION pg_temp.intent(n int, id text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', 'pi_m' || n, 'amount', 1000, 'amount_received', 1000, 'currency', 'usd', 'customer', 'cus_m',
		'metadata', CASE WHEN id = '' THEN '{}' ELSE jsonb_build_object('purchase_id', id) END)
$$;
SELECT result, detail - 'purchase_id' - 'transaction_id' AS detail FROM pg_temp.send('evt_630411', 'payment_intent.succeeded', pg_temp.intent(3, :'three'), 1767225700);
SELECT result, detail - 'purchase_id' - 'transaction_id' AS detail FROM pg_temp.send('evt_630412', 'checkout.session.completed', pg_temp.paid(3, :'three'), 1767225701);
SELECT result, detail - 'purchase_id' - 'transaction_id' AS detail FROM pg_temp.send('evt_630413', 'checkout.session.completed', pg_temp.paid(4, :'four'), 1767225701);
SELECT result, detail - 'purchase_id' - 'transaction_id' AS detail FROM pg_temp.send('evt_630414', 'payment_intent.succeeded', pg_temp.intent(4, :'four'), 1767225700);
SELECT result, detail - 'purchase_id' AS detail FROM pg_temp.send('evt_630415', 'payment_intent.payment_failed', pg_temp.intent(4, :'four'), 1767225600);
-- that of an invoice or of another shop
SELECT result, detail FROM pg_temp.send('evt_630416', 'payment_intent.succeeded', pg_temp.intent(5, ''));
SELECT status, payment_reference FROM credits.purchases WHERE id IN (:three, :four) ORDER BY id;
SELECT kind, count(*) FROM credits.events AS e WHERE detail ->> 'purchase_id' IN (:'three', :'four') GROUP BY kind ORDER BY kind;
-- a session that saves a card has nothing to pay for
SELECT result, detail FROM pg_temp.send('evt_630417', 'checkout.session.completed',
	'{"id": "cs_setup", "mode": "setup", "setup_intent": "seti_1", "payment_status": "no_payment_required", "client_reference_id": "user:42"}');
-- a dispute that is lost is over, whatever is told of it later; a bank may yet give in
CREATE FUNCTION pg_temp.dispute(id text, type text, status text, created bigint) RETURNS TABLE (reversal text, balance bigint, debt bigint) LANGUAGE sql AS $$
	SELECT pg_temp.send(id, type, jsonb_build_object('id', 'dp_m3', 'payment_intent', 'pi_m3', 'amount', 400, 'currency', 'usd', 'status', status), created);
	SELECT concat_ws(' ', r.status, r.money), s.balance, s.debt FROM credits.reversals AS r, public.credits_summary('stripe:more') AS s WHERE r.reference = 'dp_m3'
$$;
SELECT * FROM pg_temp.dispute('evt_630421', 'charge.dispute.created', 'needs_response', 1767225800);
SELECT * FROM pg_temp.dispute('evt_630422', 'charge.dispute.closed', 'lost', 1767225803);
SELECT * FROM pg_temp.dispute('evt_630423', 'charge.dispute.updated', 'under_review', 1767225802);
SELECT kind FROM credits.events WHERE kind LIKE 'chargeback%' AND detail ->> 'purchase_id' = :'three' ORDER BY id;
SELECT * FROM pg_temp.dispute('evt_630424', 'charge.dispute.funds_reinstated', 'lost', 1767225804);
SELECT kind FROM credits.events WHERE kind LIKE 'chargeback%' AND detail ->> 'purchase_id' = :'three' ORDER BY id;
-- amounts as Stripe counts them, both ways: https://docs.stripe.com/currencies
CREATE TEMP TABLE prices AS
SELECT c.currency, c.price, p.purchase_id, p.amount_minor, p.stripe_amount FROM (VALUES ('BHD', 5.12), ('BHD', 5.124), ('HUF', 10.45), ('ISK', 5), ('JPY', 500), ('KRW', 500),
		('MGA', 10), ('MGA', 10.2), ('TWD', 10.45), ('UGX', 5), ('USD', 10)) AS c (currency, price),
	credits_set_package('stripe:' || c.currency || c.price, 100, c.price, c.currency) AS package,
	credits_start_purchase(CASE WHEN package > 0 THEN 'stripe:more' END, 'stripe:' || c.currency || c.price) AS p;
SELECT currency, price, amount_minor, stripe_amount, r.detail ->> 'outcome' AS outcome
FROM prices AS c LEFT JOIN LATERAL (SELECT s.detail FROM pg_temp.send('evt_630431' || c.purchase_id, 'checkout.session.completed', jsonb_build_object(
	'id', 'cs_p' || c.purchase_id, 'payment_intent', 'pi_p' || c.purchase_id, 'client_reference_id', 'purchase_' || c.purchase_id,
	'payment_status', 'paid', 'amount_total', c.stripe_amount, 'currency', lower(c.currency))) AS s WHERE c.stripe_amount IS NOT NULL) AS r ON true
ORDER BY currency, price;
SELECT currency, price, money, status FROM credits.purchases WHERE id IN (SELECT purchase_id FROM prices) ORDER BY currency, price;
SELECT account, problem FROM credits_verify() WHERE account LIKE 'stripe:%';
-- nothing is left due
RESET ROLE;
SET credits.test_clock = '2110-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
