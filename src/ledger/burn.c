/*
 * burn.c
 *	  The grants of a posting in the order in which they burn: reading them,
 *	  visiting them, and taking credits from them.
 *
 * Grants burn by priority (lower first), then earliest expiry (never-expiring
 * last), then earliest effective, then id.  That is the order of index
 * grants_burn_order_idx, which does not contain used-up grants.
 *
 * As an account may have any number of grants, only as many as needed are
 * read.
 */
#include "credits.h"

#include "ledger/burn.h"
#include "ledger/grants.h"

#include "miscadmin.h"

/*
 * Begins a scan of the account's open and pending grants in burn order.
 */
static void
begin_burn_scan(StoreScan *scan, Posting *posting)
{
	scan_begin(scan, posting->store, &grants_in_burn_order,
			   posting->snapshot, BY_INT64(posting->account.id));
}

/*
 * Compares two grants by burn order.
 */
int
burn_compare(const Grant *x, const Grant *y)
{
	if (x->priority != y->priority)
		return x->priority < y->priority ? -1 : 1;
	if (x->expires_at != y->expires_at)
		return x->expires_at < y->expires_at ? -1 : 1;
	if (x->effective_at != y->effective_at)
		return x->effective_at < y->effective_at ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/*
 * qsort comparator for pointers to grants.
 */
static int
compare_elements(const void *a, const void *b)
{
	return burn_compare(*(Grant *const *) a, *(Grant *const *) b);
}

/*
 * Sorts the posting's grants in burn order.
 */
static void
sort_grants(Posting *posting)
{
	qsort(posting->grants, posting->ngrants, sizeof(Grant *),
		  compare_elements);
	posting->grants_unsorted = false;
	posting->nburnt = 0;
}

/*
 * Reads all open and pending grants, unless this has been done.
 */
void
burn_load(Posting *posting)
{
	bool		had_some = posting->ngrants > 0;
	StoreScan	scan;

	if (posting->grants_loaded)
		return;
	begin_burn_scan(&scan, posting);
	while (scan_next(&scan, ForwardScanDirection))
		(void) grants_read(posting, &scan);
	scan_end(&scan);
	posting->grants_loaded = true;
	if (!had_some)
		posting->grants_unsorted = false;
}

/* The state of burn_visit */
typedef struct Visiting
{
	Posting    *posting;
	BurnVisit	visit;
	void	   *arg;
	int			next;			/* of the posting's grants */
	bool		more;			/* are more wanted? */
} Visiting;

/*
 * Visits a grant that can be spent or will be.
 */
static void
visit_grant(Visiting *visiting, const Grant *grant)
{
	CHECK_FOR_INTERRUPTS();
	if (visiting->more &&
		(grant->status == GRANT_OPEN || grant->status == GRANT_PENDING))
		visiting->more = visiting->visit(grant, visiting->arg);
}

/*
 * Visits the posting's own grants that come before the given one, or all that
 * are left.
 */
static void
visit_known(Visiting *visiting, const Grant *until)
{
	Posting    *posting = visiting->posting;

	while (visiting->more && visiting->next < posting->ngrants &&
		   (until == NULL ||
			burn_compare(posting->grants[visiting->next], until) < 0))
		visit_grant(visiting, posting->grants[visiting->next++]);
}

/*
 * Visits a part of the index in burn order, given by the values of its first n
 * keys, and the posting's own grants where they belong in between.
 */
static void
visit_range(Visiting *visiting, const ScanBy *by, int n)
{
	Posting    *posting = visiting->posting;
	StoreScan	scan;
	Grant		peeked;

	if (!visiting->more)
		return;
	scan_begin_by(&scan, posting->store, &grants_in_burn_order,
				  posting->snapshot, by, n);
	while (visiting->more && scan_peek(&scan, ForwardScanDirection, &peeked))
	{
		/* the posting's copy may have another place by now */
		if (grants_find_known(posting, peeked.id))
			continue;
		visit_known(visiting, &peeked);
		visit_grant(visiting, &peeked);
	}
	scan_end(&scan);
}

/*
 * Visits the part of the index after a grant.  There is one range for each key:
 * the rows that have the grant's values of the keys before, and a greater one of
 * this key.
 */
static void
visit_after(Visiting *visiting, const Grant *grant)
{
	bool		never = grant->expires_at == DT_NOEND;
	ScanBy		by[] = {
		BY_INT64(visiting->posting->account.id),
		BY_INT32(grant->priority),
		never ? BY_NULL(TIMESTAMPTZOID) : BY_TIME(grant->expires_at),
		BY_TIME(grant->effective_at),
		BY_INT64_ABOVE(grant->id)
	};

	visit_range(visiting, by, 5);
	by[3] = BY_TIME_AFTER(grant->effective_at);
	visit_range(visiting, by, 4);
	/* NULL comes last, but is not greater than any value */
	if (!never)
	{
		by[2] = BY_TIME_AFTER(grant->expires_at);
		visit_range(visiting, by, 3);
		by[2] = BY_NULL(TIMESTAMPTZOID);
		visit_range(visiting, by, 3);
	}
	by[1] = BY_INT32_ABOVE(grant->priority);
	visit_range(visiting, by, 2);
}

/*
 * Visits the open and pending grants as the posting has them, in burn order:
 * those after a grant, which need not be one of them any more, or, if that is
 * NULL, all.  Reads no more of them than are wanted, and keeps none in memory.
 */
void
burn_visit(Posting *posting, const Grant *after, BurnVisit visit, void *arg)
{
	Visiting	visiting = {
		.posting = posting,
		.visit = visit,
		.arg = arg,
		.more = true
	};
	const Grant *known = after ? grants_find_known(posting, after->id) : NULL;

	if (posting->grants_unsorted)
		sort_grants(posting);
	/* settling may have moved its expiry */
	if (known)
		after = known;
	if (after)
	{
		while (visiting.next < posting->ngrants &&
			   burn_compare(posting->grants[visiting.next], after) <= 0)
			visiting.next++;
		visit_after(&visiting, after);
	}
	else
	{
		ScanBy		by = BY_INT64(posting->account.id);

		visit_range(&visiting, &by, 1);
	}
	visit_known(&visiting, NULL);
}

/* The state of burn_grants */
typedef struct Burn
{
	int64		wanted;			/* amount still to be taken */
	Draw	   *draws;
	int			ndraws;
	int			max_draws;
} Burn;

/*
 * Takes what is wanted from a grant, if it is open.
 */
static void
burn_grant(Burn *burn, Grant *grant)
{
	CHECK_FOR_INTERRUPTS();
	if (grant->status != GRANT_OPEN || burn->wanted == 0)
		return;
	if (burn->ndraws == burn->max_draws)
		burn->draws = repalloc_huge(burn->draws,
									(burn->max_draws *= 2) * sizeof(Draw));
	burn->wanted -= grants_take(grant, burn->wanted,
								&burn->draws[burn->ndraws++]);
}

/*
 * Takes what is wanted from the first grant in burn order, if it is known from
 * an earlier posting of this transaction.
 */
static void
burn_first(Posting *posting, Burn *burn)
{
	Grant	   *grant = palloc(sizeof(Grant));

	if (rows_recall_first_grant(posting->store, posting->snapshot,
								&posting->account, 0, grant))
		burn_grant(burn, grants_add_stored(posting, grant));
	else
		pfree(grant);
}

/*
 * Takes what is wanted in the order of the index, and reads only as many grants
 * as needed.  The first nknown grants of the posting may have changed in memory,
 * or be new.  They are used where they belong in the order by now, which the
 * scan does not know.
 */
static void
burn_by_scan(Posting *posting, Burn *burn, int nknown)
{
	int			i = 0;
	StoreScan	scan;

	begin_burn_scan(&scan, posting);
	while (burn->wanted > 0 && scan_next(&scan, ForwardScanDirection))
	{
		int			n = posting->ngrants;
		Grant	   *grant = grants_read(posting, &scan);

		if (posting->ngrants == n)
			continue;
		while (i < nknown &&
			   burn_compare(posting->grants[i], grant) < 0)
			burn_grant(burn, posting->grants[i++]);
		burn_grant(burn, grant);
	}
	scan_end(&scan);
	while (i < nknown && burn->wanted > 0)
		burn_grant(burn, posting->grants[i++]);
}

/*
 * Takes what is wanted if the posting has not read any grants.
 */
static void
burn_from_start(Posting *posting, Burn *burn)
{
	burn_first(posting, burn);
	if (burn->wanted > 0)
		burn_by_scan(posting, burn, posting->ngrants);
	/* they are in burn order, and those before the last are used up */
	posting->grants_unsorted = false;
	if (posting->ngrants > 0)
		posting->first_grant = posting->grants[posting->ngrants - 1];
}

/*
 * Takes what is wanted from grants that have all been read.
 */
static void
burn_loaded(Posting *posting, Burn *burn)
{
	int			i;

	/* begin with the first that may be open: a batch may burn many times */
	for (i = posting->nburnt; burn->wanted > 0 && i < posting->ngrants; i++)
	{
		posting->nburnt = i;
		burn_grant(burn, posting->grants[i]);
	}
}

/*
 * Takes an amount from the account's grants in burn order.  Returns the draws.
 * The balance must be sufficient.
 */
Draw *
burn_grants(Posting *posting, int64 amount, int *ndraws)
{
	Burn		burn = {.wanted = amount,.max_draws = 4};

	Assert(amount >= 0);
	burn.draws = palloc(burn.max_draws * sizeof(Draw));
	if (posting->grants_unsorted)
		sort_grants(posting);
	if (posting->grants_loaded)
		burn_loaded(posting, &burn);
	else if (posting->ngrants == 0)
		burn_from_start(posting, &burn);
	else
		burn_by_scan(posting, &burn, posting->ngrants);
	if (burn.wanted > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("grants of the account do not cover its balance"),
				 errdetail("Account " INT64_FORMAT ", balance " INT64_FORMAT ", short by " INT64_FORMAT ".",
						   posting->account.id, posting->account.balance,
						   burn.wanted),
				 errhint("Run credits_verify.")));
	*ndraws = burn.ndraws;
	return burn.draws;
}
