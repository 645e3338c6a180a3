"""`paynode serve`, `worker` and `scheduler`: the long-running processes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import click
from pydantic import ValidationError

from paynode.config import Settings, load

_ROLES = ("merchants", "gateway")


def _run(body: Callable[[Settings], Awaitable[None]]) -> None:
    """Run a process's body under uvloop with settings and logs in place."""
    try:
        settings = load()
    except (ValidationError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    anyio.run(body, settings, backend_options={"use_uvloop": True})


def _roles(_: click.Context, __: click.Parameter, value: str) -> frozenset[str]:
    roles = frozenset(value.split(","))
    unknown = roles - set(_ROLES)
    if unknown:
        raise click.BadParameter(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(_ROLES)}")
    return roles


@click.command()
@click.option(
    "--roles", default="merchants,gateway", show_default=True, callback=_roles, help="Which actors run in this process."
)
def worker(roles: frozenset[str]) -> None:
    """Run merchants' actors and PSP gateways. Start as many as you like: they share the work."""
    from paynode.app import run_worker

    _run(lambda settings: run_worker(settings, roles))


@click.command()
def scheduler() -> None:
    """Run what is done by one process at a time: the relay. Start it anywhere, more than once: one acts."""
    from paynode.app import run_scheduler

    _run(run_scheduler)
