"""Stand-ins for what the committer writes to and tells: they do what a script says and remember what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import anyio
from anyio.lowlevel import checkpoint

from paynode.actors.committer import Committer
from paynode.actors.merchant import Decided
from paynode.domain.batch import Batch, Booked, Lease
from paynode.domain.booking import Effects, IssuedCommand, Surroundings
from paynode.domain.deciding import CommandKind, Policy
from paynode.domain.errors import Unavailable
from paynode.domain.message import DeadLetter, Message, Unreadable
from paynode.domain.payment import Fact, Source
from paynode.domain.psp import Outcome
from paynode.domain.publishing import Verdict
from paynode.domain.road import Change, Pointer

_numbers = count(1)

CONDEMN_AFTER_S = 10.0
POLICY = Policy(inquiry_ladder_ms=(1000,), not_sent_tries_max=3, not_sent_retry_ms=100, not_sent_retry_max_ms=1000)
ONE, OTHER = Lease(partition=1, epoch=4), Lease(partition=2, epoch=9)


def decided(lease: Lease, number: int, *, delay_ms: int | None = None, is_dead: bool = False) -> Decided:
    """What message `number` of a partition led to; with `delay_ms` it issues a command."""
    entry_id = f"{number}-{lease.partition}"
    commands: tuple[IssuedCommand, ...] = ()
    if delay_ms is not None:
        kind = CommandKind.INQUIRE
        commands = (
            IssuedCommand(id=f"command of {entry_id}", kind=kind, operation_id="op", psp="sim", delay_ms=delay_ms),
        )
    what = Unreadable(ref=None, reason="not_a_pointer", detail="")
    letter = DeadLetter(id=f"letter of {entry_id}", stream="events", entry_id=entry_id, what=what)
    effects = Effects(claim=entry_id, commands=commands, letter=letter if is_dead else None)
    return Decided(entry_id, Booked(lease=lease, effects=effects))


def decided_upon(lease: Lease, number: int) -> Decided:
    """The same with the message that it brought: it can be buried."""
    plain = decided(lease, number)
    fact = Fact(
        event_id=plain.entry_id,
        payment_id=f"payment {number}",
        operation_id=f"operation {number}",
        outcome=Outcome.DECLINED,
        source=Source.ANSWER,
    )
    return Decided(plain.entry_id, plain.booked, Message(ref=plain.entry_id, merchant_id="merchant", content=fact))


def around(lease: Lease) -> Surroundings:
    """The surroundings of a decision at no particular time."""
    return Surroundings(
        now_ms=0,
        new_id=lambda: f"id-{next(_numbers)}",
        between_ms=lambda low, high: (low + high) // 2,
        epoch=lease.epoch,
        policy=POLICY,
    )


@dataclass
class ScriptedBooks:
    """Writes batches, `seconds` long each; `judge` says which error a batch meets, and None lets it through."""

    judge: Callable[[Batch], Exception | None] = lambda batch: None
    seconds: float = 1.0
    batches: list[Batch] = field(default_factory=list)
    tried: int = 0
    is_busy: bool = False

    async def commit(self, batch: Batch) -> None:
        assert not self.is_busy, "one transaction at a time on one session"
        self.is_busy = True
        self.tried += 1
        await anyio.sleep(self.seconds)
        self.is_busy = False
        error = self.judge(batch)
        if error is None:
            self.batches.append(batch)
        else:
            raise error

    @property
    def written(self) -> list[str]:
        return [claim for batch in self.batches for claim in in_order(batch)]

    def written_of(self, lease: Lease) -> list[str]:
        return [claim for claim in self.written if claim.endswith(f"-{lease.partition}")]


def in_order(batch: Batch) -> list[str]:
    """Claims are sorted as text to be locked; here by their number."""
    return sorted(batch.claims, key=lambda claim: int(claim.split("-")[0]))


@dataclass
class ScriptedRoad:
    """Tells nobody, `seconds` long each time; away while `is_away`."""

    log: list[str] = field(default_factory=list)
    seconds: float = 0.0
    is_away: bool = False

    async def publish(self, pointers: Sequence[Pointer]) -> None:
        await self._say([f"publish {pointer.ref} on {pointer.stream}" for pointer in pointers])

    async def announce(self, changes: Sequence[Change]) -> None:
        await self._say([f"announce {change.payment_id}" for change in changes])

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        await self._say([f"bury {letter.entry_id}" for letter in letters])

    async def tell(self, verdicts: Sequence[Verdict]) -> None:
        await self._say([f"tell {verdict.event_id}" for verdict in verdicts])

    async def _say(self, words: Sequence[str]) -> None:
        await anyio.sleep(self.seconds)
        if self.is_away:
            raise Unavailable("redis")
        self.log += words


@dataclass(eq=False)
class ScriptedRun:
    """A run over a partition that remembers what became of it."""

    lease: Lease
    log: list[str] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    is_road_away: bool = False

    @property
    def has_failed(self) -> bool:
        return bool(self.errors)

    def fail(self, error: Exception) -> None:
        self.errors.append(error)

    def settle(self, decided: Sequence[Decided]) -> None:
        self.settled += [one.entry_id for one in decided]

    async def acknowledge(self, entry_ids: Sequence[str]) -> None:
        await checkpoint()
        if self.is_road_away:
            raise Unavailable("redis")
        # Settled first: then it may leave the hands. Else it is taken off the road without having been written.
        for entry_id in entry_ids:
            if entry_id in self.settled:
                self.acknowledged.append(entry_id)
                self.log.append(f"acknowledge {entry_id}")
            else:
                self.log.append(f"set aside {entry_id}")


@dataclass
class Observer:
    """Remembers what it is told."""

    committed_messages: int = 0
    failures: list[Exception] = field(default_factory=list)
    untold: list[Exception] = field(default_factory=list)

    def committed(self, messages: int, seconds: float) -> None:
        self.committed_messages += messages

    def commit_failed(self, messages: int, error: Exception) -> None:
        self.failures.append(error)

    def buried(self, letters: Sequence[DeadLetter]) -> None:
        """Letters are looked at where they are put."""

    def telling_failed(self, error: Exception) -> None:
        self.untold.append(error)


@dataclass
class Office:
    """A committer with all its stand-ins."""

    books: ScriptedBooks = field(default_factory=ScriptedBooks)
    road: ScriptedRoad = field(default_factory=ScriptedRoad)
    observer: Observer = field(default_factory=Observer)
    batch_size: int = 10

    def __post_init__(self) -> None:
        self.committer = Committer(
            self.books,
            self.road,
            self.road,
            self.observer,
            around,
            new_id=lambda: f"batch-{next(_numbers)}",
            batch_size=self.batch_size,
            condemn_after_s=CONDEMN_AFTER_S,
        )

    def run_of(self, lease: Lease) -> ScriptedRun:
        return ScriptedRun(lease, log=self.road.log)
