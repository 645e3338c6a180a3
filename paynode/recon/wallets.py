"""Wallets against the ledger: again and again from where they last agreed, at night from the beginning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from paynode.domain.balancing import MerchantLook, differences, is_chain, is_repairable
from paynode.domain.ledger import Head
from paynode.domain.reconciling import Area, BreakKind, Noted, RunReport
from paynode.domain.verifying import Row
from paynode.recon.register import Run, Runs


class WalletLooks(Protocol):
    """What is there. Raises: Unavailable."""

    async def page(self, after: str | None, *, is_full: bool) -> Sequence[MerchantLook]: ...
    async def entries(self, merchant_id: str, behind: int, until: int) -> Sequence[Row]: ...


class WalletRepairs(Protocol):
    """What is done about it. Raises: Unavailable, Conflict."""

    async def advance(self, looks: Sequence[MerchantLook]) -> None: ...
    async def forget(self, merchants: Iterable[str]) -> None: ...
    async def correct(self, break_id: str) -> bool: ...


class WalletReconciliation:
    """Any number may run at once: a mark only moves on, and a wallet is made again under its row's lock."""

    def __init__(self, looks: WalletLooks, repairs: WalletRepairs, runs: Runs) -> None:
        self._looks = looks
        self._repairs = repairs
        self._runs = runs

    async def run_once(self, *, is_full: bool = False, is_dry: bool = False) -> RunReport:
        """Look at all wallets once."""
        async with self._runs.run(Area.WALLETS, {"is_full": int(is_full)}, is_full=is_full, is_dry=is_dry) as run:
            after: str | None = None
            while page := await self._looks.page(after, is_full=is_full):
                await self._look(run, page, is_full=is_full)
                after = page[-1].merchant_id
        return run.report()

    async def _look(self, run: Run, page: Sequence[MerchantLook], *, is_full: bool) -> None:
        run.tally.checked += sum(len(look.wallets) for look in page)
        noted = await run.note([difference for look in page for difference in differences(look)])
        if run.is_dry:
            return
        # What was found from the beginning may lie before the mark, where no other look would see it.
        if is_full and (ill := {look.merchant_id for look in page if not look.is_sound}):
            await self._repairs.forget(ill)
        if ahead := [look for look in page if look.is_sound and look.is_ahead]:
            await self._repairs.advance(ahead)
        for look in page:
            await self._repair(run, look, [one for one in noted if one.difference.merchant_id == look.merchant_id])

    async def _repair(self, run: Run, look: MerchantLook, noted: Sequence[Noted]) -> None:
        if not is_repairable([one.difference for one in noted]) or not look.is_gapless:
            return
        waiting = [one for one in noted if one.is_open and one.difference.kind is BreakKind.WALLET_DIFFERS]
        if not waiting or not await self._is_intact(look):
            return
        for one in waiting:
            run.tally.repairs += await self._repairs.correct(one.id)

    async def _is_intact(self, look: MerchantLook) -> bool:
        """Whether the chain leads from the mark to the head, a page at a time."""
        at = look.mark
        while at.seq < look.head.seq:
            page = await self._looks.entries(look.merchant_id, at.seq, look.head.seq)
            until = Head(seq=page[-1].seq, hash=page[-1].hash) if page else look.head
            if not is_chain(at, until, page):
                return False
            at = until
        return at == look.head
