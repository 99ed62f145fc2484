/*
 * levels.h
 *	  Levels of a balance at which an account alerts.
 */
#ifndef CREDITS_BASE_LEVELS_H
#define CREDITS_BASE_LEVELS_H

#include "credits.h"
#include "utils/guc.h"

#pragma GCC visibility push(hidden)

#define MAX_LEVELS 16
/* 16 numbers of 19 digits, with commas and spaces */
#define MAX_LEVELS_BYTES 500

/* A level: a number of credits, or a percentage of the account's base */
typedef struct Level
{
	bool		percent;
	int64		value;
} Level;

typedef struct Levels
{
	int			n;
	Level		list[MAX_LEVELS];
} Levels;

extern bool levels_read(const char *list, size_t len, Levels *levels);
extern int64 levels_threshold(const Level *level, int64 base);
extern char *levels_show(const Level *level);
extern const Levels *levels_setting(void);
extern bool levels_check(char **newval, void **extra, GucSource source);
extern void levels_assign(const char *newval, void *extra);

#pragma GCC visibility pop

#endif							/* CREDITS_BASE_LEVELS_H */
