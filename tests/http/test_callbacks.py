"""`POST /v1/psp/{psp}/webhook`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio
import orjson
import pytest

from paynode.domain.partition import partition_of
from paynode.domain.payment import OperationKind, Source
from paynode.domain.psp import Callback, Outcome
from paynode.domain.road import Pointer, events_stream
from paynode.http.callbacks import Verifier
from paynode.storage.bodies import decode_fact
from paynode.storage.callbacks import PgCallbacks
from paynode.storage.postgres import Role, pool
from tests.http.house import House, Refused, running, verify
from tests.support.waiting import wait_until


async def told_of(house: House) -> dict[str, Any]:
    """A callback about a payment that exists."""
    await house.pay()
    operation = await house.owner.fetchval("SELECT id::text FROM operations")
    return {"id": "evt_1", "reference": operation, "outcome": "approved", "amount": 1250, "currency": "EUR"}


async def evidence(house: House) -> list[Any]:
    return list(await house.owner.fetch("SELECT *, body::text AS text FROM outbox WHERE type = 'psp.evidence'"))


async def test_a_callback_is_stored_and_becomes_evidence_on_the_merchants_partition(house: House) -> None:
    content = await told_of(house)
    reply = await house.tell(content)
    assert (reply.status, reply.json) == (200, {"received": True})
    inbox = await house.owner.fetchrow("SELECT * FROM inbox")
    assert inbox is not None
    assert (inbox["event_id"], inbox["raw"]) == ("evt_1", orjson.dumps(content))
    (row,) = await evidence(house)
    fact = decode_fact(row["text"])
    assert fact.event_id == str(row["id"])
    assert (fact.operation_id, fact.payment_id) == (content["reference"], str(inbox["payment_id"]))
    assert (fact.outcome, fact.source, fact.amount, fact.currency) == (Outcome.APPROVED, Source.CALLBACK, 1250, "EUR")
    stream = events_stream(partition_of(house.merchant.public_id, house.settings.streams.partitions))
    assert row["stream"] == stream
    await wait_until(lambda: len(house.recorder.published) == 2, "the evidence is published after the command")
    assert house.recorder.published[1] == Pointer(stream=stream, ref=str(row["id"]), merchant=house.merchant.public_id)


async def test_a_callback_that_comes_five_times_is_evidence_once(house: House) -> None:
    content = await told_of(house)
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(house.tell, content)
    assert (await house.tell(content)).status == 200
    assert await house.count("inbox") == 1
    assert len(await evidence(house)) == 1


async def test_two_callbacks_about_one_payment_are_both_kept(house: House) -> None:
    content = await told_of(house)
    await house.tell(content)
    await house.tell(content | {"id": "evt_2"})
    assert len(await evidence(house)) == 2


@pytest.mark.parametrize("reference", ["01890000-0000-7000-8000-000000000000", "no-uuid", "x" * 100, ""])
async def test_a_callback_about_nothing_we_know_is_kept(house: House, reference: str) -> None:
    content = await told_of(house) | {"reference": reference}
    assert (await house.tell(content)).status == 200
    assert (await house.tell(content)).status == 200
    row = await house.owner.fetchrow("SELECT our_reference, payment_id, claim::text FROM inbox")
    assert row is not None
    assert (row["our_reference"], row["payment_id"]) == (reference, None)
    assert orjson.loads(row["claim"])["amount"] == 1250
    assert await evidence(house) == []


async def test_a_psp_may_speak_of_its_own_operations_only(house: House) -> None:
    content = await told_of(house)
    await house.owner.execute("UPDATE operations SET psp = 'other'")
    assert (await house.tell(content)).status == 200
    assert await evidence(house) == []


@pytest.mark.parametrize("is_binding", [True, False])
async def test_an_event_is_about_no_operation_of_another_kind(house: House, is_binding: bool) -> None:
    """A refund that names a sale would capture it: it is kept, and finds nothing later either."""

    def kind_of(kind: OperationKind) -> Verifier:
        def read(headers: Mapping[str, str], raw: bytes) -> Callback:
            return replace(verify(headers, raw), kinds=frozenset({kind}))

        return Verifier(verify=read, refused=Refused, is_binding=is_binding)

    content = await told_of(house)
    async with running(house.settings, verifiers={"sim": kind_of(OperationKind.REFUND)}) as wary:
        assert (await wary.tell(content)).status == 200
    asked = "SELECT count(*) FROM outbox WHERE type IN ('psp.evidence', 'psp.inquire')"
    assert (await house.owner.fetchval(asked), await house.owner.fetchval("SELECT payment_id FROM inbox")) == (0, None)
    async with pool(house.settings, Role.GATEWAY, application_name="test", size=1) as scheduler:
        [aside] = await PgCallbacks(scheduler).take_aside(1, look_for_s=60.0, look_max_s=60.0)
    assert aside.operated is None
    async with running(house.settings, verifiers={"sim": kind_of(OperationKind.SALE)}) as open_to_it:
        await open_to_it.tell(content | {"id": "evt_2"})
    assert await house.owner.fetchval(asked) == 1


async def test_a_badly_signed_callback_is_refused_and_not_kept(house: House) -> None:
    reply = await house.tell(await told_of(house), signature="00")
    assert (reply.status, reply.code) == (401, "callback_signature_invalid")
    assert await house.count("inbox") == 0


@pytest.mark.parametrize("change", [{"outcome": "perhaps"}, {"reference": "a\0b"}, {"id": "evt\0"}, {"amount": 2**63}])
async def test_a_signed_callback_that_makes_no_sense_is_refused(house: House, change: dict[str, str]) -> None:
    reply = await house.tell(await told_of(house) | change)
    assert (reply.status, reply.code) == (400, "callback_malformed")
    assert await house.count("inbox") == 0


@pytest.mark.parametrize(
    "change", [{"psp_at_ms": 2**62 * 1000}, {"amount": -(2**63) - 1}, {"reference": "\ud800"}, {"reason": "x" * 10_000}]
)
async def test_a_claim_that_no_row_can_hold_is_refused_however_it_was_read(house: House, change: Any) -> None:
    def careless(headers: Mapping[str, str], raw: bytes) -> Callback:
        said = verify(headers, raw)
        return replace(said, answer=replace(said.answer, **change))

    async with running(house.settings, verifiers={"sim": Verifier(verify=careless, refused=Refused)}) as open_to_all:
        reply = await open_to_all.tell(await told_of(open_to_all))
        assert (reply.status, reply.code) == (400, "callback_malformed")
        assert await open_to_all.count("inbox") == 0


async def test_an_unknown_psp_is_not_found(house: House) -> None:
    assert (await house.tell(await told_of(house), psp="other")).code == "not_found"


async def test_a_callback_that_is_too_large_is_refused(house: House) -> None:
    assert (await house.tell({"id": "x" * 20_000})).code == "body_too_large"


async def test_a_callback_is_kept_while_redis_is_away(house: House) -> None:
    content = await told_of(house)
    house.recorder.is_away = True
    assert (await house.tell(content)).status == 200
    assert len(await evidence(house)) == 1


async def test_what_is_nothing_for_us_is_answered_and_not_kept(house: House) -> None:
    """A PSP tells its accounts of much that no adapter has a use for; refused, it would tell it for days."""

    def is_nothing(_headers: Mapping[str, str], _raw: bytes) -> None:
        return None

    async with running(house.settings, verifiers={"sim": Verifier(verify=is_nothing, refused=Refused)}) as deaf:
        assert (await deaf.tell({"id": "evt_1"})).json == {"received": True}
        assert await deaf.count("inbox") == 0


async def test_what_a_psp_claims_without_signing_it_is_asked_for_and_not_believed(house: House) -> None:
    content = await told_of(house)
    command = await house.owner.fetchrow("SELECT body::text AS text FROM outbox WHERE type = 'psp.submit'")
    wary_of = {"sim": Verifier(verify=verify, refused=Refused, is_binding=False)}
    async with running(house.settings, verifiers=wary_of) as wary:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(wary.tell, content)
        assert await evidence(house) == []
        [row] = await house.owner.fetch("SELECT *, body::text AS text FROM outbox WHERE type = 'psp.inquire'")
        assert row["stream"] == "paynode:{psp-sim}:commands:follow-up"
        assert str(row["operation_id"]) == content["reference"]
        assert command is not None
        assert row["text"] == command["text"], "the gateway is asked as it was ordered"
        assert await house.owner.fetchval("SELECT payment_id FROM inbox") == row["payment_id"]
        await wait_until(lambda: len(wary.recorder.published) == 1, "the question is published")
        assert wary.recorder.published == [Pointer(stream=row["stream"], ref=str(row["id"]))]
        await wary.tell(content | {"id": "evt_2"})
        assert len(await house.owner.fetch("SELECT FROM outbox WHERE type = 'psp.inquire'")) == 2, "news again"


async def test_a_callback_about_a_payment_at_a_till_goes_by_the_lane_that_is_read_first(house: House) -> None:
    content = await told_of(house)
    await house.owner.execute("UPDATE payments SET reverse_at = clock_timestamp() + interval '1 minute'")
    assert (await house.tell(content)).status == 200
    (row,) = await evidence(house)
    assert row["stream"].endswith(":events:pos")
    wary_of = {"sim": Verifier(verify=verify, refused=Refused, is_binding=False)}
    async with running(house.settings, verifiers=wary_of) as wary:
        await wary.tell(content | {"id": "evt_2"})
    asked = await house.owner.fetchval("SELECT stream FROM outbox WHERE type = 'psp.inquire'")
    assert asked == "paynode:{psp-sim}:commands:pos"
