"""A primary and its synchronous standby, each a server of its own: stopped, promoted and started again by tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from paynode.embedded.binaries import find_postgres
from paynode.embedded.files import write_private
from paynode.embedded.home import open_home
from paynode.embedded.locks import lock as take_lock
from paynode.embedded.servers import Servers
from paynode.embedded.spawning import Server, run_to_end
from tests.support.directories import open_directory
from tests.support.pids import with_children

# The name by which the primary knows its standby.
_STANDBY = "standby"
_BACKUP_S = 60.0


class Node:
    """One PostgreSQL. Its port and its data stay the same over stops and starts."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._stack = ExitStack()
        self._server: Server | None = None
        self.url = ""

    def start(self) -> str:
        """Start it, and wait until it takes connections; its URL."""
        # Not in a thread: the server ends with the thread that started it.
        running = self._stack.enter_context(Servers(self._data_dir, redis_url="redis://not-started"))
        self.url, self._server = running.database_url, running.servers["postgres"]
        return self.url

    def stop(self) -> None:
        """A fast stop: sessions are ended, and what they had committed is written."""
        self._stack.close()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the postmaster without a goodbye: SIGKILL, or SIGQUIT for an immediate stop."""
        assert self._server is not None
        os.kill(self._server.pid, number)
        self._stack.close()  # waits for its end

    def pause(self, number: signal.Signals = signal.SIGSTOP) -> None:
        """Stop or continue the server with all its sessions: nothing is closed, and nobody answers."""
        assert self._server is not None
        for process in with_children([self._server.pid]):  # each session is a process of its own
            os.kill(process.pid, number)

    def resume(self) -> None:
        """Let it go on where it stood."""
        self.pause(signal.SIGCONT)

    @property
    def log(self) -> str:
        """What it has written about this run."""
        assert self._server is not None
        return self._server.log.read_text("utf-8", errors="replace")

    async def ask(self, statement: str) -> object:
        """Something that only an administrator asks, of this server and no other."""
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async def alter(self, setting: str, value: str) -> None:
        """ALTER SYSTEM; in force when this returns."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()


class Pair(Node):
    """A primary, with a standby that has every commit before anybody hears of it."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "primary")
        self._directory = directory
        self.standby = Node(directory / _STANDBY)
        self.home = directory / "home"  # a data directory for paynode itself

    async def begin(self) -> str:
        """Start both; the URL that names both, the primary first."""
        self.start()
        self._back_up()
        self.standby.start()
        await self.alter("synchronous_standby_names", _STANDBY)
        return self.both

    @property
    def both(self) -> str:
        """The URL with the list of hosts."""
        primary, standby = urlsplit(self.url), urlsplit(self.standby.url)
        return urlunsplit(primary._replace(netloc=f"{primary.netloc},{standby.netloc.rpartition('@')[2]}"))

    async def promote(self) -> None:
        """Make the standby a primary that waits for nobody: an operator's two steps."""
        await self.standby.alter("synchronous_standby_names", "")
        assert await self.standby.ask("SELECT pg_promote()")

    def _back_up(self) -> None:
        """Copy the primary's data, as `pg_basebackup` does it, to where the standby will start."""
        source, home = open_home(self._directory / "primary"), open_home(self._directory / _STANDBY)
        secret = (source.path / "postgres.password").read_text("utf-8")
        write_private(home.path / "postgres.password", secret, home.account)  # the roles are the same, so is its word
        lock = take_lock(home.path / "servers.lock")
        assert lock is not None
        try:
            argv = [
                str(find_postgres(home).with_name("pg_basebackup")),
                f"--dbname={self.url}?application_name={_STANDBY}",
                f"--pgdata={home.make_directory('postgres')}",
                "--write-recovery-conf",
                "--checkpoint=fast",
            ]
            run_to_end(argv, home, lock=lock, seconds=_BACKUP_S)
        finally:
            os.close(lock)


@contextmanager
def pair() -> Iterator[Pair]:
    """A pair that is not started yet; whatever runs of it at the end is stopped."""
    with open_directory() as directory:
        made = Pair(directory)
        try:
            yield made
        finally:
            made.standby.stop()
            made.stop()
