# For test/run: a PostgreSQL that checks itself, and credits with it.
#
# build_checked makes a PostgreSQL with assertions from Debian's source package and
# sets PG_CONFIG to it.  There are two kinds of it:
#
#	sanitize	for credits compiled with AddressSanitizer and UndefinedBehaviorSanitizer
#	valgrind	to run under Valgrind
#
# In both, PostgreSQL's memory contexts tell the checker which bytes of their blocks
# are allocated: PostgreSQL itself does that for Valgrind only (USE_VALGRIND), and
# for AddressSanitizer another header takes the place of Valgrind's.  So a step
# past the end of what palloc gave is found, and the use of what was freed.
#
# It is built once, and kept below CREDITS_CACHE (/var/tmp/credits-checked), in a
# folder whose name says for which version and by which recipe.  What was not built to
# the end is not there.

checked_cache=${CREDITS_CACHE:-/var/tmp/credits-checked}

# Prints a list of sources for apt: the source packages of every Debian archive whose
# packages this machine takes, or of another suite of it, which source_suite names.
source_lists() {
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg option= entry
	local targets=('Created-By: Packages' 'Origin: Debian')

	entry='$(RELEASE) $(COMPONENT)'
	if [ -n "${source_suite:-}" ]; then
		entry="$source_suite main"
		# security updates have suites of their own
		targets+=('Label: Debian')
	fi
	[ ! -f $keyring ] || option="[signed-by=$keyring] "
	apt-get indextargets --format "deb-src $option\$(REPO_URI) $entry" "${targets[@]}" | sort -u
}

