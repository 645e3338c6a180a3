"""Connections that break at the worst moment: after the server has done it and before anybody knows."""

from __future__ import annotations

import anyio

from tests.faults.running import said, start, until_quiet
from tests.support.installation import Installation
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.proxy import Act, Fault, Proxy
from tests.support.waiting import wait_until

COMMIT = b"COMMIT\0"
TOKENS = ("tok_approve", "tok_approve", "tok_decline", "tok_hang_after", "tok_approve", "tok_dup_callback")


def lost_either_way(pattern: bytes, share: float, name: str = "") -> list[Fault]:
    """As often the request as the reply: to the client both look the same."""
    return [
        Fault(name=f"{name}reply", pattern=pattern, act=Act.LOSE_REPLY, share=share),
        Fault(name=f"{name}request", pattern=pattern, act=Act.LOSE_REQUEST, share=share),
    ]


async def test_commits_that_are_cut_off_are_settled_and_nothing_is_lost_or_doubled(
    bare: Installation, to_database: Proxy
) -> None:
    merchants, history = await bare.merchants(10), History()
    await start(bare, "psp-sim", "serve", "scheduler")
    [worker] = await start(bare, "worker", database=to_database)
    to_database.faults = lost_either_way(COMMIT, 0.1)
    await pay_many(bare, merchants, history, count=250, clients=16, tokens=TOKENS)
    await until_quiet(bare)
    assert min(to_database.bitten[name] for name in ("reply", "request")) > 0, "the fault did not bite"
    # What was committed after all is found out and is no failure; what was not is decided anew.
    assert said(worker, "commit_failed") == to_database.bitten["request"]
    assert len(history.accepted) == 250
    await check_laws(bare, history.accepted)


# Members of the JSON that these statements are given: the text of a prepared statement passes only once.
STATEMENTS = {
    "the ingress accepts": b'"event_type"',
    "the gateway claims": b'"send_within_s"',
    "the gateway concludes": b'"evidence_stream"',
}


async def test_statements_that_are_cut_off_are_looked_up_or_found_again(bare: Installation, to_database: Proxy) -> None:
    merchants, history, again = await bare.merchants(5), History(), History()
    await start(bare, "psp-sim")
    await start(bare, "serve", "worker", "scheduler", database=to_database)
    to_database.faults = [
        fault for name, pattern in STATEMENTS.items() for fault in lost_either_way(pattern, 0.15, f"{name}: ")
    ]
    await pay_many(bare, merchants, history, count=200, clients=8)
    await until_quiet(bare)
    to_database.heal()
    await pay_many(bare, merchants, again, count=200, clients=8)  # the same keys: who was told nothing asks again
    assert len(again.accepted) == 200, again.refused
    await until_quiet(bare)
    assert len(to_database.bitten) == 2 * len(STATEMENTS), f"the fault did not bite everywhere: {to_database.bitten}"
    assert len(await bare.book()) == 200
    await check_laws(bare, history.accepted + again.accepted)


async def test_replies_of_redis_that_are_cut_off_lose_and_double_nothing(bare: Installation, to_redis: Proxy) -> None:
    merchants, history = await bare.merchants(10), History()
    await start(bare, "psp-sim")
    await start(bare, "serve", "worker", "scheduler", redis=to_redis)
    to_redis.faults = [
        Fault(name=word, pattern=b"\r\n%b\r\n" % word.encode(), act=Act.LOSE_REPLY, share=0.05)
        for word in ("XADD", "XREADGROUP", "XACK")
    ]
    await pay_many(bare, merchants, history, count=250, clients=16, tokens=TOKENS)
    assert len(history.accepted) == 250, "accepting needs no Redis"
    to_redis.heal()
    await until_quiet(bare)
    assert min(to_redis.bitten[word] for word in ("XADD", "XREADGROUP", "XACK")) > 0, "the fault did not bite"
    await check_laws(bare, history.accepted)


async def test_redis_may_fall_silent_under_load(bare: Installation, to_redis: Proxy) -> None:
    merchants, history = await bare.merchants(10), History()
    await start(bare, "psp-sim")
    await start(bare, "serve", "worker", "scheduler", redis=to_redis)
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(bare, merchants, history, count=150, clients=4))
        await wait_until(lambda: len(history.accepted) >= 50, "50 payments are accepted")
        to_redis.hold()
        at_first = len(history.accepted)
        await anyio.sleep(3)
        assert len(history.accepted) > at_first + 20, "accepting goes on without Redis"
        to_redis.release()
    assert to_redis.bitten["held"] > 0, "the fault did not bite"
    assert len(history.accepted) == 150, history.refused
    await until_quiet(bare)
    await check_laws(bare, history.accepted)


async def test_the_committers_sessions_may_be_ended_again_and_again(bare: Installation) -> None:
    merchants, history = await bare.merchants(10), History()
    await start(bare, "psp-sim", "serve", "worker", "scheduler")
    ended = 0
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(bare, merchants, history, count=300, clients=16, tokens=TOKENS))
        while len(history.accepted) < 250:
            await anyio.sleep(0.05)
            rows = await bare.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE '%-committer-%'"
            )
            ended += len(rows)
    assert ended > 5, "the fault did not bite"
    assert len(history.accepted) == 300, history.refused
    await until_quiet(bare)
    await check_laws(bare, history.accepted)
