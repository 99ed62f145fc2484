-- stripe_lines: credits follow the lines of invoices that are paid
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
\set SHOW_CONTEXT never
ALTER SEQUENCE credits.accounts_id_seq RESTART 640001;
ALTER SEQUENCE credits.grants_id_seq RESTART 640001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 640001;
ALTER SEQUENCE credits.events_id_seq RESTART 640001;
ALTER SEQUENCE credits.purchases_id_seq RESTART 640001;
ALTER SEQUENCE credits.subscriptions_id_seq RESTART 640001;
SET credits.test_clock = '2026-01-20 00:00:00+00';
SELECT credits_stripe_add_secret('lines', 'whsec_lines_0123456789');
SELECT credits_set_plan('line:basic', 1000, price => 10, currency => 'USD', trial_credits => 50, trial => '14 days') IS NOT NULL AS set,
	credits_set_plan('line:pro', 3000, price => 30, currency => 'USD') IS NOT NULL AS set;
SELECT credits_stripe_set_price('price_basic', 'line:basic'), credits_stripe_set_price('price_pro', 'line:pro');

-- HMAC-SHA256 by its definition in RFC 2104
CREATE FUNCTION pg_temp.pad(key bytea, mask int) RETURNS bytea LANGUAGE sql AS $$
	SELECT string_agg(set_byte('\x00', 0, CASE WHEN i < length(key) THEN get_byte(key, i) ELSE 0 END # mask), '' ORDER BY i)
	FROM generate_series(0, 63) AS i
$$;
CREATE TEMP SEQUENCE event_seq;
-- an event, on a day of January 2026
CREATE FUNCTION pg_temp.send(type text, object jsonb, day numeric DEFAULT 1) RETURNS text LANGUAGE sql AS $$
	SELECT r.result || COALESCE(': ' || (r.detail->>'missing'), '')
	FROM (SELECT jsonb_build_object('id', 'evt_640' || nextval('pg_temp.event_seq'), 'type', type, 'created', 1767225600 + 86400 * (day - 1),
			'data', jsonb_build_object('object', object))::text) AS e (event),
		encode(sha256(pg_temp.pad('whsec_lines_0123456789', 92) || sha256(pg_temp.pad('whsec_lines_0123456789', 54)
			|| ('1768867200.' || event)::bytea)), 'hex') AS h (hmac),
		public.credits_stripe_webhook(event, 't=1768867200,v1=' || hmac) AS r
$$;
CREATE FUNCTION pg_temp.subscription(n int, price text DEFAULT 'price_basic', more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', 'sub_l' || n, 'status', 'active', 'customer', 'cus_l' || n, 'created', 1767225600, 'start_date', 1767225600,
		'billing_cycle_anchor', 1767225600, 'metadata', jsonb_build_object('account', 'line:' || n),
		'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', 'si_' || n, 'price', jsonb_build_object('id', price))))) || more
$$;
-- a line for some days of January, or an invoice item
CREATE FUNCTION pg_temp.line(id text, price text, amount int, more jsonb DEFAULT '{}', first int DEFAULT 1, last int DEFAULT 32) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'amount', amount,
		'period', jsonb_build_object('start', 1767225600 + 86400 * (first - 1), 'end', 1767225600 + 86400 * (last - 1)),
		'pricing', jsonb_build_object('unit_amount_decimal', '1000', 'price_details', jsonb_build_object('price', price))) || more
$$;
CREATE FUNCTION pg_temp.invoice(id text, n int, lines jsonb, more jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'customer', 'cus_l' || n, 'currency', 'usd', 'total', s.total, 'amount_paid', s.total,
		'parent', jsonb_build_object('subscription_details', jsonb_build_object('subscription', 'sub_l' || n)),
		'lines', jsonb_build_object('has_more', false, 'data', lines)) || more
	FROM (SELECT sum((l->>'amount')::int) AS total FROM jsonb_array_elements(lines) AS l) AS s
$$;
CREATE FUNCTION pg_temp.item(id text, n int, price text, amount int, more jsonb DEFAULT '{}', first int DEFAULT 11) RETURNS jsonb LANGUAGE sql AS $$
	SELECT pg_temp.line(id, price, amount, jsonb_build_object('proration', true, 'currency', 'usd',
		'parent', jsonb_build_object('subscription_details', jsonb_build_object('subscription', 'sub_l' || n, 'subscription_item', 'si_' || n))) || more, first)
$$;
-- a line that an invoice item became
CREATE FUNCTION pg_temp.billed(item text, price text, amount int, first int DEFAULT 11) RETURNS jsonb LANGUAGE sql AS $$
	SELECT pg_temp.line('il_' || item, price, amount, jsonb_build_object('parent', jsonb_build_object('subscription_item_details',
		jsonb_build_object('invoice_item', item, 'proration', true))), first)
$$;
CREATE FUNCTION pg_temp.start(n int, price text DEFAULT 'price_basic', more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.send('customer.subscription.created', pg_temp.subscription(n, price, more))
	FROM public.credits_open_account('line:' || n)
$$;
CREATE FUNCTION pg_temp.has(n int) RETURNS text LANGUAGE sql AS $$
	SELECT s.balance || COALESCE(' debt ' || NULLIF(s.debt, 0), '') FROM public.credits_summary('line:' || n) AS s
$$;

-- quantities, and a second item with the same period
SELECT pg_temp.start(1);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l1', 1, jsonb_build_array(
	pg_temp.line('il_1', 'price_basic', 5000, '{"quantity": 5}'), pg_temp.line('il_2', 'price_pro', 3000))));
SELECT pg_temp.has(1);
-- a refund of a quarter, before it is linked with the invoice
SELECT pg_temp.send('charge.refunded', '{"id": "ch_l1", "payment_intent": "pi_l1", "amount_refunded": 2000, "currency": "usd"}');
SELECT pg_temp.has(1);
SELECT pg_temp.send('invoice_payment.paid', '{"id": "inpay_l1", "invoice": "in_l1", "payment": {"payment_intent": "pi_l1"}}');
SELECT pg_temp.has(1);
-- a dispute of the rest, which is lost
SELECT pg_temp.send('charge.dispute.created', '{"id": "dp_l1", "payment_intent": "pi_l1", "charge": "ch_l1", "amount": 6000, "currency": "usd", "status": "needs_response"}', 2);
SELECT pg_temp.send('charge.dispute.closed', '{"id": "dp_l1", "payment_intent": "pi_l1", "charge": "ch_l1", "amount": 6000, "currency": "usd", "status": "lost"}', 3);
SELECT pg_temp.has(1);
SELECT r.reference, r.kind, r.status, r.money FROM credits.reversals AS r JOIN credits.purchases AS p ON p.id = r.purchase_id
WHERE p.payment_reference = 'in_l1' ORDER BY 1;
SELECT kind, detail->>'reversal_reference' AS reference FROM credits.events WHERE id BETWEEN 640001 AND 649999 AND kind LIKE 'chargeback%' ORDER BY id;
-- its credits follow the invoice, not a call
SELECT credits_refund_purchase(id) FROM credits.purchases WHERE payment_reference = 'in_l1';
\echo :SQLSTATE
SELECT credits_open_chargeback(id, 'dp_own') FROM credits.purchases WHERE payment_reference = 'in_l1';
\echo :SQLSTATE
SELECT credits_close_chargeback(id, 'dp_l1', 'won') FROM credits.purchases WHERE payment_reference = 'in_l1';
\echo :SQLSTATE

-- an upgrade after 10 of 31 days: in advance, until there is an invoice that is not paid
SELECT pg_temp.start(2);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l2', 2, jsonb_build_array(pg_temp.line('il_3', 'price_basic', 1000))));
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_1', 2, 'price_basic', -677), 11);
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_2', 2, 'price_pro', 2032), 11);
SELECT pg_temp.send('customer.subscription.updated', pg_temp.subscription(2, 'price_pro'), 11);
SELECT pg_temp.has(2), (SELECT plan FROM credits.subscription_list WHERE external_id = 'sub_l2');
SELECT pg_temp.send('invoice.finalized', pg_temp.invoice('in_l2b', 2, jsonb_build_array(
	pg_temp.billed('ii_1', 'price_basic', -677), pg_temp.billed('ii_2', 'price_pro', 2032)), '{"status": "open", "amount_paid": 0}'), 12);
