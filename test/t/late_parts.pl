# A period of which much was paid late, so that each of its grants expires at a time of
# its own: whichever invoice or refund becomes known first, each grant has in the end
# what a model says.  And whatever is spent, refunded, bought and expires meanwhile,
# what is claimed of the period is claimed from those grants that expire last, and
# owed only if all that was not used is claimed.
#
# CREDITS_LATE_ORDERS says how many histories there are; CREDITS_SEED makes others.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use List::Util qw(max min shuffle sum0);
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::Local qw(timegm);

my $histories = $ENV{CREDITS_LATE_ORDERS} // ($ENV{CI} ? 200 : 60);
my $seed = $ENV{CREDITS_SEED} // 20310501;
srand $seed;
note "CREDITS_SEED=$seed";

my $day = 86400;
my $from = timegm(0, 0, 0, 1, 0, 2030);
my $end = timegm(0, 0, 0, 1, 1, 2030);
my $now = timegm(0, 0, 0, 20, 1, 2030);

my $node = credits_node('late_parts', conf => "fsync = off\n");
my $session = CreditsTest::Session->new($node);
$session->value("SET credits.test_clock = '2030-02-20'; SET jit = off");
$session->value("SELECT credits_set_plan('late', 100)");
$session->value("SELECT credits_set_package('late', 7, 1, 'USD')");

sub instant { return "'" . POSIX::strftime('%Y-%m-%d %H:%M:%S+00', gmtime $_[0]) . "'" }

# Invoices of one period: each was paid when it was over, or a few in time.
sub random_invoices
{
	my ($most) = @_;
	return map {
		my $starts = $from + $day * int rand 25;
		my $settled = rand() < 0.2 ? $starts : $end + int rand($now - $end);
		my $credits = 1 + int rand 40;
		$credits = -int($credits / 2) if $_ > 1 && rand() < 0.2;
		{
			reference => "in_$_", starts => $starts, settled => $settled, credits => $credits,
			until => $settled > $end ? $settled + $end - $starts : $end,
			reversed => $credits <= 0 ? 0 : rand() < 0.4 ? $credits : rand() < 0.5 ? int rand(1 + $credits) : 0
		}
	} 1 .. 2 + int rand $most;
}

