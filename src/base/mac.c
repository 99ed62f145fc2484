/*
 * mac.c
 *	  Message authentication codes: HMAC-SHA256, as of RFC 2104.
 */
#include "credits.h"

#include "base/mac.h"

#include "common/hmac.h"

/*
 * Makes the code of several parts, as if they were one.
 */
void
mac_make(const void *key, size_t key_len, const MacPart *parts, int nparts,
		 uint8 *mac)
{
	pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);
	bool		made;
	int			i;

	made = hmac && pg_hmac_init(hmac, key, key_len) >= 0;
	for (i = 0; made && i < nparts; i++)
		made = pg_hmac_update(hmac, parts[i].data, parts[i].len) >= 0;
	made = made && pg_hmac_final(hmac, mac, MAC_BYTES) >= 0;
	pg_hmac_free(hmac);
	if (!made)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not compute a signature"),
				 errhint("Free some memory, and retry.")));
}

/*
 * Compares two codes in constant time, so that the time taken does not reveal
 * where they differ.
 */
bool
mac_is_same(const uint8 *a, const uint8 *b)
{
	volatile uint8 difference = 0;
	int			i;

	for (i = 0; i < MAC_BYTES; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}
