/*
 * debts.c
 *	  Taking back credits whose money went back, and the debt for those that
 *	  are spent.
 *
 * What is to be taken back is claimed from a grant.  Of a claim, what the grant
 * has lost to its expiry counts as gone, since nobody had any use of it; then
 * what remains of the grant is taken; the rest, spent, held or given away, is
 * owed.  Lowering a claim goes the same way back: what is owed is waived, what
 * was paid on it goes back to the grants that paid, what was taken from the
 * grant goes back to it, and what was gone is forgotten.
 *
 * So what has become of a claim depends on the grant alone, whatever was
 * claimed and waived in between.  Hence also, credits that a refund or a
 * release gives back to a grant pay what that grant owes, and no other's
 * debt.  Grants that come in pay what any grant of the account owes, the oldest
 * first, if they were bought, or all of them by setting.
 *
 * accounts.debt is the sum of what the account's grants owe: who owes nothing
 * pays for none of this with more than a look at it.
 */
#include "credits.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/* columns of credits.debts */
enum
{
	Anum_debts_grant_id = 1,
	Anum_debts_account_id,
	Anum_debts_claimed,
	Anum_debts_gone,
	Anum_debts_owed,
	Anum_debts_paid,
	Anum_debts_payers,
	Natts_debts = Anum_debts_payers
};

StoreTable	debts_table = {
	.name = "debts",
	.types = (const Oid[]) {
		INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8OID, INT8ARRAYOID,
		InvalidOid
	}
};

static StoreIndex debts_by_account_id = {&debts_table, "debts_account_id_idx"};

/*
 * Reads what was claimed from an account's grants, in order of grant.
 */
List *
debts_read(Store *store, Snapshot snapshot, int64 account_id)
{
	StoreScan	scan;
	ScanKeyData key;
	TupleTableSlot *slot;
	List	   *debts = NIL;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(account_id));
	store_scan(&scan, store, &debts_by_account_id, snapshot, &key, 1);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Debt	   *debt = palloc0(sizeof(Debt));
		Datum	   *values;

		slot_getallattrs(slot);
		values = slot->tts_values - 1;	/* by column number */
		debt->tid = slot->tts_tid;
		debt->grant_id = DatumGetInt64(values[Anum_debts_grant_id]);
		debt->account_id = DatumGetInt64(values[Anum_debts_account_id]);
		debt->claimed = DatumGetInt64(values[Anum_debts_claimed]);
		debt->gone = DatumGetInt64(values[Anum_debts_gone]);
		debt->owed = DatumGetInt64(values[Anum_debts_owed]);
		debt->paid = DatumGetInt64(values[Anum_debts_paid]);
		if (!slot->tts_isnull[Anum_debts_payers - 1])
			debt->payers = row_read_draws(values[Anum_debts_payers],
										  &debt->npayers);
		debts = lappend(debts, debt);
	}
	store_scan_end(&scan);
	return debts;
}

/*
 * Returns what was claimed from the grants of a posting's account.
 */
static List *
debts_of(Posting *posting)
{
	if (!posting->debts_loaded)
	{
		posting->debts = debts_read(posting->store, posting->snapshot,
									posting->account.id);
		posting->debts_loaded = true;
	}
	return posting->debts;
}

/*
 * Returns what was claimed from a grant of the posting's account, NULL if
 * nothing ever was.
 */
static Debt *
find(Posting *posting, int64 grant_id)
{
	ListCell   *lc;

	foreach(lc, debts_of(posting))
	{
		Debt	   *debt = lfirst(lc);

		if (debt->grant_id == grant_id)
			return debt;
	}
	return NULL;
}

/*
 * Writes a debt: inserts a new one, or updates one that has changed.
 */
