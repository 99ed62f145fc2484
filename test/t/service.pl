# The service switch under load: 32 clients spend in every way, and once
# credits_pause_service has returned, nothing that it stops commits any more.  Whether
# something did is read from the log: what a snapshot taken just before the pause ends
# sees, and one taken right after the return does not, must not be there.  (Ids of
# transactions do not tell: who waits for a lock has one, and may spend when it has ended.)
#
# Also: prepared transactions, timeouts, crashes, standbys, subscribers and dumps.
#
# CREDITS_PAUSES is how often the service is paused.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $pauses = $ENV{CREDITS_PAUSES} // ($ENV{CI} ? 60 : 20);
my $accounts = 100;

my $node = credits_node('service', streaming => 'logical',
	conf => "max_prepared_transactions = 5\nfsync = off\nautovacuum_naptime = 1\n");
$node->safe_psql('postgres', <<"SQL");
SELECT count(credits_open_account('s:' || n, 1000000000)) FROM generate_series(1, $accounts) AS n;
SELECT credits_add_member('s:1', 's:' || n) FROM generate_series(2, $accounts) AS n;
SELECT credits_set_operation('chat', 1), credits_set_operation('image', 1);

-- how often was a client refused?
CREATE SEQUENCE refused;
CREATE TABLE pauses (n int PRIMARY KEY, operations text[], snapshot pg_snapshot, resumed pg_snapshot);

-- what a client calls; a refusal must not end it
CREATE FUNCTION spend(way int, account int, other int) RETURNS text LANGUAGE plpgsql AS \$\$
DECLARE
	a text := 's:' || account;
	operation text := (ARRAY['chat', 'image'])[1 + other % 2];
BEGIN
	CASE way
		WHEN 1 THEN PERFORM credits_deduct(a, 1, operation => operation);
		WHEN 2 THEN PERFORM credits_charge(a, operation);
		WHEN 3 THEN PERFORM credits_capture(transaction_id) FROM credits_hold(a, 2, operation => operation);
		WHEN 4 THEN PERFORM credits_transfer(a, 's:' || (account + other % ($accounts - 1)) % $accounts + 1, 1);
		WHEN 5 THEN PERFORM credits_deduct_many(ARRAY[(a, 1, NULL, operation, NULL, NULL),
			('s:' || other, 1, NULL, operation, NULL, NULL)]::credits.deduction[], atomic => true);
		WHEN 6 THEN PERFORM credits_deduct('s:' || greatest(account, 2), 1, operation => operation, pool => 's:1');
	END CASE;
	RETURN '00000';
EXCEPTION
	WHEN SQLSTATE 'PT503' THEN PERFORM nextval('refused'); RETURN SQLSTATE;
	WHEN SQLSTATE '40001' OR SQLSTATE '40P01' THEN RETURN SQLSTATE;
END
\$\$;

-- the pause, and what had committed when it returned
CREATE PROCEDURE pause(n int, operations text[]) LANGUAGE plpgsql AS \$\$
BEGIN
	CALL public.credits_pause_service('round ' || n, operations => operations);
	INSERT INTO pauses VALUES (n, operations, pg_current_snapshot());
	COMMIT;
END
\$\$;

-- the spends that a pause should have stopped
CREATE VIEW stopped AS
SELECT p.n, p.operations, t.xmin::text::xid8 AS xid, t.operation
FROM pauses AS p JOIN credits.log AS t ON t.amount < 0 AND t.kind_code IN ('d', 'h', 'T', 'g')
	AND (p.operations IS NULL OR t.operation = ANY (p.operations))
WHERE NOT pg_visible_in_snapshot(t.xmin::text::xid8, p.snapshot)
  AND pg_visible_in_snapshot(t.xmin::text::xid8, p.resumed);
SQL

# Clients of each sort: single calls, transactions of several that take a while, and
# those with a snapshot of long ago.
my $call = "SELECT spend(:way, :a, :b)";
my %scripts = (
	single => "$call;\n",
	several => "BEGIN;\n$call;\n\\sleep 20 ms\n$call;\n\\sleep :way ms\nCOMMIT;\n",
	old => "BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM credits.service_pause;\n\\sleep 30 ms\n$call;\nCOMMIT;\n",
	savepoint => "BEGIN;\nSAVEPOINT s;\n$call;\nROLLBACK TO s;\n\\sleep 10 ms\n$call;\nCOMMIT;\n");
