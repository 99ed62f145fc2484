/*
 * spend.c
 *	  Taking credits from an account or a pool: what deductions, holds and
 *	  charges have in common.
 *
 * A spend from a pool is a joint posting of the member's account, to which the
 * idempotency key belongs, and the pool.  If it is split, each of the two has
 * a transaction.  The member's is the first: its receipt is returned, and its
 * terms contain the total.  It is the target of the other one.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "ledger/refusals.h"
#include "spend/spend.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

static const char *const spend_mode_names[] = {
	"pool_only", "own_first", "pool_first"
};

/*
 * Sets the terms of an entry: the expiry of a hold, the caller's terms, and
 * those that concern the pool.
 */
static void
spend_set_terms(Entry *entry, Spend *spend, JsonObject *pool_terms, Hold *hold)
{
	JsonObject	json;

	if (spend->terms == NULL &&
		(pool_terms == NULL || pool_terms->nmembers == 0))
		return;
	json_begin(&json);
	if (hold)
		json_instant(&json, "expires_at", hold->expires_at);
	if (spend->terms)
		json_members(&json, spend->terms);
	if (pool_terms)
		json_members(&json, pool_terms);
	entry->terms = json_document(&json);
}

/*
 * Takes an amount from an account, whose balance must be sufficient.
 */
static Entry *
take(Posting *posting, Spend *spend, int64 amount, JsonObject *pool_terms)
{
	Entry	   *entry;
	Hold	   *hold = NULL;

	/* what is reserved of nothing is no hold, but logged, too */
	if (spend->kind == KIND_HOLD && amount > 0)
		hold = hold_new(posting, amount,
						spend->expires_in ?
						clock_after(posting->now, spend->expires_in) :
						spend->expires_at, &entry);
	else if (amount == 0)
		entry = log_add(posting, spend->kind, posting->now, 0, NULL, 0);
	else
	{
		int			ndraws;
		Draw	   *draws = burn_grants(posting, amount, &ndraws);

		entry = log_add(posting, spend->kind, posting->now, -amount, draws,
						ndraws);
	}
	spend_set_terms(entry, spend, pool_terms, hold);
	return entry;
}

/*
 * Returns how much of an amount two accounts can pay together, the first one as
 * much as it can, and how much each of them pays.  "left" is what caps leave
 * to each.
 *
 * What the limits forbid even if it were all there is left for them to refuse.
 */
static int64
share_up_to(Posting *first, int64 first_left, int64 *first_part,
			Posting *second, int64 second_left, int64 *second_part,
			int64 amount)
{
	int64		has = Min(first->account.balance, first_left);
	int64		other_has = Min(second->account.balance, second_left);
	SpendRoom	room = {0, PG_INT64_MAX, PG_INT64_MAX};
	SpendRoom	other = room;
	int64		whole;

	if (has > 0)
		room = limit_rules_room(first);
	if (other_has > 0)
		other = limit_rules_room(second);
	*first_part = Min(Min(amount, has), Min(room.most, room.left));
	*second_part = Min(Min(amount - *first_part, other_has), other.left);
	/* what both pay together is one spend */
	*second_part = Min(*second_part, Max(other.most - *first_part, 0));
	if (*first_part > 0)
		*second_part = Min(*second_part, room.most - *first_part);
	whole = *first_part + *second_part;
	if (whole < amount &&
		((*first_part > 0 && whole < room.least) ||
		 (*second_part > 0 && whole < other.least)))
		whole = *first_part = *second_part = 0;
	return whole;
}

/*
 * Returns how much of an amount an account can pay, if "left" is what others
 * leave to it.
 */
int64
spend_up_to(Posting *posting, int64 amount, int64 left)
{
	int64		part;
	int64		none;

	return share_up_to(posting, left, &part, posting, 0, &none, amount);
}

/*
 * Refuses a spend while the service is paused.
 */
bool
spend_allowed(Posting *posting, const Spend *spend)
{
	return service_allows(posting, spend->kind, spend->request.operation);
}

/*
 * Plans a spend of one account.
 */
bool
spend_plan(Posting *posting, void *arg)
{
	Spend	   *spend = arg;
	int64		amount;

	if (!spend_allowed(posting, spend) ||
		(spend->prepare && !spend->prepare(posting, spend)))
		return false;
	amount = spend->up_to ?
		spend_up_to(posting, spend->amount, PG_INT64_MAX) : spend->amount;
	if (!guards_may_spend(posting, amount))
		return false;
	/* limits apply only to what costs credits */
	if (amount > 0 && !limit_rules_spend(posting, amount, amount))
		return false;
	posting->main = take(posting, spend, amount, NULL);
	return true;
}

