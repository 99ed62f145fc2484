package CreditsHistories;

# Billing histories: chosen ones, each short enough for all orders of its events, and
# random ones.

use strict;
use warnings FATAL => 'all';

use CreditsBilling;
use Exporter 'import';
use List::Util qw(max min);

our @EXPORT = qw(billing_now chosen_histories random_history);

sub billing_now { return time_at('2027-03-20 12:00:00') }

my @lean = qw(customer.subscription.updated invoice.finalized);

# A history: what to leave out, when it begins, its items, and what happens.
sub history
{
	my ($name, $params, $does) = @_;
	return [ $name, sub {
		my ($shape) = @_;
		my %silent = map { $_ => 1 } @{ $params->{silent} // \@lean };
		my $b = CreditsBilling->new(shape => $shape, silent => \%silent, start => time_at($params->{start} // '2027-03-10 09:30:00'),
			items => $params->{items} // [ [ 'price_basic', 1 ] ],
			map { $_ => $params->{$_} } grep { exists $params->{$_} } qw(percent_off flexible page nameless));
		$does->($b);
		return $b->events;
	} ];
}

# All of them, by name.
sub chosen_histories
{
	my $day = 86400;
	my @open = ('customer.subscription.updated');
	my $basic = sub { my ($b, %p) = @_; return $b->pay($b->create(%p)); };

	return (
		history('paid, half of it refunded', {}, sub {
			my ($b) = @_; my $i = $basic->($b); $b->wait($day)->refund($i->{payments}[0], 500, told => 'both') }),
		history('refunds that are slow, fail and are told by the charge alone', {}, sub {
			my ($b) = @_; my $p = $basic->($b)->{payments}[0];
			$b->refund($p, 400, fails => 1, told => 'both'); $b->wait(60)->refund($p, 300, told => 'charge') }),
		history('an upgrade that waits for the next invoice, half of the period refunded', {}, sub {
			my ($b) = @_; my $i = $basic->($b); $b->wait(4 * $day)->change([ [ 'price_pro', 1 ] ]);
			$b->wait($day)->refund($i->{payments}[0], 500, told => 'charge') }),
		history('an upgrade and its way back', { flexible => 1 }, sub {
			my ($b) = @_; $basic->($b); $b->wait(2 * $day)->change([ [ 'price_pro', 1 ] ]);
			$b->wait(2 * $day)->change([ [ 'price_basic', 1 ] ]) }),
		history('a downgrade', { items => [ [ 'price_pro', 1 ] ] }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->wait(5 * $day)->change([ [ 'price_basic', 1 ] ]);
			$b->wait($day)->refund($i->{payments}[0], 1500, told => 'refund') }),
		history('a downgrade, everything refunded', { items => [ [ 'price_pro', 1 ] ] }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->wait(5 * $day)->change([ [ 'price_basic', 1 ] ]);
			$b->wait($day)->refund($i->{payments}[0], 3000, told => 'charge') }),
		history('an upgrade that is paid at once and refunded', {}, sub {
			my ($b) = @_; $basic->($b); my $i = $b->wait(3 * $day)->change([ [ 'price_pro', 1 ] ], behavior => 'always_invoice');
			$b->pay($i); $b->refund($i->{payments}[0], $i->{total}, told => 'charge') if $b->{shape} eq 'old' }),
		history('an upgrade whose payment fails', { silent => \@open }, sub {
			my ($b) = @_; $basic->($b); my $i = $b->wait(3 * $day)->change([ [ 'price_pro', 1 ] ], behavior => 'always_invoice');
			$b->fail($i) }),
		history('an upgrade whose payment fails, and is made', { silent => [ @lean, 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); my $i = $b->wait(3 * $day)->change([ [ 'price_pro', 1 ] ], behavior => 'always_invoice');
			$b->fail($i); $b->wait($day)->pay($i) }),
		history('an upgrade whose invoice is given up and voided', { silent => [ @lean, 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); my $i = $b->wait(3 * $day)->change([ [ 'price_pro', 1 ] ], behavior => 'always_invoice');
			$b->fail($i); $b->give_up($i); $b->wait($day)->void_invoice($i) }),
		history('given up, but paid', {}, sub {
			my ($b) = @_; my $i = $b->create; $b->fail($i); $b->give_up($i); $b->wait($day)->pay($i) }),
		history('seats, more and fewer', { items => [ [ 'price_seat', 5 ] ], silent => [ @lean, 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); $b->wait(3 * $day)->change([ [ 'price_seat', 8 ] ]);
			$b->wait(2 * $day)->change([ [ 'price_seat', 2 ] ]) }),
		history('one of two items is taken away', { items => [ [ 'price_basic', 1 ], [ 'price_pro', 2 ] ], silent => [ 'invoice.finalized', 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); $b->wait(3 * $day)->change([ [ 'price_basic', 1 ] ]) }),
		history('metered usage instead of seats', { items => [ [ 'price_seat', 5 ] ], silent => [ 'invoice.finalized', 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); $b->wait(3 * $day);
			push @{ $b->{pending} }, my $credit = $b->proration($b->{items}[0], $b->{t}, $b->{until}, -1);
			$b->emit('invoiceitem.created', $b->item_object($credit), $b->{t}); $b->{items}[0]{price} = 'price_usage';
			$b->emit('customer.subscription.updated', $b->subscription_object) }),
		history('a proration that waits is deleted', {}, sub {
			my ($b) = @_; $basic->($b); $b->wait(3 * $day)->change([ [ 'price_pro', 1 ] ]); $b->wait($day)->delete_item(1) }),
		history('from free to paid, in a period of its own', { items => [ [ 'price_free', 1 ] ] }, sub {
			my ($b) = @_; $basic->($b); $b->pay($b->wait(4 * $day)->change([ [ 'price_pro', 1 ] ], now => 1)) }),
		history('from month to year', { silent => [ 'invoice.finalized', 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); $b->pay($b->wait(4 * $day)->change([ [ 'price_year', 1 ] ])) }),
		history('from year to month', { start => '2027-02-01 00:00:00', items => [ [ 'price_year', 1 ] ], silent => [ 'invoice.finalized', 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); $b->pay($b->wait(40 * $day)->change([ [ 'price_basic', 1 ] ])) }),
		history('a future anchor', {}, sub {
			my ($b) = @_; my $i = $basic->($b, anchor => time_at('2027-03-22 09:30:00'));
			$b->wait($day)->refund($i->{payments}[0], 100, told => 'both') }),
		history('from year to quarter, the year refunded in part', { start => '2027-02-01 00:00:00', items => [ [ 'price_year', 1 ] ], silent => [ @lean, 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->pay($b->wait(20 * $day)->change([ [ 'price_quarter', 1 ] ]));
			$b->wait($day)->refund($i->{payments}[0], 2000, told => 'charge') if $b->{shape} eq 'old';
			$b->wait($day)->refund($i->{payments}[0], 2000, told => 'refund') if $b->{shape} eq 'new' }),
		history('from year to quarter, the year refunded', { start => '2027-02-01 00:00:00', items => [ [ 'price_year', 1 ] ] }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->pay($b->wait(20 * $day)->change([ [ 'price_quarter', 1 ] ]));
			$b->wait($day)->refund($i->{payments}[0], 10000, told => 'charge') }),
		history('from year to quarter to week, the year disputed', { start => '2027-02-01 00:00:00', items => [ [ 'price_year', 1 ] ], silent => [ @lean, 'invoiceitem.created' ] }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->pay($b->wait(20 * $day)->change([ [ 'price_quarter', 1 ] ]));
			$b->pay($b->wait(20 * $day)->change([ [ 'price_week', 1 ] ])); $b->dispute($i->{payments}[0], 9500, inquiry => 0) }),
		history('a downgrade that waits and pays for the next period, refunded', { start => '2027-02-15 08:00:00', items => [ [ 'price_max', 1 ] ], silent => [ @lean, 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->wait(5 * $day)->change([ [ 'price_basic', 1 ] ]); $b->pay($b->renew);
			$b->refund($i->{payments}[0], 6000, told => 'charge') if $b->{shape} eq 'old' }),
		history('a future anchor, flagged as proration, of two items', { items => [ [ 'price_basic', 2 ], [ 'price_pro', 1 ] ] }, sub {
			my ($b) = @_; $basic->($b, anchor => time_at('2027-03-31 00:00:00'), flagged => 1); $b->wait($day)->change([ [ 'price_basic', 2 ] ]) }),
		history('a trial that is over', { start => '2027-03-05 10:00:00', items => [ [ 'price_pro', 1 ] ] }, sub {
			my ($b) = @_; $b->pay($b->create(trial => 7 * $day)); $b->pay($b->renew) }),
		history('a trial', { items => [ [ 'price_pro', 1 ] ], silent => [] }, sub {
			my ($b) = @_; $b->pay($b->create(trial => 14 * $day)) }),
		history('a trial that is canceled', { start => '2027-03-18 09:30:00', items => [ [ 'price_pro', 1 ] ] }, sub {
			my ($b) = @_; $b->pay($b->create(trial => 14 * $day)); $b->wait($day)->cancel }),
		history('two items, one credited by a note, the rest refunded', { items => [ [ 'price_basic', 1 ], [ 'price_pro', 2 ] ] }, sub {
			my ($b) = @_; my $i = $basic->($b); my $p = $i->{payments}[0];
			$b->credit_note($i, [ [ 1, 3000 ] ], refund => $p, told => 'both'); $b->wait($day)->refund($p, 700, told => 'refund') }),
		history('two items, all refunded', { items => [ [ 'price_basic', 1 ], [ 'price_seat', 3 ] ], silent => [] }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->refund($i->{payments}[0], $i->{total}, told => 'charge') }),
		history('a note of a line of its own', {}, sub {
			my ($b) = @_; my $i = $basic->($b); $b->credit_note($i, [ [ 0, 300 ], [ undef, 250 ] ]) }),
		history('a note that is voided before the payment', {}, sub {
			my ($b) = @_; my $i = $b->create; my $n = $b->credit_note($i, [ [ 0, 300 ] ]); $b->void_credit_note($n); $b->pay($i) }),
		history('a note before the payment', {}, sub {
			my ($b) = @_; my $i = $b->create; $b->credit_note($i, [ [ 0, 250 ] ]); $b->pay($i) }),
		history('a dispute that is won', {}, sub {
			my ($b) = @_; my $i = $basic->($b); my $d = $b->dispute($i->{payments}[0], 1000); $b->wait($day)->close_dispute($d, 'won') }),
		history('a dispute that is lost', {}, sub {
			my ($b) = @_; my $i = $basic->($b); my $d = $b->dispute($i->{payments}[0], 600); $b->wait($day)->close_dispute($d, 'lost') }),
		history('two disputes, one won and one lost', { silent => [ @lean, 'charge.dispute.funds_withdrawn', 'charge.dispute.funds_reinstated' ] }, sub {
			my ($b) = @_; my $p = $basic->($b)->{payments}[0]; my @d = map { $b->dispute($p, $_) } 300, 450;
			$b->close_dispute($d[0], 'won'); $b->close_dispute($d[1], 'lost') }),
		history('an inquiry', {}, sub {
			my ($b) = @_; my $d = $b->dispute($basic->($b)->{payments}[0], 1000, inquiry => 1); $b->close_dispute($d, 'warning_closed') }),
		history('a coupon of a quarter', { percent_off => 25 }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->wait(3 * $day)->change([ [ 'price_pro', 1 ] ]); $b->refund($i->{payments}[0], 375, told => 'charge') }),
		history('a coupon of everything', { percent_off => 100 }, sub { my ($b) = @_; $basic->($b) }),
		history('a coupon of everything, and an upgrade that waits', { percent_off => 100, flexible => 1 }, sub {
			my ($b) = @_; $basic->($b); $b->wait(3 * $day)->change([ [ 'price_pro', 1 ] ]) }),
		history('a coupon of everything, and an upgrade at once', { percent_off => 100, flexible => 1 }, sub {
			my ($b) = @_; $basic->($b); $b->pay($b->wait(3 * $day)->change([ [ 'price_pro', 1 ] ], behavior => 'always_invoice')) }),
		history('from free to paid and back, without a new period', { items => [ [ 'price_free', 1 ] ], silent => [ @lean, 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); $b->pay($b->wait(3 * $day)->change([ [ 'price_pro', 1 ] ], behavior => 'always_invoice'));
			$b->wait(3 * $day)->change([ [ 'price_free', 1 ] ]) }),
		history('another plan within a trial', { items => [ [ 'price_pro', 1 ] ], flexible => 1 }, sub {
			my ($b) = @_; $b->pay($b->create(trial => 14 * $day)); $b->wait($day)->change([ [ 'price_basic', 1 ] ]) }),
		history('partly paid from the balance, the rest refunded', {}, sub {
			my ($b) = @_; my $i = $b->pay($b->create, balance => 400); $b->refund($i->{payments}[0], 600, told => 'both') }),
		history('paid out of band', { silent => [] }, sub {
			my ($b) = @_; my $i = $b->pay($b->create, outside => 1); $b->wait($day)->change([ [ 'price_basic', 3 ] ]) }),
		history('paid by two payments, one refunded', {}, sub {
			my ($b) = @_; my $i = $b->pay($b->create, payments => 2); my $p = $i->{payments}[-1]; $b->refund($p, $p->{amount}) }),
		history('canceled, the rest credited', {}, sub { my ($b) = @_; $basic->($b); $b->wait(3 * $day)->cancel(prorate => 1) }),
		history('canceled, and renewed never', { start => '2027-02-25 01:02:03' }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->wait(3 * $day)->cancel; $b->dispute($i->{payments}[0], 1000) }),
		history('one period paid twice, one payment refunded', { silent => [ 'invoice_payment.paid', @lean ] }, sub {
			my ($b) = @_; my $i = $basic->($b);
			my $again = $b->bill('manual', map { { %$_, id => $b->id('il') } } @{ $i->{lines} });
			delete $b->{silent}{'invoice_payment.paid'}; $b->pay($again); $b->refund($again->{payments}[0], 1000, told => 'charge') }),
		history('more lines than an event has', { page => 2, items => [ [ 'price_basic', 1 ], [ 'price_pro', 1 ], [ 'price_seat', 2 ] ] }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->complete($i); $b->refund($i->{payments}[0], 2700, told => 'both') }),
		history('a renewal with what waited', { start => '2027-02-15 08:00:00', silent => [ @lean, 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); $b->wait(10 * $day)->change([ [ 'price_pro', 1 ] ]); $b->pay($b->renew) }),
		history('a renewal with what waited fails', { start => '2027-02-15 08:00:00', silent => [ @open, 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); $b->wait(10 * $day)->change([ [ 'price_pro', 1 ] ]); my $i = $b->renew; $b->fail($i) }),
		history('a renewal that is voided, and one that is given up, while it pauses', { start => '2027-01-15 08:00:00' }, sub {
			my ($b) = @_; $basic->($b); $b->{paused} = 'void'; $b->void_invoice($b->renew); $b->{paused} = 'mark_uncollectible'; $b->give_up($b->renew) }),
		history('paid when its period was over', { start => '2027-01-10 08:00:00' }, sub {
			my ($b) = @_; $basic->($b); my $i = $b->renew; $b->fail($i); $b->wait(35 * $day)->pay($i) }),
		history('an upgrade paid when its period was over', { start => '2027-02-12 08:00:00', silent => [ @lean, 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); my $i = $b->wait(14 * $day)->change([ [ 'price_pro', 1 ] ], behavior => 'always_invoice');
			$b->wait(16 * $day)->pay($i) }),
		history('an upgrade that is given when it is paid', { items => [ [ 'price_basic', 1 ] ], start => '2027-02-15 08:00:00', silent => [ @lean, 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); $b->wait(20 * $day)->change([ [ 'price_waits', 1 ] ]); $b->pay($b->renew) }),
		history('an invoice that is sent, and given up', { items => [ [ 'price_sent', 1 ] ], silent => [] }, sub {
			my ($b) = @_; my $i = $b->create; $b->wait($day)->give_up($i) }),
		history('an invoice that is sent, and paid', { items => [ [ 'price_sent', 1 ] ], silent => [] }, sub {
			my ($b) = @_; my $i = $b->create; $b->wait($day)->pay($i, outside => 1) }),
		history('an invoice that is sent, and refunded before it is known to be paid', { items => [ [ 'price_sent', 1 ] ], silent => [ 'invoice.paid', 'invoice_payment.paid', 'customer.subscription.updated' ] }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->wait($day)->refund($i->{payments}[0], 1500, told => 'charge') }),
		history('an upgrade from free, refunded and credited by a note as well', { items => [ [ 'price_free', 1 ] ], start => '2027-02-25 16:45:48',
			silent => [ @lean, 'invoiceitem.created', 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $b->pay($b->create); my $i = $b->wait(3 * $day + 7000)->change([ [ 'price_basic', 1 ] ], behavior => 'always_invoice');
			$b->pay($i, balance => 150); my $p = $i->{payments}[0]; $b->wait($day)->refund($p, $p->{amount}, told => $b->{shape} eq 'old' ? 'charge' : 'refund');
			$b->credit_note($i, [ [ 1, $i->{total} - 100 ] ]) }),
		history('an upgrade from free that is given when it is paid, after its period', { items => [ [ 'price_free', 1 ] ], start => '2027-02-12 12:24:18',
			silent => [ @lean, 'invoiceitem.created', 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $b->pay($b->create); $b->wait(9 * $day)->change([ [ 'price_waits', 1 ] ]); my $i = $b->renew; $b->wait(2 * $day)->pay($i) }),
		history('from the last of January', { start => '2027-01-31 12:00:00', silent => [ @lean, 'invoice_payment.paid' ] }, sub {
			my ($b) = @_; $basic->($b); $b->pay($b->renew); $b->wait(9 * $day)->change([ [ 'price_max', 1 ] ]) }),
		history('three months', { start => '2026-12-31 12:00:00', items => [ [ 'price_quarter', 2 ] ] }, sub {
			my ($b) = @_; $basic->($b); $b->wait(50 * $day)->change([ [ 'price_quarter', 1 ] ]) }),
		history('weeks', { start => '2027-03-06 12:30:00', items => [ [ 'price_week', 1 ] ] }, sub {
			my ($b) = @_; $basic->($b); $b->pay($b->renew); $b->wait($day)->change([ [ 'price_week', 3 ] ]) }),
		history('an account that the session names', { nameless => 1 }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->session($i); $b->wait(2 * $day)->change([ [ 'price_pro', 1 ] ]) }),
		history('metered lines beside', { items => [ [ 'price_basic', 1 ], [ 'price_usage', 1 ] ] }, sub {
			my ($b) = @_; my $i = $basic->($b); $b->refund($i->{payments}[0], 250) }),
		history('no prorations', {}, sub {
			my ($b) = @_; $basic->($b); $b->wait(2 * $day)->change([ [ 'price_pro', 1 ] ], behavior => 'none');
			$b->wait(2 * $day)->change([ [ 'price_basic', 1 ] ], behavior => 'always_invoice') }),
	);
}

