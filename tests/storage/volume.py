"""Books as large as one likes, made by the database itself: for the plans of statements, and for what they take.

    python -m tests.storage.volume postgresql://owner@127.0.0.1/empty 10000000

migrates the empty database, writes so many ledger entries over six months, half of them one merchant's, with a fifth as
many payments, and prints what each statement takes (milliseconds: p50, p99). Times and numbers are as in real books;
hashes are not. On a server of its own: the log-in roles get other passwords.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import anyio
import asyncpg

from paynode import config
from paynode.storage.migrating import migrate
from paynode.storage.postgres import BY_INDEX, BY_KEY
from paynode.storage.queries import load
from tests.support.database import pointed_at

MERCHANTS = 1000
MONTHS = 6
# Of the payments of the merchant that has half of all, every so many are under review, and those are its oldest.
UNDER_REVIEW = 7

_FILL = Path(__file__).with_name("volume.sql").read_text("utf-8")
_TIMES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A statement with its arguments, as `places` names them. `planner`: as its pool has it."""

    file: str
    name: str
    arguments: str
    planner: str = "BY_INDEX"

    @property
    def statement(self) -> str:
        return load(self.file)[self.name]


_NOBODY = "'01890000-0000-7000-8000-00000000abcd'"
_PLANNERS = {"BY_INDEX": BY_INDEX, "BY_KEY": BY_KEY, "": {}}

# Every statement that a merchant's request or an event waits for, as it is asked in the worst case that we know.
HOT = (
    Asked(file="reading", name="read_payment", arguments="{payment}, {hot}"),
    Asked(file="reading", name="read_payments_by_id", arguments="{payments}"),
    Asked(file="reading", name="list_payments", arguments="{hot}, NULL, 21"),
    Asked(file="reading", name="list_payments", arguments="{hot}, {payment}, 21"),
    Asked(file="reading", name="list_status_payments", arguments="{hot}, NULL, 21, 'review'"),
    Asked(file="reading", name="list_status_payments", arguments="{hot}, {payment}, 21, 'captured'"),
    Asked(file="reading", name="list_status_payments", arguments="{hot}, NULL, 21, 'voided'"),
    Asked(file="reading", name="list_order_payments", arguments="{hot}, NULL, 21, {order}, NULL"),
    Asked(file="reading", name="read_operations_by_id", arguments="{operations}"),
    Asked(file="reading", name="list_refunds", arguments="{payment}, {hot}, NULL, 21"),
    Asked(file="reading", name="list_events", arguments="{payment}, 0, 21"),
    Asked(file="reading", name="list_wallets", arguments="{hot}"),
    Asked(file="reading", name="list_ledger", arguments="{hot}, NULL, NULL, NULL, 21"),
    Asked(file="reading", name="list_ledger", arguments="{hot}, {seq}, NULL, NULL, 21"),
    Asked(file="reading", name="list_ledger", arguments="{hot}, NULL, NULL, {middle}, 21"),
    Asked(file="reading", name="list_ledger", arguments="{hot}, NULL, {middle}, {middle}, 21"),
    Asked(file="reading", name="list_ledger", arguments="{hot}, NULL, '2001-01-01Z', '2001-02-01Z', 21"),
    Asked(file="reading", name="list_ledger", arguments="{hot}, NULL, '2099-01-01Z', NULL, 21"),
    Asked(file="reading", name="list_payment_ledger", arguments="{hot}, NULL, NULL, NULL, 21, {payment}"),
    Asked(file="shelf", name="find_verdicts", arguments=f"ARRAY[{_NOBODY}]::uuid[]", planner="BY_KEY"),
    Asked(file="shelf", name="find_payments", arguments="{payments}", planner="BY_KEY"),
    Asked(file="shelf", name="find_books", arguments="ARRAY[{hot}]::uuid[]", planner="BY_KEY"),
    Asked(file="callbacks", name="find_operations", arguments="{told}", planner="BY_KEY"),
    Asked(file="accepting", name="find_uses", arguments="{uses}", planner=""),
    Asked(file="accepting", name="read_answer", arguments="{hot}, '/v1/payments', {order}", planner=""),
    Asked(file="requesting", name="find_request", arguments="{hot}, '/v1/payments', {order}, ''", planner=""),
)


