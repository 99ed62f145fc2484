/*
 * purchases.c
 *	  Purchases: starting them, and ending those that are not paid.
 *
 * A purchase is a row of credits.purchases, which keeps the computation of its
 * price and the grants that it gives, so that what was offered is delivered,
 * whatever has become of the package since.  To start or complete a purchase
 * takes the account's row lock.  To fail or expire one does not: that updates
 * the row only if it is still pending.
 *
 * payments.c delivers what was paid, reversals.c takes it back.
 */
#include "credits.h"

#include "base/money.h"
#include "ledger/ledger.h"
#include "sell/packages.h"
#include "sell/purchases.h"
#include "store/statements.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_start_purchase);
PG_FUNCTION_INFO_V1(credits_fail_purchase);
PG_FUNCTION_INFO_V1(credits_expire_purchase);

static const char *const purchase_status_names[] =
{"pending", "completed", "failed", "expired"};

#define PURCHASE_COLUMNS \
	"SELECT id, account_id, reference, package, credits, promotion, " \
	"promotion_id, price, currency, quote, status, payment_reference, money, " \
	"grant_ids, transaction_id, problem, request, metadata, expires_at " \
	"FROM credits.purchases "

static SqlStatement find_by_id = {
	PURCHASE_COLUMNS "WHERE id = $1",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement lock_by_id = {
	PURCHASE_COLUMNS "WHERE id = $1 FOR NO KEY UPDATE",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement find_by_reference = {
	PURCHASE_COLUMNS "WHERE reference = $1",
	(const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement find_by_payment = {
	PURCHASE_COLUMNS "WHERE payment_reference = $1",
	(const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement find_by_key = {
	PURCHASE_COLUMNS "WHERE account_id = $1 AND idempotency_key = $2",
	(const Oid[]) {INT8OID, TEXTOID, InvalidOid}
};

/* inserts nothing if there is one with the same key */
static SqlStatement insert_purchase = {
	"INSERT INTO credits.purchases (id, account_id, reference, package, "
	"credits, promotion, promotion_id, price, currency, quote, status, "
	"idempotency_key, request, metadata, created_at, expires_at, role) "
	"SELECT i.id, $1, 'purchase_' || i.id, $2, $3, $4, $5, $6, $7, $8, "
	"'pending', $9, $10, $11, $12, $13, session_user "
	"FROM nextval('credits.purchases_id_seq') AS i (id) "
	"ON CONFLICT DO NOTHING RETURNING id",
	(const Oid[]) {INT8OID, TEXTOID, INT8OID, TEXTOID, INT8OID, NUMERICOID,
		TEXTOID, JSONBOID, TEXTOID, INT8OID, JSONBOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, InvalidOid}
};

/* inserts nothing if the payment is recorded */
static SqlStatement insert_record = {
	"INSERT INTO credits.purchases (id, account_id, reference, credits, "
	"price, currency, status, payment_reference, money, grant_ids, "
	"created_at, expires_at, completed_at, role) "
	"VALUES (nextval('credits.purchases_id_seq'), $1, $2, 0, $3, $4, "
	"'completed', $2, $3, '{}', $5, $5, $5, session_user) "
	"ON CONFLICT DO NOTHING RETURNING id",
	(const Oid[]) {INT8OID, TEXTOID, NUMERICOID, TEXTOID, TIMESTAMPTZOID,
	InvalidOid}
};

static SqlStatement touch_purchase = {
	"UPDATE credits.purchases SET id = id WHERE id = $1",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement end_purchase = {
	"UPDATE credits.purchases SET status = $2, reason = $3 "
	"WHERE id = $1 AND status = 'pending'",
	(const Oid[]) {INT8OID, TEXTOID, TEXTOID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * rows
 */

/*
 * Reads ids from an array, as pointers to int64.
 */
static List *
read_ids(Datum value)
{
	ArrayType  *array = DatumGetArrayTypeP(value);
	List	   *ids = NIL;
	Datum	   *elements;
	int			n;
	int			i;

	deconstruct_array(array, INT8OID, sizeof(int64), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, NULL, &n);
	for (i = 0; i < n; i++)
	{
		int64	   *id = palloc(sizeof(int64));

		*id = DatumGetInt64(elements[i]);
		ids = lappend(ids, id);
	}
	return ids;
}

/*
 * Makes an array of ids.
 */
ArrayType *
purchases_array(List *ids)
{
	Datum	   *elements = palloc((list_length(ids) + 1) * sizeof(Datum));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, ids)
		elements[n++] = Int64GetDatum(*(int64 *) lfirst(lc));
	return construct_array(elements, n, INT8OID, sizeof(int64),
						   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE);
}

/*
 * Reads the purchase that a statement found.  Returns false if it found none.
 */
static bool
read_purchase(const SqlResult *result, Purchase *purchase)
{
	bool		isnull;
	Datum		value;
	int			status;

	memset(purchase, 0, sizeof(Purchase));
	if (result->nrows == 0)
		return false;
#define VALUE(n) (value = statements_value(result, 0, n, &isnull))
#define TEXT_OR_NULL(n) (VALUE(n), isnull ? NULL : DatumGetTextPCopy(value))
	purchase->id = DatumGetInt64(VALUE(1));
	purchase->account_id = DatumGetInt64(VALUE(2));
	purchase->reference = TEXT_OR_NULL(3);
	purchase->package = TEXT_OR_NULL(4);
	purchase->credits = DatumGetInt64(VALUE(5));
	purchase->promotion = TEXT_OR_NULL(6);
	VALUE(7);
	purchase->promotion_id = isnull ? 0 : DatumGetInt64(value);
	purchase->price = VALUE(8);
	purchase->currency = TEXT_OR_NULL(9);
	VALUE(10);
	purchase->quote = isnull ? NULL : DatumGetJsonbPCopy(value);
	status = NAME_FIND(purchase_status_names, TextDatumGetCString(VALUE(11)));
	if (status < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("purchase " INT64_FORMAT " has an unknown status",
						purchase->id),
				 errhint("Run credits_verify.")));
	purchase->status = status;
	purchase->payment_reference = TEXT_OR_NULL(12);
	VALUE(13);
	purchase->money = isnull ? 0 : value;
	VALUE(14);
	purchase->grant_ids = isnull ? NIL : read_ids(value);
	VALUE(15);
	purchase->transaction_id = isnull ? 0 : DatumGetInt64(value);
	purchase->problem = TEXT_OR_NULL(16);
	VALUE(17);
	purchase->request = isnull ? 0 : DatumGetInt64(value);
	VALUE(18);
	purchase->metadata = isnull ? NULL : DatumGetJsonbPCopy(value);
	purchase->expires_at = DatumGetTimestampTz(VALUE(19));
#undef TEXT_OR_NULL
#undef VALUE
	return true;
}

/*
 * Finds a purchase by its reference or, without one, by id.
 */
bool
purchases_find(text *reference, int64 id, Purchase *purchase)
{
	Datum		value = reference ? PointerGetDatum(reference) :
		Int64GetDatum(id);

	return read_purchase(statements_run(reference ? &find_by_reference : &find_by_id,
										&value, NULL), purchase);
}

/*
 * Finds a completed purchase by the payment that paid for it.
 */
bool
purchases_find_payment(text *payment_reference, Purchase *purchase)
{
	Datum		value = PointerGetDatum(payment_reference);

	return read_purchase(statements_run(&find_by_payment, &value, NULL), purchase);
}

/*
 * Reads a purchase whose id a user has passed.
 */
void
purchases_get(int64 id, Purchase *purchase)
{
	if (!purchases_find(NULL, id, purchase))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("purchase " INT64_FORMAT " does not exist", id),
				 errhint("Pass the purchase_id that credits_start_purchase returned.")));
}

/*
 * Reads a purchase that was read before, as it is now.
 */
void
purchases_reread(int64 id, Purchase *purchase)
{
	/* purchases are never deleted */
	if (!purchases_find(NULL, id, purchase))
		elog(ERROR, "purchase " INT64_FORMAT " is gone", id);
}

/*
 * Locks the row of a purchase that was read before, and reads it as it is now.
 * Accounts must be locked before this.
 */
void
purchases_lock(int64 id, Purchase *purchase)
{
	Datum		value = Int64GetDatum(id);

	if (!read_purchase(statements_run(&lock_by_id, &value, NULL), purchase))
		elog(ERROR, "purchase " INT64_FORMAT " is gone", id);
}

/*
 * Writes the row of a purchase without a change, for what is recorded elsewhere
 * but decides what the purchase gives or has taken back: a transaction whose
 * snapshot does not show that fails when it comes to this row.
 */
void
purchases_touch(int64 id)
{
	Datum		value = Int64GetDatum(id);

	(void) statements_run(&touch_purchase, &value, NULL);
}

/* ------------------------------------------------------------------------
 * events
 */

/*
 * Appends an amount of money to an event: as a string, which keeps all digits
 * in any reader.
 */
void
purchases_event_money(JsonObject *json, const char *key, Datum money)
{
	json_cstring(json, key,
				 DatumGetCString(DirectFunctionCall1(numeric_out, money)));
}

/*
 * Records and announces an event of a purchase: its id and reference, and what
 * the caller adds.
 */
void
purchases_event(const char *kind, const Purchase *purchase,
				int64 transaction_id, JsonObject *detail)
{
	JsonObject	json;

	json_begin(&json);
	json_int64(&json, "purchase_id", purchase->id);
	json_text(&json, "reference", purchase->reference);
	if (detail)
		json_members(&json, detail);
	events_announce(kind, purchase->account_id, transaction_id, clock_now(),
					&json);
}

/* ------------------------------------------------------------------------
 * starting
 */

/*
 * Writes a purchase that is started.
 */
static void
write_start(Posting *posting, void *arg)
{
	PurchaseStart *start = arg;
	PriceQuote *quote = &start->quote;
	TimestampTz now = clock_now();
	Datum		values[13];
	bool		isnull[13] = {false};
	SqlResult  *result;
	bool		none;
	int64		id;

	values[0] = Int64GetDatum(quote->account_id);
	values[1] = PointerGetDatum(quote->package);
	isnull[1] = quote->package == NULL;
	values[2] = Int64GetDatum(quote->credits);
	values[3] = PointerGetDatum(quote->promotion);
	isnull[3] = quote->promotion == NULL;
	values[4] = Int64GetDatum(quote->promotion_id);
	isnull[4] = quote->promotion_id == 0;
	values[5] = quote->total;
	values[6] = PointerGetDatum(quote->currency);
	values[7] = JsonbPGetDatum(quote->computation);
	values[8] = PointerGetDatum(start->key);
	isnull[8] = start->key == NULL;
	values[9] = Int64GetDatum(start->request);
	isnull[9] = start->key == NULL;
	values[10] = JsonbPGetDatum(start->metadata);
	isnull[10] = start->metadata == NULL;
	values[11] = TimestampTzGetDatum(now);
	values[12] = TimestampTzGetDatum(clock_purchase_expiry(now));
	result = statements_run(&insert_purchase, values, isnull);
	/* one with the same key, which the transaction's snapshot does not show */
	if (result->nrows == 0)
		posting_raise_changed(quote->account_id);
	id = DatumGetInt64(statements_value(result, 0, 1, &none));
	/* waits for purchases that use it at the same time, and counts them */
	if (quote->promotion_id != 0)
		promotions_use(quote->promotion_id, quote->account_id, id, now, false);
	purchases_reread(id, &start->purchase);
}

/*
 * Plans the start of a purchase, on a posting that has the account locked.  The account
 * does not change, but its lock keeps a request with the same key from being started
 * twice.
 */
bool
purchases_plan_start(Posting *posting, void *arg)
{
	PurchaseStart *start = arg;

	if (start->key)
	{
		Datum		values[2] = {Int64GetDatum(posting->account.id),
		PointerGetDatum(start->key)};

		start->replayed = read_purchase(statements_run(&find_by_key, values, NULL),
										&start->purchase);
	}
	if (start->replayed)
	{
		if (start->purchase.request == start->request)
			return true;
		return refuse(&posting->refusal, ERRCODE_CONFLICT,
					  psprintf("idempotency key \"%s\" was used for another request",
							   text_to_cstring(start->key)),
					  psprintf("Account \"%s\" used it for purchase " INT64_FORMAT ".",
							   rows_account_name(&posting->account),
							   start->purchase.id),
					  "Repeat the request with the same arguments, or use a new key.");
	}
	if (!guards_not_closed(posting) ||
		!prices_quote(&posting->account, start->package, start->amount,
					  start->promotion, start->currency, posting->now,
					  &start->quote, &posting->refusal))
		return false;
	posting_defer_statements(posting, write_start, start);
	return true;
}

/*
 * Returns the metadata for a payment provider to hand back with what it reports.
 */
static Jsonb *
checkout_metadata(const PurchaseStart *start)
{
	const Purchase *purchase = &start->purchase;
	JsonObject	json;

	json_begin(&json);
	/* providers take texts only */
	json_cstring(&json, "purchase_id", psprintf(INT64_FORMAT, purchase->id));
	json_text(&json, "account", start->account);
	if (purchase->package)
		json_text(&json, "package", purchase->package);
	json_cstring(&json, "credits",
				 psprintf(INT64_FORMAT, purchase->credits));
	return json_document(&json);
}

/*
 * Sets the columns of a credits.checkout.
 */
void
purchases_checkout(const PurchaseStart *start, Datum *values, bool *isnull)
{
	const Purchase *purchase = &start->purchase;
	Refusal		refusal;
	int64		minor = 0;
	int64		at_stripe = 0;

	memset(isnull, 0, CHECKOUT_COLUMNS * sizeof(bool));
	isnull[7] = !money_to_minor(&refusal, purchase->price,
								money_exponent(purchase->currency),
								purchase->currency, &minor);
	values[0] = Int64GetDatum(purchase->id);
	values[1] = PointerGetDatum(start->account);
	values[2] = CStringGetTextDatum(purchase_status_names[purchase->status]);
	values[3] = PointerGetDatum(purchase->reference);
	values[4] = Int64GetDatum(purchase->credits);
	values[5] = purchase->price;
	values[6] = PointerGetDatum(purchase->currency);
	values[7] = Int64GetDatum(minor);
	isnull[8] = !money_to_stripe(purchase->price, purchase->currency,
								 &at_stripe);
	values[8] = Int64GetDatum(at_stripe);
	values[9] = TimestampTzGetDatum(purchase->expires_at);
	values[10] = JsonbPGetDatum(checkout_metadata(start));
	values[11] = BoolGetDatum(start->replayed);
}

/*
 * Makes a credits.checkout.
 */
static Datum
checkout_result(FunctionCallInfo fcinfo, const PurchaseStart *start)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, CHECKOUT_COLUMNS);
	Datum		values[CHECKOUT_COLUMNS];
	bool		isnull[CHECKOUT_COLUMNS];
	Datum		result;

	purchases_checkout(start, values, isnull);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Starts the purchase of a package or an amount of credits.
 */
Datum
credits_start_purchase(PG_FUNCTION_ARGS)
{
	PurchaseStart start = {0};
	Request		request = {0};
	StringInfoData f;
	Party		party = {0};
	Receipt		receipt;
	Refusal		refusal;

	party.name = start.account = arg_account(fcinfo, 0);
	start.package = arg_text(fcinfo, 1, "package", MAX_NAME_BYTES);
	if (!PG_ARGISNULL(2))
		start.amount = arg_amount(fcinfo, 2, "amount");
	start.key = arg_text(fcinfo, 3, "idempotency_key", MAX_NAME_BYTES);
	start.metadata = arg_metadata(fcinfo, 4);
	start.promotion = arg_text(fcinfo, 5, "promotion", MAX_NAME_BYTES);
	start.currency = arg_currency(fcinfo, 6);
	prices_check_choice(start.package != NULL, start.amount != 0);

	initStringInfo(&f);
	requests_add_text(&f, start.package);
	requests_add_int64(&f, start.amount != 0, start.amount);
	requests_add_text(&f, start.promotion);
	requests_add_text(&f, start.currency);
	start.request = chain_fingerprint(&f, NULL, 0);

	/* joint, which locks the account before planning */
	if (!ledger_post_joint("credits_start_purchase()", &party, 1, &request,
						   purchases_plan_start, &start, &receipt, &refusal))
		raise_refusal(&refusal);
	return checkout_result(fcinfo, &start);
}

/* ------------------------------------------------------------------------
 * ending without payment
 */

/*
 * Ends a purchase that is pending, and gives back its use of a promotion.
 * Returns false if it is not pending.
 */
static bool
end_pending(int64 id, PurchaseStatus status, text *reason, Purchase *purchase)
{
	Datum		values[3] = {Int64GetDatum(id),
		CStringGetTextDatum(purchase_status_names[status]), PointerGetDatum(reason)
	};
	bool		isnull[3] = {false, false, reason == NULL};

	if (statements_run(&end_purchase, values, isnull)->nrows == 0)
		return false;
	purchases_reread(id, purchase);
	if (purchase->promotion_id != 0)
		promotions_release(id, clock_now());
	return true;
}

/*
 * Records that a pending purchase was not paid.  Returns false if it is not
 * pending.
 */
bool
purchases_fail(int64 id, text *reason)
{
	Purchase	purchase;
	JsonObject	detail;

	if (!end_pending(id, PURCHASE_FAILED, reason, &purchase))
		return false;
	json_begin(&detail);
	if (reason)
		json_text(&detail, "reason", reason);
	purchases_event("purchase_failed", &purchase, 0, &detail);
	return true;
}

/*
 * Records that the checkout of a pending purchase has ended.  Returns false if
 * it is not pending.  There is no event for it: checkouts are abandoned all the
 * time.
 */
bool
purchases_expire(int64 id)
{
	Purchase	purchase;

	return end_pending(id, PURCHASE_EXPIRED, NULL, &purchase);
}

/*
 * Records that a pending purchase was not paid.
 */
Datum
credits_fail_purchase(PG_FUNCTION_ARGS)
{
	int64		id = arg_id(fcinfo, 0, "purchase_id");
	text	   *reason = arg_text(fcinfo, 1, "reason", MAX_REASON_BYTES);
	Purchase	purchase;

	store_check_writable("credits_fail_purchase()");
	purchases_get(id, &purchase);
	PG_RETURN_BOOL(purchases_fail(id, reason));
}

/*
 * Records that the checkout of a pending purchase has ended.
 */
Datum
credits_expire_purchase(PG_FUNCTION_ARGS)
{
	int64		id = arg_id(fcinfo, 0, "purchase_id");
	Purchase	purchase;

	store_check_writable("credits_expire_purchase()");
	purchases_get(id, &purchase);
	PG_RETURN_BOOL(purchases_expire(id));
}

/* ------------------------------------------------------------------------
 * recording
 */

/*
 * Records a payment whose credits follow from something else, so that what is
 * paid back of it can be recorded.  Returns the id of its purchase, which may
 * have been recorded before.
 */
int64
purchases_record(int64 account_id, text *payment_reference, Datum money,
				 text *currency)
{
	Datum		values[5];
	SqlResult  *result;
	Purchase	purchase;
	bool		isnull;

	if (purchases_find(payment_reference, 0, &purchase))
		return purchase.id;
	values[0] = Int64GetDatum(account_id);
	values[1] = PointerGetDatum(payment_reference);
	values[2] = money;
	values[3] = PointerGetDatum(currency);
	values[4] = TimestampTzGetDatum(clock_now());
	result = statements_run(&insert_record, values, NULL);
	if (result->nrows > 0)
		return DatumGetInt64(statements_value(result, 0, 1, &isnull));
	return purchases_find(payment_reference, 0, &purchase) ? purchase.id : 0;
}
