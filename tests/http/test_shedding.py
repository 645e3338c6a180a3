"""Too much: who is refused, in which order, what they are told, and who comes in all the same."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import anyio
import http_sf
import pytest
from uuid_utils import uuid7

from paynode.config import Settings
from paynode.http.glance import Begun
from paynode.http.problem import Problem
from paynode.http.shedding import SHARE_OF_PLACES, Gate
from paynode.http.work import ORDER, Work
from tests.http import raw
from tests.http.house import House, Reply, Told, by_token, new_merchant, running
from tests.support.waiting import wait_until

NOBODY = "01890000-0000-7000-8000-000000000000"


def with_overload(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update={"overload": settings.overload.model_copy(update=changes)})


async def one_of_each(house: House) -> dict[Work, Reply]:
    """A request of every class, one after the other."""
    pos = by_token(on_timeout="reverse")
    event = {"id": str(uuid7()), "reference": NOBODY, "outcome": "approved", "amount": 1, "currency": "EUR"}
    return {
        Work.EXPORT: await house.get("/v1/ledger"),
        Work.READ: await house.get("/v1/wallets"),
        Work.CHECKOUT: await house.pay(),
        Work.POS: await house.pay(pos, prefer="wait=1"),
        Work.OPERATION: await house.request("POST", "/v1/payments/pay_x/void", headers={"Idempotency-Key": "k"}),
        Work.CALLBACK: await house.tell(event),
    }


def shed(replies: dict[Work, Reply]) -> list[Work]:
    return [work for work, reply in replies.items() if reply.status == 503]


def test_the_last_tenth_of_the_places_is_for_callbacks() -> None:
    shares = [SHARE_OF_PLACES[work] for work in ORDER]
    assert shares == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("waiting", "refused"), [(4, 0), (5, 1), (6, 2), (7, 3)])
async def test_who_waits_fills_the_places_of_his_own_class_and_no_others(
    settings: Settings, waiting: int, refused: int
) -> None:
    """Ten places. Checkouts that wait for a result which nobody brings may fill seven of them."""
    async with running(with_overload(settings, requests_max=10)) as house, anyio.create_task_group() as tasks:
        for _ in range(waiting):  # each for itself: of one merchant fewer may wait
            tasks.start_soon(_wait_long, await _another(house))
        await wait_until(lambda: has_payments(house, waiting), "they wait")
        replies = await one_of_each(house)
        assert shed(replies) == [*ORDER[:refused]]
        assert replies[Work.CALLBACK].status == 200
        assert house.told.sheds == [(work, "places") for work in ORDER[:refused]]
        assert house.ingress.gate.under_way == waiting
        house.ingress.waiters.stop()
    assert house.ingress.gate.under_way == 0


async def test_a_refusal_says_what_it_is_and_when_to_come_again(settings: Settings) -> None:
    async with running(with_overload(settings, requests_max=1)) as house:
        reply = await house.get("/v1/wallets", Authorization="")
        assert (reply.status, reply.code) == (401, "api_key_missing")
        house.ingress.gate.under_way = 1
        reply = await house.get("/v1/wallets", Authorization="")
        assert (reply.status, reply.code) == (503, "overloaded"), "before anything else is looked at"
        assert reply.headers["Retry-After"] == "1"
        assert fields(reply) == {
            "RateLimit-Policy": ("overload", {"q": 1, "qu": "concurrent-requests"}),
            "RateLimit": ("overload", {"r": 0, "t": 1}),
        }
        assert reply.headers["Request-Id"]
        assert house.told.answered_with[-1]["facts"]["code"] == "overloaded"
        house.ingress.gate.under_way = 0


async def test_a_checkout_that_says_it_waits_is_no_point_of_sale(settings: Settings) -> None:
    """What its head promises its body must keep: else every shop would send `Prefer: wait`."""
    async with running(with_overload(settings, requests_max=10)) as house:
        house.ingress.gate.under_way = 7
        assert (await house.pay(prefer="wait=1")).status == 503
        assert house.told.sheds == [("checkout", "places")]
        assert await house.count("payments") == 0
        house.ingress.gate.under_way = 0


async def test_one_merchant_that_waits_leaves_places_to_the_others(settings: Settings) -> None:
    """Seven places for checkouts, of which one merchant may wait on a quarter, which is one."""
    async with running(with_overload(settings, requests_max=10)) as house, anyio.create_task_group() as tasks:
        tasks.start_soon(_wait_long, house)
        await wait_until(lambda: has_payments(house, 1), "the first waits")
        body = by_token()
        for _ in range(8):
            reply = await house.pay(body, key="second", prefer="wait=30")
            assert (reply.status, reply.json["status"], reply.headers["Retry-After"]) == (202, "processing", "1")
            assert "Preference-Applied" not in reply.headers
        await house.become(reply.json["id"], "captured")
        last = await house.pay(body, key="second", prefer="wait=30")
        assert (last.status, last.json["status"], last.json["id"]) == (201, "captured", reply.json["id"])
        tasks.start_soon(_wait_long, await _another(house))
        await wait_until(lambda: len(house.ingress.gate.waits) == 2, "another merchant's wait is honoured")
        assert house.told.sheds == []
        house.ingress.waiters.stop()
    assert len(house.ingress.gate.waits) == 0


async def test_a_till_too_many_of_one_merchant_is_told_to_come_again_and_the_next_is_served(settings: Settings) -> None:
    """It is never answered before it is known, and what it cannot wait for must not be made."""
    till = by_token(on_timeout="reverse")
    async with running(with_overload(settings, requests_max=5)) as house, anyio.create_task_group() as tasks:
        tasks.start_soon(_wait_long, house, by_token(on_timeout="reverse"))
        await wait_until(lambda: has_payments(house, 1), "the first waits")
        refused = await house.pay(till, key="k", prefer="wait=30")
        assert (refused.status, refused.code, refused.headers["Retry-After"]) == (429, "rate_limited", "1")
        assert fields(refused)["RateLimit-Policy"] == ("waiting", {"q": 1, "qu": "concurrent-requests"})
        assert house.told.sheds == [("pos", "rate")]
        assert await house.count("payments") == await house.count("idempotency_keys") == 1
        await house.become(await house.only_payment(), "declined")
        await wait_until(lambda: house.ingress.gate.under_way == 0, "the first is answered")
        tasks.start_soon(_wait_long, house, till)
        await wait_until(lambda: len(house.ingress.gate.waits) == 1, "its place is the next one's")
        tasks.cancel_scope.cancel()


async def _wait_long(house: House, body: Any = None) -> None:
    await house.pay(body, prefer="wait=30")


async def _another(house: House) -> House:
    """The same house to another merchant."""
    return replace(house, merchant=await new_merchant(house.owner))


# -- by the first bytes -----------------------------------------------------------------------------------------------


async def test_a_refusal_by_the_first_bytes_says_what_the_long_one_does(settings: Settings) -> None:
    async with running(with_overload(settings, requests_max=1)) as house:
        house.ingress.gate.under_way = 1
        long, short = raw.with_header(raw.request(house), "Connection: close"), raw.request(house)
        replies = {sent: await raw.exchange(house, sent) for sent in (long, short)}
        assert [(reply.status, reply.code) for reply in replies.values()] == [(503, "overloaded")] * 2
        for reply in replies.values():
            assert reply.headers["Request-Id"] == reply.json["request_id"]
        ours = {"Request-Id", "Content-Length"}
        for name in replies[short].headers.keys() - ours:
            assert replies[short].headers[name] == replies[long].headers[name]
        assert replies[long].headers.keys() - replies[short].headers.keys() == {"Connection", "Date", "traceparent"}
        assert house.told.sheds == [("checkout", "places")] * 2
        told = house.told.answered_with[-1]
        assert (told["route"], told["method"], told["status"]) == ("/v1/payments", "POST", 503)
        assert told["facts"] == {"code": "overloaded", "request_id": replies[short].headers["Request-Id"]}
        house.ingress.gate.under_way = 0


async def test_a_connection_lives_on_after_a_refusal_and_its_next_request_is_served(settings: Settings) -> None:
    async with running(with_overload(settings, requests_max=1)) as house, raw.connected(house) as (reader, writer):
        house.ingress.gate.under_way = 1
        sent = raw.request(house)
        for _ in range(3):  # the body comes apart from the head, as many clients send it
            writer.write(sent[:-5])
            assert (await raw.answer(reader)).status == 503
            writer.write(sent[-5:])
        await wait_until(lambda: len(house.told.sheds) == 3, "each was refused")
        house.ingress.gate.under_way = 0
        get = f"GET /v1/wallets HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {house.merchant.api_key}\r\n\r\n"
        writer.write(get.encode())
        assert (await raw.answer(reader)).status == 200
        assert house.served.door.open == 1
        assert await house.count("payments") == 0


class Unread(asyncio.Transport):
    """Keeps what is written, as that of a client does who reads nothing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.kept = 0
        self.is_cut_off = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.kept += len(data)

    def get_write_buffer_size(self) -> int:
        return self.kept

    def abort(self) -> None:
        self.is_cut_off = True

    close = abort

    def is_closing(self) -> bool:
        return self.is_cut_off


