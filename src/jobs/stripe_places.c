/*
 * stripe_places.c
 *	  Where something is held about a person: what Stripe has sent.
 *
 * Ids of payments, invoices and subscriptions stay: they name nobody outside of Stripe,
 * and what Stripe says later about them must be found to be about them.  Of a customer's
 * id a digest stays, by which what it still sends about him is recognised, see
 * src/stripe/erased.c.
 *
 * The events are examined one after the other, since most kinds of them have no index
 * by customer.
 */
#include "credits.h"

#include "jobs/places.h"

#define IDS "an id of Stripe's, a number, or a time: what Stripe says later is found by it"

/* Stripe's ids of what is the account's */
#define OWN_IDS "s AS MATERIALIZED (SELECT i.id FROM credits.stripe_ids_of($1) AS i (id))"

/* the next rows of a table by its key, after the position */
#define NEXT_KEYS(table, key) \
	"b AS MATERIALIZED (SELECT x." key " AS id FROM " table " AS x" \
	" WHERE x." key " > COALESCE($5, '') ORDER BY x." key " LIMIT $6)"

#define RETURN_COUNT \
	" SELECT (SELECT count(*) FROM changed)," \
	" (SELECT CASE WHEN count(*) = $6 THEN max(b.id) END FROM b)"

/* the customer whom an event is about */
#define CUSTOMER_OF(event) \
	"COALESCE(" event ".facts ->> 'customer'," \
	" CASE WHEN " event ".object_id LIKE 'cus\\_%' THEN " event ".object_id END," \
	" " event ".payload #>> '{data,object,customer,id}'," \
	" " event ".payload #>> '{data,object,customer}')"

#define IS_CUSTOMER(customer) \
	"(SELECT true FROM credits.stripe_customers AS c WHERE c.account_id = $1" \
	" AND c.id IN (" customer ", credits.erased_customer(" customer ")))"

#define IS_ABOUT(event, name) \
	"(" event ".subject IN (SELECT s.id FROM s) OR " event ".object_id IN (SELECT s.id FROM s)" \
	" OR " name " IN (" event ".facts ->> 'account', " event ".facts ->> 'reference')" \
	" OR " IS_CUSTOMER(CUSTOMER_OF(event)) ")"

