"""A PSP's actor: claim -> call -> conclude, for at most so many operations at once.

What protects money here is the order of things. The attempt is committed before the first byte leaves; only its
holder may say that nothing was sent; the outcome, the evidence and the end of the command are one transaction.
Whatever breaks in between leaves an open attempt, and an open attempt ends as `unknown`, never as `not_sent`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from paynode.domain.attempts import Attempt, Claim, Conclusion, GatewayCommand
from paynode.domain.deciding import CommandKind
from paynode.domain.payment import ChargeOrder, Source
from paynode.domain.psp import Answer, Outcome, PspRequest
from paynode.domain.road import Pointer


class Psp(Protocol):
    """A PSP behind its guards. Nothing here raises: every error is an Answer.

    `send_by` and `deadline` are instants of `time.monotonic()`.
    """

    def prepare(self, order: ChargeOrder) -> PspRequest: ...
    async def send(self, request: PspRequest, *, send_by: float, deadline: float) -> Answer: ...
    async def find(self, our_reference: str, *, deadline: float) -> Answer | None: ...
    @property
    def idempotent_for_ms(self) -> int: ...


class Attempts(Protocol):
    """What the gateway writes. Raises: Unavailable; `conclude` also Poison (what is to be stored cannot be)."""

    async def claim(self, claims: Sequence[Claim]) -> Sequence[bool]: ...
    async def find(self, operation_id: str) -> Attempt | None: ...
    async def claim_resend(self, attempt_id: str) -> bool: ...
    async def conclude(self, conclusions: Sequence[Conclusion]) -> Sequence[Pointer]: ...


class Claims(Protocol):
    """Claims of several operations in one transaction."""

    async def submit(self, claim: Claim, /) -> bool: ...


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
    ) -> None:
        self._psp = psp
        self._attempts = attempts
        self._claims = claims
        self._new_id = new_id
        self._send_within_s = send_within_s
        self._call_deadline_s = call_deadline_s

    async def perform(self, command: GatewayCommand) -> Conclusion | None:
        """Do what the command asks; None when another process is at it and its deadline must be waited for.

        Raises: Unavailable; then the command is left where it is.
        """
        match command.kind:
            case CommandKind.SUBMIT:
                return await self._submit(command)
            case CommandKind.INQUIRE:
                return await self._inquire(command)

    async def _submit(self, command: GatewayCommand) -> Conclusion | None:
        attempt_id = self._new_id()
        request = self._psp.prepare(command.order)
        # Counted from before the claim: the database's clock starts later, so we give up first.
        send_by, deadline = self._instants()
        if await self._claims.submit(Claim(attempt_id=attempt_id, command=command, request=request)):
            answer = await self._psp.send(request, send_by=send_by, deadline=deadline)
            return self._conclusion(command, attempt_id, answer)
        attempt = await self._attempts.find(command.order.operation_id)
        if attempt is None or attempt.outcome is not None:
            return self._conclusion(command)  # concluded meanwhile: the command has nothing more to say
        if not attempt.is_past_deadline:
            return None
        # Its holder is gone. It may have sent: nobody but the PSP can say.
        lost = Answer(outcome=Outcome.UNKNOWN, reason="gateway_lost")
        return self._conclusion(command, attempt.id, lost)

    async def _inquire(self, command: GatewayCommand) -> Conclusion | None:
        attempt = await self._attempts.find(command.order.operation_id)
        if attempt is None:
            return self._conclusion(command)  # nothing was ever sent
        if attempt.outcome is None:
            return self._conclusion(command) if not attempt.is_past_deadline else None
        _, deadline = self._instants()
        answer = await self._psp.find(command.order.operation_id, deadline=deadline)
        if attempt.outcome is not Outcome.UNKNOWN:
            # Somebody asked although nothing is in doubt (a customer came back): only news counts.
            is_news = answer is not None and answer.outcome is not Outcome.UNKNOWN
            return self._conclusion(command, attempt.id, answer if is_news else None, Source.INQUIRY)
        if answer is None:
            answer = await self._send_again(attempt)
        return None if answer is None else self._conclusion(command, attempt.id, answer, Source.INQUIRY)

    async def _send_again(self, attempt: Attempt) -> Answer | None:
        """The PSP never saw it: the stored bytes once more, with the same key, while it recognises that key.

        None when another process is sending them. To conclude "not found" now would end the command under its feet:
        its answer would be thrown away, and a third could begin to send.

        "Never saw it" may become untrue a moment later, which is why another key or another PSP is out of the
        question, and why an answer that is not definite leaves the doubt as it was.
        """
        if attempt.age_ms >= self._psp.idempotent_for_ms:
            return Answer(outcome=Outcome.UNKNOWN, reason="not_found")
        send_by, deadline = self._instants()
        if not await self._attempts.claim_resend(attempt.id):
            return None
        answer = await self._psp.send(attempt.request, send_by=send_by, deadline=deadline)
        if answer.outcome is Outcome.NOT_SENT:
            return Answer(outcome=Outcome.UNKNOWN, reason=f"not_sent_again: {answer.reason}")
        return answer

    def _instants(self) -> tuple[float, float]:
        now = time.monotonic()
        return now + self._send_within_s, now + self._send_within_s + self._call_deadline_s

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
