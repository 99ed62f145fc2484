# Suspicious activity under load: spenders that commit late or never, jobs that run side
# by side and are killed, a server that is, a log that is partitioned meanwhile, and a
# dump.  What the job has counted is what the log says, and each hit is found once.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = credits_node('activity', conf => "max_prepared_transactions = 5\ncredits.partition_rows = 1000");
$node->safe_psql('postgres', q(SELECT count(credits_open_account('a:' || n, 1000000)) FROM generate_series(1, 20) AS n;
	SELECT credits_set_activity_rule('refunds', 'refunds', 0.5, span => '7 days', minimum => 100)));

# The sums of the job beside those of the log, where they differ.
sub differences
{
	my ($name, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is($node->safe_psql($dbname // 'postgres', q(
		SELECT coalesce(h.account_id, l.account_id), coalesce(h.hour, l.hour), h.spent, l.spent, h.refunded, l.refunded
		FROM credits.activity_hours AS h
		FULL JOIN (SELECT account_id, date_trunc('hour', created_at, 'UTC') AS hour,
				-sum(amount) FILTER (WHERE kind IN ('deduction', 'hold', 'release')) AS spent,
				coalesce(sum(amount) FILTER (WHERE kind = 'refund'), 0) AS refunded
			FROM credits.transactions WHERE kind IN ('deduction', 'hold', 'release', 'refund') GROUP BY 1, 2) AS l USING (account_id, hour)
		WHERE (h.spent, h.refunded) IS DISTINCT FROM (l.spent, l.refunded))), '', $name);
}

# Who was found suspicious.
sub hits
{
	my ($dbname) = @_;
	return $node->safe_psql($dbname // 'postgres', q(
		SELECT string_agg(detail->>'account', ' ' ORDER BY id) FROM credits.events WHERE kind = 'activity_suspicious'));
}

sub position_of { return $node->safe_psql('postgres', 'SELECT safe_id FROM credits.activity_position'); }

my $suspicious = q(SELECT credits_refund((credits_deduct('ACCOUNT', 150)).transaction_id, 100));
my $watch = 'CALL credits_watch()';

# what is committed late is found, though its ids are old, and delays nobody else
my $late = CreditsTest::Session->new($node);
my $job = CreditsTest::Session->new($node);
$late->value('BEGIN');
$late->value($suspicious =~ s/ACCOUNT/a:1/r);
my $late_id = $late->value(q(SELECT max(id) FROM credits.log));
$node->safe_psql('postgres', 'BEGIN; ' . ($suspicious =~ s/ACCOUNT/a:2/r) . q(; PREPARE TRANSACTION 'late'));
$node->safe_psql('postgres', $suspicious =~ s/ACCOUNT/a:3/r);
$job->value($watch) foreach 1 .. 4;
is(hits(), 'a:3', 'what is committed is found');
$node->safe_psql('postgres', $suspicious =~ s/ACCOUNT/a:4/r);
$job->value($watch) foreach 1 .. 4;
is(hits(), 'a:3 a:4', 'and nobody waits for what is not');
cmp_ok(position_of(), '<', $late_id, 'the position does');
$late->value('COMMIT');
$job->value($watch);
is(hits(), 'a:3 a:4', 'an old id that is committed is not looked for while another transaction is older');
$node->safe_psql('postgres', q(SELECT credits_deduct('a:1', 1)));
$job->value($watch);
is(hits(), 'a:3 a:4 a:1', 'but is found when the account spends again');

