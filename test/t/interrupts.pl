# Whatever a call has to go through, it ends soon after it is cancelled, and
# leaves nothing behind: it may be doing that under an account's lock.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsStripe;
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $timeout = 50;	# ms
my $margin = 100;
my $n = 20000;

my $node = credits_node('interrupts', conf => "fsync = off\nshared_buffers = 128MB\nautovacuum = off\n");
my $session = CreditsTest::Session->new($node);
my $clock = '2030-01-01';
$session->value("SET credits.test_clock = '$clock'");

# Gives an account many grants, each a credit, that expire at an instant.
sub give_many
{
	my ($account, $expires) = @_;
	$session->value("SELECT kind FROM credits_open_account('$account')");
	$session->value(qq(
		SELECT count(*) FROM generate_series(1, $n / 5000) AS b, LATERAL credits_allocate_many((
			SELECT array_agg(ROW('$account', 1, NULL, NULL, NULL, NULL, 'manual', $expires, NULL, NULL, NULL, NULL, NULL)::credits.allocation)
			FROM generate_series(1, 5000 + 0 * b))) AS r));
}

# All that there is, as one line.
my $state = q(SELECT concat_ws(' ',
	(SELECT sum(hashtextextended(a::text, 0)) FROM credits.accounts AS a),
	(SELECT sum(hashtextextended(g::text, 0)) FROM credits.grants AS g),
	(SELECT sum(hashtextextended(h::text, 0)) FROM credits.hold_states AS h),
	(SELECT sum(hashtextextended(p::text, 0)) FROM credits.purchases AS p),
	(SELECT sum(hashtextextended(d::text, 0)) FROM credits.debts AS d),
	(SELECT count(*) FROM credits.stripe_subjects WHERE waiting IS NOT NULL),
	(SELECT count(*) || ' ' || max(id) FROM credits.transactions)));

