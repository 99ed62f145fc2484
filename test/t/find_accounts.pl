# Searching among many accounts: whatever is searched for, a page reads index entries of
# a bounded number of accounts, no table as a whole, and pages put together are what a
# query over all accounts returns, also while others spend.
#
# CREDITS_ACCOUNTS is how many accounts there are.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use Test::More;
use Time::HiRes qw(time);

my $accounts = $ENV{CREDITS_ACCOUNTS} // 8000;
my $node = credits_node('find_accounts', conf => "fsync = off\nautovacuum = off\nmax_wal_size = 4GB\n");
my $session = CreditsTest::Session->new($node);
$session->value("SET credits.test_clock = '2030-01-01 00:00:00+00'");
$session->value('CREATE TABLE people AS SELECT n, (n::bigint * 7919) % 100 AS part FROM generate_series(1, ' . $accounts . ') AS n');
$session->value(q(SELECT credits_open_accounts('people', 'n', prefix => 'user:')));
$session->value(q(SELECT credits_set_plan(name, 10, 'month') FROM unnest('{common,rare}'::text[]) AS name));
$session->value(q(SELECT count(credits_subscribe('user:' || n, CASE part WHEN 0 THEN 'rare' ELSE 'common' END)) FROM people WHERE part % 10 = 0));
$session->value("SET credits.test_clock = '2030-01-02 00:00:00+00'");
$session->value(q(SELECT count(credits_allocate('user:' || n, part, reference => 'order:' || n)) FROM people WHERE part > 50));
$session->value(q(SELECT count(credits_pause_account('user:' || n, 'test')) FROM people WHERE part = 17));
$session->value(q(SELECT credits_set_package('pack', 10, 1, 'EUR')));
$session->value(q(
	SELECT count(credits_refund_purchase(p.purchase_id)) FROM (
		SELECT n, (credits_complete_purchase((credits_start_purchase('user:' || n, 'pack')).purchase_id, 'pay:' || n, 1)).purchase_id,
			(credits_deduct('user:' || n, 10)).transaction_id FROM people WHERE part = 23 OFFSET 0) AS p));
$session->value('VACUUM ANALYZE');

# who has what is searched for, looked up before the time of the search is taken
my ($ordered, $paid) = map { $session->value("SELECT max(n) FROM people WHERE part = $_") } 77, 23;

# the same by a query over all tables, in the order of the pages
my %searches = (
	'everybody' => [ '', 'true' ],
	'a prefix' => [ q(name_prefix => 'user:19'), q(starts_with(a.name, 'user:19')) ],
	'a prefix of nobody' => [ q(name_prefix => 'users'), 'false' ],
	'paused' => [ q(status => 'paused'), q(a.status = 'paused') ],
	'closed' => [ q(status => 'closed'), 'false' ],
	'a balance' => [ 'min_balance => 99', 'a.balance >= 99' ],
	'a balance that nobody has' => [ 'min_balance => 100000', 'false' ],
	'a common plan' => [ q(plan => 'common'), q(EXISTS (SELECT FROM credits.subscription_list AS s WHERE s.account = a.name AND s.plan = 'common')) ],
	'a rare plan' => [ q(plan => 'rare'), q(EXISTS (SELECT FROM credits.subscription_list AS s WHERE s.account = a.name AND s.plan = 'rare')) ],
	'a prefix and a rare plan' => [ q(name_prefix => 'user:1', plan => 'rare'),
		q(starts_with(a.name, 'user:1') AND EXISTS (SELECT FROM credits.subscription_list AS s WHERE s.account = a.name AND s.plan = 'rare')) ],
	'unused' => [ q(unused_since => '2030-01-02'), q(a.last_at < '2030-01-02') ],
	'in debt' => [ 'in_debt => true', 'a.debt > 0' ],
	'a reference' => [ qq(reference => 'order:$ordered'), qq(a.name = 'user:$ordered') ],
	'a payment' => [ qq(reference => 'pay:$paid'), qq(a.name = 'user:$paid') ],
	'a reference that nothing has' => [ q(reference => 'order:0'), 'false' ],
);

# how long each page took
my %times;

# Returns what all pages of a search come to, and how many there were.
sub pages_of
{
	my ($by, $search) = @_;
	my (@found, $after);
	my $pages = 0;
	while (1)
	{
		my $arguments = join ', ', grep { length } $search, 'max_rows => 100', defined $after ? "after_account => '$after'" : ();
		my $begun = time;
		my @rows = @{ $by->query("SELECT account, status FROM credits_find_accounts($arguments)")->{rows} };
		my $took = time - $begun;
		push @{ $times{$search} }, 1000 * $took;
		$pages++;
		last if !@rows;
		push @found, map { (split /\|/)[0] } grep { !/\|$/ } @rows;
		$after = (split /\|/, $rows[-1])[0];
	}
	return ($pages, @found);
}

# what is read without an index
my $read = q(SELECT COALESCE(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE schemaname = 'credits' AND relname NOT IN ('plans', 'roles'));
$session->query('SELECT pg_stat_force_next_flush()');
my $before = $node->safe_psql('postgres', $read);
my $searcher = CreditsTest::Session->new($node);
my %pages;
foreach my $name (sort keys %searches)
{
	my ($pages, @found) = pages_of($searcher, $searches{$name}[0]);
	$pages{$name} = "@found";
	my @times = sort { $a <=> $b } @{ $times{ $searches{$name}[0] } };
	note sprintf '%s: %d accounts, %d pages, in the median %.1f ms, the slowest %.1f ms', $name, scalar(@found), $pages, $times[ $#times / 2 ], $times[-1];
}
$searcher->quit;
is($node->safe_psql('postgres', $read), $before, 'nothing is read but by an index');

foreach my $name (sort keys %searches)
{
	my $order = $searches{$name}[0] =~ /prefix/ ? 'a.name' : 'a.id';
	is($pages{$name}, $session->value("SELECT COALESCE(string_agg(a.name, ' ' ORDER BY $order), '') FROM credits.accounts AS a WHERE $searches{$name}[1]"), $name);
}

# a search beside those who spend: nobody is lost or found twice
my $spender = CreditsTest::Session->new($node);
$spender->value("SET credits.test_clock = '2030-01-03 00:00:00+00'");
$spender->send(q(DO $$ BEGIN FOR i IN 1 .. 3000 LOOP
	PERFORM credits_try_deduct('user:' || 1 + floor(random() * 1000)::integer, 1); COMMIT; END LOOP; END $$));
my (undef, @found) = pages_of($session, q(name_prefix => 'user:1'));
is("@found", $session->value(q(SELECT string_agg(name, ' ' ORDER BY name) FROM credits.accounts WHERE starts_with(name, 'user:1'))), 'pages beside those who spend');
$spender->receive;

# a standby can be searched
$spender->quit;
$session->value('BEGIN READ ONLY');
is(scalar(@{ $session->query('SELECT account FROM credits_find_accounts(max_rows => 5)')->{rows} }), 5, 'a transaction that only reads can search');
$session->quit;
done_testing();
