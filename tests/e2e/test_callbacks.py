"""G5, G6: callbacks five times, out of order, before the answer, for what nobody knows, after the end, stale, badly
signed, about another amount; and the three ways in which a hosted payment's outcome comes, all at once.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import anyio
import orjson

from paynode.sections import SimAccount
from tests.support.installation import Installation, Merchant, Reply, token
from tests.support.laws import check_laws
from tests.support.waiting import wait_until

TOKENS = ("tok_approve", "tok_decline", "tok_approve", "tok_approve")
SHOP = "http://127.0.0.1:9/thanks"


@asynccontextmanager
async def faults(installation: Installation, **rates: object) -> AsyncIterator[None]:
    """The PSP behaves so for as long as the block lasts."""
    url = installation.settings.psp["sim"].url + "/faults"
    assert (await installation.send("POST", url, json=rates)).status == 200
    try:
        yield
    finally:
        assert (await installation.send("POST", url, json={})).status == 200


async def call_back(
    installation: Installation, raw: bytes, *, age_s: int = 0, secret: str | None = None
) -> tuple[int, str]:
    """Be the PSP; the status, and the code of a refusal."""
    account = installation.settings.psp["sim"]
    assert isinstance(account, SimAccount)
    at = str(int(time.time()) - age_s)
    key = (account.webhook_secret if secret is None else secret).encode()
    digest = hmac.new(key, at.encode() + b"." + raw, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "Sim-Signature": f"t={at},v1={digest}"}
    reply = await installation.send("POST", "/v1/psp/sim/webhook", data=raw, headers=headers)
    return reply.status, "" if reply.status == 200 else str(reply.json["code"])


async def pay_tokens(installation: Installation, merchant: Merchant, count: int, prefix: str) -> list[Reply]:
    replies: list[Reply] = []

    async def pay(number: int) -> None:
        method = token(TOKENS[number % len(TOKENS)])
        replies.append(await installation.pay(merchant, f"{prefix}-{number}", method=method, amount=1000 + number))

    async with anyio.create_task_group() as clients:
        for number in range(count):
            clients.start_soon(pay, number)
    assert [reply.status for reply in replies] == [201] * count
    return replies


async def books(installation: Installation, merchant: Merchant) -> tuple[Any, Any]:
    """What a merchant sees of its money."""
    return await installation.get(merchant, "/v1/wallets"), await installation.get(merchant, "/v1/ledger?limit=100")


async def test_callbacks_may_come_before_the_answer_often_late_and_in_any_order(shared: Installation) -> None:
    [merchant] = await shared.merchants(1)
    replies = await _until_one_was_faster_than_the_answer(shared, merchant)
    async with faults(shared, callback_jitter_ms=600, duplicate_callback=1.0, seed=5):
        replies += await pay_tokens(shared, merchant, 8, "mixed")
        await shared.until_settled()
        await wait_until(lambda: _are_told(shared, len(replies)), "every charge was told of", 30)
        await shared.until_settled()
    await check_laws(shared, replies)

    # After the end, five times each, the last one first; and once more as another event that says the same.
    before = await books(shared, merchant)
    inbox = await shared.rows("SELECT raw, payment_id FROM inbox ORDER BY received_at DESC")
    evidence = await shared.rows("SELECT id FROM evidence ORDER BY id")
    assert all(row["payment_id"] is not None for row in inbox)
    for row in inbox:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(_accepted, shared, row["raw"])
        again = orjson.loads(row["raw"]) | {"id": f"evt_{uuid4().hex}"}
        await _accepted(shared, orjson.dumps(again))
    await shared.until_settled()
    assert len(await shared.rows("SELECT FROM inbox")) == 2 * len(inbox)
    assert await shared.rows("SELECT id FROM evidence ORDER BY id") == evidence, "nothing of it was news"
    assert await books(shared, merchant) == before
    await check_laws(shared, replies)

    # What cannot be believed leaves nothing.
    raw = orjson.dumps(orjson.loads(inbox[0]["raw"]) | {"id": "evt_forged"})
    assert await call_back(shared, raw, age_s=3600) == (401, "callback_stale")
    assert await call_back(shared, raw, secret="guessed") == (401, "callback_signature_invalid")
    assert await shared.rows("SELECT FROM inbox WHERE event_id = 'evt_forged'") == []


async def _until_one_was_faster_than_the_answer(installation: Installation, merchant: Merchant) -> list[Reply]:
    """The PSP takes its time to answer, and none to call back."""
    replies: list[Reply] = []
    for number in range(5):
        async with faults(installation, latency_ms=1000):
            replies += await pay_tokens(installation, merchant, 4, f"early-{number}")
            await installation.until_settled()
        first = await installation.rows(
            "SELECT DISTINCT ON (operation_id) source FROM evidence WHERE outcome IN ('approved', 'declined') "
            "ORDER BY operation_id, at"
        )
        if "callback" in {row["source"] for row in first}:
            return replies
    raise AssertionError("the fault did not bite: no callback came before the answer")


async def _accepted(installation: Installation, raw: bytes) -> None:
    assert await call_back(installation, raw) == (200, "")


async def _are_told(installation: Installation, count: int) -> bool:
    rows = await installation.rows("SELECT DISTINCT our_reference FROM inbox")
    return len(rows) >= count


async def test_a_callback_for_a_payment_that_was_unknown_when_it_came_is_what_ends_it(shared: Installation) -> None:
    """The answer is lost and nothing can be asked: all there is is a callback that found nobody when it came."""
    [merchant] = await shared.merchants(1)
    sample = await _sample(shared, merchant)
    async with faults(shared, inquiry_error=1.0, drop_callback=1.0):
        reply = await shared.pay(merchant, "early bird", method=token("tok_hang_after"), amount=4321)
        charge = await _charge(shared, reply)
        [kept] = await shared.rows("SELECT claim::text AS claim FROM inbox WHERE our_reference = $1", sample)
        claim = orjson.loads(kept["claim"]) | {"reference": charge["psp_reference"], "amount": 4321}
        stranger = orjson.dumps(orjson.loads(await _raw(shared, sample)) | {"id": "evt_of_nobody"})
        stranger = stranger.replace(sample.encode(), str(uuid4()).encode())
        assert await call_back(shared, stranger) == (200, "")
        await shared.rows(
            """INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim)
            SELECT $1, psp, 'evt_early', $2, raw, $3::jsonb FROM inbox WHERE our_reference = $4 LIMIT 1""",
            str(uuid4()),
            charge["our_reference"],
            orjson.dumps(claim).decode(),
            sample,
        )
        await wait_until(lambda: _has_status(shared, merchant, reply, "captured"), "it is captured", 30)
    await shared.until_settled()
    [row] = await shared.rows("SELECT payment_id FROM inbox WHERE event_id = 'evt_early'")
    assert row["payment_id"] is not None
    [row] = await shared.rows("SELECT payment_id FROM inbox WHERE event_id = 'evt_of_nobody'")
    assert row["payment_id"] is None, "kept, and looked for again"
    await check_laws(shared, [reply])


async def _sample(installation: Installation, merchant: Merchant) -> str:
    """The operation of a payment that was told of as usual: how a callback of this PSP looks."""
    reply = await installation.pay(merchant, "sample", prefer="wait=20")
    assert reply.json["status"] == "captured"
    reference = str((await _charge(installation, reply))["our_reference"])
    await wait_until(lambda: _is_kept(installation, reference), "it was told of")
    return reference


async def _is_kept(installation: Installation, reference: str) -> bool:
    return bool(await installation.rows("SELECT FROM inbox WHERE our_reference = $1", reference))


async def _raw(installation: Installation, reference: str) -> bytes:
    [row, *_] = await installation.rows("SELECT raw FROM inbox WHERE our_reference = $1", reference)
    return bytes(row["raw"])


async def _charge(installation: Installation, reply: Reply) -> Mapping[str, Any]:
    """The line of the PSP's book about a payment, once there is one."""
    found: list[Mapping[str, Any]] = []

    async def is_booked() -> bool:
        [row] = await installation.rows(
            "SELECT o.id::text FROM operations AS o JOIN payments AS p ON p.id = o.payment_id WHERE p.order_id = $1 "
            "AND p.amount = $2",
            reply.json["order_id"],
            reply.json["amount"],
        )
        found[:] = [line for line in await installation.book() if line["our_reference"] == row["id"]]
        return bool(found)

    await wait_until(is_booked, "the PSP has charged")
    return found[0]


