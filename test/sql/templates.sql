-- templates: what people are told of events
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.templates_id_seq RESTART 43001;
\set SHOW_CONTEXT never
SET credits.test_clock = '2030-01-15 12:00:00+00';
SET ROLE regress_credits_admin;

-- each kind has a default, which is well-formed and filled by the example for each channel
SELECT kind FROM credits.event_kinds WHERE subject IS NULL OR body IS NULL OR jsonb_typeof(example) <> 'object';
SELECT kind, channel, (m).* FROM credits.event_kinds, unnest(ARRAY['email', 'sms', 'push', 'webhook', 'inbox']) AS channel,
	LATERAL (SELECT credits_preview_template(kind, channel)) AS v (m)
WHERE (m).body = '' OR (m).body ~ '[{]{2}|[}]{2}' AND channel <> 'webhook' OR (m).subject ~ '[{]{2}|[}]{2}' OR ((m).subject = '') IS TRUE
   OR ((m).subject IS NULL) <> (channel IN ('sms', 'push', 'webhook')) OR (m).template_id IS NOT NULL OR (m).html IS NOT NULL;
-- as if they were set
SELECT kind FROM credits.event_kinds, LATERAL (SELECT credits_preview_template(kind, subject => subject, body => body)) AS v (m)
WHERE (m).body IS DISTINCT FROM (credits_preview_template(kind)).body;
SELECT channel, (credits_preview_template('low_balance', channel)).* FROM unnest(ARRAY['email', 'sms', 'push', 'webhook', 'inbox']) AS channel;

-- versions
SELECT credits_set_template('low_balance', subject => 'Low: {{balance}}', body => 'Dear {{ account }}, {{balance}} left.') AS id;
SELECT credits_set_template('low_balance', html => '<p>{{account}}: <b>{{balance}}</b></p>') AS id;
SELECT credits_set_template('low_balance', html => '<p>{{account}}: <b>{{balance}}</b></p>') AS unchanged;
SELECT credits_set_template('low_balance', 'sms', body => '{{balance}} left') AS id;
SELECT credits_set_template('low_balance', locale => 'DE', subject => 'Wenig: {{balance}}', body => 'Noch {{balance}}.') AS id;
SELECT credits_set_template('low_balance', 'email', 'de-at', 'Servus: {{balance}}', 'Nur mehr {{balance}}.') AS id;
SELECT channel, locale, (credits_preview_template('low_balance', channel, locale)).* FROM (VALUES
	('email', 'de-AT'), ('email', 'de-CH-1996'), ('email', 'fr'), ('email', NULL), ('inbox', 'de-AT'), ('sms', 'de-AT'), ('sms', 'fr'), ('push', 'en-GB')) AS v (channel, locale);
RESET ROLE;
SET credits.default_locale = 'de-AT';
SELECT (credits_preview_template('low_balance', 'email', 'fr')).subject, (credits_preview_template('low_balance', 'email', 'en')).subject, (credits_preview_template('low_balance', 'inbox')).subject;
SET credits.default_locale = 'german';
SET credits.default_locale = 'de_AT';
RESET credits.default_locale;
SET ROLE regress_credits_admin;
-- back to what is more general
SELECT credits_retire_template('low_balance', 'email', 'de-AT') AS id, credits_retire_template('low_balance', 'email', 'de-AT') AS again;
SELECT (credits_preview_template('low_balance', 'email', 'de-AT')).subject;
SELECT credits_set_template('low_balance', 'email', 'de-AT', 'Wieder da', 'Nur {{balance}}.') AS id;
SELECT credits_set_template('low_balance', clear => '{html}') AS id;
SELECT id, channel, locale, version, subject, body, html, created_at FROM credits.templates WHERE id BETWEEN 43001 AND 43999 ORDER BY id;