# A call that is cancelled ends in time and changes nothing.  A machine that is
# busy may be late by itself, so the best of a few tries counts; and a call that
# is through before its time comes proves nothing: it is undone, and gets less, down
# to the millisecond, in which nothing needs to be cancelled.
sub ends_soon
{
	my ($name, $sql) = @_;
	my $before = $session->value($state);
	# a procedure that commits cannot be undone
	my ($begin, $end) = $sql =~ /^CALL/ ? ('SELECT 1', 'SELECT 1') : ('BEGIN', 'ROLLBACK');
	my $wait = $timeout;
	my ($late, $code, $quick);
	foreach (1 .. 20)
	{
		$session->query($begin);
		$session->query("SET statement_timeout = $wait");
		my $start = time;
		$code = $session->query($sql)->{code};
		my $over = 1000 * (time - $start) - $wait;
		$session->query($end);
		$session->query('SET statement_timeout = 0');
		if ($code eq '57014')
		{
			$late = $over if !defined $late || $over < $late;
			last if $late < $margin;
		}
		elsif ($wait > 1)
		{
			$wait = int($wait / 2);
		}
		elsif ($code eq '00000' && $over < 20)
		{
			$late = 0;
			$quick = 1;
			last;
		}
	}
	is($code, $quick ? '00000' : '57014', "$name: " . ($quick ? 'through within a millisecond or so' : 'cancelled'));
	cmp_ok($late // 1e9, '<', $margin, sprintf '%s: over %d ms after its time', $name, $late // 1e9);
	# what a job has committed stays, whatever ends it
	is($session->value($state), $before, "$name: nothing has changed") if $sql !~ /^CALL/;
}

# from many grants, and back to them
give_many('many', 'NULL');
ends_soon('deduct', "SELECT credits_deduct('many', $n)");
ends_soon('hold', "SELECT credits_hold('many', $n)");
$session->value("SELECT kind FROM credits_open_account('other')");
ends_soon('transfer', "SELECT credits_transfer('many', 'other', $n)");
my $spend = $session->value("SELECT transaction_id FROM credits_deduct('many', $n)");
ends_soon('refund', "SELECT credits_refund($spend)");
$session->value("SELECT kind FROM credits_refund($spend)");
my $hold = $session->value("SELECT transaction_id FROM credits_hold('many', $n)");
ends_soon('capture', "SELECT credits_capture($hold)");
ends_soon('release', "SELECT credits_release($hold)");
$session->value("SELECT kind FROM credits_release($hold)");
my $transfer = $session->value("SELECT transaction_id FROM credits_transfer('many', 'other', $n)");
ends_soon('reverse a transfer', "SELECT credits_reverse_transfer($transfer, 'a mistake')");

# what the clock does: many grants and many holds at once
give_many('expiring', "'$clock'::timestamptz + interval '1 day'");
$session->value("SELECT kind FROM credits_open_account('holding', $n)");
$session->value("SELECT count(*) FROM generate_series(1, $n / 4) AS i, LATERAL credits_hold('holding', 1 + 0 * i, expires_in => '1 day')");
$session->value("SET credits.test_clock = '2030-02-01'");
ends_soon('settle by a spend', "SELECT credits_deduct('expiring', 1)");
ends_soon('look at what is due', "SELECT credits_balance('expiring')");
ends_soon('settle many holds', "SELECT credits_allocate('holding', 1)");
ends_soon('settle as a job', 'CALL credits_settle()');

# what only reads
ends_soon('grants', "SELECT count(*) FROM credits_grants('other', max_rows => 10)");
ends_soon('balance by source', "SELECT count(*) FROM credits_balance_by_source('expiring')");
ends_soon('summary', "SELECT balance FROM credits_summary('expiring')");
ends_soon('a balance to come', "SELECT credits_balance_at('expiring', '2031-01-01')");
ends_soon('history', "SELECT count(*) FROM credits_history('holding', 10, kinds => ARRAY['void'])");

# what gives to many at once
$session->value('CREATE TABLE people AS SELECT i FROM generate_series(1, 20000) AS i');
ends_soon('open accounts', q(SELECT credits_open_accounts('people', 'i', 'new:')));
$session->value(q(SELECT credits_open_accounts('people', 'i', 'person:')));
$session->value("SELECT kind FROM credits_open_account('giver', $n)");
ends_soon('gift to many', q(SELECT credits_gift_many('giver', ARRAY(SELECT 'person:' || i FROM people ORDER BY i LIMIT 1000), 1)));
ends_soon('promotional codes', 'SELECT count(*) FROM credits_create_promo_codes(10000, 5)');

# a subscription that is very late, and many that are due
$session->value("SELECT credits_set_plan('daily', 10, 'day')");
my $late = $session->value("SELECT subscription_id FROM credits_subscribe('other', 'daily', starts_at => '2030-02-01')");
$session->value("SELECT count(credits_subscribe('person:' || i, 'daily', starts_at => '2030-02-01')) FROM people WHERE i <= 3000");
$session->value("SET credits.test_clock = '2035-02-01'");
ends_soon('cancel a late subscription', "SELECT credits_cancel_subscription($late, 'now')");
ends_soon('renew as a job', 'CALL credits_renew(10)');

# thousands of renewals that were missed: whatever touches the account makes them first
$session->value("SET credits.test_clock = '2030-02-01'");
$session->value("SELECT credits_set_plan('priced', 10, 'day', price => 1, currency => 'EUR', rollover => 'maximum', rollover_again => true)");
$session->value("SELECT kind FROM credits_open_account('$_')") foreach qw(late changing);
$late = $session->value("SELECT subscription_id FROM credits_subscribe('late', 'priced')");
$session->value("SET credits.test_clock = '2060-02-01'");
ends_soon('spend after 11000 missed renewals', "SELECT credits_deduct('late', 1)");
ends_soon('look at them', "SELECT credits_balance('late')");
ends_soon('summarize them', "SELECT balance FROM credits_summary('late')");
ends_soon('list what they give', "SELECT count(*) FROM credits_grants('late')");
ends_soon('refund the newest of them', "SELECT credits FROM credits_refund_period($late)");
ends_soon('refund the first of them', "SELECT credits FROM credits_refund_period($late, period_start => '2030-02-01')");
ends_soon('change the plan after them', "SELECT given FROM credits_change_plan($late, 'daily', at => 'now')");
ends_soon('pause after them', "SELECT status FROM credits_pause_subscription($late)");
ends_soon('cancel after them', "SELECT status FROM credits_cancel_subscription($late, 'now', 'expire')");
$session->value("SELECT kind FROM credits_allocate('late', 1)");
# what was rolled over again and again goes back with the first of them
ends_soon('refund what was rolled over 11000 times', "SELECT credits FROM credits_refund_period($late, period_start => '2030-02-01')");
ends_soon('end with 11000 periods', "SELECT status FROM credits_cancel_subscription($late, 'now', 'expire')");
# and a period that changed often
$session->value("SET credits.test_clock = '2030-02-01'");
$session->value("SELECT credits_set_plan('p' || i, 100 + i, price => 10 + i, currency => 'EUR') FROM generate_series(1, 2) AS i");
$late = $session->value("SELECT subscription_id FROM credits_subscribe('changing', 'p1')");
$session->value("SELECT count(*) FROM generate_series(1, 1000) AS i, LATERAL credits_change_plan($late, 'p' || 1 + i % 2, at => 'now', proration => 'full') AS c");
$session->value("SELECT kind FROM credits_deduct('changing', 50)");
ends_soon('refund a period that changed 1000 times', "SELECT credits FROM credits_refund_period($late)");
$session->value("SELECT credits FROM credits_refund_period($late, 5)");
ends_soon('change it once more', "SELECT given FROM credits_change_plan($late, 'p2', at => 'now', proration => 'full')");

# erasing texts: of one row, and of many
$session->value("SELECT kind FROM credits_open_account('erased', $n)");
my $long = $session->value("SELECT transaction_id FROM credits_deduct('erased', 1, reference => 'long', metadata => jsonb_build_object('text', repeat('x', 15000)))");
$session->value("SELECT count(*) FROM generate_series(1, 4000) AS i, LATERAL credits_deduct('erased', 1, 'key ' || i, reference => 'r ' || i)");
ends_soon('erase a long text', "SELECT credits_erase_text($long)");
ends_soon('erase many texts',
	"SELECT count(credits_erase_text(t.id)) FROM (SELECT id FROM credits.transactions WHERE account_id = credits.account_id('erased') AND reference LIKE 'r %') AS t");
{
	my $locker = CreditsTest::Session->new($node);
	$locker->value("BEGIN; SELECT kind FROM credits_deduct('erased', 1)");
	ends_soon('erase while the account is locked', "SELECT credits_erase_text($long)");
	$locker->quit;
}
$session->value("SET credits.test_clock = '2030-02-01'");

# what Stripe sent, and waits: many subscriptions, and a payment with many refunds
$session->value("SELECT credits_stripe_add_secret('tests', '" . stripe_secret() . "')");
my $epoch = $session->value('SELECT extract(epoch FROM credits.now())::bigint');

# Sends an event that has to wait, and adds others that differ in some facts, as if
# they had been sent, too.
sub waits
{
	my ($event, $count, $object, $subject, $facts) = @_;
	is($session->value('SELECT result FROM ' . stripe_call($event, $epoch)), 'waiting', "$event->{type} waits");
	$session->value(qq(
		INSERT INTO credits.stripe_events (id, type, object_id, subject, created, received_at, livemode, result, facts, payload)
		SELECT id || '_' || i, type, $object, $subject, created, received_at, livemode, result, facts || $facts, '{}'
		FROM credits.stripe_events, generate_series(1, $count) AS i WHERE id = '$event->{id}'));
	$session->value(qq(
		INSERT INTO credits.stripe_subjects SELECT e.subject, s.waiting
		FROM credits.stripe_events AS e, credits.stripe_events AS f, credits.stripe_subjects AS s
		WHERE e.id LIKE '$event->{id}\\_%' AND f.id = '$event->{id}' AND s.subject = f.subject ON CONFLICT DO NOTHING));
	return;
}

my $reprocess = 'SELECT count(*) FROM credits_stripe_reprocess()';
waits(stripe_event('customer.subscription.updated', stripe_subscription('new',
			id => 'sub', customer => 'cus', price => 'price', status => 'active', metadata => { account => 'person:10000' },
			created => $epoch, start_date => $epoch, billing_cycle_anchor => $epoch, period => [ $epoch, $epoch + 86400 * 31 ]),
		created => $epoch),
	1000, "'sub_' || i", "'sub_' || i", "jsonb_build_object('account', 'person:' || 10000 + i)");
$session->value("SELECT credits_stripe_set_price('price', 'daily')");
ends_soon('apply subscriptions that waited', $reprocess);
{
	# it never waits for a lock, but for others to give it up
	my $locker = CreditsTest::Session->new($node);
	$locker->value('BEGIN; SELECT 1 FROM credits.stripe_subjects FOR UPDATE');
	ends_soon('apply what is locked', $reprocess);
	$locker->quit;
}
is($session->value('SELECT string_agg(DISTINCT result, $$ $$) FROM credits_stripe_reprocess()'), 'applied', 'all are applied');

$session->value("SELECT credits_set_package('pack', 100000, 1000.00, 'USD')");
$session->value("SELECT kind FROM credits_open_account('$_')") foreach qw(buyer debtor payer);
my $next = $session->value('SELECT last_value + is_called::integer FROM credits.purchases_id_seq');
waits(stripe_event('checkout.session.completed', stripe_session(id => 'cs', client_reference_id => "purchase_$next",
			amount_total => 100000, payment_intent => 'pi', payment_status => 'paid'), created => $epoch),
	0, 'object_id', 'subject', "'{}'");
waits(stripe_event('refund.created', stripe_refund(id => 're', payment_intent => 'pi', charge => 'ch', amount => 1, status => 'succeeded'),
		created => $epoch),
	300, "'re_' || i", 'subject', "jsonb_build_object('charge', 'ch_' || i)");
is(buy('buyer', 'pack'), $next, 'now it is known what was paid');
ends_soon('apply a payment with many refunds', $reprocess);
is($session->value('SELECT string_agg(DISTINCT result, $$ $$) FROM credits_stripe_reprocess()'), 'applied', 'it is applied');

# purchases: one that pays many debts, and money that is paid back
sub buy
{
	my ($account, $package) = @_;
	return $session->value("SELECT purchase_id FROM credits_start_purchase('$account', '$package')");
}

sub pay_for
{
	my ($id) = @_;
	return "SELECT outcome FROM credits_complete_purchase($id, 'pay:$id', (SELECT price FROM credits.purchases WHERE id = $id))";
}

$session->value(q(SELECT credits_set_package('parts', 1, 1.00, 'USD',
	extras => (SELECT jsonb_agg('{"credits": 1}'::jsonb) FROM generate_series(1, 100)))));
foreach (1 .. 30)
{
	my $id = buy('debtor', 'parts');
	$session->value(pay_for($id));
	$session->value("SELECT kind FROM credits_deduct('debtor', credits_balance('debtor'))");
	$session->value("SELECT credits FROM credits_refund_purchase($id)");
}
my $purchase = buy('debtor', 'pack');
ends_soon('pay 3030 debts with a purchase', pay_for($purchase));

# what is taken back is taken from the grant: it makes no difference how many have
# spent it, and this is through at once
$purchase = buy('buyer', 'pack');
$session->value(pay_for($purchase));
$session->value(q(SELECT count(credits_deduct('buyer', 1)) FROM generate_series(1, 2000)));
ends_soon('refund what many have spent', "SELECT credits FROM credits_refund_purchase($purchase)");

$purchase = buy('payer', 'pack');
$session->value(pay_for($purchase));
$session->value(q(SELECT kind FROM credits_deduct('payer', 100000)));
$session->value("SELECT credits FROM credits_open_chargeback($purchase, 'dp')");
$session->value(q(
	SELECT count(*) FROM credits_allocate_many((
		SELECT array_agg(ROW('payer', 1, NULL, NULL, NULL, NULL, 'purchase', NULL, NULL, NULL, NULL, NULL, NULL)::credits.allocation)
		FROM generate_series(1, 5000)))));
ends_soon('win a chargeback that many grants have paid', "SELECT credits FROM credits_close_chargeback($purchase, 'dp', 'won')");

$purchase = buy('payer', 'pack');
$session->value(qq(
	INSERT INTO credits.reversals
	SELECT $purchase, 're:' || i, 'refund', 'withdrawn', 1, 0, NULL, credits.now(), credits.now(), session_user
	FROM generate_series(1, 100000) AS i));
ends_soon('complete a purchase with many refunds', pay_for($purchase));
$session->value(pay_for($purchase));
ends_soon('refund it once more', "SELECT credits FROM credits_refund_purchase($purchase)");

# gifts: one of many grants, and many that expire
give_many('giving', 'NULL');
$session->value("SELECT kind FROM credits_open_account('receiver')");
$session->value("SELECT kind FROM credits_open_account('generous', $n)");
my $gift = $session->value("SELECT code FROM credits_create_gift('giving', $n, expires_in => '1 day')");
$session->value("SELECT count(credits_create_gift('generous', 1, expires_in => '1 day')) FROM generate_series(1, 3000)");
ends_soon('redeem a gift', "SELECT credits_redeem('receiver', '$gift')");
ends_soon('cancel a gift', "SELECT credits_cancel_gift('$gift')");
$session->value("SET credits.test_clock = '2030-02-03'");
ends_soon('a gift expires', "SELECT credits_allocate('giving', 1)");
ends_soon('look at one that expires', "SELECT credits_balance('giving')");
ends_soon('many gifts expire', "SELECT credits_allocate('generous', 1)");
ends_soon('they expire as a job', 'CALL credits_settle()');

# housekeeping; nothing else is ever deleted
$session->value(q(SELECT count(credits_start_purchase('buyer', 'pack')) FROM generate_series(1, 2000)));
$session->value(q(
	INSERT INTO credits.events (id, created_at, kind, detail)
	SELECT -i, '2029-01-01', 'purchase_completed', '{}' FROM generate_series(1, 100000) AS i));
$session->value("SET credits.test_clock = '2030-06-01'");
ends_soon('expire purchases as a job', 'CALL credits_housekeep(100000)');
$session->value('CALL credits_housekeep()');
$session->value("SET credits.event_retention = '90 days'");
ends_soon('delete events as a job', 'CALL credits_housekeep(100000)');
$session->value('CALL credits_housekeep()');
is($session->value('SELECT count(*) FROM credits.events WHERE id < 0'), 0, 'old events are deleted');
is($session->value(q(SELECT count(*) FROM credits.purchases WHERE status = 'pending')), 0, 'purchases have expired');
$session->value("SET credits.test_clock = '2030-02-03'");

# a batch, and proving it all
ends_soon('batch', qq(
	SELECT count(*) FROM credits_deduct_many((
		SELECT array_agg(ROW('other', 1, NULL, NULL, NULL, NULL)::credits.deduction) FROM generate_series(1, 5000)))));
ends_soon('verify', 'SELECT count(*) FROM credits_verify()');

# and all of it can be done
$session->value("SELECT kind FROM credits_reverse_transfer($transfer, 'a mistake')");
$session->value('CALL credits_settle()');
is($session->value("SELECT credits_balance('many')"), $n, 'credits have come back');
is($session->value("SELECT credits_balance('expiring')"), 0, 'grants have expired');
is($session->value("SELECT held FROM credits_summary('holding')"), 0, 'holds have timed out');
is($session->value("SELECT balance FROM credits_summary('giving')"), $n, 'and gifts');
problems_are($node, '', 'nothing is wrong');

$session->quit;
done_testing();
