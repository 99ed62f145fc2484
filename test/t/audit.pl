# The audit: whatever is looked for, a page reads index entries of a bounded number of
# rows, and pages put together are what a query over the whole audit returns, also while
# others add to it.  A dump has it once, and a restored database goes on with it.
#
# CREDITS_AUDIT is how many rows there are; CREDITS_ACCOUNTS, how many accounts.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $rows = $ENV{CREDITS_AUDIT} // 8000;
my $accounts = $ENV{CREDITS_ACCOUNTS} // 2000;
my $node = credits_node('audit', conf => "fsync = off\nautovacuum = off\nmax_wal_size = 4GB\nwork_mem = '256MB'\n");
my $session = CreditsTest::Session->new($node);
$session->value("SET credits.test_clock = '2030-01-01 00:00:00+00'");
$session->value("CREATE TABLE people AS SELECT n FROM generate_series(1, $accounts) AS n");
$session->value(q(SELECT credits_open_accounts('people', 'n', prefix => 'user:')));

# Most of them are allocations, by batches at one instant; among them everything else,
# with each of several days and two actors.
my $batch = int($rows / 20);
foreach my $day (1 .. 16)
{
	$session->value(sprintf q(SET credits.test_clock = '2030-02-%02d 00:00:00+00'), $day);
	$session->value(sprintf q(SET credits.actor = '%s'), $day == 7 ? 'mia' : 'tom');
	$session->value(qq(SELECT count(*) FROM credits_allocate_many(ARRAY(
		SELECT ROW('user:' || 1 + (n * 7919::bigint) % $accounts, 1, NULL, NULL, NULL, NULL, 'signup', NULL, NULL, NULL, NULL, NULL, NULL)::credits.allocation
		FROM generate_series(1, $batch) AS n))));
	$session->value(qq(SELECT count(credits_adjust('user:' || 1 + (n * 104729::bigint) % $accounts, 2, 'day $day')) FROM generate_series(1, $batch / 10) AS n));
	$session->value(qq(SELECT count(credits_set_limits('user:' || 1 + (n * 1299709::bigint) % $accounts, max_spend => $day)) FROM generate_series(1, $batch / 20) AS n));
	$session->value(qq(SELECT count(credits_set_operation('op:' || n, $day)) FROM generate_series(1, 10) AS n));
	$session->value(qq(SELECT credits_set_plan('plan', $day, 'month')));
}
$session->value('VACUUM ANALYZE');
note $session->value('SELECT count(*) FROM credits.audit_log') . ' rows, ' . $session->value('SELECT count(*) FROM credits.transactions') . ' transactions, '
  . $session->value(q(SELECT pg_size_pretty(pg_table_size('credits.audit_log')) || ' and ' || pg_size_pretty(pg_indexes_size('credits.audit_log'))));

# who has rows of several topics
my $busy = $session->value(q(SELECT a.name FROM credits.audit_log AS l JOIN credits.accounts AS a ON a.id = l.account_id
	GROUP BY a.id ORDER BY count(DISTINCT l.topic) DESC, a.id LIMIT 1));

my %searches = (
	'everything' => [ '', 'true' ],
	'a time' => [ q(since => '2030-02-05', until => '2030-02-06'), q(l.at >= '2030-02-05' AND l.at < '2030-02-06') ],
	'before all' => [ q(until => '2030-01-01'), 'false' ],
	'an account' => [ qq(account => '$busy'), qq(a.name = '$busy') ],
	'an account and a topic' => [ qq(account => '$busy', topic => 'limits'), qq(a.name = '$busy' AND l.topic = 'limits') ],
	'a rare topic' => [ q(topic => 'plan'), q(l.topic = 'plan') ],
	'a common topic' => [ q(topic => 'adjustment', since => '2030-02-10'), q(l.topic = 'adjustment' AND l.at >= '2030-02-10') ],
	'configuration' => [ q(changes => 'configuration'), 'l.amount IS NULL' ],
	'configuration by an actor' => [ q(changes => 'configuration', actor => 'mia'), q(l.amount IS NULL AND l.at = '2030-02-07') ],
	'credits by an actor' => [ q(topic => 'adjustment', actor => 'mia'), q(l.topic = 'adjustment' AND l.at = '2030-02-07') ],
	'a name' => [ q(topic => 'operation', name => 'op:7'), q(l.name = 'op:7') ],
	'a role that has done nothing' => [ q(role => 'nobody'), 'false' ],
);

