# doc/migrating.md under load: six writers of the old kind, which know nothing but the
# column users.credits, go on with prepared statements and as a role of their own while
# the page's own statements make accounts of it, cut over, go back and forward again.
# None of them may see an error or wait for long, and what each was told has happened is
# what has happened.
#
# The writers are pgbench's.  With CREDITS_MIGRATING_USERS, the number of users, in the
# environment, they are applications that use node-postgres and psycopg.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $users = $ENV{CREDITS_MIGRATING_USERS} // 300;
my $drivers = defined $ENV{CREDITS_MIGRATING_USERS};
# of one statement, in seconds; while others use this machine, all are slower
my $longest_wait = 1;
my $page = slurp_file("$FindBin::RealBin/../../doc/migrating.md");
my @blocks = $page =~ /^```sql\n(.*?)^```/gms;

# The one block of the page that has a text in it, or what is matched of it.
sub block
{
	my ($text, $part) = @_;
	my @found = grep { index($_, $text) >= 0 } @blocks;

	is(@found, 1, "the page has one block with: $text");
	return $part ? ($found[0] =~ $part)[0] : $found[0];
}

my $node = PostgreSQL::Test::Cluster->new('migrating');
$node->init;
$node->append_conf('postgresql.conf', <<'CONF');
fsync = off
synchronous_commit = off
log_statement = none
max_connections = 40
CONF
$node->start;

sub run_sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# As the page says: again, as long as it cannot get a lock at once.
sub run_until_locked
{
	my ($sql) = @_;
	my $tries = 0;
	my ($code, $stderr);

	do
	{
		($code, undef, $stderr) = $node->psql('postgres', $sql, on_error_stop => 1);
	} while ($code != 0 && $stderr =~ /lock timeout/ && ++$tries < 100);
	is($code, 0, "done after $tries lock timeouts") or diag($stderr);
	return;
}

# ----------------------------------------------------------------------------
# the writers

my $folder = PostgreSQL::Test::Utils::tempdir;
my %statements = (
	spend => [ 6, <<'SQL' ],
\set n random(1, 5)
WITH c AS (UPDATE users SET credits = credits - :n WHERE id = :id AND credits >= :n RETURNING id)
INSERT INTO told SELECT id, -:n::integer FROM c;
SQL
	give => [ 4, <<'SQL' ],
\set n random(1, 5)
WITH c AS (UPDATE users SET credits = credits + :n WHERE id = :id RETURNING id)
INSERT INTO told SELECT id, :n::integer FROM c;
SQL
	read => [ 4, "SELECT * FROM users WHERE id = :id;\n" ],
	touch => [ 1, "UPDATE users SET seen_at = now() WHERE id = :id;\n" ],
	add => [ 1, "INSERT INTO users (email) VALUES (random() || '\@example.com') RETURNING id, credits;\n" ],
	upsert => [ 2, <<'SQL' ],
WITH c AS (INSERT INTO users (email, credits) VALUES (:id || '@example.com', 105)
		   ON CONFLICT (email) DO UPDATE SET credits = users.credits + 5 RETURNING id)
INSERT INTO told SELECT id, 5 FROM c;
SQL
	set => [ 2, <<'SQL' ],
BEGIN;
SELECT credits + 3 AS target FROM users WHERE id = :id FOR UPDATE \gset
WITH c AS (UPDATE users SET credits = :target WHERE id = :id RETURNING id)
INSERT INTO told SELECT id, 3 FROM c;
COMMIT;
SQL
	# new code
	deduct => [ 1, <<'SQL' ],
\set n random(1, 5)
WITH c AS (SELECT (a.receipt).amount FROM credits_try_deduct('user:' || :id, :n) AS a WHERE a.ok)
INSERT INTO told SELECT :id, amount FROM c;
SQL
	allocate => [ 1, <<'SQL' ]);
\set n random(1, 5)
WITH c AS (SELECT amount FROM credits_allocate('user:' || :id, :n))
INSERT INTO told SELECT :id, amount FROM c;
SQL
foreach my $name (keys %statements)
{
	append_to_file("$folder/$name.sql", "\\set id random(1, $users)\n$statements{$name}[1]");
}
my @old_code = qw(spend give read touch add upsert set);

