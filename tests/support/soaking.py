"""The soak: clients pay for minutes while faults happen at random, two at once; then the laws, and a table.

`scripts/soak --minutes N --seed S` runs it. It ends with 1 when a law was broken.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio
from rich.console import Console
from rich.table import Table

from tests.scenarios.catalogue import SCENARIOS
from tests.support.history import History
from tests.support.laws import judge
from tests.support.nemesis import Nemesis, Record
from tests.support.stage import Stage, staged

# Seconds between the beginnings of two faults; at once at most two. Seconds between two full checks.
PAUSE_S: Final = (5.0, 15.0)
_AT_ONCE: Final = 2
_CHECK_S: Final = 300.0
_SETTLE_S: Final = 90.0

say = Console(stderr=True, highlight=False).print


class Soak:
    """One run."""

    def __init__(self, stage: Stage, *, seconds: float, seed: int, pause_s: tuple[float, float] = PAUSE_S) -> None:
        self._stage = stage
        self._seconds = seconds
        self._pause_s = pause_s
        self._random = random.Random(seed)
        self.nemesis = Nemesis(stage)
        self.violations: list[str] = []
        self.checks = 0

    async def run(self) -> None:
        """Pay and do harm until the time is up; full checks in between and at the end."""
        ends_at = time.monotonic() + self._seconds
        async with anyio.create_task_group() as always:
            always.start_soon(self._stage.load.run)
            always.start_soon(self._supervise)
            await self._stage.until_warm()
            while not self.violations and time.monotonic() < ends_at:
                await self._do_harm(min(ends_at, time.monotonic() + _CHECK_S))
                await self._check()
            self._stage.load.is_over = True
            always.cancel_scope.cancel()

    async def _do_harm(self, until: float) -> None:
        async with anyio.create_task_group() as faults:
            while time.monotonic() < until and not self._stage.witness.violations:
                scenario = self.nemesis.choose(SCENARIOS, self._random)
                if scenario is not None and len(self.nemesis.playing) < _AT_ONCE:
                    beside = " and ".join(one.name for one in self.nemesis.playing)
                    say(f"{time.strftime('%H:%M:%S')} {scenario.id} {scenario.name}{beside and f' beside {beside}'}")
                    faults.start_soon(self.nemesis.play, scenario)
                await anyio.sleep(self._random.uniform(*self._pause_s))

    async def _supervise(self) -> None:
        """Start again whoever has died: once for each, as a supervisor does."""
        while True:
            await self._stage.revive()
            await anyio.sleep(0.5)

    async def _check(self) -> None:
        """Let everything come to rest, and ask all the laws."""
        stage = self._stage
        for proxy in stage.proxies():
            proxy.heal()
        await stage.revive()
        if not await stage.settle(_SETTLE_S):
            self.violations.append(f"L10: it has not come to rest within {_SETTLE_S:g} s")
        broken = judge(await stage.case())
        self.violations += [f"{law}: {violation}" for law, all_of in broken.items() for violation in all_of]
        self.violations += stage.witness.violations
        self.checks += 1
        say(f"{time.strftime('%H:%M:%S')} full check {self.checks}: {len(self.violations)} violations")
        stage.load.is_paused = False

    def report(self) -> None:
        """The table, and what was broken."""
        table = Table(title="The soak")
        for name in ("fault", "times", "bitten", "missed", "measured", "p50 s", "p99 s", "max s", "too slow"):
            table.add_column(name, justify="left" if name == "fault" else "right")
        for name, record in sorted(self.nemesis.records.items()):
            table.add_row(name, *_figures(record))
        console = Console(width=120)
        console.print(table)
        stage, totals = self._stage, Table(title="Over all")
        totals.add_column("figure")
        totals.add_column("", justify="right")
        for name, value in self._totals(stage).items():
            totals.add_row(name, str(value))
        console.print(totals)
        for violation in self.violations:
            console.print(violation, style="red", markup=False)

    def _totals(self, stage: Stage) -> dict[str, object]:
        every = [one for record in self.nemesis.records.values() for one in record.recoveries_s]
        return {
            "requests": len(stage.history.asked),
            "accepted": len(stage.history.accepted),
            "no answer": stage.history.lost,
            "held back": stage.load.held_back,
            "given up": dict(stage.load.given_up),
            "faults": sum(record.times for record in self.nemesis.records.values()),
            "takeovers": stage.witness.takeovers,
            "redeliveries": stage.said('"republished"') + stage.counts["redelivered"],
            "ambiguous commits": sum(
                proxy.bitten["commit"] + proxy.bitten["accepting"] for proxy in stage.to_database.values()
            ),
            "processes started again": stage.counts["revived"],
            "looks of the witness": stage.witness.looks,
            "oldest unprocessed, max s": round(stage.witness.oldest_max_s, 1),
            "recovery p50/p99/max s": "/".join(_percentiles(every)),
            "full checks": self.checks,
            "violations": len(self.violations),
        }


def _figures(record: Record) -> Sequence[str]:
    figures = (record.times, record.bitten, record.missed, len(record.recoveries_s))
    return [*map(str, figures), *_percentiles(record.recoveries_s), str(record.too_slow)]


def _percentiles(values: Sequence[float]) -> Sequence[str]:
    if not values:
        return ["-", "-", "-"]
    cuts = statistics.quantiles([*values, *values], n=100, method="inclusive")
    return [f"{value:.1f}" for value in (cuts[49], cuts[98], max(values))]


async def soak(directory: Path, *, minutes: float, seed: int, rate_per_s: float, pause_s: tuple[float, float]) -> bool:
    """Run it; whether every law held."""
    with (directory / "history.ndjson").open("w") as file:
        async with staged(directory, seed=seed, rate_per_s=rate_per_s, history=History(file=file)) as stage:
            run = Soak(stage, seconds=minutes * 60, seed=seed, pause_s=pause_s)
            try:
                await run.run()
            finally:
                run.report()
    return not run.violations


def main() -> None:
    """`scripts/soak`."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--rate", type=float, default=60.0, help="payments a second")
    parser.add_argument("--pause", type=float, nargs=2, default=PAUSE_S, help="seconds between two faults, from and to")
    parser.add_argument("--keep", action="store_true", help="keep servers' data, logs and history also on success")
    asked = parser.parse_args()
    say(f"seed {asked.seed}")
    directory = Path(tempfile.mkdtemp(prefix="paynode-soak-"))
    directory.chmod(0o755)
    say(f"directory {directory}")

    async def run() -> bool:
        pause_s = (asked.pause[0], asked.pause[1])
        return await soak(directory, minutes=asked.minutes, seed=asked.seed, rate_per_s=asked.rate, pause_s=pause_s)

    has_held = False
    try:
        has_held = anyio.run(run)
    finally:
        if has_held and not asked.keep:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            say(f"history and logs are kept in {directory}")
    sys.exit(0 if has_held else 1)


if __name__ == "__main__":
    main()
