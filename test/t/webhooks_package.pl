# Webhooks are accepted by the library that their receivers use, the package
# standardwebhooks of npm: whatever is in them, with both secrets while one replaces the
# other, and not with one that has ended.
#
# NODE_PATH leads to it; test/full fetches it.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'there is no Node with the package standardwebhooks'
  if system(q(node -e 'require("standardwebhooks")' >/dev/null 2>&1)) != 0;

my $url = 'https://example.org/credits';
my $node = credits_node('webhooks_package', conf => "credits.default_channels = 'low_balance:webhook'");

# What the library says of each line.
sub verified
{
	my ($input) = @_;
	my $output = '';
	IPC::Run::run([ 'node', "$FindBin::RealBin/clients/webhooks.js" ], '<', \"$input\n", '>', \$output) or die 'webhooks.js failed';
	return split /\n/, $output;
}

# What is due now, as lines for the library, with a secret.
sub taken
{
	my ($secret) = @_;
	return $node->safe_psql('postgres', qq(SELECT jsonb_build_object('secret', '$secret', 'headers', headers, 'body', body)
		FROM credits_take_deliveries('webhook', 1000)));
}

# has everything sent once more
sub replay
{
	$node->safe_psql('postgres', q(SELECT count(credits_delivery_sent(id, lease)), count(credits_replay_delivery(id)) FROM credits.deliveries));
	return;
}

# details of all kinds, in all scripts
my $old = $node->safe_psql('postgres', qq(SELECT credits_rotate_webhook_secret('w:1', '$url') FROM credits_open_account('w:1', 100) CROSS JOIN LATERAL credits_set_contact('w:1', 'webhook', '$url')));
$node->safe_psql('postgres', q(
	INSERT INTO credits.events SELECT nextval('credits.events_id_seq'), credits.account_id('w:1'), NULL, now(), 'low_balance',
		jsonb_build_object('n', n, 'text', CASE n % 5 WHEN 0 THEN repeat('ä€😀', n) WHEN 1 THEN E'"quoted\" \\\\ \n\t\r </script> & {{balance}}' WHEN 2 THEN 'אבג \u202e العربية 漢字 ' || chr(55203) || chr(1114109)
			WHEN 3 THEN string_agg(chr(1 + (n * 7 + c) % 127), '') ELSE '' END, 'number', (n * 1e15 + 0.000001)::numeric, 'nested', jsonb_build_array(NULL, true, jsonb_build_object('', n)))
	FROM generate_series(1, 200) AS n, generate_series(1, 40) AS c GROUP BY n));
my $input = taken($old);
my @said = verified($input);
is(scalar @said, 200, 'all are taken');
is(join(' ', grep { $_ ne 'ok low_balance' } @said), '', 'and verified');

# another body, another id, another secret
my ($line) = split /\n/, $input;
is((verified($line =~ s/low_balance/low_balances/r))[0], 'refused: No matching signature found', 'another body is refused');
is((verified($line =~ s/msg_./msg_x/r))[0], 'refused: No matching signature found', 'another id, too');
is((verified($line =~ s/v1,./v1,+/r))[0] =~ /^refused/ ? 1 : 0, 1, 'and another signature');

# both secrets, and then the new one only
my $new = $node->safe_psql('postgres', "SELECT credits_rotate_webhook_secret('w:1', '$url', keep => '1 day')");
replay();
$input = taken($old);
is(join(' ', grep { $_ ne 'ok low_balance' } verified($input)), '', 'while it is replaced, the old secret verifies');
is(join(' ', grep { $_ ne 'ok low_balance' } verified($input =~ s/\Q$old\E/$new/gr)), '', 'and so does the new one');
is($node->safe_psql('postgres', "SELECT credits_revoke_webhook_secret('w:1', '$url')"), 't', 'the old one is revoked');
replay();
$input = taken($old);
is(join(' ', grep { $_ ne 'refused: No matching signature found' } verified($input)), '', 'after that, the old one verifies none');
is(join(' ', grep { $_ ne 'ok low_balance' } verified($input =~ s/\Q$old\E/$new/gr)), '', 'and the new one all');

# secrets are nowhere to be read but in their table
my $log = PostgreSQL::Test::Utils::slurp_file($node->logfile);
unlike($log, qr/\Q$_\E/, 'a secret is not in the log') foreach substr($old, 6), substr($new, 6);

$node->stop;
done_testing();
