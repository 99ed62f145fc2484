# Renewal on touch: it makes no difference whether the job renews each subscription
# at its instant, or never runs and each account is renewed when it is changed.
#
# Two databases are told the same, at the same instants.  In one, the job runs at each
# instant at which a subscription is due.  In the other it never runs; there, accounts
# are also touched in between, and nothing of that may be seen: what both show is the
# same at any instant, and so is what they have recorded in the end.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{CREDITS_SEED} // 20310131;
srand $seed;
note "CREDITS_SEED=$seed";

my $node = credits_node('touch');

my %plans = (
	day => "3, 'day', rollover => 'maximum', rollover_maximum => 5, rollover_periods => 3",
	week => "70, 'week', rollover => 'share', rollover_share => 0.33, rollover_periods => 2",
	month => "300, rollover => 'maximum', rollover_maximum => 120",
	ever => "200, rollover => 'maximum', rollover_maximum => 90, rollover_minimum => 5, clear => '{rollover_periods}'",
	total => "200, rollover => 'maximum', rollover_maximum => 90, rollover_total => 150, clear => '{rollover_periods}'",
	again => "100, rollover => 'maximum', rollover_maximum => 260, rollover_again => true",
	plain => "50, priority => 5, price => 9.99, currency => 'EUR'",
	trial => "120, 'month', 2, trial => '10 days', trial_credits => 12",
	year => "4000, 'year', rollover => 'maximum'",
	latest => "80, catch_up => 'latest', rollover => 'maximum', rollover_maximum => 30",
	grace => "90, grace => '9 days', rollover => 'maximum', rollover_maximum => 70");
my @plans = sort keys %plans;
# a bound on all that was rolled over cuts off what is open when it is renewed: that may have
# been held in time, or of another plan
my $special = qr/grace|latest|total/;
my @zones = ('UTC', 'America/New_York', 'Asia/Kolkata', 'Pacific/Apia');
my $accounts = $ENV{CREDITS_ACCOUNTS} // 24;
my $hours = 24 * 400;
my $instants = $ENV{CREDITS_INSTANTS} // 220;

# hours after the start
sub at
{
	my ($hour) = @_;
	return sprintf q('2031-01-31 00:00+00'::timestamptz + interval '%s hours'), $hour;
}

sub pick { return $_[ int rand @_ ] }

my @subscriptions;
my @setup = (map { "SELECT credits_set_plan('$_', $plans{$_})" } @plans);
my (%latest, %total);
foreach my $n (1 .. $accounts)
{
	push @setup, "SELECT credits_open_account('$n', 20)";
	foreach my $k (0 .. int rand 3)
	{
		my $plan = pick(@plans);
		my $collection = $plan eq 'grace' ? 'payment' : 'clock';
		$latest{$n} = 1 if $plan eq 'latest';
		$total{$n} = 1 if $plan eq 'total';
		push @subscriptions, { id => "$n:$k", account => $n, plan => $plan, paid => $plan eq 'grace' };
		my $start = int rand 24 * 60;
		push @setup, "SELECT credits_subscribe('$n', '$plan', external_id => '$n:$k', collection => '$collection', "
		  . sprintf "timezone => '%s', starts_at => %s)", pick(@zones), at($start);
	}
}

my %world;
foreach my $name (qw(job touch))
{
	$node->safe_psql('postgres', "CREATE DATABASE $name");
	create_credits($node, $name);
	$world{$name} = CreditsTest::Session->new($node, dbname => $name);
	$world{$name}->value("SET credits.test_clock = '2031-01-31 00:00+00'; SET timezone = 'UTC'; SET client_min_messages = error");
	$world{$name}->value($_) foreach @setup;
}

# The job, at each instant at which it has something to do.
my $run_job = q(DO $$
	DECLARE
		due timestamptz;
		done bigint;
		failed bigint;
	BEGIN
		LOOP
			SELECT min(s.due_at) INTO due FROM credits.subscriptions AS s;
			EXIT WHEN due IS NULL OR due > %s;
			PERFORM set_config('credits.test_clock', due::text, false);
			CALL credits_renew(1000, done, failed);
			IF failed > 0 THEN
				RAISE EXCEPTION 'not renewed';
			END IF;
		END LOOP;
	END
	$$);

