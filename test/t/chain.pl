# The hash chain recomputed outside the database by doc/verify_chain.py.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use IPC::Run qw(run);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $script = "$FindBin::RealBin/../../doc/verify_chain.py";
plan skip_all => 'python3 is not here'
  unless eval { run [ 'python3', '-c', 'import hashlib' ], '>', \my $out, '2>', \my $err };

my $node = credits_node('chain');
populate($node);

my $export = q(SELECT row_to_json(c) FROM credits.chain c ORDER BY account_id, id);

# Run the script over some text: exit status and output.
sub check
{
	my ($text, @arguments) = @_;
	my ($out, $err) = ('', '');
	run [ 'python3', '-B', $script, @arguments ], '<', \$text, '>', \$out, '2>', \$err;
	return ($? >> 8, $out, $err);
}

my $log = $node->safe_psql('postgres', $export) . "\n";
my $counts = $node->safe_psql('postgres',
	q(SELECT format('%s rows, %s accounts', count(*), count(DISTINCT account_id)) FROM credits.transactions));
my $digest = $node->safe_psql('postgres', q(SELECT encode(credits_digest(), 'hex')));

# that the log has all there is to go wrong
is($node->safe_psql('postgres', q(SELECT string_agg(DISTINCT kind, ' ' ORDER BY kind) FROM credits.transactions)),
	join(' ', sort qw(
		opening allocation activation deduction refund expiration adjustment void pause resume close alerts
		plan_change subscription
		hold capture release extension transfer reversal gift redemption referral limits membership
		clawback debt_payment reinstatement)),
	'all kinds of rows');
is($node->safe_psql('postgres', q(
	SELECT bool_or(reason IS NULL) AND bool_or(reason LIKE E'%\n%') AND bool_or(metadata IS NULL)
		AND bool_or(metadata::text ~ '\\\\') AND bool_or(actor IS NULL) AND bool_or(actor LIKE '%"%')
		AND bool_or(salt IS NULL) AND bool_or(draws IS NULL) AND bool_or(array_length(draws, 1) > 1)
		AND bool_or(target_id IS NULL) AND bool_or(target_id IS NOT NULL) AND bool_or(member_id IS NOT NULL) AND bool_or(held < 0) AND bool_or(idempotency_key = 'キー')
		AND bool_or(operation LIKE E'%\t%') AND bool_or(amount > 9007199254740992)
	FROM credits.transactions)), 't', 'free text of all sorts, NULLs and large numbers');

my ($status, $out, $err) = check($log);
is($status, 0, 'an untouched export') or diag "$out$err";
is($out, "$counts: OK\n", 'counts and OK');
($status, $out) = check($log, '--digest');
like($out, qr/^digest $digest$/m, 'the same digest as credits_digest');
(my $file = $node->basedir . '/chain.jsonl');
append_to_file($file, $log);
is(system("python3 -B '$script' '$file' >/dev/null"), 0, 'from a file');

