"""Too much: who is refused, in which order, what they are told, and who comes in all the same."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import anyio
import http_sf
import pytest
from uuid_utils import uuid7

from paynode.config import Settings
from paynode.http.problem import Problem
from paynode.http.shedding import SHARE_OF_PLACES, Gate
from paynode.http.work import ORDER, Work
from tests.http.house import House, Reply, Told, by_token, running
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
        for _ in range(waiting):
            tasks.start_soon(lambda: house.pay(prefer="wait=30"))
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

    def is_refused() -> bool:
        try:
            house.ingress.gate.check(work, 1)
        except Problem:
            return True
        return False

    await wait_until(is_refused, f"{work} is refused", 30)
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
