package CreditsTest;

# What the TAP tests share: clusters with the extension in them, psql
# sessions driven side by side from one process, and a log that holds
# something of everything.

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
  credits_node create_credits sqlstate_is problems_are kill_cluster
  populate facts_of receipt_sql wait_any wait_until client_python client_node
);

# A running cluster with the extension in database postgres.
#
# streaming: 1 or 'logical'; conf: more lines for postgresql.conf;
# extension: 0 leaves it out
sub credits_node
{
	my ($name, %params) = @_;

	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(
		allows_streaming => $params{streaming},
		has_archiving => $params{archiving});
	$node->append_conf('postgresql.conf', <<'CONF');
log_statement = none
log_min_duration_statement = -1
max_connections = 60
shared_buffers = 16MB
deadlock_timeout = 100ms
TimeZone = UTC
CONF
	$node->append_conf('postgresql.conf', $params{conf})
	  if defined $params{conf};
	$node->start;
	create_credits($node) unless defined $params{extension} && !$params{extension};
	return $node;
}

sub create_credits
{
	my ($node, $dbname) = @_;
	$node->safe_psql($dbname // 'postgres', 'CREATE EXTENSION credits');
}

# A Python that has psycopg 3, as a command; nothing if there is none.
sub client_python
{
	foreach my $python (qw(python3 /usr/bin/python3))
	{
		return ($python) if system("$python -c 'import psycopg' >/dev/null 2>&1") == 0;
	}
	return;
}

# The same of a Node that has pg; where Debian's packages are, Node of other origin does
# not look.
sub client_node
{
	my @node = ('env', 'NODE_PATH=' . join(':', $ENV{NODE_PATH} // (), '/usr/share/nodejs'), 'node');

	return system("@node -e 'require(\"pg\")' >/dev/null 2>&1") == 0 ? @node : ();
}

# Run one statement and compare its SQLSTATE.
sub sqlstate_is
{
	my ($node, $sql, $expected, $name, %params) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $session = CreditsTest::Session->new($node, %params);
	my $answer = $session->query($sql);
	is($answer->{code}, $expected, $name);
	$session->quit;
}

# Compare what credits_verify finds, as 'account: problem problem' or nothing.
sub problems_are
{
	my ($node, $expected, $name, $dbname) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $found = $node->safe_psql(
		$dbname // 'postgres', q(
		SELECT account || ': ' || string_agg(DISTINCT problem, ' ' ORDER BY problem)
		FROM credits_verify() GROUP BY account ORDER BY account));
	is($found, $expected, $name);
}

# Kill all processes of a cluster at one blow, as a power cut would.
sub kill_cluster
{
	my ($node) = @_;

	open my $pidfile, '<', $node->data_dir . '/postmaster.pid'
	  or die "cannot read postmaster.pid: $!";
	my $postmaster = <$pidfile> + 0;
	close $pidfile;

	my @children;
	foreach my $stat (glob '/proc/[0-9]*/stat')
	{
		open my $file, '<', $stat or next;
		my $line = <$file>;
		push @children, $1
		  if defined $line && $line =~ /^(\d+) \(.*\) \S (\d+) / && $2 == $postmaster;
	}
	kill 'STOP', $postmaster;
	kill 'KILL', @children, $postmaster;
	$node->kill9;

	# Wait until they are dead.  As long as init has not buried the postmaster
	# a new one would take it for alive, so its lock files go by hand.
	wait_until(sub { !grep { state_of_process($_) =~ /[^ZX]/ } $postmaster, @children })
	  or die 'processes did not die';
	unlink $node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock'
	  if state_of_process($postmaster) ne '';
	return;
}

# A letter, as in ps; nothing if there is no such process.
sub state_of_process
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/stat" or return '';
	my $line = <$file> // '';
	return $line =~ /^\d+ \(.*\) (\S) / ? $1 : '';
}

# Poll until a condition holds.
sub wait_until
{
	my ($condition, $seconds, $interval) = @_;
	my $end = time + ($seconds // $PostgreSQL::Test::Utils::timeout_default);
	while (time < $end)
	{
		return 1 if $condition->();
		sleep($interval // 0.02);
	}
	return 0;
}

# A call as a query that returns the receipt, one line, created_at in
# microseconds.
sub receipt_sql
{
	my ($call) = @_;
	return
		'SELECT transaction_id, account, kind, amount, balance, held, replayed, '
	  . "(extract(epoch FROM created_at) * 1000000)::bigint FROM $call";
}

# Fill a database with all kinds of rows: years ago by the clock, so that the
# real clock goes on from there.
sub populate
{
	my ($node, $dbname) = @_;

	$node->safe_psql($dbname // 'postgres', <<'SQL');
SET credits.test_clock = '2020-01-01 00:00+00';
SELECT credits_open_account('user:1', 100, metadata => '{"plan": "free", "note": "it''s \"new\""}');
SELECT credits_open_account('user:2', 0, unit => 'token');
SELECT credits_open_account('ユーザー:é "q" \ x');
SELECT credits_open_account('paused:1', 10);
SELECT credits_open_account('closed:1', 10);
SELECT credits_open_account('empty:1');
SELECT credits_open_account('bulk:' || n, 1000) FROM generate_series(1, 50) AS n;

SET credits.actor = E'Zoë "the\nadmin"\t\\';
SELECT credits_allocate('user:1', 500, source => 'purchase', price => 49.90, currency => 'EUR',
	idempotency_key => 'invoice:1', reason => E'line one\nline two', reference => 'in_1',
	metadata => '{"b": [1, 2.50, null], "a": "ü \u2028 \\ / \" \n"}');
SELECT credits_allocate('user:1', 50, source => 'promotional', expires_at => '2020-02-01 00:00+00');
SELECT credits_allocate('user:1', 70, source => 'gift', expires_at => '2020-02-01 00:00+00',
	effective_at => '2020-01-15 00:00+00');
SELECT credits_allocate('user:1', 5, source => 'manual', effective_at => '2200-01-01 00:00+00', priority => 0);
RESET credits.actor;
SELECT credits_allocate('user:2', 9007199254740993, source => 'subscription', expires_at => '2200-02-01 00:00+00');
SELECT credits_allocate('ユーザー:é "q" \ x', 20, reason => '理由 🎉');

SET credits.test_clock = '2020-01-02 00:00:00.000001+00';
SELECT credits_deduct('user:1', 120, 'spend:1', 'chat', 'request:1', '{"model": "large"}');
SELECT credits_deduct('user:1', 10, 'spend:2', E'op\twith tab', 'ref "quoted"');
SELECT credits_try_deduct('user:1', 1000000, 'spend:3');
SELECT credits_deduct('ユーザー:é "q" \ x', 15, 'キー', '操作', '参照');
SELECT credits_set_alerts('user:2', '100');
SELECT credits_deduct('bulk:' || n, 1 + n % 7, 'b:' || n || ':' || i)
FROM generate_series(1, 50) AS n, generate_series(1, 10) AS i;

SET credits.test_clock = '2020-02-01 00:00+00';
CALL credits_settle();
SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'spend:2'), reason => 'outage');
SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'spend:1'), 30, 'refund:1',
	expired => 'grace');
SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'spend:1'), 25, 'refund:2',
	expired => 'expire');
