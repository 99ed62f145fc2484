/*
 * versions.h
 *	  Terms that are set for an instant on, and never changed.
 */
#ifndef CREDITS_VERSIONS_H
#define CREDITS_VERSIONS_H

#include "sql.h"

#pragma GCC visibility push(hidden)

/* What has versions, for messages */
typedef struct VersionKind
{
	const char *what;			/* package */
	const char *setter;			/* credits_set_package */
	int			ended;			/* SQLSTATE for what has ended */
} VersionKind;

/* columns that begin what a statement for versions_find returns */
enum
{
	VERSION_ID = 1,
	VERSION_FROM,
	VERSION_UNTIL,
	VERSION_TERMS				/* the first of its own */
};

/* how such a statement ends; $2 is the instant */
#define VERSION_IN_FORCE \
	" ORDER BY active_from > $2, CASE WHEN active_from > $2 THEN active_from END," \
	" active_from DESC, id DESC LIMIT 1"

extern bool versions_find(SqlStatement *statement, const Datum *values,
						  const bool *isnull, const VersionKind *kind,
						  text *name, SqlResult **version, Refusal *refusal);

#pragma GCC visibility pop

#endif							/* CREDITS_VERSIONS_H */
