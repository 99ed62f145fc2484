/*
 * warn.c
 *	  The procedure that warns before grants expire and subscriptions are
 *	  renewed.
 *
 * The settings credits.expiry_warning and credits.renewal_warning say how long
 * before: each such lead is a part of a run.  For each a row of
 * credits.warnings says up to which instant of expiry or renewal all has been
 * warned of.  A run holds that row's lock while it goes on from there, batch by
 * batch, and leaves a lead alone that another run is at: so there is one
 * warning of each grant and lead.
 *
 * What a lead has passed is left to the next shorter one, be it that the grant
 * began late or that no run came in time; and nothing is warned of that has
 * happened.
 */
#include "credits.h"

#include "job.h"
#include "periods.h"
#include "sql.h"

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
	AttrNumber	anum_due_at;
	AttrNumber	anum_id;
	bool		(*warn) (const DueItem *item, TimestampTz now);
	SqlStatement oldest;		/* due after one and up to an instant */
} WarningKind;

/* One lead of a kind, as a part of a run */
typedef struct Lead
{
	WarningKind *kind;
	const Interval *span;
	TimestampTz until;			/* what happens by then is warned of */
	TimestampTz next;			/* but not what happens before then */
} Lead;

static StoreIndex grants_by_expires_at = {&grants_table, "grants_expires_at_idx"};