# what is held back is not read again and again
sub rows_read
{
	return $node->safe_psql('postgres', q(SELECT idx_tup_read FROM pg_stat_user_indexes
		WHERE indexrelname = 'log_default_pkey' AND schemaname = 'credits'));
}
$node->safe_psql('postgres', q(SELECT count(credits_deduct('a:19', 1)) FROM generate_series(1, 3000)));
$node->safe_psql('postgres', $watch) foreach 1 .. 3;
# counters are reported when a session ends, or with a delay
my $reads = rows_read();
$node->safe_psql('postgres', $watch) foreach 1 .. 10;
cmp_ok(rows_read() - $reads, '<', 3000, 'rows that were read twice are not read by ten more runs');
cmp_ok(position_of(), '<', $late_id, 'though the position is before them');
$node->safe_psql('postgres', q(COMMIT PREPARED 'late'));
$job->value($watch);
is(hits(), 'a:3 a:4 a:1 a:2', 'when the prepared transaction has ended, what it wrote is found');
$job->value($watch) foreach 1 .. 4;
cmp_ok(position_of(), '>', $late_id, 'now the position moves');
differences('the sums are those of the log');

# a transaction of seconds is found by the run after it, although others are older
$node->safe_psql('postgres', q(BEGIN; SELECT credits_deduct('a:19', 1); PREPARE TRANSACTION 'older'));
$job->value($watch);
$late->value('BEGIN');
$late->value($suspicious =~ s/ACCOUNT/a:18/r);
$job->value($watch);
$late->value('COMMIT');
$job->value($watch);
is(hits(), 'a:3 a:4 a:1 a:2 a:18', 'what was open during one run is found by the next');
$node->safe_psql('postgres', q(ROLLBACK PREPARED 'older'));

# who only reads, such as pg_dump, holds nothing back
$late->value('BEGIN ISOLATION LEVEL REPEATABLE READ');
$late->value('SELECT 1');
my $before = position_of();
$node->safe_psql('postgres', $suspicious =~ s/ACCOUNT/a:5/r);
$job->value($watch) foreach 1 .. 4;
is(hits(), 'a:3 a:4 a:1 a:2 a:18 a:5', 'a reader delays nothing');
cmp_ok(position_of(), '>', $before, 'nor the position');
# but if it writes then, it is not missed
$late->value($suspicious =~ s/ACCOUNT/a:17/r);
$job->value($watch) foreach 1 .. 4;
$late->value('COMMIT');
$job->value($watch) foreach 1 .. 2;
is(hits(), 'a:3 a:4 a:1 a:2 a:18 a:5 a:17', 'what it writes later is found');

# an account that is locked is paused by a later run
$node->safe_psql('postgres', q(SELECT credits_set_activity_rule('refunds', pauses => true)));
$node->safe_psql('postgres', $suspicious =~ s/ACCOUNT/a:6/r);
$late->value(q(BEGIN; SELECT 1 FROM credits.accounts WHERE name = 'a:6' FOR UPDATE));
is($job->value($watch), '1|0', 'a hit');
is($node->safe_psql('postgres', q(SELECT status FROM credits.accounts WHERE name = 'a:6')), 'active', 'not paused yet');
is($job->value(q(SELECT behind > '0' FROM credits.jobs WHERE job = 'credits_watch')), 't', 'which credits.jobs shows');
$late->value('COMMIT');
is($job->value($watch), '1|0', 'paused');
is($node->safe_psql('postgres', q(SELECT status FROM credits.accounts WHERE name = 'a:6')), 'paused', 'by a later run');
is($job->value(q(SELECT behind FROM credits.jobs WHERE job = 'credits_watch')), '00:00:00', 'then nothing is left');
$_->quit foreach $late, $job;

# spenders, with savepoints and rollbacks, and jobs that are killed at any point
my $spend = q(DO $$
DECLARE
	account text;
BEGIN
	FOR n IN 1 .. 400 LOOP
		account := 'a:' || 7 + (random() * 12)::int;
		PERFORM credits_deduct(account, 2);
		BEGIN
			PERFORM credits_deduct(account, 3);
			IF random() < 0.3 THEN
				RAISE EXCEPTION 'undone';
			END IF;
		EXCEPTION WHEN raise_exception THEN
		END;
		IF random() < 0.2 THEN
			PERFORM pg_sleep(0.02);
			ROLLBACK;
		END IF;
		PERFORM credits_release((credits_hold(account, 5)).transaction_id);
		COMMIT;
	END LOOP;
END
$$);
my @spenders;
my @jobs;

