/*
 * period_refunds.c
 *	  Refunds of periods of subscriptions that the clock renews: the seller pays
 *	  money back, and takes the credits.
 *
 * Each refund is a row of credits.period_refunds, identified by its reference.
 * What the refunds of a period add up to is a share of what its grants were sold
 * for, and the same share of what the period has given is claimed, rounded down.
 * What a period of which everything was paid back has given is claimed wholly.
 *
 * It is a function of sums, and a change of plan within the period is made as if
 * the refunds were not there: what they have the grants owe is waived first, what
 * the change takes back is released, and what is claimed is brought to the sums
 * again.  So refunds and changes may become known in any order, and a change
 * moves no claims but those that differ.
 *
 * What changes of plan have taken back is lost to the grants, and a claim counts
 * first what a grant has lost.  Therefore it is claimed on top.
 *
 * Tested in test/sql/period_refunds.sql and test/t/period_refunds.pl.
 */
#include "credits.h"

#include "base/money.h"
#include "base/numeric.h"
#include "ledger/ledger.h"
#include "subscribe/part_periods.h"
#include "subscribe/period_refunds.h"
#include "subscribe/plan_history.h"
#include "subscribe/renew.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_refund_period);

/* A row of credits.period_refunds */
typedef struct PeriodRefund
{
	ItemPointerData tid;
	int64		subscription_id;
	text	   *reference;
	TimestampTz starts_at;		/* of the period */
	Datum		money;			/* numeric, 0 for everything at an unknown
								 * price */
	text	   *currency;		/* NULL if the price is unknown */
	text	   *reason;
	TimestampTz created_at;
	const char *role;
} PeriodRefund;

/* What the refunds of a period, and its price, come to */
typedef struct RefundSums
{
	int			n;
	bool		everything;		/* at an unknown price */
	Datum		money;			/* numeric */
	Datum		paid;			/* numeric */
	text	   *currency;		/* NULL unless each of its grants has a price
								 * in it */
} RefundSums;

/* A refund that is asked for, and what came of it */
typedef struct RefundCall
{
	int64		subscription_id;
	bool		all;			/* is it of all the money that is left? */
	bool		any_period;		/* is it of the newest period? */
	PeriodRefund asked;			/* as far as the caller says */
	PeriodRefund refund;
	Request		request;
	text	   *account;
	TimestampTz ends_at;		/* of the period */
	int64		claimed;		/* more than before */
	int64		transaction_id; /* 0 if nothing was taken */
	int64		balance;
	int64		debt;
	bool		replayed;
} RefundCall;

static const StoreColumn period_refund_columns[] = {
	COLUMN_INT64(PeriodRefund, subscription_id),
	COLUMN_TEXT(PeriodRefund, reference),
	COLUMN_TIME(PeriodRefund, starts_at),
	COLUMN_NUMERIC(PeriodRefund, money, NULL_IF_ZERO),
	COLUMN_TEXT(PeriodRefund, currency, NULL_IF_ZERO),
	COLUMN_TEXT(PeriodRefund, reason, NULL_IF_ZERO),
	COLUMN_TIME(PeriodRefund, created_at),
	COLUMN_CSTRING(PeriodRefund, role)
};

static StoreTable period_refunds_table = {
	.name = "period_refunds",
	ROWS_OF(PeriodRefund, period_refund_columns)
};

static StoreIndex period_refunds_by_reference = {
	&period_refunds_table, "period_refunds_pkey",
	{"subscription_id", "reference"},.unique = true
};

static StoreIndex period_refunds_by_period = {
	&period_refunds_table, "period_refunds_starts_at_idx",
	{"subscription_id", "starts_at"}
};

/* ------------------------------------------------------------------------
 * sums
 */

/*
 * Adds a refund to the sums of its period.
 */
static void
add_refund(RefundSums *sums, const PeriodRefund *refund)
{
	sums->n++;
	if (refund->money)
		sums->money = add(sums->money, refund->money);
	else
		sums->everything = true;
}

/*
 * Adds up what was paid back for a period, and what it was sold for.
 */
