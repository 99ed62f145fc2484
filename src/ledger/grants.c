/*
 * grants.c
 *	  Grants of a posting: making and finding them, drawing from them, and
 *	  giving credits back.
 *
 * All functions work on copies in memory, and the posting writes those that
 * have changed.  A posting has only one copy of each grant, however often the
 * table is read: if there were two, the same credits could be drawn twice.
 *
 * burn.c has the order in which grants burn.  Grants that expire are found with
 * the index of that order, because the grants of one priority are in order of
 * expiry there: it takes one search per priority.
 */
#include "credits.h"

#include "ledger/alerts.h"
#include "ledger/grants.h"
#include "ledger/log.h"

#include "common/hashfn.h"
#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* a posting with more grants than this has a hash table of them */
#define FEW_GRANTS 32

typedef struct GrantOfId
{
	int64		id;
	char		status;			/* used by simplehash */
	Grant	   *grant;
} GrantOfId;

#define SH_PREFIX grants_by
#define SH_ELEMENT_TYPE GrantOfId
#define SH_KEY_TYPE int64
#define SH_KEY id
#define SH_HASH_KEY(tb, key) murmurhash32((uint32) (key) ^ (uint32) ((key) >> 32))
#define SH_EQUAL(tb, a, b) ((a) == (b))
#define SH_SCOPE static inline
#define SH_DEFINE
#define SH_DECLARE
#include "lib/simplehash.h"

/*
 * The sources of grants and their default priorities: credits that were free or
 * expire burn before those that were paid for.
 */
#define SOURCES(SOURCE) \
	SOURCE("gift", 10) \
	SOURCE("promotional", 10) \
	SOURCE("referral", 10) \
	SOURCE("trial", 10) \
	SOURCE("subscription", 30) \
	SOURCE("adjustment", 50) \
	SOURCE("manual", 50) \
	SOURCE("signup", 50) \
	SOURCE("purchase", 70)

#define SOURCE_NAME(name, priority) name,
#define SOURCE_PRIORITY(name, priority) priority,

static const char *const source_names[] = {SOURCES(SOURCE_NAME)};
static const int32 source_priorities[] = {SOURCES(SOURCE_PRIORITY)};

/*
 * Refuses an unknown source, or returns its default priority.
 */
bool
grants_known_source(Refusal *refusal, text *source, int32 *priority)
{
	char	   *name = text_to_cstring(source);
	int			i = NAME_FIND(source_names, name);

	if (i < 0)
		return refuse_choice(refusal, name, "source", source_names,
							 lengthof(source_names));
	*priority = source_priorities[i];
	return true;
}

/*
 * Returns the default priority of a source, which must be known.
 */
int32
grants_default_priority(text *source)
{
	Refusal		refusal;
	int32		priority = 0;

	if (!grants_known_source(&refusal, source, &priority))
		raise_refusal(&refusal);
	return priority;
}

/*
 * Adds a grant to the hash table.
 */
static void
index_grant(Posting *posting, Grant *grant)
{
	bool		found;

	grants_by_insert(posting->grants_by_id, grant->id, &found)->grant = grant;
	Assert(!found);
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
			posting->grants = repalloc_huge(posting->grants,
											posting->max_grants * sizeof(Grant *));
		else
			posting->grants = palloc(posting->max_grants * sizeof(Grant *));
	}
	posting->grants[posting->ngrants++] = grant;
	/* a function that has read the grants in burn order resets this */
	posting->grants_unsorted = true;
	if (posting->grants_by_id)
		index_grant(posting, grant);
	else if (posting->ngrants > FEW_GRANTS)
	{
		int			i;

		posting->grants_by_id = grants_by_create(CurrentMemoryContext,
												 4 * FEW_GRANTS, NULL);
		for (i = 0; i < posting->ngrants; i++)
			index_grant(posting, posting->grants[i]);
	}
	return grant;
}

/*
 * Adds a grant that was read from the table, and remembers its state.
 */
Grant *
grants_add_stored(Posting *posting, Grant *grant)
{
	grant->stored = grant->remaining;
	grant->was_open = grant->status == GRANT_OPEN;
	grant->debt_known = false;
	grant->debt = NULL;
	return add(posting, grant);
}

/*
 * Returns a grant that the posting has read or made, or NULL if it has not.
 */
Grant *
grants_find_known(Posting *posting, int64 id)
{
	GrantOfId  *element;
	int			i;

	if (posting->grants_by_id)
	{
		element = grants_by_lookup(posting->grants_by_id, id);
		return element ? element->grant : NULL;
	}
	for (i = 0; i < posting->ngrants; i++)
		if (posting->grants[i]->id == id)
			return posting->grants[i];
	return NULL;
}

/*
 * Reads the current row of a scan.  Returns the posting's copy of the grant,
 * which may have been read or changed before.
 */
