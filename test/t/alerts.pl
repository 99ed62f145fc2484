# low_balance as a second connection hears it.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('alerts', conf => 'max_prepared_transactions = 2');
my $listener = CreditsTest::Session->new($node);
my $spender = CreditsTest::Session->new($node);

$listener->value('LISTEN low_balance');

# What the listener heard since the last time, as decoded payloads.
sub heard
{
	my $answer = $listener->query('SELECT 1');
	return map { JSON::PP->new->utf8(0)->decode($_->{payload}) } @{ $answer->{notifications} };
}

sub events
{
	my ($account) = @_;
	return $node->safe_psql('postgres', qq(
		SELECT count(*) FROM credits.events AS e JOIN credits.accounts AS a ON a.id = e.account_id
		WHERE e.kind = 'low_balance' AND a.name = '$account'));
}

# crossing
$spender->value(q(SELECT credits_open_account('user:1', 100)));
is(scalar(my @none = heard()), 0, 'opening an account notifies nobody');
$spender->value(q(SELECT credits_deduct('user:1', 90)));
is(scalar(@none = heard()), 0, 'down to the threshold: nothing yet');

my $id = $spender->value(q(SELECT transaction_id FROM credits_deduct('user:1', 1, 'k')));
my @alerts = heard();
is(scalar(@alerts), 1, 'below the threshold: one notification');
my $alert = $alerts[0];
is(join(' ', sort keys %$alert), 'account at balance base level threshold transaction_id', 'what it tells');
is_deeply([ @$alert{qw(account balance level threshold base transaction_id)} ], [ 'user:1', 9, '10', 10, 100, $id ],
	'account, balance, level, threshold, base and transaction');
is($spender->value(qq(SELECT '$alert->{at}'::timestamptz = created_at FROM credits.transactions WHERE id = $id)),
	't', 'when');
is($spender->value(q(SELECT detail->>'account', detail->>'balance', detail->>'threshold', detail->>'transaction_id',
	detail ? 'depleted', transaction_id FROM credits.events WHERE kind = 'low_balance')),
	"user:1|9|10|$id|f|$id", 'the event says the same');
is($spender->value(qq(SELECT e.xmin = t.xmin, e.detail = '{"account": "user:1", "balance": 9, "level": "10", "threshold": 10, "base": 100}'::jsonb
		|| jsonb_build_object('transaction_id', t.id, 'at', '$alert->{at}')
	FROM credits.events AS e JOIN credits.log AS t ON t.id = e.transaction_id)),
	't|t', 'and is written in the same transaction');

# a replay
is($spender->value(q(SELECT replayed FROM credits_deduct('user:1', 1, 'k'))), 't', 'a replay');
is(scalar(@none = heard()), 0, 'notifies nobody');

# below
$spender->value(q(SELECT credits_allocate('user:1', 1)));
$spender->value(q(SELECT credits_allocate('user:1', 10)));
$spender->value(q(SELECT credits_deduct('user:1', 11, 'down')));
is(scalar(@alerts = heard()), 1, 'back above and down again: one more');
is(events('user:1'), '2', 'and one more event');
$spender->value(q(SELECT credits_open_account('user:0', 100)));
$spender->value(q(SELECT credits_set_alerts('user:0', '50')));
$spender->value(q(SELECT credits_deduct('user:0', 60)));
is(scalar(@alerts = heard()), 1, 'a crossing');
$spender->value(qq(SELECT credits_deduct('user:0', 1, 'below:$_'))) foreach 1 .. 5;
$spender->value(q(SELECT credits_deduct('user:0', 1, 'below:' || n) FROM generate_series(6, 10) AS n));
is(scalar(@none = heard()), 0, 'ten deductions below the threshold: nothing more');
is($spender->value(q(SELECT credits_balance('user:0'))), '30', 'while the balance falls');
is(events('user:0'), '1', 'and no event either');

# depleted
$spender->value(q(SELECT credits_deduct('user:1', 9)));
@alerts = heard();
is(scalar(@alerts), 1, 'down to nothing: one more');
is($alerts[0]{balance}, 0, 'balance 0');
ok(ref $alerts[0]{depleted} && $alerts[0]{depleted}, 'depleted: true');
$spender->query(q(SELECT credits_deduct('user:1', 1)));
$spender->value(q(SELECT credits_try_deduct('user:1', 1)));
is(scalar(@none = heard()), 0, 'a refusal notifies nobody');

# in one step
$spender->value(q(SELECT credits_open_account('user:2', 50)));
$spender->value(q(SELECT credits_deduct('user:2', 50, 'all')));
@alerts = heard();
is(scalar(@alerts), 1, 'across the threshold to nothing: one notification');
ok($alerts[0]{depleted}, 'which says so');

# rollback
$spender->value(q(SELECT credits_open_account('user:3', 20)));
$spender->value('BEGIN');
$spender->value(q(SELECT credits_deduct('user:3', 15)));
is($spender->value(q(SELECT count(*) FROM credits.events WHERE detail->>'account' = 'user:3')),
	'1', 'the event is there within the transaction');
