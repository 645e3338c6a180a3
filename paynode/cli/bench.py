"""`paynode bench`: figures of a running paynode."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import click

from paynode.bench import e2e as paying
from paynode.bench import fair as street
from paynode.bench import overload as flooding
from paynode.bench import pos as till
from paynode.bench.figures import BenchFailed
from paynode.cli import bench_all, bench_contest, bench_memory, bench_report
from paynode.cli.answering import output_option, print_json, print_table
from paynode.cli.answering import run as run_verb
from paynode.config import Settings


@click.group()
def bench() -> None:
    """Measure a running paynode: `paynode dev` in this directory, or the one that the settings point at."""


@bench.command()
@click.option("--payments", type=click.IntRange(2, 1_000_000), default=2000, show_default=True)
@click.option("--merchants", type=click.IntRange(1, 10_000), default=200, show_default=True)
@click.option("--clients", type=click.IntRange(1, 1000), default=64, show_default=True, help="Requests at once.")
@click.option(
    "--settle", type=click.FloatRange(1, 3600), default=60, show_default=True, help="Seconds to wait at most."
)
@output_option
def e2e(payments: int, merchants: int, clients: int, settle: float, output: str) -> None:
    """Token payments as fast as they are accepted, until all are ledgered; then whether the books agree."""
    plan = paying.Plan(payments=payments, merchants=merchants, clients=clients, settle_s=settle)
    _report(lambda settings: paying.run(settings, plan), output)


@bench.command()
@click.option("--backlog", type=click.IntRange(1000, 5_000_000), default=200_000, show_default=True)
@click.option("--neighbours", type=click.IntRange(1, 100), default=10, show_default=True)
@click.option("--rate", type=click.FloatRange(1, 1000), default=20, show_default=True, help="Their events a second.")
@click.option("--seconds", type=click.FloatRange(1, 600), default=15, show_default=True, help="Of each measurement.")
@output_option
def fair(backlog: int, neighbours: int, rate: float, seconds: float, output: str) -> None:
    """What the neighbours of a hot merchant wait while it has a backlog, against what they wait without."""
    plan = street.Plan(backlog=backlog, neighbours=neighbours, rate=rate, seconds=seconds)
    _report(lambda settings: street.run(settings, plan), output)


@bench.command()
@click.option("--checkouts", type=click.IntRange(0, 5_000_000), default=100_000, show_default=True, help="That wait.")
@click.option("--evidence", type=click.IntRange(0, 5_000_000), default=300_000, show_default=True, help="That waits.")
@click.option("--rate", type=click.FloatRange(1, 1000), default=20, show_default=True, help="The till's a second.")
@click.option("--seconds", type=click.FloatRange(1, 600), default=40, show_default=True, help="Of each measurement.")
@output_option
def pos(checkouts: int, evidence: int, rate: float, seconds: float, output: str) -> None:
    """How long a till waits beside a backlog, against how long it waits without."""
    plan = till.Plan(checkouts=checkouts, evidence=evidence, rate=rate, seconds=seconds)
    _report(lambda settings: till.run(settings, plan), output)


@bench.command()
@click.option("--times", type=click.FloatRange(0.1, 20), default=3, show_default=True, help="What it can do, so often.")
@click.option("--seconds", type=click.FloatRange(1, 600), default=30, show_default=True, help="Of the flood.")
@click.option("--merchants", type=click.IntRange(1, 10_000), default=200, show_default=True)
@click.option("--clients", type=click.IntRange(1, 500), default=32, show_default=True, help="To see what it can do.")
@output_option
def overload(times: float, seconds: float, merchants: int, clients: int, output: str) -> None:
    """Several times what the ingress can accept: what it still accepts, how fast, and whether callbacks get through."""
    plan = flooding.Plan(times=times, seconds=seconds, merchants=merchants, clients=clients)
    _report(lambda settings: flooding.run(settings, plan), output)


for _one in (bench_all.all_, *bench_contest.ALL, bench_memory.memory, *bench_report.ALL):
    bench.add_command(_one)


def _report(work: Callable[[Settings], Coroutine[Any, Any, dict[str, object]]], output: str) -> None:
    try:
        report = run_verb(work)
    except BenchFailed as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        print_json(report)
    else:
        title = str(report["scenario"])
        print_table(title, ("figure", "value"), [(name, _text(value)) for name, value in report.items()])


def _text(value: Any) -> str:
    return ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else str(value)
