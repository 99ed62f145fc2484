/*
 * credits.h
 *	  Types, names and column numbers that all of credits shares.
 *
 * Wording, here and in every file:
 *
 * account		holds credits; named by the application
 * grant		one parcel of credits given to an account
 * transaction	one row of the log
 * entry		a transaction that is still being put together
 * draw			how much a transaction took from or gave to one grant
 * hold			credits reserved: drawn from grants, but not spent yet
 * posting		one change of one account: its entries, the grants that they
 *				change, and the new state of the account, written together
 * debt			credits to be taken back that are spent already
 * settle		bring an account up to date with the clock
 * party		one of the accounts of a change that concerns several
 *
 * Files call only downward, in this order:
 *
 *	 module.c
 *	 one file per topic: accounts.c allocate.c deduct.c refund.c ...
 *	 ledger.c bulk.c					the one door, for one request or many
 *	 posting.c receipts.c				a change step by step, what callers get
 *	 reserve.c							holds in memory, and settling
 *	 caps.c caps_limits.c				caps and limits, counted by window
 *	 grants.c debts.c log.c alerts.c
 *	 rows.c chain.c
 *	 store.c versions.c sql.c clock.c
 *	 errors.c args.c json.c terms.c money.c
 *
 * A topic that others build on says what it offers in a header of its own.
 */
#ifndef CREDITS_H
#define CREDITS_H

#include "compat.h"

#include "access/relscan.h"
#include "access/skey.h"
#include "common/sha2.h"
#include "lib/stringinfo.h"
#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* SQLSTATEs of class PT: PostgREST turns them into that HTTP status */
#define ERRCODE_NOT_ENOUGH		MAKE_SQLSTATE('P', 'T', '4', '0', '2')
#define ERRCODE_FORBIDDEN		MAKE_SQLSTATE('P', 'T', '4', '0', '3')
#define ERRCODE_NOT_FOUND		MAKE_SQLSTATE('P', 'T', '4', '0', '4')
#define ERRCODE_CONFLICT		MAKE_SQLSTATE('P', 'T', '4', '0', '9')
#define ERRCODE_GONE			MAKE_SQLSTATE('P', 'T', '4', '1', '0')
#define ERRCODE_LOCKED_ACCOUNT	MAKE_SQLSTATE('P', 'T', '4', '2', '3')

#define MAX_NAME_BYTES		255
#define MAX_UNIT_BYTES		63
#define MAX_REASON_BYTES	1000
#define MAX_METADATA_BYTES	16384
#define MAX_PRIORITY		32767
#define SALT_BYTES			16

/* columns of credits.accounts */
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
	Anum_accounts_low_balance,
	Anum_accounts_due_at,
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
	Natts_accounts = Anum_accounts_head
};

/* columns of credits.grants */
enum
{
	Anum_grants_id = 1,
	Anum_grants_account_id,
	Anum_grants_transaction_id,
	Anum_grants_effective_at,
	Anum_grants_expires_at,
	Anum_grants_granted_until,
	Anum_grants_amount,
	Anum_grants_priority,
	Anum_grants_source,
	Anum_grants_price,
	Anum_grants_currency,
	Anum_grants_status,
	Anum_grants_remaining,
	Natts_grants = Anum_grants_remaining
};

/* columns of credits.transactions */
enum
{
	Anum_transactions_id = 1,
	Anum_transactions_account_id,
	Anum_transactions_created_at,
	Anum_transactions_amount,
	Anum_transactions_held,
	Anum_transactions_balance_after,
	Anum_transactions_held_after,
	Anum_transactions_target_id,
	Anum_transactions_member_id,
	Anum_transactions_request,
	Anum_transactions_kind,
	Anum_transactions_role,
	Anum_transactions_idempotency_key,
	Anum_transactions_operation,
	Anum_transactions_reference,
	Anum_transactions_draws,
	Anum_transactions_terms,
	Anum_transactions_reason,
	Anum_transactions_metadata,
	Anum_transactions_actor,
	Anum_transactions_salt,
	Anum_transactions_hash,
	Natts_transactions = Anum_transactions_hash
};

/* columns of credits.events */
enum
{
	Anum_events_id = 1,
	Anum_events_account_id,
	Anum_events_transaction_id,
	Anum_events_created_at,
	Anum_events_kind,
	Anum_events_detail,
	Natts_events = Anum_events_detail
};

