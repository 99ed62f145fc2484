package Stripe;

# Stripe.pm - events as Stripe sends them, made and signed as Stripe does
#
# The shapes are those of Stripe's API: https://docs.stripe.com/api/events.  The
# signature is HMAC-SHA256 over "time.payload":
# https://docs.stripe.com/webhooks#verify-manually.

use strict;
use warnings;
use Digest::SHA qw(hmac_sha256_hex);
use Exporter qw(import);
use JSON::PP;
use Time::Local qw(timegm);

our @EXPORT = qw(event sign epoch checkout_session charge dispute);

my $json = JSON::PP->new->canonical;
my $events = 0;

# Seconds since 1970 of "YYYY-MM-DD HH:MM:SS" in UTC.
sub epoch
{
	my ($year, $month, $day, $hour, $minute, $second) = $_[0] =~ /\d+/g;

	return timegm($second // 0, $minute // 0, $hour // 0, $day, $month - 1, $year);
}

# An event of a type about an object, as JSON.
sub event
{
	my ($type, $object, $at) = @_;

	return $json->encode({
		id => sprintf('evt_%08d', ++$events),
		object => 'event',
		api_version => '2025-08-27.basil',
		created => $at,
		livemode => JSON::PP::false,
		pending_webhooks => 1,
		type => $type,
		data => { object => $object }
	});
}

# The header Stripe-Signature of a payload.
sub sign
{
	my ($payload, $secret, $at) = @_;

	return "t=$at,v1=" . hmac_sha256_hex("$at.$payload", $secret);
}

# A finished checkout of one payment: the purchase's reference, the payment and
# what was paid, in minor units.
sub checkout_session
{
	my ($reference, $payment, $amount, $currency) = @_;

	return {
		id => "cs_$payment",
		object => 'checkout.session',
		mode => 'payment',
		status => 'complete',
		payment_status => 'paid',
		client_reference_id => $reference,
		payment_intent => $payment,
		customer => undef,
		subscription => undef,
		amount_total => $amount,
		currency => lc $currency,
		metadata => {}
	};
}

# The charge of a payment, of which some was refunded.
sub charge
{
	my ($payment, $amount, $currency, $refunded) = @_;

	return {
		id => "ch_$payment",
		object => 'charge',
		payment_intent => $payment,
		amount => $amount,
		amount_refunded => $refunded,
		refunded => $refunded == $amount ? JSON::PP::true : JSON::PP::false,
		currency => lc $currency,
		status => 'succeeded',
		paid => JSON::PP::true,
		metadata => {}
	};
}

# A dispute about a payment.
sub dispute
{
	my ($payment, $amount, $currency, $status) = @_;

	return {
		id => "dp_$payment",
		object => 'dispute',
		charge => "ch_$payment",
		payment_intent => $payment,
		amount => $amount,
		currency => lc $currency,
		status => $status,
		metadata => {}
	};
}

1;
