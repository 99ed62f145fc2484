/*
 * reversals.c
 *	  Money of purchases that goes back: refunds and disputes.
 *
 * Each refund and each dispute is a row of credits.reversals, by what the
 * payment provider calls it.  The sum of those that stand says how much of
 * what was paid has gone back, and that says how much is claimed from each
 * grant of the purchase: its share of the grant, rounded down, and all of it
 * when all the money is gone.  So it does not matter in which order they become
 * known, nor how often, nor whether the purchase was known to be paid by then.
 */
#include "credits.h"

#include "money.h"
#include "numbers.h"
#include "purchases.h"
#include "sql.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(credits_purchase_refund);
PG_FUNCTION_INFO_V1(credits_purchase_dispute);
PG_FUNCTION_INFO_V1(credits_purchase_dispute_won);
PG_FUNCTION_INFO_V1(credits_purchase_dispute_lost);

static SqlStatement find_reversals = {
	"SELECT reference, kind, status, money, credits FROM credits.reversals "
	"WHERE purchase_id = $1 ORDER BY created_at, reference",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement write_reversal = {
	"INSERT INTO credits.reversals AS r (purchase_id, reference, kind, "
	"status, money, credits, reason, created_at, updated_at, role) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9) "
	"ON CONFLICT (purchase_id, reference) DO UPDATE "
	"SET status = EXCLUDED.status, money = EXCLUDED.money, "
	"credits = EXCLUDED.credits, "
	"reason = COALESCE(EXCLUDED.reason, r.reason), "
	"updated_at = EXCLUDED.updated_at",
	(const Oid[]) {INT8OID, TEXTOID, TEXTOID, TEXTOID, NUMERICOID, INT8OID,
	TEXTOID, TIMESTAMPTZOID, TEXTOID, InvalidOid}
};

static SqlStatement find_grants = {
	"SELECT g.id, g.account_id, g.amount "
	"FROM unnest($1) WITH ORDINALITY AS i (id, position) "
	"JOIN credits.grants AS g ON g.id = i.id ORDER BY i.position",
	(const Oid[]) {INT8ARRAYOID, InvalidOid}
};

/* A refund or a dispute */
typedef struct Reversal
{
	text	   *reference;
	const char *kind;
	const char *status;
	Datum		money;			/* numeric */
	int64		credits;
} Reversal;

/* A refund or a dispute that is to be made known */
typedef struct Call
{
	Purchase	purchase;
	Reversal	reversal;		/* as it is to be; reference NULL if it has none */
	text	   *reason;
	Request		request;

	/* completes the reversal by those there are, or refuses; sets replayed */
	bool		(*decide) (struct Call *call, Refusal *refusal);
	bool		all;			/* all money that has not gone back */
	List	   *reversals;		/* those there are */
	Reversal   *before;			/* this one as it was, NULL if it is new */
	List	   *grants;			/* of PurchasedGrant *, the main one first */
	int			nparties;		/* whose they are */
	bool		again;			/* the purchase was completed meanwhile */
	bool		replayed;

	/* what came of it */
	text	   *account;
	int64		transaction_id; /* 0 if nothing was taken or given back */
	int64		claimed;		/* more than before, of the buyer's account */
	int64		balance;
	int64		debt;
	bool		closed;			/* is an account that it concerns? */
} Call;

/* ------------------------------------------------------------------------
 * sums
 */

/*
 * Tells whether the money of a reversal is gone, for now or for good.
 */
static bool
stands(const Reversal *reversal)
{
	return strcmp(reversal->status, "won") != 0 &&
		strcmp(reversal->status, "withdrawn") != 0;
}

/*
 * Reads the reversals of a purchase.
 */
static List *
read_reversals(int64 purchase_id)
{
	Datum		value = Int64GetDatum(purchase_id);
	SqlResult  *result = sql_run(&find_reversals, &value, NULL);
	List	   *reversals = NIL;
	uint64		i;

	for (i = 0; i < result->nrows; i++)
	{
		Reversal   *reversal = palloc0(sizeof(Reversal));
		bool		isnull;

		reversal->reference =
			DatumGetTextPCopy(sql_value(result, i, 1, &isnull));
		reversal->kind = TextDatumGetCString(sql_value(result, i, 2, &isnull));
		reversal->status =
			TextDatumGetCString(sql_value(result, i, 3, &isnull));
		reversal->money = sql_value(result, i, 4, &isnull);
		reversal->credits = DatumGetInt64(sql_value(result, i, 5, &isnull));
		reversals = lappend(reversals, reversal);
	}
	return reversals;
}

/*
 * Adds up the reversals that stand.
 */
static void
sum(List *reversals, Datum *money, int64 *credits)
{
	ListCell   *lc;

	*money = number(0);
	*credits = 0;
	foreach(lc, reversals)
	{
		Reversal   *reversal = lfirst(lc);

		if (!stands(reversal))
			continue;
		*money = add(*money, reversal->money);
		*credits += reversal->credits;
	}
}

/*
 * Returns how much of a grant is claimed, once so much money has gone back of
 * what was paid, and so many of the credits that were paid for besides.
 */
static int64
share(int64 amount, Datum money, Datum paid, int64 credits, int64 main)
{
	Datum		part;
	Datum		whole;

	if (compare(paid, number(0)) == 0)
	{
		part = number(credits);
		whole = number(main);
	}
	else
	{
		part = add(multiply(money, number(main)),
				   multiply(paid, number(credits)));
		whole = multiply(paid, number(main));
	}
	if (compare(part, whole) >= 0)
		return amount;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 divide(multiply(number(amount), part),
													whole, false)));
}

