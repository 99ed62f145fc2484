/*
 * terms.h
 *	  The terms of a transaction.
 */
#ifndef CREDITS_LEDGER_TERMS_H
#define CREDITS_LEDGER_TERMS_H

#include "ledger/rows.h"

#pragma GCC visibility push(hidden)

extern JsonbValue *terms_get(const Entry *entry, const char *key);
extern Datum terms_numeric(const Entry *entry, const char *key);
extern bool terms_int64(const Entry *entry, const char *key, int64 *value);
extern TimestampTz terms_time(const Entry *entry, const char *key);
extern Jsonb *terms_part(const Entry *entry, const char *key);
extern List *terms_ids(const Entry *entry, const char *key);
extern void terms_add_int64(Entry *entry, const char *key, int64 value);
extern void terms_add_total(Entry *entry, int64 total);
extern void terms_add_parts(Entry *entry, List *parts);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_TERMS_H */
