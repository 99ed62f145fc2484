"""An application of the old kind, through psycopg: see migrating.pl.

Usage: old_app.py WRITERS USERS STOPFILE; prints one JSON object at the end.
"""
import json
import os
import random
import sys
import threading
import time

import psycopg

writers, users = int(sys.argv[1]), int(sys.argv[2])
stop_file = sys.argv[3]
told = {"done": 0, "errors": 0, "first": None, "longest": 0}
mutex = threading.Lock()

SPEND = """
  WITH c AS (UPDATE users SET credits = credits - %(n)s WHERE id = %(id)s AND credits >= %(n)s RETURNING id, credits),
       t AS (INSERT INTO told SELECT id, -%(n)s::integer FROM c)
  SELECT credits FROM c"""
GIVE = """
  WITH c AS (UPDATE users SET credits = credits + %(n)s WHERE id = %(id)s RETURNING id, credits),
       t AS (INSERT INTO told SELECT id, %(n)s::integer FROM c)
  SELECT credits FROM c"""
UPSERT = """
  WITH c AS (INSERT INTO users (email, credits) VALUES (%(email)s, 105)
             ON CONFLICT (email) DO UPDATE SET credits = users.credits + 5 RETURNING id, credits),
       t AS (INSERT INTO told SELECT id, 5 FROM c)
  SELECT credits FROM c"""
SET = """
  WITH c AS (UPDATE users SET credits = %(credits)s WHERE id = %(id)s RETURNING id)
  INSERT INTO told SELECT id, 3 FROM c"""


def step(conn, writer, number):
    values = {"id": random.randint(1, users), "n": random.randint(1, 5)}
    choice = random.randrange(20)
    if choice < 6:
        conn.execute(SPEND, values)
    elif choice < 10:
        assert isinstance(conn.execute(GIVE, values).fetchone()[0], int)
    elif choice < 14:
        row = conn.execute("SELECT credits FROM users WHERE id = %(id)s", values).fetchone()
        assert isinstance(row[0], int) and row[0] >= 0, row
    elif choice < 15:
        conn.execute("UPDATE users SET seen_at = now() WHERE id = %(id)s", values)
    elif choice < 16:
        values["email"] = f"python-{os.getpid()}-{writer}-{number}@example.com"
        row = conn.execute("INSERT INTO users (email) VALUES (%(email)s) RETURNING credits", values).fetchone()
        assert row[0] == 100, row
    elif choice < 18:
        values["email"] = f"{values['id']}@example.com"
        conn.execute(UPSERT, values)
    else:
        with conn.transaction():
            values["credits"] = conn.execute(
                "SELECT credits + 3 FROM users WHERE id = %(id)s FOR UPDATE", values).fetchone()[0]
            conn.execute(SET, values)


def write(writer):
    number = 0
    # each statement is prepared when it is first executed
    with psycopg.connect("", autocommit=True, prepare_threshold=0) as conn:
        while not os.path.exists(stop_file):
            start = time.monotonic()
            error = None
            try:
                step(conn, writer, number)
            except (psycopg.Error, AssertionError) as e:
                error = repr(e)
            number += 1
            with mutex:
                told["done"] += 1
                told["longest"] = max(told["longest"], time.monotonic() - start)
                if error:
                    told["errors"] += 1
                    told["first"] = told["first"] or error


threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(told))
