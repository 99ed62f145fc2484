/*
 * pools.c
 *	  Pools: adding members, setting their caps, and removing them.
 *	  Spending from a pool is in spend.c.
 *
 * A pool is an ordinary account.  Each change of its members is recorded as a
 * transaction of the pool with an amount of 0, so that the log shows who added
 * whom.
 *
 * No pool may be in itself, and several calls at once, each of which adds an
 * innocent member, must not close a ring either.  So a call that puts a pool into
 * another locks all pools above that one, too.  Of any calls that close a ring
 * together, each puts in a pool that is above the pool of another: the last one
 * to have its locks finds that the others have committed.  For what they have
 * committed it looks with a snapshot of its own, whatever the isolation level.
 */
#include "credits.h"

#include "base/sets.h"
#include "ledger/ledger.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_add_member);
PG_FUNCTION_INFO_V1(credits_change_member);
PG_FUNCTION_INFO_V1(credits_remove_member);

/* Arguments of the functions in this file */
typedef struct Membership
{
	text	   *pool;
	text	   *account;
	int64		cap;
	Window		per;
	text	   *timezone;
	bool		adds;			/* does it add a member? */
	Set			set;			/* if it changes one */
	List	   *locked;			/* ids of accounts that are locked */
	bool		again;			/* are there pools above that are not? */
} Membership;

static const SetArg change_member_args[] = {
	{"pool", SET_NAMES},
	{"account", SET_NAMES},
	{"cap", SET_KEEPS},
	{"per", SET_KEEPS, "month"},
	{"timezone", SET_KEEPS, "UTC"}
};

/*
 * Reads the arguments that describe a cap.
 */
static void
read_cap(FunctionCallInfo fcinfo, Membership *wanted)
{
	wanted->cap = NO_LIMIT;
	if (!PG_ARGISNULL(2))
	{
		wanted->cap = PG_GETARG_INT64(2);
		if (wanted->cap < 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("cap must not be negative"),
					 errdetail("It is " INT64_FORMAT ".", wanted->cap),
					 errhint("Pass a number of credits; without one there is no cap.")));
	}
	wanted->per = ARG_CHOICE(3, "per", window_names);
	wanted->timezone = arg_timezone(fcinfo, 4);
}

/*
 * Adds the transaction that records a member's new terms, or its removal.
 */
static void
log_membership(Posting *pool, const Member *member)
{
	pool->main = log_add(pool, KIND_MEMBERSHIP, pool->now, 0, NULL, 0);
	pool->main->terms = members_terms(member);
}

/*
 * Returns a member's terms in the form in which they are audited.
 */
static Jsonb *
cap_document(const Member *member)
{
	JsonObject	json;

	json_begin(&json);
	if (member->cap == NO_LIMIT)
		json_null(&json, "cap");
	else
		json_int64(&json, "cap", member->cap);
	json_cstring(&json, "per", window_names[member->per]);
	json_text(&json, "timezone", member->timezone);
	return json_document(&json);
}

/*
 * Notes in the audit, under the id of the pool, that the terms of a member have
 * changed: old is NULL if it is new, new is NULL if it is removed.
 */
static void
audit_membership(Posting *pool, const Member *member, Jsonb *old, Jsonb *new)
{
	audit_setting(pool, AUDIT_MEMBERSHIP,
				  cstring_to_text(psprintf(INT64_FORMAT, member->pool_id)),
				  member->account_id, old, new);
}

/*
 * Sets a member's terms.
 */
static void
pools_set_terms(Posting *pool, Member *member, const Membership *wanted)
{
	TimestampTz start = members_window_start(wanted->per, wanted->timezone,
											 pool->now);

	member->cap = wanted->cap;
	member->per = wanted->per;
	member->timezone = wanted->timezone;
	log_membership(pool, member);

	/*
	 * What the member has used still counts, unless a window of the new kind
	 * has begun since.  In that case the member starts from 0, and only
	 * transactions after this one count.
	 */
	if (member->since_id == 0 || member->window_start < start)
	{
		member->window_start = start;
		member->used = 0;
		member->since_id = pool->main->id;
	}
	members_change(pool, member);
}

/*
 * Checks that a new member does not close a ring, or has it looked for again
 * with the locks that this takes.
 */
