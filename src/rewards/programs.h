/*
 * programs.h
 *	  Reward programs: what an account is given for what.
 */
#ifndef CREDITS_REWARDS_PROGRAMS_H
#define CREDITS_REWARDS_PROGRAMS_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

typedef enum ProgramKind
{
	PROGRAM_AWARD,				/* once for each award */
	PROGRAM_DAILY				/* once a day */
} ProgramKind;

/* The terms of a reward program */
typedef struct Program
{
	int64		id;				/* of its version */
	text	   *name;
	ProgramKind kind;
	int			namounts;
	Datum	   *amounts;		/* int8 */
	Interval   *expires_in;		/* NULL if what it gives does not expire */
	int			grace_days;
	text	   *timezone;
	int64		per_account;	/* NO_LIMIT for any number */
	int64		budget;			/* NO_LIMIT for any number */
	Jsonb	   *metadata;		/* NULL for all accounts */
} Program;

extern bool programs_find(text *name, TimestampTz at, Program *program,
						  Refusal *refusal);
extern int64 programs_amount(const Program *program, int64 number);

#pragma GCC visibility pop

#endif							/* CREDITS_REWARDS_PROGRAMS_H */
