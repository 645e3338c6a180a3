"""An operator ends a doubt: as evidence for the payment's actor, never by an edit of what is booked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from paynode.domain.ids import MERCHANT, PAYMENT, public
from paynode.domain.message import EVIDENCE
from paynode.domain.partition import partition_of
from paynode.domain.payment import Fact, OperationKind, Source
from paynode.domain.psp import Outcome
from paynode.domain.road import events_stream
from paynode.storage.bodies import encode_fact
from paynode.storage.postgres import Connection, translated
from paynode.storage.queries import load

_SQL: Final = load("resolving")


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubted:
    """An operation whose outcome nobody knows, or of which the PSP owes the end."""

    id: str
    payment_id: str
    merchant_id: str
    kind: OperationKind
    amount: int
    currency: str


async def doubted(connection: Connection, payment_id: str) -> list[Doubted]:
    """The payment's operations that people must look at, or soon will. Raises: Unavailable."""
    with translated():
        rows = await connection.fetch(_SQL["find_doubted"], payment_id)
    return [Doubted(**{**row, "kind": OperationKind(row["kind"])}) for row in rows]


async def resolve(
    connection: Connection,
    operation: Doubted,
    outcome: Outcome,
    *,
    reference: str | None,
    actor: str,
    note: str,
    event_id: str,
    partitions: int,
) -> None:
    """Tell the payment's actor what became of it, as the owner, with an audit row. Raises: Unavailable.

    `reference`: the PSP's own, which a success needs.
    """
    is_success = outcome is Outcome.APPROVED
    fact = Fact(
        event_id=event_id,
        payment_id=operation.payment_id,
        operation_id=operation.id,
        outcome=outcome,
        source=Source.OPERATOR,
        reference=reference,
        amount=operation.amount if is_success else None,
        currency=operation.currency if is_success else None,
        reason="" if is_success else "operator",
    )
    stream = events_stream(partition_of(public(MERCHANT, operation.merchant_id), partitions))
    detail = {"operation": operation.id, "kind": operation.kind, "outcome": outcome, "reference": reference}
    with translated():
        async with connection.transaction():
            await connection.execute(
                _SQL["tell_actor"],
                event_id,
                stream,
                operation.merchant_id,
                operation.payment_id,
                operation.id,
                encode_fact(fact),
                EVIDENCE,
            )
            subject = public(PAYMENT, operation.payment_id)
            await connection.execute(_SQL["audit_resolution"], actor, subject, note, orjson.dumps(detail).decode())
