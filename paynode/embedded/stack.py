"""paynode's processes on running servers, until somebody says stop or one of them ends."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

import anyio
from anyio.abc import TaskGroup

from paynode.embedded.errors import ServersError
from paynode.embedded.files import write_private
from paynode.embedded.merchant import Merchant, demo_merchant
from paynode.embedded.output import Output
from paynode.embedded.plan import Plan
from paynode.embedded.probes import fail_when_exited, fail_when_server_exited, until_up
from paynode.embedded.processes import Processes, ProcessFailed, cancel_when
from paynode.embedded.servers import Running
from paynode.embedded.signals import EarlySignals, StopRequests

EX_FAILURE = 1
EX_TRY_AGAIN = 75
# Of the ten seconds in which everything stops, those that paynode's processes have to drain; the servers follow.
_DRAIN_S = 6.0


class Stack:
    """One run of a plan on running servers."""

    def __init__(self, plan: Plan, running: Running, output: Output) -> None:
        self._plan = plan
        self._running = running
        self._output = output

    async def run(self, early: EarlySignals) -> int:
        """The exit code: 0 when it was asked to stop."""
        stop_requests = StopRequests()
        async with anyio.create_task_group() as background:
            background.start_soon(stop_requests.listen, early)
            processes = Processes(self._plan.data_dir / "logs", self._environment(), self._output, background)
            try:
                code = await self._until_stopped(processes, stop_requests.asked)
            finally:
                self._output.tell("dev", "stopping")
                with anyio.CancelScope(shield=True):
                    await processes.stop(grace_s=_DRAIN_S, at_once=stop_requests.insisted)
                background.cancel_scope.cancel()
        return EX_FAILURE if stop_requests.insisted.is_set() else code

    def _environment(self) -> dict[str, str]:
        return {
            **self._plan.environment,
            "PAYNODE_DATABASE__URL": self._running.database_url,
            "PAYNODE_REDIS__URL": self._running.redis_url,
        }

    async def _until_stopped(self, processes: Processes, asked: anyio.Event) -> int:
        code = os.EX_OK
        try:
            async with anyio.create_task_group() as work:
                work.start_soon(cancel_when, asked, work.cancel_scope)
                for server in self._running.servers.values():
                    work.start_soon(fail_when_server_exited, server)
                await self._bring_up(processes, work)
        except* (ProcessFailed, ServersError) as failures:
            for failure in failures.exceptions:
                self._output.tell("dev", str(failure))
            statuses = {getattr(failure, "status", None) for failure in failures.exceptions}
            code = EX_TRY_AGAIN if statuses == {EX_TRY_AGAIN} else EX_FAILURE
        return code

    async def _bring_up(self, processes: Processes, work: TaskGroup) -> None:
        await processes.run("migrate", self._verb("migrate"))

        async def run_verb(arguments: Sequence[str]) -> str:
            return await processes.run("merchants", self._verb(*arguments))

        merchant = await demo_merchant(run_verb, self._plan.data_dir / "merchant.json")
        probes = {
            "psp-sim": f"{self._plan.sim.url}/healthz",
            "serve": f"{self._plan.admin.url}/readyz",
            "worker": None,
            "scheduler": None,
            "shop": f"{self._plan.shop.url}/healthz",
        }
        secrets = {
            "shop": {"PAYNODE_SHOP_API_KEY": merchant["api_key"]},
            "scheduler": {"PAYNODE_ADMIN__OPERATOR_TOKEN": self._plan.operator_token},
        }
        children = {name: await processes.start(name, self._verb(name), secrets.get(name)) for name in probes}
        for child in children.values():
            work.start_soon(fail_when_exited, child)
        for name, url in probes.items():
            await until_up(children[name], url)
        self._announce(merchant, {name: child.pid for name, child in children.items()})

    def _announce(self, merchant: Merchant, pids: Mapping[str, int]) -> None:
        plan = self._plan
        servers = {name: server.pid for name, server in self._running.servers.items()}
        facts = {
            "url": plan.public_url,
            "admin_url": plan.admin.url,
            "shop_url": plan.shop.url,
            "console_url": None,
            "psp_url": plan.sim.url,
            "database_url": self._running.database_url,
            "redis_url": self._running.redis_url,
            "merchant": merchant,
            "operator": {"name": "dev", "token": plan.operator_token, "url": plan.scheduler.url},
            "pids": {"dev": os.getpid(), **servers, **pids},
        }
        write_private(plan.data_dir / "dev.json", json.dumps(facts, indent=2) + "\n")
        print(f"ready {plan.public_url}", flush=True)

    def _verb(self, *arguments: str) -> list[str]:
        return [*self._plan.command, *arguments]
