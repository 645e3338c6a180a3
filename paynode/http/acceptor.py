"""Payments are committed together, and nobody is answered before it is known what became of his.

One write path: the group; if the database refuses the group, each payment alone; if nobody knows whether a statement
was committed, the keys are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from paynode.domain.accepting import Accepted, KeyUse, NewPayment, StoredAnswer, Verdict
from paynode.domain.errors import Conflict, Poison, Transient, Unavailable
from paynode.domain.road import Pointer
from paynode.http.announcing import Announcer
from paynode.runtime.grouping import Grouper
from paynode.sections import Http

# One place in so many that wait for a group is kept for points of sale.
_POS_PLACES: Final = 8


class Accepting(Protocol):
    """Where accepted payments are kept."""

    async def accept(self, group: Sequence[NewPayment]) -> frozenset[str]:
        """Commit those whose key and order are free; their ids. Raises: Unavailable (ambiguous), Conflict, Poison."""

    async def find(self, group: Sequence[NewPayment]) -> Sequence[Verdict | None]:
        """What is known of each one's key, else of its order. Raises: Unavailable."""

    async def adopt(self, use: KeyUse, *, in_flight_s: float) -> bool:
        """Go on with an abandoned request; False when somebody else does. Raises: Unavailable."""

    async def store(self, use: KeyUse, answer: StoredAnswer) -> StoredAnswer | None:
        """Keep the answer; the one that was faster, if any. Raises: Unavailable, Conflict."""

    async def release(self, use: KeyUse) -> None:
        """Let the next retry go on at once. Raises: Unavailable."""


class Acceptor:
    """Group commit; `run` serves the groups."""

    def __init__(self, accepting: Accepting, announcer: Announcer, limits: Http) -> None:
        self._accepting = accepting
        self._announcer = announcer
        self._grouper: Grouper[NewPayment, Verdict] = Grouper(
            self.commit,
            group_size_max=limits.group_size_max,
            waiting_max=limits.group_waiting_max,
            urgent_places=limits.group_waiting_max // _POS_PLACES,
        )

    def waited_s(self) -> float:
        """For how long the oldest payment has been waiting for its group."""
        return self._grouper.waited_s()

    async def submit(self, payment: NewPayment, *, is_pos: bool = False) -> Verdict:
        """What became of the payment. One of a point of sale does not queue behind checkouts.

        Raises: GroupFull, GroupStopped (nothing was done); PaynodeError.
        """
        return await self._grouper.submit(payment, is_urgent=is_pos)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._grouper.run()

    async def commit(self, group: Sequence[NewPayment]) -> Sequence[Verdict]:
        """One verdict for each payment of a group."""
        try:
            verdicts = await self._commit(group)
        except Unavailable:
            # Sent or not, committed or not: the connection is gone and cannot say. Only the keys can.
            verdicts = await self._look_up(group)
        except (Conflict, Poison):
            verdicts = [await self._commit_alone(payment) for payment in group]
        self._announce(group, verdicts)
        return verdicts

    async def _commit(self, group: Sequence[NewPayment]) -> list[Verdict]:
        won = await self._accepting.accept(group)
        lost = [payment for payment in group if payment.view.id not in won]
        # Whatever happens to the losers from here on, the winners are committed.
        known = dict(zip([payment.view.id for payment in lost], await self._look_up(lost), strict=True))
        return [known.get(payment.view.id, Accepted(payment_id=payment.view.id)) for payment in group]

    async def _commit_alone(self, payment: NewPayment) -> Verdict:
        try:
            return (await self._commit([payment]))[0]
        except Unavailable:
            return (await self._look_up([payment]))[0]
        except (Conflict, Poison) as error:
            return error

    async def _look_up(self, group: Sequence[NewPayment]) -> list[Verdict]:
        if not group:
            return []
        try:
            found = await self._accepting.find(group)
        except Transient as error:
            return [error] * len(group)
        # Neither key nor order is known: never committed, or what was in the way has just gone. A retry will tell.
        return [Conflict("neither accepted nor known") if verdict is None else verdict for verdict in found]

    def _announce(self, group: Sequence[NewPayment], verdicts: Sequence[Verdict]) -> None:
        self._announcer.announce(
            Pointer(stream=payment.stream, ref=payment.command_id)
            for payment, verdict in zip(group, verdicts, strict=True)
            if isinstance(verdict, Accepted)
        )
