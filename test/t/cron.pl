# The jobs of pg_cron, on real clusters: that it is told what to run, wherever
# it lives, and that it then runs it with no help.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# without it
my $plain = credits_node('plain');
my $session = CreditsTest::Session->new($plain, verbosity => 'verbose');
my $answer = $session->query('SELECT credits_schedule()');
is($answer->{code}, '55000', 'pg_cron is not loaded');
like("@{$answer->{messages}}", qr/HINT:.*shared_preload_libraries.*credits_settle/, 'the hint tells both ways out');
is($session->query('SELECT credits_unschedule()')->{code}, '55000', 'nothing to unschedule either');
$session->quit;
$plain->stop;

my $sharedir = `pg_config --sharedir`;
chomp $sharedir;
unless (-f "$sharedir/extension/pg_cron.control")
{
	diag 'pg_cron is not installed: the rest is skipped';
	done_testing();
	exit;
}

# One cluster where pg_cron runs jobs in background workers and lives in one of
# two databases with credits, and one where it connects as a client and lives
# in a database of its own.
my $workers = credits_node('workers', conf => <<'CONF');
shared_preload_libraries = 'pg_cron'
cron.database_name = 'postgres'
cron.use_background_workers = on
credits.expiry_warning = '1 day'
max_worker_processes = 20
CONF
my $clients = PostgreSQL::Test::Cluster->new('clients');
$clients->init;
$clients->append_conf('postgresql.conf', <<"CONF");
shared_preload_libraries = 'pg_cron'
cron.database_name = 'jobs'
cron.host = '@{[ $clients->host ]}'
credits.expiry_warning = '1 day'
max_worker_processes = 20
CONF
$clients->start;
$clients->safe_psql('postgres', 'CREATE DATABASE jobs');
$clients->safe_psql('postgres', 'CREATE SCHEMA billing; CREATE EXTENSION credits SCHEMA billing');
$workers->safe_psql('postgres', q(CREATE DATABASE "other app"));
create_credits($workers, 'other app');

# loaded, but not installed
sqlstate_is($workers, 'SELECT credits_schedule()', '55000', 'pg_cron is not installed here');
sqlstate_is($workers, 'SELECT credits_schedule()', '55000', 'nor there', dbname => 'other app');
$workers->safe_psql('postgres', 'CREATE EXTENSION pg_cron');
# the launcher comes back by itself once its database is there
$clients->poll_query_until('jobs', q(SELECT true)) or die;
$clients->safe_psql('jobs', 'CREATE EXTENSION pg_cron');

sub jobs
{
	my ($node, $dbname) = @_;
	return $node->safe_psql($dbname, q(
		SELECT jobname LIKE 'credits_settle%', schedule, command, database, username = current_user, active
		FROM cron.job WHERE jobname LIKE 'credits_settle%' ORDER BY database));
}

# All jobs of a database of credits, without their schedules.
sub all_jobs
{
	my ($node, $cron_database, $dbname) = @_;
	return $node->safe_psql($cron_database, qq(
		SELECT command, schedule FROM cron.job WHERE database = '$dbname' ORDER BY command));
}

sub expected_jobs
{
	my ($schema) = @_;
	return join "\n", map {"CALL $schema.credits_$_"}
	  'archive()|45 * * * *', 'housekeep()|30 * * * *', 'renew()|* * * * *', 'settle()|* * * * *', 'warn()|*/10 * * * *', 'watch()|*/10 * * * *';
}

# in the same database
is($workers->safe_psql('postgres', 'SELECT credits_schedule()'), '6', 'scheduled in the same database');
is($workers->safe_psql('postgres', 'SELECT credits_schedule()'), '0', 'once more changes nothing');
is(jobs($workers, 'postgres'), 't|* * * * *|CALL public.credits_settle()|postgres|t|t', 'the job');
is(all_jobs($workers, 'postgres', 'postgres'), expected_jobs('public'), 'and the others');

# from another
my $there = 'other app';
is($workers->safe_psql($there, 'SELECT credits_schedule()'), '6', 'scheduled from another database');
is($workers->safe_psql($there, 'SELECT credits_schedule()'), '0', 'once more changes nothing');
is(jobs($workers, 'postgres'),
	"t|* * * * *|CALL public.credits_settle()|other app|t|t\n"
	  . 't|* * * * *|CALL public.credits_settle()|postgres|t|t', 'both jobs');
