/*
 * reversals.c
 *	  Money of purchases that is paid back: refunds and chargebacks.
 *
 * Each refund and each chargeback is a row of credits.reversals, identified by the
 * payment provider's reference.  Recording one claims from the purchase's grants
 * what all of them add up to (see clawbacks.c), in one joint posting of the
 * accounts that have the grants.
 *
 * Payment providers report in no particular order, so a reversal is recorded
 * even if the purchase is not completed.  It is then claimed on completion.
 */
#include "credits.h"

#include "base/money.h"
#include "base/numeric.h"
#include "ledger/ledger.h"
#include "sell/reversals.h"
#include "store/statements.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

static SqlStatement find_reversals = {
	"SELECT reference, kind, status, money, credits FROM credits.reversals "
	"WHERE purchase_id = $1 ORDER BY created_at, reference",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement write_reversal = {
	"INSERT INTO credits.reversals AS r (purchase_id, reference, kind, "
	"status, money, credits, reason, created_at, updated_at, role) "
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, session_user) "
	"ON CONFLICT (purchase_id, reference) DO UPDATE "
	"SET status = EXCLUDED.status, money = EXCLUDED.money, "
	"credits = EXCLUDED.credits, "
	"reason = COALESCE(EXCLUDED.reason, r.reason), "
	"updated_at = EXCLUDED.updated_at",
	(const Oid[]) {INT8OID, TEXTOID, TEXTOID, TEXTOID, NUMERICOID, INT8OID,
	TEXTOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement find_grants = {
	"SELECT g.id, g.account_id, g.amount "
	"FROM unnest($1) WITH ORDINALITY AS i (id, position) "
	"JOIN credits.grants AS g ON g.id = i.id ORDER BY i.position",
	(const Oid[]) {INT8ARRAYOID, InvalidOid}
};

static const char *const reversal_kind_names[] = {"refund", "chargeback"};

/* each status, and the event that announces it */
static const char *const reversal_status_names[] =
{"made", "withdrawn", "open", "won", "lost"};

static const char *const reversal_event_kinds[] =
{"purchase_refunded", "purchase_refund_withdrawn", "chargeback_opened",
"chargeback_won", "chargeback_lost"};

/* ------------------------------------------------------------------------
 * rows
 */

/*
 * Reads the reversals of a purchase.
 */
static List *
read_reversals(int64 purchase_id)
{
	Datum		value = Int64GetDatum(purchase_id);
	SqlResult  *result = statements_run(&find_reversals, &value, NULL);
	List	   *reversals = NIL;
	uint64		i;

	for (i = 0; i < result->nrows; i++)
	{
		Reversal   *reversal = palloc0(sizeof(Reversal));
		int			kind;
		int			status;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		reversal->reference =
			DatumGetTextPCopy(statements_value(result, i, 1, &isnull));
		kind = NAME_FIND(reversal_kind_names,
						 TextDatumGetCString(statements_value(result, i, 2, &isnull)));
		status = NAME_FIND(reversal_status_names,
						   TextDatumGetCString(statements_value(result, i, 3, &isnull)));
		if (kind < 0 || status < 0)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("reversal \"%s\" of purchase " INT64_FORMAT " has an unknown kind or status",
							text_to_cstring(reversal->reference), purchase_id),
					 errhint("Run credits_verify.")));
		reversal->kind = kind;
		reversal->status = status;
		reversal->money = statements_value(result, i, 4, &isnull);
		reversal->credits = DatumGetInt64(statements_value(result, i, 5, &isnull));
		reversals = lappend(reversals, reversal);
	}
	return reversals;
}

/*
 * Finds a reversal by its reference, NULL if there is none.
 */
Reversal *
reversals_find(List *reversals, text *reference)
{
	ListCell   *lc;

	foreach(lc, reversals)
	{
		Reversal   *reversal = lfirst(lc);

		if (reference && same_text(reversal->reference, reference))
			return reversal;
	}
	return NULL;
}

/*
 * Claims from the grants of a purchase that is being completed what was paid
 * back before.
 */
