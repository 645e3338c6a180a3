"""PayU's notifications: believed by their signature over the raw bytes, then read."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from paynode.domain.payment import OperationKind
from paynode.domain.psp import Answer, Callback
from paynode.psp.errors import CallbackRefused
from paynode.psp.payu_words import Charging, OrderNotice, RefundNotice, parsed

# PayU sends the same value under both names.
_HEADERS: Final = ("openpayu-signature", "x-openpayu-signature")

_FIELD: Final = re.compile(r"\s*([a-z]{1,20})=([A-Za-z0-9_-]{1,128})\s*", re.ASCII)

# The hashes that PayU documents, by the names that its documents and its clients write.
_SHA256: Final = frozenset({"SHA256", "SHA-256"})
_MD5: Final = "MD5"

# What its notices are about. An order is a charge of ours, whatever was done to it since.
_CHARGES: Final = frozenset({OperationKind.SALE, OperationKind.AUTHORIZE})
_REFUNDS: Final = frozenset({OperationKind.REFUND})


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifications:
    """`second_key` signs. A POS of the older kind is signed with MD5; elsewhere nobody may choose it for us."""

    second_key: bytes = field(repr=False)
    is_md5_allowed: bool
    charging: Charging

    def read(self, headers: Mapping[str, str], raw: bytes) -> Callback | None:
        """None: about nothing of ours. There is no time in the signature: what is old is known by its event id.

        Raises: CallbackRefused.
        """
        self._verify(headers, raw)
        if notice := parsed(OrderNotice, raw):
            order = notice.order
            return _callback(order.ext_order_id, self.charging.answer(order), order.status, _CHARGES)
        if about := parsed(RefundNotice, raw):
            refund = about.refund
            return _callback(refund.ext_refund_id, refund.answer(), refund.status, _REFUNDS)
        raise CallbackRefused("malformed")

    def _verify(self, headers: Mapping[str, str], raw: bytes) -> None:
        found = [value for name, value in headers.items() if name.lower() in _HEADERS]
        if not found:
            raise CallbackRefused("signature_missing")
        if len(set(found)) > 1:
            raise CallbackRefused("signature_invalid")
        said = _fields(found[0])
        algorithm, signature = said.get("algorithm", "").upper(), said.get("signature", "").lower()
        if not self._is_allowed(algorithm):
            raise CallbackRefused("signature_invalid")
        signed = raw + self.second_key
        if algorithm == _MD5:
            expected = hashlib.md5(signed, usedforsecurity=False).hexdigest()
        else:
            expected = hashlib.sha256(signed).hexdigest()
        if not hmac.compare_digest(signature, expected):
            raise CallbackRefused("signature_invalid")

    def _is_allowed(self, algorithm: str) -> bool:
        return algorithm in _SHA256 or (self.is_md5_allowed and algorithm == _MD5)


def _fields(header: str) -> dict[str, str]:
    """`sender=checkout;signature=...;algorithm=MD5;content=DOCUMENT`, in any order; a name twice is a forgery."""
    found: dict[str, str] = {}
    for part in header.removesuffix(";").split(";"):
        matched = _FIELD.fullmatch(part)
        if matched is None or matched.group(1) in found:
            raise CallbackRefused("signature_invalid")
        found[matched.group(1)] = matched.group(2)
    return found


def _callback(
    our_reference: str | None, answer: Answer, status: str, kinds: frozenset[OperationKind]
) -> Callback | None:
    if our_reference is None:
        return None
    # PayU numbers its notifications not at all. It tells each of them up to twenty times, in words that may differ in
    # a time: what makes it another one is what it claims.
    claim = "\n".join((str(answer.reference), our_reference, status, str(answer.amount), str(answer.currency)))
    event_id = f"{answer.reference}-{status}-{hashlib.sha256(claim.encode()).hexdigest()[:32]}"
    return Callback(event_id=event_id, our_reference=our_reference, answer=answer, kinds=kinds)
