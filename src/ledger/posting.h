/*
 * posting.h
 *	  A posting: everything that one call writes for one account.
 *
 * It is planned in memory, and then written.
 */
#ifndef CREDITS_LEDGER_POSTING_H
#define CREDITS_LEDGER_POSTING_H

#include "ledger/rows.h"

#pragma GCC visibility push(hidden)

typedef struct Posting Posting;

/* The part of a caller's request that all kinds of requests have in common */
typedef struct Request
{
	text	   *key;
	StringInfoData fingerprint; /* what a retry must repeat */
	text	   *operation;
	text	   *reference;
	text	   *reason;
	Jsonb	   *metadata;
	bool		lock_first;		/* lock the account before planning? */

	/* adds the keys of members that the plan may change, or NULL */
	List	   *(*add_members) (List *keys, Posting *postings, void *arg);
} Request;

/* What a caller gets back, see type credits.receipt */
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

/*
 * Something that is to be written besides an account, its grants and its log
 */
typedef struct DeferredWrite
{
	struct DeferredWrite *next;
	void		(*write) (Posting *posting, void *row);
	void	   *row;
} DeferredWrite;

/*
 * A dry run must not use up ids, but what it makes needs distinct ones, which come
 * after all that exist.
 */
#define FIRST_DRY_ID (PG_INT64_MAX / 2)

/*
 * A posting while it is planned and written
 */
struct Posting
{
	struct Posting *outer;		/* entered before this one, see log_enter */
	Store	   *store;
	Snapshot	snapshot;
	bool		locked;			/* is the account's row locked? */
	TimestampTz now;
	Account		account;
	bool		grants_loaded;	/* have all open and pending ones been read? */
	bool		grants_unsorted;	/* are they not in burn order? */
	Grant	  **grants;			/* those read or made */
	int			ngrants;
	int			max_grants;
	struct grants_by_hash *grants_by_id;	/* NULL while they are few */
	int			nburnt;			/* index before which no grant is open */
	Grant	   *first_grant;	/* the first open grant in burn order, NULL if
								 * not known */
	List	   *holds;			/* those read or made */
	List	   *debts;			/* those of which something is owed, in order
								 * of grant */
	int64		debts_read_to;	/* up to this grant all of them have been
								 * read, beyond it only those that this
								 * posting has changed */
	bool		debts_loaded;	/* have all of them been read? */
	int			npaid;			/* number of entries from which debts have
								 * been paid */
	DeferredWrite *writes;		/* other rows to be written, in reverse order */
	DeferredWrite *statements;	/* what runs statements after that, in reverse
								 * order */
	List	   *subscriptions;	/* those read or made */
	List	   *periods;		/* of subscriptions, those read or made */
	struct Limits *limits;		/* NULL until needed */
	Posting    *lead;			/* first of a joint posting, NULL if single */
	List	   *members;		/* members locked by the call; only in the
								 * lead */
	struct members_by_hash *members_by_key; /* NULL while they are few */
	bool		touched;		/* must the row be updated since its key is
								 * used? */
	bool		begins_anew;	/* does its next entry give a period or a
								 * purchase? */
	bool		dry;			/* a dry run, which is not written */
	Entry	  **entries;
	int			nentries;
	int			max_entries;
	TransactionKind already;	/* what it finds done before, so that nothing
								 * is to be written; or KIND_NONE */
	Entry	   *main;			/* the one that gets key and receipt, or NULL */
	bool		logged;			/* has the trigger begun to write the entries? */
	bool		written;		/* has it written all of them? */
	Refusal		refusal;
};

typedef enum Outcome
{
	POSTED,
	REPLAYED,
	REFUSED,
	NOTHING_DUE,				/* there was nothing to do */
	MORE_DUE,					/* settled in part: more is due */
	BUSY,						/* locked by another session, and skipped */
	CHANGED						/* changed concurrently: plan again with locks */
} Outcome;

extern void posting_begin(Posting *posting, Store *store, Snapshot snapshot,
						  bool locked);
extern bool posting_lock(Posting *posting, bool skip_locked);
extern bool posting_may_release(const Posting *posting);
extern bool posting_may_renew(const Posting *posting);
extern void posting_check(const Account *account);

/*
 * What a posting writes besides its account, its grants and its log is deferred
 * by the plan, in one of two ways.  A row that is written through the posting's
 * Store is written together with the account: triggers on the log find it.
 * What runs kept SQL statements waits until the log is complete: a statement
 * makes visible all that was written before it, and fires triggers of its own,
 * which may post another change of the same account.  It leaves the account's
 * row as it is; the posting's lock, or its update, protects it all the same.
 */
extern void posting_defer(Posting *posting, void (*write) (Posting *, void *),
						  void *row);
extern void posting_defer_statements(Posting *posting,
									 void (*run) (Posting *, void *),
									 void *arg);
extern void posting_run_statements(Posting *posting);
extern bool posting_has_changes(const Posting *posting);
extern Outcome posting_write(Posting **postings, int n, Request *request);
NORETURN_COMPAT extern void posting_raise_changed(int64 account_id);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_POSTING_H */
