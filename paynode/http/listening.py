"""Taking in connections: all that wait, each time the event loop comes by.

The servers of uvloop take one at a time (libuv does, since 1.45). Under load the loop comes by ten times a second, and
of 900 newcomers at once the last waited 8 s before anybody read what they asked.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Final

# Connections the kernel completes while the loop is busy; beyond it clients wait a second and try again.
_BACKLOG: Final = 1024
# What accept() says when descriptors or memory are used up, and seconds until it is asked again: it would say so in a
# circle. asyncio's own servers do the same.
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE_S: Final = 1.0

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


@asynccontextmanager
async def listening(factory: ProtocolFactory, host: str, port: int, *, is_shared: bool = False) -> AsyncIterator[int]:
    """Listen until the end of the block, at every address of the host; the port of the first.

    Where it `is_shared`, other processes may listen there too, and the kernel divides what comes. At the end only the
    door is shut: the connections are others' to end.

    Raises: OSError.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as stack:
        places = [
            stack.enter_context(socket.create_server(address, family=family, backlog=_BACKLOG, reuse_port=is_shared))
            for family, *_, address in dict.fromkeys(found)
        ]
        for place in places:
            listener = Listener(place, factory, loop)
            stack.callback(listener.stop)
            listener.start()
        bound_port: int = places[0].getsockname()[1]
        yield bound_port


class Listener:
    """One listening socket."""

    def __init__(self, place: socket.socket, factory: ProtocolFactory, loop: asyncio.AbstractEventLoop) -> None:
        place.setblocking(False)
        self._place = place
        self._factory = factory
        self._loop = loop
        self._coming: set[asyncio.Task[None]] = set()
        self._resumed: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Take in who waits and who comes."""
        self._resumed = None
        self._loop.add_reader(self._place, self._take_all)

    def stop(self) -> None:
        """Take in nobody any longer."""
        if self._resumed is not None:
            self._resumed.cancel()
        self._loop.remove_reader(self._place)

    def _take_all(self) -> None:
        for _ in range(_BACKLOG):
            try:
                connection, _ = self._place.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause()
                return  # nobody is left, or one who came has gone again
            self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        task = self._loop.create_task(self._enter(connection))
        self._coming.add(task)  # the loop itself remembers tasks only weakly
        task.add_done_callback(self._coming.discard)

    async def _enter(self, connection: socket.socket) -> None:
        with suppress(OSError):  # it has gone again
            await self._loop.connect_accepted_socket(self._factory, connection)

    def _pause(self) -> None:
        self._loop.remove_reader(self._place)
        self._resumed = self._loop.call_later(_PAUSE_S, self.start)
