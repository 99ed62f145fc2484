/*
 * invoice_facts.c
 *	  The facts of Stripe's invoices, invoice items and credit notes.
 *
 * Lines of invoices and invoice items have the same facts, so that an item that
 * waits for its invoice can be recognized as a line of it.
 *
 * Since version 2025-03-31 of the API, the subscription of an invoice, and what
 * a line is for, are in its parent, and the price of a line is in its pricing.
 *
 * Tested in test/sql/stripe.sql and test/sql/stripe_lines.sql.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "stripe/facts.h"

#include "common/int.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* where a line or an item can say what it is a proration of */
static const char *const credited_paths[] = {
	"proration_details.credited_items",
	"parent.subscription_item_details.proration_details.credited_items",
	"parent.invoice_item_details.proration_details.credited_items"
};

/* and where it can say the price of its unit */
static const char *const unit_price_paths[] = {
	"pricing.unit_amount_decimal", "price.unit_amount_decimal",
	"price.unit_amount", "unit_amount_decimal", "unit_amount",
	"plan.amount_decimal", "plan.amount"
};

/*
 * Returns the text at the first of a number of paths that has one.
 */
static char *
first_text(JsonbContainer *object, const char *const *paths, int npaths)
{
	char	   *value = NULL;
	int			i;

	for (i = 0; value == NULL && i < npaths; i++)
		value = stripe_text(object, paths[i]);
	return value;
}

#define FIRST_TEXT(object, ...) \
	first_text(object, (const char *const[]) {__VA_ARGS__}, \
			   lengthof(((const char *const[]) {__VA_ARGS__})))

/*
 * Returns whether the number at a path, which may be a string, is above 0.
 */
static bool
is_above_zero(JsonbContainer *object, const char *path)
{
	JsonbValue *value = stripe_get(object, path);
	char	   *digits;

	if (value == NULL)
		return false;
	if (value->type == jbvNumeric)
		digits = DatumGetCString(DirectFunctionCall1(numeric_out,
													 NumericGetDatum(value->val.numeric)));
	else if (value->type == jbvString)
		digits = pnstrdup(value->val.string.val, value->val.string.len);
	else
		return false;
	return digits[0] != '-' && strpbrk(digits, "123456789") != NULL;
}

/*
 * Returns whether a line or an item says that its unit has a price above 0.
 */
static bool
is_priced(JsonbContainer *line)
{
	int			i;

	for (i = 0; i < (int) lengthof(unit_price_paths); i++)
		if (is_above_zero(line, unit_price_paths[i]))
			return true;
	return false;
}

/*
 * Returns whether a line or an item credits what was billed before.
 */
static bool
is_credit(JsonbContainer *line)
{
	int64		amount;
	int			i;

	for (i = 0; i < (int) lengthof(credited_paths); i++)
		if (stripe_get(line, credited_paths[i]))
			return true;
	return stripe_int64(line, "amount", &amount) && amount < 0;
}

/*
 * Returns whether a line or an item is a proration.
 */
static bool
is_proration(JsonbContainer *line)
{
	return stripe_true(line, "proration") ||
		stripe_true(line, "parent.subscription_item_details.proration") ||
		stripe_true(line, "parent.invoice_item_details.proration");
}

/*
 * Returns whether a line, or an item of a subscription, is for usage that was
 * metered.
 */
bool
invoice_facts_is_metered(JsonbContainer *line)
{
	char	   *usage = FIRST_TEXT(line, "price.recurring.usage_type",
								   "plan.usage_type");

	return usage && strcmp(usage, "metered") == 0;
}

/*
 * Adds the sum of the discounts of a line to its facts, if it has any.
 */
static void
add_discount(JsonObject *json, JsonbContainer *line)
{
	JsonbContainer *discounts = facts_array(line, "discount_amounts");
	int64		sum = 0;
	uint32		i;

	for (i = 0; discounts && i < JsonContainerSize(discounts); i++)
	{
		JsonbContainer *discount = facts_element(discounts, i);
		int64		amount;

		CHECK_FOR_INTERRUPTS();
		if (discount && facts_int64(json, discount, "amount", &amount) &&
			pg_add_s64_overflow(sum, amount, &sum))
		{
			json_bool(json, OUT_OF_RANGE, true);
			return;
		}
	}
	if (sum != 0)
		json_int64(json, "discount", sum);
}

/*
 * Collects the facts that a line of an invoice and an invoice item have in
 * common.
 */
