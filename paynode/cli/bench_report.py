"""`paynode bench report|check|accept`: what is done with figures, when they are measured."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from paynode.bench import baseline
from paynode.bench.axes import number
from paynode.bench.comparing import BAD, Moved, Verdict, compare
from paynode.bench.page import render
from paynode.bench.reports import NotAReport, Report, read
from paynode.cli.answering import output_option, print_json, print_table

_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW_FILE: Final = click.Path(dir_okay=False, path_type=Path)

_files: Final = click.argument("files", nargs=-1, required=True, type=_FILE, metavar="FILE...")


@click.command()
@_files
@click.option("--html", required=True, type=_NEW_FILE, help="The page to write.")
def report(files: Sequence[Path], html: Path) -> None:
    """Plots of what was measured, as one page of HTML that needs nothing else.

    FILE holds what scenarios have said with `--output json`: one report, a list of them, or one on each line.
    """
    html.write_text(render(_read(files), today=_today()), "utf-8")
    click.echo(f"written to {html}")


@click.command()
@_files
@click.option("--baseline", "kept", required=True, type=_FILE, help="What was accepted before.")
@output_option
def check(files: Sequence[Path], kept: Path, output: str) -> None:
    """Compare ratios and sizes, never times, with those that were accepted; exit 1 when one fell."""
    try:
        moved = compare(baseline.read(kept), baseline.guarded(_read(files)))
    except NotAReport as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        print_json({"data": [_row(one) for one in moved]})
    else:
        _print(moved)
    if any(one.verdict in BAD for one in moved):
        raise click.exceptions.Exit(1)


@click.command()
@_files
@click.option("--baseline", "kept", required=True, type=_NEW_FILE, help="The file to write.")
def accept(files: Sequence[Path], kept: Path) -> None:
    """From now on these figures are what others are compared with."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(baseline.accept(_read(files), today=_today()))
    click.echo(f"written to {kept}")


ALL: Final = (report, check, accept)


def _read(files: Sequence[Path]) -> tuple[Report, ...]:
    try:
        return tuple(one for file in files for one in read(file))
    except NotAReport as error:
        raise click.ClickException(str(error)) from error


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _print(moved: Sequence[Moved]) -> None:
    rows = [
        (
            one.key[0],
            one.key[1],
            "" if one.old is None else number(one.old.value),
            "" if one.new is None else number(one.new),
            "" if one.change is None else f"{one.change - 1:+.0%}",
            "" if one.old is None else f"{one.old.may_move - 1:.0%}",
            one.verdict.value,
        )
        for one in moved
    ]
    columns = ("scenario", "figure", "old", "new", "better by", "may move", "verdict")
    print_table("against what was accepted", columns, rows)
    for verdict in (Verdict.FELL, Verdict.GONE, Verdict.IMPROVED):
        named = [f"{one.key[0]} {one.key[1]}" for one in moved if one.verdict is verdict]
        if named:
            click.echo(f"{verdict.value}: {', '.join(named)}")


def _row(one: Moved) -> dict[str, object]:
    return {
        "scenario": one.key[0],
        "figure": one.key[1],
        "old": None if one.old is None else one.old.value,
        "new": one.new,
        "change": None if one.change is None else round(one.change, 3),
        "may_move": None if one.old is None else one.old.may_move,
        "verdict": one.verdict.value,
    }
