"""A simulator as users run it: a process of its own, with a receiver for its callbacks."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from tests.support.waiting import wait_until

API_KEY = "sim_sk_test"
WEBHOOK_SECRET = "sim_whsec_test"
STOP_S = 2.0


@dataclass(frozen=True)
class Callback:
    """One delivery as it came."""

    at: float
    signatures: list[str]
    raw: bytes

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.raw)
        return event

    @property
    def is_signed(self) -> bool:
        """Computed here from the documented format, not by the code of either side."""
        [signature] = self.signatures
        at, digest = (part.partition("=")[2] for part in signature.split(","))
        expected = hmac.new(WEBHOOK_SECRET.encode(), at.encode() + b"." + self.raw, hashlib.sha256)
        return hmac.compare_digest(digest, expected.hexdigest()) and abs(time.time() - int(at)) < 60


@dataclass
class Receiver:
    """Takes callbacks; answers the statuses of `answers` first, then 204."""

    url: str = ""
    seen: list[Callback] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def of(self, reference: str) -> list[Callback]:
        return [callback for callback in self.seen if callback.event["data"]["reference"] == reference]

    async def heard(self, reference: str, types: set[str]) -> None:
        """Wait for callbacks of each of these types and no other; for as long as a busy machine may need."""

        def have_come() -> bool:
            return {callback.event["type"] for callback in self.of(reference)} == types

        await wait_until(have_come, f"{types} came", 60)

    async def take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        self.seen.append(Callback(time.time(), request.headers.getall("Sim-Signature", []), raw))
        return web.Response(status=self.answers.pop(0) if self.answers else 204)


@asynccontextmanager
async def receiving(port: int = 0, listener: socket.socket | None = None) -> AsyncIterator[Receiver]:
    """Take callbacks on a port, or on a socket that listens already and outlives this."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/callbacks", receiver.take)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port) if listener is None else web.SockSite(runner, listener.dup())
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/callbacks"
    try:
        yield receiver
    finally:
        await runner.cleanup()


class Simulator:
    """One process of `paynode psp-sim` and the words to speak with it."""

    def __init__(self, process: subprocess.Popen[str], url: str, stderr: Path, http: aiohttp.ClientSession) -> None:
        self.process = process
        self.url = url
        self.http = http
        self._stderr = stderr

    @property
    def log(self) -> str:
        return self._stderr.read_text()

    async def post(
        self, path: str, key: str | None, body: object, *, api_key: str = API_KEY
    ) -> tuple[int, dict[str, Any], bool]:
        """Returns status, JSON, and whether it was said to be a repetition."""
        headers = {"Authorization": f"Bearer {api_key}"} | ({} if key is None else {"Idempotency-Key": key})
        async with self.http.post(self.url + path, json=body, headers=headers) as response:
            return response.status, await response.json(), response.headers.get("Idempotent-Replayed") == "true"

    async def charge(
        self, reference: str, token: str = "tok_approve", amount: int = 1000, currency: str = "EUR"
    ) -> tuple[int, dict[str, Any], bool]:
        body = {"reference": reference, "amount": amount, "currency": currency, "token": token}
        return await self.post("/v1/charges", reference, body)

    async def authorize(
        self, reference: str, amount: int = 1000, token: str = "tok_approve"
    ) -> tuple[int, dict[str, Any], bool]:
        body = {"reference": reference, "amount": amount, "currency": "EUR", "token": token, "capture": "manual"}
        return await self.post("/v1/charges", reference, body)

    async def follow(
        self, what: str, reference: str, of: str, amount: int = 1000, **more: object
    ) -> tuple[int, dict[str, Any], bool]:
        """`captures`, `voids`, `refunds` or `cancels` something."""
        body = {"reference": reference, "of": of, "amount": amount, "currency": "EUR", **more}
        return await self.post(f"/v1/{what}", reference, body)

    async def open_page(
        self, reference: str, amount: int = 1000, currency: str = "EUR", description: str = "", **more: object
    ) -> str:
        """Open a session; returns its page's URL."""
        body = more | {
            "reference": reference,
            "amount": amount,
            "currency": currency,
            "return_url": "http://shop.invalid/back?order=1",
            "description": description,
        }
        status, session, _ = await self.post("/v1/sessions", reference, body)
        assert status == 201, session
        url: str = session["url"]
        return url

    async def press(self, page: str, button: str) -> tuple[int, str]:
        """Press a button of a page; returns status and Location."""
        async with self.http.post(f"{page}/{button}", allow_redirects=False) as response:
            return response.status, response.headers.get("Location", "")

    async def show(self, page: str) -> tuple[int, str]:
        async with self.http.get(page) as response:
            return response.status, await response.text()

    async def book(self, reference: str | None = None) -> list[dict[str, Any]]:
        async with self.http.get(f"{self.url}/book") as response:
            assert response.status == 200
            lines = [json.loads(line) for line in (await response.text()).splitlines()]
        return [line for line in lines if reference in (None, line["our_reference"])]

    async def operations(self, reference: str) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        async with self.http.get(
            f"{self.url}/v1/operations", params={"reference": reference}, headers=headers
        ) as response:
            assert response.status == 200
            data: list[dict[str, Any]] = (await response.json())["data"]
            return data

    async def reverse(self, reference: str) -> tuple[int, dict[str, Any]]:
        """Take back what was approved; returns status and JSON."""
        async with self.http.post(f"{self.url}/reverse", json={"reference": reference}) as response:
            return response.status, await response.json()

    async def faults(self, **rates: object) -> dict[str, Any]:
        async with self.http.post(f"{self.url}/faults", json=rates) as response:
            assert response.status == 200, await response.text()
            content: dict[str, Any] = await response.json()
            return content

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit code, or fails when it takes longer than it may."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_S)


