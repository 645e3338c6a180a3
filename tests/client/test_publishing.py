"""A publisher's call ends with what became of its event, whatever was lost on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Final, TypeVar

import anyio
import pytest
from uuid_utils import uuid7

from paynode.client import Applied, EventRefused, NotPublished, OutcomeUnknown, Publisher, PublishingFailed, Refused
from paynode.client import publisher as publishing
from paynode.client.credentials import text_of
from paynode.domain.ids import MERCHANT, PAYMENT, public
from paynode.domain.message import Message
from paynode.domain.money import Money
from paynode.domain.partition import partition_of
from paynode.domain.publishing import (
    CaptureRequest,
    OutsideEvent,
    OutsideType,
    RefundRequest,
    Result,
    WalletMovement,
)
from paynode.domain.road import PARTITIONS_KEY, events_stream, outcomes_stream
from paynode.streams.client import Redis
from tests.client.standin import NAME, PARTITIONS, SECRET, StandIn
from tests.support.proxy import Act, Fault, Proxy
from tests.support.waiting import wait_until

LONG: Final = 60.0
MOVEMENT: Final[dict[str, Any]] = {"amount": 250, "currency": "EUR", "reason": "points", "reference": "p-1"}


def merchant() -> str:
    return public(MERCHANT, str(uuid7()))


def a_publisher(redis_url: str, *, name: str = NAME, secret: bytes = SECRET, **more: Any) -> Publisher:
    return Publisher(redis_url, name=name, secret=text_of(secret), **more)


@pytest.fixture
async def publisher(redis_url: str) -> AsyncIterator[Publisher]:
    async with a_publisher(redis_url) as publisher:
        yield publisher


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hears nothing publishes again soon."""
    monkeypatch.setattr(publishing, "_AGAIN_S", 0.1)
    monkeypatch.setattr(publishing, "_AGAIN_MAX_S", 0.2)


def content(message: Message) -> OutsideEvent:
    assert isinstance(message.content, OutsideEvent)
    return message.content


Failure = TypeVar("Failure", bound=PublishingFailed)


async def failing(
    kind: type[Failure], call: Callable[..., Awaitable[object]], match: str = "", **arguments: Any
) -> Failure:
    """Call until it fails in this way: on a busy machine a short time may be up before anything has happened."""
    timeout = 0.3
    while timeout < LONG:
        with pytest.raises(PublishingFailed) as failure:
            await call(timeout=timeout, **arguments)
        if isinstance(failure.value, kind) and match in str(failure.value):
            return failure.value
        timeout *= 2
    raise AssertionError(f"it never ended with {kind.__name__} {match}")


# -- what is said -----------------------------------------------------------------------------------------------------


async def test_a_credit_is_applied_and_arrives_as_it_was_meant(publisher: Publisher, standin: StandIn) -> None:
    whose = merchant()
    outcome = await publisher.credit(merchant_id=whose, timeout=LONG, **MOVEMENT)
    [event] = [content(message) for message in standin.read]
    assert outcome == Applied(event_id=event.id)
    assert (event.publisher, event.source, event.type) == (NAME, "/loyalty", OutsideType.WALLET_CREDIT)
    assert public(MERCHANT, event.merchant_id) == whose
    assert isinstance(event.data, WalletMovement)
    assert (event.data.money.amount, event.data.money.currency) == (250, "EUR")
    assert (event.data.reason, event.data.reference) == ("points", "p-1")


async def test_a_debit_that_is_refused_says_why(publisher: Publisher, standin: StandIn) -> None:
    outcome = await publisher.debit(merchant_id=merchant(), timeout=LONG, **MOVEMENT | {"amount": 1001})
    assert outcome == Refused(event_id=content(standin.read[0]).id, code="insufficient_funds")
    assert isinstance(await publisher.debit(merchant_id=merchant(), timeout=LONG, **MOVEMENT), Applied)


async def test_requests_about_payments_name_the_payment(publisher: Publisher, standin: StandIn) -> None:
    payment = str(uuid7())
    about: dict[str, Any] = {"merchant_id": merchant(), "payment_id": public(PAYMENT, payment), "timeout": LONG}
    await publisher.refund_request(amount=7, reason="broken", **about)
    await publisher.refund_request(**about)
    await publisher.capture_request(amount=8, is_final=True, **about)
    await publisher.capture_request(**about)
    assert [content(message).data for message in standin.read] == [
        RefundRequest(payment_id=payment, amount=7, reason="broken"),
        RefundRequest(payment_id=payment),
        CaptureRequest(payment_id=payment, amount=8, is_final=True),
        CaptureRequest(payment_id=payment),
    ]


