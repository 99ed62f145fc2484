# top_up.pl - listens for low balances and sells credits
#
# A process of its own, as an application would have one: it knows nothing but
# what the notifications say.  Each of them becomes one purchase, keyed by the
# transaction that caused it, so that a notification handled twice is paid
# once.  Accounts named after the size have no card on file: nothing is sold.
#
# usage: top_up.pl DATABASE ROLE SIZE [ACCOUNT ...]
#
# Writes "ready" once it listens.  When NOTIFY trace_end says that nothing
# more will come, it writes its accounts as lines of JSON, and ends:
# {"alert": ...} per notification heard, {"receipt": ...} per purchase.

use strict;
use warnings;
use DBI;
use JSON::PP;

my ($database, $role, $size, @no_card) = @ARGV;
my %no_card = map { $_ => 1 } @no_card;
my $json = JSON::PP->new->canonical;
my $parent = getppid;
my @written;

my $dbh = DBI->connect("dbi:Pg:dbname=$database", $role, undef,
	{ RaiseError => 1, PrintError => 0, AutoCommit => 1 });
my $allocate = $dbh->prepare(q{
	SELECT * FROM credits_allocate($1, $2, source => 'purchase',
		price => 9.99, currency => 'EUR', idempotency_key => $3,
		reason => 'balance was low')});

sub top_up
{
	my ($payload) = @_;
	my $alert = decode_json($payload);

	push @written, { alert => $alert };
	return if $no_card{ $alert->{account} };
	$allocate->execute($alert->{account}, $size, "top-up:$alert->{transaction_id}");
	push @written, { receipt => $allocate->fetchrow_hashref };
	$allocate->finish;
	return;
}

$dbh->do('LISTEN low_balance');
$dbh->do('LISTEN trace_end');
$| = 1;
print "ready\n";

# notifications arrive in the order of the commits that sent them
LISTEN: while (getppid == $parent)
{
	while (my $notification = $dbh->pg_notifies)
	{
		my ($channel, undef, $payload) = @$notification;

		last LISTEN if $channel eq 'trace_end';
		top_up($payload);
	}
	my $bits = '';
	vec($bits, $dbh->{pg_socket}, 1) = 1;
	select($bits, undef, undef, 1);
}
print map { $json->encode($_) . "\n" } @written;