typedef enum AccountStatus
{
	ACCOUNT_UNKNOWN = -1,		/* someone has damaged it */
	ACCOUNT_ACTIVE,
	ACCOUNT_PAUSED,
	ACCOUNT_CLOSED
} AccountStatus;

typedef enum GrantStatus
{
	GRANT_UNKNOWN = -1,			/* someone has damaged it */
	GRANT_PENDING,
	GRANT_OPEN,
	GRANT_USED,
	GRANT_EXPIRED,
	GRANT_VOIDED
} GrantStatus;

typedef enum HoldStatus
{
	HOLD_UNKNOWN = -1,			/* someone has damaged it */
	HOLD_OPEN,
	HOLD_CAPTURED,
	HOLD_RELEASED,
	HOLD_EXPIRED
} HoldStatus;

/* kinds of transactions */
#define KIND_OPENING	"opening"
#define KIND_ALLOCATION "allocation"
#define KIND_ACTIVATION "activation"
#define KIND_DEDUCTION	"deduction"
#define KIND_REFUND		"refund"
#define KIND_EXPIRATION "expiration"
#define KIND_ADJUSTMENT "adjustment"
#define KIND_VOID		"void"
#define KIND_PAUSE		"pause"
#define KIND_RESUME		"resume"
#define KIND_CLOSE		"close"
#define KIND_THRESHOLD	"threshold"
#define KIND_HOLD		"hold"
#define KIND_CAPTURE	"capture"
#define KIND_RELEASE	"release"
#define KIND_EXTENSION	"extension"
#define KIND_TRANSFER	"transfer"
#define KIND_REVERSAL	"reversal"
#define KIND_GIFT		"gift"
#define KIND_REDEMPTION "redemption"
#define KIND_REFERRAL	"referral"
#define KIND_LIMITS		"limits"
#define KIND_MEMBERSHIP	"membership"
#define KIND_SUBSCRIPTION "subscription"
#define KIND_PLAN_CHANGE "plan_change"
#define KIND_CLAWBACK	"clawback"
#define KIND_DEBT_PAYMENT "debt_payment"
#define KIND_REINSTATEMENT "reinstatement"

/*
 * An account as one row version shows it.  values and isnull are the whole
 * row; what varies in width points into memory that lives as long as the
 * call.
 */
typedef struct Account
{
	ItemPointerData tid;
	Datum		values[Natts_accounts];
	bool		isnull[Natts_accounts];
	int64		id;
	AccountStatus status;
	bool		limited;		/* has limits of its own? */
	int64		debt;			/* sum of what its grants owe */
	bool		has_low_balance;
	int64		low_balance;
	TimestampTz due_at;
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
} Account;

typedef struct Grant
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	int64		id;
	int64		account_id;
	int64		transaction_id;
	TimestampTz effective_at;
	TimestampTz expires_at;		/* DT_NOEND if never */
	TimestampTz granted_until;	/* DT_NOBEGIN if expires_at is as granted */
	int64		amount;
	int64		remaining;
	int32		priority;
	text	   *source;
	Datum		price;			/* numeric, 0 if none */
	text	   *currency;
	GrantStatus status;
} Grant;

/*
 * Credits reserved.  What is left of it has been drawn from grants, but not
 * been spent.
 */
typedef struct Hold
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	int64		id;				/* of the transaction that made it */
	int64		account_id;
	TimestampTz created_at;
	TimestampTz expires_at;		/* DT_NOEND if never */
	int64		reserved;
	int64		captured;
	int64		released;
	HoldStatus	status;
	struct Entry *entry;		/* the transaction, NULL until needed */
} Hold;

typedef struct Draw
{
	int64		grant_id;
	int64		amount;
} Draw;

/*
 * What is claimed back from a grant.  What is neither gone, owed nor paid has
 * been taken from it.
 */
typedef struct Debt
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	int64		grant_id;
	int64		account_id;
	int64		claimed;
	int64		gone;			/* lost to the grant's expiry before */
	int64		owed;
	int64		paid;			/* by other grants, of what was owed */
	Draw	   *payers;			/* by which grants, first to last */
	int			npayers;
} Debt;

/*
 * One row of the log.  Pointers are NULL where the column is.
 */
