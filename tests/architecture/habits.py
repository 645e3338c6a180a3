"""What a module of paynode may look like, whatever it does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Final

from tests.architecture.sources import Module

MODULE_LINES_MAX: Final = 400
MODULE_LINES_ADVISED: Final = 250
FUNCTION_LINES_MAX: Final = 60
PROTOCOL_METHODS_MAX: Final = 5

_NAMELESS: Final = frozenset({"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc", "base"})
_NAMELESS_CLASS: Final = re.compile(r"^Base[A-Z]|(Manager|Helper|Utils)$")

# Where Redis entries are acknowledged, which the feeds alone can do and the actors alone may order.
_ACKNOWLEDGERS: Final = frozenset({"paynode.streams.partition_feed", "paynode.streams.command_feed"})

# What others would write instead of paynode, on streams of their own.
_RIVALS: Final = "paynode.bench.rivals."
# It does what a worker does, in a row, to see how long each thing takes; it commits before.
_TIMED: Final = "paynode.app.stages"

# Where any exception may be caught and not raised again, and why there.
CATCH_ALL: Final[Mapping[str, str]] = {
    "paynode.actors.merchant": "deciding is pure: whatever fails belongs to the one message, which is buried for it",
    "paynode.runtime.grouping": "every kind of failure belongs to the callers, none to the loop",
    "paynode.psp.transport": "whatever a client library raises, the gate knows whether bytes may have left",
    "paynode.http.middleware": "the outermost place of a request: whatever happens is answered",
}

# Floors and modules whose work is to say something on a terminal.
_SPEAKERS: Final = frozenset({"app", "cli", "sim", "shop"})
_SPEAKING_MODULES: Final = frozenset(
    {
        "paynode.embedded.stack",  # the one line that `dev` is waited for by
        "paynode.auditing.verify_export",  # a program of its own, which an auditor runs
    }
)

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def size(module: Module) -> Iterator[str]:
    """Modules and functions that have grown a second noun."""
    if module.length > MODULE_LINES_MAX:
        yield f"{module.name} has {module.length} lines: which second noun has moved in? Give it a module"
    for node in module.nodes:
        if isinstance(node, _Function) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{module.name}:{node.lineno} {node.name} has {lines} lines: it hides a name; find it"


def names(module: Module) -> Iterator[str]:
    """Names that say nothing."""
    if module.name.rpartition(".")[2] in _NAMELESS:
        yield f"{module.name}: name a module for the noun in it, not for being needed twice"
    for node in module.nodes:
        if isinstance(node, ast.ClassDef) and _NAMELESS_CLASS.search(node.name):
            yield f"{module.name}:{node.lineno} {node.name}: say what it is, not that it is one"


def type_checking(module: Module) -> Iterator[str]:
    """Imports that exist for the type checker only: a circle in disguise."""
    for node in module.nodes:
        is_name = isinstance(node, ast.Name) and node.id == "TYPE_CHECKING"
        is_attribute = isinstance(node, ast.Attribute) and node.attr == "TYPE_CHECKING"
        if isinstance(node, ast.expr) and (is_name or is_attribute):
            yield f"{module.name}:{node.lineno} TYPE_CHECKING: the arrow points up; turn it by a Protocol"


def acknowledging(module: Module) -> Iterator[str]:
    """An entry is acknowledged in one place, after the commit."""
    for node in module.nodes:
        is_call = isinstance(node, ast.Attribute) and node.attr in ("xack", "xackdel")
        is_word = isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.upper() == "XACK"
        is_allowed = module.name in _ACKNOWLEDGERS or module.name.startswith(_RIVALS)
        if isinstance(node, ast.expr) and (is_call or is_word) and not is_allowed:
            yield f"{module.name}:{node.lineno} XACK: only the feeds do it; call `acknowledge` of one, after the commit"
        is_order = (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "acknowledge"
        )
        if isinstance(node, ast.expr) and is_order and module.floor != "actors" and module.name != _TIMED:
            yield f"{module.name}:{node.lineno} acknowledges: only actors know what is committed"


def catching_all(module: Module) -> Iterator[str]:
    """A handler for everything, which hides what it does not know."""
    for node in module.nodes:
        if not isinstance(node, ast.ExceptHandler) or module.name in CATCH_ALL:
            continue
        is_for_all = node.type is None or any(
            isinstance(one, ast.Name) and one.id in ("Exception", "BaseException") for one in ast.walk(node.type)
        )
        raises_again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
        if is_for_all and not raises_again:
            yield (
                f"{module.name}:{node.lineno} catches everything: name a branch of the error tree (Rejected, "
                "Transient, Poison), translate the library's errors at its edge, or raise again"
            )


def printing(module: Module) -> Iterator[str]:
    """A print where nobody reads."""
    if module.floor in _SPEAKERS or module.name in _SPEAKING_MODULES:
        return
    for node in module.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{module.name}:{node.lineno} prints: tell an observer a typed fact instead"


def protocols(module: Module) -> Iterator[str]:
    """A Protocol that asks for too much to be written twice."""
    for node in module.nodes:
        if not isinstance(node, ast.ClassDef) or not any(_is_protocol(base) for base in node.bases):
            continue
        methods = [member.name for member in node.body if isinstance(member, _Function) and not _is_property(member)]
        if len(methods) > PROTOCOL_METHODS_MAX:
            yield (
                f"{module.name}:{node.lineno} {node.name} has {len(methods)} methods: split it by who needs what; "
                f"{PROTOCOL_METHODS_MAX} is the most that a twin is written for"
            )


def _is_property(member: _Function) -> bool:
    """A value to read, which a twin has as a field."""
    return any(isinstance(one, ast.Name) and one.id == "property" for one in member.decorator_list)


def _is_protocol(base: ast.expr) -> bool:
    base = base.value if isinstance(base, ast.Subscript) else base
    return (isinstance(base, ast.Name) and base.id == "Protocol") or (
        isinstance(base, ast.Attribute) and base.attr == "Protocol"
    )


ALL: Final = (size, names, type_checking, acknowledging, catching_all, printing, protocols)
