# Erasing a person: of what was unique to her nothing is left in a dump, whatever place it
# had, and what belongs to others is as it was.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsStripe;
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# a partition of the log has room for a few rows
my $node = credits_node('privacy', conf => <<'CONF');
credits.partition_rows = 20
credits.partitions_ahead = 3
credits.key_retention = '1 day'
credits.refund_window = '1 day'
credits.referral_credits = 5
credits.referrer_credits = 5
CONF
my $session = CreditsTest::Session->new($node, verbosity => 'default');

sub value { return $session->value(@_) }

# A text that is nowhere else.  Whatever holds one is to be exported, and to be erased.
my $number = 0;
my %markers;

sub mark
{
	my ($place) = @_;
	my $marker = sprintf('zqx%03dzqx', ++$number);
	$markers{$marker} = $place;
	return $marker;
}

# Which markers are in a text, and where they were put.
sub found
{
	my ($text) = @_;
	my %seen = map { $_ => 1 } $text =~ /zqx\d+zqx/g;
	return join ', ', map { $markers{$_} } sort keys %seen;
}

sub dump_of
{
	my ($name) = @_;
	my $file = $node->basedir . "/$name.sql";
	$node->command_ok([ 'pg_dump', '-f', $file, '-d', $node->connstr('postgres') ], "a dump: $name");
	return slurp_file($file);
}

sub stripe
{
	my ($type, $object) = @_;
	my $now = 1798761600;
	return value("SELECT " . stripe_call(stripe_event($type, $object, created => $now), $now));
}

# --------------------------------------------------------------------------
# somebody who is in every place, and others who deal with her

my $name = 'person:' . mark('name');
value(q(SET credits.test_clock = '2026-01-01 00:00:00+00'));
value(q(CALL credits_partition_log()));
value(sprintf(q(SELECT credits_open_account('%s', 1000, metadata => '{"%s": "%s"}')),
		$name, mark('key in metadata of the account'), mark('metadata of the account')));
value(q(SELECT credits_open_account(a, 1000, metadata => '{"other": true}')
	FROM unnest('{other,team,seller,friend}'::text[]) AS a));
# a name that begins like hers is another's
value(qq(SELECT credits_open_account('${name}9', 10)));

value("SET credits.actor = '" . mark('actor') . "'");
value(sprintf(q(SELECT credits_deduct('%s', 10, '%s', 'chat', '%s', '{"a": "%s"}')),
		$name, mark('key'), mark('reference'), mark('metadata')));
value(sprintf(q(SELECT credits_adjust('%s', 5, '%s')), $name, mark('reason')));
my $hold = value(sprintf(q(SELECT transaction_id FROM credits_hold('%s', 20, '%s', reference => '%s', expires_in => '10 years')),
		$name, mark('key of a hold'), mark('reference of a hold')));
value(sprintf(q(SELECT credits_capture(%s, 5, '%s', final => false)), $hold, mark('key of a capture')));
value(sprintf(q(SELECT credits_transfer('%s', 'other', 7, '%s', '%s', '{"b": "%s"}')),
		$name, mark('key of a transfer'), mark('reason of a transfer'), mark('metadata of a transfer')));
my $transfer = value(sprintf(q(SELECT transaction_id FROM credits_transfer('%s', 'friend', 7, reason => '%s')), $name, mark('reason of a transfer')));
value(sprintf(q(SELECT credits_reverse_transfer(%s, '%s')), $transfer, mark('reason of a reversal')));
value(sprintf(q(SELECT credits_gift_many('%s', '{other,friend}', 2, message => '%s')), $name, mark('message of many gifts')));
my $code = value(sprintf(q(SELECT code FROM credits_create_gift('%s', 3, '%s', '{"c": "%s"}', '%s')),
		$name, mark('key of a gift'), mark('metadata of a gift'), mark('message of a gift')));
