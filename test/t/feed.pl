# The feed under load: nothing skipped, nothing repeated after it was acknowledged,
# nobody else's events delayed by a long or a prepared transaction, also through a
# crash, a dump, a promotion and logical replication.
#
# CREDITS_FEED_SECONDS is how long the writers write, 6 by default, and
# CREDITS_FEED_LONGEST how many milliseconds their longest transactions take, 1000 by
# default.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $seconds = $ENV{CREDITS_FEED_SECONDS} // 6;
my $longest = $ENV{CREDITS_FEED_LONGEST} // 1000;

my $node = credits_node('feed', streaming => 'logical', conf => "max_prepared_transactions = 10\ncredits.refusal_window = '0'\n");
$node->safe_psql('postgres', q(SELECT count(credits_open_account('w:' || n, 5)) FROM generate_series(1, 20) AS n));

# a refusal writes an event; the account is locked until the transaction ends
my $script = $node->basedir . '/writer.pgbench';
append_to_file($script, <<"SQL");
\\set account random(1, 20)
\\set kind random(1, 8)
\\set long random(1, 30)
\\set ms random(1, $longest)
BEGIN;
SELECT ok FROM credits_try_deduct('w:' || :account, 1000);
\\if :long = 1
\\sleep :ms ms
\\endif
\\if :kind = 1
SAVEPOINT s;
SELECT ok FROM credits_try_deduct('w:' || :account, 2000);
ROLLBACK TO s;
SAVEPOINT t;
SELECT ok FROM credits_try_deduct('w:' || :account, 3000);
RELEASE t;
\\elif :kind = 2
SELECT count(credits_try_deduct('w:' || :account, 4000 + n)) FROM generate_series(1, 20) AS n;
\\endif
\\if :kind = 3
ROLLBACK;
\\else
COMMIT;
\\endif
SQL

sub start_writers
{
	my ($for) = @_;
	my ($out, $err) = ('', '');
	return IPC::Run::start(
		[ $node->installed_command('pgbench'), '-n', '-c', 8, '-j', 2, '-T', $for, '-f', $script, $node->connstr('postgres') ],
		'>', \$out, '2>', \$err);
}

# Reads once as a consumer, a page of random size, and acknowledges a part of it, or
# nothing.  Adds the ids that were acknowledged to its list; returns how many were read.
sub read_some
{
	my ($session, $consumer, $list) = @_;
	my $max = 1 + int(rand 60);
	my $read = $session->query("SELECT event_id, account, token FROM credits_read_events('$consumer', $max)");
	return -1 if $read->{code} ne '00000';
	my @rows = map { [ split /\|/ ] } @{ $read->{rows} };
	return 0 unless @rows;
	my $until = rand() < 0.7 ? $#rows : int(rand @rows);
	my $answer = $session->query("SELECT credits_ack_events('$consumer', '$rows[$until][2]')");
	return -1 if $answer->{code} ne '00000';
	push @$list, map { [ @{$_}[ 0, 1 ] ] } @rows[ 0 .. $until ] if $answer->{rows}[0] eq 't';
	return scalar @rows;
}

