# Functions that the scripts under test/, bench/ and .ci/ share: installing the
# packages they need, a private PostgreSQL installation with credits, and a temporary
# cluster.
#
# Usage, from a bash script that may be run by any user:
#
#	. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"	# from bench/: /../test/lib.sh
#	need_packages server cron	# installs what is missing, or says what to install
#	build_credits			# copies the tree, compiles it, installs it privately
#	start_cluster			# or: start_cluster fsync=off work_mem=64MB ...
#	psql -c 'CREATE EXTENSION credits'
#
# After that, PATH, PGHOST, PGPORT, PGUSER (a superuser) and PGDATABASE refer to the
# cluster, and PG_CONFIG to the private installation.  As root, psql and pgbench can be
# called directly.  Programs that refuse to run as root (initdb, pg_ctl, prove), or that
# write below $tmp, must be called through as_user.  No cleanup is needed: whenever the
# script ends, its servers are stopped and $tmp is removed.
#
#	$top	the checkout that contains the script; it is not modified
#	$tmp	the temporary directory; belongs to the user that as_user runs as
#	$src	the copy of the tree in it, where credits is compiled
#	$DATA	the directory of real inputs: CREDITS_DATA, or empty
#
# Nothing is installed into the system's PostgreSQL, where a server may be using another
# build of credits.  The private installation has copies of the programs and links to
# all other files; PostgreSQL finds its files relative to its programs.

set -euo pipefail

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}
FIRST_MAJOR=15

# The settings of a make that has called the script must not affect the make that it
# calls, and its clients must not connect to one of the caller's servers.
unset MAKEFLAGS MFLAGS MAKELEVEL
for name in $(compgen -e | grep '^PG[A-Z]' || true); do unset "$name"; done
unset name
# PostgreSQL's Perl modules use LANG to determine the encoding of clusters.
export LC_ALL=C LANG=C.UTF-8

group=
installing=
shower=
tmp=$(mktemp -d "${TMPDIR:-/tmp}/credits.XXXXXX")
src=$tmp/credits
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Stops the processes that the script has started, and removes its directory.  A script
# that needs more cleanup defines a function at_exit.
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
	# stop the servers of tests, too, which keep running if the test was killed
	find "$tmp" -name postmaster.pid 2>/dev/null | while read -r pidfile; do
		pid=$(head -n 1 "$pidfile")
		# the pid may belong to another process by now
		[ "$(readlink "/proc/$pid/cwd")" = "${pidfile%/*}" ] || [ ! -d /proc/self ] || continue
		kill -QUIT "$pid" 2>/dev/null
		for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null && sleep 0.1 || break; done
		kill -KILL "$pid" 2>/dev/null
	done
	[ -z "$group" ] || kill -KILL -- "-$group" 2>/dev/null
	[ -z "$installing" ] || allow_clusters
	cd /
	rm -rf "$tmp"
	exit $status
}

# Runs a command in a process group of its own, which cleanup stops.  It is not run in
# the foreground, because bash would handle a signal only after it has ended.
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

# Prints a message to standard error.
say() {
	printf '%s\n' "$*" >&2
}

die() {
	say "$*"
	exit 1
}

# Shows on a terminal what a command prints, again each second and in the same line,
# until hide_progress.
show_progress() {
	[ -t 1 ] || return 0
	while sleep 1; do printf '\r%s\033[K' "$("$@")"; done &
	shower=$!
}

hide_progress() {
	[ -n "$shower" ] || return 0
	kill "$shower"
	wait "$shower" 2>/dev/null || true
	shower=
	printf '\r\033[K'
}

# ---------------------------------------------------------------------------
# counting results

passed=0
failed=0
skipped=0

# Runs a step, which may consist of many tests, and adds the totals of its last line.  A
# step without totals counts as one test.  A step that fails without a failed test
# counts as one failure.
step() {
	local log=$tmp/step.log status=0 step_failed=0 start=$SECONDS

	echo "== $*"
	"$@" 2>&1 | tee "$log" || status=$?
	if [[ $(tail -n 1 "$log") =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed(,\ ([0-9]+)\ skipped)?$ ]]; then
		passed=$((passed + BASH_REMATCH[1]))
		step_failed=${BASH_REMATCH[2]}
		skipped=$((skipped + ${BASH_REMATCH[4]:-0}))
	elif [ $status = 0 ]; then
		passed=$((passed + 1))
	fi
	[ $status = 0 ] || [ "$step_failed" != 0 ] || step_failed=1
	failed=$((failed + step_failed))
	echo "$((SECONDS - start)) s"
	echo
}

# Prints the totals, and fails if there was a failure.
sum_up() {
	echo "$passed passed, $failed failed$([ $skipped = 0 ] || echo ", $skipped skipped")"
	[ $failed = 0 ]
}

# ---------------------------------------------------------------------------
# packages

# Prints the major version of a pg_config, or nothing if it cannot be run.
major_of() {
	{ "$1" --version 2>/dev/null || true; } | sed -n 's/^[^0-9]*\([0-9]*\).*/\1/p'
}

