"""Points of sale: 201 only after "kept", 504 only after "reversed", whoever decides and whoever comes late."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import anyio
import orjson
import pytest
from uuid_utils import uuid7

from paynode.config import Settings
from paynode.domain import ids
from paynode.domain.accepting import KeyUse, StoredAnswer
from paynode.domain.errors import Unavailable
from paynode.domain.partition import partition_of
from paynode.domain.point_of_sale import Mark, Marked, Marking
from paynode.domain.reading import PaymentView
from paynode.domain.requesting import Request, RequestKind
from paynode.domain.road import commands_stream, events_stream, pos_lane
from paynode.http.payment_body import PaymentBody
from paynode.http.point_of_sale import PointOfSale, plan_of_pos
from paynode.http.prefer import Preference
from paynode.http.problem import Problem
from paynode.http.waiting import Watch
from paynode.storage.bodies import decode_order, decode_request
from paynode.storage.point_of_sale import PgPointOfSale
from paynode.storage.postgres import Role, pool
from tests.http.house import House, Reply, by_token, hosted, running
from tests.support.waiting import wait_until


def at_till(**changes: Any) -> dict[str, Any]:
    return by_token(on_timeout="reverse", **changes)


async def until_authorized(house: House, body: Mapping[str, Any], *, key: str = "k", prefer: str = "wait=20") -> Reply:
    """Pay, and be the PSP that says yes meanwhile."""
    replies: list[Reply] = []

    async def ask() -> None:
        replies.append(await house.pay(body, key=key, prefer=prefer))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await wait_until(lambda: has_payment(house), "the payment is committed")
        await house.become(await house.only_payment(), "authorized")
    return replies[0]


async def has_payment(house: House) -> bool:
    return await house.count("payments") == 1


async def marked(house: House) -> Mapping[str, Any]:
    (row,) = await house.owner.fetch("SELECT *, id::text AS uuid, merchant_id::text AS merchant FROM payments")
    return dict(row)


async def follow(house: House) -> list[Request]:
    """What was asked for in consequence, by table and by outbox, which must agree."""
    rows = await house.owner.fetch(
        """SELECT r.id::text, r.kind, r.is_final, r.decided_at, o.body, o.stream,
            o.merchant_id = r.merchant_id AS is_its
        FROM requests AS r JOIN outbox AS o ON o.id = r.id WHERE o.type = 'payment.request'"""
    )
    stream = pos_lane(events_stream(partition_of(house.merchant.public_id, house.settings.streams.partitions)))
    requests = [decode_request(row["body"]) for row in rows]
    assert [(row["id"], row["kind"], row["is_final"]) for row in rows] == [
        (one.id, one.kind, one.is_final) for one in requests
    ]
    assert all(row["stream"] == stream and row["is_its"] and row["decided_at"] is None for row in rows)
    return requests


async def test_what_is_authorized_in_time_is_kept_answered_and_captured(house: House) -> None:
    body = at_till()
    reply = await until_authorized(house, body)
    assert (reply.status, reply.json["status"], reply.headers["Preference-Applied"]) == (201, "authorized", "wait=20")
    row = await marked(house)
    assert (row["kept_at"] is not None, row["reversed_at"]) == (True, None)
    assert (row["version"], reply.json["version"], reply.headers["ETag"]) == (3, 3, '"3"')
    assert ids.parse(ids.PAYMENT, reply.json["id"]) == row["uuid"]
    shown = await house.get(reply.headers["Location"])
    assert shown.json == reply.json, "the answer is what the payment is"
    (request,) = await follow(house)
    assert request == Request(id=request.id, payment_id=row["uuid"], kind=RequestKind.CAPTURE, is_final=True)
    await wait_until(lambda: request.id in {one.ref for one in house.recorder.published}, "it is published at once")
    events = await house.owner.fetch("SELECT version, type FROM payment_events ORDER BY version")
    assert (events[-1]["version"], events[-1]["type"]) == (3, "payment.kept")
    again = await house.pay(body, key="k", prefer="wait=1")
    assert (again.status, again.raw, again.headers["Idempotent-Replayed"]) == (201, reply.raw, "true")


async def test_the_authorization_goes_by_the_lane_that_is_read_first_and_not_after_its_time(house: House) -> None:
    await until_authorized(house, at_till(), prefer="wait=20")
    (command,) = await house.owner.fetch("SELECT id::text, stream, body FROM outbox WHERE type = 'psp.submit'")
    order = decode_order(command["body"])
    assert (order.kind, command["stream"]) == ("authorize", pos_lane(commands_stream("sim")))
    row = await marked(house)
    assert order.give_up_at_ms == round(row["created_at"].timestamp() * 1000) + 20_000
    assert 19 <= (row["reverse_at"] - row["created_at"]).total_seconds() <= 30
    published = {one.ref: one.stream for one in house.recorder.published}
    assert published[command["id"]] == command["stream"]


async def test_what_the_merchant_captures_himself_is_kept_and_nothing_more(house: House) -> None:
    assert (await until_authorized(house, at_till(capture="manual"))).status == 201
    assert await follow(house) == []


async def test_what_is_not_authorized_in_time_is_reversed_for_ever(house: House) -> None:
    body = at_till()
    reply = await house.pay(body, key="k", prefer="wait=1")
    assert (reply.status, reply.code) == (504, "authorization_timed_out")
    payment_id = await house.only_payment()
    assert (reply.json["payment_id"], reply.json["payment_status"]) == (payment_id, "unknown")
    row = await marked(house)
    assert (row["kept_at"], row["reversed_at"] is not None, row["version"]) == (None, True, 2)
    (request,) = await follow(house)
    assert request == Request(id=request.id, payment_id=row["uuid"], kind=RequestKind.REVERSE)

    await house.become(payment_id, "authorized")
    late = await house.pay(body, key="k", prefer="wait=1")
    assert (late.status, late.json["payment_id"]) == (504, payment_id), "too late is too late"
    await house.become(payment_id, "voided")
    last = await house.pay(body, key="k", prefer="wait=1")
    assert (last.status, last.json["id"], last.json["status"]) == (201, payment_id, "voided")
    assert len(await follow(house)) == 1
    assert await house.count("payments") == 1


async def test_a_refusal_is_an_answer_at_once_and_is_not_reversed(house: House) -> None:
    replies: list[Reply] = []

    async def ask() -> None:
        replies.append(await house.pay(at_till(), key="k", prefer="wait=20"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await wait_until(lambda: has_payment(house), "the payment is committed")
        await house.become(await house.only_payment(), "declined")
    assert (replies[0].status, replies[0].json["status"]) == (201, "declined")
    assert await follow(house) == []


@pytest.mark.parametrize(
    ("body", "prefer", "pointers"),
    [
        (at_till(), None, ["/on_timeout"]),
        (at_till(), "respond-async", ["/on_timeout"]),
        (at_till(), "wait=31", ["/on_timeout"]),
        (hosted(on_timeout="reverse"), "wait=5", ["/method/type"]),
        (hosted(on_timeout="reverse"), None, ["/on_timeout", "/method/type"]),
        (at_till() | {"on_timeout": "keep"}, "wait=5", ["/on_timeout"]),
    ],
)
async def test_what_belongs_together_must_come_together(
    untouched: House, body: Mapping[str, Any], prefer: str | None, pointers: list[str]
) -> None:
    reply = await untouched.pay(body, prefer=prefer)
    assert (reply.status, reply.code) == (400, "body_invalid")
    assert [flaw["pointer"] for flaw in reply.json["errors"]] == pointers


async def test_of_many_who_decide_at_once_one_does_and_all_hear_the_same(house: House, settings: Settings) -> None:
    """Some want it kept, some find that its time has passed; the row says which it was."""
    for number in range(12):
        await house.pay(by_token(), key=f"n{number}")
    await house.owner.execute("UPDATE payments SET status = 'authorized', version = 2")
    rows = await house.owner.fetch("SELECT id::text, idempotency_key FROM payments")
    use_of = {
        row["id"]: KeyUse(
            merchant_id=house.merchant.id, path="/v1/payments", key=row["idempotency_key"], fingerprint=b""
        )
        for row in rows
    }
    answer = StoredAnswer(status=201, headers={}, body=b"{}")
    found: dict[str, list[Marked]] = {row["id"]: [] for row in rows}
    async with pool(settings, Role.INGRESS, application_name="a", size=8) as database:
        desk = PgPointOfSale(database)

        async def keep(payment_id: str) -> None:
            found[payment_id].append(await desk.keep(marking(house, payment_id), 2, use_of[payment_id], answer))

        async def reverse(payment_id: str) -> None:
            found[payment_id].append(await desk.reverse(marking(house, payment_id)))

        # Now is their time, within the few milliseconds in which all of them come.
        await house.owner.execute(
            """UPDATE payments AS p SET reverse_at = clock_timestamp() + n.number * interval '2 ms' + interval '10 ms'
            FROM (SELECT id, row_number() OVER () AS number FROM payments) AS n WHERE n.id = p.id"""
        )
        async with anyio.create_task_group() as tasks:
            for row in rows:
                for one in (keep, reverse, reverse, keep):
                    tasks.start_soon(one, row["id"])
        for payment_id, answers in found.items():
            answers.append(await desk.reverse(marking(house, payment_id)))
            decided = [one.mark for one in answers if one.mark is not None]
            if decided == []:  # everybody came before its time, and none of the keepers was first
                raise AssertionError("a keeper that comes in time keeps it")
            assert len(set(decided)) == 1, "the mark stays"
            assert sum(one.is_new for one in answers) == 1
    rows = await house.owner.fetch(
        """SELECT p.id::text, version, kept_at IS NOT NULL AS is_kept, reversed_at IS NOT NULL AS is_reversed,
        (SELECT array_agg(kind) FROM requests WHERE payment_id = p.id) AS kinds,
        (SELECT max(version) FROM payment_events WHERE payment_id = p.id) AS last, k.response_status
        FROM payments AS p JOIN idempotency_keys AS k ON k.payment_id = p.id"""
    )
    for row in rows:
        mark = next(one.mark for one in found[row["id"]] if one.mark is not None)
        assert (row["is_kept"], row["is_reversed"]) == (mark is Mark.KEPT, mark is Mark.REVERSED)
        assert row["kinds"] == ["capture" if mark is Mark.KEPT else "reverse"]
        assert row["version"] == row["last"] == 3


def marking(house: House, payment_id: str) -> Marking:
    return Marking(
        payment_id=payment_id,
        merchant_id=house.merchant.id,
        event_id=str(uuid7()),
        request_id=str(uuid7()),
        stream="paynode:{p00}:events:pos",
        at=datetime.now(UTC),
    )


class Faint:
    """A database that does its work and loses the answer, so many times."""

    def __init__(self, desk: PgPointOfSale, times: int) -> None:
        self._desk = desk
        self.left = times

    async def keep(self, marking: Marking, seen_version: int, use: KeyUse, answer: StoredAnswer) -> Marked:
        return self._lose(await self._desk.keep(marking, seen_version, use, answer))

    async def reverse(self, marking: Marking) -> Marked:
        return self._lose(await self._desk.reverse(marking))

    def _lose(self, marked: Marked) -> Marked:
        if self.left:
            self.left -= 1
            raise Unavailable("the connection was cut")
        return marked


class Deaf:
    """A database that has nothing to decide until it has been asked five times."""

    def __init__(self) -> None:
        self.asked_at: list[float] = []

    async def keep(self, marking: Marking, seen_version: int, use: KeyUse, answer: StoredAnswer) -> Marked:
        raise AssertionError("nobody has seen it authorized")

    async def reverse(self, marking: Marking) -> Marked:
        self.asked_at.append(anyio.current_time())
        return Marked(mark=Mark.REVERSED if len(self.asked_at) == 5 else None, is_new=False, left_s=0.0)


async def test_an_answer_of_the_database_that_is_lost_is_asked_for_again(settings: Settings) -> None:
    async with pool(settings, Role.INGRESS, application_name="a", size=2) as database:
        faint = Faint(PgPointOfSale(database), 2)
        async with running(settings, deciding=faint) as house:
            reply = await until_authorized(house, at_till())
            assert (faint.left, reply.status, reply.json["status"]) == (0, 201, "authorized")
            assert len(await follow(house)) == 1
            stored = await house.owner.fetchval("SELECT response_body FROM idempotency_keys")
            assert (stored, orjson.loads(stored)["version"]) == (reply.raw, 3)


async def test_nobody_is_told_what_nobody_knows(settings: Settings) -> None:
    """The database stays away: neither 201 nor 504 would be true for certain."""
    async with pool(settings, Role.INGRESS, application_name="a", size=2) as database:
        faint = Faint(PgPointOfSale(database), 1_000)
        async with running(settings, deciding=faint) as house:
            body = at_till()
            reply = await house.pay(body, key="k", prefer="wait=1")
            assert (reply.status, "Retry-After" in reply.headers) == (503, True)
            faint.left = 0
            await house.owner.execute("UPDATE idempotency_keys SET in_flight_until = clock_timestamp()")
            assert (await house.pay(body, key="k", prefer="wait=1")).status == 504


async def test_while_nobody_can_look_at_what_is_over_the_database_is_not_asked_without_a_pause(house: House) -> None:
    """The payment has been declined: there is nothing to mark, and no time left to wait for."""
    desk = Deaf()
    till = PointOfSale(
        base_url="https://pay.example",
        partitions=64,
        deciding=desk,
        accepting=house.neighbours.accepting,
        announcer=house.ingress.announcer,
    )
    plan = plan_of_pos(PaymentBody.model_validate(at_till()), Preference(wait_s=1))
    use = KeyUse(merchant_id=str(uuid7()), path="/v1/payments", key="k", fingerprint=b"")
    with pytest.raises(Problem):
        await till.answer(use, str(uuid7()), plan, Watch[PaymentView]())
    assert desk.asked_at[-1] - desk.asked_at[0] > 0.3


async def test_a_retry_that_forgets_to_wait_is_answered_what_was_kept(house: House) -> None:
    body = at_till()
    kept = await until_authorized(house, body)
    again = await house.pay(body, key="k")
    assert (again.status, again.raw) == (201, kept.raw)


async def test_while_the_first_request_waits_a_retry_is_kept_off(house: House) -> None:
    body, replies = at_till(), list[Reply]()

    async def ask() -> None:
        replies.append(await house.pay(body, key="k", prefer="wait=20"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await wait_until(lambda: has_payment(house), "the payment is committed")
        assert (await house.pay(body, key="k", prefer="wait=20")).status == 409
        await house.become(await house.only_payment(), "authorized")
    assert replies[0].status == 201
