"""A migrated database for each test, with a directory of its own for what stands outside of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from paynode.config import Settings
from paynode.storage.postgres import Role, Session, session
from tests.storage import world
from tests.storage.world import Shop


@pytest.fixture
def books(settings: Settings, tmp_path: Path) -> Settings:
    """Settings whose anchors and key are the test's alone."""
    outside = {"anchor_dir": str(tmp_path / "anchors"), "signing_key": str(tmp_path / "key.pem"), "make_key": True}
    return settings.model_copy(update={"ledger": settings.ledger.model_copy(update=outside)})


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Session]:
    """A session of the schema's owner, who can do everything."""
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


@pytest.fixture
async def shop(owner: Session) -> Shop:
    """Six captures with their fees, twelve entries; between a shop that came before and one that came after."""
    before, shop, after = [await world.open_shop(owner) for _ in range(3)]
    for _ in range(6):
        for one in (before, shop, after):
            await world.capture(owner, one)
    return shop