# Succeeds if a requirement (see need_packages) is installed.
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
	psycopg) /usr/bin/python3 -c 'import psycopg' 2>/dev/null || python3 -c 'import psycopg' 2>/dev/null ;;
	node-pg) NODE_PATH=${NODE_PATH:+$NODE_PATH:}/usr/share/nodejs node -e 'require("pg")' 2>/dev/null ;;
	debootstrap) [ -x /usr/sbin/debootstrap ] ;;
	dpkg-source | valgrind) command -v "$1" >/dev/null ;;
	headers)
		printf '#include <%s>\n' unicode/ucol.h openssl/ssl.h zlib.h |
			gcc -E - >/dev/null 2>&1
		;;
	esac
}

# Prints the Debian packages of a requirement or, with "names", a general
# description of them.
provider_of() {
	case $1:${2:-} in
	server:names) echo "PostgreSQL $major with its development files (pg_config, PGXS)" ;;
	cron:names) echo "pg_cron for PostgreSQL $major (https://github.com/citusdata/pg_cron)" ;;
	pgtap:names) echo "pgTAP for PostgreSQL $major (https://pgtap.org)" ;;
	prove:names) echo "prove and the Perl module IPC::Run" ;;
	dbd:names) echo "the Perl modules DBD::Pg, Digest::MD5 and JSON::PP" ;;
	pg_prove:names) echo "pg_prove (Perl module TAP::Parser::SourceHandler::pgTAP)" ;;
	psycopg:names) echo "psycopg 3 for Python" ;;
	node-pg:names) echo "Node with its module pg" ;;
	headers:names) echo "the headers of ICU, OpenSSL and zlib" ;;
	gcc:names) echo "gcc and the C library's headers" ;;
	*:names) echo "$1" ;;
	server:) echo "postgresql-$major postgresql-server-dev-$major" ;;
	cron:) echo "postgresql-$major-cron" ;;
	pgtap:) echo "postgresql-$major-pgtap" ;;
	debootstrap:) echo "debootstrap debian-archive-keyring" ;;
	prove:) echo "perl libipc-run-perl" ;;
	dbd:) echo "perl libdbd-pg-perl" ;;
	pg_prove:) echo "libtap-parser-sourcehandler-pgtap-perl" ;;
	psycopg:) echo "python3-psycopg" ;;
	gcc:) echo "gcc libc6-dev" ;;
	dpkg-source:) echo "dpkg-dev" ;;
	headers:) echo "libicu-dev libssl-dev zlib1g-dev pkg-config" ;;
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

# Runs apt-get or dpkg, which must not be stopped in the middle: neither Ctrl-C nor the
# end of the terminal reaches it, in a session of its own.  The script hears such a
# signal when it is done.  On a terminal it shows how far it is.
run_apt() (
	trap '' HUP INT TERM
	as_root setsid --wait env DEBIAN_FRONTEND=noninteractive "$@" 2>&1 |
		tee "$tmp/apt.log" | show_apt
)

# Reads what apt-get says with APT::Status-Fd.
show_apt() {
	local kind percent

	while IFS=: read -r kind _ percent _; do
		[ -t 2 ] || continue
		case $kind in
		dlstatus) printf '\rfetching:   %3.0f %%' "$percent" ;;
		pmstatus) printf '\rinstalling: %3.0f %%' "$percent" ;;
		esac >&2
	done
	[ ! -t 2 ] || printf '\r\033[K' >&2
}

apt_get() {
	run_apt apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o APT::Status-Fd=1 "$@"
}

# Fails with what apt-get said.
die_of_apt() {
	grep -v '^[dp][lm]status:' "$tmp/apt.log" >&2 || true
	die "$*"
}

# Updates the package lists, even if the release file of a mirror has expired.
apt_update() {
	apt_get update || apt_get -o Acquire::Check-Valid-Until=false update ||
		die_of_apt "apt-get update failed"
}

# A setting that keeps postgresql-common from creating a system cluster, and the process
# that needs it.
no_cluster=/etc/postgresql-common/createcluster.d/credits-throwaway.conf

forbid_clusters() {
	as_root mkdir -p "${no_cluster%/*}"
	printf '%s\n' "# process $$" 'create_main_cluster = false' |
		as_root tee "$no_cluster" >/dev/null
	installing=1
}

allow_clusters() {
	as_root rm -f "$no_cluster"
	as_root rmdir "${no_cluster%/*}" 2>/dev/null || true
	installing=
}

# Removes that setting if a run left it that was killed.
repair_clusters() {
	local process

	[ -f "$no_cluster" ] || return 0
	process=$(sed -n 's/^# process //p' "$no_cluster")
	[ -z "$process" ] || [ ! -d "/proc/$process" ] || return 0
	allow_clusters 2>/dev/null || true
}

