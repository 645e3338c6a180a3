"""Which PSPs may take a payment, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paynode.domain.errors import NoRoute
from paynode.domain.payment import Method, OperationKind
from paynode.domain.psp import Capabilities


def route(
    wishes: Sequence[str],
    accounts: Mapping[str, Capabilities],
    *,
    currency: str,
    method: Method,
    kind: OperationKind,
) -> tuple[str, ...]:
    """The merchant's PSPs, in the merchant's order, that this installation has and that can do what is asked.

    A wish is the name of a PSP, or `name=EUR,USD`: for payments in these currencies only.

    Raises: NoRoute when there is none.
    """
    found = []
    for wish in wishes:
        psp, _, currencies = wish.partition("=")
        can = accounts.get(psp)
        is_wanted = not currencies or currency in currencies.split(",")
        if can is not None and is_wanted and psp not in found and _can(can, currency, method, kind):
            found.append(psp)
    if not found:
        raise NoRoute("no PSP of this merchant is configured that can take it")
    return tuple(found)


def _can(can: Capabilities, currency: str, method: Method, kind: OperationKind) -> bool:
    has_method = can.has_token if method is Method.TOKEN else can.has_page
    has_kind = can.can_authorize or kind is not OperationKind.AUTHORIZE
    return has_method and has_kind and (can.currencies is None or currency in can.currencies)
