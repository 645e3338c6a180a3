"""`paynode dlq`: listing, showing, requeueing and discarding, as an operator does it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import orjson
import pytest

from paynode.config import Settings
from paynode.domain import ids
from paynode.storage.postgres import Role, Session, session
from tests.operating.letters import EVENTS, audit, die, message, outbox, park
from tests.storage import rows
from tests.storage.rows import new_id
from tests.support.database import pointed_at
from tests.support.verbs import Said, paynode

COMMANDS = "paynode:{psp-sim}:commands"


async def dlq(settings: Settings, *arguments: str) -> Said:
    return await paynode(settings, "dlq", *arguments, "--output", "json")


async def listed(settings: Settings, *arguments: str) -> list[str]:
    said = await dlq(settings, "list", *arguments)
    assert said.code == 0, said.err
    return [letter["id"] for letter in said.json["data"]]


async def test_a_list_is_filtered_by_reason_merchant_age_stream_and_status(settings: Settings, owner: Session) -> None:
    old = datetime.now(UTC) - timedelta(hours=3)
    merchant = message()
    by_reason = await die(owner, None, reason="too_large")
    by_merchant = await die(owner, merchant)
    by_age = await die(owner, None, first_failed_at=old)
    by_stream = await die(owner, None, stream=COMMANDS)
    discarded = await die(owner, None, status="discarded", resolved_by="ada", resolved_at=old)

    assert await listed(settings) == [by_stream, by_age, by_merchant, by_reason], "newest first, open ones only"
    assert await listed(settings, "--reason", "too_large") == [by_reason]
    public = ids.public(ids.MERCHANT, str(merchant["merchant_id"]))
    assert await listed(settings, "--merchant", public) == [by_merchant]
    assert await listed(settings, "--older-than", "2h") == [by_age]
    assert await listed(settings, "--newer-than", "2h", "--stream", EVENTS) == [by_merchant, by_reason]
    assert await listed(settings, "--status", "discarded") == [discarded]
    assert len(await listed(settings, "--status", "all")) == 5
    assert (await paynode(settings, "dlq", "list", "--merchant", str(merchant["merchant_id"]))).code == 2
    assert (await paynode(settings, "dlq", "list", "--older-than", "soon")).code == 2


async def test_a_list_comes_in_pages_that_neither_skip_nor_repeat(settings: Settings, owner: Session) -> None:
    made = [await die(owner, None) for _ in range(5)]
    first = (await dlq(settings, "list", "--limit", "2")).json
    assert [letter["id"] for letter in first["data"]] == made[:-3:-1]
    assert first["has_more"]
    await die(owner, None)  # one that comes meanwhile is no reason to show another twice
    rest = (await dlq(settings, "list", "--limit", "3", "--cursor", first["next_cursor"])).json
    assert [letter["id"] for letter in rest["data"]] == made[2::-1]
    assert (rest["has_more"], rest["next_cursor"]) == (False, None)


async def test_a_letter_is_shown_with_everything_about_it(settings: Settings, owner: Session) -> None:
    row = message()
    letter = await die(owner, row)
    await park(owner, message(payment_id=row["payment_id"]))
    said = await dlq(settings, "show", letter)
    assert said.code == 0
    shown: dict[str, Any] = said.json
    assert shown["id"] == letter
    assert shown["payment_id"] == ids.public(ids.PAYMENT, str(row["payment_id"]))
    assert shown["fields"] == {"ref": row["id"]}
    assert shown["message"]["body"] == {"outcome": "declined"}
    assert (shown["status"], shown["parked"], shown["audit"], shown["can_requeue"]) == ("dead", 1, [], True)
    as_table = (await paynode(settings, "dlq", "show", letter)).out
    assert "the body has no outcome" in as_table
    nobody = await dlq(settings, "show", new_id())
    assert nobody.code == 1
    assert "there is no dead letter" in nobody.err


async def test_what_strangers_have_put_into_a_letter_means_nothing_to_a_terminal(
    settings: Settings, owner: Session
) -> None:
    fields = orjson.dumps({"event": "\x1b[2Jgone", "[red]": "[/red]\x9b"}).decode()
    letter = await die(owner, None, fields=fields, type="a\x1b]0;b\x07")
    for arguments in (("list",), ("show", letter)):
        said = await paynode(settings, "dlq", *arguments)
        assert said.code == 0
        assert "a\\x1b]0;b\\x07" in said.out
        assert "\x1b" not in said.out
    assert "\\x1b[2Jgone" in said.out
    assert "[red]" in said.out
    assert "[/red]\\x9b" in said.out


async def test_requeue_puts_the_row_back_before_what_was_parked_behind_it_and_says_who_and_why(
    settings: Settings, owner: Session
) -> None:
    row = message()
    letter = await die(owner, row)
    parked = [await park(owner, message(payment_id=row["payment_id"])) for _ in range(5)]
    elsewhere = message()
    await die(owner, elsewhere)
    waits = await park(owner, message(payment_id=elsewhere["payment_id"]))

    said = await dlq(settings, "requeue", letter, "--as", "ada@example.com", "--note", "reader mended in 1.4")
    assert (said.code, said.json) == (0, {"data": [{"id": letter, "result": "done"}], "done": 1})
    assert await outbox(owner) == [row["id"], *parked], "in their order, behind the letter"
    assert [one["id"] for one in await owner.fetch("SELECT id::text FROM parked")] == [waits]
    assert await audit(owner) == [("ada@example.com", "dead_letter.requeue", letter, "reader mended in 1.4")]
    shown = (await dlq(settings, "show", letter)).json
    assert (shown["status"], shown["resolved_by"]) == ("requeued", "ada@example.com")
    assert shown["audit"][0]["detail"] == {"reason": "evidence_malformed", "released": 5}

    again = await dlq(settings, "requeue", letter)
    assert (again.code, again.json["data"]) == (1, [{"id": letter, "result": "resolved_already"}])
    assert len(await outbox(owner)) == 6
    assert len(await audit(owner)) == 1, "what changed nothing leaves no trace"


async def test_what_waits_behind_two_letters_waits_for_both(settings: Settings, owner: Session) -> None:
    payment_id = new_id()
    letters = [await die(owner, message(payment_id=payment_id)) for _ in range(2)]
    parked = await park(owner, message(payment_id=payment_id))
    assert (await dlq(settings, "requeue", letters[1])).code == 0
    assert parked not in await outbox(owner)
    assert (await dlq(settings, "discard", letters[0], "--note", "a test of ours")).code == 0
    assert (await outbox(owner))[-1] == parked


async def test_of_two_who_requeue_at_once_one_wins(settings: Settings, owner: Session) -> None:
    made = [message() for _ in range(20)]
    letters = [await die(owner, row) for row in made]
    said: list[Said] = []

    async def requeue() -> None:
        said.append(await dlq(settings, "requeue", *letters))

    async with anyio.create_task_group() as operators:
        operators.start_soon(requeue)
        operators.start_soon(requeue)
    results = [{one["id"]: one["result"] for one in each.json["data"]} for each in said]
    for letter in letters:
        assert sorted(result[letter] for result in results) == ["done", "resolved_already"]
    assert sorted(await outbox(owner)) == sorted(str(row["id"]) for row in made)
    assert len(await audit(owner)) == len(letters)


async def test_all_means_the_open_ones_that_the_filters_let_through_oldest_first(
    settings: Settings, owner: Session
) -> None:
    mended = [message() for _ in range(3)]
    letters = [await die(owner, row, reason="mended") for row in mended]
    other = await die(owner, message(), reason="other")

    unasked = await dlq(settings, "requeue", "--all", "--reason", "mended")
    assert unasked.code == 1, "nobody is there who could be asked"
    assert await outbox(owner) == []
    said = await dlq(settings, "requeue", "--all", "--reason", "mended", "--yes", "--as", "ada")
    assert (said.code, [one["id"] for one in said.json["data"]]) == (0, letters)
    assert await outbox(owner) == [str(row["id"]) for row in mended]
    assert await listed(settings) == [other]
    nothing = await dlq(settings, "requeue", "--all", "--reason", "mended", "--yes")
    assert (nothing.code, nothing.json) == (0, {"data": [], "done": 0})


async def test_what_can_only_be_discarded_and_what_cannot_be_is_refused(settings: Settings, owner: Session) -> None:
    junk = await die(owner, None)
    money = await die(owner, message(body={"outcome": "approved"}))
    nobody = new_id()
    said = await dlq(settings, "requeue", junk, nobody)
    assert (said.code, [one["result"] for one in said.json["data"]]) == (1, ["nothing_to_requeue", "not_found"])
    said = await dlq(settings, "discard", junk, money, "--note", "junk")
    assert (said.code, [one["result"] for one in said.json["data"]]) == (1, ["done", "evidence_of_money"])
    assert await listed(settings) == [money]
    assert [line[1:] for line in await audit(owner)] == [("dead_letter.discard", junk, "junk")]
    in_words = await paynode(settings, "dlq", "discard", money, "--note", "junk")
    assert "it may say that money moved" in in_words.out


async def test_a_merchants_request_that_is_not_decided_is_not_thrown_away(settings: Settings, owner: Session) -> None:
    payment = rows.payment()
    await rows.insert(owner, "merchants", rows.merchant(id=payment["merchant_id"]))
    await rows.insert(owner, "payments", payment)
    about = {"payment_id": payment["id"], "merchant_id": payment["merchant_id"]}
    letters = [message(type="payment.request", **about) for _ in range(2)]
    for letter, decided_at in zip(letters, (None, datetime.now(UTC)), strict=True):
        request = {"id": letter["id"], **about, "kind": "capture", "decided_at": decided_at}
        await rows.insert(owner, "requests", request)
    said = await dlq(settings, "discard", *[await die(owner, one) for one in letters], "--note", "junk")
    assert (said.code, [one["result"] for one in said.json["data"]]) == (1, ["operation_open", "done"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("requeue",),
        ("requeue", "--yes"),
        ("requeue", "not-an-id"),
        ("requeue", "0199b0c0-0000-7000-8000-000000000000", "--all"),
        ("requeue", "0199b0c0-0000-7000-8000-000000000000", "--reason", "x"),
        ("requeue", "0199b0c0-0000-7000-8000-000000000000", "--as", "two words"),
        ("requeue", "0199b0c0-0000-7000-8000-000000000000", "--note", " "),
        ("discard", "0199b0c0-0000-7000-8000-000000000000"),
        ("edit", "0199b0c0-0000-7000-8000-000000000000"),
    ],
)
async def test_what_is_not_said_clearly_is_a_matter_of_usage(untouched: Settings, arguments: tuple[str, ...]) -> None:
    said = await paynode(untouched, "dlq", *arguments)
    assert (said.code, said.out) == (2, "")
    assert "Traceback" not in said.err


async def test_a_database_that_is_away_is_a_reason_to_try_again(settings: Settings) -> None:
    away = pointed_at(settings, "postgresql://o:x@127.0.0.1:1/pay", settings.data_dir)
    for arguments in (("list",), ("requeue", new_id()), ("discard", new_id(), "--note", "junk")):
        said = await paynode(away, "dlq", *arguments)
        assert said.code == 75
        assert "Traceback" not in said.err


async def test_reading_takes_no_more_than_the_readers_rights_and_resolving_none_on_the_tables(
    settings: Settings, owner: Session
) -> None:
    letter = await die(owner, message())
    await owner.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM paynode_gateway")
    assert await listed(settings) == [letter]
    async with session(settings, Role.READER, application_name="test") as reader:
        with pytest.raises(Exception, match="permission denied"):
            await reader.execute("SELECT discard_dead_letter($1, 'eve', 'x')", letter)
    assert (await dlq(settings, "requeue", letter)).code == 0
