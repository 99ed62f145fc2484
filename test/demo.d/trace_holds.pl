# trace_holds.pl - holds an estimate for each request of a trace, and captures
# what it really cost
#
# usage: trace_holds.pl DATABASE <AzureLLMInferenceTrace_code.csv
#
# The clock is the trace's own, by credits.test_clock: requests come when the
# trace says and take 30 ms per token that is generated, so that several are
# under way at once.  Calls are made one after the other, in order of that clock.
#
# When a request comes, the tokens of its context are known, those that will be
# generated are not: the hold allows for 200.  When it ends, the real cost is
# captured.  If it is more, the rest is taken too, or else, where that is
# refused, only what is held.  Every 50th request fails and is released; every
# 250th is not heard of for five minutes, when its hold has long timed out.
#
# Whose request is whose, Trace.pm says.  The accounts have no credits of their
# own: twenty each are members of one of ten pools, and may spend 240 a day.
# In half of the pools a day begins in UTC, in the others in India, which is at
# 18:30 UTC, a quarter of an hour into the trace.  The last pool has only half
# of the credits that the others have, and runs dry.
#
# What is checked: a model that knows only what the calls said expects each
# receipt, each refusal, what each member has used of its cap, and in the end
# each row of the log; and credits_verify must find nothing.

use strict;
use warnings;
use File::Basename qw(dirname);
use POSIX qw(strftime);
use Time::HiRes qw(time);
use Time::Local qw(timegm);
use lib dirname(__FILE__);
use Trace;

# times are in microseconds
use constant {
	POOLS => 10,
	BOUGHT => 4000,
	CAP => 240,
	ALLOWANCE => 2,
	RETRY => 10,
	REFUND => 100,
	FAIL => 50,
	LOSE => 250,
	HALF_WAY => 4400,
	SECOND => 1_000_000,
	MINUTE => 60 * 1_000_000,
	DAY => 24 * 60 * 60 * 1_000_000,
	PER_TOKEN => 30_000,
	HOLD_LASTS => 2 * 60 * 1_000_000,
	LOST_FOR => 5 * 60 * 1_000_000,
};

my ($database) = @ARGV;
my %count = map { $_ => 0 }
  qw(calls held PT402 PT403 captured more less short released timed_out late replayed refunded);
my %sum = map { $_ => 0 } qw(bought captured refunded);
my $now;
my %pool;      # what each has, its open holds and the rows that its log should have
my %member;    # what each has used, and since when
my @events;    # what is to come, by time

# time

sub instant
{
	my ($text) = @_;
	my ($y, $mon, $d, $h, $m, $s, $fraction) =
	  $text =~ /^(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)\.(\d{6})/
	  or die "\"$text\" is not a time of the trace\n";

	return timegm($s, $m, $h, $d, $mon - 1, $y) * SECOND + $fraction;
}

sub timestamp
{
	my ($at) = @_;

	return sprintf '%s.%06d', strftime('%Y-%m-%d %H:%M:%S', gmtime int($at / SECOND)), $at % SECOND;
}

sub at
{
	my ($at, $what) = @_;
	my $i = @events;

	$i-- while $i > 0 && $events[ $i - 1 ][0] > $at;
	splice @events, $i, 0, [ $at, $what ];
	return;
}

# the model

sub pool_name { return sprintf 'team:%02d', $_[0] }

sub log_row
{
	my ($pool, $at, $kind, $account, $amount, $held) = @_;
	my $p = $pool{$pool};

	$p->{balance} += $amount;
	$p->{held} += $held;
	push @{ $p->{rows} },
	  join ' ', timestamp($at), $kind, $account, $amount, $held, $p->{balance}, $p->{held};
	return;
}

sub begin_day
{
	my ($account) = @_;
	my $m = $member{$account};
	my $start = $now - ($now + $m->{offset}) % DAY;

	@$m{qw(start used)} = ($start, 0) if $start > $m->{start};
	return;
}

