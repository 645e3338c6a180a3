"""Payments at a point of sale: authorized while the customer stands there, or reversed.

Nobody may walk away with goods that were not paid, or without goods that were. So the answer is not what this process
has seen, but a mark on the payment's row, which is made once: 201 only after "kept", 504 only after "reversed".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol, assert_never

import anyio
import uuid_utils
from aiohttp import web

from paynode.domain import ids
from paynode.domain.accepting import KeyUse, StoredAnswer
from paynode.domain.errors import Transient, Unavailable
from paynode.domain.partition import partition_of
from paynode.domain.payment import Status
from paynode.domain.point_of_sale import Mark, Marked, Marking
from paynode.domain.reading import PaymentView
from paynode.domain.road import Pointer, events_stream, pos_lane
from paynode.http import representation
from paynode.http.acceptor import Accepting
from paynode.http.announcing import Announcer
from paynode.http.answering import Plan, answer_of, applied, replay, respond
from paynode.http.payment_body import HostedPageBody, PaymentBody
from paynode.http.prefer import Preference
from paynode.http.problem import Flaw, Problem
from paynode.http.waiting import Watch

# Seconds between two tries to decide while the database is away, or nobody can look; and seconds after the wait in
# which it is still tried.
_PAUSE_S: Final = 0.1
_GRACE_S: Final = 1.0
# What is left of a time that has run out by one clock and not yet by the other.
_INSTANT_S: Final = 0.002


def plan_of_pos(body: PaymentBody, preference: Preference) -> Plan[PaymentView]:
    """How a payment is answered that is reversed on time-out.

    Raises: Problem when what belongs to it is missing.
    """
    flaws = []
    if preference.wait_s is None:
        flaws.append(Flaw(detail="needs the header `Prefer: wait=N`, N from 1 to 30 seconds", pointer="/on_timeout"))
    if isinstance(body.method, HostedPageBody):
        detail = "must be token when on_timeout is given: nobody is sent to a page before the answer"
        flaws.append(Flaw(detail=detail, pointer="/method/type"))
    if preference.wait_s is None or flaws:
        raise Problem(status=400, code="body_invalid", detail="on_timeout needs what it does not have", errors=flaws)
    # With respond-async too: it is never answered before it is known.
    waited = f"wait={preference.wait_s}"
    return Plan(wait_s=preference.wait_s, is_enough=is_ripe, status=201, applied=waited, is_pos=True)


class Deciding(Protocol):
    """Where marks are made. Raises: Unavailable; then asking again tells what was decided."""

    async def keep(self, marking: Marking, seen_version: int, use: KeyUse, answer: StoredAnswer) -> Marked: ...
    async def reverse(self, marking: Marking) -> Marked: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PointOfSale:
    """Waits for a payment's authorization and answers what was decided."""

    base_url: str
    partitions: int
    deciding: Deciding
    accepting: Accepting
    announcer: Announcer
    clock: Callable[[], float] = time.monotonic

    async def answer(
        self, use: KeyUse, payment_id: str, plan: Plan[PaymentView], watch: Watch[PaymentView]
    ) -> web.Response:
        """201 with what was kept, or with a payment that has come to its end.

        Raises: Problem (504) for what was reversed; Unavailable when nobody can say in time what was decided.
        """
        until = self.clock() + plan.wait_s
        view = await watch.until(is_ripe, within_s=plan.wait_s)
        while view is None or not view.is_final:
            marked, answer = await self._decide(use, payment_id, plan, view, until + _GRACE_S)
            match marked.mark:
                case Mark.KEPT:
                    return await self._answer_kept(use, plan, watch, answer if marked.is_new else None)
                case Mark.REVERSED:
                    return await self._answer_reversed(use, payment_id, plan, watch, until)
                case None if watch.is_over:
                    raise Unavailable("this server is being stopped, and nothing is decided yet")
                case None:
                    # The payment has just changed, or our clock is ahead of the database's, which decides.
                    # In the first case no time need be left: it is over, and while nobody can look we have not seen it.
                    pause_s = max(marked.left_s, _INSTANT_S) if marked.left_s > 0 else _PAUSE_S
                    view = await watch.until(_news_after(view), within_s=pause_s)
                case _:
                    assert_never(marked.mark)
        return await self._store(use, answer_of(view, plan.status, self.base_url), plan)

    async def _decide(
        self, use: KeyUse, payment_id: str, plan: Plan[PaymentView], view: PaymentView | None, until: float
    ) -> tuple[Marked, StoredAnswer | None]:
        """Keep what is authorized, with its answer, or else reverse what is late.

        Raises: Unavailable when the database stays away.
        """
        merchant = ids.public(ids.MERCHANT, use.merchant_id)
        at = datetime.now(UTC)
        marking = Marking(
            payment_id=payment_id,
            merchant_id=use.merchant_id,
            event_id=_new_id(),
            request_id=_new_id(),
            stream=pos_lane(events_stream(partition_of(merchant, self.partitions))),
            # Milliseconds, as they are shown: a stored answer says exactly what the row says.
            at=at.replace(microsecond=at.microsecond // 1000 * 1000),
        )
        answer = None
        if view is not None and view.status is Status.AUTHORIZED:
            kept = replace(view, version=view.version + 1, updated_at=marking.at)
            answer = answer_of(kept, plan.status, self.base_url)
        while True:
            try:
                if view is None or answer is None:
                    marked = await self.deciding.reverse(marking)
                else:
                    marked = await self.deciding.keep(marking, view.version, use, answer)
                break
            except Unavailable:
                if self.clock() >= until:
                    raise
                await anyio.sleep(_PAUSE_S)
        if marked.is_new:
            self.announcer.announce([Pointer(stream=marking.stream, ref=marking.request_id, merchant=merchant)])
        return marked, answer

    async def _answer_kept(
        self, use: KeyUse, plan: Plan[PaymentView], watch: Watch[PaymentView], answer: StoredAnswer | None
    ) -> web.Response:
        """What was stored with the mark, by us just now or by somebody who was faster."""
        if answer is not None:
            return respond(answer, applied(plan.applied))
        if watch.latest is None:
            raise Unavailable("nobody could look at the payment")
        return await self._store(use, answer_of(watch.latest, plan.status, self.base_url), plan)

    async def _answer_reversed(
        self, use: KeyUse, payment_id: str, plan: Plan[PaymentView], watch: Watch[PaymentView], until: float
    ) -> web.Response:
        """A retry may see how the reversal ends; else nothing is known yet but that it will never be captured."""
        view = await watch.until(_is_final, within_s=max(0.0, until - self.clock()))
        if view is not None and view.is_final:
            return await self._store(use, answer_of(view, plan.status, self.base_url), plan)
        with suppress(Transient):  # the in-flight time passes by itself
            await self.accepting.release(use)
        raise Problem(
            status=504,
            code="authorization_timed_out",
            detail="the payment was not authorized in time; it is being reversed, and will never be captured",
            members={"payment_id": ids.public(ids.PAYMENT, payment_id), "payment_status": Status.UNKNOWN},
            headers={"Location": representation.path_of(payment_id), **applied(plan.applied)},
        )

    async def _store(self, use: KeyUse, answer: StoredAnswer, plan: Plan[PaymentView]) -> web.Response:
        faster = await self.accepting.store(use, answer)
        return respond(answer, applied(plan.applied)) if faster is None else replay(faster)


def is_ripe(view: PaymentView) -> bool:
    """Whether the customer can be told: it is over, or authorized."""
    return view.is_final or view.status is Status.AUTHORIZED


def _is_final(view: PaymentView) -> bool:
    return view.is_final


def _news_after(seen: PaymentView | None) -> Callable[[PaymentView], bool]:
    return lambda view: seen is None or view.version > seen.version


def _new_id() -> str:
    return str(uuid_utils.uuid7())
