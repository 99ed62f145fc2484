/*
 * reserve.c
 *	  Holds in memory: reserving, spending and giving back what is reserved,
 *	  and the clock, for holds and grants together.
 *
 * What a hold reserves is drawn from grants at once, in burn order, so it
 * cannot expire under it.  The draws are those of the hold's own transaction;
 * captures take their slices from them in order, and a release gives back the
 * rest.  A grant whose time has run out meanwhile loses it again at once.
 *
 * A hold that times out is released at that instant, not when someone notices:
 * what it gives back then expires at the instants at which it would have.
 */
#include "credits.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/* columns of credits.hold_states */
enum
{
	Anum_holds_id = 1,
	Anum_holds_account_id,
	Anum_holds_created_at,
	Anum_holds_reserved,
	Anum_holds_expires_at,
	Anum_holds_status,
	Anum_holds_captured,
	Anum_holds_released,
	Natts_holds = Anum_holds_released
};

StoreTable	holds_table = {
	.name = "hold_states",
	.types = (const Oid[]) {
		INT8OID, INT8OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, TEXTOID,
		INT8OID, INT8OID, InvalidOid
	}
};

StoreIndex	holds_by_id = {&holds_table, "hold_states_pkey"};
static StoreIndex holds_by_expires_at = {&holds_table, "hold_states_expires_at_idx"};

const char *const hold_status_names[] =
{"open", "captured", "released", "expired"};

/*
 * Returns what is left of a hold.
 */
int64
reserve_left(const Hold *hold)
{
	return hold->reserved - hold->captured - hold->released;
}

/*
 * Reads a hold from a slot.
 */
static void
read_hold(TupleTableSlot *slot, Hold *hold)
{
	Datum	   *values;
	char	   *status;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */

	hold->tid = slot->tts_tid;
	hold->changed = false;
	hold->entry = NULL;
	hold->id = DatumGetInt64(values[Anum_holds_id]);
	hold->account_id = DatumGetInt64(values[Anum_holds_account_id]);
	hold->created_at = DatumGetTimestampTz(values[Anum_holds_created_at]);
	hold->reserved = DatumGetInt64(values[Anum_holds_reserved]);
	hold->expires_at = DatumGetTimestampTz(values[Anum_holds_expires_at]);
	hold->captured = DatumGetInt64(values[Anum_holds_captured]);
	hold->released = DatumGetInt64(values[Anum_holds_released]);
	status = TextDatumGetCString(values[Anum_holds_status]);
	for (hold->status = HOLD_EXPIRED; hold->status > HOLD_UNKNOWN;
		 hold->status--)
		if (strcmp(hold_status_names[hold->status], status) == 0)
			break;
}

/*
 * Finds a hold by id.
 */
bool
reserve_find(Store *store, Snapshot snapshot, int64 id, Hold *hold)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(id));
	store_scan(&scan, store, &holds_by_id, snapshot, &key, 1);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
		read_hold(slot, hold);
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Writes a hold: inserts a new one, or updates one that has changed.
 */
static void
write_hold(Posting *posting, void *row)
{
	Hold	   *hold = row;
	Datum		columns[Natts_holds];
	bool		nulls[Natts_holds] = {false};
	Datum	   *values = columns - 1;	/* by column number */

	values[Anum_holds_id] = Int64GetDatum(hold->id);
	values[Anum_holds_account_id] = Int64GetDatum(hold->account_id);
	values[Anum_holds_created_at] = TimestampTzGetDatum(hold->created_at);
	values[Anum_holds_reserved] = Int64GetDatum(hold->reserved);
	values[Anum_holds_expires_at] = TimestampTzGetDatum(hold->expires_at);
	values[Anum_holds_status] =
		CStringGetTextDatum(hold_status_names[hold->status]);
	values[Anum_holds_captured] = Int64GetDatum(hold->captured);
	values[Anum_holds_released] = Int64GetDatum(hold->released);

	if (!ItemPointerIsValid(&hold->tid))
		store_insert(posting->store, &holds_table, columns, nulls);
	else if (store_update(posting->store, &holds_table, posting->snapshot,
						  &hold->tid, true, columns, nulls) != TM_Ok)
		/* the account's lock is ours: nobody else can have changed it */
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("Hold " INT64_FORMAT " has changed past its account.",
						   hold->id),
				 errhint("Retry the transaction.")));
}

