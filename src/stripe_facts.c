/*
 * stripe_facts.c
 *	  What counts of an event of Stripe's, the same in all versions of its API.
 *
 * Facts are a small JSON object, kept beside the payload, so that all events
 * of a payment or a subscription can be read again whenever one more comes.
 *
 * Since version 2025-03-31 of the API the period of a subscription is found in
 * its items, the subscription of an invoice in its parent, the price of a line
 * in its pricing, and the payment of an invoice in a list or an object of its
 * own: both forms are read.
 */
#include "credits.h"

#include "stripe.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/* until the end of the year 9999 */
#define MAX_SECONDS INT64CONST(253402300799)

/* The types that are handled, and their order if they come in one second */
static const struct
{
	const char *type;
	FactKind	kind;
	int			rank;
}			types[] =
{
	{"charge.dispute.closed", FACT_DISPUTE, 3},
	{"charge.dispute.created", FACT_DISPUTE, 0},
	{"charge.dispute.funds_reinstated", FACT_DISPUTE, 4},
	{"charge.dispute.funds_withdrawn", FACT_DISPUTE, 1},
	{"charge.dispute.updated", FACT_DISPUTE, 2},
	{"charge.refund.updated", FACT_REFUND, 1},
	{"charge.refunded", FACT_CHARGE, 0},
	{"checkout.session.async_payment_failed", FACT_SESSION, 2},
	{"checkout.session.async_payment_succeeded", FACT_SESSION, 1},
	{"checkout.session.completed", FACT_SESSION, 0},
	{"checkout.session.expired", FACT_SESSION, 3},
	{"customer.subscription.created", FACT_SUBSCRIPTION, 0},
	{"customer.subscription.deleted", FACT_SUBSCRIPTION, 4},
	{"customer.subscription.paused", FACT_SUBSCRIPTION, 2},
	{"customer.subscription.resumed", FACT_SUBSCRIPTION, 3},
	{"customer.subscription.updated", FACT_SUBSCRIPTION, 1},
	{"invoice.paid", FACT_INVOICE, 1},
	{"invoice.payment_failed", FACT_INVOICE, 0},
	{"invoice.voided", FACT_INVOICE, 2},
	{"invoice_payment.paid", FACT_INVOICE_PAYMENT, 0},
	{"payment_intent.payment_failed", FACT_INTENT, 0},
	{"refund.created", FACT_REFUND, 0},
	{"refund.failed", FACT_REFUND, 2},
	{"refund.updated", FACT_REFUND, 1}
};

/*
 * Returns what an event of a type is about, and its rank among those of the same
 * second.
 */
FactKind
stripe_kind(const char *type, int *rank)
{
	int			low = 0;
	int			high = lengthof(types) - 1;

	while (low <= high)
	{
		int			middle = (low + high) / 2;
		int			order = strcmp(type, types[middle].type);

		if (order == 0)
		{
			*rank = types[middle].rank;
			return types[middle].kind;
		}
		if (order < 0)
			high = middle - 1;
		else
			low = middle + 1;
	}
	*rank = 0;
	return FACT_NONE;
}

/*
 * Orders events as they happened at Stripe, as far as one can tell: by second,
 * then by rank, then by id.
 */
int
stripe_compare(const ListCell *a, const ListCell *b)
{
	const StripeEvent *x = lfirst(a);
	const StripeEvent *y = lfirst(b);

	if (x->created != y->created)
		return x->created < y->created ? -1 : 1;
	if (x->rank != y->rank)
		return x->rank - y->rank;
	return strcmp(x->id, y->id);
}

/* ------------------------------------------------------------------------
 * reading JSON
 */

/*
 * Returns the value at a path of names with dots between, NULL if there is none
 * or it is null.
 */
JsonbValue *
stripe_get(JsonbContainer *object, const char *path)
{
	for (;;)
	{
		const char *dot = strchr(path, '.');
		JsonbValue *value;

		if (!JsonContainerIsObject(object))
			return NULL;
		value = getKeyJsonValueFromContainer(object, path,
											 dot ? dot - path : (int) strlen(path),
											 NULL);
		if (value == NULL || value->type == jbvNull)
			return NULL;
		if (dot == NULL)
			return value;
		if (value->type != jbvBinary)
			return NULL;
		object = value->val.binary.data;
		path = dot + 1;
	}
}

/*
 * Returns the text at a path, NULL if there is none.  An object that stands
 * where its id could is that.
 */
char *
stripe_text(JsonbContainer *object, const char *path)
{
	JsonbValue *value = stripe_get(object, path);

	if (value && value->type == jbvBinary &&
		JsonContainerIsObject(value->val.binary.data))
		value = stripe_get(value->val.binary.data, "id");
	if (value == NULL || value->type != jbvString || value->val.string.len == 0)
		return NULL;
	return pnstrdup(value->val.string.val, value->val.string.len);
}

