/*
 * grants.c
 *	  Grants in memory: burning, giving back, and the clock.
 *
 * Everything here works on a posting's copies; the ledger writes those that
 * changed.  Grants burn by priority (lower first), then earliest expiry
 * (never-expiring last), then earliest effective, then id: the order of index
 * grants_burn_order_idx, in which used-up grants have no entry.
 */
#include "credits.h"

#include "access/skey.h"
#include "access/stratnum.h"
#include "common/int.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"

/*
 * Where credits come from, and which burn first: what is free or perishable
 * before what was paid for.
 */
static const struct
{
	const char *name;
	int32		priority;
}			sources[] =
{
	{"gift", 10},
	{"promotional", 10},
	{"referral", 10},
	{"trial", 10},
	{"subscription", 30},
	{"adjustment", 50},
	{"manual", 50},
	{"signup", 50},
	{"purchase", 70}
};

/*
 * Refuses a source that is not known, and finds its default priority.
 */
bool
grants_known_source(Refusal *refusal, text *source, int32 *priority)
{
	StringInfoData known;
	int			i;

	for (i = 0; i < (int) lengthof(sources); i++)
		if (strlen(sources[i].name) == VARSIZE_ANY_EXHDR(source) &&
			memcmp(sources[i].name, VARDATA_ANY(source),
				   VARSIZE_ANY_EXHDR(source)) == 0)
		{
			*priority = sources[i].priority;
			return true;
		}

	initStringInfo(&known);
	for (i = 0; i < (int) lengthof(sources); i++)
		appendStringInfo(&known, "%s%s", i ? ", " : "", sources[i].name);
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  "unknown source of a grant",
				  psprintf("It is \"%s\".", text_to_cstring(source)),
				  psprintf("Use one of %s.", known.data));
}

/*
 * Returns the default priority of a source, which must be known.
 */
int32
grants_default_priority(text *source)
{
	Refusal		refusal;
	int32		priority;

	if (!grants_known_source(&refusal, source, &priority))
		raise_refusal(&refusal);
	return priority;
}

/*
 * Adds a grant to those of a posting.
 */
static Grant *
add(Posting *posting, Grant *grant)
{
	if (posting->ngrants == posting->max_grants)
	{
		posting->max_grants = posting->max_grants ? 2 * posting->max_grants : 4;
		if (posting->grants)
			posting->grants = repalloc(posting->grants,
									   posting->max_grants * sizeof(Grant *));
		else
			posting->grants = palloc(posting->max_grants * sizeof(Grant *));
	}
	return posting->grants[posting->ngrants++] = grant;
}

/*
 * Moves the instant at which the clock next changes something on the account
 * forward to this one.
 */
void
grants_wake(Posting *posting, TimestampTz at)
{
	posting->account.due_at = Min(posting->account.due_at, at);
}

/*
 * Makes a new grant.  It burns after those in memory: nothing burns in the
 * posting that makes it.
 */
Grant *
grants_new(Posting *posting, int64 amount, text *source,
		   TimestampTz effective_at, TimestampTz expires_at)
{
	Grant	   *grant = palloc0(sizeof(Grant));
	int64		granted;

	/*
	 * What is granted bounds every balance to come, so grants that are not
	 * effective yet count too.
	 */
	if (pg_add_s64_overflow(posting->account.granted, amount, &granted))
		raise_overflow(posting, amount);
	posting->account.granted = granted;

	ItemPointerSetInvalid(&grant->tid);
	grant->changed = true;
	if (!posting->dry)
		grant->id = store_next_id(&grants_table);
	grant->account_id = posting->account.id;
	grant->effective_at = effective_at;
	grant->expires_at = expires_at;
	grant->granted_until = DT_NOBEGIN;
	grant->amount = amount;
	grant->remaining = amount;
	grant->source = source;
	grant->priority = grants_default_priority(source);
	grant->status = effective_at > posting->now ? GRANT_PENDING : GRANT_OPEN;
	grants_wake(posting, grant->status == GRANT_PENDING ? effective_at : expires_at);
	return add(posting, grant);
}

/*
 * Returns a grant of the posting's account by id.
 */
