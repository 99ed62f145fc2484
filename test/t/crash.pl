# kill -9 of the whole cluster under load, again and again.  Every receipt that
# a client got is in the log; every call that was left without an answer and
# is sent again with its key has one effect.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $rounds = $ENV{CREDITS_CRASHES} // 20;
my $clients = 6;
my $node = credits_node('crash', conf => <<'CONF');
wal_level = replica
checkpoint_timeout = 30s
max_wal_size = 64MB
synchronous_commit = on
full_page_writes = on
CONF

$node->safe_psql('postgres', q(
	SELECT credits_open_account('account:' || n, 1000000000) FROM generate_series(1, 4) AS n;
	SELECT credits_open_account('pool', 1000000000);
	SELECT credits_add_member('pool', 'account:' || n, 1000000000) FROM generate_series(1, 4) AS n;
	SELECT credits_set_limits('account:4', max_spend_per_day => 1000000000)));
my $begin = $node->safe_psql('postgres', 'SELECT max(id) FROM credits.transactions');

my $seed = $ENV{CREDITS_SEED} // 20310401;
note "seed $seed";
srand $seed;

my $number = 0;
my %deductions;    # of each account, by their receipts: to refund
my @holds;         # by their receipts: to capture or release
my @acknowledged;  # all receipts of all rounds

