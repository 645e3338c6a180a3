"""What a PSP says of an operation that another one has got meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest
from uuid_utils import uuid7

from paynode.config import Settings
from paynode.domain.accepting import Heard, Operated, Received, Spoken
from paynode.domain.attempts import Conclusion, GatewayCommand
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import Poison
from paynode.domain.message import Message
from paynode.domain.money import Money
from paynode.domain.payment import Fact, Method, PspOrder, Source
from paynode.domain.psp import Answer, Outcome
from paynode.domain.road import commands_stream, events_stream, follow_up_lane
from paynode.storage.attempts import PgAttempts
from paynode.storage.bodies import encode_order
from paynode.storage.callbacks import PgCallbacks
from paynode.storage.commands import PgCommands
from paynode.storage.postgres import Role, Session, pool, session
from paynode.storage.shelf import PgShelf
from tests.storage import rows

PARTITIONS = 32


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Session]:
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


async def gone_on(owner: Session) -> Operated:
    """An operation that `sim` was to have, and that `other` has."""
    merchant = rows.merchant()
    await rows.insert(owner, "merchants", merchant)
    payment = rows.payment(merchant_id=merchant["id"])
    await rows.insert(owner, "payments", payment)
    operation_id = str(uuid7())
    order = PspOrder(
        operation_id=operation_id,
        payment_id=str(payment["id"]),
        merchant_id=str(merchant["id"]),
        psp="other",
        money=Money(amount=1000, currency="EUR"),
        method=Method.TOKEN,
        token="tok",
    )
    names = {"payment_id": payment["id"], "merchant_id": merchant["id"]}
    await rows.insert(
        owner, "operations", rows.operation(id=operation_id, psp="other", request=encode_order(order), **names)
    )
    await owner.execute(
        """INSERT INTO psp_attempts (
            id, operation_id, payment_id, psp, path, request, gateway, send_by, deadline_at, outcome, concluded_at
        ) VALUES ($1, $2, $3, 'sim', '/', '', 'g', now(), now() + interval '1 s', 'not_sent', now())""",
        str(uuid7()),
        operation_id,
        payment["id"],
    )
    return Operated(operation_id=operation_id, payment_id=str(payment["id"]), merchant_id=str(merchant["id"]))


def received(operated: Operated) -> Received:
    return Received(
        inbox_id=str(uuid7()),
        psp="sim",
        event_id="evt_1",
        our_reference=operated.operation_id,
        raw=b"raw",
        claim='{"outcome":"approved","reference":"ch_1"}',
        at=datetime.now(UTC),
    )


async def test_only_who_was_to_have_an_operation_may_speak_of_it(settings: Settings, owner: Session) -> None:
    operated = await gone_on(owner)
    async with pool(settings, Role.INGRESS, application_name="test", size=1) as connections:
        callbacks = PgCallbacks(connections)
        asked = [("sim", "sale"), ("third", "sale"), ("sim", "refund"), ("other", "sale")]
        spoken = [Spoken(operation_id=operated.operation_id, psp=psp, kinds=[kind]) for psp, kind in asked]
        found = await callbacks.operations(spoken)
    # The third has never had it, and a refund is something else.
    assert found == [operated, None, None, operated]


async def test_the_database_too_lets_one_operation_give_back_a_surplus(owner: Session) -> None:
    operated = await gone_on(owner)
    names = {"payment_id": operated.payment_id, "merchant_id": operated.merchant_id, "kind": "refund"}
    await rows.insert(owner, "operations", rows.operation(origin="surplus", target="ch_1", **names))
    with pytest.raises(asyncpg.UniqueViolationError):
        await rows.insert(owner, "operations", rows.operation(origin="surplus", target="ch_1", **names))
    await rows.insert(owner, "operations", rows.operation(origin="surplus", target="ch_1", psp="other", **names))
    for wrong in ({"origin": "surplus"}, {"target": "ch_2"}):
        with pytest.raises(asyncpg.CheckViolationError):
            await rows.insert(owner, "operations", rows.operation(**wrong, **names))


async def test_a_hint_has_that_psp_asked_by_its_own_name_and_its_answer_is_known_as_its_own(
    settings: Settings, owner: Session
) -> None:
    operated = await gone_on(owner)
    async with pool(settings, Role.INGRESS, application_name="test", size=1) as connections:
        pointer = await PgCallbacks(connections).store_question(received(operated), operated)
    assert pointer is not None
    stream = follow_up_lane(commands_stream("sim"))
    async with pool(settings, Role.GATEWAY, application_name="test", size=1) as connections:
        command = (await PgCommands(connections).read(stream, [pointer.ref]))[pointer.ref]
        assert isinstance(command, GatewayCommand)
        assert (command.kind, command.order.psp, command.order.charge_reference) == (CommandKind.INQUIRE, "sim", "ch_1")
        answer = Answer(outcome=Outcome.APPROVED, reference="ch_1", amount=1000, currency="EUR")
        attempts = PgAttempts(connections, gateway="g", send_within_s=1, call_deadline_s=1, partitions=PARTITIONS)
        [evidence] = await attempts.conclude(
            [Conclusion(command=command, answer=answer, source=Source.INQUIRY, evidence_id=command.ref)]
        )
    async with pool(settings, Role.COMMITTER, application_name="test", size=1) as connections:
        place = evidence.stream, evidence.ref
        message = (await PgShelf(connections).messages([place]))[place]
    assert isinstance(message, Message)
    assert isinstance(message.content, Fact)
    assert (message.content.psp, message.content.reference) == ("sim", "ch_1")


async def test_callbacks_that_come_together_are_kept_together_and_each_once(settings: Settings, owner: Session) -> None:
    operated = await gone_on(owner)
    heard = [heard_of(operated, event_id) for event_id in ("evt_2", "evt_1", "evt_2")]
    async with pool(settings, Role.INGRESS, application_name="test", size=1) as connections:
        callbacks = PgCallbacks(connections)
        pointers = await callbacks.store_evidence(heard)
        again = await callbacks.store_evidence([heard_of(operated, "evt_1"), heard_of(operated, "evt_3")])
    assert [pointer is not None for pointer in (*pointers, *again)] == [True, True, False, False, True]
    kept = await owner.fetch(
        "SELECT event_id, our_reference, raw, o.id::text AS ref FROM inbox AS i JOIN outbox AS o USING (id) ORDER BY 1"
    )
    assert [(row["event_id"], row["our_reference"], row["raw"]) for row in kept] == [
        (event_id, operated.operation_id, b"raw\0\xff") for event_id in ("evt_1", "evt_2", "evt_3")
    ]
    told = [pointer.ref for pointer in (*pointers, *again) if pointer is not None]
    assert sorted(told) == sorted(row["ref"] for row in kept)


async def test_one_callback_that_no_row_can_hold_keeps_none_of_its_group(settings: Settings, owner: Session) -> None:
    operated = await gone_on(owner)
    good, bad = heard_of(operated, "evt_1"), heard_of(operated, "evt_2")
    unwritable = replace(good, received=replace(good.received, our_reference="\ud800"))
    async with pool(settings, Role.INGRESS, application_name="test", size=1) as connections:
        for group in ([good, replace(bad, received=replace(bad.received, claim="no JSON"))], [unwritable]):
            with pytest.raises(Poison):
                await PgCallbacks(connections).store_evidence(group)
    assert await owner.fetchval("SELECT count(*) FROM inbox") == 0


def heard_of(operated: Operated, event_id: str) -> Heard:
    fact = Fact(
        event_id=str(uuid7()),
        payment_id=operated.payment_id,
        operation_id=operated.operation_id,
        outcome=Outcome.APPROVED,
        source=Source.CALLBACK,
        reference="ch_1",
    )
    told = replace(received(operated), event_id=event_id, raw=b"raw\0\xff")
    return Heard(received=told, operated=operated, fact=fact, stream=events_stream(0))