typedef struct Entry
{
	int64		id;
	int64		account_id;
	TimestampTz created_at;
	int64		amount;
	int64		held;
	int64		balance_after;
	int64		held_after;
	bool		has_target;
	int64		target_id;
	int64		member_id;		/* who spent it from a pool, 0 if no pool's */
	bool		has_request;
	int64		request;
	const char *kind;
	const char *role;
	text	   *key;
	text	   *operation;
	text	   *reference;
	bool		has_draws;
	int			ndraws;
	Draw	   *draws;
	Jsonb	   *terms;			/* what it rests on: see doc/log.md */
	text	   *reason;
	Jsonb	   *metadata;
	text	   *actor;
	int			salt_len;
	uint8	   *salt;			/* SALT_BYTES unless someone has damaged it */
	uint8		hash[PG_SHA256_DIGEST_LENGTH];
} Entry;

/* Why a request is refused, in the parts that ereport takes */
typedef struct Refusal
{
	int			sqlstate;		/* 0 if it is not */
	char	   *message;
	char	   *detail;
	char	   *hint;
} Refusal;

typedef struct Store Store;
typedef struct Posting Posting;

/* What a caller asked for, as far as every kind of request has it */
typedef struct Request
{
	text	   *key;
	StringInfoData fingerprint; /* what a retry must repeat */
	text	   *operation;
	text	   *reference;
	text	   *reason;
	Jsonb	   *metadata;
	int64		key_account_id; /* whose key it is, 0 if the first party's */
	bool		lock_first;		/* is the row's lock needed before planning? */

	/* adds the members of pools that a joint plan may change, or NULL */
	List	   *(*add_members) (List *keys, Posting *postings, void *arg);
} Request;

/* What a caller gets; the account's name is taken from the posting */
typedef struct Receipt
{
	int64		transaction_id;
	text	   *account;
	const char *kind;
	int64		amount;
	int64		balance;
	int64		held;
	bool		replayed;
	TimestampTz created_at;
} Receipt;

/* what happens to what exceeds the highest balance */
#define EXCESS_REFUSE	0
#define EXCESS_CLIP		1

/* which grants pay debts */
#define DEBT_PAYMENT_PURCHASE	0
#define DEBT_PAYMENT_ANY		1

#define NO_LIMIT (-1)

/* columns of credits.limits */
enum
{
	Anum_limits_account_id = 1,
	Anum_limits_max_balance,
	Anum_limits_excess,
	Anum_limits_min_spend,
	Anum_limits_max_spend,
	Anum_limits_max_spend_per_day,
	Anum_limits_max_spend_per_month,
	Anum_limits_timezone,
	Anum_limits_day_start,
	Anum_limits_day_used,
	Anum_limits_month_start,
	Anum_limits_month_used,
	Natts_limits = Anum_limits_month_used
};

/* columns of credits.members */
enum
{
	Anum_members_pool_id = 1,
	Anum_members_account_id,
	Anum_members_cap,
	Anum_members_per,
	Anum_members_timezone,
	Anum_members_created_at,
	Anum_members_window_start,
	Anum_members_used,
	Anum_members_since_id,
	Natts_members = Anum_members_since_id
};

/* The limits of an account, NO_LIMIT where it has none of its own */
typedef struct Limits
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	int64		account_id;
	int64		max_balance;
	bool		has_excess;
	bool		clip;
	int64		min_spend;
	int64		max_spend;
	int64		max_spend_per_day;
	int64		max_spend_per_month;
	text	   *timezone;
	TimestampTz day_start;
	int64		day_used;
	TimestampTz month_start;
	int64		month_used;
} Limits;

/* Which account of which pool */
typedef struct MemberKey
{
	int64		pool_id;
	int64		account_id;
} MemberKey;

/* An account that may spend from a pool */
typedef struct Member
{
	ItemPointerData tid;		/* invalid if not stored yet */
	bool		changed;
	bool		removed;
	int64		pool_id;
	int64		account_id;
	int64		cap;			/* NO_LIMIT if none */
	char	   *per;
	text	   *timezone;
	TimestampTz created_at;
	TimestampTz window_start;
	int64		used;
	int64		since_id;		/* the transaction after which it counts */
} Member;

/*
 * A row of another table that is to be written with the account
 */
typedef struct Change
{
	struct Change *next;
	void		(*write) (Posting *posting, void *row);
	void	   *row;
} Change;