is($clients->safe_psql('postgres', 'SELECT billing.credits_schedule()'), '6', 'scheduled from another schema');
is($clients->safe_psql('postgres', 'SELECT billing.credits_schedule()'), '0', 'once more changes nothing');
is(jobs($clients, 'jobs'), 't|* * * * *|CALL billing.credits_settle()|postgres|t|t',
	'the job names the schema');
is(all_jobs($clients, 'jobs', 'postgres'), expected_jobs('billing'), 'and so do the others');

# where pg_cron logs in
sub hosts
{
	my ($node, $dbname) = @_;
	return $node->safe_psql($dbname, q(SELECT string_agg(DISTINCT nodename, ' ') FROM cron.job));
}
is(hosts($workers, 'postgres'), 'localhost', 'workers need not log in');
is(hosts($clients, 'jobs'), $clients->host, 'cron.host counts, if it is set');

# other schedules
is($workers->safe_psql($there, q(SELECT credits_schedule('*/5 * * * *'))), '1', 'another schedule is a change');
is($workers->safe_psql($there, q(SELECT credits_schedule('*/5 * * * *'))), '0', 'once');
is($workers->safe_psql('postgres', 'SELECT count(*) FROM cron.job'), '12', 'and replaces the job');
sqlstate_is($workers, q(SELECT credits_schedule('whenever')), '22023', 'no schedule');
sqlstate_is($workers, q(SELECT credits_schedule('whenever')), '22023', 'nor from another database', dbname => $there);
sqlstate_is($workers, q(SELECT credits_schedule('* * * * *', 'credits_sleep')), '22023', 'no job');
is($workers->safe_psql($there, 'SELECT schedule, role FROM credits.jobs'),
	"*/5 * * * *|postgres\n* * * * *|postgres\n*/10 * * * *|postgres\n30 * * * *|postgres\n45 * * * *|postgres\n*/10 * * * *|postgres",
	'the view tells the schedules, far from pg_cron');
is($workers->safe_psql($there, 'SELECT credits_schedule()'), '1', 'and back');
is($workers->safe_psql($there, 'SELECT DISTINCT problem FROM credits.jobs'),
	'registered, never ran: pg_cron has no record of a run', 'and that they have not run yet');
is($workers->safe_psql('postgres', 'SELECT DISTINCT problem FROM credits.jobs'),
	'registered, never ran: pg_cron has no record of a run', 'also where pg_cron is');
is($workers->safe_psql($there, q(SELECT credits_unschedule(job => 'credits_warn'))), '1', 'one job less');
is($workers->safe_psql($there, q(SELECT schedule IS NULL FROM credits.jobs WHERE job = 'credits_warn')), 't',
	'the view knows');
foreach my $place ([ $workers, 'postgres', '' ], [ $workers, $there, '' ], [ $clients, 'postgres', 'billing.' ])
{
	my ($node, $dbname, $schema) = @$place;
	is($node->safe_psql($dbname, qq(
		SELECT sum(${schema}credits_schedule('* * * * *', job))
		FROM unnest(ARRAY['credits_warn', 'credits_housekeep']) AS j (job))), '2', "$dbname: every minute");
}

# in a transaction that is rolled back, where pg_cron lives in the same database
$workers->safe_psql('postgres', q(BEGIN; SELECT credits_unschedule(); ROLLBACK));
is($workers->safe_psql('postgres', 'SELECT count(*) FROM cron.job'), '12', 'unscheduled and rolled back');
is($workers->safe_psql('postgres', 'SELECT count(schedule) FROM credits.jobs'), '6', 'in the view too');

# Grants that run out soon, one in an account that cannot be settled, and one
# that begins soon.
foreach my $place ([ $workers, 'postgres', '' ], [ $workers, $there, '' ], [ $clients, 'postgres', 'billing.' ])
{
	my ($node, $dbname, $schema) = @$place;
	$node->safe_psql($dbname, qq(
		SELECT ${schema}credits_open_account('poisoned');
		SELECT ${schema}credits_allocate('poisoned', 5, expires_at => now() + interval '0.5 s');
		SELECT ${schema}credits_open_account('a');
		SELECT ${schema}credits_allocate('a', 30, expires_at => now() + interval '1 s');
		SELECT ${schema}credits_allocate('a', 7, effective_at => now() + interval '1 s');
		SELECT ${schema}credits_open_account('b');
		SELECT ${schema}credits_allocate('b', 11, expires_at => now() + interval '1 s');
		SELECT ${schema}credits_open_account('c');
		SELECT ${schema}credits_allocate('c', 13, expires_at => now() + interval '1 day 1 s');
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN IF credits.kind_name(NEW.kind_code) = ''expiration'' THEN RAISE EXCEPTION ''poisoned''; END IF; RETURN NULL; END';
		CREATE TRIGGER refuse AFTER INSERT ON credits.log FOR EACH ROW
			WHEN (NEW.account_id = 1) EXECUTE FUNCTION refuse();));
	is($node->safe_psql($dbname, q(SELECT id FROM credits.accounts WHERE name = 'poisoned')), '1',
		"$dbname: the trigger stands on the right account");
}

