"""The error tree: three branches decide everything that happens to a message or a request.

    PaynodeError
    ├── Rejected            a business "no": recorded, answered, acknowledged
    │   ├── OrderHasOpenPayment
    │   ├── IdempotencyKeyReused
    │   ├── IdempotencyKeyInFlight
    │   └── NoRoute
    ├── Transient           infrastructure: left where it is, tried again with backoff
    │   ├── Unavailable     a server is away, slow or full
    │   ├── Conflict        somebody else wrote first: throw the state away and load again
    │   ├── Fenced          our epoch is over: stop at once, another owner goes on
    │   └── CommitAmbiguous nobody knows yet whether it was committed: ask before anything else
    └── Poison              this message can never work: dead letter

Each leaf has a stable `code` that people, metrics and tests rely on.
"""

from __future__ import annotations

from typing import ClassVar


class PaynodeError(Exception):
    """The root; never raised itself."""

    code: ClassVar[str] = "error"


class Rejected(PaynodeError):
    """A business "no"."""

    code = "rejected"


class OrderHasOpenPayment(Rejected):
    """The order already has a payment that is open or paid."""

    code = "order_has_open_payment"

    def __init__(self, payment_id: str) -> None:
        super().__init__(f"the order has the open payment {payment_id}")
        self.payment_id = payment_id


class IdempotencyKeyReused(Rejected):
    """The key was used with another body."""

    code = "idempotency_key_reused"


class IdempotencyKeyInFlight(Rejected):
    """The first request with this key is still being worked on."""

    code = "idempotency_key_in_flight"

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the first request with this key is still running")
        self.retry_after_s = retry_after_s


class NoRoute(Rejected):
    """No PSP of the merchant takes this payment."""

    code = "no_route"


class Transient(PaynodeError):
    """Infrastructure failed; nothing is known to be wrong with the message."""

    code = "transient"


class Unavailable(Transient):
    """A server is away, slow or full."""

    code = "unavailable"


class Conflict(Transient):
    """A version, a sequence or a claim was not what we had decided upon."""

    code = "conflict"


class Fenced(Transient):
    """The epoch of the lease is not ours any more."""

    code = "fenced"

    def __init__(self, partitions: frozenset[int]) -> None:
        super().__init__(f"lost the lease on {sorted(partitions)}")
        self.partitions = partitions


class CommitAmbiguous(Transient):
    """The connection broke around COMMIT."""

    code = "commit_ambiguous"


class Poison(PaynodeError):
    """This message can never work; `code` is the reason that stands on the dead letter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
