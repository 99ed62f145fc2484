/*
 * warn.c
 *	  credits_warn: a job that announces by events that grants will expire,
 *	  that subscriptions will be renewed, and that disputes are overdue.
 *
 * The settings credits.expiry_warning and credits.renewal_warning are lists of
 * leads: how long before the expiry or renewal there is to be a warning.  Each
 * lead is one part of a run of the job.  For each lead, a row of
 * credits.warnings records the time of expiry or renewal up to which
 * everything has been announced.  A run locks that row while it continues from
 * there, batch by batch, and skips a lead whose row another run has locked.
 * So there is exactly one warning for each grant and lead.
 *
 * If a lead has been missed, because the grant became effective too late or
 * because no job ran in time, the warning is left to the next shorter lead.
 * What has already expired or been renewed is not announced.
 *
 * If credits.dispute_deadline is set, the first part of a run announces disputes that
 * have not been decided in time.  The row of each says whether that was done.
 */
#include "credits.h"

#include "disputes/disputes.h"
#include "ledger/job.h"
#include "ledger/ledger.h"
#include "store/statements.h"
#include "subscribe/subscriptions.h"

#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(credits_warn);
PG_FUNCTION_INFO_V1(credits_warn_behind);

/* One kind of warning */
typedef struct WarningKind
{
	const char *name;			/* in credits.warnings */
	Intervals  *(*leads) (void);
	StoreIndex *due;
	bool		(*warn) (const DueItem *item, TimestampTz now);
	SqlStatement oldest;		/* first item after (at, id), up to a time */
} WarningKind;

/* One lead of a kind, which is a part of a run */
typedef struct Lead
{
	WarningKind *kind;
	Interval	span;			/* a copy, as the setting may change between
								 * batches */
	TimestampTz until;			/* announce what expires up to this time */
	TimestampTz next;			/* but not before this one, which is left to
								 * the next shorter lead */
} Lead;

static StoreIndex grants_by_expires_at = {
	&grants_table, "grants_expires_at_idx", {"expires_at", "id"},
	.predicate = "((status = 'open'::text) AND (expires_at IS NOT NULL))"
};

