"""Facts about processes, read from /proc."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import wait_until_sync

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFact:
    """One process; the start time tells it from a later one that got the same number."""

    pid: int
    parent: int
    uid: int
    started: int

    def is_running(self) -> bool:
        now = look(self.pid)
        return now is not None and now.started == self.started


def look(pid: int) -> ProcessFact | None:
    """The process, unless it has ended: one that only waits to be reaped has."""
    try:
        # The name in parentheses may hold spaces; what follows the last parenthesis does not.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    uid = int(status.partition("Uid:")[2].split()[1])  # the effective one
    return ProcessFact(pid=pid, parent=int(fields[1]), uid=uid, started=int(fields[19]))


def with_children(pids: Iterable[int]) -> list[ProcessFact]:
    """These processes and all that descend from them."""
    wanted = set(pids)
    everything = [fact for path in _PROC.glob("[0-9]*") if (fact := look(int(path.name)))]
    found = [fact for fact in everything if fact.pid in wanted]
    for fact in found:  # grows while we walk it
        found.extend(child for child in everything if child.parent == fact.pid and child not in found)
    return found


def wait_until_gone(facts: Iterable[ProcessFact]) -> None:
    facts = list(facts)
    assert facts, "no process was ever seen"
    wait_until_sync(lambda: not any(fact.is_running() for fact in facts), "all of these processes ended")
