# Refunds of periods: wherever they come between changes of plan, and whether before
# or after the end of the period, the end is the same, and what a model says.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use List::Util qw(max min shuffle sum0);
use Math::BigRat;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::Local qw(timegm);

my $seed = $ENV{CREDITS_SEED} // 20310301;
srand $seed;
note "CREDITS_SEED=$seed";

my $node = credits_node('period_refunds');
my $session = CreditsTest::Session->new($node, verbosity => 'default');

# credits, price; those that roll over have the same of both
my %plans = (
	small => [ 100, '9.99' ],
	big => [ 317, '25' ],
	huge => [ 1_000_003, '100' ],
	free => [ 40, '0.01' ],
	weekly => [ 30, '3' ]);
my $most = 37;
foreach my $plan (sort keys %plans)
{
	my ($credits, $price) = @{ $plans{$plan} };
	my $unit = $plan eq 'weekly' ? 'week' : 'month';
	$session->value("SELECT credits_set_plan('$plan', $credits, '$unit', price => $price, currency => 'EUR')");
	$session->value("SELECT credits_set_plan('rolls $plan', $credits, '$unit', price => $price, currency => 'EUR',"
		  . " rollover => 'maximum', rollover_maximum => $most)");
}

my $start = timegm(0, 0, 0, 1, 2, 2031);
my $end = timegm(0, 0, 0, 1, 3, 2031);
my $last_instant = 0;

sub set_clock
{
	my ($at) = @_;
	return if $at == $last_instant;
	$last_instant = $at;
	$session->value("SET credits.test_clock = '" . POSIX::strftime('%Y-%m-%d %H:%M:%S+00', gmtime $at) . "'");
}

sub ceiling { my ($x) = @_; return $x->copy->bceil->numify }
sub floored { my ($x) = @_; return $x->copy->bfloor->numify }
sub rational { return Math::BigRat->new($_[0]) }

# ---------------------------------------------------------------------------
# the model, in which all refunds come last

