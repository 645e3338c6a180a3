"""`paynode merchants`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from paynode.cli.answering import output_option, print_json, print_table, run
from paynode.config import Settings
from paynode.domain import ids
from paynode.domain.money import FeePlan
from paynode.storage import merchants as store
from paynode.storage.postgres import Role, Session, session

Result = TypeVar("Result")


@click.group()
def merchants() -> None:
    """Merchants and their API keys."""


@merchants.command()
@click.option("--name", required=True, help="How people call it; not unique.")
@click.option("--fee-fixed", type=click.IntRange(min=0), default=0, show_default=True, help="Minor units per capture.")
@click.option(
    "--fee-basis-points",
    type=click.IntRange(0, 10_000),
    default=150,
    show_default=True,
    help="Hundredths of a percent of what is captured.",
)
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
def create(
    name: str, fee_fixed: int, fee_basis_points: int, psps: tuple[str, ...], if_absent: bool, output: str
) -> None:
    """Create a merchant with one API key, which is shown this once."""
    fees = FeePlan(fixed=fee_fixed, basis_points=fee_basis_points)
    made = _as_owner(lambda connection: store.create(connection, name, fees=fees, psps=psps, if_absent=if_absent))
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
        ("id", "name", "fee", "PSPs", "API keys", "since"),
        [
            (
                ids.public(ids.MERCHANT, merchant.id),
                merchant.name,
                f"{merchant.fees.fixed} + {merchant.fees.basis_points / 100:g} %",
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
        "fee_fixed": merchant.fees.fixed,
        "fee_basis_points": merchant.fees.basis_points,
        "psps": list(merchant.psps),
        "api_key_prefixes": list(merchant.prefixes),
        "created_at": merchant.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }


@merchants.group()
def keys() -> None:
    """API keys: make the new one, give it out, then revoke the old one."""


@keys.command("create")
@click.option("--merchant", required=True, help="mer_…")
@output_option
def create_key(merchant: str, output: str) -> None:
    """Make another API key, which is shown this once."""
    merchant_id = ids.parse(ids.MERCHANT, merchant)
    if merchant_id is None:
        raise click.BadParameter(f"{merchant!r} is not of the form mer_…", param_hint="--merchant")
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
