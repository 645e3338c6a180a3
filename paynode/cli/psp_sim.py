"""`paynode psp-sim`."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

import click
import uvloop

from paynode import config
from paynode.sections import SettingRefused
from paynode.sim.app import is_loopback, simulator
from paynode.sim.journal import JournalUnusable


@click.command("psp-sim")
def psp_sim() -> None:
    """Run the PSP simulator with its hosted payment page.

    Prints `ready URL` when it listens. Charges stand in its book (GET /book); POST /faults makes it misbehave.
    """
    settings = config.load()
    if not is_loopback(settings.sim.host):
        raise click.UsageError(f"sim.host {settings.sim.host} is not loopback: its book and faults need no key")
    logging.basicConfig(
        level=settings.log.level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        uvloop.run(_run(settings))
    except (OSError, JournalUnusable, SettingRefused) as error:
        raise click.ClickException(str(error)) from error


async def _run(settings: config.Settings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with simulator(settings) as url:
        click.echo(f"ready {url}")
        await stop.wait()
