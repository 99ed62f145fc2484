# Any two operations that meet, and an oracle: whatever they are, the end is as if
# one had come after the other.
#
# Each case has a world of its own: a few accounts, and whatever else operations are
# about, all in the same state.  In one world of each pair the first operation is done in
# an open transaction while the second one comes, which may have to wait; then the
# first is committed, or rolled back.  In others both are done one after the
# other, in both orders, or only one of them.  What the calls said and what is in the
# tables has to equal one of the two orders, and after a rollback what the second
# leaves alone.
#
# Nothing is computed here: what is compared is what the extension itself did where
# nobody was in the way.  That it does right then is what the other tests are about.
#
# Jobs leave what another session has locked to their next run.  So where a job is
# one of the two, it runs once more in all of the worlds before they are compared.
#
# CREDITS_PAIRS is the share of the pairs that run, 1 for all, as where CI is set;
# CREDITS_SEED says which ones.  CREDITS_PAIRS_ONLY is a regular expression for the
# names of pairs, as 'deduct, transfer'.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsStripe;
use CreditsTest;
use JSON::PP;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $share = $ENV{CREDITS_PAIRS} // ($ENV{CI} ? 1 : 0.1);
my $only = $ENV{CREDITS_PAIRS_ONLY};
my $seed = $ENV{CREDITS_SEED} // 20310401;
my $begun = time;
srand $seed;

my $node = credits_node('pairs', conf => <<'CONF');
fsync = off
credits.referral_account_age = '0'
credits.referral_credits = 20
credits.referrer_credits = 5
credits.purchase_expiry = '0'
credits.redeem_failures = 0
CONF

# ---------------------------------------------------------------------------
# worlds

# The instant of the race, a second later in each world, so that a job in one finds
# nothing to do in those that come after it.  All are within a day.
my $epoch = 1_896_933_600;    # 2030-02-10 06:00 UTC

sub clock { return 'SET credits.test_clock = \'' . gmtime_text($epoch + $_[0]) . '\'' }

sub gmtime_text
{
	my ($sec, $min, $hour, $day, $month, $year) = gmtime $_[0];
	return sprintf '%04d-%02d-%02d %02d:%02d:%02d+00', $year + 1900, $month + 1, $day, $hour, $min, $sec;
}

# Stripe's payment of a purchase, signed in SQL: HMAC by its definition in RFC 2104.
my ($outer, $inner) = map {
	my $mask = $_;
	join '', map { sprintf '%02x', ord($_) ^ $mask } split //, pack 'a64', stripe_secret();
} 0x5c, 0x36;
$node->safe_psql('postgres', "SET credits.test_clock = '2029-01-01 00:00+00'; SELECT credits_stripe_add_secret('tests', '"
	  . stripe_secret() . "')");
$node->safe_psql('postgres', <<"SQL");
CREATE FUNCTION pay_by_stripe(w int, purchase bigint, at bigint) RETURNS text LANGUAGE sql AS \$\$
	SELECT r.result
	FROM (SELECT jsonb_build_object('id', 'evt_setup_' || w, 'type', 'checkout.session.completed', 'created', at,
			'data', jsonb_build_object('object', jsonb_build_object('id', 'cs_paid_' || w, 'payment_intent', 'pi_paid_' || w,
				'client_reference_id', (SELECT p.reference FROM credits.purchases AS p WHERE p.id = purchase),
				'payment_status', 'paid', 'amount_total', 1000, 'currency', 'usd')))::text) AS e (event),
		encode(sha256('\\x$outer'::bytea || sha256('\\x$inner'::bytea || (at || '.' || event)::bytea)), 'hex') AS h (hmac),
		credits_stripe_webhook(event, 't=' || at || ',v1=' || hmac) AS r
\$\$;
SQL

# At the time of the race account a has 170 credits: 60 of a subscription, 10 of a
# manual grant and 100 of a purchase; no two of the spends of 90 fit.  It holds 40
# in hold h.  What else it had has run out just before: a promotional grant, 20 of
# which were spent and 20 are in h, a hold, and the period of another subscription.
# Whoever comes first settles that.  b has 90, 30 of them from a.  Pool p has 70
# and is itself in pool o; a may spend 20 more of it.
$node->safe_psql('postgres', <<'SQL');
SET credits.test_clock = '2029-01-01 00:00+00';
SELECT credits_set_plan('basic', 30, price => 3, currency => 'USD', rollover => 'maximum', rollover_maximum => 20),
	credits_set_plan('pro', 60, price => 6, currency => 'USD'), credits_set_plan('yearly', 720, 'year', price => 60, currency => 'USD'),
	credits_set_package('pack', 100, 10, 'USD'), credits_stripe_set_price('price_pro', 'pro');

CREATE FUNCTION race(w int) RETURNS timestamptz LANGUAGE sql STABLE AS
'SELECT timestamptz ''2030-02-10 06:00+00'' + w * interval ''1 second''';

