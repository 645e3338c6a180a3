"""One probe at a time, of all processes that call a PSP: their breakers open together, and would probe together.

A probe may end as a payment in doubt: one in each window is enough to learn that nothing works. A breaker says when its
process may probe; whether it is the one to do so is said by a lease, for each kind of call, that all processes share.
Nobody asks for it while the breaker is closed. Without an answer nobody probes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from paynode.domain.errors import Transient
from paynode.psp.breaker import Breaker, Permit

# Shares of the time that a breaker is open for. A process that was refused the lease looks again after a tenth: the
# other's probe may have succeeded long before its lease would have ended. After a probe that has failed nobody probes
# for four fifths: the one whose it was waits for the whole, so that one machine that cannot reach the PSP does not keep
# all others from finding out that they can.
_LOOK_AGAIN: Final = 0.1
_PAUSE: Final = 0.8


class Probes(Protocol):
    """The leases on probing one PSP. Raises: Unavailable, Conflict."""

    async def take(self, operation: str, *, for_s: float) -> int | None: ...
    async def end(self, operation: str, number: int, *, pause_s: float) -> None: ...


class OwnProbes:
    """The leases of a process that is alone, or of several guards in one process."""

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._leases: dict[str, tuple[int, float]] = {}

    async def take(self, operation: str, *, for_s: float) -> int | None:
        """The number of a lease of so many seconds; None while another may probe, or nobody."""
        number, until = self._leases.get(operation, (0, -math.inf))
        if until > self._clock():
            return None
        self._leases[operation] = (number + 1, self._clock() + for_s)
        return number + 1

    async def end(self, operation: str, number: int, *, pause_s: float) -> None:
        """The lease of that number is over, and nobody may probe for so many seconds."""
        if self._leases.get(operation, (0, 0.0))[0] == number:
            self._leases[operation] = (number, self._clock() + pause_s)


class Leave:
    """Leave to make one call, which is over at `until`, an instant of the gate's clock: then another may probe."""

    __slots__ = ("_gate", "_number", "_permit", "until")

    def __init__(self, gate: Gate, permit: Permit, *, number: int | None = None, until: float = math.inf) -> None:
        self._gate = gate
        self._permit = permit
        self._number = number
        self.until = until

    async def report(self, *, has_failed: bool | None) -> None:
        """How the call ended; None: that tells nothing of the PSP, or it was not made. All processes hear of a probe.

        A call that was cut off is not reported: it may still be under way at the PSP, and its lease ends by itself.
        """
        if has_failed is not None:
            self._permit.report(has_failed=has_failed)
        if self._number is not None:
            await self._gate._end(self._number, has_failed=bool(has_failed))

    def give_back(self) -> None:
        """The call is over, reported or not; may be said twice."""
        self._permit.give_back()


class Gate:
    """The breaker of one kind of call, open for `open_s` seconds each time, which lets a probe through only under the
    lease; after `lease_s` seconds it is over whatever became of it.
    """

    def __init__(
        self,
        operation: str,
        breaker: Breaker,
        probes: Probes,
        *,
        open_s: float,
        lease_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._operation = operation
        self._breaker = breaker
        self._probes = probes
        self._open_s = open_s
        self._lease_s = lease_s
        self._clock = clock

    async def enter(self) -> Leave | None:
        """Leave to make one call, or None when none may be made now. Waits for nothing while the breaker is closed."""
        permit = self._breaker.enter()
        if permit is None:
            return None
        if not permit.is_probe:
            return Leave(self, permit)
        try:
            return await self._probe(permit)
        except BaseException:
            permit.give_back()
            raise

    async def _probe(self, permit: Permit) -> Leave | None:
        # From before it is taken: by our clock it ends first.
        until = self._clock() + self._lease_s
        with suppress(Transient):
            number = await self._probes.take(self._operation, for_s=self._lease_s)
            if number is not None:
                return Leave(self, permit, number=number, until=until)
        permit.postpone(_LOOK_AGAIN * self._open_s)
        return None

    async def _end(self, number: int, *, has_failed: bool) -> None:
        with suppress(Transient):  # it ends by itself
            await self._probes.end(self._operation, number, pause_s=_PAUSE * self._open_s if has_failed else 0.0)
