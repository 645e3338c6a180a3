"""The whole life of a payment, through every process: capture, void, cancel, refund, and what a PSP takes back."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import anyio
import anyio.to_thread
import orjson
import pytest
from click.testing import CliRunner
from multidict import CIMultiDict

from paynode.cli.main import main
from paynode.embedded.servers import Running
from tests.e2e.living import Life, uuid_of
from tests.support.installation import Installation, Reply, shared_by_tests, token
from tests.support.verbs import paynode
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
async def living(
    servers: Running, template: str, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Installation]:
    """One of each process for all tests of this file, which asks soon about pages that are open or were closed."""
    directory = tmp_path_factory.mktemp("living")
    async with shared_by_tests(
        servers, template, home, directory, redis_database=2, PAYNODE_GATEWAY__PENDING_INQUIRY_S="4"
    ) as installation:
        yield installation


@pytest.fixture
async def life(living: Installation) -> Life:
    """A merchant of its own for each test, and a PSP that does nothing wrong."""
    [merchant] = await living.merchants(1)
    life = Life(installation=living, merchant=merchant)
    await life.faults()
    return life


async def test_an_authorization_is_captured_in_parts_until_the_final_one(life: Life) -> None:
    payment = await life.authorized(10_000)
    assert await life.wallet() == {}
    first = await life.ask(payment, "capture", {"amount": 3000})
    assert (first.status, first.json["status"], first.json["amount_captured"]) == (201, "partially_captured", 3000)
    assert first.json["operation"]["status"] == "succeeded"
    assert (await life.ask(payment, "capture", {"amount": 2000})).json["amount_captured"] == 5000
    too_much = await life.ask(payment, "capture", {"amount": 5001})
    assert (too_much.status, too_much.json["code"]) == (409, "amount_exceeds_authorized")
    last = await life.ask(payment, "capture", {"amount": 1000, "final": True})
    assert last.json["amount_captured"] == 6000
    over = await life.ask(payment, "capture")
    assert (over.status, over.json["code"]) == (409, "payment_not_capturable")
    assert await life.wallet() == {"pending": 6000 - 45 - 30 - 15, "available": 0, "reserve": 0, "held": 0}
    await life.agrees()


async def test_a_capture_without_an_amount_takes_what_is_left(life: Life) -> None:
    payment = await life.authorized(10_000)
    await life.ask(payment, "capture", {"amount": 2500})
    reply = await life.ask(payment, "capture")
    assert (reply.json["status"], reply.json["amount_captured"]) == ("captured", 10_000)
    assert reply.json["operation"]["amount"] == 7500
    await life.agrees()


async def test_an_authorization_is_let_go_and_frees_the_order(life: Life) -> None:
    payment = await life.authorized(10_000, order_id="basket")
    reply = await life.ask(payment, "void")
    assert (reply.status, reply.json["status"], reply.json["operation"]["status"]) == (201, "voided", "succeeded")
    assert (await life.ask(payment, "capture")).json["code"] == "payment_not_capturable"
    assert (await life.ask(payment, "void")).json["code"] == "payment_not_voidable"
    await life.captured(10_000, order_id="basket")
    await life.agrees()


async def test_a_sale_cannot_be_captured_or_voided_and_an_authorization_cannot_be_refunded(life: Life) -> None:
    sale, authorization = await life.captured(10_000), await life.authorized(10_000)
    assert (await life.ask(sale, "capture")).json["code"] == "payment_not_capturable"
    assert (await life.ask(sale, "void")).json["code"] == "payment_not_voidable"
    assert (await life.ask(sale, "cancel")).json["code"] == "payment_not_cancelable"
    assert (await life.ask(authorization, "refunds")).json["code"] == "payment_not_refundable"
    await life.ask(authorization, "void")
    await life.agrees()


async def test_a_capture_or_void_that_the_psp_declines_leaves_the_authorization_as_it_was(life: Life) -> None:
    payment = await life.authorized(10_000, "tok_capture_declined")
    reply = await life.ask(payment, "capture", {"amount": 4000})
    assert (reply.status, reply.json["status"], reply.json["amount_captured"]) == (201, "authorized", 0)
    assert (reply.json["operation"]["status"], reply.json["operation"]["failure_reason"]) == ("failed", "do_not_honor")
    assert (await life.ask(payment, "void")).json["status"] == "voided"
    other = await life.authorized(10_000, "tok_void_declined")
    assert (await life.ask(other, "void")).json["operation"]["status"] == "failed"
    assert (await life.ask(other, "capture")).json["status"] == "captured"
    await life.agrees()


async def test_an_open_page_is_canceled(life: Life) -> None:
    payment, page = await life.page(10_000, order_id="basket")
    reply = await life.ask(payment, "cancel")
    assert (reply.status, reply.json["status"]) == (201, "canceled")
    assert (await life.installation.send("GET", page)).status == 410
    await life.installation.send("POST", page + "/pay")  # a customer who had it open still
    assert (await life.ask(payment, "cancel")).json["code"] == "payment_not_cancelable"
    await life.captured(10_000, order_id="basket")
    await life.agrees()


async def test_a_page_that_was_just_paid_cannot_be_canceled(life: Life) -> None:
    """The PSP has the money, and its callback is lost: only the PSP knows, and it refuses."""
    await life.faults(drop_callback=1)
    paid: list[str] = []
    for _ in range(20):
        payment, page = await life.page(10_000)
        assert (await life.installation.send("POST", page + "/pay")).status == 303
        paid.append(payment)
        reply = await life.ask(payment, "cancel")
        if reply.status == 201:
            break
        # We have asked the PSP of our own accord just before, and knew.
        assert reply.json["code"] == "payment_not_cancelable"
    assert (reply.status, reply.json["operation"]["status"]) == (201, "failed")
    await life.faults()
    # The customer comes back, and his return has the PSP asked.
    await life.installation.send("GET", f"/checkout/{payment}/return")
    for payment in paid:
        await life.until(payment, "captured")
    await life.agrees()


async def test_refunds_are_partial_and_several_until_all_is_given_back(life: Life) -> None:
    await life.captured(10_000)
    payment = await life.captured(10_000)
    first = await life.ask(payment, "refunds", {"amount": 2500, "reason": "too small"})
    assert (first.status, first.json["status"], first.json["amount"]) == (201, "succeeded", 2500)
    assert await life.amounts(payment) == ("captured", 10_000, 2500, "partial")
    too_much = await life.ask(payment, "refunds", {"amount": 7501})
    assert (too_much.status, too_much.json["code"]) == (409, "amount_exceeds_captured")
    second = await life.ask(payment, "refunds")
    assert second.json["amount"] == 7500
    assert await life.amounts(payment) == ("captured", 10_000, 10_000, "full")
    assert (await life.ask(payment, "refunds")).json["code"] == "payment_not_refundable"
    listed = await life.installation.get(life.merchant, f"/v1/payments/{payment}/refunds")
    assert [one["id"] for one in listed["data"]] == [second.json["id"], first.json["id"]]
    await life.agrees()


async def test_of_two_refunds_at_once_that_together_exceed_one_is_refused(life: Life) -> None:
    await life.captured(10_000)
    payment = await life.captured(10_000)
    replies: list[Reply] = []

    async def refund() -> None:
        replies.append(await life.ask(payment, "refunds", {"amount": 6000}, prefer=""))

    async with anyio.create_task_group() as clients:
        for _ in range(4):
            clients.start_soon(refund)
    refused = [reply for reply in replies if reply.status != 201]
    assert [(reply.status, reply.json["code"]) for reply in refused] == [(409, "amount_exceeds_captured")] * 3
    await life.until(payment, "captured", amount_refunded=6000)
    await life.agrees()


async def test_more_than_the_wallet_holds_is_refused_until_it_is_there(life: Life) -> None:
    """The fee was kept: the whole of a merchant's only payment is more than he has."""
    payment = await life.captured(10_000)
    refused = await life.ask(payment, "refunds", key="k")
    assert (refused.status, refused.json["code"]) == (409, "insufficient_funds")
    await life.captured(10_000)
    made = await life.ask(payment, "refunds", key="k")
    assert (made.status, made.json["status"]) == (201, "succeeded")
    again = await life.ask(payment, "refunds", key="k")
    assert (again.raw, again.headers["Idempotent-Replayed"]) == (made.raw, "true")
    await life.agrees()