SELECT credits_adjust('user:1', -7, 'miscounted', 'adjust:1', '{"ticket": 7}');
SELECT credits_adjust('user:1', 8, 'miscounted again');
SELECT credits_void_grant((SELECT id FROM credits.grants WHERE source = 'adjustment'), 'wrong');
SELECT credits_pause_account('paused:1', 'chargeback');
SELECT credits_resume_account('paused:1', 'cleared');
SELECT credits_pause_account('paused:1', 'chargeback again');
SELECT credits_close_account('closed:1', 'left us');

-- holds in every state, one of them split over an account and a pool
SET credits.test_clock = '2020-03-01 00:00+00';
SELECT credits_open_account('pool:top', 1000), credits_open_account('pool:team', 500),
	credits_open_account('member:1', 20), credits_open_account('member:2');
SELECT credits_add_member('pool:top', 'pool:team', 600, 'lifetime'), credits_add_member('pool:team', 'member:1', 100),
	credits_add_member('pool:team', 'member:2', 40, 'day', 'Asia/Tokyo'), credits_add_member('pool:team', 'user:1');
SELECT credits_change_member('pool:team', 'member:1', 200, 'week'), credits_remove_member('pool:team', 'user:1');
SELECT credits_set_limits('member:1', max_balance => 100, excess => 'clip', max_spend => 90, max_spend_per_day => 150,
	max_spend_per_month => 1000, timezone => 'Europe/Berlin', reason => 'as agreed');