/*
 * Returns the name of an account for a message, or its id if it does not
 * exist.
 */
static char *
name_by_id(Posting *posting, int64 id)
{
	Account		account;

	if (!rows_find_account(NULL, posting->snapshot, NULL, id, &account))
		return psprintf(INT64_FORMAT, id);
	return rows_account_name(&account);
}

/*
 * Refuses a spend that exceeds a member's cap.
 */
static bool
refuse_cap(Posting *pool, Member *member, int64 amount)
{
	int64		left = Max(member->cap - member->used, 0);
	bool		lifetime = member->per == WINDOW_LIFETIME;

	return refuse(&pool->refusal, ERRCODE_FORBIDDEN,
				  psprintf("account \"%s\" cannot spend that much from pool \"%s\"",
						   name_by_id(pool, member->account_id),
						   name_by_id(pool, member->pool_id)),
				  psprintf("Of its cap of " INT64_FORMAT " %s%s, " INT64_FORMAT " are left, but " INT64_FORMAT " are needed.",
						   member->cap, lifetime ? "in all" : "for the ",
						   lifetime ? "" : window_names[member->per], left, amount),
				  lifetime ? "Have the cap changed with credits_change_member." :
				  "Wait for the next window, or have the cap changed with credits_change_member.");
}

/*
 * Refuses a spend by an account that is not a member of the pool.
 */
static bool
refuse_member(Posting *pool, int64 account_id, int64 pool_id)
{
	return refuse(&pool->refusal, ERRCODE_FORBIDDEN,
				  psprintf("account \"%s\" is not a member of pool \"%s\"",
						   name_by_id(pool, account_id),
						   name_by_id(pool, pool_id)),
				  NULL,
				  "Add it with credits_add_member, or leave out pool.");
}

/*
 * Finds and locks the members on the way from a member up to the pool.
 */
static bool
lock_way(Posting *pool, int64 member_id, List **path)
{
	MemberKey	gone = {pool->account.id, member_id};

	*path = members_path(pool->store, pool->snapshot, member_id,
						 pool->account.id);
	if (*path != NIL)
		*path = members_lock_way(pool, members_add_path(NIL, *path), &gone);
	return *path != NIL || refuse_member(pool, gone.account_id, gone.pool_id);
}

/*
 * Locks the members on a way, given as keys, and checks that their caps allow
 * an amount.
 */
bool
spend_check_caps(Posting *pool, List *way, int64 amount, List **path)
{
	MemberKey	gone;
	Member	   *narrowest;
	int64		left;

	*path = members_lock_way(pool, way, &gone);
	if (*path == NIL)
		return refuse_member(pool, gone.account_id, gone.pool_id);
	narrowest = members_narrowest(*path, &left);
	return left == NO_LIMIT || amount <= left ||
		refuse_cap(pool, narrowest, amount);
}

/*
 * Adds the members on the way from the first party to the second to those to
 * be locked.
 */
static List *
spend_add_members(List *keys, Posting *postings, void *arg)
{
	return members_add_path(keys, members_path(postings[1].store,
											   postings[1].snapshot,
											   postings[0].account.id,
											   postings[1].account.id));
}

/*
 * Plans a spend by a member, the first party, from a pool, the second.
 */
static bool
plan_pool(Posting *postings, void *arg)
{
	Spend	   *spend = arg;
	Posting    *member = &postings[0];
	Posting    *pool = &postings[1];
	List	   *path;
	JsonObject	terms;
	Member	   *narrowest;
	int64		left;
	int64		amount;
	int64		from_pool;
	int64		own;

	if (!spend_allowed(member, spend) ||
		(spend->prepare && !spend->prepare(member, spend)))
		return false;
	amount = from_pool = spend->amount;
	if (!lock_way(pool, member->account.id, &path))
		return false;
	/* lock_way may have advanced the time; both parts must have the same */
	member->now = pool->now;
	/* neither account may be closed or paused, no matter which one pays */
	if (!guards_may_spend(member, 0))
		return false;
	if (!guards_may_spend(pool, 0))
		return false;

	narrowest = members_narrowest(path, &left);
	if (spend->up_to)
	{
		int64		most = left == NO_LIMIT ? PG_INT64_MAX : left;

		amount = spend->mode == OWN_FIRST ?
			share_up_to(member, PG_INT64_MAX, &own, pool, most, &from_pool,
						amount) :
			share_up_to(pool, most, &from_pool, member,
						spend->mode == POOL_FIRST ? PG_INT64_MAX : 0, &own,
						amount);
	}
	else if (spend->mode == OWN_FIRST)
		from_pool = amount - Min(amount, member->account.balance);
	else if (spend->mode == POOL_FIRST)
	{
		from_pool = Min(amount, pool->account.balance);
		if (left != NO_LIMIT)
			from_pool = Min(from_pool, left);
	}
	own = amount - from_pool;
	if (own > 0 &&
		(!guards_enough(member, own) ||
		 !limit_rules_spend(member, own, amount)))
		return false;
	if (from_pool > 0)
	{
		if (left != NO_LIMIT && from_pool > left)
			return refuse_cap(pool, narrowest, from_pool);
		if (!guards_enough(pool, from_pool) ||
			!limit_rules_spend(pool, from_pool, amount))
			return false;
	}

	if (own > 0)
		member->main = take(member, spend, own, NULL);
	/* a charge that is free is recorded with the pool */
	if (from_pool > 0 || own == 0)
	{
		Entry	   *entry;

		json_begin(&terms);
		members_add_way(&terms, path);
		entry = take(pool, spend, from_pool, &terms);
		entry->member_id = member->account.id;
		members_use_path(pool, path, from_pool);
		if (member->main)
		{
			entry->has_target = true;
			entry->target_id = member->main->id;
			log_describe_part(entry, &spend->request);
			terms_add_total(member->main, -amount);
			terms_add_parts(member->main, list_make1(entry));
		}
		else
			pool->main = entry;
	}
	return true;
}

