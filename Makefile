# credits: a PostgreSQL extension that keeps user credits right
#
#	make, make install, make installcheck	as with every extension (PGXS)
#	make test, make demo			install what they need, and run in a throwaway cluster
#	make coverage, make bench, make dist	for those who work on credits
#
# PG_CONFIG names the PostgreSQL meant.

PG_CONFIG ?= pg_config

EXTENSION = credits
# credits.control is the only place of the version
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" credits.control)
PGFILEDESC = "credits - user credits that stay right"

MODULE_big = credits
OBJS := $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
PARTS := $(sort $(wildcard sql/*.sql))
DATA_built = credits--$(EXTVERSION).sql
# := because PGXS takes a variable that expands to nothing for one that is set
DOCS := $(wildcard doc/*.md)
EXTRA_CLEAN = credits--*.sql

# added to what the environment says: CI says -Werror
PG_CFLAGS += -Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers
PG_CPPFLAGS += -DCREDITS_VERSION='"$(EXTVERSION)"'

# all in one database, that install makes ready and uninstall leaves empty
SQL_TESTS := $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS := $(filter install,$(SQL_TESTS)) $(filter-out install uninstall,$(SQL_TESTS)) \
	$(filter uninstall,$(SQL_TESTS))
REGRESS_OPTS = --inputdir=test --encoding=UTF8 --no-locale
ISOLATION := $(patsubst test/specs/%.spec,%,$(sort $(wildcard test/specs/*.spec)))
ISOLATION_OPTS = --inputdir=test --load-extension=credits
# the tests in Perl make clusters of their own: not for installcheck, which tests
# the running one, unless they are asked for by PROVE_TESTS
TAP_TESTS := $(if $(PROVE_TESTS),1)

PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
else
# nothing to build with yet: make test and make demo see to that
all install installcheck clean:
	@echo "$(PG_CONFIG) leads to no PostgreSQL with development files: install them, or set PG_CONFIG" >&2
	@exit 1
endif

$(OBJS) $(OBJS:.o=.bc): $(wildcard src/*.h) credits.control

credits--$(EXTVERSION).sql: $(PARTS) credits.control
	cat $(PARTS) > $@

# both versions in it, not that of the META format
META.json: credits.control
	sed '/meta-spec/!s/"version": "[^"]*"/"version": "$(EXTVERSION)"/' $@ > $@.new && mv $@.new $@

dist: META.json
	git archive --format zip --prefix=credits-$(EXTVERSION)/ -o credits-$(EXTVERSION).zip HEAD

test demo coverage bench: export PG_CONFIG := $(PG_CONFIG)
test:
	@test/run

coverage:
	@test/run --coverage

demo:
	@test/demo

bench:
	@bench/run

# for test/run
print-%:
	@echo $($*)

.PHONY: test coverage demo bench dist
