"""Guards with rules that a test can count with."""

from __future__ import annotations

from typing import Final

from paynode.psp.breaker import BreakerRules
from paynode.psp.budget import BudgetRules
from paynode.psp.guard import GuardRules

RULES: Final = GuardRules(
    breaker=BreakerRules(window_s=30.0, calls_min=10, failed_max=0.5, in_a_row=10, open_s=5.0),
    budget=BudgetRules(share_max=0.1, every_s=1.0, pause_max_s=60.0),
    places=64,
    reserved=8,
    waiting_max=64,
    wait_max_s=2.0,
    per_s_max=0.0,
)
