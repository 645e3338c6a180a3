"""The laws about money and numbers. The ledger is folded here once more, by simpler means than paynode's own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import Final

from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from tests.support.case import Case

BUCKETS: Final = ("pending", "available", "reserve", "held")


def l5_the_books_balance(case: Case) -> Iterator[str]:
    """L5. What merchants are owed and all other accounts sum to zero; every chain is whole; `paynode doctor` agrees."""
    total: Counter[str] = Counter()
    for row in case.ledger:
        total[row["currency"]] += row["amount"] * (not row["credit"].startswith("merchant:"))
        total[row["currency"]] -= row["amount"] * (not row["debit"].startswith("merchant:"))
    for wallet in case.wallets:
        total[wallet["currency"]] += wallet["balance"]
    for currency, amount in total.items():
        if amount:
            yield f"the books are off by {amount} {currency}"
    before: dict[str, bytes] = {}
    for row in case.ledger:
        if row["prev_hash"] != before.get(row["merchant_id"], row["prev_hash"]):
            yield f"the chain of merchant {row['merchant_id']} breaks at seq {row['seq']}"
        before[row["merchant_id"]] = row["hash"]
    yield from case.findings


def l6_a_wallet_is_the_fold_of_its_ledger(case: Case) -> Iterator[str]:
    """L6. Each bucket is what the ledger sums up to, and what the adjustments sum up to; none is below zero."""
    folded: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in case.ledger:
        wallet = folded[row["merchant_id"], row["currency"]]
        for account, amount in ((row["credit"], row["amount"]), (row["debit"], -row["amount"])):
            owner, _, bucket = account.partition(":")
            if owner == "merchant":
                wallet[bucket] += amount
    adjusted: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in case.adjustments:
        for bucket in BUCKETS:
            adjusted[row["merchant_id"], row["currency"]][bucket] += row[f"d_{bucket}"]
    wallets = {(row["merchant_id"], row["currency"]): row for row in case.wallets}
    for key in folded.keys() | adjusted.keys() | wallets.keys():
        found = {bucket: wallets[key][bucket] if key in wallets else 0 for bucket in BUCKETS}
        for name, sums in (("ledger", folded[key]), ("adjustments", adjusted[key])):
            if any(sums[bucket] != found[bucket] for bucket in BUCKETS):
                yield f"the wallet of {key[0]} is {found}, its {name} sum up to {dict(sums)}"
        if min(found.values()) < 0:
            yield f"the wallet of {key[0]} is below zero: {found}"


def l12_numbers_have_no_gap(case: Case) -> Iterator[str]:
    """L12. The versions of a payment and the entries of a merchant are 1, 2, 3, …"""
    versions: defaultdict[str, list[int]] = defaultdict(list)
    for row in case.events:
        versions[row["payment_id"]].append(row["version"])
    for row in case.payments:
        if sorted(versions[row["id"]]) != list(range(1, row["version"] + 1)):
            yield f"payment {row['id']} has version {row['version']}, its events are {versions[row['id']]}"
    seq: Counter[str] = Counter()
    for row in case.ledger:
        seq[row["merchant_id"]] += 1
        if row["seq"] != seq[row["merchant_id"]]:
            yield f"merchant {row['merchant_id']}: entry {seq[row['merchant_id']]} is numbered {row['seq']}"
            seq[row["merchant_id"]] = row["seq"]


def l13_epochs_rise(case: Case) -> Iterator[str]:
    """L13. Along a merchant's ledger the writer's epoch never falls, and none was never given out.

    That each entry was written in its epoch's own time the `Witness` sees, who looks while it happens.
    """
    given = {row["partition"]: row["epoch"] for row in case.partitions}
    last: Counter[str] = Counter()
    for row in case.ledger:
        partition = partition_of(public(MERCHANT, row["merchant_id"]), len(given)) if given else None
        if row["epoch"] < last[row["merchant_id"]]:
            yield f"merchant {row['merchant_id']}: epoch {row['epoch']} at seq {row['seq']} after a later one"
        if partition is not None and row["epoch"] > given[partition]:
            yield f"merchant {row['merchant_id']}: epoch {row['epoch']} was never given out"
        last[row["merchant_id"]] = row["epoch"]


def l7_reconciliation_finds_nothing(case: Case) -> Iterator[str]:
    """At rest our books differ in nothing from the PSP's report; what is seeded has a test of its own (K1)."""
    yield from case.differences


LAWS: Final[tuple[Callable[[Case], Iterator[str]], ...]] = (
    l5_the_books_balance,
    l6_a_wallet_is_the_fold_of_its_ledger,
    l12_numbers_have_no_gap,
    l13_epochs_rise,
)
