/*
 * service.h
 *	  The service switch: a pause of spending for everybody.
 */
#ifndef CREDITS_LEDGER_SERVICE_H
#define CREDITS_LEDGER_SERVICE_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

/* A row of credits.service_pause: there is one while spending is paused */
typedef struct ServicePause
{
	ItemPointerData tid;
	int32		id;				/* always 1 */
	text	   *reason;
	TimestampTz until;			/* DT_NOEND if it lasts until it is ended */
	Datum		operations;		/* arrays of texts, or 0: if both are, all
								 * spending is paused */
	Datum		kinds;
	TimestampTz paused_at;
	text	   *role;
	text	   *actor;			/* or NULL */
} ServicePause;

extern bool service_allows(Posting *posting, TransactionKind kind,
						   text *operation);
extern void service_await_others(void);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_SERVICE_H */