SELECT pg_temp.has(2);
SELECT pg_temp.send('invoice.payment_failed', pg_temp.invoice('in_l2b', 2, jsonb_build_array(
	pg_temp.billed('ii_1', 'price_basic', -677), pg_temp.billed('ii_2', 'price_pro', 2032)), '{"status": "open", "amount_paid": 0}'), 13);
SELECT pg_temp.has(2);
SELECT pg_temp.send('invoice.marked_uncollectible', pg_temp.invoice('in_l2b', 2, jsonb_build_array(
	pg_temp.billed('ii_1', 'price_basic', -677), pg_temp.billed('ii_2', 'price_pro', 2032)), '{"status": "uncollectible", "amount_paid": 0}'), 14);
SELECT pg_temp.has(2);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l2b', 2, jsonb_build_array(
	pg_temp.billed('ii_1', 'price_basic', -677), pg_temp.billed('ii_2', 'price_pro', 2032)), '{"status": "paid"}'), 15);
SELECT pg_temp.has(2);
-- the item comes again, later and late: the invoice knows better
SELECT pg_temp.send('invoiceitem.updated', pg_temp.item('ii_2', 2, 'price_pro', 9999), 16);
SELECT pg_temp.send('invoiceitem.updated', pg_temp.item('ii_2', 2, 'price_pro', 1), 10);
SELECT pg_temp.has(2);
SELECT key, invoice, amount, proration, negative, billed, problem FROM credits.stripe_lines WHERE subscription = 'sub_l2' ORDER BY key;

-- one that became known when its period was over: nothing is given in advance any more, and nobody has to do anything
SELECT pg_temp.start(54);
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_54', 54, 'price_pro', 900, '{"period": {"start": 1767657600, "end": 1768435200}}'), 15);
SELECT pg_temp.has(54), count(*) AS attention FROM credits.stripe_attention WHERE subject = 'sub_l54';

-- nor is anything of what has paid for the period given instead of it, so that what is paid later is missing
SELECT credits_set_plan('line:week', 700, 'week') IS NOT NULL AS week, credits_set_plan('line:weekly', 2100, 'week') IS NOT NULL AS weekly;
SELECT credits_stripe_set_price('price_week', 'line:week'), credits_stripe_set_price('price_weekly', 'line:weekly');
SELECT pg_temp.start(92, 'price_week');
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_92', 92, 'price_weekly', 1200, '{"period": {"start": 1768176000, "end": 1768521600}}'), 12);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l92', 92, jsonb_build_array(pg_temp.line('il_92', 'price_week', 700, '{}', 9, 16))), 9) FROM generate_series(1, 2);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l92b', 92, jsonb_build_array(pg_temp.billed('ii_92', 'price_weekly', 1200)
	|| '{"period": {"start": 1768176000, "end": 1768521600}}'), '{"status_transitions": {"finalized_at": 1768176000, "paid_at": 1768694400}}'), 18);
SELECT amount, effective_at, expires_at FROM credits_grants('line:92');

-- an upgrade that is deleted, and one that is void
SELECT pg_temp.start(3);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l3', 3, jsonb_build_array(pg_temp.line('il_4', 'price_basic', 1000))));
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_3', 3, 'price_pro', 2032), 11);
SELECT pg_temp.has(3);
SELECT pg_temp.send('invoiceitem.deleted', pg_temp.item('ii_3', 3, 'price_pro', 2032), 12);
SELECT pg_temp.has(3);
SELECT pg_temp.send('invoice.voided', pg_temp.invoice('in_l3b', 3, jsonb_build_array(pg_temp.billed('ii_4', 'price_pro', 2032))), 12);
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_4', 3, 'price_pro', 2032), 11);
SELECT pg_temp.has(3);

-- of the two lines of a change, the credit waits for the other one, so that nobody is without credits in between
SELECT pg_temp.start(81);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l81', 81, jsonb_build_array(pg_temp.line('il_81', 'price_basic', 100000, '{"quantity": 100}'))));
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_81', 81, 'price_basic', -67742, '{"quantity": 100}'), 11);
SELECT pg_temp.has(81);
SELECT pg_temp.send('customer.subscription.updated', pg_temp.subscription(81), 11);
SELECT pg_temp.has(81);
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_82', 81, 'price_basic', 68419, '{"quantity": 101}'), 11);
SELECT pg_temp.has(81);
SELECT kind, count(*), sum(amount) FROM credits_history('line:81') GROUP BY kind ORDER BY kind;
-- the other way round, and for less
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_84', 81, 'price_basic', 3226, '{"quantity": 10}', 22), 22);
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_83', 81, 'price_basic', -32581, '{"quantity": 101}', 22), 22);
SELECT pg_temp.has(81);
-- the last one is not known to be without the other before the subscription says so
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_85', 81, 'price_basic', -323, '{"quantity": 10}', 31), 31);
SELECT pg_temp.has(81), uncertain FROM credits.stripe_lines WHERE key = 'ii_85';
SELECT pg_temp.send('customer.subscription.updated', pg_temp.subscription(81, more => '{"items": {"data": []}}'), 32);
SELECT pg_temp.has(81);
SELECT pg_temp.send('customer.subscription.updated', pg_temp.subscription(81, more => '{"items": {"has_more": true, "data": []}}'), 33);
SELECT pg_temp.has(81);
SELECT pg_temp.send('customer.subscription.updated', pg_temp.subscription(81, more => '{"items": {"data": [{"id": "si_81", "quantity": 0, "price": {"id": "price_basic"}}]}}'), 34);
SELECT pg_temp.has(81);
SELECT pg_temp.send('customer.subscription.updated', pg_temp.subscription(81), 35);
SELECT pg_temp.has(81);
-- an event that is older, but says that it is over
SELECT pg_temp.send('customer.subscription.deleted', pg_temp.subscription(81), 31);
SELECT pg_temp.has(81);
SELECT * FROM credits_verify('line:81');

-- when_paid waits, and finalized does not
SELECT credits_stripe_set_price('price_slow', 'line:pro', upgrade => 'when_paid'), credits_stripe_set_price('price_bank', 'line:pro', give => 'finalized');
SELECT pg_temp.start(4, 'price_slow');
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_5', 4, 'price_slow', 2032), 11);
SELECT pg_temp.has(4);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l4', 4, jsonb_build_array(pg_temp.billed('ii_5', 'price_slow', 2032))), 12);
SELECT pg_temp.has(4);
SELECT pg_temp.start(5, 'price_bank');
SELECT pg_temp.send('invoice.finalized', pg_temp.invoice('in_l5', 5, jsonb_build_array(pg_temp.line('il_5', 'price_bank', 3000)), '{"status": "open"}'));
SELECT pg_temp.has(5);
SELECT pg_temp.send('invoice.voided', pg_temp.invoice('in_l5', 5, jsonb_build_array(pg_temp.line('il_5', 'price_bank', 3000)), '{"status": "void"}'), 2);
SELECT pg_temp.has(5);

-- an invoice that was made by hand has items of two subscriptions: neither loses what it has
SELECT pg_temp.start(71), pg_temp.start(72);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l71', 71, jsonb_build_array(pg_temp.line('il_71', 'price_basic', 1000))));
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l72', 72, jsonb_build_array(pg_temp.line('il_72', 'price_basic', 1000))));
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_71', 71, 'price_pro', 2032), 11);
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_72', 72, 'price_pro', 2032), 11);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l73', 71, jsonb_build_array(pg_temp.billed('ii_71', 'price_pro', 2032) || '{"subscription": "sub_l71"}',
	pg_temp.billed('ii_72', 'price_pro', 2032) || '{"subscription": "sub_l72"}')) - 'parent', 12);
