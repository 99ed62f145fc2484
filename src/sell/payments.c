/*
 * payments.c
 *	  Payments: delivering purchases that were paid.
 *
 * A payment that does not fit its purchase is an event and not an error: a
 * payment provider cannot correct it, and would report an error again for days.
 * What was paid is delivered, even if the purchase has failed or expired
 * meanwhile, the account is paused, or its maximum balance is exceeded.
 *
 * The use of a promotion is given back when a purchase fails or expires.  If it
 * is paid later and no use is left, it is delivered without the promotion: free
 * credits that came with it are not given, and money that the buyer paid less
 * for it buys as many credits as it does without.
 */
#include "credits.h"

#include "accounts/accounts.h"
#include "base/money.h"
#include "base/numeric.h"
#include "ledger/ledger.h"
#include "sell/packages.h"
#include "sell/purchases.h"
#include "sell/reversals.h"
#include "store/statements.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(credits_complete_purchase);

static const char *const outcome_names[] =
{"delivered", "replayed", "unknown", "underpaid", "wrong_currency",
"duplicate", "undeliverable"};

static SqlStatement complete_purchase = {
	"UPDATE credits.purchases SET status = 'completed', "
	"payment_reference = $2, money = $3, grant_ids = $4, "
	"transaction_id = $5, completed_at = $6, problem = NULL, credits = $7, "
	"promotion = CASE WHEN $8 THEN promotion END, "
	"promotion_id = CASE WHEN $8 THEN promotion_id END WHERE id = $1",
	(const Oid[]) {INT8OID, TEXTOID, NUMERICOID, INT8ARRAYOID, INT8OID,
	TIMESTAMPTZOID, INT8OID, BOOLOID, InvalidOid}
};

static SqlStatement note_problem = {
	"UPDATE credits.purchases SET problem = $2 "
	"WHERE id = $1 AND problem IS DISTINCT FROM $2",
	(const Oid[]) {INT8OID, TEXTOID, InvalidOid}
};

/* A payment for a purchase */
typedef struct Payment
{
	Purchase	purchase;
	text	   *payment_reference;
	Datum		money;			/* numeric */
	text	   *currency;
	Datum		price;			/* numeric: what has to be paid */
	bool		missed;			/* has the promotion no use left for it? */
	text	   *buyer;			/* name of the account */
	List	   *grants;			/* of QuoteGrant *, to be given */
	Party	   *parties;		/* the buyer first */
	int			nparties;
	Request		request;
	PaymentOutcome outcome;
	List	   *made;			/* of PurchasedGrant *, the one paid for first */
	int64		transaction_id;
} Payment;

/*
 * Returns the name of an outcome.
 */
const char *
payments_outcome_name(PaymentOutcome outcome)
{
	return outcome_names[outcome];
}

/*
 * Announces a problem with a payment, unless it was the last one announced.
 */
static void
announce_problem(const char *kind, const Payment *payment)
{
	const Purchase *purchase = &payment->purchase;
	Datum		values[2];
	JsonObject	detail;

	values[0] = Int64GetDatum(purchase->id);
	values[1] = CStringGetTextDatum(psprintf("%s %s", kind,
											 text_to_cstring(payment->payment_reference)));
	if (statements_run(&note_problem, values, NULL)->nrows == 0)
		return;
	json_begin(&detail);
	json_text(&detail, "payment_reference", payment->payment_reference);
	purchases_event_money(&detail, "money", payment->money);
	json_text(&detail, "currency", payment->currency);
	purchases_event_money(&detail, "price", payment->price);
	json_text(&detail, "price_currency", purchase->currency);
	purchases_event(kind, purchase, 0, &detail);
}

/*
 * Announces a payment for a purchase that does not exist.
 */
static void
announce_unknown(int64 id, text *payment_reference, Datum money,
				 text *currency)
{
	JsonObject	json;

	json_begin(&json);
	json_int64(&json, "purchase_id", id);
	json_text(&json, "payment_reference", payment_reference);
	purchases_event_money(&json, "money", money);
	json_text(&json, "currency", currency);
	events_announce("payment_unknown", 0, 0, clock_now(),
					&json);
}

/*
 * Returns the name of the account that buys.
 */
static text *
buyer_name(const Purchase *purchase)
{
	Account		account;

	if (!rows_find_account(NULL, store_snapshot(true), NULL,
						   purchase->account_id, &account))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the account of purchase " INT64_FORMAT " is missing",
						purchase->id),
				 errhint("Run credits_verify.")));
	return account.name;
}

