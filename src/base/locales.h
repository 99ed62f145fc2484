/*
 * locales.h
 *	  Names of languages and regions, as of BCP 47.
 */
#ifndef CREDITS_BASE_LOCALES_H
#define CREDITS_BASE_LOCALES_H

#include "credits.h"
#include "utils/guc.h"

#pragma GCC visibility push(hidden)

#define MAX_LOCALE_BYTES 35

extern bool locales_read(const char *name, size_t len, char *canonical);
extern text *arg_locale(FunctionCallInfo fcinfo, int n);
extern bool locales_shorten(char *name);
extern bool locales_check(char **newval, void **extra, GucSource source);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_LOCALES_H */
