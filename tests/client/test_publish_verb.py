"""`paynode publish` and `paynode publishers`, as processes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner
from uuid_utils import uuid7

from paynode.cli.main import main
from paynode.client.credentials import secret_of, text_of
from paynode.config import Settings
from paynode.domain.ids import MERCHANT, PAYMENT, public
from paynode.domain.publishing import OutsideEvent, OutsideType
from paynode.storage import publishers
from paynode.storage.postgres import Role, Session, session
from tests.client.standin import NAME, SECRET, StandIn, all_types
from tests.support.verbs import Said, paynode

MERCHANT_ID: Final = public(MERCHANT, "01890a5d-ac96-774b-bcce-b302099a8057")
MOVEMENT: Final = ("--amount", "250", "--currency", "EUR", "--reason", "points of March", "--reference", "p-1")
SIGNED: Final = ("--publisher", NAME, "--secret-env", "LOYALTY_SECRET")


@pytest.fixture
async def owner(settings: Settings) -> AsyncIterator[Session]:
    async with session(settings, Role.OWNER, application_name="test") as connection:
        yield connection


async def publish(settings: Settings, redis_url: str, *arguments: str) -> Said:
    environment = {"PAYNODE_REDIS__URL": redis_url, "LOYALTY_SECRET": text_of(SECRET)}
    return await paynode(settings, "publish", *arguments, environment=environment)


async def test_a_credit_says_that_it_was_applied(settings: Settings, redis_url: str, standin: StandIn) -> None:
    said = await publish(settings, redis_url, "credit", "--merchant", MERCHANT_ID, *MOVEMENT, *SIGNED)
    [message] = standin.read
    assert (said.code, said.out) == (0, f"event {message.event_id} applied\n")


async def test_a_refused_debit_ends_with_one_and_its_code(
    settings: Settings, redis_url: str, standin: StandIn, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text(text_of(SECRET) + "\n")
    debit = ("debit", "--merchant", MERCHANT_ID, *MOVEMENT, "--amount", "1001", "--publisher", NAME)
    said = await publish(settings, redis_url, *debit, "--secret-file", str(secret), "--output", "json")
    [message] = standin.read
    assert said.code == 1
    assert said.json == {"event_id": message.event_id, "result": "refused", "code": "insufficient_funds"}


async def test_requests_about_a_payment(settings: Settings, redis_url: str, standin: StandIn) -> None:
    payment = ("--merchant", MERCHANT_ID, "--payment", public(PAYMENT, str(uuid7())), *SIGNED)
    assert (await publish(settings, redis_url, "refund-request", *payment, "--amount", "5")).code == 0
    assert (await publish(settings, redis_url, "capture-request", *payment, "--final")).code == 0
    assert (await publish(settings, redis_url, "refund-request", *payment, "--payment", "pay_1")).code == 2
    types = [message.content.type for message in standin.read if isinstance(message.content, OutsideEvent)]
    assert types == [OutsideType.REFUND_REQUEST, OutsideType.CAPTURE_REQUEST]


async def test_when_nobody_knows_it_ends_with_75_and_asks_again_by_the_id(
    settings: Settings, redis_url: str, standin: StandIn
) -> None:
    standin.is_deaf = True
    credit = ("credit", "--merchant", MERCHANT_ID, *MOVEMENT, *SIGNED, "--output", "json")
    said = await publish(settings, redis_url, *credit, "--timeout", "3")
    assert (said.code, said.json["result"]) == (75, "unknown")
    assert said.json["event_id"] in said.err
    standin.is_deaf = False
    again = await publish(settings, redis_url, *credit, "--id", said.json["event_id"])
    assert again.json == {"event_id": said.json["event_id"], "result": "applied", "code": None}
    assert len(standin.verdicts) == 1


async def test_without_waiting_it_says_that_it_is_published(
    settings: Settings, redis_url: str, standin: StandIn
) -> None:
    standin.is_deaf = True
    credit = ("credit", "--merchant", MERCHANT_ID, *MOVEMENT, *SIGNED)
    said = await publish(settings, redis_url, *credit, "--no-wait", "--output", "json")
    assert (said.code, said.json["result"]) == (0, "published")


async def test_without_redis_it_ends_with_75_and_nothing_was_published(settings: Settings) -> None:
    credit = ("credit", "--merchant", MERCHANT_ID, *MOVEMENT, *SIGNED, "--timeout", "0.5", "--output", "json")
    said = await publish(settings, "redis://127.0.0.1:1/0", *credit)
    assert (said.code, said.json["result"]) == (75, "not_published")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--merchant", "shop-7"),
        ("--amount", "0"),
        ("--amount", "2.5"),
        ("--currency", "euro"),
        ("--reference", "a b"),
        ("--id", "7"),
        ("--publisher", "Loyalty"),
        ("--secret-env", "NOBODY_SET_THIS"),
        ("--secret-env", "PASSPHRASE"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: tuple[str, str], tmp_path: Path) -> None:
    """Found before anything is connected to."""
    environment = {
        "PAYNODE_DATA_DIR": str(tmp_path),
        "PAYNODE_REDIS__URL": "redis://127.0.0.1:1/0",
        "LOYALTY_SECRET": text_of(SECRET),
        "PASSPHRASE": "hunter2 and a little more of it",
    }
    words = ["publish", "credit", "--merchant", MERCHANT_ID, *MOVEMENT, *SIGNED, *arguments]
    said = CliRunner().invoke(main, words, env=environment)
    assert said.exit_code == 2, said.output
    assert "hunter2" not in said.output


# -- by the owner's URL -----------------------------------------------------------------------------------------------


async def test_an_operator_needs_no_secret_and_leaves_a_trace(
    settings: Settings, redis_url: str, standin: StandIn, owner: Session
) -> None:
    said = await publish(settings, redis_url, "credit", "--merchant", MERCHANT_ID, *MOVEMENT, "--timeout", "1")
    assert said.code == 75, "the stand-in does not know the operator's key yet"
    standin.keys.keys |= await publishers.keys(owner)
    again = await publish(settings, redis_url, "credit", "--merchant", MERCHANT_ID, *MOVEMENT)
    assert again.code == 0, again.err
    [audit] = await owner.fetch("SELECT action, subject FROM audit_log")
    assert tuple(audit) == ("publisher.create", "operator")
    await publishers.revoke(owner, "operator", actor="test")
    revoked = await publish(settings, redis_url, "credit", "--merchant", MERCHANT_ID, *MOVEMENT)
    assert (revoked.code, "operator" in revoked.err) == (1, True)


async def test_a_publisher_is_made_publishes_is_listed_and_revoked(
    settings: Settings, redis_url: str, standin: StandIn, owner: Session
) -> None:
    create = ("publishers", "create", "--name", "shop", "--type", "paynode.wallet.credit.v1", "--as", "ada")
    made = (await paynode(settings, *create, "--output", "json")).json
    assert (made["name"], made["types"]) == ("shop", ["paynode.wallet.credit.v1"])
    standin.keys.keys["shop"] = all_types(secret_of(made["secret"]))
    as_shop = ("credit", "--merchant", MERCHANT_ID, *MOVEMENT, "--publisher", "shop")
    assert (await publish(settings, redis_url, *as_shop)).code == 0, "its key is read from the database"
    taken = await paynode(settings, *create)
    assert (taken.code, "shop" in taken.err) == (1, True)

    [listed] = (await paynode(settings, "publishers", "list", "--output", "json")).json["data"]
    assert (listed["name"], listed["types"], listed["revoked_at"]) == ("shop", ["paynode.wallet.credit.v1"], None)
    assert made["secret"] not in (await paynode(settings, "publishers", "list")).out

    revoke = ("publishers", "revoke", "shop", "--as", "bob", "--note", "leaked")
    assert (await paynode(settings, *revoke, "--output", "json")).json["name"] == "shop"
    assert (await paynode(settings, *revoke)).code == 0, "once more is no harm"
    assert (await paynode(settings, "publishers", "revoke", "nobody")).code == 1
    assert (await publish(settings, redis_url, *as_shop)).code == 1
    rows = await owner.fetch("SELECT actor, action, subject, note, detail FROM audit_log ORDER BY id")
    assert [tuple(row)[:4] for row in rows] == [
        ("ada", "publisher.create", "shop", ""),
        ("bob", "publisher.revoke", "shop", "leaked"),
    ]
    assert made["secret"] not in json.dumps([str(row) for row in rows])


@pytest.mark.parametrize(
    "arguments",
    [
        ("--name", "Shop", "--type", "paynode.wallet.credit.v1"),
        ("--name", "a.b", "--type", "paynode.wallet.credit.v1"),
        ("--name", "", "--type", "paynode.wallet.credit.v1"),
        ("--name", "shop"),
        ("--name", "shop", "--type", "psp.evidence"),
        ("--name", "shop", "--type", "paynode.wallet.credit.v1", "--as", "two words"),
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_a_publisher_that_there_cannot_be_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(main, ["publishers", "create", *arguments]).exit_code == 2
