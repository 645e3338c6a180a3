"""The life of a payment after its charge: captured, voided, refunded, canceled, taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import uuid_utils

from tests.sim.running import Receiver, Simulator
from tests.support.waiting import wait_until


@pytest.fixture
def op() -> str:
    """A reference that nobody has used."""
    return str(uuid_utils.uuid7())


def _said(answer: tuple[int, dict[str, Any], bool]) -> tuple[int, str, int | None]:
    """Status, outcome or code, and amount."""
    status, body, _ = answer
    if status == 201:
        return status, body["status"], body["amount"]
    return status, body["error"]["code"], None


def _lines(book: Sequence[dict[str, Any]]) -> list[tuple[str, str, int]]:
    return [(line["kind"], line["result"], line["amount"]) for line in book]


async def test_an_authorization_is_captured_in_parts_and_never_beyond_it(sim: Simulator, op: str) -> None:
    _, authorization, _ = await sim.authorize(op)
    assert (authorization["object"], authorization["status"]) == ("authorize", "approved")

    assert _said(await sim.follow("captures", f"{op}-1", op, 600)) == (201, "approved", 600)
    assert _said(await sim.follow("captures", f"{op}-2", op, 401)) == (409, "amount_exceeds_authorized", None)
    assert _said(await sim.follow("captures", f"{op}-3", op, 300, final=True)) == (201, "approved", 300)
    assert _said(await sim.follow("captures", f"{op}-4", op, 100)) == (409, "already_captured", None)

    assert _lines(await sim.book(op)) == [("authorize", "approved", 1000)]
    [line] = await sim.book(f"{op}-1")
    assert (line["op"], line["charge"], line["result"]) == ("capture", authorization["id"], "approved")
    [line] = await sim.book(f"{op}-2")
    assert (line["result"], line["decline_code"]) == ("declined", "amount_exceeds_authorized")


async def test_a_void_lets_go_of_what_was_not_captured(sim: Simulator, op: str) -> None:
    await sim.authorize(op)
    await sim.follow("captures", f"{op}-1", op, 400)
    assert _said(await sim.follow("voids", f"{op}-2", op)) == (201, "approved", 600)
    assert _said(await sim.follow("voids", f"{op}-3", op)) == (409, "already_voided", None)
    assert _said(await sim.follow("captures", f"{op}-4", op, 1)) == (409, "authorization_voided", None)
    assert _said(await sim.follow("refunds", f"{op}-5", op, 400)) == (201, "approved", 400)


async def test_what_a_charge_does_not_allow_is_refused_for_good(sim: Simulator, op: str) -> None:
    await sim.charge(op)
    await sim.authorize(f"{op}-auth")
    for what, of, amount, more, code in [
        ("captures", op, 1000, {}, (409, "not_capturable")),
        ("voids", op, 1000, {}, (409, "already_captured")),
        ("refunds", op, 1001, {}, (409, "amount_exceeds_captured")),
        ("refunds", op, 1000, {"currency": "JPY"}, (409, "currency_mismatch")),
        ("refunds", f"{op}-auth", 1000, {}, (409, "nothing_captured")),
        ("refunds", f"{op}-never", 1000, {}, (404, "charge_unknown")),
        ("cancels", op, 1000, {}, (404, "session_unknown")),
    ]:
        reference = str(uuid_utils.uuid7())
        first = await sim.follow(what, reference, of, amount, **more)
        assert _said(first) == (*code, None)
        status, body, is_repeated = await sim.follow(what, reference, of, amount, **more)
        assert (status, body) == first[:2]
        assert is_repeated is (status == 409), "what was booked is kept"


async def test_a_sale_is_refunded_in_parts_and_never_beyond_it(sim: Simulator, op: str) -> None:
    await sim.charge(op)
    refunds = [sim.follow("refunds", f"{op}-{number}", op, 300) for number in range(20)]
    answers = [_said(one) for one in await asyncio.gather(*refunds)]
    assert sorted(answers, key=str) == [(201, "approved", 300)] * 3 + [(409, "amount_exceeds_captured", None)] * 17
    assert _said(await sim.follow("refunds", f"{op}-rest", op, 100)) == (201, "approved", 100)
    assert _said(await sim.follow("refunds", f"{op}-more", op, 1)) == (409, "already_refunded", None)


async def test_every_kind_is_done_once_for_a_key_and_its_repetition_gets_the_same(sim: Simulator, op: str) -> None:
    await sim.authorize(op)
    await sim.authorize(f"{op}-to-void")
    for what, of in [("captures", op), ("refunds", op), ("voids", f"{op}-to-void")]:
        reference = f"{op}-{what}"
        answers = await asyncio.gather(*(sim.follow(what, reference, of) for _ in range(10)))
        assert {_said(one) for one in answers} == {(201, "approved", 1000)}
        assert len({body["id"] for _, body, _ in answers}) == 1
        assert sum(is_repeated for _, _, is_repeated in answers) == 9
        assert len(await sim.book(reference)) == 1
        assert _said(await sim.follow(what, reference, of, 999)) == (409, "idempotency_key_reused", None)
        [found] = await sim.operations(reference)
        assert (found["object"], found["status"], found["amount"]) == (what[:-1], "approved", 1000)


async def test_a_page_is_authorized_when_that_is_asked_for(sim: Simulator, op: str) -> None:
    page = await sim.open_page(op, capture="manual")
    await sim.press(page, "pay")
    assert _lines(await sim.book(op)) == [("authorize", "approved", 1000)]
    assert [one["object"] for one in await sim.operations(op)] == ["authorize", "session"]
    assert _said(await sim.follow("captures", f"{op}-1", op)) == (201, "approved", 1000)


async def test_an_open_page_is_closed_by_a_cancel(sim: Simulator, op: str) -> None:
    page = await sim.open_page(op)
    assert _said(await sim.follow("cancels", f"{op}-1", op)) == (201, "approved", 1000)
    assert [one["status"] for one in await sim.operations(op)] == ["canceled"]
    assert (await sim.press(page, "pay"))[1] == page.removeprefix(sim.url)
    status, html = await sim.show(page)
    assert (status, "canceled by the shop" in html, 'id="pay"' in html) == (410, True, False)
    assert await sim.book(op) == []
    assert _said(await sim.follow("cancels", f"{op}-2", op)) == (409, "already_canceled", None)


async def test_a_page_that_has_ended_is_not_closed_again(sim: Simulator, op: str) -> None:
    for button, code, status in [("pay", "already_paid", "approved"), ("decline", "already_declined", "declined")]:
        await sim.press(await sim.open_page(f"{op}-{button}"), button)
        said = await sim.follow("cancels", f"{op}-{button}-cancel", f"{op}-{button}")
        assert _said(said) == (409, code, None)
        assert {one["status"] for one in await sim.operations(f"{op}-{button}")} == {status}


async def test_a_page_paid_and_canceled_at_once_ends_in_one_of_both(sim: Simulator, op: str) -> None:
    for number in range(5):
        reference = f"{op}-{number}"
        page = await sim.open_page(reference)
        acts: list[Any] = [sim.press(page, "pay"), sim.follow("cancels", f"{reference}-c", reference)]
        *_, canceled = sorted(await asyncio.gather(*acts[:: 1 if number % 2 else -1]), key=len)
        paid = await sim.book(reference)
        assert (canceled[0], len(paid)) in [(201, 0), (409, 1)]


async def test_everything_is_called_back(sim: Simulator, receiver: Receiver, op: str) -> None:
    await sim.authorize(op)
    await sim.follow("captures", f"{op}-capture", op, 400)
    await sim.follow("refunds", f"{op}-refund", op, 400)
    await sim.follow("refunds", f"{op}-too-much", op, 1)
    await sim.follow("voids", f"{op}-void", op)
    await sim.open_page(f"{op}-page")
    await sim.follow("cancels", f"{op}-cancel", f"{op}-page")
    await sim.reverse(f"{op}-refund")
    for reference, types in {
        op: {"authorize.approved"},
        f"{op}-capture": {"capture.approved"},
        f"{op}-refund": {"refund.approved", "refund.failed"},
        f"{op}-too-much": {"refund.declined"},
        f"{op}-void": {"void.approved"},
        f"{op}-cancel": {"cancel.approved"},
    }.items():
        await receiver.heard(reference, types)
        assert all(one.is_signed for one in receiver.of(reference))
    assert receiver.of(f"{op}-page") == []


async def test_what_was_approved_is_taken_back_once(sim: Simulator, receiver: Receiver, op: str) -> None:
    _, sale, _ = await sim.charge(op)
    status, told = await sim.reverse(op)
    assert (status, told["id"], told["status"], told["amount"]) == (200, sale["id"], "reversed", 1000)
    assert [one["status"] for one in await sim.operations(op)] == ["reversed"]
    await wait_until(
        lambda: "charge.reversed" in [one.event["type"] for one in receiver.of(op)], "it was called back", 60
    )
    assert _lines(await sim.book(op)) == [("sale", "approved", 1000), ("reversal", "reversed", 1000)]
    assert (await sim.charge(op))[1] == sale, "a repetition gets the first answer"
    assert _said(await sim.follow("refunds", f"{op}-1", op)) == (409, "charge_reversed", None)
    for reference, status, code in [(op, 409, "already_reversed"), (f"{op}-never", 404, "charge_unknown")]:
        refused, body = await sim.reverse(reference)
        assert (refused, body["error"]["code"]) == (status, code)


async def test_a_refund_that_failed_later_may_be_made_again(sim: Simulator, op: str) -> None:
    await sim.charge(op)
    await sim.follow("refunds", f"{op}-1", op)
    await sim.reverse(f"{op}-1")
    assert [one["status"] for one in await sim.operations(f"{op}-1")] == ["failed"]
    assert _said(await sim.follow("refunds", f"{op}-2", op)) == (201, "approved", 1000)


async def test_a_token_declines_what_follows(sim: Simulator, op: str) -> None:
    for kind, what in [("capture", "captures"), ("void", "voids"), ("refund", "refunds")]:
        charge = f"{op}-{kind}"
        await (
            sim.charge(charge, "tok_refund_declined")
            if kind == "refund"
            else sim.authorize(charge, token=f"tok_{kind}_declined")
        )
        assert _said(await sim.follow(what, f"{charge}-1", charge)) == (201, "declined", 1000)
        assert [one["decline_code"] for one in await sim.operations(f"{charge}-1")] == ["do_not_honor"]


async def test_the_report_shows_what_moved_page_by_page(sim: Simulator, op: str) -> None:
    await sim.charge(op, amount=10_000)
    await sim.follow("refunds", f"{op}-1", op, 3_000)
    await sim.follow("refunds", f"{op}-2", op, 2_000)
    await sim.reverse(f"{op}-2")
    await sim.authorize(f"{op}-auth")
    await sim.follow("captures", f"{op}-capture", f"{op}-auth", 500)
    await sim.reverse(f"{op}-capture")
    window = {"from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"}

    async def report(**more: str) -> dict[str, Any]:
        async with sim.http.get(f"{sim.url}/settlement", params=window | more) as response:
            content: dict[str, Any] = await response.json()
            return content

    whole, pages = (await report())["data"], []
    cursor: dict[str, str] = {}
    while True:
        page = await report(limit="2", **cursor)
        assert 0 < len(page["data"]) <= 2
        pages += page["data"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert pages == whole
    mine = [(line["kind"], line["amount"]) for line in whole if line["our_reference"].startswith(op)]
    assert mine == [
        ("sale", 10_000),
        ("fee", 120),
        ("refund", 3_000),
        ("refund", 2_000),
        ("refund_failure", 2_000),
        ("capture", 500),
        ("fee", 6),
        ("reversal", 500),
    ]
    for wrong in ({"limit": "0"}, {"limit": "x"}, {"limit": "5", "cursor": "x"}):
        assert "error" in await report(**wrong)