void
reversals_claim(Posting *postings, int npostings, const Purchase *purchase,
				List *grants, Datum paid)
{
	List	   *reversals = read_reversals(purchase->id);
	int64		claimed;
	bool		closed;

	if (reversals != NIL)
		(void) clawbacks_claim(postings, npostings, reversals, grants, paid,
							   &claimed, &closed);
}

/* ------------------------------------------------------------------------
 * posting
 */

/*
 * Reads the grants of a purchase, and finds the accounts that they belong to,
 * the buyer's first.
 */
static Party *
reversals_find_parties(ReversalCall *call)
{
	Datum		value = PointerGetDatum(purchases_array(call->purchase.grant_ids));
	SqlResult  *result = statements_run(&find_grants, &value, NULL);
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

		CHECK_FOR_INTERRUPTS();
		grant->id = DatumGetInt64(statements_value(result, i, 1, &isnull));
		grant->account_id = DatumGetInt64(statements_value(result, i, 2, &isnull));
		grant->amount = DatumGetInt64(statements_value(result, i, 3, &isnull));
		call->grants = lappend(call->grants, grant);
		for (j = 0; j < call->nparties; j++)
			if (parties[j].id == grant->account_id)
				break;
		if (j == call->nparties)
			parties[call->nparties++].id = grant->account_id;
	}
	/* a payment that is only recorded has none */
	if (call->grants == NIL && call->purchase.status == PURCHASE_COMPLETED &&
		call->purchase.credits > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the grants of purchase " INT64_FORMAT " are missing",
						call->purchase.id),
				 errhint("Run credits_verify.")));
	return parties;
}

/*
 * Records a reversal, and announces it.
 */
static void
reversals_write(Posting *posting, void *arg)
{
	ReversalCall *call = arg;
	const Reversal *reversal = &call->reversal;
	JsonObject	detail;
	Datum		values[8];
	bool		isnull[8] = {false};

	values[0] = Int64GetDatum(call->purchase.id);
	values[1] = PointerGetDatum(reversal->reference);
	values[2] = CStringGetTextDatum(reversal_kind_names[reversal->kind]);
	values[3] = CStringGetTextDatum(reversal_status_names[reversal->status]);
	values[4] = reversal->money;
	values[5] = Int64GetDatum(reversal->credits);
	values[6] = PointerGetDatum(call->reason);
	isnull[6] = call->reason == NULL;
	values[7] = TimestampTzGetDatum(clock_now());
	(void) statements_run(&write_reversal, values, isnull);
	purchases_touch(call->purchase.id);

	json_begin(&detail);
	json_text(&detail, "reversal_reference", reversal->reference);
	purchases_event_money(&detail, "money", reversal->money);
	json_text(&detail, "currency", call->purchase.currency);
	json_int64(&detail, "claimed", call->claimed);
	json_int64(&detail, "balance", call->balance);
	json_int64(&detail, "debt", call->debt);
	purchases_event(reversal_event_kinds[reversal->status], &call->purchase,
					call->transaction_id, &detail);
	if (call->closed)
		purchases_event("reversal_undeliverable", &call->purchase, 0,
						&detail);
}

/*
 * Plans a reversal.
 */
static bool
plan_reversal(Posting *postings, void *arg)
{
	ReversalCall *call = arg;

	purchases_reread(call->purchase.id, &call->purchase);
	/* its grants may belong to accounts that we have not locked */
	call->again = call->purchase.status == PURCHASE_COMPLETED &&
		call->grants == NIL && call->purchase.credits > 0;
	if (call->again)
		return true;
	call->reversals = read_reversals(call->purchase.id);
	call->before = reversals_find(call->reversals, call->reversal.reference);
	call->replayed = false;
	if (!call->decide(call, &postings[0].refusal))
		return false;

	if (call->grants != NIL && !call->replayed)
	{
		List	   *after;
		Entry	   *first;
		int			i;

		after = list_copy(call->reversals);
		if (call->before)
			after = list_delete_ptr(after, call->before);
		after = lappend(after, &call->reversal);
		first = clawbacks_claim(postings, call->nparties, after, call->grants,
								call->purchase.money, &call->claimed,
								&call->closed);
		if (first)
			call->transaction_id = first->id;
		/* each account's transactions say what they are about */
		for (i = 0; first && i < call->nparties; i++)
		{
			int			j;

			for (j = 0; j < postings[i].nentries; j++)
			{
				Entry	   *entry = postings[i].entries[j];

				CHECK_FOR_INTERRUPTS();
				if (entry->kind == KIND_CLAWBACK ||
					entry->kind == KIND_REINSTATEMENT)
					log_describe_part(entry, &call->request);
			}
		}
	}
	call->account = cstring_to_text(rows_account_name(&postings[0].account));
	call->balance = postings[0].account.balance;
	call->debt = postings[0].account.debt;
	if (!call->replayed)
		posting_defer_statements(postings, reversals_write, call);
	return true;
}

