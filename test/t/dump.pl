# pg_dump and back, whole and data alone; base backup; point-in-time recovery.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsStripe;
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = credits_node('source', streaming => 1, archiving => 1);
populate($source);

# an application of its own around it, as there always is
$source->safe_psql('postgres', <<'SQL');
CREATE TABLE users (id bigint PRIMARY KEY, name text);
CREATE TRIGGER users_open AFTER INSERT ON users
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id', 'users:', '25');
INSERT INTO users VALUES (1, 'one'), (2, 'two');
SELECT credits_set_plan('terms', 10), credits_offer_plan('terms', metadata => '{"plan": "free"}'),
	credits_withdraw_offer(credits_offer_plan('terms', 'bulk:1'));
SQL
# people, and the link in their mail
$source->safe_psql('postgres', <<'SQL');
SELECT credits_set_contact('user:1', 'email', 'zoë@example.com', true, 'de-AT'), credits_set_contact('user:1', 'push', 'device "1"'),
	credits_set_preference('user:1', enabled => false), credits_set_preference('user:1', 'low_balance', 'sms', true),
	credits_set_quiet_hours('user:1', '22:00', '07:30', 'Europe/Berlin');
SQL
my $token = $source->safe_psql('postgres', q(SELECT credits_unsubscribe_token('user:1', 'grant_expiring')));
# some rows have forgotten whom they were about
$source->safe_psql('postgres', <<'SQL');
SELECT credits_open_account('forgotten', 100);
SET credits.actor = 'erased-actor';
SELECT credits_deduct('forgotten', 5, 'erased-key', 'chat', 'erased-reference', '{"name": "erased-metadata"}');
SELECT credits_adjust('forgotten', 5, 'erased-reason');
RESET credits.actor;
SELECT credits_erase_text(id) FROM credits.transactions WHERE account_id = credits.account_id('forgotten');
SQL
# disputes in each state, two persons who were erased, of whom one is not through, and a pause
$source->safe_psql('postgres', <<'SQL');
SELECT credits_open_account('disputes', 100);
SELECT credits_deduct('disputes', 10, 'disputed:' || n) FROM generate_series(1, 6) AS n;
SELECT credits_open_dispute('disputes', id, 'other', 'It''s "wrong".', 5, 'dispute ' || idempotency_key)
FROM credits.transactions WHERE idempotency_key LIKE 'disputed:%' ORDER BY id;
SELECT credits_assign_dispute(2, 'grace'), credits_resolve_dispute(3, 5, 'You are right.'), credits_resolve_dispute(4, 2),
	credits_resolve_dispute(5, 0), credits_withdraw_dispute('disputes', 6);
SELECT credits_open_account('leaver:' || n, 100) FROM generate_series(1, 2) AS n;
SELECT credits_deduct('leaver:' || n, 5, 'left-key', 'chat', 'left-reference') FROM generate_series(1, 2) AS n;
CALL credits_erase_person('leaver:1', 'asked');
BEGIN;
CALL credits_erase_person('leaver:2', 'asked, too');
COMMIT;
CALL credits_pause_service('moving', operations => '{stopped}', kinds => '{transfer}');
SQL
my $facts = facts_of($source);
like($facts, qr/^problems\|0$/m, 'clean before');

