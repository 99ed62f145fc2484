# Jobs that end in the middle: terminated, or with the whole cluster.  What was
# committed stays, the view says what happened, and the next run goes on.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $accounts = 1000;
my $batch = 100;
my $node = credits_node('jobs');
$node->safe_psql('postgres', qq(
	SET credits.test_clock = '2030-01-01 00:00+00';
	SELECT credits_open_account('account:' || i, 10) FROM generate_series(1, $accounts) AS i;
	SELECT credits_allocate('account:' || i, 5, expires_at => '2030-02-01 00:00+00'),
		   credits_allocate('account:' || i, 3, expires_at => '2030-03-01 00:00+00') FROM generate_series(1, $accounts) AS i;
	CREATE TABLE gate (account_id bigint, kind text);
	CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
	'BEGIN
		IF EXISTS (SELECT FROM gate AS g WHERE g.account_id = NEW.account_id AND g.kind = CASE TG_TABLE_NAME
				WHEN ''events'' THEN to_jsonb(NEW) ->> ''kind''
				ELSE credits.kind_name((to_jsonb(NEW) ->> ''kind_code'')::"char") END) THEN
			PERFORM pg_sleep(1000);
		END IF;
		RETURN NULL;
	END';
	CREATE TRIGGER wait AFTER INSERT ON credits.log FOR EACH ROW EXECUTE FUNCTION wait();
	CREATE TRIGGER wait AFTER INSERT ON credits.events FOR EACH ROW EXECUTE FUNCTION wait();));

# Runs a job until it comes to an account, and lets it be ended there.
sub end_in_the_middle
{
	my ($name, $call, $clock, $kind, $account, $end) = @_;
	my ($job) = $call =~ /(\w+)\(/;

	$node->safe_psql('postgres', "INSERT INTO gate VALUES ($account, '$kind')");
	my $session = CreditsTest::Session->new($node, application_name => 'job');
	$session->query("SET credits.test_clock = '$clock'");
	$session->send("CALL $call");
	ok( wait_until(
			sub {
				$node->safe_psql('postgres', q(
					SELECT count(*) FROM pg_stat_activity
					WHERE application_name = 'job' AND wait_event = 'PgSleep')) eq '1';
			}),
		"$name: it has come to the middle");
	my $before = int(($account - 1) / $batch) * $batch;
	is($node->safe_psql('postgres', "SELECT running, interrupted, done FROM credits.jobs WHERE job = '$job'"),
		"1|f|$before", "$name: the view shows how far it is");
	$end->();
	isnt($session->receive->{code}, '00000', "$name: it has ended");
	$session->quit;
	ok( wait_until(
			sub {
				$node->safe_psql('postgres', "SELECT running, interrupted, done FROM credits.jobs WHERE job = '$job'") eq
				  "0|t|$before";
			}),
		"$name: the view shows that it was cut short");
	$node->safe_psql('postgres', 'TRUNCATE gate');
	return $before;
}

my $terminate = sub {
	$node->safe_psql('postgres', q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'job'));
};
my $kill = sub {
	kill_cluster($node);
	$node->start;
};

my $number = 0;
foreach my $way ([ 'terminated', $terminate ], [ 'killed', $kill ])
{
	my ($name, $end) = @$way;
	my $clock = $number == 0 ? '2030-02-02 00:00+00' : '2030-03-02 00:00+00';
	my $expired = $number * $accounts;

	# all of it is due at one instant, so in the order of the accounts' ids
	my $before = end_in_the_middle("settle, $name", "credits_settle($batch)", $clock, 'expiration', 450, $end);
	is($node->safe_psql('postgres', q(SELECT count(*) FROM credits.transactions WHERE kind = 'expiration')),
		$expired + $before, "settle, $name: what was committed stays");
	is($node->safe_psql('postgres', "SET credits.test_clock = '$clock'; CALL credits_settle($batch)"),
		($accounts - $before) . '|0', "settle, $name: the next run goes on");
	is($node->safe_psql('postgres', "SELECT interrupted, done, failed FROM credits.jobs WHERE job = 'credits_settle'"),
		'f|' . ($accounts - $before) . '|0', "settle, $name: and is through");
	is($node->safe_psql('postgres', 'SELECT count(*), sum(expired) FROM credits.accounts'),
		"$accounts|" . $accounts * ($number == 0 ? 5 : 8), "settle, $name: each account once");
	$number++;
}

$number = 0;
foreach my $way ([ 'terminated', $terminate ], [ 'killed', $kill ])
{
	my ($name, $end) = @$way;
	my $days = $number == 0 ? 10 : 20;
	my $clock = "2030-05-$days 00:00+00";
	$node->safe_psql('postgres', qq(
		SET credits.test_clock = '2030-05-01 00:00+00';
		SELECT credits_allocate('account:' || i, 1, expires_at => '$clock'::timestamptz + interval '5 days')
		FROM generate_series(1, $accounts) AS i));
	my $before = end_in_the_middle("warn, $name", "credits_warn($batch)", $clock, 'grant_expiring', 450, $end);
	is($node->safe_psql('postgres', "SET credits.test_clock = '$clock'; CALL credits_warn($batch)"),
		($accounts - $before) . '|0', "warn, $name: the next run goes on");
	is($node->safe_psql('postgres', qq(
			SELECT count(*), count(DISTINCT (account_id, detail->'grant_id')) FROM credits.events
			WHERE kind = 'grant_expiring' AND created_at = '$clock')),
		"$accounts|$accounts", "warn, $name: of each grant once");
	$number++;
}

problems_are($node, '', 'and the ledger is right');
$node->stop;
done_testing();
