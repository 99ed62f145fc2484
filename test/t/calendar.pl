# The calendar: ten years of periods in many time zones, against dates that the
# C library and the arithmetic below compute without PostgreSQL; and ten years of
# subscriptions, whose periods must be those.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::Local qw(timegm_nocheck);

use constant DAY => 86400;
use constant YEARS => 10;

my @zones = qw(
  UTC Europe/Berlin Europe/London Europe/Dublin Europe/Istanbul Europe/Moscow
  America/New_York America/Los_Angeles America/St_Johns America/Sao_Paulo
  America/Santiago America/Havana America/Nuuk America/Caracas
  Africa/Casablanca Africa/Cairo Asia/Kolkata Asia/Kathmandu Asia/Tokyo
  Asia/Tehran Asia/Beirut Asia/Gaza Asia/Pyongyang Australia/Lord_Howe
  Australia/Sydney Pacific/Auckland Pacific/Chatham Pacific/Apia
  Pacific/Kiritimati Antarctica/Troll);

foreach my $zone (@zones)
{
	plan skip_all => "the system has no data of time zone $zone"
	  unless -r "/usr/share/zoneinfo/$zone";
}

# ---------------------------------------------------------------------------
# what a clock on the wall shows, as the C library knows it

my %changes;

# Seconds that the wall is ahead of UTC, in the zone that TZ names.
sub ahead
{
	my ($at) = @_;
	return timegm_nocheck((localtime $at)[ 0 .. 5 ]) - $at;
}

# The stretches between two changes of a zone's offset, each with its first
# instant and its offset, from and to a year.
sub stretches
{
	my ($zone, $from, $to) = @_;
	my $first = timegm_nocheck(0, 0, 0, 1, 0, $from);
	my $last = timegm_nocheck(0, 0, 0, 1, 0, $to);

	return $changes{"$zone $from $to"} //= do
	{
		local $ENV{TZ} = ":$zone";
		POSIX::tzset();
		my @found = ([ -9e15, ahead($first) ]);
		for (my $at = $first; $at < $last; $at += DAY / 4)
		{
			my ($low, $high) = ($at, $at + DAY / 4);
			next if ahead($low) == ahead($high);
			while ($high - $low > 1)
			{
				my $middle = int(($low + $high) / 2);
				if (ahead($middle) == ahead($low)) { $low = $middle }
				else { $high = $middle }
			}
			push @found, [ $high, ahead($high) ];
		}
		\@found;
	};
}

