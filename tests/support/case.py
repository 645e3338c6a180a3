"""What is laid before the laws: H, D, S, the streams, the logs and the processes, each as it was found."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import redis.asyncio as redis

from paynode.app.parts import now_ms
from paynode.app.reconciling import looking_once
from paynode.domain.reconciling import BreakKind
from paynode.domain.road import GATEWAY_GROUP, commands_stream, events_stream, lanes
from paynode.storage.invariants import check
from paynode.storage.postgres import Role, session
from paynode.streams.client import commands_client
from tests.support.history import Asked
from tests.support.installation import Installation

Row: TypeAlias = Mapping[str, Any]

_TABLES: Final = {
    "payments": "SELECT id::text, merchant_id::text, idempotency_key AS key, amount, currency, status, version, "
    "amount_authorized, amount_captured, amount_refunded FROM payments",
    "operations": "SELECT id::text, payment_id::text, amount, state FROM operations",
    "attempts": "SELECT operation_id::text, sends, outcome FROM psp_attempts",
    "evidence": "SELECT id::text, payment_id::text, operation_id::text, outcome, source, psp_reference FROM evidence",
    "events": "SELECT payment_id::text, version, type FROM payment_events ORDER BY payment_id, version",
    "ledger": "SELECT id::text, line, merchant_id::text, seq, payment_id::text, operation_id::text, type, "
    "debit_account AS debit, credit_account AS credit, amount, currency, epoch, prev_hash, hash "
    "FROM ledger_entries ORDER BY merchant_id, seq",
    "adjustments": "SELECT merchant_id::text, currency, d_pending, d_available, d_reserve, d_held "
    "FROM wallet_adjustments",
    "wallets": "SELECT merchant_id::text, currency, pending, available, reserve, held, balance FROM wallets",
    "keys": "SELECT merchant_id::text, key, payment_id::text, response_status, response_body FROM idempotency_keys",
    "outbox": "SELECT id::text, type, stream FROM outbox",
    "letters": "SELECT stream, reason, entry_id FROM dead_letters WHERE status = 'dead'",
    "partitions": "SELECT partition, owner, epoch FROM partitions",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """What is left on a stream: its entries, and those of them that are not acknowledged, or not even delivered.

    More entries than those wait on a partition's stream for the next one to be trimmed; on a PSP's they were skipped.
    """

    length: int
    waiting: int = 0
    consumers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a process holds."""

    verb: str
    memory_kb: int
    descriptors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All of it. What nobody looked at is empty or None, and the laws about it have nothing to say."""

    payments: Sequence[Row] = ()
    operations: Sequence[Row] = ()
    attempts: Sequence[Row] = ()
    evidence: Sequence[Row] = ()
    events: Sequence[Row] = ()
    ledger: Sequence[Row] = ()
    adjustments: Sequence[Row] = ()
    wallets: Sequence[Row] = ()
    keys: Sequence[Row] = ()
    outbox: Sequence[Row] = ()
    letters: Sequence[Row] = ()
    partitions: Sequence[Row] = ()
    book: Sequence[Row] = ()
    asked: Sequence[Asked] = ()
    streams: Mapping[str, Stream] = field(default_factory=dict)
    findings: Sequence[str] = ()
    differences: Sequence[str] = ()
    poison: Counter[tuple[str, str]] = field(default_factory=Counter)
    reviewed: frozenset[str] = frozenset()
    logs: Mapping[str, str] = field(default_factory=dict)
    secrets: frozenset[str] = frozenset()
    psp_calls: int | None = None
    redelivered: int | None = None
    gateways: int | None = None
    before: Sequence[Usage] = ()
    after: Sequence[Usage] = ()

    def by_key(self) -> Mapping[tuple[str, str], Sequence[Row]]:
        """Payments by merchant and key."""
        found: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in self.payments:
            found[row["merchant_id"], row["key"]].append(row)
        return found


async def gather(installation: Installation) -> Case:
    """What the database, the book and the streams say now; the tables in one snapshot."""
    tables: dict[str, Sequence[Row]] = {}
    async with (
        session(installation.settings, Role.OWNER, application_name="test", statement_timeout_ms=0) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        for name, query in _TABLES.items():
            tables[name] = [dict(row) for row in await connection.fetch(query)]
    async with session(
        installation.settings, Role.READER, application_name="test", statement_timeout_ms=0
    ) as connection:
        findings = [f"{one}" for one in await check(connection, due_max_s=60) if one.breaches.total]
    return replace(
        Case(**tables),  # type: ignore[arg-type]  # by name: every table is a field of its own
        book=await installation.book(),
        streams=await streams_of(installation),
        findings=findings,
        differences=await differences_of(installation),
    )


async def differences_of(installation: Installation) -> list[str]:
    """What reconciliation finds, of all areas and from the beginning; nothing is under way any more."""
    psp = installation.settings.psp["sim"].model_copy(update={"settle_s": 0.001})
    settings = installation.settings.model_copy(update={"psp": {"sim": psp}})
    async with looking_once(settings) as looks:
        reports = (
            await looks.at_wallets(is_full=True, is_dry=True),
            await looks.at_payments(None, now_ms(), is_dry=True),
            await looks.at_report("sim", None, None, is_dry=True),
        )
    # Of reviews the laws of payments speak.
    found = (one for report in reports for one in report.found if one.kind is not BreakKind.IN_REVIEW)
    return [f"{one.kind} {one.subject} {one.drift}" for one in found]


async def streams_of(installation: Installation) -> Mapping[str, Stream]:
    """What is left on the streams that there are."""
    partitions = range(installation.settings.streams.partitions)
    streams = [*map(events_stream, partitions), commands_stream("sim")]
    async with commands_client(installation.settings) as road:  # by whatever kind of URL
        return {lane: await _stream(road, lane) for name in streams for lane in lanes(name) if await road.exists(lane)}


async def _stream(road: redis.Redis, name: str) -> Stream:
    groups: Any = await road.xinfo_groups(name)
    waiting = 0
    for group in groups:
        undelivered = await road.xrange(name, min=b"(" + group["last-delivered-id"], count=1000)
        waiting += group["pending"] + len(undelivered or ())
    return Stream(
        length=int(await road.xlen(name)),
        waiting=waiting,
        consumers=sum(group["consumers"] for group in groups if group["name"] == GATEWAY_GROUP.encode()),
    )


def logs_of(installation: Installation) -> Mapping[str, str]:
    """What every process has written, by the name of its log."""
    return {one.log.name: one.log.read_text(errors="replace") for one in installation.processes if one.log.exists()}


def usage_of(processes: Iterable[tuple[str, int]]) -> list[Usage]:
    """What the processes hold that still run, given as verb and number."""
    found = []
    for verb, pid in processes:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            continue
        memory_kb = int(status.partition("VmRSS:")[2].split()[0])
        found.append(Usage(verb=verb, memory_kb=memory_kb, descriptors=descriptors))
    return found


def has_more_to_tell(installation: Installation) -> bool:
    """Whether the PSP has a callback in hand: it may come late, and be tried again."""
    book = Path(installation.environment["PAYNODE_SIM__BOOK"])
    told = book.with_name("callbacks.ndjson").read_text().count("\n")
    return told < book.read_text().count("\n")
