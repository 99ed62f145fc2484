/*
 * purchases.c
 *	  Purchases: starting them, and what becomes of those that are not paid.
 *
 * A purchase is a row of credits.purchases, which keeps the computation of its
 * price and the grants that it gives: what was offered is delivered, whatever
 * has become of the package since.  The account's row lock guards the row of
 * a purchase that is started or completed; failing and expiring change a row
 * only if it is still pending.
 */
#include "credits.h"

#include "money.h"
#include "packages.h"
#include "purchases.h"
#include "sql.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_purchase_start);
PG_FUNCTION_INFO_V1(credits_purchase_fail);
PG_FUNCTION_INFO_V1(credits_purchase_expire);

static const char *const status_names[] =
{"pending", "completed", "failed", "expired"};

#define PURCHASE_COLUMNS \
	"SELECT id, account_id, reference, package, credits, promotion, " \
	"promotion_id, price, currency, quote, status, payment_reference, paid, " \
	"grant_ids, transaction_id, problem, request, metadata, expires_at " \
	"FROM credits.purchases "

static SqlStatement find_by_id = {
	PURCHASE_COLUMNS "WHERE id = $1",
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

static SqlStatement insert_purchase = {
	"INSERT INTO credits.purchases (id, account_id, reference, package, "
	"credits, promotion, promotion_id, price, currency, quote, status, "
	"idempotency_key, request, metadata, created_at, expires_at, role) "
	"SELECT i.id, $1, 'purchase_' || i.id, $2, $3, $4, $5, $6, $7, $8, "
	"'pending', $9, $10, $11, $12, $13, $14 "
	"FROM nextval('credits.purchases_id_seq') AS i (id) "
	"RETURNING id",
	(const Oid[]) {INT8OID, TEXTOID, INT8OID, TEXTOID, INT8OID, NUMERICOID,
		TEXTOID, JSONBOID, TEXTOID, INT8OID, JSONBOID, TIMESTAMPTZOID,
	TIMESTAMPTZOID, TEXTOID, InvalidOid}
};

static SqlStatement insert_record = {
	"INSERT INTO credits.purchases (id, account_id, reference, credits, "
	"price, currency, status, payment_reference, paid, grant_ids, "
	"transaction_id, created_at, expires_at, completed_at, role) "
	"SELECT nextval('credits.purchases_id_seq'), $1, $2, "
	"sum(g.amount), $3, $4, 'completed', $2, $3, $5, "
	"min(g.transaction_id), $6, $6, $6, $7 "
	"FROM credits.grants AS g WHERE g.id = ANY ($5) "
	"HAVING count(*) = cardinality($5) "
	"AND bool_and(g.account_id = $1) "
	"ON CONFLICT DO NOTHING RETURNING id",
	(const Oid[]) {INT8OID, TEXTOID, NUMERICOID, TEXTOID, INT8ARRAYOID,
	TIMESTAMPTZOID, TEXTOID, InvalidOid}
};

static SqlStatement end_purchase = {
	"UPDATE credits.purchases SET status = $2, reason = $3 "
	"WHERE id = $1 AND status = 'pending' RETURNING account_id",
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
 * Reads the purchase that a statement found, if it found one.
 */
static bool
read_purchase(const SqlResult *result, Purchase *purchase)
{
	bool		isnull;
	Datum		value;
	char	   *status;

	memset(purchase, 0, sizeof(Purchase));
	if (result->nrows == 0)
		return false;
#define VALUE(n) (value = sql_value(result, 0, n, &isnull))
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
	status = TextDatumGetCString(VALUE(11));
	for (purchase->status = PURCHASE_EXPIRED;
		 purchase->status > PURCHASE_UNKNOWN; purchase->status--)
		if (strcmp(status_names[purchase->status], status) == 0)
			break;
	purchase->payment_reference = TEXT_OR_NULL(12);
	VALUE(13);
	purchase->paid = isnull ? 0 : value;
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

	return read_purchase(sql_run(reference ? &find_by_reference : &find_by_id,
								 &value, NULL), purchase);
}

/*
 * Finds a completed purchase by the payment that paid for it.
 */
bool
purchases_find_payment(text *payment_reference, Purchase *purchase)
{
	Datum		value = PointerGetDatum(payment_reference);

	return read_purchase(sql_run(&find_by_payment, &value, NULL), purchase);
}

/*
 * Finds the purchase that an account started with a key.
 */
bool
purchases_find_key(int64 account_id, text *key, Purchase *purchase)
{
	Datum		values[2] = {Int64GetDatum(account_id), PointerGetDatum(key)};

	return read_purchase(sql_run(&find_by_key, values, NULL), purchase);
}

/* ------------------------------------------------------------------------
 * events
 */

/*
 * Appends an amount of money, as a text so that no digit is lost.
 */
void
purchases_event_money(StringInfo json, const char *key, Datum money)
{
	json_cstring(json, key,
				 DatumGetCString(DirectFunctionCall1(numeric_out, money)));
}

/*
 * Announces what happened to a purchase: its id and reference, and what the
 * caller adds.
 */
void
purchases_event(const char *kind, const Purchase *purchase,
				int64 transaction_id, StringInfo detail)
{
	StringInfoData json;

	initStringInfo(&json);
	json_int64(&json, "purchase_id", purchase->id);
	json_text(&json, "reference", purchase->reference);
	if (detail && detail->len > 0)
		appendStringInfo(&json, ", %s", detail->data + 1);
	alerts_announce(kind, purchase->account_id, transaction_id, clock_now(),
					json_document(&json));
}

/* ------------------------------------------------------------------------
 * starting
 */

/* A purchase that is to be started */
typedef struct Start
{
	text	   *account;
	text	   *package;
	int64		amount;
	text	   *promotion;
	text	   *currency;
	text	   *key;
	int64		request;		/* fingerprint */
	PriceQuote	quote;
	Purchase	purchase;
	bool		replayed;
} Start;

/*
 * Plans nothing to be posted: computes the price while the account is locked.
 */
static bool
plan_start(Posting *posting, void *arg)
{
	Start	   *start = arg;

	if (start->key && purchases_find_key(posting->account.id, start->key,
										 &start->purchase))
	{
		if (start->purchase.request != start->request)
			return refuse(&posting->refusal, ERRCODE_CONFLICT,
						  psprintf("idempotency key \"%s\" was used for another request",
								   text_to_cstring(start->key)),
						  psprintf("Account \"%s\" used it for purchase " INT64_FORMAT ".",
								   row_account_name(&posting->account),
								   start->purchase.id),
						  "Repeat a request with the very same arguments, or use a new key.");
		start->replayed = true;
		return true;
	}
	if (!ledger_not_closed(posting))
		return false;
	return packages_quote(&posting->account, start->package, start->amount,
						  start->promotion, start->currency, posting->now,
						  &start->quote, &posting->refusal);
}

/*
 * Refuses a purchase of grants that could not be given, since the names of
 * their accounts would be too long.
 */
static void
check_accounts(const PriceQuote *quote)
{
	ListCell   *lc;

	foreach(lc, quote->grants)
		check_account_name(((QuoteGrant *) lfirst(lc))->account);
}

/*
 * Writes a purchase that is started.
 */
static void
write_start(Start *start, Jsonb *metadata)
{
	PriceQuote *quote = &start->quote;
	TimestampTz now = clock_now();
	Datum		values[14];
	bool		isnull[14] = {false};
	SqlResult  *result;
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
	values[10] = JsonbPGetDatum(metadata);
	isnull[10] = metadata == NULL;
	values[11] = TimestampTzGetDatum(now);
	values[12] = TimestampTzGetDatum(clock_purchase_expiry(now));
	values[13] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(),
													   false));
	result = sql_run(&insert_purchase, values, isnull);
	id = DatumGetInt64(sql_value(result, 0, 1, &isnull[0]));
	if (quote->promotion_id != 0)
		promotions_use(quote->promotion_id, quote->account_id, id, now, false);
	if (!purchases_find(NULL, id, &start->purchase))
		elog(ERROR, "purchase " INT64_FORMAT " is not there", id);
}

