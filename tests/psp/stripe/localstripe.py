"""localstripe, a stateful Stripe that somebody else wrote, as a process of its own: it is GPL and never imported here.

Its own start binds every interface and keeps its state in /tmp; this one binds to loopback and keeps it in memory.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_SERVE: Final = """
import os, socket, sys, threading
from aiohttp import web
from localstripe import resources, server
resources.Store.dump_to_disk = lambda self: None
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
# Whoever started it is gone when its end of the pipe is.
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
web.run_app(server.app, sock=listening, print=None, access_log=None)
"""


@contextmanager
def localstripe() -> Iterator[str]:
    """Its URL while it runs."""
    process = subprocess.Popen([sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        assert port.isdigit(), "localstripe did not start: is it installed? (requirements/test.txt)"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        process.wait(timeout=20)
        process.stdout.close()
