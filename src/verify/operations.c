/*
 * operations.c
 *	  Proving charges: that each cost what its quantity costs at the price that it
 *	  names.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "spend/spend.h"
#include "verify/verify.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"

/*
 * Returns the quantity of a charge, 0 if it has none.  It is written out in its
 * terms, where nothing but digits and a point can be.
 */
static Datum
quantity_of(const Entry *entry)
{
	JsonbValue *value = terms_get(entry, "quantity");
	char	   *shown;
	char	   *point;

	if (value == NULL || value->type != jbvString ||
		value->val.string.len > MAX_REASON_BYTES)
		return 0;
	shown = pnstrdup(value->val.string.val, value->val.string.len);
	point = strchr(shown, '.');
	if (strspn(shown, "0123456789.") != strlen(shown) ||
		shown[strcspn(shown, "0123456789")] == '\0' ||
		(point && strchr(point + 1, '.')))
		return 0;
	return DirectFunctionCall3(numeric_in, CStringGetDatum(shown),
							   ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}

/*
 * Checks what a charge cost.  Of one that was split, the first row has all of
 * it.
 */
void
verify_charge(Verification *v, const Entry *entry)
{
	int64		price_id;
	int64		amount = entry->amount;
	TimestampTz active_from;
	Datum		quantity;
	Datum		cost;
	text	   *name;

	if (entry->kind != KIND_DEDUCTION || entry->has_target ||
		!terms_int64(entry, "price_id", &price_id))
		return;
	(void) terms_int64(entry, "total", &amount);
	quantity = quantity_of(entry);
	if (quantity == 0)
		verify_report(v, entry->id, "price", "is a charge without a quantity");
	else if (!operations_cost(GetActiveSnapshot(), price_id, quantity, &name,
							  &active_from, &cost))
		verify_report(v, entry->id, "price",
					  psprintf("price " INT64_FORMAT ", by which it was charged, is missing",
							   price_id));
	else if (entry->operation == NULL || !same_text(name, entry->operation))
		verify_report(v, entry->id, "price",
					  psprintf("price " INT64_FORMAT ", by which it was charged, is of another operation",
							   price_id));
	else if (active_from > entry->created_at)
		verify_report(v, entry->id, "price",
					  psprintf("price " INT64_FORMAT ", by which it was charged, was not in force yet",
							   price_id));
	else if (!DatumGetBool(DirectFunctionCall2(numeric_eq, cost,
											   DirectFunctionCall1(numeric_uminus,
																   NumericGetDatum(int64_to_numeric(amount))))))
		verify_report(v, entry->id, "price",
					  psprintf("cost " INT64_FORMAT ", but should have cost %s at price " INT64_FORMAT,
							   -amount,
							   DatumGetCString(DirectFunctionCall1(numeric_out, cost)),
							   price_id));
}
