"""Random faults that are in force until they are changed, and how often each of them bit."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from dataclasses import replace
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from paynode.sim.records import CHARGES
from paynode.sim.scripts import CALLBACK_TIMES_DUPLICATED, Mishap, Script

Rate = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]

INQUIRY: Final = "inquiry"
_Kind = Literal["sale", "authorize", "capture", "void", "refund", "cancel", "inquiry"]

# What a PSP that errs says of an operation, by the field that is wrong.
_WRONG: Final = {
    "amount": "wrong_amount",
    "currency": "wrong_currency",
    "reference": "wrong_reference",
    "id": "wrong_id",
}


class FaultRates(BaseModel):
    """The body of `POST /faults`; what it leaves out is off.

    The losses of an answer exclude each other (their sum is at most 1) and meet every POST to /v1, the repeated one
    too; pages get only declines and callback faults. `only` limits losses, declines and wrong answers to some kinds of
    operation; inquiries, and declines of what follows a charge, are met only if it names them. `latency_ms` delays the
    answer after the work was booked, so that a callback may overtake it. `inquiry_lag_ms` hides everything from the
    inquiry for that long after it happened. `callback_jitter_ms` delays each callback by a random part of itself, which
    mixes their order. `answer_wrong_*` and `callback_wrong_*` say another amount, currency, reference (the caller's)
    or id (the PSP's) than was booked. `idempotency_ms` is how long an Idempotency-Key is remembered, for ever if it
    is left out. `refuse_ms` closes the door: for that long connections are refused, and open ones are cut.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    error_before: Rate = 0
    error_after: Rate = 0
    hang_before: Rate = 0
    hang_after: Rate = 0
    slow_body: Rate = 0
    endless_headers: Rate = 0
    huge_body: Rate = 0
    gzip_bomb: Rate = 0
    decline: Rate = 0
    latency_ms: Milliseconds = 0
    inquiry_error: Rate = 0
    inquiry_lag_ms: Milliseconds = 0
    duplicate_callback: Rate = 0
    drop_callback: Rate = 0
    callback_jitter_ms: Milliseconds = 0
    answer_wrong_amount: Rate = 0
    answer_wrong_currency: Rate = 0
    answer_wrong_reference: Rate = 0
    answer_wrong_id: Rate = 0
    callback_wrong_amount: Rate = 0
    callback_wrong_currency: Rate = 0
    callback_wrong_reference: Rate = 0
    callback_wrong_id: Rate = 0
    idempotency_ms: Milliseconds | None = None
    refuse_ms: Milliseconds = 0
    only: Annotated[list[_Kind], Field(min_length=1)] | None = None
    seed: int | None = None

    @model_validator(mode="after")
    def _one_loss_at_a_time(self) -> Self:
        if sum(self.rate_of(mishap) for mishap in Mishap) > 1:
            raise ValueError(f"{', '.join(Mishap)} add up to more than 1")
        return self

    def rate_of(self, name: str) -> float:
        rate: float = getattr(self, name)
        return rate

    def meets(self, kind: str, *, is_named: bool = False) -> bool:
        """Whether operations of a kind are met; `is_named`: only if they are named."""
        return not is_named if self.only is None else kind in self.only


class Faults:
    """Throws the dice and counts."""

    def __init__(self) -> None:
        self.rates = FaultRates()
        self.bitten: Counter[str] = Counter()
        self._random = random.Random()  # noqa: S311 -- faults must be repeatable by seed, not unguessable

    def set(self, rates: FaultRates) -> None:
        self.rates = rates
        self._random.seed(rates.seed)

    def mishap(self, kind: str) -> Mishap | None:
        """How the answer of this request is lost, if it is."""
        if not self.rates.meets(kind, is_named=kind == INQUIRY):
            return None
        point = self._random.random()
        for mishap in Mishap:
            rate = self.rates.rate_of(mishap)
            if point < rate:
                return mishap
            point -= rate
        return None

    def changed(self, kind: str, script: Script) -> Script:
        """The script of one operation with the random faults of it and its callback worked in."""
        if script.decline_code is None and self._declines(kind):
            script = replace(script, decline_code="do_not_honor")
        if self.bites("duplicate_callback"):
            script = replace(script, callback_times=CALLBACK_TIMES_DUPLICATED)
        if self.bites("drop_callback"):
            script = replace(script, callback_times=0)
        if self.rates.callback_jitter_ms:
            jitter_ms = self._random.randint(0, self.rates.callback_jitter_ms)
            script = replace(script, callback_delay_ms=script.callback_delay_ms + jitter_ms)
        return script

    def twisted(self, where: str, told: dict[str, object]) -> dict[str, object]:
        """What is said instead of the truth, `where`: in an answer, or in a callback."""
        said = dict(told)
        for name, fault in _WRONG.items():
            if name in told and self.bites(f"{where}_{fault}"):
                said[name] = self._wrong(name, told[name])
        return said

    def bites(self, name: str) -> bool:
        is_bitten = self._random.random() < self.rates.rate_of(name)
        if is_bitten:
            self.bitten[name] += 1
        return is_bitten

    def _declines(self, kind: str) -> bool:
        return self.rates.meets(kind, is_named=kind not in CHARGES) and self.bites("decline")

    def _wrong(self, name: str, true: object) -> object:
        match name:
            case "amount":
                return int(str(true)) + 1
            case "currency":
                return "JPY" if true != "JPY" else "EUR"
            case "reference":
                return str(uuid.UUID(int=self._random.getrandbits(128), version=4))
            case _:
                return f"{true}x"
