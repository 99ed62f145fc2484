/*
 * debts.c
 *	  Taking back credits whose payment was returned, and debts for those
 *	  that were already spent.
 *
 * An amount to be taken back is claimed from a grant.  First, what the grant
 * has lost, for example by its expiry, is subtracted as gone, since nobody has
 * used it.  Then, what remains of the grant is taken.  The rest, which was
 * spent, held or given away, is owed.  Lowering a claim does the same in
 * reverse: first, what is owed is waived, then what was paid is returned to
 * the grants that paid, then what was taken from the grant is returned to it,
 * and finally what was gone is reduced.
 *
 * So the outcome of a claim depends only on the grant, and not on what was
 * claimed and waived in between.  For the same reason, credits that a refund
 * or a release gives back to a grant pay only the debt of that grant.  New
 * grants pay the debts of any grant of the account, the oldest first, if they
 * were bought or, depending on credits.debt_payment, in any case.
 *
 * accounts.debt is the sum of what the account's grants owe, so accounts
 * without debts need only check that it is 0.
 */
#include "credits.h"

#include "ledger/debts.h"
#include "ledger/grants.h"
#include "ledger/log.h"

#include "miscadmin.h"
#include "utils/builtins.h"

static const StoreColumn debt_columns[] = {
	COLUMN_INT64(Debt, grant_id),
	COLUMN_INT64(Debt, account_id),
	COLUMN_INT64(Debt, claimed),
	COLUMN_INT64(Debt, gone),
	COLUMN_INT64(Debt, owed),
	COLUMN_INT64(Debt, paid),
	COLUMN_PAIRS(Debt, payers, npayers, NULL_IF_ZERO),
	COLUMN_INT64(Debt, group_id, NULL_IF_ZERO),
	COLUMN_TIME(Debt, lasts_until, NULL_IS(DT_NOEND))
};

StoreTable	debts_table = {
	.name = "debts",
	ROWS_OF(Debt, debt_columns)
};

static StoreIndex debts_by_account_id = {
	&debts_table, "debts_account_id_idx", {"account_id", "grant_id"}
};

static StoreIndex debts_by_grant_id = {
	&debts_table, "debts_pkey", {"grant_id"},.unique = true
};

/* what is claimed and not owed, which becomes ever more, is not in it */
static StoreIndex debts_owed = {
	&debts_table, "debts_owed_idx", {"account_id", "grant_id"},
	.predicate = "(owed > 0)"
};

/*
 * Reads the debts of an account, in order of grant.
 */
List *
debts_read(Snapshot snapshot, int64 account_id)
{
	StoreScan	scan;
	Debt	   *debt = palloc(sizeof(Debt));
	List	   *debts = NIL;

	scan_begin(&scan, NULL, &debts_by_account_id, snapshot,
			   BY_INT64(account_id));
	while (scan_read(&scan, ForwardScanDirection, debt))
	{
		debts = lappend(debts, debt);
		debt = palloc(sizeof(Debt));
	}
	scan_end(&scan);
	return debts;
}

/*
 * Returns the position in the posting's list of debts, which is in order of
 * grant, of the first one whose grant has this id or a higher one.
 */
