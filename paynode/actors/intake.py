"""From entries to deliveries: pointers are looked up, outside events verified, and what was had before recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from paynode.actors.merchant import Delivery
from paynode.domain.booking import MerchantBooks
from paynode.domain.keeping import kept
from paynode.domain.message import Message, Unread, Unreadable
from paynode.domain.payment import Payment
from paynode.domain.publishing import OutsideEvent, Verdict
from paynode.domain.road import Entry, Place


class Shelf(Protocol):
    """What the database holds. Raises: Unavailable."""

    async def messages(self, places: Sequence[Place]) -> Mapping[Place, Message | Unread | Unreadable]: ...
    async def verdicts(self, event_ids: Sequence[str]) -> Mapping[str, Verdict]: ...
    async def payments(self, payment_ids: Sequence[str]) -> Mapping[str, Payment]: ...
    async def books(self, merchant_ids: Sequence[str]) -> Mapping[str, MerchantBooks]: ...


class Outside(Protocol):
    """Verifies and reads what outside publishers say. Raises: Unavailable."""

    async def read(self, entries: Sequence[Mapping[str, str]], partition: int) -> Sequence[Message | Unreadable]: ...


@dataclass(slots=True)
class Sorted:
    """What entries turned out to be.

    `deliveries` are for actors; `unreadable` are to be buried; `claimed` are rows whose event had its effect by another
    way; `done` need nothing but the acknowledgement; `told` are verdicts that somebody asks for again.
    """

    deliveries: list[Delivery] = field(default_factory=list)
    unreadable: list[tuple[str, Unreadable]] = field(default_factory=list)
    claimed: list[tuple[str, str]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    told: list[Verdict] = field(default_factory=list)


class Intake:
    """One run's gate: remembers what is in hand, so that nothing is taken in twice."""

    def __init__(self, stream: str, partition: int, shelf: Shelf, outside: Outside) -> None:
        self._stream = stream
        self._partition = partition
        self._shelf = shelf
        self._outside = outside
        self._refs: set[str] = set()
        self._events: dict[str, bytes] = {}  # outside events in hand, with the hash of their content

    async def sort(self, entries: Sequence[Entry]) -> Sorted:
        """Say what each entry is, in their order."""
        refs = self._new_refs(entries)
        found = await self._shelf.messages([(self._stream, ref) for ref in refs.values()]) if refs else {}
        result = Sorted()
        read: list[tuple[str, Message]] = []
        meanings = [
            found.get((self._stream, refs[entry.id])) if entry.id in refs else _meaning(entry) for entry in entries
        ]
        for entry, meaning in zip(entries, await self._read_unread(meanings), strict=True):
            match meaning:
                case Message() as message:
                    read.append((entry.id, message))
                case Unreadable() as what:
                    result.unreadable.append((entry.id, what))
                case None:
                    result.done.append(entry.id)  # processed already, in hand already, or a row of another stream
                    self._refs.discard(refs.get(entry.id, ""))
        await self._recognise(read, result)
        return result

    def let_go(self, ref: str) -> None:
        """The row is claimed: should one of its name come again, an operator has requeued it."""
        self._refs.discard(ref)

    def forget(self, message: Message) -> None:
        """It is settled."""
        if message.ref is not None:
            self._refs.discard(message.ref)
        if isinstance(message.content, OutsideEvent):
            self._events.pop(message.event_id, None)

    def _new_refs(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The rows to look up, by entry id: pointers whose row is not in hand already.

        Rows count as in hand from before they are looked up: one that is committed between the look-up and now would
        else be taken in twice.
        """
        refs: dict[str, str] = {}
        for entry in entries:
            if entry.ref is not None and entry.ref not in self._refs:
                self._refs.add(entry.ref)
                refs[entry.id] = entry.ref
        return refs

    async def _read_unread(
        self, meanings: Sequence[Message | Unread | Unreadable | None]
    ) -> Sequence[Message | Unreadable | None]:
        """The same, with what nobody had looked into."""
        unread = [one for one in meanings if isinstance(one, Unread)]
        found = iter(await self._outside.read([one.fields for one in unread], self._partition) if unread else ())
        return [_of_row(next(found), one.ref) if isinstance(one, Unread) else one for one in meanings]

    async def _recognise(self, read: Sequence[tuple[str, Message]], result: Sorted) -> None:
        """Outside events are known by their id, for ever: what was applied or refused once is never done again."""
        ids = [message.event_id for _, message in read if isinstance(message.content, OutsideEvent)]
        # Asked before the look-up: what is committed and let go during it has its verdict after the look.
        in_hand = {event_id: self._events[event_id] for event_id in ids if event_id in self._events}
        verdicts = await self._shelf.verdicts(ids) if ids else {}
        for entry_id, message in read:
            content = message.content
            if isinstance(content, OutsideEvent):
                verdict = verdicts.get(content.id)
                known = verdict.content_sha256 if verdict else self._events.get(content.id) or in_hand.get(content.id)
                if known is not None:
                    self._repeated(entry_id, message, known == content.content_sha256, verdict, result)
                    continue
                self._events[content.id] = content.content_sha256
            result.deliveries.append(Delivery(self._stream, entry_id, message))

    def _repeated(
        self, entry_id: str, message: Message, is_same: bool, verdict: Verdict | None, result: Sorted
    ) -> None:
        if not is_same:
            result.unreadable.append((entry_id, _reused(message)))
            return
        if message.ref is not None:
            result.claimed.append((entry_id, message.ref))
        else:
            result.done.append(entry_id)
        if verdict is not None:
            result.told.append(verdict)


def _meaning(entry: Entry) -> Unread | Unreadable | None:
    """What an entry is that leads to no row: trimmed away while pending, a pointer twice in hand, or from outside."""
    if not entry.fields or entry.ref is not None:
        return None
    if entry.is_from_outside:
        return Unread(ref=None, fields=entry.fields)
    detail = "neither a `ref` nor an `event` of a publisher"
    return Unreadable(ref=None, reason="not_a_pointer", detail=detail, fields=kept(entry.fields))


def _of_row(meaning: Message | Unreadable, ref: str | None) -> Message | Unreadable:
    return meaning if ref is None else replace(meaning, ref=ref)


def _reused(message: Message) -> Unreadable:
    content = message.content
    return Unreadable(
        ref=message.ref,
        reason="event_id_reused",
        detail="another event has had this id",
        fields=message.fields,
        event_id=message.event_id,
        type=content.type if isinstance(content, OutsideEvent) else None,
        merchant_id=message.merchant_id,
    )
