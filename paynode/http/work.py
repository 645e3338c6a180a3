"""The classes of work, in the order in which they are refused when there is too much of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from aiohttp import hdrs, web


class Work(StrEnum):
    """What a request is about. The order of the members is that of refusal: the first is the first to go."""

    EXPORT = "export"  # whole pages of rows: they can be fetched later
    READ = "read"
    CHECKOUT = "checkout"  # a new payment; and its customer on the way: without a key he keeps out nobody who has one
    POS = "pos"  # a customer stands at a till
    OPERATION = "operation"  # what was accepted is brought to its end: capture, refund
    CALLBACK = "callback"  # what a PSP knows and we do not


ORDER: Final = tuple(Work)

_CREATION: Final = "/v1/payments"
# Routes whose method does not say it; all others are reads or operations.
_BY_ROUTE: Final[Mapping[tuple[str, str], Work]] = {
    (hdrs.METH_GET, "/v1/payments"): Work.EXPORT,
    (hdrs.METH_GET, "/v1/ledger"): Work.EXPORT,
    (hdrs.METH_GET, "/checkout/{id}"): Work.CHECKOUT,
    (hdrs.METH_GET, "/checkout/{id}/return"): Work.CHECKOUT,
    (hdrs.METH_POST, "/v1/psp/{psp}/webhook"): Work.CALLBACK,
}


def work_of(request: web.Request) -> Work:
    """The class of a request as far as its head tells.

    That a payment may be a till's stands in its head; whether it is stands in its body, and its handler looks again.
    """
    resource = request.match_info.route.resource
    if resource is None:
        return Work.READ
    method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
    may_wait = any("wait" in header.lower() for header in request.headers.getall("Prefer", ()))
    return work_at(method, resource.canonical, may_wait=may_wait)


def work_at(method: str, route: str, *, may_wait: bool) -> Work:
    """The class of what is asked there, by somebody who may be a till because he says that he waits."""
    if (method, route) == (hdrs.METH_POST, _CREATION):
        return Work.POS if may_wait else Work.CHECKOUT
    return _BY_ROUTE.get((method, route), Work.READ if method == hdrs.METH_GET else Work.OPERATION)