sub earned
{
	my ($m, $until) = @_;
	my @turns = @{ $m->{turns} };
	my $sum = rational(0);
	foreach my $i (0 .. $#turns)
	{
		my $to = $i < $#turns ? $turns[ $i + 1 ][0] : $until;
		$sum += rational($turns[$i][1]) * ($to - $turns[$i][0]);
	}
	return $sum / ($end - $start);
}

sub model_give
{
	my ($m, $plan, $amount) = @_;
	my ($credits, $price) = @{ $plans{$plan} };
	return if $amount <= 0;
	$m->{given} += $amount;
	$m->{left} += $amount;
	# prices of parts have six decimal places
	$m->{paid} += $amount == $credits && $m->{given} == $amount ? rational($price) :
	  (rational($price) * $amount * 1_000_000 / $credits + rational('1/2'))->bfloor / rational(1_000_000);
}

sub model_take
{
	my ($m, $amount) = @_;
	my $taken = min(max($amount, 0), $m->{left});
	$m->{given} -= $taken;
	$m->{left} -= $taken;
}

sub model_change
{
	my ($m, $at, $plan, $proration) = @_;
	if ($plan eq 'weekly')
	{
		my $entitled = earned($m, $at);
		model_take($m, floored($m->{given} - $entitled));
		my $next = rational($plans{weekly}[0]) - ($m->{given} - $entitled);
		$m->{next} = max(0, ceiling($next));
		return;
	}
	if ($proration ne 'none')
	{
		@{ $m->{turns} } = () if $proration eq 'full';
		push @{ $m->{turns} }, [ $proration eq 'full' ? $start : $at, $plans{$plan}[0] ];
		my $entitled = earned($m, $end);
		model_give($m, $plan, ceiling($entitled - $m->{given}));
		model_take($m, floored($m->{given} - $entitled));
	}
	$m->{plan} = $plan;
}

# Balance and debt, and what is claimed, once so much money was paid back.
sub model_end
{
	my ($m, $money, $over) = @_;
	my $share = $money >= $m->{paid} ? rational(1) : $money / $m->{paid};
	my $claims = floored($m->{given} * $share);
	my $left = max($m->{left} - $claims, 0);
	my $kept = !$over ? $left : $m->{rolls} ? min($left, $most) : 0;
	return ($kept + $m->{next} + ($over ? $plans{ $m->{plan} }[0] : 0), max($claims - $m->{left}, 0), $claims, $left);
}

# ---------------------------------------------------------------------------
# scenarios

my ($runs, $refunds, $wholly, $owing, $odd, $unlike) = (0) x 6;

sub complain
{
	my ($count, $what) = @_;
	diag($what) if $$count++ < 10;
}

# Plays the steps on an account of their own, and returns the end.
sub play
{
	my ($scenario, @steps) = @_;
	my $name = sprintf 'p:%d', ++$runs;
	my $prefix = $scenario->{rolls} ? 'rolls ' : '';

	set_clock($start);
	$session->value("SELECT credits_open_account('$name')");
	my $id = $session->value("SELECT subscription_id FROM credits_subscribe('$name', '$prefix$scenario->{plan}')");
	foreach my $step (@steps)
	{
		my ($what, $at, @how) = @$step;
		set_clock($at);
		if ($what eq 'spend')
		{
			$session->value("SELECT credits_deduct('$name', $how[0])");
		}
		elsif ($what eq 'change')
		{
			my $columns = 'given, taken, balance';
			my $preview = $session->value(
				"SELECT $columns FROM credits_preview_plan_change($id, '$prefix$how[0]', 'now', '$how[1]')");
			my $made = $session->value("SELECT $columns FROM credits_change_plan($id, '$prefix$how[0]', at => 'now', proration => '$how[1]')");
			complain(\$unlike, "$name: $made, but the preview said $preview") if $made ne $preview;
		}
		elsif ($what eq 'refund')
		{
			$session->value("SELECT credits FROM credits_refund_period($id, $how[0], '2031-03-01 00:00+00', '$how[1]')");
			$refunds++;
		}
	}
	set_clock($scenario->{until});
	# grants expire, and periods are renewed, with the next transaction
	$session->value("SELECT credits_allocate('$name', 1, source => 'gift')");
	return $session->value(qq(
		SELECT s.balance - 1, s.debt, sum(d.claimed) - sum(g.amount) + p.given, p.given, sum(g.remaining), sum(d.owed)
		FROM credits_summary('$name') AS s, credits.periods AS p JOIN credits.grants AS g ON g.group_id = p.grant_id
		LEFT JOIN credits.debts AS d ON d.grant_id = g.id
		WHERE p.subscription_id = $id AND p.starts_at = '2031-03-01 00:00+00'
		GROUP BY s.balance, s.debt, p.given));
}

foreach my $n (1 .. 36)
{
	my @monthly = qw(small big huge free);
	my $plan = $monthly[ rand @monthly ];
	my $over = rand() < 0.4;
	my %scenario = (
		plan => $plan,
		rolls => $over && rand() < 0.7,
		until => $over ? $end + 3600 : $end - 3600);
	my $m = {
		plan => $plan, rolls => $scenario{rolls}, turns => [ [ $start, $plans{$plan}[0] ] ],
		given => 0, left => 0, paid => rational(0), next => 0 };
	my $at = $start;
	my (@before, @after);

	model_give($m, $plan, $plans{$plan}[0]);
	# spends, and changes between them
	foreach (1 .. 1 + int rand 4)
	{
		$at += 3600 + int rand 150_000;
		if (rand() < 0.7 && $m->{left} > 0)
		{
			my $amount = 1 + int rand($m->{left} * (rand() < 0.5 ? 1 : 0.3));
			$m->{left} -= $amount;
			push @before, [ 'spend', $at, $amount ];
		}
		else
		{
			my $to = (grep { $_ ne $m->{plan} } @monthly)[ rand 3 ];
			my $proration = (qw(prorate prorate full none))[ rand 4 ];
			push @before, [ 'change', $at, $to, $proration ];
			model_change($m, $at, $to, $proration);
			$m->{plan} = $to;
		}
	}
	# parts of what was paid by then, in cents
	my $cents = floored($m->{paid} * 100);
	my $all = rand() < 0.3;
	my @money;
	foreach my $k (1 .. 2 + int rand 2)
	{
		my $part = int rand(1 + $cents * (rand() < 0.5 ? 1 : 0.4));
		last if $part == 0;
		push @money, rational($part) / 100;
		$cents -= $part;
	}
	# and the rest, to the next cent
	push @money, rational(-floored((sum0(map { $_->copy } @money) - $m->{paid}) * 100)) / 100 if $all || !@money;
	pop @money if @money && $money[-1] <= 0;
	# changes, between which the refunds come
	foreach my $k (1 .. 1 + int rand 3)
	{
		$at += 3600 + int rand 150_000;
		my $to = !$over && $k > 1 && rand() < 0.4 ? 'weekly' : (grep { $_ ne $m->{plan} } @monthly)[ rand 3 ];
		my $proration = $to eq 'weekly' ? 'prorate' : (qw(prorate prorate full none))[ rand 4 ];
		push @after, [ 'change', $at, $to, $proration ];
		model_change($m, $at, $to, $proration);
		last if $to eq 'weekly';
	}
	# its first week is over before the period would have been
	$scenario{until} = $at + 7200 if $m->{next} || $after[-1][2] eq 'weekly';
	push @after, [ 'nothing', $end + 60 ] if $over;

	my $money = rational(0);
	$money += $_ foreach @money;
	my ($balance, $debt, $claims, $left) = model_end($m, $money, $over);
	$wholly++ if $claims == $m->{given};
	$owing++ if $debt > 0;
	foreach my $order (0 .. 9)
	{
		my @slots = map { $order == 0 ? 0 : $order == 1 ? scalar @after : int rand(1 + @after) } @money;
		my @steps = @before;
		my %of;
		push @{ $of{ $slots[$_] } }, $_ foreach shuffle(0 .. $#money);
		foreach my $slot (0 .. @after)
		{
			my $when = $slot == 0 ? $before[-1][1] + 60 : $after[ $slot - 1 ][1] + 60;
			push @steps, $after[ $slot - 1 ] if $slot > 0;
			push @steps, map { [ 'refund', $when, $money[$_]->numify, "re_$_" ] } @{ $of{$slot} // [] };
		}
		my @is = split /\|/, play(\%scenario, @steps), -1;
		my $own = $over ? 0 : $left;
		my $should = join ' ', $balance, $debt, $claims, $m->{given}, $own, $debt;
		my $is = join ' ', map { $_ eq '' ? 0 : $_ } @is;
		complain(\$odd, "scenario $n, refunds @money at @slots: $is, but should be $should\n"
			  . join "\n", map { "@$_" } @steps)
		  if $is ne $should;
	}
}
is($odd, 0, "$refunds refunds in $runs orders took what the model says");
is($unlike, 0, 'each change was what its preview had said');
cmp_ok($wholly, '>', 2, "$wholly periods were refunded wholly");
cmp_ok($owing, '>', 2, "$owing left a debt");
problems_are($node, '', 'and the log proves it');

$session->quit;
done_testing();
