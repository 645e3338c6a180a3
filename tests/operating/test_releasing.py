"""What a requeue releases reaches its stream in order, whatever plan the database makes."""

from __future__ import annotations

import random

from paynode.config import Settings
from paynode.domain.dead_letters import Resolution, Resolving
from paynode.storage.dead_letters import PgResolving
from paynode.storage.outbox import PgOutbox
from paynode.storage.postgres import Role, Session, pool
from tests.operating.letters import die, message, park
from tests.storage.rows import new_id

PARKED = 120


async def test_what_was_parked_is_published_in_its_order_behind_the_letter(settings: Settings, owner: Session) -> None:
    """Rows lie anywhere in an outbox that lives, and an update that joins returns them as they lie."""
    ids = [new_id() for _ in range(PARKED)]
    random.Random(7).shuffle(ids)
    row = message()
    letter = await die(owner, row)
    for one in ids:
        await park(owner, message(id=one, payment_id=row["payment_id"]))
    async with pool(settings, Role.GATEWAY, application_name="test", size=1) as connections:
        desk, outbox = PgResolving(connections), PgOutbox(connections)
        assert await desk.resolve(Resolving.REQUEUE, letter, actor="ada", note="x") is Resolution.DONE
        # Rewritten by chance, in the order of nothing.
        await owner.execute("CREATE INDEX by_chance ON outbox (md5(id::text))")
        await owner.execute("CLUSTER outbox USING by_chance")
        await owner.execute("VACUUM ANALYZE outbox")
        taken = [pointer.ref for _ in range(4) for pointer in await outbox.take_due(PARKED // 3)]
    assert taken == [row["id"], *ids]
