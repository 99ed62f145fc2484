/*
 * corrections.c
 *	  Corrections of many accounts: computing what one would do, and whether what was
 *	  shown is still so.
 *
 * A preview says of each account whether credits_adjust would correct or refuse it.
 * That is what the token stands for: how much is given or taken, which accounts are
 * corrected and which are refused.  Balances may have changed when it is applied, as
 * those of accounts that are in use do; but if an account that was to be corrected
 * would be refused now, or the other way round, something has moved.
 *
 * The accounts are numbered in the order of their ids, those that do not exist come
 * last.  They are read with one snapshot, and none of them is locked.
 *
 * How a correction is applied is in apply_corrections.c.
 *
 * Tested in test/sql/corrections.sql and test/t/corrections.pl.
 */
#include "credits.h"

#include "accounts/adjust.h"
#include "admin/corrections.h"
#include "base/numeric.h"
#include "base/random.h"
#include "ledger/roles.h"

#include "common/int.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(credits_preview_correction);

#define MAX_ACCOUNTS 100000

/* random bytes of a token */
#define TOKEN_BYTES 16

/* how long a preview can be applied */
#define PREVIEW_LASTS USECS_PER_DAY

static const char *const correction_status_names[] = {
	"previewed", "applying", "reverting", "applied", "refused"
};

static const StoreColumn correction_columns[] = {
	COLUMN_INT64(Correction, id),
	COLUMN_INT64(Correction, delta),
	COLUMN_INT32(Correction, accounts),
	COLUMN_INT32(Correction, accepted),
	COLUMN_TIME(Correction, previewed_at),
	COLUMN_TIME(Correction, expires_at),
	COLUMN_TIME(Correction, applied_at, NULL_IS(0)),
	COLUMN_TIME(Correction, ended_at, NULL_IS(0)),
	COLUMN_NUMERIC(Correction, balance_before),
	COLUMN_NUMERIC(Correction, balance_after),
	COLUMN_TEXT(Correction, token),
	COLUMN_ENUM(Correction, status, correction_status_names),
	COLUMN_INT64(Correction, refused_id, NULL_IS(0)),
	COLUMN_CSTRING(Correction, refusal, NULL_IF_ZERO),
	COLUMN_CSTRING(Correction, role),
	COLUMN_CSTRING(Correction, applied_role, NULL_IF_ZERO),
	COLUMN_TEXT(Correction, reason, NULL_IF_ZERO),
	COLUMN_TEXT(Correction, actor, NULL_IF_ZERO),
	COLUMN_TEXT(Correction, applied_actor, NULL_IF_ZERO)
};

StoreTable	corrections_table = {
	.name = "corrections",
	.sequence = "corrections_id_seq",
	ROWS_OF(Correction, correction_columns)
};

StoreIndex	corrections_by_id = {
	&corrections_table, "corrections_pkey", {"id"},.unique = true
};
StoreIndex	corrections_by_token = {
	&corrections_table, "corrections_token_idx", {"token"},.unique = true
};

static const StoreColumn correction_item_columns[] = {
	COLUMN_INT64(CorrectionItem, correction_id),
	COLUMN_INT64(CorrectionItem, account_id, NULL_IS(0)),
	COLUMN_INT64(CorrectionItem, balance, NULL_WHERE(CorrectionItem, account_id, 0)),
	COLUMN_INT64(CorrectionItem, balance_after, NULL_IS(-1)),
	COLUMN_INT64(CorrectionItem, transaction_id, NULL_IS(0)),
	COLUMN_INT64(CorrectionItem, reverted_id, NULL_IS(0)),
	COLUMN_INT32(CorrectionItem, number),
	COLUMN_CSTRING(CorrectionItem, code, NULL_IF_ZERO),
	COLUMN_TEXT(CorrectionItem, name, NULL_IF_ZERO)
};

StoreTable	correction_items_table = {
	.name = "correction_items",
	ROWS_OF(CorrectionItem, correction_item_columns)
};

StoreIndex	correction_items_by_number = {
	&correction_items_table, "correction_items_pkey", {"correction_id", "number"},
	.unique = true
};

/* ------------------------------------------------------------------------
 * what would become of an account
 */

/*
 * Finds out whether an account would be refused, as credits_adjust would.  The
 * account must be settled.
 */
static void
judge_account(const Account *account, int64 delta, Refusal *refusal)
{
	Posting		posting = {.account = *account};

	if (guards_not_closed(&posting))
	{
		if (delta > 0)
			(void) log_may_grant(&posting, delta);
		else
			(void) guards_enough(&posting, -delta);
	}
	*refusal = posting.refusal;
}

/*
 * Finds an account by name or, without one, by id, as it is once it is settled.
 */
static bool
find_settled(text *name, int64 id, TimestampTz now, Account *account)
{
	if (!rows_find_account(NULL, GetActiveSnapshot(), name, id, account))
		return false;
	if (now >= Min(account->due_at, account->renews_at))
		ledger_peek(account, now, account, NULL, NULL);
	return true;
}

/*
 * Returns the balance of an account once it is corrected.  What is given may pay a
 * debt.
 */
