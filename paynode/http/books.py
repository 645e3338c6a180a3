"""`GET /v1/wallets` and `GET /v1/ledger`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from aiohttp import web

from paynode.domain.reading import LedgerLine, LedgerPage, WalletView
from paynode.http import query, representation
from paynode.http.authentication import Doorman

_LEDGER: Final = {
    "payment_id": query.payment_id,
    "from": query.moment,
    "to": query.moment,
    "limit": query.limit,
    "cursor": query.number_cursor("ledger"),
}


class BookReading(Protocol):
    """Where the books are read. All of it raises Unavailable."""

    async def wallets(self, merchant_id: str) -> Sequence[WalletView]:
        """All wallets of a merchant, by currency."""

    async def ledger(self, page: LedgerPage) -> Sequence[LedgerLine]:
        """One page of a merchant's postings, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """Shows merchants their money."""

    doorman: Doorman
    reading: BookReading

    async def wallets(self, request: web.Request) -> web.Response:
        """The merchant's wallets: as many as there are currencies, so one page."""
        merchant = await self.doorman.merchant(request)
        query.read_query(request, {})
        wallets = await self.reading.wallets(merchant.merchant_id)
        entries = [representation.wallet(wallet) for wallet in wallets]
        return representation.shown(representation.page(entries, None))

    async def ledger(self, request: web.Request) -> web.Response:
        """One page of the merchant's postings; `from` is included, `to` is not."""
        merchant = await self.doorman.merchant(request)
        asked = query.read_query(request, _LEDGER)
        limit = query.limit_of(asked)
        lines = await self.reading.ledger(
            LedgerPage(
                merchant_id=merchant.merchant_id,
                payment_id=query.get(asked, "payment_id", str),
                since=query.get(asked, "from", datetime),
                until=query.get(asked, "to", datetime),
                before_seq=query.get(asked, "cursor", int),
                limit=limit + 1,
            )
        )
        cursor = query.cursor_of("ledger", str(lines[limit - 1].seq)) if len(lines) > limit else None
        entries = [representation.ledger_line(line) for line in lines[:limit]]
        return representation.shown(representation.page(entries, cursor))
