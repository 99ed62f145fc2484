package CreditsModel;

# What credits must come to, said again in a few hundred lines of Perl: the
# documented rules of accounts, grants, holds, transfers, pools and limits.
#
# It gets requests and their receipts, in the order of their transactions, and
# says what is wrong with them.  All of the amounts of an account are worked
# out from its grants, which are kept for that; nothing is taken from a receipt
# but when it was, and how much of a split spend each account paid.
#
# An operation is one function here, or in CreditsModelCodes: it is listed in
# %plays.

use strict;
use warnings FATAL => 'all';

use List::Util qw(max min sum0);

my %priority = (
	promotional => 10, referral => 10, gift => 10, trial => 10, subscription => 30,
	manual => 50, signup => 50, adjustment => 50, purchase => 70);

# before all windows
my $ever = -9e15;

# op => [what plays it, the kind of its receipt]
our %plays = (
	open => [ \&play_open, 'opening' ],
	deduct => [ \&play_spend, 'deduction' ],
	try => [ \&play_spend, 'deduction' ],
	hold => [ \&play_spend, 'hold' ],
	capture => [ \&play_capture, 'capture' ],
	release => [ \&play_release, 'release' ],
	extend => [ \&play_extend, 'extension' ],
	allocate => [ \&play_allocate, 'allocation' ],
	refund => [ \&play_refund, 'refund' ],
	dispute => [ \&play_refund, 'refund' ],
	transfer => [ \&play_transfer, 'transfer' ],
	reverse => [ \&play_reverse, 'reversal' ],
	adjust => [ \&play_adjust, 'adjustment' ],
	void => [ \&play_void, 'void' ],
	pause => [ \&play_pause, 'pause' ],
	resume => [ \&play_resume, 'resume' ],
	close => [ \&play_close, 'close' ],
	erase => [ \&play_close, 'erasure' ],
	alerts => [ \&play_nothing, 'alerts' ],
	limits => [ \&play_limits, 'limits' ],
	add_member => [ \&play_add_member, 'membership' ],
	change_member => [ \&play_change_member, 'membership' ],
	remove_member => [ \&play_remove_member, 'membership' ],
);

# grace: microseconds that refunded credits of an expired grant live
sub new
{
	my ($class, %params) = @_;
	return bless {
		%params,
		accounts => {},
		spends => {},       # by the id of the receipt
		holds => {},        # the same
		transfers => {},    # the same
		members => {},      # by 'pool account'
	}, $class;
}

sub sources { return sort keys %priority }

# More operations, as in %plays.
sub add_plays
{
	%plays = (%plays, @_);
	return;
}

# Says what is wrong and ends the request that is being played.
sub wrong { die { wrong => shift } }

# The same, but it is played as it was.
sub complain
{
	my ($model, $complaint) = @_;
	$model->{complaint} ||= $complaint;
	return;
}

