/*
 * members.c
 *	  Members of pools and their caps, and the windows of time in which caps
 *	  and limits are counted.
 *
 * A cap limits what has been spent since the beginning of a day, week or month
 * in a given time zone.  An amount that is given back is subtracted only if
 * the spend was in the current window.
 *
 * A member's row can be reached from any pool above it.  So it is not
 * protected by the lock of an account, but locked itself, after all accounts.
 * A call locks all the rows that it needs in order of pool and account, to
 * avoid deadlocks.  The locked rows are kept in the call's first posting:
 * settling, the plan and all accounts of a joint posting work on the same copy
 * of a row, which is written once.
 */
#include "credits.h"

#include "ledger/log.h"
#include "ledger/members.h"
#include "ledger/terms.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

const char *const window_names[] = {"day", "week", "month", "lifetime"};

/* a call that has locked more members than this uses a hash table */
#define FEW_MEMBERS 16

typedef struct MemberOfKey
{
	MemberKey	key;
	char		status;			/* of the hash's slot */
	Member	   *member;
} MemberOfKey;

#define SH_PREFIX members_by
#define SH_ELEMENT_TYPE MemberOfKey
#define SH_KEY_TYPE MemberKey
#define SH_KEY key
#define SH_HASH_KEY(tb, key) \
	hash_bytes((const unsigned char *) &(key), sizeof(MemberKey))
#define SH_EQUAL(tb, a, b) \
	((a).pool_id == (b).pool_id && (a).account_id == (b).account_id)
#define SH_SCOPE static inline
#define SH_DEFINE
#define SH_DECLARE
#include "lib/simplehash.h"

static const StoreColumn member_columns[] = {
	COLUMN_INT64(Member, pool_id),
	COLUMN_INT64(Member, account_id),
	COLUMN_INT64(Member, cap, NULL_IS(NO_LIMIT)),
	COLUMN_ENUM(Member, per, window_names),
	COLUMN_TEXT(Member, timezone),
	COLUMN_TIME(Member, created_at),
	COLUMN_TIME(Member, window_start),
	COLUMN_INT64(Member, used),
	COLUMN_INT64(Member, since_id)
};

StoreTable	members_table = {
	.name = "members",
	ROWS_OF(Member, member_columns)
};

StoreIndex	members_by_pool = {
	&members_table, "members_pkey", {"pool_id", "account_id"},.unique = true
};
static StoreIndex members_by_account = {
	&members_table, "members_account_id_idx", {"account_id", "pool_id"}
};

/*
 * Converts a time to local time in a time zone.
 */
static Timestamp
local_time(text *timezone, TimestampTz at)
{
	return DatumGetTimestamp(DirectFunctionCall2(timestamptz_zone,
												 PointerGetDatum(timezone),
												 TimestampTzGetDatum(at)));
}

/*
 * Returns the beginning of the window that contains the given time.
 */
TimestampTz
members_window_start(Window per, text *timezone, TimestampTz at)
{
	TimestampTz start;

	if (per == WINDOW_LIFETIME)
		return DT_NOBEGIN;
	Assert(per != WINDOW_UNKNOWN);
	/* credits_balance_at accepts any time, up to the last possible one */
	at = Min(at, END_TIMESTAMP - 366 * USECS_PER_DAY);
	start = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_trunc_zone,
													CStringGetTextDatum(window_names[per]),
													TimestampTzGetDatum(at),
													PointerGetDatum(timezone)));

	/*
	 * If clocks are set back by an hour at midnight, midnight occurs twice.
	 * The window begins at the first one.
	 */
	if (local_time(timezone, start - USECS_PER_HOUR) ==
		local_time(timezone, start))
		start -= USECS_PER_HOUR;
	return start;
}

/*
 * Begins a new window if its time has come.
 */
void
members_roll(TimestampTz *start, int64 *used, Window per, text *timezone,
			 TimestampTz now)
{
	TimestampTz begun = members_window_start(per, timezone, now);

	if (begun > *start)
	{
		*start = begun;
		*used = 0;
	}
}