/*
 * Returns what a payment provider is to hand back with whatever it reports.
 */
static Jsonb *
checkout_metadata(const Start *start)
{
	const Purchase *purchase = &start->purchase;
	StringInfoData json;

	initStringInfo(&json);
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
 * Makes a credits.checkout.
 */
static Datum
checkout_result(FunctionCallInfo fcinfo, const Start *start)
{
	const Purchase *purchase = &start->purchase;
	TupleDesc	tupdesc = result_tupdesc(fcinfo);
	Datum		values[11];
	bool		isnull[11] = {false};
	Refusal		refusal;
	int64		minor;
	Datum		result;

	isnull[7] = !money_to_minor(&refusal, purchase->price,
								money_exponent(purchase->currency),
								purchase->currency, &minor);
	values[0] = Int64GetDatum(purchase->id);
	values[1] = PointerGetDatum(start->account);
	values[2] = CStringGetTextDatum(status_names[purchase->status]);
	values[3] = PointerGetDatum(purchase->reference);
	values[4] = Int64GetDatum(purchase->credits);
	values[5] = purchase->price;
	values[6] = PointerGetDatum(purchase->currency);
	values[7] = Int64GetDatum(minor);
	values[8] = TimestampTzGetDatum(purchase->expires_at);
	values[9] = JsonbPGetDatum(checkout_metadata(start));
	values[10] = BoolGetDatum(start->replayed);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Starts to buy a package or an amount of credits.
 */
Datum
credits_purchase_start(PG_FUNCTION_ARGS)
{
	Start		start = {0};
	Request		request = {0};
	StringInfoData f;
	Party		party = {0};
	Jsonb	   *metadata;
	Receipt		receipt;
	Refusal		refusal;

	party.name = start.account = arg_account(fcinfo, 0);
	start.package = arg_text(fcinfo, 1, "package", MAX_NAME_BYTES);
	if (!PG_ARGISNULL(2))
		start.amount = arg_amount(fcinfo, 2, "amount");
	start.promotion = arg_text(fcinfo, 3, "promotion", MAX_NAME_BYTES);
	start.key = arg_text(fcinfo, 4, "idempotency_key", MAX_NAME_BYTES);
	start.currency = arg_currency(fcinfo, 5);
	metadata = arg_metadata(fcinfo, 6);
	packages_check_choice(start.package != NULL, start.amount != 0);

	initStringInfo(&f);
	fingerprint_text(&f, start.package);
	fingerprint_int64(&f, start.amount != 0, start.amount);
	fingerprint_text(&f, start.promotion);
	fingerprint_text(&f, start.currency);
	start.request = chain_fingerprint(&f);

	if (!ledger_post_joint("credits_purchase_start()", &party, 1, &request,
						   plan_start, &start, &receipt, &refusal))
		raise_refusal(&refusal);
	if (!start.replayed)
	{
		check_accounts(&start.quote);
		write_start(&start, metadata);
	}
	return checkout_result(fcinfo, &start);
}

/* ------------------------------------------------------------------------
 * what is not paid
 */

/*
 * Ends a purchase that is pending.  Returns false if it is not.
 */
static bool
end(int64 id, PurchaseStatus status, text *reason, Purchase *purchase)
{
	Datum		values[3] = {Int64GetDatum(id),
		CStringGetTextDatum(status_names[status]), PointerGetDatum(reason)
	};
	bool		isnull[3] = {false, false, reason == NULL};

	if (sql_run(&end_purchase, values, isnull)->nrows == 0)
		return false;
	if (!purchases_find(NULL, id, purchase))
		elog(ERROR, "purchase " INT64_FORMAT " is not there", id);
	if (purchase->promotion_id != 0)
		promotions_release(id, clock_now());
	return true;
}

/*
 * Notes that a pending purchase was not paid.  Returns false if it is not
 * pending.
 */
bool
purchases_fail(int64 id, text *reason)
{
	Purchase	purchase;
	StringInfoData detail;

	if (!end(id, PURCHASE_FAILED, reason, &purchase))
		return false;
	initStringInfo(&detail);
	if (reason)
		json_text(&detail, "reason", reason);
	purchases_event("purchase_failed", &purchase, 0, &detail);
	return true;
}

/*
 * Notes that the checkout of a pending purchase is over.  Returns false if it
 * is not pending.  Nobody is told: many who look at a shop buy nothing.
 */
bool
purchases_expire(int64 id)
{
	Purchase	purchase;

	return end(id, PURCHASE_EXPIRED, NULL, &purchase);
}

/*
 * Raises the error for a purchase that does not exist.
 */
static void
check_exists(int64 id)
{
	Purchase	purchase;

	if (!purchases_find(NULL, id, &purchase))
		ereport(ERROR,
				(errcode(ERRCODE_NOT_FOUND),
				 errmsg("purchase " INT64_FORMAT " does not exist", id),
				 errhint("Pass the purchase_id that credits_purchase_start returned.")));
}

/*
 * Notes that a pending purchase was not paid.
 */
Datum
credits_purchase_fail(PG_FUNCTION_ARGS)
{
	int64		id = arg_id(fcinfo, 0, "purchase");
	text	   *reason = arg_text(fcinfo, 1, "reason", MAX_REASON_BYTES);

	store_check_writable("credits_purchase_fail()");
	check_exists(id);
	PG_RETURN_BOOL(purchases_fail(id, reason));
}

/*
 * Notes that the checkout of a pending purchase is over.
 */
Datum
credits_purchase_expire(PG_FUNCTION_ARGS)
{
	int64		id = arg_id(fcinfo, 0, "purchase");

	store_check_writable("credits_purchase_expire()");
	check_exists(id);
	PG_RETURN_BOOL(purchases_expire(id));
}

/* ------------------------------------------------------------------------
 * what was paid for otherwise
 */

/*
 * Records grants of an account as paid for.  Returns the id under which that
 * is recorded, now or before; 0 if they are not all the account's.
 */
int64
purchases_record(int64 account_id, text *payment_reference, Datum paid,
				 text *currency, List *grant_ids)
{
	Datum		values[7];
	SqlResult  *result;
	Purchase	purchase;
	bool		isnull;

	values[0] = Int64GetDatum(account_id);
	values[1] = PointerGetDatum(payment_reference);
	values[2] = paid;
	values[3] = PointerGetDatum(currency);
	values[4] = PointerGetDatum(purchases_array(grant_ids));
	values[5] = TimestampTzGetDatum(clock_now());
	values[6] = CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(),
													  false));
	result = sql_run(&insert_record, values, NULL);
	if (result->nrows > 0)
		return DatumGetInt64(sql_value(result, 0, 1, &isnull));
	return purchases_find(payment_reference, 0, &purchase) ? purchase.id : 0;
}
