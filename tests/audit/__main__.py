"""`python -m tests.audit [HISTORIES] [FIRST_SEED]`: does the auditor agree with the core over so many histories?"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from tests.audit.comparing import audit


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when they agree, 1 with the shortest history in which they do not."""
    parser = argparse.ArgumentParser(prog="python -m tests.audit", description=__doc__)
    parser.add_argument("histories", type=int, nargs="?", default=20_000)
    parser.add_argument("first", type=int, nargs="?", default=0, help="the seed of the first one")
    options = parser.parse_args(arguments)
    met, begun = Counter[str](), time.process_time()
    complaint = audit(range(options.first, options.first + options.histories), met)
    seconds = time.process_time() - begun
    for what, count in sorted(met.items()):
        print(f"{count:>10,}  {what}")
    print(f"{met['histories'] / seconds:,.0f} histories a second of one core")
    print(complaint or "the auditor agrees with the core")
    return int(complaint is not None)


if __name__ == "__main__":
    sys.exit(main())