/*
 * Returns which party a grant is for, -1 if it is none yet.
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
 * Finds the accounts that get the grants: the buyer's, and one for each other
 * unit, which is opened if necessary.
 */
static void
payments_find_parties(Payment *payment)
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
 * Plans to give one party its grants.
 */
static void
payments_give(Posting *posting, Payment *payment, int party)
{
	int			max = list_length(payment->grants);
	Draw	   *draws = palloc(max * sizeof(Draw));
	Grant	  **grants = palloc(max * sizeof(Grant *));
	int			n = 0;
	int64		amount = 0;
	JsonObject	json;
	Entry	   *entry;
	ListCell   *lc;
	int			i;

	json_begin(&json);
	foreach(lc, payment->grants)
	{
		QuoteGrant *quoted = lfirst(lc);
		PurchasedGrant *made;
		Grant	   *grant;

		CHECK_FOR_INTERRUPTS();
		/* without its promotion, a purchase may give none of some extra */
		if (party_of(payment, quoted) != party || quoted->credits == 0)
			continue;
		grant = grants_new(posting, quoted->credits, quoted->source,
						   posting->now, quoted->expires_in ?
						   clock_after(posting->now, quoted->expires_in) :
						   DT_NOEND);
		grant->priority = quoted->priority;
		grant->price = quoted->price ? quoted->price : number(0);
		/* what was paid above the price was paid for the first */
		if (quoted == linitial(payment->grants))
			grant->price = add(grant->price,
							   subtract(payment->money,
										payment->purchase.price));
		grant->currency = payment->purchase.currency;
		grants_add_terms(&json, grant);
		draws[n] = DRAW(grant->id, grant->amount);
		grants[n++] = grant;
		amount += grant->amount;

		made = palloc(sizeof(PurchasedGrant));
		made->id = grant->id;
		made->account_id = posting->account.id;
		made->amount = grant->amount;
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
 * Records that a purchase is completed, and announces it.
 */
static void
write_complete(Posting *posting, void *arg)
{
	Payment    *payment = arg;
	Purchase   *purchase = &payment->purchase;
	TimestampTz now = clock_now();
	const QuoteGrant *main = linitial(payment->grants);
	List	   *ids = NIL;
	JsonObject	detail;
	Datum		values[8];
	ListCell   *lc;

	foreach(lc, payment->made)
		ids = lappend(ids, &((PurchasedGrant *) lfirst(lc))->id);
	values[0] = Int64GetDatum(purchase->id);
	values[1] = PointerGetDatum(payment->payment_reference);
	values[2] = payment->money;
	values[3] = PointerGetDatum(purchases_array(ids));
	values[4] = Int64GetDatum(payment->transaction_id);
	values[5] = TimestampTzGetDatum(now);
	values[6] = Int64GetDatum(main->credits);
	values[7] = BoolGetDatum(!payment->missed);
	(void) statements_run(&complete_purchase, values, NULL);
	/* the use was given back when the purchase failed or expired */
	if (purchase->promotion_id != 0 && purchase->status != PURCHASE_PENDING &&
		!payment->missed)
		promotions_use(purchase->promotion_id, purchase->account_id,
					   purchase->id, now, true);

	json_begin(&detail);
	json_int64(&detail, "credits", main->credits);
	purchases_event_money(&detail, "money", payment->money);
	json_text(&detail, "currency", purchase->currency);
	json_text(&detail, "payment_reference", payment->payment_reference);
	if (purchase->package)
		json_text(&detail, "package", purchase->package);
	purchases_event("purchase_completed", purchase, payment->transaction_id,
					&detail);
	if (payment->missed)
	{
		json_begin(&detail);
		json_text(&detail, "promotion", purchase->promotion);
		json_text(&detail, "payment_reference", payment->payment_reference);
		purchases_event_money(&detail, "money", payment->money);
		purchases_event_money(&detail, "price", payment->price);
		json_text(&detail, "currency", purchase->currency);
		json_int64(&detail, "credits", main->credits);
		json_int64(&detail, "offered", purchase->credits);
		purchases_event("promotion_missed", purchase,
						payment->transaction_id, &detail);
	}
	if (compare(payment->money, payment->price) > 0)
	{
		json_begin(&detail);
		json_text(&detail, "payment_reference", payment->payment_reference);
		purchases_event_money(&detail, "money", payment->money);
		purchases_event_money(&detail, "price", payment->price);
		json_text(&detail, "currency", purchase->currency);
		purchases_event("purchase_overpaid", purchase,
						payment->transaction_id, &detail);
	}
}

/*
 * Records that a payment came for a purchase of a closed account.
 */
static void
write_undeliverable(Posting *posting, void *arg)
{
	announce_problem("purchase_undeliverable", arg);
}

/*
 * Records that a payment buys nothing without the purchase's promotion.
 */
static void
write_underpaid(Posting *posting, void *arg)
{
	announce_problem("purchase_underpaid", arg);
}

/*
 * Reduces what a purchase gives to what was paid for without its promotion.
 */
static void
without_promotion(Payment *payment)
{
	const Purchase *purchase = &payment->purchase;
	Jsonb	   *quote = purchase->quote;
	List	   *grants = NIL;
	ListCell   *lc;

	payment->price = money_round(subtract(packages_money(quote, "subtotal"),
										  packages_money(quote, "volume_discount")),
								 Max(money_exponent(purchase->currency), 0));
	/* anew: a plan may be made more than once */
	foreach(lc, packages_grants(quote, payment->buyer))
	{
		QuoteGrant *grant = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (grant->part == PART_PROMOTION)
			continue;
		if (compare(payment->money, payment->price) < 0)
			grant->credits = DatumGetInt64(DirectFunctionCall1(numeric_int8,
															   divide(multiply(number(grant->credits),
																			   payment->money),
																	  payment->price, false)));
		grants = lappend(grants, grant);
	}
	payment->grants = grants;
}

/*
 * Plans the delivery of a purchase.
 */
static bool
plan_complete(Posting *postings, void *arg)
{
	Payment    *payment = arg;
	int			i;

	/*
	 * Another payment may have come before we got the locks.  The row is
	 * locked, too, because a purchase fails or expires without the account's
	 * lock: its use of a promotion is counted again if it has been given
	 * back.
	 */
	purchases_lock(payment->purchase.id, &payment->purchase);
	if (payment->purchase.status == PURCHASE_COMPLETED)
	{
		payment->outcome = PAYMENT_REPLAYED;
		return true;
	}
	for (i = 0; i < payment->nparties; i++)
		if (postings[i].account.status == ACCOUNT_CLOSED)
		{
			payment->outcome = PAYMENT_UNDELIVERABLE;
			posting_defer_statements(postings, write_undeliverable, payment);
			return true;
		}
	payment->missed = payment->purchase.promotion_id != 0 &&
		payment->purchase.status != PURCHASE_PENDING &&
		!promotions_left(payment->purchase.promotion_id,
						 payment->purchase.account_id);
	if (payment->missed)
		without_promotion(payment);
	if (((QuoteGrant *) linitial(payment->grants))->credits == 0)
	{
		payment->outcome = PAYMENT_UNDERPAID;
		posting_defer_statements(postings, write_underpaid, payment);
		return true;
	}
	payment->outcome = PAYMENT_DELIVERED;
	payment->made = NIL;
	for (i = 0; i < payment->nparties; i++)
		payments_give(&postings[i], payment, i);
	/* refunds and chargebacks may become known before the payment does */
	reversals_claim(postings, payment->nparties, &payment->purchase,
					payment->made, payment->money);
	posting_defer_statements(postings, write_complete, payment);
	return true;
}

/*
 * Makes the receipt of a purchase that was delivered before.
 */
static void
payments_first_receipt(const Purchase *purchase, Receipt *receipt)
{
	Posting		posting = {0};
	Entry		entry;

	PushActiveSnapshot(store_snapshot(true));
	posting.snapshot = GetActiveSnapshot();
	if (!rows_find_entry(NULL, posting.snapshot, purchase->transaction_id,
						 &entry))
		anchors_check(purchase->transaction_id);
	if (!rows_find_entry(NULL, posting.snapshot, purchase->transaction_id,
						 &entry) ||
		!rows_find_account(NULL, posting.snapshot, NULL, purchase->account_id,
						   &posting.account))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the transaction of purchase " INT64_FORMAT " is missing",
						purchase->id),
				 errhint("Run credits_verify.")));
	receipts_replayed(receipt, &posting, &entry);
	PopActiveSnapshot();
}

