"""The operator's API on the scheduler's admin port, as a console or a script uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from paynode import config
from paynode.domain import ids
from paynode.embedded.servers import Running
from paynode.storage.postgres import Role, Session, session
from tests.operating.letters import audit, die, message, outbox, park
from tests.support import database as databases
from tests.support.installation import Installation, Reply, free_ports, installed

TOKEN = "operator-token-of-the-tests"
LETTERS = "/v1/dead_letters"
NOBODY = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture(scope="module")
async def scheduler(
    servers: Running, template: str, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    """A scheduler whose relay rests, so that what is put on the road stays where it can be looked at."""
    url = await databases.clone(servers.database_url, template)
    redis_url = servers.redis_url.rpartition("/")[0] + "/0"
    settings = databases.pointed_at(config.load(), url, home)
    async with installed(settings, redis_url, tmp_path_factory.mktemp("api")) as installation:
        await installation.flush_redis()
        away = {"PAYNODE_RELAY__INTERVAL_S": "3600"}
        installation.start("scheduler", PAYNODE_ADMIN__OPERATOR_TOKEN=TOKEN, **away)
        yield installation
    await databases.drop(url)


@pytest.fixture
async def owner(scheduler: Installation) -> AsyncIterator[Session]:
    async with session(scheduler.settings, Role.OWNER, application_name="test") as connection:
        yield connection
        await connection.execute("TRUNCATE dead_letters, parked, outbox")


async def ask(scheduler: Installation, method: str, path: str, body: object = None, **headers: str | None) -> Reply:
    """As an operator with the token and a name, unless the headers say otherwise; None leaves one out."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    given = {"Authorization": f"Bearer {TOKEN}", "Paynode-Operator": "ada", **named}
    url = f"http://127.0.0.1:{scheduler.settings.admin.scheduler_port}{path}"
    sent: dict[str, Any] = {} if body is None else {"json": body}
    return await scheduler.send(
        method, url, headers={name: value for name, value in given.items() if value is not None}, **sent
    )


def problem(reply: Reply) -> tuple[int, str]:
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.json["request_id"] == reply.headers["Request-Id"]
    return reply.status, reply.json["code"]


async def test_letters_are_listed_filtered_and_paged(scheduler: Installation, owner: Session) -> None:
    row = message()
    letters = [await die(owner, None) for _ in range(3)]
    letters.append(await die(owner, row, reason="mended"))
    reply = await ask(scheduler, "GET", f"{LETTERS}?limit=3")
    assert reply.status == 200
    assert [one["id"] for one in reply.json["data"]] == letters[:0:-1]
    rest = await ask(scheduler, "GET", f"{LETTERS}?limit=3&cursor={reply.json['next_cursor']}")
    assert [one["id"] for one in rest.json["data"]] == letters[:1]
    assert (rest.json["has_more"], rest.json["next_cursor"]) == (False, None)
    merchant = ids.public(ids.MERCHANT, str(row["merchant_id"]))
    for query in ("reason=mended", f"merchant_id={merchant}", "status=all&reason=mended&from=2026-01-01T00:00:00Z"):
        found = await ask(scheduler, "GET", f"{LETTERS}?{query}")
        assert [one["id"] for one in found.json["data"]] == letters[3:], query
    for query in ("to=2026-01-01T00:00:00Z", "status=requeued", "stream=other"):
        assert (await ask(scheduler, "GET", f"{LETTERS}?{query}")).json["data"] == [], query


async def test_requeue_takes_effect_once_releases_in_order_and_leaves_an_audit_row(
    scheduler: Installation, owner: Session
) -> None:
    row = message()
    letter = await die(owner, row)
    parked = [await park(owner, message(payment_id=row["payment_id"])) for _ in range(3)]
    replies: list[Reply] = []

    async def requeue() -> None:
        replies.append(await ask(scheduler, "POST", f"{LETTERS}/{letter}/requeue", {"note": "mended in 1.4"}))

    async with anyio.create_task_group() as operators:
        for _ in range(5):
            operators.start_soon(requeue)
    [done] = [reply for reply in replies if reply.status == 200]
    assert {problem(reply) for reply in replies if reply is not done} == {(409, "resolved_already")}
    assert (done.json["status"], done.json["resolved_by"]) == ("requeued", "ada")
    assert done.json["audit"][0]["note"] == "mended in 1.4"
    assert await outbox(owner) == [row["id"], *parked]
    assert [line for line in await audit(owner) if line[2] == letter] == [
        ("ada", "dead_letter.requeue", letter, "mended in 1.4")
    ]


