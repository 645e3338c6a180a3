"""What every PSP's adapter does: the one place to look at when a fourth one is to be written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Protocol

from paynode.domain.payment import PspOrder
from paynode.domain.psp import Answer, Callback, Capabilities, PspRequest, SettlementLine


class Adapter(Protocol):
    """One PSP account. `send` and `find` never raise: every error is an Answer, and what is not understood is UNKNOWN.

    Instants are of `time.monotonic()`.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What this PSP can do."""

    def prepare(self, order: PspOrder) -> PspRequest:
        """The bytes that ask for an operation of any kind; the same for the same order, always. No I/O."""

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        """Send the stored bytes once. NOT_SENT only on proof that nothing left; a received 5xx is UNKNOWN."""

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | None:
        """Ask what became of an operation: by our reference, or by the PSP's where only that leads there.

        None: the PSP has never seen it. UNKNOWN: the question went unanswered.
        """

    def parse_callback(self, headers: Mapping[str, str], raw: bytes, *, now_s: float) -> Callback | None:
        """Believe a callback by its signature over the raw bytes, then read it, with the kinds of operation that it can
        be about. None: it speaks of nothing for us.

        Raises: CallbackRefused.
        """

    def settlement(self, since: datetime, until: datetime) -> AsyncIterator[SettlementLine]:
        """The PSP's report of the lines with `since` <= at < `until`, oldest first. Raises: Unavailable."""
