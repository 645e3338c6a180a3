"""`paynode dev`: all of paynode on one machine, for development."""

from __future__ import annotations

import os
import sys

import click

from paynode import config
from paynode.embedded import development
from paynode.embedded.plan import Listener, Plan
from paynode.embedded.ports import free_port


@click.command()
def dev() -> None:
    """Start everything: PostgreSQL, Redis, the ingress, a worker, a scheduler, the PSP simulator, the demo shop.

    Prints one line `ready URL` when all of it is up and writes the addresses to dev.json in the data directory.
    With PAYNODE_DATABASE__URL and PAYNODE_REDIS__URL set it uses those servers. Ctrl-C stops all of it.
    """
    sys.exit(development.run(plan_of(config.load())))


def plan_of(settings: config.Settings) -> Plan:
    """What these settings ask for."""
    http = _listener("PAYNODE_HTTP__PORT", settings.http)
    admin = _listener("PAYNODE_ADMIN__PORT", settings.admin)
    sim = _listener("PAYNODE_SIM__PORT", settings.sim)
    shop = _listener("PAYNODE_SHOP__PORT", settings.shop)
    data_dir = settings.data_dir.absolute()
    chosen = {listener.variable: str(listener.port) for listener in (http, admin, sim, shop)}
    return Plan(
        data_dir=data_dir,
        database_url=settings.database.url,
        redis_url=settings.redis.url,
        public_url=settings.http.public_url.rstrip("/") or http.url,
        http=http,
        admin=admin,
        sim=sim,
        shop=shop,
        environment={
            # Payments go to the simulator that runs here, wherever its port was moved, unless told otherwise.
            "PAYNODE_PSP__SIM__URL": sim.url,
            **os.environ,
            **chosen,
            "PAYNODE_DATA_DIR": str(data_dir),
        },
        command=(sys.executable, "-m", "paynode"),
    )


def _listener(variable: str, section: config.Http | config.Admin | config.Sim | config.Shop) -> Listener:
    """Port 0 asks for any free one; it is chosen here, so that all processes hear of the same."""
    return Listener(variable=variable, host=section.host, port=section.port or free_port(section.host))
