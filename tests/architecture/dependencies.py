"""What is imported against what is declared: nothing undeclared, nothing declared in vain."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.architecture.sources import House

# Libraries that speak in the interface of another, which chooses their version: declaring them would tie it twice.
_SPOKEN_BY: Final[Mapping[str, str]] = {
    "pydantic-core": "pydantic",
    "multidict": "aiohttp",
    "yarl": "aiohttp",
    "markupsafe": "jinja2",
}

# What others find and use when it is there: hiredis reads the answers for redis, five times as fast.
_USED_BY: Final[Mapping[str, str]] = {"hiredis": "redis"}

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Declared:
    """Distributions by normalized name: of the program, of its extras, of its development."""

    program: frozenset[str]
    extras: frozenset[str]
    development: frozenset[str]


def declared(pyproject: Path) -> Declared:
    content = tomllib.loads(pyproject.read_text())
    project, groups = content["project"], content.get("dependency-groups", {})
    return Declared(
        program=_names(project["dependencies"]),
        extras=_names(one for extra in project.get("optional-dependencies", {}).values() for one in extra),
        development=_names(one for group in groups.values() for one in group),
    )


def undeclared(
    house: House,
    allowed: Iterable[str],
    providers: Mapping[str, Sequence[str]],
    *,
    of_floors: Mapping[str, Iterable[str]] | None = None,
) -> Iterator[str]:
    """Imports of libraries that pyproject does not name. `providers`: import name -> distributions; `of_floors`: what
    some floors may import besides.
    """
    for module in house:
        known = {*allowed, *(of_floors or {}).get(module.floor, ())}
        for one in module.imports:
            if one.top in ("paynode", "tests") or one.top in sys.stdlib_module_names:
                continue
            names = _normalized(providers.get(one.top, [one.top]))
            if not known & {*names, *(_SPOKEN_BY.get(name, name) for name in names)}:
                yield f"{module.name}:{one.line} imports {one.top}: declare it in pyproject.toml, and run scripts/lock"


def unused(house: House, wanted: Iterable[str], providers: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Distributions that pyproject names and no module imports."""
    tops = {one.top for module in house for one in module.imports}
    imported = {name for top in tops for name in _normalized(providers.get(top, [top]))}
    for name in sorted(name for name in set(wanted) - imported if _USED_BY.get(name) not in imported):
        yield f"{name} is declared and never imported: take it out of pyproject.toml, and run scripts/lock"


def _names(requirements: Iterable[str]) -> frozenset[str]:
    return frozenset(_normalized(match[0] for one in requirements if (match := _NAME.match(one))))


def _normalized(names: Iterable[str]) -> list[str]:
    return [re.sub(r"[-_.]+", "-", name).lower() for name in names]
