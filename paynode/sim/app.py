"""The simulator put together."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from paynode.config import Settings
from paynode.sections import SettingRefused, SimAccount
from paynode.sim.acquirer import Acquirer
from paynode.sim.api import Api
from paynode.sim.callbacks import Courier
from paynode.sim.control import Control
from paynode.sim.door import Door, listen, url_of
from paynode.sim.endings import Endings
from paynode.sim.faults import Faults
from paynode.sim.fraud import FraudCheck
from paynode.sim.journal import Journal
from paynode.sim.losses import Losses
from paynode.sim.page import Page
from paynode.sim.refusals import answer_refusals
from paynode.sim.report import Report
from paynode.sim.traffic import TRAFFIC, Traffic, counting

_BODY_BYTES_MAX = 1 << 16


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@asynccontextmanager
async def simulator(settings: Settings) -> AsyncIterator[str]:
    """A listening simulator of the account `sim.name`; yields its URL.

    Raises: OSError when the port is taken, JournalUnusable when another simulator has the book, SettingRefused when
    there is no account of its name.
    """
    sim, account = settings.sim, _account_of(settings)
    book_path = Path(sim.book or settings.data_dir / sim.name / "book.ndjson")
    callback_url = sim.callback_url or f"{settings.http.base_url}/v1/psp/{sim.name}/webhook"
    listener = listen(sim.host, sim.port)
    base_url = url_of(listener)
    async with (
        _journal(book_path) as book,
        _journal(book_path.with_name("sessions.ndjson")) as sessions,
        _journal(book_path.with_name("callbacks.ndjson")) as settled,
    ):
        faults, door = Faults(), Door(listener)
        report = Report(fee_basis_points=sim.fee_basis_points)
        courier = Courier(url=callback_url, secret=account.webhook_secret, settled=settled)
        acquirer = Acquirer(
            book=book,
            sessions=sessions,
            courier=courier,
            faults=faults,
            report=report,
            session_ttl_s=sim.session_ttl_s,
        )
        losses = Losses(faults)
        app = web.Application(middlewares=[counting, answer_refusals], client_max_size=_BODY_BYTES_MAX)
        app[TRAFFIC] = Traffic()
        api = Api(acquirer=acquirer, faults=faults, losses=losses, api_key=account.api_key, base_url=base_url)
        control = Control(acquirer=acquirer, book=book, report=report, faults=faults, door=door)
        fraud = FraudCheck(api_key=settings.fraud.api_key)
        for part in (api, Page(acquirer=acquirer, losses=losses), control, fraud):
            app.add_routes(part.routes())
        endings = Endings(acquirer, authorization_ttl_s=sim.authorization_ttl_s)
        async with door.serving(app), asyncio.TaskGroup() as background:
            tasks = [background.create_task(courier.run()), background.create_task(endings.run())]
            yield base_url
            for task in tasks:
                task.cancel()


def _account_of(settings: Settings) -> SimAccount:
    account = settings.psp.get(settings.sim.name)
    if not isinstance(account, SimAccount):
        raise SettingRefused(f"sim.name {settings.sim.name}: there is no [psp.{settings.sim.name}] of adapter sim")
    return account


@asynccontextmanager
async def _journal(path: Path) -> AsyncIterator[Journal]:
    journal = Journal.open(path)
    try:
        yield journal
    finally:
        await journal.close()
