/*
 * audit.h
 *	  The audit: who changed what is set, and who moved credits by hand.
 */
#ifndef CREDITS_LEDGER_AUDIT_H
#define CREDITS_LEDGER_AUDIT_H

#include "ledger/posting.h"

#pragma GCC visibility push(hidden)

/* What a row is about */
typedef enum AuditTopic
{
	AUDIT_UNKNOWN = -1,			/* somebody has modified the table */
	/* credits that were moved, named like the kind of transaction */
	AUDIT_ADJUSTMENT,
	AUDIT_ALLOCATION,
	AUDIT_REFUND,
	AUDIT_VOID,
	/* what is set */
	AUDIT_ACCOUNT,
	AUDIT_ACTIVITY_RULE,
	AUDIT_ALERTS,
	AUDIT_CONSUMER,
	AUDIT_LIMITS,
	AUDIT_MEMBERSHIP,
	AUDIT_OFFER,
	AUDIT_OPERATION,
	AUDIT_PACKAGE,
	AUDIT_PLAN,
	AUDIT_PROMO_CODE,
	AUDIT_PROMOTION,
	AUDIT_REWARD_PROGRAM,
	AUDIT_SCHEDULE,
	AUDIT_SERVICE_PAUSE,
	AUDIT_STRIPE_PRICE,
	AUDIT_STRIPE_SECRET,
	AUDIT_TEMPLATE,
	AUDIT_UNIT_PRICE,
	AUDIT_UNSUBSCRIBE_SECRET,
	AUDIT_VOLUME_DISCOUNT
} AuditTopic;

/* A row of credits.audit_log */
typedef struct AuditRow
{
	ItemPointerData tid;
	int64		id;
	TimestampTz at;
	int64		account_id;		/* 0 if it is about none */
	int64		transaction_id; /* row of the log, 0 if there is none */
	bool		moved;			/* did it move credits? */
	int64		amount;			/* if so, by how much the balance changed */
	AuditTopic	topic;
	text	   *name;			/* of what was changed, NULL if it has none */
	text	   *role;
	text	   *actor;			/* NULL if the log has it */
	Jsonb	   *old_values;
	Jsonb	   *new_values;
} AuditRow;

extern StoreTable audit_table;
extern const char *const audit_topic_names[AUDIT_VOLUME_DISCOUNT + 1];
extern void audit_add(AuditTopic topic, text *name, int64 account_id,
					  Jsonb *old, Jsonb *new);
extern void audit_setting(Posting *posting, AuditTopic topic, text *name,
						  int64 account_id, Jsonb *old, Jsonb *new);
extern void audit_moved(Posting *posting, const Entry *entry, AuditTopic topic);

#pragma GCC visibility pop

#endif							/* CREDITS_LEDGER_AUDIT_H */
