/*
 * caps.c
 *	  What may be spent, and held: limits of an account, and the caps under
 *	  which members spend from a pool.
 *
 * Both count by window: what has been spent since a day, a week or a month
 * began, in some time zone.  The count is of a spend's window, so a refund
 * gives back to it only while that window lasts.
 *
 * A row of limits is protected by its account's lock.  A member's row can be
 * reached from any pool above it, so it is locked itself, after all accounts.
 * A call locks all that it needs in order of pool and account, so two calls
 * cannot wait for each other.  What it has locked is kept with the first of its
 * postings: settling and the plan, and all accounts of a joint change, work on
 * one copy of a row, which is written once.
 */
#include "credits.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

StoreTable	members_table = {
	.name = "members",
	.types = (const Oid[]) {
		INT8OID, INT8OID, INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID,
		TIMESTAMPTZOID, INT8OID, INT8OID, InvalidOid
	}
};

static StoreIndex members_by_pool = {&members_table, "members_pkey"};
static StoreIndex members_by_account = {&members_table, "members_account_id_idx"};

StoreTable	limits_table = {
	.name = "limits",
	.types = (const Oid[]) {
		INT8OID, INT8OID, TEXTOID, INT8OID, INT8OID, INT8OID, INT8OID,
		TEXTOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, InvalidOid
	}
};

static StoreIndex limits_by_account = {&limits_table, "limits_pkey"};

/*
 * Tells whether a text is one of the windows that can be counted by.
 */
bool
caps_is_window(const char *per)
{
	return strcmp(per, "day") == 0 || strcmp(per, "week") == 0 ||
		strcmp(per, "month") == 0 || strcmp(per, "lifetime") == 0;
}

/*
 * Returns what a clock on the wall shows at an instant.
 */
static Timestamp
local_time(text *timezone, TimestampTz at)
{
	return DatumGetTimestamp(DirectFunctionCall2(timestamptz_zone,
												 PointerGetDatum(timezone),
												 TimestampTzGetDatum(at)));
}

/*
 * Returns when the window began that an instant is in.  Where clocks are put
 * back over midnight the day begins at the first of the two, and does not begin
 * again at the other.
 */
TimestampTz
caps_window_start(const char *per, text *timezone, TimestampTz at)
{
	TimestampTz start;

	if (strcmp(per, "lifetime") == 0)
		return DT_NOBEGIN;
	/* a balance can be asked for at the end of time */
	at = Min(at, END_TIMESTAMP - 366 * USECS_PER_DAY);
	start = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_trunc_zone,
													CStringGetTextDatum(per),
													TimestampTzGetDatum(at),
													PointerGetDatum(timezone)));
	if (local_time(timezone, start - USECS_PER_HOUR) ==
		local_time(timezone, start))
		start -= USECS_PER_HOUR;
	return start;
}

/*
 * Begins a new window if the clock has come to one.
 */
static void
roll(TimestampTz *start, int64 *used, const char *per, text *timezone,
	 TimestampTz now)
{
	TimestampTz begun = caps_window_start(per, timezone, now);

	if (begun > *start)
	{
		*start = begun;
		*used = 0;
	}
}

/*
 * Adds to what has been used, which may be as much as fits.
 */
static int64
count(int64 used, int64 amount)
{
	return amount > PG_INT64_MAX - used ? PG_INT64_MAX : used + amount;
}

/*
 * Tells whether a setting limits what is spent.
 */
static bool
any_spend_setting(void)
{
	return setting_min_spend > 0 || setting_max_spend > 0 ||
		setting_max_spend_per_day > 0 || setting_max_spend_per_month > 0;
}

/* ------------------------------------------------------------------------
 * limits of an account
 */

/*
 * Reads the limits of an account, none if it has no row.
 */
