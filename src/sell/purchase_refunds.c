/*
 * purchase_refunds.c
 *	  Refunds of purchases: the seller pays money back, and takes the credits.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "sell/reversals.h"

#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_refund_purchase);

/*
 * Makes up a reference for a refund that the caller gave none.
 */
static text *
new_reference(const ReversalCall *call)
{
	int			n = list_length(call->reversals);
	text	   *reference;

	do
		reference = cstring_to_text(psprintf("refund_" INT64_FORMAT "_%d",
											 call->purchase.id, ++n));
	while (reversals_find(call->reversals, reference));
	return reference;
}

/*
 * Decides how much is refunded.
 */
static bool
decide_refund(ReversalCall *call, Refusal *refusal)
{
	Reversal   *reversal = &call->reversal;
	int64		main;
	Datum		money;
	int64		credits;
	Datum		left;

	if (!reversals_decide_new(call, refusal))
		return false;
	if (call->replayed)
		return true;
	main = ((PurchasedGrant *) linitial(call->grants))->amount;
	clawbacks_sum(call->reversals, &money, &credits);
	left = subtract(subtract(call->purchase.money, money),
					clawbacks_worth(&call->purchase, credits, main));
	if (call->all)
	{
		/* in credits it is exact, unless part was refunded as money */
		if (compare(call->purchase.money, number(0)) == 0 ||
			(credits > 0 && compare(money, number(0)) == 0))
			reversal->credits = main - credits;
		else
			reversal->money = left;
		if (reversal->credits == 0 &&
			compare(reversal->money, number(0)) <= 0)
			return reversals_refuse_too_much(call, refusal, left);
	}
	else if (reversal->credits > 0)
	{
		int64		claimed = clawbacks_share(main, money, call->purchase.money,
											  credits, main);

		if (reversal->credits > main - claimed)
			return refuse(refusal, ERRCODE_CONFLICT,
						  psprintf("cannot refund " INT64_FORMAT " credits of purchase " INT64_FORMAT,
								   reversal->credits, call->purchase.id),
						  psprintf("Of " INT64_FORMAT " that were paid for, " INT64_FORMAT " can still be refunded.",
								   main, main - claimed),
						  "Refund what is left, or leave out how much.");
	}
	else if (compare(reversal->money, left) > 0)
		return reversals_refuse_too_much(call, refusal, left);
	if (reversal->reference == NULL)
		call->request.reference = reversal->reference = new_reference(call);
	return true;
}

/*
 * Takes back the credits of a purchase whose money is paid back.
 */
Datum
credits_refund_purchase(PG_FUNCTION_ARGS)
{
	ReversalCall call = {.decide = decide_refund};

	reversals_arg_money(fcinfo, 1, &call);
	if (!PG_ARGISNULL(2))
	{
		if (!call.all)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("either money or credits can be refunded"),
					 errhint("Leave one of them out.")));
		call.all = false;
		call.reversal.credits = arg_amount(fcinfo, 2, "credits");
	}
	if (!PG_ARGISNULL(3))
		call.reversal.reference = arg_name(fcinfo, 3, "reference");
	call.reason = arg_text(fcinfo, 4, "reason", MAX_REASON_BYTES);
	call.reversal.kind = REVERSAL_REFUND;
	call.reversal.status = REVERSAL_MADE;
	return reversals_call(fcinfo, "credits_refund_purchase()", &call);
}
