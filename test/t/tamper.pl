# What a superuser can do with triggers disabled, and how credits_verify and
# credits_digest show it.

use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(sha256);
use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('tamper');
my $super = CreditsTest::Session->new($node);

# Open an account with six rows: opening 100, allocation 50, another of 40 in
# the far future, deduction 30 with key first, deduction 20 with key second,
# refund 5 of the second.
sub fresh
{
	my ($name) = @_;
	$super->value("SELECT credits_open_account('$name', 100)");
	$super->value("SELECT credits_allocate('$name', 50, 'promotional', expires_at => '2100-01-01 00:00+00')");
	$super->value("SELECT credits_allocate('$name', 40, 'gift', effective_at => '2090-01-01 00:00+00')");
	$super->value("SELECT credits_deduct('$name', 30, 'first', reference => 'r1')");
	$super->value("SELECT credits_deduct('$name', 20, 'second', reference => 'r2')");
	$super->value("SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'second'"
		  . " AND account_id = credits.account_id('$name')), 5)");
	return;
}

sub digest { return $super->value(q(SELECT encode(credits_digest(), 'hex'))) }

my @triggers = map { "credits.$_ DISABLE TRIGGER ALL" } split / /,
  $super->value(q(SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 'credits'::regnamespace AND relkind = 'r'));

# Run statements past the triggers, in a transaction that is rolled back, and
# look at what credits_verify says of the account meanwhile.
sub tampered
{
	my ($name, $account, $sql, $expected, %params) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $before = digest();

	$super->value('BEGIN');
	$super->value("ALTER TABLE $_") foreach @triggers;
	foreach my $statement (ref $sql ? @$sql : $sql)
	{
		my $answer = $super->query($statement);
		is($answer->{code}, '00000', "$name: done") or diag $statement;
	}
	my $which = $params{all} ? '' : "'$account'";
	my $found = $super->value("SELECT string_agg(DISTINCT problem, ' ' ORDER BY problem) FROM credits_verify($which)");
	my %found = map { $_ => 1 } split / /, $found;
	ok($found ne '', "$name: found");
	my @missing = grep { !$found{$_} } split / /, $expected;
	is("@missing", '', "$name: as $expected ($found)");
	unless ($params{all})
	{
		is($super->value("SELECT string_agg(DISTINCT account, ' ') FROM credits_verify()"),
			$account, "$name: in its account only");
		is($super->value('SELECT count(*) FROM credits_verify() WHERE detail IS NULL OR problem IS NULL'), '0',
			"$name: with a detail");
	}
	if ($params{digest})
	{
		isnt(digest(), $before, "$name: the digest changes");
	}
	$super->value('ROLLBACK');
	is($super->value('SELECT count(*) FROM credits_verify()'), '0', "$name: undone");
	is(digest(), $before, "$name: undone, digest") if $params{digest};
	return;
}

fresh('a');
fresh('b');
$super->value(q(SELECT credits_void_grant((SELECT id FROM credits.grants WHERE source = 'promotional'
	AND account_id = credits.account_id('b')), 'error')));
$super->value(q(SELECT credits_pause_account('b', 'fraud')));
is($super->value('SELECT count(*) FROM credits_verify()'), '0', 'clean to begin with');

# what only looks odd: a refund that prolongs one grant and goes back to
# another that was prolonged before
$super->value($_) foreach (
	q(SET credits.test_clock = '2020-01-01 00:00+00'),
	q(SELECT credits_open_account('g', 0)),
	q(SELECT credits_allocate('g', 10, 'trial', expires_at => '2020-02-01 00:00+00')),
	q(SELECT credits_allocate('g', 10, 'trial', expires_at => '2020-02-05 00:00+00')),
	q(SELECT credits_deduct('g', 15, 'g1')),
	q(SET credits.test_clock = '2020-02-02 00:00+00'),
	q(SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'g1'), 6)),
	q(SELECT credits_deduct('g', 11, 'g2')),
	q(SET credits.test_clock = '2020-02-06 00:00+00'),
	q(SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'g2'))),
	q(RESET credits.test_clock));