async def test_a_refund_that_the_psp_declines_goes_back_into_the_wallet(life: Life) -> None:
    payment = await life.captured(10_000, "tok_refund_declined")
    before = await life.wallet()
    reply = await life.ask(payment, "refunds", {"amount": 4000})
    assert (reply.status, reply.json["status"], reply.json["failure_reason"]) == (201, "failed", "do_not_honor")
    assert await life.wallet() == before
    assert await life.amounts(payment) == ("captured", 10_000, 0, "none")
    await life.agrees()


async def test_while_an_outcome_is_unknown_its_rivals_are_refused_and_the_money_stays_held(life: Life) -> None:
    await life.captured(10_000)
    payment = await life.captured(10_000)
    # The refund is booked and its answer cut off; nobody is told of it, and inquiries get no answer either.
    await life.faults(hang_after=1, inquiry_error=1, drop_callback=1, only=["refund", "inquiry"])
    first = await life.ask(payment, "refunds", {"amount": 4000}, prefer="")
    assert (first.status, first.json["status"]) == (201, "pending")
    await life.until_refund(payment, first.json["id"], "unknown")
    rival = await life.ask(payment, "refunds", {"amount": 1000}, is_patient=False)
    assert (rival.status, rival.json["code"]) == (409, "operation_outcome_unknown")
    assert "Retry-After" in rival.headers
    assert (await life.wallet())["held"] == 4000
    assert await life.amounts(payment) == ("captured", 10_000, 0, "pending")
    await life.faults()
    await life.until(payment, "captured", amount_refunded=4000, refund_status="partial")
    assert (await life.ask(payment, "refunds", {"amount": 1000})).json["status"] == "succeeded"
    await life.agrees()


