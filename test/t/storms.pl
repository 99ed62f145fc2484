# Money that goes back while the storm blows: refunds of periods of subscriptions that
# the clock renews, and what Stripe sends of invoices that credits have paid for, and of
# those without a subscription.  Eight sessions bring each call more than once, at each
# isolation level; then their statements are canceled at random; then the whole cluster
# is killed again and again.  What did not come through is sent again.  The end is the
# same as if one session had made the calls one after the other.
#
# CREDITS_STORMS says how many accounts there are of each kind, and CREDITS_STORM_KILLS
# how often the cluster is killed.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsBilling;
use CreditsHistories;
use CreditsStripe;
use CreditsTest;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $count = $ENV{CREDITS_STORMS} // ($ENV{CI} ? 6 : 3);
my $kills = $ENV{CREDITS_STORM_KILLS} // ($ENV{CI} ? 6 : 2);
my $seed = $ENV{CREDITS_SEED} // 20310401;
diag "seed $seed";
srand $seed;

my $node = credits_node('storms', conf => "restart_after_crash = off\n");
my $now = billing_now();
my $settings = "SET credits.test_clock = '2027-03-20 12:00+00'; SET jit = off";
my $control = CreditsTest::Session->new($node);
$control->value("$settings; SELECT credits_stripe_add_secret('tests', '" . stripe_secret() . "')");
$control->query($_) foreach split /\n/, billing_setup();
$control->value("SELECT credits_set_package('big', 1000, 10.00, 'USD')");
$control->value("SELECT credits_set_plan('up', 3000, price => 30, currency => 'USD')");

# ---------------------------------------------------------------------------
# accounts: of each kind, what is to be called, in an order in which it happened

my $number = 0;

# A subscription that the clock renews: spends, refunds of its period and of a spend, and
# an upgrade.
sub clock_renews
{
	my $n = ++$number;
	my $account = sprintf 'b:%07d', $n;
	$control->value("SET credits.test_clock = '2027-03-10 12:00+00'; SELECT credits_open_account('$account')");
	my $id = $control->value("SELECT subscription_id FROM credits_subscribe('$account', 'basic')");
	my @spent = map { $control->value("SELECT transaction_id FROM credits_deduct('$account', $_)") } 150, 400;
	$control->value($settings);
	return ($n,
		(map { "SELECT credits FROM credits_refund_period($id, $_, '2027-03-10 12:00+00', 're_$_')" } 1.25, 0.01, 2.50, 4),
		"SELECT given FROM credits_change_plan($id, 'up', 'up', at => 'now')",
		"SELECT balance FROM credits_refund($spent[1], 300, 'back')");
}

# What Stripe sends of a subscription.
sub history_of
{
	my ($pattern) = @_;
	my @all = grep { $_->[0] =~ $pattern } chosen_histories();
	my @events = $all[ rand @all ][1]->(rand() < 0.5 ? 'old' : 'new');
	my $n = ++$number;
	$control->value(sprintf "SELECT credits_open_account('b:%07d')", $n);
	return ($n, map { signed(billing_payload($_, $n)) } grep { $_->{type} ne 'lines' } @events);
}

sub signed
{
	my ($payload) = @_;
	return "SELECT (credits_stripe_webhook(\$stripe\$$payload\$stripe\$, '" . stripe_signature($payload, $now) . "')).result";
}

# An invoice without a subscription, that names its purchase, or one that somebody has
# to look at.
sub without_subscription
{
	my ($named) = @_;
	my $n = ++$number;
	my $account = sprintf 'b:%07d', $n;
	my $purchase = $control->value(
		"SELECT credits_open_account('$account') IS NULL; SELECT purchase_id FROM credits_start_purchase('$account', 'big')");
	$purchase =~ s/.*\n//s;
	my $invoice = sub {
		my ($type, $status) = @_;
		return stripe_event($type, { id => "in_$n", object => 'invoice', status => $status, currency => 'usd', total => 1000,
			amount_paid => $status eq 'paid' ? 1000 : 0, metadata => $named ? { purchase_id => $purchase } : {}, lines => { data => [], has_more => \0 } },
			created => $now - 100 + ($status eq 'paid'));
	};
	my @payment = (payment_intent => "pi_$n", charge => "ch_$n");
	return ($n, map { 'SELECT (' . stripe_call($_, $now) . ').result' }
		$invoice->('invoice.finalized', 'open'), $invoice->('invoice.paid', 'paid'),
		stripe_event('invoice_payment.paid', stripe_invoice_payment("inpay_$n", "in_$n", "pi_$n"), created => $now - 98),
		stripe_event('charge.refunded', stripe_charge(id => "ch_$n", @payment[ 0, 1 ], amount => 1000, amount_refunded => 250), created => $now - 60),
		stripe_event('charge.dispute.created', stripe_dispute(id => "dp_$n", @payment, amount => 100, status => 'needs_response'), created => $now - 50),
		stripe_event('refund.created', stripe_refund(id => "re_$n", @payment, amount => 250, status => 'succeeded', created => $now - 60), created => $now - 59));
}

my @kinds = (
	[ 'periods that the clock renews', \&clock_renews ],
	[ 'invoices that credits have paid for', sub { history_of(qr/from year to quarter/) } ],
	[ 'histories', sub { history_of(qr/upgrade|note|dispute|downgrade/) } ],
	[ 'invoices without a subscription', sub { without_subscription(1) } ],
	[ 'invoices that nobody knows', sub { without_subscription(0) } ]);

