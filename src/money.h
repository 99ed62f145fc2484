/*
 * money.h
 *	  Amounts of money: numeric, in major units, and as whole minor units.
 *
 * Numeric amounts are Datums.
 */
#ifndef CREDITS_MONEY_H
#define CREDITS_MONEY_H

#include "credits.h"

#pragma GCC visibility push(hidden)

/* bytes of a numeric that is an amount of money: some 500 digits */
#define MAX_MONEY_BYTES 255

extern bool money_valid_currency(Refusal *refusal, text *currency);
extern bool money_valid_amount(Refusal *refusal, Datum amount,
							   const char *name);
extern text *arg_currency(FunctionCallInfo fcinfo, int n);
extern Datum arg_money(FunctionCallInfo fcinfo, int n, const char *name);

/* how many digits of a currency's amounts are minor units; -1 if it has none */
extern int	money_exponent(text *currency);

/* the same as Stripe's API counts it */
extern int	money_stripe_exponent(text *currency);

/* so many percent of an amount, exactly */
extern Datum money_percent(Datum amount, Datum percent);

/* nearest amount that has that many decimals, half away from zero */
extern Datum money_round(Datum amount, int exponent);

/* amount * 10 ^ exponent; refuses what is no whole number then */
extern bool money_to_minor(Refusal *refusal, Datum amount, int exponent,
						   text *currency, int64 *minor);
extern Datum money_from_minor(int64 minor, int exponent);

#pragma GCC visibility pop

#endif							/* CREDITS_MONEY_H */
