"""`paynode status`: one look at everything, whatever is away."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from paynode.config import Settings
from paynode.domain.guarding import CALL_KINDS
from paynode.storage.postgres import Session
from paynode.streams.client import Redis
from tests.operating.letters import EVENTS, die, message, park
from tests.storage import rows
from tests.storage.rows import new_id
from tests.storage.world import open_shop, processing
from tests.support.database import pointed_at
from tests.support.installation import Installation, installed, token
from tests.support.verbs import Said, paynode
from tests.support.waiting import wait_until

_END_S = 20.0


@pytest.fixture
async def installation(settings: Settings, redis_url: str, tmp_path: Path) -> AsyncIterator[Installation]:
    async with installed(settings, redis_url, tmp_path) as installation:
        yield installation
        await anyio.to_thread.run_sync(installation.end)


async def status(settings: Settings, redis_url: str, *arguments: str) -> Said:
    return await paynode(settings, "status", *arguments, environment={"PAYNODE_REDIS__URL": redis_url})


async def seen(settings: Settings, redis_url: str) -> dict[str, Any]:
    said = await status(settings, redis_url, "--output", "json")
    assert said.code == 0, said.err
    found: dict[str, Any] = said.json
    return found


async def test_with_everything_up_it_shows_who_does_what(installation: Installation, redis_url: str) -> None:
    installation.start_all()
    [merchant] = await installation.merchants(1)
    paid = await installation.pay(merchant, "one", prefer="wait=20")
    assert paid.json["status"] == "captured"

    async def is_all_owned() -> bool:
        found = await seen(installation.settings, redis_url)
        names = {one["name"] for one in found["singletons"] if one["lease_ms"]}
        return all(one["lease_ms"] for one in found["partitions"]) and names >= {"relay", "undertaker", "point_of_sale"}

    await wait_until(is_all_owned, "all partitions and singletons have owners", 30)
    found = await seen(installation.settings, redis_url)
    [worker], [gateway], [psp] = found["workers"], found["gateways"], found["psps"]
    assert found["redis"] == "up"
    assert len(found["partitions"]) == 32
    assert {one["owner"] for one in found["partitions"]} == {worker["id"]}
    assert all(one["epoch"] >= 1 and one["pending"] is not None for one in found["partitions"])
    assert (gateway["id"], gateway["psp"], gateway["silent_ms"]) == (worker["id"], "sim", 0)
    assert gateway["breakers"] == dict.fromkeys(CALL_KINDS, "closed")
    assert (psp["psp"], psp["in_doubt"], psp["lag"]) == ("sim", 0, 0)
    assert found["dead_letters"] == {"total": 0, "by_reason": {}}
    assert (found["unknown"], found["parked"], found["suspects"]) == (0, 0, 0)

    screen = (await status(installation.settings, redis_url)).out
    for words in (
        "all partitions owned",
        "1 workers",
        "Redis up",
        "relay",
        "undertaker",
        "all closed",
        "0 dead letters",
    ):
        assert words in screen, screen


async def test_a_breaker_that_opens_is_seen(installation: Installation, redis_url: str) -> None:
    installation.start("serve")
    installation.start(  # no simulator: nobody listens at the PSP's address
        "worker",
        PAYNODE_GATEWAY__BREAKER_FAILURES="1",
        PAYNODE_GATEWAY__BREAKER_OPEN_S="60",
        PAYNODE_GATEWAY__PULSE_S="0.2",
    )
    [merchant] = await installation.merchants(1)
    assert (await installation.pay(merchant, "one", method=token("tok_approve"))).status == 201

    async def is_open() -> bool:
        found = await seen(installation.settings, redis_url)
        return [one["breakers"].get("sale") for one in found["gateways"]] == ["open"]

    await wait_until(is_open, "the breaker of sales is open", 30)
    assert "sale open" in (await status(installation.settings, redis_url)).out


async def test_what_is_wrong_is_counted(settings: Settings, owner: Session, road: Redis, redis_url: str) -> None:
    shop = await open_shop(owner)
    payment = await processing(owner, shop)
    await owner.execute("UPDATE operations SET state = 'unknown', updated_at = now() - interval '1 hour'")
    await owner.execute(
        "UPDATE outbox SET stream = $1, created_at = now() - interval '10 seconds', available_at = created_at", EVENTS
    )
    await owner.execute("UPDATE outbox SET available_at = created_at")
    row = message()
    for reason in ("too_large", "too_large", "evidence_malformed"):
        await die(owner, row, reason=reason)
    await die(owner, None, status="discarded", resolved_by="ada")
    await park(owner, message(payment_id=row["payment_id"]))
    await owner.execute("INSERT INTO suspects (stream, entry, attempts) VALUES ($1, '1-1', 2)", EVENTS)
    await owner.execute(
        "UPDATE partitions SET owner = 'w1', epoch = 4, lease_until = now() + interval '1 hour', "
        "unclean_deaths = 2 WHERE partition = 7"
    )
    await owner.execute("INSERT INTO workers (id, alive_until) VALUES ('w1', now() - interval '30 seconds')")
    await road.xgroup_create(EVENTS, "merchants", id="0", mkstream=True)
    for number in range(5):
        await road.xadd(EVENTS, {"ref": str(number)})
    await road.xreadgroup("merchants", "owner", {EVENTS: ">"}, count=3)

    found = await seen(settings, redis_url)
    assert payment
    assert found["dead_letters"] == {"total": 3, "by_reason": {"too_large": 2, "evidence_malformed": 1}}
    assert (found["parked"], found["suspects"], found["unknown"], found["unprocessed"]) == (1, 1, 1, 1)
    assert found["oldest_unprocessed_ms"] >= 10_000
    assert found["oldest_unknown_ms"] >= 3_600_000
    seventh = found["partitions"][7]
    assert (seventh["owner"], seventh["epoch"], seventh["unclean_deaths"]) == ("w1", 4, 2)
    assert 3_000_000 < seventh["lease_ms"] <= 3_600_000
    assert (seventh["lag"], seventh["entries"], seventh["pending"]) == (1, 5, 3)
    assert found["psps"][0]["in_doubt"] == 1
    assert found["workers"][0]["silent_ms"] >= 30_000
    screen = (await status(settings, redis_url)).out
    for words in (
        "31 of 32 partitions without owner",
        "0 workers",
        "3 dead letters",
        "1 in doubt",
        "1 parked",
        "too_large",
    ):
        assert words in screen, screen


async def test_all_lanes_of_a_psp_are_counted_together(
    settings: Settings, owner: Session, road: Redis, redis_url: str
) -> None:
    for lane in ("paynode:{psp-sim}:commands" + name for name in ("", ":follow-up", ":pos")):
        row = rows.message(stream=lane)
        await rows.insert(owner, "outbox", row)
        await road.xgroup_create(lane, "gateway", id="0", mkstream=True)
        for _ in range(2):
            await road.xadd(lane, {"ref": str(row["id"])})
        await road.xreadgroup("gateway", "g1", {lane: ">"}, count=1)
    [psp] = (await seen(settings, redis_url))["psps"]
    assert (psp["stream"], psp["lag"], psp["entries"], psp["pending"]) == ("paynode:{psp-sim}:commands", 3, 6, 3)
    [shown] = (line.split() for line in (await status(settings, redis_url)).out.splitlines() if line.startswith("sim "))
    assert (shown[1], shown[4]) == ("3", "3"), shown


@contextmanager
def silent() -> Iterator[str]:
    """A Redis that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.mark.parametrize("is_silent", [True, False])
