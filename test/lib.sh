# What the scripts under test/, bench/ and .ci/ share: the packages they need,
# a private PostgreSQL with credits built into it, and a throwaway cluster.
#
# How to use it, from a bash script that may be started by anybody:
#
#	. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"	# from bench/: /../test/lib.sh
#	need_packages server cron	# installs what is missing, or says what to install
#	build_credits			# copies the tree, compiles it, installs it privately
#	start_cluster			# or: start_cluster fsync=off work_mem=64MB ...
#	psql -c 'CREATE EXTENSION credits'
#
# From then on PATH, PGHOST, PGPORT, PGUSER (a superuser) and PGDATABASE lead to
# the cluster, and PG_CONFIG to the private PostgreSQL.  As root, psql and pgbench
# can be called directly; what refuses to run as root (initdb, pg_ctl, prove), or
# writes below $tmp, goes through as_user.  There is nothing to clean up: whatever
# way the script ends, its servers are stopped and $tmp is removed.
#
#	$top	the checkout that the script stands in; only read
#	$tmp	the temporary folder; belongs to the user that as_user runs as
#	$src	the copy of the tree in it, where credits was compiled
#	$DATA	the folder of real inputs: CREDITS_DATA, or empty
#
# Nothing is installed into the system's PostgreSQL: a server that runs there may
# use another build of credits.  The private one has copies of the programs and
# links to all else; PostgreSQL finds its files relative to its programs.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}
FIRST_MAJOR=15

# The settings of a make that called us are not for the make that we call,
# and no client of ours may reach a server of the caller's.
unset MAKEFLAGS MFLAGS MAKELEVEL
for name in $(compgen -e | grep '^PG[A-Z]' || true); do unset "$name"; done
unset name
export LC_ALL=C

group=
tmp=$(mktemp -d "${TMPDIR:-/tmp}/credits.XXXXXX")
src=$tmp/credits
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Stops what this run started and removes its folder.  A script that has more to
# put away defines a function at_exit.
cleanup() {
	local status=$? pidfile pid

	trap '' HUP INT TERM
	set +e
	if [ -n "$group" ]; then
		kill -TERM -- "-$group" 2>/dev/null
		wait "$group" 2>/dev/null
	fi
	if declare -F at_exit >/dev/null; then at_exit; fi
	kill $(jobs -p) 2>/dev/null
	# the servers of the tests too: a test that was killed leaves them running
	find "$tmp" -name postmaster.pid 2>/dev/null | while read -r pidfile; do
		pid=$(head -n 1 "$pidfile")
		# the number may be somebody else's by now
		[ "$(readlink "/proc/$pid/cwd")" = "${pidfile%/*}" ] || [ ! -d /proc/self ] || continue
		kill -QUIT "$pid" 2>/dev/null
		for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null && sleep 0.1 || break; done
		kill -KILL "$pid" 2>/dev/null
	done
	[ -z "$group" ] || kill -KILL -- "-$group" 2>/dev/null
	cd /
	rm -rf "$tmp"
	exit $status
}

# Runs a command of ours in a process group of its own, which ends with the script:
# bash itself hears a signal only after what it runs in the foreground is over.
in_group() {
	local status=0

	set -m
	"$@" </dev/null &
	group=$!
	set +m
	wait "$group" || status=$?
	group=
	return $status
}

# Says something about the run itself, apart from its output.
say() {
	printf '%s\n' "$*" >&2
}

die() {
	say "$*"
	exit 1
}

# ---------------------------------------------------------------------------
# packages

# Prints the major version that a pg_config belongs to, nothing if it can't run.
major_of() {
	{ "$1" --version 2>/dev/null || true; } | sed -n 's/^[^0-9]*\([0-9]*\).*/\1/p'
}

