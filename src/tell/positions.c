/*
 * positions.c
 *	  How far the consumers of the feed have come.
 *
 * A position is two moments: what the first one sees has been read, and the batch
 * that is being acknowledged in parts is what the second one sees besides.  The
 * positions are not dumped, since they mean something only in the cluster that
 * drew the transaction ids.  So that a restored database does not begin with the
 * oldest event, each consumer has a safe id, too, which is dumped: events up to it
 * were all read, and no transaction that could bring another one is running.
 *
 * The safe id follows from marks.  A mark is a moment that was acknowledged once:
 * its last id, and the next transaction id, noted after that.  An event with an id
 * up to there is of a transaction before it, since transactions have their own id
 * before those of their events.  When a later moment is acknowledged that sees all
 * of these transactions, everything up to the id of the mark has been read.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "store/statements.h"
#include "tell/positions.h"

#include "access/transam.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

static SqlStatement find_position = {
	.text = "SELECT c.safe_id, p.origin, p.version, p.snapshot::text, p.next_xid, "
	"p.last_id, p.batch_snapshot::text, p.batch_next_xid, p.batch_last_id, "
	"p.read_id, p.mark_xid, p.mark_id "
	"FROM credits.consumers AS c LEFT JOIN credits.consumer_positions AS p "
	"ON p.consumer = c.name AND p.system = $2 WHERE c.name = $1",
	.types = (const Oid[]) {TEXTOID, INT8OID, InvalidOid},
	.by_snapshot = true
};

static SqlStatement lock_consumer = {
	.text = "SELECT 1 FROM credits.consumers AS c WHERE c.name = $1 FOR UPDATE",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement try_consumer = {
	.text = "SELECT 1 FROM credits.consumers AS c WHERE c.name = $1 "
	"FOR UPDATE SKIP LOCKED",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement add_consumer = {
	.text = "INSERT INTO credits.consumers (name, safe_id, created_at, role) "
	"VALUES ($1, $2, $3, session_user) ON CONFLICT DO NOTHING",
	.types = (const Oid[]) {TEXTOID, INT8OID, TIMESTAMPTZOID, InvalidOid}
};

/* the moments of other consumers tell about all transactions */
static SqlStatement find_safe_id = {
	.text = "SELECT COALESCE(max(m.id), 0) FROM credits.consumer_positions AS p "
	"CROSS JOIN LATERAL (VALUES (p.next_xid, p.last_id), (p.mark_xid, p.mark_id)) "
	"AS m (xid, id) WHERE p.system = $1 AND m.xid <= $2",
	.types = (const Oid[]) {INT8OID, XID8OID, InvalidOid}
};

static SqlStatement remove_position = {
	.text = "DELETE FROM credits.consumer_positions WHERE consumer = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement remove_consumer = {
	.text = "DELETE FROM credits.consumers WHERE name = $1",
	.types = (const Oid[]) {TEXTOID, InvalidOid}
};

static SqlStatement set_safe_id = {
	.text = "UPDATE credits.consumers SET safe_id = $2 WHERE name = $1 AND safe_id < $2",
	.types = (const Oid[]) {TEXTOID, INT8OID, InvalidOid}
};

#define POSITION_TYPES \
	(const Oid[]) { \
		TEXTOID, INT8OID, INT8OID, INT8OID, TEXTOID, XID8OID, INT8OID, TEXTOID, \
		XID8OID, INT8OID, INT8OID, XID8OID, INT8OID, TIMESTAMPTZOID, InvalidOid \
	}

/* a row of another cluster is overwritten */
static SqlStatement update_position = {
	.text = "UPDATE credits.consumer_positions SET system = $2, origin = $3, "
	"version = $4, snapshot = $5::pg_snapshot, next_xid = $6, last_id = $7, "
	"batch_snapshot = $8::pg_snapshot, batch_next_xid = $9, batch_last_id = $10, "
	"read_id = $11, mark_xid = $12, mark_id = $13, acknowledged_at = $14 "
	"WHERE consumer = $1",
	.types = POSITION_TYPES
};

/* in REPEATABLE READ, this fails with 40001 if another transaction has made it */
static SqlStatement insert_position = {
	.text = "INSERT INTO credits.consumer_positions (consumer, system, origin, version, "
	"snapshot, next_xid, last_id, batch_snapshot, batch_next_xid, batch_last_id, "
	"read_id, mark_xid, mark_id, acknowledged_at) "
	"VALUES ($1, $2, $3, $4, $5::pg_snapshot, $6, $7, $8::pg_snapshot, $9, $10, "
	"$11, $12, $13, $14) ON CONFLICT DO NOTHING",
	.types = POSITION_TYPES
};