async def test_many_at_once_each_hear_their_own(publisher: Publisher, standin: StandIn) -> None:
    heard: dict[int, object] = {}

    async def debit(amount: int) -> None:
        heard[amount] = await publisher.debit(merchant_id=merchant(), timeout=LONG, **MOVEMENT | {"amount": amount})

    async with anyio.create_task_group() as group:
        for amount in range(951, 1051):
            group.start_soon(debit, amount)
    assert {amount for amount, outcome in heard.items() if isinstance(outcome, Refused)} == set(range(1001, 1051))
    assert len(standin.verdicts) == 100


async def test_nothing_is_read_when_nobody_waits(publisher: Publisher, standin: StandIn) -> None:
    await publisher.credit(merchant_id=merchant(), timeout=LONG, **MOVEMENT)

    async def is_quiet() -> bool:
        client: Any = standin.client
        readers = [one for one in await client.client_list() if one["cmd"] == "xread"]
        blocked = [one for one in readers if "b" in one["flags"]]
        return not blocked and not [task for task in asyncio.all_tasks() if task.get_name().startswith("outcomes of")]

    await wait_until(is_quiet, "no reader is left", LONG)
    assert isinstance(await publisher.credit(merchant_id=merchant(), timeout=LONG, **MOVEMENT), Applied)


# -- what is never published ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"merchant_id": "shop-7"}, "shape_invalid"),
        ({"amount": 0}, "shape_invalid"),
        ({"amount": 10**13}, "shape_invalid"),
        ({"amount": 10**30}, "shape_invalid"),
        ({"amount": 2.5}, "shape_invalid"),
        ({"amount": True}, "shape_invalid"),
        ({"currency": "EURO"}, "shape_invalid"),
        ({"currency": "eur"}, "shape_invalid"),
        ({"currency": "EUE"}, "shape_invalid"),
        ({"reason": "x" * 501}, "shape_invalid"),
        ({"reason": "a\0b"}, "shape_invalid"),
        ({"reason": "\ud800"}, "shape_invalid"),
        ({"reference": "a b"}, "shape_invalid"),
        ({"event_id": "7"}, "event_id_invalid"),
        ({"event_id": "f0000000-0000-7000-8000-000000000000"}, "event_id_invalid"),
        ({"event_id": "ffffffff-ffff-7fff-bfff-ffffffffffff"}, "event_id_invalid"),
    ],
)
async def test_what_paynode_would_bury_is_refused_before_it_leaves(
    publisher: Publisher, commands: Redis, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(EventRefused) as refusal:
        await publisher.credit(**{"merchant_id": merchant()} | MOVEMENT | changes)
    assert refusal.value.reason == reason
    assert not [key async for key in commands.scan_iter("paynode:*")]


async def test_without_redis_nothing_is_published_and_that_is_said() -> None:
    async with a_publisher("redis://127.0.0.1:1/0") as publisher:
        failure = await failing(NotPublished, publisher.credit, "ConnectionError", merchant_id=merchant(), **MOVEMENT)
    assert failure.event_id in str(failure)


async def test_without_the_number_of_partitions_it_waits_for_it(redis_url: str, commands: Redis) -> None:
    async with a_publisher(redis_url) as publisher:
        unset = "paynode:partitions is not set"
        await failing(NotPublished, publisher.credit, unset, merchant_id=merchant(), **MOVEMENT)
        await commands.set(PARTITIONS_KEY, "0")
        await failing(NotPublished, publisher.credit, merchant_id=merchant(), **MOVEMENT)
    async with a_publisher(redis_url, partitions=PARTITIONS) as publisher:
        await failing(OutcomeUnknown, publisher.credit, merchant_id=merchant(), **MOVEMENT)


# -- what is lost -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hurried")
async def test_an_event_that_redis_lost_is_published_again(
    publisher: Publisher, standin: StandIn, commands: Redis
) -> None:
    whose = merchant()
    stream = events_stream(partition_of(whose, PARTITIONS))
    standin.is_deaf = True
    async with anyio.create_task_group() as group:
        group.start_soon(_expect_applied, publisher, whose)
        await wait_until(lambda: len(standin.read) >= 1, "it was published", LONG)
        await commands.flushdb()
        await standin.mark_out()
        standin.is_deaf = False
    assert len({(message.event_id, content(message).content_sha256) for message in standin.read}) == 1
    assert len(standin.read) >= 2, "the same event again"
    assert await commands.exists(stream)


@pytest.mark.usefixtures("hurried")
async def test_outcomes_with_lower_ids_than_before_are_heard(
    publisher: Publisher, standin: StandIn, commands: Redis
) -> None:
    """After a lost failover the new primary's clock may be behind."""
    whose = merchant()
    stream = outcomes_stream(partition_of(whose, PARTITIONS))
    await commands.xadd(stream, {"event": "x"}, id="99999999999999-0")
    standin.is_deaf = True
    async with anyio.create_task_group() as group:
        group.start_soon(_expect_applied, publisher, whose)
        await wait_until(
            lambda: len(standin.read) >= 1, "it was published, so that the place to read from is known", LONG
        )
        await commands.delete(stream)
        standin.is_deaf = False


async def _expect_applied(publisher: Publisher, whose: str) -> None:
    assert isinstance(await publisher.credit(merchant_id=whose, timeout=LONG, **MOVEMENT), Applied)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(name="lost", pattern=b"XADD", act=Act.LOSE_REQUEST, share=0.7),
        Fault(name="unsaid", pattern=b"XADD", act=Act.LOSE_REPLY, share=0.7),
        Fault(name="unread", pattern=b"XREAD", act=Act.LOSE_REPLY, share=0.7),
        Fault(name="unstarted", pattern=b"XREVRANGE", act=Act.LOSE_REPLY, share=0.7),
    ],
    ids=lambda fault: fault.name,
)
async def test_cut_connections_cost_time_and_nothing_else(redis_url: str, standin: StandIn, fault: Fault) -> None:
    async with Proxy.to(redis_url, seed=1) as proxy, a_publisher(proxy.through(redis_url)) as publisher:
        proxy.faults = [fault]
        while not proxy.bitten[fault.name]:
            assert isinstance(await publisher.credit(merchant_id=merchant(), timeout=LONG, **MOVEMENT), Applied)
    for event_id in {message.event_id for message in standin.read}:
        assert len({content(one).content_sha256 for one in standin.read if one.event_id == event_id}) == 1


