"""H1: a merchant with a long backlog, and its neighbours on the same partition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

from paynode.app.parts import new_id
from paynode.domain.ids import MERCHANT, public
from paynode.domain.money import Money
from paynode.domain.partition import partition_of
from paynode.domain.publishing import OutsideEvent, OutsideType, WalletMovement
from paynode.domain.road import events_stream
from paynode.storage import publishers
from paynode.storage.postgres import Session
from paynode.streams.client import Redis
from paynode.streams.codec import encode
from tests.faults.running import start
from tests.support.installation import Installation, Merchant
from tests.support.laws import check_laws
from tests.support.waiting import wait_until

PARTITIONS = 32
BACKLOG = 6_000
# What is worked on when the neighbour comes may be before it, and so much as the test looks late.
AHEAD_MAX = 3_000


async def test_a_neighbour_of_a_merchant_with_a_long_backlog_is_served_before_it(
    bare: Installation, owner: Session, road: Redis
) -> None:
    hot, quiet = neighbours(await bare.merchants(80))
    stream = events_stream(partition_of(public(MERCHANT, hot.id), PARTITIONS))
    publisher = await publishers.create(owner, "billing", types=[OutsideType.WALLET_CREDIT], actor="test")
    await put(road, stream, [credit(hot, publisher.secret) for _ in range(BACKLOG)])
    await start(bare, "psp-sim", "worker --roles merchants")
    await wait_until(lambda: has_applied(owner, hot, 1), "the backlog is being worked on", 30)

    await put(road, stream, [credit(quiet, publisher.secret)])
    await wait_until(lambda: has_applied(owner, quiet, 1), "the neighbour is served", 30)
    left = BACKLOG - await applied(owner, hot)
    assert left > BACKLOG - AHEAD_MAX, f"it has waited for all but {left}"

    await wait_until(lambda: has_applied(owner, hot, BACKLOG), "the backlog is through", 120)
    order = await owner.fetch("SELECT psp_reference FROM ledger_entries WHERE merchant_id = $1 ORDER BY seq", hot.id)
    numbers = [int(row["psp_reference"]) for row in order]
    assert numbers == sorted(numbers), "a merchant's own are served in their order"
    await check_laws(bare, [])


def neighbours(merchants: Sequence[Merchant]) -> tuple[Merchant, Merchant]:
    """Two of the same partition."""
    by_partition = defaultdict[int, list[Merchant]](list)
    for merchant in merchants:
        by_partition[partition_of(public(MERCHANT, merchant.id), PARTITIONS)].append(merchant)
    first, second, *_ = max(by_partition.values(), key=len)
    return first, second


_made = iter(range(10**9))


def credit(merchant: Merchant, secret: bytes) -> dict[str, str]:
    event = OutsideEvent(
        id=new_id(),
        source="billing",
        type=OutsideType.WALLET_CREDIT,
        at=datetime.now(UTC),
        merchant_id=merchant.id,
        data=WalletMovement(money=Money(amount=1, currency="EUR"), reason="bonus", reference=str(next(_made))),
    )
    return encode(event, "billing", secret)


async def put(road: Redis, stream: str, entries: Sequence[dict[str, str]]) -> None:
    async with road.pipeline(transaction=False) as pipeline:
        for fields in entries:
            pipeline.xadd(stream, fields)  # type: ignore[arg-type]
        await pipeline.execute()


async def applied(owner: Session, merchant: Merchant) -> int:
    return int(
        await owner.fetchval(
            "SELECT count(*) FROM applied_events WHERE merchant_id = $1 AND result = 'applied'",
            merchant.id,
        )
    )


async def has_applied(owner: Session, merchant: Merchant, count: int) -> bool:
    return await applied(owner, merchant) >= count