SELECT credits_set_limits('pool:top', min_spend => 2);
SELECT credits_hold('member:1', 30, 'hold:1', 'chat', 'request:1', '{"model": "large"}', '1 hour', 'pool:team', 'own_first');
SELECT credits_hold('bulk:10', 100, 'hold:2', expires_in => '1 hour');
SELECT credits_hold('bulk:10', 50, 'hold:3', expires_in => '1 hour');
SELECT credits_hold('bulk:10', 25, 'hold:4', expires_in => '1 hour');
SELECT credits_hold('bulk:10', 20, 'hold:5', expires_in => '100 years');
SELECT credits_hold('member:2', 10, 'hold:6', expires_in => '100 years', pool => 'pool:top');
SELECT credits_capture((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:1'), 25,
	idempotency_key => 'capture:1', metadata => '{"tokens": 25}');
SELECT credits_capture((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:2'), 40, final => false);
SELECT credits_capture((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:2'), 70, allow_more => true);
SELECT credits_release((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:3'), reason => 'not needed');
SELECT credits_capture((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:5'), 5, final => false,
	idempotency_key => 'capture:2');
SELECT credits_extend_hold((SELECT id FROM credits.transactions WHERE idempotency_key = 'hold:6'), '180 years');
SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'capture:2'), 2);
SELECT credits_deduct('member:2', 15, 'pool:1', pool => 'pool:team', mode => 'pool_first');
SELECT credits_refund((SELECT id FROM credits.transactions WHERE idempotency_key = 'pool:1'), 5);
SELECT credits_try_deduct('member:2', 35, pool => 'pool:team');
SELECT credits_transfer('user:1', 'bulk:11', 60, 'transfer:1', 'as a present', '{"from": "Zoë"}');
SELECT credits_reverse_transfer((SELECT id FROM credits.transactions WHERE idempotency_key = 'transfer:1'), 'a mistake', 15);
-- codes of each kind, redeemed and not; priced operations; batches
SET credits.referral_credits = 5;
SET credits.referrer_credits = 7;
SELECT credits_create_promo_code('welcome', 10, 3, active_until => '2100-01-01', expires_in => '1 year', metadata => '{"campaign": "spring"}'),
	credits_create_promo_code('GONE', 5), credits_deactivate_promo_code('GONE');
SELECT credits_redeem('bulk:' || n, 'Welcome', 'code:' || n) FROM generate_series(20, 22) AS n;
SELECT credits_try_redeem('bulk:23', 'WELCOME');
SELECT (credits_create_gift('bulk:24', 30, message => 'für dich', idempotency_key => 'gift:' || n)).code
FROM generate_series(1, 3) AS n;
SELECT credits_redeem('bulk:25', (SELECT code FROM credits.gifts ORDER BY gift_id LIMIT 1), 'code:25');
SELECT credits_cancel_gift((SELECT code FROM credits.gifts ORDER BY gift_id LIMIT 1 OFFSET 1), reason => 'second thoughts');
SELECT credits_gift_many('bulk:24', '{bulk:26,bulk:27}', 3);
SELECT credits_open_account('referred:1'), credits_redeem('referred:1', credits_referral_code('bulk:29'));
SELECT credits_set_operation('chat', 1, 0.25, 'token', 10), credits_set_operation('chat', 2, active_from => '2150-01-01');
SELECT credits_charge('bulk:30', 'chat', 50, 'charge:1');
SELECT credits_deduct_many(ARRAY[('bulk:31', 5, 'many:1', NULL, NULL, NULL), ('bulk:31', 10000, NULL, NULL, NULL, NULL)]::credits.deduction[]);
SELECT credits_allocate_many(ARRAY[('bulk:31', 5, NULL, NULL, 'lot', NULL, 'gift', NULL, NULL, NULL, NULL, NULL, NULL)]::credits.allocation[]);
-- purchases in every state, and debts, paid and not
SELECT credits_set_package('pack', 100, 9.99, 'USD', extras => '[{"credits": 10}, {"credits": 3, "unit": "image"}]'),
	credits_set_promotion('less', 'percent', 10, max_uses => 5), credits_set_unit_price('EUR', 0.05);
SELECT credits_open_account('buyer:' || n) FROM generate_series(1, 6) AS n;
SELECT credits_start_purchase('buyer:' || n, 'pack', promotion => CASE WHEN n = 2 THEN 'less' END,
	idempotency_key => 'buy', metadata => '{"cart": "ü"}') FROM generate_series(1, 6) AS n;
SELECT credits_complete_purchase(id, 'pay_' || id, price) FROM credits.purchases ORDER BY id LIMIT 3;
SELECT credits_fail_purchase(max(id), 'declined'), credits_expire_purchase(max(id) - 1) FROM credits.purchases;
SELECT credits_complete_purchase(max(id) - 2, 'too little', 1) FROM credits.purchases;
SELECT credits_deduct('buyer:' || n, credits_balance('buyer:' || n) - 20) FROM generate_series(1, 3) AS n;
SELECT credits_refund_purchase(min(id), 5, reference => 're_1', reason => 'für dich'),
	credits_open_chargeback(min(id) + 1, 'dp_1'), credits_open_chargeback(min(id) + 2, 'dp_2', 3) FROM credits.purchases;
SELECT credits_close_chargeback(min(id) + 1, 'dp_1', 'won'), credits_close_chargeback(min(id) + 2, 'dp_2', 'lost') FROM credits.purchases;
SELECT credits_allocate('buyer:1', 7, source => 'purchase');
SET credits.test_clock = '2020-03-02 00:00+00';
CALL credits_settle();
-- subscriptions: renewed, changed, rolled over, and their periods refunded; and by what is paid
SELECT credits_set_plan('monthly', 100, price => 10, currency => 'EUR', rollover => 'maximum', rollover_maximum => 50, rollover_again => true),
	credits_set_plan('better', 300, price => 30, currency => 'EUR');
SELECT credits_open_account('subscriber:' || n) FROM generate_series(1, 3) AS n;
SELECT credits_subscribe('subscriber:' || n, 'monthly', external_id => 'sub_' || n,
	collection => CASE WHEN n = 3 THEN 'payment' ELSE 'clock' END) FROM generate_series(1, 3) AS n;
SELECT credits_set_invoice(max(id), 'in_1', '[{"starts_at": "2020-03-02 00:00+00", "ends_at": "2020-04-02 00:00+00", "credits": 100, "plan": "monthly"}]')
FROM credits.subscriptions;
SELECT credits_deduct('subscriber:' || n, 70) FROM generate_series(1, 3) AS n;
SELECT credits_refund_period(min(id), 4, reference => 're_1', reason => 'für dich') FROM credits.subscriptions;
SELECT credits_change_plan(min(id), 'better', at => 'now') FROM credits.subscriptions;
SET credits.test_clock = '2020-04-03 00:00+00';
CALL credits_renew();
SELECT credits_refund_period(min(id), period_start => '2020-03-02 00:00+00', reference => 're_2') FROM credits.subscriptions;
SELECT credits_refund_period(min(id) + 1, 5, period_start => '2020-03-02 00:00+00', reference => 're_1') FROM credits.subscriptions;
SELECT credits_set_invoice(max(id), 'in_1', '[{"starts_at": "2020-03-02 00:00+00", "ends_at": "2020-04-02 00:00+00", "credits": 100, "reversed": 60, "plan": "monthly"}]')
FROM credits.subscriptions;
SELECT credits_set_invoice(max(id), 'in_2', '[{"starts_at": "2020-04-02 00:00+00", "ends_at": "2020-05-02 00:00+00", "credits": 100, "plan": "monthly"}]')
FROM credits.subscriptions;
SELECT credits_cancel_subscription(id, 'now') FROM credits.subscriptions;
SQL
}

# All that has to come through a copy, as text to compare.
sub facts_of
{
	my ($node, $dbname) = @_;
	my $sql = q(SELECT 'digest', encode(credits_digest(), 'hex'););
	# every table that there is, but those whose transaction ids mean nothing elsewhere
	foreach my $table (split /\n/, $node->safe_psql($dbname // 'postgres',
			q(SELECT relname FROM pg_class WHERE relnamespace = 'credits'::regnamespace AND relkind = 'r'
				AND relname NOT IN ('event_order', 'consumer_positions') ORDER BY relname)))
	{
		$sql .= qq(
			SELECT '$table', count(*), md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE "C")) FROM credits.$table AS t;);
	}
	return $node->safe_psql($dbname // 'postgres', "$sql SELECT 'problems', count(*) FROM credits_verify();");
}

# Wait until at least one of some sessions has its answer, and return those.
sub wait_any
{
	my @sessions = @_;
	my $end = time + $PostgreSQL::Test::Utils::timeout_default;
	while (1)
	{
		my @ready = grep { $_->ready } @sessions;
		return @ready if @ready;
		die 'timed out waiting for sessions' if time > $end;

		my $bits = '';
		vec($bits, fileno($_->{out}), 1) = 1 foreach @sessions;
		next unless select(my $readable = $bits, undef, undef, 1) > 0;
		foreach my $session (@sessions)
		{
			$session->pump if vec($readable, fileno($session->{out}), 1);
		}
	}
}

package CreditsTest::Session;

# A psql that takes statements and gives answers, without waiting in between:
# send, do something else, receive.

use strict;
use warnings FATAL => 'all';

use IPC::Open3;

# dbname, user, application_name, verbosity (sqlstate unless told)
sub new
{
	my ($class, $node, %params) = @_;

	my $connstr = $node->connstr($params{dbname} // 'postgres');
	$connstr .= " user=$params{user}" if defined $params{user};
	$connstr .= " application_name=$params{application_name}"
	  if defined $params{application_name};
	my $verbosity = $params{verbosity} // 'sqlstate';

	my $pid = open3(my $in, my $out, undef, $node->installed_command('psql'),
		'-XAtq', '-v', "VERBOSITY=$verbosity", '-d', $connstr);
	binmode $in, ':utf8';
	$in->autoflush(1);
	my $self = bless {
		pid => $pid,
		in => $in,
		out => $out,
		buffer => '',
		gone => 0,
		sent => 0,
	}, $class;
	return $self;
}

sub send
{
	my ($self, $sql) = @_;
	local $SIG{PIPE} = 'IGNORE';
	my $mark = ++$self->{sent};
	# an empty statement after the last would reset SQLSTATE
	$sql .= ';' unless $sql =~ /;\s*\z/;
	no warnings;
	print { $self->{in} } "$sql\n\\echo <<$mark :SQLSTATE>>\n";
}

# Read what is there; true unless that was the end.
sub pump
{
	my ($self) = @_;
	my $count = sysread $self->{out}, $self->{buffer}, 65536, length $self->{buffer};
	$self->{gone} = 1 unless $count;
	return $count;
}

sub ready
{
	my ($self) = @_;
	return 1 if $self->{gone};
	return $self->{buffer} =~ /^<<$self->{sent} \w{5}>>$/m;
}

# What came of the last statement: code is its SQLSTATE, or 'gone' if the
# connection went away before an answer was complete.
sub take
{
	my ($self) = @_;
	my %answer = (code => 'gone', rows => [], messages => [], notifications => []);
	my $mark = $self->{sent};
	my $text = $self->{buffer};
	if ($text =~ s/^<<$mark (\w{5})>>\n(.*)\z//ms)
	{
		($answer{code}, $self->{buffer}) = ($1, $2);
	}
	else
	{
		$self->{buffer} = '';
	}
	utf8::decode($text);
	foreach my $line (split /\n/, $text)
	{
		if ($line =~ /^Asynchronous notification "(.*?)" with payload "(.*)" received from/)
		{
			push @{ $answer{notifications} }, { channel => $1, payload => $2 };
		}
		elsif ($line =~ /^Asynchronous notification "(.*?)" received from/)
		{
			push @{ $answer{notifications} }, { channel => $1, payload => '' };
		}
		elsif ($line =~ /^(ERROR|FATAL|PANIC|WARNING|NOTICE|DETAIL|HINT|CONTEXT|psql|server closed|connection to server|\t)/)
		{
			push @{ $answer{messages} }, $line;
		}
		else
		{
			push @{ $answer{rows} }, $line;
		}
	}
	return \%answer;
}

sub receive
{
	my ($self) = @_;
	CreditsTest::wait_any($self);
	return $self->take;
}

sub query
{
	my ($self, $sql) = @_;
	$self->send($sql);
	return $self->receive;
}

# The rows as text; dies on an error.
sub value
{
	my ($self, $sql) = @_;
	my $answer = $self->query($sql);
	die "$sql: $answer->{code} @{$answer->{messages}}" if $answer->{code} ne '00000';
	return join "\n", @{ $answer->{rows} };
}

sub quit
{
	my ($self) = @_;
	return unless defined $self->{pid};
	my $pid = delete $self->{pid};
	{
		local $SIG{PIPE} = 'IGNORE';
		no warnings;
		close $self->{in};
	}
	1 while !$self->{gone} && $self->pump;
	close $self->{out};
	local $?;
	waitpid $pid, 0;
}

# A test that dies leaves no psql behind.
sub DESTROY
{
	my ($self) = @_;
	return unless defined $self->{pid};
	kill 'TERM', $self->{pid};
	$self->quit;
}

1;
