"""A hand in place of the payment's actor: it decides what was asked, and lets the waiting ingress know, or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import orjson
from uuid_utils import uuid7

from paynode.domain import ids
from paynode.domain.road import Change
from tests.http.house import House, Merchant, Reply, by_token
from tests.support.waiting import wait_until


async def charged(house: House, *, amount: int = 1250) -> str:
    """A captured payment; its public id."""
    reply = await house.pay(by_token(amount=amount))
    await house.become(reply.json["id"], "captured")
    return str(reply.json["id"])


async def ask(
    house: House,
    payment: str,
    verb: str,
    body: Any = None,
    *,
    key: str | None = None,
    merchant: Merchant | None = None,
    **headers: str,
) -> Reply:
    """Ask something about a payment, by a fresh key unless one is given; without a body unless one is given."""
    given = {"Idempotency-Key": key or str(uuid7())}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    if merchant is not None:
        given["Authorization"] = f"Bearer {merchant.api_key}"
    if body is not None:
        given["Content-Type"] = "application/json"
    data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
    return await house.request("POST", f"/v1/payments/{payment}/{verb}", headers=given, data=data)


async def undecided(house: House) -> list[str]:
    """The ids of requests that nobody has decided, oldest first."""
    rows = await house.owner.fetch("SELECT id::text FROM requests WHERE decided_at IS NULL ORDER BY id")
    return [row["id"] for row in rows]


async def decide(
    house: House, request_id: str, refusal: str | None = None, *, state: str = "new", notice: bool = True
) -> None:
    """Be the actor and the committer: refuse, or make the operation; a new version of the payment only for a yes."""
    async with house.owner.transaction():  # as the committer does: nobody sees half a decision
        row = await _decide(house, request_id, refusal, state)
    if notice:
        house.ingress.changed(Change(payment_id=str(row["payment_id"]), version=row["version"]))


async def _decide(house: House, request_id: str, refusal: str | None, state: str) -> Mapping[str, Any]:
    row = await house.owner.fetchrow(
        """UPDATE requests AS r SET decided_at = clock_timestamp(), refusal = $2 FROM payments AS p
        WHERE r.id = $1 AND p.id = r.payment_id RETURNING r.*, p.amount AS whole, p.currency, p.psp, p.version""",
        request_id,
        refusal,
    )
    assert row is not None
    await house.owner.execute("DELETE FROM outbox WHERE id = $1", request_id)
    if refusal is not None:
        return dict(row)
    await house.owner.execute(
        """INSERT INTO operations (
            id, payment_id, merchant_id, kind, amount, currency, psp, request, state, is_final
        )
        VALUES ($1, $2, $3, $4, $5, $6, $7, '{}', $8, $9)""",
        request_id,
        row["payment_id"],
        row["merchant_id"],
        row["kind"],
        row["amount"] or row["whole"],
        row["currency"],
        row["psp"],
        state,
        row["is_final"],
    )
    await house.owner.execute("UPDATE payments SET version = version + 1 WHERE id = $1", row["payment_id"])
    return dict(row)


async def conclude(house: House, request_id: str, state: str, reason: str = "") -> None:
    """Be the committer again: what the PSP has said of an operation."""
    await house.owner.execute(
        """WITH said AS (
            INSERT INTO evidence (id, payment_id, operation_id, outcome, source, reason)
            SELECT gen_random_uuid(), payment_id, id, $2, 'answer', $3 FROM operations WHERE id = $1
            RETURNING payment_id
        ), known AS (
            UPDATE operations SET state = $2, updated_at = clock_timestamp() WHERE id = $1
        ) UPDATE payments SET version = version + 1 FROM said WHERE payments.id = said.payment_id""",
        request_id,
        state,
        reason,
    )


Decision = Callable[[str], Awaitable[None]]


@asynccontextmanager
async def deciding(house: House, decision: Decision) -> AsyncIterator[list[str]]:
    """Decide whatever is asked as it comes, until the end of the block; gives the requests that were decided."""
    decided: list[str] = []
    is_over = False

    async def run() -> None:
        # Told to end and not cancelled: half a decision is none.
        while not is_over:
            for request_id in await undecided(house):
                await decision(request_id)
                decided.append(request_id)
            await anyio.sleep(0.005)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            yield decided
        finally:
            is_over = True


def saying(house: House, refusal: str | None = None, *, state: str = "new", notice: bool = True) -> Decision:
    """Always the same decision."""

    async def decision(request_id: str) -> None:
        await decide(house, request_id, refusal, state=state, notice=notice)

    return decision


async def only_undecided(house: House) -> str:
    """The one request that waits for its decision, as soon as it does."""
    found: list[str] = []

    async def is_asked() -> bool:
        found[:] = await undecided(house)
        return len(found) == 1

    await wait_until(is_asked, "a request waits for its decision", 30)
    return found[0]


def of(payment: str, path: str = "") -> str:
    """The path of something of a payment."""
    return f"/v1/payments/{payment}{path}"


def uuid_of(shown: Mapping[str, Any]) -> str:
    """The UUID of what is shown."""
    text = str(shown["id"])
    uuid = ids.parse(text.partition("_")[0], text)
    assert uuid is not None
    return uuid
