# Corrections of many accounts: beside 8 clients that spend on the same accounts, all of
# them are corrected or none, and nobody waits for long.  Whatever interrupts one, it is
# continued.  Whether an account has it is read from the log.
#
# CREDITS_CORRECTIONS is how many accounts are corrected; the bar is for 100000.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use IPC::Run ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $accounts = $ENV{CREDITS_CORRECTIONS} // ($ENV{CI} ? 10000 : 3000);
my $rounds = $ENV{CREDITS_ROUNDS} // 150;
my $seed = $ENV{CREDITS_SEED} // 801;
note "CREDITS_CORRECTIONS=$accounts CREDITS_ROUNDS=$rounds CREDITS_SEED=$seed";

my $node = credits_node('corrections', conf => "fsync = on\nrestart_after_crash = on\nmax_wal_size = 4GB\nshared_buffers = 128MB\n");
my $session = CreditsTest::Session->new($node);
$session->value("CREATE TABLE people AS SELECT n FROM generate_series(1, $accounts) AS n");
$session->value(q(SELECT credits_open_accounts('people', 'n', prefix => 'c:', initial_credits => 10000)));
$session->value('VACUUM ANALYZE');
# what every account should have: what it was given, less what it has spent, and the corrections that were applied
$session->value(<<'SQL');
CREATE VIEW wrong AS
SELECT a.name, a.balance FROM credits.accounts AS a
CROSS JOIN LATERAL (SELECT COALESCE(sum(t.amount), 0) AS sum FROM credits.transactions AS t
	WHERE t.account_id = a.id AND t.kind <> 'adjustment') AS t
CROSS JOIN LATERAL (SELECT COALESCE(sum(c.delta), 0) AS sum FROM credits.corrections AS c
	WHERE c.status = 'applied') AS c
WHERE a.balance <> t.sum + c.sum
SQL

sub preview
{
	my ($delta, $reason) = @_;
	return split /\|/, $session->value("SELECT token, correction_id, accepted FROM credits_preview_correction(ARRAY(SELECT 'c:' || n FROM people), $delta, '$reason')");
}
sub status_of { my ($id) = @_; return $session->value("SELECT status FROM credits.corrections WHERE id = $id") }
sub posted { my ($reason) = @_; return $session->value("SELECT count(*), count(DISTINCT account_id) FROM credits.transactions WHERE kind = 'adjustment' AND reason = '$reason'") }
sub all_is_well
{
	my ($what) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($session->value('SELECT count(*) FROM wrong'), 0, "$what: each account has what it should have")
		or diag $session->value('SELECT * FROM wrong LIMIT 10');
	problems_are($node, '', "$what: nothing is wrong");
}

# ---------------------------------------------------------------------------
# beside clients that spend

