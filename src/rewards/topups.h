/*
 * topups.h
 *	  Automatic top-ups: when, by what and how often credits are bought for an
 *	  account.
 */
#ifndef CREDITS_REWARDS_TOPUPS_H
#define CREDITS_REWARDS_TOPUPS_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

/* Where an account stood when it was last looked at */
typedef enum TopupState
{
	TOPUP_READY,
	TOPUP_REQUESTED,			/* a purchase is open */
	TOPUP_WAITING,				/* after a purchase that was not paid */
	TOPUP_LIMITED,				/* by what may be bought within a period */
	TOPUP_SUSPENDED,			/* after several declined payments */
	TOPUP_REFUSED				/* for another reason */
} TopupState;

/* A row of credits.topups */
typedef struct Topup
{
	int64		account_id;
	int64		below;
	int64		target;			/* 0 if a package is bought */
	text	   *package;		/* NULL if there is a target */
	text	   *currency;		/* NULL if only one is possible */
	int64		max_requests;
	Datum		max_money;		/* numeric, 0 for any amount */
	Interval   *period;
	int64		resumed_id;		/* requests up to this one are forgotten if
								 * they were not paid */
	TimestampTz due_at;			/* DT_NOEND if an event will say so */
	TopupState	state;
	text	   *message;		/* NULL if nothing stands against it */
} Topup;

extern const char *const topup_state_names[TOPUP_REFUSED + 1];

extern bool topups_find(int64 account_id, Topup *topup);

#pragma GCC visibility pop

#endif							/* CREDITS_REWARDS_TOPUPS_H */
