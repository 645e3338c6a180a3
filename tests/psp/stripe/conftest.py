"""localstripe for the session, and an account at it for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.psp.stripe.annex import Annex, annex
from tests.psp.stripe.localstripe import localstripe


@pytest.fixture(scope="session")
def localstripe_url() -> Iterator[str]:
    with localstripe() as url:
        yield url


@pytest.fixture
async def stripe(localstripe_url: str) -> AsyncIterator[Annex]:
    async with annex(localstripe_url) as account:
        yield account
