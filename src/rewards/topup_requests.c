/*
 * topup_requests.c
 *	  Automatic top-ups: purchases that are started because a balance is low.
 *
 * A request is a purchase like any other, which whoever keeps the payment methods
 * charges and completes.  credits_request_topups decides, for each account that an
 * event or the clock names, whether one is to be started: it looks at the account as it
 * is then, and at what became of the purchases before.  So it does not matter how often
 * an account is named, or in which order, and whatever was missed is seen the next time.
 *
 * The account is locked while that is decided; a unique index says that there is one
 * open request at a time.  Whoever holds that lock for long delays the account's own
 * top-up, but no other: the wait is limited, and the account is looked at again.
 *
 * Declined payments are waited after for an hour, then for a day, and the third one in
 * sequence suspends top-ups until credits_resume_topup.  A purchase that nobody has
 * answered is waited after in the same way, but suspends nothing.
 *
 * Tested in test/sql/topups.sql, test/specs/topups.spec and test/t/topups.pl.
 */
#include "credits.h"

#include "base/numeric.h"
#include "ledger/job.h"
#include "rewards/topups.h"
#include "sell/purchases.h"
#include "store/statements.h"
#include "tell/feed.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_request_topups);

#define MAX_TOPUPS 100

/* how many events are read in one call */
#define MAX_EVENTS_PER_CALL 1000

/* how long to wait for an account that is locked, in milliseconds */
#define TOPUP_LOCK_TIMEOUT 200

/* payments declined in sequence after which no more are tried */
#define MAX_DECLINES 3

/* how long to wait after one purchase that was not paid, and after several */
#define FIRST_WAIT USECS_PER_HOUR
#define NEXT_WAIT USECS_PER_DAY

/* An account that is looked at */
typedef struct Attempt
{
	int64		account_id;
	/* what is decided */
	Topup		topup;			/* the rule; its state, message and due_at are
								 * those of the last time */
	TopupState	state;
	char	   *message;
	TimestampTz due_at;
	int64		ended_id;		/* a request that has ended, 0 if none */
	int64		expired_id;		/* its purchase, if that is to be expired */
	int64		topup_id;		/* the new request, once it is written */
	PurchaseStart start;
} Attempt;

static SqlStatement find_open = {
	"SELECT r.id, r.purchase_id, p.status = 'pending', p.expires_at"
	" FROM credits.topup_requests AS r"
	" JOIN credits.purchases AS p ON p.id = r.purchase_id"
	" WHERE r.account_id = $1 AND r.ended_at IS NULL",
	(const Oid[]) {INT8OID, InvalidOid}
};

/* the last ones, newest first, with what has become of them */
static SqlStatement find_last = {
	"SELECT p.status, COALESCE(r.ended_at, $3) FROM credits.topup_requests AS r"
	" JOIN credits.purchases AS p ON p.id = r.purchase_id"
	" WHERE r.account_id = $1 AND r.id > $2"
	" ORDER BY r.requested_at DESC, r.id DESC LIMIT $4",
	(const Oid[]) {INT8OID, INT8OID, TIMESTAMPTZOID, INT4OID, InvalidOid}
};

/* those within a period that were paid, or may still be */
static SqlStatement find_counted = {
	"SELECT count(*), COALESCE(sum(p.price) FILTER (WHERE p.currency = $4), 0),"
	" min(r.requested_at) FROM credits.topup_requests AS r"
	" JOIN credits.purchases AS p ON p.id = r.purchase_id"
	" WHERE r.account_id = $1 AND r.requested_at > $2"
	" AND (p.status = 'completed' OR (p.status = 'pending' AND r.id <> $3))",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, INT8OID, TEXTOID, InvalidOid}
};

