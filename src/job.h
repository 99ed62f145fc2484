/*
 * job.h
 *	  Jobs: work on whatever is due, for procedures that a scheduler calls.
 */
#ifndef CREDITS_JOB_H
#define CREDITS_JOB_H

#include "credits.h"
#include "sql.h"

#pragma GCC visibility push(hidden)

/*
 * What a run, or one part of it, looks at: rows of a table by an index whose
 * columns are (due_at, id), after one such pair and up to an instant.
 */
typedef struct JobRange
{
	int			number;			/* which part of the run, from 0 */
	StoreIndex *due;
	AttrNumber	anum_due_at;	/* columns of the table */
	AttrNumber	anum_id;
	TimestampTz after_at;		/* due_at and id of the last one passed */
	int64		after_id;
	TimestampTz until;			/* those due by then are looked at */
	void	   *arg;			/* for the job */

	/*
	 * Instead of an index: a statement that returns due_at and id of those
	 * after $1 and $2 and due by $3, up to $4 of them, in order
	 */
	SqlStatement *find;

	/*
	 * Or what does up to so many items that it finds by itself, and returns
	 * how many
	 */
	int64		(*sweep) (int limit);
} JobRange;

/* A row that is due */
typedef struct DueItem
{
	TimestampTz due_at;
	int64		id;
	const JobRange *range;
} DueItem;

typedef struct Job
{
	const char *name;			/* of the procedure, and of the job */
	StoreIndex *due;
	AttrNumber	anum_due_at;	/* columns of the table */
	AttrNumber	anum_id;

	/*
	 * Works on one item, in memory that is freed after it, and returns
	 * whether it has done it.  It leaves alone what others have locked.  It
	 * runs in a subtransaction with others: if one of them raises an error
	 * nothing is done, and each is called for again with fewer of them.
	 */
	bool		(*work) (const DueItem *item);

	/* Records that one item alone could not be done */
	void		(*failed) (int64 id, ErrorData *error);

	/*
	 * The rest is for a job that looks at something else than what is due by
	 * now, or in several parts; NULL in others.  begin changes the range for
	 * the part of this number, or returns false if there is none.  resume is
	 * called in each batch's transaction before it reads: it says after which
	 * row to go on, or returns false to leave the part to another.  reached is
	 * called when a batch is done, with its last item, and with NULL when
	 * nothing is left.
	 */
	bool		(*begin) (JobRange *range);
	bool		(*resume) (JobRange *range);
	void		(*reached) (const JobRange *range, const DueItem *last);
} Job;

extern Datum job_call(FunctionCallInfo fcinfo, const Job *job);

#pragma GCC visibility pop

#endif							/* CREDITS_JOB_H */
