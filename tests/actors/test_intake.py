"""The gate of a partition: what was had before is recognised, by whichever way it comes again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from paynode.actors.intake import Intake, Sorted
from paynode.domain.booking import MerchantBooks
from paynode.domain.message import Message, Unread, Unreadable
from paynode.domain.money import Money
from paynode.domain.payment import Fact, Payment, Source
from paynode.domain.psp import Outcome
from paynode.domain.publishing import OutsideEvent, OutsideType, Result, Verdict, WalletMovement
from paynode.domain.road import Entry, Place

STREAM = "paynode:{p03}:events"
ROW = "01890a5d-ac96-774b-bcce-b302099a8057"
MERCHANT = "01890a5d-ac96-774b-bcce-b302099a8059"


@dataclass
class Stock:
    """A shelf and a reader of outside events: what stands in them is what there is."""

    rows: dict[str, Message | Unread | Unreadable] = field(default_factory=dict)
    known: dict[str, Verdict] = field(default_factory=dict)
    looked_up: list[str] = field(default_factory=list)

    async def messages(self, places: Sequence[Place]) -> Mapping[Place, Message | Unread | Unreadable]:
        assert {stream for stream, _ in places} == {STREAM}
        self.looked_up += [ref for _, ref in places]
        return {place: self.rows[place[1]] for place in places if place[1] in self.rows}

    async def verdicts(self, event_ids: Sequence[str]) -> Mapping[str, Verdict]:
        return {event_id: self.known[event_id] for event_id in event_ids if event_id in self.known}

    async def payments(self, payment_ids: Sequence[str]) -> Mapping[str, Payment]:
        raise AssertionError("the gate loads nothing")

    async def books(self, merchant_ids: Sequence[str]) -> Mapping[str, MerchantBooks]:
        raise AssertionError("the gate loads nothing")

    async def read(self, entries: Sequence[Mapping[str, str]], partition: int) -> Sequence[Message | Unreadable]:
        """The field `event` is the id and, after a blank, the content."""
        assert partition == 3
        return [self._read(fields) for fields in entries]

    def _read(self, fields: Mapping[str, str]) -> Message | Unreadable:
        event_id, _, content = fields["event"].partition(" ")
        if not event_id:
            return Unreadable(ref=None, reason="shape_invalid", detail="", fields=fields)
        return Message(ref=None, merchant_id=MERCHANT, content=event(event_id, content), fields=fields)


def event(event_id: str, content: str) -> OutsideEvent:
    return OutsideEvent(
        id=event_id,
        publisher="billing",
        source="billing",
        type=OutsideType.WALLET_CREDIT,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        merchant_id=MERCHANT,
        data=WalletMovement(money=Money(amount=1, currency="EUR"), reason="", reference="r"),
        content=content,
        content_sha256=content.encode().ljust(32),
    )


def evidence(ref: str) -> Message:
    fact = Fact(event_id=ref, payment_id="p", operation_id="o", outcome=Outcome.UNKNOWN, source=Source.ANSWER)
    return Message(ref=ref, merchant_id=MERCHANT, content=fact)


def said(number: int, event_id: str, content: str = "") -> Entry:
    return Entry(id=f"{number}-0", fields={"event": f"{event_id} {content}", "sig": "s"})


def pointer(number: int, ref: str = ROW) -> Entry:
    return Entry(id=f"{number}-0", fields={"ref": ref})


def gate(stock: Stock) -> Intake:
    return Intake(STREAM, 3, stock, stock)


def delivered(meaning: Sorted) -> list[str]:
    return [delivery.entry_id for delivery in meaning.deliveries]


async def test_a_row_in_hand_is_taken_in_once_and_again_only_after_it_was_let_go() -> None:
    stock = Stock(rows={ROW: evidence(ROW)})
    intake = gate(stock)
    first = await intake.sort([pointer(1), pointer(2)])
    assert (delivered(first), first.done) == (["1-0"], ["2-0"])
    again = await intake.sort([pointer(3)])
    assert (delivered(again), again.done, stock.looked_up) == ([], ["3-0"], [ROW])
    intake.forget(first.deliveries[0].message)
    assert delivered(await intake.sort([pointer(4)])) == ["4-0"]


async def test_a_row_that_is_gone_and_an_entry_that_was_trimmed_need_nothing_more() -> None:
    intake = gate(Stock())
    meaning = await intake.sort([pointer(1), Entry(id="2-0", fields={})])
    assert (meaning.done, meaning.deliveries, meaning.unreadable) == (["1-0", "2-0"], [], [])


async def test_what_nobody_can_read_is_to_be_buried_with_its_reason() -> None:
    row = Unreadable(ref=ROW, reason="type_unknown", detail="x")
    intake = gate(Stock(rows={ROW: row}))
    meaning = await intake.sort([pointer(1), said(2, ""), Entry(id="3-0", fields={"hello": "world"})])
    assert [(entry_id, what.ref, what.reason) for entry_id, what in meaning.unreadable] == [
        ("1-0", ROW, "type_unknown"),
        ("2-0", None, "shape_invalid"),
        ("3-0", None, "not_a_pointer"),
    ]


async def test_an_outside_event_in_hand_is_not_taken_in_again() -> None:
    intake = gate(Stock())
    first = await intake.sort([said(1, "e1", "same"), said(2, "e1", "same")])
    assert (delivered(first), first.done, first.told) == (["1-0"], ["2-0"], [])
    other = await intake.sort([said(3, "e1", "other")])
    [(entry_id, what)] = other.unreadable
    assert (entry_id, what.reason, what.event_id, what.merchant_id) == ("3-0", "event_id_reused", "e1", MERCHANT)


@pytest.mark.parametrize("result", Result)
async def test_what_became_of_an_event_is_told_again_and_not_done_again(result: Result) -> None:
    verdict = Verdict.of(event("e1", "same"), result)
    intake = gate(Stock(known={"e1": verdict}))
    meaning = await intake.sort([said(1, "e1", "same"), said(2, "e1", "other")])
    assert (delivered(meaning), meaning.done, meaning.told) == ([], ["1-0"], [verdict])
    assert [what.reason for _, what in meaning.unreadable] == ["event_id_reused"]


async def test_an_event_that_was_requeued_is_read_like_any_other_and_claims_its_row() -> None:
    requeued = Unread(ref=ROW, fields={"event": "e1 same", "sig": "s"})
    intake = gate(Stock(rows={ROW: requeued}))
    [delivery] = (await intake.sort([pointer(1)])).deliveries
    assert (delivery.message.ref, delivery.message.event_id) == (ROW, "e1")


async def test_a_requeued_event_that_had_its_effect_meanwhile_leaves_only_its_row_to_be_claimed() -> None:
    requeued = Unread(ref=ROW, fields={"event": "e1 same", "sig": "s"})
    intake = gate(Stock(rows={ROW: requeued}, known={"e1": Verdict.of(event("e1", "same"), Result.APPLIED)}))
    meaning = await intake.sort([pointer(1)])
    assert (delivered(meaning), meaning.claimed, meaning.done) == ([], [("1-0", ROW)], [])
