# Grace: whoever pays late, and has spent meanwhile what was left, ends with the
# same credits as who paid in time and spent the same.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{CREDITS_SEED} // 20310401;
srand $seed;
note "CREDITS_SEED=$seed";

my $node = credits_node('grace');

my %plans = (
	none => '100',
	maximum => q(100, rollover => 'maximum', rollover_maximum => 40),
	share => q(100, rollover => 'share', rollover_share => 0.5, rollover_minimum => 7),
	ever => q(100, rollover => 'maximum', rollover_maximum => 60, rollover_total => 90, clear => '{rollover_periods}'),
	again => q(100, rollover => 'maximum', rollover_maximum => 130, rollover_again => true));

my @months = map { "2031-0$_-01 00:00:00+00" } 4 .. 7;
my %at;    # what happens when
my @setup = ("SET credits.test_clock = '$months[0]'",
	map { "SELECT credits_set_plan('$_', $plans{$_}, grace => '12 days')" } sort keys %plans);
my @pairs;
my $count = 0;

# Two accounts with one plan and the same spends: one pays each period as it
# begins, one some days later.
foreach my $n (1 .. 400)
{
	my $plan = (sort keys %plans)[ $n % keys %plans ];
	my $collection = $n % 2 ? 'clock' : 'payment';
	my @ids;
	foreach my $who ('in time', 'late')
	{
		push @ids, ++$count;
		push @setup, "SELECT credits_open_account('$count')",
			"SELECT credits_subscribe('$count', '$plan', collection => '$collection')";
		push @setup, "SELECT credits_mark_paid($count)" if $collection eq 'payment';
	}
	push @pairs, [ @ids, "$plan by $collection" ];
	foreach my $month (0 .. 2)
	{
		# in the period; never all, so that more is left than is spent before
		# the next one is paid
		my $start = $months[$month] =~ s/-01 /-20 /r;
		my $spent = int rand 30;
		push @{ $at{$start} }, map { "SELECT credits_deduct('$_', $spent)" } @ids
		  if $spent > 0;
		push @{ $at{$start} }, "SELECT credits_mark_unpaid($ids[1])" if $collection eq 'clock';

		# after it, before the second one has paid
		my $end = $months[ $month + 1 ];
		push @{ $at{$end} }, "SELECT credits_mark_paid($ids[0])" if $collection eq 'payment';
		my $day = 1 + int rand 8;
		foreach my $k (1 .. int rand 4)
		{
			my $amount = 1 + int rand 11;
			my $clock = $end =~ s/-01 /sprintf '-%02d ', $day + $k/er;
			push @{ $at{$clock} }, map { "SELECT credits_deduct('$_', $amount)" } @ids;
		}
		my $paid = $end =~ s/-01 00/sprintf '-%02d 07', $day + 4/er;
		push @{ $at{$paid} }, "SELECT credits_mark_paid($ids[1])";
		# told twice
		push @{ $at{$paid} }, "SELECT credits_mark_paid($ids[1])" if $n % 3 == 0;
	}
}

$node->safe_psql('postgres', join ";\n", @setup);
my $state = q(
	SELECT a.name, credits_balance(a.name),
		(SELECT string_agg(format('%s until %s', remaining, expires_at), ', ' ORDER BY expires_at)
		 FROM (SELECT sum(g.remaining) AS remaining, g.expires_at FROM credits.grants AS g
			WHERE g.account_id = a.id AND g.status = 'open' GROUP BY g.expires_at) AS g)
	FROM credits.accounts AS a ORDER BY a.id);

# The pairs that differ.
sub differing
{
	my ($clock) = @_;
	my %state = map { split /\|/, $_, 2 } split /\n/,
	  $node->safe_psql('postgres', "SET credits.test_clock = '$clock'; CALL credits_settle() \\gset\n$state");
	return map { $state{ $_->[0] } eq $state{ $_->[1] } ? () : "$_->[2]: $state{$_->[0]}, late $state{$_->[1]}" } @pairs;
}

my $step = 0;
foreach my $clock (sort keys %at, @months[ 1 .. 3 ])
{
	# the job comes first, as it does every minute
	my @calls = shuffle @{ delete $at{$clock} // [] };
	$node->safe_psql('postgres', join ";\n", "SET credits.test_clock = '$clock'", 'CALL credits_renew()', @calls);
	next unless $clock =~ /-20 /;
	is(join("\n", differing($clock)), '', "$clock: late is as in time");
	$step++;
}
is($step, 3, 'three months');
is(join("\n", differing('2031-07-25 00:00:00+00')), '', 'in the end: late is as in time');
is($node->safe_psql('postgres', q(
	SELECT count(*) > 100 FROM credits.periods WHERE grace_spent > 0)), 't', 'much of it was spent in a grace');
problems_are($node, '', 'credits_verify is clean');

$node->stop;
done_testing();
