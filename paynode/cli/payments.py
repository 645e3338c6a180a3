"""`paynode payments`: what one payment is, and how it came to be that."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar

import click
import uuid_utils

from paynode.cli.actor import actor_option
from paynode.cli.answering import output_option, print_json, print_table, run
from paynode.config import Settings, with_development
from paynode.domain import ids
from paynode.domain.dead_letters import instant
from paynode.domain.psp import Outcome
from paynode.domain.tracing import PaymentInFull, Step
from paynode.storage import resolving
from paynode.storage.postgres import Role, pool, session
from paynode.storage.tracing import PgTracing

Found = TypeVar("Found")

_NAME: Final = "paynode payments"


class _PaymentId(click.ParamType[str]):
    """pay_…, or the UUID behind it; gives the UUID."""

    name = "payment"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        found = ids.parse(ids.PAYMENT, str(value))
        if found is not None:
            return found
        try:
            return str(uuid.UUID(str(value)))
        except ValueError:
            self.fail(f"{value!r} is neither pay_… nor a UUID", param, ctx)


@click.group()
def payments() -> None:
    """Look at one payment, or end a doubt about it."""


@payments.command()
@click.argument("payment", type=_PaymentId(), metavar="ID")
@output_option
def show(payment: str, output: str) -> None:
    """Show a payment with its operations, and what was asked about it."""
    found = _look(lambda tracing: tracing.find(payment))
    if found is None:
        raise click.ClickException(f"there is no payment {ids.public(ids.PAYMENT, payment)}")
    if output == "json":
        print_json(_as_json(found))
        return
    print_table("Payment", ("", ""), [(name, _text(value)) for name, value in _named(found).items()])
    _print_all("Operations", found.operations)
    _print_all("Requests", found.requests)


@payments.command()
@click.argument("payment", type=_PaymentId(), metavar="ID")
@output_option
def trace(payment: str, output: str) -> None:
    """Tell all that happened to a payment, in order: requests, calls, evidence, postings, events, what still waits."""
    steps = _look(lambda tracing: tracing.steps(payment))
    if not steps:
        raise click.ClickException(f"there is no payment {ids.public(ids.PAYMENT, payment)}")
    if output == "json":
        print_json({"data": [_step_as_json(step) for step in steps]})
        return
    print_table(
        ids.public(ids.PAYMENT, payment),
        ("at", "what", "operation", "detail"),
        [(_moment(step), step.what, _short(step.operation_id), _detail(step.detail)) for step in steps],
    )


# What an operator may know: the PSP's own word, on paper or by telephone.
_OUTCOMES: Final = {
    "approved": Outcome.APPROVED,
    "declined": Outcome.DECLINED,
    "absent": Outcome.ABSENT,
}


@payments.command()
@click.argument("payment", type=_PaymentId(), metavar="ID")
@click.option("--outcome", type=click.Choice(sorted(_OUTCOMES)), required=True, help="What the PSP did.")
@click.option("--operation", help="Which operation, when several are in doubt; a UUID of `payments show`.")
@click.option("--reference", help="The PSP's reference of what it did; a success needs it.")
@click.option("--note", required=True, help="How you know; stands in the audit log.")
@actor_option
def resolve(payment: str, outcome: str, operation: str | None, reference: str | None, note: str, actor: str) -> None:
    """End the doubt about an operation whose outcome is unknown or under review, or that is pending and never ends.

    What you say is evidence like a PSP's: it is booked by the payment's actor, and later evidence that contradicts it
    puts the payment under review. Nothing is edited.
    """
    if outcome == "approved" and not reference:
        raise click.UsageError("a success needs --reference: the books name it")

    async def tell(settings: Settings) -> resolving.Doubted:
        async with session(with_development(settings), Role.OWNER, application_name=_NAME) as connection:
            found = await resolving.doubted(connection, payment)
            meant = [one for one in found if operation in (None, one.id)]
            if len(meant) != 1:
                names = ", ".join(f"{one.kind} {one.id}" for one in found) or "none"
                raise click.ClickException(f"say --operation; in doubt: {names}")
            [one] = meant
            await resolving.resolve(
                connection,
                one,
                _OUTCOMES[outcome],
                reference=reference,
                actor=actor,
                note=note,
                event_id=str(uuid_utils.uuid7()),
                partitions=settings.streams.partitions,
            )
            return one

    told = run(tell)
    click.echo(f"{told.kind} {told.id} is {outcome}: its actor has been told")


def _look(look: Callable[[PgTracing], Coroutine[Any, Any, Found]]) -> Found:
    async def read(settings: Settings) -> Found:
        async with pool(settings, Role.READER, application_name=_NAME, size=1) as connections:
            return await look(PgTracing(connections))

    return run(read)


def _named(found: PaymentInFull) -> dict[str, object]:
    shown = {"id": ids.public(ids.PAYMENT, found.id), "merchant_id": ids.public(ids.MERCHANT, found.merchant_id)}
    return {**shown, "uuid": found.id, **found.members}


def _as_json(found: PaymentInFull) -> dict[str, object]:
    return {**_named(found), "operations": list(found.operations), "requests": list(found.requests)}


def _step_as_json(step: Step) -> dict[str, object]:
    return {
        "at": instant(step.at),
        "what": step.what,
        "id": step.id,
        "operation_id": step.operation_id,
        "detail": dict(step.detail),
    }


def _print_all(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        columns = tuple(rows[0])
        print_table(title, columns, [tuple(_text(row.get(name)) for name in columns) for row in rows])


def _moment(step: Step) -> str:
    return f"{step.at:%Y-%m-%d %H:%M:%S.%f}"[:-3] + "Z"


def _short(operation_id: str | None) -> str:
    # The end of a UUIDv7 is what differs between operations of the same second.
    return "" if operation_id is None else operation_id[-12:]


def _detail(detail: Mapping[str, object]) -> str:
    return "  ".join(f"{name}={_text(value)}" for name, value in detail.items())


def _text(value: object) -> str:
    """What a PSP or a merchant wrote is shown by the names of its control characters: a terminal would obey them."""
    text = "" if value is None else str(value)
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
