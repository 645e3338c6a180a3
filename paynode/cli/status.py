"""`paynode status`."""

from __future__ import annotations

import anyio
import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from paynode.app.overview import Look, looking
from paynode.cli.answering import output_option, print_json, run
from paynode.cli.screen import screen
from paynode.config import Settings
from paynode.domain.errors import Transient
from paynode.domain.overview import Overview, public_overview

# Columns, when it is no terminal that reads.
_PIPE_WIDTH = 140


@click.command()
@click.option(
    "--watch",
    "interval_s",
    type=click.FloatRange(min=0.2),
    is_flag=False,
    flag_value=2.0,
    help="Look again every so many seconds (2 when no number is given), until Ctrl-C.",
)
@click.option("--partitions", "is_full", is_flag=True, help="Every partition, not only those that are behind.")
@output_option
def status(interval_s: float | None, is_full: bool, output: str) -> None:
    """Show how it stands: partitions, owners, lag, what is oldest, what is in doubt, breakers, dead letters.

    Reads and changes nothing. The exit code is 0 however bad it looks, 75 when the database cannot be asked. While
    Redis is away everything else is shown. With --watch and --output json it writes one document a line.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)

    async def show(settings: Settings) -> None:
        async with looking(settings) as look:
            overview = await look()
            if output == "json":
                await _print_json(look, overview, interval_s)
            elif interval_s is None:
                console.print(screen(overview, is_full=is_full))
            else:
                await _watch(console, look, overview, interval_s, is_full=is_full)

    try:
        run(show)
    except KeyboardInterrupt:
        if interval_s is None:
            raise


async def _print_json(look: Look, overview: Overview, interval_s: float | None) -> None:
    """One document, or one a line. While the database is away there is none to write."""
    found: Overview | None = overview
    while True:
        if found:
            print_json(public_overview(found))
        if interval_s is None:
            return
        await anyio.sleep(interval_s)
        found = await _look_again(look)


async def _watch(console: Console, look: Look, overview: Overview, interval_s: float, *, is_full: bool) -> None:
    """The screen, renewed in place. While the database is away the last one stays, and says so."""
    with Live(
        screen(overview, is_full=is_full), console=console, auto_refresh=False, screen=console.is_terminal
    ) as live:
        live.refresh()
        while True:
            await anyio.sleep(interval_s)
            found = await _look_again(look)
            overview = found or overview
            note = None if found else Text("PostgreSQL is away: this is how it stood last", style="bold red")
            live.update(screen(overview, note=note, is_full=is_full), refresh=True)


async def _look_again(look: Look) -> Overview | None:
    try:
        return await look()
    except Transient:
        return None
