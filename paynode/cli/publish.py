"""`paynode publish`: one event as an internal service would publish it, and what became of it.

Exit codes: 0 applied (or published, with --no-wait), 1 refused, 2 usage, 75 nobody knows: try again with the same --id.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, TypeVar

import click

from paynode.cli.answering import TRY_AGAIN, output_option, print_json, run
from paynode.client import (
    Applied,
    EventRefused,
    InvalidCredentials,
    NotPublished,
    Outcome,
    Publisher,
    PublishingFailed,
)
from paynode.client.credentials import text_of
from paynode.client.events import money_of, payment_of
from paynode.config import Settings, with_development
from paynode.domain.publishing import (
    CaptureRequest,
    OutsideData,
    OutsideType,
    PayoutEnd,
    PayoutOrder,
    RefundRequest,
    WalletMovement,
)
from paynode.storage import publishers as store
from paynode.storage.postgres import Role, session

Command = TypeVar("Command", bound=Callable[..., object])

# The publisher that an operator is, made when it is first needed.
_OPERATOR: Final = "operator"
_REFUSED: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """What all four have in common: about whom, as whom, and how long one waits."""

    merchant: str
    event_id: str | None
    publisher: str
    secret_env: str | None
    secret_file: BinaryIO | None
    is_awaited: bool
    timeout_s: float
    output: str


@click.group()
def publish() -> None:
    """Publish an event as an internal service would, and wait for what becomes of it.

    Exit codes: 0 applied, 1 refused, 2 usage, 75 nobody knows in time: run it again with the --id that it tells.
    Without --secret-env and --secret-file the publisher's key is read from the database, by the owner's URL; the
    publisher `operator` is made when it is first needed.
    """


def _common(command: Command) -> Command:
    for option in (
        output_option,
        click.option("--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=30.0, show_default=True),
        click.option("--no-wait", is_flag=True, help="Do not wait for the outcome; Redis may still lose the event."),
        click.option("--secret-file", type=click.File("rb"), help="File with the publisher's secret; - for stdin."),
        click.option("--secret-env", metavar="VARIABLE", help="Environment variable with the publisher's secret."),
        click.option("--publisher", default=_OPERATOR, show_default=True, help="As whom."),
        click.option("--id", "event_id", help="UUIDv7 of the event, to ask again for one; a fresh one if not given."),
        click.option("--merchant", required=True, help="mer_…"),
    ):
        command = option(command)
    return command


def _movement(command: Command) -> Command:
    for option in (
        click.option("--reference", required=True, help="Yours, without blanks."),
        click.option("--reason", required=True, help="For people."),
        click.option("--currency", required=True, help="ISO 4217, in capitals."),
        click.option("--amount", required=True, type=int, help="Minor units."),
    ):
        command = option(command)
    return command


@publish.command()
@_movement
@_common
def credit(amount: int, currency: str, reason: str, reference: str, **common: Any) -> None:
    """Add to a merchant's wallet."""
    _publish(OutsideType.WALLET_CREDIT, lambda: _moving(amount, currency, reason, reference), common)


@publish.command()
@_movement
@_common
def debit(amount: int, currency: str, reason: str, reference: str, **common: Any) -> None:
    """Take from a merchant's wallet; refused when there is less in it."""
    _publish(OutsideType.WALLET_DEBIT, lambda: _moving(amount, currency, reason, reference), common)


@publish.command("write-off")
@_movement
@_common
def write_off(amount: int, currency: str, reason: str, reference: str, **common: Any) -> None:
    """Take a merchant's debt as a loss; refused when the merchant owes less."""
    _publish(OutsideType.WALLET_WRITE_OFF, lambda: _moving(amount, currency, reason, reference), common)


@publish.command()
@click.option("--amount", required=True, type=int, help="Minor units.")
@click.option("--currency", required=True, help="ISO 4217, in capitals.")
@click.option("--reference", required=True, help="Yours, without blanks.")
@_common
def payout(amount: int, currency: str, reference: str, **common: Any) -> None:
    """Begin a payout to a merchant; its id is the event's. Refused when less than that may be paid out."""
    _publish(
        OutsideType.PAYOUT_CREATE,
        lambda: PayoutOrder(money=money_of(amount, currency), reference=reference),
        common,
    )


@publish.command("payout-paid")
@click.option("--payout", required=True, help="The id of the event that began it.")
@_common
def payout_paid(payout: str, **common: Any) -> None:
    """The bank has paid a payout."""
    _publish(OutsideType.PAYOUT_PAID, lambda: PayoutEnd(payout_id=payout), common)


