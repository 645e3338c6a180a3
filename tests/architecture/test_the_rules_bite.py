"""A rule that cannot fail is worth nothing: each finds what is wrong in a small source, and passes its cure over."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.architecture import floors, habits, purity
from tests.architecture.sources import House, Module, house

LONG_FUNCTION = "def long():\n" + "    pass\n" * 60
LONG_PROTOCOL = "class Wide(Protocol[T]):\n" + "".join(f"    def m{number}(self): ...\n" for number in range(6))

# rule, module, a source that it must complain of, one that it must not
MODULES: list[tuple[Callable[[Module], Iterator[str]], str, str, str]] = [
    (habits.size, "paynode.http.long", "x = 1\n" * 401, "x = 1\n" * 400),
    (habits.size, "paynode.http.long", LONG_FUNCTION, LONG_FUNCTION.removesuffix("    pass\n")),
    (habits.size, "paynode.http.long", "async " + LONG_FUNCTION, "async def short():\n    pass\n"),
    (habits.names, "paynode.http.utils", "", "class Ledger: ..."),
    (habits.names, "paynode.http.ledger", "class LedgerManager: ...", "class Manageress: ..."),
    (habits.names, "paynode.http.ledger", "class BaseLedger: ...", "class Baseline: ..."),
    (habits.type_checking, "paynode.http.a", "from typing import TYPE_CHECKING\nif TYPE_CHECKING: pass", "x = 1"),
    (habits.type_checking, "paynode.http.a", "import typing\nif typing.TYPE_CHECKING: pass", "import typing"),
    (habits.acknowledging, "paynode.storage.a", "client.xack(s, g, i)", "client.xadd(s, f)"),
    (habits.acknowledging, "paynode.actors.a", "execute('XACK', s)", "feed.acknowledge(ids)"),
    (habits.acknowledging, "paynode.http.a", "feed.acknowledge(ids)", "def acknowledge(): ..."),
    (habits.catching_all, "paynode.http.a", "try: f()\nexcept Exception: pass", "try: f()\nexcept OSError: pass"),
    (habits.catching_all, "paynode.http.a", "try: f()\nexcept: pass", "try: f()\nexcept:\n  g()\n  raise"),
    (habits.catching_all, "paynode.http.a", "try: f()\nexcept (OSError, BaseException) as e: raise X from e", "f()"),
    (habits.printing, "paynode.http.a", "print('here')", "console.print('here')"),
    (habits.printing, "paynode.embedded.a", "print('here')", "emit('here')"),
    (habits.protocols, "paynode.actors.a", LONG_PROTOCOL, LONG_PROTOCOL.replace("    def m5(self): ...\n", "")),
    (habits.protocols, "paynode.actors.a", LONG_PROTOCOL.replace("[T]", ""), LONG_PROTOCOL.replace("Protocol", "Able")),
    (purity.waiting, "paynode.domain.a", "async def f(): ...", "def f(): ..."),
    (purity.the_world, "paynode.domain.a", "import time", "import re"),
    (purity.the_world, "paynode.domain.a", "import random as r", "import zlib"),
    (purity.the_world, "paynode.domain.a", "from os import path", "from hashlib import sha256"),
    (purity.the_world, "paynode.domain.a", "at = datetime.now(UTC)", "from datetime import datetime"),
    (purity.the_world, "paynode.domain.a", "from uuid import uuid4", "from uuid import UUID"),
    (purity.the_world, "paynode.domain.a", "x = hash(merchant)", "x = crc32(merchant)"),
    (purity.the_world, "paynode.domain.a", "x = id(merchant)", "x = merchant(id)"),
    (purity.the_world, "paynode.domain.a", "x = open('f')", "x = opened('f')"),
    (purity.fractions, "paynode.domain.a", "fee = 0.015", "fee = 150"),
    (purity.fractions, "paynode.domain.a", "fee: float", "in_flight_s: float"),
    (purity.fractions, "paynode.domain.a", "def f(fee: float): ...", "def f(after_s: float | None): ..."),
    (purity.fractions, "paynode.domain.a", "def f(x) -> float: ...", "def f(x) -> int: ..."),
    (purity.fractions, "paynode.domain.a", "x = float('1')", "x = int('1')"),
    (purity.fractions, "paynode.domain.a", "x = a / b", "x = a // b"),
    (purity.fractions, "paynode.domain.a", "x /= b", "x //= b"),
]

# rule, the module that is looked at, a source that it must complain of, one that it must not
HOUSES: list[tuple[Callable[[House], Iterator[str]], str, str, str]] = [
    (floors.strangers, "paynode.domain.a", "from paynode.runtime import b", "from paynode.domain import b"),
    (floors.strangers, "paynode.runtime.a", "import paynode.domain.b", "import paynode.runtime.b"),
    (floors.strangers, "paynode.actors.a", "from paynode.storage.b import X", "from paynode.domain.b import X"),
    (floors.strangers, "paynode.actors.a", "from paynode.config import S", "from paynode.runtime.b import X"),
    (floors.strangers, "paynode.storage.a", "from paynode.streams.b import X", "from paynode.config import S"),
    (floors.strangers, "paynode.psp.a", "from paynode.actors.b import X", "from paynode.psp.b import X"),
    (floors.strangers, "paynode.streams.a", "from paynode.runtime.b import X", "from paynode.domain.b import X"),
    (floors.strangers, "paynode.embedded.a", "from paynode.domain.b import X", "from paynode import config"),
    (floors.strangers, "paynode.http.a", "from paynode.storage.b import X", "from paynode.runtime.b import X"),
    (floors.strangers, "paynode.http.a", "def f():\n  import paynode.actors.b", "import paynode.http.b"),
    (floors.strangers, "paynode.sim.a", "from paynode.domain.b import X", "from paynode.config import S"),
    (floors.strangers, "paynode.shop.a", "from paynode.psp.b import X", "from paynode.shop.b import X"),
    (floors.strangers, "paynode.cli.a", "from paynode.actors.b import X", "from paynode import __version__"),
    (floors.strangers, "paynode.app.a", "from paynode.cli.b import X", "from paynode.actors.b import X"),
    (floors.strangers, "paynode.attic.a", "", ""),
    (floors.libraries, "paynode.domain.a", "import anyio", "import re"),
    (floors.libraries, "paynode.runtime.a", "import orjson", "import anyio.abc"),
    (floors.libraries, "paynode.actors.a", "from redis import Redis", "from anyio import Event"),
    (floors.cycles, "paynode.domain.a", "from paynode.domain.b import X", "from paynode.domain.c import X"),
]


@pytest.mark.parametrize(("rule", "name", "wrong", "right"), MODULES)
def test_a_habit_or_purity_is_enforced(
    rule: Callable[[Module], Iterator[str]], name: str, wrong: str, right: str
) -> None:
    assert list(rule(Module(name, wrong))), "it must complain"
    better = name.replace(".utils", ".ledger") if rule is habits.names else name
    assert not list(rule(Module(better, right))), "and must not complain of this"


@pytest.mark.parametrize(("rule", "name", "wrong", "right"), HOUSES)
def test_a_floor_is_enforced(rule: Callable[[House], Iterator[str]], name: str, wrong: str, right: str) -> None:
    neighbours = [Module(f"paynode.{floor}.b", "import paynode.domain.a") for floor in floors.MAY_IMPORT if floor]
    bare = [Module(f"paynode.{floor}.b", "") for floor in floors.MAY_IMPORT if floor]
    others = neighbours if rule is floors.cycles else bare
    common = [Module("paynode", ""), Module("paynode.config", ""), Module("paynode.domain.c", "")]
    assert any(name in complaint for complaint in rule(house(*others, *common, Module(name, wrong))))
    if name != "paynode.attic.a":  # a floor without a place is wrong whatever it imports
        assert not list(rule(house(*others, *common, Module(name, right))))


def test_a_complaint_says_what_to_do_instead() -> None:
    (complaint,) = purity.fractions(Module("paynode.domain.fees", "fee = amount / 100"))
    assert complaint == "paynode.domain.fees:1 /: use // and say which way it rounds"


def test_every_rule_is_tried_here() -> None:
    tried = {rule for rule, *_ in MODULES} | {rule for rule, *_ in HOUSES}
    assert tried == {*habits.ALL, *purity.ALL, floors.strangers, floors.libraries, floors.cycles}