# What was held on an earlier day gives nothing back to this one.
sub give_back
{
	my ($hold, $amount) = @_;
	my $m = $member{ $hold->{account} };

	begin_day($hold->{account});
	$m->{used} -= $amount if $hold->{at} >= $m->{start};
	return;
}

# Releases what is left of a hold.
sub close_hold
{
	my ($hold, $amount, $at) = @_;

	log_row($hold->{pool}, $at, 'release', $hold->{account}, $amount, -$amount);
	give_back($hold, $amount);
	return;
}

sub settle
{
	my ($pool) = @_;
	my $open = $pool{$pool}{open};

	foreach my $id (sort { $a <=> $b } grep { $open->{$_}{expires} <= $now } keys %$open)
	{
		my $hold = delete $open->{$id};

		close_hold($hold, $hold->{amount}, $hold->{expires});
		$count{timed_out}++;
	}
	return;
}

# Returns why a member may not spend an amount, if so.
sub over_cap
{
	my ($account, $amount) = @_;

	begin_day($account);
	return $member{$account}{used} + $amount > CAP ? 'PT403' : undef;
}

sub too_poor
{
	my ($pool, $amount) = @_;

	return $pool{$pool}{balance} < $amount ? 'PT402' : undef;
}

# setting up

$| = 1;

begin_trace();
my $request = next_request() // die "the trace is empty\n";
$now = instant($request->{at}) - MINUTE;

my $dba = install($database);
$dba->do('GRANT SET ON PARAMETER credits.test_clock TO shop');
my $shop = open_session($database, 'shop');
my %set_clock = map { $_ => $_->prepare(q{SELECT set_config('credits.test_clock', $1, false)}) }
  $dba, $shop;

sub set_clock
{
	$set_clock{$_}->execute(timestamp($now) . '+00') foreach @_;
	return;
}

set_clock($dba);
foreach my $k (1 .. POOLS)
{
	my $pool = pool_name($k);
	my $bought = $k < POOLS ? BOUGHT : BOUGHT / 2;

	$pool{$pool} = { balance => 0, held => 0, open => {}, rows => [] };
	$dba->do('SELECT credits_open_account($1)', undef, $pool);
	$dba->do(q{SELECT credits_allocate($1, $2, source => 'purchase')}, undef, $pool, $bought);
	log_row($pool, $now, 'opening', '-', 0, 0);
	log_row($pool, $now, 'allocation', '-', $bought, 0);
	$sum{bought} += $bought;
}
foreach my $k (1 .. ACCOUNTS)
{
	my $account = account_name($k);
	my $pool = pool_name(1 + $k % POOLS);
	my ($zone, $offset) = $k % 2 ? ('UTC', 0) : ('Asia/Kolkata', 330 * MINUTE);

	$dba->do('SELECT credits_open_account($1)', undef, $account);
	$dba->do(q{SELECT credits_add_member($1, $2, $3, 'day', $4)},
		undef, $pool, $account, CAP, $zone);
	log_row($pool, $now, 'membership', '-', 0, 0);
	$member{$account} = { pool => $pool, offset => $offset, start => 0 };
	begin_day($account);
}

# the calls

my %statement = (
	hold => $shop->prepare(q{
		SELECT * FROM credits_hold($1, $2, expires_in => '2 minutes', idempotency_key => $3,
			operation => 'completion', metadata => $4, pool => $5)}),
	capture => $shop->prepare(q{
		SELECT * FROM credits_capture($1, $2, idempotency_key => $3, allow_more => $4)}),
	release => $shop->prepare(q{
		SELECT * FROM credits_release($1, idempotency_key => $2, reason => 'generation failed')}),
	refund => $shop->prepare(q{
		SELECT * FROM credits_refund($1, idempotency_key => $2, reason => 'goodwill')}));

