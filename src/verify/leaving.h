/*
 * leaving.h
 *	  The partitions that leave the log when the books are closed.
 */
#ifndef CREDITS_VERIFY_LEAVING_H
#define CREDITS_VERIFY_LEAVING_H

#include "ledger/anchors.h"

#pragma GCC visibility push(hidden)

extern bool leaving_has_copies(const Closing *closing);
extern bool leaving_must_be_merged(const Closing *closing);
extern int	leaving_exchange(const Closing *closing, bool merge);

#pragma GCC visibility pop

#endif							/* CREDITS_VERIFY_LEAVING_H */
