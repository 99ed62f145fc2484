/*
 * alerts.c
 *	  Alerts about balances: NOTIFY low_balance, and the events low_balance,
 *	  balance_recovered and topup_due.
 *
 * An account has levels: numbers of credits, or percentages of its base.  As long
 * as it has any, 0 is one of them.  An alert is raised when the balance falls below
 * a level, or to 0.  How many levels a balance is below is determined from the
 * account's row before and after each change, so there is no state that could be
 * wrong, and a setting that changes applies at once.  The trigger that writes the log
 * calls this, so that no change of a balance is without its alert.
 *
 * An alert is raised only when a level is crossed, because a transaction with
 * notifications takes a cluster-wide lock when it commits.  Like any notification,
 * it is sent only if the transaction commits.
 */
#include "credits.h"

#include "ledger/alerts.h"
#include "ledger/events.h"

#include "commands/async.h"
#include "utils/builtins.h"

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
levels_of(const Account *account, Levels *own)
{
	if (account->alert_levels == NULL)
		return levels_setting();

	/*
	 * only the extension writes it; if somebody else has, a spend must not
	 * fail
	 */
	if (!levels_read(VARDATA_ANY(account->alert_levels),
					 VARSIZE_ANY_EXHDR(account->alert_levels), own))
		own->n = 0;
	return own;
}

/*
 * Returns a column of an account's row that is a bigint, 0 if it is NULL.
 */
static int64
number_in(TupleTableSlot *row, AttrNumber column)
{
	bool		isnull;
	Datum		value = slot_getattr(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(value);
}

/*
 * Returns of what the levels are percentages: what was set, or else what the
 * balance has come to.
 */
static int64
base_of(int64 set, int64 base)
{
	return set != 0 ? set : base;
}

/*
 * Returns what an alert tells.
 */
static Jsonb *
detail_of(const Account *account, const Standing *crossed)
{
	JsonObject	json;

	json_begin(&json);
	json_text(&json, "account", account->name);
	json_int64(&json, "balance", account->balance);
	json_cstring(&json, "level", levels_show(&crossed->lowest));
	json_int64(&json, "threshold", crossed->threshold);
	json_int64(&json, "base", base_of(account->alert_base, account->base));
	json_int64(&json, "transaction_id", account->last_transaction_id);
	json_time(&json, "at", account->last_at);
	if (account->balance == 0)
		json_bool(&json, "depleted", true);
	return json_document(&json);
}

/*
 * Records an alert of a kind.
 */
static void
record_alert(const char *kind, const Account *account, Jsonb *detail)
{
	events_add(kind, account->id, account->last_transaction_id,
			   account->last_at, detail);
}

/*
 * Inserts an event if an account's balance has fallen below where it is to be topped
 * up.  Nobody is notified: whoever reads the event decides, see rewards/topups.c.
 */
static void
note_topup(const Account *account, TupleTableSlot *old)
{
	JsonObject	json;

	if (number_in(old, Anum_accounts_balance) < account->topup_below)
		return;
	json_begin(&json);
	json_text(&json, "account", account->name);
	json_int64(&json, "balance", account->balance);
	json_int64(&json, "below", account->topup_below);
	record_alert("topup_due", account, json_document(&json));
}

/*
 * Sends NOTIFY low_balance and inserts an event if an account's balance has fallen
 * below a level or to zero.  If asked for, inserts an event if the balance has risen
 * to a level again.  "old" is the account's row as it was before.
 */
void
alerts_raise(const Account *account, TupleTableSlot *old)
{
	Levels		own;
	const Levels *levels = levels_of(account, &own);
	Standing	is = standing(levels, account->balance,
							  base_of(account->alert_base, account->base));
	Standing	was;
	int64		before;

	if (account->balance < account->topup_below)
		note_topup(account, old);
	/* most spends leave a balance that is below no level */
	if (is.below == 0 && !setting_alert_recovery)
		return;
	before = number_in(old, Anum_accounts_balance);
	if (account->balance == before ||
		(account->balance > before && !setting_alert_recovery))
		return;
	was = standing(levels, before,
				   base_of(number_in(old, Anum_accounts_alert_base),
						   number_in(old, Anum_accounts_base)));
	if (account->balance < before && is.below > was.below)
	{
		Jsonb	   *detail = detail_of(account, &is);

		Async_Notify("low_balance", json_to_cstring(detail));
		record_alert("low_balance", account, detail);
	}
	/* the first credits of an account are no recovery */
	else if (account->balance > before && is.below < was.below &&
			 number_in(old, Anum_accounts_base) > 0)
		record_alert("balance_recovered", account, detail_of(account, &was));
}
