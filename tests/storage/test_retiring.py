"""Old months leave the ledger: what they came to stays, the laws hold over what is left, and still bite."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import asyncpg
import pytest

from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.storage import retiring
from paynode.storage.invariants import check
from paynode.storage.postgres import Role, Session, session
from paynode.storage.retiring import Retirement, RetirementRefused, retire
from tests.storage import rows, world
from tests.storage.committing import Committer, committer
from tests.storage.world import Shop
from tests.support.verbs import paynode
from tests.support.waiting import wait_until

# Three months of a year that is over, whenever this runs.
JANUARY, FEBRUARY, MARCH = (datetime(2025, month, 1, tzinfo=UTC) for month in (1, 2, 3))
_DAY = timedelta(days=1)
MANIFEST = bytes(range(32))


def asked(before: datetime) -> Retirement:
    return Retirement(
        before=before, manifest="/export/manifest.json", manifest_sha256=MANIFEST, actor="ada", note="old"
    )


async def broken(settings: Settings) -> set[str]:
    async with session(settings, Role.READER, application_name="test") as reader:
        return {finding.law for finding in await check(reader, due_max_s=300) if finding.breaches.total}


@pytest.fixture
async def shops(owner: Session) -> tuple[Shop, Shop, Shop]:
    """One that sold in each of three months and sells today, one that sold in January only, one that began in March."""
    for month in (JANUARY, FEBRUARY, MARCH):
        await owner.execute("SELECT make_ledger_partition($1)", month)
    steady, gone, young = [await world.open_shop(owner) for _ in range(3)]
    await world.credit(owner, steady, at=JANUARY)
    for epoch, month in enumerate((JANUARY, FEBRUARY, MARCH), start=1):
        kept = await world.capture(owner, steady, epoch=epoch, at=month + _DAY)
        given_back = await world.capture(owner, steady, epoch=epoch, at=month + 20 * _DAY)
        await world.refund(owner, steady, given_back, epoch=epoch, at=month + 21 * _DAY)
        if month == JANUARY:
            late = kept
    await world.refund(owner, steady, late, epoch=3, at=MARCH + 25 * _DAY)
    await world.capture(owner, gone, at=JANUARY + 2 * _DAY)
    await world.capture(owner, young, at=MARCH + 3 * _DAY)
    await world.credit(owner, steady, epoch=3)
    return steady, gone, young


async def test_the_laws_hold_before_and_after_and_when_more_follows(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop]
) -> None:
    steady, gone, _ = shops
    assert await broken(settings) == set()
    retired = await retire(settings, asked(FEBRUARY))
    assert (retired.partitions, retired.entries) == (("ledger_entries_2025_01",), 8)
    assert await owner.fetchval("SELECT min(seq) FROM ledger_entries WHERE merchant_id = $1", steady.id) == 7
    assert await broken(settings) == set()
    for shop in (steady, gone):
        await world.capture(owner, shop, epoch=3)
    assert await broken(settings) == set()


async def test_months_leave_one_after_the_other(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop]
) -> None:
    await retire(settings, asked(FEBRUARY))
    retired = await retire(settings, asked(MARCH + timedelta(days=31)))
    assert retired.partitions == ("ledger_entries_2025_02", "ledger_entries_2025_03")
    assert await broken(settings) == set()
    assert await owner.fetchval("SELECT count(*) FROM ledger_entries") == 1
    assert await owner.fetchval("SELECT count(*) FROM ledger_entries_2025_01") == 8


_STEADY = "merchant_id = (SELECT merchant_id FROM ledger_entries WHERE type = 'credit' LIMIT 1)"


@pytest.mark.parametrize(
    ("statement", "laws"),
    [
        (
            f"UPDATE ledger_entries SET amount = amount + 1 WHERE seq = 7 AND {_STEADY}",
            {"books_balance", "wallets_fold_the_ledger", "chains_verify", "captures_are_posted"},
        ),
        (
            f"DELETE FROM ledger_entries WHERE seq = 7 AND {_STEADY}",
            {
                "books_balance",
                "wallets_fold_the_ledger",
                "chains_verify",
                "captures_are_posted",
                "ledgers_have_no_gap",
            },
        ),
        (f"UPDATE ledger_entries SET epoch = 0 WHERE seq = 7 AND {_STEADY}", {"epochs_never_fall"}),
        (
            f"UPDATE ledger_openings SET seq = seq + 1 WHERE {_STEADY}",
            {"openings_are_as_sealed", "ledgers_have_no_gap"},
        ),
        (
            "UPDATE ledger_openings SET hash = sha256('x')",
            {"openings_are_as_sealed", "chains_verify", "heads_are_the_last_entries"},
        ),
        (
            f"DELETE FROM ledger_openings WHERE {_STEADY}",
            {"openings_are_as_sealed", "chains_verify", "ledgers_have_no_gap"},
        ),
        (
            "UPDATE ledger_opening_balances SET balance = balance - 5 WHERE account = 'merchant:available'",
            {"openings_are_as_sealed", "wallets_fold_the_ledger"},
        ),
        (
            f"UPDATE ledger_opening_balances SET balance = balance - 5 WHERE account = 'fee_revenue' AND {_STEADY}",
            {"openings_are_as_sealed", "books_balance"},
        ),
        (
            "UPDATE ledger_opening_payments SET captured = captured + 1",
            {"openings_are_as_sealed", "captures_are_posted"},
        ),
        (
            "UPDATE ledger_opening_payments SET refunded = refunded + 1",
            {"openings_are_as_sealed", "refunds_are_posted"},
        ),
        (
            "UPDATE payments SET amount_captured = 999 WHERE amount_refunded = 0",
            {"captures_are_posted"},
        ),
        (
            "DELETE FROM wallet_adjustments WHERE id < uuid7_floor('2025-02-01') AND kind = 'credit'",
            {"wallets_sum_the_adjustments", "movements_are_posted"},
        ),
        (
            "DELETE FROM ledger_retirements",
            {
                "books_balance",
                "wallets_fold_the_ledger",
                "ledgers_have_no_gap",
                "heads_are_the_last_entries",
                "chains_verify",
                "movements_are_posted",
                "openings_are_as_sealed",
            },
        ),
    ],
)
async def test_each_law_still_bites(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop], statement: str, laws: set[str]
) -> None:
    await retire(settings, asked(FEBRUARY))
    for table in (
        "ledger_entries",
        "ledger_retirements",
        "ledger_openings",
        "ledger_opening_balances",
        "ledger_opening_payments",
        "wallet_adjustments",
    ):
        await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await owner.execute(statement)
    assert await broken(settings) == laws


async def test_what_is_retired_and_what_it_came_to_cannot_be_changed(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop]
) -> None:
    await retire(settings, asked(FEBRUARY))
    for table, column in (
        ("ledger_entries_2025_01", "seq"),
        ("ledger_retirements", "entries"),
        ("ledger_openings", "seq"),
        ("ledger_opening_balances", "balance"),
        ("ledger_opening_payments", "captured"),
    ):
        for statement in (f"UPDATE {table} SET {column} = {column} + 1", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await owner.execute(statement)
    async with session(settings, Role.READER, application_name="test") as reader:
        assert await reader.fetchval("SELECT count(*) FROM ledger_entries_2025_01") == 8


async def test_the_same_fact_in_another_month_is_refused(owner: Session, shops: tuple[Shop, Shop, Shop]) -> None:
    """The ledger's key is of one month only where a clock is wrong; the wallet's own memory is of all months."""
    fact = {"operation_id": rows.new_id(), "kind": "capture"}
    await rows.insert(owner, "wallet_adjustments", rows.adjustment(id=rows.new_id(JANUARY), **fact))
    with pytest.raises(asyncpg.UniqueViolationError, match="wallet_adjustments_operation_id_kind_part_key"):
        await rows.insert(owner, "wallet_adjustments", rows.adjustment(id=rows.new_id(MARCH), **fact))


async def test_a_month_that_ends_in_disorder_is_refused_and_the_next_is_not(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop]
) -> None:
    """A new owner's clock was behind: its entry has a higher number and lies in the month before."""
    confused = await world.open_shop(owner)
    await world.capture(owner, confused, at=FEBRUARY + timedelta(milliseconds=20))
    await world.capture(owner, confused, at=FEBRUARY - timedelta(milliseconds=20))
    with pytest.raises(RetirementRefused, match=f"before 2025-02 .* {confused.id}: choose another month"):
        await retire(settings, asked(FEBRUARY))
    assert await owner.fetchval("SELECT count(*) FROM ledger_openings") == 0
    await retire(settings, asked(MARCH))
    assert await broken(settings) == set()