my $directory = $node->basedir;
my $clients;
sub start_clients
{
	my ($log) = @_;
	my $file = "$directory/spend.sql";
	unlink $file;
	append_to_file($file, "\\set n random(1, $accounts - 1)\nSELECT ok FROM credits_try_deduct('c:' || :n, 1);\n");
	my ($out, $err) = ('', '');
	$clients = { err => \$err,
		run => IPC::Run::start([ $node->installed_command('pgbench'), '-n', '-M', 'prepared', '-c', 8, '-T', 3600,
			'-l', "--log-prefix=$directory/$log", '-f', $file, $node->connstr('postgres') ], '<', \undef, '>', \$out, '2>', \$err) };
	my $before = $session->value('SELECT last_value FROM credits.transactions_id_seq');
	wait_until(sub { $session->value('SELECT last_value FROM credits.transactions_id_seq') > $before + 100 });
}
sub stop_clients
{
	# so that pgbench writes all of its log
	$clients->{run}->signal('INT');
	$clients->{run}->finish;
	wait_until(sub { $session->value(q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench')) == 0 });
}
# how many calls a client made that overlap with a time, and how long the longest took, in milliseconds
sub longest_wait
{
	my ($log, $from, $until) = @_;
	my ($n, $longest) = (0, 0);
	foreach my $file (glob "$directory/$log.*")
	{
		foreach my $line (split /\n/, slurp_file($file))
		{
			my (undef, undef, $latency, undef, $seconds, $microseconds) = split / /, $line;
			next unless defined $microseconds;
			my $end = $seconds + $microseconds / 1e6;
			next if $end < $from || $end - $latency / 1e6 > $until;
			$n++;
			$longest = $latency if $latency > $longest;
		}
	}
	return ($n, $longest / 1000);
}

start_clients('beside');
my @times;
foreach my $delta (-7, 5)
{
	my $begun = time;
	my ($token, $id, $accepted) = preview($delta, "beside $delta");
	my $previewed = time;
	is($accepted, $accounts, "a correction of $delta is previewed");
	is($session->value("CALL credits_apply_correction('$token')"), join('|', $id, $accounts, $delta * $accounts, 'f'), 'and applied');
	push @times, [ $delta, $begun, $previewed, time ];
}
# refused in the middle, and given back: an account is held until all others have it, and then has not enough
my $holder = CreditsTest::Session->new($node);
my $applier = CreditsTest::Session->new($node);
# one that no client waits for
my $victim = "c:$accounts";
my ($token, $id) = preview(-9000, 'too much');
$holder->value("BEGIN; SELECT credits_deduct('$victim', 2000)");
my $begun = time;
$applier->send("CALL credits_apply_correction('$token')");
ok(wait_until(sub { $session->value("SELECT count(*) FROM credits.correction_items WHERE correction_id = $id AND transaction_id IS NOT NULL") == $accounts - 1 }),
	'all but one are corrected, and that one is waited for');
$holder->value('COMMIT');
is($applier->receive->{code}, 'PT409', 'it is refused');
push @times, [ 'refused', $begun, $begun, time ];
stop_clients();
foreach (@times)
{
	my ($what, $from, $previewed, $until) = @$_;
	my ($n, $longest) = longest_wait('beside', $from, $until);
	cmp_ok($n, '>', 0, 'clients went on');
	cmp_ok($longest, '<', 1000, "$what: nobody waited longer than a second");
	note sprintf '%s: %d accounts in %.1f s, previewed in %.1f s, beside %d spends, the longest of which took %.0f ms',
		$what, $accounts, $until - $previewed, $previewed - $from, $n, $longest;
}
is(status_of($id), 'refused', 'and stays refused');
is(posted('beside -7'), "$accounts|$accounts", 'a correction that was applied was made to each account once');
is(posted('beside 5'), "$accounts|$accounts", 'so was the other');
is(posted('too much'), (2 * ($accounts - 1)) . '|' . ($accounts - 1), 'one that was refused was made, and undone');
is($session->value("SELECT sum(amount) FROM credits.transactions WHERE reason = 'too much'"), 0, 'so that nothing is left of it');
all_is_well('beside clients');

# ---------------------------------------------------------------------------
# interrupted

# Puts an end to a session that has corrected some accounts, or undone some.
my %ends = (
	'a backend is terminated' => sub { $session->value('SELECT pg_terminate_backend(' . shift() . ')') },
	'a backend is killed' => sub { kill 'KILL', shift },
	'the server is killed' => sub { kill_cluster($node) },
	'the server is stopped at once' => sub { $node->stop('immediate') });
my $interruptions = 0;
foreach my $end (sort keys %ends)
{
	foreach my $reverting (0, 1)
	{
		my $what = $end . ($reverting ? ' while it is undone' : '');
		my $by_job = $end =~ /at once|terminated/;
		my $reason = 'interrupted ' . ++$interruptions;
		my $delta = $reverting ? -5000 : -1;
		my ($token, $id) = preview($delta, $reason);
		my $applier = CreditsTest::Session->new($node);
		my $pid = $applier->value('SELECT pg_backend_pid()');
		my @holders = map { CreditsTest::Session->new($node) } 0 .. 1;
		my ($first, $second) = ('c:' . int($accounts / 3), 'c:' . int($accounts / 2));
		# accounts that are locked are left for the end, so it does not end before
		$holders[0]->value("BEGIN; SELECT credits_deduct('$first', " . ($reverting ? 6000 : 1) . ')');
		$applier->send("CALL credits_apply_correction('$token')");
		my $column = 'transaction_id';
		if ($reverting)
		{
			wait_until(sub { $session->value("SELECT count(*) FROM credits.correction_items WHERE correction_id = $id AND transaction_id IS NOT NULL") == $accounts - 1 });
			$holders[1]->value("BEGIN; SELECT credits_allocate('$second', 1)");
			$holders[0]->value('COMMIT');
			$column = 'reverted_id';
		}
		my $reached = wait_until(sub { $session->value("SELECT count(*) FROM credits.correction_items WHERE correction_id = $id AND $column IS NOT NULL") > 100 });
		ok($reached, "$what: it is under way");
		my $logged = -s $node->logfile;
		$ends{$end}->($pid);
		wait_until(sub { state_of($pid) eq '' });
		$_->quit foreach @holders, $applier;
		$node->start if $end =~ /the server/;
		# all others are ended with a backend that is killed
		wait_until(sub { slurp_file($node->logfile, $logged) =~ /ready to accept connections/ }) if $end =~ /backend is killed/;
		wait_until(sub { eval { $node->safe_psql('postgres', 'SELECT 1') } }) or die 'the server does not come back';
		$session = CreditsTest::Session->new($node);
		is(status_of($id), $reverting ? 'reverting' : 'applying', "$what: it is not finished");
		problems_are($node, '', "$what: nothing is wrong in between");
		if ($by_job)
		{
			$session->value('CALL credits_housekeep()');
		}
		else
		{
			is($session->query("CALL credits_apply_correction('$token')")->{code}, $reverting ? 'PT409' : '00000', "$what: it is continued");
		}
		is(status_of($id), $reverting ? 'refused' : 'applied', "$what: and finished" . ($by_job ? ' by the job' : ''));
		is(posted($reason), $reverting ? (2 * ($accounts - 1)) . '|' . ($accounts - 1) : "$accounts|$accounts", "$what: nothing was done twice");
		all_is_well($what);
		# as before
		$session->value("SELECT credits_allocate('$first', 6000)") if $reverting;
	}
}

sub state_of
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return '';
	my $line = <$file> // '';
	return $line =~ /^\d+ \(.*\) ([^ZX]) / ? $1 : '';
}

# two sessions and the job work at one correction
($token, $id) = preview(2, 'together');
my @appliers = map { CreditsTest::Session->new($node) } 0 .. 2;
$_->send("CALL credits_apply_correction('$token')") foreach @appliers[0, 1];
$appliers[2]->send('CALL credits_housekeep()');
is($_->receive->{code}, '00000', 'several sessions work at one correction') foreach @appliers;
is(posted('together'), "$accounts|$accounts", 'and do nothing twice');
# in REPEATABLE READ, beside clients
$session->value(q(ALTER DATABASE postgres SET default_transaction_isolation = 'repeatable read'));
my $repeatable = CreditsTest::Session->new($node);
start_clients('repeatable');
($token, $id) = preview(1, 'repeatable');
is($repeatable->query("CALL credits_apply_correction('$token')")->{code}, '00000', 'one is applied where sessions are in REPEATABLE READ by default');
stop_clients();
$session->value('ALTER DATABASE postgres RESET default_transaction_isolation');
all_is_well('together');

# ---------------------------------------------------------------------------
# at random, beside a twin of each account that gets the same but for corrections that
# were refused, and whose credits must be the same afterwards, grant by grant

srand $seed;
my $start = '2100-01-01';
my $day = 0;
my $n = 12;
sub tick { $day += int rand 3; $session->value("SET credits.test_clock = '" . $session->value("SELECT timestamptz '$start' + interval '1 day' * $day") . q(')) }
tick();
$session->value(<<"SQL");
SELECT count(credits_open_account(twin || n, 20)) FROM unnest('{r:,s:}'::text[]) AS twin, generate_series(1, $n) AS n;
CREATE VIEW grants AS
SELECT a.name, array_agg(concat_ws(' ', g.source, g.amount, g.remaining, g.priority, g.expires_at, g.status)
	ORDER BY g.source, g.amount, g.priority, g.expires_at, g.remaining, g.status) AS grants
FROM credits.accounts AS a JOIN credits.grants AS g ON g.account_id = a.id GROUP BY a.name;
CREATE VIEW untwin AS
SELECT a.name, a.balance, b.balance AS twin, x.grants, y.grants AS twins FROM generate_series(1, $n) AS n
JOIN credits.accounts AS a ON a.name = 'r:' || n JOIN credits.accounts AS b ON b.name = 's:' || n
JOIN grants AS x ON x.name = a.name JOIN grants AS y ON y.name = b.name
WHERE (a.balance, a.status, x.grants) IS DISTINCT FROM (b.balance, b.status, y.grants);
-- what happens to an account, or fails, while another one is being corrected
CREATE TABLE meanwhile (account text, other text, call text);
CREATE FUNCTION do_meanwhile() RETURNS trigger LANGUAGE plpgsql AS \$\$
DECLARE m meanwhile;
BEGIN
	IF NEW.kind_code = 'j' AND NEW.amount < 0 THEN
		DELETE FROM meanwhile WHERE credits.account_id(account) = NEW.account_id RETURNING * INTO m;
		IF FOUND THEN EXECUTE replace(m.call, '\$', m.other); EXECUTE replace(m.call, '\$', replace(m.other, 'r:', 's:')); END IF;
	END IF;
	RETURN NULL;
END \$\$;
CREATE TRIGGER meanwhile AFTER INSERT ON credits.log FOR EACH ROW EXECUTE FUNCTION do_meanwhile();
SQL
my %came;
my $fresh = $n;
foreach my $round (1 .. $rounds)
{
	tick();
	# some activity, the same for both
	foreach (1 .. int rand 5)
	{
		my $account = 1 + int rand $n;
		my $call = (
			"credits_try_deduct('\$', " . (1 + int rand 15) . ')',
			"credits_allocate('\$', " . (1 + int rand 20) . ", source => 'gift', expires_at => timestamptz '$start' + interval '1 day' * " . ($day + 1 + int rand 9) . ')',
			"credits_allocate('\$', " . (1 + int rand 9) . ", priority => " . (1 + int rand 90) . ')')[ int rand 3 ];
		foreach my $twin ('r:', 's:') { (my $sql = $call) =~ s/\$/$twin$account/; $session->value("SELECT $sql") }
	}
	my $delta = -1 - int rand 12;
	$delta = 1 + int rand 12 if rand() < 0.3;
	my ($token, $id) = split /\|/, $session->value("SELECT token, correction_id FROM credits_preview_correction(ARRAY(SELECT 'r:' || n FROM generate_series(1, $n) AS n WHERE random() < 0.8 UNION SELECT 'r:1'), $delta, 'random')");
	# what happens to a later account while an earlier one is corrected, the same to its twin
	my @accepted = split /\n/, $session->value("SELECT account FROM credits_correction_items($id) WHERE code IS NULL ORDER BY number");
	if (rand() < 0.7 && @accepted > 1)
	{
		my $later = 1 + int rand $#accepted;
		my ($one, $other) = @accepted[ int rand $later, $later ];
		my $spend = "credits_try_deduct('\$', credits_balance('\$'))";
		my $call = (
			"SELECT credits_try_deduct('\$', 5)",
			"SELECT $spend",
			# what was taken by then has expired when it is given back
			"SELECT set_config('credits.test_clock', (timestamptz '$start' + interval '1 day' * " . ($day + 2) . ")::text, false), $spend",
			'SELECT 1 / 0')[ int rand 4 ];
		$call =~ s/'/''/g;
		$session->value("INSERT INTO meanwhile VALUES ('$one', '$other', '$call')");
	}
	my $code = $session->query(rand() < 0.2 ? "BEGIN; CALL credits_apply_correction('$token'); COMMIT" : "CALL credits_apply_correction('$token')")->{code};
	$session->value('ROLLBACK') if $session->query('SELECT 1')->{code} eq '25P02';
	$day += 2;
	$session->value('TRUNCATE meanwhile');
	my $status = status_of($id);
	$came{"$status " . ($delta < 0 ? 'taken' : 'given')}++;
	# what was applied is made to the twins, each by itself
	$session->value("SELECT credits_adjust(replace(account, 'r:', 's:'), $delta, 'random') FROM credits_correction_items($id) WHERE code IS NULL") if $status eq 'applied';
	tick();
	$session->value('CALL credits_settle()');
	my $found = $session->value('SELECT * FROM untwin');
	is($found, '', "round $round: nothing of a correction that is $status is missing, or left") or last;
	is($session->value("SELECT count(*) FILTER (WHERE code IS NULL AND transaction_id IS NULL), count(reverted_id) FROM credits_correction_items($id)"), '0|0', "round $round: all have it")
		if $status eq 'applied';
}
note join ', ', map { "$came{$_} $_" } sort keys %came;
cmp_ok($came{$_} // 0, '>', 0, "some were $_") foreach 'applied taken', 'applied given', 'refused taken';
problems_are($node, '', 'nothing is wrong in the end');

done_testing();
