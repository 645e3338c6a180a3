"""`paynode psp`: the guards of the PSPs, and an operator's hand on their breakers."""

from __future__ import annotations

from collections.abc import Sequence

import click

from paynode.cli.actor import actor_option
from paynode.cli.answering import load_settings, output_option, print_json, print_table, run
from paynode.cli.psp_screen import public_guards, rows
from paynode.config import Settings, with_development
from paynode.domain.guarding import CALL_KINDS, BreakerAction
from paynode.domain.guards_overview import GuardsOverview
from paynode.storage import guards
from paynode.storage.postgres import Role, session


@click.group()
def psp() -> None:
    """PSPs as paynode calls them: breakers, calls under way, pace."""


_psp_argument = click.argument("name", metavar="[PSP]", required=False)
_operation_option = click.option(
    "--operation",
    "operations",
    type=click.Choice(CALL_KINDS),
    multiple=True,
    help="Only this kind of call; repeatable. All of them if not given.",
)
_note_option = click.option("--note", default="", help="Why; stands in the audit log.")


@psp.command()
@_psp_argument
@output_option
def status(name: str | None, output: str) -> None:
    """Show the guards of a PSP, or of all: each process that calls it, with its own breakers.

    Reads and changes nothing. A breaker's figures are the failed and all calls of its window.
    """

    async def look(settings: Settings) -> GuardsOverview:
        async with session(with_development(settings), Role.READER, application_name="paynode psp") as connection:
            return await guards.look(connection, _psps(settings, name))

    found = run(look)
    if output == "json":
        print_json(public_guards(found))
        return
    print_table(
        "PSPs",
        ("psp", "gateway", "in flight", "waiting", "calls/s", "retries/s", "breakers"),
        [row for one in found.psps for row in rows(found, one)],
    )
    if not found.orders:
        return
    print_table(
        "What operators said last",
        ("psp", "operation", "action", "by", "at"),
        [(one.psp, one.operation, one.action, one.by, f"{one.at:%Y-%m-%d %H:%M}Z") for one in found.orders],
    )


@psp.command()
@click.argument("name", metavar="PSP")
@_operation_option
@_note_option
@actor_option
@output_option
def trip(name: str, operations: tuple[str, ...], note: str, actor: str, output: str) -> None:
    """Open a PSP's breakers, and keep them open until they are reset.

    New operations go to another PSP or wait; nothing that is under way is cut off. Processes that start later hold them
    open too. It works within gateway.pulse_s seconds, twice that at most.
    """
    _order((name,), operations, BreakerAction.TRIP, note, actor, output)


@psp.command()
@_psp_argument
@_operation_option
@_note_option
@actor_option
@output_option
def reset(name: str | None, operations: tuple[str, ...], note: str, actor: str, output: str) -> None:
    """Close the breakers of a PSP, or of all, whoever opened them, and forget what was counted.

    It works within gateway.pulse_s seconds, twice that at most.
    """
    _order((name,) if name else (), operations, BreakerAction.RESET, note, actor, output)


def _order(
    names: tuple[str, ...], operations: tuple[str, ...], action: BreakerAction, note: str, actor: str, output: str
) -> None:
    psps, kinds = _psps(load_settings(), *names), operations or CALL_KINDS

    async def tell(settings: Settings) -> None:
        # No log-in role may command breakers: that is an act of the operator, who has the owner's URL.
        async with session(with_development(settings), Role.OWNER, application_name="paynode psp") as connection:
            await guards.order(connection, psps, kinds, action, actor=actor, note=note)

    run(tell)
    if output == "json":
        print_json({"data": [{"psp": one, "operations": list(kinds), "action": action} for one in psps]})
    else:
        for one in psps:
            click.echo(f"{action} {one}: {', '.join(kinds)}")


def _psps(settings: Settings, name: str | None = None) -> Sequence[str]:
    """The one that is named, or all there are."""
    if name is None:
        return sorted(settings.psp)
    if name not in settings.psp:
        raise click.UsageError(f"there is no PSP {name!r}: {', '.join(sorted(settings.psp))}")
    return [name]
