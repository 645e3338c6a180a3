"""`paynode bench memory`."""

from __future__ import annotations

import click

from paynode.bench import memory as knowing
from paynode.cli.answering import output_option
from paynode.cli.bench_contest import run


@click.command()
@click.option("--merchants", type=click.IntRange(1000, 1_000_000), default=100_000, show_default=True)
@click.option("--given", is_flag=True, help="On the empty servers that the settings name.")
@output_option
def memory(merchants: int, given: bool, output: str) -> None:
    """What a worker's memory grows by with each merchant that it knows and that has nothing to do."""
    plan = knowing.Plan(merchants=merchants)
    run(lambda settings, progress: knowing.run(settings, plan, progress), output, is_given=given)
