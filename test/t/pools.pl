# Members, teams, organisations and a group that spend, hold, capture, refund
# and time out at random, from several sessions at once, while administrators
# change who may spend what.  Nobody waits for one who waits for him: not one
# deadlock.  At the end each cap has used what the log says.
#
# CREDITS_POOLS_SECONDS says how long; CREDITS_SEED repeats the choices.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{CREDITS_POOLS_SECONDS} // 5;
my $clients = 8;
my $seed = $ENV{CREDITS_SEED} // 20310401;
diag "seed $seed, $seconds s";
srand $seed;

my $node = credits_node('pools');
my @members = map { "member:$_" } 1 .. 8;
my @teams = map { "team:$_" } 1 .. 3;
my @orgs = map { "org:$_" } 1 .. 2;
my @zones = qw(UTC Europe/Berlin America/New_York Asia/Kolkata Pacific/Kiritimati);

# ids are given out at random, so that locks by id go up and down the levels
my @names = sort { rand() <=> 0.5 } @members, @teams, @orgs, 'group';
$node->safe_psql('postgres', join ';', map { "SELECT credits_open_account('$_', 100000)" } @names);
$node->safe_psql('postgres', "SELECT credits_set_limits('$_', max_spend_per_day => 90000, timezone => 'Asia/Tokyo')")
  foreach 'member:1', 'org:1', 'team:1';

sub one_of { return $_[ int rand @_ ] }

sub terms
{
	my $cap = rand() < 0.3 ? 'NULL' : 200 + int rand 3000;
	return sprintf "%s, '%s', '%s'", $cap, one_of(qw(day week month lifetime)), one_of(@zones);
}

# who may be in what
sub pair
{
	my $level = rand;
	return $level < 0.5 ? (one_of(@teams), one_of(@members))
	  : $level < 0.75 ? (one_of(@orgs), one_of(@teams))
	  : $level < 0.85 ? (one_of(@orgs), one_of(@members))
	  : ('group', one_of(@orgs));
}

foreach my $member (@members, @teams, @orgs)
{
	my $pool = $member =~ /member/ ? one_of(@teams) : $member =~ /team/ ? one_of(@orgs) : 'group';
	$node->safe_psql('postgres', "SELECT credits_add_member('$pool', '$member', " . terms() . ')');
}

# --------------------------------------------------------------------------

my (@holds, @spends, %codes);
my $number = 0;

sub key { return rand() < 0.5 ? 'NULL' : "'k" . ++$number . "'" }

# The ids of holds and spends come back as the first column.
sub request
{
	my $what = rand;
	my $account = rand() < 0.8 ? one_of(@members) : one_of(@teams);
	my $pool = rand() < 0.35 ? one_of(@teams) : rand() < 0.6 ? one_of(@orgs) : 'group';
	my $paid = sprintf "pool => '%s', mode => '%s'", $pool, one_of(qw(own_first pool_first pool_only));
	my $amount = 1 + int rand 40;
	$amount = 9999 if rand() < 0.005;

	return (spend => "SELECT * FROM credits_deduct('$account', $amount, " . key() . ", $paid)")
	  if $what < 0.30;
	return (spend => "SELECT * FROM credits_deduct('" . one_of(@names) . "', $amount)")
	  if $what < 0.34;
	return (
		hold => "SELECT * FROM credits_hold('$account', $amount, "
		  . key()
		  . ", expires_in => '"
		  . (20 + int rand 300)
		  . " milliseconds', $paid)") if $what < 0.56;
	if ($what < 0.74 && @holds)
	{
		my $hold = $holds[ -1 - int rand(@holds < 20 ? @holds : 20) ];
		my $how = rand;
		return (spend => "SELECT * FROM credits_capture($hold, $amount, " . key() . ', final => false)') if $how < 0.2;
		return (spend => "SELECT * FROM credits_capture($hold)") if $how < 0.4;
		return (spend => "SELECT * FROM credits_capture($hold, $amount, " . key() . ', allow_more => true)')
		  if $how < 0.7;
		return (other => "SELECT * FROM credits_release($hold, " . key() . ')') if $how < 0.85;
		return (other => "SELECT * FROM credits_extend_hold($hold, '500 milliseconds')");
	}
	if ($what < 0.86 && @spends)
	{
		my $spend = $spends[ -1 - int rand(@spends < 50 ? @spends : 50) ];
		return (other => "SELECT * FROM credits_refund($spend" . (rand() < 0.5 ? ', 3' : '') . ')');
	}
	if ($what < 0.95)
	{
		my ($in, $who) = pair();
		my $how = rand;
		return (other => "SELECT * FROM credits_change_member('$in', '$who', " . (rand() < 0.3 ? "clear => '{cap}'" : terms()) . ')') if $how < 0.4;
		return (other => "SELECT * FROM credits_add_member('$in', '$who', " . terms() . ')') if $how < 0.8;
		return (other => "SELECT * FROM credits_remove_member('$in', '$who')");
	}
	return (other => sprintf "SELECT * FROM credits_transfer('%s', '%s', 5)", one_of(@names), one_of(@names))
	  if $what < 0.97;
	return (other => 'CALL credits_settle(' . (1 + int rand 10) . ')');
}