static void
read_limits(Store *store, Snapshot snapshot, int64 account_id, Limits *limits)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	memset(limits, 0, sizeof(Limits));
	ItemPointerSetInvalid(&limits->tid);
	limits->account_id = account_id;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	store_scan(&scan, store, &limits_by_account, snapshot, &key, 1);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
	{
		Datum	   *values;
		bool	   *isnull;

		slot_getallattrs(slot);
		values = slot->tts_values - 1;	/* by column number */
		isnull = slot->tts_isnull - 1;
		limits->tid = slot->tts_tid;
#define NUMBER(a) (isnull[a] ? NO_LIMIT : DatumGetInt64(values[a]))
		limits->max_balance = NUMBER(Anum_limits_max_balance);
		limits->clip = !isnull[Anum_limits_excess] &&
			strcmp(TextDatumGetCString(values[Anum_limits_excess]),
				   "clip") == 0;
		limits->has_excess = !isnull[Anum_limits_excess];
		limits->min_spend = NUMBER(Anum_limits_min_spend);
		limits->max_spend = NUMBER(Anum_limits_max_spend);
		limits->day_limit = NUMBER(Anum_limits_day_limit);
		limits->month_limit = NUMBER(Anum_limits_month_limit);
#undef NUMBER
		limits->timezone = DatumGetTextPCopy(values[Anum_limits_timezone]);
		limits->day_start =
			DatumGetTimestampTz(values[Anum_limits_day_start]);
		limits->day_used = DatumGetInt64(values[Anum_limits_day_used]);
		limits->month_start =
			DatumGetTimestampTz(values[Anum_limits_month_start]);
		limits->month_used = DatumGetInt64(values[Anum_limits_month_used]);
	}
	else
	{
		limits->max_balance = NO_LIMIT;
		limits->min_spend = NO_LIMIT;
		limits->max_spend = NO_LIMIT;
		limits->day_limit = NO_LIMIT;
		limits->month_limit = NO_LIMIT;
		limits->timezone = cstring_to_text("UTC");
		limits->day_start = DT_NOBEGIN;
		limits->month_start = DT_NOBEGIN;
	}
	store_scan_end(&scan);
}

/*
 * Writes the limits of an account.
 */
static void
write_limits(Posting *posting, void *row)
{
	Limits	   *limits = row;
	Datum		columns[Natts_limits];
	bool		nulls[Natts_limits] = {false};
	Datum	   *values = columns - 1;	/* by column number */
	bool	   *isnull = nulls - 1;

	values[Anum_limits_account_id] = Int64GetDatum(limits->account_id);
#define NUMBER(a, field) \
	(values[a] = Int64GetDatum(limits->field), \
	 isnull[a] = limits->field == NO_LIMIT)
	NUMBER(Anum_limits_max_balance, max_balance);
	values[Anum_limits_excess] =
		CStringGetTextDatum(limits->clip ? "clip" : "refuse");
	isnull[Anum_limits_excess] = !limits->has_excess;
	NUMBER(Anum_limits_min_spend, min_spend);
	NUMBER(Anum_limits_max_spend, max_spend);
	NUMBER(Anum_limits_day_limit, day_limit);
	NUMBER(Anum_limits_month_limit, month_limit);
#undef NUMBER
	values[Anum_limits_timezone] = PointerGetDatum(limits->timezone);
	values[Anum_limits_day_start] = TimestampTzGetDatum(limits->day_start);
	values[Anum_limits_day_used] = Int64GetDatum(limits->day_used);
	values[Anum_limits_month_start] = TimestampTzGetDatum(limits->month_start);
	values[Anum_limits_month_used] = Int64GetDatum(limits->month_used);

	if (!ItemPointerIsValid(&limits->tid))
		store_insert(posting->store, &limits_table, columns, nulls);
	else if (store_update(posting->store, &limits_table, posting->snapshot,
						  &limits->tid, columns, nulls) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("The limits of account " INT64_FORMAT " have changed past it.",
						   limits->account_id),
				 errhint("Retry the transaction.")));
}

/*
 * Notes that limits are to be written.
 */
void
caps_change_limits(Posting *posting, Limits *limits)
{
	if (!limits->changed)
		log_defer(posting, write_limits, limits);
	limits->changed = true;
}

/*
 * Returns the limits of the posting's account, the same for all of a posting.
 */
