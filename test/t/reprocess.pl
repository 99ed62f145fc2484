# Applying what waits is in nobody's way: it locks what it applies and nothing
# else, and waits for nobody while it has that.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsStripe;
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $node = credits_node('reprocess');
my $now = 1_800_000_000;    # 2027-01-15 08:00 UTC
my $secret = stripe_secret();
my ($admin, $app, $other) = map { CreditsTest::Session->new($node) } 1 .. 3;
$_->value("SET credits.test_clock = '2027-01-15 08:00+00'") foreach $admin, $app, $other;
$admin->value("SELECT credits_stripe_add_secret('tests', '$secret')");
$admin->value(q(SELECT credits_set_plan('pro', 100, price => 10, currency => 'USD')));

my $last = 0;

# Opens accounts with subscriptions that wait for the plan of a price of their
# own.  Returns the price.
sub waiting
{
	my (@accounts) = @_;
	my $price = 'price_' . ++$last;
	foreach my $account (@accounts)
	{
		$admin->value("SELECT kind FROM credits_open_account('$account', 100)");
		is($admin->value('SELECT result FROM ' . webhook($account, $price)), 'waiting', "$account waits");
	}
	return $price;
}

# A call for a new event of an account's subscription.
sub webhook
{
	my ($account, $price) = @_;
	return stripe_call(
		stripe_event('customer.subscription.updated', stripe_subscription('new',
				id => "sub_$account", customer => "cus_$account", price => $price, status => 'active',
				created => $now, start_date => $now, billing_cycle_anchor => $now, period => [ $now, $now + 86400 * 31 ],
				metadata => { account => $account }),
			created => $now + ++$last), $now);
}

my $reprocess = q(SELECT string_agg(result || COALESCE(': ' || (detail->>'missing'), ''), ' ' ORDER BY event_id) FROM credits_stripe_reprocess());

# while it is open others go on
my $price = waiting('a', 'b');
$admin->value("SELECT credits_stripe_set_price('$price', 'pro')");
$admin->value('BEGIN');
is($admin->value($reprocess), 'applied applied', 'applied');
$other->value("SELECT kind FROM credits_open_account('c', 100)");
$other->value('SET statement_timeout = 3000');
is($other->query('SELECT result FROM ' . webhook('c', $price))->{rows}[0], 'applied', 'another subject comes in meanwhile');
is($admin->value(q(SELECT string_agg(DISTINCT mode, ' ') FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
		WHERE pid = pg_backend_pid() AND relnamespace = 'credits'::regnamespace
		AND mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock'))), '', 'no table is locked');
$admin->value('COMMIT');
$other->value('RESET statement_timeout');

# a transaction that has spent, and then tells of another subscription or of the
# very one that is waiting
foreach my $same (0, 1)
{
	my ($account, $tells) = ("d$same", $same ? "d$same" : "e$same");
	my $price = waiting($account);
	$admin->value("SELECT kind FROM credits_open_account('$tells', 100)") unless $same;
	$admin->value("SELECT credits_stripe_set_price('$price', 'pro')");
	$app->value('BEGIN');
	$app->value("SELECT amount FROM credits_deduct('$account', 1)");
	$admin->send($reprocess);
	sleep 0.3;
	my $answer = $app->query('SELECT result FROM ' . webhook($tells, $price));
	is("$answer->{code} @{$answer->{rows}}", '00000 applied', 'who has spent is not in a deadlock');
	is($app->query('COMMIT')->{code}, '00000', 'and commits');
	$answer = $admin->receive;
	is($answer->{code}, '00000', 'nor is who applies');
	is($admin->value($reprocess), '', 'nothing waits any more');
	is($admin->value("SELECT count(*) FROM credits.subscription_list WHERE account = '$account'"), '1', 'it is applied');
}

# who holds a lock for long is left alone, and all else is done
$price = waiting('f', 'g');
$admin->value("SELECT credits_stripe_set_price('$price', 'pro')");
$app->value('BEGIN');
$app->value(q(SELECT amount FROM credits_deduct('f', 1)));
my $start = time;
is($admin->value($reprocess), 'waiting: a lock that another transaction holds applied', 'one is left');
cmp_ok(time - $start, '<', 10, 'soon');
$app->value('COMMIT');
is($admin->value($reprocess), 'applied', 'and comes later');

# many at once, with webhooks and spends: nobody is a victim
$price = waiting(map { "h$_" } 1 .. 20);
$admin->value("SELECT credits_stripe_set_price('$price', 'pro')");
my %codes;
$admin->send($reprocess);
foreach my $round (1 .. 20)
{
	$app->send(join "\n", 'BEGIN;', "SELECT amount FROM credits_deduct('h$round', 1);",
		'SELECT result FROM ' . webhook('h' . (21 - $round), $price) . ';', 'COMMIT;');
	my $answer = $app->receive;
	$codes{ (grep { /ERROR/ } @{ $answer->{messages} }) ? "@{$answer->{messages}}" : $answer->{code} }++;
}
$codes{ $admin->receive->{code} }++;
is_deeply(\%codes, { '00000' => 21 }, 'no deadlock');
$admin->value($reprocess);
is($admin->value(q(SELECT count(*) FROM credits.stripe_subjects WHERE waiting IS NOT NULL)), '0', 'all are applied');
problems_are($node, '', 'nothing is wrong');

$_->quit foreach $admin, $app, $other;
done_testing();
