"""A simulator that misbehaves for a while."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.support.installation import Installation


@asynccontextmanager
async def faults(installation: Installation, **rates: float) -> AsyncIterator[None]:
    """With these rates inside, and none afterwards."""
    url = installation.settings.psp["sim"].url + "/faults"
    reply = await installation.send("POST", url, json=rates)
    assert reply.status == 200, reply.raw
    try:
        yield
    finally:
        await installation.send("POST", url, json={})