struct Posting
{
	struct Posting *outer;		/* of the call that this one runs inside */
	Store	   *store;
	Snapshot	snapshot;
	bool		locked;			/* is the account's row lock ours? */
	TimestampTz now;
	Account		account;
	bool		grants_loaded;	/* all that are open or pending? */
	Grant	  **grants;			/* those read or made, in burn order */
	int			ngrants;
	int			max_grants;
	int			nburnt;			/* no grant before this one is open */
	List	   *holds;			/* those read or made */
	List	   *debts;			/* what is claimed from grants, once loaded */
	bool		debts_loaded;
	int			npaid;			/* entries that have paid debts by now */
	Change	   *changes;		/* what else is to be written, last first */
	List	   *subscriptions;	/* those read or made */
	List	   *periods;		/* of subscriptions, those read or made */
	Limits	   *limits;			/* NULL until needed */
	Posting    *lead;			/* of a joint change the first, or NULL */
	List	   *members;		/* those that the call has locked; the lead's */
	bool		dry;			/* only to see what would be: nothing is written */
	Entry	  **entries;
	int			nentries;
	int			max_entries;
	Entry	   *main;			/* the one that the request is about */
	bool		logged;			/* has the trigger taken the entries? */
	bool		written;		/* and written them all? */
	Refusal		refusal;
};

/*
 * Nothing below is for other modules, and the server loads modules with their
 * names visible to all: these must not meet others of the same name.
 */
#pragma GCC visibility push(hidden)

/* settings, see module.c */
extern char *setting_actor;
extern int	setting_debt_payment;
extern int	setting_excess;
extern int	setting_initial_balance;
extern int	setting_low_balance;
extern int	setting_max_balance;
extern int	setting_max_spend;
extern int	setting_max_spend_per_day;
extern int	setting_max_spend_per_month;
extern int	setting_min_spend;
extern char *setting_purchase_expiry;
extern int	setting_redeem_failures;
extern char *setting_redeem_window;
extern char *setting_referral_account_age;
extern int	setting_referral_cap;
extern int	setting_referral_credits;
extern int	setting_referrer_credits;
extern char *setting_refund_grace;
extern int	setting_stripe_tolerance;
extern char *setting_test_clock;

/* errors.c */
extern bool refuse(Refusal *refusal, int sqlstate, char *message,
				   char *detail, char *hint);
NORETURN_COMPAT extern void raise_refusal(const Refusal *refusal);
extern char *sqlstate_text(int sqlstate);
extern bool is_unique_violation(MemoryContext context,
								const char *constraint);

/* args.c */
extern bool refuse_null(Refusal *refusal, const char *name);
NORETURN_COMPAT extern void raise_null(const char *name);
extern bool same_text(const text *a, const text *b);
extern bool valid_text(Refusal *refusal, text *value, const char *name,
					   int max_bytes);
extern bool valid_name(Refusal *refusal, text *value, const char *name,
					   int max_bytes);
extern bool valid_amount(Refusal *refusal, int64 amount, const char *name);
extern bool valid_metadata(Refusal *refusal, Jsonb *metadata);
extern bool valid_span(Refusal *refusal, const Interval *value,
					   const char *name);
extern void check_account_name(text *name);
extern text *arg_account(FunctionCallInfo fcinfo, int n);
extern int64 arg_id(FunctionCallInfo fcinfo, int n, const char *name);
extern int64 arg_amount(FunctionCallInfo fcinfo, int n, const char *name);
extern text *arg_name(FunctionCallInfo fcinfo, int n, const char *name);
extern text *arg_text(FunctionCallInfo fcinfo, int n, const char *name,
					  int max_bytes);
extern bool arg_bool(FunctionCallInfo fcinfo, int n, const char *name);
extern Interval *arg_interval(FunctionCallInfo fcinfo, int n,
							  const char *name);
extern TimestampTz arg_active_from(FunctionCallInfo fcinfo, int n,
								   const char *name);
extern TimestampTz arg_active_until(FunctionCallInfo fcinfo, int n,
									TimestampTz from);
extern text *arg_timezone(FunctionCallInfo fcinfo, int n);
extern text *arg_reason(FunctionCallInfo fcinfo, int n);
extern Jsonb *arg_metadata(FunctionCallInfo fcinfo, int n);
extern void check_initial_credits(int64 credits);
extern void check_unit(text *unit);

