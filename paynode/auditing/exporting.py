"""An export of the ledger: files of entries, the chains that they are pieces of, a signed manifest, and what checks it.

docs/ledger.md has the format. All of it is written beside the directory that was asked for, and named at the end.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

import orjson

from paynode import __version__
from paynode.auditing import verify_export
from paynode.auditing.durable import sync_directory
from paynode.auditing.keys import Signer
from paynode.domain.verifying import Expected, Row

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_Cell: TypeAlias = str | int | None


class Encoding(StrEnum):
    """How rows are written."""

    NDJSON = "ndjson"
    CSV = "csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is exported: entries from `since` on and before `until`, of one merchant or of all."""

    since: datetime
    until: datetime
    merchant_id: str | None
    encoding: Encoding
    rows_per_file: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """One file of an export, as the manifest has it."""

    name: str
    rows: int
    bytes: int
    sha256: str


class Exists(Exception):
    """There is something in the place of the export already."""


class _Sheet:
    """A file of rows that all have these fields."""

    def __init__(self, path: Path, fields: Sequence[str], encoding: Encoding, open_files: ExitStack) -> None:
        self.rows = 0
        self._path = path
        self._fields = fields
        self._encoding = encoding
        self._file = open_files.enter_context(path.open("xb"))
        self._digest = sha256()
        self._csv = csv.writer(self, lineterminator="\n")
        if encoding is Encoding.CSV:
            self._csv.writerow(fields)

    def row(self, cells: Sequence[_Cell]) -> None:
        self.rows += 1
        if self._encoding is Encoding.CSV:
            self._csv.writerow(cells)
        else:
            self._put(orjson.dumps(dict(zip(self._fields, cells, strict=True))) + b"\n")

    def write(self, text: str) -> None:
        """For the writer of CSV."""
        self._put(text.encode())

    def close(self) -> Written:
        size = self._file.tell()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return Written(name=self._path.name, rows=self.rows, bytes=size, sha256=self._digest.hexdigest())

    def _put(self, content: bytes) -> None:
        self._digest.update(content)
        self._file.write(content)


class Export:
    """An export that is being written. It holds one row at a time, and a sum for each account."""

    def __init__(self, directory: Path, terms: Terms) -> None:
        if directory.exists():
            raise Exists(f"{directory} is there already")
        self._directory = directory
        self._terms = terms
        directory.parent.mkdir(parents=True, exist_ok=True)
        self._draft = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
        self._open_files = ExitStack()
        self._chains = self._new_sheet("chains", verify_export.CHAIN)
        self._sheet: _Sheet | None = None
        self._files: list[Written] = []
        self._sums: dict[tuple[str, str], list[int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open_files.close()
        shutil.rmtree(self._draft, ignore_errors=True)

    def chains(self, page: Iterable[tuple[str, Expected]]) -> None:
        """What the entries of merchants follow and where they end, in the order of merchants."""
        for merchant_id, expected in page:
            assert expected.head is not None, "a period has an end"
            opening, closing = expected.opening, expected.head
            self._chains.row([merchant_id, opening.seq, opening.hash.hex(), closing.seq, closing.hash.hex()])

    def rows(self, page: Iterable[Row]) -> None:
        """The next entries."""
        for row in page:
            if self._sheet is None or self._sheet.rows == self._terms.rows_per_file:
                self._close_sheet()
                self._sheet = self._new_sheet(f"entries-{len(self._files) + 1:06}", verify_export.ENTRY)
            self._sheet.row(_cells(row))
            self._sum(row.debit, row.currency)[0] += row.amount
            self._sum(row.credit, row.currency)[1] += row.amount

    def finish(self, signer: Signer, *, made_at: str) -> None:
        """Sign it and put it in its place. Raises: Exists."""
        self._close_sheet()
        content = json.dumps(self._manifest(signer.id, made_at), indent=2).encode() + b"\n"
        self._put("manifest.json", content)
        self._put("manifest.sig", signer.sign(content))
        self._put("verify.py", Path(verify_export.__file__).read_bytes())
        self._draft.chmod(0o755)
        sync_directory(self._draft)
        try:
            self._draft.rename(self._directory)
        except OSError as error:
            raise Exists(f"{self._directory} is there by now") from error
        sync_directory(self._directory.parent)

    def _new_sheet(self, name: str, fields: Sequence[str]) -> _Sheet:
        encoding = self._terms.encoding
        return _Sheet(self._draft / f"{name}.{encoding}", fields, encoding, self._open_files)

    def _close_sheet(self) -> None:
        if self._sheet is not None:
            self._files.append(self._sheet.close())
            self._sheet = None

    def _sum(self, account: str, currency: str) -> list[int]:
        return self._sums.setdefault((currency, account), [0, 0])

    def _manifest(self, key: str, made_at: str) -> dict[str, object]:
        terms = self._terms
        return {
            "format": verify_export.FORMAT,
            "made_at": made_at,
            "made_by": f"paynode {__version__}",
            "period": {"from": instant(terms.since), "to": instant(terms.until)},
            "merchant_id": terms.merchant_id,
            "encoding": terms.encoding,
            "rows": sum(file.rows for file in self._files),
            "files": [asdict(file) for file in self._files],
            "chains": asdict(self._chains.close()),
            "balances": [
                {"account": account, "currency": currency, "debits": sums[0], "credits": sums[1]}
                for (currency, account), sums in sorted(self._sums.items())
            ],
            "key": key,
        }

    def _put(self, name: str, content: bytes) -> None:
        with (self._draft / name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def instant(at: datetime) -> str:
    """ISO 8601 with milliseconds, UTC."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cells(row: Row) -> tuple[_Cell, ...]:
    return (
        row.entry_id, row.line, row.merchant_id, row.seq, row.payment_id or None, row.operation_id, row.type, row.debit,
        row.credit, row.amount, row.currency, instant(_EPOCH + timedelta(milliseconds=row.at_ms)), row.reference,
        row.epoch, row.prev_hash.hex(), row.hash.hex(),
    )  # fmt: skip
