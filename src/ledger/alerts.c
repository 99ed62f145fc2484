/*
 * alerts.c
 *	  Alerts about balances: NOTIFY low_balance, and the events low_balance and
 *	  balance_recovered.
 *
 * An account has levels: numbers of credits, or percentages of its base.  As long
 * as it has any, 0 is one of them.  An alert is raised when the balance falls below
 * a level, or to 0.  How many levels a balance is below is determined from the
 * account's row before and after each change, so there is no state that could be
 * wrong, and a setting that changes applies at once.
 *
 * An alert is raised only when a level is crossed, because a transaction with
 * notifications takes a cluster-wide lock when it commits.  Like any notification,
 * it is sent only if the transaction commits.
 */
#include "credits.h"

#include "ledger/alerts.h"
#include "ledger/events.h"
#include "ledger/log.h"

#include "commands/async.h"
#include "commands/trigger.h"
#include "replication/logicalworker.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(credits_alert);

/* of the levels that a balance is below, how many, and the lowest one */
typedef struct Standing
{
	int			below;
	Level		lowest;
	int64		threshold;
} Standing;

/*
 * Notes that the next entry of a posting gives a grant, or makes it effective.
 */
void
alerts_note_grant(Posting *posting, const Grant *grant)
{
	char	   *source = text_to_cstring(grant->source);

	if (strcmp(source, "subscription") == 0 || strcmp(source, "purchase") == 0)
		posting->begins_anew = true;
}

/*
 * Sets the base of a posting's account after a change of its balance.  It rises with
 * the balance, so that small additions do not lower it, and begins anew with a
 * period or a purchase.
 */
void
alerts_rebase(Posting *posting)
{
	Account    *account = &posting->account;

	if (posting->begins_anew)
		account->base = account->balance;
	else
		account->base = Max(account->base, account->balance);
	posting->begins_anew = false;
}

/*
 * Determines which levels a balance is below.
 */
static Standing
standing(const Levels *levels, int64 balance, int64 base)
{
	Standing	result = {0};
	int			i;

	for (i = 0; i < levels->n; i++)
	{
		int64		threshold = levels_threshold(&levels->list[i], base);

		if (balance >= threshold)
			continue;
		if (result.below == 0 || threshold < result.threshold)
		{
			result.lowest = levels->list[i];
			result.threshold = threshold;
		}
		result.below++;
	}
	if (balance == 0 && levels->n > 0)
	{
		static const Level zero = {false, 0};

		result.lowest = zero;
		result.threshold = 0;
		result.below++;
	}
	return result;
}

/*
 * Returns the levels of an account: its own, or those of the setting.
 */
static const Levels *
levels_of(TupleTableSlot *row, Levels *own)
{
	bool		isnull;
	Datum		value = slot_getattr(row, Anum_accounts_alert_levels, &isnull);
	text	   *list;

	if (isnull)
		return levels_setting();
	list = DatumGetTextPP(value);

	/*
	 * only the extension writes it; if somebody else has, a spend must not
	 * fail
	 */
	if (!levels_read(VARDATA_ANY(list), VARSIZE_ANY_EXHDR(list), own))
		own->n = 0;
	return own;
}

/*
 * Returns a column of an account's row that is a bigint.
 */
static int64
number_in(TupleTableSlot *row, AttrNumber column)
{
	bool		isnull;
	Datum		value = slot_getattr(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/*
 * Returns the base of an account: what was set, or else what it has come to.
 */
static int64
base_of(TupleTableSlot *row)
{
	int64		base = number_in(row, Anum_accounts_alert_base);

	return base != 0 ? base : number_in(row, Anum_accounts_base);
}

/*
 * Returns what an alert tells.
 */
static Jsonb *
detail_of(TupleTableSlot *row, const Standing *crossed)
{
	JsonObject	json;
	int64		balance = number_in(row, Anum_accounts_balance);
	bool		isnull;

	json_begin(&json);
	json_text(&json, "account",
			  DatumGetTextPP(slot_getattr(row, Anum_accounts_name, &isnull)));
	json_int64(&json, "balance", balance);
	json_cstring(&json, "level", levels_show(&crossed->lowest));
	json_int64(&json, "threshold", crossed->threshold);
	json_int64(&json, "base", base_of(row));
	json_int64(&json, "transaction_id",
			   number_in(row, Anum_accounts_last_transaction_id));
	json_time(&json, "at",
			  DatumGetTimestampTz(slot_getattr(row, Anum_accounts_last_at,
											   &isnull)));
	if (balance == 0)
		json_bool(&json, "depleted", true);
	return json_document(&json);
}

/*
 * Records an alert of a kind.
 */
static void
record_alert(const char *kind, TupleTableSlot *row, Jsonb *detail)
{
	bool		isnull;

	events_add(kind, number_in(row, Anum_accounts_id),
			   number_in(row, Anum_accounts_last_transaction_id),
			   DatumGetTimestampTz(slot_getattr(row, Anum_accounts_last_at,
												&isnull)),
			   detail);
}

/*
 * Trigger function on credits.accounts: sends NOTIFY low_balance and inserts
 * an event if the balance falls below a level or to zero.  If asked for, inserts
 * an event if the balance rises to a level.
 */
Datum
credits_alert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleTableSlot *old;
	TupleTableSlot *new;
	int64		before;
	int64		balance;
	Levels		own;
	const Levels *levels;
	Standing	was;
	Standing	is;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		!store_is_table(trigger->tg_relation, &accounts_table))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as a trigger AFTER UPDATE FOR EACH ROW on table \"credits.accounts\""),
				 errhint("It serves that table only.")));
	old = trigger->tg_trigslot;
	new = trigger->tg_newslot;

	before = number_in(old, Anum_accounts_balance);
	balance = number_in(new, Anum_accounts_balance);
	if (balance == before || (balance > before && !setting_alert_recovery))
		PG_RETURN_POINTER(NULL);
	levels = levels_of(new, &own);
	was = standing(levels, before, base_of(old));
	is = standing(levels, balance, base_of(new));
	if (balance < before ? is.below <= was.below : is.below >= was.below)
		PG_RETURN_POINTER(NULL);
	/* the publisher has already raised an alert for a replicated update */
	if (IsLogicalWorker() && !log_is_posting(number_in(new, Anum_accounts_id)))
		PG_RETURN_POINTER(NULL);

	if (balance < before)
	{
		Jsonb	   *detail = detail_of(new, &is);

		Async_Notify("low_balance", json_to_cstring(detail));
		record_alert("low_balance", new, detail);
	}
	else
		record_alert("balance_recovered", new, detail_of(new, &was));
	PG_RETURN_POINTER(NULL);
}
