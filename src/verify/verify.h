/*
 * verify.h
 *	  Declarations shared by the files of credits_verify.
 */
#ifndef CREDITS_VERIFY_VERIFY_H
#define CREDITS_VERIFY_VERIFY_H

#include "ledger/ledger.h"
#include "store/statements.h"

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
	int64		closed_until;	/* the books are closed up to this id, or are
								 * being closed */
	int64		left_until;		/* rows up to this id have left the log */
	struct Closure *closure;	/* if the books are being closed */
} Verification;

/* A grant according to its row, and according to the log */
typedef struct GrantCheck
{
	int64		id;				/* hash key */
	/* according to its row */
	int64		amount;
	int64		remaining;
	int64		lost;
	GrantStatus status;
	int64		group_id;
	bool		all_claimed;
	TimestampTz lasts_until;
	TimestampTz due_at;			/* when it becomes effective or expires */
	int64		transaction_id; /* the transaction that gave it */
	bool		prolonged;
	Jsonb	   *terms;
	Jsonb	   *expiry;			/* current expiry, if prolonged */
	/* according to the log */
	Jsonb	   *logged_expiry;	/* as last prolonged */
	int64		given;			/* original amount */
	int64		drawn;			/* sum of its draws */
	int64		logged_lost;	/* draws by which credits were lost unused */
	int64		taken_back;		/* by changes of plan */
	bool		pending;		/* given, but not yet effective */
	bool		of_period;		/* given for a period of a subscription? */
	GrantStatus empty;			/* status if nothing remains of it */
	int64		last_id;		/* the last row with a draw on it, 0 if none */
} GrantCheck;

/* An account according to its log, as far as that has been read */
typedef struct Replay
{
	Account		sum;
	int64		total;			/* of all amounts */
	int64		held;			/* of all that was held */
	int64		granted;		/* by grants that were archived */
	int64		opening_id;		/* the first row */
	int64		opening_amount;
	HTAB	   *grants;			/* of GrantCheck */
	HTAB	   *holds;			/* those that are open */
	HTAB	   *debts;
} Replay;

/* grants.c */
extern int64 verify_owner(StoreScan *scan);
extern HTAB *verify_read_grants(Verification *v, int64 account_id);
extern void verify_check_grants(Verification *v, const Replay *replay,
								const Account *account);
extern int64 verify_group_of(HTAB *grants, int64 id, TimestampTz *lasts_until);
extern void verify_note_period(HTAB *grants, int64 id);
extern bool verify_find_grant(HTAB *grants, int64 id, int64 *amount,
							  int64 *transaction_id, int64 *taken_back);

/* verify.c */
extern void verify_each(Verification *v, StoreIndex *index,
						void (*check) (Verification *, TupleTableSlot *));
extern void verify_begin(Verification *v, const ScanBy *by, int n);
extern void verify_account_by(Verification *v, const Account *account);
extern void verify_end(Verification *v);

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

/* anchors.c */
extern void verify_from_anchor(Verification *v, Replay *replay,
							   const Anchor *anchor);
extern void verify_take_anchor(Verification *v, const Replay *replay,
							   Anchor *anchor, List **parts);
extern void verify_add_part(List **parts, AnchorPartKind kind, int64 id,
							const JsonObject *state);
extern int64 verify_part_int64(const AnchorPart *part, const char *key);
extern bool verify_part_bool(const AnchorPart *part, const char *key);
extern TimestampTz verify_part_time(const AnchorPart *part, const char *key);
extern Jsonb *verify_part_member(const AnchorPart *part, const char *key);
extern void verify_carried(Verification *v, const Entry *entry);
extern void verify_all_carried(Verification *v);

/* archived.c */
extern void verify_archived(Verification *v, int64 account_id);

/* closing.c */
extern void verify_refuse_closing(Verification *v, int64 transaction_id,
								  const char *problem, const char *detail);
extern void verify_close_account(int64 account_id, const Closing *closing);
extern void verify_reach(Verification *v, const Replay *replay,
						 const Entry *entry);
extern void verify_close(Verification *v, const Replay *replay,
						 const Account *account);

/* holds.c */
extern HTAB *verify_make_holds(Verification *v);
extern void verify_open_hold(HTAB *holds, const AnchorPart *part);
extern int64 verify_holds_left(HTAB *holds);
extern void verify_hold_parts(HTAB *holds, List **parts);
extern void verify_held(Verification *v, HTAB *holds, const Entry *entry);
extern void verify_open_holds(Verification *v, HTAB *holds,
							  const Account *account);
extern void verify_stray_holds(Verification *v);

/* debts.c */
extern HTAB *verify_make_debts(Verification *v);
extern void verify_begin_debt(HTAB *debts, const AnchorPart *part);
extern void verify_debt_parts(HTAB *debts, List **parts);
extern void verify_debt_entry(Verification *v, HTAB *debts,
							  const Entry *entry, Account *sum);
extern int64 verify_claimed(HTAB *debts, int64 grant_id);
extern int64 verify_gone(HTAB *debts, int64 grant_id);
extern int64 verify_owed(HTAB *debts, int64 grant_id);
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

/* deliveries.c */
extern void verify_all_deliveries(Verification *v);

/* disputes.c */
extern void verify_all_disputes(Verification *v);

/* corrections.c */
extern void verify_all_corrections(Verification *v);

/* rewards.c */
extern void verify_all_rewards(Verification *v);

/* topups.c */
extern void verify_all_topups(Verification *v);

/* operations.c */
extern void verify_charge(Verification *v, const Entry *entry);

/* partitions.c */
extern void verify_partitions(Verification *v);

/* pools.c */
extern void verify_pools(Verification *v, int64 pool_id);

/* purchases.c */
extern void verify_report_found(Verification *v, SqlStatement *find,
								int64 account_id);
extern void verify_purchases(Verification *v, int64 account_id);

/* caps.c */
extern struct CapsCheck *verify_caps_begin(int64 pool_id);
extern void verify_caps_keep_uses(struct CapsCheck *check);
extern void verify_caps_start(struct CapsCheck *check, int64 account_id,
							  const Jsonb *limits, TimestampTz anchored_at);
extern void verify_caps_part(struct CapsCheck *check, const AnchorPart *part);
extern Jsonb *verify_caps_logged(const struct CapsCheck *check,
								 int64 account_id);
extern void verify_caps_parts(struct CapsCheck *check, int64 account_id,
							  List **parts);
extern void verify_caps_entry(struct CapsCheck *check, const Entry *entry);
extern List *verify_caps_limits(struct CapsCheck *check,
								const Account *account);
extern List *verify_caps_members(struct CapsCheck *check, int64 *account_id);

#pragma GCC visibility pop

#endif							/* CREDITS_VERIFY_VERIFY_H */
