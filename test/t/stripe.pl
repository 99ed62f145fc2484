# What Stripe sends, in every order and more than once: the same balances in the
# end.  A purchase, a refund, a dispute in all orders, a year of a subscription in
# random ones, each in the shapes of old and new versions of Stripe's API.  And
# secrets: nothing that can be read has one.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsStripe;
use CreditsTest;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

diag('without the real shapes of Stripe: CREDITS_DATA leads to none') unless stripe_fixtures();

my $node = credits_node('stripe', conf => <<'CONF');
log_statement = all
log_error_verbosity = verbose
CONF
my $session = CreditsTest::Session->new($node);
my $now = 1_800_000_000;    # 2027-01-15 08:00 UTC
my $secret = stripe_secret();

$session->value("SET credits.test_clock = '2027-01-15 08:00+00'");
# as a parameter, which is not logged with the statement but beside it: not here
$session->value("SET log_statement = none; SELECT credits_stripe_add_secret('tests', '$secret'); RESET log_statement");
$session->value('SET log_statement = none');
$session->value(q(SELECT credits_set_package('big', 1000, 10.00, 'USD')));

# Sends events in an order, all in one go; dies if one is refused.
sub deliver
{
	my ($time, @events) = @_;
	my $answer = $session->query(
		join "\n", map { "SELECT result FROM " . stripe_call($_, $time) . ';' } @events);
	die "$answer->{code} @{$answer->{messages}}" if grep { /ERROR/ } @{ $answer->{messages} };
}

sub balance_of
{
	my ($account) = @_;
	return $session->value(
		"SELECT balance || ' ' || debt FROM credits_summary('$account')");
}

# ---------------------------------------------------------------------------
# purchases

my $tries = 0;

# Starts a purchase of 1000 credits for 10 dollars and returns its number and
# reference.
sub start
{
	my $n = ++$tries;
	my $reference = $session->value(
		"SELECT credits_open_account('buyer:$n') IS NULL; SELECT reference FROM credits_start_purchase('buyer:$n', 'big')");
	return ($n, (split /\n/, $reference)[-1]);
}

# The events of a purchase by its parts; times are seconds after it began.
sub events_of
{
	my ($n, $reference, @parts) = @_;
	my @events;
	foreach my $part (@parts)
	{
		my ($type, $at, %members) = @$part;
		my %of = (payment_intent => "pi_$n", charge => "ch_$n");
		my $object;
		if ($type =~ /^checkout/)
		{
			$object = stripe_session(id => "cs_$n", client_reference_id => $reference,
				amount_total => 1000, payment_intent => "pi_$n", %members);
		}
		elsif ($type =~ /^payment_intent/)
		{
			$object = stripe_intent(id => "pi_$n", %members);
		}
		elsif ($type eq 'charge.refunded')
		{
			$object = stripe_charge(id => "ch_$n", amount => 1000, payment_intent => "pi_$n", %members);
		}
		elsif ($type =~ /refund/)
		{
			$members{id} .= "_$n";
			$object = stripe_refund(%of, %members);
		}
		else
		{
			$members{id} .= "_$n";
			$object = stripe_dispute(%of, amount => 1000, %members);
		}
		push @events, stripe_event($type, $object, created => $now - 1000 + $at);
	}
	return @events;
}

