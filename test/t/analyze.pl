# ANALYZE takes no lock that a spend would wait for, but makes all sessions read again
# what they know about a table, at whatever moment they next look something up.  So
# spends go on while the tables are analyzed all the time.  A server with assertions
# and AddressSanitizer finds what is read from the caches after it was replaced.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $seconds = 8;
my $node = credits_node('analyze', conf => 'autovacuum = off');
$node->safe_psql('postgres',
	"SELECT count(credits_open_account('account:' || i, 1000000)) FROM generate_series(1, 20) AS i");

my $spend = $node->basedir . '/spend.sql';
my $analyze = $node->basedir . '/analyze.sql';
append_to_file($spend, <<'SQL');
\set i random(1, 20)
SELECT credits_deduct('account:' || :i, 1);
SQL
append_to_file($analyze, "ANALYZE credits.accounts, credits.grants, credits.log;\n");

my ($out, $err) = ('', '');
my @pgbench = ('pgbench', '-n', '-T', $seconds, '-h', $node->host, '-p', $node->port);
my $analyzing = IPC::Run::start([ @pgbench, '-f', $analyze, 'postgres' ], '>', \$out, '2>', \$err);
my ($spent, $problems) =
	run_command([ @pgbench, '-c', 4, '-f', $spend, 'postgres' ]);
ok($analyzing->finish, 'the tables were analyzed all the time') || diag $err;
is($problems =~ s/^pgbench \(.*\n//r, '', 'every spend went through');

my ($spends) = $spent =~ /transactions actually processed: (\d+)/;
my ($analyses) = $out =~ /transactions actually processed: (\d+)/;
diag "$spends spends, tables analyzed $analyses times";
is($node->safe_psql('postgres', 'SELECT sum(spent) FROM credits.accounts'), $spends,
	'and counted');
problems_are($node, '', 'the ledger is in order');

done_testing();
