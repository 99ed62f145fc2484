/*
 * names.h
 *	  Conversion of the names of enum values.
 */
#ifndef CREDITS_BASE_NAMES_H
#define CREDITS_BASE_NAMES_H

#include "credits.h"

#pragma GCC visibility push(hidden)

/* index of a name in an array of names, -1 if it is not there */
#define NAME_FIND(names, name) names_find(names, lengthof(names), name)

extern int	names_find(const char *const *names, int n, const char *name);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_NAMES_H */
