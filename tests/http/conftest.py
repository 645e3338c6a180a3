"""An ingress for each test, on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from paynode import config
from paynode.config import Settings
from paynode.embedded.servers import Running
from tests.http.house import House, running, with_http
from tests.support import database as databases


@pytest.fixture
async def settings(servers: Running, template: str, home: Path) -> AsyncIterator[Settings]:
    url = await databases.clone(servers.database_url, template)
    yield of_tests(url, home)
    await databases.drop(url)


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    async with running(settings) as house:
        yield house


@pytest.fixture(scope="session")
async def untouched(servers: Running, template: str, home: Path) -> AsyncIterator[House]:
    """One ingress for all tests whose requests are refused: nothing of them may be left."""
    url = await databases.clone(servers.database_url, template)
    async with running(of_tests(url, home)) as house:
        yield house
        assert await house.count("payments") == 0
    await databases.drop(url)


def of_tests(url: str, home: Path) -> Settings:
    """Any free port, a public address that no test listens at, and waits that no test has to sit through."""
    patient = {"target_ms": 60_000}  # nobody is refused because the machine is slow
    settings = databases.pointed_at(config.load({"admin": {"port": 0}, "overload": patient}), url, home)
    return with_http(
        settings,
        port=0,
        public_url="https://pay.example",
        hosted_page_wait_s=0.3,
        decision_wait_s=20.0,
        body_deadline_s=0.5,
        wait_poll_ms=50,
    )
