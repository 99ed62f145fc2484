-- uninstall: DROP EXTENSION takes all but the roles, which belong to the cluster
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';

-- what all the tests together left is in order
SELECT * FROM credits_verify();
-- and all events are of kinds that are known
SELECT kind FROM credits.events EXCEPT SELECT kind FROM credits.event_kinds;

-- an application's trigger depends on it, and is told so
CREATE TABLE regress_shop.last_users (id bigint);
CREATE TRIGGER open_account AFTER INSERT ON regress_shop.last_users
	FOR EACH ROW EXECUTE FUNCTION credits_open_account_for_row('id');
\set VERBOSITY sqlstate
DROP EXTENSION credits;
-- none of its parts can be dropped alone
DROP TABLE credits.log;
DROP VIEW credits.transactions;
DROP SCHEMA credits CASCADE;
DROP FUNCTION credits_deduct;
\set VERBOSITY default

SET client_min_messages = warning;
DROP SCHEMA regress_shop CASCADE;
RESET client_min_messages;
DROP EXTENSION credits;
SELECT to_regnamespace('credits');
SELECT count(*) FROM pg_proc WHERE proname LIKE 'credits\_%';
SELECT rolname FROM pg_roles
WHERE rolname IN ('credits_app', 'credits_admin', 'credits_auditor')
ORDER BY rolname;

REVOKE SET ON PARAMETER credits.test_clock FROM regress_credits_admin;
DROP ROLE regress_credits_app, regress_credits_admin, regress_credits_auditor,
	regress_credits_nobody;
