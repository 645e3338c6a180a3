"""Verdicts on charges, and what may pass while the fraud check is out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg

from paynode.domain.errors import Conflict
from paynode.domain.ids import MERCHANT, public
from paynode.domain.money import Money
from paynode.domain.partition import partition_of
from paynode.domain.payment import Fact, Method, OperationKind
from paynode.domain.road import events_stream
from paynode.domain.screening import (
    Allowance,
    Judgement,
    Opinion,
    Owed,
    Question,
    Screened,
    ScreenedView,
    Settled,
    Standing,
    Verdict,
)
from paynode.storage.bodies import encode_fact
from paynode.storage.postgres import Connection, Pool, borrowed, confirm
from paynode.storage.queries import load

_SQL: Final = load("screening")


class PgScreenings:
    """Screenings, as the gateway's role. Every method raises Unavailable when the server is away.

    `salt` goes into the digest of a customer's e-mail address; "" means that nothing is told of customers. A charge
    that is let go has `payment_deadline_s` seconds from then on to be sent in.
    """

    def __init__(self, pool: Pool, *, salt: str, partitions: int, payment_deadline_s: float) -> None:
        self._pool = pool
        self._salt = salt
        self._partitions = partitions
        self._payment_deadline_s = payment_deadline_s

    async def find(self, operation_id: str, payment_id: str) -> Standing:
        """What is known of an operation before anybody is asked about it."""
        async with borrowed(self._pool) as connection:
            return await self._find(connection, operation_id, payment_id)

    async def record(self, question: Question, screened: Screened) -> Screened:
        """Keep what the check said; the verdict that counts, which another may have given first."""
        async with borrowed(self._pool) as connection:
            arguments = (*_columns(question), screened.verdict, screened.reason)
            if (await connection.execute(_SQL["record_screening"], *arguments)).endswith(" 1"):
                return screened
            return await self._known(connection, question)

    async def bypass(self, question: Question, reason: str, allowance: Allowance) -> Screened:
        """The check is out: the charge passes within the allowance, or is held; the verdict that counts."""
        async with borrowed(self._pool) as connection:
            try:
                [row] = await connection.fetch(
                    _SQL["record_bypass"], *_columns(question), reason, allowance.payment_max, allowance.hour_max
                )
            except asyncpg.UniqueViolationError:
                return await self._known(connection, question)
            return Screened(verdict=Verdict(row["verdict"]), reason=row["reason"])

    async def owed(self, count: int) -> Sequence[Owed]:
        """At most so many about which the check is to be asked again."""
        async with borrowed(self._pool) as connection:
            return [_owed(row) for row in await connection.fetch(_SQL["find_owed"], count)]

    async def postpone(self, operation_id: str) -> None:
        """The check was asked again in vain."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["count_vain_try"], operation_id)

    async def settle(
        self, question: Question, judgement: Judgement, *, command_id: str, marker: Fact, giving_back_id: str | None
    ) -> Settled:
        """What the check says of a charge that it owed an answer about, with all that follows from it.

        `command_id` becomes the row of a charge that is let go or declined; `marker` the evidence about one that was
        sent and should not have been; `giving_back_id` a request to give its money back, if that is wanted. Of a charge
        that is not wanted any more the actor is told with the marker's id that it was never sent.
        """
        note = "the check was out when the charge was sent"
        said = (judgement.opinion, judgement.reason, None, note, self._payment_deadline_s)
        evidence = (marker.event_id, self._stream(question.merchant_id), encode_fact(marker))
        return await self._settle(question.operation_id, *said, command_id, *evidence, giving_back_id)

    async def decide(self, payment_id: str, opinion: Opinion, *, actor: str, note: str, command_id: str) -> Settled:
        """What a person says of a payment whose charge is held.

        `command_id` becomes the row of what follows: its command, or the evidence that it was never sent.
        """
        async with borrowed(self._pool) as connection:
            held = await connection.fetchrow(_SQL["find_held"], payment_id)
        if held is None:
            return Settled.KNOWN
        said = (opinion, "", actor, note, self._payment_deadline_s)
        # One of the two it is: either it goes on or it ends.
        evidence = (command_id, self._stream(held["merchant_id"]), None)
        return await self._settle(held["operation_id"], *said, command_id, *evidence, None)

    def _stream(self, merchant_id: str) -> str:
        return events_stream(partition_of(public(MERCHANT, merchant_id), self._partitions))

    async def _settle(self, *arguments: str | float | None) -> Settled:
        async with borrowed(self._pool) as connection:
            return Settled(await connection.fetchval(_SQL["settle_screening"], *arguments))

    async def _find(self, connection: Connection, operation_id: str, payment_id: str) -> Standing:
        [row] = await connection.fetch(_SQL["find_screening"], operation_id, payment_id, self._salt)
        if row["verdict"] is None:
            return Standing(screened=None, customer=row["customer"])
        await confirm(connection)  # a PSP may be called on the strength of it
        return Standing(screened=Screened(verdict=Verdict(row["verdict"]), reason=row["reason"]))

    async def _known(self, connection: Connection, question: Question) -> Screened:
        standing = await self._find(connection, question.operation_id, question.payment_id)
        if standing.screened is None:
            raise Conflict("the verdict is gone")
        return standing.screened


class PgScreened:
    """What people look at, as the reader's role. Raises Unavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def held(self, limit: int) -> Sequence[ScreenedView]:
        """Charges that wait, oldest first."""
        return await self._views("list_held", limit)

    async def marked(self, limit: int) -> Sequence[ScreenedView]:
        """Charges that went unscreened and that the check did not find in order later, newest first."""
        return await self._views("list_marked", limit)

    async def _views(self, statement: str, limit: int) -> Sequence[ScreenedView]:
        async with borrowed(self._pool) as connection:
            return [
                ScreenedView(
                    payment_id=row["payment_id"],
                    merchant_id=row["merchant_id"],
                    money=Money(amount=row["amount"], currency=row["currency"]),
                    verdict=Verdict(row["verdict"]),
                    reason=row["reason"],
                    at=row["at"],
                    is_owed=row["is_owed"],
                    opinion=None if row["opinion"] is None else Opinion(row["opinion"]),
                )
                for row in await connection.fetch(_SQL[statement], limit)
            ]


def _columns(question: Question) -> tuple[object, ...]:
    return (
        question.operation_id,
        question.payment_id,
        question.merchant_id,
        question.kind,
        question.method,
        question.money.amount,
        question.money.currency,
        question.customer,
    )


def _owed(row: asyncpg.Record) -> Owed:
    question = Question(
        operation_id=row["operation_id"],
        payment_id=row["payment_id"],
        merchant_id=row["merchant_id"],
        kind=OperationKind(row["kind"]),
        method=Method(row["method"]),
        money=Money(amount=row["amount"], currency=row["currency"]),
        customer=row["customer"],
    )
    return Owed(question=question, verdict=Verdict(row["verdict"]))
