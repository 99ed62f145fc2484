/*
 * numbers.h
 *	  Arithmetic on numeric, for what must be exact.
 */
#ifndef CREDITS_NUMBERS_H
#define CREDITS_NUMBERS_H

#include "credits.h"

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

/*
 * Compares two numbers.
 */
static inline int
compare(Datum a, Datum b)
{
	return DatumGetInt32(DirectFunctionCall2(numeric_cmp, a, b));
}

/*
 * Divides, exactly, and rounds down or up.  The divisor is above 0.
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

#endif							/* CREDITS_NUMBERS_H */