/*
 * Returns what credits that were paid for cost, in the currency's minor units.
 */
static Datum
worth(const Purchase *purchase, int64 credits, int64 main)
{
	if (credits == 0)
		return number(0);
	return money_round(DirectFunctionCall2(numeric_div,
										   multiply(purchase->paid, number(credits)),
										   number(main)),
					   Max(money_exponent(purchase->currency), 0));
}

/* ------------------------------------------------------------------------
 * claiming
 */

/*
 * Claims from the grants of a purchase what these reversals say, on accounts
 * that are not closed.  Returns the first transaction of that, NULL if nothing
 * changes.
 */
static Entry *
claim(Posting *postings, int npostings, List *reversals, List *grants,
	  Datum paid, int64 *claimed, bool *closed)
{
	int64		main = ((PurchasedGrant *) linitial(grants))->amount;
	Entry	   *first = NULL;
	Datum		money;
	int64		credits;
	ListCell   *lc;
	int			i;

	sum(reversals, &money, &credits);
	*claimed = 0;
	foreach(lc, grants)
	{
		PurchasedGrant *grant = lfirst(lc);
		Posting    *posting = NULL;
		int64		before;
		int64		after = share(grant->amount, money, paid, credits, main);
		Entry	   *entry;

		for (i = 0; i < npostings; i++)
			if (postings[i].account.id == grant->account_id)
				posting = &postings[i];
		if (posting == NULL)
			elog(ERROR, "account " INT64_FORMAT " is not locked",
				 grant->account_id);
		before = debts_claimed(posting, grant->id);
		if (before == after)
			continue;
		if (posting->account.status == ACCOUNT_CLOSED)
		{
			*closed = true;
			continue;
		}
		entry = debts_claim(posting, grants_get(posting, grant->id), after);
		if (posting == &postings[0])
			*claimed += after - before;
		if (first == NULL)
			first = entry;
	}
	return first;
}

/*
 * Claims from the grants of a purchase that is being completed what was
 * reversed before.
 */
Entry *
reversals_claim(Posting *postings, int npostings, const Purchase *purchase,
				List *grants, Datum paid, int64 *claimed)
{
	List	   *reversals = read_reversals(purchase->id);
	bool		closed = false;

	*claimed = 0;
	if (reversals == NIL)
		return NULL;
	return claim(postings, npostings, reversals, grants, paid, claimed,
				 &closed);
}

/*
 * Reads the grants of a purchase, and finds whose they are: the buyer first.
 */
