# credits: a PostgreSQL extension that keeps user credits right
#
#	make, make install, make installcheck	as with every extension (PGXS)
#	make test, make demo			install what they need, and run in a throwaway cluster
#	make assert, make coverage, make full	the tests on a server with assertions, with the
#						coverage of the sources, and all tests
#	make indent, make bench, make dist	for developers of credits
#
# PG_CONFIG selects the PostgreSQL installation.

PG_CONFIG ?= pg_config

EXTENSION = credits
# the version is defined in credits.control only
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" credits.control)
PGFILEDESC = "credits - user credits that stay right"

MODULE_big = credits
OBJS := $(patsubst %.c,%.o,$(sort $(wildcard src/*.c src/*/*.c)))
PARTS := $(sort $(wildcard sql/*.sql))
# the two others lead to a version of this one that marks a table, and back: see
# mark_for_dump in src/jobs/partitions.c
DATA_built = credits--$(EXTVERSION).sql \
	credits--$(EXTVERSION)--$(EXTVERSION)_log_default.sql \
	credits--$(EXTVERSION)_log_default--$(EXTVERSION).sql
# := because to PGXS a variable is set even if it expands to nothing
DOCS := $(wildcard doc/*.md)
EXTRA_CLEAN = credits--*.sql

# added to PG_CFLAGS of the environment; CI sets it to -Werror
PG_CFLAGS += -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers
PG_CPPFLAGS += -I$(srcdir)/src -DCREDITS_VERSION='"$(EXTVERSION)"'

# all tests use one database, which install prepares and uninstall clears
SQL_TESTS := $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS := $(filter install,$(SQL_TESTS)) $(filter-out install uninstall,$(SQL_TESTS)) \
	$(filter uninstall,$(SQL_TESTS))
REGRESS_OPTS = --inputdir=test --encoding=UTF8 --no-locale
ISOLATION := $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --load-extension=credits
# The tests in Perl create their own clusters.  As installcheck tests the running
# server, they are run only if PROVE_TESTS is set.
TAP_TESTS := $(if $(PROVE_TESTS),1)

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
# not in the common directory, where another extension may have a README.md, too
docmoduledir := extension/$(EXTENSION)
else
# PostgreSQL is not installed yet: make test and make demo install it
all install installcheck clean:
	@echo "$(PG_CONFIG) leads to no PostgreSQL with development files: install them, or set PG_CONFIG" >&2
	@exit 1
endif

$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h src/*/*.h) credits.control

credits--$(EXTVERSION).sql: $(PARTS) credits.control
	cat $(PARTS) > $@

credits--$(EXTVERSION)--$(EXTVERSION)_log_default.sql: sql/updates/to_log_default.sql credits.control
	cat $< > $@

credits--$(EXTVERSION)_log_default--$(EXTVERSION).sql: sql/updates/from_log_default.sql credits.control
	cat $< > $@

# replaces the version of the distribution and of the extension, not of the format
META.json: credits.control
	sed '/meta-spec/!s/"version": "[^"]*"/"version": "$(EXTVERSION)"/' $@ > $@.new && mv $@.new $@

dist: META.json
	git archive --format zip --prefix=credits-$(EXTVERSION)/ -o credits-$(EXTVERSION).zip HEAD

test assert coverage full demo bench: export PG_CONFIG := $(PG_CONFIG)
test:
	@test/run

assert:
	@test/run --assert

coverage:
	@test/run --coverage

full:
	@test/full

demo:
	@test/demo

bench:
	@bench/run

# CHECK=1 only shows what would be changed, and fails if there is anything
indent:
	@test/indent $(if $(CHECK),--check)

# for test/run
print-%:
	@echo $($*)

.PHONY: test assert coverage full demo bench indent dist
