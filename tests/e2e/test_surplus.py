"""Money that a PSP moved twice, or after another one had got the payment, through every process: it is given back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import aiohttp
import orjson
import pytest

from paynode.config import Settings
from paynode.sections import SimAccount
from tests.e2e.living import Life, uuid_of
from tests.support.installation import Installation, installed, token
from tests.support.two_psps import TwoPsps, standing, start_gateway
from tests.support.waiting import wait_until

_STORED: Final = """
SELECT a.path, a.request, a.operation_id::text AS key FROM psp_attempts AS a
INNER JOIN operations AS o ON o.id = a.operation_id AND o.kind IN ('sale', 'authorize')
WHERE a.payment_id = $1 AND a.psp = 'sim'
"""

# As the ingress keeps a callback of which it knows nothing: how it comes to be one is another test's.
_KEEP_ASIDE: Final = """
INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim)
VALUES ($1, 'sim', $2, $3, '', $4::jsonb)
"""


@pytest.fixture
async def life(shared: Installation) -> Life:
    """A merchant of its own for each test, and a PSP that does nothing wrong."""
    [merchant] = await shared.merchants(1)
    life = Life(installation=shared, merchant=merchant)
    await life.faults()
    return life


@pytest.fixture
async def two(settings: Settings, redis_url: str, tmp_path: Path) -> AsyncIterator[TwoPsps]:
    async with installed(settings, redis_url, tmp_path) as installation, standing(installation, tmp_path) as both:
        await start_gateway(installation)
        yield both


async def send_again(life: Life, payment: str) -> Mapping[str, Any]:
    """Be whoever sends a charge's stored bytes once more, to a PSP that does not know the key; what it says."""
    [attempt] = await life.installation.rows(_STORED, uuid_of(payment))
    account = life.installation.settings.psp["sim"]
    assert isinstance(account, SimAccount)
    headers = {
        "Authorization": f"Bearer {account.api_key}",
        "Idempotency-Key": attempt["key"],
        "Content-Type": "application/json",
    }
    url = account.url + attempt["path"]
    reply = await life.installation.send("POST", url, data=attempt["request"], headers=headers)
    assert reply.status == 201, reply.raw
    return dict(reply.json)


async def charge_again(life: Life, payment: str) -> str:
    """Have the PSP forget the key, so that it charges once more; its name of that."""
    await life.faults(idempotency_ms=0)
    charged = await send_again(life, payment)
    await life.faults()
    return str(charged["id"])


async def until_given_back(life: Life, payment: str, state: str = "approved") -> Mapping[str, Any]:
    """Wait until the one operation that gives a surplus back has come to this; the operation."""
    found: list[Mapping[str, Any]] = []

    async def is_so() -> bool:
        rows = await life.installation.rows(
            "SELECT kind, psp, target, state FROM operations WHERE payment_id = $1 AND origin = 'surplus'",
            uuid_of(payment),
        )
        found[:] = [dict(row) for row in rows if row["state"] == state]
        return bool(found)

    await wait_until(is_so, f"the surplus is given back: {state}", 40)
    [one] = found
    return one


async def posted(life: Life, payment: str, account: str) -> int:
    """What an account holds of a payment: debits less credits."""
    [row] = await life.installation.rows(
        "SELECT coalesce(sum(CASE WHEN debit_account = $2 THEN amount ELSE -amount END), 0)::bigint AS sum "
        "FROM ledger_entries WHERE payment_id = $1 AND $2 IN (debit_account, credit_account)",
        uuid_of(payment),
        account,
    )
    return int(row["sum"])


async def test_a_refused_capture_of_what_was_kept_at_a_till_is_for_people_until_it_is_let_go(life: Life) -> None:
    method = token("tok_capture_declined")
    reply = await life.installation.pay(life.merchant, "till", method=method, prefer="wait=20", on_timeout="reverse")
    assert (reply.status, reply.json["status"]) == (201, "authorized")
    payment = reply.json["id"]
    await life.until(payment, "review", amount_authorized=1000, amount_captured=0)
    again = await life.ask(payment, "capture")
    assert (again.status, again.json["operation"]["status"]) == (201, "failed")
    await life.until(payment, "review")
    assert (await life.ask(payment, "void")).json["status"] == "voided"
    await life.agrees()


async def test_a_charge_that_a_psp_made_twice_is_given_back_and_the_payment_goes_on(life: Life) -> None:
    payment = await life.captured(10_000)
    before = await life.wallet()
    second = await charge_again(life, payment)
    given_back = await until_given_back(life, payment)
    await life.until(payment, "captured", amount_captured=10_000, amount_refunded=0)
    [refund] = [line for line in await life.book() if line["kind"] == "refund"]
    assert (given_back["kind"], given_back["target"], refund["charge"]) == ("refund", second, second)
    assert await life.wallet() == before
    assert await posted(life, payment, "suspense:sim") == 0
    assert await posted(life, payment, "psp:sim:receivable") == 10_000
    events = await life.installation.rows(
        "SELECT type FROM payment_events WHERE payment_id = $1 ORDER BY version", uuid_of(payment)
    )
    assert "payment.review" in {row["type"] for row in events}, "people can see that it happened"
    assert (await life.installation.get(life.merchant, f"/v1/payments/{payment}/refunds"))["data"] == []
    assert await life.installation.broken_laws() == []
    await life.captured(10_000)  # the fee was kept: what is refunded whole takes more than one payment brings
    assert (await life.ask(payment, "refunds")).json["status"] == "succeeded"


