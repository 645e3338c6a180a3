"""Copies of a wheel's programs for a user who cannot read the wheel itself."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from paynode.embedded.home import Home


def readable_copy(program: Path, wheel: str, home: Home) -> Path:
    """The program's twin below the servers' directory, copied together with the libraries it loads.

    The libraries of a repaired wheel lie in `<wheel>.libs` beside the package and are found relative to the
    program, so both are copied into one directory.
    """
    site = _site_of(program, wheel)
    state = program.stat()
    # A newer wheel has another size or time, and gets a copy of its own.
    place = home.path / "programs" / f"{wheel}-{state.st_size}-{state.st_mtime_ns}"
    if not place.exists():
        _copy(site, wheel, place)
    return place / program.relative_to(site)


def _site_of(program: Path, wheel: str) -> Path:
    return next(parent.parent for parent in program.parents if parent.name == wheel)


def _copy(site: Path, wheel: str, place: Path) -> None:
    place.parent.mkdir(exist_ok=True)
    place.parent.chmod(0o755)  # whatever our umask took away
    draft = Path(tempfile.mkdtemp(prefix=".copy-", dir=place.parent))
    for name in (wheel, f"{wheel}.libs"):
        if (site / name).is_dir():
            shutil.copytree(site / name, draft / name, ignore=shutil.ignore_patterns("include", "*.py", "*.pyc"))
    for path in _all_of(draft):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    draft.rename(place)  # in one step: a start that was cut off leaves no half of a copy that looks whole


def _all_of(directory: Path) -> Iterator[Path]:
    yield directory
    yield from directory.rglob("*")
