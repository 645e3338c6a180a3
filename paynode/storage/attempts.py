"""The gateway's rows: attempts claimed and concluded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg
import orjson

from paynode.domain.attempts import Attempt, Claim, Conclusion
from paynode.domain.errors import Poison
from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.payment import Source
from paynode.domain.psp import Outcome, PspRequest
from paynode.domain.road import Pointer, events_stream
from paynode.storage.bodies import encode_fact
from paynode.storage.postgres import Pool, borrowed, confirm
from paynode.storage.queries import load

_SQL: Final = load("attempts")


class PgAttempts:
    """One gateway process's attempts. Every method raises Unavailable when the server is away.

    `send_within_s`: after the claim, until the request must have been written; `call_deadline_s`: from then on,
    until the answer must be there.
    """

    def __init__(
        self, pool: Pool, *, gateway: str, send_within_s: float, call_deadline_s: float, partitions: int
    ) -> None:
        self._pool = pool
        self._gateway = gateway
        self._send_within_s = send_within_s
        self._call_deadline_s = call_deadline_s
        self._partitions = partitions

    async def claim(self, claims: Sequence[Claim]) -> Sequence[bool]:
        """For each claim whether it is ours: committed when this returns."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(
                _SQL["claim_attempts"], orjson.dumps([self._claim(c) for c in claims]).decode()
            )
        ours = {row["id"] for row in rows}
        return [claim.attempt_id in ours for claim in claims]

    async def find(self, operation_id: str) -> Attempt | None:
        """The attempt of the operation that may have been sent; None when nothing was."""
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(_SQL["find_attempt"], operation_id)
            await confirm(connection)  # the PSP may be asked about it
        return None if row is None else _attempt(row, operation_id)

    async def claim_resend(self, attempt_id: str, *, idempotent_for_s: float) -> bool:
        """Whether the stored bytes of an attempt in doubt may be sent again, by us and nobody else, now.

        `idempotent_for_s`: seconds after its claim in which the PSP recognises its key.
        """
        async with borrowed(self._pool) as connection:
            row = await connection.fetchrow(
                _SQL["claim_resend"],
                attempt_id,
                self._gateway,
                self._send_within_s,
                self._call_deadline_s,
                idempotent_for_s,
            )
        return row is not None

    async def conclude(self, conclusions: Sequence[Conclusion]) -> Sequence[Pointer]:
        """End commands; returns the pointers of the evidence that is to be published now.

        Raises: Poison when one of them says what no row can hold; then none of them has ended.
        """
        try:
            ended = orjson.dumps([self._conclusion(c) for c in conclusions]).decode()
            async with borrowed(self._pool) as connection:
                rows = await connection.fetch(_SQL["conclude_commands"], ended)
                if len(rows) < len(conclusions):
                    await confirm(connection)  # ended before, perhaps by us, and nothing was written now
        except orjson.JSONEncodeError as error:
            raise Poison("answer_invalid", str(error)) from error
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise Poison("refused_by_database", f"{type(error).__name__} ({error.sqlstate})") from error
        return [
            Pointer(stream=row["stream"], ref=row["id"], merchant=public(MERCHANT, row["merchant_id"])) for row in rows
        ]

    def _claim(self, claim: Claim) -> dict[str, object]:
        order = claim.command.order
        return {
            "id": claim.attempt_id,
            "command_id": claim.command.ref,
            "operation_id": order.operation_id,
            "payment_id": order.payment_id,
            "psp": order.psp,
            "path": claim.request.path,
            "request": claim.request.body.decode(),
            "gateway": self._gateway,
            "send_within_s": self._send_within_s,
            "call_deadline_s": self._call_deadline_s,
        }

    def _conclusion(self, conclusion: Conclusion) -> dict[str, object]:
        order, answer, fact = conclusion.command.order, conclusion.answer, conclusion.fact
        partition = partition_of(public(MERCHANT, order.merchant_id), self._partitions)
        return {
            "command_id": conclusion.command.ref,
            "attempt_id": conclusion.attempt_id,
            "gateway": self._gateway,
            "is_inquiry": conclusion.source is Source.INQUIRY,
            "outcome": answer and answer.outcome,
            "reason": answer and answer.reason,
            "psp_reference": answer and answer.reference,
            "evidence_id": fact and fact.event_id,
            "evidence_stream": events_stream(partition),
            "merchant_id": order.merchant_id,
            "payment_id": order.payment_id,
            "operation_id": order.operation_id,
            "evidence": fact and encode_fact(fact),
        }


def _attempt(row: asyncpg.Record, operation_id: str) -> Attempt:
    return Attempt(
        id=row["id"],
        psp=row["psp"],
        request=PspRequest(path=row["path"], body=row["request"], idempotency_key=operation_id),
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
        is_past_deadline=row["is_past_deadline"],
        age_ms=row["age_ms"],
        sent_ms=row["sent_ms"],
        reference=row["psp_reference"],
    )
