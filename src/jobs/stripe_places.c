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
	" OR (" name " IN (" event ".facts ->> 'account', " event ".facts ->> 'reference')" \
	" AND NOT EXISTS (SELECT FROM credits.accounts AS n" \
	" WHERE n.name = " name " AND n.id <> $1 AND n.created_at <= " event ".received_at))" \
	" OR " IS_CUSTOMER(CUSTOMER_OF(event)) ")"

/* by the events of a subject that has no account */
#define SUBJECT_IS_ABOUT(row) \
	"EXISTS (SELECT FROM credits.stripe_events AS v WHERE v.subject = " row ".subject" \
	" AND " IS_ABOUT("v", "$2") ")"

Place		stripe_places[] = {
	{
		.table = "stripe_subjects",
		.erased = "waiting",
		.kept = "subject",
		.reason = IDS,
		EXPORTS("WITH " OWN_IDS " SELECT to_jsonb(j) FROM credits.stripe_subjects AS j"
				" WHERE j.subject IN (SELECT s.id FROM s) OR j.waiting IS NOT NULL AND " SUBJECT_IS_ABOUT("j")),
		/* what is missing may be an account, or a purchase, by its name */
		.steps = {
			ERASES("WITH " OWN_IDS ","
				   " b AS MATERIALIZED (SELECT j.subject AS id FROM credits.stripe_subjects AS j"
				   " WHERE j.waiting IS NOT NULL AND j.subject > COALESCE($5, '')"
				   " ORDER BY j.subject LIMIT $6),"
				   " changed AS (UPDATE credits.stripe_subjects AS j SET waiting = 'erased'"
				   " WHERE j.subject IN (SELECT b.id FROM b) AND j.waiting <> 'erased'"
				   " AND (j.subject IN (SELECT s.id FROM s) OR " SUBJECT_IS_ABOUT("j")
				   " OR strpos(j.waiting, '\"' || $2 || '\"') > 0) RETURNING 1)"
				   RETURN_COUNT)
		}
	},
	{
		.table = "stripe_dismissals",
		.erased = "reason",
		.kept = "subject what created_at role",
		.reason = IDS,
		EXPORTS("WITH " OWN_IDS " SELECT to_jsonb(d) FROM credits.stripe_dismissals AS d"
				" WHERE d.subject IN (SELECT s.id FROM s) OR " SUBJECT_IS_ABOUT("d")),
		.steps = {
			ERASES("WITH " OWN_IDS ", " NEXT_KEYS("credits.stripe_dismissals", "subject") ","
				   " changed AS (UPDATE credits.stripe_dismissals AS d SET reason = 'erased'"
				   " WHERE d.subject IN (SELECT b.id FROM b) AND d.reason <> 'erased'"
				   " AND (d.subject IN (SELECT s.id FROM s) OR " SUBJECT_IS_ABOUT("d") ") RETURNING 1)"
				   RETURN_COUNT)
		}
	},
	{
		.table = "stripe_events",
		.erased = "object_id detail facts payload body",
		.kept = "id type subject created received_at api_version livemode result",
		.reason = IDS,
		EXPORTS("WITH " OWN_IDS
				" SELECT to_jsonb(v) - 'body' || jsonb_build_object('body', convert_from(v.body, 'UTF8'))"
				" FROM credits.stripe_events AS v WHERE " IS_ABOUT("v", "$2")),
		.steps = {
			/*
			 * what our own events say that was missing, by the ids of those
			 * that lacked it
			 */
			ERASES("WITH " OWN_IDS ", r AS MATERIALIZED ("
				   "SELECT COALESCE($5::bigint, (SELECT min(x.id) - 1 FROM credits.events AS x)) AS from_id,"
				   " (SELECT max(x.id) FROM credits.events AS x) AS until_id, $6 * 50::bigint AS n),"
				   " changed AS (UPDATE credits.events AS e SET detail = e.detail - 'missing'"
				   " FROM r, credits.stripe_events AS v WHERE e.id > r.from_id AND e.id <= r.from_id + r.n"
				   " AND e.detail ? 'missing'"
				   " AND v.id = e.detail ->> 'event_id' AND " IS_ABOUT("v", "$2") " RETURNING 1)"
				   " SELECT (SELECT count(*) FROM changed),"
				   " (SELECT CASE WHEN r.from_id + r.n < r.until_id THEN (r.from_id + r.n)::text END FROM r)"),
			ERASES("WITH " OWN_IDS ", " NEXT_KEYS("credits.stripe_events", "id") ","
				   " e AS MATERIALIZED (SELECT v.id,"
				   " credits.erased_facts(v.facts, $1, $3) AS facts,"
				   " credits.renamed(v.detail - 'missing', $2, $3) AS detail,"
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
		" as_event plan_id anchors trials awaited_invoice awaited_since",
		.reason = IDS,
		EXPORTS("SELECT to_jsonb(y) FROM credits.stripe_subscriptions AS y WHERE y.account = $2"
				" OR y.subscription_id IN (SELECT s.id FROM credits.subscriptions AS s WHERE s.account_id = $1)"
				" OR " IS_CUSTOMER("y.customer")),
		.steps = {
			ERASES("WITH " NEXT_KEYS("credits.stripe_subscriptions", "subscription") ","
				   " changed AS (UPDATE credits.stripe_subscriptions AS y SET account = $3,"
				   " customer = credits.erased_customer(y.customer),"
				   " facts = credits.erased_facts(y.facts, $1, $3)"
				   " WHERE y.subscription IN (SELECT b.id FROM b) AND (y.account = $2 AND NOT EXISTS (SELECT FROM credits.accounts AS n"
				   " WHERE n.name = $2 AND n.created_at <= y.account_at)"
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
		/* the last, because the others are found by it */
		.table = "stripe_customers",
		.erased = "id",
		.kept = "account_id learned created_at",
		.reason = "that the customer was erased, which is recognised by a digest of the id",
		EXPORTS("SELECT to_jsonb(c) FROM credits.stripe_customers AS c WHERE c.account_id = $1"),
		.steps = {
			/*
			 * if the same customer was erased before with another account,
			 * the digest is this one's now
			 */
			ERASES("WITH b AS MATERIALIZED (SELECT c.id, credits.erased_customer(c.id) AS digest"
				   " FROM credits.stripe_customers AS c"
				   " WHERE c.account_id = $1 AND c.id <> credits.erased_customer(c.id)),"
				   " gone AS (DELETE FROM credits.stripe_customers AS c USING b"
				   " WHERE c.id = b.digest RETURNING 1),"
				   " changed AS (UPDATE credits.stripe_customers AS c SET id = b.digest"
				   " FROM b CROSS JOIN (SELECT count(*) FROM gone) AS first"
				   " WHERE c.id = b.id RETURNING 1)"
				   " SELECT count(*), NULL::text FROM changed")
		}
	},
	{.table = NULL}
};
