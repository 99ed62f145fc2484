package CreditsModelCodes;

# More of the model: codes that are redeemed, of all three kinds, and priced
# operations.
#
# Codes and prices are made before the run and never changed; those that begin
# or end within it do so at instants known in advance, so that what was in force
# can be told from when a receipt says that it was.

use strict;
use warnings FATAL => 'all';

use CreditsModel;
use List::Util qw(max min);

# for good
my $never = 9e15;

CreditsModel::add_plays(
	redeem_promo => [ \&play_redeem_promo, 'redemption' ],
	create_gift => [ \&play_create_gift, 'gift' ],
	gift_many => [ \&play_gift_many, 'gift' ],
	redeem_gift => [ \&play_redeem_gift, 'gift' ],
	cancel_gift => [ $CreditsModel::plays{release}[0], 'release' ],
	redeem_referral => [ \&play_redeem_referral, 'referral' ],
	charge => [ \&play_charge, 'deduction' ],
);

# What every account may have of referrals.
my %referral = (credits => 25, referrer => 10, cap => 4, age => 6_000_000);

sub settings
{
	return <<"CONF";
credits.referral_credits = $referral{credits}
credits.referrer_credits = $referral{referrer}
credits.referral_cap = $referral{cap}
credits.referral_account_age = '$referral{age} microseconds'
credits.redeem_failures = 0
CONF
}

my %promos;    # by the code
my %prices;    # by the operation, the first first

sub promos { return sort keys %promos }