async def _has_status(installation: Installation, merchant: Merchant, reply: Reply, status: str) -> bool:
    payment = await installation.get(merchant, f"/v1/payments/{reply.json['id']}")
    return bool(payment["status"] == status)


async def test_return_callback_and_inquiry_may_race_and_agree(shared: Installation) -> None:
    """The customer comes back in three windows at once; of some payments no callback ever comes, of others three."""
    [merchant] = await shared.merchants(1)
    replies = [await _open_page(shared, merchant, number) for number in range(8)]
    last: list[str] = []

    async def be_the_customer(reply: Reply) -> None:
        page = await shared.send("GET", reply.json["checkout_url"])
        assert page.status == 303
        paid = await shared.send("POST", page.headers["Location"] + "/pay")
        assert paid.status == 303, paid.raw
        async with anyio.create_task_group() as windows:
            for _ in range(3):
                windows.start_soon(come_back, paid.headers["Location"])

    async def come_back(url: str) -> None:
        back = await shared.send("GET", url)
        assert back.status == 303
        assert back.headers["Location"].startswith(SHOP)
        last.append(back.headers["Location"])

    async def be_customers(of: Sequence[Reply]) -> None:
        async with anyio.create_task_group() as customers:
            for reply in of:
                customers.start_soon(be_the_customer, reply)

    async with faults(shared, duplicate_callback=1.0, callback_jitter_ms=1500, seed=6):
        await be_customers(replies[:4])
    async with faults(shared, drop_callback=1.0):
        await be_customers(replies[4:])
    assert len(last) == 24
    for reply in replies:
        await wait_until(lambda one=reply: _has_status(shared, merchant, one, "captured"), "it is captured", 30)  # type: ignore[misc]
    await shared.until_settled()
    sources = await shared.rows("SELECT DISTINCT source FROM evidence WHERE outcome = 'approved'")
    assert {"callback", "inquiry"} <= {row["source"] for row in sources}
    wallets, ledger = await books(shared, merchant)
    captures = [line["amount"] for line in ledger["data"] if line["type"] == "capture"]
    assert sorted(captures) == sorted(reply.json["amount"] for reply in replies), "each of them once"
    assert wallets["data"][0]["balance"] == sum(captures) - sum(
        line["amount"] for line in ledger["data"] if line["type"] == "fee"
    )
    await check_laws(shared, replies)


