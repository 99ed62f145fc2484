# Everything that sells, at once: subscriptions renewed, changed, canceled and
# paid, purchases, refunds, chargebacks, webhooks of all that in random order, spending
# and holds beside them, on few accounts, by sessions some of which are canceled or
# terminated, and a cluster that is killed.  Nobody gets in another's way for good:
# no deadlock, no internal error; in the end every sum is right, and each period
# and purchase was given once.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsStripe;
use CreditsTest;
use List::Util qw(shuffle);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{CREDITS_SEED} // 20310401;
my $rounds = $ENV{CREDITS_ROUNDS} // 4;
my $seconds = $ENV{CREDITS_SECONDS} // 10;
note "CREDITS_SEED=$seed CREDITS_ROUNDS=$rounds CREDITS_SECONDS=$seconds";
srand $seed;

my $clients = 8;
my $accounts = 3;
my $node = credits_node('sales_load', conf => <<'CONF');
log_error_verbosity = verbose
synchronous_commit = on
CONF
my $clock = 1_768_464_000;    # 2026-01-15 08:00 UTC
my @months = map { 0 + $_ } split /\n/, $node->safe_psql('postgres', q(
	SELECT extract(epoch FROM timestamptz '2026-01-15 08:00+00' + n * interval '1 month')::bigint
	FROM generate_series(0, 13) AS n));

$node->safe_psql('postgres', sprintf q(
	SET credits.test_clock = '2026-01-15 08:00+00';
	SELECT credits_stripe_add_secret('tests', '%s');
	SELECT credits_open_account('account:' || n, 1000) FROM generate_series(1, %d) AS n;
	SELECT credits_set_package('big', 1000, 10.00, 'USD');
	SELECT credits_set_package('small', 90, 0.90, 'USD', extras => '[{"credits": 10, "expires_in": "20 days"}]');
	SELECT credits_set_promotion('tenth', 'percent', 10, clear => '{per_account}');
	SELECT credits_set_plan('pro', 100, price => 10, currency => 'USD', rollover => 'maximum', clear => '{rollover_periods}');
	SELECT credits_set_plan('max', 300, price => 30, currency => 'USD', rollover => 'share', rollover_share => 0.5);
	SELECT credits_set_plan('daily', 7, 'day', price => 1, currency => 'USD', rollover => 'maximum', rollover_maximum => 20);
	SELECT credits_set_plan('weekly', 50, 'week', price => 5, currency => 'USD', trial => '3 days', trial_credits => 5, catch_up => 'latest');
	SELECT credits_subscribe('account:' || n, p) FROM generate_series(1, %2$d) AS n, unnest('{pro,max,daily,weekly}'::text[]) AS p;
), stripe_secret(), $accounts);

# What Stripe has to say: of each subscription ten months, of each payment all that
# can come of one.
my $n = 0;
sub subscription_events
{
	my $id = ++$n;
	my $account = 'account:' . (1 + int rand $accounts);
	my $shape = rand() < 0.5 ? 'old' : 'new';
	my @events;
	my %of = (customer => "cus_$id");
	foreach my $month (0 .. 9)
	{
		my ($from, $to) = @months[ $month, $month + 1 ];
		my $price = $month % 4 == 3 ? 'max' : 'pro';
		push @events,
		  stripe_event('customer.subscription.' . ($month ? 'updated' : 'created'),
			stripe_subscription($shape, %of, id => "sub_$id", price => "price_$price", status => 'active',
				created => $months[0], start_date => $months[0], billing_cycle_anchor => $months[0],
				period => [ $from, $to ], metadata => { account => $account }),
			created => $from, shape => $shape),
		  stripe_event('invoice.paid',
			stripe_invoice($shape, %of, id => "in_${id}_$month", subscription => "sub_$id", amount_paid => 1000,
				payment => "pi_${id}_$month", lines => [ [ "price_$price", $from, $to, 1000, 0 ] ]),
			created => $from + 3600, shape => $shape),
		  stripe_event('invoice_payment.paid',
			stripe_invoice_payment("inpay_${id}_$month", "in_${id}_$month", "pi_${id}_$month"),
			created => $from + 3600, shape => $shape);
		push @events, reversal_events("${id}_$month", $from) if rand() < 0.6;
	}
	return @events;
}

