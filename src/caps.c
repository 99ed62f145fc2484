/*
 * caps.c
 *	  The caps under which members spend from a pool, and the windows that they
 *	  and limits count in.
 *
 * Both count what has been spent since a day, a week or a month began, in some
 * time zone.  The count is of a spend's window, so a refund gives back to it
 * only while that window lasts.
 *
 * A member's row can be reached from any pool above it, so it is locked itself,
 * after all accounts.  A call locks all that it needs in order of pool and
 * account, so two calls cannot wait for each other.  What it has locked is kept
 * with the first of its postings: settling and the plan, and all accounts of a
 * joint change, work on one copy of a row, which is written once.
 */
#include "credits.h"

#include "access/stratnum.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
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
void
caps_roll(TimestampTz *start, int64 *used, const char *per, text *timezone,
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
 * Appends a limit or a cap, null if there is none.
 */
void
caps_json(StringInfo json, const char *key, int64 value)
{
	if (value == NO_LIMIT)
		json_text(json, key, NULL);
	else
		json_int64(json, key, value);
}

/*
 * Adds to what has been used, which may be as much as fits.
 */
int64
caps_count_up(int64 used, int64 amount)
{
	return amount > PG_INT64_MAX - used ? PG_INT64_MAX : used + amount;
}

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
 * Returns a member as the log has it.
 */
Jsonb *
caps_member_terms(const Member *member)
{
	StringInfoData json;

	initStringInfo(&json);
	json_int64(&json, "account_id", member->account_id);
	if (member->removed)
		json_raw(&json, "removed", "true");
	else
	{
		caps_json(&json, "cap", member->cap);
		json_cstring(&json, "per", member->per);
		json_text(&json, "timezone", member->timezone);
	}
	return json_document(&json);
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
						  &member->tid, true, columns, nulls) != TM_Ok)
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
			caps_roll(&member->window_start, &member->used, member->per,
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
 * Reads the members that a scan finds.
 */
static List *
read_members(Store *store, Snapshot snapshot, StoreIndex *index, ScanKey keys,
			 int nkeys)
{
	StoreScan	scan;
	TupleTableSlot *slot;
	List	   *members = NIL;

	store_scan(&scan, store, index, snapshot, keys, nkeys);
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
 * Returns the members of a pool, or of all if none is given.
 */
List *
caps_members_of(Snapshot snapshot, int64 pool_id)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(pool_id));
	return read_members(NULL, snapshot, &members_by_pool, &key,
						pool_id != 0 ? 1 : 0);
}

/*
 * Finds the pools that an account is a member of.
 */
static List *
pools_of(Store *store, Snapshot snapshot, int64 account_id)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	return read_members(store, snapshot, &members_by_account, &key, 1);
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
 * Locks the members along a way, given as keys, and returns them; NIL if one
 * is gone, which the key then tells.
 *
 * A call by another pool may have begun a member's window a moment later than
 * ours is: then ours is as late, since that window is what it counts in.
 */
List *
caps_lock_way(Posting *posting, List *keys, MemberKey *gone)
{
	List	   *path = NIL;
	ListCell   *lc;

	(void) caps_lock_members(posting, list_copy(keys), false);
	foreach(lc, keys)
	{
		MemberKey  *key = lfirst(lc);
		Member	   *member = locked_member(posting, key->pool_id,
										   key->account_id);

		if (member == NULL)
		{
			*gone = *key;
			return NIL;
		}
		posting->now = Max(posting->now, member->window_start);
		path = lappend(path, member);
	}
	return path;
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

		member->used = caps_count_up(member->used, amount);
		caps_change_member(posting, member);
	}
}

/*
 * Gives back to the caps of members what a deduction or a hold was counted for.
 */
void
caps_give_back_members(Posting *posting, const Entry *spend, int64 amount)
{
	List	   *way;
	ListCell   *lc;

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
