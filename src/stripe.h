/*
 * stripe.h
 *	  Webhooks of Stripe: what the files of the topic offer each other.
 */
#ifndef CREDITS_STRIPE_H
#define CREDITS_STRIPE_H

#include "credits.h"
#include "sql.h"

#include "nodes/pg_list.h"

#pragma GCC visibility push(hidden)

/* What an event is about: says what its facts are */
typedef enum FactKind
{
	FACT_NONE,					/* a type that is not handled */
	FACT_SESSION,
	FACT_INTENT,
	FACT_CHARGE,
	FACT_REFUND,
	FACT_DISPUTE,
	FACT_INVOICE_PAYMENT,
	FACT_SUBSCRIPTION,
	FACT_INVOICE
} FactKind;

/* An event, as it came or as it is kept; pointers are NULL where it says nothing */
typedef struct StripeEvent
{
	char	   *id;
	char	   *type;
	char	   *object_id;
	char	   *subject;
	char	   *api_version;
	TimestampTz created;
	bool		livemode;
	FactKind	kind;
	int			rank;			/* among events of one second */
	char	   *result;			/* NULL if it is new */
	Jsonb	   *facts;
	Jsonb	   *payload;		/* NULL if it was kept before */
} StripeEvent;

/* What applying the events of a subject came to */
typedef struct StripeOutcome
{
	bool		applied;		/* do they concern credits? */
	bool		changed;		/* did that change anything? */
	const char *was_waiting;	/* what was missing before, or NULL */
	char	   *waiting;		/* what is missing now, or NULL */
	const char *alert;			/* kind of event that says so, or NULL */
	int64		account_id;		/* 0 if it is not known */
	StringInfoData detail;		/* the beginning of an object, may be empty */
	List	   *payments;		/* of invoices that were recorded just now */
} StripeOutcome;

/* stripe_signature.c */
extern void stripe_verify(const char *payload, int len, text *signature);

/* stripe_facts.c */
extern JsonbValue *stripe_get(JsonbContainer *object, const char *path);
extern char *stripe_text(JsonbContainer *object, const char *path);
extern bool stripe_int64(JsonbContainer *object, const char *path,
						 int64 *value);
extern bool stripe_instant(JsonbContainer *object, const char *path,
						   TimestampTz *at);
extern bool stripe_true(JsonbContainer *object, const char *path);
extern FactKind stripe_kind(const char *type, int *rank);
extern void stripe_read_event(Jsonb *payload, StripeEvent *event);
extern int	stripe_compare(const ListCell *a, const ListCell *b);

/* stripe_inbox.c */
extern void stripe_lock_tables(const char *function);
NORETURN_COMPAT extern void stripe_raise_changed(const char *subject);
extern char *stripe_lock(const char *subject);
extern List *stripe_read_events(const char *subject);
extern char *stripe_find_result(const char *id);
extern bool stripe_keep_event(const StripeEvent *event, const char *result,
							  Jsonb *detail);
extern void stripe_write_subject(const char *subject, const char *was_waiting,
								 char *waiting);

/* stripe_maps.c */
extern char *stripe_text_of(const SqlResult *result, uint64 row);
extern char *stripe_find_invoice(const char *payment);
extern void stripe_link_payment(const StripeEvent *event);
extern void stripe_add_link(const char *payment, const char *invoice);
extern void stripe_add_customer(const char *customer, int64 account_id,
								bool learned);

/* stripe_payments.c */
extern Datum stripe_money(int64 amount, const char *currency);
extern text *stripe_currency(const char *currency);
extern void stripe_apply_payment(const char *subject, List *events,
								 StripeOutcome *outcome);

/* stripe_subscriptions.c */
extern void stripe_apply_subscription(const char *subject, List *events,
									  StripeOutcome *outcome);

#pragma GCC visibility pop

#endif							/* CREDITS_STRIPE_H */
