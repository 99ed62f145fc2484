-- Ours: accounts with levels of their own, whose people are told by two channels, with
-- preferences, quiet hours and rules for suspicious activity; see bench/README.md.  No level is crossed.

SELECT count(credits_set_alerts('user:' || i, '20%, 10%, 5%, 1000')),
	count(credits_set_contact('user:' || i, 'email', 'user' || i || '@example.org', verified => true)),
	count(credits_set_contact('user:' || i, 'webhook', 'https://example.org/' || i)),
	count(credits_set_preference('user:' || i, 'deduction_refused', 'email', true)),
	count(credits_set_quiet_hours('user:' || i, '22:00', '07:00', 'Europe/Vienna'))
FROM generate_series(1, :accounts) AS i;
SELECT credits_set_activity_rule('burst', 'spend', 10, minimum => 500, pauses => true),
	credits_set_activity_rule('stubborn', 'refusals', 20);
ALTER DATABASE bench SET credits.alert_levels = '50%, 100, 10';
ALTER DATABASE bench SET credits.alert_recovery = on;
VACUUM ANALYZE;
