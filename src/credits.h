/*
 * credits.h
 *	  Definitions shared by all files: the glossary, SQLSTATEs and size limits.
 *
 * These words have the same meaning in every file:
 *
 * account		holds credits; named by the application
 * grant		a number of credits given to an account at once, with one source,
 *				priority and expiry time
 * transaction	one row of the log
 * entry		a transaction that is still being built, in memory
 * draw			how much a transaction took from or gave to one grant
 * hold			credits reserved: drawn from grants, but not spent yet
 * posting		everything that one call writes for one account: its entries, the
 *				grants that they change, and the new state of the account
 * debt			credits to be taken back that were already spent
 * settle		bring an account up to date with the clock: activate the grants
 *				that have become effective, and expire those that have run out
 * party		one of the accounts of a posting that concerns several
 *
 * The directories of src/ are layers, from the bottom up: base, store, ledger,
 * accounts, spend, codes, subscribe, sell, stripe, tell, disputes, admin, jobs,
 * verify.  A file calls only functions of its own directory and of those below it,
 * which test/t/floors.pl checks.  The functions that a file or a directory offers to
 * others are declared in a header of the same name.
 */
#ifndef CREDITS_H
#define CREDITS_H

#include "compat.h"

/* SQLSTATEs of class PT: PostgREST turns PTnnn into HTTP status nnn */
#define ERRCODE_NOT_ENOUGH		MAKE_SQLSTATE('P', 'T', '4', '0', '2')
#define ERRCODE_FORBIDDEN		MAKE_SQLSTATE('P', 'T', '4', '0', '3')
#define ERRCODE_NOT_FOUND		MAKE_SQLSTATE('P', 'T', '4', '0', '4')
#define ERRCODE_CONFLICT		MAKE_SQLSTATE('P', 'T', '4', '0', '9')
#define ERRCODE_GONE			MAKE_SQLSTATE('P', 'T', '4', '1', '0')
#define ERRCODE_LOCKED_ACCOUNT	MAKE_SQLSTATE('P', 'T', '4', '2', '3')
#define ERRCODE_SERVICE_PAUSED	MAKE_SQLSTATE('P', 'T', '5', '0', '3')

#define MAX_NAME_BYTES		255
#define MAX_UNIT_BYTES		63
#define MAX_REASON_BYTES	1000
#define MAX_METADATA_BYTES	16384
#define MAX_PRIORITY		32767
#define SALT_BYTES			16

#endif							/* CREDITS_H */
