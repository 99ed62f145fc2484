/*
 * sets.h
 *	  Arguments of functions that set something and leave alone what they are
 *	  not given.
 */
#ifndef CREDITS_BASE_SETS_H
#define CREDITS_BASE_SETS_H

#include "credits.h"

#pragma GCC visibility push(hidden)

/* What happens to an argument that is left out, and to one that is cleared */
typedef enum SetRule
{
	SET_KEEPS,					/* stays as it is; goes back to its initial
								 * value, or to none if it has no such value */
	SET_KEEPS_OR_NONE,			/* the same, but if cleared there is none */
	SET_NEEDED,					/* stays as it is, must be given where there
								 * is nothing yet; cannot be cleared */
	SET_NAMES,					/* says what is set; cannot be cleared */
	SET_ONCE					/* is about this call only; cannot be cleared */
} SetRule;

/* An argument */
typedef struct SetArg
{
	const char *name;
	SetRule		rule;
	const char *initial;		/* its value where there is nothing yet, NULL
								 * for none */
} SetArg;

#define MAX_SET_ARGS 32

/* A call of such a function */
typedef struct Set
{
	const SetArg *args;			/* all but the last one, "clear" */
	int			nargs;
	FunctionCallInfo given;		/* the call as it was made */
	bool		clear[MAX_SET_ARGS];	/* is the argument cleared? */
	FunctionCallInfo merged;	/* the call with what is kept; only after
								 * sets_merge */
	const Datum *kept;			/* what there was, NULL if nothing */
	const bool *kept_null;
} Set;

#define SETS_READ(set, fcinfo, args) \
	sets_read(set, fcinfo, args, lengthof(args))

extern void sets_read(Set *set, FunctionCallInfo fcinfo, const SetArg *args,
					  int nargs);
extern void sets_merge(Set *set, const Datum *kept, const bool *kept_null);
extern bool sets_drop(Set *set, int n);
extern void sets_replace(Set *set, int n, Datum value);
extern bool sets_unchanged(const Set *set);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_SETS_H */
