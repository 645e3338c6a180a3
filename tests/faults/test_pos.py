"""H2 at a till: what was answered is what happens to the money, whatever dies and however late the PSP is."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from contextlib import suppress

import aiohttp
import anyio

from paynode.app.parts import new_id
from paynode.domain.ids import MERCHANT, PAYMENT, parse, public
from paynode.domain.partition import partition_of
from paynode.domain.road import commands_stream, events_stream, pos_lane
from paynode.storage.postgres import Session
from paynode.streams.client import Redis
from tests.faults.running import start
from tests.support.installation import Installation, Merchant, Process, Reply, token
from tests.support.waiting import wait_until

PARTITIONS = 32
# Checkouts that wait when the till comes: each is three seconds at the PSP, and as many at once as it has places, so
# that by their order the till's would be begun when all but one round of them have ended.
COUNT, PLACES = 200, 64


async def at_till(house: Installation, merchant: Merchant, key: str, name: str, *, wait_s: int = 20) -> Reply:
    """A payment at a point of sale."""
    return await house.pay(merchant, key, prefer=f"wait={wait_s}", method=token(name), on_timeout="reverse")


async def until_ended(owner: Session, payment: str, status: str) -> None:
    """The payment has come to this end and nothing about it is left to do."""

    async def has_ended() -> bool:
        [row] = await owner.fetch(
            """SELECT status, (SELECT count(*) FROM outbox WHERE payment_id = p.id) AS left
            FROM payments AS p WHERE id = $1""",
            parse(PAYMENT, payment),
        )
        return (row["status"], row["left"]) == (status, 0)

    await wait_until(has_ended, f"{payment} is {status}", 60)


async def moved(house: Installation, owner: Session, payment: str) -> Counter[str]:
    """What the PSP did for a payment, by kind: approved entries of its own book."""
    operations = await owner.fetch("SELECT id::text FROM operations WHERE payment_id = $1", parse(PAYMENT, payment))
    ours = {row["id"] for row in operations}
    book = await house.book()
    return Counter(line["kind"] for line in book if line["our_reference"] in ours and line["result"] == "approved")


async def test_what_a_till_was_told_is_what_happens_to_the_money(bare: Installation, owner: Session) -> None:
    [merchant] = await bare.merchants(1)
    serve, _ = await start(bare, "serve", "scheduler")
    # What an answer did not tell is found out neither by a callback nor by asking before the till is told.
    bare.start("psp-sim", PAYNODE_SIM__CALLBACK_URL="http://127.0.0.1:9/")
    bare.start("worker", PAYNODE_GATEWAY__INQUIRY_LADDER_S="[2, 2, 2]")

    paid = await at_till(bare, merchant, "in-time", "tok_approve")
    assert (paid.status, paid.json["status"]) == (201, "authorized"), paid.raw
    await until_ended(owner, paid.json["id"], "captured")
    assert await moved(bare, owner, paid.json["id"]) == {"authorize": 1, "capture": 1}
    again = await at_till(bare, merchant, "in-time", "tok_approve")
    assert (again.status, again.raw) == (201, paid.raw)

    refused = await at_till(bare, merchant, "refused", "tok_decline")
    assert (refused.status, refused.json["status"]) == (201, "declined")
    assert await moved(bare, owner, refused.json["id"]) == {}

    # Authorized, and the answer lost or late: nobody was told yes, so it goes back as soon as it is known.
    for key, name in (("lost", "tok_hang_after"), ("late", "tok_slow_1300")):
        late = await at_till(bare, merchant, key, name, wait_s=1)
        assert (late.status, late.json["code"]) == (504, "authorization_timed_out"), late.raw
        payment = late.json["payment_id"]
        await until_ended(owner, payment, "voided")
        assert await moved(bare, owner, payment) == {"authorize": 1, "void": 1}, "never captured"
        told = await at_till(bare, merchant, key, name)
        assert (told.status, told.json["id"], told.json["status"]) == (201, payment, "voided")

    await killed_between_authorization_and_answer(bare, owner, merchant, serve)
    assert await bare.broken_laws() == []


async def killed_between_authorization_and_answer(
    house: Installation, owner: Session, merchant: Merchant, serve: Process
) -> None:
    """Nobody has heard of the authorization: the sweep reverses it, and whoever asks again is told so.

    On a slow machine the ingress may be faster than the signal; then the PSP takes longer.
    """
    for slow_ms in (400, 2000, 8000):
        key, name, wait_s = f"cut-{slow_ms}", f"tok_slow_{slow_ms}", slow_ms // 1000 + 3
        payment = await cut(house, owner, merchant, serve, key, name, wait_s)
        [row] = await owner.fetch("SELECT kept_at FROM payments WHERE id = $1", parse(PAYMENT, payment))
        has_bitten = row["kept_at"] is None
        await until_ended(owner, payment, "voided" if has_bitten else "captured")
        assert await moved(house, owner, payment) == {"authorize": 1, "void" if has_bitten else "capture": 1}
        [serve] = await start(house, "serve")
        told = await at_till(house, merchant, key, name)
        assert (told.status, told.json["id"]) == (201, payment)
        assert told.json["status"] == ("voided" if has_bitten else "authorized")
        if has_bitten:
            return
    raise AssertionError("the ingress was always faster")


async def cut(
    house: Installation, owner: Session, merchant: Merchant, serve: Process, key: str, name: str, wait_s: int
) -> str:
    """Pay, and kill the ingress when the PSP has said yes; the payment."""

    async def has_status(*statuses: str) -> bool:
        rows = await owner.fetch("SELECT status FROM payments WHERE idempotency_key = $1", key)
        return bool(rows) and rows[0]["status"] in statuses

    async def ask() -> None:
        with suppress(aiohttp.ClientError, OSError):
            await at_till(house, merchant, key, name, wait_s=wait_s)

    asking = asyncio.create_task(ask())
    await wait_until(lambda: has_status("processing", "authorized", "captured"), "the payment is committed", 30)
    serve.popen.send_signal(signal.SIGSTOP)
    await wait_until(lambda: has_status("authorized", "voided", "captured"), "the PSP has said yes", 30)
    serve.kill()
    await asking
    [row] = await owner.fetch("SELECT id::text FROM payments WHERE idempotency_key = $1", key)
    return public(PAYMENT, row["id"])


async def test_a_backlog_of_checkouts_and_of_evidence_does_not_hold_a_till_up(
    bare: Installation, owner: Session, road: Redis
) -> None:
    """Both lanes stand full before anybody works: what overtakes is seen in the order of things, and not in time."""
    [merchant] = await bare.merchants(1)
    await start(bare, "serve", "psp-sim")
    async with anyio.create_task_group() as shops:
        for number in range(COUNT):
            shops.start_soon(check_out, bare, merchant, f"checkout-{number}")
    await junk(road, events_stream(partition_of(public(MERCHANT, merchant.id), PARTITIONS)))
    till = asyncio.create_task(at_till(bare, merchant, "till", "tok_approve", wait_s=30))
    await wait_until(lambda: has_till(owner), "the till's payment is committed")
    await wait_until(lambda: is_published(road), "its command is on the lane that is read first")
    await start(bare, "worker", "scheduler")
    reply = await till
    assert (reply.status, reply.json["status"]) == (201, "authorized"), reply.raw
    left = await owner.fetchval("SELECT count(*) FROM payments WHERE status = 'processing'")
    assert left > PLACES, f"it has waited for all but {left} of {COUNT}"


async def check_out(house: Installation, merchant: Merchant, key: str) -> None:
    await house.pay(merchant, key, prefer="respond-async", method=token("tok_slow_3000"))


async def has_till(owner: Session) -> bool:
    return bool(await owner.fetch("SELECT FROM payments WHERE reverse_at IS NOT NULL"))


async def is_published(road: Redis) -> bool:
    return int(await road.xlen(pos_lane(commands_stream("sim")))) == 1


async def junk(road: Redis, stream: str) -> None:
    """Pointers to nothing: as long to read as any others."""
    async with road.pipeline(transaction=False) as pipeline:
        for _ in range(20_000):
            pipeline.xadd(stream, {"ref": new_id(), "merchant": "mer_x"})
        await pipeline.execute()
