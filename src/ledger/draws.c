/*
 * draws.c
 *	  Finding grants in an array of draws, with a hash table.
 *
 * A spend may draw on any number of grants, and so may the transactions that
 * give credits back to them.  To search one array for each element of the other
 * would take quadratic time.
 */
#include "credits.h"

#include "ledger/draws.h"
#include "store/codec.h"

#include "common/hashfn.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(credits_draws_of);

typedef struct DrawPlace
{
	int64		grant_id;
	char		status;			/* of the hash's slot */
	int			place;
} DrawPlace;

#define SH_PREFIX draws_by
#define SH_ELEMENT_TYPE DrawPlace
#define SH_KEY_TYPE int64
#define SH_KEY grant_id
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (key) ^ (uint32) ((key) >> 32))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DEFINE
#define SH_DECLARE
#include "lib/simplehash.h"

/*
 * Adds the index of a grant, unless it has one already.
 */
void
draws_note(DrawPlaces *places, int64 grant_id, int place)
{
	bool		found;
	DrawPlace  *element = draws_by_insert(places, grant_id, &found);

	if (!found)
		element->place = place;
}

/*
 * Returns a hash table of the grants in an array of draws.
 */
DrawPlaces *
draws_places(const Draw *draws, int n)
{
	DrawPlaces *places = draws_by_create(CurrentMemoryContext, n, NULL);
	int			i;

	for (i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		draws_note(places, draws[i].grant_id, i);
	}
	return places;
}

/*
 * Returns the index of a grant, -1 if it is not in the array.
 */
int
draws_find(DrawPlaces *places, int64 grant_id)
{
	DrawPlace  *element = draws_by_lookup(places, grant_id);

	return element ? element->place : -1;
}

/*
 * SQL function: returns the draws that the log has packed as an array; null if they
 * are damaged.
 */
Datum
credits_draws_of(PG_FUNCTION_ARGS)
{
	Datum		array = codec_unpacked(PG_GETARG_BYTEA_PP(0));

	if (array == (Datum) 0)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(array);
}
