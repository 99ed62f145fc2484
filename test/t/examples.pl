# The listeners of doc/applications.md and the webhooks of doc/selling.md, run as they
# stand there: any role may send notifications, of any content, and whoever sends a
# webhook that is refused, the log has to say why.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $node = credits_node('examples');
$node->safe_psql('postgres', q(
	CREATE ROLE listener LOGIN; GRANT credits_auditor TO listener;
	CREATE ROLE shop LOGIN; GRANT credits_app TO shop;
	CREATE ROLE stranger LOGIN;
	SELECT credits_open_account('user:' || n, 100) FROM generate_series(1, 9) AS n));

# The block of a page that has a text in it.
sub block
{
	my ($page, $language, $text) = @_;
	my @found = grep { index($_, $text) >= 0 }
	  slurp_file("$FindBin::RealBin/../../doc/$page.md") =~ /^```$language\n(.*?)^```/gms;

	is(@found, 1, "$page has one block of $language with: $text");
	return $found[0];
}

# Starts a program that connects as a role.
sub start
{
	my ($file, $text, $role, @command) = @_;
	my %program = (output => '');
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGUSER => $role,
		PGDATABASE => 'postgres', DATABASE_URL => "host='" . $node->host . "' port=" . $node->port . " user=$role dbname=postgres");

	append_to_file("$folder/$file", $text);
	$program{run} = IPC::Run::start([ @command, "$folder/$file" ], '<', \undef, '>&', \$program{output});
	return \%program;
}

# Whether a program prints something, now or soon.
sub says
{
	my ($program, $pattern, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	ok( wait_until(sub { $program->{run}->pump_nb if $program->{run}->pumpable; $program->{output} =~ $pattern }, 20, 0.1),
		$name) or diag($program->{output});
	return;
}

sub listening
{
	return $node->safe_psql('postgres', q(
		SELECT count(*) FROM pg_stat_activity WHERE usename = 'listener' AND state = 'idle'));
}

# What a stranger can send, and then what is true.
sub test_listener
{
	my ($name, $user, $listener) = @_;
	my @hostile = (
		'x', '', '5', '[]', 'null', '{"account": null}', '{"account": 5}', '{"account": {"a": 1}}',
		'{"account": "nobody"}', '{"account": "a\u0000b"}', '{"account": "\ud800"}', '[' x 7000);
	my $session = CreditsTest::Session->new($node, user => 'stranger');

	ok(wait_until(sub { listening() > 0 }, 20, 0.1), "$name: is there");
	# what it has read before it listened may come after
	says($listener, qr/user:1 has 3 credits left/, "$name: has read what happened before")
	  if $name eq 'Python';
	foreach my $payload (@hostile)
	{
		is($session->query("SELECT pg_notify('low_balance', \$\$$payload\$\$)")->{code}, '00000',
			"$name: a notification of " . substr($payload, 0, 30));
	}
	$node->safe_psql('postgres', "SELECT credits_deduct('$user', 98)");
	says($listener, qr/$user has 2 credits left/, "$name: the alert after them is handled");
	says($listener, qr/skipped.*x/, "$name: and they are logged");
	is(() = $listener->{output} =~ /skipped/g, scalar(@hostile), "$name: each of them")
	  or diag($listener->{output});
	$session->quit;
	$listener->{run}->kill_kill;
	ok(wait_until(sub { listening() == 0 }, 20, 0.1), "$name: is gone");
	return;
}

$node->safe_psql('postgres', q(SELECT credits_deduct('user:1', 97)));
my @python = client_python();
my @js = client_node();

SKIP:
{
	skip 'there is no Python with psycopg', 1 unless @python;
	test_listener('Python', 'user:2', start('listen.py',
			block('applications', 'python', 'LISTEN low_balance') . "\n\nlisten('')\n", 'listener', @python));
}
SKIP:
{
	skip 'there is no Node with pg', 1 unless @js;
	test_listener('Node', 'user:3', start('listen.js',
			block('applications', 'js', 'LISTEN low_balance') . <<'JS', 'listener', @js));

const worker = new (require('pg').Client)();
worker.connect();
listen(async (account) => {
  const { rows } = await worker.query('SELECT credits_balance($1) AS balance', [account]);
  console.log(`${account} has ${rows[0].balance} credits left`);
});
JS
}

# The webhooks: the frameworks are played, the database is real.
SKIP:
{
	skip 'there is no Python with psycopg', 1 unless @python;
	append_to_file("$folder/flask.py", <<'PY');
import logging


class Flask:
    def __init__(self, name):
        self.logger = logging.getLogger(name)

    def post(self, path):
        return lambda handler: handler


class request:
    headers = {"Stripe-Signature": "t=1,v1=00"}

    @staticmethod
    def get_data():
        return b"{}"
PY
	my $webhook = start('webhook.py',
		block('selling', 'python', 'credits_stripe_webhook') . "\n\nprint(stripe_webhook(), flush=True)\n",
		'shop', @python);
	says($webhook, qr/\('', 400\)/, 'Python: refused with 400');
	says($webhook, qr/28000.*signature of the webhook.*There is no secret.*credits_stripe_add_secret/s,
		'Python: the log has message, detail and hint');
	$webhook->{run}->finish;
}
SKIP:
{
	skip 'there is no Node with pg', 1 unless @js;
	mkdir "$folder/node_modules";
	append_to_file("$folder/node_modules/express.js", <<'JS');
module.exports = () => ({
  post: (path, raw, handler) => handler(
    { body: Buffer.from('{}'), get: () => 't=1,v1=00' },
    { sendStatus: (status) => { console.log(`status ${status}`); process.exit(); } }),
  listen: () => {},
});
module.exports.raw = () => {};
JS
	my $code = block('selling', 'js', 'credits_stripe_webhook');
	# libpq's form of a connection string is not for pg, which reads the environment
	$code =~ s/\{ connectionString: process\.env\.DATABASE_URL \}//;
	my $webhook = start('webhook.js', $code, 'shop', @js);
	says($webhook, qr/status 400/, 'Node: refused with 400');
	says($webhook, qr/28000.*signature of the webhook.*There is no secret.*credits_stripe_add_secret/s,
		'Node: the log has message, detail and hint');
	$webhook->{run}->finish;
}

$node->stop;
done_testing();
