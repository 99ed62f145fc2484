/*
 * verify.h
 *	  What the parts of credits_verify share.
 */
#ifndef CREDITS_VERIFY_H
#define CREDITS_VERIFY_H

#include "credits.h"

#include "funcapi.h"
#include "utils/hsearch.h"

#pragma GCC visibility push(hidden)

typedef struct Verification
{
	ReturnSetInfo *result;
	MemoryContext context;		/* of one account */
	MemoryContext row;			/* of one row */
	StoreScan	transactions;
	TupleTableSlot *transaction;	/* NULL at the end */
	StoreScan	grants;
	TupleTableSlot *grant;		/* NULL at the end */
	text	   *name;			/* of the account, NULL if there is none */
	struct CapsCheck *caps;
} Verification;

/* problems.c */
extern void verify_report(Verification *v, int64 transaction_id,
						  const char *problem, const char *detail);
extern void verify_orphan(Verification *v, int64 transaction_id,
						  const char *detail);
extern void verify_expect(Verification *v, int64 transaction_id,
						  const char *problem, const char *what, int64 is,
						  int64 should);
extern int64 verify_add(int64 a, int64 b);
extern bool verify_same(Jsonb *a, Jsonb *b);

/* verify_holds.c */
extern HTAB *verify_make_holds(Verification *v);
extern void verify_held(Verification *v, HTAB *holds, const Entry *entry);
extern void verify_open_holds(Verification *v, HTAB *holds,
							  const Account *account);
extern void verify_stray_holds(Verification *v);

/* verify_debts.c */
extern HTAB *verify_make_debts(Verification *v);
extern void verify_debt_entry(Verification *v, HTAB *debts,
							  const Entry *entry, Account *sum);
extern void verify_debts(Verification *v, HTAB *debts,
						 const Account *account);

/* verify_codes.c */
extern void verify_code(Verification *v, const Entry *entry);
extern void verify_all_codes(Verification *v);

/* verify_periods.c */
extern void verify_period(Verification *v, const Entry *entry);

/* verify_caps.c */
extern struct CapsCheck *verify_caps_begin(int64 pool_id);
extern void verify_caps_entry(struct CapsCheck *check, const Entry *entry);
extern List *verify_caps_limits(struct CapsCheck *check,
								const Account *account);
extern List *verify_caps_members(struct CapsCheck *check, int64 *account_id);

#pragma GCC visibility pop

#endif							/* CREDITS_VERIFY_H */