async def test_discard_wants_a_reason_and_spares_evidence_of_money(scheduler: Installation, owner: Session) -> None:
    junk, money = await die(owner, None), await die(owner, message(body={"outcome": "approved"}))
    unexplained = await ask(scheduler, "POST", f"{LETTERS}/{junk}/discard", {})
    assert problem(unexplained) == (400, "body_invalid")
    assert unexplained.json["errors"][0]["pointer"] == "/note"
    assert problem(await ask(scheduler, "POST", f"{LETTERS}/{money}/discard", {"note": "x"})) == (
        409,
        "evidence_of_money",
    )
    assert problem(await ask(scheduler, "POST", f"{LETTERS}/{junk}/requeue", {})) == (409, "nothing_to_requeue")
    assert (await ask(scheduler, "POST", f"{LETTERS}/{junk}/discard", {"note": "junk"})).json["status"] == "discarded"
    shown = await ask(scheduler, "GET", f"{LETTERS}/{junk}")
    assert [line["note"] for line in shown.json["audit"]] == ["junk"]


@pytest.mark.parametrize("path", [f"{LETTERS}/{NOBODY}", f"{LETTERS}/none", "/v1/nothing", "/v1"])
async def test_what_is_not_there_is_not_found(scheduler: Installation, path: str) -> None:
    reply = await ask(scheduler, "GET", path)
    assert reply.status == 404
    if path.startswith(LETTERS):
        assert problem(reply) == (404, "not_found")
        assert problem(await ask(scheduler, "POST", f"{path}/requeue", {})) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ([], "body_invalid"),
        ({"note": 7}, "body_invalid"),
        ({"note": " "}, "body_invalid"),
        ({"note": "\x1b[2J"}, "body_invalid"),
        ({"note": "x" * 501}, "body_invalid"),
        ({"note": "x", "fields": {}}, "body_invalid"),
        ({"note": "x" * 20_000}, "body_too_large"),
        (None, "content_type_unsupported"),
    ],
)
async def test_a_body_that_is_not_understood_changes_nothing(
    scheduler: Installation, owner: Session, body: object, code: str
) -> None:
    letter = await die(owner, message())
    assert problem(await ask(scheduler, "POST", f"{LETTERS}/{letter}/requeue", body))[1] == code
    assert await outbox(owner) == []


@pytest.mark.parametrize("query", ["status=gone", "limit=0", "cursor=x", "merchant_id=7", "from=yesterday", "reasno=x"])
async def test_a_misspelt_filter_lists_nothing(scheduler: Installation, query: str) -> None:
    assert problem(await ask(scheduler, "GET", f"{LETTERS}?{query}")) == (400, "query_invalid")


@pytest.mark.parametrize("authorization", [None, "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}"])
async def test_without_the_token_nobody_gets_in(
    scheduler: Installation, owner: Session, authorization: str | None
) -> None:
    letter = await die(owner, message())
    for method, path in (("GET", LETTERS), ("GET", f"{LETTERS}/{letter}"), ("POST", f"{LETTERS}/{letter}/requeue")):
        reply = await ask(scheduler, method, path, {}, Authorization=authorization)
        assert problem(reply) == (401, "operator_token_invalid")
    assert await outbox(owner) == []


@pytest.mark.parametrize("name", [None, "two words", "x" * 101])
async def test_whoever_decides_says_who_it_is(scheduler: Installation, owner: Session, name: str | None) -> None:
    letter = await die(owner, message())
    reply = await ask(scheduler, "POST", f"{LETTERS}/{letter}/requeue", {}, Paynode_Operator=name)
    assert problem(reply) == (400, "operator_missing")
    assert await outbox(owner) == []


async def test_the_probes_beside_it_need_no_token_and_leave_no_line(scheduler: Installation) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert (await ask(scheduler, "GET", path, Authorization=None)).status == 200
    assert "livez" not in scheduler.processes[0].log.read_text()


async def test_without_a_token_in_the_settings_the_api_is_off(scheduler: Installation) -> None:
    [port] = free_ports(1)
    off = scheduler.start("scheduler", PAYNODE_ADMIN__SCHEDULER_PORT=str(port))
    for token in ("", "Bearer ", f"Bearer {TOKEN}"):
        headers = {"Authorization": token, "Paynode-Operator": "ada"}
        reply = await scheduler.send("GET", f"http://127.0.0.1:{port}{LETTERS}", headers=headers)
        assert problem(reply) == (403, "operator_api_off")
    off.stop()