static int
find_place(Posting *posting, int64 grant_id)
{
	int			low = 0;
	int			high = list_length(posting->debts);

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (((Debt *) list_nth(posting->debts, middle))->grant_id < grant_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * Returns the debt of a grant, or NULL if nothing was ever claimed from it.
 */
static Debt *
debt_of(Posting *posting, Grant *grant)
{
	Debt	   *debt;
	int			place = find_place(posting, grant->id);

	if (grant->debt_known)
		return grant->debt;
	grant->debt_known = true;
	if (place < list_length(posting->debts) &&
		((Debt *) list_nth(posting->debts, place))->grant_id == grant->id)
		return grant->debt = list_nth(posting->debts, place);
	/* nothing is stored of a grant that is new */
	if (!ItemPointerIsValid(&grant->tid))
		return NULL;
	debt = palloc(sizeof(Debt));
	if (!scan_find(posting->store, &debts_by_grant_id, posting->snapshot, debt,
				   BY_INT64(grant->id)))
		return NULL;
	return grant->debt = debt;
}

/*
 * Returns the debt of a grant of this id.
 */
static Debt *
find_debt(Posting *posting, int64 grant_id)
{
	return debt_of(posting, grants_get(posting, grant_id));
}

/*
 * Inserts or updates a debt, when the posting is written.
 */
static void
write_debt(Posting *posting, void *row)
{
	store_write(posting->store, &debts_table, posting->snapshot, row);
}

/*
 * Adds a debt to those of which something is owed.  If the others have not been
 * read, they need not be: only a grant that pays debts needs those before it.
 */
static void
list_debt(Posting *posting, Debt *debt)
{
	if (!debt->listed)
		posting->debts = list_insert_nth(posting->debts,
										 find_place(posting, debt->grant_id),
										 debt);
	debt->listed = true;
}

/*
 * Reads further debts of the posting's account of which something is owed, in
 * order of grant, until these owe enough.
 */
static void
read_owing(Posting *posting, int64 enough)
{
	StoreScan	scan;
	Debt	   *debt = palloc(sizeof(Debt));

	scan_begin(&scan, posting->store, &debts_owed, posting->snapshot,
			   BY_INT64(posting->account.id),
			   BY_INT64_ABOVE(posting->debts_read_to));
	while (enough > 0)
	{
		Grant	   *grant;
		Debt	   *known;

		CHECK_FOR_INTERRUPTS();
		if (!scan_read(&scan, ForwardScanDirection, debt))
		{
			posting->debts_loaded = true;
			break;
		}
		posting->debts_read_to = debt->grant_id;
		grant = grants_find_known(posting, debt->grant_id);
		known = grant ? grant->debt : NULL;
		if (known == NULL)
		{
			known = debt;
			debt = palloc(sizeof(Debt));
		}
		list_debt(posting, known);
		enough -= known->owed;
	}
	scan_end(&scan);
}

/*
 * Returns a debt of the posting's list, of which all before it are read, too.
 * NULL if there is none at this place; reads as many as owe enough, if necessary.
 */
static Debt *
debt_at(Posting *posting, int place, int64 enough)
{
	if (!posting->debts_loaded &&
		(place >= list_length(posting->debts) ||
		 ((Debt *) list_nth(posting->debts, place))->grant_id >
		 posting->debts_read_to))
		read_owing(posting, enough);
	return place < list_length(posting->debts) ?
		list_nth(posting->debts, place) : NULL;
}

/*
 * Adds an amount, which may be negative, to what is owed for a grant.
 */
static void
owe(Posting *posting, Debt *debt, int64 amount)
{
	if (amount > 0)
		list_debt(posting, debt);
	debt->owed += amount;
	posting->account.debt += amount;
	if (!debt->changed)
		posting_defer(posting, write_debt, debt);
	debt->changed = true;
}

/*
 * Adds an amount, which may be negative, to what the grants of a debt's group owe,
 * or others have paid for them.  The first of these grants has that sum.
 */
static void
count_owed(Posting *posting, const Debt *debt, int64 amount)
{
	Grant	   *first;

	if (debt->group_id == 0 || amount == 0)
		return;
	first = grants_get(posting, debt->group_id);
	first->group_owed += amount;
	first->changed = true;
}

/*
 * Has a grant of a group know whether all of it is claimed, and all that it has
 * lost: the others are found by that.
 */
static void
note_claimed(Grant *grant, const Debt *debt)
{
	bool		all = debt->claimed == grant->amount;
	bool		lost = grant->lost > 0 && debt->gone >= grant->lost;

	if (grant->group_id == 0 ||
		(grant->all_claimed == all && grant->lost_claimed == lost))
		return;
	grant->all_claimed = all;
	grant->lost_claimed = lost;
	grant->changed = true;
}

/*
 * Begins the terms of a transaction that concerns a grant's debt.
 */
static void
begin_terms(JsonObject *json, const Debt *debt, int64 owed)
{
	json_begin(json);
	json_int64(json, "grant_id", debt->grant_id);
	json_int64(json, "debt", owed);
}

/*
 * Adds an amount to what a grant has paid of a debt.
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
	debt->payers[debt->npayers++] = DRAW(grant_id, amount);
}

/*
 * Pays a part of a debt from a grant, which must have that much.  target_id is
 * the transaction that brought the credits.
 */
static void
pay(Posting *posting, TimestampTz at, Debt *debt, Grant *grant, int64 amount,
	int64 target_id)
{
	Draw	   *draw = palloc(sizeof(Draw));
	JsonObject	json;
	Entry	   *entry;

	grants_take(grant, amount, draw);
	/* if the grant pays its own debt, that counts as taken from it */
	if (grant->id != debt->grant_id)
		add_payer(debt, grant->id, amount);
	else
		count_owed(posting, debt, -amount);
	owe(posting, debt, -amount);
	entry = log_add(posting, KIND_DEBT_PAYMENT, at, -amount, draw, 1);
	entry->has_target = true;
	entry->target_id = target_id;
	begin_terms(&json, debt, -amount);
	entry->terms = json_document(&json);
}

/*
 * Returns whether a grant pays debts of other grants.
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
 * Pays debts from the credits that one draw of an entry has brought.
 */
static void
pay_from(Posting *posting, TimestampTz at, const Entry *entry,
		 const Draw *draw, int64 target_id)
{
	bool		activates = entry->kind == KIND_ACTIVATION;
	Grant	   *grant;
	int64		left;

	if (draw->amount <= 0 && !activates)
		return;
	grant = grants_find_known(posting, draw->grant_id);
	if (grant == NULL || grant->status != GRANT_OPEN)
		return;
	left = activates ? grant->remaining : Min(draw->amount, grant->remaining);
	/* a new grant pays any debt, but credits given back only the grant's own */
	if (activates || grant->transaction_id == entry->id)
	{
		Debt	   *debt;
		int			i;

		if (!source_pays(grant))
			return;
		for (i = 0; left > 0 && posting->account.debt > 0 &&
			 (debt = debt_at(posting, i, left)) != NULL; i++)
		{
			int64		part = Min(left, debt->owed);

			CHECK_FOR_INTERRUPTS();
			if (part == 0)
				continue;
			pay(posting, at, debt, grant, part, target_id);
			left -= part;
		}
	}
	else
	{
		Debt	   *debt = debt_of(posting, grant);
		int64		part = debt ? Min(left, debt->owed) : 0;

		if (part > 0)
			pay(posting, at, debt, grant, part, target_id);
	}
}

/*
 * Returns the target of a payment from credits that an entry has brought.  It
 * is the entry or, if that is the release of a final capture, the capture, so
 * that the receipt of the capture includes the payment.
 */
static int64
target_of(Posting *posting, const Entry *entry)
{
	if (entry->kind == KIND_RELEASE && posting->nentries > 0)
	{
		int			i;

		for (i = 0; i < posting->nentries; i++)
			if (entry->has_target &&
				posting->entries[i]->id == entry->target_id &&
				posting->entries[i]->kind == KIND_CAPTURE)
				return entry->target_id;
	}
	return entry->id;
}

/*
 * Reduces what a grant owes by credits that were given back to it and lost
 * immediately: if they had been given back before the claim, they would have
 * been gone by then.
 */
static void
forgive(Posting *posting, TimestampTz at, const Draw *draw, int64 target_id)
{
	Debt	   *debt = find_debt(posting, draw->grant_id);
	int64		gone = debt ? Min(-draw->amount, debt->owed) : 0;
	JsonObject	json;
	Entry	   *entry;

	if (gone <= 0)
		return;
	debt->gone += gone;
	owe(posting, debt, -gone);
	count_owed(posting, debt, -gone);
	note_claimed(grants_get(posting, debt->grant_id), debt);
	entry = log_add(posting, KIND_REINSTATEMENT, at, 0, NULL, 0);
	entry->has_target = true;
	entry->target_id = target_id;
	begin_terms(&json, debt, -gone);
	json_int64(&json, "claimed", 0);
	json_int64(&json, "gone", gone);
	entry->terms = json_document(&json);
}

/*
 * Pays the account's debts from the entries added since the last call.  Needs
 * to be called only if accounts.debt is above 0.
 */
void
debts_pay(Posting *posting, TimestampTz at)
{
	int			nentries = posting->nentries;

	for (; posting->npaid < nentries; posting->npaid++)
	{
		Entry	   *entry = posting->entries[posting->npaid];
		int64		target_id = target_of(posting, entry);
		int			i;

		for (i = 0; i < entry->ndraws && posting->account.debt > 0; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (kinds_info(entry->kind)->loses)
				forgive(posting, at, &entry->draws[i], entry->id);
			else
				pay_from(posting, at, entry, &entry->draws[i], target_id);
		}
	}
	/* the entries added here are payments, which bring no credits */
	posting->npaid = posting->nentries;
}

/*
 * Increases the claim on a grant by an amount.
 */
static Entry *
claim(Posting *posting, Grant *grant, Debt *debt, int64 amount)
{
	bool		pending = grant->status == GRANT_PENDING;
	bool		has = pending || grant->status == GRANT_OPEN;
	int64		gone = Min(amount,
						   Max(grant->lost - debt->gone, 0));
	int64		taken = has ? Min(amount - gone, grant->remaining) : 0;
	int64		owed = amount - taken - gone;
	Draw	   *draw = NULL;
	JsonObject	json;
	Entry	   *entry;

	if (taken > 0)
		grants_take(grant, taken, draw = palloc(sizeof(Draw)));
	debt->claimed += amount;
	debt->gone += gone;
	owe(posting, debt, owed);
	count_owed(posting, debt, owed);
	/* a pending grant has not been added to the balance yet */
	entry = log_add(posting, KIND_CLAWBACK, posting->now, pending ? 0 : -taken,
					draw, draw ? 1 : 0);
	begin_terms(&json, debt, owed);
	json_int64(&json, "claimed", amount);
	json_int64(&json, "gone", gone);
	entry->terms = json_document(&json);
	return entry;
}

/*
 * Lowers a claim: gives "amount" back to a grant from which it was taken or
 * which has paid it ("paid"), and reduces what was gone or is owed.
 */
static Entry *
reinstate(Posting *posting, Debt *debt, int64 grant_id, int64 amount,
		  int64 paid, int64 gone, int64 owed)
{
	Draw	   *draw = NULL;
	TransactionKind lost = KIND_NONE;
	int64		moved = amount;
	JsonObject	prolonged;
	JsonObject	json;
	Entry	   *entry;

	json_begin(&prolonged);
	if (amount > 0)
	{
		Grant	   *grant = grants_get(posting, grant_id);

		draw = grants_draw(grant, amount);
		/* it was pending when everything was taken from it, and still is */
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
	count_owed(posting, debt, -owed - paid);
	entry = log_add(posting, KIND_REINSTATEMENT, posting->now, moved, draw,
					draw ? 1 : 0);
	begin_terms(&json, debt, -owed);
	json_int64(&json, "claimed", -(amount + gone + owed));
	json_int64(&json, "gone", -gone);
	if (paid > 0)
		json_int64(&json, "paid", -paid);
	json_members(&json, &prolonged);
	entry->terms = json_document(&json);
	if (lost != KIND_NONE)
		log_add_loss(posting, lost, posting->now,
					 grants_draw(grants_get(posting, grant_id), -amount),
					 entry->id);
	return entry;
}

/*
 * Lowers the claim on a grant by an amount.
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
	/* the grant that paid last gets its credits back first */
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
 * Returns what is claimed from a grant, NULL if nothing ever was.
 */
const Debt *
debts_of(Posting *posting, Grant *grant)
{
	return debt_of(posting, grant);
}

/*
 * Returns the amount claimed from a grant of the posting's account.
 */
int64
debts_claimed(Posting *posting, int64 grant_id)
{
	Debt	   *debt = find_debt(posting, grant_id);

	return debt ? debt->claimed : 0;
}

/*
 * Returns how much the grants of a group owe, or others have paid for them.
 */
int64
debts_of_group(Posting *posting, int64 group_id)
{
	return group_id == 0 ? 0 : grants_get(posting, group_id)->group_owed;
}

/*
 * Returns how much of what is claimed from a grant it had lost before.
 */
int64
debts_gone(Posting *posting, int64 grant_id)
{
	Debt	   *debt = find_debt(posting, grant_id);

	return debt ? debt->gone : 0;
}

/*
 * Returns how much of a grant was used: spent, held, given away, or paid for a
 * debt of another grant.  The rest remains, was lost, or was taken by a claim.
 */
int64
debts_used(Posting *posting, Grant *grant)
{
	Debt	   *debt = debt_of(posting, grant);
	int64		taken = debt ? debt->claimed - debt->gone - debt->owed -
		debt->paid : 0;

	return Max(grant->amount - grant->remaining - grant->lost - taken, 0);
}

/*
 * Sets the total amount claimed from a grant of the posting's account, at most
 * the amount of the grant.  Returns the first entry added, or NULL if that
 * amount was already claimed.
 */
Entry *
debts_claim(Posting *posting, Grant *grant, int64 claimed)
{
	Debt	   *debt = debt_of(posting, grant);
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
		debt->group_id = grant->group_id;
		debt->lasts_until = grant->group_id == 0 ? DT_NOEND :
			grants_lasts_until(grant);
		grant->debt = debt;
	}
	/* credits received earlier in this posting pay only earlier debts */
	if (posting->account.debt > 0)
		debts_pay(posting, posting->now);
	posting->npaid = posting->nentries;
	entry = claimed > debt->claimed ?
		claim(posting, grant, debt, claimed - debt->claimed) :
		waive(posting, grant, debt, debt->claimed - claimed);
	note_claimed(grant, debt);
	/* a grant that got back what it had paid may have a debt of its own */
	if (posting->account.debt > 0)
		debts_pay(posting, posting->now);
	posting->nburnt = 0;
	return entry;
}
