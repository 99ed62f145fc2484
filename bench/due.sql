-- A database in which :due accounts have a subscription each, and all of them
-- are due at the same time: their period's grant expires and the next one is to
-- be given.  Written by real calls at an earlier time of the test clock.

CREATE EXTENSION credits;
SET credits.test_clock = '2030-01-01 00:00+00';

CREATE TABLE subscriber AS
SELECT 'user:' || i AS name FROM generate_series(1, :due) AS i;
SELECT credits_open_accounts('subscriber', 'name');

-- so many that no spend is refused and no alert goes out
SELECT count(*)
FROM generate_series(0, (:due - 1) / 10000) AS part
CROSS JOIN LATERAL credits_allocate_many(ARRAY(
	SELECT ('user:' || i, 1000000, NULL, NULL, NULL, NULL, 'purchase', NULL, NULL, NULL, NULL, NULL, NULL)::credits.allocation
	FROM generate_series(part * 10000 + 1, LEAST((part + 1) * 10000, :due)) AS i));

SELECT credits_set_plan('pro', 100, period => 'month');
