package CreditsBilling;

# A small Stripe that bills one subscription.  What is done to it, it answers with the
# events that Stripe sends, each with its object as it was at that time, in the shape of
# API versions before 2025-03-31 ('old') or of later ones ('new').
#
# All ids contain @@@@@@@, which a trial replaces by a number of its own: so one history
# is made once, and sent to as many accounts as there are orders of its events.

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use JSON::PP;
use List::Util qw(max min sum0);
use Storable qw(dclone);
use Time::Local qw(timegm_modern);

our @EXPORT = qw(billing_prices billing_setup billing_payload time_at time_plus);

my $json = JSON::PP->new->canonical->utf8;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

# what can be bought: unit amounts in minor units
my %prices = (
	price_basic => { plan => 'basic', credits => 1000, trial_credits => 0, amount => 1000, period => 'month', every => 1 },
	price_pro => { plan => 'pro', credits => 3000, trial_credits => 150, amount => 3000, period => 'month', every => 1 },
	price_max => { plan => 'max', credits => 7001, trial_credits => 0, amount => 6999, period => 'month', every => 1 },
	price_seat => { plan => 'seat', credits => 333, trial_credits => 0, amount => 700, period => 'month', every => 1 },
	price_free => { plan => 'free', credits => 50, trial_credits => 0, amount => 0, period => 'month', every => 1 },
	price_week => { plan => 'weekly', credits => 200, trial_credits => 0, amount => 250, period => 'week', every => 1 },
	price_quarter => { plan => 'quarterly', credits => 3100, trial_credits => 0, amount => 2800, period => 'month', every => 3 },
	price_year => { plan => 'yearly', credits => 12000, trial_credits => 0, amount => 10000, period => 'year', every => 1 },
	price_waits => { plan => 'waits', credits => 5000, trial_credits => 0, amount => 5000, period => 'month', every => 1, upgrade => 'when_paid' },
	price_sent => { plan => 'sent', credits => 4000, trial_credits => 0, amount => 4000, period => 'month', every => 1, give => 'finalized' },
	price_usage => { plan => undef, amount => 3, period => 'month', every => 1, give => 'nothing', usage => 'metered' },
);

sub billing_prices { return \%prices }

# The plans and what the prices are mapped to, as SQL.
sub billing_setup
{
	my @sql;
	foreach my $id (sort keys %prices)
	{
		my $price = $prices{$id};
		my $dollars = $price->{amount} / 100;
		push @sql, "SELECT credits_set_plan('$price->{plan}', $price->{credits}, '$price->{period}', $price->{every}, "
		  . "price => $dollars, currency => 'USD'"
		  . ($price->{trial_credits} ? ", trial => '7 days', trial_credits => $price->{trial_credits}" : '') . ');'
		  if $price->{plan};
		push @sql, "SELECT credits_stripe_set_price('$id'"
		  . ($price->{plan} ? ", '$price->{plan}'" : '')
		  . join('', map { $price->{$_} ? ", $_ => '$price->{$_}'" : () } qw(upgrade give)) . ');';
	}
	return join "\n", @sql;
}