# With Debian's access rules, and pg_cron as it comes: by TCP a password is asked for, by
# the socket the role is let in that is called like the server's user.
my $debian = PostgreSQL::Test::Cluster->new('debian');
$debian->init;
$debian->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'pg_cron'
listen_addresses = '127.0.0.1'
CONF
unlink $debian->data_dir . '/pg_hba.conf';
$debian->append_conf('pg_hba.conf', <<'CONF');
local all all peer
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
CONF
$debian->start;
$debian->safe_psql('postgres', 'CREATE EXTENSION pg_cron; CREATE DATABASE app; CREATE ROLE operator LOGIN');
create_credits($debian, $_) foreach qw(postgres app);
is($debian->safe_psql('postgres', 'SELECT credits_schedule()'), '6', 'scheduled by the superuser');
is(hosts($debian, 'postgres'), $debian->host, 'for the socket');
is($debian->safe_psql('postgres', 'SELECT credits_schedule()'), '0', 'once more changes nothing');
$debian->safe_psql('postgres', q(
	SELECT credits_unschedule();
	SELECT cron.schedule('credits_settle in postgres', '* * * * *', 'CALL public.credits_settle()')));
is($debian->safe_psql('postgres', 'SELECT credits_schedule()'), '6', 'what was registered otherwise is mended');
is(hosts($debian, 'postgres'), $debian->host, 'all for the socket');
# a job that has no turn while this runs, whatever the time of day
is($debian->safe_psql('postgres', q(SELECT credits_schedule('0 0 29 2 *', 'credits_warn'))), '1', 'one for leap days');

