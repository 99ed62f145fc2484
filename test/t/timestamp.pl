# The recipe of doc/verify.md that has the digest of all chains time-stamped, run as it
# stands there, with an authority of our own.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'openssl is not here' if system('openssl version >/dev/null 2>&1') != 0;

my $node = credits_node('timestamp');
$node->safe_psql('postgres', q(CREATE DATABASE app));
create_credits($node, 'app');
$node->safe_psql('app', q(SELECT credits_open_account('user:' || n, 10 * n) FROM generate_series(1, 5) AS n));

my $dir = PostgreSQL::Test::Utils::tempdir;
append_to_file("$dir/tsa.cnf", <<"CONF");
[ req ]
distinguished_name = name
prompt = no
[ name ]
CN = tsa.example.com
[ ca ]
basicConstraints = critical, CA:true
[ tsa ]
extendedKeyUsage = critical, timeStamping
[ tsa_config ]
serial = $dir/serial
signer_cert = $dir/tsa.pem
signer_key = $dir/tsa.key
certs = $dir/tsa_ca.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
CONF
append_to_file("$dir/serial", "01\n");

sub shell
{
	my ($commands) = @_;
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	local $ENV{PATH} = $node->config_data('--bindir') . ":$ENV{PATH}";
	my $output = qx(cd '$dir' && exec 2>&1; set -e; $commands);
	return ($? >> 8, $output);
}
my ($status, $output) = shell(<<'SH');
openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 2 -config tsa.cnf -extensions ca -keyout ca.key -out tsa_ca.pem
openssl req -newkey rsa:2048 -nodes -sha256 -config tsa.cnf -keyout tsa.key -out tsa.csr
openssl x509 -req -in tsa.csr -CA tsa_ca.pem -CAkey ca.key -CAcreateserial -sha256 -days 2 -extfile tsa.cnf -extensions tsa -out tsa.pem
SH
is($status, 0, 'an authority') or BAIL_OUT($output);

# the recipe, with our authority in the place of one on the Internet
my ($recipe) = slurp_file("$FindBin::RealBin/../../doc/verify.md") =~ /^```sh\n(digest=.*?)^```/ms;
ok($recipe, 'the recipe is on its page');
ok($recipe =~ s/^curl .*$/openssl ts -reply -config tsa.cnf -section tsa_config -queryfile digest.tsq -out digest.tsr/m,
	'with a request to an authority');
($status, $output) = shell($recipe);
is($status, 0, 'it runs') or diag $output;
like($output, qr/^Verification: OK$/m, 'and verifies the time stamp');

my $digest = $node->safe_psql('app', q(SELECT encode(credits_digest(), 'hex')));
my $verify = (split /\n/, $recipe)[-1];
is((shell("digest=$digest; $verify"))[0], 0, 'later, too');

# the list of heads has the digest that was stamped
my ($copy) = slurp_file("$FindBin::RealBin/../../doc/verify.md") =~ /^(psql .*heads\.csv.*)$/m;
($status, $output) = shell($copy);
is($status, 0, 'the list of heads') or diag $output;
is($node->safe_psql('app', qq(
	CREATE TABLE heads (id bigint, transaction_count bigint, head text);
	COPY heads FROM '$dir/heads.csv' (FORMAT csv, HEADER);
	SELECT encode(sha256(string_agg(int8send(id) || int8send(transaction_count) || decode(head, 'hex'), '' ORDER BY id)), 'hex')
	FROM heads)), $digest, 'has the digest');

# what was not stamped
$node->safe_psql('app', q(SELECT credits_deduct('user:1', 1)));
my $other = $node->safe_psql('app', q(SELECT encode(credits_digest(), 'hex')));
isnt($other, $digest, 'another row, another digest');
isnt((shell("digest=$other; $verify"))[0], 0, 'which was not stamped');

done_testing();
