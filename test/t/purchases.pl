# Purchases whose money goes back, in every order and at random.
#
# First, all orders of what can be known of one purchase come to the same: the
# claims depend on what has gone back, not on how it became known.  Payments that
# are reported twice at once are delivered once, and promotions no more often than
# they may be.  Then accounts with several purchases live at random: spends, holds,
# refunds of spends, transfers, expiries, refunds of purchases, chargebacks that are
# won, lost and won yet.  After each step the laws hold, and at the end of a life everything is
# given back and won, and each account has what it was given and did not let
# expire.
#
# CREDITS_PURCHASES_LIVES says how many; CREDITS_SEED makes others.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $lives = $ENV{CREDITS_PURCHASES_LIVES} // ($ENV{CI} ? 60 : 25);
my $seed = $ENV{CREDITS_SEED} // 20310401;
diag "seed $seed, $lives lives";
srand $seed;

my $node = credits_node('purchases');
my $session = CreditsTest::Session->new($node);
$session->value('SET jit = off');
$session->value(q(SET credits.test_clock = '2030-01-01 00:00+00'));
$session->value(q(SELECT credits_set_package('main', 97, 9.99, 'USD')));
$session->value(q(SELECT credits_set_package('short', 60, 7, 'USD', expires_in => '20 days')));
$session->value(q(SELECT credits_set_package('bundle', 100, 11.11, 'USD', extras =>
	'[{"credits": 13, "source": "promotional"}, {"credits": 7, "expires_in": "10 days", "source": "promotional"},
	  {"credits": 5, "unit": "image"}]')));

sub one_of { return $_[ int rand @_ ] }

# the account of a purchase and its purchase id
my $number = 0;

sub buy
{
	my ($account, $package) = @_;
	my $id = $session->value("SELECT purchase_id FROM credits_start_purchase('$account', '$package')");
	$session->value("SELECT credits_complete_purchase($id, 'pay_$id', (SELECT price FROM credits.purchases WHERE id = $id))");
	return $id;
}

sub state_of
{
	my ($account) = @_;
	return $session->value(qq(
		SELECT string_agg(concat_ws(' ', s.balance, s.held, s.debt), ' + ' ORDER BY a.name) || ': ' ||
			   (SELECT string_agg(concat_ws(' ', g.remaining, d.claimed, d.gone, d.owed, d.paid), ', ' ORDER BY g.id)
				FROM credits.grants AS g LEFT JOIN credits.debts AS d ON d.grant_id = g.id
				WHERE g.account_id IN (credits.account_id('$account'), (SELECT id FROM credits.accounts WHERE name = '$account:image')))
		FROM credits.accounts AS a CROSS JOIN LATERAL credits_summary(a.name) AS s
		WHERE a.name IN ('$account', '$account:image')));
}

# --------------------------------------------------------------------------
# every order

# What may be made known of a purchase; a chargeback that is over before it began
# is no news, so it is told again at the end.
my @news = (
	[ refund => "credits_refund_purchase(ID, 3.33, reference => 're_1')" ],
	[ refund => "credits_refund_purchase(ID, credits => 11, reference => 're_2')" ],
	[ chargeback => "credits_open_chargeback(ID, 'dp_1', 4.44)" ],
	[ won => "credits_close_chargeback(ID, 'dp_1', 'won')" ],
	[ spend => "credits_deduct('ACCOUNT', 57, 'spend')" ],
);

sub permutations
{
	my ($done, @rest) = @_;
	return [@$done] unless @rest;
	return map {
		my $i = $_;
		permutations([ @$done, $rest[$i] ], @rest[ grep { $_ != $i } 0 .. $#rest ]);
	} 0 .. $#rest;
}

# The spend itself cannot come after what has taken the credits: then it is
# refused.  So it comes first, or not at all, and is given back in between.
foreach my $case ([ 'nothing spent' ], [ 'all spent', 'SPEND' ], [ 'all spent and given back', 'SPEND', 'BACK' ],
	[ 'some held', 'HOLD' ], [ 'some held and released', 'HOLD', 'RELEASE' ])
{
	my ($name, @uses) = @$case;
	foreach my $over (qw(won lost))
	{
		my %ends;
		my @facts = (@news[ 0 .. 2 ], [ over => "credits_close_chargeback(ID, 'dp_1', '$over')" ],
			(grep { $_ eq 'BACK' || $_ eq 'RELEASE' } @uses) ? [ use => 'BACK' ] : ());
		foreach my $order (permutations([], @facts))
		{
			my $account = 'order:' . ++$number;
			$session->value("SELECT credits_open_account('$account')");
			my $id = buy($account, 'bundle');
			my $back;
			if (grep { $_ eq 'SPEND' } @uses)
			{
				my $spend = $session->value("SELECT transaction_id FROM credits_deduct('$account', 118)");
				$back = "credits_refund($spend, 45)";
			}
			elsif (@uses)
			{
				my $hold = $session->value("SELECT transaction_id FROM credits_hold('$account', 90)");
				$back = "credits_release($hold)";
			}
			foreach my $fact (@$order, [ over => "credits_close_chargeback(ID, 'dp_1', '$over')" ])
			{
				my $call = $fact->[1] eq 'BACK' ? $back : $fact->[1] =~ s/ID/$id/r;
				my $answer = $session->query("SELECT $call");
				die "$call: $answer->{code}"
				  unless $answer->{code} eq '00000' || $fact->[0] eq 'over' && $answer->{code} eq 'PT404';
			}
			push @{ $ends{ state_of($account) } }, join ' ', map { $_->[1] =~ s/\(.*//r } @$order;
		}
		is(scalar keys %ends, 1, "$name, chargeback $over: every order comes to the same")
		  or diag explain { map { $_ => scalar @{ $ends{$_} } . ': ' . $ends{$_}[0] } keys %ends };
	}
}

# --------------------------------------------------------------------------
# one payment, reported twice at once

# Two sessions complete the same purchases, each with the same payment, as a webhook
# and the page to which the buyer returns do: one delivers, the other repeats.
{
	my $count = 1500;
	$session->value(q(SELECT credits_open_account('twice')));
	my $first = $session->value(
		qq(SELECT min((credits_start_purchase('twice', 'short')).purchase_id) FROM generate_series(1, $count)));
	my $last = $first + $count - 1;
	my @reports = map { CreditsTest::Session->new($node) } 1 .. 2;
	$session->query('CREATE TABLE outcomes (outcome text)');
	$_->value(q(SET credits.test_clock = '2030-01-01 00:00+00')) foreach @reports;
	$_->send(qq(DO \$\$ BEGIN
		FOR i IN $first .. $last LOOP
			INSERT INTO outcomes SELECT outcome FROM credits_complete_purchase(i, 'twice_' || i, 7);
			COMMIT;
		END LOOP;
	END \$\$)) foreach @reports;
	is($_->receive->{code}, '00000', 'one of two sessions that report the same payments') foreach @reports;
	$_->quit foreach @reports;
	is($session->value(q(SELECT string_agg(outcome || ' ' || n, ', ' ORDER BY outcome) FROM (SELECT outcome, count(*) AS n FROM outcomes GROUP BY outcome) AS o)),
		"delivered $count, replayed $count", 'each payment has delivered once and is a replay once');
	is($session->value(q(SELECT count(*) FROM credits.events WHERE kind = 'payment_duplicate')), 0, 'and is announced as no duplicate');
}

# --------------------------------------------------------------------------
# promotions

# All orders in which two purchases with the only use of a promotion can start, end
# and be paid.  Nobody is refused: who comes too late for the promotion gets what the
# money buys without it.
sub interleavings
{
	my ($x, $y) = @_;
	return [ @$x, @$y ] unless @$x && @$y;
	return ((map { [ $x->[0], @$_ ] } interleavings([ @$x[ 1 .. $#$x ] ], $y)),
		(map { [ $y->[0], @$_ ] } interleavings($x, [ @$y[ 1 .. $#$y ] ])));
}

foreach my $case (
	[ 'max_uses', "'percent', 40, max_uses => 1, clear => '{per_account}'", 'a', 'b', 4.20 ],
	[ 'per_account', "'fixed', 2.80, 'USD'", 'a', 'a', 4.20 ],
	[ 'bonus', "'bonus', 30, max_uses => 1", 'a', 'b', 7 ])
{
	my ($name, $terms, $one, $other, $price) = @$case;
	my (%wrong, $orders, %kinds);
	foreach my $order (interleavings([qw(start1 end1 pay1)], [qw(start2 end2 pay2)]))
	{
		my $promotion = "$name:" . ++$number;
		my %account = (1 => "$promotion:$one", 2 => "$promotion:$other");
		my (%id, @told);
		$session->value("SELECT credits_open_account('$_')") foreach do { my %seen = reverse %account; sort keys %seen };
		$session->value("SELECT credits_set_promotion('$promotion', $terms)");
		foreach my $step (@$order)
		{
			my ($what, $n) = $step =~ /(\w+)(\d)/;
			next if $what ne 'start' && !$id{$n};
			my $answer = $session->query(
				  $what eq 'start' ? "SELECT purchase_id FROM credits_start_purchase('$account{$n}', 'short', promotion => '$promotion')"
				: $what eq 'end' ? "SELECT credits_expire_purchase($id{$n})"
				: "SELECT outcome FROM credits_complete_purchase($id{$n}, 'pay_$id{$n}', $price)");
			push @told, "$step: $answer->{code} @{ $answer->{rows} }";
			$id{$n} = $answer->{rows}[0] if $what eq 'start' && $answer->{code} eq '00000';
			$wrong{ join ', ', @told } = 'not delivered' if $what eq 'pay' && "@{ $answer->{rows} }" !~ /delivered/;
		}
		my $ids = join ', ', sort values %id;
		# with the promotion 60 credits for the price, without it the price's share of them
		my $found = $session->value(qq(
			SELECT string_agg(concat_ws(' ', CASE WHEN p.promotion IS NULL THEN 'without' ELSE 'with' END, p.credits,
				(SELECT sum(amount) FROM credits.grants WHERE id = ANY (p.grant_ids))), ', ' ORDER BY p.promotion)
			FROM credits.purchases AS p WHERE id IN ($ids)));
		my ($with, $without) = $name eq 'bonus' ? ('with 60 90', 'without 60 60') : ('with 60 60', 'without 36 36');
		$wrong{ join ', ', @told } = $found unless $found eq $with || $found eq "$with, $without";
		$kinds{$found}++;
		$orders++;
	}
	is($orders, 20, "$name: all orders");
	is(scalar keys %wrong, 0, "$name: in no order is a promotion delivered more often than it may be") or diag explain \%wrong;
	is(scalar keys %kinds, 2, "$name: once and, where the other has come too late for it, once without");
}

# --------------------------------------------------------------------------
# the laws

# What is wrong with an account and its purchases, nothing if all is well
sub wrongs
{
	my ($account) = @_;
	return $session->value(qq(
		WITH a AS (SELECT * FROM credits.accounts WHERE name IN ('$account', '$account:image', '$account:friend')),
		-- what has gone back, and so has to be claimed from each grant
		p AS (SELECT p.*, (SELECT amount FROM credits.grants WHERE id = grant_ids[1]) AS main,
				  (SELECT coalesce(sum(money), 0) FROM credits.reversals AS r
				   WHERE r.purchase_id = p.id AND r.status NOT IN ('won', 'withdrawn')) AS money_back,
				  (SELECT coalesce(sum(r.credits), 0) FROM credits.reversals AS r
				   WHERE r.purchase_id = p.id AND r.status NOT IN ('won', 'withdrawn')) AS back
			  FROM credits.purchases AS p WHERE p.status = 'completed' AND account_id IN (SELECT id FROM a)),
		c AS (SELECT g.id, least(g.amount, div(g.amount * (p.money_back * p.main + p.back * p.money), p.money * p.main)) AS claimed
			  FROM p JOIN credits.grants AS g ON g.id = ANY (p.grant_ids)),
		-- what became of each grant, by the draws alone
		u AS (SELECT d.grant_id, sum(amount) FILTER (WHERE kind IN ('deduction', 'hold', 'refund', 'release', 'transfer', 'reversal', 'gift')
					AND grant_id NOT IN (SELECT id FROM credits.grants WHERE transaction_id = d.transaction_id)) AS used,
				  sum(amount) FILTER (WHERE kind IN ('expiration', 'void')) AS lost,
				  sum(amount) FILTER (WHERE kind IN ('clawback', 'reinstatement', 'debt_payment')) AS taken
			  FROM (SELECT t.id AS transaction_id, t.kind, t.draws[i][1] AS grant_id, t.draws[i][2] AS amount
					FROM credits.transactions AS t, generate_subscripts(t.draws, 1) AS i
					WHERE t.account_id IN (SELECT id FROM a)) AS d GROUP BY d.grant_id)
		SELECT string_agg(wrong, '; ') FROM (
			SELECT 'claim of grant ' || c.id || ' is ' || coalesce(d.claimed, 0) || ', not ' || c.claimed AS wrong
			FROM c LEFT JOIN credits.debts AS d ON d.grant_id = c.id WHERE coalesce(d.claimed, 0) <> c.claimed
			UNION ALL
			SELECT 'grant ' || g.id || ' owes and has credits' FROM credits.grants AS g JOIN credits.debts AS d ON d.grant_id = g.id
			WHERE g.account_id IN (SELECT id FROM a) AND g.remaining > 0 AND d.owed > 0
			UNION ALL
			SELECT 'grant ' || g.id || ' has not what is left' FROM credits.grants AS g JOIN u ON u.grant_id = g.id
			WHERE g.remaining <> g.amount + coalesce(u.used, 0) + coalesce(u.lost, 0) + coalesce(u.taken, 0)
			UNION ALL
			SELECT 'more is gone of grant ' || d.grant_id || ' than was lost' FROM credits.debts AS d LEFT JOIN u USING (grant_id)
			WHERE d.account_id IN (SELECT id FROM a) AND d.gone > -coalesce(u.lost, 0)
			UNION ALL
			-- what is owed was used, by others or as a payment, and nothing of it expired instead
			SELECT 'grant ' || d.grant_id || ' owes what was not used' FROM credits.debts AS d JOIN u USING (grant_id)
			WHERE d.account_id IN (SELECT id FROM a) AND d.owed > 0
			  AND d.gone < least(d.claimed, -coalesce(u.lost, 0))
			UNION ALL
			SELECT name || ' owes ' || debt || ', and has ' || balance FROM a WHERE debt < 0 OR balance < 0 OR held < 0
				OR debt <> (SELECT coalesce(sum(owed), 0) FROM credits.debts WHERE account_id = a.id)
			UNION ALL
			-- everything that was given is somewhere
			SELECT name || ' lacks something' FROM a WHERE balance + held - debt <>
				(SELECT coalesce(sum(amount + held) FILTER (WHERE kind NOT IN ('clawback', 'reinstatement', 'debt_payment')), 0)
				 FROM credits.transactions WHERE account_id = a.id)
				- (SELECT coalesce(sum(claimed - gone), 0) FROM credits.debts WHERE account_id = a.id)
			UNION ALL
			SELECT 'verify: ' || problem || ' ' || detail FROM a, credits_verify(a.name)
		) AS w));
}

# --------------------------------------------------------------------------
# lives

my %counts;
my ($account, $now, @purchases, @spends, @holds, @transfers, $only_chargebacks);

# each returns the calls it makes, or nothing if there is nothing to do
my %acts = (
	buy => sub {
		return if @purchases > 3;
		push @purchases, buy($account, one_of(qw(main short bundle)));
		return 'SELECT 1';
	},
	spend => sub { return "SELECT transaction_id FROM credits_deduct('$account', " . (1 + int rand 80) . ')'; },
	hold => sub { return "SELECT transaction_id FROM credits_hold('$account', " . (1 + int rand 60) . ", expires_in => '" . (1 + int rand 30) . " days')"; },
	give => sub { return "SELECT credits_allocate('$account', " . (1 + int rand 40) . ", source => '" . one_of(qw(promotional purchase manual)) . "')"; },
	later => sub {
		return sprintf "SELECT credits_allocate('%s', %d, source => 'purchase', effective_at => credits.now() + interval '%d days')",
		  $account, 1 + int rand 40, 1 + int rand 9;
	},
	back => sub { return @spends ? 'SELECT credits_refund(' . one_of(@spends) . ', ' . (1 + int rand 40) . (rand() < 0.3 ? ", expired => 'expire'" : '') . ')' : (); },
	capture => sub { return @holds ? 'SELECT credits_capture(' . one_of(@holds) . ', ' . (1 + int rand 20) . ', final => ' . one_of('true', 'false') . ')' : (); },
	release => sub { return @holds ? 'SELECT credits_release(' . one_of(@holds) . ')' : (); },
	transfer => sub { return "SELECT transaction_id FROM credits_transfer('$account', '$account:friend', " . (1 + int rand 30) . ')'; },
	reverse => sub { return @transfers ? 'SELECT credits_reverse_transfer(' . one_of(@transfers) . ", 'x', " . (1 + int rand 20) . ')' : (); },
	refund => sub {
		return if $only_chargebacks || !@purchases;
		return sprintf 'SELECT credits_refund_purchase(%d, %s)', one_of(@purchases),
		  one_of('0.01', '1.23', '4', 'credits => 1', 'credits => 20', 'NULL');
	},
	chargeback => sub {
		return unless @purchases;
		return sprintf "SELECT credits_open_chargeback(%d, 'dp_%d'%s)", one_of(@purchases), rand 3, one_of(', 0.50', ', 3', ', 5.55', '');
	},
	won => sub { return @purchases ? sprintf "SELECT credits_close_chargeback(%d, 'dp_%d', 'won')", one_of(@purchases), rand 3 : (); },
	lost => sub { return @purchases ? sprintf "SELECT credits_close_chargeback(%d, 'dp_%d', 'lost')", one_of(@purchases), rand 3 : (); },
	time => sub {
		$now += int rand 4;
		return "SET credits.test_clock = '" . $session->value("SELECT timestamptz '2030-01-01 00:00+00' + interval '$now days'") . "'";
	},
	any => sub { return "SET credits.debt_payment = '" . one_of(qw(any purchase purchase)) . "'"; },
);

# these mean that there was nothing to do
my %expected = map { $_ => 1 } qw(00000 PT402 PT404 PT409 PT410);
my @failures;

foreach my $life (1 .. $lives)
{
	$account = "life:$life";
	$now = 0;
	@purchases = @spends = @holds = @transfers = ();
	$only_chargebacks = $life % 2;
	$session->value(q(SET credits.test_clock = '2030-01-01 00:00+00'));
	$session->value("SELECT credits_open_account('$account', 20), credits_open_account('$account:friend')");
	$acts{buy}->();
	my @told;
	foreach (1 .. 40)
	{
		my $act = one_of(sort(keys %acts), qw(spend spend hold chargeback won back));
		my ($call) = $acts{$act}->();
		next unless defined $call;
		my $answer = $session->query($call);
		push @told, "$call: $answer->{code}";
		$counts{$act}++ if $answer->{code} eq '00000';
		push @failures, [ "life $life: unexpected", @told ] unless $expected{ $answer->{code} };
		if ($answer->{code} eq '00000')
		{
			push @spends, $answer->{rows}[0] if $act eq 'spend';
			push @holds, $answer->{rows}[0] if $act eq 'hold';
			push @transfers, $answer->{rows}[0] if $act eq 'transfer';
		}
		my $wrongs = wrongs($account);
		push @failures, [ "life $life: $wrongs", @told ] if $wrongs ne '';
		last if @failures;
	}
	last if @failures;

	# all chargebacks are won: what was claimed comes back to the last credit
	next unless $only_chargebacks;
	foreach my $purchase (@purchases)
	{
		$session->query("SELECT credits_close_chargeback($purchase, 'dp_$_', 'won')") foreach 0 .. 2;
	}
	my $left = $session->value(qq(
		SELECT concat_ws(' ', debt, (SELECT coalesce(sum(claimed + gone + owed + paid), 0) FROM credits.debts WHERE account_id = a.id),
			balance + held - (SELECT coalesce(sum(amount + held), 0) FROM credits.transactions
				WHERE account_id = a.id AND kind NOT IN ('clawback', 'reinstatement', 'debt_payment')))
		FROM credits.accounts AS a WHERE name = '$account'));
	push @failures, [ "life $life: after all chargebacks were won: $left", @told ] if $left ne '0 0 0';
	my $wrongs = wrongs($account);
	push @failures, [ "life $life: at the end: $wrongs", @told ] if $wrongs ne '';
}
is(scalar @failures, 0, 'the laws hold after every step of every life')
  or diag join "\n", @{ $failures[0] };
note explain \%counts;
ok(!(grep { !$counts{$_} } keys %acts), 'everything was done');
$session->value("SET credits.test_clock = '2040-01-01 00:00+00'");
$session->value('CALL credits_settle()');
problems_are($node, '', 'credits_verify finds nothing');
done_testing();
