"""`paynode bench`: figures of a running paynode."""

from __future__ import annotations

from typing import Any

import click

from paynode.bench.e2e import BenchFailed, Plan, run
from paynode.cli.answering import output_option, print_json, print_table
from paynode.cli.answering import run as run_verb


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
    plan = Plan(payments=payments, merchants=merchants, clients=clients, settle_s=settle)
    try:
        report = run_verb(lambda settings: run(settings, plan))
    except BenchFailed as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        print_json(report)
    else:
        print_table("e2e", ("figure", "value"), [(name, _text(value)) for name, value in report.items()])


def _text(value: Any) -> str:
    return ", ".join(f"{key} {one}" for key, one in value.items()) if isinstance(value, dict) else str(value)
