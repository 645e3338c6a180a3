"""`paynode fraud`: charges that the fraud check holds, and what a person decides about them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click
import uuid_utils

from paynode.cli.actor import actor_option
from paynode.cli.answering import output_option, print_json, print_table, run
from paynode.config import Settings
from paynode.domain import ids
from paynode.domain.screening import Opinion, ScreenedView, Settled
from paynode.storage.postgres import Role, pool
from paynode.storage.screening import PgScreened, PgScreenings

_NAME: Final = "paynode fraud"
_TOLD: Final = {
    Settled.RELEASED: "released: it is on its way to the PSP",
    Settled.REFUSED: "refused: it will be declined, and was never sent",
    Settled.CLOSED: "not wanted any more: nothing was sent, and nothing will be",
    Settled.KNOWN: "is not held: it never was, or somebody was faster",
}


class _Payment(click.ParamType[str]):
    """pay_…, as its UUID."""

    name = "payment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        found = ids.parse(ids.PAYMENT, str(value))
        if found is None:
            self.fail(f"{value!r} is not of the form pay_…", param, ctx)
        return found


@click.group()
def fraud() -> None:
    """Charges that the fraud check holds: list them, let them go or refuse them.

    Nothing of a held charge has been sent to any PSP.
    """


@fraud.command("list")
@click.option(
    "--marked", is_flag=True, help="Instead: those that were sent while the check was out, and that it objects to now."
)
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@output_option
def list_(marked: bool, limit: int, output: str) -> None:
    """List held charges, oldest first."""

    async def read(settings: Settings) -> Sequence[ScreenedView]:
        async with pool(settings, Role.READER, application_name=_NAME, size=1) as connections:
            screened = PgScreened(connections)
            return await (screened.marked(limit) if marked else screened.held(limit))

    found = [_public(view) for view in run(read)]
    if output == "json":
        print_json({"data": found})
    else:
        columns = ("payment_id", "merchant_id", "amount", "currency", "reason", "at", "is_asked_again", "opinion")
        rows = [tuple("" if one[name] is None else str(one[name]) for name in columns) for one in found]
        print_table("Sent unscreened, and objected to" if marked else "Held", columns, rows)


def _public(view: ScreenedView) -> dict[str, object]:
    return {
        "payment_id": ids.public(ids.PAYMENT, view.payment_id),
        "merchant_id": ids.public(ids.MERCHANT, view.merchant_id),
        "amount": view.money.amount,
        "currency": view.money.currency,
        "verdict": view.verdict,
        "reason": view.reason,
        "at": f"{view.at:%Y-%m-%dT%H:%M:%S}Z",
        "is_asked_again": view.is_owed,
        "opinion": view.opinion,
    }


_payments = click.argument("payments", nargs=-1, required=True, type=_Payment(), metavar="PAYMENT...")
_note = click.option("--note", required=True, help="Why; it stands in the audit row.")


@fraud.command()
@_payments
@_note
@actor_option
@output_option
def release(payments: tuple[str, ...], note: str, actor: str, output: str) -> None:
    """Let held charges go to their PSP. Each in one transaction with its audit row."""
    _decide(Opinion.PASS, payments, note, actor, output)


@fraud.command()
@_payments
@_note
@actor_option
@output_option
def reject(payments: tuple[str, ...], note: str, actor: str, output: str) -> None:
    """Refuse held charges: their payments are declined."""
    _decide(Opinion.REJECT, payments, note, actor, output)


def _decide(opinion: Opinion, payments: Sequence[str], note: str, actor: str, output: str) -> None:
    """Decide and say what came of each; exit code 1 when one of them was not held."""
    if not note.strip() or not note.isprintable() or len(note) > 500:
        raise click.BadParameter("say why, in at most 500 printable characters", param_hint="--note")

    async def decide(settings: Settings) -> list[tuple[str, Settled]]:
        async with pool(settings, Role.GATEWAY, application_name=_NAME, size=1) as connections:
            desk = PgScreenings(
                connections,
                salt="",
                partitions=settings.streams.partitions,
                payment_deadline_s=settings.http.payment_deadline_s,
            )
            return [
                (one, await desk.decide(one, opinion, actor=actor, note=note, command_id=str(uuid_utils.uuid7())))
                for one in dict.fromkeys(payments)
            ]

    results = [(ids.public(ids.PAYMENT, one), settled) for one, settled in run(decide)]
    if output == "json":
        print_json({"data": [{"payment_id": one, "result": settled} for one, settled in results]})
    else:
        for one, settled in results:
            click.echo(f"{one} {_TOLD[settled]}")
    if any(settled is Settled.KNOWN for _, settled in results):
        raise click.exceptions.Exit(1)
