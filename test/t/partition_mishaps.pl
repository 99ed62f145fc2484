# What can go wrong with partitions of the log: somebody has moved or renamed things,
# the default partition has grown large between others, a vacuum goes on, a transaction
# is prepared, a dump is restored in sections, a subscriber takes over.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = <<'CONF';
credits.partition_rows = 10000
credits.key_retention = '1 day'
credits.refund_window = '1 day'
autovacuum = off
max_prepared_transactions = 10
CONF
my $node = credits_node('partition_mishaps', streaming => 'logical', conf => $conf);
my $super = CreditsTest::Session->new($node, verbosity => 'default');

sub value { return $super->value(@_) }

# Make the next id the one after this.
sub go_to
{
	my ($id) = @_;
	return value("SELECT setval('credits.transactions_id_seq', $id)");
}

sub spend
{
	my ($key) = @_;
	return value("SELECT transaction_id FROM credits_deduct('user:1', 1, '$key')");
}

# Rows of which a page has one only, since its fillfactor is low.
sub fill
{
	my ($rows, $name) = @_;
	return value(qq(SELECT count(credits_deduct('user:' || i % 20, 1, '$name:' || i,
		metadata => jsonb_build_object('text', repeat('x', 1000) || i))) FROM generate_series(1, $rows) AS i));
}

sub blocks { return value(q(SELECT pg_relation_size('credits.log_default') / 8192)) }

sub node_of { my ($table) = @_; return value("SELECT pg_relation_filenode('credits.$table')") }

# --------------------------------------------------------------------------
# storage: like the default partition, and in the tablespace of the log if it has one

my $version = value('SHOW server_version_num');
my $places = PostgreSQL::Test::Utils::tempdir();
foreach my $place (qw(cold fast))
{
	mkdir "$places/$place" or die;
	value("CREATE TABLESPACE $place LOCATION '$places/$place'");
}
value(q(SET credits.test_clock = '2020-01-01 00:00+00';
	SELECT count(credits_open_account('user:' || i, 1000000)) FROM generate_series(0, 19) AS i));
spend('first');
value('ALTER TABLE credits.log_default SET TABLESPACE cold');
value('ALTER TABLE credits.log_default SET (fillfactor = 15, autovacuum_vacuum_insert_scale_factor = 0.05, toast.autovacuum_vacuum_threshold = 77)');
if ($version >= 150000)
{
	value('CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler');
	value('ALTER TABLE credits.log_default SET ACCESS METHOD heap2');
}
is(value('CALL credits_partition_log()'), '3', 'partitioned');
value('ALTER TABLE credits.log SET TABLESPACE fast');
is(value('SET credits.partitions_ahead = 3; CALL credits_partition_log()'), '1', 'another one');
value('RESET credits.partitions_ahead');
my $storage = q(SELECT string_agg(DISTINCT concat_ws(' ', am.amname, c.reloptions::text, t.reloptions::text), '; '),
	string_agg(concat_ws(' ', c.relname, s.spcname), ', ' ORDER BY c.relname)
	FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_am AS am ON am.oid = c.relam
	LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
	LEFT JOIN pg_tablespace AS s ON s.oid = c.reltablespace WHERE i.inhparent = 'credits.log'::regclass);
is(value($storage),
	($version >= 150000 ? 'heap2' : 'heap') . ' {fillfactor=15,autovacuum_vacuum_insert_scale_factor=0.05} {autovacuum_vacuum_threshold=77}' .
	  '|log_0 cold, log_10000 cold, log_20000 cold, log_30000 fast, log_default cold', 'stored like the default one, or where the log says');

# --------------------------------------------------------------------------
# names that are taken

value('ALTER INDEX credits.log_10000_pkey RENAME TO log_40000_pkey');
value('ALTER INDEX credits.log_20000_reference_idx RENAME TO log_50000_reference_idx');
value('CREATE TABLE credits.log_default_rest ()');
go_to(44000);
spend('above');
cmp_ok(value('CALL credits_partition_log()'), '>=', 3, 'made beside names that are taken');
is(value(q(SELECT string_agg(name, ' ' ORDER BY name) FROM credits.partitions)),
	'log_0 log_10000 log_20000 log_30000 log_40000 log_50000 log_60000 log_default', 'all of them');
like(value(q(SELECT string_agg(indexrelid::regclass::text, ' ') FROM pg_index WHERE indrelid = 'credits.log_40000'::regclass AND indisprimary)),
	qr/^credits\.log_40000_pkey_\d+$/, 'one index has another name, and not that of another table');
problems_are($node, '', 'clean');

# --------------------------------------------------------------------------
# a prepared transaction keeps its locks

my $other = CreditsTest::Session->new($node);
value('BEGIN; SET LOCAL credits.partitions_ahead = 4; CALL credits_partition_log(); PREPARE TRANSACTION \'ahead\'');
is($other->value(q(SELECT amount FROM credits_deduct('user:2', 1, 'beside'))), '-1', 'a spend goes on beside what is prepared');
value(q(ROLLBACK PREPARED 'ahead'));
is(value('SELECT count(*) FROM credits.partitions'), '8', 'rolled back');
go_to(74000);
spend('above again');
value('BEGIN; CALL credits_partition_log(); PREPARE TRANSACTION \'closed\'');
$other->value(q(SET statement_timeout = '100ms'));
is($other->query(q(SELECT amount FROM credits_deduct('user:2', 1, 'waits')))->{code}, '57014', 'a spend waits for the closing of the default partition');
$super->quit;
value_after_restart();
$other = CreditsTest::Session->new($node);
is($other->value(q(SELECT amount FROM credits_deduct('user:2', 1, 'waits'))), '-1', 'and goes on');
is(value(q(SELECT tableoid::regclass FROM credits.log WHERE id = 74001)), 'credits.log_70000', 'committed');
problems_are($node, '', 'clean');

