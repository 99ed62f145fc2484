/*
 * payments.c
 *	  Delivering purchases that were paid.
 *
 * Whoever reports a payment can do nothing about one that does not fit, and
 * would report it again for days if it were an error: it is an event.  But
 * money that was paid is delivered: also if the purchase had failed or expired
 * before, the account is paused, or its highest balance is exceeded.
 */
#include "credits.h"

#include "accounts.h"
#include "money.h"
#include "numbers.h"
#include "packages.h"
#include "purchases.h"
#include "sql.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(credits_purchase_complete);

static const char *const outcome_names[] =
{"delivered", "replayed", "unknown", "underpaid", "wrong_currency",
"duplicate", "undeliverable"};

static SqlStatement complete_purchase = {
	"UPDATE credits.purchases SET status = 'completed', "
	"payment_reference = $2, paid = $3, grant_ids = $4, "
	"transaction_id = $5, completed_at = $6, problem = NULL WHERE id = $1",
	(const Oid[]) {INT8OID, TEXTOID, NUMERICOID, INT8ARRAYOID, INT8OID,
	TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement note_problem = {
	"UPDATE credits.purchases SET problem = $2 "
	"WHERE id = $1 AND problem IS DISTINCT FROM $2",
	(const Oid[]) {INT8OID, TEXTOID, InvalidOid}
};

/* A payment that is to be honoured */
typedef struct Payment
{
	Purchase	purchase;
	text	   *payment_reference;
	Datum		paid;
	List	   *grants;			/* of QuoteGrant *, to be given */
	Party	   *parties;		/* the buyer first */
	int			nparties;
	Request		request;
	PaymentOutcome outcome;
	List	   *made;			/* of PurchasedGrant *, the main one first */
	int64		transaction_id;
} Payment;

/*
 * Returns what an outcome is called.
 */
const char *
purchases_outcome_name(PaymentOutcome outcome)
{
	return outcome_names[outcome];
}

/*
 * Announces what is wrong with a payment, unless that was done before.
 */
static void
announce_problem(const char *kind, const Purchase *purchase,
				 text *payment_reference, Datum paid, text *currency)
{
	Datum		values[2];
	StringInfoData detail;

	values[0] = Int64GetDatum(purchase->id);
	values[1] = CStringGetTextDatum(psprintf("%s %s", kind,
											 text_to_cstring(payment_reference)));
	if (sql_run(&note_problem, values, NULL)->nrows == 0)
		return;
	initStringInfo(&detail);
	json_text(&detail, "payment_reference", payment_reference);
	purchases_event_money(&detail, "paid", paid);
	json_text(&detail, "currency", currency);
	purchases_event_money(&detail, "price", purchase->price);
	json_text(&detail, "price_currency", purchase->currency);
	purchases_event(kind, purchase, 0, &detail);
}

/*
 * Announces a payment for what nobody knows.
 */
static void
announce_unknown(int64 id, text *payment_reference, Datum paid,
				 text *currency)
{
	StringInfoData json;

	initStringInfo(&json);
	json_int64(&json, "purchase_id", id);
	json_text(&json, "payment_reference", payment_reference);
	purchases_event_money(&json, "paid", paid);
	json_text(&json, "currency", currency);
	alerts_announce("payment_unknown", 0, 0, clock_now(),
					json_document(&json));
}

/*
 * Returns the name of the account that buys.
 */
static text *
buyer_name(const Purchase *purchase)
{
	Account		account;

	if (!row_find_account(NULL, store_snapshot(true), NULL,
						  purchase->account_id, &account))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the account of purchase " INT64_FORMAT " is missing",
						purchase->id),
				 errhint("Run credits_verify.")));
	return DatumGetTextPCopy(account.values[Anum_accounts_name - 1]);
}

/*
 * Returns which party a grant is for.
 */
static int
party_of(Payment *payment, const QuoteGrant *grant)
{
	int			i;

	if (grant->buyer)
		return 0;
	for (i = 1; i < payment->nparties; i++)
		if (same_text(payment->parties[i].name, grant->account))
			return i;
	return -1;
}

/*
 * Finds who gets the grants: the buyer, and an account for each other unit,
 * which is opened if need be.
 */
static void
find_parties(Payment *payment)
{
	ListCell   *lc;
	Receipt		receipt;

	payment->parties = palloc0((list_length(payment->grants) + 1) *
							   sizeof(Party));
	payment->parties[0].id = payment->purchase.account_id;
	payment->nparties = 1;
	foreach(lc, payment->grants)
	{
		QuoteGrant *grant = lfirst(lc);

		if (party_of(payment, grant) >= 0)
			continue;
		accounts_open(grant->account, 0, grant->unit, NULL, &receipt);
		payment->parties[payment->nparties++].name = grant->account;
	}
}

/*
 * Returns what is paid for a grant: what was paid too much is paid for the
 * first.
 */
