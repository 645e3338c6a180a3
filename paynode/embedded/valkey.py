"""The embedded Valkey (or Redis): every write goes to its append-only file, nothing is ever evicted."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

from paynode.embedded.binaries import find_redis
from paynode.embedded.files import password, write_private
from paynode.embedded.home import Home
from paynode.embedded.ports import LOOPBACK
from paynode.embedded.spawning import Server

NAME = "valkey"
# On SIGTERM it writes what is left and ends; one that needs longer goes on with that after we have reported it.
STOP_STEPS = ((signal.SIGTERM, 2.5),)
READY_S = 60.0

# The password is given in a file, because every user of the machine can read a command line.
_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
daemonize no
dir ./valkey
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


class Valkey:
    """The stream server of one home."""

    name = NAME
    stop_steps = STOP_STEPS

    def __init__(self, home: Home) -> None:
        self._home = home
        self._secret = password(home.path / "valkey.password", home.account)

    def prepare(self, _lock: int) -> Path:
        """Find the program, and make the directory of its data."""
        if not (self._home.path / "valkey").exists():
            self._home.make_directory("valkey")
        return find_redis(self._home)

    def launch(self, program: Path, port: int, lock: int) -> Server:
        configuration = self._home.path / "valkey.conf"
        text = _CONFIGURATION.format(host=LOOPBACK, port=port, password=self._secret)
        write_private(configuration, text, self._home.account)
        return Server(self.name, [str(program), configuration.name], self._home, lock=lock, death_signal=signal.SIGTERM)

    def wait_until_ready(self, server: Server, port: int) -> None:
        server.wait_until_ready(lambda: self._answers_ping(port), seconds=READY_S)

    def url(self, port: int) -> str:
        return f"redis://:{self._secret}@{LOOPBACK}:{port}/0"

    def _answers_ping(self, port: int) -> bool:
        """PONG, not LOADING; and to our password, so that it is not some other server's answer."""
        wanted = b"+OK\r\n+PONG\r\n"
        answer = b""
        try:
            with socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
                connection.sendall(f"AUTH {self._secret}\r\nPING\r\n".encode())
                while len(answer) < len(wanted) and wanted.startswith(answer):
                    received = connection.recv(64)
                    if not received:
                        return False
                    answer += received
        except OSError:
            return False
        return answer == wanted