async def test_who_asks_on_and_reads_no_refusal_is_cut_off(settings: Settings) -> None:
    """Else its answers would fill the memory."""
    async with running(with_overload(settings, requests_max=1)) as house:
        house.ingress.gate.under_way = 1
        connection, transport = house.served.door(), Unread()
        connection.connection_made(transport)
        await wait_until(lambda: connection.is_idle, "it waits for a request")
        for _ in range(200):
            if not transport.is_cut_off:
                connection.data_received(raw.request(house))
        assert transport.is_cut_off
        assert 10 < len(house.told.sheds) < 200
        connection.connection_lost(None)
        house.ingress.gate.under_way = 0


async def test_those_who_were_read_and_not_begun_are_ahead_of_the_next(settings: Settings) -> None:
    """Hundreds are read before the first of them is in any queue."""
    now, age_s = [0.0], 0.3
    limits = with_overload(settings, target_ms=100, interval_ms=300).overload
    gate = Gate(limits, Told(), waiting=(lambda: age_s,), clock=lambda: now[0])
    checkout = Begun(method="POST", route="/v1/payments", work=Work.CHECKOUT, size=1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.run)
        await anyio.wait_all_tasks_blocked()
        for _ in range(11):  # the first is before the first look; a tenth of a second each
            with gate.admitted(Work.CALLBACK):
                now[0] += 0.1
            await _looked(gate, now[0])
        answers = [bool(gate.refusal(checkout)) for _ in range(3)]
        assert answers == [False, False, True], "0.3, 0.4 and 0.5 s, of which a checkout bears 0.4"
        age_s = 60.0
        gate.check(Work.CALLBACK, 1)  # it waits in no queue of the others
        assert _is_shed(gate, Work.OPERATION)
        age_s = 0.3
        gate.arrived()
        assert not gate.refusal(checkout), "one has arrived, and there is room for another"
        tasks.cancel_scope.cancel()


