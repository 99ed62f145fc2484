# Ctrl-C while test/lib.sh installs packages: the installation goes on to its end, and
# nothing of it is left behind; the next run takes up what was cut short all the same.
# What installs and what becomes root are played.  And a trace that is not there is
# reported before anything is installed.

use strict;
use warnings FATAL => 'all';

use FindBin;
use lib "$FindBin::RealBin/lib";
use CreditsTest;
use POSIX qw(setpgid);
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => 'it has to be played by somebody who is not root' if $> == 0;

my $folder = PostgreSQL::Test::Utils::tempdir;
my $setting = "$folder/postgresql-common/createcluster.d/credits-throwaway.conf";
mkdir "$folder/bin";

sub program
{
	my ($name, $text) = @_;
	append_to_file("$folder/bin/$name", "#!/bin/bash\n$text");
	chmod 0755, "$folder/bin/$name";
	return;
}

# what is below /etc/postgresql-common is here; packages take a while
program('sudo', qq([ "\$1" != -n ] || shift\nexec "\${@//\\/etc\\//$folder/}"\n));
program('apt-get', <<"SH");
case "\$*" in
*install*)
	echo started >>$folder/log
	cp $setting $folder/seen
	echo "pmstatus:package:50.0:Installing package"
	sleep 2
	touch $folder/installed
	echo ended >>$folder/log
	;;
esac
SH
program('dpkg', qq(echo "dpkg \$*" >>$folder/log\n));

my $script = <<"SH";
. $FindBin::RealBin/../lib.sh
has() { [ -f $folder/installed ]; }
major=15
find_major() { :; }
no_cluster=$setting
need_packages tool
echo done >>$folder/log
SH

# Runs it in a process group of its own, and interrupts all of that when it has come to
# install.  Returns its exit code.
sub run_script
{
	my ($signal) = @_;
	my $pid = fork;

	if ($pid == 0)
	{
		setpgid(0, 0);
		$SIG{INT} = 'DEFAULT';
		$ENV{PATH} = "$folder/bin:$ENV{PATH}";
		open STDIN, '<', '/dev/null';
		exec 'bash', '-c', $script;
	}
	if ($signal)
	{
		ok(wait_until(sub { -s "$folder/seen" }, 60), 'it installs');
		kill $signal, -$pid;
	}
	waitpid $pid, 0;
	return $? >> 8;
}

is(run_script('INT'), 130, 'interrupted, it ends as such');
is(slurp_file("$folder/log"), "dpkg --configure -a\nstarted\nended\n", 'but not before apt-get has');
like(slurp_file("$folder/seen"), qr/^create_main_cluster = false$/m, 'no cluster was to be made meanwhile');
ok(!-e $setting, 'which is forgotten');
is(run_script(), 0, 'once more');
is(slurp_file("$folder/log"), "dpkg --configure -a\nstarted\nended\ndone\n", 'there is nothing to install any more');

# what somebody left who was killed
unlink "$folder/$_" foreach qw(installed log seen);
is(run_script('KILL'), 0, 'killed: that has no exit code');
ok(-e $setting, 'the setting stays');
sleep 3;
is(run_script(), 0, 'the next run');
ok(!-e $setting, 'removes it');

unlink "$folder/$_" foreach qw(installed log);
command_fails_like([ "$FindBin::RealBin/../demo", "$folder/trace.csv" ], qr/trace\.csv: no such file/,
	'a demo of a trace that is not there');
ok(!-e "$folder/log", 'installs nothing');

done_testing();
