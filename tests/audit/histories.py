"""Histories by seed: what merchants, customers and PSPs may do, with an eye for the edges.

Who makes them listens to an auditor of his own, to know what is nearly too much. That changes which histories there
are, and not what is right in them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final, Literal

from tests.audit.auditor import Auditor
from tests.audit.dossier import Dossier
from tests.audit.operation import BARE, Operation
from tests.audit.steps import (
    Accept,
    Adjust,
    Announce,
    Ask,
    Come,
    EndPayout,
    Join,
    LineKind,
    Move,
    MoveKind,
    Outcome,
    PaymentKind,
    PayOut,
    RequestKind,
    Say,
    Settle,
    Step,
    Terms,
    Wait,
)
from tests.audit.sums import AVAILABLE, PENDING, RESERVE

_CURRENCIES: Final = ("EUR", "JPY")
_PSPS: Final = ("sim", "other")
# What PSPs say, how often of what is under way, and how often of what is over.
_OUTCOMES: Final[dict[Outcome, tuple[int, int]]] = {
    "approved": (72, 25),
    "declined": (11, 7),
    "expired": (2, 3),
    "pending": (5, 3),
    "absent": (4, 5),
    "unknown": (9, 8),
    "not_sent": (6, 3),
    "reversed": (2, 7),
}
_REQUESTS: Final[tuple[RequestKind, ...]] = ("capture", "void", "cancel", "refund")
_ADJUSTED: Final = (
    *(f"psp:{psp}:receivable" for psp in _PSPS),
    *(f"suspense:{name}" for name in (*_PSPS, "internal")),
    *("loss", "bank", "psp_fee_expense", AVAILABLE),
)
_SHARES: Final = (0, 1, 150, 290, 500, 1_000, 3_333, 5_000, 10_000)


def history(seed: int) -> list[Step]:
    """The history of a seed."""
    return _Teller(Random(seed)).tell()


class _Teller:
    def __init__(self, random: Random) -> None:
        self._random = random
        self._auditor = Auditor()
        self._steps: list[Step] = []
        self._merchants = ["m1", "m2"] if random.random() < 0.2 else ["m1"]
        self._currencies = _CURRENCIES if random.random() < 0.3 else ("EUR",)
        # Every history has its own measure: in some the smallest units decide.
        self._largest = random.choice((3, 10, 1_000, 100_000, 10**12))
        self._count = 0
        self._weights: Mapping[Callable[[], None], int] = {
            self._accept: 10,
            self._say: 40,
            self._ask: 27,
            self._move: 9,
            self._wait: 9,
            self._come: 2,
            self._charge_back: 3,
            self._pay_out: 8,
            self._end_payout: 6,
            self._settle: 12,
            self._adjust: 3,
            self._announce: 2,
            self._repeat: 5,
        }

    def tell(self) -> list[Step]:
        for merchant in self._merchants:
            self._happen(Join(merchant, self._terms()))
        self._accept()
        for _ in range(self._random.randint(6, 26)):
            self._random.choices(list(self._weights), weights=list(self._weights.values()))[0]()
        return self._steps

    def _happen(self, step: Step) -> None:
        self._steps.append(step)
        self._auditor.hear(step)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _operations(self) -> list[Operation]:
        return [one for dossier in self._auditor.payments.values() for one in dossier.operations]

    def _amount(self, edge: int = 0) -> int:
        """Small, large, next to an edge, or a part of it."""
        random = self._random
        if edge > 0 and random.random() < 0.8:
            near = (edge - 1, edge, edge + 1, random.randint(1, edge), random.randint(1, edge), edge // 2)
            return min(max(random.choice(near), 1), 10**12)
        return random.choice((1, 2, 3, random.randint(1, self._largest), random.randint(1, self._largest)))

    def _terms(self) -> Terms:
        random = self._random
        fee = random.choice((*_SHARES, random.randint(0, 1_000)))
        return Terms(
            fixed=random.choice((0, 0, 1, 2, random.randint(0, self._largest // 10 + 3))),
            fee=fee,
            reserve=min(random.choice((0, 0, *_SHARES, random.randint(0, 2_000))), 10_000 - fee),
            reserve_days=random.choice((0, 1, 3, 5)),
            availability=random.choice(("date", "date", "settlement")),
            available_days=random.choice((0, 1, 2)),
        )

    # -- steps --------------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        random = self._random
        kinds: tuple[PaymentKind, ...] = ("sale", "sale", "authorize", "authorize", "authorize")
        name = self._name("p")
        merchant, psp, currency = (random.choice(one) for one in (self._merchants, _PSPS, self._currencies))
        self._happen(Accept(name, merchant, psp, random.choice(kinds), self._amount(), currency))
        if random.random() < 0.8:
            self._happen(Say(self._name("e"), name, "approved"))

    def _say(self) -> None:
        random = self._random
        operations = self._operations()
        waiting = [one for one in operations if one.is_open]
        if not waiting and random.random() < 0.7:
            self._ask()
            return
        operation = random.choice(waiting if waiting and random.random() < 0.85 else operations)
        weights = [often if operation.is_open else rarely for often, rarely in _OUTCOMES.values()]
        outcome = random.choices(list(_OUTCOMES), weights=weights)[0]
        surplus = random.choice((-1, 1)) if random.random() < 0.01 else 0
        reference = random.choice("bc") if random.random() < (0.1 if operation.references else 0.01) else ""
        self._happen(Say(self._name("e"), operation.name, outcome, surplus, reference))

    def _ask(self) -> None:
        """Mostly for what can be had, or nearly."""
        random = self._random
        dossiers = list(self._auditor.payments.values())
        promising = [one for one in dossiers if _possible(one)]
        if not promising and random.random() < 0.8:
            self._accept()
            return
        dossier = random.choice(promising if promising and random.random() < 0.9 else dossiers)
        likely = _possible(dossier) if random.random() < 0.9 else []
        kind = random.choice(likely or _REQUESTS)
        amount = None if kind in BARE or random.random() < 0.25 else self._amount(self._edge(dossier, kind))
        is_final = kind == "capture" and random.random() < 0.1
        self._happen(Ask(self._name("r"), dossier.accepted.payment, kind, amount, is_final))

    def _edge(self, dossier: Dossier, kind: RequestKind) -> int:
        """How much can be asked for: of a refund what the payment has left, or what the merchant has."""
        if kind == "capture":
            return dossier.capturable
        funds = sum(self._auditor.bookkeeper.balance(dossier.accepted, one) for one in (AVAILABLE, PENDING))
        return min(dossier.refundable, funds) if self._random.random() < 0.5 else dossier.refundable

    def _place(self, account: str = AVAILABLE) -> tuple[str, str]:
        """A merchant and a currency; often one where the account is below zero, if there are any."""
        places = [(merchant, currency) for merchant in self._merchants for currency in self._currencies]
        indebted = [place for place in places if self._balance(account, place) < 0]
        return self._random.choice(indebted if indebted and self._random.random() < 0.5 else places)

    def _balance(self, account: str, place: tuple[str, str]) -> int:
        return self._auditor.sums.balance(*place, account)

    def _move(self) -> None:
        place = self._place()
        available = self._balance(AVAILABLE, place)
        kinds: tuple[MoveKind, ...] = ("credit", "write_off") if available < 0 else ("credit", "debit")
        kind = self._random.choice(kinds if available or self._random.random() < 0.05 else ("credit",))
        amount = self._random.randint(1, self._largest) if kind == "credit" else self._amount(abs(available))
        self._happen(Move(self._name("w"), place[0], kind, amount, place[1]))

    def _announce(self) -> None:
        self._happen(Announce(self._random.choice(self._merchants), self._terms()))

    def _wait(self) -> None:
        self._happen(Wait(self._random.choice((0, 1, 1, 2, 5))))

    def _charge_back(self) -> None:
        """What is available already is taken back: a debt is pending. Often the merchant wants to be paid then."""
        matured = [one for one in self._operations() if "capture" in one.booked and not one.is_waiting]
        if matured:
            operation = self._random.choice(matured)
            reference = operation.references[0] if operation.references else ""
            self._happen(Say(self._name("e"), operation.name, "reversed", reference=reference))
            self._pay_out()

    def _come(self) -> None:
        """Of what has had its day, or was taken back: what is to come is left to the calendar."""
        done = [one for one in self._operations() if "capture" in one.booked]
        calls: list[Come] = [Come(one.name, "available") for one in done if not one.is_waiting]
        calls += [Come(one.name, "reserve") for one in done if not one.rest_reserve]
        if calls:
            self._happen(self._random.choice(calls))

    def _pay_out(self) -> None:
        place = self._place(PENDING)
        debts = min(self._balance(PENDING, place), 0) + min(self._balance(RESERVE, place), 0)
        edge = self._balance(AVAILABLE, place) + self._random.choice((0, debts))
        if edge <= 0 and self._random.random() < 0.9:
            self._wait()
            return
        self._happen(PayOut(self._name("o"), place[0], self._amount(edge), place[1]))

    def _end_payout(self) -> None:
        payouts = list(self._auditor.treasury.payouts.values())
        if not payouts:
            self._pay_out()
            return
        payout, _ = self._random.choice(payouts)
        merchant = payout.merchant if self._random.random() < 0.95 else self._random.choice(self._merchants)
        end: Literal["paid", "failed"] = self._random.choice(("paid", "failed"))
        self._happen(EndPayout(self._name("b"), payout.event, merchant, end))

    def _settle(self) -> None:
        """A line of a report: mostly what the PSP did, sometimes what nobody knows, or as nobody asked."""
        random = self._random
        dossier = random.choice(list(self._auditor.payments.values()))
        of, one = dossier.accepted, random.choice(dossier.operations)
        kind: LineKind = "refund" if one.kind == "refund" else "charge"
        kind = random.choices((kind, "reversal", "fee"), weights=(12, 2, 3))[0]
        amount = one.amount if kind != "fee" else self._amount()
        amount = self._amount(amount) if random.random() < 0.05 else amount
        name: str | None = one.name if one.kind not in BARE else None
        if random.random() < 0.1:
            name, kind = None, random.choice(("charge", "refund", "reversal", "fee"))
        known = one.references[0] if one.references else ""
        known = "b" if random.random() < 0.03 else known
        reference = f"ref_{name}{known}" if name is not None and kind != "fee" else self._name("ref_")
        currency = random.choice(self._currencies) if random.random() < 0.05 else of.currency
        self._happen(Settle(of.psp, kind, reference, name, amount, currency))

    def _adjust(self) -> None:
        """Often at a merchant's cost, so that there are debts."""
        debit, credit = self._random.choice([self._random.sample(_ADJUSTED, 2), (AVAILABLE, "loss")])
        merchant, currency = self._place()
        self._happen(Adjust(self._name("a"), merchant, debit, credit, self._amount(), currency))

    def _repeat(self) -> None:
        """The same message once more, as it was."""
        told = [step for step in self._steps if not isinstance(step, Join | Announce | Accept | Wait)]
        if told:
            self._happen(self._random.choice(told))


def _possible(dossier: Dossier) -> list[RequestKind]:
    """What may be asked for of a payment."""
    possible: list[RequestKind] = []
    if dossier.capturable:
        possible += ["capture", "capture", "capture", "void"]
    if dossier.refundable:
        possible += ["refund", "refund", "refund"]
    if dossier.charge.state == "pending":
        possible += ["cancel"]
    return possible
