/*
 * obstacles.h
 *	  What needs rows of the log, so that the books cannot be closed over them.
 */
#ifndef CREDITS_VERIFY_OBSTACLES_H
#define CREDITS_VERIFY_OBSTACLES_H

#include "base/base.h"

#include "nodes/pg_list.h"
#include "utils/timestamp.h"

#pragma GCC visibility push(hidden)

/* Something that needs rows of the log */
typedef struct Obstacle
{
	const char *name;
	TimestampTz since;			/* DT_NOBEGIN if it needs all rows */
	int64		transaction_id; /* the first row that it needs */
	const char *detail;
} Obstacle;

/* All of them */
typedef struct Obstacles
{
	List	   *list;			/* of Obstacle *, in order of their rows */
	TimestampTz since;			/* rows that are not older must stay */
} Obstacles;

extern Obstacles obstacles_find(TimestampTz before, int64 above_id);
extern bool obstacles_all_older(int64 above_id, int64 until_id,
								TimestampTz since, int64 *first_id);

#pragma GCC visibility pop

#endif							/* CREDITS_VERIFY_OBSTACLES_H */