SELECT pg_temp.send('invoiceitem.created', pg_temp.item('ii_73', 72, 'price_pro', 97, first => 31), 13);
SELECT pg_temp.has(71), pg_temp.has(72);

-- lines that are missing
SELECT pg_temp.start(6);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l6', 6, jsonb_build_array(pg_temp.billed('ii_6', 'price_pro', 2032)),
	jsonb_build_object('total', 3032, 'amount_paid', 3032, 'lines', jsonb_build_object('has_more', true, 'data', jsonb_build_array(pg_temp.billed('ii_6', 'price_pro', 2032))))));
SELECT pg_temp.has(6);
SELECT * FROM credits.stripe_attention WHERE subject LIKE '%l6';
SELECT kind, detail FROM credits.events WHERE id BETWEEN 640001 AND 649999 AND kind = 'stripe_incomplete';
SELECT credits_stripe_invoice_lines('in_none', '[]');
\echo :SQLSTATE
SELECT credits_stripe_invoice_lines('in_l6', NULL);
\echo :SQLSTATE
SELECT credits_stripe_invoice_lines('in_l6', '{"data": [], "has_more": true}');
\echo :SQLSTATE
SELECT credits_stripe_invoice_lines('in_l6', '{"has_more": false}');
\echo :SQLSTATE
SELECT credits_stripe_invoice_lines('in_l6', '7');
\echo :SQLSTATE
SELECT credits_stripe_invoice_lines('in_l6', '[7]');
\echo :SQLSTATE
SELECT event_id, type, result FROM credits_stripe_invoice_lines('in_l6', jsonb_build_object('has_more', false, 'data',
	jsonb_build_array(pg_temp.billed('ii_6', 'price_pro', 2032), pg_temp.line('il_6', 'price_basic', 1000))));
SELECT pg_temp.has(6);
SELECT event_id, type, result FROM credits_stripe_invoice_lines('in_l6', jsonb_build_array(pg_temp.billed('ii_6', 'price_pro', 2032), pg_temp.line('il_6', 'price_basic', 1000)));
SELECT pg_temp.has(6);
SELECT count(*) FROM credits.stripe_attention WHERE subject LIKE '%l6';

-- none at all
SELECT pg_temp.start(95);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l95', 95, '[]', '{"total": 1000, "amount_paid": 1000}'));
SELECT subject, reason, amount FROM credits.stripe_attention WHERE subject ~ 'l95';
SELECT result FROM credits_stripe_invoice_lines('in_l95', jsonb_build_array(pg_temp.line('il_95', 'price_basic', 1000)));
SELECT pg_temp.has(95), count(*) AS attention FROM credits.stripe_attention WHERE subject ~ 'l95';

-- the first period until a future anchor: 12 of 31 days, whether or not it is flagged
SELECT pg_temp.start(7, more => '{"billing_cycle_anchor": 1769904000}');
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l7', 7, jsonb_build_array(pg_temp.line('il_7', 'price_basic', 387, first => 20))));
SELECT pg_temp.has(7);
SELECT pg_temp.start(8, more => '{"billing_cycle_anchor": 1769904000}');
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l8', 8, jsonb_build_array(pg_temp.line('il_8', 'price_basic', 387, '{"proration": true}', 20))));
SELECT pg_temp.has(8);

-- a credit note of half a line, whose refund does not count again
SELECT pg_temp.start(9);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l9', 9, jsonb_build_array(
	pg_temp.line('il_9', 'price_basic', 1000), pg_temp.line('il_10', 'price_pro', 3000)), '{"payment_intent": "pi_l9"}'));
SELECT pg_temp.send('credit_note.created', '{"id": "cn_1", "invoice": "in_l9", "amount": 500, "subtotal": 500, "refunds": [{"refund": "re_l9", "amount_refunded": 500}],
	"lines": {"data": [{"type": "invoice_line_item", "invoice_line_item": "il_9", "amount": 500}]}}', 2);
SELECT pg_temp.has(9);
SELECT pg_temp.send('charge.refunded', '{"id": "ch_l9", "payment_intent": "pi_l9", "amount_refunded": 500, "currency": "usd"}', 2);
SELECT pg_temp.has(9);
SELECT pg_temp.send('refund.created', '{"id": "re_l9", "charge": "ch_l9", "payment_intent": "pi_l9", "amount": 500, "currency": "usd", "status": "succeeded"}', 2);
SELECT pg_temp.has(9);
-- one of no line, and one that is voided
SELECT pg_temp.send('credit_note.created', '{"id": "cn_2", "invoice": "in_l9", "amount": 400, "lines": {"data": [{"type": "custom_line_item", "amount": 400}]}}', 3);
SELECT pg_temp.has(9);
SELECT pg_temp.send('credit_note.voided', '{"id": "cn_2", "invoice": "in_l9", "amount": 400, "lines": {"data": [{"type": "custom_line_item", "amount": 400}]}}', 4);
SELECT pg_temp.has(9);
SELECT pg_temp.send('credit_note.created', '{"id": "cn_3", "invoice": "in_unknown", "amount": 400}', 3);
-- one of no line in particular, of an invoice with tax on top: its lines are without that, its amount and the total are not
SELECT pg_temp.start(91);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l91', 91, jsonb_build_array(pg_temp.line('il_91', 'price_basic', 1000)), '{"total": 1190, "amount_paid": 1190}'));
SELECT pg_temp.send('credit_note.created', '{"id": "cn_91", "invoice": "in_l91", "amount": 1190, "subtotal": 1000, "lines": {"data": [{"type": "custom_line_item", "amount": 1000}]}}', 2);
SELECT pg_temp.has(91);
-- paid by two payments, refunded as their charges alone tell: the note's refund belongs to one of them, not to both
SELECT pg_temp.start(50);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l50', 50, jsonb_build_array(pg_temp.line('il_50', 'price_basic', 1000))));
SELECT pg_temp.send('invoice_payment.paid', jsonb_build_object('id', 'inpay_l50' || p, 'invoice', 'in_l50', 'payment', jsonb_build_object('payment_intent', 'pi_l50' || p)))
FROM unnest('{a,b}'::text[]) AS p;
SELECT pg_temp.send('charge.refunded', '{"id": "ch_l50b", "payment_intent": "pi_l50b", "amount_refunded": 100, "currency": "usd"}', 2);
SELECT pg_temp.send('credit_note.created', '{"id": "cn_4", "invoice": "in_l50", "amount": 300, "refunds": [{"refund": "re_l50", "amount_refunded": 300}],
	"lines": {"data": [{"type": "invoice_line_item", "invoice_line_item": "il_50", "amount": 300}]}}', 2);
SELECT pg_temp.send('charge.refunded', '{"id": "ch_l50a", "payment_intent": "pi_l50a", "amount_refunded": 300, "currency": "usd"}', 2);
SELECT pg_temp.has(50);
-- a note's refund is not subtracted from those of others while nobody has said that its payment is the invoice's
SELECT pg_temp.start(51);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l51', 51, jsonb_build_array(pg_temp.line('il_51', 'price_basic', 1000))));
SELECT pg_temp.send('invoice_payment.paid', '{"id": "inpay_l51a", "invoice": "in_l51", "payment": {"payment_intent": "pi_l51a"}}');
SELECT pg_temp.send('refund.created', jsonb_build_object('id', 're_l51' || p, 'payment_intent', 'pi_l51' || p, 'amount', 250, 'currency', 'usd', 'status', 'succeeded'), 2)
FROM unnest('{a,b}'::text[]) AS p;
SELECT pg_temp.send('credit_note.created', '{"id": "cn_5", "invoice": "in_l51", "amount": 250, "refunds": [{"refund": "re_l51b", "amount_refunded": 250}],
	"lines": {"data": [{"type": "invoice_line_item", "invoice_line_item": "il_51", "amount": 250}]}}', 2);