/*
 * Posts a reversal.  Returns false, with the refusal filled in, if it is not
 * allowed.
 */
static bool
reversals_post(const char *function, ReversalCall *call, Refusal *refusal)
{
	do
	{
		Party	   *parties = reversals_find_parties(call);
		Receipt		receipt;

		call->request.reference = call->reversal.reference;
		call->request.reason = call->reason;
		if (!ledger_post_joint(function, parties, call->nparties, &call->request,
							   plan_reversal, call, &receipt, refusal))
			return false;
	} while (call->again);
	return true;
}

/* ------------------------------------------------------------------------
 * reports of payment providers
 */

/*
 * Adopts what a payment provider reports about a reversal.
 */
static bool
decide_set(ReversalCall *call, Refusal *refusal)
{
	const Reversal *before = call->before;
	Reversal   *reversal = &call->reversal;

	/* the money of such a row does not count; it need not be known */
	if (reversal->status == REVERSAL_WON ||
		reversal->status == REVERSAL_WITHDRAWN)
	{
		if (before && compare(reversal->money, number(0)) == 0)
			reversal->money = before->money;
	}
	/* a chargeback that was lost is not opened again by a late report */
	else if (before && before->status == REVERSAL_LOST)
		reversal->status = before->status;
	call->replayed = before &&
		before->status == reversal->status &&
		compare(before->money, reversal->money) == 0;
	return true;
}

/*
 * Sets how much of a purchase's money has been paid back under a reference.
 * Returns whether this changed anything.
 */
bool
reversals_set(int64 id, text *reference, ReversalStatus status, Datum money)
{
	ReversalCall call = {.decide = decide_set};
	Refusal		refusal;

	if (!purchases_find(NULL, id, &call.purchase))
		return false;
	call.reversal.reference = reference;
	call.reversal.kind = status == REVERSAL_MADE ||
		status == REVERSAL_WITHDRAWN ? REVERSAL_REFUND : REVERSAL_CHARGEBACK;
	call.reversal.status = status;
	call.reversal.money = money;
	if (!reversals_post("credits_refund_purchase()", &call, &refusal))
		raise_refusal(&refusal);
	return !call.replayed;
}

/* ------------------------------------------------------------------------
 * for SQL
 */

/*
 * Refuses to reverse a payment that is only recorded: what it paid for follows
 * from the payment provider's reports.
 */
bool
reversals_has_grants(const ReversalCall *call, Refusal *refusal)
{
	if (call->purchase.status != PURCHASE_COMPLETED ||
		call->purchase.credits > 0)
		return true;
	return refuse(refusal, ERRCODE_CONFLICT,
				  psprintf("purchase " INT64_FORMAT " gave no credits itself",
						   call->purchase.id),
				  psprintf("It records payment \"%s\", whose credits follow from what was billed.",
						   text_to_cstring(call->purchase.payment_reference)),
				  "Make refunds where it was paid: its credits follow from what is reported from there.");
}

/*
 * Begins to decide about a refund or chargeback that may be new.  Refuses if the
 * purchase is not completed, or the reference was used for something else.
 * Sets replayed if it is recorded already.
 */
