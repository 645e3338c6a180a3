"""`scripts/restore-drill`: 0 green, 3 a law of money is broken, 1 any other failure, 75 a program is missing."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

import anyio
from rich.console import Console

from tests.drill.course import Plan, drill, say
from tests.drill.outcome import Outcome
from tests.drill.programs import Programs, ProgramsMissing, find
from tests.drill.spoiling import Spoiling
from tests.support.directories import remove

_TRY_AGAIN: Final = 75
# Seconds after which a drill that hangs is ended, and has failed.
_WHOLE_S: Final = 420.0


def main() -> None:
    """Find the programs, run the drill, say what came of it, leave nothing."""
    asked = _arguments()
    try:
        programs = find(asked.postgres)
    except ProgramsMissing as missing:
        say(f"restore-drill: {missing}")
        sys.exit(_TRY_AGAIN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: everything is ended, and the directory goes
    directory = Path(tempfile.mkdtemp(prefix="paynode-drill-"))
    directory.chmod(0o755)
    try:
        outcome = anyio.run(_run, directory, programs, _plan(asked))
    finally:
        if asked.keep:
            say(f"the data are kept in {directory}")
        else:
            remove(directory)
    if asked.output == "json":
        print(json.dumps(outcome.as_json(), indent=2))
    else:
        outcome.print(Console(width=120, highlight=False))
    sys.exit(outcome.code)


async def _run(directory: Path, programs: Programs, plan: Plan) -> Outcome:
    with anyio.move_on_after(_WHOLE_S):
        return await drill(directory, programs, plan)
    return Outcome(failures=[f"the drill had not ended after {_WHOLE_S:g} s"])


def _plan(asked: argparse.Namespace) -> Plan:
    seed = random.SystemRandom().randrange(2**32) if asked.seed is None else asked.seed
    say(f"seed {seed}")
    return Plan(
        rate_per_s=asked.rate,
        archive_timeout_s=asked.archive_timeout,
        seed=seed,
        rpo_max_s=asked.rpo_max or asked.archive_timeout + 10.0,
        rto_max_s=asked.rto_max,
        spoiling=Spoiling(asked.spoil),
        keeps_redis=asked.keep_redis,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/restore-drill", description=__doc__)
    parser.add_argument("--output", choices=["table", "json"], default="table")
    parser.add_argument("--rate", type=float, default=30.0, help="payments a second")
    parser.add_argument(
        "--archive-timeout", type=int, default=10, help="seconds, of PostgreSQL; docs/backups.md has 60"
    )
    parser.add_argument("--rpo-max", type=float, help="seconds; more is a failure (default: archive timeout and 10)")
    parser.add_argument("--rto-max", type=float, default=60.0, help="seconds; more is a failure")
    parser.add_argument("--keep-redis", action="store_true", help="go on with the streams of before, and not with none")
    parser.add_argument("--spoil", choices=list(Spoiling), default=Spoiling.NOTHING, help="do harm: it must go red")
    parser.add_argument("--postgres", type=Path, help="directory of postgres and initdb (default: Debian's newest)")
    parser.add_argument("--seed", type=int, help="of the kinds of payments")
    parser.add_argument("--keep", action="store_true", help="leave the directory with data and logs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
