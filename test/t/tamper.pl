# What a superuser can do with triggers disabled, and how credits_verify and
# credits_digest show it.

use strict;
use warnings FATAL => 'all';

use Digest::SHA qw(sha256);
use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsBilling;
use CreditsStripe;
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
	$super->value("SELECT credits_allocate('$name', 50, source => 'promotional', expires_at => '2100-01-01 00:00+00')");
	$super->value("SELECT credits_allocate('$name', 40, source => 'gift', effective_at => '2090-01-01 00:00+00')");
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
	q(SELECT credits_allocate('g', 10, source => 'trial', expires_at => '2020-02-01 00:00+00')),
	q(SELECT credits_allocate('g', 10, source => 'trial', expires_at => '2020-02-05 00:00+00')),
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
	q(SELECT credits_hold('h', 10, 'open', expires_in => '100 years')),
	q(SELECT credits_hold('h', 20, 'captured', expires_in => '1 day')),
	q(SELECT credits_hold('h', 5, 'released', expires_in => '1 day')),
	q(SELECT credits_hold('h', 7, 'expired', expires_in => '1 hour')),
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

# draws as the log has them: see doc/log.md
$super->value(q(
CREATE FUNCTION pg_temp.pack(numbers bigint[]) RETURNS bytea LANGUAGE plpgsql AS $pack$
DECLARE
	packed bytea := '';
	n bigint;
BEGIN
	FOREACH n IN ARRAY numbers LOOP
		n := CASE WHEN n < 0 THEN -2 * n - 1 ELSE 2 * n END;
		WHILE n > 127 LOOP
			packed := packed || set_byte('\x00', 0, (n % 128)::integer + 128);
			n := n / 128;
		END LOOP;
		packed := packed || set_byte('\x00', 0, n::integer);
	END LOOP;
	RETURN packed;
END
$pack$));

my $log = 'credits.log_default';
my $mine = "account_id = credits.account_id('a')";
my $first = "$mine AND idempotency_key = 'first'";
my $second = "$mine AND idempotency_key = 'second'";

