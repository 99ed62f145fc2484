/*
 * facts.c
 *	  The facts that we keep of a Stripe event, in one form for all versions of
 *	  Stripe's API.
 *
 * Facts are a small JSON object, stored beside the payload.  Whenever another
 * event of a payment arrives, the facts of all its events are read again.  Those
 * of a subscription and its invoices are folded into rows as they arrive.
 *
 * Since version 2025-03-31 of the API, the period of a subscription is in its
 * items, the subscription of an invoice is in its parent, the price of a line
 * is in its pricing, and the payments of an invoice are in a list or in objects
 * of their own.  We read both forms, because the version is that of the
 * endpoint, and changes when its owner changes it.
 *
 * Tested in test/sql/stripe.sql, with events of all these types in both forms.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "stripe/facts.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

/* until the end of the year 9999 */
#define MAX_SECONDS INT64CONST(253402300799)

/* the types that we handle, ordered by name for bsearch */
static const EventType types[] = {
	{"charge.dispute.closed", FACT_DISPUTE, 3},
	{"charge.dispute.created", FACT_DISPUTE, 0},
	{"charge.dispute.funds_reinstated", FACT_DISPUTE, 4,.reinstated = true},
	{"charge.dispute.funds_withdrawn", FACT_DISPUTE, 1},
	{"charge.dispute.updated", FACT_DISPUTE, 2},
	{"charge.refund.updated", FACT_REFUND, 1},
	{"charge.refunded", FACT_CHARGE, 0},
	{"checkout.session.async_payment_failed", FACT_SESSION, 2, OUTCOME_FAILED},
	{"checkout.session.async_payment_succeeded", FACT_SESSION, 1, OUTCOME_PAID},
	/* pending, unless its payment_status is that of a paid session */
	{"checkout.session.completed", FACT_SESSION, 0, OUTCOME_PENDING},
	{"checkout.session.expired", FACT_SESSION, 3, OUTCOME_EXPIRED},
	{"credit_note.created", FACT_CREDIT_NOTE, 0},
	{"credit_note.updated", FACT_CREDIT_NOTE, 1},
	{"credit_note.voided", FACT_CREDIT_NOTE, 2,.deleted = true},
	{"customer.subscription.created", FACT_SUBSCRIPTION, 0},
	{"customer.subscription.deleted", FACT_SUBSCRIPTION, 4,.deleted = true},
	{"customer.subscription.paused", FACT_SUBSCRIPTION, 2},
	{"customer.subscription.resumed", FACT_SUBSCRIPTION, 3},
	{"customer.subscription.updated", FACT_SUBSCRIPTION, 1},
	{"invoice.finalized", FACT_INVOICE, 0, OUTCOME_PENDING},
	{"invoice.marked_uncollectible", FACT_INVOICE, 2, OUTCOME_UNCOLLECTIBLE},
	{"invoice.paid", FACT_INVOICE, 4, OUTCOME_PAID},
	{"invoice.payment_failed", FACT_INVOICE, 1, OUTCOME_FAILED},
	{"invoice.voided", FACT_INVOICE, 3, OUTCOME_VOIDED},
	{"invoice_payment.paid", FACT_INVOICE_PAYMENT, 0},
	{"invoiceitem.created", FACT_INVOICE_ITEM, 0},
	{"invoiceitem.deleted", FACT_INVOICE_ITEM, 2,.deleted = true},
	{"invoiceitem.updated", FACT_INVOICE_ITEM, 1},
	{"payment_intent.payment_failed", FACT_INTENT, 0},
	{"payment_intent.succeeded", FACT_INTENT, 1, OUTCOME_PAID},
	{"refund.created", FACT_REFUND, 0},
	{"refund.failed", FACT_REFUND, 2},
	{"refund.updated", FACT_REFUND, 1}
};

const char *const stripe_outcome_names[] = {
	"pending", "expired", "voided", "uncollectible", "failed", "paid"
};

/* values in Stripe's objects that make a difference */
enum
{
	SESSION_UNPAID,
	SESSION_PAID,
	SESSION_FREE
};
static const char *const payment_status_names[] = {
	"unpaid", "paid", "no_payment_required"
};

enum
{
	MODE_PAYMENT,
	MODE_SETUP,
	MODE_SUBSCRIPTION
};
static const char *const mode_names[] = {"payment", "setup", "subscription"};

/*
 * Compares the name of a type with an entry of the table of types.
 */
