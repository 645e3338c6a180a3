"""One HTTP request to a PSP, with proof of whether it may have left.

What counts is the body: the headers leave together with it or before it, and a request whose declared body
never came cannot be acted on. So a gate stands in front of the body, and only what stopped there is "not sent".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace, TracebackType
from typing import Final, Literal, Self
from weakref import WeakSet

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_writer import StreamWriter
from aiohttp.tracing import Trace
from yarl import URL

ANSWER_BYTES_MAX = 1 << 16

# Below the time after which servers close an idle connection (commonly 60 to 75 s): a request written onto a
# connection that the other side is closing is lost, and its outcome unknown.
_KEEP_ALIVE_S = 15.0

# One timer of our own covers a call. aiohttp's would each be another way to end it, rounded up to whole seconds.
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)

# Waits of our own making, and requests that cannot be written: no fault of the PSP.
_OWN_REASONS = frozenset({"pool_wait", "send_by_passed", "request_invalid"})

# Seconds in which a connection can be expected: a lost packet of the handshake is sent again after one. Who had less
# before `send_by`, or was looked at later than that, met our own lateness.
_FAIR_CONNECT_S: Final = 1.0

# No answer names its request: what is read next on a connection is taken for one. What is there before anything was
# written answers something else.
_ANSWER_FIRST: Final = "answer_before_request"

# After these a connection is not used again, so that the next no of the kind is the first on its own.
_TURNED_AWAY: Final = frozenset({401, 403})

# Some of them name what they are about, and are asked for once.
_PATHS_KEPT: Final = 64

# A request has a connection of its own, made for it.
_MADE: Final = "made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, complete and unjudged.

    `is_first`: nothing was asked on its connection before, so that it cannot be an earlier answer that came twice.
    """

    status: int
    body: bytes
    is_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NoReply:
    """Why nothing usable came back. `has_left` False is proof that the PSP cannot act on the request."""

    reason: str
    has_left: bool

    @property
    def is_psp_failure(self) -> bool:
        return self.has_left or self.reason not in _OWN_REASONS


_Note = Callable[[aiohttp.ClientSession, SimpleNamespace, object], Awaitable[None]]


class GateShut(Exception):
    """The body was not written; the text is the reason."""


class _ReplyRefused(Exception):
    """A reply that is not read to its end; the text is the reason."""


class GatedBody(aiohttp.BytesPayload):
    """A request's body. It looks at the clock right before its first byte, and then starts the wait for the answer.

    aiohttp writes the body in a task of its own, which races with the sender's time-out at `send_by`. The race
    has one winner: either the body leaves and the timer moves on to the deadline, or the gate is shut for good.
    """

    def __init__(self, body: bytes, *, send_by: float, deadline: float, content_type: str = "application/json") -> None:
        super().__init__(body, content_type=content_type)
        self._send_by = min(send_by, deadline)
        self._deadline = deadline
        self._is_shut = False
        self._has_left = False
        self._connection: ResponseHandler | None = None
        self._connecting_since = time.monotonic()
        self.stage = "connect"
        self.timer = asyncio.timeout_at(_loop_time(self._send_by))

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if self._is_shut or self._has_left or time.monotonic() >= self._send_by:
            raise GateShut("send_by_passed")
        self._connection = _connection_of(writer)
        if self._connection is not None and self._connection.should_close:
            raise GateShut(_ANSWER_FIRST)
        self.timer.reschedule(_loop_time(self._deadline))  # RuntimeError once it has fired: the body stays here
        self._has_left = True
        await super().write_with_length(writer, content_length)

    def reach(self, stage: str) -> None:
        """Note how far the request has come."""
        self.stage = stage
        if stage == "connect":
            self._connecting_since = time.monotonic()

    @property
    def is_fair(self) -> bool:
        """Whether the other side had time enough to take a connection, and we were there to see it."""
        is_late = time.monotonic() - self._send_by >= _FAIR_CONNECT_S
        return not is_late and self._send_by - self._connecting_since >= _FAIR_CONNECT_S

    @property
    def has_left(self) -> bool:
        """Whether anything may have left."""
        return self._has_left

    def forsake_connection(self) -> None:
        """It is not to be used again."""
        if self._connection is not None:
            self._connection.force_close()

    def shut(self) -> bool:
        """From now on nothing leaves. Returns whether anything may have left before."""
        self._is_shut = True
        return self._has_left


class _Connector(aiohttp.TCPConnector):
    """Hands out no connection again that was forsaken, or on which something has come that nobody asked for: aiohttp
    looks when it gets one back, and not when it gives it away."""

    def __init__(self, *, limit: int) -> None:
        super().__init__(limit=limit, keepalive_timeout=_KEEP_ALIVE_S)
        self._handed_out = WeakSet[ResponseHandler]()

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None, "nobody has closed it yet"
            if protocol not in self._handed_out or not protocol.should_close:
                self._handed_out.add(protocol)
                return connection
            connection.close()


