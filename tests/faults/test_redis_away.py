"""Redis is silent, refuses, or is not there at all: payments are accepted and captured as if nothing were."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio
import pytest

from paynode.config import Settings
from paynode.domain import ids
from tests.faults.running import said, start, until_quiet
from tests.support.installation import Installation, Reply, installed
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.proxy import Proxy
from tests.support.redis_servers import one_server
from tests.support.waiting import wait_until

# Seconds: on a quiet machine a payment is captured 0.5 s after it was accepted; this is for the busiest one.
PATIENCE_S = 120.0
# Seconds after which what was left behind is gone; design: 10.
BACKLOG_S = 10.0


def leave(redis: Proxy, how: str) -> None:
    """From now on Redis cannot be had."""
    if how == "silent":
        redis.hold()
    else:
        redis.is_refusing = True
        redis.cut_all()


@pytest.mark.long
@pytest.mark.parametrize("how", ["silent", "refusing"])
async def test_payments_are_captured_while_redis_is_away(bare: Installation, to_redis: Proxy, how: str) -> None:
    merchants, before, during, after = await bare.merchants(10), History(), History(), History()
    await start(bare, "psp-sim")
    serve, worker, scheduler = await start(bare, "serve", "worker", "scheduler", redis=to_redis)
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(bare, merchants, before, count=80, clients=6, prefix="before"))
        await wait_until(lambda: len(before.accepted) >= 30, "payments are under way")
        leave(to_redis, how)
    await pay_many(bare, merchants, during, count=50, clients=6, prefix="during")
    accepted = [*before.accepted, *during.accepted]
    assert len(accepted) == 130, (before.refused, during.refused, before.lost, during.lost)

    await wait_until(partial(are_captured, bare, accepted), "all are captured, and Redis is still away", PATIENCE_S)
    for process in (worker, scheduler):
        assert said(process, "redis_away") == 1, "it was judged once, by one judge for all partitions"
    assert said(scheduler, "sweep_failed") <= 2, "and then nobody goes on about it"
    replies = [await bare.pay(merchants[0], f"timed-{number}", prefer="wait=20") for number in range(5)]
    assert [reply.json["status"] for reply in replies] == ["captured"] * 5
    accepted += replies

    to_redis.heal()
    healed_at = time.monotonic()
    await pay_many(bare, merchants, after, count=40, clients=4, prefix="after")
    await until_quiet(bare, PATIENCE_S)
    assert time.monotonic() - healed_at < BACKLOG_S + PATIENCE_S
    await wait_until(lambda: said(worker, "redis_back") == 1, "it has noticed")
    assert serve.popen.poll() is None
    await check_laws(bare, [*accepted, *after.accepted])


async def test_a_redis_that_is_stopped_is_missed_by_nobody_and_leaves_no_backlog(
    settings: Settings, tmp_path: Path
) -> None:
    """SIGSTOP: its connections stay and say nothing. With the relay's waiting times of production."""
    before, during = History(), History()
    async with one_server() as (redis, url), installed(settings, url, tmp_path) as bare:
        merchants = await bare.merchants(10)
        await start(bare, "psp-sim", "serve", "worker")
        bare.start("scheduler", PAYNODE_RELAY__REPUBLISH_AFTER_S="5", PAYNODE_RELAY__INTERVAL_S="0.5")
        async with anyio.create_task_group() as load:
            load.start_soon(lambda: pay_many(bare, merchants, before, count=80, clients=6, prefix="before"))
            await wait_until(lambda: len(before.accepted) >= 30, "payments are under way")
            redis.send(signal.SIGSTOP)
        try:
            await pay_many(bare, merchants, during, count=50, clients=6, prefix="during")
            accepted = [*before.accepted, *during.accepted]
            assert len(accepted) == 130, (before.refused, during.refused, before.lost, during.lost)
            await wait_until(partial(are_captured, bare, accepted), "all are captured without Redis", PATIENCE_S)
            begun = time.monotonic()
            replies = [await bare.pay(merchants[0], f"timed-{number}", prefer="wait=20") for number in range(8)]
            seconds = (time.monotonic() - begun) / len(replies)
            await pay_many(bare, merchants, during, count=20, clients=6, prefix="last")
        finally:
            redis.send(signal.SIGCONT)
        healed_at = time.monotonic()
        assert [reply.json["status"] for reply in replies] == ["captured"] * 8
        await until_quiet(bare, BACKLOG_S + PATIENCE_S)
        print(f"captured after {seconds:.2f} s without Redis; nothing left {time.monotonic() - healed_at:.1f} s after")
        await check_laws(bare, [*before.accepted, *during.accepted, *replies])
        await anyio.to_thread.run_sync(bare.end)


