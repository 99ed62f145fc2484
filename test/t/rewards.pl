# Rewards that many ask for at once: the last credits of a budget, and one award of one
# account.  Exactly as much is given as there is.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use Test::More;

my $clients = 50;
my $node = credits_node('rewards', conf => "max_connections = 80\n");
my $session = CreditsTest::Session->new($node);
$session->value("SELECT count(credits_open_account('r:' || n)) FROM generate_series(1, $clients) AS n");
my @client = map { CreditsTest::Session->new($node) } 1 .. $clients;

# What all clients get who ask at once.
sub race
{
	my ($sql) = @_;
	# nobody gets an account before all of them have asked
	my $starter = CreditsTest::Session->new($node);
	$starter->value('BEGIN');
	$starter->value('SELECT count(*) FROM (SELECT FROM credits.accounts FOR UPDATE) AS a');
	$client[ $_ - 1 ]->send($sql =~ s/:n/$_/gr) foreach 1 .. $clients;
	ok(wait_until(sub { $session->value(q(SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock')) == $clients }), 'all of them wait');
	$starter->value('COMMIT');
	my %count;
	$count{ join '', @{ $_->receive->{rows} } }++ foreach @client;
	return \%count;
}

foreach my $round (1 .. 5)
{
	$session->value("SELECT credits_set_reward_program('launch $round', '{20}', budget => 210)");
	is_deeply(race("SELECT (credits_try_reward('r:' || :n, 'launch $round', 'a')).code"), { '' => 10, PT410 => $clients - 10 }, 'each credit of a budget is given once');
	is($session->value("SELECT given FROM credits.reward_totals WHERE program = 'launch $round'"), 200, 'and counted');
	$session->value("SELECT credits_set_reward_program('badge $round', '{5}')");
	is_deeply(race("SELECT (credits_try_reward('r:1', 'badge $round', 'a')).code"), { '' => 1, PT409 => $clients - 1 }, 'an award is given once');
}
is($session->value('SELECT count(*) FROM credits_verify()'), 0, 'credits_verify finds nothing');
done_testing();
