"""From a checkout to the ledger, through every process."""

from __future__ import annotations

from collections import Counter

import anyio
import pytest

from tests.support.installation import Installation, Reply, token
from tests.support.laws import check_laws
from tests.support.waiting import wait_until


async def test_a_token_payment_ends_in_the_wallet_less_its_fee(installation: Installation) -> None:
    [merchant] = await installation.merchants(1)
    reply = await installation.pay(merchant, "order-1", amount=10_000, prefer="wait=10")
    assert (reply.status, reply.json["status"], reply.json["amount_captured"]) == (201, "captured", 10_000)
    wallets = await installation.get(merchant, "/v1/wallets")
    assert [(one["currency"], one["pending"], one["balance"]) for one in wallets["data"]] == [("EUR", 9_850, 9_850)]
    ledger = await installation.get(merchant, "/v1/ledger")
    assert [(line["type"], line["amount"]) for line in reversed(ledger["data"])] == [("capture", 10_000), ("fee", 150)]
    events = await installation.get(merchant, f"/v1/payments/{reply.json['id']}/events")
    assert [event["type"] for event in events["data"]] == ["payment.created", "payment.captured"]
    await installation.until_settled()
    await check_laws(installation, [reply])


async def test_a_hosted_payment_is_paid_on_the_page_of_the_psp(installation: Installation) -> None:
    [merchant] = await installation.merchants(1)
    method = {"type": "hosted_page", "return_url": "http://127.0.0.1:9/thanks?basket=7"}
    reply = await installation.pay(merchant, "order-1", method=method)
    assert (reply.status, reply.json["status"]) == (201, "requires_action")
    page = await installation.send("GET", reply.json["checkout_url"])
    assert page.status == 303
    paid = await installation.send("POST", page.headers["Location"] + "/pay")
    assert paid.status == 303, paid.raw
    back = await installation.send("GET", paid.headers["Location"])
    assert back.status == 303
    assert back.headers["Location"].startswith("http://127.0.0.1:9/thanks?basket=7&")
    assert "status=captured" in back.headers["Location"]
    await installation.until_settled()
    await check_laws(installation, [reply])


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("tok_approve", "captured"),
        ("tok_decline", "declined"),
        ("tok_insufficient_funds", "declined"),
        ("tok_slow_300", "captured"),
        ("tok_error_before", "captured"),
        ("tok_error_after", "captured"),
        ("tok_hang_before", "captured"),
        ("tok_hang_after", "captured"),
        ("tok_dup_callback", "captured"),
        ("tok_late_callback_500", "captured"),
    ],
)
async def test_every_way_in_which_a_psp_answers_ends_in_the_truth(shared: Installation, name: str, status: str) -> None:
    [merchant] = await shared.merchants(1)
    reply = await shared.pay(merchant, "order-1", method=token(name))
    assert reply.status == 201

    async def has_ended() -> bool:
        payment = await shared.get(merchant, f"/v1/payments/{reply.json['id']}")
        return bool(payment["status"] == status)

    await wait_until(has_ended, f"the payment is {status}", 20)
    await shared.until_settled()
    await check_laws(shared, [reply])


async def test_a_wrong_amount_is_looked_at_by_people_and_not_booked(installation: Installation) -> None:
    [merchant] = await installation.merchants(1)
    reply = await installation.pay(merchant, "order-1", method=token("tok_wrong_amount"))

    async def is_in_review() -> bool:
        payment = await installation.get(merchant, f"/v1/payments/{reply.json['id']}")
        return bool(payment["status"] == "review")

    await wait_until(is_in_review, "the payment is in review")
    assert (await installation.get(merchant, "/v1/wallets"))["data"] == []
    assert (await installation.get(merchant, "/v1/ledger"))["data"] == []


async def test_fifty_identical_requests_at_once_are_one_charge(installation: Installation) -> None:
    [merchant] = await installation.merchants(1)
    replies: list[Reply] = []

    async def ask() -> None:
        replies.append(await installation.pay(merchant, "order-1", prefer="wait=5"))

    async with anyio.create_task_group() as clients:
        for _ in range(50):
            clients.start_soon(ask)
    codes = Counter(reply.status for reply in replies)
    assert set(codes) <= {201, 409}, codes
    assert codes[201] >= 1
    accepted = {reply.raw for reply in replies if reply.status == 201}
    assert len(accepted) == 1
    first = [reply for reply in replies if reply.status == 201 and "Idempotent-Replayed" not in reply.headers]
    assert len(first) == 1
    again = await installation.pay(merchant, "order-1", prefer="wait=5")
    assert (again.status, again.raw, again.headers["Idempotent-Replayed"]) == (201, first[0].raw, "true")
    await installation.until_settled()
    assert len(await installation.book()) == 1
    await check_laws(installation, first)
