/*
 * money.h
 *	  Amounts of money.
 *
 * An amount in major units, such as 9.99 euros, is a numeric Datum.  An amount
 * in minor units, such as 999 cents, is an int64.
 */
#ifndef CREDITS_BASE_MONEY_H
#define CREDITS_BASE_MONEY_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

/* largest number of digits of an amount of money, written out */
#define MAX_MONEY_DIGITS 500

extern bool money_valid_currency(Refusal *refusal, text *currency);
extern bool money_valid_amount(Refusal *refusal, Datum amount,
							   const char *name);
extern bool money_valid_digits(Refusal *refusal, Datum amount,
							   const char *name);
extern text *arg_currency(FunctionCallInfo fcinfo, int n);
extern Datum arg_money(FunctionCallInfo fcinfo, int n, const char *name);

/* number of decimals of a currency, -1 if it has no minor unit */
extern int	money_exponent(text *currency);

/* number of decimals of a currency in Stripe's API */
extern int	money_stripe_exponent(text *currency);

/* a percentage of an amount, exact and not rounded */
extern Datum money_percent(Datum amount, Datum percent);

/* rounds to a number of decimals, half away from zero */
extern Datum money_round(Datum amount, int exponent);

/* amount * 10 ^ exponent; refused if that is not a whole number */
extern bool money_to_minor(Refusal *refusal, Datum amount, int exponent,
						   text *currency, int64 *minor);
extern bool money_to_stripe(Datum amount, text *currency, int64 *minor);
extern Datum money_from_minor(int64 minor, int exponent);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_MONEY_H */
