"""A merchant's actor, and what is written beside it: the marks of points of sale."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import anyio
import pytest

from paynode.actors.merchant import Decided, Delivery, MerchantActor
from paynode.domain.booking import MerchantBooks
from paynode.domain.message import Message
from paynode.domain.payment import Fact, OperationKind, Payment
from paynode.domain.psp import Outcome
from paynode.domain.requesting import Request, RequestKind
from paynode.runtime.mailbox import Actor
from tests.actors.scripted import ONE, around
from tests.domain.making import MERCHANT, PAYMENT, fact, new_id, payment
from tests.support.schedules import explore


class Outlet:
    """Keeps what was decided."""

    def __init__(self) -> None:
        self.decided: list[Decided] = []

    async def submit(self, decided: Sequence[Decided]) -> None:
        self.decided += decided


def message(content: Fact | Request) -> Message:
    return Message(ref=content.event_id, merchant_id=MERCHANT, content=content)


def evidence() -> Message:
    return message(fact(Outcome.APPROVED, reference="ch_1", amount=1000, currency="EUR"))


def capture() -> Message:
    return message(Request(id=new_id(), payment_id=PAYMENT, kind=RequestKind.CAPTURE))


def authorized() -> Payment:
    return payment(kind=OperationKind.AUTHORIZE)


def test_a_request_is_decided_upon_the_version_that_was_written_beside_the_actor() -> None:
    async def test(actor: MerchantActor, outlet: Outlet) -> None:
        known = authorized()
        assert actor.expect(evidence(), PAYMENT)
        actor.load(MerchantBooks(merchant_id=MERCHANT), {PAYMENT: known})
        asked = capture()
        assert actor.expect(asked, PAYMENT), "its mark may be newer than what is in hand"
        actor.load(None, {PAYMENT: replace(known, version=known.version + 1)})
        await actor.put(Delivery("events", "1-0", asked))
        await anyio.sleep(1)
        assert [one.booked.effects.base_version for one in outlet.decided] == [known.version + 1]

    explore(lambda: with_actor(test))


def test_what_is_decided_and_not_committed_is_not_replaced_by_what_the_database_holds() -> None:
    async def test(actor: MerchantActor, outlet: Outlet) -> None:
        known = authorized()
        told = evidence()
        actor.expect(told, PAYMENT)
        actor.load(MerchantBooks(merchant_id=MERCHANT), {PAYMENT: known})
        await actor.put(Delivery("events", "1-0", told))
        await anyio.sleep(1)
        asked = capture()
        actor.expect(asked, PAYMENT)
        actor.load(None, {PAYMENT: known})  # the evidence is not written yet
        await actor.put(Delivery("events", "2-0", asked))
        await anyio.sleep(1)
        versions = [one.booked.effects.base_version for one in outlet.decided]
        assert versions == [known.version, known.version + 1]

    explore(lambda: with_actor(test))


@pytest.mark.parametrize("outcome", [Outcome.APPROVED, Outcome.REVERSED, Outcome.DECLINED])
def test_behind_a_letter_of_its_payment_evidence_is_parked_unless_money_moved(outcome: Outcome) -> None:
    async def test(actor: MerchantActor, outlet: Outlet) -> None:
        told = message(fact(outcome, reference="ch_1", amount=1000, currency="EUR"))
        actor.expect(told, PAYMENT)
        actor.load(MerchantBooks(merchant_id=MERCHANT), {PAYMENT: replace(payment(), is_held_up=True)})
        await actor.put(Delivery("events", "1-0", told))
        await anyio.sleep(1)
        assert [one.booked.effects.is_parked for one in outlet.decided] == [outcome is Outcome.DECLINED]

    explore(lambda: with_actor(test))


def test_an_actor_that_has_settled_everything_is_gone_as_soon_as_it_is_forgotten() -> None:
    async def test(actor: MerchantActor, _: Outlet) -> None:
        told = evidence()
        actor.expect(told, PAYMENT)
        actor.load(MerchantBooks(merchant_id=MERCHANT), {PAYMENT: authorized()})
        await actor.put(Delivery("events", "1-0", told))
        await anyio.sleep(1)
        actor.settle(PAYMENT)
        assert actor.is_idle
        # Nothing that it holds holds it: a circle would live until a full collection of the garbage.
        assert not any(isinstance(one, Actor) for one in gc.get_referents(actor))
        later = capture()
        actor.expect(later, PAYMENT)
        actor.load(None, {PAYMENT: authorized()})
        await actor.put(Delivery("events", "2-0", later))
        await anyio.sleep(1)
        actor.settle(PAYMENT)

    explore(lambda: with_actor(test))


async def with_actor(test: Callable[[MerchantActor, Outlet], Awaitable[None]]) -> None:
    outlet = Outlet()
    async with anyio.create_task_group() as group:
        await test(MerchantActor(ONE, outlet, around, group, mailbox_size=10), outlet)
