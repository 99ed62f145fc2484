# A randomized concurrent run of all operations, with retries, rollbacks,
# cancelled statements and killed connections, against a model.
#
# The model, t/lib/CreditsModel.pm and CreditsModelCodes.pm, gets nothing but
# the requests and their acknowledged receipts, and the codes and prices that
# were made before.  It plays them over in the order of their transactions,
# keeps grants, draws, holds, caps and expiries by the documented rules, and has
# to come to the balance of each receipt, to the balances at any instant, and to
# the final state.  The items of a batch are requests like others.
#
# An operation is an entry of %ops here and one of %plays there.
#
# CREDITS_MODEL_SECONDS says how long; CREDITS_SEED repeats the choices.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsModel;
use CreditsModelCodes;
use CreditsModelCorrections;
use CreditsModelDisputes;
use CreditsModelRewards;
use CreditsModelStaff;
use CreditsModelTold;
use CreditsTest;
use List::Util qw(min shuffle sum0);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{CREDITS_MODEL_SECONDS} // ($ENV{CI} ? 60 : 12);
my $clients = 10;
my $seed = $ENV{CREDITS_SEED} // 20310401;
diag "seed $seed, $seconds s";
srand $seed;

# short, so that what is given back in grace runs out within the run
my $grace = 400_000;
my $node = credits_node('model',
	conf => "credits.refund_grace = '$grace microseconds'\n" . CreditsModelCodes::settings() . CreditsModelTold::settings());
$node->safe_psql('postgres', q(
	CREATE ROLE admin LOGIN IN ROLE credits_admin;
	SELECT credits_open_account('none')));

my $boss = CreditsTest::Session->new($node);
my $listener = CreditsTest::Session->new($node);
$listener->value('LISTEN low_balance');
CreditsModelTold::begin($boss);
$boss->value(CreditsModelDisputes::setup());
$boss->value(CreditsModelRewards::setup());
$boss->value(CreditsModelCorrections::setup());
$boss->value($_) foreach split /; /, CreditsModelCodes::make(int(time * 1_000_000), $seconds);

# --------------------------------------------------------------------------
# requests

my @sources = grep { !/signup|adjustment/ } CreditsModel::sources();

# accounts that others spend from, the lower ones from the upper ones
my @pools = map { "pool:$_" } 1 .. 5;

# time zones, as seconds west of Greenwich, in which a day begins during the run
my @wests = (0, map { int(time + rand $seconds) % 86400 } 1 .. 3);

my $number = 0;
my @accounts;      # names, of those to be used
my %spends;        # account => [ids of committed deductions and captures]
my %holds;         # account => [[id, when it times out] of committed holds]
my %transfers;     # account => [ids of committed transfers]
my %grants;        # account => [what finds a grant of a committed transaction]
my %members;       # 'pool account' => 1, or 0 if it was one
my %pools_of;      # account => { pools that it is or was a member of }
my @gifts;         # { what to know of a gift }, of those not known to be over
my %referrals;     # account => its referral code
my %receipt_of;    # 'account key' => [request, receipt], to send again
my @keyed;         # its keys
my %statuses;      # rough idea, for the choice only
my %balances;      # the same

sub micros { return int(time * 1_000_000) }

sub one_of { return $_[ int rand @_ ] }

# One of the newest of a list rather: its grants may still be there.
sub recent
{
	my ($list, $newest) = @_;
	return undef unless $list && @$list;
	return $list->[ rand() < 0.8 ? -1 - int rand min($newest, scalar @$list) : int rand @$list ];
}

sub timestamp
{
	my ($micros) = @_;
	return 'NULL' unless defined $micros;
	return "timestamptz 'epoch' + $micros * interval '1 microsecond'";
}

sub zone
{
	my ($west) = @_;
	return sprintf '<W>%02d:%02d:%02d', int($west / 3600), int($west / 60) % 60, $west % 60;
}

sub text { return defined $_[0] ? "'$_[0]'" : 'NULL' }

# Named arguments of a call, those that the request has.
sub named
{
	my ($request, @names) = @_;
	return join '', map { ", $_ => '$request->{$_}'" } grep { defined $request->{$_} } @names;
}

sub new_account
{
	my $name = 'account:' . ++$number;
	return {
		op => 'open',
		account => $name,
		amount => 50 + int rand 400,
	};
}