@pytest.mark.long
async def test_every_process_may_be_started_while_redis_is_away(bare: Installation, to_redis: Proxy) -> None:
    """An ingress is restarted and a worker dies in the middle of an outage, of all times."""
    merchants, history = await bare.merchants(5), History()
    await start(bare, "psp-sim")
    to_redis.hold()
    serve, worker, _ = await start(bare, "serve", "worker", "scheduler", redis=to_redis)
    await pay_many(bare, merchants, history, count=20, clients=4, prefix="first")
    serve.kill()
    worker.kill()
    await start(bare, "serve", "worker", redis=to_redis)
    await pay_many(bare, merchants, history, count=20, clients=4, prefix="second")
    assert len(history.accepted) == 40, (history.refused, history.lost)
    await wait_until(partial(are_captured, bare, history.accepted), "all are captured without Redis", PATIENCE_S)
    assert to_redis.bitten["held"] > 0, "the fault did not bite"
    to_redis.heal()
    await until_quiet(bare, PATIENCE_S)
    await check_laws(bare, history.accepted)


@pytest.mark.long
@pytest.mark.parametrize("is_away", [False, True])
async def test_gateways_killed_in_their_calls_charge_nobody_twice(
    bare: Installation, to_redis: Proxy, is_away: bool
) -> None:
    merchants, history = await bare.merchants(5), History()
    if is_away:
        to_redis.hold()
    await start(bare, "psp-sim", "serve", "worker --roles merchants", "scheduler", redis=to_redis)
    for number in range(2):
        [gateway] = await start(bare, "worker --roles gateway", redis=to_redis)
        await pay_many(
            bare, merchants, history, count=20, clients=6, tokens=("tok_slow_900", "tok_approve"), prefix=f"{number}"
        )
        await wait_until(partial(are_calls_open, bare), "calls are under way", PATIENCE_S)
        gateway.kill()
    await start(bare, "worker --roles gateway", redis=to_redis)
    assert len(history.accepted) == 40, (history.refused, history.lost)
    await wait_until(partial(have_ended, bare), "all have ended", PATIENCE_S)
    cut = await bare.rows("SELECT FROM evidence WHERE reason = 'gateway_lost'")
    assert len(cut) >= 2, "no call was ever cut off: the fault did not bite"
    to_redis.heal()
    await until_quiet(bare, PATIENCE_S)
    await check_laws(bare, history.accepted)


async def are_calls_open(bare: Installation) -> bool:
    return len(await bare.rows("SELECT FROM psp_attempts WHERE outcome IS NULL AND deadline_at > now()")) >= 2


async def have_ended(bare: Installation) -> bool:
    [row] = await bare.rows("SELECT count(*) AS n FROM payments WHERE status IN ('created', 'processing', 'unknown')")
    return bool(row["n"] == 0)


async def are_captured(bare: Installation, replies: Sequence[Reply]) -> bool:
    wanted = [ids.parse(ids.PAYMENT, reply.json["id"]) for reply in replies]
    [row] = await bare.rows(
        "SELECT count(*) AS n FROM payments WHERE id = ANY($1::uuid[]) AND status = 'captured'", wanted
    )
    return bool(row["n"] == len(wanted))
