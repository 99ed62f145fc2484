/*
 * stripe.h
 *	  Stripe webhooks: what the files of this room offer each other.
 */
#ifndef CREDITS_STRIPE_STRIPE_H
#define CREDITS_STRIPE_STRIPE_H

#include "ledger/ledger.h"
#include "store/statements.h"

#include "nodes/pg_list.h"

#pragma GCC visibility push(hidden)

/* What an event is about, which determines its facts */
typedef enum FactKind
{
	FACT_NONE,					/* a type that we do not handle */
	FACT_SESSION,
	FACT_INTENT,
	FACT_CHARGE,
	FACT_REFUND,
	FACT_DISPUTE,
	FACT_INVOICE_PAYMENT,
	FACT_SUBSCRIPTION,
	FACT_INVOICE,
	FACT_INVOICE_ITEM,
	FACT_CREDIT_NOTE
} FactKind;

/*
 * The outcome of a checkout session or an invoice.  Of several sessions for one
 * payment, the one with the highest outcome counts.
 */
typedef enum FactOutcome
{
	OUTCOME_NONE = -1,			/* there was no session */
	OUTCOME_PENDING,
	OUTCOME_EXPIRED,
	OUTCOME_VOIDED,
	OUTCOME_UNCOLLECTIBLE,
	OUTCOME_FAILED,
	OUTCOME_PAID
} FactOutcome;

extern const char *const stripe_outcome_names[OUTCOME_PAID + 1];

/* The result of an event */
typedef enum EventResult
{
	RESULT_UNKNOWN = -1,		/* someone has damaged it */
	RESULT_APPLIED,
	RESULT_DUPLICATE,
	RESULT_IGNORED,
	RESULT_WAITING
} EventResult;

extern const char *const stripe_result_names[RESULT_WAITING + 1];

/*
 * An event, as it was received or as it is stored.  Pointers are NULL where the
 * event has no such value.
 */
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
	int			rank;			/* orders events of the same second */
	EventResult result;			/* of a stored event */
	Jsonb	   *facts;
	Jsonb	   *payload;		/* NULL for a stored event, or if it is not
								 * JSON */
	const char *body;			/* in UTF-8 if it is not that payload, or NULL */
	int			body_len;
} StripeEvent;

/* The result of applying the events of a subject */
typedef struct StripeOutcome
{
	bool		applied;		/* do they concern credits? */
	bool		changed;		/* did they change anything? */
	const char *was_waiting;	/* what was missing before, or NULL */
	char	   *waiting;		/* what is missing now, or NULL */
	const char *alert;			/* kind of event to record for that, or NULL */
	int64		account_id;		/* 0 if it is not known */
	JsonObject	detail;			/* may be empty */
} StripeOutcome;

/* signature.c */
extern void stripe_verify(const char *payload, int len, text *signature);
extern void stripe_warn_of_secrets(void);

/* facts.c */
extern JsonbValue *stripe_get(JsonbContainer *object, const char *path);
extern char *stripe_text(JsonbContainer *object, const char *path);
extern int	stripe_name(JsonbContainer *object, const char *path,
						const char *const *names, int nnames);
extern bool stripe_int64(JsonbContainer *object, const char *path,
						 int64 *value);
extern bool stripe_instant(JsonbContainer *object, const char *path,
						   TimestampTz *at);
extern bool stripe_true(JsonbContainer *object, const char *path);
extern FactKind stripe_kind(const char *type, int *rank);
extern FactOutcome stripe_outcome(const StripeEvent *event);
extern const char *stripe_read_event(Jsonb *payload, StripeEvent *event);
extern int	stripe_compare(const ListCell *a, const ListCell *b);

/* invoice_facts.c */
extern void stripe_add_lines(JsonObject *json, JsonbContainer *lines);

/* erased.c */
extern void stripe_forget_person(StripeEvent *event);

/* inbox.c */
extern void stripe_lock_tables(const char *function);
NORETURN_COMPAT extern void stripe_raise_changed(const char *subject);
extern char *stripe_lock(const char *subject);
extern List *stripe_read_events(const char *subject);
extern List *stripe_read_events_at(const char *subject, TimestampTz created);
extern bool stripe_find_result(const char *id, EventResult *result);
extern bool stripe_keep_event(const StripeEvent *event, EventResult result,
							  Jsonb *detail);
extern void stripe_write_subject(const char *subject, const char *was_waiting,
								 char *waiting);

/* maps.c */
extern char *stripe_text_of(const SqlResult *result, uint64 row);
extern List *stripe_find_invoices(const char *payment);
extern void stripe_add_link(const char *payment, const char *invoice);
extern bool stripe_knows_customer(const char *customer);
extern void stripe_add_customer(const char *customer, int64 account_id,
								bool learned);

/* payments.c */
extern Datum stripe_money(int64 amount, const char *currency);
extern text *stripe_currency(const char *currency);
extern void stripe_apply_payment(const char *subject, List *events,
								 StripeOutcome *outcome);

/* subscriptions.c */
typedef struct Fold Fold;
extern void stripe_apply_subscription(Fold *fold,
									  const StripeEvent *event,
									  StripeOutcome *outcome);

#pragma GCC visibility pop

#endif							/* CREDITS_STRIPE_STRIPE_H */