async def test_an_operator_ends_a_doubt_that_nobody_else_can(life: Life) -> None:
    payment = await life.captured(10_000)
    before = await life.wallet()
    # It never arrives, and no question gets an answer.
    await life.faults(hang_before=1, inquiry_error=1, only=["refund", "inquiry"])
    refund = (await life.ask(payment, "refunds", {"amount": 4000}, prefer="")).json["id"]
    await life.until_refund(payment, refund, "unknown")
    settings = life.installation.settings
    said = await paynode(settings, "payments", "resolve", payment, "--outcome", "approved", "--note", "they say so")
    assert (said.code, "--reference" in said.err) == (2, True)
    said = await paynode(settings, "payments", "resolve", payment, "--outcome", "declined", "--note", "ticket 7")
    assert said.code == 0, said.err
    await life.until_refund(payment, refund, "failed")
    assert await life.wallet() == before
    [audit] = await life.installation.rows("SELECT action, note FROM audit_log WHERE subject = $1", payment)
    assert tuple(audit) == ("payment.resolve", "ticket 7")
    await life.faults()
    await life.agrees()


async def test_a_capture_without_an_answer_is_found_and_is_one_capture(life: Life) -> None:
    payment = await life.authorized(10_000)
    await life.faults(hang_after=1, drop_callback=1, only=["capture"])
    reply = await life.ask(payment, "capture")
    assert (reply.status, reply.json["operation"]["status"]) == (201, "succeeded")
    assert reply.json["status"] == "captured"
    await life.agrees()


async def test_what_the_psp_takes_back_is_mirrored(life: Life) -> None:
    payment = await life.captured(10_000)
    [sale] = await life.operations("sale")
    await life.reverse(sale["id"])
    await life.until(payment, "failed", amount_captured=0)
    assert sum((await life.wallet()).values()) == 0
    await life.agrees()


async def test_a_refund_that_did_not_arrive_comes_back(life: Life) -> None:
    await life.captured(10_000)
    payment = await life.captured(10_000)
    refund = (await life.ask(payment, "refunds", {"amount": 4000})).json
    await life.reverse(uuid_of(refund["id"]))
    await life.until_refund(payment, refund["id"], "reversed")
    await life.until(payment, "captured", amount_refunded=0, refund_status="none")
    assert (await life.wallet())["available"] == 4000
    await life.agrees()


async def test_one_key_fifty_times_at_once_is_one_refund(life: Life) -> None:
    await life.captured(10_000)
    payment = await life.captured(10_000)
    replies: list[Reply] = []

    async def refund() -> None:
        replies.append(await life.ask(payment, "refunds", {"amount": 1000}, key="k", is_patient=False))

    async with anyio.create_task_group() as clients:
        for _ in range(50):
            clients.start_soon(refund)
    made = await life.ask(payment, "refunds", {"amount": 1000}, key="k")
    told = {reply.raw for reply in replies if reply.status == 201}
    assert told <= {made.raw}
    assert {reply.json["code"] for reply in replies if reply.status != 201} <= {"idempotency_key_in_flight"}
    assert len(await life.operations("refund")) == 1
    await life.agrees()


async def test_a_version_that_is_not_the_payments_any_more_changes_nothing(life: Life) -> None:
    payment = await life.authorized(10_000)
    seen = (await life.show(payment))["version"]
    assert (await life.ask(payment, "capture", {"amount": 1000}, If_Match=f'"{seen}"')).status == 201
    late = await life.ask(payment, "capture", {"amount": 1000}, If_Match=f'"{seen}"')
    assert (late.status, late.json["code"]) == (412, "payment_changed")
    present = CIMultiDict(late.headers)["ETag"]
    assert (await life.ask(payment, "capture", If_Match=present)).json["status"] == "captured"
    await life.agrees()


