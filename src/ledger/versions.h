/*
 * versions.h
 *	  Terms that hold from an instant on and are never changed.
 */
#ifndef CREDITS_LEDGER_VERSIONS_H
#define CREDITS_LEDGER_VERSIONS_H

#include "base/sets.h"
#include "ledger/ledger.h"
#include "store/statements.h"

#pragma GCC visibility push(hidden)

/* Something that has versions: each is a row of its table */
typedef struct VersionKind
{
	const char *what;			/* for messages: package */
	const char *setter;			/* credits_set_package */
	int			ended;			/* SQLSTATE for a version that has ended */
	int			from_arg;		/* of the setter: active_from */
	int			until_arg;		/* active_until */
	SqlStatement *find;			/* by $1 name, $2 instant and, if names are
								 * not unique across units, $3 unit */
	SqlStatement *keep;			/* locks version $1 and returns its values in
								 * the order of the setter's arguments */
	SqlStatement *insert;		/* adds a version with the setter's arguments,
								 * made at the instant that follows them */
	SqlStatement *retire;		/* copies version $1 as one that begins and
								 * ends at $2 and is made at $3 */
} VersionKind;

/* columns that find must return first */
enum
{
	VERSION_ID = 1,
	VERSION_FROM,
	VERSION_UNTIL,
	VERSION_TERMS				/* the first of its own */
};

/*
 * How find must end.  If no version has begun, it returns the first that will,
 * so that an error can say when.
 */
#define VERSION_IN_FORCE \
	" ORDER BY active_from > $2, CASE WHEN active_from > $2 THEN active_from END," \
	" active_from DESC, id DESC LIMIT 1"

extern bool versions_refuse_unknown(const VersionKind *kind, text *name,
									Refusal *refusal);
extern bool versions_find(const VersionKind *kind, text *name, text *unit,
						  TimestampTz at, SqlResult **version,
						  Refusal *refusal);
extern int64 versions_merge(const VersionKind *kind, Set *set, text *name,
							text *unit);
extern int64 versions_set(const VersionKind *kind, Set *set, int64 current);
extern int64 versions_add(SqlStatement *insert, const Datum *values,
						  const bool *isnull);
extern int64 versions_retire(const VersionKind *kind, text *name, text *unit,
							 FunctionCallInfo fcinfo, int n);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_VERSIONS_H */
