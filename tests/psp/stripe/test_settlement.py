"""Stripe's balance transactions as a settlement report."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from paynode.domain.payment import OperationKind
from paynode.domain.psp import SettlementKind, SettlementLine
from paynode.psp.errors import Unavailable
from tests.psp.misbehaving import raw_server
from tests.psp.stripe.accounts import StripeAccount, stripe_at
from tests.psp.stripe.annex import Annex
from tests.psp.stripe.documents import AT, INTENT_ID, LATER, OPERATION, REFUND_ID, Json, error, marks, refund
from tests.psp.stripe.listing import listing

_TRANSACTIONS = "/v1/balance_transactions"
_DAY = timedelta(days=1)


def charge(**changes: Any) -> Json:
    return {
        "id": "ch_3MtwBwLkdIwHu7ix2aXd1Fh6",
        "object": "charge",
        "amount": 1000,
        "amount_captured": 700,
        "currency": "eur",
        "metadata": marks("authorize"),
        "payment_intent": INTENT_ID,
    } | changes


def transaction(category: str, source: Json | str | None, amount: int, *, fee: int = 0, **changes: Any) -> Json:
    """In dollars: what the balance is kept in, and not what the customer paid."""
    return {
        "id": f"txn_{category}",
        "object": "balance_transaction",
        "amount": amount,
        "created": AT,
        "currency": "usd",
        "exchange_rate": 1.1,
        "fee": fee,
        "net": amount - fee,
        "reporting_category": category,
        "source": source,
    } | changes


async def report(url: str, since_s: float = AT, until_s: float = AT + 1) -> list[SettlementLine]:
    since, until = datetime.fromtimestamp(since_s, UTC), datetime.fromtimestamp(until_s, UTC)
    async with stripe_at(url) as psp:
        return [line async for line in psp.settlement(since, until)]


def _short(line: SettlementLine) -> tuple[str, str, str | None, int, str]:
    return (line.kind.value, line.reference, line.our_reference, line.amount, line.currency)


async def test_what_moved_is_told_in_the_currency_of_the_payment_and_fees_in_that_of_the_balance() -> None:
    dispute = {"id": "dp_1", "object": "dispute", "amount": 300, "currency": "eur", "payment_intent": INTENT_ID}
    told = [
        transaction("charge", charge(), 1100, fee=35),
        transaction("partial_capture_reversal", refund(amount=300, metadata={}), -330),
        transaction("refund", refund(), -440),
        transaction("refund_failure", refund(), 440),
        transaction("dispute", dispute, -330, fee=1500),
        transaction("dispute_reversal", dispute, 330),
        transaction("payout", "po_1", -2000),
        transaction("fee", None, -10, fee=10),
        transaction("issuing_transaction", {"id": "ipi_1", "object": "issuing.transaction"}, -5),
    ]
    for number, one in enumerate(told):
        one["created"] = AT + number
    async with listing({_TRANSACTIONS: told}) as server:
        lines = await report(server.url, AT, AT + len(told))
        assert server.asked[0][1]["expand[0]"] == "data.source"
    assert [_short(line) for line in lines] == [
        ("charge", INTENT_ID, OPERATION, 700, "EUR"),
        ("fee", INTENT_ID, OPERATION, 35, "USD"),
        ("refund", REFUND_ID, LATER, 400, "EUR"),
        ("reversal", REFUND_ID, LATER, 400, "EUR"),
        ("reversal", INTENT_ID, None, 300, "EUR"),
        ("fee", INTENT_ID, None, 1500, "USD"),
        ("charge", INTENT_ID, None, 300, "EUR"),
        ("fee", "txn_fee", None, 10, "USD"),
    ]
    assert [line.at_ms for line in lines] == sorted(line.at_ms for line in lines)


async def test_a_report_begins_with_since_and_ends_before_until() -> None:
    told = [transaction("charge", charge(id=f"ch_{n}", payment_intent=f"pi_{n}"), 1, created=AT + n) for n in range(4)]
    async with listing({_TRANSACTIONS: told}) as server:
        assert [line.reference for line in await report(server.url, AT + 1, AT + 3)] == ["pi_1", "pi_2"]
        # Stripe's times are whole seconds.
        assert [line.reference for line in await report(server.url, AT + 0.5, AT + 2.5)] == ["pi_1", "pi_2"]
        assert await report(server.url, AT + 3, AT + 3) == []


async def test_a_long_report_is_read_in_parts_and_told_in_order() -> None:
    told = [
        transaction("charge", charge(id=f"ch_{n}", payment_intent=f"pi_{n}"), 1, id=f"txn_{n}", created=AT + n // 700)
        for n in range(4200)
    ]
    async with listing({_TRANSACTIONS: told}) as server:
        lines = await report(server.url, AT - 86400, AT + 6)
        assert [line.reference for line in lines] == [f"pi_{n}" for n in range(4200)]
        spans = {int(query["created[lt]"]) - int(query["created[gte]"]) for _, query in server.asked}
        assert max(spans) == 86406
        assert min(spans) <= 2, "no part is held that is longer than a thousand transactions"


@pytest.mark.parametrize(
    "bad", [charge(amount_captured=1.5), charge(currency="€"), "ch_1", None, charge(currency="isk")]
)
async def test_a_line_that_cannot_be_read_ends_the_report(bad: Any) -> None:
    async with listing({_TRANSACTIONS: [transaction("charge", bad, 1001)]}) as server:
        if isinstance(bad, dict) and bad["currency"] == "isk":
            bad["amount_captured"] = 1001
        with pytest.raises(Unavailable):
            await report(server.url)


async def test_a_report_that_does_not_come_is_unavailable() -> None:
    async with raw_server(error(500, "api_error")) as server:
        with pytest.raises(Unavailable, match="http_500"):
            await report(server.url)


async def test_of_an_authorization_only_what_was_captured_is_told(stripe: Annex) -> None:
    async with stripe_at(stripe.url) as psp:
        account = StripeAccount(psp, stripe)
        authorization = account.authorization()
        said = await account.charged(authorization)
        await account.send(account.about(authorization, said, OperationKind.CAPTURE, 900, is_final=True))
        await account.charged(account.authorization())
    now = time.time()
    [line] = await report(stripe.url, now - 60, now + 60)
    assert (line.kind, line.reference, line.amount) == (SettlementKind.CHARGE, said.reference, 900)
    assert line.our_reference == authorization.operation_id