sub start_all
{
	@spenders = map { CreditsTest::Session->new($node) } 1 .. 3;
	$_->send($spend) foreach @spenders;
	@jobs = map { CreditsTest::Session->new($node, application_name => "job$_") } 0, 1;
	$_->send('DO $$ DECLARE d bigint; f bigint; BEGIN FOR n IN 1 .. 100000 LOOP CALL credits_watch(5, d, f); END LOOP; END $$') foreach @jobs;
}
start_all();
my $killed = 0;
foreach my $round (1 .. 20)
{
	sleep 0.2;
	if ($round == 10)
	{
		kill_cluster($node);
		$_->quit foreach @spenders, @jobs;
		$node->start;
		$node->safe_psql('postgres', $suspicious =~ s/ACCOUNT/a:20/r);
		start_all();
		next;
	}
	my $n = $round % 2;
	# it may still be about to connect
	sleep 0.05 until $node->safe_psql('postgres', qq(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'job$n'));
	$killed++;
	$jobs[$n]->quit;
	$jobs[$n] = CreditsTest::Session->new($node, application_name => "job$n");
	$jobs[$n]->send('DO $$ DECLARE d bigint; f bigint; BEGIN FOR n IN 1 .. 100000 LOOP CALL credits_watch(5, d, f); END LOOP; END $$');
	$node->safe_psql('postgres', 'CALL credits_partition_log()') if $round == 14;
}
cmp_ok($killed, '>', 10, "jobs were killed ($killed times)");
$_->receive foreach @spenders;
foreach my $n (0, 1)
{
	sleep 0.05 until $node->safe_psql('postgres', qq(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'job$n'));
}
$_->quit foreach @spenders, @jobs;
$node->safe_psql('postgres', $watch) foreach 1 .. 3;
differences('after all that, the sums are those of the log');
is(hits(), 'a:3 a:4 a:1 a:2 a:18 a:5 a:17 a:6 a:20', 'each hit once');
is($node->safe_psql('postgres', q(SELECT count(*) FROM credits.activity_hits AS h JOIN credits.events AS e
	ON e.id = h.event_id AND e.account_id = h.account_id AND e.kind = 'activity_suspicious')), 9, 'with its event');
cmp_ok($node->safe_psql('postgres', q(SELECT count(*) FROM pg_inherits WHERE inhparent = 'credits.log'::regclass)), '>', 1, 'the log has partitions');

# a restored database goes on; a mark of another cluster is not believed
my $dump = $node->basedir . '/dump.sql';
$node->safe_psql('postgres', q(SELECT credits_deduct('a:7', 1)));
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'restored');
$node->safe_psql('copy', q(UPDATE credits.activity_position SET system = system + 1, mark_xid = '3'));
$before = $node->safe_psql('copy', 'SELECT safe_id FROM credits.activity_position');
$node->safe_psql('copy', q(SELECT credits_open_account('a:21', 1000)));
$node->safe_psql('copy', $suspicious =~ s/ACCOUNT/a:21/r);
$node->safe_psql('copy', $watch);
is($node->safe_psql('copy', 'SELECT safe_id FROM credits.activity_position'), $before, 'the position stays');
$node->safe_psql('copy', $watch) foreach 1 .. 3;
cmp_ok($node->safe_psql('copy', 'SELECT safe_id FROM credits.activity_position'), '>', $before, 'until a mark of this cluster is reached');
differences('in the copy, the sums are those of the log', 'copy');
is(hits('copy'), 'a:3 a:4 a:1 a:2 a:18 a:5 a:17 a:6 a:20 a:21', 'what was found is not found again, but what is new');
problems_are($node, '', 'verify', 'copy');
problems_are($node, '', 'verify');
done_testing();
