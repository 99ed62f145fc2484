# Closing the books: what leaves the log, what stays, and that nothing that is still
# open notices.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use IPC::Run qw(run);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = <<'CONF';
credits.partition_rows = 100
credits.partitions_ahead = 12
credits.key_retention = '30 days'
credits.refund_window = '90 days'
CONF
my $node = credits_node('archive', streaming => 'logical', conf => $conf);
my $super = CreditsTest::Session->new($node, verbosity => 'default');

sub value { return $super->value(@_) }

# Run a statement that fails: SQLSTATE and message.
sub fails
{
	my ($sql, $code, $name, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	sqlstate_is($node, $sql, $code, $name, dbname => $dbname // 'postgres');
}

# --------------------------------------------------------------------------
# nothing leaves before it may

my $pristine = value(q(CALL credits_archive('2020-06-01')));
is($pristine, '|', 'nothing to archive in an empty log');
is(value(q(SELECT count(*) FROM credits.archives)), '0', 'and no closing');
is(value(q(CALL credits_archive())), '|', 'nothing is archived unless somebody says what');
fails(q(CALL credits_archive(now(), NULL)), '22004', 'the size of batches is needed');
fails(q(CALL credits_archive('2020-06-01', 0)), '22023', 'a batch has an account');
fails(q(BEGIN; CALL credits_archive('2020-06-01')), '25001', 'not inside a transaction block');

value(q(CALL credits_partition_log()));
populate($node);
value(q(CALL credits_partition_log()));
is(value(q(CALL credits_archive('2020-01-01'))), '|', 'nothing that is older');
is(value(q(SET credits.refund_window = 0; CALL credits_archive('2020-06-01'))), '|', 'refunds for ever hold it back');
is(value(q(SELECT string_agg(obstacle, ' ' ORDER BY obstacle) FROM credits_archive_obstacles() WHERE transaction_id = 1)),
	'credits.refund_window', 'by name');
is(value(q(RESET credits.refund_window; SET credits.key_retention = 0; CALL credits_archive('2020-06-01'))), '|',
	'keys for ever hold it back');
is(value(q(SELECT string_agg(obstacle, ' ' ORDER BY obstacle) FROM credits_archive_obstacles() WHERE transaction_id = 1)),
	'credits.key_retention', 'by name');
value('RESET credits.key_retention');

# --------------------------------------------------------------------------
# a first closing

# later rows of some accounts, which refer to earlier ones
my $n = 0;
value(qq(SELECT credits_deduct('bulk:' || n, 1, 'new:$_:' || n) FROM generate_series(1, 50) AS n)) foreach 1 .. 3;
value(q(SELECT credits_deduct('user:1', 1, 'late')));
my $hold5 = value(q(SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:5'));
my $hold6 = value(q(SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:6'));
my $ended = value(q(SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:3'));
my $spend = value(q(SELECT id FROM credits.transactions WHERE idempotency_key = 'b:1:1'));
my $transfer = value(q(SELECT id FROM credits.transactions WHERE idempotency_key = 'transfer:1'));
my $gift = value(q(SELECT code FROM credits.gifts WHERE status = 'open' LIMIT 1));

# What users see, and what must not change.
sub seen
{
	return value(q(SELECT md5(string_agg(concat_ws('|', a.name, s, h, g, m), E'\n' ORDER BY a.name))
		FROM credits.accounts AS a
		CROSS JOIN LATERAL (SELECT credits_summary(a.name)::text) AS s (s)
		CROSS JOIN LATERAL (SELECT string_agg(x::text, ',') FROM credits_holds(a.name) AS x) AS h (h)
		CROSS JOIN LATERAL (SELECT string_agg(x::text, ',') FROM credits_grants(a.name) AS x) AS g (g)
		CROSS JOIN LATERAL (SELECT string_agg(x::text, ',' ORDER BY x::text) FROM credits.pool_members AS x
			WHERE x.account = a.name) AS m (m)));
}

sub rows
{
	my ($view) = @_;
	return value(qq(SELECT count(*), md5(string_agg(t::text, E'\\n' ORDER BY t.id)) FROM credits.$view AS t));
}

my $seen = seen();
my $rows = rows('transactions');
my $opening = value(q(SELECT credits_open_account('user:1')));
my $digest = value(q(SELECT encode(credits_digest(), 'hex')));
problems_are($node, '', 'clean before');
# who may refer to old rows, and has not ended, is waited for; two calls are one closing
my ($busy, $before, $archiver) = map { CreditsTest::Session->new($node) } 1 .. 3;
$busy->value('BEGIN');
$busy->value("SELECT credits_erase_text($hold5)");
$before->value('BEGIN ISOLATION LEVEL REPEATABLE READ');
$before->value('SELECT count(*) FROM credits.archives');
$archiver->value(q(SET statement_timeout = '1s'));
is($archiver->query(q(CALL credits_archive('2020-06-01', 7)))->{code}, '57014', 'an open transaction is waited for');
is(value('SELECT count(*) FROM credits.anchors'), '0', 'before anything is proven');
is($before->query("SELECT credits_refund($spend)")->{code}, 'PT410', 'an old snapshot sees that the books are being closed');
$_->value('ROLLBACK') foreach $busy, $before;
$_->quit foreach $busy, $before, $archiver;
my ($until, $partitions) = split /\|/, value(q(CALL credits_archive('2020-06-01', 7)));
cmp_ok($until, '>', 99, "archived until $until");
cmp_ok($partitions, '>', 0, "$partitions partitions");
problems_are($node, '', 'clean after');
is(value(q(SELECT string_agg(account || ': ' || problem, ', ') FROM credits.accounts AS a CROSS JOIN LATERAL credits_verify(a.name))),
	'', 'each account by itself, too');
is(seen(), $seen, 'users see the same');
is(rows('all_transactions'), $rows, 'all rows are still there');
is(value(q(SELECT encode(credits_digest(), 'hex'))), $digest, 'the digest is the same');
is(value(qq(SELECT count(*) FROM credits.transactions WHERE id <= $until)),
	value(q(SELECT count(*) FROM credits.carried_rows)), 'the log has copies of some');
cmp_ok(value(q(SELECT count(*) FROM credits.carried_rows)), '<', 150, 'and not of many');
is(value(qq(SELECT max(id) <= $until FROM credits.archived_transactions)), 't', 'the rest is archived');
cmp_ok(value(q(SELECT count(*) FROM credits.archived_grants)), '>', 0, 'with used-up grants');
is(value(q(SELECT count(*) FROM credits.archived_grants WHERE status IN ('open', 'pending'))), '0', 'and no others');
is(value(q(CALL credits_archive('2020-06-01'))), '|', 'once');

# what is archived cannot be undone
fails("SELECT credits_refund($spend)", 'PT410', 'no refund');
fails("SELECT credits_reverse_transfer($transfer, 'late')", 'PT410', 'no reversal');
fails("SELECT * FROM credits_history('bulk:1', before_id => $spend)", 'PT410', 'no page before it');
fails("SELECT credits_balance_at('bulk:1', '2020-01-01 12:00')", 'PT410', 'no balance of that time');
is(value(q(SELECT credits_balance_at('bulk:1', '2021-01-15'))),
	value(q(SELECT balance FROM credits.anchors WHERE account_id = credits.account_id('bulk:1'))), 'but of a later one');
is(value(q(SELECT credits_balance_at('bulk:1', now()))), value(q(SELECT credits_balance('bulk:1'))), 'and of now');
is(value(q(SELECT string_agg(kind, ' ' ORDER BY created_at DESC, transaction_id DESC) FROM credits_history('bulk:1'))),
	'deduction deduction deduction archived', 'history says where the rest is');
is(value(q(SELECT h.balance = n.balance AND h.metadata ->> 'transactions' = n.transaction_count::text
	FROM credits_history('bulk:1', kinds => '{archived}') AS h
	JOIN credits.anchors AS n ON n.transaction_id = h.transaction_id)), 't', 'with the balance there');
is(value(q(SELECT count(*) FROM credits_history('bulk:1',
	before_id => (SELECT transaction_id FROM credits_history('bulk:1', kinds => '{archived}'))))), '0', 'and nothing before');
is(value(q(SELECT credits_open_account('user:1'))), $opening, 'an account is opened once');

# what is open goes on
is(value("SELECT kind, held FROM credits_capture($hold5, 3, final => false)"), 'capture|12', 'a hold is captured');
is(value("SELECT kind FROM credits_release($hold6)"), 'release', 'a hold of a pool is released');
is(value("SELECT kind FROM credits_redeem('bulk:33', '$gift')"), 'gift', 'a gift is redeemed');
problems_are($node, '', 'clean');
like(value("SELECT kind, amount FROM credits_capture($hold5)"), qr/^capture\|/, 'and captured again');
problems_are($node, '', 'clean');

# --------------------------------------------------------------------------
# nobody changes it

foreach my $table (qw(archives anchors anchor_parts carried_rows archived_grants archived_log))
{
	my ($column) = split /\n/, value(qq(SELECT attname FROM pg_attribute WHERE attrelid = 'credits.$table'::regclass AND attnum = 1));
	fails("UPDATE credits.$table SET $column = $column", '42501', "$table: no update");
	fails("DELETE FROM credits.$table", '42501', "$table: no delete");
	fails("TRUNCATE credits.$table", '42501', "$table: no truncate");
	fails("SET session_replication_role = replica; DELETE FROM credits.$table", '42501', "$table: not as a replica");
}
my $left = value(q(SELECT min(c.relname) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
	WHERE i.inhparent = 'credits.archived_log'::regclass AND c.relname <> 'archived_log_default'));
fails("UPDATE credits.$left SET amount = 0", '42501', 'a partition that has left: no update');
fails("DELETE FROM credits.$left", '42501', 'no delete');
fails("TRUNCATE credits.$left", '42501', 'no truncate');

# --------------------------------------------------------------------------
# a second closing

value(qq(SELECT credits_deduct('bulk:' || n, 1, 'newer:$_:' || n) FROM generate_series(1, 50) AS n)) foreach 1 .. 6;
my $still = value(q(SELECT transaction_id FROM credits_hold('bulk:12', 5, 'still', expires_in => '100 years')));
value(q(SELECT credits_deduct('bulk:' || n, 1) FROM generate_series(1, 50) AS n, generate_series(1, 4)));
$seen = seen();
$rows = rows('all_transactions');
my $later = q(SET credits.test_clock = '2040-01-01'; );
my ($second) = split /\|/, value($later . q(CALL credits_archive('2039-12-31')));
cmp_ok($second, '>', $until, "a second closing, until $second");
value('RESET credits.test_clock');
problems_are($node, '', 'clean');
is(seen(), $seen, 'users see the same');
is(rows('all_transactions'), $rows, 'all rows are still there');
like(value(qq(BEGIN; SELECT kind FROM credits_capture($still); SELECT count(*) FROM credits_verify(); ROLLBACK)), qr/^capture\n0$/,
	'a hold of the second closing can be captured');
fails("SELECT credits_capture($ended)", 'PT410', 'no capture of a hold that ended');
is(value(qq(SELECT count(*) FROM credits.hold_states WHERE id = $ended)), '0', 'of which nothing is left');
is(value(q(SELECT count(*) FROM credits.partitions WHERE name LIKE 'log_carried%')), '1', 'one partition has the copies');

# --------------------------------------------------------------------------
# what a superuser can do with triggers disabled, and how it shows

my @off = map { "ALTER TABLE credits.$_ DISABLE TRIGGER ALL" } split / /,
  value(q(SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'credits'::regnamespace AND relkind IN ('r', 'p')));

sub tampered
{
	my ($name, $sql, $expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	value($_) foreach 'BEGIN', @off, $sql;
	my $found = value(q(SELECT string_agg(DISTINCT problem, ' ' ORDER BY problem) FROM credits_verify()));
	like($found, qr/\b$expected\b/, "$name: $found");
	value('ROLLBACK');
	return;
}
my $of = sub { my ($account) = @_; return "account_id = credits.account_id('$account') AND transaction_id ="
	  . " (SELECT max(transaction_id) FROM credits.anchors WHERE account_id = credits.account_id('$account'))" };
my $bulk = $of->('bulk:10');
tampered('balance', "UPDATE credits.anchors SET balance = balance + 1 WHERE $bulk", 'balance');
tampered('held', "UPDATE credits.anchors SET held = held + 1 WHERE $bulk", 'held');
tampered('hash', "UPDATE credits.anchors SET hash = sha256('x') WHERE $bulk", '(chain|head)');
tampered('count', "UPDATE credits.anchors SET transaction_count = transaction_count - 1 WHERE $bulk", 'count');
tampered('totals', "UPDATE credits.anchors SET spent = spent - 1 WHERE $bulk", 'totals');
tampered('granted', "UPDATE credits.anchors SET granted = granted + 1 WHERE $bulk", 'totals');
tampered('status', "UPDATE credits.anchors SET status = 'closed' WHERE $bulk", 'status');
tampered('id', "UPDATE credits.anchors SET transaction_id = transaction_id - 1 WHERE $bulk", 'grants');
tampered('no anchor', "DELETE FROM credits.anchors WHERE $bulk", 'balance');
tampered('grant', "UPDATE credits.anchor_parts SET state = state || '{\"remaining\": 1}' WHERE kind = 'grant' AND $bulk", 'grants');
tampered('no grant', "DELETE FROM credits.anchor_parts WHERE kind = 'grant' AND $bulk", 'grants');
cmp_ok($still, '<=', $second, 'a hold is open at an anchor');
tampered('no hold', "DELETE FROM credits.anchor_parts WHERE kind = 'hold' AND @{[ $of->('bulk:12') ]}", 'holds');
tampered('debt', "UPDATE credits.anchor_parts SET state = state || '{\"owed\": 0}' WHERE kind = 'debt'", 'debt');
tampered('member', "UPDATE credits.anchor_parts SET state = state || '{\"terms\": {}}' WHERE kind = 'member'", 'members');
tampered('use', "DELETE FROM credits.anchor_parts WHERE kind = 'use'", 'members');
tampered('limits', "UPDATE credits.anchors SET limits = NULL", 'limits');
my $copy = value(q(SELECT max(id) FROM credits.carried_rows WHERE until_id = (SELECT max(until_id) FROM credits.archives)));
tampered('copy', "UPDATE credits.log SET amount = amount - 1 WHERE id = $copy", 'chain');
tampered('copy and its hash', "UPDATE credits.log SET hash = sha256('x') WHERE id = $copy", 'chain');
tampered('no copy', "DELETE FROM credits.log WHERE id = $copy", 'orphan');
tampered('another copy', "DELETE FROM credits.carried_rows WHERE id = $copy", 'orphan');
problems_are($node, '', 'clean');

# --------------------------------------------------------------------------
# what has left is checked where it is

sub archived_problems
{
	my ($account) = @_;
	return value(sprintf q(SELECT string_agg(DISTINCT problem, ' ' ORDER BY problem) FROM credits_verify(%s, archived => true)), $account // 'NULL');
}

is(archived_problems(), '', 'what has left is whole');
is(value(q(SELECT string_agg(a.name, ' ') FROM credits.accounts AS a WHERE EXISTS (SELECT FROM credits_verify(a.name, archived => true)))),
	'', 'each account by itself, too');
fails('SELECT credits_verify(archived => NULL)', '22004', 'it is asked for or not');
my ($row, $of_row, $whose) = split /\|/, value(qq(SELECT l.id, l.tableoid::regclass, quote_literal(a.name)
	FROM credits.archived_log AS l JOIN credits.accounts AS a ON a.id = l.account_id
	WHERE l.id = $spend));
my ($anchored) = value(qq(SELECT min(transaction_id) FROM credits.anchors WHERE account_id = (SELECT account_id FROM credits.archived_log WHERE id = $spend)));

# the log says nothing of it
sub tampered_archive
{
	my ($name, $sql, $expected) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	value($_) foreach 'BEGIN', @off, $sql;
	is(archived_problems($whose), $expected, $name);
	is(value(qq(SELECT count(*) FROM credits_verify($whose))), '0', "$name: the log is clean");
	value('ROLLBACK');
	return;
}
tampered_archive('an amount', "UPDATE $of_row SET amount = amount - 1 WHERE id = $row", 'chain running_balance');
tampered_archive('an operation', "UPDATE $of_row SET operation = 'x' WHERE id = $row", 'chain');
tampered_archive('a hash', "UPDATE $of_row SET hash = sha256('x') WHERE id = $row", 'chain');
tampered_archive('a row is missing', "DELETE FROM $of_row WHERE id = $row", 'chain count running_balance');
tampered_archive('that of the anchor is', "DELETE FROM credits.archived_log WHERE id = $anchored", 'orphan');
tampered_archive('a partition is', "DROP TABLE $of_row", '');

# --------------------------------------------------------------------------
# offline

my $script = "$FindBin::RealBin/../../doc/verify_chain.py";

sub check_offline
{
	my ($chain, $anchors, @arguments) = @_;
	my ($out, $err) = ('', '');
	my $file = $node->basedir . '/anchors.jsonl';
	open my $to, '>', $file or die $!;
	print $to "$anchors\n";
	close $to;
	run [ 'python3', '-B', $script, '--anchors', $file, @arguments ], '<', \"$chain\n", '>', \$out, '2>', \$err;
	return ($? >> 8, "$out$err");
}
my $anchors = value(q(SELECT row_to_json(a) FROM credits.anchors AS a ORDER BY account_id, transaction_id));
my $live = value(q(SELECT row_to_json(c) FROM credits.chain AS c ORDER BY account_id, id));
my $old = value(q(SELECT row_to_json(c) FROM credits.archived_chain AS c ORDER BY account_id, id));
my ($status, $out) = check_offline($live, $anchors, '--digest');
is($status, 0, 'what is left goes on from the anchors') or diag $out;
like($out, qr/^digest @{[ value(q(SELECT encode(credits_digest(), 'hex'))) ]}$/m, 'with the digest');
($status, $out) = check_offline($old, $anchors);
is($status, 0, 'what has left leads to the anchors') or diag $out;
my $one = value(qq(SELECT row_to_json(c) FROM credits.archived_chain AS c WHERE id > $until ORDER BY account_id, id));
($status, $out) = check_offline($one, $anchors);
is($status, 0, 'what the second closing covers leads from anchor to anchor') or diag $out;
(my $wrong = $old) =~ s/"amount":-1,/"amount":-2,/;
is((check_offline($wrong, $anchors))[0], 1, 'a row was changed');
($wrong = $old) =~ s/^.*"id":$spend,.*\n//m;
is((check_offline($wrong, $anchors))[0], 1, 'a row was removed');
($wrong = $anchors) =~ s/"balance":(\d+)/'"balance":' . ($1 + 1)/e;
is((check_offline($old, $wrong))[0], 1, 'an anchor was changed');
($wrong = $anchors) =~ s/"hash":"..x(.)/'"hash":"\\\\x' . ($1 eq '0' ? '1' : '0')/e;
is((check_offline($old, $wrong))[0], 1, 'its hash');

# --------------------------------------------------------------------------
# dump and restore

$node->command_ok([ 'pg_dump', '-Fc', '-f', $node->basedir . '/dump', $node->connstr('postgres') ], 'dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('copy'), $node->basedir . '/dump' ], 'restore');
is(facts_of($node, 'copy'), facts_of($node), 'the same, and clean');
fails("SELECT credits_refund($spend)", 'PT410', 'still archived', 'copy');
fails("DELETE FROM credits.$left", '42501', 'still guarded', 'copy');

# what has left may be exported and dropped
value("DROP TABLE credits.$left");
problems_are($node, '', 'clean when a partition that has left is dropped');
is(archived_problems(), '', 'and so are the others');

done_testing();
