"""TCP ports on this machine."""

from __future__ import annotations

import socket
from pathlib import Path

from paynode.embedded.accounts import Account
from paynode.embedded.files import write_private

LOOPBACK = "127.0.0.1"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(_family(host)) as probe:
        # As servers do: without it a port whose last connections still linger would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = LOOPBACK) -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def remembered_port(path: Path, owner: Account) -> int:
    """The port noted in this file while it is free, else a new one, noted for the next time.

    The same port over restarts, because people keep it in their tools.
    """
    try:
        port = int(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        port = 0
    if port and is_free(port):
        return port
    port = free_port()
    write_private(path, f"{port}\n", owner)
    return port


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