is($super->value(q(SELECT count(*), max(granted_until::text), count(granted_until) FROM credits.grants
	WHERE account_id = credits.account_id('g'))), '2|2020-02-05 00:00:00+00|2', 'one of two prolonged, and before that the other');
is($super->value('SELECT count(*) FROM credits_verify()'), '0', 'clean still');

# Holds: one open, one captured in parts and more than it held, one released,
# one timed out; a member spends from a pool; and a transfer that was sent back
# in part.
$super->value($_) foreach (
	q(SET credits.test_clock = '2020-01-01 00:00+00'),
	q(SELECT credits_open_account('h', 100)),
	q(SELECT credits_open_account('m', 10)),
	q(SELECT credits_set_limits('m', max_spend => 50)),
	q(SELECT credits_add_member('h', 'm', 30)),
	q(SELECT credits_hold('h', 10, '100 years', 'open')),
	q(SELECT credits_hold('h', 20, '1 day', 'captured')),
	q(SELECT credits_hold('h', 5, '1 day', 'released')),
	q(SELECT credits_hold('h', 7, '1 hour', 'expired')),
	q(SELECT credits_capture((SELECT id FROM credits.transactions WHERE idempotency_key = 'captured'), 8, final => false)),
	q(SELECT credits_capture((SELECT id FROM credits.transactions WHERE idempotency_key = 'captured'), 15, allow_more => true,
		idempotency_key => 'more')),
	q(SELECT credits_release((SELECT id FROM credits.transactions WHERE idempotency_key = 'released'))),
	q(SELECT credits_deduct('m', 12, 'pooled', pool => 'h')),
	q(SELECT credits_extend_hold((SELECT id FROM credits.transactions WHERE idempotency_key = 'open'), '150 years')),
	q(SELECT credits_transfer('h', 'm', 9, 'transfer')),
	q(SELECT credits_reverse_transfer((SELECT id FROM credits.transactions WHERE idempotency_key = 'transfer'), 'error', 4)),
	q(SET credits.test_clock = '2020-01-02 00:00+00'),
	q(CALL credits_settle()),
	q(RESET credits.test_clock));
is($super->value(q(SELECT string_agg(status, ' ' ORDER BY id) FROM credits.hold_states)),
	'open captured released expired', 'a hold in each state');
is($super->value('SELECT count(*) FROM credits_verify()'), '0', 'clean with holds');

my $log = 'credits.transactions';
my $mine = "account_id = credits.account_id('a')";
my $first = "$mine AND idempotency_key = 'first'";
my $second = "$mine AND idempotency_key = 'second'";

# with the triggers in place
foreach my $sql (
	"UPDATE $log SET amount = -1 WHERE $first",
	"DELETE FROM $log WHERE $first",
	"TRUNCATE $log",
	"UPDATE credits.accounts SET balance = 1000 WHERE name = 'a'",
	"UPDATE credits.accounts SET head = '' WHERE name = 'a'",
	"DELETE FROM credits.accounts WHERE name = 'a'",
	'TRUNCATE credits.accounts',
	"UPDATE credits.grants SET remaining = amount WHERE $mine",
	"DELETE FROM credits.grants WHERE $mine",
	'TRUNCATE credits.grants',
	'UPDATE credits.hold_states SET released = reserved',
	'DELETE FROM credits.hold_states',
	'TRUNCATE credits.hold_states',
	'SET LOCAL session_replication_role = replica; UPDATE credits.accounts SET balance = 1000',
	"SET LOCAL session_replication_role = replica; UPDATE credits.grants SET remaining = amount",
	"SET LOCAL session_replication_role = replica; UPDATE $log SET amount = 0",
	"SET LOCAL session_replication_role = replica; DELETE FROM $log",
	'SET LOCAL session_replication_role = replica; DELETE FROM credits.accounts',
	'SET LOCAL session_replication_role = replica; DELETE FROM credits.grants',)
{
	$super->value('BEGIN');
	is($super->query($sql)->{code}, '42501', "refused: $sql");
	$super->value('ROLLBACK');
}

