# The version stands in credits.control alone; whatever repeats it must agree.

use strict;
use warnings;

use FindBin;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my ($version) = slurp_file("$top/credits.control") =~ /^default_version = '(.*)'$/m;
like($version, qr/^\d+\.\d+\.\d+$/, 'credits.control has a semantic version');

my $meta = decode_json(slurp_file("$top/META.json"));
is($meta->{version}, $version, 'META.json has it (make META.json)');
is($meta->{provides}{credits}{version}, $version, 'so has what it provides');
ok(-f "$top/$meta->{provides}{credits}{$_}", "its $_ exists") foreach qw(file docfile);

my ($newest) = slurp_file("$top/CHANGELOG.md") =~ /^## (\S+)/m;
is($newest, $version, 'CHANGELOG.md begins with it');

my $node = PostgreSQL::Test::Cluster->new('version');
$node->init;
$node->start;
$node->safe_psql('postgres', 'CREATE EXTENSION credits');
is( $node->safe_psql('postgres', "SELECT extversion FROM pg_extension WHERE extname = 'credits'"),
	$version,
	'CREATE EXTENSION makes it');

done_testing();
