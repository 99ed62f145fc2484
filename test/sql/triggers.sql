-- triggers that users add to the log fire, and cannot bend it
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
ALTER SEQUENCE credits.accounts_id_seq RESTART 180001;
ALTER SEQUENCE credits.grants_id_seq RESTART 180001;
ALTER SEQUENCE credits.transactions_id_seq RESTART 180001;
ALTER SEQUENCE credits.events_id_seq RESTART 180001;
SET credits.test_clock = '2030-01-01 00:00:00+00';
SELECT kind FROM credits_open_account('trg:1', 1000);
SELECT kind FROM credits_open_account('trg:2');
SELECT kind FROM credits_open_account('trg:3', 1000);

-- AFTER INSERT, each row: as soon as the call's statement ends
CREATE FUNCTION regress_shop.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE '% % % % of account %', TG_NAME, TG_WHEN, credits.kind_name(NEW.kind_code), NEW.amount, NEW.account_id;
	RETURN NEW;
END
$$;
CREATE TRIGGER tell AFTER INSERT ON credits.log
	FOR EACH ROW WHEN (NEW.account_id > 180000) EXECUTE FUNCTION regress_shop.tell();
SELECT balance FROM credits_deduct('trg:1', 10, 'told');
SELECT balance, replayed FROM credits_deduct('trg:1', 10, 'told');
SELECT credits_deduct('trg:1', 10000);
SELECT balance FROM credits_allocate('trg:1', 5, expires_at => '2030-02-01');
SELECT kind FROM credits_pause_account('trg:1', 'pause');
SELECT kind FROM credits_resume_account('trg:1', 'resume');
SELECT transaction_id AS spend FROM credits_deduct('trg:1', 1) \gset
SELECT balance FROM credits_refund(:spend);
SET credits.test_clock = '2030-03-01 00:00:00+00';
SELECT balance FROM credits_deduct('trg:1', 1);
SELECT count(*) FROM generate_series(1, 3) AS i, LATERAL credits_deduct('trg:1', i);
DROP TRIGGER tell ON credits.log;

-- BEFORE INSERT that looks on
CREATE TRIGGER tell_before BEFORE INSERT ON credits.log
	FOR EACH ROW EXECUTE FUNCTION regress_shop.tell();
SELECT balance FROM credits_deduct('trg:1', 1);
DROP TRIGGER tell_before ON credits.log;

-- BEFORE INSERT that changes the row, or suppresses it: refused
CREATE FUNCTION regress_shop.embezzle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.amount := NEW.amount + 1;
	RETURN NEW;
END
$$;
CREATE TRIGGER embezzle BEFORE INSERT ON credits.log
	FOR EACH ROW EXECUTE FUNCTION regress_shop.embezzle();
SELECT credits_deduct('trg:1', 1);
\echo :SQLSTATE
DROP TRIGGER embezzle ON credits.log;
CREATE FUNCTION regress_shop.annotate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.reason := 'annotated';
	RETURN NEW;
END
$$;
CREATE TRIGGER annotate BEFORE INSERT ON credits.log
	FOR EACH ROW EXECUTE FUNCTION regress_shop.annotate();
SELECT credits_deduct('trg:1', 1);
\echo :SQLSTATE
DROP TRIGGER annotate ON credits.log;
CREATE FUNCTION regress_shop.hush() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RETURN NULL;
END
$$;
CREATE TRIGGER hush BEFORE INSERT ON credits.log
	FOR EACH ROW EXECUTE FUNCTION regress_shop.hush();
SELECT credits_deduct('trg:1', 1);
\echo :SQLSTATE
SELECT credits_open_account('trg:4', 1);
SELECT credits_pause_account('trg:1', 'pause');
DROP TRIGGER hush ON credits.log;
-- on the accounts and the grants they do not fire, or change nothing
CREATE FUNCTION regress_shop.round_up() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_TABLE_NAME = 'accounts' THEN
		NEW.balance := NEW.balance + 1;
	ELSE
		NEW.remaining := NEW.amount;
	END IF;
	RETURN NEW;
END
$$;
CREATE TRIGGER round_up BEFORE UPDATE ON credits.accounts
	FOR EACH ROW EXECUTE FUNCTION regress_shop.round_up();
SELECT credits_deduct('trg:1', 1);
\echo :SQLSTATE
DROP TRIGGER round_up ON credits.accounts;
CREATE TRIGGER hush BEFORE UPDATE ON credits.accounts
	FOR EACH ROW EXECUTE FUNCTION regress_shop.hush();
SELECT credits_deduct('trg:1', 1);
\echo :SQLSTATE
DROP TRIGGER hush ON credits.accounts;
CREATE TRIGGER round_up BEFORE UPDATE ON credits.grants
	FOR EACH ROW EXECUTE FUNCTION regress_shop.round_up();
SELECT credits_deduct('trg:1', 1);
\echo :SQLSTATE
DROP TRIGGER round_up ON credits.grants;
CREATE TRIGGER hush BEFORE INSERT OR UPDATE ON credits.grants
	FOR EACH ROW EXECUTE FUNCTION regress_shop.hush();
