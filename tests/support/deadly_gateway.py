"""paynode that dies over one token, or between the claim of one amount and its sending.

`python -m tests.support.deadly_gateway <verb...>`
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from paynode.cli.main import main
from paynode.domain.payment import PspOrder
from paynode.domain.psp import Answer, PspRequest
from paynode.psp.guard import GuardedPsp
from paynode.psp.sim import SimPsp

Prepare: TypeAlias = Callable[[SimPsp, PspOrder], PspRequest]

Send: TypeAlias = Callable[..., Awaitable[Answer]]

DEADLY: Final = "tok_deadly"
DEADLY_AMOUNT: Final = 6666


def _deadly(prepare: Prepare) -> Prepare:
    def prepare_or_die(psp: SimPsp, order: PspOrder) -> PspRequest:
        if order.token == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return prepare(psp, order)

    return prepare_or_die


def _deadly_sending(send: Send) -> Send:
    def send_or_die(
        psp: GuardedPsp, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float
    ) -> Awaitable[Answer]:
        if order.money.amount == DEADLY_AMOUNT:
            os.kill(os.getpid(), signal.SIGKILL)
        return send(psp, order, request, send_by=send_by, deadline=deadline)

    return send_or_die


if __name__ == "__main__":
    # Before anything is claimed or sent: it is the message that kills, and no call.
    SimPsp.prepare = _deadly(SimPsp.prepare)  # type: ignore[method-assign, assignment]
    GuardedPsp.send = _deadly_sending(GuardedPsp.send)  # type: ignore[method-assign, assignment]
    main()
