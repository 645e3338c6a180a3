"""Servers of one run alone, which may be killed and started again; their ports stay the same."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

from paynode.embedded.servers import Servers

_ELSEWHERE = "not-started"


class OwnServer:
    """PostgreSQL or Valkey. To be used in the main thread: a server ends with the thread that started it."""

    def __init__(self, directory: Path, name: str) -> None:
        """`name` is `postgres` or `valkey`."""
        self._directory = directory / name
        self._directory.mkdir(exist_ok=True)
        self._name = name
        self._stack = ExitStack()
        self.url = ""
        self.pid = 0

    def start(self) -> str:
        """Start it, on the data that there are; its URL."""
        urls = {"redis_url": _ELSEWHERE} if self._name == "postgres" else {"database_url": _ELSEWHERE}
        running = self._stack.enter_context(Servers(self._directory, **urls))
        self.url = running.database_url if self._name == "postgres" else running.redis_url
        self.pid = running.servers[self._name].pid
        return self.url

    def stop(self) -> None:
        """Stop it as its supervisor would; may be called twice."""
        self._stack.close()

    def kill(self) -> None:
        """kill -9. PostgreSQL's children see it and leave; the next start waits for them."""
        os.kill(self.pid, signal.SIGKILL)
        self._stack.close()

    def stop_at_once(self) -> None:
        """PostgreSQL's immediate stop: no goodbye to anybody, and a recovery at the next start."""
        os.kill(self.pid, signal.SIGQUIT)
        self._stack.close()

    @property
    def log(self) -> str:
        """What it has written."""
        return (self._home / f"{self._name}.log").read_text(errors="replace")

    @property
    def _home(self) -> Path:
        return next(path.parent for path in self._directory.rglob(f"{self._name}.log"))

    def tear_tail(self, share: float) -> int:
        """Cut the end off Valkey's append-only file while it is stopped; the bytes that are gone."""
        [tail] = sorted(self._home.rglob("*.incr.aof"))[-1:]
        size = tail.stat().st_size
        os.truncate(tail, int(size * (1 - share)))
        return size - tail.stat().st_size