Place		stripe_places[] = {
	{
		.table = "stripe_events",
		.erased = "object_id detail facts payload body",
		.kept = "id type subject created received_at api_version livemode result",
		.reason = IDS,
		EXPORTS("WITH " OWN_IDS
				" SELECT to_jsonb(v) - 'body' || jsonb_build_object('body', convert_from(v.body, 'UTF8'))"
				" FROM credits.stripe_events AS v WHERE " IS_ABOUT("v", "$2")),
		.steps = {
			ERASES("WITH " OWN_IDS ", " NEXT_KEYS("credits.stripe_events", "id") ","
				   " e AS MATERIALIZED (SELECT v.id,"
				   " credits.erased_facts(v.facts, $1, $3) AS facts,"
				   " credits.renamed(v.detail, $2, $3) AS detail,"
				   " CASE WHEN v.object_id LIKE 'cus\\_%' THEN NULL ELSE v.object_id END AS object_id"
				   " FROM credits.stripe_events AS v"
				   " WHERE v.id IN (SELECT b.id FROM b) AND " IS_ABOUT("v", "$2") "),"
				   " changed AS (UPDATE credits.stripe_events AS v"
				   " SET payload = NULL, body = NULL, facts = e.facts, detail = e.detail, object_id = e.object_id"
				   " FROM e WHERE v.id = e.id AND (v.payload IS NOT NULL OR v.body IS NOT NULL"
				   " OR (v.facts, v.detail, v.object_id) IS DISTINCT FROM (e.facts, e.detail, e.object_id))"
				   " RETURNING 1)"
				   RETURN_COUNT)
		}
	},
	{
		.table = "stripe_subscriptions",
		.erased = "account customer facts",
		.kept = "subscription subscription_id account_near account_at deleted paid as_of as_rank"
		" as_event plan_id anchors trials",
		.reason = IDS,
		EXPORTS("SELECT to_jsonb(y) FROM credits.stripe_subscriptions AS y WHERE y.account = $2"
				" OR y.subscription_id IN (SELECT s.id FROM credits.subscriptions AS s WHERE s.account_id = $1)"
				" OR " IS_CUSTOMER("y.customer")),
		.steps = {
			ERASES("WITH " NEXT_KEYS("credits.stripe_subscriptions", "subscription") ","
				   " changed AS (UPDATE credits.stripe_subscriptions AS y SET account = $3,"
				   " customer = credits.erased_customer(y.customer),"
				   " facts = credits.erased_facts(y.facts, $1, $3)"
				   " WHERE y.subscription IN (SELECT b.id FROM b) AND (y.account = $2"
				   " OR y.subscription_id IN (SELECT s.id FROM credits.subscriptions AS s WHERE s.account_id = $1)"
				   " OR " IS_CUSTOMER("y.customer") ")"
				   " AND (y.account, y.customer) IS DISTINCT FROM ($3, credits.erased_customer(y.customer))"
				   " RETURNING 1)"
				   RETURN_COUNT)
		}
	},
	{
		.table = "stripe_other_invoices",
		.erased = "facts",
		.kept = "invoice paid as_of as_rank as_event",
		.reason = IDS,
		EXPORTS("WITH " OWN_IDS " SELECT to_jsonb(o) FROM credits.stripe_other_invoices AS o"
				" WHERE o.invoice IN (SELECT s.id FROM s) OR o.facts ->> 'account' = $2"
				" OR " IS_CUSTOMER("o.facts ->> 'customer'")),
		.steps = {
			ERASES("WITH " OWN_IDS ", " NEXT_KEYS("credits.stripe_other_invoices", "invoice") ","
				   " changed AS (UPDATE credits.stripe_other_invoices AS o"
				   " SET facts = credits.erased_facts(o.facts, $1, $3)"
				   " WHERE o.invoice IN (SELECT b.id FROM b)"
				   " AND (o.invoice IN (SELECT s.id FROM s) OR o.facts ->> 'account' = $2"
				   " OR " IS_CUSTOMER("o.facts ->> 'customer'") ")"
				   " AND o.facts <> credits.erased_facts(o.facts, $1, $3) RETURNING 1)"
				   RETURN_COUNT)
		}
	},
	{
		.table = "stripe_subjects",
		.erased = "waiting",
		.kept = "subject",
		.reason = IDS,
		EXPORTS("SELECT to_jsonb(j) FROM credits.stripe_ids_of($1) AS i (id)"
				" JOIN credits.stripe_subjects AS j ON j.subject = i.id"),
		/* what waits for an account has its name */
		.steps = {
			ERASES("WITH b AS MATERIALIZED (SELECT j.subject AS id FROM credits.stripe_subjects AS j"
				   " WHERE j.waiting IS NOT NULL AND j.subject > COALESCE($5, '')"
				   " ORDER BY j.subject LIMIT $6),"
				   " changed AS (UPDATE credits.stripe_subjects AS j"
				   " SET waiting = replace(j.waiting, '\"' || $2 || '\"', '\"' || $3 || '\"')"
				   " WHERE j.subject IN (SELECT b.id FROM b)"
				   " AND strpos(j.waiting, '\"' || $2 || '\"') > 0 RETURNING 1)"
				   RETURN_COUNT)
		}
	},
	{
		.table = "stripe_dismissals",
		.erased = "reason",
		.kept = "subject what created_at role",
		.reason = IDS,
		EXPORTS("SELECT to_jsonb(d) FROM credits.stripe_ids_of($1) AS i (id)"
				" JOIN credits.stripe_dismissals AS d ON d.subject = i.id"),
		.steps = {
			ERASES("WITH changed AS (UPDATE credits.stripe_dismissals AS d SET reason = 'erased'"
				   " WHERE d.subject IN (SELECT i.id FROM credits.stripe_ids_of($1) AS i (id))"
				   " AND d.reason <> 'erased' RETURNING 1)"
				   " SELECT count(*), NULL::text FROM changed")
		}
	},
	{
		/* the last, because the others are found by it */
		.table = "stripe_customers",
		.erased = "id",
		.kept = "account_id learned created_at",
		.reason = "that the customer was erased, which is recognised by a digest of the id",
		EXPORTS("SELECT to_jsonb(c) FROM credits.stripe_customers AS c WHERE c.account_id = $1"),
		.steps = {
			ERASES("WITH changed AS (UPDATE credits.stripe_customers AS c"
				   " SET id = credits.erased_customer(c.id)"
				   " WHERE c.account_id = $1 AND c.id NOT LIKE 'erased:%' RETURNING 1)"
				   " SELECT count(*), NULL::text FROM changed")
		}
	},
	{.table = NULL}
};
