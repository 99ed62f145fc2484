# Batches on a real cluster: the recipe of doc/batch.md for a CSV file, as it
# stands there; many sessions with batches of overlapping accounts, which must
# not wait for each other in a circle; and the largest batches, their time and
# memory.
#
# CREDITS_BATCH_SECONDS says how long the sessions run; CREDITS_SEED repeats
# their choices.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use List::Util qw(sum0);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seconds = $ENV{CREDITS_BATCH_SECONDS} // ($ENV{CI} ? 30 : 5);
my $seed = $ENV{CREDITS_SEED} // 20310401;
diag "seed $seed, $seconds s";
srand $seed;

my $node = credits_node('batch', streaming => 1, conf => "log_min_error_statement = panic\n");
$node->safe_psql('postgres', q(
	CREATE ROLE boss LOGIN IN ROLE credits_admin;
	CREATE ROLE app LOGIN IN ROLE credits_app));

# --------------------------------------------------------------------------
# the recipe for a CSV file

# The steps of the recipe, each as the page has it.
my $page = slurp_file("$FindBin::RealBin/../../doc/batch.md");
my ($recipe) = $page =~ /^## From a CSV file\n(.*?)(?=^## |\z)/ms;
my @steps = $recipe =~ /^```sql\n(.*?)^```$/msg;
is(scalar @steps, 5, 'the recipe has five steps');

my $file = PostgreSQL::Test::Utils::tempdir . '/upload.csv';
$steps[0] =~ s/FROM stdin (.*\n)(?:.*\n)*\\\.\n/FROM '$file' $1/
  or die 'the recipe copies from somewhere else';

# A file of so many lines, every tenth of which is no good.
my $lines = 20_000;
my (%bad, @lines);
my @mistakes = (
	sub { ("unknown:$_[0]", 5, '', "line $_[0]") },
	sub { ("user:$_[0]", '5,5', '', "line $_[0]") },
	sub { ("user:$_[0]", '99999999999999999999', '', "line $_[0]") },
	sub { ("user:$_[0]", 5, '2099-02-30', "line $_[0]") },
	sub { ("user:$_[0]", 5, 'tomorrow', "line $_[0]") },
	sub { ("user:$_[0]", 5, '12:30', "line $_[0]") },
	sub { ("user:$_[0]", 5, '2020-01-01', "line $_[0]") },
	sub { ("user:$_[0]", 5, '', '') },
	sub { ("user:$_[0]", 0, '', "line $_[0]") },
	sub { ('', 5, '', "line $_[0]") },);
foreach my $line (2 .. $lines + 1)
{
	my $user = $line % 500;
	my @columns = ("user:$user", $line % 7 + 1, $line % 2 ? '2099-12-31' : '2099-12-31 18:00:00+01', "line $line");
	if ($line % 10 == 0)
	{
		@columns = $mistakes[ $line / 10 % @mistakes ]->($user);
		$bad{$line} = 1;
	}
	push @lines, join ',', $columns[0], "\"$columns[1]\"", $columns[2], '"a reason, with a comma"', $columns[3];
}
my $good = sum0 map { $_ % 7 + 1 } grep { !$bad{$_} } 2 .. $lines + 1;
$node->safe_psql('postgres', q(SELECT credits_open_account('user:' || n) FROM generate_series(0, 499) AS n));

sub write_lines
{
	open my $out, '>', $file or die "$file: $!";
	print $out map { "$_\n" } 'account,amount,expires_at,reason,key', @_;
	close $out;
}

# Runs steps of the recipe, and then some more, as an administrator.
sub run_recipe
{
	my ($more, @numbers) = @_;
	my ($stdout, $stderr) = ('', '');
	my $code = $node->psql(
		'postgres',
		join("\n", '\o /dev/null', (map { $steps[ $_ - 1 ] } @numbers), '\o', $more),
		stdout => \$stdout,
		stderr => \$stderr,
		on_error_stop => 1,
		extra_params => [ '--username', 'boss' ]);
	return ($code, $stdout, $stderr);
}

