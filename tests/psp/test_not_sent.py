"""`not_sent` is proof: the PSP cannot act on what never left."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler

from paynode.domain.psp import Answer, Outcome, PspRequest
from paynode.psp.transport import GatedBody, GateShut
from tests.psp.conftest import adapter, sim_psp
from tests.psp.misbehaving import raw_server, silence
from tests.psp.words import ORDER, charge, send
from tests.support.waiting import wait_until

_REFUSAL = b'HTTP/1.1 402 X\r\nContent-Length: 39\r\n\r\n{"error":{"code":"insufficient_funds"}}'


async def test_a_refused_connection_was_not_sent_and_is_the_fault_of_the_psp() -> None:
    async with raw_server(silence) as server:
        pass
    async with adapter(server.url) as psp:
        assert await send(psp) == Answer(outcome=Outcome.NOT_SENT, reason="connection_refused", is_psp_failure=True)


async def test_a_name_that_does_not_resolve_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_such_name(*args: object, **kwargs: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_such_name)
    async with adapter("http://psp.invalid") as psp:
        assert await send(psp) == Answer(outcome=Outcome.NOT_SENT, reason="dns_failed", is_psp_failure=True)


async def test_a_failed_tls_handshake_was_not_sent() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 this is no TLS\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with adapter(f"https://127.0.0.1:{port}") as psp:
            assert await send(psp) == Answer(outcome=Outcome.NOT_SENT, reason="tls_failed", is_psp_failure=True)


@contextlib.contextmanager
def _full_backlog() -> Iterator[str]:
    """A listener that takes no connection any more: the handshake hangs, as behind a silent drop."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def test_a_connection_that_hangs_was_not_sent_and_ends_at_send_by() -> None:
    with _full_backlog() as url:
        async with adapter(url) as psp:
            began = time.monotonic()
            said = await send(psp, send_by_s=2.5, deadline_s=30)
            assert said.outcome is Outcome.NOT_SENT
            # Unless this process stood still for so long that nothing can be said.
            is_late = time.monotonic() - began >= 3.0
            assert (said.reason, said.is_psp_failure) == ("connect_timeout", True) or is_late
            assert time.monotonic() - began > 2.45


async def test_a_connection_that_had_no_fair_time_is_not_the_fault_of_the_psp() -> None:
    """We came late: whoever had but a moment left says nothing about the other side."""
    with _full_backlog() as url:
        async with adapter(url) as psp:
            for send_by_s in (0.2, 0.0, -1.0):
                said = await send(psp, send_by_s=send_by_s, deadline_s=30)
                assert said == Answer(outcome=Outcome.NOT_SENT, reason="send_by_passed", is_psp_failure=False)


async def test_waiting_for_a_free_connection_is_not_the_fault_of_the_psp() -> None:
    async with raw_server(silence) as server, adapter(server.url, concurrency=1) as psp:
        first = asyncio.create_task(send(psp, deadline_s=1.0))
        await wait_until(lambda: len(server.requests) == 1, "the first call is under way")
        said = await send(psp, send_by_s=0.1, deadline_s=5)
        assert said == Answer(outcome=Outcome.NOT_SENT, reason="pool_wait", is_psp_failure=False)
        assert (await first).outcome is Outcome.UNKNOWN
        assert len(server.requests) == 1


async def test_nothing_is_sent_after_send_by_even_on_a_connection_that_is_open() -> None:
    async with raw_server(charge()) as server, adapter(server.url) as psp:
        await send(psp)
        said = await send(psp, send_by_s=-0.001)
        assert said == Answer(outcome=Outcome.NOT_SENT, reason="send_by_passed", is_psp_failure=False)
        await send(psp)
        assert len(server.requests) == 2


async def test_a_process_that_stood_still_over_send_by_sent_before_it_or_never_does() -> None:
    outcomes = []
    for steps in range(8):
        async with raw_server(charge()) as server, adapter(server.url) as psp:
            await send(psp)
            call = asyncio.create_task(send(psp, send_by_s=0.1))
            for _ in range(steps):
                await asyncio.sleep(0)
            time.sleep(0.15)  # noqa: ASYNC251 -- the process is stopped, wherever the call is by now
            said = await call
            await send(psp)
            assert len(server.requests) == (2 if said.outcome is Outcome.NOT_SENT else 3)
            outcomes.append(said.outcome)
    assert set(outcomes) == {Outcome.NOT_SENT, Outcome.APPROVED}, "both sides of the gate were met"


async def test_behind_a_shut_gate_no_byte_leaves() -> None:
    now = time.monotonic()
    for gate, is_shut in [
        (GatedBody(b"{}", send_by=now + 5, deadline=now + 5), True),
        (GatedBody(b"{}", send_by=now - 1, deadline=now + 5), False),
        (GatedBody(b"{}", send_by=now + 5, deadline=now - 1), False),
    ]:
        if is_shut:
            gate.shut()
        with pytest.raises(GateShut):
            await gate.write_with_length(_NoWriter(), 2)
        assert gate.shut() is False


async def test_a_body_leaves_once() -> None:
    now = time.monotonic()
    gate = GatedBody(b"{}", send_by=now + 5, deadline=now + 5)
    async with gate.timer:
        with pytest.raises(AssertionError, match="a byte left"):
            await gate.write_with_length(_NoWriter(), 2)
        with pytest.raises(GateShut):
            await gate.write_with_length(_NoWriter(), 2)
    assert gate.shut() is True


@pytest.mark.parametrize("is_at_once", [True, False])
async def test_an_answer_before_the_request_was_written_is_none_and_nothing_leaves(
    is_at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the connection was looked at: before or after whoever reads the answer has begun to wait."""
    begin = ResponseHandler.set_response_params

    def answered(self: ResponseHandler, **settings: Any) -> None:
        begin(self, **settings)
        if is_at_once:
            self.data_received(_REFUSAL)
        else:
            asyncio.get_running_loop().call_soon(self.data_received, _REFUSAL)

    monkeypatch.setattr(ResponseHandler, "set_response_params", answered)
    async with raw_server(charge()) as server, adapter(server.url) as psp:
        said = await send(psp)
        assert said == Answer(outcome=Outcome.NOT_SENT, reason="answer_before_request", is_psp_failure=True)
    assert server.requests == []


class _NoWriter(AbstractStreamWriter):
    """Fails at the first byte."""

    async def write(self, chunk: object) -> None:
        raise AssertionError("a byte left")

    async def write_eof(self, chunk: bytes = b"") -> None: ...

    async def drain(self) -> None: ...

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None: ...

    def enable_chunking(self) -> None: ...

    async def write_headers(self, status_line: str, headers: object) -> None: ...


async def test_a_key_that_cannot_be_a_header_is_not_sent() -> None:
    async with raw_server(charge()) as server, adapter(server.url) as psp:
        request = PspRequest(path="/v1/charges", body=b"{}", idempotency_key="a\r\nb: c")
        now = time.monotonic()
        said = await psp.send(ORDER, request, send_by=now + 5, deadline=now + 5)
        assert said == Answer(outcome=Outcome.NOT_SENT, reason="request_invalid", is_psp_failure=False)
        assert server.requests == []


def test_an_address_that_is_no_psp_is_refused_at_start() -> None:
    for url in ("ftp://psp.invalid", "psp.invalid:80", "", "http://user:secret@psp.invalid"):
        with pytest.raises(ValueError, match="not the http"):
            sim_psp(url)
