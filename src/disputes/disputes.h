/*
 * disputes.h
 *	  Disputes: what accounts object to in the log, and what became of it.
 */
#ifndef CREDITS_DISPUTES_DISPUTES_H
#define CREDITS_DISPUTES_DISPUTES_H

#include "spend/refund.h"

#pragma GCC visibility push(hidden)

/* of what the account says, and of what it is answered */
#define MAX_DESCRIPTION_BYTES 4000

typedef enum DisputeStatus
{
	DISPUTE_UNKNOWN = -1,		/* somebody has modified the table */
	DISPUTE_OPEN,
	DISPUTE_IN_REVIEW,
	DISPUTE_RESOLVED,
	DISPUTE_RESOLVED_IN_PART,
	DISPUTE_REJECTED,
	DISPUTE_WITHDRAWN
} DisputeStatus;

typedef enum DisputeReason
{
	REASON_UNKNOWN = -1,		/* somebody has modified the table */
	REASON_NOT_RECEIVED,
	REASON_NOT_AS_DESCRIBED,
	REASON_DUPLICATE,
	REASON_WRONG_AMOUNT,
	REASON_UNAUTHORIZED,
	REASON_OTHER
} DisputeReason;

/* A row of credits.disputes.  Pointers are NULL where the column is. */
typedef struct Dispute
{
	ItemPointerData tid;
	int64		id;
	int64		account_id;
	int64		transaction_id;
	int64		requested;
	int64		refunded;		/* 0 until it is resolved */
	int64		refund_id;		/* 0 if nothing was refunded */
	TimestampTz opened_at;
	TimestampTz reviewed_at;	/* 0 if nobody has reviewed it */
	TimestampTz overdue_at;		/* 0 if it was not announced as overdue */
	TimestampTz ended_at;		/* 0 if it has not ended */
	bool		has_request;
	int64		request;		/* fingerprint */
	DisputeStatus status;
	DisputeReason reason;
	text	   *assignee;
	text	   *decided_by;
	const char *role;
	text	   *key;
	text	   *description;
	text	   *note;
	text	   *actor;
} Dispute;

/* A call that opens or changes a dispute */
typedef struct DisputeCall
{
	Dispute		dispute;		/* the row as it is to be, or as it is */
	text	   *account;		/* its name */
	Party		parties[2];		/* the accounts to be locked */
	int			nparties;
	Refund		refund;			/* if any of the spend is given back */
	Request		request;		/* that of the refund */
	bool		replayed;
} DisputeCall;

extern StoreTable disputes_table;
extern StoreIndex disputes_by_id;
extern StoreIndex disputes_by_transaction;
extern StoreIndex disputes_by_opened_at;
extern const char *const dispute_status_names[DISPUTE_WITHDRAWN + 1];

extern bool disputes_find(Store *store, Snapshot snapshot, int64 id,
						  Dispute *dispute);
extern void disputes_begin(const char *function, int64 id, DisputeCall *call);
extern Posting *disputes_reread(Posting *postings, DisputeCall *call);
extern bool disputes_refuse_ended(Posting *posting, const Dispute *dispute);
extern void disputes_write(Posting *posting, Dispute *dispute);
extern void disputes_announce(Posting *posting, const char *kind,
							  int64 transaction_id, const Dispute *dispute);
extern Datum disputes_post(FunctionCallInfo fcinfo, const char *function,
						   DisputeCall *call, PlanFunction plan);

/* review.c */
extern bool review_announce_overdue(const char *function, int64 id);

#pragma GCC visibility pop

#endif							/* CREDITS_DISPUTES_DISPUTES_H */