my @clients;
foreach my $name (sort keys %scripts)
{
	my $file = $node->basedir . "/$name.sql";
	append_to_file($file, join '', map { "\\set $_\n" } 'way random(1, 6)', "a random(1, $accounts)", "b random(1, $accounts)");
	append_to_file($file, $scripts{$name});
	my ($out, $err) = ('', '');
	push @clients, { name => $name, err => \$err,
		run => IPC::Run::start([ $node->installed_command('pgbench'), '-n', '-c', 8, '-T', 3600, '--max-tries', 1, '-f', $file, $node->connstr('postgres') ],
			'<', \undef, '>', \$out, '2>', \$err) };
}

my $control = CreditsTest::Session->new($node, verbosity => 'default');
sub count_of { return $control->value("SELECT $_[0]") }
sub spends { return count_of('last_value FROM credits.transactions_id_seq') }
sub refusals { return count_of('last_value FROM refused') }
sub went_on
{
	my ($count, $by) = @_;
	my $before = $count->();
	return wait_until(sub { $count->() >= $before + $by });
}

my ($longest, $still) = (0, 0);
foreach my $n (1 .. $pauses)
{
	went_on(\&spends, 60) or last;
	my $named = $n % 2 == 0;
	my $begun = time;
	my $answer = $control->query("CALL pause($n, " . ($named ? "'{chat}'" : 'NULL') . ')');
	is($answer->{code}, '00000', "pause $n") or diag @{ $answer->{messages} };
	$longest = time - $begun if time - $begun > $longest;
	went_on(\&refusals, 60) or last;
	# what is not named goes on
	$still++ if $named && went_on(\&spends, 20);
	$control->value("BEGIN; SELECT credits_resume_service(); UPDATE pauses SET resumed = pg_current_snapshot() WHERE n = $n; COMMIT");
}
went_on(\&spends, 60);
foreach my $client (@clients)
{
	ok($client->{run}->pumpable, "the clients of $client->{name} still run") or diag ${ $client->{err} };
	$client->{run}->kill_kill;
}
wait_until(sub { count_of(q(count(*) FROM pg_stat_activity WHERE application_name = 'pgbench')) == 0 });
is(count_of('count(*) FROM pauses WHERE resumed IS NOT NULL'), $pauses, 'the service was paused and resumed each time, with clients that were refused');
is($still, int($pauses / 2), 'operations that were not named went on');
is(count_of('count(*) FROM stopped'), 0, 'no spend that a pause stops committed after it had returned')
	or diag $control->value('SELECT * FROM stopped LIMIT 20');
cmp_ok(count_of(q(count(*) FROM pauses AS p WHERE EXISTS (SELECT FROM credits.log AS t WHERE t.operation = 'image'
	AND NOT pg_visible_in_snapshot(t.xmin::text::xid8, p.snapshot) AND pg_visible_in_snapshot(t.xmin::text::xid8, p.resumed) AND p.operations IS NOT NULL))), '>', 0,
	'the log tells such spends: those of another operation are found');
problems_are($node, '', 'nothing is wrong');
note sprintf '%d pauses, the longest took %.0f ms; %d spends, %d refusals', $pauses, 1000 * $longest, spends(), refusals();

# ---------------------------------------------------------------------------
# one after the other

my $one = CreditsTest::Session->new($node);
my $two = CreditsTest::Session->new($node);
sub code { my ($session, $sql) = @_; return $session->query($sql)->{code} }
my $deduct = q(SELECT credits_deduct('s:1', 1));
my $other = q(SELECT credits_deduct('s:2', 1));
my $pause = q(CALL credits_pause_service('pause'));
my $resume = q(SELECT credits_resume_service());

