/*
 * erase.h
 *	  Erasing from a row of the log what may name a person.
 */
#ifndef CREDITS_LEDGER_ERASE_H
#define CREDITS_LEDGER_ERASE_H

#include "credits.h"

#pragma GCC visibility push(hidden)

extern void erase_prepare(const int64 *ids, int n);
extern bool erase_text(int64 id, bool always_event);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_ERASE_H */
