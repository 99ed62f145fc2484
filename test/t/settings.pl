# Settings that only a superuser may make, tried before the library is loaded:
# PostgreSQL then takes them as placeholders and must drop them on load.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = credits_node('settings');
$node->safe_psql('postgres', <<'SQL');
CREATE ROLE admin LOGIN IN ROLE credits_admin;
CREATE ROLE app LOGIN IN ROLE credits_app;
SET credits.test_clock = '2020-01-01 00:00+00';
SELECT credits_open_account('a', 100);
SELECT credits_allocate('a', 50, expires_at => '2020-02-01 00:00+00');
CALL credits_settle();
SQL

# 50 credits come back if the clock stood still in January 2020
sub balance_with
{
	my ($user, $setting) = @_;
	my $session = CreditsTest::Session->new($node, user => $user);
	my $set = $session->query($setting);
	my $balance = $session->query(q(SELECT credits_balance('a')));
	# a warning about the dropped setting is fine
	my $answer = "$set->{code} " . ($balance->{rows}[0] // $balance->{code});
	$session->quit;
	return $answer;
}

# what doc/settings.md says of a new session
my $new = CreditsTest::Session->new($node);
is($new->query('SHOW credits.alert_levels')->{code}, '42704', 'a setting is unknown in a new session');
is($new->query(q(LOAD 'credits'))->{code}, '00000', 'until the library is loaded');
is($new->value('SHOW credits.alert_levels'), '10', 'which shows it');
$new->quit;

my $superuser = $node->safe_psql('postgres', 'SELECT current_user');
is(balance_with($superuser, q(SET credits.test_clock = '2020-01-15 00:00+00')), '00000 150',
	'a superuser stops the clock before the library is loaded');
is(balance_with('app', q(SET credits.test_clock = '2020-01-15 00:00+00')), '00000 100',
	'an application does not');
is(balance_with('admin', q(SET credits.test_clock = '2020-01-15 00:00+00')), '00000 100',
	'an administrator does not');

foreach my $setting ('test_clock=2020-01-15', 'initial_balance=1000000')
{
	local $ENV{PGOPTIONS} = "-c credits.$setting";
	my $session = CreditsTest::Session->new($node, user => 'admin');
	is($session->query(q(SELECT credits_balance('a')))->{rows}[0], '100', "$setting at connect");
	is($session->query(q(SELECT balance FROM credits_open_account('connect:) . $setting . q(')))->{rows}[0],
		'0', "$setting at connect, a new account");
	$session->quit;
}

my $session = CreditsTest::Session->new($node, user => 'admin');
$session->query('SET credits.initial_balance = 1000000');
is($session->query(q(SELECT balance FROM credits_open_account('rich')))->{rows}[0],
	'0', 'initial_balance before the library is loaded');
is($session->query('SET credits.initial_balance = 1000000')->{code}, '42501', 'and after');
is($session->query(q(SET credits.test_clock = '2020-01-01'))->{code}, '42501', 'test_clock after');
is($session->query('SET credits.alert_levels = 1')->{code}, '42501', 'alert_levels after');
is($session->query(q(SET credits.refund_grace = '100 years'))->{code}, '42501', 'refund_grace after');
is($session->query(q(SET credits.actor = 'somebody'))->{code}, '00000', 'actor is for everyone');
like($session->query('SET credits.no_such = 1')->{code}, qr/^42/, 'no setting of that name');
$session->quit;

# in a transaction, and undone by its rollback
$session = CreditsTest::Session->new($node, user => 'app');
$session->query('BEGIN');
$session->query(q(SET LOCAL credits.test_clock = '2020-01-15 00:00+00'));
is($session->query(q(SELECT credits_balance('a')))->{rows}[0], '100', 'SET LOCAL before the library is loaded');
$session->query('COMMIT');
is($session->query(q(SELECT credits_balance('a')))->{rows}[0], '100', 'and after the transaction');
$session->quit;

# checked when set
$session = CreditsTest::Session->new($node);
$session->value(q(SELECT credits_balance('a')));
is($session->query(q(SET credits.test_clock = 'no time'))->{code}, '22023', 'test_clock is checked');
# stored in a form that does not depend on other settings, which a parallel worker gets later
$session->value(q(SET timezone = 'America/New_York'));
$session->value(qq(SET credits.test_clock = '$$_[0]')),
  is($session->value('SHOW credits.test_clock'), $$_[1], "test_clock: $$_[0]")
  foreach [ '2030-01-31 12:00 PST', '2030-01-31 20:00:00+00' ], [ '2030-01-31 12:00', '2030-01-31 17:00:00+00' ],
  [ '1970-01-01 00:00:00.5 UTC', '1970-01-01 00:00:00.500000+00' ], [ '9999-12-31 23:59:59.999999 UTC', '9999-12-31 23:59:59.999999+00' ];
$session->value('RESET timezone');
$node->safe_psql('postgres', q(SELECT credits.now(); SET credits.test_clock = '2030-01-31 12:00 UTC'; SET max_parallel_maintenance_workers = 2;
	SET min_parallel_index_scan_size = 0; SET min_parallel_table_scan_size = 0; CREATE TABLE wide AS SELECT n, n AS m FROM generate_series(1, 20000) AS n;
	CREATE INDEX ON wide (n); CREATE INDEX ON wide (m); VACUUM (ANALYZE, PARALLEL 2) wide;));
pass('a parallel worker gets it');
is($session->query(q(SET credits.refund_grace = 'no interval'))->{code}, '22023', 'refund_grace is checked');
is($session->query(q(SET credits.initial_balance = -1))->{code}, '22023', 'initial_balance is checked');
is($session->query(q(SET credits.alert_levels = '-1'))->{code}, '22023', 'alert_levels is checked');
$session->quit;

# a bad value in postgresql.conf is refused when the library is loaded, and
# does not keep it from loading
$node->append_conf('postgresql.conf', "credits.test_clock = 'no time'");
$node->reload;
$session = CreditsTest::Session->new($node, user => 'app');
is($session->query(q(SELECT credits_balance('a')))->{rows}[0], '100', 'a bad value in postgresql.conf');
$session->quit;

# what the DBA grants
$node->adjust_conf('postgresql.conf', 'credits.test_clock', undef);
$node->reload;
$node->safe_psql('postgres', 'GRANT SET ON PARAMETER credits.test_clock TO app');
is(balance_with('app', q(SET credits.test_clock = '2020-01-15 00:00+00')), '00000 150',
	'with GRANT SET ON PARAMETER an application may');

problems_are($node, '', 'verify');
$node->stop;
done_testing();
