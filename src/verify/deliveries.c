/*
 * deliveries.c
 *	  credits_verify: deliveries.
 *
 * A delivery repeats of its event what it needs after that was deleted, and the id of
 * its message follows from the event and the contact: whoever has made it again, as
 * after a restore, must have made the same.
 */
#include "credits.h"

#include "ledger/ledger.h"
#include "tell/deliveries.h"
#include "tell/expand.h"
#include "verify/verify.h"

#include "utils/snapmgr.h"

/*
 * Returns what is wrong with a delivery, NULL if it is right.
 */
static const char *
problem_of(const Delivery *delivery)
{
	Event		event;

	if (delivery->status == DELIVERY_UNKNOWN || delivery->channel == CHANNEL_UNKNOWN)
		return "has an unknown status or channel";
	if (!scan_find(NULL, &events_by_id, GetActiveSnapshot(), &event,
				   BY_INT64(delivery->event_id)))
		return delivery->status == DELIVERY_WAITING ?
			"is waiting, but its event is missing" : NULL;
	if (event.account_id != delivery->account_id)
		return "is for another account than its event";
	if (strcmp(event.kind, delivery->kind) != 0 ||
		event.created_at != delivery->event_at)
		return "has another kind or time than its event";
	if (strcmp(expand_message_id(&event, delivery->contact_id),
			   delivery->message_id) != 0)
		return "has another message id than follows from its event and contact";
	return NULL;
}

/*
 * Reports a delivery that does not agree with its event.
 */
static void
check_delivery(Verification *v, TupleTableSlot *slot)
{
	Delivery	delivery;
	Account		account;
	const char *problem;

	codec_read(&deliveries_table, slot, &delivery);
	problem = problem_of(&delivery);
	if (problem == NULL)
		return;
	v->name = scan_find(NULL, &accounts_by_id, GetActiveSnapshot(), &account,
						BY_INT64(delivery.account_id)) ? account.name : NULL;
	verify_report(v, 0, "delivery",
				  psprintf("delivery " INT64_FORMAT " of event " INT64_FORMAT " %s",
						   delivery.id, delivery.event_id, problem));
	v->name = NULL;
}

/*
 * Checks all deliveries.
 */
void
verify_all_deliveries(Verification *v)
{
	verify_each(v, &deliveries_by_event_id, check_delivery);
}
