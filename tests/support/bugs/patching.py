"""Putting a function in the place of another; what has been renamed meanwhile is noticed at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

Method: TypeAlias = Callable[..., Awaitable[Any]]


def wrap(owner: Any, name: str, make: Callable[[Method], Method]) -> None:
    """Replace an async function of a class or module by what `make` makes of it."""
    original = getattr(owner, name)
    setattr(owner, name, make(original))


def crash() -> None:
    """End this process as kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)
