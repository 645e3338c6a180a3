"""`paynode serve`, `worker` and `scheduler`: the long-running processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from typing import Any

import click

from paynode.cli.answering import run
from paynode.config import Settings
from paynode.embedded.spawning import dying_with_parent
from paynode.observability.logging import configure

_ROLES = ("merchants", "gateway", "notifier")


def _run(body: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    """Run a process's body under uvloop with settings and logs in place."""

    async def logged(settings: Settings) -> None:
        configure(settings.log)
        await body(settings)

    run(logged)


def _roles(_: click.Context, __: click.Parameter, value: str) -> frozenset[str]:
    roles = frozenset(value.split(","))
    unknown = roles - set(_ROLES)
    if unknown:
        raise click.BadParameter(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(_ROLES)}")
    return roles


@click.command()
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="At one port; each has an admin port of its own, from admin.port upwards.",
)
def serve(processes: int) -> None:
    """Serve the HTTP ingress and its admin port."""
    from paynode.app.fleet import serve_together
    from paynode.app.ingress import run_ingress

    if processes == 1:
        _run(run_ingress)
    else:
        # Whoever kills the parent without warning wants them to drain and end.
        in_child = dying_with_parent(signal.SIGTERM)
        _run(lambda settings: serve_together(settings, processes, in_child=in_child))


@click.command()
@click.option(
    "--roles",
    default=",".join(_ROLES),
    show_default=True,
    callback=_roles,
    help="Which actors run in this process. A notifier has nothing to do before merchants have webhooks.",
)
@click.option(
    "--burst",
    is_flag=True,
    help="End, with exit code 0, when nothing is left to do. What is due later is left to whoever runs then.",
)
def worker(roles: frozenset[str], burst: bool) -> None:
    """Run merchants' actors and PSP gateways. Start as many as you like: they share the work."""
    from paynode.app.worker import run_worker

    _run(lambda settings: run_worker(settings, roles, is_burst=burst))


@click.command()
def scheduler() -> None:
    """Run what is done by one process at a time: the relay. Start it anywhere, more than once: one acts."""
    from paynode.app.scheduler import run_scheduler

    _run(run_scheduler)
