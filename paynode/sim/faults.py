"""Random faults that are in force until they are changed, and how often each of them bit."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from paynode.sim.scripts import CALLBACK_TIMES_DUPLICATED, Mishap, Script

Rate = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]


class FaultRates(BaseModel):
    """The body of `POST /faults`; what it leaves out is off.

    The four losses of an answer exclude each other (their sum is at most 1) and meet every POST to /v1, the
    repeated one too; pages get only declines and callback faults. `latency_ms` delays the answer after the
    work was booked, so that a callback may overtake it. `inquiry_lag_ms` hides a charge from the inquiry for
    that long after it was booked. `callback_jitter_ms` delays each callback by a random part of itself, which
    mixes their order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    error_before: Rate = 0
    error_after: Rate = 0
    hang_before: Rate = 0
    hang_after: Rate = 0
    decline: Rate = 0
    latency_ms: Milliseconds = 0
    inquiry_error: Rate = 0
    inquiry_lag_ms: Milliseconds = 0
    duplicate_callback: Rate = 0
    drop_callback: Rate = 0
    callback_jitter_ms: Milliseconds = 0
    seed: int | None = None

    @model_validator(mode="after")
    def _one_loss_at_a_time(self) -> Self:
        if self.error_before + self.error_after + self.hang_before + self.hang_after > 1:
            raise ValueError("error_before, error_after, hang_before and hang_after add up to more than 1")
        return self


class Faults:
    """Throws the dice and counts."""

    def __init__(self) -> None:
        self.rates = FaultRates()
        self.bitten: Counter[str] = Counter()
        self._random = random.Random()  # noqa: S311 -- faults must be repeatable by seed, not unguessable

    def set(self, rates: FaultRates) -> None:
        self.rates = rates
        self._random.seed(rates.seed)

    def mishap(self) -> Mishap | None:
        """How the answer of this request is lost, if it is."""
        point = self._random.random()
        for mishap in Mishap:
            rate: float = getattr(self.rates, mishap)
            if point < rate:
                return mishap
            point -= rate
        return None

    def changed(self, script: Script) -> Script:
        """The script of one charge with the random faults of its charge and callback worked in."""
        if script.decline_code is None and self.bites("decline", self.rates.decline):
            script = replace(script, decline_code="do_not_honor")
        if self.bites("duplicate_callback", self.rates.duplicate_callback):
            script = replace(script, callback_times=CALLBACK_TIMES_DUPLICATED)
        if self.bites("drop_callback", self.rates.drop_callback):
            script = replace(script, callback_times=0)
        if self.rates.callback_jitter_ms:
            jitter_ms = self._random.randint(0, self.rates.callback_jitter_ms)
            script = replace(script, callback_delay_ms=script.callback_delay_ms + jitter_ms)
        return script

    def bites(self, name: str, rate: float) -> bool:
        is_bitten = self._random.random() < rate
        if is_bitten:
            self.bitten[name] += 1
        return is_bitten
