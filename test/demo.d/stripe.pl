# stripe.pl - a purchase, its refund, a chargeback that is lost and one that is
# won, all by webhooks as Stripe signs them: see Story.pm and Stripe.pm

use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Story;
use Stripe;

my $secret = 'whsec_of_the_demo';
my $now;

# Sets the clock, for Stripe too.
sub at
{
	$now = epoch($_[0]);
	set_clock("$_[0]+00");
	return;
}

# Sends an event to the application, which hands it to the database as it came.
sub send_event
{
	my ($type, $object, $expected, %how) = @_;
	my $payload = $how{payload} // event($type, $object, $now);

	webhook($type, $payload, $how{signature} // sign($payload, $secret, $now), $expected);
	return $payload;
}

# What an account has and owes.
sub balance_is
{
	my ($balance, $debt) = @_;

	call('dba', q{SELECT balance, debt, granted, spent FROM credits_summary('ada')},
		qr/\Abalance $balance, debt $debt, /);
	return;
}

$| = 1;
hide(qw(account held created_at));
begin_story('2030-01-01 09:00+00');
at('2030-01-01 09:00:00');

say_step('An administrator offers 1,000 credits for 10 dollars, and stores the secret of the webhook.');
call('dba', q{SELECT credits_set_package('starter', 1000, 10.00, 'USD')}, '#');
secret($secret);
call('dba', q{SELECT * FROM credits_open_account('ada')},
	'transaction_id #, kind opening, amount 0, balance 0, replayed f');

say_step('Ada buys it. The application hands the figures to a checkout of Stripe.');
my $purchase = call('shop', q{SELECT purchase_id, reference, credits, amount_minor, currency
	FROM credits_start_purchase('ada', 'starter', idempotency_key => 'cart-1')},
	'purchase_id 1, reference purchase_1, credits 1000, amount_minor 1000, currency USD');

say_step('She pays. Stripe calls, the application passes it on, and the credits are there.');
my $paid = send_event('checkout.session.completed',
	checkout_session('purchase_1', 'pi_1', 1000, 'USD'), qr/result applied/);
balance_is(1000, 0);

say_step('Stripe calls again, as it does. Somebody else tries, too.');
send_event('checkout.session.completed', undef, qr/result duplicate/, payload => $paid);
send_event('checkout.session.completed', undef, '28000', payload => $paid,
	signature => sign($paid, 'whsec_guessed', $now));
balance_is(1000, 0);

say_step('She uses 300, and is not happy: half of the money goes back, and half of the credits.');
call('shop', q{SELECT * FROM credits_deduct('ada', 300, idempotency_key => 'job-1')},
	'transaction_id #, kind deduction, amount -300, balance 700, replayed f');
at('2030-01-02 09:00:00');
send_event('charge.refunded', charge('pi_1', 1000, 'USD', 500), qr/result applied/);
balance_is(200, 0);

say_step('She buys once more, uses 900, and has her bank take back all the money. Who owes, pays first.');
call('shop', q{SELECT purchase_id, reference, amount_minor
	FROM credits_start_purchase('ada', 'starter', idempotency_key => 'cart-2')},
	'purchase_id 2, reference purchase_2, amount_minor 1000');
send_event('checkout.session.completed',
	checkout_session('purchase_2', 'pi_2', 1000, 'USD'), qr/result applied/);
call('shop', q{SELECT * FROM credits_deduct('ada', 900, idempotency_key => 'job-2')},
	'transaction_id #, kind deduction, amount -900, balance 300, replayed f');
at('2030-01-05 09:00:00');
send_event('charge.dispute.created', dispute('pi_2', 1000, 'USD', 'needs_response'), qr/result applied/);
balance_is(0, 700);

say_step('The bank agrees with Ada: the chargeback is lost, and changes nothing more.');
at('2030-02-01 09:00:00');
send_event('charge.dispute.closed', dispute('pi_2', 1000, 'USD', 'lost'), qr/result applied/);
balance_is(0, 700);

say_step('What she buys next pays the debt first. Balance and debt are never less than nothing.');
call('shop', q{SELECT purchase_id, reference, amount_minor
	FROM credits_start_purchase('ada', 'starter', idempotency_key => 'cart-3')},
	'purchase_id 3, reference purchase_3, amount_minor 1000');
send_event('checkout.session.completed',
	checkout_session('purchase_3', 'pi_3', 1000, 'USD'), qr/result applied/);
balance_is(300, 0);

say_step('She disputes that, too. The money is withdrawn before anyone hears of the chargeback.');
at('2030-02-10 09:00:00');
send_event('charge.dispute.funds_withdrawn', dispute('pi_3', 1000, 'USD', 'needs_response'), qr/result applied/);
balance_is(0, 700);

say_step('This one is won: exactly what was taken comes back, in whatever order Stripe tells.');
at('2030-03-01 09:00:00');
send_event('charge.dispute.closed', dispute('pi_3', 1000, 'USD', 'won'), qr/result applied/);
send_event('charge.dispute.funds_reinstated', dispute('pi_3', 1000, 'USD', 'won'), qr/result/);
balance_is(300, 0);

say_step('All of it is in the log, and all is well.');
call('dba', q{SELECT kind, amount, balance FROM credits_history('ada')}, qr/clawback/);
call('dba', q{SELECT type, result FROM credits.stripe_events ORDER BY received_at, id}, qr/applied/);
call('dba', q{SELECT * FROM credits_verify()}, '(no rows)');
