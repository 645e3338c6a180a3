"""The demo shop as a customer uses it, with a paynode that a test plays."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.sim.running import STOP_S, process_of

_ORDER = "ord_" + "a" * 24


@dataclass
class Paynode:
    """Answers as the contract says; `status` is what the payment has come to."""

    url: str = ""
    status: str = "requires_action"
    failures: list[int] = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    _payments: dict[str, str] = field(default_factory=dict)

    async def create(self, request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        assert request.headers["Authorization"] == "Bearer sk_test"
        self.asked.append((key, await request.json()))
        if self.failures:
            return web.json_response({"code": "no"}, status=self.failures.pop(0))
        payment_id = self._payments.setdefault(key, f"pay_{len(self._payments) + 1}")
        return web.json_response(self._payment(payment_id), status=201)

    async def show(self, request: web.Request) -> web.Response:
        if self.failures:
            return web.json_response({"code": "no"}, status=self.failures.pop(0))
        return web.json_response(self._payment(request.match_info["id"]))

    def _payment(self, payment_id: str) -> dict[str, Any]:
        return {
            "id": payment_id,
            "object": "payment",
            "status": self.status,
            "amount": 2490,
            "checkout_url": f"http://pay.invalid/checkout/{payment_id}",
        }


@pytest.fixture
async def paynode() -> AsyncIterator[Paynode]:
    paynode = Paynode()
    app = web.Application()
    app.router.add_post("/v1/payments", paynode.create)
    app.router.add_get("/v1/payments/{id}", paynode.show)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    paynode.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield paynode
    await runner.cleanup()


class Shop:
    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._http = http

    async def get(self, path: str) -> tuple[int, str]:
        async with self._http.get(self.url + path) as response:
            return response.status, await response.text()

    async def post(self, path: str, **fields: str) -> tuple[int, str, str]:
        """Returns status, Location and page."""
        async with self._http.post(self.url + path, data=fields, allow_redirects=False) as response:
            return response.status, response.headers.get("Location", ""), await response.text()

    async def standing(self, order: str = _ORDER) -> str:
        status, html = await self.get(f"/orders/{order}")
        assert status == 200
        found = re.search(r'id="order-status">(\w+)<', html)
        assert found is not None
        return found[1]


def _process(data_dir: Path, paynode: Paynode) -> Any:
    return process_of(
        "shop",
        data_dir,
        PAYNODE_SHOP__PORT="0",
        PAYNODE_HTTP__PUBLIC_URL=paynode.url,
        PAYNODE_SHOP_API_KEY="sk_test",
    )


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as http:
        yield http


@pytest.fixture
async def shop(tmp_path: Path, paynode: Paynode, http: aiohttp.ClientSession) -> AsyncIterator[Shop]:
    with _process(tmp_path, paynode) as (_, url, _):
        yield Shop(url, http)


async def test_buying_sends_the_customer_to_the_payment_page_and_the_order_tells_how_it_stands(
    shop: Shop, paynode: Paynode
) -> None:
    status, html = await shop.get("/")
    assert status == 200
    assert 'id="pay"' in html
    assert "24.90 EUR" in html
    fresh = re.search(r'name="order" value="(ord_[0-9a-f]{24})"', html)
    assert fresh is not None

    bought = await shop.post("/orders", order=fresh[1])

    assert bought[:2] == (303, "http://pay.invalid/checkout/pay_1")
    [(key, body)] = paynode.asked
    assert key == f"{fresh[1]}-1"
    assert (body["order_id"], body["amount"], body["currency"]) == (fresh[1], 2490, "EUR")
    assert body["method"] == {"type": "hosted_page", "return_url": f"{shop.url}/orders/{fresh[1]}"}
    _, page = await shop.get(f"/orders/{fresh[1]}")
    assert 'http-equiv="refresh"' in page
    assert 'id="continue" class="primary" href="http://pay.invalid/checkout/pay_1"' in page
    for status_of_payment, standing in [
        ("requires_action", "waiting"),
        ("processing", "waiting"),
        ("unknown", "waiting"),
        ("review", "waiting"),
        ("captured", "paid"),
        ("declined", "declined"),
        ("expired", "declined"),
        ("canceled", "declined"),
        ("failed", "declined"),
    ]:
        paynode.status = status_of_payment
        assert await shop.standing(fresh[1]) == standing
    _, page = await shop.get(f"/orders/{fresh[1]}")
    assert 'http-equiv="refresh"' not in page


async def test_pressing_ten_times_at_once_begins_one_payment(shop: Shop, paynode: Paynode) -> None:
    presses = await asyncio.gather(*(shop.post("/orders", order=_ORDER) for _ in range(10)))
    assert {press[1] for press in presses} == {"http://pay.invalid/checkout/pay_1"}
    assert {key for key, _ in paynode.asked} == {f"{_ORDER}-1"}


async def test_with_paynode_away_it_says_so_and_trying_again_uses_the_same_key(shop: Shop, paynode: Paynode) -> None:
    paynode.failures = [503, 409]
    for _ in range(2):
        status, _, page = await shop.post("/orders", order=_ORDER)
        assert status == 503
        assert "cannot charge you twice" in page
        assert f'action="/orders/{_ORDER}/pay"' in page
    assert (await shop.post(f"/orders/{_ORDER}/pay"))[0] == 303
    assert {key for key, _ in paynode.asked} == {f"{_ORDER}-1"}


async def test_a_refusal_is_told_without_a_button(shop: Shop, paynode: Paynode) -> None:
    paynode.failures = [422]
    status, _, page = await shop.post("/orders", order=_ORDER)
    assert (status, 'id="pay"' in page) == (503, False)


async def test_an_order_waits_honestly_while_paynode_cannot_be_asked(shop: Shop, paynode: Paynode) -> None:
    await shop.post("/orders", order=_ORDER)
    paynode.failures = [500]
    status, page = await shop.get(f"/orders/{_ORDER}")
    assert status == 200
    assert "We cannot ask" in page
    assert await shop.standing() == "waiting"


async def test_after_a_decline_another_try_is_another_payment_of_the_same_order(shop: Shop, paynode: Paynode) -> None:
    await shop.post("/orders", order=_ORDER)
    paynode.status = "declined"
    assert (await shop.post(f"/orders/{_ORDER}/pay"))[0] == 303
    assert [(key, body["order_id"]) for key, body in paynode.asked] == [
        (f"{_ORDER}-1", _ORDER),
        (f"{_ORDER}-2", _ORDER),
    ]


async def test_a_paid_order_is_not_paid_again(shop: Shop, paynode: Paynode) -> None:
    await shop.post("/orders", order=_ORDER)
    paynode.status = "captured"
    assert (await shop.post(f"/orders/{_ORDER}/pay"))[:2] == (303, f"/orders/{_ORDER}")
    assert len(paynode.asked) == 1


async def test_orders_survive_a_kill_and_half_a_line(
    tmp_path: Path, paynode: Paynode, http: aiohttp.ClientSession
) -> None:
    with _process(tmp_path, paynode) as (process, url, _):
        await Shop(url, http).post("/orders", order=_ORDER)
        process.kill()
    with (tmp_path / "shop" / "orders.ndjson").open("ab") as file:
        file.write(b'{"id":"ord_')
    paynode.status = "captured"
    with _process(tmp_path, paynode) as (_, url, _):
        assert await Shop(url, http).standing() == "paid"
        await Shop(url, http).post("/orders", order="ord_" + "b" * 24)
    lines = (tmp_path / "shop" / "orders.ndjson").read_text().splitlines()
    assert [json.loads(line)["payment_id"] for line in lines] == [None, "pay_1", None, "pay_2"]


async def test_forms_and_orders_that_are_not_the_shops_are_refused(shop: Shop) -> None:
    for order in ("", "ord_", "ord_" + "A" * 24, _ORDER + "\n", "../../etc/passwd"):
        assert (await shop.post("/orders", order=order))[0] == 400
    assert (await shop.get(f"/orders/{_ORDER}"))[0] == 404
    assert (await shop.post(f"/orders/{_ORDER}/pay"))[0] == 404
    assert (await shop.get("/healthz"))[0] == 200


async def test_pages_run_nothing_and_load_nothing_from_elsewhere(shop: Shop, http: aiohttp.ClientSession) -> None:
    async with http.get(shop.url + "/") as response:
        policy, html = response.headers["Content-Security-Policy"], await response.text()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in html
    assert all(link.startswith("/") for link in re.findall(r'(?:href|src|action)="([^"]*)"', html))


async def test_sigterm_ends_the_shop_within_two_seconds(
    tmp_path: Path, paynode: Paynode, http: aiohttp.ClientSession
) -> None:
    with _process(tmp_path, paynode) as (process, url, _):
        await Shop(url, http).get("/")
        process.terminate()
        assert await asyncio.to_thread(process.wait, STOP_S) == 0
