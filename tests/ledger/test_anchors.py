"""Anchors: each names the one before it and what is new; one that is missing, changed or forged shows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from pathlib import Path

import anyio
import pytest

from paynode.actors.anchoring import Anchoring
from paynode.auditing import anchor_files, anchors, keys
from paynode.auditing.anchors import Anchors, look_through
from paynode.auditing.keys import PublicKeys, Signer
from paynode.domain.anchoring import Anchor, Contradiction, Named
from paynode.domain.errors import Unavailable
from paynode.domain.ledger import Head
from paynode.runtime.rounds import ANYBODY

MERCHANTS = [f"01890a5d-0000-7000-8000-{number:012x}" for number in range(4)]


class Ledgers:
    """Heads as a database would tell them, and what the observer heard."""

    def __init__(self) -> None:
        self.heads: dict[str, Head] = {}
        self.anchors: list[Anchor | None] = []
        self.contradicted: list[tuple[int, Sequence[Contradiction]]] = []
        self.fails = False

    def grow(self, *merchants: int, by: int = 1) -> None:
        for number in merchants:
            seq = self.heads.get(MERCHANTS[number], Head()).seq + by
            self.heads[MERCHANTS[number]] = head(seq, number)

    async def read(self, each: Callable[[str, Head], None]) -> None:
        for merchant_id in sorted(self.heads):
            each(merchant_id, self.heads[merchant_id])
        if self.fails:
            raise Unavailable("the standby says nothing")

    def anchored(self, anchor: Anchor | None) -> None:
        self.anchors.append(anchor)

    def anchor_contradicted(self, count: int, examples: Sequence[Contradiction]) -> None:
        self.contradicted.append((count, list(examples)))

    def anchoring_failed(self, error: Exception) -> None:
        raise error


def head(seq: int, of: int) -> Head:
    return Head(seq=seq, hash=bytes([of]) * 24 + seq.to_bytes(8, "big"))


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return made_signer(tmp_path / "key.pem")


def made_signer(file: Path) -> Signer:
    keys.make(file)
    return keys._signer(file, file.read_bytes())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "anchors"


@pytest.fixture
def ledgers() -> Ledgers:
    return Ledgers()


@pytest.fixture
def anchoring(ledgers: Ledgers, place: Path, signer: Signer) -> Anchoring:
    kept = Anchors(place, signer, now=lambda: "2026-03-01T12:00:00.123Z")
    return Anchoring(ledgers, kept, ANYBODY, ledgers, interval_s=1)


@pytest.fixture
def believed(signer: Signer) -> PublicKeys:
    return PublicKeys([signer.key.public_key()])


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def wrong(place: Path, believed: PublicKeys) -> list[tuple[str, str]]:
    return [(fault.file.name, fault.detail) for fault in look_through(place, believed)[1]]


def said(place: Path, number: int) -> Iterable[Named]:
    lines = (place / anchor_files.name_of(number)).read_text().splitlines()
    for line in lines[1:-1]:
        merchant_id, seq, digest = line.split(" ")
        yield merchant_id, Head(seq=int(seq), hash=bytes.fromhex(digest))


async def anchor_twice(anchoring: Anchoring, ledgers: Ledgers) -> None:
    ledgers.grow(0, 1, 2)
    await anchoring.run_once()
    ledgers.grow(1, 3)
    await anchoring.run_once()


async def test_the_first_one_names_all_heads_and_the_next_what_is_new(
    anchoring: Anchoring, ledgers: Ledgers, place: Path, believed: PublicKeys
) -> None:
    await anchor_twice(anchoring, ledgers)
    assert names(place) == ["0000000001.anchor", "0000000002.anchor"]
    assert list(said(place, 1)) == [(MERCHANTS[number], head(1, number)) for number in (0, 1, 2)]
    assert list(said(place, 2)) == [(MERCHANTS[1], head(2, 1)), (MERCHANTS[3], head(1, 3))]
    good, faults = look_through(place, believed)
    assert ([one.is_whole for one in good], faults) == ([True, False], [])
    assert good[1].previous == good[0].sha256
    assert list(good[1].named()) == list(said(place, 2))


async def test_the_format_is_the_documented_one(
    anchoring: Anchoring, ledgers: Ledgers, place: Path, signer: Signer
) -> None:
    """docs/ledger.md has it, and auditors read it in other languages: it may never change under this name."""
    ledgers.grow(2)
    await anchoring.run_once()
    first, middle, last = (place / "0000000001.anchor").read_bytes().splitlines(keepends=True)
    assert first == (
        b'{"format":"paynode-anchor/1","number":1,"at":"2026-03-01T12:00:00.123Z","previous":null,"is_whole":true}\n'
    )
    assert middle == f"{MERCHANTS[2]} 1 {head(1, 2).hash.hex()}\n".encode()
    footer = json.loads(last)
    assert (footer["heads"], footer["key"]) == (1, signer.id)
    digest = sha256(first + middle).hexdigest()
    signer.key.public_key().verify(bytes.fromhex(footer["signature"]), f"paynode-anchor/1 1 {digest}".encode())


async def test_nothing_is_written_while_nothing_moves(anchoring: Anchoring, ledgers: Ledgers, place: Path) -> None:
    await anchoring.run_once()
    assert names(place) == []
    ledgers.grow(0)
    for _ in range(3):
        await anchoring.run_once()
    assert names(place) == ["0000000001.anchor"]
    assert ledgers.anchors == [None, Anchor(number=1, heads=1, is_whole=True), None, None]


async def test_one_is_whole_again_after_some(
    anchoring: Anchoring, ledgers: Ledgers, place: Path, believed: PublicKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchors, "_WHOLE_EVERY", 3)
    ledgers.grow(0, 1, 2, 3)
    for number in (0, 1, 2, 3, 0, 1, 2):
        ledgers.grow(number)
        await anchoring.run_once()
    good, faults = look_through(place, believed)
    assert [(one.is_whole, one.heads) for one in good] == [
        *[(True, 4), (False, 1), (False, 1)],
        *[(True, 4), (False, 1), (False, 1)],
        (True, 4),
    ]
    assert faults == []
    assert dict(good[-1].named()) == ledgers.heads
    for path in good[:3]:
        path.path.unlink()
    assert wrong(place, believed) == [], "with a whole one at the beginning it is enough"


async def test_nothing_is_kept_when_it_is_not_sure_that_it_lasts(
    anchoring: Anchoring, ledgers: Ledgers, place: Path
) -> None:
    ledgers.grow(0)
    ledgers.fails = True
    with pytest.raises(Unavailable):
        await anchoring.run_once()
    assert names(place) == []


async def test_of_two_who_write_the_same_one_is_kept(
    ledgers: Ledgers, anchoring: Anchoring, place: Path, believed: PublicKeys, signer: Signer
) -> None:
    ledgers.grow(0)
    slow = Anchors(place, signer, now=lambda: "later")
    async with slow.next() as late:
        late.add(MERCHANTS[0], ledgers.heads[MERCHANTS[0]])
        await anchoring.run_once()
        assert await late.keep() is None
    assert names(place) == ["0000000001.anchor"]
    assert wrong(place, believed) == []


async def test_a_ledger_that_has_lost_something_is_told_and_what_was_anchored_stays(
    anchoring: Anchoring, ledgers: Ledgers, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anchors, "_WHOLE_EVERY", 2)
    ledgers.grow(0, 1, 2, by=5)
    await anchoring.run_once()
    was = dict(ledgers.heads)
    ledgers.heads[MERCHANTS[0]] = head(4, 0)  # cut off
    ledgers.heads[MERCHANTS[1]] = head(5, 9)  # sealed anew
    del ledgers.heads[MERCHANTS[2]]
    for _ in range(2):
        ledgers.grow(3)
        await anchoring.run_once()
    count, found = ledgers.contradicted[-1]
    assert count == 3
    assert [(one.merchant_id, one.anchored, one.found) for one in found] == [
        (MERCHANTS[0], head(5, 0), head(4, 0)),
        (MERCHANTS[1], head(5, 1), head(5, 9)),
        (MERCHANTS[2], head(5, 2), None),
    ]
    assert dict(said(place, 2)) == {MERCHANTS[3]: head(1, 3)}
    assert dict(said(place, 3)) == was | {MERCHANTS[3]: head(2, 3)}, "a whole one says it again"


async def test_no_anchor_is_built_upon_one_that_cannot_be_believed(
    anchoring: Anchoring, ledgers: Ledgers, place: Path
) -> None:
    await anchor_twice(anchoring, ledgers)
    spoil(place / "0000000002.anchor", b'"number":2', b'"number":3')
    ledgers.grow(0)
    with pytest.raises(Unavailable, match="cannot be built upon"):
        await anchoring.run_once()
    assert names(place) == ["0000000001.anchor", "0000000002.anchor"]


def spoil(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.chmod(0o600)
    path.write_bytes(content.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b" 1 ", b" 2 "),
        (b"-7000-", b"-7001-"),
        (b'"heads":3', b'"heads":2'),
        (b'"signature":"', b'"signature":"00'),
        (b"paynode-anchor/1", b"paynode-anchor/2"),
        (b"2026-03-01", b"2026-03-02"),
        (b"\n{", b"\nx{"),
        (b'"key":"', b'"key":"a'),
    ],
)
async def test_a_changed_anchor_is_not_believed(
    anchoring: Anchoring, ledgers: Ledgers, place: Path, believed: PublicKeys, old: bytes, new: bytes
) -> None:
    ledgers.grow(0, 1, 2)
    await anchoring.run_once()
    spoil(place / "0000000001.anchor", old, new)
    ((file, _),) = wrong(place, believed)
    assert file == "0000000001.anchor"
    assert look_through(place, believed)[0] == []


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n{}\n", b"[]\n[]\n", b"\x00" * 10_000, b"null"])
def test_what_is_no_anchor_is_named(place: Path, believed: PublicKeys, content: bytes) -> None:
    place.mkdir()
    (place / "0000000001.anchor").write_bytes(content)
    assert wrong(place, believed) == [("0000000001.anchor", "it is no anchor")]


async def test_a_missing_one_shows(anchoring: Anchoring, ledgers: Ledgers, place: Path, believed: PublicKeys) -> None:
    await anchor_twice(anchoring, ledgers)
    ledgers.grow(0)
    await anchoring.run_once()
    (place / "0000000002.anchor").unlink()
    ((file, detail),) = wrong(place, believed)
    assert file == "0000000002.anchor"
    assert detail.startswith("missing")
    (place / "0000000001.anchor").unlink()
    assert [file for file, _ in wrong(place, believed)] == ["0000000003.anchor"], "which does not name all heads"


async def test_one_that_was_exchanged_for_another_well_signed_one_shows(
    ledgers: Ledgers, anchoring: Anchoring, place: Path, believed: PublicKeys, signer: Signer, tmp_path: Path
) -> None:
    """Somebody has the key: what was written after it still names the one that it was."""
    await anchor_twice(anchoring, ledgers)
    other = Ledgers()
    other.grow(0)
    await Anchoring(other, Anchors(tmp_path / "other", signer, now=str), ANYBODY, other, interval_s=1).run_once()
    os.replace(tmp_path / "other" / "0000000001.anchor", place / "0000000001.anchor")
    assert wrong(place, believed) == [("0000000002.anchor", "it follows another 0000000001.anchor")]


async def test_a_key_that_is_not_believed_has_signed_nothing(
    anchoring: Anchoring, ledgers: Ledgers, place: Path, tmp_path: Path
) -> None:
    await anchor_twice(anchoring, ledgers)
    stranger = PublicKeys([made_signer(tmp_path / "other.pem").key.public_key()])
    assert [file for file, _ in wrong(place, stranger)] == ["0000000001.anchor", "0000000002.anchor"]


async def test_a_draft_of_a_process_that_died_is_no_anchor(
    anchoring: Anchoring, ledgers: Ledgers, place: Path, believed: PublicKeys
) -> None:
    await anchor_twice(anchoring, ledgers)
    (place / ".draft-x").write_bytes(b"half")
    ledgers.grow(0)
    await anchoring.run_once()
    assert wrong(place, believed) == []


async def test_the_turns_of_others_come_in_between(anchoring: Anchoring, ledgers: Ledgers, place: Path) -> None:
    """Reading what was anchored, and the wait for the disk, are in a thread."""
    ledgers.grow(0)
    async with anyio.create_task_group() as both:
        both.start_soon(anchoring.run_once)
        both.start_soon(anchoring.run_once)
    assert names(place) == ["0000000001.anchor"]
