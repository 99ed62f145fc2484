package CreditsBillingModel;

# What the events of a subscription come to, whatever their order: sums over the facts
# that they state.  Written from the rules alone (doc/stripe.md), and not from the code
# that is tested.

use strict;
use warnings FATAL => 'all';

use CreditsBilling;
use Exporter 'import';
use List::Util qw(any first max min sum0);
use Math::BigInt lib => 'GMP,FastCalc';

our @EXPORT = qw(billing_model);

my %rank = (draft => 0, open => 1, uncollectible => 2, paid => 3, void => 4);

# events; now: seconds; spent and given: by the end of a period, what was spent of its
# credits, and what had been given for it when that was.
sub billing_model
{
	my ($events, $now, $spent, $given) = @_;
	my $facts = facts_of($events);
	my %end = (balance => 0, debt => 0, granted => 0, periods => {}, attention => 0);
	my $carried = 0;
	my %groups;

	push @{ $groups{ $_->{end} }{ $_->{group} }{lines} }, $_ foreach lines_that_count($facts, \%end);
	foreach my $p (keys %groups)
	{
		foreach my $id (keys %{ $groups{$p} })
		{
			my $group = $groups{$p}{$id};
			my @lines = @{ $group->{lines} };
			my $credits = rounded(sum_of(map { $_->{credits} } @lines));
			my $back = (grep { !at_least_one($_->{share}) } @lines) ? int_of(sum_of(map { product_of($_->{credits}, $_->{share}) } @lines)) : $credits;
			@$group{qw(p credits back)} = ($p, $credits, $credits >= 0 ? max(0, min($credits, $back)) : min(0, max($credits, $back)));
			$group->{amount} = sum0(map { $_->{amount} - $_->{discount} } @lines);
			$group->{invoice} = $facts->{invoices}{$id};
		}
	}
	paid_by_credits(map { values %$_ } values %groups);
	foreach my $p (sort { $a <=> $b } keys %groups)
	{
		my ($positive, $negative, $reversed, $lives) = (0, 0, 0, 0);
		foreach (values %{ $groups{$p} })
		{
			my ($credits, $group) = @$_{qw(credits lines)};
			if ($credits >= 0)
			{
				$positive += $credits;
				$reversed += $_->{back};
				my $settled = min(map { $_->{settled} } grep { !$_->{negative} } @$group) // $p;
				my $life = $settled > $p ? $settled + $p - min(map { $_->{start} } @$group) : $p;
				$lives += $credits if $life > $now;
			}
			else
			{
				$negative += $_->{back} - $credits;
			}
		}
		my $used = $spent->{$p} // 0;
		my $granted = max($given->{$p} // 0, $positive);
		my $due = max(0, $positive - $negative);
		my $claim = min($reversed, $due);
		# what was used above it counts as given in the next period, however many
		# periods it takes; what was paid back is not taken for that, too
		my $take = $granted - $due + $carried;
		my $taken = max(0, min($take, $granted - $used, $granted - $claim));
		my $left = $granted - $used - $taken;
		$end{periods}{$p} = { granted => $positive, net => $due - $claim };
		$end{granted} += $positive;
		$end{debt} += max(0, $claim - $left) if $used;
		# of a period that is over, only what was settled late
		$end{balance} += max(0, min($left - $claim, $lives == $positive ? $left : $lives - $take - $claim - $used));
		$carried = $take - $taken;
	}
	return \%end;
}

# What an invoice of 0 or less bills was paid for by what it credits.  Of money that goes
# back of a period, first goes what earlier invoices have left due there, then what the
# credit has bought.
sub paid_by_credits
{
	my @groups = grep { $_->{invoice} } @_;
	my $order = sub { $_[0]{status_transitions}{finalized_at} <=> $_[1]{status_transitions}{finalized_at} || $_[0]{id} cmp $_[1]{id} };
	my %invoices = map { $_->{invoice}{id} => $_->{invoice} } @groups;
	foreach my $invoice (sort { $order->($a, $b) } grep { $_->{total} <= 0 && $_->{status} eq 'paid' } values %invoices)
	{
		my @own = grep { $_->{invoice} == $invoice } @groups;
		my @credits = grep { $_->{credits} < 0 && $_->{amount} < 0 } @own;
		my @bought = grep { $_->{credits} > 0 } @own;
		# more credits for no more money: the period's own has paid them
		foreach my $more (grep { $_->{amount} <= 0 && grep { $_->{negative} } @{ $_->{lines} } } @bought)
		{
			my @before = grep { $_->{p} == $more->{p} && $order->($_->{invoice}, $invoice) < 0 } @groups;
			my $due = sum0(map { $_->{credits} - ($_->{credits} < 0 ? $_->{back} : 0) } @before);
			# more was credited than was ever paid
			$due = sum0(map { max(0, $_->{credits}) } @before) if $due <= 0;
			next if $due == 0;
			my $back = min($due, sum0(map { $_->{back} } grep { $_->{credits} > 0 } @before));
			$more->{back} = min($more->{credits}, $more->{back} + int_of(product_of(ratio($more->{credits}, 1), ratio($back, $due))));
		}
		my $cost = min(sum0(map { max(0, $_->{amount}) } @bought), sum0(map { -$_->{amount} } @credits)) or next;
		my $gone = ratio(0, 1);
		foreach my $credit (@credits)
		{
			my @before = grep { $_->{p} == $credit->{p} && $order->($_->{invoice}, $invoice) < 0 } @groups;
			my $due = max(0, sum0(map { $_->{credits} - ($_->{credits} < 0 ? $_->{back} : 0) } @before));
			my $back = sum0(map { $_->{back} } grep { $_->{credits} > 0 } @before);
			my $mine = min(sum0(map { max(0, $_->{credits}) } @before), -$credit->{credits});
			my $rest = max(0, $due + $credit->{credits});
			$gone = sum_of($gone, ratio(-$credit->{amount} * max(0, min($mine, $back - $rest)), $mine));
		}
		my $share = at_least_one(product_of($gone, ratio(1, $cost))) ? ratio(1, 1) : product_of($gone, ratio(1, $cost));
		$_->{back} = min($_->{credits}, $_->{back} + int_of(product_of(ratio($_->{credits}, 1), $share))) foreach @bought;
	}
	return;
}

# --------------------------------------------------------------------------
# facts: the newest of each object, and what only grows

sub facts_of
{
	my ($events) = @_;
	my %f = map { $_ => {} } qw(invoices items notes refunds disputes charges links anchors);
	foreach my $event (sort { $a->{created} <=> $b->{created} || $a->{id} cmp $b->{id} } @$events)
	{
		my ($type, $o) = @$event{qw(type object)};
		if ($type =~ /^invoice\.(finalized|paid|payment_failed|voided|marked_uncollectible)$/)
		{
			my $known = $f{invoices}{ $o->{id} };
			$f{invoices}{ $o->{id} } = $o unless $known && $rank{ $known->{status} } > $rank{ $o->{status} };
			$f{links}{ $o->{payment_intent} } = $o->{id} if $o->{payment_intent};
		}
		elsif ($type =~ /^invoiceitem\.(\w+)$/)
		{
			my $gone = ($f{items}{ $o->{id} } // {})->{gone} || $1 eq 'deleted';
			$f{items}{ $o->{id} } = { %$o, gone => $gone };
		}
		elsif ($type eq 'invoice_payment.paid') { $f{links}{ $o->{payment}{payment_intent} } = $o->{invoice} }
		elsif ($type =~ /^credit_note/) { $f{notes}{ $o->{id} } = $o }
		elsif ($type eq 'charge.refunded')
		{
			push @{ $f{charges}{ $o->{payment_intent} } }, [ $event->{created}, $o->{amount_refunded} ];
			$f{links}{ $o->{payment_intent} } = $o->{invoice} if $o->{invoice};
		}
		elsif ($type =~ /dispute/) { $f{disputes}{ $o->{id} } = $o }
		elsif ($type =~ /refund/) { $f{refunds}{ $o->{id} } = { %$o, told => $event->{created} } }
		elsif ($type =~ /^customer\.subscription/)
		{
			$f{status} = $o->{status} unless ($f{status} // '') eq 'canceled';
			$f{named} ||= defined $o->{metadata}{account};
			# the newest comes last
			$f{has} = $o->{items}{data};
			$f{over} ||= $type =~ /deleted$/;
			$f{anchors}{ $o->{billing_cycle_anchor} } = $event->{created};
			push @{ $f{trials} }, [ $o->{trial_start}, $o->{trial_end} ] if $o->{trial_end};
		}
		elsif ($type eq 'lines') { $f{complete}{ $o->{invoice} } = $o->{lines} }
		elsif ($type eq 'checkout.session.completed') { $f{named} ||= defined $o->{client_reference_id} }
	}
	return \%f;
}

# Money back for an invoice, without the refunds of its credit notes: what the newest
# events of the charges say, or what the refunds say, whichever knows of more.
sub money_back
{
	my ($f, $invoice) = @_;
	my ($by_charges, $by_refunds, $disputed) = (0, 0, 0);
	my @payments = grep { $f->{links}{$_} eq $invoice->{id} } keys %{ $f->{links} };
	foreach my $payment (@payments)
	{
		my @refunds = grep { $_->{payment_intent} eq $payment } values %{ $f->{refunds} };
		my @failed = grep { $_->{status} =~ /^(failed|canceled)$/ } @refunds;
		my $stand = sum0(map { $_->{amount} } @refunds) - sum0(map { $_->{amount} } @failed);
		my @told = @{ $f->{charges}{$payment} // [] };
		my $newest = max(0, map { $_->[0] } @told);
		my $charge = max(0, map {
			my ($at, $amount) = @$_;
			$amount - sum0(map { $_->{amount} } grep { $_->{created} <= $at && $_->{told} > $at } @failed)
		} grep { $_->[0] == $newest } @told);
		$by_refunds += $stand;
		$by_charges += max($stand, $charge);
		$disputed += sum0(map { $_->{amount} } grep { $_->{payment_intent} eq $payment && $_->{status} !~ /^(won|warning_.*)$/ }
			values %{ $f->{disputes} });
	}
	foreach my $note (grep { $_->{invoice} eq $invoice->{id} } values %{ $f->{notes} })
	{
		my %amounts = ($note->{refund} ? ($note->{refund} => $note->{amount}) : (),
			map { $_->{refund} => $_->{amount_refunded} } @{ $note->{refunds} // [] });
		foreach my $id (keys %amounts)
		{
			my $refund = $f->{refunds}{$id};
			next if $refund && $refund->{status} =~ /^(failed|canceled)$/;
			# it has not counted if nobody has said yet that its payment is one of these
			next if $refund && !any { $_ eq $refund->{payment_intent} } @payments;
			$by_charges -= $amounts{$id};
			$by_refunds -= $amounts{$id} if $refund;
		}
	}
	return max(0, $by_charges, $by_refunds) + $disputed;
}

# --------------------------------------------------------------------------
# lines, in one form

sub plain
{
	my ($o) = @_;
	my $details = $o->{parent} && ($o->{parent}{subscription_item_details} // $o->{parent}{invoice_item_details});
	my $pricing = $o->{pricing};
	my $price = $pricing ? $pricing->{price_details}{price} : $o->{price}{id};
	my $credited = ($details // $o)->{proration_details};
	my $of = $o->{parent} && $o->{parent}{subscription_details} || $details || $o;
	return { id => $o->{id}, si => $of->{subscription_item}, start => $o->{period}{start}, end => $o->{period}{end}, amount => $o->{amount},
		quantity => $o->{quantity} // 1, price => $price, plan => billing_prices()->{$price},
		discount => sum0(map { $_->{amount} } @{ $o->{discount_amounts} // [] }),
		unit => $pricing ? $pricing->{unit_amount_decimal} : $o->{price}{unit_amount},
		proration => ($details && defined $details->{proration} ? $details : $o)->{proration},
		item => $o->{object} eq 'invoiceitem' ? $o->{id} : $details ? $details->{invoice_item} : $o->{invoice_item},
		negative => $o->{amount} < 0 || $credited && $credited->{credited_items} };
}

# The lines that count, each with its exact credits and its reversed share.
sub lines_that_count
{
	my ($f, $end) = @_;
	my (@lines, %invoiced);
	foreach my $invoice (values %{ $f->{invoices} })
	{
		my $o = $invoice->{parent} ? $invoice->{parent}{subscription_details} : $invoice->{subscription_details};
		$f->{named} ||= defined $o->{metadata}{account};
		my $back = ratio(money_back($f, $invoice), max(0, $invoice->{total}));
		my $complete = $f->{complete}{ $invoice->{id} };
		foreach my $line (map { plain($_) } @{ $complete // $invoice->{lines}{data} })
		{
			my @noted = map {
				my $note = $_;
				map {
					!$_->{invoice_line_item} ? ratio($_->{amount}, max(0, $invoice->{total}))
					  : $_->{invoice_line_item} eq $line->{id} ? ratio($_->{amount}, max(0, $line->{amount})) : ()
				} @{ $note->{lines}{data} }
			} grep { $_->{invoice} eq $invoice->{id} && $_->{status} ne 'void' } values %{ $f->{notes} };
			my $settled = $invoice->{status} eq 'paid' ? $invoice->{status_transitions}{paid_at}
			  : ($line->{plan}{give} // '') eq 'finalized' && $invoice->{status} eq 'open' ? $invoice->{status_transitions}{finalized_at} : undef;
			# what was on no invoice before its period was over was given in advance
			my $waited = $line->{item} && ($line->{plan}{upgrade} // '') ne 'when_paid'
			  && ($invoice->{status_transitions}{finalized_at} // 0) >= $line->{end};
			my $share = sum_of($back, @noted);
			push @lines, { %$line, group => $invoice->{id}, share => at_least_one($share) ? ratio(1, 1) : $share, counts => defined $settled && ($complete || !$invoice->{lines}{has_more}),
				settled => $waited ? $line->{start} : $settled };
			$invoiced{ $line->{item} } = 1 if $line->{item};
		}
	}
	foreach my $item (values %{ $f->{items} })
	{
		my $line = plain($item);
		push @lines, { %$line, group => '(pending)', share => ratio(0, 1), settled => $line->{start},
			counts => !$item->{gone} && ($line->{plan}{upgrade} // '') ne 'when_paid' && !half_of_a_change($f, \%invoiced, $line) }
		  unless $invoiced{ $item->{id} };
	}
	# of an item that nobody paid for only the other one of its change may tell whether
	# it gives or takes
	foreach my $line (grep { $_->{item} && $_->{amount} == 0 && !$_->{negative} } @lines)
	{
		my $others = sum0(map { $_->{negative} ? -1 : $_->{amount} ? 1 : 0 }
			grep { $_->{group} eq $line->{group} && $_->{si} eq $line->{si} && $_->{start} == $line->{start} && $_->{end} == $line->{end} } @lines);
		$line->{sign} = -($others <=> 0);
	}
	foreach my $line (grep { defined $_->{sign} } @lines)
	{
		$line->{negative} = $line->{sign} < 0;
		$line->{unknown} = $line->{sign} == 0;
	}
	@lines = grep { $_->{plan} && ($_->{plan}{give} // '') ne 'nothing' && !$_->{unknown} } @lines;
	# it begins with its own event, once it is paid, tried or active
	return () unless $f->{named} && $f->{status};
	return () unless $f->{trials} || $f->{status} !~ /^(incomplete|incomplete_expired|canceled)$/
	  || grep { $_->{status} eq 'paid' } values %{ $f->{invoices} };
	$_->{credits} = credits_of($f, \@lines, $_) foreach @lines;
	$end->{attention} = grep { $_->{counts} && !defined $_->{credits} } @lines;
	return grep { $_->{counts} && defined $_->{credits} } @lines;
}

# A change of an item is two prorations that wait, the old one back and the new one.
# Until the new one is known, the old one stays, unless the subscription does not have
# the item any more.
sub half_of_a_change
{
	my ($f, $invoiced, $line) = @_;
	return 0 unless $line->{negative};
	return 0 if any { $_->{si} eq $line->{si} && $_->{start} == $line->{start} && $_->{end} == $line->{end} && !$_->{negative} }
		map { plain($_) } grep { !$invoiced->{ $_->{id} } } values %{ $f->{items} };
	return !$f->{over} && any { $_->{id} eq $line->{si} && $_->{price}{recurring}{usage_type} ne 'metered' } @{ $f->{has} // [] };
}

sub credits_of
{
	my ($f, $lines, $line) = @_;
	my ($plan, $p) = @$line{qw(plan end)};
	my ($every, $period) = @$plan{qw(every period)};
	my $tried = any { $_->[0] <= $line->{start} && $line->{start} < $_->[1] } @{ $f->{trials} // [] };
	return ratio(($plan->{trial_credits} // 0) * ($line->{negative} ? -1 : 1), 1)
	  if $line->{amount} == 0 && ($tried || !$line->{negative} && !$line->{proration} && $line->{unit} > 0);
	my $start = min(map { $_->{start} } grep { $_->{end} == $p && !$_->{proration} && time_plus($_->{start}, $every, $period) == $p } @$lines);
	foreach my $anchor (defined $start ? () : sort { $f->{anchors}{$b} <=> $f->{anchors}{$a} } keys %{ $f->{anchors} })
	{
		my $near = int(($p - $anchor) / 86400 / $every / { day => 1, week => 7, month => 30.44, year => 365.25 }->{$period});
		my $k = first { time_plus($anchor, $_ * $every, $period) == $p } $near - 2 .. $near + 2;
		next unless defined $k;
		$start = time_plus($anchor, ($k - 1) * $every, $period);
		last;
	}
	$start //= time_plus($p, -$every, $period);
	my ($seconds, $whole) = ($p - $line->{start}, $p - $start);
	return undef if 2 * $seconds > 3 * $whole;
	return ratio($plan->{credits} * $line->{quantity} * $seconds * ($line->{negative} ? -1 : 1), $whole);
}

# --------------------------------------------------------------------------
# numbers: fractions, as a numerator and a denominator

sub ratio { my ($a, $b) = @_; return $b ? [ Math::BigInt->new($a), Math::BigInt->new($b) ] : [ Math::BigInt->bzero, Math::BigInt->bone ] }

sub sum_of
{
	my ($sum, @rest) = @_;
	foreach my $x (@rest)
	{
		$sum = $sum->[1] == $x->[1] ? [ $sum->[0] + $x->[0], $x->[1] ] : [ $sum->[0] * $x->[1] + $x->[0] * $sum->[1], $sum->[1] * $x->[1] ];
	}
	return $sum;
}

sub product_of { my ($x, $y) = @_; return [ $x->[0] * $y->[0], $x->[1] * $y->[1] ] }

sub at_least_one { my ($x) = @_; return $x->[0] >= $x->[1] }

# half away from zero
sub rounded { my ($x) = @_; my $n = ((2 * abs($x->[0]) + $x->[1]) / (2 * $x->[1]))->numify; return $x->[0] < 0 ? -$n : $n }

# towards zero
sub int_of { my ($x) = @_; my $n = (abs($x->[0]) / $x->[1])->numify; return $x->[0] < 0 ? -$n : $n }

1;
