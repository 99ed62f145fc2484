/*
 * spend.c
 *	  Taking credits from an account or from a pool: what deductions, holds and
 *	  charges share.
 *
 * A spend from a pool is a joint change of the member's account, whose key it
 * is, and of the pool's.  It may be split: then each of the two has a
 * transaction.  The first of them is the one that the receipt is of, and its
 * terms have the total; the other's target is the first.
 */
#include "credits.h"

#include "spend.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

/*
 * Returns when a hold that is made now times out.
 */
static TimestampTz
hold_expiry(Posting *posting, Spend *spend)
{
	if (spend->expires_in == NULL)
		return spend->expires_at;
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(posting->now),
												   IntervalPGetDatum(spend->expires_in)));
}

/*
 * Sets the terms of a transaction: those of a hold, the caller's, and what a
 * pool adds.
 */
static void
set_terms(Entry *entry, Spend *spend, StringInfo pool_terms, Hold *hold)
{
	StringInfoData json;

	if (spend->terms == NULL && (pool_terms == NULL || pool_terms->len == 0))
		return;
	initStringInfo(&json);
	if (hold)
		json_instant(&json, "expires_at", hold->expires_at);
	if (spend->terms)
		appendStringInfo(&json, "%s%s", json.len ? ", " : "{",
						 spend->terms->data + 1);
	if (pool_terms && pool_terms->len > 0)
		appendStringInfo(&json, "%s%s", json.len ? ", " : "{",
						 pool_terms->data + 1);
	entry->terms = json_document(&json);
}

/*
 * Takes an amount from an account that has it.
 */
static Entry *
take(Posting *posting, Spend *spend, int64 amount, StringInfo pool_terms)
{
	Entry	   *entry;
	Hold	   *hold = NULL;

	if (strcmp(spend->kind, KIND_HOLD) == 0)
		hold = reserve_new(posting, amount, hold_expiry(posting, spend),
						   &entry);
	else if (amount == 0)
		entry = log_add(posting, spend->kind, posting->now, 0, NULL, 0);
	else
	{
		int			ndraws;
		Draw	   *draws = grants_burn(posting, amount, &ndraws);

		entry = log_add(posting, spend->kind, posting->now, -amount, draws,
						ndraws);
	}
	set_terms(entry, spend, pool_terms, hold);
	return entry;
}

/*
 * Plans a spend of one account.
 */
bool
spend_plan(Posting *posting, void *arg)
{
	Spend	   *spend = arg;

	if (spend->prepare && !spend->prepare(posting, spend))
		return false;
	if (!ledger_may_spend(posting, spend->amount))
		return false;
	/* limits are for what is spent, not for what is free */
	if (spend->amount > 0 && !caps_spend(posting, spend->amount, spend->amount))
		return false;
	posting->main = take(posting, spend, spend->amount, NULL);
	return true;
}

/*
 * Keeps the refusal of the pool's posting as that of the whole.
 */
static bool
refuse_for(Posting *postings, int which)
{
	postings[0].refusal = postings[which].refusal;
	return false;
}

/*
 * Returns the name of an account by id, for a message.
 */
static char *
name_by_id(Posting *posting, int64 id)
{
	Account		account;

	if (!row_find_account(NULL, posting->snapshot, NULL, id, &account))
		return psprintf(INT64_FORMAT, id);
	return row_account_name(&account);
}

/*
 * Refuses a spend for a cap.
 */
static bool
refuse_cap(Posting *pool, Member *member, int64 amount)
{
	int64		left = Max(member->cap - member->used, 0);
	bool		lifetime = strcmp(member->per, "lifetime") == 0;

	return refuse(&pool->refusal, ERRCODE_FORBIDDEN,
				  psprintf("account \"%s\" must not spend so much from pool \"%s\"",
						   name_by_id(pool, member->account_id),
						   name_by_id(pool, member->pool_id)),
				  psprintf("Of its cap of " INT64_FORMAT " %s%s " INT64_FORMAT " are left, " INT64_FORMAT " are needed.",
						   member->cap, lifetime ? "in all" : "for the ",
						   lifetime ? "" : member->per, left, amount),
				  lifetime ? "Have the cap changed with credits_change_member." :
				  "Wait for the next window, or have the cap changed with credits_change_member.");
}

