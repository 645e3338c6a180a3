"""The ledger held against itself and against what stands outside the database: verified, anchored, exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from paynode.actors.anchoring import Anchoring
from paynode.auditing import keys
from paynode.auditing.anchor_files import AnchorFile
from paynode.auditing.anchors import AnchorFault, Anchors, anchors_dir, look_through
from paynode.auditing.audit import Audit
from paynode.auditing.expectations import Expectations
from paynode.auditing.exporting import Encoding, Exists, Export, Terms, instant
from paynode.config import Settings
from paynode.domain.anchoring import Anchor, Contradiction
from paynode.domain.verifying import Fault
from paynode.observability.observers import Observer
from paynode.runtime.rounds import ANYBODY
from paynode.sections import SettingRefused
from paynode.storage.auditing import Balance, PgHeads, Snapshot, snapshot
from paynode.storage.leases import PgSingleton
from paynode.storage.postgres import Pool, Role, pool

__all__ = [
    "Balance",
    "Encoding",
    "Exists",
    "Key",
    "LedgerBroken",
    "Made",
    "Progress",
    "Report",
    "Terms",
    "anchor_now",
    "anchoring_of",
    "balances",
    "export",
    "key_of",
    "make_key",
    "verify",
]

# Hears of entries that were looked at, and of how many there are.
Progress: TypeAlias = Callable[[int, int], None]


class LedgerBroken(Exception):
    """Nothing is signed that does not verify; says where the ledger is broken first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorsSeen:
    """What was found in a directory of anchors."""

    directory: Path
    files: int
    first: int
    last: int
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of verifying. `broken` are merchants.

    `unanchored`: sound entries that no anchor vouches for yet. `retired`: those that are gone and whose last ones are
    the openings, which only their exports can vouch for.
    """

    merchants: int
    entries: int
    retired: int
    unanchored: int
    broken: int
    faults: Sequence[Fault]
    anchors: Sequence[AnchorsSeen]
    anchor_faults: Sequence[AnchorFault]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.broken and not self.anchor_faults


async def verify(
    settings: Settings,
    *,
    merchant_id: str | None,
    directories: Sequence[Path],
    public_keys: Sequence[Path],
    progress: Progress,
) -> Report:
    """Follow every chain from its opening to its head, and hold it against the anchors of these directories.

    Without directories against those of the settings, if there are any. Raises: Unavailable, SettingRefused.
    """
    places = directories or [place for place in [anchors_dir(settings)] if place.is_dir()]
    believed = keys.public_keys(public_keys or [keys.public_file(settings)]) if places else keys.public_keys([])
    with Expectations() as expectations:
        seen, faults = list[AnchorsSeen](), list[AnchorFault]()
        for place in places:
            good, bad = _look_through(place, believed)
            faults += bad
            for anchor in good:
                named = (one for one in anchor.named() if merchant_id in (None, one[0]))
                expectations.add_anchored(anchor.number, named)
            seen += [_seen(place, good)] if good else []
        audit = await _audit(settings, expectations, merchant_id, progress)
        retired = expectations.count_retired()
    return Report(
        merchants=audit.merchants,
        entries=audit.entries,
        retired=retired,
        unanchored=audit.unanchored,
        broken=audit.broken,
        faults=audit.faults,
        anchors=seen,
        anchor_faults=faults,
    )


async def _audit(settings: Settings, expectations: Expectations, merchant_id: str | None, progress: Progress) -> Audit:
    async with snapshot(settings, application_name="paynode ledger verify") as ledger:
        await _refuse_standby(ledger)
        async for ends in ledger.ends(merchant_id):
            expectations.add_ends(ends)
        audit, total = Audit(expectations), expectations.count_entries()
        async for rows in ledger.rows(merchant_id):
            audit.follow(rows)
            progress(audit.entries, total)
        audit.end()
    return audit


async def _refuse_standby(ledger: Snapshot) -> None:
    if await ledger.is_late():
        raise SettingRefused("database.url: it is a standby, where entries that are anchored may be missing yet")


def _look_through(place: Path, believed: keys.PublicKeys) -> tuple[list[AnchorFile], list[AnchorFault]]:
    try:
        return look_through(place, believed)
    except OSError as error:
        raise SettingRefused(f"{place}: {error.strerror or error}") from error


def _seen(place: Path, good: Sequence[AnchorFile]) -> AnchorsSeen:
    return AnchorsSeen(directory=place, files=len(good), first=good[0].number, last=good[-1].number, at=good[-1].at)


async def export(settings: Settings, directory: Path, terms: Terms, *, progress: Progress) -> int:
    """Write the entries of a period, with what they follow, and sign them; returns how many there are.

    Raises: Exists, LedgerBroken (nothing is signed that does not verify), Unavailable, SettingRefused.
    """
    signer, made_at = keys.signer_of(settings), _now()
    with Export(directory, terms) as writing, Expectations() as expectations:
        asked = (terms.since, terms.until, terms.merchant_id)
        async with snapshot(settings, application_name="paynode ledger export", is_signed=True) as ledger:
            await _refuse_standby(ledger)
            async for ends in ledger.periods(*asked):
                expectations.add_ends(ends)
                writing.chains(ends)
            audit, total = Audit(expectations), expectations.count_entries()
            async for rows in ledger.period_rows(*asked):
                audit.follow(rows)
                writing.rows(rows)
                progress(audit.entries, total)
            audit.end()
        for fault in audit.faults:
            raise LedgerBroken(f"merchant {fault.merchant_id}, entry {fault.seq}: {fault.why} ({fault.detail})")
        writing.finish(signer, made_at=made_at)
    return audit.entries


async def balances(settings: Settings, *, merchant_id: str | None) -> Sequence[Balance]:
    """The trial balance, of one merchant's entries or of all. Raises: Unavailable."""
    async with snapshot(settings, application_name="paynode ledger balance") as ledger:
        return await ledger.balances(merchant_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """The key that signs, by its id, and where its public half is."""

    id: str
    public_file: Path


def make_key(settings: Settings) -> bool:
    """Make the key that signs; says no when it is there. Raises: OSError, SettingRefused."""
    return keys.make(keys.private_file(settings))


def key_of(settings: Settings) -> Key:
    """The key that signs. Raises: SettingRefused."""
    return Key(id=keys.signer_of(settings).id, public_file=keys.public_file(settings))


def anchoring_of(
    settings: Settings, reading: Pool, database: Pool, observer: Observer, *, owner: str
) -> Anchoring | None:
    """The rounds of the scheduler; None, and the observer hears why, where no key can sign.

    `reading` as the reader's role, `database` as the gateway's.
    """
    chosen = settings.ledger
    try:
        anchors = _anchors_of(settings)
    except SettingRefused as error:
        observer.anchoring_failed(error)
        return None
    singleton = PgSingleton(database, name="anchoring", owner=owner, lease_s=chosen.anchor_lease_s)
    return Anchoring(PgHeads(reading), anchors, singleton, observer, interval_s=chosen.anchor_interval_s)


@dataclass(slots=True)
class Made:
    """What one round came to. `anchor` is None when nothing was new."""

    anchor: Anchor | None = None
    contradicted: int = 0

    def anchored(self, anchor: Anchor | None) -> None:
        """As the observer of the round."""
        self.anchor = anchor

    def anchor_contradicted(self, count: int, examples: Sequence[Contradiction]) -> None:
        """As the observer of the round; `verify` tells of each."""
        del examples
        self.contradicted = count

    def anchoring_failed(self, error: Exception) -> None:
        """As the observer of the rounds: of a single one it is raised."""
        raise error


async def anchor_now(settings: Settings) -> Made:
    """One anchor, beside those of the scheduler. Raises: Unavailable, SettingRefused."""
    anchors, made = _anchors_of(settings), Made()
    async with pool(settings, Role.READER, application_name="paynode ledger anchor", size=1) as reading:
        await Anchoring(PgHeads(reading), anchors, ANYBODY, made, interval_s=1).run_once()
    return made


def _anchors_of(settings: Settings) -> Anchors:
    return Anchors(anchors_dir(settings), keys.signer_of(settings), now=_now)


def _now() -> str:
    return instant(datetime.now(UTC))
