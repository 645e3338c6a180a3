"""A customer buys a lantern: every way through the shop, the checkout and the hosted page, and what is charged."""

from __future__ import annotations

import anyio
import pytest
from playwright.async_api import Page, expect

from tests.browser.customer import PRICE_MINOR, Customer
from tests.browser.faults import faults
from tests.support.installation import Installation, Merchant

pytestmark = pytest.mark.browser

# A finger is this long on the button.
_FINGER_MS = 50

ONCE = [("approved", PRICE_MINOR)]


async def test_a_lantern_is_bought_and_charged_once(customer: Customer) -> None:
    await customer.go_to_pay()
    assert await customer.page.get_by_label("Card number").input_value() == "4242 4242 4242 4242"
    await customer.pay_button.click()
    await customer.is_told("paid")
    assert await customer.charges() == ONCE


async def test_after_a_decline_a_second_try_is_paid(customer: Customer) -> None:
    await customer.go_to_pay()
    await customer.button("Decline").click()
    await customer.is_told("declined")
    assert await customer.charges() == [("declined", PRICE_MINOR)]
    await customer.button("Try again").click()
    await customer.sees("Payment")
    await customer.pay_button.click()
    await customer.is_told("paid")
    assert await customer.charges() == [("declined", PRICE_MINOR), *ONCE]


async def test_whoever_walks_away_finds_the_order_waiting_and_can_go_on_paying(customer: Customer) -> None:
    await customer.go_to_pay()
    hosted = customer.page.url
    await customer.link("Abandon and go back to the shop").click()
    await customer.is_told("waiting")
    assert await customer.charges() == []
    await customer.link("Continue paying").click()
    await customer.sees("Payment")
    assert customer.page.url == hosted, "the page that was left is the page that is found again"
    await customer.pay_button.click()
    await customer.is_told("paid")
    assert await customer.charges() == ONCE


async def test_a_double_click_orders_once_and_pays_once(customer: Customer, installation: Installation) -> None:
    # Slow answers, so that the page is still there for the second click.
    async with faults(installation, latency_ms=500, drop_callback=1.0):
        await customer.enter_the_shop()
        await customer.pay_button.dblclick(delay=_FINGER_MS)
        await customer.sees("Payment")
        await customer.pay_button.dblclick(delay=_FINGER_MS)
        await customer.is_told("paid")
    assert customer.presses("/orders") == 2
    assert customer.presses("/pay") == 2
    assert len(await customer.payments()) == 1
    assert await customer.charges() == ONCE


async def test_paying_in_two_tabs_at_once_pays_once(customer: Customer) -> None:
    await customer.go_to_pay()
    other = await customer.context.new_page()
    await other.goto(customer.page.url)
    async with anyio.create_task_group() as tabs:
        for page in (customer.page, other):
            tabs.start_soon(_press_pay, page)
    await expect(other.get_by_role("status")).to_have_text("paid")
    await customer.is_told("paid")
    assert customer.presses("/pay") == 2
    assert await customer.charges() == ONCE


async def test_going_back_to_a_paid_page_offers_nothing_to_pay(customer: Customer) -> None:
    await customer.go_to_pay()
    await customer.pay_button.click()
    await customer.is_told("paid")
    await customer.page.go_back()
    await customer.sees("This payment has been paid")
    await expect(customer.page.get_by_role("button")).to_have_count(0)
    await customer.link("Back to the shop").click()
    await customer.is_told("paid")
    assert await customer.charges() == ONCE


async def test_whoever_comes_before_the_page_exists_waits_for_it(
    customer: Customer, installation: Installation, merchant: Merchant
) -> None:
    async with faults(installation, latency_ms=1200):
        method = {"type": "hosted_page", "return_url": f"{customer.shop_url}/"}
        reply = await installation.pay(merchant, "early", amount=PRICE_MINOR, method=method, prefer="respond-async")
        assert (reply.status, reply.json["status"]) == (202, "created")
        await customer.page.goto(reply.json["checkout_url"])
        await customer.sees("Opening the payment page")
        await expect(customer.page.get_by_role("status")).to_contain_text("It opens by itself")
        await customer.sees("Payment")
    await customer.pay_button.click()
    await customer.sees("Paper lantern")
    assert "status=captured" in customer.page.url


async def test_the_customer_is_told_paid_although_the_callback_was_lost(
    customer: Customer, installation: Installation
) -> None:
    async with faults(installation, drop_callback=1.0):
        await customer.go_to_pay()
        await customer.pay_button.click()
        await customer.is_told("paid")
    assert await customer.charges() == ONCE


async def _press_pay(page: Page) -> None:
    await page.get_by_role("button", name="Pay").click()
