/*
 * money.c
 *	  Amounts of money, and conversion between major and minor units.
 *
 * The number of decimals of a currency is its exponent in list one of ISO
 * 4217.  Most currencies have 2, and the table below lists those that differ.
 * A code that is not listed is assumed to have 2, so that a new currency needs
 * no new release.
 */
#include "credits.h"

#include "base/base.h"
#include "base/money.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#define DEFAULT_EXPONENT 2
#define NO_EXPONENT (-1)

typedef struct Exponent
{
	const char *currencies;		/* codes, each followed by a space */
	int			exponent;
} Exponent;

/* ISO 4217, list one, as amended up to 2025; "N.A." there is NO_EXPONENT */
static const Exponent iso_exponents[] = {
	{"BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF ", 0},
	{"BHD IQD JOD KWD LYD OMR TND ", 3},
	{"CLF UYW ", 4},
	{"XAG XAU XBA XBB XBC XBD XDR XPD XPT XSU XTS XUA XXX ", NO_EXPONENT},
	{NULL, DEFAULT_EXPONENT}
};

/*
 * The currencies for which Stripe's API uses another exponent.  According to
 * https://docs.stripe.com/currencies (as of 2026), MGA has no decimals, while
 * ISK and UGX must be sent with two decimals for backward compatibility,
 * although they are listed as having none.  HUF and TWD have none in payouts
 * only.
 */
static const Exponent stripe_exponents[] = {
	{"MGA ", 0},
	{"ISK UGX ", 2},
	{NULL, NO_EXPONENT}
};

/*
 * Checks that a currency has the form of an ISO 4217 code.
 */
bool
money_valid_currency(Refusal *refusal, text *currency)
{
	const char *s = VARDATA_ANY(currency);

	if (VARSIZE_ANY_EXHDR(currency) == 3 &&
		s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z' &&
		s[2] >= 'A' && s[2] <= 'Z')
		return true;
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  "currency must be an ISO 4217 code",
				  psprintf("It is \"%s\".", text_to_cstring(currency)),
				  "Pass three capital letters, such as EUR.");
}

/*
 * Checks that an amount of money does not have too many digits.
 */
bool
money_valid_digits(Refusal *refusal, Datum amount, const char *name)
{
	/*
	 * The size of the numeric says little, since zeros at either end are not
	 * stored: 1e100000 takes as many bytes as 1.
	 */
	const char *shown = DatumGetCString(DirectFunctionCall1(numeric_out,
															amount));
	int			digits = strlen(shown) - (strchr(shown, '.') ? 1 : 0);

	if (digits <= MAX_MONEY_DIGITS)
		return true;
	return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
				  psprintf("%s has too many digits", name),
				  psprintf("It has %d; at most %d are allowed.", digits,
						   MAX_MONEY_DIGITS),
				  "Round it, or pass a smaller number.");
}

/*
 * Checks an amount of money: it must be finite, not negative, and not have too
 * many digits.
 */
bool
money_valid_amount(Refusal *refusal, Datum amount, const char *name)
{
	Numeric		value = DatumGetNumeric(amount);

	if (numeric_is_nan(value) || numeric_is_inf(value) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, amount,
										 NumericGetDatum(int64_to_numeric(0)))))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  psprintf("%s must be a number of 0 or more", name),
					  psprintf("It is %.64s.",
							   DatumGetCString(DirectFunctionCall1(numeric_out,
																   amount))),
					  psprintf("Pass a finite number that is not negative for %s.",
							   name));
	return money_valid_digits(refusal, amount, name);
}

/*
 * Returns an argument that is a currency, or NULL if it is null.
 */
text *
arg_currency(FunctionCallInfo fcinfo, int n)
{
	Refusal		refusal;
	text	   *currency;

	if (PG_ARGISNULL(n))
		return NULL;
	currency = PG_GETARG_TEXT_PP(n);
	if (!money_valid_currency(&refusal, currency))
		raise_refusal(&refusal);
	return currency;
}

/*
 * Returns an argument that is an amount of money and must not be null.
 */
Datum
arg_money(FunctionCallInfo fcinfo, int n, const char *name)
{
	Refusal		refusal;
	Datum		amount;

	if (PG_ARGISNULL(n))
		raise_null(name);
	amount = NumericGetDatum(PG_GETARG_NUMERIC(n));
	if (!money_valid_amount(&refusal, amount, name))
		raise_refusal(&refusal);
	return amount;
}