# Compares what a consumer has acknowledged with what there is.
sub all_once
{
	my ($list, $from, $name) = @_;
	my @there = split /\n/, $from->safe_psql('postgres', 'SELECT id FROM credits.events ORDER BY id');
	my %times;
	$times{ $_->[0] }++ foreach @$list;
	cmp_ok(scalar @there, '>', 0, "$name: there are events (" . @there . ')');
	is(scalar(grep { !$times{$_} } @there), 0, "$name: none skipped");
	is(scalar(grep { $times{$_} > 1 } keys %times), 0, "$name: none repeated after it was acknowledged");
	is(scalar(keys %times), scalar @there, "$name: and no others");
	my (%last, $disorder);
	foreach (@$list)
	{
		my ($id, $account) = @$_;
		$disorder++ if $id < ($last{$account} // 0);
		$last{$account} = $id;
	}
	is($disorder // 0, 0, "$name: those of one account in order");
}

# --------------------------------------------------------------------------
# writers, a prepared transaction that is left open, and one that is idle

$node->safe_psql('postgres', q(SELECT credits_open_account('prepared', 5), credits_open_account('idle', 5)));
my $reader = CreditsTest::Session->new($node);
my $idle = CreditsTest::Session->new($node);
my %lists = (a => [], b => []);
$reader->value("SELECT credits_add_consumer('$_')") foreach sort keys %lists;
$idle->value('BEGIN');
$idle->value(q(SELECT ok FROM credits_try_deduct('idle', 100)));
$node->safe_psql('postgres', q(
	BEGIN;
	SELECT ok FROM credits_try_deduct('prepared', 100);
	PREPARE TRANSACTION 'left open'));

my $writers = start_writers($seconds);
my $end = time + $seconds + 0.5;
my $reads = 0;
while (time < $end)
{
	foreach (sort keys %lists) { $reads++ if read_some($reader, $_, $lists{$_}) > 0; }
}
IPC::Run::finish($writers);
is($writers->result(0), 0, 'the writers have written');
cmp_ok($reads, '>', 20, 'events were read meanwhile');
foreach (sort keys %lists) { 1 while read_some($reader, $_, $lists{$_}) > 0; }

my $done = scalar @{ $lists{a} };
all_once($lists{$_}, $node, "consumer $_, with two transactions open") foreach sort keys %lists;
is($reader->value(q(SELECT string_agg(DISTINCT unread::text, ' ') FROM credits.consumer_list)), '0', 'nobody else was delayed');
$node->safe_psql('postgres', q(COMMIT PREPARED 'left open'));
foreach (sort keys %lists) { 1 while read_some($reader, $_, $lists{$_}) > 0; }
is(scalar @{ $lists{a} }, $done + 1, 'the event of the prepared transaction comes after them');
is($lists{a}[-1][1], 'prepared', 'it is this one');
$idle->value('COMMIT');
$idle->quit;
foreach (sort keys %lists) { 1 while read_some($reader, $_, $lists{$_}) > 0; }
is($lists{b}[-1][1], 'idle', 'the last one is that of the transaction that was idle');
is(scalar @{ $lists{b} }, $done + 2, 'and no other');

# an open transaction costs nothing more for each event that was read
$idle = CreditsTest::Session->new($node);
$idle->value('BEGIN');
$idle->value(q(SELECT ok FROM credits_try_deduct('idle', 100)));
$node->safe_psql('postgres', q(SELECT count(credits_try_deduct('w:1', 100 + n)) FROM generate_series(1, 3000) AS n));
foreach (sort keys %lists) { 1 while read_some($reader, $_, $lists{$_}) > 0; }
$node->safe_psql('postgres', q(SELECT ok FROM credits_try_deduct('w:1', 100)));
$reader->value('BEGIN');
$reader->value(q(SELECT count(*) FROM credits_read_events('a')));
my $fetched = $reader->value(q(SELECT pg_stat_get_xact_tuples_fetched('credits.events'::regclass)));
$reader->value('COMMIT');
cmp_ok($fetched, '<=', 5, 'beside an open transaction, what was read is not read again');
$idle->value('ROLLBACK');
$idle->quit;
foreach (sort keys %lists) { 1 while read_some($reader, $_, $lists{$_}) > 0; }
all_once($lists{$_}, $node, "consumer $_, at the end") foreach sort keys %lists;

# --------------------------------------------------------------------------
# a crash

$writers = start_writers(60);
$end = time + 2;
foreach (sort keys %lists) { read_some($reader, $_, $lists{$_}) while time < $end - 1 * ($_ eq 'a'); }
kill_cluster($node);
IPC::Run::finish($writers);
$reader->quit;
$node->start;
$reader = CreditsTest::Session->new($node);
foreach (sort keys %lists) { 1 while read_some($reader, $_, $lists{$_}) > 0; }
all_once($lists{$_}, $node, "consumer $_, after a crash") foreach sort keys %lists;

# A token that was read before a crash is acknowledged after it, although others have
# drawn ids since.  Without waiting for the log, a commit reaches it late: but what is
# read has reached it.
$reader->quit;
my $lazy = CreditsTest::Session->new($node);
$lazy->value('SET synchronous_commit = off');
$lazy->value(q(SELECT count(credits_try_deduct('w:1', 100 + n)) FROM generate_series(1, 40) AS n));
my $old = $lazy->value(
	q(SELECT (array_agg(token ORDER BY event_id DESC))[1] FROM credits_read_events('b', 1000)));
my $known = [ split /\n/, $lazy->value(q(SELECT event_id FROM credits_read_events('b', 1000))) ];
kill_cluster($node);
$lazy->quit;
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM credits.events WHERE id IN (' . join(', ', @$known) . ')'),
	scalar @$known, 'what was read outlasts a crash');
$node->safe_psql('postgres', q(SELECT count(credits_try_deduct('w:2', 100 + n)) FROM generate_series(1, 3) AS n))
  foreach 1 .. 20;
is($node->safe_psql('postgres', "SELECT credits_ack_events('b', '$old')"), 't', 'and can be acknowledged');
my @new = split /\n/, $node->safe_psql('postgres', q(SELECT event_id FROM credits_read_events('b', 1000)));
is(scalar @new, 60, 'which passes over nothing that came after it');
push @{ $lists{b} }, map { [ $_, 'w:1' ] } @$known;
$reader = CreditsTest::Session->new($node);
1 while read_some($reader, 'b', $lists{b}) > 0;
1 while read_some($reader, 'a', $lists{a}) > 0;
all_once($lists{$_}, $node, "consumer $_, after a crash and an old token") foreach sort keys %lists;

# --------------------------------------------------------------------------
# a dump, while one has read everything and the other one has not

$node->safe_psql('postgres', q(SELECT count(credits_try_deduct('w:1', 100 + n)) FROM generate_series(1, 50) AS n));
1 while read_some($reader, 'a', $lists{a}) > 0;
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'pg_dump');
my $restored = credits_node('restored', extension => 0, conf => "credits.refusal_window = '0'\n");
$restored->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $restored->connstr('postgres'), '-f', $dump ], 'restored');
is($restored->safe_psql('postgres', 'SELECT count(*) FROM credits.event_order'), 0, 'transaction ids are not restored');
is($restored->safe_psql('postgres', 'SELECT count(*) FROM credits.consumer_positions'), 0, 'nor positions');
my %after = (a => [], b => []);
my $there = CreditsTest::Session->new($restored);
$restored->safe_psql('postgres', q(SELECT ok FROM credits_try_deduct('w:2', 100)));
foreach (sort keys %after) { 1 while read_some($there, $_, $after{$_}) > 0; }
my $events = $restored->safe_psql('postgres', 'SELECT count(*) FROM credits.events');
foreach my $consumer (sort keys %after)
{
	my %times;
	$times{ $_->[0] }++ foreach @{ $after{$consumer} };
	is(scalar(grep { $_ > 1 } values %times), 0, "restored, consumer $consumer: once each");
	$times{ $_->[0] }++ foreach @{ $lists{$consumer} };
	is(scalar(keys %times), $events, "restored, consumer $consumer: none skipped");
	cmp_ok(scalar @{ $after{$consumer} }, '<', $events / 2, "restored, consumer $consumer: not everything again");
}
$there->quit;
$restored->stop;