/*
 * Adds a limit or a cap, or a null if there is none.
 */
void
members_json(JsonObject *json, const char *key, int64 value)
{
	if (value == NO_LIMIT)
		json_null(json, key);
	else
		json_int64(json, key, value);
}

/*
 * Adds to an amount used.  The result does not overflow.
 */
int64
members_count_up(int64 used, int64 amount)
{
	return amount > PG_INT64_MAX - used ? PG_INT64_MAX : used + amount;
}

/*
 * Returns a member in the form in which it is logged.
 */
Jsonb *
members_terms(const Member *member)
{
	JsonObject	json;

	json_begin(&json);
	json_int64(&json, "account_id", member->account_id);
	if (member->removed)
		json_bool(&json, "removed", true);
	else
	{
		members_json(&json, "cap", member->cap);
		json_cstring(&json, "per", window_names[member->per]);
		json_text(&json, "timezone", member->timezone);
	}
	return json_document(&json);
}

/*
 * Inserts, updates or deletes a member, when the posting is written.  An
 * existing row must be locked.
 */
static void
write_member(Posting *posting, void *row)
{
	Member	   *member = row;

	if (member->removed)
		store_delete(posting->store, &members_table, posting->snapshot,
					 member);
	else
		store_write(posting->store, &members_table, posting->snapshot,
					member);
}

/*
 * Registers a member to be written.
 */
void
members_change(Posting *posting, Member *member)
{
	if (!member->changed)
		posting_defer(posting, write_member, member);
	member->changed = true;
}

/*
 * Finds a member of a pool.
 */
static bool
find_member(Store *store, Snapshot snapshot, int64 pool_id, int64 account_id,
			Member *member)
{
	return scan_find(store, &members_by_pool, snapshot, member,
					 BY_INT64(pool_id), BY_INT64(account_id));
}

/*
 * Returns the posting that has the members locked by the call.
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
	Posting    *lead = lead_of(posting);
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();
	if (lead->members_by_key)
	{
		MemberKey	key = {pool_id, account_id};
		MemberOfKey *element = members_by_lookup(lead->members_by_key, key);

		return element ? element->member : NULL;
	}
	foreach(lc, lead->members)
	{
		Member	   *member = lfirst(lc);

		if (member->pool_id == pool_id && member->account_id == account_id)
			return member;
	}
	return NULL;
}

/*
 * Adds a member to the hash table.
 */
static void
index_member(Posting *lead, Member *member)
{
	MemberKey	key = {member->pool_id, member->account_id};
	bool		found;

	members_by_insert(lead->members_by_key, key, &found)->member = member;
	Assert(!found);
}

/*
 * Adds a member to those that the call has locked.
 */
static void
keep_locked(Posting *lead, Member *member)
{
	ListCell   *lc;

	lead->members = lappend(lead->members, member);
	if (lead->members_by_key)
		index_member(lead, member);
	else if (list_length(lead->members) > FEW_MEMBERS)
	{
		lead->members_by_key = members_by_create(CurrentMemoryContext,
												 4 * FEW_MEMBERS, NULL);
		foreach(lc, lead->members)
			index_member(lead, lfirst(lc));
	}
}

/*
 * Locks a member's row, reads its newest version and brings its window up to
 * date, unless the call has locked it already.  A member that does not exist
 * is ignored.  Returns false if it is locked by another session and
 * skip_locked is set.
 */
