/*
 * facts.h
 *	  What facts.c and invoice_facts.c offer each other.
 */
#ifndef CREDITS_STRIPE_FACTS_H
#define CREDITS_STRIPE_FACTS_H

#include "stripe/stripe.h"

#pragma GCC visibility push(hidden)

/* the key of facts that leave a number out, since it is no int64 */
#define OUT_OF_RANGE "out_of_range"

/* What follows from the type of an event alone */
typedef struct EventType
{
	const char *name;
	FactKind	kind;
	int			rank;			/* orders events of the same second */
	FactOutcome outcome;		/* of a session or an invoice */
	bool		deleted;		/* is the object over, deleted or voided? */
	bool		reinstated;		/* was the dispute's money given back? */
} EventType;

/* reading */
extern JsonbContainer *facts_array(JsonbContainer *object, const char *path);
extern JsonbContainer *facts_element(JsonbContainer *array, uint32 i);
extern char *facts_either(JsonbContainer *object, const char *path,
						  const char *other);

/* writing */
extern bool facts_is_id(const char *value);
extern void facts_add(JsonObject *json, const char *key, const char *value);
extern void facts_add_array(JsonObject *json, const char *key,
							const JsonArray *array);
extern void facts_copy_text(JsonObject *json, const char *key,
							JsonbContainer *object, const char *path);
extern bool facts_int64(JsonObject *json, JsonbContainer *object,
						const char *path, int64 *number);
extern bool facts_out_of_range(JsonbContainer *facts);
extern void facts_copy_int64(JsonObject *json, const char *key,
							 JsonbContainer *object, const char *path);

/* invoice_facts.c */
extern bool invoice_facts_is_metered(JsonbContainer *line);

/* each returns the subject, NULL if the object is none of ours */
extern char *invoice_facts_read(JsonObject *json, JsonbContainer *o, char *id,
								const EventType *type);
extern char *invoice_facts_read_item(JsonObject *json, JsonbContainer *o,
									 const EventType *type);
extern char *invoice_facts_read_credit_note(JsonObject *json, JsonbContainer *o,
											const EventType *type);

#pragma GCC visibility pop

#endif							/* CREDITS_STRIPE_FACTS_H */