/* json.c */
extern void json_text(StringInfo json, const char *key, text *value);
extern void json_cstring(StringInfo json, const char *key, const char *value);
extern void json_int64(StringInfo json, const char *key, int64 value);
extern void json_time(StringInfo json, const char *key, TimestampTz value);
extern void json_instant(StringInfo json, const char *key, TimestampTz at);
extern void json_raw(StringInfo json, const char *key, const char *value);
extern void json_numeric(StringInfo json, const char *key, Datum value);
extern void json_interval(StringInfo json, const char *key,
						  const Interval *value);
extern void json_by_id(StringInfo json, int64 id, StringInfo object);
extern Jsonb *json_document(StringInfo json);

/* terms.c */
extern JsonbValue *terms_get(const Entry *entry, const char *key);
extern Datum terms_numeric(const Entry *entry, const char *key);
extern bool terms_int64(const Entry *entry, const char *key, int64 *value);
extern TimestampTz terms_time(const Entry *entry, const char *key);
extern Jsonb *terms_part(const Entry *entry, const char *key);
extern List *terms_ids(const Entry *entry, const char *key);
extern void terms_add_int64(Entry *entry, const char *key, int64 value);
extern void terms_add_total(Entry *entry, int64 total);
extern void terms_add_parts(Entry *entry, List *parts);

/* clock.c */

#define MAX_INTERVALS 16

/* A setting that is a list of spans of time */
typedef struct Intervals
{
	int			n;
	Interval	spans[MAX_INTERVALS];
} Intervals;

extern TimestampTz clock_now(void);
extern char *clock_show(TimestampTz at);
extern TimestampTz clock_after(TimestampTz from, Interval *span);
extern TimestampTz clock_before(TimestampTz until, Interval *span);
extern TimestampTz clock_refund_grace(TimestampTz from);
extern Interval *clock_event_retention(void);
extern Intervals *clock_expiry_warning(void);
extern Intervals *clock_renewal_warning(void);
extern TimestampTz clock_purchase_expiry(TimestampTz from);
extern Interval *clock_redeem_window(void);
extern Interval *clock_referral_account_age(void);
extern bool clock_check_test_clock(char **newval, void **extra,
								   GucSource source);
extern void clock_assign_test_clock(const char *newval, void *extra);
extern bool clock_check_interval(char **newval, void **extra,
								 GucSource source);
extern bool clock_check_intervals(char **newval, void **extra,
								  GucSource source);
extern void clock_assign_event_retention(const char *newval, void *extra);
extern void clock_assign_expiry_warning(const char *newval, void *extra);
extern void clock_assign_renewal_warning(const char *newval, void *extra);
extern void clock_assign_purchase_expiry(const char *newval, void *extra);
extern void clock_assign_refund_grace(const char *newval, void *extra);
extern void clock_assign_redeem_window(const char *newval, void *extra);
extern void clock_assign_referral_account_age(const char *newval,
											  void *extra);

/* store.c */

/*
 * A table, as the topic that it belongs to declares it
 */
typedef struct StoreTable
{
	const char *name;
	const char *sequence;		/* that its ids come from, NULL if none */
	const Oid  *types;			/* of its columns, then InvalidOid */
	/* the rest is for store.c: what was looked up, good while generations agree */
	uint64		generation;
	uint64		checked;		/* generation in which its columns were */
	Oid			oid;
	Oid			sequence_oid;
	int			number;			/* from 1; 0 until it is first used */
} StoreTable;

/*
 * An index of a table
 */
typedef struct StoreIndex
{
	StoreTable *table;
	const char *name;
	/* the rest is for store.c */
	uint64		generation;
	Oid			oid;
} StoreIndex;

/* A scan of an index, under way */
typedef struct StoreScan
{
	Relation	heap;
	bool		heap_is_ours;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	bool		slot_is_ours;
	MemoryContext context;		/* in which the scan began */
} StoreScan;

extern void store_init(void);
extern bool store_is_table(Relation rel, StoreTable *table);
extern void store_check_writable(const char *function);
extern void store_lock_tables(const char *function);
extern void store_lock_table(StoreTable *table);
extern Store *store_open(void);
extern void store_close(Store *store);
extern void store_begin_changes(Store *store);
extern void store_end_changes(Store *store);
extern int64 store_next_id(StoreTable *table);
extern void store_scan(StoreScan *scan, Store *store, StoreIndex *index,
					   Snapshot snapshot, ScanKey keys, int nkeys);
