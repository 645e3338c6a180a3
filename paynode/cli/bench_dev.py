"""A whole paynode of a benchmark's own: `paynode dev` in a temporary directory, at ports that nobody has."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import click
import orjson

from paynode.config import Settings, with_development

# Seconds that `dev` has to stop, which are ten, and some.
_STOP_S: Final = 15.0
_READY: Final = b"ready "


@contextmanager
def developed(settings: Settings) -> Iterator[Settings]:
    """The settings by which it is reached; it is stopped and its data are thrown away at the end.

    Raises: ClickException when it does not start.
    """
    directory = Path(tempfile.mkdtemp(prefix="paynode-bench-"))
    directory.chmod(0o755)  # the servers may run as another user
    data_dir = directory / "paynode"
    try:
        with _running(data_dir):
            yield _reaching(settings, data_dir)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _running(data_dir: Path) -> Iterator[None]:
    kept = {name: value for name, value in os.environ.items() if name not in _SERVERS}
    process = subprocess.Popen(
        [sys.executable, "-m", "paynode", "dev"],
        env={**kept, "PAYNODE_DATA_DIR": str(data_dir), "PAYNODE_HTTP__PORT": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        if not any(line.startswith(_READY) for line in process.stdout):
            raise click.ClickException("`paynode dev` did not start: see what it says by itself")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        _await_end(process)


# It starts servers of its own, whatever others the benchmark was told of.
_SERVERS: Final = frozenset({"PAYNODE_DATABASE__URL", "PAYNODE_REDIS__URL"})


def _await_end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.communicate(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _reaching(settings: Settings, data_dir: Path) -> Settings:
    running = orjson.loads((data_dir / "dev.json").read_bytes())
    no_servers = {
        "data_dir": data_dir,
        "http": settings.http.model_copy(update={"port": urlsplit(running["url"]).port, "public_url": ""}),
        "psp": {**settings.psp, "sim": settings.psp["sim"].model_copy(update={"url": running["psp_url"]})},
        "database": settings.database.model_copy(update={"url": ""}),
        "redis": settings.redis.model_copy(update={"url": ""}),
    }
    return with_development(settings.model_copy(update=no_servers))