# What a spend costs, and at times the pool that pays.
sub ask_spend
{
	my ($account, $op) = @_;
	my %request = (amount => 1 + int rand(rand() < 0.1 ? 400 : 30));
	# what there is, up to an amount
	@request{qw(up_to amount)} = (1, 1 + int rand 200) if $op =~ /^(deduct|hold)$/ && rand() < 0.15;
	my @known = sort keys %{ $pools_of{$account} // {} };
	if (@known && rand() < 0.5 || rand() < 0.02)
	{
		$request{pool} = @known && rand() < 0.97 ? one_of(@known) : one_of(@pools);
		return undef if $request{pool} eq $account;
		$request{mode} = one_of(undef, qw(pool_only own_first pool_first own_first pool_first));
		# some are more than one of the two can pay
		my $mode = $request{mode} // '';
		$request{amount} = 1 + int rand 400 if $mode eq 'pool_first' && rand() < 0.5;
		$request{amount} += $balances{$account} // 0 if $mode eq 'own_first' && rand() < 0.4;
	}
	return \%request;
}

sub ask_lasting
{
	my ($request) = @_;
	$request->{lasts} = rand() < 0.4 ? 900_000_000 : 1 + int rand(rand() < 0.3 ? 100_000 : 2_000_000);
	return $request;
}

# A hold, mostly one that has not timed out.
sub recent_hold
{
	my ($account) = @_;
	my $now = micros();
	my @open = grep { $_->[1] > $now } @{ $holds{$account} // [] };
	my $hold = recent(rand() < 0.9 ? \@open : $holds{$account}, 8);
	return $hold && $hold->[0];
}

# A capture that ends its hold as often as is said, of up to an amount.
sub ask_capture
{
	my ($account, $ends, $most) = @_;
	my $target = recent_hold($account) or return undef;
	return {
		target => $target,
		amount => rand() < $ends / 2 ? undef : rand() < 0.1 ? 0 : 1 + int rand $most,
		final => int rand() < $ends || 0,
		more => int rand() < 0.6 || 0,
	};
}

sub ask_status
{
	my ($account, $op) = @_;
	my $paused = ($statuses{$account} // '') eq 'paused';
	return undef if rand() > ($op eq 'pause' ? ($paused ? 0.01 : 0.1) : ($paused ? 1 : 0.05));
	return {};
}

# A pool and a member: mostly one below it, who is one already if the member is
# to be changed or removed, or was one.
sub ask_member
{
	my ($account, $op) = @_;
	my $pool = int rand @pools;
	my $below = rand() < 0.9 ? $pool + 1 : 0;
	my $member = rand() < 0.4 && $below < @pools ? $pools[ $below + int rand(@pools - $below) ] : $account;
	my @pairs = grep { $members{$_} == ($op eq 'add_member' ? 0 : 1) } sort keys %members;
	my %pair = (account => $pools[$pool], member => $member);
	@pair{qw(account member)} = split / /, one_of(@pairs) if @pairs && rand() < ($op eq 'add_member' ? 0.5 : 0.9);
	return undef if $pair{account} eq $pair{member};
	return {
		%pair,
		cap => rand() < 0.2 ? undef : int rand(rand() < 0.3 ? 100 : 2000),
		per => one_of(qw(day day week month lifetime)),
		west => one_of(@wests),
	};
}

sub ask_limits
{
	my ($account) = @_;
	my %limits = (west => one_of(@wests));
	if (rand() < 0.7)
	{
		$limits{max_balance} = 100 + int rand 2000 if rand() < 0.5;
		$limits{excess} = one_of(undef, qw(refuse clip clip));
		$limits{min_spend} = 1 + int rand 3 if rand() < 0.2;
		$limits{max_spend} = 20 + int rand 100 if rand() < 0.3;
		$limits{max_spend_per_day} = 100 + int rand 2000 if rand() < 0.4;
		$limits{max_spend_per_month} = 200 + int rand 4000 if rand() < 0.2;
	}
	return \%limits;
}

sub ask_allocate
{
	my %request = (amount => 1 + int rand 80, source => one_of(@sources));
	$request{priority} = int rand 100 if rand() < 0.2;
	$request{effective} = micros() + int(rand(600_000) - 100_000) if rand() < 0.3;
	$request{expires} = micros() + 150_000 + int rand(rand() < 0.5 ? 800_000 : 5_000_000) if rand() < 0.6;
	return \%request;
}

# Accounts with holds that have not timed out.
sub holders
{
	my $now = micros();
	return grep { grep { $_->[1] > $now } @{ $holds{$_} // [] } } @accounts;
}

# A batch: mostly of several accounts, with what was sent before, too, in the
# same batch or long ago.
sub ask_batch
{
	my ($account, $batch) = @_;
	my $op = $batch =~ s/_many$//r;
	my @from = $op eq 'capture' ? holders() : @accounts;
	return undef if !@from;
	my @few = map { one_of(@from) } 1 .. 1 + int rand($op eq 'capture' ? 8 : 4);
	my @items;
	foreach (1 .. 2 + int rand 7)
	{
		my $old = rand() < 0.1 && @keyed ? $receipt_of{ one_of(@keyed) }[0] : rand() < 0.1 ? one_of(@items) : undef;
		undef $old if $old && ($old->{op} ne $op || defined $old->{pool} || $old->{up_to});
		my $from = one_of(@few);
		my $asked =
			$op eq 'allocate' ? ask_allocate()
		  : $op eq 'capture' ? ask_capture($from, 0.2, 10)
		  : $op eq 'hold' ? ask_lasting({ amount => 1 + int rand 30 })
		  : { amount => 1 + int rand 30 };
		next if !$old && !$asked;
		my %item = $old ? %$old : (op => $op, account => $from, %$asked, rand() < 0.7 ? (key => 'k' . ++$number) : ());
		$item{amount}++ if $old && rand() < 0.1;
		push @items, \%item;
	}
	return undef if !@items;
	return { items => \@items, atomic => int rand() < 0.4 || 0 };
}

sub ask_gift
{
	my ($account, $op) = @_;
	my $gift = recent(\@gifts, 10) or return undef;
	return { %$gift, $op eq 'cancel_gift' ? (account => $gift->{giver}) : () };
}

sub redeem
{
	my ($request, $account, $key) = @_;
	return 'credits_' . ($request->{attempt} ? 'try_' : '') . "redeem($account, '$request->{code}', $key)";
}

# op => how often, what a request for it says beyond the account, the call that
# it is, whether it takes no key, and errors that it may meet apart from those
# that any may
my %ops = (
	deduct => {
		weight => 18,
		ask => \&ask_spend,
		call => sub { "credits_deduct" . ($_->{up_to} ? '_up_to' : '') . "($_[0], $_[1], $_[2], 'op'" . named($_, qw(pool mode)) . ')' },
	},
	try => {
		weight => 7,
		ask => \&ask_spend,
		call => sub { "credits_try_deduct($_[0], $_[1], $_[2], 'op'" . named($_, qw(pool mode)) . ')' },
	},
	hold => {
		weight => 14,
		ask => sub { my $request = ask_spend(@_); $request && ask_lasting($request) },
		call => sub {
			"credits_hold" . ($_->{up_to} ? '_up_to' : '') . "($_[0], $_[1], $_[2], 'op', expires_in => '$_->{lasts} microseconds'" . named($_, qw(pool mode)) . ')';
		},
	},
	capture => {
		weight => 10,
		ask => sub { ask_capture($_[0], 0.7, 40) },
		call => sub {
			"credits_capture($_->{target}, $_[1], $_[2], final => $_->{final}::boolean, allow_more => $_->{more}::boolean, account => $_[0])";
		},
	},
	release => {
		weight => 3,
		ask => sub { my $target = recent_hold($_[0]); $target && { target => $target } },
		call => sub { "credits_release($_->{target}, $_[2], account => $_[0])" },
	},
	extend => {
		weight => 3,
		ask => sub { my $target = recent_hold($_[0]); $target && ask_lasting({ target => $target }) },
		call => sub { "credits_extend_hold($_->{target}, '$_->{lasts} microseconds', $_[2], $_[0])" },
		allowed => '22023',    # it lasts longer already
	},
	allocate => {
		weight => 20,
		ask => \&ask_allocate,
		call => sub {
			"credits_allocate($_[0], $_[1], $_[2], expires_at => " . timestamp($_->{expires})
			  . ', effective_at => ' . timestamp($_->{effective}) . named($_, qw(source priority)) . ')';
		},
		allowed => '22023',    # it waited too long for its own expiry
	},
	charge => {
		weight => 7,
		ask => sub {
			my $spend = ask_spend(@_) or return undef;
			my %request = (
				operation => one_of(CreditsModelCodes::operations()),
				quantity => int rand(rand() < 0.1 ? 100_000 : 10_000),
				attempt => int rand() < 0.3 || 0);
			return { %request, map { $_ => $spend->{$_} } qw(pool mode) };
		},
		call => sub {
			'credits_' . ($_->{attempt} ? 'try_' : '') . "charge($_[0], '$_->{operation}', "
			  . "$_->{quantity} / 1000.0, $_[2]" . named($_, qw(pool mode)) . ')';
		},
		allowed => 'PT404',    # it has no price at times
	},
	deduct_many => {
		weight => 4,
		no_key => 1,
		ask => \&ask_batch,
		call => sub {
			'credits_deduct_many(ARRAY['
			  . join(', ', map { 'ROW(' . text($_->{account}) . ", $_->{amount}, " . text($_->{key})
				  . ", 'op', NULL, NULL)::credits.deduction" } @{ $_->{items} })
			  . "], $_->{atomic}::boolean)";
		},
	},
	allocate_many => {
		weight => 4,
		no_key => 1,
		ask => \&ask_batch,
		call => sub {
			'credits_allocate_many(ARRAY['
			  . join(', ', map { 'ROW(' . text($_->{account}) . ", $_->{amount}, " . text($_->{key}) . ", NULL, NULL, NULL, '$_->{source}', "
				  . timestamp($_->{expires}) . ', NULL, ' . timestamp($_->{effective}) . ', '
				  . ($_->{priority} // 'NULL') . ', NULL, NULL)::credits.allocation' } @{ $_->{items} })
			  . "], $_->{atomic}::boolean)";
		},
		allowed => '22023',
	},
	hold_many => {
		weight => 3,
		no_key => 1,
		ask => \&ask_batch,
		call => sub {
			'credits_hold_many(ARRAY['
			  . join(', ', map { 'ROW(' . text($_->{account}) . ", $_->{amount}, " . text($_->{key})
				  . ", 'op', NULL, NULL, '$_->{lasts} microseconds')::credits.hold_item" } @{ $_->{items} })
			  . "], $_->{atomic}::boolean)";
		},
	},
	capture_many => {
		weight => 4,
		no_key => 1,
		ask => \&ask_batch,
		call => sub {
			'credits_capture_many(ARRAY['
			  . join(', ', map { "ROW($_->{target}, " . ($_->{amount} // 'NULL') . ', ' . text($_->{key})
				  . ", NULL, NULL, $_->{final}::boolean, $_->{more}::boolean, " . text($_->{account}) . ')::credits.capture_item' } @{ $_->{items} })
			  . "], $_->{atomic}::boolean)";
		},
	},
	transfer_many => {
		weight => 3,
		no_key => 1,
		ask => sub {
			my $request = ask_batch(@_) or return undef;
			foreach my $item (@{ $request->{items} })
			{
				$item->{to} //= one_of(grep { $_ ne $item->{account} } @accounts);
			}
			return $request;
		},
		call => sub {
			'credits_transfer_many(ARRAY['
			  . join(', ', map { 'ROW(' . text($_->{account}) . ", '$_->{to}', $_->{amount}, " . text($_->{key})
				  . ", 'because', NULL)::credits.transfer_item" } @{ $_->{items} })
			  . "], $_->{atomic}::boolean)";
		},
	},
	redeem_promo => {
		weight => 8,
		ask => sub {
			my @wanted = CreditsModelCodes::wanted(micros());
			return {
				code => one_of(@wanted ? @wanted : CreditsModelCodes::promos()),
				attempt => int rand() < 0.4 || 0,
			};
		},
		call => sub { redeem($_, @_[ 0, 2 ]) },
	},
	create_gift => {
		weight => 6,
		ask => sub {
			my %request = (amount => 1 + int rand 60);
			$request{lasts} = 50_000 + int rand(rand() < 0.5 ? 500_000 : 5_000_000) if rand() < 0.6;
			return \%request;
		},
		call => sub {
			"credits_create_gift($_[0], $_[1], $_[2], message => 'for you', expires_in => " . CreditsModelCodes::interval($_->{lasts}) . ')';
		},
	},
	gift_many => {
		weight => 3,
		ask => sub {
			my ($account) = @_;
			my @to = (shuffle grep { $_ ne $account } @accounts)[ 0 .. int rand 4 ];
			return { to_many => [ grep { defined } @to ], amount => 1 + int rand 15 };
		},
		call => sub {
			my $to = join ', ', map { text($_) } @{ $_->{to_many} };
			"credits_gift_many($_[0], ARRAY[$to], $_[1], $_[2], message => 'for you all')";
		},
	},
	redeem_gift => {
		weight => 6,
		ask => sub {
			my $gift = ask_gift(@_);
			return $gift && { %$gift, attempt => int rand() < 0.4 || 0 };
		},
		call => sub { redeem($_, @_[ 0, 2 ]) },
	},
	cancel_gift => {
		weight => 2,
		ask => \&ask_gift,
		call => sub { "credits_cancel_gift('$_->{code}', $_[2], account => $_[0])" },
	},
	redeem_referral => {
		weight => 5,
		ask => sub {
			my $referrer = one_of(sort keys %referrals) or return undef;
			return {
				account => rand() < 0.7 ? recent(\@accounts, 10) : $_[0],
				referrer => $referrer,
				code => $referrals{$referrer},
				attempt => int rand() < 0.4 || 0,
			};
		},
		call => sub { redeem($_, @_[ 0, 2 ]) },
	},
	refund => {
		weight => 13,
		ask => sub {
			my $target = recent($spends{ $_[0] }, 8) or return undef;
			return {
				target => $target,
				amount => rand() < 0.6 ? 1 + int rand 20 : undef,
				expired => one_of(undef, qw(grace expire)),
			};
		},
		call => sub {
			"credits_refund($_->{target}, $_[1], $_[2], 'because', account => $_[0]" . named($_, 'expired') . ')';
		},
	},
	dispute => {
		weight => 4,
		ask => sub {
			my $target = recent($spends{ $_[0] }, 8) or return undef;
			return { target => $target, amount => rand() < 0.6 ? 1 + int rand 20 : undef };
		},
		call => sub { "resolved_dispute($_[0], $_->{target}, $_[1], $_[2])" },
	},
	transfer => {
		weight => 6,
		ask => sub {
			my $to = one_of(@accounts);
			return $to eq $_[0] ? undef : { to => $to, amount => 1 + int rand 60, up_to => int rand() < 0.3 || 0 };
		},
		call => sub { "credits_transfer" . ($_->{up_to} ? '_up_to' : '') . "($_[0], '$_->{to}', $_[1], $_[2], 'because')" },
	},
	reverse => {
		weight => 3,
		ask => sub {
			my $target = recent($transfers{ $_[0] }, 5) or return undef;
			return { target => $target, amount => rand() < 0.5 ? 1 + int rand 20 : undef };
		},
		call => sub { "credits_reverse_transfer($_->{target}, 'because', $_[1], $_[2])" },
	},
	adjust => {
		weight => 5,
		ask => sub { return { amount => int(rand 60) - 30 || 1 } },
		call => sub { "credits_adjust($_[0], $_[1], 'because', $_[2])" },
	},
	correct_many => {
		weight => 3,
		no_key => 1,
		ask => sub { return CreditsModelCorrections::ask(@accounts) },
		call => \&CreditsModelCorrections::call,
	},
	void => {
		weight => 5,
		ask => sub { my $grant = recent($grants{ $_[0] }, 20); $grant && {%$grant} },
		call => sub {
			my $transaction = $_->{received}
			  ? "(SELECT id FROM credits.transactions WHERE target_id = $_->{grant} AND kind = 'transfer')" : $_->{grant};
			"credits_void_grant((SELECT min(id) FROM credits.grants WHERE transaction_id = $transaction), 'because', $_[2])";
		},
	},
	reward => {
		weight => 4,
		ask => \&CreditsModelRewards::ask_reward,
		call => \&CreditsModelRewards::reward_call,
		allowed => 'PT410',    # its budget is used up
	},
	topup => {
		weight => 3,
		no_key => 1,
		ask => \&CreditsModelRewards::ask_topup,
		call => \&CreditsModelRewards::topup_call,
	},
	pause => { weight => 5, no_key => 1, ask => \&ask_status },
	resume => { weight => 6, no_key => 1, ask => \&ask_status },
	close => {
		weight => 0.4,
		no_key => 1,
		ask => sub { return $_[0] =~ /^pool/ ? undef : {} },
	},
	alerts => {
		weight => 2,
		no_key => 1,
		ask => sub { return { amount => int rand 100 } },
		call => sub { "credits_set_alerts($_[0], ($_[1])::text)" },
	},
	limits => {
		weight => 1.5,
		no_key => 1,
		ask => \&ask_limits,
		call => sub {
			my @limits = qw(excess max_balance min_spend max_spend max_spend_per_day max_spend_per_month);
			my $request = $_;
			"credits_set_limits($_[0], timezone => '" . zone($_->{west}) . "'" . named($_, @limits)
			  . ", clear => '{" . join(',', grep { !defined $request->{$_} } @limits) . "}')";
		},
	},
	add_member => {
		weight => 3,
		no_key => 1,
		ask => \&ask_member,
		call => sub {
			"credits_add_member($_[0], '$_->{member}', " . text($_->{cap}) . ", '$_->{per}', '" . zone($_->{west}) . "')";
		},
	},
	change_member => {
		weight => 1,
		no_key => 1,
		ask => \&ask_member,
		call => sub {
			"credits_change_member($_[0], '$_->{member}', " . text($_->{cap}) . ", '$_->{per}', '" . zone($_->{west}) . "'"
			  . (defined $_->{cap} ? ')' : ", clear => '{cap}')");
		},
		allowed => 'PT404',
	},
	remove_member => {
		weight => 0.6,
		no_key => 1,
		ask => \&ask_member,
		call => sub { "credits_remove_member($_[0], '$_->{member}')" },
		allowed => 'PT404',
	},
	open => {
		weight => 4,
		no_key => 1,
		# who was erased could come back, as another account
		ask => sub { return CreditsModelStaff::may_leave($_[0]) ? undef : {} },
		call => \&CreditsModelTold::open_call,
	},
);
my $weights = sum0 map { $_->{weight} } values %ops;

# One random request.
sub request
{
	while (1)
	{
		my $account = one_of(@accounts);
		my $what = rand $weights;
		my ($op) = grep { ($what -= $ops{$_}{weight}) < 0 } sort keys %ops;
		$op = 'redeem_promo' if rand() < 0.7 && CreditsModelCodes::wanted(micros());
		my $more = $ops{$op}{ask}->($account, $op) or next;
		my %request = (op => $op, account => $account, %$more);
		$request{key} = 'k' . ++$number if !$ops{$op}{no_key} && rand() < 0.7;
		return \%request;
	}
}

my $columns =
	'transaction_id, account, kind, amount, balance, held, replayed, '
  . '(extract(epoch FROM created_at) * 1000000)::bigint';
my $attempt_columns = join ', ', map { "(r.receipt).$_" }
  qw(transaction_id account kind amount balance held replayed);

sub sql_of
{
	my ($request) = @_;
	my $call = $ops{ $request->{op} }{call} // sub { "credits_$request->{op}_account($_[0], 'because')" };
	($call) = map { $call->(text($_->{account}), $_->{amount} // 'NULL', text($_->{key})) } $request;
	my $gift = $request->{op} eq 'create_gift';
	return "SELECT $columns FROM $call" unless attempts($request) || $request->{items} || $gift;
	return "SELECT $attempt_columns, (extract(epoch FROM (r.receipt).created_at) * 1000000)::bigint, "
	  . ($gift ? 'true' : 'r.ok') . ", r.code FROM $call AS r";
}

# Is a refusal an answer like others, and an event?
sub attempts
{
	my ($request) = @_;
	return $request->{op} eq 'try' || $request->{attempt};
}

# All of what it asks for can be sent again.
sub can_repeat
{
	my ($request) = @_;
	return !grep { !defined $_->{key} } @{ $request->{items} // [$request] };
}

# --------------------------------------------------------------------------
# what clients do: a unit is a list of steps and what to make of the answers

my @log;              # [request, receipt] of all that was acknowledged
my %codes;            # SQLSTATEs seen, by operation
my %refusals;         # attempts refused and committed, by kind of event and account
my @problems;
my ($commits, $rollbacks, $replays, $kills, $cancels) = (0) x 5;

sub problem { push @problems, shift if @problems < 20; return }

sub receipt_of
{
	my ($row) = @_;
	my %receipt;
	@receipt{qw(id account kind amount balance held replayed at ok code)} = split /\|/, $row;
	return \%receipt;
}

sub refused
{
	my ($request) = @_;
	$refusals{ $request->{op} =~ /^redeem/ ? 'redemption_refused' : 'deduction_refused' }{ $request->{account} }++;
	return;
}

# Take in what one committed request returned.
sub acknowledged
{
	my ($request, @rows) = @_;
	my @items = @{ $request->{items} // [$request] };
	problem(@rows . ' answers: ' . sql_of($request)) if @rows != @items;
	foreach my $item (@items)
	{
		$item->{$_} = $request->{$_} foreach grep { exists $request->{$_} } qw(sent level again committing);
		take_in($item, shift @rows, $request);
	}
	return;
}

# The same of one item.
sub take_in
{
	my ($request, $row, $whole) = @_;
	my $receipt = receipt_of($row);
	if (($receipt->{ok} // 't') eq 'f')
	{
		# that the service is paused says nothing about the account
		refused($request) unless $whole->{items} || $receipt->{code} eq 'PT503';
		problem("refused in an atomic batch: $receipt->{code}") if $whole->{atomic};
		check_code({ %$request, op => $whole->{op} }, $receipt);
		return;
	}
	$codes{"$whole->{op} item"}++ if $whole->{items};
	if ($receipt->{replayed} eq 't')
	{
		if ($request->{op} eq 'open')
		{
			return;
		}
		# what it asks for was done before, and there is no transaction
		if ($receipt->{id} eq '')
		{
			problem("nothing to do, and yet: $row") unless $request->{op} =~ /^(pause|resume|close|void)$/ && $receipt->{amount} == 0;
			return;
		}
		# somebody must have had the original, unless the connection was
		# killed before it came through
		my $known = $receipt_of{"$request->{account} $request->{key}"};
		if (defined $known)
		{
			$replays++;
			foreach my $field (qw(id account kind amount balance held at))
			{
				problem("replay of $request->{key}: $field $receipt->{$field}, was $known->[1]{$field}")
				  if $receipt->{$field} ne $known->[1]{$field};
			}
			problem("replay of $request->{key}: another code")
			  if $request->{op} eq 'create_gift' && $receipt->{code} ne $known->[1]{code};
			return;
		}
		problem("replay of $request->{key} that nobody sent before") unless $request->{again};
	}
	CreditsModelStaff::took(\&problem, $request, $request->{committing} // $request->{sent});
	@$receipt{qw(sent acked)} = ($request->{sent}, time);
	push @log, [ $request, $receipt ];
	if (defined $request->{key})
	{
		$receipt_of{"$request->{account} $request->{key}"} = $log[-1];
		push @keyed, "$request->{account} $request->{key}";
	}
	remember($request, $receipt);
	return;
}

# What later requests may be about.
sub remember
{
	my ($request, $receipt) = @_;
	my ($op, $account, $id) = (@$request{qw(op account)}, $receipt->{id});

	$balances{ $receipt->{account} } = $receipt->{balance};
	push @{ $spends{$account} }, $id if $receipt->{kind} =~ /^(deduction|capture)$/;
	push @{ $grants{$account} }, { grant => $id } if $op eq 'allocate';
	push @{ $grants{$account} }, { grant => $id } if $op =~ /^redeem/;
	push @gifts, { code => $receipt->{code}, target => $id, giver => $account } if $op eq 'create_gift';
	@gifts = grep { $_->{target} != $request->{target} } @gifts if $op =~ /^(redeem|cancel)_gift$/ && rand() < 0.7;
	push @accounts, $account if $op eq 'open';
	@accounts = grep { $_ ne $account } @accounts if $op =~ /^(close|erase)$/;
	$statuses{$account} = 'paused' if $op eq 'pause';
	delete $statuses{$account} if $op eq 'resume';
	push @{ $holds{$account} }, [ $id, $receipt->{at} + $request->{lasts} ] if $op eq 'hold' && $receipt->{amount} != 0;
	if ($op =~ /^(capture|release|extend)$/)
	{
		my ($hold) = grep { $_->[0] == $request->{target} } @{ $holds{$account} };
		my $goes_on = $op eq 'capture' && !$request->{final} && defined $request->{amount};
		$hold->[1] = $op eq 'extend' ? $receipt->{at} + $request->{lasts} : 0 if !$goes_on;
	}
	if ($op eq 'transfer' && $receipt->{amount} != 0)
	{
		push @{ $transfers{$account} }, $id;
		push @{ $grants{ $request->{to} } }, { grant => $id, received => 1 };
	}
	$members{"$account $request->{member}"} = $op eq 'remove_member' ? 0 : 1 if $op =~ /_member$/;
	know_member($request) if $op eq 'add_member';
	return;
}

# A member of a pool can spend from those above it, too.
sub know_member
{
	my ($request) = @_;
	my ($pool, $member) = @$request{qw(account member)};
	$pools_of{$member}{$_} = 1 foreach $pool, keys %{ $pools_of{$pool} };
	foreach my $below (grep { $pools_of{$_}{$member} } keys %pools_of)
	{
		$pools_of{$below}{$_} = 1 foreach keys %{ $pools_of{$member} };
	}
	return;
}

# errors that may happen; anything else is a problem
my %allowed = map { $_ => 1 } qw(00000 PT402 PT403 PT409 PT410 PT423 57014);

sub check_code
{
	my ($request, $answer, $level) = @_;
	my ($op, $code) = ($request->{op}, $answer->{code});
	$codes{"$op " . (defined $request->{pool} ? ($request->{mode} // "pool_only") . " " : "") . "$code"}++;
	return if $allowed{$code} || $code eq ($ops{$op}{allowed} // '');
	return if $code eq 'PT404' && CreditsModelStaff::names_erased($request);
	return if $code eq 'PT503' && CreditsModelStaff::may_refuse($request);
	return if $code eq '40001' && ($level // 'READ COMMITTED') ne 'READ COMMITTED';
	return if $code eq '40P01' && forgivable_deadlock($level);
	problem("$op failed with $code: " . sql_of($request));
	return;
}

# Two transactions of several statements may wait for each other, and then one
# that has only one may be in their way.  Single calls may not.
my %many;         # backend => when it was last seen in a transaction of several
my %met;          # backend => those that it met in its last deadlock
my $read = 0;     # so much of the server's log
my $current;      # session whose answer is looked at

sub forgivable_deadlock
{
	my ($level) = @_;
	return 1 if defined $level;
	my $report = slurp_file($node->logfile, $read);
	$read += length $report;
	while ($report =~ /\[(\d+)\] \S* *ERROR:  deadlock detected\n(.*\n(?:\t.*\n)*)/g)
	{
		my ($backend, $detail) = ($1, $2);
		$met{$backend} = [ $detail =~ /Process (\d+) waits for /g ];
	}
	return grep { ($many{$_} // 0) > time - 2 } @{ $met{ $current->{backend} } // [] };
}

# One request on its own.
sub unit_single
{
	my ($request) = @_;
	$request->{sent} //= time;
	return {
		steps => [ sql_of($request) ],
		done => sub {
			my ($answer) = @_;
			check_code($request, $answer);
			acknowledged($request, @{ $answer->{rows} }) if $answer->{code} eq '00000';
		},
	};
}

# A request sent again after it was acknowledged: as it was, or changed.
sub unit_replay
{
	my $key = $keyed[ int rand @keyed ];
	my ($request) = @{ $receipt_of{$key} };
	if (rand() < 0.3 && $request->{op} =~ /deduct|try|adjust|allocate|hold|transfer|create_gift|gift_many|charge/)
	{
		my %other = %$request;
		$other{ $request->{op} eq 'charge' ? 'quantity' : 'amount' }++;
		$other{amount} = 99 if ($other{amount} // 1) == 0;
		return {
			steps => [ sql_of(\%other) ],
			done => sub {
				my ($answer) = @_;
				my $code = $answer->{code};
				if (attempts(\%other) && $code eq '00000')
				{
					$code = receipt_of($answer->{rows}[0])->{code};
					refused(\%other);
				}
				return if $code eq 'PT404' && CreditsModelStaff::names_erased(\%other);
				problem("key $key for another request: $code")
				  unless $code eq 'PT409' || $code eq '40P01' && forgivable_deadlock();
			},
		};
	}
	my $sent = time;
	return {
		steps => [ sql_of($request) ],
		done => sub {
			my ($answer) = @_;
			if (CreditsModelStaff::names_erased($request) && $answer->{code} ne '00000')
			{
				# its key is unknown: it is a new request
				check_code({ %$request, sent => $sent }, $answer);
				return;
			}
			# to void what was voided is done without a key
			problem("key $key answers though the account was erased: @{$answer->{rows}}")
			  if CreditsModelStaff::was_erased($request->{account}, $sent) && !attempts($request) && $answer->{rows}[0] !~ /^\|/;
			if ($answer->{code} ne '00000')
			{
				problem("replay of $key failed with $answer->{code}")
				  unless $answer->{code} eq '40P01' && forgivable_deadlock();
				return;
			}
			my $receipt = receipt_of($answer->{rows}[0]);
			if (($receipt->{ok} // 't') eq 'f' && CreditsModelStaff::names_erased($request))
			{
				take_in({ %$request, sent => $sent }, $answer->{rows}[0], $request);
				return;
			}
			problem("replay of $key was not one: @{$answer->{rows}}") if $receipt->{replayed} ne 't';
			acknowledged($request, $answer->{rows}[0]);
		},
	};
}

# Several requests in one transaction, some of them within a savepoint.
sub unit_transaction
{
	my ($level) = @_;
	my (@steps, @requests);
	my $end = rand() < 0.65 ? 'COMMIT' : 'ROLLBACK';
	push @steps, "BEGIN ISOLATION LEVEL $level";
	push @requests, undef;
	foreach (1 .. 1 + int rand 4)
	{
		if (rand() < 0.25)
		{
			push @steps, 'SAVEPOINT s';
			push @requests, undef;
			my $inner = request();
			$inner->{sent} = time;
			push @steps, sql_of($inner);
			# rolled back: nothing to acknowledge, but errors are forgiven
			push @requests, { %$inner, undone => 1 };
			push @steps, 'ROLLBACK TO s';
			push @requests, undef;
		}
		else
		{
			my $request = request();
			@$request{qw(sent level)} = (time, $level);
			push @steps, sql_of($request);
			push @requests, $request;
		}
	}
	push @steps, $end;
	push @requests, undef;

	my @pending;
	return {
		steps => \@steps,
		many => 1,
		each => sub {
			my ($number, $answer) = @_;
			my $request = $requests[$number];
			if (!defined $request)
			{
				return 1 if $answer->{code} eq '00000';
				# a SERIALIZABLE transaction may fail at its end
				problem("$steps[$number]: $answer->{code}") unless $answer->{code} =~ /^40/;
				return 0;
			}
			check_code($request, $answer, $level);
			if ($request->{undone})
			{
				return $answer->{code} !~ /^(40|gone)/;
			}
			return 0 if $answer->{code} ne '00000';
			push @pending, [ $request, @{ $answer->{rows} } ];
			$_->[0]{committing} = time foreach @pending;
			return 1;
		},
		failed => sub { $rollbacks++ },
		done => sub {
			if ($end eq 'ROLLBACK')
			{
				$rollbacks++;
				return;
			}
			$commits++;
			acknowledged(@$_) foreach @pending;
		},
	};
}

# Is an account unknown because it was erased meanwhile?
sub is_gone
{
	my ($answer, $account) = @_;
	return $answer->{code} eq 'PT404' && CreditsModelStaff::is_erased($account);
}

# Settle, or read.
sub unit_other
{
	my $account = $accounts[ int rand @accounts ];
	if (rand() < 0.4)
	{
		my $batch = 1 + int rand 5;
		return {
			steps => ["CALL credits_settle(batch_size => $batch)"],
			done => sub {
				my ($answer) = @_;
				$codes{"settle $answer->{code}"}++;
				problem("credits_settle: $answer->{code} @{$answer->{rows}}")
				  unless $answer->{code} eq '00000' && $answer->{rows}[0] =~ /^\d+\|0$/;
			},
		};
	}
	if (rand() < 0.2)
	{
		# true at any moment, whatever the others are doing
		my $which = rand() < 0.1 ? '' : "'$account'";
		return {
			steps => ["SELECT count(*), string_agg(v::text, ' ') FROM credits_verify($which) AS v"],
			done => sub {
				my ($answer) = @_;
				problem("credits_verify: $answer->{code} @{$answer->{rows}}")
				  unless $answer->{code} eq '00000' && $answer->{rows}[0] eq '0|' || is_gone($answer, $account);
			},
		};
	}
	if (rand() < 0.4)
	{
		return {
			steps => ["SELECT credits_referral_code('$account')"],
			done => sub {
				my ($answer) = @_;
				my ($code) = @{ $answer->{rows} };
				return if $answer->{code} eq 'PT423' || is_gone($answer, $account);    # it was closed meanwhile
				problem("credits_referral_code: $answer->{code} " . ($code // ''))
				  unless $answer->{code} eq '00000' && $code eq ($referrals{$account} //= $code);
			},
		};
	}
	return {
		steps => [
			"SELECT credits_balance('$account'), s.balance, credits_balance_at('$account', clock_timestamp()), "
			  . "(SELECT count(*) FROM credits_history('$account', 10)) FROM credits_summary('$account') AS s"
		],
		done => sub {
			my ($answer) = @_;
			problem("reading: $answer->{code} @{$answer->{rows}}")
			  unless $answer->{code} eq '00000' && $answer->{rows}[0] =~ /^\d+\|\d+\|\d+\|\d+$/ || is_gone($answer, $account);
		},
	};
}

# A request with a key whose statement is cancelled, or whose connection is
# killed, while it runs; sent again until there is an answer.
sub unit_disturbed
{
	my ($session, $kill) = @_;
	my $request;
	do { $request = request() } until can_repeat($request) && !attempts($request);
	my $unit = unit_single($request);
	my $done = $unit->{done};
	if ($kill)
	{
		$kills++;
		$unit->{sent} = sub {
			# may come before the effect or after it
			$session->{doomed} = 1;
			$boss->value("SELECT pg_terminate_backend($session->{backend})");
		};
		$unit->{gone} = sub {
			$request->{again} = 1;
			return unit_single($request);
		};
	}
	else
	{
		$cancels++;
		$unit->{sent} = sub { $boss->value("SELECT pg_cancel_backend($session->{backend})") };
		$unit->{done} = sub {
			my ($answer) = @_;
			$done->($answer);
			return unless $answer->{code} eq '57014';
			return unit_single($request);
		};
	}
	return $unit;
}

sub next_unit
{
	my ($session) = @_;
	my $what = rand;
	return unit_single(new_account()) if @accounts < 5 + @pools;
	my $pause = CreditsModelStaff::pause_or_resume(\&problem);
	return $pause if $pause;
	if ($what < 0.002 and my $account = one_of(grep { CreditsModelStaff::may_leave($_) && !CreditsModelStaff::is_erased($_) } @accounts))
	{
		return CreditsModelStaff::erase(\&problem, $account, sub { take_in(@_, $_[0]) }, \&forgivable_deadlock);
	}
	return unit_single(request()) if $what < 0.55;
	return unit_transaction('READ COMMITTED') if $what < 0.70;
	return unit_transaction('REPEATABLE READ') if $what < 0.75;
	return unit_transaction('SERIALIZABLE') if $what < 0.77;
	return unit_replay() if $what < 0.87 && @keyed;
	return unit_disturbed($session, rand() < 0.3) if $what < 0.90;
	return CreditsModelTold::unit(\&problem) if $what < 0.93;
	return CreditsModelRewards::unit(\&problem) if $what < 0.94;
	if ($what < 0.96 and my $account = one_of(grep { $spends{$_} } @accounts))
	{
		return CreditsModelDisputes::unit(\&problem, $account, recent($spends{$account}, 8));
	}
	return unit_other();
}

# --------------------------------------------------------------------------
# the run

sub connect_client
{
	my ($number) = @_;
	my $session = CreditsTest::Session->new($node, $number % 2 ? (user => 'admin') : ());
	$session->{number} = $number;
	$session->{backend} = $session->value('SELECT pg_backend_pid()');
	return $session;
}

sub begin_unit
{
	my ($session, $unit) = @_;
	$session->{unit} = $unit;
	$session->{step} = 0;
	$session->send($unit->{steps}[0]);
	$unit->{sent}->() if $unit->{sent};
	return;
}

# Handle an answer: true if the session has nothing more to do.
sub go_on
{
	my ($session, $answer) = @_;
	my $unit = $session->{unit};
	my $next;
	$current = $session;
	$many{ $session->{backend} } = time if $unit->{many};
	if ($answer->{code} eq 'gone')
	{
		$next = $unit->{gone} ? $unit->{gone}->() : undef;
		problem("connection lost in $unit->{steps}[$session->{step}]: @{$answer->{messages}}")
		  unless $unit->{gone};
		$session->{replace} = 1;
		$session->{next} = $next;
		return 0;
	}
	if ($unit->{each})
	{
		if (!$unit->{each}->($session->{step}, $answer))
		{
			$unit->{failed}->();
			begin_unit($session, { steps => ['ROLLBACK'], done => sub { } });
			return 0;
		}
		if (++$session->{step} < @{ $unit->{steps} })
		{
			$session->send($unit->{steps}[ $session->{step} ]);
			return 0;
		}
	}
	$next = $unit->{done}->($answer);
	if ($session->{doomed})
	{
		$session->{replace} = 1;
		return 0;
	}
	if (ref $next eq 'HASH')
	{
		begin_unit($session, $next);
		return 0;
	}
	return 1;
}

# pools, in order, and some to be in others
foreach my $pool (@pools)
{
	begin_unit($boss, unit_single({ op => 'open', account => $pool, amount => 3000 }));
	go_on($boss, $boss->receive);
}
foreach my $level ([ 0, 1 ], [ 0, 2 ], [ 1, 3 ], [ 3, 4 ])
{
	my %request = (op => 'add_member', account => $pools[ $level->[0] ], member => $pools[ $level->[1] ]);
	begin_unit($boss, unit_single({ %request, cap => 20_000, per => 'day', west => $wests[1] }));
	go_on($boss, $boss->receive);
}

my %sessions = map { $_ => connect_client($_) } 1 .. $clients;
begin_unit($_, next_unit($_)) foreach values %sessions;
my $end = time + $seconds;
my $units = 0;
while (%sessions)
{
	foreach my $session (wait_any(values %sessions))
	{
		my $idle = go_on($session, $session->take);
		if (delete $session->{replace})
		{
			my $next = delete $session->{next};
			$session->quit;
			my $fresh = $sessions{ $session->{number} } = connect_client($session->{number});
			begin_unit($fresh, $next // { steps => ['SELECT 1'], done => sub { } });
			next;
		}
		next unless $idle;
		$units++;
		if (time < $end)
		{
			begin_unit($session, next_unit($session));
		}
		else
		{
			$session->quit;
			delete $sessions{ $session->{number} };
		}
	}
}

note "$units units, " . @log . " receipts, $commits commits, $rollbacks rollbacks, "
  . "$replays replays, " . sum0(map { values %$_ } values %refusals) . " refusals, $cancels cancels, $kills kills";
note join ', ', map { "$_: $codes{$_}" } sort keys %codes;
note $node->safe_psql('postgres', q(
	SELECT string_agg(what || ': ' || n, ', ' ORDER BY what)
	FROM (SELECT kind || CASE WHEN terms ? 'parts' THEN ' split' WHEN terms ? 'via' THEN ' through pools'
			WHEN member_id IS NOT NULL THEN ' of a pool' ELSE '' END AS what, count(*) AS n
		FROM credits.transactions GROUP BY what) AS w));
is(join("\n", @problems), '', 'no unexpected answer');
cmp_ok(scalar(@log), '>', 50 * $seconds / ($ENV{CREDITS_SLOWER} // 1), 'enough was done (' . @log . ' receipts)');

# --------------------------------------------------------------------------
# the comparison

CreditsModelStaff::compare($boss);
my $model = CreditsModel->new(grace => $grace);

# what a hold that timed out gives back to caps, when the log says so
my @noticed = map { [ split /\|/, CreditsModelStaff::original($_) ] } split /\n/, $node->safe_psql('postgres', q(
	SELECT r.id, COALESCE(h.target_id, h.id), a.name, (extract(epoch FROM r.created_at) * 1000000)::bigint
	FROM credits.transactions AS r
	JOIN credits.transactions AS h ON h.id = r.target_id AND h.kind IN ('hold', 'gift')
	JOIN credits.accounts AS a ON a.id = r.account_id
	WHERE r.kind = 'release'));

# Shows what the log has of a request's accounts, up to it.
sub tell_of
{
	my ($request, $id) = @_;
	foreach my $name (grep { defined } @$request{qw(account pool to member giver referrer)}, @{ $request->{to_many} // [] })
	{
		my $alias = CreditsModelStaff::alias($name);
		diag "$name, " . ($request->{level} // 'alone') . ":\n" . $node->safe_psql('postgres', qq(
			SELECT * FROM (
				SELECT id, (extract(epoch FROM created_at) * 1000000)::bigint, kind, amount, held,
					balance_after, held_after, target_id, member_id, draws, terms
				FROM credits.transactions
				WHERE account_id = credits.account_id('$alias') AND id < $id + 5
				ORDER BY id DESC LIMIT 20) AS t
			ORDER BY id));
	}
	return;
}

my (@wrong, %at);
foreach my $event (sort { $a->[0] <=> $b->[0] || @$a <=> @$b }
	map({ [ $_->[1]{id}, $_ ] } @log), map { [ $_->[0], undef, $_ ] } @noticed)
{
	my ($id, $entry, $noticed) = @$event;
	if ($noticed)
	{
		my $wrong = $model->noticed(@$noticed[ 1 .. 3 ]);
		push @wrong, "transaction $id: $wrong" if $wrong;
		next;
	}
	my ($request, $receipt) = @$entry;
	my $wrong = $model->play($request, $receipt);
	tell_of($request, $id) if $wrong && !@wrong;
	push @wrong, "transaction $id: $wrong: " . sql_of($request) if $wrong;
	$at{$_}{ $receipt->{at} } = CreditsModel::balance($model->{touched}{$_}) foreach keys %{ $model->{touched} };
	last if @wrong > 5;
}
is(join("\n", @wrong), '', 'the model comes to the balance of every receipt');

# the final state, at one instant of the clock
my $now = $node->safe_psql('postgres', 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint');
$boss->value("SELECT set_config('credits.test_clock', (" . timestamp($now) . ")::text, false)");
is($boss->value('CALL credits_settle()') =~ /^\d+\|0$/, 1, 'all are settled');

sub compare
{
	my ($what, $expected, $query) = @_;
	my %found;
	foreach my $row (split /\n/, $boss->value($query))
	{
		my ($name, $state) = split /\|/, CreditsModelStaff::original($row), 2;
		$found{$name} = $state;
	}
	return if is_deeply(\%found, $expected, $what);
	my @differ = grep { ($found{$_} // '') ne ($expected->{$_} // '') } sort keys %{ { %$expected, %found } };
	foreach my $name (splice @differ, 0, 3)
	{
		my ($left, $right) = map { { map { $_ => 1 } split / / } } $expected->{$name} // '', $found{$name} // '';
		diag "$name: " . join(' ', grep { !$right->{$_} } sort keys %$left) . ', found '
		  . join ' ', grep { !$left->{$_} } sort keys %$right;
	}
	return;
}

compare('status, balance, held, lifetime totals and transactions of every account', $model->accounts($now), q(
	SELECT a.name, s.status, s.balance, s.held, s.granted, s.spent, s.refunded, s.expired, a.transaction_count
	FROM credits.accounts AS a, credits_summary(a.name) AS s WHERE a.name <> 'none'));
compare('what is left of each grant', $model->grants, q(
	SELECT a.name, string_agg(g.grant, ' ' ORDER BY g.grant COLLATE "C")
	FROM (
		SELECT account_id, concat_ws('/', (extract(epoch FROM effective_at) * 1000000)::bigint, amount, remaining,
			priority, (extract(epoch FROM expires_at) * 1000000)::bigint) AS grant
		FROM credits.grants) AS g
	JOIN credits.accounts AS a ON a.id = g.account_id GROUP BY a.name));
compare('each hold', $model->holds, q(
	SELECT COALESCE(t.target_id, h.hold_id) || ' ' || a.name, h.status, h.reserved, h.captured, h.released,
		CASE WHEN isfinite(h.expires_at) THEN (extract(epoch FROM h.expires_at) * 1000000)::bigint END
	FROM credits.holds AS h
	JOIN credits.transactions AS t ON t.id = h.hold_id
	JOIN credits.accounts AS a ON a.id = t.account_id));
compare('each gift', CreditsModelCodes::gifts($model),
	'SELECT transaction_id, account, status, redeemed_by FROM credits.gifts');
compare('how often each code was redeemed', CreditsModelCodes::uses($model), q(
	SELECT code, uses, (SELECT count(*) FROM credits.redemptions AS r WHERE r.code_id = c.code_id) FROM credits.promo_codes AS c));
is($boss->value("SELECT string_agg(code, ' ' ORDER BY code COLLATE \"C\") FROM credits.promo_codes WHERE uses = max_uses"),
	join(' ', CreditsModelCodes::used_up($model)), 'which codes are used up');
is($boss->value('SELECT count(*) FROM credits.promo_codes WHERE uses > max_uses'), '0', 'and none beyond');
compare('whom each account has referred', CreditsModelCodes::referrals($model),
	'SELECT account, referrals, credits FROM credits.referral_counts WHERE referrals > 0');
compare('what each member has used', $model->members($now),
	q(SELECT pool || ' ' || account, cap, per, used FROM credits.pool_members));
compare('what counts against each limit', $model->limits($now), q(
	SELECT a.name,
		CASE WHEN l.day_start >= date_trunc('day', credits.now(), l.timezone) THEN l.day_used ELSE 0 END,
		CASE WHEN l.month_start >= date_trunc('month', credits.now(), l.timezone) THEN l.month_used ELSE 0 END
	FROM credits.limits AS l JOIN credits.accounts AS a ON a.id = l.account_id));

# any instant in between
my @instants;
foreach my $name (keys %at)
{
	push @instants, [ CreditsModelStaff::alias($name), $_, $at{$name}{$_} ] foreach keys %{ $at{$name} };
}
@instants = (shuffle @instants)[ 0 .. min(1000, scalar @instants) - 1 ];
my $values = join ', ', map { "('$_->[0]', $_->[1]::bigint, $_->[2])" } @instants;
is($node->safe_psql('postgres', qq(
	SELECT count(*) FROM (VALUES $values) AS v (name, at, balance)
	WHERE credits_balance_at(name, timestamptz 'epoch' + at * interval '1 microsecond') IS DISTINCT FROM balance)),
	'0', 'credits_balance_at the instant of ' . @instants . ' receipts');

# the log holds what was acknowledged, with what came along, and what the
# clock did
my (%logged, %with);
foreach my $row (split /\n/, $node->safe_psql('postgres', q(
	SELECT id, l.xmin, t.kind, octet_length(l.salt), t.target_id,
		extract(epoch FROM t.created_at) FROM credits.transactions AS t JOIN credits.log AS l USING (id)
	WHERE t.account_id <> credits.account_id('none'))))
{
	my ($id, $by, $kind, $salt, $target, $at) = split /\|/, $row, -1;
	$logged{$id} = { by => $by, kind => $kind, erased => $salt eq '32', target => $target, at => $at };
}
my @unlogged = grep { !$logged{ $_->[1]{id} } } @log;
is(scalar(@unlogged), 0, 'every receipt is in the log');
$with{ $logged{ $_->[1]{id} }{by} } = 1 foreach grep { $logged{ $_->[1]{id} } } @log;
# whoever has erased a text has written the row again, and not what came along with it
foreach my $id (grep { $logged{$_}{erased} } keys %logged)
{
	my ($target, $at) = @{ $logged{$id} }{qw(target at)};
	my @along = grep { $_ eq $target || $logged{$_}{target} eq $id || $logged{$_}{at} eq $at } keys %logged;
	$with{ $logged{$_}{by} } = 1 foreach @along;
}
my @others = grep { !$with{ $logged{$_}{by} } && $logged{$_}{kind} !~ /^(expiration|activation|release|void)$/ }
  sort keys %logged;
is("@others", '', 'and nothing else is');

# what was moved by hand, of which the audit has one row each, and none of anything else
is($node->safe_psql('postgres', q(
	SELECT count(*) FROM (
		SELECT id, account_id, amount FROM credits.transactions
		WHERE kind = 'adjustment' OR kind = 'allocation' AND operation IS NULL OR kind = 'void' AND target_id IS NULL) AS l
	FULL JOIN (
		SELECT transaction_id, account_id, amount FROM credits.audit_log WHERE topic IN ('adjustment', 'allocation', 'void')) AS a
	ON a.transaction_id = l.id AND a.account_id = l.account_id AND a.amount = l.amount
	WHERE a.transaction_id IS NULL OR l.id IS NULL)), '0', 'the audit has what was moved by hand');

# what was refused, and who was alerted
my $gone = "('" . join("', '", CreditsModelStaff::erased()) . "')";
foreach my $kind (keys %refusals)
{
	my $of = $refusals{$kind};
	$refusals{$kind} = sum0 map { $of->{$_} } grep { !CreditsModelStaff::is_erased($_) } keys %$of;
}
compare('each refused attempt is counted by an event', \%refusals,
	qq(SELECT kind, sum((detail->>'count')::bigint) FROM credits.events WHERE kind LIKE '%refused' AND detail ? 'count' AND detail->>'account' NOT IN $gone
		AND detail->>'account' NOT LIKE 'erased:%' GROUP BY kind));
is($node->safe_psql('postgres', q(SELECT count(*) FROM credits.events WHERE kind = 'settle_failed')),
	'0', 'settling never failed');
my $heard = $listener->query('SELECT 1');
is(scalar(grep { !($_->{payload} =~ /"account": *"([^"]*)"/ && CreditsModelStaff::is_erased(CreditsModelStaff::original($1))) } @{ $heard->{notifications} }),
	$node->safe_psql('postgres', q(SELECT count(*) FROM credits.events WHERE kind = 'low_balance'
		AND account_id NOT IN (SELECT account_id FROM credits.erasures))),
	'a notification for each alert, and no more');
is($node->safe_psql('postgres', q(
	SELECT count(*) FROM credits.events AS e JOIN credits.transactions AS t ON t.id = e.transaction_id
	WHERE e.kind = 'low_balance' AND ((e.detail->>'balance')::bigint <> t.balance_after
		OR (t.balance_after >= (e.detail->>'threshold')::bigint AND NOT e.detail ? 'depleted')
		OR (t.balance_after = 0) <> (e.detail ? 'depleted') OR e.account_id <> t.account_id))),
	'0', 'each alert tells of its transaction');
CreditsModelDisputes::compare($boss);
CreditsModelRewards::compare($boss, $model);
CreditsModelTold::compare($boss);
problems_are($node, '', 'verify');

$_->quit foreach $boss, $listener;
$node->stop;
done_testing();
