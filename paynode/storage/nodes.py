"""Which of several servers is the one to work with: found by asking all of them, remembered until something fails.

After a failover two servers say that they take writes as soon as somebody starts the old primary again. What tells
them apart is the timeline: a promotion begins a new one. So where there is a choice a process takes the newest, and it
never goes back to an older one than it has seen.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import anyio
import asyncpg

from paynode.domain.errors import Unavailable

__all__ = ["ERRORS", "Session", "forget", "is_replaced", "open_newest"]

# asyncpg is generic for type checkers only, hence the quotes.
Session: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
_Opener: TypeAlias = Callable[[str], Awaitable[Session]]

# All that asyncpg raises. The third is a plain Exception; TimeoutError is an OSError.
ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

# No waiting cures these: the log-in, the database's name, a right.
_REFUSALS: Final = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)

# Seconds for which a place that was found needs no new search: connections of a pool come in bursts, and in that time
# nobody fails over and starts the old one again (1.5 s was seen). More would send a process there that had been stopped
# over all of it.
_KNOWN_S: Final = 0.5
# Seconds that silent hosts are still waited for when one has answered that would do. A promoted server should win over
# the one that it replaced; but a host that swallows packets must not hold everybody up.
_OTHERS_S: Final = 1.0

# The first eight hexadecimal digits of the name of the WAL file that is being written: right from the first moment of
# a promotion, unlike what the control file says.
_TIMELINE: Final = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"


@dataclass(slots=True)
class _Cluster:
    """What this process knows about the servers of one list of hosts."""

    timeline: int = 0  # the newest that was seen
    place: str | None = None  # where it was seen last, unless something has failed since
    found_at: float = 0.0  # by the monotonic clock, which goes on while a process is stopped

    def may_be_at(self, url: str) -> bool:
        """Whether it was found there just now."""
        return self.place == _place(url) and time.monotonic() < self.found_at + _KNOWN_S

    def admit(self, timeline: int | None) -> None:
        """Raises: Unavailable for a server that was replaced. None: the server does not say."""
        if timeline is not None and timeline < self.timeline:
            raise Unavailable(f"this server was replaced: its timeline is {timeline}, and {self.timeline} was seen")
        self.timeline = timeline or self.timeline


# By the hosts as their URL has them. A process has one list; tests have many.
_clusters: dict[tuple[str, ...], _Cluster] = {}
# Where each session leads, and which timeline was written there when it was opened.
_origins: WeakKeyDictionary[Session, tuple[_Cluster, int]] = WeakKeyDictionary()


def forget() -> None:
    """A session failed: the next one is opened only after all hosts were asked."""
    for cluster in _clusters.values():
        cluster.place = None


def is_replaced(session: Session) -> bool:
    """Whether a newer timeline has been seen since this session was opened.

    Nothing else tells: a server that was cut off over the failover comes back with all its sessions, and answers.
    """
    cluster, timeline = _origins.get(session, (None, 0))
    return cluster is not None and timeline < cluster.timeline


async def open_newest(urls: Sequence[str], open_one: _Opener, *, patience_s: float) -> Session:
    """A session at that of the servers which has the newest timeline; `open_one` opens one and refuses standbys.

    Raises: Unavailable when those that answer were replaced; what `open_one` raises when none answers.
    """
    cluster = _clusters.setdefault(tuple(_place(url) for url in urls), _Cluster())
    if len(urls) == 1:
        timeline, session = await _opened(urls[0], open_one)
        return _admitted(cluster, timeline, session)
    for url in urls:
        if cluster.may_be_at(url):
            session_there = await _at_known_place(cluster, url, open_one, patience_s)
            if session_there is not None:
                return session_there
    return await _search(cluster, urls, open_one)


async def _at_known_place(cluster: _Cluster, url: str, open_one: _Opener, patience_s: float) -> Session | None:
    """A session where the last one was opened; None when there is none to be had in half of our patience."""
    with anyio.move_on_after(patience_s / 2):
        try:
            timeline, session = await _opened(url, open_one)
            return _admitted(cluster, timeline, session)
        except (*ERRORS, Unavailable):
            pass
    cluster.place = None
    return None


async def _search(cluster: _Cluster, urls: Sequence[str], open_one: _Opener) -> Session:
    """Ask all at once: one that is silent must not use up the time of those that answer."""
    found: list[tuple[int, int, Session]] = []  # timeline, place from the end, session
    errors: list[Exception] = []
    begun = time.monotonic()

    async def ask(place: int, url: str) -> None:
        try:
            timeline, session = await _opened(url, open_one)
        except ERRORS as error:
            errors.append(error)
            return
        found.append((timeline or 0, -place, session))
        asking.deadline = min(asking.deadline, anyio.current_time() + _OTHERS_S)

    try:
        with anyio.CancelScope() as asking:
            async with anyio.create_task_group() as group:
                for place, url in enumerate(urls):
                    group.start_soon(ask, place, url)
        if not found:
            raise next((error for error in errors if not isinstance(error, _REFUSALS)), errors[0])
        timeline, place, newest = found.pop(found.index(max(found)))
        session = _admitted(cluster, timeline or None, newest)
        cluster.place, cluster.found_at = _place(urls[-place]), begun
        return session
    finally:
        for _, _, session in found:
            session.terminate()


async def _opened(url: str, open_one: _Opener) -> tuple[int | None, Session]:
    session = await open_one(url)
    try:
        return await _timeline(session), session
    except BaseException:
        session.terminate()
        raise


def _admitted(cluster: _Cluster, timeline: int | None, session: Session) -> Session:
    try:
        cluster.admit(timeline)
    except Unavailable:
        session.terminate()
        raise
    if timeline is not None:
        _origins[session] = cluster, timeline
    return session


async def _timeline(session: Session) -> int | None:
    """The timeline that the server writes; None for a standby, and for services that keep it to themselves."""
    if getattr(session.get_settings(), "in_hot_standby", "off") == "on":
        return None
    try:
        return int(await session.fetchval(_TIMELINE), 16)
    except (asyncpg.FeatureNotSupportedError, asyncpg.InsufficientPrivilegeError):
        return None


def _place(url: str) -> str:
    """Where a URL leads, whoever logs in there."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}?{parts.query}"