-- what accounts were called that may have been erased
CREATE TABLE world_names (id bigint, name text COLLATE "C" PRIMARY KEY);
-- at one go, up to what others may have seen before
CREATE FUNCTION erase_person(account text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	alias text;
	erased bigint;
	ended boolean;
BEGIN
	CALL credits_erase_person(account, 'asked', 1000, alias, erased, ended);
END
$$;
-- when nobody has
CREATE PROCEDURE end_erasures() LANGUAGE plpgsql AS $$ BEGIN
	WHILE EXISTS (SELECT FROM credits.erasures WHERE ended_at IS NULL) LOOP
		CALL credits_housekeep();
	END LOOP;
END $$;

CREATE FUNCTION make_world(w int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	race timestamptz := race(w);
	since timestamptz := race - interval '1 month' - interval '300 ms';
	a text := w || ':a';
	b text := w || ':b';
	c text := w || ':c';
	o text := w || ':o';
	p text := w || ':p';
	ids jsonb;
BEGIN
	PERFORM set_config('credits.test_clock', since::text, false);
	PERFORM credits_open_account(v.name, v.credits) FROM (VALUES (a, 0), (b, 70), (c, 200), (o, 200), (p, 100)) AS v (name, credits);
	PERFORM credits_allocate(a, 50, source => 'promotional', expires_at => race - interval '500 ms');
	PERFORM credits_allocate(a, 60, idempotency_key => 'manual');
	PERFORM credits_deduct(a, 20, 'spend');
	PERFORM credits_deduct(b, 10, 'spend');
	PERFORM credits_hold(a, 10, expires_in => race - interval '600 ms' - since);
	PERFORM credits_hold(a, 40, 'hold', expires_in => '1 year');
	PERFORM credits_transfer(a, b, 30, 'transfer');
	PERFORM credits_add_member(p, a, 50, 'lifetime');
	PERFORM credits_add_member(p, b);
	PERFORM credits_add_member(o, p, 60, 'lifetime');
	PERFORM credits_deduct(a, 10, 'pool spend', pool => p);
	PERFORM credits_hold(a, 20, 'pool hold', expires_in => '1 year', pool => p);
	PERFORM credits_create_promo_code('last' || w, 10, 1);
	PERFORM credits_create_promo_code('open' || w, 12);
	PERFORM credits_set_operation('chat' || w, 40, 2);
	PERFORM credits_set_promotion('less' || w, 'percent', 50, max_uses => 1);
	ids := jsonb_build_object(
		'due', (credits_subscribe(a, 'basic')).subscription_id,
		'gift', (credits_create_gift(c, 15, idempotency_key => 'gift')).code,
		'code_a', credits_referral_code(a),
		'code_b', credits_referral_code(b),
		'pending', (credits_start_purchase(a, 'pack', idempotency_key => 'pending')).purchase_id,
		'paid', (credits_start_purchase(a, 'pack', idempotency_key => 'paid')).purchase_id);
	PERFORM pay_by_stripe(w, (ids->>'paid')::bigint, floor(extract(epoch FROM since))::bigint);
	PERFORM set_config('credits.test_clock', (race - interval '10 days')::text, false);
	ids := ids || jsonb_build_object(
		'current', (credits_subscribe(a, 'pro', idempotency_key => 'current')).subscription_id);
	SELECT ids || jsonb_build_object('dispute', (credits_open_dispute(b, t.id, 'other', requested => 6)).dispute_id) INTO ids
	FROM credits.accounts AS n JOIN credits.transactions AS t ON t.account_id = n.id WHERE n.name = b AND t.idempotency_key = 'spend';
	PERFORM set_config('credits.test_clock', '', false);
	INSERT INTO world_names SELECT n.id, n.name FROM credits.accounts AS n WHERE n.name IN (a, b, c, o, p);

	SELECT ids || jsonb_object_agg(replace(t.idempotency_key, ' ', '_') || CASE WHEN n.name = b THEN '_b' ELSE '' END, t.id) INTO ids
	FROM credits.accounts AS n JOIN credits.transactions AS t ON COALESCE(t.member_id, t.account_id) = n.id
	WHERE n.name IN (a, b) AND t.idempotency_key IN ('spend', 'hold', 'transfer', 'pool spend', 'pool hold')
		AND t.amount < 0;
	RETURN ids || jsonb_build_object('w', w,
		'manual', (SELECT id FROM credits.grants AS g WHERE g.source = 'manual' AND g.account_id = (
			SELECT n.id FROM credits.accounts AS n WHERE n.name = a)),
		'reference', (SELECT x.reference FROM credits.purchases AS x WHERE x.id = (ids->>'pending')::bigint));
END
$$;

CREATE FUNCTION since(w int, at timestamptz) RETURNS text LANGUAGE sql STABLE AS
'SELECT CASE WHEN isfinite(at) THEN (at - race(w))::text ELSE at::text END';

-- All that some worlds are, each as lines without what differs from one world to the next:
-- ids become names, times count from the race.
CREATE FUNCTION states(first int, last int, OUT world int, OUT state text) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
	-- arrays, so that all of it is found by indexes whatever the statistics say
	worlds int[] := ARRAY(SELECT generate_series(first, last));
	names text[] := ARRAY(SELECT v.w || ':' || name FROM unnest(worlds) AS v (w), unnest('{a,b,c,o,p,new}'::text[]) AS name);
	ids bigint[] := ARRAY(SELECT a.id FROM credits.accounts AS a WHERE a.name = ANY (names) UNION SELECT w.id FROM world_names AS w WHERE w.name = ANY (names));
BEGIN
	RETURN QUERY WITH n AS (
		SELECT split_part(v.name, ':', 1)::int AS w, v.id, split_part(v.name, ':', 2) AS name
		FROM (SELECT a.id, COALESCE((SELECT w.name FROM world_names AS w WHERE w.id = a.id AND w.name = ANY (names)), a.name) AS name
			FROM credits.accounts AS a WHERE a.id = ANY (ids)) AS v
	), line (w, part, line) AS (
		SELECT w, 1, concat_ws(' ', 'account', n.name, a.status, a.balance, a.held, 'granted', a.granted, 'spent', a.spent, 'refunded', a.refunded,
			'expired', a.expired, 'debt', a.debt, 'levels', a.alert_levels, 'base', a.base, 'count', a.transaction_count)
		FROM n JOIN credits.accounts AS a USING (id) WHERE a.id = ANY (ids)
		UNION ALL
		-- in the order of the log, which is defined for each account
		SELECT w, 2, concat_ws(' ', 'log', n.name, to_char(row_number() OVER (PARTITION BY n.id ORDER BY t.id), 'FM000'), t.kind, t.amount, t.held,
			'->', t.balance_after, t.held_after, t.idempotency_key, rtrim(t.operation, '0123456789'), rtrim(t.reason, '0123456789'),
			(SELECT name FROM n AS m WHERE m.id = t.member_id),
			(SELECT concat_ws(' ', 'of', o.kind, o.amount, o.idempotency_key) FROM credits.transactions AS o WHERE o.id = t.target_id))
		FROM n JOIN credits.transactions AS t ON t.account_id = n.id AND t.account_id = ANY (ids)
		UNION ALL
		SELECT w, 3, concat_ws(' ', 'grant', n.name, g.source, g.priority, g.remaining, 'of', g.amount, g.status, 'from', since(w, g.effective_at),
			'until', since(w, g.expires_at), since(w, g.granted_until), g.price, g.currency)
		FROM n JOIN credits.grants AS g ON g.account_id = n.id AND g.account_id = ANY (ids)
		UNION ALL
		SELECT w, 4, concat_ws(' ', 'debt', n.name, d.claimed, d.gone, d.owed, d.paid) FROM n JOIN credits.debts AS d ON d.account_id = n.id AND d.account_id = ANY (ids)
		UNION ALL
		SELECT w, 5, concat_ws(' ', 'hold', n.name, h.captured, h.released, 'of', h.reserved, h.status, since(w, h.expires_at))
		FROM n JOIN credits.hold_states AS h ON h.account_id = n.id AND h.account_id = ANY (ids)
		UNION ALL
		SELECT w, 6, concat_ws(' ', 'limits', n.name, l.max_balance, l.max_spend, l.max_spend_per_day, l.day_used, l.month_used)
		FROM n JOIN credits.limits AS l ON l.account_id = n.id AND l.account_id = ANY (ids)
		UNION ALL
		SELECT w, 7, concat_ws(' ', 'member', n.name, 'of', (SELECT name FROM n AS m WHERE m.id = v.pool_id), v.used, '/', v.cap, v.per)
		FROM n JOIN credits.members AS v ON v.account_id = n.id AND v.account_id = ANY (ids)
		UNION ALL
		SELECT w, 8, concat_ws(' ', 'code', n.name, c.kind, c.credits, 'x', c.uses, c.max_uses, c.active)
		FROM n JOIN credits.transactions AS t ON t.account_id = n.id AND t.account_id = ANY (ids) JOIN credits.codes AS c ON c.transaction_id = t.id
		UNION ALL
		SELECT w, 8, concat_ws(' ', 'code', n.name, c.kind) FROM n JOIN credits.codes AS c ON c.account_id = n.id AND c.account_id = ANY (ids) AND c.kind = 'referral'
		UNION ALL
		SELECT w, 8, concat_ws(' ', 'code', c.kind, c.credits, 'x', c.uses, c.max_uses, c.active)
		FROM unnest(worlds) AS v (w) JOIN credits.codes AS c ON c.code IN ('LAST' || w, 'OPEN' || w)
		UNION ALL
		SELECT w, 9, concat_ws(' ', 'redemption', n.name, r.kind)
		FROM n JOIN credits.transactions AS t ON t.account_id = n.id AND t.account_id = ANY (ids) JOIN credits.redemptions AS r ON r.transaction_id = t.id
		UNION ALL
		SELECT w, 10, concat_ws(' ', 'subscription', n.name, p.name, s.status, s.period_number, since(w, s.period_start), since(w, s.period_end),
			(SELECT name FROM credits.plans AS x WHERE x.id = s.next_plan_id), s.next_proration, s.cancel_credits,
			s.cancel_at = s.period_end, s.ended_at IS NOT NULL)
		FROM n JOIN credits.subscriptions AS s ON s.account_id = n.id AND s.account_id = ANY (ids) JOIN credits.plans AS p ON p.id = s.plan_id
		UNION ALL
		SELECT w, 11, concat_ws(' ', 'period', n.name, p.name, v.number, v.status, since(w, v.starts_at), since(w, v.ends_at), v.credits, v.given,
			v.unused, v.rolled)
		FROM n JOIN credits.subscriptions AS s ON s.account_id = n.id AND s.account_id = ANY (ids) JOIN credits.periods AS v ON v.subscription_id = s.id
		JOIN credits.plans AS p ON p.id = v.plan_id
		UNION ALL
		SELECT w, 12, concat_ws(' ', 'plan change', n.name, p.name, since(w, v.at), v.proration, v.carried)
		FROM n JOIN credits.subscriptions AS s ON s.account_id = n.id AND s.account_id = ANY (ids) JOIN credits.plan_changes AS v ON v.subscription_id = s.id
		JOIN credits.plans AS p ON p.id = v.plan_id
		UNION ALL
		SELECT w, 13, concat_ws(' ', 'purchase', n.name, p.status, p.credits, p.price, p.money, split_part(p.problem, ' ', 1), p.idempotency_key, cardinality(p.grant_ids))
		FROM n JOIN credits.purchases AS p ON p.account_id = n.id AND p.account_id = ANY (ids)
		UNION ALL
		SELECT w, 14, concat_ws(' ', 'reversal', n.name, r.kind, r.status, r.money, r.credits)
		FROM n JOIN credits.purchases AS p ON p.account_id = n.id AND p.account_id = ANY (ids) JOIN credits.reversals AS r ON r.purchase_id = p.id
		UNION ALL
		SELECT w, 15, concat_ws(' ', 'promotion', t.uses) FROM unnest(worlds) AS v (w) JOIN credits.promotion_totals AS t ON t.promotion = 'less' || w
		UNION ALL
		SELECT w, 16, concat_ws(' ', 'event', n.name, e.kind) FROM n JOIN credits.events AS e ON e.account_id = n.id AND e.account_id = ANY (ids)
		UNION ALL
		SELECT w, 17, concat_ws(' ', 'stripe', e.type, e.result) FROM unnest(worlds) AS v (w) JOIN credits.stripe_events AS e ON e.id = ANY (ARRAY(
			SELECT format('evt_%s_%s', name, w) FROM unnest('{paid,refunded,subscribed,canceled,invoiced}'::text[]) AS name))
		UNION ALL
		SELECT w, 18, concat_ws(' ', 'price', o.base_cost, o.unit_cost, since(w, o.active_from), since(w, o.active_until))
		FROM unnest(worlds) AS v (w) JOIN credits.operations AS o ON o.name = 'chat' || w
		UNION ALL
		SELECT w, 19, concat_ws(' ', 'dispute', n.name, d.status, d.refunded, 'of', d.requested, d.assignee, d.note)
		FROM n JOIN credits.disputes AS d ON d.account_id = n.id AND d.account_id = ANY (ids)
		UNION ALL
		SELECT w, 20, concat_ws(' ', 'erased', n.name, e.ended_at IS NOT NULL) FROM n JOIN credits.erasures AS e ON e.account_id = n.id AND e.account_id = ANY (ids)
	)
	SELECT l.w, string_agg(l.line, '|' ORDER BY l.part, l.line) FROM line AS l GROUP BY l.w;
END
$$;
SQL

# ---------------------------------------------------------------------------
# operations

sub receipt { return "SELECT kind, amount, balance, held, replayed FROM $_[0]" }
sub attempt { return "SELECT ok, code, (receipt).kind, (receipt).amount, (receipt).balance, (receipt).replayed FROM $_[0]" }
sub outcomes { return "SELECT item, ok, code, (receipt).amount, (receipt).balance FROM $_[0]" }
sub gift { return "SELECT (receipt).kind, (receipt).amount, (receipt).balance FROM $_[0]" }
sub subscription { return "SELECT plan, status, balance, replayed FROM $_[0]" }
sub change { return "SELECT plan, scheduled, given, taken, balance, replayed FROM $_[0]" }
sub dispute { return "SELECT status, requested, refunded, replayed FROM $_[0]" }
sub payment { return "SELECT outcome, (receipt).amount, (receipt).balance, (receipt).replayed FROM $_[0]" }
sub clawback { return "SELECT status, money, credits, balance, debt, replayed FROM $_[0]" }

# An item of a batch.
sub item { return "('$_[0]', $_[1], NULL, NULL, NULL, NULL)" }
sub lot { return "('$_[0]', $_[1], NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)" }

# An event of Stripe's about a world; created: seconds before the race.
sub stripe
{
	my ($id, $type, $w, $object, $created) = @_;
	my $event = stripe_event($type, $object, id => "evt_${id}_$w", created => $epoch + $w - $created);
	return 'SELECT result FROM ' . stripe_call($event, $epoch + $w);
}

# A subscription that Stripe bills, of account a.
sub stripe_subscription_of
{
	my ($w, %members) = @_;
	my $begun = $epoch + $w - 4;
	return stripe_subscription('new', id => "sub_$w", customer => "cus_$w", price => 'price_pro', status => 'active', created => $begun,
		start_date => $begun, billing_cycle_anchor => $begun, period => [ $begun, $begun + 28 * 86400 ], metadata => { account => "$w:a" },
		%members);
}

# Those in {} stand for what make_world made.
my %ops = (
	deduct => receipt("credits_deduct('{w}:a', 90)"),
	deduct_b => receipt("credits_deduct('{w}:b', 60)"),
	try_deduct => attempt("credits_try_deduct('{w}:a', 95)"),
	deduct_up_to => receipt("credits_deduct_up_to('{w}:a', 190)"),
	hold => receipt("credits_hold('{w}:a', 90)"),
	hold_up_to => receipt("credits_hold_up_to('{w}:a', 190)"),
	try_hold => attempt("credits_try_hold('{w}:a', 95)"),
	capture => receipt('credits_capture({hold}, 30)'),
	capture_more => receipt('credits_capture({hold}, 130, allow_more => true)'),
	capture_part => receipt('credits_capture({hold}, 15, final => false)'),
	capture_nothing => receipt('credits_capture({hold}, 0)'),
	release => receipt('credits_release({hold})'),
	extend => receipt("credits_extend_hold({hold}, '2 years')"),
	refund => receipt('credits_refund({spend})'),
	refund_part => receipt('credits_refund({spend}, 12)'),
	refund_b => receipt('credits_refund({spend_b}, 6)'),
	dispute => dispute("credits_open_dispute('{w}:a', {spend}, 'other')"),
	dispute_again => dispute("credits_open_dispute('{w}:a', {spend}, 'duplicate', requested => 2)"),
	dispute_pool => dispute("credits_open_dispute('{w}:a', {pool_spend}, 'other')"),
	assign => dispute("credits_assign_dispute({dispute}, 'grace')"),
	resolve => dispute("credits_resolve_dispute({dispute}, 6, 'yes')"),
	resolve_part => dispute("credits_resolve_dispute({dispute}, 4)"),
	reject => dispute("credits_resolve_dispute({dispute}, 0, 'no')"),
	withdraw => dispute("credits_withdraw_dispute('{w}:b', {dispute})"),
	close_b => receipt("credits_close_account('{w}:b', 'left')"),
	allocate => receipt("credits_allocate('{w}:a', 40)"),
	allocate_paying => receipt("credits_allocate('{w}:a', 40, source => 'purchase')"),
	adjust => receipt("credits_adjust('{w}:a', -90, 'error')"),
	adjust_up => receipt("credits_adjust('{w}:a', 20, 'error')"),
	void => receipt("credits_void_grant({manual}, 'error')"),
	transfer => receipt("credits_transfer('{w}:a', '{w}:b', 90)"),
	transfer_back => receipt("credits_transfer('{w}:b', '{w}:a', 60)"),
	transfer_up_to => receipt("credits_transfer_up_to('{w}:b', '{w}:a', 190)"),
	reverse_transfer => receipt("credits_reverse_transfer({transfer}, 'error', 20)"),
	alerts => receipt("credits_set_alerts('{w}:a', '100')"),
	pause => receipt("credits_pause_account('{w}:a', 'fraud')"),
	resume => receipt("credits_resume_account('{w}:a', 'cleared')"),
	close => receipt("credits_close_account('{w}:a', 'left')"),
	limits => receipt("credits_set_limits('{w}:a', max_balance => 190, max_spend => 50)"),
	limits_day => receipt("credits_set_limits('{w}:a', max_spend_per_day => 100)"),
	open => receipt("credits_open_account('{w}:new', 5)"),
	pool => receipt("credits_deduct('{w}:a', 15, pool => '{w}:p')"),
	pool_b => receipt("credits_deduct('{w}:b', 60, pool => '{w}:p')"),
	pool_both => receipt("credits_deduct('{w}:a', 185, pool => '{w}:p', mode => 'own_first')"),
	pool_up_to => receipt("credits_deduct_up_to('{w}:a', 400, pool => '{w}:p', mode => 'own_first')"),
	pool_nested => receipt("credits_deduct('{w}:a', 15, pool => '{w}:o')"),
	pool_hold => receipt("credits_hold('{w}:a', 15, pool => '{w}:p')"),
	pool_capture => receipt('credits_capture({pool_hold}, 5)'),
	pool_release => receipt('credits_release({pool_hold})'),
	pool_refund => receipt('credits_refund({pool_spend})'),
	pool_itself => receipt("credits_deduct('{w}:p', 60)"),
	add_member => receipt("credits_add_member('{w}:p', '{w}:c', 10)"),
	change_member => receipt("credits_change_member('{w}:p', '{w}:a', 35, 'lifetime')"),
	remove_member => receipt("credits_remove_member('{w}:p', '{w}:a')"),
	gift => gift("credits_create_gift('{w}:a', 90)"),
	gift_many => receipt("credits_gift_many('{w}:a', ARRAY['{w}:b', '{w}:c'], 50)"),
	redeem_gift => receipt("credits_redeem('{w}:a', '{gift}')"),
	redeem_gift_b => attempt("credits_try_redeem('{w}:b', '{gift}')"),
	cancel_gift => receipt("credits_cancel_gift('{gift}')"),
	redeem_last => receipt("credits_redeem('{w}:a', 'last{w}')"),
	redeem_last_b => attempt("credits_try_redeem('{w}:b', 'last{w}')"),
	redeem_open => receipt("credits_redeem('{w}:a', 'open{w}')"),
	deactivate => "SELECT credits_deactivate_promo_code('last{w}')",
	refer => receipt("credits_redeem('{w}:a', '{code_b}')"),
	refer_back => receipt("credits_redeem('{w}:b', '{code_a}')"),
	refer_c => receipt("credits_redeem('{w}:c', '{code_a}')"),
	referral_code => "SELECT length(credits_referral_code('{w}:c'))",
	deduct_many => outcomes('credits_deduct_many(ARRAY['
		  . join(', ', item('{w}:b', 60), item('{w}:a', 50), item('{w}:c', 5), item('{w}:a', 45)) . ']::credits.deduction[])'),
	deduct_all => outcomes('credits_deduct_many(ARRAY['
		  . join(', ', item('{w}:c', 5), item('{w}:a', 90), item('{w}:b', 45)) . ']::credits.deduction[], atomic => true)'),
	allocate_many => outcomes('credits_allocate_many(ARRAY['
		  . join(', ', lot('{w}:b', 5), lot('{w}:a', 25)) . ']::credits.allocation[])'),
	transfer_many => outcomes(q(credits_transfer_many('[{"from_account": "{w}:b", "to_account": "{w}:a", "amount": 60},'
		  || '{"from_account": "{w}:a", "to_account": "{w}:c", "amount": 90}]'::jsonb))),
	hold_many => outcomes(q(credits_hold_many('[{"account": "{w}:b", "amount": 60}, {"account": "{w}:a", "amount": 90}]'::jsonb))),
	capture_many => outcomes(q(credits_capture_many(jsonb_build_array(jsonb_build_object('hold_id', {pool_hold}),
		jsonb_build_object('hold_id', {hold}, 'amount', 30))))),
	charge => receipt("credits_charge('{w}:a', 'chat{w}', 25)"),
	try_charge => attempt("credits_try_charge('{w}:a', 'chat{w}', 27)"),
	set_price => "SELECT credits_set_operation('chat{w}', 50, 2) > 0",
	set_rate => "SELECT credits_set_operation('chat{w}', unit_cost => 3) > 0",
	retire_price => "SELECT credits_retire_operation('chat{w}') > 0",
	key => receipt("credits_deduct('{w}:a', 5, 'key')"),
	key_try => attempt("credits_try_deduct('{w}:a', 5, 'key')"),
	key_other => receipt("credits_deduct('{w}:a', 6, 'key')"),
	key_give => receipt("credits_allocate('{w}:a', 5, idempotency_key => 'key')"),
	key_pool => receipt("credits_deduct('{w}:a', 5, 'key', pool => '{w}:p')"),
	# how many it came to is no matter: there may be those of other worlds
	erase => "SELECT erase_person('{w}:a')",
	settle => 'CALL credits_settle()',
	renew => 'CALL credits_renew()',
	subscribe => subscription("credits_subscribe('{w}:a', 'basic', idempotency_key => 'new')"),
	subscribe_named => subscription("credits_subscribe('{w}:a', 'pro', external_id => 'sub_{w}')"),
	cancel => subscription("credits_cancel_subscription({current}, 'now', 'expire')"),
	cancel_later => subscription('credits_cancel_subscription({current})'),
	cancel_due => subscription("credits_cancel_subscription({due}, 'now')"),
	pause_due => subscription('credits_pause_subscription({due})'),
	unpaid => subscription('credits_mark_unpaid({current})'),
	paid_again => subscription('credits_mark_paid({current})'),
	downgrade => change("credits_change_plan({current}, 'basic', at => 'now', idempotency_key => 'down')"),
	lengthen => change("credits_change_plan({current}, 'yearly', at => 'now')"),
	downgrade_later => change("credits_change_plan({current}, 'basic')"),
	upgrade_due => change("credits_change_plan({due}, 'pro', at => 'now')"),
	purchase => "SELECT status, credits, price, replayed FROM credits_start_purchase('{w}:a', 'pack', idempotency_key => 'three')",
	purchase_less => "SELECT status, credits, price FROM credits_start_purchase('{w}:a', 'pack', promotion => 'less{w}')",
	purchase_less_b => "SELECT status, credits, price FROM credits_start_purchase('{w}:b', 'pack', promotion => 'less{w}')",
	complete => payment("credits_complete_purchase({pending}, 'pi_pending_{w}', 10)"),
	complete_other => payment("credits_complete_purchase({pending}, 'pi_other_{w}', 10)"),
	expire_purchase => 'SELECT credits_expire_purchase({pending})',
	fail_purchase => "SELECT credits_fail_purchase({pending}, 'declined')",
	refund_purchase => clawback("credits_refund_purchase({paid}, 5, reference => 're')"),
	refund_purchase_all => clawback('credits_refund_purchase({paid})'),
	chargeback => clawback("credits_open_chargeback({paid}, 'dp')"),
	chargeback_won => clawback("credits_close_chargeback({paid}, 'dp', 'won')"),
	stripe_paid => sub {
		stripe('paid', 'checkout.session.completed', $_->{w}, stripe_session(id => "cs_$_->{w}", payment_status => 'paid',
				client_reference_id => $_->{reference}, amount_total => 1000, payment_intent => "pi_pending_$_->{w}"), 2);
	},
	stripe_refunded => sub {
		stripe('refunded', 'charge.refunded', $_->{w}, stripe_charge(id => "ch_$_->{w}", amount => 1000, amount_refunded => 400,
				payment_intent => "pi_paid_$_->{w}"), 1);
	},
	stripe_subscribed => sub { stripe('subscribed', 'customer.subscription.created', $_->{w}, stripe_subscription_of($_->{w}), 4) },
	stripe_canceled => sub {
		my $now = $epoch + $_->{w};
		stripe('canceled', 'customer.subscription.deleted', $_->{w},
			stripe_subscription_of($_->{w}, status => 'canceled', canceled_at => $now, ended_at => $now), 0);
	},
	stripe_invoiced => sub {
		my $begun = $epoch + $_->{w} - 4;
		stripe('invoiced', 'invoice.paid', $_->{w}, stripe_invoice('new', id => "in_$_->{w}", customer => "cus_$_->{w}",
				subscription => "sub_$_->{w}", status => 'paid', amount_paid => 600, billing_reason => 'subscription_create',
				subscription_metadata => { account => "$_->{w}:a" }, lines => [ [ 'price_pro', $begun, $begun + 28 * 86400, 600, 0 ] ]), 3);
	},
);
# to erase somebody ends with a job
my %jobs = map { $_ => $ops{$_} } qw(settle renew erase);

# The call of an operation in a world.
sub call_of
{
	my ($op, $ids) = @_;
	if (ref $ops{$op})
	{
		local $_ = $ids;
		return $ops{$op}->();
	}
	return $ops{$op} =~ s!\{(\w+)\}!$ids->{$1} // die("$op: no $1")!ger;
}

# ---------------------------------------------------------------------------
# running them

my $maker = CreditsTest::Session->new($node);
my $serial = CreditsTest::Session->new($node);
my $one = CreditsTest::Session->new($node);
my $two = CreditsTest::Session->new($node);
my $monitor = CreditsTest::Session->new($node);
my $reader = CreditsTest::Session->new($node);
my $pid = $two->value('SELECT pg_backend_pid()');

my $worlds = 0;
my %count = (pairs => 0, raced => 0, waited => 0, refused => 0, failed => 0);
my $noted = time;

# What a call said, from the answer of a session.
sub said { my ($op, $answer) = @_; return join ' ', $answer->{code}, $jobs{$op} ? () : @{ $answer->{rows} } }

# Worlds are made a hundred at a time, and the next hundred while these are in use.
my $made = 0;
my @made;

sub make_worlds
{
	$maker->send(sprintf 'SELECT make_world(w) FROM generate_series(%d, %d) AS w', $made + 1, $made + 100);
	$made += 100;
}

sub next_world
{
	make_worlds() unless $made;
	if (!@made)
	{
		my $answer = $maker->receive;
		die "$answer->{code} @{$answer->{messages}}" if $answer->{code} ne '00000';
		@made = map { decode_json($_) } @{ $answer->{rows} };
		make_worlds();
	}
	return shift @made;
}

# A case is what is done in a world: its kind, and the first and the second operation.
# Kinds are serial, commit and rollback, and those of isolation levels.  This runs
# some, and notes in each what the calls said and how its world ended.
#
# Those that are serial run in a session of their own beside the others, except where
# there are jobs, which would come to all of them.
sub run_cases
{
	my ($cases) = @_;
	# in the order in which they run, so that a job comes to none that is yet to begin
	my @cases = sort { ($b->{kind} eq 'serial') <=> ($a->{kind} eq 'serial') } @$cases;
	my $jobs = grep { grep { defined && $jobs{$_} } @$_{qw(first second)} } @cases;
	my $from = $worlds + 1;
	$_->{w} = ++$worlds foreach @cases;
	$_->{ids} = next_world() foreach @cases;

	my @serial = grep { $_->{kind} eq 'serial' } @cases;
	$serial->send(join("\n", map {
		my $case = $_;
		(clock($case->{w}) . ';',
			map { defined $case->{$_} ? (call_of($case->{$_}, $case->{ids}) . ';', "\\echo said $case->{w} $_ :SQLSTATE") : () } qw(first second))
	} @serial) . "\n;") if @serial;
	my $answer;
	$answer = $serial->receive if @serial && $jobs;
	race($_) foreach grep { $_->{kind} ne 'serial' } @cases;
	$answer //= $serial->receive if @serial;

	my %of = map { $_->{w} => $_ } @cases;
	my @rows;
	foreach (@{ $answer ? $answer->{rows} : [] })
	{
		if (/^said (\d+) (\w+) (\w+)$/)
		{
			$of{$1}{said}{$2} = said($of{$1}{$2}, { code => $3, rows => [@rows] });
			@rows = ();
		}
		else
		{
			push @rows, $_;
		}
	}

	# whoever has waited for an erasure finds the account closed, whoever comes later finds none
	foreach my $case (grep { "$_->{first} " . ($_->{second} // '') =~ /\berase/ } @cases)
	{
		s/PT423/PT404/g foreach values %{ $case->{said} };
	}

	my $late = $jobs ? clock($worlds) . '; CALL credits_settle(); CALL credits_renew(); CALL end_erasures();' : '';
	foreach (split /\n/, $reader->value("$late SELECT 'world', * FROM states($from, $worlds)"))
	{
		$of{$1}{state} = $2 if /^world\|(\d+)\|(.*)/;
	}
	return;
}

# Is the second session waiting for somebody, or has it an answer?
sub waits_for_lock
{
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	while (time < $end)
	{
		my $bits = '';
		vec($bits, fileno($two->{out}), 1) = 1;
		$two->pump if select($bits, undef, undef, 0.001) > 0;
		return 0 if $two->ready;
		return 1 if $monitor->value("SELECT cardinality(pg_blocking_pids($pid)) > 0") eq 't';
	}
	die 'the second session neither ends nor waits';
}

my %level = (repeatable => 'REPEATABLE READ', serializable => 'SERIALIZABLE');

# The first operation in a transaction, the second one while that is open.
sub race
{
	my ($case) = @_;
	my ($ids, $clock) = ($case->{ids}, clock($case->{w}));
	my $level = $level{ $case->{kind} };
	my $begin = $level ? "BEGIN ISOLATION LEVEL $level; SELECT 1;" : 'BEGIN;';
	$one->value("$clock; $begin");
	$two->value($level ? "$clock; $begin" : $clock);

	$case->{said}{first} = said($case->{first}, $one->query(call_of($case->{first}, $ids)));
	$two->send(call_of($case->{second}, $ids));
	$case->{waited} = waits_for_lock();
	my $end = $one->query($case->{kind} eq 'rollback' ? 'ROLLBACK' : 'COMMIT');
	# what fails at the end has not happened
	$case->{said}{first} = $end->{code} if $end->{code} ne '00000';
	$case->{said}{second} = said($case->{second}, $two->receive);
	if ($level)
	{
		$end = $two->query('COMMIT');
		$case->{said}{second} = $end->{code} if $end->{code} ne '00000';
	}
	$count{raced}++;
	$count{waited}++ if $case->{waited};
	$count{refused}++ if $case->{said}{second} !~ /^00000/;
}

sub case_of { my ($kind, $first, $second) = @_; return { kind => $kind, first => $first, second => $second } }

# What differs between two states.
sub difference
{
	my ($got, $expected) = @_;
	my %lines;
	$lines{$_}-- foreach split /\|/, $expected;
	$lines{$_}++ foreach split /\|/, $got;
	return join "\n", map { ($lines{$_} > 0 ? '  +' : '  -') . " $_" } sort grep { $lines{$_} } keys %lines;
}

# What ends as neither order does, and why nothing is lost by it.  Balances, the log
# and grants have to equal those of one of the orders all the same.
my %known = (
	'erase, close' => 'to close what is closed by now is no error',
	'complete_other, stripe_paid' => 'a purchase that has just been paid otherwise is announced as payment_duplicate, not payment_unknown',
);

# The lines of a state that are about credits.
sub credits_of { return join '|', grep { /^(account|log|grant|debt|hold|member) / } split /\|/, $_[0] }

# Does a case equal one of those that it may?  Says in what it does not.
sub equals_one
{
	my ($case, @expected) = @_;
	foreach my $expected (@expected)
	{
		return 1 if $known{"$case->{first}, $case->{second}"} && credits_of($expected->{state}) eq credits_of($case->{state});
		return 1 if $expected->{state} eq $case->{state}
		  && !grep { defined $expected->{said}{$_} && $expected->{said}{$_} ne $case->{said}{$_} } qw(first second);
	}
	$count{failed}++;
	return 0 if $count{failed} > 20;
	diag("$case->{first}, $case->{second}: $case->{kind}", $case->{waited} ? ', waited' : '');
	foreach my $expected (@expected)
	{
		diag('against ' . join(', then ', grep { defined } @$expected{ $expected->{swapped} ? qw(second first) : qw(first second) }));
		foreach (grep { defined $expected->{said}{$_} && $expected->{said}{$_} ne $case->{said}{$_} } qw(first second))
		{
			diag("  the $_ said $case->{said}{$_}, not $expected->{said}{$_}");
		}
		diag(difference($case->{state}, $expected->{state}));
	}
	return 0;
}

# The same as the other party sees it.
sub swap
{
	my ($case) = @_;
	return { %$case, swapped => 1, first => $case->{second}, second => $case->{first},
		said => { first => $case->{said}{second}, second => $case->{said}{first} } };
}

# Each operation alone, in a plain world and in one that the jobs come to at the end.
my %alone;

sub run_alone
{
	my @names = @_;
	my @cases = map { case_of('serial', $_) } grep { !$jobs{$_} } @names;
	run_cases(\@cases);
	$alone{plain}{ $_->{first} } = $_ foreach @cases;
	@cases = map { case_of('serial', $_) } @names;
	run_cases(\@cases);
	$alone{jobs}{ $_->{first} } = $_ foreach @cases;
}

# What an operation alone would have to be for the second of a pair, or the first.
sub alone
{
	my ($case, $which) = @_;
	my $kind = $jobs{ $case->{first} } || $jobs{ $case->{second} } ? 'jobs' : 'plain';
	my $alone = $alone{$kind}{ $case->{$which} };
	return { %$alone, said => { $which => $alone->{said}{first} } };
}

# Both orders of each of some pairs, by turns committed and rolled back.
sub run_pairs
{
	my (@pairs) = @_;
	my @cases;
	foreach my $pair (@pairs)
	{
		my ($a, $b) = @$pair;
		foreach my $order ([ $a, $b ], $a ne $b ? [ $b, $a ] : ())
		{
			push @cases, map { case_of($_, @$order) } qw(serial commit rollback);
		}
	}
	run_cases(\@cases);
	my %serial = map { ("$_->{first}, $_->{second}" => $_) } grep { $_->{kind} eq 'serial' } @cases;
	my $good = 1;
	foreach my $case (grep { $_->{kind} ne 'serial' } @cases)
	{
		$good &= equals_one($case, $case->{kind} eq 'commit'
			? ($serial{"$case->{first}, $case->{second}"}, swap($serial{"$case->{second}, $case->{first}"}))
			: alone($case, 'second'));
	}
	$count{pairs} += @pairs;
	return $good;
}

# The same on snapshots from before both: one of them may fail to serialize, and
# then has done nothing.
sub run_levels
{
	my ($level, @pairs) = @_;
	my @cases = map { (case_of('serial', @$_), case_of('serial', reverse @$_), case_of($level, @$_)) } @pairs;
	run_cases(\@cases);
	my $good = 1;
	while (my ($there, $back, $case) = splice @cases, 0, 3)
	{
		my %failed = map { $_ => 1 } grep { $case->{said}{$_} =~ /^40001/ } qw(first second);
		$count{not_serialized} += %failed;
		my $of = { %$case, said => { %{ $case->{said} } } };
		$good &= equals_one($of,
			  $failed{second} ? alone($case, 'first')
			: $failed{first} ? alone($case, 'second')
			:                  ($there, swap($back)));
	}
	return $good;
}

sub progress
{
	return if time < $noted + 5;
	$noted = time;
	note(sprintf '%d pairs, %d cases of which %d raced and %d waited, %.0f s', $count{pairs}, $worlds, $count{raced}, $count{waited},
		time - $begun);
}

# ---------------------------------------------------------------------------

my @names = sort keys %ops;
run_alone(@names);
$reader->value('ANALYZE');
note(scalar(@names), ' operations, of which alone fail: ', join ' ', grep { $alone{jobs}{$_}{said}{first} !~ /^00000/ } @names);

# it has to see what they do
my %ends = map { $_->{state} => 1 } values %{ $alone{plain} };
cmp_ok(scalar keys %ends, '>', 0.85 * keys %{ $alone{plain} }, 'most operations leave something of their own');

my @pairs;
foreach my $i (0 .. $#names)
{
	push @pairs, map { [ $names[$i], $names[$_] ] } $i .. $#names;
}
@pairs = defined $only
  ? grep { "$_->[0], $_->[1]" =~ /$only/ || "$_->[1], $_->[0]" =~ /$only/ } @pairs
  : grep { rand() < $share } shuffle @pairs;
my ($with_jobs, $without) = ([], []);
push @{ $jobs{ $_->[0] } || $jobs{ $_->[1] } ? $with_jobs : $without }, $_ foreach @pairs;
foreach ([ 'what jobs meet', $with_jobs ], [ 'what meets anything else', $without ])
{
	my ($name, $list) = @$_;
	my $good = 1;
	while (my @few = splice @$list, 0, 20)
	{
		$good &= run_pairs(@few);
		progress();
	}
	ok($good, "$name ends as if one had come after the other");
}

my @levels = qw(deduct hold capture release refund allocate adjust transfer pool change_member gift redeem_last refer deduct_many charge
  key downgrade complete chargeback stripe_paid close);
foreach my $level (defined $only ? () : sort keys %level)
{
	my @pairs = grep { rand() < $share * 2 } shuffle map { my $a = $_; map { [ $a, $_ ] } @levels } @levels;
	my $good = 1;
	while (my @few = splice @pairs, 0, 30)
	{
		$good &= run_levels($level, @few);
		progress();
	}
	ok($good, "so it is in $level{$level}, or one fails to serialize");
}

# and they have to meet
cmp_ok($count{waited}, '>', $count{raced} / 2, 'most of those that come second wait') unless defined $only;

# before it looks at all of them
$maker->receive;
problems_are($node, '', 'there are no problems in any world');
note(sprintf '%d pairs of %d operations, %d cases of which %d raced, %d waited and %d were refused, %d failed to serialize: %.0f s', $count{pairs},
	scalar @names, $worlds, $count{raced}, $count{waited}, $count{refused}, $count{not_serialized} // 0, time - $begun);
diag("$count{failed} cases failed; CREDITS_SEED=$seed") if $count{failed};

$_->quit foreach $maker, $serial, $one, $two, $monitor, $reader;
done_testing();
