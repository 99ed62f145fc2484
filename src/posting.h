/*
 * posting.h
 *	  The steps of a change, for those who put them together.
 */
#ifndef CREDITS_POSTING_H
#define CREDITS_POSTING_H

#include "credits.h"

#pragma GCC visibility push(hidden)

typedef enum Outcome
{
	POSTED,
	REPLAYED,
	REFUSED,
	CHANGED						/* by another, meanwhile */
} Outcome;

extern void posting_begin(Posting *posting, Store *store, bool locked,
						  bool fresh);
extern Snapshot posting_renew_snapshot(void);
extern void posting_lock(Posting *posting);
extern bool posting_may_release(const Posting *posting);
extern bool posting_lock_members(Posting *postings, int npostings,
								 Request *request, void *arg,
								 bool skip_locked);
extern void posting_check(const Account *account);
extern Outcome posting_replay(Posting *posting, Request *request,
							  Entry *entry, Receipt *receipt);
extern Outcome posting_write_all(Posting **postings, int n, Request *request);
extern Outcome posting_write(Posting *posting, Request *request);
extern void posting_raise_changed(int64 account_id);

#pragma GCC visibility pop

#endif							/* CREDITS_POSTING_H */
