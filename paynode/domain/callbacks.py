"""What a PSP tells of its own accord, and what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

from paynode.domain.accepting import Operated
from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.payment import Fact, Source
from paynode.domain.psp import Answer
from paynode.domain.road import events_stream, pos_lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """A callback that was kept aside because it spoke of nothing we knew; `operated` once we do know."""

    inbox_id: str
    psp: str
    event_id: str
    claim: Answer
    operated: Operated | None


def fact_of(said: Answer, operated: Operated, *, event_id: str) -> Fact:
    """The evidence that a callback is, where the PSP signs what it claims."""
    return Fact(
        event_id=event_id,
        payment_id=operated.payment_id,
        operation_id=operated.operation_id,
        outcome=said.outcome,
        source=Source.CALLBACK,
        reference=said.reference,
        amount=said.amount,
        currency=said.currency,
        page_url=said.page_url,
        reason=said.reason,
        psp_at_ms=said.psp_at_ms,
    )


def stream_of(operated: Operated, partitions: int) -> str:
    """Where evidence about an operation goes: to its merchant's partition, by the lane of its payment."""
    stream = events_stream(partition_of(public(MERCHANT, operated.merchant_id), partitions))
    return pos_lane(stream) if operated.is_pos else stream