SELECT pg_temp.has(51);
SELECT pg_temp.send('invoice_payment.paid', '{"id": "inpay_l51b", "invoice": "in_l51", "payment": {"payment_intent": "pi_l51b"}}');
SELECT pg_temp.has(51);
-- a dispute and a refund that are known to have come to nothing before they are known at all, and an inquiry, which takes nothing
SELECT pg_temp.start(55);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l55', 55, jsonb_build_array(pg_temp.line('il_55', 'price_basic', 1000)), '{"payment_intent": "pi_l55"}'));
CREATE FUNCTION pg_temp.dispute(id text, status text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'charge', 'ch_l55', 'payment_intent', 'pi_l55', 'amount', 700, 'currency', 'usd', 'status', status)
$$;
SELECT pg_temp.send('charge.dispute.closed', pg_temp.dispute('du_l55', 'won'), 5), pg_temp.send('charge.dispute.closed', pg_temp.dispute('du_l55b', 'warning_closed'), 5),
	pg_temp.send('refund.failed', pg_temp.dispute('re_l55', 'failed'), 5);
SELECT r.kind, r.reference, r.status, r.money FROM credits.reversals AS r JOIN credits.purchases AS p ON p.id = r.purchase_id WHERE p.payment_reference = 'in_l55' ORDER BY r.reference;
SELECT pg_temp.send('charge.dispute.created', pg_temp.dispute('du_l55', 'needs_response'), 4), pg_temp.send('charge.dispute.created', pg_temp.dispute('du_l55b', 'warning_needs_response'), 4),
	pg_temp.send('refund.created', pg_temp.dispute('re_l55', 'pending'), 4);
SELECT r.kind, r.reference, r.status, r.money FROM credits.reversals AS r JOIN credits.purchases AS p ON p.id = r.purchase_id WHERE p.payment_reference = 'in_l55' ORDER BY r.reference;
SELECT pg_temp.has(55);

-- prices that are not mapped, give nothing, are metered, free, or of another length
SELECT pg_temp.start(10);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l10', 10, jsonb_build_array(
	pg_temp.line('il_11', 'price_basic', 1000), pg_temp.line('il_12', 'price_fee', 700), pg_temp.line('il_13', 'price_usage', 20, '{"price": {"id": "price_usage", "recurring": {"usage_type": "metered"}}}'),
	pg_temp.line('il_14', 'price_pro', 300, '{}', 1, 366), pg_temp.line('il_15', 'price_pro', 40, '{}', 5, 5))));
SELECT pg_temp.has(10);
SELECT subject, reason, invoice, amount, currency, resolve FROM credits.stripe_attention WHERE subject ~ 'l10' ORDER BY subject;
SELECT pg_temp.send('customer.subscription.updated', pg_temp.subscription(10), 2);
SELECT credits_stripe_set_price('price_fee', give => 'nothing');
SELECT event_id, result, detail->>'missing' AS missing FROM credits_stripe_reprocess() WHERE event_id LIKE 'evt_640%' ORDER BY event_id;
SELECT pg_temp.has(10);
SELECT credits_stripe_dismiss('in_l10/il_14', 'was allocated');
SELECT credits_stripe_dismiss('in_l10/il_14', 'was allocated');
SELECT credits_stripe_dismiss('in_l10/il_15', 'a setup fee');
SELECT credits_stripe_dismiss('in_l10/il_99', 'not there');
\echo :SQLSTATE
SELECT credits_stripe_dismiss('in_l10/il_15', NULL);
\echo :SQLSTATE
SELECT subject FROM credits.stripe_attention WHERE subject ~ 'l10';
SELECT subject, what, reason FROM credits.stripe_dismissals ORDER BY 1;
SELECT credits_stripe_set_price('price_fee', 'line:pro', give => 'nothing');
\echo :SQLSTATE
SELECT credits_stripe_set_price('price_fee', 'line:pro', give => 'often');
\echo :SQLSTATE
SELECT credits_stripe_set_price('price_fee', 'line:pro', upgrade => 'never');
\echo :SQLSTATE
SELECT credits_set_plan('line:free', 30) IS NOT NULL AS set;
SELECT credits_stripe_set_price('price_free', 'line:free');
SELECT pg_temp.start(11, 'price_free');
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l11', 11, jsonb_build_array(pg_temp.line('il_16', 'price_free', 0, '{"pricing": {"unit_amount_decimal": "0", "price_details": {"price": "price_free"}}}'))));
SELECT pg_temp.has(11);

-- a trial, as its line says, and as the subscription does; then a tiny proration is none
SELECT pg_temp.start(12);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l12', 12, jsonb_build_array(pg_temp.line('il_17', 'price_basic', 0, '{}', 10, 24))));
SELECT pg_temp.has(12);
SELECT pg_temp.start(13, more => '{"status": "trialing", "trial_start": 1768003200, "trial_end": 1769212800}');
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l13', 13, jsonb_build_array(pg_temp.line('il_18', 'price_basic', 0, '{"pricing": {"price_details": {"price": "price_basic"}}}', 10, 24))));
SELECT pg_temp.has(13);
SELECT pg_temp.start(14);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l14', 14, jsonb_build_array(pg_temp.line('il_19', 'price_basic', 1000),
	pg_temp.line('il_20', 'price_basic', 0, '{"proration": true, "period": {"start": 1769903990, "end": 1769904000}}'))));
SELECT pg_temp.has(14);

-- of two prorations of 0, with a discount of everything, one says that it credits: so the other one bills
SELECT pg_temp.start(93);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l93', 93, jsonb_build_array(pg_temp.line('il_93', 'price_basic', 1000, '{"discount_amounts": [{"amount": 1000}]}')), '{"total": 0, "amount_paid": 0}'));
CREATE FUNCTION pg_temp.change(n int, old text, was int, new text, is_now int, credited jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
	SELECT pg_temp.invoice(format('in_l%s_%s', n, new), n, jsonb_agg(pg_temp.line('il_' || id, price, amount, jsonb_build_object('parent', jsonb_build_object('subscription_item_details',
		jsonb_build_object('invoice_item', id, 'subscription_item', 'si_' || n, 'proration', true, 'proration_details', jsonb_build_object('credited_items', credits)))), 11)))
	FROM (VALUES (format('ii_%s_%s_a', n, new), old, was, credited), (format('ii_%s_%s_b', n, new), new, is_now, NULL)) AS v (id, price, amount, credits)
$$;
SELECT pg_temp.send('invoice.paid', pg_temp.change(93, 'price_basic', 0, 'price_pro', 0, '{"invoice": "in_l93"}'), 11);
SELECT pg_temp.has(93);
-- from free to paid and back leaves what it was; where neither says it, nothing changes
SELECT pg_temp.start(94, 'price_free'), pg_temp.send('invoice.paid', pg_temp.invoice('in_l94', 94, jsonb_build_array(pg_temp.line('il_94', 'price_free', 0, '{"pricing": {"unit_amount_decimal": "0", "price_details": {"price": "price_free"}}}'))));
SELECT pg_temp.send('invoice.paid', pg_temp.change(94, 'price_free', 0, 'price_pro', 2032), 11), pg_temp.has(94);
SELECT pg_temp.send('invoice.paid', pg_temp.change(94, 'price_pro', -2032, 'price_free', 0), 11);
SELECT pg_temp.has(94);
SELECT pg_temp.send('invoice.paid', pg_temp.change(94, 'price_free', 0, 'price_basic', 0), 11);
SELECT pg_temp.has(94);

-- a price is mapped anew: what is sold keeps its plan
SELECT pg_temp.start(15);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l15', 15, jsonb_build_array(pg_temp.line('il_21', 'price_basic', 1000, '{"subscription_item": "si_15"}'))));
SELECT credits_stripe_set_price('price_basic', 'line:pro');
SELECT pg_temp.send('customer.subscription.updated', pg_temp.subscription(15), 2);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l15b', 15, jsonb_build_array(pg_temp.line('il_22', 'price_basic', 1000, '{"subscription_item": "si_15"}', 32, 60))), 19);
SELECT pg_temp.has(15), (SELECT plan FROM credits.subscription_list WHERE external_id = 'sub_l15');
SELECT pg_temp.start(16);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l16', 16, jsonb_build_array(pg_temp.line('il_23', 'price_basic', 1000))));
SELECT pg_temp.has(16);
SELECT price, plan, give FROM credits.stripe_price_versions WHERE price = 'price_basic' ORDER BY id;
SELECT credits_stripe_set_price('price_basic', 'line:basic');

-- the shape of old versions: an upgrade on an invoice of its own
SELECT pg_temp.start(17);
SELECT pg_temp.send('invoice.paid', '{"id": "in_l17", "subscription": "sub_l17", "currency": "usd", "total": 1000, "amount_paid": 1000, "payment_intent": "pi_l17", "lines": {"has_more": false, "data": [
	{"id": "il_24", "type": "subscription", "amount": 1000, "quantity": 1, "subscription": "sub_l17", "subscription_item": "si_17", "price": {"id": "price_basic", "unit_amount": 1000},
	 "period": {"start": 1767225600, "end": 1769904000}}]}}');
