"""The course of a drill: pay, back up in the middle of it, lose the server, restore, look at everything, pay on."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import anyio
from rich.console import Console

from paynode import config
from paynode.domain import ids
from paynode.domain.errors import Transient
from paynode.embedded.errors import ServersError
from paynode.embedded.home import open_home
from paynode.storage.migrating import migrate
from tests.drill.outcome import LostCharge, Outcome
from tests.drill.primary import Primary
from tests.drill.programs import ProgramFailed, Programs
from tests.drill.repository import Backup, Repository, end_of
from tests.drill.spoiling import Spoiling
from tests.drill.watching import Watched, broken_promises, captured, lost_entries, read_ledger
from tests.support import database as databases
from tests.support.case import gather
from tests.support.history import History
from tests.support.installation import Installation, Merchant, installed
from tests.support.laws import OF_EVERY_RUN, judge
from tests.support.load import Load, pay_many
from tests.support.own_servers import OwnServer
from tests.support.psp_book import CAPTURES
from tests.support.verbs import paynode
from tests.support.waiting import wait_until

_MERCHANTS: Final = 10
_WARM_PAYMENTS: Final = 60
_PAYMENTS_AFTER: Final = 20
_IN_FLIGHT_MAX: Final = 30
# Seconds for what is waited for; all of them are far above what was ever seen.
_WAIT_S: Final = 60.0
_VERBS: Final = ("serve", "worker", "scheduler")
# Shares of a hundred. Nobody at a page, who would be waited for; the rest is what PSPs do to us on an ordinary day.
_MIX: Final[dict[str | None, int]] = {
    "tok_approve": 78,
    "tok_decline": 8,
    "tok_slow_300": 5,
    "tok_error_after": 4,
    "tok_hang_after": 3,
    "tok_hang_before": 2,
}

say = partial(Console(stderr=True, highlight=False).print, soft_wrap=True)


class DrillFailed(Exception):
    """The drill cannot go on, for that which it drills has failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do: payments a second; `archive_timeout_s` is PostgreSQL's, which bounds what can be lost."""

    rate_per_s: float
    archive_timeout_s: int
    seed: int
    rpo_max_s: float
    rto_max_s: float
    spoiling: Spoiling
    keeps_redis: bool


