package Trace;

# Trace.pm - what the replays of the trace share: reading it, giving its
# requests accounts, comparing, and printing the summary
#
# The trace is the Azure LLM inference trace of 2023, code part: an hour of
# requests, as TIMESTAMP,ContextTokens,GeneratedTokens.  It has no users, so a
# rule gives it some: request n belongs to account 1 + floor(200 u^2), u being
# the first 32 bits of md5(n) as a fraction.  That is a power law: account k
# sees sqrt(k/200) - sqrt((k-1)/200) of the traffic, 7 % for the first, 0.25 %
# for the last.

use strict;
use warnings;
use DBI;
use Digest::MD5 qw(md5);
use Exporter qw(import);
use POSIX qw(ceil);

our @EXPORT = qw(ACCOUNTS account_name account_number open_session install one_row
  begin_trace next_request context_cost generation_cost metadata
  same_receipt check wrong all_is_right thousands line say_rate end_trace);

use constant {
	ACCOUNTS => 200,
	MOST_SHOWN => 20,
};

my $read = 0;
my @wrong;

# accounts and sessions

sub account_name { return sprintf 'customer:%03d', $_[0] }

sub account_number
{
	my ($n) = @_;

	return 1 + int(ACCOUNTS * (unpack('N', md5($n)) / 2**32)**2);
}

sub open_session
{
	my ($database, $role) = @_;

	return DBI->connect("dbi:Pg:dbname=$database", $role, undef,
		{ RaiseError => 1, PrintError => 0, AutoCommit => 1 });
}

# Makes the extension and returns a session of the superuser's.
sub install
{
	my ($database) = @_;
	my $dba = open_session($database, undef);

	$dba->do('SET client_min_messages = warning');
	$dba->do('CREATE EXTENSION credits');
	$dba->do('GRANT credits_app TO shop');
	return $dba;
}

# Runs a prepared statement that returns one row.
sub one_row
{
	my ($statement, @arguments) = @_;

	$statement->execute(@arguments);
	my $row = $statement->fetchrow_hashref;
	$statement->finish;
	return $row;
}

# the trace

sub begin_trace
{
	my $header = <STDIN> // '';

	$header =~ /^TIMESTAMP,ContextTokens,GeneratedTokens\r?$/
	  or die "the trace does not start with TIMESTAMP,ContextTokens,GeneratedTokens\n";
	return;
}

# Returns the next request: its number, when it came, and its tokens.
sub next_request
{
	my $line = <STDIN> // return;

	$read++;
	my ($at, $context, $generated) = $line =~ /^([^,]*),(\d+),(\d+)\r?$/
	  or die "line $read of the trace is not TIMESTAMP,ContextTokens,GeneratedTokens\n";
	return { n => $read, at => $at, context => $context, generated => $generated };
}

sub context_cost { return ceil($_[0]->{context} / 1000) }
sub generation_cost { return ceil($_[0]->{generated} / 100) }

sub metadata
{
	my ($request) = @_;

	return sprintf '{"context_tokens": %d, "generated_tokens": %d}',
	  $request->{context}, $request->{generated};
}

# comparing

sub same_receipt
{
	my ($first, $again) = @_;
	my @fields = qw(transaction_id account kind amount balance held created_at);

	return $again->{replayed}
	  && join(' ', @$first{@fields}) eq join(' ', @$again{@fields});
}

sub wrong
{
	my ($what) = @_;

	push @wrong, $what;
	return;
}

sub check
{
	my ($what, $got, $expected) = @_;

	wrong("$what: $got, expected $expected") if $got ne $expected;
	return;
}

# Runs credits_verify, and tells whether nothing was found, by it or before.
sub all_is_right
{
	my ($dba) = @_;
	my $problems = $dba->selectall_arrayref('SELECT * FROM credits_verify()');

	wrong('credits_verify: ' . join ' ', map { $_ // '-' } @$_) foreach @$problems;
	return !@wrong;
}

# the summary

sub thousands
{
	my ($n) = @_;

	1 while $n =~ s/^(-?\d+)(\d{3})/$1,$2/;
	return $n;
}

sub line
{
	my ($name, $value, $words) = @_;

	printf "   %-12s %8s%s\n", $name, thousands($value), $words ? "   $words" : '';
	return;
}

sub say_rate
{
	my ($calls, $seconds) = @_;

	printf "   %s requests/s: %s calls, each a transaction, on one connection, in %.1f s\n",
	  thousands(int($read / $seconds)), thousands($calls), $seconds;
	return;
}

# Ends with what was wrong, if anything was.
sub end_trace
{
	my $more = @wrong - MOST_SHOWN;

	return if !@wrong;
	splice @wrong, MOST_SHOWN if $more > 0;
	print STDERR map { "   wrong: $_\n" } @wrong;
	print STDERR "   wrong: $more more\n" if $more > 0;
	exit 1;
}

1;
