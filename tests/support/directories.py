"""Directories for servers that may run as another user than the tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def open_directory() -> Iterator[Path]:
    """One that every user may pass through; pytest's own are closed to all but their owner."""
    directory = Path(tempfile.mkdtemp(prefix="paynode-test-"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        remove(directory)


def remove(data_dir: Path) -> None:
    """Remove a data directory, and the servers' data where they lie elsewhere."""
    for link in data_dir.rglob("servers"):
        if link.is_symlink():
            shutil.rmtree(link.resolve(), ignore_errors=True)
    shutil.rmtree(data_dir, ignore_errors=True)