async def fill(owner: asyncpg.Connection[asyncpg.Record], entries: int) -> None:
    """Write so many ledger entries, and all that belongs to them, into a migrated database with nothing in it."""
    for step in _FILL.split("\n-- then\n"):
        await owner.execute(
            step.replace("{entries}", str(entries))
            .replace("{merchants}", str(MERCHANTS))
            .replace("{months}", str(MONTHS))
            .replace("{review}", str(UNDER_REVIEW))
        )


async def places(owner: asyncpg.Connection[asyncpg.Record]) -> dict[str, str]:
    """What the arguments of the statements name, as literals: the merchant with half of everything, and payments, an
    order, a number and an instant from the middle of its books."""
    hot = await owner.fetchval("SELECT id FROM merchants WHERE name = 'hot'")
    rows = await owner.fetch(
        """SELECT p.id, p.order_id, o.id AS operation_id FROM payments AS p
        INNER JOIN operations AS o ON o.payment_id = p.id
        WHERE p.merchant_id = $1 AND p.id > uuid7_floor(clock_timestamp() - $2 * interval '15 days')
        ORDER BY p.id LIMIT 21""",
        hot,
        MONTHS,
    )
    payment = rows[0]
    entry = await owner.fetchrow("SELECT seq, at FROM ledger_entries WHERE payment_id = $1 LIMIT 1", payment["id"])
    assert entry is not None
    use = {"n": 1, "merchant_id": str(hot), "path": "/v1/payments", "key": "x", "order_id": payment["order_id"]}
    told = [{"n": n, "id": str(row["operation_id"]), "psp": "other", "kinds": ["sale"]} for n, row in enumerate(rows)]
    return {
        "hot": f"'{hot}'",
        "payment": f"'{payment['id']}'",
        "order": f"'{payment['order_id']}'",
        "payments": f"ARRAY[{', '.join(repr(str(row['id'])) for row in rows)}]::uuid[]",
        "operations": f"ARRAY[{', '.join(repr(str(row['operation_id'])) for row in rows)}]::uuid[]",
        "seq": str(entry["seq"]),
        "middle": f"'{entry['at'].isoformat()}'",
        "uses": f"'{json.dumps([use])}'",
        "told": f"'{json.dumps(told)}'",
    }


async def prepare(owner: asyncpg.Connection[asyncpg.Record], asked: Asked, named: dict[str, str]) -> str:
    """PREPARE it as it will be after its first five uses, when the plan may not know the values; what executes it."""
    await owner.execute("RESET ALL")
    for setting, value in _PLANNERS[asked.planner].items():
        await owner.execute(f"SET {setting} = {value}")
    await owner.execute("SET plan_cache_mode = force_generic_plan")
    await owner.execute("DEALLOCATE ALL")
    await owner.execute(f"PREPARE asked AS {asked.statement}")
    return f"EXECUTE asked ({asked.arguments.format_map(named)})"


async def measure(owner: asyncpg.Connection[asyncpg.Record], asked: Asked, named: dict[str, str]) -> Sequence[float]:
    """Milliseconds of each of many times, the way to the server and back included."""
    execute, took = await prepare(owner, asked, named), []
    for _ in range(_TIMES):
        began = time.perf_counter()
        await owner.execute(execute)
        took.append((time.perf_counter() - began) * 1000)
    return took


async def main(url: str, entries: int) -> None:
    """Fill, measure, print."""
    with TemporaryDirectory() as home:
        await migrate(pointed_at(config.load(), url, Path(home)))
    owner = await asyncpg.connect(url, statement_cache_size=0)
    began = time.perf_counter()
    await fill(owner, entries)
    print(f"{entries} entries in {time.perf_counter() - began:.0f} s")
    named = await places(owner)
    for asked in HOT:
        took = await measure(owner, asked, named)
        median, last = quantiles(took, n=100)[49], quantiles(took, n=100)[98]
        print(f"{asked.name:24} {median:8.2f} {last:8.2f}  {asked.arguments[:60]}")
    await owner.close()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]))