# rows of the log
tampered('amount edited', 'a', "UPDATE $log SET amount = -29 WHERE $first", 'chain running_balance balance draws');
tampered('amount and its followers edited', 'a',
	[ "UPDATE $log SET amount = -29 WHERE $first",
		"UPDATE $log SET balance_after = balance_after + 1 WHERE $mine AND id >= (SELECT id FROM $log WHERE $first)",
		"UPDATE credits.accounts SET balance = balance + 1, spent = spent - 1 WHERE name = 'a'" ],
	'chain grants draws');
tampered('held edited', 'a', "UPDATE $log SET held = 1 WHERE $first", 'chain running_balance held');
tampered('running balance edited', 'a', "UPDATE $log SET balance_after = 1 WHERE $first", 'chain running_balance');
tampered('reference edited', 'a', "UPDATE $log SET reference = 'r9' WHERE $first", 'chain');
tampered('key edited', 'a', "UPDATE $log SET idempotency_key = 'free' WHERE $first", 'chain');
tampered('kind edited', 'a', "UPDATE $log SET kind = 'expiration' WHERE $first", 'chain totals');
tampered('role edited', 'a', "UPDATE $log SET role = 'mallory' WHERE $first", 'chain');
tampered('free text added', 'a', "UPDATE $log SET reason = 'because', salt = '\\x00' WHERE $first", 'chain');
tampered('free text added without salt', 'a', "UPDATE $log SET reason = 'because' WHERE $first", 'chain');
tampered('target edited', 'a', "UPDATE $log SET target_id = 1 WHERE $mine AND kind = 'refund'", 'chain');
tampered('time edited', 'a', "UPDATE $log SET created_at = created_at - interval '1 day' WHERE $second", 'chain time');
tampered('hash rewritten', 'a', "UPDATE $log SET hash = sha256('x') WHERE $first", 'chain');
tampered('last hash rewritten', 'a', "UPDATE $log SET hash = sha256('x') WHERE $mine AND kind = 'refund'", 'chain head');
tampered('draws edited', 'a', "UPDATE $log SET draws = ARRAY[[draws[1][1], -31]] WHERE $first", 'chain draws grants');
tampered('draws moved to another grant', 'a',
	"UPDATE $log SET draws = ARRAY[[(SELECT min(id) FROM credits.grants WHERE $mine), -30]] WHERE $first",
	'chain grants');
tampered('draws moved to no grant', 'a', "UPDATE $log SET draws = ARRAY[[999999, -30]] WHERE $first", 'chain orphan');
tampered('draws moved to a grant of another account', 'a',
	"UPDATE $log SET draws = ARRAY[[(SELECT min(id) FROM credits.grants WHERE account_id = credits.account_id('b')), -30]] WHERE $first",
	'chain grants', all => 1);
tampered('draws removed', 'a', "UPDATE $log SET draws = NULL WHERE $first", 'chain draws');

tampered('terms edited', 'a', "UPDATE $log SET terms = replace(terms::text, '2100', '2200')::jsonb WHERE $mine AND terms::text ~ '2100'",
	'chain terms');
tampered('terms removed', 'a', "UPDATE $log SET terms = NULL WHERE $mine AND terms::text ~ '2100'", 'chain');

# rows swapped: each takes the other's place in the chain
tampered('rows swapped', 'a',
	[ "CREATE TEMP TABLE swap AS SELECT * FROM $log WHERE $mine AND idempotency_key IN ('first', 'second')",
		"DELETE FROM $log WHERE id IN (SELECT id FROM swap)",
		'UPDATE swap SET id = (SELECT sum(id) FROM swap) - id',
		"INSERT INTO $log SELECT * FROM swap" ],
	'chain time');
tampered('rows swapped with their times', 'a',
	[ "CREATE TEMP TABLE swap AS SELECT * FROM $log WHERE $mine AND idempotency_key IN ('first', 'second')",
		"DELETE FROM $log WHERE id IN (SELECT id FROM swap)",
		'UPDATE swap SET (id, created_at) = (SELECT o.id, o.created_at FROM swap AS o WHERE o.id <> swap.id)',
		"INSERT INTO $log SELECT * FROM swap" ],
	'chain running_balance');