value(sprintf(q(SELECT credits_create_gift('%s', 3, message => '%s')), $name, mark('message of a gift that is open')));
# as a member of a pool, with a key and without
value(qq(SET credits.actor = 'admin'; SELECT credits_add_member('team', '$name'), credits_add_member('$name', 'seller');));
value("SET credits.actor = '" . mark('actor in a pool') . "'");
value(sprintf(q(SELECT credits_deduct('%s', 2, '%s', reference => '%s', pool => 'team')), $name, mark('key of a pool'), mark('reference of a pool')));
value(sprintf(q(SELECT credits_deduct('%s', 2, reference => '%s', pool => 'team')), $name, mark('reference of a pool')));
# she redeems a gift and a referral code: the rows of the others have her actor
my $friendly = value(q(SET credits.actor = 'friend'; SELECT code FROM credits_create_gift('friend', 9, message => 'from a friend')));
my $referral = value(q(SELECT credits_referral_code('seller')));
value("SET credits.actor = '" . mark('actor of redemptions') . "'");
value(sprintf(q(SELECT credits_redeem('%s', '%s', '%s', '{"d": "%s"}')), $name, $_, mark('key of a redemption'), mark('metadata of a redemption')))
  foreach $friendly, $referral;
# a friend redeems hers, with texts of his own
value(q(SET credits.actor = 'friend'));
value(qq(SELECT credits_redeem('friend', '$code', 'own-key', '{"own": "metadata"}')));
$code = value(qq(SELECT code FROM credits_create_gift('$name', 3)));
value(qq(SELECT credits_redeem('other', '$code', 'gift-key', '{"gift": "metadata"}')));
value(qq(SELECT credits_transfer('other', '$name', 1, 'other-key', 'other-reason')));

# what the staff does, and what is done about spends from a pool, which is in the pool's rows
value("SET credits.actor = '" . mark('actor of what follows') . "'");
value(sprintf(q(SELECT credits_allocate('%s', 50, '%s', '%s', '%s', '{"g": "%s"}')),
		$name, mark('key of an allocation'), mark('reference of an allocation'), mark('reason of an allocation'), mark('metadata of an allocation')));
my $grant = value(qq(SELECT max(id) FROM credits.grants WHERE account_id = credits.account_id('$name')));
value(sprintf(q(SELECT credits_void_grant(%s, '%s', '%s')), $grant, mark('reason of a void'), mark('key of a void')));
value(sprintf(q(SELECT credits_set_alerts('%s', levels => '10', base => 100, reason => '%s')), $name, mark('reason of alerts')));
value(sprintf(q(SELECT credits_set_limits('%s', max_spend => 1000000, timezone => 'Europe/Vienna', reason => '%s')), $name, mark('reason of limits')));
value(sprintf(q(SELECT credits_pause_account('%s', '%s')), $name, mark('reason of a pause')));
value(sprintf(q(SELECT credits_resume_account('%s', '%s')), $name, mark('reason of a resumption')));
my $pooled = value(sprintf(q(SELECT transaction_id FROM credits_hold('%s', 20, '%s', 'chat', '%s', '{"h": "%s"}', '10 years', 'team')),
		$name, mark('key of a hold of a pool'), mark('reference of a hold of a pool'), mark('metadata of a hold of a pool')));
value(sprintf(q(SELECT credits_extend_hold(%s, '11 years', '%s', '%s')), $pooled, mark('key of an extension'), $name));
my $captured = value(sprintf(q(SELECT transaction_id FROM credits_capture(%s, 5, '%s', '%s', '{"i": "%s"}', final => false)),
		$pooled, mark('key of a capture of a pool'), mark('reason of a capture of a pool'), mark('metadata of a capture of a pool')));
value(sprintf(q(SELECT credits_release(%s, '%s', '%s', '{"j": "%s"}', '%s')),
		$pooled, mark('key of a release of a pool'), mark('reason of a release of a pool'), mark('metadata of a release of a pool'), $name));
value(sprintf(q(SELECT credits_refund(%s, 1, '%s', '%s', '{"k": "%s"}')), $captured,
		mark('key of a refund of a pool'), mark('reason of a refund of a pool'), mark('metadata of a refund of a pool')));