static bool
check_ring(Posting *pool, Posting *account, Membership *wanted)
{
	Snapshot	latest = RegisterSnapshot(GetLatestSnapshot());
	bool		is_pool = members_is_pool(pool->store, latest, account->account.id);
	List	   *above = members_above(pool->store, latest, pool->account.id);
	ListCell   *lc;

	UnregisterSnapshot(latest);
	if (members_has_id(above, account->account.id))
		return refuse(&pool->refusal, ERRCODE_CONFLICT,
					  psprintf("account \"%s\" is a pool above \"%s\"",
							   rows_account_name(&account->account),
							   rows_account_name(&pool->account)),
					  "A pool cannot be in itself.",
					  "Remove the pool from the other one first.");
	/* what has no members is above nothing, and nobody can add one now */
	if (!is_pool)
		return true;
	foreach(lc, above)
	{
		if (members_has_id(wanted->locked, *(int64 *) lfirst(lc)))
			continue;
		if (IsolationUsesXactSnapshot())
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent update"),
					 errdetail("The pools above \"%s\" have changed since the transaction's snapshot.",
							   rows_account_name(&pool->account)),
					 errhint("Retry the transaction.")));
		wanted->again = true;
	}
	return true;
}

/*
 * Plans to add a member.
 */
static bool
plan_add(Posting *postings, void *arg)
{
	Membership *wanted = arg;
	Posting    *pool = &postings[0];
	Posting    *account = &postings[1];
	Member	   *member;
	char	   *unit = text_to_cstring(pool->account.unit);
	char	   *other = text_to_cstring(account->account.unit);

	if (!guards_not_closed(pool))
		return false;
	if (!guards_not_closed(account))
		return false;
	if (strcmp(unit, other) != 0)
		return refuse(&pool->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "pool and member must have the same unit",
					  psprintf("Pool \"%s\" has credits called \"%s\", but account \"%s\" has \"%s\".",
							   rows_account_name(&pool->account), unit,
							   rows_account_name(&account->account), other),
					  "Open an account of the pool's unit for the member.");
	if (members_get(pool, pool->account.id, account->account.id))
		return refuse(&pool->refusal, ERRCODE_CONFLICT,
					  psprintf("account \"%s\" is already a member of pool \"%s\"",
							   rows_account_name(&account->account),
							   rows_account_name(&pool->account)),
					  NULL,
					  "Change its cap with credits_change_member.");
	if (!check_ring(pool, account, wanted))
		return false;
	if (wanted->again)
		return true;

	member = palloc0(sizeof(Member));
	ItemPointerSetInvalid(&member->tid);
	member->pool_id = pool->account.id;
	member->account_id = account->account.id;
	member->created_at = pool->now;
	pools_set_terms(pool, member, wanted);
	audit_membership(pool, member, NULL, cap_document(member));
	return true;
}

/*
 * Finds the member, which has been locked, or refuses and returns NULL.
 */
static Member *
pools_find_member(Posting *postings)
{
	Posting    *pool = &postings[0];
	Account    *account = &postings[1].account;
	Member	   *member;

	if (!guards_not_closed(pool))
		return NULL;
	member = members_get(pool, pool->account.id, account->id);
	if (member == NULL)
		refuse(&pool->refusal, ERRCODE_NOT_FOUND,
			   psprintf("account \"%s\" is not a member of pool \"%s\"",
						rows_account_name(account),
						rows_account_name(&pool->account)),
			   NULL,
			   "Look for the pool's members in view credits.pool_members.");
	return member;
}

/*
 * Completes the arguments with the cap that a member has.
 */
static void
merge_cap(Set *set, const Member *member)
{
	Datum	   *values = palloc0(lengthof(change_member_args) * sizeof(Datum));
	bool	   *isnull = palloc0(lengthof(change_member_args) * sizeof(bool));

	values[2] = Int64GetDatum(member->cap);
	isnull[2] = member->cap == NO_LIMIT;
	values[3] = CStringGetTextDatum(window_names[member->per]);
	values[4] = PointerGetDatum(member->timezone);
	sets_merge(set, values, isnull);
}

/*
 * Plans to change a member's cap.
 */
