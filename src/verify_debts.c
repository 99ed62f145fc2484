/*
 * verify_debts.c
 *	  Proving the debts: what each grant owes, against what the log says of it.
 */
#include "credits.h"

#include "verify.h"

#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* What is claimed from a grant as the log shows it */
typedef struct DebtCheck
{
	int64		grant_id;		/* hash key */
	int64		claimed;
	int64		gone;
	int64		owed;
	int64		paid;
	List	   *payers;			/* of Draw */
	bool		seen;			/* does it have a row? */
} DebtCheck;

/*
 * Makes a table of debts.
 */
HTAB *
verify_make_debts(Verification *v)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(int64);
	ctl.entrysize = sizeof(DebtCheck);
	ctl.hcxt = v->context;
	return hash_create("credits debts", 16, &ctl,
					   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/*
 * Returns a number of a transaction's terms, 0 if it has none of that name.
 */
static int64
number(const Entry *entry, const char *key)
{
	int64		value = 0;

	(void) terms_int64(entry, key, &value);
	return value;
}

/*
 * Adds to what a grant has paid of a debt.
 */
static void
add_payer(Verification *v, DebtCheck *debt, int64 grant_id, int64 amount)
{
	MemoryContext old;
	Draw	   *payer;
	ListCell   *lc;

	debt->paid = verify_add(debt->paid, amount);
	foreach(lc, debt->payers)
	{
		payer = lfirst(lc);
		if (payer->grant_id == grant_id)
		{
			payer->amount = verify_add(payer->amount, amount);
			return;
		}
	}
	old = MemoryContextSwitchTo(v->context);
	payer = palloc(sizeof(Draw));
	*payer = (Draw) {grant_id, amount};
	debt->payers = lappend(debt->payers, payer);
	MemoryContextSwitchTo(old);
}

/*
 * Adds a row to the debt that it is about, and to the account's.
 */
void
verify_debt_entry(Verification *v, HTAB *debts, const Entry *entry,
				  Account *sum)
{
	bool		pays = strcmp(entry->kind, KIND_DEBT_PAYMENT) == 0;
	int64		grant_id;
	int64		owed;
	int64		paid;
	int64		drawn = 0;
	DebtCheck  *debt;
	bool		found;
	int			i;

	if (!pays && strcmp(entry->kind, KIND_CLAWBACK) != 0 &&
		strcmp(entry->kind, KIND_REINSTATEMENT) != 0)
		return;
	grant_id = number(entry, "grant");
	owed = number(entry, "debt");
	paid = number(entry, "paid");
	for (i = 0; i < entry->ndraws; i++)
		drawn = verify_add(drawn, entry->draws[i].amount);
	debt = hash_search(debts, &grant_id, HASH_ENTER, &found);
	if (!found)
		memset((char *) debt + sizeof(int64), 0,
			   sizeof(DebtCheck) - sizeof(int64));

	sum->debt = verify_add(sum->debt, owed);
	debt->owed = verify_add(debt->owed, owed);
	if (pays)
	{
		verify_expect(v, entry->id, "debt", "debt", owed, drawn);
		if (entry->ndraws > 0 && entry->draws[0].grant_id != grant_id)
			add_payer(v, debt, entry->draws[0].grant_id, -owed);
	}
	else
	{
		int64		claimed = number(entry, "claimed");
		int64		gone = number(entry, "gone");

		verify_expect(v, entry->id, "debt", "claimed", claimed,
					  verify_add(verify_add(gone, owed), -drawn));
		debt->claimed = verify_add(debt->claimed, claimed);
		debt->gone = verify_add(debt->gone, gone);
		if (paid != 0 && entry->ndraws > 0)
			add_payer(v, debt, entry->draws[0].grant_id, paid);
	}
	if (debt->owed < 0 || debt->paid < 0 || debt->gone < 0 ||
		debt->claimed < debt->owed + debt->paid + debt->gone)
		verify_report(v, entry->id, "debt",
					  psprintf("grant " INT64_FORMAT " owes less than nothing, or more than is claimed from it",
							   grant_id));
}

/*
 * Tells whether a row names those who have paid a debt, by the log.
 */
static bool
same_payers(const DebtCheck *check, const Debt *row)
{
	int			paying = 0;
	ListCell   *lc;

	foreach(lc, check->payers)
	{
		Draw	   *payer = lfirst(lc);
		int			i;

		if (payer->amount == 0)
			continue;
		paying++;
		for (i = 0; i < row->npayers; i++)
			if (row->payers[i].grant_id == payer->grant_id)
				break;
		if (i == row->npayers || row->payers[i].amount != payer->amount)
			return false;
	}
	return paying == row->npayers;
}

/*
 * Compares the debts of an account with their rows.
 */
void
verify_debts(Verification *v, HTAB *debts, const Account *account)
{
	HASH_SEQ_STATUS status;
	DebtCheck  *check;
	ListCell   *lc;

	foreach(lc, debts_read(NULL, GetActiveSnapshot(), account->id))
	{
		Debt	   *row = lfirst(lc);

		check = hash_search(debts, &row->grant_id, HASH_FIND, NULL);
		if (check == NULL)
		{
			verify_report(v, 0, "debt",
						  psprintf("the debt of grant " INT64_FORMAT " is not in the log",
								   row->grant_id));
			continue;
		}
		check->seen = true;
		verify_expect(v, 0, "debt",
					  psprintf("claimed of grant " INT64_FORMAT, row->grant_id),
					  row->claimed, check->claimed);
		verify_expect(v, 0, "debt",
					  psprintf("gone of grant " INT64_FORMAT, row->grant_id),
					  row->gone, check->gone);
		verify_expect(v, 0, "debt",
					  psprintf("owed of grant " INT64_FORMAT, row->grant_id),
					  row->owed, check->owed);
		verify_expect(v, 0, "debt",
					  psprintf("paid of grant " INT64_FORMAT, row->grant_id),
					  row->paid, check->paid);
		if (!same_payers(check, row))
			verify_report(v, 0, "debt",
						  psprintf("the debt of grant " INT64_FORMAT " was paid by other grants than its row says",
								   row->grant_id));
	}
	hash_seq_init(&status, debts);
	while ((check = hash_seq_search(&status)) != NULL)
		if (!check->seen)
			verify_report(v, 0, "debt",
						  psprintf("the row of the debt of grant " INT64_FORMAT " is missing",
								   check->grant_id));
}
