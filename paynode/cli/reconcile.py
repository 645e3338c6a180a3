"""`paynode reconcile`: look for differences, show them, and decide in twos about what does not decide itself."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click

from paynode.app.parts import new_id
from paynode.app.reconciling import Looks, ReportUnknown, looking_once
from paynode.cli import reconcile_screen as screen
from paynode.cli.actor import actor_option
from paynode.cli.answering import LAW_BROKEN, output_option, print_json, run
from paynode.config import Settings
from paynode.domain.breaks import (
    OPEN_STATES,
    WHY_NOT,
    BreakFilter,
    BreakInFull,
    BreakTotal,
    BreakView,
    Decision,
    ProposedPosting,
    RunView,
)
from paynode.domain.reconciling import Area, BreakKind, RunReport
from paynode.storage.postgres import Role, pool
from paynode.storage.recon_breaks import PgBreaks, PgDecisions

_NAME: Final = "paynode reconcile"
_NOTE: Final = click.option("--note", required=True, help="Why; it stands in the audit log.")


class _Instant(click.ParamType[int]):
    """`2026-03-01`, or `2026-03-01T12:00:00+01:00`; as milliseconds since 1970. Without a zone it is UTC."""

    name = "instant"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no instant of ISO 8601", param, ctx)
        return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


class _Posting(click.ParamType[ProposedPosting]):
    """`suspense:sim,psp:sim:receivable,1000`."""

    name = "debit,credit,amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ProposedPosting:
        parts = str(value).split(",")
        if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdigit()) or len(parts[2]) > 18:
            self.fail(f"{value!r} is not of the form DEBIT,CREDIT,AMOUNT, in minor units", param, ctx)
        return ProposedPosting(debit=parts[0], credit=parts[1], amount=int(parts[2]))


@click.group()
def reconcile() -> None:
    """Hold the books against what can be known otherwise."""


@reconcile.command("run")
@click.argument("area", type=click.Choice([str(one) for one in Area]), metavar="wallets|payments|settlement")
@click.option("--psp", help="Whose settlement report.")
@click.option("--from", "since", type=_Instant(), help="Of a report or of payments: from then on.")
@click.option("--to", "until", type=_Instant(), help="Until then; not later than what has settled.")
@click.option("--full", "is_full", is_flag=True, help="Of wallets: from the beginning of the ledger.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Find and show, keep nothing, repair nothing.")
@output_option
@click.pass_context
def run_(
    context: click.Context,
    area: str,
    psp: str | None,
    since: int | None,
    until: int | None,
    is_full: bool,
    is_dry: bool,
    output: str,
) -> None:
    """Look once, now; exit code 3 when money differs.

    What evidence decides is repaired by itself, by compensating postings and never by an edit; the rest waits for two
    operators. The same inputs give the same findings: their digests stand in the output.
    """
    _refuse_what_does_not_fit(area, psp, since, until, is_full=is_full)

    async def look(settings: Settings) -> RunReport:
        async with looking_once(settings) as looks:
            return await _look(looks, area, psp or "", since, until, is_full=is_full, is_dry=is_dry)

    try:
        report = run(look)
    except ReportUnknown as error:
        raise click.ClickException(str(error)) from None
    if output == "json":
        print_json(screen.public_report(report))
    else:
        screen.print_report(report)
    context.exit(LAW_BROKEN if report.tally.money else 0)


def _look(
    looks: Looks, area: str, psp: str, since: int | None, until: int | None, *, is_full: bool, is_dry: bool
) -> Awaitable[RunReport]:
    match Area(area):
        case Area.WALLETS:
            return looks.at_wallets(is_full=is_full, is_dry=is_dry)
        case Area.PAYMENTS:
            return looks.at_payments(since, until, is_dry=is_dry)
        case Area.SETTLEMENT:
            return looks.at_report(psp, since, until, is_dry=is_dry)


def _refuse_what_does_not_fit(
    area: str, psp: str | None, since: int | None, until: int | None, *, is_full: bool
) -> None:
    if (area == Area.SETTLEMENT) != (psp is not None):
        raise click.UsageError("--psp goes with settlement, and settlement with --psp")
    if area == Area.WALLETS and (since is not None or until is not None):
        raise click.UsageError("wallets are looked at as they are now: --from and --to go with payments and settlement")
    if area != Area.WALLETS and is_full:
        raise click.UsageError("--full goes with wallets")


@reconcile.command()
@click.option("--open/--all", "is_open", default=True, show_default=True, help="Only those that are not over.")
@click.option("--kind", type=click.Choice([str(one) for one in BreakKind]), help="Only these.")
@click.option("--psp", help="Only this PSP's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many are shown.")
@output_option
@click.pass_context
def report(context: click.Context, is_open: bool, kind: str | None, psp: str | None, limit: int, output: str) -> None:
    """Show what was found: most money first, then the oldest. Exit code 3 when money differs in what is not over."""
    asked = BreakFilter(states=OPEN_STATES if is_open else None, kind=kind, psp=psp)

    async def read(settings: Settings) -> tuple[Sequence[BreakView], Sequence[BreakTotal], Sequence[RunView]]:
        async with pool(settings, Role.READER, application_name=_NAME, size=1) as connections:
            breaks = PgBreaks(connections)
            return await breaks.index(asked, limit=limit), await breaks.totals(), await breaks.last_runs()

    found, totals, runs = run(read)
    if output == "json":
        print_json(screen.public_overview(found, totals, runs))
    else:
        screen.print_overview(found, totals, runs)
    context.exit(LAW_BROKEN if any(total.size for total in totals) else 0)


@reconcile.command()
@click.argument("break_", type=click.UUID, metavar="BREAK")
@output_option
def show(break_: uuid.UUID, output: str) -> None:
    """Show one with its evidence, and what was done about it."""
    found = run(lambda settings: _find(settings, break_))
    if output == "json":
        print_json(screen.public_in_full(found))
    else:
        screen.print_in_full(found)


@reconcile.command()
@click.argument("break_", type=click.UUID, metavar="BREAK")
@click.option("--adjust", "posting", type=_Posting(), required=True, help="DEBIT,CREDIT,AMOUNT in minor units.")
@_NOTE
@actor_option
def propose(break_: uuid.UUID, posting: ProposedPosting, note: str, actor: str) -> None:
    """Propose a compensating posting. It is posted when somebody else approves it; a later proposal replaces it."""
    _say(lambda desk: desk.propose(str(break_), posting, actor=actor, note=_checked(note)))


@reconcile.command()
@click.argument("break_", type=click.UUID, metavar="BREAK")
@_NOTE
@actor_option
def dismiss(break_: uuid.UUID, note: str, actor: str) -> None:
    """Propose to leave it as it is: it is over when somebody else approves that."""
    _say(lambda desk: desk.propose(str(break_), None, actor=actor, note=_checked(note)))


@reconcile.command()
@click.argument("break_", type=click.UUID, metavar="BREAK")
@click.option("--note", default="agreed", show_default=True, help="Why; it stands in the audit log.")
@actor_option
def approve(break_: uuid.UUID, note: str, actor: str) -> None:
    """Agree to what somebody else has proposed, which `show` shows."""
    found = run(lambda settings: _find(settings, break_))

    async def agree(settings: Settings) -> Decision:
        async with pool(settings, Role.GATEWAY, application_name=_NAME, size=1) as connections:
            return await PgDecisions(connections).approve(
                str(break_),
                found.view.merchant_id,
                event_id=new_id(),
                partitions=settings.streams.partitions,
                actor=actor,
                note=_checked(note),
            )

    _tell(run(agree))


async def _find(settings: Settings, break_: uuid.UUID) -> BreakInFull:
    async with pool(settings, Role.READER, application_name=_NAME, size=1) as connections:
        found = await PgBreaks(connections).find(str(break_))
    if found is None:
        raise click.ClickException(f"there is no break {break_}")
    return found


def _say(verb: Callable[[PgDecisions], Awaitable[Decision]]) -> None:
    async def say(settings: Settings) -> Decision:
        async with pool(settings, Role.GATEWAY, application_name=_NAME, size=1) as connections:
            return await verb(PgDecisions(connections))

    _tell(run(say))


def _tell(decision: Decision) -> None:
    if decision is not Decision.DONE:
        raise click.ClickException(WHY_NOT[decision])
    click.echo("done")


def _checked(note: str) -> str:
    if not note.strip() or not note.isprintable() or len(note) > 500:
        raise click.BadParameter("say why, in at most 500 printable characters", param_hint="--note")
    return note