async def test_a_second_authorization_is_let_go_and_the_first_one_is_captured(life: Life) -> None:
    payment = await life.authorized(10_000)
    second = await charge_again(life, payment)
    given_back = await until_given_back(life, payment)
    await life.until(payment, "authorized")
    assert (given_back["kind"], given_back["target"]) == ("void", second)
    assert (await life.ask(payment, "capture")).json["status"] == "captured"
    [void] = [line for line in await life.book() if line["kind"] == "void"]
    assert void["charge"] == second


async def test_a_surplus_that_the_psp_does_not_take_back_is_for_people(life: Life) -> None:
    payment = await life.captured(10_000, "tok_refund_declined")
    before = await life.wallet()
    await charge_again(life, payment)
    await until_given_back(life, payment, "declined")
    await life.until(payment, "review", amount_captured=10_000)
    [row] = await life.installation.rows("SELECT review_reason FROM payments WHERE id = $1", uuid_of(payment))
    assert (row["review_reason"], await life.wallet()) == ("giving_back_failed", before)
    assert await posted(life, payment, "suspense:sim") == -10_000


@pytest.mark.parametrize("is_aside", [False, True])
async def test_what_the_first_psp_charged_after_the_second_had_got_it_is_given_back_there(
    two: TwoPsps, is_aside: bool
) -> None:
    """It was refused at the door, which proves that nothing was sent. Then somebody sends the same bytes after all.

    The callback may be one that was kept aside, from a time in which nobody knew what to do with it.
    """
    installation = two.installation
    life = Life(installation=installation, merchant=await two.merchant())
    await life.faults(refuse_ms=2000)
    reply = await installation.pay(life.merchant, "gone on", prefer="wait=20")
    assert (reply.json["status"], reply.json["psp"]) == ("captured", "other")
    payment, before, charged = reply.json["id"], await life.wallet(), dict[str, Any]()

    async def is_open() -> bool:
        try:
            await life.faults(drop_callback=float(is_aside))
            charged.update(await send_again(life, payment))
        except aiohttp.ClientError:
            return False
        return True

    await wait_until(is_open, "the first PSP takes connections again", 30)
    if is_aside:
        claim = {"outcome": "approved", "reference": charged["id"], "amount": 1000, "currency": "EUR"}
        await installation.rows(
            _KEEP_ASIDE, str(uuid4()), "evt_aside", charged["reference"], orjson.dumps(claim).decode()
        )
    given_back = await until_given_back(life, payment)
    assert (given_back["psp"], given_back["target"]) == ("sim", charged["id"])
    shown = await life.until(payment, "captured", amount_captured=1000, amount_refunded=0)
    await installation.until_settled()
    ours, others = await two.books()
    assert [(line["kind"], line["result"]) for line in ours] == [("sale", "approved"), ("refund", "approved")]
    assert [(line["kind"], line["psp_reference"]) for line in others] == [("sale", shown["psp_reference"])]
    assert await life.wallet() == before
    accounts = ("psp:sim:receivable", "suspense:sim", "psp:other:receivable")
    assert [await posted(life, payment, name) for name in accounts] == [0, 0, 1000]
    lines = await installation.rows("SELECT type FROM ledger_entries ORDER BY seq")
    assert [row["type"] for row in lines] == ["capture", "fee", "surplus", "surplus_return"]
    assert await installation.broken_laws() == []


async def test_a_psp_that_never_was_to_have_a_payment_says_nothing_about_it(two: TwoPsps) -> None:
    installation = two.installation
    life = Life(installation=installation, merchant=await two.merchant())
    payment = await life.captured(1000)
    [operation] = await life.operations("sale")
    claim = {"outcome": "approved", "reference": "ch_1", "amount": 1000, "currency": "EUR"}
    aside = _KEEP_ASIDE.replace("'sim'", "'other'")
    await installation.rows(aside, str(uuid4()), "evt_1", operation["id"], orjson.dumps(claim).decode())

    async def was_looked_at() -> bool:
        return bool(await installation.rows("SELECT FROM inbox WHERE event_id = 'evt_1' AND looks > 0"))

    await wait_until(was_looked_at, "somebody looked for its operation")
    [row] = await installation.rows("SELECT payment_id FROM inbox WHERE event_id = 'evt_1'")
    assert (row["payment_id"], (await life.show(payment))["status"]) == (None, "captured")
