"""What the simulator is asked, as bytes: the same for the same order, always."""

from __future__ import annotations

from typing import Final

import orjson

from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import PspRequest

_CHARGES: Final = "/v1/charges"
_SESSIONS: Final = "/v1/sessions"
_PATHS: Final = {
    OperationKind.CAPTURE: "/v1/captures",
    OperationKind.VOID: "/v1/voids",
    OperationKind.REFUND: "/v1/refunds",
    OperationKind.CANCEL: "/v1/cancels",
}


def request_of(order: PspOrder) -> PspRequest:
    """The bytes of an operation of any kind."""
    content: dict[str, str | int | bool] = {
        "reference": order.operation_id,
        "amount": order.money.amount,
        "currency": order.money.currency,
    }
    if order.kind in _PATHS:
        return _of_a_charge(order, content)
    content["description"] = order.description
    if order.kind is OperationKind.AUTHORIZE:
        content["capture"] = "manual"
    if order.method is Method.TOKEN:
        assert order.token is not None, "checked where the order is read"
        return _request(_CHARGES, order, content | {"token": order.token})
    assert order.return_url is not None, "checked where the order is read"
    return _request(_SESSIONS, order, content | {"return_url": order.return_url})


def _of_a_charge(order: PspOrder, content: dict[str, str | int | bool]) -> PspRequest:
    assert order.charge_id is not None, f"a {order.kind} is about a charge"
    content["of"] = order.charge_id
    if order.charge_reference is not None:
        # Both: should one reference of ours have been charged twice, this says which of them is meant.
        content["charge"] = order.charge_reference
    if order.kind is OperationKind.CAPTURE:
        content["final"] = order.is_final
    return _request(_PATHS[order.kind], order, content)


def _request(path: str, order: PspOrder, content: dict[str, str | int | bool]) -> PspRequest:
    body = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    return PspRequest(path=path, body=body, idempotency_key=order.operation_id)
