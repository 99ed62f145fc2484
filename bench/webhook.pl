# Prints the calls of row webhook: for each of so many purchases, from a first
# one on, the event of its finished checkout, signed as Stripe signs it; or,
# with "allocate", the same grants by credits_allocate.
#
#	perl webhook.pl webhook | allocate FIRST COUNT [FIXTURES]
#
# The event has the whole shape of Stripe's own example where FIXTURES names it
# (see README.md), so that it is as long as a real one.

use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../test/demo.d";
use JSON::PP;
use Stripe;

my ($way, $first, $count, $fixtures) = @ARGV;
my $at = epoch('2030-01-01 00:00:00');
my $shape = {};

if ($fixtures && -f $fixtures)
{
	local $/;
	open my $file, '<', $fixtures or die "$fixtures: $!";
	$shape = JSON::PP->new->decode(<$file>)->{resources}{'checkout.session'};
}

if ($way eq 'allocate')
{
	print q{PREPARE one_call(text, text) AS SELECT credits_allocate($1, 1000, source => 'purchase',
	price => 10.00, currency => 'USD', idempotency_key => $2, reference => $2);}, "\n";
	print "EXECUTE one_call('user:$_', 'pi_$_');\n" foreach $first .. $first + $count - 1;
	exit;
}

print "PREPARE one_call(text, text) AS SELECT result FROM credits_stripe_webhook(\$1, \$2);\n";
foreach my $n ($first .. $first + $count - 1)
{
	my $payload = event('checkout.session.completed',
		{ %$shape, %{ checkout_session("purchase_$n", "pi_$n", 1000, 'USD') } }, $at);

	# ids of other runs must differ
	$payload =~ s/evt_\d+/evt_$n/;
	my $signature = sign($payload, 'whsec_of_the_benchmark', $at);
	$payload =~ s/'/''/g;
	print "EXECUTE one_call('$payload', '$signature');\n";
}