static Datum
price_of(const Payment *payment, const QuoteGrant *grant)
{
	Datum		price = grant->price ? grant->price : number(0);

	if (grant != linitial(payment->grants))
		return price;
	return add(price, subtract(payment->paid, payment->purchase.price));
}

/*
 * Plans to give one party its grants.
 */
static void
give(Posting *posting, Payment *payment, int party)
{
	int			max = list_length(payment->grants);
	Draw	   *draws = palloc(max * sizeof(Draw));
	Grant	  **grants = palloc(max * sizeof(Grant *));
	int			n = 0;
	int64		amount = 0;
	StringInfoData json;
	Entry	   *entry;
	ListCell   *lc;
	int			i;

	initStringInfo(&json);
	foreach(lc, payment->grants)
	{
		QuoteGrant *quoted = lfirst(lc);
		PurchasedGrant *made;
		Grant	   *grant;

		if (party_of(payment, quoted) != party)
			continue;
		grant = grants_new(posting, quoted->credits, quoted->source,
						   posting->now, quoted->expires_in ?
						   clock_after(posting->now, quoted->expires_in) :
						   DT_NOEND);
		grant->priority = quoted->priority;
		grant->price = price_of(payment, quoted);
		grant->currency = payment->purchase.currency;
		grants_add_terms(&json, grant);
		draws[n] = (Draw) {grant->id, grant->amount};
		grants[n++] = grant;
		amount += grant->amount;

		made = palloc(sizeof(PurchasedGrant));
		*made = (PurchasedGrant) {grant->id, posting->account.id,
			grant->amount
		};
		payment->made = lappend(payment->made, made);
	}
	if (n == 0)
		return;
	entry = log_add(posting, KIND_ALLOCATION, posting->now, amount, draws, n);
	entry->terms = json_document(&json);
	for (i = 0; i < n; i++)
		grants[i]->transaction_id = entry->id;
	if (party == 0)
	{
		posting->main = entry;
		payment->transaction_id = entry->id;
	}
	else
	{
		entry->has_target = true;
		entry->target_id = payment->transaction_id;
		log_describe_part(entry, &payment->request);
	}
}

/*
 * Plans to deliver a purchase.
 */
static bool
plan_complete(Posting *postings, void *arg)
{
	Payment    *payment = arg;
	Purchase	latest;
	int64		claimed;
	int			i;

	if (!purchases_find(NULL, payment->purchase.id, &latest))
		elog(ERROR, "purchase " INT64_FORMAT " is not there",
			 payment->purchase.id);
	payment->purchase = latest;
	if (latest.status == PURCHASE_COMPLETED)
	{
		payment->outcome = PAYMENT_REPLAYED;
		return true;
	}
	for (i = 0; i < payment->nparties; i++)
		if (postings[i].account.status == ACCOUNT_CLOSED)
		{
			payment->outcome = PAYMENT_UNDELIVERABLE;
			return true;
		}
	payment->outcome = PAYMENT_DELIVERED;
	payment->made = NIL;
	for (i = 0; i < payment->nparties; i++)
		give(&postings[i], payment, i);
	/* money that went back before this was known */
	(void) reversals_claim(postings, payment->nparties, &payment->purchase,
						   payment->made, payment->paid, &claimed);
	return true;
}

/*
 * Writes that a purchase is completed, and tells.
 */
static void
write_complete(Payment *payment)
{
	Purchase   *purchase = &payment->purchase;
	TimestampTz now = clock_now();
	List	   *ids = NIL;
	StringInfoData detail;
	Datum		values[6];
	ListCell   *lc;

	foreach(lc, payment->made)
		ids = lappend(ids, &((PurchasedGrant *) lfirst(lc))->id);
	values[0] = Int64GetDatum(purchase->id);
	values[1] = PointerGetDatum(payment->payment_reference);
	values[2] = payment->paid;
	values[3] = PointerGetDatum(purchases_array(ids));
	values[4] = Int64GetDatum(payment->transaction_id);
	values[5] = TimestampTzGetDatum(now);
	(void) sql_run(&complete_purchase, values, NULL);
	/* it was given back when the purchase failed or expired */
	if (purchase->promotion_id != 0 && purchase->status != PURCHASE_PENDING)
		promotions_use(purchase->promotion_id, purchase->account_id,
					   purchase->id, now, true);

	initStringInfo(&detail);
	json_int64(&detail, "credits", purchase->credits);
	purchases_event_money(&detail, "paid", payment->paid);
	json_text(&detail, "currency", purchase->currency);
	json_text(&detail, "payment_reference", payment->payment_reference);
	if (purchase->package)
		json_text(&detail, "package", purchase->package);
	purchases_event("purchase_completed", purchase, payment->transaction_id,
					&detail);
	if (compare(payment->paid, purchase->price) > 0)
	{
		resetStringInfo(&detail);
		json_text(&detail, "payment_reference", payment->payment_reference);
		purchases_event_money(&detail, "paid", payment->paid);
		purchases_event_money(&detail, "price", purchase->price);
		json_text(&detail, "currency", purchase->currency);
		purchases_event("purchase_overpaid", purchase,
						payment->transaction_id, &detail);
	}
}

