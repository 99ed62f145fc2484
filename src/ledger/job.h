/*
 * job.h
 *	  Jobs: procedures that a scheduler calls regularly to process what is
 *	  due.
 */
#ifndef CREDITS_LEDGER_JOB_H
#define CREDITS_LEDGER_JOB_H

#include "ledger/ledger.h"
#include "store/statements.h"

#pragma GCC visibility push(hidden)

/*
 * The items of a run, or of one part of it: rows of a table found by an index
 * on (due_at, id), after a given row and up to a given time.
 */
typedef struct JobRange
{
	int			number;			/* number of the part, from 0 */
	StoreIndex *due;
	TimestampTz after_at;		/* due_at and id of the last item processed */
	int64		after_id;
	TimestampTz until;			/* process items that are due up to then */
	void	   *arg;			/* private to the job */

	/*
	 * If there is no suitable index: a statement that returns due_at and id
	 * of up to $4 items after ($1, $2) and due up to $3, in order.
	 */
	SqlStatement *find;

	/*
	 * If items need not be listed: a function that finds and processes up to
	 * "limit" items, and returns how many.
	 */
	int64		(*sweep) (int limit, bool may_commit);
} JobRange;

/* A row that is due */
typedef struct DueItem
{
	TimestampTz due_at;
	int64		id;
	const JobRange *range;
} DueItem;

/* The outcome of processing an item */
typedef enum JobOutcome
{
	ITEM_SKIPPED,				/* nothing to do, or locked */
	ITEM_DONE,
	ITEM_UNFINISHED				/* must be continued in another batch */
} JobOutcome;

typedef struct Job
{
	const char *name;			/* name of the procedure and the job */
	StoreIndex *due;

	/*
	 * Processes one item, in a memory context that is reset afterwards.  It
	 * must skip what other sessions have locked.  If an error occurs,
	 * everything that was done in the same subtransaction is rolled back, and
	 * it is called again for these items.
	 *
	 * steps is the number of steps that one call may take, and is reduced by
	 * those taken.  An item that needs more is returned as unfinished, and is
	 * processed again in another batch.
	 */
	JobOutcome	(*work) (const DueItem *item, int *steps);

	/* Reports that an item has failed */
	void		(*failed) (int64 id, ErrorData *error);

	/*
	 * The following are needed only by a job that has several parts, or a
	 * range that is not everything due by now; otherwise they are NULL.
	 * "begin" sets up the range of the part with range->number, or returns
	 * false if there are no more parts.  "resume" is called in the
	 * transaction of each batch before it is read: it sets the position after
	 * which to continue, or returns false to leave the part to another run.
	 * "reached" is called after each batch with its last item, or with NULL
	 * if there was nothing left.
	 */
	bool		(*begin) (JobRange *range);
	bool		(*resume) (JobRange *range);
	void		(*reached) (const JobRange *range, const DueItem *last);
} Job;

/* The row of a run in credits.job_runs */
typedef struct JobRecord
{
	const char *job;
	int64		id;
	int64		done;
	int64		failed;
	int64		failed_id;		/* the last item that failed, and its error */
	char		error_code[6];
	StringInfoData error;
} JobRecord;

/* An item of a job that has failed, see job_record_failure */
typedef struct JobFailure
{
	const char *kind;			/* kind of the event */
	bool		announced;		/* also send NOTIFY credits_event? */
	const Account *account;
	JsonObject	detail;			/* detail of the event, to which code and
								 * message are added */
	TimestampTz since;			/* add no event if there is an equal one that
								 * is not older than this */
	const char *what;			/* what could not be done, for the warning */
	const char *hint;			/* hint if the error has none */
} JobFailure;

extern void job_record_begin(JobRecord *record, const char *job);
extern void job_record_progress(JobRecord *record, bool ended);
extern void job_record_error(JobRecord *record, int64 id, const ErrorData *error);
extern bool job_is_ended_by(const ErrorData *error);
extern int	job_batch_size(FunctionCallInfo fcinfo, int n);
extern void job_record_failure(JobFailure *failure, const ErrorData *error);
extern Datum job_call(FunctionCallInfo fcinfo, const Job *job);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_JOB_H */