Grant *
grants_get(Posting *posting, int64 id)
{
	Grant	   *grant;
	int			i;

	for (i = 0; i < posting->ngrants; i++)
		if (posting->grants[i]->id == id)
			return posting->grants[i];

	grant = palloc(sizeof(Grant));
	if (!row_find_grant(posting->store, posting->snapshot, id, grant) ||
		grant->account_id != posting->account.id)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("a grant of the account is missing"),
				 errdetail("Grant " INT64_FORMAT " of account " INT64_FORMAT " is drawn on in the log.",
						   id, posting->account.id),
				 errhint("Run credits_verify.")));
	if (grant->status == GRANT_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("grant " INT64_FORMAT " has an unknown status", id),
				 errdetail("It belongs to account " INT64_FORMAT ".",
						   posting->account.id),
				 errhint("Run credits_verify.")));
	return add(posting, grant);
}

/*
 * Begins a scan of the account's grants that are open or pending, in burn
 * order.
 */
static void
begin_scan(StoreScan *scan, Posting *posting)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(posting->account.id));
	store_scan(scan, posting->store, &grants_in_burn_order,
			   posting->snapshot, &key, 1);
}

/*
 * Takes up to an amount from a grant, and notes the draw.  Returns what was
 * taken.
 */
int64
grants_take(Grant *grant, int64 amount, Draw *draw)
{
	int64		taken = Min(amount, grant->remaining);

	grant->remaining -= taken;
	if (grant->remaining == 0)
		grant->status = GRANT_USED;
	grant->changed = true;
	draw->grant_id = grant->id;
	draw->amount = -taken;
	return taken;
}

/*
 * Burns an amount, which the account has, from its grants in burn order.
 * Returns the draws.
 */
Draw *
grants_burn(Posting *posting, int64 amount, int *ndraws)
{
	int			max = 4;
	Draw	   *draws = palloc(max * sizeof(Draw));
	int			n = 0;
	int			i;
	StoreScan	scan;
	bool		scanning = !posting->grants_loaded;

	if (scanning)
		begin_scan(&scan, posting);
	/* what one spend of many has used up is not looked at again by the next */
	for (i = scanning ? 0 : posting->nburnt; amount > 0; i++)
	{
		Grant	   *grant;

		if (scanning)
		{
			TupleTableSlot *slot = store_scan_next(&scan, ForwardScanDirection);

			if (slot == NULL)
				break;
			grant = palloc(sizeof(Grant));
			row_read_grant(slot, grant);
			if (grant->status != GRANT_OPEN)
				continue;
			add(posting, grant);
		}
		else
		{
			if (i == posting->ngrants)
				break;
			grant = posting->grants[i];
			posting->nburnt = i;
			if (grant->status != GRANT_OPEN)
				continue;
		}
		if (n == max)
			draws = repalloc(draws, (max *= 2) * sizeof(Draw));
		amount -= grants_take(grant, amount, &draws[n++]);
	}
	if (scanning)
		store_scan_end(&scan);
	if (amount > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("grants of the account do not cover its balance"),
				 errdetail("Account " INT64_FORMAT ", balance " INT64_FORMAT ", short by " INT64_FORMAT ".",
						   posting->account.id, posting->account.balance,
						   amount),
				 errhint("Run credits_verify.")));
	*ndraws = n;
	return draws;
}

/*
 * Appends the terms that a grant was given on, by its id: what the log must
 * know so that nobody can change them unnoticed.
 */
void
grants_add_terms(StringInfo json, const Grant *grant)
{
	StringInfoData terms;

	initStringInfo(&terms);
	json_text(&terms, "source", grant->source);
	json_int64(&terms, "amount", grant->amount);
	json_int64(&terms, "priority", grant->priority);
	json_instant(&terms, "effective_at", grant->effective_at);
	json_instant(&terms, "expires_at", grant->granted_until == DT_NOBEGIN ?
				 grant->expires_at : grant->granted_until);
	if (grant->price)
	{
		json_cstring(&terms, "price",
					 DatumGetCString(DirectFunctionCall1(numeric_out,
														 grant->price)));
		json_text(&terms, "currency", grant->currency);
	}
	json_by_id(json, grant->id, &terms);
}

/*
 * Returns the terms of a transaction that makes one grant.
 */
Jsonb *
grants_terms(const Grant *grant)
{
	StringInfoData json;

	initStringInfo(&json);
	grants_add_terms(&json, grant);
	return json_document(&json);
}

/*
 * Appends the new expiry of a grant that is prolonged, by its id.
 */
void
grants_prolonged(StringInfo json, const Grant *grant)
{
	StringInfoData expiry;

	initStringInfo(&expiry);
	json_instant(&expiry, "expires_at", grant->expires_at);
	json_by_id(json, grant->id, &expiry);
}

/*
 * Returns a draw on one grant.
 */