async def _open_page(installation: Installation, merchant: Merchant, number: int) -> Reply:
    method = {"type": "hosted_page", "return_url": SHOP}
    reply = await installation.pay(merchant, f"page-{number}", method=method, amount=2000 + number)
    assert reply.status in (201, 202)
    await wait_until(lambda: _has_status(installation, merchant, reply, "requires_action"), "its page is open", 30)
    return reply


# The last of this file: what is in review breaks a law for whoever looks at the whole installation after it.
async def test_a_callback_that_claims_another_amount_or_currency_is_for_people_and_moves_no_money(
    shared: Installation,
) -> None:
    """G6. The answers are lost and nothing can be asked: what is claimed is all there is, and is not what was asked."""
    [merchant] = await shared.merchants(1)
    for number, wrong in enumerate(("callback_wrong_amount", "callback_wrong_currency")):
        async with faults(shared, inquiry_error=1.0, **{wrong: 1.0}):
            reply = await shared.pay(merchant, f"wrong-{number}", method=token("tok_hang_after"))
            await wait_until(lambda one=reply: _has_status(shared, merchant, one, "review"), wrong, 30)  # type: ignore[misc]
    wallets, ledger = await books(shared, merchant)
    assert (wallets["data"], [line for line in ledger["data"] if line["credit_account"].startswith("merchant")]) == (
        [],
        [],
    )
