/*
 * verify.h
 *	  Declarations shared by the files of credits_verify.
 */
#ifndef CREDITS_VERIFY_VERIFY_H
#define CREDITS_VERIFY_VERIFY_H

#include "ledger/ledger.h"

#include "funcapi.h"
#include "utils/hsearch.h"

#pragma GCC visibility push(hidden)

/* The state of one call of credits_verify */
typedef struct Verification
{
	ReturnSetInfo *result;
	MemoryContext context;		/* reset after each account */
	MemoryContext row;			/* reset after each row */
	StoreScan	transactions;
	TupleTableSlot *transaction;	/* NULL at the end */
	StoreScan	grants;
	TupleTableSlot *grant;		/* NULL at the end */
	text	   *name;			/* of the current account, NULL if none */
	struct CapsCheck *caps;
} Verification;

/* verify.c */
extern int64 verify_group_of(HTAB *grants, int64 id);
extern void verify_note_period(HTAB *grants, int64 id);
extern bool verify_find_grant(HTAB *grants, int64 id, int64 *amount,
							  int64 *transaction_id, int64 *taken_back);

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

/* holds.c */
extern HTAB *verify_make_holds(Verification *v);
extern void verify_held(Verification *v, HTAB *holds, const Entry *entry);
extern void verify_open_holds(Verification *v, HTAB *holds,
							  const Account *account);
extern void verify_stray_holds(Verification *v);

/* debts.c */
extern HTAB *verify_make_debts(Verification *v);
extern void verify_debt_entry(Verification *v, HTAB *debts,
							  const Entry *entry, Account *sum);
extern int64 verify_claimed(HTAB *debts, int64 grant_id);
extern void verify_debts(Verification *v, HTAB *grants, HTAB *debts,
						 const Account *account);

/* codes.c */
extern void verify_code(Verification *v, const Entry *entry);
extern void verify_all_codes(Verification *v);

/* periods.c */
extern void verify_period(Verification *v, HTAB *grants, const Entry *entry);
extern void verify_periods(Verification *v, HTAB *grants, HTAB *debts,
						   const Account *account);

/* invoices.c */
extern void verify_invoices(Verification *v, int64 subscription_id);

/* operations.c */
extern void verify_charge(Verification *v, const Entry *entry);

/* partitions.c */
extern void verify_partitions(Verification *v);

/* pools.c */
extern void verify_pools(Verification *v, int64 pool_id);

/* purchases.c */
extern void verify_purchases(Verification *v, int64 account_id);

/* caps.c */
extern struct CapsCheck *verify_caps_begin(int64 pool_id);
extern void verify_caps_entry(struct CapsCheck *check, const Entry *entry);
extern List *verify_caps_limits(struct CapsCheck *check,
								const Account *account);
extern List *verify_caps_members(struct CapsCheck *check, int64 *account_id);

#pragma GCC visibility pop

#endif							/* CREDITS_VERIFY_VERIFY_H */