/*
 * Reads the whole number at a path.  Returns false if there is none.
 */
bool
stripe_int64(JsonbContainer *object, const char *path, int64 *number)
{
	JsonbValue *value = stripe_get(object, path);
	char	   *digits;
	char	   *end;

	if (value == NULL || value->type != jbvNumeric)
		return false;
	digits = DatumGetCString(DirectFunctionCall1(numeric_out,
												 NumericGetDatum(value->val.numeric)));
	errno = 0;
	*number = strtoi64(digits, &end, 10);
	return errno == 0 && *end == '\0';
}

/*
 * Reads the instant at a path, in seconds.  Returns false if there is none.
 */
bool
stripe_instant(JsonbContainer *object, const char *path, TimestampTz *at)
{
	int64		seconds;

	if (!stripe_int64(object, path, &seconds) || seconds < 0 ||
		seconds > MAX_SECONDS)
		return false;
	*at = time_t_to_timestamptz((pg_time_t) seconds);
	return true;
}

/*
 * Tells whether there is a true at a path.
 */
bool
stripe_true(JsonbContainer *object, const char *path)
{
	JsonbValue *value = stripe_get(object, path);

	return value && value->type == jbvBool && value->val.boolean;
}

/*
 * Returns the array at a path, NULL if there is none.
 */
static JsonbContainer *
get_array(JsonbContainer *object, const char *path)
{
	JsonbValue *value = stripe_get(object, path);

	if (value == NULL || value->type != jbvBinary ||
		!JsonContainerIsArray(value->val.binary.data))
		return NULL;
	return value->val.binary.data;
}

/*
 * Returns an object in an array, NULL if there is none.
 */
static JsonbContainer *
get_element(JsonbContainer *array, uint32 i)
{
	JsonbValue *value = getIthJsonbValueFromContainer(array, i);

	if (value == NULL || value->type != jbvBinary ||
		!JsonContainerIsObject(value->val.binary.data))
		return NULL;
	return value->val.binary.data;
}

/* ------------------------------------------------------------------------
 * writing facts
 */

/*
 * Tells whether there is a text, one that could be an id or a name.
 */
static bool
is_id(const char *value)
{
	return value && strlen(value) <= MAX_NAME_BYTES;
}

/*
 * Adds a text, if it could be an id or a name.
 */
static void
add_text(StringInfo json, const char *key, const char *value)
{
	if (is_id(value))
		json_cstring(json, key, value);
}

/*
 * Adds the text at a path, if there is one.
 */
static void
copy_text(StringInfo json, const char *key, JsonbContainer *object,
		  const char *path)
{
	add_text(json, key, stripe_text(object, path));
}

/*
 * Adds the number at a path, if there is one.
 */
static void
copy_int64(StringInfo json, const char *key, JsonbContainer *object,
		   const char *path)
{
	int64		value;

	if (stripe_int64(object, path, &value))
		json_int64(json, key, value);
}

/*
 * Returns the first of two paths at which there is a text.
 */
static char *
either_text(JsonbContainer *object, const char *path, const char *other)
{
	char	   *value = stripe_text(object, path);

	return value ? value : stripe_text(object, other);
}

/*
 * Writes an element of an array, begun if it is the first.
 */
static void
add_element(StringInfo array, StringInfo element)
{
	appendStringInfo(array, "%s%s}", array->len ? ", " : "[",
					 element->len ? element->data : "{");
}

/*
 * Adds an array, if it has elements.
 */
static void
add_array(StringInfo json, const char *key, StringInfo array)
{
	if (array->len == 0)
		return;
	appendStringInfoChar(array, ']');
	json_raw(json, key, array->data);
}

/*
 * Notes what counts of a checkout session.  Returns its subject.
 */
static char *
read_session(StringInfo json, JsonbContainer *o, const StripeEvent *event)
{
	char	   *status = stripe_text(o, "payment_status");
	char	   *mode = stripe_text(o, "mode");
	char	   *subject;
	const char *outcome;

	if (strcmp(event->type, "checkout.session.expired") == 0)
		outcome = "expired";
	else if (strcmp(event->type, "checkout.session.async_payment_failed") == 0)
		outcome = "failed";
	else if (strcmp(event->type, "checkout.session.async_payment_succeeded") == 0 ||
			 (status && (strcmp(status, "paid") == 0 ||
						 strcmp(status, "no_payment_required") == 0)))
		outcome = "paid";
	else
		outcome = "pending";
	json_cstring(json, "outcome", outcome);
	copy_text(json, "reference", o, "client_reference_id");
	copy_text(json, "purchase", o, "metadata.purchase_id");
	copy_text(json, "account", o, "metadata.account");
	copy_text(json, "customer", o, "customer");
	if (mode && strcmp(mode, "subscription") == 0)
	{
		subject = stripe_text(o, "subscription");
		json_cstring(json, "mode", mode);
		copy_text(json, "invoice", o, "invoice");
	}
	else
	{
		subject = stripe_text(o, "payment_intent");
		copy_int64(json, "amount", o, "amount_total");
		copy_text(json, "currency", o, "currency");
	}
	return subject ? subject : event->object_id;
}

