/*
 * erased.c
 *	  What Stripe sends about a person who was erased.
 *
 * Stripe goes on to send events about him: a refund, the end of a subscription, or a
 * customer that is deleted there.  What counts of them is kept and applied as ever, under
 * the name that the account has now, but no payload, and nothing that names him.
 *
 * He is recognised by the digest of the customer's id, or by a payment, a purchase or a
 * subscription of his.  If he comes back, with an account of another id, what pays for a purchase of
 * that is not about who was erased, nor what a customer does that is mapped to it.
 *
 * Tested in test/sql/privacy.sql.
 */
#include "credits.h"

#include "store/statements.h"
#include "stripe/stripe.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"

static SqlStatement find_erased = {
	.text = "WITH c AS (SELECT COALESCE($1 #>> '{data,object,customer,id}',"
	" $1 #>> '{data,object,customer}',"
	" CASE WHEN $2 LIKE 'cus\\_%' THEN $2 END) AS id),"
	" a AS (SELECT x.account_id FROM c JOIN credits.stripe_customers AS x"
	" ON x.id IN (c.id, credits.erased_customer(c.id))"
	" UNION ALL SELECT p.account_id FROM credits.purchases AS p WHERE p.payment_reference = $3"
	" UNION ALL SELECT p.account_id FROM credits.stripe_links AS l"
	" JOIN credits.purchases AS p ON p.payment_reference = l.invoice WHERE l.payment = $3"
	" UNION ALL SELECT p.account_id FROM credits.purchases AS p"
	" WHERE p.reference IN ('purchase_' || ($4 ->> 'purchase_id'), $4 ->> 'reference')"
	" UNION ALL SELECT s.account_id FROM credits.subscriptions AS s WHERE s.external_id = $3)"
	" SELECT credits.erased_facts($4, n.id, n.name) FROM a"
	" JOIN credits.erasures AS e ON e.account_id = a.account_id"
	" JOIN credits.accounts AS n ON n.id = e.account_id"
	" WHERE NOT EXISTS (SELECT FROM credits.purchases AS p"
	" WHERE p.reference IN ('purchase_' || ($4 ->> 'purchase_id'), $4 ->> 'reference')"
	" AND NOT EXISTS (SELECT FROM credits.erasures AS o WHERE o.account_id = p.account_id))"
	" AND NOT EXISTS (SELECT FROM c JOIN credits.stripe_customers AS x ON x.id = c.id"
	" WHERE NOT EXISTS (SELECT FROM credits.erasures AS o WHERE o.account_id = x.account_id))"
	" LIMIT 1",
	.types = (const Oid[]) {JSONBOID, TEXTOID, TEXTOID, JSONBOID, InvalidOid}
};

/*
 * Removes from an event what names a person, if it is about one who was erased.
 */
void
stripe_forget_person(StripeEvent *event)
{
	Datum		values[4];
	bool		isnull[4] = {false, event->object_id == NULL, event->subject == NULL, event->facts == NULL};
	SqlResult  *result;
	Datum		facts;
	bool		none;

	values[0] = JsonbPGetDatum(event->payload);
	values[1] = isnull[1] ? (Datum) 0 : CStringGetTextDatum(event->object_id);
	values[2] = isnull[2] ? (Datum) 0 : CStringGetTextDatum(event->subject);
	values[3] = isnull[3] ? (Datum) 0 : JsonbPGetDatum(event->facts);
	result = statements_run(&find_erased, values, isnull);
	if (result->nrows == 0)
		return;
	facts = statements_value(result, 0, 1, &none);
	event->facts = none ? NULL : DatumGetJsonbP(facts);
	event->payload = NULL;
	event->body = NULL;
	if (event->object_id && strncmp(event->object_id, "cus_", 4) == 0)
		event->object_id = NULL;
}