sub reversal_events
{
	my ($id, $at) = @_;
	my %of = (payment_intent => "pi_$id", charge => "ch_$id");
	return (
		stripe_event('charge.refunded',
			stripe_charge(id => "ch_$id", amount => 1000, payment_intent => "pi_$id", amount_refunded => 300),
			created => $at + 7200),
		stripe_event('refund.created', stripe_refund(%of, id => "re_$id", amount => 300, status => 'succeeded'),
			created => $at + 7200),
		stripe_event('charge.dispute.created', stripe_dispute(%of, id => "dp_$id", amount => 700, status => 'needs_response'),
			created => $at + 9000),
		stripe_event('charge.dispute.closed', stripe_dispute(%of, id => "dp_$id", amount => 700,
				status => rand() < 0.5 ? 'won' : 'lost'), created => $at + 20000));
}

sub payment_events
{
	my ($reference) = @_;
	my $id = ++$n;
	return (
		stripe_event('checkout.session.completed',
			stripe_session(id => "cs_$id", client_reference_id => $reference, amount_total => 1000,
				payment_intent => "pi_$id", payment_status => 'paid'), created => $clock),
		reversal_events($id, $clock));
}

my @events;       # to be sent
my @all_events;
my @purchases;    # to be paid
my @holds;
my $number = 0;
my @plans = qw(pro max daily weekly);
# the price comes later than the events that need it
my $mapped = 0;

sub pick { return $_[ rand @_ ] }

sub some_events
{
	push @events, subscription_events() if @events < 50;
	@events = shuffle(@events) if rand() < 0.05;
	my $event = rand() < 0.1 && @all_events ? pick(@all_events) : splice @events, rand(@events), 1;
	push @all_events, $event;
	return $event;
}

sub next_call
{
	my $account = 'account:' . (1 + int rand $accounts);
	my $key = 'k' . ++$number;
	my $what = rand;
	# any; those that have ended are refused
	my $subscription = "(SELECT max(id) - @{[int rand 25]} FROM credits.subscriptions)";

	$clock += int rand 1800 if rand() < 0.5;
	return 'SELECT result FROM ' . stripe_call(some_events(), $clock) if $what < 0.35;
	return "SELECT credits_deduct('$account', @{[1 + int rand 60]}, '$key')" if $what < 0.42;
	return "SELECT 'hold', transaction_id FROM credits_hold('$account', @{[1 + int rand 50]}, '$key', expires_in => '@{[1 + int rand 20]} hours')"
	  if $what < 0.46;
	return 'SELECT credits_' . (rand() < 0.5 ? "capture(@{[pick(@holds)]}, 1)" : "release(@{[pick(@holds)]})")
	  if $what < 0.50 && @holds;
	return 'CALL credits_renew(' . (1 + int rand 10) . ')' if $what < 0.56;
	return 'CALL credits_settle(' . (1 + int rand 10) . ')' if $what < 0.60;
	return 'SELECT count(*) FROM credits_stripe_reprocess()' if $what < 0.62;
	return "SELECT credits_change_plan($subscription, '@{[pick(@plans)]}', '$key', @{[pick(q('now'), q('period_end'), 'NULL')]}, "
	  . "'@{[pick(qw(prorate full none))]}')" if $what < 0.68;
	return "SELECT credits_subscribe('$account', '@{[pick(@plans)]}', external_id => 'x$number', collection => '@{[pick(qw(clock clock payment))]}')"
	  if $what < 0.70;
	return "SELECT credits_cancel_subscription($subscription, '@{[pick(qw(now period_end period_end))]}', '@{[pick(qw(keep expire))]}')"
	  if $what < 0.715;
	return "SELECT credits_@{[pick(qw(pause_subscription resume_subscription mark_unpaid mark_paid))]}($subscription)"
	  if $what < 0.75;
	return "SELECT 'purchase', purchase_id FROM credits_start_purchase('$account', '@{[pick(qw(big small))]}', "
	  . "idempotency_key => '$key', promotion => @{[pick('NULL', q('tenth'))]})" if $what < 0.82 || !@purchases;
	my $purchase = pick(@purchases);
	my $reference = 'r' . int rand 3;
	if ($what < 0.84)
	{
		push @events, payment_events("purchase_$purchase");
		return "SELECT credits_complete_purchase($purchase, 'pay$purchase', 10)";
	}
	return "SELECT credits_complete_purchase($purchase, 'pay$purchase', 10)" if $what < 0.88;
	return "SELECT credits_refund_purchase($purchase, @{[pick('NULL', '1', '0.37')]}, reference => '$reference')" if $what < 0.91;
	return "SELECT credits_open_chargeback($purchase, 'd$reference', @{[pick('NULL', '3')]})" if $what < 0.94;
	return "SELECT credits_close_chargeback($purchase, 'd$reference', '@{[pick(qw(won lost))]}')" if $what < 0.96;
	return "SELECT credits_transfer('$account', 'account:@{[1 + int rand $accounts]}', 3, '$key')" if $what < 0.98;
	return "SELECT credits_adjust('$account', @{[pick(-20, 40)]}, 'error', '$key')" if $what < 0.985;
	if (!$mapped++)
	{
		return q(SELECT credits_stripe_set_price('price_pro', 'pro'), credits_stripe_set_price('price_max', 'max'));
	}
	# those of others
	return 'SELECT count(pg_' . pick(qw(cancel_backend cancel_backend terminate_backend)) . '(pid)) FROM (SELECT pid FROM pg_stat_activity '
	  . "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND state = 'active' ORDER BY random() LIMIT 1) AS s";
}