static Party *
find_parties(Call *call)
{
	Datum		value = PointerGetDatum(purchases_array(call->purchase.grant_ids));
	SqlResult  *result = sql_run(&find_grants, &value, NULL);
	Party	   *parties = palloc0((result->nrows + 1) * sizeof(Party));
	uint64		i;

	call->grants = NIL;
	parties[0].id = call->purchase.account_id;
	call->nparties = 1;
	for (i = 0; i < result->nrows; i++)
	{
		PurchasedGrant *grant = palloc(sizeof(PurchasedGrant));
		bool		isnull;
		int			j;

		grant->id = DatumGetInt64(sql_value(result, i, 1, &isnull));
		grant->account_id = DatumGetInt64(sql_value(result, i, 2, &isnull));
		grant->amount = DatumGetInt64(sql_value(result, i, 3, &isnull));
		call->grants = lappend(call->grants, grant);
		for (j = 0; j < call->nparties; j++)
			if (parties[j].id == grant->account_id)
				break;
		if (j == call->nparties)
			parties[call->nparties++].id = grant->account_id;
	}
	return parties;
}

/*
 * Finds a reversal by its reference, NULL if there is none.
 */
static Reversal *
find_reversal(List *reversals, text *reference)
{
	ListCell   *lc;

	foreach(lc, reversals)
		if (reference &&
			same_text(((Reversal *) lfirst(lc))->reference, reference))
			return lfirst(lc);
	return NULL;
}

/*
 * Plans a reversal.
 */
static bool
plan_reversal(Posting *postings, void *arg)
{
	Call	   *call = arg;
	Purchase	latest;
	List	   *after;
	Entry	   *first;

	if (!purchases_find(NULL, call->purchase.id, &latest))
		elog(ERROR, "purchase " INT64_FORMAT " is not there",
			 call->purchase.id);
	call->again = latest.status == PURCHASE_COMPLETED && call->grants == NIL;
	call->purchase = latest;
	if (call->again)
		return true;
	call->reversals = read_reversals(latest.id);
	call->before = find_reversal(call->reversals, call->reversal.reference);
	call->replayed = false;
	if (!call->decide(call, &postings[0].refusal))
		return false;

	after = list_copy(call->reversals);
	if (call->before)
		after = list_delete_ptr(after, call->before);
	after = lappend(after, &call->reversal);
	if (call->grants != NIL && !call->replayed)
	{
		first = claim(postings, call->nparties, after, call->grants,
					  latest.paid, &call->claimed, &call->closed);
		if (first)
		{
			int			i;

			call->transaction_id = first->id;
			/* each account's part says what it is about */
			for (i = 0; i < call->nparties; i++)
			{
				int			j;

				for (j = 0; j < postings[i].nentries; j++)
					if (strcmp(postings[i].entries[j]->kind, KIND_CLAWBACK) == 0 ||
						strcmp(postings[i].entries[j]->kind, KIND_REINSTATEMENT) == 0)
						log_describe_part(postings[i].entries[j],
										  &call->request);
			}
		}
	}
	call->account = cstring_to_text(row_account_name(&postings[0].account));
	call->balance = postings[0].account.balance;
	call->debt = postings[0].account.debt;
	return true;
}

/*
 * Writes a reversal and announces it.
 */
static void
write_call(Call *call)
{
	Reversal   *reversal = &call->reversal;
	StringInfoData detail;
	Datum		values[9];
	bool		isnull[9] = {false};
	const char *kind;

	values[0] = Int64GetDatum(call->purchase.id);
	values[1] = PointerGetDatum(reversal->reference);
	values[2] = CStringGetTextDatum(reversal->kind);
	values[3] = CStringGetTextDatum(reversal->status);
	values[4] = reversal->money;
	values[5] = Int64GetDatum(reversal->credits);
	values[6] = PointerGetDatum(call->reason);
	isnull[6] = call->reason == NULL;
	values[7] = TimestampTzGetDatum(clock_now());
	values[8] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(),
													  false));
	(void) sql_run(&write_reversal, values, isnull);

	if (strcmp(reversal->kind, REVERSAL_REFUND) == 0)
		kind = stands(reversal) ? "purchase_refunded" :
			"purchase_refund_withdrawn";
	else
		kind = strcmp(reversal->status, "won") == 0 ? "dispute_won" :
			strcmp(reversal->status, "lost") == 0 ? "dispute_lost" :
			"purchase_disputed";
	initStringInfo(&detail);
	json_text(&detail, "reversal", reversal->reference);
	purchases_event_money(&detail, "money", reversal->money);
	json_text(&detail, "currency", call->purchase.currency);
	json_int64(&detail, "claimed", call->claimed);
	json_int64(&detail, "balance", call->balance);
	json_int64(&detail, "debt", call->debt);
	purchases_event(kind, &call->purchase, call->transaction_id, &detail);
	if (call->closed)
		purchases_event("reversal_undeliverable", &call->purchase, 0,
						&detail);
}

