# What holds the books open, by name.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsStripe;
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('obstacles', conf => <<'CONF');
credits.partition_rows = 100
credits.partitions_ahead = 40
credits.key_retention = '1 day'
credits.refund_window = '1 day'
CONF
my $super = CreditsTest::Session->new($node, verbosity => 'default');

sub value { return $super->value(@_) }

# The first row that something needs.
sub needed_by
{
	my ($name) = @_;
	return value("SELECT coalesce(max(transaction_id)::text, 'nothing') FROM credits_archive_obstacles('2030-01-01') WHERE obstacle = '$name'");
}

sub at { return value("SET credits.test_clock = '$_[0]'") }

# Rows of the log at a time, each of them a spend.
sub spend
{
	my ($n, $at) = @_;
	at($at) if defined $at;
	value("SELECT count(credits_deduct('user:' || i % 10, 1)) FROM generate_series(1, $n) AS i");
	value('CALL credits_partition_log()');
	return;
}

at('2025-01-01 00:00+00');
value('CALL credits_partition_log()');
value("SELECT count(credits_open_account('user:' || i, 1000000)) FROM generate_series(0, 9) AS i");
value(qq(SELECT credits_set_package('pack', 100, 10, 'USD'), credits_set_plan('yearly', 1, period => 'year', price => 10, currency => 'USD'),
	credits_stripe_add_secret('tests', '@{[ stripe_secret() ]}')));
spend(300);

# --------------------------------------------------------------------------
# an open chargeback

my $purchase = value("SELECT purchase_id FROM credits_start_purchase('user:1', 'pack')");
value("SELECT count(*) FROM credits_complete_purchase($purchase, 'pay_1', 10)");
my $bought = value("SELECT transaction_id FROM credits.purchases WHERE id = $purchase");
spend(300, '2025-02-01 00:00+00');
is(needed_by('chargeback'), 'nothing', 'no chargeback');
value("SELECT count(*) FROM credits_open_chargeback($purchase, 'dp_1')");
is(needed_by('chargeback'), $bought, 'an open chargeback needs its purchase');
spend(300, '2026-01-01 00:00+00');
at('2027-01-01 00:00+00');
my ($until) = split /\|/, value(q(CALL credits_archive('2025-06-01')));
cmp_ok($until, '<', $bought, "archived until $until, below the purchase");
is(value(q(CALL credits_archive('2025-06-01'))), '|', 'and no further');
value("SELECT count(*) FROM credits_close_chargeback($purchase, 'dp_1', 'won')");
is(needed_by('chargeback'), 'nothing', 'when it is closed, it does not');
cmp_ok((split /\|/, value(q(CALL credits_archive('2025-06-01'))))[0], '>', $bought, 'archived');
problems_are($node, '', 'clean');

# --------------------------------------------------------------------------
# the current period of a subscription, not one that was paid ahead

at('2027-01-01 00:00+00');
my $subscription = value("SELECT subscription_id FROM credits_subscribe('user:2', 'yearly', external_id => 'sub_1', collection => 'payment')");
value(qq(SELECT credits_set_invoice($subscription, 'in_1', '[{"starts_at": "2027-01-01 00:00+00", "ends_at": "2028-01-01 00:00+00", "credits": 1, "plan": "yearly"}]')));
my $current = value("SELECT transaction_id FROM credits.periods WHERE subscription_id = $subscription");
spend(300, '2027-02-01 00:00+00');
is(needed_by('subscription'), $current, 'a subscription needs its current period');
value(qq(SELECT credits_set_invoice($subscription, 'in_2', '[{"starts_at": "2028-01-01 00:00+00", "ends_at": "2029-01-01 00:00+00", "credits": 1, "plan": "yearly"}]')));
is(value("SELECT count(*) FROM credits.periods WHERE subscription_id = $subscription"), '2', 'another one is paid ahead');
is(needed_by('subscription'), $current, 'it still is the first one');
spend(300, '2027-12-31 00:00+00');
is(needed_by('subscription'), $current, 'until its last day');
at('2028-01-01 00:00+00');
is(needed_by('subscription'), value("SELECT max(transaction_id) FROM credits.periods WHERE subscription_id = $subscription"), 'then the next one is');
value("SELECT credits_cancel_subscription($subscription, 'now')");
is(needed_by('subscription'), 'nothing', 'and none after its end');
problems_are($node, '', 'clean');

# --------------------------------------------------------------------------
# events of Stripe that are waiting

