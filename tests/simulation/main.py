"""`scripts/simulate`: many seeds over all cores, and a table of what they met and which laws they broke."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from multiprocessing import get_context

from tests.simulation.bugs import BUGS
from tests.simulation.runs import Report, run_all

# Seeds of one task: small enough that all cores end together, large enough that handing out costs nothing.
_SLICE = 250
_SHOWN = 10


def simulate(seeds: Sequence[int], *, jobs: int, bug: str | None = None) -> Report:
    """Run all seeds, in so many processes."""
    slices = [(seeds[start : start + _SLICE], bug) for start in range(0, len(seeds), _SLICE)]
    report = Report()
    with _same_hashes(), get_context("spawn").Pool(min(jobs, len(slices))) as pool:
        for part in pool.imap_unordered(_run, slices):
            report.add(part)
    return report


@contextmanager
def _same_hashes() -> Iterator[None]:
    """Processes that begin in here hash text alike: the order of a set of streams is part of a schedule too."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        yield
    finally:
        del os.environ["PYTHONHASHSEED"]
        if before is not None:
            os.environ["PYTHONHASHSEED"] = before


def _run(task: tuple[Sequence[int], str | None]) -> Report:
    seeds, bug = task
    with nullcontext() if bug is None else BUGS[bug]():
        return run_all(seeds)


def table(report: Report, seconds: float) -> str:
    """What the runs met, one line each."""
    counts = report.counts
    strikes = sum(counts[what] for what in ("kill", "stop", "cut", "cut road", "away", "drain", "flush"))
    rows: list[tuple[str, object]] = [
        ("seeds", report.seeds),
        ("schedules/s", round(report.seeds / seconds)),
        ("steps", counts["steps"]),
        ("takeovers", counts["takeovers"]),
        ("redeliveries", counts["redeliveries"]),
        ("ambiguous commits", counts["ambiguous commits"]),
        ("lost requests and replies", counts["lost requests"] + counts["lost replies"]),
        ("faults struck", strikes),
        ("of them crashes", counts["kill"]),
        ("of them flushes", counts["flush"]),
        ("trimmed while pending", counts["trimmed while pending"]),
        ("seeds that broke a law", len(report.violations)),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the core broke no law, or when the planted bug was caught; else 1."""
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20_000)
    parser.add_argument("--from", dest="first", type=int, default=int(os.environ.get("PAYNODE_TEST_SEED", "0")))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant this bug; then it must be caught")
    options = parser.parse_args(arguments)
    begun = time.perf_counter()
    seeds = range(options.first, options.first + options.seeds)
    report = simulate(seeds, jobs=options.jobs, bug=options.bug)
    print(table(report, time.perf_counter() - begun))
    for seed, broken in sorted(report.violations.items())[:_SHOWN]:
        print(f"seed {seed}: {broken[0]}")
    return int(bool(report.violations) == (options.bug is None))


if __name__ == "__main__":
    sys.exit(main())