/*
 * Posts a reversal.  Returns false, with the refusal filled in, if it must not
 * be.
 */
static bool
post(const char *function, Call *call, Refusal *refusal)
{
	do
	{
		Party	   *parties = find_parties(call);
		Receipt		receipt;

		call->request.reference = call->reversal.reference;
		call->request.reason = call->reason;
		if (!ledger_post_joint(function, parties, call->nparties, &call->request,
							   plan_reversal, call, &receipt, refusal))
			return false;
	} while (call->again);
	if (!call->replayed)
		write_call(call);
	return true;
}

/* ------------------------------------------------------------------------
 * for other topics
 */

/*
 * Takes over what is known of a reversal.
 */
static bool
decide_set(Call *call, Refusal *refusal)
{
	Reversal   *before = call->before;
	Reversal   *reversal = &call->reversal;

	if (strcmp(reversal->status, "won") == 0 ||
		strcmp(reversal->status, "withdrawn") == 0)
		/* nothing is to be withdrawn of what nobody knew */
		reversal->money = before ? before->money : number(0);
	else if (before && strcmp(before->status, "lost") == 0)
		reversal->status = before->status;
	call->replayed = before &&
		strcmp(before->status, reversal->status) == 0 &&
		compare(before->money, reversal->money) == 0;
	return true;
}

/*
 * Sets how much of a purchase's money has gone back under a reference.  Returns
 * whether this changed anything.
 */
bool
purchases_set_reversal(int64 id, text *reference, const char *kind,
					   Datum money)
{
	bool		over = compare(money, number(0)) == 0;
	Call		call = {0};
	Refusal		refusal;

	if (!purchases_find(NULL, id, &call.purchase))
		return false;
	call.reversal.reference = reference;
	call.reversal.kind = kind;
	call.reversal.money = money;
	if (strcmp(kind, REVERSAL_REFUND) == 0)
		call.reversal.status = over ? "withdrawn" : "made";
	else
		call.reversal.status = over ? "won" : "open";
	call.decide = decide_set;
	if (!post("credits_purchase_refund()", &call, &refusal))
		raise_refusal(&refusal);
	return !call.replayed;
}

/* ------------------------------------------------------------------------
 * for SQL
 */

/*
 * Refuses to reverse a purchase that is not completed.
 */
static bool
refuse_not_completed(Call *call, Refusal *refusal)
{
	return refuse(refusal, ERRCODE_CONFLICT,
				  psprintf("purchase " INT64_FORMAT " is not completed",
						   call->purchase.id),
				  NULL, "Nothing was given for it yet.");
}

/*
 * Refuses a reference that was used for something else.
 */
static bool
refuse_reference(Call *call, Refusal *refusal)
{
	return refuse(refusal, ERRCODE_CONFLICT,
				  psprintf("reference \"%s\" was used for another %s of purchase " INT64_FORMAT,
						   text_to_cstring(call->reversal.reference),
						   call->before->kind, call->purchase.id),
				  psprintf("That was of %s %s.",
						   DatumGetCString(DirectFunctionCall1(numeric_out,
															   call->before->money)),
						   text_to_cstring(call->purchase.currency)),
				  "Repeat a request with the very same arguments, or use a new reference.");
}

/*
 * Refuses to pay more back than was paid.
 */
static bool
refuse_too_much(Call *call, Refusal *refusal, Datum left)
{
	return refuse(refusal, ERRCODE_CONFLICT,
				  compare(left, number(0)) <= 0 ?
				  psprintf("purchase " INT64_FORMAT " is already refunded",
						   call->purchase.id) :
				  psprintf("cannot pay so much back of purchase " INT64_FORMAT,
						   call->purchase.id),
				  psprintf("Of %s %s that were paid, %s can still go back.",
						   DatumGetCString(DirectFunctionCall1(numeric_out,
															   call->purchase.paid)),
						   text_to_cstring(call->purchase.currency),
						   DatumGetCString(DirectFunctionCall1(numeric_out, left))),
				  "Pay what is left back, or leave out how much.");
}

/*
 * Returns a reference for a refund that the caller gave none.
 */
