# The time of a call is proportional to the grants, draws and holds that it is
# about, and depends on nothing else; its memory is limited; and a job that is cut
# short keeps what it has done.
#
# What happens to an account or a subscription takes as long after many events as
# after few.
#
# CREDITS_SCALE changes how many grants there are, CREDITS_SCALE_RATIO how much longer
# each may take than each of a thousand, CREDITS_EVENTS after how many events and
# changes others are timed; CREDITS_EVENTS_ONLY is a pattern of the names of those that
# are wanted, without anything else.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsStripe;
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use List::Util qw(min);
use Time::HiRes qw(time);

my $few = 1000;
my $many = $ENV{CREDITS_SCALE} // 20000;
# what took quadratic time took four times as long and more
my $ratio = $ENV{CREDITS_SCALE_RATIO} // 2.5;
my $rounds = 3;
my $only = $ENV{CREDITS_EVENTS_ONLY};

my $node = credits_node('scale', conf => "fsync = off\nautovacuum = off\nmax_wal_size = 4GB\n");
my $session = CreditsTest::Session->new($node);
$session->value("SET credits.test_clock = '2030-01-01'");

sub at
{
	my ($clock) = @_;
	$session->value("SET credits.test_clock = '$clock'");
	return;
}

# Gives an account that many grants, each a credit.
sub give
{
	my ($account, $count, $expires) = @_;
	$session->value("SELECT kind FROM credits_open_account('$account')");
	for (my $left = $count; $left > 0; $left -= 10000)
	{
		my $n = min($left, 10000);
		$session->value(qq(
			SELECT count(*) FROM credits_allocate_many((
				SELECT array_agg(ROW('$account', 1, NULL, NULL, NULL, NULL, 'manual', $expires, NULL, NULL, NULL, NULL, NULL)::credits.allocation)
				FROM generate_series(1, $n)))));
	}
	return;
}

# Runs a statement, and returns how long it took and what it returned.
sub took
{
	my ($sql) = @_;
	my $start = time;
	my $value = $session->value($sql);
	return (time - $start, $value);
}

# Adds the times of calls about a number of grants to those of others.
sub add_times
{
	my ($n, $name, $times) = @_;
	my $id;
	my $time = sub {
		my ($call, $sql) = @_;
		(my $seconds, $id) = took("SELECT transaction_id FROM $sql");
		$times->{$call} += $seconds;
	};
	at('2030-01-01');
	give("from:$name", $n, 'NULL');
	give("once:$name", $n, 'NULL');
	give("expiring:$name", $n, "'2030-02-01'");
	$session->value("SELECT kind FROM credits_open_account('to:$name')");
	$session->value("SELECT kind FROM credits_open_account('holding:$name', $n)");
	$session->value("SELECT count(*) FROM generate_series(1, $n) AS i, LATERAL credits_hold('holding:$name', 1 + 0 * i, expires_in => '1 hour')");
	$session->value("SELECT kind FROM credits_hold('once:$name', $n, expires_in => '1 hour')");

	$time->('deduct', "credits_deduct('from:$name', $n)");
	my $spend = $id;
	$time->('refund half', "credits_refund($spend, $n / 2)");
	$time->('refund the rest', "credits_refund($spend)");
	$time->('hold', "credits_hold('from:$name', $n / 2)");
	$time->('capture more than is held', "credits_capture($id, $n, allow_more => true)");
	$session->value("SELECT kind FROM credits_refund($id)");
	$time->('hold', "credits_hold('from:$name', $n)");
	$time->('capture half and release', "credits_capture($id, $n / 2)");
	$session->value("SELECT kind FROM credits_refund($id)");
	$time->('hold', "credits_hold('from:$name', $n)");
	$time->('release', "credits_release($id)");
	$time->('transfer', "credits_transfer('from:$name', 'to:$name', $n)");
	$time->('reverse a transfer', "credits_reverse_transfer($id, 'a mistake')");

	at('2030-02-02');
	$session->value("SELECT balance FROM credits_summary('expiring:$name')");
	my ($seconds) = took("SELECT credits_balance('expiring:$name')");
	$times->{'look at what is due'} += $seconds;
	$time->('settle grants', "credits_allocate('expiring:$name', 1)");
	$time->('settle a hold', "credits_allocate('once:$name', 1)");
	$time->('settle holds', "credits_allocate('holding:$name', 1)");
	return;
}

