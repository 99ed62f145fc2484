/*
 * apply.h
 *	  Applying what is known of a payment, an invoice or a subscription.
 */
#ifndef CREDITS_STRIPE_APPLY_H
#define CREDITS_STRIPE_APPLY_H

#include "stripe/billing.h"

#pragma GCC visibility push(hidden)

/* What a subject is */
typedef enum SubjectKind
{
	SUBJECT_PAYMENT,
	SUBJECT_INVOICE,			/* of a credit note, or without a subscription */
	SUBJECT_SUBSCRIPTION
} SubjectKind;

/* What is to be applied */
typedef struct Application
{
	SubjectKind kind;
	const char *subject;
	const char *was_waiting;	/* what was missing before, or NULL */
	const StripeEvent *event;	/* that has arrived, NULL if none */
	List	   *events;			/* of a payment, all that are known */
	Fold	   *fold;			/* of a subscription or an invoice */
} Application;

extern SubjectKind apply_kind(const StripeEvent *event);
extern char *apply_lock(SubjectKind kind, const char *subject,
						const StripeEvent *event, List **linked);
extern void apply_announce(const Application *a, const StripeOutcome *outcome);
extern void apply_and_note(const Application *a, StripeOutcome *outcome);
extern void apply_waiting_payments(List *payments);

#pragma GCC visibility pop

#endif							/* CREDITS_STRIPE_APPLY_H */
