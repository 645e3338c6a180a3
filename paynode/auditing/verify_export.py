"""Check an export of paynode's ledger without paynode: python verify.py DIRECTORY --public-key FILE

It reads nothing but the directory and the public key, needs Python 3.9 or newer and the package `cryptography`, and
holds one row at a time. Exit code: 0 all is as it was signed, 3 something is not, 2 it could not be looked at.

What is checked: the signature of manifest.json; name, length and sha256 of every file; of every row, that its hash is
the sha256 of the hash before it and of its canonical bytes; that the rows of each merchant are numbered without a gap
from the opening to the closing head that chains.* names; that all amounts sum up to the balances of the manifest.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
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


class Walk:
    """Along the chains, in the order in which chains.* names the merchants."""

    def __init__(self, chains: Iterator[dict[str, Any]]) -> None:
        self.entries = 0
        self.sums: dict[tuple[str, str], list[int]] = {}
        self._chains = chains
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
        chain = next(self._chains, None)
        if chain is None:
            return False
        if chain["merchant_id"] <= self._merchant:
            raise Bad(f"the chain of merchant {chain['merchant_id']} is out of order")
        self._merchant, self._seq, self._hash = chain["merchant_id"], chain["opening_seq"], chain["opening_hash"]
        self._closing = (chain["closing_seq"], chain["closing_hash"])
        if self._seq == 0 and self._hash != "0" * 64:
            raise Bad(f"the chain of merchant {self._merchant} begins with something before its first entry")
        return True

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


def check(directory: Path, key: Ed25519PublicKey) -> Iterator[str]:
    """What is wrong. Raises: Bad, or what comes of a manifest that is none."""
    content = (directory / "manifest.json").read_bytes()
    yield from unsigned(content, (directory / "manifest.sig").read_bytes(), key)
    manifest = json.loads(content)
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
        yield from misread(manifest, chains, sheets)
        for sheet in [chains, *sheets]:
            yield from sheet.complaints()


def unsigned(content: bytes, signature: bytes, key: Ed25519PublicKey) -> Iterator[str]:
    """Whether the manifest is what was signed."""
    try:
        key.verify(signature, content)
    except InvalidSignature:
        yield "manifest.json is not what was signed with this key"


def misread(manifest: dict[str, Any], chains: Sheet, sheets: list[Sheet]) -> Iterator[str]:
    """The first bad row; or, where all are sound, what they do not sum up to."""
    walk, sheet = Walk(chains.rows()), chains
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


def main(arguments: list[str]) -> int:
    """Check what the arguments name, and say what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument(
        "--public-key", type=Path, required=True, help="PEM, from whoever you trust to have the right one"
    )
    asked = parser.parse_args(arguments)
    try:
        key = load_pem_public_key(asked.public_key.read_bytes())
        if not isinstance(key, Ed25519PublicKey):
            raise Bad(f"{asked.public_key} is not of ed25519")
        complaints = list(check(asked.directory, key))
        manifest = json.loads((asked.directory / "manifest.json").read_bytes())
    except (OSError, ValueError, KeyError, TypeError, Bad) as error:
        print(f"cannot be looked at: {type(error).__name__}: {error}")
        return UNREADABLE
    for complaint in complaints:
        print(f"BROKEN: {complaint}")
    if complaints:
        return BROKEN
    name = sha256(key.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()[:16]
    period = manifest["period"]
    print(f"ok: {manifest['rows']} entries from {period['from']} to {period['to']}, signed with the key {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