# All orders of some events end the same way; each is sent again after some other,
# and at last all of them once more.  first: events that come before the others,
# spend: what is spent after those.
sub all_orders
{
	my ($name, $expected, $parts, %more) = @_;
	my @orders = permutations(0 .. $#$parts);
	my %ends;

	foreach my $order (@orders)
	{
		my ($n, $reference) = start();
		my @events = events_of($n, $reference, @$parts);
		deliver($now, events_of($n, $reference, @{ $more{first} })) if $more{first};
		$session->value("SELECT credits_deduct('buyer:$n', $more{spend})") if $more{spend};
		my @sent = map { $events[$_] } @$order;
		# the one before, again
		@sent = map { $_ ? ($sent[$_], $sent[ $_ - 1 ]) : $sent[0] } 0 .. $#sent;
		deliver($now, @sent, @events);
		$ends{ balance_of("buyer:$n") . ' '
			  . $session->value("SELECT status FROM credits.purchases WHERE reference = '$reference'") }++;
	}
	is_deeply(\%ends, { $expected => scalar @orders }, "$name: " . @orders . ' orders');
}

my @completed = ('checkout.session.completed', 0, payment_status => 'paid');
my @unpaid = ('checkout.session.completed', 0, payment_status => 'unpaid');
my @later = ('checkout.session.async_payment_succeeded', 60, payment_status => 'paid');
my @failed = ('checkout.session.async_payment_failed', 60, payment_status => 'unpaid');

all_orders('a purchase', '1000 0 completed',
	[ [@completed], [ 'payment_intent.payment_failed', -10 ] ]);
all_orders('one paid later', '1000 0 completed',
	[ [@unpaid], [@later], [ 'payment_intent.payment_failed', -10 ] ]);
all_orders('one never paid', '0 0 failed', [ [@unpaid], [@failed] ]);
all_orders('one given up', '0 0 expired',
	[ [ 'checkout.session.expired', 90, payment_intent => undef ] ]);
all_orders('one underpaid', '0 0 pending', [ [ @completed, amount_total => 999 ] ]);

my @refunds = (
	[ 'refund.created', 100, id => 're_a', amount => 300, status => 'pending' ],
	[ 'charge.refunded', 100, amount_refunded => 300 ],
	[ 'refund.updated', 200, id => 're_a', amount => 300, status => 'succeeded' ],
	[ 'charge.refunded', 300, amount_refunded => 550 ],
	[ 'refund.created', 300, id => 're_b', amount => 250, status => 'succeeded' ]);
all_orders('a refund in parts', '450 0 completed', [ [@completed], @refunds ]);
all_orders('a refund of what is spent', '0 350 completed',
	\@refunds, first => [ [@completed] ], spend => 800);
all_orders('only the charge says so', '450 0 completed', [ [@completed], @refunds[ 1, 3 ] ]);
all_orders('only the refunds say so', '450 0 completed', [ [@completed], @refunds[ 0, 2, 4 ] ]);
all_orders('a refund that fails', '1000 0 completed', [
	[@completed],
	[ 'refund.created', 100, id => 're_a', amount => 400, status => 'pending' ],
	[ 'charge.refunded', 100, amount_refunded => 400 ],
	[ 'refund.updated', 200, id => 're_a', amount => 400, status => 'failed' ],
	[ 'refund.failed', 200, id => 're_a', amount => 400, status => 'failed' ]]);
all_orders('all of it, by an old version', '0 0 completed', [
	[@completed],
	[ 'charge.refunded', 100, amount_refunded => 1000 ],
	[ 'charge.refund.updated', 200, id => 're_a', amount => 1000, status => 'succeeded' ]]);

my @dispute = (
	[ 'charge.dispute.created', 100, id => 'dp_a', status => 'needs_response' ],
	[ 'charge.dispute.funds_withdrawn', 100, id => 'dp_a', status => 'needs_response' ],
	[ 'charge.dispute.updated', 200, id => 'dp_a', status => 'under_review' ]);
my @lost = [ 'charge.dispute.closed', 300, id => 'dp_a', status => 'lost' ];
my @won = (
	[ 'charge.dispute.closed', 300, id => 'dp_a', status => 'won' ],
	[ 'charge.dispute.funds_reinstated', 300, id => 'dp_a', status => 'won' ]);
all_orders('a dispute', '0 0 completed', [ [@completed], @dispute ]);
all_orders('a dispute lost', '0 0 completed', [ [@completed], @dispute, @lost ]);
all_orders('a dispute lost of what is spent', '0 600 completed',
	[ @dispute, @lost ], first => [ [@completed] ], spend => 600);
all_orders('a dispute won', '1000 0 completed', [ [@completed], @dispute, @won ]);
all_orders('a dispute won of what is spent', '400 0 completed',
	[ @dispute, @won ], first => [ [@completed] ], spend => 600);
all_orders('an inquiry', '1000 0 completed', [
	[@completed],
	[ 'charge.dispute.created', 100, id => 'dp_a', status => 'warning_needs_response' ],
	[ 'charge.dispute.updated', 200, id => 'dp_a', status => 'warning_under_review' ],
	[ 'charge.dispute.closed', 300, id => 'dp_a', status => 'warning_closed' ]]);
all_orders('a refund and a dispute of the rest', '0 0 completed', [
	[@completed],
	[ 'charge.refunded', 100, amount_refunded => 400 ],
	[ 'charge.dispute.created', 200, id => 'dp_a', status => 'needs_response', amount => 600 ],
	[ 'charge.dispute.closed', 300, id => 'dp_a', status => 'lost', amount => 600 ]]);

problems_are($node, '', 'nothing is wrong after purchases');

# ---------------------------------------------------------------------------
# a year of a subscription

# What is left of a month's credits is kept for ever, so that every month counts.
$session->value(q(
	SELECT credits_set_plan('pro', 100, price => 10, currency => 'USD', rollover => 'maximum', clear => '{rollover_periods}');
	SELECT credits_set_plan('max', 300, price => 30, currency => 'USD', rollover => 'maximum', clear => '{rollover_periods}');
	SELECT credits_set_plan('trial', 100, price => 10, currency => 'USD', trial => '7 days', trial_credits => 20);
	SELECT credits_stripe_set_price('price_pro', 'pro');
	SELECT credits_stripe_set_price('prod_of_price_max', 'max');
	SELECT credits_stripe_set_price('price_trial', 'trial');
));

# the 15th of each month of 2026, and of the first one of 2027
my @months = map { 0 + $session->value("SELECT extract(epoch FROM timestamptz '2026-01-15 08:00+00' + interval '$_ months')::bigint") } 0 .. 13;

# The events of a year: monthly from the start, upgraded in the eighth month, with a
# payment that comes late in the sixth.  Returns them as they happened.
sub year
{
	my ($n, $shape) = @_;
	my ($sub, $price) = ("sub_$n", 'price_pro');
	my @events;

	my $subscription = sub {
		my ($type, $month, $at, %members) = @_;
		push @events, stripe_event("customer.subscription.$type", stripe_subscription($shape,
				id => $sub, customer => "cus_$n", price => $price, status => 'active',
				created => $months[0], start_date => $months[0], billing_cycle_anchor => $months[0],
				period => [ @months[ $month, $month + 1 ] ], %members),
			created => $at, shape => $shape);
	};
	my $invoice = sub {
		my ($type, $month, $at, %members) = @_;
		my $amount = $price eq 'price_max' ? 3000 : 1000;
		my %of = (id => "in_${n}_$month", customer => "cus_$n", subscription => $sub, payment => "pi_${n}_$month",
			billing_reason => 'subscription_cycle', status => $type, amount_paid => $type eq 'paid' ? $amount : 0,
			lines => [ [ $price, @months[ $month, $month + 1 ], $amount, 0 ] ], %members);
		push @events, stripe_event("invoice.$type", stripe_invoice($shape, %of), created => $at, shape => $shape);
		push @events, stripe_event('invoice_payment.paid', stripe_invoice_payment("inpay_$of{id}", @of{qw(id payment)}),
			created => $at, shape => $shape)
		  if $type eq 'paid' && $shape eq 'new';
	};

	$subscription->('created', 0, $months[0], status => 'incomplete');
	$invoice->('paid', 0, $months[0] + 1, billing_reason => 'subscription_create');
	$subscription->('updated', 0, $months[0] + 2);
	push @events, stripe_event('checkout.session.completed', stripe_session(id => "cs_$n", mode => 'subscription',
			subscription => $sub, customer => "cus_$n", invoice => "in_${n}_0", payment_status => 'paid',
			amount_total => 1000, client_reference_id => "subscriber:$n"),
		created => $months[0] + 3, shape => $shape);
	foreach my $month (1 .. 12)
	{
		$subscription->('updated', $month, $months[$month]);
		if ($month == 5)
		{
			$invoice->('payment_failed', $month, $months[$month] + 3600);
			$subscription->('updated', $month, $months[$month] + 3601, status => 'past_due');
			$invoice->('paid', $month, $months[$month] + 2 * 86400);
			$subscription->('updated', $month, $months[$month] + 2 * 86400 + 1);
		}
		else
		{
			$invoice->('paid', $month, $months[$month] + 3600);
		}
		if ($month == 7)
		{
			# from the 15th of August to the 15th of September, after 10 of 31 days
			$price = 'price_max';
			my $at = $months[$month] + 10 * 86400;
			$subscription->('updated', $month, $at);
			$invoice->('paid', $month, $at + 1, id => "in_${n}_change", payment => "pi_${n}_change",
				billing_reason => 'subscription_update', amount_paid => 1355,
				lines => [
					[ 'price_pro', $at, $months[ $month + 1 ], -677, 1 ],
					[ 'price_max', $at, $months[ $month + 1 ], 2032, 1 ] ]);
		}
	}
	return @events;
}

# Invoices without a subscription, of a purchase that they name: made by the application,
# and by Checkout beside a session.
foreach my $by (qw(application checkout))
{
	my @orders = permutations(0 .. ($by eq 'application' ? 4 : 3));
	my %ends;
	foreach my $order (@orders)
	{
		my ($n, $reference) = start();
		my ($id) = $reference =~ /(\d+)$/;
		my $invoice = sub {
			my ($type, $status, $at) = @_;
			return stripe_event($type, { id => "in_other_$n", object => 'invoice', status => $status, currency => 'usd', total => 1000,
				amount_paid => $status eq 'paid' ? 1000 : 0, metadata => { purchase_id => $id }, lines => { data => [], has_more => \0 } }, created => $now + $at);
		};
		my @events = (
			$invoice->('invoice.paid', 'paid', 2),
			stripe_event('invoice_payment.paid', stripe_invoice_payment("inpay_other_$n", "in_other_$n", "pi_other_$n"), created => $now + 2),
			stripe_event('charge.refunded', stripe_charge(id => "ch_other_$n", payment_intent => "pi_other_$n", invoice => undef,
					amount => 1000, amount_refunded => 250), created => $now + 60),
			$by eq 'application'
			? ($invoice->('invoice.finalized', 'open', 1),
				stripe_event('charge.dispute.created', stripe_dispute(id => "dp_other_$n", payment_intent => "pi_other_$n", charge => "ch_other_$n",
						amount => 100, status => 'needs_response'), created => $now + 70))
			: stripe_event('checkout.session.completed', stripe_session(id => "cs_other_$n", payment_intent => "pi_other_$n", payment_status => 'paid',
					client_reference_id => $reference, metadata => { purchase_id => $id }, amount_total => 1000, invoice => undef), created => $now + 2));
		deliver($now, map { $events[$_] } @$order, int rand @events);
		$ends{ balance_of("buyer:$n") . ' '
			  . $session->value("SELECT count(*) FROM credits.stripe_attention WHERE subject IN ('in_other_$n', 'pi_other_$n')") }++;
	}
	my $expected = $by eq 'application' ? '650 0 0' : '750 0 0';
	is_deeply(\%ends, { $expected => scalar @orders }, "an invoice by $by, of a purchase: " . @orders . ' orders');
}

# Eight months of 100, of which one is upgraded by (300 - 100) * 21 / 31.  Then five
# of 300.
foreach my $case ([ 'in the eighth month', $months[7] + 12 * 86400, 8 * 100 + 135 ],
	[ 'a year', $months[12] + 86400, 8 * 100 + 135 + 5 * 300 ])
{
	my ($name, $until, $expected) = @$case;
	$session->value("SELECT set_config('credits.test_clock', to_timestamp($until)::text, false)");
	foreach my $shape (qw(old new))
	{
		my $end = "$expected 0 active max";
		my $orders = 15;
		my %ends;
		foreach my $order (1 .. $orders)
		{
			my $n = "${until}_${shape}_$order";
			my @events = grep { $_->{created} <= $until } year($n, $shape);
			# as it happened, backwards, with the upgrade before all others, then
			# at random, with some sent again
			my $upgraded = $months[7] + 10 * 86400;
			my @sent =
				$order == 1 ? @events
			  : $order == 2 ? reverse @events
			  : $order == 3 ? ((grep { $_->{created} == $upgraded } @events), (grep { $_->{created} != $upgraded } @events))
			  :               shuffle(@events, @events[ map { rand @events } 1 .. 10 ]);
			$session->value("SELECT credits_open_account('subscriber:$n')");
			deliver($until, @sent, @events[ map { rand @events } 1 .. 5 ]);
			my $got = balance_of("subscriber:$n") . ' '
			  . $session->value("SELECT status || ' ' || plan FROM credits.subscription_list WHERE external_id = 'sub_$n'");
			$ends{$got}++;
			diag("$name, $shape, order $order: $got: "
				  . join ' ', map { "$_->{type}/" . ($_->{created} - $months[0]) } @sent)
			  if $got ne $end;
		}
		is_deeply(\%ends, { $end => $orders }, "$name, shape $shape: $orders orders");
	}
}

# an upgrade after 10 of the first month's 31 days, in all orders: though it may
# look as if the subscription had been sold so
$session->value(sprintf "SELECT set_config('credits.test_clock', to_timestamp(%d)::text, false)", $months[0] + 12 * 86400);
foreach my $shape (qw(old new))
{
	my @orders = permutations(0 .. 3);
	my $at = $months[0] + 10 * 86400;
	my %ends;
	my $count = 0;
	foreach my $order (@orders)
	{
		my $n = "first_${shape}_" . ++$count;
		my %subscription = (id => "sub_$n", customer => "cus_$n", status => 'active', created => $months[0],
			start_date => $months[0], billing_cycle_anchor => $months[0], period => [ @months[ 0, 1 ] ],
			metadata => { account => "subscriber:$n" });
		my %invoice = (customer => "cus_$n", subscription => "sub_$n");
		my @events = (
			stripe_event('customer.subscription.created', stripe_subscription($shape, %subscription, price => 'price_pro'),
				created => $months[0], shape => $shape),
			stripe_event('invoice.paid', stripe_invoice($shape, %invoice, id => "in_$n", payment => "pi_$n", amount_paid => 1000,
					lines => [ [ 'price_pro', @months[ 0, 1 ], 1000, 0 ] ]), created => $months[0], shape => $shape),
			stripe_event('customer.subscription.updated', stripe_subscription($shape, %subscription, price => 'price_max'),
				created => $at, shape => $shape),
			stripe_event('invoice.paid', stripe_invoice($shape, %invoice, id => "in_${n}_change", payment => "pi_${n}_change",
					amount_paid => 1355, lines => [
						[ 'price_pro', $at, $months[1], -677, 1 ],
						[ 'price_max', $at, $months[1], 2032, 1 ] ]), created => $at + 1, shape => $shape));
		$session->value("SELECT credits_open_account('subscriber:$n')");
		deliver($months[0] + 12 * 86400, map { $events[$_] } @$order);
		$ends{ balance_of("subscriber:$n") }++;
	}
	is_deeply(\%ends, { '235 0' => scalar @orders }, "an upgrade in the first month, shape $shape: " . @orders . ' orders');
}

# half of a month's payment is refunded, in all orders: half of its credits go
my $until = $months[0] + 86400;
$session->value("SELECT set_config('credits.test_clock', to_timestamp($until)::text, false)");
foreach my $shape (qw(old new))
{
	my @orders = permutations(0 .. ($shape eq 'old' ? 3 : 4));
	my %ends;
	my $count = 0;
	foreach my $order (@orders)
	{
		my $n = "refund_${shape}_" . ++$count;
		my %of = (created => $months[0], shape => $shape);
		my @events = (
			stripe_event('customer.subscription.created', stripe_subscription($shape,
					id => "sub_$n", customer => "cus_$n", price => 'price_pro', status => 'active',
					created => $months[0], start_date => $months[0], billing_cycle_anchor => $months[0],
					period => [ @months[ 0, 1 ] ], metadata => { account => "subscriber:$n" }), %of),
			stripe_event('invoice.paid', stripe_invoice($shape, id => "in_$n", customer => "cus_$n",
					subscription => "sub_$n", amount_paid => 1000, payment => "pi_$n",
					lines => [ [ 'price_pro', @months[ 0, 1 ], 1000, 0 ] ]), %of),
			stripe_event('charge.refunded', stripe_charge(id => "ch_$n", payment_intent => "pi_$n",
					amount => 1000, amount_refunded => 500), %of),
			stripe_event('refund.created', stripe_refund(id => "re_$n", charge => "ch_$n", payment_intent => "pi_$n",
					amount => 500, status => 'succeeded'), %of));
		push @events, stripe_event('invoice_payment.paid', stripe_invoice_payment("inpay_$n", "in_$n", "pi_$n"), %of)
		  if $shape eq 'new';
		$session->value("SELECT credits_open_account('subscriber:$n')");
		deliver($until, map { $events[$_] } @$order);
		$ends{ balance_of("subscriber:$n") }++;
	}
	is_deeply(\%ends, { '50 0' => scalar @orders }, "a refund of a month, shape $shape: " . @orders . ' orders');
}

# ---------------------------------------------------------------------------
# a month of a subscription, in all orders
#
# Plan pro has 100 credits, max 300.  The month has 31 days; what is changed after 10
# of them is for 21.

my $at = $months[0] + 10 * 86400;
my $half = $months[0] + 86400 * 15;
$session->value(sprintf "SELECT set_config('credits.test_clock', to_timestamp(%d)::text, false)", $half);

# All orders of some events end the same way, or some at random if they are many.
sub month
{
	my ($name, $expected, $parts) = @_;
	foreach my $shape (qw(old new))
	{
		my $count = 0;
		my %ends;
		my ($first) = history("probe", $shape, $parts);
		my @orders = @$first <= 5 ? permutations(0 .. $#$first) : map { [ shuffle(0 .. $#$first) ] } 1 .. 40;
		foreach my $order (@orders)
		{
			my $n = join '_', $name =~ s/\W+/_/gr, $shape, ++$count;
			my ($events) = history($n, $shape, $parts);
			my @sent = map { $events->[$_] } @$order;
			$session->value("SELECT credits_open_account('subscriber:$n')");
			# one of them twice
			deliver($half, @sent, $sent[ rand @sent ]);
			my $got = balance_of("subscriber:$n");
			# what was given in all, unless it was given in advance
			$got .= ' ' . $session->value("SELECT sum(amount) FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id WHERE a.name = 'subscriber:$n'")
			  unless grep { $_->[0] =~ /^invoiceitem/ } @$parts;
			$ends{$got}++;
			diag("$name, $shape: $got: " . join ' ', map { $_->{type} } @sent) if $got ne $expected && $ends{$got} < 3;
		}
		is_deeply(\%ends, { $expected => scalar @orders }, "$name, shape $shape: " . @orders . ' orders');
	}
}

# The events of a month by their parts: what, when, and how.
sub history
{
	my ($n, $shape, $parts) = @_;
	my @events;
	foreach my $part (@$parts)
	{
		my ($type, $when, %p) = @$part;
		my %subscription = (id => "sub_$n", customer => "cus_$n", status => 'active', created => $months[0],
			start_date => $months[0], billing_cycle_anchor => $months[0], period => [ @months[ 0, 1 ] ], price => 'price_pro',
			metadata => { account => "subscriber:$n" });
		my %ids = map { $_ => "$p{$_}_$n" } grep { defined $p{$_} } qw(id payment invoice payment_intent charge);
		my $object;
		if ($type =~ /^customer/)
		{
			$object = stripe_subscription($shape, %subscription, %p);
		}
		elsif ($type =~ /^invoice\./)
		{
			my @lines = map {
				my ($price, $start, $amount, $item, $of) = @$_;
				[ $price, $start, $months[1], $amount, $start != $months[0],
					{ %{ $of // {} }, $item ? (invoice_item => "${item}_$n") : () } ]
			} @{ $p{lines} };
			my $total = 0;
			$total += $_->[3] foreach @lines;
			$object = stripe_invoice($shape, status => 'paid', amount_paid => $total, %p, %ids, customer => "cus_$n", subscription => "sub_$n", lines => \@lines);
			push @events, stripe_event('invoice_payment.paid', stripe_invoice_payment("inpay_$ids{id}", @ids{qw(id payment)}),
				created => $when, shape => $shape)
			  if $type eq 'invoice.paid' && $shape eq 'new' && $p{payment};
		}
		elsif ($type =~ /^invoiceitem/)
		{
			$object = stripe_invoice_item($shape, period => [ $at, $months[1] ], %p, %ids, subscription => "sub_$n");
		}
		elsif ($type =~ /^credit_note/)
		{
			my $lines = [ map { [ "$_->[0]_of_$ids{invoice}", $_->[1] ] } @{ $p{lines} } ];
			my $refunds = [ map { { refund => "$_->[0]_$n", amount_refunded => $_->[1] } } @{ $p{refunds} // [] } ];
			$object = stripe_credit_note(%p, %ids, lines => $lines, refunds => $refunds);
		}
		elsif ($type eq 'charge.refunded')
		{
			$object = stripe_charge(%p, %ids);
			delete $object->{invoice};
		}
		elsif ($type =~ /refund/)
		{
			$object = stripe_refund(status => 'succeeded', %p, %ids);
		}
		else
		{
			$object = stripe_dispute(%p, %ids);
		}
		push @events, stripe_event($type, $object, created => $when, shape => $shape);
	}
	return \@events;
}

my @begun = ('customer.subscription.created', $months[0]);
my @paid = ('invoice.paid', $months[0], id => 'in_a', payment => 'pi_a', lines => [ [ 'price_pro', $months[0], 1000 ] ]);
my @upgrade = ('price_pro', $at, -677);
my @to = ('price_max', $at, 2032);
my @changed = ('customer.subscription.updated', $at, price => 'price_max');
my @upgraded = ('invoice.paid', $at + 1, id => 'in_b', payment => 'pi_b', lines => [ [ @upgrade ], [ @to ] ]);

month('created, paid, upgraded, half refunded', '118 0 235', [ [@begun], [@paid], [@changed], [@upgraded],
	[ 'charge.refunded', $at + 9, id => 'ch_a', payment_intent => 'pi_a', amount => 1000, amount_refunded => 500 ],
	[ 'charge.refunded', $at + 9, id => 'ch_b', payment_intent => 'pi_b', amount => 1355, amount_refunded => 678 ] ]);
month('everything is refunded', '0 0 235', [ [@begun], [@paid], [@changed], [@upgraded],
	[ 'charge.refunded', $at + 9, id => 'ch_a', payment_intent => 'pi_a', amount => 1000, amount_refunded => 1000 ],
	[ 'charge.refunded', $at + 9, id => 'ch_b', payment_intent => 'pi_b', amount => 1355, amount_refunded => 1355 ] ]);
month('a dead card buys no upgrade', '100 0 100', [ [@begun], [@paid], [@changed],
	[ 'invoice.payment_failed', $at + 1, id => 'in_b', status => 'open', amount_paid => 0, lines => [ [ @upgrade ], [ @to ] ] ],
	[ 'invoice.voided', $at + 5, id => 'in_b', status => 'void', amount_paid => 0, lines => [ [ @upgrade ], [ @to ] ] ] ]);
month('it is paid at last', '235 0 235', [ [@begun], [@paid],
	[ 'invoice.finalized', $at + 1, id => 'in_b', status => 'open', amount_paid => 0, lines => [ [ @upgrade ], [ @to ] ] ],
	[ 'invoice.marked_uncollectible', $at + 5, id => 'in_b', status => 'uncollectible', amount_paid => 0, lines => [ [ @upgrade ], [ @to ] ] ],
	[@upgraded] ]);
month('a proration waits', '235 0', [ [@begun], [@paid],
	[ 'invoiceitem.created', $at, id => 'ii_a', price => 'price_pro', amount => -677 ],
	[ 'invoiceitem.created', $at, id => 'ii_b', price => 'price_max', amount => 2032 ], [@changed] ]);
month('and is billed', '235 0', [ [@begun], [@paid],
	[ 'invoiceitem.created', $at, id => 'ii_a', price => 'price_pro', amount => -677 ],
	[ 'invoiceitem.created', $at, id => 'ii_b', price => 'price_max', amount => 2032 ],
	[ 'invoice.paid', $at + 5, id => 'in_b', payment => 'pi_b', lines => [ [ @upgrade, 'ii_a' ], [ @to, 'ii_b' ] ] ] ]);
month('a downgrade', '165 0', [
	[ @begun, price => 'price_max' ],
	[ 'invoice.paid', $months[0], id => 'in_a', payment => 'pi_a', lines => [ [ 'price_max', $months[0], 3000 ] ] ],
	[ 'customer.subscription.updated', $at, price => 'price_pro' ],
	[ 'invoiceitem.created', $at, id => 'ii_a', price => 'price_max', amount => -2032 ],
	[ 'invoiceitem.created', $at, id => 'ii_b', price => 'price_pro', amount => 677 ] ]);
month('two items and a quantity', '800 0 800', [ [@begun],
	[ 'invoice.paid', $months[0], id => 'in_a', payment => 'pi_a',
		lines => [ [ 'price_pro', $months[0], 5000, undef, { quantity => 5 } ], [ 'price_max', $months[0], 3000 ] ] ] ]);
month('a credit note with its refund', '50 0 100', [ [@begun], [@paid],
	[ 'credit_note.created', $at, id => 'cn_a', invoice => 'in_a', lines => [ [ 'il_0', 500 ] ], refunds => [ [ 're_a', 500 ] ] ],
	[ 'charge.refunded', $at, id => 'ch_a', payment_intent => 'pi_a', amount => 1000, amount_refunded => 500 ],
	[ 'refund.created', $at, id => 're_a', charge => 'ch_a', payment_intent => 'pi_a', amount => 500 ] ]);
month('one that is voided', '100 0 100', [ [@begun], [@paid],
	[ 'credit_note.created', $at, id => 'cn_a', invoice => 'in_a', lines => [ [ 'il_0', 500 ] ] ],
	[ 'credit_note.voided', $at + 1, id => 'cn_a', invoice => 'in_a', status => 'void', lines => [ [ 'il_0', 500 ] ] ] ]);
month('a dispute that is lost', '0 0 100', [ [@begun], [@paid],
	[ 'charge.dispute.created', $at, id => 'dp_a', charge => 'ch_a', payment_intent => 'pi_a', amount => 1000, status => 'needs_response' ],
	[ 'charge.dispute.closed', $at + 9, id => 'dp_a', charge => 'ch_a', payment_intent => 'pi_a', amount => 1000, status => 'lost' ] ]);
is($session->value(q(SELECT string_agg(DISTINCT r.status, ' ') FROM credits.reversals AS r JOIN credits.purchases AS p ON p.id = r.purchase_id
		WHERE p.payment_reference LIKE 'in_a_a_dispute_that_is_lost%')), 'lost', 'and is recorded as that');

problems_are($node, '', 'nothing is wrong');

# ---------------------------------------------------------------------------
# secrets

is( $session->value(q(SELECT count(*) FROM credits.stripe_events WHERE result = 'waiting')),
	$session->value(q(SELECT count(*) FROM credits.stripe_events AS e JOIN credits.stripe_subjects AS s USING (subject)
		WHERE e.result = 'waiting' AND s.waiting IS NOT NULL)),
	'what was waiting and is not any more has been applied');
my $log = slurp_file($node->logfile);
unlike($log, qr/\Q$secret\E/, 'no secret is in the log');
my $dump = $node->data_dir . '/../credits.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'the database is dumped');
my $dumped = slurp_file($dump);
unlike($dumped, qr/\Q$secret\E/, 'no secret is in the dump');
like($dumped, qr/evt_000001/, 'but the events are');

$session->quit;
done_testing();
