/*
 * requests.c
 *	  Requests: fingerprints that identify a request, and replaying it.
 */
#include "credits.h"

#include "ledger/chain.h"
#include "ledger/receipts.h"
#include "ledger/requests.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

/*
 * Adds a text to a fingerprint.
 */
void
requests_add_text(StringInfo f, text *value)
{
	if (value)
	{
		appendStringInfo(f, "%d:", (int) VARSIZE_ANY_EXHDR(value));
		appendBinaryStringInfo(f, VARDATA_ANY(value),
							   VARSIZE_ANY_EXHDR(value));
	}
	appendStringInfoChar(f, ';');
}

/*
 * Adds a number to a fingerprint.
 */
void
requests_add_int64(StringInfo f, bool given, int64 value)
{
	if (given)
		appendStringInfo(f, INT64_FORMAT, value);
	appendStringInfoChar(f, ';');
}

/*
 * Adds a span of time to a fingerprint.
 */
void
requests_add_interval(StringInfo f, Interval *value)
{
	if (value)
		appendStringInfo(f, "%d:%d:" INT64_FORMAT, value->month, value->day,
						 value->time);
	appendStringInfoChar(f, ';');
}

/*
 * Handles a request whose key was used before: returns REPLAYED and the
 * original receipt or, if the key was used for a different request, REFUSED.
 */
Outcome
requests_replay(Posting *posting, const Request *request, const Entry *entry,
				Receipt *receipt)
{
	if (!entry->has_request ||
		entry->request != chain_request(&request->fingerprint, entry->salt,
										entry->salt_len))
	{
		refuse(&posting->refusal, ERRCODE_CONFLICT,
			   psprintf("idempotency key \"%s\" was used for another request",
						text_to_cstring(request->key)),
			   psprintf("Account \"%s\" used it for transaction " INT64_FORMAT ", of kind %s and amount " INT64_FORMAT ".",
						rows_account_name(&posting->account), entry->id,
						kinds_name(entry->kind), entry->amount),
			   "Repeat the request with the same arguments, or use a new key.");
		return REFUSED;
	}
	receipts_replayed(receipt, posting, entry);
	return REPLAYED;
}