# --------------------------------------------------------------------------
# a standby cannot be read; promoted, it goes on

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
1 while read_some($reader, 'b', $lists{b}) > 0;
$node->safe_psql('postgres', q(SELECT count(credits_try_deduct('w:1', 100 + n)) FROM generate_series(1, 5) AS n));
my $token = $reader->value(q(SELECT token FROM credits_read_events('b', 2) LIMIT 1));
$node->wait_for_catchup($standby);
sqlstate_is($standby, $_, '25006', "on a standby: $_")
  foreach (q(SELECT * FROM credits_read_events('a')), qq(SELECT credits_ack_events('a', '$token')),
	q(SELECT credits_add_consumer('c')), q(SELECT credits_remove_consumer('a')));
is($standby->safe_psql('postgres', q(SELECT count(*), count(unread) FROM credits.consumer_list)), '2|0', 'who reads can be seen there');
my $stale = CreditsTest::Session->new($standby);
$stale->value('BEGIN ISOLATION LEVEL REPEATABLE READ');
$stale->value('SELECT 1');
$standby->promote;
is($stale->query(q(SELECT count(*) FROM credits_read_events('a')))->{code}, '25006', 'a snapshot of the standby is refused after the promotion');
$stale->quit;
is($standby->safe_psql('postgres', qq(SELECT credits_ack_events('b', '$token'))), 'f', 'what was read before the promotion is read again');
my @copy = @{ $lists{b} };
$there = CreditsTest::Session->new($standby);
1 while read_some($there, 'b', \@copy) > 0;
all_once(\@copy, $standby, 'promoted');
$there->quit;
$standby->stop;