/*
 * Answers a payment that something else was given for, or for what something
 * else was paid.
 */
static PaymentOutcome
duplicate(const Payment *payment)
{
	announce_problem("payment_duplicate", payment);
	return PAYMENT_DUPLICATE;
}

/*
 * Answers a payment for a purchase that is completed: either it is the one that
 * completed it, or the purchase was paid twice.
 */
static PaymentOutcome
replay(const Payment *payment, Receipt *receipt)
{
	const Purchase *purchase = &payment->purchase;

	payments_first_receipt(purchase, receipt);
	if (purchase->payment_reference &&
		same_text(purchase->payment_reference, payment->payment_reference))
		return PAYMENT_REPLAYED;
	return duplicate(payment);
}

/* The arguments of post_delivery */
typedef struct Delivery
{
	Payment    *payment;
	Receipt    *receipt;
} Delivery;

/*
 * Posts the delivery of a purchase.
 */
static void
post_delivery(void *arg)
{
	Delivery   *delivery = arg;
	Payment    *payment = delivery->payment;
	Refusal		refusal;

	if (!ledger_post_joint("credits_complete_purchase()", payment->parties,
						   payment->nparties, &payment->request,
						   plan_complete, payment, delivery->receipt,
						   &refusal))
		raise_refusal(&refusal);
}

