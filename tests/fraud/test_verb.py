"""`paynode fraud`: what a person sees and decides."""

from __future__ import annotations

from paynode.config import Settings
from paynode.domain.ids import PAYMENT, public
from paynode.domain.screening import Allowance, Judgement, Opinion, Screened, Verdict
from paynode.storage.postgres import Session
from paynode.storage.screening import PgScreenings
from tests.fraud.conftest import charge, settle
from tests.support.verbs import paynode


async def test_a_person_lists_what_is_held_and_decides_once(
    settings: Settings, screenings: PgScreenings, owner: Session
) -> None:
    asked, other, sent = await charge(owner, 4000), await charge(owner), await charge(owner)
    for one in (asked, other):
        await screenings.record(one, Screened(verdict=Verdict.HELD, reason="unusual_amount"))
    await screenings.bypass(sent, "timeout", Allowance(payment_max=10**6, hour_max=10**6))
    await settle(screenings, sent, Judgement(opinion=Opinion.REJECT))
    ids = [public(PAYMENT, one.payment_id) for one in (asked, other, sent)]

    held = (await paynode(settings, "fraud", "list", "--output", "json")).json["data"]
    assert [(one["payment_id"], one["reason"], one["is_asked_again"]) for one in held] == [
        (ids[0], "unusual_amount", False),
        (ids[1], "unusual_amount", False),
    ]
    marked = await paynode(settings, "fraud", "list", "--marked")
    assert (marked.code, ids[2] in marked.out, ids[0] in marked.out) == (0, True, False)

    said = await paynode(settings, "fraud", "release", ids[0], "--note", "called the shop", "--as", "grace")
    assert (said.code, said.out) == (0, f"{ids[0]} released: it is on its way to the PSP\n")
    refused = ("fraud", "reject", ids[0], ids[1], ids[2], "--note", "a known thief", "--as", "grace")
    said = await paynode(settings, *refused, "--output", "json")
    assert (said.code, [one["result"] for one in said.json["data"]]) == (1, ["known", "refused", "known"])
    audited = await owner.fetch("SELECT actor, action, note FROM audit_log WHERE actor = 'grace' ORDER BY id")
    assert [tuple(row) for row in audited] == [
        ("grace", "screening.released", "called the shop"),
        ("grace", "screening.refused", "a known thief"),
    ]
    assert (await paynode(settings, "fraud", "release", ids[1])).code == 2
