"""paynode whose adapter kills its process over one token: `python -m tests.support.deadly_gateway <verb...>`."""

from __future__ import annotations

import os
import signal
from typing import Any, Final

from paynode.cli.main import main
from paynode.psp.sim import SimPsp

DEADLY: Final = "tok_deadly"


def _deadly(prepare: Any) -> Any:
    def prepare_charge(psp: SimPsp, *, token: str, **order: Any) -> Any:
        if token == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return prepare(psp, token=token, **order)

    return prepare_charge


if __name__ == "__main__":
    # Before anything is claimed or sent: it is the message that kills, and no call.
    SimPsp.prepare_charge = _deadly(SimPsp.prepare_charge)  # type: ignore[method-assign]
    main()
