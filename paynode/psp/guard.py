"""A PSP behind its guards: every adapter is used through this, never bare.

The deadline is the adapter's own (it alone knows what has left by then), the number of calls at once is the number of
hands that the dispatcher has, and the breaker is here. A call that the breaker refuses was not sent, and that is
proof: it was refused before there was a connection.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from paynode.domain.payment import ChargeOrder, Method
from paynode.domain.psp import Answer, Outcome, PspRequest
from paynode.psp.breaker import Breaker, State

_SEND: Final = "sale"
_FIND: Final = "inquiry"

# What a row can hold and its reader takes: characters of a text, and an integer of 64 bits.
_TEXT_MAX: Final = 8192
_INTEGER_MAX: Final = 2**63 - 1
_NOT_TEXT: Final = re.compile(r"[\x00\ud800-\udfff]")


class Adapter(Protocol):
    """What an adapter does. Its calls never raise: every error is an Answer."""

    @property
    def idempotent_for_s(self) -> float: ...
    def prepare_charge(
        self, *, operation_id: str, amount: int, currency: str, token: str, description: str
    ) -> PspRequest: ...
    def prepare_session(
        self, *, operation_id: str, amount: int, currency: str, return_url: str, description: str
    ) -> PspRequest: ...
    async def send(self, request: PspRequest, *, send_by: float, deadline: float) -> Answer: ...
    async def find(self, our_reference: str, *, deadline: float) -> Answer | None: ...


class CallObserver(Protocol):
    """Hears of calls and breakers."""

    def calling(self, psp: str, change: int) -> None: ...
    def called(self, psp: str, operation: str, answer: Answer | None, seconds: float) -> None: ...
    def breaker_is(self, psp: str, operation: str, state: State) -> None: ...


class GuardedPsp:
    """An adapter with a breaker for each kind of operation."""

    def __init__(
        self,
        name: str,
        adapter: Adapter,
        observer: CallObserver,
        *,
        new_breaker: Callable[[], Breaker],
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._adapter = adapter
        self._observer = observer
        self._clock = clock
        self._breakers = {_SEND: new_breaker(), _FIND: new_breaker()}
        self._in_flight = 0

    @property
    def idempotent_for_ms(self) -> int:
        """Milliseconds within which the PSP recognises a key."""
        return int(self._adapter.idempotent_for_s * 1000)

    @property
    def name(self) -> str:
        """Which PSP it is."""
        return self._name

    @property
    def breakers(self) -> Mapping[str, str]:
        """The state of each breaker by the kind of operation."""
        return {operation: breaker.state.value for operation, breaker in self._breakers.items()}

    @property
    def in_flight(self) -> int:
        """How many calls are under way."""
        return self._in_flight

    def prepare(self, order: ChargeOrder) -> PspRequest:
        """The bytes of a sale: a charge on a token, or the opening of a page."""
        if order.method is Method.TOKEN:
            assert order.token is not None, "checked where the order is read"
            return self._adapter.prepare_charge(
                operation_id=order.operation_id,
                amount=order.money.amount,
                currency=order.money.currency,
                token=order.token,
                description=order.description,
            )
        assert order.return_url is not None, "checked where the order is read"
        return self._adapter.prepare_session(
            operation_id=order.operation_id,
            amount=order.money.amount,
            currency=order.money.currency,
            return_url=order.return_url,
            description=order.description,
        )

    async def send(self, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        """Send the bytes unless the breaker refuses: then they were not sent."""
        answer = await self._guarded(
            _SEND,
            lambda: self._adapter.send(request, send_by=send_by, deadline=deadline),
            refused=Answer(outcome=Outcome.NOT_SENT, reason="breaker_open"),
        )
        assert answer is not None, "only an inquiry finds nothing"
        return answer

    async def find(self, our_reference: str, *, deadline: float) -> Answer | None:
        """Ask unless the breaker refuses: then nothing is known."""
        return await self._guarded(
            _FIND,
            lambda: self._adapter.find(our_reference, deadline=deadline),
            refused=Answer(outcome=Outcome.UNKNOWN, reason="breaker_open"),
        )

    async def _guarded(
        self, operation: str, call: Callable[[], Awaitable[Answer | None]], *, refused: Answer
    ) -> Answer | None:
        breaker = self._breakers[operation]
        permit = breaker.enter()
        if permit is None:
            return refused
        begun = self._clock()
        self._calling(1)
        try:
            answer = _storable(await call())
            permit.report(has_failed=answer is not None and answer.is_psp_failure)
        finally:
            permit.give_back()
            self._calling(-1)
        self._observer.called(self._name, operation, answer, self._clock() - begun)
        self._observer.breaker_is(self._name, operation, breaker.state)
        return answer

    def _calling(self, change: int) -> None:
        self._in_flight += change
        self._observer.calling(self._name, change)


def _storable(answer: Answer | None) -> Answer | None:
    """An answer that no row could hold was not understood: no adapter's carelessness may stop the gateway."""
    if answer is None:
        return None
    texts = (answer.reference, answer.currency, answer.page_url, answer.reason)
    numbers = (answer.amount, answer.psp_at_ms)
    is_storable = all(
        text is None or (len(text) <= _TEXT_MAX and not _NOT_TEXT.search(text)) for text in texts
    ) and all(number is None or abs(number) <= _INTEGER_MAX for number in numbers)
    return answer if is_storable else Answer(outcome=Outcome.UNKNOWN, reason="answer_invalid", is_psp_failure=True)
