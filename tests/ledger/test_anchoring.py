"""Anchoring as it runs: in the scheduler, from one snapshot, and only of what no failover can take back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from paynode import config
from paynode.app import auditing
from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.domain.ledger import Head
from paynode.sections import SettingRefused
from paynode.storage.auditing import PgHeads
from paynode.storage.migrating import migrate
from paynode.storage.postgres import Role, Session, pool, session
from tests.storage import world
from tests.storage.world import Shop
from tests.support.database import pointed_at
from tests.support.replicas import Pair, pair
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def a_pair() -> Iterator[Pair]:
    with pair() as made:
        yield made


async def test_nothing_is_anchored_that_the_standby_may_not_have(a_pair: Pair, tmp_path: Path) -> None:
    """What is visible may not be replicated: the head of it would contradict the ledger after a failover."""
    hurried = pointed_at(config.load({"database": {"statement_timeout_ms": 300}}), await a_pair.begin(), a_pair.home)
    outside = {"anchor_dir": str(tmp_path / "anchors"), "signing_key": str(tmp_path / "key.pem"), "make_key": True}
    hurried = hurried.model_copy(update={"ledger": hurried.ledger.model_copy(update=outside)})
    await migrate(hurried)
    async with session(hurried, Role.OWNER, application_name="test") as owner:
        await world.capture(owner, await world.open_shop(owner))
    a_pair.standby.pause()
    try:
        with pytest.raises(Unavailable):
            await auditing.anchor_now(hurried)
        assert os.listdir(tmp_path / "anchors") == []
    finally:
        a_pair.standby.resume()
    made = await auditing.anchor_now(hurried)
    assert made.anchor is not None
    assert made.anchor.heads == 1


async def test_heads_come_in_the_order_of_merchants(settings: Settings, owner: Session) -> None:
    shops = [await world.open_shop(owner) for _ in range(5)]
    for shop in reversed(shops):
        await world.capture(owner, shop)
    told: list[tuple[str, Head]] = []
    async with pool(settings, Role.READER, application_name="test", size=1) as reading:
        await PgHeads(reading).read(lambda merchant_id, head: told.append((merchant_id, head)))
    assert told == sorted(((shop.id, shop.head) for shop in shops), key=lambda one: one[0])


async def test_the_scheduler_anchors(
    books: Settings, owner: Session, shop: Shop, redis_url: str, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "PAYNODE_DATA_DIR": str(books.data_dir),
        "PAYNODE_DATABASE__URL": books.database.url,
        "PAYNODE_REDIS__URL": redis_url,
        "PAYNODE_ADMIN__SCHEDULER_PORT": "0",
        "PAYNODE_LEDGER__ANCHOR_DIR": books.ledger.anchor_dir,
        "PAYNODE_LEDGER__SIGNING_KEY": books.ledger.signing_key,
        "PAYNODE_LEDGER__MAKE_KEY": "true",
        "PAYNODE_LEDGER__ANCHOR_INTERVAL_S": "0.1",
    }
    anchors = tmp_path / "anchors"
    async with await anyio.open_process(
        [sys.executable, "-m", "paynode", "scheduler"], env=environment, stderr=subprocess.DEVNULL
    ) as scheduler:
        await wait_until(lambda: (anchors / "0000000001.anchor").exists(), "the heads are anchored", timeout=60)
        await world.capture(owner, shop)
        await wait_until(lambda: (anchors / "0000000002.anchor").exists(), "what is new is anchored too")
        scheduler.terminate()
        assert await scheduler.wait() == 0
    report = await auditing.verify(
        books, merchant_id=None, directories=[], public_keys=[], progress=lambda done, total: None
    )
    assert (report.is_sound, report.unanchored) == (True, 0)


@pytest.fixture
def alone(tmp_path: Path) -> Settings:
    """Without a database."""
    return config.load({"ledger": {"signing_key": str(tmp_path / "key.pem"), "make_key": True}})


def test_a_key_is_made_only_where_it_may_be(alone: Settings, tmp_path: Path) -> None:
    refused = alone.model_copy(update={"ledger": alone.ledger.model_copy(update={"make_key": False})})
    with pytest.raises(SettingRefused, match=r"ledger\.signing_key: .*key --make"):
        auditing.key_of(refused)
    made = auditing.key_of(alone)
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "key.pub").read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert auditing.key_of(refused) == made, "it is there now"
    assert not auditing.make_key(alone), "and is made once"
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(SettingRefused, match="chmod 600"):
        auditing.key_of(alone)


@pytest.mark.parametrize("content", ["", "secret", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_named(alone: Settings, tmp_path: Path, content: str) -> None:
    (tmp_path / "key.pem").write_text(content)
    (tmp_path / "key.pem").chmod(0o600)
    with pytest.raises(SettingRefused, match=r"key\.pem"):
        auditing.key_of(alone)
