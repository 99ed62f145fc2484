/*
 * lines.c
 *	  What a line of a Stripe invoice is for: which plan, which part of a whole
 *	  period, and whether it is a trial.
 *
 * An item of a subscription keeps the mapping and the version of the plan that
 * its first line had, at each of its prices, so that to map a price anew, or to
 * set a plan, changes nothing for what is sold already.
 *
 * The credits of a line are those of its plan for the share of a whole period
 * that the line is for.  Amounts do not tell that share: those of prorations are
 * net of discounts.  Time does, and whole periods follow from other lines, or
 * from the anchor of the billing cycle.
 *
 * Tested in test/sql/stripe_lines.sql.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "stripe/billing.h"
#include "subscribe/calendar.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static SqlStatement find_kept = {
	.text = "SELECT v.id, v.plan, v.upgrade, v.give, k.plan_id "
	"FROM credits.stripe_items AS k "
	"JOIN credits.stripe_price_versions AS v ON v.id = k.version_id "
	"WHERE k.subscription = $1 AND k.item = $2 AND k.price = $3",
	.types = (const Oid[]) {TEXTOID, TEXTOID, TEXTOID, InvalidOid}
};

/* the first of some ids that is mapped to a plan, or to nothing */
static SqlStatement find_newest = {
	.text = "SELECT v.id, v.plan, v.upgrade, v.give "
	"FROM unnest($1) WITH ORDINALITY AS i (id, n) "
	"CROSS JOIN LATERAL (SELECT * FROM credits.stripe_price_versions AS v "
	"WHERE v.price = i.id ORDER BY v.id DESC LIMIT 1) AS v "
	"WHERE v.plan IS NOT NULL OR v.give = 'nothing' ORDER BY i.n LIMIT 1",
	.types = (const Oid[]) {TEXTARRAYOID, InvalidOid}
};

static SqlStatement insert_kept = {
	.text = "INSERT INTO credits.stripe_items (subscription, item, price, version_id, plan_id) "
	"VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
	.types = (const Oid[]) {
		TEXTOID, TEXTOID, TEXTOID, INT8OID, INT8OID, InvalidOid
	}
};

/* ------------------------------------------------------------------------
 * mappings
 */

/*
 * Returns the id of the price of a line, in whichever form it has one.
 */
static const char *
price_of(const Line *line)
{
	return line->price ? line->price : line->plan ? line->plan :
		line->product ? line->product : "";
}

/*
 * Reads a mapping from a row of a result.
 */
static void
read_mapping(Mapping *mapping, const SqlResult *result)
{
	Datum		value;
	bool		isnull;

	mapping->version_id = DatumGetInt64(statements_value(result, 0, 1, &isnull));
	value = statements_value(result, 0, 2, &isnull);
	if (!isnull)
		mapping->plan = TextDatumGetCString(value);
	value = statements_value(result, 0, 3, &isnull);
	mapping->in_advance = isnull ||
		strcmp(TextDatumGetCString(value), "when_paid") != 0;
	value = statements_value(result, 0, 4, &isnull);
	mapping->finalized = !isnull &&
		strcmp(TextDatumGetCString(value), "finalized") == 0;
}

/*
 * Finds the mapping that is in force.
 */
static void
find_mapping(Mapping *mapping, const Billed *billed, const Line *line)
{
	Datum		ids[3];
	int			n = 0;
	Datum		value;
	SqlResult  *result;

	if (line->price)
		ids[n++] = CStringGetTextDatum(line->price);
	if (line->plan)
		ids[n++] = CStringGetTextDatum(line->plan);
	if (line->product)
		ids[n++] = CStringGetTextDatum(line->product);
	if (n == 0)
		return;
	value = PointerGetDatum(construct_array(ids, n, TEXTOID, -1, false,
											TYPALIGN_INT));
	result = billing_read(&find_newest, &value);
	if (result->nrows == 0)
		return;
	read_mapping(mapping, result);
	if (mapping->plan == NULL)
		return;
	/* a subscription keeps the version of its plan */
	if (billed->plan_id != 0)
	{
		const PlanTerms *plan = plans_get(billed->plan_id);

		if (strcmp(text_to_cstring(plan->name), mapping->plan) == 0)
			mapping->terms = plan;
	}
	if (mapping->terms == NULL)
		mapping->terms = plans_find(cstring_to_text(mapping->plan));
}