write_lines(@lines);
my $given = q(SELECT sum(balance) FROM credits.accounts WHERE name LIKE 'user:%';);
my ($code, $stdout, $stderr) = run_recipe(q(SELECT string_agg(line::text, ' ' ORDER BY line) FROM dry WHERE NOT ok;) . $given, 1, 2, 3);
is($stderr, '', 'recipe: the dry run goes well');
my @reported = split /\n/, $stdout;
is($reported[0], join(' ', sort { $a <=> $b } keys %bad), 'recipe: all bad lines are reported, and no others');
is($reported[1], 0, 'recipe: the dry run gives nothing');

($code, $stdout, $stderr) = run_recipe(
	q(SELECT count(*) FROM dry JOIN done USING (line) WHERE (dry.ok, dry.code, dry.message, (dry.receipt).balance)
		IS DISTINCT FROM (done.ok, done.code, done.message, (done.receipt).balance);) . $given, 1 .. 4);
is($stderr, '', 'recipe: the run goes well');
is($stdout, "0\n$good", 'recipe: all good lines are given, as the dry run said');

($code, $stdout, $stderr) = run_recipe(q(SELECT count(*), bool_and((receipt).replayed) FROM done WHERE ok;) . $given, 1 .. 4);
is($stdout, ($lines - keys %bad) . "|t\n$good", 'recipe: run again it gives nothing more');
($code, $stdout, $stderr) = run_recipe($given, 1 .. 5);
is($stdout, $good, 'recipe: and again, with step 5');
problems_are($node, '', 'recipe: the log is whole');

write_lines(@lines[ 0 .. 5 ], 'user:1,5,2099-12-31', @lines[ 6 .. 10 ]);
($code, $stdout, $stderr) = run_recipe($given, 1);
like($stderr, qr/missing data for column "reason".*line 8/s, 'recipe: a line with too few columns is named');

# --------------------------------------------------------------------------
# alerts

my $listener = CreditsTest::Session->new($node);
$listener->value('LISTEN low_balance');
$listener->value(q(SELECT count(credits_open_account('alert:' || n, 100)) FROM generate_series(1, 3) AS n));
my $answer = $listener->query(q(SELECT count(*) FROM credits_deduct_many(ARRAY(
	SELECT ('alert:' || n, 24, NULL, NULL, NULL, NULL)::credits.deduction
	FROM generate_series(1, 6) AS i, generate_series(1, 2) AS n)) WHERE ok));
is("@{$answer->{rows}}", 8, 'alerts: spent until there is not enough');
is(join(' ', sort map { $_->{payload} =~ /"account": "(.*?)", "balance": (\d+)/; "$1=$2" } @{ $answer->{notifications} }),
	'alert:1=4 alert:2=4', 'alerts: one for each account, with what is left');

# --------------------------------------------------------------------------
# many sessions

my $accounts = 50;
my $start = 30_000;
$node->safe_psql('postgres', "SELECT credits_open_account('shared:' || n, $start) FROM generate_series(1, $accounts) AS n");
my $number = 0;
my (%codes, $spent, $granted, $replays, $atomics);
$spent = $granted = $replays = $atomics = 0;

sub account { return 'shared:' . (1 + int rand $accounts) }

# A batch of spends in random order.  Some items have no key, some repeat one of
# the batch; in some batches one is too much.
sub deductions
{
	my $too_much = rand() < 0.3 ? int rand 200 : -1;
	my @items;
	foreach my $i (1 .. 200)
	{
		if (@items && rand() < 0.02)
		{
			push @items, $items[ int rand @items ];
			next;
		}
		my $key = rand() < 0.8 ? "'k" . ++$number . "'" : 'NULL';
		my $amount = $i == $too_much ? 1_000_000 : 1 + int rand 4;
		push @items, sprintf "('%s', %d, %s, NULL, NULL, NULL)", account(), $amount, $key;
	}
	return 'ARRAY[' . join(', ', @items) . ']::credits.deduction[]';
}

sub allocations
{
	my @items = map {
		sprintf "('%s', %d, 'k%d', NULL, NULL, NULL, '%s', now() + interval '%d milliseconds', NULL, NULL, NULL, NULL, NULL)",
		  account(), 1 + int rand 5, ++$number, rand() < 0.5 ? 'promotional' : 'purchase', 3_600_000
	} 1 .. 100;
	return 'ARRAY[' . join(', ', @items) . ']::credits.allocation[]';
}

