# Many sessions at one hold: one effect.  Many transfers round a ring at once:
# nobody waits for ever, nothing is lost.  What was reserved outlives a crash.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $sessions = 20;
my $node = credits_node('holds');
my $blocker = CreditsTest::Session->new($node);
my @sessions = map { CreditsTest::Session->new($node) } 1 .. $sessions;

$blocker->value(q(SELECT credits_open_account('a', 1000)));

sub hold
{
	my ($amount, $span) = @_;
	$span //= '1 hour';
	return $blocker->value("SELECT transaction_id FROM credits_hold('a', $amount, expires_in => '$span')");
}

sub state_of
{
	return $blocker->value(q(SELECT balance, held, spent FROM credits.accounts WHERE name = 'a'));
}

sub hold_is
{
	my ($id, $expected, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( $blocker->value("SELECT status, captured, released FROM credits.holds WHERE hold_id = $id"),
		$expected, $name);
}

# All at once, held back by a lock on the account until the last has come.
# Returns how often each SQLSTATE came, and the answers.
sub together
{
	my (@sql) = @_;
	$blocker->value('BEGIN');
	$blocker->value(q(SELECT FROM credits.accounts WHERE name = 'a' FOR UPDATE));
	$sessions[$_]->send($sql[ $_ % @sql ]) foreach 0 .. $#sessions;
	wait_until(
		sub {
			$blocker->value('SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted') == $sessions;
		}) or die 'not all sessions came to wait';
	$blocker->value('COMMIT');
	my @answers = map { $_->receive } @sessions;
	my %codes;
	$codes{ $_->{code} }++ foreach @answers;
	return (\%codes, \@answers);
}

# one hold, captured by all without a key
my $id = hold(100);
my ($codes) = together(receipt_sql("credits_capture($id, 60)"));
is_deeply($codes, { '00000' => 1, PT409 => $sessions - 1 }, 'capture without a key: one effect');
hold_is($id, 'captured|60|40', 'captured once');
is(state_of(), '940|0|60', 'and paid once');

# with one key
my $answers;
foreach my $call (
	"credits_hold('a', 10, 'h', expires_in => '1 hour')",
	'credits_capture(%s, 20, final => false, idempotency_key => \'c\')',
	'credits_extend_hold(%s, \'2 hours\', \'e\')',
	'credits_release(%s, \'r\')')
{
	$id = hold(50) if $call =~ /capture/;
	($codes, $answers) = together(receipt_sql($call =~ s{%s}{$id}r));
	is_deeply($codes, { '00000' => $sessions }, "one key for all, $call: all answer");
	my @rows = map { $_->{rows}[0] } @$answers;
	is(scalar(grep { /\|f\|\d+$/ } @rows), 1, 'one did it');
	my %distinct = map { s/\|[tf](\|\d+)$/$1/r => 1 } @rows;
	is(scalar(keys %distinct), 1, 'equal receipts');
}
hold_is($id, 'released|20|30', 'each once');
is(state_of(), '910|10|80', 'and what they make of the account');

# one hold, part by part: no more than there is
$id = hold(50);
($codes) = together(receipt_sql("credits_capture($id, 3, final => false)"));
is_deeply($codes, { '00000' => 16, PT409 => 4 }, 'sixteen threes of fifty');
hold_is($id, 'open|48|0', 'and two are left');

# whoever comes first ends it, all others are told
$id = hold(50);
($codes) = together(
	receipt_sql("credits_capture($id)"), receipt_sql("credits_release($id)"),
	receipt_sql("credits_capture($id, 55, allow_more => true)"));
is_deeply($codes, { '00000' => 1, PT409 => $sessions - 1 }, 'captures and releases: one ends it');
problems_are($node, '', 'verify');

# the last credits are reserved once
$blocker->value(q(SELECT credits_adjust('a', 7 - balance, 'test') FROM credits.accounts WHERE name = 'a'));
($codes) = together(receipt_sql(q(credits_hold('a', 1))));
is_deeply($codes, { '00000' => 7, PT402 => $sessions - 7 }, 'seven credits, twenty holds');

# a hold that times out is given back once, by whoever comes first
my $before = $blocker->value(q(SELECT balance FROM credits_allocate('a', 30)));
$id = hold(30, '200 milliseconds');
wait_until(sub { $blocker->value(q(SELECT credits_balance('a'))) == $before })
  or die 'the hold did not time out';
($codes) = together(receipt_sql(q(credits_deduct('a', 1))), receipt_sql("credits_capture($id)"));
is_deeply($codes, { '00000' => 10, PT410 => 10 }, 'after its time: deductions go on, captures do not');
is($blocker->value("SELECT count(*) FROM credits.transactions WHERE kind = 'release' AND target_id = $id"),
	1, 'released once');
problems_are($node, '', 'verify');

# transfers round a ring, in both directions, some of them sent back
my $ring = 8;
$blocker->value(qq(SELECT count(credits_open_account('ring:' || n, 100)) FROM generate_series(0, $ring - 1) AS n));
$blocker->value(<<'SQL');
CREATE PROCEDURE ring(size int, span interval)
LANGUAGE plpgsql
AS $$
DECLARE
	until timestamptz := clock_timestamp() + span;
	giver int;
	receiver int;
	moved bigint;
BEGIN
	WHILE clock_timestamp() < until LOOP
		giver := floor(random() * size);
		receiver := (giver + CASE WHEN random() < 0.5 THEN 1 ELSE size - 1 END) % size;
		moved := NULL;
		BEGIN
			SELECT transaction_id INTO moved
			FROM credits_transfer('ring:' || giver, 'ring:' || receiver, 1 + floor(random() * 30)::bigint);
		EXCEPTION WHEN SQLSTATE 'PT402' THEN
			NULL;
		END;
		COMMIT;
		IF moved IS NOT NULL AND random() < 0.2 THEN
			BEGIN
				PERFORM credits_reverse_transfer(moved, 'ring');
			EXCEPTION WHEN SQLSTATE 'PT409' THEN
				NULL;
			END;
			COMMIT;
		END IF;
	END LOOP;
END
$$
SQL
$_->send("CALL ring($ring, '2 seconds')") foreach @sessions[ 0 .. $ring - 1 ];
my %ends;
$ends{ $_->receive->{code} }++ foreach @sessions[ 0 .. $ring - 1 ];
is_deeply(\%ends, { '00000' => $ring }, 'round a ring: no deadlock');
is($blocker->value(q(SELECT sum(balance) FROM credits.accounts WHERE name LIKE 'ring:%')),
	100 * $ring, 'nothing is lost');
my $moved = $blocker->value(q(SELECT count(*) FROM credits.transactions WHERE kind = 'transfer' AND amount < 0));
cmp_ok($moved, '>', 50, "$moved transfers");
problems_are($node, '', 'verify');

# a crash: what was committed is there, what was not is not; the transfers may have
# left nothing to hold
$blocker->value("SELECT count(credits_allocate('ring:$_', 10))") foreach 0, 1;
my $kept = $blocker->value(q(SELECT transaction_id FROM credits_hold('ring:0', 1, 'kept', expires_in => '1 hour')));
$id = hold(5);
$sessions[0]->value('BEGIN');
my $lost = $sessions[0]->value(q(SELECT transaction_id FROM credits_hold('ring:1', 1, 'lost', expires_in => '1 hour')));
$sessions[1]->value('BEGIN');
$sessions[1]->value("SELECT credits_capture($id)");
kill_cluster($node);
$node->start;
$blocker = CreditsTest::Session->new($node);
hold_is($kept, 'open|0|0', 'a hold outlives a crash');
hold_is($id, 'open|0|0', 'a capture that was not committed does not');
is($blocker->value("SELECT count(*) FROM credits.hold_states WHERE id = $lost"), 0, 'nor does such a hold');
is($blocker->value(q(SELECT replayed FROM credits_hold('ring:0', 1, 'kept', expires_in => '1 hour'))), 't', 'its key is known');
is($blocker->value(q(SELECT replayed FROM credits_hold('ring:1', 1, 'lost', expires_in => '1 hour'))), 'f', 'the other is free');
is($blocker->value("SELECT held FROM credits_capture($kept)"), 0, 'and can be captured');
problems_are($node, '', 'verify');

$node->stop;
done_testing();
