# Fifty sessions after the last uses of a code: as many get it as it says, no more
# and no fewer.  The same for a gift, for the cap of a referral code, for one
# account that sends the same code fifty times, and for fifty that guess.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $sessions = 50;
my $node = credits_node('codes', conf => <<'CONF');
credits.referral_credits = 20
credits.referrer_credits = 30
CONF
my $admin = CreditsTest::Session->new($node);
my @sessions = map { CreditsTest::Session->new($node) } 1 .. $sessions;

$admin->value(qq(SELECT credits_open_account('user:' || n) FROM generate_series(0, $sessions) AS n));

# Sends a statement from each session, with its number in place of N, and counts
# what came back: SQLSTATEs or, of attempts that were refused, their codes.
sub outcomes
{
	my ($sql) = @_;
	my $number = 0;
	my %outcomes;

	foreach my $session (@sessions)
	{
		$number++;
		$session->send($sql =~ s/\bN\b/$number/gr);
	}
	foreach my $answer (map { $_->receive } @sessions)
	{
		my ($refused) = ($answer->{rows}[0] // '') =~ /^(PT\d+)$/;
		$outcomes{ $refused // $answer->{code} }++;
	}
	return \%outcomes;
}

sub uses_of
{
	my ($code) = @_;
	return $admin->value(
		qq(SELECT uses, (SELECT count(*) FROM credits.redemptions AS r WHERE r.code_id = c.code_id)
			FROM credits.promo_codes AS c WHERE code = '$code'));
}

# the last use, the last seven, and all but one
foreach my $uses (1, 7, $sessions - 1)
{
	$admin->value("SELECT credits_create_promo_code('LIMITED-$uses', 5, $uses)");
	is_deeply(
		outcomes("SELECT credits_redeem('user:' || N, 'limited-$uses')"),
		{ '00000' => $uses, PT410 => $sessions - $uses },
		"$sessions sessions after $uses uses of a code");
	is(uses_of("LIMITED-$uses"), "$uses|$uses", "$uses uses are counted");
}

# those that come too late are told so by a row, too
$admin->value("SELECT credits_create_promo_code('TRY', 5, 3)");
is_deeply(
	outcomes("SELECT code FROM credits_try_redeem('user:' || N, 'try')"),
	{ '00000' => 3, PT410 => $sessions - 3 },
	'as attempts');

# nobody waits for a code without a limit: all redeem it before any commits
$admin->value("SELECT credits_create_promo_code('OPEN', 5)");
$_->value('BEGIN') foreach @sessions;
is_deeply(outcomes("SELECT credits_redeem('user:' || N, 'open')"), { '00000' => $sessions },
	'a code without a limit, in transactions that stay open');
is(uses_of('OPEN'), '0|0', 'none of which is seen yet');
$_->value('COMMIT') foreach @sessions;
is(uses_of('OPEN'), "$sessions|$sessions", 'all are counted');

# one account, once and three times
$admin->value("SELECT credits_create_promo_code('ONCE', 5), credits_create_promo_code('THRICE', 5, 40, per_account => 3)");
is_deeply(outcomes("SELECT credits_redeem('user:1', 'once')"), { '00000' => 1, PT409 => $sessions - 1 },
	'one account, once');
is_deeply(outcomes("SELECT credits_redeem('user:1', 'thrice')"), { '00000' => 3, PT409 => $sessions - 3 },
	'one account, three times');
is(uses_of('THRICE'), '3|3', 'which are counted');
# one key
$admin->value("SELECT credits_create_promo_code('KEY', 5, 40)");
is_deeply(outcomes("SELECT credits_redeem('user:2', 'key', 'k')"), { '00000' => $sessions }, 'one key');
is(uses_of('KEY'), '1|1', 'is one use');

# a gift
$admin->value("SELECT credits_allocate('user:0', 1000)");
my $gift = $admin->value("SELECT code FROM credits_create_gift('user:0', 100)");
is_deeply(outcomes("SELECT credits_redeem('user:' || N, '$gift')"), { '00000' => 1, PT409 => $sessions - 1 }, 'a gift');
is($admin->value("SELECT balance, held FROM credits.accounts WHERE name = 'user:0'"), '900|0', 'has left its giver once');
# taken back while it is redeemed: it goes one way
foreach my $round (1 .. 5)
{
	my $code = $admin->value("SELECT code FROM credits_create_gift('user:0', 100)");
	my $number = 0;
	foreach my $session (@sessions)
	{
		$session->send(
			$number++ % 2
			? "SELECT credits_redeem('user:$number', '$code')"
			: "SELECT credits_cancel_gift('$code')");
	}
	is(scalar(grep { $_->receive->{code} eq '00000' } @sessions), 1, "round $round: redeemed or cancelled");
}
# round in circles: everybody gives to their neighbours
$admin->value("SELECT credits_allocate('user:' || n, 100) FROM generate_series(1, $sessions) AS n");
my $before = $admin->value('SELECT sum(balance) FROM credits.accounts');
foreach my $round (1 .. 5)
{
	is_deeply(
		outcomes("SELECT credits_gift_many('user:' || N, ARRAY(SELECT 'user:' || 1 + (N + i) % $sessions
				FROM generate_series(0, 4) AS i WHERE 1 + (N + i) % $sessions <> N), 1)"),
		{ '00000' => $sessions },
		"round $round of gifts to neighbours");
}
is($admin->value('SELECT sum(balance) FROM credits.accounts'), $before, 'nothing is lost or made');

# referrals: capped, and in both directions at once
$admin->value("SELECT credits_open_account('new:' || n) FROM generate_series(1, $sessions) AS n");
$_->value('SET credits.referral_cap = 9') foreach @sessions;
my $code = $admin->value("SELECT credits_referral_code('user:0')");
is_deeply(
	outcomes("SELECT credits_redeem('new:' || N, '$code')"),
	{ '00000' => 9, PT403 => $sessions - 9 },
	'a referral code up to its cap');
is($admin->value("SELECT referrals, credits FROM credits.referral_counts WHERE account = 'user:0'"), '9|270', 'counted');
is_deeply(outcomes("SELECT credits_redeem('user:1', credits_referral_code('new:' || N))"),
	{ '00000' => 1, PT409 => $sessions - 1 }, 'one referee, many referrers');
$admin->value("SELECT credits_open_account('pair:' || n) FROM generate_series(1, $sessions) AS n");
is_deeply(
	outcomes("SELECT credits_redeem('pair:' || N, credits_referral_code('pair:' || N + CASE WHEN N % 2 = 1 THEN 1 ELSE -1 END))"),
	{ '00000' => $sessions },
	'pairs that refer each other');
# one code, made by all at once
$admin->value("SELECT credits_open_account('stable')");
$_->send("SELECT credits_referral_code('stable')") foreach @sessions;
my %codes = map { ($_->receive->{rows}[0] // 'none') => 1 } @sessions;
is(scalar keys %codes, 1, 'one referral code, whoever makes it');

# guessed at: as many tries as one after the other
$admin->value("SELECT credits_open_account('guesser')");
is_deeply(
	outcomes("SELECT code FROM credits_try_redeem('guesser', 'guess ' || N)"),
	{ PT404 => 10, PT403 => $sessions - 10 },
	'guesses');
is($admin->value("SELECT kind, count(*), sum((detail->>'count')::int) FROM credits.events WHERE account_id =
		(SELECT id FROM credits.accounts WHERE name = 'guesser') GROUP BY kind ORDER BY kind"),
	"redemption_refused|1|10\nredemption_throttled|1|", 'are counted by an event, and the limit is one');

problems_are($node, '', 'verify');

$_->quit foreach @sessions, $admin;
$node->stop;
done_testing();
