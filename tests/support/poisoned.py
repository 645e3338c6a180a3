"""paynode with deadly messages in it: run as `python -m tests.support.poisoned <verb...>`.

What evidence gives as its reason is what happens to the process that decides upon it, or to the database's patience.
The product has no such words; they are put in here, before its command line runs.
"""

from __future__ import annotations

import os
import signal
from typing import Any, Final

from paynode.actors import merchant
from paynode.cli.main import main
from paynode.domain.payment import Fact

CRASH: Final = "poison: crash"
HANG: Final = "poison: hang"
EAT: Final = "poison: eat"
BUG: Final = "poison: bug"


def _poisoned(decide: Any) -> Any:
    def book(books: Any, payment: Any, fact: Fact, around: Any) -> Any:
        match fact.reason:
            case "poison: crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case "poison: hang":
                while True:
                    pass
            case "poison: eat":
                hoard = []
                while True:
                    hoard.append(bytearray(64 * 1024 * 1024))
            case "poison: bug":
                raise KeyError(fact.event_id)
        return decide(books, payment, fact, around)

    return book


if __name__ == "__main__":
    if os.environ.get("PAYNODE_TEST_CURED") != "yes":
        names = vars(merchant)
        names["book"] = _poisoned(names["book"])
    main()
