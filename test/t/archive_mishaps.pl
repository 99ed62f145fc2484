# What can go wrong while the books are being closed: it is cancelled at any time, others
# do the same or change the schema, a dump is made in between, tables are renamed.  Each
# call leaves everything whole, and the next one continues.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('archive_mishaps', streaming => 1, conf => <<'CONF');
credits.partition_rows = 100
credits.partitions_ahead = 20
credits.key_retention = '1 day'
credits.refund_window = '1 day'
CONF
my $super = CreditsTest::Session->new($node, verbosity => 'default');

sub value { return $super->value(@_) }

sub left { return value(q(SELECT count(*) FROM pg_inherits WHERE inhparent = 'credits.archived_log'::regclass) ) - 1 }

# Rows of a year.
sub spend
{
	my ($year, $rows) = @_;
	value("SET credits.test_clock = '$year-06-01 00:00+00'");
	value("SELECT count(credits_deduct('user:' || i % 40, 1)) FROM generate_series(1, $rows) AS i");
	value('CALL credits_partition_log()');
	value('RESET credits.test_clock');
	return;
}

value('CALL credits_partition_log()');
value(q(SET credits.test_clock = '2020-01-01 00:00+00';
	SELECT count(credits_open_account('user:' || i, 100000)) FROM generate_series(0, 39) AS i));
my $hold = value(q(SELECT transaction_id FROM credits_hold('user:1', 5, 'hold', expires_in => '100 years')));
spend(2020, 400);
spend(2021, 400);
spend(2022, 400);
spend(2023, 400);
my $total = value('SELECT count(*), sum(amount) FROM credits.all_transactions');

# --------------------------------------------------------------------------
# cancelled, at one time after the other

my $session = CreditsTest::Session->new($node);
my ($cancelled, $until) = (0, '');
for (my $ms = 1; $ms < 60_000; $ms += 1 + int($ms / 3))
{
	$session->value("SET statement_timeout = $ms");
	my $answer = $session->query(q(CALL credits_archive('2021-01-01', 3)));
	$until = $answer->{rows}[0];
	last if $answer->{code} eq '00000';
	is($answer->{code}, '57014', "cancelled after $ms ms");
	$cancelled++;
	problems_are($node, '', 'clean');
	is(value('SELECT count(*), sum(amount) FROM credits.all_transactions'), $total, 'all rows are there');
}
cmp_ok($cancelled, '>', 3, "cancelled $cancelled times");
# the last one may have been cancelled when all but the holds was done
like($until, qr/^(\d+\|\d+|\|)$/, "and then done: $until");
is(value('SELECT count(*) FROM credits.archives'), '1', 'it is one closing');
cmp_ok(left(), '>', 0, 'and the partitions have left');
is(left(), (split /\|/, $until)[1], 'as many as it says') if $until ne '|';
is(value(q(SELECT count(*) FROM pg_class WHERE relname LIKE 'log_carried_%' AND relkind = 'r')), '1', 'one table has the copies');
problems_are($node, '', 'clean');
cmp_ok(value(q(SELECT count(*) FROM credits.job_runs WHERE job = 'credits_archive' AND ended_at IS NULL)), '>', 3,
	'the runs that were cut short are shown');
is(value(q(SELECT interrupted FROM credits.jobs WHERE job = 'credits_archive')), 'f', 'the last one was not');

# --------------------------------------------------------------------------
# two at once, and a dump in between

my $reader = CreditsTest::Session->new($node);
my @both = map { CreditsTest::Session->new($node) } 1, 2;
$reader->value('BEGIN; LOCK TABLE credits.log IN ACCESS SHARE MODE');
$_->send(q(CALL credits_archive('2022-01-01'))) foreach @both;
ok(wait_until(sub { value(q(SELECT count(*) = 1 FROM pg_class WHERE relname LIKE 'log_carried_%' AND relkind = 'r' AND NOT relispartition)) eq 't' }),
	'the copies are made');
