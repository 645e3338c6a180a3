"""How Hypothesis looks for counter-examples: bounded, and the same ones in every run.

PAYNODE_TEST_RANDOM=1 draws new ones, and a failure prints what reproduces it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from hypothesis import HealthCheck, settings

_IS_RANDOM: Final = bool(os.environ.get("PAYNODE_TEST_RANDOM"))


def law(examples: int) -> Callable[[Any], Any]:
    """Decorates a property that is tried on so many examples. No deadline: machines differ, laws do not."""
    return settings(
        max_examples=examples,
        derandomize=not _IS_RANDOM,
        print_blob=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
