"""How reconciliation is shown: to people in tables, to programs as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click

from paynode.cli.answering import print_table
from paynode.domain.breaks import (
    BreakInFull,
    BreakTotal,
    BreakView,
    RunView,
    public_break,
    public_break_in_full,
    public_run,
)
from paynode.domain.dead_letters import instant
from paynode.domain.reconciling import Difference, RunReport


def public_report(report: RunReport) -> dict[str, object]:
    """The JSON of a run that was made just now."""
    tally = report.tally
    return {
        "id": report.id,
        "area": report.area,
        "psp": report.psp,
        "is_dry_run": report.is_dry,
        "inputs": dict(report.inputs),
        "checked": tally.checked,
        "found": tally.found,
        "drift": tally.drift,
        "repairs": tally.repairs,
        "sha256": tally.digest,
        "data": [_public_difference(one) for one in report.found],
    }


def _public_difference(one: Difference) -> dict[str, object]:
    return {
        "kind": one.kind,
        "subject": one.subject,
        "currency": one.currency,
        "expected": one.expected,
        "found": one.found,
        "drift": one.drift,
        "operation_id": one.operation_id,
        "reference": one.reference,
        "evidence": dict(one.evidence),
    }


def print_report(report: RunReport) -> None:
    """A run that was made just now."""
    tally = report.tally
    named = {"checked": tally.checked, "found": _counts(tally.found), "drift": _counts(tally.drift)}
    rows = {**named, "repairs begun": tally.repairs, **report.inputs, "sha256": tally.digest}
    print_table(f"{report.area} {report.psp or ''}", ("", ""), [(name, text(value)) for name, value in rows.items()])
    if report.found:
        print_table(
            "Found, and not kept",
            ("kind", "subject", "drift", "reference"),
            [(one.kind, one.subject, money(one.drift, one.currency), text(one.reference)) for one in report.found],
        )


def public_overview(
    found: Sequence[BreakView], totals: Sequence[BreakTotal], runs: Sequence[RunView]
) -> dict[str, object]:
    """The JSON of `paynode reconcile report`."""
    return {
        "data": [public_break(one) for one in found],
        "open": [
            {"kind": one.kind, "currency": one.currency or None, "count": one.count, "size": one.size} for one in totals
        ],
        "runs": [public_run(one) for one in runs],
    }


def print_overview(found: Sequence[BreakView], totals: Sequence[BreakTotal], runs: Sequence[RunView]) -> None:
    """What was found, what of it is not over, and when it was looked for last."""
    print_table(
        "Last looks",
        ("what", "psp", "ended", "checked", "found", "drift", "alike"),
        [
            (
                run.area + (", all" if run.is_full else ""),
                run.psp or "",
                instant(run.ended_at),
                str(run.checked),
                _counts(run.found),
                _counts(run.drift),
                str(run.rounds),
            )
            for run in runs
        ],
    )
    if found:
        columns = ("id", "kind", "state", "drift", "age", "whose", "reference", "proposed by")
        print_table("Differences", columns, [_row(one) for one in found])
    differing = sum(total.count for total in totals)
    click.echo(f"{differing} are not over" if differing else "nothing differs")


def _row(one: BreakView) -> tuple[str, ...]:
    age = f"{one.age_s // 3600}h{one.age_s % 3600 // 60:02d}m"
    whose = public_break(one)["payment_id"] or public_break(one)["merchant_id"]
    drift = money(one.drift, one.currency) if one.size else ""
    return one.id, one.kind, one.state, drift, age, text(whose), text(one.reference), text(one.proposed_by)


def public_in_full(found: BreakInFull) -> dict[str, object]:
    """The JSON of `paynode reconcile show`."""
    return public_break_in_full(found)


def print_in_full(found: BreakInFull) -> None:
    """One difference with all about it."""
    members = public_break(found.view)
    apart = ("object", "evidence", "repair")
    print_table("Break", ("", ""), [(name, text(value)) for name, value in members.items() if name not in apart])
    print_table("Evidence", ("", ""), [(name, text(value)) for name, value in found.view.evidence.items()])
    if found.view.repair:
        print_table("Repair", ("", ""), [(name, text(value)) for name, value in found.view.repair.items()])
    if found.audit:
        rows = [(instant(line.at), line.actor, line.action, text(line.note)) for line in found.audit]
        print_table("What was done", ("at", "by", "what", "why"), rows)


def money(amount: int, currency: str | None) -> str:
    """Minor units with their currency."""
    return f"{amount:+d} {currency or ''}".strip()


def text(value: object) -> str:
    """What a PSP wrote is shown by the names of its control characters: a terminal would obey them."""
    written = "" if value is None else str(value)
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in written)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "-"