@dataclass(frozen=True)
class SharedProcess:
    """A simulator for all tests of a module, and the socket that its callbacks come to."""

    process: subprocess.Popen[str]
    url: str
    stderr: Path
    listener: socket.socket


@contextmanager
def shared_process(data_dir: Path, **settings: str) -> Iterator[SharedProcess]:
    """Starting one costs more than most tests: for those that only look at what they did themselves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        callback_url = f"http://127.0.0.1:{listener.getsockname()[1]}/callbacks"
        with process_of("psp-sim", data_dir, **settings_of(callback_url) | settings) as (process, url, stderr):
            yield SharedProcess(process, url, stderr, listener)


@contextmanager
def process_of(verb: str, data_dir: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], str, Path]]:
    """A verb that prints `ready URL`: yields the process, its URL and the file of its standard error."""
    data_dir.mkdir(parents=True, exist_ok=True)
    stderr = data_dir / f"{verb}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PAYNODE_")}
    environment |= {"PAYNODE_DATA_DIR": str(data_dir)} | settings
    with stderr.open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "paynode", verb], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
    with process:
        try:
            assert process.stdout is not None
            word, _, url = process.stdout.readline().strip().partition(" ")
            assert word == "ready", stderr.read_text()
            yield process, url, stderr
        finally:
            process.kill()


@asynccontextmanager
async def running(data_dir: Path, callback_url: str, **settings: str) -> AsyncIterator[Simulator]:
    """A simulator on a free port; killed at the end if the test did not end it."""
    settings = settings_of(callback_url) | settings
    with process_of("psp-sim", data_dir, **settings) as (process, url, stderr):
        async with speaking(process, url, stderr) as sim:
            yield sim


@asynccontextmanager
async def speaking(process: subprocess.Popen[str], url: str, stderr: Path) -> AsyncIterator[Simulator]:
    """A running process with somebody to speak to it."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield Simulator(process, url, stderr, http)


def settings_of(callback_url: str) -> dict[str, str]:
    """What every simulator of a test is told."""
    return {
        "PAYNODE_SIM__PORT": "0",
        "PAYNODE_SIM__CALLBACK_URL": callback_url,
        "PAYNODE_PSP__SIM__API_KEY": API_KEY,
        "PAYNODE_PSP__SIM__WEBHOOK_SECRET": WEBHOOK_SECRET,
    }


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port
