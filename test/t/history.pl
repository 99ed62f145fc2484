# Reading an account with many rows: index range scans only, and no more rows
# than the answer needs.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('history', conf => 'max_wal_size = 1GB');
plan skip_all => 'auto_explain is not here'
  unless $node->psql('postgres', q(LOAD 'auto_explain')) == 0;

# 30,000 rows and 2,000 used-up grants in one account, beside a hundred others
$node->safe_psql('postgres', q(
	SET credits.test_clock = '2020-01-01 00:00+00';
	SELECT credits_open_account('big', 0);
	SELECT count(*) FROM generate_series(1, 2000) AS n,
		LATERAL (SELECT (credits_allocate('big', 10)).balance + (credits_deduct('big', 10, 'd' || n)).balance OFFSET 0) AS r
		WHERE n > 0;
	SELECT credits_allocate('big', 1000000, expires_at => '2100-01-01 00:00+00');
	SELECT credits_allocate('big', 5, effective_at => '2090-01-01 00:00+00');));
my $loader = CreditsTest::Session->new($node);
foreach my $day (2 .. 27)
{
	$loader->value(sprintf "SET credits.test_clock = '2020-01-%02d 00:00+00'", $day);
	$loader->value(q(SELECT count(credits_deduct('big', 1)) FROM generate_series(1, 1000)));
}
$loader->value(q(
	SELECT count(credits_open_account('account:' || n, 100)) FROM generate_series(1, 100) AS n));
$loader->value(q(
	SELECT count(credits_deduct('account:' || n, 1)) FROM generate_series(1, 100) AS n, generate_series(1, 20)));
$loader->quit;
$node->safe_psql('postgres', 'VACUUM ANALYZE credits.accounts, credits.grants, credits.log');
is($node->safe_psql('postgres', q(SELECT count(*) FROM credits.grants WHERE status = 'used')), '2000',
	'many grants are used up');

# The plans of all that a query runs, and its answer.
sub explained
{
	my ($query) = @_;
	my ($stdout, $stderr);
	$node->psql('postgres', qq(
		LOAD 'auto_explain';
		SET auto_explain.log_min_duration = 0;
		SET auto_explain.log_nested_statements = on;
		SET auto_explain.log_analyze = on;
		SET auto_explain.log_timing = off;
		SET auto_explain.log_level = notice;
		SET client_min_messages = notice;
		$query;), stdout => \$stdout, stderr => \$stderr, on_error_die => 1);
	return ($stdout, $stderr);
}

