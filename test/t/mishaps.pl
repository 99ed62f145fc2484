# What owners of the tables and odd clients do to the extension by mistake:
# indexes of other kinds, altered columns, triggers that call back too early,
# bytes that are no text.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('mishaps');
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE app LOGIN IN ROLE credits_app;
SELECT credits_open_account('a', 1000), credits_open_account('b', 1000), credits_open_account('pool', 1000);
SELECT credits_add_member('pool', 'b', 100), credits_set_limits('b', max_spend => 500);
SQL
my $log_start = -s $node->logfile;
my $session = CreditsTest::Session->new($node);

sub answer
{
	my ($sql) = @_;
	my $answer = $session->query($sql);
	return $answer->{code} eq '00000' ? $answer->{rows}[0] // '' : $answer->{code};
}

# What an index of these kinds keeps between inserts points into the relation
# cache.  Change the index alone, reuse the memory, and go on in one session.
my %indexes = (
	brin => [ 'USING brin (created_at)', 'autosummarize = on' ],
	gin => [ 'USING gin (metadata)', 'gin_pending_list_limit = 256' ]);
foreach my $kind (sort keys %indexes)
{
	my ($definition, $option) = @{ $indexes{$kind} };
	answer("CREATE INDEX my_$kind ON credits.log_default $definition");
	answer(q(SELECT balance FROM credits_deduct('a', 1, metadata => '{"x": 1}'))) for 1 .. 2;
	$node->safe_psql('postgres', "ALTER INDEX credits.my_$kind SET ($option)");
	answer("SELECT count(*) FROM $_")
	  for qw(pg_aggregate pg_ts_config pg_ts_dict pg_conversion pg_opfamily pg_language);
	is(answer(q(SELECT count(credits_deduct('a', 1, metadata => '{"x": 2}')) FROM generate_series(1, 50))),
		'50', "$kind index on the log, changed meanwhile");
}
is(answer('SELECT count(*) FROM credits.transactions WHERE metadata @> \'{"x": 2}\''),
	'100', 'and the index finds the rows');

my $hold = answer(q(SELECT transaction_id FROM credits_hold('a', 10)));

# altered columns are found before they are misread, by writers and readers
foreach my $change (
	'ALTER TABLE credits.accounts DROP COLUMN metadata',
	'ALTER TABLE credits.accounts ALTER COLUMN spent TYPE numeric',
	'ALTER TABLE credits.accounts ADD COLUMN mine integer',
	'ALTER TABLE credits.grants ALTER COLUMN source TYPE name')
{
	answer('BEGIN');
	is(answer($change), '', $change);
	answer('SAVEPOINT s');
	is(answer(q(SELECT credits_deduct('a', 1))), '55000', 'no spend');
	answer('ROLLBACK TO s');
	is(answer('SELECT count(*) FROM credits_verify()'), '55000', 'no check');
	answer('ROLLBACK');
}
foreach my $change (
	[ 'ALTER TABLE credits.hold_states ADD COLUMN mine integer', q(SELECT credits_hold('a', 1)) ],
	[ 'ALTER TABLE credits.hold_states ADD COLUMN mine integer', "SELECT credits_capture($hold)" ],
	[ 'ALTER TABLE credits.hold_states ADD COLUMN mine integer', 'SELECT count(*) FROM credits_verify()' ],
	[ 'ALTER TABLE credits.limits ADD COLUMN mine integer', q(SELECT credits_set_limits('a', 1)) ],
	[ 'ALTER TABLE credits.limits DROP COLUMN excess', q(SELECT credits_deduct('b', 1)) ],
	[ 'ALTER TABLE credits.members ADD COLUMN mine integer', q(SELECT credits_add_member('a', 'b')) ],
	[ 'ALTER TABLE credits.members ADD COLUMN mine integer', q(SELECT credits_deduct('b', 1, pool => 'pool')) ])
{
	my ($sql, $call) = @$change;
	answer('BEGIN');
	is(answer($sql), '', $sql);
	is(answer($call), '55000', $call);
	answer('ROLLBACK');
}
is(answer(q(SELECT amount FROM credits_deduct('a', 1))), '-1', 'and on it goes without');
is(answer("SELECT kind FROM credits_release($hold)"), 'release', 'with holds, too');

