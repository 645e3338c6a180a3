"""An inquiry at Stripe: exact where it can be, and never sure where it is not."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import Answer, Outcome
from paynode.psp import stripe_events
from tests.psp.account import CALL_S
from tests.psp.misbehaving import Script, raw_server
from tests.psp.stripe.accounts import DAY_S, StripeAccount, stripe_at
from tests.psp.stripe.annex import Annex
from tests.psp.stripe.documents import (
    AT,
    AUTHORIZATION,
    CANCEL,
    CAPTURE,
    INTENT_ID,
    OPERATION,
    PAGE,
    REFUND,
    SALE,
    SESSION_ID,
    VOID,
    Json,
    error,
    held,
    intent,
    marks,
    order,
    paid_session,
    refund,
    session,
)
from tests.psp.stripe.listing import listing
from tests.support.waiting import wait_until

_INTENTS, _SESSIONS = "/v1/payment_intents", "/v1/checkout/sessions"


async def found_at(url: str, asked: PspOrder, *, at_s: float = AT + 60, **changes: Any) -> Answer | None:
    async with stripe_at(url, clock=lambda: at_s, **changes) as psp:
        return await psp.find(asked, deadline=time.monotonic() + CALL_S)


def outcome(said: Answer | None) -> tuple[Outcome, str] | None:
    return None if said is None else (said.outcome, said.reason)


# -- on localstripe ---------------------------------------------------------------------------------------------------


async def test_what_the_search_does_not_know_yet_is_settled_by_the_same_bytes(stripe: Annex) -> None:
    stripe.search_lag_s = DAY_S
    async with stripe_at(stripe.url) as psp:
        account = StripeAccount(psp, stripe)
        sale = account.sale()
        async with account.losing_answers():
            assert (await account.send(sale)).outcome is Outcome.UNKNOWN
        assert await account.find(sale) is None, "and so the gateway sends again"
        said = await account.send(sale)
        assert said.outcome is Outcome.APPROVED
        stripe.search_lag_s = 0
        assert await account.find(sale) == said, "there is one charge"


async def test_a_page_is_known_at_once_from_opened_to_paid_by_our_reference_alone(stripe: Annex) -> None:
    stripe.search_lag_s = DAY_S
    async with stripe_at(stripe.url) as psp:
        account = StripeAccount(psp, stripe)
        page = account.paged(account.authorization())
        assert await account.find(page) is None
        opened = await account.send(page)
        assert await account.find(page) == opened
        assert opened.page_url is not None
        await account.customer_declines(opened.page_url)
        assert await account.find(page) == opened, "another card may do"
        await account.customer_pays(opened.page_url)
        said = await account.find(page)
        assert said is not None
        assert (said.outcome, said.amount) == (Outcome.APPROVED, page.money.amount)
        assert said.reference is not None
        assert said.reference.startswith("pi_")


async def test_what_localstripe_signs_is_believed_as_it_comes(stripe: Annex) -> None:
    async with stripe_at(stripe.url) as psp, stripe.hooked():
        account = StripeAccount(psp, stripe)
        await account.charged(account.sale())
        await wait_until(lambda: bool(stripe.inner_notices), "localstripe has told of it", 30)
        told = stripe.inner_notices[0]  # others may follow
        stripe_events.verify(b"whsec_localstripe", told.headers, told.raw, now_s=time.time())


async def test_a_card_that_its_bank_wants_to_see_is_declined(stripe: Annex) -> None:
    async with stripe_at(stripe.url) as psp:
        account = StripeAccount(psp, stripe)
        sale = account.sale(token=await stripe.card("4000002500003155"))
        said = await account.send(sale)
        assert outcome(said) == (Outcome.DECLINED, "authentication_required")
        assert outcome(await account.find(sale)) == (Outcome.DECLINED, "authentication_required")


# -- on what the documentation says -----------------------------------------------------------------------------------


async def test_what_is_indexed_may_be_old_and_the_object_itself_decides() -> None:
    old = intent(status="processing", amount_received=0)
    async with listing({f"{_INTENTS}/search": [old]}, {f"{_INTENTS}/{INTENT_ID}": intent()}) as server:
        assert outcome(await found_at(server.url, SALE)) == (Outcome.APPROVED, "")
        [(_, query), _] = server.asked
        assert query["query"] == f"metadata['paynode_operation']:'{OPERATION}'"


async def test_of_two_charges_of_one_operation_the_one_that_took_money_counts() -> None:
    tries = [intent(id=f"pi_{n}", status="canceled", amount_received=0) for n in range(2)]
    tries.insert(1, intent())
    objects = {f"{_INTENTS}/{one['id']}": one for one in tries}
    async with listing({f"{_INTENTS}/search": tries}, objects) as server:
        said = await found_at(server.url, SALE)
        assert said is not None
        assert (said.outcome, said.reference) == (Outcome.APPROVED, INTENT_ID)


async def test_what_the_search_brings_of_others_is_passed_over() -> None:
    async with listing({f"{_INTENTS}/search": [{"id": "pi_1", "created": AT, "metadata": {"order": "7"}}]}) as server:
        assert await found_at(server.url, SALE) is None


@pytest.mark.parametrize("operation_id", ["x' OR status:'succeeded", "op-1", OPERATION.upper(), f"{OPERATION}\n"])
async def test_what_is_no_id_of_ours_never_gets_into_a_query(operation_id: str) -> None:
    async with listing({f"{_INTENTS}/search": [intent()]}) as server:
        assert await found_at(server.url, replace(SALE, operation_id=operation_id)) is None
        assert server.asked == []


async def test_where_stripe_has_named_it_the_object_is_read() -> None:
    objects = {
        f"{_INTENTS}/{INTENT_ID}": held(),
        f"{_SESSIONS}/{SESSION_ID}": session(
            status="complete", payment_intent=INTENT_ID, metadata=marks("authorize", "hosted_page"), url=None
        ),
    }
    async with listing(objects=objects) as server:
        for known in (INTENT_ID, SESSION_ID):
            said = await found_at(server.url, replace(AUTHORIZATION, charge_reference=known))
            assert outcome(said) == (Outcome.APPROVED, "")
        assert await found_at(server.url, CAPTURE) is None
        assert await found_at(server.url, VOID) is None


@pytest.mark.parametrize("asked", [CAPTURE, VOID, CANCEL, replace(SALE, charge_reference=INTENT_ID)])
async def test_a_charge_that_stripe_does_not_know_is_doubt_and_no_absence(asked: PspOrder) -> None:
    async with listing() as server:
        said = await found_at(server.url, asked)
        assert said is not None
        assert said.outcome is Outcome.UNKNOWN


_HIS = {"id": "cs_0", "created": AT + 1, "metadata": {}, "currency": None, "mode": "setup"}


def _crowd(count: int, prefix: str = "cs_", at_s: int = AT + 1) -> list[Json]:
    return [_HIS | {"id": f"{prefix}{number}", "created": at_s} for number in range(count)]


@pytest.mark.parametrize(("own", "seen"), [(session(), Outcome.PENDING), (paid_session(), Outcome.APPROVED)])
async def test_a_page_is_found_among_those_of_others(own: Json, seen: Outcome) -> None:
    async with listing({_SESSIONS: [own, *_crowd(350)]}) as server:
        said = await found_at(server.url, PAGE)
        assert said is not None
        assert said.outcome is seen
        assert len(server.asked) == 4


async def test_a_page_is_looked_for_first_where_it_is_most_likely() -> None:
    async with listing({_SESSIONS: [session(), *_crowd(401, at_s=AT + 2000)]}) as server:
        assert outcome(await found_at(server.url, PAGE, at_s=AT + 3000)) == (Outcome.PENDING, "")
        assert len(server.asked) == 1


async def test_a_page_that_was_opened_late_is_found_too() -> None:
    made = session(created=AT + 50_000)
    async with listing({_SESSIONS: [made, *_crowd(100, at_s=AT + 100_000)]}) as server:
        said = await found_at(server.url, PAGE, at_s=AT + 5 * DAY_S)
        assert outcome(said) == (Outcome.PENDING, "")


@pytest.mark.parametrize("has_search", [True, False])
@pytest.mark.parametrize(
    ("method", "path"), [(Method.HOSTED_PAGE, _SESSIONS), (Method.TOKEN, _INTENTS)], ids=["page", "token"]
)
async def test_a_list_that_is_too_long_sends_again_while_that_is_exact_and_is_doubt_later(
    method: Method, path: str, has_search: bool
) -> None:
    asked = order(method=method)
    async with listing({path: _crowd(401), f"{_INTENTS}/search": []}) as server:
        assert await found_at(server.url, asked, has_search=has_search) is None
        said = await found_at(server.url, asked, has_search=has_search, at_s=AT + 2 * DAY_S)
        if method is Method.TOKEN and has_search:
            assert said is None, "a day later the search knows all"
        else:
            assert outcome(said) == (Outcome.UNKNOWN, "not_findable")


async def test_what_is_not_sent_again_is_never_not_found_in_a_crowd() -> None:
    """After the payment's own time "not found" would be its end, while somebody may be paying on its page."""
    page = replace(PAGE, give_up_at_ms=(AT + 900) * 1000)
    async with listing({_SESSIONS: _crowd(401), f"{_INTENTS}/search": []}) as server:
        assert await found_at(server.url, page, at_s=AT + 890) is None, "and so the gateway sends again"
        for late_s in (900, 3700):
            said = await found_at(server.url, page, at_s=AT + late_s)
            assert outcome(said) == (Outcome.UNKNOWN, "not_findable")


