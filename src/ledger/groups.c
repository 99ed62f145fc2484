/*
 * groups.c
 *	  Groups of grants that were given for the same thing, such as a period of a
 *	  subscription, to which each change within it may add one.
 *
 * A group has the id of its first grant.  It can have very many, so each question
 * has an index that leads to the grants that it is about, and they are read only
 * until there is enough: what a change costs depends on the grants that it moves
 * credits of, and not on how many others the group has.
 *
 * Tested in test/sql/paid_parts.sql, how long it takes in test/t/scale.pl.
 */
#include "credits.h"

#include "ledger/debts.h"
#include "ledger/grants.h"
#include "ledger/groups.h"

#include "common/int.h"
#include "miscadmin.h"

StoreIndex	grants_by_group = {
	&grants_table, "grants_group_id_idx", {"group_id", "id"},
	.predicate = "(group_id IS NOT NULL)"
};

static StoreIndex grants_left = {
	&grants_table, "grants_group_left_idx", {"group_id", "id"},
	.predicate = "((group_id IS NOT NULL) AND (status = ANY (ARRAY['open'::text, 'pending'::text])))"
};

static StoreIndex grants_lost = {
	&grants_table, "grants_group_lost_idx", {"group_id", "id"},
	.predicate = "((group_id IS NOT NULL) AND (lost > 0))"
};

static StoreIndex grants_claimable = {
	&grants_table, "grants_group_claimable_idx", {"group_id", "id"},
	.predicate = "((group_id IS NOT NULL) AND (lost > 0) AND (all_claimed IS NULL))"
};

static StoreIndex grants_unclaimed = {
	&grants_table, "grants_group_unclaimed_idx", {"group_id", "id"},
	.predicate = "((group_id IS NOT NULL) AND (all_claimed IS NULL))"
};

static StoreIndex debts_gone_of_group = {
	&debts_table, "debts_group_gone_idx", {"group_id", "grant_id"},
	.predicate = "((group_id IS NOT NULL) AND (gone > 0))"
};

static StoreIndex debts_taken_of_group = {
	&debts_table, "debts_group_taken_idx", {"group_id", "grant_id"},
	.predicate = "((group_id IS NOT NULL) AND (claimed > ((gone + owed) + paid)))"
};

static StoreIndex debts_owed_of_group = {
	&debts_table, "debts_group_owed_idx", {"group_id", "grant_id"},
	.predicate = "((group_id IS NOT NULL) AND ((owed + paid) > 0))"
};

/* where those are found of which a part may be above 0 */
static StoreIndex *const indexes[] = {
	[GROUP_ALL] = &grants_by_group,
	[GROUP_LEFT] = &grants_left,
	[GROUP_LOST] = &grants_lost,
	[GROUP_CLAIMABLE] = &grants_claimable,
	[GROUP_UNCLAIMED] = &grants_unclaimed,
	[GROUP_GONE] = &debts_gone_of_group,
	[GROUP_TAKEN] = &debts_taken_of_group,
	[GROUP_OWED] = &debts_owed_of_group
};

/*
 * Returns the amount of a part of a grant.
 */
int64
groups_amount(Posting *posting, Grant *grant, GroupPart part)
{
	const Debt *debt;

	if (part == GROUP_ALL)
		return grant->amount;
	if (part == GROUP_LEFT)
		return grant->status == GRANT_OPEN || grant->status == GRANT_PENDING ?
			grant->remaining : 0;
	debt = debts_of(posting, grant);
	switch (part)
	{
		case GROUP_LOST:
			return Max(grant->lost - (debt ? debt->gone : 0), 0);
		case GROUP_CLAIMABLE:
			return Min(groups_amount(posting, grant, GROUP_LOST),
					   groups_amount(posting, grant, GROUP_UNCLAIMED));
		case GROUP_UNCLAIMED:
			return grant->amount - (debt ? debt->claimed : 0);
		case GROUP_GONE:
			return debt ? debt->gone : 0;
		case GROUP_TAKEN:
			return debt ? debt->claimed - debt->gone - debt->owed - debt->paid : 0;
		case GROUP_OWED:
			return debt ? debt->owed + debt->paid : 0;
		default:
			return 0;
	}
}

/*
 * Adds a grant to a list, if it has a part and there is not enough of it.
 */
static List *
add_grant(Posting *posting, List *grants, Grant *grant, GroupPart part,
		  int64 enough, int64 *sum)
{
	int64		amount = *sum < enough ? groups_amount(posting, grant, part) : 0;

	if (amount <= 0)
		return grants;
	if (pg_add_s64_overflow(*sum, amount, sum))
		*sum = PG_INT64_MAX;
	return lappend(grants, grant);
}

/*
 * Orders grants: those that were given last come first.
 */
static int
compare_given(const ListCell *a, const ListCell *b)
{
	const Grant *x = lfirst(a);
	const Grant *y = lfirst(b);

	return x->id > y->id ? -1 : x->id < y->id;
}

/*
 * Returns grants of a group that have a part, as the posting has changed them so
 * far: those that were given last, until there is enough of it.  Sets sum to what
 * they have of it.
 */
List *
groups_read(Posting *posting, int64 group_id, GroupPart part, int64 enough,
			int64 *sum)
{
	StoreIndex *index = indexes[part];
	List	   *grants = NIL;
	List	   *known = NIL;
	int			nknown = 0;
	StoreScan	scan;
	int			i;

	*sum = 0;
	if (group_id == 0 || enough <= 0)
		return NIL;
	for (i = 0; i < posting->ngrants; i++)
		if (posting->grants[i]->group_id == group_id)
			known = lappend(known, posting->grants[i]);
	list_sort(known, compare_given);
	scan_begin(&scan, posting->store, index, posting->snapshot,
			   BY_INT64(group_id));
	while (*sum < enough && scan_next(&scan, BackwardScanDirection) != NULL)
	{
		int64		id = DatumGetInt64(scan_key(&scan, 1));

		for (; nknown < list_length(known) &&
			 ((Grant *) list_nth(known, nknown))->id >= id; nknown++)
			grants = add_grant(posting, grants, list_nth(known, nknown), part,
							   enough, sum);
		/* each row is seen once: if it is known, it was before */
		if (*sum < enough && grants_find_known(posting, id) == NULL)
			grants = add_grant(posting, grants,
							   index->table == &grants_table ?
							   grants_read(posting, &scan) :
							   grants_get(posting, id), part, enough, sum);
	}
	scan_end(&scan);
	for (; nknown < list_length(known); nknown++)
		grants = add_grant(posting, grants, list_nth(known, nknown), part,
						   enough, sum);
	return grants;
}
