/*
 * transfer.h
 *	  What transfer.c offers to other topics that move credits between accounts.
 */
#ifndef CREDITS_TRANSFER_H
#define CREDITS_TRANSFER_H

#include "credits.h"

#pragma GCC visibility push(hidden)

extern Entry *transfer_receive(Posting *from, Posting *to, const Entry *given,
							   const char *kind, const char *source);
extern bool transfer_allowed(Posting *from, Posting *to);
extern bool transfer_move(Posting *from, Posting *to, int64 amount,
						  const char *kind, const char *source,
						  const Request *request);

#pragma GCC visibility pop

#endif							/* CREDITS_TRANSFER_H */
