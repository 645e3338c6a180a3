"""A PostgreSQL that archives its WAL, to be lost and to be restored in its place."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from typing import Final

import asyncpg

from paynode.embedded.files import password
from paynode.embedded.home import Home
from paynode.embedded.locks import lock as take_lock
from paynode.embedded.ports import LOOPBACK, free_port
from paynode.embedded.spawning import Server, run_to_end
from tests.drill.programs import Programs
from tests.support.pids import wait_until_gone, with_children

_USER: Final = "paynode"
_INITDB_S: Final = 60.0
# The recovery fetches every segment by a process of its own.
_READY_S: Final = 120.0
_STOP_STEPS: Final = ((signal.SIGINT, 5.0), (signal.SIGQUIT, 10.0))

# What pgBackRest needs of a role that may not do anything else; docs/backups.md has the same. In the database
# `postgres`, where it logs in: rights on functions belong to a database.
BACKUP_RIGHTS: Final = """\
CREATE ROLE {role} LOGIN;
GRANT pg_read_all_settings TO {role};
GRANT EXECUTE ON FUNCTION pg_backup_start(text, boolean), pg_backup_stop(boolean), pg_create_restore_point(text),
    pg_switch_wal() TO {role};
"""


class Primary:
    """The server; its port stays the same, whichever data it is started on. To be used in the main thread."""

    def __init__(self, home: Home, programs: Programs, stack: ExitStack) -> None:
        """Make the data; whatever runs when the stack closes is stopped."""
        self._home, self._programs = home, programs
        self._secret = home.path / "postgres.password"
        self._lock = take_lock(home.path / "servers.lock") or os.open(os.devnull, os.O_RDONLY)
        self._server: Server | None = None
        self.port = free_port()
        self.data, self.socket = home.make_directory("data"), home.make_directory("socket")
        stack.callback(os.close, self._lock)
        stack.callback(self.stop)
        self._initialise()

    @property
    def url(self) -> str:
        """The URL of the owner of the schema."""
        return f"postgresql://{_USER}:{password(self._secret, self._home.account)}@{LOOPBACK}:{self.port}/{_USER}"

    @property
    def log(self) -> str:
        """What it has written since it was started last."""
        return self._server.log.read_text("utf-8", errors="replace") if self._server else ""

    def start(self, *, archive_command: str, archive_timeout_s: int) -> None:
        """Start it, and return when it takes connections: after a recovery, if the data are restored."""
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": str(self.socket),
            "max_connections": "200",
            "timezone": "UTC",
            # Nobody comes in before the recovery has ended: what doctor sees until then is older than what is restored.
            "hot_standby": "off",
            "archive_mode": "on",
            "archive_command": archive_command,
            "archive_timeout": str(archive_timeout_s),
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [str(self._programs.postgres / "postgres"), "-D", str(self.data), *options]
        self._server = Server("postgres", argv, self._home, lock=self._lock, death_signal=signal.SIGINT)
        self._server.wait_until_ready(self._is_ready, seconds=_READY_S)

    async def make_backup_role(self) -> None:
        """Let pgBackRest in by the socket, as the user that it runs as."""
        if (role := self._home.account.name) == _USER:
            return
        connection = await asyncpg.connect(self.url.rpartition("/")[0] + "/postgres")
        try:
            await connection.execute(BACKUP_RIGHTS.format(role=f'"{role}"'))
        finally:
            await connection.close()

    def lose(self) -> None:
        """kill -9 of the postmaster and at once of all its children, and the data are gone."""
        assert self._server is not None
        processes = with_children([self._server.pid])
        for process in processes:  # the postmaster is the first
            if process.is_running():
                os.kill(process.pid, signal.SIGKILL)
        self._server.has_exited()
        wait_until_gone(processes)
        self._server = None
        self.data.rename(self._home.path / "lost")
        self.data = self._home.make_directory("data")

    def stop(self) -> None:
        """Stop it if it runs."""
        if self._server is not None:
            self._server.stop(_STOP_STEPS)
            self._server = None

    def _is_ready(self) -> bool:
        """Line 8 of postmaster.pid is `ready`, and `standby` as long as it recovers and lets nobody in."""
        assert self._server is not None
        try:
            lines = (self.data / "postmaster.pid").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self._server.pid) and lines[7].strip() == "ready"

    def _initialise(self) -> None:
        password(self._secret, self._home.account)
        initdb = [
            str(self._programs.postgres / "initdb"),
            f"--pgdata={self.data}",
            f"--username={_USER}",
            f"--pwfile={self._secret}",
            "--auth-host=scram-sha-256",
            "--auth-local=peer",
            "--encoding=UTF8",
            "--locale=C",
            "--data-checksums",
        ]
        run_to_end(initdb, self._home, lock=self._lock, seconds=_INITDB_S)
        single = [str(self._programs.postgres / "postgres"), "--single", "-D", str(self.data), "postgres"]
        run_to_end(single, self._home, f"CREATE DATABASE {_USER};\n", lock=self._lock, seconds=_INITDB_S)
