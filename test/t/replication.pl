# A streaming standby, and logical replication of all tables.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = credits_node('primary', streaming => 'logical');
populate($primary);

# --------------------------------------------------------------------------
# streaming

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->safe_psql('postgres', q(SELECT credits_deduct('bulk:1', 5, 'streamed')));
$primary->wait_for_catchup($standby);

is(facts_of($standby), facts_of($primary), 'the standby has it all, and verify is clean there');
is($standby->safe_psql('postgres', q(SELECT credits_balance('bulk:1'), s.balance, (SELECT count(*) FROM credits_history('bulk:1')))
	. q( FROM credits_summary('bulk:1') AS s)),
	$primary->safe_psql('postgres', q(SELECT credits_balance('bulk:1'), s.balance, (SELECT count(*) FROM credits_history('bulk:1')))
	. q( FROM credits_summary('bulk:1') AS s)), 'reads work');
is($standby->safe_psql('postgres', q(SELECT credits_balance_at('user:1', '2020-01-20 00:00+00'))),
	$primary->safe_psql('postgres', q(SELECT credits_balance_at('user:1', '2020-01-20 00:00+00'))),
	'in the past too');
is($standby->safe_psql('postgres', q(SELECT total, bonus FROM credits_price('bulk:1', 'pack', promotion => 'less'))),
	$primary->safe_psql('postgres', q(SELECT total, bonus FROM credits_price('bulk:1', 'pack', promotion => 'less'))),
	'and prices');

# a pause reaches a session of the standby that has seen that there is none
my $reader = CreditsTest::Session->new($standby);
my $quote = q(SELECT code FROM credits_quote('bulk:1', 'chat'));
is($reader->value($quote), '', 'the service is not paused');
$primary->safe_psql('postgres', q(CALL credits_pause_service('moving')));
$primary->wait_for_catchup($standby);
is($reader->value($quote), 'PT503', 'it is, on the standby, too');
is($reader->value(q(SELECT paused FROM credits_service())), 't', 'and says so');
$primary->safe_psql('postgres', q(SELECT credits_resume_service()));
$primary->wait_for_catchup($standby);
is($reader->value($quote), '', 'nor is it after that');
$reader->quit;

