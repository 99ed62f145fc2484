# Taking credits back costs the same however much has happened since they were
# given: what a grant has lost is kept with it, not looked for in the log.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('debts', conf => "fsync = off\nautovacuum = off\n");
my $session = CreditsTest::Session->new($node);
$session->value("SET credits.test_clock = '2030-01-01 00:00+00'");
$session->value(q(
	SELECT kind FROM credits_open_account('buyer');
	SELECT credits_set_package('pack', 100, 10, 'USD', expires_in => '30 days')));
my $purchase = $session->value(q(SELECT purchase_id FROM credits_start_purchase('buyer', 'pack')));
$session->value("SELECT credits_complete_purchase($purchase, 'pay', 10)");
$session->value(q(SELECT amount FROM credits_deduct('buyer', 30)));
$session->value("SET credits.test_clock = '2030-02-15 00:00+00'");
$session->value(q(SELECT amount FROM credits_allocate('buyer', 1000000)));
is($session->value('SELECT lost FROM credits.grants ORDER BY id LIMIT 1'), 70, 'the grant has lost what was left of it');

# Rows of the log that a refund of money reads; it is taken back again.
sub rows_read
{
	my $read = q(SELECT COALESCE(seq_tup_read, 0) + COALESCE(idx_tup_fetch, 0)
		FROM pg_stat_xact_user_tables WHERE relid = 'credits.log_default'::regclass);
	$session->value('BEGIN');
	# what the session has not reported yet counts too
	my $before = $session->value($read);
	$session->value("SELECT credits_refund_purchase($purchase, 8)");
	my $rows = $session->value($read) - $before;
	is($session->value('SELECT gone, owed FROM credits.debts'), '70|10', 'what was lost is gone, the rest is owed');
	$session->value('ROLLBACK');
	return $rows;
}

# Lets the account's log grow.
sub spend
{
	my ($n) = @_;
	$session->value(qq(
		SELECT count(*) FROM generate_series(1, $n / 1000) AS b, LATERAL credits_deduct_many((
			SELECT array_agg(ROW('buyer', 1, NULL, NULL, NULL, NULL)::credits.deduction)
			FROM generate_series(1, 1000 + 0 * b))) AS r));
}

spend(1000);
my $few = rows_read();
spend(99000);
is($session->value(q(SELECT count(*) > 100000 FROM credits.transactions)), 't', 'the log has grown');
my $many = rows_read();
cmp_ok($few, '<', 20, "after 1,000 rows $few are read");
is($many, $few, "after 100,000 rows $many are read");

# also what is lost after that, in any order, is counted once
$session->value("SELECT credits_refund_purchase($purchase, 8)");
is($session->value('SELECT gone, owed FROM credits.debts'), '70|10', 'claimed');
my $spend = $session->value(q(SELECT min(id) FROM credits.transactions WHERE kind = 'deduction'));
$session->value("SELECT credits_refund($spend, expired => 'expire')");
is($session->value('SELECT lost FROM credits.grants ORDER BY id LIMIT 1'), 100, 'what comes back too late is lost too');
is($session->value('SELECT gone, owed FROM credits.debts'), '80|0', 'and pays what the grant owes');
problems_are($node, '', 'nothing is wrong');
$session->query(q(BEGIN; ALTER TABLE credits.grants DISABLE TRIGGER ALL; UPDATE credits.grants SET lost = 3 WHERE lost = 100));
is($session->value(q(SELECT problem, detail FROM credits_verify('buyer'))),
	'grants|lost of grant 1 is 3, but should be 100', 'a false row is found');
$session->query('ROLLBACK');

$session->quit;
done_testing();
