# The log in partitions: converted beside clients that spend, dumped and restored,
# replicated from and to partitions, on a standby and by pg_upgrade.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seconds = 10;
my $node = credits_node('source', streaming => 1, conf => "credits.partition_rows = 2000\nwal_level = logical\nmax_prepared_transactions = 10\n");
$node->safe_psql('postgres', <<'SQL');
SELECT count(credits_open_account('account:' || i, 1000000)) FROM generate_series(1, 20) AS i;
SELECT count(credits_deduct('account:' || (1 + i % 20), 1, 'before:' || i)) FROM generate_series(1, 3000) AS i;
SQL
my $in_place = $node->safe_psql('postgres', q(SELECT pg_relation_filenode('credits.log_default')));

# ---------------------------------------------------------------------------
# the conversion beside eight clients, and beside transactions that do not end

my $spend = $node->basedir . '/spend.sql';
append_to_file($spend, <<'SQL');
\set i random(1, 20)
\set key random(1000000000000000000, 9223372036854775806)
SELECT credits_deduct('account:' || :i, 1, 'k:' || :key);
SQL
my ($out, $err) = ('', '');
my $spending = IPC::Run::start([ 'pgbench', '-n', '-c', 8, '-T', $seconds, '-l', '--log-prefix=' . $node->basedir . '/latency',
		'-f', $spend, '-h', $node->host, '-p', $node->port, 'postgres' ], '>', \$out, '2>', \$err);
$node->poll_query_until('postgres', q(SELECT max(id) > 3100 FROM credits.transactions)) or die;

# whoever has spent and does not end is waited for, but nobody waits for us
my $idle = CreditsTest::Session->new($node);
$idle->value('BEGIN');
$idle->value(q(SELECT credits_deduct('account:1', 1)));
my $impatient = CreditsTest::Session->new($node);
$impatient->value(q(SET statement_timeout = '1500ms'));
is($impatient->query('CALL credits_partition_log()')->{code}, '57014', 'cancelled while it waits for a lock');
is($node->safe_psql('postgres', 'SELECT count(*) FROM credits.partitions'), '1', 'nothing has happened');
$impatient->quit;
$idle->value('ROLLBACK');
$idle->value('BEGIN');
$idle->value('CALL credits_partition_log()');
is($idle->value('SELECT count(*) FROM credits.partitions'), '4', 'made and rolled back beside spends');
$idle->value('ROLLBACK');
is($node->safe_psql('postgres', 'SELECT count(*) FROM credits.partitions'), '1', 'and was never there');