my $sums = q(SELECT sum(-(receipt).amount) FILTER (WHERE NOT (receipt).replayed),
	count(*) FILTER (WHERE (receipt).replayed), count(*) FILTER (WHERE NOT ok AND code <> 'PT402') FROM );

# What a session does next: the statement, and what its answer means.
sub next_call
{
	my ($session) = @_;
	my $what = rand;
	my %call;
	my $book = sub {
		my ($out, $replayed, $strange) = split /\|/, $_[0], -1;
		$replays += $replayed;
		die "refused for another reason: $_[0]" if $strange;
		return $out || 0;
	};

	if (my $again = delete $session->{again})
	{
		# the same batch once more: all that was posted under a key is replayed
		%call = %$again;
	}
	elsif ($what < 0.55)
	{
		%call = (
			sql => "$sums credits_deduct_many(" . deductions() . ')',
			effect => sub { $spent += $book->(@_) });
	}
	elsif ($what < 0.7)
	{
		%call = (
			sql => "$sums credits_deduct_many(" . deductions() . ', atomic => true)',
			effect => sub { $spent += $book->(@_); $atomics++ });
	}
	elsif ($what < 0.8)
	{
		%call = (
			sql => "$sums credits_allocate_many(" . allocations() . ')',
			effect => sub { $granted -= $book->(@_) });
	}
	elsif ($what < 0.85)
	{
		%call = (sql => 'SELECT count(*) FROM credits_allocate_many(' . allocations() . ', dry_run => true)');
	}
	elsif ($what < 0.9)
	{
		%call = (sql => 'BEGIN; SELECT count(*) FROM credits_deduct_many(' . deductions() . '); ROLLBACK');
	}
	elsif ($what < 0.93)
	{
		# times out under the batches
		%call = (sql => sprintf "SELECT count(credits_hold('%s', 2, expires_in => '50 milliseconds'))", account());
	}
	elsif ($what < 0.96)
	{
		my ($from, $to) = map { account() } 1 .. 2;
		%call = (sql => $from eq $to ? 'SELECT 1' : "SELECT count(credits_transfer('$from', '$to', 3))");
	}
	else
	{
		%call = (
			sql => sprintf("SELECT -(credits_deduct('%s', 3)).amount", account()),
			effect => sub { $spent += $_[0] });
	}
	$session->{again} = {%call} if $call{sql} =~ /^\Q$sums\E credits_deduct_many/ && rand() < 0.2;
	$call{effect} //= sub { };
	return \%call;
}

my @sessions = map { CreditsTest::Session->new($node) } 1 .. 6;
my $end = time + $seconds;
my $calls = 0;
my @busy;
foreach my $session (@sessions)
{
	$session->{call} = next_call($session);
	$session->send($session->{call}{sql});
	push @busy, $session;
}
while (@busy)
{
	foreach my $session (wait_any(@busy))
	{
		my $result = $session->take;
		$calls++;
		$codes{ $result->{code} }++;
		$session->{call}{effect}->($result->{rows}[-1]) if $result->{code} eq '00000';
		if (time < $end && !$session->{gone})
		{
			$session->{call} = next_call($session);
			$session->send($session->{call}{sql});
		}
		else
		{
			@busy = grep { $_ != $session } @busy;
		}
	}
}
diag "$calls calls, $replays replays, $atomics batches of all or none: " . join ', ', map { "$_ $codes{$_}" } sort keys %codes;
is(join(' ', grep { !/^(00000|PT402)$/ } sort keys %codes), '', 'sessions: no deadlock, and no other error');
cmp_ok($codes{'00000'}, '>=', 10 * $seconds, 'sessions: many calls went well');
cmp_ok($replays, '>', 0, 'sessions: some items were replayed');
is( $node->safe_psql('postgres', q(SELECT sum(balance + held) FROM credits.accounts WHERE name LIKE 'shared:%')),
	$start * $accounts + $granted - $spent,
	'sessions: what was there, plus grants, less spends, is left');
problems_are($node, '', 'sessions: the log is whole');
$_->quit foreach @sessions;