static void
write_debt(Posting *posting, void *row)
{
	Debt	   *debt = row;
	Datum		columns[Natts_debts];
	bool		nulls[Natts_debts] = {false};
	Datum	   *values = columns - 1;	/* by column number */

	values[Anum_debts_grant_id] = Int64GetDatum(debt->grant_id);
	values[Anum_debts_account_id] = Int64GetDatum(debt->account_id);
	values[Anum_debts_claimed] = Int64GetDatum(debt->claimed);
	values[Anum_debts_gone] = Int64GetDatum(debt->gone);
	values[Anum_debts_owed] = Int64GetDatum(debt->owed);
	values[Anum_debts_paid] = Int64GetDatum(debt->paid);
	if (debt->npayers > 0)
		values[Anum_debts_payers] = row_draws_datum(debt->payers,
													debt->npayers);
	else
		nulls[Anum_debts_payers - 1] = true;

	if (!ItemPointerIsValid(&debt->tid))
		store_insert(posting->store, &debts_table, columns, nulls);
	else if (store_update(posting->store, &debts_table, posting->snapshot,
						  &debt->tid, true, columns, nulls) != TM_Ok)
		/* the account's lock is ours: nobody else can have changed it */
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update"),
				 errdetail("The debt of grant " INT64_FORMAT " has changed past its account.",
						   debt->grant_id),
				 errhint("Retry the transaction.")));
}

/*
 * Notes that a debt is to be written.
 */
static void
change(Posting *posting, Debt *debt)
{
	if (!debt->changed)
		log_defer(posting, write_debt, debt);
	debt->changed = true;
}

/*
 * Changes what is owed for a grant.
 */
static void
owe(Posting *posting, Debt *debt, int64 amount)
{
	debt->owed += amount;
	posting->account.debt += amount;
	change(posting, debt);
}

/*
 * Begins the terms of a transaction about a grant's debt.
 */
static void
begin_terms(StringInfo json, const Debt *debt, int64 owed)
{
	initStringInfo(json);
	json_int64(json, "grant", debt->grant_id);
	json_int64(json, "debt", owed);
}

/*
 * Notes that a grant has paid an amount of a debt.
 */
static void
add_payer(Debt *debt, int64 grant_id, int64 amount)
{
	int			i;

	debt->paid += amount;
	for (i = 0; i < debt->npayers; i++)
		if (debt->payers[i].grant_id == grant_id)
		{
			debt->payers[i].amount += amount;
			return;
		}
	if (debt->payers)
		debt->payers = repalloc(debt->payers,
								(debt->npayers + 1) * sizeof(Draw));
	else
		debt->payers = palloc(sizeof(Draw));
	debt->payers[debt->npayers++] = (Draw) {grant_id, amount};
}

/*
 * Pays an amount of a debt from a grant which has that much.  The transaction
 * is about the one that brought the credits.
 */
static void
pay(Posting *posting, TimestampTz at, Debt *debt, Grant *grant, int64 amount,
	int64 target_id)
{
	Draw	   *draw = palloc(sizeof(Draw));
	StringInfoData json;
	Entry	   *entry;

	grants_take(grant, amount, draw);
	/* what comes back to the grant that owes is taken from it after all */
	if (grant->id != debt->grant_id)
		add_payer(debt, grant->id, amount);
	owe(posting, debt, -amount);
	entry = log_add(posting, KIND_DEBT_PAYMENT, at, -amount, draw, 1);
	entry->has_target = true;
	entry->target_id = target_id;
	begin_terms(&json, debt, -amount);
	entry->terms = json_document(&json);
}

/*
 * Tells whether a source of credits pays debts that are not its own.
 */
static bool
source_pays(const Grant *grant)
{
	return setting_debt_payment == DEBT_PAYMENT_ANY ||
		(VARSIZE_ANY_EXHDR(grant->source) == strlen("purchase") &&
		 memcmp(VARDATA_ANY(grant->source), "purchase",
				strlen("purchase")) == 0);
}

/*
 * Returns the newest grant of that id among those in memory.  In a dry run new
 * ones have none.
 */
