"""What is said to a fraud check, and what its words mean. docs/fraud.md is the same for whoever writes one."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paynode.domain.ids import MERCHANT, PAYMENT, public
from paynode.domain.screening import Judgement, Opinion, Question


class _Said(BaseModel):
    """An answer. Strict; new fields are passed over. A reason that is no word would end in logs and rows."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    id: str
    decision: Literal["pass", "reject", "review"]
    reason: Annotated[str, Field(pattern=r"^[a-z0-9_]{0,64}$")] = ""


# Answers of other statuses say nothing about the charge.
_ANSWERED: Final = 200


def asked(question: Question) -> bytes:
    """The question. What is not here does not leave: no token, no name, no address, no description, no order."""
    return orjson.dumps(
        {
            "id": question.operation_id,
            "payment_id": public(PAYMENT, question.payment_id),
            "merchant_id": public(MERCHANT, question.merchant_id),
            "kind": question.kind,
            "method": question.method,
            "amount": question.money.amount,
            "currency": question.money.currency,
            "customer": question.customer,
        }
    )


def judgement(question: Question, status: int, body: bytes) -> Judgement:
    """What an answer means; what is not understood is no opinion."""
    if status != _ANSWERED:
        return out(f"http_{status}")
    try:
        said = _Said.model_validate_json(body)
    except ValidationError:
        return out("answer_invalid")
    if said.id != question.operation_id:
        return out("answer_invalid")  # about another charge
    return Judgement(opinion=Opinion(said.decision), reason=said.reason)


def out(reason: str) -> Judgement:
    """No opinion."""
    return Judgement(opinion=Opinion.OUT, reason=reason)
