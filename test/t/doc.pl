# The documentation, tested: README.md and doc/*.md say what the extension does.
#
# Each page gets a database of its own.  Every ```sql block runs there in one
# psql session, in order, as it is written.  A ```text block right after it is
# what psql prints: tables aligned, errors as with \set VERBOSITY verbose but
# without the LOCATION line, output before errors.  "..." in it stands for
# anything up to the end of a column or line.  A block without one has to pass
# without an error.  Python and JavaScript are checked for their syntax where the
# interpreter is there.  Nothing else is run.
#
# What the extension has and what the pages describe are compared too:
# functions, settings, relations and SQLSTATEs, and every link between pages.
# What stands between "<!-- generated ... -->" and "<!-- end -->" comes from the
# catalog, and has to be what the catalog says now.
#
# With CREDITS_DOC_REWRITE=1 in the environment, what was printed or generated is
# written into the pages where it differs, to be read with git diff before it is
# believed:
#
#	make install && CREDITS_DOC_REWRITE=1 make installcheck REGRESS= ISOLATION= \
#		PROVE_TESTS=test/t/doc.pl

use strict;
use warnings;

use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = "$FindBin::RealBin/../..";
my $rewrite = $ENV{CREDITS_DOC_REWRITE};

my @pages = ('README.md', map { s!^\Q$top\E/!!r } sort glob("$top/doc/*.md"));
my %text = map { $_ => slurp_file("$top/$_") } @pages;

# Topics that share a page with another one.
my %shared_page = (schema => 'security', chain => 'log', codes => 'redeem', events => 'alerts', references => 'tables', watch => 'activity');

# schema-qualified words that are no objects of the database
my %file = map { $_ => 1 } qw(control so h c out);

my $node;

# Splits a page into its fenced blocks: language, line of the opening fence,
# lines, and whether nothing but empty lines separates it from the one before.
sub blocks
{
	my ($page) = @_;
	my (@blocks, $open);
	my $number = 0;
	my $adjacent = 0;

	foreach my $line (split /\n/, $text{$page})
	{
		$number++;
		if ($open && $line =~ /^```\s*$/)
		{
			push @blocks, $open;
			$open = undef;
			$adjacent = 1;
		}
		elsif ($open)
		{
			push @{ $open->{lines} }, $line;
		}
		elsif ($line =~ /^```(\w*)/)
		{
			$open = {
				language => $1,
				line => $number,
				lines => [],
				adjacent => $adjacent
			};
		}
		elsif ($line =~ /\S/)
		{
			$adjacent = 0;
		}
	}
	die "$page: the block at line $open->{line} has no end" if $open;
	return @blocks;
}

# The text of a page without its fenced blocks.
sub prose
{
	my ($page) = @_;
	return $text{$page} =~ s/^```.*?^```\s*?$//gmsr;
}

# GitHub's name for the anchor of a heading.
sub anchor
{
	my ($heading) = @_;
	$heading =~ s/[^\w\s-]//g;
	$heading =~ s/^\s+|\s+$//g;
	return lc($heading =~ s/\s/-/gr);
}

sub headings
{
	my ($page) = @_;
	return prose($page) =~ /^#+\s+(.*?)\s*$/mg;
}