# The next thing a client does: receipts expected, and the calls that give them
sub next_calls
{
	my $account = 'account:' . (1 + int rand 4);
	my $key = 'k' . ++$number;
	my $what = rand;
	my $calls;
	if ($what < 0.25)
	{
		$calls = [ "credits_deduct('$account', " . (1 + int rand 100) . ", '$key')" ];
	}
	elsif ($what < 0.3)
	{
		$calls = [ "credits_deduct('$account', " . (1 + int rand 100) . ", '$key', pool => 'pool')" ];
	}
	elsif ($what < 0.4)
	{
		# some time out in the middle of the round
		my $span = rand() < 0.3 ? '200 ms' : '1 day';
		my $pool = rand() < 0.3 ? ", pool => 'pool'" : '';
		$calls = [ "credits_hold('$account', " . (2 + int rand 100) . ", '$key', expires_in => '$span'$pool)" ];
	}
	elsif ($what < 0.48 && @holds)
	{
		my $id = $holds[ int rand @holds ];
		$calls = [
			rand() < 0.7
			? "credits_capture($id, 1, '$key', final => " . (rand() < 0.5 ? 'true' : 'false') . ')'
			: "credits_release($id, '$key')"
		];
	}
	elsif ($what < 0.53)
	{
		my $other = 'account:' . (1 + int rand 4);
		$other = 'pool' if $other eq $account;
		$calls = [ "credits_transfer('$account', '$other', 7, '$key')" ];
	}
	elsif ($what < 0.6)
	{
		$calls = [ "credits_allocate('$account', " . (1 + int rand 1000) . ", '$key')" ];
	}
	elsif ($what < 0.7)
	{
		# runs out in the middle of the round
		my $expiry = int((time + 0.2) * 1_000_000);
		$calls = [
			"credits_allocate('$account', 50, '$key', source => 'trial', "
			  . "expires_at => timestamptz 'epoch' + $expiry * interval '1 microsecond')"
		];
	}
	elsif ($what < 0.8 && @{ $deductions{$account} // [] })
	{
		my $id = $deductions{$account}[ int rand @{ $deductions{$account} } ];
		$calls = [ "credits_refund($id, 1, '$key')" ];
	}
	elsif ($what < 0.85)
	{
		$calls = [ "credits_adjust('$account', -5, 'error', '$key')" ];
	}
	elsif ($what < 0.9)
	{
		$calls = [ "credits_open_account('new:$key', 5)" ];
	}
	else
	{
		# two in one transaction
		$calls = [
			"credits_deduct('account:1', 3, '$key a')",
			"credits_deduct('account:2', 4, '$key b')"
		];
	}
	return { calls => $calls };
}

sub sql_of
{
	my ($task) = @_;
	my $sql = join ";\n", map { receipt_sql($_) } @{ $task->{calls} };
	return @{ $task->{calls} } > 1 ? "BEGIN;\n$sql;\nCOMMIT" : $sql;
}

# Note down the receipts of an answer.
sub acknowledge
{
	my ($answer) = @_;
	foreach my $row (@{ $answer->{rows} })
	{
		my ($id, $account, $kind) = my @receipt = split /\|/, $row;
		push @acknowledged, \@receipt;
		push @{ $deductions{$account} }, $id if $kind eq 'deduction';
		push @holds, $id if $kind eq 'hold';
		shift @holds if @holds > 50;
	}
}

# How many of some receipts the log does not bear out
sub missing
{
	my @receipts = @_;
	return 0 unless @receipts;
	my $values = join ",\n", map { "($_->[0], '$_->[1]', '$_->[2]', $_->[3], $_->[4], $_->[5], $_->[7])" } @receipts;
	return $node->safe_psql('postgres', qq(
		SELECT count(*)
		FROM (VALUES $values) AS r (id, account, kind, amount, balance, held, created_at)
		LEFT JOIN credits.transactions AS t ON t.id = r.id
		LEFT JOIN credits.accounts AS a ON a.id = t.account_id
		WHERE (r.account, r.kind, r.amount, r.created_at)
			IS DISTINCT FROM (a.name, t.kind, t.amount, (extract(epoch FROM t.created_at) * 1000000)::bigint)
		   -- what follows these counts, too
		   OR (t.kind NOT IN ('refund', 'capture', 'release')
			   AND (r.balance, r.held) IS DISTINCT FROM (t.balance_after, t.held_after))));
}

my ($lost, $retried, $found, $unequal) = (0, 0, 0, 0);
foreach my $round (1 .. $rounds)
{
	my @sessions = map { CreditsTest::Session->new($node) } 1 .. $clients;
	my $settler = CreditsTest::Session->new($node);
	my $before = @acknowledged;
	my %codes;

	foreach my $session (@sessions)
	{
		$session->{task} = next_calls();
		$session->send(sql_of($session->{task}));
	}
	$settler->send(q(CALL credits_settle(batch_size => 2)));

	my $end = time + 0.2 + rand 0.5;
	while (time < $end)
	{
		foreach my $session (wait_any(@sessions, $settler))
		{
			my $answer = $session->take;
			if ($session == $settler)
			{
				$session->send(rand() < 0.03 ? 'CHECKPOINT' : 'CALL credits_settle(batch_size => 2)');
				next;
			}
			$codes{ $answer->{code} }++;
			acknowledge($answer) if $answer->{code} eq '00000';
			$session->query('ROLLBACK') if $answer->{code} ne '00000' && @{ $session->{task}{calls} } > 1;
			$session->{task} = next_calls();
			$session->send(sql_of($session->{task}));
		}
	}
	kill_cluster($node);

	# what still was on its way
	my @open;
	foreach my $session (@sessions)
	{
		my $answer = $session->receive;
		if ($answer->{code} eq '00000')
		{
			acknowledge($answer);
		}
		elsif ($answer->{code} eq 'gone')
		{
			push @open, $session->{task};
		}
		$session->quit;
	}
	$settler->receive;
	$settler->quit;
	# a deadlock, a refund of what is refunded already, a grant that ran out
	# on the way, or a hold that timed out
	delete @codes{qw(00000 40P01 PT409 PT410 22023 gone)};
	is(join(' ', %codes), '', "round $round: no unexpected errors");

	$node->start;
	$lost += missing(@acknowledged[ $before .. $#acknowledged ]);

	my $session = CreditsTest::Session->new($node);
	foreach my $task (@open)
	{
		my $answer = $session->query(sql_of($task));
		if ($answer->{code} ne '00000')
		{
			# refused, as the first time: nothing to find then
			$session->query('ROLLBACK') if @{ $task->{calls} } > 1;
			my ($key) = $task->{calls}[0] =~ /'(k\d+)/;
			is($session->value("SELECT count(*) FROM credits.transactions WHERE idempotency_key = '$key'"),
				'0', "round $round: refused with $answer->{code} and without effect");
			next;
		}
		acknowledge($answer);
		my %replayed = map { (split /\|/)[6] => 1 } @{ $answer->{rows} };
		$unequal++ if keys %replayed != 1;
		$retried++;
		$found++ if $replayed{t};
		my @twice = map { $_->{rows} } $session->query(sql_of($task));
		$unequal++ if grep { (split /\|/)[6] ne 't' } @{ $twice[0] };
	}
	is($session->value('SELECT count(*) FROM credits_verify()'), '0', "round $round: verify");
	$session->quit;
}

is($lost, 0, 'every acknowledged receipt is in the log (' . @acknowledged . ')');
is(missing(@acknowledged), 0, 'still, after all crashes');
is($unequal, 0, "every retried call had one effect ($retried, $found of them before the crash)");
cmp_ok(scalar(@acknowledged), '>', 20 * $rounds / ($ENV{CREDITS_SLOWER} // 1), 'under load');
is($node->safe_psql('postgres', q(
	SELECT count(*) FROM (
		SELECT FROM credits.transactions WHERE idempotency_key IS NOT NULL
		GROUP BY coalesce(member_id, account_id), idempotency_key HAVING count(*) > 1) AS t)), '0', 'no key has two rows');
my %ids = map { $_->[0] => 1 } @acknowledged;
is($node->safe_psql('postgres', qq(
	SELECT count(*) FROM credits.transactions
	WHERE kind NOT IN ('expiration', 'activation') AND id > $begin
	  -- what the clock or a capture releases, and who receives
	  AND NOT (kind IN ('release', 'transfer') AND idempotency_key IS NULL))), scalar(keys %ids),
	'and there is nothing that nobody was told of');
problems_are($node, '', 'verify at the end');

$node->stop;
done_testing();