# Succeeds if the machine has what the word stands for.
has() {
	local extension
	case $1 in
	make | perl | python3) command -v "$1" >/dev/null ;;
	gcc)
		command -v gcc >/dev/null &&
			echo '#include <stdio.h>' | gcc -E - >/dev/null 2>&1
		;;
	server)
		[ -x "$("$PG_CONFIG" --bindir 2>/dev/null)/postgres" ] &&
			[ -x "$("$PG_CONFIG" --bindir)/psql" ] &&
			[ -f "$("$PG_CONFIG" --pgxs)" ] &&
			[ -f "$("$PG_CONFIG" --includedir-server)/postgres.h" ]
		;;
	cron | pgtap)
		extension=${1/cron/pg_cron}
		[ -f "$("$PG_CONFIG" --sharedir 2>/dev/null)/extension/$extension.control" ]
		;;
	prove) command -v prove >/dev/null && perl -MIPC::Run -e 1 2>/dev/null ;;
	dbd) perl -MDBD::Pg -MDigest::MD5 -MJSON::PP -e 1 2>/dev/null ;;
	pg_prove) command -v pg_prove >/dev/null ;;
	debootstrap) [ -x /usr/sbin/debootstrap ] ;;
	esac
}

# Prints the Debian packages, or with "names" what anybody would call it.
provider_of() {
	case $1:${2:-} in
	server:names) echo "PostgreSQL $major with its development files (pg_config, PGXS)" ;;
	cron:names) echo "pg_cron for PostgreSQL $major (https://github.com/citusdata/pg_cron)" ;;
	pgtap:names) echo "pgTAP for PostgreSQL $major (https://pgtap.org)" ;;
	prove:names) echo "prove and the Perl module IPC::Run" ;;
	dbd:names) echo "the Perl modules DBD::Pg, Digest::MD5 and JSON::PP" ;;
	pg_prove:names) echo "pg_prove (Perl module TAP::Parser::SourceHandler::pgTAP)" ;;
	gcc:names) echo "gcc and the C library's headers" ;;
	*:names) echo "$1" ;;
	server:) echo "postgresql-$major postgresql-server-dev-$major" ;;
	cron:) echo "postgresql-$major-cron" ;;
	pgtap:) echo "postgresql-$major-pgtap" ;;
	debootstrap:) echo "debootstrap debian-archive-keyring" ;;
	prove:) echo "perl libipc-run-perl" ;;
	dbd:) echo "perl libdbd-pg-perl" ;;
	pg_prove:) echo "libtap-parser-sourcehandler-pgtap-perl" ;;
	gcc:) echo "gcc libc6-dev" ;;
	*) echo "$1" ;;
	esac
}

# Runs a command as root; fails if there is no way to.
as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif [ -t 0 ]; then
		sudo "$@"
	else
		sudo -n "$@"
	fi
}

apt_get() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq \
		-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" >"$tmp/apt.log" 2>&1
}

# Reads the package lists; a mirror that stands still has an expired release file.
apt_update() {
	apt_get update || apt_get -o Acquire::Check-Valid-Until=false update ||
		{ cat "$tmp/apt.log" >&2; die "apt-get update failed"; }
}

# Installs packages without having a system cluster made, which is what
# postgresql-common does unless told otherwise.
apt_install() {
	local conf=/etc/postgresql-common/createcluster.d/credits-throwaway.conf status=0

	as_root mkdir -p "${conf%/*}"
	echo 'create_main_cluster = false' | as_root tee "$conf" >/dev/null
	apt_get install --no-install-recommends "$@" || status=$?
	as_root rm -f "$conf"
	as_root rmdir "${conf%/*}" 2>/dev/null || true
	[ $status = 0 ] || { cat "$tmp/apt.log" >&2; die "apt-get install $* failed"; }
}

# Decides which PostgreSQL is meant: the one of PG_CONFIG if it was named, else
# the newest whose server is installed, else none yet (the distribution's).
find_major() {
	local dir

	major=
	case $PG_CONFIG in
	*/postgresql/*/bin/pg_config)
		major=${PG_CONFIG%/bin/pg_config}
		major=${major##*/}
		return
		;;
	esac
	if has server || [ "$PG_CONFIG" != pg_config ]; then
		major=$(major_of "$PG_CONFIG")
		[ -n "$major" ] || die "PG_CONFIG=$PG_CONFIG does not run"
		return
	fi
	for dir in $(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -t/ -k5 -n); do
		[ -x "$dir" ] || continue
		major=$(echo "$dir" | cut -d/ -f5)
		PG_CONFIG=${dir%postgres}pg_config
	done
}

