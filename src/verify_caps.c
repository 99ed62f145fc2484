/*
 * verify_caps.c
 *	  Proving limits and caps: that they are those that the log says, and that
 *	  what has been used of them is what was spent.
 *
 * Members are counted while verify.c reads the log.  A member's row counts also
 * what pools above it paid, so what is used is known only when the log of all
 * accounts has been read.
 */
#include "credits.h"

#include "verify.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* A member as its row shows it, and as the log does */
typedef struct MemberCheck
{
	MemberKey	key;			/* hash key */
	Member	   *member;			/* NULL if there is no row */
	Jsonb	   *terms;			/* as last logged, NULL if never or removed */
	int64		used;			/* by the log */
} MemberCheck;

typedef struct CapsCheck
{
	MemoryContext context;
	bool		all;			/* is the whole log read? */
	HTAB	   *members;
	HASH_SEQ_STATUS status;		/* of reporting them */
	bool		reporting;
	int64		account_id;		/* whose log is being read */
	Jsonb	   *limits;			/* its limits as last logged, or NULL */
} CapsCheck;

/*
 * Tells whether two documents are equal.
 */
static bool
same(Jsonb *a, Jsonb *b)
{
	return a && b && compareJsonbContainers(&a->root, &b->root) == 0;
}

/*
 * Returns what is known of a member, which may be nothing yet.
 */
static MemberCheck *
find(CapsCheck *check, const MemberKey *key)
{
	bool		found;
	MemberCheck *member = hash_search(check->members, key, HASH_ENTER, &found);

	if (!found)
	{
		member->member = NULL;
		member->terms = NULL;
		member->used = 0;
	}
	return member;
}

/*
 * Begins to check the caps of a pool's members or, without one, of all.
 */
