# Erasing the texts of rows that have left the log, or are leaving it: nothing of them is
# left in any table, in a dump or at a subscriber, and the chain is whole.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use IPC::Run qw(run);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('archive_erase', streaming => 'logical', conf => <<'CONF');
credits.partition_rows = 10
credits.partitions_ahead = 12
credits.key_retention = '1 day'
credits.refund_window = '1 day'
CONF
my $super = CreditsTest::Session->new($node, verbosity => 'default');

sub value { return $super->value(@_) }

sub fails
{
	my ($sql, $code, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sqlstate_is($node, $sql, $code, $name);
	return;
}

# A subscriber of everything.
sub subscribe
{
	my ($name) = @_;
	my $subscriber = credits_node($name, streaming => 'logical');
	$subscriber->safe_psql('postgres', sprintf(q(CREATE SUBSCRIPTION %s CONNECTION '%s' PUBLICATION everything),
			$name, $node->connstr('postgres') =~ s/'//gr));
	$subscriber->wait_for_subscription_sync($node, $name);
	return $subscriber;
}

# In how many rows of all tables of a cluster a text is.
sub found_in
{
	my ($where, $text) = @_;
	my $sql = join ' + ', map { "(SELECT count(*) FROM credits.$_ AS t WHERE t::text LIKE '%$text%')" } split /\n/,
	  $where->safe_psql('postgres', q(SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = 'credits'::regnamespace AND relkind = 'r'));
	return $where->safe_psql('postgres', "SELECT $sql");
}

value(q(CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root)));
my $early = subscribe('early');
value(q(CALL credits_partition_log()));
value(q(SET credits.test_clock = '2025-01-01 00:00+00';
	SELECT credits_open_account('user:' || n, 1000) FROM generate_series(1, 4) AS n));
my @hold = map { value("SELECT transaction_id FROM credits_hold('user:1', 1, 'held:$_:', reference => 'ann:held:$_:', expires_in => '100 years')") } 0 .. 4;
my @spend = map { value("SELECT transaction_id FROM credits_deduct('user:2', 1, 'spent:$_:', reference => 'ann:spent:$_:', metadata => '{\"name\": \"ann:$_:\"}')") } 0 .. 14;
value(q(RESET credits.test_clock; SELECT credits_deduct('user:' || n, 1) FROM generate_series(1, 4) AS n, generate_series(1, 10)));
value(q(CALL credits_partition_log()));

# --------------------------------------------------------------------------
# while the books are being closed: copies of rows exist, and are not in the log

my ($reader, $archiver, $old) = map { CreditsTest::Session->new($node) } 1 .. 3;
$reader->value('BEGIN; LOCK TABLE credits.log IN ACCESS SHARE MODE');
$old->value('BEGIN ISOLATION LEVEL REPEATABLE READ');
$old->value('SELECT count(*) FROM credits.archives');
$archiver->send(q(CALL credits_archive('2025-06-01')));
ok(wait_until(sub { value(q(SELECT count(*) FROM pg_class WHERE relname LIKE 'log_carried_%' AND relkind = 'r' AND NOT relispartition)) }),
	'the rows have been copied, and cannot leave');
is($old->query("SELECT credits_erase_text($hold[0])")->{code}, '40001', 'an old snapshot does not see the copies');
$old->value('ROLLBACK');
value('BEGIN');
is(value("SELECT credits_erase_text($hold[0])"), 't', 'erased meanwhile');
is(value(q(SELECT count(*) FROM pg_class WHERE relname LIKE 'log_carried_%' AND relkind = 'r')), '0', 'the copies are thrown away');
value('ROLLBACK');
is(value("SELECT credits_erase_text($spend[0])"), 't', 'of a row without a copy');
is(value(q(SELECT count(*) FROM pg_class WHERE relname LIKE 'log_carried_%' AND relkind = 'r')), '1', 'they stay');
is(value("SELECT credits_erase_text($hold[0])"), 't', 'erased');
is(found_in($node, 'ann:held:0:'), '0', 'nothing is left of it');
$reader->value('COMMIT');
like($archiver->receive->{rows}[0], qr/^\d+\|2$/, 'two partitions leave');
$_->quit foreach $reader, $archiver, $old;
is(found_in($node, "%:$_:"), '0', "nothing is left of $_") foreach 'ann:held:0', 'ann:spent:0';
problems_are($node, '', 'clean');
like(value('SELECT max(until_id) FROM credits.archives'), qr/^1?\d$/, 'the books are closed');

# --------------------------------------------------------------------------
# when they are archived

is(value("SELECT count(*) FROM credits.carried_rows WHERE id = $hold[1]"), '1', 'the log has a copy of a hold');
is(found_in($node, 'ann:held:1:'), '2', 'in two places');
is(value("SELECT credits_erase_text($hold[1])"), 't', 'erased');
is(found_in($node, 'ann:held:1:'), '0', 'in both');
is(value("SELECT credits_erase_text($hold[1])"), 'f', 'once');
is(value("SELECT credits_erase_text($spend[1])"), 't', 'a row that has left the log');
is(found_in($node, "ann:spent:1:"), '0', 'erased');
is(value("SELECT count(*) FROM credits.all_transactions WHERE id IN ($hold[1], $spend[1]) AND idempotency_key IS NULL AND request IS NULL
	AND length(salt) = 32"), '2', 'the digest is left');
is(value("SELECT string_agg(transaction_id::text, ' ' ORDER BY id) FROM credits.events WHERE kind = 'text_erased'"),
	"$spend[0] $hold[0] $hold[1] $spend[1]", 'an event for each');
problems_are($node, '', 'clean');
is(value("SELECT kind FROM credits_capture($hold[1])"), 'capture', 'the hold is captured');
value('BEGIN');
value("SELECT credits_erase_text($spend[2])");
value('ROLLBACK');
is(found_in($node, "ann:spent:2:"), '1', 'undone with the transaction');
value(qq(DO \$\$BEGIN PERFORM credits_erase_text($spend[2]); RAISE 'no' USING ERRCODE = 'P0001'; EXCEPTION WHEN raise_exception THEN NULL; END\$\$));
is(found_in($node, "ann:spent:2:"), '1', 'and with a subtransaction');

# nobody else may do it
my $left = value(qq(SELECT tableoid::regclass FROM credits.archived_log WHERE id = $spend[2]));
foreach my $table ($left, 'credits.archived_log')
{
	fails(qq(UPDATE $table SET salt = sha256(salt), idempotency_key = NULL, request = NULL, reference = NULL, metadata = NULL WHERE id = $spend[2]),
		'42501', "$table is guarded");
}
my $next = value('SELECT max(until_id) + 1 FROM credits.archives');
fails('SELECT credits_erase_text(9999)', 'PT404', 'no such transaction');

# offline, what has left is whole
my $script = "$FindBin::RealBin/../../doc/verify_chain.py";
append_to_file($node->basedir . '/anchors.jsonl', value(q(SELECT row_to_json(a) FROM credits.anchors AS a ORDER BY account_id, transaction_id)) . "\n");
my $chain = value(q(SELECT row_to_json(c) FROM credits.archived_chain AS c ORDER BY account_id, id));
my ($out, $err) = ('', '');
run [ 'python3', '-B', $script, '--anchors', $node->basedir . '/anchors.jsonl' ], '<', \"$chain\n", '>', \$out, '2>', \$err;
is($?, 0, 'offline, too') or diag "$out$err";

# --------------------------------------------------------------------------
# at subscribers: one that has all rows in its own log, and one that came later

$node->wait_for_catchup('early');
foreach my $text ('ann:held:0:', 'ann:held:1:', 'ann:spent:0:', 'ann:spent:1:')
{
	is(found_in($early, $text), '0', "nothing is left of $text at a subscriber");
}
problems_are($early, '', 'clean there');
my $late = subscribe('late');
is(found_in($late, 'ann:held:2:'), '2', 'one that came later has both copies');
is($late->safe_psql('postgres', q(SELECT count(*) FROM credits.archived_log_default)),
	value('SELECT count(*) FROM credits.archived_log'), 'and what had left');
value("SELECT credits_erase_text($_)") foreach $hold[2], $spend[3];
# twice, of which the second changes nothing
$early->safe_psql('postgres', "SELECT credits_erase_text($spend[4])");
value("SELECT credits_erase_text($spend[4])");
foreach my $subscriber ($early, $late)
{
	my $name = $subscriber->name;
	$node->wait_for_catchup($name);
	is(found_in($subscriber, $_), '0', "nothing is left of $_ at $name") foreach 'ann:held:2:', 'ann:spent:3:', 'ann:spent:4:';
	problems_are($subscriber, '', "clean at $name");
}
is($late->safe_psql('postgres', q(SELECT encode(credits_digest(), 'hex'))), value(q(SELECT encode(credits_digest(), 'hex'))), 'the same digest');

# --------------------------------------------------------------------------
# dumps, and partitions that were dropped

my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, $node->connstr('postgres') ], 'dump');
my $dumped = slurp_file($dump);
unlike($dumped, qr/ann:(held:[0-2]|spent:[0134]):/, 'a dump has none of what was erased');
like($dumped, qr/ann:held:3:/, 'but the rest');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('copy') ], 'restore');
is(facts_of($node, 'copy'), facts_of($node), 'the same, and clean');
is($node->safe_psql('copy', "SELECT credits_erase_text($hold[3])"), 't', 'erased in a copy');
problems_are($node, '', 'clean there', 'copy');

value("DROP TABLE $left");
fails("SELECT credits_erase_text($spend[2])", 'PT410', 'a row whose partition was dropped is gone');
is(value("SELECT credits_erase_text($hold[4])"), 't', 'but not the copy of one');
is(found_in($node, 'ann:held:4:'), '0', 'nothing is left of it');
problems_are($node, '', 'clean');

done_testing();