Limits *
caps_limits(Posting *posting)
{
	if (posting->limits == NULL)
	{
		posting->limits = palloc(sizeof(Limits));
		read_limits(posting->store, posting->snapshot, posting->account.id,
					posting->limits);
	}
	return posting->limits;
}

/*
 * Returns an account's own limit or, if it has none, that of the setting, where
 * 0 is none.
 */
static int64
limit(int64 own, int setting)
{
	if (own != NO_LIMIT)
		return own;
	return setting > 0 ? setting : NO_LIMIT;
}

/*
 * Refuses a spend for a limit of the account.
 */
static bool
refuse_limit(Posting *posting, const char *what, char *detail)
{
	return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
				  psprintf("account \"%s\" must not spend %s",
						   row_account_name(&posting->account), what),
				  detail,
				  "See credits.limits and the settings credits.max_spend and so on; credits_set_limits changes them for one account.");
}

/*
 * Refuses a spend that exceeds what is left in a window.
 */
static bool
refuse_window(Posting *posting, const char *per, int64 max, int64 used,
			  int64 amount)
{
	return refuse_limit(posting, psprintf("so much in one %s", per),
						psprintf("Of " INT64_FORMAT " for the %s " INT64_FORMAT " are left, " INT64_FORMAT " are needed.",
								 max, per, Max(max - used, 0), amount));
}

/*
 * Counts a transaction in the windows of its account's limits, if it is one
 * that counts: what is given back does as of when it was spent.
 */
static void
count_entry(Store *store, Snapshot snapshot, Limits *limits,
			const Entry *entry)
{
	TimestampTz at = entry->created_at;

	if (entry->amount > 0 &&
		(strcmp(entry->kind, KIND_REFUND) == 0 ||
		 strcmp(entry->kind, KIND_RELEASE) == 0 ||
		 strcmp(entry->kind, KIND_REVERSAL) == 0))
	{
		Entry		target = *entry;

		/* of what counted itself, or of a hold's capture */
		do
		{
			if (!target.has_target ||
				!row_find_entry(store, snapshot, target.target_id, &target))
				return;
		} while (strcmp(target.kind, KIND_CAPTURE) == 0);
		at = target.created_at;
	}
	else if (entry->amount >= 0 ||
			 (strcmp(entry->kind, KIND_DEDUCTION) != 0 &&
			  strcmp(entry->kind, KIND_HOLD) != 0 &&
			  strcmp(entry->kind, KIND_TRANSFER) != 0 &&
			  strcmp(entry->kind, KIND_GIFT) != 0))
		return;
	if (at >= limits->day_start)
		limits->day_used -= entry->amount;
	if (at >= limits->month_start)
		limits->month_used -= entry->amount;
}

/*
 * Counts what the log says was spent in the windows of an account's limits.
 */
void
caps_count(Store *store, Snapshot snapshot, Limits *limits)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "credits limits",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;

	limits->day_used = limits->month_used = 0;
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(limits->account_id));
	store_scan(&scan, store, &transactions_by_account_id, snapshot, &key, 1);
	old = MemoryContextSwitchTo(context);
	while ((slot = store_scan_next(&scan, BackwardScanDirection)) != NULL)
	{
		Entry		entry;

		CHECK_FOR_INTERRUPTS();
		row_read_entry(slot, &entry);
		if (entry.created_at < limits->month_start)
			break;
		count_entry(store, snapshot, limits, &entry);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	store_scan_end(&scan);
	MemoryContextDelete(context);
}

/*
 * Begins the windows of an account's limits anew, with what was spent in them:
 * by the log, and by what is to be added to it.
 */
void
caps_begin_windows(Posting *posting, Limits *limits)
{
	int			i;

	limits->day_start = caps_window_start("day", limits->timezone,
										  posting->now);
	limits->month_start = caps_window_start("month", limits->timezone,
											posting->now);
	caps_count(posting->store, posting->snapshot, limits);
	for (i = 0; i < posting->nentries; i++)
		count_entry(posting->store, posting->snapshot, limits,
					posting->entries[i]);
}

/*
 * Brings the windows of an account's limits up to date.
 */
