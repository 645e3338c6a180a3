"""Check an export of paynode's ledger without paynode: python verify.py DIRECTORY --public-key FILE [--anchors COPY]

It reads nothing but these, needs Python 3.9 or newer and the package `cryptography`, and holds one row at a time. Exit
code: 0 all is as it was signed, 3 something is not, 2 it could not be looked at.

What is checked: the signature of manifest.json; name, length and sha256 of every file; of every row, that its hash is
the sha256 of the hash before it and of its canonical bytes; that the rows of each merchant are numbered without a gap
from the opening to the closing head that chains.* names; that all amounts sum up to the balances of the manifest.
With anchors, which are signed heads of earlier instants: that each head they name is the row that is there, and that no
row is missing which was anchored an hour before the period's end or earlier (the clocks of machines differ by less).
"""

from __future__ import annotations

import argparse
import csv
import json
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

FORMAT = "paynode-ledger-export/1"

# The fields of a row of entries-*.
ENTRY = [
    *[
        "id",
        "line",
        "merchant_id",
        "seq",
        "payment_id",
        "operation_id",
        "type",
        "debit",
        "credit",
        "amount",
        "currency",
    ],
    *["at", "reference", "epoch", "prev_hash", "hash"],
]
# Those of them that are sealed as they are, in their order; milliseconds since 1970 and the reference follow them. The
# reference stands last: its characters are not paynode's to choose.
SEALED = ENTRY[: ENTRY.index("currency") + 1]
# The fields of a row of chains.*.
CHAIN = ["merchant_id", "opening_seq", "opening_hash", "closing_seq", "closing_hash"]
INTEGERS = frozenset({"line", "seq", "amount", "epoch", "opening_seq", "closing_seq"})

ANCHOR_FORMAT = "paynode-anchor/1"
# Milliseconds by which an anchor must be earlier than the end of the period, to say something about its last rows.
CLOCKS_MS = 3_600_000

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - Python 3.9 and 3.10 have no datetime.UTC
BROKEN, UNREADABLE = 3, 2


class Bad(Exception):
    """Something is not as it was signed."""


