"""Internal publishers on a whole installation: wallets move once, refusals are told, strangers end as dead letters.

What a publisher hears is compared with what the database holds.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final

import anyio
import pytest
import redis.asyncio as redis
from uuid_utils import uuid7

from paynode.client import Applied, Publisher, Refused
from paynode.client.credentials import text_of
from paynode.domain.ids import MERCHANT, parse, public
from paynode.domain.partition import partition_of
from paynode.domain.publishing import OutsideType
from paynode.domain.road import events_stream
from paynode.storage import publishers
from paynode.storage.postgres import Role, session
from paynode.streams.signing import sign
from tests.support.installation import Installation
from tests.support.verbs import paynode
from tests.support.waiting import wait_until

LONG: Final = 60.0


class Loyalty:
    """A publisher with its key, on an installation."""

    def __init__(self, installation: Installation, name: str, secret: bytes, client: Publisher) -> None:
        self.installation = installation
        self.name = name
        self.secret = secret
        self.client = client

    async def merchant(self) -> str:
        [made] = await self.installation.merchants(1)
        return public(MERCHANT, made.id)

    async def wallet(self, merchant: str) -> dict[str, int]:
        """Available by currency."""
        rows = await self.installation.rows(
            "SELECT currency, available FROM wallets WHERE merchant_id = $1", _uuid(merchant)
        )
        return {row["currency"]: row["available"] for row in rows}

    async def put(self, merchant: str, fields: dict[str, str], *, partition: int | None = None) -> None:
        """An entry past the client."""
        own = partition_of(merchant, self.installation.settings.streams.partitions)
        put: Any = fields
        async with redis.Redis.from_url(self.installation.settings.redis.url, protocol=2) as raw:
            await raw.xadd(events_stream(own if partition is None else partition), put)

    async def letter(self, **what: object) -> dict[str, Any]:
        """The one dead letter that has these values, as soon as it is there."""
        conditions = " AND ".join(f"{name}::text = ${number}" for number, name in enumerate(what, start=1))
        found: list[Any] = []

        async def is_there() -> bool:
            found[:] = await self.installation.rows(f"SELECT * FROM dead_letters WHERE {conditions}", *what.values())
            return bool(found)

        await wait_until(is_there, f"the dead letter with {what} is there", LONG)
        [letter] = found
        return dict(letter)


def _uuid(merchant: str) -> str:
    found = parse(MERCHANT, merchant)
    assert found is not None
    return found


@pytest.fixture
async def loyalty(shared: Installation) -> AsyncIterator[Loyalty]:
    name = f"loyalty-{uuid7()}"
    async with session(shared.settings, Role.OWNER, application_name="test") as owner:
        made = await publishers.create(owner, name, types=tuple(OutsideType), actor="test")
    async with Publisher(shared.settings.redis.url, name=name, secret=text_of(made.secret)) as client:
        yield Loyalty(shared, name, made.secret, client)


def movement(amount: int, *, currency: str = "EUR") -> dict[str, Any]:
    return {"amount": amount, "currency": currency, "reason": "points", "reference": "p-1", "timeout": LONG}


async def test_credits_and_debits_move_the_wallet_once(loyalty: Loyalty) -> None:
    merchant = await loyalty.merchant()
    event_id = str(uuid7())
    for _ in range(3):
        outcome = await loyalty.client.credit(merchant_id=merchant, event_id=event_id, **movement(1000))
        assert outcome == Applied(event_id=event_id)
    assert await loyalty.wallet(merchant) == {"EUR": 1000}
    assert isinstance(await loyalty.client.debit(merchant_id=merchant, **movement(400)), Applied)
    assert await loyalty.wallet(merchant) == {"EUR": 600}
    rows = await loyalty.installation.rows(
        "SELECT type, result, publisher FROM applied_events WHERE merchant_id = $1 ORDER BY event_id", _uuid(merchant)
    )
    assert [tuple(row) for row in rows] == [
        ("paynode.wallet.credit.v1", "applied", loyalty.name),
        ("paynode.wallet.debit.v1", "applied", loyalty.name),
    ]
    assert not await loyalty.installation.broken_laws()


async def test_a_debit_of_more_than_there_is_is_refused_and_told(loyalty: Loyalty) -> None:
    merchant = await loyalty.merchant()
    await loyalty.client.credit(merchant_id=merchant, **movement(500))
    refusal = await loyalty.client.debit(merchant_id=merchant, **movement(501))
    assert isinstance(refusal, Refused)
    again = await loyalty.client.debit(merchant_id=merchant, event_id=refusal.event_id, **movement(501))
    assert again == refusal, "told again, and not decided again"
    await loyalty.client.credit(merchant_id=merchant, **movement(500))
    assert await loyalty.client.debit(merchant_id=merchant, event_id=refusal.event_id, **movement(501)) == refusal
    assert await loyalty.wallet(merchant) == {"EUR": 1000}
    assert not await loyalty.installation.rows("SELECT 1 FROM dead_letters WHERE event_id = $1", refusal.event_id)


async def test_rival_debits_never_take_more_than_there_is(loyalty: Loyalty) -> None:
    merchant = await loyalty.merchant()
    await loyalty.client.credit(merchant_id=merchant, **movement(1000))
    heard: list[object] = []

    async def debit() -> None:
        heard.append(await loyalty.client.debit(merchant_id=merchant, **movement(300)))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(debit)
    assert sorted(type(one).__name__ for one in heard) == ["Applied"] * 3 + ["Refused"] * 7
    assert await loyalty.wallet(merchant) == {"EUR": 100}
    assert not await loyalty.installation.broken_laws()


def content(merchant: str, **changes: Any) -> dict[str, Any]:
    """A credit that is as it should be, but for the changes."""
    data = {"merchant_id": merchant, "amount": 5, "currency": "EUR", "reason": "r", "reference": "p-1"}
    return {
        "specversion": "1.0",
        "id": str(uuid7()),
        "source": "/loyalty",
        "type": "paynode.wallet.credit.v1",
        "time": "2026-03-01T12:00:00Z",
        "subject": merchant,
        "datacontenttype": "application/json",
        "data": data,
    } | changes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"type": "paynode.gift.v1"}, "type_unknown"),
        ({"type": "psp.evidence"}, "type_unknown"),
        ({"id": "7"}, "event_id_invalid"),
        ({"id": "ffffffff-0000-7000-8000-000000000000"}, "event_id_invalid"),
        ({"data": {"merchant_id": "mer_00000000000000000000000000"}}, "merchant_mismatch"),
        ({"priority": "high"}, "shape_invalid"),
    ],
)
async def test_what_is_not_as_agreed_is_a_dead_letter_with_its_reason(
    loyalty: Loyalty, changes: dict[str, Any], reason: str
) -> None:
    merchant = await loyalty.merchant()
    fields = sign(json.dumps(content(merchant) | changes).encode(), loyalty.name, loyalty.secret)
    await loyalty.put(merchant, fields)
    letter = await loyalty.letter(merchant_id=_uuid(merchant))
    assert letter["reason"] == reason
    assert json.loads(letter["fields"]) == fields, "as it came"
    outcome = await loyalty.client.credit(merchant_id=merchant, **movement(7))
    assert isinstance(outcome, Applied), "nothing else on the stream waits"
    assert await loyalty.wallet(merchant) == {"EUR": 7}


async def test_what_nobody_signed_moves_nothing(loyalty: Loyalty) -> None:
    merchant = await loyalty.merchant()
    raw = json.dumps(content(merchant))
    good = sign(raw.encode(), loyalty.name, loyalty.secret)
    marked = {"mark": str(uuid7())}
    wrong: dict[str, dict[str, str]] = {
        "signature_missing": {"event": raw},
        "signature_invalid": {"event": raw.replace('"amount": 5', '"amount": 5000'), "sig": good["sig"]},
        "publisher_unknown": sign(raw.encode(), "nobody", loyalty.secret),
        "too_large": sign(raw.encode() + b" " * 70_000, loyalty.name, loyalty.secret),
        "event_missing": {"sig": good["sig"]},
        "not_a_pointer": {"amount": "5000"},
    }
    for fields in wrong.values():
        await loyalty.put(merchant, {**fields, **marked})
    elsewhere = (partition_of(merchant, 32) + 1) % 32
    await loyalty.put(merchant, {**good, **marked}, partition=elsewhere)

    async def reasons() -> set[str]:
        rows = await loyalty.installation.rows(
            "SELECT reason FROM dead_letters WHERE fields ->> 'mark' = $1", marked["mark"]
        )
        return {row["reason"] for row in rows}

    async def are_all_there() -> bool:
        return await reasons() >= {*wrong, "wrong_partition"}

    await wait_until(are_all_there, "each is a dead letter with its own reason", LONG)
    assert await reasons() == {*wrong, "wrong_partition"}
    assert await loyalty.wallet(merchant) == {}


async def test_a_merchant_that_nobody_knows_is_a_dead_letter(loyalty: Loyalty) -> None:
    stranger = public(MERCHANT, str(uuid7()))
    await loyalty.put(stranger, sign(json.dumps(content(stranger)).encode(), loyalty.name, loyalty.secret))
    assert (await loyalty.letter(merchant_id=_uuid(stranger)))["reason"] == "merchant_unknown"


async def test_an_id_that_has_meant_something_else_is_a_dead_letter(loyalty: Loyalty) -> None:
    merchant, event_id = await loyalty.merchant(), str(uuid7())
    await loyalty.client.credit(merchant_id=merchant, event_id=event_id, **movement(10))
    other = sign(json.dumps(content(merchant, id=event_id)).encode(), loyalty.name, loyalty.secret)
    await loyalty.put(merchant, other)
    assert (await loyalty.letter(event_id=event_id))["reason"] == "event_id_reused"
    assert await loyalty.wallet(merchant) == {"EUR": 10}


async def test_a_revoked_publisher_is_a_stranger_within_seconds(loyalty: Loyalty) -> None:
    merchant = await loyalty.merchant()
    await loyalty.client.credit(merchant_id=merchant, **movement(10))
    async with session(loyalty.installation.settings, Role.OWNER, application_name="test") as owner:
        await publishers.revoke(owner, loyalty.name, actor="test")
    await anyio.sleep(5.0)  # what is promised is this time
    await loyalty.put(merchant, sign(json.dumps(content(merchant)).encode(), loyalty.name, loyalty.secret))

    async def is_buried() -> bool:
        rows = await loyalty.installation.rows(
            "SELECT 1 FROM dead_letters WHERE reason = 'publisher_unknown' AND fields ->> 'sig' LIKE $1",
            f"{loyalty.name}.%",
        )
        return bool(rows)

    await wait_until(is_buried, "it is not believed any more", LONG)
    assert await loyalty.wallet(merchant) == {"EUR": 10}


async def test_an_operator_credits_a_wallet_from_a_shell(loyalty: Loyalty) -> None:
    """With nothing but the database's and Redis's URLs; the key is made in that moment, and works."""
    merchant, settings = await loyalty.merchant(), loyalty.installation.settings
    words = ("--merchant", merchant, "--amount", "250", "--currency", "EUR", "--reason", "sorry", "--reference", "c-7")
    redis_url = {"PAYNODE_REDIS__URL": settings.redis.url}
    timeout = ("--timeout", str(LONG), "--output", "json")
    credit = await paynode(settings, "publish", "credit", *words, *timeout, environment=redis_url)
    assert (credit.code, credit.json["result"]) == (0, "applied"), credit.err
    debit = await paynode(settings, "publish", "debit", *words, *timeout, "--amount", "251", environment=redis_url)
    assert (debit.code, debit.json["code"]) == (1, "insufficient_funds"), debit.err
    assert await loyalty.wallet(merchant) == {"EUR": 250}
