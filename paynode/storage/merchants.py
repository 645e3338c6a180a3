"""Merchants and their API keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg
from uuid_utils import uuid7

from paynode.domain.money import FeePlan
from paynode.domain.terms import Availability, Terms
from paynode.storage.apikeys import ApiKey, new_key, prefix_of, verify
from paynode.storage.postgres import Connection, translated
from paynode.storage.queries import load

__all__ = [
    "Announced",
    "Caller",
    "Created",
    "Merchant",
    "announce",
    "create",
    "create_key",
    "create_many",
    "find_keys",
    "list_all",
    "prefix_of",
    "revoke_key",
    "terms_of",
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
    """Who a key speaks for. Nothing is proved until `verify` says so."""

    merchant_id: str
    secret_sha256: bytes
    psps: tuple[str, ...]
    is_revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Merchant:
    """A merchant as the operator sees it: its terms of today, the `prefixes` of the keys that work."""

    id: str
    name: str
    terms: Terms
    psps: tuple[str, ...]
    prefixes: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """Terms, and since when they are in force."""

    effective_from: datetime
    terms: Terms


async def create(
    connection: Connection, name: str, *, terms: Terms, psps: Sequence[str], if_absent: bool = False
) -> Created:
    """A new merchant with one key; with `if_absent` the one of that name when there is one."""
    with translated():
        async with connection.transaction():
            if if_absent:
                await connection.execute(_QUERIES["lock_name"], name)
                known = await connection.fetchval(_QUERIES["find_named"], name)
                if known is not None:
                    return Created(id=known, name=name, api_key=None)
            (created,) = await create_many(connection, [name], terms=terms, psps=psps)
            return created


async def create_many(
    connection: Connection, names: Sequence[str], *, terms: Terms, psps: Sequence[str]
) -> tuple[Created, ...]:
    """New merchants on the same terms, each with one key, in two statements."""
    merchants = [str(uuid7()) for _ in names]
    keys = [new_key() for _ in names]
    with translated():
        async with connection.transaction():
            await connection.execute(_QUERIES["insert_merchants"], merchants, names, list(psps), *_columns(terms))
            await _insert_keys(connection, merchants, keys)
    return tuple(
        Created(id=merchant, name=name, api_key=key.text)
        for merchant, name, key in zip(merchants, names, keys, strict=True)
    )


async def announce(connection: Connection, merchant_id: str, terms: Terms, effective_from: datetime) -> bool:
    """Other terms for what is accepted from then on; False when there is no such merchant.

    Raises: asyncpg.CheckViolationError when that instant has passed.
    """
    with translated():
        if await connection.fetchval(_QUERIES["find_merchant"], merchant_id) is None:
            return False
        await connection.execute(_QUERIES["insert_terms"], str(uuid7()), merchant_id, effective_from, *_columns(terms))
    return True


async def terms_of(connection: Connection, merchant_id: str) -> tuple[Announced, ...]:
    """All terms of a merchant, the first ones foremost; none when there is no such merchant."""
    with translated():
        rows = await connection.fetch(_QUERIES["list_terms"], merchant_id)
    return tuple(Announced(effective_from=row["effective_from"], terms=_terms(row)) for row in rows)


def _columns(terms: Terms) -> tuple[object, ...]:
    return (
        terms.fees.fixed, terms.fees.basis_points, terms.reserve_basis_points, terms.reserve_days,
        terms.availability, terms.available_days,
    )  # fmt: skip


def _terms(row: asyncpg.Record) -> Terms:
    return Terms(
        fees=FeePlan(fixed=row["fee_fixed"], basis_points=row["fee_basis_points"]),
        reserve_basis_points=row["reserve_basis_points"],
        reserve_days=row["reserve_days"],
        availability=Availability(row["availability"]),
        available_days=row["available_days"],
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
            terms=_terms(row),
            psps=tuple(row["psps"]),
            prefixes=tuple(row["prefixes"]),
            created_at=row["created_at"],
        )
        for row in rows
    )
