"""How the guards of PSPs are shown: to people in a line for each process, to programs as JSON."""

from __future__ import annotations

from paynode.cli.screen import short
from paynode.domain.dead_letters import instant
from paynode.domain.guarding import BreakerVitals
from paynode.domain.guards_overview import GuardsOverview, GuardState


def public_guards(overview: GuardsOverview) -> dict[str, object]:
    """The JSON of `paynode psp status`; rates are calls a second, by process."""
    return {
        "data": [
            {
                "psp": psp,
                "gateways": [_gateway(one) for one in overview.guards if one.psp == psp],
                "orders": [
                    {"operation": one.operation, "action": one.action, "by": one.by, "at": instant(one.at)}
                    for one in overview.orders
                    if one.psp == psp
                ],
            }
            for psp in overview.psps
        ]
    }


def _gateway(one: GuardState) -> dict[str, object]:
    return {
        "id": one.gateway,
        "started_at": instant(one.started_at),
        "silent_ms": one.silent_ms,
        "in_flight": one.in_flight,
        "waiting": one.waiting,
        "pace_per_s": one.pace_per_s,
        "retries_per_s": one.retries_per_s,
        "breakers": [
            {
                "operation": operation,
                "state": breaker.state,
                "is_held": breaker.is_held,
                "calls": breaker.calls,
                "failures": breaker.failures,
                "failure_rate": failure_rate(breaker),
            }
            for operation, breaker in one.breakers.items()
        ],
    }


def failure_rate(breaker: BreakerVitals) -> float | None:
    """The share of calls that failed within the window; None without a call."""
    return round(breaker.failures / breaker.calls, 3) if breaker.calls else None


def rows(found: GuardsOverview, psp: str) -> list[tuple[str, ...]]:
    """The lines of a PSP's processes; one that says so when there are none."""
    shown = [_row(one) for one in found.guards if one.psp == psp]
    return shown or [(psp, "none", "", "", "", "", "")]


def _row(one: GuardState) -> tuple[str, ...]:
    silent = f" silent {one.silent_ms / 1000:.0f}s" if one.silent_ms else ""
    return (
        one.psp,
        short(one.gateway) + silent,
        str(one.in_flight),
        str(one.waiting),
        "-" if one.pace_per_s is None else f"{one.pace_per_s:.1f}",
        f"{one.retries_per_s:.1f}",
        ", ".join(_breaker(operation, breaker) for operation, breaker in one.breakers.items() if _is_news(breaker))
        or "all closed",
    )


def _is_news(breaker: BreakerVitals) -> bool:
    return breaker.state != "closed" or breaker.calls > 0


def _breaker(operation: str, breaker: BreakerVitals) -> str:
    held = " by hand" if breaker.is_held else ""
    rate = failure_rate(breaker)
    figures = "" if rate is None else f" {breaker.failures}/{breaker.calls} ({rate:.0%})"
    return f"{operation} {breaker.state}{held}{figures}"
