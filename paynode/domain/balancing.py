"""A merchant's wallets against its ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

from paynode.domain.ledger import NO_ENTRIES, Head
from paynode.domain.reconciling import BreakKind, Difference
from paynode.domain.verifying import Row
from paynode.domain.wallet import Delta


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletLook:
    """One wallet and what stands behind it, at one instant. All buckets in minor units.

    `ledger` and `adjusted` are what entries and adjustments sum up to, `wallet` is the row itself.
    """

    currency: str
    ledger: Delta
    adjusted: Delta
    wallet: Delta


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantLook:
    """All wallets of a merchant at one instant; `mark` is the entry up to which they agreed before, or where the ledger
    begins (`is_whole`). `entries` counts what is behind it.
    """

    merchant_id: str
    head: Head = NO_ENTRIES
    mark: Head = NO_ENTRIES
    entries: int = 0
    is_whole: bool = False
    wallets: tuple[WalletLook, ...] = ()

    @property
    def is_gapless(self) -> bool:
        """Whether there are as many entries as the head says."""
        return self.entries == self.head.seq - self.mark.seq

    @property
    def is_ahead(self) -> bool:
        """Whether there is more than was marked."""
        return bool(self.head.seq) and (self.is_whole or self.head != self.mark)

    @property
    def is_sound(self) -> bool:
        """Whether looking may go on from the head: all agree, and nothing is missing."""
        return self.is_gapless and not any(True for _ in differences(self))


def is_chain(mark: Head, head: Head, entries: Iterable[Row]) -> bool:
    """Whether these entries lead from one head to the other, each sealed by its content and by the one before it."""
    at = mark
    for entry in entries:
        if entry.seq != at.seq + 1 or entry.prev_hash != at.hash or not entry.is_intact:
            return False
        at = Head(seq=entry.seq, hash=entry.hash)
    return at == head


def differences(look: MerchantLook) -> Iterator[Difference]:
    """Where a merchant's wallets are not what its ledger says."""
    for one in look.wallets:
        if one.wallet != one.ledger:
            yield _difference(BreakKind.WALLET_DIFFERS, look, one, one.wallet)
        if one.adjusted != one.ledger:
            yield _difference(BreakKind.ADJUSTMENTS_DIFFER, look, one, one.adjusted)


def is_repairable(found: Sequence[Difference]) -> bool:
    """Whether the evidence is definite as far as sums go: adjustments and ledger agree, the wallet does not."""
    return bool(found) and all(one.kind is BreakKind.WALLET_DIFFERS for one in found)


def _difference(kind: BreakKind, look: MerchantLook, wallet: WalletLook, found: Delta) -> Difference:
    buckets = [name.name for name in fields(Delta)]
    apart = [getattr(found, name) - getattr(wallet.ledger, name) for name in buckets]
    return Difference(
        kind=kind,
        subject=f"{look.merchant_id}/{wallet.currency}",
        expected=wallet.ledger.total,
        found=found.total,
        size=sum(map(abs, apart)),
        currency=wallet.currency,
        merchant_id=look.merchant_id,
        evidence={
            "seq": look.head.seq,
            "agreed_until_seq": look.mark.seq,
            **{f"ledger_{name}": getattr(wallet.ledger, name) for name in buckets},
            **{f"found_{name}": getattr(found, name) for name in buckets},
        },
    )
