"""Who does what an operator's verb does, for the audit row."""

from __future__ import annotations

import getpass
import re
from typing import Any, Final

import click

# One printable word, as a log-in name or an address is.
_ACTOR: Final = re.compile(r"[A-Za-z0-9_.@:+-]{1,100}", re.ASCII)


class _Actor(click.ParamType[str]):
    """A name that an audit row takes."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if _ACTOR.fullmatch(str(value)) is None:
            self.fail(f"{value!r} is not a name of letters, digits and _ . @ : + -", param, ctx)
        return str(value)


def _user() -> str:
    """Who is logged in here; a container's user may have no name."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # the latter until Python 3.13
        raise click.UsageError("this user has no name: say who you are with --as NAME") from None


actor_option = click.option(
    "--as", "actor", type=_Actor(), default=_user, help="Who decides this; the user of this machine if not given."
)
