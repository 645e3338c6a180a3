"""Which floor may stand on which: arrows point down, siblings do not touch, one place sees both wings."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Final

from tests.architecture.sources import House, Module

_GROUND: Final = frozenset({"domain", "config", "sections"})

# Besides itself, each floor may import from these. `""` is the package itself, with its version.
MAY_IMPORT: Final[Mapping[str, frozenset[str]]] = {
    "": frozenset(),
    "__main__": frozenset({"cli"}),
    "config": frozenset({"sections"}),
    "sections": frozenset(),
    "domain": frozenset(),
    "runtime": frozenset(),
    "actors": frozenset({"domain", "runtime"}),
    "storage": _GROUND,
    "streams": _GROUND,
    "psp": _GROUND,
    # A wing of its own: it is asked about charges and never for money; a PSP's rules of what was sent are none of its.
    "fraud": _GROUND,
    "observability": _GROUND,
    "embedded": frozenset({"config", "sections"}),
    "http": _GROUND | {"runtime"},
    # They judge and use paynode from outside: what they shared with it, they could not find wrong.
    "sim": frozenset({"config", "sections"}),
    "shop": frozenset({"config", "sections"}),
    # It runs in other services: nothing that knows the settings or the database.
    "client": frozenset({"domain", "streams"}),
    "bench": _GROUND | {"storage", "streams", "client"},
    "cli": _GROUND | {"app", "storage", "embedded", "sim", "shop", "observability", "bench", "client"},
    "app": _GROUND | {"runtime", "actors", "storage", "streams", "psp", "fraud", "observability", "http"},
}

# Libraries of the floors that are not free to choose.
LIBRARIES: Final[Mapping[str, frozenset[str]]] = {
    "domain": frozenset(),
    "runtime": frozenset({"anyio"}),
    "actors": frozenset({"anyio"}),
}

_CURES: Final[Mapping[str, str]] = {
    "domain": "pass what it needs in as a value: the domain decides and fetches nothing",
    "runtime": "the runtime knows no money: put what is about payments into actors/",
    "actors": "say what is needed as a Protocol beside the actor, and hand the adapter in from app/",
    "http": "say what is needed as a Protocol beside the route, and hand the adapter in from app/",
    "sim": "the simulator judges paynode: write down again what it needs",
    "shop": "a shop has nothing but the HTTP API",
}
_CURE: Final = "move what both need down to domain/, or hand it in from app/"


def strangers(house: House) -> Iterator[str]:
    """Imports of a floor that is not below."""
    for module in house:
        allowed = MAY_IMPORT.get(module.floor)
        if allowed is None:
            yield f"{module.name}: the floor `{module.floor}` is new: give it its place in {__name__}.MAY_IMPORT"
            continue
        for one in module.imports:
            target = Module(house.resolve(one.target), "").floor
            if one.top == "paynode" and target not in {*allowed, module.floor, ""}:
                cure = _CURES.get(module.floor, _CURE)
                yield f"{module.name}:{one.line} imports {one.target}, which is not below it: {cure}"


def libraries(house: House) -> Iterator[str]:
    """Libraries on a floor that must do without."""
    for module in house:
        allowed = LIBRARIES.get(module.floor)
        if allowed is None:
            continue
        for one in module.imports:
            if one.top not in {*allowed, "paynode"} and one.top not in sys.stdlib_module_names:
                cure = _CURES[module.floor]
                yield f"{module.name}:{one.line} imports the library {one.top}, and may not: {cure}"


def cycles(house: House) -> Iterator[str]:
    """Modules that need each other to be understood."""
    arrows = {
        module.name: {house.resolve(one.target) for one in module.imports if one.top == "paynode"} - {module.name}
        for module in house
    }
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> Iterator[str]:
        if name in path:
            circle = " -> ".join([*path[path.index(name) :], name])
            yield f"{circle}: a circle; move what they share into a module below both"
        elif name not in done:
            for target in sorted(arrows.get(name, ())):
                yield from walk(target, (*path, name))
            done.add(name)

    for name in arrows:
        yield from walk(name, ())
