# Closing the books beside clients that spend, with the server killed in the middle, and
# what a logical subscriber gets.
#
# CREDITS_ARCHIVE_ROWS changes how many rows are archived.  If they are many there is no
# subscriber, which would take longer than all the rest, and the rows that have left are
# checked outside the database, too.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);

my $rows = $ENV{CREDITS_ARCHIVE_ROWS} // 12_000;
my $accounts = $ENV{CREDITS_ARCHIVE_ACCOUNTS} // 400;
my $large = $rows > 50_000;
# rows in a partition
my $size = $large ? int($rows / 10) : 5000;
my $node = credits_node('archive_load', streaming => 'logical', conf => <<"CONF");
credits.partition_rows = $size
credits.partitions_ahead = 4
credits.key_retention = '1 day'
credits.refund_window = '1 day'
CONF
my $super = CreditsTest::Session->new($node, verbosity => 'default');

sub value { return $super->value(@_) }

# a subscriber of everything, the log as one table
my $subscriber = $large ? undef : credits_node('archive_subscriber', streaming => 'logical', conf => 'credits.partition_rows = 5000');
if ($subscriber)
{
	$node->safe_psql('postgres', q(CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root)));
	$subscriber->safe_psql('postgres', sprintf(q(CREATE SUBSCRIPTION everything CONNECTION '%s' PUBLICATION everything),
			$node->connstr('postgres') =~ s/'//gr));
	# a copy that a crash of the publisher interrupts may never end
	$subscriber->wait_for_subscription_sync($node, 'everything');
}

# rows of last year
value(q(CALL credits_partition_log()));
value(qq(
	SET credits.test_clock = '2025-01-01 00:00+00';
	SELECT credits_open_account('account:' || n, 1000000) FROM generate_series(1, $accounts) AS n;
	SELECT credits_hold('account:' || n, 10, 'hold:' || n, expires_in => '100 years') FROM generate_series(1, $accounts, 10) AS n;
	SELECT credits_allocate('account:' || n, 5, source => 'promotional') FROM generate_series(1, $accounts) AS n));
# two clients, each with every other account
my $fill = $node->basedir . '/fill.pgbench';
append_to_file($fill, "SELECT count(*) FROM credits_deduct_many(ARRAY(SELECT ROW('account:' || n, 1, 'old:' || txid_current() || ':' || n, NULL, NULL, NULL)::credits.deduction FROM generate_series(1 + :client_id, $accounts, 2) AS n));\n");
my $begun = time;
while ((my $left = $rows - value('SELECT last_value FROM credits.transactions_id_seq')) > 0)
{
	local $ENV{PGOPTIONS} = "-c credits.test_clock=2025-01-01\\ 00:00+00";
	my $turns = int((($left < 2 * $size ? $left : 2 * $size) + $accounts - 1) / $accounts);
	$node->command_ok([ 'pgbench', '-n', '-c', '2', '-j', '2', '-t', $turns, '-f', $fill, $node->connstr('postgres') ], "$left rows are left to be made");
	value(q(CALL credits_partition_log()));
}
note sprintf '%d rows made in %.1f s', $rows, time - $begun;
value('RESET credits.test_clock');
value(qq(SELECT credits_deduct('account:' || n, 1, 'new:$_:' || n) FROM generate_series(1, $accounts) AS n)) foreach 1 .. 2;
value(q(CALL credits_partition_log()));

# a partition can have any name
value('ALTER TABLE credits.log_0 RENAME TO "Log 0"');

# Clients that spend until told to stop; how long each call took, and what it was.
my $script = $node->basedir . '/spend.pgbench';
append_to_file($script, "\\set n random(1, $accounts)\nSELECT credits_deduct('account:' || :n, 1);\n");

sub start_clients
{
	my ($seconds) = @_;
	my @command = ($node->installed_command('pgbench'), '-n', '-c', '8', '-j', '2', '-T', $seconds, '-f', $script, '--max-tries=1',
		'-l', "--log-prefix=" . $node->basedir . '/spends', $node->connstr('postgres'));
	my ($in, $out, $err) = ('', '', '');
	return IPC::Run::start(\@command, '<', \$in, '>', \$out, '2>&1');
}

sub longest
{
	my $longest = 0;
	foreach my $file (glob $node->basedir . '/spends.*')
	{
		open my $log, '<', $file or die $!;
		while (<$log>)
		{
			my $took = (split)[2];
			$longest = $took if $took =~ /^\d+$/ && $took > $longest;
		}
		unlink $file;
	}
	return $longest / 1000;
}

# --------------------------------------------------------------------------
# killed in the middle, twice

foreach my $round (1, 2)
{
	my $archive = CreditsTest::Session->new($node);
	$archive->send(q(CALL credits_archive(now(), 5)));
	my $done = 0;
	ok(wait_until(sub {
		my $found = value(q(SELECT done_account_id FROM credits.archives WHERE ended_at IS NULL));
		$done = $found if $found ne '';
		return $done > 40 * $round;
	}), "round $round: it is under way, at account $done");
	kill_cluster($node);
	$node->start;
	$super = CreditsTest::Session->new($node, verbosity => 'default');
	isnt(value(q(SELECT count(*) FROM credits.archives WHERE ended_at IS NULL)), '0', 'it has not ended');
	problems_are($node, '', 'clean');
	is(value(q(SELECT kind FROM credits_deduct('account:1', 1))), 'deduction', 'spends go on');
	sqlstate_is($node, q(SELECT credits_refund((SELECT min(id) FROM credits.transactions WHERE account_id = credits.account_id('account:1') AND kind = 'deduction'))), 'PT410',
		'no refund of what is being archived');
}

# --------------------------------------------------------------------------
# finished, beside clients that spend

my $before = value(q(SELECT count(*), sum(hashtext(hash::text)::bigint) FROM credits.all_transactions WHERE idempotency_key LIKE 'old:%'));
my $clients = start_clients($large ? int($rows / 15_000) : 20);
sleep 1;
$begun = time;
my ($until, $partitions) = split /\|/, value(q(CALL credits_archive(now(), 50)));
note sprintf '%d rows in %.1f s', $rows, time - $begun;
ok(IPC::Run::finish($clients), 'no client failed');
my $wait = longest();
cmp_ok($until, '>=', 2 * $size - 1, "archived until $until, $partitions partitions");
cmp_ok($wait, '<', 1000, "longest wait of a spend: $wait ms");
problems_are($node, '', 'clean');
is(value(q(SELECT count(*) FROM credits.anchors)), $accounts, 'an anchor for each account');
is(value(q(SELECT count(*), sum(hashtext(hash::text)::bigint) FROM credits.all_transactions WHERE idempotency_key LIKE 'old:%')),
	$before, 'all rows are there');
is(value(qq(SELECT kind FROM credits_capture((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:1')))), 'capture',
	'a hold is captured');
problems_are($node, '', 'clean still');

# --------------------------------------------------------------------------
# what has left is checked outside the database

$begun = time;
my $anchors = $node->basedir . '/anchors.jsonl';
$node->command_ok([ 'psql', '-XAtq', '-o', $anchors, '-c', 'SELECT row_to_json(a) FROM credits.anchors AS a ORDER BY account_id, transaction_id',
		$node->connstr('postgres') ], 'the anchors are exported');
my $checked = '';
IPC::Run::run([ $node->installed_command('psql'), '-XAtq', '-v', 'FETCH_COUNT=10000', '-c', 'SELECT row_to_json(c) FROM credits.archived_chain AS c ORDER BY account_id, id',
		$node->connstr('postgres') ], '|', [ 'python3', '-B', "$FindBin::RealBin/../../doc/verify_chain.py", '--anchors', $anchors ], '>', \$checked);
like($checked, qr/^\d+ rows, $accounts accounts: OK$/, 'what has left is whole');
note sprintf 'checked outside the database in %.1f s: %s', time - $begun, $checked;

# --------------------------------------------------------------------------
# the subscriber has everything, and keeps its own copy of what has left

if ($subscriber)
{
	$node->wait_for_catchup('everything');
	is($subscriber->safe_psql('postgres', q(SELECT encode(credits_digest(), 'hex'))),
		value(q(SELECT encode(credits_digest(), 'hex'))), 'the subscriber has the same digest');
	is($subscriber->safe_psql('postgres', q(SELECT count(*) FROM credits.anchors)), $accounts, 'and the anchors');
	problems_are($subscriber, '', 'clean there, too');
	is($subscriber->safe_psql('postgres', q(SELECT count(*) FROM credits.transactions WHERE idempotency_key LIKE 'old:%')),
		value(q(SELECT count(*) FROM credits.all_transactions WHERE idempotency_key LIKE 'old:%')), 'all rows are in its own log');
}

done_testing();
