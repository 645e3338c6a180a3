"""The embedded PostgreSQL: made at the first start, listening on 127.0.0.1 alone, never without fsync."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

from paynode.embedded.binaries import find_postgres
from paynode.embedded.files import password
from paynode.embedded.home import Home
from paynode.embedded.ports import LOOPBACK
from paynode.embedded.spawning import Server, run_to_end

NAME = "postgres"
USER = DATABASE = "paynode"
# A fast stop ends the sessions and writes a checkpoint; where the disk is too slow for that, an immediate stop leaves
# the rest to the recovery of the next start. The seconds belong to the ten in which all of `paynode dev` stops.
STOP_STEPS = ((signal.SIGINT, 1.5), (signal.SIGQUIT, 5.0))
# Recovery after a crash can take its time; a first start is ready within a second.
READY_S = 60.0
_INITDB_S = 120.0

# Room for a pool of every process and for what tests open beside them.
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a socket's path may have 107 bytes, and data directories are often deeper
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "logging_collector": "off",
}


class Postgres:
    """The database server of one home."""

    name = NAME
    stop_steps = STOP_STEPS

    def __init__(self, home: Home) -> None:
        self._home = home
        self._data = home.path / "postgres"
        self._password = home.path / "postgres.password"

    def prepare(self, lock: int) -> Path:
        """Find the program, and make the database if there is none."""
        version = self._data / "PG_VERSION"
        # Data cannot be opened by another major version than the one that wrote them.
        major = int(version.read_text(encoding="utf-8")) if version.exists() else None
        program = find_postgres(self._home, major)
        if major is None:
            self._initialise(program, lock)
        return program

    def launch(self, program: Path, port: int, lock: int) -> Server:
        settings = _SETTINGS | {"port": str(port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        argv = [str(program), "-D", str(self._data), *options]
        # SIGINT is PostgreSQL's fast stop; SIGTERM would wait for the clients to leave.
        return Server(self.name, argv, self._home, lock=lock, death_signal=signal.SIGINT)

    def wait_until_ready(self, server: Server, port: int) -> None:
        """Line 8 of postmaster.pid is the server's own word on it, line 1 that the word is this server's."""
        pid_file = self._data / "postmaster.pid"

        def is_ready() -> bool:
            try:
                lines = pid_file.read_text(encoding="utf-8").splitlines()
            except FileNotFoundError:
                return False
            return len(lines) >= 8 and lines[0] == str(server.pid) and lines[7].strip() == "ready"

        server.wait_until_ready(is_ready, seconds=READY_S)

    def url(self, port: int) -> str:
        secret = password(self._password, self._home.account)
        return f"postgresql://{USER}:{secret}@{LOOPBACK}:{port}/{DATABASE}"

    def _initialise(self, program: Path, lock: int) -> None:
        """Make the data aside and move them into place when they are whole."""
        shutil.rmtree(self._home.path / "postgres.new", ignore_errors=True)
        draft = self._home.make_directory("postgres.new")
        password(self._password, self._home.account)
        initdb = [
            str(program.with_name("initdb")),
            f"--pgdata={draft}",
            f"--username={USER}",
            f"--pwfile={self._password}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",  # the same order of texts on every machine
            "--data-checksums",
        ]
        run_to_end(initdb, self._home, lock=lock, seconds=_INITDB_S)
        # The single-user mode needs neither a port nor a client.
        single = [str(program), "--single", "-D", str(draft), "postgres"]
        run_to_end(single, self._home, f"CREATE DATABASE {DATABASE};\n", lock=lock, seconds=_INITDB_S)
        draft.rename(self._data)
