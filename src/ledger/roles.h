/*
 * roles.h
 *	  The names of those who made changes.
 */
#ifndef CREDITS_LEDGER_ROLES_H
#define CREDITS_LEDGER_ROLES_H

#include "credits.h"

#pragma GCC visibility push(hidden)

extern void roles_init(void);
extern int32 roles_own(const char **name);
extern const char *roles_name(int32 id);
extern text *roles_actor(void);
extern bool roles_is_administrator(void);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_ROLES_H */