SELECT pg_temp.send('invoice.paid', '{"id": "in_l17b", "subscription": "sub_l17", "currency": "usd", "total": 1355, "amount_paid": 1355, "payment_intent": "pi_l17b", "lines": {"has_more": false, "data": [
	{"id": "il_25", "type": "invoiceitem", "invoice_item": "ii_7", "amount": -677, "proration": true, "proration_details": {"credited_items": {"invoice": "in_l17"}}, "price": {"id": "price_basic"},
	 "period": {"start": 1768089600, "end": 1769904000}},
	{"id": "il_26", "type": "invoiceitem", "invoice_item": "ii_8", "amount": 2032, "proration": true, "price": {"id": "price_pro"}, "period": {"start": 1768089600, "end": 1769904000}}]}}', 11);
SELECT pg_temp.has(17);
SELECT pg_temp.send('charge.refunded', '{"id": "ch_l17", "payment_intent": "pi_l17b", "invoice": "in_l17b", "amount_refunded": 1355, "currency": "usd"}', 12);
SELECT pg_temp.has(17);

-- from year to quarter: the quarter is paid for with money of the year, so it goes with that
SELECT credits_set_plan('line:year', 12000, 'year', price => 100, currency => 'USD') IS NOT NULL AS set, credits_set_plan('line:quarter', 3100, 'month', 3, price => 28, currency => 'USD') IS NOT NULL AS set;
SELECT credits_stripe_set_price('price_year', 'line:year'), credits_stripe_set_price('price_quarter', 'line:quarter');
CREATE FUNCTION pg_temp.to_quarter(n int) RETURNS TABLE (year jsonb, quarter jsonb) LANGUAGE sql AS $$
	SELECT pg_temp.invoice('in_l' || n, n, jsonb_build_array(pg_temp.line('il_y' || n, 'price_year', 10000, '{"quantity": 1}', 1, 366)), jsonb_build_object('payment_intent', 'pi_l' || n)),
		pg_temp.invoice('in_lq' || n, n, jsonb_build_array(
			pg_temp.line('il_c' || n, 'price_year', -9000, jsonb_build_object('parent', jsonb_build_object('subscription_item_details',
				jsonb_build_object('invoice_item', 'ii_c' || n, 'proration', true))), 46, 366),
			pg_temp.line('il_q' || n, 'price_quarter', 2800, '{}', 10, 100)), '{"total": -6200, "amount_paid": 0}')
$$;
SELECT pg_temp.start(21, 'price_year'), pg_temp.start(22, 'price_year');
SELECT pg_temp.send('invoice.paid', year), pg_temp.has(21) FROM pg_temp.to_quarter(21);
SELECT pg_temp.send('invoice.paid', quarter, 10) FROM pg_temp.to_quarter(21);
SELECT pg_temp.has(21);
SELECT reference, credits, finalized_at, funds FROM credits.paid_parts AS p JOIN credits.subscriptions AS s ON s.id = p.subscription_id WHERE s.external_id = 'sub_l21' ORDER BY 2;
-- what goes back takes what is still due of the year first, then of the quarter, in proportion to its price
SELECT pg_temp.send('charge.refunded', '{"id": "ch_l21", "payment_intent": "pi_l21", "amount_refunded": 500, "currency": "usd"}', 11);
SELECT reference, credits, reversed FROM credits.paid_parts AS p JOIN credits.subscriptions AS s ON s.id = p.subscription_id WHERE s.external_id = 'sub_l21' ORDER BY 2;
SELECT pg_temp.send('charge.refunded', '{"id": "ch_l21", "payment_intent": "pi_l21", "amount_refunded": 2400, "currency": "usd"}', 12);
SELECT reference, credits, reversed FROM credits.paid_parts AS p JOIN credits.subscriptions AS s ON s.id = p.subscription_id WHERE s.external_id = 'sub_l21' ORDER BY 2;
SELECT pg_temp.has(21);
SELECT pg_temp.send('charge.refunded', '{"id": "ch_l21", "payment_intent": "pi_l21", "amount_refunded": 10000, "currency": "usd"}', 13);
SELECT pg_temp.has(21);
-- the other way round, and what fails is given again
SELECT pg_temp.send('refund.created', '{"id": "re_l22", "payment_intent": "pi_l22", "charge": "ch_l22", "amount": 10000, "currency": "usd", "status": "pending"}', 12);
SELECT pg_temp.send('invoice.paid', quarter, 10) FROM pg_temp.to_quarter(22);
SELECT pg_temp.has(22);
SELECT pg_temp.send('invoice.paid', year) FROM pg_temp.to_quarter(22);
SELECT pg_temp.has(22);
SELECT pg_temp.send('refund.failed', '{"id": "re_l22", "payment_intent": "pi_l22", "charge": "ch_l22", "amount": 10000, "currency": "usd", "status": "failed"}', 13);
SELECT pg_temp.has(22);
-- more is credited of a month than was ever paid for it: what the month's credit buys goes back with the month's money all the same
CREATE FUNCTION pg_temp.credit(id text, price text, amount int, first int DEFAULT 1) RETURNS jsonb LANGUAGE sql AS $$
	SELECT pg_temp.line('il_' || id, price, amount, jsonb_build_object('parent', jsonb_build_object('subscription_item_details',
		jsonb_build_object('invoice_item', 'ii_' || id, 'proration', true))), first)
$$;
SELECT pg_temp.start(n), pg_temp.send('invoice.paid', pg_temp.invoice('in_l' || n, n, jsonb_build_array(pg_temp.line('il_' || n, 'price_basic', 1000)),
	jsonb_build_object('payment_intent', 'pi_l' || n))) FROM generate_series(52, 53) AS n;
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l52b', 52, jsonb_build_array(pg_temp.credit('52b', 'price_pro', -3000), pg_temp.credit('52c', 'price_basic', 1000))), 2);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l52c', 52, jsonb_build_array(pg_temp.credit('52d', 'price_basic', -700, 10),
	pg_temp.line('il_52e', 'price_quarter', 600, '{}', 10, 100))), 10);
SELECT pg_temp.has(52);
SELECT pg_temp.send('charge.refunded', '{"id": "ch_l52", "payment_intent": "pi_l52", "amount_refunded": 100, "currency": "usd"}', 11), pg_temp.has(52);
SELECT pg_temp.send('charge.refunded', '{"id": "ch_l52", "payment_intent": "pi_l52", "amount_refunded": 1000, "currency": "usd"}', 12);
SELECT pg_temp.has(52);
-- and so does what comes instead of it for no more money
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l53b', 53, jsonb_build_array(pg_temp.credit('53b', 'price_basic', -1000))), 2);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l53c', 53, jsonb_build_array(pg_temp.credit('53c', 'price_basic', -1000), pg_temp.credit('53d', 'price_pro', 900))), 3);
SELECT pg_temp.has(53);
SELECT pg_temp.send('charge.refunded', '{"id": "ch_l53", "payment_intent": "pi_l53", "amount_refunded": 1000, "currency": "usd"}', 12);
SELECT pg_temp.has(53);