static int64
corrected_balance(const Account *account, int64 delta)
{
	int64		balance = account->balance + delta;

	if (delta > 0 && setting_debt_payment == DEBT_PAYMENT_ANY)
		balance -= Min(account->debt, delta);
	return balance;
}

/* ------------------------------------------------------------------------
 * previews
 */

/* An account that is named, as a preview needs it */
typedef struct Named
{
	text	   *name;
	int64		id;				/* 0 if there is no such account */
	int64		balance;
	int64		balance_after;	/* -1 if it is refused */
	int			code;			/* 0 if it is accepted */
} Named;

/*
 * qsort comparator: by name.
 */
static int
compare_named(const void *a, const void *b)
{
	const text *x = ((const Named *) a)->name;
	const text *y = ((const Named *) b)->name;
	int			lx = VARSIZE_ANY_EXHDR(x);
	int			ly = VARSIZE_ANY_EXHDR(y);
	int			result = memcmp(VARDATA_ANY(x), VARDATA_ANY(y), Min(lx, ly));

	return result != 0 ? result : lx - ly;
}

/*
 * qsort comparator: by id, those without one last, by name.
 */
static int
compare_found(const void *a, const void *b)
{
	/* as numbers without a sign, 0 - 1 is above all others */
	uint64		x = (uint64) ((const Named *) a)->id - 1;
	uint64		y = (uint64) ((const Named *) b)->id - 1;

	if (x != y)
		return x < y ? -1 : 1;
	return compare_named(a, b);
}

/*
 * Reads the names of the accounts, and sorts them.
 */
static Named *
read_accounts(FunctionCallInfo fcinfo, int *n)
{
	ArrayType  *array;
	Datum	   *names;
	bool	   *isnull;
	Named	   *named;
	int			i;

	if (PG_ARGISNULL(0))
		raise_null("accounts");
	array = PG_GETARG_ARRAYTYPE_P(0);
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &names, &isnull, n);
	if (ARR_NDIM(array) != 1 || *n > MAX_ACCOUNTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("accounts must be a list of names"),
				 errdetail("It has %d elements in %d dimensions; 1 to %d in one are allowed.",
						   *n, ARR_NDIM(array), MAX_ACCOUNTS),
				 errhint("Correct more accounts in several corrections.")));
	named = palloc0(*n * sizeof(Named));
	for (i = 0; i < *n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (isnull[i])
			raise_null("an element of accounts");
		named[i].name = DatumGetTextPP(names[i]);
		check_account_name(named[i].name);
	}
	qsort(named, *n, sizeof(Named), compare_named);
	for (i = 1; i < *n; i++)
		if (compare_named(&named[i], &named[i - 1]) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("accounts must differ"),
					 errdetail("Account \"%s\" is named twice.",
							   text_to_cstring(named[i].name)),
					 errhint("Name each account once.")));
	return named;
}

/*
 * Finds the accounts, and what would become of each, by the active snapshot.
 */
static void
find_all_named(Named *named, int n, int64 delta)
{
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext,
											  "credits preview",
											  ALLOCSET_DEFAULT_SIZES);
	TimestampTz now = clock_now();
	int			i;

	for (i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(row);
		Account		account;
		Refusal		refusal = {0};

		CHECK_FOR_INTERRUPTS();
		named[i].balance_after = -1;
		if (find_settled(named[i].name, 0, now, &account))
		{
			posting_check(&account);
			named[i].id = account.id;
			named[i].balance = account.balance;
			judge_account(&account, delta, &refusal);
			named[i].code = refusal.sqlstate;
			if (named[i].code == 0)
				named[i].balance_after = corrected_balance(&account, delta);
		}
		else
			named[i].code = ERRCODE_NOT_FOUND;
		MemoryContextSwitchTo(old);
		MemoryContextReset(row);
	}
	MemoryContextDelete(row);
	qsort(named, n, sizeof(Named), compare_found);
}

/*
 * Returns a token that nobody can guess.
 */
static text *
make_token(void)
{
	uint8		bytes[TOKEN_BYTES];
	char		hex[2 * TOKEN_BYTES + 1];

	random_fill(bytes, sizeof(bytes));
	hex[hex_encode((const char *) bytes, sizeof(bytes), hex)] = '\0';
	return cstring_to_text(hex);
}

/*
 * Adds a balance to a sum of balances, which may exceed a bigint.
 */
static void
add_balance(Datum *sum, int64 *part, int64 balance)
{
	int64		result;

	if (!pg_add_s64_overflow(*part, balance, &result))
	{
		*part = result;
		return;
	}
	*sum = add(*sum, number(*part));
	*part = balance;
}

/*
 * Sets what a correction says about all of its accounts.
 */
static void
sum_up(Correction *correction, const Named *named, int n)
{
	Datum		before = number(0);
	Datum		after = number(0);
	int64		part_before = 0;
	int64		part_after = 0;
	int			i;

	correction->accounts = n;
	for (i = 0; i < n; i++)
	{
		if (named[i].code != 0)
			continue;
		correction->accepted++;
		add_balance(&before, &part_before, named[i].balance);
		add_balance(&after, &part_after, named[i].balance_after);
	}
	correction->balance_before = add(before, number(part_before));
	correction->balance_after = add(after, number(part_after));
}

