"""Publishing events and waiting for what becomes of them.

Redis may lose an event or an outcome; PostgreSQL knows for ever what was applied. So an event is kept here and
published again, as the same bytes, until its outcome was heard: the second time it is recognised, and its outcome told
again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, Self

from paynode.client.errors import EventRefused, NotPublished, OutcomeUnknown
from paynode.client.events import Event, Signer, money_of, payment_of
from paynode.client.outcomes import BLOCK_MS, Listener, Outcome, outcome_of
from paynode.domain.errors import Unavailable
from paynode.domain.publishing import (
    CaptureRequest,
    OutsideType,
    PayoutEnd,
    PayoutOrder,
    RefundRequest,
    WalletMovement,
)
from paynode.domain.road import PARTITIONS_KEY, events_stream
from paynode.streams.client import Redis, client_of, translated
from paynode.streams.outcome_events import Told

# Seconds for a command, and for a connection, of which there are so many.
_COMMAND_S: Final = 2.0
_CONNECTIONS: Final = 8
# One connection for each partition that is listened to; the most partitions there can be.
_LISTENERS: Final = 100
# Seconds until an event of which nothing was heard is published again; doubled up to the second. 5: a worker that was
# killed is replaced sooner, and what is only late is not published twice without need.
_AGAIN_S: Final = 5.0
_AGAIN_MAX_S: Final = 60.0
# Seconds between two tries to put an event on its stream while Redis is away; doubled up to the second.
_RETRY_S: Final = 0.1
_RETRY_MAX_S: Final = 2.0

TIMEOUT_S: Final = 30.0

_COUNT: Final = re.compile(rb"[1-9][0-9]{0,3}")


class _Attempt:
    """How far one call has come, for the error when its time is up."""

    def __init__(self, event: Event) -> None:
        self.event = event
        self.times = 0  # that it was sent, or may have been
        self.trouble = ""  # what Redis last said, if it did not do what it was asked

    def failure(self) -> NotPublished | OutcomeUnknown:
        """What can be said about the event now."""
        last = f" ({self.trouble})" if self.trouble else ""
        if not self.times:
            return NotPublished(self.event.id, f"nothing was published, for Redis did not answer in time{last}")
        return OutcomeUnknown(self.event.id, f"published {self.times} times, and nothing was heard of it in time{last}")


class Publisher:
    """One publisher's connection to paynode; for any number of calls at once, within one event loop.

    `partitions` is asked of Redis when it is not given. Use it by `async with`.

    Raises: InvalidCredentials; on entering, UrlRefused for what is no URL of a Redis.
    """

    def __init__(
        self, redis_url: str, *, name: str, secret: str, partitions: int | None = None, source: str | None = None
    ) -> None:
        self._redis_url = redis_url
        self.signer = Signer(name=name, secret=secret, source=source)
        self._partitions = partitions
        self._listeners: dict[int, Listener] = {}
        self._stack = AsyncExitStack()
        self._commands: Redis | None = None
        self._readers: Redis | None = None

    async def __aenter__(self) -> Self:
        assert self._commands is None, "a Publisher is entered once"
        async with AsyncExitStack() as stack:
            self._commands = await stack.enter_async_context(
                client_of(self._redis_url, size=_CONNECTIONS, timeout_s=_COMMAND_S, connect_s=_COMMAND_S)
            )
            # An earlier time-out than the read's own end would be taken for a failure.
            self._readers = await stack.enter_async_context(
                client_of(
                    self._redis_url, size=_LISTENERS, timeout_s=BLOCK_MS / 1000 + _COMMAND_S, connect_s=_COMMAND_S
                )
            )
            stack.push_async_callback(self._stop_listening)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _stop_listening(self) -> None:
        for listener in self._listeners.values():
            await listener.aclose()

    async def credit(
        self,
        *,
        merchant_id: str,
        amount: int,
        currency: str,
        reason: str,
        reference: str,
        event_id: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Outcome:
        """Add to a merchant's wallet: `amount` in minor units; `reference` is yours, `reason` is for people.

        Raises: EventRefused, NotPublished, OutcomeUnknown.
        """
        data = _movement(amount, currency, reason, reference)
        event = self.signer.sign(OutsideType.WALLET_CREDIT, merchant_id, data, event_id=event_id)
        return await self.settle(event, timeout=timeout)

    async def debit(
        self,
        *,
        merchant_id: str,
        amount: int,
        currency: str,
        reason: str,
        reference: str,
        event_id: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Outcome:
        """Take from a merchant's wallet; refused when there is less in it.

        Raises: EventRefused, NotPublished, OutcomeUnknown.
        """
        data = _movement(amount, currency, reason, reference)
        event = self.signer.sign(OutsideType.WALLET_DEBIT, merchant_id, data, event_id=event_id)
        return await self.settle(event, timeout=timeout)

    async def write_off(
        self,
        *,
        merchant_id: str,
        amount: int,
        currency: str,
        reason: str,
        reference: str,
        event_id: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Outcome:
        """Take a merchant's debt as a loss; refused when the merchant owes less.

        Raises: EventRefused, NotPublished, OutcomeUnknown.
        """
        data = _movement(amount, currency, reason, reference)
        event = self.signer.sign(OutsideType.WALLET_WRITE_OFF, merchant_id, data, event_id=event_id)
        return await self.settle(event, timeout=timeout)

    async def payout(
        self,
        *,
        merchant_id: str,
        amount: int,
        currency: str,
        reference: str,
        event_id: str,
        timeout: float = TIMEOUT_S,
    ) -> Outcome:
        """Begin a payout; `event_id`, a UUIDv7, names it from then on. Refused when less than that may be paid out.

        Raises: EventRefused, NotPublished, OutcomeUnknown.
        """
        data = PayoutOrder(money=money_of(amount, currency), reference=reference)
        event = self.signer.sign(OutsideType.PAYOUT_CREATE, merchant_id, data, event_id=event_id)
        return await self.settle(event, timeout=timeout)

    async def end_payout(
        self,
        *,
        merchant_id: str,
        payout_id: str,
        is_paid: bool,
        reason: str = "",
        event_id: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Outcome:
        """The bank has paid a payout, or could not: then it is available again.

        Raises: EventRefused, NotPublished, OutcomeUnknown.
        """
        kind = OutsideType.PAYOUT_PAID if is_paid else OutsideType.PAYOUT_FAILED
        event = self.signer.sign(kind, merchant_id, PayoutEnd(payout_id=payout_id, reason=reason), event_id=event_id)
        return await self.settle(event, timeout=timeout)

    async def refund_request(
        self,
        *,
        merchant_id: str,
        payment_id: str,
        amount: int | None = None,
        reason: str = "",
        event_id: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Outcome:
        """Ask to give a payment back, or this much of it. Applied means that the refund was begun.

        Raises: EventRefused, NotPublished, OutcomeUnknown.
        """
        data = RefundRequest(payment_id=payment_of(payment_id), amount=amount, reason=reason)
        event = self.signer.sign(OutsideType.REFUND_REQUEST, merchant_id, data, event_id=event_id)
        return await self.settle(event, timeout=timeout)

    async def capture_request(
        self,
        *,
        merchant_id: str,
        payment_id: str,
        amount: int | None = None,
        is_final: bool = False,
        event_id: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Outcome:
        """Ask to capture an authorized payment, or this much of it. Applied means that the capture was begun.

        Raises: EventRefused, NotPublished, OutcomeUnknown.
        """
        data = CaptureRequest(payment_id=payment_of(payment_id), amount=amount, is_final=is_final)
        event = self.signer.sign(OutsideType.CAPTURE_REQUEST, merchant_id, data, event_id=event_id)
        return await self.settle(event, timeout=timeout)

    async def settle(self, event: Event, *, timeout: float = TIMEOUT_S) -> Outcome:
        """Publish a signed event (`Signer`) until its outcome is heard.

        Raises: NotPublished, OutcomeUnknown.
        """
        async with self._within(timeout, event) as attempt:
            partition = event.partition(await self._count_partitions(attempt))
            async with self._listener(partition).hearing(event) as heard:
                pause_s = _AGAIN_S
                while True:
                    await self._put(attempt, partition)
                    told = await _wait(heard, pause_s)
                    if told is not None and told.content_sha256 == event.content_sha256:
                        return outcome_of(told)
                    if told is not None:
                        raise EventRefused("event_id_reused", "another event has had this id")
                    pause_s = min(2 * pause_s, _AGAIN_MAX_S)

    async def send(self, event: Event, *, timeout: float = TIMEOUT_S) -> None:
        """Publish a signed event and do not wait for its outcome. Redis may still lose it: whoever must know, settles.

        Raises: NotPublished, OutcomeUnknown.
        """
        async with self._within(timeout, event) as attempt:
            await self._put(attempt, event.partition(await self._count_partitions(attempt)))

    @asynccontextmanager
    async def _within(self, timeout: float, event: Event) -> AsyncIterator[_Attempt]:
        attempt = _Attempt(event)
        try:
            async with asyncio.timeout(timeout):
                yield attempt
        except TimeoutError as error:
            raise attempt.failure() from error

    async def _count_partitions(self, attempt: _Attempt) -> int:
        pause_s = _RETRY_S
        while self._partitions is None:
            try:
                with translated():
                    said = await self._redis.get(PARTITIONS_KEY)
            except Unavailable as error:
                said, attempt.trouble = None, str(error)
            else:
                attempt.trouble = "" if said else f"{PARTITIONS_KEY} is not set"
            if isinstance(said, bytes) and _COUNT.fullmatch(said):
                self._partitions = int(said)
                break
            # Redis is away, or forgot it: the scheduler says it again.
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _RETRY_MAX_S)
        return self._partitions

    def _listener(self, partition: int) -> Listener:
        assert self._readers is not None, "use a Publisher by `async with`"
        if partition not in self._listeners:
            self._listeners[partition] = Listener(self._readers, self.signer, partition)
        return self._listeners[partition]

    async def _put(self, attempt: _Attempt, partition: int) -> None:
        """Put the event on its stream, until Redis says that it is there. Twice is no harm, not at all would be."""
        pause_s = _RETRY_S
        fields: Any = dict(attempt.event.fields)
        while True:
            attempt.times += 1
            try:
                with translated():
                    await self._redis.xadd(events_stream(partition), fields)
                attempt.trouble = ""
                return
            except Unavailable as error:
                attempt.trouble = str(error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _RETRY_MAX_S)

    @property
    def _redis(self) -> Redis:
        assert self._commands is not None, "use a Publisher by `async with`"
        return self._commands


async def _wait(heard: asyncio.Future[Told], seconds: float) -> Told | None:
    done, _ = await asyncio.wait([heard], timeout=seconds)
    return heard.result() if done else None


def _movement(amount: int, currency: str, reason: str, reference: str) -> WalletMovement:
    return WalletMovement(money=money_of(amount, currency), reason=reason, reference=reference)
