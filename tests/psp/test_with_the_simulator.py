"""The adapter and the simulator, written apart, must understand each other."""

from __future__ import annotations

import time
from dataclasses import replace

from paynode.domain.psp import Answer, Outcome
from paynode.psp.sim import SimPsp
from tests.psp.words import ORDER, PAGE_ORDER
from tests.sim.running import Receiver, Simulator
from tests.support.waiting import wait_until


async def _charge(psp: SimPsp, operation_id: str, token: str) -> Answer:
    order = replace(ORDER, operation_id=operation_id, token=token, description="A lantern")
    now = time.monotonic()
    return await psp.send(order, psp.prepare(order), send_by=now + 5, deadline=now + 5)


async def test_each_token_becomes_its_outcome_and_the_same_bytes_again_end_every_doubt(psp: SimPsp) -> None:
    for token, first, reason, second in [
        ("tok_approve", Outcome.APPROVED, "", Outcome.APPROVED),
        ("tok_decline", Outcome.DECLINED, "do_not_honor", Outcome.DECLINED),
        ("tok_insufficient_funds", Outcome.DECLINED, "insufficient_funds", Outcome.DECLINED),
        ("tok_slow_100", Outcome.APPROVED, "", Outcome.APPROVED),
        ("tok_error_before", Outcome.UNKNOWN, "http_503", Outcome.APPROVED),
        ("tok_error_after", Outcome.UNKNOWN, "http_500", Outcome.APPROVED),
        ("tok_wrong_amount", Outcome.APPROVED, "", Outcome.APPROVED),
        ("tok_nonsense", Outcome.DECLINED, "token_unknown", Outcome.DECLINED),
    ]:
        said = await _charge(psp, f"op-{token}", token)
        assert (said.outcome, said.reason) == (first, reason)
        assert (await _charge(psp, f"op-{token}", token)).outcome is second
    assert (await _charge(psp, "op-tok_wrong_amount", "tok_wrong_amount")).amount == 1001


async def test_a_cut_connection_is_unknown_and_the_inquiry_tells_whether_it_charged(psp: SimPsp) -> None:
    for token, found in [("tok_hang_before", None), ("tok_hang_after", Outcome.APPROVED)]:
        said = await _charge(psp, f"op-{token}", token)
        assert (said.outcome, said.is_psp_failure) == (Outcome.UNKNOWN, True)
        answer = await psp.find(replace(ORDER, operation_id=f"op-{token}"), deadline=time.monotonic() + 5)
        assert (answer and answer.outcome) is found


async def test_a_page_is_pending_until_it_is_paid_and_then_the_charge_is_found(psp: SimPsp, sim: Simulator) -> None:
    now = time.monotonic()
    pending = await psp.send(PAGE_ORDER, psp.prepare(PAGE_ORDER), send_by=now + 5, deadline=now + 5)
    assert pending.outcome is Outcome.PENDING
    assert await psp.find(PAGE_ORDER, deadline=now + 5) == pending
    assert pending.page_url is not None
    await sim.press(pending.page_url, "pay")
    approved = await psp.find(PAGE_ORDER, deadline=now + 5)
    assert approved is not None
    assert (approved.outcome, approved.amount, approved.currency) == (Outcome.APPROVED, 1000, "EUR")
    [line] = await sim.book()
    assert approved.reference == line["psp_reference"] != pending.reference


async def test_a_callback_says_the_same_as_the_answer(psp: SimPsp, receiver: Receiver) -> None:
    said = await _charge(psp, "op-1", "tok_decline")
    await wait_until(lambda: len(receiver.seen) == 1, "the callback came")
    [callback] = receiver.seen
    parsed = psp.parse_callback({"Sim-Signature": callback.signatures[0]}, callback.raw, now_s=time.time())
    assert parsed is not None
    assert (parsed.our_reference, parsed.answer) == ("op-1", said)
