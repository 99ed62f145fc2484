/*
 * plain_places.c
 *	  The tables in which nothing is held about a person, and why.
 */
#include "credits.h"

#include "jobs/places.h"

#define STRIPE "ids of Stripe's objects other than customers, and sums of money: what is paid is computed from them"

#define PLAIN(name, columns, why) {.table = name, .erased = "", .kept = columns, .reason = why}

Place		plain_places[] = {
	PLAIN("roles", "id name", "names of database roles"),
	PLAIN("service_pause", "id reason until operations kinds paused_at role actor",
		  "when administrators had spending stopped, and why"),
	PLAIN("archives", "until_id from_id before begun_at done_account_id ended_at",
		  "closings of the books of all accounts"),
	PLAIN("carried_rows", "id until_id previous hash", "ids and hashes"),
	PLAIN("event_order", "event_id xid system", "ids, which are deleted with their events"),
	PLAIN("consumers", "name safe_id created_at role", "readers of events: programs"),
	PLAIN("consumer_positions",
		  "consumer system origin version snapshot next_xid last_id batch_snapshot"
		  " batch_next_xid batch_last_id read_id mark_xid mark_id acknowledged_at",
		  "how far programs have read"),
	PLAIN("activity_position",
		  "one safe_id refused_at again_id again_at last_id last_at since system mark_id"
		  " mark_xid mark_at",
		  "how far a job has read"),
	PLAIN("activity_rules",
		  "name kind threshold span minimum baseline pauses enabled set_at role",
		  "rules for all accounts"),
	PLAIN("unsubscribe_secrets", "id secret created_at", "secrets for the links of all accounts"),
	PLAIN("templates", "id kind channel locale version subject body html created_at role",
		  "what all accounts are told"),
	PLAIN("operations",
		  "id name base_cost unit_cost unit_name included_units rounding minimum active_from"
		  " active_until created_at role",
		  "the catalog"),
	PLAIN("plans",
		  "id name version unit credits period every price currency rollover rollover_maximum"
		  " rollover_share rollover_minimum rollover_periods rollover_total rollover_again"
		  " priority trial trial_credits catch_up grace features retired created_at role",
		  "the catalog"),
	PLAIN("packages",
		  "id name credits price currency unit expires_in priority extras active_from"
		  " active_until metadata created_at role",
		  "the catalog"),
	PLAIN("unit_prices", "id unit currency price active_from active_until created_at role",
		  "the catalog"),
	PLAIN("volume_discounts",
		  "id unit currency from_credits percents active_from created_at role",
		  "the catalog"),
	PLAIN("promotions",
		  "id name kind value currency expires_in plans per_account max_uses active_from"
		  " active_until created_at role",
		  "the catalog"),
	PLAIN("promotion_totals", "promotion uses", "totals over all accounts"),
	PLAIN("reward_programs",
		  "id name kind amounts expires_in grace_days timezone per_account budget metadata"
		  " active_from active_until created_at role",
		  "the catalog"),
	PLAIN("reward_totals", "program given", "totals over all accounts"),
	PLAIN("warnings", "kind lead reached_at reached_id", "how far a job has come"),
	PLAIN("schedules", "job role database schedule scheduled_at", "schedules of jobs"),
	PLAIN("stripe_secrets", "name secret created_at role", "secrets of Stripe's endpoints"),
	PLAIN("stripe_price_versions", "id price plan package upgrade give created_at role",
		  "the catalog"),
	PLAIN("stripe_items", "subscription item price version_id plan_id", STRIPE),
	PLAIN("stripe_links", "payment invoice", STRIPE),
	PLAIN("stripe_payments", "payment currency refunded disputed detail", STRIPE),
	PLAIN("stripe_credit_notes",
		  "credit_note invoice voided custom lines refunds as_of as_rank as_event", STRIPE),
	PLAIN("stripe_invoices",
		  "invoice subscription status total amount_paid currency finalized_at paid_at complete"
		  " completed as_of as_rank as_event",
		  STRIPE),
	PLAIN("stripe_lines",
		  "key subscription invoice line starts_at ends_at amount discount currency quantity"
		  " priced price plan product item negative proration metered billed deleted as_of"
		  " as_rank as_event problem uncertain",
		  STRIPE),
	{.table = NULL}
};
