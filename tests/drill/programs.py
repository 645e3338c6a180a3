"""The programs that a drill needs and paynode does not bring, and running them as the user of the database."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paynode.embedded.home import Home
from paynode.embedded.spawning import clean_environment, dying_with_parent

_DEBIAN: Final = Path("/usr/lib/postgresql")


class ProgramsMissing(Exception):
    """The drill cannot be run here; the message says what is missing and how it comes here."""


class ProgramFailed(Exception):
    """A program ended with another status than 0; the message is what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """`pgbackrest`, and the directory of `postgres` and `initdb`."""

    pgbackrest: Path
    postgres: Path


def find(postgres: Path | None = None) -> Programs:
    """Where they are: pgBackRest on PATH; PostgreSQL where it was told, else the newest of Debian's.

    Not the wheel that `paynode dev` runs: its major version is newer than what Debian's pgBackRest reads.
    Raises: ProgramsMissing.
    """
    pgbackrest, directory = shutil.which("pgbackrest"), postgres or _newest()
    missing = [
        *([] if pgbackrest else ["pgbackrest"]),
        *([] if directory and (directory / "initdb").is_file() else ["postgresql"]),
    ]
    if pgbackrest is None or directory is None or missing:
        raise ProgramsMissing(f"{' and '.join(missing)} missing; as root: apt-get install {' '.join(missing)}")
    return Programs(pgbackrest=Path(pgbackrest), postgres=directory)


def _newest() -> Path | None:
    found = [path for path in _DEBIAN.glob("*/bin") if re.fullmatch(r"\d+", path.parent.name)]
    return max(found, key=lambda path: int(path.parent.name), default=None)


async def run(argv: Sequence[str], home: Home, *, seconds: float) -> str:
    """What a program prints that runs as the user of the servers; others may go on meanwhile.

    Raises: ProgramFailed, also when it has not ended after so many seconds.
    """
    account = home.account
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=home.path,
        env=clean_environment(),
        start_new_session=True,
        user=account.uid if account.is_other else None,
        group=account.gid if account.is_other else None,
        extra_groups=() if account.is_other else None,
        preexec_fn=dying_with_parent(signal.SIGTERM),
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), seconds)
    except BaseException as error:
        process.terminate()
        await process.wait()
        if isinstance(error, TimeoutError):
            raise ProgramFailed(f"{' '.join(argv)} had not ended after {seconds:g} s") from error
        raise
    if process.returncode != 0:
        said = (err + out).decode(errors="replace").strip()
        raise ProgramFailed(f"{' '.join(argv)} ended with status {process.returncode}:\n{said}")
    return out.decode()