-- values are cleaned, and escaped by where they go
SELECT (credits_preview_template('low_balance', 'email', NULL, jsonb_build_object('account', value, 'balance', 1), '[{{account}}]', '[{{account}}]', '[{{account}}]')).*
FROM (VALUES (E'a\r\nBcc: b@example.com'), ('<script>alert("1")</script> & ''x'''), (E'tab\tend\x01\x7f'), (E'right\u202eto left\u2066\u2069'), (E'line\u2028end\u0085'), ('{{balance}}'), ('')) AS v (value);
SELECT (credits_preview_template('low_balance', 'push', NULL, jsonb_build_object('account', E'"a"\\\n', 'balance', 1), '{{account}}', '{{account}}')).body::jsonb;
-- of every type, nested, or not there
SELECT (credits_preview_template('low_balance', 'email', NULL, detail::jsonb, 's', '[{{balance}}]')).body FROM (VALUES
	('{"balance": 9007199254740993}'), ('{"balance": 1.50}'), ('{"balance": 1e20}'), ('{"balance": true}'), ('{"balance": null}'), ('{"balance": [1, {"a": "b"}]}'), ('{"balance": {}}'), ('{}')) AS v (detail);
-- as long as a message may be
SELECT length((m).subject), length((m).body), length((credits_preview_template('low_balance', 'sms', NULL, d, NULL, repeat('{{account}}', 500))).body) AS sms,
	octet_length((credits_preview_template('low_balance', 'push', NULL, d, '{{account}}', '{{account}}{{account}}')).body) AS push
FROM (SELECT jsonb_build_object('account', repeat(E'\u00e4"', 10000))) AS v (d),
	LATERAL (SELECT credits_preview_template('low_balance', 'email', NULL, d, '{{account}}', '{{account}}')) AS w (m);
SELECT length((credits_preview_template('low_balance', 'email', NULL, ('{"balance": ' || repeat('9', 60000) || '}')::jsonb, 's', '{{balance}}')).body);
SELECT length((credits_preview_template('low_balance', 'email', NULL, ('{"balance": ' || repeat('[', 1000) || repeat(']', 1000) || '}')::jsonb, 's', '{{balance}}')).body);
-- whatever a value is: no line end in a subject, no markup in html, and no error
DO $$
DECLARE
	m credits.rendered_message;
	value text;
BEGIN
	FOR i IN 1 .. 2000 LOOP
		SELECT string_agg(CASE WHEN random() < 0.5 THEN substr(E'<>&"''{}\r\n\t\x01\x7f.', 1 + floor(random() * 13)::integer, 1) ELSE chr(1 + floor(random() * 12000)::integer) END, '')
			INTO value FROM generate_series(1, 1 + i % 40);
		m := public.credits_preview_template('low_balance', 'email', NULL, jsonb_build_object('account', value, 'balance', value), '{{account}}', '{{account}}', '{{account}}{{balance}}');
		IF m.subject ~ E'[\\x01-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]' OR m.html ~ '[<>"'']' OR m.html ~ '&(?!amp;|lt;|gt;|quot;|#39;)' THEN
			RAISE NOTICE 'wrong: %', to_json(value);
		END IF;
	END LOOP;
