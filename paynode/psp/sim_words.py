"""The simulator's JSON, read strictly, and the outcome that each of its words means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from paynode.domain.psp import Answer, Outcome

_Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
_Word = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
_Int64 = Annotated[int, Field(ge=0, lt=2**63)]


class _Said(BaseModel):
    """Something the PSP said. Strict: a float, a bool or a numeral is no amount. New fields are passed over."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class _Object(_Said):
    id: _Id
    reference: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,100}$")]
    amount: _Int64
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    created_ms: _Int64


class Charge(_Object):
    object: Literal["charge"]
    status: Literal["approved", "declined"]
    decline_code: _Word | None

    def answer(self) -> Answer:
        is_approved = self.status == "approved"
        return Answer(
            outcome=Outcome.APPROVED if is_approved else Outcome.DECLINED,
            reference=self.id,
            amount=self.amount,
            currency=self.currency,
            reason="" if is_approved else self.decline_code or "declined",
            psp_at_ms=self.created_ms,
        )


class Session(_Object):
    object: Literal["session"]
    status: Literal["open", "approved", "declined", "expired"]
    expires_ms: _Int64
    url: Annotated[str, Field(pattern=r"^https?://[\x21-\x7e]{1,2000}$")] | None = None

    def answer(self) -> Answer:
        """Only an open or expired page is an outcome; of a closed one the charge is, and it must be shown too."""
        if self.status == "expired":
            outcome, at_ms = Outcome.EXPIRED, self.expires_ms
        elif self.status == "open" and self.url is not None:
            outcome, at_ms = Outcome.PENDING, self.created_ms
        else:
            return unknown("answer_invalid")
        return Answer(
            outcome=outcome,
            reference=self.id,
            amount=self.amount,
            currency=self.currency,
            page_url=self.url if outcome is Outcome.PENDING else None,
            reason="session_expired" if outcome is Outcome.EXPIRED else "",
            psp_at_ms=at_ms,
        )


AnyObject = Annotated[Charge | Session, Field(discriminator="object")]


class Found(_Said):
    data: Annotated[list[AnyObject], Field(max_length=100)]


class Event(_Said):
    id: _Id
    type: Literal["charge.approved", "charge.declined", "session.expired"]
    data: AnyObject


class _Error(_Said):
    code: _Word


class Refusal(_Said):
    error: _Error


def final_word(found: Sequence[Charge | Session]) -> Answer | None:
    """What an inquiry says: an approved charge is the last word, then a declined one, then the state of the page."""

    def rank(item: Charge | Session) -> int:
        if isinstance(item, Session):
            return 2
        return 0 if item.status == "approved" else 1

    return min(found, key=rank).answer() if found else None


def unknown(reason: str) -> Answer:
    return Answer(outcome=Outcome.UNKNOWN, reason=reason, is_psp_failure=True)
