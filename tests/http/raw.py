"""HTTP by hand, for what no client library would send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import anyio
import orjson

from tests.http.house import House, Reply, by_token

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(house: House) -> AsyncIterator[Streams]:
    """A connection that is closed at the end, whatever became of it."""
    address = urlsplit(house.served.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def request(house: House, *, body: bytes | None = None, **headers: str) -> bytes:
    """A POST with everything that it needs; `headers` replace or, when empty, drop."""
    content = orjson.dumps(by_token()) if body is None else body
    fields = {
        "Host": "test",
        "Authorization": f"Bearer {house.merchant.api_key}",
        "Idempotency-Key": "k",
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    return f"POST /v1/payments HTTP/1.1\r\n{lines}\r\n".encode() + content


async def exchange(house: House, sent: bytes) -> Reply:
    """What is answered to these bytes."""
    async with connected(house) as (reader, writer):
        writer.write(sent)
        return await answer(reader)


async def answer(reader: asyncio.StreamReader) -> Reply:
    """The next answer on a connection."""
    with anyio.fail_after(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, _, lines = head.partition("\r\n")
        fields = dict(line.split(": ", 1) for line in lines.strip().split("\r\n"))
        body = await reader.readexactly(int(fields.get("Content-Length", 0)))
    return Reply(status=int(status.split()[1]), headers=fields, raw=body)


async def is_closed(reader: asyncio.StreamReader) -> bool:
    """Whether the other side closes without saying more."""
    with anyio.fail_after(10):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


def with_header(sent: bytes, line: str) -> bytes:
    """The same request with one more header."""
    head, _, body = sent.partition(b"\r\n\r\n")
    return head + b"\r\n" + line.encode() + b"\r\n\r\n" + body


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
