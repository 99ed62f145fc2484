# Top-ups under load: 32 clients spend from accounts that fall below their threshold again
# and again, beside workers that ask for top-ups, pay for them, let them fail or forget
# them, and that are killed.  There is one open request of an account at any time, no spend
# is refused or waits for long, and in the end nobody is below the threshold who could
# have been topped up.
#
# CREDITS_TOPUPS is how often the threshold is to be crossed, 200 by default.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $crossings = $ENV{CREDITS_TOPUPS} // 200;
my $accounts = 10;
my $node = credits_node('topups', conf => "max_connections = 60\nfsync = off\n");
my $session = CreditsTest::Session->new($node);
$session->value(q(SELECT credits_set_package('pack', 20000, 10, 'EUR')));
$session->value("SELECT count(credits_open_account('t:' || n, 1000000000)), count(credits_set_topup('t:' || n, 999990000, package => 'pack', max_requests => 1000000))
	FROM generate_series(0, @{[ $accounts - 1 ]}) AS n");

# about one spend in 40 crosses the threshold
my $dir = PostgreSQL::Test::Utils::tempdir();
open my $script, '>', "$dir/spend.sql" or die $!;
print $script "\\set n random(0, @{[ $accounts - 1 ]})\nSELECT ok FROM credits_try_deduct('t:' || :n, 500);\n";
close $script;

# starts requests, and pays for most of them by itself
my $work = q(
	DO $$
	DECLARE
		c credits.checkout;
		x float;
	BEGIN
		LOOP
			FOR c IN SELECT * FROM credits_request_topups(20) LOOP
				COMMIT;
				x := random();
				-- now and then, somebody else will pay for it
				CONTINUE WHEN x < 0.02;
				PERFORM credits_complete_purchase(c.purchase_id, 'pay:' || c.purchase_id, c.price);
				COMMIT;
			END LOOP;
			COMMIT;
			PERFORM pg_sleep(0.002);
		END LOOP;
	END $$);
# pays for what was forgotten
my $sweep = q(
	DO $$
	DECLARE
		r record;
	BEGIN
		LOOP
			FOR r IN SELECT purchase_id, price FROM credits.topup_list WHERE status = 'pending' AND requested_at < clock_timestamp() - interval '100 ms' LOOP
				PERFORM credits_complete_purchase(r.purchase_id, 'pay:' || r.purchase_id, r.price);
				COMMIT;
			END LOOP;
			COMMIT;
			PERFORM pg_sleep(0.1);
		END LOOP;
	END $$);

my @worker;
sub start
{
	my ($n) = @_;
	$worker[$n] = CreditsTest::Session->new($node, application_name => "worker$n");
	$worker[$n]->send($n == 2 ? $sweep : $work);
}
start($_) foreach 0 .. 2;

my $crossed = q(SELECT count(*) FROM credits.events WHERE kind = 'topup_due');
my ($killed, $most, $rounds) = (0, 0, 0);
my $limit = time + 60 + $crossings / 4;
while ($session->value($crossed) < $crossings && time < $limit)
{
	# 32 clients, for a second at a time
	$rounds++;
	my ($out, $err) = run_command([ 'pgbench', '-n', '-c', 32, '-j', 2, '-T', 1, '-f', "$dir/spend.sql", '-l', '--log-prefix', "$dir/log$rounds",
		'-h', $node->host, '-p', $node->port, 'postgres' ]);
	die $err unless $out =~ /transactions actually processed/;
	# kill a worker, which may be anywhere
	my $n = $rounds % 2;
	my $pid = $session->value("SELECT pid FROM pg_stat_activity WHERE application_name = 'worker$n'");
	if ($pid)
	{
		$session->value("SELECT pg_terminate_backend($pid)");
		eval { $worker[$n]->receive };
		$killed++;
		start($n);
	}
}
cmp_ok($session->value($crossed), '>=', $crossings, 'the threshold was crossed often enough');

# how long spends took, in microseconds
my @latencies;
foreach my $file (glob "$dir/log*")
{
	open my $log, '<', $file or die $!;
	while (<$log>) { push @latencies, (split ' ')[2] }
}
@latencies = sort { $a <=> $b } @latencies;
note(sprintf '%d spends, median %.1f ms, 99.9 %% %.1f ms, longest %.1f ms; %d crossings, %d workers killed',
	scalar @latencies, $latencies[ @latencies / 2 ] / 1000, $latencies[ @latencies * 0.999 ] / 1000, $latencies[-1] / 1000,
	$session->value($crossed), $killed);

# the last ones
foreach (1 .. 50)
{
	last if $session->value(q(SELECT count(*) FROM credits.accounts AS a WHERE a.topup_below > a.balance)) == 0;
	sleep 0.2;
}
is($session->value(q(SELECT count(*) FROM credits.accounts AS a WHERE a.topup_below > a.balance)), 0, 'nobody is left below the threshold');
$session->value("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'worker%'");

# from the rows, whatever the index says: the next begins when the one before has ended
is($session->value(q(SELECT count(*) FROM (SELECT requested_at, lag(COALESCE(ended_at, 'infinity')) OVER (PARTITION BY account_id ORDER BY id) AS ended_before
	FROM credits.topup_requests) AS r WHERE r.requested_at < r.ended_before)), 0, 'one open request of an account at any time');
is($session->value(q(SELECT count(*) FROM credits.topup_list AS l JOIN credits.events AS e ON e.kind = 'topup_requested' AND (e.detail->>'topup_id')::bigint = l.topup_id)),
	$session->value('SELECT count(*) FROM credits.topup_list'), 'each was announced once');
is($session->value(q(SELECT count(*) FROM credits.events WHERE kind = 'deduction_refused')), 0, 'no spend was refused');
is($session->value('SELECT count(*) FROM credits_verify()'), 0, 'credits_verify finds nothing');
done_testing();