# tampered exports
my @lines = split /\n/, $log;
my ($first) = grep { $lines[$_] =~ /"idempotency_key":"spend:1"/ } 0 .. $#lines;
my %tampered = (
	'amount' => sub { s/"amount":-120,/"amount":-119,/ },
	'reference' => sub { s/"reference":"request:1"/"reference":"request:2"/ },
	'metadata' => sub { s/large/small/ },
	'draws' => sub { s/"draws":\[\[(\d+)/'"draws":[[' . ($1 + 1)/e },
	'created_at' => sub { s/"created_at":(\d+)/'"created_at":' . ($1 + 1)/e },
	'terms' => sub { s/"terms":null/"terms":"{}"/ },
	'key' => sub { s/"idempotency_key":"spend:1"/"idempotency_key":null/ },
	'member' => sub { s/"member_id":null/"member_id":1/ },
	'operation' => sub { s/"operation":"\w+/"operation":"x/ },
	'request' => sub { s/"request":(-?\d+)/"request":1/ },
	'role' => sub { s/"role":"\w+"/"role":"mallory"/ },
	'hash' => sub { s/"hash":"(.)/'"hash":"' . ($1 eq '0' ? '1' : '0')/e },
	'salt' => sub { s/"salt":"\w+"/"salt":null/ },);
foreach my $name (sort keys %tampered)
{
	my @copy = @lines;
	$tampered{$name}->() foreach $copy[$first];
	isnt($copy[$first], $lines[$first], "$name edited");
	($status, $out) = check(join("\n", @copy) . "\n");
	is($status, 1, "$name edited: found");
	my ($id) = $lines[$first] =~ /"id":(\d+)/;
	like($out, qr/^account 1 transaction $id: .*hash does not match|no canonical form/m, "$name edited: where");
	like($out, qr/accounts: \d bad rows\n\z/, "$name edited: said");
}
my @copy = @lines;
splice @copy, $first, 1;
($status, $out) = check(join("\n", @copy) . "\n");
is($status, 1, 'a row taken out');
@copy = @lines;
splice @copy, $first, 0, $copy[$first];
is((check(join("\n", @copy) . "\n"))[0], 1, 'a row twice');
@copy = @lines;
@copy[ $first, $first + 1 ] = @copy[ $first + 1, $first ];
is((check(join("\n", @copy) . "\n"))[0], 1, 'rows swapped');
@copy = @lines;
my $last = $#copy;
pop @copy;
($status, $out) = check(join("\n", @copy) . "\n", '--digest');
is($status, 0, 'the last row taken out: no chain can tell');
unlike($out, qr/digest $digest/, 'but the digest can');

# a row that has forgotten its texts, and one that remembers them
my ($erased) = $lines[$first] =~ /"id":(\d+)/;
is($node->safe_psql('postgres', "SELECT credits_erase_text($erased)"), 't', 'texts erased');
my $forgetful = $node->safe_psql('postgres', $export) . "\n";
unlike($forgetful, qr/"spend:1"/, 'the export does not have them');
($status, $out) = check($forgetful, '--digest');
is($status, 0, 'but it is whole') or diag $out;
like($out, qr/^digest $digest$/m, 'with the same digest');
$forgetful =~ s/("id":$erased,.*?)"idempotency_key":null/$1"idempotency_key":"spend:1"/;
($status, $out) = check($forgetful);
is($status, 1, 'a text that came back');
like($out, qr/^account 1 transaction $erased: .*text that was erased/m, 'is named');

# not an export
is((check("nonsense\n"))[0], 2, 'not JSON');
is((check(qq({"id": 1}\n)))[0], 2, 'not a row');
is((check(''))[0], 0, 'nothing');
is(system("python3 -B '$script' /no/such/file 2>/dev/null") >> 8, 2, 'no file');

# a database of another encoding
$node->safe_psql('postgres',
	q(CREATE DATABASE latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0));
create_credits($node, 'latin1');
$node->safe_psql('latin1', <<"SQL");
SET client_encoding = 'UTF8';
SELECT credits_open_account('caf\xc3\xa9', 10, metadata => '{"\xc3\xbc": "\xc3\xa9"}');
SELECT credits_deduct('caf\xc3\xa9', 1, '\xc3\xa4', '\xc3\xb6', '\xc3\xbc');
SELECT credits_pause_account('caf\xc3\xa9', 'd\xc3\xa9j\xc3\xa0');
SQL
{
	local $ENV{PGCLIENTENCODING} = 'UTF8';
	$log = $node->safe_psql('latin1', $export) . "\n";
}
is((check($log, '--encoding', 'latin-1'))[0], 0, 'LATIN1, told so');
is((check($log))[0], 1, 'LATIN1, taken for UTF8');
problems_are($node, '', 'verify in LATIN1', 'latin1');
problems_are($node, '', 'verify');

$node->stop;
done_testing();