/*
 * Returns the exponent of a currency in a table.  The last row of the table
 * has the exponent of all currencies that are not listed.
 */
static int
find_exponent(const Exponent *table, text *currency)
{
	char		code[] = "??? ";	/* with a space, as in the table */

	if (VARSIZE_ANY_EXHDR(currency) == 3)
		memcpy(code, VARDATA_ANY(currency), 3);
	while (table->currencies && strstr(table->currencies, code) == NULL)
		table++;
	return table->exponent;
}

/*
 * Returns the number of decimals of a currency, or -1 if it has no minor unit,
 * as is the case for gold (XAU).
 */
int
money_exponent(text *currency)
{
	return find_exponent(iso_exponents, currency);
}

/*
 * Returns the number of decimals of a currency in Stripe's API.
 */
int
money_stripe_exponent(text *currency)
{
	int			exponent = find_exponent(stripe_exponents, currency);

	return exponent >= 0 ? exponent : money_exponent(currency);
}

/*
 * Returns 10 to the power of an exponent, which may be negative.
 */
static Datum
power_of_ten(int exponent)
{
	return DirectFunctionCall3(numeric_in,
							   CStringGetDatum(psprintf("1e%d", exponent)),
							   ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}

/*
 * Rounds an amount to a number of decimals, half away from zero.
 */
Datum
money_round(Datum amount, int exponent)
{
	return DirectFunctionCall2(numeric_round, amount,
							   Int32GetDatum(exponent));
}

/*
 * Converts an amount to minor units.  Refuses a currency that has none, an
 * amount that is not a whole number of them, and one that does not fit in 64
 * bits.
 */
bool
money_to_minor(Refusal *refusal, Datum amount, int exponent, text *currency,
			   int64 *minor)
{
	Datum		scaled;
	Datum		most = NumericGetDatum(int64_to_numeric(PG_INT64_MAX));

	if (exponent < 0)
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  psprintf("currency %s has no minor unit",
							   text_to_cstring(currency)),
					  NULL, "Use the currency of a country.");
	scaled = DirectFunctionCall2(numeric_mul, amount, power_of_ten(exponent));
	if (DatumGetBool(DirectFunctionCall2(numeric_gt,
										 DirectFunctionCall1(numeric_abs,
															 scaled), most)))
		return refuse(refusal, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
					  "amount of money out of range",
					  psprintf("It is %.64s %s.",
							   DatumGetCString(DirectFunctionCall1(numeric_out,
																   amount)),
							   text_to_cstring(currency)),
					  "Pass a smaller amount.");
	if (DatumGetBool(DirectFunctionCall2(numeric_ne, scaled,
										 money_round(scaled, 0))))
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  "amount is not a whole number of minor units",
					  psprintf("It is %.64s; %s has %d decimals.",
							   DatumGetCString(DirectFunctionCall1(numeric_out,
																   amount)),
							   text_to_cstring(currency), exponent),
					  "Round it.");
	*minor = DatumGetInt64(DirectFunctionCall1(numeric_int8, scaled));
	return true;
}

/*
 * Converts an amount to what Stripe's API takes for it.  Returns false if it takes
 * none: of a currency with three decimals, the last one must be 0.
 */
bool
money_to_stripe(Datum amount, text *currency, int64 *minor)
{
	int			exponent = money_stripe_exponent(currency);
	Refusal		refusal;

	return money_to_minor(&refusal, amount, exponent, currency, minor) &&
		(exponent < 3 || *minor % 10 == 0);
}

/*
 * Converts an amount from minor units.
 */
Datum
money_from_minor(int64 minor, int exponent)
{
	Datum		amount = DirectFunctionCall2(numeric_mul,
											 NumericGetDatum(int64_to_numeric(minor)),
											 power_of_ten(-exponent));

	return money_round(amount, exponent);
}

/*
 * Returns a percentage of an amount.  The result is exact, not rounded.
 */
Datum
money_percent(Datum amount, Datum percent)
{
	Datum		hundredth = DirectFunctionCall3(numeric_in,
												CStringGetDatum("0.01"),
												ObjectIdGetDatum(InvalidOid),
												Int32GetDatum(-1));

	return DirectFunctionCall1(numeric_trim_scale,
							   DirectFunctionCall2(numeric_mul,
												   DirectFunctionCall2(numeric_mul,
																	   amount, percent),
												   hundredth));
}