SELECT credits_deduct('trg:1', 1);
\echo :SQLSTATE
SELECT credits_allocate('trg:1', 1);
\echo :SQLSTATE
DROP TRIGGER hush ON credits.grants;
CREATE TRIGGER hush BEFORE INSERT ON credits.accounts
	FOR EACH ROW EXECUTE FUNCTION regress_shop.hush();
SELECT credits_open_account('trg:4', 1);
\echo :SQLSTATE
DROP TRIGGER hush ON credits.accounts;
SELECT * FROM credits_verify();
SELECT credits_balance('trg:1');

-- a cashback: a trigger that calls the functions for another account
CREATE FUNCTION regress_shop.cashback() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	SELECT * INTO r FROM public.credits_allocate('trg:2', -NEW.amount, source => 'promotional',
		idempotency_key => 'cashback ' || NEW.id);
	RAISE NOTICE 'cashback %, balance %', r.amount, r.balance;
	RETURN NULL;
END
$$;
CREATE TRIGGER cashback AFTER INSERT ON credits.log
	FOR EACH ROW WHEN (credits.kind_name(NEW.kind_code) = 'deduction' AND NEW.account_id = 180001)
	EXECUTE FUNCTION regress_shop.cashback();
SELECT balance FROM credits_deduct('trg:1', 100);
SELECT balance FROM credits_deduct('trg:3', 100);
SELECT count(r), min((r).balance) FROM (SELECT credits_deduct('trg:1', 10) AS r FROM generate_series(1, 3)) AS s;
SELECT credits_balance('trg:2');
-- of the same account: the outer receipt is still that of the outer call
CREATE OR REPLACE FUNCTION regress_shop.cashback() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	SELECT * INTO r FROM public.credits_allocate('trg:1', 1, source => 'promotional');
	RAISE NOTICE 'cashback %, balance %', r.amount, r.balance;
	RETURN NULL;
END
$$;
SELECT kind, amount, balance FROM credits_deduct('trg:1', 100);
SELECT kind, amount, balance FROM credits_history('trg:1', 2);
SELECT * FROM credits_verify('trg:1');
-- one that fails takes the spend along; caught, the next one goes on
CREATE OR REPLACE FUNCTION regress_shop.cashback() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'no cashback today' USING ERRCODE = 'ZZ001';
END
$$;
SELECT credits_balance('trg:1') AS before \gset
SELECT credits_deduct('trg:1', 1, 'failing');
\echo :SQLSTATE
DO $$
BEGIN
	BEGIN
		PERFORM credits_deduct('trg:1', 1, 'failing');
	EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
		RAISE NOTICE 'caught %', SQLERRM;
	END;
	PERFORM credits_deduct('trg:3', 1, 'going on');
END
$$;
SELECT ok, code, message FROM credits_try_deduct('trg:1', 1, 'failing');
\echo :SQLSTATE
SELECT credits_balance('trg:1') = :before AS unchanged;
-- one that fails with a refusal of its own: an error for try too, which was not refused itself
CREATE OR REPLACE FUNCTION regress_shop.cashback() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM public.credits_deduct('trg:2', 1000000);
	RETURN NULL;
END
$$;
SELECT credits_deduct('trg:1', 1);
\echo :SQLSTATE
SELECT ok, code, message FROM credits_try_deduct('trg:1', 1);
SELECT credits_balance('trg:1') = :before AS unchanged;
DROP TRIGGER cashback ON credits.log;
SELECT balance, replayed FROM credits_deduct('trg:1', 1, 'failing');

-- statement triggers do not fire, as with logical replication; they do no harm
CREATE FUNCTION regress_shop.tell_many() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE '% rows, sum %', (SELECT count(*) FROM new_rows), (SELECT sum(amount) FROM new_rows);
	RETURN NULL;
END
$$;
CREATE TRIGGER tell_many AFTER INSERT ON credits.log
	REFERENCING NEW TABLE AS new_rows
	FOR EACH STATEMENT EXECUTE FUNCTION regress_shop.tell_many();
SELECT balance FROM credits_deduct('trg:1', 1);
DROP TRIGGER tell_many ON credits.log;

-- deferred: at commit
CREATE FUNCTION regress_shop.check_later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF public.credits_balance('trg:3') < 500 THEN
		RAISE EXCEPTION 'keep at least 500' USING ERRCODE = 'ZZ002';
	END IF;
	RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER check_later AFTER INSERT ON credits.log
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
	WHEN (NEW.account_id = 180003) EXECUTE FUNCTION regress_shop.check_later();
BEGIN;
SELECT balance FROM credits_deduct('trg:3', 700);
SELECT balance FROM credits_allocate('trg:3', 700);
COMMIT;
BEGIN;
SELECT balance FROM credits_deduct('trg:3', 700);
COMMIT;
\echo :SQLSTATE
SELECT credits_balance('trg:3');
DROP TRIGGER check_later ON credits.log;