static void
roll_limits(Posting *posting, Limits *limits)
{
	roll(&limits->day_start, &limits->day_used, "day", limits->timezone,
		 posting->now);
	roll(&limits->month_start, &limits->month_used, "month", limits->timezone,
		 posting->now);
}

/*
 * Checks a spend against the limits of the account and counts it.  The whole is
 * what it is a part of, if it is split or adds to a hold.
 */
bool
caps_spend(Posting *posting, int64 amount, int64 whole)
{
	Limits	   *limits;
	int64		min;
	int64		max;
	int64		day;
	int64		month;

	if (amount == 0 || (!posting->account.limited && !any_spend_setting()))
		return true;
	limits = caps_limits(posting);
	min = limit(limits->min_spend, setting_min_spend);
	max = limit(limits->max_spend, setting_max_spend);
	day = limit(limits->day_limit, setting_max_spend_per_day);
	month = limit(limits->month_limit, setting_max_spend_per_month);

	if (min != NO_LIMIT && whole < min)
		return refuse_limit(posting, "so little at once",
							psprintf("At least " INT64_FORMAT " are to be spent, not " INT64_FORMAT ".",
									 min, whole));
	if (max != NO_LIMIT && whole > max)
		return refuse_limit(posting, "so much at once",
							psprintf("At most " INT64_FORMAT " can be spent, not " INT64_FORMAT ".",
									 max, whole));
	if (day == NO_LIMIT && month == NO_LIMIT)
		return true;
	if (!ItemPointerIsValid(&limits->tid) && !limits->changed)
		caps_begin_windows(posting, limits);
	roll_limits(posting, limits);
	if (day != NO_LIMIT && amount > day - limits->day_used)
		return refuse_window(posting, "day", day, limits->day_used, amount);
	if (month != NO_LIMIT && amount > month - limits->month_used)
		return refuse_window(posting, "month", month, limits->month_used,
							 amount);
	limits->day_used = count(limits->day_used, amount);
	limits->month_used = count(limits->month_used, amount);
	caps_change_limits(posting, limits);
	return true;
}

/*
 * Checks what an account is given against the highest balance that it may
 * have: what is too much is refused or, if the caller allows that, cut off.
 */
bool
caps_receive(Posting *posting, int64 *amount, bool may_clip)
{
	Limits	   *limits;
	int64		max;
	int64		room;
	bool		clip;

	if (!posting->account.limited && setting_max_balance == 0)
		return true;
	limits = caps_limits(posting);
	max = limit(limits->max_balance, setting_max_balance);
	if (max == NO_LIMIT)
		return true;
	room = Max(max - posting->account.balance, 0);
	if (*amount <= room)
		return true;
	clip = limits->has_excess ? limits->clip : setting_clip_excess;
	if (may_clip && clip && room > 0)
	{
		*amount = room;
		return true;
	}
	return refuse(&posting->refusal, ERRCODE_FORBIDDEN,
				  psprintf("account \"%s\" must not have so many credits",
						   row_account_name(&posting->account)),
				  psprintf("It has " INT64_FORMAT " and may have " INT64_FORMAT ": there is room for " INT64_FORMAT ", not for " INT64_FORMAT ".",
						   posting->account.balance, max, room, *amount),
				  "Give less, or raise the limit with credits_set_limits or the setting credits.max_balance.");
}

/* ------------------------------------------------------------------------
 * members of a pool
 */

/*
 * Reads a member from a slot.
 */
static void
read_member(TupleTableSlot *slot, Member *member)
{
	Datum	   *values;
	bool	   *isnull;

	slot_getallattrs(slot);
	values = slot->tts_values - 1;	/* by column number */
	isnull = slot->tts_isnull - 1;
	member->tid = slot->tts_tid;
	member->changed = false;
	member->removed = false;
	member->pool_id = DatumGetInt64(values[Anum_members_pool_id]);
	member->account_id = DatumGetInt64(values[Anum_members_account_id]);
	member->cap = isnull[Anum_members_cap] ? NO_LIMIT :
		DatumGetInt64(values[Anum_members_cap]);
	member->per = TextDatumGetCString(values[Anum_members_per]);
	member->timezone = DatumGetTextPCopy(values[Anum_members_timezone]);
	member->created_at = DatumGetTimestampTz(values[Anum_members_created_at]);
	member->window_start =
		DatumGetTimestampTz(values[Anum_members_window_start]);
	member->used = DatumGetInt64(values[Anum_members_used]);
	member->since_id = DatumGetInt64(values[Anum_members_since_id]);
}

