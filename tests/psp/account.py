"""An account at some PSP, as the contract of adapters (`contract.py`) needs one."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar, Final

import uuid_utils

from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import Answer, Callback, Outcome
from paynode.psp.adapter import Adapter
from tests.support.waiting import wait_until

# Seconds that a call may take: generous, the machine may be busy.
CALL_S: Final = 60.0


class Trait(StrEnum):
    """What an account under test can be made to show."""

    TOKEN = "token"
    DECLINE = "decline"  # a token that is declined
    PAGE = "page"  # a customer can be made to pay on it
    PAGE_DECLINE = "page_decline"
    CANCEL = "cancel"
    AUTHORIZE = "authorize"
    PARTIAL_CAPTURE = "partial_capture"
    REPEATED_CAPTURE = "repeated_capture"
    REFUND = "refund"
    PARTIAL_REFUND = "partial_refund"
    FIND = "find"  # by our reference alone, before the PSP's is known
    IDEMPOTENT = "idempotent"
    LOST_ANSWER = "lost_answer"
    CALLBACK = "callback"
    STALE = "stale"  # a callback's signature has a time
    REVERSAL = "reversal"
    SETTLEMENT = "settlement"
    ELSEWHERE = "elsewhere"  # the adapter can be pointed at any server, and its first request is the operation


@dataclass(frozen=True)
class Delivery:
    """One callback as it came."""

    headers: Mapping[str, str]
    raw: bytes


class Account(ABC):
    """An account at a PSP with everything that a check needs; a hook that no trait asks for need not be written."""

    TRAITS: ClassVar[frozenset[Trait]]
    # Capabilities that nothing here can show, and why: by the name of the field of `Capabilities`.
    NOT_SHOWN: ClassVar[Mapping[str, str]] = {}

    amount: int = 1250
    currency: str = "EUR"
    approving_token: str = ""
    declining_token: str = ""

    @property
    @abstractmethod
    def adapter(self) -> Adapter:
        """Entered, and ready to be called."""

    async def customer_pays(self, page_url: str) -> None:
        """Pay on the page, as a customer does. Trait.PAGE."""
        raise NotImplementedError

    async def customer_declines(self, page_url: str) -> None:
        """Let the payment be declined on the page. Trait.PAGE_DECLINE."""
        raise NotImplementedError

    def losing_answers(self) -> AbstractAsyncContextManager[None]:
        """Inside, what is sent is done by the PSP and its answer is lost. Trait.LOST_ANSWER."""
        raise NotImplementedError

    async def deliveries(self, order: PspOrder) -> Sequence[Delivery]:
        """The callbacks about an operation so far. Trait.CALLBACK."""
        raise NotImplementedError

    async def reverse(self, order: PspOrder) -> None:
        """Let the PSP take back what it had approved. Trait.REVERSAL."""
        raise NotImplementedError

    def elsewhere(self, url: str) -> AbstractAsyncContextManager[Adapter]:
        """The same adapter, entered, pointed at another server. Trait.ELSEWHERE."""
        raise NotImplementedError

    # -- what the checks say, in terms of the above --------------------------------------------------------------

    def sale(self, **changes: Any) -> PspOrder:
        """A new sale: on a token where there are tokens, else on a page."""
        return self._charge(OperationKind.SALE, **changes)

    def authorization(self, **changes: Any) -> PspOrder:
        """The same without the capture."""
        return self._charge(OperationKind.AUTHORIZE, **changes)

    def about(
        self, charge: PspOrder, said: Answer, kind: OperationKind, amount: int | None = None, **changes: Any
    ) -> PspOrder:
        """A new operation about a charge that was answered so."""
        order = replace(
            charge,
            operation_id=new_id(),
            kind=kind,
            token=None,
            return_url=None,
            charge_id=charge.operation_id,
            charge_reference=said.reference,
            money=replace(charge.money, amount=charge.money.amount if amount is None else amount),
        )
        return replace(order, **changes)

    async def send(self, order: PspOrder) -> Answer:
        """Prepare and send."""
        now = time.monotonic()
        request = self.adapter.prepare(order)
        return await self.adapter.send(order, request, send_by=now + CALL_S, deadline=now + CALL_S)

    async def find(self, order: PspOrder) -> Answer | None:
        """Ask once."""
        return await self.adapter.find(order, deadline=time.monotonic() + CALL_S)

    async def found(self, order: PspOrder, outcome: Outcome) -> Answer:
        """Ask until the PSP says so: an inquiry may lag behind."""
        said: Answer | None = None

        async def is_so() -> bool:
            nonlocal said
            said = await self.find(order)
            return said is not None and said.outcome is outcome

        await wait_until(is_so, f"the {order.kind} is found {outcome}", CALL_S)
        assert said is not None
        return said

    async def charged(self, order: PspOrder) -> Answer:
        """Send a charge and see it approved, by its customer where it is on a page."""
        said = await self.send(order)
        if said.outcome is Outcome.PENDING:
            assert said.page_url is not None
            await self.customer_pays(said.page_url)
            # A PSP that finds nothing by our reference alone knows its own.
            said = await self.found(replace(order, charge_reference=said.reference), Outcome.APPROVED)
        assert said.outcome is Outcome.APPROVED, said
        return said

    async def told(self, order: PspOrder, outcome: Outcome) -> tuple[Delivery, Callback]:
        """Wait for the callback that says so of an operation."""
        found: list[tuple[Delivery, Callback]] = []

        async def has_come() -> bool:
            for one in await self.deliveries(order):
                said = self.adapter.parse_callback(one.headers, one.raw, now_s=time.time())
                if said is not None and (said.our_reference, said.answer.outcome) == (order.operation_id, outcome):
                    assert said.kinds is not None, "it says what it can be about"
                    assert order.kind in said.kinds, said
                    found.append((one, said))
            return bool(found)

        await wait_until(has_come, f"a callback says {outcome} of the {order.kind}", CALL_S)
        return found[0]

    def _charge(self, kind: OperationKind, **changes: Any) -> PspOrder:
        is_token = Trait.TOKEN in self.TRAITS
        order = PspOrder(
            operation_id=new_id(),
            payment_id=new_id(),
            merchant_id=new_id(),
            psp="tested",
            kind=kind,
            money=Money(amount=self.amount, currency=self.currency),
            method=Method.TOKEN if is_token else Method.HOSTED_PAGE,
            token=self.approving_token if is_token else None,
            return_url=None if is_token else "https://shop.example/back",
            description="A lantern",
        )
        return replace(order, **changes)

    def paged(self, order: PspOrder) -> PspOrder:
        """The same order on a page."""
        return replace(order, method=Method.HOSTED_PAGE, token=None, return_url="https://shop.example/back")


def new_id() -> str:
    """A UUIDv7, as operations have."""
    return str(uuid_utils.uuid7())