my $begun = time;
# more if rows have gone past some meanwhile
cmp_ok($node->safe_psql('postgres', 'CALL credits_partition_log()'), '>=', 3, 'the conversion makes three');
my $took = time - $begun;
is($node->safe_psql('postgres', 'CALL credits_partition_log()') < 3, 1, 'it is not made twice');
is($node->safe_psql('postgres', q(SELECT pg_relation_filenode('credits.log_0'))), $in_place, 'in place');
for (1 .. 4)
{
	$node->safe_psql('postgres', 'CALL credits_housekeep()');
	select undef, undef, undef, 0.5;
}
# some go past the last partition
$node->safe_psql('postgres', q(SELECT nextval('credits.transactions_id_seq') FROM generate_series(1, 20000)));
select undef, undef, undef, 0.5;
$node->safe_psql('postgres', 'CALL credits_housekeep()');
ok($spending->finish, 'every spend went through') || diag $err;
is($err =~ s/^pgbench \(.*\n//r, '', 'without an error');
$node->safe_psql('postgres', 'CALL credits_housekeep()');

my @latencies = map { split /\n/, slurp_file($_) } glob($node->basedir . '/latency.*');
my ($longest) = sort { $b <=> $a } map { (split ' ')[2] } @latencies;
diag sprintf '%d spends, the conversion took %.0f ms, the longest spend %.0f ms', scalar @latencies, 1000 * $took, $longest / 1000;
cmp_ok($longest, '<', 3_000_000, 'no spend waited long');
is($node->safe_psql('postgres', q(SELECT count(*) FROM credits.transactions WHERE idempotency_key LIKE 'k:%')),
	scalar @latencies, 'each is in the log');
is($node->safe_psql('postgres', 'SELECT * FROM credits_verify()'), '', 'clean');
is($node->safe_psql('postgres', q(SELECT credits.log_default.id FROM credits.log_default LIMIT 1)), '', 'nothing is left over');
my $partitions = $node->safe_psql('postgres', 'SELECT name, bounds FROM credits.partitions ORDER BY 1');
diag $partitions;

# a prepared transaction keeps its lock
$node->safe_psql('postgres', q(BEGIN; SELECT credits_deduct('account:1', 1, 'prepared'); PREPARE TRANSACTION 'p'));
$node->safe_psql('postgres', q(COMMIT PREPARED 'p'));
is($node->safe_psql('postgres', q(SELECT replayed FROM credits_deduct('account:1', 1, 'prepared'))), 't', 'prepared');
my $old = CreditsTest::Session->new($node);
$old->value('BEGIN ISOLATION LEVEL REPEATABLE READ');
$old->value('SELECT count(*) FROM credits.accounts');
$node->safe_psql('postgres', 'SET credits.partitions_ahead = 4; CALL credits_housekeep()');
$node->safe_psql('postgres', q(SELECT nextval('credits.transactions_id_seq') FROM generate_series(1, 2000)));
is($old->value(q(SELECT amount FROM credits_deduct('account:2', 1, 'snapshot'))), '-1', 'an old snapshot, a new partition');
is($old->value(q(SELECT replayed FROM credits_deduct('account:2', 1, 'snapshot'))), 't', 'and it finds its key there');
$old->value('COMMIT');
$old->quit;

# of two calls at once, the second finds nothing to do
my @both = map { CreditsTest::Session->new($node) } 1 .. 2;
$both[0]->value('BEGIN');
$both[0]->value('SET LOCAL credits.partitions_ahead = 7');
cmp_ok($both[0]->value('CALL credits_partition_log()'), '>', 0, 'the first call makes partitions');
$both[1]->value('SET credits.partitions_ahead = 7');
is($both[1]->value('CALL credits_housekeep()'), '0|0', 'the job leaves that to the other');
$both[1]->value(q(SET statement_timeout = '100ms'));
is($both[1]->query('CALL credits_partition_log()')->{code}, '57014', 'the second call waits');
is($both[1]->value(q(SELECT amount FROM credits_deduct('account:5', 1, 'beside'))), '-1', 'and spends do not');
$both[0]->value('COMMIT');
is($both[1]->value('CALL credits_partition_log()'), '0', 'nothing is left to do');
# a crash in the middle of it
$both[0]->value('BEGIN');
$both[0]->value('SET LOCAL credits.partitions_ahead = 9');
cmp_ok($both[0]->value('CALL credits_partition_log()'), '>', 0, 'partitions that are not committed');
$node->safe_psql('postgres', 'CHECKPOINT');
kill_cluster($node);
$node->start;
is($node->safe_psql('postgres', 'SELECT * FROM credits_verify()'), '', 'clean after a crash');
$both[1] = CreditsTest::Session->new($node);
$both[1]->value('SET credits.partitions_ahead = 7');
is($both[1]->value('CALL credits_partition_log()'), '0', 'and nothing was made');
$both[1]->quit;
# by a user who is a credits_admin and nothing else
$node->safe_psql('postgres', 'CREATE ROLE keeper LOGIN IN ROLE credits_admin');
is($node->safe_psql('postgres', 'SET credits.partitions_ahead = 8; SET SESSION AUTHORIZATION keeper; CALL credits_partition_log()'), '1', 'by an administrator');

# ---------------------------------------------------------------------------
# a large log is read before it is locked

my $large = credits_node('large', conf => "credits.partition_rows = 100000\nautovacuum = off\n");
$large->safe_psql('postgres', <<'SQL');
SELECT credits_open_account('bulk:1', 1000000);
SELECT count(credits_open_account('account:' || i, 1000000)) FROM generate_series(1, 20) AS i;
SELECT count(credits_deduct('account:' || (1 + i % 20), 1, 'before:' || i,
	metadata => jsonb_build_object('text', (SELECT string_agg(md5(i::text || ':' || j), '') FROM generate_series(1, 56) AS j))))
FROM generate_series(1, 18000) AS i;
SQL
cmp_ok($large->safe_psql('postgres', q(SELECT pg_relation_size('credits.log_default') / 8192)), '>', 4096, 'more than is read under a lock');
$in_place = $large->safe_psql('postgres', q(SELECT pg_relation_filenode('credits.log_default')));
sqlstate_is($large, 'BEGIN; CALL credits_partition_log()', '25001', 'not inside a transaction block');
# as a call leaves it that was interrupted while it validated the constraint
$large->safe_psql('postgres', q(ALTER TABLE credits.log_default ADD CONSTRAINT log_bounds CHECK (id < '2000000000'::bigint) NOT VALID));
my $validating = CreditsTest::Session->new($large);
my $holding = CreditsTest::Session->new($large);
$holding->value('BEGIN');
$holding->value('LOCK TABLE credits.log_default IN SHARE UPDATE EXCLUSIVE MODE');
$validating->value(q(SET statement_timeout = '200ms'));
is($validating->query('CALL credits_partition_log()')->{code}, '57014', 'cancelled before it validates');
$validating->quit;
is($large->safe_psql('postgres', q(SELECT balance FROM credits_deduct('account:1', 1, 'meanwhile'))) > 0, 1, 'spends go on');
$holding->value('ROLLBACK');
$spending = IPC::Run::start([ 'pgbench', '-n', '-c', 4, '-T', 8, '-l', '--log-prefix=' . $large->basedir . '/latency',
		'-f', $spend, '-h', $large->host, '-p', $large->port, 'postgres' ], '>', \$out, '2>', \$err);
$large->poll_query_until('postgres', q(SELECT max(id) > 18200 FROM credits.transactions)) or die;
# any run of the job continues it
$large->safe_psql('postgres', 'CALL credits_housekeep()');
is($large->safe_psql('postgres', 'SELECT name, bounds FROM credits.partitions ORDER BY 1 LIMIT 2'),
	"log_0|FOR VALUES FROM (MINVALUE) TO ('2000000000')\nlog_2000000000|FOR VALUES FROM ('2000000000') TO ('2000100000')",
	'the job continues what has been begun');
is($large->safe_psql('postgres', q(SELECT pg_relation_filenode('credits.log_0'))), $in_place, 'in place');
# and the whole of it, of a default partition that has grown large
$large->safe_psql('postgres', q(ALTER SEQUENCE credits.transactions_id_seq RESTART WITH 3000000000));
$large->safe_psql('postgres', <<'SQL');
SELECT count(credits_deduct('bulk:1', 1, 'again:' || i,
	metadata => jsonb_build_object('text', (SELECT string_agg(md5(i::text || ':' || j), '') FROM generate_series(1, 56) AS j))))
FROM generate_series(1, 18000) AS i;
CALL credits_partition_log();
SQL
ok($spending->finish, 'every spend of a large log went through') || diag $err;
is($large->safe_psql('postgres', q(SELECT count(*) FROM credits.log_default)), '0', 'the default partition is empty');
cmp_ok($large->safe_psql('postgres', q(SELECT transaction_id FROM credits_deduct('account:1', 1))), '>', 4000000000, 'and ids go on there');
is($large->safe_psql('postgres', 'SELECT * FROM credits_verify()'), '', 'a large log: clean');
is($large->safe_psql('postgres', q(SELECT count(*) FROM pg_constraint WHERE conname = 'log_bounds' AND NOT convalidated)), '0', 'nothing is left over');
@latencies = map { split /\n/, slurp_file($_) } glob($large->basedir . '/latency.*');
($longest) = sort { $b <=> $a } map { (split ' ')[2] } @latencies;
diag sprintf '%d spends of a large log, the longest %.0f ms', scalar @latencies, $longest / 1000;
cmp_ok($longest, '<', 3_000_000, 'no spend of a large log waited long');
$large->stop;

# ---------------------------------------------------------------------------
# dump and restore

sub is_whole
{
	my ($copy, $name, $dbname, $likewise) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $sum = q(SELECT credits_digest(), count(*), sum(amount) FROM credits.transactions);
	is($copy->safe_psql($dbname, $sum), $node->safe_psql('postgres', $sum), "$name: the same rows");
	is($copy->safe_psql($dbname, 'SELECT name, bounds FROM credits.partitions ORDER BY 1'),
		$node->safe_psql('postgres', 'SELECT name, bounds FROM credits.partitions ORDER BY 1'), "$name: the same partitions") if $likewise;
	is($copy->safe_psql($dbname, 'SELECT * FROM credits_verify()'), '', "$name: clean");
	my $session = CreditsTest::Session->new($copy, dbname => $dbname);
	is($session->value(q(SELECT replayed FROM credits_deduct('account:1', 1, 'prepared'))), 't', "$name: a replay");
	$session->value('BEGIN');
	is($session->value(q(SELECT amount FROM credits_deduct('account:1', 1, 'next'))), '-1', "$name: the next spend");
	$session->value('ROLLBACK');
	foreach my $table ('log', split(/\n/, $session->value('SELECT name FROM credits.partitions')))
	{
		is($session->query("SET session_replication_role = replica; UPDATE credits.$table SET amount = 0")->{code}, '42501', "$name: $table is guarded")
		  if $table =~ /^log(_0|_default)?$/;
	}
	$session->value('SET session_replication_role = origin');
	$session->value('SET credits.partitions_ahead = 12');
	like($session->value('CALL credits_partition_log()'), qr/^\d+$/, "$name: more are made");
	$session->quit;
}

# as a trigger of an application is on the log, whose clones are not to be dumped
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER tell AFTER INSERT ON credits.log FOR EACH ROW EXECUTE FUNCTION tell();
ALTER TABLE credits.log ENABLE ALWAYS TRIGGER tell;
SQL
my $dumps = $node->basedir;
$node->command_ok([ 'pg_dump', '-f', "$dumps/plain.sql", 'postgres' ], 'pg_dump');
$node->command_ok([ 'pg_dump', '-Fc', '-f', "$dumps/custom", 'postgres' ], 'pg_dump -Fc');
$node->command_ok([ 'pg_dump', '-a', '--load-via-partition-root', '-f', "$dumps/data.sql", 'postgres' ], 'pg_dump -a');
my $target = credits_node('target', extension => 0, conf => "credits.partition_rows = 2000\n");
$target->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(plain custom data);
$target->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/plain.sql", 'plain' ], 'psql takes it');
is_whole($target, 'plain', 'plain', 1);
$target->command_ok([ 'pg_restore', '-e', '-j', 4, '-d', 'custom', "$dumps/custom" ], 'pg_restore -j takes it');
is_whole($target, 'custom', 'custom', 1);
# and again from what was restored
$target->command_ok([ 'pg_dump', '-f', "$dumps/again.sql", 'custom' ], 'pg_dump of the copy');
$target->safe_psql('postgres', 'CREATE DATABASE again');
$target->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/again.sql", 'again' ], 'psql takes it again');
is_whole($target, 'again', 'again', 0);
$target->safe_psql('data', 'CREATE EXTENSION credits');
$target->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/data.sql", 'data' ], 'data alone, by the root');
is_whole($target, 'data', 'data', 0);
$node->safe_psql('postgres', 'DROP FUNCTION tell() CASCADE');

# ---------------------------------------------------------------------------
# a standby, logical replication

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->safe_psql('postgres', 'SET credits.partitions_ahead = 6; CALL credits_housekeep()');
$node->safe_psql('postgres', q(SELECT credits_deduct('account:3', 1, 'standby')));
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', 'SELECT * FROM credits_verify()'), '', 'standby: clean');
is($standby->safe_psql('postgres', q(SELECT count(*) FROM credits_history('account:3', 1000))),
	$node->safe_psql('postgres', q(SELECT count(*) FROM credits_history('account:3', 1000))), 'standby: history');
$standby->promote;
is_whole($standby, 'promoted', 'postgres', 0);
$standby->stop;

$node->safe_psql('postgres', 'CREATE PUBLICATION ledger FOR TABLES IN SCHEMA credits WITH (publish_via_partition_root)');
foreach my $name (qw(unpartitioned partitioned))
{
	my $subscriber = credits_node($name, conf => "credits.partition_rows = 700\n");
	$subscriber->safe_psql('postgres', 'CALL credits_partition_log()') if $name eq 'partitioned';
	my $connection = $node->connstr('postgres');
	$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION $name CONNECTION \$\$$connection\$\$ PUBLICATION ledger");
	$subscriber->wait_for_subscription_sync($node, $name);
	$node->safe_psql('postgres', "SELECT credits_deduct('account:' || (1 + i % 20), 1, '$name:' || i) FROM generate_series(1, 100) AS i");
	$node->safe_psql('postgres', q(SELECT credits_erase_text(id) FROM credits.transactions WHERE idempotency_key = ') . "$name:50'");
	$node->wait_for_catchup($name);
	is($subscriber->safe_psql('postgres', 'SELECT * FROM credits_verify()'), '', "$name: clean");
	is($subscriber->safe_psql('postgres', "SELECT count(*) FROM credits.transactions WHERE idempotency_key LIKE '$name:%'"), '99',
		"$name: with what was erased");
	# it can make partitions of its own meanwhile, although its sequence is behind
	if ($name eq 'partitioned')
	{
		cmp_ok($subscriber->safe_psql('postgres', 'CALL credits_partition_log()'), '>', 0, "$name: makes more");
		is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM credits.log_default'), '0', "$name: with all rows");
	}
	$subscriber->safe_psql('postgres', "ALTER SUBSCRIPTION $name DISABLE; ALTER SUBSCRIPTION $name SET (slot_name = NONE); DROP SUBSCRIPTION $name; SELECT credits_sync_sequences()");
	$node->safe_psql('postgres', "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '$name' AND active");
	$node->poll_query_until('postgres', "SELECT NOT active FROM pg_replication_slots WHERE slot_name = '$name'");
	$node->safe_psql('postgres', "SELECT pg_drop_replication_slot('$name')");
	is_whole($subscriber, $name, 'postgres', 0);
	$subscriber->safe_psql('postgres', 'CALL credits_housekeep()');
	is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM credits.log_default'), '0', "$name: the default partition is closed");
	is($subscriber->safe_psql('postgres', 'SELECT * FROM credits_verify()'), '', "$name: clean after that");
	$subscriber->stop;
}

# ---------------------------------------------------------------------------
# pg_upgrade, to the same version

$node->stop;
my $upgraded = PostgreSQL::Test::Cluster->new('upgraded');
$upgraded->init;
$upgraded->append_conf('postgresql.conf', "credits.partition_rows = 2000\n");
my $bindir = $node->config_data('--bindir');
chdir $node->basedir;
$node->command_ok([ 'pg_upgrade', '--no-sync', '-d', $node->data_dir, '-D', $upgraded->data_dir, '-b', $bindir, '-B', $bindir,
		'-s', $node->host, '-p', $node->port, '-P', $upgraded->port ], 'pg_upgrade');
$upgraded->start;
$node->start;
is_whole($upgraded, 'upgraded', 'postgres', 1);

done_testing();