/*
 * Posts the delivery of a purchase.  Returns false, with nothing done, if another
 * transaction has used its payment for another purchase: only the unique index
 * on payments can tell, since each purchase is guarded by its own account.
 */
static bool
post_alone(Payment *payment, Receipt *receipt)
{
	Delivery	delivery = {payment, receipt};
	ErrorData  *error = catch_error(post_delivery, &delivery);

	if (error && (error->sqlerrcode != ERRCODE_UNIQUE_VIOLATION ||
				  error->constraint_name == NULL ||
				  strcmp(error->constraint_name,
						 "purchases_payment_reference_idx") != 0))
		ReThrowError(error);
	return error == NULL;
}

/*
 * Delivers a purchase that was paid, once.
 */
PaymentOutcome
payments_complete(int64 id, text *payment_reference, Datum money,
				  text *currency, Receipt *receipt)
{
	Payment		payment = {.payment_reference = payment_reference,.money = money};
	Purchase   *purchase = &payment.purchase;
	Purchase	other;

	if (!purchases_find(NULL, id, purchase))
	{
		announce_unknown(id, payment_reference, money, currency);
		return PAYMENT_UNKNOWN;
	}
	payment.currency = currency ? currency : purchase->currency;
	payment.price = purchase->price;
	if (purchase->status == PURCHASE_COMPLETED)
		return replay(&payment, receipt);
	if (purchases_find_payment(payment_reference, &other))
	{
		/* it may have been completed since we have read it */
		if (other.id != id)
			return duplicate(&payment);
		*purchase = other;
		return replay(&payment, receipt);
	}
	if (!same_text(purchase->currency, payment.currency))
	{
		announce_problem("purchase_underpaid", &payment);
		return PAYMENT_WRONG_CURRENCY;
	}
	if (compare(money, purchase->price) < 0)
	{
		announce_problem("purchase_underpaid", &payment);
		return PAYMENT_UNDERPAID;
	}

	payment.request.reference = purchase->reference;
	payment.buyer = buyer_name(purchase);
	payment.grants = packages_grants(purchase->quote, payment.buyer);
	payments_find_parties(&payment);
	if (!post_alone(&payment, receipt))
	{
		/* what has paid for another purchase meanwhile is no news to us */
		if (!purchases_find_payment(payment_reference, &other))
			posting_raise_changed(purchase->account_id);
		return duplicate(&payment);
	}
	if (payment.outcome == PAYMENT_REPLAYED)
		return replay(&payment, receipt);
	return payment.outcome;
}

/*
 * Makes a credits.payment.
 */
static Datum
payment_result(FunctionCallInfo fcinfo, int64 id, PaymentOutcome outcome,
			   const Receipt *receipt)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, 3);
	TupleDesc	receipt_desc =
		lookup_rowtype_tupdesc(TupleDescAttr(tupdesc, 2)->atttypid, -1);
	Datum		values[3];
	bool		isnull[3] = {false};
	Datum		result;

	values[0] = CStringGetTextDatum(payments_outcome_name(outcome));
	values[1] = Int64GetDatum(id);
	isnull[2] = receipt->transaction_id == 0;
	if (!isnull[2])
		values[2] = receipts_datum(receipt_desc, receipt);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(receipt_desc);
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Delivers a purchase that was paid.
 */
Datum
credits_complete_purchase(PG_FUNCTION_ARGS)
{
	int64		id = arg_id(fcinfo, 0, "purchase_id");
	text	   *payment_reference = arg_name(fcinfo, 1, "payment_reference");
	Datum		money = arg_money(fcinfo, 2, "money");
	text	   *currency = arg_currency(fcinfo, 3);
	Receipt		receipt = {0};
	PaymentOutcome outcome;

	store_check_writable("credits_complete_purchase()");
	outcome = payments_complete(id, payment_reference, money, currency,
								&receipt);
	return payment_result(fcinfo, id, outcome, &receipt);
}
