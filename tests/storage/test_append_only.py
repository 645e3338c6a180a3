"""What is written into the books stays there, for the owner of the schema too."""

from __future__ import annotations

import asyncpg
import pytest

from paynode.storage.postgres import Session
from tests.storage import rows


@pytest.fixture
async def books(owner: Session) -> Session:
    """An entry in the month's partition and one in the default partition, an adjustment, a piece of evidence."""
    merchant = rows.merchant()
    payment = rows.payment(merchant_id=merchant["id"])
    operation = rows.operation(payment_id=payment["id"])
    await rows.insert(owner, "merchants", merchant)
    await rows.insert(owner, "payments", payment)
    await rows.insert(owner, "operations", operation)
    await rows.insert(owner, "evidence", rows.evidence(payment_id=payment["id"], operation_id=operation["id"]))
    await rows.insert(owner, "ledger_entries", rows.ledger_entry())
    await rows.insert(owner, "ledger_entries", rows.ledger_entry(id="ffffffff-ffff-7fff-bfff-ffffffffffff"))
    await rows.insert(owner, "wallet_adjustments", rows.adjustment())
    return owner


async def _ledger_tables(connection: Session) -> list[str]:
    found = await connection.fetch("SELECT relid::regclass::text AS name FROM pg_partition_tree('ledger_entries')")
    return [row["name"] for row in found]


@pytest.mark.parametrize("table", ["ledger_entries", "wallet_adjustments", "evidence"])
@pytest.mark.parametrize(
    "statement",
    ["UPDATE {} SET currency = 'USD'", "DELETE FROM {}", "TRUNCATE {}", "TRUNCATE {} CASCADE"],
)
async def test_the_owner_cannot_change_or_remove_a_row(books: Session, table: str, statement: str) -> None:
    before = await books.fetch(f"SELECT * FROM {table}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await books.execute(statement.format(table))
    assert await books.fetch(f"SELECT * FROM {table}") == before


async def test_no_partition_of_the_ledger_is_a_way_around_it(books: Session) -> None:
    tables = await _ledger_tables(books)
    assert len(tables) == 1 + 1 + 13  # the parent, the default, this month and the next twelve
    for table in tables:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await books.execute(f"TRUNCATE {table}")
    filled = [table for table in tables if await books.fetchval(f"SELECT count(*) FROM {table}")]
    assert len(filled) == 3  # the parent shows both
    for table in filled:
        for statement in (f"UPDATE {table} SET amount = amount + 1", f"DELETE FROM {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await books.execute(statement)


async def test_an_upsert_is_an_update_and_is_refused(books: Session) -> None:
    await books.execute("CREATE TEMPORARY TABLE copied AS SELECT * FROM ledger_entries")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await books.execute(
            "INSERT INTO ledger_entries SELECT * FROM copied ON CONFLICT (id, line) DO UPDATE SET amount = 1"
        )
