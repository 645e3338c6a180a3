"""The sources of paynode as data: modules, what they import, what their syntax trees say."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Import:
    """One imported name: `target` is the module that it comes from, as far as it is ours to resolve."""

    target: str
    line: int

    @property
    def top(self) -> str:
        return self.target.split(".")[0]


@dataclass(frozen=True)
class Module:
    """One source file; `name` is dotted."""

    name: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def nodes(self) -> Iterator[ast.AST]:
        return ast.walk(self.tree)

    @property
    def floor(self) -> str:
        """`paynode.domain.money` lives on the floor `domain`; the package itself on ``."""
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @property
    def length(self) -> int:
        return len(self.text.splitlines())

    @cached_property
    def imports(self) -> list[Import]:
        """`from a import b` counts as `a.b`: whether b is a module or a name in a, `House.resolve` knows."""
        found = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                found += [Import(alias.name, node.lineno) for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0 or node.module is None, f"{self.name}: imports are absolute here"
                found += [Import(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
        return found


@dataclass(frozen=True)
class House:
    """All modules of a package, by name."""

    modules: Mapping[str, Module]

    def resolve(self, target: str) -> str:
        """The module of ours that an import leads to: `paynode.domain.money.Money` is `paynode.domain.money`."""
        while target not in self.modules and "." in target:
            target = target.rpartition(".")[0]
        return target

    def __iter__(self) -> Iterator[Module]:
        return iter(self.modules.values())


def house(*modules: Module) -> House:
    return House({module.name: module for module in modules})


@cache
def paynode() -> House:
    """The package as it stands."""
    return house(*_read("paynode"))


@cache
def tests() -> House:
    """The tests as they stand."""
    return house(*_read("tests"))


def _read(package: str) -> Iterator[Module]:
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield Module(".".join(parts[:-1] if parts[-1] == "__init__" else parts), path.read_text())
