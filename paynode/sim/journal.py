"""Append-only files of JSON lines: what `append` returned for is on the disk."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import orjson

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 18


class JournalUnusable(Exception):
    """The file is held by another process, damaged in its middle, or a write to it failed before."""


class Journal:
    """One file, one writer.

    Lines that arrive while an fsync runs wait for it and share the next one, so the disk is asked once per
    group and not once per line.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._is_broken = False
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=path.stem)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Take the file for this process alone, and cut off the line that a kill left half written.

        Raises: JournalUnusable when another process has it.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise JournalUnusable(f"{path} is in use by another process") from error
        _cut_torn_line(path, descriptor)
        _sync_directory(path.parent)  # or a crash could forget the name of a file that has content
        return cls(path, descriptor)

    def lines(self) -> Iterator[dict[str, object]]:
        """What the file holds, oldest first; read it before the first `append`."""
        with self._path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise JournalUnusable(f"{self._path} line {number} is not JSON: {error}") from error
                if not isinstance(record, dict):
                    raise JournalUnusable(f"{self._path} line {number} is not an object")
                yield record

    async def append(self, record: dict[str, object]) -> None:
        """Write one line; it is on the disk when this returns.

        Raises: JournalUnusable; then the line may or may not be there, which the next start finds out.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((orjson.dumps(record) + b"\n", done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await done

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes of all lines that are on the disk by now."""
        position, end = 0, self._size
        while position < end:
            size = min(_CHUNK_BYTES, end - position)
            chunk = await asyncio.to_thread(os.pread, self._descriptor, size, position)
            position += len(chunk)
            yield chunk

    async def close(self) -> None:
        if self._flushing is not None:
            await self._flushing
        self._thread.shutdown()
        os.close(self._descriptor)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            data = b"".join(line for line, _ in group)
            failure: OSError | None = None
            try:
                await loop.run_in_executor(self._thread, self._write, data)
            except OSError as error:
                log.exception("%s cannot be written; nothing more will be until a restart", self._path)
                failure = error
            for _, done in group:
                if done.done():  # its caller has gone
                    continue
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(JournalUnusable(str(failure)))
        self._flushing = None

    def _write(self, data: bytes) -> None:
        if self._is_broken:
            raise OSError(f"{self._path} failed before")
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except OSError:
            # After a failed fsync nobody can say what the disk holds; only reading it back at start can.
            self._is_broken = True
            raise
        self._size += len(data)


def _cut_torn_line(path: Path, descriptor: int) -> None:
    end = os.fstat(descriptor).st_size
    keep, position = 0, end
    while position > 0:
        start = max(0, position - _CHUNK_BYTES)
        newline = os.pread(descriptor, position - start, start).rfind(b"\n")
        if newline >= 0:
            keep = start + newline + 1
            break
        position = start
    if keep == end:
        return
    torn = os.pread(descriptor, min(end - keep, 200), keep)
    log.error("%s: cut off %d bytes of a torn last line: %r", path, end - keep, torn)
    os.ftruncate(descriptor, keep)
    os.fsync(descriptor)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
