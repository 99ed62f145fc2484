# The examples with numbers in Stripe's documentation on prorations, billing cycles,
# trials, backdating and schedules: with plans that give a credit for each cent, the
# credits are the amounts of these pages.  Each names its page, and what the page says.
#
# The events arrive as they happen, by the clock; and once more for another account, in
# any order after all of them.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsBilling;
use CreditsBillingModel;
use CreditsStripe;
use CreditsTest;
use List::Util qw(max shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{CREDITS_SEED} // 20310401;
diag "seed $seed";
srand $seed;

%{ billing_prices() } = (
	price_10 => { plan => 'ten', credits => 1000, amount => 1000, period => 'month', every => 1, trial_credits => 70 },
	price_20 => { plan => 'twenty', credits => 2000, amount => 2000, period => 'month', every => 1 },
	price_gold => { plan => 'gold', credits => 3252, amount => 3252, period => 'month', every => 1 },
	price_week => { plan => 'week', credits => 700, amount => 700, period => 'week', every => 1 },
	price_2_months => { plan => 'two months', credits => 5900, amount => 5900, period => 'month', every => 2 },
	price_year => { plan => 'year', credits => 36500, amount => 36500, period => 'year', every => 1 },
	price_installment => { plan => 'installment', credits => 100000, amount => 100000, period => 'month', every => 1 },
	price_zero => { plan => 'zero', credits => 30, amount => 0, period => 'month', every => 1 },
);

my $node = credits_node('stripe_examples');
my $session = CreditsTest::Session->new($node);
my $secret = stripe_secret();
$session->value("SET credits.test_clock = '2020-01-01 00:00+00'; SELECT credits_stripe_add_secret('tests', '$secret')");
$session->value(billing_setup());

my $trials = 0;
my $pages = 'https://docs.stripe.com/billing/subscriptions';

sub clock { my ($time) = @_; return "SET credits.test_clock = '" . gmtime($time) . " UTC';\n"; }

sub call_of
{
	my ($event, $trial, $time) = @_;
	my $payload = billing_payload($event, $trial);
	return "SELECT (credits_stripe_webhook(\$stripe\$$payload\$stripe\$, '" . stripe_signature($payload, $time) . "')).result;\n";
}

sub balance_sql
{
	my ($trial) = @_;
	return sprintf "SELECT 'balance ' || balance || CASE WHEN debt > 0 THEN ' debt ' || debt ELSE '' END FROM credits_summary('b:%07d');\n", $trial;
}

# page and what it says; items, more for the subscription; what happens; and the
# balances that there are at instants.
sub example
{
	my ($page, $says, $params, $does, @balances) = @_;
	foreach my $shape (qw(old new))
	{
		my $billing = CreditsBilling->new(shape => $shape, start => time_at($params->{start}), items => $params->{items} // [ [ 'price_10', 1 ] ],
			map { $_ => $params->{$_} } grep { exists $params->{$_} } qw(percent_off flexible));
		$does->($billing);
		my @events = $billing->events;
		my @looks = map { [ time_at($_->[0]), $_->[1] ] } @balances;
		my $last = $looks[-1][0];
		die "$says: events after the last look" if grep { $_->{created} > $last } @events;

		# the page, and the rules
		my $model = billing_model(\@events, $last, {}, {});
		is("$model->{balance}", $looks[-1][1], "$says: the model says the same ($shape)");

		# as it happens
		my $trial = ++$trials;
		my $sql = clock($billing->{start} - 1) . sprintf "SELECT credits_open_account('b:%07d') IS NULL;\n", $trial;
		foreach my $event (sort { $a->{created} <=> $b->{created} } @events, map { +{ created => $_->[0], look => 1 } } @looks)
		{
			$sql .= clock($event->{created}) . ($event->{look} ? balance_sql($trial) : call_of($event, $trial, $event->{created}));
		}
		my $answer = $session->query($sql);
		is_deeply([ (grep { /ERROR/ } @{ $answer->{messages} }), map { /^balance (.*)/ ? $1 : () } @{ $answer->{rows} } ],
			[ map { $_->[1] } @looks ], "$says ($shape)") or diag $page;

		# in any order, when all is over
		$trial = ++$trials;
		$answer = $session->query(clock($last) . sprintf("SELECT credits_open_account('b:%07d') IS NULL;\n", $trial)
			  . join('', map { call_of($_, $trial, $last) } shuffle @events) . balance_sql($trial));
		is_deeply([ (grep { /ERROR/ } @{ $answer->{messages} }), map { /^balance (.*)/ ? $1 : () } @{ $answer->{rows} } ],
			[ $looks[-1][1] ], "$says, in any order ($shape)") or diag $page;
	}
	return;
}

# A line that Stripe makes in a way of its own.
sub line
{
	my ($b, $from, $until, $amount, %more) = @_;
	return $b->line_of($b->{items}[ $more{of} // 0 ], time_at($from), time_at($until), 1, amount => $amount, %more);
}

# --------------------------------------------------------------------------
# prorations

example("$pages/prorations",
	'from 10 to 20 USD halfway through the period: -5 USD and +10 USD',
	{ start => '2026-04-01' },
	sub {
		my ($b) = @_; $b->pay($b->create); $b->{t} = time_at('2026-04-16'); $b->change([ [ 'price_20', 1 ] ]) },
	[ '2026-04-02', '1000' ], [ '2026-04-16 00:00:10', '1500' ], [ '2026-05-01', '0' ]);

example("$pages/prorations",
	'the same, billed at once, and paid',
	{ start => '2026-04-01' },
	sub {
		my ($b) = @_; $b->pay($b->create); $b->{t} = time_at('2026-04-16');
		my $i = $b->change([ [ 'price_20', 1 ] ], behavior => 'always_invoice');
		is($i->{total}, 500, 'the customer is billed an additional 5 USD');
		$b->{t} = time_at('2026-04-17'); $b->pay($i) },
	[ '2026-04-16 12:00:00', '1000' ], [ '2026-04-17 00:01:00', '1500' ]);

# the amounts of the page: -166 and 541 of 3627
example("$pages/prorations#preview-proration",
	'from Silver (10 USD) to Gold (32.52 USD) after 01 Sep 2020: -1.66 and +5.41, then 32.52',
	{ start => '2020-08-06 21:28:08' },
	sub {
		my ($b) = @_; $b->pay($b->create); $b->{t} = 1598982148;
		$b->change([ [ 'price_gold', 1 ] ]);
		is(join(' ', map { $_->{amount} } @{ $b->{pending} }), '-166 541', 'the amounts of the page');
		my $i = $b->renew;
		is($i->{total}, 3627, 'and the total');
		$b->pay($i) },
	[ '2020-09-01 17:00:00', '1000' ], [ '2020-09-02', '1375' ], [ '2020-09-06 22:28:20', '3252' ]);

foreach my $flexible (0, 1)
{
	# classic credits the current price, flexible that which was billed last
	example("$pages/prorations#calculation-logic-with-no-prorations",
		'10 USD on April 1, 20 USD from April 11 without prorations, 10 USD from April 21: '
		  . ($flexible ? '0 USD (flexible)' : '-3.34 USD (classic)'),
		{ start => '2026-04-01', flexible => $flexible },
		sub {
			my ($b) = @_; $b->pay($b->create); $b->{t} = time_at('2026-04-11');
			$b->change([ [ 'price_20', 1 ] ], behavior => 'none'); $b->{t} = time_at('2026-04-21');
			$b->{items}[0]{price} = 'price_10' if $flexible;
			my @lines = $flexible
			  ? (line($b, '2026-04-21', '2026-05-01', -333, proration => 1, item => $b->id('ii'), credits => [ $b->{invoices}[0]{id}, $b->{invoices}[0]{lines}[0]{id} ]),
				line($b, '2026-04-21', '2026-05-01', 333, proration => 1, item => $b->id('ii'))) : ();
			$b->pay($flexible ? $b->bill('subscription_update', @lines) : $b->change([ [ 'price_10', 1 ] ], behavior => 'always_invoice')) },
		[ '2026-04-12', '1000' ], [ '2026-04-22', $flexible ? '1000' : '667' ]);

	example("$pages/prorations#calculation-logic-for-coupons-applied-to-multiple-subscription-items",
		'a 5 USD coupon on items of 10 and 20 USD, the first canceled halfway: ' . ($flexible ? '-4.17 USD (flexible)' : '-2.50 USD (classic)'),
		{ start => '2026-02-01', items => [ [ 'price_10', 1 ], [ 'price_20', 1 ] ], flexible => $flexible },
		sub {
			my ($b) = @_; my $i = $b->create;
			@{ $i->{lines}[0] }{qw(amount discount)} = (1000, 166); @{ $i->{lines}[1] }{qw(amount discount)} = (2000, 334);
			@$i{qw(total due)} = (2500, 2500);
			$b->{done} = [ grep { $_->{type} !~ /^invoice/ } $b->events ];
			$b->pay($i); $b->{t} = time_at('2026-02-15');
			my $line = line($b, '2026-02-15', '2026-03-01', $flexible ? -417 : -250, proration => 1, item => $b->id('ii'), negative => 1,
				credits => [ $i->{id}, $i->{lines}[0]{id} ]);
			$b->emit('invoiceitem.created', $b->item_object($line));
			shift @{ $b->{items} };
			$b->emit('customer.subscription.updated', $b->subscription_object) },
		# half of the item's credits, whatever the coupon was
		[ '2026-02-10', '3000' ], [ '2026-02-15 01:00:00', '2500' ]);
}

example("$pages/prorations#prorations-and-unpaid-invoices",
	'a credit for unused time that was never paid for gives nothing and takes nothing',
	{ start => '2026-04-01', items => [ [ 'price_20', 1 ] ] },
	sub {
		my ($b) = @_; $b->pay($b->create); my $i = $b->renew; $b->fail($i);
		$b->{t} = time_at('2026-05-10'); $b->change([ [ 'price_10', 1 ] ]);
		$b->{t} = time_at('2026-05-20'); $b->void_invoice($i); $b->pay($b->renew) },
	[ '2026-04-30', '2000' ], [ '2026-05-15', '0' ], [ '2026-06-01 02:00:00', '1000' ]);

# --------------------------------------------------------------------------
# billing cycles

example("$pages/billing-cycle",
	'an anchor of September 2 always bills on the 2nd',
	{ start => '2026-09-02 10:00:00' },
	sub { my ($b) = @_; $b->pay($b->create); $b->pay($b->renew) foreach 1 .. 3 },
	[ '2026-09-03', '1000' ], [ '2026-10-02 10:00:00', '0' ], [ '2026-10-03', '1000' ], [ '2026-11-03', '1000' ], [ '2026-12-03', '1000' ]);

# half of each period is left when the plan changes
example("$pages/billing-cycle",
	'an anchor of January 31 bills on February 28, March 31, April 30',
	{ start => '2026-01-31' },
	sub {
		my ($b) = @_; $b->pay($b->create); $b->pay($b->renew);
		is($b->{from}, time_at('2026-02-28'), 'the second period'); is($b->{until}, time_at('2026-03-31'), 'and its end');
		$b->{t} = time_at('2026-03-15 12:00:00'); $b->change([ [ 'price_20', 1 ] ]);
		$b->pay($b->renew); is($b->{until}, time_at('2026-04-30'), 'the third') },
	[ '2026-02-01', '1000' ], [ '2026-03-01', '1000' ], [ '2026-03-16', '1500' ], [ '2026-04-01', '2000' ]);

example("$pages/billing-cycle",
	'a leap year: an anchor of January 31 bills on February 29',
	{ start => '2028-01-31' },
	sub {
		my ($b) = @_; $b->pay($b->create); is($b->{until}, time_at('2028-02-29'), 'the end of the first period');
		$b->pay($b->renew); $b->{t} = time_at('2028-03-15 12:00:00'); $b->change([ [ 'price_20', 1 ] ]) },
	[ '2028-02-28', '1000' ], [ '2028-03-16', '1500' ]);

example("$pages/billing-cycle",
	'a weekly anchor of Friday, June 3 bills every Friday thereafter',
	{ start => '2022-06-03', items => [ [ 'price_week', 1 ] ] },
	sub {
		my ($b) = @_; $b->pay($b->create); $b->pay($b->renew); $b->{t} = time_at('2022-06-15'); $b->change([ [ 'price_week', 3 ] ]) },
	[ '2022-06-04', '700' ], [ '2022-06-11', '700' ], [ '2022-06-16', '1100' ]);

example("$pages/billing-cycle#use-billing_cycle_anchor_config",
	'two months, created in February and anchored on the 31st: prorated until February 28, then two months',
	{ start => '2026-02-10', items => [ [ 'price_2_months', 1 ] ] },
	sub {
		my ($b) = @_; $b->create(anchor => time_at('2026-08-31'), flagged => 1);
		$b->{done} = []; $b->{invoices} = []; $b->{t} = $b->{start}; @$b{qw(from until number)} = ($b->{start}, time_at('2026-02-28'), -4);
		$b->emit('customer.subscription.created', $b->subscription_object);
		# 18 of the 59 days from December 31
		$b->pay($b->bill('subscription_create', line($b, '2026-02-10', '2026-02-28', 1800, proration => 1)));
		$b->pay($b->renew); is($b->{until}, time_at('2026-04-30'), 'a full period of two months') },
	[ '2026-02-11', '1800' ], [ '2026-03-01', '5900' ], [ '2026-04-29', '5900' ]);

example("$pages/billing-cycle#configure-proration-behavior",
	'subscribed on the 15th, 7 days free, billed on the 1st: prorated from the 22nd to the 1st',
	{ start => '2026-04-15' },
	sub {
		my ($b) = @_; $b->pay($b->create(trial => 7 * 86400)); $b->{anchor} = time_at('2026-05-01');
		@$b{qw(t from until status number)} = (time_at('2026-04-22'), time_at('2026-04-22'), time_at('2026-05-01'), 'active', -1);
		$b->emit('customer.subscription.updated', $b->subscription_object);
		$b->pay($b->bill('subscription_cycle', line($b, '2026-04-22', '2026-05-01', 300)));
		$b->pay($b->renew) },
	[ '2026-04-16', '70' ], [ '2026-04-23', '300' ], [ '2026-05-02', '1000' ]);

example("$pages/billing-cycle#configure-proration-behavior",
	'subscribed on the 28th, 7 days free, billed on the 1st: prorated until the next month',
	{ start => '2026-04-28' },
	sub {
		my ($b) = @_; $b->pay($b->create(trial => 7 * 86400)); $b->{anchor} = time_at('2026-06-01');
		@$b{qw(t from until status number)} = (time_at('2026-05-05'), time_at('2026-05-05'), time_at('2026-06-01'), 'active', -1);
		$b->emit('customer.subscription.updated', $b->subscription_object);
		$b->pay($b->bill('subscription_cycle', line($b, '2026-05-05', '2026-06-01', 871)));
		$b->pay($b->renew) },
	[ '2026-05-02', '70' ], [ '2026-05-06', '871' ], [ '2026-06-02', '1000' ]);

example('https://docs.stripe.com/payments/checkout/billing-cycle',
	'created on May 15 with an anchor of June 1: billed on May 15, then on the 1st',
	{ start => '2026-05-15' },
	sub { my ($b) = @_; $b->pay($b->create(anchor => time_at('2026-06-01'))); $b->pay($b->renew) },
	# 17 of the 31 days of May
	[ '2026-05-16', '548' ], [ '2026-06-02', '1000' ]);

example("$pages/billing-cycle#change-the-billing-period-using-a-trial-period",
	'next billed on July 23; a trial from July 15 to August 1: 0 USD, nothing on July 23, a full cycle on August 1',
	{ start => '2026-06-23', items => [ [ 'price_20', 1 ] ] },
	sub {
		my ($b) = @_; $b->pay($b->create); my $anchor = time_at('2026-08-01');
		@$b{qw(t from until trial_end anchor status number)} = (time_at('2026-07-15'), time_at('2026-07-15'), $anchor, $anchor, $anchor, 'trialing', -1);
		# Stripe does not keep what the trial began with
		my $object = $b->subscription_object;
		$object->{trial_start} = time_at('2026-07-15');
		$b->emit('customer.subscription.updated', $object);
		$b->pay($b->bill('subscription_update', line($b, '2026-07-15', '2026-08-01', 0, trial => 1)));
		$b->{t} = $anchor; $b->{trial_end} = undef; $b->pay($b->renew) },
	[ '2026-07-14', '2000' ], [ '2026-07-16', '2000' ], [ '2026-07-24', '0' ], [ '2026-08-01 02:00:00', '2000' ]);

example("$pages/billing-cycle#reset-the-billing-period-to-the-current-time",
	'an anchor of now: credited for the days already paid, billed for a new period at once',
	{ start => '2026-04-01', items => [ [ 'price_20', 1 ] ] },
	sub {
		my ($b) = @_; $b->pay($b->create); $b->{t} = time_at('2026-04-16');
		my $i = $b->change([ [ 'price_20', 1 ] ], now => 1);
		is($i->{total}, 1000, 'a new period, less half of the old one'); $b->pay($i) },
	# half of the old period remains, and the new one
	[ '2026-04-15', '2000' ], [ '2026-04-17', '3000' ], [ '2026-05-02', '2000' ], [ '2026-05-16', '0' ]);

# --------------------------------------------------------------------------
# trials

example("$pages/trials",
	'an immediate invoice for $0, and one when the trial ends',
	{ start => '2026-04-15' },
	sub { my ($b) = @_; my $i = $b->create(trial => 14 * 86400); is($i->{total}, 0, 'for $0'); $b->pay($i); $b->pay($b->renew) },
	[ '2026-04-16', '70' ], [ '2026-04-29 00:30:00', '0' ], [ '2026-04-29 02:00:00', '1000' ], [ '2026-05-28 12:00:00', '1000' ]);

example("$pages/trials#combine-trial-anchor",
	'on the 15th: free until the 22nd, a prorated invoice until the 1st, then the full amount on the 1st and the 1st',
	{ start => '2026-06-15' },
	sub {
		my ($b) = @_; $b->pay($b->create(trial => 7 * 86400)); $b->{anchor} = time_at('2026-07-01');
		@$b{qw(t from until status number)} = (time_at('2026-06-22'), time_at('2026-06-22'), time_at('2026-07-01'), 'active', -1);
		$b->pay($b->bill('subscription_cycle', line($b, '2026-06-22', '2026-07-01', 300, proration => 1)));
		$b->pay($b->renew); $b->pay($b->renew) },
	[ '2026-06-16', '70' ], [ '2026-06-23', '300' ], [ '2026-07-02', '1000' ], [ '2026-08-02', '1000' ]);

# --------------------------------------------------------------------------
# backdating

foreach my $case ([ '2026-02-15', '2026-03-01', 500, 'February 15 to March 1 is exactly half of a month' ],
	[ '2026-01-15', '2026-02-01', 548, 'January 15 to February 1 is 17 divided by 31' ])
{
	my ($from, $until, $amount, $says) = @$case;
	example("$pages/backdating", $says,
		{ start => $from },
		sub {
			my ($b) = @_; $b->create(anchor => time_at($until));
			$b->{done} = []; $b->{invoices} = []; $b->{t} = time_at($until) - 5 * 86400;
			$b->emit('customer.subscription.created', $b->subscription_object);
			$b->pay($b->bill('subscription_create', line($b, $from, $until, $amount, proration => 1))) },
		[ do { my ($y, $m, $d) = (gmtime(time_at($until) - 86400))[ 5, 4, 3 ]; sprintf '%d-%02d-%02d', $y + 1900, $m + 1, $d }, "$amount" ]);
}

example("$pages/backdating#billing-mode-considerations",
	'on October 15, backdated to September 1, billed on November 1 (flexible): a line for each natural period',
	{ start => '2026-09-01', flexible => 1 },
	sub {
		my ($b) = @_; $b->create(anchor => time_at('2026-11-01'));
		$b->{done} = []; $b->{invoices} = []; $b->{t} = time_at('2026-10-15');
		@$b{qw(from until)} = (time_at('2026-10-01'), time_at('2026-11-01'));
		$b->emit('customer.subscription.created', $b->subscription_object);
		$b->pay($b->bill('subscription_create', line($b, '2026-09-01', '2026-10-01', 1000), line($b, '2026-10-01', '2026-11-01', 1000)));
		$b->pay($b->renew) },
	# what was paid after its period lives for as long as that was, from then on
	[ '2026-10-16', '2000' ], [ '2026-11-02', '2000' ], [ '2026-11-15', '1000' ]);

example("$pages/backdating#backdating-billing-cycle",
	'the same in one line of 61 days (classic): no period of the plan, so somebody has to look',
	{ start => '2026-09-01' },
	sub {
		my ($b) = @_; $b->create(anchor => time_at('2026-11-01'));
		$b->{done} = []; $b->{invoices} = []; $b->{t} = time_at('2026-10-15');
		$b->emit('customer.subscription.created', $b->subscription_object);
		$b->pay($b->bill('subscription_create', line($b, '2026-09-01', '2026-11-01', 1984, proration => 1))) },
	[ '2026-10-16', '0' ]);
is($session->value(sprintf "SELECT amount || ' ' || reason FROM credits.stripe_attention WHERE invoice LIKE 'in_%07d%%'", $trials),
	'1984 a period that does not fit the plan of price price_10', 'it is in the list of what needs attention');

# --------------------------------------------------------------------------
# schedules

example("$pages/subscription-schedules",
	'50% off for the first three months: full credits, with and without the coupon',
	{ start => '2026-01-01', percent_off => 50 },
	sub {
		my ($b) = @_; my $i = $b->pay($b->create); is($i->{total}, 500, 'half of the price');
		$b->pay($b->renew) foreach 1, 2; $b->{percent_off} = 0; $i = $b->renew; is($i->{total}, 1000, 'all of it'); $b->pay($i) },
	[ '2026-01-02', '1000' ], [ '2026-02-02', '1000' ], [ '2026-03-02', '1000' ], [ '2026-04-02', '1000' ]);

example("$pages/subscription-schedules",
	'from 1 to 3 when the phase begins, within a period, with create_prorations',
	{ start => '2026-04-01' },
	sub { my ($b) = @_; $b->pay($b->create); $b->{t} = time_at('2026-04-16'); $b->change([ [ 'price_10', 3 ] ]) },
	[ '2026-04-10', '1000' ], [ '2026-04-17', '2000' ]);

example("$pages/subscription-schedules/use-cases#increasing-quantity",
	'one for a month, then two for 11 more',
	{ start => '2026-01-01' },
	sub { my ($b) = @_; $b->pay($b->create); $b->{items}[0]{quantity} = 2; $b->pay($b->renew) foreach 1 .. 11 },
	[ '2026-01-02', '1000' ], [ '2026-02-02', '2000' ], [ '2026-07-02', '2000' ], [ '2026-12-02', '2000' ]);

example("$pages/subscription-schedules/use-cases#coupon",
	'50% off for six months of twelve',
	{ start => '2026-01-01', percent_off => 50 },
	sub { my ($b) = @_; $b->pay($b->create); foreach (1 .. 11) { $b->{percent_off} = $_ < 6 ? 50 : 0; $b->pay($b->renew) } },
	[ '2026-01-02', '1000' ], [ '2026-06-02', '1000' ], [ '2026-07-02', '1000' ], [ '2026-12-02', '1000' ]);

example("$pages/subscription-schedules/use-cases#upgrade",
	'print for a month, then print and digital',
	{ start => '2026-01-01' },
	sub {
		my ($b) = @_; $b->pay($b->create); push @{ $b->{items} }, { id => $b->id('si'), price => 'price_20', quantity => 1 }; $b->pay($b->renew) },
	[ '2026-01-02', '1000' ], [ '2026-02-02', '3000' ]);

example("$pages/subscription-schedules/use-cases#installments",
	'1,000 USD each month for 6 months, then canceled',
	{ start => '2026-01-01', items => [ [ 'price_installment', 1 ] ] },
	sub { my ($b) = @_; $b->pay($b->create); $b->pay($b->renew) foreach 1 .. 5; $b->{t} = time_at('2026-07-01'); $b->cancel },
	[ '2026-01-02', '100000' ], [ '2026-06-02', '100000' ], [ '2026-06-30', '100000' ], [ '2026-07-02', '0' ]);

example("$pages/subscription-schedules/use-cases#reset-billing-cycle-anchor",
	'print billed on the 12th, digital from the 1st, with the anchor reset to it: billed on the 1st',
	{ start => '2026-04-12' },
	sub {
		my ($b) = @_; $b->pay($b->create); $b->{t} = time_at('2026-05-01'); $b->pay($b->change([ [ 'price_20', 1 ] ], now => 1));
		$b->pay($b->renew) },
	# 11 of 30 days of print are credited
	[ '2026-04-30', '1000' ], [ '2026-05-02', '2633' ], [ '2026-05-13', '2000' ], [ '2026-06-02', '2000' ]);

# --------------------------------------------------------------------------
# changes of price

example("$pages/change-price",
	'another interval: credited for what is left of the month, billed for a year at once',
	{ start => '2026-04-01' },
	sub { my ($b) = @_; $b->pay($b->create); $b->{t} = time_at('2026-04-16'); $b->pay($b->change([ [ 'price_year', 1 ] ])) },
	[ '2026-04-15', '1000' ], [ '2026-04-17', '37000' ], [ '2026-05-02', '36500' ], [ '2027-04-15', '36500' ]);

example("$pages/change-price#handle-zero-amount-prices-and-quantities",
	'from a price of zero to a paid one: a new period begins at once',
	{ start => '2026-04-01', items => [ [ 'price_zero', 1 ] ] },
	sub { my ($b) = @_; $b->pay($b->create); $b->{t} = time_at('2026-04-16'); $b->pay($b->change([ [ 'price_20', 1 ] ], now => 1)) },
	# a credit of 0 USD for what was free takes nothing
	[ '2026-04-15', '30' ], [ '2026-04-17', '2030' ], [ '2026-05-02', '2000' ], [ '2026-05-16', '0' ]);

problems_are($node, '', 'nothing is wrong');

$session->quit;
$node->stop;
done_testing();