static text *
new_reference(const Call *call)
{
	int			n = list_length(call->reversals);
	text	   *reference;

	do
		reference = cstring_to_text(psprintf("refund_" INT64_FORMAT "_%d",
											 call->purchase.id, ++n));
	while (find_reversal(call->reversals, reference));
	return reference;
}

/*
 * Decides how much is refunded.
 */
static bool
decide_refund(Call *call, Refusal *refusal)
{
	Reversal   *reversal = &call->reversal;
	int64		main;
	Datum		money;
	int64		credits;
	Datum		left;

	if (call->purchase.status != PURCHASE_COMPLETED)
		return refuse_not_completed(call, refusal);
	if (call->before)
	{
		if (strcmp(call->before->kind, REVERSAL_REFUND) != 0 ||
			(!call->all &&
			 (compare(call->before->money, reversal->money) != 0 ||
			  call->before->credits != reversal->credits)))
			return refuse_reference(call, refusal);
		*reversal = *call->before;
		call->replayed = true;
		return true;
	}
	main = ((PurchasedGrant *) linitial(call->grants))->amount;
	sum(call->reversals, &money, &credits);
	left = subtract(subtract(call->purchase.paid, money),
					worth(&call->purchase, credits, main));
	if (call->all)
	{
		/* where none went back as money, in credits it is exact */
		if (credits > 0 && compare(money, number(0)) == 0)
			reversal->credits = main - credits;
		else if (compare(call->purchase.paid, number(0)) == 0)
			reversal->credits = main - credits;
		else
			reversal->money = left;
		if (reversal->credits == 0 &&
			compare(reversal->money, number(0)) <= 0)
			return refuse_too_much(call, refusal, left);
	}
	else if (reversal->credits > 0)
	{
		int64		claimed = share(main, money, call->purchase.paid, credits,
									main);

		if (reversal->credits > main - claimed)
			return refuse(refusal, ERRCODE_CONFLICT,
						  psprintf("cannot refund " INT64_FORMAT " credits of purchase " INT64_FORMAT,
								   reversal->credits, call->purchase.id),
						  psprintf("Of " INT64_FORMAT " that were paid for, " INT64_FORMAT " can still be refunded.",
								   main, main - claimed),
						  "Refund what is left, or leave out how much.");
	}
	else if (compare(reversal->money, left) > 0)
		return refuse_too_much(call, refusal, left);
	if (reversal->reference == NULL)
		call->request.reference = reversal->reference = new_reference(call);
	return true;
}

/*
 * Decides how much is disputed.
 */
static bool
decide_dispute(Call *call, Refusal *refusal)
{
	Reversal   *reversal = &call->reversal;
	Datum		money;
	int64		credits;
	Datum		left;

	if (call->purchase.status != PURCHASE_COMPLETED)
		return refuse_not_completed(call, refusal);
	if (call->before)
	{
		if (strcmp(call->before->kind, REVERSAL_DISPUTE) != 0 ||
			(!call->all &&
			 compare(call->before->money, reversal->money) != 0))
			return refuse_reference(call, refusal);
		*reversal = *call->before;
		call->replayed = true;
		return true;
	}
	sum(call->reversals, &money, &credits);
	left = subtract(call->purchase.paid, money);
	if (call->all)
		reversal->money = left;
	/* a bank may dispute what was refunded already, but not more than that */
	if (compare(reversal->money, call->all ? left : call->purchase.paid) > 0 ||
		compare(reversal->money, number(0)) <= 0)
		return refuse_too_much(call, refusal, left);
	return true;
}

/*
 * Decides what becomes of a dispute that is over.
 */
static bool
decide_over(Call *call, Refusal *refusal)
{
	if (call->before == NULL ||
		strcmp(call->before->kind, REVERSAL_DISPUTE) != 0)
		return refuse(refusal, ERRCODE_NOT_FOUND,
					  psprintf("purchase " INT64_FORMAT " has no dispute \"%s\"",
							   call->purchase.id,
							   text_to_cstring(call->reversal.reference)),
					  NULL,
					  "Make it known with credits_purchase_dispute first.");
	call->reversal.money = call->before->money;
	call->replayed = strcmp(call->before->status,
							call->reversal.status) == 0;
	return true;
}

/*
 * Makes a credits.clawback.
 */