static bool
plan_change_cap(Posting *postings, void *arg)
{
	Membership *wanted = arg;
	Member	   *member = pools_find_member(postings);
	Jsonb	   *old;

	if (member == NULL)
		return false;
	old = cap_document(member);
	merge_cap(&wanted->set, member);
	read_cap(wanted->set.merged, wanted);
	pools_set_terms(&postings[0], member, wanted);
	audit_membership(&postings[0], member, old, cap_document(member));
	return true;
}

/*
 * Plans to remove a member.
 */
static bool
plan_remove(Posting *postings, void *arg)
{
	Member	   *member = pools_find_member(postings);

	if (member == NULL)
		return false;
	member->removed = true;
	log_membership(&postings[0], member);
	members_change(&postings[0], member);
	audit_membership(&postings[0], member, cap_document(member), NULL);
	return true;
}

/*
 * Adds the member to those to be locked.
 */
static List *
pools_add_members(List *keys, Posting *postings, void *arg)
{
	return members_add_key(keys, postings[0].account.id, postings[1].account.id);
}

/*
 * Finds the accounts that a call locks: the two that it is about and, if it puts
 * a pool into another, all pools above that.
 */
static Party *
pools_find_parties(Membership *wanted, int *nparties)
{
	Account    *pool = palloc(sizeof(Account));
	Account    *account = palloc(sizeof(Account));
	List	   *above = NIL;
	Party	   *parties;
	ListCell   *lc;

	PushActiveSnapshot(store_snapshot(true));
	if (wanted->adds &&
		rows_find_account(NULL, GetActiveSnapshot(), wanted->pool, 0, pool) &&
		rows_find_account(NULL, GetActiveSnapshot(), wanted->account, 0, account) &&
		members_is_pool(NULL, GetActiveSnapshot(), account->id))
	{
		above = members_above(NULL, GetActiveSnapshot(), pool->id);
		wanted->locked = list_make2(&pool->id, &account->id);
	}
	PopActiveSnapshot();

	parties = palloc0((2 + list_length(above)) * sizeof(Party));
	parties[0].name = wanted->pool;
	parties[1].name = wanted->account;
	*nparties = 2;
	foreach(lc, above)
	{
		int64	   *id = lfirst(lc);

		if (members_has_id(wanted->locked, *id))
			continue;
		parties[(*nparties)++].id = *id;
		wanted->locked = lappend(wanted->locked, id);
	}
	return parties;
}

/*
 * Reads the names of pool and member, and posts, for the three SQL functions.
 */
static Datum
pools_post(FunctionCallInfo fcinfo, const char *function, Membership *wanted,
		   PlanFunction plan)
{
	Request		request = {0};
	Receipt		receipt;
	Refusal		refusal;

	wanted->pool = arg_account(fcinfo, 0);
	wanted->account = arg_account(fcinfo, 1);
	request.add_members = pools_add_members;
	ledger_lock_tables(function);
	store_lock_table(&members_table);
	do
	{
		int			nparties;
		Party	   *parties = pools_find_parties(wanted, &nparties);

		wanted->again = false;
		if (!ledger_post_joint(function, parties, nparties, &request, plan,
							   wanted, &receipt, &refusal))
			raise_refusal(&refusal);
	} while (wanted->again);
	return receipts_result(fcinfo, &receipt);
}

/*
 * SQL function: lets an account spend from a pool.
 */
Datum
credits_add_member(PG_FUNCTION_ARGS)
{
	Membership	wanted = {.adds = true};

	read_cap(fcinfo, &wanted);
	return pools_post(fcinfo, "credits_add_member()", &wanted, plan_add);
}

/*
 * SQL function: changes the cap of a member.
 */
Datum
credits_change_member(PG_FUNCTION_ARGS)
{
	Membership	wanted = {0};

	SETS_READ(&wanted.set, fcinfo, change_member_args);
	return pools_post(fcinfo, "credits_change_member()", &wanted,
					  plan_change_cap);
}

/*
 * SQL function: removes a member from a pool.
 */
Datum
credits_remove_member(PG_FUNCTION_ARGS)
{
	Membership	wanted = {0};

	return pools_post(fcinfo, "credits_remove_member()", &wanted, plan_remove);
}
