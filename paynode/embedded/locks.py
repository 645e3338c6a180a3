"""Locks on files: the kernel lets go of them when the last holder of the descriptor is gone, however it died."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from paynode.embedded.files import open_private

_POLL_S = 0.02


def lock(path: Path, *, wait_s: float = 0.0) -> int | None:
    """An open descriptor that holds the file locked; None when another still holds it after `wait_s` seconds.

    A server that was given the descriptor holds the lock on its own from then on.
    """
    descriptor = open_private(path, os.O_RDWR)
    give_up_at = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up_at:
                os.close(descriptor)
                return None
            time.sleep(_POLL_S)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            return descriptor
