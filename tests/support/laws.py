"""The laws of faults.md over a whole run: what was asked (H), what the database says (D), what the PSP's book says (S).

`judge` asks all of them and gives the violations by law, ten at most of each, with ids. Here are those about payments;
`laws_of_books` has those about money and numbers, `laws_of_running` those about how the processes behaved.

Not here yet: L14 (webhooks), because nothing of that kind exists; it comes with them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, TypeAlias

from paynode.domain import ids
from tests.support import laws_of_books, laws_of_running
from tests.support.case import Case, Row, gather
from tests.support.history import Asked
from tests.support.installation import Installation, Reply
from tests.support.psp_book import PspBook
from tests.support.waiting import wait_until

Law: TypeAlias = Callable[[Case], Iterator[str]]

FINAL: Final = {"declined", "voided", "captured", "canceled", "expired", "failed"}
EXAMPLES_MAX: Final = 10


def l1_every_answer_is_one_payment(case: Case) -> Iterator[str]:
    """L1. Every 2xx to a create is exactly one payment with that merchant, key, amount and currency."""
    by_key = case.by_key()
    for one in case.asked:
        if not one.is_accepted:
            continue
        rows = by_key.get((one.merchant_id, one.key), ())
        told = one.payment
        if len(rows) != 1:
            yield f"{told['id']} was accepted for key {one.key} of {one.merchant_id}: {len(rows)} payments"
            continue
        kept = (ids.public(ids.PAYMENT, rows[0]["id"]), rows[0]["amount"], rows[0]["currency"])
        if kept != (told["id"], one.amount, one.currency):
            yield f"{told['id']} was accepted over {one.amount} {one.currency}, kept is {kept}"


def l2_nothing_comes_from_nothing(case: Case) -> Iterator[str]:
    """L2. No payment and no charge without a request; what was definitely refused has left neither."""
    asked: defaultdict[tuple[str, str], list[Asked]] = defaultdict(list)
    for one in case.asked:
        asked[one.merchant_id, one.key].append(one)
    for key, rows in case.by_key().items():
        wanted = [one for one in asked.get(key, ()) if one.amount == rows[0]["amount"]]
        if case.asked and not wanted:
            yield f"payment {rows[0]['id']} with key {key[1]} was never asked for"
        elif wanted and all(one.is_refused for one in wanted):
            yield f"payment {rows[0]['id']} exists, and its client was told {wanted[-1].status}"
    known = {row["id"] for row in case.operations}
    for line in case.book:
        if line["our_reference"] not in known:
            yield f"the PSP charged for {line['our_reference']}, which is no operation of ours"


def l3_every_payment_has_ended(case: Case) -> Iterator[str]:
    """L3. Each payment is in a final status that its last event names; in review only where that is expected."""
    # `payment.updated` is news that changes no status.
    last = {row["payment_id"]: row for row in case.events if row["type"] != "payment.updated"}
    for row in case.payments:
        if row["status"] == "review" and row["id"] in case.reviewed:
            continue
        if row["status"] not in FINAL:
            yield f"payment {row['id']} is {row['status']}"
        elif (event := last.get(row["id"])) is None or event["type"] != f"payment.{row['status']}":
            yield f"payment {row['id']} is {row['status']}, and its last event says {event and event['type']}"


def l4_charged_is_captured(case: Case) -> Iterator[str]:
    """L4. Each operation was done once by one PSP, never beyond its charge; and what our books say of it is what the
    PSPs' books say, to the cent: of each operation, and of each payment.
    """
    book, payments = PspBook(case.book), {row["id"]: row for row in case.payments}
    yield from book.breaches
    posted = _received(case)
    captured: Counter[str] = Counter()
    refunded: Counter[str] = Counter()
    for operation in case.operations:
        payment = payments.get(operation["payment_id"])
        if payment is None or payment["id"] in case.reviewed:
            continue
        received = book.received(operation["id"])
        captured[payment["id"]] += max(received, 0)
        refunded[payment["id"]] += max(-received, 0)
        if posted[operation["id"]] != received:
            yield f"operation {operation['id']} is posted with {posted[operation['id']]}, the PSP moved {received}"
    for name, payment in payments.items():
        if name in case.reviewed:
            continue
        if payment["amount_captured"] != captured[name]:
            yield f"payment {name} has captured {payment['amount_captured']}, the PSP charged {captured[name]}"
        if payment["amount_refunded"] != refunded[name]:
            yield f"payment {name} has refunded {payment['amount_refunded']}, the PSP gave back {refunded[name]}"
        if not payment["amount_captured"] <= payment["amount_authorized"] <= payment["amount"]:
            yield f"payment {name} has captured or authorized more than was asked"


def _received(case: Case) -> Counter[str]:
    """What the ledger says that PSPs owe for each operation."""
    posted: Counter[str] = Counter()
    for row in case.ledger:
        for account, sign in ((row["debit"], 1), (row["credit"], -1)):
            if account.startswith("psp:") and account.endswith(":receivable"):
                posted[row["operation_id"]] += sign * row["amount"]
    return posted


def l8_an_effect_comes_once(case: Case) -> Iterator[str]:
    """L8. One effect for each event and each posting identity; and at least one message did come twice."""
    for what, count in Counter((row["operation_id"], row["type"], row["line"]) for row in case.ledger).items():
        if count > 1:
            yield f"operation {what[0]} has {count} postings {what[1]}"
    callbacks = Counter((row["operation_id"], row["psp_reference"]) for row in case.evidence if _is_callback(row))
    for (operation_id, reference), count in callbacks.items():
        if count > 1:
            yield f"the callback about {reference} of operation {operation_id} had {count} effects"
    if case.redelivered == 0:
        yield "nothing was ever delivered twice: this run shows nothing"


def l9_a_key_has_one_answer(case: Case) -> Iterator[str]:
    """L9. All 201s of one key and body are the same bytes, and the stored ones; another body is refused.

    Only answers that accepted something are ever replayed.
    """
    stored = {(row["merchant_id"], row["key"]): row["response_body"] for row in case.keys}
    heard: dict[tuple[str, str], bytes] = {}
    for one in case.asked:
        key = one.merchant_id, one.key
        if one.is_replayed and not one.is_accepted:
            yield f"key {one.key}: an answer {one.status} was stored and replayed"
        if one.is_twisted and one.is_accepted:
            yield f"key {one.key}: another body was accepted"
        if one.is_twisted or one.status != 201:
            continue
        if heard.setdefault(key, one.body) != one.body:
            yield f"key {one.key} has had two different answers"
        if key in stored and stored[key] != one.body:
            yield f"key {one.key}: stored is another answer than was given"


def _is_callback(row: Row) -> bool:
    return bool(row["source"] == "callback" and row["psp_reference"] is not None)


OF_EVERY_RUN: Final[tuple[Law, ...]] = (
    l3_every_payment_has_ended,
    l4_charged_is_captured,
    l8_an_effect_comes_once,
    *laws_of_books.LAWS,
)
LAWS: Final[tuple[Law, ...]] = (
    l1_every_answer_is_one_payment,
    l2_nothing_comes_from_nothing,
    l9_a_key_has_one_answer,
    *OF_EVERY_RUN,
    # Not of a database that came back from a backup: what it lost, the PSP's report still has.
    laws_of_books.l7_reconciliation_finds_nothing,
    *laws_of_running.LAWS,
)


def judge(case: Case, laws: Sequence[Law] = LAWS) -> Mapping[str, Sequence[str]]:
    """The violations of each law that is broken, by its number: ten at most of each."""
    broken: dict[str, list[str]] = {}
    for law in laws:
        violations = list(islice(law(case), EXAMPLES_MAX))
        if violations:
            broken.setdefault(number_of(law), []).extend(violations)
    return broken


def number_of(law: Law) -> str:
    """`L4` of `l4_charged_is_captured`."""
    return str(getattr(law, "__name__", "")).partition("_")[0].upper()


async def check_laws(installation: Installation, created: list[Reply]) -> None:
    """Those that hold for every run; `created` are the 2xx answers to creates that the clients got.

    Raises: AssertionError that names the law.
    """

    async def is_empty() -> bool:
        [row] = await installation.rows("SELECT count(*) AS n FROM outbox")
        return bool(row["n"] == 0)

    # Waited for: the PSP may call back late, and every callback passes through the outbox.
    await wait_until(is_empty, "L10: the outbox is empty", 20)
    case = await gather(installation)
    broken = judge(replace(case, streams={}), OF_EVERY_RUN)
    assert not broken, broken
    payments = {row["id"]: row for row in case.payments}
    for reply in created:
        told = reply.json
        payment = payments.get(ids.parse(ids.PAYMENT, told["id"]) or "")
        assert payment is not None, f"L1: {told['id']} was accepted and is no payment"
        kept = (payment["amount"], payment["currency"])
        assert kept == (told["amount"], told["currency"]), f"L1: {told['id']} is {kept}"
    known = {row["id"] for row in case.operations}
    strangers = {line["our_reference"] for line in case.book} - known
    assert not strangers, f"L2: charged without a payment: {sorted(strangers)[:EXAMPLES_MAX]}"
    assert not case.letters, f"L11: {len(case.letters)} dead letters"
