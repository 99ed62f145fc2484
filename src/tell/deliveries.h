/*
 * deliveries.h
 *	  Deliveries: what people are to be told.
 */
#ifndef CREDITS_TELL_DELIVERIES_H
#define CREDITS_TELL_DELIVERIES_H

#include "base/channels.h"
#include "ledger/ledger.h"

#pragma GCC visibility push(hidden)

typedef enum DeliveryStatus
{
	DELIVERY_UNKNOWN = -1,		/* somebody has modified the table */
	DELIVERY_WAITING,
	DELIVERY_SENT,
	DELIVERY_DEAD,
	DELIVERY_CANCELED,
	DELIVERY_EXPIRED
} DeliveryStatus;

/* A row of credits.deliveries */
typedef struct Delivery
{
	ItemPointerData tid;
	int64		id;
	int64		event_id;
	int64		account_id;
	int64		contact_id;
	int64		template_id;	/* -1 until it is first rendered; 0 if the
								 * template came with the extension */
	TimestampTz event_at;
	TimestampTz waiting_since;	/* event_at, or when it was replayed */
	TimestampTz due_at;
	TimestampTz ended_at;		/* 0 if it is waiting */
	int64		lease;			/* 0 if nobody holds it */
	int32		attempts;
	Channel		channel;
	DeliveryStatus status;
	char	   *kind;
	char	   *message_id;
	char	   *level;			/* NULL if the event is no alert at a level */
	char	   *error;			/* NULL if it never failed */
} Delivery;

extern StoreTable deliveries_table;
extern StoreIndex deliveries_by_id;
extern StoreIndex deliveries_by_event_id;
extern StoreIndex deliveries_by_due_at;
extern StoreIndex deliveries_by_level;

extern void deliveries_end(Delivery *delivery, DeliveryStatus status,
						   const char *error);
extern void deliveries_put_off(Delivery *delivery, TimestampTz now,
							   const char *error);
extern void deliveries_fail(Delivery *delivery, const char *error, int len,
							bool permanent);

#pragma GCC visibility pop

#endif							/* CREDITS_TELL_DELIVERIES_H */
