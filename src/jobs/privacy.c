/*
 * privacy.c
 *	  credits_erase_person: closing an account, and erasing who has it.
 *
 * The first transaction closes the account, replaces its name by an alias, and notes in
 * credits.erasures that the rest is to be done.  From then on nobody can use the account
 * by its name.  The rest is done in batches, place by place and step by step, see
 * places.h, and the row says how far that has come: so it can be interrupted at any point,
 * and continued by the same call or by credits_housekeep.
 *
 * Whoever saw the account before it was renamed may still add something about it, such
 * as a contact, at a place that was passed already.  Therefore the pass over all places
 * that counts as the last is one that begins when no snapshot that shows the account
 * under its name is left, be it of a transaction or of a statement that only reads.
 *
 * Tested in test/sql/privacy.sql, test/specs/privacy.spec and test/t/privacy.pl.
 */
#include "credits.h"

#include "jobs/places.h"
#include "jobs/privacy.h"
#include "ledger/erase.h"
#include "ledger/job.h"

#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"

PG_FUNCTION_INFO_V1(credits_erase_person);

/* bytes of the salt of references */
#define ERASURE_SALT_BYTES 16

/*
 * How many times credits_erase_person looks whether nobody sees the account as it was
 * any more, and how many microseconds it waits between two times
 */
#define MAX_TRIES 20
#define TRY_INTERVAL 50000L

/* What came of a batch */
typedef enum ErasureOutcome
{
	ERASURE_ENDED,
	ERASURE_UNFINISHED,			/* there is more to do */
	ERASURE_WAITS				/* for transactions that saw the account
								 * before */
} ErasureOutcome;

/* The row of an erasure, as far as batches need it */
typedef struct Erasure
{
	int64		account_id;
	Datum		name;
	Datum		alias;
	Datum		salt;
	bool		last_pass;
	int			place;
	int			step;
	text	   *position;		/* NULL at the beginning of a step */
	int64		done;			/* by this batch */
} Erasure;

static SqlStatement insert_erasure = {
	"INSERT INTO credits.erasures (account_id, transaction_id, begun_at, role, done, name,"
	" salt, xid, system, last_pass, step)"
	" VALUES ($1, $2, $3, session_user, 0, $4, $5, pg_current_xact_id(), $6, false, 0)",
	(const Oid[]) {
		INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, BYTEAOID, INT8OID, InvalidOid
	}
};

