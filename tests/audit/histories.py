"""Histories by seed: what merchants, customers and PSPs may do, with an eye for the edges.

Who makes them listens to an auditor of his own, to know what is nearly too much. That changes which histories there
are, and not what is right in them.
"""

from __future__ import annotations

from random import Random
from typing import Final

from tests.audit.auditor import AVAILABLE, Auditor
from tests.audit.steps import Accept, Ask, Join, Move, Outcome, PaymentKind, RequestKind, Say, Step, Terms

_CURRENCIES: Final = ("EUR", "JPY")
_PSPS: Final = ("sim", "other")
_OUTCOMES: Final[tuple[Outcome, ...]] = ("approved", "declined", "absent", "unknown", "reversed")
_REQUESTS: Final[tuple[RequestKind, ...]] = ("capture", "void", "refund")


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

    def tell(self) -> list[Step]:
        for merchant in self._merchants:
            self._happen(Join(merchant, self._terms()))
        self._accept()
        for _ in range(self._random.randint(6, 24)):
            self._random.choices(
                (self._accept, self._say, self._ask, self._move, self._repeat), weights=(10, 45, 30, 12, 5)
            )[0]()
        return self._steps

    def _happen(self, step: Step) -> None:
        self._steps.append(step)
        self._auditor.hear(step)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    def _amount(self, edge: int = 0) -> int:
        """Small, large, next to an edge, or a part of it."""
        random = self._random
        if edge > 0 and random.random() < 0.8:
            near = (edge - 1, edge, edge + 1, random.randint(1, edge), random.randint(1, edge), edge // 2)
            return min(max(random.choice(near), 1), 10**12)
        return random.choice((1, 2, 3, random.randint(1, self._largest), random.randint(1, self._largest)))

    def _terms(self) -> Terms:
        random = self._random
        return Terms(
            fixed=0,
            fee=random.choice((0, 1, 150, 290, 500, 3_333, 5_000, 10_000, random.randint(0, 1_000))),
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
        operations = [one for dossier in self._auditor.payments.values() for one in dossier.operations]
        waiting = [one for one in operations if one.is_open]
        if not waiting and random.random() < 0.7:
            self._ask()
            return
        operation = random.choice(waiting if waiting and random.random() < 0.85 else operations)
        weights = (72, 12, 4, 10, 2) if operation.is_open else (25, 8, 5, 8, 10)
        outcome = random.choices(_OUTCOMES, weights=weights)[0]
        surplus = random.choice((-1, 1)) if random.random() < 0.01 else 0
        self._happen(Say(self._name("e"), operation.name, outcome, surplus))

    def _ask(self) -> None:
        random = self._random
        dossier = random.choice(list(self._auditor.payments.values()))
        refundable = dossier.captured - dossier.refunded - dossier.refunding
        kind = random.choices(_REQUESTS, weights=(8 * bool(dossier.capturable) + 1, 1, 8 * bool(refundable) + 1))[0]
        edge = dossier.capturable if kind == "capture" else refundable
        amount = None if kind == "void" or random.random() < 0.25 else self._amount(edge)
        is_final = kind == "capture" and random.random() < 0.1
        self._happen(Ask(self._name("r"), dossier.accepted.payment, kind, amount, is_final))

    def _move(self) -> None:
        random = self._random
        merchant, currency = random.choice(self._merchants), random.choice(self._currencies)
        if random.random() < 0.4:
            self._happen(Move(self._name("w"), merchant, "credit", random.randint(1, self._largest), currency))
        else:
            edge = self._auditor.balance(merchant, currency, AVAILABLE)
            self._happen(Move(self._name("w"), merchant, "debit", self._amount(edge), currency))

    def _repeat(self) -> None:
        """The same message once more, as it was."""
        told = [step for step in self._steps if not isinstance(step, Join | Accept)]
        if told:
            self._happen(self._random.choice(told))