/*
 * Returns what a line is mapped to.
 */
Mapping *
lines_mapping(const Billed *billed, const Line *line)
{
	Mapping    *mapping = palloc0(sizeof(Mapping));
	Datum		values[3];
	SqlResult  *result;
	Datum		plan_id;
	bool		isnull;

	mapping->item = line->item;
	mapping->price = price_of(line);
	mapping->product = line->product;
	values[0] = CStringGetTextDatum(billed->subscription);
	values[1] = CStringGetTextDatum(line->item);
	values[2] = CStringGetTextDatum(mapping->price);
	result = billing_read(&find_kept, values);
	if (result->nrows == 0)
	{
		find_mapping(mapping, billed, line);
		return mapping;
	}
	read_mapping(mapping, result);
	mapping->kept = true;
	plan_id = statements_value(result, 0, 5, &isnull);
	if (!isnull)
		mapping->terms = plans_get(DatumGetInt64(plan_id));
	return mapping;
}

/*
 * Has the item of a line keep its mapping.
 */
void
lines_keep_mapping(const Line *line, Mapping *mapping)
{
	Datum		values[5];
	bool		isnull[5] = {false};

	if (mapping->kept)
		return;
	values[0] = CStringGetTextDatum(line->subscription);
	values[1] = CStringGetTextDatum(mapping->item);
	values[2] = CStringGetTextDatum(mapping->price);
	values[3] = Int64GetDatum(mapping->version_id);
	values[4] = Int64GetDatum(mapping->terms ? mapping->terms->id : 0);
	isnull[4] = mapping->terms == NULL;
	(void) statements_run(&insert_kept, values, isnull);
	mapping->kept = true;
}

/* ------------------------------------------------------------------------
 * whole periods and trials
 */

/*
 * Returns when the whole period of a plan begins that ends with a line.  Certain
 * is set to whether a line says so, which no further event of the subscription
 * can change.
 *
 * Stripe bills in UTC.
 */
TimestampTz
lines_whole_from(const Billed *billed, const Line *line,
				 const PlanTerms *plan, bool *certain)
{
	text	   *utc = cstring_to_text("UTC");
	TimestampTz from = DT_NOEND;
	ListCell   *lc;
	int			i;

	foreach(lc, billing_whole_lines(line->subscription, line->ends_at))
	{
		Line	   *whole = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		if (whole->starts_at < from &&
			calendar_start(whole->starts_at, utc, plan->period, plan->every,
						   1) == line->ends_at)
			from = whole->starts_at;
	}
	*certain = from != DT_NOEND;
	if (*certain)
		return from;
	/* the anchor that was seen last comes first */
	for (i = 0; i < billed->nanchors; i++)
	{
		TimestampTz anchor = billed->anchors[i].first;
		int64		n = calendar_number(anchor, utc, plan->period, plan->every,
										line->ends_at);

		CHECK_FOR_INTERRUPTS();
		if (calendar_start(anchor, utc, plan->period, plan->every,
						   n) == line->ends_at)
			return calendar_start(anchor, utc, plan->period, plan->every,
								  n - 1);
	}
	return calendar_start(line->ends_at, utc, plan->period, plan->every, -1);
}

/*
 * Returns whether a line is for a trial: one of which nothing is to be paid,
 * though it has a price.
 *
 * A proration can come to nothing because it is for a few seconds only, or
 * because all of it is discounted.  It is for a trial only if the subscription
 * has one then.
 */
bool
lines_is_trial(const Billed *billed, const Line *line)
{
	int			i;

	if (line->amount != 0 || line->quantity <= 0)
		return false;
	if (line->priced && !line->proration)
		return true;
	for (i = 0; i < billed->ntrials; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (line->starts_at >= billed->trials[i].first &&
			line->starts_at < billed->trials[i].second)
			return true;
	}
	return false;
}
