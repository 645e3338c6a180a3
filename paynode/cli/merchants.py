"""`paynode merchants`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from paynode.cli.answering import output_option, print_json, print_table, run
from paynode.config import Settings
from paynode.domain import ids
from paynode.domain.dead_letters import instant
from paynode.domain.money import BASIS_POINTS, FeePlan
from paynode.domain.terms import Availability, Terms
from paynode.storage import merchants as store
from paynode.storage.postgres import Role, Session, session

Result = TypeVar("Result")


@click.group()
def merchants() -> None:
    """Merchants and their API keys."""


Command = TypeVar("Command", bound=Callable[..., None])


def _terms_options(command: Command) -> Command:
    """What a merchant is paid on; in this order in the help."""
    share, days, by = click.IntRange(0, BASIS_POINTS), click.IntRange(0, 365), [one.value for one in Availability]
    options: tuple[tuple[str, click.ParamType[Any], int | str, str], ...] = (
        ("--fee-fixed", click.IntRange(min=0), 0, "Minor units of a payment, once."),
        ("--fee-basis-points", share, 150, "Hundredths of a percent of each capture."),
        ("--reserve-basis-points", share, 0, "Hundredths of a percent of each capture that are held back."),
        ("--reserve-days", click.IntRange(0, 3650), 0, "For how long they are."),
        ("--availability", click.Choice(by), by[0], "What makes the rest available: a date, or the PSP's settlement."),
        ("--available-days", days, 2, "Days until that date."),
    )
    for name, kind, default, help_ in reversed(options):
        command = click.option(name, type=kind, default=default, show_default=True, help=help_)(command)
    return command


def _terms(
    fee_fixed: int,
    fee_basis_points: int,
    reserve_basis_points: int,
    reserve_days: int,
    availability: str,
    available_days: int,
) -> Terms:
    if fee_basis_points + reserve_basis_points > BASIS_POINTS:
        raise click.UsageError("fee and reserve together are more than what is captured")
    return Terms(
        fees=FeePlan(fixed=fee_fixed, basis_points=fee_basis_points),
        reserve_basis_points=reserve_basis_points,
        reserve_days=reserve_days,
        availability=Availability(availability),
        available_days=available_days,
    )


@merchants.command()
@click.option("--name", required=True, help="How people call it; not unique.")
@_terms_options
@click.option(
    "--psp",
    "psps",
    metavar="NAME[=EUR,USD]",
    multiple=True,
    default=("sim",),
    show_default=True,
    help="Repeatable; tried in this order. With currencies: for payments in these only.",
)
@click.option("--if-absent", is_flag=True, help="Do nothing when a merchant of this name is there.")
@output_option
def create(name: str, psps: tuple[str, ...], if_absent: bool, output: str, **chosen: Any) -> None:
    """Create a merchant with one API key, which is shown this once."""
    terms = _terms(**chosen)
    made = _as_owner(lambda connection: store.create(connection, name, terms=terms, psps=psps, if_absent=if_absent))
    shown = {"id": ids.public(ids.MERCHANT, made.id), "name": made.name, "api_key": made.api_key}
    if output == "json":
        print_json(shown)
        return
    click.echo(f"merchant {shown['id']} ({made.name})")
    click.echo(f"API key  {made.api_key or 'not shown again: the merchant was there already'}")


@merchants.command("list")
@output_option
def list_(output: str) -> None:
    """List the merchants with their terms and the prefixes of their keys."""
    found = _as_owner(store.list_all)
    if output == "json":
        print_json({"data": [_as_json(merchant) for merchant in found]})
        return
    print_table(
        "Merchants",
        ("id", "name", "fee", "reserve", "available", "PSPs", "API keys", "since"),
        [
            (
                ids.public(ids.MERCHANT, merchant.id),
                merchant.name,
                _fee(merchant.terms),
                _reserve(merchant.terms),
                _available(merchant.terms),
                " ".join(merchant.psps),
                " ".join(merchant.prefixes),
                f"{merchant.created_at:%Y-%m-%d %H:%M}Z",
            )
            for merchant in found
        ],
    )


def _as_json(merchant: store.Merchant) -> dict[str, object]:
    return {
        "id": ids.public(ids.MERCHANT, merchant.id),
        "name": merchant.name,
        **_terms_as_json(merchant.terms),
        "psps": list(merchant.psps),
        "api_key_prefixes": list(merchant.prefixes),
        "created_at": merchant.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


def _terms_as_json(terms: Terms) -> dict[str, object]:
    return {
        "fee_fixed": terms.fees.fixed,
        "fee_basis_points": terms.fees.basis_points,
        "reserve_basis_points": terms.reserve_basis_points,
        "reserve_days": terms.reserve_days,
        "availability": terms.availability,
        "available_days": terms.available_days,
    }


def _fee(terms: Terms) -> str:
    return f"{terms.fees.fixed} + {terms.fees.basis_points / 100:g} %"


def _reserve(terms: Terms) -> str:
    return f"{terms.reserve_basis_points / 100:g} % for {terms.reserve_days} d" if terms.reserve_basis_points else "-"


def _available(terms: Terms) -> str:
    return f"after {terms.available_days} d" if terms.availability is Availability.DATE else "when settled"


@merchants.group()
def terms() -> None:
    """On which terms merchants are paid. A payment keeps those that were in force when it was accepted."""


@terms.command("announce")
@click.option("--merchant", required=True, help="mer_…")
@click.option(
    "--from",
    "effective_from",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%SZ"]),
    help="UTC; in a minute if not given. Never in the past.",
)
@_terms_options
def announce(merchant: str, effective_from: datetime | None, **chosen: Any) -> None:
    """Announce other terms, for what is accepted from then on."""
    merchant_id, announced = _merchant_id(merchant), _terms(**chosen)
    at = datetime.now(UTC) + timedelta(minutes=1) if effective_from is None else effective_from.replace(tzinfo=UTC)
    if at < datetime.now(UTC):
        raise click.BadParameter("what has been accepted keeps its terms: say a time to come", param_hint="--from")
    if not _as_owner(lambda connection: store.announce(connection, merchant_id, announced, at)):
        raise click.ClickException(f"there is no merchant {merchant}")
    click.echo(f"{_fee(announced)}, from {at:%Y-%m-%d %H:%M:%S}Z")


@terms.command("list")
@click.option("--merchant", required=True, help="mer_…")
@output_option
def list_terms(merchant: str, output: str) -> None:
    """List all terms of a merchant, the first ones foremost."""
    merchant_id = _merchant_id(merchant)
    found = _as_owner(lambda connection: store.terms_of(connection, merchant_id))
    if not found:
        raise click.ClickException(f"there is no merchant {merchant}")
    if output == "json":
        rows = [{"effective_from": instant(one.effective_from), **_terms_as_json(one.terms)} for one in found]
        print_json({"data": rows})
        return
    print_table(
        f"Terms of {merchant}",
        ("from", "fee", "reserve", "available"),
        [(instant(one.effective_from), _fee(one.terms), _reserve(one.terms), _available(one.terms)) for one in found],
    )


def _merchant_id(merchant: str) -> str:
    merchant_id = ids.parse(ids.MERCHANT, merchant)
    if merchant_id is None:
        raise click.BadParameter(f"{merchant!r} is not of the form mer_…", param_hint="--merchant")
    return merchant_id


@merchants.group()
def keys() -> None:
    """API keys: make the new one, give it out, then revoke the old one."""


@keys.command("create")
@click.option("--merchant", required=True, help="mer_…")
@output_option
def create_key(merchant: str, output: str) -> None:
    """Make another API key, which is shown this once."""
    merchant_id = _merchant_id(merchant)
    key = _as_owner(lambda connection: store.create_key(connection, merchant_id))
    if key is None:
        raise click.ClickException(f"there is no merchant {merchant}")
    if output == "json":
        print_json({"api_key": key.text, "prefix": key.prefix})
    else:
        click.echo(f"API key  {key.text}")


@keys.command("revoke")
@click.option("--prefix", required=True, help="The key up to its second underscore: pk_…")
@output_option
def revoke_key(prefix: str, output: str) -> None:
    """Refuse a key from now on."""
    merchant_id = _as_owner(lambda connection: store.revoke_key(connection, prefix))
    if merchant_id is None:
        raise click.ClickException(f"there is no API key with the prefix {prefix}")
    merchant = ids.public(ids.MERCHANT, merchant_id)
    if output == "json":
        print_json({"prefix": prefix, "merchant_id": merchant, "revoked": True})
    else:
        click.echo(f"revoked {prefix} of {merchant}")


def _as_owner(work: Callable[[Session], Awaitable[Result]]) -> Result:
    """No log-in role may write merchants: making one is an act of the operator, who has the owner's URL."""

    async def connected(settings: Settings) -> Result:
        async with session(settings, Role.OWNER, application_name="paynode merchants") as connection:
            return await work(connection)

    return run(connected)
