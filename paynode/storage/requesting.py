"""What merchants ask about their payments, and the keys under which they ask, in PostgreSQL."""

from __future__ import annotations

from typing import Final

import asyncpg
import orjson

from paynode.domain.accepting import KeyUse, StoredAnswer
from paynode.domain.asking import Asked, AskVerdict, Left, NewRequest
from paynode.domain.errors import IdempotencyKeyInFlight, IdempotencyKeyReused
from paynode.storage.bodies import encode_request
from paynode.storage.postgres import Connection, Pool, borrowed, confirm
from paynode.storage.queries import load

_SQL: Final = load("requesting")


class PgRequesting:
    """Writes as the ingress's role: it asks, and never decides. All of it raises Unavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ask(self, new: NewRequest) -> AskVerdict:
        """Commit the request if its key is free, or was used for what was refused; else what is known of the key.

        After Unavailable nobody knows whether it was committed: `find` does.
        """
        async with borrowed(self._pool) as connection:
            if await connection.fetch(_SQL["ask_request"], *_arguments(new)):
                return Asked(request_id=new.request.id)
            return await _find(connection, new)

    async def find(self, new: NewRequest) -> AskVerdict:
        """What is known about the request's key; None when it is not taken.

        Whoever committed it may not know it himself: what is found is confirmed before anybody hears of it.
        """
        async with borrowed(self._pool) as connection:
            return await _find(connection, new)

    async def adopt(self, use: KeyUse, request_id: str, *, in_flight_s: float) -> bool:
        """Go on with an abandoned request; False when another retry does."""
        async with borrowed(self._pool) as connection:
            return bool(await connection.fetch(_SQL["adopt_request"], *_name(use), request_id, in_flight_s))


async def _find(connection: Connection, new: NewRequest) -> AskVerdict:
    row = await connection.fetchrow(_SQL["find_request"], *_name(new.use), new.use.fingerprint)
    await confirm(connection)
    return None if row is None else _verdict(new, row)


def _verdict(new: NewRequest, row: asyncpg.Record) -> AskVerdict:
    if row["request_id"] == new.request.id:
        return Asked(request_id=new.request.id)
    if not row["is_same_body"]:
        return IdempotencyKeyReused("the key was used with another body")
    if row["response_status"] is not None:
        headers = orjson.loads(row["response_headers"])
        return StoredAnswer(status=row["response_status"], headers=headers, body=row["response_body"])
    if row["in_flight_s"] > 0:
        return IdempotencyKeyInFlight(row["in_flight_s"])
    return Left(request_id=row["request_id"])


def _name(use: KeyUse) -> tuple[str, str, str]:
    return use.merchant_id, use.path, use.key


def _arguments(new: NewRequest) -> tuple[object, ...]:
    request, answer = new.request, new.answer
    return (
        *_name(new.use),
        new.use.fingerprint,
        request.payment_id,
        request.id,
        new.in_flight_s,
        answer.status if answer else None,
        orjson.dumps(dict(answer.headers)).decode() if answer else None,
        answer.body if answer else None,
        request.kind,
        request.amount,
        request.is_final,
        request.reason,
        new.stream,
        encode_request(request),
    )