# The body of an event for a trial.
sub billing_payload
{
	my ($event, $trial, $twin) = @_;
	my $payload = $event->{payload};
	my $number = sprintf '%07d', $trial;
	$payload =~ s/\@{7}/$number/g;
	$payload =~ s/("evt_\w+)"/$1_twin"/ if $twin;
	return $payload;
}

# --------------------------------------------------------------------------
# the calendar, in UTC

sub time_at
{
	my ($text) = @_;
	my ($y, $m, $d, $h, $i, $s) = $text =~ /^(\d+)-(\d+)-(\d+)(?: (\d+):(\d+)(?::(\d+))?)?$/ or die $text;
	return timegm_modern($s // 0, $i // 0, $h // 0, $d, $m - 1, $y);
}

# Some periods later, or earlier; days that a month does not have become its last.
sub time_plus
{
	my ($time, $count, $period) = @_;
	return $time + $count * 86400 if $period eq 'day';
	return $time + $count * 7 * 86400 if $period eq 'week';
	my ($s, $i, $h, $d, $m, $y) = gmtime $time;
	$m += $count * ($period eq 'year' ? 12 : 1);
	use integer;
	my $years = $m >= 0 ? $m / 12 : -((11 - $m) / 12);
	no integer;
	($y, $m) = ($y + 1900 + $years, $m - 12 * $years);
	my $leap = $y % 4 == 0 && ($y % 100 != 0 || $y % 400 == 0);
	my $last = (31, $leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[$m];
	return timegm_modern($s, $i, $h, min($d, $last), $m, $y);
}

# --------------------------------------------------------------------------
# one subscription

# shape, start; percent_off; flexible: credits name what they credit; items:
# [price, quantity, ...]
sub new
{
	my ($class, %params) = @_;
	my $self = bless {
		shape => 'new', percent_off => 0, flexible => 0, silent => {}, done => [],
		invoices => [], pending => [], payments => [], count => 0, status => 'incomplete', %params
	}, $class;
	$self->{t} = $self->{start};
	$self->{items} = [ map { { id => $self->id('si'), price => $_->[0], quantity => $_->[1] // 1 } } @{ $params{items} } ];
	return $self;
}

sub id { my ($self, $kind) = @_; return sprintf '%s_@@@@@@@_%03d', $kind, ++$self->{count}; }

sub wait { my ($self, $seconds) = @_; $self->{t} += $seconds; return $self; }

sub events { my ($self) = @_; return @{ $self->{done} }; }

# Something happens: unless it is of no interest here, an event says so.
sub emit
{
	my ($self, $type, $object, $at) = @_;
	return if $self->{silent}{$type};
	my $event = {
		id => $self->id('evt'), object => 'event', type => $type, created => $at // $self->{t}++, livemode => $false,
		api_version => $self->{shape} eq 'old' ? '2024-06-20' : '2025-10-29.clover',
		pending_webhooks => 1, request => { id => undef, idempotency_key => undef }, data => { object => $object }
	};
	my $payload = $json->encode($event);
	push @{ $self->{done} }, { id => $event->{id}, type => $type, created => $event->{created}, payload => $payload,
		object => dclone($object) };
	return;
}

sub price_object
{
	my ($id) = @_;
	my $price = $prices{$id} // { amount => 0, period => 'month', every => 1 };
	return { id => $id, object => 'price', active => $true, billing_scheme => 'per_unit', currency => 'usd',
		product => "prod_of_$id", type => 'recurring', unit_amount => $price->{amount}, unit_amount_decimal => "$price->{amount}",
		recurring => { interval => $price->{period}, interval_count => $price->{every},
			usage_type => $price->{usage} // 'licensed', trial_period_days => undef } };
}

sub metadata_of { my ($self) = @_; return $self->{nameless} ? {} : { account => 'b:@@@@@@@' }; }

sub subscription_object
{
	my ($self) = @_;
	my $old = $self->{shape} eq 'old';
	my %period = (current_period_start => $self->{from}, current_period_end => $self->{until});
	my @items = map {
		{ id => $_->{id}, object => 'subscription_item', created => $self->{start}, quantity => $_->{quantity},
			metadata => {}, price => price_object($_->{price}), subscription => 'sub_@@@@@@@', $old ? () : %period }
	} @{ $self->{items} };
	return {
		id => 'sub_@@@@@@@', object => 'subscription', customer => 'cus_@@@@@@@', status => $self->{status},
		created => $self->{start}, start_date => $self->{start}, billing_cycle_anchor => $self->{anchor},
		billing_mode => { type => $self->{flexible} ? 'flexible' : 'classic' },
		cancel_at => undef, cancel_at_period_end => $self->{ending} ? $true : $false, canceled_at => $self->{canceled},
		ended_at => $self->{canceled}, collection_method => 'charge_automatically', currency => 'usd',
		trial_start => $self->{trial_end} ? $self->{start} : undef, trial_end => $self->{trial_end},
		pause_collection => $self->{paused} ? { behavior => $self->{paused}, resumes_at => undef } : undef,
		latest_invoice => @{ $self->{invoices} } ? $self->{invoices}[-1]{id} : undef, livemode => $false,
		metadata => $self->metadata_of, schedule => undef,
		items => { object => 'list', data => \@items, has_more => $false, total_count => scalar @items },
		$old ? %period : () };
}

# What Stripe tells of an item that waits for an invoice.
sub item_object
{
	my ($self, $line) = @_;
	my %item = (
		id => $line->{item}, object => 'invoiceitem', amount => $line->{amount}, currency => 'usd', customer => 'cus_@@@@@@@',
		date => $line->{start}, description => $line->{text}, discountable => $false, invoice => $line->{invoice},
		livemode => $false, metadata => {}, period => { start => $line->{start}, end => $line->{end} },
		proration => $true, quantity => $line->{quantity});
	if ($self->{shape} eq 'old')
	{
		@item{qw(price subscription subscription_item unit_amount)} =
		  (price_object($line->{price}), 'sub_@@@@@@@', $line->{si}, $line->{amount});
	}
	else
	{
		$item{parent} = { type => 'subscription_details',
			subscription_details => { subscription => 'sub_@@@@@@@', subscription_item => $line->{si} } };
		$item{pricing} = { type => 'price_details', unit_amount_decimal => "$line->{amount}",
			price_details => { price => $line->{price}, product => "prod_of_$line->{price}" } };
		$item{proration_details} = { discount_amounts => [],
			credited_items => $line->{credits}
			  && $self->{flexible} ? { type => 'invoice_line_items', invoice_item => undef,
				invoice_line_item_details => { invoice => $line->{credits}[0], invoice_line_items => [ $line->{credits}[1] ] } } : undef };
	}
	return \%item;
}

sub line_object
{
	my ($self, $invoice, $line) = @_;
	my $flag = $line->{proration} ? $true : $false;
	my $credited = $line->{credits} && $self->{flexible}
	  ? { invoice => $line->{credits}[0], invoice_line_items => [ $line->{credits}[1] ] } : undef;
	my %line = (
		id => $line->{id}, object => 'line_item', amount => $line->{amount}, currency => 'usd', description => $line->{text},
		discount_amounts => $line->{discount} ? [ { amount => $line->{discount}, discount => 'di_@@@@@@@' } ] : [],
		discountable => $line->{proration} ? $false : $true, discounts => [], invoice => $invoice->{id}, livemode => $false,
		metadata => {}, period => { start => $line->{start}, end => $line->{end} }, quantity => $line->{quantity});
	if ($self->{shape} eq 'old')
	{
		my $price = price_object($line->{price});
		%line = (%line, price => $price, proration => $flag, proration_details => { credited_items => $credited },
			plan => { id => $line->{price}, object => 'plan', amount => $price->{unit_amount}, interval => $price->{recurring}{interval},
				interval_count => $price->{recurring}{interval_count}, product => $price->{product}, usage_type => $price->{recurring}{usage_type} },
			subscription => 'sub_@@@@@@@', subscription_item => $line->{si}, type => $line->{item} ? 'invoiceitem' : 'subscription',
			$line->{item} ? (invoice_item => $line->{item}) : ());
	}
	else
	{
		$line{parent} = { type => 'subscription_item_details', invoice_item_details => undef,
			subscription_item_details => { invoice_item => $line->{item}, proration => $flag, subscription => 'sub_@@@@@@@',
				proration_details => { credited_items => $credited }, subscription_item => $line->{si} } };
		# a line of a trial says 0, as Stripe does
		my $unit = $line->{item} || $line->{trial} ? $line->{amount} : ($prices{ $line->{price} } // { amount => 0 })->{amount};
		$line{pricing} = { type => 'price_details', unit_amount_decimal => "$unit",
			price_details => { price => $line->{price}, product => "prod_of_$line->{price}" } };
		$line{subtotal} = $line->{amount};
	}
	return \%line;
}

sub invoice_object
{
	my ($self, $invoice) = @_;
	my @lines = @{ $invoice->{lines} };
	my $shown = $invoice->{shown} // @lines;
	my $paid = $invoice->{status} eq 'paid';
	my %invoice = (
		id => $invoice->{id}, object => 'invoice', customer => 'cus_@@@@@@@', currency => 'usd', created => $invoice->{created},
		billing_reason => $invoice->{reason}, collection_method => 'charge_automatically', status => $invoice->{status},
		subtotal => sum0(map { $_->{amount} } @lines), total => $invoice->{total}, amount_due => $invoice->{due},
		amount_paid => $paid ? $invoice->{due} : 0, amount_remaining => $paid ? 0 : $invoice->{due},
		attempt_count => $invoice->{attempts} // 0, attempted => $invoice->{attempts} ? $true : $false,
		starting_balance => -$invoice->{balance}, ending_balance => 0, livemode => $false, metadata => {},
		period_start => $self->{from}, period_end => $self->{until},
		status_transitions => { finalized_at => $invoice->{finalized}, paid_at => $invoice->{paid},
			voided_at => $invoice->{voided}, marked_uncollectible_at => $invoice->{given_up} },
		lines => { object => 'list', total_count => scalar @lines, has_more => $shown < @lines ? $true : $false,
			url => "/v1/invoices/$invoice->{id}/lines", data => [ map { $self->line_object($invoice, $_) } @lines[ 0 .. $shown - 1 ] ] });
	if ($self->{shape} eq 'old')
	{
		my $payment = $invoice->{payments}[0];
		%invoice = (%invoice, subscription => 'sub_@@@@@@@', subscription_details => { metadata => $self->metadata_of },
			paid => $paid ? $true : $false, paid_out_of_band => $invoice->{outside} ? $true : $false,
			payment_intent => $payment && $payment->{id}, charge => $payment && $paid ? $payment->{charge} : undef);
	}
	else
	{
		$invoice{parent} = { type => 'subscription_details', quote_details => undef,
			subscription_details => { subscription => 'sub_@@@@@@@', metadata => $self->metadata_of } };
	}
	return \%invoice;
}

# The application fetches all lines of an invoice: no event, but it can come at any time.
sub complete
{
	my ($self, $invoice) = @_;
	my @lines = map { $self->line_object($invoice, $_) } @{ $invoice->{lines} };
	my $payload = $json->encode({ object => 'list', has_more => $false, data => \@lines });
	push @{ $self->{done} }, { id => $self->id('evt'), type => 'lines', created => $self->{t}++, payload => $payload, invoice => $invoice->{id},
		object => { invoice => $invoice->{id}, lines => dclone(\@lines) } };
	return $self;
}

# A Checkout session that names the account.
sub session
{
	my ($self, $invoice) = @_;
	$self->emit('checkout.session.completed', { id => $self->id('cs'), object => 'checkout.session', mode => 'subscription',
		status => 'complete', payment_status => 'paid', subscription => 'sub_@@@@@@@', customer => 'cus_@@@@@@@', currency => 'usd',
		invoice => $invoice->{id}, payment_intent => undef, amount_total => $invoice->{total}, client_reference_id => 'b:@@@@@@@',
		livemode => $false, metadata => {} });
	return $self;
}

# --------------------------------------------------------------------------
# what can be done

# A line of an item's; share: of its whole period.
sub line_of
{
	my ($self, $item, $from, $until, $share, %more) = @_;
	my $price = $prices{ $item->{price} } // { amount => 0 };
	my $gross = $price->{usage} ? 0 : $price->{amount} * $item->{quantity} * $share;
	my $off = $self->{percent_off} / 100;
	my $net = $more{proration} && !$more{first} ? $gross * (1 - $off) : $gross;
	my %line = (id => $self->id('il'), si => $item->{id}, price => $item->{price}, quantity => $item->{quantity},
		start => $from, end => $until, proration => 0, amount => sprintf('%.0f', $net) + 0, text => 'a line', %more);
	$line{discount} = sprintf('%.0f', $line{amount} * $off) + 0 unless $line{proration};
	return \%line;
}

# Begins it; trial: seconds, anchor: when whole periods begin.
sub create
{
	my ($self, %params) = @_;
	my $first = $self->{items}[0];
	my ($period, $every) = @{ $prices{ $first->{price} } }{qw(period every)};
	my $trial = $params{trial} ? $self->{start} + $params{trial} : undef;
	$self->{trial_end} = $trial;
	$self->{anchor} = $params{anchor} // $trial // $self->{start};
	$self->{from} = $self->{start};
	$self->{until} = $trial // ($params{anchor} ? $params{anchor} : time_plus($self->{start}, $every, $period));
	$self->{number} = $trial || $params{anchor} ? -1 : 0;
	$self->{status} = $trial ? 'trialing' : 'incomplete';
	my $whole = $self->whole($first->{price}, $self->{until});
	my @lines = map {
		my $line = $self->line_of($_, $self->{from}, $self->{until}, $trial ? 0 : ($self->{until} - $self->{from}) / $whole,
			first => 1, proration => $params{flagged} ? 1 : 0);
		$line->{trial} = 1 if $trial;
		$line;
	} @{ $self->{items} };
	$self->emit('customer.subscription.created', $self->subscription_object);
	return $self->bill('subscription_create', @lines);
}

# Seconds of the whole period of a price that ends then.
sub whole
{
	my ($self, $id, $until) = @_;
	my ($period, $every) = @{ $prices{$id} // $prices{price_basic} }{qw(period every)};
	foreach my $k (-40 .. 400)
	{
		return $until - time_plus($self->{anchor}, ($k - 1) * $every, $period)
		  if time_plus($self->{anchor}, $k * $every, $period) == $until;
	}
	return $until - time_plus($until, -$every, $period);
}

# Makes an invoice of lines and finalizes it.
sub bill
{
	my ($self, $reason, @lines) = @_;
	my $total = sum0(map { $_->{amount} - ($_->{discount} // 0) } @lines);
	my $invoice = { id => $self->id('in'), lines => \@lines, reason => $reason, status => 'open', total => $total,
		created => $self->{t}, finalized => $self->{t}, balance => 0, due => max(0, $total), payments => [] };
	$invoice->{shown} = $self->{page} if $self->{page} && @lines > $self->{page};
	$_->{invoice} = $invoice->{id} foreach @lines;
	push @{ $self->{invoices} }, $invoice;
	# what is 0 or less is paid at once
	$self->emit('invoice.finalized', $self->invoice_object($invoice)) if $invoice->{due};
	return $invoice;
}

# balance: so much from the customer's, outside: of Stripe, payments: how many.
sub pay
{
	my ($self, $invoice, %params) = @_;
	$invoice->{balance} = min($params{balance} // 0, $invoice->{due});
	$invoice->{due} -= $invoice->{balance};
	$invoice->{outside} = $params{outside};
	my $count = $self->{shape} eq 'new' ? $params{payments} // 1 : 1;
	my $left = $invoice->{due};
	unless ($params{outside} || !$left)
	{
		foreach my $k (1 .. $count)
		{
			my $amount = $k == $count ? $left : int($invoice->{due} / $count);
			my $number = $self->id('x') =~ s/^x//r;
			my $payment = $invoice->{payments}[ $k - 1 ] //= { id => "pi$number", charge => "ch$number", refunded => 0, disputed => 0 };
			@$payment{qw(amount invoice)} = ($amount, $invoice);
			push @{ $self->{payments} }, $payment;
			$left -= $amount;
		}
	}
	@$invoice{qw(status paid)} = ('paid', $self->{t});
	$self->emit('invoice.paid', $self->invoice_object($invoice));
	if ($self->{shape} eq 'new')
	{
		$self->emit('invoice_payment.paid', { id => $self->id('inpay'), object => 'invoice_payment', invoice => $invoice->{id},
			amount_paid => $_->{amount}, amount_requested => $_->{amount}, currency => 'usd', status => 'paid', is_default => $true,
			livemode => $false, payment => { type => 'payment_intent', payment_intent => $_->{id} } })
		  foreach @{ $invoice->{payments} };
	}
	$self->become('active') if $self->{status} =~ /^(incomplete|past_due|unpaid)$/;
	return $invoice;
}

sub become
{
	my ($self, $status) = @_;
	$self->{status} = $status;
	$self->emit('customer.subscription.updated', $self->subscription_object);
	return $self;
}

sub fail
{
	my ($self, $invoice) = @_;
	$invoice->{attempts}++;
	my $number = $self->id('x') =~ s/^x//r;
	$invoice->{payments}[0] //= { id => "pi$number", charge => "ch$number", amount => 0, refunded => 0, disputed => 0 } if $self->{shape} eq 'old';
	$self->emit('invoice.payment_failed', $self->invoice_object($invoice));
	$self->become('past_due') if $self->{status} eq 'active';
	return $self;
}

sub void_invoice
{
	my ($self, $invoice) = @_;
	@$invoice{qw(status voided)} = ('void', $self->{t});
	$self->emit('invoice.voided', $self->invoice_object($invoice));
	return $self;
}

sub give_up
{
	my ($self, $invoice) = @_;
	@$invoice{qw(status given_up)} = ('uncollectible', $self->{t});
	$self->emit('invoice.marked_uncollectible', $self->invoice_object($invoice));
	return $self;
}

# Other prices or quantities: behavior create_prorations, always_invoice or none; now:
# a new period begins; an interval that is another one does that by itself.
sub change
{
	my ($self, $items, %params) = @_;
	my $behavior = $params{behavior} // 'create_prorations';
	my @before = map { {%$_} } @{ $self->{items} };
	my @after = map {
		my $i = $_;
		{ id => $before[$i] ? $before[$i]{id} : $self->id('si'), price => $items->[$i][0], quantity => $items->[$i][1] // 1 }
	} 0 .. $#$items;
	my ($t, $until) = @$self{qw(t until)};
	my $interval = sub { join ' ', @{ $prices{ $_[0]{price} } // $prices{price_basic} }{qw(period every)} };
	my $reset = $params{now} || $interval->($before[0]) ne $interval->($after[0]);
	my @lines;
	unless ($behavior eq 'none')
	{
		foreach my $i (0 .. max($#before, $#after))
		{
			my ($old, $new) = ($before[$i], $after[$i]);
			next if $old && $new && !$reset && $old->{price} eq $new->{price} && $old->{quantity} == $new->{quantity};
			# whether it was paid for or not
			push @lines, $self->proration($old, $t, $until, -1) if $old;
			push @lines, $self->proration($new, $t, $until, 1) if $new && !$reset;
		}
	}
	$self->{items} = \@after;
	if ($reset)
	{
		my ($period, $every) = @{ $prices{ $after[0]{price} } }{qw(period every)};
		@$self{qw(anchor from until number)} = ($t, $t, time_plus($t, $every, $period), 0);
	}
	foreach my $line (@lines)
	{
		$self->emit('invoiceitem.created', $self->item_object($line), $t);
	}
	push @{ $self->{pending} }, @lines;
	$self->{t} = $t;
	$self->emit('customer.subscription.updated', $self->subscription_object);
	return unless $reset || $behavior eq 'always_invoice';
	@lines = splice @{ $self->{pending} };
	push @lines, map { $self->line_of($_, $self->{from}, $self->{until}, 1) } @after if $reset;
	return @lines ? $self->bill('subscription_update', @lines) : undef;
}

sub proration
{
	my ($self, $item, $t, $until, $sign) = @_;
	my $share = $self->{status} eq 'trialing' ? 0 : $sign * ($until - $t) / $self->whole($item->{price}, $until);
	my $line = $self->line_of($item, $t, $until, $share, proration => 1);
	$line->{item} = $self->id('ii');
	$line->{negative} = $sign < 0;
	my ($invoice) = grep { $_->{reason} ne 'manual' } reverse @{ $self->{invoices} };
	$line->{credits} = [ $invoice->{id}, $invoice->{lines}[0]{id} ] if $sign < 0 && $invoice;
	return $line;
}

# An item that waits is deleted.
sub delete_item
{
	my ($self, $index) = @_;
	my ($line) = splice @{ $self->{pending} }, $index, 1;
	my $object = $self->item_object($line);
	$self->emit('invoiceitem.deleted', $object);
	return $self;
}

# The next period begins; its invoice has what waited.
sub renew
{
	my ($self) = @_;
	my ($period, $every) = @{ $prices{ $self->{items}[0]{price} } }{qw(period every)};
	my $number = ++$self->{number};
	@$self{qw(from until)} = map { time_plus($self->{anchor}, $_ * $every, $period) } $number, $number + 1;
	$self->{t} = max($self->{t}, $self->{from});
	$self->{status} = 'active' if $self->{status} eq 'trialing';
	$self->emit('customer.subscription.updated', $self->subscription_object);
	my @lines = splice @{ $self->{pending} };
	push @lines, map { $self->line_of($_, $self->{from}, $self->{until}, 1) } @{ $self->{items} };
	$self->{t} += 3600;
	my $invoice = $self->bill('subscription_cycle', @lines);
	$invoice->{created} -= 3600;
	return $invoice;
}

# prorate: what is not used is credited, on an invoice that never comes.
sub cancel
{
	my ($self, %params) = @_;
	my $t = $self->{t};
	if ($params{prorate})
	{
		my @lines = map { $self->proration($_, $t, $self->{until}, -1) } @{ $self->{items} };
		$self->emit('invoiceitem.created', $self->item_object($_), $t) foreach @lines;
		push @{ $self->{pending} }, @lines;
	}
	@$self{qw(status canceled)} = ('canceled', $t);
	$self->emit('customer.subscription.deleted', $self->subscription_object);
	return $self;
}

sub charge_object
{
	my ($self, $payment) = @_;
	return { id => $payment->{charge}, object => 'charge', payment_intent => $payment->{id}, amount => $payment->{amount},
		amount_captured => $payment->{amount}, amount_refunded => $payment->{refunded}, currency => 'usd', customer => 'cus_@@@@@@@',
		captured => $true, paid => $true, refunded => $payment->{refunded} == $payment->{amount} ? $true : $false,
		disputed => $payment->{disputed} ? $true : $false, livemode => $false, metadata => {}, status => 'succeeded',
		$self->{shape} eq 'old' ? (invoice => $payment->{invoice}{id}) : () };
}

# told: by the events of the charge, of the refund, or both; slow: it succeeds later,
# fails: or not at all.
sub refund
{
	my ($self, $payment, $amount, %params) = @_;
	my $told = $params{told} // 'both';
	my $refund = { id => $self->id('re'), object => 'refund', amount => $amount, charge => $payment->{charge}, created => $self->{t},
		currency => 'usd', livemode => $false, metadata => {}, payment_intent => $payment->{id}, reason => undef,
		status => $params{slow} || $params{fails} ? 'pending' : 'succeeded' };
	$payment->{refunded} += $amount;
	$self->emit('refund.created', {%$refund}) if $told ne 'charge';
	$self->emit('charge.refunded', $self->charge_object($payment)) if $told ne 'refund';
	if ($params{slow} || $params{fails})
	{
		$self->{t} += 60;
		$refund->{status} = $params{fails} ? 'failed' : 'succeeded';
		$payment->{refunded} -= $amount if $params{fails};
		$self->emit($self->{shape} eq 'old' ? 'charge.refund.updated' : 'refund.updated', {%$refund});
		$self->emit('refund.failed', {%$refund}) if $params{fails} && $self->{shape} eq 'new';
	}
	return $refund->{id};
}

sub dispute
{
	my ($self, $payment, $amount, %params) = @_;
	$payment->{disputed} += $amount;
	my $dispute = { id => $self->id($self->{shape} eq 'old' ? 'dp' : 'du'), object => 'dispute', amount => $amount, charge => $payment->{charge},
		currency => 'usd', created => $self->{t}, livemode => $false, metadata => {}, payment_intent => $payment->{id},
		reason => 'fraudulent', status => $params{inquiry} ? 'warning_needs_response' : 'needs_response', is_charge_refundable => $false };
	$self->emit('charge.dispute.created', {%$dispute});
	$self->emit('charge.dispute.funds_withdrawn', {%$dispute}) unless $params{inquiry};
	return $dispute;
}

sub close_dispute
{
	my ($self, $dispute, $status) = @_;
	$dispute->{status} = $status;
	$self->emit('charge.dispute.closed', {%$dispute});
	$self->emit('charge.dispute.funds_reinstated', {%$dispute}) if $status eq 'won';
	return $self;
}

# lines: [index, amount] of the invoice, or [undef, amount] for one of its own; refund:
# of the payment.
sub credit_note
{
	my ($self, $invoice, $lines, %params) = @_;
	my $amount = sum0(map { $_->[1] } @$lines);
	my $refund = $params{refund} ? $self->refund($params{refund}, $amount, told => $params{told}) : undef;
	my $open = $invoice->{status} eq 'open';
	$invoice->{due} = max(0, $invoice->{due} - $amount) if $open;
	my $note = { id => $self->id('cn'), object => 'credit_note', amount => $amount, subtotal => $amount, total => $amount, currency => 'usd',
		created => $self->{t}, customer => 'cus_@@@@@@@', invoice => $invoice->{id}, livemode => $false, metadata => {}, status => 'issued',
		type => $open ? 'pre_payment' : 'post_payment', reason => 'order_change', voided_at => undef, discount_amount => 0,
		pre_payment_amount => $open ? $amount : 0, post_payment_amount => $open ? 0 : $amount, out_of_band_amount => undef,
		refund => $refund,
		$self->{shape} eq 'old' ? () : (refunds => $refund ? [ { amount_refunded => $amount, refund => $refund, type => 'refund' } ] : []),
		lines => { object => 'list', has_more => $false, data => [
			map {
				my ($i, $part) = @$_;
				{ id => $self->id('cnli'), object => 'credit_note_line_item', amount => $part, discount_amount => 0, discount_amounts => [],
					invoice_line_item => defined $i ? $invoice->{lines}[$i]{id} : undef, livemode => $false, quantity => undef,
					type => defined $i ? 'invoice_line_item' : 'custom_line_item', unit_amount => undef }
			} @$lines ] } };
	$self->emit('credit_note.created', {%$note});
	return $note;
}

sub void_credit_note
{
	my ($self, $note) = @_;
	@$note{qw(status voided_at)} = ('void', $self->{t});
	$self->emit('credit_note.voided', {%$note});
	return $self;
}

1;