static Datum
clawback_result(FunctionCallInfo fcinfo, const Call *call)
{
	TupleDesc	tupdesc = result_tupdesc(fcinfo);
	const Reversal *reversal = &call->reversal;
	int64		main =
		((PurchasedGrant *) linitial(call->grants))->amount;
	Datum		values[9];
	bool		isnull[9] = {false};
	Datum		result;

	values[0] = Int64GetDatum(call->purchase.id);
	values[1] = PointerGetDatum(call->account);
	values[2] = PointerGetDatum(reversal->reference);
	values[3] = CStringGetTextDatum(reversal->status);
	values[4] = reversal->credits > 0 ?
		worth(&call->purchase, reversal->credits, main) : reversal->money;
	values[5] = Int64GetDatum(call->claimed);
	values[6] = Int64GetDatum(call->balance);
	values[7] = Int64GetDatum(call->debt);
	values[8] = BoolGetDatum(call->replayed);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Posts a reversal for an SQL function.
 */
static Datum
call_post(FunctionCallInfo fcinfo, const char *function, Call *call)
{
	int64		id = arg_id(fcinfo, 0, "purchase");
	Refusal		refusal;

	store_check_writable(function);
	if (!purchases_find(NULL, id, &call->purchase))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("purchase " INT64_FORMAT " does not exist", id),
				 errhint("Pass the purchase_id that credits_purchase_start returned.")));
	if (!post(function, call, &refusal))
		raise_refusal(&refusal);
	return clawback_result(fcinfo, call);
}

/*
 * Reads an amount of money that is more than nothing, or all if it is NULL.
 */
static void
read_money(FunctionCallInfo fcinfo, int n, Call *call)
{
	call->reversal.money = number(0);
	call->all = PG_ARGISNULL(n);
	if (call->all)
		return;
	call->reversal.money = arg_money(fcinfo, n, "money");
	if (compare(call->reversal.money, number(0)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("money must be more than nothing"),
				 errhint("Leave money out for all that is left.")));
}

/*
 * Takes back the credits of a purchase of which money is paid back.
 */
Datum
credits_purchase_refund(PG_FUNCTION_ARGS)
{
	Call		call = {0};

	read_money(fcinfo, 1, &call);
	if (!PG_ARGISNULL(2))
	{
		if (!call.all)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("either money or credits can be refunded"),
					 errhint("Leave one of them out.")));
		call.all = false;
		call.reversal.credits = arg_amount(fcinfo, 2, "credits");
	}
	if (!PG_ARGISNULL(3))
		call.reversal.reference = arg_name(fcinfo, 3, "reference");
	call.reason = arg_text(fcinfo, 4, "reason", MAX_REASON_BYTES);
	call.reversal.kind = REVERSAL_REFUND;
	call.reversal.status = "made";
	call.decide = decide_refund;
	return call_post(fcinfo, "credits_purchase_refund()", &call);
}

/*
 * Takes back the credits of a purchase whose payment is disputed.
 */
Datum
credits_purchase_dispute(PG_FUNCTION_ARGS)
{
	Call		call = {0};

	call.reversal.reference = arg_name(fcinfo, 1, "reference");
	read_money(fcinfo, 2, &call);
	call.reason = arg_text(fcinfo, 3, "reason", MAX_REASON_BYTES);
	call.reversal.kind = REVERSAL_DISPUTE;
	call.reversal.status = "open";
	call.decide = decide_dispute;
	return call_post(fcinfo, "credits_purchase_dispute()", &call);
}

/*
 * Ends a dispute.
 */
static Datum
end_dispute(FunctionCallInfo fcinfo, const char *function, const char *status)
{
	Call		call = {0};

	call.reversal.reference = arg_name(fcinfo, 1, "reference");
	call.reversal.kind = REVERSAL_DISPUTE;
	call.reversal.status = status;
	call.reversal.money = number(0);
	call.decide = decide_over;
	return call_post(fcinfo, function, &call);
}

/*
 * Gives back what a dispute took.
 */
Datum
credits_purchase_dispute_won(PG_FUNCTION_ARGS)
{
	return end_dispute(fcinfo, "credits_purchase_dispute_won()", "won");
}

/*
 * Notes that a dispute is lost.
 */
Datum
credits_purchase_dispute_lost(PG_FUNCTION_ARGS)
{
	return end_dispute(fcinfo, "credits_purchase_dispute_lost()", "lost");
}
