-- rewards: credits for what an account has done, or for coming back
\set shared :DBNAME
CREATE DATABASE regress_rewards TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C';
\c regress_rewards
CREATE EXTENSION credits;
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET credits.test_clock = '2247-01-01 12:00:00+00';

-- who may what
SELECT p.proname, array_agg(r.rolname ORDER BY r.rolname) AS roles
FROM pg_proc AS p JOIN pg_roles AS r ON has_function_privilege(r.oid, p.oid, 'EXECUTE')
WHERE p.proname ~ '^credits_.*reward' AND r.rolname ~ '^credits_'
GROUP BY p.proname ORDER BY p.proname;

SELECT balance FROM credits_open_account('rew:1', 0);
SELECT balance FROM credits_open_account('rew:2', 0, metadata => '{"country": "AT", "tier": "gold"}');

-- programs: bad ones, good ones, what stays
SELECT credits_set_reward_program('p');
SELECT credits_set_reward_program('p', '{}');
SELECT credits_set_reward_program('p', '{1,0}');
SELECT credits_set_reward_program('p', '{1,NULL}');
SELECT credits_set_reward_program('p', '{{1,2}}');
SELECT credits_set_reward_program('p', '{1}', 'weekly');
SELECT credits_set_reward_program('p', '{1}', grace_days => 1);
SELECT credits_set_reward_program('p', '{1}', 'daily', grace_days => -1);
SELECT credits_set_reward_program('p', '{1}', budget => 0);
SELECT credits_set_reward_program('p', '{1}', per_account => -1);
SELECT credits_set_reward_program('p', '{1}', timezone => 'Nowhere');
SELECT credits_set_reward_program('p', '{1}', expires_in => '-1 day');
SELECT credits_set_reward_program('', '{1}');
SELECT credits_set_reward_program('badges', '{10}', expires_in => '30 days');
SELECT credits_set_reward_program('badges', '{10}');
SELECT credits_set_reward_program('badges', '{10,5,1}', per_account => 5);
SELECT credits_set_reward_program('badges', kind => 'daily');
SELECT credits_set_reward_program('badges', budget => 100);
SELECT credits_set_reward_program('daily', '{1,2,3}', 'daily', grace_days => 1);
SELECT credits_set_reward_program('launch', '{20}', budget => 50, metadata => '{"country": "AT"}', active_from => '2247-01-02', active_until => '2247-02-01');
SELECT credits_set_reward_program('launch', clear => '{budget}', active_from => '2247-01-02');
SELECT name, kind, amounts, expires_in, grace_days, timezone, per_account, budget, left_over, metadata FROM credits.current_reward_programs ORDER BY name;

-- awards: each once, and so many
SET ROLE regress_credits_app;
SELECT kind, amount, balance, replayed FROM credits_reward('rew:1', 'badges', 'first steps', 'k1');
SELECT kind, amount, balance, replayed FROM credits_reward('rew:1', 'badges', 'first steps', 'k1');
SELECT credits_reward('rew:1', 'badges', 'first steps');
SELECT credits_reward('rew:1', 'badges', 'explorer', 'k1');
SELECT amount, balance FROM credits_reward('rew:1', 'badges', 'explorer');
SELECT amount, balance FROM credits_reward('rew:1', 'badges', 'veteran');
SELECT amount, balance FROM credits_reward('rew:1', 'badges', 'First Steps', metadata => '{"level": 3}');
SELECT amount, balance FROM credits_reward('rew:1', 'badges', 'e');
SELECT credits_reward('rew:1', 'badges', 'f');
SELECT ok, code, message, detail FROM credits_try_reward('rew:1', 'badges', 'f');
SELECT ok, code, (receipt).amount, (receipt).balance FROM credits_try_reward('rew:2', 'badges', 'f');
SELECT credits_reward('rew:1', 'badges');
SELECT credits_reward('rew:1', 'daily', 'today');
SELECT credits_reward('rew:1', 'none', 'a');
SELECT credits_reward('rew:none', 'badges', 'a');
SELECT credits_reward('rew:1', 'launch', 'a');
\set VERBOSITY sqlstate
SELECT credits_reward(NULL, 'badges', 'a');
SELECT credits_reward('rew:1', NULL, 'a');
SELECT credits_reward('rew:1', 'badges', '');
SELECT credits_reward('rew:1', 'badges', repeat('x', 256));
\set VERBOSITY default
RESET ROLE;
SELECT kind, amount, operation, reference, terms->'expires_at' IS NOT NULL AS expires FROM credits.transactions WHERE operation = 'badges' ORDER BY id LIMIT 2;

