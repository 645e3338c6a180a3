"""`paynode dlq`: what can never work by itself, and what a person decides about it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import click

from paynode.cli.actor import actor_option
from paynode.cli.answering import output_option, print_json, print_table, run
from paynode.config import Settings
from paynode.domain import ids
from paynode.domain.dead_letters import (
    WHY_NOT,
    LetterFilter,
    LetterInFull,
    LetterStatus,
    LetterView,
    Resolution,
    Resolving,
    instant,
    public_letter,
    public_letter_in_full,
)
from paynode.storage.dead_letters import PgLetters, PgResolving
from paynode.storage.postgres import Role, pool

Command = TypeVar("Command", bound=Callable[..., object])

_NAME: Final = "paynode dlq"
_DURATION: Final = re.compile(r"([0-9]{1,5})([smhd])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# Letters of one page of what --all means.
_PAGE: Final = 500


class _Age(click.ParamType[datetime]):
    """`90s`, `15m`, `2h` or `3d`, as the instant so long ago."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        match = _DURATION.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is not of the form 90s, 15m, 2h or 3d", param, ctx)
        return datetime.now(UTC) - timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


class _Merchant(click.ParamType[str]):
    """mer_…, as its UUID."""

    name = "merchant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        found = ids.parse(ids.MERCHANT, str(value))
        if found is None:
            self.fail(f"{value!r} is not of the form mer_…", param, ctx)
        return found


def _filters(command: Command) -> Command:
    """Which letters are meant."""
    for option in (
        click.option("--stream", help="Only those that came by this stream."),
        click.option(
            "--newer-than", "since", type=_Age(), help="Only what failed first less long ago: 90s, 15m, 2h, 3d."
        ),
        click.option("--older-than", "until", type=_Age(), help="Only what failed first longer ago."),
        click.option("--merchant", type=_Merchant(), help="Only this merchant's: mer_…"),
        click.option("--reason", help="Only those with this reason."),
    ):
        command = option(command)
    return command


def _resolving_options(command: Command) -> Command:
    for option in (
        output_option,
        click.option("--yes", is_flag=True, help="With --all: do not ask."),
        actor_option,
        click.option("--all", "is_all", is_flag=True, help="All open ones that the filters let through, oldest first."),
    ):
        command = option(command)
    return click.argument("letters", nargs=-1, type=click.UUID, metavar="[ID]...")(_filters(command))


@click.group()
def dlq() -> None:
    """Dead letters: list and show them, requeue what was mended, discard what is junk.

    A letter is never edited. Requeued, it takes effect once, and what was parked behind it follows in order.
    """