END
$$;
-- and no template that is taken is one that cannot be filled
CREATE FUNCTION pg_temp.try(body text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	detail text;
BEGIN
	RETURN 'made: ' || left((public.credits_preview_template('low_balance', body => body)).body, 40);
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL;
	RETURN concat_ws(' / ', SQLSTATE, message, detail);
END
$$;
SELECT left(body, 30) AS body, pg_temp.try(body) FROM (VALUES ('{{balance}}'), ('{{  balance  }}'), ('{balance}'), ('}}{'), ('{'), ('{{'), ('{{}}'), ('{{ }}'), ('{{balance'), ('{{balance}'), ('{{balance} }'),
	('{{{balance}}}'), ('{{{{balance}}}}'), ('{{bal ance}}'), ('{{balance|raw}}'), ('{{nope}}'), ('{{balance.x}}'), ('{{.balance}}'), ('{{balance.}}'), ('{{..}}'), ('{{account.0}}'), ('{{at}}'), ('{{kind}} {{event_id}} {{created_at}} {{unsubscribe_token}}'),
	('{{' || repeat('a', 127) || '}}'), ('{{' || repeat('a', 128) || '}}'), (repeat('{{balance}}', 500)), (repeat('{{balance}}', 501)), (repeat('{', 60000)), (repeat('{{', 10000000)), (repeat('x', 10000000)), (E'a\x01'), (E'a\tb\r\nc'), ('')) AS v (body);

-- ten parts of a text message, in the alphabet that they need
CREATE FUNCTION pg_temp.sent(value text, OUT characters integer, OUT dots boolean) LANGUAGE sql AS $$
	SELECT length(m.body), m.body LIKE '%...'
	FROM public.credits_preview_template('low_balance', 'sms', detail => jsonb_build_object('account', value, 'balance', value), body => '{{account}}{{balance}}') AS m
$$;
SELECT what, s.* FROM (VALUES
	('1530 of GSM', repeat('a', 765)), ('1532 of GSM', repeat('a', 766)), ('1530 of GSM outside ASCII', repeat('äÄ@Ω£', 153)),
	('1520 units of 760 characters', repeat('€', 380)), ('1532 units of 766 characters', repeat('€', 383)),
	('670 of others', repeat('я', 335)), ('672 of others', repeat('я', 336)), ('one of others', repeat('a', 334) || 'я'), ('a backquote', repeat('`', 336)),
	('660 units of 330 characters', repeat('😀', 165)), ('672 units of 336 characters', repeat('😀', 168)),
	('others after ten parts', repeat('a', 2000) || 'я')) AS v (what, value), pg_temp.sent(value) AS s;

-- bad input
\set VERBOSITY sqlstate
SELECT credits_set_template('nonsense', subject => 's', body => 'b');
SELECT credits_set_template(NULL, subject => 's', body => 'b');
SELECT credits_set_template('plan_changed', 'fax', subject => 's', body => 'b');
SELECT credits_set_template('plan_changed', 'webhook', subject => 's', body => 'b');
SELECT credits_set_template('plan_changed', locale => NULL, subject => 's', body => 'b');
SELECT credits_set_template('plan_changed', locale => 'x', subject => 's', body => 'b');
SELECT credits_set_template('plan_changed', body => 'b');
SELECT credits_set_template('plan_changed', subject => 's');
SELECT credits_set_template('plan_changed', subject => E'a\nb', body => 'b');
SELECT credits_set_template('plan_changed', subject => repeat('x', 501), body => 'b');
SELECT credits_set_template('plan_changed', 'sms', subject => 's', body => 'b');
SELECT credits_set_template('plan_changed', 'sms', body => 'b', html => 'h');
SELECT credits_set_template('plan_changed', 'push', subject => 's', body => 'b', html => 'h');
SELECT credits_set_template('plan_changed', subject => 's', body => 'b', clear => '{body}');
SELECT credits_retire_template('plan_changed');
SELECT credits_retire_template('nonsense');
SELECT credits_preview_template('nonsense');
SELECT credits_preview_template('low_balance', NULL);
SELECT credits_preview_template('low_balance', detail => '[]');
SELECT credits_preview_template('low_balance', detail => '1');
SELECT credits_preview_template('low_balance', detail => jsonb_build_object('account', repeat('x', 10000000)));
BEGIN READ ONLY;
SAVEPOINT s;
SELECT credits_set_template('plan_changed', subject => 's', body => 'b');
ROLLBACK TO s;
SELECT credits_retire_template('low_balance');
ROLLBACK TO s;
SELECT (credits_preview_template('low_balance')).subject;
ROLLBACK;
RESET ROLE;
UPDATE credits.templates SET body = 'x';
DELETE FROM credits.templates;
SET ROLE regress_credits_app;
SELECT credits_set_template('plan_changed', subject => 's', body => 'b');
SELECT credits_preview_template('low_balance');
