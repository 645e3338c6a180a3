"""Wallets against the ledger: what is found, what is repaired, and what is left to people."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio
import pytest

from paynode.config import Settings
from paynode.recon.wallets import WalletReconciliation
from paynode.storage.postgres import Pool, Session
from paynode.storage.recon_wallets import PgWalletLooks, PgWalletRepairs
from paynode.storage.retiring import Retirement, retire
from tests.recon.hands import breaks, kinds, run_rows, runs, tamper
from tests.storage import world
from tests.storage.world import Shop


@pytest.fixture
def wallets(reading: Pool, writing: Pool) -> WalletReconciliation:
    return WalletReconciliation(PgWalletLooks(reading, page_size=2), PgWalletRepairs(writing), runs(writing))


@pytest.fixture
async def shops(owner: Session) -> list[Shop]:
    """Three shops, more than a page has, with three captures each."""
    made = [await world.open_shop(owner) for _ in range(3)]
    for shop in made:
        for _ in range(3):
            await world.capture(owner, shop)
    return made


async def _enrich(owner: Session, shop: Shop, amount: int = 7) -> None:
    await owner.execute("UPDATE wallets SET available = available + $2 WHERE merchant_id = $1", shop.id, amount)


async def _marks(owner: Session) -> dict[str, int]:
    rows = await owner.fetch("SELECT merchant_id::text AS id, seq FROM reconciliation_watermarks")
    return {row["id"]: row["seq"] for row in rows}


async def _buckets(owner: Session, shop: Shop) -> tuple[int, int]:
    row = await owner.fetchrow("SELECT pending, available FROM wallets WHERE merchant_id = $1", shop.id)
    assert row is not None
    return row["pending"], row["available"]


async def test_sound_wallets_are_marked_and_nothing_is_found(
    owner: Session, wallets: WalletReconciliation, shops: list[Shop]
) -> None:
    report = await wallets.run_once()
    assert (report.tally.checked, report.tally.differing) == (3, 0)
    assert await breaks(owner) == []
    assert await _marks(owner) == {shop.id: 6 for shop in shops}


async def test_a_wallet_that_is_not_its_ledger_is_made_again(
    owner: Session, wallets: WalletReconciliation, shops: list[Shop]
) -> None:
    await wallets.run_once()
    await world.capture(owner, shops[1])
    await _enrich(owner, shops[1])
    report = await wallets.run_once()
    assert (report.tally.found, report.tally.repairs) == ({"wallet_differs": 1}, 1)
    [found] = await breaks(owner)
    assert (found["kind"], found["subject"]) == ("wallet_differs", f"{shops[1].id}/EUR")
    assert (found["expected"], found["found"], found["drift"], found["size"]) == (3940, 3947, 7, 7)
    assert found["state"] == "repaired"
    assert await _buckets(owner, shops[1]) == (3940, 0)
    version = await owner.fetchval("SELECT version FROM wallets WHERE merchant_id = $1", shops[1].id)
    assert version == 5, "an actor that has it in memory loads again"
    note = await owner.fetchval("SELECT note FROM audit_log WHERE action = 'wallet.rebuild'")
    assert str(found["id"]) in note
    assert (await wallets.run_once()).tally.differing == 0
    assert (await _marks(owner))[shops[1].id] == 8


async def test_two_buckets_that_differ_alike_differ_all_the_same(
    owner: Session, wallets: WalletReconciliation, shops: list[Shop]
) -> None:
    await owner.execute("UPDATE wallets SET pending = pending - 5, available = 5 WHERE merchant_id = $1", shops[0].id)
    await wallets.run_once()
    [found] = await breaks(owner)
    assert (found["drift"], found["size"]) == (0, 10)
    assert await _buckets(owner, shops[0]) == (2955, 0)


@pytest.mark.parametrize("statement", ["DELETE FROM wallets", "UPDATE wallets SET currency = 'USD'"])
async def test_a_wallet_that_is_gone_or_another_is_found(
    owner: Session, wallets: WalletReconciliation, shops: list[Shop], statement: str
) -> None:
    await wallets.run_once()
    await tamper(owner, statement + " WHERE merchant_id = $1", shops[2].id)
    await wallets.run_once()
    subjects = {one["subject"] for one in await breaks(owner)}
    assert f"{shops[2].id}/EUR" in subjects
    assert subjects <= {f"{shops[2].id}/EUR", f"{shops[2].id}/USD"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_entries SET amount = amount + 1 WHERE seq = 7 AND merchant_id = $1",
        "UPDATE ledger_entries SET prev_hash = sha256('x') WHERE seq = 8 AND merchant_id = $1",
        "UPDATE ledger_entries SET type = 'gift' WHERE seq = 7 AND merchant_id = $1",
        "UPDATE ledger_entries SET at = at + interval '1 microsecond' WHERE seq = 7 AND merchant_id = $1",
        "DELETE FROM ledger_entries WHERE seq = 8 AND merchant_id = $1",
        "UPDATE ledger_heads SET hash = sha256('x') WHERE merchant_id = $1",
        "UPDATE reconciliation_watermarks SET hash = sha256('x') WHERE merchant_id = $1",
    ],
)
async def test_a_ledger_that_does_not_verify_is_no_reason_to_change_a_wallet(
    owner: Session, wallets: WalletReconciliation, shops: list[Shop], statement: str
) -> None:
    await wallets.run_once()
    await world.capture(owner, shops[0])
    await tamper(owner, statement, shops[0].id)
    await _enrich(owner, shops[0])
    await wallets.run_once()
    assert ("wallet_differs", "open") in {(kind, state) for kind, _, state in await kinds(owner)}
    assert (await _buckets(owner, shops[0]))[1] == 7


async def test_adjustments_that_disagree_with_the_ledger_are_people_s_business(
    owner: Session, wallets: WalletReconciliation, shops: list[Shop]
) -> None:
    await wallets.run_once()
    payment = await world.capture(owner, shops[0])
    await tamper(owner, "UPDATE wallet_adjustments SET d_pending = 0, delta = 0 WHERE payment_id = $1", payment)
    await _enrich(owner, shops[0])
    await wallets.run_once()
    assert sorted(await kinds(owner)) == [("adjustments_differ", -985, "open"), ("wallet_differs", 7, "open")]
    assert (await _buckets(owner, shops[0]))[1] == 7


async def test_what_was_changed_behind_the_mark_is_found_from_the_beginning_and_not_forgotten_until_it_agrees(
    owner: Session, wallets: WalletReconciliation, shops: list[Shop]
) -> None:
    await wallets.run_once()
    await tamper(owner, "UPDATE ledger_entries SET amount = amount + 1 WHERE seq = 1 AND merchant_id = $1", shops[0].id)
    assert (await wallets.run_once()).tally.differing == 0
    assert (await wallets.run_once(is_full=True)).tally.found == {"wallet_differs": 1, "adjustments_differ": 1}
    assert (await wallets.run_once()).tally.differing == 2, "it is no less wrong for being looked at briefly"
    assert shops[0].id not in await _marks(owner)
    assert await _buckets(owner, shops[0]) == (2955, 0), "nobody can say which of the two is right"
    await tamper(owner, "UPDATE ledger_entries SET amount = amount - 1 WHERE seq = 1 AND merchant_id = $1", shops[0].id)
    assert (await wallets.run_once()).tally.differing == 0
    assert {state for _, _, state in await kinds(owner)} == {"gone"}
    assert (await _marks(owner))[shops[0].id] == 6


async def test_a_dry_run_writes_nothing(owner: Session, wallets: WalletReconciliation, shops: list[Shop]) -> None:
    await _enrich(owner, shops[0])
    report = await wallets.run_once(is_dry=True)
    assert [one.drift for one in report.found] == [7]
    assert await breaks(owner) == []
    assert await run_rows(owner) == []
    assert (await _buckets(owner, shops[0]))[1] == 7
    assert await _marks(owner) == {}


async def test_the_same_books_give_the_same_outcome_and_rounds_alike_are_one_row(
    owner: Session, wallets: WalletReconciliation, shops: list[Shop]
) -> None:
    for _ in range(3):
        await wallets.run_once()
    await tamper(owner, "UPDATE ledger_entries SET type = 'gift' WHERE seq = 6 AND merchant_id = $1", shops[0].id)
    await owner.execute("DELETE FROM reconciliation_watermarks")
    await _enrich(owner, shops[0])
    first, second = await wallets.run_once(is_dry=True), await wallets.run_once(is_dry=True)
    assert first.tally.digest == second.tally.digest
    assert first.found == second.found
    await wallets.run_once()
    await wallets.run_once()
    rows = await run_rows(owner)
    assert [(row["rounds"], row["outcome"]["found"]) for row in rows] == [(3, {}), (2, {"wallet_differs": 1})]
    [found] = await breaks(owner)
    assert found["last_run"] == rows[-1]["id"]


async def test_money_that_moves_meanwhile_is_no_difference(
    owner: Session, wallets: WalletReconciliation, shops: list[Shop]
) -> None:
    async def go_on_capturing() -> None:
        while True:
            for shop in shops:
                await world.capture(owner, shop)

    async with anyio.create_task_group() as trading:
        trading.start_soon(go_on_capturing)
        for number in range(20):
            assert (await wallets.run_once(is_full=number % 5 == 4)).tally.differing == 0
        trading.cancel_scope.cancel()
    assert shops[0].captures > 4, "nothing moved, so that nothing was shown"


@pytest.mark.parametrize("is_marked", [True, False])
async def test_where_months_have_left_the_ledger_it_begins_at_their_opening(
    settings: Settings, owner: Session, wallets: WalletReconciliation, is_marked: bool
) -> None:
    january, march = datetime(2025, 1, 2, tzinfo=UTC), datetime(2025, 3, 2, tzinfo=UTC)
    for month in (january, datetime(2025, 2, 2, tzinfo=UTC), march):
        await owner.execute("SELECT make_ledger_partition($1)", month)
    gone, steady = [await world.open_shop(owner) for _ in range(2)]
    for shop in (gone, steady):
        await world.capture(owner, shop, at=january)
    if is_marked:
        await wallets.run_once()
    await world.capture(owner, steady, at=march)
    retirement = Retirement(
        before=datetime(2025, 3, 1, tzinfo=UTC),
        manifest="/export/manifest.json",
        manifest_sha256=bytes(32),
        actor="ada",
        note="old",
    )
    await retire(settings, retirement)
    assert await owner.fetchval("SELECT count(*) FROM ledger_entries") == 2, "January has left"
    for is_full in (False, True, False):
        assert (await wallets.run_once(is_full=is_full)).tally.differing == 0
    assert await _marks(owner) == {gone.id: 2, steady.id: 4}
    for shop in (gone, steady):
        await _enrich(owner, shop)
    report = await wallets.run_once()
    assert (report.tally.found, report.tally.repairs) == ({"wallet_differs": 2}, 2)
    assert (await _buckets(owner, gone), await _buckets(owner, steady)) == ((985, 0), (1970, 0))
