"""The contract of adapters, kept by Stripe's on localstripe; with Stripe's search, and without it what rests on it."""

from __future__ import annotations

from typing import Final

import pytest

from tests.psp import contract
from tests.psp.contract import Check, checks_for, name_of
from tests.psp.stripe.accounts import StripeAccount, stripe_at
from tests.psp.stripe.annex import Annex

_OF_FINDING: Final = (
    contract.a_sale_is_approved_as_asked_and_found_so,
    contract.a_page_is_pending_until_it_is_paid,
    contract.what_was_never_sent_is_not_found,
    contract.a_lost_answer_is_unknown_and_the_inquiry_ends_the_doubt,
)


@pytest.mark.parametrize("check", checks_for(StripeAccount), ids=name_of)
async def test_stripe_keeps_the_contract(check: Check, stripe: Annex) -> None:
    async with stripe_at(stripe.url) as psp:
        await check(StripeAccount(psp, stripe))


@pytest.mark.parametrize("check", _OF_FINDING, ids=name_of)
async def test_stripe_keeps_it_where_it_has_no_search(check: Check, stripe: Annex) -> None:
    async with stripe_at(stripe.url, has_search=False) as psp:
        await check(StripeAccount(psp, stripe))
    assert not any(path.endswith("/search") for _, path, _ in stripe.requests)
