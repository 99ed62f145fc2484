# The job that renews: years late, ten sessions of it at once, some of them
# terminated, and the cluster killed.  Each period is given once, and it makes
# no difference who gave it, or when.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $accounts = $ENV{CREDITS_SUBSCRIPTIONS} // 60;
my $node = credits_node('renew', conf => "fsync = on\n");

my @plans = (
	"'day', 10, 'day', rollover => 'maximum', rollover_maximum => 7, rollover_periods => 2",
	"'week', 70, 'week', rollover => 'share', rollover_share => 0.33, rollover_periods => 3",
	"'month', 300, rollover => 'maximum', clear => '{rollover_periods}', rollover_minimum => 3",
	"'year', 4000, 'year', trial => '1 month', trial_credits => 40",
	"'latest', 300, catch_up => 'latest'",
	"'none', 30, 'month', 2, price => 10, currency => 'EUR'");

# Makes a database whose accounts have subscriptions of each kind, and have
# spent something of their first period.
sub subscribed
{
	my ($dbname) = @_;
	$node->safe_psql('postgres', "CREATE DATABASE $dbname");
	create_credits($node, $dbname);
	$node->safe_psql($dbname, join ";\n",
		"SET credits.test_clock = '2024-01-31 12:00+00'",
		(map { "SELECT credits_set_plan($_)" } @plans),
		"SELECT o.*, s.* FROM generate_series(1, $accounts) AS i,
			credits_open_account('account:' || i) AS o,
			credits_subscribe('account:' || i, (ARRAY['day', 'week', 'month', 'year', 'latest', 'none'])[1 + i % 6],
				timezone => (ARRAY['UTC', 'America/New_York', 'Asia/Kolkata'])[1 + i % 3]) AS s",
		"SELECT credits_deduct(name, 1 + id % 9) FROM credits.accounts");
}

# What is the same whoever renewed, and whether late or not: the periods, and
# what can be spent until when.
sub outcome
{
	my ($dbname, $clock) = @_;
	return $node->safe_psql($dbname, qq(
		SET credits.test_clock = '$clock';
		CALL credits_settle() \\gset
		SELECT p.subscription_id, p.number, p.starts_at, p.ends_at, p.status, p.credits, p.given, p.rolled
		FROM credits.periods AS p ORDER BY p.subscription_id, p.starts_at;
		SELECT a.name, a.balance, a.granted, a.expired, s.status, s.period_number, s.period_end, s.due_at,
			   (SELECT array_agg((g.amount, g.remaining, g.effective_at, g.expires_at, g.priority, g.price)
					ORDER BY g.effective_at, g.expires_at, g.amount)
				FROM credits.grants AS g WHERE g.account_id = a.id AND g.status = 'open')
		FROM credits.accounts AS a JOIN credits.subscriptions AS s ON s.account_id = a.id ORDER BY a.id;
		SELECT account_id, kind, detail FROM credits.events WHERE kind LIKE 'subscription%' OR kind LIKE 'trial%'
		ORDER BY account_id, kind, detail->>'period_start'));
}

sub counted
{
	my ($dbname, $what) = @_;
	return $node->safe_psql($dbname, "SELECT $what FROM credits.periods");
}

# in time: whoever is due, every few hours, for half a year
subscribed('in_time');
my $half_a_year = '2024-07-15 00:00+00';
$node->safe_psql('in_time', qq(
	SELECT format('SET credits.test_clock = %L; CALL credits_renew()', at)
	FROM generate_series('2024-01-31 12:00+00'::timestamptz, '$half_a_year', '6 hours') AS at \\gexec));
subscribed('late');
$node->safe_psql('late', "SET credits.test_clock = '$half_a_year'; CALL credits_renew(batch_size => 7)");
# those that catch up with the latest period alone differ, by what they are for
my $periods = q(string_agg(format('%s %s %s %s %s %s', subscription_id, number, starts_at, ends_at, status, given), E'\n'
	ORDER BY subscription_id, number) FILTER (WHERE plan_id <> 5));
