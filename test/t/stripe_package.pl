# Events signed by Stripe's own library, the package stripe of npm, are accepted and
# applied, and those that it refuses are refused.
#
# NODE_PATH leads to it; test/full fetches it.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsBilling;
use CreditsBillingModel;
use CreditsHistories;
use CreditsTest;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'there is no Node with the package stripe'
  if system(q(node -e 'require("stripe")' >/dev/null 2>&1)) != 0;

my $now = billing_now();
my $secret = 'whsec_fYQ4ZxT7Zm0Jw3nKc8RbVd2LhGs6Pa1E';
my $node = credits_node('stripe_package');
my $session = CreditsTest::Session->new($node);
$session->value("SET credits.test_clock = '2027-03-20 12:00+00'; SELECT credits_stripe_add_secret('tests', '$secret')");
$session->value(billing_setup());

# What Stripe's library prints for each line.
sub signed
{
	my ($time, @payloads) = @_;
	my $output = '';
	IPC::Run::run([ 'node', "$FindBin::RealBin/clients/stripe.js", $secret, $time ],
		'<', \join("\n", @payloads, ''), '>', \$output) or die 'stripe.js failed';
	return map { (split / /, $_, 2)[1] } split /\n/, $output;
}

sub call_of { my ($payload, $header) = @_; return "SELECT (credits_stripe_webhook(\$stripe\$$payload\$stripe\$, '$header')).result"; }

my $trial = 0;
foreach my $history (grep { $_->[0] !~ /more lines than/ } chosen_histories())
{
	my ($name, $make) = @$history;
	my @events = $make->(++$trial % 2 ? 'new' : 'old');
	my @payloads = map { billing_payload($_, $trial) } @events;
	my @headers = signed($now, @payloads);
	my $account = sprintf 'b:%07d', $trial;

	$session->value("SELECT credits_open_account('$account') IS NULL");
	my @results = map { $session->query(call_of($payloads[$_], $headers[$_])) } 0 .. $#payloads;
	is(join(' ', grep { $_ ne '00000' } map { $_->{code} } @results), '', "$name: all are accepted");
	is($session->value("SELECT balance FROM credits_summary('$account')"),
		billing_model(\@events, $now, {}, {})->{balance}, "$name: and applied");
}

# nothing else is
my ($payload) = map { billing_payload($_, 9999999) } ((chosen_histories())[0][1]->('new'))[0];
my ($header) = signed($now, $payload);
my ($old) = signed($now - 3600, $payload);
is($session->query(call_of($payload =~ s/"livemode":false/"livemode":true/r, $header))->{code}, '28000', 'another body');
is($session->query(call_of("$payload ", $header))->{code}, '28000', 'a body with a space more');
is($session->query(call_of($payload, $header =~ s/v1=./v1=x/r))->{code}, '28000', 'another signature');
is($session->query(call_of($payload, $old))->{code}, '28000', 'a signature of an hour ago');
is($session->query(call_of($payload, $header))->{code}, '00000', 'and the same is accepted');

$session->quit;
$node->stop;
done_testing();
