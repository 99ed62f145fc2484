/*
 * rows.h
 *	  The rows of accounts, grants, transactions and events.
 */
#ifndef CREDITS_LEDGER_ROWS_H
#define CREDITS_LEDGER_ROWS_H

#include "ledger/kinds.h"
#include "store/store.h"
#include "common/sha2.h"

#pragma GCC visibility push(hidden)

/* column numbers of credits.accounts, for triggers */
enum
{
	Anum_accounts_id = 1,
	Anum_accounts_name,
	Anum_accounts_unit,
	Anum_accounts_status,
	Anum_accounts_metadata,
	Anum_accounts_limited,
	Anum_accounts_debt,
	Anum_accounts_created_at,
	Anum_accounts_alert_levels,
	Anum_accounts_alert_base,
	Anum_accounts_topup_below,
	Anum_accounts_due_at,
	Anum_accounts_base,
	Anum_accounts_granted,
	Anum_accounts_refunded,
	Anum_accounts_expired,
	Anum_accounts_held,
	Anum_accounts_balance,
	Anum_accounts_spent,
	Anum_accounts_transaction_count,
	Anum_accounts_last_transaction_id,
	Anum_accounts_last_at,
	Anum_accounts_head,
	Anum_accounts_renews_at
};

typedef enum AccountStatus
{
	ACCOUNT_UNKNOWN = -1,		/* somebody has modified the table */
	ACCOUNT_ACTIVE,
	ACCOUNT_PAUSED,
	ACCOUNT_CLOSED
} AccountStatus;

typedef enum GrantStatus
{
	GRANT_UNKNOWN = -1,			/* somebody has modified the table */
	GRANT_PENDING,
	GRANT_OPEN,
	GRANT_USED,
	GRANT_EXPIRED,
	GRANT_VOIDED
} GrantStatus;

/* A row of credits.accounts */
typedef struct Account
{
	ItemPointerData tid;
	int64		id;
	text	   *name;
	text	   *unit;
	AccountStatus status;
	Datum		metadata;		/* jsonb, not detoasted, 0 if none */
	bool		limited;		/* has limits of its own? */
	int64		debt;			/* sum of what its grants owe */
	TimestampTz created_at;
	text	   *alert_levels;	/* NULL if the setting applies */
	int64		alert_base;		/* 0 if base applies */
	int64		topup_below;	/* 0 if it is not topped up */
	TimestampTz due_at;			/* when it must be settled, DT_NOEND if never */
	TimestampTz renews_at;		/* when a subscription is due at the earliest,
								 * DT_NOEND if none ever is */
	int64		base;			/* of which its levels are percentages */
	int64		granted;
	int64		refunded;
	int64		expired;
	int64		held;
	int64		balance;
	int64		spent;
	int64		transaction_count;
	int64		last_transaction_id;
	TimestampTz last_at;
	int			head_len;		/* 0 before the first transaction */
	uint8		head[PG_SHA256_DIGEST_LENGTH];
	struct						/* values when the row was read */
	{
		TimestampTz due_at;
		TimestampTz renews_at;
		int64		held;
		int64		balance;
		int64		transaction_count;
		int64		last_transaction_id;
		TimestampTz last_at;
	}			stored;
} Account;

/* A row of credits.grants */
typedef struct Grant
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;		/* to be written? */
	int64		id;
	int64		account_id;
	int64		transaction_id;
	TimestampTz effective_at;
	TimestampTz expires_at;		/* DT_NOEND if never */
	TimestampTz granted_until;	/* original expires_at if it was prolonged,
								 * DT_NOBEGIN if not */
	int64		amount;
	int64		remaining;
	int64		lost;			/* by expiry, voiding or a change of plan */
	int64		stored;			/* remaining when it was read, 0 if new */
	bool		was_open;		/* was it open when it was read? */
	bool		rolled;			/* has this posting rolled it over? */
	int32		priority;
	text	   *source;
	Datum		price;			/* numeric, 0 if none */
	text	   *currency;
	int64		group_id;		/* the first grant of its group, see groups.c;
								 * 0 if it belongs to none */
	bool		all_claimed;	/* of one with a group: is all of it claimed? */
	bool		lost_claimed;	/* has it lost something, all of which is? */
	int64		group_owed;		/* of the first one of a group: what all of
								 * them owe, or others have paid for them */
	GrantStatus status;
	bool		debt_known;		/* has its debt been looked up? */
	struct Debt *debt;			/* NULL if nothing was ever claimed from it */
} Grant;

