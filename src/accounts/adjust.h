/*
 * adjust.h
 *	  Corrections of a balance by an administrator.
 */
#ifndef CREDITS_ACCOUNTS_ADJUST_H
#define CREDITS_ACCOUNTS_ADJUST_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

extern void adjust_check_delta(int64 delta);
extern bool adjust_post(Posting *posting, int64 delta);

#pragma GCC visibility pop

#endif							/* CREDITS_ACCOUNTS_ADJUST_H */
