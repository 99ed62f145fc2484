package CreditsStripe;

# Events as Stripe sends and signs them: on its own example objects if CREDITS_DATA
# has them, else on as much of them as counts.
#
# There are two shapes: 'old' is that of API versions before 2025-03-31, 'new' that
# of later ones.

use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(hmac_sha256_hex);
use Exporter 'import';
use JSON::PP;
use List::Util qw(sum0);

our @EXPORT = qw(
  stripe_event stripe_call stripe_fixtures stripe_session stripe_intent stripe_charge
  stripe_refund stripe_dispute stripe_subscription stripe_invoice stripe_invoice_item
  stripe_invoice_payment stripe_credit_note
  stripe_secret stripe_signature permutations
);

my $json = JSON::PP->new->canonical->utf8;
my $file = ($ENV{CREDITS_DATA} // '') . '/stripe_fixtures3.json';
my $fixtures = {};
if (-e $file)
{
	local $/;
	open my $handle, '<', $file or die "$file: $!";
	$fixtures = $json->decode(<$handle>)->{resources};
}
my $number = 0;

# Are there real shapes?
sub stripe_fixtures { return scalar keys %$fixtures }

sub stripe_secret { return 'whsec_tests_0123456789abcdef' }

# An object of Stripe's, with some of its members replaced.
sub object_of
{
	my ($kind, %members) = @_;
	my $object = $json->decode($json->encode($fixtures->{$kind} // { object => $kind }));
	$object->{$_} = $members{$_} foreach keys %members;
	return $object;
}

# An event of some type about an object; more: id, created, shape.
sub stripe_event
{
	my ($type, $object, %more) = @_;
	my $event = object_of('event');
	$event->{id} = $more{id} // sprintf('evt_%06d', ++$number);
	$event->{object} = 'event';
	$event->{type} = $type;
	$event->{created} = $more{created};
	$event->{livemode} = JSON::PP::false;
	$event->{api_version} = ($more{shape} // 'new') eq 'old' ? '2024-06-20' : '2025-10-29.clover';
	$event->{data} = { object => $object };
	return $event;
}

sub stripe_signature
{
	my ($payload, $time, $secret) = @_;
	return "t=$time,v1=" . hmac_sha256_hex("$time.$payload", $secret // stripe_secret())
	  . ',v0=' . ('0' x 64);
}

# The call for an event, as SQL; time is when it was signed.  As bytes every other
# time.
my $calls = 0;
sub stripe_call
{
	my ($event, $time) = @_;
	my $payload = $json->encode($event);
	my $signature = stripe_signature($payload, $time);
	my $argument =
	  $calls++ % 2
	  ? "'\\x" . unpack('H*', $payload) . "'::bytea"
	  : do { utf8::decode(my $text = $payload); "\$stripe\$$text\$stripe\$" };
	return "credits_stripe_webhook($argument, '$signature')";
}

sub stripe_session { return object_of('checkout.session', payment_intent => undef, mode => 'payment', currency => 'usd', @_) }
sub stripe_intent { return object_of('payment_intent', @_) }
sub stripe_charge { return object_of('charge', currency => 'usd', @_) }
sub stripe_refund { return object_of('refund', currency => 'usd', @_) }
sub stripe_dispute { return object_of('dispute', currency => 'usd', @_) }

# A subscription to a price; period: two numbers of seconds.
sub stripe_subscription
{
	my ($shape, %p) = @_;
	my ($start, $end) = @{ delete $p{period} };
	my $price = delete $p{price};
	my $fixture = $fixtures->{subscription} // {};
	my $item = $json->decode($json->encode($fixture->{items}{data}[0] // {}));
	my %members = (
		cancel_at => undef, cancel_at_period_end => JSON::PP::false, canceled_at => undef,
		ended_at => undef, trial_start => undef, trial_end => undef, pause_collection => undef,
		metadata => {}, %p);
	delete $item->{$_} foreach qw(current_period_start current_period_end plan);
	$item->{price} = { %{ $item->{price} // {} }, id => $price, product => "prod_of_$price" };
	if ($shape eq 'old')
	{
		@members{qw(current_period_start current_period_end)} = ($start, $end);
	}
	else
	{
		@$item{qw(current_period_start current_period_end)} = ($start, $end);
	}
	$members{items} = { object => 'list', data => [$item], has_more => JSON::PP::false };
	return object_of('subscription', %members);
}

# An invoice of a subscription; lines: [price, start, end, amount, proration, more], more: quantity,
# invoice_item, subscription_item, id.
sub stripe_invoice
{
	my ($shape, %p) = @_;
	my $subscription = delete $p{subscription};
	my $lines = delete $p{lines};
	my $payment = delete $p{payment};
	my $metadata = delete $p{subscription_metadata} // {};
	my $more = delete $p{has_more} ? JSON::PP::true : JSON::PP::false;
	my $invoice = object_of('invoice', currency => 'usd', total => sum0(map { $_->[3] } @$lines), %p);
	my $line = $invoice->{lines}{data}[0] // {};
	my @lines;

	foreach (@$lines)
	{
		my ($price, $start, $end, $amount, $proration, $of) = @$_;
		my $copy = $json->decode($json->encode($line));
		my $flag = $proration ? JSON::PP::true : JSON::PP::false;
		delete $copy->{$_} foreach qw(parent pricing price plan proration subscription type);
		$copy->{id} = $of->{id} // "il_" . @lines . "_of_$p{id}";
		$copy->{quantity} = $of->{quantity} // 1;
		$copy->{amount} = $amount;
		$copy->{period} = { start => $start, end => $end };
		if ($shape eq 'old')
		{
			$copy->{price} = { id => $price, product => "prod_of_$price", object => 'price' };
			$copy->{proration} = $flag;
			$copy->{subscription} = $subscription;
			$copy->{type} = $of->{invoice_item} ? 'invoiceitem' : 'subscription';
			$copy->{$_} = $of->{$_} foreach qw(invoice_item subscription_item);
		}
		else
		{
			$copy->{pricing} = { type => 'price_details', unit_amount_decimal => undef,
				price_details => { price => $price, product => "prod_of_$price" } };
			$copy->{parent} = { type => 'subscription_item_details', invoice_item_details => undef,
				subscription_item_details => { subscription => $subscription, proration => $flag,
					invoice_item => $of->{invoice_item}, subscription_item => $of->{subscription_item} } };
		}
		push @lines, $copy;
	}
	$invoice->{lines} = { object => 'list', data => \@lines, has_more => $more };
	delete $invoice->{$_} foreach qw(parent subscription subscription_details payment_intent charge payments);
	if ($shape eq 'old')
	{
		$invoice->{subscription} = $subscription;
		$invoice->{subscription_details} = { metadata => $metadata };
		$invoice->{payment_intent} = $payment;
	}
	else
	{
		$invoice->{parent} = { type => 'subscription_details', quote_details => undef,
			subscription_details => { subscription => $subscription, metadata => $metadata } };
	}
	return $invoice;
}

# A proration that waits for its invoice.
sub stripe_invoice_item
{
	my ($shape, %p) = @_;
	my ($subscription, $price, $period, $item) = delete @p{qw(subscription price period subscription_item)};
	my %item = (object => 'invoiceitem', currency => 'usd', quantity => 1, invoice => undef, proration => JSON::PP::true,
		period => { start => $period->[0], end => $period->[1] }, %p);
	if ($shape eq 'old')
	{
		@item{qw(subscription subscription_item)} = ($subscription, $item);
		$item{price} = { id => $price, product => "prod_of_$price", object => 'price' };
	}
	else
	{
		$item{parent} = { type => 'subscription_details',
			subscription_details => { subscription => $subscription, subscription_item => $item } };
		$item{pricing} = { type => 'price_details', price_details => { price => $price, product => "prod_of_$price" } };
	}
	return \%item;
}

# A credit note of an invoice; lines: [id of the line, amount].
sub stripe_credit_note
{
	my (%p) = @_;
	my $lines = delete $p{lines} // [];
	return { object => 'credit_note', currency => 'usd', status => 'issued', refunds => [],
		amount => sum0(map { $_->[1] } @$lines), %p,
		lines => { object => 'list', has_more => JSON::PP::false,
			data => [ map { { type => 'invoice_line_item', invoice_line_item => $_->[0], amount => $_->[1] } } @$lines ] } };
}

# What links a payment with an invoice in new versions.
sub stripe_invoice_payment
{
	my ($id, $invoice, $payment) = @_;
	return { object => 'invoice_payment', id => $id, invoice => $invoice, status => 'paid',
		payment => { type => 'payment_intent', payment_intent => $payment } };
}

# All orders of a list.
sub permutations
{
	my (@list) = @_;
	return [] unless @list;
	return map {
		my @rest = @list;
		my ($first) = splice @rest, $_, 1;
		map { [ $first, @$_ ] } permutations(@rest);
	} 0 .. $#list;
}

1;