extern TupleTableSlot *store_scan_next(StoreScan *scan,
									   ScanDirection direction);
extern void store_scan_end(StoreScan *scan);
extern void store_insert(Store *store, StoreTable *which, Datum *values,
						 bool *isnull);
extern TM_Result store_update(Store *store, StoreTable *which,
							  Snapshot snapshot, ItemPointer tid, bool wait,
							  Datum *values, bool *isnull);
extern void store_delete(Store *store, StoreTable *which, Snapshot snapshot,
						 ItemPointer tid);
extern TM_Result store_lock(Store *store, StoreTable *which, Snapshot snapshot,
							ItemPointer tid, bool skip_locked,
							TupleTableSlot **slot);
extern bool store_insert_unless(Store *store, StoreIndex *unique,
								Datum *values, bool *isnull);
extern void store_insert_alone(StoreTable *which, Datum *values,
							   bool *isnull);
extern Snapshot store_snapshot(bool fresh);

/* rows.c */
extern StoreTable accounts_table;
extern StoreTable grants_table;
extern StoreTable transactions_table;
extern StoreTable events_table;
extern StoreIndex accounts_by_id;
extern StoreIndex accounts_by_name;
extern StoreIndex accounts_by_due_at;
extern StoreIndex grants_by_id;
extern StoreIndex grants_by_account_id;
extern StoreIndex grants_in_burn_order;
extern StoreIndex transactions_by_id;
extern StoreIndex transactions_by_account_id;
extern StoreIndex transactions_by_key;
extern StoreIndex transactions_by_target_id;
extern StoreIndex events_by_account_id;
extern const char *const account_status_names[];
extern const char *const grant_status_names[];
extern char *row_account_name(const Account *account);
extern void row_read_account(TupleTableSlot *slot, Account *account);
extern bool row_find_account(Store *store, Snapshot snapshot, text *name,
							 int64 id, Account *account);
extern void row_keep_account(Account *account);
extern bool row_lock_account(Store *store, Snapshot snapshot,
							 Account *account, bool skip_locked);
extern TM_Result row_update_account(Store *store, Snapshot snapshot,
									Account *account, bool wait);
extern bool row_insert_account(Store *store, Datum *values, bool *isnull);
extern void row_read_grant(TupleTableSlot *slot, Grant *grant);
extern bool row_find_grant(Store *store, Snapshot snapshot, int64 id,
						   Grant *grant);
extern void row_write_grant(Store *store, Snapshot snapshot, Grant *grant);
extern Draw *row_read_draws(Datum value, int *n);
extern Datum row_draws_datum(const Draw *draws, int n);
extern void row_read_entry(TupleTableSlot *slot, Entry *entry);
extern bool row_find_entry(Store *store, Snapshot snapshot, int64 id,
						   Entry *entry);
extern bool row_find_key(Store *store, Snapshot snapshot, int64 account_id,
						 text *key, Entry *entry);
extern void row_insert_entry(Store *store, Entry *entry);

/* grants.c */
extern bool grants_known_source(Refusal *refusal, text *source,
								int32 *priority);
extern int32 grants_default_priority(text *source);
extern Grant *grants_new(Posting *posting, int64 amount, text *source,
						 TimestampTz effective_at, TimestampTz expires_at);
extern Grant *grants_get(Posting *posting, int64 id);
extern Draw *grants_burn(Posting *posting, int64 amount, int *ndraws);
extern int64 grants_take(Grant *grant, int64 amount, Draw *draw);
extern Draw *grants_draw(Grant *grant, int64 amount);
extern void grants_add_terms(StringInfo json, const Grant *grant);
extern Jsonb *grants_terms(const Grant *grant);
extern void grants_prolonged(StringInfo json, const Grant *grant);
extern const char *grants_give_back(Posting *posting, Grant *grant,
									int64 amount, TimestampTz drawn,
									TimestampTz at, TimestampTz until,
									StringInfo prolonged);
extern void grants_load(Posting *posting);
extern void grants_due(Posting *posting);
extern TimestampTz grants_next_expiry(Posting *posting, int64 *amount);
extern void grants_sort(Posting *posting);
extern void grants_wake(Posting *posting, TimestampTz at);

/* debts.c */
extern StoreTable debts_table;
extern List *debts_read(Store *store, Snapshot snapshot, int64 account_id);
extern void debts_pay(Posting *posting, TimestampTz at);
extern int64 debts_claimed(Posting *posting, int64 grant_id);
extern Entry *debts_claim(Posting *posting, Grant *grant, int64 claimed);

