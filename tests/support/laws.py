"""The laws of money over a whole run: what was asked (H), what the database says (D), what the PSP's book says (S)."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from paynode.domain import ids
from tests.support.installation import Installation, Reply
from tests.support.waiting import wait_until

FINAL = {"declined", "captured", "expired", "failed"}


async def check_laws(installation: Installation, created: list[Reply]) -> None:
    """All of them; `created` are the 2xx answers to creates that the clients got.

    Raises: AssertionError that names the law.
    """
    payments = {str(row["id"]): row for row in await installation.rows("SELECT * FROM payments")}
    book = await installation.book()
    _every_answer_is_a_payment(payments, created)
    _payments_have_ended(payments)
    await _charged_is_captured(installation, payments, book)
    assert not (broken := await installation.broken_laws()), broken
    await _nothing_is_left(installation)


def _every_answer_is_a_payment(payments: dict[str, Any], created: list[Reply]) -> None:
    """L1. That no key has two payments is a unique key's business; here each answer must lead to the one it names."""
    for reply in created:
        told = reply.json
        payment = payments.get(ids.parse(ids.PAYMENT, told["id"]) or "")
        assert payment is not None, f"L1: {told['id']} was accepted and is no payment"
        kept = (payment["order_id"], payment["amount"], payment["currency"])
        assert kept == (told["order_id"], told["amount"], told["currency"]), f"L1: {told['id']} is {kept}"


def _payments_have_ended(payments: dict[str, Any]) -> None:
    statuses = Counter(row["status"] for row in payments.values())
    assert set(statuses) <= FINAL, f"L3: {statuses}"


async def _charged_is_captured(
    installation: Installation, payments: dict[str, Any], book: list[dict[str, Any]]
) -> None:
    """L4: per operation at most one charge, and what was charged is what is captured, to the cent."""
    charged: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in book:
        if line["result"] == "approved":
            charged[line["our_reference"]].append(line)
    twice = [reference for reference, lines in charged.items() if len(lines) > 1]
    assert not twice, f"L4: charged more than once: {twice[:5]}"
    operations = await installation.rows("SELECT id::text AS id, payment_id::text AS payment_id FROM operations")
    payment_of = {row["id"]: payments[row["payment_id"]] for row in operations}
    strangers = charged.keys() - payment_of.keys()
    assert not strangers, f"L2: charged without a payment: {sorted(strangers)[:5]}"
    for operation_id, payment in payment_of.items():
        amount = sum(line["amount"] for line in charged.get(operation_id, ()))
        assert payment["amount_captured"] == amount, f"L4: {payment['id']} captured {payment['amount_captured']}"
    receivable = await installation.rows(
        "SELECT coalesce(sum(amount), 0) AS total FROM ledger_entries WHERE debit_account = 'psp:sim:receivable'"
    )
    total = sum(line["amount"] for lines in charged.values() for line in lines)
    assert receivable[0]["total"] == total, f"L4: the ledger says {receivable[0]['total']}, the book {total}"


async def _nothing_is_left(installation: Installation) -> None:
    """L10. Waited for: the PSP may call back late, and every callback passes through the outbox."""

    async def is_empty() -> bool:
        [row] = await installation.rows("SELECT count(*) AS n FROM outbox")
        return bool(row["n"] == 0)

    await wait_until(is_empty, "L10: the outbox is empty", 20)
    [row] = await installation.rows("SELECT count(*) AS n FROM dead_letters")
    assert row["n"] == 0, f"L11: {row['n']} dead letters"
