"""A PSP's actor: claim -> call -> conclude, for at most so many operations at once.

What protects money here is the order of things. The attempt is committed before the first byte leaves; only its
holder may say that nothing was sent; the outcome, the evidence and the end of the command are one transaction.
Whatever breaks in between leaves an open attempt, and an open attempt ends as `unknown`, never as `not_sent`.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Final, Protocol

from paynode.actors.screening import UNSCREENED
from paynode.domain.attempts import Attempt, Claim, Conclusion, GatewayCommand, Postponed, Turn
from paynode.domain.deciding import CommandKind
from paynode.domain.payment import PspOrder, Source
from paynode.domain.psp import Answer, Capabilities, Outcome, PspRequest
from paynode.domain.road import Pointer
from paynode.domain.screening import REJECTED_REASON, Screened, Verdict

# Nothing more is to come of these but news.
_FINAL: Final = (Outcome.APPROVED, Outcome.DECLINED, Outcome.EXPIRED, Outcome.REVERSED)

_NOT_FOUND: Final = Answer(outcome=Outcome.UNKNOWN, reason="not_found")
_ABSENT: Final = replace(_NOT_FOUND, outcome=Outcome.ABSENT)


class Psp(Protocol):
    """A PSP behind its guards. Nothing here raises: every error is an Answer. Whoever calls it has waited for its turn.

    `send_by` and `deadline` are instants of `time.monotonic()`. Who asks may be told to wait after all: a Turn.
    """

    @property
    def capabilities(self) -> Capabilities: ...
    def prepare(self, order: PspOrder) -> PspRequest: ...
    def turn_to_send(
        self, order: PspOrder, *, is_retry: bool, is_urgent: bool
    ) -> AbstractAsyncContextManager[Turn]: ...
    def turn_to_ask(self) -> AbstractAsyncContextManager[Turn]: ...
    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer: ...
    async def find(self, order: PspOrder, *, deadline: float) -> Answer | Turn | None: ...


class Attempts(Protocol):
    """What the gateway writes. Raises: Unavailable; `conclude` also Poison (what is to be stored cannot be)."""

    async def claim(self, claims: Sequence[Claim]) -> Sequence[bool]: ...
    async def find(self, operation_id: str) -> Attempt | None: ...
    async def claim_resend(self, attempt_id: str, *, idempotent_for_s: float) -> bool: ...
    async def conclude(self, conclusions: Sequence[Conclusion]) -> Sequence[Pointer]: ...


class Claims(Protocol):
    """Claims of several operations in one transaction."""

    async def submit(self, claim: Claim, /) -> bool: ...


class Screening(Protocol):
    """Whether a charge may be sent; the same verdict every time. Raises: Unavailable, Conflict."""

    async def screen(self, order: PspOrder) -> Screened: ...


class PspActor:
    """Performs one command at a time; the gateway runs as many as the PSP is allowed calls."""

    def __init__(
        self,
        psp: Psp,
        attempts: Attempts,
        claims: Claims,
        *,
        new_id: Callable[[], str],
        send_within_s: float,
        call_deadline_s: float,
        now_ms: Callable[[], int],
        is_urgent: bool = False,
        screening: Screening = UNSCREENED,
        pending_inquiry_s: float = 600.0,
        chance: Callable[[], float] = random.random,
        resting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._psp = psp
        self._screening = screening
        self._attempts = attempts
        self._claims = claims
        self._new_id = new_id
        self._send_within_s = send_within_s
        self._call_deadline_s = call_deadline_s
        self._now_ms = now_ms
        self._is_urgent = is_urgent
        self._pending_inquiry_s = pending_inquiry_s
        self._chance = chance
        self._resting = resting

    async def perform(self, command: GatewayCommand) -> Conclusion | Postponed | None:
        """Do what the command asks; None when another process is at it and its deadline must be waited for.

        Raises: Unavailable; then the command is left where it is.
        """
        match command.kind:
            case CommandKind.SUBMIT:
                return await self._submit(command)
            case CommandKind.INQUIRE:
                return await self._inquire(command)

    # -- sending --------------------------------------------------------------------------------------------------

    async def _submit(self, command: GatewayCommand) -> Conclusion | Postponed | None:
        screened = await self._screening.screen(command.order)
        if not screened.lets_pass:
            return await self._not_claimed(command, screened)
        if self._left_ms(command.order) <= 0:
            return await self._claim_and_send(command, screened, refusal="payment_deadline")
        # Waited for before the claim: its time to send by is for sending, and a wait that is cut off leaves no attempt.
        turn_to_send = self._psp.turn_to_send(command.order, is_retry=command.tries > 0, is_urgent=self._is_urgent)
        async with turn_to_send as turn:
            if turn.pause_s is not None:
                return self._postponed(command, turn.pause_s)
            return await self._claim_and_send(command, screened, refusal=turn.refusal)

    async def _claim_and_send(self, command: GatewayCommand, screened: Screened, *, refusal: str) -> Conclusion | None:
        """A refusal too is said by the claim's holder alone: without it, another may be sending at this moment."""
        attempt_id = self._new_id()
        request = self._psp.prepare(command.order)
        # Counted from before the claim: the database's clock starts later, so we give up first.
        send_by, deadline = self._instants(command.order)
        if not await self._claims.submit(Claim(attempt_id=attempt_id, command=command, request=request)):
            return await self._not_claimed(command, screened)
        if refusal:
            answer = Answer(outcome=Outcome.NOT_SENT, reason=refusal)
        else:
            with self._resting():
                answer = await self._psp.send(command.order, request, send_by=send_by, deadline=deadline)
        if answer.fraud_check != screened.fraud_check:
            answer = replace(answer, fraud_check=screened.fraud_check)
        return self._conclusion(command, attempt_id, answer)

    async def _not_claimed(self, command: GatewayCommand, screened: Screened) -> Conclusion | None:
        """Somebody else has claimed it, or the fraud check does not let it pass, or nothing is to be done any more."""
        attempt = await self._attempts.find(command.order.operation_id)
        if attempt is None and not screened.lets_pass:
            return self._conclusion(command, answer=_not_let_pass(screened))
        if attempt is None or attempt.outcome is not None:
            return self._conclusion(command)  # concluded meanwhile: the command has nothing more to say
        if not attempt.is_past_deadline:
            return None
        # Its holder is gone. It may have sent: nobody but the PSP can say.
        lost = Answer(outcome=Outcome.UNKNOWN, reason="gateway_lost", fraud_check=screened.fraud_check)
        return self._conclusion(command, attempt.id, lost)

    # -- inquiring ------------------------------------------------------------------------------------------------

    async def _inquire(self, command: GatewayCommand) -> Conclusion | Postponed | None:
        attempt = await self._attempts.find(command.order.operation_id)
        if attempt is None:
            return self._conclusion(command)  # nothing was ever sent
        is_elsewhere = attempt.psp != command.order.psp
        if attempt.outcome is None and not is_elsewhere:
            return self._conclusion(command) if not attempt.is_past_deadline else None
        async with self._psp.turn_to_ask() as turn:
            if turn.pause_s is not None:
                return self._postponed(command, turn.pause_s)
            return await (self._ask_elsewhere(command) if is_elsewhere else self._ask(command, attempt))

    async def _ask_elsewhere(self, command: GatewayCommand) -> Conclusion | Postponed:
        """Another PSP has it. This one is asked because it spoke of money that nobody vouches for: of that it may tell.

        Under the command's own id, which is that of the callback: whoever reads the evidence finds there who told it.
        """
        _, deadline = self._instants(command.order)
        answer = await self._psp.find(command.order, deadline=deadline)
        if isinstance(answer, Turn) or (answer is not None and answer.outcome is Outcome.UNKNOWN):
            return self._postponed(command, self._pending_inquiry_s)
        if answer is None or answer.outcome not in (Outcome.APPROVED, Outcome.REVERSED):
            return self._conclusion(command)
        return replace(self._conclusion(command, None, answer, Source.INQUIRY), evidence_id=command.ref)

    async def _ask(self, command: GatewayCommand, attempt: Attempt) -> Conclusion | Postponed | None:
        _, deadline = self._instants(command.order)
        # Of a charge the PSP may know its own name only, which it told when it was sent.
        order = replace(command.order, charge_reference=command.order.charge_reference or attempt.reference)
        answer = await self._psp.find(order, deadline=deadline)
        if isinstance(answer, Turn):
            # What our own guards refuse says nothing about the operation.
            return self._postponed(command, self._pending_inquiry_s if answer.pause_s is None else answer.pause_s)
        if attempt.outcome is not Outcome.UNKNOWN:
            return self._told(command, attempt, answer)
        if answer is None:
            answer = await self._not_found(command.order, attempt)
        return None if answer is None else self._conclusion(command, attempt.id, answer, Source.INQUIRY)

    def _told(self, command: GatewayCommand, attempt: Attempt, answer: Answer | None) -> Conclusion | Postponed:
        """What an answer means to an attempt that is not in doubt: only news counts.

        Without news the command of an open page stays: with it would go the question, and nobody would put it again.
        """
        if answer is not None and answer.outcome is not Outcome.UNKNOWN:
            return self._conclusion(command, attempt.id, answer, Source.INQUIRY)
        if attempt.outcome in _FINAL:
            return self._conclusion(command, attempt.id, None, Source.INQUIRY)  # a customer came back
        if attempt.outcome is Outcome.ABSENT:
            # Told again, so that whoever still waits for it (its page was known to be open) decides whether to ask on.
            return self._conclusion(command, attempt.id, _ABSENT, Source.INQUIRY)
        return self._postponed(command, self._pending_inquiry_s * (0.8 + 0.4 * self._chance()))

    async def _not_found(self, order: PspOrder, attempt: Attempt) -> Answer | None:
        """The PSP never saw it: the stored bytes once more, with the same key, while it recognises that key.

        "Never saw it" may become untrue a moment later, which is why another key or another PSP is out of the
        question. Where the bytes may not be sent again, "not found" counts once whatever was under way has settled.
        None when another process is sending them.
        """
        can = self._psp.capabilities
        if attempt.age_ms < can.idempotent_for_s * 1000 and self._left_ms(order) > 0:
            return await self._send_again(order, attempt)
        # Read again: while the PSP was asked, somebody may have begun to send.
        now = await self._attempts.find(order.operation_id)
        if now is None or now.outcome is not Outcome.UNKNOWN or now.sent_ms < attempt.sent_ms:
            return None
        has_settled = now.is_past_deadline and now.sent_ms >= can.settle_s * 1000
        return _ABSENT if has_settled else _NOT_FOUND

    async def _send_again(self, order: PspOrder, attempt: Attempt) -> Answer | None:
        """None when another process may be at it. To conclude "not found" now would end the command under its feet: its
        answer would be thrown away, and a third could begin to send. An answer that is not definite leaves the doubt
        as it was.
        """
        send_by, deadline = self._instants(order)
        idempotent_for_s = self._psp.capabilities.idempotent_for_s
        if not await self._attempts.claim_resend(attempt.id, idempotent_for_s=idempotent_for_s):
            now = await self._attempts.find(order.operation_id)
            is_left = now is not None and now.outcome is Outcome.UNKNOWN and now.is_past_deadline
            # Past its deadline nobody is at it: it may not be sent any more, and the doubt is as it was.
            return _NOT_FOUND if is_left else None
        answer = await self._psp.send(order, attempt.request, send_by=send_by, deadline=deadline)
        if answer.outcome is Outcome.NOT_SENT:
            return Answer(outcome=Outcome.UNKNOWN, reason=f"not_sent_again: {answer.reason}")
        return answer

    # -- ending ---------------------------------------------------------------------------------------------------

    def _left_ms(self, order: PspOrder) -> float:
        """Milliseconds until nothing may be sent any more for the payment."""
        return math.inf if order.give_up_at_ms is None else order.give_up_at_ms - self._now_ms()

    def _postponed(self, command: GatewayCommand, pause_s: float) -> Postponed:
        # At the payment's deadline it is asked for at the latest: that nothing was sent is worth knowing then.
        left_s = self._left_ms(command.order) / 1000
        return Postponed(command=command, pause_s=min(pause_s, left_s) if left_s > 0 else pause_s)

    def _instants(self, order: PspOrder) -> tuple[float, float]:
        """Until when it may leave, which is never after its payment is given up, and until when it may be answered."""
        now = time.monotonic()
        send_within_s = min(self._send_within_s, self._left_ms(order) / 1000)
        return now + send_within_s, now + self._send_within_s + self._call_deadline_s

    def _conclusion(
        self,
        command: GatewayCommand,
        attempt_id: str | None = None,
        answer: Answer | None = None,
        source: Source = Source.ANSWER,
    ) -> Conclusion:
        return Conclusion(
            command=command, attempt_id=attempt_id, answer=answer, source=source, evidence_id=self._new_id()
        )


def _not_let_pass(screened: Screened) -> Answer:
    """The end of a charge that is never sent, or the pause of one that is not sent yet."""
    if screened.verdict is Verdict.REJECTED:
        return Answer(outcome=Outcome.DECLINED, reason=REJECTED_REASON, fraud_check=screened.fraud_check)
    return Answer(outcome=Outcome.HELD, reason=screened.reason, fraud_check=screened.fraud_check)
