"""Accepted payments and the keys that brought them, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg
import orjson

from paynode.domain.accepting import Abandoned, Accepted, KeyUse, NewPayment, StoredAnswer, Verdict
from paynode.domain.errors import (
    Conflict,
    IdempotencyKeyInFlight,
    IdempotencyKeyReused,
    OrderHasOpenPayment,
    PaynodeError,
    Poison,
)
from paynode.domain.payment import Method
from paynode.storage.bodies import encode_order
from paynode.storage.postgres import Connection, Pool, borrowed, confirm
from paynode.storage.queries import load

_SQL: Final = load("accepting")


class PgAccepting:
    """Writes as the ingress's role, which may insert what it accepts and may not touch money."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def accept(self, group: Sequence[NewPayment]) -> frozenset[str]:
        """Commit the payments whose key and order slot are free; gives their ids.

        Raises: Unavailable (whether it was committed is not known), Conflict (it was not), Poison (the database
        refuses one of them; nothing was committed).
        """
        asked = orjson.dumps([_row(payment) for payment in group]).decode()
        async with borrowed(self._pool) as connection:
            return frozenset(row["id"] for row in await _fetch(connection, "accept_group", asked))

    async def find(self, group: Sequence[NewPayment]) -> Sequence[Verdict | None]:
        """What is known about each one's key, else about its order; None when neither is taken.

        Whoever committed it may not know it himself: what is found is confirmed before anybody hears of it.

        Raises: Unavailable.
        """
        asked = orjson.dumps(
            [_use(payment.use) | {"n": n, "order_id": payment.view.order_id} for n, payment in enumerate(group)]
        ).decode()
        async with borrowed(self._pool) as connection:
            rows = await _fetch(connection, "find_uses", asked)
            await confirm(connection)
        return [_verdict(payment, row) for payment, row in zip(group, rows, strict=True)]

    async def adopt(self, use: KeyUse, *, in_flight_s: float) -> bool:
        """Go on with an abandoned request; False when another retry does.

        Raises: Unavailable.
        """
        async with borrowed(self._pool) as connection:
            return bool(await _fetch(connection, "adopt_payment", *_name(use), in_flight_s))

    async def store(self, use: KeyUse, answer: StoredAnswer) -> StoredAnswer | None:
        """Keep the answer for every retry; the one that was faster, if any was.

        Raises: Unavailable (it may have been stored), Conflict.
        """
        headers = orjson.dumps(dict(answer.headers)).decode()
        async with borrowed(self._pool) as connection:
            if await _fetch(connection, "store_answer", *_name(use), answer.status, headers, answer.body):
                return None
            rows = await _fetch(connection, "read_answer", *_name(use))
            await confirm(connection)
        if not rows:
            raise Conflict("the key is gone")
        return _stored(rows[0])

    async def release(self, use: KeyUse) -> None:
        """Let the next retry go on at once.

        Raises: Unavailable.
        """
        async with borrowed(self._pool) as connection:
            await _fetch(connection, "release_key", *_name(use))


async def _fetch(connection: Connection, statement: str, *arguments: object) -> list[asyncpg.Record]:
    try:
        return await connection.fetch(_SQL[statement], *arguments)
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
        if isinstance(error, asyncpg.UniqueViolationError):
            raise  # somebody else was faster: a conflict, not a flaw
        # A CHECK, a foreign key, a value no column takes. The server's message quotes values: only the kind goes on.
        raise Poison("refused_by_database", f"{type(error).__name__} ({error.sqlstate})") from error


def _name(use: KeyUse) -> tuple[str, str, str]:
    return use.merchant_id, use.path, use.key


def _use(use: KeyUse) -> dict[str, object]:
    return {
        "merchant_id": use.merchant_id,
        "path": use.path,
        "key": use.key,
        "fingerprint": use.fingerprint.hex(),
    }


def _row(payment: NewPayment) -> dict[str, object]:
    view, order, answer = payment.view, payment.order, payment.answer
    return _use(payment.use) | {
        "id": view.id,
        "order_id": view.order_id,
        "amount": view.money.amount,
        "currency": view.money.currency,
        "capture": view.capture,
        "method": _method(payment),
        "customer": payment.customer,
        "description": payment.description,
        "metadata": view.metadata,
        "status": view.status,
        "psp": view.psp,
        "created_at": view.created_at,
        "operation_id": order.operation_id,
        "kind": order.kind,
        "route": list(payment.route),
        "request": orjson.Fragment(encode_order(order)),
        "command_id": payment.command_id,
        "stream": payment.stream,
        "type": "psp.submit",
        "event_id": payment.event_id,
        "event_type": "payment.created",
        "event": {"status": view.status},
        "in_flight_s": payment.in_flight_s,
        "reverse_after_s": payment.reverse_after_s,
        "response_status": answer.status if answer else None,
        "response_headers": answer.headers if answer else None,
        "response_body": answer.body.decode() if answer else None,
    }


def _method(payment: NewPayment) -> dict[str, str | None]:
    """The token itself stays in the operation's request: readers of payments have no use for it."""
    if payment.view.method is Method.TOKEN:
        return {"type": Method.TOKEN}
    return {"type": Method.HOSTED_PAGE, "return_url": payment.view.return_url}


def _verdict(payment: NewPayment, row: asyncpg.Record) -> Verdict | None:
    if row["payment_id"] == payment.view.id:
        return Accepted(payment_id=payment.view.id)
    if row["payment_id"] is not None:
        return _of_known_key(row)
    if row["rival_id"] is not None:
        return OrderHasOpenPayment(row["rival_id"])
    return None


def _of_known_key(row: asyncpg.Record) -> StoredAnswer | Abandoned | PaynodeError:
    if not row["is_same_body"]:
        return IdempotencyKeyReused("the key was used with another body")
    if row["response_status"] is not None:
        return _stored(row)
    if row["in_flight_s"] > 0:
        return IdempotencyKeyInFlight(row["in_flight_s"])
    return Abandoned(payment_id=row["payment_id"])


def _stored(row: asyncpg.Record) -> StoredAnswer:
    return StoredAnswer(
        status=row["response_status"],
        headers=orjson.loads(row["response_headers"]),
        body=row["response_body"],
    )
