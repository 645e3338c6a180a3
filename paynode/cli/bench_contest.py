"""`paynode bench hot|zipf|duplicates|backlog|live`: on servers of their own, against what one would use."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from paynode.app import stages
from paynode.bench import contest, ingress, live
from paynode.bench.backlogs import found_hot
from paynode.bench.figures import BenchFailed
from paynode.cli.answering import load_settings, output_option, print_json, print_table
from paynode.cli.bench_servers import Report, measure
from paynode.config import Settings

Work = Callable[[Settings, contest.Progress], Coroutine[Any, Any, Report]]

_events: Final = click.option(
    "--events", type=click.IntRange(100, 10_000_000), default=150_000, show_default=True, help="Of a round."
)
_rounds: Final = click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True, help="In turns.")
_given: Final = click.option("--given", is_flag=True, help="On the empty servers that the settings name.")


@click.command()
@_events
@_rounds
@click.option("--seconds", type=click.FloatRange(0.1, 60), default=2, show_default=True, help="Of each rival.")
@_given
@output_option
def hot(events: int, rounds: int, seconds: float, given: bool, output: str) -> None:
    """Credits of one hot merchant: a worker against everything one would use instead, and against the ceilings."""
    plan = contest.Plan(events=events, rounds=rounds, seconds=seconds)
    run(lambda settings, progress: contest.hot(settings, plan, progress), output, is_given=given)


@click.command()
@_events
@click.option("--merchants", type=click.IntRange(2, 100_000), default=10_000, show_default=True)
@_rounds
@_given
@output_option
def zipf(events: int, merchants: int, rounds: int, given: bool, output: str) -> None:
    """Credits of many merchants, some far more often than others, against one hot merchant's and the loop."""
    plan = contest.Plan(events=events, merchants=merchants, rounds=rounds)
    run(lambda settings, progress: contest.zipf(settings, plan, progress), output, is_given=given)


@click.command()
@_events
@click.option("--share", type=click.FloatRange(0, 1), default=0.1, show_default=True, help="Of events said twice.")
@_rounds
@_given
@output_option
def duplicates(events: int, share: float, rounds: int, given: bool, output: str) -> None:
    """A share of the events said twice, against none."""
    plan = contest.Plan(events=events, rounds=rounds, repeated=share)
    run(lambda settings, progress: contest.duplicates(settings, plan, progress), output, is_given=given)


@click.command()
@click.option("--events", type=click.IntRange(1000, 10_000_000), default=1_000_000, show_default=True)
@_given
@output_option
def backlog(events: int, given: bool, output: str) -> None:
    """A long backlog drained by one worker and by two, and what their memory grows by."""
    plan = contest.Plan(events=events)
    run(lambda settings, progress: contest.backlog(settings, plan, progress), output, is_given=given)


@click.command(name="live")
@click.option("--rate", type=click.FloatRange(1, 1_000_000), default=10_000, show_default=True, help="Events a second.")
@click.option("--seconds", type=click.FloatRange(1, 600), default=15, show_default=True)
@_given
@output_option
def live_(rate: float, seconds: float, given: bool, output: str) -> None:
    """One hot merchant's credits as they come: from due to committed."""
    plan = live.Plan(rate=rate, seconds=seconds)
    run(lambda settings, _: live.run(settings, plan), output, is_given=given)


@click.command(name="ingress")
@_rounds
@click.option("--seconds", type=click.FloatRange(0.5, 60), default=4, show_default=True, help="Of each measurement.")
@click.option("--connections", type=click.IntRange(2, 500), default=64, show_default=True)
@click.option(
    "--processes", type=click.IntRange(1, 64), default=1, show_default=True, help="Of the ingress, on a port."
)
@click.option("--rate", "rates", type=float, multiple=True, default=(200, 500, 1000, 2000), show_default=True)
@_given
@output_option
def ingress_(
    rounds: int, seconds: float, connections: int, processes: int, rates: tuple[float, ...], given: bool, output: str
) -> None:
    """Checkouts a second and their latency, as fast as they are answered and at fixed rates; against less."""
    plan = ingress.Plan(rounds=rounds, seconds=seconds, connections=connections, processes=processes, rates=rates)
    run(lambda settings, progress: ingress.run(settings, plan, progress), output, is_given=given)


@click.command(name="stages")
@click.option("--batches", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.option("--size", type=click.IntRange(1, 1000), default=500, show_default=True, help="Events of a batch.")
@_given
@output_option
def stages_(batches: int, size: int, given: bool, output: str) -> None:
    """What a hot merchant's event costs on its way, stage by stage, each for itself."""
    plan = stages.Plan(batches=batches, size=size)

    async def work(settings: Settings, _: contest.Progress) -> Report:
        return await stages.run(settings, plan, await found_hot(settings, batches * size))

    run(work, output, is_given=given)


ALL: Final = (stages_, hot, zipf, duplicates, backlog, live_, ingress_)


def run(work: Work, output: str, *, is_given: bool) -> None:
    """Measure, showing on the terminal how far it is, and print the report."""
    settings = load_settings()
    try:
        with Shown(is_quiet=output == "json") as progress:
            report = measure(settings, lambda where: work(where, progress), is_given=is_given)
    except BenchFailed as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        print_json(report)
    else:
        _print(report)


class Shown:
    """Progress on stderr."""

    def __init__(self, *, is_quiet: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True), disable=is_quiet, transient=True)
        self._task = self._progress.add_task("starting", total=None)

    def __enter__(self) -> Shown:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def doing(self, what: str) -> None:
        """Something else begins."""
        self._progress.update(self._task, description=what, completed=0, total=None)

    def done(self, count: int, of: int) -> None:
        """So many of so many."""
        self._progress.update(self._task, completed=count, total=of)


def _print(report: Report) -> None:
    baselines, ratios = report.pop("baselines", {}), report.pop("ratios", {})
    rows = [(name, _text(value)) for name, value in report.items()]
    print_table(str(report["scenario"]), ("figure", "value"), rows)
    if isinstance(baselines, dict) and baselines:
        found = [
            (name, f"{one['events_per_s']:,.0f}", _text(one.get("latency_ms", ""))) for name, one in baselines.items()
        ]
        print_table("on the same servers, in turns", ("instead", "events/s", "ms"), found)
    if isinstance(ratios, dict) and ratios:
        print_table("paynode to", ("the best of", "ratio"), [(name, f"{one:g}") for name, one in ratios.items()])


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return f"{value:,.1f}" if isinstance(value, float) else str(value)
