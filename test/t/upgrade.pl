# pg_upgrade: from this version to itself, which goes the same way as a real
# one, and from an older one where that is at hand with credits installed.
#
# CREDITS_OLD_BINDIR is the folder of the older version's programs.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

sub output_of
{
	my ($command) = @_;
	my $output = `$command`;
	chomp $output;
	return $output;
}

# Shows what pg_upgrade says only in its logs.
sub tell_logs
{
	my ($data_dir) = @_;
	foreach my $log (glob "$data_dir/pg_upgrade_output.d/*/log/pg_upgrade_dump_*.log")
	{
		diag "$log: " . substr slurp_file($log), -800;
	}
	return;
}

# Returns what the old server notes about the columns of any table that the new
# one does not take: pg_upgrade then carries no table at all, ours or not.
sub unknown_option
{
	my ($old, $new) = @_;
	my $option = $old->safe_psql('postgres', q(
		CREATE TABLE plain (id bigint);
		SELECT split_part(unnest(attoptions), '=', 1) FROM pg_attribute
		WHERE attrelid = 'plain'::regclass AND attname = 'id' LIMIT 1));
	$old->safe_psql('postgres', 'DROP TABLE plain');
	return '' if $option eq '';

	$new->start;
	my $status = $new->psql('postgres',
		"CREATE TABLE plain (id bigint); ALTER TABLE plain ALTER id SET ($option = 1)");
	$new->safe_psql('postgres', 'DROP TABLE IF EXISTS plain');
	$new->stop;
	return $status == 0 ? '' : $option;
}

# Make an old cluster with its programs, upgrade it, and look at the result.
sub upgrade_from
{
	my ($name, $install_path) = @_;
	my $newbin = output_of('pg_config --bindir');
	my $oldbin = defined $install_path ? "$install_path/bin" : $newbin;

	my $old = PostgreSQL::Test::Cluster->new("old_$name",
		defined $install_path ? (install_path => $install_path) : ());
	# 18 came with checksums; both have to agree
	my ($major) = output_of("$newbin/postgres --version") =~ /(\d+)/;
	my ($oldmajor) = output_of("$oldbin/postgres --version") =~ /(\d+)/;
	my @options = $major >= 18 ? (extra => ['--no-data-checksums']) : ();
	$old->init($oldmajor >= 18 ? @options : ());
	$old->start;
	create_credits($old);
	populate($old);
	# what has to survive beside: a schema of its own, a role's rights, a user's trigger
	$old->safe_psql('postgres', <<'SQL');
CREATE ROLE upgraded_app IN ROLE credits_app;
CREATE DATABASE other;
SQL
	$old->safe_psql('other', 'CREATE SCHEMA billing; CREATE EXTENSION credits SCHEMA billing');
	$old->safe_psql('other', q(SELECT billing.credits_open_account('a', 10)));
	my $facts = facts_of($old);
	my $acl = $old->safe_psql('postgres', q(SELECT proacl FROM pg_proc WHERE proname = 'credits_deduct'));

	my $new = PostgreSQL::Test::Cluster->new("new_$name");
	$new->init(@options);
	my $option = unknown_option($old, $new);
	$old->stop;
	skip "$name: no table can be upgraded: the old server sets $option on columns, the new one has no such option", 1
	  if $option ne '';
	chdir $PostgreSQL::Test::Utils::tmp_check;
	$new->command_ok(
		[
			'pg_upgrade',
			'--old-datadir', $old->data_dir,
			'--new-datadir', $new->data_dir,
			'--old-bindir', $oldbin,
			'--new-bindir', $newbin,
			'--socketdir', $new->host,
			'--old-port', $old->port,
			'--new-port', $new->port,
		],
		"$name: pg_upgrade")
	  or tell_logs($new->data_dir);
	$new->start;
	is(facts_of($new), $facts, "$name: the same digest, rows and no problem");
	is($new->safe_psql('postgres', q(SELECT proacl FROM pg_proc WHERE proname = 'credits_deduct')), $acl,
		"$name: the same rights");
	is($new->safe_psql('postgres', q(SELECT string_agg(DISTINCT tgenabled::text, ' ') FROM pg_trigger
			WHERE NOT tgisinternal AND tgrelid::regclass::text LIKE 'credits.%')), 'A', "$name: triggers always fire");
	is($new->safe_psql('postgres', q(SELECT replayed FROM credits_deduct('bulk:1', 2, 'b:1:1'))),
		't', "$name: a replay");
	is($new->safe_psql('postgres', q(SELECT amount FROM credits_deduct('bulk:1', 3, 'after'))),
		'-3', "$name: the next deduction");
	is($new->safe_psql('postgres', q(SELECT balance FROM credits_open_account('after', 9))),
		'9', "$name: the next account");
	is($new->safe_psql('postgres', q(SELECT concat_ws(' ', r.money, r.replayed) FROM credits_refund_period((SELECT min(id) FROM credits.subscriptions), reference => 're_1') AS r)),
		'4 t', "$name: a refund of a period that was made");
	is($new->safe_psql('postgres', q(SELECT concat_ws(' ', r.money, r.credits) FROM credits_refund_period((SELECT min(id) + 1 FROM credits.subscriptions),
			period_start => '2020-03-02 00:00+00') AS r)), '5 50', "$name: and the rest of one");
	is($new->safe_psql('other', q(SELECT balance FROM billing.credits_deduct('a', 4))),
		'6', "$name: in another database and schema");
	sqlstate_is($new, 'DELETE FROM credits.log_default', '42501', "$name: still immutable");
	problems_are($new, '', "$name: the chain goes on");
	$new->stop;
}

upgrade_from('same');

SKIP:
{
	my $oldbin = $ENV{CREDITS_OLD_BINDIR};
	skip 'CREDITS_OLD_BINDIR names no older version', 1 unless $oldbin;
	$oldbin =~ s{/bin/?$}{} or die 'CREDITS_OLD_BINDIR must end in /bin';
	upgrade_from('older', $oldbin);
}

done_testing();