async def test_respond_async_is_told_later(life: Life) -> None:
    payment = await life.captured(10_000)
    reply = await life.ask(payment, "refunds", {"amount": 4000}, prefer="respond-async")
    assert (reply.status, reply.json["status"]) == (202, "pending")
    await life.until_refund(payment, reply.json["id"], "succeeded")
    refused = await life.ask(payment, "refunds", {"amount": 6001}, prefer="respond-async")
    assert refused.status == 202
    shown = await life.until_refund(payment, refused.json["id"], "failed")
    assert shown["failure_reason"] == "amount_exceeds_captured"
    await life.agrees()


async def test_an_operator_sees_what_a_payment_is_and_how_it_came_to_be_that(life: Life) -> None:
    payment = await life.authorized(10_000, customer={"email": "ada@example.org"})
    await life.ask(payment, "capture", {"amount": 4000})
    await life.ask(payment, "refunds", {"amount": 10_000})
    await life.agrees()
    shown, traced = await _paynode(life, "show", payment), await _paynode(life, "trace", payment)
    row, steps = orjson.loads(shown), orjson.loads(traced)["data"]
    assert (row["id"], row["amount_captured"]) == (payment, 4000)
    assert [(one["kind"], one["state"]) for one in row["operations"]] == [
        ("authorize", "approved"),
        ("capture", "approved"),
    ]
    assert [one["refusal"] for one in row["requests"]] == [None, "amount_exceeds_captured"]
    assert {"asked", "granted", "refused", "operation", "attempt", "answer", "evidence", "posting", "event"} == {
        step["what"] for step in steps
    }
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)
    tables = await _paynode(life, "show", uuid_of(payment), "table") + await _paynode(life, "trace", payment, "table")
    assert "amount_exceeds_captured" in tables
    for secret in ("tok_approve", "ada@example.org"):
        assert secret not in shown + traced + tables


async def _paynode(life: Life, verb: str, payment: str, output: str = "json") -> str:
    """`paynode payments`, in this process."""
    settings = life.installation.settings
    environment = {"PAYNODE_DATABASE__URL": settings.database.url, "PAYNODE_DATA_DIR": str(settings.data_dir)}
    runner, words = CliRunner(env=environment), ["payments", verb, payment, "--output", output]
    done = await anyio.to_thread.run_sync(lambda: runner.invoke(main, words))
    assert done.exit_code == 0, done.output
    return str(done.output)


async def test_a_payment_that_was_declined_takes_no_requests(life: Life) -> None:
    reply = await life.installation.pay(life.merchant, "k", method=token("tok_decline"), prefer="wait=30")
    payment = reply.json["id"]
    for verb, code in (
        ("capture", "payment_not_capturable"),
        ("void", "payment_not_voidable"),
        ("cancel", "payment_not_cancelable"),
        ("refunds", "payment_not_refundable"),
    ):
        assert (await life.ask(payment, verb)).json["code"] == code
    await life.agrees()


async def test_an_ingress_killed_while_it_waits_for_the_decision_is_replaced_by_the_next(life: Life) -> None:
    """Nobody decides, because the worker stands still: the ingress has committed the request and waits when it dies."""
    installation = life.installation
    [worker] = [one for one in installation.processes if one.verb == "worker" and not one.has_ended()]
    [serve] = [one for one in installation.processes if one.verb == "serve" and not one.has_ended()]
    payment = await life.captured(10_000)
    cut: list[aiohttp.ClientError] = []

    async def refund() -> Reply:
        return await life.ask(payment, "refunds", {"amount": 1000}, prefer="", key="k")

    async def lose() -> None:
        try:
            await refund()
        except aiohttp.ClientError as error:
            cut.append(error)

    async def is_asked() -> bool:
        return bool(await installation.rows("SELECT FROM requests WHERE merchant_id = $1", life.merchant.id))

    worker.popen.send_signal(signal.SIGSTOP)
    async with anyio.create_task_group() as clients:
        clients.start_soon(lose)
        await wait_until(is_asked, "the request is committed", 30)
        serve.kill()
    assert cut, "the client has got an answer: the fault did not bite"
    installation.start("serve")
    worker.popen.send_signal(signal.SIGCONT)
    replies: list[Reply] = []

    async def is_answered() -> bool:
        replies.append(await refund())
        return replies[-1].status == 201

    await wait_until(is_answered, "a retry has adopted the request", 60)
    assert (await refund()).raw == replies[-1].raw
    [row] = await installation.rows("SELECT count(*) AS n FROM requests WHERE merchant_id = $1", life.merchant.id)
    assert (row["n"], len(await life.operations("refund"))) == (1, 1)
    await life.agrees()