my $dump = $node->basedir . '/between';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'a dump while the books are being closed');
is(value(q(SELECT kind FROM credits_deduct('user:1', 1))), 'deduction', 'others spend');
$total = value('SELECT count(*), sum(amount) FROM credits.all_transactions');
$reader->value('COMMIT');
my @answers = map { $_->receive } @both;
is(join(' ', map { $_->{code} } @answers), '00000 00000', 'both end');
is((split /\|/, $answers[0]{rows}[0])[0], (split /\|/, $answers[1]{rows}[0])[0], 'at the same row');
is(value('SELECT count(*) FROM credits.archives'), '2', 'it is one closing');
problems_are($node, '', 'clean');
is(value('SELECT count(*), sum(amount) FROM credits.all_transactions'), $total, 'all rows are there, once');

$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('copy'), $dump ], 'it is restored');
problems_are($node, '', 'clean there', 'copy');
like($node->safe_psql('copy', q(CALL credits_archive('2022-01-01'))), qr/^\d+\|\d+$/, 'the copy goes on');
problems_are($node, '', 'clean', 'copy');
is($node->safe_psql('copy', qq(SELECT kind FROM credits_capture($hold))), 'capture', 'a hold of long ago is captured there');
problems_are($node, '', 'clean', 'copy');

# --------------------------------------------------------------------------
# rows beyond the partitions that were made

value(q(SET credits.test_clock = '2023-07-01 00:00+00'));
value(q(SELECT count(credits_deduct('user:' || i % 40, 1)) FROM generate_series(1, 2500) AS i));
value('RESET credits.test_clock');
cmp_ok(value('SELECT count(*) FROM credits.log_default'), '>', 0, 'rows are in the default partition');
like(value(q(CALL credits_archive('2023-01-01'))), qr/^\d+\|\d+$/, 'archived');
is(value('SELECT count(*) FROM credits.log_default'), '0', 'which was closed before');
problems_are($node, '', 'clean');

# --------------------------------------------------------------------------
# tables renamed, detached, dropped; columns added

my $copies = value(q(SELECT relname FROM pg_class WHERE relname LIKE 'log_carried_%' AND relkind = 'r'));
value("ALTER TABLE credits.$copies RENAME TO mine");
problems_are($node, '', 'clean');
my $failed = $session->query(q(RESET statement_timeout; CALL credits_archive('2023-06-15')));
is($failed->{code}, '55000', 'a partition with copies of another name is not archived');
is(value(q(SELECT failed, error_code FROM credits.jobs WHERE job = 'credits_archive')), '1|55000', 'which the view of jobs shows');
value("ALTER TABLE credits.mine RENAME TO $copies");
my @left = split /\n/, value(q(SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
	WHERE i.inhparent = 'credits.archived_log'::regclass AND relname <> 'archived_log_default' ORDER BY 1));
value("ALTER TABLE credits.$left[0] RENAME TO \"Old one\"");
value("ALTER TABLE credits.archived_log DETACH PARTITION credits.$left[1]");
value("DROP TABLE credits.$left[2]");
value('ALTER TABLE credits.log ADD COLUMN mine integer');
is($session->query(q(CALL credits_archive('2023-06-15')))->{code}, '55000', 'a column of yours is in the way');
value('ALTER TABLE credits.log DROP COLUMN mine');
$session->quit;
$session = CreditsTest::Session->new($node);
like($session->query(q(CALL credits_archive('2023-06-15')))->{rows}[0], qr/^\d+\|\d+$/, 'when it is gone, it goes on');
problems_are($node, '', 'clean');
is(value("SELECT kind FROM credits_capture($hold)"), 'capture', 'a hold of long ago is captured');
problems_are($node, '', 'clean');

# --------------------------------------------------------------------------
# an account that cannot be proven

value('ALTER TABLE credits.accounts DISABLE TRIGGER ALL');
value(q(UPDATE credits.accounts SET spent = spent + 1 WHERE name = 'user:7'));
value('ALTER TABLE credits.accounts ENABLE ALWAYS TRIGGER accounts_write_log');
value(q(SET credits.test_clock = '2040-01-01'; SET credits.archive_after = '1 day'));
cmp_ok(value(q(SELECT extract(day FROM behind) FROM credits.jobs WHERE job = 'credits_archive')), '>', 100, 'rows are old enough');
$session->value(q(SET credits.test_clock = '2040-01-01'; SET credits.archive_after = '1 day'));
is($session->query(q(CALL credits_archive()))->{code}, 'XX001', 'a problem ends it');
like(value(q(SELECT error FROM credits.jobs WHERE job = 'credits_archive')), qr/"user:7"/, 'the view of jobs names the account');

done_testing();