# rows removed and added
tampered('row deleted from the middle', 'a', "DELETE FROM $log WHERE $first", 'chain count balance');
tampered('first row deleted', 'a', "DELETE FROM $log WHERE $mine AND kind = 'opening'", 'chain count');
tampered('last row deleted', 'a', "DELETE FROM $log WHERE $mine AND kind = 'refund'", 'count head balance');
tampered('all rows deleted', 'a', "DELETE FROM $log WHERE $mine", 'count head balance');
tampered('row added', 'a',
	"INSERT INTO $log SELECT nextval('credits.transactions_id_seq'), account_id, created_at + interval '1 hour', amount, held, "
	  . 'balance_after + amount, held_after, target_id, member_id, request, kind, role, NULL, operation, reference, draws, terms, reason, '
	  . "metadata, actor, salt, sha256('x') FROM $log WHERE $second",
	'chain count head balance');
tampered('row added to no account', 'a',
	"INSERT INTO $log SELECT nextval('credits.transactions_id_seq'), 999999, created_at, amount, held, "
	  . 'balance_after, held_after, target_id, member_id, request, kind, role, NULL, operation, reference, draws, terms, reason, '
	  . "metadata, actor, salt, hash FROM $log WHERE $mine AND kind = 'opening'",
	'orphan', all => 1);

# the account
tampered('balance edited', 'a', "UPDATE credits.accounts SET balance = 1000 WHERE name = 'a'", 'balance grants');
tampered('held edited in the account', 'a', "UPDATE credits.accounts SET held = 1 WHERE name = 'a'", 'held');
tampered("$_ edited", 'a', "UPDATE credits.accounts SET $_ = $_ + 1 WHERE name = 'a'", 'totals')
  foreach qw(granted spent refunded expired);
tampered('count edited', 'a', "UPDATE credits.accounts SET transaction_count = 5 WHERE name = 'a'", 'count', digest => 1);
tampered('head edited', 'a', "UPDATE credits.accounts SET head = sha256('x') WHERE name = 'a'", 'head', digest => 1);
tampered('last transaction edited', 'a',
	"UPDATE credits.accounts SET last_transaction_id = last_transaction_id - 1 WHERE name = 'a'", 'head');
tampered('time of the last transaction edited', 'a',
	"UPDATE credits.accounts SET last_at = last_at - interval '1 s' WHERE name = 'a'", 'head');
tampered('status edited', 'a', "UPDATE credits.accounts SET status = 'paused' WHERE name = 'a'", 'status');
tampered('pause undone', 'b', "UPDATE credits.accounts SET status = 'active' WHERE name = 'b'", 'status');
tampered('due date moved away', 'a', "UPDATE credits.accounts SET due_at = 'infinity' WHERE name = 'a'", 'due');
tampered('account deleted', 'a', "DELETE FROM credits.accounts WHERE name = 'a'", 'orphan', all => 1, digest => 1);
tampered('account moved', 'a', "UPDATE credits.accounts SET id = 999999 WHERE name = 'a'", 'orphan count head',
	all => 1, digest => 1);
tampered('account added', 'c',
	"INSERT INTO credits.accounts SELECT 999999, 'c', unit, status, metadata, limited, debt, created_at, low_balance, due_at, granted, "
	  . 'refunded, expired, held, balance, spent, transaction_count, last_transaction_id, last_at, head '
	  . "FROM credits.accounts WHERE name = 'a'",
	'count head balance', digest => 1);

# grants
my $promotional = "$mine AND source = 'promotional'";
tampered('remaining edited', 'a', "UPDATE credits.grants SET remaining = 50 WHERE $promotional", 'grants');
tampered('amount of a grant edited', 'a', "UPDATE credits.grants SET amount = amount + 1 WHERE $promotional", 'totals');
tampered('promise edited', 'a',
	"UPDATE credits.grants SET amount = 41, remaining = 41 WHERE $mine AND status = 'pending'", 'grants totals');
