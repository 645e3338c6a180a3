"""`paynode publishers`: who else may publish, and what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import click

from paynode.cli.actor import actor_option
from paynode.cli.answering import output_option, print_json, print_table, run
from paynode.client.credentials import InvalidCredentials, name_of, text_of
from paynode.config import Settings
from paynode.domain.publishing import OutsideType
from paynode.storage import publishers as store
from paynode.storage.postgres import Role, Session, session

Result = TypeVar("Result")


@click.group()
def publishers() -> None:
    """Internal services that publish on the streams, and their keys.

    A key is changed by creating another publisher, moving the service to it, and revoking the old one: a name is used
    once, so that it stays with what was said under it.
    """


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return name_of(value)
    except InvalidCredentials as error:
        raise click.BadParameter(str(error)) from error


_note_option = click.option("--note", default="", help="Why; stands in the audit log.")


@publishers.command()
@click.option("--name", required=True, callback=_name, help="How the service signs; never used for another one.")
@click.option(
    "--type",
    "types",
    type=click.Choice([str(one) for one in OutsideType]),
    multiple=True,
    required=True,
    help="What it may say; repeatable.",
)
@_note_option
@actor_option
@output_option
def create(name: str, types: tuple[str, ...], note: str, actor: str, output: str) -> None:
    """Create a publisher with a key, which is shown this once. It works at once."""
    allowed = [OutsideType(word) for word in types]
    try:
        made = _as_owner(lambda connection: store.create(connection, name, types=allowed, actor=actor, note=note))
    except store.PublisherExists as error:
        raise click.ClickException(str(error)) from error
    secret = text_of(made.secret)
    if output == "json":
        print_json({"name": made.name, "types": sorted(set(types)), "secret": secret})
        return
    click.echo(f"publisher {made.name}")
    click.echo(f"secret    {secret}")


@publishers.command("list")
@output_option
def list_(output: str) -> None:
    """List the publishers and what they may say; those that are revoked too."""
    found = _as_owner(store.list_all)
    if output == "json":
        print_json({"data": [_as_json(one) for one in found]})
        return
    print_table(
        "Publishers",
        ("name", "types", "since", "revoked"),
        [(one.name, " ".join(one.types), _minute(one.created_at), _minute(one.revoked_at)) for one in found],
    )


@publishers.command()
@click.argument("name")
@_note_option
@actor_option
@output_option
def revoke(name: str, note: str, actor: str, output: str) -> None:
    """End a publisher's key. What it signs is not believed any more, within 5 seconds."""
    revoked_at = _as_owner(lambda connection: store.revoke(connection, name, actor=actor, note=note))
    if revoked_at is None:
        raise click.ClickException("there is no such publisher")
    if output == "json":
        print_json({"name": name, "revoked_at": _instant(revoked_at)})
    else:
        click.echo(f"revoked {name}, since {_minute(revoked_at)}")


def _as_json(one: store.Publisher) -> dict[str, object]:
    return {
        "name": one.name,
        "types": list(one.types),
        "created_at": _instant(one.created_at),
        "revoked_at": None if one.revoked_at is None else _instant(one.revoked_at),
    }


def _instant(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _minute(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}Z"


def _as_owner(work: Callable[[Session], Awaitable[Result]]) -> Result:
    """No log-in role may write publishers: making one is an act of the operator, who has the owner's URL."""

    async def connected(settings: Settings) -> Result:
        async with session(settings, Role.OWNER, application_name="paynode publishers") as connection:
            return await work(connection)

    return run(connected)