# Fetches Debian's source package of PostgreSQL and unpacks it into a folder.  It
# takes the newest version that can be had: an archive may list what it no longer,
# or not yet, has.  The signatures are checked by apt, from the archive's release
# to the sums of the files.
fetch_source() {
	local folder=$1 version
	local apt=(-q -o Dir::Etc::SourceList="$folder/sources.list" -o Dir::Etc::SourceParts=/dev/null
		-o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache")

	# a list that names no origin has not been read yet
	[ -n "$(source_lists)" ] || apt_update
	as_user mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
	source_lists | as_user tee "$folder/sources.list"
	as_user apt-get "${apt[@]}" update ||
		as_user apt-get "${apt[@]}" -o Acquire::Check-Valid-Until=false update || return 1
	for version in $(as_user apt-cache "${apt[@]}" --only-source showsrc "postgresql-$major" |
		sed -n 's/^Version: //p' | sort -rVu); do
		as_user sh -c 'cd "$0" && apt-get "$@"' "$folder" "${apt[@]}" \
			--download-only --only-source source "postgresql-$major=$version" || continue
		# Debian's patches move folders, and nothing else here
		as_user dpkg-source --no-check --skip-patches -x \
			"$folder/postgresql-${major}_$version.dsc" "$folder/source" || return 1
		return 0
	done
	return 1
}

# Writes the header that takes the place of Valgrind's.
write_header() {
	as_user mkdir -p "$1/valgrind"
	as_user tee "$1/valgrind/memcheck.h" <<'END'
#include <stddef.h>

extern void __asan_poison_memory_region(void *addr, size_t size);
extern void __asan_unpoison_memory_region(void *addr, size_t size);

#define VALGRIND_CHECK_MEM_IS_DEFINED(addr, size)		((void) 0)
#define VALGRIND_CREATE_MEMPOOL(pool, redzone, zeroed)	((void) 0)
#define VALGRIND_DESTROY_MEMPOOL(pool)					((void) 0)
#define VALGRIND_MAKE_MEM_DEFINED(addr, size)			__asan_unpoison_memory_region(addr, size)
#define VALGRIND_MAKE_MEM_NOACCESS(addr, size)			__asan_poison_memory_region(addr, size)
#define VALGRIND_MAKE_MEM_UNDEFINED(addr, size)			__asan_unpoison_memory_region(addr, size)
#define VALGRIND_MEMPOOL_ALLOC(pool, addr, size)		__asan_unpoison_memory_region(addr, size)
#define VALGRIND_MEMPOOL_FREE(pool, addr)				((void) 0)
#define VALGRIND_MEMPOOL_CHANGE(pool, old, new, size)	__asan_unpoison_memory_region(new, size)
END
}

# Configures and compiles PostgreSQL, no more of it than the tests use, for a kind
# of check and a place to stand at, and installs it below a folder.
compile_postgres() {
	local kind=$1 source=$2 prefix=$3 destination=$4 part
	local backend=(COPT=-DUSE_VALGRIND)

	if [ "$kind" = sanitize ]; then
		write_header "$source/checker"
		backend=(COPT="-w -DUSE_VALGRIND -I$source/checker" LDFLAGS_EX=-fsanitize=address)
	fi
	as_user env -C "$source" ./configure -q --prefix="$prefix" --enable-cassert --enable-debug \
		--enable-tap-tests --with-icu --with-openssl --without-readline \
		--with-system-tzdata=/usr/share/zoneinfo CFLAGS='-Og -g' || return 1
	set -- include port common timezone backend/utils/mb/conversion_procs \
		backend/snowball interfaces/libpq backend/replication/libpqwalreceiver \
		backend/replication/pgoutput fe_utils bin pl/plpgsql makefiles \
		test/regress test/isolation test/perl ../contrib/auto_explain ../config
	# what the server is linked with has to be there before its parts are made beside
	# each other
	as_user make -s -C "$source/src/backend" generated-headers || return 1
	for part in port common; do
		as_user make -s -C "$source/src/$part" -j"$(nproc)" all || return 1
	done
	as_user make -s -C "$source/src/backend" -j"$(nproc)" "${backend[@]}" all || return 1
	for part; do as_user make -s -C "$source/src/$part" -j"$(nproc)" all || return 1; done
	# not for installation alone: LDFLAGS_EX again, or the server is linked without
	for part in backend "$@"; do
		[ "$part" = backend ] || backend=()
		as_user make -s -C "$source/src/$part" "${backend[@]}" DESTDIR="$destination" install ||
			return 1
	done
	as_user make -s -C "$source/src" DESTDIR="$destination" install-local &&
		as_user cp "$source/src/tools/valgrind.supp" "$destination$prefix"
}

# Links an extension that Debian compiled for its own server: no structure in
# PostgreSQL's headers depends on whether it has assertions.
link_extension() {
	local config=$1/bin/pg_config name=$2 file

	for file in "$("$PG_CONFIG" --sharedir)/extension/$name"[.-]*; do
		as_user ln -s "$file" "$("$config" --sharedir)/extension" || return 1
	done
	file=$("$PG_CONFIG" --pkglibdir)/$name.so
	[ ! -f "$file" ] || as_user ln -s "$file" "$("$config" --pkglibdir)"
}

# Makes the PostgreSQL for a kind of check, if it is not there yet, and sets
# PG_CONFIG to it.
build_checked() {
	local kind=$1 number recipe prefix work start=$SECONDS

	choose_user
	number=$("$PG_CONFIG" --version | sed 's/^[^0-9]*\([0-9.]*\).*/\1/')
	recipe=$(declare -f fetch_source write_header compile_postgres link_extension | cksum)
	prefix=$checked_cache/$number-$kind-${recipe%% *}
	if [ ! -d "$prefix" ]; then
		need_packages dpkg-source headers $([ "$kind" != valgrind ] || echo valgrind)
		mkdir -p "$checked_cache"
		[ "$(id -u)" != 0 ] || chown "$run_as" "$checked_cache"
		exec 8>"$checked_cache/lock"
		flock 8
	fi
	if [ ! -d "$prefix" ]; then
		say "building PostgreSQL with assertions, to be kept in $prefix ..."
		work=$prefix.partial
		rm -rf "$work"
		as_user mkdir "$work"
		{
			fetch_source "$work" &&
				compile_postgres "$kind" "$work/source" "$prefix" "$work/root" &&
				link_extension "$work/root$prefix" pg_cron &&
				link_extension "$work/root$prefix" pgtap &&
				mv "$work/root$prefix" "$prefix"
		} >"$tmp/checked.log" 2>&1 || {
			tail -n 40 "$tmp/checked.log" >&2
			# of two jobs, the one that failed may have spoken long before
			grep -E '\*\*\*|^E: |[Ee]rror:' "$tmp/checked.log" >&2 || true
			die "PostgreSQL with assertions can't be built"
		}
		rm -rf "$work"
		say "... done in $((SECONDS - start)) s"
	fi
	exec 8>&-
	PG_CONFIG=$prefix/bin/pg_config
	# tests that ask for some work in some time ask for less
	export CREDITS_SLOWER=5
	[ "$kind" = sanitize ] || CREDITS_SLOWER=100
	# a server's memory is its own affair until it ends
	export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:handle_abort=1:quarantine_size_mb=16
	export UBSAN_OPTIONS=abort_on_error=1:print_stacktrace=1
}

# Has Valgrind run the servers of the private PostgreSQL, but not to make clusters.
# Errors go to $tmp/valgrind.PID.
use_valgrind() {
	local server=${PG_CONFIG%/*}/postgres

	as_user mv "$server" "$server.plain"
	as_user tee "$server" >/dev/null <<END
#!/bin/sh
case \$1 in --* | -V) exec "$server.plain" "\$@" ;; esac
exec valgrind --quiet --trace-children=yes --error-limit=no --num-callers=30 \
	--suppressions="$1/valgrind.supp" --suppressions="$top/test/valgrind.supp" \
	--fullpath-after="$tmp/" --log-file="$tmp/valgrind.%p" \
	--error-markers=VALGRIND-BEGIN,VALGRIND-END "$server.plain" "\$@"
END
	as_user chmod +x "$server"
}
