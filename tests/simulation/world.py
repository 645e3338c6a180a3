"""A small installation in one loop: what all of its parts share, and what may never be seen of it.

Everything that decides is paynode's own; everything that is decided upon comes from twins. What may never happen at any
time is looked for as it happens, here; what must be true in the end is `laws`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from paynode.domain.batch import Batch, Lease
from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.publishing import OutsideEvent
from paynode.domain.road import events_stream
from tests.simulation.loop import SeededLoop
from tests.simulation.processes import Process, Surroundings
from tests.simulation.psp import Bank
from tests.simulation.store import Store
from tests.simulation.valkey import Valkey

PSP: Final = "sim"
LEASE_S: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much there is of everything in one run, and for how many seconds things go wrong."""

    partitions: int
    merchants: int
    payments: int
    events: int
    storm_s: float

    @classmethod
    def drawn(cls, chance: Random) -> Size:
        """Small: what can go wrong with many goes wrong with few."""
        return cls(
            partitions=chance.randint(1, 3),
            merchants=chance.randint(1, 3),
            payments=chance.randint(3, 8),
            events=chance.randint(0, 3),
            storm_s=chance.uniform(1.0, 5.0),
        )


class World:
    """One run's servers, names and broken laws."""

    def __init__(self, chance: Random, loop: SeededLoop, size: Size) -> None:
        self.around = Surroundings(loop, chance)
        self.size = size
        self.violations: list[str] = []
        self.store = Store(size.partitions, loop.time, self._is_gone, self.watch_write)
        self.valkey = Valkey(self.around.now_ms, self)
        self.bank = Bank(self.around)
        self.events: dict[str, OutsideEvent] = {}
        self.reading: Counter[tuple[str, int]] = Counter()  # feeds that a process has open on a partition
        self.said: Counter[str] = Counter()  # how often each event was put on its stream, or was tried to be
        self.processes: dict[str, Process] = {}
        self._streams: dict[str, str] = {}
        self.merchants = [self._merchant() for _ in range(size.merchants)]

    def violate(self, what: str) -> None:
        """Remember a broken law; the first one tells most."""
        self.violations.append(f"at {self.around.now:.3f} s: {what}")

    def stream_of(self, merchant_id: str) -> str:
        """The stream of a merchant's partition."""
        return self._streams[merchant_id]

    def process(self, name: str) -> Process:
        """A new process. Names rise with time, as ids do."""
        process = self.processes[name] = Process(name, self.around)
        return process

    def _is_gone(self, owner: str) -> bool:
        return self.processes[owner].is_dead

    def _merchant(self) -> str:
        merchant_id = self.around.new_id()
        partition = partition_of(public(MERCHANT, merchant_id), self.size.partitions)
        self._streams[merchant_id] = events_stream(partition)
        return merchant_id

    # -- what may never happen ----------------------------------------------------------------------------------------

    def watch_write(self, batch: Batch) -> None:
        """L13: nothing is written under an epoch that is over."""
        for lease in batch.leases:
            epoch = self.store.tables.partitions[lease.partition].epoch
            if epoch != lease.epoch:
                self.violate(f"L13: partition {lease.partition} written under epoch {lease.epoch}, it is {epoch}")

    def watch_release(self, process: str, lease: Lease) -> None:
        """Nothing is given back while it is still read: whoever takes it next would not be alone."""
        if self.reading[process, lease.partition]:
            self.violate(f"partition {lease.partition} given back while it is read")

    def watch_ack(self, stream: str, ids: Sequence[str]) -> None:
        """Nothing is acknowledged before its effect is committed, unless another entry brings the same.

        Or has brought it: what was put on the road a second time may be in hand from the first, whose entry is gone. If
        that comes to nothing, it is put there a third time.
        """
        for entry_id in ids:
            for name, value in self.valkey.fields_of(stream, entry_id).items():
                if self._is_awaited(stream, name, value) and self.valkey.count_waiting(stream, name, value) < 2:
                    self.violate(f"acknowledged before committed: {name.decode()} {value.decode()} on {stream}")

    def _is_awaited(self, stream: str, name: bytes, value: bytes) -> bool:
        """Whether what the field of an entry names has not had its effect."""
        if name == b"ref":
            row = self.store.tables.outbox.get(value.decode())
            return row is not None and row.stream == stream and not row.republished
        event = self.events.get(value.decode())
        return event is not None and event.id not in self.store.tables.verdicts and self.said[event.id] == 1

    def watch_loss(self, stream: str, entry_id: str, is_read: bool) -> None:
        """No entry leaves a stream that was never delivered to anybody.

        One that was delivered and not acknowledged may leave it: a stopped owner's read has swallowed it, and the next
        one trims by what it has in hand itself. Then the relay or the publisher brings it again; it is counted.
        """
        if is_read:
            self.around.counts["trimmed while pending"] += 1
        else:
            self.violate(f"passed over: {entry_id} on {stream} was never read")

    def watch_announcement(self, message: str) -> None:
        """Nobody hears of a version that is not committed."""
        for one in message.split():
            payment_id, _, version = one.partition(":")
            if self.store.tables.payments[payment_id].version < int(version):
                self.violate(f"told before committed: payment {one}")

    def read_event(self, fields: Mapping[str, str]) -> OutsideEvent | None:
        """What a publisher's entry says."""
        return self.events.get(fields.get("event", ""))
