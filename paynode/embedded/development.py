"""`paynode dev` from the lock on its data directory to the exit code."""

from __future__ import annotations

import os
from contextlib import ExitStack

import anyio

from paynode.embedded.errors import DataDirectoryBusy, ServersError
from paynode.embedded.home import make_data_directory
from paynode.embedded.locks import lock
from paynode.embedded.output import Output
from paynode.embedded.plan import Plan
from paynode.embedded.ports import is_free
from paynode.embedded.servers import Servers
from paynode.embedded.signals import EarlySignals
from paynode.embedded.stack import EX_FAILURE, Stack

# Seconds at the end for the terminal to take the last lines.
_LAST_WORDS_S = 0.5


def run(plan: Plan) -> int:
    """Run it until it is asked to stop; the exit code.

    Must be called in the main thread: the children of another thread would end with it.
    """
    early = EarlySignals()
    output = Output()
    try:
        with ExitStack() as stack:
            return _run(plan, output, early, stack)
    except KeyboardInterrupt:  # while the servers were stopping already
        return EX_FAILURE
    except ServersError as error:
        output.tell("dev", str(error))
        return EX_FAILURE
    finally:
        output.flush(seconds=_LAST_WORDS_S)


def _run(plan: Plan, output: Output, early: EarlySignals, stack: ExitStack) -> int:
    make_data_directory(plan.data_dir)
    descriptor = lock(plan.data_dir / "dev.lock")
    if descriptor is None:
        raise DataDirectoryBusy(f"another `paynode dev` runs on {plan.data_dir}: stop it, or set PAYNODE_DATA_DIR")
    stack.callback(os.close, descriptor)
    _refuse_taken_ports(plan)
    # It tells that all is up; one of the last run would tell it too early.
    (plan.data_dir / "dev.json").unlink(missing_ok=True)
    output.tell("dev", f"starting; data and logs are in {plan.data_dir}")
    running = stack.enter_context(Servers(plan.data_dir, database_url=plan.database_url, redis_url=plan.redis_url))
    return anyio.run(Stack(plan, running, output).run, early)


def _refuse_taken_ports(plan: Plan) -> None:
    taken = [
        f"{listener.host}:{listener.port} is taken: stop what listens there, or set {listener.variable}"
        for listener in (plan.http, plan.admin, plan.scheduler, plan.sim, plan.shop)
        if not is_free(listener.port, listener.host)
    ]
    if taken:
        raise ServersError("\n".join(taken))
