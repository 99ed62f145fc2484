/*
 * draws.h
 *	  Finding grants in an array of draws.
 */
#ifndef CREDITS_LEDGER_DRAWS_H
#define CREDITS_LEDGER_DRAWS_H

#include "ledger/rows.h"

#pragma GCC visibility push(hidden)

/* Maps the ids of grants to their indexes in an array of draws */
typedef struct draws_by_hash DrawPlaces;

extern DrawPlaces *draws_places(const Draw *draws, int n);
extern int	draws_find(DrawPlaces *places, int64 grant_id);
extern void draws_note(DrawPlaces *places, int64 grant_id, int place);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_DRAWS_H */
