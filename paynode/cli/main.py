"""`paynode`: one command, each verb in a module of its own that is imported only when it is called."""

from __future__ import annotations

from importlib import import_module

import click

from paynode import __version__

# verb -> "module:command". Importing aiohttp to print a version would cost a quarter of a second.
_VERBS = {
    "bench": "paynode.cli.bench:bench",
    "config": "paynode.cli.config:config",
    "dev": "paynode.cli.dev:dev",
    "dlq": "paynode.cli.dlq:dlq",
    "doctor": "paynode.cli.doctor:doctor",
    "fraud": "paynode.cli.fraud:fraud",
    "ledger": "paynode.cli.ledger:ledger",
    "merchants": "paynode.cli.merchants:merchants",
    "migrate": "paynode.cli.migrate:migrate",
    "payments": "paynode.cli.payments:payments",
    "psp": "paynode.cli.psp:psp",
    "psp-sim": "paynode.cli.psp_sim:psp_sim",
    "publish": "paynode.cli.publish:publish",
    "publishers": "paynode.cli.publishers:publishers",
    "reconcile": "paynode.cli.reconcile:reconcile",
    "scheduler": "paynode.cli.processes:scheduler",
    "serve": "paynode.cli.processes:serve",
    "shop": "paynode.cli.shop:shop",
    "status": "paynode.cli.status:status",
    "worker": "paynode.cli.processes:worker",
}


class LazyGroup(click.Group):
    """A group that imports the module of a verb when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_VERBS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = _VERBS.get(cmd_name)
        if target is None:
            return super().get_command(ctx, cmd_name)
        module, attribute = target.split(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """A payment coordinator: actors on Redis Streams, money in PostgreSQL."""


@main.command()
def version() -> None:
    """Print the version."""
    click.echo(__version__)