static Grant *
grant_in_memory(Posting *posting, int64 id)
{
	int			i;

	for (i = posting->ngrants - 1; i >= 0; i--)
		if (posting->grants[i]->id == id)
			return posting->grants[i];
	return NULL;
}

/*
 * Pays debts from what one draw has brought.
 */
static void
pay_from(Posting *posting, TimestampTz at, const Entry *entry,
		 const Draw *draw, int64 target_id)
{
	bool		activates = strcmp(entry->kind, KIND_ACTIVATION) == 0;
	Grant	   *grant;
	int64		left;
	ListCell   *lc;

	if (draw->amount <= 0 && !activates)
		return;
	grant = grant_in_memory(posting, draw->grant_id);
	if (grant == NULL || grant->status != GRANT_OPEN)
		return;
	left = activates ? grant->remaining : Min(draw->amount, grant->remaining);
	if (activates || grant->transaction_id == entry->id)
	{
		if (!source_pays(grant))
			return;
		foreach(lc, debts_of(posting))
		{
			Debt	   *debt = lfirst(lc);
			int64		part = Min(left, debt->owed);

			if (part == 0)
				continue;
			pay(posting, at, debt, grant, part, target_id);
			left -= part;
		}
	}
	else
	{
		Debt	   *debt = find(posting, grant->id);
		int64		part = debt ? Min(left, debt->owed) : 0;

		if (part > 0)
			pay(posting, at, debt, grant, part, target_id);
	}
}

/*
 * Returns what a payment from what an entry has brought is about: the entry,
 * or the capture that a release goes with, whose receipt shows both.
 */
static int64
target_of(Posting *posting, const Entry *entry)
{
	if (strcmp(entry->kind, KIND_RELEASE) == 0 && posting->nentries > 0)
	{
		int			i;

		for (i = 0; i < posting->nentries; i++)
			if (entry->has_target &&
				posting->entries[i]->id == entry->target_id &&
				strcmp(posting->entries[i]->kind, KIND_CAPTURE) == 0)
				return entry->target_id;
	}
	return entry->id;
}

/*
 * Waives what a grant owes for what it was given back and has lost at once:
 * had that come back before the claim, it would have been gone by then.
 */
static void
forgive(Posting *posting, TimestampTz at, const Draw *draw, int64 target_id)
{
	Debt	   *debt = find(posting, draw->grant_id);
	int64		gone = debt ? Min(-draw->amount, debt->owed) : 0;
	StringInfoData json;
	Entry	   *entry;

	if (gone <= 0)
		return;
	debt->gone += gone;
	owe(posting, debt, -gone);
	entry = log_add(posting, KIND_REINSTATEMENT, at, 0, NULL, 0);
	entry->has_target = true;
	entry->target_id = target_id;
	begin_terms(&json, debt, -gone);
	json_int64(&json, "claimed", 0);
	json_int64(&json, "gone", gone);
	entry->terms = json_document(&json);
}

/*
 * Pays the account's debt from what has come in since this was last called for
 * the posting.  For accounts that have one.
 */
void
debts_pay(Posting *posting, TimestampTz at)
{
	int			nentries = posting->nentries;

	for (; posting->npaid < nentries; posting->npaid++)
	{
		Entry	   *entry = posting->entries[posting->npaid];
		int			i;

		for (i = 0; i < entry->ndraws && posting->account.debt > 0; i++)
			if (strcmp(entry->kind, KIND_EXPIRATION) == 0 ||
				strcmp(entry->kind, KIND_VOID) == 0)
				forgive(posting, at, &entry->draws[i], entry->id);
			else
				pay_from(posting, at, entry, &entry->draws[i],
						 target_of(posting, entry));
	}
	/* the payments bring nothing */
	posting->npaid = posting->nentries;
}

/*
 * Returns what of a transaction's draws a grant has lost to the clock, by being
 * voided, or to a change of plan.
 */
