"""Running `holder` as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    process: subprocess.Popen[str]
    database_url: str
    redis_url: str
    pids: Mapping[str, int]


@contextmanager
def starting(data_dir: Path, *arguments: str, path: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """A holder that has only begun to start its servers; `path` is looked through for wheels first."""
    places = [str(place) for place in (path, _ROOT) if place]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.embedded.holder", str(data_dir), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
    ) as process:
        yield process
        # Leaving ends its standard input, on which it stops the servers.


@contextmanager
def holding(data_dir: Path, *arguments: str, path: Path | None = None) -> Iterator[Held]:
    """Servers held by another process."""
    with starting(data_dir, *arguments, path=path) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the holder ended before its servers were up"
        yield Held(process=process, **json.loads(line))
