"""What merchants are shown of their payments and their money."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from uuid_utils import uuid7

from paynode.domain import ids
from paynode.http import query
from paynode.http.payments import is_known
from tests.http.house import House, by_token, new_merchant

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_a_payment_is_shown_with_its_version_as_tag(house: House) -> None:
    payment = (await house.pay()).json["id"]
    await house.become(payment, "captured")
    reply = await house.get(f"/v1/payments/{payment}")
    assert (reply.status, reply.headers["ETag"], reply.json["version"]) == (200, '"2"', 2)
    assert (reply.json["status"], reply.json["amount_captured"]) == ("captured", 1250)
    assert reply.headers["Cache-Control"] == "private, no-cache"


async def test_a_version_that_the_client_has_is_not_sent_again(house: House) -> None:
    path = (await house.pay()).headers["Location"]
    reply = await house.get(path, If_None_Match='"1"')
    assert (reply.status, reply.raw, reply.headers["ETag"]) == (304, b"", '"1"')
    assert (await house.get(path, If_None_Match='"2"')).status == 200


@pytest.mark.parametrize("header", ['"1"', 'W/"1"', '"0", "1"', '"0",W/"1"', "*", " * "])
def test_a_tag_is_known_when_it_is_listed(header: str) -> None:
    assert is_known('"1"', [header])
    assert is_known('"1"', ['"7"', header]) == (header.strip() != "*")


@pytest.mark.parametrize("header", ["", "1", '"11"', '"1', '"1 "', '"*"'])
def test_a_tag_is_unknown_otherwise(header: str) -> None:
    assert not is_known('"1"', [header])


@pytest.mark.parametrize("path", ["", "/events"])
async def test_what_is_not_the_merchants_does_not_exist(house: House, path: str) -> None:
    payment = (await house.pay()).json["id"]
    house.merchant = await new_merchant(house.owner)
    for given in (payment, ids.public("pay", str(uuid7())), payment.upper(), payment[:-1], "pay_", "x", "%00"):
        reply = await house.get(f"/v1/payments/{given}{path}")
        assert (reply.status, reply.code) == (404, "not_found"), given


async def test_payments_are_listed_newest_first_and_paged_without_gap_or_repetition(house: House) -> None:
    made = [(await house.pay()).json["id"] for _ in range(7)]
    first = (await house.get("/v1/payments?limit=3")).json
    # A payment that comes between two pages changes neither.
    await house.pay()
    second = (await house.get(f"/v1/payments?limit=3&cursor={first['next_cursor']}")).json
    third = (await house.get(f"/v1/payments?limit=3&cursor={second['next_cursor']}")).json
    assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
    assert third["next_cursor"] is None
    assert [item["id"] for page in (first, second, third) for item in page["data"]] == made[::-1]


async def test_a_full_last_page_has_no_more(house: House) -> None:
    await house.pay()
    page = (await house.get("/v1/payments?limit=1")).json
    assert (len(page["data"]), page["has_more"], page["next_cursor"]) == (1, False, None)


async def test_lists_are_filtered_by_order_and_status(house: House) -> None:
    first = (await house.pay(by_token(order_id="A 1"))).json["id"]
    await house.become(first, "declined")
    second = (await house.pay(by_token(order_id="A 1"))).json["id"]
    await house.pay()

    async def listed(filters: str) -> list[str]:
        return [item["id"] for item in (await house.get(f"/v1/payments?{filters}")).json["data"]]

    assert await listed("order_id=A%201") == [second, first]
    assert await listed("order_id=A%201&status=declined") == [first]
    assert await listed("status=declined") == [first]
    assert await listed("status=captured") == []


async def test_a_list_shows_no_other_merchants_payments(house: House) -> None:
    await house.pay()
    house.merchant = await new_merchant(house.owner)
    assert (await house.get("/v1/payments")).json == {"data": [], "has_more": False, "next_cursor": None}


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=1e1", "limit"),
        ("limit=", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=done", "status"),
        ("order_id=", "order_id"),
        ("order_id=a%00b", "order_id"),
        ("cursor=x", "cursor"),
        ("cursor=%F0%9F%92%A9", "cursor"),
        (f"cursor={query.cursor_of('ledger', '7')}", "cursor"),
        (f"cursor={query.cursor_of('payments', 'x')}", "cursor"),
        ("colour=red", "colour"),
    ],
)
async def test_a_bad_query_is_named(untouched: House, asked: str, parameter: str) -> None:
    reply = await untouched.get(f"/v1/payments?{asked}")
    assert (reply.status, reply.code) == (400, "query_invalid")
    assert [flaw["parameter"] for flaw in reply.json["errors"]] == [parameter]


async def test_a_timeline_begins_with_the_creation(house: House) -> None:
    made = (await house.pay()).json
    page = (await house.get(f"/v1/payments/{made['id']}/events")).json
    (event,) = page["data"]
    assert event.pop("id").startswith("evt_")
    assert event == {
        "object": "event",
        "type": "payment.created",
        "payment_id": made["id"],
        "version": 1,
        "data": {"status": "processing"},
        "created_at": made["created_at"],
    }
    assert page["has_more"] is False


async def test_a_timeline_is_paged_in_its_own_order(house: House) -> None:
    path = (await house.pay()).headers["Location"]
    await house.owner.execute(
        """INSERT INTO payment_events (id, payment_id, merchant_id, version, type, data)
        SELECT gen_random_uuid(), id, merchant_id, n, 'payment.captured', '{}' FROM payments, generate_series(2, 5) n"""
    )
    first = (await house.get(f"{path}/events?limit=3")).json
    second = (await house.get(f"{path}/events?limit=3&cursor={first['next_cursor']}")).json
    assert [item["version"] for item in first["data"] + second["data"]] == [1, 2, 3, 4, 5]
    assert (first["has_more"], second["has_more"]) == (True, False)


async def test_wallets_are_shown_per_currency(house: House) -> None:
    assert (await house.get("/v1/wallets")).json["data"] == []
    await house.owner.execute(
        """INSERT INTO wallets (merchant_id, currency, pending, available, reserve, held, version)
        VALUES ($1, 'USD', 1, 2, 3, 4, 1), ($1, 'EUR', 100, -5, 0, 0, 1)""",
        house.merchant.id,
    )
    assert (await house.get("/v1/wallets")).json["data"] == [
        {
            "object": "wallet",
            "currency": "EUR",
            "balance": 95,
            "pending": 100,
            "available": -5,
            "reserve": 0,
            "held": 0,
        },
        {"object": "wallet", "currency": "USD", "balance": 10, "pending": 1, "available": 2, "reserve": 3, "held": 4},
    ]


async def test_the_ledger_is_shown_newest_first(house: House) -> None:
    payment = (await house.pay()).json["id"]
    await _post(house, payment, 5)
    first = (await house.get("/v1/ledger?limit=3")).json
    second = (await house.get(f"/v1/ledger?limit=3&cursor={first['next_cursor']}")).json
    assert [entry["seq"] for entry in first["data"] + second["data"]] == [5, 4, 3, 2, 1]
    entry = second["data"][-1]
    assert entry.pop("id").startswith("led_")
    assert entry == {
        "object": "ledger_entry",
        "line": 1,
        "seq": 1,
        "payment_id": payment,
        "type": "capture",
        "debit_account": "psp:sim:receivable",
        "credit_account": "merchant:pending",
        "amount": 1250,
        "currency": "EUR",
        "psp_reference": "ch_1",
        "at": "2026-03-01T12:00:00.000Z",
        "prev_hash": "00" * 32,
        "hash": "00" * 32,
    }


async def test_the_ledger_is_filtered_by_payment_and_time(house: House) -> None:
    payment = (await house.pay()).json["id"]
    await _post(house, payment, 3)

    async def seqs(filters: str) -> list[int]:
        return [entry["seq"] for entry in (await house.get(f"/v1/ledger?{filters}")).json["data"]]

    assert await seqs(f"payment_id={payment}") == [3, 2, 1]
    assert await seqs(f"payment_id={ids.public('pay', str(uuid7()))}") == []
    assert await seqs("from=2026-03-01T12:01:00Z") == [3, 2]
    assert await seqs("to=2026-03-01T12:01:00Z") == [1]
    assert await seqs("from=2026-03-01T14:01:00%2B02:00&to=2026-03-01T12:02:00.000Z") == [2]


@pytest.mark.parametrize(
    "asked",
    ["from=yesterday", "from=2026-03-01", "from=2026-02-30T00:00:00Z", "to=2026-03-01T12:00:00", "payment_id=7",
     "to=0001-01-01T00:00:00%2B23:00"],
)  # fmt: skip
async def test_a_bad_ledger_query_is_refused(untouched: House, asked: str) -> None:
    assert (await untouched.get(f"/v1/ledger?{asked}")).code == "query_invalid"


async def _post(house: House, payment: str, count: int) -> None:
    """Be the committer: postings a minute apart."""
    for seq in range(1, count + 1):
        await house.owner.execute(
            """INSERT INTO ledger_entries (id, line, merchant_id, seq, payment_id, operation_id, type, debit_account,
            credit_account, amount, currency, psp_reference, at, epoch, prev_hash, hash)
            VALUES ($1, 1, $2, $3, $4, $1, 'capture', 'psp:sim:receivable', 'merchant:pending', 1250, 'EUR', 'ch_1',
            $5, 1, $6, $6)""",
            str(uuid7()),
            house.merchant.id,
            seq,
            ids.parse("pay", payment),
            NOON + timedelta(minutes=seq - 1),
            bytes(32),
        )