is(counted('late', $periods), counted('in_time', $periods), 'late by half a year: the same periods');
my $open = q(SELECT a.name, g.amount, g.remaining, g.effective_at, g.expires_at, g.source
	FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id
	WHERE g.status = 'open' AND g.account_id % 6 <> 4 ORDER BY a.id, g.effective_at, g.expires_at, g.amount);
$node->safe_psql($_, "SET credits.test_clock = '$half_a_year'; CALL credits_settle()") for qw(late in_time);
is($node->safe_psql('late', $open), $node->safe_psql('in_time', $open), 'and the same credits in the end');
problems_are($node, '', 'late: credits_verify is clean', 'late');
problems_are($node, '', 'in time: credits_verify is clean', 'in_time');

# five years late: one session, and ten at once
my $years = '2029-02-10 00:00+00';
subscribed('alone');
$node->safe_psql('alone', "SET credits.test_clock = '$years'; CALL credits_renew()");
is($node->safe_psql('alone', "SELECT count(*) FROM credits.subscriptions WHERE due_at <= '$years'"),
	'0', 'five years late: nothing is due after one run');

subscribed('ten');
my @sessions = map { CreditsTest::Session->new($node, dbname => 'ten') } 1 .. 10;
$_->query("SET credits.test_clock = '$years'") for @sessions;
$_->send('CALL credits_renew(batch_size => 3)') for @sessions;
is($_->receive->{code}, '00000', 'a session of ten went through') for @sessions;
cmp_ok(counted('ten', 'count(*)'), '>', 10 * $accounts, 'they have renewed');
# what one had in its hands the others left alone
$node->safe_psql('ten', "SET credits.test_clock = '$years'; CALL credits_renew()");
is(outcome('ten', $years), outcome('alone', $years), 'ten at once come to the same as one');
problems_are($node, '', 'ten at once: credits_verify is clean', 'ten');
problems_are($node, '', 'alone: credits_verify is clean', 'alone');

# in transactions that are rolled back, and with backends that are terminated
subscribed('ended');
$node->safe_psql('ended', "SET credits.test_clock = '$years'; BEGIN; CALL credits_renew(); ROLLBACK");
is(counted('ended', 'count(*)'), $accounts, 'a rollback leaves nothing');
is($node->safe_psql('ended', q(SELECT count(*) FROM credits.events WHERE kind = 'subscription_renewed')), '0',
	'and tells nobody');
$_->quit for @sessions;
for my $round (1 .. 4)
{
	my $before = counted('ended', 'count(*)');
	@sessions = map { CreditsTest::Session->new($node, dbname => 'ended', application_name => 'job') } 1 .. 3;
	$_->query("SET credits.test_clock = '$years'") for @sessions;
	$_->send('CALL credits_renew(batch_size => 2)') for @sessions;
	# somewhere behind what was committed first
	ok(wait_until(sub { counted('ended', 'count(*)') > $before }), "round $round: it has renewed");
	$node->safe_psql('ended', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'job'));
	$_->receive for @sessions;
	$_->quit for @sessions;
}
kill_cluster($node);
$node->start;
cmp_ok(counted('ended', 'count(*)'), '>', $accounts, 'what was committed stays');
problems_are($node, '', 'terminated and killed: credits_verify is clean', 'ended');
$node->safe_psql('ended', "SET credits.test_clock = '$years'; CALL credits_renew()");
is(outcome('ended', $years), outcome('alone', $years), 'then it goes on, and comes to the same');

# no unique key is all that stands between two renewals of one period
is($node->safe_psql('ended', q(
	SELECT count(*) FROM credits.transactions AS t
	WHERE t.kind = 'allocation' AND t.terms ? 'period_start'
	GROUP BY t.terms->>'subscription_id', t.terms->>'period_start', t.terms ? 'rolled' HAVING count(*) > 1)),
	'', 'the log has each period once');

$node->stop;
done_testing();
