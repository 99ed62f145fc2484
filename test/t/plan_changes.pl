# Changes of plan: a model in exact fractions computes what each one must give
# and take; whoever changes plans all day gains nothing by it.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use List::Util qw(max min);
use Math::BigRat;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::Local qw(timegm);

my $seed = $ENV{CREDITS_SEED} // 20300401;
srand $seed;
note "CREDITS_SEED=$seed";

my $node = credits_node('changes');
my $session = CreditsTest::Session->new($node, verbosity => 'default');

# credits, period, every
my %plans = (
	small => [ 100, 'month', 1 ],
	big => [ 317, 'month', 1 ],
	huge => [ 1_000_003, 'month', 1 ],
	nothing => [ 0, 'month', 1 ],
	quarter => [ 250, 'month', 3 ],
	yearly => [ 1200, 'year', 1 ],
	weekly => [ 30, 'week', 1 ],
	daily => [ 7, 'day', 2 ]);
$session->value(sprintf q(SELECT credits_set_plan('%s', %d, '%s', %d)), $_, @{ $plans{$_} })
  foreach sort keys %plans;

my $day = timegm(0, 0, 0, 31, 0, 2030);

sub set_clock
{
	my ($at) = @_;
	$session->value("SET credits.test_clock = '"
		  . POSIX::strftime('%Y-%m-%d %H:%M:%S+00', gmtime $at) . "'");
}

