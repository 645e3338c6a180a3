"""Hearing which payments have changed. What is missed costs a poll, nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator

from paynode.domain.road import CHANGES_CHANNEL, Change
from paynode.streams.client import Redis, translated

# Seconds that one look for a message lasts: below the connection's own time-out, which would end it as a failure.
_LOOK_S = 1.0


async def changes(client: Redis) -> AsyncIterator[Change]:
    """Changes as they are announced, for ever.

    Raises: Unavailable when the subscription breaks.
    """
    async with client.pubsub(ignore_subscribe_messages=True) as subscription:
        with translated():
            await subscription.subscribe(CHANGES_CHANNEL)
        while True:
            with translated():
                message = await subscription.get_message(timeout=_LOOK_S)
            if message is not None and message["type"] == "message":
                for change in parse(message["data"]):
                    yield change


def parse(data: bytes) -> list[Change]:
    """The changes in one announcement; anyone may publish on the channel, so that nonsense is passed over."""
    parsed = []
    for word in data.decode("ascii", "replace").split(" "):
        payment_id, _, version = word.partition(":")
        if version.isascii() and version.isdigit() and len(version) < 19:
            parsed.append(Change(payment_id=payment_id, version=int(version)))
    return parsed