/* a subscription, if it will be renewed at the given time */
static SqlStatement find_renewal = {
	"SELECT a.id, s.period_start, p.name, p.credits, p.price, p.currency"
	" FROM credits.subscriptions AS s"
	" JOIN credits.accounts AS a ON a.id = s.account_id"
	/* a change to a plan that is retired is going to be withdrawn */
	" LEFT JOIN credits.plans AS n ON n.id = s.next_plan_id AND NOT EXISTS ("
	"SELECT FROM credits.plans AS r WHERE r.name = n.name"
	" AND r.version > n.version AND r.retired AND NOT EXISTS ("
	"SELECT FROM credits.plans AS l WHERE l.name = r.name"
	" AND l.version > r.version))"
	" JOIN credits.plans AS p ON p.id = COALESCE(n.id, s.plan_id)"
	" WHERE s.id = $1 AND s.due_at = $2 AND s.period_end = $2"
	" AND s.status IN ('trialing', 'active')"
	" AND (s.cancel_at IS NULL OR s.cancel_at > $2)"
	" AND a.status <> 'closed'",
	(const Oid[]) {INT8OID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement make_mark = {
	"INSERT INTO credits.warnings (kind, lead, reached_at, reached_id)"
	" VALUES ($1, $2, $3, 0) ON CONFLICT DO NOTHING",
	(const Oid[]) {TEXTOID, INTERVALOID, TIMESTAMPTZOID, InvalidOid}
};

static SqlStatement lock_mark = {
	"SELECT w.reached_at, w.reached_id FROM credits.warnings AS w"
	" WHERE w.kind = $1 AND w.lead = $2 FOR UPDATE SKIP LOCKED",
	(const Oid[]) {TEXTOID, INTERVALOID, InvalidOid}
};

static SqlStatement move_mark = {
	"UPDATE credits.warnings SET reached_at = $3, reached_id = $4"
	" WHERE kind = $1 AND lead = $2",
	(const Oid[]) {
		TEXTOID, INTERVALOID, TIMESTAMPTZOID, INT8OID, InvalidOid
	}
};

static SqlStatement read_mark = {
	"SELECT w.reached_at, w.reached_id FROM credits.warnings AS w"
	" WHERE w.kind = $1 AND w.lead = $2",
	(const Oid[]) {TEXTOID, INTERVALOID, InvalidOid}
};

/*
 * Begins the detail of an event.
 */
static void
begin_detail(JsonObject *json, const DueItem *item)
{
	const Lead *lead = item->range->arg;
	char		span[MAXDATELEN + 1];
	struct pg_itm itm;

	/* not interval_out, which depends on the setting IntervalStyle */
	interval2itm(lead->span, &itm);
	EncodeInterval(&itm, INTSTYLE_POSTGRES, span);
	json_begin(json);
	json_cstring(json, "lead", span);
}

/*
 * Returns whether the lead lies before the time at which the item began: then
 * there is no warning with this lead.
 */
static bool
too_late_for(const DueItem *item, TimestampTz from)
{
	const Lead *lead = item->range->arg;

	return from >= clock_before(item->due_at,
								unconstify(Interval *, &lead->span));
}

/*
 * Announces that a grant will expire.  Returns false if there is no reason to:
 * its expiry has changed, nothing remains of it, or its account is closed.
 */
static bool
warn_of_expiry(const DueItem *item, TimestampTz now)
{
	JsonObject	json;
	Grant		grant;
	Account		account;

	if (!rows_find_grant(NULL, GetActiveSnapshot(), item->id, &grant) ||
		grant.status != GRANT_OPEN || grant.expires_at != item->due_at ||
		too_late_for(item, grant.effective_at) ||
		!rows_find_account(NULL, GetActiveSnapshot(), NULL, grant.account_id,
						   &account) ||
		account.status == ACCOUNT_CLOSED)
		return false;
	begin_detail(&json, item);
	json_int64(&json, "grant_id", grant.id);
	json_text(&json, "source", grant.source);
	json_int64(&json, "remaining", grant.remaining);
	json_time(&json, "expires_at", grant.expires_at);
	events_announce("grant_expiring", account.id, grant.transaction_id, now,
					&json);
	return true;
}

/*
 * Returns a column of the first row of a result as text, or NULL.
 */
static text *
text_of(const SqlResult *result, int column)
{
	bool		isnull;
	Datum		value = statements_value(result, 0, column, &isnull);

	return isnull ? NULL : DatumGetTextPP(value);
}

/*
 * Announces that a subscription will be renewed.  Returns false if it no
 * longer will.
 */
static bool
warn_of_renewal(const DueItem *item, TimestampTz now)
{
	JsonObject	json;
	Datum		values[2];
	SqlResult  *result;
	Datum		price;
	int64		account_id;
	bool		isnull;

	values[0] = Int64GetDatum(item->id);
	values[1] = TimestampTzGetDatum(item->due_at);
	result = statements_run(&find_renewal, values, NULL);
	if (result->nrows == 0 ||
		too_late_for(item, DatumGetTimestampTz(statements_value(result, 0, 2,
																&isnull))))
		return false;
	account_id = DatumGetInt64(statements_value(result, 0, 1, &isnull));
	begin_detail(&json, item);
	json_int64(&json, "subscription_id", item->id);
	json_text(&json, "plan", text_of(result, 3));
	json_int64(&json, "credits",
			   DatumGetInt64(statements_value(result, 0, 4, &isnull)));
	price = statements_value(result, 0, 5, &isnull);
	if (!isnull)
	{
		json_numeric(&json, "price", price);
		json_text(&json, "currency", text_of(result, 6));
	}
	json_time(&json, "renews_at", item->due_at);
	events_announce("subscription_renewing", account_id, 0, now, &json);
	return true;
}

static WarningKind kinds[] = {
	{
		.name = "expiry",
		.leads = clock_expiry_warning,
		.due = &grants_by_expires_at,
		.warn = warn_of_expiry,
		.oldest = {
			"SELECT g.expires_at FROM credits.grants AS g"
			" WHERE g.status = 'open' AND (g.expires_at, g.id) > ($1, $2)"
			" AND g.expires_at IS NOT NULL AND g.expires_at <= $3"
			" ORDER BY g.expires_at, g.id LIMIT 1",
			(const Oid[]) {TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, InvalidOid}
		}
	},
	{
		.name = "renewal",
		.leads = clock_renewal_warning,
		.due = &subscriptions_by_due_at,
		.warn = warn_of_renewal,
		.oldest = {
			"SELECT s.due_at FROM credits.subscriptions AS s"
			" WHERE s.due_at < 'infinity' AND (s.due_at, s.id) > ($1, $2)"
			" AND s.due_at <= $3 ORDER BY s.due_at, s.id LIMIT 1",
			(const Oid[]) {TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, InvalidOid}
		}
	}
};

/*
 * qsort comparator: the longest lead first.
 */
static int
compare_leads(const void *a, const void *b)
{
	const Lead *x = a;
	const Lead *y = b;

	return x->until > y->until ? -1 : x->until < y->until;
}

/*
 * Computes the leads of a kind from the current setting.  Returns their
 * number.
 */
static int
get_leads(WarningKind *kind, Lead *leads, TimestampTz now)
{
	Intervals  *spans = kind->leads();
	int			n = 0;
	int			i;

	for (i = 0; spans && i < spans->n; i++)
	{
		Lead	   *lead = &leads[n++];

		lead->kind = kind;
		lead->span = spans->spans[i];
		lead->until = clock_after(now, &spans->spans[i]);
	}
	qsort(leads, n, sizeof(Lead), compare_leads);
	for (i = 0; i < n; i++)
		leads[i].next = i + 1 < n ? leads[i + 1].until : now;
	/* an item due exactly at that time belongs to the next shorter lead */
	for (i = 0; i < n; i++)
		leads[i].next++;
	return n;
}

/*
 * Returns a lead by its number among the leads of all kinds, or NULL if there
 * are not that many.
 */
static Lead *
get_lead(int number, TimestampTz now)
{
	Lead	   *leads = palloc(MAX_INTERVALS * sizeof(Lead));
	int			i;

	for (i = 0; i < (int) lengthof(kinds); i++)
	{
		int			n = get_leads(&kinds[i], leads, now);

		if (number < n)
			return &leads[number];
		number -= n;
	}
	return NULL;
}

/*
 * Sets the first two parameters of a statement that concerns a lead.
 */
static void
lead_values(Datum *values, const Lead *lead)
{
	values[0] = CStringGetTextDatum(lead->kind->name);
	values[1] = IntervalPGetDatum(&lead->span);
}

/*
 * Begins a part of the job: disputes, if they have a deadline, or one lead.  Returns
 * false if there are no more leads.
 */
static bool
begin_warnings(JobRange *range)
{
	Interval   *deadline = clock_dispute_deadline();
	int			number = range->number - (deadline ? 1 : 0);
	Lead	   *lead;
	Datum		values[3];

	range->arg = NULL;
	if (number < 0)
	{
		range->due = &disputes_by_opened_at;
		range->until = clock_before(range->until, deadline);
		return true;
	}
	lead = get_lead(number, range->until);
	if (lead == NULL)
		return false;
	range->due = lead->kind->due;
	range->until = lead->until;
	range->arg = lead;
	lead_values(values, lead);
	values[2] = TimestampTzGetDatum(lead->next);
	(void) statements_run(&make_mark, values, NULL);
	return true;
}

/*
 * Returns the position after which a lead continues.  The result is of
 * lock_mark or read_mark, and may be empty.
 */
static void
read_reached(const SqlResult *result, const Lead *lead, TimestampTz *after_at,
			 int64 *after_id)
{
	bool		isnull;

	*after_at = lead->next;
	*after_id = 0;
	if (result->nrows > 0)
	{
		TimestampTz reached =
			DatumGetTimestampTz(statements_value(result, 0, 1, &isnull));

		if (reached >= lead->next)
		{
			*after_at = reached;
			*after_id = DatumGetInt64(statements_value(result, 0, 2, &isnull));
		}
	}
}

/*
 * Locks the row of a lead, and continues where the last batch ended.  Returns
 * false if another run has locked it.
 */
static bool
resume_lead(JobRange *range)
{
	const Lead *lead = range->arg;
	Datum		values[2];
	SqlResult  *result;

	/* each dispute is locked by itself */
	if (lead == NULL)
		return true;
	lead_values(values, lead);
	result = statements_run(&lock_mark, values, NULL);
	if (result->nrows == 0)
		return false;
	read_reached(result, lead, &range->after_at, &range->after_id);
	return true;
}

/*
 * Records how far a lead has come.  If last is NULL, everything has been
 * announced.
 */
static void
reached_lead(const JobRange *range, const DueItem *last)
{
	const Lead *lead = range->arg;
	Datum		values[4];

	if (lead == NULL)
		return;
	/* never go back, even if the clock has been set back */
	if (last == NULL && lead->until < range->after_at)
		return;
	lead_values(values, lead);
	values[2] = TimestampTzGetDatum(last ? last->due_at : lead->until + 1);
	values[3] = Int64GetDatum(last ? last->id : 0);
	(void) statements_run(&move_mark, values, NULL);
}

/*
 * Announces one item.  Returns whether there was an event.
 */
static JobOutcome
warn_item(const DueItem *item, int *steps)
{
	const Lead *lead = item->range->arg;
	bool		warned;

	if (lead == NULL)
		return review_announce_overdue("credits_warn()", item->id) ?
			ITEM_DONE : ITEM_SKIPPED;
	PushActiveSnapshot(store_snapshot(true));
	warned = lead->kind->warn(item, clock_now());
	PopActiveSnapshot();
	return warned ? ITEM_DONE : ITEM_SKIPPED;
}

/*
 * Reports that an item could not be announced.  It is skipped.
 */
static void
warn_failed(int64 id, ErrorData *error)
{
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not warn about " INT64_FORMAT ": %s", id,
					error->message ? error->message : ""),
			 error->hint ? errhint("%s", error->hint) : 0));
}