/*
 * Raises the error for a consumer that does not exist.
 */
void
positions_raise_unknown(text *consumer)
{
	ereport(ERROR,
			(errcode(ERRCODE_NOT_FOUND),
			 errmsg("consumer \"%s\" does not exist", text_to_cstring(consumer)),
			 errhint("Add it with credits_add_consumer, or look at credits.consumer_list.")));
}

/*
 * Returns the moment that three columns of a row hold, NULL if they are null.
 */
static FeedMoment *
read_moment(const SqlResult *result, int column)
{
	FeedMoment *moment = palloc0(sizeof(FeedMoment));
	bool		isnull;
	Datum		snapshot = statements_value(result, 0, column, &isnull);

	if (isnull)
		return NULL;
	if (!moments_parse_snapshot(TextDatumGetCString(snapshot), moment))
		elog(ERROR, "unexpected snapshot");
	moment->next_xid = DatumGetUInt64(statements_value(result, 0, column + 1, &isnull));
	moment->last_id = DatumGetInt64(statements_value(result, 0, column + 2, &isnull));
	return moment;
}

/*
 * Returns the origin of a consumer whose position is not known: the same for each
 * call until it acknowledges something.
 */
static int64
origin_without_position(text *consumer, int64 safe_id)
{
	uint64		hash = hash_any_extended((unsigned char *) VARDATA_ANY(consumer),
										 VARSIZE_ANY_EXHDR(consumer), rows_system());

	return (int64) hash_combine64(hash, hash_combine64(MyDatabaseId, safe_id));
}

/*
 * Returns the position of a consumer according to the active snapshot, NULL if
 * there is no such consumer.
 */
FeedPosition *
positions_find(text *consumer)
{
	Datum		values[] = {PointerGetDatum(consumer), Int64GetDatum(rows_system())};
	SqlResult  *result = statements_run(&find_position, values, NULL);
	FeedPosition *position = palloc0(sizeof(FeedPosition));
	bool		isnull;
	Datum		origin;
	Datum		mark;

	if (result->nrows == 0)
		return NULL;
	position->consumer = consumer;
	position->safe_id = DatumGetInt64(statements_value(result, 0, 1, &isnull));
	origin = statements_value(result, 0, 2, &isnull);
	if (isnull)
	{
		position->origin = origin_without_position(consumer, position->safe_id);
		return position;
	}
	position->origin = DatumGetInt64(origin);
	position->version = DatumGetInt64(statements_value(result, 0, 3, &isnull));
	position->done = read_moment(result, 4);
	position->batch = read_moment(result, 7);
	if (position->batch)
		position->read_id = DatumGetInt64(statements_value(result, 0, 10, &isnull));
	mark = statements_value(result, 0, 11, &isnull);
	if (!isnull)
	{
		position->mark = palloc0(sizeof(FeedMoment));
		position->mark->next_xid = DatumGetUInt64(mark);
		position->mark->last_id = DatumGetInt64(statements_value(result, 0, 12, &isnull));
	}
	return position;
}

/*
 * Locks a consumer until the end of the transaction, and returns its position as
 * it is then; NULL if there is no such consumer or, with skip_locked, if another
 * transaction has locked it.
 */
FeedPosition *
positions_lock(text *consumer, bool skip_locked)
{
	Datum		value = PointerGetDatum(consumer);
	FeedPosition *position;

	if (statements_run(skip_locked ? &try_consumer : &lock_consumer, &value,
					   NULL)->nrows == 0)
		return NULL;
	PushActiveSnapshot(store_snapshot(true));
	position = positions_find(consumer);
	PopActiveSnapshot();
	return position;
}

/*
 * Sets three values to a moment, or to null.
 */
static void
moment_values(const FeedMoment *moment, Datum *values, bool *isnull)
{
	isnull[0] = isnull[1] = isnull[2] = moment == NULL;
	if (moment == NULL)
		return;
	values[0] = CStringGetTextDatum(moments_snapshot(moment));
	values[1] = UInt64GetDatum(moment->next_xid);
	values[2] = Int64GetDatum(moment->last_id);
}

