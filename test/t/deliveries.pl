# Deliveries under load: workers that are killed at any point, and a server that is.
# Each message is sent at least once, always with the same id, and none is left.
#
# CREDITS_DELIVERIES is how many there are, 1000 by default.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $deliveries = $ENV{CREDITS_DELIVERIES} // 1000;
my $workers = 4;

# a worker that is killed uses up an attempt: here, none is given up for that
my $node = credits_node('deliveries', conf => 'credits.delivery_attempts = 100');
$node->safe_psql('postgres', "CREATE TABLE sent (delivery_id bigint, message_id text);
	CREATE INDEX ON sent (delivery_id);
	SELECT count(credits_open_account('d:' || n, 15)), count(credits_set_contact('d:' || n, 'email', 'd' || n || '\@example.org', verified => true))
	FROM generate_series(1, $deliveries) AS n");

# Takes some, sends them, and says so, each in a transaction of its own, until nothing
# is left.
my $work = q(
	DO $$
	DECLARE
		taken jsonb;
		d jsonb;
	BEGIN
		LOOP
			SELECT jsonb_agg(to_jsonb(t)) INTO taken FROM credits_take_deliveries('email', 20, '400 milliseconds') AS t;
			COMMIT;
			IF taken IS NULL THEN
				EXIT WHEN (SELECT count(*) FROM credits.deliveries) = ALL_OF_THEM AND NOT EXISTS (SELECT FROM credits.deliveries WHERE status = 'waiting')
					AND NOT EXISTS (SELECT FROM credits.consumer_list WHERE unread > 0);
				PERFORM pg_sleep(0.02);
				CONTINUE;
			END IF;
			FOR d IN SELECT * FROM jsonb_array_elements(taken) LOOP
				INSERT INTO sent VALUES ((d->>'delivery_id')::bigint, d->>'message_id');
				COMMIT;
				IF random() < 0.05 THEN
					PERFORM credits_delivery_failed((d->>'delivery_id')::bigint, (d->>'lease_id')::bigint, 'error', random() < 0.1);
				ELSE
					PERFORM credits_delivery_sent((d->>'delivery_id')::bigint, (d->>'lease_id')::bigint);
				END IF;
				COMMIT;
			END LOOP;
		END LOOP;
	END $$);
$work =~ s/ALL_OF_THEM/$deliveries/;

my @session;
sub start
{
	my ($n) = @_;
	$session[$n] = CreditsTest::Session->new($node, application_name => "worker$n");
	$session[$n]->send($work);
}

# the events, while the workers work
my $spender = CreditsTest::Session->new($node);
$spender->send("DO \$\$ BEGIN FOR n IN 1 .. $deliveries LOOP PERFORM credits_deduct('d:' || n, 10); COMMIT; END LOOP; END \$\$");
start($_) foreach 0 .. $workers - 1;

my $killer = CreditsTest::Session->new($node);
my $killed = 0;
my $begun = time;
my $crash_at = $begun + 2 + rand 1;
my $crashed = 0;
my $limit = $begun + 60 + $deliveries / 50;
while (time < $limit)
{
	if (!$crashed && time > $crash_at)
	{
		$crashed = 1;
		kill_cluster($node);
		$_->quit foreach @session, $spender, $killer;
		$node->start;
		$killer = CreditsTest::Session->new($node);
		$spender = CreditsTest::Session->new($node);
		$spender->send("DO \$\$ BEGIN FOR n IN 1 .. $deliveries LOOP IF credits_balance('d:' || n) > 10 THEN PERFORM credits_deduct('d:' || n, 10); COMMIT; END IF; END LOOP; END \$\$");
		start($_) foreach 0 .. $workers - 1;
	}
	# those that failed are not waited for
	$killer->value(q(UPDATE credits.deliveries SET due_at = now() WHERE status = 'waiting' AND lease IS NULL AND due_at > now()));
	last if $crashed && $killer->value(q(SELECT count(*) FROM credits.deliveries WHERE status <> 'waiting')) == $deliveries;
	my $n = int(rand $workers);
	if (rand() < 0.5)
	{
		$killed += $killer->value(qq(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'worker$n'));
		$session[$n]->quit;
		start($n);
	}
	sleep 0.05;
}
$_->quit foreach @session, $spender;
cmp_ok($killed, '>', 3, "workers were killed ($killed times)");
is($node->safe_psql('postgres', q(SELECT count(*) FROM credits.deliveries)), $deliveries, 'a delivery for each event');
is($node->safe_psql('postgres', q(SELECT count(*) FROM credits.deliveries WHERE status NOT IN ('sent', 'dead'))), 0, 'none is left');
is($node->safe_psql('postgres', q(SELECT count(*) FROM credits.deliveries AS d WHERE NOT EXISTS (SELECT FROM sent AS s WHERE s.delivery_id = d.id))),
	0, 'each was sent');
is($node->safe_psql('postgres', q(SELECT count(*) FROM (SELECT FROM sent GROUP BY delivery_id HAVING count(DISTINCT message_id) > 1) AS s)),
	0, 'always with the same message id');
is($node->safe_psql('postgres', q(SELECT count(DISTINCT message_id) FROM sent)), $deliveries, 'and each with another one');
note 'sent more than once: ' . $node->safe_psql('postgres', q(SELECT count(*) FROM (SELECT FROM sent GROUP BY delivery_id HAVING count(*) > 1) AS s));

# a restored database reads events again, and makes the same message ids
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'restored');
$node->safe_psql('copy', q(CREATE TEMP TABLE before AS SELECT event_id, message_id FROM credits.deliveries;
	DELETE FROM credits.deliveries; UPDATE credits.consumers SET safe_id = 0;
	DO $$ BEGIN FOR n IN 1 .. 10000 LOOP PERFORM credits_take_deliveries('email', 1000); COMMIT; EXIT WHEN (SELECT unread FROM credits.consumer_list) = 0; END LOOP; END $$;
	CREATE TABLE public.differ AS SELECT FROM before FULL JOIN credits.deliveries AS d USING (event_id, message_id) WHERE d.id IS NULL OR before.event_id IS NULL));
is($node->safe_psql('copy', 'SELECT count(*) FROM public.differ'), 0, 'read again, the messages have the same ids');
problems_are($node, '', 'verify');
done_testing();