# Returns what all pages of a search come to, how many there were, and their times.
sub pages_of
{
	my ($by, $search, $between) = @_;
	my (@found, @times, $after);
	while (1)
	{
		my $arguments = join ', ', grep { length } $search, 'max_rows => 100', defined $after ? "after_id => $after" : ();
		my $begun = time;
		my @page = @{ $by->query("SELECT id, topic FROM credits_audit($arguments)")->{rows} };
		push @times, 1000 * (time - $begun);
		last if !@page;
		push @found, map { (split /\|/)[0] } grep { !/\|$/ } @page;
		$after = (split /\|/, $page[-1])[0];
		$between->() if $between;
	}
	return (\@found, sort { $a <=> $b } @times);
}

# what is read without an index
my $read = q(SELECT COALESCE(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE schemaname = 'credits' AND relname NOT IN ('roles'));
$session->query('SELECT pg_stat_force_next_flush()');
my $before = $node->safe_psql('postgres', $read);
my $reader = CreditsTest::Session->new($node);
my %found;
foreach my $name (sort keys %searches)
{
	my ($found, @times) = pages_of($reader, $searches{$name}[0]);
	$found{$name} = "@$found";
	note sprintf '%s: %d rows, %d pages, in the median %.1f ms, the slowest %.1f ms', $name, scalar(@$found), scalar(@times), $times[ $#times / 2 ], $times[-1];
}
$reader->quit;
is($node->safe_psql('postgres', $read), $before, 'nothing is read but by an index');
foreach my $name (sort keys %searches)
{
	my $all = $session->value(qq(SELECT COALESCE(string_agg(l.id::text, ' ' ORDER BY l.at DESC, l.id DESC), '')
		FROM credits.audit_log AS l LEFT JOIN credits.accounts AS a ON a.id = l.account_id WHERE $searches{$name}[1]));
	ok($found{$name} eq $all, $name);
}

# what is added meanwhile shifts nothing
$session->value(q(SET credits.test_clock = '2030-03-01 00:00:00+00'));
my $settings = $session->value(q(SELECT string_agg(id::text, ' ' ORDER BY at DESC, id DESC) FROM credits.audit_log WHERE topic = 'operation'));
my ($found) = pages_of($session, q(topic => 'operation'), sub { $session->value(q(SELECT credits_set_operation('op:1', 1 + base_cost) FROM credits.operations ORDER BY id DESC LIMIT 1)) });
is("@$found", $settings, 'pages beside those who change something');

# a spend leaves the audit alone
my $written = $session->value('SELECT count(*) FROM credits.audit_log');
$session->value(q(SELECT count(credits_deduct('user:' || n, 1, 'spend:' || n)) FROM people WHERE n <= 100 AND credits_balance('user:' || n) > 0));
is($session->value('SELECT count(*) FROM credits.audit_log'), $written, 'a spend adds nothing');

# of limits and members, a spend fires no trigger that could
is($session->value(q(SELECT count(*) FROM pg_trigger WHERE tgfoid = 'credits.note_change'::regproc
	AND tgrelid::regclass::text IN ('credits.accounts', 'credits.grants', 'credits.limits', 'credits.members', 'credits.log_default', 'credits.log', 'credits.codes'))),
	'0', 'no trigger where spends write');

# what cannot be restored by an INSERT alone is in the dump: two kinds of state
$session->value(q(SELECT credits_set_activity_rule('storm', 'refunds', 3, minimum => 1)));
$session->value(q(SELECT credits_add_consumer('crm')));
$session->value(q(SELECT credits_create_promo_code('SPRING', 5)));
my $digest = q(SELECT count(*) || ' ' || md5(string_agg(l::text, '|' ORDER BY id)) FROM credits.audit_log AS l);
foreach my $options ([], ['--inserts'])
{
	my $database = 'restored' . @$options;
	my $dump = PostgreSQL::Test::Utils::tempdir() . "/$database.sql";
	next if @$options && $rows > 100_000;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump, @$options ], "dump @$options");
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($database), '-f', $dump ], "restore @$options");
	is($node->safe_psql($database, $digest), $session->value($digest), "every row once @$options");
	my $last = $session->value('SELECT max(id) FROM credits.audit_log');
	is($node->safe_psql($database, q(SET credits.test_clock = '2030-04-01'; SELECT count(credits_set_plan('plan', 1000)); SELECT id FROM credits_audit(max_rows => 1))),
		"1\n" . ($last + 1), "and goes on @$options");
	is($node->safe_psql($database, q(SELECT old_values ->> 'credits' || ' ' || (new_values ->> 'credits') FROM credits_audit(max_rows => 1))), '16 1000', "from what was set before @$options");
	is($node->safe_psql($database, 'SELECT count(*) FROM credits_verify()'), '0', "nothing is wrong @$options") if $rows <= 100_000;
}

# a standby can be asked
$session->value('BEGIN READ ONLY');
is(scalar(@{ $session->query('SELECT id FROM credits_audit(max_rows => 5)')->{rows} }), 5, 'a transaction that only reads can ask');
$session->quit;
done_testing();