static void
add_up_refunds(Posting *posting, const Period *period, RefundSums *sums)
{
	StoreScan	scan;
	PeriodRefund refund;

	memset(sums, 0, sizeof(RefundSums));
	sums->money = number(0);
	sums->paid = period->price ? period->price : number(0);
	if (compare(sums->paid, number(0)) > 0)
		sums->currency = period->currency;
	scan_begin(&scan, posting->store, &period_refunds_by_period,
			   posting->snapshot, BY_INT64(period->subscription_id),
			   BY_TIME(period->starts_at));
	while (scan_peek(&scan, ForwardScanDirection, &refund))
	{
		CHECK_FOR_INTERRUPTS();
		add_refund(sums, &refund);
	}
	scan_end(&scan);
}

/*
 * Returns how many of the credits that a period has given are claimed.
 */
static int64
claims_of(const Period *period, const RefundSums *sums)
{
	if (sums->everything)
		return period->given;
	if (compare(sums->money, number(0)) == 0)
		return 0;
	if (compare(sums->money, sums->paid) >= 0)
		return period->given;
	return DatumGetInt64(DirectFunctionCall1(numeric_int8,
											 divide(multiply(number(period->given),
															 sums->money),
													sums->paid, false)));
}

/* ------------------------------------------------------------------------
 * claims
 */

/*
 * Claims from a period what its refunds come to, and from what it has passed on
 * what it would not have had.
 */
static void
claim_by_sums(Posting *posting, const Subscription *subscription,
			  Period *period, const RefundSums *sums)
{
	period_claims_set(posting, period,
					  plus(claims_of(period, sums), period->withdrawn));
	if (period->ends_at > posting->now)
		return;
	period_claims_passed_on(posting, subscription, period, true);
}

/*
 * Releases what a period owes for its refunds.  Returns whether it has any.
 */
bool
period_refunds_release(Posting *posting, const Subscription *subscription,
					   Period *period)
{
	RefundSums	sums;

	/* where credits follow what was paid, refunds are told by invoices */
	if (subscription->by_payment)
		return false;
	add_up_refunds(posting, period, &sums);
	period->refunded = sums.n > 0;
	if (period->refunded)
		period_claims_waive(posting, period);
	return period->refunded;
}

/*
 * Claims from a period what its refunds come to.  What was posted for that since
 * the posting's main transaction refers to it.
 */
void
period_refunds_claim(Posting *posting, const Subscription *subscription,
					 Period *period)
{
	RefundSums	sums;
	int			i;

	add_up_refunds(posting, period, &sums);
	claim_by_sums(posting, subscription, period, &sums);
	for (i = 0; i < posting->nentries; i++)
	{
		Entry	   *entry = posting->entries[i];

		CHECK_FOR_INTERRUPTS();
		if ((entry->kind != KIND_CLAWBACK &&
			 entry->kind != KIND_REINSTATEMENT) ||
			entry->has_target || entry->id < posting->main->id)
			continue;
		entry->has_target = true;
		entry->target_id = posting->main->id;
	}
}

/* ------------------------------------------------------------------------
 * refunds
 */

/*
 * Finds the refund of a subscription that has a reference.
 */
static bool
find_refund(Posting *posting, int64 subscription_id, text *reference,
			PeriodRefund *refund)
{
	return scan_find(posting->store, &period_refunds_by_reference,
					 posting->snapshot, refund, BY_INT64(subscription_id),
					 BY_TEXT(reference));
}

/*
 * Finds the period that is to be refunded: the one that is named, or the newest
 * one that has given anything.  Returns NULL, with the posting's refusal set, if
 * there is none.
 */
