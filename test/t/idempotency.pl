# Twenty sessions send one key at once: one effect, and twenty equal receipts
# apart from replayed.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $sessions = 20;
my $node = credits_node('idempotency');
my $blocker = CreditsTest::Session->new($node);
my @sessions = map { CreditsTest::Session->new($node) } 1 .. $sessions;

$blocker->value(q(SELECT credits_open_account('a', 1000)));
my $spend = $blocker->value(q(SELECT transaction_id FROM credits_deduct('a', 100, 'spend')));
$blocker->value(q(SELECT credits_allocate('a', 70)));
my $grant = $blocker->value(q(SELECT max(id) FROM credits.grants));

sub state_of
{
	return $blocker->value(q(SELECT balance, transaction_count FROM credits.accounts WHERE name = 'a'));
}

# All at once, held back by a lock on the account until the last has come.
sub together
{
	my ($sql) = @_;
	$blocker->value('BEGIN');
	$blocker->value(q(SELECT FROM credits.accounts WHERE name = 'a' FOR UPDATE));
	$_->send($sql) foreach @sessions;
	wait_until(
		sub {
			$blocker->value('SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted') == $sessions;
		}) or die 'not all sessions came to wait';
	$blocker->value('COMMIT');
	return map { $_->receive } @sessions;
}

# Check the twenty answers: one original, nineteen replays, all else equal.
sub one_effect
{
	my ($name, $answers, $change) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	is(join(' ', sort map { $_->{code} } @$answers), join(' ', ('00000') x $sessions), "$name: all answer");
	my @rows = map { join "\n", @{ $_->{rows} } } @$answers;
	my $original = grep { /\|f\|\d+$/ } @rows;
	is($original, 1, "$name: one did it");
	s/\|[tf](\|\d+)$/$1/ foreach @rows;
	my %distinct = map { $_ => 1 } @rows;
	is(scalar(keys %distinct), 1, "$name: equal receipts") or diag join "\n", keys %distinct;
}

my %calls = (
	deduct => [ q(credits_deduct('a', 7, 'deduct', 'op', 'ref', '{"a": 1}')), -7 ],
	allocate => [ q(credits_allocate('a', 9, idempotency_key => 'allocate')), 9 ],
	refund => [ qq(credits_refund($spend, 40, 'refund')), 40 ],
	adjust => [ q(credits_adjust('a', -3, 'error', 'adjust')), -3 ],
	void => [ qq(credits_void_grant($grant, 'error', 'void')), undef ],);

foreach my $name (sort keys %calls)
{
	my ($call, $change) = @{ $calls{$name} };
	my ($balance, $count) = split /\|/, state_of();
	one_effect("$name, all waiting", [ together(receipt_sql($call)) ]);
	my ($balance_after, $count_after) = split /\|/, state_of();
	is($balance_after - $balance, $change, "$name: one change") if defined $change;
	is($count_after - $count, 1, "$name: one row");

	# once more with nobody in the way: replays only
	$_->send(receipt_sql($call)) foreach @sessions;
	my @answers = map { $_->receive } @sessions;
	is(scalar(grep { $_->{code} eq '00000' && $_->{rows}[0] =~ /\|t\|\d+$/ } @answers),
		$sessions, "$name: replays only");
	is(state_of(), "$balance_after|$count_after", "$name: which change nothing");
}

# as fast as they come
foreach my $round (1 .. 10)
{
	$_->send(receipt_sql("credits_deduct('a', 1, 'fast:$round')")) foreach @sessions;
	my @answers = map { $_->receive } @sessions;
	my %receipts = map { ($_->{rows}[0] // '') =~ s/\|[tf](\|\d+)$/$1/r => 1 } @answers;
	my $original = grep { ($_->{rows}[0] // '') =~ /\|f\|\d+$/ } @answers;
	is(scalar(keys %receipts) . " $original", '1 1', "round $round as fast as they come");
}

# as an attempt
one_effect(
	'try_deduct',
	[
		together(q(SELECT ok, code, (receipt).transaction_id, (receipt).balance, (receipt).replayed,
			(extract(epoch FROM (receipt).created_at) * 1000000)::bigint
			FROM credits_try_deduct('a', 2, 'try')))
	]);

# opening
$_->send(receipt_sql(q(credits_open_account('b', 5)))) foreach @sessions;
one_effect('open_account', [ map { $_->receive } @sessions ]);
is($blocker->value(q(SELECT balance, transaction_count FROM credits.accounts WHERE name = 'b')),
	'5|1', 'opened once');

# one key, twenty different requests: one wins, the others are told
my $number = 0;
$_->send(receipt_sql("credits_deduct('a', " . ++$number . ", 'different')")) foreach @sessions;
my %codes;
$codes{ $_->receive->{code} }++ foreach @sessions;
is_deeply(\%codes, { '00000' => 1, PT409 => $sessions - 1 }, 'one key for twenty different requests');

# one key on twenty accounts: twenty effects
$blocker->value(qq(SELECT credits_open_account('account:' || n, 10) FROM generate_series(1, $sessions) AS n));
$number = 0;
$_->send(receipt_sql("credits_deduct('account:" . ++$number . "', 4, 'k')")) foreach @sessions;
is(scalar(grep { $_->receive->{rows}[0] =~ /\|6\|0\|f\|/ } @sessions), $sessions, 'keys belong to accounts');

# twenty sessions, the last credits: nobody overdraws
$blocker->value(q(SELECT credits_open_account('last', 7)));
$_->send(receipt_sql("credits_deduct('last', 1)")) foreach @sessions;
%codes = ();
$codes{ $_->receive->{code} }++ foreach @sessions;
is_deeply(\%codes, { '00000' => 7, PT402 => 13 }, 'twenty sessions after seven credits');

problems_are($node, '', 'verify');

$_->quit foreach @sessions, $blocker;
$node->stop;
done_testing();