# Calls a function, which should be refused as said, if so.  Returns its receipt.
sub call
{
	my ($n, $refusal, $function, @arguments) = @_;
	my $statement = $statement{$function};
	my $receipt = eval { one_row($statement, @arguments) };

	$count{calls}++;
	die "line $n: " . ($statement->errstr // $@) if !$receipt && ($statement->state // '') !~ /^PT/;
	check("line $n: $function", $receipt ? 'a receipt' : $statement->state,
		$refusal // 'a receipt');
	return $receipt;
}

# Checks a receipt, once the model has made the change too, and sends every 10th
# request once more.
sub received
{
	my ($n, $pool, $amount, $receipt, $function, @arguments) = @_;

	check("line $n: receipt of $function", join(' ', @$receipt{qw(account kind amount balance held)}),
		join(' ', $pool, $function, $amount, @{ $pool{$pool} }{qw(balance held)}));
	if ($n % RETRY == 0)
	{
		my $again = call($n, undef, $function, @arguments);

		wrong("line $n: the retry returned another receipt")
		  unless $again && same_receipt($receipt, $again);
		$count{replayed}++;
	}
	return;
}

# A request comes.
sub begin
{
	my ($request) = @_;
	my $n = $request->{n};
	my $account = account_name(account_number($n));
	my $pool = $member{$account}{pool};
	my $estimate = context_cost($request) + ALLOWANCE;
	my @arguments = ($account, $estimate, "line:$n", metadata($request), $pool);

	settle($pool);
	my $refusal = over_cap($account, $estimate) // too_poor($pool, $estimate);
	my $receipt = call($n, $refusal, 'hold', @arguments);
	if (!$receipt)
	{
		$count{ $statement{hold}->state }++;
		return;
	}
	my $hold = {
		id => $receipt->{transaction_id}, n => $n, account => $account, pool => $pool,
		amount => $estimate, cost => context_cost($request) + generation_cost($request),
		at => $now, expires => $now + HOLD_LASTS
	};
	$pool{$pool}{open}{ $hold->{id} } = $hold;
	$member{$account}{used} += $estimate;
	log_row($pool, $now, 'hold', $account, -$estimate, $estimate);
	received($n, $pool, -$estimate, $receipt, 'hold', @arguments);
	$count{held}++;
	at($now + ($n % LOSE == 1 ? LOST_FOR : PER_TOKEN * $request->{generated}),
		sub { $n % FAIL == 0 ? fail($hold) : finish($hold) });
	return;
}

# A request has failed.
sub fail
{
	my ($hold) = @_;
	my ($n, $pool) = @$hold{qw(n pool)};
	my @arguments = ($hold->{id}, "line:$n:end");

	settle($pool);
	my $receipt = call($n, undef, 'release', @arguments) // return;
	delete $pool{$pool}{open}{ $hold->{id} };
	close_hold($hold, $hold->{amount}, $now);
	received($n, $pool, $hold->{amount}, $receipt, 'release', @arguments);
	$count{released}++;
	return;
}

# A request has ended, and its cost is known.
sub finish
{
	my ($hold) = @_;
	my ($n, $account, $pool, $cost) = @$hold{qw(n account pool cost)};
	my @arguments = ($hold->{id}, $cost, "line:$n:end", 1);
	my $more = $cost - $hold->{amount};
	my ($receipt, $refusal);

	settle($pool);
	if (!$pool{$pool}{open}{ $hold->{id} })
	{
		call($n, 'PT410', 'capture', @arguments);
		$count{late}++;
		return;
	}
	$refusal = too_poor($pool, $more) // over_cap($account, $more) if $more > 0;
	$receipt = call($n, $refusal, 'capture', @arguments);
	if (!$receipt)
	{
		# a refusal keeps no key
		$cost = $hold->{amount};
		@arguments[ 1, 3 ] = ($cost, 0);
		$receipt = call($n, undef, 'capture', @arguments) // return;
		$count{short}++;
	}
	elsif ($more > 0)
	{
		$member{$account}{used} += $more;
		log_row($pool, $now, 'hold', $account, -$more, $more);
		$count{more}++;
	}
	delete $pool{$pool}{open}{ $hold->{id} };
	log_row($pool, $now, 'capture', $account, 0, -$cost);
	$sum{captured} += $cost;
	$count{captured}++;
	if ($more < 0)
	{
		close_hold($hold, -$more, $now);
		$count{less}++;
	}
	received($n, $pool, 0, $receipt, 'capture', @arguments);
	refund($hold, $cost, $receipt->{transaction_id}) if $n % REFUND == 1;
	return;
}

sub refund
{
	my ($hold, $cost, $id) = @_;
	my ($n, $pool) = @$hold{qw(n pool)};
	my @arguments = ($id, "line:$n:refund");
	my $receipt = call($n, undef, 'refund', @arguments) // return;

	log_row($pool, $now, 'refund', $hold->{account}, $cost, 0);
	give_back($hold, $cost);
	$sum{refunded} += $cost;
	$count{refunded}++;
	received($n, $pool, $cost, $receipt, 'refund', @arguments);
	return;
}

sub settle_all
{
	set_clock($dba);
	$dba->do('CALL credits_settle()');
	settle($_) foreach keys %pool;
	return;
}

# The scheduler's job, as long as there is anything to come.
sub run_job
{
	settle_all();
	at($now + MINUTE, \&run_job) if $request || @events;
	return;
}

# what the log says

# Returns credits in, out, held and left by the receipts, and by the log.
sub balances
{
	my %client = (%sum, held => 0, balance => 0);

	foreach my $p (values %pool)
	{
		$client{$_} += $p->{$_} foreach qw(held balance);
	}
	return [ 'receipts', \%client ],
	  [ 'the log', $dba->selectrow_hashref(q{
		SELECT sum(amount) FILTER (WHERE kind = 'allocation') AS bought,
			   -sum(held) FILTER (WHERE kind = 'capture') AS captured,
			   COALESCE(sum(amount) FILTER (WHERE kind = 'refund'), 0) AS refunded,
			   sum(held) AS held,
			   (SELECT sum(a.balance) FROM credits.accounts AS a) AS balance
		FROM credits.transactions}) ];
}

# Shows that credits in = credits out + held + balance, by both accounts of it.
sub conservation
{
	my ($when, @accounts) = @_;

	foreach my $account (@accounts)
	{
		my ($from, $s) = @$account;
		my $out = $s->{captured} - $s->{refunded};

		check("$when, credits in by $from", $s->{bought}, $out + $s->{held} + $s->{balance});
		printf "   %-10s by %-8s %7s   %7s = %6s - %6s %7s %8s\n", $when, $from,
		  map { thousands($_) } $s->{bought}, $out, @$s{qw(captured refunded held balance)};
	}
	check("$when, credits by the log", join(' ', map { $accounts[1][1]{$_} } sort keys %sum),
		join(' ', map { $accounts[0][1]{$_} } sort keys %sum));
	return;
}

sub check_log
{
	my $rows = 0;
	my $log = $dba->prepare(q{
		SELECT a.name, to_char(t.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'),
			   t.kind, COALESCE(m.name, '-'), t.amount, t.held, t.balance_after, t.held_after
		FROM credits.transactions AS t
		JOIN credits.accounts AS a ON a.id = t.account_id
		LEFT JOIN credits.accounts AS m ON m.id = t.member_id
		WHERE a.name LIKE 'team:%'
		ORDER BY t.account_id, t.id});
	my %log;

	$log->execute;
	while (my ($name, @row) = $log->fetchrow_array)
	{
		push @{ $log{$name} }, join ' ', @row;
		$rows++;
	}
	foreach my $pool (sort keys %pool)
	{
		my @expected = @{ $pool{$pool}{rows} };

		check("rows in the log of $pool", scalar @{ $log{$pool} }, scalar @expected);
		foreach my $row (@{ $log{$pool} })
		{
			check("row in the log of $pool", $row, shift(@expected) // 'none');
		}
		check("balance of $pool",
			join(' ', $dba->selectrow_array('SELECT balance, held FROM credits_summary($1)', undef, $pool)),
			join(' ', @{ $pool{$pool} }{qw(balance held)}));
	}
	return $rows;
}

# What a member has used is what its holds of the day reserved, less what was
# given back.
sub check_caps
{
	my $caps = $dba->selectall_arrayref(q{
		SELECT v.account, v.used, COALESCE(sum(CASE t.kind WHEN 'hold' THEN t.held ELSE -t.amount END), 0)
		FROM credits.pool_members AS v
		JOIN credits.accounts AS a ON a.name = v.account
		LEFT JOIN (credits.transactions AS t
			LEFT JOIN credits.transactions AS c ON c.id = t.target_id AND c.kind = 'capture'
			LEFT JOIN credits.transactions AS h ON h.id = COALESCE(c.target_id, t.target_id))
		ON t.member_id = a.id AND t.kind IN ('hold', 'release', 'refund')
			AND v.window_start <= CASE t.kind WHEN 'hold' THEN t.created_at ELSE h.created_at END
		GROUP BY v.account, v.used});

	check('members', scalar @$caps, ACCOUNTS);
	foreach my $row (@$caps)
	{
		my ($account, $used, $by_log) = @$row;

		begin_day($account);
		check("cap used by $account", "$used, and $by_log by the log",
			"$member{$account}{used}, and $member{$account}{used} by the log");
	}
	return;
}

# the replay

my $started = time;
my @half_way;
my $requests = 0;

at($now + MINUTE, \&run_job);
while ($request || @events)
{
	my $next = $request && instant($request->{at});

	if (@events && (!$request || $events[0][0] <= $next))
	{
		my $what;

		($now, $what) = @{ shift @events };
		set_clock($shop);
		$what->();
	}
	else
	{
		$now = $next if $next > $now;
		set_clock($shop);
		begin($request);
		$requests++;
		$request = next_request();
		if ($requests == HALF_WAY)
		{
			settle_all();
			@half_way = balances();
		}
	}
}
my $seconds = time - $started;

check('open holds', $dba->selectrow_array(q{SELECT count(*) FROM credits.holds WHERE status = 'open'}), 0);
my @end = balances();
my $rows = check_log();
check_caps();
my $states = $dba->selectcol_arrayref(
	'SELECT status, count(*) FROM credits.holds GROUP BY status', { Columns => [ 1, 2 ] });
my %states = @$states;

check('holds captured', $states{captured}, $count{captured});
check('holds released', $states{released}, $count{released});
check('holds timed out', $states{expired}, $count{timed_out});
check('requests', $requests, $count{held} + $count{PT403} + $count{PT402});
check('holds', $count{held}, $count{captured} + $count{released} + $count{timed_out});

line('requests', $requests, sprintf 'of %d members of %d pools, by the clock of the trace', ACCOUNTS, POOLS);
line('held', $count{held}, 'an estimate each: the context, and 200 tokens to be generated');
line('refused', $count{PT403}, sprintf 'with PT403: over the cap of %d a day', CAP);
line('refused', $count{PT402}, 'with PT402: one pool has run dry');
line('captured', $count{captured}, sprintf '%s less than was held, %s more; refused more: %s',
	map { thousands($_) } @count{qw(less more short)});
line('released', $count{released}, 'generation had failed');
line('timed out', $count{timed_out}, sprintf 'after 2 minutes; %d captures that came later: PT410', $count{late});
line('replayed', $count{replayed}, 'retries with the same key: same receipt, nothing moved');
line('refunded', $count{refunded});
print "\n   credits                  in       out   captured  refund    held  balance\n";
conservation('half-way', @half_way);
conservation('at the end', @end);
print "\n";
print '   in = out + held + balance; ', thousands($rows), " rows of the log are as expected, one by one;\n",
  "   so are the caps used; no hold is left open; credits_verify found nothing\n"
  if all_is_right($dba);
say_rate($count{calls}, $seconds);
end_trace();
