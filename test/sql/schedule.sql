-- schedule: jobs of pg_cron; what happens with it is tested on a cluster of its own
SET timezone = 'UTC';
SET ROLE regress_credits_admin;
SELECT credits_schedule(job => 'credits_sleep');
\echo :SQLSTATE
SELECT credits_unschedule('');
\echo :SQLSTATE
SELECT credits_schedule('');
\echo :SQLSTATE
SET ROLE regress_credits_app;
\set VERBOSITY sqlstate
SELECT credits_schedule();
SELECT credits_unschedule();