async def test_a_search_that_finds_more_than_can_be_read_is_doubt_and_no_error() -> None:
    async with listing({f"{_INTENTS}/search": _crowd(101, "pi_")}) as server:
        assert outcome(await found_at(server.url, SALE)) == (Outcome.UNKNOWN, "not_findable")


async def test_a_charge_on_a_page_in_the_crowd_is_found_by_the_search() -> None:
    paid = intent(metadata=marks(method="hosted_page"))
    lists = {_SESSIONS: _crowd(401), f"{_INTENTS}/search": [paid]}
    async with listing(lists, {f"{_INTENTS}/{INTENT_ID}": paid}) as server:
        assert outcome(await found_at(server.url, PAGE)) == (Outcome.APPROVED, "")


async def test_a_refund_is_found_among_those_of_its_charge() -> None:
    others = [refund(id=f"re_{number}", metadata={}) for number in range(150)]
    async with listing({"/v1/refunds": [refund(), *others]}) as server:
        said = await found_at(server.url, REFUND)
        assert said is not None
        assert (said.outcome, said.amount) == (Outcome.APPROVED, 400)
        assert server.asked[0][1]["payment_intent"] == INTENT_ID
    async with listing({"/v1/refunds": others}) as server:
        assert await found_at(server.url, REFUND) is None