Draw *
grants_draw(Grant *grant, int64 amount)
{
	Draw	   *draw = palloc(sizeof(Draw));

	draw->grant_id = grant->id;
	draw->amount = amount;
	return draw;
}

/*
 * Gives an amount back to a grant at an instant.  A grant whose time has run
 * out lives on until another instant, if that is later, and is noted among
 * those prolonged.  That others were prolonged does not save credits drawn
 * before: they expire as they would have.  Returns the kind of transaction
 * that must take the amount away again at once, or NULL.
 */
const char *
grants_give_back(Posting *posting, Grant *grant, int64 amount,
				 TimestampTz drawn, TimestampTz at, TimestampTz until,
				 StringInfo prolonged)
{
	posting->nburnt = 0;
	if (grant->granted_until != DT_NOBEGIN && drawn < grant->granted_until &&
		until <= at && grant->status != GRANT_VOIDED)
	{
		if (grant->status == GRANT_USED)
		{
			grant->status = GRANT_EXPIRED;
			grant->changed = true;
		}
		return KIND_EXPIRATION;
	}
	switch (grant->status)
	{
		case GRANT_PENDING:
		case GRANT_OPEN:
			grant->remaining += amount;
			grant->changed = true;
			return NULL;
		case GRANT_VOIDED:
			return KIND_VOID;
		case GRANT_USED:
		case GRANT_EXPIRED:
		case GRANT_UNKNOWN:		/* grants_get has refused it */
			break;
	}
	if (grant->expires_at <= at)
	{
		if (until <= at)
		{
			grant->status = GRANT_EXPIRED;
			grant->changed = true;
			return KIND_EXPIRATION;
		}
		if (grant->granted_until == DT_NOBEGIN)
			grant->granted_until = grant->expires_at;
		grant->expires_at = until;
		grants_prolonged(prolonged, grant);
	}
	grant->remaining += amount;
	grant->status = GRANT_OPEN;
	grant->changed = true;
	grants_wake(posting, grant->expires_at);
	return NULL;
}

/*
 * Reads all grants that are open or pending, in burn order, unless they have
 * been read.
 */
void
grants_load(Posting *posting)
{
	StoreScan	scan;
	TupleTableSlot *slot;

	if (posting->grants_loaded)
		return;
	/* what was read before would be there twice */
	Assert(posting->ngrants == 0);
	begin_scan(&scan, posting);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Grant	   *grant = palloc(sizeof(Grant));

		row_read_grant(slot, grant);
		add(posting, grant);
	}
	store_scan_end(&scan);
	posting->grants_loaded = true;
}

/*
 * Compares two grants by burn order.
 */
static int
compare_burn_order(const void *a, const void *b)
{
	const Grant *x = *(Grant *const *) a;
	const Grant *y = *(Grant *const *) b;

	if (x->priority != y->priority)
		return x->priority < y->priority ? -1 : 1;
	if (x->expires_at != y->expires_at)
		return x->expires_at < y->expires_at ? -1 : 1;
	if (x->effective_at != y->effective_at)
		return x->effective_at < y->effective_at ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

/*
 * Puts the grants back into burn order, after some that were used up have come
 * to life again.
 */
void
grants_sort(Posting *posting)
{
	qsort(posting->grants, posting->ngrants, sizeof(Grant *),
		  compare_burn_order);
	posting->nburnt = 0;
}

/*
 * Moves the account's due_at forward to when the clock next changes one of its
 * grants.
 */
void
grants_due(Posting *posting)
{
	int			i;

	for (i = 0; i < posting->ngrants; i++)
	{
		Grant	   *grant = posting->grants[i];

		if (grant->status == GRANT_PENDING)
			grants_wake(posting, grant->effective_at);
		else if (grant->status == GRANT_OPEN)
			grants_wake(posting, grant->expires_at);
	}
}

/*
 * Returns when a grant next expires, DT_NOEND if none does, and how much is
 * left of those that do so then.
 */
TimestampTz
grants_next_expiry(Posting *posting, int64 *amount)
{
	TimestampTz next = DT_NOEND;
	int			i;

	grants_load(posting);
	*amount = 0;
	for (i = 0; i < posting->ngrants; i++)
	{
		Grant	   *grant = posting->grants[i];

		if (grant->status != GRANT_OPEN || grant->expires_at > next)
			continue;
		if (grant->expires_at < next)
			*amount = 0;
		next = grant->expires_at;
		*amount += grant->remaining;
	}
	return next;
}
