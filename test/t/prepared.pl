# Prepared transactions: a spend between PREPARE TRANSACTION and its outcome
# is neither lost nor spent twice, also when the cluster goes down meanwhile.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('prepared', conf => 'max_prepared_transactions = 10');
my $one = CreditsTest::Session->new($node);
my $two = CreditsTest::Session->new($node);

sub balance
{
	my ($account) = @_;
	return $node->safe_psql('postgres', "SELECT credits_balance('$account')");
}

$one->value(q(SELECT credits_open_account('two:1', 1000)));
$one->value(q(SELECT credits_open_account('two:2', 1000)));
$two->value(q(SET lock_timeout = '100ms'));

# prepared and committed
$one->value('BEGIN');
$one->value(q(SELECT credits_deduct('two:1', 10, 'first')));
$one->value('SAVEPOINT s');
$one->value(q(SELECT credits_deduct('two:1', 500, 'lost')));
$one->value('ROLLBACK TO s');
$one->value(q(SELECT credits_deduct('two:1', 20, 'second')));
$one->value(q(PREPARE TRANSACTION 'spend'));
is(balance('two:1'), 1000, 'a prepared spend is not seen');
is($two->query(q(SELECT credits_deduct('two:1', 1)))->{code},
	'55P03', 'it holds the account');
is($two->query(q(SELECT credits_deduct('two:1', 10, 'first')))->{code},
	'55P03', 'its key has to wait for the outcome');
is($two->query(q(SELECT credits_deduct('two:2', 1)))->{code},
	'00000', 'other accounts go on');
is($one->query(q(SELECT credits_deduct('two:2', 1)))->{code},
	'00000', 'the session that prepared it goes on');
is($two->value(q(SELECT account FROM credits_verify())), '', 'nothing is wrong meanwhile');

# read while it is in doubt
is($two->value(q(SELECT balance FROM credits_summary('two:1'))), 1000, 'reading does not wait');

$two->value(q(COMMIT PREPARED 'spend'));
is(balance('two:1'), 970, 'committed, it counts');
is($two->value(q(SELECT balance, replayed FROM credits_deduct('two:1', 10, 'first'))),
	'990|t', 'its keys are known');
is($two->value(q(SELECT balance, replayed FROM credits_deduct('two:1', 20, 'second'))),
	'970|t', 'both of them');
is($two->value(q(SELECT balance, replayed FROM credits_deduct('two:1', 500, 'lost'))),
	'470|f', 'what its savepoint took back has left no key');

# prepared and rolled back
$one->value('BEGIN');
$one->value(q(SELECT credits_deduct('two:1', 10, 'third')));
$one->value(q(SELECT credits_allocate('two:1', 1000)));
$one->value(q(SELECT credits_open_account('two:3', 5)));
$one->value(q(PREPARE TRANSACTION 'never')) ;
is($two->query(q(SELECT credits_balance('two:3')))->{code},
	'PT404', 'a prepared account is not there');
is($two->query(q(SELECT credits_open_account('two:3')))->{code},
	'55P03', 'nor can it be opened until the outcome is known');
$two->value(q(ROLLBACK PREPARED 'never'));
is(balance('two:1'), 470, 'rolled back, it does not count');
is($two->value(q(SELECT balance, replayed FROM credits_deduct('two:1', 10, 'third'))),
	'460|f', 'its key is free');
is($two->value(q(SELECT balance, replayed FROM credits_open_account('two:3', 7))),
	'7|f', 'and the name of its account');

# a crossing notifies, and a notification cannot be prepared
$one->value('BEGIN');
$one->value(q(SELECT credits_deduct('two:3', 7)));
$one->value(q(SELECT credits_deduct('two:1', 1)));
is($one->query(q(PREPARE TRANSACTION 'alert'))->{code},
	'0A000', 'an alert cannot be prepared');
$one->query('ROLLBACK');
is(balance('two:3'), 7, 'which takes its spend back');
is(balance('two:1'), 460, 'and all of its transaction');

# refund, adjust, void, pause in doubt over a crash
my $spend = $one->value(q(SELECT transaction_id FROM credits_deduct('two:2', 100, 'big')));
$one->value('BEGIN');
$one->value(qq(SELECT credits_refund($spend, 40, 'back')));
$one->value(q(SELECT credits_adjust('two:2', -5, 'correction', 'fix')));
$one->value(q(SELECT credits_pause_account('two:2', 'in doubt')));
$one->value(q(PREPARE TRANSACTION 'crash'));
my $before = balance('two:2');
$one->quit;
$two->quit;
$node->stop('immediate');
$node->start;
$two = CreditsTest::Session->new($node);
$two->value(q(SET lock_timeout = '100ms'));
is(balance('two:2'), $before, 'in doubt before and after a crash');
is($two->query(q(SELECT credits_deduct('two:2', 1)))->{code},
	'55P03', 'the account is still held');
$two->value(q(COMMIT PREPARED 'crash'));
is(balance('two:2'), $before + 35, 'committed after the crash, it counts');
is($two->query(q(SELECT credits_deduct('two:2', 1)))->{code},
	'PT423', 'the account is paused');
is($two->value(qq(SELECT amount, replayed FROM credits_refund($spend, 40, 'back'))),
	'40|t', 'the refund is known by its key');
$two->value(q(SELECT credits_resume_account('two:2', 'known')));
is($two->value(q(SELECT kind FROM credits_deduct('two:2', 1))), 'deduction', 'and the chain goes on');

# many accounts in one prepared transaction
$two->value(q(SELECT count(credits_open_account('many:' || i, 100)) FROM generate_series(1, 50) AS i));
$two->value('BEGIN');
$two->value(q(SELECT count(credits_deduct('many:' || i, i)) FROM generate_series(1, 50) AS i));
$two->value(q(PREPARE TRANSACTION 'many'));
$node->restart;
$node->safe_psql('postgres', q(COMMIT PREPARED 'many'));
is($node->safe_psql('postgres', q(SELECT sum(credits_balance(name)) FROM credits.accounts WHERE name LIKE 'many:%')),
	5000 - 1275, 'fifty spends in one prepared transaction');

problems_are($node, '', 'nothing is wrong after all that');
is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'nothing is left in doubt');
$two->quit;
$node->stop;
done_testing();