sub value_after_restart
{
	$other->quit;
	$node->restart;
	$super = CreditsTest::Session->new($node, verbosity => 'default');
	value(q(COMMIT PREPARED 'closed'));
	value(q(SET credits.test_clock = '2020-01-01 00:00+00'));
	return;
}

# --------------------------------------------------------------------------
# a gap that has grown large is closed without being read under a lock

value(q(SELECT count(credits_deduct('user:1', 1)) FROM generate_series(1, 10)));
value('DROP TABLE credits.log_80000');
go_to(80000);
fill(4200, 'gap');
cmp_ok(blocks(), '>', 4096, 'more than is read under a lock');
my $gap = node_of('log_default');

# with rows in the default partition, the books are not closed either
value(q(RESET credits.test_clock; SET credits.partition_rows = 0; SET statement_timeout = '30s'));
is($super->query(q(CALL credits_archive('2021-01-01')))->{rows}[0] // '', '', 'archiving would read a large default partition');
is(value(q(SELECT count(*) FROM credits.archives WHERE ended_at IS NULL)), '1', 'the books are still being closed');
value('RESET credits.partition_rows');
sqlstate_is($node, 'SET credits.partition_rows = 0; CALL credits_archive()', '55000', 'for that reason');
is($other->value(q(SELECT amount FROM credits_deduct('user:2', 1, 'while'))), '-1', 'spends go on');
sqlstate_is($node, 'BEGIN; CALL credits_partition_log()', '25001', 'not inside a transaction block');
my ($archiving, $holding) = map { CreditsTest::Session->new($node) } 1 .. 2;
is(join('', @{ $other->query('CALL credits_housekeep()')->{messages} }), '', 'the job closes the gap');
is(node_of('log_80000'), $gap, 'in place');
is(value(q(SELECT count(*) FROM credits.log_default)), '0', 'nothing is left');
is(value(q(SELECT bounds FROM credits.partitions WHERE name = 'log_80000')), q(FOR VALUES FROM ('80000') TO ('90000')), 'within its bounds');
problems_are($node, '', 'clean');

# --------------------------------------------------------------------------
# a vacuum of a partition that leaves is waited for while spends go on

$holding->value('BEGIN');
# in a mode that what archiving does before does not wait for
$holding->value('LOCK TABLE credits.log_0 IN SHARE MODE');
$archiving->send('CALL credits_archive()');
ok($node->poll_query_until('postgres', q(SELECT count(*) > 0 FROM pg_locks WHERE relation = 'credits.log_0'::regclass
	AND mode = 'ShareUpdateExclusiveLock' AND NOT granted)), 'archiving waits for it');
is($node->safe_psql('postgres', q(SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'
	AND relation IN (SELECT inhrelid FROM pg_inherits UNION ALL SELECT 'credits.log'::regclass))), '0', 'and excludes nobody meanwhile');
is($other->value(q(SELECT amount FROM credits_deduct('user:3', 1, 'vacuum'))), '-1', 'so spends go on');
$holding->value('ROLLBACK');
is($archiving->receive->{code}, '00000', 'and it goes on afterwards');
is(value(q(SELECT count(*) FROM credits.archives WHERE ended_at IS NOT NULL)), '1', 'the books are closed');
problems_are($node, '', 'clean');

# --------------------------------------------------------------------------
# rows in a gap and above all partitions: many are not copied by the job

my $above = value(q(SELECT max(substring(name, '\d+')::bigint) + 10000 FROM credits.partitions WHERE name ~ '^log_\d+$'));
my $middle = $above - 20000;
value("DROP TABLE credits.log_$middle");
go_to($middle);
fill(600, 'middle');
go_to($above + 5);
my $highest = spend('above all');
cmp_ok(blocks(), '>', 512, 'more than the job copies');
like(join('', @{ $other->query('CALL credits_housekeep()')->{messages} }), qr/55000/, 'the job says so');
is(value(q(SELECT count(*) FROM credits.log_default)), '601', 'and does nothing');
is($other->value(q(SELECT amount FROM credits_deduct('user:3', 1, 'still'))), '-1', 'spends go on');
my $begun = time;
cmp_ok(value('CALL credits_partition_log()'), '>', 0, 'who asks for it waits for it');
diag 'took ' . (time - $begun) . ' s';
is(value(q(SELECT count(*) FROM credits.log_default)), '0', 'nothing is left');
is(value("SELECT count(*) FROM credits.log_$middle"), '600', 'copied');
is(value("SELECT tableoid::regclass FROM credits.log WHERE id = $highest"), "credits.log_$above", 'in two partitions');
problems_are($node, '', 'clean');

# --------------------------------------------------------------------------
# a dump, restored in sections

my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '--no-tablespaces', '-f', $dump, $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE sections');
foreach my $section (qw(pre-data data post-data))
{
	$node->command_ok([ 'pg_restore', '-e', "--section=$section", '-d', $node->connstr('sections'), $dump ], "pg_restore --section=$section");
}
my $sum = q(SELECT credits_digest(), count(*), sum(amount) FROM credits.all_transactions);
is($node->safe_psql('sections', $sum), value($sum), 'the same rows');
my $partitions = q(SELECT name, bounds FROM credits.partitions ORDER BY name);
is($node->safe_psql('sections', $partitions), value($partitions), 'the same partitions');
problems_are($node, '', 'clean', 'sections');
like($node->safe_psql('sections', q(SELECT amount FROM credits_deduct('user:3', 1, 'sections'); CALL credits_partition_log())), qr/^-1\n\d+$/, 'it goes on');

done_testing();
