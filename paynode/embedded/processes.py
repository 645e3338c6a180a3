"""paynode's own processes under `paynode dev`: started, listened to, stopped together."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio
from anyio.abc import TaskGroup

from paynode.embedded.files import open_log
from paynode.embedded.output import Output
from paynode.embedded.spawning import dying_with_parent

# The line by which a process that serves no port tells on its standard output that it is up.
READY = "ready"
_TAIL_LINES = 20
# Lines of standard output that are kept: verbs answer with one.
_SAID_LINES = 1000
_CHUNK_BYTES = 65_536
# Seconds to read the last words of a process that has ended; a grandchild may hold its pipe open.
_LAST_WORDS_S = 1.0


class ProcessFailed(Exception):
    """A process ended that should not have, or did not come up."""

    def __init__(self, name: str, reason: str, tail: Sequence[str], status: int | None = None) -> None:
        lines = "".join(f"\n  {line}" for line in tail)
        super().__init__(f"{name} {reason}" + (f"; its last words:{lines}" if lines else ""))
        self.status = status


class Child:
    """One process and what it said."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path, output: Output) -> None:
        self.name = name
        self.is_ready = anyio.Event()
        self._process = process
        self._log = log
        self._output = output
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._said: deque[str] = deque(maxlen=_SAID_LINES)
        self._is_drained = anyio.Event()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_exited(self) -> bool:
        return self._process.returncode is not None

    async def exited(self) -> int:
        """Its exit status, when it has ended and its last words were read."""
        status = await self._process.wait()
        with anyio.move_on_after(_LAST_WORDS_S):
            await self._is_drained.wait()
        return status

    def failed(self, reason: str, status: int | None = None) -> ProcessFailed:
        return ProcessFailed(self.name, reason, tuple(self._tail), status)

    def said(self) -> str:
        """Its standard output."""
        return "\n".join(self._said)

    def send(self, number: signal.Signals) -> None:
        if not self.has_exited:
            self._process.send_signal(number)

    async def listen(self) -> None:
        """Read both its outputs to their ends.

        Standard error goes into the log and, line by line, to the terminal. Standard output carries `ready` and
        answers, an API key among them, and goes nowhere else.
        """
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        with open_log(self._log) as log:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_read_lines, self._process.stdout, self._hear_answer)
                tasks.start_soon(_read_lines, self._process.stderr, self._hear, log.write)
        self._is_drained.set()

    def _hear_answer(self, line: str) -> None:
        if line == READY:
            self.is_ready.set()
        self._said.append(line)

    def _hear(self, line: str) -> None:
        self._tail.append(line)
        self._output.tell(self.name, line)


async def _read_lines(
    stream: asyncio.StreamReader,
    hear: Callable[[str], None],
    keep: Callable[[bytes], object] | None = None,
) -> None:
    rest = b""
    while chunk := await stream.read(_CHUNK_BYTES):
        if keep is not None:
            keep(chunk)
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            hear(line.decode(errors="replace"))
        if len(rest) >= _CHUNK_BYTES:  # a line without an end is none that people read
            hear(rest.decode(errors="replace"))
            rest = b""
    if rest:
        hear(rest.decode(errors="replace"))


class Processes:
    """All processes of one run; `listening` is the task group that reads what they say until the last has ended."""

    def __init__(self, log_dir: Path, environment: Mapping[str, str], output: Output, listening: TaskGroup) -> None:
        log_dir.mkdir(exist_ok=True)
        self._log_dir = log_dir
        # A line that a process prints is wanted when it prints it, not when its buffer is full.
        self._environment = {**environment, "PYTHONUNBUFFERED": "1"}
        self._output = output
        self._listening = listening
        self._children: list[Child] = []

    async def start(self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> Child:
        """Start one, with these variables besides those of all."""
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self._environment, **(environment or {})},
            start_new_session=True,
            # Whoever kills us without warning wants nothing left; paynode's processes bear being killed.
            preexec_fn=dying_with_parent(signal.SIGKILL),
        )
        child = Child(name, process, self._log_dir / f"{name}.log", self._output)
        self._children.append(child)
        self._listening.start_soon(child.listen)
        return child

    async def run(self, name: str, argv: Sequence[str]) -> str:
        """What a short-lived process prints. Raises: ProcessFailed when it ends with another status than 0."""
        child = await self.start(name, argv)
        status = await child.exited()
        if status != os.EX_OK:
            raise child.failed(f"ended with status {status}", status)
        return child.said()

    async def stop(self, *, grace_s: float, at_once: anyio.Event) -> None:
        """Ask all of them to end; after the grace, or when `at_once` is set, kill those that have not."""
        for child in self._children:
            child.send(signal.SIGTERM)
        with anyio.move_on_after(grace_s):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cancel_when, at_once, tasks.cancel_scope)
                for child in self._children:
                    await child.exited()
                tasks.cancel_scope.cancel()
        for child in self._children:
            if not child.has_exited:
                self._output.tell("dev", f"{child.name} did not stop in time and was killed")
                child.send(signal.SIGKILL)
                await child.exited()


async def cancel_when(event: anyio.Event, scope: anyio.CancelScope) -> None:
    """Cancel what runs in the scope when the event is set."""
    await event.wait()
    scope.cancel()