sub one_of { return $_[ int rand @_ ] }

# A history of some months, by chance; what is asked of Stripe is what it allows.  With
# refunded => 1, everything is paid by card and refunded in the end.
sub random_history
{
	my ($shape, %params) = @_;
	my $now = billing_now();
	my @prices = qw(price_basic price_basic price_pro price_pro price_max price_seat);
	my $card = $params{refunded};
	my $items = sub {
		my $count = rand() < 0.25 ? 2 : 1;
		my @list = map { [ one_of(@prices), rand() < 0.3 ? 1 + int rand 6 : 1 ] } 1 .. $count;
		$list[0] = [ one_of($card ? () : 'price_free', qw(price_waits price_quarter price_year price_week), $card ? () : 'price_sent'), 1 ] if rand() < 0.2;
		# Stripe wants one interval of all
		return [ $list[0] ] if $list[0][0] =~ /quarter|year|week/;
		return \@list;
	};
	my $months = one_of(0, 0, 1, 1, 2, 3);
	my $start = time_plus($now, -$months, 'month') - int(86400 * (1 + rand 24));
	my $b = CreditsBilling->new(shape => $shape, start => $start, items => $items->(), percent_off => one_of(0, 0, 0, 25, 50),
		flexible => int rand 2, nameless => rand() < 0.1 ? 1 : 0, silent => { map { $_ => 1 } grep { rand() < 0.3 } @lean },
		rand() < 0.1 ? (page => 2) : ());
	# an endpoint gets the same types of events all the time
	my $told = one_of(qw(both both charge refund));
	my %create;
	if (rand() < 0.15 && !$card) { $create{trial} = 86400 * (3 + int rand 12) }
	elsif (rand() < 0.2 && $b->{items}[0]{price} =~ /basic|pro|max|seat/)
	{
		%create = (anchor => $start + int(86400 * (2 + rand 24)), flagged => int rand 2);
	}
	my $invoice = $b->create(%create);
	$b->session($invoice) if $b->{nameless};
	my (@paid, %touched);
	my $collect = sub {
		my ($i) = @_;
		return unless $i;
		my $chance = rand();
		if (!$i->{due}) { $b->pay($i) }
		elsif ($chance < 0.1)
		{
			$b->fail($i);
			my $end = rand();
			if ($end < 0.4) { $b->wait(3600 * (1 + int rand 40))->pay($i) }
			elsif ($end < 0.6) { $b->void_invoice($i) }
			elsif ($end < 0.8) { $b->give_up($i); $b->pay($i, outside => 1) if rand() < 0.3 && !$card }
		}
		else
		{
			$b->credit_note($i, [ [ 0, 1 + int rand min($i->{due}, $i->{lines}[0]{amount}) / 3 ] ])
			  if $i->{lines}[0]{amount} > 30 && !$b->{percent_off} && !$card && rand() < 0.1;
			$b->pay($i, balance => $card ? 0 : one_of(0, 0, 0, 150), outside => rand() < 0.1 && !$card ? 1 : 0, payments => one_of(1, 1, 2));
		}
		push @paid, $i if $i->{status} eq 'paid';
		$b->complete($i) if $i->{shown} && rand() < 0.8;
	};
	$collect->($invoice);
	my $steps = 2 + int rand 7;
	while ($steps-- > 0 && $b->{t} < $now - 3 * 86400)
	{
		$b->wait(60 + int rand 86400 * 6);
		last if $b->{t} >= $now - 2 * 86400;
		if ($b->{t} >= $b->{until})
		{
			$collect->($b->renew);
			next;
		}
		my @left = grep { $_->{amount} - $_->{refunded} - $_->{disputed} > 10 } @{ $b->{payments} };
		my $chance = rand();
		if ($chance < 0.4 && $b->{status} ne 'trialing')
		{
			my $to = $items->();
			# another interval takes a new period, which makes an invoice at once
			my $i = $b->change($to, behavior => one_of(qw(create_prorations create_prorations always_invoice always_invoice none)),
				now => rand() < 0.15 ? 1 : 0);
			$collect->($i);
		}
		elsif ($chance < 0.6 && @left)
		{
			my $payment = one_of(@left);
			my $left = $payment->{amount} - $payment->{refunded} - $payment->{disputed};
			my $amount = rand() < 0.3 ? $left : 1 + int rand $left;
			$b->refund($payment, $amount, told => $told, slow => rand() < 0.2 ? 1 : 0, fails => rand() < 0.15 && !$card ? 1 : 0);
		}
		elsif ($chance < 0.75 && @left)
		{
			my $payment = one_of(@left);
			my $d = $b->dispute($payment, 1 + int rand($payment->{amount} - $payment->{refunded} - $payment->{disputed}));
			$b->wait(3600)->close_dispute($d, $card ? 'lost' : one_of(qw(won lost))) if rand() < 0.7;
		}
		elsif ($chance < 0.85 && @paid && !$b->{percent_off} && !$card)
		{
			my $i = one_of(grep { $_->{total} > 0 } @paid) or next;
			my @lines = grep { $i->{lines}[$_]{amount} > 10 } 0 .. $#{ $i->{lines} };
			my ($p) = grep { $_->{amount} - $_->{refunded} - $_->{disputed} > 5 } @{ $i->{payments} };
			next unless @lines;
			my $n = one_of(@lines);
			my $most = $i->{lines}[$n]{amount};
			$most = min($most, $i->{total});
			$most = min($most, $p->{amount} - $p->{refunded} - $p->{disputed}) if $p;
			$b->credit_note($i, [ [ rand() < 0.8 ? $n : undef, 1 + int rand $most ] ], $p && rand() < 0.6 ? (refund => $p, told => $told) : ());
		}
		elsif ($chance < 0.9 && @{ $b->{pending} }) { $b->delete_item(int rand @{ $b->{pending} }) }
		elsif ($chance < 0.94) { $b->cancel(prorate => int rand 2); last }
	}
	# on to the present
	while ($b->{status} ne 'canceled' && $b->{until} < $now - 86400)
	{
		$collect->($b->renew);
	}
	if ($params{refunded})
	{
		$b->delete_item(0) while @{ $b->{pending} };
		foreach my $payment (@{ $b->{payments} })
		{
			my $left = $payment->{amount} - $payment->{refunded} - $payment->{disputed};
			$b->refund($payment, $left, told => $told) if $left > 0;
		}
		return ('refunded', $b->events);
	}
	return $b->events;
}

1;