static const Job warn_job = {
	.name = "credits_warn",
	.work = warn_item,
	.failed = warn_failed,
	.begin = begin_warnings,
	.resume = resume_lead,
	.reached = reached_lead
};

/*
 * SQL procedure: announces grants that will expire, subscriptions that will be
 * renewed, and disputes that are overdue.
 */
Datum
credits_warn(PG_FUNCTION_ARGS)
{
	return job_call(fcinfo, &warn_job);
}

/*
 * Returns when the oldest dispute became overdue that has not been announced, "now"
 * if there is none.
 */
static TimestampTz
oldest_overdue(TimestampTz now)
{
	Interval   *deadline = clock_dispute_deadline();
	TimestampTz due = now;
	StoreScan	scan;
	Dispute		dispute;

	if (deadline == NULL)
		return now;
	scan_begin_all(&scan, NULL, &disputes_by_opened_at, GetActiveSnapshot());
	if (scan_peek(&scan, ForwardScanDirection, &dispute))
		due = Min(now, clock_after(dispute.opened_at, deadline));
	scan_end(&scan);
	return due;
}

/*
 * SQL function: returns how long the oldest outstanding warning is overdue, or
 * zero if there is none.
 */
Datum
credits_warn_behind(PG_FUNCTION_ARGS)
{
	TimestampTz now = clock_now();
	TimestampTz due = oldest_overdue(now);
	Lead	   *lead;
	int			number;

	for (number = 0; (lead = get_lead(number, now)) != NULL; number++)
	{
		Datum		values[3];
		SqlResult  *result;
		bool		isnull;
		TimestampTz after_at;
		int64		after_id;

		lead_values(values, lead);
		read_reached(statements_run(&read_mark, values, NULL), lead, &after_at,
					 &after_id);
		values[0] = TimestampTzGetDatum(after_at);
		values[1] = Int64GetDatum(after_id);
		values[2] = TimestampTzGetDatum(lead->until);
		result = statements_run(&lead->kind->oldest, values, NULL);
		if (result->nrows > 0)
			due = Min(due, now - (lead->until -
								  DatumGetTimestampTz(statements_value(result, 0, 1,
																	   &isnull))));
	}
	return DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(now),
							   TimestampTzGetDatum(due));
}
