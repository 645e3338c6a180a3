"""What a merchant is told when a payment's actor says no. Refusals are not stored: the next retry is decided anew."""

from __future__ import annotations

from typing import Final

from paynode.domain import ids
from paynode.domain.reading import OperationView
from paynode.domain.requesting import Refusal
from paynode.http.problem import Flaw, Problem, retry_after
from paynode.http.representation import etag

_SAYS: Final = {
    Refusal.PAYMENT_CHANGED: "the payment is not the version that If-Match names any more",
    Refusal.OUTCOME_UNKNOWN: "the outcome of another operation is not known yet; nothing may be asked until it is",
    Refusal.UNDER_REVIEW: "people are looking into this payment; nothing may be asked until they are done",
    Refusal.NOT_AUTHORIZED: "the payment is not authorized",
    Refusal.NOT_CAPTURABLE: "nothing of this payment is left to be captured",
    Refusal.NOT_VOIDABLE: "the payment has no authorization that could be voided",
    Refusal.NOT_CANCELABLE: "the payment cannot be canceled any more, or cannot be canceled at all",
    Refusal.NOT_REFUNDABLE: "nothing of this payment is left to be refunded",
    Refusal.OPERATION_IN_FLIGHT: "another operation is under way that this one would contradict",
    Refusal.EXCEEDS_AUTHORIZED: "the amount is more than what is authorized and not captured yet",
    Refusal.EXCEEDS_CAPTURED: "the amount is more than what is captured and not refunded yet",
    Refusal.INSUFFICIENT_FUNDS: "the wallet does not hold as much as would be given back",
    Refusal.NOT_SUPPORTED: "the payment's PSP cannot do this",
}
# By itself it passes: worth trying again.
_PASSES: Final = frozenset({Refusal.OUTCOME_UNKNOWN, Refusal.OPERATION_IN_FLIGHT})
_ABOUT_AMOUNT: Final = frozenset({Refusal.EXCEEDS_AUTHORIZED, Refusal.EXCEEDS_CAPTURED})


def problem_of(view: OperationView) -> Problem:
    """The refusal of a request.

    409 where the payment's state is in the way and may change; 412 for If-Match; 422 for what no state would allow.
    """
    refusal = Refusal(view.refusal or "")
    return Problem(
        status=_status(refusal),
        code=refusal,
        detail=_SAYS[refusal],
        errors=[Flaw(detail="is too much", pointer="/amount")] if refusal in _ABOUT_AMOUNT and view.amount else (),
        members={"payment_id": ids.public(ids.PAYMENT, view.payment.id), "payment_status": view.payment.status},
        headers=_headers(refusal, view),
    )


def _status(refusal: Refusal) -> int:
    if refusal is Refusal.PAYMENT_CHANGED:
        return 412
    return 422 if refusal is Refusal.NOT_SUPPORTED else 409


def _headers(refusal: Refusal, view: OperationView) -> dict[str, str]:
    if refusal is Refusal.PAYMENT_CHANGED:
        return {"ETag": etag(view.payment)}
    return retry_after() if refusal in _PASSES else {}
