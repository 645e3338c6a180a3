"""A whole paynode with its fraud check: there, away and back again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from paynode.config import Settings
from tests.support.installation import Installation, Merchant, Reply, installed
from tests.support.laws import check_laws
from tests.support.verbs import paynode
from tests.support.waiting import wait_until

_SMALL, _LARGE = 1000, 1_000_000
_REJECTED, _REVIEWED = 4_100_001, 4_100_002


@pytest.fixture
async def installation(settings: Settings, redis_url: str, tmp_path: Path) -> AsyncIterator[Installation]:
    """One of each process; charges are screened, by the check that the simulator plays."""
    async with installed(settings, redis_url, tmp_path) as installation:
        screened = {
            "PAYNODE_FRAUD__URL": installation.settings.psp["sim"].url + "/fraud",
            "PAYNODE_FRAUD__API_KEY": "fraud_key",
            "PAYNODE_FRAUD__SALT": "salt",
            # Nothing here is about slowness: a busy machine must not look like a check that is out.
            "PAYNODE_FRAUD__DEADLINE_S": "20",
            "PAYNODE_FRAUD__BREAKER_OPEN_S": "0.2",
            "PAYNODE_FRAUD__RECHECK_S": "0.2",
        }
        for verb in ("psp-sim", "serve", "worker", "scheduler"):
            installation.start(verb, **screened)
        yield installation


async def be(installation: Installation, mode: str) -> None:
    """Put the check into a mode."""
    url = installation.settings.psp["sim"].url + "/fraud/control"
    assert (await installation.send("POST", url, json={"mode": mode})).status == 200


async def asked(installation: Installation) -> list[dict[str, Any]]:
    """What the check was asked."""
    reply = await installation.send("GET", installation.settings.psp["sim"].url + "/fraud/control")
    found: list[dict[str, Any]] = reply.json["asked"]
    return found


async def becomes(installation: Installation, merchant: Merchant, paid: Reply, status: str, fraud_check: str) -> None:
    """Wait until a payment is this."""
    seen: list[tuple[str, str]] = []

    async def is_it() -> bool:
        payment = await installation.get(merchant, paid.headers["Location"])
        seen[:] = [(payment["status"], payment["fraud_check"])]
        return seen == [(status, fraud_check)]

    try:
        await wait_until(is_it, f"{status} and {fraud_check}", 90)
    except AssertionError as error:
        raise AssertionError(f"{error}: it is {seen}") from None


async def test_the_check_decides_while_it_is_there_and_caps_while_it_is_away(installation: Installation) -> None:
    """One test, because starting everything is what costs."""
    merchants = await installation.merchants(2)
    paid = [*await _while_it_is_there(installation, merchants[0]), *await _while_it_is_away(installation, merchants[1])]
    await installation.until_settled()
    await check_laws(installation, paid)


async def _while_it_is_there(installation: Installation, merchant: Merchant) -> list[Reply]:
    """It decides what is sent, and a person what it would not."""
    customer = {"email": "ada@example.org"}
    passed = await installation.pay(merchant, "passed", amount=_SMALL, customer=customer)
    rejected = await installation.pay(merchant, "rejected", amount=_REJECTED)
    held = await installation.pay(merchant, "held", amount=_REVIEWED)
    await becomes(installation, merchant, passed, "captured", "passed")
    await becomes(installation, merchant, rejected, "declined", "rejected")
    await becomes(installation, merchant, held, "review", "review")
    assert [line["amount"] for line in await installation.book()] == [_SMALL], "nothing else was sent"
    questions = await asked(installation)
    assert sorted(one["amount"] for one in questions) == [_SMALL, _REJECTED, _REVIEWED]
    assert "ada" not in str(questions)
    assert "tok_" not in str(questions)
    assert sorted(one["customer"] is None for one in questions) == [False, True, True]

    said = await paynode(installation.settings, "fraud", "release", held.json["id"], "--note", "known", "--as", "grace")
    assert said.code == 0, said.err
    await becomes(installation, merchant, held, "captured", "passed")
    assert len(await asked(installation)) == 3, "a verdict is not asked for again"
    return [passed, rejected, held, *await _at_the_till(installation, merchant)]


async def _at_the_till(installation: Installation, merchant: Merchant) -> list[Reply]:
    """What is held and nobody waits for any more has ended, and the order can be paid."""
    held = await installation.pay(merchant, "till", amount=_REVIEWED, prefer="wait=1", on_timeout="reverse")
    await becomes(installation, merchant, held, "failed", "review")
    assert (await installation.rows("SELECT count(*) AS n FROM psp_attempts"))[0]["n"] == 2, "it was never sent"
    again = await installation.pay(merchant, "till-again", order_id="till", amount=_SMALL)
    await becomes(installation, merchant, again, "captured", "passed")
    return [again]


async def _while_it_is_away(installation: Installation, merchant: Merchant) -> list[Reply]:
    """Small amounts pass, and all is asked about when it is back."""
    sent = len(await installation.book())
    await be(installation, "down")
    small = await installation.pay(merchant, "small", amount=_SMALL)
    large = await installation.pay(merchant, "large", amount=_LARGE)
    await becomes(installation, merchant, small, "captured", "bypassed")
    await becomes(installation, merchant, large, "review", "review")
    assert [line["amount"] for line in (await installation.book())[sent:]] == [_SMALL]

    await be(installation, "pass")
    await becomes(installation, merchant, large, "captured", "passed")

    async def is_nothing_owed() -> bool:
        return await installation.rows("SELECT 1 FROM screenings WHERE is_owed") == []

    await wait_until(is_nothing_owed, "all was asked about again", 90)
    await becomes(installation, merchant, small, "captured", "bypassed")

    await be(installation, "cut")
    late = await installation.pay(merchant, "late", amount=_SMALL)
    unwanted = await installation.pay(merchant, "unwanted", amount=_LARGE)
    await becomes(installation, merchant, late, "captured", "bypassed")
    await becomes(installation, merchant, unwanted, "review", "review")
    await be(installation, "reject")
    # The one is marked, and its money stays where it is; of the other nothing was ever sent.
    await becomes(installation, merchant, late, "captured", "rejected")
    await becomes(installation, merchant, unwanted, "declined", "rejected")
    [audit] = await installation.rows("SELECT action FROM audit_log WHERE actor = 'fraud-check'")
    assert audit["action"] == "screening.marked"
    assert sorted(line["amount"] for line in (await installation.book())[sent:]) == [_SMALL, _SMALL, _LARGE]
    return [small, large, late, unwanted]
