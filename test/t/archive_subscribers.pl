# Subscribers of logical replication that take over after the publisher has closed its
# books: one that has every row in its own log, and one that was made later.  Each can
# close its own books.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = <<'CONF';
credits.partition_rows = 100
credits.partitions_ahead = 5
credits.key_retention = '1 day'
credits.refund_window = '1 day'
CONF

# Make rows of a year.
sub spend
{
	my ($where, $year, $rows) = @_;
	$where->safe_psql('postgres', "SET credits.test_clock = '$year-06-01 00:00+00';
		SELECT count(credits_deduct('user:' || i % 10, 1)) FROM generate_series(1, $rows) AS i;
		CALL credits_partition_log()");
	return;
}

my $node = credits_node('publisher', streaming => 'logical', conf => $conf);

sub subscribe
{
	my ($name, $partitioned) = @_;
	my $subscriber = credits_node($name, streaming => 'logical', conf => $conf);
	$subscriber->safe_psql('postgres', 'CALL credits_partition_log()') if $partitioned;
	my $connection = $node->connstr('postgres');
	$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION $name CONNECTION \$\$$connection\$\$ PUBLICATION ledger");
	$subscriber->wait_for_subscription_sync($node, $name);
	return $subscriber;
}

$node->safe_psql('postgres', 'CALL credits_partition_log()');
$node->safe_psql('postgres', q(CREATE PUBLICATION ledger FOR TABLES IN SCHEMA credits WITH (publish_via_partition_root)));
my $early = subscribe('early', 1);
$node->safe_psql('postgres', q(SET credits.test_clock = '2020-01-01 00:00+00';
	SELECT count(credits_open_account('user:' || i, 100000)) FROM generate_series(0, 9) AS i));
my $hold = $node->safe_psql('postgres', q(SET credits.test_clock = '2020-01-01 00:00+00';
	SELECT transaction_id FROM credits_hold('user:1', 5, 'hold', expires_in => '100 years')));
# a grant that is used up when the books are closed, and gets credits back afterwards
$node->safe_psql('postgres', q(SET credits.test_clock = '2020-01-01 00:00+00';
	SELECT credits_set_package('pack', 100, 9.99, 'USD');
	SELECT credits_open_account('buyer', 10);
	SELECT outcome FROM credits_complete_purchase((SELECT purchase_id FROM credits_start_purchase('buyer', 'pack')), 'pay', 9.99);
	SELECT status FROM credits_open_chargeback((SELECT id FROM credits.purchases), 'dispute');
	SELECT status FROM credits_close_chargeback((SELECT id FROM credits.purchases), 'dispute', 'lost')));
spend($node, $_, 150) foreach 2020 .. 2022;
my ($until, $left) = split /\|/, $node->safe_psql('postgres', q(CALL credits_archive('2022-01-01')));
cmp_ok($left, '>', 1, "$left partitions have left at the publisher, up to $until");
cmp_ok($node->safe_psql('postgres', q(SELECT count(*) FROM credits.carried_rows)), '>', 0, 'with copies of some rows');
my $late = subscribe('late', 0);
$node->wait_for_catchup($_) foreach qw(early late);
my $sum = q(SELECT count(*), sum(amount), count(DISTINCT id), credits_digest() FROM credits.all_transactions);
my $rows = $node->safe_psql('postgres', $sum);
is($early->safe_psql('postgres', q(SELECT count(*) FROM credits.archived_log)), '0', 'early: nothing is archived');
cmp_ok($late->safe_psql('postgres', q(SELECT count(*) FROM credits.archived_log_default)), '>', 200, 'late: it is in the default partition');

foreach my $subscriber ($early, $late)
{
	my $name = $subscriber->name;
	$subscriber->safe_psql('postgres', "ALTER SUBSCRIPTION $name DISABLE; ALTER SUBSCRIPTION $name SET (slot_name = NONE); DROP SUBSCRIPTION $name; SELECT credits_sync_sequences()");
	is($subscriber->safe_psql('postgres', $sum), $rows, "$name: has every row once");
	$subscriber->safe_psql('postgres', 'CALL credits_partition_log()');
	is($subscriber->safe_psql('postgres', q(SET credits.test_clock = '2023-05-01 00:00+00';
		SELECT balance FROM credits_close_chargeback((SELECT id FROM credits.purchases), 'dispute', 'won'))), '110', "$name: a chargeback of the first year is won");
	spend($subscriber, 2023, 150);
	spend($subscriber, 2024, 150);
	problems_are($subscriber, '', "$name: clean");
	my $before = $subscriber->safe_psql('postgres', $sum);
	my ($end, $n) = split /\|/, $subscriber->safe_psql('postgres', q(CALL credits_archive('2024-01-01')));
	cmp_ok($end, '>', $until, "$name: closes its books, up to $end");
	cmp_ok($n, '>', 0, "$name: $n partitions leave");
	problems_are($subscriber, '', "$name: clean after that");
	is($subscriber->safe_psql('postgres', $sum), $before, "$name: the same rows, each once");
	is($subscriber->safe_psql('postgres', q(SELECT count(*) FROM credits.archived_log_default)), '0', "$name: no archived row is left over");
	cmp_ok($subscriber->safe_psql('postgres', qq(SELECT count(*) FROM credits.archived_log WHERE id <= $until)), '>', 200, "$name: what left at the publisher has left here, too");
	is($subscriber->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT id) FROM credits.archived_log'), '0', "$name: nothing twice");
	foreach my $table (split /\n/, $subscriber->safe_psql('postgres', q(SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'credits.archived_log'::regclass)))
	{
		sqlstate_is($subscriber, "TRUNCATE $table", '42501', "$name: $table is guarded");
	}
	is($subscriber->safe_psql('postgres', "SELECT kind FROM credits_capture($hold, 2, final => false)"), 'capture', "$name: a hold of the first year is captured");
	is($subscriber->safe_psql('postgres', q(SELECT credits_erase_text(id) FROM credits.archived_transactions WHERE kind = 'hold')), 't', "$name: and erased");
	# and again
	spend($subscriber, 2025, 250);
	like($subscriber->safe_psql('postgres', q(CALL credits_archive('2025-01-01'))), qr/^\d+\|[1-9]/, "$name: and closes them again");
	problems_are($subscriber, '', "$name: clean after that");
}

done_testing();