async def test_when_the_time_is_up_the_event_id_is_told_and_asks_again_later(
    publisher: Publisher, standin: StandIn
) -> None:
    standin.is_deaf = True
    whose = merchant()
    failure = await failing(OutcomeUnknown, publisher.credit, merchant_id=whose, **MOVEMENT)
    standin.is_deaf = False
    event_id = failure.event_id
    outcome = await publisher.credit(merchant_id=whose, event_id=event_id, timeout=LONG, **MOVEMENT)
    assert outcome == Applied(event_id=event_id)
    same = [content(message) for message in standin.read if message.event_id == event_id]
    assert len({event.content_sha256 for event in same}) == 1, "the same bytes"


async def test_an_id_that_meant_another_event_is_not_taken_for_this_one(publisher: Publisher, standin: StandIn) -> None:
    whose, event_id = merchant(), str(uuid7())
    first = await publisher.credit(merchant_id=whose, event_id=event_id, timeout=LONG, **MOVEMENT)
    assert isinstance(first, Applied)
    async with anyio.create_task_group() as group:
        group.start_soon(_expect_reused, publisher, whose, event_id)
        await wait_until(lambda: len(standin.read) >= 2, "the other one was published", LONG)
        await standin.outcomes.tell([standin.verdicts[event_id]])


async def _expect_reused(publisher: Publisher, whose: str, event_id: str) -> None:
    with pytest.raises(EventRefused) as refusal:
        await publisher.credit(merchant_id=whose, event_id=event_id, timeout=LONG, **MOVEMENT | {"amount": 251})
    assert refusal.value.reason == "event_id_reused"


async def test_the_same_event_twice_at_once_is_answered_to_both(publisher: Publisher, standin: StandIn) -> None:
    whose, event_id = merchant(), str(uuid7())
    heard = []

    async def credit() -> None:
        heard.append(await publisher.credit(merchant_id=whose, event_id=event_id, timeout=LONG, **MOVEMENT))

    async with anyio.create_task_group() as group:
        group.start_soon(credit)
        group.start_soon(credit)
    assert heard == [Applied(event_id=event_id)] * 2


# -- who says it ------------------------------------------------------------------------------------------------------