Grant *
grants_read(Posting *posting, StoreScan *scan)
{
	Grant	   *grant = palloc(sizeof(Grant));
	Grant	   *known;

	scan_copy(scan, grant);
	if (posting->ngrants > 0 &&
		(known = grants_find_known(posting, grant->id)) != NULL)
	{
		pfree(grant);
		return known;
	}
	return grants_add_stored(posting, grant);
}

/*
 * Makes the account due at the given time, unless it is due earlier.
 */
void
grants_wake(Posting *posting, TimestampTz at)
{
	posting->account.due_at = Min(posting->account.due_at, at);
}

/*
 * Adds a new grant.  The caller must set its transaction_id when the entry
 * that gives it is known.
 */
Grant *
grants_new(Posting *posting, int64 amount, text *source,
		   TimestampTz effective_at, TimestampTz expires_at)
{
	Grant	   *grant = palloc0(sizeof(Grant));
	int64		granted;

	/*
	 * The sum of all grants is an upper bound of the balance at any time, so
	 * this includes grants that are not yet effective.
	 */
	if (pg_add_s64_overflow(posting->account.granted, amount, &granted))
		log_raise_overflow(posting, amount);
	posting->account.granted = granted;

	/* the new grant may burn before it */
	posting->first_grant = NULL;
	ItemPointerSetInvalid(&grant->tid);
	grant->changed = true;
	grant->id = posting->dry ? FIRST_DRY_ID + posting->ngrants :
		store_next_id(&grants_table);
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
	if (grant->status == GRANT_OPEN)
		alerts_note_grant(posting, grant);
	return add(posting, grant);
}

/*
 * Returns a grant of the posting's account by id, and reads it if necessary.
 */
