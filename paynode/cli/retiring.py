"""`paynode ledger retire`."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import click

from paynode.cli.actor import actor_option
from paynode.cli.answering import output_option, print_json, run
from paynode.storage import retiring
from paynode.storage.retiring import Retired, Retirement


@click.command()
@click.option(
    "--before",
    type=click.DateTime(["%Y-%m"]),
    required=True,
    metavar="YYYY-MM",
    help="The first month that stays (UTC).",
)
@click.option(
    "--manifest",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The manifest of the export that holds the months; its hash is kept with what they came to.",
)
@click.option("--note", required=True, help="Why; stands in the audit log.")
@click.option(
    "--patience",
    type=click.FloatRange(min=0),
    default=retiring.PATIENCE_S,
    show_default=True,
    help="Seconds to try for the lock on the ledger, a tenth of a second each time.",
)
@actor_option
@output_option
def retire(before: datetime, manifest: Path, note: str, patience: float, actor: str, output: str) -> None:
    """Take the months before one out of the ledger, and keep what they came to. Run by the owner of the schema.

    Export them first, and verify the export. Payments go on meanwhile. The months' tables stay, detached and as
    unchangeable as before: drop them when you are sure of the export. Refused when a law of money is broken.
    """
    asked = Retirement(
        before=before.replace(tzinfo=UTC),
        manifest=str(manifest.resolve()),
        manifest_sha256=sha256(manifest.read_bytes()).digest(),
        actor=actor,
        note=note,
    )
    try:
        retired = run(lambda settings: retiring.retire(settings, asked, patience_s=patience))
    except retiring.RetirementRefused as error:
        raise click.ClickException(str(error)) from error
    _tell(retired, output)


def _tell(retired: Retired, output: str) -> None:
    if output == "json":
        openings = retired.openings_sha256.hex()
        print_json({"partitions": retired.partitions, "entries": retired.entries, "openings_sha256": openings})
        return
    click.echo(f"{retired.entries} entries have left the ledger; drop these tables when their export is safe:")
    for partition in retired.partitions:
        click.echo(partition)