my $split = value(sprintf(q(SELECT transaction_id FROM credits_deduct('%s', 1200, reference => '%s', pool => 'team', mode => 'own_first')), $name, mark('reference of a split spend')));
value(sprintf(q(SELECT credits_refund(%s, 300, reason => '%s')), $split, mark('reason of a refund of a split spend')));
value(sprintf(q(SELECT credits_refund(%s, reason => '%s')), $split, mark('reason of another refund of a split spend')));
value(sprintf(q(SELECT credits_transfer_many('[{"from_account": "%s", "to_account": "other", "amount": 2, "idempotency_key": "%s", "reason": "%s", "metadata": {"l": "%s"}}]'::jsonb)),
		$name, mark('key of a transfer of many'), mark('reason of a transfer of many'), mark('metadata of a transfer of many')));
value(sprintf(q(SELECT credits_deduct_many('[{"account": "%s", "amount": 2, "idempotency_key": "%s", "reference": "%s", "metadata": {"m": "%s"}}]'::jsonb)),
		$name, mark('key of many'), mark('reference of one of many'), mark('metadata of many')));
my $canceled = value(qq(SELECT code FROM credits_create_gift('$name', 3)));
value(sprintf(q(SELECT credits_cancel_gift('%s', '%s', '%s', '{"n": "%s"}')),
		$canceled, mark('key of a canceled gift'), mark('reason of a canceled gift'), mark('metadata of a canceled gift')));
value(sprintf(q(SELECT credits_try_redeem('%s', '%s', '%s', '{"o": "%s"}')), $name, 'NOSUCH', 'lost', '1'));

# disputes: about a spend of hers, about one from a pool, and one that is over
my @disputed = map { value(qq(SELECT transaction_id FROM credits_deduct('$name', 3$_))) } '', '', ", pool => 'team'";
my @disputes = map {
	value(sprintf(q(SELECT dispute_id FROM credits_open_dispute('%s', %s, 'other', '%s', 2, '%s')), $name, $_, mark('description of a dispute'), mark('key of a dispute')))
} @disputed;
value(q(SET credits.actor = 'admin'));
value(sprintf(q(SELECT credits_resolve_dispute(%s, 1, '%s')), $_, mark('note of a dispute'))) foreach @disputes[ 1, 2 ];

# messages
value(q(SELECT count(*) FROM credits_take_deliveries('email', 100)));
value(sprintf(q(SELECT credits_set_contact('%s', 'email', '%s@example.org', true, 'de'), credits_set_contact('%s', 'webhook', 'https://example.org/%s', true),
	credits_set_preference('%s', 'deduction_refused', 'email', true), credits_set_quiet_hours('%s', '22:00', '06:00', 'Europe/Vienna')),
		$name, mark('mail address'), $name, mark('webhook'), $name, $name));
value(q(SELECT credits_set_contact('other', 'email', 'other@example.org', true)));
value(sprintf(q(SELECT credits_try_deduct(a, 100000, operation => 'chat', reference => r) FROM (VALUES ('%s', '%s'), ('other', 'other-reference')) AS v (a, r)),
		$name, mark('reference of a refusal')));
# she is a pool, too, and a member of hers is refused
value(qq(SELECT credits_try_deduct('seller', 100000, pool => '$name')));
# a delivery, and what the mail server has said
value(q(SELECT count(*) FROM credits_take_deliveries('email', 100)));
cmp_ok(value(qq(SELECT count(*) FROM credits.deliveries WHERE account_id = credits.account_id('$name'))), '>', 0, 'she is told');
value(sprintf(q(UPDATE credits.deliveries SET error = '550 no mailbox %s' WHERE account_id = credits.account_id('%s')), mark('error of a delivery'), $name));
value(sprintf(q(SELECT credits_try_hold('%s', 100000, reference => '%s', pool => 'team')), $name, mark('reference of a refused hold of a pool')));