static void
add_line(JsonObject *json, JsonbContainer *line)
{
	facts_add(json, "item",
			  FIRST_TEXT(line, "subscription_item",
						 "parent.subscription_item_details.subscription_item",
						 "parent.invoice_item_details.subscription_item",
						 "parent.subscription_details.subscription_item"));
	facts_add(json, "price",
			  facts_either(line, "pricing.price_details.price", "price"));
	if (stripe_get(line, "price") == NULL)
		facts_copy_text(json, "plan", line, "plan");
	facts_add(json, "product",
			  facts_either(line, "pricing.price_details.product",
						   "price.product"));
	facts_copy_int64(json, "start", line, "period.start");
	facts_copy_int64(json, "end", line, "period.end");
	facts_copy_int64(json, "amount", line, "amount");
	facts_copy_int64(json, "quantity", line, "quantity");
	add_discount(json, line);
	if (is_priced(line))
		json_bool(json, "priced", true);
	if (is_credit(line))
		json_bool(json, "credit", true);
	if (is_proration(line))
		json_bool(json, "proration", true);
	if (invoice_facts_is_metered(line))
		json_bool(json, "metered", true);
}

/*
 * Adds the lines of an invoice to its facts.
 */
void
stripe_add_lines(JsonObject *json, JsonbContainer *lines)
{
	JsonArray	array;
	uint32		i;

	json_begin_array(&array);
	for (i = 0; lines && i < JsonContainerSize(lines); i++)
	{
		JsonbContainer *line = facts_element(lines, i);
		JsonObject	element;

		CHECK_FOR_INTERRUPTS();
		if (line == NULL)
			continue;
		json_begin(&element);
		facts_copy_text(&element, "line", line, "id");
		facts_add(&element, "invoice_item",
				  FIRST_TEXT(line, "invoice_item",
							 "parent.invoice_item_details.invoice_item",
							 "parent.subscription_item_details.invoice_item"));
		add_line(&element, line);
		json_add_object(&array, &element);
	}
	facts_add_array(json, "lines", &array);
}

/*
 * Adds the payments of an invoice to its facts, each once.
 */
static void
add_payments(JsonObject *json, JsonbContainer *o)
{
	JsonbContainer *payments = facts_array(o, "payments.data");
	char	   *single = facts_either(o, "payment_intent", "charge");
	JsonArray	array;
	uint32		i;

	json_begin_array(&array);
	if (facts_is_id(single))
		json_add_cstring(&array, single);
	for (i = 0; payments && i < JsonContainerSize(payments); i++)
	{
		JsonbContainer *payment = facts_element(payments, i);
		char	   *id;

		CHECK_FOR_INTERRUPTS();
		if (payment == NULL)
			continue;
		id = facts_either(payment, "payment.payment_intent", "payment.charge");
		if (!facts_is_id(id) || (single && strcmp(id, single) == 0))
			continue;
		json_add_cstring(&array, id);
	}
	facts_add_array(json, "payments", &array);
}

/*
 * Returns the subscription that a line of an invoice is for, NULL if none.
 */
static char *
subscription_of_line(JsonbContainer *line)
{
	return FIRST_TEXT(line, "subscription",
					  "parent.subscription_item_details.subscription",
					  "parent.invoice_item_details.subscription");
}

/*
 * Collects the facts of an invoice.  Its subject is the subscription that it
 * bills or, if it bills none, the invoice itself.
 */
char *
invoice_facts_read(JsonObject *json, JsonbContainer *o, char *id,
				   const EventType *type)
{
	JsonbContainer *lines = facts_array(o, "lines.data");
	char	   *subscription =
		facts_either(o, "parent.subscription_details.subscription",
					 "subscription");
	int64		total;
	uint32		i;

	/* one that was made by hand bills what waits for the next invoice */
	for (i = 0; subscription == NULL && lines &&
		 i < JsonContainerSize(lines); i++)
	{
		JsonbContainer *line = facts_element(lines, i);

		CHECK_FOR_INTERRUPTS();
		if (line)
			subscription = subscription_of_line(line);
	}
	json_cstring(json, "outcome", stripe_outcome_names[type->outcome]);
	facts_copy_text(json, "status", o, "status");
	facts_copy_int64(json, "total", o, "total");
	facts_copy_int64(json, "amount", o, "amount_paid");
	facts_copy_text(json, "currency", o, "currency");
	facts_copy_text(json, "customer", o, "customer");
	facts_copy_text(json, "reason", o, "billing_reason");
	facts_copy_int64(json, "paid_at", o, "status_transitions.paid_at");
	facts_copy_int64(json, "finalized_at", o,
					 "status_transitions.finalized_at");
	facts_add(json, "account",
			  facts_either(o, "parent.subscription_details.metadata.account",
						   "subscription_details.metadata.account"));
	facts_copy_text(json, "purchase_id", o, "metadata.purchase_id");
	add_payments(json, o);
	stripe_add_lines(json, lines);
	if (lines == NULL || stripe_true(o, "lines.has_more") ||
		(JsonContainerSize(lines) == 0 && stripe_int64(o, "total", &total) &&
		 total != 0))
		json_bool(json, "more", true);
	return subscription ? subscription : id;
}

