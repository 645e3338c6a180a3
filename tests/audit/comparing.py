"""The core and the auditor side by side: where they differ first, and the shortest history that shows it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.audit.auditor import Auditor
from tests.audit.core import BUCKETS, Core
from tests.audit.histories import history
from tests.audit.steps import Ask, History, Join, Say, Settle, Step
from tests.audit.treasury import HOUSE

_WALLET = frozenset(f"merchant:{bucket}" for bucket in BUCKETS)


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the two do not agree: after how many steps, about what, and what each of them says."""

    at: int
    what: str
    auditor: object
    core: object


def audit(seeds: Sequence[int], met: Counter[str] | None = None) -> str | None:
    """Compare the histories of all seeds: the first difference in words, None when there is none."""
    for seed in seeds:
        steps = history(seed)
        difference = compare(steps, met)
        if difference is not None:
            return _told(seed, *shrunk(steps, difference))
    return None


def _told(seed: int, steps: History, difference: Difference) -> str:
    lines = [f"seed {seed}: after step {difference.at} they differ about {difference.what}"]
    lines += [f"  {number:2}  {step}" for number, step in enumerate(steps, start=1)]
    return "\n".join([*lines, f"  auditor: {difference.auditor}", f"  core:    {difference.core}"])


def compare(steps: History, met: Counter[str] | None = None) -> Difference | None:
    """Tell both the same; None when they agree after every step. `met` counts what came up."""
    auditor, core = Auditor(), Core()
    difference = _first_difference(steps, auditor, core)
    if met is not None:
        met.update(core.met)
        met["histories"] += 1
    return difference


def _first_difference(steps: History, auditor: Auditor, core: Core) -> Difference | None:
    for at, step in enumerate(steps, start=1):
        replies = auditor.hear(step), core.hear(step)
        core.met[replies[1] or f"done: {type(step).__name__}"] += 1
        if replies[0] != replies[1]:
            return Difference(at, "reply", *replies)
        for what, expected, found in _looked_at(auditor, core, step):
            if expected != found:
                return Difference(at, what, expected, found)
    return None


def _looked_at(auditor: Auditor, core: Core, step: Step) -> Iterator[tuple[str, object, object]]:
    """What is looked at after a step: what it is, what the auditor says, what the core says."""
    yield "laws", [], core.broken
    accounts = auditor.sums.accounts
    yield "accounts", accounts, core.accounts
    yield "trial balance", 0, sum(core.accounts.values())
    of_wallets = {key: amount for key, amount in accounts.items() if key[2] in _WALLET}
    yield "wallets", of_wallets, core.wallets
    yield "adjustments", of_wallets, core.adjusted
    yield "maturing", auditor.bookkeeper.maturing(), core.maturing
    match step:
        case Ask():
            yield from _payment(auditor, core, step.payment)
        case Say() | Settle():
            yield from _payment(auditor, core, step.operation or "")


def _payment(auditor: Auditor, core: Core, operation: str) -> Iterator[tuple[str, object, object]]:
    dossier = auditor.owners.get(operation)
    if dossier is None:
        return
    name = dossier.accepted.payment
    payment = core.payments[name]
    amounts = payment.amounts
    yield f"review of {name}", dossier.is_in_review, payment.review_reason is not None
    yield f"authorized of {name}", dossier.authorized, amounts.authorized
    yield f"captured of {name}", dossier.captured, amounts.captured
    if not dossier.has_moved_too_much:  # else no lawful number is true, and people look at the ledger
        yield f"refunded of {name}", (dossier.refunded, dossier.refunding), (amounts.refunded, amounts.refunding)
    yield (
        f"operations of {name}",
        [one.amount for one in dossier.operations],
        [one.money.amount for one in payment.operations],
    )


def shrunk(told: History, difference: Difference) -> tuple[list[Step], Difference]:
    """The history without every step that the same kind of difference does not need."""
    steps = list(told[: difference.at])
    width = len(steps) // 2
    while width:
        start = 0
        while start < len(steps):
            fewer = steps[:start] + steps[start + width :]
            found = compare(fewer) if _is_whole(fewer) else None
            if found is not None and found.what.split()[0] == difference.what.split()[0]:
                steps, difference = fewer[: found.at], found
            else:
                start += width
        width //= 2
    return steps, difference


def _is_whole(steps: History) -> bool:
    """Whether every merchant is there of whom they speak."""
    joined = {HOUSE} | {step.merchant for step in steps if isinstance(step, Join)}
    return all(getattr(step, "merchant", None) in {None, *joined} for step in steps)
