"""`paynode bench all`: every scenario one after the other, each on fresh servers, into one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import orjson
import uvloop

from paynode.app import stages
from paynode.bench import contest, e2e, fair, ingress, live, memory, pos
from paynode.bench.backlogs import found_hot
from paynode.bench.figures import BenchFailed
from paynode.cli.answering import load_settings
from paynode.cli.bench_contest import Shown, Work
from paynode.cli.bench_dev import developed
from paynode.cli.bench_servers import Report, measure
from paynode.config import Settings

# Events a second of one hot merchant, of which the second is the goal's.
_RATES: Final = (2_000, 10_000, 20_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scenario:
    """One of them; some need a whole paynode and not only its servers."""

    name: str
    work: Work
    is_of_dev: bool = False


@click.command(name="all")
@click.option("--into", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
@click.option("--only", multiple=True, help="The scenario of this name; may be said again.")
@click.option(
    "--scale", type=click.FloatRange(0.001, 10), default=1.0, show_default=True, help="Of all numbers of events."
)
def all_(into: Path, only: Sequence[str], scale: float) -> None:
    """Every scenario, each on servers of its own; what each has said is in the file as soon as it is through.

    A quarter of an hour at full scale. Exit 1 when one of them said nothing.
    """
    wanted = [one for one in _scenarios(scale) if not only or one.name in only]
    if unknown := set(only) - {one.name for one in wanted}:
        raise click.UsageError(f"there is no scenario {', '.join(sorted(unknown))}")
    settings, reports, failed = load_settings(), list[Report](), False
    for one in wanted:
        click.echo(one.name, err=True)
        try:
            with Shown(is_quiet=False) as progress:
                reports.append(_measure(settings, one, progress))
        except BenchFailed as error:
            click.echo(f"{one.name}: {error}", err=True)
            failed = True
        into.write_bytes(orjson.dumps(reports, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if failed:
        raise click.exceptions.Exit(1)


def _measure(settings: Settings, one: _Scenario, progress: Shown) -> Report:
    if one.is_of_dev:
        progress.doing("paynode dev")
        with developed(settings) as where:
            progress.doing(one.name)
            return uvloop.run(one.work(where, progress))
    return measure(settings, lambda where: one.work(where, progress), is_given=False)


def _scenarios(scale: float) -> Iterable[_Scenario]:
    def times(count: int) -> int:
        return max(round(count * scale), 1000)

    yield from _contests(times)
    for rate in _RATES:
        plan = live.Plan(rate=rate, seconds=max(15 * min(scale, 1), 2))
        yield _Scenario(name="live", work=lambda where, _, plan=plan: live.run(where, plan))  # type: ignore[misc]
    yield _Scenario(name="stages", work=_stages)
    knowing = memory.Plan(merchants=times(100_000))
    yield _Scenario(name="memory", work=lambda where, tell: memory.run(where, knowing, tell))
    taking = ingress.Plan(rounds=3, seconds=4, connections=64, processes=1, rates=(200, 500, 1000, 2000))
    yield _Scenario(name="ingress", work=lambda where, tell: ingress.run(where, taking, tell))
    yield from _of_dev(times)


def _contests(times: Callable[[int], int]) -> Iterable[_Scenario]:
    one, many = contest.Plan(events=times(150_000)), contest.Plan(events=times(150_000), merchants=10_000)
    twice, long = contest.Plan(events=times(150_000), repeated=0.1), contest.Plan(events=times(1_000_000))
    yield _Scenario(name="hot", work=lambda where, tell: contest.hot(where, one, tell))
    yield _Scenario(name="zipf", work=lambda where, tell: contest.zipf(where, many, tell))
    yield _Scenario(name="duplicates", work=lambda where, tell: contest.duplicates(where, twice, tell))
    yield _Scenario(name="backlog", work=lambda where, tell: contest.backlog(where, long, tell))


def _of_dev(times: Callable[[int], int]) -> Iterable[_Scenario]:
    paying = e2e.Plan(payments=times(2000), merchants=200, clients=64, settle_s=120)
    # Of any scale: what is measured beside a backlog must be over before it.
    street = fair.Plan(backlog=200_000, neighbours=10, rate=20, seconds=15)
    till = pos.Plan(checkouts=100_000, evidence=300_000, rate=20, seconds=40)
    yield _Scenario(name="e2e", work=lambda where, _: e2e.run(where, paying), is_of_dev=True)
    yield _Scenario(name="fair", work=lambda where, _: fair.run(where, street), is_of_dev=True)
    yield _Scenario(name="pos", work=lambda where, _: pos.run(where, till), is_of_dev=True)


async def _stages(settings: Settings, _: contest.Progress) -> Report:
    plan = stages.Plan(batches=100, size=500)
    return await stages.run(settings, plan, await found_hot(settings, plan.batches * plan.size))