# Makes sure that what the words stand for is there: server, cron, dbd, pgtap,
# prove, pg_prove, python3, debootstrap.  A compiler and make come with server.
need_packages() {
	local word missing=() packages=()

	[ "${1:-}" != server ] || set -- make gcc perl "$@"
	find_major
	for word; do has "$word" || missing+=("$word"); done

	if [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null; then
		as_root true 2>/dev/null || {
			[ -n "$major" ] || major=N
			for word in "${missing[@]}"; do packages+=($(provider_of "$word")); done
			die "missing, and there is neither root nor sudo to install it.  As root:

  apt-get install ${packages[*]}"
		}
		say "installing: ${missing[*]} ..."
		apt_update
		if [ -z "$major" ]; then
			major=$(apt-cache depends postgresql |
				sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1)
			[ -n "$major" ] || die "apt knows no package postgresql"
			PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config
		fi
		[ "$major" -ge $FIRST_MAJOR ] || die "the distribution has PostgreSQL $major;" \
			"credits needs $FIRST_MAJOR or later: see https://wiki.postgresql.org/wiki/Apt"
		# a server from elsewhere takes no extensions from the distribution
		case $PG_CONFIG in
		pg_config | /usr/bin/pg_config | /usr/lib/postgresql/*) ;;
		*)
			for word in "${missing[@]}"; do
				case $word in server | cron | pgtap) missing_names; exit 1 ;; esac
			done
			;;
		esac
		for word in "${missing[@]}"; do packages+=($(provider_of "$word")); done
		apt_install "${packages[@]}"
		hash -r
		packages=("${missing[@]}")
		missing=()
		for word in "${packages[@]}"; do has "$word" || missing+=("$word"); done
	fi
	[ ${#missing[@]} = 0 ] || { missing_names; exit 1; }
	[ "${major:-$FIRST_MAJOR}" -ge $FIRST_MAJOR ] ||
		die "this is PostgreSQL $major; credits needs $FIRST_MAJOR or later"
}

missing_names() {
	local word

	say "please install, and run this again:"
	for word in "${missing[@]}"; do
		say "  - $(provider_of "$word" names)"
	done
	say "PG_CONFIG names the PostgreSQL to use; now it is $PG_CONFIG"
}

# ---------------------------------------------------------------------------
# a private PostgreSQL, and a cluster

# Chooses whom as_user runs as: PostgreSQL refuses to run as root.
choose_user() {
	run_as=$(id -un)
	[ "$(id -u)" = 0 ] || return 0
	run_as=nobody
	if id -u postgres >/dev/null 2>&1; then run_as=postgres; fi
	chown "$run_as" "$tmp"
	if ! (cd / && as_user test -w "$tmp"); then
		# TMPDIR is root's own
		rm -rf "$tmp"
		tmp=$(mktemp -d /tmp/credits.XXXXXX)
		src=$tmp/credits
		chown "$run_as" "$tmp"
	fi
}

# Runs a command as the unprivileged user, in the copy of the tree.
as_user() (
	if [ -d "$src" ]; then cd "$src"; fi
	export TMPDIR=$tmp
	[ "$(id -u)" = 0 ] || exec "$@"
	export HOME=$tmp USER=$run_as LOGNAME=$run_as
	exec setpriv --reuid "$run_as" --regid "$(id -g "$run_as")" --init-groups -- "$@"
)

# Writes the tree as it stands, without what was built in it, as a tar archive.
pack_tree() {
	tar -C "$top" -cf - --exclude=./.git --exclude='*.o' --exclude='*.bc' \
		--exclude='*.so' --exclude='./credits--*.sql' --exclude=./results \
		--exclude=./output_iso --exclude=./tmp_check .
}

# Copies the real inputs to where the unprivileged user can read them.
find_data() {
	DATA=${CREDITS_DATA:-}
	if [ -z "$DATA" ] || ! DATA=$(cd "$DATA" 2>/dev/null && pwd); then
		DATA=
	elif ! as_user test -r "$DATA"; then
		mkdir "$tmp/data"
		cp -r "$DATA/." "$tmp/data"
		chown -R "$run_as" "$tmp/data"
		DATA=$tmp/data
	fi
	export CREDITS_DATA=$DATA
}

# Copies the PostgreSQL that a pg_config belongs to, and builds and installs credits
# there from a copy of the tree in a folder.  Sets private to the copied pg_config.
build_privately() {
	local config=$1 folder=$2 pg=$tmp/pg log=$tmp/build.log bindir dir what
	shift 2

	as_user mkdir "$folder"
	pack_tree | as_user tar -C "$folder" -xof -

	bindir=$("$config" --bindir)
	as_user mkdir -p "$pg$bindir"
	for what in initdb postgres psql pgbench createdb createuser dropdb dropuser vacuumdb; do
		[ ! -x "$bindir/$what" ] || as_user cp "$bindir/$what" "$pg$bindir"
	done
	as_user cp "$bindir"/pg_* "$pg$bindir"
	for what in --pkglibdir --sharedir; do
		dir=$("$config" $what)
		as_user mkdir -p "$pg$dir"
		as_user cp -rs "$dir/." "$pg$dir"
		# not what an installed credits may have left there
		rm -rf "$pg$dir"/credits.so "$pg$dir"/bitcode/credits* "$pg$dir"/extension/credits*
	done
	for what in --includedir --pkgincludedir --includedir-server; do
		dir=$("$config" $what)
		[ -e "$pg$dir" ] || { as_user mkdir -p "$pg${dir%/*}" && as_user ln -s "$dir" "$pg$dir"; }
	done

	private=$pg$bindir/pg_config
	as_user make -s -C "$folder" -j"$(nproc)" PG_CONFIG="$private" "$@" all >"$log" 2>&1 &&
		as_user make -s -C "$folder" PG_CONFIG="$private" "$@" install >>"$log" 2>&1 ||
		{ cat "$log" >&2; die "credits does not build on $("$config" --version)"; }
	# warnings
	cat "$log" >&2
}

# Makes the private PostgreSQL with credits in it.  Arguments go to make.
build_credits() {
	choose_user
	build_privately "$PG_CONFIG" "$src" "$@"
	export PG_CONFIG=$private PATH=${private%/*}:$PATH
	find_data
}

# Does the same for the newest older PostgreSQL that is installed, if there is one,
# and exports CREDITS_OLD_BINDIR, where its programs are.
build_older() {
	local older major

	major=$(major_of "$PG_CONFIG")

	while [ $((major -= 1)) -ge $FIRST_MAJOR ]; do
		older=/usr/lib/postgresql/$major/bin/pg_config
		if PG_CONFIG=$older has server; then
			build_privately "$older" "$tmp/older"
			export CREDITS_OLD_BINDIR=${private%/*}
			return
		fi
	done
}

# Makes a cluster that only this run can reach and starts it.  Arguments are
# settings, written name=value.
start_cluster() {
	local setting

	# In a socket folder of our own and without TCP any port is free.  It is an
	# unusual one so that a client that lost PGHOST finds nobody.
	export PGHOST=$tmp PGPORT=$((50000 + RANDOM % 10000)) PGUSER=postgres PGDATABASE=postgres
	as_user initdb -D "$tmp/cluster" -U postgres -A trust -E UTF8 --no-locale \
		--no-sync --no-instructions >"$tmp/initdb.log" 2>&1 ||
		{ cat "$tmp/initdb.log" >&2; die "initdb failed"; }
	{
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$tmp'"
		echo "port = $PGPORT"
		echo "shared_preload_libraries = 'pg_cron'"
		# pg_cron connects as a client
		echo "cron.host = '$tmp'"
		echo "max_prepared_transactions = 10"
		for setting; do echo "${setting%%=*} = '${setting#*=}'"; done
	} >>"$tmp/cluster/postgresql.conf"
	as_user pg_ctl -D "$tmp/cluster" -l "$tmp/server.log" -w -s start ||
		{ cat "$tmp/server.log" >&2; die "the server does not start"; }
}
