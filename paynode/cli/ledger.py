"""`paynode ledger`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from paynode.app import auditing
from paynode.cli.answering import LAW_BROKEN, load_settings, output_option, print_json, print_table, run
from paynode.cli.retiring import retire
from paynode.domain import ids
from paynode.sections import SettingRefused

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(exists=True, file_okay=False, path_type=Path)


def _merchant(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    merchant_id = None if value is None else ids.parse(ids.MERCHANT, value)
    if value is not None and merchant_id is None:
        raise click.BadParameter(f"{value!r} is not of the form mer_…")
    return merchant_id


def _instant(_: click.Context, __: click.Parameter, value: str) -> datetime:
    try:
        at = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter("not of the form 2026-03-01 or 2026-03-01T12:00:00Z") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


merchant_option = click.option(
    "--merchant", "merchant_id", metavar="mer_…", callback=_merchant, help="Of this merchant alone."
)


@click.group()
def ledger() -> None:
    """The books as an auditor sees them: verified, balanced, exported."""


@ledger.command()
@merchant_option
@click.option(
    "--anchors", "directories", type=_DIRECTORY, multiple=True, help="Repeatable; instead of the settings' directory."
)
@click.option(
    "--public-key", "public_keys", type=_FILE, multiple=True, help="Repeatable; instead of the one of the settings."
)
@output_option
@click.pass_context
def verify(
    context: click.Context,
    merchant_id: str | None,
    directories: tuple[Path, ...],
    public_keys: tuple[Path, ...],
    output: str,
) -> None:
    """Follow every merchant's chain of entries, and hold it against its head and against the anchors.

    Names the first entry of each merchant that nobody vouches for, and why. Reads the whole ledger in one snapshot and
    changes nothing. Exit code 3 when something is broken.
    """
    with _progress("verified") as progress:
        report = run(
            lambda settings: auditing.verify(
                settings,
                merchant_id=merchant_id,
                directories=directories,
                public_keys=public_keys,
                progress=progress,
            )
        )
    if merchant_id is not None and not report.merchants:
        raise click.ClickException(f"there is no ledger of {ids.public(ids.MERCHANT, merchant_id)}, and never was one")
    if output == "json":
        print_json(_report_as_json(report))
    else:
        _print_report(report)
    context.exit(0 if report.is_sound else LAW_BROKEN)


@ledger.command()
@merchant_option
@output_option
@click.pass_context
def balance(context: click.Context, merchant_id: str | None, output: str) -> None:
    """The trial balance: what each account was debited and credited, by currency. The balances sum up to zero."""
    found = run(lambda settings: auditing.balances(settings, merchant_id=merchant_id))
    sums: dict[str, int] = {}
    for one in found:
        sums[one.currency] = sums.get(one.currency, 0) + one.amount
    if output == "json":
        accounts = [
            {
                "account": one.account,
                "currency": one.currency,
                "debits": one.debits,
                "credits": one.credits,
                "balance": one.amount,
            }
            for one in found
        ]
        print_json({"data": accounts, "sums": sums})
    else:
        rows = [(one.account, one.currency, str(one.debits), str(one.credits), str(one.amount)) for one in found]
        rows += [("sum", currency, "", "", str(amount)) for currency, amount in sums.items()]
        print_table("Trial balance, minor units", ("account", "currency", "debits", "credits", "balance"), rows)
    context.exit(LAW_BROKEN if any(sums.values()) else 0)


@ledger.command()
@click.option(
    "--from", "since", required=True, callback=_instant, help="First instant of the period; UTC unless it says."
)
@click.option("--to", "until", required=True, callback=_instant, help="First instant after the period.")
@click.option(
    "--format",
    "encoding",
    type=click.Choice([one.value for one in auditing.Encoding]),
    default="ndjson",
    show_default=True,
)
@click.option("--directory", required=True, type=click.Path(path_type=Path), help="Must not be there yet.")
@click.option("--rows-per-file", type=click.IntRange(min=1), default=1_000_000, show_default=True)
@merchant_option
@output_option
def export(
    since: datetime,
    until: datetime,
    encoding: str,
    directory: Path,
    rows_per_file: int,
    merchant_id: str | None,
    output: str,
) -> None:
    """Write the entries of a period into a directory, signed, with a program that checks it without paynode.

    What does not verify is not exported. The directory appears when it is complete.
    """
    if since >= until:
        raise click.BadParameter("the period ends before it begins", param_hint="--to")
    terms = auditing.Terms(
        since=since,
        until=until,
        merchant_id=merchant_id,
        encoding=auditing.Encoding(encoding),
        rows_per_file=rows_per_file,
    )
    try:
        with _progress("exported") as progress:
            rows = run(lambda settings: auditing.export(settings, directory, terms, progress=progress))
    except auditing.LedgerBroken as error:
        click.echo(f"Error: the ledger is broken, nothing was exported: {error}", err=True)
        raise click.exceptions.Exit(LAW_BROKEN) from error
    except (auditing.Exists, OSError) as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        print_json({"directory": str(directory), "rows": rows})
    else:
        click.echo(f"{rows} entries in {directory}")


@ledger.command()
@output_option
@click.pass_context
def anchor(context: click.Context, output: str) -> None:
    """Write an anchor now, beside those that the scheduler writes: before a backup, say.

    Nothing is written when nothing is new. Exit code 3 when a ledger has lost what was anchored of it before.
    """
    made = run(auditing.anchor_now)
    number = None if made.anchor is None else made.anchor.number
    if output == "json":
        heads = 0 if made.anchor is None else made.anchor.heads
        print_json({"anchor": number, "heads": heads, "contradicted": made.contradicted})
    else:
        click.echo("nothing is new" if made.anchor is None else f"anchor {number} names {made.anchor.heads} heads")
        if made.contradicted:
            click.echo(f"{made.contradicted} ledgers have lost what was anchored of them: `paynode ledger verify`")
    context.exit(LAW_BROKEN if made.contradicted else 0)


@ledger.command()
@click.option("--make", "is_made", is_flag=True, help="Make the key if there is none.")
@output_option
def key(is_made: bool, output: str) -> None:
    """Show the key that signs anchors and exports; give its public half to whoever checks them."""
    settings = load_settings()
    try:
        made = is_made and auditing.make_key(settings)
        found = auditing.key_of(settings)
    except (OSError, SettingRefused) as error:
        raise click.ClickException(str(error)) from error
    if output == "json":
        print_json({"key": found.id, "public_key": str(found.public_file), "made": made})
    else:
        click.echo(f"{'made' if made else 'key'} {found.id}, public half in {found.public_file}")


@contextmanager
def _progress(verb: str) -> Iterator[auditing.Progress]:
    """A bar on a terminal, on stderr; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(verb, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=max(done, total))


