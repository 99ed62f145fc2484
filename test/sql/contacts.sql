-- contacts: where people are told of events
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 44001;
ALTER SEQUENCE credits.grants_id_seq RESTART 44001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 44001;
ALTER SEQUENCE credits.contacts_id_seq RESTART 44001;
\set SHOW_CONTEXT never
SET credits.test_clock = '2030-01-15 12:00:00+00';
SELECT count(credits_open_account('contact:' || n, 10)) FROM generate_series(1, 4) AS n;
SELECT kind FROM credits_close_account('contact:4', 'test');
SELECT count(*) AS before FROM credits.transactions WHERE id BETWEEN 44001 AND 44999 \gset

-- the application sets contacts
SET ROLE regress_credits_app;
SELECT credits_set_contact('contact:1', 'email', 'one@example.com');
SELECT * FROM credits_contacts('contact:1');
-- what is left out stays, and a call that changes nothing changes nothing
RESET ROLE;
SET credits.test_clock = '2030-01-16 12:00:00+00';
SET ROLE regress_credits_app;
SELECT credits_set_contact('contact:1', 'email', verified => true, locale => 'DE-at');
RESET ROLE;
SET credits.test_clock = '2030-01-17 12:00:00+00';
SET ROLE regress_credits_app;
SELECT credits_set_contact('contact:1', 'email'), credits_set_contact('contact:1', 'email', 'one@example.com', true, 'de-AT');
SELECT * FROM credits_contacts('contact:1');
-- another address is the only one, and begins as one that is not verified
SELECT credits_set_contact('contact:1', 'email', 'two@example.com');
SELECT * FROM credits_contacts('contact:1');
SELECT credits_set_contact('contact:1', 'email', 'three@example.com', true);
SELECT credits_set_contact('contact:1', 'email', clear => '{verified,locale}');
SELECT address, verified, locale, changed_at FROM credits_contacts('contact:1');

-- several devices and endpoints, one of everything else
SELECT credits_set_contact('contact:2', channel, address) FROM (VALUES
	('sms', '+4930123456'), ('sms', '+4930654321'), ('push', 'device 1'), ('push', 'device 2'), ('push', 'device 1'),
	('webhook', 'https://example.com/a'), ('webhook', 'HTTPS://example.com:8443/b?c=d&e=%20'), ('inbox', NULL), ('inbox', NULL)) AS v (channel, address);
SELECT credits_set_contact('contact:2', 'push', 'device 2', true, 'pt-br');
SELECT channel, address, verified, reachable, locale FROM credits_contacts('contact:2');
-- but not any number
SELECT count(credits_set_contact('contact:3', 'push', 'device ' || n)) FROM generate_series(1, 20) AS n;
SELECT credits_set_contact('contact:3', 'push', 'device 21');
SELECT credits_set_contact('contact:3', 'push', 'device 20', verified => true) IS NOT NULL AS set;
SELECT credits_remove_contact('contact:3', 'push', 'device 1');
SELECT credits_set_contact('contact:3', 'push', 'device 21') IS NOT NULL AS set;

-- removed, for good
SELECT credits_remove_contact('contact:2', 'push', 'device 1'), credits_remove_contact('contact:2', 'push', 'device 1'),
	credits_remove_contact('contact:2', 'webhook'), credits_remove_contact('contact:2', 'inbox'), credits_remove_contact('contact:2', 'sms', '+4930123456');
SELECT channel, address FROM credits_contacts('contact:2');
SELECT credits_remove_contact('contact:3', 'push');
RESET ROLE;
SELECT account_id, channel, address, role = session_user AS by_session FROM credits.contacts WHERE account_id BETWEEN 44001 AND 44999 ORDER BY id;

-- where messages go: to verified addresses, and by which channels to all
SELECT channel, credits.is_reachable(channel, true) AS verified, credits.is_reachable(channel, false) AS other
FROM unnest(ARRAY['email', 'sms', 'push', 'webhook', 'inbox']) AS channel;
SET credits.unverified_channels = ' email,sms ';
SELECT channel, address, verified, reachable FROM credits_contacts('contact:2');
SET credits.unverified_channels = '';
SELECT count(*) FROM credits_contacts('contact:2') WHERE reachable;
SET credits.unverified_channels = 'fax';
SET credits.unverified_channels = 'low_balance:email';
SET credits.unverified_channels = 'email,';
RESET credits.unverified_channels;

