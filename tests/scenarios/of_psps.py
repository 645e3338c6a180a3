"""The PSP errs: G1 to G3, G5 and G7, by the faults of its simulator, all of which it counts itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from tests.support.nemesis import Act, Proof, Scenario
from tests.support.stage import Stage

_PSP = frozenset({"psp"})


def erring(*names: str, **rates: float | int | list[str]) -> Act:
    """These faults until it is healed; the proof is how often those of `names` bit, all of which must have."""

    def act(stage: Stage) -> AbstractAsyncContextManager[Proof]:
        return _erring(stage, names, rates)

    return act


@asynccontextmanager
async def _erring(stage: Stage, names: tuple[str, ...], rates: dict[str, Any]) -> AsyncIterator[Proof]:
    before = await bitten(stage)
    await order(stage, **rates)

    async def proof() -> int:
        now = await bitten(stage)
        return min(now.get(name, 0) - before.get(name, 0) for name in names)

    try:
        yield proof
    finally:
        await order(stage)


async def order(stage: Stage, **rates: Any) -> None:
    """What the PSP does wrong from now on."""
    reply = await stage.installation.send("POST", _faults(stage), json=rates)
    assert reply.status == 200, reply.raw


async def bitten(stage: Stage) -> dict[str, int]:
    """How often each fault has bitten so far."""
    told: dict[str, int] = (await stage.installation.send("GET", _faults(stage))).json["bitten"]
    return told


def _faults(stage: Stage) -> str:
    return stage.installation.settings.psp["sim"].url + "/faults"


UNANSWERED = Scenario(
    id="G1", name="charged, no answer", act=erring("hang_after", hang_after=0.2), lasts_s=3.0, takes=_PSP
)
STORM = Scenario(id="G2", name="5xx storm before charging", act=erring("error_before", error_before=0.9), takes=_PSP)
HALF = Scenario(
    id="G3",
    name="half of the answers are 5xx",
    act=erring("error_after", error_after=0.25, error_before=0.25),
    takes=_PSP,
)
TOLD_TWICE = Scenario(
    id="G5",
    name="callbacks five times and mixed",
    act=erring("duplicate_callback", duplicate_callback=1.0, callback_jitter_ms=800, latency_ms=150),
    takes=_PSP,
)
SEEN_LATE = Scenario(
    id="G7",
    name="not found, then there",
    act=erring("hang_after", hang_after=0.3, inquiry_lag_ms=1500),
    lasts_s=2.0,
    takes=_PSP,
)

SCENARIOS = (UNANSWERED, STORM, HALF, TOLD_TWICE, SEEN_LATE)