/*
 * Notes that a hold is to be written.
 */
static void
change(Posting *posting, Hold *hold)
{
	if (!hold->changed)
		log_defer(posting, write_hold, hold);
	hold->changed = true;
}

/*
 * Returns the terms of a transaction that says when a hold times out.
 */
static Jsonb *
expiry_terms(const Hold *hold)
{
	StringInfoData json;

	initStringInfo(&json);
	json_instant(&json, "expires_at", hold->expires_at);
	return json_document(&json);
}

/*
 * Reserves an amount, which the account has.
 */
Hold *
reserve_new(Posting *posting, int64 amount, TimestampTz expires_at,
			Entry **entry)
{
	Hold	   *hold = palloc0(sizeof(Hold));
	int			ndraws;
	Draw	   *draws = grants_burn(posting, amount, &ndraws);

	*entry = log_add_held(posting, KIND_HOLD, posting->now, -amount, amount,
						  draws, ndraws);
	ItemPointerSetInvalid(&hold->tid);
	hold->id = (*entry)->id;
	hold->account_id = posting->account.id;
	hold->created_at = (*entry)->created_at;
	hold->expires_at = expires_at;
	hold->reserved = amount;
	hold->status = HOLD_OPEN;
	hold->entry = *entry;
	(*entry)->terms = expiry_terms(hold);
	posting->holds = lappend(posting->holds, hold);
	change(posting, hold);
	grants_wake(posting, expires_at);
	return hold;
}

/*
 * Returns a hold of the posting's account by id.
 */
Hold *
reserve_get(Posting *posting, int64 id)
{
	ListCell   *lc;
	Hold	   *hold;

	foreach(lc, posting->holds)
	{
		hold = lfirst(lc);
		if (hold->id == id)
			return hold;
	}
	hold = palloc(sizeof(Hold));
	if (!reserve_find(posting->store, posting->snapshot, id, hold) ||
		hold->account_id != posting->account.id ||
		hold->status == HOLD_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("hold " INT64_FORMAT " is missing or damaged", id),
				 errdetail("It is account " INT64_FORMAT "'s by the log.",
						   posting->account.id),
				 errhint("Run credits_verify.")));
	posting->holds = lappend(posting->holds, hold);
	return hold;
}

/*
 * Returns the transaction that made a hold.
 */
static Entry *
entry_of(Posting *posting, Hold *hold)
{
	if (hold->entry == NULL)
	{
		Entry	   *entry = palloc(sizeof(Entry));

		if (!row_find_entry(posting->store, posting->snapshot, hold->id, entry) ||
			entry->account_id != posting->account.id)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the transaction of hold " INT64_FORMAT " is missing",
							hold->id),
					 errhint("Run credits_verify.")));
		hold->entry = entry;
	}
	return hold->entry;
}

/*
 * Returns the next amount of what a hold has drawn, as draws.
 */
Draw *
reserve_take(Posting *posting, Hold *hold, int64 amount, int *ndraws)
{
	Entry	   *entry = entry_of(posting, hold);
	Draw	   *draws = palloc(Max(entry->ndraws, 1) * sizeof(Draw));
	int64		skip = hold->captured + hold->released;
	int			n = 0;
	int			i;
	int			j;

	for (i = 0; i < entry->ndraws && amount > 0; i++)
	{
		int64		drawn = -entry->draws[i].amount;
		int64		skipped = Min(skip, drawn);
		int64		part = Min(amount, drawn - skipped);

		skip -= skipped;
		if (part == 0)
			continue;
		/* a hold that was enlarged may have drawn on a grant twice */
		for (j = 0; j < n; j++)
			if (draws[j].grant_id == entry->draws[i].grant_id)
				break;
		if (j == n)
			draws[n++] = (Draw) {entry->draws[i].grant_id, 0};
		draws[j].amount -= part;
		amount -= part;
	}
	if (amount > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("hold " INT64_FORMAT " has not drawn what it reserves",
						hold->id),
				 errdetail("It is " INT64_FORMAT " short.", amount),
				 errhint("Run credits_verify.")));
	*ndraws = n;
	return draws;
}

