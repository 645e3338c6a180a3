"""Group commit against a database that fails in every way it can."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import anyio
import pytest
from uuid_utils import uuid7

from paynode import config
from paynode.domain.accepting import Accepted, KeyUse, NewPayment, StoredAnswer, Verdict
from paynode.domain.errors import Conflict, OrderHasOpenPayment, Poison, Transient, Unavailable
from paynode.domain.money import Money
from paynode.domain.payment import Method, PspOrder, Status
from paynode.domain.reading import PaymentView
from paynode.domain.road import Pointer
from paynode.http.acceptor import Acceptor
from paynode.http.announcing import Announcer
from tests.http.house import Recorder
from tests.support.waiting import wait_until

REJECTED = OrderHasOpenPayment("p")


class Database:
    """Fails by script: each `accept` takes the next error, if there is one, before or after it commits."""

    def __init__(self, *errors: Exception | None, commits_before_it_fails: bool = False) -> None:
        self.errors = list(errors)
        self.commits_first = commits_before_it_fails
        self.committed: set[str] = set()
        self.taken: set[str] = set()
        self.poison: set[str] = set()
        self.is_silent = False
        self.groups: list[int] = []

    async def accept(self, group: Sequence[NewPayment]) -> frozenset[str]:
        self.groups.append(len(group))
        ids = {payment.view.id for payment in group}
        if ids & self.poison:
            raise Poison("refused_by_database", "CheckViolationError")
        error = self.errors.pop(0) if self.errors else None
        if error is None or self.commits_first:
            self.committed |= ids - self.taken
        if error is not None:
            raise error
        return frozenset(ids - self.taken)

    async def find(self, group: Sequence[NewPayment]) -> Sequence[Verdict | None]:
        if self.is_silent:
            raise Unavailable("gone")
        return [self._verdict(payment.view.id) for payment in group]

    def _verdict(self, payment_id: str) -> Verdict | None:
        if payment_id in self.committed:
            return Accepted(payment_id=payment_id)
        return REJECTED if payment_id in self.taken else None

    async def adopt(self, use: KeyUse, *, in_flight_s: float) -> bool:
        raise NotImplementedError

    async def store(self, use: KeyUse, answer: StoredAnswer) -> StoredAnswer | None:
        raise NotImplementedError

    async def release(self, use: KeyUse) -> None:
        raise NotImplementedError


def payment() -> NewPayment:
    now = datetime.now(UTC)
    money = Money(amount=1, currency="EUR")
    ids = [str(uuid7()) for _ in range(4)]
    view = PaymentView(
        id=ids[0],
        merchant_id=str(uuid7()),
        order_id="o",
        status=Status.PROCESSING,
        money=money,
        method=Method.TOKEN,
        return_url=None,
        psp="sim",
        metadata={},
        created_at=now,
        updated_at=now,
    )
    return NewPayment(
        view=view,
        order=PspOrder(
            operation_id=ids[1],
            payment_id=view.id,
            merchant_id=view.merchant_id,
            psp="sim",
            money=money,
            method=Method.TOKEN,
            token="tok_approve",
        ),
        use=KeyUse(merchant_id=view.merchant_id, path="/v1/payments", key=ids[0], fingerprint=bytes(32)),
        command_id=ids[2],
        event_id=ids[3],
        customer=None,
        description=None,
        in_flight_s=0,
        answer=None,
    )


async def verdicts(database: Database, group: Sequence[NewPayment]) -> tuple[list[Verdict], set[str]]:
    """What each is told, and the refs of the commands that are published."""
    recorder = Recorder()
    announcer = Announcer(recorder)
    acceptor = Acceptor(database, announcer, config.load().http)
    told = list(await acceptor.commit(group))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(announcer.run)
        expected = sum(isinstance(verdict, Accepted) for verdict in told)
        await wait_until(lambda: len(recorder.published) >= expected, "what was accepted is published")
        tasks.cancel_scope.cancel()
    return told, {pointer.ref for pointer in recorder.published}


async def test_a_group_is_one_statement() -> None:
    database, group = Database(), [payment() for _ in range(5)]
    told, published = await verdicts(database, group)
    assert told == [Accepted(payment_id=item.view.id) for item in group]
    assert published == {item.command_id for item in group}
    assert database.groups == [5]


async def test_losers_are_told_why_and_are_not_published() -> None:
    database, group = Database(), [payment() for _ in range(3)]
    database.taken = {group[1].view.id}
    told, published = await verdicts(database, group)
    assert told == [Accepted(payment_id=group[0].view.id), REJECTED, Accepted(payment_id=group[2].view.id)]
    assert published == {group[0].command_id, group[2].command_id}


async def test_winners_stay_winners_when_the_losers_cannot_be_looked_up() -> None:
    database, group = Database(), [payment() for _ in range(2)]
    database.taken, database.is_silent = {group[1].view.id}, True
    told, published = await verdicts(database, group)
    assert told[0] == Accepted(payment_id=group[0].view.id)
    assert isinstance(told[1], Unavailable)
    assert published == {group[0].command_id}


async def test_a_cut_commit_that_was_committed_is_accepted_and_published() -> None:
    database, group = Database(Unavailable("cut"), commits_before_it_fails=True), [payment() for _ in range(3)]
    told, published = await verdicts(database, group)
    assert told == [Accepted(payment_id=item.view.id) for item in group]
    assert published == {item.command_id for item in group}
    assert database.groups == [3], "never blindly repeated"


async def test_a_cut_commit_that_was_not_committed_is_not_accepted() -> None:
    database, group = Database(Unavailable("cut")), [payment() for _ in range(3)]
    told, published = await verdicts(database, group)
    assert all(isinstance(verdict, Transient) for verdict in told)
    assert published == set()


async def test_what_cannot_be_looked_up_is_neither_accepted_nor_rejected() -> None:
    database = Database(Unavailable("cut"), commits_before_it_fails=True)
    database.is_silent = True
    told, published = await verdicts(database, [payment()])
    assert isinstance(told[0], Unavailable)
    assert published == set()


@pytest.mark.parametrize("error", [Conflict("deadlock"), Poison("refused_by_database", "DataError")])
async def test_a_refused_group_is_tried_one_by_one(error: Exception) -> None:
    database, group = Database(error), [payment() for _ in range(3)]
    told, published = await verdicts(database, group)
    assert told == [Accepted(payment_id=item.view.id) for item in group]
    assert database.groups == [3, 1, 1, 1]
    assert len(published) == 3


async def test_one_poisonous_payment_harms_no_other() -> None:
    database, group = Database(), [payment() for _ in range(3)]
    database.poison = {group[1].view.id}
    told, published = await verdicts(database, group)
    assert [type(verdict) for verdict in told] == [Accepted, Poison, Accepted]
    assert published == {group[0].command_id, group[2].command_id}


async def test_a_connection_that_breaks_while_they_are_tried_alone_is_looked_up_too() -> None:
    database = Database(Conflict("deadlock"), Unavailable("cut"), commits_before_it_fails=True)
    group = [payment() for _ in range(2)]
    told, _ = await verdicts(database, group)
    assert told == [Accepted(payment_id=item.view.id) for item in group]


async def test_what_redis_did_not_take_is_left_to_the_relay() -> None:
    recorder = Recorder()
    recorder.is_away = True
    announcer = Announcer(recorder)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(announcer.run)
        announcer.announce([Pointer(stream="s", ref="1")])
        await anyio.wait_all_tasks_blocked()
        recorder.is_away = False
        announcer.announce([Pointer(stream="s", ref="2")])
        await wait_until(lambda: bool(recorder.published), "the second is published")
        tasks.cancel_scope.cancel()
    assert [pointer.ref for pointer in recorder.published] == ["2"]


async def test_what_waits_at_the_stop_is_still_published() -> None:
    recorder = Recorder()
    announcer = Announcer(recorder)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(announcer.run)
        await anyio.wait_all_tasks_blocked()
        announcer.announce(Pointer(stream="s", ref=str(number)) for number in range(1200))
        tasks.cancel_scope.cancel()
    assert len(recorder.published) == 1200
