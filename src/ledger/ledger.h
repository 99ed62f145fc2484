/*
 * ledger.h
 *	  Postings: the only way in which accounts change.
 */
#ifndef CREDITS_LEDGER_LEDGER_H
#define CREDITS_LEDGER_LEDGER_H

#include "ledger/anchors.h"
#include "ledger/audit.h"
#include "ledger/burn.h"
#include "ledger/chain.h"
#include "ledger/debts.h"
#include "ledger/draws.h"
#include "ledger/events.h"
#include "ledger/grants.h"
#include "ledger/groups.h"
#include "ledger/guards.h"
#include "ledger/hold.h"
#include "ledger/limit_rules.h"
#include "ledger/log.h"
#include "ledger/members.h"
#include "ledger/posting.h"
#include "ledger/receipts.h"
#include "ledger/requests.h"
#include "ledger/service.h"
#include "ledger/terms.h"

#pragma GCC visibility push(hidden)

/*
 * Plans a posting: adds entries and changes grants, in memory only.  Returns
 * false, with posting->refusal set, if the posting is refused, or without one if
 * there is nothing to do.  It may be called twice for one request.  For a joint
 * posting, the argument is an array in the order of the parties, and any of them
 * may have the refusal.
 */
typedef bool (*PlanFunction) (Posting *posting, void *arg);

/* An account to post to, given by name or, if there is none, by id */
typedef struct Party
{
	text	   *name;
	int64		id;
} Party;

/* The arguments of ledger_run */
typedef struct LedgerCall
{
	const Party *parties;
	int			nparties;
	Request    *request;		/* NULL if the call is made by a job */
	PlanFunction plan;			/* NULL to only settle the accounts */
	void	   *arg;			/* for the plan */
	bool		lock_first;		/* lock the accounts before planning? */
	bool		skip_locked;	/* return BUSY instead of waiting for a lock? */
	bool		only_due;		/* return NOTHING_DUE before due_at? */
	bool		dry;			/* write nothing? */
	bool		no_locks;		/* never lock anything? */
	bool		no_renewal;		/* leave subscriptions that are due alone? */
	TimestampTz now;			/* time of the posting, 0 for the current time */
	int		   *steps;			/* limit for settling each account, reduced by
								 * the steps taken; NULL to settle completely */

	/* called before the accounts are settled, to lock other rows, or NULL */
	void		(*before_settling) (Posting *posting, void *arg);
	Receipt    *receipt;		/* output, or NULL */
} LedgerCall;

extern void ledger_lock_tables(const char *function);
extern TimestampTz ledger_instant(TimestampTz given, const Account *account);
extern void ledger_renew_snapshot(Posting *postings, int npostings);
extern Outcome ledger_run(Store *store, const LedgerCall *call,
						  Refusal *refusal);
extern Outcome ledger_post_due(const char *function, int64 account_id,
							   PlanFunction plan, void *arg, int *steps,
							   Refusal *refusal);
extern bool ledger_post(const char *function, text *name, int64 id,
						Request *request, PlanFunction plan, void *arg,
						Receipt *receipt, Refusal *refusal);
extern bool ledger_post_joint(const char *function, const Party *parties,
							  int nparties, Request *request, PlanFunction plan,
							  void *arg, Receipt *receipt, Refusal *refusal);
extern Datum ledger_call(FunctionCallInfo fcinfo, const char *function,
						 text *name, int64 id, Request *request,
						 PlanFunction plan, void *arg);
extern Datum ledger_call_joint(FunctionCallInfo fcinfo, const char *function,
							   const Party *parties, int nparties,
							   Request *request, PlanFunction plan, void *arg);
extern void ledger_peek(const Account *account, TimestampTz at,
						Account *settled, TimestampTz *expiring_at,
						int64 *expiring);
extern void ledger_peek_grants(const Account *account, TimestampTz at,
							   const Grant *after, BurnVisit visit,
							   void *arg);
extern bool ledger_rehearse(text *name, PlanFunction plan, void *arg,
							Refusal *refusal);

/*
 * One item of a batch
 */
typedef struct BatchItem
{
	text	   *account;
	Request		request;
	void	   *arg;			/* for the plan */
	Refusal		refusal;		/* output, if the item is refused */
	Receipt		receipt;		/* output, if it is not */
	/* of an item of bulk_post_joint, whose account may be given by id, too */
	text	   *other;			/* the second account, by name or by id */
	int64		other_id;		/* 0 if there is none, unless it is by name */
	List	   *members;		/* keys of those that the plan may change */
	/* private to bulk.c */
	int64		account_id;
	int			places[2];		/* where the postings of its accounts are */
	struct BatchItem *next_of_hash;
} BatchItem;

/*
 * Plans an item of a batch of joint changes, as a PlanFunction does.  Its
 * postings are those at item->places.
 */
typedef bool (*PlanItem) (Posting *postings, BatchItem *item);

extern bool bulk_post_joint(const char *function, BatchItem *items, int nitems,
							PlanItem plan, bool atomic);
extern bool bulk_post(const char *function, BatchItem *items, int nitems,
					  PlanFunction plan, bool atomic, bool dry);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_LEDGER_H */