/*
 * Writes a member's row, which is locked: a new one, a change or, last of all,
 * its end.
 */
static void
write_member(Posting *posting, void *row)
{
	Member	   *member = row;
	Datum		columns[Natts_members];
	bool		nulls[Natts_members] = {false};
	Datum	   *values = columns - 1;	/* by column number */

	if (member->removed)
	{
		store_delete(posting->store, &members_table, posting->snapshot,
					 &member->tid);
		return;
	}
	values[Anum_members_pool_id] = Int64GetDatum(member->pool_id);
	values[Anum_members_account_id] = Int64GetDatum(member->account_id);
	values[Anum_members_cap] = Int64GetDatum(member->cap);
	nulls[Anum_members_cap - 1] = member->cap == NO_LIMIT;
	values[Anum_members_per] = CStringGetTextDatum(member->per);
	values[Anum_members_timezone] = PointerGetDatum(member->timezone);
	values[Anum_members_created_at] = TimestampTzGetDatum(member->created_at);
	values[Anum_members_window_start] =
		TimestampTzGetDatum(member->window_start);
	values[Anum_members_used] = Int64GetDatum(member->used);
	values[Anum_members_since_id] = Int64GetDatum(member->since_id);

	if (!ItemPointerIsValid(&member->tid))
		store_insert(posting->store, &members_table, columns, nulls);
	else if (store_update(posting->store, &members_table, posting->snapshot,
						  &member->tid, columns, nulls) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("Member " INT64_FORMAT " of pool " INT64_FORMAT " has changed although it was locked.",
						   member->account_id, member->pool_id),
				 errhint("Retry the transaction.")));
}

/*
 * Notes that a member is to be written.
 */
void
caps_change_member(Posting *posting, Member *member)
{
	if (!member->changed)
		log_defer(posting, write_member, member);
	member->changed = true;
}

/*
 * Finds a member of a pool.
 */
static bool
find_member(Store *store, Snapshot snapshot, int64 pool_id, int64 account_id,
			Member *member)
{
	StoreScan	scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(pool_id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	store_scan(&scan, store, &members_by_pool, snapshot, keys, 2);
	slot = store_scan_next(&scan, ForwardScanDirection);
	if (slot)
		read_member(slot, member);
	store_scan_end(&scan);
	return slot != NULL;
}

/*
 * Returns the posting that has what its call has locked.
 */
static Posting *
lead_of(Posting *posting)
{
	return posting->lead ? posting->lead : posting;
}

/*
 * Returns a member that the call has locked, or NULL.
 */
static Member *
locked_member(Posting *posting, int64 pool_id, int64 account_id)
{
	ListCell   *lc;

	foreach(lc, lead_of(posting)->members)
	{
		Member	   *member = lfirst(lc);

		if (member->pool_id == pool_id && member->account_id == account_id)
			return member;
	}
	return NULL;
}

/*
 * Locks a member's row, reads its newest version and brings its window up to
 * date, unless that is done.  One that is gone is none.  Returns false if the
 * row is busy and that is not to be waited for.
 */
static bool
lock_member(Posting *posting, const MemberKey *key, bool skip_locked)
{
	Posting    *lead = lead_of(posting);
	Member	   *member;
	TupleTableSlot *slot;

	if (locked_member(posting, key->pool_id, key->account_id))
		return true;
	member = palloc(sizeof(Member));
	if (!find_member(posting->store, posting->snapshot, key->pool_id,
					 key->account_id, member))
		return true;
	switch (store_lock(posting->store, &members_table, posting->snapshot,
					   &member->tid, skip_locked, &slot))
	{
		case TM_Ok:
			read_member(slot, member);
			roll(&member->window_start, &member->used, member->per,
				 member->timezone, posting->now);
			lead->members = lappend(lead->members, member);
			return true;
		case TM_WouldBlock:
			return false;
		case TM_Deleted:
			if (!IsolationUsesXactSnapshot())
				return true;
			/* FALLTHROUGH */
		default:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent update"),
					 errdetail("Member " INT64_FORMAT " of pool " INT64_FORMAT " has changed since the transaction's snapshot.",
							   key->account_id, key->pool_id),
					 errhint("Retry the transaction.")));
	}
	return false;
}