sub task
{
	my $call = next_call();
	my $set = "SET credits.test_clock = '" . scalar(gmtime $clock) . "+00'";
	return "$set;\n$call";
}

# What is right whatever has happened
sub check
{
	my ($name) = @_;
	problems_are($node, '', "$name: verify");
	is($node->safe_psql('postgres', q(
		SELECT a.name FROM credits.accounts AS a
		WHERE a.balance < 0 OR a.debt < 0
		   OR a.balance <> (SELECT coalesce(sum(g.remaining), 0) FROM credits.grants AS g WHERE g.account_id = a.id AND g.status = 'open')
		   OR a.balance <> (SELECT sum(t.amount) FROM credits.transactions AS t WHERE t.account_id = a.id)
		   OR a.held <> (SELECT sum(t.held) FROM credits.transactions AS t WHERE t.account_id = a.id)
		   OR a.debt <> (SELECT coalesce(sum((t.terms->>'debt')::bigint), 0) FROM credits.transactions AS t WHERE t.account_id = a.id)
		   OR a.debt <> (SELECT coalesce(sum(d.owed), 0) FROM credits.debts AS d JOIN credits.grants AS g ON g.id = d.grant_id
						 WHERE g.account_id = a.id))),
		'', "$name: every balance is the sum of its log and its grants, every debt that of what is owed");
	is($node->safe_psql('postgres', q(
		SELECT p.subscription_id, p.starts_at, g.count, count(t.id)
		FROM credits.periods AS p
		CROSS JOIN LATERAL (SELECT count(*) FROM credits.grants AS g WHERE g.group_id = p.grant_id) AS g
		LEFT JOIN credits.transactions AS t ON t.account_id = p.account_id AND t.kind = 'allocation'
			AND (t.terms->>'subscription_id')::bigint = p.subscription_id
			AND (t.terms->>'period_start')::timestamptz = p.starts_at AND NOT t.terms ? 'rolled'
		GROUP BY 1, 2, 3 HAVING count(t.id) <> g.count)),
		'', "$name: each period gave its grants, once");
	is($node->safe_psql('postgres', q(
		SELECT p.id FROM credits.purchases AS p
		WHERE p.reference LIKE 'purchase%' AND (coalesce(cardinality(p.grant_ids), 0) <> CASE WHEN p.status = 'completed' THEN
				CASE p.package WHEN 'big' THEN 1 ELSE 2 END ELSE 0 END
			OR (SELECT coalesce(sum(g.amount), 0) FROM credits.grants AS g WHERE g.id = ANY (p.grant_ids)) <>
				CASE WHEN p.status = 'completed' THEN CASE p.package WHEN 'big' THEN 1000 ELSE 100 END ELSE 0 END))),
		'', "$name: each purchase was delivered once, if at all");
}

