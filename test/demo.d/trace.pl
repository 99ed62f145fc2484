# trace.pl - charges the requests of a trace as they come
#
# usage: trace.pl DATABASE <AzureLLMInferenceTrace_code.csv
#
# Whose request is whose, Trace.pm says.  A request costs 2 to 20 credits, 3.7 on
# average.  An account opens with 30 and alerts below 20, so that the dearest
# request still finds its credits while the top-up of 100 is on its way.  Every
# 40th account has no card on file and is not topped up: five accounts with
# about 150 requests run dry, which is where the refusals come from.  How soon a
# top-up lands depends on the machine, so the other figures may differ a little
# from run to run; that the sums hold may not.
#
# What is checked at the end: the client's own receipts, those of the top-up
# process and the log in the database must tell the same story, row by row
# and in sum, and credits_verify must find nothing.

use strict;
use warnings;
use File::Basename qw(dirname);
use JSON::PP;
use Time::HiRes qw(time);
use lib dirname(__FILE__);
use Trace;

use constant {
	OPENING => 30,
	LOW_BALANCE => 20,
	TOP_UP => 100,
	NO_CARD => 40,
	RETRY => 10,
	REFUND => 100,
};

my ($database) = @ARGV;
my %count = map { $_ => 0 }
  qw(requests charged refused refusals replayed refunded calls alerts top_ups declined);
my %sum = map { $_ => 0 } qw(opening allocation deduction refund);
my %receipt;    # all receipts, by transaction
my %balance;    # of each account, from the receipts alone
our ($pid, $top_up);    # the top-up process, and what it writes

# Keeps a receipt, and counts its amount.
sub keep
{
	my ($r) = @_;

	wrong("transaction $r->{transaction_id} acknowledged twice")
	  if $receipt{ $r->{transaction_id} };
	$receipt{ $r->{transaction_id} } = $r;
	$sum{ $r->{kind} } += $r->{amount};
	$balance{ $r->{account} } += $r->{amount};
	return;
}

# setting up

$| = 1;

my $dba = install($database);
$dba->do('GRANT credits_admin TO billing');
$dba->do(sprintf 'ALTER DATABASE %s SET credits.alert_levels = %d', $database, LOW_BALANCE);

foreach my $k (1 .. ACCOUNTS)
{
	keep($dba->selectrow_hashref('SELECT * FROM credits_open_account($1, $2)',
		undef, account_name($k), OPENING));
}

my @no_card = map { account_name($_ * NO_CARD) } 1 .. ACCOUNTS / NO_CARD;
$pid = open $top_up, '-|', $^X, dirname($0) . '/top_up.pl',
  $database, 'billing', TOP_UP, @no_card
  or die "could not start top_up.pl: $!\n";