/*
 * Orders members by pool and account.
 */
static int
compare_keys(const ListCell *a, const ListCell *b)
{
	const MemberKey *x = lfirst(a);
	const MemberKey *y = lfirst(b);

	if (x->pool_id != y->pool_id)
		return x->pool_id < y->pool_id ? -1 : 1;
	return x->account_id < y->account_id ? -1 : x->account_id > y->account_id;
}

/*
 * Locks members in the order in which everyone does.  Returns false if one is
 * busy and that is not to be waited for.
 */
bool
caps_lock_members(Posting *posting, List *keys, bool skip_locked)
{
	ListCell   *lc;

	list_sort(keys, compare_keys);
	foreach(lc, keys)
		if (!lock_member(posting, lfirst(lc), skip_locked))
			return false;
	return true;
}

/*
 * Returns a member of a pool, locked; NULL if the account is none.
 */
Member *
caps_member(Posting *posting, int64 pool_id, int64 account_id)
{
	MemberKey	key = {pool_id, account_id};

	(void) lock_member(posting, &key, false);
	return locked_member(posting, pool_id, account_id);
}

/*
 * Adds a member to a list of those to be locked.
 */
List *
caps_add_key(List *keys, int64 pool_id, int64 account_id)
{
	MemberKey  *key = palloc(sizeof(MemberKey));

	*key = (MemberKey) {pool_id, account_id};
	return lappend(keys, key);
}

/*
 * Adds the members through which a deduction or a hold was made, from the
 * account upwards; none if no pool paid.
 */
List *
caps_add_way_of(List *keys, const Entry *spend)
{
	int64		account_id = spend->member_id;
	ListCell   *lc;

	if (account_id == 0)
		return keys;
	foreach(lc, terms_ids(spend, "via"))
	{
		int64		pool_id = *(int64 *) lfirst(lc);

		keys = caps_add_key(keys, pool_id, account_id);
		account_id = pool_id;
	}
	return caps_add_key(keys, spend->account_id, account_id);
}

/*
 * Adds the members along a way.
 */
List *
caps_add_path(List *keys, List *path)
{
	ListCell   *lc;

	foreach(lc, path)
	{
		Member	   *member = lfirst(lc);

		keys = caps_add_key(keys, member->pool_id, member->account_id);
	}
	return keys;
}

/*
 * Finds the pools that an account is a member of.
 */
static List *
pools_of(Store *store, Snapshot snapshot, int64 account_id)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	List	   *members = NIL;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	store_scan(&scan, store, &members_by_account, snapshot, &key, 1);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Member	   *member = palloc(sizeof(Member));

		read_member(slot, member);
		members = lappend(members, member);
	}
	store_scan_end(&scan);
	return members;
}

/*
 * Finds the shortest way from an account up to a pool, as a list of members
 * from the account upwards; NIL if there is none.  Of several the one through
 * the pool with the lowest id is taken.
 */
