"""Connections that break at the worst moment: after the server has done it and before anybody knows."""

from __future__ import annotations

import anyio
import pytest

from paynode.storage.postgres import Session
from tests.faults.running import pay_until, start, until_quiet
from tests.support.installation import Installation
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.proxy import LOSABLE, Act, Fault, Proxy

# In the document of every batch, of which one statement writes and commits it.
COMMIT = b'"lease_s"'
TOKENS = ("tok_approve", "tok_approve", "tok_decline", "tok_hang_after", "tok_approve", "tok_dup_callback")


def lost_either_way(pattern: bytes, share: float, name: str = "") -> list[Fault]:
    """As often the request as the reply: to the client both look the same."""
    return [
        Fault(name=f"{name}reply", pattern=pattern, act=Act.LOSE_REPLY, share=share),
        Fault(name=f"{name}request", pattern=pattern, act=Act.LOSE_REQUEST, share=share),
    ]


@pytest.mark.long
async def test_commits_that_are_cut_off_are_settled_and_nothing_is_lost_or_doubled(
    bare: Installation, to_database: Proxy
) -> None:
    merchants, history = await bare.merchants(10), History()
    await start(bare, "psp-sim", "serve", "scheduler")
    [worker] = await start(bare, "worker", database=to_database)
    to_database.faults = lost_either_way(COMMIT, 0.07)
    paid = await pay_until(bare, merchants, history, lambda: least(to_database, 2) >= 2, tokens=TOKENS)
    await until_quiet(bare)
    # What was committed after all is found out and is no failure; what was not is decided anew.
    failed = [line for line in worker.log.read_text().splitlines() if '"commit_failed"' in line]
    assert 0 < sum("cut off was not committed" in line for line in failed) <= to_database.bitten["request"]
    assert len(history.accepted) == paid
    await check_laws(bare, history.accepted)


# Members of the JSON that these statements are given: the text of a prepared statement passes only once.
STATEMENTS = {
    "the ingress accepts": b'"event_type"',
    "the gateway claims": b'"send_within_s"',
    "the gateway concludes": b'"evidence_stream"',
}


@pytest.mark.long
async def test_statements_that_are_cut_off_are_looked_up_or_found_again(bare: Installation, to_database: Proxy) -> None:
    merchants, history, again = await bare.merchants(5), History(), History()
    await start(bare, "psp-sim")
    await start(bare, "serve", "worker", "scheduler", database=to_database)
    to_database.faults = [
        fault for name, pattern in STATEMENTS.items() for fault in lost_either_way(pattern, 0.15, f"{name}: ")
    ]
    paid = await pay_until(bare, merchants, history, lambda: least(to_database, 6) >= 1)
    to_database.heal()
    # The same keys: who was told nothing asks again.
    assert await pay_until(bare, merchants, again, lambda: len(again.accepted) >= paid) == paid, again.refused
    await until_quiet(bare)
    assert len(await bare.book()) == paid
    await check_laws(bare, history.accepted + again.accepted)


@pytest.mark.long
async def test_replies_of_redis_that_are_cut_off_lose_and_double_nothing(bare: Installation, to_redis: Proxy) -> None:
    merchants, history = await bare.merchants(10), History()
    await start(bare, "psp-sim")
    await start(bare, "serve", "worker", "scheduler", redis=to_redis)
    to_redis.faults = [
        Fault(name=word, pattern=pattern, act=Act.LOSE_REPLY, share=share) for word, (pattern, share) in LOSABLE.items()
    ]
    paid = await pay_until(bare, merchants, history, lambda: least(to_redis, len(LOSABLE)) >= 3, tokens=TOKENS)
    assert len(history.accepted) == paid, "accepting needs no Redis"
    to_redis.heal()
    await until_quiet(bare)
    await check_laws(bare, history.accepted)


@pytest.mark.long
async def test_redis_may_fall_silent_under_load(bare: Installation, to_redis: Proxy) -> None:
    merchants, history = await bare.merchants(10), History()
    await start(bare, "psp-sim")
    await start(bare, "serve", "worker", "scheduler", redis=to_redis)
    await pay_until(bare, merchants, history, lambda: True)
    to_redis.hold()
    with anyio.fail_after(3):  # accepting goes on without Redis
        await pay_many(bare, merchants, history, count=30, clients=4, prefix="in silence")
        await anyio.sleep_until(anyio.current_time() + 2)
    to_redis.release()
    paid = await pay_until(bare, merchants, history, lambda: True, prefix="later")
    assert to_redis.bitten["held"] > 0, "the fault did not bite"
    assert len(history.accepted) == 2 * paid + 30, history.refused
    await until_quiet(bare)
    await check_laws(bare, history.accepted)


@pytest.mark.long
async def test_the_committers_sessions_may_be_ended_in_mid_transaction_again_and_again(
    bare: Installation, owner: Session
) -> None:
    merchants, history = await bare.merchants(10), History()
    await start(bare, "psp-sim", "serve", "worker", "scheduler")
    ended = 0

    async def end_sessions() -> None:
        nonlocal ended
        while True:
            await anyio.sleep(0.002)
            rows = await owner.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND application_name LIKE '%-committer-%' AND xact_start IS NOT NULL"
            )
            ended += len(rows)
            await anyio.sleep(0.05 * len(rows))  # between two of them something shall succeed

    async with anyio.create_task_group() as trouble:
        trouble.start_soon(end_sessions)
        paid = await pay_until(bare, merchants, history, lambda: ended >= 8, tokens=TOKENS)
        trouble.cancel_scope.cancel()
    assert len(history.accepted) == paid, history.refused
    await until_quiet(bare)
    await check_laws(bare, history.accepted)


def least(proxy: Proxy, faults: int) -> int:
    """How often the fault bit that bit least; none, unless so many different ones did."""
    return min(proxy.bitten.values()) if len(proxy.bitten) >= faults else 0
