"""Merchants and their API keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
from uuid_utils import uuid7

from paynode.domain.money import FeePlan
from paynode.storage.apikeys import ApiKey, new_key, prefix_of, verify
from paynode.storage.postgres import Connection, translated
from paynode.storage.queries import load

__all__ = [
    "Caller",
    "Created",
    "Merchant",
    "create",
    "create_key",
    "create_many",
    "find_keys",
    "list_all",
    "prefix_of",
    "revoke_key",
    "verify",
]

_QUERIES: Final = load("merchants")


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A merchant with its key; `api_key` is None when the merchant was there already, for only its hash was kept."""

    id: str
    name: str
    api_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who a key speaks for, and on which terms. Nothing is proved until `verify` says so."""

    merchant_id: str
    secret_sha256: bytes
    fees: FeePlan
    psps: tuple[str, ...]
    is_revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Merchant:
    """A merchant as the operator sees it; `prefixes` are of the keys that work."""

    id: str
    name: str
    fees: FeePlan
    psps: tuple[str, ...]
    prefixes: tuple[str, ...]
    created_at: datetime


async def create(
    connection: Connection, name: str, *, fees: FeePlan, psps: Sequence[str], if_absent: bool = False
) -> Created:
    """A new merchant with one key; with `if_absent` the one of that name when there is one."""
    with translated():
        async with connection.transaction():
            if if_absent:
                await connection.execute(_QUERIES["lock_name"], name)
                known = await connection.fetchval(_QUERIES["find_named"], name)
                if known is not None:
                    return Created(id=known, name=name, api_key=None)
            (created,) = await create_many(connection, [name], fees=fees, psps=psps)
            return created


async def create_many(
    connection: Connection, names: Sequence[str], *, fees: FeePlan, psps: Sequence[str]
) -> tuple[Created, ...]:
    """New merchants on the same terms, each with one key, in two statements."""
    merchants = [str(uuid7()) for _ in names]
    keys = [new_key() for _ in names]
    with translated():
        async with connection.transaction():
            await connection.execute(
                _QUERIES["insert_merchants"], merchants, names, fees.fixed, fees.basis_points, list(psps)
            )
            await _insert_keys(connection, merchants, keys)
    return tuple(
        Created(id=merchant, name=name, api_key=key.text)
        for merchant, name, key in zip(merchants, names, keys, strict=True)
    )


async def create_key(connection: Connection, merchant_id: str) -> ApiKey | None:
    """Another key of a merchant; None when there is no such merchant."""
    key = new_key()
    with translated():
        if await connection.fetchval(_QUERIES["find_merchant"], merchant_id) is None:
            return None
        await _insert_keys(connection, [merchant_id], [key])
    return key


async def _insert_keys(connection: Connection, merchants: Sequence[str], keys: Sequence[ApiKey]) -> None:
    await connection.execute(
        _QUERIES["insert_keys"],
        [str(uuid7()) for _ in keys],
        merchants,
        [key.prefix for key in keys],
        [key.secret_sha256 for key in keys],
    )


async def revoke_key(connection: Connection, prefix: str) -> str | None:
    """End a key: the id of the merchant it spoke for, also when it had ended before; None for an unknown prefix."""
    with translated():
        merchant: str | None = await connection.fetchval(_QUERIES["revoke_key"], prefix)
    return merchant


async def find_keys(connection: Connection, prefixes: Sequence[str]) -> Mapping[str, Caller]:
    """The callers behind the prefixes of keys (`prefix_of`), by prefix; each is to be proved with `verify`."""
    with translated():
        rows = await connection.fetch(_QUERIES["find_keys"], prefixes)
    return {row["prefix"]: _caller(row) for row in rows}


def _caller(row: asyncpg.Record) -> Caller:
    return Caller(
        merchant_id=row["merchant_id"],
        secret_sha256=row["secret_sha256"],
        fees=FeePlan(fixed=row["fee_fixed"], basis_points=row["fee_basis_points"]),
        psps=tuple(row["psps"]),
        is_revoked=row["is_revoked"],
    )


async def list_all(connection: Connection) -> tuple[Merchant, ...]:
    """All merchants, the eldest first."""
    with translated():
        rows = await connection.fetch(_QUERIES["list_merchants"])
    return tuple(
        Merchant(
            id=row["id"],
            name=row["name"],
            fees=FeePlan(fixed=row["fee_fixed"], basis_points=row["fee_basis_points"]),
            psps=tuple(row["psps"]),
            prefixes=tuple(row["prefixes"]),
            created_at=row["created_at"],
        )
        for row in rows
    )