/*
 * Refuses a spend from a pool by who is no member.
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
 * Finds and locks the way from a member up to a pool.
 */
static bool
lock_way(Posting *pool, int64 member_id, List **path)
{
	MemberKey	gone = {pool->account.id, member_id};

	*path = caps_path(pool->store, pool->snapshot, member_id,
					  pool->account.id);
	if (*path != NIL)
		*path = caps_lock_way(pool, caps_add_path(NIL, *path), &gone);
	return *path != NIL || refuse_member(pool, gone.account_id, gone.pool_id);
}

/*
 * Checks that an amount may be spent from a pool by a way, at each level.
 */
bool
spend_check_caps(Posting *pool, List *way, int64 amount, List **path)
{
	MemberKey	gone;
	Member	   *narrowest;
	int64		left;

	*path = caps_lock_way(pool, way, &gone);
	if (*path == NIL)
		return refuse_member(pool, gone.account_id, gone.pool_id);
	narrowest = caps_narrowest(*path, &left);
	return left == NO_LIMIT || amount <= left ||
		refuse_cap(pool, narrowest, amount);
}

/*
 * Adds the members along the way from the first party to the second to those
 * that a call locks.
 */
static List *
add_members(List *keys, Posting *postings, void *arg)
{
	return caps_add_path(keys, caps_path(postings[1].store,
										 postings[1].snapshot,
										 postings[0].account.id,
										 postings[1].account.id));
}

/*
 * Plans a spend of a member, the first party, from a pool, the second.
 */
static bool
plan_pool(Posting *postings, void *arg)
{
	Spend	   *spend = arg;
	Posting    *member = &postings[0];
	Posting    *pool = &postings[1];
	List	   *path;
	StringInfoData terms;
	Member	   *narrowest;
	int64		left;
	int64		from_pool;
	int64		own;

	if (spend->prepare && !spend->prepare(member, spend))
		return false;
	from_pool = spend->amount;
	if (!lock_way(pool, member->account.id, &path))
		return refuse_for(postings, 1);
	member->now = pool->now;
	/* neither may be closed or paused, whoever pays */
	if (!ledger_may_spend(member, 0))
		return false;
	if (!ledger_may_spend(pool, 0))
		return refuse_for(postings, 1);

	narrowest = caps_narrowest(path, &left);
	if (spend->mode == OWN_FIRST)
		from_pool = spend->amount - Min(spend->amount, member->account.balance);
	else if (spend->mode == POOL_FIRST)
	{
		from_pool = Min(spend->amount, pool->account.balance);
		if (left != NO_LIMIT)
			from_pool = Min(from_pool, left);
	}
	own = spend->amount - from_pool;
	if (own > 0 &&
		(!ledger_enough(member, own) ||
		 !caps_spend(member, own, spend->amount)))
		return false;
	if (from_pool > 0)
	{
		if (left != NO_LIMIT && from_pool > left)
		{
			refuse_cap(pool, narrowest, from_pool);
			return refuse_for(postings, 1);
		}
		if (!ledger_enough(pool, from_pool) ||
			!caps_spend(pool, from_pool, spend->amount))
			return refuse_for(postings, 1);
	}

	if (own > 0)
		member->main = take(member, spend, own, NULL);
	if (from_pool > 0 || own == 0)
	{
		Entry	   *entry;

		initStringInfo(&terms);
		caps_add_way(&terms, path);
		entry = take(pool, spend, from_pool, &terms);
		entry->member_id = member->account.id;
		caps_use_path(pool, path, from_pool);
		if (member->main)
		{
			entry->has_target = true;
			entry->target_id = member->main->id;
			log_describe_part(entry, &spend->request);
			terms_add_total(member->main, -spend->amount);
			terms_add_parts(member->main, list_make1(entry));
		}
		else
			pool->main = entry;
	}
	return true;
}