# The limited codes that began just before an instant, which all want at once, so
# that many meet when the last uses go.
sub wanted
{
	my ($at) = @_;
	return grep { my $since = $at - ($promos{$_}{starts} // $never); $since >= 0 && $since < 30_000 } promos();
}

sub operations { return sort keys %prices }

sub timestamp
{
	my ($micros) = @_;
	return defined $micros ? "timestamptz 'epoch' + $micros * interval '1 microsecond'" : 'NULL';
}

sub interval
{
	my ($micros) = @_;
	return defined $micros ? "'$micros microseconds'" : 'NULL';
}

sub thousandths
{
	my ($number) = @_;
	return sprintf '%d.%03d', int($number / 1000), $number % 1000;
}

# Chooses codes and prices for a run that begins about now.  Returns the SQL that
# makes them.
sub make
{
	my ($now, $seconds) = @_;
	my @sql;
	my $within = sub { int($now + rand($seconds) * 1_000_000 + 1_000_000) };

	# many that are used up soon after they begin
	foreach my $n (1 .. 8 + 4 * $seconds)
	{
		my %promo = (credits => 1 + int rand 60, per_account => 1 + int rand 3);
		$promo{max_uses} = 1 + int rand($n > 8 ? 5 : 50) if $n > 4;
		$promo{per_account} = 1000 if $n == 1;
		$promo{starts} = $within->() if $n > 8;
		$promo{expires} = ($promo{starts} // $now) + 1_000_000 + int rand($seconds * 500_000) if rand() < 0.3;
		$promo{lasts} = 1 + int rand 2_000_000 if rand() < 0.5;
		$promo{within} = 1_000_000 + int rand 4_000_000 if rand() < 0.2;
		$promos{"CODE$n"} = \%promo;
		push @sql, "SELECT credits_create_promo_code('code$n', $promo{credits}, " . ($promo{max_uses} // 'NULL') . ', '
		  . "$promo{per_account}, " . timestamp($promo{starts}) . ', ' . timestamp($promo{expires}) . ', '
		  . interval($promo{lasts}) . ', ' . interval($promo{within}) . ')';
	}
	foreach my $n (1 .. 4)
	{
		# the last one has no price at times
		my @from = (undef, sort { $a <=> $b } map { $within->() } 1 .. $n);
		foreach my $from (@from)
		{
			my %price = (
				from => $from // 0,
				base => int rand 20_000,
				unit => 1 + int rand 3_000,
				included => rand() < 0.5 ? int rand 5_000 : 0,
				rounding => (qw(ceil floor round))[ int rand 3 ],
				minimum => 1 + int rand 5,
			);
			$price{until} = $from + int rand 2_000_000 if $from && $n == 4;
			next if $price{until} && $price{until} <= $from;
			push @{ $prices{"priced$n"} }, \%price;
			push @sql, "SELECT credits_set_operation('priced$n', " . thousandths($price{base}) . ', '
			  . thousandths($price{unit}) . ", 'unit', " . thousandths($price{included})
			  . ", '$price{rounding}', $price{minimum}, " . timestamp($from) . ', ' . timestamp($price{until}) . ')';
		}
	}
	return join '; ', @sql;
}

# --------------------------------------------------------------------------
# priced operations

sub cost
{
	my ($price, $quantity) = @_;
	my $millionths = $price->{base} * 1000 + $price->{unit} * max(0, $quantity - $price->{included});
	my $rest = $millionths % 1_000_000;
	my $cost = ($millionths - $rest) / 1_000_000;
	$cost++ if $price->{rounding} eq 'ceil' ? $rest > 0 : $price->{rounding} eq 'round' && $rest >= 500_000;
	return max($cost, $price->{minimum});
}

sub play_charge
{
	my ($model, $request, $receipt) = @_;
	my ($price) = grep { $_->{from} <= $receipt->{at} } reverse @{ $prices{ $request->{operation} } };
	CreditsModel::wrong("$request->{operation} has no price") if ($price->{until} // $never) <= $receipt->{at};
	return CreditsModel::play_spend($model, { %$request, amount => cost($price, $request->{quantity}) }, $receipt);
}

# --------------------------------------------------------------------------
# promotional codes

sub play_redeem_promo
{
	my ($model, $request, $receipt) = @_;
	my $promo = $promos{ $request->{code} };
	my $account = $model->look($request->{account});
	my $at = $receipt->{at};

	$model->touch($account);
	CreditsModel::wrong('redeemed too soon') if $at < ($promo->{starts} // 0);
	CreditsModel::wrong('redeemed too late') if $at >= ($promo->{expires} // $never);
	CreditsModel::wrong("redeemed more than $promo->{max_uses} times")
	  if ++$model->{uses}{ $request->{code} } > ($promo->{max_uses} // $never);
	CreditsModel::wrong("redeemed more than $promo->{per_account} times by one")
	  if ++$account->{redeemed}{ $request->{code} } > $promo->{per_account};
	CreditsModel::wrong('redeemed by an account that is not new')
	  if defined $promo->{within} && $account->{opened} + $promo->{within} <= $at;
	my $amount = CreditsModel::room($account, $promo->{credits}, 1);
	$model->give(
		$account,
		amount => $amount,
		priority => 10,
		expires => defined $promo->{lasts} ? $at + $promo->{lasts} : undef);
	return ($account, $amount);
}

# Code => uses, as counted, and as the table of redemptions has them.
sub uses
{
	my ($model) = @_;
	return { map { $_ => join '|', ($model->{uses}{$_} // 0) x 2 } keys %promos };
}

# Codes that were redeemed as often as they may be.
sub used_up
{
	my ($model) = @_;
	return grep { ($model->{uses}{$_} // 0) == ($promos{$_}{max_uses} // -1) } promos();
}

# --------------------------------------------------------------------------
# gifts: a hold of the giver, which the redeemer captures

sub play_create_gift
{
	my ($model, $request, $receipt) = @_;
	my $account = $model->look($request->{account});
	my $amount = $request->{amount};

	$model->touch($account);
	$model->not_paused($account);
	$model->count_spend($account, $amount, $amount);
	my $part = CreditsModel::part_of(CreditsModel::spend_of(
			$account, CreditsModel::burn($account, $amount),
			id => $receipt->{id}, at => $receipt->{at}), 0);
	$part->{expires} = min(defined $request->{lasts} ? $receipt->{at} + $request->{lasts} : $never, map { $_->[0]{expires} // $never } @{ $part->{draws} });
	$model->{holds}{ $receipt->{id} }{parts} = [$part];
	$model->{gifts}{ $receipt->{id} } = { part => $part };
	$account->{holds}{ $receipt->{id} } = $part;
	return ($account, -$amount);
}

# The redeemer's grants are like those that the gift was drawn from.
sub play_redeem_gift
{
	my ($model, $request, $receipt) = @_;
	my $gift = $model->{gifts}{ $request->{target} } or CreditsModel::wrong('no such gift');
	my $part = $gift->{part};
	my ($to, $from) = map { $model->look($_) } $request->{account}, $part->{account}{name};
	my $amount = CreditsModel::left($part);
	my $nth = 0;

	$model->touch($_) foreach $to, $from;
	CreditsModel::wrong("the gift is $part->{status}") if $part->{status} ne 'open';
	CreditsModel::wrong('redeemed by its giver') if $to == $from;
	CreditsModel::room($to, $amount, 0);
	foreach my $draw (@{ CreditsModel::slice($part, $amount) })
	{
		my ($grant, $drawn) = @$draw;
		$model->give($to, nth => $nth++, amount => $drawn, priority => 10, expires => $grant->{expires});
	}
	$part->{captured} = $amount;
	CreditsModel::end_part($part, 'captured');
	$gift->{redeemed_by} = $to->{name};
	return ($to, $amount);
}

# What is drawn goes to one after the other, in the order in which they are named.
sub play_gift_many
{
	my ($model, $request, $receipt) = @_;
	my $amount = $request->{amount};
	my ($from, @to) = map { $model->look($_) } $request->{account}, @{ $request->{to_many} };

	$model->touch($_) foreach $from, @to;
	$model->not_paused($from);
	$model->count_spend($from, $amount, $amount) foreach @to;
	CreditsModel::room($_, $amount, 0) foreach @to;
	my @draws = @{ CreditsModel::burn($from, $amount * @to) };
	foreach my $to (@to)
	{
		my ($left, $nth) = ($amount, 0);
		while ($left)
		{
			my ($grant, $drawn) = @{ $draws[0] };
			my $part = min($left, $drawn);
			$model->give($to, nth => $nth++, amount => $part, priority => 10, expires => $grant->{expires});
			$left -= $part;
			$draws[0][1] -= $part;
			shift @draws unless $draws[0][1];
		}
	}
	return ($from, -$amount * @to);
}

sub gifts
{
	my ($model) = @_;
	my %names = (captured => 'redeemed', released => 'cancelled');
	my %gifts;
	while (my ($id, $gift) = each %{ $model->{gifts} })
	{
		my $status = $gift->{part}{status};
		$gifts{$id} = join '|', $gift->{part}{account}{name}, $names{$status} // $status, $gift->{redeemed_by} // '';
	}
	return \%gifts;
}

# --------------------------------------------------------------------------
# referrals

sub play_redeem_referral
{
	my ($model, $request, $receipt) = @_;
	my ($referee, $referrer) = map { $model->look($_) } @$request{qw(account referrer)};
	my $referrals = $model->{referrals}{ $referrer->{name} } //= { n => 0, credits => 0 };
	my @amounts;

	$model->touch($_) foreach $referee, $referrer;
	CreditsModel::wrong('redeemed by its own account') if $referee == $referrer;
	CreditsModel::wrong('referred twice') if $referee->{referred}++;
	CreditsModel::wrong('referred when too old') if $referee->{opened} + $referral{age} <= $receipt->{at};
	CreditsModel::wrong("redeemed more than $referral{cap} times") if ++$referrals->{n} > $referral{cap};
	foreach my $side ([ $referee, $referral{credits} ], [ $referrer, $referral{referrer} ])
	{
		my $amount = CreditsModel::room(@$side, 1);
		$model->give($side->[0], amount => $amount, priority => 10);
		push @amounts, $amount;
	}
	$referrals->{credits} += $amounts[1];
	return ($referee, $amounts[0]);
}

sub referrals
{
	my ($model) = @_;
	return { map { $_ => join '|', @{ $model->{referrals}{$_} }{qw(n credits)} } keys %{ $model->{referrals} // {} } };
}

1;
