"""`paynode doctor`."""

from __future__ import annotations

import click

from paynode.cli.answering import LAW_BROKEN, output_option, print_json, print_table, run
from paynode.config import Settings
from paynode.storage.invariants import Finding, check
from paynode.storage.postgres import Role, session


@click.command()
@click.option(
    "--due-max",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Seconds that a message may have been due without being processed.",
)
@output_option
@click.pass_context
def doctor(context: click.Context, due_max: float, output: str) -> None:
    """Look at the laws of money, all in one snapshot; exit code 3 when one is broken.

    Reads the whole ledger and changes nothing.
    """

    async def look(settings: Settings) -> tuple[Finding, ...]:
        # No statement timeout: how long it takes depends on the size of the ledger.
        async with session(
            settings, Role.READER, application_name="paynode doctor", statement_timeout_ms=0
        ) as connection:
            return await check(connection, due_max_s=due_max)

    findings = run(look)
    broken = sum(finding.breaches.total > 0 for finding in findings)
    if output == "json":
        print_json({"data": [_as_json(finding) for finding in findings], "broken": broken})
    else:
        _print(findings)
        click.echo(f"{broken} of {len(findings)} laws are broken" if broken else "all laws hold")
    context.exit(LAW_BROKEN if broken else 0)


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "law": finding.law,
        "holds": finding.holds,
        "breaches": finding.breaches.total,
        "examples": [
            {"id": breach.id, "what": breach.what, "expected": breach.expected, "found": breach.found}
            for breach in finding.breaches.examples
        ],
    }


def _print(findings: tuple[Finding, ...]) -> None:
    print_table(
        "The laws of money",
        ("law", "holds when", "breaches"),
        [(finding.law, finding.holds, str(finding.breaches.total or "-")) for finding in findings],
    )
    rows = [
        (finding.law, breach.id or "", breach.what, breach.expected, breach.found)
        for finding in findings
        for breach in finding.breaches.examples
    ]
    if rows:
        print_table("Breaches, the first ten of each law", ("law", "id", "what", "expected", "found"), rows)