/*
 * Makes the receipt of a purchase that was delivered before.
 */
static void
first_receipt(const Purchase *purchase, Receipt *receipt)
{
	Posting		posting = {0};
	Entry		entry;

	PushActiveSnapshot(store_snapshot(true));
	posting.snapshot = GetActiveSnapshot();
	if (!row_find_entry(NULL, posting.snapshot, purchase->transaction_id,
						&entry) ||
		!row_find_account(NULL, posting.snapshot, NULL, purchase->account_id,
						  &posting.account))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the transaction of purchase " INT64_FORMAT " is missing",
						purchase->id),
				 errhint("Run credits_verify.")));
	receipt_replayed(receipt, &posting, &entry);
	PopActiveSnapshot();
}

/*
 * Answers a payment for a purchase that is completed: it was paid once more,
 * unless it is the payment that completed it.
 */
static PaymentOutcome
replay(const Purchase *purchase, text *payment_reference, Datum paid,
	   text *currency, Receipt *receipt)
{
	first_receipt(purchase, receipt);
	if (purchase->payment_reference &&
		same_text(purchase->payment_reference, payment_reference))
		return PAYMENT_REPLAYED;
	announce_problem("payment_duplicate", purchase, payment_reference, paid,
					 currency);
	return PAYMENT_DUPLICATE;
}

/*
 * Delivers a purchase that was paid, once.
 */
PaymentOutcome
purchases_complete(int64 id, text *payment_reference, Datum paid,
				   text *currency, Receipt *receipt)
{
	Payment		payment = {0};
	Purchase   *purchase = &payment.purchase;
	Purchase	other;
	Refusal		refusal;

	if (!purchases_find(NULL, id, purchase))
	{
		announce_unknown(id, payment_reference, paid, currency);
		return PAYMENT_UNKNOWN;
	}
	if (currency == NULL)
		currency = purchase->currency;
	if (purchase->status == PURCHASE_COMPLETED)
		return replay(purchase, payment_reference, paid, currency, receipt);
	if (purchases_find_payment(payment_reference, &other))
	{
		announce_problem("payment_duplicate", purchase, payment_reference,
						 paid, currency);
		return PAYMENT_DUPLICATE;
	}
	if (!same_text(purchase->currency, currency))
	{
		announce_problem("purchase_underpaid", purchase, payment_reference,
						 paid, currency);
		return PAYMENT_WRONG_CURRENCY;
	}
	if (compare(paid, purchase->price) < 0)
	{
		announce_problem("purchase_underpaid", purchase, payment_reference,
						 paid, currency);
		return PAYMENT_UNDERPAID;
	}

	payment.payment_reference = payment_reference;
	payment.paid = paid;
	payment.request.reference = purchase->reference;
	payment.grants = packages_grants(purchase->quote, buyer_name(purchase));
	find_parties(&payment);
	if (!ledger_post_joint("credits_purchase_complete()", payment.parties,
						   payment.nparties, &payment.request, plan_complete,
						   &payment, receipt, &refusal))
		raise_refusal(&refusal);
	if (payment.outcome == PAYMENT_REPLAYED)
		return replay(purchase, payment_reference, paid, currency, receipt);
	if (payment.outcome == PAYMENT_UNDELIVERABLE)
		announce_problem("purchase_undeliverable", purchase,
						 payment_reference, paid, currency);
	else
		write_complete(&payment);
	return payment.outcome;
}

/*
 * Makes a credits.payment.
 */
static Datum
payment_result(FunctionCallInfo fcinfo, int64 id, PaymentOutcome outcome,
			   const Receipt *receipt)
{
	TupleDesc	tupdesc = result_tupdesc(fcinfo);
	TupleDesc	receipt_desc =
		lookup_rowtype_tupdesc(TupleDescAttr(tupdesc, 2)->atttypid, -1);
	Datum		values[3];
	bool		isnull[3] = {false};
	Datum		result;

	values[0] = CStringGetTextDatum(purchases_outcome_name(outcome));
	values[1] = Int64GetDatum(id);
	isnull[2] = receipt->transaction_id == 0;
	if (!isnull[2])
		values[2] = receipt_datum(receipt_desc, receipt);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(receipt_desc);
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Delivers a purchase that was paid.
 */
Datum
credits_purchase_complete(PG_FUNCTION_ARGS)
{
	int64		id = arg_id(fcinfo, 0, "purchase");
	text	   *payment_reference = arg_name(fcinfo, 1, "payment_reference");
	Datum		paid = arg_money(fcinfo, 2, "paid");
	text	   *currency = arg_currency(fcinfo, 3);
	Receipt		receipt = {0};
	PaymentOutcome outcome;

	store_check_writable("credits_purchase_complete()");
	outcome = purchases_complete(id, payment_reference, paid, currency,
								 &receipt);
	return payment_result(fcinfo, id, outcome, &receipt);
}
