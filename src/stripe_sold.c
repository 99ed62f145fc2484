/*
 * stripe_sold.c
 *	  Reading the events of a subscription of Stripe's: whose it is, which plans
 *	  its prices stand for.
 */
#include "credits.h"

#include "sql.h"
#include "stripe_sold.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* What is known of a price or product */
typedef struct Price
{
	char	   *id;
	char	   *plan;
} Price;

static SqlStatement find_prices = {
	.text = "SELECT p.id, p.plan FROM credits.stripe_prices AS p "
	"WHERE p.id = ANY ($1) AND p.plan IS NOT NULL",
	.types = (const Oid[]) {TEXTARRAYOID, InvalidOid}
};

/*
 * Reads the lines of an invoice or the items of a subscription.
 */
List *
sold_lines(const StripeEvent *event, const char *path)
{
	JsonbValue *value = stripe_get(&event->facts->root, path);
	List	   *lines = NIL;
	uint32		i;

	if (value == NULL)
		return NIL;
	for (i = 0; i < JsonContainerSize(value->val.binary.data); i++)
	{
		JsonbValue *element =
			getIthJsonbValueFromContainer(value->val.binary.data, i);
		JsonbContainer *facts = element->val.binary.data;
		Line	   *line;

		if (element->type != jbvBinary)
			continue;
		line = palloc0(sizeof(Line));
		line->price = stripe_text(facts, "price");
		line->plan_id = stripe_text(facts, "plan");
		line->product = stripe_text(facts, "product");
		line->has_period = stripe_instant(facts, "start", &line->starts_at) &&
			stripe_instant(facts, "end", &line->ends_at) &&
			line->starts_at < line->ends_at;
		if (!stripe_int64(facts, "amount", &line->amount))
			line->amount = 0;
		lines = lappend(lines, line);
	}
	return lines;
}

/*
 * Returns the lines of an event that has any.
 */
static List *
lines_of(const StripeEvent *event)
{
	if (event->kind == FACT_SUBSCRIPTION)
		return sold_lines(event, "items");
	if (event->kind == FACT_INVOICE)
		return sold_lines(event, "lines");
	return NIL;
}

/*
 * Tells whether an event has an outcome.
 */
bool
sold_outcome_is(const StripeEvent *event, const char *outcome)
{
	char	   *value = stripe_text(&event->facts->root, "outcome");

	return value && strcmp(value, outcome) == 0;
}

/*
 * Takes a text from an event's facts, if it has it; how near it is to the
 * subscription decides which counts, then how new.
 */
static void
take_account(char **account, int *nearest, const StripeEvent *event,
			 const char *path, int near)
{
	char	   *value = stripe_text(&event->facts->root, path);

	if (value == NULL || near < *nearest)
		return;
	*account = value;
	*nearest = near;
}

/*
 * Looks through the events of a subscription.
 */
void
sold_read(Sold *sold)
{
	int			nearest = 0;
	ListCell   *lc;

	foreach(lc, sold->events)
	{
		StripeEvent *event = lfirst(lc);
		char	   *customer = stripe_text(&event->facts->root, "customer");

		if (customer)
			sold->customer = customer;
		switch (event->kind)
		{
			case FACT_SUBSCRIPTION:
				sold->newest = event;
				if (sold->first == NULL)
					sold->first = event;
				sold->deleted |= stripe_true(&event->facts->root, "deleted");
				take_account(&sold->account, &nearest, event, "account", 4);
				break;
			case FACT_INVOICE:
				sold->paid |= sold_outcome_is(event, "paid");
				take_account(&sold->account, &nearest, event, "account", 1);
				break;
			case FACT_SESSION:
				take_account(&sold->account, &nearest, event, "reference", 2);
				take_account(&sold->account, &nearest, event, "account", 3);
				break;
			default:
				break;
		}
	}
}

/*
 * Looks up which prices and products in the events stand for plans.
 */
void
sold_read_prices(Sold *sold)
{
	int			max = 64;
	Datum	   *ids = palloc(max * sizeof(Datum));
	int			n = 0;
	ListCell   *lc;
	ListCell   *lc2;
	Datum		value;
	SqlResult  *result;
	uint64		i;

	foreach(lc, sold->events)
		foreach(lc2, lines_of(lfirst(lc)))
	{
		Line	   *line = lfirst(lc2);
		char	   *candidates[] = {line->price, line->plan_id, line->product};
		int			c;
		int			k;

		for (c = 0; c < (int) lengthof(candidates); c++)
		{
			if (candidates[c] == NULL)
				continue;
			/* few differ */
			for (k = 0; k < n; k++)
				if (strcmp(TextDatumGetCString(ids[k]), candidates[c]) == 0)
					break;
			if (k < n)
				continue;
			if (n == max)
				ids = repalloc(ids, (max *= 2) * sizeof(Datum));
			ids[n++] = CStringGetTextDatum(candidates[c]);
		}
	}
	if (n == 0)
		return;
	value = PointerGetDatum(construct_array(ids, n, TEXTOID, -1, false,
											TYPALIGN_INT));
	result = sql_run(&find_prices, &value, NULL);
	for (i = 0; i < result->nrows; i++)
	{
		Price	   *price = palloc(sizeof(Price));
		bool		isnull;

		price->id = TextDatumGetCString(sql_value(result, i, 1, &isnull));
		price->plan = TextDatumGetCString(sql_value(result, i, 2, &isnull));
		sold->prices = lappend(sold->prices, price);
	}
}

/*
 * Returns the plan that an id stands for, NULL if for none.
 */
static char *
plan_of_id(const Sold *sold, const char *id)
{
	ListCell   *lc;

	foreach(lc, sold->prices)
	{
		Price	   *price = lfirst(lc);

		if (id && strcmp(price->id, id) == 0)
			return price->plan;
	}
	return NULL;
}

/*
 * Returns the plan that a line is for, NULL if it is not for any.
 */
char *
sold_plan_of_line(const Sold *sold, const Line *line)
{
	char	   *plan = plan_of_id(sold, line->price);

	if (plan == NULL)
		plan = plan_of_id(sold, line->plan_id);
	if (plan == NULL)
		plan = plan_of_id(sold, line->product);
	return plan;
}

/*
 * Returns the plan that an event says, of the first line that has one; sets the
 * price of the first line for a message if there is none.
 */
char *
sold_plan_of(const Sold *sold, const StripeEvent *event, char **price)
{
	ListCell   *lc;

	*price = NULL;
	foreach(lc, lines_of(event))
	{
		Line	   *line = lfirst(lc);
		char	   *plan = sold_plan_of_line(sold, line);

		if (plan)
			return plan;
		if (*price == NULL)
			*price = line->price ? line->price : line->product;
	}
	return NULL;
}

/*
 * Returns a plan by name: the version in force if it is the same, else the newest
 * one.  NULL if there is none.
 */
const PlanTerms *
sold_plan(const Sold *sold, const char *name)
{
	if (sold->plan && strcmp(text_to_cstring(sold->plan->name), name) == 0)
		return sold->plan;
	return plans_find(cstring_to_text(name));
}