async def test_a_forged_outcome_is_not_believed(publisher: Publisher, standin: StandIn, commands: Redis) -> None:
    standin.is_deaf = True
    whose = merchant()
    stream = outcomes_stream(partition_of(whose, PARTITIONS))

    async def forge() -> None:
        await wait_until(lambda: len(standin.read) >= 1, "it was published", LONG)
        verdict = standin.verdicts[standin.read[0].event_id]
        refused = replace(verdict, result=Result.REFUSED, code="forged")
        await standin.forge(refused, b"the secret of somebody who has none")
        standin.keys.keys["other"] = standin.keys.keys[NAME]
        await standin.outcomes.tell([replace(refused, publisher="other")])
        await commands.xadd(stream, {"event": "{}", "sig": "loyalty.x"})
        await commands.xadd(stream, {"anything": "else"})
        await standin.outcomes.tell([verdict])

    async with anyio.create_task_group() as group:
        group.start_soon(forge)
        assert isinstance(await publisher.credit(merchant_id=whose, timeout=LONG, **MOVEMENT), Applied)


async def test_an_event_of_a_stranger_ends_as_unreadable_and_its_outcome_is_unknown(
    redis_url: str, standin: StandIn
) -> None:
    async with a_publisher(redis_url, name="stranger") as stranger:
        await failing(OutcomeUnknown, stranger.credit, merchant_id=merchant(), **MOVEMENT)
    await wait_until(lambda: len(standin.unreadable) >= 1, "it was read", LONG)
    assert standin.unreadable[0].reason == "publisher_unknown"


async def test_a_verdict_from_before_the_call_is_not_needed(publisher: Publisher, standin: StandIn) -> None:
    """The outcome of an event that was applied long ago, and whose telling was trimmed away, is told again."""
    whose = merchant()
    data = WalletMovement(money=Money(amount=250, currency="EUR"), reason="points", reference="p-1")
    event = publisher.signer.sign(OutsideType.WALLET_CREDIT, whose, data)
    await publisher.send(event, timeout=LONG)
    await wait_until(lambda: event.id in standin.verdicts, "it was applied", LONG)
    assert await publisher.settle(event, timeout=LONG) == Applied(event_id=event.id)


# -- the end ----------------------------------------------------------------------------------------------------------


async def test_who_still_waits_when_it_is_closed_is_told_that_nobody_knows(redis_url: str, standin: StandIn) -> None:
    standin.is_deaf = True
    async with anyio.create_task_group() as group, a_publisher(redis_url) as publisher:
        group.start_soon(_expect_unknown, publisher)
        await wait_until(lambda: len(standin.read) >= 1, "it was published", LONG)


async def _expect_unknown(publisher: Publisher) -> None:
    with pytest.raises(OutcomeUnknown, match="closed"):
        await publisher.credit(merchant_id=merchant(), timeout=LONG, **MOVEMENT)


async def test_a_cancelled_call_leaves_nobody_reading(publisher: Publisher, standin: StandIn) -> None:
    standin.is_deaf = True
    with anyio.move_on_after(0.3) as scope:
        await publisher.credit(merchant_id=merchant(), timeout=LONG, **MOVEMENT)
    assert scope.cancelled_caught
    await wait_until(
        lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("outcomes of")],
        "no reader is left",
        LONG,
    )


async def test_a_stream_that_is_none_is_an_error_and_nothing_is_published(
    publisher: Publisher, standin: StandIn, commands: Redis
) -> None:
    whose = merchant()
    await commands.set(outcomes_stream(partition_of(whose, PARTITIONS)), "not a stream")
    with pytest.raises(NotPublished):
        await publisher.credit(merchant_id=whose, timeout=1.0, **MOVEMENT)
    assert not standin.read, "nothing was published"


@pytest.mark.parametrize("name", ["", "Loyalty", "a.b", "-a", "a" * 65, "a\n"])
def test_a_name_that_no_publisher_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        a_publisher("redis://127.0.0.1:1/0", name=name)


@pytest.mark.parametrize("secret", ["", "pubsec_", "pubsec_***", "pubsec_c2hvcnQ=", "hunter2hunter2hunter2"])
def test_what_is_no_secret_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValueError) as refusal:
        Publisher("redis://127.0.0.1:1/0", name=NAME, secret=secret)
    assert "hunter2" not in str(refusal.value)
    assert "hunter2" not in repr(refusal.value)
