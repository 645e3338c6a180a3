"""How a request for a payment is answered: what it waits for, how long, and which answer is kept for its retries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Generic, TypeVar

from aiohttp import web

from paynode.domain.accepting import StoredAnswer
from paynode.domain.payment import Method, Status
from paynode.domain.reading import PaymentView
from paynode.http import representation
from paynode.http.context import Context
from paynode.http.prefer import Preference
from paynode.http.problem import retry_after
from paynode.sections import Http

# Beyond the wait: what the last read and the storing of the answer may take before a retry may step in.
_GRACE_S: Final = 1.0
# Seconds in which whoever may not wait is answered: enough for one look at what there is.
_LOOK_S: Final = 0.1

# A hosted payment is answered once the customer can be sent somewhere, or once nobody will ever send him.
_AWAITS_PAGE: Final = frozenset({Status.CREATED, Status.PROCESSING, Status.UNKNOWN})

View = TypeVar("View")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Generic[View]):
    """Wait up to `wait_s` until what is looked at is enough, then answer `status`; 202 when the wait ran out.

    `applied` and `applied_late` are the preferences that the one and the other answer honour. `is_pos`: when the wait
    has run out it is reversed, and there is no 202.
    """

    wait_s: float
    is_enough: Callable[[View], bool]
    status: int
    applied: str | None = None
    applied_late: str | None = None
    is_pos: bool = False

    @property
    def is_immediate(self) -> bool:
        """Whether the answer is known before the commit."""
        return self.wait_s == 0

    @property
    def in_flight_s(self) -> float:
        """How long retries are kept off."""
        return 0.0 if self.is_immediate else self.wait_s + _GRACE_S


def plan_of(preference: Preference, method: Method, limits: Http) -> Plan[PaymentView]:
    """What the client prefers, else what suits the method."""
    preferred = plan_preferred(preference, _is_final)
    if preferred is not None:
        return preferred
    if method is Method.HOSTED_PAGE:
        return Plan(wait_s=limits.hosted_page_wait_s, is_enough=_leads_somewhere, status=201)
    return Plan(wait_s=0, is_enough=_is_there, status=201)


def plan_preferred(preference: Preference, is_final: Callable[[View], bool]) -> Plan[View] | None:
    """What the client prefers, if anything."""
    if preference.wait_s is not None:
        # RFC 7240, 4.3: with respond-async a wait says how long to try before answering asynchronously.
        waited = f"wait={preference.wait_s}"
        late = f"respond-async, {waited}" if preference.is_async else waited
        return Plan(wait_s=preference.wait_s, is_enough=is_final, status=201, applied=waited, applied_late=late)
    if preference.is_async:
        return Plan(wait_s=0, is_enough=_is_there, status=202, applied="respond-async")
    return None


def let_wait(plan: Plan[View], context: Context) -> Plan[View]:
    """The plan, cut short if too many of the merchant's requests wait: to honour a wait is our choice (RFC 7240, 2).

    The request's deadline does not count the wait. Raises: Problem (429) at a point of sale.
    """
    if plan.wait_s and context.admission is not None and not context.admission.wait():
        plan = replace(plan, wait_s=_LOOK_S, applied=None, applied_late=None)
    context.extend(plan.wait_s)
    return plan


def answer_of(view: PaymentView, status: int, base_url: str) -> StoredAnswer:
    """The answer that shows a payment as it is; everything in it is what a retry gets again."""
    headers = {"Location": representation.path_of(view.id), "ETag": representation.etag(view)}
    if status == 202:
        headers |= retry_after()
    body = representation.encode(representation.payment(view, base_url))
    return StoredAnswer(status=status, headers=headers, body=body)


def respond(answer: StoredAnswer, extra: Mapping[str, str]) -> web.Response:
    """The answer on the wire."""
    response = web.Response(status=answer.status, body=answer.body, headers={**answer.headers, **extra})
    response.headers["Content-Type"] = "application/json"
    return response


def replay(answer: StoredAnswer) -> web.Response:
    """The answer that an earlier request got."""
    return respond(answer, {"Idempotent-Replayed": "true"})


def applied(preferences: str | None) -> dict[str, str]:
    """The header that says which preferences an answer honours."""
    return {} if preferences is None else {"Preference-Applied": preferences}


def _is_final(view: PaymentView) -> bool:
    # An authorization is what a payment to be captured by hand waits for.
    return view.is_final or view.status is Status.AUTHORIZED


def _is_there(_: object) -> bool:
    return True


def _leads_somewhere(view: PaymentView) -> bool:
    return view.page_url is not None or view.status not in _AWAITS_PAGE
