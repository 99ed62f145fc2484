/*
 * transfer.h
 *	  Moving credits from one account to another.
 */
#ifndef CREDITS_SPEND_TRANSFER_H
#define CREDITS_SPEND_TRANSFER_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

extern Entry *transfer_receive(Posting *from, Posting *to, const Entry *given,
							   TransactionKind kind, const char *source);
extern bool transfer_allowed(Posting *from, Posting *to);

#pragma GCC visibility pop

#endif							/* CREDITS_SPEND_TRANSFER_H */