# The instant at which the wall shows a time, given in seconds as if it were UTC:
# the second of two, and where clocks jump over it, as if they had not yet.
sub instant
{
	my ($wall, $stretches) = @_;
	my ($low, $high) = (0, $#$stretches);
	my $found;

	# begin in one that was over or under way two days before
	while ($low < $high)
	{
		my $middle = int(($low + $high + 1) / 2);
		if ($stretches->[$middle][0] <= $wall - 2 * DAY) { $low = $middle }
		else { $high = $middle - 1 }
	}
	foreach my $n ($low .. $#$stretches)
	{
		my ($begin, $ahead) = @{ $stretches->[$n] };
		my $end = $n < $#$stretches ? $stretches->[ $n + 1 ][0] : 9e15;
		my $at = $wall - $ahead;
		# in this stretch, or jumped over at its end
		return $found if $at < $begin && defined $found;
		$found = $at if $at >= $begin && $at < $end;
		$found = $at
		  if $n < $#$stretches && $at >= $end && $wall - $stretches->[ $n + 1 ][1] < $end;
	}
	return $found;
}

# The wall at an instant.
sub wall
{
	my ($at, $stretches) = @_;
	my ($in) = grep { $_->[0] <= $at } reverse @$stretches;
	return $at + $in->[1];
}

# ---------------------------------------------------------------------------
# periods

my @month_days = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31);

# A wall some months later, on the last day of a month that has not so many.
sub months_later
{
	my ($wall, $months) = @_;
	my (undef, undef, undef, $day, $month, $year) = gmtime $wall;
	my $seconds = $wall % DAY;

	$month += 12 * ($year + 1900) + $months;
	$year = int($month / 12);
	$month %= 12;
	my $days = $month_days[$month];
	$days++ if $month == 1 && ($year % 4 == 0 && $year % 100 != 0 || $year % 400 == 0);
	$day = $days if $day > $days;
	return timegm_nocheck(0, 0, 0, $day, $month, $year) + $seconds;
}

my %months = (month => 1, year => 12);
my %days = (day => 1, week => 7);

# When period n begins.
sub start_of
{
	my ($anchor, $stretches, $period, $every, $n) = @_;

	return $anchor if $n == 0;
	my $wall = wall($anchor, $stretches);
	$wall = exists $months{$period}
	  ? months_later($wall, $n * $every * $months{$period})
	  : $wall + $n * $every * $days{$period} * DAY;
	return instant($wall, $stretches);
}

my @periods = (
	[ 'month', 1 ], [ 'month', 3 ], [ 'month', 5 ], [ 'week', 1 ], [ 'week', 2 ],
	[ 'year', 1 ], [ 'year', 2 ], [ 'day', 1 ], [ 'day', 10 ]);

# How many such periods ten years have.
sub how_many
{
	my ($period, $every) = @_;
	return int(YEARS * 12 / $every / $months{$period}) if exists $months{$period};
	# three years of days
	return int(($period eq 'day' ? 3 : YEARS) * 365.25 / $every / $days{$period});
}

# Anchors of a zone: ends of months at odd times of day, and what meets the
# first changes of its clocks some periods later.
sub anchors_of
{
	my ($stretches, $year) = @_;
	my $leap = $year % 4 == 0 ? $year : $year + 4 - $year % 4;
	my @walls = (
		timegm_nocheck(0, 0, 0, 31, 0, $year),
		timegm_nocheck(59, 59, 23, 30, 0, $year),
		timegm_nocheck(0, 30, 2, 29, 0, $year),
		timegm_nocheck(0, 0, 0, 31, 7, $year),
		timegm_nocheck(17, 30, 12, 30, 10, $year),
		timegm_nocheck(0, 0, 0, 29, 1, $leap),
		timegm_nocheck(59, 59, 23, 31, 11, $year));
	my @anchors;
	my $met = 0;

	foreach my $n (1 .. $#$stretches)
	{
		my ($begin, $ahead) = @{ $stretches->[$n] };
		my $before = $stretches->[ $n - 1 ][1];
		next if $begin < timegm_nocheck(0, 0, 0, 1, 0, $year + 1);
		last if $met++ >= 4;
		# in the middle of what is jumped over or shown twice
		my $middle = $begin + int(($ahead + $before) / 2);
		push @walls, months_later($middle, -3), months_later($middle, -12), $middle - 21 * DAY;
		# and just before and after
		push @walls, months_later($begin + $before - 1, -1), months_later($begin + $ahead, -1);
		# both of two instants that show the same
		push @anchors, $middle - $before, $middle - $ahead if $ahead < $before;
		# what the clocks jump over, as PostgreSQL reads it
		push @anchors, instant($middle, $stretches) if $ahead > $before;
	}
	return @anchors, map { instant($_, $stretches) } @walls;
}

# what must hold for the computation above to be worth anything
{
	my $berlin = stretches('Europe/Berlin', 2020, 2040);
	my $at = sub { timegm_nocheck(0, $_[4], $_[3], $_[2], $_[1] - 1, $_[0]) };
	is(instant($at->(2026, 3, 29, 2, 30), $berlin), $at->(2026, 3, 29, 1, 30), 'jumped over: as before');
	is(instant($at->(2026, 10, 25, 2, 30), $berlin), $at->(2026, 10, 25, 1, 30), 'shown twice: the second');
	is(instant($at->(2026, 10, 25, 1, 59), $berlin), $at->(2026, 10, 24, 23, 59), 'before that');
	is(instant($at->(2026, 7, 1, 0, 0), $berlin), $at->(2026, 6, 30, 22, 0), 'in summer');
	is(months_later($at->(2024, 1, 31, 5, 0), 1), $at->(2024, 2, 29, 5, 0), 'a leap year');
	is(months_later($at->(2024, 1, 31, 5, 0), -2), $at->(2023, 11, 30, 5, 0), 'backwards');
}

my $node = credits_node('calendar');

# all cases: zone, year before ten years, anchor, period, every
my @cases;
foreach my $year (2006, 2024)
{
	foreach my $zone (@zones)
	{
		my $stretches = stretches($zone, $year - 2, $year + 16);
		my %seen;
		foreach my $anchor (grep { !$seen{$_}++ } anchors_of($stretches, $year))
		{
			push @cases, [ $zone, $stretches, $anchor, @$_ ] foreach @periods;
		}
	}
}
my $file = $node->basedir . '/cases';
open my $out, '>', $file or die "cannot write $file: $!";
foreach my $n (0 .. $#cases)
{
	my ($zone, undef, $anchor, $period, $every) = @{ $cases[$n] };
	print $out join("\t", $n, $zone, $anchor, $period, $every, how_many($period, $every)), "\n";
}
close $out;
$node->safe_psql('postgres', qq(
	CREATE TABLE cases (id int, timezone text, anchor bigint, period text, every int, periods int);
	COPY cases FROM '$file'));

# every start
my $compared = 0;
my $different = 0;
my $rows = $node->basedir . '/starts';
$node->safe_psql('postgres', qq(
	COPY (SELECT c.id, n, extract(epoch FROM credits.period_start(
			to_timestamp(c.anchor), c.timezone, c.period, c.every, n))
		  FROM cases AS c, generate_series(0, c.periods) AS n) TO '$rows'));
open my $in, '<', $rows or die "cannot read $rows: $!";
while (<$in>)
{
	my ($id, $n, $start) = split;
	my ($zone, $stretches, $anchor, $period, $every) = @{ $cases[$id] };
	my $expected = start_of($anchor, $stretches, $period, $every, $n);
	$compared++;
	next if $start == $expected;
	diag("$zone, anchor $anchor, $every $period(s), period $n: $start, not $expected")
	  if $different++ < 20;
}
close $in;
cmp_ok($compared, '>', 1_000_000, 'many dates were compared');
is($different, 0, "$compared starts of periods in " . @zones . ' time zones: no difference');

# an instant is in the period that began last
is($node->safe_psql('postgres', q(
	SELECT count(*)
	FROM (SELECT c.*, n, to_timestamp(c.anchor) AS at,
			credits.period_start(to_timestamp(c.anchor), c.timezone, c.period, c.every, n) AS starts_at,
			credits.period_start(to_timestamp(c.anchor), c.timezone, c.period, c.every, n + 1) AS ends_at
		  FROM cases AS c, generate_series(-3, 40) AS n) AS p
	WHERE starts_at > ends_at
	   OR starts_at < ends_at
		  AND (credits.period_number(at, timezone, period, every, starts_at) <> n
			   OR credits.period_number(at, timezone, period, every, ends_at - interval '1 microsecond') <> n))),
	'0', 'each instant is in the period that holds it');

# subscriptions, some years of which pass with others; a plan for each kind of period
my @kinds = ([ 'month', 1 ], [ 'month', 3 ], [ 'year', 1 ], [ 'week', 1 ]);
my @subscriptions;
foreach my $zone (@zones)
{
	my $stretches = stretches($zone, 2022, 2040);
	my @anchors = anchors_of($stretches, 2024);
	foreach my $n (0 .. $#anchors)
	{
		push @subscriptions, [ $zone, $stretches, $anchors[$n], @$_ ]
		  foreach $n % 12 == 0 ? @kinds : $n % 4 == 0 ? @kinds[ 0 .. 2 ] : ();
	}
}
@subscriptions = sort { $a->[2] <=> $b->[2] } @subscriptions;
my $sql = join '', map { "SELECT credits_set_plan('$_->[0] $_->[1]', 1, '$_->[0]', $_->[1]);\n" } @kinds;
foreach my $n (0 .. $#subscriptions)
{
	my ($zone, undef, $anchor, $period, $every) = @{ $subscriptions[$n] };
	my $clock = POSIX::strftime('%Y-%m-%d %H:%M:%S+00', gmtime($anchor + YEARS * 365.25 * DAY));
	$sql .= "SET credits.test_clock = '$clock';\n"
	  . "SELECT credits_open_account('calendar:$n', 0);\n"
	  . "SELECT credits_subscribe('calendar:$n', '$period $every', starts_at => to_timestamp($anchor), timezone => '$zone', metadata => '$n');\n";
	# the job: what a subscription that is so late has left, and what is due of the others
	$sql .= "CALL credits_renew();\n" if $period eq 'week' || $n == $#subscriptions;
}
$node->safe_psql('postgres', $sql);
my %periods;
foreach (split /\n/, $node->safe_psql('postgres', q(
	SELECT s.metadata, p.number, extract(epoch FROM p.starts_at), extract(epoch FROM p.ends_at)
	FROM credits.periods AS p JOIN credits.subscriptions AS s ON s.id = p.subscription_id
	WHERE p.status = 'granted')))
{
	my ($id, $number, @period) = split /\|/;
	$periods{$id}{$number} = \@period;
}
$compared = $different = 0;
foreach my $id (0 .. $#subscriptions)
{
	my ($zone, $stretches, $anchor, $period, $every) = @{ $subscriptions[$id] };
	foreach my $n (0 .. how_many($period, $every) - 1)
	{
		my @expected = map { start_of($anchor, $stretches, $period, $every, $n + $_) } 0, 1;
		my @found = @{ $periods{$id}{$n} // [ 'no', 'period' ] };
		$compared++;
		next if "@found" =~ /^$expected[0]\.0+ $expected[1]\.0+$/;
		diag("subscription in $zone, anchor $anchor, every $every $period(s), period $n: @found, not @expected")
		  if $different++ < 20;
	}
}
cmp_ok($compared, '>', 30_000, 'many periods of subscriptions were compared');
is($different, 0, "$compared periods of " . @subscriptions . ' subscriptions: no difference');
is($node->safe_psql('postgres', q(
	SELECT count(*) FROM credits.subscriptions AS s
	WHERE (SELECT count(*) FROM credits.periods AS p WHERE p.subscription_id = s.id) <> s.period_number + 1)),
	'0', 'each period was given once');
problems_are($node, '', 'and the log proves it');

done_testing();