sub id_of { return "(SELECT id FROM credits.subscriptions WHERE external_id = '$_[0]->{id}')" }

# Something that the application does.
sub random_call
{
	my $n = 1 + int rand $accounts;
	my $what = int rand 20;
	my $amount = 1 + int rand pick(6, 60, 400);
	my $s = pick(@subscriptions);
	my $hold = "SELECT hold_id FROM credits.holds WHERE account = '$n' AND status = 'open' ORDER BY expires_at, reserved LIMIT 1";
	return "SELECT (credits_deduct('$n', $amount)).balance" if $what < 7 or ($what < 10 and $total{$n});
	return "SELECT (credits_hold('$n', $amount, expires_in => '@{[ 1 + int rand 50 ]} days')).balance" if $what < 10;
	return "SELECT (credits_capture(($hold))).balance" if $what == 10;
	return "SELECT (credits_release(($hold))).balance" if $what == 11;
	return sprintf "SELECT (credits_transfer('%d', '%d', %d)).balance", $n, 1 + $n % $accounts, 1 + $amount / 8
	  if $what < 14;
	return "SELECT ok, code FROM credits_try_deduct('$n', $amount)" if $what == 14;
	return "SELECT o.ok, o.code, (o.receipt).amount FROM credits_deduct_many('[{\"account\": \"$n\", \"amount\": 2}, "
	  . "{\"account\": \"@{[ 1 + $n % $accounts ]}\", \"amount\": $amount}]'::jsonb) AS o"
	  if $what == 15;
	return 'SELECT (credits_mark_paid(' . id_of($s) . ')).balance' if $s->{paid};
	return 'SELECT given, taken, scheduled FROM credits_change_plan('
	  . id_of($s) . sprintf ", '%s', at => '%s')", pick(grep { !/$special/ } @plans), pick('now', 'period_end')
	  if $what < 18 and $s->{plan} !~ $special;
	return 'SELECT status, balance FROM credits_cancel_subscription('
	  . id_of($s) . sprintf ", '%s', '%s')", pick('now', 'period_end'), pick('keep', 'expire')
	  if $what == 18 and rand() < 0.4;
	return 'SELECT status FROM credits_pause_subscription(' . id_of($s) . ')' if $what == 18;
	return 'SELECT status, balance FROM credits_resume_subscription(' . id_of($s) . ')';
}

# What an account shows, without ids.
sub shown
{
	my ($n) = @_;
	return "SELECT credits_balance('$n'), s.balance, s.held, s.expiring_amount, s.expiring_at, "
	  . 's.spent, '
	  . "credits_balance_at('$n', credits.now() + interval '40 days'), "
	  . "(SELECT string_agg(concat_ws(' ', g.source, g.status, g.amount, g.remaining, g.effective_at, g.expires_at, "
	  . "g.rolled_over, g.price, g.priority), ', ') FROM credits_grants('$n', 1000) AS g) "
	  . "FROM credits_summary('$n') AS s";
}

# What is recorded, without ids.
my $recorded = q(
	SELECT a.name, a.balance, a.held, a.spent, a.renews_at FROM credits.accounts AS a ORDER BY a.id;
	-- credits that a subscription takes with it when it ends have expired, if that is recorded later
	SELECT a.name, g.source, g.amount, g.remaining, g.effective_at, g.expires_at,
		   CASE WHEN g.status IN ('expired', 'voided') THEN 'gone' ELSE g.status END, g.priority, g.price
	FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id
	WHERE g.status NOT IN ('expired', 'voided') OR g.account_id NOT IN (SELECT s.account_id FROM credits.subscriptions AS s WHERE s.collection = 'payment')
	ORDER BY a.id, 2, 5, 6, 3, 4, 7, 8;
	SELECT s.external_id, s.status, s.period_number, s.period_start, s.period_end, s.due_at, s.cancel_at, s.ended_at, p.name
	FROM credits.subscriptions AS s JOIN credits.plans AS p ON p.id = s.plan_id ORDER BY s.id;
	SELECT s.external_id, p.number, p.starts_at, p.ends_at, p.status, p.credits, p.given,
		   CASE WHEN p.rolled IS NOT NULL THEN p.unused END, p.rolled
	FROM credits.periods AS p JOIN credits.subscriptions AS s ON s.id = p.subscription_id ORDER BY s.id, p.starts_at;
	SELECT a.name, e.kind, e.detail - 'subscription_id' FROM credits.events AS e JOIN credits.accounts AS a ON a.id = e.account_id
	WHERE e.kind ~ '^(subscription|trial|renewal|plan)_' ORDER BY a.id, e.kind, 3);

