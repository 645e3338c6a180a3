"""What every adapter of `paynode/psp/adapter.py` keeps, written against that Protocol alone.

An adapter's test module says what its account can be made to do (`Trait`), writes an `Account`, and runs what applies:

    class MyAccount(Account):  # of tests/psp/account.py
        TRAITS = frozenset({Trait.TOKEN, Trait.REFUND})

    @pytest.mark.parametrize("check", checks_for(MyAccount), ids=name_of)
    async def test_the_contract(check: Check, account: MyAccount) -> None:
        await check(account)

Nothing is skipped: a check whose traits an account lacks is not among its tests. What a capability promises and no
trait shows must stand in `NOT_SHOWN` with its reason.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import pytest

from paynode.domain.payment import OperationKind, PspOrder
from paynode.domain.psp import Answer, Capabilities, Outcome, SettlementKind, SettlementLine
from paynode.psp.adapter import Adapter
from paynode.psp.errors import CallbackRefused
from tests.psp.account import CALL_S, Account, Trait, new_id
from tests.psp.misbehaving import Script, answer, byte_by_byte, for_ever, raw_server, reset, silence

Check: TypeAlias = Callable[[Any], Awaitable[None]]
_CHECKS: Final[dict[Check, frozenset[Trait]]] = {}


def _needs(*traits: Trait) -> Callable[[Check], Check]:
    def note(check: Check) -> Check:
        _CHECKS[check] = frozenset(traits)
        return check

    return note


def checks_for(account: type[Account]) -> list[Check]:
    """All that apply to an account."""
    return [check for check, needed in _CHECKS.items() if needed <= account.TRAITS]


def name_of(check: Check) -> str:
    """For the list of tests."""
    return str(getattr(check, "__name__", check))


# -- what is declared -------------------------------------------------------------------------------------------------

_SHOWN_BY: Final = {
    "has_page": Trait.PAGE,
    "has_token": Trait.TOKEN,
    "can_authorize": Trait.AUTHORIZE,
    "can_capture_partially": Trait.PARTIAL_CAPTURE,
    "can_capture_repeatedly": Trait.REPEATED_CAPTURE,
    "can_refund_partially": Trait.PARTIAL_REFUND,
    "can_cancel_page": Trait.CANCEL,
    "idempotent_for_s": Trait.IDEMPOTENT,
}


@_needs()
async def what_is_declared_is_shown_or_excused(account: Account) -> None:
    can: Capabilities = account.adapter.capabilities
    for name, trait in _SHOWN_BY.items():
        if getattr(can, name):
            assert trait in account.TRAITS or account.NOT_SHOWN.get(name), f"{name} is declared and nothing shows it"
        else:
            assert trait not in account.TRAITS, f"{trait} is shown, and {name} is not declared"
    assert can.settle_s >= 0


@_needs()
async def the_bytes_are_the_same_for_the_same_order(account: Account) -> None:
    said = Answer(outcome=Outcome.APPROVED, reference="psp-1", amount=account.amount, currency=account.currency)
    for order in _orders(account, said):
        first, second = account.adapter.prepare(order), account.adapter.prepare(replace(order))
        assert first == second, order.kind
        assert first.idempotency_key == order.operation_id
        other = replace(order, operation_id=new_id())
        assert account.adapter.prepare(other) != first, "another operation is another request"


def _orders(account: Account, said: Answer) -> Iterator[PspOrder]:
    traits = account.TRAITS
    sale = account.sale()
    yield sale
    if Trait.PAGE in traits:
        yield account.paged(sale)
    if Trait.CANCEL in traits:
        yield account.about(account.paged(sale), said, OperationKind.CANCEL)
    if Trait.AUTHORIZE in traits:
        authorization = account.authorization()
        yield authorization
        yield account.about(authorization, said, OperationKind.CAPTURE, is_final=True)
        yield account.about(authorization, said, OperationKind.VOID)
    if Trait.REFUND in traits:
        yield account.about(sale, said, OperationKind.REFUND)


# -- charges ----------------------------------------------------------------------------------------------------------


def _is_as_asked(order: PspOrder, said: Answer) -> bool:
    return (
        said.outcome is Outcome.APPROVED
        and said.reference is not None
        and (said.amount, said.currency) == (order.money.amount, order.money.currency)
        and not said.is_psp_failure
    )


@_needs(Trait.TOKEN)
async def a_sale_is_approved_as_asked_and_found_so(account: Account) -> None:
    order = account.sale()
    said = await account.send(order)
    assert _is_as_asked(order, said), said
    found = await account.found(replace(order, charge_reference=said.reference), Outcome.APPROVED)
    assert (found.reference, found.amount, found.currency) == (said.reference, said.amount, said.currency)


@_needs(Trait.TOKEN, Trait.DECLINE)
async def a_decline_is_final_and_no_fault_of_the_psp(account: Account) -> None:
    order = account.sale(token=account.declining_token)
    said = await account.send(order)
    assert (said.outcome, said.is_psp_failure) == (Outcome.DECLINED, False), said
    assert said.reason, "a decline says why"
    found = await account.find(replace(order, charge_reference=said.reference))
    assert found is None or found.outcome is Outcome.DECLINED, found


@_needs(Trait.PAGE)
async def a_page_is_pending_until_it_is_paid(account: Account) -> None:
    order = account.paged(account.sale())
    opened = await account.send(order)
    assert (opened.outcome, opened.is_psp_failure) == (Outcome.PENDING, False), opened
    assert opened.page_url is not None
    known = replace(order, charge_reference=opened.reference)
    found = await account.find(known)
    assert found is not None
    assert found.outcome is Outcome.PENDING, found
    await account.customer_pays(opened.page_url)
    paid = await account.found(known, Outcome.APPROVED)
    assert _is_as_asked(order, paid), paid


@_needs(Trait.PAGE, Trait.PAGE_DECLINE)
async def a_payment_declined_on_its_page_is_never_approved(account: Account) -> None:
    order = account.paged(account.sale())
    opened = await account.send(order)
    assert opened.page_url is not None, opened
    await account.customer_declines(opened.page_url)
    found = await account.find(replace(order, charge_reference=opened.reference))
    assert found is None or found.outcome in (Outcome.DECLINED, Outcome.PENDING, Outcome.EXPIRED), found


@_needs(Trait.PAGE, Trait.CANCEL)
async def an_open_page_can_be_closed(account: Account) -> None:
    order = account.paged(account.sale())
    opened = await account.send(order)
    said = await account.send(account.about(order, opened, OperationKind.CANCEL))
    assert said.outcome is Outcome.APPROVED, said
    found = await account.find(replace(order, charge_reference=opened.reference))
    assert found is None or found.outcome in (Outcome.EXPIRED, Outcome.DECLINED), found


@_needs(Trait.PAGE, Trait.CANCEL)
async def a_page_that_was_paid_is_not_closed_and_stays_paid(account: Account) -> None:
    order = account.paged(account.sale())
    opened = await account.send(order)
    assert opened.page_url is not None, opened
    await account.customer_pays(opened.page_url)
    said = await account.send(account.about(order, opened, OperationKind.CANCEL))
    assert said.outcome is Outcome.DECLINED, said
    await account.found(replace(order, charge_reference=opened.reference), Outcome.APPROVED)


# -- authorizations ---------------------------------------------------------------------------------------------------


@_needs(Trait.AUTHORIZE)
async def an_authorization_is_captured(account: Account) -> None:
    order = account.authorization()
    said = await account.charged(order)
    assert _is_as_asked(order, said), said
    capture = account.about(order, said, OperationKind.CAPTURE, is_final=True)
    done = await account.send(capture)
    assert _is_as_asked(capture, done), done
    found = await account.found(capture, Outcome.APPROVED)
    assert (found.reference, found.amount) == (done.reference, done.amount)


@_needs(Trait.AUTHORIZE)
async def a_voided_authorization_is_not_captured_any_more(account: Account) -> None:
    order = account.authorization()
    said = await account.charged(order)
    void = account.about(order, said, OperationKind.VOID)
    assert (await account.send(void)).outcome is Outcome.APPROVED
    await account.found(void, Outcome.APPROVED)
    refused = await account.send(account.about(order, said, OperationKind.CAPTURE, is_final=True))
    assert (refused.outcome, refused.is_psp_failure) == (Outcome.DECLINED, False), refused


@_needs(Trait.AUTHORIZE, Trait.PARTIAL_CAPTURE)
async def a_part_is_captured_and_the_rest_let_go(account: Account) -> None:
    order = account.authorization()
    said = await account.charged(order)
    capture = account.about(order, said, OperationKind.CAPTURE, account.amount - 250, is_final=True)
    assert _is_as_asked(capture, await account.send(capture))
    refused = await account.send(account.about(order, said, OperationKind.CAPTURE, 250))
    assert refused.outcome is Outcome.DECLINED, refused


@_needs(Trait.AUTHORIZE, Trait.REPEATED_CAPTURE)
async def parts_are_captured_one_after_the_other_and_never_more_than_the_whole(account: Account) -> None:
    order = account.authorization()
    said = await account.charged(order)
    parts = [account.about(order, said, OperationKind.CAPTURE, amount) for amount in (250, account.amount - 350)]
    answers = [await account.send(part) for part in parts]
    assert all(_is_as_asked(part, one) for part, one in zip(parts, answers, strict=True)), answers
    assert len({one.reference for one in answers}) == 2, "each capture has a name of its own"
    refused = await account.send(account.about(order, said, OperationKind.CAPTURE, 101))
    assert refused.outcome is Outcome.DECLINED, refused
    rest = account.about(order, said, OperationKind.CAPTURE, 100, is_final=True)
    assert _is_as_asked(rest, await account.send(rest))


# -- refunds ----------------------------------------------------------------------------------------------------------


@_needs(Trait.REFUND)
async def a_sale_is_refunded_once_as_a_whole(account: Account) -> None:
    order = account.sale()
    said = await account.charged(order)
    refund = account.about(order, said, OperationKind.REFUND)
    done = await account.send(refund)
    if done.outcome is Outcome.PENDING:
        done = await account.found(replace(refund), Outcome.APPROVED)
    assert _is_as_asked(refund, done), done
    refused = await account.send(account.about(order, said, OperationKind.REFUND))
    assert (refused.outcome, refused.is_psp_failure) == (Outcome.DECLINED, False), refused


@_needs(Trait.REFUND, Trait.PARTIAL_REFUND)
async def a_sale_is_refunded_in_parts_and_never_more_than_the_whole(account: Account) -> None:
    order = account.sale()
    said = await account.charged(order)
    parts = [account.about(order, said, OperationKind.REFUND, amount) for amount in (250, account.amount - 350)]
    for part in parts:
        done = await account.send(part)
        assert done.outcome in (Outcome.APPROVED, Outcome.PENDING), done
        assert _is_as_asked(part, await account.found(part, Outcome.APPROVED))
    refused = await account.send(account.about(order, said, OperationKind.REFUND, 101))
    assert refused.outcome is Outcome.DECLINED, refused


# -- doubt ------------------------------------------------------------------------------------------------------------


@_needs(Trait.IDEMPOTENT)
async def the_same_bytes_again_get_the_same_answer(account: Account) -> None:
    order = account.sale()
    said = await account.send(order)
    again = await account.send(order)
    assert (again.outcome, again.reference, again.amount) == (said.outcome, said.reference, said.amount)


@_needs(Trait.FIND)
async def what_was_never_sent_is_not_found(account: Account) -> None:
    assert await account.find(account.sale()) is None


@_needs(Trait.FIND, Trait.TOKEN, Trait.LOST_ANSWER)
async def a_lost_answer_is_unknown_and_the_inquiry_ends_the_doubt(account: Account) -> None:
    order = account.sale()
    async with account.losing_answers():
        said = await account.send(order)
    assert (said.outcome, said.is_psp_failure) == (Outcome.UNKNOWN, True), said
    found = await account.found(order, Outcome.APPROVED)
    assert _is_as_asked(order, found), found


@_needs(Trait.FIND, Trait.TOKEN, Trait.LOST_ANSWER, Trait.REFUND, Trait.IDEMPOTENT)
async def a_lost_answer_to_a_refund_is_found_and_never_doubled(account: Account) -> None:
    order = account.sale()
    refund = account.about(order, await account.charged(order), OperationKind.REFUND)
    async with account.losing_answers():
        assert (await account.send(refund)).outcome is Outcome.UNKNOWN
    found = await account.found(refund, Outcome.APPROVED)
    assert _is_as_asked(refund, found), found
    again = await account.send(refund)
    assert (again.outcome, again.reference) == (Outcome.APPROVED, found.reference), again


@_needs(Trait.FIND, Trait.LOST_ANSWER, Trait.AUTHORIZE, Trait.TOKEN, Trait.IDEMPOTENT)
async def a_lost_answer_to_a_capture_is_found_and_never_doubled(account: Account) -> None:
    order = account.authorization()
    capture = account.about(order, await account.charged(order), OperationKind.CAPTURE, is_final=True)
    async with account.losing_answers():
        assert (await account.send(capture)).outcome is Outcome.UNKNOWN
    found = await account.found(capture, Outcome.APPROVED)
    assert _is_as_asked(capture, found), found
    again = await account.send(capture)
    assert (again.outcome, again.reference) == (Outcome.APPROVED, found.reference), again


# -- callbacks --------------------------------------------------------------------------------------------------------


@_needs(Trait.CALLBACK)
async def a_callback_is_believed_and_agrees_with_the_inquiry(account: Account) -> None:
    order = account.sale()
    said = await account.charged(order)
    delivery, told = await account.told(order, Outcome.APPROVED)
    if account.adapter.capabilities.is_callback_binding:
        assert (told.answer.reference, told.answer.amount) == (said.reference, said.amount), told
    # The same delivery again is the same event: whoever stores it sees that it is a repetition.
    again = account.adapter.parse_callback(delivery.headers, delivery.raw, now_s=time.time())
    assert again == told


@_needs(Trait.CALLBACK)
async def a_callback_that_was_touched_is_refused(account: Account) -> None:
    order = account.sale()
    await account.charged(order)
    delivery, _ = await account.told(order, Outcome.APPROVED)
    for headers, raw, code in [
        ({}, delivery.raw, "signature_missing"),
        (delivery.headers, delivery.raw + b" ", "signature_invalid"),
        (delivery.headers, delivery.raw.replace(order.operation_id.encode(), new_id().encode()), "signature_invalid"),
    ]:
        with pytest.raises(CallbackRefused) as refused:
            account.adapter.parse_callback(headers, raw, now_s=time.time())
        assert refused.value.code == code


@_needs(Trait.CALLBACK, Trait.STALE)
async def a_callback_from_another_day_is_stale(account: Account) -> None:
    order = account.sale()
    await account.charged(order)
    delivery, _ = await account.told(order, Outcome.APPROVED)
    for away_s in (-86_400, 86_400):
        with pytest.raises(CallbackRefused) as refused:
            account.adapter.parse_callback(delivery.headers, delivery.raw, now_s=time.time() + away_s)
        assert refused.value.code == "stale"


@_needs(Trait.REVERSAL, Trait.CALLBACK)
async def what_is_taken_back_later_is_told_and_found(account: Account) -> None:
    order = account.sale()
    said = await account.charged(order)
    await account.reverse(order)
    _, told = await account.told(order, Outcome.REVERSED)
    found = await account.found(replace(order, charge_reference=said.reference), Outcome.REVERSED)
    assert (told.answer.reference, found.reference) == (said.reference, said.reference)
    assert (told.answer.amount, found.amount) == (order.money.amount, order.money.amount)


# -- the report -------------------------------------------------------------------------------------------------------


@_needs(Trait.SETTLEMENT, Trait.REFUND)
async def the_report_has_each_charge_and_refund_once_and_in_order(account: Account) -> None:
    order = account.sale()
    said = await account.charged(order)
    refund = account.about(order, said, OperationKind.REFUND)
    assert (await account.send(refund)).outcome in (Outcome.APPROVED, Outcome.PENDING)
    await account.found(refund, Outcome.APPROVED)
    now = datetime.now(UTC)
    lines = await _report(account, now - timedelta(days=1), now + timedelta(days=1))
    assert [one.at_ms for one in lines] == sorted(one.at_ms for one in lines)
    for kind, of in ((SettlementKind.CHARGE, order), (SettlementKind.REFUND, refund)):
        mine = [one for one in lines if one.kind is kind and one.our_reference in (of.operation_id, None)]
        assert [one for one in mine if (one.amount, one.currency) == (of.money.amount, of.money.currency)], kind
    assert lines == (await _report(account, now - timedelta(days=1), now + timedelta(days=1)))[: len(lines)]
    assert await _report(account, now - timedelta(days=400), now - timedelta(days=399)) == []


async def _report(account: Account, since: datetime, until: datetime) -> list[SettlementLine]:
    return [one async for one in account.adapter.settlement(since, until)]


# -- a PSP that is not there, or not itself ---------------------------------------------------------------------------


@_needs(Trait.ELSEWHERE)
async def a_refused_connection_is_proof_that_nothing_was_sent(account: Account) -> None:
    async with raw_server(silence) as server:
        pass
    async with account.elsewhere(server.url) as adapter:
        said = await _sent(adapter, account.sale())
        assert (said.outcome, said.is_psp_failure) == (Outcome.NOT_SENT, True), said
        found = await adapter.find(account.sale(), deadline=time.monotonic() + CALL_S)
        assert found is not None
        assert found.outcome is Outcome.UNKNOWN, found


@_needs(Trait.ELSEWHERE)
async def an_answer_that_cannot_be_believed_is_unknown(account: Account) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    scripts: list[tuple[str, Script]] = [
        ("empty", answer(200, b"")),
        ("html", answer(200, b"<html>")),
        ("an empty object", answer(200, b"{}")),
        ("deep", answer(200, b"[" * 60_000)),
        ("not UTF-8", answer(200, b"\xff\xfe")),
        ("5 MB", answer(200, b" " * 5_000_000)),
        ("endless", for_ever(chunked, b"1000\r\n" + b"x" * 4096 + b"\r\n")),
        ("endless trailers", for_ever(chunked + b"0\r\n", b"X-A: b\r\n" * 100)),
        ("endless headers", for_ever(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 100)),
        ("encoded", answer(200, b"\x1f\x8b", b"Content-Encoding: gzip")),
        ("500", answer(500, b"oops")),
        ("503", answer(503, b"")),
        ("redirected", answer(307, b"", b"Location: /elsewhere")),
        ("reset", reset),
    ]
    for name, script in scripts:
        async with raw_server(script) as server, account.elsewhere(server.url) as adapter:
            said = await _sent(adapter, account.sale())
            assert (said.outcome, said.is_psp_failure) == (Outcome.UNKNOWN, True), (name, said)
            assert len(server.requests) == 1, f"{name}: sent once, no redirect followed"


@_needs(Trait.ELSEWHERE)
async def an_answer_that_never_ends_is_unknown_at_the_deadline(account: Account) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    for script in (silence, byte_by_byte(head + b" " * 1000)):
        async with raw_server(script) as server, account.elsewhere(server.url) as adapter:
            now = time.monotonic()
            order = account.sale()
            # Half a second is the deadline; the rest is room for a busy machine, and far below the answer's own time.
            said = await adapter.send(order, adapter.prepare(order), send_by=now + 0.5, deadline=now + 0.5)
            assert said.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT), said
            assert time.monotonic() - now < 15


async def _sent(adapter: Adapter, order: PspOrder) -> Answer:
    now = time.monotonic()
    return await adapter.send(order, adapter.prepare(order), send_by=now + CALL_S, deadline=now + CALL_S)
