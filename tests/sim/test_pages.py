"""The hosted payment page, driven by a plain HTTP client."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import aiohttp
import pytest

from tests.sim.running import Receiver, Simulator, running
from tests.support.waiting import wait_until

_BACK = "http://shop.invalid/back?order=1"


async def test_paying_charges_once_closes_the_page_and_sends_the_customer_back(
    sim: Simulator, receiver: Receiver
) -> None:
    page = await sim.open_page("op-1", amount=123456)

    assert await sim.press(page, "pay") == (303, _BACK)

    [line] = await sim.book()
    assert (line["op"], line["result"], line["amount"]) == ("session_charge", "approved", 123456)
    charge, session = await sim.operations("op-1")
    assert (charge["object"], charge["status"], charge["id"]) == ("charge", "approved", line["psp_reference"])
    assert (session["object"], session["status"], session["url"]) == ("session", "approved", page)
    status, html = await sim.show(page)
    assert status == 200
    assert "This payment has been paid" in html
    assert 'id="pay"' not in html
    await wait_until(lambda: len(receiver.seen) == 1, "the callback came")
    assert receiver.seen[0].event["data"] == charge


async def test_twenty_presses_at_once_charge_once(sim: Simulator) -> None:
    page = await sim.open_page("op-1")
    presses = await asyncio.gather(*(sim.press(page, "pay") for _ in range(20)))
    assert set(presses) == {(303, _BACK)}
    assert len(await sim.book()) == 1


async def test_paying_and_declining_at_once_end_in_one_of_both(sim: Simulator) -> None:
    page = await sim.open_page("op-1")
    await asyncio.gather(*(sim.press(page, button) for button in ("pay", "decline") * 5))
    [line] = await sim.book()
    _, session = await sim.operations("op-1")
    assert session["status"] == line["result"]


async def test_declining_is_booked_called_back_and_final(sim: Simulator, receiver: Receiver) -> None:
    page = await sim.open_page("op-1")
    assert await sim.press(page, "decline") == (303, _BACK)
    assert await sim.press(page, "pay") == (303, _BACK)
    [line] = await sim.book()
    assert line["result"] == "declined"
    assert "This payment was declined" in (await sim.show(page))[1]
    await wait_until(lambda: len(receiver.seen) == 1, "the callback came")
    assert receiver.seen[0].event["type"] == "charge.declined"


async def test_abandoning_charges_nothing_and_leaves_the_page_open(sim: Simulator) -> None:
    page = await sim.open_page("op-1")
    async with sim.http.get(f"{page}/abandon", allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (303, _BACK)
    assert await sim.book() == []
    assert 'id="pay"' in (await sim.show(page))[1]


async def test_an_expired_page_says_so_charges_nothing_and_is_called_back(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, receiver.url, PAYNODE_SIM__SESSION_TTL_S="0.05") as sim:
        page = await sim.open_page("op-1")
        await wait_until(lambda: len(receiver.seen) == 1, "the expiry was called back")
        assert receiver.seen[0].event["type"] == "session.expired"
        assert receiver.seen[0].event["data"]["status"] == "expired"
        status, html = await sim.show(page)
        assert (status, "This payment page has expired" in html) == (410, True)
        status, location = await sim.press(page, "pay")
        assert (status, page.endswith(location)) == (303, True)
        assert await sim.book() == []
        assert [item["status"] for item in await sim.operations("op-1")] == ["expired"]


async def test_the_amount_is_shown_with_the_digits_of_its_currency(sim: Simulator) -> None:
    for amount, currency, text in [
        (123456, "EUR", "1,234.56 EUR"),
        (5, "EUR", "0.05 EUR"),
        (1234, "JPY", "1,234 JPY"),
        (1234, "KWD", "1.234 KWD"),
    ]:
        _, html = await sim.show(await sim.open_page(f"op-{amount}-{currency}", amount, currency))
        assert f'id="amount">{text}<' in html


async def test_the_page_runs_nothing_loads_nothing_from_elsewhere_and_escapes_what_it_is_given(sim: Simulator) -> None:
    page = await sim.open_page("op-1", description="<script>alert(1)</script>")
    async with sim.http.get(page) as response:
        html = await response.text()
        policy = response.headers["Content-Security-Policy"]
        assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert all(link.startswith("/pay/") for link in re.findall(r'(?:href|src|action)="([^"]*)"', html))
    async with sim.http.get(f"{sim.url}/pay/assets/pay.css") as response:
        assert response.content_type == "text/css"


async def test_a_page_that_nobody_opened_does_not_exist(sim: Simulator) -> None:
    assert (await sim.show(f"{sim.url}/pay/cs_guessed"))[0] == 404
    assert (await sim.press(f"{sim.url}/pay/cs_guessed", "pay"))[0] == 404


async def test_scripted_amounts_lose_the_first_press_and_charge_once(sim: Simulator) -> None:
    for amount, loss, lines_after_the_loss in [
        (4_000_004, 503, 0),
        (4_000_005, 500, 1),
        (4_000_006, None, 0),
        (4_000_007, None, 1),
    ]:
        reference = f"op-{amount}"
        page = await sim.open_page(reference, amount)
        if loss is None:
            with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
                await sim.press(page, "pay")
        else:
            assert (await sim.press(page, "pay"))[0] == loss
        assert len(await sim.book(reference)) == lines_after_the_loss
        assert await sim.press(page, "pay") == (303, _BACK)
        assert len(await sim.book(reference)) == 1


async def test_scripted_amounts_decline_or_charge_too_much(sim: Simulator) -> None:
    for amount, result, charged in [
        (4_000_001, "declined", 4_000_001),
        (4_000_002, "declined", 4_000_002),
        (4_000_010, "approved", 4_000_011),
    ]:
        await sim.press(await sim.open_page(f"op-{amount}", amount), "pay")
        [line] = await sim.book(f"op-{amount}")
        assert (line["result"], line["amount"]) == (result, charged)


async def test_the_same_key_opens_one_page(sim: Simulator) -> None:
    pages = await asyncio.gather(*(sim.open_page("op-1") for _ in range(10)))
    assert len(set(pages)) == 1
    await sim.press(pages[0], "pay")
    assert await sim.open_page("op-1") == pages[0], "a repetition gets the first answer, paid or not"