# Both do the same work in all, in turns: a machine that is busy makes both late.
# The best of some rounds counts.
unless (defined $only)
{
	my %best;
	foreach my $round (1 .. $rounds)
	{
		my (%short, %long);
		add_times($few, "$round:$_", \%short) foreach 1 .. $many / $few;
		add_times($many, "$round:all", \%long);
		$session->value('VACUUM credits.accounts, credits.grants, credits.hold_states');
		foreach my $call (keys %long)
		{
			my $factor = $long{$call} / $short{$call};
			$best{$call} = $factor if !defined $best{$call} || $factor < $best{$call};
		}
		last if !grep { $_ > $ratio } values %best;
	}
	foreach my $call (sort keys %best)
	{
		cmp_ok($best{$call}, '<=', $ratio, sprintf '%s: %.2f times as long for each of %d', $call, $best{$call}, $many);
	}
	at('2030-01-01');
}

# the memory of a call that settles 20,000 holds that give back to 20,000 grants
unless (defined $only)
{
	my $n = 20000;
	give('memory', $n, "'2030-03-01'");
	$session->value("SELECT count(*) FROM generate_series(1, $n) AS i, LATERAL credits_hold('memory', 1 + 0 * i, expires_in => '1 day')");
	foreach my $day ('2030-01-15', '2030-04-01')
	{
		foreach my $sql ("SELECT credits_balance('memory')", "SELECT transaction_id FROM credits_deduct('memory', 1)")
		{
			my $one = CreditsTest::Session->new($node);
			$one->value("SET credits.test_clock = '$day'");
			my $pid = $one->value('SELECT pg_backend_pid()');
			$one->query('BEGIN');
			$one->query($sql);
			$one->query('ROLLBACK');
			my $status = slurp_file("/proc/$pid/status");
			my ($peak) = $status =~ /^VmHWM:\s+(\d+) kB/m;
			my ($file) = $status =~ /^RssFile:\s+(\d+) kB/m;
			my ($shared) = $status =~ /^RssShmem:\s+(\d+) kB/m;
			cmp_ok(($peak - $file - $shared) / 1024, '<', 100,
				sprintf '%s on %s: %d MB', $sql =~ /(credits_\w+)/, $day, ($peak - $file - $shared) / 1024);
			$one->quit;
		}
	}
}