(readline($top_up) // '') eq "ready\n" or die "top_up.pl did not start\n";

# If we die, Perl waits for the other end of the pipe, which waits for us.  It
# does so before this unless both variables are global.
END { local $?; kill 'TERM', $pid if $pid }

# the replay

my $shop = open_session($database, 'shop');
my $charge = $shop->prepare(q{
	SELECT ok, code, message, (receipt).*
	FROM credits_try_deduct($1, $2, idempotency_key => $3,
		operation => 'completion', metadata => $4)});
my $refund = $shop->prepare(q{
	SELECT * FROM credits_refund($1, idempotency_key => $2, reason => 'goodwill')});

sub charge
{
	my ($n, $account, $cost, $metadata) = @_;
	my $r = one_row($charge, $account, $cost, "line:$n", $metadata);

	$count{calls}++;
	if ($r->{ok})
	{
		wrong("line $n: receipt of something else")
		  if $r->{account} ne $account || $r->{kind} ne 'deduction' || $r->{amount} != -$cost;
		return $r;
	}
	die "line $n: $r->{code} $r->{message}\n" if $r->{code} ne 'PT402';
	$count{refusals}++;
	return;
}

begin_trace();
my $started = time;

while (my $request = next_request())
{
	my $n = $request->{n};
	my @request = ($n, account_name(account_number($n)),
		context_cost($request) + generation_cost($request), metadata($request));
	my $charged = charge(@request);

	$count{requests}++;
	keep($charged) if $charged;
	if ($n % RETRY == 0)
	{
		my $again = charge(@request);

		if ($charged)
		{
			wrong("line $n: the retry returned another receipt")
			  unless $again && same_receipt($charged, $again);
			$count{replayed}++;
		}
		elsif ($again)
		{
			# refused first, topped up meanwhile: a refusal keeps no key
			keep($charged = $again);
		}
	}
	$count{ $charged ? 'charged' : 'refused' }++;
	if ($n % REFUND == 0 && $charged)
	{
		keep(one_row($refund, $charged->{transaction_id}, "refund:$n"));
		$count{calls}++;
		$count{refunded}++;
	}
}
my $seconds = time - $started;

# what the top-up process did

$dba->do('NOTIFY trace_end');
my @alerts;
while (my $line = <$top_up>)
{
	my $entry = decode_json($line);

	if ($entry->{alert})
	{
		push @alerts, $entry->{alert};
		$count{alerts}++;
		$count{declined}++ if grep { $_ eq $entry->{alert}{account} } @no_card;
	}
	else
	{
		keep($entry->{receipt});
		$count{top_ups}++;
	}
}
close $top_up or wrong('the top-up process failed');
undef $pid;

# what the log says

my %log_sum = map { $_ => 0 } keys %sum;
my $log = $dba->prepare(q{
	SELECT t.id, a.name, t.kind, t.amount, t.balance_after
	FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
	ORDER BY t.account_id, t.id});
my %running;
my $rows = 0;

$log->execute;
while (my ($id, $name, $kind, $amount, $after) = $log->fetchrow_array)
{
	my $r = $receipt{$id};

	$rows++;
	$log_sum{$kind} += $amount;
	$running{$name} += $amount;
	check("running balance in the log at transaction $id", $after, $running{$name});
	check("receipt of transaction $id",
		$r ? join(' ', @$r{qw(account kind amount balance)}) : 'none',
		"$name $kind $amount $after");
}
check('receipts', scalar(keys %receipt), $rows);

my $stored = $dba->selectall_arrayref(
	'SELECT a.name, a.balance, credits_balance(a.name) FROM credits.accounts AS a');
my $total = 0;

check('accounts', scalar(@$stored), ACCOUNTS);
foreach my $row (@$stored)
{
	my ($name, $balance, $read) = @$row;

	check("balance of $name", "$balance $read", "$balance{$name} $balance{$name}");
	$total += $balance;
}

# each alert that was heard is one event, and the reverse
my $events = $dba->selectcol_arrayref(
	q{SELECT detail FROM credits.events WHERE kind = 'low_balance' ORDER BY id});
my $json = JSON::PP->new->canonical;
check('events of kind low_balance',
	join("\n", sort map { $json->encode(decode_json($_)) } @$events),
	join("\n", sort map { $json->encode($_) } @alerts));
check('events of kind deduction_refused',
	$dba->selectrow_array(q{SELECT sum((detail->>'count')::bigint) FROM credits.events WHERE kind = 'deduction_refused'}),
	$count{refusals});
check('requests', $count{requests}, $count{charged} + $count{refused});
check('top-ups', $count{top_ups}, $count{alerts} - $count{declined});

# the summary

# Shows that credits in = credits out + balance, by one of the two accounts of it.
sub conservation
{
	my ($from, $s, $balance) = @_;
	my $in = $s->{opening} + $s->{allocation};
	my $out = -$s->{deduction} - $s->{refund};

	check("credits in by $from", $in, $out + $balance);
	printf "   %-12s %8s = %6s + %6s %8s = %6s - %6s %8s\n",
	  $from, map { thousands($_) } $in, $s->{opening}, $s->{allocation},
	  $out, -$s->{deduction}, $s->{refund}, $balance;
	return;
}

my $client_total = 0;
$client_total += $_ foreach values %balance;

line('requests', $count{requests}, sprintf 'in order, of %d accounts', ACCOUNTS);
line('charged', $count{charged});
line('refused', $count{refused}, sprintf 'in %s attempts; %d accounts have no card on file',
	thousands($count{refusals}), scalar @no_card);
line('replayed', $count{replayed}, 'retries with the same key: same receipt, nothing spent');
line('refunded', $count{refunded});
line('alerts', $count{alerts}, sprintf 'below %d credits, heard by a process of its own', LOW_BALANCE);
line('top-ups', $count{top_ups}, sprintf 'of %d credits; the other %d alerts had no card to charge',
	TOP_UP, $count{declined});
print "\n   credits            in   opened   bought      out    spent   refund  balance\n";
conservation('by receipts', \%sum, $client_total);
conservation('by the log', \%log_sum, $total);
print "\n";
print '   in = out + balance; ', thousands($rows), " receipts and rows of the log agree one by one;\n",
  "   credits_verify found nothing\n"
  if all_is_right($dba);
say_rate($count{calls}, $seconds);
end_trace();
