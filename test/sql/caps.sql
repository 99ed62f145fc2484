-- caps: what a hold gives back when it times out counts for the call that finds it
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 67001;
ALTER SEQUENCE credits.grants_id_seq RESTART 67001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 67001;
SET ROLE regress_credits_admin;
SET credits.test_clock = '2030-01-01 09:00:00+00';
SELECT kind, balance FROM credits_open_account('caps:ann', 0);
SELECT kind, balance FROM credits_open_account('caps:ben', 0);
SELECT kind, balance FROM credits_open_account('caps:team', 1000);
SELECT kind, balance FROM credits_open_account('caps:org', 1000);
SELECT kind FROM credits_add_member('caps:team', 'caps:ann', 100, 'day');
SELECT kind FROM credits_add_member('caps:team', 'caps:ben', 100, 'day');
SELECT kind FROM credits_add_member('caps:org', 'caps:team', 200, 'day');

-- a spend by the member whose hold it was
SELECT kind, amount, balance, held FROM credits_hold('caps:ann', 70, pool => 'caps:team');
SET credits.test_clock = '2030-01-01 09:30:00+00';
SELECT kind, amount, balance, held FROM credits_deduct('caps:ann', 80, pool => 'caps:team');
SELECT used FROM credits.members WHERE account_id = 67001;
-- a hold
SELECT kind, amount, balance, held FROM credits_hold('caps:ann', 20, pool => 'caps:team');
SET credits.test_clock = '2030-01-01 10:00:00+00';
SELECT kind, amount, balance, held FROM credits_hold('caps:ann', 10, expires_in => '1 hour', pool => 'caps:team');
SELECT used FROM credits.members WHERE account_id = 67001;
-- a capture of more than is held, of another hold
SELECT kind, amount, balance, held FROM credits_hold('caps:ann', 5, pool => 'caps:team');
SET credits.test_clock = '2030-01-01 10:30:00+00';
SELECT c.kind, c.amount, c.balance, c.held
FROM credits.holds AS h
CROSS JOIN LATERAL credits_capture(h.hold_id, 20, allow_more => true) AS c
WHERE h.member = 'caps:ann' AND h.status = 'open';
SELECT used FROM credits.members WHERE account_id = 67001;
-- what does not fit still does not
SELECT credits_deduct('caps:ann', 1, pool => 'caps:team');
\echo :SQLSTATE

-- a change of the member, and its removal
SELECT kind, amount, balance, held FROM credits_hold('caps:ben', 70, pool => 'caps:team');
SET credits.test_clock = '2030-01-01 11:00:00+00';
SELECT kind, balance, held FROM credits_change_member('caps:team', 'caps:ben', 60, 'day');
SELECT cap, used FROM credits.members WHERE account_id = 67002;
SELECT kind, amount, balance, held FROM credits_hold('caps:ben', 60, pool => 'caps:team');
SET credits.test_clock = '2030-01-01 11:30:00+00';
SELECT kind, balance, held FROM credits_remove_member('caps:team', 'caps:ben');
SELECT count(*) FROM credits.members WHERE account_id = 67002;

-- two accounts whose holds have timed out on the same way, in one change
SET credits.test_clock = '2030-01-02 09:00:00+00';
SELECT kind, amount, balance, held FROM credits_hold('caps:ann', 50, pool => 'caps:team');
SELECT kind, amount, balance, held FROM credits_hold('caps:ann', 40, pool => 'caps:org');
SELECT account_id, used FROM credits.members WHERE pool_id BETWEEN 67001 AND 67004 ORDER BY account_id;
SET credits.test_clock = '2030-01-02 09:30:00+00';
SELECT kind, amount, balance, held FROM credits_transfer('caps:org', 'caps:team', 100);
SELECT account_id, used FROM credits.members WHERE pool_id BETWEEN 67001 AND 67004 ORDER BY account_id;

SELECT a.name, t.kind, t.amount, t.held, t.balance_after, t.held_after, t.member_id
FROM credits.transactions AS t JOIN credits.accounts AS a ON a.id = t.account_id
WHERE t.account_id BETWEEN 67001 AND 67004 ORDER BY t.id;
SELECT v.* FROM credits.accounts AS a CROSS JOIN LATERAL credits_verify(a.name) AS v WHERE a.name LIKE 'caps:%';
RESET ROLE;
RESET credits.test_clock;

-- leave nothing due to the tests that follow
RESET ROLE;
SET client_min_messages = error;
SET credits.test_clock = '2199-01-01 00:00:00+00';
CALL credits_settle() \g /dev/null
