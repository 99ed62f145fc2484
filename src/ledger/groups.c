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
 * They are read in order of expiry, and then of id.  A grant that a refund has
 * prolonged counts as if it had not been: when it was given back does not change
 * which credits are due.  The indexes of grants have it where it expires now, which
 * is later, so it is kept until it is its turn.
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
	&grants_table, "grants_group_left_idx", {"group_id", "expires_at", "id"},
	.predicate = "((group_id IS NOT NULL) AND (status = ANY (ARRAY['open'::text, 'pending'::text])))"
};

static StoreIndex grants_lost = {
	&grants_table, "grants_group_lost_idx", {"group_id", "expires_at", "id"},
	.predicate = "((group_id IS NOT NULL) AND (lost > 0) AND (lost_claimed IS NULL))"
};

static StoreIndex grants_unclaimed = {
	&grants_table, "grants_group_unclaimed_idx", {"group_id", "expires_at", "id"},
	.predicate = "((group_id IS NOT NULL) AND (all_claimed IS NULL))"
};

static StoreIndex debts_gone_of_group = {
	&debts_table, "debts_group_gone_idx", {"group_id", "lasts_until", "grant_id"},
	.predicate = "((group_id IS NOT NULL) AND (gone > 0))"
};

static StoreIndex debts_taken_of_group = {
	&debts_table, "debts_group_taken_idx", {"group_id", "lasts_until", "grant_id"},
	.predicate = "((group_id IS NOT NULL) AND (claimed > ((gone + owed) + paid)))"
};

static StoreIndex debts_owed_of_group = {
	&debts_table, "debts_group_owed_idx", {"group_id", "lasts_until", "grant_id"},
	.predicate = "((group_id IS NOT NULL) AND ((owed + paid) > 0))"
};

/* where those are found of which a part may be above 0 */
static StoreIndex *const indexes[][2] = {
	[GROUP_LEFT] = {&grants_left},
	[GROUP_LOST] = {&grants_lost},
	[GROUP_CLAIMABLE] = {&grants_lost},
	[GROUP_UNUSED] = {&grants_left, &grants_lost},
	[GROUP_UNCLAIMED] = {&grants_unclaimed},
	[GROUP_GONE] = {&debts_gone_of_group},
	[GROUP_TAKEN] = {&debts_taken_of_group},
	[GROUP_UNOWED] = {&debts_gone_of_group, &debts_taken_of_group},
	[GROUP_OWED] = {&debts_owed_of_group}
};

/*
 * Returns the amount of a part of a grant.
 */
int64
groups_amount(Posting *posting, Grant *grant, GroupPart part)
{
	const Debt *debt;

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
		case GROUP_UNUSED:
			return Min(groups_amount(posting, grant, GROUP_LEFT) +
					   groups_amount(posting, grant, GROUP_LOST),
					   groups_amount(posting, grant, GROUP_UNCLAIMED));
		case GROUP_UNCLAIMED:
			return grant->amount - (debt ? debt->claimed : 0);
		case GROUP_GONE:
			return debt ? debt->gone : 0;
		case GROUP_TAKEN:
			return debt ? debt->claimed - debt->gone - debt->owed - debt->paid : 0;
		case GROUP_UNOWED:
			return debt ? debt->claimed - debt->owed - debt->paid : 0;
		case GROUP_OWED:
			return debt ? debt->owed + debt->paid : 0;
		default:
			return 0;
	}
}

/*
 * Orders grants: the one that expires last comes first, and of these the one that
 * was given last.
 */
static int
compare_last(const ListCell *a, const ListCell *b)
{
	const Grant *x = lfirst(a);
	const Grant *y = lfirst(b);
	TimestampTz x_until = grants_lasts_until(x);
	TimestampTz y_until = grants_lasts_until(y);

	if (x_until != y_until)
		return x_until > y_until ? -1 : 1;
	return x->id > y->id ? -1 : x->id < y->id;
}

/*
 * Orders grants in the opposite way.
 */
static int
compare_first(const ListCell *a, const ListCell *b)
{
	return compare_last(b, a);
}

/*
 * Returns whether grants that have a part are read from the one that expires
 * first.
 */
static bool
is_claimed(GroupPart part)
{
	return indexes[part][0]->table == &debts_table;
}

/*
 * Orders grants as they are read.
 */
static int
compare_grants(const GroupGrants *grants, Grant *a, Grant *b)
{
	ListCell	x = {.ptr_value = a};
	ListCell	y = {.ptr_value = b};

	return is_claimed(grants->part) ? compare_first(&x, &y) :
		compare_last(&x, &y);
}

/*
 * Returns whether the posting had a grant at the start.
 */