@pytest.mark.parametrize(
    ("before", "complaint"),
    [
        (FEBRUARY + _DAY, "not the first day of a month"),
        (datetime(2099, 1, 1, tzinfo=UTC), "not yesterday or before"),
        (JANUARY, "nothing from before 2025-01"),
    ],
)
async def test_what_is_no_month_of_the_past_is_refused(
    settings: Settings, shops: tuple[Shop, Shop, Shop], before: datetime, complaint: str
) -> None:
    with pytest.raises(RetirementRefused, match=complaint):
        await retire(settings, asked(before))


async def test_nothing_leaves_twice(settings: Settings, shops: tuple[Shop, Shop, Shop]) -> None:
    await retire(settings, asked(MARCH))
    for month in (FEBRUARY, MARCH):
        with pytest.raises(RetirementRefused, match="before 2025-03 is retired already"):
            await retire(settings, asked(month))


async def test_of_two_at_once_the_second_finds_it_done(settings: Settings, shops: tuple[Shop, Shop, Shop]) -> None:
    heard = list[str]()
    patient = settings.model_copy(update={"database": settings.database.model_copy(update={"lock_timeout_ms": 60_000})})

    async def try_it() -> None:
        try:
            await retire(patient, asked(FEBRUARY))
        except RetirementRefused as error:
            heard.append(str(error))

    async with anyio.create_task_group() as trying:
        for _ in range(2):
            trying.start_soon(try_it)
    assert heard == ["what was before 2025-02 is retired already"]
    assert await broken(settings) == set()


