"""Starting and stopping the embedded servers as one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from paynode.embedded import postgres, valkey
from paynode.embedded.errors import DataDirectoryBusy, ServerExited
from paynode.embedded.home import Home, open_home
from paynode.embedded.locks import lock as take_lock
from paynode.embedded.ports import is_free, remembered_port
from paynode.embedded.postgres import Postgres
from paynode.embedded.spawning import Server
from paynode.embedded.valkey import Valkey

# Seconds for the servers of a killed parent to end. They were told by the kernel, and take under a second unless the
# disk is slow.
_ORPHANS_WAIT_S = 15.0
# Somebody else may take a port between the look and the server's own bind.
_PORT_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How to reach the servers. `servers` has those that were started here, by name: `postgres`, `valkey`."""

    database_url: str
    redis_url: str
    servers: Mapping[str, Server]


class Servers:
    """`with Servers(data_dir) as running:` starts both; one whose URL is given is used instead, and not started.

    Must be entered in the main thread. The data stay in `data_dir` for the next start.
    """

    def __init__(self, data_dir: Path, *, database_url: str = "", redis_url: str = "") -> None:
        self._data_dir = data_dir.absolute()
        self._database_url = database_url
        self._redis_url = redis_url
        self._stack = ExitStack()

    def __enter__(self) -> Running:
        """Start what is missing.

        Raises: ServersError, with nothing left running.
        """
        with ExitStack() as starting:
            running = self._start(starting)
            self._stack = starting.pop_all()
        return running

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop Valkey, then PostgreSQL; complete on return."""
        self._stack.close()

    def _start(self, stack: ExitStack) -> Running:
        database_url, redis_url = self._database_url, self._redis_url
        started: dict[str, Server] = {}
        if not (database_url and redis_url):
            home = open_home(self._data_dir)
            lock = _take_locks(home, stack)
            if not database_url:
                database_url, started[postgres.NAME] = _start_one(Postgres(home), home, lock, stack)
            if not redis_url:
                redis_url, started[valkey.NAME] = _start_one(Valkey(home), home, lock, stack)
        return Running(database_url=database_url, redis_url=redis_url, servers=started)


def _start_one(kind: Postgres | Valkey, home: Home, lock: int, stack: ExitStack) -> tuple[str, Server]:
    program = kind.prepare(lock)
    port_file = home.path / f"{kind.name}.port"
    for tries_left in reversed(range(_PORT_TRIES)):
        port = remembered_port(port_file, home.account)
        server = kind.launch(program, port, lock)
        stack.callback(server.stop, kind.stop_steps)
        try:
            kind.wait_until_ready(server, port)
        except ServerExited:
            if tries_left == 0 or is_free(port):
                raise
        else:
            return kind.url(port), server
    raise AssertionError("the last try returns or raises")


def _take_locks(home: Home, stack: ExitStack) -> int:
    """Two locks: the owner's tells a living rival at once; the servers' is passed on to them and outlives a killed
    parent for exactly as long as they do, so that no second server ever opens the same files.
    """
    owner = take_lock(home.path / "owner.lock")
    if owner is None:
        raise DataDirectoryBusy(f"another paynode runs its servers on {home.path}: stop it, or set PAYNODE_DATA_DIR")
    stack.callback(os.close, owner)
    servers = take_lock(home.path / "servers.lock", wait_s=_ORPHANS_WAIT_S)
    if servers is None:
        raise DataDirectoryBusy(
            f"servers of a paynode that is gone still run on {home.path}: see its logs, and stop them"
        )
    stack.callback(os.close, servers)
    return servers