static bool
was_known(const GroupGrants *grants, Grant *grant)
{
	int			low = 0;
	int			high = list_length(grants->known);

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = compare_grants(grants, grant,
										   list_nth(grants->known, middle));

		if (order == 0)
			return true;
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

/*
 * Reads the next grant that an index leads to and the posting has not had from
 * the start.
 */
static void
read_indexed(GroupGrants *grants, GroupScan *scan)
{
	Posting    *posting = grants->posting;
	bool		claimed = is_claimed(grants->part);

	scan->grant = NULL;
	while (scan->grant == NULL &&
		   scan_next(&scan->scan, claimed ? ForwardScanDirection :
					 BackwardScanDirection) != NULL)
	{
		int64		id = DatumGetInt64(scan_key(&scan->scan, 2));
		Grant	   *grant = grants_find_known(posting, id);

		CHECK_FOR_INTERRUPTS();
		if (grant && was_known(grants, grant))
			continue;
		if (grant == NULL)
			grant = claimed ? grants_get(posting, id) :
				grants_read(posting, &scan->scan);
		if (claimed || grant->granted_until == DT_NOBEGIN)
			scan->grant = grant;
		else if (!list_member_ptr(grants->prolonged, grant))
		{
			grants->prolonged = lappend(grants->prolonged, grant);
			list_sort(grants->prolonged, compare_last);
		}
	}
}

/*
 * Begins to read the grants of a group that have a part.  The posting may change
 * grants meanwhile.
 */
void
groups_begin(GroupGrants *grants, Posting *posting, int64 group_id,
			 GroupPart part)
{
	int			i;

	memset(grants, 0, sizeof(GroupGrants));
	grants->posting = posting;
	grants->part = part;
	if (group_id == 0)
		return;
	for (i = 0; i < posting->ngrants; i++)
		if (posting->grants[i]->group_id == group_id)
			grants->known = lappend(grants->known, posting->grants[i]);
	list_sort(grants->known, is_claimed(part) ? compare_first : compare_last);
	for (i = 0; i < (int) lengthof(indexes[part]) && indexes[part][i]; i++)
	{
		scan_begin(&grants->scans[i].scan, posting->store, indexes[part][i],
				   posting->snapshot, BY_INT64(group_id));
		grants->nscans++;
		read_indexed(grants, &grants->scans[i]);
	}
}

/*
 * Returns the next grant that has a part, NULL if there is none.
 */
Grant *
groups_next(GroupGrants *grants)
{
	Grant	   *next;

	do
	{
		int			i;

		CHECK_FOR_INTERRUPTS();
		next = grants->nknown < list_length(grants->known) ?
			list_nth(grants->known, grants->nknown) : NULL;
		if (grants->prolonged != NIL &&
			(next == NULL ||
			 compare_grants(grants, linitial(grants->prolonged), next) < 0))
			next = linitial(grants->prolonged);
		for (i = 0; i < grants->nscans; i++)
			if (grants->scans[i].grant &&
				(next == NULL ||
				 compare_grants(grants, grants->scans[i].grant, next) < 0))
				next = grants->scans[i].grant;
		if (next == NULL)
			return NULL;

		if (grants->nknown < list_length(grants->known) &&
			next == list_nth(grants->known, grants->nknown))
			grants->nknown++;
		else if (grants->prolonged != NIL &&
				 next == linitial(grants->prolonged))
			grants->prolonged = list_delete_first(grants->prolonged);
		/* both may lead to it */
		for (i = 0; i < grants->nscans; i++)
			if (next == grants->scans[i].grant)
				read_indexed(grants, &grants->scans[i]);
	} while (groups_amount(grants->posting, next, grants->part) <= 0);
	return next;
}

/*
 * Ends reading grants of a group.
 */
void
groups_end(GroupGrants *grants)
{
	int			i;

	for (i = 0; i < grants->nscans; i++)
		scan_end(&grants->scans[i].scan);
}

/*
 * Returns grants of a group that have a part, until there is enough of it.  Sets
 * sum to what they have of it.
 */
List *
groups_read(Posting *posting, int64 group_id, GroupPart part, int64 enough,
			int64 *sum)
{
	GroupGrants grants;
	List	   *found = NIL;
	Grant	   *grant;

	*sum = 0;
	if (group_id == 0 || enough <= 0)
		return NIL;
	groups_begin(&grants, posting, group_id, part);
	while (*sum < enough && (grant = groups_next(&grants)) != NULL)
	{
		if (pg_add_s64_overflow(*sum, groups_amount(posting, grant, part), sum))
			*sum = PG_INT64_MAX;
		found = lappend(found, grant);
	}
	groups_end(&grants);
	return found;
}