# Check that big tables are read through indexes only, by account, and that
# no node passes on more rows than it may.
sub reads_little
{
	my ($name, $query, $rows, %params) = @_;
	my $by = $params{by} // qr/account_id = |\bid = /;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($answer, $plans) = explained($query);

	# the function itself is in there, or else nothing is proven
	like($plans, qr/on (?:credits\.)?(?:log\w*|grants|accounts)\b/, "$name: plans seen");
	my @scans = $plans =~ /^.*(?:Seq Scan|Bitmap Heap Scan on (?:log\w*|grants)).*$/mg;
	is(join("\n", @scans), '', "$name: no other scans than by index");

	# so nothing but a page can have been sorted, either
	my @too_many = grep { /actual rows=([\d.]+) loops=(\d+)/ && $1 * $2 > $rows } split /\n/, $plans;
	is(join("\n", @too_many), '', "$name: no more than $rows rows of any node");
	my @removed = grep { $_ > $rows } $plans =~ /Rows Removed by \w+(?: \w+)?: (\d+)/g;
	is("@removed", '', "$name: nor thrown away");

	# each scan of the log and of the grants starts at the account
	my @lines = split /\n/, $plans;
	foreach my $number (grep { $lines[$_] =~ /Index.*Scan.* on (log\w*|grants)/ } 0 .. $#lines)
	{
		my $condition = (grep { /Index Cond/ } @lines[ $number + 1 .. min_of($number + 3, $#lines) ])[0] // '';
		like($condition, $by, "$name: by account");
	}
	return $answer;
}

sub min_of { return $_[0] < $_[1] ? $_[0] : $_[1] }

my $middle = $node->safe_psql('postgres',
	q(SELECT id FROM credits.transactions WHERE account_id = credits.account_id('big') ORDER BY id OFFSET 15000 LIMIT 1));

my $page = reads_little('credits_history', q(SELECT transaction_id FROM credits_history('big')), 50);
is(scalar(() = $page =~ /\d+/g), 50, 'a page');
reads_little('before_id', "SELECT transaction_id FROM credits_history('big', 100, $middle)", 100);
reads_little('since and until',
	q(SELECT transaction_id FROM credits_history('big', 100, since => '2020-01-10 00:00+00', until => '2020-01-12 00:00+00')),
	100);
reads_little('before_id, since and until',
	"SELECT transaction_id FROM credits_history('big', 100, $middle, since => '2020-01-03 00:00+00', until => '2020-01-20 00:00+00')",
	100);
reads_little('kinds', q(SELECT transaction_id FROM credits_history('big', 100, kinds => '{deduction,refund}')), 100);
reads_little('an empty time', q(SELECT transaction_id FROM credits_history('big', since => '2030-01-01 00:00+00')), 10);
reads_little('credits_summary', q(SELECT * FROM credits_summary('big')), 10);
reads_little('credits_balance_at, past', q(SELECT credits_balance_at('big', '2020-01-10 12:00+00')), 10);
reads_little('credits_balance_at, now', q(SELECT credits_balance_at('big', now())), 10);
reads_little('credits_balance_at, future', q(SELECT credits_balance_at('big', '2200-01-01 00:00+00')), 10);

# A function reads the rows, so plans do not show how many.  Each day's thousand are of
# one instant, and a page may begin anywhere among them.
my $last = $node->safe_psql('postgres', q(SELECT min(id) + 10 FROM credits.transactions
	WHERE account_id = credits.account_id('big') AND created_at = '2020-01-15 00:00+00'));
foreach my $read (
	[ 'credits_history',           q(SELECT count(*) FROM credits_history('big', 100)), 101 ],
	[ 'before_id',                 "SELECT count(*) FROM credits_history('big', 100, $last)", 103 ],
	[ 'since and until',
		q(SELECT count(*) FROM credits_history('big', 100, since => '2020-01-10 00:00+00', until => '2020-01-12 00:00+00')), 101 ],
	[ 'credits_balance_at, past', q(SELECT credits_balance_at('big', '2020-01-10 12:00+00')), 2 ])
{
	my ($what, $query, $most) = @$read;
	my (undef, $n) = split /\n/, $node->safe_psql('postgres', qq(BEGIN; $query;
		SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relid = 'credits.log_default'::regclass; COMMIT));
	ok($n > 0 && $n <= $most, "$what reads $n rows of the log, at most $most");
}

# by what is not the account
reads_little('a key', q(SELECT id FROM credits.transactions WHERE COALESCE(member_id, account_id) = credits.account_id('big')
	AND credits.key_digest(idempotency_key) = credits.key_digest('d77') AND idempotency_key = 'd77'), 2, by => qr/key_digest/);
reads_little('a reference', q(SELECT id FROM credits.transactions WHERE reference = 'nowhere'), 2, by => qr/reference = /);
reads_little('account and time', q(SELECT id FROM credits.transactions WHERE account_id = credits.account_id('big')
	AND created_at >= '2020-01-05 00:00+00' AND created_at < '2020-01-05 12:00+00' ORDER BY created_at DESC, id DESC LIMIT 10), 10);

# many times in one session: a plan made without looking at the arguments is
# no worse
my ($answer, $plans) = explained(q(
	SELECT count(*) FROM generate_series(1, 10) AS n, credits_history('big', 10)));
unlike($plans, qr/Seq Scan on log/, 'over and over in one query');
($answer, $plans) = explained(join '; ',
	q(PREPARE p (text) AS SELECT count(*) FROM credits_history($1, 10)), (q(EXECUTE p ('big'))) x 7);
unlike($plans, qr/Seq Scan on log/, 'prepared');

# and in pages, all of it, once each, in order
my $session = CreditsTest::Session->new($node);
my ($before, @all) = ('NULL');
while (1)
{
	my @page = split /\n/, $session->value("SELECT transaction_id FROM credits_history('big', 1000, $before)");
	last unless @page;
	push @all, @page;
	$before = $page[-1];
}
is(join(' ', @all),
	$session->value(q(SELECT string_agg(id::text, ' ' ORDER BY id DESC) FROM credits.transactions
		WHERE account_id = credits.account_id('big'))),
	'all pages together are the log');
$session->quit;

$node->stop;
done_testing();
