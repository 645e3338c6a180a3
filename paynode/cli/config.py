"""`paynode config`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import click

from paynode.cli.answering import load_settings, output_option, print_json

_MASK: Final = "***"
# By the words of a setting's path. Too broad rather than too narrow: a masked setting that is no secret hurts nobody.
_SECRET: Final = re.compile(r"key|secret|password|token")
_URL_PASSWORD: Final = re.compile(r"(?<=://)([^/?#@]*):[^/?#]*@")
_QUERY_PASSWORD: Final = re.compile(r"((?:^|[?&])[^=&]*(?:password|secret|key|token)[^=&]*=)[^&#]*", re.IGNORECASE)


@click.group()
def config() -> None:
    """The settings of this process, as every other command would see them."""


@config.command()
def check() -> None:
    """Check the settings: prints ok, or each unknown or ill-typed setting with its path (exit code 1)."""
    load_settings()
    click.echo("ok")


@config.command()
@output_option
def show(output: str) -> None:
    """Show every setting after files and environment; secrets are masked."""
    settings = load_settings().model_dump(mode="json")
    if output == "json":
        print_json(masked(settings))
        return
    for path, value in _leaves(masked(settings)):
        click.echo(f"{path} = {value!r}")


def masked(section: Mapping[str, object], path: str = "") -> dict[str, object]:
    """The settings with every secret replaced; an empty one stays empty, so that one sees that it is not set."""
    return {name: _masked_value(value, f"{path}{name}") for name, value in section.items()}


def _masked_value(value: object, path: str) -> object:
    if isinstance(value, Mapping):
        return masked(value, f"{path}.")
    if not isinstance(value, str) or not value:
        return value
    if _SECRET.search(path):
        return _MASK
    return _QUERY_PASSWORD.sub(rf"\1{_MASK}", _URL_PASSWORD.sub(rf"\1:{_MASK}@", value))


def _leaves(section: Mapping[str, object], path: str = "") -> Iterator[tuple[str, object]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