my %writes = (
	credits_open_account => q(SELECT credits_open_account('new')),
	credits_open_account_again => q(SELECT credits_open_account('user:1')),
	credits_allocate => q(SELECT credits_allocate('bulk:1', 1)),
	credits_deduct => q(SELECT credits_deduct('bulk:1', 1)),
	credits_deduct_replay => q(SELECT credits_deduct('bulk:1', 5, 'streamed')),
	credits_try_deduct => q(SELECT credits_try_deduct('bulk:1', 1)),
	credits_refund => q(SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'streamed'))),
	credits_adjust => q(SELECT credits_adjust('bulk:1', 1, 'error')),
	credits_void_grant => q(SELECT credits_void_grant((SELECT max(id) FROM credits.grants WHERE status = 'open'), 'error')),
	credits_erase_text => q(SELECT credits_erase_text(1)),
	credits_open_dispute => q(SELECT credits_open_dispute('bulk:1', (SELECT id FROM credits.transactions WHERE idempotency_key = 'streamed'), 'other')),
	credits_assign_dispute => q(SELECT credits_assign_dispute(1)),
	credits_resolve_dispute => q(SELECT credits_resolve_dispute(1, 1)),
	credits_withdraw_dispute => q(SELECT credits_withdraw_dispute('bulk:1', 1)),
	credits_erase_dispute => q(SELECT credits_erase_dispute(1)),
	credits_erase_person => q(CALL credits_erase_person('bulk:1', 'error')),
	credits_pause_service => q(CALL credits_pause_service('error')),
	credits_resume_service => q(SELECT credits_resume_service()),
	credits_pause_account => q(SELECT credits_pause_account('bulk:1', 'error')),
	credits_resume_account => q(SELECT credits_resume_account('paused:1', 'error')),
	credits_close_account => q(SELECT credits_close_account('bulk:1', 'error')),
	credits_set_alerts => q(SELECT credits_set_alerts('bulk:1', '1')),
	credits_take_deliveries => q(SELECT credits_take_deliveries('email')),
	credits_delivery_sent => q(SELECT credits_delivery_sent(1, 1)),
	credits_delivery_failed => q(SELECT credits_delivery_failed(1, 1, 'error')),
	credits_replay_delivery => q(SELECT credits_replay_delivery(1)),
	credits_rotate_webhook_secret => q(SELECT credits_rotate_webhook_secret('bulk:1', 'https://example.com')),
	credits_revoke_webhook_secret => q(SELECT credits_revoke_webhook_secret('bulk:1', 'https://example.com')),
	credits_add_consumer => q(SELECT credits_add_consumer('consumer')),
	credits_remove_consumer => q(SELECT credits_remove_consumer('consumer')),
	credits_set_activity_rule => q(SELECT credits_set_activity_rule('rule', 'refusals', 5)),
	credits_remove_activity_rule => q(SELECT credits_remove_activity_rule('rule')),
	credits_watch => q(CALL credits_watch()),
	credits_settle => q(CALL credits_settle()),
	credits_hold => q(SELECT credits_hold('bulk:1', 1)),
	credits_capture => q(SELECT credits_capture((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:5'))),
	credits_release => q(SELECT credits_release((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:5'))),
	credits_extend_hold =>
	  q(SELECT credits_extend_hold((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:5'), '200 years')),
	credits_transfer => q(SELECT credits_transfer('bulk:1', 'bulk:2', 1)),
	credits_reverse_transfer =>
	  q(SELECT credits_reverse_transfer((SELECT id FROM credits.transactions WHERE idempotency_key = 'transfer:1'), 'error')),
	credits_add_member => q(SELECT credits_add_member('pool:team', 'bulk:1')),
	credits_change_member => q(SELECT credits_change_member('pool:team', 'member:1', 5)),
	credits_remove_member => q(SELECT credits_remove_member('pool:team', 'member:1')),
	credits_set_limits => q(SELECT credits_set_limits('bulk:1', 5)),
	credits_redeem => q(SELECT credits_redeem('bulk:1', 'GONE')),
	credits_try_redeem => q(SELECT credits_try_redeem('bulk:1', 'GONE')),
	credits_create_promo_code => q(SELECT credits_create_promo_code('NEW', 1)),
	credits_create_promo_codes => q(SELECT credits_create_promo_codes(1, 1)),
	credits_deactivate_promo_code => q(SELECT credits_deactivate_promo_code('WELCOME')),
	credits_create_gift => q(SELECT credits_create_gift('bulk:1', 1)),
	credits_cancel_gift => q(SELECT credits_cancel_gift((SELECT max(code) FROM credits.gifts WHERE status = 'open'))),
	credits_gift_many => q(SELECT credits_gift_many('bulk:1', '{bulk:2}', 1)),
	credits_referral_code => q(SELECT credits_referral_code('bulk:1')),
	credits_set_operation => q(SELECT credits_set_operation('new', 1)),
	credits_retire_operation => q(SELECT credits_retire_operation('chat')),
	credits_charge => q(SELECT credits_charge('bulk:1', 'chat')),
	credits_try_charge => q(SELECT credits_try_charge('bulk:1', 'chat')),
	credits_hold_many => q(SELECT credits_hold_many('[{"account": "bulk:1", "amount": 1}]'::jsonb)),
	credits_capture_many => q(SELECT credits_capture_many('[{"hold_id": 1}]'::jsonb)),
	credits_transfer_many => q(SELECT credits_transfer_many('[{"from_account": "bulk:1", "to_account": "bulk:2", "amount": 1}]'::jsonb)),
	credits_deduct_up_to => q(SELECT credits_deduct_up_to('bulk:1', 1)),
	credits_hold_up_to => q(SELECT credits_hold_up_to('bulk:1', 1)),
	credits_transfer_up_to => q(SELECT credits_transfer_up_to('bulk:1', 'bulk:2', 1)),
	credits_deduct_many => q(SELECT credits_deduct_many(ARRAY[('bulk:1', 1, NULL, NULL, NULL, NULL)]::credits.deduction[])),
	credits_allocate_many =>
	  q(SELECT credits_allocate_many(ARRAY[('bulk:1', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[])),
	credits_open_accounts => q(SELECT credits_open_accounts('credits.accounts', 'name', 'x:')),);
sqlstate_is($standby, $writes{$_}, '25006', "$_ on a standby") foreach sort keys %writes;
sqlstate_is($primary, "SET default_transaction_read_only = on; $writes{$_}", '25006', "$_ in a read-only transaction")
  foreach sort keys %writes;

# promoted, it goes on where it was paused: with nothing, until it is resumed
$primary->safe_psql('postgres', q(CALL credits_pause_service('failover')));
$primary->wait_for_catchup($standby);
$standby->promote;
$primary->safe_psql('postgres', q(SELECT credits_resume_service()));
sqlstate_is($standby, q(SELECT credits_deduct('bulk:1', 6, 'promoted')), 'PT503', 'promoted: still paused');
$standby->safe_psql('postgres', q(SELECT credits_resume_service()));
is($standby->safe_psql('postgres', q(SELECT replayed FROM credits_deduct('bulk:1', 5, 'streamed'))),
	't', 'promoted: a replay');
is($standby->safe_psql('postgres', q(SELECT amount FROM credits_deduct('bulk:1', 6, 'promoted'))),
	'-6', 'promoted: the next deduction');
problems_are($standby, '', 'promoted: verify');
$standby->stop;

# --------------------------------------------------------------------------
# logical

my $subscriber = credits_node('subscriber', streaming => 'logical');
my $session = CreditsTest::Session->new($subscriber);
my $connection = $primary->connstr . ' dbname=postgres';
$primary->safe_psql('postgres',
	'CREATE PUBLICATION credits FOR TABLES IN SCHEMA credits');
# the copy begins while credits are spent
my $spender = CreditsTest::Session->new($primary);
$spender->send(q(
	DO $$
	BEGIN
		FOR n IN 1 .. 2000 LOOP
			PERFORM credits_deduct('bulk:' || 6 + n % 40, 1);
			PERFORM credits_allocate('bulk:' || 6 + n % 40, 1);
			COMMIT;
		END LOOP;
	END $$));
$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION credits CONNECTION '$connection' PUBLICATION credits");
is($spender->receive->{code}, '00000', 'spending meanwhile');
$spender->quit;
$subscriber->wait_for_subscription_sync($primary, 'credits');
$primary->wait_for_catchup('credits');
is(facts_of($subscriber), facts_of($primary), 'the initial copy, made while credits were spent');

# changes of all kinds, among them a crossing, a rollback and an expiry
my $listener = CreditsTest::Session->new($subscriber);
$listener->value('LISTEN low_balance');
$primary->safe_psql('postgres', <<'SQL');
SELECT credits_deduct('bulk:2', 10, 'replicated');
SELECT credits_open_account('crossing', 20);
SELECT credits_deduct('crossing', 15, 'cross');
SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'cross'), 10);
SELECT credits_deduct('crossing', 15);
SELECT credits_try_deduct('crossing', 1);
SELECT credits_allocate('crossing', 100, source => 'trial', expires_at => now() + interval '1 hour');
SELECT credits_pause_account('crossing', 'error');
BEGIN;
SELECT credits_deduct('bulk:2', 500);
ROLLBACK;
SELECT credits_void_grant((SELECT max(id) FROM credits.grants), 'error');
SELECT credits_deduct('bulk:' || n, 1) FROM generate_series(1, 50) AS n;
SELECT credits_hold('bulk:5', 5, 'held', expires_in => '300 years');
SELECT credits_capture((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:5'), 3);
SELECT credits_hold('member:1', 30, expires_in => '1 hour', pool => 'pool:team', mode => 'own_first');
SELECT credits_deduct('member:2', 3, pool => 'pool:top');
SELECT credits_transfer('bulk:3', 'bulk:4', 5);
SELECT credits_change_member('pool:team', 'member:2', 50), credits_remove_member('pool:team', 'member:1');
SELECT credits_redeem('bulk:25', (SELECT max(code) FROM credits.gifts WHERE status = 'open'));
SELECT credits_create_promo_code('LATER', 1), credits_redeem('bulk:26', 'LATER'), credits_set_operation('later', 1);
SELECT credits_set_limits('bulk:4', max_spend => 50), credits_set_limits('member:1', max_spend => 80);
SELECT credits_erase_text((SELECT max(id) FROM credits.transactions WHERE idempotency_key = 'cross'));
SELECT credits_deduct('bulk:30', 10, 'disputed:' || n) FROM generate_series(1, 2) AS n;
SELECT credits_open_dispute('bulk:30', id, 'other', 'wrong') FROM credits.transactions WHERE idempotency_key LIKE 'disputed:%';
SELECT credits_assign_dispute(min(id), 'grace'), credits_resolve_dispute(max(id), 4, 'right') FROM credits.disputes;
SELECT credits_deduct('bulk:31', 10, 'erased', reference => 'erased-reference'), credits_set_contact('bulk:31', 'email', 'erased@example.com');
CALL credits_erase_person('bulk:31', 'asked');
SET credits.test_clock = '2201-01-01 00:00+00';
CALL credits_settle();
UPDATE credits.accounts SET metadata = '{"a": 1}' WHERE name = 'bulk:4';
SQL
$primary->wait_for_catchup('credits');
is(facts_of($subscriber), facts_of($primary), 'later changes');
is($subscriber->safe_psql('postgres', q(SELECT metadata FROM credits.accounts WHERE name = 'bulk:4')),
	'{"a": 1}', 'what an administrator may edit');
is($subscriber->safe_psql('postgres', q(SELECT count(*) FROM credits.transactions WHERE octet_length(salt) = 32
		AND account_id <> ALL (SELECT account_id FROM credits.erasures))), '1', 'a text that was erased');
is($subscriber->safe_psql('postgres', q(SELECT (SELECT count(*) FROM credits.erasures WHERE ended_at IS NOT NULL), (SELECT count(*) FROM credits.contacts WHERE address LIKE 'erased%'),
		(SELECT count(*) FROM credits.log WHERE reference = 'erased-reference'))), '1|0|0', 'and a person');
# the apply worker tells sessions of a pause
is($session->value(q(SELECT code FROM credits_quote('bulk:2', 'chat'))), '', 'no pause on the subscriber');
$primary->safe_psql('postgres', q(CALL credits_pause_service('moving')));
$primary->wait_for_catchup('credits');
is($session->value(q(SELECT code FROM credits_quote('bulk:2', 'chat'))), 'PT503', 'a pause that is replicated');
$primary->safe_psql('postgres', q(SELECT credits_resume_service()));
$primary->wait_for_catchup('credits');
is($session->value(q(SELECT code FROM credits_quote('bulk:2', 'chat'))), '', 'and its end');
is(scalar(@{ $listener->query('SELECT 1')->{notifications} }), 0, 'alerts go out where the credits were spent, not here');
$listener->quit;

# the guard does not open for others who come as a replica
foreach my $sql (
	q(UPDATE credits.accounts SET balance = 1000 WHERE name = 'bulk:1'),
	q(UPDATE credits.grants SET remaining = amount),
	q(UPDATE credits.log_default SET amount = 0),
	q(DELETE FROM credits.accounts),
	q(DELETE FROM credits.grants),
	q(DELETE FROM credits.log_default),
	q(TRUNCATE credits.log CASCADE),
	q(UPDATE credits.hold_states SET released = reserved),
	q(DELETE FROM credits.hold_states))
{
	is($session->query($sql)->{code}, '42501', "on the subscriber: $sql");
	is($session->query("SET session_replication_role = replica; $sql")->{code}, '42501',
		"as a replica: $sql");
	$session->value('RESET session_replication_role');
}

# Failover: the subscriber goes on by itself.
my $last = $subscriber->safe_psql('postgres', 'SELECT max(id) FROM credits.transactions');
$primary->safe_psql('postgres', 'SELECT pg_current_wal_lsn()');
$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION credits');
$session->value('SELECT credits_sync_sequences()');
is($session->value(q(SELECT replayed FROM credits_deduct('bulk:2', 10, 'replicated'))), 't', 'failover: a replay');
my ($id, $amount) = split /\|/, $session->value(q(SELECT transaction_id, amount FROM credits_deduct('bulk:2', 3, 'failover')));
is($amount, -3, 'failover: the next deduction');
cmp_ok($id, '>', $last, 'failover: with an id of its own');
is($session->value(q(SELECT kind, amount, held FROM credits_capture(
	(SELECT id FROM credits.transactions WHERE idempotency_key = 'held')))), 'capture|0|0', 'failover: what was held before');
is($session->value(q(SELECT balance FROM credits_open_account('after', 9))), '9', 'failover: the next account');
$session->value(q(SELECT credits_allocate('after', 9)));
is($session->value(q(SELECT ok FROM credits_try_deduct('after', 100))), 'f', 'failover: the next event');
is($session->value(q(SELECT credits_create_promo_code('AFTER', 1))), 'AFTER', 'failover: the next code');
is($session->query(q(SELECT credits_set_operation('after', 1)))->{code}, '00000', 'failover: the next price');
is($session->value(q(SELECT d.status FROM credits.disputes AS o, credits_resolve_dispute(o.id, 10) AS d WHERE o.ended_at IS NULL)), 'resolved', 'failover: a dispute');
like($session->value(q(CALL credits_erase_person('bulk:32', 'asked'))), qr/\|t$/, 'failover: the next person');
problems_are($subscriber, '', 'failover: verify');
$session->quit;

# Sequences are advanced beside those who draw from them: first all that is in the
# way is that they are called, then they are behind, too.
$session = CreditsTest::Session->new($subscriber);
foreach my $behind (0, 1)
{
	my @ids = split /\n/, $session->value(q(SELECT 'credits.' || relname FROM pg_class
		WHERE relnamespace = 'credits'::regnamespace AND relkind = 'S'));
	if ($behind)
	{
		$session->value("SELECT setval('$_', 1, false)") foreach @ids;
	}
	my @writers = map { CreditsTest::Session->new($subscriber) } 1 .. 4;
	my @dbas = map { CreditsTest::Session->new($subscriber) } 1 .. 2;
	my (%failed, %begun);
	my ($synced, $calls) = (0, 0);
	$_->send('SELECT credits_sync_sequences()') foreach @dbas;
	$_->send("SELECT credits_allocate('bulk:' || n, 1) FROM generate_series(1, 20) AS n") foreach @writers;
	while ($synced < 300)
	{
		foreach my $ready (wait_any(@writers, @dbas))
		{
			my $answer = $ready->take;
			if (grep { $_ == $ready } @dbas)
			{
				die "$answer->{code} @{$answer->{messages}}" if $answer->{code} ne '00000';
				$synced++;
				$ready->send('SELECT credits_sync_sequences()');
				next;
			}
			$calls++;
			# what began before may have drawn from what was behind
			$failed{ $answer->{code} }++ if $answer->{code} ne '00000' && ($begun{$ready} || !$behind);
			$begun{$ready} = $synced;
			$ready->send("SELECT credits_allocate('bulk:' || n, 1) FROM generate_series(1, 20) AS n");
		}
	}
	$_->receive foreach @writers, @dbas;
	$_->quit foreach @writers, @dbas;
	is_deeply(\%failed, {}, ($behind ? 'behind' : 'ahead') . ": no id is drawn twice in $calls calls beside credits_sync_sequences");
}
$session->quit;
problems_are($subscriber, '', 'sequences: verify');

# a database in which nothing has happened yet
my $empty = CreditsTest::Session->new($subscriber);
$empty->value('CREATE DATABASE empty');
$empty->quit;
create_credits($subscriber, 'empty');
$subscriber->safe_psql('empty', 'SELECT credits_sync_sequences()');
is($subscriber->safe_psql('empty', q(SELECT transaction_id FROM credits_open_account('a', 1))), '1',
	'credits_sync_sequences in an empty database');

# --------------------------------------------------------------------------
# an application's table is replicated, and a trigger on the copy spends

$primary->safe_psql('postgres', 'CREATE TABLE orders (id bigint PRIMARY KEY, cost bigint)');
$primary->safe_psql('postgres', 'CREATE PUBLICATION orders FOR TABLE orders');
$subscriber->safe_psql('postgres', 'CREATE DATABASE local');
create_credits($subscriber, 'local');
$subscriber->safe_psql('local', <<"SQL");
SELECT credits_open_account('local', 50);
CREATE TABLE orders (id bigint PRIMARY KEY, cost bigint);
CREATE FUNCTION charge() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	PERFORM public.credits_deduct('local', NEW.cost, 'order:' || NEW.id);
	RETURN NULL;
END \$\$;
CREATE TRIGGER charge AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION charge();
ALTER TABLE orders ENABLE ALWAYS TRIGGER charge;
CREATE SUBSCRIPTION orders CONNECTION '$connection' PUBLICATION orders;
SQL
$subscriber->wait_for_subscription_sync($primary, 'orders', 'local');
$listener = CreditsTest::Session->new($subscriber, dbname => 'local');
$listener->value('LISTEN low_balance');
$primary->safe_psql('postgres', 'INSERT INTO orders VALUES (1, 15), (2, 30)');
$primary->wait_for_catchup('orders');
is($listener->value(q(SELECT balance, transaction_count FROM credits.accounts)), '5|3', 'a spend by the apply worker');
is($listener->value(q(SELECT count(*) FROM credits.events WHERE kind = 'low_balance')), '1', 'which alerts');
$listener->quit;
problems_are($subscriber, '', 'which is logged', 'local');
$subscriber->safe_psql('local', 'DROP SUBSCRIPTION orders');

$_->stop foreach $subscriber, $primary;
done_testing();