# When a period of a plan that begins at an instant ends, in UTC.
sub end_of
{
	my ($at, $plan) = @_;
	my (undef, $period, $every) = @{ $plans{$plan} };
	return $at + $every * 86400 * ($period eq 'week' ? 7 : 1) if $period =~ /day|week/;
	my ($s, $m, $h, $d, $month, $year) = gmtime $at;
	$month += $every * ($period eq 'year' ? 12 : 1);
	$year += int($month / 12);
	$month %= 12;
	my $last = (31, ($year + 1900) % 4 ? 28 : 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[$month];
	return timegm($s, $m, $h, min($d, $last), $month, $year);
}

sub ceiling { my ($x) = @_; return $x->copy->bceil->numify }
sub floored { my ($x) = @_; return $x->copy->bfloor->numify }

# ---------------------------------------------------------------------------
# the model: a period is a list of [instant, credits per period from then on]

sub new_period
{
	my ($at, $plan, $carried) = @_;
	return {
		plan => $plan,
		from => $at,
		until => end_of($at, $plan),
		turns => [ [ $at, $plans{$plan}[0] ] ],
		carried => $carried,
		given => 0,
		left => 0
	};
}

# What a period has earned up to an instant.
sub earned
{
	my ($period, $until) = @_;
	my $sum = Math::BigRat->new(0);
	my @turns = @{ $period->{turns} };

	foreach my $i (0 .. $#turns)
	{
		my $end = $i < $#turns ? $turns[ $i + 1 ][0] : $until;
		$sum += Math::BigRat->new($turns[$i][1]) * ($end - $turns[$i][0]);
	}
	return $sum / ($period->{until} - $period->{from}) - $period->{carried};
}

sub take_from
{
	my ($period, $amount) = @_;
	my $taken = min($amount, $period->{left});
	$period->{given} -= $taken;
	$period->{left} -= $taken;
	return $taken;
}

sub give_to
{
	my ($period, $entitled) = @_;
	my $given = max(0, ceiling($entitled - $period->{given}));
	$period->{given} += $given;
	$period->{left} += $given;
	return $given;
}

# Changes a plan in the model; returns what it gives and takes.
sub change
{
	my ($model, $at, $plan, $proration) = @_;
	my $period = $model->{periods}[-1];
	my @old = @{ $plans{ $period->{plan} } };
	my @new = @{ $plans{$plan} };
	my ($given, $taken) = (0, 0);

	$model->{plan} = $plan;
	return (0, 0) if $proration eq 'none';
	if ($old[1] eq $new[1] && $old[2] == $new[2])
	{
		if ($proration eq 'full')
		{
			@{ $period->{turns} } = ([ $period->{from}, $new[0] ]);
		}
		else
		{
			push @{ $period->{turns} }, [ $at, $new[0] ];
		}
		my $entitled = earned($period, $period->{until});
		$given = give_to($period, $entitled);
		$taken = take_from($period, max(0, floored($period->{given} - $entitled)));
		return ($given, $taken);
	}
	my $entitled = earned($period, $at);
	$taken = take_from($period, max(0, floored($period->{given} - $entitled)));
	my $next = new_period($at, $plan, $period->{given} - $entitled);
	if ($at == $period->{from})
	{
		# nothing of it was: the new one takes its place
		$next->{carried} = $period->{carried};
		$next->{given} = $period->{given};
		$next->{left} = $period->{left};
		pop @{ $model->{periods} };
	}
	else
	{
		$period->{earned} = $entitled + $period->{carried};
	}
	push @{ $model->{periods} }, $next;
	$given = give_to($next, earned($next, $next->{until}));
	return ($given, $taken);
}

# Spends from the model: what expires first goes first, then what was given
# first, so the last grants of a period are the last to go.
sub spend
{
	my ($model, $amount) = @_;
	foreach my $period (sort { $a->{until} <=> $b->{until} } @{ $model->{periods} })
	{
		my $part = min($amount, $period->{left});
		$period->{left} -= $part;
		$amount -= $part;
	}
}

# ---------------------------------------------------------------------------
# days

my $differences = 0;
my $gains = 0;
my $previews = 0;
my $changes = 0;

sub differs
{
	my ($what) = @_;
	diag($what) if $differences++ < 10;
}

# Changes the plan of one account again and again within a day.
sub run_day
{
	my ($name, $count, $spends, @choice) = @_;
	my $at = $day;
	my $plan = $choice[0];

	set_clock($at);
	$session->value("SELECT credits_open_account('$name')");
	my $id = $session->value("SELECT subscription_id FROM credits_subscribe('$name', '$plan')");
	my $model = { plan => $plan, periods => [ new_period($at, $plan, Math::BigRat->new(0)) ] };
	give_to($model->{periods}[0], Math::BigRat->new($plans{$plan}[0]));

	foreach my $n (1 .. $count)
	{
		$at += int rand(2 * 80_000 / $count) if rand() < 0.8;
		$at = $day + 86_399 if $at > $day + 86_399;
		set_clock($at);
		my $balance = $session->value("SELECT credits_balance('$name')");
		if ($spends && rand() < 0.4 && $balance > 0)
		{
			my $amount = 1 + int rand($balance * (rand() < 0.2 ? 1 : 0.1));
			$session->value("SELECT credits_deduct('$name', $amount)");
			spend($model, $amount);
		}
		my @others = grep { $_ ne $model->{plan} } @choice;
		$plan = $others[ rand @others ];
		my $proration = (qw(prorate prorate prorate full none))[ rand 5 ];
		my ($given, $taken) = change($model, $at, $plan, $proration);

		my $columns = 'plan, at, period_start, period_end, entitlement, given, taken, balance';
		my $preview = $session->value(
			"SELECT $columns FROM credits_preview_plan_change($id, '$plan', 'now', '$proration')");
		my $made = $session->value(
			"SELECT $columns FROM credits_change_plan($id, '$plan', at => 'now', proration => '$proration')");
		$changes++;
		$previews++ if $preview ne $made;
		my @made = split /\|/, $made;
		my $left = 0;
		$left += $_->{left} foreach @{ $model->{periods} };
		differs("$name, change $n to $plan ($proration): $made, not given $given, taken $taken, balance $left")
		  if $made[5] != $given || $made[6] != $taken || $made[7] != $left;

		# whole credits are given for fractions earned: less than one too many,
		# all periods together
		next if $spends;
		my $all = Math::BigRat->new(0);
		foreach my $period (@{ $model->{periods} })
		{
			$all += $period->{given};
			$all -= $period->{earned} // (earned($period, $period->{until}) + $period->{carried});
		}
		$gains++ if $all >= 1;
	}
	return $id;
}

my @monthly = qw(small big huge nothing);
my @all = sort keys %plans;
run_day("flips:$_", 100, 0, @monthly) foreach 1 .. 4;
run_day("lengths:$_", 100, 0, @all) foreach 1 .. 6;
run_day("spent:$_", 100, 1, @monthly) foreach 1 .. 4;
run_day("all:$_", 100, 1, @all) foreach 1 .. 6;
is($differences, 0, "$changes changes gave and took what the model says");
is($previews, 0, 'each was what its preview had said');
is($gains, 0, 'none gained a credit');

# In a trial: its credits follow those of the plans that have one, and it lasts as
# long as it was to last.
my %trials = (small_trial => 20, big_trial => 61, yearly_trial => 7, huge_trial => 1_000_003, small => undef);
my @lengths = ('10 days', '30 days', '3 days', '1 month');
my $n = 0;
foreach my $plan (sort grep { defined $trials{$_} } keys %trials)
{
	$session->value(sprintf q(SELECT credits_set_plan('%s', 5, '%s', trial => '%s', trial_credits => %d)),
		$plan, $plan =~ /year/ ? 'year' : 'month', $lengths[ $n++ ], $trials{$plan});
}

# Changes the plan of one account again and again within its trial.
sub run_trial
{
	my ($name, $spends) = @_;
	my $at = $day;
	my $plan = (sort grep { defined $trials{$_} } keys %trials)[ rand 4 ];

	set_clock($at);
	$session->value("SELECT credits_open_account('$name')");
	my ($id, $until) = split /\|/, $session->value(
		"SELECT subscription_id, extract(epoch FROM period_end)::bigint FROM credits_subscribe('$name', '$plan')");
	my $period = {
		from => $at,
		until => $until,
		turns => [ [ $at, $trials{$plan} ] ],
		carried => 0,
		given => $trials{$plan},
		left => $trials{$plan}
	};
	foreach my $k (1 .. 30)
	{
		$at += int rand(2 * ($until - $day) / 31) if rand() < 0.8;
		last if $at >= $until;
		set_clock($at);
		if ($spends && rand() < 0.4 && $period->{left} > 0)
		{
			my $amount = 1 + int rand($period->{left} * (rand() < 0.2 ? 1 : 0.1));
			$session->value("SELECT credits_deduct('$name', $amount)");
			$period->{left} -= $amount;
		}
		$plan = (grep { $_ ne $plan } sort keys %trials)[ rand 4 ];
		my $proration = (qw(prorate prorate prorate full none))[ rand 5 ];
		my ($given, $taken) = (0, 0);
		if (defined $trials{$plan} && $proration ne 'none')
		{
			@{ $period->{turns} } = () if $proration eq 'full';
			push @{ $period->{turns} }, [ $proration eq 'full' ? $day : $at, $trials{$plan} ];
		}
		my $entitled = earned($period, $until);
		$given = give_to($period, $entitled);
		$taken = take_from($period, max(0, floored($period->{given} - $entitled)));
		my $columns = 'plan, at, period_start, period_end, entitlement, given, taken, balance';
		my $preview = $session->value(
			"SELECT $columns FROM credits_preview_plan_change($id, '$plan', 'now', '$proration')");
		my $made = $session->value(
			"SELECT $columns FROM credits_change_plan($id, '$plan', at => 'now', proration => '$proration')");
		$changes++;
		$previews++ if $preview ne $made;
		my @made = split /\|/, $made;
		differs("$name, change $k to $plan ($proration): $made, not given $given, taken $taken, balance $period->{left}")
		  if $made[5] != $given || $made[6] != $taken || $made[7] != $period->{left};
	}
}

$differences = $changes = $previews = 0;
run_trial("trial:$_", $_ % 2) foreach 1 .. 16;
is($differences, 0, "$changes changes within trials gave and took what the model says");
is($previews, 0, 'each was what its preview had said');

# twice a second, between two plans, for as long as it takes to gain a credit
# if each change gained half of one
{
	set_clock($day);
	$session->value("SELECT credits_open_account('fast')");
	my $id = $session->value("SELECT subscription_id FROM credits_subscribe('fast', 'small')");
	foreach my $n (1 .. 50)
	{
		set_clock($day + $n);
		$session->value("SELECT credits_change_plan($id, 'yearly', at => 'now')");
		$session->value("SELECT credits_change_plan($id, 'small', at => 'now')");
	}
	# what the first minute earned is a fraction of a credit, rounded up
	is($session->value("SELECT credits_balance('fast')"), '101', 'nor do a hundred changes of length');
}

# no period has given less than nothing, nor other than its grants say
is($session->value('SELECT count(*) FROM credits.accounts WHERE balance < 0'), '0', 'no balance is negative');
is($session->value(q(
	SELECT count(*) FROM credits.periods AS p
	WHERE p.given <> (
		SELECT COALESCE(sum(g.amount), 0) + (
			SELECT COALESCE(sum(d.amount), 0) FROM credits.draws AS d
			WHERE d.grant_id IN (SELECT g.id FROM credits.grants AS g WHERE g.group_id = p.grant_id) AND d.kind = 'plan_change')
		FROM credits.grants AS g WHERE g.group_id = p.grant_id))),
	'0', 'each period has given what its grants say, less what was taken back');
problems_are($node, '', 'and the log proves it');

$session->quit;
done_testing();