/* a subscription that the clock will renew at an instant */
static SqlStatement find_renewal = {
	"SELECT a.id, a.name, p.name, p.credits, p.price::text, p.currency,"
	" s.period_start"
	" FROM credits.subscriptions AS s"
	" JOIN credits.accounts AS a ON a.id = s.account_id"
	" JOIN credits.plans AS p ON p.id = COALESCE(s.next_plan_id, s.plan_id)"
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
 * Begins the detail of a warning.
 */
static void
begin_detail(StringInfo json, const DueItem *item, const char *account)
{
	const Lead *lead = item->range->arg;
	char		span[MAXDATELEN + 1];
	struct pg_itm itm;

	/* whatever the session's IntervalStyle is */
	interval2itm(*lead->span, &itm);
	EncodeInterval(&itm, INTSTYLE_POSTGRES, span);
	initStringInfo(json);
	json_cstring(json, "account", account);
	json_cstring(json, "lead", span);
}

/*
 * Tells whether the time of a lead came before something that lasts from an
 * instant on until it is due had begun.
 */
static bool
too_late_for(const DueItem *item, TimestampTz from)
{
	const Lead *lead = item->range->arg;

	return from >= clock_before(item->due_at,
								unconstify(Interval *, lead->span));
}

/*
 * Warns that a grant will expire, unless that has changed or does not matter
 * any more.
 */
static bool
warn_of_expiry(const DueItem *item, TimestampTz now)
{
	StringInfoData json;
	Grant		grant;
	Account		account;

	if (!row_find_grant(NULL, GetActiveSnapshot(), item->id, &grant) ||
		grant.status != GRANT_OPEN || grant.expires_at != item->due_at ||
		too_late_for(item, grant.effective_at) ||
		!row_find_account(NULL, GetActiveSnapshot(), NULL, grant.account_id,
						  &account) ||
		account.status == ACCOUNT_CLOSED)
		return false;
	begin_detail(&json, item, row_account_name(&account));
	json_int64(&json, "grant_id", grant.id);
	json_text(&json, "source", grant.source);
	json_int64(&json, "remaining", grant.remaining);
	json_time(&json, "expires_at", grant.expires_at);
	alerts_announce("grant_expiring", account.id, grant.transaction_id, now,
					json_document(&json));
	return true;
}

/*
 * Returns a text of the first row of a result, NULL if it is NULL.
 */
static text *
text_of(const SqlResult *result, int column)
{
	bool		isnull;
	Datum		value = sql_value(result, 0, column, &isnull);

	return isnull ? NULL : DatumGetTextPP(value);
}

/*
 * Warns that a subscription will be renewed, unless that has changed.
 */
static bool
warn_of_renewal(const DueItem *item, TimestampTz now)
{
	StringInfoData json;
	Datum		values[2];
	SqlResult  *result;
	text	   *price;
	int64		account_id;
	bool		isnull;

	values[0] = Int64GetDatum(item->id);
	values[1] = TimestampTzGetDatum(item->due_at);
	result = sql_run(&find_renewal, values, NULL);
	if (result->nrows == 0 ||
		too_late_for(item, DatumGetTimestampTz(sql_value(result, 0, 7,
														 &isnull))))
		return false;
	account_id = DatumGetInt64(sql_value(result, 0, 1, &isnull));
	begin_detail(&json, item, text_to_cstring(text_of(result, 2)));
	json_int64(&json, "subscription", item->id);
	json_text(&json, "plan", text_of(result, 3));
	json_int64(&json, "credits",
			   DatumGetInt64(sql_value(result, 0, 4, &isnull)));
	price = text_of(result, 5);
	if (price)
	{
		json_raw(&json, "price", text_to_cstring(price));
		json_text(&json, "currency", text_of(result, 6));
	}
	json_time(&json, "renews_at", item->due_at);
	alerts_announce("subscription_renewing", account_id, 0, now,
					json_document(&json));
	return true;
}

static WarningKind kinds[] = {
	{
		.name = "expiry",
		.leads = clock_expiry_warning,
		.due = &grants_by_expires_at,
		.anum_due_at = Anum_grants_expires_at,
		.anum_id = Anum_grants_id,
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
		.anum_due_at = Anum_subscriptions_due_at,
		.anum_id = Anum_subscriptions_id,
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
 * Orders leads: the longest first.
 */
static int
compare_leads(const void *a, const void *b)
{
	const Lead *x = a;
	const Lead *y = b;

	return x->until > y->until ? -1 : x->until < y->until;
}

/*
 * Puts the leads of a kind in order, as they are now.  Returns how many.
 */
static int
get_leads(WarningKind *kind, Lead *leads, TimestampTz now)
{
	Intervals  *spans = kind->leads();
	int			n = 0;
	int			i;

	for (i = 0; spans && i < spans->n; i++)
		leads[n++] = (Lead) {
			.kind = kind,
			.span = &spans->spans[i],
			.until = clock_after(now, &spans->spans[i])
		};
	qsort(leads, n, sizeof(Lead), compare_leads);
	for (i = 0; i < n; i++)
		leads[i].next = i + 1 < n ? leads[i + 1].until : now;
	/* what is due at that instant is the next one's */
	for (i = 0; i < n; i++)
		leads[i].next++;
	return n;
}

/*
 * Returns a lead by number, of all kinds; NULL if there is none.
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
 * Fills in the parameters of a statement about a lead.
 */
static void
lead_values(Datum *values, const Lead *lead)
{
	values[0] = CStringGetTextDatum(lead->kind->name);
	values[1] = IntervalPGetDatum(lead->span);
}

/*
 * Begins a lead.
 */
static bool
begin_lead(JobRange *range)
{
	Lead	   *lead = get_lead(range->number, range->until);
	Datum		values[3];

	if (lead == NULL)
		return false;
	range->due = lead->kind->due;
	range->anum_due_at = lead->kind->anum_due_at;
	range->anum_id = lead->kind->anum_id;
	range->until = lead->until;
	range->arg = lead;
	lead_values(values, lead);
	values[2] = TimestampTzGetDatum(lead->next);
	(void) sql_run(&make_mark, values, NULL);
	return true;
}

/*
 * Reads from a row of credits.warnings, if there is one, after what to go on.
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
			DatumGetTimestampTz(sql_value(result, 0, 1, &isnull));

		if (reached >= lead->next)
		{
			*after_at = reached;
			*after_id = DatumGetInt64(sql_value(result, 0, 2, &isnull));
		}
	}
}

/*
 * Locks a lead, and goes on where it was left, unless another is at it.
 */
static bool
resume_lead(JobRange *range)
{
	const Lead *lead = range->arg;
	Datum		values[2];
	SqlResult  *result;

	lead_values(values, lead);
	result = sql_run(&lock_mark, values, NULL);
	if (result->nrows == 0)
		return false;
	read_reached(result, lead, &range->after_at, &range->after_id);
	return true;
}

/*
 * Notes how far a lead has come; without an item, that all is done.
 */
static void
reached_lead(const JobRange *range, const DueItem *last)
{
	const Lead *lead = range->arg;
	Datum		values[4];

	/* never back: the clock may have been set */
	if (last == NULL && lead->until < range->after_at)
		return;
	lead_values(values, lead);
	values[2] = TimestampTzGetDatum(last ? last->due_at : lead->until + 1);
	values[3] = Int64GetDatum(last ? last->id : 0);
	(void) sql_run(&move_mark, values, NULL);
}

/*
 * Warns of what is due.
 */
static bool
warn_item(const DueItem *item)
{
	const Lead *lead = item->range->arg;
	bool		warned;

	PushActiveSnapshot(store_snapshot(true));
	warned = lead->kind->warn(item, clock_now());
	PopActiveSnapshot();
	return warned;
}

/*
 * Reports that something could not be warned of.  It is left out: the lead goes
 * on behind it.
 */
static void
warn_failed(int64 id, ErrorData *error)
{
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("could not warn of " INT64_FORMAT ": %s", id,
					error->message ? error->message : ""),
			 error->hint ? errhint("%s", error->hint) : 0));
}

static const Job warn_job = {
	.name = "credits_warn",
	.work = warn_item,
	.failed = warn_failed,
	.begin = begin_lead,
	.resume = resume_lead,
	.reached = reached_lead
};

/*
 * Warns of what will expire or be renewed.
 */
Datum
credits_warn(PG_FUNCTION_ARGS)
{
	return job_call(fcinfo, &warn_job);
}

/*
 * Returns for how long the oldest warning that is still to be given has been
 * due, zero if none is.
 */
Datum
credits_warn_behind(PG_FUNCTION_ARGS)
{
	TimestampTz now = clock_now();
	TimestampTz due = now;
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
		read_reached(sql_run(&read_mark, values, NULL), lead, &after_at,
					 &after_id);
		values[0] = TimestampTzGetDatum(after_at);
		values[1] = Int64GetDatum(after_id);
		values[2] = TimestampTzGetDatum(lead->until);
		result = sql_run(&lead->kind->oldest, values, NULL);
		if (result->nrows > 0)
			due = Min(due, now - (lead->until -
								  DatumGetTimestampTz(sql_value(result, 0, 1,
																&isnull))));
	}
	return DirectFunctionCall2(timestamp_mi, TimestampTzGetDatum(now),
							   TimestampTzGetDatum(due));
}
