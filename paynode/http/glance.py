"""Turning requests away by their first bytes: before they are parsed, routed and given a task of their own.

The long way to the same refusal costs a third of what accepting costs, so that in a flood of three times what can be
done refusing would be all that is done.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import hdrs

from paynode.http.work import Work, work_at

# A whole head, and nothing in it that a proxy could read in another way than we do.
_HEAD: Final = re.compile(rb"([A-Z]+) ([!-~]+) HTTP/1\.1\r\n((?:[!-~][^\r\n]*\r\n)+)\r\n")
# What says that the body does not end where its length says, or that another protocol or no request follows.
_DOUBT: Final = re.compile(rb"^(?:transfer-encoding|upgrade|expect) *:|^connection:(?! *keep-alive *\r$)", re.M)
_LENGTH: Final = re.compile(rb"^content-length:[ \t]*([0-9]{1,9})[ \t]*\r$", re.M)
_LENGTHS: Final = re.compile(rb"^content-length", re.M)
_PREFER: Final = re.compile(rb"^prefer *:.*wait", re.M)
_PAYMENT: Final = re.compile(r"/v1/payments/[^/]+")
# What a flood is made of. All else, and what is refused last, goes the long way.
_TURNED_AWAY: Final = frozenset(
    {
        (hdrs.METH_POST, "/v1/payments"),
        (hdrs.METH_GET, "/v1/payments"),
        (hdrs.METH_GET, "/v1/payments/{id}"),
        (hdrs.METH_GET, "/v1/ledger"),
        (hdrs.METH_GET, "/v1/wallets"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What a request's head tells: `route` is the template of its path, `size` counts its bytes, body and all."""

    method: str
    route: str
    work: Work
    size: int


class Refusing(Protocol):
    """Who decides."""

    def refusal(self, begun: Begun) -> bytes:
        """The whole answer to a request that is refused; empty for one that is let in, and counted until it arrives."""

    def arrived(self) -> None:
        """One that was let in is there, or will never be."""


class Glance:
    """One connection's requests, by their bytes, for as long as each begins with a piece of its own.

    Once it cannot be told where the next begins all is left to the long way, as is what comes before the last answer.
    """

    __slots__ = ("_is_coming", "_is_lost", "_is_refused", "_refusing", "_rest")

    def __init__(self, refusing: Refusing) -> None:
        self._refusing = refusing
        self._is_coming = False
        self._is_lost = False
        self._is_refused = False
        self._rest = 0  # bytes of a body that are still to come

    def look(self, data: bytes, *, is_idle: bool) -> tuple[bytes, bytes]:
        """What to answer to these bytes at once, and what of them to read."""
        if self._is_lost:
            return b"", data
        answer = b""
        if not self._rest:
            begun = begun_by(data)
            self._rest = begun.size if begun else 0
            if begun and is_idle and begun.size >= len(data) and (begun.method, begun.route) in _TURNED_AWAY:
                answer = self._refusing.refusal(begun)
                self._is_coming = not answer
            self._is_refused = bool(answer)
        self._rest -= len(data)
        self._is_lost = self._rest < 0
        if self._is_refused:
            data = data[len(data) + self._rest :] if self._is_lost else b""
        return answer, data

    def arrived(self) -> None:
        """The request that was let in is there, or its connection is gone."""
        if self._is_coming:
            self._is_coming = False
            self._refusing.arrived()


def begun_by(data: bytes) -> Begun | None:
    """The request that begins with these bytes; None if its head is not all there or in any doubt."""
    head = _HEAD.match(data)
    if head is None:
        return None
    fields = head[3].lower()
    length = _LENGTH.search(fields)
    if _DOUBT.search(fields) or len(_LENGTHS.findall(fields)) != (length is not None):
        return None
    method, path = head[1].decode(), head[2].decode().partition("?")[0]
    route = "/v1/payments/{id}" if _PAYMENT.fullmatch(path) else path
    work = work_at(method, route, may_wait=_PREFER.search(fields) is not None)
    return Begun(method=method, route=route, work=work, size=head.end() + (int(length[1]) if length else 0))