my %codes;
my %samples;
foreach my $round (1 .. $rounds)
{
	my @sessions = map { CreditsTest::Session->new($node, verbosity => 'verbose') } 1 .. $clients;
	$_->send($_->{task} = task()) foreach @sessions;
	my $end = time + $seconds;
	while (time < $end)
	{
		foreach my $session (wait_any(@sessions))
		{
			my $answer = $session->take;
			# the clock was not set, so it is that of another call
			$answer->{code} = '57014' if grep { /57014/ } @{ $answer->{messages} };
			$codes{ $answer->{code} }++;
			$samples{ $answer->{code} } //= join "\n", $session->{task}, @{ $answer->{messages} };
			foreach my $row (@{ $answer->{rows} })
			{
				push @holds, $1 if $row =~ /^hold\|(\d+)$/;
				push @purchases, $1 if $row =~ /^purchase\|(\d+)$/;
				shift @purchases if @purchases > 40;
				shift @holds if @holds > 40;
			}
			if ($answer->{code} eq 'gone')
			{
				$session->quit;
				@sessions = grep { $_ != $session } @sessions;
				push @sessions, $session = CreditsTest::Session->new($node, verbosity => 'verbose');
			}
			$session->send($session->{task} = task());
		}
	}
	kill_cluster($node);
	$_->quit foreach @sessions;
	$node->start;
	check("round $round");
}

# whatever was sent, sent again to one session, changes nothing more
my $session = CreditsTest::Session->new($node);
$clock += 60;
$session->value("SET credits.test_clock = '" . scalar(gmtime $clock) . "+00'");
foreach my $pass (1, 2)
{
	my $before = $session->value(q(SELECT string_agg(concat_ws(' ', name, balance, debt), ', ' ORDER BY id) FROM credits.accounts));
	foreach my $event (@all_events)
	{
		my $answer = $session->query('SELECT result FROM ' . stripe_call($event, $clock));
		$codes{"again $answer->{code}"}++;
		$samples{"again $answer->{code}"} //= join "\n", $event->{type}, @{ $answer->{messages} };
	}
	is($session->value(q(SELECT string_agg(concat_ws(' ', name, balance, debt), ', ' ORDER BY id) FROM credits.accounts)), $before,
		'what is sent once more changes nothing') if $pass == 2;
}
$session->quit;
check('in the end');
note join ', ', map { "$_ $codes{$_}" } sort keys %codes;
note $node->safe_psql('postgres', 'SELECT result, count(*) FROM credits.stripe_events GROUP BY 1');

delete @codes{ qw(00000 57014 57P01 gone PT402 PT404 PT409 PT410 22023), 'again 00000' };
# the name tells the code, also to whoever sees no more than the names of what failed
is(join(', ', map { "$_ $codes{$_}\n$samples{$_}" } sort keys %codes), '',
	join ' ', 'every other call was answered, or refused for good reason', map { "but $_" } sort keys %codes);

my $log = slurp_file($node->logfile);
sub lines_like
{
	my ($pattern, $name) = @_;
	my @lines = $log =~ /^(.*(?:$pattern).*\n(?:.*DETAIL.*\n(?:\t.*\n)*)?)/mg;
	is(join('', map { s/^(.{400}).*$/$1/mgr } splice @lines, 0, 3), '', $name);
}
lines_like('ERROR:  XX', 'no internal error');
lines_like('40P01', 'no deadlock');
lines_like(qr/whsec_/, 'no secret in the log');
lines_like('TRAP:|PANIC|terminated by signal (?!9)', 'no process has died by itself');
$node->stop;
done_testing();
