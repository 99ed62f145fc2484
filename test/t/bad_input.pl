# Bad input: every argument of every function with everything that does not
# belong there, and 100,000 calls at random.  Whatever comes, the server stays
# up, nothing is broken, and the SQLSTATE is one of those documented.
#
# CREDITS_SEED makes other calls; CREDITS_CALLS changes how many calls there are.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{CREDITS_SEED} || 20310401;
my $calls = $ENV{CREDITS_CALLS} || 100_000;
my $sessions = 2;
note "CREDITS_SEED=$seed CREDITS_CALLS=$calls";

my $node = credits_node('bad_input', conf => "fsync = off\nlog_min_messages = log\nlog_min_error_statement = panic");

# What both parts share: a few accounts in every state, and a way to make a
# call that may fail.
$node->safe_psql('postgres', <<'SQL');
CREATE SCHEMA bad;
CREATE TABLE bad.keys (id text);
CREATE SEQUENCE bad.sequence;
INSERT INTO bad.keys VALUES ('k1'), ('k2');

-- the SQLSTATEs of the documentation
CREATE TABLE bad.documented (state text PRIMARY KEY);
INSERT INTO bad.documented VALUES ('28000'), ('00000'), ('PT402'), ('PT403'), ('PT404'), ('PT409'), ('PT410'), ('PT423'),
	('22004'), ('22023'), ('22003'), ('42501'), ('25001'), ('25006'), ('40001');

CREATE TABLE bad.outcome (session int, function text, state text, message text, statement text);

SET credits.test_clock = '2030-01-01';
SELECT credits_open_account('acc:' || i, 1000) FROM generate_series(1, 20) AS i;
SELECT credits_open_account('other:' || i, 1000) FROM generate_series(1, 5) AS i;
SELECT credits_allocate('acc:' || i, 50, expires_at => '2030-02-01') FROM generate_series(1, 20) AS i;
SELECT credits_allocate('acc:' || i, 50, effective_at => '2030-03-01') FROM generate_series(1, 20) AS i;
SELECT credits_deduct('acc:' || i, 70, 'key ' || i, 'op', 'ref') FROM generate_series(1, 20) AS i;
SELECT credits_deduct('other:1', 5);
SELECT credits_open_account('pool:' || i, 100000) FROM generate_series(1, 3) AS i;
SELECT credits_add_member('pool:1', 'acc:' || i, 1000 * i, (ARRAY['day', 'week', 'month', 'lifetime'])[1 + i % 4], 'Asia/Tokyo')
FROM generate_series(1, 18) AS i;
SELECT credits_add_member('pool:2', 'pool:1'), credits_add_member('pool:3', 'pool:2', 5000);
SELECT credits_set_limits('acc:' || i, max_balance => 2000, excess => 'clip', max_spend => 25, max_spend_per_day => 200)
FROM generate_series(16, 18) AS i;
SELECT credits_hold('acc:' || i, 20, 'hold ' || i, expires_in => '100 years') FROM generate_series(1, 18) AS i;
SELECT credits_hold('acc:2', 2000, 'split', expires_in => '100 years', pool => 'pool:1', mode => 'own_first');
SELECT credits_transfer('other:1', 'acc:' || i, 10, 'transfer ' || i) FROM generate_series(1, 5) AS i;
SELECT credits_create_promo_code('CODE', 5, per_account => 1000), credits_create_promo_code('USED-UP', 5, 1);
SELECT credits_redeem('other:2', 'USED-UP'), credits_create_gift('other:3', 5), credits_referral_code('other:4');
SELECT credits_set_operation('operation', 1, 0.5, 'page', 2);
SELECT credits_set_package('package', 10, 1, 'EUR'), credits_set_unit_price('EUR', 0.1),
	credits_set_promotion('promotion', 'percent', 10, clear => '{per_account}');
SELECT credits_set_package('private', 10, 1, 'EUR'), credits_offer_package('private', 'acc:1');
SELECT credits_set_plan('plan', 30, price => 3, currency => 'EUR', rollover => 'share', rollover_share => 0.5, trial => '1 day', trial_credits => 1),
	credits_set_plan('other', 70, 'week', 2, price => 7, currency => 'EUR', rollover => 'maximum', clear => '{rollover_periods}');
SELECT credits_subscribe('acc:1', 'plan', trial => false, external_id => 'sub_1', idempotency_key => 'subscribe'),
	credits_subscribe('acc:2', 'plan'), credits_subscribe('acc:3', 'other', collection => 'payment'),
	credits_subscribe('acc:4', 'other', starts_at => '2029-11-30 12:00', anchor => '2029-12-31', timezone => 'Asia/Tokyo');
SELECT credits_pause_subscription(2), credits_change_plan(4, 'plan', at => 'period_end');
SELECT credits_start_purchase('acc:1', 'package', idempotency_key => 'purchase ' || i) FROM generate_series(1, 4) AS i;
SELECT credits_complete_purchase(1, 'pay_1', 1), credits_complete_purchase(2, 'pay_2', 1), credits_fail_purchase(3);
SELECT credits_refund_purchase(1, 0.5, reference => 'refund'), credits_open_chargeback(2, 'chargeback');
SELECT credits_stripe_add_secret('secret', 'whsec_bad_0123456789'), credits_stripe_set_price('price_1', 'plan'),
	credits_stripe_set_customer('cus_1', 'acc:5');
-- what only the owner can do
INSERT INTO credits.stripe_secrets (name, secret, created_at, role) VALUES ('none', NULL, '2030-01-01', 'nobody');
INSERT INTO credits.corrections (id, delta, accounts, accepted, previewed_at, expires_at, balance_before, balance_after, token, status, role)
VALUES (nextval('credits.corrections_id_seq'), 1, 0, 0, '2030-01-01', '2040-01-01', 0, 0, 'correction', 'previewed', 'nobody');

