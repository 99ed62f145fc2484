/*
 * groups.h
 *	  Groups of grants that were given for the same thing.
 */
#ifndef CREDITS_LEDGER_GROUPS_H
#define CREDITS_LEDGER_GROUPS_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

/*
 * Which grants of a group, and the amount of each that is meant.  Those of which
 * more can be claimed are read from the one that expires last; those of which
 * something is claimed, from the one that expires first.
 */
typedef enum GroupPart
{
	GROUP_LEFT,					/* what remains of one that is open or pending */
	GROUP_LOST,					/* what it has lost and is not claimed */
	GROUP_CLAIMABLE,			/* the same, as far as more can be claimed */
	GROUP_UNUSED,				/* the same, or what remains */
	GROUP_UNCLAIMED,			/* what is not claimed, used or not */
	GROUP_GONE,					/* what is claimed: it had been lost */
	GROUP_TAKEN,				/* it was left, and taken */
	GROUP_UNOWED,				/* one or the other */
	GROUP_OWED					/* it was used: it is owed, or other grants
								 * have paid it */
} GroupPart;

/* where an index leads to grants of a group */
typedef struct GroupScan
{
	StoreScan	scan;
	Grant	   *grant;			/* the next one, NULL if there is none */
} GroupScan;

/* Grants of a group that have a part, in order, as a posting has changed them */
typedef struct GroupGrants
{
	Posting    *posting;
	GroupPart	part;
	List	   *known;			/* those that the posting had at the start */
	int			nknown;			/* how many of these are done */
	List	   *prolonged;		/* met too early, since they expire later now */
	GroupScan	scans[2];
	int			nscans;
} GroupGrants;

extern StoreIndex grants_by_group;
extern int64 groups_amount(Posting *posting, Grant *grant, GroupPart part);
extern void groups_begin(GroupGrants *grants, Posting *posting, int64 group_id,
						 GroupPart part);
extern Grant *groups_next(GroupGrants *grants);
extern void groups_end(GroupGrants *grants);
extern List *groups_read(Posting *posting, int64 group_id, GroupPart part,
						 int64 enough, int64 *sum);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_GROUPS_H */
