"""All scenarios, and where each id of faults.md is tested.

The soak plays `SCENARIOS` at random, two at once, upon one installation that is paying all the time. The fast set
(`test_fast_set.py`) does so for half a minute, with those that are tested nowhere else, and asks the laws at the end.
What looks at one mechanism alone, or needs servers of another make-up, has a test of its own. Later issues bring the
rest.
"""

from __future__ import annotations

from typing import Final

from tests.scenarios import of_postgresql, of_processes, of_psps, of_redis

SCENARIOS: Final = (*of_processes.SCENARIOS, *of_postgresql.SCENARIOS, *of_redis.SCENARIOS, *of_psps.SCENARIOS)

# Of the fast set: what has no test of its own elsewhere, alone or in pairs that meet each other halfway.
FAST_SET: Final = (
    (of_processes.ROLLING,),
    of_processes.CRASHES_IN_TURN,
    (of_processes.FIFTY,),
    (of_redis.JUNK, of_postgresql.COMMITTERS_ENDED),
    (of_processes.WORKER_KILLED, of_redis.FORGOTTEN),
    (of_postgresql.COMMITS_CUT, of_redis.REPLIES_CUT),
    (of_postgresql.POSTMASTER_KILLED, of_redis.AWAY),
    (of_postgresql.HALF_OPEN, of_redis.FORGED),
    (of_psps.UNANSWERED, of_processes.WORKER_KILLED),
    (of_psps.STORM, of_postgresql.COMMITTERS_ENDED),
    (of_psps.HALF, of_redis.REPLIES_CUT),
    (of_psps.TOLD_TWICE,),
    (of_psps.SEEN_LATE,),
)

# Files with tests of their own, by id.
TESTED_IN: Final = {
    "W1": ("tests/e2e/test_faults.py", "tests/faults/test_partitions.py"),
    "W3": ("tests/faults/test_zombies.py",),
    "W5": ("tests/faults/test_connections.py",),
    "P2": ("tests/faults/test_restart.py",),
    "P3": ("tests/faults/test_connections.py",),
    "P4": ("tests/faults/test_failover.py",),
    "P7": ("tests/faults/test_storms.py",),
    "P8": ("tests/faults/test_storms.py",),
    "R1": ("tests/e2e/test_faults.py",),
    "R2": ("tests/faults/test_redis_forgets.py",),
    "R3": ("tests/faults/test_redis_away.py",),
    "R4": ("tests/faults/test_redis_forgets.py",),
    "R5": ("tests/faults/test_connections.py",),
    "N1": ("tests/faults/test_zombies.py",),
    "M1": ("tests/faults/test_poison.py",),
    "M2": ("tests/faults/test_poison.py",),
    "M3": ("tests/faults/test_junk.py",),
    "G1": ("tests/faults/test_psps_at_once.py",),
    "G2": ("tests/faults/test_psps_at_once.py", "tests/guards/test_guards.py"),
    "G4": ("tests/psp/test_contract_sim.py",),
    "G5": ("tests/e2e/test_callbacks.py",),
    "G6": ("tests/e2e/test_callbacks.py",),
    "H1": ("tests/faults/test_fairness.py",),
    "H2": ("tests/e2e/test_faults.py", "tests/e2e/test_paying.py"),
    "H3": ("tests/http/test_slow_clients.py", "tests/http/test_edges.py"),
    "H4": ("tests/faults/test_overload.py", "tests/http/test_shedding.py"),
    "K1": ("tests/scenarios/test_reconciliation.py",),
}

# Those that this milestone is to withstand, and those that come with what they test.
WANTED: Final = frozenset(
    {"W1", "W2", "W3", "W4", "W5", "P1", "P2", "P3", "P4", "P7", "P8", "R1", "R2", "R3", "R4", "R5", "N1"}
    | {"M1", "M2", "M3", "G1", "G2", "G3", "G4", "G5", "G6", "G7", "H1", "H2", "H3", "H4", "K1"}
)
LATER: Final = frozenset({"P6", "B1", "B2"})