-- while a renewal is not paid yet, what is left lives on for the plan's grace: late or in time, once it is paid, the same is left
SELECT credits_set_plan('line:grace', 700, 'week', rollover => 'maximum', rollover_maximum => 100, grace => '3 days') IS NOT NULL AS set;
SELECT credits_stripe_set_price('price_grace', 'line:grace');
SET credits.stripe_tolerance = '1d';
SET credits.test_clock = '2026-01-19 12:00:00+00';
SELECT pg_temp.start(n, 'price_grace'), pg_temp.send('invoice.paid', pg_temp.invoice('in_l' || n, n, jsonb_build_array(pg_temp.line('il_' || n, 'price_grace', 1000, '{}', 13, 20))))
FROM generate_series(96, 97) AS n;
SELECT count(credits_deduct('line:' || n, 500)) FROM generate_series(96, 97) AS n;
SET credits.test_clock = '2026-01-20 01:00:00+00';
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l96b', 96, jsonb_build_array(pg_temp.line('il_96b', 'price_grace', 1000, '{}', 20, 27))), 20);
SELECT pg_temp.send('invoice.payment_failed', pg_temp.invoice('in_l97b', 97, jsonb_build_array(pg_temp.line('il_97b', 'price_grace', 1000, '{}', 20, 27)), '{"status": "open", "amount_paid": 0}'), 20);
SELECT pg_temp.send('customer.subscription.updated', pg_temp.subscription(97, 'price_grace', '{"status": "past_due"}'), 20);
SELECT n, pg_temp.has(n) FROM generate_series(96, 97) AS n;
SELECT count(credits_deduct('line:' || n, 150)) FROM generate_series(96, 97) AS n;
SET credits.test_clock = '2026-01-20 23:00:00+00';
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l97b', 97, jsonb_build_array(pg_temp.line('il_97b', 'price_grace', 1000, '{}', 20, 27)), '{"status": "paid"}'), 21);
SELECT n, pg_temp.has(n) FROM generate_series(96, 97) AS n;
RESET credits.stripe_tolerance;
SET credits.test_clock = '2026-01-20 00:00:00+00';

-- what the account's limits forbid is paid nevertheless, and comes once they allow it
SELECT pg_temp.start(18);
SELECT credits_set_limits('line:18', max_balance => 500) IS NOT NULL AS set;
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l18', 18, jsonb_build_array(pg_temp.line('il_27', 'price_basic', 1000))));
SELECT pg_temp.has(18);
SELECT reason, resolve FROM credits.stripe_attention WHERE subject = 'sub_l18';
SELECT credits_set_limits('line:18', max_balance => 5000) IS NOT NULL AS set;
SELECT count(*) FROM credits_stripe_reprocess() WHERE event_id LIKE 'evt_640%';
SELECT pg_temp.has(18);
SELECT count(*) FROM credits.stripe_attention WHERE subject = 'sub_l18';

-- invoices without a subscription: nothing that was paid is silent
CREATE FUNCTION pg_temp.other(id text, total int, more jsonb DEFAULT '{}', price text DEFAULT 'price_other') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'status', 'paid', 'customer', 'cus_other', 'currency', 'usd', 'total', total, 'amount_paid', total,
		'lines', jsonb_build_object('has_more', false, 'data', jsonb_build_array(pg_temp.line('il_' || id, price, total)))) || more
$$;
CREATE FUNCTION pg_temp.attention() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(', ', a.subject, a.reason, a.amount, a.currency, a.resolve) FROM credits.stripe_attention AS a WHERE a.subject ~ '_lo[0-9]' ORDER BY a.subject
$$;
SELECT credits_open_account('line:other') IS NOT NULL AS opened, credits_set_package('line:package', 1000, 10.00, 'USD') IS NOT NULL AS set;
CREATE TEMP TABLE other AS
SELECT n, p.purchase_id AS id, jsonb_build_object('metadata', jsonb_build_object('purchase_id', p.purchase_id::text)) AS named
FROM generate_series(1, 4) AS n, credits_start_purchase('line:other', 'line:package', idempotency_key => 'other' || n) AS p;
-- neither paid, nor for anything, nor for credits
SELECT pg_temp.send('invoice.finalized', pg_temp.other('in_lo1', 500, '{"status": "open"}'));
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo2', 0));
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo3', 500, price => 'price_support'));
SELECT * FROM pg_temp.attention();
SELECT credits_stripe_set_price('price_support', give => 'nothing');
-- paid, whichever event comes last, and with more lines than these
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo1', 500), 2);
SELECT pg_temp.send('invoice.finalized', pg_temp.other('in_lo4', 700, '{"status": "open"}'), 3);
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo4', 700), 2);
SELECT pg_temp.send('invoice.paid', jsonb_set(pg_temp.other('in_lo5', 300, price => 'price_support'), '{lines,has_more}', 'true'));
SELECT * FROM pg_temp.attention();
-- dismissed, paid back, and delivered by hand: then refunds are followed
SELECT credits_stripe_dismiss('in_lo5', 'support, too');
SELECT pg_temp.send('charge.refunded', '{"id": "ch_lo1", "payment_intent": "pi_lo1", "amount_refunded": 499, "currency": "usd"}', 3);
SELECT pg_temp.send('invoice_payment.paid', '{"id": "inpay_lo1", "invoice": "in_lo1", "payment": {"payment_intent": "pi_lo1"}}', 3);
SELECT * FROM pg_temp.attention();
SELECT pg_temp.send('charge.refunded', '{"id": "ch_lo1", "payment_intent": "pi_lo1", "amount_refunded": 500, "currency": "usd"}', 4);
SELECT outcome FROM credits_start_purchase('line:other', 'line:package') AS p, credits_complete_purchase(p.purchase_id, 'in_lo4', 10.00, 'USD');
SELECT * FROM pg_temp.attention();
SELECT pg_temp.send('invoice_payment.paid', '{"id": "inpay_lo4", "invoice": "in_lo4", "payment": {"payment_intent": "pi_lo4"}}', 3);
SELECT pg_temp.send('charge.refunded', '{"id": "ch_lo4", "payment_intent": "pi_lo4", "amount_refunded": 250, "currency": "usd"}', 4);
SELECT balance, debt FROM credits_summary('line:other');
-- one that names its purchase, partly paid from the customer's balance, then disputed; and again
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo6', 1000, named || '{"amount_paid": 400, "payment_intent": "pi_lo6"}')) FROM other WHERE n = 1;
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo6', 1000, named || '{"amount_paid": 400, "payment_intent": "pi_lo6"}'), 2) FROM other WHERE n = 1;
SELECT balance, debt FROM credits_summary('line:other');
SELECT pg_temp.send('charge.dispute.created', '{"id": "dp_lo6", "payment_intent": "pi_lo6", "charge": "ch_lo6", "amount": 400, "currency": "usd", "status": "needs_response"}', 3);
SELECT balance, debt FROM credits_summary('line:other');
SELECT pg_temp.send('charge.dispute.closed', '{"id": "dp_lo6", "payment_intent": "pi_lo6", "charge": "ch_lo6", "amount": 400, "currency": "usd", "status": "won"}', 4);
-- refunded before it was known to be paid
SELECT pg_temp.send('charge.refunded', '{"id": "ch_lo7", "payment_intent": "pi_lo7", "amount_refunded": 100, "currency": "usd"}', 5);
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo7', 1000, named || '{"payment_intent": "pi_lo7"}'), 4) FROM other WHERE n = 2;
SELECT balance, debt FROM credits_summary('line:other');
-- too little, and a purchase that nobody started
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo8', 900, named)) FROM other WHERE n = 3;
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo9', 900, '{"metadata": {"purchase_id": "0"}}'));
SELECT * FROM pg_temp.attention();
SELECT credits_stripe_dismiss('in_lo8', 'paid back otherwise'), credits_stripe_dismiss('in_lo9', 'paid back otherwise');
-- Checkout makes an invoice beside the session, with the same metadata: one purchase, paid once, in either order
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo10', 1000, named)) FROM other WHERE n = 3;
SELECT pg_temp.send('checkout.session.completed', named || jsonb_build_object('id', 'cs_lo10', 'mode', 'payment', 'payment_status', 'paid', 'payment_intent', 'pi_lo10',
	'invoice', 'in_lo10', 'amount_total', 1000, 'currency', 'usd')) FROM other WHERE n = 3;
