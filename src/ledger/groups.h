/*
 * groups.h
 *	  Groups of grants that were given for the same thing.
 */
#ifndef CREDITS_LEDGER_GROUPS_H
#define CREDITS_LEDGER_GROUPS_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

/* Which grants of a group, and the amount of each that is meant */
typedef enum GroupPart
{
	GROUP_ALL,					/* what it gave */
	GROUP_LEFT,					/* what remains of one that is open or pending */
	GROUP_LOST,					/* what it has lost and is not claimed */
	GROUP_CLAIMABLE,			/* the same, as far as more can be claimed */
	GROUP_UNCLAIMED,			/* what is not claimed, used or not */
	GROUP_GONE,					/* what is claimed: it had been lost */
	GROUP_TAKEN,				/* it was left, and taken */
	GROUP_OWED					/* it was used: it is owed, or other grants
								 * have paid it */
} GroupPart;

extern StoreIndex grants_by_group;
extern int64 groups_amount(Posting *posting, Grant *grant, GroupPart part);
extern List *groups_read(Posting *posting, int64 group_id, GroupPart part,
						 int64 enough, int64 *sum);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_GROUPS_H */