/*
 * Notes the payment that an event is about, by its charge if it has no intent.
 * Returns the subject.
 */
static char *
read_payment(StringInfo json, JsonbContainer *o, char *charge)
{
	char	   *intent = stripe_text(o, "payment_intent");

	add_text(json, "charge", charge);
	return intent ? intent : charge;
}

/*
 * Notes what counts of a subscription.  Returns its subject.
 */
static char *
read_subscription(StringInfo json, JsonbContainer *o, const StripeEvent *event)
{
	JsonbContainer *items = get_array(o, "items.data");
	StringInfoData array;
	uint32		i;

	if (strcmp(event->type, "customer.subscription.deleted") == 0)
		json_raw(json, "deleted", "true");
	copy_text(json, "status", o, "status");
	copy_text(json, "customer", o, "customer");
	copy_text(json, "account", o, "metadata.account");
	copy_int64(json, "created", o, "created");
	copy_int64(json, "start", o, "start_date");
	copy_int64(json, "anchor", o, "billing_cycle_anchor");
	copy_int64(json, "trial_start", o, "trial_start");
	copy_int64(json, "trial_end", o, "trial_end");
	copy_int64(json, "cancel_at", o, "cancel_at");
	copy_int64(json, "ended_at", o, "ended_at");

	initStringInfo(&array);
	for (i = 0; items && i < JsonContainerSize(items); i++)
	{
		JsonbContainer *item = get_element(items, i);
		StringInfoData line;

		if (item == NULL)
			continue;
		initStringInfo(&line);
		add_text(&line, "price", either_text(item, "price", "plan"));
		add_text(&line, "product",
				 either_text(item, "price.product", "plan.product"));
		if (stripe_get(item, "current_period_start"))
		{
			copy_int64(&line, "start", item, "current_period_start");
			copy_int64(&line, "end", item, "current_period_end");
		}
		else
		{
			copy_int64(&line, "start", o, "current_period_start");
			copy_int64(&line, "end", o, "current_period_end");
		}
		add_element(&array, &line);
	}
	add_array(json, "items", &array);
	return event->object_id;
}

/*
 * Tells whether a line of an invoice is for a part of a period that has been
 * paid before.
 */
static bool
is_proration(JsonbContainer *line)
{
	return stripe_true(line, "proration") ||
		stripe_true(line, "parent.subscription_item_details.proration") ||
		stripe_true(line, "parent.invoice_item_details.proration");
}

/*
 * Tells whether a line of an invoice is of a subscription's own, not an item
 * that was added to its invoice.
 */
static bool
is_subscription_line(JsonbContainer *line)
{
	char	   *type = either_text(line, "parent.type", "type");

	return type == NULL || strcmp(type, "subscription") == 0 ||
		strcmp(type, "subscription_item_details") == 0;
}

/*
 * Adds the payments of an invoice.
 */
static void
add_payments(StringInfo json, JsonbContainer *o)
{
	JsonbContainer *payments = get_array(o, "payments.data");
	char	   *single = either_text(o, "payment_intent", "charge");
	StringInfoData array;
	uint32		i;

	initStringInfo(&array);
	if (is_id(single))
	{
		appendStringInfoChar(&array, '[');
		escape_json(&array, single);
	}
	for (i = 0; payments && i < JsonContainerSize(payments); i++)
	{
		JsonbContainer *payment = get_element(payments, i);
		char	   *id;

		if (payment == NULL)
			continue;
		id = either_text(payment, "payment.payment_intent", "payment.charge");
		if (!is_id(id) || (single && strcmp(id, single) == 0))
			continue;
		appendStringInfoString(&array, array.len ? ", " : "[");
		escape_json(&array, id);
	}
	add_array(json, "payments", &array);
}

/*
 * Notes what counts of an invoice.  Returns its subject.
 */