# with the triggers in place
foreach my $sql (
	"UPDATE $log SET amount = -1 WHERE $first",
	"DELETE FROM $log WHERE $first",
	"TRUNCATE $log CASCADE",
	"UPDATE credits.accounts SET balance = 1000 WHERE name = 'a'",
	"UPDATE credits.accounts SET head = '' WHERE name = 'a'",
	"DELETE FROM credits.accounts WHERE name = 'a'",
	'TRUNCATE credits.accounts CASCADE',
	"UPDATE credits.grants SET remaining = amount WHERE $mine",
	"DELETE FROM credits.grants WHERE $mine",
	'TRUNCATE credits.grants CASCADE',
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
tampered('kind edited', 'a', "UPDATE $log SET kind_code = 'e' WHERE $first", 'chain totals');
tampered('role edited', 'a', [ "INSERT INTO credits.roles VALUES (-1, 'mallory')", "UPDATE $log SET role_id = -1 WHERE $first" ], 'chain');
tampered('role that there is not', 'a', "UPDATE $log SET role_id = -1 WHERE $first", 'chain');
tampered('role renamed', 'a', "UPDATE credits.roles SET name = 'mallory'", 'chain', all => 1);
tampered('roles removed', 'a', 'DELETE FROM credits.roles', 'chain', all => 1);
tampered('free text added', 'a', "UPDATE $log SET reason = 'because', salt = '\\x00' WHERE $first", 'chain');
tampered('free text added without salt', 'a', "UPDATE $log SET reason = 'because' WHERE $first", 'chain');
tampered('target edited', 'a', "UPDATE $log SET target_id = 1 WHERE $mine AND kind_code = 'r'", 'chain');
tampered('time edited', 'a', "UPDATE $log SET created_at = created_at - interval '1 day' WHERE $second", 'chain time');
tampered('hash rewritten', 'a', "UPDATE $log SET hash = sha256('x') WHERE $first", 'chain');
tampered('last hash rewritten', 'a', "UPDATE $log SET hash = sha256('x') WHERE $mine AND kind_code = 'r'", 'chain head');
tampered('draws edited', 'a', "UPDATE $log SET draws = pg_temp.pack(ARRAY[[(credits.draws_of(draws))[1][1], -31]]) WHERE $first", 'chain draws grants');
tampered('draws moved to another grant', 'a',
	"UPDATE $log SET draws = pg_temp.pack(ARRAY[[(SELECT min(id) FROM credits.grants WHERE $mine), -30]]) WHERE $first",
	'chain grants');
tampered('draws moved to no grant', 'a', "UPDATE $log SET draws = pg_temp.pack(ARRAY[[999999, -30]]) WHERE $first", 'chain orphan');
tampered('draws moved to a grant of another account', 'a',
	"UPDATE $log SET draws = pg_temp.pack(ARRAY[[(SELECT min(id) FROM credits.grants WHERE account_id = credits.account_id('b')), -30]]) WHERE $first",
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
tampered('first row deleted', 'a', "DELETE FROM $log WHERE $mine AND kind_code = 'o'", 'chain count');
tampered('last row deleted', 'a', "DELETE FROM $log WHERE $mine AND kind_code = 'r'", 'count head balance');
tampered('all rows deleted', 'a', "DELETE FROM $log WHERE $mine", 'count head balance');
tampered('row added', 'a',
	"INSERT INTO $log SELECT nextval('credits.transactions_id_seq'), account_id, created_at + interval '1 hour', amount, "
	  . 'balance_after + amount, held, held_after, target_id, member_id, role_id, request, kind_code, NULL, draws, operation, reference, terms, reason, '
	  . "metadata, actor, salt, sha256('x') FROM $log WHERE $second",
	'chain count head balance');
tampered('row added to no account', 'a',
	"INSERT INTO $log SELECT nextval('credits.transactions_id_seq'), 999999, created_at, amount, balance_after, "
	  . 'held, held_after, target_id, member_id, role_id, request, kind_code, NULL, draws, operation, reference, terms, reason, '
	  . "metadata, actor, salt, hash FROM $log WHERE $mine AND kind_code = 'o'",
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
	"INSERT INTO credits.accounts SELECT 999999, 'c', unit, status, metadata, limited, debt, created_at, alert_levels, alert_base, topup_below, due_at, base, granted, "
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
tampered('what a grant has lost edited', 'b', "UPDATE credits.grants SET lost = lost - 1 WHERE status = 'voided'", 'grants');
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
tampered('release removed', 'h', "DELETE FROM $log WHERE $held AND kind_code = 'l' AND held = -5",
	'chain count balance running_balance held holds');
tampered('extension removed', 'h', "DELETE FROM $log WHERE $held AND kind_code = 'x'", 'chain count holds');
tampered('member edited', 'h', "UPDATE $log SET member_id = NULL WHERE idempotency_key = 'pooled'", 'chain');
tampered('transfer edited', 'm', "UPDATE $log SET amount = 90 WHERE kind_code = 'T' AND amount > 0",
	'chain running_balance balance draws');
tampered('transfer made a gift', 'm',
	"UPDATE $log SET terms = replace(terms::text, 'signup', 'gift')::jsonb WHERE kind_code = 'T' AND amount > 0", 'chain terms');
tampered('reversal edited', 'h', "UPDATE $log SET amount = 10 WHERE $held AND kind_code = 'R'", 'chain refund draws');
tampered('limits taken away', 'm', "UPDATE credits.accounts SET limited = false WHERE name = 'm'", 'limits');

# pools: h is one, of which m is a member; o is above h
$super->value($_) foreach (
	q(SET credits.test_clock = '2021-01-10 00:00+00'),
	q(SELECT credits_open_account('o', 100)),
	q(SELECT credits_open_account('i', 100, unit => 'image')),
	q(SELECT credits_add_member('o', 'h', 40)),
	q(SELECT credits_change_member('h', 'm', 35)),
	q(SELECT credits_deduct('m', 3, pool => 'o')),
	q(SELECT credits_deduct('m', 2, pool => 'h')),
	q(RESET credits.test_clock));
is($super->value('SELECT count(*) FROM credits_verify()'), '0', 'clean with pools');
my $row = 'pool_id, account_id, cap, per, timezone, created_at, window_start, used, since_id';
my $of_h = "pool_id = credits.account_id('h')";
tampered('ring closed', 'h',
	"INSERT INTO credits.members ($row) SELECT account_id, pool_id, cap, per, timezone, created_at, window_start, used, since_id "
	  . "FROM credits.members WHERE pool_id = credits.account_id('o')", 'members', all => 1);
tampered('pool in itself', 'h',
	"INSERT INTO credits.members ($row) SELECT pool_id, pool_id, cap, per, timezone, created_at, window_start, used, since_id "
	  . "FROM credits.members WHERE $of_h", 'members');
tampered('member of another unit', 'h',
	"UPDATE credits.members SET account_id = credits.account_id('i') WHERE $of_h", 'members');
tampered('member that is no account', 'h', "UPDATE credits.members SET account_id = 999999 WHERE $of_h", 'members orphan');
tampered('members of no pool', '', "UPDATE credits.members SET pool_id = 999999 WHERE $of_h", 'members orphan', all => 1);
tampered("$_->[0] of a cap", 'h', "UPDATE credits.members SET $_->[1] WHERE $of_h", 'members')
  foreach [ 'window', "used = 0, window_start = window_start + interval '20 days'" ],
  [ 'earlier window', "window_start = window_start - interval '2 years'" ],
  [ 'beginning of the count', 'used = 0, since_id = (SELECT max(id) FROM credits.transactions)' ],
  [ 'an earlier beginning of the count', 'since_id = 1' ], [ 'time zone', "timezone = 'Asia/Tokyo'" ],
  [ 'kind of window', "per = 'day'" ], [ 'unknown window', "per = 'year'" ];

tampered('use of a cap', 'h', "UPDATE credits.members SET used = 0 WHERE $of_h", 'members', all => 1);

# charges, and the prices that they name
$super->value($_) foreach (
	q(SET credits.test_clock = '2021-01-20 00:00+00'),
	q(SELECT credits_set_operation('chat', 1, 0.25, 'token', 10, 'ceil', 2)),
	q(SELECT credits_set_operation('image', 7)),
	q(SELECT credits_open_account('p', 100)),
	q(SELECT credits_charge('p', 'chat', 50.5, 'charge')),
	q(SELECT credits_charge('p', 'chat', 1)),
	q(SELECT credits_charge('p', 'image', 1)),
	q(SELECT credits_add_member('o', 'p')),
	q(SELECT credits_charge('p', 'image', 12, pool => 'o', mode => 'own_first')),
	q(SELECT credits_charge('p', 'chat', 0)),
	q(RESET credits.test_clock));
is($super->value('SELECT count(*) FROM credits_verify()'), '0', 'clean with charges');
my $chat = "name = 'chat'";
tampered("price: $_->[0]", 'p', "UPDATE credits.operations SET $_->[1] WHERE $chat", 'price')
  foreach [ 'cost of a unit', 'unit_cost = 0.2' ], [ 'included units', 'included_units = 1' ], [ 'rounding', "rounding = 'floor'" ],
  [ 'minimum', 'minimum = 3' ], [ 'operation', "name = 'talk'" ], [ 'beginning', "active_from = '2021-02-01'" ];
tampered('price deleted', 'p', "DELETE FROM credits.operations WHERE $chat", 'price');
tampered('price that a pool paid with', 'p', q(UPDATE credits.operations SET base_cost = 8 WHERE name = 'image'), 'price');
tampered("quantity of a charge $_", 'p',
	"UPDATE $log SET terms = jsonb_set(terms, '{quantity}', '$_') WHERE idempotency_key = 'charge'", 'chain price')
  foreach '"5"', '"5.5.5"', '"NaN"', '5', 'null';

# purchases, money that went back, and promotions
$super->value($_) foreach (
	q(SELECT credits_open_account('s')),
	q(SELECT credits_set_package('pack', 100, 10, 'USD', extras => '[{"credits": 10}]')),
	q(SELECT credits_set_promotion('less', 'percent', 10, per_account => 5)),
	q(SELECT credits_set_promotion('more', 'bonus', 33)),
	q(SELECT credits_start_purchase('s', 'pack', promotion => 'less', idempotency_key => 'paid')),
	q(SELECT credits_start_purchase('s', 'pack', promotion => 'less', idempotency_key => 'failed')),
	q(SELECT credits_start_purchase('s', 'pack', promotion => 'less', idempotency_key => 'pending')),
	q(SELECT credits_start_purchase('s', 'pack', promotion => 'more', idempotency_key => 'bonus')),
	q(SELECT credits_complete_purchase(id, 'pay_1', 11) FROM credits.purchases WHERE idempotency_key = 'paid'),
	q(SELECT credits_complete_purchase(id, 'pay_2', 10) FROM credits.purchases WHERE idempotency_key = 'bonus'),
	q(SELECT credits_fail_purchase(id) FROM credits.purchases WHERE idempotency_key = 'failed'),
	q(SELECT credits_deduct('s', 200)),
	q(SELECT credits_refund_purchase(id, 3, reference => 're') FROM credits.purchases WHERE idempotency_key = 'paid'),
	q(SELECT credits_refund_purchase(id, credits => 7, reference => 're') FROM credits.purchases WHERE idempotency_key = 'bonus'),
	q(SELECT credits_open_chargeback(id, 'dp', 2) FROM credits.purchases WHERE idempotency_key = 'paid'));
is($super->value('SELECT count(*) FROM credits_verify()'), '0', 'clean with purchases');
my $paid = "idempotency_key = 'paid'";
my $purchase = "(SELECT id FROM credits.purchases WHERE $paid)";
tampered("purchase: $_->[0]", 's', "UPDATE credits.purchases SET $_->[1] WHERE $paid", 'purchase')
  foreach [ 'money', 'money = 9.5' ], [ 'less money', 'money = 1, price = 2' ], [ 'credits', 'credits = 101' ],
  [ 'currency', "currency = 'EUR'" ], [ 'transaction', 'transaction_id = 1' ], [ 'grants', 'grant_ids = grant_ids[2:]' ],
  [ 'grants of nobody', 'grant_ids = ARRAY[999999]' ];
tampered('purchase: grants of another account', 's', "UPDATE credits.purchases SET grant_ids = "
	  . "(SELECT array_agg(id) FROM credits.grants WHERE account_id = credits.account_id('b')) WHERE $paid", 'purchase', all => 1);
tampered('purchase of another account', 's', "UPDATE credits.purchases SET account_id = credits.account_id('b') WHERE $paid",
	'purchase promotion', all => 1);
tampered('purchase of no account', 's', "UPDATE credits.purchases SET account_id = 999999 WHERE $paid", 'purchase', all => 1);
tampered("reversal: $_->[0]", 's', "UPDATE credits.reversals SET $_->[1] WHERE purchase_id = $purchase AND reference = 're'", 'purchase')
  foreach [ 'money', 'money = 1' ], [ 'credits', 'credits = 20' ], [ 'withdrawn', "status = 'withdrawn'" ];
tampered('chargeback won', 's', "UPDATE credits.reversals SET status = 'won' WHERE reference = 'dp'", 'purchase');
tampered('reversal deleted', 's', "DELETE FROM credits.reversals WHERE reference = 'dp'", 'purchase');
tampered('reversal of nothing', 's', "UPDATE credits.reversals SET purchase_id = 999999 WHERE reference = 'dp'", 'purchase orphan',
	all => 1);
tampered('debt forgiven', 's', "DELETE FROM credits.debts WHERE account_id = credits.account_id('s')", 'debt purchase');
my @uses = (
	[ 'deleted', "DELETE FROM credits.promotion_uses WHERE purchase_id = $purchase" ],
	[ 'released', "UPDATE credits.promotion_uses SET released_at = now() WHERE purchase_id = $purchase" ],
	[ 'taken', q(UPDATE credits.promotion_uses SET released_at = NULL WHERE released_at IS NOT NULL) ],
	[ 'of other terms', "UPDATE credits.promotion_uses SET promotion_id = promotion_id + 1 WHERE purchase_id = $purchase" ],
	[ 'of another account', "UPDATE credits.promotion_uses SET account_id = 1 WHERE purchase_id = $purchase" ],
	[ 'of another promotion', "UPDATE credits.promotion_uses SET promotion = 'more' WHERE purchase_id = $purchase" ]);
foreach (@uses)
{
	tampered("use of a promotion: $_->[0]", 's', $_->[1], 'promotion', all => 1);
}
tampered('use of a promotion: of no purchase', '', "UPDATE credits.promotion_uses SET purchase_id = 999999 WHERE purchase_id = $purchase",
	'orphan promotion', all => 1);
tampered('uses in all', '', "UPDATE credits.promotion_totals SET uses = uses - 1 WHERE promotion = 'less'", 'promotion', all => 1);
tampered('uses in all deleted', '', "DELETE FROM credits.promotion_totals WHERE promotion = 'less'", 'promotion', all => 1);

# periods of subscriptions: one with a change of plan that gave more and one that
# took back, one that rolled over
$super->value($_) foreach (
	q(SET credits.test_clock = '2021-03-01 00:00+00'),
	q(SELECT credits_set_plan('small', 30, rollover => 'maximum')),
	q(SELECT credits_set_plan('large', 90, rollover => 'maximum')),
	q(SELECT credits_open_account('r')),
	q(SELECT credits_subscribe('r', 'small')),
	q(SELECT credits_deduct('r', 5)),
	q(SET credits.test_clock = '2021-04-01 00:00+00'),
	q(CALL credits_renew()),
	q(SET credits.test_clock = '2021-04-10 00:00+00'),
	q(SELECT credits_change_plan(max(id), 'large', at => 'now') FROM credits.subscriptions),
	q(SET credits.test_clock = '2021-04-20 00:00+00'),
	q(SELECT credits_change_plan(max(id), 'small', at => 'now') FROM credits.subscriptions),
	q(RESET credits.test_clock));
is($super->value(q(SELECT count(*), count(*) FILTER (WHERE rolled_grant_ids <> '{}'), max((SELECT count(*) FROM credits.grants AS g WHERE g.group_id = p.grant_id)) FROM credits.periods AS p)), '2|1|2',
	'periods with more than one grant, and one rolled over');
is($super->value('SELECT count(*) FROM credits_verify()'), '0', 'clean with periods');
tampered('subscription due before the account', 'r', "UPDATE credits.accounts SET renews_at = NULL WHERE name = 'r'", 'due');
tampered("period: $_->[0]", 'r', "UPDATE credits.periods SET $_->[1]", 'period')
  foreach [ 'given', 'given = given - 1' ], [ 'credits', 'credits = credits + 1' ], [ 'transaction', 'transaction_id = 1' ],
  [ 'rolled', 'rolled = rolled + 1' ], [ 'rolled forgotten', "rolled = NULL, rolled_grant_ids = '{}'" ],
  [ 'rolled grant', "rolled_grant_ids = '{1}' WHERE rolled > 0" ], [ 'grants of nobody', 'grant_id = 999999' ],
  [ 'withdrawn', 'withdrawn = COALESCE(withdrawn, 0) + 1' ], [ 'earned', 'earned = earned + 1' ], [ 'earning', 'earning = earning + 1' ],
  [ 'earning since', "earning_since = earning_since - interval '1 second'" ], [ 'changed at', "changed_at = changed_at - interval '1 second'" ],
  [ 'earned forgotten', 'earned = NULL WHERE earned IS NOT NULL' ];
my $groups = q((SELECT group_id FROM credits.grants WHERE group_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1));
tampered('period: grants', 'r', "UPDATE credits.grants SET group_id = NULL WHERE group_id IN $groups AND id <> group_id", 'period');
tampered('period: grants that are others', 'r', "UPDATE credits.grants SET group_id = id WHERE group_id IN $groups", 'period');
tampered('period: a grant that is none of its', 'r', "UPDATE credits.grants SET group_id = (SELECT min(group_id) FROM credits.grants) "
	. 'WHERE id IN (SELECT unnest(rolled_grant_ids) FROM credits.periods)', 'grants period');
tampered('period deleted', 'r', 'DELETE FROM credits.periods', 'period');
tampered('period of another account', 'r', "UPDATE credits.periods SET account_id = 1", 'period', all => 1);
# a period that follows what was paid: less is due than was used, and some was paid back
$super->value($_) foreach (
	q(SET credits.test_clock = '2021-05-01 00:00+00'),
	q(SELECT credits_open_account('paid')),
	q(SELECT credits_subscribe('paid', 'small', collection => 'payment', external_id => 'paid')),
	(map { qq(SELECT credits_set_invoice((SELECT id FROM credits.subscriptions WHERE external_id = 'paid'), '$_->[0]',
		'[{"starts_at": "$_->[1]", "ends_at": "$_->[2]", "credits": $_->[3], "reversed": $_->[4]}]')) }
		  [ 'in_1', '2021-05-01 00:00+00', '2021-06-01 00:00+00', 30, 10 ]),
	q(SELECT credits_deduct('paid', 20)),
	(map { qq(SELECT credits_set_invoice((SELECT id FROM credits.subscriptions WHERE external_id = 'paid'), '$_->[0]',
		'[{"starts_at": "$_->[1]", "ends_at": "$_->[2]", "credits": $_->[3], "reversed": $_->[4]}]')) }
		  [ 'in_2', '2021-05-10 00:00+00', '2021-06-01 00:00+00', -15, 0 ],
		  [ 'in_3', '2021-06-01 00:00+00', '2021-07-01 00:00+00', 30, 0 ]),
	q(RESET credits.test_clock));
is($super->value(q(SELECT string_agg(concat_ws(' ', paid, granted, taken, carried, given), ', ' ORDER BY ends_at) FROM credits.periods
	WHERE account_id = credits.account_id('paid'))), '30 30 10 5 20, 30 30 5 0 25', 'periods that follow what was paid');
is($super->value('SELECT count(*) FROM credits_verify()'), '0', 'clean with them');
tampered("paid period: $_->[0]", 'paid', "UPDATE credits.periods SET $_->[1] AND account_id = credits.account_id('paid')", 'period')
  foreach [ 'paid', 'paid = paid + 1 WHERE true' ], [ 'granted', 'granted = granted + 1 WHERE true' ],
  [ 'taken', 'taken = taken + 1, given = given - 1 WHERE true' ], [ 'carried', 'carried = carried + 1 WHERE true' ],
  [ 'credited', 'credited = credited + 1 WHERE true' ], [ 'reversed', 'reversed = reversed + 1 WHERE true' ], [ 'claimed', 'claimed = claimed + 1 WHERE true' ],
  [ 'late', 'late = late + 1 WHERE true' ],
  [ 'taken as carried', 'taken = taken - 1, given = given + 1, carried = carried + 1 WHERE taken > 5' ];
tampered('paid period: group of a debt', 'paid', "UPDATE credits.debts SET group_id = NULL WHERE group_id IS NOT NULL", 'debt');
tampered('paid period: a grant of which all is claimed', 'paid', "UPDATE credits.grants SET all_claimed = true WHERE group_id IS NOT NULL AND account_id = credits.account_id('paid')", 'grants');
tampered('paid period: a grant that has lost nothing', 'paid', "UPDATE credits.grants SET lost_claimed = true WHERE group_id IS NOT NULL AND lost IS NULL AND account_id = credits.account_id('paid')", 'grants');
tampered('paid period: what its grants owe', 'paid', "UPDATE credits.grants SET group_owed = coalesce(group_owed, 0) + 1 WHERE group_id = id AND account_id = credits.account_id('paid')", 'period');
tampered('paid period: when the grant of a debt expires', 'paid', "UPDATE credits.debts SET lasts_until = lasts_until + interval '1 day' WHERE group_id IS NOT NULL AND account_id = credits.account_id('paid')", 'debt');
tampered("paid part: $_->[0]", 'paid', "UPDATE credits.paid_parts SET $_->[1]", 'period')
  foreach [ 'credits', "credits = credits + 1 WHERE reference = 'in_1'" ], [ 'credited', "credits = credits + 1 WHERE reference = 'in_2'" ],
  [ 'reversed', "reversed = 0 WHERE reference = 'in_1'" ], [ 'end', "ends_at = ends_at - interval '1 day' WHERE reference = 'in_2'" ];
tampered('paid part deleted', 'paid', "DELETE FROM credits.paid_parts WHERE reference = 'in_3'", 'period');
tampered('paid part of no period', '', "UPDATE credits.paid_parts SET ends_at = ends_at + interval '1 day' WHERE reference = 'in_3'", 'orphan period', all => 1);
tampered('paid part of no subscription', '', "UPDATE credits.paid_parts SET subscription_id = 999999 WHERE reference = 'in_2'", 'orphan period', all => 1);
$super->value($_) foreach (
	q(SET credits.test_clock = '2021-05-02 00:00+00'),
	q(SELECT credits_open_account('back', 0)),
	q(SELECT credits_set_plan('back', 30, price => 3, currency => 'EUR'), credits_set_plan('back less', 10, price => 1, currency => 'EUR')),
	q(SELECT credits_subscribe('back', 'back', external_id => 'back')),
	q(SELECT credits_deduct('back', 5)),
	q(SELECT credits_refund_period(id, 1, reference => 're_back') FROM credits.subscriptions WHERE external_id = 'back'),
	q(SET credits.test_clock = '2021-05-11 00:00+00'),
	q(SELECT credits_change_plan(id, 'back less', at => 'now') FROM credits.subscriptions WHERE external_id = 'back'),
	q(RESET credits.test_clock));
is($super->value('SELECT count(*) FROM credits_verify()'), '0', 'clean with a refund of a period');
tampered("refund of a period: $_->[0]", 'back', "UPDATE credits.period_refunds SET $_->[1]", 'period')
  foreach [ 'money', 'money = money + 1' ], [ 'everything', 'money = NULL, currency = NULL' ];
tampered('refund of a period deleted', 'back', 'DELETE FROM credits.period_refunds', 'period');
tampered('refund of no period', '', "UPDATE credits.period_refunds SET starts_at = starts_at + interval '1 day'", 'orphan period', all => 1);
tampered('refund of no subscription', '', 'UPDATE credits.period_refunds SET subscription_id = 999999', 'orphan period', all => 1);
tampered('period of no subscription', 'r', 'UPDATE credits.periods SET subscription_id = 999999', 'orphan period', all => 1);
tampered('subscription of no account', '', 'UPDATE credits.subscriptions SET account_id = 999999', 'orphan', all => 1);

# Stripe's invoices: two accounts, of which one has a proration that waits, a refund and
# a credit note, and the other a quarter that was paid for with money of a year.
my $stripe_now = time_at('2021-03-20 12:00:00');
my $upgraded = CreditsBilling->new(shape => 'new', start => time_at('2021-03-10 09:30:00'), items => [ [ 'price_basic', 2 ] ]);
my $invoice = $upgraded->pay($upgraded->create);
$upgraded->wait(86400)->change([ [ 'price_pro', 2 ] ]);
$upgraded->wait(86400)->refund($invoice->{payments}[0], 400);
$upgraded->credit_note($invoice, [ [ 0, 300 ] ]);
my $shorter = CreditsBilling->new(shape => 'old', start => time_at('2021-03-01 09:30:00'), items => [ [ 'price_year', 1 ] ]);
$invoice = $shorter->pay($shorter->create);
$shorter->pay($shorter->wait(5 * 86400)->change([ [ 'price_quarter', 1 ] ]));
$shorter->wait(86400)->refund($invoice->{payments}[0], 1000);
$super->value("SET credits.test_clock = '2021-03-20 12:00+00'");
$super->value("SELECT credits_stripe_add_secret('tests', '" . stripe_secret() . "')");
$super->query($_) foreach split /\n/, billing_setup();
foreach my $n (1 .. 2)
{
	$super->value("SELECT credits_open_account('b:000000$n')");
	foreach my $event (($upgraded, $shorter)[ $n - 1 ]->events)
	{
		my $payload = billing_payload($event, $n);
		$super->value("SELECT (credits_stripe_webhook(\$stripe\$$payload\$stripe\$, '" . stripe_signature($payload, $stripe_now) . "')).result");
	}
}
$super->value('RESET credits.test_clock');
is($super->value(q(SELECT string_agg(concat_ws(' ', p.credits, p.reversed), ', ' ORDER BY s.external_id, p.ends_at, p.reference)
	FROM credits.paid_parts AS p JOIN credits.subscriptions AS s ON s.id = p.subscription_id WHERE s.external_id LIKE 'sub_00%')),
	'3871 0, 2000 700, 3100 955, 12000 1200, -11836 0', 'what invoices come to');
is($super->value('SELECT count(*) FROM credits_verify()'), '0', 'clean with them');
tampered("invoice: $_->[0]", 'b:0000001', $_->[1], 'invoice')
  foreach [ 'quantity of a line', "UPDATE credits.stripe_lines SET quantity = 3 WHERE key LIKE 'in_0000001%'" ],
  [ 'amount of a line', "UPDATE credits.stripe_lines SET amount = amount + 1 WHERE key LIKE 'in_0000001%'" ],
  [ 'end of a line', "UPDATE credits.stripe_lines SET ends_at = ends_at - interval '1 day' WHERE key LIKE 'in_0000001%'" ],
  [ 'sign of a proration', "UPDATE credits.stripe_lines SET negative = NOT negative WHERE invoice = '' AND subscription = 'sub_0000001'" ],
  [ 'proration deleted', "DELETE FROM credits.stripe_lines WHERE invoice = '' AND subscription = 'sub_0000001'" ],
  [ 'line deleted', "DELETE FROM credits.stripe_lines WHERE key LIKE 'in_0000001%'" ],
  [ 'status', "UPDATE credits.stripe_invoices SET status = 'open' WHERE subscription = 'sub_0000001'" ],
  [ 'total', "UPDATE credits.stripe_invoices SET total = 3000 WHERE subscription = 'sub_0000001'" ],
  [ 'refund', "UPDATE credits.stripe_payments SET refunded = 0 WHERE payment LIKE 'pi_0000001%'" ],
  [ 'credit note', "UPDATE credits.stripe_credit_notes SET voided = true WHERE invoice LIKE 'in_0000001%'" ],
  [ 'mapping', "UPDATE credits.stripe_items SET plan_id = (SELECT max(id) FROM credits.plans WHERE name = 'max') WHERE subscription = 'sub_0000001'" ],
  [ 'what waits', "UPDATE credits.paid_parts SET credits = credits + 1 WHERE reference = '(pending)'" ],
  [ 'a part', "UPDATE credits.paid_parts SET credits = credits + 1 WHERE reference LIKE 'in_0000001%'" ],
  [ 'what is reversed of it', "UPDATE credits.paid_parts SET reversed = 0 WHERE reference LIKE 'in_0000001%'" ],
  [ 'its price', "UPDATE credits.paid_parts SET price = 1 WHERE reference LIKE 'in_0000001%'" ],
  [ 'its reference', "UPDATE credits.paid_parts SET reference = 'in_other' WHERE reference LIKE 'in_0000001%'" ],
  [ 'a part deleted', "DELETE FROM credits.paid_parts WHERE reference LIKE 'in_0000001%'" ],
  [ 'a part that no line has', "INSERT INTO credits.paid_parts SELECT subscription_id, ends_at + interval '1 day', reference, starts_at, settled_at, plan_id, 1, 0, NULL, NULL, false, finalized_at, false
	FROM credits.paid_parts WHERE reference LIKE 'in_0000001%'" ];
tampered("invoice paid for by credits: $_->[0]", 'b:0000002', $_->[1], 'invoice')
  foreach [ 'what it lost', "UPDATE credits.paid_parts SET reversed = 0 WHERE reference LIKE 'in_0000002%' AND credits = 3100" ],
  [ 'what is paid for with it', "UPDATE credits.paid_parts SET funds = NOT funds WHERE reference LIKE 'in_0000002%'" ],
  [ 'when it was finalized', "UPDATE credits.paid_parts SET finalized_at = finalized_at - interval '1 second' WHERE reference LIKE 'in_0000002%'" ],
  [ 'the refund', "UPDATE credits.stripe_payments SET refunded = 500 WHERE payment LIKE 'pi_0000002%'" ],
  [ 'the credit', "UPDATE credits.stripe_lines SET starts_at = starts_at + interval '10 days' WHERE subscription = 'sub_0000002' AND negative" ];

# A thorough forger, who reads the documentation and redoes the chain: nothing
# inside the database can tell, the digest kept elsewhere can.
my $digest = digest();
$super->value('BEGIN');
$super->value("ALTER TABLE $_") foreach @triggers;
$super->value("UPDATE $log SET operation = 'forged' WHERE $first");
$super->value(q(CREATE FUNCTION pg_temp.put(value text) RETURNS bytea LANGUAGE sql AS
	$$SELECT COALESCE(int4send(octet_length(value)) || convert_to(value, 'UTF8'), int4send(-1))$$));
$super->value(q(CREATE FUNCTION pg_temp.put(value bigint) RETURNS bytea LANGUAGE sql AS
	$$SELECT COALESCE('\\x01'::bytea || int8send(value), '\\x00'::bytea)$$));
my $head = '';
foreach my $row (split /\n/, $super->value(qq(
	SELECT id, encode(
		'\\x02' || int8send(id) || int8send(account_id) || pg_temp.put(kind)
		|| int8send(amount) || int8send(held) || int8send(balance_after) || int8send(held_after)
		|| int8send((extract(epoch FROM created_at) * 1000000)::bigint)
		|| pg_temp.put(target_id) || pg_temp.put(member_id) || pg_temp.put(role) || pg_temp.put(operation)
		|| CASE WHEN draws IS NULL THEN int4send(-1)
			ELSE int4send(array_length(draws, 1)) || (SELECT string_agg(int8send(d), '') FROM unnest(draws) AS d) END
		|| pg_temp.put(terms::text)
		|| CASE WHEN salt IS NULL THEN '\\x00'::bytea
			ELSE '\\x01' || sha256(salt || pg_temp.put(idempotency_key) || pg_temp.put(reference)
				|| pg_temp.put(request) || pg_temp.put(reason) || pg_temp.put(metadata::text)
				|| pg_temp.put(actor)) END, 'hex')
	FROM credits.transactions WHERE $mine ORDER BY id)))
{
	my ($id, $canonical) = split /\|/, $row;
	$head = sha256($head . pack 'H*', $canonical);
	$super->value("UPDATE $log SET hash = '\\x" . unpack('H*', $head) . "' WHERE id = $id");
}
$super->value("UPDATE credits.accounts SET head = '\\x" . unpack('H*', $head) . "' WHERE name = 'a'");
is($super->value(q(SELECT count(*) FROM credits_verify() WHERE problem <> 'guards')), '0', 'a chain redone: nothing to find within');
isnt(digest(), $digest, 'but the digest differs');
$super->value('ROLLBACK');
is(digest(), $digest, 'undone');

$super->quit;
$node->stop;
done_testing();