# a trigger that would change the account again before the log knows of the
# first change: the second could not see it
answer(<<'SQL');
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF credits.kind_name(new.kind_code) = 'refund' AND new.reason IS NULL THEN
		PERFORM credits_refund(new.target_id, reason => 'again');
	END IF;
	RETURN new;
END $$
SQL
my $spend = answer(q(SELECT transaction_id FROM credits_deduct('b', 10)));
answer(q(SELECT credits_deduct('b', 50)));
answer('CREATE TRIGGER again BEFORE INSERT ON credits.log FOR EACH ROW EXECUTE FUNCTION again()');
is(answer("SELECT credits_refund($spend)"), '55006', 'a second refund from a BEFORE trigger of the first');
answer('DROP TRIGGER again ON credits.log');
answer('CREATE TRIGGER again AFTER INSERT ON credits.log FOR EACH ROW EXECUTE FUNCTION again()');
is(answer("SELECT credits_refund($spend)"), 'PT409', 'from an AFTER trigger it sees the first');
is(answer("SELECT amount FROM credits_refund($spend, reason => 'once')"), '10', 'one alone');
answer('DROP TRIGGER again ON credits.log');
is(answer(q(SELECT credits_balance('b'))), '950', 'which gives back once');
is(answer('SELECT count(*) FROM credits_verify()'), '0', 'and all is well');

# time zone data that no longer has the zone of a subscription: what its account can do
# otherwise, it still can
answer("SET credits.test_clock = '2060-01-01 00:00+00'");
answer(q(SELECT credits_set_plan('mishap', 50, grace => '3 days')));
answer(q(SELECT credits_open_account('lost', 100)));
my $lost = answer(q(SELECT subscription_id FROM credits_subscribe('lost', 'mishap', timezone => 'America/Los_Angeles')));
my $kept = answer(q(SELECT subscription_id FROM credits_subscribe('lost', 'mishap')));
answer('ALTER TABLE credits.subscriptions DISABLE TRIGGER ALL');
answer("UPDATE credits.subscriptions SET timezone = 'America/Lost' WHERE id = $lost");
answer('ALTER TABLE credits.subscriptions ENABLE TRIGGER ALL');
answer("SET credits.test_clock = '2060-02-01 12:00+00'");
is(answer(q(SELECT credits_balance('lost'))), '150', 'a lost time zone: the balance has what others give');
is(answer(q(SELECT balance FROM credits_deduct('lost', 1))), '149', 'so has a spend');
is(answer(q(SELECT (receipt).balance FROM credits_try_deduct('lost', 1))), '148', 'and the next one');
is(answer(q(SELECT credits_transfer('a', 'lost', 1) IS NOT NULL)), 't', 'and a transfer to it');
my $told = q(SELECT detail ->> 'code', detail ->> 'message', count(*) FROM credits.events WHERE kind = 'renewal_failed' GROUP BY 1, 2);
is(answer($told), '22023|unknown time zone|1', 'once, an event says what is wrong');
answer('SET client_min_messages = error');
is(answer('CALL credits_renew()'), '0|1', 'the job fails at it');
is(answer($told), '22023|unknown time zone|1', 'with the same event');
is(answer("SELECT status FROM credits_cancel_subscription($_, 'now')"), 'canceled', "subscription $_ can be canceled")
  foreach $lost, $kept;
is(answer(q(SELECT kind FROM credits_close_account('lost', 'gone'))), 'close', 'and the account be closed');
is(answer(q(SELECT status FROM credits_summary('lost'))), 'closed', 'and read');
answer('RESET client_min_messages');
answer('RESET credits.test_clock');

# what a client says at connect is not checked for its encoding
{
	local $ENV{PGOPTIONS} = "-c credits.actor=\xff\xfe";
	my $odd = CreditsTest::Session->new($node, user => 'app');
	is($odd->query(q(SELECT credits_deduct('a', 1)))->{code}, '22021', 'an actor that is no text');
	$odd->quit;
}

$session->quit;
unlike(slurp_file($node->logfile, $log_start), qr/terminated by signal/, 'no crash');
$node->stop;
done_testing();