def _report_as_json(report: auditing.Report) -> dict[str, object]:
    return {
        "sound": report.is_sound,
        "merchants": report.merchants,
        "entries": report.entries,
        "retired": report.retired,
        "unanchored": report.unanchored,
        "broken": report.broken,
        "faults": [
            {
                "merchant_id": ids.public(ids.MERCHANT, fault.merchant_id),
                "seq": fault.seq,
                "why": fault.why,
                "detail": fault.detail,
            }
            for fault in report.faults
        ],
        "anchors": [
            {"directory": str(one.directory), "files": one.files, "first": one.first, "last": one.last, "at": one.at}
            for one in report.anchors
        ],
        "anchor_faults": [{"file": str(one.file), "detail": one.detail} for one in report.anchor_faults],
    }


def _print_report(report: auditing.Report) -> None:
    for one in report.anchors:
        click.echo(f"anchors {one.first} to {one.last} in {one.directory}, the last of {one.at}")
    if not report.anchors:
        click.echo("no anchors: a ledger that was cut off, or sealed anew, together with its head would not show")
    if report.anchor_faults:
        rows = [(str(one.file), one.detail) for one in report.anchor_faults]
        print_table("What is wrong with the anchors", ("file", "why"), rows)
    if report.faults:
        faults = [
            (ids.public(ids.MERCHANT, fault.merchant_id), str(fault.seq), fault.why, fault.detail)
            for fault in report.faults
        ]
        print_table("The first entry that nobody vouches for", ("merchant", "seq", "why", "detail"), faults)
    click.echo(f"{report.entries} entries of {report.merchants} merchants; {report.unanchored} are not anchored yet")
    if report.retired:
        click.echo(f"{report.retired} older ones are kept in exports alone: verify these too")
    if report.is_sound:
        click.echo("the ledger is sound")
    else:
        click.echo(f"broken: the ledgers of {report.broken} merchants, {len(report.anchor_faults)} files of anchors")


ledger.add_command(retire)