-- days: once each, more for each in sequence, one may be missed
CREATE FUNCTION pg_temp.sign_in(at timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	a credits.attempt;
BEGIN
	PERFORM set_config('credits.test_clock', at::text, false);
	a := credits_try_reward('rew:1', 'daily');
	RETURN COALESCE(a.code || ' ' || a.message, (SELECT award || ': ' || number || ' gives ' || amount FROM credits_rewards('rew:1', 'daily', 1)));
END $$;
SELECT pg_temp.sign_in('2247-01-05 23:59:59+00');
SELECT pg_temp.sign_in('2247-01-06 00:00:00+00');
SELECT pg_temp.sign_in('2247-01-06 23:59:59+00');
SELECT pg_temp.sign_in('2247-01-08 08:00:00+00');
SELECT pg_temp.sign_in('2247-01-09 08:00:00+00');
SELECT pg_temp.sign_in('2247-01-12 08:00:00+00');
SELECT pg_temp.sign_in('2247-01-13 08:00:00+00');
-- in the account's own time zone, from which it cannot get a day twice
SELECT kind FROM credits_set_limits('rew:1', timezone => 'Pacific/Auckland');
SELECT pg_temp.sign_in('2247-01-13 12:00:00+00');
SELECT kind FROM credits_set_limits('rew:1', timezone => 'Pacific/Honolulu');
SELECT pg_temp.sign_in('2247-01-13 13:00:00+00');
SELECT pg_temp.sign_in('2247-01-14 11:00:00+00');
SELECT pg_temp.sign_in('2247-01-15 11:00:00+00');
-- the end of summer time has 25 hours, its beginning 23
SELECT credits_set_reward_program('vienna', '{1,2,3}', 'daily', timezone => 'Europe/Vienna') > 0 AS made;
SELECT at, (SELECT (credits_try_reward('rew:2', 'vienna')).ok FROM set_config('credits.test_clock', at::text, false)) AS ok
FROM unnest('{2247-03-27 22:59+00,2247-03-27 23:00+00,2247-03-28 21:59+00,2247-03-28 22:00+00,2247-10-30 21:59+00,2247-10-30 22:00+00,2247-10-31 22:59+00,2247-10-31 23:00+00}'::timestamptz[]) WITH ORDINALITY AS t (at, n) ORDER BY n;
SELECT award, number, amount FROM credits_rewards('rew:2', 'vienna');

-- a campaign: for some, for a time, as long as there is money
SET credits.test_clock = '2247-11-02 00:00:00+00';
SELECT credits_set_reward_program('launch', active_until => '2247-12-01') > 0 AS made;
SELECT credits_reward('rew:1', 'launch', 'a');
SELECT balance FROM credits_reward('rew:2', 'launch', 'a');
SELECT balance FROM credits_reward('rew:2', 'launch', 'b');
SELECT credits_reward('rew:2', 'launch', 'c');
SELECT name, budget, left_over FROM credits.current_reward_programs WHERE name = 'launch';
SELECT credits_set_reward_program('launch', budget => 60) > 0 AS raised;
BEGIN;
SELECT balance FROM credits_reward('rew:2', 'launch', 'c');
ROLLBACK;
SELECT balance FROM credits_reward('rew:2', 'launch', 'd');
SELECT credits_reward('rew:2', 'launch', 'e');
SELECT name, budget, left_over FROM credits.current_reward_programs WHERE name = 'launch';
SET credits.test_clock = '2247-12-01 00:00:00+00';
SELECT credits_reward('rew:2', 'launch', 'f');
SELECT credits_retire_reward_program('badges') > 0 AS retired;
SELECT credits_reward('rew:2', 'badges', 'g');

-- a limit of the account cuts what is given; closed ones get nothing
SELECT credits_set_reward_program('big', '{1000}') > 0 AS made;
SELECT kind FROM credits_set_limits('rew:2', max_balance => 100, excess => 'clip');
SELECT balance FROM credits_reward('rew:2', 'big', 'a');
SELECT award, amount FROM credits_rewards('rew:2', 'big');
SELECT kind FROM credits_close_account('rew:2', 'test');
SELECT credits_reward('rew:2', 'big', 'b');

-- pages
SELECT program, award, number, amount FROM credits_rewards('rew:1', max_rows => 3);
SELECT program, award, number, amount FROM credits_rewards('rew:1', max_rows => 3, before_id => (SELECT min(transaction_id) FROM credits_rewards('rew:1', max_rows => 3)));
SELECT count(*) FROM credits_rewards('rew:1', max_rows => 1000);

-- no change but by the functions
\set VERBOSITY sqlstate
UPDATE credits.reward_programs SET budget = 1;
DELETE FROM credits.rewards;
TRUNCATE credits.reward_totals;
UPDATE credits.rewards SET amount = 1;
\set VERBOSITY default
SELECT * FROM credits_verify();

-- and if somebody does nevertheless, it is found
BEGIN;
SET LOCAL client_min_messages = warning;
ALTER TABLE credits.rewards DISABLE TRIGGER ALL;
ALTER TABLE credits.reward_totals DISABLE TRIGGER ALL;
UPDATE credits.rewards SET amount = 21 WHERE program = 'launch' AND award = 'a';
UPDATE credits.rewards SET account_id = (SELECT id FROM credits.accounts WHERE name = 'rew:2') WHERE award = 'explorer';
UPDATE credits.rewards SET transaction_id = 1000000 WHERE award = 'veteran';
UPDATE credits.rewards SET program_id = 1000000 WHERE award = 'e';
SELECT account, problem, detail FROM credits_verify() ORDER BY account COLLATE "C", detail;
ROLLBACK;

\c :shared
DROP DATABASE regress_rewards;