static int64
lost_by(const Entry *entry, int64 grant_id)
{
	int64		lost = 0;
	int			i;

	if (strcmp(entry->kind, KIND_EXPIRATION) != 0 &&
		strcmp(entry->kind, KIND_VOID) != 0 &&
		strcmp(entry->kind, KIND_PLAN_CHANGE) != 0)
		return 0;
	for (i = 0; i < entry->ndraws; i++)
		if (entry->draws[i].grant_id == grant_id)
			lost -= entry->draws[i].amount;
	return lost;
}

/*
 * Tells whether a grant comes from a subscription, whose plan may have changed.
 */
static bool
is_of_subscription(const Grant *grant)
{
	return VARSIZE_ANY_EXHDR(grant->source) == strlen("subscription") &&
		memcmp(VARDATA_ANY(grant->source), "subscription",
			   strlen("subscription")) == 0;
}

/*
 * Returns what a grant has lost, so that nobody had any use of it.
 */
static int64
lost_of(Posting *posting, const Grant *grant)
{
	int64		lost = 0;
	StoreScan	scan;
	ScanKeyData keys[2];
	TupleTableSlot *slot;
	Entry		made;
	int			i;

	if (grant->status != GRANT_EXPIRED && grant->status != GRANT_VOIDED &&
		grant->granted_until == DT_NOBEGIN && !is_of_subscription(grant))
		return 0;
	for (i = 0; i < posting->nentries; i++)
		lost += lost_by(posting->entries[i], grant->id);
	if (!row_find_entry(posting->store, posting->snapshot,
						grant->transaction_id, &made))
		return lost;
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ,
				Int64GetDatum(posting->account.id));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_TIMESTAMPTZ_GE,
				TimestampTzGetDatum(made.created_at));
	store_scan(&scan, posting->store, &transactions_by_account_id,
			   posting->snapshot, keys, 2);
	while ((slot = store_scan_next(&scan, ForwardScanDirection)) != NULL)
	{
		Entry		entry;

		row_read_entry(slot, &entry);
		lost += lost_by(&entry, grant->id);
	}
	store_scan_end(&scan);
	return lost;
}

/*
 * Claims an amount more from a grant.
 */
static Entry *
claim(Posting *posting, Grant *grant, Debt *debt, int64 amount)
{
	bool		pending = grant->status == GRANT_PENDING;
	bool		has = pending || grant->status == GRANT_OPEN;
	int64		gone = Min(amount,
						   Max(lost_of(posting, grant) - debt->gone, 0));
	int64		taken = has ? Min(amount - gone, grant->remaining) : 0;
	int64		owed = amount - taken - gone;
	Draw	   *draw = NULL;
	StringInfoData json;
	Entry	   *entry;

	if (taken > 0)
		grants_take(grant, taken, draw = palloc(sizeof(Draw)));
	debt->claimed += amount;
	debt->gone += gone;
	owe(posting, debt, owed);
	/* a pending grant is not in the balance yet */
	entry = log_add(posting, KIND_CLAWBACK, posting->now, pending ? 0 : -taken,
					draw, draw ? 1 : 0);
	begin_terms(&json, debt, owed);
	json_int64(&json, "claimed", amount);
	json_int64(&json, "gone", gone);
	entry->terms = json_document(&json);
	return entry;
}

/*
 * Gives an amount back to a grant from which it was taken for a debt, or of
 * whose debt it is waived.
 */