/*
 * Takes an amount, of which that much is left, out of a hold for good.  The
 * hold ends when nothing is left.
 */
Entry *
reserve_capture(Posting *posting, Hold *hold, const char *kind, int64 amount)
{
	int			ndraws;
	Draw	   *draws = reserve_take(posting, hold, amount, &ndraws);
	Entry	   *entry = log_add_held(posting, kind, posting->now, 0, -amount,
									 draws, ndraws);

	entry->has_target = true;
	entry->target_id = hold->id;
	entry->member_id = entry_of(posting, hold)->member_id;
	hold->captured += amount;
	if (reserve_left(hold) == 0)
		hold->status = HOLD_CAPTURED;
	change(posting, hold);
	return entry;
}

/*
 * Gives back what is left of a hold, which ends it.  The transaction is about
 * the one that it follows, or else about the hold; what must go again at once
 * follows in turn.
 */
Entry *
reserve_release(Posting *posting, Hold *hold, TimestampTz at,
				HoldStatus status, const Entry *main)
{
	int64		amount = reserve_left(hold);
	int			ndraws;
	Draw	   *draws = reserve_take(posting, hold, amount, &ndraws);
	const char **lost_as = palloc(ndraws * sizeof(char *));
	Entry	   *entry;
	int			i;

	for (i = 0; i < ndraws; i++)
	{
		Grant	   *grant = grants_get(posting, draws[i].grant_id);

		draws[i].amount = -draws[i].amount;
		lost_as[i] = grants_give_back(posting, grant, draws[i].amount,
									  hold->created_at, at, at, NULL);
	}
	hold->released += amount;
	hold->status = status;
	change(posting, hold);
	caps_give_back(posting, entry_of(posting, hold), amount);

	entry = log_add_held(posting, KIND_RELEASE, at, amount, -amount, draws,
						 ndraws);
	entry->has_target = true;
	entry->target_id = main ? main->id : hold->id;
	entry->member_id = entry_of(posting, hold)->member_id;
	for (i = 0; i < ndraws; i++)
		if (lost_as[i])
		{
			Grant	   *grant = grants_get(posting, draws[i].grant_id);

			log_add_loss(posting, lost_as[i], at,
						 grants_draw(grant, -draws[i].amount),
						 main ? main->id : entry->id);
		}
	return entry;
}

/*
 * Adds to a hold, which is about to be captured whole, an amount that the
 * account has.
 */
Entry *
reserve_enlarge(Posting *posting, Hold *hold, int64 amount)
{
	Entry	   *made = entry_of(posting, hold);
	Entry	   *all = palloc(sizeof(Entry));
	Entry	   *entry;
	int			ndraws;
	Draw	   *draws = grants_burn(posting, amount, &ndraws);

	entry = log_add_held(posting, KIND_HOLD, posting->now, -amount, amount,
						 draws, ndraws);
	entry->has_target = true;
	entry->target_id = hold->id;
	entry->member_id = made->member_id;
	hold->reserved += amount;
	change(posting, hold);

	/* for the capture that follows in this posting */
	*all = *made;
	all->ndraws = made->ndraws + ndraws;
	all->draws = palloc(all->ndraws * sizeof(Draw));
	memcpy(all->draws, made->draws, made->ndraws * sizeof(Draw));
	memcpy(all->draws + made->ndraws, draws, ndraws * sizeof(Draw));
	hold->entry = all;
	return entry;
}

/*
 * Changes when a hold times out.
 */
Entry *
reserve_extend(Posting *posting, Hold *hold, TimestampTz expires_at)
{
	Entry	   *entry = log_add(posting, KIND_EXTENSION, posting->now, 0, NULL,
								0);

	hold->expires_at = expires_at;
	change(posting, hold);
	entry->has_target = true;
	entry->target_id = hold->id;
	entry->terms = expiry_terms(hold);
	entry->member_id = entry_of(posting, hold)->member_id;
	grants_wake(posting, expires_at);
	return entry;
}

/*
 * Reads the open holds that have timed out, earliest first, and moves the
 * account's due_at to when the next one will.
 */
