"""The contract of all adapters, on PayU as its documentation tells it."""

from __future__ import annotations

import pytest

from tests.psp.contract import Check, checks_for, name_of
from tests.psp.payu.accounts import Authorizations, Sales, payu_at
from tests.psp.payu.twin import twin


@pytest.mark.parametrize("check", checks_for(Sales), ids=name_of)
async def test_the_contract_for_sales(check: Check) -> None:
    async with twin() as payu, payu_at(payu.url) as adapter:
        await check(Sales(payu, adapter))


@pytest.mark.parametrize("check", checks_for(Authorizations), ids=name_of)
async def test_the_contract_for_authorizations(check: Check) -> None:
    async with twin(is_auto_receive=False) as payu, payu_at(payu.url, is_auto_receive=False) as adapter:
        await check(Authorizations(payu, adapter))