# What psql printed, one chunk per block, by the markers between the blocks.
sub chunks
{
	my ($output) = @_;
	my (undef, @chunks) = split /^-- block \d+(?:\n|\z)/m, $output, -1;
	return map {
		[
			map { s/^psql:<stdin>:\d+: //r =~ s/\s+$//r }
			grep { !/^LOCATION:/ } split /\n/
		]
	} @chunks;
}

# Lines without the empty ones: how psql spaces its tables is no matter.
sub dense
{
	return grep { /\S/ } map { s/\s+$//r } @_;
}

# Puts the expected line in place of a printed one that fits it.
sub fit
{
	my ($got, $want) = @_;
	my @got = @$got;
	foreach my $i (0 .. $#got)
	{
		my $line = $want->[$i] // last;
		next unless $line =~ /\.\.\./;
		# the filler after the dots is as wide as the value was
		my $pattern = join '.*', map { quotemeta } split /\s*\.\.\.\s*/, $line, -1;
		$got[$i] = $line if $got[$i] =~ /^$pattern$/;
	}
	return @got;
}

# Runs the examples of a page and compares what they print.
sub test_page
{
	my ($page) = @_;
	my @blocks = blocks($page);
	my @examples;
	my $database = 'doc_' . lc($page =~ s/\.md$//r =~ s/\W/_/gr);

	foreach my $i (0 .. $#blocks)
	{
		next unless $blocks[$i]->{language} eq 'sql';
		my $next = $blocks[ $i + 1 ];
		push @examples,
		  {
			%{ $blocks[$i] },
			result => $next
			  && $next->{language} eq 'text'
			  && $next->{adjacent} ? $next : undef
		  };
	}
	return unless @examples;

	my $script = join "\n", '\set VERBOSITY verbose',
	  '\set SHOW_CONTEXT never', '\pset format aligned',
	  '\pset tuples_only off', '';
	foreach my $i (0 .. $#examples)
	{
		$script .= "\\echo -- block $i\n\\warn -- block $i\n"
		  . join("\n", @{ $examples[$i]->{lines} }, '');
	}

	my ($stdout, $stderr, $timed_out) = ('', '', 0);
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	$node->psql(
		$database, $script,
		stdout => \$stdout,
		stderr => \$stderr,
		on_error_stop => 0,
		on_error_die => 0,
		timeout => $PostgreSQL::Test::Utils::timeout_default,
		timed_out => \$timed_out,
		extra_params => [ '--username', 'postgres' ]);

	my @out = chunks($stdout);
	my @err = chunks($stderr);
	ok(!$timed_out && @err == @examples, "$page: all examples ran")
	  or diag($stderr);

	my @changes;
	foreach my $i (0 .. $#examples)
	{
		my $example = $examples[$i];
		my $name = "$page:$example->{line}";
		my @got = (@{ $out[$i] // [] }, @{ $err[$i] // [] });

		if (my $result = $example->{result})
		{
			my @want = dense(@{ $result->{lines} });
			my @fitted = fit([ dense(@got) ], \@want);

			is(join("\n", @fitted), join("\n", @want), $name)
			  or push @changes, [ $result, @got ];
		}
		else
		{
			my @errors = grep { !/^(NOTICE|INFO):/ } dense(@{ $err[$i] // [] });

			is(join("\n", @errors), '', "$name: no error");
		}
	}
	rewrite($page, @changes) if $rewrite && @changes;
	is(run_tables($database, '-v', 'check=1'), '', "$page: every reference leads somewhere")
	  if $node->safe_psql($database, q{SELECT 1 FROM pg_extension WHERE extname = 'credits'});
}

# Puts what was printed into the page, in place of what was expected.
sub rewrite
{
	my ($page, @changes) = @_;
	my @lines = split /\n/, $text{$page}, -1;

	foreach my $change (reverse @changes)
	{
		my ($result, @got) = @$change;

		shift @got while @got && $got[0] !~ /\S/;
		pop @got while @got && $got[-1] !~ /\S/;
		# two empty lines in a row say no more than one
		@got = split /\n/, join("\n", @got) =~ s/\n{3,}/\n\n/gr;
		splice @lines, $result->{line}, scalar @{ $result->{lines} }, @got;
	}
	write_page($page, join "\n", @lines);
}

sub write_page
{
	my ($page, $new) = @_;

	open my $file, '>', "$top/$page" or die "$page: $!";
	print $file $new;
	close $file;
	diag("$page rewritten");
}

# Compares the generated part of a page with what the catalog gives.
sub test_generated
{
	my ($page, $name, $want) = @_;
	my $part = qr/(<!-- generated $name.*? -->\n)(.*?)(?=<!-- end -->\n)/s;
	my (undef, $got) = $text{$page} =~ $part
	  or die "$page has no generated part $name";

	is($got, "\n$want\n", "$page: $name as in the catalog")
	  or $rewrite && write_page($page, $text{$page} =~ s/$part/$1\n$want\n/r);
}

# Every function with its page and its comment, in the order of the pages.
sub test_function_index
{
	my $index = 'doc/README.md';
	my %comments = map { split /\t/, $_, 2 } split /\n/,
	  $node->safe_psql('doc_catalog', q{
		SELECT DISTINCT ON (proname) concat_ws(E'\t', proname, obj_description(oid, 'pg_proc'))
		FROM pg_proc
		WHERE pronamespace = 'public'::regnamespace AND proname LIKE 'credits\_%'
		ORDER BY proname, oid});
	my $table = "| function | |\n|---|---|\n";

	foreach my $page ($text{$index} =~ /\]\(([a-z_]+\.md)\)/g)
	{
		foreach my $name (map { s/\\//gr } headings("doc/$page"))
		{
			my $comment = delete $comments{$name} // next;

			$table .= "| [$name]($page#" . anchor($name) . ") | $comment |\n";
		}
	}
	test_generated($index, 'functions', $table);
}

# The kinds of events, as their view has them.
sub test_event_kinds
{
	test_generated('doc/event_kinds.md', 'event_kinds',
		"| kind | when | told | required | critical |\n|---|---|---|---|---|\n" . $node->safe_psql('doc_catalog', q{
			SELECT format(E'| `%s` | %s | %s | %s | %s |\n', kind, description, CASE WHEN told THEN 'yes' END,
				CASE WHEN required THEN 'yes' END, CASE WHEN critical THEN 'yes' END)
			FROM credits.event_kinds}) =~ s/\n\n/\n/gr . "\n");
}

# One query's rows, first column, as the keys of a hash.
sub set_of
{
	my ($query) = @_;
	return map { $_ => 1 } split /\n/,
	  $node->safe_psql('doc_catalog', "LOAD 'credits'; $query");
}

sub missing
{
	my ($wanted, $present) = @_;
	return join ' ', grep { !$present->{$_} } sort keys %$wanted;
}

sub test_names
{
	my $members = q{pg_depend AS d
		JOIN pg_extension AS e ON d.refclassid = 'pg_extension'::regclass
			AND d.refobjid = e.oid AND d.deptype = 'e'
			AND e.extname = 'credits'};
	$node->safe_psql('postgres', 'CREATE DATABASE doc_catalog');
	$node->safe_psql('doc_catalog', 'CREATE EXTENSION credits');

	my %functions = set_of(qq{SELECT DISTINCT p.proname FROM $members
		JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
		WHERE p.pronamespace = e.extnamespace});
	my %objects = set_of(qq{SELECT p.proname FROM $members
		JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
		WHERE p.pronamespace = 'credits'::regnamespace
		UNION SELECT relname FROM pg_class
		WHERE relnamespace = 'credits'::regnamespace});
	my %settings =
	  set_of(q{SELECT name FROM pg_settings WHERE name LIKE 'credits.%'});
	my %arguments = set_of(qq{SELECT DISTINCT unnest(p.proargnames) FROM $members
		JOIN pg_proc AS p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid});
	my %roles = set_of(q{SELECT rolname FROM pg_roles});
	my %described;

	cmp_ok(scalar keys %functions, '>', 15, 'the extension has functions');
	cmp_ok(scalar keys %settings, '>=', 5, 'the extension has settings');

	foreach my $page (grep { !/README/ } @pages)
	{
		$described{$_} = 1 foreach map { s/[`\\]//gr } headings($page);
	}
	is(missing(\%functions, \%described), '', 'every function has a heading');
	my %setting_headings = map { s/[`\\]//gr => 1 } headings('doc/settings.md');
	is(missing(\%settings, \%setting_headings),
		'', 'every setting has a heading in doc/settings.md');

	foreach my $page (@pages)
	{
		my %named = map { $_ => 1 } $text{$page} =~ /\b(credits_[a-z_]*[a-z])\b/g;
		is(missing(\%named, { %functions, %arguments, %roles, credits_event => 1 }),
			'', "$page names no function that does not exist");

		my %qualified = map { $_ => 1 } $text{$page} =~ /\bcredits\.([a-z_]+)\b/g;
		is( missing(
				\%qualified,
				{
					%objects, %file,
					map { s/^credits\.//r => 1 } keys %settings
				}),
			'',
			"$page names no table, view, type or setting that does not exist");

		my %codes = map { $_ => 1 } grep { /\d/ } $text{$page} =~ /`([0-9A-Z]{5})`/g;
		my %listed = map { $_ => 1 } $text{'doc/errors.md'} =~ /`(\w{5})`/g;
		is(missing(\%codes, \%listed), '', "$page: doc/errors.md lists its SQLSTATEs")
		  if $page ne 'doc/errors.md';
	}
}

# The diagrams of the tables, as the script beside the page draws them now.
sub test_tables
{
	my $page = run_tables('doc_catalog');

	unlike($page, qr/^[^:|]+: \S+\.\S+$/m, 'doc/tables.sql knows all tables and references');
	test_generated('doc/tables.md', 'tables', $page);
}

# What doc/tables.sql prints in a database.
sub run_tables
{
	my ($database, @options) = @_;
	my $output = '';

	run_log([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', @options, '-f', "$top/doc/tables.sql",
			'-d', $node->connstr($database) ], '>', \$output)
	  or die 'doc/tables.sql failed';
	return $output;
}

# Has an interpreter look at the blocks in its language.
sub test_syntax
{
	my ($language, $interpreter, @check) = @_;

  SKIP:
	{
		skip "there is no $interpreter", 1
		  if system("command -v $interpreter >/dev/null") != 0;
		my $folder = PostgreSQL::Test::Utils::tempdir;

		foreach my $page (@pages)
		{
			foreach my $block (grep { $_->{language} eq $language } blocks($page))
			{
				my $file = "$folder/block.$language";

				append_to_file($file, join("\n", @{ $block->{lines} }, ''));
				ok(run_log([ $interpreter, @check, $file ]),
					"$page:$block->{line}: $language");
				unlink $file;
			}
		}
	}
}

sub test_links
{
	my %anchors = map {
		my %of_page = map { anchor($_) => 1 } headings($_);
		$_ => \%of_page
	} @pages;
	my %linked;

	foreach my $page (@pages)
	{
		my ($folder) = $page =~ m!^(.*/)!;
		my @broken;

		foreach my $link (prose($page) =~ /\]\(([^)\s]+)\)/g)
		{
			next if $link =~ /^https?:/;
			my ($path, $anchor) = split /#/, $link, 2;
			my $target = $path eq '' ? $page : ($folder // '') . $path;
			1 while $target =~ s![^/]+/\.\./!!;

			$linked{$target} = 1 if $page eq 'doc/README.md';
			push @broken, $link
			  unless -e "$top/$target"
			  && (!defined $anchor
				|| $anchors{$target} && $anchors{$target}{$anchor});
		}
		is("@broken", '', "$page: every link resolves");
	}
	is(missing({ map { $_ => 1 } grep { $_ ne 'doc/README.md' } @pages }, \%linked),
		'', 'doc/README.md links to every page');

	my %topics = map { m!/\d+_(\w+)\.sql$! ? ($shared_page{$1} // $1 => 1) : () }
	  glob("$top/sql/*.sql");
	my %page_names = map { s!^doc/|\.md$!!gr => 1 } @pages;
	is(missing(\%topics, \%page_names), '', 'every topic of sql/ has a page');
}

$node = PostgreSQL::Test::Cluster->new('doc');
$node->init;
$node->append_conf('postgresql.conf', "datestyle = 'ISO, MDY'\ntimezone = 'UTC'\nwal_level = logical\n");

# pg_cron is optional, here as everywhere
my $cron = -e $node->config_data('--pkglibdir') . '/pg_cron.so';
$node->append_conf('postgresql.conf',
	"shared_preload_libraries = 'pg_cron'\ncron.database_name = 'postgres'\n")
  if $cron;
$node->start;
# history shows who called: the same name whoever runs the test
$node->psql('postgres', 'CREATE ROLE postgres SUPERUSER LOGIN');
$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron') if $cron;

test_links();
test_names();
test_function_index();
test_event_kinds();
test_tables();
test_syntax('python', 'python3', '-c',
	'import sys; compile(open(sys.argv[1]).read(), sys.argv[1], "exec")');
test_syntax('js', 'node', '--check');
foreach my $page (@pages)
{
  SKIP:
	{
		skip "$page: pg_cron is not installed", 1
		  if $page eq 'doc/schedule.md' && !$cron;
		test_page($page);
	}
}

$node->stop;
done_testing();