Grant *
grants_get(Posting *posting, int64 id)
{
	Grant	   *grant = grants_find_known(posting, id);

	/* called in loops over draws, of which there may be many */
	CHECK_FOR_INTERRUPTS();
	if (grant)
		return grant;
	grant = palloc(sizeof(Grant));
	if (rows_recall_first_grant(posting->store, posting->snapshot,
								&posting->account, id, grant))
	{
		/* that is known of the grants as they are stored */
		if (posting->ngrants == 0)
			posting->first_grant = grant;
		return grants_add_stored(posting, grant);
	}
	if (!rows_find_grant(posting->store, posting->snapshot, id, grant) ||
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
	return grants_add_stored(posting, grant);
}

/*
 * Takes an amount from a grant, or what remains of it if that is less, and
 * fills in the draw.  Returns the amount taken.
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
 * Reads up to max grants that are due to become effective, in order of time and
 * then burn order.  Returns when the next one becomes effective.
 */
TimestampTz
grants_read_effective(Posting *posting, int max, GrantDue due, void *arg)
{
	TimestampTz next = DT_NOEND;
	StoreScan	scan;
	Grant		peeked;

	scan_begin(&scan, posting->store, &grants_by_effective_at,
			   posting->snapshot, BY_INT64(posting->account.id));
	while (scan_peek(&scan, ForwardScanDirection, &peeked))
	{
		if (peeked.effective_at > posting->now || max-- <= 0)
		{
			next = peeked.effective_at;
			break;
		}
		due(posting, &scan, &peeked, arg);
	}
	scan_end(&scan);
	return next;
}

/*
 * Begins a scan in burn order of the grants with a number of priority above the
 * given one, or of all if that is NULL.
 */
static void
begin_scan_above(StoreScan *scan, Posting *posting, const int32 *priority)
{
	ScanBy		by[2] = {BY_INT64(posting->account.id)};

	if (priority)
		by[1] = BY_INT32_ABOVE(*priority);
	scan_begin_by(scan, posting->store, &grants_in_burn_order,
				  posting->snapshot, by, priority ? 2 : 1);
}

/*
 * Reads up to max open grants of each priority that are due to expire, in order
 * of time and then burn order.  Returns when the next one expires.
 */
TimestampTz
grants_read_expiring(Posting *posting, int max, GrantDue due, void *arg)
{
	TimestampTz next = DT_NOEND;
	int32		priority = 0;
	bool		passed = false;

	do
	{
		StoreScan	scan;
		Grant		peeked;
		int			n = 0;

		begin_scan_above(&scan, posting, passed ? &priority : NULL);
		passed = false;
		while (!passed && scan_peek(&scan, ForwardScanDirection, &peeked))
		{
			if (peeked.priority != priority)
				n = 0;
			priority = peeked.priority;
			passed = peeked.expires_at > posting->now || n == max;
			if (passed)
				next = Min(next, peeked.expires_at);
			else if (peeked.status == GRANT_OPEN)
			{
				due(posting, &scan, &peeked, arg);
				n++;
			}
		}
		scan_end(&scan);
	} while (passed);
	return next;
}

/*
 * Adds a grant to those that expire next, unless it expires later.  Its status
 * may be as it was before the account was settled.
 */
static void
count_expiry(const Posting *posting, const Grant *grant, TimestampTz *next,
			 int64 *amount)
{
	bool		open = grant->status == GRANT_OPEN ||
		(grant->status == GRANT_PENDING &&
		 grant->effective_at <= posting->now);

	if (!open || grant->expires_at <= posting->now ||
		grant->expires_at == DT_NOEND || grant->expires_at > *next)
		return;
	if (grant->expires_at < *next)
		*amount = 0;
	*next = grant->expires_at;
	*amount += grant->remaining;
}

/*
 * Returns when the next grants expire, DT_NOEND if none does, and how much
 * remains of them.  The account must have been settled.
 */
TimestampTz
grants_next_expiry(Posting *posting, int64 *amount)
{
	TimestampTz next = DT_NOEND;
	int32		priority = 0;
	bool		passed = false;
	int			i;

	*amount = 0;
	for (i = 0; i < posting->ngrants; i++)
		count_expiry(posting, posting->grants[i], &next, amount);
	do
	{
		StoreScan	scan;
		Grant		peeked;

		begin_scan_above(&scan, posting, passed ? &priority : NULL);
		passed = false;
		while (!passed && scan_peek(&scan, ForwardScanDirection, &peeked))
		{
			priority = peeked.priority;
			passed = peeked.expires_at > next || peeked.expires_at == DT_NOEND;
			if (!passed && !grants_find_known(posting, peeked.id))
				count_expiry(posting, &peeked, &next, amount);
		}
		scan_end(&scan);
	} while (passed);
	return next;
}

/*
 * Adds the terms on which a grant is given to the terms of a transaction,
 * under its id.  They are in the log so that changing them in the table would
 * be noticed.
 */
void
grants_add_terms(JsonObject *json, const Grant *grant)
{
	JsonObject	terms;

	json_begin(&terms);
	json_text(&terms, "source", grant->source);
	json_int64(&terms, "amount", grant->amount);
	json_int64(&terms, "priority", grant->priority);
	json_instant(&terms, "effective_at", grant->effective_at);
	json_instant(&terms, "expires_at", grants_lasts_until(grant));
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
 * Returns the terms of a transaction that gives one grant.
 */
Jsonb *
grants_terms(const Grant *grant)
{
	JsonObject	json;

	json_begin(&json);
	grants_add_terms(&json, grant);
	return json_document(&json);
}

/*
 * Adds the new expiry of a prolonged grant to the terms of a transaction,
 * under its id.
 */
void
grants_prolonged(JsonObject *json, const Grant *grant)
{
	JsonObject	expiry;

	json_begin(&expiry);
	json_instant(&expiry, "expires_at", grant->expires_at);
	json_by_id(json, grant->id, &expiry);
}

/*
 * Returns when a grant expires, or was to before it was prolonged; DT_NOEND if
 * never.
 */
TimestampTz
grants_lasts_until(const Grant *grant)
{
	return grant->granted_until == DT_NOBEGIN ? grant->expires_at :
		grant->granted_until;
}

/*
 * Returns a draw of one grant, palloc'd.
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
 * Adds an amount to what a grant has lost: by expiry, by being voided or by a
 * change of plan.  Returns the draw.  The caller changes "remaining".
 */
Draw *
grants_lose(Grant *grant, int64 amount)
{
	grant->lost += amount;
	if (amount > 0)
		grant->lost_claimed = false;
	grant->changed = true;
	return grants_draw(grant, -amount);
}

/*
 * Gives an amount back to a grant at the time "at".  "drawn" is when it was
 * taken from the grant.
 *
 * A grant that has expired is prolonged to "until" if that is later than "at",
 * and the new expiry is added to "prolonged", which is not used otherwise and
 * may then be NULL.
 *
 * Returns KIND_NONE, or the kind of the transaction by which the caller must
 * take the amount away again immediately, see log_add_loss: the grant has
 * expired and is not prolonged, or it was voided.
 */
TransactionKind
grants_give_back(Posting *posting, Grant *grant, int64 amount,
				 TimestampTz drawn, TimestampTz at, TimestampTz until,
				 JsonObject *prolonged)
{
	posting->nburnt = 0;
	/* another grant may be the first one now, or this one may move */
	if (grant != posting->first_grant || grant->status != GRANT_OPEN)
		posting->first_grant = NULL;

	/*
	 * The grant was prolonged because of other credits.  If these are not to
	 * be prolonged, they expire at the original expiry, which has passed.
	 */
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
			return KIND_NONE;
		case GRANT_VOIDED:
			return KIND_VOID;
		case GRANT_USED:
		case GRANT_EXPIRED:
		case GRANT_UNKNOWN:		/* cannot happen, see grants_get */
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
	return KIND_NONE;
}
