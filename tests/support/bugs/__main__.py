"""Runs verbs of paynode, all in this process, with the flaw that PAYNODE_TEST_BUG names."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import anyio

from paynode.app.ingress import run_ingress
from paynode.app.parts import tell_ready
from paynode.app.scheduler import run_scheduler
from paynode.app.worker import run_worker
from paynode.cli.answering import run
from paynode.config import Settings
from paynode.observability.logging import configure
from paynode.sim.app import simulator
from tests.support.bugs import crashes, of_the_books, of_the_edges

BUGS: Mapping[str, Callable[[], None]] = {
    "none": lambda: None,
    "acknowledge before commit": of_the_books.acknowledge_before_commit,
    "no epoch check": of_the_books.no_epoch_check,
    "dedupe by entry": of_the_books.dedupe_by_entry,
    "wallet outside the transaction": of_the_books.wallet_outside_the_transaction,
    "dead letter by deliveries": of_the_books.dead_letter_by_deliveries,
    "group at the end": of_the_books.group_at_the_end,
    "sweep of what was not published": of_the_books.sweep_of_what_was_not_published,
    "resend after time-out": of_the_edges.resend_after_time_out,
    "stored error": of_the_edges.stored_error,
    "cut commit is failed": of_the_edges.cut_commit_is_failed,
    "answer before commit": of_the_edges.answer_before_commit,
    "key in the log": of_the_edges.key_in_the_log,
    "descriptors leak": of_the_edges.descriptors_leak,
}


async def _simulate(settings: Settings) -> None:
    async with simulator(settings):
        tell_ready()
        await anyio.sleep_forever()


VERBS: Mapping[str, Callable[[Settings], Coroutine[Any, Any, None]]] = {
    "serve": run_ingress,
    "worker": lambda settings: run_worker(settings, frozenset({"merchants", "gateway"})),
    "scheduler": run_scheduler,
    "psp-sim": _simulate,
}


def main(verbs: list[str]) -> None:
    """Patch, then run."""
    name = os.environ["PAYNODE_TEST_BUG"]
    if name.startswith("crash:"):
        crashes.arm(name.removeprefix("crash:"))
    else:
        BUGS[name]()

    async def body(settings: Settings) -> None:
        configure(settings.log)
        async with anyio.create_task_group() as group:
            for verb in verbs:
                group.start_soon(VERBS[verb], settings)

    run(body)


if __name__ == "__main__":
    main(sys.argv[1:])