sub start_pgbench
{
	my ($clients, @names) = @_;
	my $id = 'load' . int(rand(1e9));
	my %load = (id => $id, clients => $clients, prefix => "$folder/$id", output => '');
	local $ENV{PGAPPNAME} = $id;

	$load{run} = IPC::Run::start(
		[
			'pgbench', '-n', '-M', 'prepared', '-c', $clients, '-j', 2, '-T', 600, '-l',
			"--log-prefix=$load{prefix}", '-U', 'application',
			(map { ('-f', "$folder/$_.sql\@$statements{$_}[0]") } @names),
			'-h', $node->host, '-p', $node->port, 'postgres'
		],
		'<', \undef, '>&', \$load{output});
	return \%load;
}

sub finish_pgbench
{
	my ($load, $name) = @_;
	my $longest = 0;
	my $done = 0;

	# a client that met an error has gone, and the rest write on
	is(run_sql(qq(SELECT count(*) FROM pg_stat_activity WHERE application_name = '$load->{id}')),
		$load->{clients}, "$name: no client failed");
	# what ends its time
	$load->{run}->signal('ALRM');
	ok($load->{run}->finish, "$name: it has ended");
	unlike($load->{output}, qr/error|abort/i, "$name: nor complained");
	foreach my $file (glob "$load->{prefix}*")
	{
		foreach my $line (split /\n/, slurp_file($file))
		{
			my $wait = (split / /, $line)[2] / 1e6;
			$longest = $wait if $wait > $longest;
			$done++;
		}
	}
	check_load($name, $done, $longest);
	return;
}

sub check_load
{
	my ($name, $done, $longest) = @_;

	cmp_ok($done, '>', 100, "$name: $done were done");
	cmp_ok($longest, '<', $longest_wait, sprintf '%s: the longest took %.3f s', $name, $longest);
	note(sprintf '%s: %d, the longest took %.3f s', $name, $done, $longest);
	return;
}

sub start_drivers
{
	my %load = (stop => "$folder/stop" . int(rand(1e9)), outputs => [ '', '' ]);
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGUSER => 'application',
		PGDATABASE => 'postgres');

	foreach my $i (0, 1)
	{
		push @{ $load{runs} },
		  IPC::Run::start([ @{ ([ client_python() ], [ client_node() ])[$i] },
				"$FindBin::RealBin/clients/old_app." . qw(py js)[$i], 3, $users, $load{stop} ],
			'<', \undef, '>', \$load{outputs}[$i]);
	}
	return \%load;
}

sub finish_drivers
{
	my ($load, $name) = @_;

	append_to_file($load->{stop}, '');
	foreach my $i (0, 1)
	{
		my $client = "$name, " . qw(psycopg node-postgres)[$i];

		ok($load->{runs}[$i]->finish, "$client: has ended");
		my $told = decode_json($load->{outputs}[$i]);
		is($told->{errors}, 0, "$client: no error") or diag($told->{first});
		check_load($client, $told->{done}, $told->{longest});
	}
	return;
}

sub start_load { return $drivers ? start_drivers() : start_pgbench(6, @old_code); }

sub finish_load { return $drivers ? finish_drivers(@_) : finish_pgbench(@_); }

# ----------------------------------------------------------------------------
# what has to be so

my $differing = q{SELECT count(*) FROM users AS u WHERE u.credits <> credits_balance('user:' || u.id)};

sub check_sums
{
	my ($name) = @_;

	is(run_sql(q{
		SELECT count(*) FROM users AS u LEFT JOIN (SELECT id, sum(delta) FROM told GROUP BY id) AS t USING (id)
		WHERE u.credits <> CASE WHEN u.old THEN 1000 ELSE 100 END + coalesce(t.sum, 0)}),
		0, "$name: everybody has what was told");
	is(run_sql($differing), 0, "$name: in the account, too");
	return;
}

