/*
 * sms.h
 *	  How much text a text message holds.
 */
#ifndef CREDITS_TELL_SMS_H
#define CREDITS_TELL_SMS_H

#include "credits.h"

#pragma GCC visibility push(hidden)

extern char *sms_cut(char *text);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_SMS_H */