tampered('promise made true early', 'a',
	"UPDATE credits.grants SET status = 'open' WHERE $mine AND status = 'pending'", 'grants');
tampered('promise moved to an earlier time', 'a',
	"UPDATE credits.grants SET effective_at = now() WHERE $mine AND status = 'pending'", 'due');
tampered("$_ of a grant", 'a', "UPDATE credits.grants SET $_ WHERE $promotional", 'terms')
  foreach "expires_at = '2099-01-01'", "expires_at = '2110-01-01'", 'expires_at = NULL',
	q(expires_at = '2110-01-01', granted_until = '2100-01-01 00:00+00'), 'priority = 99', "source = 'purchase'",
	"price = 5, currency = 'EUR'", "effective_at = effective_at - interval '1 day'";
tampered('voided grant taken for used up', 'b', "UPDATE credits.grants SET status = 'used' WHERE status = 'voided'", 'grants');
tampered('prolonged expiry edited', 'g',
	"UPDATE credits.grants SET expires_at = expires_at - interval '1 hour' WHERE account_id = credits.account_id('g')",
	'terms');
tampered('grant deleted', 'a', "DELETE FROM credits.grants WHERE $promotional", 'orphan grants');
tampered('grant added', 'a',
	"INSERT INTO credits.grants SELECT nextval('credits.grants_id_seq'), account_id, transaction_id, effective_at, expires_at, "
	  . "granted_until, amount, priority, source, price, currency, status, amount FROM credits.grants WHERE $promotional",
	'grants');
tampered('grant added to no account', 'a',
	"INSERT INTO credits.grants SELECT nextval('credits.grants_id_seq'), 999999, transaction_id, effective_at, expires_at, "
	  . "granted_until, amount, priority, source, price, currency, status, amount FROM credits.grants WHERE $promotional",
	'orphan', all => 1);
tampered('voided grant reopened', 'b', "UPDATE credits.grants SET status = 'open', remaining = 5 WHERE status = 'voided'",
	'grants');
tampered('grant given to another account', 'a',
	"UPDATE credits.grants SET account_id = credits.account_id('b') WHERE $promotional", 'grants', all => 1);

# holds
my $held = "account_id = credits.account_id('h')";
my $open = "status = 'open'";
tampered("$_->[0] of a hold edited", 'h', "UPDATE credits.hold_states SET $_->[1]", 'holds')
  foreach [ 'what is captured', "captured = 3 WHERE $open" ], [ 'what is released', "released = 3 WHERE $open" ],
  [ 'what is reserved', "reserved = 100 WHERE $open" ], [ 'expiry', "expires_at = expires_at + interval '1 day' WHERE $open" ],
  [ 'time', "created_at = created_at - interval '1 day' WHERE $open" ], [ 'status', "status = 'lost' WHERE $open" ],
  [ 'end', "status = 'released' WHERE $open" ], [ 'kind of end', "status = 'released' WHERE status = 'expired'" ],
  [ 'reopened', "status = 'open' WHERE status = 'released'" ];
tampered('hold deleted', 'h', "DELETE FROM credits.hold_states WHERE $open", 'holds');
tampered('hold deleted that is over', 'h', "DELETE FROM credits.hold_states WHERE status = 'captured'", 'holds');
tampered('hold given to another account', 'h', "UPDATE credits.hold_states SET account_id = credits.account_id('m') WHERE $open",
	'holds', all => 1);
tampered('hold added', 'h',
	"INSERT INTO credits.hold_states SELECT (SELECT id FROM $log WHERE idempotency_key = 'pooled'), account_id, created_at, "
	  . "reserved, expires_at, status, captured, released FROM credits.hold_states WHERE $open",
	'orphan', all => 1);
tampered('due date moved past a hold', 'h', "UPDATE credits.accounts SET due_at = 'infinity' WHERE name = 'h'", 'due');
tampered('capture edited', 'h', "UPDATE $log SET held = -6 WHERE $held AND held = -8", 'chain running_balance draws holds');
tampered('capture moved to another hold', 'h',
	"UPDATE $log SET target_id = (SELECT id FROM credits.hold_states WHERE $open) WHERE $held AND held = -8", 'chain holds');