List *
caps_path(Store *store, Snapshot snapshot, int64 account_id, int64 pool_id)
{
	Member	   *direct = palloc(sizeof(Member));
	List	   *paths = NIL;
	List	   *seen = NIL;
	ListCell   *lc;

	/* the usual case */
	if (find_member(store, snapshot, pool_id, account_id, direct))
		return list_make1(direct);

	foreach(lc, pools_of(store, snapshot, account_id))
		paths = lappend(paths, list_make1(lfirst(lc)));
	while (paths != NIL)
	{
		List	   *longer = NIL;

		foreach(lc, paths)
		{
			List	   *path = lfirst(lc);
			Member	   *last = llast(path);
			ListCell   *up;

			if (last->pool_id == pool_id)
				return path;
			/* a pool that was reached before is no shorter from here */
			foreach(up, seen)
				if (*(int64 *) lfirst(up) == last->pool_id)
					break;
			if (up)
				continue;
			seen = lappend(seen, &last->pool_id);
			foreach(up, pools_of(store, snapshot, last->pool_id))
				longer = lappend(longer,
								 lappend(list_copy(path), lfirst(up)));
		}
		paths = longer;
	}
	return NIL;
}

/*
 * Locks the members along a way, which the list has from then on.  Returns
 * false if one is gone.
 *
 * A call by another pool may have begun a member's window a moment later than
 * ours is: then ours is as late, since that window is what it counts in.
 */
bool
caps_lock_path(Posting *posting, List *path)
{
	ListCell   *lc;

	(void) caps_lock_members(posting, caps_add_path(NIL, path), false);
	foreach(lc, path)
	{
		Member	   *member = lfirst(lc);

		member = locked_member(posting, member->pool_id, member->account_id);
		if (member == NULL)
			return false;
		lfirst(lc) = member;
		posting->now = Max(posting->now, member->window_start);
	}
	return true;
}

/*
 * Returns the member along a way that may spend least, and how much; NO_LIMIT
 * if there is no cap.
 */
Member *
caps_narrowest(List *path, int64 *left)
{
	Member	   *narrowest = NULL;
	ListCell   *lc;

	*left = NO_LIMIT;
	foreach(lc, path)
	{
		Member	   *member = lfirst(lc);
		int64		room;

		if (member->cap == NO_LIMIT)
			continue;
		room = Max(member->cap - member->used, 0);
		if (*left == NO_LIMIT || room < *left)
		{
			*left = room;
			narrowest = member;
		}
	}
	return narrowest;
}

/*
 * Counts a spend along a way.
 */
void
caps_use_path(Posting *posting, List *path, int64 amount)
{
	ListCell   *lc;

	foreach(lc, path)
	{
		Member	   *member = lfirst(lc);

		member->used = count(member->used, amount);
		caps_change_member(posting, member);
	}
}

/*
 * Gives back to limits and caps what a deduction or a hold was counted for.
 */
void
caps_give_back(Posting *posting, const Entry *spend, int64 amount)
{
	List	   *way;
	ListCell   *lc;

	if (posting->account.limited || any_spend_setting())
	{
		Limits	   *limits = caps_limits(posting);

		if (ItemPointerIsValid(&limits->tid))
		{
			roll_limits(posting, limits);
			if (spend->created_at >= limits->day_start)
				limits->day_used = Max(limits->day_used - amount, 0);
			if (spend->created_at >= limits->month_start)
				limits->month_used = Max(limits->month_used - amount, 0);
			caps_change_limits(posting, limits);
		}
	}
	/* members' rows would have to be locked */
	if (posting->dry)
		return;
	way = caps_add_way_of(NIL, spend);
	(void) caps_lock_members(posting, way, false);
	foreach(lc, way)
	{
		MemberKey  *key = lfirst(lc);
		Member	   *member = locked_member(posting, key->pool_id,
										   key->account_id);

		if (member == NULL)
			continue;
		if (spend->id > member->since_id &&
			spend->created_at >= member->window_start)
			member->used = Max(member->used - amount, 0);
		/* also if only its window is another one now */
		caps_change_member(posting, member);
	}
}

/*
 * Appends the pools between member and paying pool to the terms of a spend.
 */
void
caps_add_way(StringInfo json, List *path)
{
	StringInfoData list;
	int			i;

	if (list_length(path) < 2)
		return;
	initStringInfo(&list);
	for (i = 0; i < list_length(path) - 1; i++)
		appendStringInfo(&list, "%s" INT64_FORMAT, i ? ", " : "",
						 ((Member *) list_nth(path, i))->pool_id);
	json_raw(json, "via", psprintf("[%s]", list.data));
}
