#!/usr/bin/env python3
"""Check an export of the credits log outside the database.

    psql -At -c "SELECT row_to_json(c) FROM credits.chain c
                 ORDER BY account_id, id" > chain.jsonl
    python3 verify_chain.py chain.jsonl

Reads one JSON object per line, from a file or from standard input, and
recomputes each account's hash chain with nothing but SHA-256.  Prints one line
per bad row and a summary.  Exit status: 0 if all is well, 1 if a row is bad, 2
if the input cannot be read.

When the books were closed, a chain goes on from an anchor.  Export them, too:

    psql -At -c "SELECT row_to_json(a) FROM credits.anchors a
                 ORDER BY account_id, transaction_id" > anchors.jsonl
    python3 verify_chain.py --anchors anchors.jsonl chain.jsonl

Each account then begins at the anchor before its first row, and must agree with
each anchor that it comes to: so rows that have left the log are checked against
the anchors, in one file or in several.

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


def anchor_hash(anchor):
    # bytea, in hexadecimal
    return bytes.fromhex(anchor["hash"].removeprefix("\\x"))


def read_rows(name):
    """The lines of a file, or of standard input, as objects."""
    source = sys.stdin.buffer if name == "-" else open(name, "rb")
    with source:
        for number, line in enumerate(source, 1):
            if line.strip():
                yield number, json.loads(line.decode("utf-8"))


class Account:
    """What is known of one account's chain so far."""

    def __init__(self, anchors=()):
        self.head = b""
        self.first_id = None
        self.last_id = None
        self.created_at = None
        self.balance = 0
        self.held = 0
        self.rows = 0
        self.anchors = {anchor["transaction_id"]: anchor for anchor in anchors}

    def begin(self, before=None):
        """Go on from the last anchor below an id, or from the last of all."""
        passed = sorted(id for id in self.anchors if before is None or id < before)
        if passed:
            anchor = self.anchors[passed[-1]]
            self.head = anchor_hash(anchor)
            self.last_id = anchor["transaction_id"]
            self.balance = anchor["balance"]
            self.held = anchor["held"]
            self.rows = anchor["transaction_count"]
        for id in passed:
            del self.anchors[id]

    def differences(self, row, anchor):
        """What is wrong with a row that has an anchor."""
        return [f"{name} is not that of the anchor" for name, is_so in (
            ("hash", row["hash"] == anchor_hash(anchor).hex()),
            ("count", self.rows + 1 == anchor["transaction_count"]),
            ("balance_after", row["balance_after"] == anchor["balance"]),
            ("held_after", row["held_after"] == anchor["held"])) if not is_so]

    def take(self, row, encoding):
        """Add a row; return what is wrong with it."""
        problems = []
        if self.first_id is None:
            self.first_id = row["id"]
            self.begin(row["id"])
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

        anchor = self.anchors.pop(row["id"], None)
        if anchor is not None:
            problems += self.differences(row, anchor)

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
    parser.add_argument("--anchors", metavar="FILE",
                        help="rows of credits.anchors as JSON: where the chains begin and what they lead to")
    parser.add_argument("--digest", action="store_true",
                        help="also print what credits_digest() would return")
    arguments = parser.parse_args()

    accounts = {}
    anchors = {}
    rows = bad = number = 0
    ids = []
    what = "credits.anchors"
    try:
        if arguments.anchors:
            for number, anchor in read_rows(arguments.anchors):
                anchors.setdefault(anchor["account_id"], []).append(anchor)
                anchor_hash(anchor)
        what = "credits.chain"
        for number, row in read_rows(arguments.file):
            id = row["account_id"]
            account = accounts.get(id)
            if account is None:
                account = accounts[id] = Account(anchors.pop(id, ()))
            problems = account.take(row, arguments.encoding)
            rows += 1
            ids = [min(ids[:1] + [row["id"]]), max(ids[1:] + [row["id"]])]
            if problems:
                bad += 1
                print(f"account {id} transaction {row['id']}: " + "; ".join(problems))
    except OSError as error:
        print(error, file=sys.stderr)
        return 2
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"line {number}: not a row of {what}: {error!r}", file=sys.stderr)
        return 2

    # an anchor among the rows has a row of its own
    for id, account in sorted(
            list(accounts.items()) + [(id, Account(those)) for id, those in anchors.items()]):
        for transaction in sorted(account.anchors):
            if ids and ids[0] <= transaction <= ids[1]:
                bad += 1
                print(f"account {id} transaction {transaction}: the row of an anchor is missing")

    print(f"{rows} rows, {len(accounts)} accounts: "
          + (f"{bad} bad rows" if bad else "OK"))
    if arguments.digest:
        for id, those in anchors.items():
            accounts[id] = Account(those)
            accounts[id].begin()
        digest = hashlib.sha256()
        for account_id in sorted(accounts):
            account = accounts[account_id]
            digest.update(int8(account_id) + int8(account.rows) + account.head)
        print(f"digest {digest.hexdigest()}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
