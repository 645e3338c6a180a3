"""The floors, the habits and the purity of paynode, read from its imports and syntax trees.

Each complaint says what to do instead. That each rule can complain at all is shown in `test_the_rules_bite.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from tests.architecture import floors, habits, purity
from tests.architecture.sources import House, Module, paynode


def nothing(complaints: Iterable[str]) -> None:
    found = list(complaints)
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize("rule", [floors.strangers, floors.libraries, floors.cycles])
def test_every_floor_stands_on_those_below_it(rule: Callable[[House], Iterator[str]]) -> None:
    nothing(rule(paynode()))


@pytest.mark.parametrize("rule", habits.ALL)
def test_every_module_keeps_the_habits(rule: Callable[[Module], Iterator[str]]) -> None:
    nothing(complaint for module in paynode() for complaint in rule(module))


@pytest.mark.parametrize("rule", purity.ALL)
def test_the_domain_is_pure(rule: Callable[[Module], Iterator[str]]) -> None:
    domain = [module for module in paynode() if module.floor == "domain"]
    assert domain
    nothing(complaint for module in domain for complaint in rule(module))


def test_only_the_composition_root_sees_actors_and_adapters() -> None:
    house, adapters = paynode(), {"storage", "streams", "psp", "fraud"}
    seen_by = {module.name: {Module(house.resolve(one.target), "").floor for one in module.imports} for module in house}
    both = [name for name, seen in seen_by.items() if "actors" in seen and seen & adapters]
    assert all(name.startswith("paynode.app") for name in both), f"compose in app/ what {both} compose"
    assert both, "and somebody composes"


def test_catch_alls_that_are_allowed_are_still_there() -> None:
    house = paynode()
    for name, reason in habits.CATCH_ALL.items():
        assert "except Exception" in house.modules[name].text, f"{name} needs no permission ({reason}): take it away"


def test_long_modules_are_named() -> None:
    """No failure between 250 and 400 lines, but a question; `pytest -rP` shows it."""
    for module in paynode():
        if module.length > habits.MODULE_LINES_ADVISED:
            print(f"{module.name} has {module.length} lines: has a second noun moved in?")