static int
compare_type(const void *name, const void *type)
{
	return strcmp(name, ((const EventType *) type)->name);
}

/*
 * Returns what follows from a type of event, NULL if we do not handle it.
 */
static const EventType *
find_type(const char *name)
{
	return bsearch(name, types, lengthof(types), sizeof(EventType),
				   compare_type);
}

/*
 * Returns what an event of the given type is about, and its rank among events
 * of the same second.
 */
FactKind
stripe_kind(const char *name, int *rank)
{
	const EventType *type = find_type(name);

	*rank = type ? type->rank : 0;
	return type ? type->kind : FACT_NONE;
}

/*
 * Returns the outcome of the session or invoice that an event is about.
 */
FactOutcome
stripe_outcome(const StripeEvent *event)
{
	return stripe_name(&event->facts->root, "outcome", stripe_outcome_names,
					   lengthof(stripe_outcome_names));
}

/*
 * Orders events as they happened at Stripe, as far as we can tell: by second,
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
 * Returns the value at a path of keys separated by dots, NULL if there is none
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
 * Returns the text at a path, NULL if there is none.  Where Stripe has expanded
 * an id into the object itself, this is the id of that object.
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
 * Returns which of some names the text at a path is, -1 if none or if there is
 * no text.
 */
int
stripe_name(JsonbContainer *object, const char *path,
			const char *const *names, int nnames)
{
	char	   *name = stripe_text(object, path);

	return name ? names_find(names, nnames, name) : -1;
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
 * Reads the instant at a path, which is in seconds since 1970.  Returns false
 * if there is none.
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
 * Returns whether the value at a path is true.
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
JsonbContainer *
facts_array(JsonbContainer *object, const char *path)
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
JsonbContainer *
facts_element(JsonbContainer *array, uint32 i)
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
 * Returns whether a text is there and short enough to be an id or a name.
 */
bool
facts_is_id(const char *value)
{
	return value && strlen(value) <= MAX_NAME_BYTES;
}

/*
 * Adds a text to the facts, if it can be an id or a name.
 */
void
facts_add(JsonObject *json, const char *key, const char *value)
{
	if (facts_is_id(value))
		json_cstring(json, key, value);
}

/*
 * Copies the text at a path to the facts, if there is one.
 */
void
facts_copy_text(JsonObject *json, const char *key, JsonbContainer *object,
				const char *path)
{
	facts_add(json, key, stripe_text(object, path));
}

/*
 * Reads the whole number at a path, for the facts.  Returns false if there is
 * none.  If there is another number, the facts say so: it must not be taken for
 * none.
 */
bool
facts_int64(JsonObject *json, JsonbContainer *object, const char *path,
			int64 *number)
{
	JsonbValue *value;

	if (stripe_int64(object, path, number))
		return true;
	value = stripe_get(object, path);
	if (value && value->type == jbvNumeric)
		json_bool(json, OUT_OF_RANGE, true);
	return false;
}

/*
 * Copies the number at a path to the facts, if there is one.
 */
void
facts_copy_int64(JsonObject *json, const char *key, JsonbContainer *object,
				 const char *path)
{
	int64		value;

	if (facts_int64(json, object, path, &value))
		json_int64(json, key, value);
}

/*
 * Returns the text at the first of two paths that has one, NULL if neither has.
 */
char *
facts_either(JsonbContainer *object, const char *path, const char *other)
{
	char	   *value = stripe_text(object, path);

	return value ? value : stripe_text(object, other);
}

/*
 * Adds an array to the facts, unless it is empty.
 */
void
facts_add_array(JsonObject *json, const char *key, const JsonArray *array)
{
	if (array->nelements > 0)
		json_array(json, key, array);
}

/*
 * Collects the facts of a checkout session.  Returns its subject.
 */
static char *
read_session(JsonObject *json, JsonbContainer *o, const StripeEvent *event,
			 const EventType *type)
{
	FactOutcome outcome = type->outcome;
	int			status = stripe_name(o, "payment_status", payment_status_names,
									 lengthof(payment_status_names));
	int			mode = stripe_name(o, "mode", mode_names,
								   lengthof(mode_names));
	char	   *subject;

	/* it saves a card for later */
	if (mode == MODE_SETUP)
		return NULL;
	if (outcome == OUTCOME_PENDING &&
		(status == SESSION_PAID || status == SESSION_FREE))
		outcome = OUTCOME_PAID;
	json_cstring(json, "outcome", stripe_outcome_names[outcome]);
	facts_copy_text(json, "reference", o, "client_reference_id");
	facts_copy_text(json, "purchase_id", o, "metadata.purchase_id");
	facts_copy_text(json, "account", o, "metadata.account");
	facts_copy_text(json, "customer", o, "customer");
	if (mode == MODE_SUBSCRIPTION)
	{
		subject = stripe_text(o, "subscription");
		json_cstring(json, "mode", mode_names[mode]);
	}
	else
		subject = stripe_text(o, "payment_intent");
	facts_copy_int64(json, "amount", o, "amount_total");
	facts_copy_text(json, "currency", o, "currency");
	/* that of the subscription, or one that Checkout was asked to make */
	facts_copy_text(json, "invoice", o, "invoice");
	return subject ? subject : event->object_id;
}

/*
 * Collects the facts that refer to a payment.  Returns its subject: the payment
 * intent or, for an old payment that has none, the charge.
 */
static char *
read_payment(JsonObject *json, JsonbContainer *o, char *charge)
{
	char	   *intent = stripe_text(o, "payment_intent");

	facts_add(json, "charge", charge);
	return intent ? intent : charge;
}

/*
 * Collects the facts of a subscription.  Returns its subject.
 */
static char *
facts_read_subscription(JsonObject *json, JsonbContainer *o,
						const StripeEvent *event, const EventType *type)
{
	JsonbContainer *items = facts_array(o, "items.data");
	JsonArray	array;
	uint32		i;

	if (type->deleted)
		json_bool(json, "deleted", true);
	facts_copy_text(json, "status", o, "status");
	facts_copy_text(json, "customer", o, "customer");
	facts_copy_text(json, "account", o, "metadata.account");
	facts_copy_int64(json, "created", o, "created");
	facts_copy_int64(json, "start", o, "start_date");
	facts_copy_int64(json, "anchor", o, "billing_cycle_anchor");
	facts_copy_int64(json, "trial_start", o, "trial_start");
	facts_copy_int64(json, "trial_end", o, "trial_end");
	facts_copy_int64(json, "cancel_at", o, "cancel_at");
	facts_copy_int64(json, "ended_at", o, "ended_at");

	json_begin_array(&array);
	for (i = 0; items && i < JsonContainerSize(items); i++)
	{
		JsonbContainer *item = facts_element(items, i);
		JsonObject	line;
		int64		quantity;

		CHECK_FOR_INTERRUPTS();
		if (item == NULL)
			continue;
		json_begin(&line);
		facts_copy_text(&line, "item", item, "id");
		/* no proration will bill it */
		if (invoice_facts_is_metered(item) ||
			(facts_int64(&line, item, "quantity", &quantity) && quantity == 0))
			json_bool(&line, "unbilled", true);
		facts_add(&line, "price", facts_either(item, "price", "plan"));
		facts_add(&line, "product",
				  facts_either(item, "price.product", "plan.product"));
		if (stripe_get(item, "current_period_start"))
		{
			facts_copy_int64(&line, "start", item, "current_period_start");
			facts_copy_int64(&line, "end", item, "current_period_end");
		}
		else
		{
			facts_copy_int64(&line, "start", o, "current_period_start");
			facts_copy_int64(&line, "end", o, "current_period_end");
		}
		json_add_object(&array, &line);
	}
	facts_add_array(json, "items", &array);
	if (stripe_true(o, "items.has_more"))
		json_bool(json, "more", true);
	return event->object_id;
}

/*
 * Collects the facts of the object of an event.  Returns its subject, NULL if
 * the event does not concern us.
 */
static char *
read_facts(JsonObject *json, JsonbContainer *o, const StripeEvent *event,
		   const EventType *type)
{
	switch (type->kind)
	{
		case FACT_SESSION:
			return read_session(json, o, event, type);
		case FACT_INTENT:
			facts_copy_text(json, "purchase_id", o, "metadata.purchase_id");
			if (type->outcome != OUTCOME_PAID)
				return event->object_id;
			/* without a purchase of its own, it is reported otherwise, too */
			if (stripe_text(o, "metadata.purchase_id") == NULL)
				return NULL;
			json_cstring(json, "outcome", stripe_outcome_names[OUTCOME_PAID]);
			facts_copy_text(json, "customer", o, "customer");
			facts_copy_int64(json, "amount", o, "amount_received");
			facts_copy_text(json, "currency", o, "currency");
			return event->object_id;
		case FACT_CHARGE:
			facts_copy_int64(json, "refunded", o, "amount_refunded");
			facts_copy_text(json, "currency", o, "currency");
			facts_copy_text(json, "invoice", o, "invoice");
			return read_payment(json, o, event->object_id);
		case FACT_REFUND:
			facts_copy_int64(json, "amount", o, "amount");
			facts_copy_text(json, "currency", o, "currency");
			facts_copy_text(json, "status", o, "status");
			facts_copy_int64(json, "created", o, "created");
			return read_payment(json, o, stripe_text(o, "charge"));
		case FACT_DISPUTE:
			facts_copy_int64(json, "amount", o, "amount");
			facts_copy_text(json, "currency", o, "currency");
			facts_copy_text(json, "status", o, "status");
			if (type->reinstated)
				json_bool(json, "reinstated", true);
			return read_payment(json, o, stripe_text(o, "charge"));
		case FACT_INVOICE_PAYMENT:
			facts_copy_text(json, "invoice", o, "invoice");
			return facts_either(o, "payment.payment_intent", "payment.charge");
		case FACT_SUBSCRIPTION:
			return facts_read_subscription(json, o, event, type);
		case FACT_INVOICE:
			return invoice_facts_read(json, o, event->object_id, type);
		case FACT_INVOICE_ITEM:
			return invoice_facts_read_item(json, o, type);
		case FACT_CREDIT_NOTE:
			return invoice_facts_read_credit_note(json, o, type);
		default:
			return NULL;
	}
}

/*
 * Returns whether facts have a negative amount where Stripe has none.
 */
static bool
is_negative(const StripeEvent *event)
{
	int64		amount;

	if (event->kind != FACT_SESSION && event->kind != FACT_INTENT &&
		event->kind != FACT_CHARGE && event->kind != FACT_REFUND &&
		event->kind != FACT_DISPUTE)
		return false;
	return (stripe_int64(&event->facts->root, "amount", &amount) && amount < 0) ||
		(stripe_int64(&event->facts->root, "refunded", &amount) && amount < 0);
}

/*
 * Returns whether facts leave a number out that is no whole one, or too large.
 */
bool
facts_out_of_range(JsonbContainer *facts)
{
	static const char *const parts[] = {"lines", "items"};
	int			i;

	if (stripe_true(facts, OUT_OF_RANGE))
		return true;
	for (i = 0; i < (int) lengthof(parts); i++)
	{
		JsonbContainer *array = facts_array(facts, parts[i]);
		uint32		n;

		for (n = 0; array && n < JsonContainerSize(array); n++)
		{
			CHECK_FOR_INTERRUPTS();
			if (stripe_true(facts_element(array, n), OUT_OF_RANGE))
				return true;
		}
	}
	return false;
}

/*
 * Reads an event from its payload.  Returns what is wrong with it, NULL if it is
 * one of Stripe's events.
 */
const char *
stripe_read_event(Jsonb *payload, StripeEvent *event)
{
	JsonbContainer *root = &payload->root;
	const EventType *type;
	JsonbValue *object;
	JsonObject	json;

	event->payload = payload;
	event->id = stripe_text(root, "id");
	event->type = stripe_text(root, "type");
	event->api_version = stripe_text(root, "api_version");
	event->livemode = stripe_true(root, "livemode");
	if (event->id == NULL || event->type == NULL)
		return "it has no id or no type";
	if (!facts_is_id(event->id) || !facts_is_id(event->type))
		return "its id or its type is too long";
	if (!stripe_instant(root, "created", &event->created))
		return "it does not say when it was created";
	object = stripe_get(root, "data.object");
	if (object == NULL || object->type != jbvBinary ||
		!JsonContainerIsObject(object->val.binary.data))
		return "it has no object in its data";
	event->object_id = stripe_text(object->val.binary.data, "id");
	type = find_type(event->type);
	if (type == NULL)
		return NULL;
	if (event->object_id == NULL)
		return "its object has no id";
	event->kind = type->kind;
	event->rank = type->rank;

	json_begin(&json);
	json_cstring(&json, "object", event->object_id);
	event->subject = read_facts(&json, object->val.binary.data, event,
								type);
	if (!facts_is_id(event->object_id) ||
		(event->subject && !facts_is_id(event->subject)))
		return "an id in it is too long";
	event->facts = json_document(&json);
	if (is_negative(event))
		return "an amount in it is negative";
	if (facts_out_of_range(&event->facts->root))
		return "a number in it is not whole, or too large";
	return NULL;
}
