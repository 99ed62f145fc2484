/*
 * pools.c
 *	  Who may spend from a pool, and how much: adding, changing and removing
 *	  members.  spend.c spends.
 *
 * A pool is an account like any other.  Each change of its members is a
 * transaction of the pool that moves nothing, so that the log can tell who was
 * let in by whom.
 */
#include "credits.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_add_member);
PG_FUNCTION_INFO_V1(credits_change_member);
PG_FUNCTION_INFO_V1(credits_remove_member);

/* What a call wants */
typedef struct Membership
{
	text	   *pool;
	text	   *account;
	int64		cap;
	char	   *per;
	text	   *timezone;
} Membership;

/*
 * Adds the transaction that a change of members is.
 */
static void
log_membership(Posting *pool, const Member *member)
{
	pool->main = log_add(pool, KIND_MEMBERSHIP, pool->now, 0, NULL, 0);
	pool->main->terms = caps_member_terms(member);
}

/*
 * Sets a member's terms as wanted.  What was used counts on unless a window of
 * the new kind has begun since the count did: then it begins anew, with what is
 * spent from now on.
 */
static void
set_terms(Posting *pool, Member *member, const Membership *wanted)
{
	TimestampTz start = caps_window_start(wanted->per, wanted->timezone,
										  pool->now);

	member->cap = wanted->cap;
	member->per = wanted->per;
	member->timezone = wanted->timezone;
	log_membership(pool, member);
	if (member->since_id == 0 || member->window_start < start)
	{
		member->window_start = start;
		member->used = 0;
		member->since_id = pool->main->id;
	}
	caps_change_member(pool, member);
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
	char	   *unit = TextDatumGetCString(pool->account.values[Anum_accounts_unit - 1]);
	char	   *other = TextDatumGetCString(account->account.values[Anum_accounts_unit - 1]);

	if (!ledger_not_closed(pool))
		return false;
	if (!ledger_not_closed(account))
	{
		pool->refusal = account->refusal;
		return false;
	}
	if (strcmp(unit, other) != 0)
		return refuse(&pool->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "pool and member must have the same unit",
					  psprintf("Pool \"%s\" has credits called \"%s\", account \"%s\" has \"%s\".",
							   row_account_name(&pool->account), unit,
							   row_account_name(&account->account), other),
					  "Open an account of the pool's unit for the member.");
	if (caps_member(pool, pool->account.id, account->account.id))
		return refuse(&pool->refusal, ERRCODE_CONFLICT,
					  psprintf("account \"%s\" is already a member of pool \"%s\"",
							   row_account_name(&account->account),
							   row_account_name(&pool->account)),
					  NULL,
					  "Change its cap with credits_change_member.");
	if (caps_path(pool->store, pool->snapshot, pool->account.id,
				  account->account.id) != NIL)
		return refuse(&pool->refusal, ERRCODE_CONFLICT,
					  psprintf("account \"%s\" is a pool above \"%s\"",
							   row_account_name(&account->account),
							   row_account_name(&pool->account)),
					  "A pool cannot be in itself.",
					  "Remove the pool from the other one first.");

	member = palloc0(sizeof(Member));
	ItemPointerSetInvalid(&member->tid);
	member->pool_id = pool->account.id;
	member->account_id = account->account.id;
	member->created_at = pool->now;
	set_terms(pool, member, wanted);
	return true;
}

/*
 * Finds and locks the member that a call is about, or refuses.
 */
static Member *
find_member(Posting *postings)
{
	Posting    *pool = &postings[0];
	Account    *account = &postings[1].account;
	Member	   *member;

	if (!ledger_not_closed(pool))
		return NULL;
	member = caps_member(pool, pool->account.id, account->id);
	if (member == NULL)
		refuse(&pool->refusal, ERRCODE_NOT_FOUND,
			   psprintf("account \"%s\" is not a member of pool \"%s\"",
						row_account_name(account),
						row_account_name(&pool->account)),
			   NULL,
			   "Look for the pool's members in view credits.pool_members.");
	return member;
}

/*
 * Plans to change a member.
 */
static bool
plan_change(Posting *postings, void *arg)
{
	Member	   *member = find_member(postings);

	if (member == NULL)
		return false;
	set_terms(&postings[0], member, arg);
	return true;
}

/*
 * Plans to remove a member.
 */
static bool
plan_remove(Posting *postings, void *arg)
{
	Member	   *member = find_member(postings);

	if (member == NULL)
		return false;
	member->removed = true;
	log_membership(&postings[0], member);
	caps_change_member(&postings[0], member);
	return true;
}

/*
 * Adds the member that a call is about to those that it locks.
 */
static List *
add_members(List *keys, Posting *postings, void *arg)
{
	return caps_add_key(keys, postings[0].account.id, postings[1].account.id);
}

/*
 * Reads the cap that is wanted.
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
					 errhint("Pass a number of credits, or NULL for no cap.")));
	}
	if (PG_ARGISNULL(3))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("per must not be null"),
				 errhint("Use one of day, week, month, lifetime.")));
	wanted->per = text_to_cstring(PG_GETARG_TEXT_PP(3));
	if (!caps_is_window(wanted->per))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown window of a cap"),
				 errdetail("It is \"%.64s\".", wanted->per),
				 errhint("Use one of day, week, month, lifetime.")));
	wanted->timezone = arg_timezone(fcinfo, 4);
}

/*
 * Posts a change of a pool's members.
 */
static Datum
post(FunctionCallInfo fcinfo, const char *function, Membership *wanted,
	 PlanChange plan)
{
	Party		parties[2];
	Request		request = {0};

	wanted->pool = arg_account(fcinfo, 0);
	wanted->account = arg_account(fcinfo, 1);
	request.add_members = add_members;
	parties[0] = (Party) {wanted->pool};
	parties[1] = (Party) {wanted->account};
	store_check_writable(function);
	store_lock_table(&members_table);
	return ledger_call_joint(fcinfo, function, parties, 2, &request, plan,
							 wanted);
}

/*
 * Lets an account spend from a pool.
 */
Datum
credits_add_member(PG_FUNCTION_ARGS)
{
	Membership	wanted = {0};

	read_cap(fcinfo, &wanted);
	return post(fcinfo, "credits_add_member()", &wanted, plan_add);
}

/*
 * Changes how much a member may spend.
 */
Datum
credits_change_member(PG_FUNCTION_ARGS)
{
	Membership	wanted = {0};

	read_cap(fcinfo, &wanted);
	return post(fcinfo, "credits_change_member()", &wanted, plan_change);
}

/*
 * Lets an account no longer spend from a pool.
 */
Datum
credits_remove_member(PG_FUNCTION_ARGS)
{
	Membership	wanted = {0};

	return post(fcinfo, "credits_remove_member()", &wanted, plan_remove);
}