static SqlStatement end_request = {
	"UPDATE credits.topup_requests SET ended_at = $2 WHERE id = $1",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement insert_request = {
	"INSERT INTO credits.topup_requests (id, account_id, purchase_id, balance,"
	" requested_at) VALUES (nextval('credits.topup_requests_id_seq'), $1, $2, $3,"
	" $4) RETURNING id",
	(const Oid[]) {INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement set_state = {
	"UPDATE credits.topups SET state = $2, message = $3, due_at = $4"
	" WHERE account_id = $1",
	(const Oid[]) {INT8OID, TEXTOID, TEXTOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement set_due = {
	"UPDATE credits.topups SET due_at = $2 WHERE account_id = $1",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

/* whoever has it locked looks at the account, or has it looked at */
static SqlStatement lock_rule = {
	"SELECT FROM credits.topups WHERE account_id = $1 FOR UPDATE SKIP LOCKED",
	(const Oid[]) {INT8OID, InvalidOid}
};

static SqlStatement find_due = {
	"SELECT account_id FROM credits.topups WHERE due_at <= $1"
	" ORDER BY due_at, account_id LIMIT $2",
	(const Oid[]) {TIMESTAMPTZOID, INT4OID, InvalidOid}
};

/* ------------------------------------------------------------------------
 * deciding
 */

/*
 * Decides that nothing is to be bought now, and when to look again.
 */
static void
decide(Attempt *attempt, TopupState state, char *message, TimestampTz due_at)
{
	attempt->state = state;
	attempt->message = message;
	attempt->due_at = due_at;
}

/*
 * Looks at the open request of an account.  Returns false if it is still open.
 */
static bool
look_at_open(Attempt *attempt, TimestampTz now)
{
	Datum		value = Int64GetDatum(attempt->account_id);
	SqlResult  *row = statements_run(&find_open, &value, NULL);
	bool		isnull;
	bool		pending;
	TimestampTz expires_at;

	if (row->nrows == 0)
		return true;
	pending = DatumGetBool(statements_value(row, 0, 3, &isnull));
	expires_at = DatumGetTimestampTz(statements_value(row, 0, 4, &isnull));
	if (pending && expires_at > now)
	{
		decide(attempt, TOPUP_REQUESTED, NULL, expires_at);
		return false;
	}
	attempt->ended_id = DatumGetInt64(statements_value(row, 0, 1, &isnull));
	if (pending)
		attempt->expired_id = DatumGetInt64(statements_value(row, 0, 2, &isnull));
	return true;
}

/*
 * Looks at what became of the last requests.  Returns false if it is too early for
 * another one.
 */
static bool
look_at_unpaid(Attempt *attempt, TimestampTz now)
{
	Datum		values[4];
	SqlResult  *rows;
	bool		isnull;
	TimestampTz ended_at;
	TimestampTz again_at;
	uint64		unpaid = 0;
	uint64		declined = 0;

	values[0] = Int64GetDatum(attempt->account_id);
	values[1] = Int64GetDatum(attempt->topup.resumed_id);
	values[2] = TimestampTzGetDatum(now);
	values[3] = Int32GetDatum(MAX_DECLINES);
	rows = statements_run(&find_last, values, NULL);
	for (; unpaid < rows->nrows; unpaid++)
	{
		char	   *status = TextDatumGetCString(statements_value(rows, unpaid, 1,
																  &isnull));

		if (strcmp(status, "completed") == 0)
			break;
		if (strcmp(status, "failed") == 0)
			declined++;
	}
	if (unpaid == 0)
		return true;
	if (declined == MAX_DECLINES)
	{
		decide(attempt, TOPUP_SUSPENDED,
			   psprintf("the last %d payments were declined", MAX_DECLINES),
			   DT_NOEND);
		return false;
	}
	ended_at = DatumGetTimestampTz(statements_value(rows, 0, 2, &isnull));
	again_at = ended_at + (unpaid == 1 ? FIRST_WAIT : NEXT_WAIT);
	if (again_at <= now)
		return true;
	decide(attempt, TOPUP_WAITING,
		   pstrdup(declined > 0 ? "the last payment was declined" :
				   "the last purchase was not paid"), again_at);
	return false;
}

/*
 * Looks at what may be bought within a period, and what it costs.  Returns false if
 * that is too much.
 */
static bool
look_at_limits(Posting *posting, Attempt *attempt)
{
	const Topup *topup = &attempt->topup;
	PurchaseStart *start = &attempt->start;
	Refusal    *refusal = &posting->refusal;
	Datum		values[4];
	SqlResult  *row;
	PriceQuote	quote;
	TimestampTz slot_at = DT_NOEND;
	Datum		oldest;
	bool		isnull;

	memset(start, 0, sizeof(PurchaseStart));
	start->account = posting->account.name;
	start->package = topup->package;
	if (topup->package == NULL)
		start->amount = topup->target - posting->account.balance;
	start->currency = topup->currency;
	if (!prices_quote(&posting->account, start->package, start->amount, NULL,
					  start->currency, posting->now, &quote, refusal))
	{
		decide(attempt, TOPUP_REFUSED, refusal->message, posting->now + NEXT_WAIT);
		memset(refusal, 0, sizeof(Refusal));
		return false;
	}
	values[0] = Int64GetDatum(attempt->account_id);
	values[1] = TimestampTzGetDatum(clock_before(posting->now, topup->period));
	values[2] = Int64GetDatum(attempt->ended_id);
	values[3] = PointerGetDatum(quote.currency);
	row = statements_run(&find_counted, values, NULL);
	oldest = statements_value(row, 0, 3, &isnull);
	if (!isnull)
		slot_at = clock_after(DatumGetTimestampTz(oldest), topup->period);
	if (DatumGetInt64(statements_value(row, 0, 1, &isnull)) >= topup->max_requests)
	{
		decide(attempt, TOPUP_LIMITED,
			   psprintf("there have been as many top-ups as max_requests allows, " INT64_FORMAT,
						topup->max_requests), slot_at);
		return false;
	}
	if (topup->max_money != (Datum) 0 &&
		compare(add(statements_value(row, 0, 2, &isnull), quote.total),
				topup->max_money) > 0)
	{
		/* what is too dear by itself is so until the rule changes */
		decide(attempt, TOPUP_LIMITED,
			   psprintf("with this one, top-ups would cost more than max_money, %s",
						DatumGetCString(DirectFunctionCall1(numeric_out,
															topup->max_money))),
			   slot_at);
		return false;
	}
	return true;
}

/*
 * Decides whether an account is to be topped up now.
 */
static bool
wants_topup(Posting *posting, Attempt *attempt)
{
	const Account *account = &posting->account;
	TimestampTz now = posting->now;

	if (!look_at_open(attempt, now))
		return false;
	if (account->status == ACCOUNT_CLOSED)
		decide(attempt, TOPUP_REFUSED, pstrdup("the account is closed"), DT_NOEND);
	else if (account->balance >= attempt->topup.below)
		decide(attempt, TOPUP_READY, NULL, DT_NOEND);
	else if (account->status != ACCOUNT_ACTIVE)
		decide(attempt, TOPUP_REFUSED, pstrdup("the account is paused"),
			   now + NEXT_WAIT);
	/* what it bought would pay for what it has not paid */
	else if (account->debt > 0)
		decide(attempt, TOPUP_REFUSED, pstrdup("the account is in debt"),
			   now + NEXT_WAIT);
	else
		return look_at_unpaid(attempt, now) && look_at_limits(posting, attempt);
	return false;
}

/* ------------------------------------------------------------------------
 * writing
 */

/*
 * Ends a request whose purchase has ended.
 */
static void
write_end(Posting *posting, void *arg)
{
	const Attempt *attempt = arg;
	Datum		values[2];

	if (attempt->expired_id != 0)
		(void) purchases_expire(attempt->expired_id);
	values[0] = Int64GetDatum(attempt->ended_id);
	values[1] = TimestampTzGetDatum(posting->now);
	(void) statements_run(&end_request, values, NULL);
}

/*
 * Records a request whose purchase has been started, and announces it.
 */
static void
write_request(Posting *posting, void *arg)
{
	Attempt    *attempt = arg;
	const Purchase *purchase = &attempt->start.purchase;
	JsonObject	json;
	Datum		values[4];
	bool		isnull;

	values[0] = Int64GetDatum(attempt->account_id);
	values[1] = Int64GetDatum(purchase->id);
	values[2] = Int64GetDatum(posting->account.balance);
	values[3] = TimestampTzGetDatum(posting->now);
	attempt->topup_id =
		DatumGetInt64(statements_value(statements_run(&insert_request, values, NULL),
									   0, 1, &isnull));
	decide(attempt, TOPUP_REQUESTED, NULL, purchase->expires_at);
	json_begin(&json);
	json_int64(&json, "topup_id", attempt->topup_id);
	json_int64(&json, "balance", posting->account.balance);
	json_int64(&json, "credits", purchase->credits);
	purchases_event_money(&json, "price", purchase->price);
	json_text(&json, "currency", purchase->currency);
	purchases_event("topup_requested", purchase, 0, &json);
}

/*
 * Announces why an account is not topped up.
 */
static void
announce_why_not(const Posting *posting, const Attempt *attempt)
{
	JsonObject	json;

	json_begin(&json);
	json_int64(&json, "balance", posting->account.balance);
	json_cstring(&json, "state", topup_state_names[attempt->state]);
	json_cstring(&json, "message", attempt->message);
	json_instant(&json, "again_at", attempt->due_at);
	events_announce(attempt->state == TOPUP_SUSPENDED ? "topup_suspended" : "topup_refused",
					attempt->account_id, 0, posting->now, &json);
}

/*
 * Records what was decided and, if that is news, announces why nothing is bought.
 */
static void
write_state(Posting *posting, void *arg)
{
	const Attempt *attempt = arg;
	const Topup *topup = &attempt->topup;
	text	   *message = attempt->message ? cstring_to_text(attempt->message) : NULL;
	bool		same = topup->state == attempt->state &&
		(message ? topup->message && same_text(topup->message, message) :
		 topup->message == NULL);
	Datum		values[4];
	bool		isnull[4] = {false};

	if (same && topup->due_at == attempt->due_at)
		return;
	values[0] = Int64GetDatum(attempt->account_id);
	values[1] = CStringGetTextDatum(topup_state_names[attempt->state]);
	values[2] = PointerGetDatum(message);
	isnull[2] = message == NULL;
	values[3] = TimestampTzGetDatum(attempt->due_at);
	isnull[3] = attempt->due_at == DT_NOEND;
	(void) statements_run(&set_state, values, isnull);
	if (!same && message)
		announce_why_not(posting, attempt);
}

/*
 * Plans to start a purchase for an account, or to record why none is started.
 */
static bool
plan_request(Posting *posting, void *arg)
{
	Attempt    *attempt = arg;
	bool		wanted;

	/* a plan may be made more than once */
	attempt->ended_id = attempt->expired_id = attempt->topup_id = 0;
	if (!topups_find(attempt->account_id, &attempt->topup))
		return true;
	wanted = wants_topup(posting, attempt);
	if (attempt->ended_id != 0)
		posting_defer_statements(posting, write_end, attempt);
	if (wanted)
	{
		if (!purchases_plan_start(posting, &attempt->start))
			return false;
		posting_defer_statements(posting, write_request, attempt);
	}
	posting_defer_statements(posting, write_state, attempt);
	return true;
}

/*
 * Looks at one account, in a subtransaction.
 */
static void
look_at_account(void *arg)
{
	Attempt    *attempt = arg;
	int			nest = NewGUCNestLevel();
	Party		party = {.id = attempt->account_id};
	Request		request = {0};
	Receipt		receipt;
	Refusal		refusal;

	if (LockTimeout == 0)
		(void) set_config_option("lock_timeout", psprintf("%d", TOPUP_LOCK_TIMEOUT),
								 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
								 true, 0, false);
	if (!ledger_post_joint("credits_request_topups()", &party, 1, &request,
						   plan_request, attempt, &receipt, &refusal))
		raise_refusal(&refusal);
	AtEOXact_GUC(true, nest);
}

/*
 * Records that an account could not be looked at: one that is locked is looked at by
 * the next call, one that fails in a day.
 */
static void
put_off(const Attempt *attempt, const ErrorData *error)
{
	TimestampTz now = clock_now();
	Datum		values[4];

	values[0] = Int64GetDatum(attempt->account_id);
	if (statements_run(&lock_rule, values, NULL)->nrows == 0)
		return;
	if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED)
	{
		values[1] = TimestampTzGetDatum(now);
		(void) statements_run(&set_due, values, NULL);
		return;
	}
	values[1] = CStringGetTextDatum(topup_state_names[TOPUP_REFUSED]);
	values[2] = CStringGetTextDatum(error->message ? error->message : "");
	values[3] = TimestampTzGetDatum(now + NEXT_WAIT);
	(void) statements_run(&set_state, values, NULL);
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not top up account " INT64_FORMAT ": %s",
					attempt->account_id, error->message ? error->message : ""),
			 error->hint ? errhint("%s", error->hint) : 0));
}

/* ------------------------------------------------------------------------
 * finding accounts
 */

/* Accounts to be looked at, each once */
typedef struct Accounts
{
	int			n;
	int			max;
	int64		ids[MAX_TOPUPS];
} Accounts;

/*
 * Adds an account, unless it is there already.
 */
static void
add_account(Accounts *accounts, int64 id)
{
	int			i;

	for (i = 0; i < accounts->n; i++)
		if (accounts->ids[i] == id)
			return;
	accounts->ids[accounts->n++] = id;
}

/*
 * Returns whether an event says that an account may have to be topped up, or that its
 * request has ended.
 */
static bool
is_about_topups(const Event *event)
{
	Topup		topup;

	return event->account_id != 0 &&
		(strcmp(event->kind, "topup_due") == 0 ||
		 strcmp(event->kind, "purchase_completed") == 0 ||
		 strcmp(event->kind, "purchase_failed") == 0) &&
		topups_find(event->account_id, &topup);
}

/*
 * Finds accounts that events name which nobody has read for this before.
 */
static void
find_by_events(Accounts *accounts)
{
	FeedPage   *page = feed_take(FEED_TOPUPS, MAX_EVENTS_PER_CALL);
	int			i;

	if (page == NULL)
		return;
	for (i = 0; i < page->nevents && accounts->n < accounts->max; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (is_about_topups(&page->events[i]))
			add_account(accounts, page->events[i].account_id);
	}
	feed_taken(page, i);
}

/*
 * Finds accounts that are due by the clock.
 */
static void
find_by_clock(Accounts *accounts)
{
	Datum		values[2];
	SqlResult  *rows;
	uint64		i;
	bool		isnull;

	values[0] = TimestampTzGetDatum(clock_now());
	values[1] = Int32GetDatum(accounts->max);
	rows = statements_run(&find_due, values, NULL);
	for (i = 0; i < rows->nrows && accounts->n < accounts->max; i++)
		add_account(accounts, DatumGetInt64(statements_value(rows, i, 1, &isnull)));
}

/*
 * qsort comparator: accounts are locked in the order of their ids.
 */
static int
compare_account_ids(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/*
 * SQL function: starts purchases for accounts that are to be topped up.
 */
Datum
credits_request_topups(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Accounts	accounts = {
		.max = arg_max_rows(fcinfo, 0, MAX_TOPUPS, "Leave max_rows out for 10 rows.",
							"Call it again for more.")
	};
	MemoryContext context;
	int			i;

	store_check_writable("credits_request_topups()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	receipts_check_columns(result->setDesc, CHECKOUT_COLUMNS);
	find_by_events(&accounts);
	find_by_clock(&accounts);
	qsort(accounts.ids, accounts.n, sizeof(int64), compare_account_ids);
	context = AllocSetContextCreate(CurrentMemoryContext, "credits topups",
									ALLOCSET_DEFAULT_SIZES);
	for (i = 0; i < accounts.n; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Attempt    *attempt = palloc0(sizeof(Attempt));
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		attempt->account_id = accounts.ids[i];
		error = catch_error(look_at_account, attempt);
		if (error && job_is_ended_by(error))
			ReThrowError(error);
		if (error)
			put_off(attempt, error);
		else if (attempt->topup_id != 0)
		{
			Datum		values[CHECKOUT_COLUMNS];
			bool		isnull[CHECKOUT_COLUMNS];

			purchases_checkout(&attempt->start, values, isnull);
			tuplestore_putvalues(result->setResult, result->setDesc, values, isnull);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
	return (Datum) 0;
}
