"""The domain is pure: no waiting, no clock, no chance, no fractions. The same facts give the same books for ever."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Final

from tests.architecture.sources import Module

# Modules of the standard library that bring the world in.
_WORLDLY: Final = frozenset(
    {
        *("asyncio", "concurrent", "multiprocessing", "queue", "select", "signal", "subprocess", "threading"),
        *("http", "io", "logging", "os", "pathlib", "shelve", "socket", "sqlite3", "ssl", "sys", "tempfile", "urllib"),
        *("locale", "random", "secrets", "time", "warnings"),
        *("decimal", "fractions"),  # money is integers
    }
)
# Names that fetch the time or make an id, whatever they are called on.
_FETCHING: Final = frozenset(
    {"now", "utcnow", "today", "fromtimestamp", "utcfromtimestamp", *(f"uuid{version}" for version in range(1, 9))}
)
_BUILTINS: Final = frozenset({"open", "print", "input", "hash", "id", "round"})
_REASONS: Final[Mapping[str, str]] = {
    "hash": "it differs in every process",
    "round": "it rounds half to even and makes floats of floats",
}


def waiting(module: Module) -> Iterator[str]:
    for node in module.nodes:
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield f"{module.name}:{node.lineno} waits: the domain never does; let an actor fetch it first"


def the_world(module: Module) -> Iterator[str]:
    for one in module.imports:
        if one.top in _WORLDLY:
            yield f"{module.name}:{one.line} imports {one.top}: pass what it gives in as a value (`Surroundings`)"
    for node in module.nodes:
        if isinstance(node, ast.Attribute) and node.attr in _FETCHING:
            yield f"{module.name}:{node.lineno} .{node.attr}: times and ids are handed in (`Surroundings`)"
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in _BUILTINS:
            reason = _REASONS.get(node.id, "the domain does no I/O")
            # An id is a common name: only the call of the builtin fetches anything.
            if node.id != "id" or _is_called(module, node):
                yield f"{module.name}:{node.lineno} {node.id}(): {reason}"
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if alias.name in _FETCHING:
                    yield f"{module.name}:{node.lineno} {alias.name}: times and ids are handed in (`Surroundings`)"


def fractions(module: Module) -> Iterator[str]:
    """Money is integers. A float may only be a time in seconds, and then its name says so: `…_s`."""
    durations = set(_annotations_of_durations(module))
    for node in module.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield f"{module.name}:{node.lineno} {node.value}: count in minor units or milliseconds"
        if isinstance(node, ast.Name) and node.id == "float" and node not in durations:
            yield f"{module.name}:{node.lineno} float: an int of minor units; for a time, a name that ends in _s"
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield f"{module.name}:{node.lineno} /: use // and say which way it rounds"


def _annotations_of_durations(module: Module) -> Iterator[ast.AST]:
    for node in module.nodes:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation) if name.endswith("_s"):
                yield from ast.walk(annotation)
            case ast.arg(arg=name, annotation=annotation) if annotation is not None and name.endswith("_s"):
                yield from ast.walk(annotation)


def _is_called(module: Module, name: ast.Name) -> bool:
    return any(isinstance(node, ast.Call) and node.func is name for node in module.nodes)


ALL: Final = (waiting, the_world, fractions)