# enough rows for partitions that can leave the log, and a year later they do
value(qq(SELECT credits_deduct('$name', 1, reference => 'zqx900zqx') FROM generate_series(1, 30)));
$markers{'zqx900zqx'} = 'reference of many';
value(q(SELECT credits_deduct('other', 1, 'key-' || n, reference => 'theirs') FROM generate_series(1, 40) AS n));
value(q(SET credits.test_clock = '2027-01-01 00:00:00+00'));
value(q(CALL credits_partition_log()));
value(q(SELECT credits_deduct('friend', 1, 'still-known')));
value(q(SELECT credits_deduct(a, 1) FROM unnest('{other,friend,team,seller}'::text[]) AS a, generate_series(1, 15)));
value(q(CALL credits_renew()));
value(q(CALL credits_settle()));
value(q(SELECT count(*) FROM credits_take_deliveries('email', 100)));
value(q(CALL credits_archive('2026-06-01')));
cmp_ok(value(q(SELECT count(*) FROM credits.archived_log)), '>', 20, 'rows have left the log');
cmp_ok(value(qq(SELECT count(*) FROM credits.log WHERE account_id = credits.account_id('$name'))), '>', 0, 'and some are in it');

# purchases and subscriptions
value(q(SELECT credits_set_package('starter', 100, 9.99, 'EUR'), credits_set_plan('basic', 50), credits_set_plan('paid', 50, price => 10, currency => 'EUR')));
my $purchase = value(sprintf(q(SELECT purchase_id FROM credits_start_purchase('%s', 'starter', idempotency_key => '%s', metadata => '{"e": "%s"}')),
		$name, mark('key of a purchase'), mark('metadata of a purchase')));
value(sprintf(q(SELECT credits_complete_purchase(%s, 'erased:%s', 9.99, 'EUR')), $purchase, mark('reference of a payment')));
value(sprintf(q(SELECT credits_refund_purchase(%s, money => 1, reference => '%s', reason => '%s')), $purchase, mark('reference of a refund'), mark('reason of a refund')));
value(sprintf(q(SELECT credits_open_chargeback(%s, '%s', 1, '%s')), $purchase, mark('reference of a chargeback'), mark('reason of a chargeback')));
# a job has failed on her
value(sprintf(q(INSERT INTO credits.job_runs (id, job, role, started_at, updated_at, ended_at, done, failed, failed_id, error_code, error, pid, backend_start, statement_start)
	VALUES (nextval('credits.job_runs_id_seq'), 'settle', 'me', now(), now(), now(), 0, 1, 1, '23505', 'account "%s" could not be settled', 1, now(), now())), $name));
my $failed = value(qq(SELECT purchase_id FROM credits_start_purchase('$name', 'starter')));
value(sprintf(q(SELECT credits_fail_purchase(%s, '%s')), $failed, mark('reason of a failure')));
my $subscription = value(sprintf(q(SELECT subscription_id FROM credits_subscribe('%s', 'basic', '%s', '{"f": "%s"}', external_id => '%s')),
		$name, mark('key of a subscription'), mark('metadata of a subscription'), mark('external id')));
my $paid = value(sprintf(q(SELECT subscription_id FROM credits_subscribe('%s', 'paid', collection => 'payment')), $name));
value(sprintf(q(SELECT credits_set_invoice(%s, '%s', '[{"plan": "paid", "starts_at": "2027-01-01 00:00+00", "ends_at": "2027-02-01 00:00+00", "credits": 50, "price": 10, "currency": "EUR"}]')), $paid, mark('reference of an invoice')));
my $priced = value(qq(SELECT subscription_id FROM credits_subscribe('$name', 'paid')));
value(sprintf(q(SELECT credits_refund_period(%s, 1, reference => '%s', reason => '%s')), $priced, mark('reference of a period'), mark('reason of a period')));

# Stripe: a customer, a checkout for a purchase and a subscription
value(sprintf(q(SELECT credits_stripe_add_secret('test', '%s')), stripe_secret()));
my $customer = 'cus_' . mark('customer of Stripe');
stripe('customer.created', { id => $customer, object => 'customer', email => mark('mail address at Stripe') . '@example.org', name => mark('name at Stripe') });
my $bought = value(qq(SELECT purchase_id FROM credits_start_purchase('$name', 'starter')));
stripe('checkout.session.completed', stripe_session(id => 'cs_1', payment_intent => 'pi_1', payment_status => 'paid', amount_total => 999, currency => 'eur',
		client_reference_id => "purchase_$bought", customer => $customer, metadata => { account => $name },
		customer_details => { email => mark('mail address in a session') . '@example.org' }));
