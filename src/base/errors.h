/*
 * errors.h
 *	  Refusals: errors that are kept as values until it is certain that they
 *	  are to be raised.
 */
#ifndef CREDITS_BASE_ERRORS_H
#define CREDITS_BASE_ERRORS_H

#include "credits.h"

#pragma GCC visibility push(hidden)

/* Why a request is refused: the parts of an error report */
typedef struct Refusal
{
	int			sqlstate;		/* 0 if the request is not refused */
	char	   *message;
	char	   *detail;
	char	   *hint;
} Refusal;

extern bool refuse(Refusal *refusal, int sqlstate, char *message,
				   char *detail, char *hint);
NORETURN_COMPAT extern void raise_refusal(const Refusal *refusal);
extern char *sqlstate_text(int sqlstate);
extern bool is_unique_violation(MemoryContext context,
								const char *constraint);

/* What is done in a subtransaction by catch_error */
typedef void (*CatchWork) (void *arg);

extern ErrorData *catch_error(CatchWork work, void *arg);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_ERRORS_H */