-- what moves credits between accounts is in the log whole before one fires, in
-- either direction: it finds both rows, and can change both accounts
CREATE FUNCTION regress_shop.fees() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE NOTICE '% of %: other row %', credits.kind_name(NEW.kind_code), NEW.amount,
		(SELECT t.amount FROM credits.transactions AS t
		 WHERE t.id = NEW.target_id OR t.target_id = NEW.id);
	PERFORM public.credits_deduct('trg:2', 1);
	PERFORM public.credits_deduct('trg:3', 1);
	RETURN NULL;
END
$$;
CREATE TRIGGER fees AFTER INSERT ON credits.log
	FOR EACH ROW WHEN (credits.kind_name(NEW.kind_code) IN ('transfer', 'hold', 'gift') AND NEW.account_id > 180000)
	EXECUTE FUNCTION regress_shop.fees();
SELECT credits_balance('trg:2') AS two, credits_balance('trg:3') AS three \gset
SELECT amount FROM credits_allocate('trg:2', 100);
SELECT amount FROM credits_transfer('trg:2', 'trg:3', 10);
SELECT amount FROM credits_transfer('trg:3', 'trg:2', 20);
SELECT amount FROM credits_gift_many('trg:3', '{trg:2}', 5);
SELECT kind FROM credits_add_member('trg:2', 'trg:3', 7);
SELECT amount, held FROM credits_hold('trg:3', 10, pool => 'trg:2', mode => 'pool_first');
SELECT credits_balance('trg:2') - :two AS two, credits_balance('trg:3') - :three AS three;
DROP TRIGGER fees ON credits.log;

-- what statements of ours may change, triggers that they fire may not
SELECT credits_set_package('trg:pack', 100, 10, 'USD') IS NOT NULL AS package,
	credits_set_promotion('TRGLESS', 'percent', 10, max_uses => 5) IS NOT NULL AS promotion;
SELECT purchase_id AS purchase FROM credits_start_purchase('trg:1', 'trg:pack', promotion => 'TRGLESS') \gset
CREATE FUNCTION regress_shop.meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_ARGV[0] = 'totals' THEN
		UPDATE credits.promotion_totals SET uses = 0;
	ELSE
		UPDATE credits.purchases SET price = 0;
	END IF;
	RETURN NULL;
END
$$;
CREATE TRIGGER meddle AFTER UPDATE ON credits.purchases
	FOR EACH ROW WHEN (NEW.status = 'failed') EXECUTE FUNCTION regress_shop.meddle('totals');
SELECT credits_fail_purchase(:purchase, 'declined');
\echo :SQLSTATE
DROP TRIGGER meddle ON credits.purchases;
CREATE TRIGGER meddle AFTER UPDATE ON credits.purchases
	FOR EACH ROW WHEN (NEW.status = 'failed') EXECUTE FUNCTION regress_shop.meddle('purchases');
SELECT credits_fail_purchase(:purchase, 'declined');
\echo :SQLSTATE
DROP TRIGGER meddle ON credits.purchases;
SELECT status, price FROM credits.purchases WHERE id = :purchase;
SELECT t.uses FROM credits.promotion_totals AS t JOIN credits.purchases AS p ON p.promotion = t.promotion WHERE p.id = :purchase;
SELECT credits_fail_purchase(:purchase, 'declined') IS NOT NULL AS failed;
SELECT status FROM credits.purchases WHERE id = :purchase;

-- a trigger of an application's own table spends
SET ROLE regress_credits_admin;
CREATE TABLE regress_shop.requests (id bigint PRIMARY KEY, account text, cost bigint, balance bigint);
CREATE FUNCTION regress_shop.charge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	SELECT r.balance INTO NEW.balance
	FROM public.credits_deduct(NEW.account, NEW.cost, 'request ' || NEW.id) AS r;
	RETURN NEW;
END
$$;
CREATE TRIGGER charge BEFORE INSERT ON regress_shop.requests
	FOR EACH ROW EXECUTE FUNCTION regress_shop.charge();
INSERT INTO regress_shop.requests VALUES (1, 'trg:3', 10), (2, 'trg:3', 20) RETURNING *;
INSERT INTO regress_shop.requests VALUES (3, 'trg:3', 10), (4, 'trg:3', 20000);
\echo :SQLSTATE
INSERT INTO regress_shop.requests VALUES (5, 'trg:3', 10), (1, 'trg:3', 20);
\echo :SQLSTATE
SELECT * FROM regress_shop.requests;
SELECT credits_balance('trg:3');
DROP TABLE regress_shop.requests;
DROP FUNCTION regress_shop.charge;
RESET ROLE;
DROP FUNCTION regress_shop.tell, regress_shop.embezzle, regress_shop.annotate, regress_shop.hush,
	regress_shop.round_up, regress_shop.cashback, regress_shop.tell_many, regress_shop.check_later,
	regress_shop.fees, regress_shop.meddle;
SELECT * FROM credits_verify();
