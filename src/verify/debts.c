/*
 * debts.c
 *	  credits_verify: debts.
 *
 * Compares what each grant owes, according to its row in credits.debts, with
 * the log.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "verify/verify.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* The debt of a grant, according to the log */
typedef struct DebtCheck
{
	int64		grant_id;		/* hash key */
	int64		claimed;
	int64		gone;
	int64		owed;
	int64		paid;
	List	   *payers;			/* of Draw */
	bool		seen;			/* does the debt have a row? */
} DebtCheck;

/*
 * Creates the hash table of an account's debts.
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
 * Returns a number in the terms of a transaction, 0 if it is not there.
 */
static int64
debt_term(const Entry *entry, const char *key)
{
	int64		value = 0;

	(void) terms_int64(entry, key, &value);
	return value;
}

/*
 * Begins with what an anchor says about a debt.
 */
void
verify_begin_debt(HTAB *debts, const AnchorPart *part)
{
	DebtCheck  *debt = hash_search(debts, &part->id, HASH_ENTER, NULL);
	Entry		entry = {.terms = part->state};
	List	   *payers = terms_ids(&entry, "payers");
	int			i;

	memset((char *) debt + sizeof(int64), 0, sizeof(DebtCheck) - sizeof(int64));
	debt->claimed = verify_part_int64(part, "claimed");
	debt->gone = verify_part_int64(part, "gone");
	debt->owed = verify_part_int64(part, "owed");
	debt->paid = verify_part_int64(part, "paid");
	/* the id of each is followed by what it has paid */
	for (i = 0; i + 1 < list_length(payers); i += 2)
	{
		Draw	   *payer = palloc(sizeof(Draw));

		*payer = DRAW(*(int64 *) list_nth(payers, i),
					  *(int64 *) list_nth(payers, i + 1));
		debt->payers = lappend(debt->payers, payer);
	}
}

/*
 * Adds the debts, and what was one, to the parts of an anchor.
 */
void
verify_debt_parts(HTAB *debts, List **parts)
{
	HASH_SEQ_STATUS status;
	DebtCheck  *debt;

	hash_seq_init(&status, debts);
	while ((debt = hash_seq_search(&status)) != NULL)
	{
		JsonObject	json;
		JsonArray	payers;
		ListCell   *lc;

		CHECK_FOR_INTERRUPTS();
		json_begin(&json);
		json_int64(&json, "claimed", debt->claimed);
		json_int64(&json, "gone", debt->gone);
		json_int64(&json, "owed", debt->owed);
		json_int64(&json, "paid", debt->paid);
		json_begin_array(&payers);
		foreach(lc, debt->payers)
		{
			const Draw *payer = lfirst(lc);

			json_add_int64(&payers, payer->grant_id);
			json_add_int64(&payers, payer->amount);
		}
		json_array(&json, "payers", &payers);
		verify_add_part(parts, PART_DEBT, debt->grant_id, &json);
	}
}

/*
 * Adds an amount to what a grant has paid of a debt.
 */
static void
verify_add_payer(Verification *v, DebtCheck *debt, int64 grant_id,
				 int64 amount)
{
	MemoryContext old;
	Draw	   *payer;
	ListCell   *lc;

	CHECK_FOR_INTERRUPTS();
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
	*payer = DRAW(grant_id, amount);
	debt->payers = lappend(debt->payers, payer);
	MemoryContextSwitchTo(old);
}

/*
 * Processes one entry of the log: adds it to the debt it concerns, and to the
 * sum for the account.
 */
void
verify_debt_entry(Verification *v, HTAB *debts, const Entry *entry,
				  Account *sum)
{
	bool		pays = entry->kind == KIND_DEBT_PAYMENT;
	int64		grant_id;
	int64		owed;
	int64		paid;
	int64		drawn = 0;
	DebtCheck  *debt;
	bool		found;
	int			i;

	if (!pays && entry->kind != KIND_CLAWBACK &&
		entry->kind != KIND_REINSTATEMENT)
		return;
	grant_id = debt_term(entry, "grant_id");
	owed = debt_term(entry, "debt");
	paid = debt_term(entry, "paid");
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
			verify_add_payer(v, debt, entry->draws[0].grant_id, -owed);
	}
	else
	{
		int64		claimed = debt_term(entry, "claimed");
		int64		gone = debt_term(entry, "gone");

		verify_expect(v, entry->id, "debt", "claimed", claimed,
					  verify_add(verify_add(gone, owed), -drawn));
		debt->claimed = verify_add(debt->claimed, claimed);
		debt->gone = verify_add(debt->gone, gone);
		if (paid != 0 && entry->ndraws > 0)
			verify_add_payer(v, debt, entry->draws[0].grant_id, paid);
	}
	if (debt->owed < 0 || debt->paid < 0 || debt->gone < 0 ||
		debt->claimed < debt->owed + debt->paid + debt->gone)
		verify_report(v, entry->id, "debt",
					  psprintf("grant " INT64_FORMAT " owes a negative amount, or more than is claimed from it",
							   grant_id));
}

/*
 * Returns how much is claimed from a grant, according to the log.
 */
int64
verify_claimed(HTAB *debts, int64 grant_id)
{
	const DebtCheck *debt = hash_search(debts, &grant_id, HASH_FIND, NULL);

	return debt ? debt->claimed : 0;
}

/*
 * Returns how much of that it had lost.
 */
int64
verify_gone(HTAB *debts, int64 grant_id)
{
	const DebtCheck *debt = hash_search(debts, &grant_id, HASH_FIND, NULL);

	return debt ? debt->gone : 0;
}

/*
 * Returns how much of that it owes, or others have paid.
 */
int64
verify_owed(HTAB *debts, int64 grant_id)
{
	const DebtCheck *debt = hash_search(debts, &grant_id, HASH_FIND, NULL);

	return debt ? verify_add(debt->owed, debt->paid) : 0;
}

/*
 * Returns whether a debt's row and the log agree on which grants have paid how
 * much.
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

		CHECK_FOR_INTERRUPTS();
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
 * Compares the rows of an account's debts with the log.
 */
void
verify_debts(Verification *v, HTAB *grants, HTAB *debts,
			 const Account *account)
{
	HASH_SEQ_STATUS status;
	DebtCheck  *check;
	ListCell   *lc;

	foreach(lc, debts_read(GetActiveSnapshot(), account->id))
	{
		Debt	   *row = lfirst(lc);
		TimestampTz lasts_until = DT_NOEND;

		CHECK_FOR_INTERRUPTS();
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
		verify_expect(v, 0, "debt",
					  psprintf("group of the debt of grant " INT64_FORMAT,
							   row->grant_id),
					  row->group_id,
					  verify_group_of(grants, row->grant_id, &lasts_until));
		if (row->lasts_until != lasts_until)
			verify_report(v, 0, "debt",
						  psprintf("the debt of grant " INT64_FORMAT " does not say when the grant expires",
								   row->grant_id));
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
