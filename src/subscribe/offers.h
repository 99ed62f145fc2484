/*
 * offers.h
 *	  To whom plans and packages are offered.
 */
#ifndef CREDITS_SUBSCRIBE_OFFERS_H
#define CREDITS_SUBSCRIBE_OFFERS_H

#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

typedef enum OfferKind
{
	OFFER_PLAN,
	OFFER_PACKAGE
} OfferKind;

/*
 * Returns whether what has a name is for everybody, or offered to an account.
 * Says nothing about whether it exists.
 */
extern bool offers_reach(OfferKind kind, text *name, const Account *account);

/*
 * Adds the offer that a call describes by its arguments from the second one on:
 * account, metadata, everybody.  Returns its id or, if that offer stands already,
 * the id it has.
 */
extern int64 offers_add(FunctionCallInfo fcinfo, OfferKind kind, text *name);

#pragma GCC visibility pop

#endif							/* CREDITS_SUBSCRIBE_OFFERS_H */