@dlq.command("list")
@_filters
@click.option(
    "--status",
    type=click.Choice([*map(str, LetterStatus), "all"]),
    default=LetterStatus.DEAD.value,
    show_default=True,
    help="dead ones wait for somebody.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="Letters of this page.")
@click.option("--cursor", type=click.UUID, help="next_cursor of the page before.")
@output_option
def list_(
    reason: str | None,
    merchant: str | None,
    since: datetime | None,
    until: datetime | None,
    stream: str | None,
    status: str,
    limit: int,
    cursor: uuid.UUID | None,
    output: str,
) -> None:
    """List dead letters, newest first."""
    asked = LetterFilter(
        status=None if status == "all" else LetterStatus(status),
        reason=reason,
        merchant_id=merchant,
        stream=stream,
        since=since,
        until=until,
    )

    async def read(settings: Settings) -> Sequence[LetterView]:
        async with pool(settings, Role.READER, application_name=_NAME, size=1) as connections:
            before_id = None if cursor is None else str(cursor)
            return await PgLetters(connections).index(asked, before_id=before_id, limit=limit + 1)

    found = run(read)
    shown, next_cursor = found[:limit], found[limit - 1].id if len(found) > limit else None
    if output == "json":
        data = [public_letter(letter) for letter in shown]
        print_json({"data": data, "has_more": next_cursor is not None, "next_cursor": next_cursor})
        return
    _print_letters(shown)
    if next_cursor is not None:
        click.echo(f"more: --cursor {next_cursor}")


def _print_letters(letters: Sequence[LetterView]) -> None:
    _print(
        "Dead letters",
        ("id", "failed first", "status", "reason", "type", "stream", "merchant", "payment", "tries"),
        [
            (
                letter.id,
                f"{letter.first_failed_at:%Y-%m-%d %H:%M:%S}Z",
                letter.status,
                letter.reason,
                letter.type or "",
                letter.stream,
                ids.public(ids.MERCHANT, letter.merchant_id) if letter.merchant_id else "",
                ids.public(ids.PAYMENT, letter.payment_id) if letter.payment_id else "",
                str(letter.attempts),
            )
            for letter in letters
        ],
    )


@dlq.command()
@click.argument("letter", type=click.UUID, metavar="ID")
@output_option
def show(letter: uuid.UUID, output: str) -> None:
    """Show one with what came, what a requeue would put on the road, who waits behind it, and what was done to it."""

    async def read(settings: Settings) -> LetterInFull | None:
        async with pool(settings, Role.READER, application_name=_NAME, size=1) as connections:
            return await PgLetters(connections).find(str(letter))

    found = run(read)
    if found is None:
        raise click.ClickException(f"there is no dead letter {letter}")
    if output == "json":
        print_json(public_letter_in_full(found))
        return
    members = {**public_letter(found.letter), "parked": found.parked}
    rows = [(name, "" if value is None else str(value)) for name, value in members.items() if name != "object"]
    _print("Dead letter", ("", ""), rows)
    _print("What came", ("field", "value"), found.fields.items())
    if found.message is not None:
        message = [(name, str(value)) for name, value in found.message.items()]
        _print("What a requeue puts on the road", ("column", "value"), message)
    if found.audit:
        done = [(instant(line.at), line.actor, line.action, line.note) for line in found.audit]
        _print("What was done", ("at", "by", "what", "why"), done)


def _print(title: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """A table of what strangers have chosen: a terminal obeys control characters, so they are shown by their names."""
    print_table(title, columns, [tuple(map(_visible, row)) for row in rows])


def _visible(text: str) -> str:
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


@dlq.command()
@_resolving_options
@click.option("--note", default="none given", help="Why; it stands in the audit row.")
def requeue(**options: Any) -> None:
    """Put letters back on the road after what made them fail was mended.

    Each in one transaction with its audit row. One that somebody else resolved first stays as it is (exit code 1).
    """
    _resolve(Resolving.REQUEUE, **options)


@dlq.command()
@_resolving_options
@click.option("--note", required=True, help="Why nobody will miss it; it stands in the audit row.")
def discard(**options: Any) -> None:
    """Give letters up. What says that money moved cannot be: it is mended and requeued."""
    _resolve(Resolving.DISCARD, **options)


def _resolve(
    verb: Resolving,
    *,
    letters: tuple[uuid.UUID, ...],
    is_all: bool,
    yes: bool,
    actor: str,
    note: str,
    output: str,
    reason: str | None,
    merchant: str | None,
    stream: str | None,
    since: datetime | None,
    until: datetime | None,
) -> None:
    """Do it and say what came of each; exit code 1 when one of them was not done."""
    asked = LetterFilter(reason=reason, merchant_id=merchant, stream=stream, since=since, until=until)
    _refuse_vague(letters, asked, note, is_all=is_all)
    chosen = list(dict.fromkeys(map(str, letters)))
    if is_all:
        chosen = run(lambda settings: _all(settings, asked))
        if chosen and not yes:
            click.confirm(f"{verb} {len(chosen)} dead letters?", abort=True, err=True)

    async def resolve(settings: Settings) -> list[tuple[str, Resolution]]:
        async with pool(settings, Role.GATEWAY, application_name=_NAME, size=1) as connections:
            desk = PgResolving(connections)
            return [(one, await desk.resolve(verb, one, actor=actor, note=note)) for one in chosen]

    results = run(resolve) if chosen else []
    done = sum(result is Resolution.DONE for _, result in results)
    if output == "json":
        print_json({"data": [{"id": letter, "result": result} for letter, result in results], "done": done})
    else:
        for letter, result in results:
            click.echo(f"{letter} {f'{verb}: done' if result is Resolution.DONE else WHY_NOT[result]}")
        click.echo(f"{done} of {len(results)} done")
    if done < len(results):
        raise click.exceptions.Exit(1)


def _refuse_vague(letters: Sequence[uuid.UUID], asked: LetterFilter, note: str, *, is_all: bool) -> None:
    if bool(letters) == is_all:
        raise click.UsageError("say which letters: either their ids, or --all with the filters of `dlq list`")
    if letters and asked != LetterFilter():
        raise click.UsageError("filters go with --all")
    if not note.strip() or not note.isprintable() or len(note) > 500:
        raise click.BadParameter("say why, in at most 500 printable characters", param_hint="--note")


async def _all(settings: Settings, asked: LetterFilter) -> list[str]:
    """The ids of all that are meant, oldest first: later ones may be about what earlier ones changed."""
    found: list[str] = []
    async with pool(settings, Role.READER, application_name=_NAME, size=1) as connections:
        reading = PgLetters(connections)
        while True:
            page = await reading.index(asked, before_id=found[-1] if found else None, limit=_PAGE)
            found += [letter.id for letter in page]
            if len(page) < _PAGE:
                return found[::-1]
