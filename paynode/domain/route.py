"""Which PSP takes a payment."""

from __future__ import annotations

from collections.abc import Sequence

from paynode.domain.errors import NoRoute


def route(psps: Sequence[str], available: Sequence[str]) -> str:
    """The first PSP in the merchant's own order that this installation has.

    Raises: NoRoute when there is none.
    """
    for psp in psps:
        if psp in available:
            return psp
    raise NoRoute("no PSP of this merchant is configured")