/*
 * Reads which pool is to pay, and how, the same of all functions that spend.
 */
void
spend_read_pool(FunctionCallInfo fcinfo, int n, Spend *spend)
{
	char	   *mode;

	if (!PG_ARGISNULL(n))
	{
		spend->pool = PG_GETARG_TEXT_PP(n);
		check_account_name(spend->pool);
	}
	spend->mode = POOL_ONLY;
	if (PG_ARGISNULL(n + 1))
		return;
	mode = text_to_cstring(PG_GETARG_TEXT_PP(n + 1));
	if (strcmp(mode, "own_first") == 0)
		spend->mode = OWN_FIRST;
	else if (strcmp(mode, "pool_first") == 0)
		spend->mode = POOL_FIRST;
	else if (strcmp(mode, "pool_only") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown mode"),
				 errdetail("It is \"%.64s\".", mode),
				 errhint("Use one of own_first, pool_first, pool_only.")));
	if (spend->pool == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mode goes with a pool"),
				 errdetail("It is \"%s\", but pool is null.", mode),
				 errhint("Pass a pool too, or leave out mode.")));
}

/*
 * Adds the pool to what a retry must repeat.
 */
void
spend_fingerprint_pool(Spend *spend)
{
	if (spend->pool == NULL)
		return;
	fingerprint_text(&spend->request.fingerprint, spend->pool);
	fingerprint_int64(&spend->request.fingerprint, true, spend->mode);
}

/*
 * Posts a spend.  Returns false, with the refusal filled in, if it must not be.
 */
bool
spend_post(const char *function, Spend *spend, Receipt *receipt,
		   Refusal *refusal)
{
	Party		parties[2] = {{spend->account}, {spend->pool}};

	if (spend->pool == NULL)
		return ledger_post(function, spend->account, 0, &spend->request,
						   spend_plan, spend, receipt, refusal);
	spend->request.add_members = add_members;
	return ledger_post_joint(function, parties, 2, &spend->request, plan_pool,
							 spend, receipt, refusal);
}

/*
 * Posts a spend for an SQL function: returns its receipt or raises an error.
 */
Datum
spend_call(FunctionCallInfo fcinfo, const char *function, Spend *spend)
{
	Receipt		receipt;
	Refusal		refusal;

	if (!spend_post(function, spend, &receipt, &refusal))
		raise_refusal(&refusal);
	return ledger_result(fcinfo, &receipt);
}

/*
 * Records a refusal as an event.
 */
static void
record_refusal(Spend *spend, Refusal *refusal)
{
	StringInfoData json;
	Account		account;

	if (!row_find_account(NULL, store_snapshot(true), spend->account, 0,
						  &account))
		account.id = 0;
	initStringInfo(&json);
	json_text(&json, "account", spend->account);
	if (spend->amount >= 0)
		json_int64(&json, "amount", spend->amount);
	else
		json_text(&json, "amount", NULL);
	if (spend->quantity)
		json_cstring(&json, "quantity", spend->quantity);
	json_cstring(&json, "code", sqlstate_text(refusal->sqlstate));
	json_cstring(&json, "message", refusal->message);
	json_text(&json, "operation", spend->request.operation);
	json_text(&json, "reference", spend->request.reference);
	if (spend->pool)
		json_text(&json, "pool", spend->pool);
	alerts_event(strcmp(spend->kind, KIND_HOLD) == 0 ? "hold_refused" :
				 "deduction_refused", account.id, 0, clock_now(),
				 json_document(&json));
}

/*
 * Posts a spend for an SQL function: returns a credits.attempt, and records a
 * refusal.
 */
Datum
spend_try(FunctionCallInfo fcinfo, const char *function, Spend *spend)
{
	Receipt		receipt;
	Refusal		refusal;

	if (spend_post(function, spend, &receipt, &refusal))
		return ledger_attempt(fcinfo, &receipt, NULL);
	record_refusal(spend, &refusal);
	return ledger_attempt(fcinfo, NULL, &refusal);
}
