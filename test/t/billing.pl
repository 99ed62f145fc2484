# A subscription's billing, in every order: what Stripe sends of it comes to the same in
# the end, and to what a model says that is written from the rules and not from the code.
#
# Short histories arrive in all orders of their events, longer ones in random orders,
# with duplicates, and with gaps: after each gap, the account has what the events so far
# imply.  Then something is spent before the rest arrives; and eight sessions bring the
# events at once, at each isolation level.
#
# Besides: what was refunded altogether leaves nothing; nothing that was paid is missing
# from both the credits and the list of what needs attention; and the jobs of the clock
# change nothing of it.
#
# CREDITS_BILLING_ORDERS says how many random orders there are, and CREDITS_BILLING_LIVES
# how many histories are brought at once; CREDITS_BILLING_ALL=1 takes all orders of all
# chosen histories of up to seven events, CREDITS_BILLING_RANDOM=1 none of them;
# CREDITS_BILLING_ONLY is a pattern of the names of those that are wanted.  CREDITS_SEED
# makes others.  A history that fails is shortened to the events that it takes.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsBilling;
use CreditsBillingModel;
use CreditsHistories;
use CreditsStripe;
use CreditsTest;
use List::Util qw(max min shuffle sum0 uniq);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $orders = $ENV{CREDITS_BILLING_ORDERS} // ($ENV{CI} ? 500 : 200);
my $all = $ENV{CREDITS_BILLING_ALL};
my $only = $ENV{CREDITS_BILLING_ONLY};
my $seed = $ENV{CREDITS_SEED} // 20310401;
diag "seed $seed, $orders orders";
srand $seed;

my $now = billing_now();
my $clock = "SET credits.test_clock = '2027-03-20 12:00+00'";
my $secret = stripe_secret();
my $node = credits_node('billing');
my $session = CreditsTest::Session->new($node);
$session->value("$clock; SET jit = off; SELECT credits_stripe_add_secret('tests', '$secret')");
$session->query($_) foreach split /\n/, billing_setup();

# --------------------------------------------------------------------------
# sending

my $trials = 0;
my %trials_of;

# The call for an event of a trial.
sub call_of
{
	my ($event, $trial, $twin) = @_;
	my $payload = billing_payload($event, $trial, $twin);
	return "SELECT credits_stripe_invoice_lines('" . ($event->{invoice} =~ s/\@{7}/sprintf '%07d', $trial/er) . "', \$stripe\$$payload\$stripe\$)"
	  if $event->{type} eq 'lines';
	return "SELECT (credits_stripe_webhook(\$stripe\$$payload\$stripe\$, '" . stripe_signature($payload, $now) . "')).result";
}

sub state_sql
{
	my ($trial) = @_;
	return sprintf q(SELECT 'state %d ' || balance || ' ' || debt FROM credits_summary('b:%07d');), $trial, $trial;
}

# A trial: an account of its own, to which steps are sent in one go; a step is an event,
# [event, twin], or a text for SQL.  Returns what it printed of states, in order, and
# the errors.
sub run_trial
{
	my (@steps) = @_;
	my $trial = ++$trials;
	my $sql = sprintf "SELECT credits_open_account('b:%07d') IS NULL;\n", $trial;
	foreach my $step (@steps)
	{
		$sql .= !ref $step ? $step =~ s/\@{7}/sprintf '%07d', $trial/egr
		  : $step eq 'state' ? state_sql($trial)
		  : ref $step eq 'ARRAY' ? call_of($step->[0], $trial, $step->[1]) . ";\n" : call_of($step, $trial) . ";\n";
	}
	my $answer = $session->query($sql);
	my @errors = grep { /ERROR/ } @{ $answer->{messages} };
	return ([ map { /^state \d+ (.*)/ ? $1 : () } @{ $answer->{rows} } ], \@errors, $trial, $answer->{rows});
}

my $state = "SELECT 'state 0 ' || balance || ' ' || debt FROM credits_summary('b:\@\@\@\@\@\@\@');\n";