bool
reversals_decide_new(ReversalCall *call, Refusal *refusal)
{
	const Reversal *before = call->before;
	Reversal   *reversal = &call->reversal;

	if (call->purchase.status != PURCHASE_COMPLETED)
		return refuse(refusal, ERRCODE_CONFLICT,
					  psprintf("purchase " INT64_FORMAT " is not completed",
							   call->purchase.id),
					  NULL, "Nothing was given for it yet.");
	if (!reversals_has_grants(call, refusal))
		return false;
	if (before == NULL)
		return true;
	if (before->kind != reversal->kind ||
		(!call->all && (compare(before->money, reversal->money) != 0 ||
						before->credits != reversal->credits)))
		return refuse(refusal, ERRCODE_CONFLICT,
					  psprintf("reference \"%s\" was used for another %s of purchase " INT64_FORMAT,
							   text_to_cstring(reversal->reference),
							   reversal_kind_names[before->kind],
							   call->purchase.id),
					  psprintf("That was for %s %s.",
							   DatumGetCString(DirectFunctionCall1(numeric_out,
																   before->money)),
							   text_to_cstring(call->purchase.currency)),
					  "Repeat a request with the very same arguments, or use a new reference.");
	*reversal = *before;
	call->replayed = true;
	return true;
}

/*
 * Refuses to pay back more than is left of what was paid.
 */
bool
reversals_refuse_too_much(const ReversalCall *call, Refusal *refusal,
						  Datum left)
{
	const Purchase *purchase = &call->purchase;

	return refuse(refusal, ERRCODE_CONFLICT,
				  psprintf(compare(left, number(0)) <= 0 ?
						   "purchase " INT64_FORMAT " is already refunded" :
						   "cannot pay back that much of purchase " INT64_FORMAT,
						   purchase->id),
				  psprintf("Of %s %s that were paid, %s can still be paid back.",
						   DatumGetCString(DirectFunctionCall1(numeric_out,
															   purchase->money)),
						   text_to_cstring(purchase->currency),
						   DatumGetCString(DirectFunctionCall1(numeric_out, left))),
				  "Pay what is left back, or leave out how much.");
}

/*
 * Reads an amount of money that is greater than zero; NULL means all of it.
 */
void
reversals_arg_money(FunctionCallInfo fcinfo, int n, ReversalCall *call)
{
	call->reversal.money = number(0);
	call->all = PG_ARGISNULL(n);
	if (call->all)
		return;
	call->reversal.money = arg_money(fcinfo, n, "money");
	if (compare(call->reversal.money, number(0)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("money must be greater than zero"),
				 errhint("Leave money out for all that is left.")));
}

/*
 * Makes a credits.clawback.
 */
static Datum
clawback_result(FunctionCallInfo fcinfo, const ReversalCall *call)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, 9);
	const Reversal *reversal = &call->reversal;
	Datum		values[9];
	bool		isnull[9] = {false};
	Datum		result;

	values[0] = Int64GetDatum(call->purchase.id);
	values[1] = PointerGetDatum(call->account);
	values[2] = PointerGetDatum(reversal->reference);
	values[3] = CStringGetTextDatum(reversal_status_names[reversal->status]);
	values[4] = reversal->money;
	/* only a completed purchase, which has grants, is refunded in credits */
	if (reversal->credits > 0)
		values[4] = clawbacks_worth(&call->purchase, reversal->credits,
									((PurchasedGrant *) linitial(call->grants))->amount);
	values[5] = Int64GetDatum(call->claimed);
	values[6] = Int64GetDatum(call->balance);
	values[7] = Int64GetDatum(call->debt);
	values[8] = BoolGetDatum(call->replayed);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Posts a reversal for an SQL function whose first argument is the purchase.
 */
Datum
reversals_call(FunctionCallInfo fcinfo, const char *function,
			   ReversalCall *call)
{
	int64		id = arg_id(fcinfo, 0, "purchase_id");
	Refusal		refusal;

	store_check_writable(function);
	purchases_get(id, &call->purchase);
	if (!reversals_post(function, call, &refusal))
		raise_refusal(&refusal);
	return clawback_result(fcinfo, call);
}