# one grant among many that is due
unless (defined $only)
{
	my $count = 20;
	my (%took, %pages, %middle);
	give('open', $many, 'NULL');
	$session->value("SELECT kind FROM credits_open_account('small')");
	foreach my $account (qw(open small))
	{
		$session->value(
			"SELECT count(credits_allocate('$account', 2, expires_at => '2031-01-01'::timestamptz + i * interval '1 day')) FROM generate_series(1, $count) AS i");
		$middle{$account} = $session->value(
			"SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM credits.grants WHERE account_id = credits.account_id('$account')");
	}
	$session->value('VACUUM ANALYZE credits.accounts, credits.grants');
	foreach my $day (1 .. $count)
	{
		at(sprintf '2031-01-%02d 12:00', $day + 1);
		foreach my $account (qw(open small))
		{
			my ($look) = took("SELECT credits_balance('$account')");
			my ($first) = took("SELECT count(*) FROM credits_grants('$account', 10)");
			my ($later) = took("SELECT count(*) FROM credits_grants('$account', 10, $middle{$account})");
			my ($spend) = took("SELECT credits_deduct('$account', 1)") if $day < $count;
			my ($summary) = took("SELECT balance FROM credits_summary('$account')");
			push @{ $took{$account} }, $look + ($spend // 0) + $summary;
			push @{ $pages{$account} }, $first + $later;
		}
	}
	foreach my $what ([ 'one of %d grants expires', \%took ], [ 'a page of %d grants when one is due', \%pages ])
	{
		my ($name, $times) = @$what;
		my ($open, $small) = map { (sort { $a <=> $b } @{ $times->{$_} })[ $count / 2 ] } qw(open small);
		cmp_ok($open / $small, '<', 5, sprintf "$name: %.2f times as long as where it is one of few", $many, $open / $small);
	}
	at('2030-01-01');
}

# many calls in one transaction, against plain updates of a row as large: no
# version of either can be removed meanwhile
unless (defined $only)
{
	my $n = 10000;
	$session->value("SELECT kind FROM credits_open_account('often', 1000000)");
	$session->query('CREATE TABLE plain (id bigint PRIMARY KEY, name text UNIQUE, balance bigint, filler text) WITH (fillfactor = 60)');
	$session->query("INSERT INTO plain VALUES (1, 'often', 1000000, repeat('x', 150))");
	my %last;
	foreach my $call ("PERFORM credits_deduct('often', 1)", q(UPDATE plain SET balance = balance - 1 WHERE name = 'often'))
	{
		$session->query('BEGIN');
		my @took =
		  map { (took("DO \$\$ BEGIN FOR i IN 1 .. 1000 LOOP $call; END LOOP; END \$\$"))[0] } 1 .. $n / 1000;
		$session->query('COMMIT');
		my ($kind) = $call =~ /(\w+)/;
		$last{$kind} = min(@took[ -3 .. -1 ]);
	}
	my $factor = $last{PERFORM} / $last{UPDATE};
	cmp_ok($factor, '<', 1, sprintf 'after %d calls on one account in one transaction: %.2f times as long as a plain update', $n, $factor);
}

# events after many others: processor time of the backend, as others may need the
# machine meanwhile
{
	my @others = (10, 1000, $ENV{CREDITS_EVENTS} // 3000);
	my $counted = 20;
	my $pid = $session->value('SELECT pg_backend_pid()');
	my $cpu = sub { return (split ' ', slurp_file("/proc/$pid/schedstat"))[0] / 1e6 };
	# each at an instant of its own
	my $tick = q(PERFORM set_config('credits.test_clock', (timestamptz '2030-01-12' + i * interval '1 microsecond')::text, false););
	my $repeat = sub {
		my ($from, $to, $calls) = @_;
		my $start = $cpu->();
		my $code = '00000';
		# some at a time: a session is not waited for longer than some minutes
		for (my $first = $from; $first <= $to && $code eq '00000'; $first += 5000)
		{
			my $last = min($first + 4999, $to);
			my $answer = $session->query("DO \$x\$ BEGIN FOR i IN $first .. $last LOOP $tick $calls COMMIT; END LOOP; END \$x\$");
			$code = $answer->{code};
			diag("$calls: @{ $answer->{messages} }") if $code ne '00000';
		}
		is($code, '00000', "from $from to $to");
		return ($cpu->() - $start) / ($to - $from + 1);
	};
	my $line = sub {
		my ($days, $more) = @_;
		return "jsonb_build_array(jsonb_build_object('starts_at', timestamptz '2030-01-02' + i * interval '1 second', "
		  . "'ends_at', timestamptz '2030-02-01' + interval '1 day' * ($days), $more))";
	};
	my $invoice = sub {
		my ($account, $reference, $lines) = @_;
		return "PERFORM credits_set_invoice((SELECT id FROM credits.subscriptions WHERE external_id = '$account'), $reference, $lines);";
	};
	my $begin = sub {
		my ($account) = @_;
		$session->value("SELECT kind FROM credits_open_account('$account')");
		$session->value("SELECT status FROM credits_subscribe('$account', 'scaled', collection => 'payment', external_id => '$account', starts_at => '2030-01-01')");
		$session->query('DO $x$ DECLARE i int := 0; BEGIN ' . $invoice->($account, "'first'", $line->(0, "'credits', 1000000")) . ' END $x$');
	};
	my $change = sub {
		my ($account, @plans) = @_;
		@plans = qw(scaled larger) unless @plans;
		return "PERFORM credits_change_plan((SELECT max(s.id) FROM credits.subscriptions AS s WHERE s.account_id = credits.account_id('$account')), "
		  . "CASE WHEN i % 2 = 0 THEN '$plans[0]' ELSE '$plans[1]' END, at => 'now');";
	};
	# a subscription that the clock collects, of which money went back
	my $refunded = sub {
		my ($account, $plan, $money) = @_;
		return sub {
			$session->value("SELECT status FROM credits_subscribe('$account', '$plan', starts_at => '2030-01-11')");
			$session->value("SELECT replayed FROM credits_refund_period((SELECT max(id) FROM credits.subscriptions), $money)");
		};
	};
	my $up = $line->(0, q('credits', 10));
	my $spend = sub { return " PERFORM credits_deduct(name, balance) FROM credits.accounts WHERE name = '$_[0]' AND balance > 0; " };

	# of a period that is over: what it gives expires later with each
	my $late = sub { my ($account, $reference, $more) = @_; return $invoice->($account, $reference, $line->(-27, $more)) =~ s/i \* interval '1 second'/interval '1 second'/r };
	my $owing = sub { my ($account, $reversed) = @_; return $invoice->($account, "'first'", $line->(0, "'credits', 1000000, 'reversed', $reversed")) =~ s/i \* interval '1 second'/interval '1 second'/r };

	# what Stripe sends of a subscription that changes its quantity again and again
	my ($inner, $outer) = map { my $pad = $_; join '', map { sprintf '%02x', ord($_) ^ $pad } split //, pack 'a64', stripe_secret() } 0x36, 0x5c;
	my $signed = 1894406400;
	# January 1 and 2, February 1
	my ($begins, $changes, $ends) = (1893456000, 1893542400, 1896134400);
	$session->query($_) foreach split /;;\n/, <<"EOSQL";
SELECT credits_stripe_add_secret('tests', '@{[ stripe_secret() ]}');;
CREATE TEMP SEQUENCE sent;;
CREATE FUNCTION pg_temp.send(type text, object jsonb) RETURNS text LANGUAGE sql AS \$\$
	SELECT (public.credits_stripe_webhook(e, 't=$signed,v1=' || encode(sha256('\\x$outer'::bytea || sha256('\\x$inner'::bytea || convert_to('$signed.' || e, 'UTF8'))), 'hex'))).result
	FROM (SELECT jsonb_build_object('id', 'evt_' || s.n, 'type', type, 'created', $changes + s.n, 'data', jsonb_build_object('object', object))::text AS e
		FROM (SELECT nextval('pg_temp.sent') AS n) AS s) AS events
\$\$;;
-- which item the change is to: of those named so, another one each time
CREATE FUNCTION pg_temp.item(name text, i int) RETURNS text LANGUAGE sql AS \$\$
	SELECT 'si_' || name || CASE WHEN name LIKE 'swap%' THEN '_' || i % 2 ELSE '' END
\$\$;;
CREATE FUNCTION pg_temp.sold(name text, i int) RETURNS jsonb LANGUAGE sql AS \$\$
	SELECT jsonb_build_object('id', 'sub_' || name, 'status', 'active', 'customer', 'cus_' || name, 'created', $begins, 'start_date', $begins, 'billing_cycle_anchor', $begins,
		'metadata', jsonb_build_object('account', name, 'change', i),
		'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('id', pg_temp.item(name, i), 'quantity', 100 + i, 'price', jsonb_build_object('id', 'price_scaled')))))
\$\$;;
-- of one of the two halves of a change
CREATE FUNCTION pg_temp.half(name text, i int, sign int) RETURNS jsonb LANGUAGE sql AS \$\$
	SELECT jsonb_build_object('id', format('ii_%s_%s_%s', name, i, sign), 'amount', sign * 10 * (100 + i), 'quantity', 99 + i + (sign + 1) / 2, 'proration', true, 'currency', 'usd',
		'period', jsonb_build_object('start', $changes + i, 'end', $ends), 'pricing', jsonb_build_object('price_details', jsonb_build_object('price', 'price_scaled')),
		'parent', jsonb_build_object('subscription_details', jsonb_build_object('subscription', 'sub_' || name, 'subscription_item', pg_temp.item(name, i + (sign - 1) / 2))))
\$\$;;
CREATE FUNCTION pg_temp.billed(item jsonb) RETURNS jsonb LANGUAGE sql AS \$\$
	SELECT item || jsonb_build_object('id', 'il_' || (item->>'id'), 'parent', jsonb_build_object('subscription_item_details',
		jsonb_build_object('invoice_item', item->'id', 'proration', true, 'subscription_item', item #> '{parent,subscription_details,subscription_item}')))
\$\$;;
CREATE FUNCTION pg_temp.bill(name text, i int, lines jsonb, total int DEFAULT 1000) RETURNS jsonb LANGUAGE sql AS \$\$
	SELECT jsonb_build_object('id', format('in_%s_%s', name, i), 'customer', 'cus_' || name, 'currency', 'usd', 'total', total, 'amount_paid', total, 'status', 'paid',
		'payment_intent', format('pi_%s_%s', name, i), 'parent', jsonb_build_object('subscription_details', jsonb_build_object('subscription', 'sub_' || name)),
		'lines', jsonb_build_object('has_more', false, 'data', lines))
\$\$;;
CREATE FUNCTION pg_temp.bill_changes(name text, first int, last int, total int DEFAULT 1000) RETURNS text LANGUAGE sql AS \$\$
	SELECT pg_temp.send('invoice.paid', pg_temp.bill(name, last, (SELECT jsonb_agg(pg_temp.billed(pg_temp.half(name, n, sign))) FROM generate_series(first, last) AS n, (VALUES (-1), (1)) AS s (sign)), total))
\$\$;;
CREATE FUNCTION pg_temp.halves(name text, i int) RETURNS text LANGUAGE sql AS \$\$
	SELECT pg_temp.send('invoiceitem.created', pg_temp.half(name, i, CASE WHEN i % 2 = 0 THEN 1 ELSE -1 END));
	SELECT pg_temp.send('invoiceitem.created', pg_temp.half(name, i, CASE WHEN i % 2 = 0 THEN -1 ELSE 1 END));
	SELECT pg_temp.send('customer.subscription.updated', pg_temp.sold(name, i))
\$\$;;
EOSQL
	my $sell = sub {
		my ($name) = @_;
		return sub {
			at('2030-01-12');
			$session->value("SELECT pg_temp.send('customer.subscription.created', pg_temp.sold('$name', 0))");
			is($session->value("SELECT pg_temp.send('invoice.paid', pg_temp.bill('$name', 0, jsonb_build_array(jsonb_build_object('id', 'il_$name', 'amount', 1000, 'quantity', 100, "
				  . "'period', jsonb_build_object('start', $begins, 'end', $ends), 'pricing', jsonb_build_object('price_details', jsonb_build_object('price', 'price_scaled'))))))"),
				'applied', "$name is sold");
		};
	};
	my @kinds = (
		[ 'a line on an invoice that is known', $invoice->('known', "'in_' || i", $line->(0, q('credits', 0))), $invoice->('known', q('in_1'), $line->(0, q('credits', 0))) ],
		[ 'an upgrade', $invoice->('upgrade', "'in_' || i", $up) ],
		[ 'an upgrade or its opposite', $invoice->('both', "'in_' || i", $line->(0, q('credits', CASE WHEN i % 2 = 0 THEN 10 ELSE -10 END))) ],
		[ 'a downgrade after upgrades', $invoice->('down', "'in_' || i", $up), $invoice->('down', "'in_' || i", $line->(0, q('credits', -1))) ],
		[ 'a downgrade after upgrades that were spent', $invoice->('used', "'in_' || i", $up) . " PERFORM credits_deduct('used', 10);",
			$invoice->('used', "'in_' || i", $line->(0, q('credits', -1))) ],
		[ 'the same, of which nothing is left', $invoice->('empty', "'in_' || i", $up) . $spend->('empty'),
			$invoice->('empty', "'in_' || i", $line->(0, q('credits', -1))) ],
		[ 'money of an invoice that goes back', $invoice->('back', "'in_' || i", $up), 
			$invoice->('back', "'in_' || 1 + i % 10", $line->(0, q('credits', 10, 'reversed', 1 + i / 10 % 9))) ],
		[ 'money that goes back of one of many invoices, all of it spent', $invoice->('spent', "'in_' || i", $up) . $spend->('spent'),
			$invoice->('spent', "'in_' || 1 + i % 10", $line->(0, q('credits', 10, 'reversed', 1 + i / 10 % 9))) ],
		[ 'an upgrade that is spent and paid back', $invoice->('owes', "'in_' || i", $up) . $spend->('owes')
			. $invoice->('owes', "'in_' || i", $line->(0, q('credits', 10, 'reversed', 10))) ],
		# money goes back of the first invoice, all of it spent: each grant owes, the newest first
		(map { my ($what, $account, $probe) = @$_; [ "$what, while many grants owe", $owing->($account, 0) . $invoice->($account, "'in_' || i", $up) . $spend->($account),
			$owing->($account, 1000000) . $probe->($account) ] }
			[ 'a purchase', 'buys', sub { "PERFORM credits_complete_purchase((credits_start_purchase('$_[0]', 'scaled')).purchase_id, '$_[0]' || i, 1);" } ],
			[ 'an upgrade', 'more', sub { $invoice->($_[0], "'more_' || i", $up) } ],
			[ 'a downgrade', 'fewer', sub { $invoice->($_[0], "'fewer_' || i", $line->(0, q('credits', -1))) } ]),
		[ 'money that goes back of one of many invoices of a period that is over', $invoice->('after', "'in_' || i", $line->(-27, q('credits', 10))),
			$invoice->('after', "'in_' || 1 + i % 10", $line->(-27, q('credits', 10, 'reversed', 1 + i / 10 % 9))) ],
		# the newest lives longest, so that what is claimed moves to it
		[ 'an invoice of a period that is over, after money of it went back', $late->('later', "'in_' || i", "'credits', 10"), undef,
			sub { $session->query('DO $x$ DECLARE i int := 0; BEGIN ' . $late->('later', "'in_0'", "'credits', 1000, 'reversed', 500") . ' END $x$') } ],
		[ 'the same, all of it spent', $late->('lost', "'in_' || i", "'credits', 10") . $spend->('lost'), undef,
			sub { $session->query('DO $x$ DECLARE i int := 0; BEGIN ' . $late->('lost', "'in_0'", "'credits', 1000") . $spend->('lost') . $late->('lost', "'in_0'", "'credits', 1000, 'reversed', 500") . ' END $x$') } ],
		[ 'a change of plan after a refund', $change->('refunded', 'priced', 'dear'), undef, $refunded->('refunded', 'priced', 5) ],
		[ 'a change of plan after a refund of everything', $change->('void'), undef, $refunded->('void', 'scaled', 'NULL') ],
		[ 'a change of a plan that is paid', $change->('paid'), undef,
			sub {
				$session->value(q(SELECT status FROM credits_subscribe('paid', 'scaled', collection => 'payment', starts_at => '2030-01-11')));
				$session->value(q(SELECT status FROM credits_mark_paid((SELECT max(id) FROM credits.subscriptions))));
			} ],
		[ 'a change of plan', $change->('clock'), undef,
			sub { $session->value(q(SELECT status FROM credits_subscribe('clock', 'scaled', starts_at => '2030-01-11'))) } ],
		# each an hour later, to end within a hundred years
		[ 'a period', $invoice->('period', "'in_' || i", $line->('i / 24.0', q('credits', 10))) ],
		# Stripe has 250 lines on an invoice at most, so that no more can wait for one
		[ 'Stripe: a change of quantity that waits for an invoice', q(PERFORM pg_temp.halves('waits', i); IF i % 100 = 0 THEN PERFORM pg_temp.bill_changes('waits', i - 99, i); END IF;),
			undef, $sell->('waits') ],
		[ 'Stripe: a change of quantity that is paid at once', q(PERFORM pg_temp.halves('once', i); PERFORM pg_temp.bill_changes('once', i, i);), undef, $sell->('once') ],
		[ 'Stripe: money of one of many invoices that goes back', q(PERFORM pg_temp.bill_changes('refunds', i, i);),
			q(PERFORM pg_temp.send('charge.refunded', jsonb_build_object('id', 'ch_refunds_' || i % 10, 'payment_intent', 'pi_refunds_' || i % 10, 'amount_refunded', 1 + i / 10 % 900, 'currency', 'usd'));),
			$sell->('refunds') ],
		[ 'Stripe: an upgrade after events of the subscription', q(PERFORM pg_temp.send('customer.subscription.updated', pg_temp.sold('told', i));),
			q(PERFORM pg_temp.halves('told', i); PERFORM pg_temp.bill_changes('told', i, i);), $sell->('told') ],
		[ 'Stripe: one item for another', q(PERFORM pg_temp.halves('swap', i); PERFORM pg_temp.bill_changes('swap', i, i);), undef, $sell->('swap') ],
		[ 'Stripe: more credits for no more money, after some went back', q(PERFORM pg_temp.bill_changes('funded', i, i, 0);), undef,
			sub {
				$sell->('funded')->();
				$session->value(q(SELECT pg_temp.send('charge.refunded', jsonb_build_object('id', 'ch_funded', 'payment_intent', 'pi_funded_0', 'amount_refunded', 500, 'currency', 'usd'))));
			} ],
		[ 'a spend, or an invoice', q(PERFORM credits_deduct('spend', 1);), "PERFORM credits_deduct('spend', 1); " . $invoice->('spend', "'in_' || i", $line->(0, q('credits', 10))) ],
		[ 'money that goes back of what was spent in many parts', $owing->('parts', 0) . q(PERFORM credits_deduct('parts', 1);), $owing->('parts', '999000 + i % 1000') ],
		[ 'a purchase that is paid back',
			q(PERFORM credits_refund_purchase((credits_complete_purchase((credits_start_purchase('bought', 'scaled')).purchase_id, 'p' || i, 1)).purchase_id);) ],
		[ 'a spend while limits forbid a renewal, after events', q(FOR j IN 1 .. 10 LOOP PERFORM credits_try_deduct('full', 2000000); END LOOP;), q(PERFORM credits_deduct('full', 1);),
			sub {
				$session->value(q(SELECT kind FROM credits_set_limits('full', max_balance => 1000000)));
				$session->value(q(SELECT status FROM credits_subscribe('full', 'scaled', starts_at => '2030-01-11 13:00')));
			} ]
	);
	$session->value("SELECT credits_set_package('scaled', 10, 1, 'USD')");
	at('2030-01-10');
	$session->value("SELECT credits_set_plan('scaled', 1000)");
	$session->value("SELECT credits_set_plan('larger', 100000)");
	$session->value("SELECT credits_set_plan('priced', 1000, price => 10, currency => 'EUR')");
	$session->value("SELECT credits_set_plan('dear', 100000, price => 1000, currency => 'EUR')");
	$session->value("SELECT credits_stripe_set_price('price_scaled', 'scaled')");
	foreach my $kind (@kinds)
	{
		my ($name, $calls, $probe, $prepare) = @$kind;
		my @counts = @others;
		next if defined $only && $name !~ /$only/;
		my ($account) = $calls =~ /(?:external_id = |\()'(\w+)'/;
		my @took;
		at('2030-01-11 12:00');
		$begin->($account);
		$prepare->() if $prepare;
		my $done = 0;
		foreach my $many (@counts)
		{
			$repeat->($done + 1, $many, $calls) if $many > $done;
			$session->value('VACUUM ANALYZE');
			$done = $many + 2 * $counted;
			# the first calls after that read the tables from disk
			$repeat->($many + 1, $many + $counted, $probe // $calls);
			push @took, $repeat->($many + $counted + 1, $done, $probe // $calls);
		}
		cmp_ok($took[-1] / $took[0], '<', 3, "$name after " . join ', ', map { sprintf '%d: %.2f ms', $counts[$_], $took[$_] } 0 .. $#counts);
	}

	# reading an account whose renewal is late
	my %took;
	at('2030-01-01');
	$session->value("SELECT credits_set_plan('daily', 10, 'day')");
	$session->value("SELECT kind FROM credits_open_account('late')");
	$session->value("SELECT status FROM credits_subscribe('late', 'daily')");
	foreach my $days (defined $only ? () : (1000, 20000))
	{
		at($session->value("SELECT timestamptz '2030-01-01' + $days * interval '1 day'"));
		$took{$days} = min(map { my $start = $cpu->(); $session->value("SELECT credits_balance('late')"); ($cpu->() - $start) / $days } 1 .. $rounds);
	}
	cmp_ok($took{20000} / $took{1000}, '<', 3, sprintf 'each of 20000 periods that were missed: %.2f times as long as of 1000', $took{20000} / $took{1000})
	  if %took;
	at('2030-01-01');
}

# a job that is given too little time gets through by and by
unless (defined $only)
{
	$session->value("SELECT kind FROM credits_open_account('job', $many)");
	give('job', $many, "'2030-05-01'");
	$session->value("SELECT count(*) FROM generate_series(1, $many / 10) AS i, LATERAL credits_hold('job', 1 + 0 * i, expires_in => '1 day')");
	at('2030-06-01');
	my $left = sub {
		return $session->value("SELECT count(*) FROM credits.grants AS g JOIN credits.accounts AS a ON a.id = g.account_id"
			  . " WHERE a.name = 'job' AND g.status = 'open' AND g.expires_at < '2030-06-01'")
		  + $session->value("SELECT count(*) FROM credits.hold_states AS h JOIN credits.accounts AS a ON a.id = h.account_id"
			  . " WHERE a.name = 'job' AND h.status = 'open'");
	};
	my ($timeout, $cut_short, $kept) = (50, 0, 0);
	my $before = $left->();
	while ($before > 0)
	{
		$session->query("SET statement_timeout = $timeout");
		my $code = $session->query('CALL credits_settle(100)')->{code};
		$session->query('SET statement_timeout = 0');
		my $after = $left->();
		if ($code eq '57014')
		{
			$cut_short++;
			$kept++ if $after < $before;
			# not even one part of it
			$timeout *= 2 if $after == $before;
		}
		$before = $after;
	}
	cmp_ok($kept, '>', 1, sprintf 'a job that was cut short %d times has kept what it did %d times', $cut_short, $kept);
	is($session->value("SELECT balance FROM credits.accounts WHERE name = 'job'"), $many, 'and got through');
	is($session->value("SELECT held FROM credits.accounts WHERE name = 'job'"), 0, 'with the holds, too');
}

problems_are($node, '', 'nothing is wrong');
$session->quit;
done_testing();
