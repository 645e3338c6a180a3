"""python-getpaid's simulator of PayU as it is run, a process of its own, and its customers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final
from urllib.request import urlopen

import aiohttp
from aiohttp import web
from playwright.async_api import Browser

from paynode.domain.payment import PspOrder
from paynode.psp.payu import PayuPsp
from tests.psp.account import Account, Delivery, Trait
from tests.psp.payu import documents
from tests.support.installation import free_ports

# It imports a web framework: seconds on a busy machine.
_START_S: Final = 180.0

_SHOP: Final = "https://shop.example/**"
_PAGE_MS: Final = 90_000


@contextmanager
def running(programs: Path, log: Path) -> Iterator[str]:
    """Its address, under which PayU's paths stand."""
    [port] = free_ports(1)
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(programs / "getpaid-simulator"), "--host", "127.0.0.1", "--port", str(port), "--log-level", "WARNING"],
            env=os.environ
            | {"SIMULATOR_PAYU_SECOND_KEY": documents.SECOND_KEY, "SIMULATOR_PLUGIN_FAILURE_MODE": "strict"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        _until_it_answers(process, f"http://127.0.0.1:{port}/", log)
        yield f"http://127.0.0.1:{port}/payu"
    finally:
        process.kill()
        process.wait()


def _until_it_answers(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up_at = time.monotonic() + _START_S
    while True:
        try:
            with urlopen(url, timeout=5):
                return
        except OSError:
            assert process.poll() is None, f"it has ended:\n{log.read_text()[-4000:]}"
            assert time.monotonic() < give_up_at, f"it does not answer:\n{log.read_text()[-4000:]}"
            time.sleep(0.05)


@dataclass
class Letterbox:
    """Takes notifications, as a merchant's server."""

    url: str = ""
    seen: list[Delivery] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        self.seen.append(Delivery(dict(request.headers), await request.read()))
        return web.Response()


@asynccontextmanager
async def letterbox() -> AsyncIterator[Letterbox]:
    """On a port of its own."""
    box = Letterbox()
    app = web.Application()
    app.router.add_post("/notify", box.take)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    box.url = f"http://127.0.0.1:{runner.addresses[0][1]}/notify"
    try:
        yield box
    finally:
        await runner.cleanup()


async def press(browser: Browser, page_url: str, button: str) -> str:
    """Press a button of its page, as a customer does; where the customer is sent then."""
    context = await browser.new_context()
    context.set_default_timeout(_PAGE_MS)
    try:
        page = await context.new_page()
        await page.route(_SHOP, lambda route: route.fulfill(body="the shop"))
        await page.goto(page_url, wait_until="domcontentloaded")
        await page.get_by_role("button", name=button).click()
        await page.wait_for_url(_SHOP)
        return page.url
    finally:
        await context.close()


class Simulated(Account):
    """It has neither authorizations (its page captures at once) nor an inquiry about refunds, and refuses no refund."""

    TRAITS: ClassVar[frozenset[Trait]] = frozenset({Trait.PAGE, Trait.PAGE_DECLINE, Trait.CANCEL, Trait.CALLBACK})
    NOT_SHOWN: ClassVar[Mapping[str, str]] = {
        "can_refund_partially": "it gives back whatever is asked; the documented twin shows it"
    }
    currency = "PLN"

    def __init__(self, adapter: PayuPsp, box: Letterbox) -> None:
        self._adapter = adapter
        self._box = box

    @property
    def adapter(self) -> PayuPsp:
        return self._adapter

    async def customer_pays(self, page_url: str) -> None:
        await _submit(page_url, "approve")

    async def customer_declines(self, page_url: str) -> None:
        await _submit(page_url, "reject")

    async def deliveries(self, order: PspOrder) -> Sequence[Delivery]:
        return self._box.seen


async def _submit(page_url: str, action: str) -> None:
    """What the page's form sends when the button is pressed."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(page_url, data={"action": action}, allow_redirects=False) as reply,
    ):
        assert (reply.status, reply.headers.get("Location")) == (302, "https://shop.example/back")
