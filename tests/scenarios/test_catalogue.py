"""The catalogue is complete: every id is tested somewhere, and what is said to be tested somewhere is there."""

from __future__ import annotations

from pathlib import Path

from tests.scenarios.catalogue import LATER, SCENARIOS, TESTED_IN, WANTED

ROOT = Path(__file__).resolve().parents[2]


def test_every_wanted_id_is_tested() -> None:
    tested = {scenario.id for scenario in SCENARIOS} | TESTED_IN.keys()
    assert WANTED - tested == set()
    assert not tested & LATER, "it has come: move it to WANTED"


def test_what_is_tested_elsewhere_is_there() -> None:
    for names in TESTED_IN.values():
        for name in names:
            assert (ROOT / name).is_file(), name


def test_no_two_scenarios_have_one_name() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(names) == len(set(names))
