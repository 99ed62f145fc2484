# The names of those who made changes, to which the log refers by id: what happens when
# several sessions are the first to need a name, and when the row is rolled back.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('roles', conf => 'max_prepared_transactions = 2');
$node->safe_psql('postgres', q(
	CREATE ROLE one SUPERUSER; CREATE ROLE two SUPERUSER; CREATE ROLE three SUPERUSER; CREATE ROLE four SUPERUSER;
	SELECT credits_open_account('a', 100); SELECT credits_open_account('b', 100)));

sub session
{
	my ($role) = @_;
	my $session = CreditsTest::Session->new($node);
	$session->value("SET SESSION AUTHORIZATION $role");
	return $session;
}

sub spends { return $_[0]->value("SELECT kind FROM credits_deduct('$_[1]', 1)") }

# who made the newest row of an account
sub role_of
{
	my ($session, $account) = @_;
	return $session->value("SELECT role FROM credits.transactions WHERE account_id = credits.account_id('$account') ORDER BY id DESC LIMIT 1");
}

sub ids { return $node->safe_psql('postgres', "SELECT count(*) FROM credits.roles WHERE name = '$_[0]'") }

# two sessions need a name that nobody had before: neither waits for the other, whose
# accounts it may need
my ($first, $second) = (session('one'), session('one'));
$_->value("SET lock_timeout = '5s'") foreach $first, $second;
$_->value('BEGIN') foreach $first, $second;
is(spends($first, 'a'), 'deduction', 'the first to need a name');
is(spends($second, 'b'), 'deduction', 'the second does not wait');
$second->value('COMMIT');
is(spends($first, 'b'), 'deduction', 'the first comes to the other account');
$first->value('COMMIT');
is(ids('one'), '2', 'the name has two ids');
is(role_of($first, $_), 'one', "$_: the name is told") foreach 'a', 'b';
my $third = session('one');
spends($third, 'a');
is(ids('one'), '2', 'and gets no more');

# a snapshot that does not see the name
$first = session('two');
$first->value('BEGIN ISOLATION LEVEL REPEATABLE READ');
$first->value('SELECT count(*) FROM credits.roles');
spends(session('two'), 'b');
is(spends($first, 'a'), 'deduction', 'a name that the snapshot does not see');
is(role_of($first, 'a'), 'two', 'the transaction sees its own');
$first->value('COMMIT');
is(role_of($first, 'a'), 'two', 'and everybody else');

# a row that is rolled back with a savepoint, or with the transaction
$first = session('three');
$first->value('BEGIN');
$first->value('SAVEPOINT s');
spends($first, 'a');
$first->value('ROLLBACK TO s');
spends($first, 'a');
$first->value('COMMIT');
is(role_of($first, 'a'), 'three', 'after a savepoint that was rolled back');
$first = session('four');
$first->value('BEGIN');
spends($first, 'a');
$first->value('ROLLBACK');
is(ids('four'), '0', 'no trace of a transaction that was rolled back');
$first->value('BEGIN');
spends($first, 'a');
$first->value(q(PREPARE TRANSACTION 'p'));
$first->value(q(ROLLBACK PREPARED 'p'));
is(ids('four'), '0', 'nor of one that was prepared before');
spends($first, 'a');
is(role_of($first, 'a'), 'four', 'who goes on gets an id');

# another name for the same session, and a role that is renamed
$first->value('SET SESSION AUTHORIZATION one');
spends($first, 'a');
is(role_of($first, 'a'), 'one', 'the session is another user');
$node->safe_psql('postgres', 'ALTER ROLE one RENAME TO uno');
spends($first, 'a');
is(role_of($first, 'a'), 'uno', 'a role is renamed');
is($node->safe_psql('postgres', "SELECT count(*) FROM credits.transactions WHERE role = 'one'") > 0, 1,
	'the rows from before keep the name');

problems_are($node, '', 'the chains are whole');

# the extension is made anew while the session lasts
$first->value('DROP EXTENSION credits');
$first->value('CREATE EXTENSION credits');
$first->value(q(INSERT INTO credits.roles VALUES (nextval('credits.roles_id_seq'), 'another'), (-1, 'and another')));
is($first->value("SELECT kind FROM credits_open_account('a', 100)"), 'opening', 'in an extension that is made anew');
is(role_of($first, 'a'), 'uno', 'an id of before is not used');
is($first->value('SELECT count(*) FROM credits_verify()'), '0', 'and the chain is whole');

done_testing();
