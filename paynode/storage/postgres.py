"""Connections to PostgreSQL: made alike everywhere, closed in bounded time, their errors put on the error tree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, Final, TypeAlias

import anyio
import asyncpg
from asyncpg.connect_utils import SessionAttribute

from paynode.config import Settings
from paynode.domain.errors import Conflict, Transient, Unavailable
from paynode.storage import waiting
from paynode.storage.logins import Role, each_host, role_url
from paynode.storage.nodes import ERRORS, Session, forget, is_replaced, open_newest

__all__ = [
    "Connection",
    "Pool",
    "Role",
    "Session",
    "borrowed",
    "close",
    "confirm",
    "connect",
    "pool",
    "role_url",
    "session",
    "translated",
]

# A session is our own; a connection may be a pool's.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

# Seconds: what a closing connection may take before its socket is simply dropped.
_CLOSE_S: Final = 2.0
# Seconds that the client grants beyond the server's own limit. The server is the one who should end a statement; a
# client that gives up first learns nothing about what became of it.
_GRACE_S: Final = 2.0

# For sessions whose statements find every row by a key, a few at a time. PostgreSQL cannot see that: it takes a JSON
# argument for a hundred rows and a table that nobody has analysed yet for a small one, reads all of it, and keeps that
# plan while the table grows. What is left when these are off is the look-up by an index, row by row: a bitmap scan
# always has a key, an index scan need not. So there is one plan whatever the values are, and it is made once: each time
# anew it cost several times as much as the look-up (five payments with all that belongs to them: 0.52 ms and 0.19).
BY_KEY: Final[Mapping[str, str]] = {
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
# For sessions that also read pages in the order of an index.
BY_INDEX: Final[Mapping[str, str]] = {"enable_seqscan": "off"}

# Seconds to wait for a free connection of a pool.
_WAIT_S: Final = 5.0

# Beginnings of SQLSTATE. These say that the server behind the connection is not, or no more, the one to talk to:
_NODE_IS_LOST: Final = (
    "08",  # the connection
    "25006",  # read-only: the node was demoted
    "57P",  # shutting down, starting up, session ended
)
# ... and these that it cannot do this now.
_UNAVAILABLE: Final = (
    *_NODE_IS_LOST,
    "25P03",  # idle in a transaction for too long: we were stopped, and the server has moved on
    "53",  # out of memory, disk or connections
    "55P03",  # a lock was not to be had in time
    "57014",  # statement_timeout
    "58",  # the system below the server
)
_CONFLICT_CODES: Final = frozenset(
    {
        "23505",  # a unique key: somebody else wrote first
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
    }
)


class _Pooled(asyncpg.Connection):
    """A connection that is closed where asyncpg would send a cancel request: its time is up, or its task was cancelled.

    What a pool runs commits by itself, so that a request may meet the COMMIT. Cancelled while it waits for a
    synchronous standby, a COMMIT is done, and visible, and not replicated; left alone it waits on until the standby
    has it.
    """

    def is_replaced(self) -> bool:
        """Whether another server has taken its server's place."""
        return is_replaced(self)

    def _cancel_current_command(self, *waiters: object) -> None:
        # Not at once: the protocol calls this in the middle of its own work.
        asyncio.get_running_loop().call_soon(self.terminate)


async def connect(
    settings: Settings,
    role: Role,
    *,
    application_name: str,
    statement_timeout_ms: int | None = None,
    planner: Mapping[str, str] | None = None,
) -> Session:
    """A session of the caller's own. `statement_timeout_ms` replaces the configured one (0: no limit).

    `planner`: how its statements are to be planned, BY_KEY or BY_INDEX; without it as PostgreSQL thinks fit.

    Raises: Unavailable; asyncpg's own error when the log-in is refused, which no waiting cures.
    """
    arguments = _arguments(settings, application_name, statement_timeout_ms, planner=planner)
    # A session of one's own is opened at the start or after a failure: what was known then is no guide.
    forget()
    with translated():
        return await _opener(settings, role, arguments)()


@asynccontextmanager
async def session(
    settings: Settings, role: Role, *, application_name: str, statement_timeout_ms: int | None = None
) -> AsyncIterator[Session]:
    """`connect`, closed at the end."""
    connection = await connect(
        settings, role, application_name=application_name, statement_timeout_ms=statement_timeout_ms
    )
    try:
        yield connection
    finally:
        await close(connection)


async def close(connection: Session) -> None:
    """Close in bounded time, also when the server has gone silent or we are being cancelled."""
    with anyio.move_on_after(_CLOSE_S, shield=True):
        with suppress(*ERRORS):  # it is gone already, which is what we wanted
            await connection.close()
    connection.terminate()


@asynccontextmanager
async def pool(
    settings: Settings,
    role: Role,
    *,
    application_name: str,
    size: int | None = None,
    planner: Mapping[str, str] | None = None,
) -> AsyncIterator[Pool]:
    """A pool of at most `size` connections; one is opened at once, so that a wrong URL shows at the start.

    `planner` as for `connect`.
    """
    arguments = _arguments(settings, application_name, None, planner=planner)
    pooling: dict[str, Any] = {"connect": _opener(settings, role, arguments), "connection_class": _Pooled}
    with translated():
        opened = await asyncpg.create_pool(
            min_size=1, max_size=size or settings.database.pool_size, reset=_nothing_to_reset, **pooling
        )
    try:
        yield opened
    finally:
        with anyio.move_on_after(_CLOSE_S, shield=True), suppress(*ERRORS):
            await opened.close()
        opened.terminate()