CapsCheck *
verify_caps_begin(int64 pool_id)
{
	CapsCheck  *check = palloc0(sizeof(CapsCheck));
	HASHCTL		ctl = {0};
	ListCell   *lc;

	check->context = CurrentMemoryContext;
	check->all = pool_id == 0;
	ctl.keysize = sizeof(MemberKey);
	ctl.entrysize = sizeof(MemberCheck);
	ctl.hcxt = check->context;
	check->members = hash_create("credits members", 64, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	foreach(lc, caps_members_of(GetActiveSnapshot(), pool_id))
	{
		Member	   *member = lfirst(lc);
		MemberKey	key = {member->pool_id, member->account_id};

		find(check, &key)->member = member;
	}
	return check;
}

/*
 * Notes who was let into a pool, or removed.
 */
static void
note_membership(CapsCheck *check, const Entry *entry)
{
	MemberKey	key = {entry->account_id, 0};
	MemberCheck *member;
	Member		removed = {.removed = true};

	if (!terms_int64(entry, "account_id", &key.account_id))
		return;
	removed.account_id = key.account_id;
	member = find(check, &key);
	if (member->terms)
		pfree(member->terms);
	member->terms = NULL;
	if (!same(entry->terms, caps_member_terms(&removed)))
	{
		member->terms = MemoryContextAlloc(check->context,
										   VARSIZE(entry->terms));
		memcpy(member->terms, entry->terms, VARSIZE(entry->terms));
	}
}

/*
 * Counts a transaction for the members on the way of its spend.
 */
static void
count_members(CapsCheck *check, const Entry *entry)
{
	Entry		spend;
	ListCell   *lc;

	if (!check->all ||
		!caps_counts_as(NULL, GetActiveSnapshot(), entry, &spend))
		return;
	foreach(lc, caps_add_way_of(NIL, &spend))
	{
		MemberCheck *member = hash_search(check->members, lfirst(lc),
										  HASH_FIND, NULL);

		if (member && member->member &&
			spend.id > member->member->since_id &&
			spend.created_at >= member->member->window_start)
			member->used = (int64) ((uint64) member->used -
									(uint64) entry->amount);
	}
}

/*
 * Takes a row of the log into account.
 */
void
verify_caps_entry(CapsCheck *check, const Entry *entry)
{
	if (entry->account_id != check->account_id)
	{
		check->account_id = entry->account_id;
		if (check->limits)
			pfree(check->limits);
		check->limits = NULL;
	}
	if (entry->member_id != 0)
		count_members(check, entry);
	else if (strcmp(entry->kind, KIND_MEMBERSHIP) == 0)
		note_membership(check, entry);
	else if (strcmp(entry->kind, KIND_LIMITS) == 0 && entry->terms)
	{
		if (check->limits)
			pfree(check->limits);
		check->limits = MemoryContextAlloc(check->context,
										   VARSIZE(entry->terms));
		memcpy(check->limits, entry->terms, VARSIZE(entry->terms));
	}
}

/*
 * Returns what is wrong with the limits of the account whose log has been read.
 */
List *
verify_caps_limits(CapsCheck *check, const Account *account)
{
	Jsonb	   *logged = check->account_id == account->id ? check->limits :
		NULL;
	Limits		limits;
	Limits		counted;
	List	   *problems = NIL;
	bool		stored;

	caps_read_limits(NULL, GetActiveSnapshot(), account->id, &limits);
	stored = ItemPointerIsValid(&limits.tid);
	if (logged == NULL)
	{
		Limits		none;

		/* a row without limits counts for those of the settings */
		caps_read_limits(NULL, GetActiveSnapshot(), 0, &none);
		logged = caps_limits_terms(&none);
	}
	else if (!stored)
		return list_make1("the row of its limits is missing");
	if (!same(caps_limits_terms(&limits), logged))
		problems = lappend(problems, "its limits are not those that it was last given");
	if (limits.max_spend_per_day == NO_LIMIT && limits.max_spend_per_month == NO_LIMIT)
		return problems;		/* counted only while a setting says so */
	counted = limits;
	caps_count(NULL, GetActiveSnapshot(), &counted);
	if (limits.day_used != counted.day_used)
		problems = lappend(problems,
						   psprintf("day_used is " INT64_FORMAT ", but should be " INT64_FORMAT,
									limits.day_used, counted.day_used));
	if (limits.month_used != counted.month_used)
		problems = lappend(problems,
						   psprintf("month_used is " INT64_FORMAT ", but should be " INT64_FORMAT,
									limits.month_used, counted.month_used));
	return problems;
}

/*
 * Returns what is wrong with one member, NIL if nothing is.
 */
static List *
check_member(CapsCheck *check, const MemberCheck *member)
{
	int64		id = member->key.account_id;

	if (member->member == NULL)
		return member->terms ? list_make1(psprintf("the row of member " INT64_FORMAT " is missing",
												   id)) : NIL;
	if (member->terms == NULL)
		return list_make1(psprintf("account " INT64_FORMAT " is a member, but by the log it is not",
								   id));
	if (!same(caps_member_terms(member->member), member->terms))
		return list_make1(psprintf("the cap of member " INT64_FORMAT " is not the one that it was last given",
								   id));
	if (check->all && member->member->used != member->used)
		return list_make1(psprintf("used of member " INT64_FORMAT " is " INT64_FORMAT ", but should be " INT64_FORMAT,
								   id, member->member->used, member->used));
	return NIL;
}

/*
 * Returns what is wrong with the next member that anything is wrong with, and
 * whose pool that is; NIL at the end.
 */
List *
verify_caps_members(CapsCheck *check, int64 *account_id)
{
	MemberCheck *member;

	if (!check->reporting)
		hash_seq_init(&check->status, check->members);
	check->reporting = true;
	while ((member = hash_seq_search(&check->status)) != NULL)
	{
		List	   *problems = check_member(check, member);

		*account_id = member->key.pool_id;
		if (problems != NIL)
			return problems;
	}
	return NIL;
}
