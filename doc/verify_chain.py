#!/usr/bin/env python3
"""Check an export of the credits log outside the database.

    psql -At -c "SELECT row_to_json(c) FROM credits.chain c
                 ORDER BY account_id, id" > chain.jsonl
    python3 verify_chain.py chain.jsonl

Reads one JSON object per line, from a file or from standard input, and
recomputes each account's hash chain with nothing but SHA-256.  Prints one line
per bad row and a summary.  Exit status: 0 if all is well, 1 if a row is bad, 2
if the input cannot be read.

The last hash of an account is its head.  Compared with a head, a count or a
credits_digest() kept elsewhere it also shows whether rows are missing at the
end, which no chain can tell by itself; --digest prints that digest.
"""

import argparse
import hashlib
import json
import struct
import sys

VERSION = 2


def int8(value):
    return struct.pack(">q", value)


def nullable_int8(value):
    return b"\x00" if value is None else b"\x01" + int8(value)


def text(value, encoding):
    data = value.encode(encoding)
    return struct.pack(">i", len(data)) + data


def nullable_text(value, encoding):
    return struct.pack(">i", -1) if value is None else text(value, encoding)


def draws(value):
    if value is None:
        return struct.pack(">i", -1)
    return struct.pack(">i", len(value)) + b"".join(
        int8(grant) + int8(amount) for grant, amount in value)


# what may name a person, and can be erased
TEXTS = ("idempotency_key", "reference", "request", "reason", "metadata", "actor")


def texts(row, encoding):
    """The part of a row that can be erased, as its salted digest alone."""
    has_text = any(row[name] is not None for name in TEXTS)
    if row["salt"] is None:
        if has_text:
            raise ValueError("text without salt")
        return b"\x00"
    salt = bytes.fromhex(row["salt"])
    if len(salt) == hashlib.sha256().digest_size:
        if has_text:
            raise ValueError("text that was erased")
        return b"\x01" + salt
    if len(salt) != 16:
        raise ValueError("salt of another length")
    return b"\x01" + hashlib.sha256(
        salt
        + nullable_text(row["idempotency_key"], encoding)
        + nullable_text(row["reference"], encoding)
        + nullable_int8(row["request"])
        + nullable_text(row["reason"], encoding)
        + nullable_text(row["metadata"], encoding)
        + nullable_text(row["actor"], encoding)).digest()


def canonical(row, encoding):
    return b"".join((
        bytes([VERSION]),
        int8(row["id"]),
        int8(row["account_id"]),
        text(row["kind"], encoding),
        int8(row["amount"]),
        int8(row["held"]),
        int8(row["balance_after"]),
        int8(row["held_after"]),
        int8(row["created_at"]),
        nullable_int8(row["target_id"]),
        nullable_int8(row["member_id"]),
        text(row["role"], encoding),
        nullable_text(row["operation"], encoding),
        draws(row["draws"]),
        nullable_text(row["terms"], encoding),
        texts(row, encoding)))


class Account:
    """What is known of one account's chain so far."""

    def __init__(self):
        self.head = b""
        self.last_id = None
        self.created_at = None
        self.balance = 0
        self.held = 0
        self.rows = 0

    def take(self, row, encoding):
        """Add a row; return what is wrong with it."""
        problems = []
        if self.last_id is not None and row["id"] <= self.last_id:
            problems.append("id does not follow the row before")
        if self.created_at is not None and row["created_at"] < self.created_at:
            problems.append("created_at runs backwards")
        if row["balance_after"] != self.balance + row["amount"]:
            problems.append("balance_after is not the balance before plus amount")
        if row["held_after"] != self.held + row["held"]:
            problems.append("held_after is not held before plus held")
        try:
            expected = hashlib.sha256(self.head + canonical(row, encoding)).digest()
            if row["hash"] != expected.hex():
                problems.append("hash does not match")
        except (ValueError, TypeError, struct.error) as error:
            problems.append(f"no canonical form: {error}")

        # go on from what the row says, so that one bad row is one bad line
        self.head = bytes.fromhex(row["hash"])
        self.last_id = row["id"]
        self.created_at = row["created_at"]
        self.balance = row["balance_after"]
        self.held = row["held_after"]
        self.rows += 1
        return problems


def main():
    parser = argparse.ArgumentParser(
        description="Check an export of the credits log outside the database.")
    parser.add_argument("file", nargs="?", default="-",
                        help="rows of credits.chain as JSON, one a line; - or nothing: standard input")
    parser.add_argument("--encoding", default="utf-8",
                        help="server_encoding of the database, if it is not UTF8")
    parser.add_argument("--digest", action="store_true",
                        help="also print what credits_digest() would return")
    arguments = parser.parse_args()

    accounts = {}
    rows = bad = number = 0
    try:
        source = sys.stdin.buffer if arguments.file == "-" else open(arguments.file, "rb")
        with source:
            for number, line in enumerate(source, 1):
                if not line.strip():
                    continue
                row = json.loads(line.decode("utf-8"))
                account = accounts.setdefault(row["account_id"], Account())
                problems = account.take(row, arguments.encoding)
                rows += 1
                if problems:
                    bad += 1
                    print(f"account {row['account_id']} transaction {row['id']}: "
                          + "; ".join(problems))
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    except (ValueError, KeyError, TypeError) as error:
        print(f"line {number}: not a row of credits.chain: {error!r}", file=sys.stderr)
        return 2

    print(f"{rows} rows, {len(accounts)} accounts: "
          + (f"{bad} bad rows" if bad else "OK"))
    if arguments.digest:
        digest = hashlib.sha256()
        for account_id in sorted(accounts):
            account = accounts[account_id]
            digest.update(int8(account_id) + int8(account.rows) + account.head)
        print(f"digest {digest.hexdigest()}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