class Sheet:
    """A file of rows: read once, for its rows and for its digest."""

    def __init__(self, directory: Path, said: dict[str, Any], fields: list[str], encoding: str) -> None:
        self.name = str(said["name"])
        if Path(self.name).name != self.name:
            raise Bad(f"{self.name} is not a name of a file in this directory")
        self.line = 0
        self._path = directory / self.name
        self._said = said
        self._fields = fields
        self._read = self._csv if encoding == "csv" else self._ndjson

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each row by the names of its fields; a row that has others is bad."""
        count = 0
        with self._path.open("rb") as file:
            for row in self._read(file):
                count += 1
                yield row
        if count != self._said["rows"]:
            raise Bad(f"it has {count} rows and not {self._said['rows']}")

    def complaints(self) -> Iterator[str]:
        """What is wrong with the file as a whole, whatever is in it."""
        digest, size = sha256(), 0
        with self._path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
                size += len(block)
        if size != self._said["bytes"]:
            yield f"{self.name} has {size} bytes and not {self._said['bytes']}"
        if digest.hexdigest() != self._said["sha256"]:
            yield f"{self.name} has another sha256 than the manifest says"

    def _ndjson(self, file: BinaryIO) -> Iterator[dict[str, Any]]:
        for self.line, text in enumerate(file, start=1):
            row = json.loads(text)
            if not isinstance(row, dict) or list(row) != self._fields:
                raise Bad("it has other fields")
            for name, value in row.items():
                wanted = int if name in INTEGERS else str
                if type(value) is not wanted and not (name == "payment_id" and value is None):
                    raise Bad(f"{name} is of another type")
            yield row

    def _csv(self, file: BinaryIO) -> Iterator[dict[str, Any]]:
        csv.field_size_limit(1 << 30)
        reader = csv.reader((line.decode() for line in file), strict=True)
        if next(reader, None) != self._fields:
            raise Bad("its first line names other fields")
        for cells in reader:
            self.line = reader.line_num
            if len(cells) != len(self._fields):
                raise Bad("it has other fields")
            row: dict[str, Any] = dict(zip(self._fields, cells))  # noqa: B905 - Python 3.9; the lengths are the same
            for name in INTEGERS & row.keys():
                if str(int(row[name])) != row[name]:
                    raise Bad(f"{name} is no plain integer")
                row[name] = int(row[name])
            yield row


class Anchors:
    """Heads that were said outside the database, by merchant: in a file, whatever there is of them."""

    def __init__(self, file: Path, key: Ed25519PublicKey, *, until_ms: int) -> None:
        self.count = 0
        self._key = key
        self._until_ms = until_ms
        self._table = sqlite3.connect(str(file), isolation_level=None)
        self._table.executescript("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        self._table.execute(
            "CREATE TABLE heads (merchant TEXT, seq INTEGER, hash TEXT, is_early INTEGER, file TEXT,"
            " PRIMARY KEY (merchant, seq, hash)) WITHOUT ROWID"
        )

    def close(self) -> None:
        """Nothing more is asked."""
        self._table.close()

    def add(self, directory: Path) -> Iterator[str]:
        """Take in the anchors of a directory; says what is wrong with them."""
        before = None
        for path in sorted(directory.glob("*.anchor")):
            self.count += 1
            self._table.execute("BEGIN")
            try:
                previous, digest = self._read(path)
            except (Bad, ValueError, KeyError, TypeError, InvalidSignature):
                # What is not believed says nothing, also not what is missing.
                self._table.execute("DELETE FROM heads WHERE file = ?", [path.name])
                yield f"{path.name} is no anchor that was signed with this key"
                before = None
                continue
            finally:
                self._table.execute("COMMIT")
            if before is not None and previous != before:
                yield f"{path.name} does not follow the anchor before it, or that one is missing"
            before = digest

    def of(self, merchant: str, opening: int) -> Iterator[tuple[int, str, int, str]]:
        """Number, hash, whether it is early, file; by number, from this one on."""
        return self._table.execute(
            "SELECT seq, hash, is_early, file FROM heads WHERE merchant = ? AND seq >= ? ORDER BY seq",
            [merchant, opening],
        )

    def between(self, after: str, before: str) -> str | None:
        """Some merchant between these two that had entries early enough to be there."""
        found = self._table.execute(
            "SELECT merchant FROM heads WHERE merchant > ? AND merchant < ? AND is_early LIMIT 1", [after, before]
        ).fetchone()
        return None if found is None else str(found[0])

    def _read(self, path: Path) -> tuple[Any, str]:
        """The digest that it says of the one before it, and its own. Raises: Bad, or what comes of another file."""
        digest, count = sha256(), 0
        with path.open("rb") as file:
            digest.update(first := file.readline())
            start = json.loads(first)
            is_early = (milliseconds(start["at"]) or 0) + CLOCKS_MS < self._until_ms
            line = file.readline()
            while following := file.readline():
                merchant, seq, head = line.decode().split()
                values = [merchant, int(seq), head, is_early, path.name]
                self._table.execute("INSERT OR IGNORE INTO heads VALUES (?, ?, ?, ?, ?)", values)
                digest.update(line)
                line, count = following, count + 1
        end = json.loads(line)
        said = f"{ANCHOR_FORMAT} {count} {digest.hexdigest()}"
        self._key.verify(bytes.fromhex(end["signature"]), said.encode())
        if start["format"] != ANCHOR_FORMAT or path.name != f"{start['number']:010}.anchor":
            raise Bad("it is another one")
        digest.update(line)
        return start["previous"], digest.hexdigest()


class Walk:
    """Along the chains, in the order in which chains.* names the merchants."""

    def __init__(self, chains: Iterator[dict[str, Any]], anchors: Anchors, *, of_all: bool) -> None:
        self.entries = 0
        self.sums: dict[tuple[str, str], list[int]] = {}
        self._chains = chains
        self._anchors, self._of_all = anchors, of_all
        self._named: Iterator[tuple[int, str, int, str]] = iter(())
        self._next: tuple[int, str, int, str] | None = None
        self._merchant, self._seq, self._hash = "", 0, ""
        self._closing: tuple[int, str] = (0, "")

    def follow(self, row: dict[str, Any]) -> None:
        """The next row. Raises: Bad."""
        name = f"entry {row['seq']} of merchant {row['merchant_id']}"
        while row["merchant_id"] != self._merchant:
            if not self._next_chain():
                raise Bad(f"{name}: no chain is left for the merchant")
        if row["seq"] != self._seq + 1:
            raise Bad(f"{name}: entry {self._seq + 1} should come here")
        if row["prev_hash"] != self._hash:
            raise Bad(f"{name}: it follows another entry")
        content = canonical(row)
        if content is None or sha256(bytes.fromhex(self._hash) + content).hexdigest() != row["hash"]:
            raise Bad(f"{name}: its hash is not that of its content")
        self._seq, self._hash = row["seq"], row["hash"]
        self._hold_against_anchors()
        self.entries += 1
        self._sum(row["debit"], row["currency"])[0] += row["amount"]
        self._sum(row["credit"], row["currency"])[1] += row["amount"]

    def end(self) -> None:
        """There are no more rows. Raises: Bad."""
        while self._next_chain():
            pass

    def _next_chain(self) -> bool:
        if (self._seq, self._hash) != self._closing:
            raise Bad(f"the entries of merchant {self._merchant} end at {self._seq} and not at {self._closing[0]}")
        if self._next is not None and self._next[2]:
            raise Bad(f"entry {self._next[0]} of merchant {self._merchant} was anchored in {self._next[3]}: it is gone")
        chain = next(self._chains, None)
        missing = self._anchors.between(self._merchant, "~" if chain is None else chain["merchant_id"])
        if missing is not None and self._of_all:
            raise Bad(f"entries of merchant {missing} were anchored: they are gone")
        if chain is None:
            return False
        if chain["merchant_id"] <= self._merchant:
            raise Bad(f"the chain of merchant {chain['merchant_id']} is out of order")
        self._merchant, self._seq, self._hash = chain["merchant_id"], chain["opening_seq"], chain["opening_hash"]
        self._closing = (chain["closing_seq"], chain["closing_hash"])
        if self._seq == 0 and self._hash != "0" * 64:
            raise Bad(f"the chain of merchant {self._merchant} begins with something before its first entry")
        self._named = self._anchors.of(self._merchant, self._seq)
        self._next = next(self._named, None)
        self._hold_against_anchors()
        return True

    def _hold_against_anchors(self) -> None:
        while self._next is not None and self._next[0] == self._seq:
            if self._next[1] != self._hash:
                raise Bad(f"entry {self._seq} of merchant {self._merchant} is not the one anchored in {self._next[3]}")
            self._next = next(self._named, None)

    def _sum(self, account: str, currency: str) -> list[int]:
        return self.sums.setdefault((account, currency), [0, 0])


def canonical(row: dict[str, Any]) -> bytes | None:
    """The bytes that are sealed; None of a row that no entry can be, or whose bytes another one may have too."""
    fields = ["" if row[name] is None else str(row[name]) for name in SEALED]
    at_ms = milliseconds(row["at"])
    if any("|" in field for field in fields) or row["amount"] <= 0 or at_ms is None:
        return None
    return "|".join([*fields, str(at_ms), row["reference"]]).encode()


def milliseconds(text: str) -> int | None:
    """Since 1970, of an instant like 2026-03-01T12:00:00.123Z; None for any other way to write one."""
    at = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)  # noqa: UP017
    is_plain = at.isoformat(timespec="milliseconds").replace("+00:00", "Z") == text
    return (at - EPOCH) // timedelta(milliseconds=1) if is_plain else None


def check(directory: Path, manifest: dict[str, Any], anchors: Anchors) -> Iterator[str]:
    """What is wrong with the files. Raises: Bad, or what comes of a manifest that is none."""
    if manifest["format"] != FORMAT:
        raise Bad(f"the format is {manifest['format']} and not {FORMAT}")
    chains = Sheet(directory, manifest["chains"], CHAIN, manifest["encoding"])
    sheets = [Sheet(directory, said, ENTRY, manifest["encoding"]) for said in manifest["files"]]
    names = {sheet.name for sheet in [chains, *sheets]}
    there = {path.name for path in directory.iterdir()}
    for name in sorted(names - there):
        yield f"{name} is missing"
    for name in sorted(there - names - {"manifest.json", "manifest.sig", "verify.py"}):
        yield f"{name} is no part of the export"
    if names <= there:
        yield from misread(manifest, chains, sheets, anchors)
        for sheet in [chains, *sheets]:
            yield from sheet.complaints()


def unsigned(content: bytes, signature: bytes, key: Ed25519PublicKey) -> Iterator[str]:
    """Whether the manifest is what was signed."""
    try:
        key.verify(signature, content)
    except InvalidSignature:
        yield "manifest.json is not what was signed with this key"


def misread(manifest: dict[str, Any], chains: Sheet, sheets: list[Sheet], anchors: Anchors) -> Iterator[str]:
    """The first bad row; or, where all are sound, what they do not sum up to."""
    walk, sheet = Walk(chains.rows(), anchors, of_all=manifest["merchant_id"] is None), chains
    try:
        for sheet in sheets:
            for row in sheet.rows():
                walk.follow(row)
        walk.end()
    except (Bad, ValueError, csv.Error) as error:
        yield f"first bad row: {sheet.name}, line {sheet.line}: {error}"
        return
    said = {(one["account"], one["currency"]): [one["debits"], one["credits"]] for one in manifest["balances"]}
    if said != walk.sums:
        yield "the balances of the manifest are not the sums of the rows"
    if manifest["rows"] != walk.entries:
        yield f"there are {walk.entries} rows and not {manifest['rows']}"


def look(directory: Path, key: Ed25519PublicKey, anchored: list[Path]) -> tuple[str, list[str]]:
    """What it is, and what is wrong with it. Raises: Bad, or what comes of files that are none of an export."""
    content = (directory / "manifest.json").read_bytes()
    complaints = list(unsigned(content, (directory / "manifest.sig").read_bytes(), key))
    manifest = json.loads(content)
    period = manifest["period"]
    with tempfile.TemporaryDirectory() as place:
        anchors = Anchors(Path(place) / "heads", key, until_ms=milliseconds(period["to"]) or 0)
        try:
            for one in anchored:
                complaints += anchors.add(one)
            complaints += check(directory, manifest, anchors)
        finally:
            anchors.close()
    name = sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]
    what = f"{manifest['rows']} entries from {period['from']} to {period['to']}, {anchors.count} anchors, key {name}"
    return what, complaints


def main(arguments: list[str]) -> int:
    """Check what the arguments name, and say what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--public-key", type=Path, required=True, help="PEM, from whoever you trust to have it")
    parser.add_argument("--anchors", type=Path, action="append", default=[], help="a directory of anchors; repeatable")
    asked = parser.parse_args(arguments)
    try:
        key = load_pem_public_key(asked.public_key.read_bytes())
        if not isinstance(key, Ed25519PublicKey):
            raise Bad(f"{asked.public_key} is not of ed25519")
        what, complaints = look(asked.directory, key, asked.anchors)
    except (OSError, ValueError, KeyError, TypeError, Bad) as error:
        print(f"cannot be looked at: {type(error).__name__}: {error}")
        return UNREADABLE
    for complaint in complaints:
        print(f"BROKEN: {complaint}")
    print(f"{'broken' if complaints else 'ok'}: {what}")
    return BROKEN if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