class PspTransport:
    """The connections to one PSP. Follows no redirect, keeps no cookie, reads no proxy setting, inflates nothing."""

    def __init__(self, url: str, *, headers: dict[str, str], concurrency: int) -> None:
        self._url = URL(url)
        if self._url.scheme not in ("http", "https") or not self._url.host or self._url.user:
            raise ValueError(f"not the http(s) URL of a PSP: {url!r}")
        self._headers = headers | {"Accept": "application/json", "Accept-Encoding": "identity"}
        self._concurrency = concurrency
        # Most requests go to a few paths, and to put a URL together takes a thirtieth of a request.
        self._address = lru_cache(maxsize=_PATHS_KEPT)(self._url.joinpath)
        self._open_session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._open_session = aiohttp.ClientSession(
            connector=_Connector(limit=self._concurrency),
            headers=self._headers,
            timeout=_NO_TIMEOUT,
            trace_configs=[_stages()],
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def post(
        self,
        path: str,
        body: bytes,
        *,
        headers: dict[str, str],
        send_by: float,
        deadline: float,
        method: Literal["POST", "DELETE"] = "POST",
        content_type: str = "application/json",
    ) -> Reply | NoReply:
        """Send these bytes once. Both instants are of `time.monotonic()`. Raises nothing but cancellation."""
        session = self._session
        if time.monotonic() >= send_by:
            return NoReply(reason="send_by_passed", has_left=False)
        gate = GatedBody(body, send_by=send_by, deadline=deadline, content_type=content_type)
        try:
            async with (
                gate.timer,
                session.request(
                    method,
                    self._address(path.lstrip("/")),
                    data=gate,
                    headers=headers,
                    allow_redirects=False,
                    trace_request_ctx=gate,
                ) as response,
            ):
                return await _answer(gate, response)
        except Exception as error:  # noqa: BLE001 -- whatever it was, the gate knows whether bytes may have left
            has_left = gate.shut()
            return NoReply(reason=_after(error) if has_left else _before(error, gate), has_left=has_left)
        finally:
            gate.shut()  # a cancelled call too must send nothing any more

    async def get(
        self,
        path: str,
        query: dict[str, str],
        *,
        headers: dict[str, str] | None = None,
        deadline: float | None = None,
        timeout_s: float = 20.0,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Reply | NoReply:
        """Read something: until the deadline, where somebody waits for it. Raises nothing but cancellation."""
        if deadline is None:
            deadline = time.monotonic() + timeout_s
        url = self._address(path.lstrip("/")).with_query(query)
        session = self._session
        try:
            async with (
                asyncio.timeout_at(_loop_time(deadline)),
                session.get(url, headers=headers, allow_redirects=False) as response,
            ):
                return await _read(response, bytes_max)
        except Exception as error:  # noqa: BLE001 -- a question has one way to fail: no answer
            return NoReply(reason=_after(error), has_left=True)

    @property
    def _session(self) -> aiohttp.ClientSession:
        assert self._open_session is not None, "use it inside `async with`"
        return self._open_session


def _loop_time(monotonic: float) -> float:
    return asyncio.get_running_loop().time() + (monotonic - time.monotonic())


def _stages() -> aiohttp.TraceConfig:
    """Notes in the gate how far a request has come, so that a time-out can say what it waited for."""
    config = aiohttp.TraceConfig()

    def reached(stage: str) -> _Note:
        async def note(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
            if isinstance(context.trace_request_ctx, GatedBody):
                context.trace_request_ctx.reach(stage)

        return note

    config.on_connection_queued_start.append(reached("pool"))
    config.on_connection_queued_end.append(reached("connect"))
    config.on_connection_create_start.append(reached("connect"))
    config.on_connection_create_end.append(reached(_MADE))
    config.on_connection_reuseconn.append(reached("reused"))
    return config


def _connection_of(writer: AbstractStreamWriter) -> ResponseHandler | None:
    protocol = writer.protocol if isinstance(writer, StreamWriter) else None
    return protocol if isinstance(protocol, ResponseHandler) else None


async def _answer(gate: GatedBody, response: aiohttp.ClientResponse) -> Reply:
    """The answer to what was written. Raises: _ReplyRefused, where nothing was."""
    if not gate.has_left:
        gate.shut()  # before the next await: the body's writer waits for its turn
        response.close()
        raise _ReplyRefused(_ANSWER_FIRST)
    reply = await _read(response, is_first=gate.stage == _MADE)
    if reply.status in _TURNED_AWAY:
        gate.forsake_connection()
    return reply


async def _read(
    response: aiohttp.ClientResponse, bytes_max: int = ANSWER_BYTES_MAX, *, is_first: bool = False
) -> Reply:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _ReplyRefused("answer_encoded")
    body = bytearray()
    while chunk := await response.content.read(bytes_max + 1 - len(body)):
        body += chunk
        if len(body) > bytes_max:
            raise _ReplyRefused("answer_too_large")
    return Reply(status=response.status, body=bytes(body), is_first=is_first)


def _before(error: Exception, gate: GatedBody) -> str:
    """The reason why a request did not leave."""
    match error:
        case TimeoutError():
            timeout = "connect_timeout" if gate.is_fair else "send_by_passed"
            return {"pool": "pool_wait", "connect": timeout}.get(gate.stage, "send_by_passed")
        case aiohttp.ClientConnectorDNSError():
            return "dns_failed"
        case aiohttp.ClientSSLError():
            return "tls_failed"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "connection_refused"
        case aiohttp.ClientConnectorError():
            return "connect_failed"
        case _ReplyRefused() | aiohttp.ClientConnectionError(__cause__=GateShut()):
            return str(error.__cause__ or error)
        case aiohttp.ClientConnectionError(__cause__=RuntimeError()):
            return "send_by_passed"
        case OSError() | aiohttp.ClientConnectionError():
            return "connection_lost"
        case _:
            return "request_invalid"


def _after(error: Exception) -> str:
    """The reason why a request that may have left has no usable answer."""
    match error:
        case _ReplyRefused():
            return str(error)
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientConnectorError():
            return "connect_failed"
        case aiohttp.ServerDisconnectedError():
            return "disconnected"
        case aiohttp.ClientPayloadError():
            return "answer_cut"
        case OSError() | aiohttp.ClientConnectionError():
            return "connection_lost"
        case _:
            return "answer_invalid"
