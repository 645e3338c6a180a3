"""The `paynode` command as a process of its own, as an operator runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from paynode.config import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What it printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


async def paynode(settings: Settings, *arguments: str, environment: Mapping[str, str] | None = None) -> Said:
    """Run a verb on the database and the data directory of these settings."""
    done = await anyio.run_process(
        [sys.executable, "-m", "paynode", *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "PAYNODE_DATA_DIR": str(settings.data_dir),
            "PAYNODE_DATABASE__URL": settings.database.url,
            **(environment or {}),
        },
    )
    return Said(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())
