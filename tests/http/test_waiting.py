"""Waiting for a payment to change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import anyio

from paynode.domain.errors import Unavailable
from paynode.domain.payment import Status
from paynode.domain.reading import PaymentView
from paynode.domain.road import Change
from paynode.http.waiting import Waiters
from tests.http.test_acceptor import payment
from tests.support.waiting import wait_until

VIEW = payment().view
LATER = replace(VIEW, status=Status.CAPTURED, version=2)


class Table:
    """Payments to look at, and how often they were."""

    def __init__(self, *views: PaymentView) -> None:
        self.views = {view.id: view for view in views}
        self.looks: list[list[str]] = []
        self.is_away = False

    async def payments_by_id(self, ids: Sequence[str]) -> Sequence[PaymentView]:
        self.looks.append(list(ids))
        if self.is_away:
            raise Unavailable("gone")
        return [self.views[one] for one in ids if one in self.views]


def is_final(view: PaymentView) -> bool:
    return view.is_final


async def test_a_notice_leads_to_a_look_at_once() -> None:
    table = Table(LATER)
    waiters = Waiters(table.payments_by_id, poll_s=60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.run)
        with waiters.watch(VIEW.id) as watch, anyio.fail_after(5):
            waiters.changed(Change(payment_id=VIEW.id, version=2))
            assert await watch.until(is_final, within_s=60) == LATER
        tasks.cancel_scope.cancel()


async def test_a_notice_about_a_payment_that_nobody_waits_for_costs_nothing() -> None:
    table = Table(LATER)
    waiters = Waiters(table.payments_by_id, poll_s=0.01)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.run)
        waiters.changed(Change(payment_id=VIEW.id, version=2))
        await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()
    assert table.looks == []


async def test_all_waiting_payments_are_polled_in_one_query() -> None:
    views = [replace(payment().view, version=1) for _ in range(20)]
    table = Table(*views)
    waiters = Waiters(table.payments_by_id, poll_s=0.02)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.run)
        seen: list[PaymentView | None] = []

        async def wait(view: PaymentView) -> None:
            with waiters.watch(view.id) as watch:
                seen.append(await watch.until(is_final, within_s=5))

        for view in views:
            tasks.start_soon(wait, view)
        await wait_until(lambda: any(len(look) == 20 for look in table.looks), "one query asks for all of them")
        table.views = {view.id: replace(view, status=Status.DECLINED, version=2) for view in views}
        await wait_until(lambda: len(seen) == 20, "all of them are answered")
        tasks.cancel_scope.cancel()
    assert all(view is not None and view.is_final for view in seen)


async def test_notices_do_not_keep_the_poll_from_coming() -> None:
    other = payment().view
    table = Table(VIEW, LATER, other)
    waiters = Waiters(table.payments_by_id, poll_s=0.05)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.run)

        async def pester() -> None:
            while True:
                waiters.changed(Change(payment_id=other.id, version=1))
                await anyio.sleep(0.001)

        with waiters.watch(VIEW.id) as watch, waiters.watch(other.id):
            tasks.start_soon(pester)
            assert await watch.until(is_final, within_s=5) == LATER
        tasks.cancel_scope.cancel()


async def test_a_database_that_is_away_for_a_while_only_delays() -> None:
    table = Table(LATER)
    table.is_away = True
    waiters = Waiters(table.payments_by_id, poll_s=0.01)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.run)
        with waiters.watch(VIEW.id) as watch:
            assert await watch.until(is_final, within_s=0.05) is None
            table.is_away = False
            assert await watch.until(is_final, within_s=5) == LATER
        tasks.cancel_scope.cancel()


async def test_an_older_version_is_no_news() -> None:
    waiters = Waiters(Table().payments_by_id, poll_s=60)
    with waiters.watch(VIEW.id) as watch:
        watch.tell(LATER)
        watch.tell(VIEW)
        assert watch.latest == LATER


async def test_the_stop_ends_all_waits_and_lets_no_new_one_begin() -> None:
    waiters = Waiters(Table().payments_by_id, poll_s=60)
    with waiters.watch(VIEW.id) as early, anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: early.until(is_final, within_s=60))
            await anyio.wait_all_tasks_blocked()
            waiters.stop()
        with waiters.watch(VIEW.id) as late:
            assert await late.until(is_final, within_s=60) is None


async def test_a_notice_about_a_payment_leads_to_a_look_at_what_was_asked_about_it() -> None:
    table = Table(LATER)
    waiters = Waiters(table.payments_by_id, poll_s=60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiters.run)
        with waiters.watch(VIEW.id, payment_id="its payment") as watch, anyio.fail_after(5):
            waiters.changed(Change(payment_id="its payment", version=2))
            assert await watch.until(is_final, within_s=60) == LATER
        waiters.changed(Change(payment_id="its payment", version=3))
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert table.looks == [[VIEW.id]]


async def test_nothing_is_left_when_nobody_waits_any_more() -> None:
    waiters = Waiters(Table().payments_by_id, poll_s=60)
    with waiters.watch(VIEW.id), waiters.watch(VIEW.id):
        assert waiters.is_watched(VIEW.id)
    assert not waiters.is_watched(VIEW.id)