-- Signs a payload as Stripe does.
CREATE FUNCTION bad.xored(key bytea, with_byte int) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
	SELECT string_agg(set_byte('\x00', 0, (CASE WHEN i < length(key) THEN get_byte(key, i) ELSE 0 END) # with_byte), '' ORDER BY i)
	FROM generate_series(0, 63) AS i
$$;
CREATE FUNCTION bad.signed(payload bytea) RETURNS text LANGUAGE sql AS $$
	SELECT 't=' || t || ',v1=' || encode(sha256(bad.xored(k, 92) || sha256(bad.xored(k, 54) || convert_to(t || '.', 'UTF8') || payload)), 'hex')
	FROM (VALUES (extract(epoch FROM credits.now())::bigint::text, 'whsec_bad_0123456789'::bytea)) AS v (t, k)
$$;
CREATE FUNCTION bad.event() RETURNS jsonb LANGUAGE sql AS $$
	SELECT '{"id": "evt_1", "object": "event", "type": "invoice.paid", "created": 1893456000, "livemode": false, "api_version": "2025-10-29.clover",
	"data": {"object": {"id": "in_1", "object": "invoice", "customer": "cus_1", "currency": "eur", "amount_paid": 300, "status": "paid",
		"billing_reason": "subscription_cycle",
		"parent": {"type": "subscription_details", "subscription_details": {"subscription": "sub_new", "metadata": {"account": "acc:6"}}},
		"lines": {"object": "list", "data": [{"id": "il_1", "amount": 300, "period": {"start": 1893456000, "end": 1896134400},
			"pricing": {"type": "price_details", "price_details": {"price": "price_1", "product": "prod_1"}},
			"parent": {"type": "subscription_item_details", "subscription_item_details": {"subscription": "sub_new", "proration": false}}}]},
		"payments": {"object": "list", "data": [{"payment": {"type": "payment_intent", "payment_intent": "pi_1"}}]}}}}'::jsonb
$$;
-- an invoice of which lines are missing, and a payment for what is not ours
SELECT credits_stripe_webhook(e::text, bad.signed(convert_to(e::text, 'UTF8')))
FROM (SELECT jsonb_set(jsonb_set(jsonb_set(bad.event(), '{id}', '"evt_more"'), '{data,object,id}', '"in_more"'),
		'{data,object,lines,has_more}', 'true')
	UNION ALL
	SELECT jsonb_set(jsonb_set(jsonb_set(bad.event(), '{id}', '"evt_foreign"'), '{type}', '"checkout.session.completed"'), '{data,object}',
		'{"id": "cs_1", "mode": "payment", "payment_status": "paid", "payment_intent": "pi_foreign", "amount_total": 5, "currency": "eur"}')) AS v (e);
SELECT credits_open_dispute('acc:1', (SELECT id FROM credits.transactions WHERE idempotency_key = 'key 1'), 'other', requested => 1);
SELECT credits_set_topup('acc:1', 1, 10), credits_set_reward_program('program', '{1,2}', budget => 10);
SELECT credits_set_activity_rule('rule', 'spend', 10, minimum => 10, pauses => true);
SELECT credits_add_consumer('consumer', 0), credits_try_deduct('other:1', 1000000);
-- taken, with a lease that is known
INSERT INTO credits.deliveries SELECT nextval('credits.deliveries_id_seq'), id, account_id, 1, NULL, created_at, '2030-01-01', '2030-01-01', NULL, 5, 1, 'email', 'waiting', kind,
	'msg_' || left(encode(sha256(convert_to(format('%s 1 %s %s', id, (extract(epoch FROM created_at - timestamptz '2000-01-01 00:00:00+00') * 1000000)::bigint, kind), 'UTF8')), 'hex'), 32), NULL, NULL
FROM credits.events WHERE account_id IS NOT NULL ORDER BY id LIMIT 1;
SELECT credits_set_contact('acc:1', 'email', 'acc1@example.com'), credits_set_contact('acc:1', 'push', 'device 1'), credits_set_contact('acc:1', 'webhook', 'https://example.com/1'),
	credits_set_preference('acc:1', enabled => false), credits_set_quiet_hours('acc:1', '22:00', '07:00', 'Asia/Tokyo'),
	length(credits_unsubscribe_token('acc:1', 'low_balance')), credits_set_template('low_balance', subject => 's', body => '{{balance}}');
SELECT credits_pause_account('acc:19', 'paused');
SELECT credits_close_account('acc:20', 'closed');

-- Makes a call; what it did stays if it worked.  Returns its SQLSTATE.
CREATE FUNCTION bad.try(statement text, OUT state text, OUT message text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE statement;
	state := '00000';
EXCEPTION WHEN OTHERS THEN
	state := SQLSTATE;
	message := left(SQLERRM, 200);
END
$$;

-- Everything that the calls could have changed.
CREATE FUNCTION bad.facts() RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws(' ', encode(public.credits_digest(), 'hex'),
		(SELECT md5(string_agg(a::text, ',' ORDER BY a.id)) FROM credits.accounts AS a),
		(SELECT md5(string_agg(g::text, ',' ORDER BY g.id)) FROM credits.grants AS g),
		(SELECT md5(string_agg(h::text, ',' ORDER BY h.id)) FROM credits.hold_states AS h),
		(SELECT md5(string_agg(l::text, ',' ORDER BY l.account_id)) FROM credits.limits AS l),
		(SELECT md5(string_agg(m::text, ',' ORDER BY m.pool_id, m.account_id)) FROM credits.members AS m),
		(SELECT md5(string_agg(c::text, ',' ORDER BY c.id)) FROM credits.codes AS c),
		(SELECT count(*) FROM credits.redemptions), (SELECT count(*) FROM credits.operations),
		(SELECT count(*) FROM credits.packages), (SELECT count(*) FROM credits.unit_prices),
		(SELECT md5(string_agg(o::text, ',' ORDER BY o.id)) FROM credits.offers AS o),
		(SELECT md5(string_agg(s::text, ',' ORDER BY s.id)) FROM credits.subscriptions AS s),
		(SELECT md5(string_agg(p::text, ',' ORDER BY p.subscription_id, p.starts_at)) FROM credits.periods AS p),
		(SELECT md5(string_agg(p::text, ',' ORDER BY p.id)) FROM credits.purchases AS p),
		(SELECT md5(string_agg(r::text, ',' ORDER BY r.purchase_id, r.reference)) FROM credits.reversals AS r),
		(SELECT md5(string_agg(r::text, ',' ORDER BY r.subscription_id, r.reference)) FROM credits.period_refunds AS r),
		(SELECT md5(string_agg(d::text, ',' ORDER BY d.id)) FROM credits.disputes AS d),
		(SELECT md5(string_agg(t::text, ',' ORDER BY t.account_id)) FROM credits.topups AS t), (SELECT count(*) FROM credits.topup_requests),
		(SELECT count(*) FROM credits.reward_programs), (SELECT md5(string_agg(t::text, ',' ORDER BY t.program)) FROM credits.reward_totals AS t), (SELECT count(*) FROM credits.rewards),
		(SELECT count(*) FROM credits.plans), (SELECT count(*) FROM credits.plan_changes), (SELECT count(*) FROM credits.stripe_secrets),
		(SELECT count(*) FROM credits.stripe_events), (SELECT count(*) FROM credits.stripe_subjects), (SELECT count(*) FROM credits.stripe_prices),
		(SELECT md5(string_agg(d::text, ',' ORDER BY d.id)) FROM credits.deliveries AS d),
		(SELECT md5(string_agg(r::text, ',' ORDER BY r.name)) FROM credits.activity_rules AS r), (SELECT count(*) FROM credits.activity_hits),
		(SELECT md5(string_agg(c::text, ',' ORDER BY c.name)) FROM credits.consumers AS c),
		(SELECT md5(string_agg(p::text, ',' ORDER BY p.consumer)) FROM credits.consumer_positions AS p),
		(SELECT md5(string_agg(c::text, ',' ORDER BY c.id)) FROM credits.contacts AS c),
		(SELECT md5(string_agg(p::text, ',' ORDER BY p.account_id, p.kind, p.channel)) FROM credits.preferences AS p),
		(SELECT md5(string_agg(q::text, ',' ORDER BY q.account_id)) FROM credits.quiet_hours AS q),
		(SELECT count(*) FROM credits.unsubscribe_secrets), (SELECT count(*) FROM credits.webhook_secrets), (SELECT count(*) FROM credits.templates),
		(SELECT count(*) FROM credits.service_pause), (SELECT count(*) FROM credits.volume_discounts), (SELECT count(*) FROM credits.promotions),
		(SELECT count(*) FROM credits.transactions), (SELECT count(*) FROM credits.events))
$$;
SQL

# Part 1.  For each function, valid arguments, and one of them replaced by each
# value of its type that could hurt.  The functions come from the catalog: a
# new one is tested as soon as its arguments have a valid value here.
$node->safe_psql('postgres', <<'SQL');
-- (an argument can have another one in some function)
CREATE TABLE bad.valid (argument text, value text NOT NULL, function text NOT NULL DEFAULT '', PRIMARY KEY (argument, function));
INSERT INTO bad.valid VALUES
	('account', $$'acc:1'$$), ('amount', '3'), ('kind_code', $$'d'$$), ('draws', $$'\x0204'$$), ('initial_credits', '5'), ('unit', $$'token'$$),
	('metadata', $$'{"a": 1}'$$), ('reason', $$'reason'$$), ('levels', $$'20%, 5'$$), ('base', '100'), ('relation', $$'bad.keys'$$),
	('key_column', $$'id'$$), ('prefix', $$'key:'$$), ('source', $$'gift'$$), ('expires_at', $$'2031-01-01'$$),
	('effective_at', $$'2029-01-01'$$), ('priority', '10'), ('price', '9.99'), ('currency', $$'EUR'$$),
	('idempotency_key', 'NULL'), ('reference', $$'reference'$$), ('operation', $$'operation'$$),
	('transaction_id', $$(SELECT id FROM credits.transactions WHERE idempotency_key = 'key 1')$$),
	('expired', $$'grace'$$), ('delta', '4'), ('grant_id', $$(SELECT max(id) FROM credits.grants WHERE remaining > 0 AND account_id < 10)$$),
	('at', $$'2030-01-01'$$), ('before', $$'2030-01-01'$$), ('archived', 'true'), ('archived_until', 'NULL'), ('partitions', 'NULL'), ('max_rows', '10'), ('before_id', 'NULL'), ('after_id', 'NULL'), ('after_account', 'NULL'), ('kinds', $$'{deduction,opening}'$$),
	('since', $$'2029-01-01'$$), ('until', $$'2031-01-01'$$), ('batch_size', '100'), ('settled', 'NULL'),
	('failed', 'NULL'), ('schedule', $$'* * * * *'$$), ('value', $$'2030-01-01'$$), ('argument', $$'name'$$),
	('offer_id', '1'), ('everybody', 'false'), ('hold_id', $$(SELECT id FROM credits.transactions WHERE idempotency_key = 'hold 1')$$), ('expires_in', $$'200 years'$$),
	('final', 'true'), ('allow_more', 'false'), ('pool', $$'pool:1'$$), ('mode', $$'pool_first'$$),
	('from_account', $$'acc:1'$$), ('to_account', $$'acc:2'$$), ('cap', '100'), ('per', $$'day'$$),
	('timezone', $$'Europe/Berlin'$$), ('max_balance', '5000'), ('excess', $$'refuse'$$), ('min_spend', '1'),
	('max_spend', '100'), ('max_spend_per_day', '1000'), ('max_spend_per_month', '2000'), ('account_id', '1'),
	('name', $$'operation'$$), ('base_cost', '2'), ('unit_cost', '0.25'), ('unit_name', $$'page'$$), ('included_units', '3'),
	('rounding', $$'floor'$$), ('minimum', '1'), ('active_from', $$'2031-01-01'$$), ('active_until', $$'2032-01-01'$$),
	('quantity', '7.5'), ('code', $$'code'$$), ('count', '3'), ('credits', '5'), ('max_uses', '10'), ('per_account', '2'),
	('starts_at', $$'2029-01-01'$$), ('credits_expire_in', $$'1 month'$$), ('new_accounts_within', $$'7 days'$$),
	('message', $$'with love'$$), ('to_accounts', $$'{acc:2,acc:3}'$$), ('atomic', 'false'), ('dry_run', 'false'), ('package', $$'package'$$), ('promotion', $$'promotion'$$),
	('extras', $$'[{"credits": 5, "expires_in": "1 day"}]'$$), ('kind', $$'fixed'$$), ('plans', 'NULL'), ('from_credits', $$'{10,20}'$$), ('percents', $$'{1,2.5}'$$),
	('job', 'NULL'), ('anchor', $$'2029-12-31'$$), ('period', $$'month'$$), ('every', '2'), ('n', '3'), ('done', 'NULL'), ('warned', 'NULL'),
	('renewed', 'NULL'), ('rollover', $$'share'$$), ('rollover_maximum', 'NULL'), ('rollover_share', '0.5'), ('rollover_minimum', '1'),
	('rollover_periods', '2'), ('rollover_total', '40'), ('rollover_again', 'false'), ('trial_credits', '3'), ('trial', 'true'), ('catch_up', $$'latest'$$), ('grace', $$'3 days'$$), ('features', $$'{"a": 1}'$$),
	('plan', $$'other'$$), ('external_id', $$'sub_2'$$), ('collection', $$'payment'$$), ('subscription_id', '1'), ('status', $$'unpaid'$$),
	('period_start', $$'2030-01-01'$$), ('proration', $$'full'$$), ('purchase_id', '1'), ('payment_reference', $$'pay_3'$$),
	('money', '0.1'), ('secret', $$'whsec_other_0123456789'$$), ('id', $$'price_2'$$), ('customer', $$'cus_2'$$),
	('lines', $$'[{"starts_at": "2030-01-01", "ends_at": "2030-02-01", "credits": 5}]'$$), ('settled_at', $$'2030-01-01'$$),
	('give', $$'finalized'$$), ('upgrade', $$'when_paid'$$), ('invoice', $$'in_more'$$), ('subject', $$'pi_foreign'$$),
	('delivery_id', '1'), ('lease_id', '5'), ('permanent', 'false'), ('lease', $$'1 minute'$$), ('error', $$'error'$$), ('keep', $$'1 hour'$$),
	('accounts', $$'{acc:1,acc:2}'$$), ('correction_id', '1'), ('refused_only', 'false'), ('after_number', '0'), ('corrected', 'NULL'), ('replayed', 'NULL'),
	('dispute_id', '1'), ('description', $$'description'$$), ('requested', '1'), ('assignee', $$'grace'$$), ('note', $$'note'$$),
	('amounts', $$'{5,6}'$$), ('grace_days', '1'), ('budget', '50'), ('program', $$'program'$$), ('award', $$'award'$$),
	('actor', $$'grace'$$), ('below', '5'), ('target', '50'), ('max_requests', '2'), ('max_money', '10'),
	('statuses', $$'{open,in_review}'$$), ('older_than', $$'-1 day'$$),
	('consumer', $$'consumer'$$), ('threshold', '5'), ('baseline', $$'7 days'$$), ('pauses', 'false'),
	('channel', $$'email'$$), ('address', $$'new@example.com'$$), ('verified', 'true'), ('locale', $$'de-AT'$$), ('enabled', 'true'),
	('quiet_from', $$'23:00'$$), ('quiet_until', $$'06:00'$$), ('revoke', 'false'),
	('body', $$'{{balance}}'$$), ('html', $$'<p>{{balance}}</p>'$$), ('detail', $$'{"balance": 1}'$$),
	('alias', $$'erased:1'$$), ('erased', 'NULL'), ('ended', 'NULL'), ('document', $$'{"a": "b"}'$$), ('facts', $$'{"account": "b"}'$$),
	('salt', $$'\x00'$$), ('name_prefix', $$'acc:'$$), ('min_balance', '1'), ('used_since', $$'2029-01-01'$$), ('unused_since', $$'2031-01-01'$$), ('in_debt', 'false'),
	('clear', 'NULL'), ('sequence', $$'bad.sequence'$$), ('role', $$'postgres'$$), ('payload', 'bad.event()::text'), ('signature', $$bad.signed(convert_to(bad.event()::text, 'UTF8'))$$), ('pid', '1'),
	('backend_start', $$'2030-01-01'$$), ('statement_start', $$'2030-01-01'$$);
INSERT INTO bad.valid (function, argument, value) VALUES
	('public.credits_set_reward_program', 'name', $$'program'$$), ('public.credits_set_reward_program', 'kind', $$'award'$$), ('public.credits_set_reward_program', 'grace_days', 'NULL'),
	('public.credits_retire_reward_program', 'name', $$'program'$$),
	('public.credits_set_topup', 'package', 'NULL'), ('public.credits_set_topup', 'currency', $$'EUR'$$), ('public.credits_set_topup', 'period', $$'2 days'$$),
	('public.credits_remove_topup', 'account', $$'acc:1'$$), ('public.credits_resume_topup', 'account', $$'acc:1'$$),
	('public.credits_open_dispute', 'reason', $$'other'$$), ('public.credits_open_dispute', 'account', $$'acc:2'$$),
	('public.credits_open_dispute', 'transaction_id', $$(SELECT id FROM credits.transactions WHERE idempotency_key = 'key 2')$$),
	('public.credits_apply_correction', 'token', $$'correction'$$), ('public.credits_apply_correction', 'correction_id', 'NULL'), ('public.credits_apply_correction', 'credits', 'NULL'),
	('public.credits_resolve_dispute', 'amount', '1'), ('public.credits_dispute_queue', 'reason', $$'other'$$), ('public.credits_dispute_queue', 'assignee', 'NULL'),
	('public.credits_pause_service', 'operations', $$'{operation}'$$), ('public.credits_pause_service', 'kinds', $$'{transfer,gift}'$$),
	('public.credits_price', 'amount', 'NULL'), ('public.credits_find_accounts', 'status', $$'active'$$),
	('public.credits_audit', 'topic', $$'plan'$$), ('public.credits_audit', 'changes', $$'configuration'$$), ('public.credits_audit', 'after_id', '(SELECT max(id) FROM credits.audit_log)'),
	('public.credits_set_activity_rule', 'kind', $$'spend'$$), ('public.credits_set_activity_rule', 'span', $$'2 hours'$$), ('public.credits_set_activity_rule', 'minimum', '5'),
	('public.credits_set_activity_rule', 'name', $$'rule'$$), ('public.credits_remove_activity_rule', 'name', $$'rule'$$),
	('public.credits_ack_events', 'token', $$(SELECT token FROM credits_read_events('consumer', 1))$$),
	('public.credits_add_consumer', 'consumer', $$'another'$$),
	('public.credits_rotate_webhook_secret', 'address', $$'https://example.com/1'$$), ('public.credits_revoke_webhook_secret', 'address', $$'https://example.com/1'$$),
	('public.credits_delivery_failed', 'status', '503'), ('public.credits_unsubscribe', 'token', $$credits_unsubscribe_token('acc:1', 'low_balance')$$),
	('public.credits_set_preference', 'kind', $$'low_balance'$$),
	('public.credits_unsubscribe_token', 'kind', $$'low_balance'$$),
	('credits.is_told', 'kind', $$'low_balance'$$),
	('public.credits_set_template', 'kind', $$'low_balance'$$),
	('public.credits_retire_template', 'kind', $$'low_balance'$$),
	('public.credits_retire_template', 'channel', 'NULL'),
	('public.credits_retire_template', 'locale', $$'en'$$),
	('public.credits_preview_template', 'kind', $$'low_balance'$$),
	('public.credits_set_template', 'subject', $$'{{balance}}'$$),
	('public.credits_preview_template', 'subject', $$'{{balance}}'$$),
	('public.credits_set_template', 'channel', $$'email'$$),
	('credits.not_before', 'kind', $$'low_balance'$$),
	('credits.advance_sequence', 'id', '2'),
	('public.credits_allocate', 'expires_in', 'NULL'),
	('public.credits_offer_plan', 'metadata', 'NULL'),
	('public.credits_offer_package', 'account', 'NULL'),
	('public.credits_open_account', 'initial_credits', 'NULL'),
	('public.credits_open_account', 'unit', $$'credit'$$),
	('public.credits_set_plan', 'name', $$'plan'$$),
	('public.credits_set_plan', 'trial', $$'3 days'$$),
	('public.credits_set_plan', 'unit', 'NULL'),
	('public.credits_retire_plan', 'name', $$'plan'$$),
	('public.credits_cancel_subscription', 'at', $$'now'$$),
	('public.credits_cancel_subscription', 'credits', $$'expire'$$),
	('public.credits_change_plan', 'at', $$'now'$$),
	('public.credits_preview_plan_change', 'at', $$'now'$$),
	('public.credits_resume_subscription', 'subscription_id', '2'),
	('public.credits_mark_paid', 'subscription_id', '3'),
	('public.credits_set_invoice', 'subscription_id', '3'),
	('public.credits_complete_purchase', 'purchase_id', '4'),
	('public.credits_fail_purchase', 'purchase_id', '4'),
	('public.credits_expire_purchase', 'purchase_id', '4'),
	('public.credits_refund_period', 'period_start', 'NULL'),
	('public.credits_refund_purchase', 'credits', 'NULL'),
	('public.credits_close_chargeback', 'purchase_id', '2'),
	('public.credits_close_chargeback', 'reference', $$'chargeback'$$),
	('public.credits_close_chargeback', 'outcome', $$'lost'$$),
	('public.credits_stripe_remove_secret', 'name', $$'secret'$$),
	('public.credits_stripe_set_price', 'package', 'NULL'),
	('public.credits_stripe_invoice_lines', 'lines', $$'[]'$$),
	('public.credits_start_purchase', 'amount', 'NULL'),
	('public.credits_retire_package', 'name', $$'package'$$),
	('public.credits_retire_promotion', 'name', $$'promotion'$$),
	('public.credits_retire_unit_price', 'unit', $$'credit'$$),
	('public.credits_set_promotion', 'expires_in', 'NULL'),
	('public.credits_set_promotion', 'value', '5'),
	('public.credits_add_member', 'account', $$'other:1'$$),
	('public.credits_create_promo_code', 'code', $$'NEW'$$),
	('public.credits_create_promo_codes', 'prefix', $$'NEW-'$$),
	('public.credits_cancel_gift', 'code', $$(SELECT code FROM credits.codes WHERE kind = 'gift' LIMIT 1)$$),
	('public.credits_cancel_gift', 'account', $$'other:3'$$),
	('public.credits_deduct_many', 'items', $$ARRAY[ROW('acc:1', 3, NULL, 'op', 'ref', '{}')]::credits.deduction[]$$),
	('public.credits_allocate_many', 'items',
	 $$ARRAY[ROW('acc:1', 3, NULL, 'ref', 'reason', '{}', 'gift', '2031-01-01', NULL, NULL, 5, 1.5, 'EUR')]::credits.allocation[]$$),
	('public.credits_hold_many', 'items', $$ARRAY[ROW('acc:1', 3, NULL, 'op', 'ref', '{}', '100 years')]::credits.hold_item[]$$),
	('public.credits_capture_many', 'items',
	 $$ARRAY[ROW((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold 2'), 1, NULL, 'ref', '{}', false, false, 'acc:2')]::credits.capture_item[]$$),
	('public.credits_transfer_many', 'items', $$ARRAY[ROW('acc:1', 'acc:2', 3, NULL, 'reason', '{}')]::credits.transfer_item[]$$),
	('public.credits_reverse_transfer', 'transaction_id', $$(SELECT id FROM credits.transactions WHERE idempotency_key = 'transfer 1')$$);

CREATE TABLE bad.value (type regtype, value text);
INSERT INTO bad.value
SELECT 'text'::regtype, v FROM unnest(ARRAY[$$'plan'$$, $$'secret'$$, $$'consumer'$$, $$bad.event()::text$$, $$bad.signed(convert_to(bad.event()::text, 'UTF8'))$$, $$'pool:1'$$, $$'pool:3'$$, $$'own_first'$$, $$'lifetime'$$, $$'clip'$$, $$'used up'$$, $$' Code '$$,
	$$(SELECT code FROM credits.codes WHERE kind = 'referral' LIMIT 1)$$, $$(SELECT code FROM credits.codes WHERE kind = 'gift' LIMIT 1)$$, $$'Etc/GMT+12'$$,
	$$'<+01>-1'$$, $$'posix/Europe/Berlin'$$, $$'../../etc/passwd'$$, 'NULL', $$''$$, $$' '$$, $$'x'$$, $$'-1'$$, $$'acc:2'$$, $$' acc:1'$$, $$'acc:1 '$$,
	$$E'acc:1\n'$$, $$E'a\tb'$$, $$E'a\x01b'$$, $$E'\x7f'$$, $$'no such thing'$$, $$'acc:19'$$, $$'acc:20'$$, $$E'\'; DROP TABLE x; --'$$,
	$$'%s %n %1$s'$$, $$'purchase_completed'$$, $$'inbox'$$, $$credits_unsubscribe_token('acc:1', 'low_balance')$$, $$'a@b'$$, $$E'a@b\r\nBcc: c@d'$$, $$'en-'$$, $$'{{balance}}'$$, $$'{{'$$, $$'{{no}}'$$, $$'key 1'$$, $$'null'$$, $$repeat('x', 63)$$, $$repeat('x', 64)$$, $$repeat('x', 255)$$, $$repeat('x', 256)$$,
	$$repeat('x', 1000)$$, $$repeat('x', 1001)$$, $$repeat(' ', 1000)$$, $$repeat('x', 10000000)$$, $$repeat(E'\n', 10000000)$$]) AS v
UNION ALL
SELECT 'bigint', v FROM unnest(ARRAY['NULL', '0', '-1', '1', '2', '9223372036854775807', '-9223372036854775808',
	'9223372036854775806', '4611686018427387904', '1000000000',
	$$(SELECT id FROM credits.transactions WHERE kind = 'opening' LIMIT 1)$$,
	$$(SELECT id FROM credits.transactions WHERE kind = 'deduction' AND idempotency_key IS NULL LIMIT 1)$$,
	$$(SELECT id FROM credits.grants WHERE status = 'pending' LIMIT 1)$$, $$(SELECT max(id) FROM credits.grants)$$,
	$$(SELECT id FROM credits.transactions WHERE idempotency_key = 'split')$$,
	$$(SELECT target_id FROM credits.transactions WHERE kind = 'transfer' AND target_id IS NOT NULL LIMIT 1)$$,
	$$(SELECT id FROM credits.transactions WHERE kind = 'transfer' AND target_id IS NOT NULL LIMIT 1)$$]) AS v
UNION ALL
SELECT 'integer', v FROM unnest(ARRAY['NULL', '0', '-1', '1', '2147483647', '-2147483648', '32767', '32768', '1000', '1001']) AS v
UNION ALL
SELECT '"char"', v FROM unnest(ARRAY['NULL', $$''$$, $$'?'$$, $$'\377'$$]) AS v
UNION ALL
SELECT 'timestamptz', v FROM unnest(ARRAY['NULL', $$'infinity'$$, $$'-infinity'$$, $$'4714-11-24 00:00:00+00 BC'$$,
	$$'294276-12-31 23:59:59.999999+00'$$, $$'epoch'$$, $$'2030-01-01'$$, $$'2030-01-01 00:00:00.000001'$$, $$'2029-12-31'$$]) AS v
UNION ALL
SELECT 'numeric', v FROM unnest(ARRAY['NULL', '0', '-0.0001', '-1', $$'NaN'$$, $$'Infinity'$$, $$'-Infinity'$$, '1e131071', '1e-16383',
	$$repeat('9', 100000)::numeric$$]) AS v
UNION ALL
SELECT 'jsonb', v FROM unnest(ARRAY['NULL', $$'null'$$, $$'{}'$$, $$'[]'$$, $$'""'$$, $$'0'$$, $$to_jsonb(repeat('x', 17000))$$,
	$$to_jsonb(repeat('x', 10000000))$$, $$(repeat('[', 1000) || repeat(']', 1000))::jsonb$$]) AS v
UNION ALL
SELECT 'text[]', v FROM unnest(ARRAY['NULL', $$'{}'$$, $$'{NULL}'$$, $$'{""}'$$, $$'{timezone}'$$, $$'{currency,timezone,rollover,extras}'$$, $$'{name}'$$, $$'{active_until,active_until}'$$, $$'{{a,b},{c,d}}'$$, $$'[5:6]={a,b}'$$,
	$$array_fill('x'::text, ARRAY[100000])$$, $$ARRAY[repeat('x', 10000000)]$$]) AS v
UNION ALL
SELECT 'bigint[]', v FROM unnest(ARRAY['NULL', $$'{}'$$, $$'{NULL,1}'$$, $$'{{1,2},{3,4}}'$$, $$'[5:6]={1,2}'$$, $$'{-1,0}'$$,
	$$'{9223372036854775806,9223372036854775807}'$$, $$array_fill(1::bigint, ARRAY[100000])$$]) AS v
UNION ALL
SELECT 'numeric[]', v FROM unnest(ARRAY['NULL', $$'{}'$$, $$'{NULL,1}'$$, $$'{{1,2},{3,4}}'$$, $$'[5:6]={1,2}'$$, $$'{-1,0}'$$,
	$$'{NaN,1}'$$, $$'{1,Infinity}'$$, $$'{1e131071,1e-16383}'$$, $$array_fill(1::numeric, ARRAY[100000])$$]) AS v
UNION ALL
SELECT 'name', v FROM unnest(ARRAY['NULL', $$''$$, $$'nope'$$, $$'ctid'$$, $$repeat('x', 63)$$, $$E'"; --'$$]) AS v
UNION ALL
SELECT 'regclass', v FROM unnest(ARRAY['NULL', '0', '4294967295', $$'pg_class'$$, $$'pg_class_oid_index'$$, $$'credits.accounts'$$,
	$$'credits.receipt'$$, $$'credits.transactions_id_seq'$$]) AS v
UNION ALL
SELECT 'credits.deduction[]', v FROM unnest(ARRAY['NULL', $$'{}'$$, $$'{NULL}'$$,
	$$ARRAY[NULL, ROW('acc:1', 1, NULL, NULL, NULL, NULL)]::credits.deduction[]$$,
	$$ARRAY[ROW(NULL, NULL, NULL, NULL, NULL, NULL)]::credits.deduction[]$$,
	$$ARRAY[ROW('', 1, NULL, NULL, NULL, NULL), ROW('acc:1', 0, NULL, NULL, NULL, NULL), ROW('acc:1', -1, '', '', '', NULL)]::credits.deduction[]$$,
	$$ARRAY[ROW('acc:1', 1, 'key 1', NULL, NULL, NULL), ROW('acc:1', 1, 'key 1', 'x', NULL, NULL)]::credits.deduction[]$$,
	$$ARRAY[ROW('acc:19', 1, NULL, NULL, NULL, NULL), ROW('acc:20', 1, NULL, NULL, NULL, NULL), ROW('no such thing', 1, NULL, NULL, NULL, NULL)]::credits.deduction[]$$,
	$$ARRAY[ROW('acc:1', 9223372036854775807, NULL, NULL, NULL, NULL), ROW('acc:1', 9223372036854775807, NULL, NULL, NULL, NULL)]::credits.deduction[]$$,
	$$ARRAY[ROW('acc:1', 1, NULL, repeat('x', 10000000), NULL, to_jsonb(repeat('x', 17000)))]::credits.deduction[]$$,
	$$ARRAY[ARRAY[ROW('acc:1', 1, NULL, NULL, NULL, NULL)], ARRAY[ROW('acc:2', 1, NULL, NULL, NULL, NULL)]]::credits.deduction[]$$,
	$$(SELECT array_agg(ROW('acc:1', 1, NULL, NULL, NULL, NULL)::credits.deduction) FROM generate_series(1, 100001))$$]) AS v
UNION ALL
SELECT 'credits.hold_item[]', v FROM unnest(ARRAY['NULL', $$'{}'$$, $$'{NULL}'$$,
	$$ARRAY[ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::credits.hold_item[]$$,
	$$ARRAY[ROW('acc:1', 1, '', '', '', NULL, '-1 day'), ROW('acc:20', 1, NULL, NULL, NULL, NULL, '100000 years')]::credits.hold_item[]$$]) AS v
UNION ALL
SELECT 'credits.capture_item[]', v FROM unnest(ARRAY['NULL', $$'{}'$$, $$'{NULL}'$$,
	$$ARRAY[ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::credits.capture_item[]$$,
	$$ARRAY[ROW(-1, -1, '', '', NULL, NULL, NULL, ''), ROW(1, 9223372036854775807, NULL, NULL, NULL, true, true, 'acc:1')]::credits.capture_item[]$$,
	$$(SELECT array_agg(ROW(id, 9223372036854775807, NULL, NULL, NULL, NULL, true, NULL)::credits.capture_item) FROM credits.transactions WHERE kind = 'hold')$$]) AS v
UNION ALL
SELECT 'credits.transfer_item[]', v FROM unnest(ARRAY['NULL', $$'{}'$$, $$'{NULL}'$$,
	$$ARRAY[ROW(NULL, NULL, NULL, NULL, NULL, NULL)]::credits.transfer_item[]$$,
	$$ARRAY[ROW('acc:1', 'acc:1', 1, '', '', NULL), ROW('acc:20', 'acc:1', 1, NULL, NULL, NULL), ROW('acc:1', 'acc:20', 9223372036854775807, NULL, NULL, NULL),
		ROW('acc:1', 'no such thing', 0, NULL, repeat('x', 10000000), NULL)]::credits.transfer_item[]$$]) AS v
UNION ALL
SELECT 'credits.allocation[]', v FROM unnest(ARRAY['NULL', $$'{}'$$, $$'{NULL}'$$,
	$$ARRAY[ROW(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[]$$,
	$$ARRAY[ROW('acc:1', 0, NULL, NULL, NULL, NULL, 'gift', NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[]$$,
	$$ARRAY[ROW('acc:1', 1, NULL, NULL, NULL, NULL, 'nonsense', NULL, NULL, NULL, -1, NULL, NULL)]::credits.allocation[]$$,
	$$ARRAY[ROW('acc:1', 1, '', '', '', NULL, 'gift', '-infinity', NULL, 'infinity', 40000, 'NaN', 'x')]::credits.allocation[]$$,
	$$ARRAY[ROW('acc:1', 9223372036854775807, NULL, NULL, NULL, NULL, 'gift', NULL, NULL, NULL, NULL, NULL, NULL),
		ROW('acc:20', 1, NULL, NULL, repeat('x', 10000000), NULL, 'gift', NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[]$$,
	$$(SELECT array_agg(ROW('acc:1', 1, NULL, NULL, NULL, NULL, 'gift', NULL, NULL, NULL, NULL, NULL, NULL)::credits.allocation)
	   FROM generate_series(1, 100001))$$]) AS v
UNION ALL
SELECT 'boolean', v FROM unnest(ARRAY['NULL', 'true', 'false']) AS v
UNION ALL
SELECT 'interval', v FROM unnest(ARRAY['NULL', $$'0'$$, $$'-1 second'$$, $$'1 microsecond'$$, $$'1 month -1 day'$$, $$'-1 month 1000 days'$$,
	$$'1000 years'$$, $$'1001 years'$$, $$'178000000 years'$$, $$'-178000000 years'$$, $$'2147483647 days'$$,
	$$'-2147483648 days'$$, $$'2562047788 hours'$$, $$make_interval(months => 2147483647)$$]) AS v
UNION ALL
SELECT 'time', v FROM unnest(ARRAY['NULL', $$'00:00'$$, $$'24:00'$$, $$'06:00'$$, $$'23:00'$$, $$'23:59:59.999999'$$]) AS v
UNION ALL
SELECT 'bytea', v || '::bytea' FROM unnest(ARRAY['NULL', $$''$$, $$'\xff'$$, $$'\x00'$$, $$'{}'$$, $$repeat('x', 10000000)$$]) AS v;

CREATE VIEW bad.argument AS
SELECT p.oid, p.pronamespace::regnamespace || '.' || p.proname AS function, p.prokind, a.n, a.name, a.type::regtype AS type
FROM pg_proc AS p
JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
JOIN pg_extension AS e ON e.oid = d.refobjid AND e.extname = 'credits'
LEFT JOIN LATERAL ROWS FROM (unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])), unnest(p.proargnames),
		unnest(coalesce(p.proargmodes, array_fill('i'::"char", ARRAY[p.pronargs])))) WITH ORDINALITY
	AS a (type, name, mode, n) ON a.mode IN ('i', 'b')
WHERE p.prorettype <> 'trigger'::regtype;

-- Calls a function with the values of its arguments.
CREATE FUNCTION bad.call(function text, kind "char", VARIADIC arguments text[]) RETURNS text LANGUAGE sql AS $$
	SELECT CASE WHEN kind = 'p' THEN format('CALL %s(%s)', function, array_to_string(arguments, ', '))
		ELSE format('SELECT * FROM %s(%s)', function, array_to_string(arguments, ', ')) END
$$;

CREATE TABLE bad.tried (function text, argument text, value text, state text, message text, unchanged boolean);
CREATE PROCEDURE bad.try_every_argument() LANGUAGE plpgsql AS $$
DECLARE
	c record;
	statement text;
	before text;
	unchanged boolean;
	r record;
BEGIN
	-- each call finds the same
	before := bad.facts();
	FOR c IN
		-- there are two functions of one name for items, which the type tells apart
		SELECT f.function, f.prokind, a.n, a.name, v.value AS shown, f.valid,
			   CASE WHEN a.name = 'items' THEN format('(%s)::%s', v.value, a.type) ELSE v.value END AS value
		FROM (SELECT oid, function, prokind, array_agg(CASE WHEN a.name = 'items' AND a.type = 'jsonb'::regtype THEN format('to_jsonb(%s)', v.value)
					ELSE coalesce(v.value, 'NULL') END ORDER BY n) AS valid
			  FROM bad.argument AS a
			  LEFT JOIN LATERAL (SELECT w.value FROM bad.valid AS w WHERE w.argument = a.name AND w.function IN ('', a.function)
								 ORDER BY w.function DESC LIMIT 1) AS v ON true
			  WHERE a.n IS NOT NULL GROUP BY oid, function, prokind) AS f
		JOIN bad.argument AS a ON a.oid = f.oid
		JOIN bad.value AS v ON v.type = a.type AND NOT (f.prokind = 'p' AND v.value LIKE '%SELECT%')
		ORDER BY f.function, a.n, v.value
	LOOP
		c.valid[c.n] := c.value;
		statement := bad.call(c.function, c.prokind, VARIADIC c.valid);
		SELECT * INTO r FROM bad.try(statement);
		unchanged := r.state = '00000' OR before = bad.facts();
		-- each call on the same accounts
		ROLLBACK;
		INSERT INTO bad.tried VALUES (c.function, c.name, c.shown, r.state, r.message, unchanged);
		COMMIT;
	END LOOP;
END
$$;
SQL

is($node->safe_psql('postgres', q(
	SELECT DISTINCT name, type FROM bad.argument AS a WHERE n IS NOT NULL
	  AND (NOT EXISTS (SELECT FROM bad.valid AS v WHERE v.argument = a.name)
		   OR NOT EXISTS (SELECT FROM bad.value AS v WHERE v.type = a.type)))),
	'', 'there is a valid value for each argument and a bad one for each type');

my $start = time;
$node->safe_psql('postgres', q(
	SET credits.test_clock = '2030-01-01'; SET client_min_messages = error;
	CALL bad.try_every_argument()), timeout => 600);
note sprintf 'every argument: %s calls in %.1f s', $node->safe_psql('postgres', 'SELECT count(*) FROM bad.tried'), time - $start;

is($node->safe_psql('postgres', q(SELECT count(*) > 900 FROM bad.tried)), 't', 'every argument has been tried');
is($node->safe_psql('postgres', q(
	SELECT t.state, t.function, t.argument, left(t.value, 60), t.message FROM bad.tried AS t
	WHERE NOT EXISTS (SELECT FROM bad.documented AS d WHERE d.state = t.state)
	-- the catalog's own, where a table or a column is named that is not there or not one
	  AND NOT (t.function LIKE '%.credits_open_accounts' AND t.state IN ('42P01', '42703', '42809'))
	-- there is no pg_cron here
	  AND NOT (t.function LIKE '%.credits_%schedule' AND t.state = '55000')
	-- there are to be no partitions here
	  AND NOT (t.function LIKE '%.credits_partition_log' AND t.state = '55000')
	  AND NOT (t.function LIKE 'credits.period_%' AND t.state = '22008')
	  AND NOT (t.function = 'public.credits_dispute_queue' AND t.argument = 'older_than' AND t.state = '22008')
	ORDER BY 2, 3, 4)), '', 'each refusal has a documented SQLSTATE');
is($node->safe_psql('postgres', q(SELECT function, argument, value FROM bad.tried WHERE NOT unchanged)),
	'', 'what was refused changed nothing');
is($node->safe_psql('postgres', q(
	SELECT DISTINCT a.function FROM bad.argument AS a
	WHERE NOT EXISTS (SELECT FROM bad.tried AS t WHERE t.function = a.function AND t.state = '00000') AND a.n IS NOT NULL
	  AND a.function NOT LIKE '%.credits_%schedule'
	-- they commit, which they cannot do here
	  AND a.function NOT LIKE '%.credits_archive'
	  AND a.function NOT LIKE '%.credits_pause_service'
	  AND a.function NOT LIKE '%.credits_partition_log'
	-- all but the one valid name are refused
	  AND a.function NOT IN ('public.credits_remove_activity_rule', 'public.credits_revoke_webhook_secret'))),
	'', 'and each function worked with some of the values');
is($node->safe_psql('postgres', q(
	SELECT function, argument, value FROM bad.tried
	WHERE state = '00000' AND length(value) > 20 AND value LIKE '%10000000%' AND function NOT IN ('public.credits_history', 'public.credits_dispute_queue', 'public.credits_rewards', 'credits.log_rows', 'credits.required')
	-- these keep nothing
	  AND function NOT IN ('credits.draws_of', 'credits.key_digest', 'credits.renamed', 'credits.renamed_in_message', 'credits.erased_customer',
		'credits.erased_facts', 'credits.erased_reference')
	-- it keeps the beginning
	  AND (function, argument) <> ('public.credits_delivery_failed', 'error')
	-- what is wrong with an item is a row of the answer
	  AND argument <> 'items'
	-- it is a result
	  AND argument <> 'alias')),
	'', 'nothing swallows 10 MB');
is($node->safe_psql('postgres', q(
	SELECT function, argument FROM bad.tried WHERE value = 'NULL' AND state NOT IN ('00000', '22004')
	-- these go together
	  AND argument NOT IN ('price', 'currency', 'pool', 'mode', 'package', 'trial', 'signature') AND function NOT LIKE 'public.credits_%schedule'
	-- it commits
	  AND function NOT LIKE '%.credits_pause_service'
	-- these are results
	  AND argument NOT IN ('archived_until', 'partitions', 'alias', 'erased', 'ended') AND NOT (function LIKE '%.credits_archive' AND argument = 'before'))),
	'', 'NULL is either a default or 22004');
problems_are($node, '', 'nothing is broken');

# What is signed and still not what it should be: each member of each kind of
# event that is read, and of what a package has beside its credits, replaced by
# each value that could hurt.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE bad.json (value text);
INSERT INTO bad.json VALUES ('null'), ('true'), ('0'), ('-1'), ('1.5'), ('1e400'), ('-1e-400'), ('9223372036854775807'), ('9223372036854775808'),
	('253402300800'), ('-62135596801'), ('9224318015999'), ('""'), ('"x"'), ('"1"'), ('"\\u0000"'), ('"\\ud800"'), ('"\\u00e9\\ud83d\\ude00"'),
	('"price_1"'), ('"acc:20"'), ('"no such thing"'), ('"purchase_1"'), ('"purchase_99999999999999999999"'), ('"active"'), ('"eur"'), ('"XTS"'),
	('{}'), ('[]'), ('[null]'), ('[1,"x",{}]'), ('[[[]]]'), ('{"id": 1}'), ('{"id": null}'), ('{"id": {"id": {}}}'), ('{"data": 1}'),
	('{"data": {"a": 1}}'), ('{"data": [1]}'), ('{"data": [{"payment": {"payment_intent": ["x"]}}]}'), ('{"account": 1}'), ('{"account": {}}'),
	('{"a": 1, "a": 2}'), (repeat('[', 3000) || repeat(']', 3000)), ('"' || repeat('x', 300) || '"'), ('"' || repeat('x', 1000000) || '"'),
	('[' || repeat('{},', 10000) || '{}]');

CREATE TABLE bad.event_of (type text, event jsonb);
INSERT INTO bad.event_of
SELECT t, jsonb_set(jsonb_set(bad.event(), '{type}', to_jsonb(t)), '{data,object}', o::jsonb)
FROM (VALUES
	('checkout.session.completed', '{"id": "cs_1", "object": "checkout.session", "mode": "payment", "payment_status": "paid", "payment_intent": "pi_1",
	  "client_reference_id": "purchase_4", "amount_total": 100, "currency": "eur", "customer": "cus_1", "subscription": null, "metadata": {"purchase_id": "4"}}'),
	('payment_intent.payment_failed', '{"id": "pi_1", "object": "payment_intent", "metadata": {"purchase_id": "4"}}'),
	('charge.refunded', '{"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "amount": 100, "amount_refunded": 50, "currency": "eur", "invoice": "in_1"}'),
	('refund.created', '{"id": "re_1", "object": "refund", "payment_intent": "pi_1", "charge": "ch_1", "amount": 50, "currency": "eur", "status": "succeeded"}'),
	('charge.dispute.created', '{"id": "dp_1", "object": "dispute", "payment_intent": "pi_1", "charge": "ch_1", "amount": 50, "currency": "eur", "status": "needs_response"}'),
	('customer.subscription.updated', '{"id": "sub_new", "object": "subscription", "customer": "cus_1", "status": "active", "created": 1893456000,
	  "start_date": 1893456000, "billing_cycle_anchor": 1893456000, "cancel_at": null, "trial_start": 1893456000, "trial_end": 1893556000,
	  "metadata": {"account": "acc:6"}, "pause_collection": null, "cancel_at_period_end": false,
	  "current_period_start": 1893456000, "current_period_end": 1896134400,
	  "items": {"object": "list", "data": [{"current_period_start": 1893456000, "current_period_end": 1896134400,
		"price": {"id": "price_1", "product": "prod_1"}}]}}'),
	('invoice.payment_failed', bad.event() #>> '{data,object}'), ('invoice.paid', bad.event() #>> '{data,object}'),
	('invoice_payment.paid', '{"id": "inpay_1", "object": "invoice_payment", "invoice": "in_1", "status": "paid",
	  "payment": {"type": "payment_intent", "payment_intent": "pi_1"}}')) AS v (t, o);

CREATE TABLE bad.sent (type text, path text, value text, state text, message text, unchanged boolean);
CREATE PROCEDURE bad.send_everything() LANGUAGE plpgsql AS $$
DECLARE
	c record;
	payload text;
	before text := bad.facts();
	unchanged boolean;
	number int := 0;
	r record;
BEGIN
	FOR c IN
		WITH RECURSIVE member AS (
			SELECT type, event, ARRAY[]::text[] AS path, event AS value FROM bad.event_of
			UNION ALL
			SELECT m.type, m.event, m.path || k.key, k.value FROM member AS m
			CROSS JOIN LATERAL (
				SELECT key, value FROM jsonb_each(CASE WHEN jsonb_typeof(m.value) = 'object' THEN m.value ELSE '{}' END)
				UNION ALL
				SELECT (n - 1)::text, value FROM jsonb_array_elements(CASE WHEN jsonb_typeof(m.value) = 'array' THEN m.value ELSE '[]' END)
					WITH ORDINALITY AS a (value, n)) AS k)
		SELECT m.type, m.event, m.path, m.value AS was, j.value FROM member AS m
		CROSS JOIN (SELECT value FROM bad.json UNION ALL SELECT NULL) AS j
		-- what all events have, once
		WHERE m.path[2] = 'object' OR m.type = 'invoice.paid'
		ORDER BY m.type, m.path, j.value
	LOOP
		payload := CASE
			WHEN c.path = '{}' THEN coalesce(c.value, '')
			WHEN c.value IS NULL THEN (c.event #- c.path)::text
			-- as it is, not as jsonb would have it
			ELSE replace(jsonb_set(c.event, c.path, '"REPLACED"')::text, '"REPLACED"', c.value) END;
		number := number + 1;
		payload := replace(payload, '"evt_1"', format('"evt_%s"', number));
		SELECT * INTO r FROM bad.try(format('SELECT * FROM credits_stripe_webhook(%L, bad.signed(convert_to(%1$L, ''UTF8'')))', payload));
		unchanged := r.state = '00000' OR before = bad.facts();
		-- the next one on what is left of some of them
		IF r.state = '00000' AND number % 16 <> 0 THEN
			ROLLBACK;
		END IF;
		INSERT INTO bad.sent VALUES (c.type, c.path::text, left(c.value, 100), r.state, r.message, unchanged);
		COMMIT;
		IF r.state = '00000' AND number % 16 = 0 THEN
			before := bad.facts();
		END IF;
	END LOOP;
	FOR c IN
		WITH extra AS (SELECT '[{"credits": 5, "expires_in": "1 day", "source": "promotional", "priority": 5, "unit": "credit"}]'::jsonb AS e)
		SELECT p.path::text[] AS path, j.value, e FROM extra, bad.json AS j,
			unnest(ARRAY['{}', '{0}', '{0,credits}', '{0,expires_in}', '{0,source}', '{0,priority}', '{0,unit}', '{0,other}']) AS p (path)
	LOOP
		before := bad.facts();
		SELECT * INTO r FROM bad.try(format('SELECT credits_set_package(''extras'', 10, 1, ''EUR'', extras => %L)',
			CASE WHEN c.path = '{}' THEN c.value ELSE replace(jsonb_set(c.e, c.path, '"REPLACED"')::text, '"REPLACED"', c.value) END));
		INSERT INTO bad.sent VALUES ('extras', c.path::text, left(c.value, 100), r.state, r.message, r.state = '00000' OR before = bad.facts());
		COMMIT;
	END LOOP;
END
$$;
SQL
$start = time;
$node->safe_psql('postgres', q(
	SET credits.test_clock = '2030-01-01'; SET client_min_messages = error; CALL bad.send_everything()), timeout => 600);
note sprintf 'payloads: %s in %.1f s', $node->safe_psql('postgres', 'SELECT count(*) FROM bad.sent'), time - $start;
note $node->safe_psql('postgres', 'SELECT type, state, count(*) FROM bad.sent GROUP BY 1, 2 ORDER BY 1, 2');
is($node->safe_psql('postgres', q(
	SELECT s.state, s.type, s.path, min(left(s.value, 60)), min(s.message), count(*) FROM bad.sent AS s
	WHERE NOT EXISTS (SELECT FROM bad.documented AS d WHERE d.state = s.state)
	-- of expires_in
	  AND NOT (s.type = 'extras' AND s.state IN ('22007', '22015')) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3)), '',
	'payloads: each refusal has a documented SQLSTATE');
is($node->safe_psql('postgres', q(SELECT DISTINCT type, path, value FROM bad.sent WHERE NOT unchanged)), '',
	'payloads: what was refused changed nothing');
problems_are($node, '', 'nothing is broken by payloads');

# Part 2.  Calls at random, mostly sensible, so that accounts live; several
# sessions at once, each of them with a clock of its own.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION bad.pick(VARIADIC choices text[]) RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT choices[1 + floor(random() * array_length(choices, 1))::int]
$$;
-- A sensible value with probability p, else any of the pool's of its type.
CREATE FUNCTION bad.some(p double precision, good text, pool text[]) RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT CASE WHEN random() < p THEN good ELSE pool[1 + floor(random() * array_length(pool, 1))::int] END
$$;

CREATE PROCEDURE bad.live(session int, calls int, seed double precision) LANGUAGE plpgsql AS $$
DECLARE
	texts text[] := (SELECT array_agg(value) FROM bad.value WHERE type = 'text'::regtype AND value NOT LIKE '%10000000%');
	bigints text[] := (SELECT array_agg(value) FROM bad.value WHERE type = 'bigint'::regtype AND value NOT LIKE '%SELECT%');
	integers text[] := (SELECT array_agg(value) FROM bad.value WHERE type = 'integer'::regtype);
	times text[] := (SELECT array_agg(value) FROM bad.value WHERE type = 'timestamptz'::regtype);
	numerics text[] := (SELECT array_agg(value) FROM bad.value WHERE type = 'numeric'::regtype AND value NOT LIKE '%repeat%');
	jsons text[] := (SELECT array_agg(value) FROM bad.value WHERE type = 'jsonb'::regtype AND value NOT LIKE '%10000000%');
	intervals text[] := (SELECT array_agg(value) FROM bad.value WHERE type = 'interval'::regtype);
	sources text[] := ARRAY['manual', 'gift', 'trial', 'purchase', 'promotional', 'subscription', 'referral', 'signup'];
	kinds text[] := ARRAY['deduction', 'opening', 'refund', 'allocation', 'expiration', 'hold', 'capture', 'transfer'];
	account text;
	amount text;
	key text;
	id text;
	grant_id text;
	reason text;
	instant text;
	meta text;
	statement text;
	function text;
	at timestamptz := '2030-01-01';
	before text;
	r record;
	choice double precision;
	high bigint;
	spends bigint[];
	grants bigint[];
	holds bigint[];
	transfers bigint[];
	codes text[];
	hold_id text;
	pool text;
	span text;
	other text;
BEGIN
	PERFORM setseed(seed);
	FOR i IN 1..calls LOOP
		IF i % 20 = 1 THEN
			-- not beyond what the other session's clock would make of it
			at := at + random() * interval '6 hours';
			PERFORM set_config('credits.test_clock', at::text, false);
			SELECT max(t.id) INTO high FROM credits.transactions AS t;
			SELECT array_agg(t.id) INTO spends FROM credits.transactions AS t WHERE t.id > high - 200 AND t.kind IN ('deduction', 'capture');
			SELECT array_agg(h.id) INTO holds
			FROM (SELECT l.id FROM credits.hold_states AS l WHERE l.status = 'open' ORDER BY l.id DESC LIMIT 100) AS h;
			SELECT array_agg(c.code) INTO codes FROM (SELECT l.code FROM credits.codes AS l ORDER BY l.id DESC LIMIT 50) AS c;
			SELECT array_agg(t.id) INTO transfers FROM credits.transactions AS t
			WHERE t.id > high - 500 AND t.kind = 'transfer' AND t.amount < 0;
			SELECT array_agg(g.id) INTO grants
			FROM (SELECT l.id FROM credits.grants AS l WHERE l.remaining > 0 ORDER BY l.id DESC LIMIT 50) AS g;
		END IF;
		account := bad.some(0.97, quote_literal('acc:' || 1 + floor(random() * 20)), texts);
		amount := bad.some(0.9, (1 + floor(random() * 30))::text, bigints);
		key := CASE WHEN random() < 0.6 THEN 'NULL'
			ELSE bad.some(0.95, quote_literal('key ' || floor(random() * 300)), texts) END;
		id := bad.some(0.95, coalesce(CASE WHEN random() < 0.8 THEN spends[1 + floor(random() * array_length(spends, 1))::int]
			ELSE high - floor(random() * 100)::int END, high)::text, bigints);
		grant_id := bad.some(0.95, coalesce(grants[1 + floor(random() * array_length(grants, 1))::int], 1)::text, bigints);
		reason := bad.some(0.9, '''reason''', texts);
		instant := bad.some(0.9, quote_literal(at + (random() - 0.1) * interval '30 days'), times);
		hold_id := bad.some(0.95, coalesce(holds[1 + floor(random() * array_length(holds, 1))::int], 1)::text, bigints);
		pool := CASE WHEN random() < 0.7 THEN 'NULL, NULL' ELSE bad.some(0.95, quote_literal('pool:' || 1 + floor(random() * 3)), texts)
			|| ', ' || bad.some(0.95, bad.pick('NULL', '''own_first''', '''pool_first''', '''pool_only'''), texts) END;
		span := bad.some(0.9, bad.pick('''1 hour''', '''1 day''', '''1 month''', '''90 days'''), intervals);
		other := bad.some(0.97, quote_literal(bad.pick('acc:', 'acc:', 'other:') || 1 + floor(random() * 20)), texts);
		meta := bad.some(0.95, bad.pick('NULL', '''{"a": 1}'''), jsons);
		choice := random();
		CASE
			WHEN choice < 0.16 THEN
				function := 'deduct';
				statement := format('SELECT credits_deduct(%s, %s, %s, %s, %s, %s, %s)', account, amount, key,
					bad.some(0.9, bad.pick('NULL', '''op'''), texts), bad.some(0.9, bad.pick('NULL', '''ref'''), texts), meta, pool);
			WHEN choice < 0.20 THEN
				function := 'try_deduct';
				statement := format('SELECT credits_try_deduct(%s, %s, %s, NULL, NULL, %s, %s)', account, amount, key, meta, pool);
			WHEN choice < 0.27 THEN
				function := 'hold';
				statement := format('SELECT credits_hold(%s, %s, %s, %s, %s, %s, %s, %s)', account, amount, key,
					bad.some(0.9, bad.pick('NULL', '''op'''), texts), bad.some(0.9, bad.pick('NULL', '''ref'''), texts), meta, span, pool);
			WHEN choice < 0.32 THEN
				function := 'capture';
				statement := format('SELECT credits_capture(%s, %s, final => %s, idempotency_key => %s, allow_more => %s, metadata => %s, account => %s)', hold_id,
					bad.pick('NULL', amount), bad.pick('true', 'false', 'NULL'), key, bad.pick('true', 'false'), meta,
					bad.pick('NULL', 'NULL', 'NULL', account));
			WHEN choice < 0.35 THEN
				function := 'release';
				statement := format('SELECT credits_release(%s, %s, %s, %s, %s)', hold_id, key, bad.pick('NULL', reason), meta,
					bad.pick('NULL', 'NULL', 'NULL', account));
			WHEN choice < 0.37 THEN
				function := 'extend_hold';
				statement := format('SELECT credits_extend_hold(%s, %s, %s)', hold_id, span, key);
			WHEN choice < 0.41 THEN
				function := 'transfer';
				statement := format('SELECT credits_transfer(%s, %s, %s, %s, %s, %s)', account, other, amount, key,
					bad.pick('NULL', reason), meta);
			WHEN choice < 0.42 THEN
				function := 'reverse_transfer';
				statement := format('SELECT credits_reverse_transfer(%s, %s, %s, %s, %s)',
					bad.some(0.9, coalesce(transfers[1 + floor(random() * array_length(transfers, 1))::int], 1)::text, bigints),
					reason, bad.pick('NULL', amount), key, meta);
			WHEN choice < 0.43 THEN
				function := 'member';
				statement := bad.pick(
					format('SELECT credits_add_member(%s, %s, %s)', quote_literal('pool:' || 1 + floor(random() * 3)), other,
						bad.some(0.9, '300', bigints)),
					format('SELECT credits_change_member(''pool:1'', %s, %s, %s, %s)', account, bad.some(0.8, '500', bigints),
						bad.some(0.8, bad.pick('''day''', '''month''', '''lifetime'''), texts),
						bad.some(0.8, bad.pick('''UTC''', '''Pacific/Apia'''), texts)),
					format('SELECT credits_remove_member(''pool:1'', %s)', other));
			WHEN choice < 0.432 THEN
				function := 'operation';
				statement := bad.pick(
					format('SELECT credits_set_operation(%s, %s, %s, %s, %s, %s, %s, %s, %s)', bad.some(0.9, '''operation''', texts),
						bad.some(0.9, '2', numerics), bad.some(0.9, '0.3', numerics), bad.some(0.9, '''page''', texts),
						bad.some(0.9, '1', numerics), bad.some(0.9, bad.pick('''ceil''', '''floor''', '''round'''), texts),
						bad.some(0.9, '1', bigints), bad.pick('NULL', instant), bad.pick('NULL', instant)),
					format('SELECT credits_retire_operation(%s, %s)', bad.some(0.9, '''other''', texts), bad.pick('NULL', instant)));
			WHEN choice < 0.45 THEN
				function := 'charge';
				statement := format(bad.pick('SELECT credits_charge(%s, %s, %s, %s, NULL, %s, %s)',
						'SELECT credits_try_charge(%s, %s, %s, %s, NULL, %s, %s)'),
					account, bad.some(0.95, '''operation''', texts), bad.some(0.9, (random() * 20)::numeric(6, 2)::text, numerics),
					key, meta, pool);
			WHEN choice < 0.455 THEN
				function := 'quote';
				statement := format('SELECT credits_quote(%s, %s, %s)', account, bad.some(0.95, '''operation''', texts),
					bad.some(0.9, '3', numerics));
			WHEN choice < 0.46 THEN
				function := 'promo_code';
				statement := format('SELECT credits_create_promo_code(%s, %s, %s, %s, %s, %s, %s, %s, %s)',
					bad.some(0.9, quote_literal('c' || floor(random() * 30)), texts), bad.some(0.9, '3', bigints),
					bad.some(0.9, bad.pick('NULL', '5'), bigints), bad.some(0.9, '2', integers),
					bad.pick('NULL', instant), bad.pick('NULL', instant), bad.pick('NULL', span), bad.pick('NULL', 'NULL', span), meta);
			WHEN choice < 0.475 THEN
				function := 'redeem';
				statement := format(bad.pick('SELECT credits_redeem(%s, %s, %s, %s)', 'SELECT credits_try_redeem(%s, %s, %s, %s)'),
					account, bad.some(0.9, coalesce(quote_literal(codes[1 + floor(random() * array_length(codes, 1))::int]), '''c1'''), texts),
					key, meta);
			WHEN choice < 0.485 THEN
				function := 'gift';
				statement := bad.pick(
					format('SELECT credits_create_gift(%s, %s, %s, %s, %s, %s)', account, amount, key, meta,
						bad.some(0.9, 'NULL', texts), bad.pick('NULL', span)),
					format('SELECT credits_cancel_gift(%s, %s)',
						bad.some(0.9, coalesce(quote_literal(codes[1 + floor(random() * array_length(codes, 1))::int]), '''c1'''), texts), key),
					format('SELECT credits_gift_many(%s, ARRAY[%s, %s], %s, %s)', account, other, bad.pick('''acc:3''', '''acc:20''', '''acc:5'''),
						amount, key),
					format('SELECT credits_referral_code(%s)', account));
			WHEN choice < 0.50 THEN
				function := 'many';
				statement := bad.pick(
					format('SELECT credits_deduct_many(ARRAY[ROW(%s, %s, %s, NULL, NULL, %s), ROW(%s, 3, NULL, NULL, NULL, NULL),
						ROW(%s, 1, NULL, NULL, NULL, NULL)]::credits.deduction[], %s)', account, amount, key, meta, other, account,
						bad.pick('true', 'false')),
					format('SELECT credits_allocate_many(ARRAY[ROW(%s, %s, %s, NULL, NULL, %s, %s, %s, NULL, NULL, NULL, NULL, NULL),
						ROW(%s, 3, NULL, NULL, NULL, NULL, ''gift'', NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[], %s, %s)',
						account, amount, key, meta, bad.some(0.9, '''trial''', texts), bad.pick('NULL', instant), other,
						bad.pick('true', 'false'), bad.pick('true', 'false', 'false')));
			WHEN choice < 0.51 THEN
				function := 'set_limits';
				statement := format('SELECT credits_set_limits(%s, %s, %s, %s, %s, %s, %s, %s, %s)',
					bad.some(0.9, quote_literal('acc:' || 10 + floor(random() * 9)), texts), bad.some(0.7, '3000', bigints),
					bad.some(0.9, bad.pick('NULL', '''clip''', '''refuse'''), texts), bad.some(0.9, bad.pick('NULL', '2'), bigints),
					bad.some(0.9, bad.pick('NULL', '25'), bigints), bad.some(0.9, bad.pick('NULL', '500'), bigints),
					bad.some(0.9, bad.pick('NULL', '5000'), bigints), bad.some(0.9, '''UTC''', texts), bad.pick('NULL', reason));
			WHEN choice < 0.57 THEN
				function := 'allocate';
				statement := format('SELECT credits_allocate(%s, %s, source => %s, expires_at => %s, effective_at => %s, priority => %s, price => %s, idempotency_key => %s, reason => %s)', account, amount,
					bad.some(0.97, quote_literal(sources[1 + floor(random() * 8)]), texts),
					bad.pick('NULL', instant), bad.pick('NULL', 'NULL', 'NULL', instant), bad.some(0.95, 'NULL', integers),
					CASE WHEN random() < 0.9 THEN bad.pick('NULL, currency => NULL', '9.99, currency => ''EUR''')
						ELSE bad.some(0.5, '9.99', numerics) || ', currency => ' || bad.some(0.5, '''EUR''', texts) END,
					key, bad.pick('NULL', reason));
			WHEN choice < 0.65 THEN
				function := 'refund';
				statement := format('SELECT credits_refund(%s, %s, %s, %s, %s, %s, %s)', id, bad.pick('NULL', amount), key,
					bad.pick('NULL', reason), meta, bad.some(0.95, bad.pick('NULL', '''grace''', '''expire'''), texts),
					bad.pick('NULL', 'NULL', account));
			WHEN choice < 0.72 THEN
				function := 'adjust';
				statement := format('SELECT credits_adjust(%s, %s, %s, %s, %s)', account,
					bad.pick(amount, '-' || floor(random() * 30)), reason, key, meta);
			WHEN choice < 0.76 THEN
				function := 'void_grant';
				statement := format('SELECT credits_void_grant(%s, %s, %s)', grant_id, reason, key);
			WHEN choice < 0.765 THEN
				function := 'erase_text';
				statement := format('SELECT credits_erase_text(%s)', bad.pick(id, id, 'NULL', '0', '-1'));
			WHEN choice < 0.78 THEN
				function := 'pause_account';
				statement := format('SELECT credits_pause_account(%s, %s)', account, reason);
			WHEN choice < 0.81 THEN
				function := 'resume_account';
				statement := format('SELECT credits_resume_account(%s, %s)', account, reason);
			WHEN choice < 0.811 THEN
				function := 'close_account';
				statement := format('SELECT credits_close_account(%s, %s)', bad.pick('''acc:20''', '''acc:18''', '''no such thing'''), reason);
			WHEN choice < 0.83 THEN
				function := 'set_alerts';
				statement := format('SELECT credits_set_alerts(%s, %s, %s)', account,
					bad.some(0.9, bad.pick('NULL', '''''', '''20%, 5'''), texts), bad.pick('NULL', amount));
			WHEN choice < 0.85 THEN
				function := 'open_account';
				statement := format('SELECT credits_open_account(%s, %s, %s, %s)', account, bad.pick('NULL', amount),
					bad.some(0.9, '''credit''', texts), meta);
			WHEN choice < 0.851 THEN
				function := 'open_accounts';
				statement := format('SELECT credits_open_accounts(''bad.keys'', ''id'', %s, %s)',
					bad.some(0.5, quote_literal('key' || floor(random() * 10)), texts), bad.pick('NULL', amount));
			WHEN choice < 0.88 THEN
				function := 'balance';
				statement := format('SELECT credits_balance(%s)', account);
			WHEN choice < 0.91 THEN
				function := 'balance_at';
				statement := format('SELECT credits_balance_at(%s, %s)', account, instant);
			WHEN choice < 0.94 THEN
				function := 'summary';
				statement := format('SELECT credits_summary(%s)', account);
			WHEN choice < 0.97 THEN
				function := 'history';
				statement := format('SELECT count(*) FROM credits_history(%s, %s, %s, %s, %s, %s)', account,
					bad.some(0.8, '10', integers), bad.some(0.7, 'NULL', ARRAY[id]),
					bad.pick('NULL', quote_literal(ARRAY[kinds[1 + floor(random() * 8)], NULL])),
					bad.pick('NULL', instant), bad.pick('NULL', instant));
			WHEN choice < 0.99 THEN
				function := 'verify';
				statement := format('SELECT count(*) FROM credits_verify(%s, %s)', bad.some(0.9, account, texts),
					bad.pick('false', 'true', 'NULL'));
			ELSE
				function := 'settle';
				statement := format('CALL credits_settle(%s, NULL, NULL)', bad.some(0.8, '5', integers));
		END CASE;
		-- verify of all accounts takes long
		IF function = 'verify' AND statement LIKE '%(NULL)' AND random() > 0.01 THEN
			CONTINUE;
		END IF;
		IF session = 0 THEN
			before := bad.facts();
		END IF;
		SELECT * INTO r FROM bad.try(statement);
		IF session = 0 AND r.state <> '00000' AND before <> bad.facts() THEN
			r.state := 'CHANGE';
		END IF;
		INSERT INTO bad.outcome VALUES (session, function, r.state, r.message, CASE WHEN r.state NOT LIKE 'PT%' AND r.state <> '00000'
			THEN left(statement, 300) END);
		COMMIT;
	END LOOP;
END
$$;
SQL

# A sample alone, with a look at everything before and after each refusal;
# then the rest side by side.
$start = time;
my $sample = int($calls / 100);
$node->safe_psql('postgres', "SET client_min_messages = error; CALL bad.live(0, $sample, " . ($seed % 997) / 997 . ')', timeout => 300);
is($node->safe_psql('postgres', q(SELECT count(*), min(statement) FROM bad.outcome WHERE state = 'CHANGE')), '0|',
	"in a sample of $sample calls none that was refused changed anything");

my @sessions = map { CreditsTest::Session->new($node) } 1 .. $sessions;
foreach my $i (1 .. $sessions)
{
	$sessions[ $i - 1 ]->query('SET client_min_messages = error');
	# one of them at a level where others' changes are errors
	$sessions[ $i - 1 ]->query(q(SET default_transaction_isolation = 'repeatable read')) if $i == 2;
	$sessions[ $i - 1 ]->send(sprintf 'CALL bad.live(%d, %d, %s)', $i,
		($calls - $sample) / $sessions, ($seed * ($i + 1) % 997) / 997);
}
foreach my $session (@sessions)
{
	my $answer = $session->receive;
	is($answer->{code}, '00000', 'a session got through') or note @{ $answer->{messages} };
	$session->quit;
}
note sprintf 'at random: %.1f s', time - $start;
note $node->safe_psql('postgres', q(
	SELECT string_agg(state || ' ' || count, ', ' ORDER BY count DESC)
	FROM (SELECT state, count(*) FROM bad.outcome GROUP BY state) AS s));
note $node->safe_psql('postgres', q(
	SELECT string_agg(function || ' ' || worked || '/' || count, ', ' ORDER BY function)
	FROM (SELECT function, count(*), count(*) FILTER (WHERE state = '00000') AS worked FROM bad.outcome GROUP BY function) AS s));

is($node->safe_psql('postgres', q(
	SELECT o.state, o.function, min(o.message), min(o.statement) FROM bad.outcome AS o
	WHERE NOT EXISTS (SELECT FROM bad.documented AS d WHERE d.state = o.state) GROUP BY 1, 2 ORDER BY 1, 2)),
	'', 'each refusal has a documented SQLSTATE');
is($node->safe_psql('postgres', q(SELECT function, min(message) FROM bad.outcome WHERE state = '40001' AND session <> 2 GROUP BY 1)),
	'', 'nobody has to repeat a call in READ COMMITTED');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM bad.outcome'), '>', $calls * 0.95, 'the calls were made');
cmp_ok($node->safe_psql('postgres', q(SELECT count(*) FROM bad.outcome WHERE state = '00000')), '>', $calls * 0.2,
	'and many of them worked');
problems_are($node, '', 'nothing is broken');

# the sums once more, past all our code
is($node->safe_psql('postgres', q(
	SELECT a.name FROM credits.accounts AS a
	WHERE a.balance < 0 OR a.held < 0
	   OR a.balance <> (SELECT sum(t.amount) FROM credits.transactions AS t WHERE t.account_id = a.id)
	   OR a.held <> (SELECT sum(t.held) FROM credits.transactions AS t WHERE t.account_id = a.id)
	   OR a.held <> (SELECT coalesce(sum(h.reserved - h.captured - h.released), 0) FROM credits.hold_states AS h
					 WHERE h.account_id = a.id)
	   OR a.balance <> (SELECT coalesce(sum(g.remaining), 0) FROM credits.grants AS g WHERE g.account_id = a.id AND g.status = 'open')
	   OR a.transaction_count <> (SELECT count(*) FROM credits.transactions AS t WHERE t.account_id = a.id))),
	'', 'every balance is the sum of its log and of its grants, and what is held that of the holds');
is($node->safe_psql('postgres', q(
	SELECT id FROM (SELECT id, balance_after, sum(amount) OVER (PARTITION BY account_id ORDER BY id) AS balance
					FROM credits.transactions) AS t WHERE balance <> balance_after)),
	'', 'each row carries the balance after it');

my $log = slurp_file($node->logfile);
unlike($log, qr/terminated by signal|TRAP:|PANIC|server process .* exited/, 'no process of the server has died');
$node->stop;
done_testing();