sub expected_of
{
	my ($model) = @_;
	return "$model->{balance} $model->{debt}";
}

# The end of one order is what the model says?  Then nothing; else what it was.
sub differs
{
	my ($events, $expected, @steps) = @_;
	my ($states, $errors) = run_trial(@steps, $state);
	return "errors: @$errors" if @$errors;
	$expected //= expected_of(billing_model($events, $now, {}, {}));
	my $end = $states->[-1] // 'nothing';
	return $end eq $expected ? undef : "$end instead of $expected";
}

# Leaves out events, one by one, as long as what is left still fails; says what it takes.
sub shortest
{
	my ($steps) = @_;
	my @steps = grep { ref } @$steps;
	my $why = differs([ map { ref $_ eq 'ARRAY' ? $_->[0] : $_ } @steps ], undef, @steps) or return 'only with what came between';
	my $again = 1;
	while ($again)
	{
		$again = 0;
		for (my $i = $#steps; $i >= 0; $i--)
		{
			my @fewer = @steps[ grep { $_ != $i } 0 .. $#steps ];
			my $still = differs([ map { ref $_ eq 'ARRAY' ? $_->[0] : $_ } @fewer ], undef, @fewer) or next;
			(@steps, $why, $again) = @fewer ? () : @steps;
			@steps = @fewer;
			$why = $still;
			$again = 1;
		}
	}
	return join "\n", $why, map { describe($_) } @steps;
}

sub describe
{
	my ($step) = @_;
	my $event = ref $step eq 'ARRAY' ? $step->[0] : $step;
	my ($o, $type) = @$event{qw(object type)};
	my $lines = $o->{lines} && ref $o->{lines} eq 'HASH' ? $o->{lines}{data} : $o->{items} ? [] : ref $o->{lines} ? $o->{lines} : [];
	return join ' ', '  ' . scalar(gmtime $event->{created}), $type, $o->{id} // $o->{invoice},
	  (map { defined $o->{$_} && !ref $o->{$_} ? "$_=$o->{$_}" : () }
		  qw(status amount amount_refunded total invoice payment_intent refund billing_cycle_anchor trial_end)),
	  map {
		my $p = $_->{pricing} ? $_->{pricing}{price_details}{price} : $_->{price} ? $_->{price}{id} : '';
		my $d = $_->{parent} ? $_->{parent}{subscription_item_details} : $_;
		"[$_->{id} " . ($d->{invoice_item} // $_->{invoice_line_item} // '') . " $p x" . ($_->{quantity} // '') . " $_->{amount}"
		  . ($_->{period} ? ' ' . gmtime($_->{period}{start}) . ' to ' . gmtime($_->{period}{end}) : '') . ']'
	  } $type =~ /^invoiceitem/ ? $o : @$lines;
}

my %failed;

# Reports one failure of a history, and no more of the same.
sub report
{
	my ($name, $why, $steps) = @_;
	return if $failed{$name}++ || keys %failed > 12;
	diag "$name: $why\n" . shortest($steps);
	return;
}

# --------------------------------------------------------------------------
# all orders

sub all_orders
{
	my ($name, @events) = @_;
	my $expected = expected_of(billing_model(\@events, $now, {}, {}));
	my %ends;
	my @orders = permutations(0 .. $#events);
	if (my ($lines) = grep { $events[$_]{type} eq 'lines' } 0 .. $#events)
	{
		my ($paid) = grep { $events[$_]{type} eq 'invoice.paid' } 0 .. $#events;
		@orders = grep { my @at; @at[@$_] = 0 .. $#$_; $at[$paid] < $at[$lines] } @orders;
	}
	while (my @some = splice @orders, 0, 40)
	{
		my @trials;
		my $sql = '';
		foreach my $order (@some)
		{
			my $trial = ++$trials;
			push @trials, $trial;
			push @{ $trials_of{$name} }, $trial;
			$sql .= sprintf("SELECT credits_open_account('b:%07d') IS NULL;\n", $trial)
			  . join('', map { call_of($events[$_], $trial) . ";\n" } @$order) . state_sql($trial);
		}
		my $answer = $session->query($sql);
		my %got = map { /^state (\d+) (.*)/ ? ($1, $2) : () } @{ $answer->{rows} };
		foreach my $i (0 .. $#trials)
		{
			my $end = $got{ $trials[$i] } // 'nothing';
			$ends{$end}++;
			report($name, "$end instead of $expected", [ @events[ @{ $some[$i] } ] ]) unless $end eq $expected;
		}
		if (my ($error) = grep { /ERROR/ } @{ $answer->{messages} })
		{
			$ends{$error}++;
		}
	}
	is_deeply([ sort keys %ends ], [$expected], "$name: " . sum0(values %ends) . ' orders')
	  or diag explain \%ends;
	return;
}

my $started = time;
foreach my $history ($ENV{CREDITS_BILLING_RANDOM} ? () : chosen_histories())
{
	my ($name, $make) = @$history;
	next if defined $only && $name !~ /$only/;
	foreach my $shape (qw(old new))
	{
		my @events = $make->($shape);
		# all of them in a release
		next if @events > 7 || !$all && (@events > 5 || @events > 4 && rand() > 0.3);
		all_orders("$name, $shape", @events);
	}
}
diag sprintf 'all orders: %d s', time - $started;

# --------------------------------------------------------------------------
# random orders

# The application fetches the lines of an invoice when it knows of it.
sub with_lines_later
{
	my (@steps) = @_;
	my @lines = grep { $_->{type} eq 'lines' } @steps;
	@steps = grep { $_->{type} ne 'lines' } @steps;
	foreach my $lines (@lines)
	{
		my ($first) = grep { $steps[$_]{type} =~ /^invoice\./ && $steps[$_]{object}{id} eq $lines->{invoice} } 0 .. $#steps;
		splice @steps, $first + 1 + int rand(@steps - $first), 0, $lines if defined $first;
	}
	return @steps;
}

# Some of the events again, with the same id or another one.
sub with_duplicates
{
	my (@steps) = @_;
	foreach my $n (1 .. int rand(1 + @steps / 3))
	{
		my $step = $steps[ rand @steps ];
		my $event = ref $step eq 'ARRAY' ? $step->[0] : $step;
		next if $event->{type} eq 'lines';
		splice @steps, rand(@steps + 1), 0, rand() < 0.5 ? [ $event, $n ] : $event;
	}
	return @steps;
}

my @longer = map { my $h = $_; map { [ "$h->[0], $_", $h->[1]->($_) ] } qw(old new) } chosen_histories();
@longer = grep { $_->[0] =~ /$only/ } @longer if defined $only;

my $random = 0;

sub next_history
{
	return @{ $longer[ rand @longer ] } if @longer && (rand() < 0.2 || defined $only);
	my $shape = rand() < 0.5 ? 'old' : 'new';
	return ("random history " . ++$random . ", $shape", random_history($shape));
}

$started = time;
my ($wrong, $gaps, $wrong_gaps, $events_sent) = (0, 0, 0, 0);
for (my $n = 0; $n < $orders;)
{
	my ($name, @events) = next_history();
	my $expected = expected_of(billing_model(\@events, $now, {}, {}));
	foreach (1 .. 5)
	{
		last if $n++ >= $orders;
		my @steps = with_duplicates(with_lines_later(shuffle @events));
		my $cut = 1 + int rand @steps;
		my @before = map { ref $_ eq 'ARRAY' ? $_->[0] : $_ } @steps[ 0 .. $cut - 1 ];
		my %once = map { $_->{id} => $_ } @before;
		my ($states, $errors, $trial) = run_trial(@steps[ 0 .. $cut - 1 ], $state, @steps[ $cut .. $#steps ], $state);
		push @{ $trials_of{$name} }, $trial;
		$events_sent += @steps;
		if (@$errors || ($states->[1] // 'nothing') ne $expected)
		{
			$wrong++;
			report($name, "@$errors " . ($states->[1] // 'nothing') . " instead of $expected", \@steps);
		}
		# what is not known yet is not missed
		my $then = expected_of(billing_model([ values %once ], $now, {}, {}));
		$gaps++;
		if (!@$errors && ($states->[0] // 'nothing') ne $then)
		{
			$wrong_gaps++;
			report("$name, so far", "$states->[0] instead of $then", [ @steps[ 0 .. $cut - 1 ] ]);
		}
	}
}
is($wrong, 0, "$orders random orders end as the model says");
is($wrong_gaps, 0, "and $gaps of them are right at every gap");
diag sprintf 'random orders: %d events, %d s', $events_sent, time - $started;

# --------------------------------------------------------------------------
# some is spent, and then comes the rest

# The rest of a history, with lines after what is known of their invoices.
sub rest_of
{
	my ($before, @rest) = @_;
	my @sorted = with_lines_later(@$before, @rest);
	my %done = map { $_->{id} => 1 } @$before;
	return [ grep { !$done{ $_->{id} } } @sorted ];
}

# What remains of each period's grants, and what was ever given for it.
my $remains = "SELECT concat_ws(' ', 'remains', extract(epoch FROM p.ends_at)::bigint, p.granted, sum(g.remaining))
	FROM credits.periods AS p JOIN credits.grants AS g ON g.group_id = p.grant_id
	WHERE p.account_id = credits.account_id('b:\@\@\@\@\@\@\@') GROUP BY p.ends_at, p.granted;
	SELECT 'remains';\n";

$started = time;
my ($spenders, $wrong_spent) = (0, 0);
my $most = max(10, $orders / 5);
for (my $tries = 0; $spenders < $most && $tries < 3 * $most; $tries++)
{
	my ($name, @events) = next_history();
	my @in_time = sort { $a->{created} <=> $b->{created} || $a->{id} cmp $b->{id} } @events;
	my $cut = 1 + int rand @in_time;
	my @before = @in_time[ 0 .. $cut - 1 ];
	my $balance = billing_model(\@before, $now, {}, {})->{balance};
	next unless $balance > 0;
	my $spend = 1 + int rand $balance;
	my %ends;
	my $expected;
	foreach (1 .. 5)
	{
		my @rest = with_duplicates(@{ rest_of(\@before, shuffle @in_time[ $cut .. $#in_time ]) });
		my $deduct = "SELECT credits_deduct('b:\@\@\@\@\@\@\@', $spend) IS NULL;\n";
		my ($states, $errors, undef, $rows) = run_trial(@before, $remains, $deduct, $remains, @rest, $state);
		my (%given, %spent);
		my $which = 0;
		foreach (grep { s/^remains ?// } @$rows)
		{
			if (/^(\d+) (\d+) (\d+)/)
			{
				$given{$1} = $2;
				$spent{$1} = $which ? $spent{$1} - $3 : $3;
			}
			$which++ if $_ eq '';
		}
		$spenders++;
		$expected = expected_of(billing_model(\@events, $now, \%spent, \%given));
		next if !@$errors && ($states->[-1] // '') eq $expected;
		$wrong_spent++;
		next if $failed{"$name, spent"}++ || grep({ /spent/ } keys %failed) > 5;
		diag "$name: @$errors $states->[-1] instead of $expected\n", join "\n", (map { describe($_) } @before), "  spends $spend",
		  map { describe($_) } @rest;
	}
}
is($wrong_spent, 0, "$spenders random orders after something was spent end as the model says");
diag sprintf 'with spends: %d s', time - $started;

# --------------------------------------------------------------------------
# at once

my $lives = $ENV{CREDITS_BILLING_LIVES} // max(5, int $orders / 100);
foreach my $level ('read committed', 'repeatable read', 'serializable')
{
	my @sessions = map {
		my $s = CreditsTest::Session->new($node, application_name => "at_once_$_", verbosity => 'verbose');
		$s->value("$clock; SET default_transaction_isolation = '$level'");
		$s;
	} 1 .. 8;
	my ($wrong_ends, $retries, %others) = (0, 0);
	foreach (1 .. $lives)
	{
		my ($name, @events) = next_history();
		my $trial = ++$trials;
		push @{ $trials_of{$name} }, $trial;
		$session->value(sprintf "SELECT credits_open_account('b:%07d') IS NULL", $trial);
		my @queue = map { [ call_of($_, $trial), 0 ] } shuffle(@events, grep { rand() < 0.3 } @events);
		# what needs an invoice that is not known yet is tried again, too
		my %busy;
		while (@queue || %busy)
		{
			foreach my $n (grep { !$busy{$_} } 0 .. $#sessions)
			{
				my $call = shift @queue or last;
				$busy{$n} = $call;
				$sessions[$n]->send($call->[0]);
			}
			wait_any(@sessions[ keys %busy ]);
			foreach my $n (grep { $sessions[$_]->ready } keys %busy)
			{
				my $call = delete $busy{$n};
				my $answer = $sessions[$n]->take;
				my $code = $answer->{code};
				if ($code =~ /^(40001|40P01|PT404)$/)
				{
					$retries++;
					# a machine that is busy may leave alone for long what others try in vain
					$others{"for ever: $code"}++, next if time - ($call->[1] ||= time) > 60;
					push @queue, $call;
				}
				elsif ($code ne '00000') { $others{"$code @{ $answer->{messages} }"}++ }
			}
		}
		my $expected = expected_of(billing_model(\@events, $now, {}, {}));
		my ($end) = map { /^state \d+ (.*)/ ? $1 : () } @{ $session->query(state_sql($trial))->{rows} };
		next if $end eq $expected;
		$wrong_ends++;
		diag "$name, at once, $level: $end instead of $expected\n", join "\n", map { describe($_) } @events;
	}
	is($wrong_ends, 0, "$level: eight sessions at once bring $lives histories to the same end, with $retries retries");
	is_deeply(\%others, {}, "$level: and no other errors") or diag explain \%others;
	$_->quit foreach @sessions;
}

# --------------------------------------------------------------------------
# money

# Is there an invoice of 0 or less that credits a period for which none was paid?
sub credits_unpaid
{
	my @paid = map { $_->{object} } grep { $_->{type} eq 'invoice.paid' } @_;
	my %known;
	foreach my $invoice (sort { $a->{status_transitions}{finalized_at} <=> $b->{status_transitions}{finalized_at} || $a->{id} cmp $b->{id} } @paid)
	{
		my @lines = @{ $invoice->{lines}{data} };
		return 1 if $invoice->{total} <= 0 && grep { $_->{amount} < 0 && !$known{ $_->{period}{end} } } @lines;
		$known{ $_->{period}{end} } = 1 foreach grep { $_->{amount} > 0 } @lines;
	}
	return 0;
}

# Everything that was paid is paid back, and what waits is deleted.
my ($refunded, $left_over, $by_credits) = (0, 0, 0);
while ($refunded < $orders / 5)
{
	my ($name, @events) = random_history(rand() < 0.5 ? 'old' : 'new', refunded => 1);
	# Stripe credits periods that nobody has paid for, too
	next if credits_unpaid(@events);
	# an invoice that is not known with all of its lines waits for them
	my %complete = map { $_->{object}{invoice} => 1 } grep { $_->{type} eq 'lines' } @events;
	next if grep { $_->{type} eq 'invoice.paid' && $_->{object}{lines}{has_more} && !$complete{ $_->{object}{id} } } @events;
	my $account = billing_model(\@events, $now, {}, {});
	my ($states, $errors) = run_trial(with_duplicates(with_lines_later(shuffle @events)), $state);
	$refunded++;
	$by_credits++ if grep { $_->{type} eq 'invoice.paid' && $_->{object}{total} <= 0 } @events;
	next if !@$errors && $states->[0] eq '0 0' && $account->{balance} == 0;
	$left_over++;
	diag "everything refunded: @$errors " . ($states->[0] // 'nothing') . ", by the model $account->{balance}\n",
	  join "\n", map { describe($_) } @events
	  if $left_over < 3;
}
is($left_over, 0, "nothing is left of $refunded histories that were refunded altogether");
cmp_ok($by_credits, '>', 0, "and of these, $by_credits have an invoice that credits have paid for") if $orders >= 200;

# Each invoice that was paid has its parts, or needs attention: one of its lines, all of
# it, or its subscription.  A minor unit for each line can be paid for no credits: what
# one line gives another takes, and each is rounded.  Or two plans differ in price but,
# for the time between a change and the end of the period, not in credits.
my $missing = $session->value(q(
	SELECT string_agg(e.payload #>> '{data,object,id}', ' ')
	FROM credits.stripe_events AS e
	CROSS JOIN LATERAL (SELECT e.payload #>> '{data,object,id}' AS invoice,
		coalesce(e.payload #>> '{data,object,subscription}',
			e.payload #>> '{data,object,parent,subscription_details,subscription}') AS subscription) AS i
	WHERE e.type = 'invoice.paid' AND (e.payload #>> '{data,object,amount_due}')::bigint > jsonb_array_length(e.payload #> '{data,object,lines,data}')
	  AND NOT EXISTS (SELECT FROM credits.paid_parts AS p WHERE p.reference = i.invoice)
	  AND EXISTS (SELECT FROM credits.stripe_lines AS l LEFT JOIN credits.stripe_prices AS v ON v.id = l.price LEFT JOIN credits.plans AS n ON n.name = v.plan
		WHERE l.subscription = i.subscription AND l.invoice = i.invoice AND (l.amount <> 0 OR NOT l.proration) GROUP BY l.ends_at
		HAVING COALESCE(abs(sum(CASE WHEN l.negative THEN -1 ELSE 1 END * n.credits * l.quantity * extract(epoch FROM l.ends_at - l.starts_at))), 'infinity') > 15 * 86400)
	  AND NOT EXISTS (SELECT FROM credits.stripe_attention AS a WHERE i.invoice IN (a.invoice, a.subject) OR a.subject = i.subscription)));
is($missing, '', 'nothing that was paid is missing')
  or diag $session->value("SELECT string_agg(l::text, E'\n') FROM credits.stripe_lines AS l WHERE l.invoice = ANY (string_to_array('$missing', ' '))");

# What needs attention is the same in all orders, too.
my %attention = map { /^(\d+)\|(.*)/ ? ($1 + 0, $2) : () } @{ $session->query(q(
	SELECT substring(t.said FROM '_(\d{7})'), string_agg(regexp_replace(t.said, '_\d{7}', '', 'g'), ', ' ORDER BY t.said COLLATE "C")
	FROM (SELECT concat_ws(' ', a.subject, a.reason, a.invoice, a.amount, a.currency) AS said FROM credits.stripe_attention AS a) AS t
	GROUP BY 1))->{rows} };
my @unlike;
foreach my $name (sort keys %trials_of)
{
	my %lists = map { $attention{$_} // 'nothing' => 1 } @{ $trials_of{$name} };
	push @unlike, join "\n  ", $name, sort keys %lists if keys %lists > 1;
}
is(scalar @unlike, 0, keys(%attention) . ' trials leave something that needs attention, the same in all orders of a history')
  or diag join "\n", @unlike[ 0 .. min(5, $#unlike) ];

# What the clock does besides: it has given, and taken, nothing.
my $balances = q(SELECT md5(string_agg(concat_ws(' ', a.name, s.balance, s.debt), ',' ORDER BY a.id))
	FROM credits.accounts AS a CROSS JOIN LATERAL credits_summary(a.name) AS s);
my $before_jobs = $session->value($balances);
$session->value('CALL credits_renew(); CALL credits_settle();');
is($session->value($balances), $before_jobs, 'renewing and settling change no balance');

problems_are($node, '', 'nothing is wrong');

$session->quit;
$node->stop;
done_testing();
