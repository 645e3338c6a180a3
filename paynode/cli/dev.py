"""`paynode dev`: all of paynode on one machine, for development."""

from __future__ import annotations

import os
import secrets
import sys

import click

from paynode import config
from paynode.embedded import development
from paynode.embedded.plan import Listener, Plan
from paynode.embedded.ports import free_port, is_free
from paynode.sections import Http


@click.command()
def dev() -> None:
    """Start everything: PostgreSQL, Redis, the ingress, a worker, a scheduler, the PSP simulator, the demo shop.

    Prints one line `ready URL` when all of it is up and writes the addresses to dev.json in the data directory.
    With PAYNODE_DATABASE__URL and PAYNODE_REDIS__URL set it uses those servers. Ctrl-C stops all of it.
    """
    sys.exit(development.run(plan_of(config.load())))


def plan_of(settings: config.Settings) -> Plan:
    """What these settings ask for."""
    http = Listener(variable="PAYNODE_HTTP__PORT", host=settings.http.host, port=_chosen(settings.http))
    admin = _movable("PAYNODE_ADMIN__PORT", settings.admin.host, settings.admin.port)
    scheduler = _movable("PAYNODE_ADMIN__SCHEDULER_PORT", settings.admin.host, settings.admin.scheduler_port)
    sim = _movable("PAYNODE_SIM__PORT", settings.sim.host, settings.sim.port)
    shop = _movable("PAYNODE_SHOP__PORT", settings.shop.host, settings.shop.port)
    listeners = (http, admin, scheduler, sim, shop)
    data_dir = settings.data_dir.absolute()
    chosen = {listener.variable: str(listener.port) for listener in listeners}
    return Plan(
        data_dir=data_dir,
        database_url=settings.database.url,
        redis_url=settings.redis.url,
        public_url=settings.http.public_url.rstrip("/") or http.url,
        http=http,
        admin=admin,
        scheduler=scheduler,
        sim=sim,
        shop=shop,
        # A new one at every start: who reads dev.json has it, and nobody keeps it.
        operator_token=settings.admin.operator_token or secrets.token_urlsafe(32),
        environment={
            # Payments go to the simulator that runs here, wherever its port was moved, unless told otherwise.
            "PAYNODE_PSP__SIM__URL": sim.url,
            **os.environ,
            **chosen,
            "PAYNODE_DATA_DIR": str(data_dir),
        },
        command=(sys.executable, "-m", "paynode"),
    )


def _chosen(section: Http) -> int:
    """Port 0 asks for any free one; it is chosen here, so that all processes hear of the same."""
    return section.port or free_port(section.host)


def _movable(variable: str, host: str, port: int) -> Listener:
    """A port that nobody named and somebody has gives way: dev.json tells where it went.

    So a second `dev` needs a data directory and a port of its own, and nothing else.
    """
    is_named = variable in os.environ
    if port == 0 or not (is_named or is_free(port, host)):
        port = free_port(host)
    return Listener(variable=variable, host=host, port=port)