my $at = 1_833_000_000;    # 2028-02-01 06:40 UTC
spend(300, '2028-02-01 00:00+00');
at('2028-02-01 06:40+00');
is(needed_by('stripe_event'), 'nothing', 'no event is waiting');
my $since = value('SELECT last_value + 1 FROM credits.transactions_id_seq');
my $period = [ $at, $at + 86400 * 31 ];
is(value('SELECT result FROM ' . stripe_call(
			stripe_event('customer.subscription.updated', stripe_subscription('new',
					id => 'sub_9', customer => 'cus_9', price => 'price_9', status => 'active', created => $at, start_date => $at,
					billing_cycle_anchor => $at, period => $period, metadata => { account => 'user:3' }), created => $at), $at)),
	'waiting', 'an event waits for the plan of a price');
spend(300);
my $needed = needed_by('stripe_event');
is($needed, $since, 'it needs all rows since then');
spend(300, '2029-01-01 00:00+00');
is(needed_by('stripe_event'), $since, 'a year later, too');
at('2029-12-01 00:00+00');
my ($waits) = split /\|/, value(q(CALL credits_archive('2029-06-01')));
cmp_ok($waits, '<', $since, "archived until $waits, before the event");
cmp_ok($since - $waits, '<=', 100, 'as far as partitions allow');
value("SELECT credits_stripe_set_price('price_9', 'yearly')");
like(value(q(SELECT string_agg(result, ' ') FROM credits_stripe_reprocess())), qr/applied/, 'applied');
is(needed_by('stripe_event'), 'nothing', 'nothing waits any more');
problems_are($node, '', 'clean');

# --------------------------------------------------------------------------
# events that a consumer has not read

value(q(SELECT credits_add_consumer('billing'), credits_add_consumer('mail')));
is(needed_by('consumer'), 'nothing', 'there are no events that refer to rows');
value(q(SELECT credits_open_account('poor', 11)));
my $alerted = value(q(SELECT transaction_id FROM credits_deduct('poor', 5)));
spend(300, '2029-12-02 00:00+00');
is(needed_by('consumer'), $alerted, 'an alert refers to its spend');
is(value(q(SELECT count(*) FROM credits_archive_obstacles() WHERE obstacle = 'consumer' AND detail LIKE '% mail %')), '1', 'by name');
value(q(SELECT credits_ack_events('billing', max(token)) FROM credits_read_events('billing')));
is(value(q(SELECT string_agg(detail, ' ') FROM credits_archive_obstacles() WHERE obstacle = 'consumer')), 'of events that mail has not read',
	'one of them has read it');
value(q(SELECT credits_remove_consumer('mail')));
is(needed_by('consumer'), 'nothing', 'when all have read it, it needs nothing');

# --------------------------------------------------------------------------
# rows that are older than those before them

spend(300, '2029-12-03 00:00+00');
value("SELECT count(credits_allocate('user:' || i % 10, 1, source => 'promotional', expires_at => '2030-01-01 00:00+00'))
	FROM generate_series(1, 1000) AS i");
my $young = value('SELECT last_value + 1 FROM credits.transactions_id_seq');
spend(150, '2031-01-01 00:00+00');
is(value(q(SELECT count(*) FROM credits.transactions WHERE kind = 'expiration' AND created_at = '2030-01-01 00:00+00')), '1000',
	'what expired is in rows of that time');
$young = value(q(SELECT min(id) FROM credits.transactions WHERE created_at >= '2030-06-01'));
is(needed_by('before'), value(q(SELECT min(id) FROM credits.transactions WHERE created_at >= '2030-01-01')), 'the first that is not older');
at('2031-06-01 00:00+00');
my ($old) = split /\|/, value(q(CALL credits_archive('2030-06-01')));
is(value("SELECT count(*) FROM credits.all_transactions WHERE id <= $old AND created_at >= '2030-06-01'"), '0', "archived until $old: nothing younger");
cmp_ok($young - $old, '<=', 101, 'and no less than can be');
problems_are($node, '', 'clean');

# a lot of them, at the end: no place that is looked at tells how young the rows before are
spend(200, '2032-01-01 00:00+00');
value("SELECT count(credits_open_account('late:' || i)) FROM generate_series(1, 1500) AS i");
value("SELECT count(credits_allocate('late:' || i, 1, source => 'promotional', expires_at => '2032-01-02 00:00+00'))
	FROM generate_series(1, 1500) AS i");
$young = value('SELECT last_value + 1 FROM credits.transactions_id_seq');
spend(10, '2033-01-01 00:00+00');
value('CALL credits_settle()');
value('CALL credits_partition_log()');
at('2033-01-02 00:00+00');
value(q(SET credits.key_retention = '0.5 days'; SET credits.refund_window = '0.5 days'));
my ($end) = split /\|/, value(q(CALL credits_archive('2032-06-01')));
is(value("SELECT count(*) FROM credits.all_transactions WHERE id <= $end AND created_at >= '2032-06-01'"), '0', "archived until $end: nothing younger");
cmp_ok($end, '<', $young, 'what was made last year stays');
problems_are($node, '', 'clean');

done_testing();
