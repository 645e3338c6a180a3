"""Planted bugs: what the simulation must catch, or it would prove nothing by finding nothing.

Each takes away one thing that paynode does right, in its own code or in the twin of what its statements do. That some
are caught late or seldom is as it should be: several layers guard the same money.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from redis.exceptions import ResponseError

from paynode.actors.intake import Intake, Sorted
from paynode.actors.merchant import Decided, Delivery, MerchantActor
from paynode.actors.ownership import Ownership
from paynode.actors.partition import PartitionRun
from paynode.domain.batch import Batch, Lease
from paynode.domain.booking import MerchantBooks
from paynode.domain.errors import CommitAmbiguous, Transient
from paynode.domain.message import Message
from paynode.domain.payment import Payment
from paynode.domain.road import Entry
from paynode.streams.client import Redis, translated
from paynode.streams.entries import Member
from paynode.streams.partition_feed import PartitionFeed
from tests.simulation.handles import SimBooks, SimOutbox
from tests.simulation.store import Store

Plant = Callable[[], AbstractContextManager[None]]


@contextmanager
def _replaced(*changes: tuple[type, str, object]) -> Iterator[None]:
    """Methods replaced, until it ends."""
    with ExitStack() as stack:
        for owner, name, value in changes:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        yield


def _no_epoch_check() -> AbstractContextManager[None]:
    """The batch does not look whether the lease is still its own."""

    def judge(store: Store, leases: Iterable[Lease]) -> None:
        pass

    return _replaced((Store, "judge_leases", judge))


def _ack_before_commit() -> AbstractContextManager[None]:
    """Entries are acknowledged when they are decided, not when that is committed."""
    submit = PartitionRun.submit

    async def early(run: PartitionRun, decided: Sequence[Decided]) -> None:
        await run.acknowledge([one.entry_id for one in decided])
        await submit(run, decided)

    return _replaced((PartitionRun, "submit", early))


def _dedupe_by_stream_id() -> AbstractContextManager[None]:
    """What is in hand, and what had its effect, is recognised by the entry and not by what it brings."""

    def all_refs(intake: Intake, entries: Sequence[Entry]) -> dict[str, str]:
        return {entry.id: entry.ref for entry in entries if entry.ref is not None}

    async def deliver_all(intake: Intake, read: Sequence[tuple[str, Message]], result: Sorted) -> None:
        inside: Any = intake
        result.deliveries.extend(Delivery(inside._stream, entry_id, message) for entry_id, message in read)

    return _replaced((Intake, "_new_refs", all_refs), (Intake, "_recognise", deliver_all))


def _group_at_dollar() -> AbstractContextManager[None]:
    """The group begins behind what is in the stream already."""

    async def make_group(member: Member, client: Redis) -> None:
        with translated():
            try:
                await client.xgroup_create(member.stream, member.group, id="$", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    return _replaced((Member, "make_group", make_group))


def _state_kept() -> AbstractContextManager[None]:
    """After a failed commit the next run goes on with what the actors of the one before had in mind."""
    load, known = MerchantActor.load, dict[tuple[Lease, str], MerchantActor]()

    def keep(actor: MerchantActor, books: MerchantBooks | None, payments: Mapping[str, Payment]) -> None:
        load(actor, books, payments)
        if books is not None:
            inside: Any = actor
            before: Any = known.get((inside._lease, books.merchant_id))
            if before is not None and before._books is not None:
                inside._books = before._books
            known[inside._lease, books.merchant_id] = actor

    return _replaced((MerchantActor, "load", keep))


def _ambiguous_repeated() -> AbstractContextManager[None]:
    """A COMMIT that was cut off counts as failed, and is done again without asking."""

    async def again(books: SimBooks, batch: Batch) -> None:
        try:
            await books.transact(batch)
        except CommitAmbiguous:
            books.session.store.write(batch, books.lease_s)

    return _replaced((SimBooks, "commit", again))


def _ambiguous_done() -> AbstractContextManager[None]:
    """A COMMIT that was cut off counts as done."""

    async def hopeful(books: SimBooks, batch: Batch) -> None:
        return None

    return _replaced((SimBooks, "settle", hopeful))


def _sweep_of_unpublished() -> AbstractContextManager[None]:
    """The relay looks for what was never published, instead of what was not processed."""

    async def nothing(outbox: SimOutbox, after_s: float) -> Sequence[str]:
        return []

    return _replaced((SimOutbox, "old_streams", nothing))


def _wallet_outside() -> AbstractContextManager[None]:
    """Wallets are written in a transaction of their own, after the one of the ledger."""
    transact = SimBooks.transact

    async def in_two(books: SimBooks, batch: Batch) -> None:
        await transact(books, replace(batch, wallets=()))
        await books.session.call(lambda: books.session.store.write_wallets(batch.wallets))

    return _replaced((SimBooks, "transact", in_two))


def _pending_not_read() -> AbstractContextManager[None]:
    """Whoever takes a partition over begins with what is new."""

    async def nothing(_: PartitionFeed, lane: Any) -> list[Entry]:
        lane.pending_after, lane.is_behind = None, False
        return []

    return _replaced((PartitionFeed, "_read_pending", nothing))


def _released_before_drained() -> AbstractContextManager[None]:
    """A partition is given back first and finished afterwards."""
    give_back = Ownership._give_back

    async def hasty(ownership: Ownership, holding: Any) -> None:
        with suppress(Transient):
            await ownership._leases.release(holding.lease)
        await give_back(ownership, holding)

    return _replaced((Ownership, "_give_back", hasty))


BUGS: Final[Mapping[str, Plant]] = {
    "no epoch check": _no_epoch_check,
    "ack before commit": _ack_before_commit,
    "dedupe by stream id": _dedupe_by_stream_id,
    "group made at $": _group_at_dollar,
    "state kept after a failed commit": _state_kept,
    "ambiguous commit repeated": _ambiguous_repeated,
    "ambiguous commit taken for done": _ambiguous_done,
    "sweep of what is not published": _sweep_of_unpublished,
    "wallet outside the transaction": _wallet_outside,
    "pending list not read": _pending_not_read,
    "released before drained": _released_before_drained,
}
