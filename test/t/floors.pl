# The rooms of src/ hold each other up: a file includes and calls only what is in
# its own room or below it.  Includes are read from the sources, calls from the
# symbols of the objects, which is what the linker goes by.

use strict;
use warnings FATAL => 'all';

use File::Basename;
use Test::More;

# from the ground up
my @rooms = qw(base store ledger accounts spend codes subscribe sell stripe tell disputes rewards admin jobs verify);
my %floor = map { $rooms[$_] => $_ } 0 .. $#rooms;

my @sources = (glob('src/*.[ch]'), glob('src/*/*.[ch]'));
my @objects = glob('src/*/*.o');
plan skip_all => 'there are no objects: build first' unless @objects;

# Returns the room that a file of src/ is in, '' for what stands above them all.
sub room_of
{
	my ($file) = @_;
	return $file =~ m{^src/([^/]+)/} ? $1 : '';
}

# every folder has its floor, and every floor its folder
my %found = map { room_of($_) => 1 } grep { room_of($_) } @sources;
is_deeply([ sort keys %found ], [ sort @rooms ], 'each folder of src/ is a room');

# includes
my @upward;
foreach my $file (@sources)
{
	my $room = room_of($file);
	next if $room eq '';
	open my $in, '<', $file or die "$file: $!";
	while (<$in>)
	{
		next unless /^#include "([a-z_]+)\/[a-z_]+\.h"/ and exists $floor{$1};
		push @upward, "$file includes $_" if $floor{$1} > $floor{$room};
	}
}
is(join('', @upward), '', 'no file includes the header of a room above');

# calls: who defines a symbol, and who uses it
my (%defined_in, %used_by, %is_function);
foreach my $object (@objects)
{
	foreach (split /\n/, `nm '$object'`)
	{
		my ($type, $symbol) = /([A-Za-z]) (\w+)$/ or next;
		if ($type eq 'U') { push @{ $used_by{$symbol} }, $object }
		elsif ($type =~ /[BCDRT]/) { $defined_in{$symbol} = $object }
		$is_function{$symbol} = 1 if $type eq 'T';
	}
}
cmp_ok(scalar keys %defined_in, '>', 500, 'nm reads the objects');

@upward = ();
foreach my $symbol (sort keys %defined_in)
{
	my $below = $defined_in{$symbol};
	foreach my $user (@{ $used_by{$symbol} // [] })
	{
		push @upward, "$user uses $symbol of $below\n"
		  if $floor{ room_of($below) } > $floor{ room_of($user) };
	}
}
is(join('', @upward), '', 'no file uses what a room above defines');

# no table is ever locked against those who write it, but the log for a moment when it
# is partitioned; a sequence is that is behind its table, until it is set
my @locks;
foreach my $file (grep { !m{^src/(?:store/sequences|jobs/partition_locks|jobs/partitions|verify/archive|verify/leaving)\.c$} } @sources, glob('sql/*.sql'))
{
	open my $in, '<', $file or die "$file: $!";
	while (<$in>)
	{
		push @locks, "$file: $_"
		  if /\bLOCK\s+TABLE\b/i || /\b(Share|ShareUpdateExclusive|ShareRowExclusive|Exclusive|AccessExclusive)Lock\b/;
	}
}
is(join('', @locks), '', 'no table lock above ROW EXCLUSIVE');

# one number, one file, and in the order of the rooms
my (%number, @doubled);
foreach my $part (map { basename $_ } glob('sql/*.sql'))
{
	my ($n) = $part =~ /^(\d{3})_[a-z_]+\.sql$/ or push @doubled, $part;
	push @doubled, $part if defined $n && $number{$n}++;
}
is("@doubled", '', 'each part of sql/ has a number of its own');

# names: a static function stands in one file only, and what a file offers begins
# with its name.  Rooms that are one topic begin with the room's; the base is the
# vocabulary of all.
my (%static_in, @twice, @strange);
foreach my $file (grep { /\.c$/ } @sources)
{
	open my $in, '<', $file or die "$file: $!";
	my $before = '';
	while (<$in>)
	{
		my ($name) = /^([a-z_0-9]+)\(/;
		if (defined $name && $before =~ /^static\b/)
		{
			push @twice, "$name in $file and $static_in{$name}\n"
			  if exists $static_in{$name};
			$static_in{$name} = $file;
		}
		$before = $_;
	}
}
cmp_ok(scalar keys %static_in, '>', 300, 'static functions are found');
is(join('', @twice), '', 'no static function stands in two files');

my %whole_room = map { $_ => 1 } qw(base store stripe verify);
foreach my $symbol (sort keys %defined_in)
{
	my ($room, $file) = $defined_in{$symbol} =~ m{^src/([a-z]+)/([a-z_]+)\.o$} or next;
	next if !$is_function{$symbol} || $symbol =~ /^(credits_|pg_finfo_)/ || $room eq 'base';
	push @strange, "$symbol of $defined_in{$symbol}\n"
	  unless $symbol =~ /^\Q$file\E_/ || ($whole_room{$room} && $symbol =~ /^\Q$room\E_/);
}
is(join('', @strange), '', 'what a file offers begins with its name');

done_testing();
