/*
 * grants.h
 *	  Grants of a posting: making and finding them, drawing from them and
 *	  giving credits back.
 */
#ifndef CREDITS_LEDGER_GRANTS_H
#define CREDITS_LEDGER_GRANTS_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

/*
 * Called for each grant that is due.  It has been peeked at: its texts are good
 * until the callback returns, and it is not yet one of the posting's.
 */
typedef void (*GrantDue) (Posting *posting, StoreScan *scan,
						  const Grant *peeked, void *arg);

extern bool grants_known_source(Refusal *refusal, text *source,
								int32 *priority);
extern int32 grants_default_priority(text *source);
extern Grant *grants_new(Posting *posting, int64 amount, text *source,
						 TimestampTz effective_at, TimestampTz expires_at);
extern Grant *grants_find_known(Posting *posting, int64 id);
extern Grant *grants_get(Posting *posting, int64 id);
extern int64 grants_take(Grant *grant, int64 amount, Draw *draw);
extern TimestampTz grants_lasts_until(const Grant *grant);
extern Draw *grants_draw(Grant *grant, int64 amount);
extern Draw *grants_lose(Grant *grant, int64 amount);
extern void grants_add_terms(JsonObject *json, const Grant *grant);
extern Jsonb *grants_terms(const Grant *grant);
extern void grants_prolonged(JsonObject *json, const Grant *grant);
extern TransactionKind grants_give_back(Posting *posting, Grant *grant,
										int64 amount, TimestampTz drawn,
										TimestampTz at, TimestampTz until,
										JsonObject *prolonged);
extern Grant *grants_add_stored(Posting *posting, Grant *grant);
extern Grant *grants_read(Posting *posting, StoreScan *scan);
extern TimestampTz grants_read_effective(Posting *posting, int max,
										 GrantDue due, void *arg);
extern TimestampTz grants_read_expiring(Posting *posting, int max,
										GrantDue due, void *arg);
extern TimestampTz grants_next_expiry(Posting *posting, int64 *amount);
extern void grants_wake(Posting *posting, TimestampTz at);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_GRANTS_H */