async def _looked(gate: Gate, now: float) -> None:
    await wait_until(lambda: gate.age_s(now) == pytest.approx(0.3), "it has looked, and the loop is not late")


def _is_shed(gate: Gate, work: Work) -> bool:
    try:
        gate.check(work, 1)
    except Problem:
        return True
    return False


# -- age --------------------------------------------------------------------------------------------------------------


async def test_behind_a_database_that_is_stuck_the_classes_go_in_order_and_the_callbacks_never(
    settings: Settings,
) -> None:
    """Everything that needs `payments` waits and grows old; callbacks need others and have connections of their own."""
    limits = with_overload(settings, target_ms=50, interval_ms=50, look_ms=5)
    limits = limits.model_copy(update={"http": settings.http.model_copy(update={"request_deadline_s": 60.0})})
    async with running(limits) as house, AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(anyio.create_task_group())
        await house.get("/v1/wallets")  # from now on the key is known
        await house.owner.execute("BEGIN; LOCK TABLE payments IN ACCESS EXCLUSIVE MODE")
        accepted: list[Reply] = []
        for _ in range(3):  # the first is being committed, the others wait for their group
            tasks.start_soon(_pay, house, accepted)
            await anyio.sleep(0.01)
        shed_at = {work: await _seen_refused(house, work) for work in (Work.EXPORT, Work.READ, Work.CHECKOUT)}
        assert list(shed_at.values()) == sorted(shed_at.values())
        event = {"id": str(uuid7()), "reference": "of nobody", "outcome": "approved", "amount": 1, "currency": "EUR"}
        assert (await house.tell(event)).status == 200
        assert {reason for _, reason in house.told.sheds} == {"age"}
        await house.owner.execute("ROLLBACK")
        await wait_until(lambda: len(accepted) == 3, "what was let in is accepted")
        assert [reply.status for reply in accepted] == [201] * 3
        assert await house.count("payments") == 3, "and what was refused has left nothing"
        await wait_until(lambda: _is_open(house), "it is over, and everybody comes in again")
        assert all(fact["status"] != 500 for fact in house.told.answered_with)


