"""The simulator of PayU that nobody here wrote, and the browser in which its page is seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.conftest import browser
from tests.psp.payu.simulator import running
from tests.support.apart import programs_of

__all__ = ["browser"]


@pytest.fixture(scope="session")
def payu_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The simulator, one for all tests: every test has orders of its own."""
    programs = programs_of("payu-simulator", tmp_path_factory)
    with running(programs, tmp_path_factory.mktemp("payu") / "simulator.log") as url:
        yield url