async def test_nothing_leaves_while_a_law_is_broken(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop]
) -> None:
    await owner.execute("UPDATE wallets SET available = available + 1")
    with pytest.raises(RetirementRefused, match="books_balance, wallets_fold_the_ledger"):
        await retire(settings, asked(FEBRUARY))


async def test_what_lies_in_no_month_leaves_too_and_what_is_young_of_it_stays(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop]
) -> None:
    """A month was not made in time, and somebody's clock was far ahead."""
    early, ahead = await world.open_shop(owner), datetime(2099, 1, 1, tzinfo=UTC)
    await world.capture(owner, early, at=JANUARY - _DAY)
    await world.capture(owner, early, at=ahead)
    retired = await retire(settings, asked(FEBRUARY))
    assert retired.partitions == ("ledger_entries_2025_01", "ledger_entries_rest_2025_02")
    assert await broken(settings) == set()
    rest = await owner.fetch("SELECT seq FROM ledger_entries_default WHERE merchant_id = $1 ORDER BY seq", early.id)
    assert [row["seq"] for row in rest] == [3, 4]
    await world.capture(owner, early, at=ahead)
    await world.credit(owner, early, at=JANUARY)  # a clock that is still wrong stops no books
    assert await broken(settings) == set()
    for table in ("ledger_entries_default", "ledger_entries_rest_2025_02"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await owner.execute(f"DELETE FROM {table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await owner.execute(f"TRUNCATE {table}")


async def test_many_young_entries_in_no_month_are_not_copied_while_everybody_waits(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retiring, "_COPIED_MAX", 1)
    early = await world.open_shop(owner)
    await world.capture(owner, early, at=JANUARY - _DAY)
    await world.capture(owner, early, at=datetime(2099, 1, 1, tzinfo=UTC))
    with pytest.raises(RetirementRefused, match="2 entries of later months are in the default partition"):
        await retire(settings, asked(FEBRUARY))


async def test_the_verb_says_what_left_and_leaves_an_audit_row(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop], tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    arguments = [
        "ledger",
        "retire",
        "--manifest",
        str(manifest),
        "--note",
        "kept elsewhere",
        "--as",
        "ada",
        "--output",
        "json",
    ]
    said = await paynode(settings, *arguments, "--before", "2025-02")
    assert (said.code, said.err) == (0, "")
    assert (said.json["partitions"], said.json["entries"]) == (["ledger_entries_2025_01"], 8)
    row = await owner.fetchrow("SELECT manifest, manifest_sha256 = sha256('{}') AS is_it FROM ledger_retirements")
    assert row is not None
    assert (row["manifest"], row["is_it"]) == (str(manifest), True)
    audit = await owner.fetchrow("SELECT actor, subject, note, detail ->> 'entries' AS entries FROM audit_log")
    assert audit is not None
    assert tuple(audit) == ("ada", "ledger before 2025-02", "kept elsewhere", "8")
    again = await paynode(settings, *arguments, "--before", "2025-02")
    assert (again.code, again.err) == (1, "Error: what was before 2025-02 is retired already\n")


async def test_the_committer_goes_on_while_months_leave(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody reads the whole ledger, so that its lock is not to be had at once; writers wait a moment at a time."""
    monkeypatch.setattr(retiring, "_PAUSE_S", 0.3)
    tries, done = retiring._try_detach, list[bool]()

    async def note_try(owner: Session, leaving: retiring._Leaving) -> bool:
        done.append(await tries(owner, leaving))
        return done[-1]

    monkeypatch.setattr(retiring, "_try_detach", note_try)

    async def go_on(writing: Committer) -> None:
        while True:
            await writing.commit(1)
            await writing.commit(250)

    async with (
        committer(settings, owner) as writing,
        session(settings, Role.READER, application_name="test") as reader,
        anyio.create_task_group() as committing,
    ):
        reading = reader.transaction()
        await reading.start()
        await reader.fetchval("SELECT count(*) FROM ledger_entries")
        committing.start_soon(go_on, writing)
        async with anyio.create_task_group() as leaving:
            leaving.start_soon(retire, settings, asked(FEBRUARY))
            await wait_until(lambda: len(done) >= 3, "it is refused the lock three times")
            await reading.rollback()
        written = len(writing.waits)
        await wait_until(lambda: len(writing.waits) > written + 4, "the committer goes on afterwards")
        committing.cancel_scope.cancel()
    assert done == [False] * (len(done) - 1) + [True]
    # A tenth of a second behind whoever waits for the lock, and what the machine takes for the rest.
    assert max(writing.waits) < 1
    assert await broken(settings) == set()


async def test_a_ledger_that_is_read_for_too_long_is_left_as_it_was(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop]
) -> None:
    async with session(settings, Role.READER, application_name="test") as reader, reader.transaction():
        await reader.fetchval("SELECT count(*) FROM ledger_entries")
        with pytest.raises(Unavailable, match="reading the whole ledger"):
            await retire(settings, asked(FEBRUARY), patience_s=0)
    assert await owner.fetchval("SELECT count(*) FROM ledger_retirements") == 0
    await retire(settings, asked(FEBRUARY))
    assert await broken(settings) == set()


async def test_who_looks_at_the_laws_meanwhile_sees_all_of_a_retirement_or_nothing_of_it(
    settings: Settings, owner: Session, shops: tuple[Shop, Shop, Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that began before the commit must not see the ledger of after it."""
    found, tries = list[set[str]](), retiring._try_detach

    async def look() -> None:
        found.append(await broken(settings))

    async with anyio.create_task_group() as looking:

        async def begin_to_look(owner: Session, leaving: retiring._Leaving) -> bool:
            is_done = await tries(owner, leaving)
            looking.start_soon(look)
            await wait_until(is_look_waiting, "the look waits for the ledger")
            return is_done

        async def is_look_waiting() -> bool:
            return bool(await owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        monkeypatch.setattr(retiring, "_try_detach", begin_to_look)
        await retire(settings, asked(FEBRUARY))
    assert found == [set()]
