"""`paynode shop`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import click
import uvloop

from paynode import config
from paynode.shop.app import demo_shop

_API_KEY = "PAYNODE_SHOP_API_KEY"


@click.command()
@click.option("--api-key", envvar=_API_KEY, required=True, help="The merchant's API key.", show_envvar=True)
def shop(api_key: str) -> None:
    """Run the demo shop, which sells one product through paynode.

    Prints `ready URL` when it listens.
    """
    os.environ.pop(_API_KEY, None)  # no setting, and the settings refuse an environment they do not know
    settings = config.load()
    logging.basicConfig(
        level=settings.log.level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        uvloop.run(_run(settings, api_key))
    except OSError as error:
        raise click.ClickException(str(error)) from error


async def _run(settings: config.Settings, api_key: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with demo_shop(settings, api_key=api_key) as url:
        click.echo(f"ready {url}")
        await stop.wait()
