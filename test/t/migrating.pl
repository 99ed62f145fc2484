# doc/migrating.md under load: clients of the old kind change users.credits all the
# time while the page's own statements move it to accounts, cut over, go back and
# forward again.  What each client was told has happened is what has happened.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $users = 300;
my $page = slurp_file("$FindBin::RealBin/../../doc/migrating.md");
my @blocks = $page =~ /^```sql\n(.*?)^```/gms;

# The one block of the page that has a text in it.
sub block
{
	my ($text) = @_;
	my @found = grep { index($_, $text) >= 0 } @blocks;

	is(@found, 1, "the page has one block with: $text");
	return $found[0];
}

my $node = PostgreSQL::Test::Cluster->new('migrating');
$node->init;
$node->append_conf('postgresql.conf', "fsync = off\nsynchronous_commit = off");
$node->start;

sub run_sql
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# Old code: changes the column, and writes down what it was told.
my $old = PostgreSQL::Test::Utils::tempdir . '/old.sql';
append_to_file($old, <<"EOS");
\\set id random(1, $users)
\\set delta random(-3, 3)
WITH changed AS (UPDATE users SET credits = credits + :delta WHERE id = :id RETURNING id)
INSERT INTO told SELECT id, :delta FROM changed;
EOS

sub start_load
{
	my ($transactions) = @_;
	my %load = (output => '');

	$load{run} = IPC::Run::start(
		[
			'pgbench', '-n', '-c', '4', '-t', $transactions, '-f', $old,
			'-h', $node->host, '-p', $node->port, 'postgres'
		],
		'<', \undef, '>&', \$load{output});
	return \%load;
}

sub finish_load
{
	my ($load, $name) = @_;

	ok($load->{run}->finish, "$name: no client failed") or diag($load->{output});
}

my $different = q{SELECT count(*) FROM users AS u
	WHERE u.credits <> credits_balance('user:' || u.id)};
my $missing = q{SELECT count(*) FROM users AS u
	WHERE u.credits <> 1000 + (SELECT coalesce(sum(delta), 0) FROM told AS t WHERE t.id = u.id)};

run_sql(qq{
	CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL,
		credits integer NOT NULL DEFAULT 0 CHECK (credits >= 0));
	CREATE TABLE told (id bigint NOT NULL, delta integer NOT NULL);
	INSERT INTO users SELECT n, n || '\@example.com', 1000 FROM generate_series(1, $users) AS n;
});

# follow, bring up to date, compare
my $load = start_load(2500);
run_sql(block('CREATE FUNCTION follow_credits'));
my $touch = block('UPDATE users SET credits = credits;');
for (my $from = 0; $from < $users; $from += 50)
{
	run_sql($touch =~ s/;/ WHERE id > $from AND id <= $from + 50;/r);
}
is(run_sql($different), 0, 'no account differs, in the middle of it') for 1 .. 5;
is(run_sql(q{UPDATE users SET credits = credits WHERE id = 1;
	SELECT balance = (SELECT credits FROM users WHERE id = 1) FROM credits.accounts WHERE name = 'user:1'}),
	't', 'touched again, a user has what the column says');

# cut over, back, and forward again
run_sql(block('CREATE FUNCTION write_users'));
is(run_sql($missing), 0, 'nothing is missing after the cut');
finish_load($load, 'old code, from the column to the view');
is(run_sql($missing), 0, 'nothing is missing at the end');

$load = start_load(2500);
my ($back) = block('ALTER VIEW users RENAME TO users_by_account') =~ /^(.*?COMMIT;)/s;
run_sql($back);
is(run_sql($different), 0, 'no account differs on the way back') for 1 .. 3;
is(run_sql($missing), 0, 'nothing is missing on the way back');
run_sql(block('ALTER VIEW users_by_account RENAME TO users'));
is(run_sql($missing), 0, 'nothing is missing, forward again');
finish_load($load, 'old code, back and forth');
is(run_sql($missing), 0, 'nothing is missing at the end');
is(run_sql(q{SELECT count(*) FROM told}), 2 * 4 * 2500, 'all was told');
is(run_sql(q{SELECT sum(balance) FROM credits.accounts}),
	run_sql(qq{SELECT $users * 1000 + sum(delta) FROM told}), 'the sums agree');
is(run_sql(q{SELECT count(*) FROM credits_verify()}), 0, 'and nothing is wrong');

# the end
run_sql(block('DROP FUNCTION write_users, follow_credits') =~ s/^INSERT.*//msr);
is(run_sql(q{INSERT INTO users VALUES (0, 'new@example.com'); SELECT credits_balance('user:0')}),
	100, 'a new user has an account');

$node->stop;
done_testing();
