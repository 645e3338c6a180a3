"""Each process may do what it does, and nothing else: asked of the server, logged in as the role."""

from __future__ import annotations

import asyncpg
import pytest

from paynode.config import Settings
from paynode.storage.logins import LOGIN_ROLES, Role
from paynode.storage.postgres import session

_READ = frozenset({"SELECT"})
_ADD = frozenset({"SELECT", "INSERT"})
_WRITE = frozenset({"SELECT", "INSERT", "UPDATE"})
_KEEP = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})

# What is not here a role may not touch at all.
_RIGHTS: dict[Role, dict[str, frozenset[str]]] = {
    Role.INGRESS: {
        "merchants": _READ,
        "api_keys": _READ,
        "payments": _ADD,
        "operations": _ADD,
        "payment_events": _ADD,
        "inbox": _ADD,
        "idempotency_keys": _WRITE,
        "outbox": _ADD,
        "requests": _ADD,
        "merchant_terms": _READ,
    },
    Role.GATEWAY: {
        "psp_attempts": _WRITE,
        "inbox": _WRITE,
        "operations": _READ,
        "outbox": _KEEP,
        "leases": _WRITE,
        "gateways": _KEEP,
        "breaker_orders": _READ,
        "suspects": _KEEP,
        "dead_letters": _ADD,
        "screenings": _ADD,
        "fraud_exposure": _WRITE,
        "probes": _WRITE,
    },
    Role.COMMITTER: {
        "merchants": _READ,
        "payments": frozenset({"SELECT", "UPDATE"}),
        "operations": _WRITE,
        "requests": frozenset({"SELECT", "UPDATE"}),
        "evidence": _ADD,
        "payment_events": _ADD,
        "ledger_entries": _ADD,
        "wallet_adjustments": _ADD,
        "wallets": _WRITE,
        "ledger_heads": _WRITE,
        "dead_letters": _ADD,
        "outbox": frozenset({"SELECT", "INSERT", "DELETE"}),
        "partitions": frozenset({"SELECT", "UPDATE"}),
        "workers": _KEEP,
        "publishers": _READ,
        "audit_log": _READ,
        "applied_events": _ADD,
        "parked": _ADD,
        "suspects": _KEEP,
        "merchant_terms": _READ,
        "payouts": _WRITE,
    },
    Role.READER: dict.fromkeys(
        (
            "merchants",
            "payments",
            "operations",
            "probes",
            "requests",
            "evidence",
            "payment_events",
            "outbox",
            "psp_attempts",
            "partitions",
            "workers",
            "leases",
            "gateways",
            "breaker_orders",
            "dead_letters",
            "ledger_entries",
            "ledger_heads",
            "wallets",
            "wallet_adjustments",
            "applied_events",
            "parked",
            "suspects",
            "audit_log",
            "screenings",
            "fraud_exposure",
            "merchant_terms",
            "payouts",
        ),
        _READ,
    ),
}

_ASK = """
SELECT c.relname AS name, array_agg(p.privilege) AS rights
FROM pg_class AS c
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
    AS p (privilege)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'S', 'v')
    AND CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(c.oid, 'USAGE')
        ELSE has_table_privilege(c.oid, p.privilege) END
GROUP BY c.relname
"""


@pytest.mark.parametrize("role", LOGIN_ROLES)
async def test_a_role_has_exactly_the_rights_of_its_process(untouched: Settings, role: Role) -> None:
    async with session(untouched, role, application_name="test") as connection:
        assert await connection.fetchval("SELECT session_user") == role.login
        found = {row["name"]: frozenset(row["rights"]) for row in await connection.fetch(_ASK)}
    assert found == _RIGHTS[role]


@pytest.mark.parametrize("role", LOGIN_ROLES)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_entries SET amount = 1",
        "DELETE FROM ledger_entries",
        "TRUNCATE ledger_entries",
        "DELETE FROM ledger_entries_default",
        "TRUNCATE ledger_entries_default",
        "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
        "DELETE FROM wallet_adjustments",
        "DELETE FROM evidence",
        "DELETE FROM wallets",
        "DELETE FROM payments",
        "CREATE TABLE mine (a integer)",
        "CREATE SCHEMA mine",
        "SET ROLE pg_write_all_data",
        "SELECT make_ledger_partition('2099-01-01')",
    ],
)
async def test_no_process_can_undo_the_books(untouched: Settings, role: Role, statement: str) -> None:
    async with session(untouched, role, application_name="test") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


@pytest.mark.parametrize("role", [Role.INGRESS, Role.GATEWAY])
@pytest.mark.parametrize("table", ["ledger_entries", "wallets", "wallet_adjustments", "partitions"])
async def test_who_talks_to_the_outside_does_not_even_see_money(untouched: Settings, role: Role, table: str) -> None:
    async with session(untouched, role, application_name="test") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"SELECT 1 FROM {table}")
