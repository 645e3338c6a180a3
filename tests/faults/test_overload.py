"""H4: more than there is room for. What is let in is done, what is not leaves nothing, and PSPs are always heard."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections import Counter
from functools import partial
from uuid import uuid4

import anyio
import orjson

from paynode.sections import SimAccount
from tests.faults.running import start, until_quiet
from tests.support.installation import Installation, Merchant, Reply
from tests.support.laws import check_laws
from tests.support.waiting import wait_until

# Requests at once, and how many of them may be checkouts; customers, of whom so many find no place.
PLACES, FOR_CHECKOUTS, CUSTOMERS = 100, 70, 90


async def test_what_finds_no_place_is_told_so_and_what_is_let_in_is_done(bare: Installation) -> None:
    # Many: none of them waits for more than its share.
    merchants = await bare.merchants(10)
    merchant, *_ = merchants
    await start(bare, "psp-sim")
    await anyio.to_thread.run_sync(partial(bare.start, "serve", PAYNODE_OVERLOAD__REQUESTS_MAX=str(PLACES)))
    accepted: list[Reply] = []
    heard: Counter[int] = Counter()
    async with anyio.create_task_group() as customers:
        for number in range(CUSTOMERS):
            customers.start_soon(_insist, bare, merchants[number % 10], number, accepted, heard)
        # Nobody works on them yet: whoever has a place keeps it.
        await wait_until(lambda: _is_full(bare), "all places for checkouts are taken, and somebody found none", 30)
        for _ in range(10):
            assert (await _call_back(bare)).status == 200
        for path in ("/v1/ledger", "/v1/wallets"):
            refused = await _get(bare, merchant, path)
            assert (refused.status, refused.json["code"]) == (503, "overloaded")
            assert refused.headers["Retry-After"] == "1"
            assert refused.headers["RateLimit"] == '"overload";r=0;t=1'
        assert (await _shed(bare))["callback"] == 0
        await start(bare, "worker", "scheduler")
    assert heard.keys() <= {201, 202, 503}, heard
    assert len(accepted) == CUSTOMERS
    await until_quiet(bare)
    shed = await _shed(bare)
    # By its head a checkout that waits may be a till's: some went as such, before their body was read.
    assert shed["checkout"] + shed["pos"] == heard[503] > 0
    assert (shed["export"], shed["read"]) == (1, 1)
    assert len(await bare.rows("SELECT FROM payments")) == CUSTOMERS, "a refusal has left nothing"
    assert (await _get(bare, merchant, "/v1/ledger")).status == 200
    await check_laws(bare, accepted)


async def _insist(
    installation: Installation, merchant: Merchant, number: int, accepted: list[Reply], heard: Counter[int]
) -> None:
    """Ask again by the same key for as long as there is no place."""
    while True:
        reply = await installation.pay(merchant, f"customer-{number}", amount=1000 + number, prefer="wait=20")
        heard[reply.status] += 1
        if reply.status != 503:
            accepted.append(reply)
            return
        await anyio.sleep(0.5)


async def _is_full(installation: Installation) -> bool:
    [row] = await installation.rows("SELECT count(*) AS n FROM payments")
    return bool(row["n"] == FOR_CHECKOUTS) and (await _shed(installation))["checkout"] > 0


async def _shed(installation: Installation) -> Counter[str]:
    """How many of which class were refused for want of a place."""
    reply = await installation.send("GET", f"http://127.0.0.1:{installation.settings.admin.port}/metrics")
    lines = re.findall(r'paynode_http_shed_total\{class="(\w+)",reason="places"\} ([0-9.]+)', reply.raw.decode())
    return Counter({work: int(float(count)) for work, count in lines})


async def _get(installation: Installation, merchant: Merchant, path: str) -> Reply:
    return await installation.send("GET", path, headers={"Authorization": f"Bearer {merchant.api_key}"})


async def _call_back(installation: Installation) -> Reply:
    """Be the PSP, and speak of something that nobody knows."""
    account = installation.settings.psp["sim"]
    assert isinstance(account, SimAccount)
    charge = {
        "id": f"ch_{uuid4().hex}",
        "object": "charge",
        "reference": str(uuid4()),
        "status": "approved",
        "amount": 1000,
        "currency": "EUR",
        "decline_code": None,
        "created_ms": 1,
    }
    raw = orjson.dumps({"id": f"evt_{uuid4().hex}", "type": "charge.approved", "created_ms": 1, "data": charge})
    at = str(int(time.time()))
    digest = hmac.new(account.webhook_secret.encode(), at.encode() + b"." + raw, hashlib.sha256).hexdigest()
    headers = {"Content-Type": "application/json", "Sim-Signature": f"t={at},v1={digest}"}
    return await installation.send("POST", "/v1/psp/sim/webhook", data=raw, headers=headers)
