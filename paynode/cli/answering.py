"""What the verbs of an operator have in common: settings, errors as exit codes, two kinds of output.

Exit codes: 0 ok, 1 failure, 2 usage, 3 a law of money is broken, 75 try again (sysexits' EX_TEMPFAIL).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import asyncpg
import click
import orjson
import pydantic
import uvloop
from rich.console import Console
from rich.table import Table

from paynode import config
from paynode.domain.errors import Transient
from paynode.sections import SettingRefused
from paynode.storage.logins import LoginUnknown

Result = TypeVar("Result")

LAW_BROKEN: Final = 3
TRY_AGAIN: Final = 75

# What the operator mends, and no trace of ours would help with.
_REFUSALS: Final = (
    LoginUnknown,
    SettingRefused,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)

output_option = click.option(
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table for people, JSON for programs.",
)


def load_settings() -> config.Settings:
    """The settings; what is wrong with them is told as `path: reason`, without the value, which may be a secret."""
    try:
        return config.load()
    except pydantic.ValidationError as error:
        lines = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        raise click.ClickException("\n".join(lines)) from None
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None


def run(work: Callable[[config.Settings], Coroutine[Any, Any, Result]]) -> Result:
    """Do the work of a verb that talks to the database."""
    settings = load_settings()
    with _as_exit_codes():
        return uvloop.run(work(settings))


@contextmanager
def _as_exit_codes() -> Iterator[None]:
    try:
        yield
    except Transient as error:
        click.echo(f"Error: {error.code}: {error}", err=True)
        raise click.exceptions.Exit(TRY_AGAIN) from error
    except _REFUSALS as error:
        raise click.ClickException(str(error)) from error
    except asyncpg.UndefinedTableError as error:
        raise click.ClickException("the database has no schema of paynode's: run `paynode migrate`") from error


def print_json(value: object) -> None:
    """One line of JSON."""
    click.echo(orjson.dumps(value))


def print_table(title: str, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A table as wide as the terminal; a pipe gets it whole."""
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table, markup=False)
