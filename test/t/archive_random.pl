# Archiving again and again at random times, while accounts spend, hold, refund, expire,
# are renewed and erased: a model that knows nothing of archives says what must come out.
#
# What is archived must have been old enough, and only what is archived or too old may be
# refused.  All that is left must be as if nothing had left.
#
# CREDITS_ARCHIVE_STEPS says how many steps are taken, of about eight calls each;
# CREDITS_SEED repeats the choices.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsModel;
use CreditsTest;
use IPC::Run qw(run);
use List::Util qw(max min sum0);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $steps = $ENV{CREDITS_ARCHIVE_STEPS} // 100;
my $seed = $ENV{CREDITS_SEED} // 20320229;
diag "seed $seed, $steps steps";
srand $seed;

my $day = 86_400_000_000;
my $grace = 3 * $day;
my ($retention, $window) = (20 * $day, 45 * $day);
# limits may count what was spent in so many days
my $counted = 32 * $day;

# ids in a partition
my $size = 40;

my $node = credits_node('archive_random', conf => <<"CONF");
credits.partition_rows = $size
credits.partitions_ahead = 6
credits.key_retention = '20 days'
credits.refund_window = '45 days'
credits.refund_grace = '$grace microseconds'
CONF
my $super = CreditsTest::Session->new($node);
my $model = CreditsModel->new(grace => $grace);

sub value { return $super->value(@_) }

sub one_of { return $_[ int rand @_ ] }

# --------------------------------------------------------------------------
# the clock, which only goes on when told to

my $now;

sub timestamp { return "timestamptz 'epoch' + $_[0] * interval '1 microsecond'" }

sub set_clock
{
	my ($at) = @_;
	$now = $at;
	value("SELECT set_config('credits.test_clock', (@{[ timestamp($now) ]})::text, false)");
	return;
}

# --------------------------------------------------------------------------
# what was done, by the id of the transaction

my @accounts;
my %done;      # id => { request, id, at, kind, account, has_text, erased }
my @ids;       # of %done, in order
my %of_key;    # 'account key' => id of the newest
my %at;        # account => { instant => balance after all that was done then }
my ($archived, $exported, $number) = (0, 0, 0);
my @dropped;   # [first, last] id of partitions that are gone
my (%seen, @problems);

sub problem
{
	push @problems, "seed $seed: " . shift;
	diag $problems[-1] if @problems < 10;
	return;
}

# What an answer has to be; the codes that came are counted.
sub expect
{
	my ($answer, $code, $what) = @_;
	$seen{ ($what =~ /^(\w+)/)[0] . " $answer->{code}" }++;
	problem("$what: $answer->{code}, not $code") if $answer->{code} !~ /^(?:$code)$/;
	return $answer->{code} eq '00000';
}

my $columns = 'transaction_id, account, kind, amount, balance, held, replayed, (extract(epoch FROM created_at) * 1000000)::bigint';

my %call = (
	open => sub { "credits_open_account('$_->{account}', $_->{amount})" },
	allocate => sub {
		"credits_allocate('$_->{account}', $_->{amount}, KEY, source => '$_->{source}', expires_at => "
		  . (defined $_->{expires} ? timestamp($_->{expires}) : 'NULL') . ', effective_at => '
		  . (defined $_->{effective} ? timestamp($_->{effective}) : 'NULL') . ')';
	},
	deduct => sub { "credits_deduct('$_->{account}', $_->{amount}, KEY, reference => 'ref:$_->{account}')" },
	hold => sub { "credits_hold('$_->{account}', $_->{amount}, KEY, expires_in => '$_->{lasts} microseconds')" },
	adjust => sub { "credits_adjust('$_->{account}', $_->{amount}, 'because', KEY)" },
	transfer => sub { "credits_transfer('$_->{account}', '$_->{to}', $_->{amount}, KEY, reason => 'because')" },
	refund => sub { "credits_refund($_->{target}, @{[ $_->{amount} // 'NULL' ]}, KEY, expired => '$_->{expired}')" },
	reverse => sub { "credits_reverse_transfer($_->{target}, 'because')" },
	capture => sub { "credits_capture($_->{target}, @{[ $_->{amount} // 'NULL' ]}, KEY, final => $_->{final}::boolean)" },
	release => sub { "credits_release($_->{target})" },
	extend => sub { "credits_extend_hold($_->{target}, '$_->{lasts} microseconds')" },
);

