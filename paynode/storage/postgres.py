"""Connections to PostgreSQL: made alike everywhere, closed in bounded time, their errors put on the error tree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final, TypeAlias

import anyio
import asyncpg
from asyncpg.connect_utils import SessionAttribute

from paynode.config import Settings
from paynode.domain.errors import Conflict, Transient, Unavailable
from paynode.storage.logins import Role, role_url

__all__ = [
    "Connection",
    "Pool",
    "Role",
    "Session",
    "borrowed",
    "close",
    "connect",
    "pool",
    "role_url",
    "session",
    "translated",
]

# asyncpg is generic for type checkers only, hence the quotes. A session is our own; a connection may be a pool's.
Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
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
# always has a key, an index scan need not.
_BY_KEY: Final = {
    "enable_seqscan": "off",
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}

# Seconds to wait for a free connection of a pool.
_WAIT_S: Final = 5.0

# All that asyncpg raises. The third is a plain Exception; TimeoutError is an OSError.
_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

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


async def connect(
    settings: Settings,
    role: Role,
    *,
    application_name: str,
    statement_timeout_ms: int | None = None,
    is_by_key: bool = False,
) -> Session:
    """A session of the caller's own. `statement_timeout_ms` replaces the configured one (0: no limit).

    `is_by_key` is for one whose statements all find their rows by a key.

    Raises: Unavailable; asyncpg's own error when the log-in is refused, which no waiting cures.
    """
    with translated():
        return await asyncpg.connect(
            **_arguments(settings, role, application_name, statement_timeout_ms, is_by_key=is_by_key)
        )


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
        with suppress(*_ERRORS):  # it is gone already, which is what we wanted
            await connection.close()
    connection.terminate()


@asynccontextmanager
async def pool(
    settings: Settings, role: Role, *, application_name: str, size: int | None = None, is_by_key: bool = False
) -> AsyncIterator[Pool]:
    """A pool of at most `size` connections; one is opened at once, so that a wrong URL shows at the start.

    `is_by_key` as for `connect`.
    """
    with translated():
        opened = await asyncpg.create_pool(
            min_size=1,
            max_size=size or settings.database.pool_size,
            reset=_nothing_to_reset,
            **_arguments(settings, role, application_name, None, is_by_key=is_by_key),
        )
    try:
        yield opened
    finally:
        with anyio.move_on_after(_CLOSE_S, shield=True), suppress(*_ERRORS):
            await opened.close()
        opened.terminate()


async def _nothing_to_reset(_: object) -> None:
    """What we run leaves no state in a session: no SET, LISTEN, cursor or advisory lock.

    asyncpg rolls an open transaction back by itself; its own reset would cost a round trip for every borrowing.
    """


@asynccontextmanager
async def borrowed(pool: Pool) -> AsyncIterator[Connection]:
    """A connection of the pool, errors translated. After a failure of the server the whole pool is renewed.

    Idle connections stay with the node they were made to: after a failover they would answer from the demoted one.
    """
    with translated():
        try:
            async with pool.acquire(timeout=_WAIT_S) as connection:
                yield connection
        except _ERRORS as error:
            if _is_node_lost(error):
                await pool.expire_connections()
            raise


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
    except _ERRORS as error:
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


def _is_our_mistake(error: asyncpg.InterfaceError) -> bool:
    """asyncpg has one class for a closed connection and for a wrong argument; waiting does not cure the latter."""
    return isinstance(error, ValueError) or str(error.args[0]).startswith("the server expects")


def _arguments(
    settings: Settings, role: Role, application_name: str, statement_timeout_ms: int | None, *, is_by_key: bool
) -> dict[str, Any]:
    limits = settings.database
    statement_ms = limits.statement_timeout_ms if statement_timeout_ms is None else statement_timeout_ms
    return {
        "dsn": role_url(settings, role),
        "timeout": limits.connect_timeout_s,
        "command_timeout": statement_ms / 1000 + _GRACE_S if statement_ms else None,
        # Of several hosts the one that takes writes; whoever only reads may read from a standby.
        "target_session_attrs": SessionAttribute.any if role is Role.READER else SessionAttribute.read_write,
        "server_settings": {
            "application_name": application_name,
            "timezone": "UTC",
            # Tables and functions are ours or the system's, whatever a schema of the user's own may hold.
            "search_path": "public, pg_temp",
            "statement_timeout": str(statement_ms),
            "lock_timeout": str(limits.lock_timeout_ms),
            # A process that is stopped amid a transaction must not keep its locks.
            "idle_in_transaction_session_timeout": str(statement_ms),
            **(_BY_KEY if is_by_key else {}),
        },
    }
