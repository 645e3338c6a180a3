"""The adapter and a PayU that was written apart from it, on whose page a customer presses a button."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from playwright.async_api import Browser

from paynode.domain.payment import OperationKind
from paynode.domain.psp import Outcome
from tests.psp.contract import Check, checks_for, name_of
from tests.psp.payu.accounts import payu_at
from tests.psp.payu.simulator import Simulated, letterbox, press


@pytest.fixture
async def account(payu_url: str) -> AsyncIterator[Simulated]:
    # It signs with SHA-256, and that is all that is believed here.
    async with letterbox() as box, payu_at(payu_url, notify_url=box.url, is_md5_allowed=False) as adapter:
        yield Simulated(adapter, box)


@pytest.mark.parametrize("check", checks_for(Simulated), ids=name_of)
async def test_the_contract_on_the_simulator(check: Check, account: Simulated) -> None:
    await check(account)


async def test_parts_are_given_back(account: Simulated) -> None:
    order = account.sale()
    said = await account.charged(order)
    for amount in (250, 1000):
        refund = account.about(order, said, OperationKind.REFUND, amount)
        done = await account.send(refund)
        assert (done.outcome, done.amount, done.currency) == (Outcome.APPROVED, amount, "PLN")


@pytest.mark.browser
@pytest.mark.parametrize(
    ("button", "outcome", "reason"),
    [("Approve Payment", Outcome.APPROVED, ""), ("Reject Payment", Outcome.EXPIRED, "canceled")],
)
async def test_what_a_customer_presses_in_a_browser_is_told_and_found(
    account: Simulated, browser: Browser, button: str, outcome: Outcome, reason: str
) -> None:
    order = account.sale()
    opened = await account.send(order)
    assert opened.page_url is not None
    assert await press(browser, opened.page_url, button) == order.return_url
    _, told = await account.told(order, outcome)
    found = await account.find(replace(order, charge_reference=opened.reference))
    assert found is not None
    assert (found.outcome, found.reason) == (told.answer.outcome, told.answer.reason) == (outcome, reason)
