"""The customer's way to the PSP's page and back to the shop."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import anyio
import pytest
from uuid_utils import uuid7

from paynode.config import Settings
from paynode.domain import ids
from paynode.domain.money import Money
from paynode.domain.payment import Method, Status
from paynode.domain.reading import PaymentView
from paynode.http.checkout import shop_url
from paynode.storage.bodies import decode_order
from tests.http.house import House, Reply, by_token, hosted, running
from tests.http.test_shedding import with_overload
from tests.support.waiting import wait_until

PAGE = "https://psp.example/p/1"
PAYMENT = PaymentView(
    id="01890000-0000-7000-8000-000000000000",
    merchant_id=str(uuid7()),
    order_id="A-1",
    status=Status.CAPTURED,
    money=Money(amount=1, currency="EUR"),
    method=Method.HOSTED_PAGE,
    return_url="https://shop.example",
    psp="sim",
    metadata={},
    created_at=datetime(2026, 3, 1, tzinfo=UTC),
    updated_at=datetime(2026, 3, 1, tzinfo=UTC),
)
OURS = f"payment_id={ids.public('pay', PAYMENT.id)}&status=captured"


@pytest.mark.parametrize(
    ("return_url", "leads_to"),
    [
        ("https://shop.example", f"https://shop.example/?{OURS}"),
        ("https://shop.example/thanks", f"https://shop.example/thanks?{OURS}"),
        ("https://shop.example/?a=b&a=c%2Fd", f"https://shop.example/?a=b&a=c%2Fd&{OURS}"),
        ("https://shop.example/?q=a+b#top", f"https://shop.example/?q=a+b&{OURS}#top"),
        ("https://shop.example/#/done?x=1", f"https://shop.example/?{OURS}#/done?x=1"),
    ],
)
def test_the_shops_own_query_stays_as_it_is(return_url: str, leads_to: str) -> None:
    assert shop_url(replace(PAYMENT, return_url=return_url)) == leads_to


async def test_the_customer_waits_until_the_page_exists_and_is_sent_there(house: House) -> None:
    payment = await _payment(house)
    waiting = await house.get(f"/checkout/{payment}")
    assert waiting.status == 200
    assert waiting.headers["Content-Type"] == "text/html; charset=utf-8"
    assert b'<meta http-equiv="refresh" content="1">' in waiting.raw
    assert "default-src 'none'" in waiting.headers["Content-Security-Policy"]
    assert waiting.headers["Cache-Control"] == "no-store"
    await house.become(payment, "requires_action", page_url=PAGE)
    sent = await house.get(f"/checkout/{payment}")
    assert (sent.status, sent.headers["Location"]) == (303, PAGE)


@pytest.mark.parametrize("status", ["captured", "declined", "expired", "failed"])
async def test_a_payment_that_is_over_leads_back_to_the_shop(house: House, status: str) -> None:
    payment = await _payment(house)
    await house.become(payment, status)
    for path in ("", "/return"):
        reply = await house.get(f"/checkout/{payment}{path}")
        leads_to = f"https://shop.example/thanks?basket=7&sig=a%2Fb&payment_id={payment}&status={status}#top"
        assert (reply.status, reply.headers["Location"]) == (303, leads_to)


@pytest.mark.parametrize(
    ("status", "says", "is_refreshed"),
    [
        ("unknown", b"do not pay again", True),
        ("review", b"do not pay again", False),
        ("created", b"opens by itself", True),
    ],
)
async def test_the_page_says_what_is_going_on(house: House, status: str, says: bytes, is_refreshed: bool) -> None:
    payment = await _payment(house)
    await house.become(payment, status)
    reply = await house.get(f"/checkout/{payment}")
    assert reply.status == 200
    assert says in reply.raw
    assert (b"http-equiv" in reply.raw) == is_refreshed


async def test_the_page_calls_nobody_and_runs_nothing(house: House) -> None:
    text = (await house.get(f"/checkout/{await _payment(house)}")).raw.decode()
    assert re.search(r"https?://|<script|<link|<img|url\(|@import|\son\w+=", text) is None
    assert '<html lang="en">' in text


@pytest.mark.parametrize("path", ["", "/return"])
async def test_an_unknown_payment_is_a_page_not_found(house: House, path: str) -> None:
    by_card = (await house.pay(by_token())).json["id"]
    for given in (ids.public("pay", str(uuid7())), "nonsense", by_card):
        reply = await house.get(f"/checkout/{given}{path}")
        assert reply.status == 404
        assert b"<h1>Payment not found</h1>" in reply.raw


async def test_the_customer_comes_back_with_the_status_that_the_callback_brings(house: House) -> None:
    payment = await _payment(house)
    await house.become(payment, "requires_action", page_url=PAGE)
    replies: list[Reply] = []

    async def come_back() -> None:
        replies.append(await house.get(f"/checkout/{payment}/return"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(come_back)
        uuid = ids.parse("pay", payment)
        assert uuid is not None
        await wait_until(lambda: bool(house.ingress.waiters.is_watched(uuid)), "the return waits for the callback")
        await house.become(payment, "captured")
    assert replies[0].headers["Location"].endswith(f"payment_id={payment}&status=captured#top")
    assert await house.owner.fetchval("SELECT count(*) FROM outbox WHERE type = 'psp.inquire'") == 0


async def test_without_a_callback_the_psp_is_asked_once_however_often_the_customer_reloads(house: House) -> None:
    payment = await _payment(house)
    await house.become(payment, "requires_action", page_url=PAGE)
    await house.owner.execute("UPDATE operations SET state = 'pending'")
    house.recorder.published.clear()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(house.get, f"/checkout/{payment}/return")
    rows = await house.owner.fetch("SELECT *, body::text AS text FROM outbox WHERE type = 'psp.inquire'")
    assert 1 <= len(rows) <= 2, "a ten-second bucket may have ended among the five"
    assert rows[0]["stream"] == "paynode:{psp-sim}:commands:follow-up"
    assert decode_order(rows[0]["text"]).payment_id == ids.parse("pay", payment)
    await wait_until(lambda: len(house.recorder.published) == len(rows), "the inquiry is published")
    reply = await house.get(f"/checkout/{payment}/return")
    assert (reply.status, reply.headers["Location"].endswith("status=requires_action#top")) == (303, True)


@pytest.mark.parametrize("state", ["new", "unknown"])
async def test_no_reload_uses_up_the_questions_about_what_is_in_doubt(house: House, state: str) -> None:
    payment = await _payment(house)
    await house.owner.execute("UPDATE operations SET state = $1", state)
    assert await house.neighbours.callbacks.ask_inquiry(str(ids.parse("pay", payment)), now_s=1.0) is None
    assert await house.owner.fetchval("SELECT count(*) FROM outbox WHERE type = 'psp.inquire'") == 0


async def test_one_customer_waits_for_one_payment(house: House) -> None:
    payment = await _payment(house)
    await house.become(payment, "requires_action", page_url=PAGE)
    uuid = ids.parse("pay", payment)
    assert uuid is not None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(house.get, f"/checkout/{payment}/return")
        await wait_until(lambda: bool(house.ingress.waiters.is_watched(uuid)), "one waits")
        for _ in range(3):
            reply = await house.get(f"/checkout/{payment}/return")
            assert (reply.status, reply.headers["Location"].endswith("status=requires_action#top")) == (303, True)
        assert house.ingress.waiters.is_watched(uuid), "nobody else has waited so long"
        house.ingress.waiters.stop()


async def test_customers_leave_places_to_what_a_key_asks_for(settings: Settings) -> None:
    """Whoever has a link needs no key: ten places, of which customers who wait may fill seven."""
    async with running(with_overload(settings, requests_max=10)) as house:
        payments = [await _payment(house) for _ in range(8)]
        async with anyio.create_task_group() as tasks:
            for payment in payments[:7]:
                tasks.start_soon(house.get, f"/checkout/{payment}/return")
            await wait_until(lambda: house.ingress.gate.under_way == 7, "they wait")
            for path in ("", "/return"):
                assert (await house.get(f"/checkout/{payments[7]}{path}")).status == 503
            void = await house.request("POST", "/v1/payments/pay_x/void", headers={"Idempotency-Key": "k"})
            assert void.code == "not_found"
            house.ingress.waiters.stop()


async def _payment(house: House) -> str:
    return str((await house.pay(hosted(), prefer="respond-async")).json["id"])
