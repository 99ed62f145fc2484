/*
 * random.c
 *	  Random bytes that nobody can guess.
 */
#include "credits.h"

#include "base/random.h"

/*
 * Fills a place with random bytes.
 */
void
random_fill(void *bytes, size_t len)
{
	if (!pg_strong_random(bytes, len))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random bytes"),
				 errhint("Retry.")));
}