static Entry *
reinstate(Posting *posting, Debt *debt, int64 grant_id, int64 amount,
		  int64 paid, int64 gone, int64 owed)
{
	Draw	   *draw = NULL;
	const char *lost = NULL;
	int64		moved = amount;
	StringInfoData prolonged;
	StringInfoData json;
	Entry	   *entry;

	initStringInfo(&prolonged);
	if (amount > 0)
	{
		Grant	   *grant = grants_get(posting, grant_id);

		draw = grants_draw(grant, amount);
		if (grant->status == GRANT_USED && grant->effective_at > posting->now)
			grant->status = GRANT_PENDING;
		if (grant->status == GRANT_PENDING)
		{
			grant->remaining += amount;
			grant->changed = true;
			grants_wake(posting, grant->effective_at);
			moved = 0;
		}
		else
			lost = grants_give_back(posting, grant, amount, posting->now,
									posting->now,
									clock_refund_grace(posting->now),
									&prolonged);
	}
	debt->claimed -= amount + gone + owed;
	debt->gone -= gone;
	debt->paid -= paid;
	owe(posting, debt, -owed);
	entry = log_add(posting, KIND_REINSTATEMENT, posting->now, moved, draw,
					draw ? 1 : 0);
	begin_terms(&json, debt, -owed);
	json_int64(&json, "claimed", -(amount + gone + owed));
	json_int64(&json, "gone", -gone);
	if (paid > 0)
		json_int64(&json, "paid", -paid);
	if (prolonged.len > 0)
		appendStringInfo(&json, ", %s", prolonged.data + 1);
	entry->terms = json_document(&json);
	if (lost)
		log_add_loss(posting, lost, posting->now,
					 grants_draw(grants_get(posting, grant_id), -amount),
					 entry->id);
	return entry;
}

/*
 * Waives an amount of what is claimed from a grant.
 */
static Entry *
waive(Posting *posting, Grant *grant, Debt *debt, int64 amount)
{
	int64		owed = Min(amount, debt->owed);
	int64		paid = Min(amount - owed, debt->paid);
	int64		taken = Min(amount - owed - paid, debt->claimed - debt->gone -
							debt->owed - debt->paid);
	int64		gone = amount - owed - paid - taken;
	Entry	   *main = NULL;

	if (owed + gone + taken > 0)
		main = reinstate(posting, debt, grant->id, taken, 0, gone, owed);
	while (paid > 0)
	{
		Draw	   *payer = &debt->payers[debt->npayers - 1];
		int64		part = Min(paid, payer->amount);
		Entry	   *entry = reinstate(posting, debt, payer->grant_id, part,
									  part, 0, 0);

		payer->amount -= part;
		if (payer->amount == 0)
			debt->npayers--;
		paid -= part;
		if (main == NULL)
			main = entry;
	}
	return main;
}

/*
 * Returns how much is claimed from a grant of the posting's account.
 */
int64
debts_claimed(Posting *posting, int64 grant_id)
{
	Debt	   *debt = find(posting, grant_id);

	return debt ? debt->claimed : 0;
}

/*
 * Sets how much is claimed from a grant of the posting's account in all, no
 * more than it was given.  Returns the first transaction that does it, NULL if
 * that much was claimed already.
 */
Entry *
debts_claim(Posting *posting, Grant *grant, int64 claimed)
{
	Debt	   *debt = find(posting, grant->id);
	Entry	   *entry;

	claimed = Max(Min(claimed, grant->amount), 0);
	if (claimed == (debt ? debt->claimed : 0))
		return NULL;
	if (debt == NULL)
	{
		debt = palloc0(sizeof(Debt));
		ItemPointerSetInvalid(&debt->tid);
		debt->grant_id = grant->id;
		debt->account_id = posting->account.id;
		posting->debts = lappend(posting->debts, debt);
	}
	/* what came in before pays for what was owed before */
	if (posting->account.debt > 0)
		debts_pay(posting, posting->now);
	posting->npaid = posting->nentries;
	entry = claimed > debt->claimed ?
		claim(posting, grant, debt, claimed - debt->claimed) :
		waive(posting, grant, debt, debt->claimed - claimed);
	/* a grant that had paid may owe something itself by now */
	if (posting->account.debt > 0)
		debts_pay(posting, posting->now);
	posting->nburnt = 0;
	return entry;
}