SELECT pg_temp.send('checkout.session.completed', named || jsonb_build_object('id', 'cs_lo11', 'mode', 'payment', 'payment_status', 'paid', 'payment_intent', 'pi_lo11',
	'amount_total', 1000, 'currency', 'usd')) FROM other WHERE n = 4;
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo11', 1000, named)) FROM other WHERE n = 4;
SELECT * FROM pg_temp.attention();
SELECT pg_temp.send('invoice_payment.paid', '{"id": "inpay_lo11", "invoice": "in_lo11", "payment": {"payment_intent": "pi_lo11"}}', 3);
SELECT * FROM pg_temp.attention();
SELECT pg_temp.send('charge.refunded', jsonb_build_object('id', 'ch_lo' || n, 'payment_intent', 'pi_lo' || n, 'amount_refunded', 500, 'currency', 'usd'), 4) FROM generate_series(10, 11) AS n;
SELECT balance, debt FROM credits_summary('line:other');
SELECT n, p.payment_reference, count(r.*) FROM other JOIN credits.purchases AS p USING (id) LEFT JOIN credits.reversals AS r ON r.purchase_id = p.id GROUP BY n, p.payment_reference ORDER BY n;
SELECT account, problem, detail FROM credits_verify('line:other');

-- payments of others: listed, or ignored unless something connects them
CREATE FUNCTION pg_temp.session(id text, more jsonb) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', 'cs_' || id, 'mode', 'payment', 'payment_status', 'paid', 'payment_intent', 'pi_' || id, 'amount_total', 500, 'currency', 'usd') || more
$$;
SELECT pg_temp.send('checkout.session.completed', pg_temp.session('lo31', '{"client_reference_id": "order 7"}'));
SELECT * FROM pg_temp.attention();
SET credits.stripe_foreign = 'ignore';
SELECT pg_temp.send('checkout.session.completed', pg_temp.session('lo32', '{"client_reference_id": "order 8", "customer": "cus_lo32"}'));
SELECT pg_temp.send('charge.refunded', '{"id": "ch_lo32", "payment_intent": "pi_lo32", "amount_refunded": 500, "currency": "usd"}', 2);
SELECT pg_temp.send('charge.refunded', '{"id": "ch_lo33", "payment_intent": "pi_lo33", "amount_refunded": 500, "currency": "usd"}', 2);
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo34', 700, '{"customer": "cus_lo32"}'));
SELECT pg_temp.send('checkout.session.completed', pg_temp.session('lo35', '{"client_reference_id": "line:other"}'));
SELECT pg_temp.send('checkout.session.completed', pg_temp.session('lo36', '{"client_reference_id": "purchase_0"}'));
SELECT pg_temp.send('checkout.session.completed', pg_temp.session('lo37', '{"metadata": {"account": "line:nobody"}}'));
SELECT pg_temp.send('checkout.session.completed', pg_temp.session('lo38', '{"metadata": {"purchase_id": "x"}}'));
SELECT pg_temp.send('checkout.session.completed', pg_temp.session('lo39', '{"customer": "cus_l21"}'));
SELECT pg_temp.send('invoice.paid', pg_temp.other('in_lo40', 700, '{"customer": "cus_l21"}'));
-- what waited before is tried again
SELECT event_id IS NOT NULL AS tried, result FROM credits_stripe_reprocess() WHERE event_id LIKE 'evt_640%' AND type = 'checkout.session.completed' ORDER BY result;
SELECT * FROM pg_temp.attention();
RESET credits.stripe_foreign;
SELECT subject FROM credits.stripe_attention WHERE subject ~ '_lo3[24]';
SELECT count(*) FROM (SELECT credits_stripe_dismiss(subject, 'tested') FROM credits.stripe_attention WHERE subject ~ '_lo[34]') AS d;
-- a subscription for something else, and one that was for credits when it was paid
SELECT pg_temp.start(41, 'price_gym');
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l41', 41, jsonb_build_array(pg_temp.line('il_41', 'price_gym', 3000), pg_temp.line('il_41b', 'price_towel', 500))));
SELECT credits_stripe_set_price('price_gym', give => 'nothing');
SELECT result, detail FROM credits_stripe_reprocess() WHERE detail->>'missing' LIKE '%price_gym%' OR event_id IN (SELECT id FROM credits.stripe_events WHERE subject = 'sub_l41');
SELECT subject, reason FROM credits.stripe_attention WHERE subject ~ '_l41';
SELECT credits_stripe_set_price('price_towel', give => 'nothing');
SELECT DISTINCT result, detail FROM credits_stripe_reprocess() WHERE event_id IN (SELECT id FROM credits.stripe_events WHERE subject = 'sub_l41');
SELECT pg_temp.send('customer.subscription.updated', pg_temp.subscription(41, 'price_gym'), 3);
SELECT subject, reason FROM credits.stripe_attention WHERE subject ~ '_l41';
SELECT credits_open_account('line:42') IS NOT NULL AS opened;
SELECT pg_temp.send('customer.subscription.updated', pg_temp.subscription(42, 'price_gym'), 5);
SELECT pg_temp.send('invoice.paid', pg_temp.invoice('in_l42', 42, jsonb_build_array(pg_temp.line('il_42', 'price_basic', 1000))), 2);
SELECT pg_temp.has(42);