@pytest.mark.parametrize(
    "script",
    [
        error(500, "api_error"),
        error(403, "invalid_request_error"),
        error(429, "invalid_request_error", "rate_limit"),
        error(400, "invalid_request_error"),
        error(401, "invalid_request_error"),
    ],
)
@pytest.mark.parametrize("asked", [SALE, PAGE, CAPTURE, REFUND, CANCEL], ids=lambda one: f"{one.kind}-{one.method}")
async def test_a_question_that_went_unanswered_is_unknown(script: Script, asked: PspOrder) -> None:
    async with raw_server(script) as server:
        said = await found_at(server.url, asked)
        assert said is not None
        assert (said.outcome, said.is_psp_failure) == (Outcome.UNKNOWN, True)
        assert len(server.requests) == 1


@pytest.mark.parametrize("kind", list(OperationKind))
async def test_an_object_of_ours_that_cannot_be_read_is_unknown(kind: OperationKind) -> None:
    bad = intent(amount_received=1.5) | {"status": "paid"}
    lists = {f"{_INTENTS}/search": [bad], "/v1/refunds": [refund(amount=-1)]}
    objects = {f"{_INTENTS}/{INTENT_ID}": bad, f"{_SESSIONS}/{SESSION_ID}": session(currency="€")}
    async with listing(lists, objects) as server:
        method = Method.HOSTED_PAGE if kind is OperationKind.CANCEL else Method.TOKEN
        said = await found_at(server.url, order(kind, method))
        assert outcome(said) == (Outcome.UNKNOWN, "answer_invalid")