sub set_invoice
{
	my ($account, $invoice, $reversed) = @_;
	return sprintf q(SELECT status FROM credits_set_invoice((SELECT id FROM credits.subscriptions WHERE external_id = '%s'), '%s', '[{"starts_at": %s, "ends_at": %s, "credits": %d, "reversed": %d}]', %s)),
	  $account, $invoice->{reference}, (map { instant($_) =~ tr/'/"/r } $invoice->{starts}, $end), $invoice->{credits}, $reversed, instant($invoice->{settled});
}

my $accounts = 0;

sub new_account
{
	my $account = 'late:' . ++$accounts;
	$session->value("SELECT kind FROM credits_open_account('$account')");
	$session->value("SELECT status FROM credits_subscribe('$account', 'late', collection => 'payment', external_id => '$account', starts_at => " . instant($from) . ')');
	return $account;
}

# The grants of the period, in the order in which they are claimed from, with what of
# each was used.
sub grants_of
{
	my ($account) = @_;
	return map {
		my %g;
		@g{qw(until id amount remaining lost claimed gone owed paid)} = split /\|/;
		$g{used} = $g{amount} - $g{remaining} - $g{lost} - ($g{claimed} - $g{gone} - $g{owed} - $g{paid});
		\%g
	} @{ $session->query(
			"SELECT extract(epoch FROM coalesce(g.granted_until, g.expires_at))::bigint, g.id, g.amount, g.remaining, coalesce(g.lost, 0),"
			  . ' coalesce(d.claimed, 0), coalesce(d.gone, 0), coalesce(d.owed, 0), coalesce(d.paid, 0)'
			  . ' FROM credits.grants AS g LEFT JOIN credits.debts AS d ON d.grant_id = g.id'
			  . " WHERE g.group_id IS NOT NULL AND g.account_id = credits.account_id('$account') ORDER BY 1 DESC, 2 DESC")->{rows} };
}

# How a total is claimed from grants in that order: for each instant at which some
# expire, how much.
sub spread
{
	my ($total, @grants) = @_;
	my $unused = sum0 map { $_->{amount} - $_->{used} } @grants;
	my %claims;
	my $owed = max(0, $total - $unused);
	my $left = min($total, $unused);
	foreach my $grant (@grants)
	{
		my $own = min($left, $grant->{amount} - $grant->{used});
		my $owes = min($owed, $grant->{used});
		$claims{ $grant->{until} } += $own + $owes;
		$left -= $own;
		$owed -= $owes;
	}
	return join ' ', map { "$_:$claims{$_}" } sort { $a <=> $b } keys %claims;
}

sub claims_of
{
	my (@grants) = @_;
	my %claims;
	$claims{ $_->{until} } += $_->{claimed} foreach @grants;
	return join ' ', map { "$_:$claims{$_}" } sort { $a <=> $b } keys %claims;
}

# The same of what remains.
sub remaining_of
{
	my (@grants) = @_;
	my %remaining;
	$remaining{ $_->{until} } += $_->{remaining} foreach @grants;
	return join ' ', map { "$_:$remaining{$_}" } sort { $a <=> $b } keys %remaining;
}

# What is claimed of the period, if so much of its grants was used.
sub total_of
{
	my ($used, @invoices) = @_;
	my @positive = grep { $_->{credits} > 0 } @invoices;
	my $given = sum0 map { $_->{credits} } @positive;
	my $due = max(0, $given + sum0 map { $_->{credits} } grep { $_->{credits} < 0 } @invoices);
	my $left = max(0, $due - sum0 map { $_->{reversed} } @positive);
	my $paid_back = $due - $left;
	return $paid_back + min($given - $due, $given - $used, $given - $paid_back);
}

# --------------------------------------------------------------------------
# in all kinds of orders, with something spent after some of it

my ($wrong, $orders, $owing) = (0, 0, 0);
foreach my $history (1 .. $histories)
{
	my @invoices = random_invoices(7);
	my $before = int rand(1 + @invoices);
	my @first = @invoices[ 0 .. $before - 1 ];
	my $share = rand() < 0.3 ? 0 : rand() < 0.5 ? 1 : rand;
	my %ends;
	foreach (1 .. 4)
	{
		my $account = new_account();
		my $spent = 0;
		foreach my $part (\@first, undef, [ @invoices[ $before .. $#invoices ] ])
		{
			if (!defined $part)
			{
				my $balance = $session->value("SELECT balance FROM credits_summary('$account')");
				$spent = int($share * $balance);
				$session->value("SELECT kind FROM credits_deduct('$account', $spent)") if $spent > 0;
				next;
			}
			# what is paid back becomes known with the invoice, or later
			my @steps = map { my $i = $_; rand() < 0.5 ? [ $i, $i->{reversed} ] : map { [ $i, $_ ] } sort { $a <=> $b } int rand(1 + $i->{reversed}), $i->{reversed} } shuffle @$part;
			my @late = splice @steps, 0, int rand @steps;
			my %last;
			foreach my $step (@steps, @late)
			{
				# an invoice says what it says in order
				$last{ $step->[0]{reference} } = max($last{ $step->[0]{reference} } // 0, $step->[1]);
				$session->value(set_invoice($account, $step->[0], $last{ $step->[0]{reference} }));
			}
		}
		my @grants = grants_of($account);
		my $used = sum0 map { $_->{used} } @grants;
		my $total = total_of($used, @invoices);
		my ($summary) = @{ $session->query("SELECT balance, debt FROM credits_summary('$account')")->{rows} };
		my $expected = sprintf '%d %d', max(0, sum0(map { $_->{remaining} } @grants)), max(0, $total - sum0 map { $_->{amount} - $_->{used} } @grants);
		my $state = join ', ', claims_of(@grants), remaining_of(@grants), $used, $summary;
		$ends{$state}++;
		$orders++;
		$owing++ if $total > sum0 map { $_->{amount} - $_->{used} } @grants;
		next if claims_of(@grants) eq spread($total, @grants) && $summary eq $expected =~ tr/ /|/r && $used == $spent;
		$wrong++;
		diag "history $history: $state; claims should be " . spread($total, @grants) . ", state $expected" if $wrong < 5;
	}
	next if keys %ends == 1;
	$wrong++;
	diag "history $history ends in several ways:\n", join "\n", sort keys %ends if $wrong < 5;
}
is($wrong, 0, "$orders orders of $histories histories end as the model says");
cmp_ok($owing, '>', 0, "$owing of these owe something");

# --------------------------------------------------------------------------
# whatever happens meanwhile

($wrong, $owing, my $checks) = (0, 0, 0);
foreach my $history (1 .. $histories)
{
	my $account = new_account();
	my @invoices = random_invoices(12);
	my %known;
	my @spends;
	my $clock = $now;
	foreach my $step (1 .. 40)
	{
		my $what = rand;
		if ($what < 0.5)
		{
			my $invoice = $invoices[ rand @invoices ];
			my $reference = $invoice->{reference};
			my $reversed = $invoice->{credits} > 0 ? int rand(1 + $invoice->{credits}) : 0;
			next if defined $known{$reference} && $known{$reference} == $reversed;
			$known{$reference} = $reversed;
			$session->value(set_invoice($account, $invoice, $reversed));
			my @grants = grants_of($account) or next;
			my $total = sum0 map { $_->{claimed} } @grants;
			my $unused = sum0 map { $_->{amount} - $_->{used} } @grants;
			my $expected = total_of(sum0(map { $_->{used} } @grants), map { { %$_, reversed => $known{ $_->{reference} } } } grep { defined $known{ $_->{reference} } } @invoices);
			$checks++;
			$owing++ if $total > $unused;
			next if $total == $expected && claims_of(@grants) eq spread($total, @grants) && $total - $unused <= sum0 map { $_->{owed} + $_->{paid} } @grants;
			$wrong++;
			diag "history $history, step $step: " . claims_of(@grants) . ' instead of ' . spread($expected, @grants) if $wrong < 5;
		}
		elsif ($what < 0.7)
		{
			my $balance = $session->value("SELECT balance FROM credits_summary('$account')");
			push @spends, $session->value("SELECT transaction_id FROM credits_deduct('$account', 1 + floor(random() * $balance)::bigint)") if $balance > 0;
		}
		elsif ($what < 0.85)
		{
			my $spend = @spends ? $spends[ rand @spends ] : next;
			# it may be refunded already
			$session->query("SELECT kind FROM credits_refund($spend, 1 + floor(random() * 5)::bigint)");
		}
		elsif ($what < 0.93)
		{
			$session->value("SELECT outcome FROM credits_complete_purchase((credits_start_purchase('$account', 'late')).purchase_id, '$account:$step', 1)");
		}
		else
		{
			$clock += int rand 3 * $day;
			$session->value('SET credits.test_clock = ' . instant($clock));
			$session->value('SET credits.refund_grace = ' . (rand() < 0.5 ? "'0'" : "'5 days'"));
		}
	}
	$session->value('SET credits.test_clock = ' . instant($now));
}
is($wrong, 0, "$checks times, what is claimed is claimed in order");
cmp_ok($owing, '>', 0, "$owing times, something was owed");

$session->value("SET credits.test_clock = '2030-06-01'");
problems_are($node, '', 'nothing is wrong');
$session->quit;
done_testing();