# What a copy has to be good for.
sub is_whole
{
	my ($node, $name, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$dbname //= 'postgres';

	is(facts_of($node, $dbname), $facts, "$name: the same digest, rows and no problem");
	my $session = CreditsTest::Session->new($node, dbname => $dbname);
	is($session->value(q(SELECT balance, replayed FROM credits_deduct('bulk:1', 2, 'b:1:1'))),
		$source->safe_psql('postgres', q(SELECT balance, replayed FROM credits_deduct('bulk:1', 2, 'b:1:1'))),
		"$name: a replay");
	my $balance = $session->value(q(SELECT credits_balance('bulk:1')));
	is($session->value(q(SELECT balance FROM credits_deduct('bulk:1', 1, 'after'))), $balance - 1,
		"$name: the next deduction");
	is($session->value(q(SELECT count(*) FROM credits_open_account('after', 5))), '1', "$name: the next account");
	is($session->value(q(SELECT concat_ws(' ', (SELECT count(*) FROM credits.current_plans),
			(SELECT count(*) FROM credits_plans('bulk:1')), (SELECT count(*) FROM credits_plans('user:1')),
			credits_offer_plan('terms', 'bulk:1')))), '2 2 3 3', "$name: private terms stay private");
	is($session->value(q(SELECT concat_ws(' ', r.money, r.credits, r.replayed) FROM credits_refund_period((SELECT min(id) FROM credits.subscriptions), reference => 're_1') AS r)),
		'4 0 t', "$name: a refund of a period that was made");
	is($session->value(q(SELECT concat_ws(' ', r.money, r.credits) FROM credits_refund_period((SELECT min(id) + 1 FROM credits.subscriptions), period_start => '2020-03-02 00:00+00') AS r)),
		'5 50', "$name: and the rest of one");
	is($session->value(qq(SELECT credits_unsubscribe('$token'))), 'grant_expiring', "$name: the link in a mail");
	is($session->value(q(SELECT credits_set_contact('user:2', 'email', 'a@b') = max(id) + 1 FROM credits.contacts)), 't', "$name: the next contact");
	is($session->value(q(SELECT balance FROM credits_allocate('after', 5))), '10', "$name: the next grant");
	is($session->query(q(SELECT credits_deduct('bulk:1', 1, operation => 'stopped')))->{code}, 'PT503', "$name: what is paused stays paused");
	is($session->value(q(SELECT credits_resume_service())), 't', "$name: until it is resumed");
	is($session->value(q(SELECT amount FROM credits_deduct('bulk:1', 1, operation => 'stopped'))), '-1', "$name: here");
	is($session->value(q(SELECT concat_ws(' ', d.status, d.replayed) FROM (SELECT id FROM credits.transactions WHERE idempotency_key = 'disputed:2') AS t,
			credits_open_dispute('disputes', t.id, 'other', requested => 5, idempotency_key => 'dispute disputed:2') AS d)), 'in_review t', "$name: a dispute that was opened");
	is($session->value(q(SELECT concat_ws(' ', d.status, d.refunded) FROM credits_resolve_dispute(2, 5) AS d)), 'resolved 5', "$name: and is decided");
	is($session->value(q(SELECT d.dispute_id FROM credits_open_dispute('disputes', (SELECT id FROM credits.transactions WHERE idempotency_key = 'disputed:6'), 'other') AS d)), '7',
		"$name: the next dispute");
	like($session->value(q(CALL credits_erase_person('leaver:2', 'again'))), qr/^erased:\d+\|\d+\|t$/, "$name: an erasure is continued");
	is($session->query(q(SELECT credits_balance('leaver:1')))->{code}, 'PT404', "$name: who was erased stays so");
	is($session->query(q(UPDATE credits.accounts SET balance = 1))->{code}, '42501', "$name: still guarded");
	is($session->query(q(DELETE FROM credits.log_default))->{code}, '42501', "$name: still immutable");
	is($session->query(q(SET session_replication_role = replica; DELETE FROM credits.log_default))->{code},
		'42501', "$name: to a replication role too");
	problems_are($node, '', "$name: the chain goes on", $dbname);
	$session->quit;
}

my $target = credits_node('target', extension => 0);
my $dumps = $source->basedir;

# plain SQL through psql, into a fresh cluster
$source->command_ok([ 'pg_dump', '-f', "$dumps/plain.sql", 'postgres' ], 'pg_dump');
$target->safe_psql('postgres', 'CREATE DATABASE plain');
$target->command_ok(
	[ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/plain.sql", 'plain' ],
	'psql takes it without an error');
is_whole($target, 'plain', 'plain');
my $plain = slurp_file("$dumps/plain.sql");
like($plain, qr/forgotten/, 'the dump has the account whose texts were erased');
unlike($plain, qr/erased-(actor|key|reference|metadata|reason)/, 'and none of the texts');
unlike($plain, qr/leaver:1|left-(key|reference)/, 'nor what named a person');
is($target->safe_psql('plain', q(INSERT INTO users VALUES (3, 'three'); SELECT credits_balance('users:3'))),
	'25', 'the trigger of the application came along');

# in one transaction and with inserts, as some tools do
$source->command_ok([ 'pg_dump', '--inserts', '-f', "$dumps/inserts.sql", 'postgres' ], 'pg_dump --inserts');
$target->safe_psql('postgres', 'CREATE DATABASE inserts');
$target->command_ok(
	[ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/inserts.sql", 'inserts' ],
	'psql takes it in one transaction');
is_whole($target, 'inserts', 'inserts');

# custom format, in parallel
$source->command_ok([ 'pg_dump', '-Fc', '-f', "$dumps/custom.dump", 'postgres' ], 'pg_dump -Fc');
$target->safe_psql('postgres', 'CREATE DATABASE custom');
$target->command_ok([ 'pg_restore', '-j2', '-e', '-d', 'custom', "$dumps/custom.dump" ], 'pg_restore');
is_whole($target, 'custom', 'custom');

# data alone, where the extension is already
$source->command_ok([ 'pg_dump', '-Fc', '-a', '-T', 'users', '-f', "$dumps/data.dump", 'postgres' ], 'pg_dump -a');
$target->safe_psql('postgres', 'CREATE DATABASE data');
create_credits($target, 'data');
$target->command_ok([ 'pg_restore', '-a', '-e', '-1', '-d', 'data', "$dumps/data.dump" ], 'pg_restore -a');
is_whole($target, 'data', 'data');

# with triggers disabled, as pg_restore offers
$target->safe_psql('postgres', 'CREATE DATABASE disabled');
create_credits($target, 'disabled');
$target->command_ok(
	[ 'pg_restore', '-a', '-e', '-1', '--disable-triggers', '-d', 'disabled', "$dumps/data.dump" ],
	'pg_restore -a --disable-triggers');
# pg_restore leaves triggers enabled, but no longer ALWAYS
foreach my $trigger (split /\n/, $source->safe_psql('postgres', q(
	SELECT format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', tgrelid::regclass, tgname) FROM pg_trigger
	WHERE tgenabled = 'A' AND tgrelid::regclass::text LIKE 'credits.%')))
{
	$target->safe_psql('disabled', $trigger);
}
is_whole($target, 'disabled', 'disabled');

# a dump of the copy is a dump of the source, and a member of the extension
# is not dumped by itself
$target->safe_psql('postgres', 'CREATE DATABASE again');
$source->command_ok([ 'pg_dump', '-s', '-f', "$dumps/schema.sql", 'postgres' ], 'pg_dump -s');
unlike(slurp_file("$dumps/schema.sql"), qr/CREATE (TABLE|FUNCTION|TRIGGER|VIEW|TYPE|INDEX|SEQUENCE) credits/,
	'the dump leaves members to CREATE EXTENSION');

# what a dump does not have: Stripe's signing secrets, which is said where it is looked for
my $body = '{"id": "evt_1", "type": "customer.created", "created": 1, "data": {"object": {"id": "cus_1"}}}';

sub webhook
{
	my ($dbname) = @_;
	my $session = CreditsTest::Session->new($target, dbname => $dbname);
	my $answer = $session->query(sprintf q(SELECT result FROM credits_stripe_webhook('%s'::text, '%s')),
		$body, stripe_signature($body, time));
	$session->quit;
	return $answer;
}

sub verify_warns
{
	my ($dbname) = @_;
	$target->psql($dbname, 'SELECT credits_verify()', stderr => \my $warning);
	return $warning;
}

$target->safe_psql('postgres', 'CREATE DATABASE stripe; CREATE DATABASE stripe_copy');
create_credits($target, 'stripe');
$target->safe_psql('stripe', sprintf q(SELECT credits_stripe_add_secret('live', '%s')), stripe_secret());
is(webhook('stripe')->{code}, '00000', 'a webhook');
is(verify_warns('stripe'), '', 'no warning as long as the secret is there');
$target->command_ok([ 'pg_dump', '-f', "$dumps/stripe.sql", 'stripe' ], 'pg_dump');
$target->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dumps/stripe.sql", 'stripe_copy' ], 'psql');
is(webhook('stripe_copy')->{code}, '28000', 'without the secret, webhooks are refused');
like(verify_warns('stripe_copy'), qr/WARNING:.*webhook.*refused.*HINT:.*credits_stripe_add_secret/s,
	'of which credits_verify warns');
is($target->safe_psql('stripe_copy', 'SELECT secrets FROM credits.stripe_refusals'), '0', 'and the view says so');
$target->safe_psql('stripe_copy', sprintf q(SELECT credits_stripe_add_secret('live', '%s')), stripe_secret());
is(webhook('stripe_copy')->{code}, '00000', 'with it they are not');
is(verify_warns('stripe_copy'), '', 'and nobody warns');

$target->stop;

# base backup, and recovery to a point in time
my $base = PostgreSQL::Test::Cluster->new('base');
my $past = PostgreSQL::Test::Cluster->new('past');
$source->backup('base');
$source->safe_psql('postgres', q(SELECT credits_deduct('bulk:3', 1, 'before the point')));
$facts = facts_of($source);
$source->safe_psql('postgres', q(SELECT pg_create_restore_point('point')));
$source->safe_psql('postgres', q(SELECT credits_deduct('bulk:3', 100, 'after the point')));
$source->safe_psql('postgres', q(SELECT pg_switch_wal()));
my $latest = facts_of($source);

$past->init_from_backup($source, 'base', has_restoring => 1, standby => 0);
$past->append_conf('postgresql.conf', <<'CONF');
recovery_target_name = 'point'
recovery_target_action = promote
archive_mode = off
CONF
$past->start;
$past->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'recovery did not end';
is_whole($past, 'point in time');
$past->stop;

# all there is in the archive
$base->init_from_backup($source, 'base', has_restoring => 1, standby => 0);
$base->append_conf('postgresql.conf', "archive_mode = off\n");
$base->start;
$base->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'recovery did not end';
$facts = $latest;
is_whole($base, 'base backup and archive');
$base->stop;

$source->stop;
done_testing();
