"""One anchor is one file, as an auditor reads it; docs/ledger.md has its format.

The first line is a document: the anchor's number, when, the sha256 of the file before it, whether it names all heads or
those that are new since then. Each following line is a merchant's id, number and hash of its last entry, in the order
of the ids. The last line is a document with the signature of all lines before it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import orjson

from paynode.auditing.keys import PublicKeys
from paynode.domain.anchoring import Named
from paynode.domain.ledger import Head

FORMAT: Final = "paynode-anchor/1"
_SUFFIX: Final = ".anchor"
_NAME: Final = re.compile(r"[0-9]{10}\.anchor", re.ASCII)
_HEAD: Final = re.compile(rb"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) ([1-9][0-9]{0,18}) ([0-9a-f]{64})\n")
# Bytes that are read at a time.
_BLOCK: Final = 1 << 20


class AnchorBroken(Exception):
    """A file that is no anchor of ours as we wrote it; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorFile:
    """An anchor whose signature is good. `sha256` is that of the whole file, `previous` that of the one before."""

    path: Path
    number: int
    at: str
    previous: str | None
    is_whole: bool
    heads: int
    sha256: str

    def named(self) -> Iterator[Named]:
        """The heads that it names, by merchant."""
        with self.path.open("rb") as file:
            file.readline()
            for _ in range(self.heads):
                yield _named(file.readline())


def name_of(number: int) -> str:
    """The name of the file of an anchor."""
    return f"{number:010}{_SUFFIX}"


def list_files(directory: Path) -> list[Path]:
    """The anchors of a directory in their order. Raises: OSError."""
    return sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))


def header(*, number: int, at: str, previous: str | None, is_whole: bool) -> bytes:
    """The first line."""
    return _line({"format": FORMAT, "number": number, "at": at, "previous": previous, "is_whole": is_whole})


def head_line(merchant_id: str, head: Head) -> bytes:
    """A line between the first and the last."""
    return f"{merchant_id} {head.seq} {head.hash.hex()}\n".encode()


def footer(*, heads: int, key: str, signature: bytes) -> bytes:
    """The last line."""
    return _line({"heads": heads, "key": key, "signature": signature.hex()})


def signed(heads: int, content_sha256: str) -> bytes:
    """What is signed: the digest of all lines before the last, so that a file of any length is signed in one pass.

    And how many heads there are, which is known only by then.
    """
    return f"{FORMAT} {heads} {content_sha256}".encode()


def read(path: Path, keys: PublicKeys) -> AnchorFile:
    """Read a file through, and believe it only when a key that is believed has signed it.

    Raises: AnchorBroken; OSError.
    """
    first, last, digests = _ends(path)
    try:
        start, end = orjson.loads(first), orjson.loads(last)
        found = AnchorFile(
            path=path,
            number=start["number"],
            at=start["at"],
            previous=start["previous"],
            is_whole=start["is_whole"],
            heads=end["heads"],
            sha256=digests[1],
        )
        is_signed = keys.is_signed(end["key"], bytes.fromhex(end["signature"]), signed(found.heads, digests[0]))
    except (ValueError, TypeError, KeyError) as error:
        raise AnchorBroken("it is no anchor") from error
    if not is_signed:
        raise AnchorBroken(f"no key that is believed has signed it (it names the key {end['key']})")
    if start["format"] != FORMAT or name_of(found.number) != path.name:
        raise AnchorBroken("it is another anchor, or of another format")
    return found


def _ends(path: Path) -> tuple[bytes, bytes, tuple[str, str]]:
    """The first line, the last line; the digest of everything before the last line, and that of all."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 4096))
        tail = file.read()
        last = tail[tail.rstrip(b"\n").rfind(b"\n") + 1 :]
        file.seek(0)
        first = file.readline(4096)
        file.seek(0)
        digest, left = sha256(), size - len(last)
        while left and (block := file.read(min(_BLOCK, left))):
            digest.update(block)
            left -= len(block)
        before = digest.hexdigest()
        digest.update(last)
    return first, last, (before, digest.hexdigest())


def _named(line: bytes) -> Named:
    """One line. It was signed, so that it can only be malformed by our own mistake."""
    match = _HEAD.fullmatch(line)
    if match is None:
        raise AnchorBroken("a line names no head")
    merchant_id, seq, digest = match.groups()
    return merchant_id.decode(), Head(seq=int(seq), hash=bytes.fromhex(digest.decode()))


def _line(document: dict[str, object]) -> bytes:
    return orjson.dumps(document) + b"\n"