# what a refusal may be
my %allowed = map { $_ => 1 } qw(00000 PT402 PT403 PT404 PT409 PT410 22023);
my @problems;
my @sessions = map { CreditsTest::Session->new($node) } 1 .. $clients;
my %busy;
my $end = time + $seconds;
my $calls = 0;

while (1)
{
	if (time < $end)
	{
		foreach my $session (grep { !$busy{$_} } @sessions)
		{
			my ($kind, $sql) = request();
			# now and then undone
			my $undo = rand() < 0.1;
			$session->send($undo ? "BEGIN\;\n$sql;\nROLLBACK" : $sql);
			$busy{$session} = [ $undo ? 'undone' : $kind, $sql ];
		}
	}
	my @waiting = grep { $busy{$_} } @sessions;
	last unless @waiting;
	foreach my $session (wait_any(@waiting))
	{
		my $answer = $session->take;
		my ($kind, $sql) = @{ delete $busy{$session} };
		my $code = $answer->{code};
		# of a transaction that is undone the code is in its messages
		($code) = map { /^(?:psql.*)?ERROR:  (\w{5})/ ? $1 : () } @{ $answer->{messages} }, "ERROR:  $code";
		$calls++;
		$codes{$code}++;
		push @problems, "$code: $sql @{$answer->{messages}}" unless $allowed{$code};
		next unless $code eq '00000' && @{ $answer->{rows} } && $answer->{rows}[0] =~ /^(\d+)\|/;
		push @holds, $1 if $kind eq 'hold';
		push @spends, $1 if $kind eq 'spend';
	}
}
$_->quit foreach @sessions;

is_deeply(\@problems, [], 'no deadlocks, nor other errors');
note join ', ', map { "$_: $codes{$_}" } sort keys %codes;
cmp_ok($codes{'00000'}, '>', $calls / 5, 'much went well');
ok($codes{PT403}, 'some ran into caps');

# --------------------------------------------------------------------------
# the caps, by the log

my $counts = <<'SQL';
	WITH RECURSIVE spend AS (
		SELECT t.id, t.created_at, -t.amount AS amount, chain.ids
		FROM credits.transactions AS t
		CROSS JOIN LATERAL (
			SELECT t.member_id || COALESCE(array_agg(v::bigint ORDER BY n), '{}') || t.account_id AS ids
			FROM jsonb_array_elements_text(t.terms->'via') WITH ORDINALITY AS via (v, n)) AS chain
		WHERE t.member_id IS NOT NULL AND t.kind IN ('deduction', 'hold')
	), back AS (
		SELECT t.id, t.amount, t.target_id FROM credits.transactions AS t
		WHERE t.member_id IS NOT NULL AND t.kind IN ('refund', 'release')
		UNION ALL
		SELECT b.id, b.amount, t.target_id
		FROM back AS b JOIN credits.transactions AS t ON t.id = b.target_id AND t.kind = 'capture'
	), returned AS (
		SELECT b.target_id, sum(b.amount) AS amount FROM back AS b GROUP BY b.target_id
	), net AS (
		SELECT s.id, s.created_at, s.amount - COALESCE(r.amount, 0) AS amount,
			   s.ids[i] AS account_id, s.ids[i + 1] AS pool_id
		FROM spend AS s LEFT JOIN returned AS r ON r.target_id = s.id
		CROSS JOIN LATERAL generate_series(1, cardinality(s.ids) - 1) AS i
	)
	SELECT m.pool_id, m.account_id, m.used, COALESCE(sum(n.amount), 0) AS logged
	FROM credits.members AS m
	LEFT JOIN net AS n ON n.pool_id = m.pool_id AND n.account_id = m.account_id
		AND n.id > m.since_id AND n.created_at >= m.window_start
	GROUP BY m.pool_id, m.account_id, m.used
SQL
is($node->safe_psql('postgres', "SELECT * FROM ($counts) AS c WHERE used <> logged"), '',
	'what members have used is what the log says');
cmp_ok($node->safe_psql('postgres', "SELECT sum(used) FROM ($counts) AS c"), '>', 0, 'which is something');
problems_are($node, '', 'credits_verify is content');

# what is left of holds times out
Time::HiRes::sleep(0.6);
$node->safe_psql('postgres', 'CALL credits_settle()');
is($node->safe_psql('postgres', 'SELECT sum(held) FROM credits.accounts'), '0', 'no hold is left');
is($node->safe_psql('postgres', "SELECT * FROM ($counts) AS c WHERE used <> logged"), '',
	'what timed out went back to the caps');
is( $node->safe_psql('postgres', 'SELECT sum(balance) + sum(spent) - sum(refunded) FROM credits.accounts'),
	100_000 * @names, 'no credit is lost');
problems_are($node, '', 'credits_verify is content still');

done_testing();