/*
 * Collects the facts of an invoice item.
 */
char *
invoice_facts_read_item(JsonObject *json, JsonbContainer *o,
						const EventType *type)
{
	if (type->deleted)
		json_bool(json, "deleted", true);
	facts_copy_text(json, "invoice", o, "invoice");
	facts_copy_text(json, "currency", o, "currency");
	add_line(json, o);
	return facts_either(o, "parent.subscription_details.subscription",
						"subscription");
}

/*
 * Adds the refunds that belong to a credit note to its facts, by their ids.
 */
static void
add_refunds(JsonObject *json, JsonbContainer *o)
{
	JsonbContainer *refunds = facts_array(o, "refunds");
	char	   *single = stripe_text(o, "refund");
	JsonObject	object;
	uint32		i;

	json_begin(&object);
	for (i = 0; refunds && i < JsonContainerSize(refunds); i++)
	{
		JsonbContainer *refund = facts_element(refunds, i);
		char	   *id;
		int64		amount;

		CHECK_FOR_INTERRUPTS();
		if (refund == NULL)
			continue;
		id = stripe_text(refund, "refund");
		if (facts_is_id(id) &&
			facts_int64(json, refund, "amount_refunded", &amount))
			json_int64(&object, id, amount);
	}
	if (object.nmembers == 0 && facts_is_id(single))
	{
		int64		amount;
		int64		outside;

		if (!facts_int64(json, o, "amount", &amount))
			amount = 0;
		if (facts_int64(json, o, "out_of_band_amount", &outside) && outside > 0)
			amount = Max(amount, 0) - outside;
		json_int64(&object, single, Max(amount, 0));
	}
	if (object.nmembers > 0)
		json_jsonb(json, "refunds", json_document(&object));
}

/*
 * Adds what a credit note credits of each line to its facts, and what it credits
 * beyond that.
 *
 * Lines of a note are without the tax that is added to them, and without
 * discounts, as those of the invoice are.  What is credited of no line is
 * compared with the total of the invoice, which has both: so it is the same share
 * of the note's amount as it is of its lines.
 */
static void
add_credited(JsonObject *json, JsonbContainer *o)
{
	JsonbContainer *lines = facts_array(o, "lines.data");
	JsonArray	array;
	Datum		custom = number(0);
	Datum		sum = number(0);
	Datum		subtotal;
	int64		total;
	uint32		i;

	json_begin_array(&array);
	for (i = 0; lines && i < JsonContainerSize(lines); i++)
	{
		JsonbContainer *line = facts_element(lines, i);
		char	   *id;
		int64		amount;

		CHECK_FOR_INTERRUPTS();
		if (line == NULL || !facts_int64(json, line, "amount", &amount))
			continue;
		sum = add(sum, number(amount));
		id = stripe_text(line, "invoice_line_item");
		if (facts_is_id(id))
		{
			JsonObject	element;

			json_begin(&element);
			json_cstring(&element, "line", id);
			json_int64(&element, "amount", amount);
			json_add_object(&array, &element);
		}
		else
			custom = add(custom, number(amount));
	}
	if (lines == NULL || JsonContainerSize(lines) == 0)
	{
		if (facts_int64(json, o, "amount", &total))
			custom = number(total);
	}
	else
	{
		if (stripe_true(o, "lines.has_more") &&
			facts_int64(json, o, "subtotal", &total) &&
			compare(subtotal = number(total), sum) > 0)
		{
			custom = add(custom, subtract(subtotal, sum));
			sum = subtotal;
		}
		if (compare(custom, number(0)) > 0 && compare(custom, sum) <= 0 &&
			facts_int64(json, o, "amount", &total))
			custom = divide(multiply(custom, number(Max(total, 0))), sum, true);
	}
	if (compare(custom, number(PG_INT64_MAX)) > 0)
		json_bool(json, OUT_OF_RANGE, true);
	else if (compare(custom, number(0)) > 0)
		json_int64(json, "custom",
				   DatumGetInt64(DirectFunctionCall1(numeric_int8, custom)));
	facts_add_array(json, "lines", &array);
}

/*
 * Collects the facts of a credit note.  Its subject is its invoice.
 */
char *
invoice_facts_read_credit_note(JsonObject *json, JsonbContainer *o,
							   const EventType *type)
{
	char	   *status = stripe_text(o, "status");

	if (type->deleted || (status && strcmp(status, "void") == 0))
		json_bool(json, "voided", true);
	facts_copy_text(json, "currency", o, "currency");
	add_credited(json, o);
	add_refunds(json, o);
	return stripe_text(o, "invoice");
}
