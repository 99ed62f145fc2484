package Story;

# Story.pm - what the demos that tell a story share
#
# Every statement printed has been sent, and what stands below it is what came
# back.  Each call says what it expects, where '#' stands for any number;
# anything else ends the demo.  The clock is credits.test_clock, so that the
# dates are the same in every run.
#
# Connects as PGHOST, PGPORT and PGUSER (a superuser) say, to the database
# named as argument, which has the extension's files at hand but not yet the
# extension.

use strict;
use warnings;
use DBI;
use Exporter qw(import);
use JSON::PP;

our @EXPORT = qw($database session begin_story open_session set_clock
  say_step hide call hear webhook secret);

our ($database) = @ARGV;
my $steps = 0;
my %session;
# columns of a receipt that are not shown
my %hidden;

# Names the columns of receipts that are not shown from now on.
sub hide
{
	%hidden = map { $_ => 1 } @_;
	return;
}

# The session of that name.
sub session
{
	return $session{ $_[0] };
}

# Installs the extension, lets the role shop spend, and opens a session for
# each of the two, with the clock at an instant.
sub begin_story
{
	my ($clock) = @_;

	open_session('dba', undef);
	$session{dba}->do('CREATE EXTENSION credits');
	$session{dba}->do('GRANT credits_app TO shop');
	$session{dba}->do('GRANT SET ON PARAMETER credits.test_clock TO shop');
	open_session('shop', 'shop');
	set_clock($clock);
	return;
}

# Opens a session that is called $name in the output.
sub open_session
{
	my ($name, $role) = @_;

	$session{$name} = DBI->connect("dbi:Pg:dbname=$database", $role, undef,
		{ RaiseError => 1, PrintError => 0, AutoCommit => 1, pg_bool_tf => 1 });
	$session{$name}->do(q{SET timezone = 'UTC'; SET client_min_messages = warning});
	return;
}

# Sets the clock of those who move credits.
sub set_clock
{
	my ($at) = @_;

	print "   the clock is set to $at\n";
	$session{$_}->do("SET credits.test_clock = '$at'") foreach qw(dba shop);
	return;
}

sub say_step
{
	my ($words) = @_;

	printf "\n%d. %s\n", ++$steps, $words;
	return;
}

# Prints rows as a table if there are many, else as "name value" pairs.
sub format_rows
{
	my ($names, $rows) = @_;
	my @lines;

	if (@$rows == 1 && @$names == 1)
	{
		@lines = ($rows->[0][0]);
	}
	elsif (@$rows == 1)
	{
		@lines = (join ', ', map { "$names->[$_] $rows->[0][$_]" } 0 .. $#$names);
	}
	else
	{
		my @width = (0) x @$names;

		foreach my $row ($names, @$rows)
		{
			foreach my $i (0 .. $#$names)
			{
				$width[$i] = length $row->[$i] if $width[$i] < length $row->[$i];
			}
		}
		foreach my $row (@$rows ? ($names, @$rows) : ())
		{
			my $line = join '  ', map {
				sprintf $row->[$_] =~ /^-?\d+$/ ? '%*s' : '%-*s', $width[$_], $row->[$_]
			} 0 .. $#$names;
			push @lines, $line =~ s/\s+$//r;
		}
		@lines = ('(no rows)') if !@$rows;
	}
	return @lines;
}

sub expect
{
	my ($got, $expected) = @_;
	my $pattern = ref $expected ? $expected
	  : do { my $p = quotemeta $expected; $p =~ s/\\#/\\d+/g; qr/\A$p\z/ };

	if ($got !~ $pattern)
	{
		print STDERR "\nThis is not what was expected, which is:\n$expected\n";
		exit 1;
	}
	return;
}

# Runs a statement in a session, shows both it and its result, and returns the
# last column of the first row.  Receipts are shown by their main columns.
# What is passed by parameters is shown in words.
sub call
{
	my ($who, $sql, $expected, $words, @parameters) = @_;
	my $dbh = $session{$who};
	my ($got, $value, @lines);

	print "   $who> ", join("\n" . ' ' x (length($who) + 5), split /\n\s*/, $words // $sql), "\n";
	my $ok = eval {
		my $statement = $dbh->prepare($sql);
		$statement->execute(@parameters);
		if ($statement->{NUM_OF_FIELDS})
		{
			my @names = @{ $statement->{NAME} };
			my @rows = @{ $statement->fetchall_arrayref };
			my $is_receipt = grep { $_ eq 'replayed' } @names;
			my @shown = grep { !$is_receipt || !$hidden{ $names[$_] } } 0 .. $#names;
			my ($id) = grep { $names[$_] eq 'transaction_id' } 0 .. $#names;

			$value = $rows[0][ $id // -1 ] if @rows;
			@lines = format_rows([ @names[@shown] ],
				[ map { my $row = $_; [ map { $_ // '-' } @$row[@shown] ] } @rows ]);
		}
		1;
	};
	if ($ok)
	{
		$got = join "\n", @lines;
	}
	else
	{
		# errstr: "ERROR:  message", then DETAIL and HINT
		my ($message, @more) = split /\n/, $dbh->errstr;

		$got = $dbh->state;
		@lines = ("refused with $got:" . ($message =~ s/^ERROR: //r),
			map { ucfirst lc($1) . ": $2" if /^(DETAIL|HINT): +(.*)/ }
			grep { /^(DETAIL|HINT):/ } @more);
	}
	print map { ' ' x (length($who) + 5) . "$_\n" } @lines;
	expect($got, $expected);
	return $value;
}

# Shows what the listener has heard since it was last asked.  A notification
# of our own, sent now, arrives after all earlier ones: nothing is missed and
# nothing is waited for.
sub hear
{
	my ($expected) = @_;
	my $dbh = $session{listener};
	my $deadline = time + 30;
	my @heard;

	$session{dba}->do(q{NOTIFY demo_marker});
	LISTEN: while (time < $deadline)
	{
		while (my $notification = $dbh->pg_notifies)
		{
			my ($channel, undef, $payload) = @$notification;

			last LISTEN if $channel eq 'demo_marker';
			push @heard, "$channel $payload";
		}
		my $bits = '';
		vec($bits, $dbh->{pg_socket}, 1) = 1;
		select($bits, undef, undef, 1);
	}
	print "   listener> hears $_\n" foreach @heard ? @heard : ('nothing');

	# the payload counts, not the order of its keys
	expect(join("\n", map { canonical($_) } @heard), $expected);
	return;
}

sub canonical
{
	my ($channel, $payload) = split / /, $_[0], 2;

	return "$channel " . JSON::PP->new->canonical->encode(decode_json($payload));
}

# Stores the secret of a webhook, which is shown to nobody.
sub secret
{
	my ($secret) = @_;

	call('dba', q{SELECT credits_stripe_add_secret('endpoint', ?)}, '',
		q{SELECT credits_stripe_add_secret('endpoint', $1)}, $secret);
	return;
}

# Hands a webhook to the database.
sub webhook
{
	my ($type, $payload, $signature, $expected) = @_;

	call('shop', q{SELECT type, result, detail FROM credits_stripe_webhook(?::text, ?)}, $expected,
		'SELECT type, result, detail FROM credits_stripe_webhook($1, $2) -- ' . $type,
		$payload, $signature);
	return;
}

1;
