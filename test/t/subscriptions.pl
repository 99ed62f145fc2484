# Periods that are given when they are paid: in whichever order the payments
# come, early, in time or late, and however often each is told, the account ends
# with the same credits, rolled over ones included.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('subscriptions');

my @starts = map { "2030-0$_-01 00:00+00" } 1 .. 5;
my %plans = (
	pro => "100, rollover => 'maximum', rollover_maximum => 40, rollover_periods => 2",
	total => "100, rollover => 'maximum', rollover_maximum => 90, rollover_total => 130, clear => '{rollover_periods}'",
	again => "100, rollover => 'maximum', rollover_maximum => 330, rollover_total => 310, rollover_again => true");

sub permutations
{
	my (@left) = @_;
	return [] unless @left;
	return map {
		my $i = $_;
		my @others = @left;
		my ($one) = splice @others, $i, 1;
		map { [ $one, @$_ ] } permutations(@others);
	} 0 .. $#left;
}

my @orders = permutations(0 .. 4);
is(scalar @orders, 120, 'all orders of five payments');

# Each way: when the k-th payment comes.
my %ways = (
	early => [ map { '2030-01-01 00:00+00' } 1 .. 5 ],
	late => [ map { '2030-05-20 00:00+00' } 1 .. 5 ],
	between => [ '2030-01-15 00:00+00', '2030-02-15 00:00+00', '2030-03-31 23:59:59+00', '2030-04-01 00:00+00',
		'2030-05-20 00:00+00' ]);

my $account = 0;
my %way_of;
my %at;    # what happens when
my %plan_of;
my @setup = ("SET credits.test_clock = '2030-01-01 00:00+00'", map { "SELECT credits_set_plan('$_', $plans{$_})" } sort keys %plans);
foreach my $way (sort keys %ways)
{
	foreach my $case (0 .. $#orders * 3 + 2)
	{
		my $order = $orders[ $case / 3 ];
		my $plan = (sort keys %plans)[ $case % 3 ];
		$account++;
		$way_of{$account} = "$plan $way, @$order";
		$plan_of{$account} = $plan;
		push @setup, "SELECT credits_open_account('$account')",
			"SELECT credits_subscribe('$account', '$plan', collection => 'payment')";
		foreach my $k (0 .. 4)
		{
			my $paid = "SELECT credits_mark_paid($account, '$starts[$order->[$k]]')";
			# every third is told twice
			push @{ $at{ $ways{$way}[$k] } }, ($paid) x ($case / 3 % 3 ? 1 : 2);
		}
	}
}
# in time, by the clock
my %in_time;
foreach my $plan (sort keys %plans)
{
	$in_time{ ++$account } = $plan;
	push @setup, "SELECT credits_open_account('$account')", "SELECT credits_subscribe('$account', '$plan')";
}
# the job runs between the payments of some ways
push @{ $at{$_} }, 'CALL credits_renew()' for '2030-02-01 00:00+00', '2030-03-01 00:00+00', '2030-04-01 00:00+00', '2030-05-01 00:00+00', '2030-05-20 00:00+00';

$node->safe_psql('postgres', join ";\n", @setup);
foreach my $clock (sort keys %at)
{
	# not in the order of the accounts only
	$node->safe_psql('postgres', join ";\n", "SET credits.test_clock = '$clock'", @{ $at{$clock} });
}

my $clock = "SET credits.test_clock = '2030-05-21 00:00+00'";
$node->safe_psql('postgres', "$clock; CALL credits_settle()");
my $state = q(format('%s %s %s', credits_balance(a.name),
	(SELECT string_agg(format('%s/%s until %s', remaining, amount, expires_at), ', ' ORDER BY expires_at)
	 FROM (SELECT sum(g.remaining) AS remaining, sum(g.amount) AS amount, g.expires_at
		FROM credits.grants AS g WHERE g.account_id = a.id AND g.status = 'open' GROUP BY g.expires_at) AS g),
	(SELECT string_agg(format('%s %s %s %s %s', p.number, p.starts_at, p.status, p.given, p.rolled), ', ' ORDER BY p.starts_at)
	 FROM credits.periods AS p WHERE p.subscription_id = a.id)));
my %state = map { split /\|/, $_, 2 } split /\n/, $node->safe_psql('postgres',
	"$clock; SELECT a.name, $state FROM credits.accounts AS a ORDER BY a.id");
my %same = map { $in_time{$_} => delete $state{$_} } keys %in_time;
like($same{pro}, qr/^180 /, 'in time: the period, and what the last two rolled over');
like($same{total}, qr/^230 /, 'in time: the period, and the total that all have rolled over');
like($same{again}, qr/^410 /, 'in time: the period, and what was rolled over again and again');
my @wrong = map { $state{$_} eq $same{ $plan_of{$_} } ? () : "$way_of{$_}: $state{$_}" } sort { $a <=> $b } keys %state;
is(scalar keys %state, 3 * 3 * 120, 'each plan, each way, in each order');
is(join("\n", @wrong), '', 'paid in any order, early, late or between: the same as in time');
problems_are($node, '', 'credits_verify is clean');

$node->stop;
done_testing();
