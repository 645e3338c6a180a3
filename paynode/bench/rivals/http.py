"""Two servers to measure the ingress by, processes of their own: `python -m paynode.bench.rivals.http KIND PORT DSN`.

`noop` answers JSON and does nothing else. `transaction` is what a good engineer writes first: a validated body, the API
key, and in one transaction for each request the idempotency key, the payment and its outbox row.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Annotated, Final, Literal

import asyncpg
import orjson
import uuid_utils
import uvloop
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paynode.storage.postgres import Pool

# As many as make the machine busy; more only wait inside PostgreSQL.
_CONNECTIONS: Final = 16
SCHEMA: Final = """
CREATE TABLE rivals.api_keys (digest bytea PRIMARY KEY, merchant_id uuid NOT NULL);
CREATE TABLE rivals.requests (
    merchant_id uuid, key text, fingerprint bytea NOT NULL, payment_id uuid NOT NULL, PRIMARY KEY (merchant_id, key)
);
CREATE TABLE rivals.payments (
    id uuid PRIMARY KEY, merchant_id uuid NOT NULL, order_id text NOT NULL, amount bigint NOT NULL,
    currency text NOT NULL, method jsonb NOT NULL, status text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(), UNIQUE (merchant_id, order_id)
);
CREATE TABLE rivals.outbox (id uuid PRIMARY KEY, payment_id uuid NOT NULL, body jsonb NOT NULL);
"""
_FIND_KEY: Final = "SELECT merchant_id::text FROM rivals.api_keys WHERE digest = $1"
_INSERT_KEY: Final = "INSERT INTO rivals.requests VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING key"
_INSERT_PAYMENT: Final = "INSERT INTO rivals.payments VALUES ($1, $2, $3, $4, $5, $6, 'processing')"
_INSERT_OUTBOX: Final = "INSERT INTO rivals.outbox VALUES ($1, $2, $3)"

_POOL: Final = web.AppKey("pool", Pool)


class Method(BaseModel):
    """How it is paid."""

    model_config = ConfigDict(extra="forbid", strict=True)
    type: Literal["token"]
    token: Annotated[str, Field(max_length=200)]


class Checkout(BaseModel):
    """What a shop sends."""

    model_config = ConfigDict(extra="forbid", strict=True)
    order_id: Annotated[str, Field(max_length=100)]
    amount: Annotated[int, Field(ge=1, le=10**12)]
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    method: Method


async def _noop(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response({"status": "ok"})


async def _accept(request: web.Request) -> web.Response:
    raw = await request.read()
    try:
        checkout = Checkout.model_validate_json(raw)
    except ValidationError as error:
        raise web.HTTPUnprocessableEntity(text=error.json()) from error
    digest = sha256(request.headers["Authorization"].removeprefix("Bearer ").encode()).digest()
    payment_id = str(uuid_utils.uuid7())
    async with request.app[_POOL].acquire() as session, session.transaction():
        merchant_id = await session.fetchval(_FIND_KEY, digest)
        if merchant_id is None:
            raise web.HTTPUnauthorized
        key, fingerprint = request.headers["Idempotency-Key"], sha256(raw).digest()
        if await session.fetchval(_INSERT_KEY, merchant_id, key, fingerprint, payment_id) is None:
            raise web.HTTPConflict
        method = checkout.method.model_dump_json()
        await session.execute(
            _INSERT_PAYMENT, payment_id, merchant_id, checkout.order_id, checkout.amount, checkout.currency, method
        )
        await session.execute(_INSERT_OUTBOX, str(uuid_utils.uuid7()), payment_id, raw.decode())
    body = {"id": payment_id, "status": "processing", **checkout.model_dump()}
    return web.Response(status=201, body=orjson.dumps(body), content_type="application/json")


async def _make(kind: str, dsn: str) -> web.Application:
    app = web.Application()
    if kind == "noop":
        app.router.add_post("/v1/payments", _noop)
        return app

    async def connected(app: web.Application) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=_CONNECTIONS, max_size=_CONNECTIONS) as pool:
            app[_POOL] = pool
            yield

    app.cleanup_ctx.append(connected)
    app.router.add_post("/v1/payments", _accept)
    return app


def main(kind: str, port: str, dsn: str) -> None:
    """Serve until a signal."""
    loop = uvloop.new_event_loop()
    web.run_app(_make(kind, dsn), host="127.0.0.1", port=int(port), print=None, access_log=None, loop=loop)


if __name__ == "__main__":
    main(*sys.argv[1:])
