# The kinds of events: what the sources write, what credits.event_kinds lists and
# what doc/alerts.md names are the same, so that nobody adds a kind without saying
# whom it is for and what people are told.

use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Utils;
use Test::More;

my $list = slurp_file('sql/103_event_kinds.sql');
my %listed = map { $_ => 1 } $list =~ /^\t\('([a-z_]+)', '/mg;
cmp_ok(scalar keys %listed, '>', 40, 'there are kinds');

my $sources = join '', map { slurp_file($_) } glob('src/*/*.c');
my %literal = map { $_ => 1 } $sources =~ /"([a-z]+(?:_[a-z]+)+)"/g;

is(join(' ', grep { !$literal{$_} } sort keys %listed), '', 'each kind that is listed is written somewhere');

# a kind is the first literal of these calls, or both of a choice
my @written;
push @written, $1 =~ /"([a-z_]+)"/g
  while $sources =~ /\b(?:events_add|events_announce|events_announce_with|purchases_event|renew_event|announce_problem|record_alert|refusals_record|wait_for)
	\s*\(((?:[^";]*?\?\s*"[a-z_]+"\s*:\s*"[a-z_]+")|(?:[^";]*?"[a-z_]+"))/gx;
push @written, $1 while $sources =~ /(?:\.kind|\balert) = "([a-z]+_[a-z_]+)"/g;
push @written, $1 =~ /"([a-z_]+)"/g while $sources =~ /_event_kinds\[\]\s*=\s*\{([^}]*)\}/g;
my %written = map { $_ => 1 } @written;
cmp_ok(scalar keys %written, '>', 30, 'the sources write events');
is(join(' ', grep { !$listed{$_} } sort keys %written), '', 'each kind that is written is listed');

my ($row) = slurp_file('doc/alerts.md') =~ /^\| `kind` \|(.*`low_balance`.*)\|$/m;
my %named = map { $_ => 1 } $row =~ /`([a-z]+_[a-z_]+)`(?!\])/g;
delete $named{$_} foreach grep { /^credits_/ } keys %named;
is(join(' ', grep { !$named{$_} } sort keys %listed), '', 'doc/alerts.md names each kind that is listed');
is(join(' ', grep { !$listed{$_} } sort keys %named), '', 'and no other one');

done_testing();
