"""The plans of what merchants read: a list of a large merchant, an order in it, a page of its ledger."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from paynode.config import Settings
from paynode.storage.postgres import Role, Session, session
from paynode.storage.queries import load
from tests.storage import rows

MANY = 5000
SQL = load("reading")


@pytest.fixture(scope="module")
async def large(untouched: Settings) -> AsyncIterator[tuple[Session, str]]:
    """A hundred merchants with many payments and postings, inside a transaction that is rolled back; one of them."""
    async with session(untouched, Role.OWNER, application_name="test") as owner:
        transaction = owner.transaction()
        await transaction.start()
        merchants = [str(rows.merchant()["id"]) for _ in range(100)]
        for merchant_id in merchants:
            await rows.insert(owner, "merchants", rows.merchant(id=merchant_id))
        await owner.execute(
            """INSERT INTO payments (id, merchant_id, idempotency_key, order_id, amount, currency, capture, method,
            metadata, status, psp)
            SELECT gen_random_uuid(), ($1::uuid[])[n % 100 + 1], n::text, 'o' || n, 1, 'EUR', 'automatic', '{}',
            '{}', 'processing', 'sim'
            FROM generate_series(1, $2::integer) n""",
            merchants,
            MANY,
        )
        await owner.execute(
            """INSERT INTO ledger_entries (id, line, merchant_id, seq, payment_id, operation_id, type, debit_account,
            credit_account, amount, currency, at, epoch, prev_hash, hash)
            SELECT gen_random_uuid(), 1, ($1::uuid[])[n % 100 + 1], n, gen_random_uuid(), gen_random_uuid(),
            'capture', 'a', 'b', 1, 'EUR',
            clock_timestamp(), 1, $3, $3 FROM generate_series(1, $2::integer) n""",
            merchants,
            MANY,
            bytes(32),
        )
        await owner.execute("ANALYZE payments; ANALYZE ledger_entries")
        yield owner, merchants[0]
        await transaction.rollback()


@pytest.mark.parametrize(
    ("statement", "arguments", "index"),
    [
        ("list_payments", ["NULL", "20"], "payments_merchant_newest"),
        ("list_status_payments", ["NULL", "20", "'review'"], "payments_merchant_status"),
        ("list_order_payments", ["NULL", "20", "'o7'", "NULL"], "payments_merchant_order"),
        ("list_ledger", ["NULL", "NULL", "NULL", "20"], "merchant_id_seq"),
        ("list_payment_ledger", ["NULL", "NULL", "NULL", "20", "gen_random_uuid()"], "payment_id"),
    ],
)
async def test_a_page_is_read_by_its_index(
    large: tuple[Session, str], statement: str, arguments: list[str], index: str
) -> None:
    owner, merchant_id = large
    await owner.execute(f"PREPARE asked AS {SQL[statement]}")
    # The plan that stays after the first five uses: it may not know the values.
    await owner.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    plan = await owner.fetch(f"EXPLAIN EXECUTE asked ('{merchant_id}', {', '.join(arguments)})")
    await owner.execute("DEALLOCATE asked")
    text = "\n".join(row[0] for row in plan)
    assert index in text
    assert re.search(r"Seq Scan on (payments|ledger_entries_default)", text) is None