is(events('user:3'), '0', 'but not outside');
is(scalar(@none = heard()), 0, 'and nobody has heard yet');
$spender->value('ROLLBACK');
is(scalar(@none = heard()), 0, 'rolled back: nobody hears');
is(events('user:3'), '0', 'and no event stays');
$spender->value('BEGIN');
$spender->value('SAVEPOINT s');
$spender->value(q(SELECT credits_deduct('user:3', 15)));
$spender->value('ROLLBACK TO s');
$spender->value('COMMIT');
is(scalar(@none = heard()), 0, 'rolled back to a savepoint: nobody hears');
is(events('user:3'), '0', 'and no event stays');
$spender->value('BEGIN');
$spender->value(q(SELECT credits_deduct('user:3', 15, 'last')));
$spender->value(q(SELECT credits_deduct('user:3', 1)));
$spender->value('COMMIT');
is(scalar(@alerts = heard()), 1, 'committed: one');
is($alerts[0]{balance}, 5, 'as of the crossing');

# re-arming
$spender->value(q(SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'last'), 3)));
$spender->value(q(SELECT credits_deduct('user:3', 1)));
is(scalar(@none = heard()), 0, 'a refund that stays below does not re-arm');
$spender->value(q(SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'last'))));
is($spender->value(q(SELECT credits_balance('user:3'))), '18', 'a refund above the threshold');
is(scalar(@none = heard()), 0, 'notifies nobody');
$spender->value(q(SELECT credits_deduct('user:3', 9)));
is(scalar(@alerts = heard()), 1, 'but re-arms');
is($alerts[0]{balance}, 9, 'for the next crossing');

# the account's own threshold, and the setting
$spender->value(q(SELECT credits_open_account('user:4', 1000)));
$spender->value(q(SELECT credits_set_alerts('user:4', '500')));
is(scalar(@none = heard()), 0, 'a threshold below the balance notifies nobody');
$spender->value(q(SELECT credits_deduct('user:4', 501)));
is(scalar(@alerts = heard()), 1, 'the threshold of the account');
is($alerts[0]{threshold}, 500, 'is told');
$spender->value(q(SELECT credits_set_alerts('user:4', clear => '{levels}')));
$spender->value(q(SET credits.alert_levels = '400'));
$spender->value(q(SELECT credits_deduct('user:4', 100)));
@alerts = heard();
is(scalar(@alerts), 1, 'the setting, without one');
is($alerts[0]{threshold}, 400, 'is told');
$spender->value(q(RESET credits.alert_levels));

# no threshold at all
$spender->value(q(SELECT credits_open_account('user:5', 20)));
$spender->value(q(SELECT credits_set_alerts('user:5', '')));
$spender->value(q(SELECT credits_deduct('user:5', 19)));
is(scalar(@none = heard()), 0, 'threshold 0: no alert while something is left');

# by the clock, an adjustment and a void
$spender->value(q(SET credits.test_clock = '2030-01-01 00:00+00'));
$spender->value(q(SELECT credits_open_account('user:6')));
$spender->value(q(SELECT credits_allocate('user:6', 100, source => 'trial', expires_at => '2030-02-01 00:00+00')));
$spender->value(q(SET credits.test_clock = '2030-03-01 00:00+00'));
$spender->value(q(CALL credits_settle()));
@alerts = heard();
is(scalar(@alerts), 1, 'an expiry notifies');
is($alerts[0]{account}, 'user:6', 'about its account');
ok($alerts[0]{depleted}, 'that is empty now');
$spender->value(q(RESET credits.test_clock));
$spender->value(q(SELECT credits_open_account('user:7', 100)));
$spender->value(q(SELECT credits_adjust('user:7', -95, 'error')));
is(scalar(@alerts = heard()), 1, 'an adjustment notifies');
$spender->value(q(SELECT credits_open_account('user:8', 100)));
$spender->value(q(SELECT credits_void_grant((SELECT g.id FROM credits.grants AS g
	JOIN credits.accounts AS a ON a.id = g.account_id WHERE a.name = 'user:8'), 'error')));
is(scalar(@alerts = heard()), 1, 'a void notifies');

# names that need escaping
$spender->value(qq(SELECT credits_open_account('it''s "the" \\ \x{fc}n\x{ef} \x{1f389}', 20)));
$spender->value(qq(SELECT credits_deduct('it''s "the" \\ \x{fc}n\x{ef} \x{1f389}', 15)));
@alerts = heard();
is(scalar(@alerts), 1, 'a name with quotes, backslash and unicode');
is($alerts[0]{account}, qq(it's "the" \\ \x{fc}n\x{ef} \x{1f389}), 'comes through');

# a notification cannot be prepared
$spender->value(q(SELECT credits_open_account('user:9', 20)));
$spender->value('BEGIN');
$spender->value(q(SELECT credits_deduct('user:9', 5)));
is($spender->query(q(PREPARE TRANSACTION 'one'))->{code}, '00000', 'no crossing: can be prepared');
$spender->value(q(COMMIT PREPARED 'one'));
$spender->value('BEGIN');
$spender->value(q(SELECT credits_deduct('user:9', 10)));
is($spender->query(q(PREPARE TRANSACTION 'two'))->{code}, '0A000', 'a crossing: cannot');
is($spender->value(q(SELECT credits_balance('user:9'))), '15', 'and has no effect');
is(scalar(@none = heard()), 0, 'and notifies nobody');

problems_are($node, '', 'verify');

$_->quit foreach $listener, $spender;
$node->stop;
done_testing();
