"""`paynode migrate`."""

from __future__ import annotations

import click

from paynode.cli.answering import output_option, print_json, run
from paynode.storage import migrating
from paynode.storage.roles import RolesRefused


@click.command()
@click.option(
    "--lock-wait",
    type=click.FloatRange(min=0),
    default=migrating.LOCK_WAIT_S,
    show_default=True,
    help="Seconds to wait for another process that migrates.",
)
@output_option
def migrate(lock_wait: float, output: str) -> None:
    """Bring the database to this version: log-in roles, schema, the ledger's months, the streams' partitions.

    Run by the owner of the schema (database.url). Any number of processes may run it at once; it changes nothing
    when there is nothing to do. Passwords of the roles that the settings do not give are generated into roles.json
    in the data directory.
    """
    try:
        done = run(lambda settings: migrating.migrate(settings, lock_wait_s=lock_wait))
    except (migrating.MigrationRefused, RolesRefused) as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        data = [{"version": migration.version, "name": migration.name} for migration in done.applied]
        print_json({"data": data, "schema_version": done.version})
        return
    for migration in done.applied:
        click.echo(f"applied {migration.version}_{migration.name}")
    click.echo(f"the schema is at version {done.version}")