async def _pay(house: House, replies: list[Reply]) -> None:
    replies.append(await house.pay())


async def _seen_refused(house: House, work: Work) -> float:
    """Asked of the gate and not by requests: one that got in would wait with the others."""

    await wait_until(lambda: _is_shed(house.ingress.gate, work), f"{work} is refused", 30)
    return anyio.current_time()


async def _is_open(house: House) -> bool:
    return (await house.get("/v1/ledger")).status == 200


async def test_the_gate_feels_a_loop_that_is_late(settings: Settings) -> None:
    now, told = [0.0], Told()
    limits = with_overload(settings, target_ms=50, interval_ms=100, look_ms=20).overload
    gate = Gate(limits, told, clock=lambda: now[0])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gate.run)
        await anyio.wait_all_tasks_blocked()
        now[0] = 0.2  # the loop should have come by at 0.02
        assert gate.age_s(now[0]) == pytest.approx(0.18)
        for work in ORDER:
            gate.check(work, 1)  # once is a burst
        now[0] = 0.4
        refused = []
        for work in ORDER:
            try:
                gate.check(work, 1)
            except Problem:
                refused.append(work)
        assert refused == [Work.EXPORT, Work.READ, Work.CHECKOUT], "0.38 s: a point of sale bears 0.4"
        tasks.cancel_scope.cancel()
    assert told.sheds == [(work, "age") for work in refused]


# -- quotas -----------------------------------------------------------------------------------------------------------


async def test_a_merchant_that_asks_too_often_is_told_to_wait_and_the_others_are_not(settings: Settings) -> None:
    async with running(with_overload(settings, reads_max=3, window_s=3600.0)) as house:
        replies = [await house.get("/v1/wallets") for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 200, 429]
        assert [fields(reply)["RateLimit"][1]["r"] for reply in replies] == [2, 1, 0, 0]
        last = replies[-1]
        assert last.code == "rate_limited"
        assert 1 < int(last.headers["Retry-After"]) <= 1200
        assert fields(last)["RateLimit-Policy"] == ("read", {"q": 3, "w": 3600})
        assert (await house.pay()).status == 201, "another class"
        assert (await house.get("/v1/wallets", Authorization="Bearer x")).status == 401, "nobody's quota"
        assert house.told.sheds == [("read", "rate")]


async def test_a_refused_payment_leaves_nothing_and_its_key_is_free(settings: Settings) -> None:
    async with running(with_overload(settings, checkouts_max=1, window_s=0.2)) as house:
        body = by_token()
        first = await house.pay()
        refused = await house.pay(body, key="again")
        while refused.status == 201:  # on a slow machine the window is over
            refused = await house.pay(by_token(), key=str(uuid7()))
        assert refused.status == 429
        payments = await house.count("payments")
        assert await house.count("idempotency_keys") == payments
        assert first.status == 201
        await wait_until(lambda: _is_paid(house, body), "he came later, and was let in")


async def _is_paid(house: House, body: Any) -> bool:
    return (await house.pay(body, key="again")).status == 201


async def test_a_token_is_taken_from_the_class_that_the_body_names(settings: Settings) -> None:
    async with running(with_overload(settings, pos_max=5, checkouts_max=5, window_s=3600.0)) as house:
        assert fields(await house.pay(prefer="wait=1"))["RateLimit"][0] == "checkout"
        buckets = house.ingress.gate.quotas
        pos, checkout = (buckets.take(house.merchant.id, work) for work in (Work.POS, Work.CHECKOUT))
        assert pos is not None
        assert checkout is not None
        assert (pos.remaining, checkout.remaining) == (4, 3)


async def test_answers_that_no_quota_is_about_have_no_such_fields(untouched: House) -> None:
    event = {"id": "evt_1", "reference": NOBODY, "outcome": "approved", "amount": 1, "currency": "EUR"}
    for reply in (await untouched.tell(event, signature="00"), await untouched.get("/nowhere")):
        assert "RateLimit" not in reply.headers


async def has_payments(house: House, count: int) -> bool:
    return await house.count("payments") == count and house.ingress.gate.under_way == count


def fields(reply: Reply) -> dict[str, tuple[str, dict[str, Any]]]:
    """Both fields, read as a client would."""
    found = {}
    for name in ("RateLimit-Policy", "RateLimit"):
        members: Any = http_sf.parse(reply.headers[name].encode(), tltype="list")
        [(policy, parameters)] = members
        found[name] = (policy, parameters)
    return found