-- amounts whose sums no bigint holds: of lines of a note, of notes of a line, of payments of an invoice
SELECT pg_temp.start(n), pg_temp.send('invoice.paid', pg_temp.invoice('in_l' || n, n, jsonb_build_array(pg_temp.line('il_' || n, 'price_basic', 1000))))
FROM generate_series(56, 58) AS n;
CREATE FUNCTION pg_temp.note(id text, invoice text, more jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.send('credit_note.created', jsonb_build_object('id', id, 'invoice', invoice) || more, 2)
$$;
CREATE FUNCTION pg_temp.credits_of_lines(VARIADIC amounts bigint[]) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('lines', jsonb_build_object('data', jsonb_agg(jsonb_build_object('type', 'custom_line_item', 'amount', a)))) FROM unnest(amounts) AS a
$$;
SELECT pg_temp.note('cn_56', 'in_l56', pg_temp.credits_of_lines(9223372036854775807, 9223372036854775807, 1) || '{"amount": 250}');
SELECT pg_temp.has(56);
SELECT pg_temp.note('cn_57' || p, 'in_l57', '{"lines": {"data": [{"invoice_line_item": "il_57", "amount": 9223372036854775807}]}}') FROM unnest('{a,b}'::text[]) AS p;
SELECT pg_temp.has(57);
SELECT pg_temp.note('cn_57c', 'in_l57', '{"lines": {"data": [{"invoice_line_item": "il_57", "amount": -9223372036854775808}]}}'),
	pg_temp.note('cn_57d', 'in_l57', '{"lines": {"data": [{"invoice_line_item": "il_57", "amount": -9223372036854775506}]}}');
SELECT pg_temp.has(57);
SELECT pg_temp.send('invoice_payment.paid', jsonb_build_object('id', 'inpay_l58' || p, 'invoice', 'in_l58', 'payment', jsonb_build_object('payment_intent', 'pi_l58' || p))),
	pg_temp.send('refund.created', jsonb_build_object('id', 're_l58' || p, 'payment_intent', 'pi_l58' || p, 'amount', 9223372036854775807, 'currency', 'usd', 'status', 'succeeded'), 2)
FROM unnest('{a,b}'::text[]) AS p;
SELECT pg_temp.has(58);
-- what is too large to be kept as an amount: the event is, and waits for somebody
SELECT pg_temp.note('cn_56b', 'in_l56', pg_temp.credits_of_lines(9223372036854775807, 9223372036854775807, 1));
SELECT pg_temp.send('refund.created', jsonb_build_object('id', 're_l59' || p, 'payment_intent', 'pi_l59', 'amount', 9223372036854775807, 'currency', 'usd', 'status', 'succeeded'), 2)
FROM unnest('{a,b}'::text[]) AS p;
SELECT pg_temp.has(56);
SELECT e.object_id, a.reason, a.resolve FROM credits.stripe_attention AS a JOIN credits.stripe_events AS e ON e.subject = a.subject
WHERE e.object_id IN ('cn_56b', 're_l59b') ORDER BY e.object_id;
-- neither is one number that does not fit, or is not whole, taken for none
CREATE TEMP TABLE out_of_range AS SELECT row_number() OVER () AS n, type, object FROM (VALUES
	('checkout.session.completed', '{"id": "#", "mode": "payment", "payment_status": "paid", "payment_intent": "pi_#", "amount_total": !}'),
	('payment_intent.succeeded', '{"id": "#", "metadata": {"purchase_id": "1"}, "amount_received": !}'),
	('charge.refunded', '{"id": "#", "payment_intent": "pi_#", "amount_refunded": !}'),
	('refund.created', '{"id": "#", "payment_intent": "pi_#", "amount": !}'),
	('charge.dispute.created', '{"id": "#", "payment_intent": "pi_#", "amount": !}'),
	('invoice.paid', '{"id": "#", "subscription": "sub_#", "total": !}'),
	('invoice.paid', '{"id": "#", "subscription": "sub_#", "total": 1, "amount_paid": !}'),
	('invoice.paid', '{"id": "#", "total": !, "lines": {"data": []}}'),
	('invoice.paid', '{"id": "#", "subscription": "sub_#", "total": 1, "lines": {"data": [{"id": "il_#", "amount": !}]}}'),
	('invoice.paid', '{"id": "#", "subscription": "sub_#", "total": 1, "lines": {"data": [{"id": "il_#", "amount": 1}, {"id": "il_#b", "amount": 1, "quantity": !}]}}'),
	('invoice.paid', '{"id": "#", "subscription": "sub_#", "total": 1, "lines": {"data": [{"id": "il_#", "amount": 1, "discount_amounts": [{"amount": !}]}]}}'),
	('invoiceitem.created', '{"id": "#", "subscription": "sub_#", "amount": !}'),
	('customer.subscription.updated', '{"id": "sub_#", "items": {"data": [{"id": "si_#", "current_period_start": 1, "current_period_end": !}]}}'),
	('credit_note.created', '{"id": "#", "invoice": "in_#", "amount": !}'),
	('credit_note.created', '{"id": "#", "invoice": "in_#", "amount": 1, "lines": {"data": [{"invoice_line_item": "il_#", "amount": !}]}}'),
	('credit_note.created', '{"id": "#", "invoice": "in_#", "amount": 1, "refund": "re_#", "out_of_band_amount": !}'),
	('credit_note.created', '{"id": "#", "invoice": "in_#", "amount": 1, "refunds": [{"refund": "re_#", "amount_refunded": !}]}')
	) AS o (type, object);
SELECT number, count(*), count(*) FILTER (WHERE answer = 'waiting: an event that can be read: a number in it is not whole, or too large') AS waiting
FROM unnest('{9223372036854775808,-9223372036854775809,1e30,1.5}'::text[]) AS number
CROSS JOIN LATERAL (SELECT pg_temp.send(type, replace(replace(object, '#', format('range_%s_%s', n, number)), '!', number)::jsonb, 30) AS answer FROM out_of_range) AS a
GROUP BY number ORDER BY number;
SELECT count(*) FROM credits.stripe_attention AS a JOIN credits.stripe_events AS e ON e.subject = a.subject
WHERE e.object_id ~ 'range_' AND e.facts IS NULL AND a.resolve ~ 'credits_stripe_dismiss$';
SELECT count(*) FROM credits.stripe_subjects WHERE subject ~ 'range_';
SELECT pg_temp.send('invoice.paid', '{"id": "in_range", "subscription": "sub_range", "total": 1, "lines": {"has_more": true, "data": []}}', 30);
SELECT credits_stripe_invoice_lines('in_range', '[{"id": "il_range", "amount": 9223372036854775808}]');
SELECT count(credits_stripe_dismiss(subject, 'tested')) FROM credits.stripe_attention AS a WHERE reason ~ 'too large$' OR subject ~ '^(in|sub)_range';
DROP TABLE out_of_range;

-- a paid session of a subscription of whose invoice nothing is heard within an hour, in either order
CREATE FUNCTION pg_temp.bought(n int, type text DEFAULT 'completed', more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.send('checkout.session.' || type, jsonb_build_object('id', 'cs_l' || n, 'mode', 'subscription', 'payment_status', 'paid', 'subscription', 'sub_l' || n,
		'customer', 'cus_l' || n, 'client_reference_id', 'line:' || n, 'amount_total', 1000, 'currency', 'usd', 'invoice', 'in_l' || n) || more, 20)
$$;
CREATE FUNCTION pg_temp.bill(n int, type text DEFAULT 'paid') RETURNS text LANGUAGE sql AS $$
	SELECT pg_temp.send('invoice.' || type, pg_temp.invoice('in_l' || n, n, jsonb_build_array(pg_temp.line('il_' || n, 'price_basic', 1000))), 20)
$$;
CREATE FUNCTION pg_temp.silent() RETURNS SETOF text LANGUAGE sql AS $$
	SELECT concat_ws(', ', a.subject, a.reason, a.invoice, a.amount, a.currency) FROM credits.stripe_attention AS a WHERE a.subject ~ '_l6[0-9]$' ORDER BY a.subject
$$;
SELECT pg_temp.start(n) FROM generate_series(61, 67) AS n;
SELECT pg_temp.bought(61);
SELECT pg_temp.bill(62), pg_temp.bought(62);
SELECT pg_temp.bought(63, more => '{"invoice": null}');
SELECT pg_temp.bill(64), pg_temp.bought(64, more => '{"invoice": null}');
SELECT pg_temp.bought(65, more => '{"payment_status": "unpaid"}'), pg_temp.bought(66, more => '{"payment_status": "no_payment_required", "amount_total": 0}');
SELECT pg_temp.bought(67), pg_temp.bill(67, 'finalized');
SELECT pg_temp.bought(68);
SELECT pg_temp.silent();
SET credits.test_clock = '2026-01-20 01:00:00+00';
SELECT pg_temp.silent();
SET credits.test_clock = '2026-01-20 00:00:00+00';
SELECT pg_temp.bought(65, 'async_payment_succeeded', '{"payment_status": "paid"}');
SELECT pg_temp.bill(61), pg_temp.bill(63), pg_temp.bill(67);
SET credits.test_clock = '2026-01-20 01:00:00+00';
SELECT pg_temp.silent();
SET credits.stripe_foreign = 'ignore';
SELECT pg_temp.silent();
RESET credits.stripe_foreign;
SELECT credits_stripe_dismiss('sub_l65', 'tested'), credits_stripe_dismiss('sub_l68', 'tested');
SELECT pg_temp.silent();
SELECT string_agg(n || ': ' || pg_temp.has(n), ', ' ORDER BY n) FROM generate_series(61, 67) AS n;
SELECT awaited_invoice, awaited_since FROM credits.stripe_subscriptions WHERE subscription ~ '_l6[0-9]$' AND awaited_since IS NOT NULL ORDER BY subscription;

SELECT account, problem, detail FROM credits_verify() WHERE account LIKE 'line:%';
SELECT subject, waiting FROM credits.stripe_subjects WHERE waiting IS NOT NULL AND subject ~ '_l[0-9]';
-- nothing is left due
SET credits.test_clock = '2110-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