/* chain.c */
extern void chain_hash(const uint8 *previous, int previous_len,
					   const Entry *entry, uint8 *hash);
extern int64 chain_fingerprint(const StringInfoData *request);

/* log.c */
extern Entry *log_add(Posting *posting, const char *kind, TimestampTz at,
					  int64 amount, Draw *draws, int ndraws);
extern void log_add_loss(Posting *posting, const char *kind, TimestampTz at,
						 Draw *lost, int64 target_id);
extern Entry *log_add_held(Posting *posting, const char *kind, TimestampTz at,
						   int64 amount, int64 held, Draw *draws,
						   int ndraws);
extern void log_describe(Entry *entry, const Request *request);
extern void log_describe_part(Entry *entry, const Request *request);
extern void log_defer(Posting *posting, void (*write) (Posting *, void *),
					  void *row);
extern void log_seal(Posting *posting);
extern void log_enter(Posting *posting);
extern void log_leave(Posting *posting);
extern bool log_is_posting(int64 account_id);
extern void log_check_idle(int64 account_id);
extern bool refuse_overflow(Posting *posting, int64 change);
NORETURN_COMPAT extern void raise_overflow(Posting *posting, int64 change);
extern bool totals_add(Account *account, const Entry *entry);

/* caps.c */
extern StoreTable members_table;
extern bool caps_is_window(const char *per);
extern TimestampTz caps_window_start(const char *per, text *timezone,
									 TimestampTz at);
extern void caps_roll(TimestampTz *start, int64 *used, const char *per,
					  text *timezone, TimestampTz now);
extern void caps_json(StringInfo json, const char *key, int64 value);
extern int64 caps_count_up(int64 used, int64 amount);
extern void caps_change_member(Posting *posting, Member *member);
extern bool caps_lock_members(Posting *posting, List *keys, bool skip_locked);
extern Member *caps_member(Posting *posting, int64 pool_id, int64 account_id);
extern List *caps_add_key(List *keys, int64 pool_id, int64 account_id);
extern List *caps_add_way_of(List *keys, const Entry *spend);
extern List *caps_add_path(List *keys, List *path);
extern Jsonb *caps_member_terms(const Member *member);
extern List *caps_members_of(Snapshot snapshot, int64 pool_id);
extern List *caps_path(Store *store, Snapshot snapshot, int64 account_id,
					   int64 pool_id);
extern List *caps_lock_way(Posting *posting, List *keys, MemberKey *gone);
extern Member *caps_narrowest(List *path, int64 *left);
extern void caps_use_path(Posting *posting, List *path, int64 amount);
extern void caps_add_way(StringInfo json, List *path);
extern void caps_give_back_members(Posting *posting, const Entry *spend,
								   int64 amount);

/* caps_limits.c */
extern StoreTable limits_table;
extern void caps_read_limits(Store *store, Snapshot snapshot,
							 int64 account_id, Limits *limits);
extern Limits *caps_limits(Posting *posting);
extern Jsonb *caps_limits_terms(const Limits *limits);
extern void caps_change_limits(Posting *posting, Limits *limits);
extern bool caps_counts_as(Store *store, Snapshot snapshot,
						   const Entry *entry, Entry *spend);
extern void caps_count(Store *store, Snapshot snapshot, Limits *limits);
extern void caps_begin_windows(Posting *posting, Limits *limits);
extern bool caps_spend(Posting *posting, int64 amount, int64 whole);
extern bool caps_receive(Posting *posting, int64 *amount, bool may_clip);
extern void caps_give_back(Posting *posting, const Entry *spend,
						   int64 amount);

/* reserve.c */
extern const char *const hold_status_names[];
extern StoreTable holds_table;
extern StoreIndex holds_by_id;
extern bool reserve_find(Store *store, Snapshot snapshot, int64 id,
						 Hold *hold);
extern Hold *reserve_new(Posting *posting, int64 amount,
						 TimestampTz expires_at, Entry **entry);
extern Hold *reserve_get(Posting *posting, int64 id);
extern int64 reserve_left(const Hold *hold);
extern Draw *reserve_take(Posting *posting, Hold *hold, int64 amount,
						  int *ndraws);