static char *
read_invoice(StringInfo json, JsonbContainer *o, const StripeEvent *event)
{
	JsonbContainer *lines = get_array(o, "lines.data");
	char	   *subscription =
		either_text(o, "parent.subscription_details.subscription",
					"subscription");
	StringInfoData array;
	uint32		i;

	json_cstring(json, "outcome",
				 strcmp(event->type, "invoice.paid") == 0 ? "paid" :
				 strcmp(event->type, "invoice.voided") == 0 ? "voided" :
				 "failed");
	copy_int64(json, "amount", o, "amount_paid");
	copy_text(json, "currency", o, "currency");
	copy_text(json, "customer", o, "customer");
	copy_text(json, "reason", o, "billing_reason");
	add_text(json, "account",
			 either_text(o, "parent.subscription_details.metadata.account",
						 "subscription_details.metadata.account"));
	add_payments(json, o);

	initStringInfo(&array);
	for (i = 0; lines && i < JsonContainerSize(lines); i++)
	{
		JsonbContainer *line = get_element(lines, i);
		StringInfoData element;

		if (line == NULL || is_proration(line) || !is_subscription_line(line))
			continue;
		initStringInfo(&element);
		add_text(&element, "price",
				 either_text(line, "pricing.price_details.price", "price"));
		if (stripe_get(line, "price") == NULL)
			copy_text(&element, "plan", line, "plan");
		add_text(&element, "product",
				 either_text(line, "pricing.price_details.product",
							 "price.product"));
		copy_int64(&element, "start", line, "period.start");
		copy_int64(&element, "end", line, "period.end");
		copy_int64(&element, "amount", line, "amount");
		add_element(&array, &element);
	}
	add_array(json, "lines", &array);
	return subscription;
}

/*
 * Notes what counts of the object of an event.  Returns its subject, NULL if it
 * is about nothing that concerns us.
 */
static char *
read_facts(StringInfo json, JsonbContainer *o, const StripeEvent *event)
{
	switch (event->kind)
	{
		case FACT_SESSION:
			return read_session(json, o, event);
		case FACT_INTENT:
			copy_text(json, "purchase", o, "metadata.purchase_id");
			return event->object_id;
		case FACT_CHARGE:
			copy_int64(json, "refunded", o, "amount_refunded");
			copy_text(json, "currency", o, "currency");
			copy_text(json, "invoice", o, "invoice");
			return read_payment(json, o, event->object_id);
		case FACT_REFUND:
			copy_int64(json, "amount", o, "amount");
			copy_text(json, "currency", o, "currency");
			copy_text(json, "status", o, "status");
			return read_payment(json, o, stripe_text(o, "charge"));
		case FACT_DISPUTE:
			copy_int64(json, "amount", o, "amount");
			copy_text(json, "currency", o, "currency");
			copy_text(json, "status", o, "status");
			if (strcmp(event->type, "charge.dispute.funds_reinstated") == 0)
				json_raw(json, "reinstated", "true");
			return read_payment(json, o, stripe_text(o, "charge"));
		case FACT_INVOICE_PAYMENT:
			copy_text(json, "invoice", o, "invoice");
			return either_text(o, "payment.payment_intent", "payment.charge");
		case FACT_SUBSCRIPTION:
			return read_subscription(json, o, event);
		case FACT_INVOICE:
			return read_invoice(json, o, event);
		default:
			return NULL;
	}
}

/*
 * Raises the error for a payload that is no event.
 */
NORETURN_COMPAT static void refuse_payload(const char *detail);
static void
refuse_payload(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("payload is not an event of Stripe's"),
			 errdetail_internal("%s", detail),
			 errhint("Send the endpoint snapshot events, and pass the body of the request as it came.")));
}

/*
 * Reads an event from its payload, or raises an error.
 */
void
stripe_read_event(Jsonb *payload, StripeEvent *event)
{
	JsonbContainer *root = &payload->root;
	JsonbValue *object;
	StringInfoData json;

	memset(event, 0, sizeof(StripeEvent));
	event->payload = payload;
	event->id = stripe_text(root, "id");
	event->type = stripe_text(root, "type");
	if (event->id == NULL || event->type == NULL)
		refuse_payload("It has no id or no type.");
	if (strlen(event->id) > MAX_NAME_BYTES || strlen(event->type) > MAX_NAME_BYTES)
		refuse_payload(psprintf("Its id and its type may have %d bytes each.",
								MAX_NAME_BYTES));
	if (!stripe_instant(root, "created", &event->created))
		refuse_payload("It does not say when it was created.");
	object = stripe_get(root, "data.object");
	if (object == NULL || object->type != jbvBinary ||
		!JsonContainerIsObject(object->val.binary.data))
		refuse_payload("It has no object in its data.");
	event->api_version = stripe_text(root, "api_version");
	event->livemode = stripe_true(root, "livemode");
	event->object_id = stripe_text(object->val.binary.data, "id");
	event->kind = stripe_kind(event->type, &event->rank);
	if (event->kind == FACT_NONE)
		return;
	if (event->object_id == NULL)
		refuse_payload("Its object has no id.");

	initStringInfo(&json);
	json_cstring(&json, "object", event->object_id);
	event->subject = read_facts(&json, object->val.binary.data, event);
	if (!is_id(event->object_id) ||
		(event->subject && !is_id(event->subject)))
		refuse_payload(psprintf("An id in it has more than %d bytes.",
								MAX_NAME_BYTES));
	event->facts = json_document(&json);
}