@publish.command("payout-failed")
@click.option("--payout", required=True, help="The id of the event that began it.")
@click.option("--reason", default="", help="For people.")
@_common
def payout_failed(payout: str, reason: str, **common: Any) -> None:
    """The bank could not pay a payout: it is available again."""
    _publish(OutsideType.PAYOUT_FAILED, lambda: PayoutEnd(payout_id=payout, reason=reason), common)


@publish.command("refund-request")
@click.option("--payment", required=True, help="pay_…")
@click.option("--amount", type=int, help="Minor units; all that is left if not given.")
@click.option("--reason", default="", help="For people.")
@_common
def refund_request(payment: str, amount: int | None, reason: str, **common: Any) -> None:
    """Ask to give a payment back."""
    _publish(
        OutsideType.REFUND_REQUEST,
        lambda: RefundRequest(payment_id=payment_of(payment), amount=amount, reason=reason),
        common,
    )


@publish.command("capture-request")
@click.option("--payment", required=True, help="pay_…")
@click.option("--amount", type=int, help="Minor units; all that is authorized if not given.")
@click.option("--final", "is_final", is_flag=True, help="Let go of the rest.")
@_common
def capture_request(payment: str, amount: int | None, is_final: bool, **common: Any) -> None:
    """Ask to capture an authorized payment."""
    _publish(
        OutsideType.CAPTURE_REQUEST,
        lambda: CaptureRequest(payment_id=payment_of(payment), amount=amount, is_final=is_final),
        common,
    )


def _moving(amount: int, currency: str, reason: str, reference: str) -> WalletMovement:
    return WalletMovement(money=money_of(amount, currency), reason=reason, reference=reference)


def _publish(event_type: OutsideType, make: Callable[[], OutsideData], common: dict[str, Any]) -> None:
    way = _Way(is_awaited=not common.pop("no_wait"), **common)

    async def work(settings: Settings) -> tuple[str, Outcome | None]:
        secret = _given_secret(way) or await _known_secret(settings, way.publisher)
        async with Publisher(_redis_url(settings), name=way.publisher, secret=secret) as publisher:
            event = publisher.signer.sign(event_type, way.merchant, make(), event_id=way.event_id)
            if way.is_awaited:
                return event.id, await publisher.settle(event, timeout=way.timeout_s)
            await publisher.send(event, timeout=way.timeout_s)
            return event.id, None

    try:
        event_id, outcome = run(work)
    except (EventRefused, InvalidCredentials) as error:
        raise click.UsageError(str(error)) from error
    except PublishingFailed as error:
        click.echo(f"Error: {error}", err=True)
        if way.output == "json":
            result = "not_published" if isinstance(error, NotPublished) else "unknown"
            print_json({"event_id": error.event_id, "result": result, "code": None})
        raise click.exceptions.Exit(TRY_AGAIN) from error
    _tell(way, event_id, outcome)


def _tell(way: _Way, event_id: str, outcome: Outcome | None) -> None:
    if outcome is None:
        result, code = "published", None
    elif isinstance(outcome, Applied):
        result, code = "applied", None
    else:
        result, code = "refused", outcome.code
    if way.output == "json":
        print_json({"event_id": event_id, "result": result, "code": code})
    else:
        click.echo(f"event {event_id} {result}" + (f": {code}" if code else ""))
    raise click.exceptions.Exit(_REFUSED if result == "refused" else 0)


def _given_secret(way: _Way) -> str | None:
    if way.secret_env and way.secret_file:
        raise click.UsageError("--secret-env or --secret-file, not both")
    if way.secret_file is not None:
        return way.secret_file.read(4096).decode("ascii", "replace").strip()
    if not way.secret_env:
        return None
    secret = os.environ.get(way.secret_env)
    if not secret:
        raise click.UsageError(f"the environment variable {way.secret_env} is not set")
    return secret


async def _known_secret(settings: Settings, publisher: str) -> str:
    """The key of a publisher, as the owner of the database may read it."""
    async with session(settings, Role.OWNER, application_name="paynode publish") as connection:
        found = (await store.keys(connection)).get(publisher)
        if found is not None:
            return text_of(found.secret)
        if publisher != _OPERATOR:
            raise click.ClickException(f"there is no publisher {publisher}: `paynode publishers create` makes one")
        try:
            made = await store.create(connection, _OPERATOR, types=tuple(OutsideType), actor="paynode publish")
        except store.PublisherExists as error:
            # Revoked, or made by another one in this moment.
            raise click.ClickException(f"{error}; if it is not revoked, try again") from error
    return text_of(made.secret)


def _redis_url(settings: Settings) -> str:
    url = with_development(settings).redis.url
    if not url:
        raise click.ClickException("redis.url is not set, and no `paynode dev` has run on this data directory")
    return url
