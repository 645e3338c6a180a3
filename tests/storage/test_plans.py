"""What a request or an event waits for reads as many rows of large books as of small ones.

As large as the machine of a test bears; by hand as large as one likes: see `volume`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg
import orjson
import pytest

from paynode.embedded.servers import Running
from paynode.storage.postgres import BY_KEY
from paynode.storage.queries import load
from tests.storage.volume import HOT, MONTHS, Asked, fill, places, prepare
from tests.support import database as databases

ENTRIES = 200_000
# Rows that one statement may touch for a page of 21, and for 21 payments with their operations and evidence: of each
# partition of the ledger there may be one that is not needed.
ROWS_MAX = 250
# The statements of the way of a payment, and tables of it that grow without end or to the length of a backlog.
BY_KEYS = (
    "accepting",
    "attempts",
    "callbacks",
    "commands",
    "outbox",
    "point_of_sale",
    "requesting",
    "screening",
    "shelf",
)
GROWING = (
    "payments|operations|outbox|inbox|evidence|psp_attempts|requests|idempotency_keys|applied_events|ledger_entries"
)

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class Books:
    """Large books, and what the statements ask for in them."""

    owner: Owner
    named: dict[str, str]


@pytest.fixture(scope="module")
async def books(servers: Running, template: str) -> AsyncIterator[Books]:
    url = await databases.clone(servers.database_url, template)
    owner = await asyncpg.connect(url, statement_cache_size=0)
    await fill(owner, ENTRIES)
    yield Books(owner, await places(owner))
    await owner.close()
    await databases.drop(url)


@pytest.fixture(scope="module")
async def bare(servers: Running, template: str) -> AsyncIterator[Owner]:
    """A new database, asked as sessions ask it whose rows are found by keys."""
    url = await databases.clone(servers.database_url, template)
    owner = await asyncpg.connect(url, statement_cache_size=0, server_settings=dict(BY_KEY))
    yield owner
    await owner.close()
    await databases.drop(url)


@pytest.mark.parametrize("asked", HOT, ids=lambda asked: f"{asked.name}({asked.arguments})")
async def test_a_statement_reads_a_bounded_number_of_rows_by_an_index(books: Books, asked: Asked) -> None:
    execute = await prepare(books.owner, asked, books.named)
    found = await books.owner.fetchval(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {execute}")
    [plan] = orjson.loads(found)
    nodes = list(_nodes(plan["Plan"]))
    told = "\n".join(_told(node) for node in nodes)
    assert not any(node["Node Type"] == "Seq Scan" for node in nodes), told
    assert sum(_rows(node) for node in nodes) <= ROWS_MAX, told


@pytest.mark.parametrize("file", BY_KEYS)
async def test_a_database_that_was_never_analysed_makes_no_statement_read_a_table(bare: Owner, file: str) -> None:
    """PostgreSQL takes a table that it does not know for a small one, and keeps its plan while the table grows."""
    found = {}
    for name, statement in load(file).items():
        # As all of BY_KEY's sessions do: the plan is made once, whatever the values.
        count = max((int(one) for one in re.findall(r"\$(\d+)", statement)), default=0)
        await bare.execute("DEALLOCATE ALL")
        await bare.execute(f"PREPARE asked AS {statement}")
        execute = f"EXECUTE asked ({', '.join(['NULL'] * count)})" if count else "EXECUTE asked"
        lines = [row[0].strip() for row in await bare.fetch(f"EXPLAIN {execute}")]
        found[name] = [line for line in lines if re.search(rf"Seq Scan on ({GROWING})|hashed SubPlan", line)]
    assert found
    assert not {name: lines for name, lines in found.items() if lines}


async def test_the_books_are_as_large_as_they_should_be(books: Books) -> None:
    """Else nothing is shown above: an index over nothing is always fast."""
    counts = {
        table: await books.owner.fetchval(f"SELECT count(*) FROM {table}")
        for table in ("ledger_entries", "payments", "operations", "evidence", "payment_events", "idempotency_keys")
    }
    payments = ENTRIES // 5
    assert counts == {
        "ledger_entries": ENTRIES,
        "payments": payments,
        "operations": payments,
        "evidence": payments,
        "payment_events": 2 * payments,
        "idempotency_keys": payments,
    }
    sizes = await books.owner.fetch("SELECT tableoid::regclass::text, count(*) FROM ledger_entries GROUP BY 1")
    assert len(sizes) >= MONTHS
    assert await books.owner.fetchval("SELECT count(*) FROM ledger_entries_default") == 0


async def test_a_time_is_turned_into_the_number_before_it(books: Books) -> None:
    """Looked up by halving, against all entries counted."""
    hot = books.named["hot"]
    rows = await books.owner.fetch(
        f"""SELECT ledger_seq_before({hot}, at) AS found, seq - 1 AS last FROM ledger_entries
        WHERE merchant_id = {hot} AND line = 1 AND seq % 9973 = 0
        UNION ALL SELECT ledger_seq_before({hot}, '2001-01-01Z'), 0
        UNION ALL SELECT ledger_seq_before({hot}, '2099-01-01Z'), {ENTRIES // 2}
        UNION ALL SELECT ledger_seq_before(gen_random_uuid(), '2099-01-01Z'), 0"""
    )
    assert len(rows) > 8
    # Entries of one millisecond have one time: none of them is before it.
    assert all(row["last"] - 1 <= row["found"] <= row["last"] for row in rows)


def _told(node: dict[str, Any]) -> str:
    about = (node.get(name) for name in ("Relation Name", "Index Name", "Index Cond", "Filter"))
    return f"{node['Node Type']} {_rows(node):g} rows: {', '.join(one for one in about if one)}"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


def _rows(node: dict[str, Any]) -> float:
    """What a scan of a table or of an index has touched, thrown away or not."""
    if re.search(r"Scan$", node["Node Type"]) is None or "Function Scan" in node["Node Type"]:
        return 0
    each = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float(each * node["Actual Loops"])