# --------------------------------------------------------------------------
# the largest batches

my $session = CreditsTest::Session->new($node);
$session->value(q(SELECT count(credits_open_account('big:' || n, 1000000)) FROM generate_series(1, 1000) AS n));

sub memory
{
	return $session->value(q(SELECT substring(pg_read_file('/proc/self/status') from 'RssAnon:\s+(\d+)')));
}

# Posts 100,000 items on so many accounts, and says how long it took.
sub post_many
{
	my ($run, $many, $how) = @_;
	my $begun = time;
	is( $session->value(qq(SELECT count(*) FILTER (WHERE ok), count(DISTINCT (receipt).account), count(*) FILTER (WHERE item = (receipt).amount % 7 + 1)
		FROM credits_deduct_many(ARRAY(
			SELECT ('big:' || 1 + (i * 7919) % $many, 1, 'run $run of $many, item ' || i, NULL, NULL, NULL)::credits.deduction
			FROM generate_series(1, 100000) AS i)$how))),
		"100000|$many|0",
		"largest: 100,000 items on $many accounts");
	return time - $begun;
}

SKIP:
{
	skip 'there is no /proc', 1 if !-e '/proc/self/status';
	foreach my $many (1000, 1)
	{
		my @times = (post_many(1, $many, ''));
		my $before = memory();
		push @times, post_many(2, $many, ', atomic => true'), post_many(3, $many, '');
		my $after = memory();
		diag sprintf '100,000 items on %d accounts: %s s; memory after one run %d kB, after three %d kB',
		  $many, join(', ', map { sprintf '%.1f', $_ } @times), $before, $after;
		cmp_ok($after - $before, '<', 4096, 'largest: no memory is kept');
		cmp_ok($after, '<', 200_000, 'largest: nor was much');
	}
}

# many grants in one account, which is then spent from to the last
my $begun = time;
$session->value(q(SELECT credits_open_account('heap')));
is( $session->value(q(SELECT count(*) FROM credits_allocate_many(ARRAY(
		SELECT ('heap', 1, 'g' || i, NULL, NULL, NULL, 'manual', NULL, NULL, NULL, NULL, NULL, NULL)::credits.allocation
		FROM generate_series(1, 100000) AS i)) WHERE ok)),
	100_000, 'largest: 100,000 grants of one account');
is( $session->value(q(SELECT count(*) FILTER (WHERE ok), count(*) FILTER (WHERE code = 'PT402') FROM credits_deduct_many(ARRAY(
		SELECT ('heap', 2, 'd' || i, NULL, NULL, NULL)::credits.deduction FROM generate_series(1, 60000) AS i)))),
	'50000|10000', 'largest: spent to the last');
cmp_ok(time - $begun, '<', 60, 'largest: which takes no longer for each item than for the first');
diag sprintf '%.1f s for 100,000 grants of an account and 60,000 spends', time - $begun;

# a batch can be cancelled, and leaves nothing
my $state = q(SELECT sum(balance), sum(transaction_count) FROM credits.accounts);
my $before = $session->value($state);
$session->value('SET statement_timeout = 100');
is( $session->query(q(SELECT count(*) FROM credits_deduct_many(ARRAY(
		SELECT ('big:' || i % 1000 + 1, 1, 'cancelled ' || i, NULL, NULL, NULL)::credits.deduction FROM generate_series(1, 100000) AS i))))->{code},
	'57014', 'a batch is cancelled');
$session->value('RESET statement_timeout');
is($session->value($state), $before, 'and leaves nothing');
problems_are($node, '', 'the log is whole');

# --------------------------------------------------------------------------
# a standby

$node->backup('copy');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'copy', has_streaming => 1);
$standby->start;
sqlstate_is($standby, q(SELECT credits_deduct_many(ARRAY[('big:1', 1, NULL, NULL, NULL, NULL)]::credits.deduction[])), '25006', 'no batch on a standby');
sqlstate_is($standby, q(SELECT credits_allocate_many(ARRAY[NULL]::credits.allocation[], dry_run => true)), '25006', 'nor a dry run');
$standby->stop;

$session->quit;
$listener->quit;
$node->stop;
done_testing();