/*
 * Stores a preview.
 */
static void
store_preview(const Correction *correction, const Named *named, int n)
{
	Store	   *store = store_open();
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext,
											  "credits preview",
											  ALLOCSET_DEFAULT_SIZES);
	int			i;

	store_begin_changes(store);
	store_insert(store, &corrections_table, correction);
	for (i = 0; i < n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(row);
		CorrectionItem item = {
			.correction_id = correction->id,
			.account_id = named[i].id,
			.balance = named[i].balance,
			.balance_after = named[i].balance_after,
			.number = i + 1,
			.code = named[i].code ? sqlstate_text(named[i].code) : NULL,
			.name = named[i].id ? NULL : named[i].name
		};

		CHECK_FOR_INTERRUPTS();
		store_insert(store, &correction_items_table, &item);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row);
	}
	store_end_changes(store);
	store_close(store);
	MemoryContextDelete(row);
}

/*
 * SQL function: computes a correction of many accounts.
 */
Datum
credits_preview_correction(PG_FUNCTION_ARGS)
{
	Correction	correction = {0};
	int64		delta = arg_id(fcinfo, 1, "delta");
	Named	   *named;
	int			n;
	TupleDesc	tupdesc;
	Datum		values[9];
	bool		isnull[9] = {false};

	adjust_check_delta(delta);
	correction.reason = arg_reason(fcinfo, 2);
	named = read_accounts(fcinfo, &n);
	store_check_writable("credits_preview_correction()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	correction.delta = delta;
	correction.token = make_token();
	correction.status = CORRECTION_PREVIEWED;
	correction.role = GetUserNameFromId(GetSessionUserId(), false);
	correction.actor = roles_actor();
	correction.previewed_at = clock_now();
	correction.expires_at = correction.previewed_at + PREVIEW_LASTS;
	PushActiveSnapshot(store_snapshot(true));
	find_all_named(named, n, delta);
	PopActiveSnapshot();
	sum_up(&correction, named, n);
	correction.id = store_next_id(&corrections_table);
	store_preview(&correction, named, n);

	values[0] = Int64GetDatum(correction.id);
	values[1] = PointerGetDatum(correction.token);
	values[2] = Int32GetDatum(n);
	values[3] = Int32GetDatum(correction.accepted);
	values[4] = Int32GetDatum(n - correction.accepted);
	values[5] = multiply(number(delta), number(correction.accepted));
	values[6] = correction.balance_before;
	values[7] = correction.balance_after;
	values[8] = TimestampTzGetDatum(correction.expires_at);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc), values,
													  isnull)));
}

/* ------------------------------------------------------------------------
 * what has moved since
 */

/*
 * Raises an error: an account is not what was previewed.
 */
NORETURN_COMPAT static void raise_moved(const Correction *correction,
										const char *name, const char *now);
static void
raise_moved(const Correction *correction, const char *name, const char *now)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONFLICT),
			 errmsg("correction " INT64_FORMAT " is not what was previewed any more",
					correction->id),
			 now ? errdetail("Account \"%s\" could be corrected, but now it would be refused: %s.",
							 name, now)
			 : errdetail("Account \"%s\" was refused, but now it could be corrected.",
						 name),
			 errhint("Nothing was changed.  Call credits_preview_correction again.")));
}

/*
 * Checks that an account is still to be corrected, or refused, as it was previewed.
 */
static void
check_item(const Correction *correction, const CorrectionItem *item,
		   TimestampTz now)
{
	Account		account;
	Refusal		refusal = {0};

	if (find_settled(item->name, item->account_id, now, &account))
		judge_account(&account, correction->delta, &refusal);
	else if (item->account_id == 0)
		return;
	else
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("account " INT64_FORMAT " does not exist", item->account_id),
				 errdetail("It is number %d of correction " INT64_FORMAT ".",
						   item->number, correction->id),
				 errhint("Run credits_verify.")));
	if ((refusal.sqlstate != 0) != (item->code != NULL))
		raise_moved(correction, rows_account_name(&account), refusal.message);
}

/*
 * Checks that a correction is still what was previewed, or raises an error.  Only
 * reads, by the active snapshot.
 */
void
corrections_check(const Correction *correction)
{
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext,
											  "credits correction",
											  ALLOCSET_DEFAULT_SIZES);
	TimestampTz now = clock_now();
	StoreScan	scan;
	CorrectionItem item;
	bool		more = true;

	scan_begin(&scan, NULL, &correction_items_by_number, GetActiveSnapshot(),
			   BY_INT64(correction->id));
	while (more)
	{
		MemoryContext old = MemoryContextSwitchTo(row);

		CHECK_FOR_INTERRUPTS();
		more = scan_read(&scan, ForwardScanDirection, &item);
		if (more)
			check_item(correction, &item, now);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row);
	}
	scan_end(&scan);
	MemoryContextDelete(row);
}