static List *
timed_out(Posting *posting)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	List	   *holds = NIL;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(posting->account.id));
	store_scan(&scan, posting->store, &holds_by_expires_at, posting->snapshot,
			   &key, 1);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Hold	   *hold = palloc(sizeof(Hold));

		read_hold(slot, hold);
		if (hold->expires_at > posting->now)
		{
			grants_wake(posting, hold->expires_at);
			break;
		}
		holds = lappend(holds, hold);
	}
	store_scan_end(&scan);
	posting->holds = list_concat(posting->holds, holds);
	return holds;
}

/*
 * Adds the members of pools to whose caps holds give back that have timed out.
 */
List *
reserve_add_members(List *keys, Posting *posting)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	if (posting->now < posting->account.due_at || posting->account.held == 0)
		return keys;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(posting->account.id));
	store_scan(&scan, posting->store, &holds_by_expires_at, posting->snapshot,
			   &key, 1);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Hold		hold;
		Entry		entry;

		read_hold(slot, &hold);
		if (hold.expires_at > posting->now)
			break;
		if (row_find_entry(posting->store, posting->snapshot, hold.id, &entry))
			keys = caps_add_way_of(keys, &entry);
	}
	store_scan_end(&scan);
	return keys;
}

/* Something that the clock does to a grant */
typedef struct Due
{
	TimestampTz at;
	bool		expires;		/* or else becomes effective */
	int			position;		/* in burn order */
	Grant	   *grant;
} Due;

/*
 * Orders what is due by instant, becoming effective before expiring.
 */
static int
compare_due(const void *a, const void *b)
{
	const Due  *x = a;
	const Due  *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	if (x->expires != y->expires)
		return x->expires ? 1 : -1;
	return x->position - y->position;
}

/*
 * Brings the grants up to date with an instant.  What happened is logged at
 * the instants at which it did: no transaction can have come in between, since
 * it would have settled first.
 */
static void
settle_grants(Posting *posting, TimestampTz until)
{
	Due		   *dues;
	int			ndues = 0;
	int			i;

	grants_load(posting);
	posting->nburnt = 0;
	dues = palloc((2 * posting->ngrants + 1) * sizeof(Due));
	for (i = 0; i < posting->ngrants; i++)
	{
		Grant	   *grant = posting->grants[i];
		bool		effective = grant->status == GRANT_OPEN;

		if (grant->status == GRANT_PENDING && grant->effective_at <= until)
		{
			dues[ndues++] = (Due) {grant->effective_at, false, i, grant};
			effective = true;
		}
		if (effective && grant->expires_at <= until)
			dues[ndues++] = (Due) {grant->expires_at, true, i, grant};
	}
	qsort(dues, ndues, sizeof(Due), compare_due);

	for (i = 0; i < ndues; i++)
	{
		Grant	   *grant = dues[i].grant;
		int64		amount = grant->remaining;

		grant->changed = true;
		if (dues[i].expires)
		{
			grant->status = GRANT_EXPIRED;
			grant->remaining = 0;
			log_add(posting, KIND_EXPIRATION, dues[i].at, -amount,
					grants_draw(grant, -amount), 1);
		}
		else
		{
			grant->status = GRANT_OPEN;
			/* the allocation drew on it already */
			log_add(posting, KIND_ACTIVATION, dues[i].at, amount,
					grants_draw(grant, 0), 1);
			if (posting->account.debt > 0)
				debts_pay(posting, dues[i].at);
		}
	}
}

/*
 * Brings an account up to date with the clock, if there is anything to do.
 */
void
reserve_settle(Posting *posting)
{
	List	   *holds = NIL;
	ListCell   *lc;

	if (posting->now < posting->account.due_at)
		return;

	posting->account.due_at = DT_NOEND;
	if (posting->account.held > 0)
		holds = timed_out(posting);
	foreach(lc, holds)
	{
		Hold	   *hold = lfirst(lc);

		settle_grants(posting, hold->expires_at);
		reserve_release(posting, hold, hold->expires_at, HOLD_EXPIRED, NULL);
		if (posting->account.debt > 0)
			debts_pay(posting, hold->expires_at);
	}
	settle_grants(posting, posting->now);
	grants_due(posting);
	if (holds != NIL)
		grants_sort(posting);
}
