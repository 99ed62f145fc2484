/*
 * places.h
 *	  Where something is held about a person: how it is exported, and how erased.
 *
 * One entry per table says which of its columns are erased, why the others are not, and
 * by which statements.  A topic that adds a table adds an entry: a test compares the
 * entries with the catalog.
 */
#ifndef CREDITS_JOBS_PLACES_H
#define CREDITS_JOBS_PLACES_H

#include "store/statements.h"

#pragma GCC visibility push(hidden)

#define MAX_PLACE_STEPS 3

/*
 * A step of erasing a place.  Its statement is called again and again with the account's
 * id ($1), its name before ($2) and now ($3), the salt ($4), the position that the call
 * before has returned, NULL at first ($5), and how many rows it may change ($6).  It
 * returns the position to go on from, NULL if nothing is left, in its second column.  In
 * the first one it returns how many rows it has changed or, if it "finds", a row of the
 * log whose texts are to be erased; it then returns any number of rows, of which the
 * last one has the position.
 */
typedef struct PlaceStep
{
	SqlStatement statement;		/* without a text, there is no such step */
	bool		finds;
} PlaceStep;

typedef struct Place
{
	const char *table;
	const char *erased;			/* columns that are erased, or whose rows are
								 * deleted; "" if none */
	const char *kept;			/* the other columns */
	const char *reason;			/* why these stay */

	/*
	 * returns what is held about an account, by its id ($1) and its name
	 * ($2), as jsonb; without a text, nothing is
	 */
	SqlStatement export;
	PlaceStep	steps[MAX_PLACE_STEPS];
} Place;

extern const Oid place_export_types[];
extern const Oid place_step_types[];

#define EXPORTS(sql) .export = {.text = sql, .types = place_export_types, .by_snapshot = true}
#define ERASES(sql) {.statement = {.text = sql, .types = place_step_types}}
#define FINDS(sql) {.statement = {.text = sql, .types = place_step_types}, .finds = true}

extern Place ledger_places[];
extern Place service_places[];
extern Place stripe_places[];
extern Place plain_places[];

extern Place *places_get(int i);
extern int	places_find(const char *table);

#pragma GCC visibility pop

#endif							/* CREDITS_JOBS_PLACES_H */