is(value(qq(SELECT status FROM credits.purchases WHERE id = $bought)), 'completed', 'bought at Stripe');
stripe('charge.succeeded', { id => 'ch_1', object => 'charge', customer => $customer, payment_intent => 'pi_1', billing_details => { name => mark('name in a charge') } });
value(q(SELECT credits_stripe_set_price('price_basic', 'basic')));
my @month = (1798761600, 1801440000);
stripe('customer.subscription.created', stripe_subscription('new', id => 'sub_1', customer => $customer, price => 'price_basic', status => 'active',
		period => \@month, metadata => { account => $name }, description => mark('description of a subscription')));
stripe('checkout.session.completed', stripe_session(id => 'cs_2', payment_intent => 'pi_2', payment_status => 'paid', amount_total => 5, currency => 'eur',
		client_reference_id => mark('client reference'), customer => $customer));
# one that she has not paid yet
my $unpaid = value(qq(SELECT purchase_id FROM credits_start_purchase('$name', 'starter')));
# another customer
stripe('customer.created', { id => 'cus_other', object => 'customer', email => 'other@example.org' });
value(q(SELECT credits_stripe_set_customer('cus_other', 'other')));
value(sprintf(q(INSERT INTO credits.stripe_dismissals VALUES ('pi_2', 'what', '%s', now(), 'me')), mark('reason of a dismissal')));

# --------------------------------------------------------------------------
# before

problems_are($node, '', 'clean before');
my $before = dump_of('before');
my @missing = grep { $before !~ /$_/ } sort keys %markers;
is(join(', ', map { $markers{$_} } @missing), '', 'all of it is in a dump');
my $export = value(qq(SELECT string_agg(item::text, ' ') FROM credits_export_person('$name')));
@missing = grep { $export !~ /$_/ } sort keys %markers;
is(join(', ', map { $markers{$_} } @missing), '', 'all of it is exported');
is(value(qq(SELECT (SELECT count(*) FROM credits_export_person('$name')) = sum(jsonb_array_length(v))
	FROM jsonb_each(credits_export_person_json('$name')) AS e (k, v))), 't', 'as one document, too');
my @others = (qw(other team seller friend), "${name}9");
value(qq(CREATE TEMP TABLE theirs AS SELECT a AS account, e.* FROM unnest('{@{[join ',', @others]}}'::text[]) AS a, credits_export_person(a) AS e));
my $sums = value(q(SELECT sum(balance), sum(held), sum(granted), sum(spent), sum(debt) FROM credits.accounts));
my $digest = value(q(SELECT string_agg(encode(hash, 'hex'), '' ORDER BY id) FROM credits.all_transactions));

# --------------------------------------------------------------------------
# erased