# Plays one acknowledged request.  Returns what is wrong, or nothing, and sets
# the accounts that it touched.
sub play
{
	my ($model, $request, $receipt) = @_;
	my ($play, $kind) = @{ $plays{ $request->{op} } };
	# a final capture of nothing is a release
	$kind = 'release' if $request->{op} eq 'capture' && $request->{final} && ($request->{amount} // 1) == 0;

	$model->{receipt} = $receipt;
	$model->{touched} = {};
	$model->{complaint} = '';
	my ($account, $amount) = eval { $play->($model, $request, $receipt) };
	if (my $error = $@)
	{
		die $error unless ref $error;
		return $error->{wrong};
	}
	my %expected = (
		account => $account->{name},
		kind => $kind,
		amount => $amount,
		balance => balance($account),
		held => held($account));
	foreach my $field (sort keys %expected)
	{
		return "$field $receipt->{$field}, not $expected{$field}"
		  if $receipt->{$field} ne $expected{$field};
	}
	return $model->{complaint};
}

# --------------------------------------------------------------------------
# accounts

# The account of that name, up to date with the receipt's instant.
sub look
{
	my ($model, $name) = @_;
	my $account = $model->{accounts}{$name} or wrong("no account $name");
	$model->settle($account, $model->{receipt}{at});
	return $account;
}

# Notes that the request changes an account, and adds a row to its log.
sub touch
{
	my ($model, $account) = @_;
	my $receipt = $model->{receipt};

	$account->{rows}++;
	return if $model->{touched}{ $account->{name} };
	$model->{touched}{ $account->{name} } = $account;
	wrong("time runs backwards for $account->{name}") if $receipt->{at} < $account->{at};
	wrong("$account->{name} is closed") if $account->{status} eq 'closed';
	$account->{at} = $receipt->{at};
	my $history = $account->{history};
	push @$history, { acked => $receipt->{acked}, status => $account->{status}, balance => balance($account) };
	shift @$history if @$history > 30;
	return;
}

# An account that a request locks, without changing it, is not in the order of
# its own transactions: one that drew its id before may have waited for the
# lock.  Tells whether the account could have been as a test wants it.
sub could
{
	my ($model, $account, $test) = @_;
	my $receipt = $model->{receipt};

	return 1 if $test->({ status => $account->{status}, balance => balance($account) });
	return 0 if $model->{touched}{ $account->{name} };
	foreach my $before (reverse @{ $account->{history} })
	{
		last if $before->{acked} < $receipt->{sent};
		return 1 if $test->($before);
	}
	return 0;
}

sub not_closed
{
	my ($model, @accounts) = @_;
	foreach my $account (@accounts)
	{
		$model->could($account, sub { $_[0]{status} ne 'closed' }) or wrong("$account->{name} is closed");
	}
	return;
}

sub not_paused
{
	my ($model, @accounts) = @_;
	foreach my $account (@accounts)
	{
		$model->could($account, sub { $_[0]{status} eq 'active' })
		  or wrong("$account->{name} is $account->{status}");
	}
	return;
}

sub balance
{
	my ($account) = @_;
	return sum0 map { $_->{pending} ? 0 : $_->{remaining} } values %{ $account->{live} };
}

sub held
{
	my ($account) = @_;
	return sum0 map { left($_) } values %{ $account->{holds} };
}

# --------------------------------------------------------------------------
# grants and the clock

sub burn_order
{
	my ($left, $right) = @_;
	return $left->{priority} <=> $right->{priority}
	  || (defined $left->{expires} ? 0 : 1) <=> (defined $right->{expires} ? 0 : 1)
	  || ($left->{expires} // 0) <=> ($right->{expires} // 0)
	  || $left->{effective} <=> $right->{effective}
	  || $left->{id} <=> $right->{id}
	  || $left->{nth} <=> $right->{nth};
}

# Gives a grant; several that come of one transaction are told apart by nth.
sub give
{
	my ($model, $account, %grant) = @_;
	my $receipt = $model->{receipt};
	my $grant = {
		id => $receipt->{id},
		nth => 0,
		effective => $receipt->{at},
		remaining => $grant{amount},
		%grant,
	};
	$grant->{pending} = 1 if $grant->{effective} > $receipt->{at};
	$grant->{name} = "$grant->{id}.$grant->{nth}";
	$account->{grants}{ $grant->{name} } = $account->{live}{ $grant->{name} } = $grant;
	$account->{granted} += $grant{amount};
	return $grant;
}

# Takes from a grant.
sub take
{
	my ($account, $grant, $amount) = @_;
	$grant->{remaining} -= $amount;
	delete $account->{live}{ $grant->{name} } unless $grant->{remaining};
	return;
}

# Takes credits in burn order.  Returns the draws.
sub burn
{
	my ($account, $amount) = @_;
	my @draws;
	foreach my $grant (sort { burn_order($a, $b) } grep { !$_->{pending} } values %{ $account->{live} })
	{
		last unless $amount;
		my $part = min($amount, $grant->{remaining});
		take($account, $grant, $part);
		$amount -= $part;
		push @draws, [ $grant, $part ];
	}
	wrong("$account->{name} is overdrawn") if $amount;
	return \@draws;
}

# Gives credits back to the grant that they were drawn from.  One that has
# expired lives on until another instant, or loses them at once, as do credits
# drawn before others were saved so.
sub give_back
{
	my ($account, $grant, $amount, $drawn, $at, $until) = @_;
	if (!$grant->{voided} && defined $grant->{saved} && $drawn < $grant->{saved} && $until <= $at)
	{
		$account->{expired} += $amount;
		$account->{rows}++;
		return;
	}
	if (!$grant->{voided} && defined $grant->{expires} && $grant->{expires} <= $at)
	{
		$account->{expired} += $amount if $until <= $at;
		$grant->{saved} //= $grant->{expires} if $until > $at;
		$grant->{expires} = $until if $until > $at;
	}
	if ($grant->{voided} || defined $grant->{expires} && $grant->{expires} <= $at)
	{
		$account->{rows}++;
		return;
	}
	$grant->{remaining} += $amount;
	$account->{live}{ $grant->{name} } = $grant;
	return;
}

# Lets the clock pass for the grants of an account.
sub settle_grants
{
	my ($account, $at) = @_;
	foreach my $grant (values %{ $account->{live} })
	{
		if ($grant->{pending} && $grant->{effective} <= $at)
		{
			delete $grant->{pending};
			$account->{rows}++;
		}
		if (!$grant->{pending} && defined $grant->{expires} && $grant->{expires} <= $at)
		{
			$account->{expired} += $grant->{remaining};
			$account->{rows}++;
			take($account, $grant, $grant->{remaining});
		}
	}
	return;
}

# Lets the clock pass for an account: a hold that times out gives back then,
# and what it gives back may expire after.
sub settle
{
	my ($model, $account, $at) = @_;
	foreach my $part (
		sort { $a->{expires} <=> $b->{expires} || $a->{hold} <=> $b->{hold} }
		grep { $_->{expires} <= $at } values %{ $account->{holds} })
	{
		settle_grants($account, $part->{expires});
		$model->release_part($part, $part->{expires}, $at, 'expired');
	}
	settle_grants($account, $at);
	return;
}

# --------------------------------------------------------------------------
# windows, limits and caps

# When the window began that an instant is in; the zone is that many seconds
# west of Greenwich.
sub window_start
{
	my ($per, $west, $at) = @_;
	return $ever if $per eq 'lifetime';
	my $local = int($at / 1_000_000) - $west;
	my $days = $per eq 'day' ? 0 : $per eq 'week' ? (int($local / 86400) + 3) % 7 : (gmtime $local)[3] - 1;
	return ($local - $local % 86400 - $days * 86400 + $west) * 1_000_000;
}

# Begins a new window if there is one.
sub roll
{
	my ($count, $per, $west, $at) = @_;
	my $start = window_start($per, $west, $at);
	@$count{qw(start used)} = ($start, 0) if $start > $count->{start};
	return;
}

sub roll_limits
{
	my ($limits, $at) = @_;
	roll($limits->{$_}, $_, $limits->{west}, $at) foreach qw(day month);
	return;
}

# Counts a spend of an account against its limits; the whole is what it is a
# part of.
sub count_spend
{
	my ($model, $account, $amount, $whole) = @_;
	my $limits = $account->{limits};
	my $at = $model->{receipt}{at};

	push @{ $account->{counted} }, [ $at, $amount ];
	return unless $limits;
	wrong("spends $whole, less than $limits->{min_spend}") if $whole < ($limits->{min_spend} // 0);
	wrong("spends $whole, more than $limits->{max_spend}") if $whole > ($limits->{max_spend} // $whole);
	return unless defined $limits->{max_spend_per_day} || defined $limits->{max_spend_per_month};
	roll_limits($limits, $at);
	foreach my $per (qw(day month))
	{
		$limits->{$per}{used} += $amount;
		wrong("spends $limits->{$per}{used} in a $per") if $limits->{$per}{used} > ($limits->{"${per}_limit"} // 9e15);
	}
	return;
}

# How much of an amount an account may be given.
sub room
{
	my ($account, $amount, $may_clip) = @_;
	my $limits = $account->{limits};
	return $amount unless $limits && defined $limits->{max_balance};
	my $room = max($limits->{max_balance} - balance($account), 0);
	return $amount if $amount <= $room;
	wrong("has room for $room, gets $amount") unless $may_clip && $room && ($limits->{excess} // '') eq 'clip';
	return $room;
}

# The shortest way from an account up to a pool, as a list of members.
sub way
{
	my ($model, $account, $pool) = @_;
	my $above = sub {
		my ($name) = @_;
		return sort { $model->{accounts}{ $a->{pool} }{id} <=> $model->{accounts}{ $b->{pool} }{id} }
		  grep { $_->{account} eq $name } values %{ $model->{members} };
	};
	my @ways = map { [$_] } $above->($account);
	my %seen;
	while (@ways)
	{
		my @longer;
		foreach my $way (@ways)
		{
			my $last = $way->[-1]{pool};
			return $way if $last eq $pool;
			next if $seen{$last}++;
			push @longer, map { [ @$way, $_ ] } $above->($last);
		}
		@ways = @longer;
	}
	return undef;
}

# Brings the members along a way up to date.  Returns how much they may spend.
sub open_way
{
	my ($model, $way) = @_;
	roll($_, @$_{qw(per west)}, $model->{receipt}{at}) foreach @$way;
	return min(9e15, map { max($_->{cap} - $_->{used}, 0) } grep { defined $_->{cap} } @$way);
}

sub count_way
{
	my ($way, $amount) = @_;
	$_->{used} += $amount foreach @$way;
	return [ map { "$_->{pool} $_->{account}" } @$way ];
}

# Gives back what a spend or a hold was counted for, if that is in the present
# counts.
sub give_back_counts
{
	my ($model, $spend, $amount, $at) = @_;
	my @counts;
	push @{ $spend->{account}{counted} }, [ $spend->{at}, -$amount ];
	if (my $limits = $spend->{account}{limits})
	{
		roll_limits($limits, $at);
		push @counts, @$limits{qw(day month)};
	}
	foreach my $member (map { $model->{members}{$_} // () } @{ $spend->{way} // [] })
	{
		roll($member, @$member{qw(per west)}, $at);
		push @counts, $member if $spend->{id} > $member->{since};
	}
	foreach my $count (@counts)
	{
		$count->{used} = max($count->{used} - $amount, 0) if $spend->{at} >= $count->{start};
	}
	return;
}

# --------------------------------------------------------------------------
# spending

# A spend of one account, or one of two parts of a split one: draws, what was
# given back of it, and as what it was counted.
sub spend_of
{
	my ($account, $draws, %counted) = @_;
	return {
		account => $account,
		draws => $draws,
		amount => sum0(map { $_->[1] } @$draws),
		given => 0,
		%counted,
	};
}

# The accounts that what is done about a spend concerns.
sub parties
{
	my ($spend) = @_;
	my %parties = map { $_->{name} => $_ } map { $_->{member} // (), $_->{account} } @{ $spend->{parts} };
	return values %parties;
}

# The same as a part of a hold.
sub part_of
{
	my ($spend, $expires) = @_;
	return {
		%$spend,
		hold => $spend->{id},
		expires => $expires,
		captured => 0,
		released => 0,
		status => 'open',
	};
}

# Takes a spend or a hold from one account.
sub draw
{
	my ($model, $request, $account, $amount, %counted) = @_;
	my $receipt = $model->{receipt};
	my $spend = spend_of($account, burn($account, $amount), id => $receipt->{id}, at => $receipt->{at}, %counted);

	if ($request->{op} eq 'hold')
	{
		my $part = part_of($spend, $receipt->{at} + $request->{lasts});
		push @{ $model->{holds}{ $receipt->{id} }{parts} }, $part;
		$account->{holds}{ $receipt->{id} } = $part;
	}
	else
	{
		$account->{spent} += $amount;
		push @{ $model->{spends}{ $receipt->{id} }{parts} }, $spend;
	}
	return;
}

sub play_spend
{
	my ($model, $request, $receipt) = @_;
	my $asked = $request->{amount};
	my $amount = $request->{up_to} ? -$receipt->{amount} : $asked;
	my $account = $model->look($request->{account});

	wrong("takes $amount of up to $asked") if $amount < 0 || $amount > $asked;
	if (!defined $request->{pool})
	{
		$model->touch($account);
		$model->not_paused($account);
		$model->complain("takes $amount of up to $asked from " . balance($account))
		  if $amount < $asked && !$account->{limits} && !$model->could($account, sub { $amount == $_[0]{balance} });
		$model->count_spend($account, $amount, $amount) if $amount;
		$model->draw($request, $account, $amount) if $amount;
		return ($account, -$amount);
	}

	# the receipt says how much was taken from the member
	my $pool = $model->look($request->{pool});
	my $own = $receipt->{account} eq $account->{name} ? balance($account) - $receipt->{balance} : 0;
	my $rest = $amount - $own;
	wrong("takes $own of $amount from the member")
	  if $own < 0 || $rest < 0 || !$own && $receipt->{account} eq $account->{name};
	$model->touch($account) if $own;
	$model->touch($pool) if $rest || !$own;
	$model->not_paused($account, $pool);
	my $way = $model->way($account->{name}, $pool->{name}) or wrong("$account->{name} is no member of $pool->{name}");
	my $left = $model->open_way($way);

	# and the rules say how much that has to be
	my $mode = $request->{mode} // 'pool_only';
	my $right =
		$mode eq 'own_first' ? $model->could($account, sub { $own == min($asked, $_[0]{balance}) })
	  : $mode eq 'pool_first' ? $model->could($pool, sub { $rest == min($asked, $_[0]{balance}, $left) })
	  : $own == 0;
	# limits, too, leave less
	$right = 1 if $request->{up_to} && ($account->{limits} || $pool->{limits});
	my $caps = join ' ', map { "$_->{pool}-$_->{account}:$_->{used}/" . ($_->{cap} // '') } @$way;
	$model->complain("takes $own of $amount from the member, $mode, who has " . balance($account)
		  . ', the pool ' . balance($pool) . ", caps $caps") unless $right;
	$model->complain("takes $rest from a pool under caps $caps") if $rest > $left;

	if ($own)
	{
		$model->count_spend($account, $own, $amount);
		$model->draw($request, $account, $own);
	}
	if ($rest)
	{
		$model->count_spend($pool, $rest, $amount);
		$model->draw($request, $pool, $rest, member => $account, way => count_way($way, $rest));
	}
	return ($own ? $account : $pool, -$amount);
}

# Gives spent credits back: of the part that was taken last first, and of its
# draws too, past what was given back before.
sub play_refund
{
	my ($model, $request, $receipt) = @_;
	my $spend = $model->{spends}{ $request->{target} } or wrong('no such spend');
	my $total = sum0 map { $_->{amount} - $_->{given} } @{ $spend->{parts} };
	my $amount = $request->{amount} // $total;
	my $until = $receipt->{at} + (($request->{expired} // 'grace') eq 'expire' ? 0 : $model->{grace});
	my $main;

	wrong('refunds above what was spent') if $amount <= 0 || $amount > $total;
	$model->look($_->{name}) foreach parties($spend);
	my $rest = $amount;
	foreach my $part (reverse @{ $spend->{parts} })
	{
		my $account = $part->{account};
		my $some = min($rest, $part->{amount} - $part->{given}) or next;
		my $skip = $part->{given};
		my $left = $some;
		$main //= $account;
		$model->touch($account);
		foreach my $draw (reverse @{ $part->{draws} })
		{
			my ($grant, $drawn) = @$draw;
			my $skipped = min($skip, $drawn);
			$skip -= $skipped;
			my $back = min($left, $drawn - $skipped) or next;
			$left -= $back;
			give_back($account, $grant, $back, $part->{at}, $receipt->{at}, $until);
		}
		$part->{given} += $some;
		$account->{refunded} += $some;
		$model->give_back_counts($part, $some, $receipt->{at});
		$rest -= $some;
	}
	$model->not_closed(parties($spend));
	return ($main, $amount);
}

# --------------------------------------------------------------------------
# holds

sub left
{
	my ($part) = @_;
	return $part->{amount} - $part->{captured} - $part->{released};
}

# The next amount of what a part of a hold has drawn.
sub slice
{
	my ($part, $amount) = @_;
	my $skip = $part->{captured} + $part->{released};
	my (@draws, %draw_of);
	foreach my $draw (@{ $part->{draws} })
	{
		my ($grant, $drawn) = @$draw;
		my $skipped = min($skip, $drawn);
		$skip -= $skipped;
		my $some = min($amount, $drawn - $skipped) or next;
		$amount -= $some;
		# more may have been drawn on the same grant
		push @draws, $draw_of{ $grant->{name} } = [ $grant, 0 ] unless $draw_of{ $grant->{name} };
		$draw_of{ $grant->{name} }[1] += $some;
	}
	wrong("hold $part->{hold} reserves too little") if $amount;
	return \@draws;
}

sub end_part
{
	my ($part, $status) = @_;
	$part->{status} = $status;
	delete $part->{account}{holds}{ $part->{hold} };
	return;
}

# Gives back what is left of a part of a hold, at an instant that a request or
# the clock has noticed later.
sub release_part
{
	my ($model, $part, $at, $noticed, $status) = @_;
	my $account = $part->{account};
	my $amount = left($part);

	$account->{rows}++;
	give_back($account, @$_, $part->{at}, $at, $at) foreach @{ slice($part, $amount) };
	$model->give_back_counts($part, $amount, $noticed) unless $part->{uncounted};
	$part->{released} += $amount;
	end_part($part, $status);
	return;
}

# A row of the log says when a hold was found timed out, which only the caps
# must know: until then what it holds is counted.
sub noticed
{
	my ($model, $id, $name, $at) = @_;
	my $hold = $model->{holds}{$id} or return "no hold $id";
	my ($part) = grep { $_->{account}{name} eq $name && $_->{status} eq 'open' } @{ $hold->{parts} };

	# ended by a request that was played already
	return '' unless $part;
	return "hold $id is released too soon" if $at < $part->{expires};
	return "hold $id times out twice" if $part->{uncounted};
	$model->give_back_counts($part, left($part), $at);
	$part->{uncounted} = 1;
	return '';
}

# The hold that a request is about, and its parts that are open.
sub open_hold
{
	my ($model, $request) = @_;
	my $hold = $model->{holds}{ $request->{target} } or wrong('no such hold');
	$model->look($_->{name}) foreach parties($hold);
	my @open = grep { $_->{status} eq 'open' } @{ $hold->{parts} };
	wrong('the hold is over') unless @open;
	return ($hold, @open);
}

sub play_capture
{
	my ($model, $request, $receipt) = @_;
	my ($hold, @open) = $model->open_hold($request);
	my $left = sum0 map { left($_) } @open;
	my $rest = $request->{amount} // $left;
	my $main = $open[0]{account};
	my (@spends, %captured);

	if (defined $request->{amount} && $rest == 0)
	{
		return $model->play_release($request, $receipt) if $request->{final};
		$model->touch($main);
		$model->not_closed(parties($hold));
		return ($main, 0);
	}

	if ($rest > $left)
	{
		my $extra = $rest - $left;
		wrong("captures $rest of $left") unless $request->{more};
		$model->touch($main);
		$model->not_paused(parties($hold));
		$model->count_spend($main, $extra, $open[0]{amount} + $extra);
		if ($open[0]{member})
		{
			# what is added counts for those that the hold was made through
			my $way = [ map { $model->{members}{$_} // wrong("$_ is no member") } @{ $open[0]{way} } ];
			my $room = $model->open_way($way);
			wrong("takes $extra from a pool under a cap of which $room are left") if $extra > $room;
			count_way($way, $extra);
		}
		push @{ $open[0]{draws} }, @{ burn($main, $extra) };
		$open[0]{amount} += $extra;
	}
	foreach my $part (@open)
	{
		my $some = min($rest, left($part)) or next;
		$model->touch($part->{account});
		push @spends, spend_of($part->{account}, slice($part, $some), map { $_ => $part->{$_} } qw(id at member way));
		$part->{captured} += $some;
		$part->{account}{spent} += $some;
		$rest -= $some;
		$captured{ $part->{account}{name} } = 1;
		end_part($part, 'captured') unless left($part);
	}
	foreach my $part (@open)
	{
		last unless $request->{final};
		next unless $part->{status} eq 'open';
		my $account = $part->{account};
		# without a row of its own
		$model->touch($account), $account->{rows}-- unless $model->{touched}{ $account->{name} };
		$model->release_part($part, $receipt->{at}, $receipt->{at},
			$captured{ $account->{name} } ? 'captured' : 'released');
	}
	$model->not_closed(parties($hold));
	$model->{spends}{ $receipt->{id} } = { parts => \@spends };
	return ($main, 0);
}

sub play_release
{
	my ($model, $request, $receipt) = @_;
	my ($hold, @open) = $model->open_hold($request);
	my $left = sum0 map { left($_) } @open;
	foreach my $part (@open)
	{
		$model->touch($part->{account});
		$part->{account}{rows}--;
		$model->release_part($part, $receipt->{at}, $receipt->{at}, 'released');
	}
	$model->not_closed(parties($hold));
	return ($open[0]{account}, $left);
}

sub play_extend
{
	my ($model, $request, $receipt) = @_;
	my ($hold, @open) = $model->open_hold($request);
	foreach my $part (@open)
	{
		$model->touch($part->{account});
		wrong('the hold lasts longer already') if $part->{expires} >= $receipt->{at} + $request->{lasts};
		$part->{expires} = $receipt->{at} + $request->{lasts};
	}
	$model->not_closed(parties($hold));
	return ($open[0]{account}, 0);
}

# --------------------------------------------------------------------------
# giving and moving

sub play_open
{
	my ($model, $request, $receipt) = @_;
	my $name = $request->{account};
	wrong('opened twice') if $model->{accounts}{$name};
	my $account = $model->{accounts}{$name} = {
		name => $name,
		id => $receipt->{id},
		opened => $receipt->{at},
		status => 'active',
		grants => {},    # all, by name
		live => {},      # those with something left
		holds => {},     # open parts, by the hold's id
		counted => [],   # what was spent or given back, as of when it was spent
		history => [],
		map { $_ => 0 } qw(granted spent refunded expired rows at),
	};
	$model->touch($account);
	$model->give($account, amount => $request->{amount}, priority => 50);
	return ($account, $request->{amount});
}

sub play_allocate
{
	my ($model, $request, $receipt) = @_;
	my $account = $model->look($request->{account});
	$model->touch($account);
	wrong('expired already') if defined $request->{expires} && $request->{expires} <= $receipt->{at};
	my $grant = $model->give(
		$account,
		amount => room($account, $request->{amount}, 1),
		priority => $request->{priority} // $priority{ $request->{source} },
		effective => $request->{effective} // $receipt->{at},
		expires => $request->{expires});
	return ($account, $grant->{pending} ? 0 : $grant->{amount});
}

# Moves credits with what they are: a grant for each that was drawn from.
sub play_transfer
{
	my ($model, $request, $receipt) = @_;
	my ($from, $to) = map { $model->look($_) } @$request{qw(account to)};
	my $amount = $request->{up_to} ? -$receipt->{amount} : $request->{amount};
	my @moved;

	wrong("moves $amount of up to $request->{amount}") if $amount < 0 || $amount > $request->{amount};
	$model->touch($_) foreach $from, $to;
	$model->not_paused($from);
	room($to, $amount, 0);
	$model->complain("moves $amount of up to $request->{amount} from " . balance($from))
	  if $amount < $request->{amount} && !$from->{limits} && !$to->{limits}
	  && !$model->could($from, sub { $amount == $_[0]{balance} });
	$model->count_spend($from, $amount, $amount) if $amount;
	foreach my $draw (@{ $amount ? burn($from, $amount) : [] })
	{
		my ($grant, $drawn) = @$draw;
		my $new = $model->give(
			$to,
			nth => scalar @moved,
			amount => $drawn,
			priority => $grant->{priority},
			expires => $grant->{expires});
		push @moved, [ $grant, $new ];
	}
	$model->{transfers}{ $receipt->{id} } = {
		from => $from,
		to => $to,
		moved => \@moved,
		spend => { account => $from, id => $receipt->{id}, at => $receipt->{at} },
	};
	return ($from, -$amount);
}

# Sends back what is left of a transfer, moved last first.
sub play_reverse
{
	my ($model, $request, $receipt) = @_;
	my $transfer = $model->{transfers}{ $request->{target} } or wrong('no such transfer');
	my ($from, $to) = @$transfer{qw(from to)};
	$model->look($_->{name}), $model->touch($_) foreach $from, $to;
	my $left = sum0 map { $_->[1]{remaining} } @{ $transfer->{moved} };
	my $amount = $request->{amount} // $left;

	wrong("sends back $amount of $left") if $amount <= 0 || $amount > $left;
	my $rest = $amount;
	foreach my $moved (reverse @{ $transfer->{moved} })
	{
		my ($grant, $new) = @$moved;
		my $part = min($rest, $new->{remaining}) or next;
		take($to, $new, $part);
		give_back($from, $grant, $part, $transfer->{spend}{at}, $receipt->{at}, $receipt->{at});
		$rest -= $part;
	}
	$model->give_back_counts($transfer->{spend}, $amount, $receipt->{at});
	return ($from, $amount);
}

sub play_adjust
{
	my ($model, $request) = @_;
	my $account = $model->look($request->{account});
	my $amount = $request->{amount};
	$model->touch($account);
	burn($account, -$amount) if $amount < 0;
	$model->give($account, amount => $amount, priority => 50) if $amount > 0;
	return ($account, $amount);
}

sub play_void
{
	my ($model, $request) = @_;
	my $account = $model->look($request->{account});
	my $grant = $account->{grants}{"$request->{grant}.0"} or wrong('no such grant');
	my $amount = $grant->{pending} ? 0 : $grant->{remaining};
	wrong('nothing is left of it') unless $grant->{remaining};
	$model->touch($account);
	take($account, $grant, $grant->{remaining});
	$grant->{voided} = 1;
	return ($account, -$amount);
}

# --------------------------------------------------------------------------
# what moves nothing

sub play_pause
{
	my ($model, $request) = @_;
	my $account = $model->look($request->{account});
	$model->touch($account);
	wrong('paused twice') if $account->{status} ne 'active';
	$account->{status} = 'paused';
	return ($account, 0);
}

sub play_resume
{
	my ($model, $request) = @_;
	my $account = $model->look($request->{account});
	$model->touch($account);
	wrong('resumed while active') if $account->{status} ne 'paused';
	$account->{status} = 'active';
	return ($account, 0);
}

sub play_close
{
	my ($model, $request) = @_;
	my $account = $model->look($request->{account});
	$model->touch($account);
	$account->{status} = 'closed';
	return ($account, 0);
}

sub play_nothing
{
	my ($model, $request) = @_;
	my $account = $model->look($request->{account});
	$model->touch($account);
	return ($account, 0);
}

# What was spent in the present windows counts, limited or not.
sub play_limits
{
	my ($model, $request, $receipt) = @_;
	my $account = $model->look($request->{account});
	$model->touch($account);
	my $limits = $account->{limits} = {
		map({ $_ => $request->{$_} } qw(max_balance excess min_spend max_spend max_spend_per_day max_spend_per_month west)),
		map { $_ => $account->{limits}{$_} // { start => $ever, used => 0 } } qw(day month),
	};
	return ($account, 0) unless defined $limits->{max_spend_per_day} || defined $limits->{max_spend_per_month};
	foreach my $per (qw(day month))
	{
		my $start = window_start($per, $limits->{west}, $receipt->{at});
		my $used = sum0 map { $_->[1] } grep { $_->[0] >= $start } @{ $account->{counted} };
		$limits->{$per} = { start => $start, used => $used };
	}
	return ($account, 0);
}

# What was used counts on unless a window of the new kind has begun since.
sub set_member
{
	my ($model, $member, $request) = @_;
	my $receipt = $model->{receipt};

	roll($member, @$member{qw(per west)}, $receipt->{at}) if $member->{since};
	@$member{qw(cap per west)} = @$request{qw(cap per west)};
	my $start = window_start(@$member{qw(per west)}, $receipt->{at});
	@$member{qw(start used since)} = ($start, 0, $receipt->{id}) if !$member->{since} || $member->{start} < $start;
	return;
}

sub play_add_member
{
	my ($model, $request) = @_;
	my ($pool, $account) = map { $model->look($_) } @$request{qw(account member)};
	my $name = "$pool->{name} $account->{name}";
	$model->touch($pool);
	$model->not_closed($account);
	wrong('a member already') if $model->{members}{$name};
	wrong('a pool in itself') if $model->way($pool->{name}, $account->{name});
	my $member = $model->{members}{$name} =
	  { pool => $pool->{name}, account => $account->{name}, start => $ever, used => 0, since => 0 };
	$model->set_member($member, $request);
	return ($pool, 0);
}

sub play_change_member
{
	my ($model, $request) = @_;
	my ($pool) = map { $model->look($_) } @$request{qw(account member)};
	$model->touch($pool);
	my $member = $model->{members}{"$pool->{name} $request->{member}"} or wrong('no member');
	$model->set_member($member, $request);
	return ($pool, 0);
}

sub play_remove_member
{
	my ($model, $request) = @_;
	my ($pool) = map { $model->look($_) } @$request{qw(account member)};
	$model->touch($pool);
	delete $model->{members}{"$pool->{name} $request->{member}"} or wrong('no member');
	return ($pool, 0);
}

# --------------------------------------------------------------------------
# what it has come to

# Lets the clock pass for all, and returns what is there then, as text by name.
sub accounts
{
	my ($model, $at) = @_;
	$model->settle($_, $at) foreach values %{ $model->{accounts} };
	return {
		map {
			$_->{name} => join '|', $_->{status}, balance($_), held($_), @$_{qw(granted spent refunded expired rows)}
		} values %{ $model->{accounts} } };
}

sub grants
{
	my ($model) = @_;
	my %grants;
	foreach my $account (grep { %{ $_->{grants} } } values %{ $model->{accounts} })
	{
		$grants{ $account->{name} } = join ' ', sort
		  map { join '/', @$_{qw(effective amount remaining priority)}, $_->{expires} // () } values %{ $account->{grants} };
	}
	return \%grants;
}

sub holds
{
	my ($model) = @_;
	my %holds;
	foreach my $part (map { @{ $_->{parts} } } values %{ $model->{holds} })
	{
		$holds{"$part->{hold} $part->{account}{name}"} = join '|', @$part{qw(status amount captured released)},
		  $part->{expires} < 9e15 ? $part->{expires} : '';
	}
	return \%holds;
}

sub members
{
	my ($model, $at) = @_;
	my %members;
	foreach my $member (values %{ $model->{members} })
	{
		roll($member, @$member{qw(per west)}, $at);
		$members{"$member->{pool} $member->{account}"} = join '|', $member->{cap} // '', @$member{qw(per used)};
	}
	return \%members;
}

sub limits
{
	my ($model, $at) = @_;
	my %limits;
	foreach my $account (grep { $_->{limits} } values %{ $model->{accounts} })
	{
		my $limits = $account->{limits};
		roll_limits($limits, $at);
		$limits{ $account->{name} } = join '|', map { $_->{used} } @$limits{qw(day month)};
	}
	return \%limits;
}

1;
