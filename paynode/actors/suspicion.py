"""Commands that nothing can be done with, and those over which processes die: kept aside, and nobody else waits.

How often a delivery was made says little: after some deaths all that were in hand together stand at the same number.
So whatever was delivered often is only under suspicion. It is tried alone, each try counted before it begins, and
uncounted when it is over; only what was counted too often has had somebody die over it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from paynode.domain.attempts import Attempt, Conclusion, GatewayCommand, Suspect
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import Transient
from paynode.domain.message import DeadLetter, Unreadable
from paynode.domain.payment import Source
from paynode.domain.psp import Answer, Outcome
from paynode.domain.road import Entry


@dataclass(frozen=True, slots=True)
class Delivery:
    """A command with the entry by which it came."""

    entry: Entry
    command: GatewayCommand


class Kept(Protocol):
    """What is kept about bad commands. Raises: Unavailable."""

    async def bury(self, letters: Sequence[DeadLetter]) -> frozenset[str]: ...
    async def count(self, stream: str, ref: str) -> Suspect: ...
    async def clear(self, stream: str, ref: str) -> None: ...


class Graves(Protocol):
    """Shows dead letters. Raises: Unavailable."""

    async def bury(self, letters: Sequence[DeadLetter]) -> None: ...


class SuspicionObserver(Protocol):
    """Hears of bad commands."""

    def buried(self, letters: Sequence[DeadLetter]) -> None: ...
    def suspected(self, ref: str, attempts: int) -> None: ...
    def telling_failed(self, error: Exception) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SuspicionRules:
    """Deliveries that raise a suspicion, and tries of a suspect."""

    deliveries: int
    attempts_max: int


def asks_alone(command: GatewayCommand, attempt: Attempt) -> bool:
    """Whether it inquires about what the PSP has promised to tell: with it would go the question, in silence."""
    return command.kind is CommandKind.INQUIRE and attempt.outcome in (Outcome.PENDING, Outcome.ABSENT)


class Suspicion:
    """One gateway's judge."""

    def __init__(
        self,
        kept: Kept,
        graves: Graves,
        observer: SuspicionObserver,
        rules: SuspicionRules,
        *,
        new_id: Callable[[], str],
        now_ms: Callable[[], int],
    ) -> None:
        self._kept = kept
        self._graves = graves
        self._observer = observer
        self._rules = rules
        self._new_id = new_id
        self._now_ms = now_ms

    def falls_on(self, entry: Entry) -> bool:
        """Whether it was delivered suspiciously often."""
        return entry.times >= self._rules.deliveries

    # -- what cannot be read --------------------------------------------------------------------------------------

    async def bury_unreadable(self, stream: str, unreadable: Sequence[tuple[Entry, Unreadable]]) -> None:
        """Make dead letters of rows that cannot be read. Raises: Unavailable; then they come again."""
        if unreadable:
            await self._bury([self._letter(stream, entry, what) for entry, what in unreadable])

    # -- what kills -----------------------------------------------------------------------------------------------

    async def count(self, stream: str, ref: str) -> Suspect | None:
        """Count one more try of a command before it begins; None when as many have been counted as may.

        Raises: Unavailable.
        """
        suspect = await self._kept.count(stream, ref)
        self._observer.suspected(ref, suspect.attempts)
        return suspect if suspect.attempts <= self._rules.attempts_max else None

    async def clear(self, stream: str, ref: str) -> None:
        """It is over and we live: whatever killed others, it was not this. Raises: Unavailable."""
        await self._kept.clear(stream, ref)

    async def condemn(self, stream: str, delivery: Delivery) -> None:
        """Make a dead letter of a command of which nothing was ever sent, or that asks alone. Raises: Unavailable."""
        command = delivery.command
        what = Unreadable(
            ref=command.ref,
            reason="kills_its_gateway",
            detail=f"{self._rules.attempts_max} processes died while it was tried",
            fields={"ref": command.ref},
            event_id=command.ref,
            type=command.kind,
            merchant_id=command.order.merchant_id,
            payment_id=command.order.payment_id,
        )
        await self._bury([self._letter(stream, delivery.entry, what, self._rules.attempts_max)])

    def settle(self, command: GatewayCommand, attempt: Attempt) -> Conclusion | None:
        """The end of a condemned command that may have been sent: without a call, and the question of money stays
        with its attempt, which is inquired for. None while somebody may still be at it."""
        if attempt.outcome is None:
            if not attempt.is_past_deadline:
                return None
            return self._in_doubt(command, attempt, Source.ANSWER)
        if command.kind is CommandKind.INQUIRE and attempt.outcome is Outcome.UNKNOWN:
            return self._in_doubt(command, attempt, Source.INQUIRY)
        return Conclusion(command=command, evidence_id=self._new_id())

    def _in_doubt(self, command: GatewayCommand, attempt: Attempt, source: Source) -> Conclusion:
        answer = Answer(outcome=Outcome.UNKNOWN, reason="kills_its_gateway")
        return Conclusion(
            command=command, attempt_id=attempt.id, answer=answer, source=source, evidence_id=self._new_id()
        )

    # -- burying --------------------------------------------------------------------------------------------------

    def _letter(self, stream: str, entry: Entry, what: Unreadable, attempts: int = 1) -> DeadLetter:
        return DeadLetter(
            id=self._new_id(),
            stream=stream,
            entry_id=entry.id,
            what=what,
            attempts=attempts,
            first_failed_at_ms=self._now_ms(),
        )

    async def _bury(self, letters: Sequence[DeadLetter]) -> None:
        kept = await self._kept.bury(letters)
        buried = [letter for letter in letters if letter.id in kept]
        self._observer.buried(buried)
        try:
            await self._graves.bury(buried)
        except Transient as error:
            self._observer.telling_failed(error)  # the table has them, and the streams are made to agree with it
