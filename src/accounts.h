/*
 * accounts.h
 *	  What accounts.c offers to other topics.
 */
#ifndef CREDITS_ACCOUNTS_H
#define CREDITS_ACCOUNTS_H

#include "credits.h"

extern void accounts_open(text *name, int64 initial_credits, text *unit,
						  Jsonb *metadata, Receipt *receipt);

#endif							/* CREDITS_ACCOUNTS_H */
