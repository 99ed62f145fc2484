/*
 * chargebacks.c
 *	  Chargebacks: the buyer's bank takes the money of a purchase back.
 *
 * The credits are taken at once, and given back if the chargeback is won.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/ledger.h"
#include "sell/reversals.h"

#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_open_chargeback);
PG_FUNCTION_INFO_V1(credits_close_chargeback);

static const char *const chargeback_outcome_names[] = {"won", "lost"};

/*
 * Decides how much is charged back.
 */
static bool
decide_opened(ReversalCall *call, Refusal *refusal)
{
	Reversal   *reversal = &call->reversal;
	Datum		money;
	int64		credits;
	Datum		left;

	if (!reversals_decide_new(call, refusal))
		return false;
	if (call->replayed)
		return true;
	clawbacks_sum(call->reversals, &money, &credits);
	left = subtract(call->purchase.money, money);
	if (call->all)
		reversal->money = left;
	/* what was refunded can be charged back too, but no more than was paid */
	if (compare(reversal->money, call->all ? left : call->purchase.money) > 0 ||
		compare(reversal->money, number(0)) <= 0)
		return reversals_refuse_too_much(call, refusal, left);
	return true;
}

/*
 * Decides what becomes of a chargeback that is closed.
 */
static bool
decide_closed(ReversalCall *call, Refusal *refusal)
{
	if (call->before == NULL || call->before->kind != REVERSAL_CHARGEBACK)
		return refuse(refusal, ERRCODE_NOT_FOUND,
					  psprintf("purchase " INT64_FORMAT " has no chargeback \"%s\"",
							   call->purchase.id,
							   text_to_cstring(call->reversal.reference)),
					  NULL,
					  "Make it known with credits_open_chargeback first.");
	if (!reversals_has_grants(call, refusal))
		return false;
	call->reversal.money = call->before->money;
	call->replayed = call->before->status == call->reversal.status;
	return true;
}

/*
 * Takes back the credits of a purchase whose money the buyer's bank takes back.
 */
Datum
credits_open_chargeback(PG_FUNCTION_ARGS)
{
	ReversalCall call = {.decide = decide_opened};

	call.reversal.reference = arg_name(fcinfo, 1, "reference");
	reversals_arg_money(fcinfo, 2, &call);
	call.reason = arg_text(fcinfo, 3, "reason", MAX_REASON_BYTES);
	call.reversal.kind = REVERSAL_CHARGEBACK;
	call.reversal.status = REVERSAL_OPEN;
	return reversals_call(fcinfo, "credits_open_chargeback()", &call);
}

/*
 * Gives back what a chargeback took, or records that it stays taken.
 */
Datum
credits_close_chargeback(PG_FUNCTION_ARGS)
{
	ReversalCall call = {.decide = decide_closed};

	call.reversal.reference = arg_name(fcinfo, 1, "reference");
	call.reversal.kind = REVERSAL_CHARGEBACK;
	call.reversal.status = ARG_CHOICE(2, "outcome", chargeback_outcome_names) == 0 ?
		REVERSAL_WON : REVERSAL_LOST;
	call.reversal.money = number(0);
	return reversals_call(fcinfo, "credits_close_chargeback()", &call);
}