/* How much a transaction takes from (negative) or gives to a grant */
typedef struct Draw
{
	int64		grant_id;
	int64		amount;
} Draw;

/* a macro, because pgindent would spread the literal over four lines */
#define DRAW(grant, credits) ((Draw) {(grant), (credits)})

/*
 * A row of credits.log.  Pointers are NULL where the column
 * is.
 */
typedef struct Entry
{
	ItemPointerData tid;
	int64		id;
	int64		account_id;
	TimestampTz created_at;
	int64		amount;
	int64		held;
	int64		balance_after;
	int64		held_after;
	bool		has_target;
	int64		target_id;
	int64		member_id;		/* account that spent from this pool, or 0 */
	bool		has_request;
	int32		request;		/* see chain_request */
	const StringInfoData *fingerprint;	/* of the request, until sealed */
	TransactionKind kind;
	char		unknown_kind;	/* code of the kind, if it is KIND_UNKNOWN */
	int32		role_id;
	const char *role;			/* NULL if read from the log: see roles_name */
	text	   *key;
	text	   *operation;
	text	   *reference;
	bool		has_draws;
	int			ndraws;
	Draw	   *draws;
	Jsonb	   *terms;			/* see terms.c and doc/log.md */
	text	   *reason;
	Jsonb	   *metadata;
	text	   *actor;
	int			salt_len;
	uint8	   *salt;			/* SALT_BYTES, or the digest of what was
								 * erased */
	uint8		hash[PG_SHA256_DIGEST_LENGTH];
} Entry;

/* A row of credits.events */
typedef struct Event
{
	ItemPointerData tid;
	int64		id;
	int64		account_id;		/* 0 if none */
	int64		transaction_id; /* 0 if none */
	TimestampTz created_at;
	const char *kind;
	Jsonb	   *detail;
} Event;

/*
 * A row of credits.event_order: which transaction wrote an event, of which
 * cluster.  Of another cluster are rows that logical replication or pg_upgrade
 * has brought, whose transactions have nothing to do with ours.
 */
typedef struct EventOrder
{
	ItemPointerData tid;
	int64		event_id;
	uint64		xid;			/* of the top-level transaction, with its
								 * epoch */
	int64		system;			/* see rows_system */
} EventOrder;

extern void rows_init(void);
extern StoreTable accounts_table;
extern StoreTable grants_table;
extern StoreTable archived_grants_table;
extern StoreTable log_table;
extern StoreTable archived_log_table;
extern StoreTable events_table;
extern StoreTable event_order_table;
extern StoreIndex accounts_by_id;
extern StoreIndex accounts_by_name;
extern StoreIndex accounts_by_due_at;
extern StoreIndex grants_by_id;
extern StoreIndex grants_by_account_id;
extern StoreIndex grants_in_burn_order;
extern StoreIndex grants_by_effective_at;
extern StoreIndex log_by_id;
extern StoreIndex log_by_account_id;
extern StoreIndex log_by_key;
extern StoreIndex log_by_target_id;
extern StoreIndex log_by_reference;
extern StoreIndex archived_log_by_id;
extern StoreIndex events_by_id;
extern StoreIndex events_failed;
extern StoreIndex event_order_by_id;
extern StoreIndex event_order_by_xid;
extern const char *const account_status_names[ACCOUNT_CLOSED + 1];
extern const char *const grant_status_names[];
extern char *rows_account_name(const Account *account);
extern bool rows_find_account(Store *store, Snapshot snapshot, text *name,
							  int64 id, Account *account);
extern bool rows_lock_account(Store *store, Snapshot snapshot,
							  Account *account, bool skip_locked);
extern TM_Result rows_update_account(Store *store, Snapshot snapshot,
									 Account *account);
extern void rows_remember_account(const Account *account, ItemPointer tid,
								  const Grant *first_grant,
								  ItemPointer grant_tid);
extern bool rows_recall_first_grant(Store *store, Snapshot snapshot,
									const Account *account, int64 id,
									Grant *grant);
extern bool rows_insert_account(Store *store, const Account *account);
extern bool rows_find_grant(Store *store, Snapshot snapshot, int64 id,
							Grant *grant);
extern void rows_write_grant(Store *store, Snapshot snapshot, Grant *grant);
extern int64 rows_moved(const Entry *entry);
extern bool rows_find_entry(Store *store, Snapshot snapshot, int64 id,
							Entry *entry);
extern bool rows_find_archived_entry(Store *store, Snapshot snapshot, int64 id,
									 Entry *entry);
extern void rows_insert_entry(Store *store, Entry *entry);
extern int64 rows_system(void);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_ROWS_H */