@dataclass(slots=True, kw_only=True)
class Drill:
    """One drill. `lost_at`: the moment of the loss, in seconds of the epoch."""

    plan: Plan
    outcome: Outcome
    installation: Installation
    primary: Primary
    repository: Repository
    merchants: list[Merchant]
    history: History = field(default_factory=History)
    watched: Watched = field(default_factory=Watched)
    lost_at: float = 0.0

    async def run(self) -> None:
        """All of it; what is wrong stands in the outcome.

        Raises: DrillFailed, ProgramFailed, ServersError, AssertionError from a wait.
        """
        last = await self._pay_and_lose()
        archived_to = end_of(await self.repository.last_segment())
        self.plan.spoiling.spoil_archive(self.repository, last)
        await self._restore()
        await self._compare(archived_to)
        if self.outcome.code == 0:
            await self._go_on()

    # -- before -----------------------------------------------------------------------------------------------------

    async def _pay_and_lose(self) -> Backup:
        """Pay, and back up meanwhile; the last backup."""
        load = Load(
            installation=self.installation,
            merchants=self.merchants,
            history=self.history,
            urls=[self.installation.settings.http.base_url],
            rate_per_s=self.plan.rate_per_s,
            random=Random(self.plan.seed),
            in_flight_max=_IN_FLIGHT_MAX,
            mix=_MIX,
        )
        async with anyio.create_task_group() as paying:
            paying.start_soon(load.run)
            async with anyio.create_task_group() as watching:
                watching.start_soon(self.watched.follow, self.installation.settings)
                last = await self._back_up_twice()
                watching.cancel_scope.cancel()
            self._lose()  # with all that is on the way
            paying.cancel_scope.cancel()
        self.outcome.payments_accepted = len(self.history.accepted)
        self.outcome.ledger_seen = len(self.watched.entries)
        return last

    async def _back_up_twice(self) -> Backup:
        """In mid-load, and wait for a moment at which something can be lost; the last backup."""
        await self._until_accepted(_WARM_PAYMENTS)
        await self.plan.spoiling.spoil_books(self.installation)
        await self._back_up("full")
        await self._until_accepted(len(self.history.accepted) + _WARM_PAYMENTS)
        last = await self._back_up("incr")
        # Two segments behind the backup: what it needs for itself tells nothing about the archive.
        for _ in range(2):
            await self._until_archived()
        # Into the middle of the next one: the worst moment is its end, the best its beginning.
        await anyio.sleep(self.plan.archive_timeout_s / 2)
        return last

    async def _until_accepted(self, count: int) -> None:
        await wait_until(lambda: len(self.history.accepted) >= count, f"{count} payments are accepted", _WAIT_S)

    async def _back_up(self, kind: str) -> Backup:
        say(f"{kind} backup, after {len(self.history.accepted)} payments")
        begun = time.monotonic()
        made = await self.repository.back_up(kind)
        self.outcome.backups = {**self.outcome.backups, kind: time.monotonic() - begun}
        return made

    async def _until_archived(self) -> None:
        """Wait for the next segment to arrive, which archive_timeout brings about."""
        before = await self.repository.last_segment()

        async def has_arrived() -> bool:
            await anyio.sleep(0.5)  # each question is a process
            return await self.repository.last_segment() > before

        await wait_until(has_arrived, "another segment is archived", _WAIT_S)

    def _lose(self) -> None:
        """The host of the database is gone, and paynode's processes with it."""
        self.lost_at = time.time()
        self.primary.lose()
        for process in self.installation.processes:
            if process.verb in _VERBS:
                process.kill()
        say(f"the primary is lost, after {len(self.history.accepted)} payments")

    # -- the way back -----------------------------------------------------------------------------------------------

    async def _restore(self) -> None:
        """An operator's steps, and what each takes."""
        outcome = self.outcome
        with _timed() as restore:
            await self.repository.restore()
        with _timed() as recovery:
            self._start()
        with _timed() as doctor:
            said = await paynode(self.installation.settings, "doctor", "--output", "json")
        outcome.restore_s, outcome.recovery_s, outcome.doctor_s = restore[0], recovery[0], doctor[0]
        if said.code == 0:
            outcome.rto_s = time.time() - self.lost_at
        elif said.code == 3:
            broken = [one for one in said.json["data"] if one["breaches"]]
            outcome.laws_broken += [f"law broken: {one['law']}: {one['examples']}" for one in broken]
        else:
            raise DrillFailed(f"paynode doctor ended with {said.code}: {said.err}")
        if outcome.rto_s is not None and outcome.rto_s > self.plan.rto_max_s:
            outcome.failures.append(f"the way back took {outcome.rto_s:.1f} s, more than {self.plan.rto_max_s:g} s")
        say(f"restored {time.time() - self.lost_at:.1f} s after the loss; doctor ended with {said.code}")

    def _start(self) -> None:
        self.primary.start(
            archive_command=self.repository.archive_command, archive_timeout_s=self.plan.archive_timeout_s
        )

    async def _compare(self, archived_to: int) -> None:
        """What is there against what was seen."""
        outcome, seen = self.outcome, self.watched.entries
        found = await read_ledger(self.installation.settings)
        broken = broken_promises(seen, found, archived_to)
        lost = lost_entries(seen, found)
        outcome.ledger_promised = sum(entry.before_lsn <= archived_to for entry in seen.values())
        outcome.ledger_lost, outcome.captured_lost = len(lost), captured(lost)
        outcome.rpo_s = max(0.0, self.lost_at - lost[0].at) if lost else 0.0
        known = {row["id"] for row in await self.installation.rows("SELECT id::text FROM payments")}
        accepted = {ids.parse(ids.PAYMENT, reply.json["id"]) for reply in self.history.accepted}
        outcome.payments_lost = len(accepted - known)
        if not outcome.ledger_promised:
            outcome.failures.append("no entry of the ledger was in the archive: this drill shows nothing")
        if broken:
            outcome.failures.append(
                f"{len(broken)} ledger entries were in the archive and are not restored, or changed: {broken[:3]}"
            )
        if outcome.rpo_s > self.plan.rpo_max_s:
            outcome.failures.append(f"{outcome.rpo_s:.1f} s are missing, more than {self.plan.rpo_max_s:g} s")

    # -- afterwards -------------------------------------------------------------------------------------------------

    async def _go_on(self) -> None:
        """paynode upon the restored server: what was under way ends, new payments come, and backups go on."""
        installation = self.installation
        if not self.plan.keeps_redis:
            await installation.flush_redis()
        with _timed() as settling:
            for verb in _VERBS:
                installation.start(verb)
            await installation.until_settled(_WAIT_S)
        self.outcome.settled_s = settling[0]
        await self._compare_with_the_psp()
        after = History()
        await pay_many(installation, self.merchants, after, count=_PAYMENTS_AFTER, clients=4, prefix="after")
        self.outcome.payments_after = len(after.accepted)
        if len(after.accepted) < _PAYMENTS_AFTER:
            self.outcome.failures.append(f"afterwards {dict(after.refused)} payments were refused, {after.lost} lost")
        await installation.until_settled(_WAIT_S)
        await self._judge()
        await self.repository.check()
        await self.repository.back_up("full")

    async def _compare_with_the_psp(self) -> None:
        """Charges that nobody here knows: the PSP's report will name them."""
        known = {row["id"] for row in await self.installation.rows("SELECT id::text FROM operations")}
        charges = [
            line for line in await self.installation.book() if line["result"] == "approved" and line["kind"] in CAPTURES
        ]
        self.outcome.charges_known = sum(line["our_reference"] in known for line in charges)
        self.outcome.charges_lost = [
            LostCharge(
                psp_reference=line["psp_reference"],
                operation=line["our_reference"],
                amount=line["amount"],
                currency=line["currency"],
            )
            for line in charges
            if line["our_reference"] not in known
        ]

    async def _judge(self) -> None:
        """Every charge of what is known is captured, once, to the cent; and doctor's laws."""
        broken = judge(await gather(self.installation), OF_EVERY_RUN)
        self.outcome.laws_broken += [f"law broken afterwards: {law}: {what}" for law, what in broken.items()]


