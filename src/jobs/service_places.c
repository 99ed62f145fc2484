/*
 * service_places.c
 *	  Where something is held about a person: events, messages, codes, subscriptions and
 *	  purchases.
 */
#include "credits.h"

#include "jobs/places.h"

#define NUMBERS "an id, a number, a time, or a name from the catalog: sums need it"

/*
 * What a statement returns that works on the rows of b, which are the next ones by their
 * column id: how many rows it has changed, and the position.
 */
#define RETURN_COUNT(changed) \
	" SELECT (SELECT count(*) FROM " changed ")," \
	" (SELECT CASE WHEN count(*) = $6 THEN max(b.id)::text END FROM b)"

/* the ids in a table that are examined in a batch, where there is no index to use */
#define ID_RANGE(table) \
	"r AS MATERIALIZED (SELECT COALESCE($5::bigint, (SELECT min(x.id) - 1 FROM " table " AS x)) AS from_id," \
	" (SELECT max(x.id) FROM " table " AS x) AS until_id, $6 * 50::bigint AS n)"

#define RETURN_RANGE(changed) \
	" SELECT (SELECT count(*) FROM " changed ")," \
	" (SELECT CASE WHEN r.from_id + r.n < r.until_id THEN (r.from_id + r.n)::text END FROM r)"

