"""Files that are there whole or not at all, and that stay."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self


class Draft:
    """A file that nobody sees before it is kept; what is not kept by the end is gone."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        descriptor, name = tempfile.mkstemp(dir=directory, prefix=".draft-")  # made with mode 0600
        self._path = Path(name)
        self.file: BinaryIO = os.fdopen(descriptor, "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        self._path.unlink(missing_ok=True)

    def keep(self, name: str, *, mode: int = 0o600) -> bool:
        """Give the file its name, durably; says no, and leaves what is there, when something has that name already.

        A hard link is refused when its target exists: of several processes one writes the file.
        """
        self.file.flush()
        os.fchmod(self.file.fileno(), mode)
        os.fsync(self.file.fileno())
        try:
            os.link(self._path, self._directory / name)
        except FileExistsError:
            return False
        sync_directory(self._directory)
        return True


def create(path: Path, content: bytes, *, mode: int = 0o600) -> bool:
    """Write a small file; says no when there is one already. Raises: OSError."""
    with Draft(path.parent) as draft:
        draft.file.write(content)
        return draft.keep(path.name, mode=mode)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory last: a file may be on the disk, and its name not yet."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