run_sql(qq{
	CREATE TABLE users (id bigserial PRIMARY KEY, email text NOT NULL UNIQUE,
		credits integer NOT NULL DEFAULT 100 CHECK (credits >= 0), seen_at timestamptz,
		old boolean NOT NULL DEFAULT false);
	CREATE TABLE told (id bigint NOT NULL, delta integer NOT NULL);
	INSERT INTO users (email, credits, old)
		SELECT n || '\@example.com', 1000, true FROM generate_series(1, $users) AS n;
	CREATE ROLE application LOGIN;
	GRANT SELECT, INSERT, UPDATE ON users TO application;
	GRANT USAGE ON SEQUENCE users_id_seq TO application;
	GRANT SELECT, INSERT ON told TO application;
});

# follow, bring up to date, compare
my $load = start_load();
sleep 1;
run_sql(block('CREATE FUNCTION follow_credits'));
run_until_locked(block('CREATE TRIGGER z_follow_insert'));
my $touch = block('UPDATE users SET credits = credits;', qr/^(UPDATE users SET credits = credits;)/m);
for (my $from = 0; $from < $users; $from += 250)
{
	run_sql($touch =~ s/;/ WHERE id > $from AND id <= $from + 250;/r);
}
run_sql($touch =~ s/;/ WHERE NOT old;/r);
is(run_sql($differing), 0, 'no account differs, in the middle of it') for 1 .. 5;

# cut over, back, and forward again
my $there = qr/^(CREATE OR REPLACE FUNCTION account_counts.*?;)/m;
my ($cut) = grep { /RETURN true;/ && $_ =~ $there } @blocks;
my ($back) = map { $_ =~ $there } grep { /RETURN false;/ && /OR REPLACE/ } @blocks;
run_sql($cut);
is(run_sql($differing), 0, 'no account differs after the cut') for 1 .. 5;
sleep 1;
finish_load($load, 'from the column to the accounts');
check_sums('from the column to the accounts');

$load = start_load();
sleep 1;
run_sql($back);
is(run_sql($differing), 0, 'no account differs on the way back') for 1 .. 3;
run_sql($cut);
sleep 1;
is(run_sql($differing), 0, 'no account differs, forward again');
finish_load($load, 'back and forth');
check_sums('back and forth');

# old code and new code together
run_sql('GRANT credits_admin TO application');
$load = start_load();
my $new_code = start_pgbench(2, 'deduct', 'allocate');
sleep 4;
finish_pgbench($new_code, 'new code');
finish_load($load, 'old code beside it');
check_sums('old and new code');
is(run_sql(q{SELECT count(*) FROM credits_verify()}), 0, 'and nothing is wrong');

# a row that is locked while new code commits
my $session = CreditsTest::Session->new($node);
$session->query('BEGIN');
$session->query('SELECT FROM users WHERE id = 1 FOR UPDATE');
run_sql(q{SELECT credits_allocate('user:1', 7)});
$session->query('COMMIT');
is(run_sql($differing), 1, 'the column is behind if the row was locked');
run_sql('UPDATE users SET credits = credits WHERE id = 1');
is(run_sql($differing), 0, 'until the row is touched');

# two that would wait for each other
$session->query('BEGIN');
$session->query('UPDATE users SET seen_at = now() WHERE id = 2');
my $other = CreditsTest::Session->new($node);
$other->send(q{SELECT credits_allocate('user:2', 7)});
$session->query('UPDATE users SET credits = credits + 1 WHERE id = 2');
is($session->query('COMMIT')->{code}, '00000', 'old code first');
is($other->receive->{code}, '00000', 'then new code');
is(run_sql($differing), 0, 'and both are in the column');
$_->quit foreach $session, $other;

# the end
run_until_locked(block('DROP FUNCTION follow_credits', qr/^(BEGIN;.*?COMMIT;)/ms));
is(run_sql(q{INSERT INTO users (email) VALUES ('new@example.com');
		SELECT credits_balance('user:' || max(id)) FROM users}),
	100, 'a new user has an account');

$node->stop;
done_testing();
