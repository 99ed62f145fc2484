/*
 * numeric.h
 *	  Exact arithmetic on numeric Datums.
 */
#ifndef CREDITS_BASE_NUMERIC_H
#define CREDITS_BASE_NUMERIC_H

#include "base/base.h"

#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

static inline Datum
number(int64 value)
{
	return NumericGetDatum(int64_to_numeric(value));
}

static inline Datum
add(Datum a, Datum b)
{
	return DirectFunctionCall2(numeric_add, a, b);
}

static inline Datum
subtract(Datum a, Datum b)
{
	return DirectFunctionCall2(numeric_sub, a, b);
}

static inline Datum
multiply(Datum a, Datum b)
{
	return DirectFunctionCall2(numeric_mul, a, b);
}

static inline Datum
absolute(Datum a)
{
	return DirectFunctionCall1(numeric_abs, a);
}

/*
 * Returns a value below, equal to or above 0 as a is less than, equal to or
 * greater than b.
 */
static inline int
compare(Datum a, Datum b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, a, b));
}

/*
 * Returns the quotient rounded down to a whole number, or up if "up".  The
 * divisor must be above 0.
 *
 * numeric_div_trunc rounds toward zero, which is not what is wanted for a
 * negative quotient that is rounded down, or a positive one that is rounded
 * up.
 */
static inline Datum
divide(Datum a, Datum b, bool up)
{
	Datum		quotient = DirectFunctionCall2(numeric_div_trunc, a, b);
	int			rest = compare(a, multiply(quotient, b));

	if (rest > 0 && up)
		return add(quotient, number(1));
	if (rest < 0 && !up)
		return subtract(quotient, number(1));
	return quotient;
}

#endif							/* CREDITS_BASE_NUMERIC_H */