my @hours = sort { $a <=> $b } map { int rand $hours } 1 .. $instants;
my %touch_at;    # those that skip what they missed are touched in each period
foreach my $n (keys %latest)
{
	for (my $hour = 0; $hour < $hours; $hour += 24 * (1 + int rand 24))
	{
		push @{ $touch_at{$hour} }, $n;
	}
}
my (@differences, %codes);
my $calls = 0;
my %is_instant = map { $_ => 1 } @hours;
foreach my $hour (sort { $a <=> $b } keys %{ { %is_instant, %touch_at } })
{
	my $clock = at($hour);
	my $set = "SELECT set_config('credits.test_clock', ($clock)::text, false)";
	$world{job}->value(sprintf $run_job, $clock) if $is_instant{$hour};
	$world{job}->value($set) if $is_instant{$hour};
	$world{touch}->value($set);
	$world{touch}->value("SELECT credits_set_alerts('$_', '')") foreach @{ $touch_at{$hour} // [] };
	next unless $is_instant{$hour};
	# a posting that changes nothing but what is due, and so nothing that was shown
	if (rand() < 0.3)
	{
		my $n = 1 + int rand $accounts;
		my $totals = shown($n) =~ s/^SELECT /SELECT s.granted, s.expired, s.debt, /r;
		my $before = $world{touch}->value($totals);
		$world{touch}->value("SELECT credits_set_alerts('$n', '')");
		my $after = $world{touch}->value($totals);
		push @differences, "$hour: account $n is\n$before, once touched\n$after" if $before ne $after;
	}
	foreach my $n ((shuffle 1 .. $accounts)[ 0 .. 4 ])
	{
		my %seen = map { $_ => $world{$_}->value(shown($n)) } qw(job touch);
		push @differences, "$hour: account $n is\n$seen{job}, touched\n$seen{touch}" if $seen{job} ne $seen{touch};
	}
	foreach my $call (map { random_call() } 0 .. int rand 4)
	{
		my %answer = map { $_ => $world{$_}->query($call) } qw(job touch);
		my %said = map { $_ => join ' ', $answer{$_}->{code}, @{ $answer{$_}->{rows} } } qw(job touch);
		push @differences, "$hour: $call: $said{job}, touched $said{touch}" if $said{job} ne $said{touch};
		$codes{ $answer{job}->{code} }++;
		$calls++;
	}
	last if @differences;
}
is(join("\n", @differences), '', 'the same at any instant');
note "$calls calls: ", join ', ', map { "$_ $codes{$_}" } sort keys %codes;
is(join(' ', grep { !/^(00000|PT402|PT404|PT409|22004)$/ } keys %codes), '', 'no other errors');

# the last one touches all
my $end = at($hours);
$world{job}->value(sprintf $run_job, $end);
foreach my $name (sort keys %world)
{
	$world{$name}->value("SELECT set_config('credits.test_clock', ($end)::text, false)");
	$world{$name}->value("SELECT credits_set_alerts(name, '') FROM credits.accounts ORDER BY id");
}
my %recorded = map { $_ => [ map { split /\n/ } $world{$_}->value($recorded) ] } keys %world;
my %count;
$count{$_}++ foreach @{ $recorded{job} };
$count{$_}-- foreach @{ $recorded{touch} };
is(join("\n", map { ($count{$_} > 0 ? 'only by the job: ' : 'only touched: ') . $_ } grep { $count{$_} } sort keys %count),
	'', 'and the same recorded in the end');
is($world{touch}->value("SELECT count(*) FROM credits.job_runs WHERE job = 'credits_renew'"), '0', 'without the job');
cmp_ok($world{touch}->value('SELECT count(*) FROM credits.periods'), '>', 200, 'of many periods');
problems_are($node, '', "$_: credits_verify is clean", $_) foreach sort keys %world;

$_->quit foreach values %world;
$node->stop;
done_testing();