Place		service_places[] = {
	{
		.table = "events",
		.erased = "detail",
		.kept = "id account_id transaction_id created_at kind",
		.reason = "those of the person are deleted; of others, an id, a time or a kind stays",
		EXPORTS("SELECT to_jsonb(e) FROM credits.events AS e WHERE e.account_id = $1"),
		.steps = {
			/* those of the person, read or not, with their deliveries */
			ERASES("WITH b AS MATERIALIZED (SELECT e.id FROM credits.events AS e"
				   " WHERE e.account_id = $1 AND e.id > COALESCE($5::bigint, 0)"
				   " AND e.kind NOT IN ('person_erased', 'text_erased') ORDER BY e.id LIMIT $6),"
				   " d AS (DELETE FROM credits.deliveries WHERE event_id IN (SELECT b.id FROM b)),"
				   " o AS (DELETE FROM credits.event_order WHERE event_id IN (SELECT b.id FROM b)),"
				   " gone AS (DELETE FROM credits.events WHERE id IN (SELECT b.id FROM b) RETURNING 1)"
				   RETURN_COUNT("gone")),

			/*
			 * where those of others have the name: as a pool's, or in a
			 * message
			 */
			ERASES("WITH " ID_RANGE("credits.events") ","
				   " changed AS (UPDATE credits.events AS e SET detail = credits.renamed(e.detail, $2, $3)"
				   " FROM r WHERE e.id > r.from_id AND e.id <= r.from_id + r.n"
			/* not what is about another account that has the name now */
				   " AND NOT EXISTS (SELECT FROM credits.accounts AS n"
				   " WHERE n.name = $2 AND n.created_at <= e.created_at)"
				   " AND strpos(e.detail::text, left(right(to_json($2)::text, -1), -1)) > 0"
				   " AND credits.renamed(e.detail, $2, $3) <> e.detail RETURNING 1)"
				   RETURN_RANGE("changed"))
		}
	},
	{
		.table = "deliveries",
		.erased = "id event_id account_id contact_id template_id event_at waiting_since due_at"
		" ended_at lease attempts channel status kind message_id level error",
		.kept = "",
		.reason = "",
		EXPORTS("SELECT to_jsonb(d) FROM credits.events AS e"
				" JOIN credits.deliveries AS d ON d.event_id = e.id WHERE e.account_id = $1"),

		/*
		 * most went with their events: what was made meanwhile, or had none
		 * any more
		 */
		.steps = {
			ERASES("WITH " ID_RANGE("credits.deliveries") ","
				   " gone AS (DELETE FROM credits.deliveries AS d USING r"
				   " WHERE d.id > r.from_id AND d.id <= r.from_id + r.n AND d.account_id = $1 RETURNING 1)"
				   RETURN_RANGE("gone"))
		}
	},
	{
		.table = "contacts",
		.erased = "id account_id channel address verified locale created_at changed_at"
		" disabled_at role",
		.kept = "",
		.reason = "",
		EXPORTS("SELECT to_jsonb(c) FROM credits.contacts AS c WHERE c.account_id = $1"),
		.steps = {
			ERASES("WITH b AS MATERIALIZED (SELECT c.id FROM credits.contacts AS c"
				   " WHERE c.account_id = $1 ORDER BY c.id LIMIT $6),"
				   " s AS (DELETE FROM credits.webhook_secrets WHERE contact_id IN (SELECT b.id FROM b)),"
				   " gone AS (DELETE FROM credits.contacts WHERE id IN (SELECT b.id FROM b) RETURNING 1)"
				   RETURN_COUNT("gone"))
		}
	},
	{
		.table = "webhook_secrets",
		.erased = "id contact_id secret created_at expires_at",
		.kept = "",
		.reason = "",
		/* a secret is not shown to anybody, and is deleted with its contact */
		EXPORTS("SELECT to_jsonb(s) - 'secret' FROM credits.contacts AS c"
				" JOIN credits.webhook_secrets AS s ON s.contact_id = c.id WHERE c.account_id = $1")
	},
	{
		.table = "preferences",
		.erased = "account_id kind channel enabled changed_at role",
		.kept = "",
		.reason = "",
		EXPORTS("SELECT to_jsonb(p) FROM credits.preferences AS p WHERE p.account_id = $1"),
		.steps = {
			ERASES("WITH gone AS (DELETE FROM credits.preferences WHERE account_id = $1 RETURNING 1)"
				   " SELECT count(*), NULL::text FROM gone")
		}
	},
	{
		.table = "quiet_hours",
		.erased = "account_id quiet_from quiet_until timezone changed_at role",
		.kept = "",
		.reason = "",
		EXPORTS("SELECT to_jsonb(q) FROM credits.quiet_hours AS q WHERE q.account_id = $1"),
		.steps = {
			ERASES("WITH gone AS (DELETE FROM credits.quiet_hours WHERE account_id = $1 RETURNING 1)"
				   " SELECT count(*), NULL::text FROM gone")
		}
	},
	{
		.table = "topups",
		.erased = "account_id below target package currency max_requests max_money period"
		" resumed_id due_at state message set_at role",
		.kept = "",
		.reason = "",
		EXPORTS("SELECT to_jsonb(t) FROM credits.topups AS t WHERE t.account_id = $1"),
		.steps = {
			ERASES("WITH gone AS (DELETE FROM credits.topups WHERE account_id = $1 RETURNING 1)"
				   " SELECT count(*), NULL::text FROM gone")
		}
	},
	{
		.table = "topup_requests",
		.erased = "",
		.kept = "id account_id purchase_id balance requested_at ended_at",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(r) FROM credits.topup_requests AS r WHERE r.account_id = $1")
	},
	{
		.table = "rewards",
		.erased = "award",
		.kept = "transaction_id account_id program_id amount number created_at program",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(r) FROM credits.rewards AS r WHERE r.account_id = $1"),
		.steps = {
			/* still once per account */
			ERASES("WITH b AS MATERIALIZED (SELECT r.transaction_id AS id FROM credits.rewards AS r"
				   " WHERE r.account_id = $1 AND r.transaction_id > COALESCE($5::bigint, 0)"
				   " ORDER BY r.transaction_id LIMIT $6),"
				   " changed AS (UPDATE credits.rewards AS r SET award = 'erased:' || r.transaction_id"
				   " FROM b WHERE r.transaction_id = b.id AND r.award <> 'erased:' || r.transaction_id RETURNING 1)"
				   RETURN_COUNT("changed"))
		}
	},
	{
		.table = "activity_hours",
		.erased = "",
		.kept = "account_id hour spent refunded last_id last_at",
		.reason = "sums of the log, kept for as long as the rules look back",
		EXPORTS("SELECT to_jsonb(h) FROM credits.activity_hours AS h WHERE h.account_id = $1")
	},
	{
		.table = "activity_hits",
		.erased = "",
		.kept = "account_id rule starts_at ends_at found_at event_id pauses paused_at",
		.reason = "a time, or the name of a rule, kept for as long as the rules look back",
		EXPORTS("SELECT to_jsonb(h) FROM credits.activity_hits AS h WHERE h.account_id = $1")
	},
	{
		.table = "disputes",
		.erased = "request idempotency_key description note actor",
		.kept = "id account_id transaction_id requested refunded refund_id opened_at reviewed_at"
		" overdue_at ended_at status reason assignee decided_by role",
		.reason = "an id, a number, a time, one of some words, or who of the staff decided it",
		/* the staff is somebody else */
		EXPORTS("SELECT to_jsonb(d) - 'assignee' - 'decided_by' FROM credits.disputes AS d"
				" WHERE d.account_id = $1"),
		.steps = {
			ERASES("WITH b AS MATERIALIZED (SELECT d.id FROM credits.disputes AS d"
				   " WHERE d.account_id = $1 AND d.id > COALESCE($5::bigint, 0) ORDER BY d.id LIMIT $6),"
				   " changed AS (UPDATE credits.disputes AS d SET request = NULL, idempotency_key = NULL,"
				   " description = NULL, note = NULL, actor = NULL WHERE d.id IN (SELECT b.id FROM b)"
				   " AND num_nonnulls(d.request, d.idempotency_key, d.description, d.note, d.actor) > 0"
				   " RETURNING 1)"
				   RETURN_COUNT("changed"))
		}
	},
	{
		.table = "audit_log",
		.erased = "actor",
		.kept = "id at account_id transaction_id amount topic name role old_values new_values",
		.reason = "what administrators have set: numbers, times, and names and texts from the catalog",
		/* the staff is somebody else */
		EXPORTS("SELECT to_jsonb(a) - 'actor' FROM credits.audit_log AS a WHERE a.account_id = $1"),
		/* where the person was the actor, who may have changed anything */
		.steps = {
			ERASES("WITH " ID_RANGE("credits.audit_log") ","
				   " changed AS (UPDATE credits.audit_log AS a SET actor = NULL"
				   " FROM r WHERE a.id > r.from_id AND a.id <= r.from_id + r.n AND a.actor = $2"
			/* not what another account did that has the name now */
				   " AND NOT EXISTS (SELECT FROM credits.accounts AS n"
				   " WHERE n.name = $2 AND n.created_at <= a.at) RETURNING 1)"
				   RETURN_RANGE("changed"))
		}
	},
	{
		/* what is said of many accounts is said of nobody in particular */
		.table = "corrections",
		.erased = "reason actor applied_actor",
		.kept = "id delta accounts accepted previewed_at expires_at applied_at ended_at"
		" balance_before balance_after token status refused_id refusal role applied_role",
		.reason = "an id, a number, a time, a status or the name of a role; of a correction of other accounts, too, all stays",
		EXPORTS("SELECT to_jsonb(c) - 'token' FROM credits.correction_items AS i"
				" JOIN credits.corrections AS c ON c.id = i.correction_id"
				" WHERE c.accounts = 1 AND (i.account_id = $1 OR i.name = $2)"),
		.steps = {
			ERASES("WITH b AS MATERIALIZED (SELECT i.correction_id AS id FROM credits.correction_items AS i"
				   " WHERE (i.account_id = $1 OR i.name = $2) AND i.correction_id > COALESCE($5::bigint, 0)"
				   " ORDER BY i.correction_id LIMIT $6),"
				   " changed AS (UPDATE credits.corrections AS c"
				   " SET reason = NULL, actor = NULL, applied_actor = NULL"
				   " WHERE c.id IN (SELECT b.id FROM b) AND c.accounts = 1"
				   " AND num_nonnulls(c.reason, c.actor, c.applied_actor) > 0 RETURNING 1)"
				   RETURN_COUNT("changed"))
		}
	},
	{
		.table = "correction_items",
		.erased = "name",
		.kept = "correction_id account_id balance balance_after transaction_id reverted_id number code",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(i) FROM credits.correction_items AS i"
				" WHERE i.account_id = $1 OR i.name = $2"),
		.steps = {
			ERASES("WITH b AS MATERIALIZED (SELECT i.correction_id AS id, i.number FROM credits.correction_items AS i"
				   " WHERE i.name = $2 AND i.correction_id > COALESCE($5::bigint, 0)"
				   " ORDER BY i.correction_id LIMIT $6),"
				   " changed AS (UPDATE credits.correction_items AS i SET name = $3"
				   " FROM b WHERE i.correction_id = b.id AND i.number = b.number RETURNING 1)"
				   RETURN_COUNT("changed"))
		}
	},
	{
		.table = "codes",
		.erased = "message metadata",
		.kept = "id account_id transaction_id created_at credits active_from active_until"
		" per_account kind code expires_in new_accounts_within max_uses uses active",
		.reason = "a number, a time, or a code, which is random unless it is promotional",
		EXPORTS("SELECT to_jsonb(c) FROM credits.codes AS c"
				" WHERE c.account_id = $1 AND c.kind IN ('gift', 'referral')"),
		.steps = {
			ERASES("WITH b AS MATERIALIZED (SELECT c.id FROM credits.codes AS c"
				   " WHERE c.account_id = $1 AND c.kind = 'gift' AND c.id > COALESCE($5::bigint, 0)"
				   " ORDER BY c.id LIMIT $6),"
				   " changed AS (UPDATE credits.codes AS c SET message = NULL, metadata = NULL"
				   " WHERE c.id IN (SELECT b.id FROM b)"
				   " AND (c.message IS NOT NULL OR c.metadata IS NOT NULL) RETURNING 1)"
				   RETURN_COUNT("changed"))
		}
	},
	{
		.table = "redemptions",
		.erased = "",
		.kept = "transaction_id code_id account_id created_at kind",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(r) FROM credits.redemptions AS r WHERE r.account_id = $1")
	},
	{
		.table = "offers",
		.erased = "",
		.kept = "id kind name account_id metadata created_at role withdrawn_at withdrawn_by",
		.reason = "an offer to one account has no metadata",
		EXPORTS("SELECT to_jsonb(o) FROM credits.offers AS o WHERE o.account_id = $1")
	},
	{
		.table = "subscriptions",
		.erased = "external_id metadata",
		.kept = "id account_id plan_id status collection timezone anchor first_number"
		" period_number period_start period_end next_plan_id next_proration cancel_at"
		" cancel_credits due_at created_at started_at ended_at",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(s) FROM credits.subscriptions AS s WHERE s.account_id = $1"),
		.steps = {
			ERASES("WITH b AS MATERIALIZED (SELECT s.id FROM credits.subscriptions AS s"
				   " WHERE s.account_id = $1 AND s.id > COALESCE($5::bigint, 0) ORDER BY s.id LIMIT $6),"
				   " changed AS (UPDATE credits.subscriptions AS s"
				   " SET external_id = credits.erased_reference($4, s.external_id), metadata = NULL"
				   " WHERE s.id IN (SELECT b.id FROM b)"
				   " AND (s.metadata IS NOT NULL"
				   " OR credits.erased_reference($4, s.external_id) <> s.external_id) RETURNING 1)"
				   RETURN_COUNT("changed"))
		}
	},
	{
		.table = "periods",
		.erased = "",
		.kept = "subscription_id starts_at ends_at number account_id plan_id status credits given"
		" unused again rolled rolled_grant_ids grace_grant_id grace_spent transaction_id grant_id"
		" withdrawn price currency claimed paid granted taken carried credited reversed late"
		" changed_at earned earning earning_since",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(p) FROM credits.subscriptions AS s"
				" JOIN credits.periods AS p ON p.subscription_id = s.id WHERE s.account_id = $1")
	},
	{
		.table = "plan_changes",
		.erased = "",
		.kept = "subscription_id at reference plan_id proration carried",
		.reason = "a number, a time, or a reference that is made of an id",
		EXPORTS("SELECT to_jsonb(c) FROM credits.subscriptions AS s"
				" JOIN credits.plan_changes AS c ON c.subscription_id = s.id WHERE s.account_id = $1")
	},
	{
		.table = "paid_parts",
		.erased = "reference",
		.kept = "subscription_id ends_at starts_at settled_at finalized_at plan_id credits reversed"
		" price currency trial funds",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(p) FROM credits.subscriptions AS s"
				" JOIN credits.paid_parts AS p ON p.subscription_id = s.id WHERE s.account_id = $1"),
		/* those in parentheses have no invoice */
		.steps = {
			ERASES("WITH b AS MATERIALIZED (SELECT s.id FROM credits.subscriptions AS s"
				   " WHERE s.account_id = $1 AND s.id > COALESCE($5::bigint, 0) ORDER BY s.id LIMIT $6),"
				   " changed AS (UPDATE credits.paid_parts AS p"
				   " SET reference = credits.erased_reference($4, p.reference)"
				   " WHERE p.subscription_id IN (SELECT b.id FROM b) AND p.reference NOT LIKE '(%'"
				   " AND credits.erased_reference($4, p.reference) <> p.reference RETURNING 1)"
				   RETURN_COUNT("changed"))
		}
	},
	{
		.table = "period_refunds",
		.erased = "reference reason",
		.kept = "subscription_id starts_at money currency created_at role",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(r) FROM credits.subscriptions AS s"
				" JOIN credits.period_refunds AS r ON r.subscription_id = s.id WHERE s.account_id = $1"),
		.steps = {
			ERASES("WITH b AS MATERIALIZED (SELECT s.id FROM credits.subscriptions AS s"
				   " WHERE s.account_id = $1 AND s.id > COALESCE($5::bigint, 0) ORDER BY s.id LIMIT $6),"
				   " changed AS (UPDATE credits.period_refunds AS r"
				   " SET reference = credits.erased_reference($4, r.reference), reason = NULL"
				   " WHERE r.subscription_id IN (SELECT b.id FROM b) AND (r.reason IS NOT NULL"
				   " OR credits.erased_reference($4, r.reference) <> r.reference) RETURNING 1)"
				   RETURN_COUNT("changed"))
		}
	},
	{
		/*
		 * before purchases, whose reference says whether Stripe will name
		 * them again
		 */
		.table = "reversals",
		.erased = "reference reason",
		.kept = "purchase_id kind status money credits created_at updated_at role",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(r) FROM credits.purchases AS p"
				" JOIN credits.reversals AS r ON r.purchase_id = p.id WHERE p.account_id = $1"),
		.steps = {
			ERASES("WITH b AS MATERIALIZED (SELECT p.id,"
				   " credits.erased_reference($4, p.payment_reference) = p.payment_reference"
				   " AND p.payment_reference NOT LIKE 'erased:%' AS stays"
				   " FROM credits.purchases AS p WHERE p.account_id = $1"
				   " AND p.id > COALESCE($5::bigint, 0) ORDER BY p.id LIMIT $6),"
				   " changed AS (UPDATE credits.reversals AS r SET reason = NULL,"
				   " reference = CASE WHEN b.stays THEN r.reference"
				   " ELSE credits.erased_reference($4, r.reference) END"
				   " FROM b WHERE r.purchase_id = b.id AND (r.reason IS NOT NULL OR NOT COALESCE(b.stays, false)"
				   " AND credits.erased_reference($4, r.reference) <> r.reference) RETURNING 1)"
				   RETURN_COUNT("changed"))
		}
	},
	{
		.table = "purchases",
		.erased = "reference payment_reference reason idempotency_key request metadata",
		.kept = "id account_id package credits promotion promotion_id price currency quote status"
		" money grant_ids transaction_id problem created_at expires_at completed_at role",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(p) FROM credits.purchases AS p WHERE p.account_id = $1"),
		.steps = {
			ERASES("WITH b AS MATERIALIZED (SELECT p.id,"
				   " credits.erased_reference($4, p.payment_reference) AS reference"
				   " FROM credits.purchases AS p WHERE p.account_id = $1"
				   " AND p.id > COALESCE($5::bigint, 0) ORDER BY p.id LIMIT $6),"
				   " changed AS (UPDATE credits.purchases AS p SET"
				   " reference = CASE p.reference WHEN p.payment_reference THEN b.reference ELSE p.reference END,"
				   " payment_reference = b.reference, reason = NULL, idempotency_key = NULL,"
				   " request = NULL, metadata = NULL FROM b WHERE p.id = b.id"
				   " AND (p.payment_reference <> b.reference OR p.reason IS NOT NULL"
				   " OR p.idempotency_key IS NOT NULL OR p.metadata IS NOT NULL) RETURNING 1)"
				   RETURN_COUNT("changed"))
		}
	},
	{
		.table = "promotion_uses",
		.erased = "",
		.kept = "purchase_id account_id promotion promotion_id created_at released_at",
		.reason = NUMBERS,
		EXPORTS("SELECT to_jsonb(u) FROM credits.purchases AS p"
				" JOIN credits.promotion_uses AS u ON u.purchase_id = p.id WHERE p.account_id = $1")
	},
	{
		/* the message of an error may have the name */
		.table = "job_runs",
		.erased = "error",
		.kept = "id job role pid backend_start statement_start started_at updated_at ended_at"
		" done failed failed_id error_code",
		.reason = "a number, a time, or the name of a role",
		EXPORTS("SELECT to_jsonb(j) FROM credits.job_runs AS j"
				" WHERE strpos(j.error, '\"' || $2 || '\"') > 0"),
		.steps = {
			ERASES("WITH changed AS (UPDATE credits.job_runs AS j"
				   " SET error = replace(j.error, '\"' || $2 || '\"', '\"' || $3 || '\"')"
				   " WHERE strpos(j.error, '\"' || $2 || '\"') > 0 RETURNING 1)"
				   " SELECT count(*), NULL::text FROM changed")
		}
	},
	{.table = NULL}
};