# a transaction that has spent is waited for, and cannot spend more
$one->value("BEGIN; $deduct");
$two->send($pause);
ok(wait_until(sub { count_of(q(count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock')) == 1 }), 'a pause waits for who has spent');
is(code($one, "SAVEPOINT s; $deduct"), 'PT503', 'who can no longer spend');
is(code($control, $other), 'PT503', 'nor can others, who do not wait');
is($two->ready, '', 'it still waits');
$one->value('ROLLBACK TO s; COMMIT');
wait_any($two);
is($two->take->{code}, '00000', 'until he commits');
$two->value($resume);

# a wait can be limited, and be given up
$one->value("BEGIN; $deduct");
$two->value(q(SET lock_timeout = '50ms'));
is(code($two, $pause), '55P03', 'lock_timeout ends the wait');
is(code($control, $other), 'PT503', 'and not the pause');
$two->value('RESET lock_timeout');
$two->send($pause);
ok(wait_until(sub { count_of(q(count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock')) == 1 }), 'another call waits again');
$control->value(q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'));
wait_any($two);
is($two->take->{code}, '57014', 'it can be cancelled');
is(code($control, $other), 'PT503', 'that does not end the pause either');
$one->value('ROLLBACK');
$two->value($resume);

# prepared transactions, of this server and of before a crash
foreach my $crash (0, 1)
{
	my $name = $crash ? 'prepared before a crash' : 'prepared';
	$one->value("BEGIN; $deduct; PREPARE TRANSACTION 'spend'");
	if ($crash)
	{
		$_->quit foreach $one, $two, $control;
		kill_cluster($node);
		$node->start;
		($one, $two, $control) = map { CreditsTest::Session->new($node) } 1 .. 3;
	}
	$two->send($pause);
	ok(wait_until(sub { count_of(q(count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock')) == 1 }), "a pause waits for who is $name");
	is(code($control, $other), 'PT503', "$name: others cannot spend");
	$one->value("COMMIT PREPARED 'spend'");
	wait_any($two);
	is($two->take->{code}, '00000', "$name: until it is committed");
	$two->value($resume);
}

# those who vacuum the table are not waited for
$one->value('BEGIN; LOCK TABLE credits.accounts IN SHARE UPDATE EXCLUSIVE MODE');
$two->value(q(SET lock_timeout = '5s'));
is(code($two, $pause), '00000', 'a pause does not wait for vacuum');
$one->value('COMMIT');

# a pause survives a crash, and is in dumps and on standbys
$_->quit foreach $one, $two, $control;
$node->backup('paused');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'paused', has_streaming => 1);
$standby->start;
kill_cluster($node);
$node->start;
sqlstate_is($node, $deduct, 'PT503', 'a pause survives a crash');
my $quote = q(SELECT code FROM credits_quote('s:2', 'image'));
my $reader = CreditsTest::Session->new($standby);
is($reader->value($quote), 'PT503', 'a standby knows of it');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, 'copy' ], 'psql takes it');
sqlstate_is($node, $deduct, 'PT503', 'what is restored is paused', dbname => 'copy');
is($node->safe_psql('copy', $resume), 't', 'until it is resumed there');
sqlstate_is($node, $deduct, '00000', 'then it is not', dbname => 'copy');
sqlstate_is($node, $deduct, 'PT503', 'the other one still is');

# the session on the standby has read the switch before
$node->safe_psql('postgres', $resume);
$node->wait_for_catchup($standby, 'replay', $node->lsn('insert'));
is($reader->value($quote), '', 'a standby knows of its end');
$reader->quit;
$standby->stop;

# a logical subscriber, in a session that has spent before
$node->safe_psql('postgres', 'CREATE PUBLICATION p FOR TABLE credits.service_pause');
$node->safe_psql('postgres', 'CREATE DATABASE subscriber');
$node->safe_psql('subscriber', 'CREATE EXTENSION credits');
my $subscriber = CreditsTest::Session->new($node, dbname => 'subscriber');
$subscriber->value(q(SELECT credits_open_account('s:1', 100)));
is(code($subscriber, $deduct), '00000', 'a subscriber spends');
$node->safe_psql('postgres', q(SELECT pg_create_logical_replication_slot('s', 'pgoutput')));
$node->safe_psql('subscriber', sprintf q(CREATE SUBSCRIPTION s CONNECTION $c$%s$c$ PUBLICATION p WITH (create_slot = false, slot_name = 's')), $node->connstr('postgres'));
$node->safe_psql('postgres', $pause);
ok(wait_until(sub { code($subscriber, $deduct) eq 'PT503' }), 'until it is told of a pause');
$node->safe_psql('postgres', $resume);
ok(wait_until(sub { code($subscriber, $deduct) eq '00000' }), 'and of its end');
$node->safe_psql('subscriber', 'DROP SUBSCRIPTION s');
$subscriber->quit;

done_testing();