-- the form of addresses
SET ROLE regress_credits_app;
CREATE FUNCTION pg_temp.try(channel text, address text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	detail text;
BEGIN
	PERFORM public.credits_set_contact('contact:3', channel, address);
	RETURN 'set';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
	-- no message repeats an address
	RETURN concat_ws(': ', SQLSTATE, NULLIF(detail, ''), CASE WHEN strpos(SQLERRM || detail, address) > 0 AND length(address) > 3 THEN 'REPEATED' END);
END
$$;
SELECT left(address, 40) AS email, pg_temp.try('email', address) FROM (VALUES
	('a@b'), ('name+tag@mail.example.com'), ('n.a.m.e@example.com'), ('user@[127.0.0.1]'), ('"a b"@example.com'),
	('a@b@c'), ('@example.com'), ('name@'), ('name'), (''), ('a b@example.com'), (E'a@example.com\nBcc: b@example.com'), (E'a\t@example.com'),
	('.a@example.com'), ('a.@example.com'), ('a..b@example.com'), ('a@example..com'), ('a@.example.com'), ('a@example.com.'),
	('Name <a@example.com>'), ('a@example.com,b@example.com'), (E'a\u0085@example.com'), (E'j\u00f6rg@m\u00fcller.example'),
	(repeat('a', 64) || '@example.com'), (repeat('a', 65) || '@example.com'),
	('a@' || repeat('b', 252)), ('a@' || repeat('b', 253)), (repeat('x', 10000000))) AS v (address);
SELECT left(address, 40) AS sms, pg_temp.try('sms', address) FROM (VALUES
	('+4930123456'), ('+1234567'), ('+123456'), ('+123456789012345'), ('+1234567890123456'), ('4930123456'), ('004930123456'), ('+0930123456'),
	('+49 30 123456'), ('+49(30)123456'), ('+49301234x6'), (E'+493012345\n'), ('+'), ('')) AS v (address);
SELECT left(address, 40) AS webhook, pg_temp.try('webhook', address) FROM (VALUES
	('https://example.com'), ('https://example.com:8443/a/b?c=d'), ('https://[::1]/'), ('https://example.com/@me'), ('http://example.com'), ('ftp://example.com'),
	('https://'), ('https:///path'), ('https://:443/'), ('https://?a'), ('https://user:password@example.com/'), ('https://example.com/#fragment'), ('https://example.com/a b'),
	(E'https://example.com/\r\nHost: other'), ('https://example.com/"'), (E'https://m\u00fcller.example'), ('javascript:alert(1)'), (' https://example.com'),
	('https://example.com/' || repeat('x', 2028)), ('https://example.com/' || repeat('x', 2029))) AS v (address);
SELECT credits_remove_contact('contact:3', 'push');
SELECT left(address, 40) AS push, pg_temp.try('push', address) FROM (VALUES
	('token:1'), ('{"endpoint": "https://push.example.com/1", "keys": {"auth": "a"}}'), (''), (E'a\nb'), (repeat('x', 2048)), (repeat('x', 2049))) AS v (address);
SELECT pg_temp.try('inbox', 'somewhere'), pg_temp.try('fax', '+4930123456'), pg_temp.try(NULL, 'a');
SELECT credits_remove_contact('contact:3', 'webhook') > 0 AS removed;
SELECT credits_set_contact('contact:3', 'webhook', 'https://example.com/' || locale, locale => locale) > 0 AS set
FROM unnest(ARRAY['en', 'DE', 'zh-hant-tw', 'sr-latn', 'es-419', 'de-ch-1996', 'en-u-ca-BUDDHIST', 'abcdefgh', 'en-a-bb-x-yy']) AS locale;
SELECT address, locale FROM credits_contacts('contact:3') WHERE channel = 'webhook';

-- bad input
\set VERBOSITY sqlstate
SELECT credits_set_contact('contact:3', 'inbox', locale => '');
SELECT credits_set_contact('contact:3', 'inbox', locale => 'e');
SELECT credits_set_contact('contact:3', 'inbox', locale => 'de_AT');
SELECT credits_set_contact('contact:3', 'inbox', locale => 'de-');
SELECT credits_set_contact('contact:3', 'inbox', locale => '-de');
SELECT credits_set_contact('contact:3', 'inbox', locale => 'abcdefghi');
SELECT credits_set_contact('contact:3', 'inbox', locale => 'de-AT-' || repeat('x', 8) || '-' || repeat('y', 8) || '-' || repeat('z', 8) || '-12345');
SELECT credits_set_contact('contact:3', 'inbox', locale => E'de\u00e4');
SELECT credits_set_contact(NULL, 'email', 'a@b');
SELECT credits_set_contact('contact:none', 'email', 'a@b');
SELECT credits_set_contact('contact:2', 'email');
SELECT credits_set_contact('contact:2', 'webhook');
SELECT credits_set_contact('contact:2', 'webhook', verified => true);
SELECT credits_set_contact('contact:4', 'email', 'a@b');
SELECT credits_remove_contact('contact:4', 'email');
SELECT credits_remove_contact('contact:none', 'email');
SELECT credits_remove_contact('contact:1', 'fax');
SELECT credits_remove_contact('contact:1', NULL);
SELECT credits_remove_contact('contact:1', 'email', repeat('x', 10000000));
SELECT credits_set_contact('contact:1', 'email', clear => '{address}');
SELECT credits_set_contact('contact:1', 'email', locale => 'en', clear => '{locale}');
SELECT credits_contacts('contact:none');
SELECT credits_contacts(NULL);
BEGIN READ ONLY;
SELECT credits_set_contact('contact:1', 'email', 'a@b');
ROLLBACK;
-- only by the functions
SELECT count(*) FROM credits.contacts;
UPDATE credits.contacts SET verified = true;
RESET ROLE;
\set VERBOSITY default

-- nothing of this is in the log, or an event
SELECT count(*) - :before AS more FROM credits.transactions WHERE id BETWEEN 44001 AND 44999;
SELECT count(*) FROM credits.events WHERE detail::text LIKE '%example.com%' AND account_id BETWEEN 44001 AND 44999;
