# What a DBA does to the tables while they are in use: rebuilt indexes and
# tables get new OIDs and files under the sessions' feet.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = credits_node('maintenance');
populate($node);
my $dba = CreditsTest::Session->new($node);
my @sessions = map { CreditsTest::Session->new($node) } 1 .. 4;

my @tables = map { "credits.$_" } qw(accounts grants log events);
my @chores = (
	(map { "REINDEX TABLE CONCURRENTLY $_" } @tables),
	(map { "REINDEX TABLE $_" } @tables),
	(map { "VACUUM FULL $_" } @tables),
	'CLUSTER credits.accounts USING accounts_pkey',
	(map { "VACUUM ANALYZE $_" } @tables),
	'VACUUM (FREEZE) credits.log',
	'ALTER TABLE credits.grants SET (fillfactor = 50)',
	'ALTER TABLE credits.accounts ALTER COLUMN metadata SET STATISTICS 10',
	'CREATE INDEX CONCURRENTLY log_reference_idx ON credits.log_default (reference)',
	'DROP INDEX CONCURRENTLY credits.log_reference_idx',
	'CREATE INDEX grants_source_idx ON credits.grants (source)',
	'DROP INDEX credits.grants_source_idx',
	'CREATE STATISTICS credits.s ON kind_code, operation FROM credits.log',
	'DROP STATISTICS credits.s',
	'ANALYZE',);

my $number = 0;

sub next_call
{
	my $account = 'bulk:' . (1 + int rand 10);
	my $what = rand;
	$number++;
	return
		$what < 0.4 ? "SELECT amount FROM credits_deduct('$account', 1, 'm:$number')"
	  : $what < 0.5 ? "SELECT amount FROM credits_allocate('$account', 10, expires_at => now() + interval '50 ms')"
	  : $what < 0.6 ? "SELECT credits_balance('$account')"
	  : $what < 0.7 ? "SELECT count(*) FROM credits_history('$account', 5)"
	  : $what < 0.8 ? "SELECT amount FROM credits_adjust('$account', 1, 'error')"
	  : $what < 0.9 ? "SELECT ok FROM credits_try_deduct('$account', 1000000)"
	  # of one name from several sessions at once
	  : $what < 0.95 ? "SELECT amount FROM credits_open_account('m:" . int($number / 100) . "', 1)"
	  : 'CALL credits_settle()';
}

my (%failed, %chores);
my $calls = 0;
$_->send(next_call()) foreach @sessions;
my @left = (@chores, @chores);
$dba->{sql} = shift @left;
$dba->send($dba->{sql});
my $end = time + $PostgreSQL::Test::Utils::timeout_default;
my $busy = 1;
while ($busy && time < $end)
{
	foreach my $session (wait_any(@sessions, $dba))
	{
		my $answer = $session->take;
		if ($session == $dba)
		{
			is($answer->{code}, '00000', "under load: $dba->{sql}");
			$dba->{sql} = shift @left;
			if (defined $dba->{sql})
			{
				$dba->send($dba->{sql});
			}
			else
			{
				$busy = 0;
				last;
			}
			next;
		}
		$calls++;
		# a session may have to give way in a deadlock with the DBA, and a short
		# expiry may pass while it waits
		$failed{"$answer->{code} @{$answer->{messages}}"}++ unless $answer->{code} =~ /^(00000|40P01|22023)$/;
		$session->send(next_call());
	}
}
$_->receive foreach @sessions;
is(join("\n", %failed), '', "no call failed of $calls");
problems_are($node, '', 'verify');

# sessions that remember, one chore at a time, in between every call
my $session = $sessions[0];
foreach my $chore (@chores)
{
	$node->safe_psql('postgres', $chore);
	my @codes = map { $session->query($_)->{code} } (
		q(SELECT credits_balance('bulk:20')), q(SELECT credits_deduct('bulk:20', 1)),
		q(SELECT credits_try_deduct('bulk:20', 1000000)), q(SELECT credits_allocate('bulk:20', 1)),
		q(SELECT credits_refund((SELECT max(id) FROM credits.transactions WHERE kind = 'deduction'))),
		q(SELECT count(*) FROM credits_history('bulk:20')), q(SELECT credits_verify('bulk:20')));
	is("@codes", join(' ', ('00000') x 7), "after: $chore");
}

# a table that is altered while a session looks up whether the extension owns its triggers
my $late = CreditsTest::Session->new($node);
my $pid = $late->value('SELECT pg_backend_pid()');
$dba->value('BEGIN');
$dba->value('LOCK TABLE pg_catalog.pg_depend IN ACCESS EXCLUSIVE MODE');
$dba->value('ALTER TABLE credits.accounts ALTER COLUMN metadata SET STATISTICS 20');
$late->send(q(SELECT credits_deduct('bulk:20', 1)));
ok( wait_until(sub { $dba->value("SELECT cardinality(pg_blocking_pids($pid)) > 0") eq 't' }),
	'the first call of a session looks up the triggers');
$dba->value('COMMIT');
is($late->receive->{code}, '00000', 'and goes on when the table has been altered');
$late->quit;

# and one that comes back with all it knew gone: another extension of the name
$session->value('BEGIN');
$session->value('DROP EXTENSION credits');
$session->value('CREATE EXTENSION credits');
$session->value(q(SELECT credits_open_account('a', 5)));
is($session->value(q(SELECT balance FROM credits_deduct('a', 1))), '4', 'dropped and made again in one transaction');
$session->value('ROLLBACK');
is($session->query(q(SELECT credits_balance('a')))->{code}, 'PT404', 'rolled back: as before');
is($session->query(q(SELECT credits_deduct('bulk:20', 1)))->{code}, '00000', 'and working');
is($sessions[1]->query(q(SELECT credits_deduct('bulk:20', 1)))->{code}, '00000', 'for others too');
problems_are($node, '', 'verify at the end');

$_->quit foreach @sessions, $dba;
$node->stop;
done_testing();