my ($grants) = slurp_file("$FindBin::RealBin/../../doc/schedule.md") =~ /^(GRANT USAGE ON SCHEMA cron .*?)^```/ms;
$debian->safe_psql('app', 'GRANT credits_admin TO operator');
$debian->safe_psql('postgres', $grants =~ s/my_operator/operator/gr);
is($debian->safe_psql('app', 'SET ROLE operator; SELECT credits_schedule()'), '6',
	'scheduled from another database by another role, with the privileges that the page names');

# Wait for the next full minute and a little.
foreach my $place ([ $workers, 'postgres', '' ], [ $workers, $there, '' ], [ $clients, 'postgres', 'billing.' ])
{
	my ($node, $dbname, $schema) = @$place;
	my $name = $node->name . " $dbname";
	ok( wait_until(
			sub {
				$node->safe_psql($dbname, q(
					SELECT count(*) FROM credits.transactions WHERE kind IN ('expiration', 'activation'))) == 3;
			},
			80, 0.5),
		"$name: the job settles what is due");
	is($node->safe_psql($dbname, q(SELECT name, balance, expired FROM credits.accounts ORDER BY name)),
		"a|7|30\nb|0|11\nc|13|0\npoisoned|5|0", "$name: to the right balances");
	is($node->safe_psql($dbname, "SELECT ${schema}credits_balance('poisoned')"), '0',
		"$name: what could not be settled cannot be spent");
	cmp_ok($node->safe_psql($dbname, q(SELECT count(*) FROM credits.events WHERE kind = 'settle_failed')),
		'>=', 1, "$name: and is reported");
	is($node->safe_psql($dbname, "SELECT count(*) FROM ${schema}credits_verify()"), '0', "$name: verify");
	is($node->safe_psql($dbname, q(SELECT account_id, detail->>'grant_id' FROM credits.events WHERE kind = 'grant_expiring')),
		'4|5', "$name: the job that warns did, once");
	is($node->safe_psql($dbname, q(
			SELECT job, running, interrupted, failed, error_code, error FROM credits.jobs
			WHERE job IN ('credits_settle', 'credits_housekeep'))),
		"credits_settle|0|f|1|P0001|poisoned\ncredits_housekeep|0|f|0||", "$name: the view says how it went");
}
foreach my $place ([ $workers, 'postgres' ], [ $clients, 'jobs' ])
{
	my ($node, $dbname) = @$place;
	ok( wait_until(
			sub {
				$node->safe_psql($dbname, q(
					SELECT string_agg(DISTINCT status, ' '), count(DISTINCT command) >= 4 FROM cron.job_run_details)) eq
				  'succeeded|t';
			},
			10, 0.5),
		$node->name . ': pg_cron says so too');
}

ok( wait_until(
		sub {
			$debian->safe_psql('app', q(SELECT problem FROM credits.jobs WHERE job = 'credits_settle')) =~
			  /^registered, never ran: connection failed.*operator.*localhost/;
		},
		80, 0.5),
	'which is not let in, as the view says');
ok( wait_until(
		sub {
			$debian->safe_psql('postgres', q(
				SELECT count(*) FROM credits.jobs
				WHERE job IN ('credits_settle', 'credits_renew') AND ended_at IS NOT NULL AND problem IS NULL)) == 2;
		},
		20, 0.5),
	'while the superuser is') or diag($debian->safe_psql('postgres', 'SELECT * FROM cron.job_run_details'));
like($debian->safe_psql('postgres', 'CREATE ROLE auditor; GRANT credits_auditor TO auditor;
		SET ROLE auditor; SELECT problem FROM credits.jobs WHERE job = $$credits_warn$$'),
	qr/^registered, never ran/, 'and of a job that had no turn yet, to an auditor, too');

is($workers->safe_psql($there, 'SELECT credits_unschedule()'), '6', 'unscheduled from another database');
is($workers->safe_psql($there, 'SELECT credits_unschedule()'), '0', 'once');
is(jobs($workers, 'postgres'), 't|* * * * *|CALL public.credits_settle()|postgres|t|t',
	'which leaves the other job alone');
is($workers->safe_psql('postgres', 'SELECT credits_unschedule()'), '6', 'unscheduled in the same database');
is($workers->safe_psql('postgres', 'SELECT count(*) FROM cron.job'), '0', 'no job is left');
is($clients->safe_psql('postgres', 'SELECT billing.credits_unschedule()'), '6', 'unscheduled from another schema');

# an administrator who is no superuser, once pg_cron is granted to it
$workers->safe_psql('postgres', q(
	CREATE ROLE admin LOGIN IN ROLE credits_admin;
	CREATE ROLE app LOGIN IN ROLE credits_app;));
sqlstate_is($workers, 'SELECT credits_schedule()', '42501', 'an administrator needs the right to use pg_cron',
	user => 'admin');
sqlstate_is($workers, 'SELECT credits_schedule()', '42501', 'from another database too',
	user => 'admin', dbname => $there);
$workers->safe_psql('postgres', 'GRANT USAGE ON SCHEMA cron TO admin; GRANT SELECT ON cron.job TO admin');
sqlstate_is($workers, 'SELECT credits_schedule()', '00000', 'and may then', user => 'admin');
is($workers->safe_psql('postgres', 'SELECT DISTINCT username FROM cron.job'), 'admin', 'as itself');
sqlstate_is($workers, 'SELECT credits_unschedule()', '00000', 'and back', user => 'admin');
sqlstate_is($workers, 'SELECT credits_schedule()', '42501', 'an application may not', user => 'app');
sqlstate_is($workers, 'SELECT credits_unschedule()', '42501', 'neither', user => 'app');

# DROP EXTENSION leaves the jobs; the statement that doc/troubleshooting.md gives removes
# them
my ($remove) = slurp_file("$FindBin::RealBin/../../doc/troubleshooting.md") =~
  /^(SELECT cron\.unschedule.*?;)$/m;
$workers->safe_psql($there, 'SELECT credits_schedule(); DROP EXTENSION credits');
is($workers->safe_psql('postgres', 'SELECT count(*) FROM cron.job'), '6', 'DROP EXTENSION leaves the jobs');
is($workers->safe_psql('postgres', $remove =~ s/ in app'/ in other app'/r), "t\nt\nt\nt\nt\nt", 'and can be removed');
is($workers->safe_psql('postgres', 'SELECT count(*) FROM cron.job'), '0', 'all of them');
$_->stop foreach $workers, $clients;

$debian->stop;
done_testing();