# Sends a request, and plays it if it was done.  Returns its id.
sub try_it
{
	my ($request, $code, $what) = @_;
	my ($sql) = map { $call{ $_->{op} }->() } $request;
	my $key = defined $request->{key} ? "'$request->{key}'" : 'NULL';
	$sql =~ s/KEY/idempotency_key => $key/;
	my $answer = $super->query("SELECT $columns FROM $sql");
	expect($answer, $code, "$request->{op} $what: $sql") or return 0;
	my %receipt;
	@receipt{qw(id account kind amount balance held replayed at)} = split /\|/, $answer->{rows}[0];
	@receipt{qw(sent acked)} = (++$number, $number);
	my $known = defined $request->{key} ? $done{ $of_key{"$request->{account} $request->{key}"} // 0 } : undef;
	if ($receipt{replayed} eq 't')
	{
		problem("a replay of nothing: $sql") if !$known || $known->{id} != $receipt{id} || $known->{erased};
		$seen{replay}++;
		return 0;
	}
	if ($known && !$known->{erased})
	{
		problem("transaction $known->{id} is done again, after " . ($now - $known->{at}) / $day . " days: $sql")
		  if $known->{at} >= $now - $retention;
		$seen{'new again'}++;
	}
	my $wrong = $model->play($request, \%receipt);
	problem("$wrong: $sql, transaction $receipt{id}") if $wrong;
	$done{ $receipt{id} } = {
		%receipt,
		request => $request,
		has_text => defined $request->{key} || $request->{op} =~ /^(deduct|adjust|transfer|reverse)$/ ? 1 : 0,
	};
	push @ids, $receipt{id};
	$of_key{"$request->{account} $request->{key}"} = $receipt{id} if defined $request->{key};
	$at{ $receipt{account} }{ $receipt{at} } = $receipt{balance};
	my $other = $request->{op} eq 'reverse' ? $done{ $request->{target} }{request}{to} : $request->{to};
	delete $at{$other}{$now} if defined $other;
	return $receipt{id};
}

sub key { return rand() < 0.7 ? 'k' . ++$number : undef }

sub account_of { $model->{receipt} = { at => $now }; return $model->look($_[0]) }

sub balance_of { return CreditsModel::balance(account_of($_[0])) }

# An id of some kinds, a new one or any.
sub some
{
	my (@kinds) = @_;
	my %kinds = map { $_ => 1 } @kinds;
	my @some = grep { $kinds{ $done{$_}{kind} } } @ids;
	return undef unless @some;
	return rand() < 0.4 ? $some[ -1 - int rand min(10, scalar @some) ] : one_of(@some);
}

# Is a transaction archived, or too old to be undone?
sub too_old
{
	my ($id) = @_;
	return $id <= $archived || $done{$id}{at} < $now - $window;
}

my %ways = (
	deduct => sub {
		my $account = one_of(@accounts);
		my $amount = 1 + int rand(rand() < 0.1 ? 200 : 12);
		try_it({ op => 'deduct', account => $account, amount => $amount, key => key() },
			$amount > balance_of($account) ? 'PT402' : '00000', 'by balance');
	},
	hold => sub {
		my $account = one_of(@accounts);
		my $amount = 1 + int rand 12;
		my $lasts = int(rand() < 0.3 ? 400 * $day : $day + rand(20 * $day));
		try_it({ op => 'hold', account => $account, amount => $amount, lasts => $lasts, key => key() },
			$amount > balance_of($account) ? 'PT402' : '00000', 'by balance');
	},
	allocate => sub {
		my %request = (op => 'allocate', account => one_of(@accounts), amount => 1 + int rand 60,
			source => one_of(qw(promotional manual purchase gift)), key => key());
		$request{effective} = int($now + $day + rand(20 * $day)) if rand() < 0.2;
		$request{expires} = int(($request{effective} // $now) + $day + rand(40 * $day)) if rand() < 0.6;
		try_it(\%request, '00000', 'any');
	},
	adjust => sub {
		my $account = one_of(@accounts);
		my $amount = (1 + int rand 10) * one_of(-1, 1);
		try_it({ op => 'adjust', account => $account, amount => $amount, key => key() },
			-$amount > balance_of($account) ? 'PT402' : '00000', 'by balance');
	},
	transfer => sub {
		my $account = one_of(@accounts);
		my $to = one_of(grep { $_ ne $account } @accounts);
		my $amount = 1 + int rand 10;
		account_of($to);
		try_it({ op => 'transfer', account => $account, to => $to, amount => $amount, key => key() },
			$amount > balance_of($account) ? 'PT402' : '00000', 'by balance');
	},
	refund => sub {
		my $target = some(qw(deduction capture)) or return;
		my $spend = $model->{spends}{$target};
		my $left = sum0 map { $_->{amount} - $_->{given} } @{ $spend->{parts} // [] };
		my $amount = rand() < 0.5 ? undef : 1 + int rand max($left, 1);
		# of the hold that it captured, the time counts that it was captured
		try_it({ op => 'refund', account => $done{$target}{account}, target => $target, amount => $amount,
				expired => one_of(qw(grace expire)), key => key() },
			too_old($target) ? 'PT410' : $left == 0 ? 'PT409' : '00000', too_old($target) ? 'too old' : 'of what is left');
	},
	reverse => sub {
		my $target = some('transfer') or return;
		try_it({ op => 'reverse', account => $done{$target}{account}, target => $target },
			too_old($target) ? 'PT410' : '00000|PT402|PT409', 'by age');
	},
	capture => sub {
		my $target = some('hold') or return;
		account_of($done{$target}{account});
		my ($part) = @{ $model->{holds}{$target}{parts} };
		my $left = CreditsModel::left($part);
		my $open = $part->{status} eq 'open';
		my $amount = rand() < 0.5 || !$left ? undef : 1 + int rand $left;
		try_it({ op => 'capture', account => $done{$target}{account}, target => $target, amount => $amount, final => int rand 2, key => key() },
			$open ? '00000' : 'PT409|PT410', $open ? 'open' : 'over');
	},
	release => sub {
		my $target = some('hold') or return;
		account_of($done{$target}{account});
		my $open = $model->{holds}{$target}{parts}[0]{status} eq 'open';
		try_it({ op => 'release', account => $done{$target}{account}, target => $target }, $open ? '00000' : 'PT409|PT410', $open ? 'open' : 'over');
	},
	extend => sub {
		my $target = some('hold') or return;
		account_of($done{$target}{account});
		my $part = $model->{holds}{$target}{parts}[0];
		my $lasts = int(rand(400 * $day)) + $day;
		try_it({ op => 'extend', account => $done{$target}{account}, target => $target, lasts => $lasts },
			$part->{status} ne 'open' ? 'PT409|PT410' : $part->{expires} >= $now + $lasts ? '22023' : '00000', $part->{status});
	},
	again => sub {
		my $id = some(qw(deduction hold adjustment)) or return;
		my $request = $done{$id}{request};
		return unless defined $request->{key};
		try_it($request, $done{$id}{at} >= $now - $retention && !$done{$id}{erased} ? '00000' : '00000|PT402', 'with a key used before');
	},
	erase => sub {
		my $id = one_of(@ids);
		my $gone = grep { $_->[0] <= $id && $id <= $_->[1] } @dropped;
		# a copy may be left of a row whose partition was dropped
		$gone &&= value("SELECT count(*) FROM credits.log WHERE id = $id") == 0;
		my $answer = $super->query("SELECT credits_erase_text($id)");
		expect($answer, $gone ? 'PT410' : '00000', 'erase') or return;
		my $should = $done{$id}{has_text} && !$done{$id}{erased} ? 't' : 'f';
		problem("erasing $id: $answer->{rows}[0], not $should") if $answer->{rows}[0] ne $should;
		$done{$id}{erased} = 1 if $should eq 't';
		problem("a text of $id is left") if value(qq(SELECT count(*) FROM (SELECT * FROM credits.transactions UNION ALL
			SELECT * FROM credits.archived_transactions) AS t WHERE id = $id
			AND (idempotency_key, reference, reason, metadata, request) IS DISTINCT FROM (NULL, NULL, NULL, NULL, NULL)));
	},
);
my %weight = (deduct => 10, hold => 4, allocate => 4, adjust => 1, transfer => 2, refund => 7, reverse => 1, capture => 4, release => 1,
	extend => 1, again => 5, erase => 2);
my @ways = map { ($_) x $weight{$_} } sort keys %weight;

# --------------------------------------------------------------------------
# subscriptions, which the model does not know: a hundred credits a month, lost at its end

my @subscribers = map { "subscriber:$_" } 1 .. 3;
my (%begun, %period, %used);

# When the current period of a subscriber began.
sub period_of
{
	my ($name) = @_;
	return value("SELECT (extract(epoch FROM max(s)) * 1000000)::bigint
		FROM generate_series(@{[ timestamp($begun{$name}) ]}, @{[ timestamp($now) ]}, interval '1 month') AS s");
}

sub use_subscriptions
{
	value('CALL credits_renew()');
	foreach my $name (@subscribers)
	{
		my $period = period_of($name);
		$used{$name} = [] if ($period{$name} // '') ne $period;
		$period{$name} = $period;
		my $used = sum0(map { $_->[1] } @{ $used{$name} });
		problem("$name has " . value("SELECT credits_balance('$name')") . ", not 100 less $used")
		  if value("SELECT credits_balance('$name')") != 100 - $used;
		my $amount = 1 + int rand 30;
		my $answer = $super->query("SELECT transaction_id FROM credits_deduct('$name', $amount)");
		next unless expect($answer, $amount > 100 - $used ? 'PT402' : '00000', 'subscriber');
		push @{ $used{$name} }, [ $answer->{rows}[0], $amount ];
		# what a period gave can be given back to it
		my $spend = one_of(@{ $used{$name} });
		next if rand() < 0.7 || !$spend->[1];
		$spend->[1] = 0 if expect($super->query("SELECT credits_refund($spend->[0])"), '00000', 'subscriber_refund');
	}
	problem('a current period is archived') if $archived && value("SELECT count(*) FROM credits.subscriptions AS s
		CROSS JOIN LATERAL (SELECT transaction_id FROM credits.periods WHERE subscription_id = s.id ORDER BY starts_at DESC LIMIT 1) AS p
		WHERE p.transaction_id <= $archived");
	return;
}

# --------------------------------------------------------------------------
# closing the books

my @export;    # rows that have left, as JSON

sub archive
{
	my $before = rand() < 0.5 ? $now : int($now - rand(120 * $day));
	my $answer = $super->query("CALL credits_archive(@{[ timestamp($before) ]}, @{[ one_of(1, 3, 1000) ]})");
	expect($answer, '00000', 'archive') or return;
	my ($until) = split /\|/, $answer->{rows}[0];
	my $oldest = min($before, $now - $window, $now - $counted, $now - $retention);
	if ($until)
	{
		$seen{archived}++;
		problem("archived up to $until, after $archived") if $until <= $archived;
		my @young = grep { $_ > $archived && $_ <= $until && $done{$_}{at} >= $oldest } @ids;
		problem("archived, but young: @young") if @young;
		my $unread = value(q(SELECT COALESCE(min(transaction_id), 9223372036854775807) FROM credits.events AS e
			WHERE e.id > (SELECT safe_id FROM credits.consumers WHERE name = 'reader')
			AND (SELECT unread FROM credits.consumer_lag('reader')) IS DISTINCT FROM 0));
		problem("archived up to $until, but $unread is not read") if $unread > $archived && $unread <= $until;
		$archived = $until;
		push @export, split /\n/, value("SELECT row_to_json(c) FROM credits.archived_chain AS c WHERE id > $exported");
		$exported = $until;
	}
	else
	{
		my $next = $size * (1 + int(($archived + 1) / $size));
		my $needed = value("SELECT COALESCE(min(transaction_id), 0) FROM credits_archive_obstacles(@{[ timestamp($before) ]})");
		problem("nothing is archived, but the rows below $needed could be, up to $next")
		  if $needed >= $next && max(@ids) >= $next;
	}
	return;
}

# Drops the oldest partition that has left.
sub drop
{
	my ($name, $first, $last) = split /\|/, value(q(SELECT tableoid::regclass, min(id), max(id) FROM credits.archived_log GROUP BY 1 ORDER BY 2 LIMIT 1))
	  or return;
	value("DROP TABLE $name");
	push @dropped, [ $first, $last ];
	$seen{dropped}++;
	return;
}

# --------------------------------------------------------------------------
# looking

sub look
{
	my $found = value(q(SELECT string_agg(concat_ws(' ', account, transaction_id, problem, detail), '; ') FROM credits_verify(archived => true)));
	problem("not clean: $found") if $found ne '';
	my $expected = $model->accounts($now);
	foreach my $row (split /\n/, value(q(
		SELECT a.name, s.status, s.balance, s.held, s.granted, s.spent, s.refunded, s.expired, a.transaction_count
		FROM credits.accounts AS a, credits_summary(a.name) AS s WHERE a.name LIKE 'account:%')))
	{
		my ($name, $state) = split /\|/, $row, 2;
		# what nothing has touched since is not yet in the log
		s/\|\d+$// foreach $state, $expected->{$name};
		problem("$name is $state, not $expected->{$name}") if $state ne $expected->{$name};
	}

	my $account = one_of(@accounts);
	my ($id, $at, $balance) = split /\|/, value("SELECT transaction_id, (extract(epoch FROM created_at) * 1000000)::bigint, balance
		FROM credits.book_starts WHERE account_id = credits.account_id('$account')");
	my ($rows, $amounts, $last, $count) = (0, 0, '', 0);
	for (my $page = 'NULL'; defined $page;)
	{
		my @page = map { [ split /\|/, $_, -1 ] } split /\n/, value("SELECT transaction_id, kind, amount, metadata ->> 'transactions'
			FROM credits_history('$account', max_rows => 7, before_id => $page)");
		$page = @page ? $page[-1][0] : undef;
		$rows += grep { $_->[1] ne 'archived' } @page;
		$amounts += sum0 map { $_->[2] } @page;
		($last, $count) = @{$_}[ 0, 3 ] foreach grep { $_->[1] eq 'archived' } @page;
	}
	problem("the history of $account ends at '$last', not at '" . ($id // '') . "'") if $last ne ($id // '');
	my ($total, $sum) = split /\|/, value("SELECT transaction_count, balance FROM credits.accounts WHERE name = '$account'");
	problem("$rows rows of $account and $count archived are not $total") if $rows + $count != $total;
	problem("$amounts and $balance do not come to $sum") if $amounts + ($balance // 0) != $sum;

	my $instant = one_of(keys %{ $at{$account} }) or return;
	my $answer = $super->query("SELECT credits_balance_at('$account', @{[ timestamp($instant) ]})");
	my $gone = defined $at && $instant < $at;
	expect($answer, $gone ? 'PT410' : '00000', 'balance_at') or return;
	problem("$account had $answer->{rows}[0] then, not $at{$account}{$instant}") if $answer->{rows}[0] != $at{$account}{$instant};
	return;
}

# --------------------------------------------------------------------------
# all of it

value(q(CALL credits_partition_log()));
# long ago, so that the real clock goes on from there
set_clock(1_104_537_600_000_000);
foreach (1 .. 8)
{
	push @accounts, "account:$_";
	try_it({ op => 'open', account => "account:$_", amount => 100 }, '00000', 'once');
}
value(q(SELECT credits_set_plan('monthly', 100)));
value(q(SELECT credits_add_consumer('reader')));
foreach my $name (@subscribers)
{
	set_clock($now + $day);
	value("SELECT credits_open_account('$name'); SELECT credits_subscribe('$name', 'monthly')");
	$begun{$name} = $now;
}
foreach my $step (1 .. $steps)
{
	# sometimes to the very microsecond at which something ends
	my @ends = grep { $_ > $now && $_ < $now + 6 * $day } map { ($_ + $window, $_ + $window + 1, $_ + $retention) } map { $done{$_}{at} } @ids[ 0 .. $#ids ];
	set_clock(@ends && rand() < 0.5 ? one_of(@ends) : int($now + rand(6 * $day)));
	value('CALL credits_settle()') if rand() < 0.3;
	$ways{ one_of(@ways) }->() foreach 1 .. 8;
	use_subscriptions();
	value(q(CALL credits_partition_log()));
	value(q(SELECT credits_ack_events('reader', token) FROM (SELECT * FROM credits_read_events('reader', 1000) ORDER BY event_id DESC LIMIT 1) AS e)) if rand() < 0.4;
	archive() if rand() < 0.5;
	drop() if rand() < 0.05;
	look();
	last if @problems >= 10;
}
is(join("\n", @problems), '', 'no problem');
note join "\n", map { "$_: $seen{$_}" } sort keys %seen;
cmp_ok($seen{$_} // 0, '>', 0, "seen: $_") foreach 'archived', 'dropped', 'replay', 'new again', 'refund PT410', 'refund 00000', 'capture 00000', 'erase 00000',
  'balance_at PT410', 'balance_at 00000';

# --------------------------------------------------------------------------
# all that has left, checked outside the database

my $anchors = $node->basedir . '/anchors.jsonl';
append_to_file($anchors, value(q(SELECT row_to_json(a) FROM credits.anchors AS a ORDER BY account_id, transaction_id)) . "\n");
my @sorted = map { $_->[2] } sort { $a->[0] <=> $b->[0] || $a->[1] <=> $b->[1] }
  map { [ /"account_id":(\d+),"id":(\d+)/, $_ ] } @export;
my $out = '';
run [ 'python3', '-B', "$FindBin::RealBin/../../doc/verify_chain.py", '--anchors', $anchors ], '<', \join("\n", @sorted, ''), '>', \$out;
like($out, qr/^@{[ scalar @export ]} rows, \d+ accounts: OK$/m, 'what has left is whole');

# --------------------------------------------------------------------------
# a restored copy goes on

my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $dump, $node->connstr('postgres') ], 'dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'pg_restore', '-d', $node->connstr('copy'), $dump ], 'restore');
is(facts_of($node, 'copy'), facts_of($node), 'the same, and clean');
my $clock = value('SHOW credits.test_clock');
$super->quit;
$super = CreditsTest::Session->new($node, dbname => 'copy');
value("SET credits.test_clock = '$clock'");
set_clock($now + $window + $counted);
value('CALL credits_renew()');
archive();
look();
is(join("\n", @problems), '', 'no problem there');
$super->quit;

done_testing();