# --------------------------------------------------------------------------
# logical replication: the rows come with transaction ids of another cluster

my $subscriber = credits_node('subscriber', streaming => 'logical', conf => "credits.refusal_window = '0'\n");
$node->safe_psql('postgres', 'CREATE PUBLICATION feed FOR TABLES IN SCHEMA credits');
$subscriber->safe_psql('postgres', q(CREATE SUBSCRIPTION feed CONNECTION ') . $node->connstr . q( dbname=postgres' PUBLICATION feed));
$subscriber->wait_for_subscription_sync($node, 'feed');
1 while read_some($reader, 'a', $lists{a}) > 0;
$node->safe_psql('postgres', q(SELECT count(credits_try_deduct('w:3', 100 + n)) FROM generate_series(1, 10) AS n));
$node->wait_for_catchup('feed');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION feed DISABLE; ALTER SUBSCRIPTION feed SET (slot_name = NONE); DROP SUBSCRIPTION feed; SELECT credits_sync_sequences()');
$subscriber->safe_psql('postgres', q(SELECT ok FROM credits_try_deduct('w:3', 100)));
my %replicated = map { $_->[0] => 1 } @{ $lists{a} };
my @more;
$there = CreditsTest::Session->new($subscriber);
1 while read_some($there, 'a', \@more) > 0;
$replicated{ $_->[0] }++ foreach @more;
is(scalar(keys %replicated), $subscriber->safe_psql('postgres', 'SELECT count(*) FROM credits.events'), 'the subscriber skips none');
cmp_ok(scalar @more, '<', keys(%replicated) / 2, 'and does not repeat everything');
$subscriber->safe_psql('postgres', q(SELECT count(credits_try_deduct('w:3', 100 + n)) FROM generate_series(1, 5) AS n));
@more = ();
1 while read_some($there, 'a', \@more) > 0;
is(scalar @more, 5, 'it goes on from there');
$there->quit;

# --------------------------------------------------------------------------
# reading when the newest record of the WAL ends exactly where a page does

sub fill_wal
{
	my ($bytes) = @_;
	my ($from, $to) = split /\|/, $reader->value("SELECT pg_current_wal_insert_lsn() - '0/0', pg_logical_emit_message(false, '', repeat('x', $bytes)) - '0/0'");
	return $to - $from;
}

$node->safe_psql('postgres', q(SELECT credits_try_deduct('w:3', 100)));
my $at_end = 0;
foreach (1 .. 100)
{
	my ($left) = 8192 - $reader->value("SELECT (pg_current_wal_insert_lsn() - '0/0') % 8192");
	# what a record has apart from the text, if it does not cross the end of a page
	my $more = $left > 2000 ? fill_wal(800) - 800 : 0;
	fill_wal($more ? $left - 800 - 2 * $more : 1600);
	# others write at times, too
	next if $reader->value("SELECT (pg_current_wal_insert_lsn() - '0/0') % 8192") !~ /^(24|40)$/;
	is($reader->query(q(SELECT count(*) > 0 FROM credits_read_events('a')))->{code}, '00000', 'events are read');
	last if ++$at_end == 3;
}
is($at_end, 3, 'at the end of a page');
$reader->quit;
problems_are($node, '', 'verify');
done_testing();