static Period *
find_period(Posting *posting, const RefundCall *call)
{
	int64		id = call->subscription_id;
	Period	   *period;

	if (!call->any_period)
	{
		period = periods_in(posting, id, call->refund.starts_at);
		if (period == NULL)
			refuse(&posting->refusal, ERRCODE_NOT_FOUND,
				   psprintf("subscription " INT64_FORMAT " has no such period",
							id),
				   psprintf("None begins at %s.",
							timestamptz_to_str(call->refund.starts_at)),
				   "Pass when one begins, or leave period_start out for the newest.");
		else if (period->grant_id == 0)
		{
			refuse(&posting->refusal, ERRCODE_CONFLICT,
				   psprintf("that period of subscription " INT64_FORMAT " gave no credits",
							id),
				   psprintf("It begins at %s.",
							timestamptz_to_str(period->starts_at)),
				   "There is nothing to take back for it.");
			period = NULL;
		}
		return period;
	}
	period = periods_before(posting, id, DT_NOEND);
	while (period && period->grant_id == 0)
	{
		CHECK_FOR_INTERRUPTS();
		period = periods_before(posting, id, period->starts_at);
	}
	if (period == NULL)
		refuse(&posting->refusal, ERRCODE_CONFLICT,
			   psprintf("no period of subscription " INT64_FORMAT " gave credits",
						id),
			   NULL, "There is nothing to take back for it.");
	return period;
}

/*
 * Refuses to use a reference for something else than it was used for.
 */
static bool
refuse_used(const RefundCall *call, const PeriodRefund *before,
			Refusal *refusal)
{
	return refuse(refusal, ERRCODE_CONFLICT,
				  psprintf("reference \"%s\" was used for another refund of subscription " INT64_FORMAT,
						   text_to_cstring(before->reference),
						   call->subscription_id),
				  before->money == 0 ?
				  psprintf("That was for everything, of the period that begins at %s.",
						   timestamptz_to_str(before->starts_at)) :
				  psprintf("That was for %s %s, of the period that begins at %s.",
						   DatumGetCString(DirectFunctionCall1(numeric_out,
															   before->money)),
						   text_to_cstring(before->currency),
						   timestamptz_to_str(before->starts_at)),
				  "Repeat a request with the very same arguments, or use a new reference.");
}

/*
 * Makes up a reference for a refund that the caller gave none.
 */
static text *
made_up_reference(Posting *posting, const Period *period, int n)
{
	PeriodRefund other;
	text	   *reference;

	do
		reference = cstring_to_text(psprintf("refund_" INT64_FORMAT "_" INT64_FORMAT "_%d",
											 period->subscription_id,
											 period->number, ++n));
	while (find_refund(posting, period->subscription_id, reference, &other));
	return reference;
}

/*
 * Returns the most that can still be paid back: what is left, rounded up to a
 * whole number of the currency's minor units.
 */
static Datum
most_to_refund(const RefundSums *sums)
{
	Datum		left = subtract(sums->paid, sums->money);
	int			exponent = money_exponent(sums->currency);

	if (exponent >= 0)
	{
		Datum		scale = DirectFunctionCall2(numeric_power, number(10),
												number(exponent));

		left = DirectFunctionCall2(numeric_div,
								   DirectFunctionCall1(numeric_ceil,
													   multiply(left, scale)),
								   scale);
	}
	return DirectFunctionCall1(numeric_trim_scale, left);
}

/*
 * Decides how much is refunded.  Returns false, with the refusal filled in, if
 * that is not allowed.
 */
static bool
decide_money(RefundCall *call, const Period *period, const RefundSums *sums,
			 Refusal *refusal)
{
	Datum		left = subtract(sums->paid, sums->money);
	Datum		most;
	int64		minor;

	if (sums->everything ||
		(compare(sums->paid, number(0)) > 0 && compare(left, number(0)) <= 0))
		return refuse(refusal, ERRCODE_CONFLICT,
					  psprintf("that period of subscription " INT64_FORMAT " is already refunded",
							   call->subscription_id),
					  psprintf("All that was paid for the period that begins at %s was paid back.",
							   timestamptz_to_str(period->starts_at)),
					  "Repeat a request with its reference, or name another period.");
	if (sums->currency == NULL)
	{
		if (call->all)
			return true;
		return refuse(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					  psprintf("what was paid for that period of subscription " INT64_FORMAT " is not known",
							   call->subscription_id),
					  "Not all of its grants have a price, in one currency.",
					  "Leave money out to take everything back.");
	}
	if (!call->all && money_exponent(sums->currency) >= 0 &&
		!money_to_minor(refusal, call->refund.money,
						money_exponent(sums->currency), sums->currency, &minor))
		return false;
	most = most_to_refund(sums);
	if (!call->all && compare(call->refund.money, most) > 0)
		return refuse(refusal, ERRCODE_CONFLICT,
					  psprintf("cannot pay back that much of that period of subscription " INT64_FORMAT,
							   call->subscription_id),
					  psprintf("Of %s %s that were paid, %s can still be paid back.",
							   DatumGetCString(DirectFunctionCall1(numeric_out,
																   sums->paid)),
							   text_to_cstring(sums->currency),
							   DatumGetCString(DirectFunctionCall1(numeric_out, most))),
					  "Pay what is left back, or leave out how much.");
	if (call->all)
		call->refund.money = most;
	call->refund.currency = sums->currency;
	return true;
}

