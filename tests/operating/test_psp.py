"""`paynode psp`: what gateways tell of their guards, and what operators tell them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import pytest

from paynode.config import Settings
from paynode.domain.guarding import CALL_KINDS, BreakerAction, BreakerOrder, BreakerVitals, Company, Vitals
from paynode.storage.gateways import PgGateways
from paynode.storage.postgres import Pool, Role, Session, pool
from tests.support.verbs import paynode

QUIET: Final = BreakerVitals(state="closed", is_held=False, calls=0, failures=0)
VITALS: Final = Vitals(
    breakers=dict.fromkeys(CALL_KINDS, QUIET)
    | {"sale": BreakerVitals(state="open", is_held=True, calls=12, failures=9)},
    in_flight=3,
    waiting=2,
    pace_per_s=12.5,
    retries_per_s=1.0,
)


@pytest.fixture
async def board(settings: Settings) -> AsyncIterator[Pool]:
    async with pool(settings, Role.GATEWAY, application_name="test") as connections:
        yield connections


def gateway(board: Pool, name: str, psp: str = "sim") -> PgGateways:
    return PgGateways(board, gateway=name, psp=psp, alive_s=60)


async def test_a_gateway_hears_how_many_call_its_psp(board: Pool) -> None:
    assert await gateway(board, "a").beat(VITALS) == Company(live=1, orders=[])
    assert (await gateway(board, "b").beat(VITALS)).live == 2
    assert (await gateway(board, "a", "other").beat(VITALS)).live == 1, "another account has its own pace"
    await gateway(board, "b").stop()
    assert (await gateway(board, "a").beat(VITALS)).live == 1


async def test_who_has_gone_silent_has_no_share(board: Pool) -> None:
    await PgGateways(board, gateway="silent", psp="sim", alive_s=0).beat(VITALS)
    assert (await gateway(board, "a").beat(VITALS)).live == 1


async def test_status_shows_every_process_with_its_own_breakers(settings: Settings, board: Pool) -> None:
    await gateway(board, "worker-1").beat(VITALS)
    await gateway(board, "worker-2").beat(replace(VITALS, in_flight=0, pace_per_s=None))
    said = await paynode(settings, "psp", "status", "sim", "--output", "json")
    assert said.code == 0, said.err
    [psp] = said.json["data"]
    assert (psp["psp"], psp["orders"]) == ("sim", [])
    first, second = psp["gateways"]
    assert {key: first[key] for key in ("id", "silent_ms", "in_flight", "waiting", "pace_per_s", "retries_per_s")} == {
        "id": "worker-1",
        "silent_ms": 0,
        "in_flight": 3,
        "waiting": 2,
        "pace_per_s": 12.5,
        "retries_per_s": 1.0,
    }
    assert (second["id"], second["in_flight"], second["pace_per_s"]) == ("worker-2", 0, None)
    assert [one["operation"] for one in first["breakers"]] == list(CALL_KINDS)
    assert first["breakers"][0] == {
        "operation": "sale",
        "state": "open",
        "is_held": True,
        "calls": 12,
        "failures": 9,
        "failure_rate": 0.75,
    }
    table = await paynode(settings, "psp", "status")
    assert "sale open by hand 9/12 (75%)" in table.out, table.out


async def test_an_order_reaches_the_gateways_and_the_audit_log(settings: Settings, board: Pool, owner: Session) -> None:
    said = await paynode(
        settings, "psp", "trip", "sim", "--operation", "sale", "--as", "ann", "--note", "ticket 7", "--output", "json"
    )
    assert said.json == {"data": [{"psp": "sim", "operations": ["sale"], "action": "trip"}]}
    heard = (await gateway(board, "a").beat(VITALS)).orders
    assert heard == [BreakerOrder(operation="sale", action=BreakerAction.TRIP, number=1)]
    assert (await paynode(settings, "psp", "reset", "--as", "bob")).out == f"reset sim: {', '.join(CALL_KINDS)}\n"
    heard = (await gateway(board, "a").beat(VITALS)).orders
    assert {(one.operation, one.action, one.number) for one in heard} == {
        (kind, BreakerAction.RESET, 2 if kind == "sale" else 1) for kind in CALL_KINDS
    }
    log = await owner.fetch("SELECT actor, action, subject, note FROM audit_log ORDER BY at")
    assert [tuple(row) for row in log] == [("ann", "psp.trip", "sim", "ticket 7"), ("bob", "psp.reset", "sim", "")]
    status = await paynode(settings, "psp", "status", "--output", "json")
    [psp] = status.json["data"]
    assert {(one["action"], one["by"]) for one in psp["orders"]} == {("reset", "bob")}


async def test_what_there_is_not_is_not_tripped(settings: Settings, owner: Session) -> None:
    for arguments in (["trip", "nowhere"], ["trip"], ["trip", "sim", "--operation", "topup"], ["status", "nowhere"]):
        said = await paynode(settings, "psp", *arguments)
        assert said.code == 2, said.out
        assert "Usage: " in said.err
    assert await owner.fetchval("SELECT count(*) FROM breaker_orders") == 0
