"""Capture, void, cancel and refund: what is answered, and what is in the database by then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import orjson
import pytest

from paynode.config import Settings
from paynode.domain import ids
from paynode.domain.accepting import KeyUse
from paynode.domain.asking import AskVerdict, NewRequest
from paynode.domain.errors import Unavailable
from paynode.domain.partition import partition_of
from paynode.domain.road import Pointer, events_stream
from paynode.storage.bodies import decode_request
from paynode.storage.postgres import Role, pool
from paynode.storage.requesting import PgRequesting
from tests.http.deciding import (
    ask,
    charged,
    conclude,
    decide,
    deciding,
    of,
    only_undecided,
    saying,
    undecided,
    uuid_of,
)
from tests.http.house import House, Reply, by_token, new_merchant, running, with_http
from tests.support.waiting import wait_until


@pytest.fixture
async def hasty(settings: Settings) -> AsyncIterator[House]:
    """An ingress that soon waits for no decision any more."""
    async with running(with_http(settings, decision_wait_s=0.3)) as house:
        yield house


async def test_a_refund_is_answered_as_soon_as_it_is_decided(house: House) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house)):
        reply = await ask(house, payment, "refunds", {"amount": 500, "reason": "too small"})
    refund = reply.json
    assert reply.status == 201
    assert reply.headers["Location"] == of(payment, f"/refunds/{refund['id']}")
    assert refund | {"created_at": "", "updated_at": ""} == {
        "id": refund["id"],
        "object": "refund",
        "payment_id": payment,
        "status": "pending",
        "amount": 500,
        "currency": "EUR",
        "reason": "too small",
        "failure_reason": None,
        "psp_reference": None,
        "created_at": "",
        "updated_at": "",
    }
    assert refund["id"].startswith("ref_")


@pytest.mark.parametrize(("verb", "kind"), [("capture", "capture"), ("void", "void"), ("cancel", "cancel")])
async def test_whatever_else_is_asked_is_answered_with_the_payment(house: House, verb: str, kind: str) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house)):
        reply = await ask(house, payment, verb)
    assert reply.status == 201
    shown = reply.json
    operation = shown.pop("operation")
    assert shown == (await house.get(of(payment))).json
    assert (operation["kind"], operation["status"], operation["payment_id"]) == (kind, "pending", payment)
    assert reply.headers["Location"] == of(payment, f"/operations/{operation['id']}")
    assert (await house.get(reply.headers["Location"])).json == operation


async def test_a_request_is_one_row_of_each_kind_and_is_published_to_the_partition(hasty: House) -> None:
    house = hasty
    payment = await charged(house)
    await house.owner.execute("DELETE FROM outbox")
    await ask(house, payment, "capture", {"amount": 7, "final": True}, If_Match='"2"')
    request = await house.owner.fetchrow("SELECT *, id::text AS text FROM requests")
    message = await house.owner.fetchrow("SELECT *, body::text AS text FROM outbox")
    key = await house.owner.fetchrow("SELECT * FROM idempotency_keys WHERE request_id IS NOT NULL")
    assert request is not None
    assert message is not None
    assert key is not None
    assert (request["kind"], request["amount"], request["is_final"], request["decided_at"]) == (
        "capture",
        7,
        True,
        None,
    )
    assert key["path"] == of(payment, "/capture")
    assert {str(key["request_id"]), str(message["id"])} == {request["text"]}
    asked = decode_request(message["text"])
    assert (asked.id, asked.kind, asked.amount, asked.is_final) == (request["text"], "capture", 7, True)
    assert asked.expected_version == 2
    stream = events_stream(partition_of(house.merchant.public_id, house.settings.streams.partitions))
    assert (message["type"], message["stream"]) == ("payment.request", stream)
    assert message["published_at"] is not None
    pointer = Pointer(stream=stream, ref=request["text"], merchant=house.merchant.public_id)
    await wait_until(lambda: pointer in house.recorder.published, "the request is published", 30)


async def test_a_decision_is_found_without_any_notice(house: House) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house, notice=False)):
        assert (await ask(house, payment, "refunds")).status == 201


async def test_without_a_decision_in_time_it_is_202_and_a_retry_gets_the_decision(hasty: House) -> None:
    house = hasty
    payment = await charged(house)
    first = await ask(house, payment, "refunds", key="k")
    assert (first.status, first.json["status"], first.json["amount"]) == (202, "pending", None)
    assert first.headers["Retry-After"] == "1"
    assert (await house.get(first.headers["Location"])).json["status"] == "pending"
    [request] = await undecided(house)
    await decide(house, request, state="approved")
    second = await ask(house, payment, "refunds", key="k", Prefer="wait=20")
    assert (second.status, second.json["id"], second.json["amount"]) == (201, first.json["id"], 1250)
    third = await ask(house, payment, "refunds", key="k")
    assert (third.raw, third.headers["Idempotent-Replayed"]) == (second.raw, "true")
    assert await house.count("requests") == 1


async def test_a_request_is_taken_while_redis_is_away(house: House) -> None:
    payment = await charged(house)
    house.recorder.is_away = True
    async with deciding(house, saying(house, notice=False)):
        assert (await ask(house, payment, "void")).status == 201


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        ("payment_changed", 412),
        ("operation_outcome_unknown", 409),
        ("payment_under_review", 409),
        ("payment_not_authorized", 409),
        ("payment_not_capturable", 409),
        ("payment_not_voidable", 409),
        ("payment_not_cancelable", 409),
        ("payment_not_refundable", 409),
        ("operation_in_flight", 409),
        ("amount_exceeds_authorized", 409),
        ("amount_exceeds_captured", 409),
        ("insufficient_funds", 409),
        ("not_supported_by_psp", 422),
    ],
)
async def test_a_refusal_says_why(house: House, refusal: str, status: int) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house, refusal)):
        reply = await ask(house, payment, "refunds", {"amount": 5000})
    assert (reply.status, reply.code) == (status, refusal)
    assert (reply.json["payment_id"], reply.json["payment_status"]) == (payment, "captured")
    assert ("Retry-After" in reply.headers) == (refusal in ("operation_outcome_unknown", "operation_in_flight"))
    assert reply.headers.get("ETag") == ('"2"' if refusal == "payment_changed" else None)
    assert (reply.json.get("errors") == [{"detail": "is too much", "pointer": "/amount"}]) == ("exceeds" in refusal)


async def test_a_refusal_is_not_stored_and_a_retry_is_decided_anew(house: House) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house, "insufficient_funds")) as refused:
        for _ in range(2):
            assert (await ask(house, payment, "refunds", {"amount": 5}, key="k")).code == "insufficient_funds"
    async with deciding(house, saying(house)) as accepted:
        made = await ask(house, payment, "refunds", {"amount": 5}, key="k")
    assert (len(set(refused)), len(accepted)) == (2, 1)
    assert (made.status, uuid_of(made.json)) == (201, accepted[0])
    again = await ask(house, payment, "refunds", {"amount": 5}, key="k")
    assert (again.raw, again.headers["Idempotent-Replayed"]) == (made.raw, "true")
    rows = await house.owner.fetch("SELECT request_id::text AS id FROM idempotency_keys WHERE request_id IS NOT NULL")
    assert [row["id"] for row in rows] == accepted


async def test_a_refused_request_is_shown_as_failed_and_is_no_refund(house: House) -> None:
    payment = await charged(house)
    first = await ask(house, payment, "refunds", Prefer="respond-async")
    [request] = await undecided(house)
    await decide(house, request, "payment_not_refundable")
    shown = (await house.get(first.headers["Location"])).json
    assert (shown["status"], shown["failure_reason"]) == ("failed", "payment_not_refundable")
    assert (await house.get(of(payment, "/refunds"))).json["data"] == []


async def test_another_body_under_the_same_key_is_refused_and_another_path_is_another_key(house: House) -> None:
    payment, other = await charged(house), await charged(house)
    async with deciding(house, saying(house)) as decided:
        assert (await ask(house, payment, "refunds", {"amount": 5}, key="k")).status == 201
        reused = await ask(house, payment, "refunds", {"amount": 6}, key="k")
        assert (reused.status, reused.code) == (422, "idempotency_key_reused")
        assert (await ask(house, payment, "void", key="k")).status == 201
        assert (await ask(house, other, "refunds", {"amount": 5}, key="k")).status == 201
    assert len(decided) == 3


async def test_another_body_after_a_refusal_is_refused_too(house: House) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house, "insufficient_funds")):
        await ask(house, payment, "refunds", {"amount": 5}, key="k")
    assert (await ask(house, payment, "refunds", {"amount": 6}, key="k")).code == "idempotency_key_reused"
    assert await house.count("requests") == 1


async def test_one_key_fifty_times_at_once_is_one_request(house: House) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house)) as decided:
        replies = await _at_once(house, payment, 50)
        again = await ask(house, payment, "refunds", {"amount": 5}, key="k")
    accepted = [reply for reply in replies if reply.status == 201]
    refused = [reply for reply in replies if reply.status != 201]
    assert {reply.raw for reply in [*accepted, again]} == {accepted[0].raw}
    assert sum("Idempotent-Replayed" not in reply.headers for reply in accepted) == 1
    assert {(reply.status, reply.code) for reply in refused} <= {(409, "idempotency_key_in_flight")}
    assert (len(decided), await house.count("requests")) == (1, 1)


async def test_a_retry_adopts_what_a_killed_ingress_left(hasty: House) -> None:
    house = hasty
    payment = await charged(house)
    first = await ask(house, payment, "refunds", key="k")
    # As the row of an ingress that was killed while it waited: first within its time, then past it.
    await house.owner.execute("UPDATE idempotency_keys SET in_flight_until = clock_timestamp() + interval '9 s'")
    assert (await ask(house, payment, "refunds", key="k")).code == "idempotency_key_in_flight"
    await house.owner.execute("UPDATE idempotency_keys SET in_flight_until = clock_timestamp()")
    [request] = await undecided(house)
    await decide(house, request, state="approved")
    second = await ask(house, payment, "refunds", key="k", Prefer="wait=20")
    assert (second.status, second.json["id"]) == (201, first.json["id"])
    assert await house.count("requests") == 1


async def test_what_a_killed_ingress_left_may_have_been_refused(hasty: House) -> None:
    house = hasty
    payment = await charged(house)
    await ask(house, payment, "refunds", key="k")
    [request] = await undecided(house)
    await decide(house, request, "insufficient_funds")
    async with deciding(house, saying(house, state="approved")):
        reply = await ask(house, payment, "refunds", key="k", Prefer="wait=20")
    assert (reply.status, uuid_of(reply.json) != request) == (201, True)


class Cut:
    """The database, whose line is cut once: before or after the commit."""

    def __init__(self, *, has_committed: bool, can_find: bool = True) -> None:
        self.real: PgRequesting | None = None
        self.has_committed = has_committed
        self.can_find = can_find
        self.cuts = 1

    async def ask(self, new: NewRequest) -> AskVerdict:
        assert self.real is not None
        if not self.cuts:
            return await self.real.ask(new)
        self.cuts -= 1
        if self.has_committed:
            await self.real.ask(new)
        raise Unavailable("cut")

    async def find(self, new: NewRequest) -> AskVerdict:
        assert self.real is not None
        if not self.can_find:
            raise Unavailable("gone")
        return await self.real.find(new)

    async def adopt(self, use: KeyUse, request_id: str, *, in_flight_s: float) -> bool:
        assert self.real is not None
        return await self.real.adopt(use, request_id, in_flight_s=in_flight_s)


async def test_a_cut_commit_that_was_committed_is_answered_as_if_nothing_had_been(settings: Settings) -> None:
    async with _with_a_cut(settings, Cut(has_committed=True)) as house:
        payment = await charged(house)
        async with deciding(house, saying(house)) as decided:
            assert (await ask(house, payment, "refunds", key="k")).status == 201
        assert len(decided) == 1
        await wait_until(lambda: decided[0] in {one.ref for one in house.recorder.published}, "it is published", 30)


async def test_a_cut_commit_that_never_was_is_503_and_a_retry_asks(settings: Settings) -> None:
    async with _with_a_cut(settings, Cut(has_committed=False)) as house:
        payment = await charged(house)
        async with deciding(house, saying(house)) as decided:
            reply = await ask(house, payment, "refunds", key="k")
            assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
            assert (await ask(house, payment, "refunds", key="k")).status == 201
        assert len(decided) == 1


async def test_a_commit_of_which_nobody_knows_is_503_and_a_retry_is_the_same_request(settings: Settings) -> None:
    cut = Cut(has_committed=True, can_find=False)
    async with _with_a_cut(settings, cut) as house:
        payment = await charged(house)
        assert (await ask(house, payment, "refunds", key="k")).status == 503
        await house.owner.execute("UPDATE idempotency_keys SET in_flight_until = clock_timestamp()")
        async with deciding(house, saying(house)) as decided:
            reply = await ask(house, payment, "refunds", key="k")
        assert (reply.status, [uuid_of(reply.json)]) == (201, decided)


@asynccontextmanager
async def _with_a_cut(settings: Settings, cut: Cut) -> AsyncIterator[House]:
    async with pool(settings, Role.INGRESS, application_name="test", size=2) as writing:
        cut.real = PgRequesting(writing)
        async with running(settings, requesting=cut) as house:
            yield house


async def test_respond_async_is_answered_before_the_decision_and_that_answer_is_kept(house: House) -> None:
    payment = await charged(house)
    first = await ask(house, payment, "refunds", {"amount": 5}, key="k", Prefer="respond-async")
    assert (first.status, first.headers["Preference-Applied"]) == (202, "respond-async")
    assert (first.json["status"], first.json["amount"]) == ("pending", 5)
    [request] = await undecided(house)
    await decide(house, request, state="approved")
    again = await ask(house, payment, "refunds", {"amount": 5}, key="k")
    assert (again.status, again.raw, again.headers["Idempotent-Replayed"]) == (202, first.raw, "true")
    assert (await house.get(first.headers["Location"])).json["status"] == "succeeded"


@pytest.mark.parametrize(("state", "status"), [("approved", "succeeded"), ("declined", "failed")])
async def test_a_wait_ends_when_the_operation_is_final(house: House, state: str, status: str) -> None:
    payment = await charged(house)
    replies: list[Reply] = []

    async def wait() -> None:
        replies.append(await ask(house, payment, "refunds", key="k", Prefer="wait=20"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        request = await only_undecided(house)
        await decide(house, request)
        await anyio.sleep(0.1)
        assert replies == []
        await conclude(house, request, state, "no such card")
    [reply] = replies
    assert (reply.status, reply.headers["Preference-Applied"]) == (201, "wait=20")
    assert reply.json["status"] == status
    assert reply.json["failure_reason"] == (None if state == "approved" else "no such card")
    assert (await ask(house, payment, "refunds", key="k")).raw == reply.raw


async def test_a_wait_that_runs_out_is_202_and_a_retry_waits_again(house: House) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house)) as decided:
        first = await ask(house, payment, "void", key="k", Prefer="wait=1")
        await wait_until(lambda: bool(decided), "it is decided", 20)
    assert (first.status, first.headers["Preference-Applied"]) == (202, "wait=1")
    await conclude(house, decided[0], "approved")
    second = await ask(house, payment, "void", key="k", Prefer="wait=20")
    assert (second.status, second.json["operation"]["status"]) == (201, "succeeded")


async def test_a_refusal_ends_every_wait(house: House) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house, "operation_outcome_unknown")):
        with anyio.fail_after(15):
            reply = await ask(house, payment, "refunds", Prefer="wait=30")
    assert (reply.status, reply.code) == (409, "operation_outcome_unknown")


async def test_a_client_that_goes_away_loses_nothing(hasty: House) -> None:
    house = hasty
    payment = await charged(house)
    async with anyio.create_task_group() as client:
        client.start_soon(lambda: ask(house, payment, "refunds", key="k"))
        await only_undecided(house)
        client.cancel_scope.cancel()

    async def is_released() -> bool:
        released = "SELECT in_flight_until <= clock_timestamp() FROM idempotency_keys WHERE request_id IS NOT NULL"
        return bool(await house.owner.fetchval(released))

    await wait_until(is_released, "the request is over, without anybody to hear its answer", 30)
    async with deciding(house, saying(house, state="approved")):
        assert (await ask(house, payment, "refunds", key="k", Prefer="wait=20")).status == 201
    assert await house.count("requests") == 1


async def test_refunds_are_listed_newest_first_and_page_by_page(house: House) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house, state="approved")):
        made = [(await ask(house, payment, "refunds", {"amount": n})).json for n in range(1, 4)]
        await ask(house, payment, "void")
    first = (await house.get(of(payment, "/refunds?limit=2"))).json
    assert [refund["amount"] for refund in first["data"]] == [3, 2]
    assert first["data"][0] == made[2]
    second = (await house.get(of(payment, f"/refunds?limit=2&cursor={first['next_cursor']}"))).json
    assert ([refund["id"] for refund in second["data"]], second["has_more"]) == ([made[0]["id"]], False)


async def test_what_nobody_asked_for_is_shown_too(house: House) -> None:
    payment = await charged(house)
    await house.owner.execute(
        """INSERT INTO operations (
            id, payment_id, merchant_id, kind, amount, currency, psp, request, state, origin, reason
        )
        SELECT gen_random_uuid(), id, merchant_id, 'refund', 1250, 'EUR', 'sim', '{}', 'unknown', 'late_success', 'late'
        FROM payments"""
    )
    [refund] = (await house.get(of(payment, "/refunds"))).json["data"]
    assert (refund["status"], refund["reason"]) == ("unknown", "late")
    assert (await house.get(of(payment, f"/refunds/{refund['id']}"))).json == refund


async def test_nothing_of_another_merchant_exists(house: House) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house)):
        refund = (await ask(house, payment, "refunds")).json
        captured = (await ask(house, payment, "capture")).json["operation"]
    other = await new_merchant(house.owner)
    for verb in ("capture", "void", "cancel", "refunds"):
        reply = await ask(house, payment, verb, merchant=other)
        assert (reply.status, reply.code) == (404, "not_found")
    mine, house.merchant = house.merchant, other
    for path in ("/refunds", f"/refunds/{refund['id']}", f"/operations/{captured['id']}"):
        assert (await house.get(of(payment, path))).status == 404
    house.merchant = mine
    assert await house.count("requests") == 2


async def test_an_operation_has_one_place(house: House) -> None:
    payment, other = await charged(house), await charged(house)
    async with deciding(house, saying(house)):
        refund = (await ask(house, payment, "refunds")).json["id"]
        void = (await ask(house, payment, "void")).json["operation"]["id"]
    for path in (
        of(other, f"/refunds/{refund}"),
        of(payment, f"/operations/{refund.replace('ref_', 'op_')}"),
        of(payment, f"/refunds/{void.replace('op_', 'ref_')}"),
        of(payment, f"/refunds/{void}"),
        of(payment, "/refunds/ref_x"),
        of("pay_x", f"/refunds/{refund}"),
        of(ids.public(ids.PAYMENT, uuid_of({"id": refund})), "/refunds"),
    ):
        assert (await house.get(path)).status == 404, path


@pytest.mark.parametrize("payment", ["pay_x", "ref_00000000000000000000000000", "pay_00000000000000000000000000"])
async def test_an_unknown_payment_is_not_found(untouched: House, payment: str) -> None:
    assert (await ask(untouched, payment, "refunds")).code == "not_found"


@pytest.mark.parametrize(
    ("verb", "body", "pointers"),
    [
        ("capture", {"amount": 0, "final": 1}, ["/amount", "/final"]),
        ("capture", {"amount": "5"}, ["/amount"]),
        ("capture", {"amount": 5.0}, ["/amount"]),
        ("capture", {"amount": True}, ["/amount"]),
        ("capture", {"amount": 10**12 + 1, "reason": "x"}, ["/amount", "/reason"]),
        ("refunds", {"amount": -1, "final": True, "reason": 7}, ["/amount", "/final", "/reason"]),
        ("refunds", {"reason": "a\nb"}, ["/reason"]),
        ("refunds", {"reason": "x" * 201}, ["/reason"]),
        ("void", {"amount": 5}, ["/amount"]),
        ("cancel", {"why": "x"}, ["/why"]),
        ("refunds", [], [""]),
    ],
)
async def test_a_bad_body_is_refused_with_all_its_flaws(
    untouched: House, verb: str, body: Any, pointers: list[str]
) -> None:
    reply = await ask(untouched, ids.public(ids.PAYMENT, "0" * 8 + "-0000-7000-8000-" + "0" * 12), verb, body)
    assert (reply.status, reply.code) == (400, "body_invalid")
    assert sorted(flaw["pointer"] for flaw in reply.json["errors"]) == pointers


async def test_no_body_and_an_empty_object_are_the_same(house: House) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house)):
        first = await ask(house, payment, "void", key="k")
        assert (await ask(house, payment, "void", {}, key="k")).raw == first.raw
        spelled = orjson.dumps({"final": False, "amount": 5}, option=orjson.OPT_INDENT_2)
        made = await ask(house, payment, "capture", {"amount": 5, "final": False}, key="k")
        assert (await ask(house, payment, "capture", spelled, key="k")).raw == made.raw


async def test_a_body_that_is_no_json_is_refused(untouched: House) -> None:
    headers = {"Idempotency-Key": "k", "Content-Type": "text/plain"}
    reply = await untouched.request("POST", of("pay_x", "/refunds"), headers=headers, data=b"amount=5")
    assert reply.code == "content_type_unsupported"


async def test_a_request_needs_a_key_and_a_merchant(untouched: House) -> None:
    reply = await untouched.request("POST", of("pay_x", "/refunds"))
    assert reply.code == "idempotency_key_missing"
    reply = await untouched.request("POST", of("pay_x", "/refunds"), headers={"Authorization": "Bearer x"})
    assert reply.status == 401


@pytest.mark.parametrize(
    ("header", "version"),
    [('"2"', 2), ("*", None), ('"9", "2"', 2), ('"1", "9"', 9), ('W/"2"', 0), ('"abc"', 0), ('"02"', 0), ('"²"', 0)],
)
async def test_if_match_is_the_actors_to_compare(house: House, header: str, version: int | None) -> None:
    payment = await charged(house)
    await ask(house, payment, "void", If_Match=header, Prefer="respond-async")
    message = await house.owner.fetchval("SELECT body::text FROM outbox WHERE type = 'payment.request'")
    assert decode_request(message).expected_version == version


async def test_an_if_match_that_is_none_is_refused(house: House) -> None:
    payment = await charged(house)
    reply = await ask(house, payment, "void", If_Match="2")
    assert (reply.status, reply.code) == (400, "if_match_invalid")


async def test_a_retry_is_answered_as_before_though_its_if_match_names_an_old_version(house: House) -> None:
    payment = await charged(house)
    async with deciding(house, saying(house)):
        first = await ask(house, payment, "refunds", {"amount": 5}, key="k", If_Match='"2"')
    assert (await house.get(of(payment))).headers["ETag"] == '"3"'
    assert (await ask(house, payment, "refunds", {"amount": 5}, key="k", If_Match='"2"')).raw == first.raw


async def test_a_payment_of_which_nothing_was_asked_has_no_refunds(house: House) -> None:
    reply = await house.pay(by_token())
    assert (await house.get(of(reply.json["id"], "/refunds"))).json == {
        "data": [],
        "has_more": False,
        "next_cursor": None,
    }


async def _at_once(house: House, payment: str, count: int) -> list[Reply]:
    replies: list[Reply] = []

    async def one() -> None:
        replies.append(await ask(house, payment, "refunds", {"amount": 5}, key="k"))

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(one)
    return replies