tampered('release removed', 'h', "DELETE FROM $log WHERE $held AND kind = 'release' AND held = -5",
	'chain count balance running_balance held holds');
tampered('extension removed', 'h', "DELETE FROM $log WHERE $held AND kind = 'extension'", 'chain count holds');
tampered('member edited', 'h', "UPDATE $log SET member_id = NULL WHERE idempotency_key = 'pooled'", 'chain');
tampered('transfer edited', 'm', "UPDATE $log SET amount = 90 WHERE kind = 'transfer' AND amount > 0",
	'chain running_balance balance draws');
tampered('transfer made a gift', 'm',
	"UPDATE $log SET terms = replace(terms::text, 'signup', 'gift')::jsonb WHERE kind = 'transfer' AND amount > 0", 'chain terms');
tampered('reversal edited', 'h', "UPDATE $log SET amount = 10 WHERE $held AND kind = 'reversal'", 'chain refund draws');
tampered('limits taken away', 'm', "UPDATE credits.accounts SET limited = false WHERE name = 'm'", 'limits');

# A thorough forger, who reads the documentation and redoes the chain: nothing
# inside the database can tell, the digest kept elsewhere can.
my $digest = digest();
$super->value('BEGIN');
$super->value("ALTER TABLE $_") foreach @triggers;
$super->value("UPDATE $log SET reference = 'forged' WHERE $first");
my $head = '';
foreach my $row (split /\n/, $super->value(qq(
	SELECT id, encode(
		'\\x01' || int8send(id) || int8send(account_id)
		|| int4send(octet_length(kind)) || convert_to(kind, 'UTF8')
		|| int8send(amount) || int8send(held) || int8send(balance_after) || int8send(held_after)
		|| int8send((extract(epoch FROM created_at) * 1000000)::bigint)
		|| CASE WHEN target_id IS NULL THEN '\\x00'::bytea ELSE '\\x01' || int8send(target_id) END
		|| CASE WHEN member_id IS NULL THEN '\\x00'::bytea ELSE '\\x01' || int8send(member_id) END
		|| CASE WHEN request IS NULL THEN '\\x00'::bytea ELSE '\\x01' || int8send(request) END
		|| int4send(octet_length(role)) || convert_to(role, 'UTF8')
		|| CASE WHEN idempotency_key IS NULL THEN int4send(-1)
			ELSE int4send(octet_length(idempotency_key)) || convert_to(idempotency_key, 'UTF8') END
		|| CASE WHEN operation IS NULL THEN int4send(-1)
			ELSE int4send(octet_length(operation)) || convert_to(operation, 'UTF8') END
		|| CASE WHEN reference IS NULL THEN int4send(-1)
			ELSE int4send(octet_length(reference)) || convert_to(reference, 'UTF8') END
		|| CASE WHEN draws IS NULL THEN int4send(-1)
			ELSE int4send(array_length(draws, 1)) || (SELECT string_agg(int8send(d), '') FROM unnest(draws) AS d) END
		|| CASE WHEN terms IS NULL THEN int4send(-1)
			ELSE int4send(octet_length(terms::text)) || convert_to(terms::text, 'UTF8') END
		|| '\\x00', 'hex')
	FROM $log WHERE $mine ORDER BY id)))
{
	my ($id, $canonical) = split /\|/, $row;
	$head = sha256($head . pack 'H*', $canonical);
	$super->value("UPDATE $log SET hash = '\\x" . unpack('H*', $head) . "' WHERE id = $id");
}
$super->value("UPDATE credits.accounts SET head = '\\x" . unpack('H*', $head) . "' WHERE name = 'a'");
is($super->value('SELECT count(*) FROM credits_verify()'), '0', 'a chain redone: nothing to find within');
isnt(digest(), $digest, 'but the digest differs');
$super->value('ROLLBACK');
is(digest(), $digest, 'undone');

$super->quit;
$node->stop;
done_testing();