/*
 * Writes a refund.
 */
static void
write_period_refund(Posting *posting, void *row)
{
	store_insert(posting->store, &period_refunds_table, row);
}

/*
 * Announces a refund.
 */
static void
announce_refund(Posting *posting, const RefundCall *call)
{
	const PeriodRefund *refund = &call->refund;
	JsonObject	json;

	json_begin(&json);
	json_cstring(&json, "account", rows_account_name(&posting->account));
	json_int64(&json, "subscription_id", call->subscription_id);
	json_time(&json, "period_start", refund->starts_at);
	json_time(&json, "period_end", call->ends_at);
	json_text(&json, "reference", refund->reference);
	if (refund->money)
	{
		json_numeric(&json, "money", refund->money);
		json_text(&json, "currency", refund->currency);
	}
	json_int64(&json, "credits", call->claimed);
	json_int64(&json, "balance", call->balance);
	json_int64(&json, "debt", call->debt);
	events_announce_with(posting, "period_refunded", call->transaction_id,
						 &json);
}

/*
 * Makes a refund: claims what all those of the period come to, and has it
 * written and announced.
 */
static void
make_refund(Posting *posting, const Subscription *s, Period *period,
			RefundSums *sums, RefundCall *call)
{
	PeriodRefund *refund = &call->refund;
	int64		before = claims_of(period, sums);
	int			i = posting->nentries;

	/* what is lost already can't be claimed from what is left */
	if (sums->n == 0)
		period_claims_lost(posting, period, period->withdrawn);

	refund->subscription_id = s->id;
	refund->starts_at = period->starts_at;
	if (refund->reference == NULL)
		refund->reference = made_up_reference(posting, period, sums->n);
	refund->created_at = posting->now;
	refund->role = GetUserNameFromId(GetSessionUserId(), false);
	add_refund(sums, refund);
	call->claimed = claims_of(period, sums) - before;
	claim_by_sums(posting, s, period, sums);
	call->request.reference = refund->reference;
	for (; i < posting->nentries; i++)
	{
		Entry	   *entry = posting->entries[i];

		CHECK_FOR_INTERRUPTS();
		if (entry->kind != KIND_CLAWBACK)
			continue;
		log_describe_part(entry, &call->request);
		if (call->transaction_id == 0)
			call->transaction_id = entry->id;
	}
	call->balance = posting->account.balance;
	call->debt = posting->account.debt;
	posting_defer(posting, write_period_refund, refund);
	announce_refund(posting, call);
}

/*
 * Plans a refund.
 */
