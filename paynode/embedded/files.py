"""Small files that hold a secret or that others must never see half written."""

from __future__ import annotations

import os
import secrets
import tempfile
from io import FileIO
from pathlib import Path

from paynode.embedded.accounts import Account


def write_private(path: Path, text: str, owner: Account | None = None) -> None:
    """Replace the file in one step; it is readable by its owner alone (0600) from its first byte on."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    draft = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if owner is not None:
            owner.own(draft)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def open_private(path: Path, flags: int) -> int:
    """A descriptor of the file, made with mode 0600 if it is missing; never that of a file behind a link."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        # In somebody's directory a file of root would lock that user out for good.
        os.fchown(descriptor, path.parent.stat().st_uid, -1)
    return descriptor


def open_log(path: Path) -> FileIO:
    """A new log; that of the last run is kept beside it, for it may hold the reason of a crash."""
    if path.exists():
        path.replace(path.with_suffix(".log.1"))
    return FileIO(open_private(path, os.O_WRONLY | os.O_APPEND | os.O_TRUNC), "wb")


def password(path: Path, owner: Account) -> str:
    """The password kept in this file; the first call makes it."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(24), owner)
    return path.read_text(encoding="utf-8")
