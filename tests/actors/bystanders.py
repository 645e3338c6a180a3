"""What a partition's run has around it, and these tests are not about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paynode.domain.batch import Lease
from paynode.domain.booking import MerchantBooks
from paynode.domain.message import Message, Unreadable
from paynode.domain.payment import Fact, Payment, Source
from paynode.domain.psp import Outcome
from paynode.domain.publishing import Verdict
from paynode.domain.road import Place


class Shelf:
    """Knows every row, and no payment: each message is buried, which is as much to commit as any."""

    async def messages(self, places: Sequence[Place]) -> Mapping[Place, Message | Unreadable]:
        return {place: _message(place[1]) for place in places}

    async def verdicts(self, event_ids: Sequence[str]) -> Mapping[str, Verdict]:
        return {}

    async def payments(self, payment_ids: Sequence[str]) -> Mapping[str, Payment]:
        return {}

    async def books(self, merchant_ids: Sequence[str]) -> Mapping[str, MerchantBooks]:
        return {merchant_id: MerchantBooks(merchant_id=merchant_id) for merchant_id in merchant_ids}


def _message(ref: str) -> Message:
    fact = Fact(event_id=ref, payment_id=ref, operation_id=ref, outcome=Outcome.UNKNOWN, source=Source.ANSWER)
    return Message(ref=ref, merchant_id=ref, content=fact)


class Nobody:
    """Outside publishers and suspects, of which there are none."""

    async def read(self, entries: Sequence[Mapping[str, str]], partition: int) -> Sequence[Message | Unreadable]:
        raise AssertionError("nothing comes from outside")

    async def tell(self, verdicts: Sequence[Verdict]) -> None:
        raise AssertionError("nobody is told")

    async def count(self, stream: str, entry: str) -> int:
        raise AssertionError("nobody is suspected")

    async def uncount(self, stream: str, entry: str) -> None:
        raise AssertionError("nobody is suspected")

    async def is_waiting(self, ref: str, stream: str) -> bool:
        raise AssertionError("nobody is suspected")

    async def tries(self, stream: str, entry: str) -> int:
        raise AssertionError("nobody is suspected")

    async def acquit(self, lease: Lease, stream: str) -> None:
        raise AssertionError("nobody is suspected")