async def test_while_redis_is_away_everything_else_is_shown(untouched: Settings, is_silent: bool) -> None:
    with silent() as url:
        redis_url = url if is_silent else "redis://127.0.0.1:1/0"
        found = await seen(untouched, redis_url)
        screen = await status(untouched, redis_url)
    assert found["redis"] == "away"
    assert len(found["partitions"]) == 32
    assert {(one["lag"], one["pending"], one["entries"]) for one in found["partitions"]} == {(0, None, None)}
    assert screen.code == 0
    assert "Redis away" in screen.out


async def test_a_database_that_is_away_is_a_reason_to_try_again(settings: Settings, redis_url: str) -> None:
    away = pointed_at(settings, "postgresql://o:x@127.0.0.1:1/pay", settings.data_dir)
    for arguments in ((), ("--watch",), ("--output", "json")):
        said = await status(away, redis_url, *arguments)
        assert (said.code, said.out) == (75, "")
        assert "Traceback" not in said.err


async def test_it_only_reads(settings: Settings, owner: Session, redis_url: str) -> None:
    await owner.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM paynode_gateway, paynode_committer")
    assert (await seen(settings, redis_url))["unprocessed"] == 0


@contextmanager
def watching(settings: Settings, redis_url: str, stdout: int, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", "paynode", "status", "--watch", "0.2", *arguments],
        env={
            **os.environ,
            "PAYNODE_DATA_DIR": str(settings.data_dir),
            "PAYNODE_DATABASE__URL": settings.database.url,
            "PAYNODE_REDIS__URL": redis_url,
            "TERM": "xterm",
            "COLUMNS": "160",
            "LINES": "60",
        },
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes]:
    """Ctrl-C, and how it ended."""
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=_END_S)
    return process.returncode, errors


async def test_watching_for_programs_writes_a_document_a_line_outlives_its_session_and_ends_on_ctrl_c(
    settings: Settings, owner: Session, redis_url: str
) -> None:
    with watching(settings, redis_url, subprocess.PIPE, "--output", "json") as process:
        assert process.stdout is not None
        first = json.loads(await anyio.to_thread.run_sync(process.stdout.readline))
        assert first["dead_letters"]["total"] == 0
        await die(owner, message())
        ended_sessions = await owner.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'paynode status' "
            "AND datname = current_database()"
        )
        assert len(ended_sessions) == 1
        later = [json.loads(await anyio.to_thread.run_sync(process.stdout.readline)) for _ in range(3)]
        assert later[-1]["dead_letters"]["total"] == 1
        assert later[-1]["at"] > first["at"]
        assert await anyio.to_thread.run_sync(ended, process) == (0, b"")


async def test_watching_on_a_terminal_renews_the_screen_and_gives_the_terminal_back(
    settings: Settings, owner: Session, redis_url: str
) -> None:
    ours, theirs = pty.openpty()
    said = bytearray()

    async def until(words: bytes) -> None:
        with anyio.fail_after(_END_S):
            while words not in said:
                said.extend(await anyio.to_thread.run_sync(os.read, ours, 65536))

    try:
        with watching(settings, redis_url, theirs) as process:
            await until(b"0 dead letters")
            await die(owner, message())
            await until(b"1 dead letters")
            assert await anyio.to_thread.run_sync(ended, process) == (0, b"")
        await until(b"\x1b[?25h")  # the cursor is shown again
        assert b"\x1b[?1049l" in said, "and the screen that was there before"
    finally:
        os.close(ours)
        os.close(theirs)


async def test_letters_of_a_long_name_do_not_break_the_screen(
    settings: Settings, owner: Session, redis_url: str
) -> None:
    """What a stranger may have chosen is shown as it is and means nothing to the terminal."""
    await die(owner, None, reason="[bold]x[/bold]")
    await owner.execute("UPDATE partitions SET owner = $1, lease_until = now() + interval '1 hour'", f"[red]{new_id()}")
    assert "[bold]x[/bold]" in (await status(settings, redis_url)).out
