/*
 * receipts.h
 *	  Receipts: what callers get back.
 */
#ifndef CREDITS_LEDGER_RECEIPTS_H
#define CREDITS_LEDGER_RECEIPTS_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

/* how many columns a credits.receipt has */
#define RECEIPT_COLUMNS 8

extern void receipts_check_columns(TupleDesc tupdesc, int ncolumns);
extern TupleDesc receipts_tupdesc(FunctionCallInfo fcinfo, int ncolumns);
extern Datum receipts_datum(TupleDesc tupdesc, const Receipt *receipt);
extern void receipts_from_entry(Receipt *receipt, const Entry *entry,
								const Account *account, bool replayed);
extern void receipts_of_state(Receipt *receipt, Posting *posting);
extern void receipts_of_posting(Receipt *receipt, Posting *posting);
extern void receipts_replayed(Receipt *receipt, Posting *posting,
							  const Entry *entry);
extern Datum receipts_result(FunctionCallInfo fcinfo, const Receipt *receipt);
extern Datum receipts_attempt(FunctionCallInfo fcinfo, const Receipt *receipt,
							  const Refusal *refusal);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_RECEIPTS_H */