/* by the alias or, unless another account has it now, by the name that it had */
static SqlStatement find_erasure = {
	"SELECT e.account_id FROM credits.erasures AS e"
	" WHERE e.ended_at IS NULL AND e.name = $1"
	" AND NOT EXISTS (SELECT FROM credits.accounts AS n WHERE n.name = $1)"
	" UNION ALL SELECT e.account_id FROM credits.accounts AS a"
	" JOIN credits.erasures AS e ON e.account_id = a.id WHERE a.name = $1",
	(const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement has_begun = {
	"SELECT FROM credits.erasures AS e WHERE e.account_id = $1",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement lock_erasure = {
	"SELECT e.name, a.name, e.salt, e.last_pass, e.place, e.step, e.\"position\", e.xid,"
	" e.system = $2 FROM credits.erasures AS e"
	" JOIN credits.accounts AS a ON a.id = e.account_id"
	" WHERE e.account_id = $1 AND e.ended_at IS NULL FOR UPDATE OF e",
	(const Oid[]) {INT8OID, INT8OID, InvalidOid}
};

static SqlStatement advance_erasure = {
	"UPDATE credits.erasures SET done = done + $2, last_pass = $3, place = $4, step = $5,"
	" \"position\" = $6 WHERE account_id = $1",
	(const Oid[]) {
		INT8OID, INT8OID, BOOLOID, TEXTOID, INT4OID, TEXTOID, InvalidOid
	}
};

static SqlStatement end_erasure = {
	"UPDATE credits.erasures SET done = done + $2, ended_at = $3, name = NULL, salt = NULL,"
	" xid = NULL, system = NULL, last_pass = true, place = NULL, step = 0, \"position\" = NULL"
	" WHERE account_id = $1",
	(const Oid[]) {INT8OID, INT8OID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement find_unfinished = {
	"SELECT e.account_id FROM credits.erasures AS e"
	" WHERE e.ended_at IS NULL AND e.account_id > $1"
	" ORDER BY e.account_id LIMIT 1 FOR UPDATE SKIP LOCKED",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement find_result = {
	"SELECT a.name, e.ended_at IS NOT NULL FROM credits.erasures AS e"
	" JOIN credits.accounts AS a ON a.id = e.account_id WHERE e.account_id = $1",
	(const Oid[]) {INT8OID, InvalidOid}
};

/* the erasure before it is waiting or has ended, in this run of credits_housekeep */
static int64 swept_id = 0;

/* ------------------------------------------------------------------------
 * beginning
 */

/* The arguments of plan_erase */
typedef struct Beginning
{
	int64		account_id;
	text	   *name;
	int64		transaction_id;
	TimestampTz now;
} Beginning;

/*
 * Notes that an account is to be erased, when the posting is written.
 */
static void
write_erasure(Posting *posting, void *arg)
{
	Beginning  *beginning = arg;
	bytea	   *salt = palloc(VARHDRSZ + ERASURE_SALT_BYTES);
	Datum		values[6];

	SET_VARSIZE(salt, VARHDRSZ + ERASURE_SALT_BYTES);
	random_fill((uint8 *) VARDATA(salt), ERASURE_SALT_BYTES);
	values[0] = Int64GetDatum(posting->account.id);
	values[1] = Int64GetDatum(beginning->transaction_id);
	values[2] = TimestampTzGetDatum(beginning->now);
	values[3] = PointerGetDatum(beginning->name);
	values[4] = PointerGetDatum(salt);
	values[5] = Int64GetDatum(rows_system());
	(void) statements_run(&insert_erasure, values, NULL);
}

/*
 * Returns the name of an account that is erased, which no other account has.
 */
static text *
make_alias(int64 account_id)
{
	char	   *alias = psprintf("erased:" INT64_FORMAT, account_id);
	Account		other;
	int			i;

	for (i = 2; rows_find_account(NULL, store_snapshot(true),
								  cstring_to_text(alias), 0, &other); i++)
		alias = psprintf("erased:" INT64_FORMAT ":%d", account_id, i);
	return cstring_to_text(alias);
}

/*
 * Plans to close an account, and to replace its name.
 */
static bool
plan_erase(Posting *posting, void *arg)
{
	Beginning  *beginning = arg;
	Account    *account = &posting->account;
	JsonObject	detail;
	Datum		value = Int64GetDatum(account->id);

	beginning->account_id = account->id;
	/* another session may have begun it while we waited for the lock */
	if (statements_run_latest(&has_begun, &value, NULL)->nrows > 0)
	{
		posting->already = KIND_ERASURE;
		return false;
	}
	beginning->name = account->name;
	account->name = make_alias(account->id);
	account->metadata = (Datum) 0;
	account->status = ACCOUNT_CLOSED;
	posting->main = log_add(posting, KIND_ERASURE, posting->now, 0, NULL, 0);
	beginning->transaction_id = posting->main->id;
	beginning->now = posting->now;
	json_begin(&detail);
	json_text(&detail, "account", account->name);
	events_announce_with(posting, "person_erased", posting->main->id, &detail);
	posting_defer_statements(posting, write_erasure, beginning);
	return true;
}

/*
 * Returns the account whose erasure has begun under this name or alias, 0 if none has.
 */
static int64
find_begun(text *name)
{
	Datum		value = PointerGetDatum(name);
	SqlResult  *result = statements_run_latest(&find_erasure, &value, NULL);
	bool		isnull;

	return result->nrows == 0 ? 0 :
		DatumGetInt64(statements_value(result, 0, 1, &isnull));
}

/*
 * Closes an account, renames it, and notes that it is to be erased.  Returns its id.  If
 * that was done before, there is nothing to do.
 */
static int64
begin_erasure(text *name, text *reason)
{
	Request		request = {.reason = reason,.lock_first = true};
	Beginning	beginning = {0};
	Receipt		receipt;
	Refusal		refusal;
	int64		account_id = find_begun(name);

	if (account_id != 0)
		return account_id;
	if (!ledger_post("credits_erase_person()", name, 0, &request, plan_erase,
					 &beginning, &receipt, &refusal))
	{
		/* another session may have begun it since we looked */
		account_id = find_begun(name);
		if (account_id == 0)
			raise_refusal(&refusal);
		return account_id;
	}
	return beginning.account_id;
}

/* ------------------------------------------------------------------------
 * batches
 */

/*
 * Returns whether nobody can see any more what was there before a transaction, by any
 * snapshot in this database.
 */
static bool
is_unseen(FullTransactionId fxid)
{
	uint64		age = U64FromFullTransactionId(ReadNextFullTransactionId()) -
		U64FromFullTransactionId(fxid);
	Relation	accounts = tables_open(&accounts_table, AccessShareLock);
	TransactionId horizon = GetOldestNonRemovableTransactionId(accounts);

	table_close(accounts, NoLock);
	/* ids of four bytes can be compared with those that are not too far away */
	return age > PG_INT32_MAX / 2 ||
		TransactionIdPrecedes(XidFromFullTransactionId(fxid), horizon);
}

/*
 * Locks the row of an erasure and reads it.  Returns false if it has ended.
 */
static bool
lock_and_read(int64 account_id, Erasure *erasure, bool *unseen)
{
	Datum		values[2];
	SqlResult  *result;
	bool		isnull;
	Datum		value;
	bool		is_here;

	values[0] = Int64GetDatum(account_id);
	values[1] = Int64GetDatum(rows_system());
	result = statements_run(&lock_erasure, values, NULL);
	if (result->nrows == 0)
		return false;
	erasure->account_id = account_id;
	erasure->name = statements_value(result, 0, 1, &isnull);
	erasure->alias = statements_value(result, 0, 2, &isnull);
	erasure->salt = statements_value(result, 0, 3, &isnull);
	erasure->last_pass = DatumGetBool(statements_value(result, 0, 4, &isnull));
	value = statements_value(result, 0, 5, &isnull);
	erasure->place = isnull ? -1 : places_find(TextDatumGetCString(value));
	erasure->step = DatumGetInt32(statements_value(result, 0, 6, &isnull));
	value = statements_value(result, 0, 7, &isnull);
	erasure->position = isnull ? NULL : DatumGetTextPP(value);
	erasure->done = 0;

	/*
	 * a transaction of another cluster, from which this one was restored, has
	 * ended
	 */
	value = statements_value(result, 0, 8, &isnull);
	is_here = DatumGetBool(statements_value(result, 0, 9, &isnull));
	*unseen = !is_here || is_unseen(DatumGetFullTransactionId(value));
	return true;
}

/*
 * Erases the texts of the rows of the log that a statement has found.
 */
static void
erase_found(Erasure *erasure, const SqlResult *result)
{
	int64	   *ids = palloc((result->nrows + 1) * sizeof(int64));
	int			n = 0;
	uint64		i;

	for (i = 0; i < result->nrows; i++)
	{
		bool		isnull;
		Datum		id = statements_value(result, i, 1, &isnull);

		if (!isnull)
			ids[n++] = DatumGetInt64(id);
	}
	erase_prepare(ids, n);
	for (i = 0; i < (uint64) n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (erase_text(ids[i], false))
			erasure->done++;
	}
}

/*
 * Takes a part of a step.  Returns how many rows it has changed, and sets the position,
 * to NULL if nothing is left.
 */
static void
take_erasing_step(Erasure *erasure, PlaceStep *step, int limit)
{
	Datum		values[6];
	bool		isnull[6] = {false};
	SqlResult  *result;
	Datum		value;
	bool		none;

	values[0] = Int64GetDatum(erasure->account_id);
	values[1] = erasure->name;
	values[2] = erasure->alias;
	values[3] = erasure->salt;
	values[4] = PointerGetDatum(erasure->position);
	isnull[4] = erasure->position == NULL;
	values[5] = Int32GetDatum(limit);
	result = statements_run(&step->statement, values, isnull);
	if (step->finds)
		erase_found(erasure, result);
	else
		erasure->done += DatumGetInt64(statements_value(result, 0, 1, &none));
	erasure->position = NULL;
	if (result->nrows > 0)
	{
		value = statements_value(result, result->nrows - 1, 2, &none);
		if (!none)
			erasure->position = DatumGetTextPP(value);
	}
}

/*
 * Stores how far an erasure has come.
 */
static void
advance(const Erasure *erasure)
{
	const Place *place = erasure->place >= 0 ? places_get(erasure->place) : NULL;
	Datum		values[6];
	bool		isnull[6] = {false, false, false, place == NULL, false, erasure->position == NULL};

	values[0] = Int64GetDatum(erasure->account_id);
	values[1] = Int64GetDatum(erasure->done);
	values[2] = BoolGetDatum(erasure->last_pass);
	values[3] = place ? CStringGetTextDatum(place->table) : (Datum) 0;
	values[4] = Int32GetDatum(erasure->step);
	values[5] = PointerGetDatum(erasure->position);
	(void) statements_run(&advance_erasure, values, isnull);
}

/*
 * Takes steps until one has changed something or has more to do, or all places were
 * passed.  Returns whether there may be more.
 *
 * What one step has locked is so released before another one locks anything, which
 * others may do in another order.
 */
static bool
pass_places(Erasure *erasure, int limit)
{
	Place	   *place;

	while ((place = places_get(erasure->place)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (erasure->step == MAX_PLACE_STEPS ||
			place->steps[erasure->step].statement.text == NULL)
		{
			erasure->place++;
			erasure->step = 0;
			continue;
		}
		take_erasing_step(erasure, &place->steps[erasure->step], limit);
		if (erasure->position)
			return true;
		erasure->step++;
		if (erasure->done > 0)
			return true;
	}
	return false;
}

/*
 * Does one batch of an erasure.  Adds to done how many rows it has changed.
 */
static ErasureOutcome
erase_batch(int64 account_id, int limit, int64 *done)
{
	Erasure		erasure;
	bool		unseen;
	bool		more;
	Datum		values[3];

	ledger_lock_tables("credits_erase_person()");
	if (!lock_and_read(account_id, &erasure, &unseen))
		return ERASURE_ENDED;
	if (erasure.place < 0)
	{
		/* a pass begins; after the first one, only the last is made */
		if (erasure.step > 0 && !unseen)
			return ERASURE_WAITS;
		erasure.place = 0;
		erasure.step = 0;
		erasure.last_pass = unseen;
	}
	more = pass_places(&erasure, limit);
	*done += erasure.done;
	if (more)
	{
		advance(&erasure);
		return ERASURE_UNFINISHED;
	}
	if (!erasure.last_pass)
	{
		erasure.place = -1;
		erasure.step = 1;
		advance(&erasure);
		return unseen ? ERASURE_UNFINISHED : ERASURE_WAITS;
	}
	values[0] = Int64GetDatum(account_id);
	values[1] = Int64GetDatum(erasure.done);
	values[2] = TimestampTzGetDatum(clock_now());
	(void) statements_run(&end_erasure, values, NULL);
	return ERASURE_ENDED;
}

/*
 * Waits a short time for transactions that saw the account before, most of which are
 * short.  Returns false if that has been long enough: credits_housekeep will finish.
 */
static bool
wait_again(int *tries)
{
	SPI_commit();
	if (++*tries > MAX_TRIES)
		return false;
	CHECK_FOR_INTERRUPTS();
	pg_usleep(TRY_INTERVAL);
	return true;
}

/*
 * SQL procedure: erases a person.
 */
Datum
credits_erase_person(PG_FUNCTION_ARGS)
{
	bool		may_commit = fcinfo->context &&
		IsA(fcinfo->context, CallContext) &&
		!castNode(CallContext, fcinfo->context)->atomic;
	MemoryContext context = CurrentMemoryContext;
	MemoryContext batch = AllocSetContextCreate(context, "credits erasure",
												ALLOCSET_DEFAULT_SIZES);
	text	   *name = arg_account(fcinfo, 0);
	text	   *reason = arg_reason(fcinfo, 1);
	int			limit = job_batch_size(fcinfo, 2);
	int64		account_id;
	int64		done = 0;
	int			tries = 0;
	ErasureOutcome outcome;
	TupleDesc	tupdesc;
	SqlResult  *result;
	Datum		values[3];
	bool		isnull[3] = {false};

	store_check_writable("credits_erase_person()");
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	tupdesc = BlessTupleDesc(tupdesc);
	SPI_connect_ext(may_commit ? SPI_OPT_NONATOMIC : 0);
	MemoryContextSwitchTo(batch);
	account_id = begin_erasure(name, reason);
	do
	{
		if (may_commit)
			SPI_commit();
		MemoryContextSwitchTo(batch);
		MemoryContextReset(batch);
		CHECK_FOR_INTERRUPTS();
		outcome = erase_batch(account_id, limit, &done);
	} while (outcome == ERASURE_UNFINISHED ||
			 (outcome == ERASURE_WAITS && may_commit && wait_again(&tries)));
	if (may_commit)
		SPI_commit();
	SPI_finish();

	MemoryContextSwitchTo(context);
	values[0] = Int64GetDatum(account_id);
	result = statements_run_latest(&find_result, values, NULL);
	values[0] = statements_value(result, 0, 1, &isnull[0]);
	values[1] = Int64GetDatum(done);
	values[2] = statements_value(result, 0, 2, &isnull[2]);
	MemoryContextDelete(batch);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(tupdesc, values, isnull)));
}

/* ------------------------------------------------------------------------
 * as a part of credits_housekeep
 */

/*
 * Begins to continue erasures, with the first of them.
 */
void
privacy_begin_sweep(void)
{
	swept_id = 0;
}

/*
 * Does a batch of an erasure that was begun and has not ended, unless another session
 * does.  Returns 0 if there is nothing to do.
 */
int64
privacy_sweep(int limit, bool may_commit)
{
	for (;;)
	{
		Datum		value = Int64GetDatum(swept_id);
		SqlResult  *result = statements_run(&find_unfinished, &value, NULL);
		int64		account_id;
		int64		done = 0;
		ErasureOutcome outcome;
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		if (result->nrows == 0)
			return 0;
		account_id = DatumGetInt64(statements_value(result, 0, 1, &isnull));
		outcome = erase_batch(account_id, limit, &done);
		if (outcome != ERASURE_UNFINISHED)
			swept_id = account_id;
		if (outcome != ERASURE_WAITS || done > 0)
			return Max(done, 1);
	}
}
