/*
 * changes_fold.c
 *	  What a period of a subscription entitles to, when its plan changes while
 *	  it lasts.
 *
 * Everything is counted in credits times seconds, exact integers in numeric: a
 * plan earns its credits evenly over the period.  Only what is then given or
 * taken is rounded, to whole credits: up on giving, down on taking away.  As
 * what has been given is kept, a second change does not gain by the rounding
 * of the first.
 */
#include "credits.h"

#include "changes.h"
#include "numbers.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

const char *const proration_names[] = {"prorate", "full", "none"};

/*
 * Finds a proration by name, PRORATE_UNKNOWN if there is none of it.
 */
Proration
changes_proration(const char *name)
{
	int			i;

	for (i = 0; i < (int) lengthof(proration_names); i++)
		if (strcmp(proration_names[i], name) == 0)
			return (Proration) i;
	return PRORATE_UNKNOWN;
}

/*
 * Returns a number of credits, no more than can be counted.
 */
static int64
credits_of(Datum value)
{
	if (compare(value, number(PG_INT64_MAX)) > 0)
		return PG_INT64_MAX;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8, value));
}

/*
 * Returns the whole seconds from one instant to a later one.
 */
static Datum
seconds(TimestampTz from, TimestampTz to)
{
	return number((to - from) / USECS_PER_SEC);
}

/*
 * Folds the changes inside a period, which are in order, into what it entitles
 * to.  One that ends it early is the last that counts.
 */
void
changes_fold(Entitlement *e, TimestampTz starts_at, TimestampTz ends_at,
			 int64 whole, int64 credits, Datum carried, const Turn *turns,
			 int nturns)
{
	Datum		earned = number(0);
	Datum		rate = number(credits);
	TimestampTz since = starts_at;
	int			i;

	for (i = 0; i < nturns; i++)
	{
		const Turn *turn = &turns[i];

		if (turn->proration == PRORATE_NONE)
			continue;
		if (turn->ends || turn->proration == PRORATE_BY_TIME)
			earned = add(earned, multiply(rate, seconds(since, turn->at)));
		else
			earned = multiply(number(turn->credits),
							  seconds(starts_at, turn->at));
		since = turn->at;
		rate = number(turn->ends ? 0 : turn->credits);
		if (turn->ends)
			break;
	}
	earned = add(earned, multiply(rate, seconds(since, ends_at)));
	e->whole = number(whole);
	e->earned = subtract(earned, multiply(carried, e->whole));
}

/*
 * Returns what is still to be given, rounded up, or 0.
 */
int64
changes_to_give(const Entitlement *e, int64 given)
{
	Datum		missing = subtract(e->earned, multiply(number(given), e->whole));

	return compare(missing, number(0)) <= 0 ? 0 :
		credits_of(divide(missing, e->whole, true));
}

/*
 * Returns what is to be taken back, rounded down, or 0.
 */
int64
changes_to_take(const Entitlement *e, int64 given)
{
	Datum		excess = subtract(multiply(number(given), e->whole), e->earned);

	return compare(excess, number(0)) <= 0 ? 0 :
		credits_of(divide(excess, e->whole, false));
}

/*
 * Returns what was given beyond what was earned, to be counted as given in
 * another period: less than nothing if it is owed.
 */
Datum
changes_carried(const Entitlement *e, int64 given)
{
	Datum		excess = subtract(multiply(number(given), e->whole), e->earned);
	Datum		unit = DirectFunctionCall3(numeric_in,
										   CStringGetDatum("1e-20"),
										   ObjectIdGetDatum(InvalidOid),
										   Int32GetDatum(-1));

	/* not by dividing twice: the first time would round */
	return multiply(divide(excess, multiply(e->whole, unit), true), unit);
}

/*
 * Returns an entitlement for people to read, with six digits after the point.
 */
Datum
changes_entitlement(const Entitlement *e)
{
	return DirectFunctionCall2(numeric_round,
							   DirectFunctionCall2(numeric_div, e->earned, e->whole),
							   Int32GetDatum(6));
}