/*
 * Writes a position, whose consumer is locked.
 */
static void
write_position(const FeedPosition *position, bool acknowledged)
{
	Datum		values[14] = {0};
	bool		isnull[14] = {false};

	values[0] = PointerGetDatum(position->consumer);
	values[1] = Int64GetDatum(rows_system());
	values[2] = Int64GetDatum(position->origin);
	values[3] = Int64GetDatum(position->version);
	moment_values(position->done, &values[4], &isnull[4]);
	moment_values(position->batch, &values[7], &isnull[7]);
	values[10] = Int64GetDatum(position->read_id);
	isnull[10] = position->batch == NULL;
	isnull[11] = isnull[12] = position->mark == NULL;
	if (position->mark)
	{
		values[11] = UInt64GetDatum(position->mark->next_xid);
		values[12] = Int64GetDatum(position->mark->last_id);
	}
	values[13] = TimestampTzGetDatum(clock_now());
	isnull[13] = !acknowledged;
	if (statements_run(&update_position, values, isnull)->nrows == 0 &&
		statements_run(&insert_position, values, isnull)->nrows == 0)
		elog(ERROR, "could not write a position");
}

/*
 * Raises the safe id as far as the moment that was acknowledged last allows.
 */
static void
raise_safe_id(FeedPosition *position)
{
	FeedMoment *done = position->done;
	FeedMoment *mark = position->mark;
	int64		safe_id = 0;

	if (done->xmin >= done->next_xid)
	{
		/* nobody was writing then */
		safe_id = done->last_id;
		position->mark = NULL;
	}
	else if (mark == NULL || done->xmin >= mark->next_xid)
	{
		if (mark)
			safe_id = mark->last_id;
		position->mark = done;
	}
	if (safe_id > position->safe_id)
	{
		Datum		values[2];

		position->safe_id = safe_id;
		values[0] = PointerGetDatum(position->consumer);
		values[1] = Int64GetDatum(safe_id);
		(void) statements_run(&set_safe_id, values, NULL);
	}
}

/*
 * Takes the whole of a batch as read, without writing that.
 */
void
positions_finish_batch(FeedPosition *position)
{
	position->done = position->batch;
	position->batch = NULL;
	position->read_id = 0;
	position->version++;
}

/*
 * Records that a consumer, which is locked, has read a batch up to an id, or the
 * whole of it.
 */
void
positions_advance(FeedPosition *position, FeedMoment *batch, int64 read_id,
				  bool whole)
{
	position->batch = batch;
	position->read_id = read_id;
	if (whole)
	{
		positions_finish_batch(position);
		raise_safe_id(position);
	}
	write_position(position, true);
}

/*
 * Returns an id up to which all events have come that there will ever be, as far
 * as is known.
 */
static int64
known_safe_id(const FeedMoment *now)
{
	Datum		values[] = {Int64GetDatum(rows_system()), UInt64GetDatum(now->xmin)};
	bool		isnull;

	return DatumGetInt64(statements_value(statements_run(&find_safe_id, values, NULL),
										  0, 1, &isnull));
}

/*
 * Adds a consumer that begins after an id or, if that is negative, now.  Returns
 * false if there is one of that name.
 */
bool
positions_add(text *consumer, int64 after_id)
{
	FeedPosition position = {.consumer = consumer,.safe_id = after_id};
	Datum		values[3];

	/* the random number is no secret: it only must not be the same again */
	random_fill(&position.origin, sizeof(position.origin));
	if (after_id < 0)
	{
		PushActiveSnapshot(store_snapshot(true));
		position.done = moments_take(&events_table);
		PopActiveSnapshot();
		position.safe_id = known_safe_id(position.done);
	}
	values[0] = PointerGetDatum(consumer);
	values[1] = Int64GetDatum(position.safe_id);
	values[2] = TimestampTzGetDatum(clock_now());
	if (statements_run(&add_consumer, values, NULL)->nrows == 0)
		return false;
	if (position.done)
		raise_safe_id(&position);
	write_position(&position, false);
	return true;
}

/*
 * Removes a consumer.  Returns false if there is none of that name.
 */
bool
positions_remove(text *consumer)
{
	Datum		value = PointerGetDatum(consumer);

	if (statements_run(&remove_consumer, &value, NULL)->nrows == 0)
		return false;
	(void) statements_run(&remove_position, &value, NULL);
	return true;
}