async def _nothing_to_reset(_: object) -> None:
    """What we run leaves no state in a session: no SET, LISTEN, cursor or advisory lock.

    asyncpg rolls an open transaction back by itself; its own reset would cost a round trip for every borrowing.
    """


@asynccontextmanager
async def borrowed(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the pool, errors translated. After a failure of the server the whole pool is renewed.

    Idle connections stay with the node that they were made to: after a failover they would answer from the demoted one,
    and what is read there beside what is read elsewhere makes no sense.
    """
    with translated():
        try:
            async with AsyncExitStack() as stack:
                with waiting.noted(pool):
                    connection = await stack.enter_async_context(pool.acquire(timeout=_WAIT_S))
                if _is_replaced(connection):
                    await pool.expire_connections()
                    connection.terminate()
                    connection = await stack.enter_async_context(pool.acquire(timeout=_WAIT_S))
                yield connection
        except ERRORS as error:
            if _is_node_lost(error):
                forget()
                await pool.expire_connections()
            raise


def _is_replaced(connection: Any) -> bool:
    # Any: what a pool lends is a proxy, which passes on whatever it does not have itself.
    return bool(connection.is_replaced())


async def confirm(connection: Connection) -> None:
    """Return once everything that was read on this connection is on every server that counts.

    A transaction whose COMMIT was cut off may be visible and not replicated: a failover would take it back. So whatever
    was found rather than written may cause an answer or a call only after a write of our own, whose COMMIT waits for
    all before it. This one touches no table.

    Raises: asyncpg's errors, translated by the caller.
    """
    await connection.execute("SELECT pg_logical_emit_message(true, 'paynode', 'confirm')")


async def is_up(pool: Pool) -> bool:
    """Whether the server behind the pool answers."""
    try:
        async with borrowed(pool) as connection:
            await connection.fetchval("SELECT 1")
    except Transient:
        return False
    return True


@contextmanager
def translated() -> Iterator[None]:
    """Put what infrastructure does on the error tree. A bug (syntax, a CHECK, an argument) passes as it is."""
    try:
        yield
    except ERRORS as error:
        meaning = _translation(error)
        if meaning is None:
            raise
        raise meaning from error


def _translation(error: BaseException) -> Transient | None:
    # The server's messages quote values, so that only the kind and the code are passed on.
    match error:
        case asyncpg.InvalidCachedStatementError():
            return Unavailable("a statement was prepared before the schema changed")
        case asyncpg.PostgresError(sqlstate=str(code)):
            return _of_sqlstate(type(error).__name__, code)
        case asyncpg.InterfaceError() if _is_our_mistake(error):
            return None
        # A dying server shows in the client as any of these.
        case asyncpg.InterfaceError() | asyncpg.InternalClientError() | OSError():
            return Unavailable(f"{type(error).__name__}: {error}".removesuffix(": "))
        case _:
            return None


def _of_sqlstate(kind: str, code: str) -> Transient | None:
    if code in _CONFLICT_CODES:
        return Conflict(f"{kind} ({code})")
    if code.startswith(_UNAVAILABLE):
        return Unavailable(f"{kind} ({code})")
    return None


def _is_node_lost(error: BaseException) -> bool:
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_NODE_IS_LOST)
    return isinstance(_translation(error), Unavailable)


def is_cut_off(error: Unavailable) -> bool:
    """Whether the server's word is missing, rather than that it refused: what it was asked for may have been done."""
    cause = error.__cause__
    return not isinstance(cause, asyncpg.PostgresError) or (cause.sqlstate or "").startswith(_NODE_IS_LOST)


def _is_our_mistake(error: asyncpg.InterfaceError) -> bool:
    """asyncpg has one class for a closed connection and for a wrong argument; waiting does not cure the latter."""
    return isinstance(error, ValueError) or str(error.args[0]).startswith("the server expects")


def _opener(settings: Settings, role: Role, arguments: dict[str, Any]) -> Callable[..., Awaitable[Session]]:
    """What opens a session, at whichever of the hosts takes writes; in the form in which a pool wants it."""
    urls = each_host(role_url(settings, role))
    # A single server may be a standby when nobody wants to write. Of several it is never one: answers would be older
    # than what was told before, and `ready` would be said while nothing can be accepted.
    is_any = role is Role.READER and len(urls) == 1
    target = SessionAttribute.any if is_any else SessionAttribute.read_write

    async def open_session(_: None = None, **given: Any) -> Session:
        async def open_one(url: str) -> Session:
            return await asyncpg.connect(url, target_session_attrs=target, **arguments, **given)

        return await open_newest(urls, open_one, patience_s=settings.database.connect_timeout_s)

    return open_session


def _arguments(
    settings: Settings, application_name: str, statement_timeout_ms: int | None, *, planner: Mapping[str, str] | None
) -> dict[str, Any]:
    limits = settings.database
    statement_ms = limits.statement_timeout_ms if statement_timeout_ms is None else statement_timeout_ms
    return {
        "timeout": limits.connect_timeout_s,
        "command_timeout": statement_ms / 1000 + _GRACE_S if statement_ms else None,
        "server_settings": {
            "application_name": application_name,
            "timezone": "UTC",
            # Tables and functions are ours or the system's, whatever a schema of the user's own may hold.
            "search_path": "public, pg_temp",
            "statement_timeout": str(statement_ms),
            "lock_timeout": str(limits.lock_timeout_ms),
            # A process that is stopped amid a transaction must not keep its locks.
            "idle_in_transaction_session_timeout": str(statement_ms),
            **(planner or {}),
        },
    }