static bool
plan_period_refund(Posting *posting, void *arg)
{
	RefundCall *call = arg;
	PeriodRefund *refund = &call->refund;
	Subscription *s = subscriptions_in(posting, call->subscription_id);
	PeriodRefund before;
	Period	   *period;
	RefundSums	sums;

	if (s == NULL)
		subscriptions_raise_unknown(call->subscription_id);
	*refund = call->asked;
	call->claimed = call->transaction_id = 0;
	call->account = cstring_to_text(rows_account_name(&posting->account));
	call->replayed = refund->reference &&
		find_refund(posting, s->id, refund->reference, &before);
	if (call->replayed)
	{
		if ((!call->any_period && before.starts_at != refund->starts_at) ||
			(!call->all && (before.money == 0 ||
							compare(before.money, refund->money) != 0)))
			return refuse_used(call, &before, &posting->refusal);
		*refund = before;
		period = periods_in(posting, s->id, before.starts_at);
		call->ends_at = period ? period->ends_at : before.starts_at;
		call->balance = posting->account.balance;
		call->debt = posting->account.debt;
		return true;
	}
	if (!guards_not_closed(posting))
		return false;
	/* a late renewal makes no difference; what limits forbid stays due */
	if (!renew_due(posting, s))
		memset(&posting->refusal, 0, sizeof(Refusal));
	period = find_period(posting, call);
	if (period == NULL)
		return false;
	add_up_refunds(posting, period, &sums);
	if (!decide_money(call, period, &sums, &posting->refusal))
		return false;
	call->ends_at = period->ends_at;
	make_refund(posting, s, period, &sums, call);
	return true;
}

/*
 * Makes a credits.period_refund.
 */
static Datum
period_refund_datum(FunctionCallInfo fcinfo, const RefundCall *call)
{
	TupleDesc	tupdesc = receipts_tupdesc(fcinfo, 11);
	const PeriodRefund *refund = &call->refund;
	Datum		values[11];
	bool		isnull[11] = {false};
	Datum		result;

	values[0] = Int64GetDatum(call->subscription_id);
	values[1] = PointerGetDatum(call->account);
	values[2] = TimestampTzGetDatum(refund->starts_at);
	values[3] = TimestampTzGetDatum(call->ends_at);
	values[4] = PointerGetDatum(refund->reference);
	values[5] = refund->money;
	isnull[5] = refund->money == 0;
	values[6] = PointerGetDatum(refund->currency);
	isnull[6] = refund->currency == NULL;
	values[7] = Int64GetDatum(call->claimed);
	values[8] = Int64GetDatum(call->balance);
	values[9] = Int64GetDatum(call->debt);
	values[10] = BoolGetDatum(call->replayed);
	result = HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull));
	ReleaseTupleDesc(tupdesc);
	return result;
}

/*
 * Takes back the credits of a period whose money is paid back.
 */
Datum
credits_refund_period(PG_FUNCTION_ARGS)
{
	RefundCall	call = {0};
	PeriodRefund *refund = &call.asked;
	Party		party = {0};
	Subscription subscription;
	Receipt		receipt;
	Refusal		refusal;

	call.subscription_id = arg_id(fcinfo, 0, "subscription_id");
	call.all = PG_ARGISNULL(1);
	if (!call.all)
	{
		refund->money = arg_money(fcinfo, 1, "money");
		if (compare(refund->money, number(0)) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("money must be greater than zero"),
					 errhint("Leave money out for all that is left.")));
	}
	call.any_period = PG_ARGISNULL(2);
	if (!call.any_period)
		refund->starts_at = PG_GETARG_TIMESTAMPTZ(2);
	if (!PG_ARGISNULL(3))
		refund->reference = arg_name(fcinfo, 3, "reference");
	refund->reason = arg_text(fcinfo, 4, "reason", MAX_REASON_BYTES);
	call.request.reason = refund->reason;

	store_check_writable("credits_refund_period()");
	ledger_lock_tables("credits_refund_period()");
	store_lock_table(&subscriptions_table);
	store_lock_table(&period_refunds_table);
	if (!subscriptions_find(call.subscription_id, &subscription))
		subscriptions_raise_unknown(call.subscription_id);
	if (subscription.by_payment)
		ereport(ERROR,
				(errcode(ERRCODE_CONFLICT),
				 errmsg("periods of subscription " INT64_FORMAT " are given when they are paid",
						call.subscription_id),
				 errdetail("Their credits follow what their invoices say."),
				 errhint("Set reversed of the invoice's lines with credits_set_invoice.")));
	/* this needs no lock: a subscription never changes its account */
	party.id = subscription.account_id;
	if (!ledger_post_joint("credits_refund_period()", &party, 1, &call.request,
						   plan_period_refund, &call, &receipt, &refusal))
		raise_refusal(&refusal);
	return period_refund_datum(fcinfo, &call);
}