async def drill(directory: Path, programs: Programs, plan: Plan) -> Outcome:
    """Run one in a directory that every user may pass through; nothing runs any more when this returns."""
    outcome = Outcome(archive_timeout_s=plan.archive_timeout_s)
    try:
        async with _set_up(directory, programs, plan, outcome) as prepared:
            await prepared.run()
    except (DrillFailed, ProgramFailed, ServersError, Transient, AssertionError) as failure:
        outcome.failures.append(str(failure) or repr(failure))
    return outcome


@asynccontextmanager
async def _set_up(directory: Path, programs: Programs, plan: Plan, outcome: Outcome) -> AsyncIterator[Drill]:
    """Servers, merchants, and a whole paynode that nobody has paid with yet."""
    home = open_home(directory)
    with ExitStack() as stack:
        primary, redis = Primary(home, programs, stack), OwnServer(directory, "valkey")
        stack.callback(redis.stop)
        repository = Repository(home, programs.pgbackrest, data=primary.data, port=primary.port, socket=primary.socket)
        primary.start(archive_command=repository.archive_command, archive_timeout_s=plan.archive_timeout_s)
        await primary.make_backup_role()
        await repository.create()
        settings = databases.pointed_at(config.load(), primary.url, directory / "home")
        settings.data_dir.mkdir()
        await migrate(settings)
        async with installed(settings, redis.start(), directory) as installation:
            merchants = await installation.merchants(_MERCHANTS)
            installation.start_all()
            yield Drill(
                plan=plan,
                outcome=outcome,
                installation=installation,
                primary=primary,
                repository=repository,
                merchants=merchants,
            )


@contextmanager
def _timed() -> Iterator[list[float]]:
    """The seconds that the block took, in the list when it has ended."""
    seconds, begun = [0.0], time.monotonic()
    yield seconds
    seconds[0] = time.monotonic() - begun