my $id = value(qq(SELECT credits.account_id('$name')));
like(value(qq(CALL credits_erase_person('$name', 'asked by letter'))), qr/^erased:$id\|\d+\|t$/, 'erased');
problems_are($node, '', 'clean after');
is(value(q(SELECT string_agg(problem, ' ') FROM credits_verify(archived => true))), '', 'the archive, too');
is(found(dump_of('after') =~ s/\Q${name}9\E//gr), '', 'nothing is left in a dump');
is(found(value(qq(SELECT string_agg(item::text, ' ') FROM credits_export_person('erased:$id')))), '', 'nor in an export');
is(value(q(SELECT sum(balance), sum(held), sum(granted), sum(spent), sum(debt) FROM credits.accounts)), $sums, 'the sums stay');
like(value(q(SELECT string_agg(encode(hash, 'hex'), '' ORDER BY id) FROM credits.all_transactions)), qr/^$digest\w{64}$/, 'and the chain, with one row more');

# what belongs to others is as it was, except where her name or a text of hers was
value(qq(CREATE TEMP TABLE now AS SELECT a AS account, e.* FROM unnest('{@{[join ',', @others]}}'::text[]) AS a, credits_export_person(a) AS e
	WHERE e.item ->> 'kind' <> 'text_erased' OR e.place <> 'events'));
cmp_ok(value(q(SELECT count(*) FROM theirs)), '>', 100, 'others have a lot');
is(value(qq(SELECT count(*) FROM (SELECT * FROM theirs WHERE replace(item::text, '${name}9', '') !~ 'zqx' AND item ->> 'reason' IS DISTINCT FROM 'dispute ' || $disputes[2] EXCEPT SELECT * FROM now) AS x)), '0',
	'what had nothing of hers is as it was');
is(value(qq(SELECT count(*) FROM (
	SELECT account, place, replace((item - '{reason,actor,metadata,idempotency_key,reference,request}'::text[])::text, '"$name', '"erased:$id') FROM theirs
	EXCEPT ALL SELECT account, place, replace((item - '{reason,actor,metadata,idempotency_key,reference,request}'::text[])::text, '"$name', '"erased:$id') FROM now) AS x)), '0',
	'and what had is but for the texts');
is(value(q(SELECT (SELECT count(*) FROM theirs) = (SELECT count(*) FROM now))), 't', 'nothing was added');
is(value(q(SELECT metadata FROM credits.all_transactions WHERE idempotency_key = 'gift-key')), '{"gift": "metadata"}',
	'texts of someone who has redeemed a gift of hers');
is(value(q(SELECT count(*) FROM credits.all_transactions WHERE idempotency_key = 'own-key')), '0', 'unless her message was among them');
is(value(q(SELECT replayed FROM credits_deduct('friend', 1, 'still-known'))), 't', 'keys of others answer');

# --------------------------------------------------------------------------
# afterwards

sqlstate_is($node, "SELECT credits_balance('$name')", 'PT404', 'the name is unknown');
sqlstate_is($node, "SELECT credits_deduct('erased:$id', 1)", 'PT423', 'the account is closed');
is(value(qq(CALL credits_erase_person('erased:$id', 'again'))), "erased:$id|0|t", 'again, nothing is to be done');
is(value(q(SELECT string_agg(kind || detail::text, '' ORDER BY id) FROM credits.events WHERE account_id = ) . $id . q( AND kind <> 'text_erased')),
	qq(person_erased{"account": "erased:$id"}), 'an event says so');

# what Stripe still sends counts, but nothing of it names her
stripe('customer.updated', { id => $customer, object => 'customer', email => mark('a new address') . '@example.org' });
stripe('customer.subscription.deleted', stripe_subscription('new', id => 'sub_1', customer => $customer, price => 'price_basic', status => 'canceled',
		period => \@month, metadata => { account => $name }, description => mark('a new description')));
stripe('charge.refunded', stripe_charge(id => 'ch_1', payment_intent => 'pi_1', amount_refunded => 999, currency => 'eur', billing_details => { name => mark('a new name') }));
is(found(dump_of('later') =~ s/\Q${name}9\E//gr), '', 'later events leave nothing either');
is(value(q(SELECT count(*) FROM credits.stripe_events WHERE type = 'charge.refunded' AND facts ->> 'refunded' = '999')), '1', 'but what counts');
# what she had begun is paid by a customer that nobody knew
stripe('checkout.session.completed', stripe_session(id => 'cs_4', payment_intent => 'pi_4', payment_status => 'paid', amount_total => 999, currency => 'eur',
		client_reference_id => "purchase_$unpaid", customer => 'cus_' . mark('customer that pays late'), customer_details => { email => mark('mail address of who pays late') . '@example.org' }));
is(found(dump_of('paid late') =~ s/\Q${name}9\E//gr), '', 'nor does a payment for what was begun before');
# she comes back, and pays with the same customer
value(qq(SELECT credits_open_account('back')));
$bought = value(q(SELECT purchase_id FROM credits_start_purchase('back', 'starter')));
stripe('checkout.session.completed', stripe_session(id => 'cs_3', payment_intent => 'pi_3', payment_status => 'paid', amount_total => 999, currency => 'eur',
		client_reference_id => "purchase_$bought", customer => $customer));
is(value(qq(SELECT status FROM credits.purchases WHERE id = $bought)), 'completed', 'who comes back can buy');
# and is erased again, with the customer that she is at Stripe
value("SELECT credits_stripe_set_customer('$customer', 'back')");
like(value(q(CALL credits_erase_person('back', 'asked again'))), qr/\|t$/, 'a customer can be erased twice');
is(found(dump_of('twice') =~ s/\Q${name}9\E//gr), '', 'and nothing is left');
# somebody whose name is a word that events have, too
value(q(SELECT credits_open_account(a) FROM unnest('{account,chat,PT402}'::text[]) AS a));
value(q(SELECT credits_add_member('account', 'seller'), credits_try_deduct('seller', 100000, operation => 'chat', pool => 'account')));
my $worded = q(SELECT detail FROM credits.events WHERE detail ->> 'operation' = 'chat' AND detail ? 'pool' ORDER BY id DESC LIMIT 1);
my $detail = value($worded);
value(qq(CALL credits_erase_person('$_', 'asked'))) foreach qw(chat PT402);
is(value($worded), $detail, 'a word that is no account stays in the events of others');
my $worded_id = value(q(SELECT credits.account_id('account')));
value(q(CALL credits_erase_person('account', 'asked')));
is(value($worded), $detail =~ s/("pool": "|account \\")account/$1erased:$worded_id/gr, 'and the name of a pool goes, be it such a word');
problems_are($node, '', 'clean at the end');

# --------------------------------------------------------------------------
# cut short at any point, and continued: by the same call, and by the job

value(q(SELECT credits_open_account('cut:' || n, 1000) FROM generate_series(1, 2) AS n));
value(qq(SELECT credits_deduct('cut:' || n, 1, 'cut ' || i, reference => 'cut-short') FROM generate_series(1, 2) AS n, generate_series(1, 60) AS i));
value(q(SELECT credits_set_contact('cut:' || n, 'email', 'cut-short@example.org') FROM generate_series(1, 2) AS n));
foreach my $n (1, 2)
{
	my $cut = value("SELECT credits.account_id('cut:$n')");
	# the trigger fails at the 30th row of the log that is erased: what was done before stays
	$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION cut_short() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF (SELECT count(*) FROM credits.log AS l WHERE l.account_id = NEW.account_id AND length(l.salt) = 32) > 30 THEN
		PERFORM pg_terminate_backend(pg_backend_pid());
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER cut_short AFTER UPDATE ON credits.log FOR EACH ROW EXECUTE FUNCTION cut_short();
SQL
	my $stderr;
	$node->psql('postgres', "CALL credits_erase_person('cut:$n', 'asked', 7)", stderr => \$stderr);
	like($stderr, qr/terminating connection/, 'cut short');
	$node->safe_psql('postgres', 'DROP TRIGGER cut_short ON credits.log; DROP FUNCTION cut_short');
	is(value("SELECT ended_at IS NULL AND done > 0 AND name = 'cut:$n' FROM credits.erasures WHERE account_id = $cut"), 't', 'something is done, and known');
	cmp_ok(value("SELECT count(*) FROM credits.log WHERE account_id = $cut AND reference = 'cut-short'"), '>', 20, 'and something is left');
	problems_are($node, '', 'clean meanwhile');
	if ($n == 1)
	{
		like(value("CALL credits_erase_person('cut:$n', 'asked', 7)"), qr/^erased:$cut\|\d+\|t$/, 'continued by its name');
	}
	else
	{
		value('CALL credits_housekeep()');
		is(value("SELECT ended_at IS NOT NULL FROM credits.erasures WHERE account_id = $cut"), 't', 'continued by the job');
	}
	is(value("SELECT count(*) FROM credits_export_person('erased:$cut') WHERE item::text LIKE '%cut%'"), '0', 'nothing is left');
}
problems_are($node, '', 'clean when all were continued');

$session->quit;
done_testing();
