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
    CHECKOUT = "checkout"
    POS = "pos"  # a customer stands at a till
    OPERATION = "operation"  # what was accepted is brought to its end: capture, refund, a customer on the way
    CALLBACK = "callback"  # what a PSP knows and we do not


ORDER: Final = tuple(Work)

_CREATION: Final = "/v1/payments"
# Routes whose method does not say it; all others are reads or operations.
_BY_ROUTE: Final[Mapping[tuple[str, str], Work]] = {
    (hdrs.METH_GET, "/v1/payments"): Work.EXPORT,
    (hdrs.METH_GET, "/v1/ledger"): Work.EXPORT,
    (hdrs.METH_GET, "/checkout/{id}"): Work.OPERATION,
    (hdrs.METH_GET, "/checkout/{id}/return"): Work.OPERATION,
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
    if method == hdrs.METH_POST and resource.canonical == _CREATION:
        may_be_pos = any("wait" in header.lower() for header in request.headers.getall("Prefer", ()))
        return Work.POS if may_be_pos else Work.CHECKOUT
    return _BY_ROUTE.get((method, resource.canonical), Work.READ if method == hdrs.METH_GET else Work.OPERATION)
