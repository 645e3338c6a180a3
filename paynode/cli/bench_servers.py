"""Servers of a benchmark's own: started in a temporary directory, filled, and thrown away."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import uvloop

from paynode.bench.backlogs import is_empty
from paynode.config import Settings
from paynode.embedded.errors import ServersError
from paynode.embedded.home import make_data_directory
from paynode.embedded.servers import Servers
from paynode.storage.migrating import migrate

Report = dict[str, object]


def measure(settings: Settings, work: Callable[[Settings], Coroutine[Any, Any, Report]], *, is_given: bool) -> Report:
    """Do it on empty servers: our own, or those that the settings name.

    Raises: ClickException when they cannot be started, or when given ones are not empty.
    """
    with _given(settings) if is_given else _own(settings) as where:
        return uvloop.run(_migrated(where, work, is_given=is_given))


async def _migrated(
    settings: Settings, work: Callable[[Settings], Coroutine[Any, Any, Report]], *, is_given: bool
) -> Report:
    if is_given and not await is_empty(settings):
        raise click.ClickException("that Redis is not empty: a benchmark fills it")
    await migrate(settings)
    return await work(settings)


@contextmanager
def _given(settings: Settings) -> Iterator[Settings]:
    if not (settings.database.url and settings.redis.url):
        raise click.ClickException("set PAYNODE_DATABASE__URL and PAYNODE_REDIS__URL to servers that may be filled")
    yield settings


@contextmanager
def _own(settings: Settings) -> Iterator[Settings]:
    directory = Path(tempfile.mkdtemp(prefix="paynode-bench-"))
    directory.chmod(0o755)  # the servers may run as another user
    data_dir = directory / "paynode"
    make_data_directory(data_dir)
    try:
        with Servers(directory) as running:
            yield settings.model_copy(
                update={
                    "data_dir": data_dir,
                    "database": settings.database.model_copy(update={"url": running.database_url}),
                    "redis": settings.redis.model_copy(update={"url": running.redis_url}),
                }
            )
    except ServersError as error:
        raise click.ClickException(str(error)) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
