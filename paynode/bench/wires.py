"""HTTP/1.1 as a load generator needs it: a request is bytes made beforehand, an answer is its status.

A client library takes as long for a request as the ingress takes to refuse it: its own queue would be what is measured.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

# Seconds after which an answer is not waited for any longer.
_ANSWER_S: Final = 30.0
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_LAST: Final = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)
_HEAD_END: Final = b"\r\n\r\n"


class Wires:
    """Connections to one server, made when they are needed and kept."""

    def __init__(self, base_url: str) -> None:
        found = urlsplit(base_url)
        self._is_tls = found.scheme == "https"
        self._host, self._port = found.hostname or "", found.port or (443 if self._is_tls else 80)
        self._netloc = found.netloc
        self._idle: list[_Wire] = []

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        """A request, as it goes over the wire."""
        fields = {"Host": self._netloc, "Content-Length": str(len(body)), "Content-Type": "application/json", **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body

    async def ask(self, request: bytes) -> int:
        """The status of the answer.

        Raises: OSError (TimeoutError among them).
        """
        async with asyncio.timeout(_ANSWER_S):
            wire = self._kept() or await self._new()
            try:
                status = await wire.ask(request)
            except BaseException:
                wire.close()
                raise
        self._idle.append(wire)
        return status

    def close(self) -> None:
        """Close those that are kept."""
        for wire in self._idle:
            wire.close()

    def _kept(self) -> _Wire | None:
        while self._idle:
            wire = self._idle.pop()
            if wire.is_open:
                return wire
        return None

    async def _new(self) -> _Wire:
        loop = asyncio.get_running_loop()
        transport, wire = await loop.create_connection(_Wire, self._host, self._port, ssl=self._is_tls or None)
        wire.transport = transport
        return wire


class _Wire(asyncio.Protocol):
    """One connection, with one request at a time."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.is_open = True
        self._received = b""
        self._answer: asyncio.Future[int] | None = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(_HEAD_END)
        length = _LENGTH.search(head + end)
        if not end or length is None or len(body) < int(length[1]):
            return
        self._received = b""
        if _LAST.search(head + end):
            self.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(int(head[9:12]))

    def connection_lost(self, _: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("closed before the answer"))

    async def ask(self, request: bytes) -> int:
        """Raises: ConnectionResetError."""
        if not self.is_open:
            raise ConnectionResetError("closed before it was asked")
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._answer

    def close(self) -> None:
        self.is_open = False
        self.transport.close()