extern Entry *reserve_capture(Posting *posting, Hold *hold, const char *kind,
							  int64 amount);
extern Entry *reserve_release(Posting *posting, Hold *hold, TimestampTz at,
							  HoldStatus status, const Entry *main);
extern Entry *reserve_extend(Posting *posting, Hold *hold,
							 TimestampTz expires_at);
extern Entry *reserve_enlarge(Posting *posting, Hold *hold, int64 amount);
extern List *reserve_add_members(List *keys, Posting *posting);
extern void reserve_settle(Posting *posting);

/* alerts.c */
extern int64 alerts_event(const char *kind, int64 account_id,
						  int64 transaction_id, TimestampTz at,
						  Jsonb *detail);
extern void alerts_announce(const char *kind, int64 account_id,
							int64 transaction_id, TimestampTz at,
							Jsonb *detail);

extern void alerts_announce_with(Posting *posting, const char *kind,
								 int64 transaction_id, StringInfo detail);

/* receipts.c */
extern TupleDesc result_tupdesc(FunctionCallInfo fcinfo);
extern Datum receipt_datum(TupleDesc tupdesc, const Receipt *receipt);
extern void receipt_from_entry(Receipt *receipt, const Entry *entry,
							   const Account *account, bool replayed);
extern void receipt_of_posting(Receipt *receipt, Posting *posting);
extern void receipt_replayed(Receipt *receipt, Posting *posting,
							 const Entry *entry);
extern Datum ledger_result(FunctionCallInfo fcinfo, const Receipt *receipt);
extern Datum ledger_attempt(FunctionCallInfo fcinfo, const Receipt *receipt,
							const Refusal *refusal);

/* ledger.c */

/*
 * Plans a change of the posting's account: adds entries and changes grants,
 * all in memory.  Returns false, with posting->refusal set, if the change
 * must not be.  May run twice for one request.  For a joint change the
 * postings are an array in the order of the parties; refusals go into the
 * first.
 */
typedef bool (*PlanChange) (Posting *posting, void *arg);

typedef enum SettleResult
{
	SETTLED,
	NOT_DUE,
	SKIPPED
} SettleResult;

/* An account that a change concerns: by name or, without one, by id */
typedef struct Party
{
	text	   *name;
	int64		id;
} Party;

extern void fingerprint_text(StringInfo f, text *value);
extern void fingerprint_int64(StringInfo f, bool given, int64 value);
extern void fingerprint_interval(StringInfo f, Interval *value);
extern bool ledger_post(const char *function, text *name, int64 id,
						Request *request, PlanChange plan, void *arg,
						Receipt *receipt, Refusal *refusal);
extern bool ledger_post_joint(const char *function, const Party *parties,
							  int nparties, Request *request, PlanChange plan,
							  void *arg, Receipt *receipt, Refusal *refusal);
extern Datum ledger_call(FunctionCallInfo fcinfo, const char *function,
						 text *name, int64 id, Request *request,
						 PlanChange plan, void *arg);
extern Datum ledger_call_joint(FunctionCallInfo fcinfo, const char *function,
							   const Party *parties, int nparties,
							   Request *request, PlanChange plan, void *arg);
extern void ledger_peek(const Account *account, TimestampTz at,
						Account *settled, TimestampTz *expiring_at,
						int64 *expiring);
extern bool ledger_rehearse(text *name, PlanChange plan, void *arg,
							Refusal *refusal);
extern SettleResult ledger_settle(int64 account_id);
extern bool ledger_not_closed(Posting *posting);
extern bool ledger_may_spend(Posting *posting, int64 amount);
extern bool ledger_enough(Posting *posting, int64 amount);
extern bool refuse_unknown_account(Refusal *refusal, text *name);
extern void ledger_find_account(Snapshot snapshot, text *name,
								Account *account);

/* bulk.c */

/*
 * One of many requests that are posted at once
 */
typedef struct BatchItem
{
	text	   *account;
	Request		request;
	void	   *arg;			/* for the plan */
	Refusal		refusal;		/* why not, if it is refused */
	Receipt		receipt;		/* or else what came of it */
	/* the rest is for bulk.c */
	int64		account_id;
	struct BatchItem *next_of_hash;
} BatchItem;

extern bool bulk_post(const char *function, BatchItem *items, int nitems,
					  PlanChange plan, bool atomic, bool dry);
#pragma GCC visibility pop

#endif							/* CREDITS_H */
