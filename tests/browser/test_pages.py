"""Every page that a customer may see can be read, reached and used."""

from __future__ import annotations

import pytest
from playwright.async_api import Locator, expect

from tests.browser.customer import Customer
from tests.browser.usable import check_is_usable
from tests.support.installation import Installation

pytestmark = pytest.mark.browser


async def test_every_page_is_usable_on_a_phone_360_px_wide(customer_on_phone: Customer) -> None:
    customer = customer_on_phone
    await customer.enter_the_shop()
    await check_is_usable(customer.page)
    await customer.pay_button.tap()
    await customer.sees("Payment")
    await check_is_usable(customer.page)
    await customer.link("Abandon and go back to the shop").tap()
    await customer.is_told("waiting")
    await check_is_usable(customer.page)
    await customer.link("Continue paying").tap()
    await customer.button("Decline").tap()
    await customer.is_told("declined")
    await check_is_usable(customer.page)
    await customer.button("Try again").tap()
    await customer.pay_button.tap()
    await customer.is_told("paid")
    await check_is_usable(customer.page)
    await customer.page.go_back()
    await customer.sees("This payment has been paid")
    await check_is_usable(customer.page)


async def test_a_wrong_address_says_so(customer_on_phone: Customer, installation: Installation) -> None:
    customer = customer_on_phone
    async with customer.page.expect_console_message() as complaint:
        await customer.page.goto(f"{installation.settings.http.base_url}/checkout/pay_nobody")
    await customer.sees("Payment not found")
    await check_is_usable(customer.page)
    assert "404" in (await complaint.value).text
    customer.complaints.clear()  # the browser's own word about the status


async def test_a_keyboard_alone_buys(customer: Customer) -> None:
    await customer.enter_the_shop()
    await _tab_to(customer, customer.link("Lantern & Co."))
    await _tab_to(customer, customer.pay_button)
    await customer.page.keyboard.press("Enter")
    await customer.sees("Payment")
    for label in ("Card number", "Expiry", "Security code"):
        await _tab_to(customer, customer.page.get_by_label(label, exact=True))
    await _tab_to(customer, customer.pay_button)
    await customer.page.keyboard.press("Enter")
    await customer.is_told("paid")


async def _tab_to(customer: Customer, target: Locator) -> None:
    """One press of Tab leads there, and it shows."""
    await customer.page.keyboard.press("Tab")
    await expect(target).to_be_focused()
    assert await target.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