# What came of an account: what it has and owes, how much was paid back, and what needs
# attention.
sub end_of
{
	my ($n) = @_;
	return $control->value(sprintf q(
		SELECT concat_ws(' ', s.balance, 'owes', s.debt, 'back', (SELECT sum(r.money) || ' in ' || count(*) FROM credits.period_refunds AS r JOIN credits.subscriptions AS u ON u.id = r.subscription_id
				WHERE u.account_id = credits.account_id('b:%1$07d')),
			(SELECT string_agg(p.status, ' ' ORDER BY p.id) FROM credits.purchases AS p WHERE p.account_id = credits.account_id('b:%1$07d')),
			(SELECT string_agg(concat_ws(' ', v.kind, v.status, v.money), ' ' ORDER BY v.kind, v.status, v.money) FROM credits.reversals AS v JOIN credits.purchases AS p ON p.id = v.purchase_id
				WHERE p.account_id = credits.account_id('b:%1$07d')),
			(SELECT count(*) FROM credits.stripe_attention AS a WHERE a.subject ~ '_(%1$07d|%1$d)(_|$)'))
		FROM credits_summary('b:%1$07d') AS s), $n);
}

# ---------------------------------------------------------------------------
# storms

sub sessions
{
	my ($level) = @_;
	return map {
		my $s = CreditsTest::Session->new($node, application_name => "storm_$_", verbosity => 'default');
		$s->value("$settings; SET default_transaction_isolation = '$level'");
		$s;
	} 1 .. 8;
}

# Makes all calls, each at least once, in a storm, account by account, so that all sessions
# are at the same; returns how many had to be repeated, and the errors that are no reason
# to do so.
sub storm
{
	my ($level, $disturb, @accounts) = @_;
	my @sessions = sessions($level);
	my @queue = map { my $calls = $_; map { [ $_, 0 ] } shuffle(@$calls, grep { rand() < 0.4 } @$calls) } shuffle @accounts;
	my ($repeated, $dead, %busy, %others) = (0, 0);
	while (@queue || %busy)
	{
		foreach my $n (grep { !$busy{$_} } 0 .. $#sessions)
		{
			my $call = shift @queue or last;
			$busy{$n} = $call;
			$sessions[$n]->send($call->[0]);
		}
		$dead = $disturb->(scalar @queue);
		wait_any(@sessions[ keys %busy ]);
		foreach my $n (grep { $dead || $sessions[$_]->ready } keys %busy)
		{
			my $call = delete $busy{$n};
			wait_any($sessions[$n]) if $dead;
			my $answer = $sessions[$n]->take;
			my $code = $answer->{code};
			next if $code eq '00000';
			if ($code =~ /^(40001|40P01|57014)$/ || $dead)
			{
				$repeated++;
				$others{'repeated for ever'}++, next if $call->[1]++ > 200;
				push @queue, $call;
			}
			else { $others{"$code @{ $answer->{messages} }"}++ }
		}
		next unless $dead;
		$_->quit foreach @sessions, $control;
		$node->start;
		@sessions = sessions($level);
		$control = CreditsTest::Session->new($node);
		$control->value($settings);
	}
	$_->quit foreach @sessions;
	return ($repeated, \%others);
}

# As it happened, one call after the other.
my %expected;
my @makers;
foreach my $kind (@kinds)
{
	foreach (1 .. $count)
	{
		my $state = int rand 1 << 30;
		push @makers, [ $kind, $state ];
		srand $state;
		my ($n, @calls) = $kind->[1]->();
		foreach my $call (@calls)
		{
			my $answer = $control->query($call);
			die "$answer->{code} @{ $answer->{messages} }: $call" if $answer->{code} ne '00000';
		}
		$expected{$state} = end_of($n);
	}
}
note join "\n", map { $expected{ $_->[1] } } @makers;

# The same calls of other accounts, in a storm.
sub blow
{
	my ($name, $level, $disturb) = @_;
	my (@all, %of);
	foreach my $maker (@makers)
	{
		srand $maker->[1];
		my ($n, @calls) = $maker->[0][1]->();
		$of{$n} = $maker;
		push @all, \@calls;
	}
	srand($seed + ++$number);
	my ($repeated, $others) = storm($level, $disturb, @all);
	is_deeply($others, {}, "$name: no errors but those that ask for another try, $repeated times") or diag explain $others;
	my @wrong;
	foreach my $n (sort { $a <=> $b } keys %of)
	{
		my $end = end_of($n);
		push @wrong, "$of{$n}[0][0], b:$n: $end instead of $expected{ $of{$n}[1] }" if $end ne $expected{ $of{$n}[1] };
	}
	is(scalar @wrong, 0, "$name: " . keys(%of) . ' accounts end as if the calls had come one after the other') or diag join "\n", @wrong;
	return;
}

foreach my $level ('read committed', 'repeatable read', 'serializable')
{
	blow($level, $level, sub { return 0 });
}

my $canceled = 0;
blow('canceled at random', 'read committed', sub {
		$canceled += $control->value(q(SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity
			WHERE application_name ~ '^storm_' AND state = 'active' AND random() < 0.1))
		  if rand() < 0.5;
		return 0;
	});
cmp_ok($canceled, '>', 0, "$canceled statements were canceled");

my $killed = 0;
my $left = 0;
blow('killed', 'read committed', sub {
		my ($waiting) = @_;
		$left ||= $waiting;
		return 0 if $killed >= $kills || $waiting > $left * (1 - ($killed + 1) / ($kills + 1));
		$killed++;
		kill_cluster($node);
		return 1;
	});
is($killed, $kills, "the cluster was killed $killed times");

problems_are($node, '', 'and the log proves it');
$control->quit;
$node->stop;
done_testing();
