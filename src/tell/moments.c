/*
 * moments.c
 *	  Moments: which transactions had ended, and which ids they can have drawn.
 *
 * pg_current_snapshot() leaves out the current transaction, as if it had ended.
 * What it writes is not committed yet, so here it counts as one that is running.
 *
 * On a standby, a snapshot lists running transactions where pg_current_snapshot()
 * does not look (see GetSnapshotData, which keeps them as subtransactions): there
 * are no moments there.
 */
#include "credits.h"

#include "ledger/rows.h"
#include "tell/moments.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

/*
 * Raises an error unless transactions, and the ids of a table that they draw, can be
 * told apart here and now.
 */
static void
check_moment(StoreTable *table)
{
	if (RecoveryInProgress() || GetActiveSnapshot()->takenDuringRecovery)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("events cannot be read on a standby"),
				 errdetail("A snapshot taken there does not show which transactions are running."),
				 errhint("Read them on the primary.  After a promotion, begin a new transaction.")));
	if (store_ids_are_cached(table))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sequence \"credits.%s\" has a cache", table->sequence),
				 errdetail("Its ids must be drawn one by one, or readers could miss some."),
				 errhint("Run ALTER SEQUENCE credits.%s CACHE 1, and end the sessions that have used it.",
						 table->sequence)));
}

/*
 * Adds the current transaction to those that are running, if it has an id.
 */
static void
add_own(FeedMoment *moment)
{
	FullTransactionId own = GetTopFullTransactionIdIfAny();
	uint64		xid = U64FromFullTransactionId(own);
	int			i;

	/* what is not below xmax is not seen anyway */
	if (!FullTransactionIdIsValid(own) || xid >= moment->xmax)
		return;
	Assert(moment->xmin <= xid);
	for (i = moment->nxip; i > 0 && moment->xip[i - 1] > xid; i--)
		moment->xip[i] = moment->xip[i - 1];
	Assert(i == 0 || moment->xip[i - 1] < xid);
	moment->xip[i] = xid;
	moment->nxip++;
}

/*
 * Returns the moment of the active snapshot, for the ids of a table.
 */
FeedMoment *
moments_take(StoreTable *table)
{
	FeedMoment *moment = palloc0(sizeof(FeedMoment));
	char	   *shown;

	check_moment(table);
	shown = OidOutputFunctionCall(F_PG_SNAPSHOT_OUT,
								  OidFunctionCall0(F_PG_CURRENT_SNAPSHOT));
	if (!moments_parse_snapshot(shown, moment))
		elog(ERROR, "unexpected snapshot");
	add_own(moment);
	/* in this order, see moments.h */
	moment->last_id = store_newest_id(table);
	moment->next_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
	Assert(moment->next_xid >= moment->xmax);
	return moment;
}

/*
 * Returns whether a moment sees a transaction: it had ended by then.
 */
bool
moments_sees(const FeedMoment *moment, uint64 xid)
{
	int			low = 0;
	int			high = moment->nxip;

	if (xid < moment->xmin || xid >= moment->xmax)
		return xid < moment->xmin;
	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (moment->xip[middle] == xid)
			return false;
		if (moment->xip[middle] < xid)
			low = middle + 1;
		else
			high = middle;
	}
	return true;
}

/*
 * Returns whether a moment sees all transactions that another one sees.
 */
bool
moments_covers(const FeedMoment *later, const FeedMoment *earlier)
{
	int			i;

	/* next_xid does not count: a crash may take back ids that nobody has used */
	if (later->xmax < earlier->xmax)
		return false;
	for (i = 0; i < later->nxip; i++)
		if (moments_sees(earlier, later->xip[i]))
			return false;
	return true;
}

/*
 * Returns whether two moments are the same.
 */
bool
moments_equal(const FeedMoment *a, const FeedMoment *b)
{
	return a->xmin == b->xmin && a->xmax == b->xmax && a->nxip == b->nxip &&
		a->next_xid == b->next_xid && a->last_id == b->last_id &&
		memcmp(a->xip, b->xip, a->nxip * sizeof(uint64)) == 0;
}

/*
 * Returns the snapshot of a moment, in the form of type pg_snapshot.
 */
char *
moments_snapshot(const FeedMoment *moment)
{
	StringInfoData s;
	int			i;

	initStringInfo(&s);
	appendStringInfo(&s, UINT64_FORMAT ":" UINT64_FORMAT ":", moment->xmin,
					 moment->xmax);
	for (i = 0; i < moment->nxip; i++)
		appendStringInfo(&s, "%s" UINT64_FORMAT, i > 0 ? "," : "",
						 moment->xip[i]);
	return s.data;
}

/*
 * Reads a number that consists of digits only, in lower case.  Returns false if it
 * is not one, or too large.
 */
bool
moments_parse_uint64(const char *s, int base, uint64 max, uint64 *value)
{
	*value = 0;
	if (*s == '\0')
		return false;
	for (; *s; s++)
	{
		unsigned	digit = *s >= '0' && *s <= '9' ? *s - '0' :
			base == 16 && *s >= 'a' && *s <= 'f' ? *s - 'a' + 10 : 99;

		if (digit >= (unsigned) base || *value > (max - digit) / base)
			return false;
		*value = *value * base + digit;
	}
	return true;
}

/*
 * Reads a transaction id, which ends at the given character.  Returns the place
 * after it, NULL if there is none.
 */
static char *
read_xid(char *s, char end, uint64 *xid)
{
	char	   *at = strchr(s, end);

	if (at == NULL)
		return NULL;
	*at = '\0';
	return moments_parse_uint64(s, 10, PG_UINT64_MAX, xid) ? at + 1 : NULL;
}

/*
 * Reads a snapshot in the form of type pg_snapshot, and overwrites the text.
 * There is room for another transaction in the moment.  Returns false if it is
 * not one.
 */
bool
moments_parse_snapshot(char *s, FeedMoment *moment)
{
	uint64		last = 0;
	int			n = 0;
	char	   *c;

	if ((s = read_xid(s, ':', &moment->xmin)) == NULL ||
		(s = read_xid(s, ':', &moment->xmax)) == NULL ||
		moment->xmin == 0 || moment->xmin > moment->xmax)
		return false;
	for (c = s; *c; c++)
		n += *c == ',';
	moment->nxip = 0;
	moment->xip = palloc((n + 2) * sizeof(uint64));
	while (*s)
	{
		char	   *comma = strchr(s, ',');
		uint64		xid;

		if (comma)
			*comma = '\0';
		if (!moments_parse_uint64(s, 10, PG_UINT64_MAX, &xid) || xid <= last ||
			xid < moment->xmin || xid >= moment->xmax)
			return false;
		moment->xip[moment->nxip++] = last = xid;
		s = comma ? comma + 1 : "";
		if (comma && *s == '\0')
			return false;
	}
	return true;
}