/*
 * Reads the arguments pool and mode, beginning with argument n, which are the
 * same for all functions that spend.
 */
void
spend_read_pool(FunctionCallInfo fcinfo, int n, Spend *spend)
{
	if (!PG_ARGISNULL(n))
	{
		spend->pool = PG_GETARG_TEXT_PP(n);
		check_account_name(spend->pool);
	}
	spend->mode = POOL_ONLY;
	if (PG_ARGISNULL(n + 1))
		return;
	spend->mode = ARG_CHOICE(n + 1, "mode", spend_mode_names);
	if (spend->pool == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode requires a pool"),
				 errdetail("It is \"%s\", but pool is null.",
						   spend_mode_names[spend->mode]),
				 errhint("Pass a pool too, or leave out mode.")));
}

/*
 * Adds the pool to the request's fingerprint.
 */
void
spend_fingerprint_pool(Spend *spend)
{
	if (spend->pool == NULL)
		return;
	requests_add_text(&spend->request.fingerprint, spend->pool);
	requests_add_int64(&spend->request.fingerprint, true, spend->mode);
}

/*
 * Posts a spend.  Returns false, with the refusal filled in, if it is refused.
 */
static bool
spend_post(const char *function, Spend *spend, Receipt *receipt,
		   Refusal *refusal)
{
	Party		parties[2] = {{spend->account}, {spend->pool}};

	if (spend->pool == NULL)
		return ledger_post(function, spend->account, 0, &spend->request,
						   spend_plan, spend, receipt, refusal);
	spend->request.add_members = spend_add_members;
	return ledger_post_joint(function, parties, 2, &spend->request, plan_pool,
							 spend, receipt, refusal);
}

/*
 * Posts a spend, for an SQL function that returns a receipt or raises an
 * error.
 */
Datum
spend_call(FunctionCallInfo fcinfo, const char *function, Spend *spend)
{
	Receipt		receipt;
	Refusal		refusal;

	if (!spend_post(function, spend, &receipt, &refusal))
		raise_refusal(&refusal);
	return receipts_result(fcinfo, &receipt);
}

/*
 * Records a refusal as an event.
 */
static void
spend_record_refusal(Spend *spend, Refusal *refusal)
{
	JsonObject	json;
	int64		account_id;

	json_begin(&json);
	if (spend->amount >= 0)
		json_int64(&json, "amount", spend->amount);
	else
		json_null(&json, "amount");
	if (spend->quantity)
		json_cstring(&json, "quantity", spend->quantity);
	json_text(&json, "operation", spend->request.operation);
	json_text(&json, "reference", spend->request.reference);
	if (spend->pool)
		json_text(&json, "pool", spend->pool);
	refusals_record(spend->kind == KIND_HOLD ? "hold_refused" :
					"deduction_refused", spend->account, refusal, &json,
					&account_id);
}

/*
 * Posts a spend, for an SQL function that returns a credits.attempt and
 * records a refusal.
 */
Datum
spend_try(FunctionCallInfo fcinfo, const char *function, Spend *spend)
{
	Receipt		receipt;
	Refusal		refusal;

	if (spend_post(function, spend, &receipt, &refusal))
		return receipts_attempt(fcinfo, &receipt, NULL);
	/* that the service is paused says nothing about the account */
	if (refusal.sqlstate != ERRCODE_SERVICE_PAUSED)
		spend_record_refusal(spend, &refusal);
	return receipts_attempt(fcinfo, NULL, &refusal);
}