static bool
lock_member(Posting *posting, const MemberKey *key, bool skip_locked)
{
	Posting    *lead = lead_of(posting);
	Member	   *member;

	if (locked_member(posting, key->pool_id, key->account_id))
		return true;
	member = palloc(sizeof(Member));
	if (!find_member(posting->store, posting->snapshot, key->pool_id,
					 key->account_id, member))
		return true;
	switch (store_lock(posting->store, &members_table, posting->snapshot,
					   member, skip_locked))
	{
		case TM_Ok:
			if (member->per == WINDOW_UNKNOWN)
				ereport(ERROR,
						(errcode(ERRCODE_DATA_CORRUPTED),
						 errmsg("a member of a pool has an unknown window"),
						 errdetail("It is account " INT64_FORMAT " in pool " INT64_FORMAT ".",
								   key->account_id, key->pool_id),
						 errhint("Restore table credits.members.")));
			members_roll(&member->window_start, &member->used, member->per,
						 member->timezone, posting->now);
			keep_locked(lead, member);
			return true;
		case TM_WouldBlock:
			return false;
		case TM_Deleted:
			/* removed since the snapshot was taken */
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
 * list_sort comparator: by pool and account.
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
 * Locks members in order of pool and account; sorts the list.  Returns false
 * if one is locked by another session and skip_locked is set.
 */
bool
members_lock(Posting *posting, List *keys, bool skip_locked)
{
	ListCell   *lc;

	list_sort(keys, compare_keys);
	foreach(lc, keys)
	{
		if (!lock_member(posting, lfirst(lc), skip_locked))
			return false;
	}
	return true;
}

/*
 * Locks and returns a member of a pool, or NULL if the account is not one.
 */
Member *
members_get(Posting *posting, int64 pool_id, int64 account_id)
{
	MemberKey	key = {pool_id, account_id};

	(void) lock_member(posting, &key, false);
	return locked_member(posting, pool_id, account_id);
}

/*
 * Adds a member to a list of keys.
 */
List *
members_add_key(List *keys, int64 pool_id, int64 account_id)
{
	MemberKey  *key = palloc(sizeof(MemberKey));

	key->pool_id = pool_id;
	key->account_id = account_id;
	return lappend(keys, key);
}

/*
 * Adds the members through which a deduction or a hold was made to a list of
 * keys, from the account upwards.  Adds nothing if no pool paid for it.
 */
List *
members_add_way_of(List *keys, const Entry *spend)
{
	int64		account_id = spend->member_id;
	ListCell   *lc;

	if (account_id == 0)
		return keys;
	foreach(lc, terms_ids(spend, "via"))
	{
		int64		pool_id = *(int64 *) lfirst(lc);

		keys = members_add_key(keys, pool_id, account_id);
		account_id = pool_id;
	}
	return members_add_key(keys, spend->account_id, account_id);
}

/*
 * Adds the members of a path to a list of keys.
 */
List *
members_add_path(List *keys, List *path)
{
	ListCell   *lc;

	foreach(lc, path)
	{
		Member	   *member = lfirst(lc);

		keys = members_add_key(keys, member->pool_id, member->account_id);
	}
	return keys;
}

/*
 * Returns a list of the members found by an index.
 */
static List *
read_members(Store *store, Snapshot snapshot, StoreIndex *index,
			 const ScanBy *by, int n)
{
	StoreScan	scan;
	Member	   *member = palloc(sizeof(Member));
	List	   *members = NIL;

	scan_begin_by(&scan, store, index, snapshot, by, n);
	while (scan_read(&scan, ForwardScanDirection, member))
	{
		members = lappend(members, member);
		member = palloc(sizeof(Member));
	}
	scan_end(&scan);
	return members;
}

/*
 * Returns the members of a pool, or all members if pool_id is 0.
 */
List *
members_of_pool(Snapshot snapshot, int64 pool_id)
{
	return read_members(NULL, snapshot, &members_by_pool, &BY_INT64(pool_id),
						pool_id != 0 ? 1 : 0);
}

/*
 * Returns the memberships of an account.
 */
static List *
pools_of(Store *store, Snapshot snapshot, int64 account_id)
{
	return read_members(store, snapshot, &members_by_account,
						&BY_INT64(account_id), 1);
}

/*
 * Returns whether an id is in a list.
 */
bool
members_has_id(List *ids, int64 id)
{
	ListCell   *lc;

	foreach(lc, ids)
	{
		if (*(int64 *) lfirst(lc) == id)
			return true;
	}
	return false;
}

/*
 * Returns whether an account has members.
 */
bool
members_is_pool(Store *store, Snapshot snapshot, int64 account_id)
{
	StoreScan	scan;
	bool		found;

	scan_begin(&scan, store, &members_by_pool, snapshot, BY_INT64(account_id));
	found = scan_next(&scan, ForwardScanDirection) != NULL;
	scan_end(&scan);
	return found;
}

/*
 * Returns the ids of all pools above an account, each once.  The account is one
 * of them only if somebody has damaged the members.
 */
List *
members_above(Store *store, Snapshot snapshot, int64 account_id)
{
	List	   *above = NIL;
	int			next = 0;

	for (;;)
	{
		ListCell   *lc;

		foreach(lc, pools_of(store, snapshot, account_id))
		{
			Member	   *member = lfirst(lc);

			CHECK_FOR_INTERRUPTS();
			if (!members_has_id(above, member->pool_id))
				above = lappend(above, &member->pool_id);
		}
		if (next == list_length(above))
			return above;
		account_id = *(int64 *) list_nth(above, next++);
	}
}

/*
 * Returns the shortest path from an account up to a pool, as a list of members
 * from the account upwards, or NIL if there is none.  If there are several, it
 * is the one through the pool with the lowest id.
 *
 * This is a breadth-first search.
 */
List *
members_path(Store *store, Snapshot snapshot, int64 account_id, int64 pool_id)
{
	Member	   *direct = palloc(sizeof(Member));
	List	   *paths = NIL;
	List	   *seen = NIL;
	ListCell   *lc;

	/* the most frequent case: the account is a direct member */
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

			CHECK_FOR_INTERRUPTS();
			if (last->pool_id == pool_id)
				return path;

			/*
			 * a pool that was reached before has been reached by a shorter
			 * path
			 */
			if (members_has_id(seen, last->pool_id))
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
 * Locks the members on a way, given as keys, and returns them in the same
 * order.  If one no longer exists, returns NIL and its key.
 */
List *
members_lock_way(Posting *posting, List *keys, MemberKey *gone)
{
	List	   *path = NIL;
	ListCell   *lc;

	(void) members_lock(posting, list_copy(keys), false);
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

		/*
		 * A posting with a slightly later time may have begun a new window.
		 * The spend is counted in that window, so it must not have an earlier
		 * time.
		 */
		posting->now = Max(posting->now, member->window_start);
		path = lappend(path, member);
	}
	return path;
}

/*
 * Returns the member of a path with the least left of its cap, and how much
 * that is; NO_LIMIT if none of them has a cap.
 */
Member *
members_narrowest(List *path, int64 *left)
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
 * Counts a spend for all members of a path.
 */
void
members_use_path(Posting *posting, List *path, int64 amount)
{
	ListCell   *lc;

	foreach(lc, path)
	{
		Member	   *member = lfirst(lc);

		/* the window may be a later one, if the clock was set back */
		if (posting->now >= member->window_start)
			member->used = members_count_up(member->used, amount);
		members_change(posting, member);
	}
}

/*
 * Subtracts an amount that is given back from what a deduction or hold was
 * counted for, if that was in the members' current windows.
 */
void
members_give_back(Posting *posting, const Entry *spend, int64 amount)
{
	List	   *way;
	ListCell   *lc;

	/* a dry run must not lock members */
	if (posting->dry)
		return;
	way = members_add_way_of(NIL, spend);
	(void) members_lock(posting, way, false);
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
		/* even if only the window has changed */
		members_change(posting, member);
	}
}

/*
 * Adds the pools between the member and the pool that pays to the terms of a
 * spend.
 */
void
members_add_way(JsonObject *json, List *path)
{
	JsonArray	list;
	int			i;

	if (list_length(path) < 2)
		return;
	json_begin_array(&list);
	for (i = 0; i < list_length(path) - 1; i++)
		json_add_int64(&list, ((Member *) list_nth(path, i))->pool_id);
	json_array(json, "via", &list);
}