# Installs packages without having a system cluster made.
apt_install() {
	local status=0

	forbid_clusters
	# an installation that was cut short is taken up again
	run_apt dpkg --configure -a || true
	apt_get install --no-install-recommends "$@" || status=$?
	allow_clusters
	[ $status = 0 ] || die_of_apt "apt-get install $* failed"
}

# Chooses the PostgreSQL installation: the one of PG_CONFIG if that is set, otherwise the
# newest one with a server, otherwise none yet, and the distribution's is installed.
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

# Installs the requirements given, if they are missing: server, cron, dbd, pgtap, prove,
# pg_prove, python3, psycopg, node-pg, debootstrap.  The server includes a compiler and
# make.
need_packages() {
	local word missing=() packages=()

	[ "${1:-}" != server ] || set -- make gcc perl "$@"
	repair_clusters
	find_major
	for word; do has "$word" || missing+=("$word"); done

	if [ ${#missing[@]} -gt 0 ] && command -v apt-get >/dev/null; then
		as_root true 2>/dev/null || {
			[ -n "$major" ] || major=N
			for word in "${missing[@]}"; do packages+=($(provider_of "$word")); done
			die "missing, and there is neither root nor sudo to install it.  As root:

  apt-get install ${packages[*]}"
		}
		say "installing: ${missing[*]} (a minute or two; an interrupt waits for the end of it)"
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

# Chooses the user that as_user runs as, since PostgreSQL refuses to run as root.
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
	if [ -d "$src" ]; then cd "$src"; else cd /; fi
	export TMPDIR=$tmp
	[ "$(id -u)" = 0 ] || exec "$@"
	export HOME=$tmp USER=$run_as LOGNAME=$run_as
	exec setpriv --reuid "$run_as" --regid "$(id -g "$run_as")" --init-groups -- "$@"
)

# Writes the current tree, without the files built in it, as a tar archive.
pack_tree() {
	tar -C "$top" -cf - --exclude=./.git --exclude='*.o' --exclude='*.bc' \
		--exclude='*.so' --exclude='./credits--*.sql' --exclude=./results \
		--exclude=./output_iso --exclude=./tmp_check .
}

# Copies the real inputs to a place where the unprivileged user can read them.
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

# Prints how many files are compiled, of how many.
count_compiled() {
	echo "$(find "$1" -name '*.o' | wc -l) of $2 files compiled"
}

# Copies the PostgreSQL installation of a pg_config, and builds and installs credits
# there from a copy of the tree.  Sets "private" to the copied pg_config.
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

	# bitcode is for inlining by JIT, of which nothing here makes use, and takes as
	# long to make as the rest
	private=$pg$bindir/pg_config
	set -- PG_CONFIG="$private" with_llvm=no "$@"
	say "building credits for $("$config" --version)"
	show_progress count_compiled "$folder" "$(as_user make -n -C "$folder" "$@" all | grep -c -- ' -c ' || true)"
	as_user make -s -C "$folder" -j"$(nproc)" "$@" all >"$log" 2>&1 &&
		as_user make -s -C "$folder" "$@" install >>"$log" 2>&1 ||
		{ hide_progress; cat "$log" >&2; die "credits does not build on $("$config" --version)"; }
	hide_progress
	# warnings
	cat "$log" >&2
}

# Creates the private PostgreSQL installation with credits.  Arguments are passed to make.
build_credits() {
	choose_user
	build_privately "$PG_CONFIG" "$src" "$@"
	export PG_CONFIG=$private PATH=${private%/*}:$PATH
	find_data
}

# Does the same for the newest older PostgreSQL that is installed, if there is one, and
# exports CREDITS_OLD_BINDIR, the directory of its programs.
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

# Creates and starts a cluster to which only this script can connect.  Arguments are
# settings, in the form name=value.
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

# ---------------------------------------------------------------------------
# root directories of Debian releases

# Runs a command inside a root directory, with nothing in its environment but HOME, PATH
# and the way to the network.  Mounts and processes are in namespaces of their own, which
# vanish with it.
enter_root() {
	local root=$1 name proxies=()
	shift

	for name in http_proxy https_proxy no_proxy; do
		[ -z "${!name:-}" ] || proxies+=("$name=${!name}")
	done
	unshare --mount --pid --fork --kill-child bash -ec '
		mount -t proc proc "$0/proc"
		mount --bind /dev "$0/dev"
		mount -t tmpfs tmpfs "$0/dev/shm"
		chroot "$0" env -i HOME=/root \
			PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
		exit $?' "$root" "${proxies[@]}" "$@"
}

# Makes the smallest root directory of a release, if that can be.
make_root() {
	local suite=$1 root=$2

	[ "$(id -u)" = 0 ] || { echo "a root directory needs root"; return 1; }
	unshare --mount --pid --fork true || return 1
	if [ ! -d "$root" ]; then
		need_packages debootstrap
		mkdir -p "${root%/*}"
		rm -rf "$root.partial"
		debootstrap --variant=minbase "$suite" "$root.partial" || return 1
		mv "$root.partial" "$root"
	fi
	cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
}
